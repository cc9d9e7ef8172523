"""Whether the connected device can deliver a plan at all, asked before anything is armed."""

from __future__ import annotations

import pytest

from drivers.contract import Envelope, PulseBlock
from firmware_protocol.quantities import MS, SECOND
from tests.fakes.stimulator import ENVELOPE, Bench, plan
from tmsctl.guard.pieces import blocks, cannot
from tmsctl.ipc import messages as ipc

# Two trains of four bursts every 100 ms; the trains 6 s apart.
PLAN = plan()
BURSTS = plan(pulses_per_burst=3)


def shown(lease_us: int, envelope: Envelope = ENVELOPE, first_pulse: int = 0) -> str:
    return cannot(PLAN, first_pulse, lease_us, envelope, lambda _: "")


def test_a_plan_falls_into_blocks_without_gap_or_overlap() -> None:
    for lease_us in (0, 99 * MS, 100 * MS, 10 * SECOND):
        for first in range(PLAN.pulses):
            pieces = list(blocks(PLAN, first, lease_us, 1_000))
            places = [p.first_pulse + n for p in pieces for n in range(p.pulses)]
            assert places == list(range(first, PLAN.pulses))


def test_a_lease_of_nothing_is_one_burst_at_a_time() -> None:
    assert [piece.pulses for piece in blocks(PLAN, 0, 0, 1_000)] == [1] * 8
    assert [piece.pulses for piece in blocks(BURSTS, 0, 0, 1_000)] == [3] * 8


@pytest.mark.parametrize(("lease_us", "rest_us", "can"), [
    (300 * MS, 500 * MS, True),  # a whole train is one block
    (299 * MS, 500 * MS, False),
    (299 * MS, 100 * MS, True),  # the rest fits between its pulses
    (299 * MS, 100 * MS + 1, False),
    (300 * MS, 6 * SECOND - 300 * MS, True),  # and between trains
    (300 * MS, 6 * SECOND - 300 * MS + 1, False),
])  # fmt: skip
def test_a_device_that_rests_after_each_block_cannot_go_on_within_a_train(
    lease_us: int, rest_us: int, can: bool
) -> None:
    why = shown(lease_us, ENVELOPE._replace(block_rest_us=rest_us))
    assert (why == "") is can
    if not can:
        assert str(rest_us) in why
        assert str(lease_us) in why


def test_only_what_is_left_of_a_plan_is_asked() -> None:
    assert shown(0, ENVELOPE._replace(block_rest_us=SECOND), first_pulse=7) == ""


def test_the_driver_is_asked_once_for_each_shape_of_block() -> None:
    asked: list[PulseBlock] = []

    def refuses(block: PulseBlock) -> str:
        asked.append(block)
        return "no bursts" if block.pulses_per_burst > 1 else ""

    assert cannot(PLAN, 0, 200 * MS, ENVELOPE, refuses) == ""
    assert asked == [PulseBlock(1, PLAN.mso, 3, 100 * MS, 1, 0),
                     PulseBlock(1, PLAN.mso, 1, 100 * MS, 1, 0)]  # fmt: skip
    assert cannot(BURSTS, 0, 0, ENVELOPE, refuses) == "no bursts"


def test_the_guard_loads_no_plan_that_the_device_cannot_deliver() -> None:
    bench = Bench().connected()
    bench.driver.refused_shapes = "it has no trains"
    (told,) = bench.cycle(bench.load())
    assert isinstance(told, ipc.Refused)
    assert (told.code, told.detail) == ("device-cannot", "it has no trains")
    assert bench.guard.play is None
