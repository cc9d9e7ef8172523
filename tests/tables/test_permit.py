"""Permits: made in one place, for one block, for one cycle, spent once."""

from __future__ import annotations

import pytest

from drivers.contract import Permit, PulseBlock
from firmware_protocol.quantities import BootUs, PercentMso
from tests.tables.rule_cases import ASKED
from tmsctl.safety.facts import Request
from tmsctl.safety.machine import Armed, Arming, Idle, Safe, State
from tmsctl.safety.permit import mint
from tmsctl.safety.rules import PERMIT, Action, Trip, Verdict

NOW = BootUs(1_000_000_000)
START = BootUs(NOW + 100_000)
MSO = PercentMso(60)
BLOCK = PulseBlock(
    7, MSO, bursts=3, burst_period_us=200_000, pulses_per_burst=3, interval_us=20_000
)
ARMED = Armed(MSO, BootUs(NOW - 1))


def request(block: PulseBlock = BLOCK) -> Request:
    return ASKED._replace(block=block, start_at=START, plan_mso=MSO)


def denied(action: Action) -> Verdict:
    return Verdict(action, (Trip("reason", action, "why"),))


def minted() -> Permit:
    permit = mint(ARMED, PERMIT, request(), NOW)
    assert isinstance(permit, Permit)
    return permit


def test_armed_with_nothing_against_it_gives_a_permit_for_exactly_this_block() -> None:
    permit = minted()
    assert permit.block is BLOCK
    assert permit.start_at == START


def test_a_permit_ends_five_milliseconds_after_the_last_pulse() -> None:
    assert BLOCK.span_us == 440_000
    assert minted().expires_at == START + 440_000 + 5_000


def test_the_permit_of_a_single_pulse_ends_five_milliseconds_after_it() -> None:
    permit = mint(ARMED, PERMIT, request(PulseBlock(1, MSO, 1, 0, 1, 0)), NOW)
    assert isinstance(permit, Permit)
    assert permit.expires_at == START + 5_000


@pytest.mark.parametrize("state", [Safe(()), Idle(), Arming(MSO, NOW)])
def test_no_other_state_than_armed_gives_a_permit(state: State) -> None:
    verdict = mint(state, PERMIT, request(), NOW)
    assert isinstance(verdict, Verdict)
    assert verdict.action is Action.HOLD
    assert [trip.code for trip in verdict.trips] == ["not-armed"]


@pytest.mark.parametrize("action", [Action.HOLD, Action.DISARM, Action.SAFE])
def test_any_verdict_but_permit_is_the_answer(action: Action) -> None:
    verdict = denied(action)
    assert mint(ARMED, verdict, request(), NOW) is verdict


@pytest.mark.parametrize("mso", [59, 61])
def test_a_block_of_another_intensity_than_armed_gives_no_permit_and_is_no_small_thing(
    mso: int,
) -> None:
    verdict = mint(ARMED, PERMIT, request(PulseBlock(1, PercentMso(mso), 1, 0, 1, 0)), NOW)
    assert isinstance(verdict, Verdict)
    assert verdict.action is Action.SAFE
    assert [trip.code for trip in verdict.trips] == ["setting"]


@pytest.mark.parametrize("seal", [None, object(), True, "SEAL"])
def test_nobody_else_can_make_a_permit(seal: object) -> None:
    with pytest.raises(PermissionError, match="minted outside"):
        Permit(seal, block=BLOCK, start_at=START, expires_at=START, use_before=START)


def test_a_permit_is_spent_once() -> None:
    permit = minted()
    permit.spend(NOW)
    with pytest.raises(PermissionError, match="already spent"):
        permit.spend(NOW)


def test_a_permit_is_spent_within_ten_milliseconds() -> None:
    minted().spend(BootUs(NOW + 9_999))
    late = minted()
    with pytest.raises(PermissionError, match="too old"):
        late.spend(BootUs(NOW + 10_000))
    late.spend(BootUs(NOW + 9_999))  # the refused attempt did not spend it


@pytest.mark.parametrize(("bursts", "pulses"), [(0, 1), (1, 0), (-1, 1), (1, -1)])
def test_a_block_without_pulses_cannot_exist(bursts: int, pulses: int) -> None:
    with pytest.raises(ValueError, match="at least one pulse"):
        PulseBlock(1, MSO, bursts, 0, pulses, 0)
