"""The guard's state machine: (state, event) -> (state, effect, causes). Total and pure.

SAFE  --acknowledge, cause gone-->  IDLE  --run-->  ARMING  --device ready-->  ARMED
  ^                                  |  ^              |                        |
  +-------- any SAFE trip -----------+  +---- pause, done, DISARM trip ---------+
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import NamedTuple, assert_never

from firmware_protocol.quantities import BootUs, PercentMso
from tmsctl.safety.rules import Action, Trip, Verdict, latching


@dataclass(frozen=True, slots=True)
class Safe:
    """Latched. The first cause came first and stays first."""

    causes: tuple[Trip, ...]


@dataclass(frozen=True, slots=True)
class Idle:
    """Disarmed."""


@dataclass(frozen=True, slots=True)
class Arming:
    """The device was told to arm."""

    mso: PercentMso
    since: BootUs


@dataclass(frozen=True, slots=True)
class Armed:
    """The device shows that it is ready at the commanded intensity."""

    mso: PercentMso
    since: BootUs


State = Safe | Idle | Arming | Armed


class Tick(NamedTuple):
    """One cycle's verdict. `device_ready`: it shows READY or FIRING at the commanded intensity."""

    verdict: Verdict
    device_ready: bool
    now: BootUs


class ArmAsked(NamedTuple):
    verdict: Verdict
    mso: PercentMso
    now: BootUs


class DisarmAsked(NamedTuple):
    """Pause, end of the plan, or a refused arming: no latch."""

    why: Trip


class Acknowledged(NamedTuple):
    verdict: Verdict


Event = Tick | ArmAsked | DisarmAsked | Acknowledged


class Effect(enum.Enum):
    """What the guard must do to the device because of a step."""

    NOTHING = 0
    ARM = 1
    DISARM = 2
    STOP = 3


class Step(NamedTuple):
    """`causes` say why the state changed, or why an event was refused; never empty if it did."""

    state: State
    effect: Effect
    causes: tuple[Trip, ...]


_ACKNOWLEDGED = (Trip("acknowledged", Action.PERMIT, "a person acknowledged"),)
_RUN = (Trip("run", Action.PERMIT, "the operator started or resumed"),)
_READY = (Trip("ready", Action.PERMIT, "the device is charged to the commanded intensity"),)


def step(state: State, event: Event) -> Step:
    """The one function that decides about the state."""
    match event:
        case Tick():
            return _tick(state, event)
        case ArmAsked(verdict, mso, now):
            return _arm(state, verdict, mso, now)
        case DisarmAsked(why):
            if isinstance(state, Arming | Armed):
                return Step(Idle(), Effect.DISARM, (why,))
            return Step(state, Effect.NOTHING, ())
        case Acknowledged(verdict):
            return _acknowledge(state, verdict)
        case _:
            assert_never(event)


def _tick(state: State, tick: Tick) -> Step:
    match state:
        case Safe(causes):
            known = {cause.code for cause in causes}
            later = tuple(t for t in latching(tick.verdict).trips if t.code not in known)
            if later:
                return Step(Safe(causes + later), Effect.STOP, causes + later)
            return Step(state, Effect.NOTHING, ())
        case Idle():
            verdict = latching(tick.verdict)
            if verdict.action is Action.SAFE:
                return Step(Safe(verdict.trips), Effect.STOP, verdict.trips)
            return Step(state, Effect.NOTHING, ())
        case Arming() | Armed():
            if tick.verdict.action is Action.SAFE:
                causes = _worst_first(tick.verdict.trips)
                return Step(Safe(causes), Effect.STOP, causes)
            if tick.verdict.action is Action.DISARM:
                return Step(Idle(), Effect.DISARM, _worst_first(tick.verdict.trips))
            if isinstance(state, Arming) and tick.device_ready:
                return Step(Armed(state.mso, tick.now), Effect.NOTHING, _READY)
            return Step(state, Effect.NOTHING, ())
        case _:
            assert_never(state)


def _arm(state: State, verdict: Verdict, mso: PercentMso, now: BootUs) -> Step:
    if not isinstance(state, Idle):
        name = type(state).__name__.lower()
        why = Trip("wrong-state", Action.HOLD, f"cannot arm while {name}")
        return Step(state, Effect.NOTHING, (why,))
    if verdict.action is not Action.PERMIT:  # granting needs no less than keeping
        return Step(state, Effect.NOTHING, _worst_first(verdict.trips))
    return Step(Arming(mso, now), Effect.ARM, _RUN)


def _acknowledge(state: State, verdict: Verdict) -> Step:
    if not isinstance(state, Safe):
        why = Trip("wrong-state", Action.HOLD, "nothing waits for an acknowledgement")
        return Step(state, Effect.NOTHING, (why,))
    present = latching(verdict)
    if present.action is Action.SAFE:
        return Step(state, Effect.NOTHING, present.trips)
    return Step(Idle(), Effect.NOTHING, _ACKNOWLEDGED)


def _worst_first(trips: tuple[Trip, ...]) -> tuple[Trip, ...]:
    return tuple(sorted(trips, key=lambda trip: -trip.action))
