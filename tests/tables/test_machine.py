"""The guard's states: one row for each event, one column for each state, and nothing left out."""

from __future__ import annotations

from itertools import product
from typing import NamedTuple, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware_protocol.quantities import BootUs, PercentMso
from tmsctl.safety.machine import (
    Acknowledged,
    ArmAsked,
    Armed,
    Arming,
    DisarmAsked,
    Effect,
    Event,
    Idle,
    Safe,
    State,
    Tick,
    step,
)
from tmsctl.safety.rules import PERMIT, Action, Trip, Verdict

NOW = BootUs(5_000_000)
BEFORE = BootUs(4_000_000)
MSO, OTHER_MSO = PercentMso(55), PercentMso(60)

HELD = Trip("unresolved", Action.HOLD, "")
TIRED = Trip("armed-idle", Action.DISARM, "")
HOT = Trip("coil-hot", Action.SAFE, "")  # counts only while something is armed
STOP = Trip("stop", Action.SAFE, "")  # counts always
WHY = Trip("paused", Action.PERMIT, "")

VERDICTS = {
    "permit": PERMIT,
    "hold": Verdict(Action.HOLD, (HELD,)),
    "disarm": Verdict(Action.DISARM, (HELD, TIRED)),
    "safe": Verdict(Action.SAFE, (TIRED, HOT)),
    "stop": Verdict(Action.SAFE, (HELD, STOP, HOT)),
}
STATES: tuple[State, ...] = (Safe((HOT,)), Idle(), Arming(MSO, BEFORE), Armed(MSO, BEFORE))


def event(kind: type, verdict: str, *, ready: bool = False) -> Event:
    found = VERDICTS[verdict]
    if kind is Tick:
        return Tick(found, ready, NOW)
    if kind is ArmAsked:
        return ArmAsked(found, OTHER_MSO, NOW)
    return Acknowledged(found) if kind is Acknowledged else DisarmAsked(WHY)


class Cell(NamedTuple):
    """What a step gives: the new state (None: the very same), the effect, the causes."""

    state: State | None
    effect: Effect
    causes: tuple[str, ...]


STAYS = Cell(None, Effect.NOTHING, ())
SORRY = Cell(None, Effect.NOTHING, ("wrong-state",))
ARMED = Cell(Armed(MSO, NOW), Effect.NOTHING, ("ready",))
TO_IDLE = Cell(Idle(), Effect.DISARM, ("armed-idle", "unresolved"))
PAUSED = Cell(Idle(), Effect.DISARM, ("paused",))
ARMS = Cell(Arming(OTHER_MSO, NOW), Effect.ARM, ("run",))
FREE = Cell(Idle(), Effect.NOTHING, ("acknowledged",))
TO_SAFE = Cell(Safe((HOT, TIRED)), Effect.STOP, ("coil-hot", "armed-idle"))
STOPPED = Cell(Safe((STOP, HOT, HELD)), Effect.STOP, ("stop", "coil-hot", "unresolved"))
LATCHES = Cell(Safe((STOP,)), Effect.STOP, ("stop",))
ADDED = Cell(Safe((HOT, STOP)), Effect.STOP, ("coil-hot", "stop"))  # the first cause stays first


def refused(*causes: str) -> Cell:
    return Cell(None, Effect.NOTHING, causes)


class Row(NamedTuple):
    """One event, and what it does in each state."""

    kind: type
    verdict: str
    ready: bool
    safe: Cell
    idle: Cell
    arming: Cell
    armed: Cell


# fmt: off
ROWS = (
    #   event         verdict   ready  SAFE   IDLE     ARMING   ARMED
    Row(Tick,         "permit", False, STAYS, STAYS,   STAYS,   STAYS),
    Row(Tick,         "permit", True,  STAYS, STAYS,   ARMED,   STAYS),
    Row(Tick,         "hold",   False, STAYS, STAYS,   STAYS,   STAYS),
    Row(Tick,         "hold",   True,  STAYS, STAYS,   ARMED,   STAYS),
    Row(Tick,         "disarm", False, STAYS, STAYS,   TO_IDLE, TO_IDLE),
    Row(Tick,         "disarm", True,  STAYS, STAYS,   TO_IDLE, TO_IDLE),
    Row(Tick,         "safe",   False, STAYS, STAYS,   TO_SAFE, TO_SAFE),
    Row(Tick,         "safe",   True,  STAYS, STAYS,   TO_SAFE, TO_SAFE),
    Row(Tick,         "stop",   False, ADDED, LATCHES, STOPPED, STOPPED),
    Row(Tick,         "stop",   True,  ADDED, LATCHES, STOPPED, STOPPED),
    Row(ArmAsked,     "permit", False, SORRY, ARMS,    SORRY,   SORRY),
    Row(ArmAsked,     "hold",   False, SORRY, refused("unresolved"),               SORRY, SORRY),
    Row(ArmAsked,     "disarm", False, SORRY, refused("armed-idle", "unresolved"), SORRY, SORRY),
    Row(ArmAsked,     "safe",   False, SORRY, refused("coil-hot", "armed-idle"),   SORRY, SORRY),
    Row(ArmAsked,     "stop",   False, SORRY, refused("stop", "coil-hot", "unresolved"),
                                                                                   SORRY, SORRY),
    Row(DisarmAsked,  "permit", False, STAYS, STAYS,   PAUSED,  PAUSED),
    Row(Acknowledged, "permit", False, FREE,  SORRY,   SORRY,   SORRY),
    Row(Acknowledged, "hold",   False, FREE,  SORRY,   SORRY,   SORRY),
    Row(Acknowledged, "disarm", False, FREE,  SORRY,   SORRY,   SORRY),
    Row(Acknowledged, "safe",   False, FREE,  SORRY,   SORRY,   SORRY),
    Row(Acknowledged, "stop",   False, refused("stop"), SORRY,  SORRY,   SORRY),
)
# fmt: on


def test_the_table_has_exactly_one_row_for_every_event() -> None:
    expected = [
        (kind, verdict, ready)
        for kind, verdict, ready in product(get_args(Event), VERDICTS, (False, True))
        if (kind is not DisarmAsked or verdict == "permit") and (kind is Tick or not ready)
    ]
    rows = [row[:3] for row in ROWS]
    assert len(rows) == len(set(rows)) == len(expected)
    assert set(rows) == set(expected)


def test_the_table_has_exactly_one_column_for_every_state() -> None:
    assert tuple(type(state) for state in STATES) == get_args(State)
    assert [kind.__name__.lower() for kind in get_args(State)] == list(Row._fields[3:])


def test_the_verdicts_of_the_table_cover_every_action() -> None:
    assert {verdict.action for verdict in VERDICTS.values()} == set(Action)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row[0].__name__}-{row[1]}-{row[2]}")
@pytest.mark.parametrize("state", STATES, ids=lambda state: type(state).__name__)
def test_each_event_does_in_each_state_what_the_table_says(row: Row, state: State) -> None:
    cell: Cell = getattr(row, type(state).__name__.lower())
    result = step(state, event(row.kind, row.verdict, ready=row.ready))
    assert result.state == (state if cell.state is None else cell.state)
    assert (result.state is state) == (cell.state is None)
    assert result.effect is cell.effect
    assert tuple(cause.code for cause in result.causes) == cell.causes


@pytest.mark.parametrize("state", [STATES[0], STATES[2], STATES[3]])
def test_a_state_cannot_be_changed_from_outside(state: State) -> None:
    for name in ("causes", "mso", "since"):
        if hasattr(state, name):
            with pytest.raises(AttributeError):
                setattr(state, name, getattr(state, name))


def test_the_worst_cause_comes_first_and_equals_keep_the_order_of_the_rules() -> None:
    trips = (HELD, HOT, TIRED, STOP, Trip("second", Action.HOLD, ""))
    result = step(Armed(MSO, BEFORE), Tick(Verdict(Action.SAFE, trips), True, NOW))
    assert result.causes == (HOT, STOP, TIRED, HELD, trips[4])
    assert result.state == Safe(result.causes)


def test_an_acknowledgement_that_is_refused_names_only_what_is_still_so() -> None:
    result = step(Safe((HOT,)), Acknowledged(VERDICTS["stop"]))
    assert result.causes == (STOP,)


EVENTS = st.builds(event, st.sampled_from(get_args(Event)), st.sampled_from(list(VERDICTS)),
                   ready=st.booleans())  # fmt: skip


@given(st.sampled_from(STATES), st.lists(EVENTS, max_size=30))
def test_whatever_happens_every_change_has_a_cause_and_a_lawful_way(
    state: State, events: list[Event]
) -> None:
    for happened in events:
        result = step(state, happened)
        after = result.state
        if after != state:
            assert result.causes
            if isinstance(state, Safe) and isinstance(after, Safe):
                assert after.causes[: len(state.causes)] == state.causes  # only added to
            elif isinstance(state, Safe):
                assert isinstance(happened, Acknowledged)
                assert isinstance(after, Idle)
            if isinstance(after, Arming):
                assert isinstance(state, Idle)
                assert isinstance(happened, ArmAsked)
                assert happened.verdict.action is Action.PERMIT
            if isinstance(after, Armed):
                assert isinstance(state, Arming)
                assert after.mso == state.mso
            if isinstance(after, Safe):
                assert after.causes == result.causes
        assert (result.effect is Effect.ARM) == (
            isinstance(after, Arming) and not isinstance(state, Arming)
        )
        if isinstance(state, Arming | Armed) and not isinstance(after, Arming | Armed):
            assert result.effect in (Effect.DISARM, Effect.STOP)
        state = after
