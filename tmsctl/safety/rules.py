"""The interlocks: pure functions over (facts, limits, now). No I/O, no clock, no memory.

`WATCH` runs in every cycle, whole. `ARM` runs beside it when a person wants to arm, and `GATE`
when a block asks for a permit, so that the paths that grant run the same evaluation as the path
that keeps. The worst action wins; every cause is reported.
"""

from __future__ import annotations

from typing import Final

from firmware_protocol.quantities import BootUs
from tmsctl.safety.arm_rules import ARM
from tmsctl.safety.facts import ArmRequest, Facts, Request
from tmsctl.safety.gate_rules import GATE
from tmsctl.safety.limits import Limits
from tmsctl.safety.verdict import PERMIT, Action, ArmRow, GateRow, Trip, Verdict, WatchRow
from tmsctl.safety.watch_rules import WATCH

__all__ = [
    "ARM", "GATE", "PERMIT", "WATCH", "Action", "ArmRow", "GateRow", "Trip", "Verdict", "WatchRow",
    "arm", "gate", "latching", "watch",
]  # fmt: skip

_RULES: Final = tuple(row.rule for row in WATCH)
_SILENT: Final = [None] * len(WATCH)
_ALWAYS: Final = frozenset(row.code for row in WATCH if row.always)


def watch(facts: Facts, limits: Limits, now: BootUs) -> Verdict:
    """Run every rule of every cycle: all causes are reported and the cost is constant."""
    said = [rule(facts, limits, now) for rule in _RULES]
    if said == _SILENT:
        return PERMIT
    heard = [(WATCH[at], why) for at, why in enumerate(said) if why is not None]
    return _verdict([Trip(row.code, row.action, why) for row, why in heard])


def gate(watched: Verdict, request: Request, limits: Limits) -> Verdict:
    """The verdict of this cycle, joined by the rules for one block."""
    trips = [
        Trip(row.code, row.action, why)
        for row in GATE
        if (why := row.rule(request, limits)) is not None
    ]
    return _verdict([*watched.trips, *trips]) if trips else watched


def arm(watched: Verdict, request: ArmRequest, limits: Limits, now: BootUs) -> Verdict:
    """The verdict of this cycle, joined by the conditions for arming."""
    trips = [
        Trip(row.code, Action.HOLD, why)
        for row in ARM
        if (why := row.rule(request, limits, now)) is not None
    ]
    return _verdict([*watched.trips, *trips]) if trips else watched


def latching(verdict: Verdict) -> Verdict:
    """The part of a verdict that counts while nothing is armed."""
    return _verdict([trip for trip in verdict.trips if trip.code in _ALWAYS])


def _verdict(trips: list[Trip]) -> Verdict:
    return Verdict(max((t.action for t in trips), default=Action.PERMIT), tuple(trips))
