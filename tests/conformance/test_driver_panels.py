"""People at the panel or the trigger input of an armed unit: the driver tells a state on which the
guard trips, lets nothing more go, and counts at least as many pulses as have left."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

import pytest

from drivers.contract import CommandEnded, DeviceState, DeviceStatus, Outcome, PulseBlock
from firmware_protocol.quantities import MS, SECOND
from sim_device.faults import Rule
from tests.conformance.driver_rows import BURST, SINGLE

if TYPE_CHECKING:
    from tests.conformance.conftest import Bench, MakeBench

only = pytest.mark.only
TOLD_US: Final = 250 * MS
"""A change is noticed within the age of a status, and another poll."""

TURNED: Final = (
    ("panel_mode", 1, SINGLE),
    ("panel_mode", 3, SINGLE),
    ("panel_waveform", 2, SINGLE),
    ("panel_waveform", 3, SINGLE),
    ("panel_interval", 100, BURST),
    ("panel_waveform", 1, BURST),
    ("panel_mode", 3, BURST),
)
turned = pytest.mark.parametrize(
    ("kind", "value", "wanted"), TURNED, ids=lambda it: str(getattr(it, "pulses", it))
)
frames = pytest.mark.parametrize(
    "told",
    [
        {"panel_frames": "none", "pair_frames": "one", "burst_frames": "one"},
        {"panel_frames": "state", "pair_frames": "two", "burst_frames": "each"},
    ],
    ids=["seldom", "often"],
)


def inject(b: Bench, kind: str, value: int | None = None) -> None:
    b.with_strangers = True
    b.device.faults.add_from_now(Rule(kind, value, times=1), b.on_device(b.now))


def counted(b: Bench) -> int:
    newest: DeviceStatus = b.all(DeviceStatus)[-1]
    return newest.pulse_count


# -- MagPro: mode, waveform, interval --------------------------------------------------------


@only("magpro-x100")
@turned
@frames
def test_what_is_set_at_the_panel_of_an_armed_unit_is_told_as_a_fault_and_disarms(
    bench: MakeBench, kind: str, value: int, wanted: PulseBlock, told: dict[str, str]
) -> None:
    """A defect once: pulses of a mode, a waveform, an interval that nobody had asked for left."""
    b = bench(option="option", **told).armed(wanted)
    inject(b, kind, value)
    b.wait(TOLD_US)
    assert "panel" in b.all(DeviceStatus)[-1].fault
    assert b.disarmed_at() is not None
    ticket = b.fire(b.permit(wanted))
    b.wait(SECOND)
    assert b.outcomes(ticket) == [Outcome.REFUSED]
    assert b.pulses_at() == []
    assert b.state is DeviceState.LATCHED
    b.recovered()
    assert b.all(DeviceStatus)[-1].fault == ""
    b.arm(wanted.mso, wanted)
    b.until(lambda: b.state is DeviceState.READY)
    b.fire(b.permit(replace(wanted, block_id=2)))
    b.wait(SECOND)
    assert len(b.pulses_at()) == wanted.pulses


@only("magpro-x100")
@turned
@frames
def test_a_trigger_that_met_another_setting_counts_all_that_left(
    bench: MakeBench, kind: str, value: int, wanted: PulseBlock, told: dict[str, str]
) -> None:
    for before_us in (100, 3 * MS, 60 * MS):
        b = bench(option="option", **told).armed(wanted)
        permit = b.permit(wanted, b.now + 100 * MS)
        b.fire(permit)
        b.wait(permit.start_at - before_us - b.now)
        inject(b, kind, value)
        b.wait(SECOND)
        assert counted(b) >= len(b.pulses_at())
        assert b.disarmed_at() is not None


@only("magpro-x100")
def test_a_longer_burst_that_is_set_at_the_panel_counts_in_full(bench: MakeBench) -> None:
    """Only id 09 shows it, and nobody knows that the unit tells that unasked."""
    three = replace(BURST, pulses_per_burst=3)
    b = bench().armed(three)
    permit = b.permit(three, b.now + 100 * MS)
    b.fire(permit)
    b.wait(permit.start_at - 3 * MS - b.now)
    b.device.model.stage.panel.burst_index = 0
    b.with_strangers = True
    b.wait(SECOND)
    assert three.pulses < len(b.pulses_at()) <= counted(b)
    assert "panel" in b.all(DeviceStatus)[-1].fault


@only("magpro-x100")
def test_a_burst_that_a_trigger_input_let_go_counts_in_full(bench: MakeBench) -> None:
    b = bench().armed(BURST)
    inject(b, "external_trigger")
    b.wait(SECOND)
    assert counted(b) == len(b.pulses_at()) == BURST.pulses


@only("magpro-x100")
def test_a_unit_that_tells_each_pulse_of_a_burst_has_told_of_no_stranger(bench: MakeBench) -> None:
    """A defect once: what it told behind the last pulse counted again."""
    b = bench(burst_frames="each").armed(BURST)
    b.fire(b.permit(BURST))
    b.wait(SECOND)
    assert counted(b) == len(b.pulses_at()) == BURST.pulses


@only("magpro-x100", "magpro-r30")
def test_while_it_is_disarmed_people_may_set_what_they_like(bench: MakeBench) -> None:
    b = bench(option="option").connected()
    for kind in ("panel_mode", "panel_interval"):
        inject(b, kind)
        b.wait(TOLD_US)
    assert {status.fault for status in b.all(DeviceStatus)} == {""}
    b.arm()
    b.until(lambda: b.state is DeviceState.READY)


@only("magpro-x100", "magpro-r30")
def test_a_status_without_the_waveform_that_was_asked_with_it_grows_old(bench: MakeBench) -> None:
    """Else a waveform that is told no more would be taken for as it was."""
    b = bench().armed()
    b.device.faults.add_from_now(Rule("lacks_command", 9), b.on_device(b.now))
    at = b.now
    b.wait(SECOND)
    assert max(status.asked_at for status in b.all(DeviceStatus)) <= at
    assert [end.outcome for end in b.all(CommandEnded)] == [Outcome.APPLIED]
