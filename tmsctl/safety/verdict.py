"""What a rule is and what rules answer: actions, causes, verdicts, and the rows of the tables."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple

from firmware_protocol.quantities import BootUs
from tmsctl.safety.facts import ArmRequest, Facts, Request
from tmsctl.safety.limits import Limits


class Action(enum.IntEnum):
    """Ordered: the worst requested action wins. Each says how it clears."""

    PERMIT = 0
    HOLD = 1  # nothing new leaves; clears by itself when the condition is gone
    DISARM = 2  # disarm; clears by a new arming
    SAFE = 3  # latch; clears by an acknowledgement while the condition is gone, then a new arming


class Trip(NamedTuple):
    """Why an interlock acts."""

    code: str
    action: Action
    detail: str


class Verdict(NamedTuple):
    """What the rules say of one view."""

    action: Action
    trips: tuple[Trip, ...]


PERMIT: Final = Verdict(Action.PERMIT, ())


@dataclass(frozen=True, slots=True)
class WatchRow:
    """An interlock of every cycle. `always`: it latches even while nothing is armed.

    `limit` names the limit that the rule compares with, empty where there is none, and `reading`
    gives the present value in its unit, None where it is unknown or there is nothing to compare.
    Both are for people; the rule alone decides.
    """

    code: str
    hazards: str
    action: Action
    always: bool
    rule: Callable[[Facts, Limits, BootUs], str | None]
    limit: str
    reading: Callable[[Facts, BootUs], int | None]


@dataclass(frozen=True, slots=True)
class GateRow:
    """An interlock that a block of pulses has to pass, once it asks for a permit."""

    code: str
    hazards: str
    action: Action
    rule: Callable[[Request, Limits], str | None]
    limit: str
    reading: Callable[[Request], int | None]


@dataclass(frozen=True, slots=True)
class ArmRow:
    """A condition for arming. It refuses once and latches nothing."""

    code: str
    hazards: str
    rule: Callable[[ArmRequest, Limits, BootUs], str | None]
    limit: str
    reading: Callable[[ArmRequest, BootUs], int | None]


def age(since: BootUs | None, now: BootUs) -> int | None:
    """Microseconds since then; None when it never was."""
    return None if since is None else now - since
