"""What the state machine and the pulse times say of themselves, word for word."""

from __future__ import annotations

import pytest

from firmware_protocol.quantities import BootUs, PercentMso
from tmsctl.safety.dose import PulseTimes, peak_energy
from tmsctl.safety.machine import (
    Acknowledged,
    ArmAsked,
    Armed,
    Arming,
    DisarmAsked,
    Effect,
    Idle,
    Safe,
    State,
    Tick,
    step,
)
from tmsctl.safety.permit import mint
from tmsctl.safety.rules import PERMIT, Action, Trip, Verdict

NOW = BootUs(5_000_000)
MSO = PercentMso(55)
HOT = Trip("coil-hot", Action.SAFE, "too warm")


ELSEWHERE = [(Safe((HOT,)), "safe"), (Arming(MSO, NOW), "arming"), (Armed(MSO, NOW), "armed")]


@pytest.mark.parametrize(("state", "word"), ELSEWHERE)
def test_a_wish_to_arm_is_refused_with_the_state_that_forbids_it(state: State, word: str) -> None:
    refused = step(state, ArmAsked(PERMIT, MSO, NOW))
    assert refused.causes == (Trip("wrong-state", Action.HOLD, f"cannot arm while {word}"),)


def test_an_acknowledgement_without_a_latch_is_refused_in_these_words() -> None:
    refused = step(Idle(), Acknowledged(PERMIT))
    expected = Trip("wrong-state", Action.HOLD, "nothing waits for an acknowledgement")
    assert refused.causes == (expected,)


def test_every_event_that_is_no_fault_says_so_in_these_words() -> None:
    armed = step(Idle(), ArmAsked(PERMIT, MSO, NOW))
    ready = step(armed.state, Tick(PERMIT, True, NOW))
    paused = step(ready.state, DisarmAsked(Trip("paused", Action.PERMIT, "the operator paused")))
    free = step(Safe((HOT,)), Acknowledged(PERMIT))
    assert [result.causes for result in (armed, ready, paused, free)] == [
        (Trip("run", Action.PERMIT, "the operator started or resumed"),),
        (Trip("ready", Action.PERMIT, "the device is charged to the commanded intensity"),),
        (Trip("paused", Action.PERMIT, "the operator paused"),),
        (Trip("acknowledged", Action.PERMIT, "a person acknowledged"),),
    ]


def test_the_effects_are_these_four() -> None:
    assert {effect.name: effect.value for effect in Effect} == {
        "NOTHING": 0, "ARM": 1, "DISARM": 2, "STOP": 3,
    }  # fmt: skip


def test_the_actions_are_these_four_and_each_is_worse_than_the_one_before() -> None:
    values = {name: action.value for name, action in Action.__members__.items()}
    assert values == {"PERMIT": 0, "HOLD": 1, "DISARM": 2, "SAFE": 3}


def test_a_permit_is_denied_in_these_words() -> None:
    from tests.tables.rule_cases import ASKED

    assert mint(Idle(), PERMIT, ASKED, NOW) == Verdict(
        Action.HOLD, (Trip("not-armed", Action.HOLD, "the device is not armed and ready"),)
    )
    assert mint(Armed(MSO, NOW), PERMIT, ASKED, NOW) == Verdict(
        Action.SAFE, (Trip("setting", Action.SAFE, "armed at 55 %MSO, block at 50 %MSO"),)
    )


@pytest.mark.parametrize(("mso", "didt", "off"), [(50, 57, 6), (1, 11_473, 9_999_000)])
def test_how_far_the_slope_is_off_is_shown_exactly(mso: int, didt: int, off: int) -> None:
    """Permille of what this coil has: 114.73 A/us at 100 %MSO."""
    from tests.tables.rule_cases import GOOD
    from tmsctl.safety.rules import WATCH

    reading = next(row.reading for row in WATCH if row.code == "didt")
    facts = GOOD._replace(didt_a_per_us=didt, armed_mso=PercentMso(mso))
    assert reading(facts, NOW) == off


def test_pulse_times_that_were_cleared_know_nothing_and_can_be_used_again() -> None:
    noted = PulseTimes(5_000_000)
    noted.extend([1, 2, 3])
    noted.clear()
    assert (noted.run_started_at, noted.newest, len(noted)) == (None, None, 0)
    assert noted.energy_at_most(0) == 0
    assert noted.with_gap(1).run_started_at is None
    noted.add(9)
    assert (noted.run_started_at, noted.newest) == (9, 9)


def test_energies_without_their_pulses_are_no_sum() -> None:
    with pytest.raises(ValueError, match="shorter"):
        peak_energy([1, 2], [1], 1_000_000)
