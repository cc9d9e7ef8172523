"""What the engine is made of: the states of a session, its ports, and what it waits for."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from firmware_protocol.table import spec_of
from tmsctl.ipc.messages import ToGuard
from tmsctl.records.views import Event, Totals
from tmsctl.session.prepare import Order
from tmsctl.stimulation.plan import Plan


class State(enum.StrEnum):
    STARTING = "starting"  # Run was sent, the guard does not run yet
    RUNNING = "running"
    PAUSED = "paused"  # position kept; by a person, by a trip, or because the station is gone
    COMPLETE = "complete"
    STOPPED = "stopped"
    INTERRUPTED = "interrupted"  # guard or service was lost

    @property
    def ended(self) -> bool:
        return self in (State.COMPLETE, State.STOPPED, State.INTERRUPTED)


@dataclass(slots=True)
class Session:
    """The session of this life of the service, open or the last one that ended."""

    number: int
    order: Order
    plan: Plan
    station: object | None  # the connection that started or adopted it; None: gone
    started_us: int  # CLOCK_BOOTTIME
    count_before: int  # device's pulse counter
    state: State = State.STARTING
    ended_us: int | None = None
    runs: int = 0  # how often the guard began to run it
    pausing: bool = False  # Pause was sent, the guard has not yet shown it
    last_block: int = -1  # newest block that the guard wanted
    train: int = 1  # of the next pulse
    totals: Totals = field(default_factory=Totals)
    why: str = ""  # it was last paused or ended


@dataclass(frozen=True, slots=True)
class Ports:
    """All that the engine does to the world, besides its journal."""

    send: Callable[[ToGuard], None]  # to the guard; does nothing while it is absent
    publish: Callable[[Event], None]  # at once, to whoever listens
    utc: Callable[[], datetime]
    boot_us: Callable[[], int]  # CLOCK_BOOTTIME
    boot_id: str  # of this start of the computer
    token: Callable[[], str]  # a new text that nobody can guess


@dataclass(frozen=True, slots=True)
class Ask:
    """Something was sent to the guard: carried out when `done`, or refused under one of `codes`.

    Once it is done, `ensure` raises RefusedError when something else was done instead.
    """

    codes: frozenset[int]  # of the messages that were sent
    done: Callable[[], bool]
    ensure: Callable[[], None] = lambda: None


def ask(done: Callable[[], bool], *kinds: type, ensure: Callable[[], None] = lambda: None) -> Ask:
    """For messages of these kinds."""
    return Ask(frozenset(spec_of(kind).code for kind in kinds), done, ensure)
