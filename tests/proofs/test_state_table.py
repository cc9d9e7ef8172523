"""A-05, A-11: every state that can be reached, with every event that can happen there.

The search begins with the states that a guard can begin in and stops when nothing new appears.
Verdicts are all combinations of one trip of each kind: of each action, and of SAFE two that count
always and two that count only while armed. Any other trip is treated as one of these, because
`machine` looks at nothing else of a trip than its action, its code and whether that counts always.
"""

from __future__ import annotations

import ast
import inspect
from collections import Counter
from collections.abc import Iterator
from functools import cache
from itertools import combinations, product
from typing import NamedTuple, get_args

import pytest

from firmware_protocol.quantities import BootUs, PercentMso
from tmsctl.safety import machine
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
    Step,
    Tick,
    step,
)
from tmsctl.safety.rules import WATCH, Action, Trip, Verdict, latching

NOW = BootUs(5_000_000)
BEFORE = BootUs(4_000_000)
MSOS = (PercentMso(55), PercentMso(60))

ALPHABET = (
    Trip("unresolved", Action.HOLD, ""),
    Trip("armed-idle", Action.DISARM, ""),
    Trip("coil-hot", Action.SAFE, ""),
    Trip("counter", Action.SAFE, ""),
    Trip("stop", Action.SAFE, ""),
    Trip("device-fault", Action.SAFE, ""),
)
WHYS = (Trip("paused", Action.PERMIT, ""), Trip("refused-arm", Action.HOLD, ""))
UNCLEAN = Trip("unclean-start", Action.SAFE, "")


def test_the_kinds_of_trips_are_those_of_the_table() -> None:
    kinds = {row.code: (row.action, row.always) for row in WATCH}
    assert [kinds[trip.code] for trip in ALPHABET] == [
        (Action.HOLD, False),
        (Action.DISARM, False),
        (Action.SAFE, False),
        (Action.SAFE, False),
        (Action.SAFE, True),
        (Action.SAFE, True),
    ]
    assert set(kinds.values()) == {kinds[trip.code] for trip in ALPHABET}


def test_the_machine_looks_at_nothing_else_of_a_trip() -> None:
    names = {
        node.attr
        for node in ast.walk(ast.parse(inspect.getsource(machine)))
        if isinstance(node, ast.Attribute)
    }
    assert "detail" not in names


def verdicts() -> Iterator[Verdict]:
    for size in range(len(ALPHABET) + 1):
        for trips in combinations(ALPHABET, size):
            yield Verdict(max((t.action for t in trips), default=Action.PERMIT), trips)


VERDICTS = tuple(verdicts())
EVENTS: tuple[Event, ...] = (
    *(Tick(verdict, ready, NOW) for verdict, ready in product(VERDICTS, (False, True))),
    *(ArmAsked(verdict, mso, NOW) for verdict, mso in product(VERDICTS, MSOS)),
    *(DisarmAsked(why) for why in WHYS),
    *(Acknowledged(verdict) for verdict in VERDICTS),
)


class Transition(NamedTuple):
    state: State
    event: Event
    result: Step


def key(state: State) -> object:
    """Two latches with the same causes behave alike in whatever order these came."""
    if isinstance(state, Safe):
        return frozenset(cause.code for cause in state.causes)
    return state


@cache
def transitions() -> tuple[Transition, ...]:
    """Every event in every state that can be reached."""
    todo: list[State] = [Idle(), Safe((UNCLEAN,))]
    seen, found = {key(state) for state in todo}, []
    while todo:
        state = todo.pop()
        for event in EVENTS:
            result = step(state, event)
            found.append(Transition(state, event, result))
            if key(result.state) not in seen:
                seen.add(key(result.state))
                todo.append(result.state)
    return tuple(found)


def codes(trips: tuple[Trip, ...]) -> set[str]:
    return {trip.code for trip in trips}


def latched(event: Event) -> Verdict:
    assert not isinstance(event, DisarmAsked)
    return latching(event.verdict)


def test_every_kind_of_state_and_event_is_met_and_the_search_ends() -> None:
    met = Counter((type(t.state), type(t.event)) for t in transitions())
    assert set(met) == set(product(get_args(State), get_args(Event)))
    assert {t.result.effect for t in transitions()} == set(Effect)
    assert len(transitions()) > 20_000


def test_safe_is_left_only_by_an_acknowledgement_with_nothing_that_latches() -> None:
    left = 0
    for state, event, result in transitions():
        if isinstance(state, Safe) and not isinstance(result.state, Safe):
            assert isinstance(event, Acknowledged)
            assert latched(event).action is not Action.SAFE
            assert result.state == Idle()
            assert result.effect is Effect.NOTHING
            left += 1
    assert left > 100


def test_an_acknowledgement_with_nothing_that_latches_always_leaves_safe() -> None:
    for state, event, result in transitions():
        if isinstance(state, Safe) and isinstance(event, Acknowledged):
            assert (result.state == Idle()) == (latched(event).action is not Action.SAFE)


def test_stop_is_sent_exactly_when_safe_is_entered_or_has_a_new_cause() -> None:
    for state, event, result in transitions():
        entered = isinstance(result.state, Safe) and result.state != state
        assert (result.effect is Effect.STOP) == entered, (state, event)


def test_safe_is_entered_in_the_very_cycle_that_has_a_reason() -> None:
    for state, event, result in transitions():
        if isinstance(event, Tick) and not isinstance(state, Safe):
            counts = event.verdict if isinstance(state, Arming | Armed) else latching(event.verdict)
            assert isinstance(result.state, Safe) == (counts.action is Action.SAFE)


def test_a_latch_forgets_no_cause_and_the_first_stays_first() -> None:
    for state, _, result in transitions():
        if isinstance(state, Safe) and isinstance(result.state, Safe):
            assert result.state.causes[: len(state.causes)] == state.causes


def test_there_is_one_way_to_energise_and_it_needs_a_clean_verdict() -> None:
    armed = 0
    for state, event, result in transitions():
        energised = isinstance(result.state, Arming | Armed)
        if energised and not isinstance(state, Arming | Armed):
            assert isinstance(state, Idle)
            assert isinstance(event, ArmAsked)
            assert event.verdict == Verdict(Action.PERMIT, ())
            assert result == Step(Arming(event.mso, event.now), Effect.ARM, result.causes)
            armed += 1
        elif isinstance(result.state, Armed) and isinstance(state, Arming):
            assert isinstance(event, Tick)
            assert event.device_ready
            assert event.verdict.action < Action.DISARM
            assert result.state.mso == state.mso
        elif energised:
            assert result.state is state
        assert (result.effect is Effect.ARM) == (
            isinstance(state, Idle) and isinstance(result.state, Arming)
        )
    assert armed == len(MSOS)


def test_whatever_ends_energising_switches_the_device_off() -> None:
    for state, _, result in transitions():
        ended = isinstance(state, Arming | Armed) and not isinstance(result.state, Arming | Armed)
        assert ended == (
            isinstance(state, Arming | Armed) and result.effect in (Effect.DISARM, Effect.STOP)
        )


def test_no_state_changes_and_nothing_asked_for_is_refused_without_a_cause() -> None:
    for state, event, result in transitions():
        if result.state is not state or isinstance(event, ArmAsked | Acknowledged):
            assert result.causes, (state, event)
        assert (result.state == state) == (result.state is state)


STOPPED = [Tick(v, r, NOW) for v in VERDICTS for r in (False, True) if "stop" in codes(v.trips)]


@pytest.mark.parametrize("first", STOPPED[:: len(STOPPED) // 16])
def test_two_stops_are_one(first: Tick) -> None:
    """STOP in any state, and STOP again with anything: the same latch, the same first cause."""
    for state in {key(t.state): t.state for t in transitions()}.values():
        once = step(state, first)
        assert isinstance(once.state, Safe)
        again = step(once.state, first)
        assert again == Step(once.state, Effect.NOTHING, ())
        for event in EVENTS:
            later = step(once.state, event)
            if not isinstance(event, Acknowledged):
                assert isinstance(later.state, Safe)
                assert later.state.causes[0] == once.state.causes[0]
            elif "stop" in codes(event.verdict.trips):
                assert later.state is once.state
