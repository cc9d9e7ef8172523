"""What every driver must do, judged on the emulated device's ground truth in virtual time."""

from __future__ import annotations

import random
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from drivers.contract import (
    BlockEnded,
    CommandEnded,
    DeviceState,
    DeviceStatus,
    LinkDown,
    LinkError,
    LinkUp,
    Outcome,
    Permit,
    PulseBlock,
    PulseSeen,
)
from firmware_protocol.quantities import MS, SECOND, BootUs, PercentMso
from tests.conformance.driver_rows import MSO, SINGLE

if TYPE_CHECKING:
    from tests.conformance.conftest import Bench, MakeBench

CYCLE_US = 10 * MS
COMPLETE = "complete"
demand = pytest.mark.demand
seeds = pytest.mark.seeds


def settle_us(b: Bench, block: PulseBlock) -> int:
    """From the call to fire until all of it is told."""
    return b.row.info.lead_us + block.span_us + 500 * MS


# -- connecting ------------------------------------------------------------------------------


def test_a_device_that_answers_is_told_once_and_is_disarmed(bench: MakeBench) -> None:
    b = bench()
    b.wait(b.row.connect_us)
    assert len(b.all(LinkUp)) == 1
    assert b.all(LinkDown) == []
    assert b.state is DeviceState.IDLE
    assert b.happened("arm", "pulse") == []
    link = b.all(LinkUp)[0]
    assert (link.identity.serial, link.identity.boot_count) == (b.row.serial, b.row.boot_count)
    assert link.envelope.mso_max_pct == 60  # the site's ceiling


@pytest.mark.parametrize("firing", [False, True])
def test_a_device_that_another_program_left_armed_comes_up_disarmed(
    bench: MakeBench, firing: bool, block: PulseBlock
) -> None:
    b = bench().armed(block)
    if firing:
        b.fire(b.permit(block))
        b.wait(b.row.info.lead_us + 70 * MS)
    b.restart()
    b.connected()
    pulses = len(b.pulses_at())
    assert b.state is DeviceState.IDLE
    assert b.disarmed_at() is not None
    b.wait(SECOND)
    assert len(b.pulses_at()) == pulses
    assert b.state is DeviceState.IDLE


@pytest.mark.parametrize(
    ("there_us", "back_us"), [(0, 0), (300, 300), (5_000, 200), (200, 5_000), (4_000, 4_000)]
)
@pytest.mark.parametrize("drift_ppm", [-100, 0, 100])
def test_a_status_is_never_younger_than_it_says_and_no_older_than_the_round_trip(
    bench: MakeBench, there_us: int, back_us: int, drift_ppm: int
) -> None:
    b = bench(drift_ppm=drift_ppm)
    b.to_device.delay_us, b.to_host.delay_us = there_us, back_us
    b.armed()
    b.fire(b.permit(SINGLE))
    b.wait(SECOND)
    statuses = [(at, event) for at, event in b.heard if isinstance(event, DeviceStatus)]
    for at, status in statuses:
        assert status.asked_at <= at - back_us + 10  # 10 us: drift since a beat
        assert status.asked_at >= at - back_us - there_us - b.row.round_us
    for (_, before), (at, _) in pairwise(statuses):
        assert at - before.asked_at <= b.row.info.status_age_us


# -- commands --------------------------------------------------------------------------------


def test_arming_leads_to_ready_at_the_commanded_intensity(bench: MakeBench) -> None:
    b = bench().connected()
    ticket = b.arm(PercentMso(37))
    b.wait(b.row.end_us + SECOND)
    assert b.outcomes(ticket) == [Outcome.APPLIED]
    assert b.state is DeviceState.READY
    assert b.all(DeviceStatus)[-1].mso_pct == 37
    assert [line["mso"] for line in b.happened("arm")] == [37]


def test_nothing_is_armed_above_the_ceiling_of_the_site(bench: MakeBench) -> None:
    b = bench().connected()
    above = b.arm(PercentMso(61))
    b.wait(SECOND)
    assert b.outcomes(above) == [Outcome.REFUSED]
    assert b.happened("arm") == []
    at = b.arm(PercentMso(60))
    b.wait(SECOND)
    assert b.outcomes(at) == [Outcome.APPLIED]


def test_a_device_without_a_coil_refuses_to_arm_and_says_why(bench: MakeBench) -> None:
    b = bench(coil_type=0).connected()
    ticket = b.arm()
    b.wait(b.row.end_us)
    (ended,) = b.all(CommandEnded)
    assert (ended.ticket, ended.outcome) == (ticket, Outcome.REFUSED)
    assert ended.why
    assert b.state is DeviceState.IDLE


@pytest.mark.parametrize("late_answer", [False, True])
def test_a_silent_device_leaves_a_command_unknown_once_at_the_deadline(
    bench: MakeBench, late_answer: bool
) -> None:
    b = bench().connected()
    b.to_host.cut = not late_answer
    b.to_host.delay_us = b.row.end_us + 10 * MS
    ticket = b.arm()
    b.wait(39 * MS)
    assert b.outcomes(ticket) == []
    b.wait(b.row.end_us - 39 * MS)
    assert b.outcomes(ticket) == [Outcome.UNKNOWN]
    b.to_host.cut, b.to_host.delay_us = False, 300
    b.wait(2 * SECOND)
    assert b.outcomes(ticket) == [Outcome.UNKNOWN]
    b.recovered()


@seeds(40)
def test_on_a_bad_line_a_command_ends_exactly_once_and_a_sure_end_is_true(
    bench: MakeBench, seed: int
) -> None:
    b = bench(seed).connected()
    for wire in (b.to_device, b.to_host):
        wire.loss = wire.flip = wire.duplicate = 0.2
    ticket = b.arm()
    b.wait(b.row.end_us)
    (outcome,) = b.outcomes(ticket)
    assert [end.ticket for end in b.all(CommandEnded)] == [ticket]
    armed = b.happened("arm")
    if outcome is Outcome.APPLIED:
        assert {line["mso"] for line in armed} == {MSO.value}
    if outcome is Outcome.REFUSED:
        assert b.disarmed_at() is not None
    for wire in (b.to_device, b.to_host):
        wire.loss = wire.flip = wire.duplicate = 0.0
    b.driver.stop(b.now)
    b.wait(SECOND, b.driver.stop)
    b.recovered()


# -- pulses ----------------------------------------------------------------------------------


def test_a_pulse_needs_a_permit_that_nobody_else_can_make(bench: MakeBench) -> None:
    b = bench()
    block = b.several
    b.armed(block)
    spent, old = b.permit(block), b.permit(block)
    spent.spend(b.now)
    for permit, later_us in ((spent, 0), (old, 10 * MS)):
        with pytest.raises(PermissionError):
            b.driver.fire(permit, BootUs(b.now + later_us))
    with pytest.raises(PermissionError):
        Permit(object(), block=block, start_at=b.now, expires_at=b.now, use_before=BootUs(2**60))
    b.wait(SECOND)
    assert b.happened("train_start", "pulse") == []


@pytest.mark.parametrize("drift_ppm", [-100, 0, 100])
@pytest.mark.parametrize("delays_us", [(300, 300), (5_000, 200), (200, 5_000)])
def test_exactly_the_permitted_pulses_leave_at_the_permitted_times(
    bench: MakeBench, block: PulseBlock, delays_us: tuple[int, int], drift_ppm: int
) -> None:
    b = bench(drift_ppm=drift_ppm)
    b.to_device.delay_us, b.to_host.delay_us = delays_us
    b.armed(block)
    before = b.all(DeviceStatus)[-1].pulse_count
    permit = b.permit(block)
    error_us = b.row.pulse_us(b.bare) + (delays_us[0] if b.row.host_triggers else 0)
    ticket = b.fire(permit)
    b.wait(settle_us(b, block))

    assert b.outcomes(ticket) == [Outcome.APPLIED]
    left = b.happened("pulse")
    wanted = [b.on_device(permit.start_at) + block.offset_us(i) for i in range(block.pulses)]
    assert len(left) == len(wanted)
    for line, at in zip(left, wanted, strict=True):
        assert abs(line["t_us"] - at) <= error_us
        assert abs(line["mso"] - MSO.value) <= 1
        assert line["t_us"] <= b.on_device(permit.expires_at) + error_us

    seen = b.all(PulseSeen)
    if seen or block.pulses == 1:  # not every device tells the pulses of a train
        for pulse, at in zip(seen, b.pulses_at(), strict=True):
            assert abs(b.on_device(pulse.at) - at) <= error_us
            assert pulse.device_at in (at, pulse.at)  # a device without a clock has ours
        assert [pulse.place for pulse in seen] == list(range(block.pulses))
        counts = list(range(before + 1, before + 1 + block.pulses))
        assert [pulse.pulse_count for pulse in seen] == counts
        assert {pulse.block_id for pulse in seen} == {block.block_id}
    (ended,) = b.all(BlockEnded)
    assert (ended.delivered, ended.skipped, ended.why) == (block.pulses, 0, COMPLETE)
    assert ended.complete
    newest = b.all(DeviceStatus)[-1]
    assert ended.pulse_count == newest.pulse_count == before + block.pulses
    assert (newest.block_id, newest.block_fired) == (block.block_id, block.pulses)


@seeds(20)
def test_a_lost_answer_fires_nothing_twice(bench: MakeBench, seed: int) -> None:
    rng = random.Random(seed)
    b = bench(seed).armed()
    ticket = b.fire(b.permit(SINGLE))
    b.wait(rng.randrange(b.row.info.lead_us))
    b.to_host.cut = True
    b.wait(rng.randrange(10, 700) * MS)
    b.to_host.cut = False
    b.wait(2 * SECOND)
    (outcome,) = b.outcomes(ticket)
    assert len(b.pulses_at()) <= 1
    if outcome is Outcome.APPLIED:
        assert len(b.pulses_at()) == 1
    b.recovered()


@pytest.mark.parametrize("line", ["to_device", "to_host"])
@seeds(20)
def test_a_block_on_a_bad_line_ends_once_and_counts_no_less_than_what_left(
    bench: MakeBench, line: str, seed: int
) -> None:
    b = bench(seed)
    b.armed(b.several)
    wire = getattr(b, line)
    wire.loss = wire.flip = 0.2
    ticket = b.fire(b.permit(b.several))
    b.wait(settle_us(b, b.several))
    wire.loss = wire.flip = 0.0
    b.wait(SECOND)
    assert len(b.outcomes(ticket)) == 1
    b.recovered()


# -- ends ------------------------------------------------------------------------------------


@seeds(20)
@pytest.mark.parametrize("framing_lost", [False, True])
def test_after_stop_no_pulse_leaves_whatever_was_going_on(
    bench: MakeBench, seed: int, framing_lost: bool
) -> None:
    rng = random.Random(seed)
    under_way = 0
    for number in range(bench.tries(18)):
        b = bench(100 * seed + number)
        block = b.several
        b.somewhere(rng, block)
        within_us = b.row.stop_us
        if framing_lost:
            b.noise(b.to_device, 80)
            b.to_device.flip = 1.0  # one bit of each write
            within_us = b.row.garbled_stop_us
        known = bool(b.all(LinkUp))  # before, nobody knows who is on the port
        under_way += b.is_under_way
        at_most = b.on_device(max(b.now, b.to_device._free_us)) + within_us
        for _ in range(rng.choice((1, 1, 2, 3))):
            b.driver.stop(b.now)
        b.to_device.flip = 0.0
        b.wait(300 * MS, b.driver.stop)
        while b.disarmed_at() is None and b.now < at_most:
            b.wait(CYCLE_US, b.driver.stop)
        b.begun_before(at_most, block)
        stopped = b.disarmed_at()
        assert stopped is not None
        assert stopped <= at_most
        if known and "latch" not in b.row.cannot:
            assert b.happened("stop")
        if number % 8 == 0:
            b.recovered()
    assert under_way > 0


def test_a_stopped_device_cannot_be_armed_before_somebody_acknowledges(bench: MakeBench) -> None:
    b = bench().armed()
    b.driver.stop(b.now)
    b.wait(b.row.stop_us + b.row.round_us)
    assert b.state is DeviceState.LATCHED
    ticket = b.arm()
    b.wait(100 * MS)
    assert b.outcomes(ticket) == [Outcome.REFUSED]

    renewed = int("latch" not in b.row.cannot)  # the connection, which leaves the device's latch
    b.recovered().wait(SECOND)
    assert (len(b.all(LinkDown)), len(b.all(LinkUp))) == (renewed, 1 + renewed)
    assert b.all(DeviceStatus)[-1].state is DeviceState.IDLE
    again = b.arm()
    b.wait(b.row.end_us)
    assert b.outcomes(again) == [Outcome.APPLIED]


def test_disarm_before_a_block_lets_none_of_it_leave_and_latches_nothing(bench: MakeBench) -> None:
    b = bench()
    b.armed(b.several)
    ticket = b.fire(b.permit(b.several))
    b.driver.disarm(b.now)
    b.wait(settle_us(b, b.several), b.driver.disarm)
    assert b.pulses_at() == []
    assert len(b.outcomes(ticket)) == 1
    assert b.state is DeviceState.IDLE  # and not LATCHED
    assert b.disarmed_at() is not None


@demand("cut")
def test_disarm_ends_a_block_and_latches_nothing(bench: MakeBench) -> None:
    b = bench()
    block = b.several
    b.armed(block)
    b.fire(b.permit(block))
    b.until(lambda: len(b.pulses_at()) == 4)
    at_most = b.on_device(b.now) + b.row.stop_us
    b.driver.disarm(b.now)
    b.wait(SECOND)
    assert all(at <= at_most for at in b.pulses_at())
    (ended,) = b.all(BlockEnded)
    assert ended.delivered == len(b.pulses_at()) < block.pulses
    assert ended.delivered + ended.skipped < block.pulses
    assert not ended.complete
    assert ended.why
    assert b.state is DeviceState.IDLE  # and not LATCHED


def test_without_a_permit_of_a_beat_no_block_begins(bench: MakeBench) -> None:
    b = bench()
    b.armed(b.several)
    b.permit_for_us = 0
    ticket = b.fire(b.permit(b.several))
    b.beat()
    b.wait(settle_us(b, b.several))
    assert b.pulses_at() == []
    assert len(b.outcomes(ticket)) == 1


@demand("cut")
def test_a_beat_without_a_permit_lets_no_pulse_leave(bench: MakeBench) -> None:
    b = bench()
    b.armed(b.several)
    b.fire(b.permit(b.several))
    b.until(lambda: len(b.pulses_at()) == 4)
    b.permit_for_us = 0
    b.wait(b.next_beat - b.now)
    at_most = b.last_word_at()
    b.wait(SECOND)
    assert all(at <= at_most for at in b.pulses_at())
    assert len(b.pulses_at()) < b.several.pulses


@seeds(20)
def test_without_beats_the_device_disarms_itself(bench: MakeBench, seed: int) -> None:
    """Or, where it carries on, nothing leaves that was not triggered already."""
    rng = random.Random(1_000 + seed)
    under_way = 0
    for number in range(bench.tries(32)):
        b = bench(100 * seed + number)
        b.somewhere(rng, b.several)
        under_way += b.is_under_way
        b.silence(max(150 * MS, 100 * MS + (b.row.info.dead_man_us or 0)))
        last, off = b.silent_by()
        assert all(at <= last for at in b.pulses_at())
        if off is not None:
            ended = b.disarmed_at()
            assert ended is not None
            assert ended <= off
    assert under_way > 0


# -- the line --------------------------------------------------------------------------------


def test_a_lost_port_is_told_and_found_again_disarmed(bench: MakeBench) -> None:
    b = bench().armed()
    b.wait(SECOND)
    assert b.all(LinkDown) == []
    b.port.plugged = False
    told = len(b.heard)
    b.wait(2 * SECOND)
    lost = b.heard[told:]
    assert {type(event) for _, event in lost} == {LinkDown}
    assert lost[0][1].why.startswith("port-lost: ")
    assert b.driver.fileno() == -1

    b.port.plugged = True
    b.connected().wait(SECOND)
    assert len(b.all(LinkUp)) == 2
    assert b.state is DeviceState.IDLE
    assert isinstance(b.heard[-1][1], DeviceStatus)


@pytest.mark.parametrize("verb", ["stop", "disarm"])
def test_a_port_that_is_lost_in_a_write_and_back_at_once_is_connected_anew(
    bench: MakeBench, verb: str
) -> None:
    b = bench().armed()
    b.port.plugged = False
    getattr(b.driver, verb)(b.now)
    b.port.plugged = True
    b.connected()
    assert len(b.all(LinkDown)) == 1
    assert b.state in (DeviceState.IDLE, DeviceState.LATCHED)
    assert b.disarmed_at() is not None
    b.recovered()


@pytest.mark.parametrize("how", ["restart", "reopened"])
@pytest.mark.parametrize("stops", [False, True])
def test_a_device_that_was_left_armed_and_cannot_be_heard_is_disarmed(
    bench: MakeBench, how: str, stops: bool
) -> None:
    """A defect once: a MagPro, which disarms by nothing else, was only asked and never told."""
    b = bench().armed()
    b.to_host.cut = True
    if how == "restart":
        b.restart()
    else:
        b.port.plugged = False
        b.wait(20 * MS)
        b.port.plugged = True
    b.wait(b.row.connect_us, b.driver.stop if stops else None)
    assert b.disarmed_at() is not None
    assert not b.is_up
    b.to_host.cut = False
    b.connected()


@seeds(20)
def test_what_was_asked_of_a_port_that_is_lost_ends_once(bench: MakeBench, seed: int) -> None:
    rng = random.Random(seed)
    b = bench(seed)
    b.work(b.several, rng.randrange(b.work_us // 3, b.work_us))
    b.port.plugged = False
    b.wait(SECOND)
    for _, ticket, _ in b.asked:
        assert len(b.outcomes(ticket)) == 1
    b.port.plugged = True
    b.connected()
    b.recovered()


@seeds(10)
def test_garbage_on_the_line_raises_nothing_and_is_survived(bench: MakeBench, seed: int) -> None:
    rng = random.Random(seed)
    b = bench(seed)
    wires = [b.to_host] if "noise" in b.row.cannot else [b.to_host, b.to_device]
    for wire in wires:
        wire.flip = 0.05
    for _ in range(100):
        b.noise(rng.choice(wires))
        b.wait(rng.randrange(30 * MS))
    b.to_device.flip = b.to_host.flip = 0.0
    assert b.pulses_at() == []
    b.wait(SECOND)
    b.recovered()


@demand("strange")
def test_a_device_of_another_protocol_version_is_never_up(bench: MakeBench) -> None:
    """Or of another model: whatever this driver is not made for."""
    strange = bench.row.strange
    assert strange is not None
    b = bench(device=strange.family, **strange.settings)
    b.wait(2 * b.row.connect_us)
    assert {type(event) for _, event in b.heard} == {LinkDown}
    assert all(down.why.startswith(strange.why) for down in b.all(LinkDown))
    assert b.happened("arm", "pulse") == []


@pytest.mark.parametrize("noisy", [False, True])
def test_a_port_where_no_such_device_answers_is_reported(bench: MakeBench, noisy: bool) -> None:
    b = bench()
    b.to_device.cut = True
    b.to_host.cut = not noisy
    for _ in range(b.row.connect_us // (10 * MS)):
        if noisy:
            b.noise(b.to_host, 30)
        b.wait(10 * MS)
    assert {type(event) for _, event in b.heard} == {LinkDown}
    assert all(down.why.startswith(b.row.silences) for down in b.all(LinkDown))


def test_a_port_that_cannot_be_opened_is_reported_in_its_own_words(bench: MakeBench) -> None:
    b = bench()
    b.port.plugged = False
    b.wait(2 * SECOND)
    assert {event.why for _, event in b.heard} == {"the virtual port is closed or unplugged"}
    b.port.plugged = True
    b.connected()


def test_a_device_that_falls_silent_is_told(bench: MakeBench) -> None:
    b = bench().connected()
    b.to_host.cut = True
    told = len(b.heard)
    b.wait(2 * SECOND)
    downs = [event for _, event in b.heard[told:] if isinstance(event, LinkDown)]
    assert downs[0].why.startswith("device-silent: ")
    assert {type(event) for _, event in b.heard[told:]} <= {LinkDown, LinkError}
    b.to_host.cut = False
    b.connected()
    assert b.state is DeviceState.IDLE


def test_nothing_blocks_on_a_port_that_takes_no_bytes(bench: MakeBench) -> None:
    """Each write is tried once: a driver that waits for room would spin here for ever."""
    b = bench()
    b.armed(b.several)
    b.port.full = True
    refused = b.port.refused
    b.fire(b.permit(b.several))
    b.driver.stop(b.now)
    b.driver.disarm(b.now)
    b.beat()
    assert 1 <= b.port.refused - refused <= 4  # one write a call
    _, off = b.silent_by()
    b.wait(2 * SECOND)
    assert b.pulses_at() == []
    if off is not None:
        ended = b.disarmed_at()
        assert ended is not None
        assert ended <= off
    b.port.full = False
    b.wait(SECOND, b.driver.stop)
    assert b.disarmed_at() is not None
    b.recovered()


def test_before_there_is_a_device_every_safe_verb_may_be_called(bench: MakeBench) -> None:
    b = bench()
    b.driver.stop(b.now)
    b.driver.disarm(b.now)
    b.driver.acknowledge(b.now)
    b.driver.close()
    assert list(b.driver.poll(b.now)) == []
    ticket = b.arm()
    b.wait(CYCLE_US)
    assert b.outcomes(ticket) == [Outcome.REFUSED]
    b.connected()
    b.driver.close()
    b.driver.close()
    assert b.driver.fileno() == -1


@pytest.mark.parametrize("verb", ["stop", "disarm", "acknowledge", "close"])
@seeds(20)
def test_a_verb_while_it_is_being_connected_does_not_keep_it_away(
    bench: MakeBench, verb: str, seed: int
) -> None:
    """Also when it is repeated, as the guard repeats STOP while a device may be armed."""
    b = bench(seed)
    b.wait(b.rng.randrange(b.connect_us))
    for _ in range(b.rng.randrange(1, 30)):
        b.wait(CYCLE_US)
        if verb == "close":
            b.driver.close()
        else:
            getattr(b.driver, verb)(b.now)
    if verb == "close":
        b.connected()
    b.recovered()
    ticket = b.arm()
    b.wait(b.row.end_us)
    assert b.outcomes(ticket) == [Outcome.APPLIED]
