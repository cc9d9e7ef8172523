"""People at the panel or the trigger input of an armed unit: the driver tells a state on which the
guard trips, lets nothing more go, and counts at least as many pulses as have left."""

from __future__ import annotations

import random
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import pytest

from drivers.contract import (
    BlockEnded,
    CommandEnded,
    DeviceState,
    DeviceStatus,
    LinkDown,
    LinkUp,
    Outcome,
    PulseBlock,
    PulseSeen,
)
from firmware_protocol.quantities import MS, SECOND, BootUs
from firmware_protocol.recording import TO_DEVICE
from sim_device.faults import Rule
from tests.conformance.driver_rows import BURST, MSO, SINGLE

if TYPE_CHECKING:
    from tests.conformance.conftest import Bench, MakeBench

only = pytest.mark.only
TOLD_US: Final = 250 * MS
"""A change is noticed within the age of a status, and another poll."""

DISABLES: Final = re.compile(rb"\xfe\x02\x02\x00")
"""The beginning of the frame, written down again from wire-protocols.md."""

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


# -- MagPro: one that cannot be heard --------------------------------------------------------


@only("magpro-x100", "magpro-r30")
def test_stop_reaches_a_unit_that_has_not_answered_and_cannot_be_heard(bench: MakeBench) -> None:
    b = bench()
    b.to_host.cut = True
    b.wait(2 * SECOND)
    for instant_ms in range(0, 1_600, 237):  # of its attempts to connect
        b.wait(instant_ms * MS)
        b.device.model.stage.enable()
        b.wait(900 * MS, b.driver.stop)
        assert b.disarmed_at() is not None


@only("magpro-x100", "magpro-r30")
def test_whoever_has_sent_a_byte_is_not_told_to_disable_before_it_is_known(
    bench: MakeBench,
) -> None:
    """It may be a DuoMAG, which `disable` sets to 2 %."""
    b = bench()
    b.to_host.cut = True
    b.wait(20 * MS)
    b.to_host.cut = False
    b.to_host.send(b"\x81", b.now)
    b.wait(MS)
    b.to_host.cut = True
    b.wait(5 * SECOND, b.driver.stop)
    written = [record.data for record in b.lives[0] if record.mark == TO_DEVICE]
    assert written  # it was asked who it is
    assert not DISABLES.search(b"".join(written))


# -- DuoMAG: what a record proves, and what it does not --------------------------------------


def fired(b: Bench) -> Bench:
    """A trigger has just been sent."""
    b.armed()
    permit = b.permit(SINGLE, b.now + 100 * MS)
    b.fire(permit)
    b.wait(permit.start_at - b.now)
    return b


def stalled(b: Bench, duration_us: int) -> None:
    """The host gets no processor, and reads then all at once what has come meanwhile."""
    end = b.now + duration_us
    while b.port.now_us < end:
        at = b.port.next_event_us()
        b.port.advance(end if at is None else max(b.port.now_us, min(at, end)))
    b.now = BootUs(end)
    b.wait(0)


@only("duomag-xt")
@pytest.mark.parametrize("period_ms", [20, 50, 170])
def test_a_record_that_was_made_before_the_pulse_proves_nothing_however_late_it_is_read(
    bench: MakeBench, period_ms: int
) -> None:
    """A defect once: behind a stall of 160 to 190 ms a pulse that had left counted as none, behind
    one of 210 ms it counted twice."""
    rng = random.Random(period_ms)
    for stall_ms in (30, 100, 145, 155, 160, 170, 180, 190, 199, 210, 260, 400, *rng.choices(
        range(20, 500), k=20
    )):  # fmt: skip
        b = bench(status_period_us=period_ms * MS)
        fired(b)
        stalled(b, stall_ms * MS)
        b.wait(SECOND)
        assert (counted(b), len(b.pulses_at())) == (1, 1), f"{stall_ms} ms"


@only("duomag-xt")
@pytest.mark.parametrize("period_ms", [20, 50])
def test_a_trigger_that_was_lost_on_its_way_counts_at_most_once(
    bench: MakeBench, period_ms: int
) -> None:
    b = bench(status_period_us=period_ms * MS).armed()
    b.to_device.cut = True
    b.fire(b.permit(SINGLE))
    b.wait(SECOND)
    assert (counted(b), len(b.pulses_at())) == (0, 0)


@only("duomag-xt")
@pytest.mark.parametrize("before_ms", [1, 3, 8, 15, -1, -5, -30])
def test_an_edge_at_the_trigger_input_close_to_our_trigger_is_noticed_and_a_pulse_counts(
    bench: MakeBench, before_ms: int
) -> None:
    """A defect once: one of the two was omitted, so the pulse that left counted as refused."""
    b = bench().armed()
    permit = b.permit(SINGLE, b.now + 100 * MS)
    b.fire(permit)
    b.wait(permit.start_at - before_ms * MS - b.now)
    inject(b, "external_trigger")
    b.wait(800 * MS)
    assert len(b.pulses_at()) == 1
    assert counted(b) >= 1
    (ended,) = b.all(BlockEnded)
    assert ended.delivered == 1
    strangers = [pulse for pulse in b.all(PulseSeen) if not pulse.block_id]
    assert len(strangers) == 1


@only("duomag-xt")
@pytest.mark.parametrize("charged", [0, 1])
def test_a_damaged_number_of_omitted_pulses_takes_no_pulse_back(
    bench: MakeBench, charged: int
) -> None:
    """There is no checksum. A defect once: one wrong byte, and the pulse had never been."""
    b = fired(bench())
    model, right = b.device.model, b.device.model._omitted
    if not charged:
        b.wait(5 * MS)
    model._omitted = right + 1
    seen = len(b.all(DeviceStatus))
    b.until(lambda: len(b.all(DeviceStatus)) > seen, SECOND)
    model._omitted = right
    b.wait(800 * MS)
    assert (counted(b), len(b.pulses_at())) == (1, 1)


@only("duomag-xt")
def test_a_pulse_that_the_charged_unit_omitted_is_unknown(bench: MakeBench) -> None:
    """The record that says so may be an old one."""
    b = bench().armed()
    b.to_device.cut = True
    ticket = b.fire(b.permit(SINGLE))
    b.wait(b.row.info.lead_us + MS)
    b.device.model._omitted += 1
    b.wait(SECOND)
    assert b.outcomes(ticket) == [Outcome.UNKNOWN]
    (ended,) = b.all(BlockEnded)
    assert ended[1:4] == (0, 0, "the unit omitted the pulse")
    assert ended.unsure == 1
    assert (counted(b), b.pulses_at()) == (0, [])


# -- MagPro: what it was charged to ----------------------------------------------------------


def fires_as_told(b: Bench) -> None:
    """Whoever acknowledges and arms it next gets no pulse that is stronger than what was set."""
    b.recovered()
    b.arm()
    b.until(lambda: b.state is DeviceState.READY, 20 * SECOND)
    b.fire(b.permit(SINGLE))
    b.wait(SECOND)
    (pulse,) = b.happened("pulse")
    assert pulse["mso"] <= MSO.value + 1


@only("magpro-r30", "magpro-x100")
@pytest.mark.parametrize("turned_back", [False, True])
def test_what_a_unit_held_until_it_was_seen_disabled_bleeds_from_then(
    bench: MakeBench, turned_back: bool
) -> None:
    """It does not tell when it is charged. A defect once: a knob had been turned up, the unit heard
    nothing for 2 s, and its charge counted as bleeding from when the knob was seen."""
    b = bench().armed()
    inject(b, "panel_setting", 60)
    b.to_device.cut = True
    b.until(lambda: b.all(DeviceStatus)[-1].mso_pct == 65, TOLD_US)
    b.wait(2 * SECOND, b.driver.disarm)
    if turned_back:
        inject(b, "panel_setting", -60)
        b.until(lambda: b.all(DeviceStatus)[-1].mso_pct == 5, TOLD_US)
    b.to_device.cut = False
    b.wait(200 * MS, b.driver.disarm)
    fires_as_told(b)


@only("magpro-r30", "magpro-x100")
@pytest.mark.parametrize("goes", [False, True])
@pytest.mark.parametrize("turned_back", [False, True])
def test_what_a_knob_did_while_nobody_saw_it_has_bled_away_before_a_pulse(
    bench: MakeBench, turned_back: bool, goes: bool
) -> None:
    b = bench().armed()
    b.to_host.cut = b.to_device.cut = True
    b.port.plugged = not goes
    inject(b, "panel_setting", 60)
    b.wait(1_200 * MS, b.driver.disarm)
    if turned_back:
        inject(b, "panel_setting", -60)
        b.wait(50 * MS, b.driver.disarm)
    b.to_host.cut = b.to_device.cut = False
    b.port.plugged = True
    b.wait(SECOND, b.driver.disarm)
    b.until(lambda: b.is_up, 2 * b.row.connect_us)
    fires_as_told(b)


# -- a pulse that was not seen ---------------------------------------------------------------


@only("duomag-xt", "magpro-r30", "magpro-x100")
def test_a_pulse_of_which_nothing_was_told_is_unknown(bench: MakeBench) -> None:
    """No frame carries a number: what shows that none left may be an old one."""
    b = bench().armed()
    b.to_device.cut = True
    permit = b.permit(SINGLE)
    ticket = b.fire(permit)
    b.wait(permit.start_at + 5 * MS - b.now)
    b.to_device.cut = False
    b.wait(SECOND)
    assert b.outcomes(ticket) == [Outcome.UNKNOWN]
    (ended,) = b.all(BlockEnded)
    assert (ended.delivered, ended.skipped, ended.unsure) == (0, 0, 1)
    assert ended.complete
    assert (counted(b), b.pulses_at()) == (0, [])


# -- a line that takes a part of a command ---------------------------------------------------

TRIGGERS: Final = {"magpro": re.compile(rb"\xfe\x02\x03\x01"), "duomag": re.compile(rb"\x79\x79")}


def cut_short(b: Bench, pattern: re.Pattern[bytes], taken: int) -> list[bytes]:
    """From here on the line takes so many bytes of what matches; what did."""
    write, found = b.port.write, []

    def part(data: bytes) -> bool:
        if not pattern.match(data):
            return write(data)
        found.append(data)
        if data[:taken]:
            write(data[:taken])
        return False

    b.port.write = part  # type: ignore[method-assign]
    return found


@only("magpro-x100", "magpro-r30", "duomag-xt")
@pytest.mark.parametrize("taken", [0, 1, 5])
def test_a_trigger_that_was_not_wholly_taken_is_unknown_and_the_connection_is_lost(
    bench: MakeBench, taken: int
) -> None:
    """A defect once: what the line says of a write was read by no driver."""
    b = bench().armed()
    found = cut_short(b, TRIGGERS[b.row.name.partition("-")[0]], taken)
    ticket = b.fire(b.permit(SINGLE))
    b.wait(100 * MS)
    assert len(found) == 1
    assert b.outcomes(ticket) == [Outcome.UNKNOWN]
    assert [down.why.partition(": ")[0] for down in b.all(LinkDown)] == ["port-full"]
    b.until(lambda: len(b.all(LinkUp)) == 2)
    assert b.disarmed_at() is not None
    assert len(b.pulses_at()) == (b.row.name == "duomag-xt" and taken > 1)
    b.recovered()


@only("magpro-x100", "magpro-r30")
def test_a_question_that_was_not_wholly_taken_loses_the_connection(bench: MakeBench) -> None:
    b = bench().connected()
    found = cut_short(b, re.compile(rb"\xfe\x01\x05"), 3)
    b.wait(100 * MS)
    assert found
    assert [down.why.partition(": ")[0] for down in b.all(LinkDown)] == ["port-full"]
    del b.port.write
    b.connected()
