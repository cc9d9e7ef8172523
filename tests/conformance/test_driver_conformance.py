"""What every driver must do, judged on the emulated device's ground truth in virtual time."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from drivers.contract import (
    BlockEnded,
    CommandEnded,
    DeviceState,
    DeviceStatus,
    LinkDown,
    LinkUp,
    Outcome,
    Permit,
    PulseBlock,
    PulseSeen,
    StopClass,
)
from firmware_protocol.quantities import MS, SECOND, BootUs, PercentMso

if TYPE_CHECKING:
    from tests.conformance.conftest import MakeBench

MSO = PercentMso(5)
TEN = PulseBlock(1, MSO, bursts=10, burst_period_us=20 * MS, pulses_per_burst=1, interval_us=0)
SINGLE = PulseBlock(1, MSO, 1, 0, 1, 0)
BURSTS = PulseBlock(1, MSO, bursts=3, burst_period_us=200 * MS, pulses_per_burst=3,
                    interval_us=20 * MS)  # fmt: skip
STOP_US = 20 * MS  # no pulse later, on the device's clock
SILENCE_US = {StopClass.NATIVE_LEASE: 50 * MS, StopClass.KEEP_ALIVE: SECOND}
TIMING_US = 100
WORK_US = 500 * MS  # connecting, arming, ten pulses, and some time after


# -- connecting ------------------------------------------------------------------------------


def test_a_device_that_answers_is_told_once_and_is_disarmed(bench: MakeBench) -> None:
    b = bench()
    b.wait(SECOND)
    assert len(b.all(LinkUp)) == 1
    assert b.all(LinkDown) == []
    assert b.state is DeviceState.IDLE
    assert b.happened("arm", "pulse") == []
    link = b.all(LinkUp)[0]
    assert (link.identity.serial, link.identity.boot_count) == ("SIM00001", 1)
    assert link.envelope.mso_max_pct == 60  # the site's ceiling is in force in the device


@pytest.mark.parametrize("firing", [False, True])
def test_a_device_that_another_program_left_armed_comes_up_disarmed(
    bench: MakeBench, firing: bool
) -> None:
    b = bench().armed()
    if firing:
        b.driver.fire(b.permit(TEN), b.now)
        b.wait(120 * MS)
    b.restart()
    b.connected()
    pulses = len(b.pulses_at())
    assert b.state is DeviceState.IDLE
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
    b.driver.fire(b.permit(TEN), b.now)
    b.wait(SECOND)
    statuses = [(at, event) for at, event in b.heard if isinstance(event, DeviceStatus)]
    assert len(statuses) > 40
    for at, status in statuses:
        assert status.asked_at <= at - back_us + 10  # 10 us: drift since the newest beat
        assert status.asked_at >= at - back_us - there_us - 3 * MS  # bytes on the line, both ways


# -- commands --------------------------------------------------------------------------------


def test_arming_leads_to_ready_at_the_commanded_intensity(bench: MakeBench) -> None:
    b = bench().connected()
    ticket = b.arm(PercentMso(37))
    b.wait(SECOND)
    assert b.outcomes(ticket) == [Outcome.APPLIED]
    assert b.state is DeviceState.READY
    assert b.all(DeviceStatus)[-1].mso_pct == 37
    assert [line["mso"] for line in b.happened("arm")] == [37]


def test_the_device_itself_keeps_to_the_ceiling_of_the_site(bench: MakeBench) -> None:
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
    b.wait(SECOND)
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
    b.to_host.delay_us = b.row.reply_within_us + 10 * MS
    asked_at = b.now
    ticket = b.arm()
    b.wait(b.row.reply_within_us - 1)
    assert b.outcomes(ticket) == []
    b.wait(1)
    assert b.outcomes(ticket) == [Outcome.UNKNOWN]
    assert b.heard[-1][0] == asked_at + b.row.reply_within_us
    b.to_host.cut = False
    b.wait(2 * SECOND)
    assert b.outcomes(ticket) == [Outcome.UNKNOWN]


@pytest.mark.parametrize("seed", range(40))
def test_on_a_bad_line_a_command_ends_exactly_once_and_a_sure_end_is_true(
    bench: MakeBench, seed: int
) -> None:
    b = bench(seed).connected()
    for wire in (b.to_device, b.to_host):
        wire.loss = wire.flip = wire.duplicate = 0.2
    ticket = b.arm()
    b.wait(200 * MS)
    (outcome,) = b.outcomes(ticket)
    assert [end.ticket for end in b.all(CommandEnded)] == [ticket]
    if outcome is Outcome.APPLIED:
        assert len(b.happened("arm")) == 1
    assert outcome is not Outcome.REFUSED


# -- pulses ----------------------------------------------------------------------------------


def test_a_pulse_needs_a_permit_that_nobody_else_can_make(bench: MakeBench) -> None:
    b = bench().armed()
    spent, old = b.permit(TEN), b.permit(TEN)
    spent.spend(b.now)
    for permit, later_us in ((spent, 0), (old, 10 * MS)):
        with pytest.raises(PermissionError):
            b.driver.fire(permit, BootUs(b.now + later_us))
    with pytest.raises(PermissionError):
        Permit(object(), block=TEN, start_at=b.now, expires_at=b.now, use_before=BootUs(2**60))
    b.wait(SECOND)
    assert b.happened("train_start", "pulse") == []


@pytest.mark.parametrize("drift_ppm", [-100, 0, 100])
@pytest.mark.parametrize("delays_us", [(300, 300), (5_000, 200), (200, 5_000)])
@pytest.mark.parametrize("block", [SINGLE, TEN, BURSTS], ids=["single", "ten", "bursts"])
def test_exactly_the_permitted_pulses_leave_at_the_permitted_times(
    bench: MakeBench, block: PulseBlock, delays_us: tuple[int, int], drift_ppm: int
) -> None:
    b = bench(drift_ppm=drift_ppm, pulse_count=4_000)
    b.to_device.delay_us, b.to_host.delay_us = delays_us
    b.armed()
    permit = b.permit(block)
    error_us = TIMING_US + b.row.clock_error_us(b.bare)
    ticket = b.driver.fire(permit, b.now)
    b.wait(SECOND)

    assert b.outcomes(ticket) == [Outcome.APPLIED]
    left = b.happened("pulse")
    wanted = [b.on_device(permit.start_at) + block.offset_us(i) for i in range(block.pulses)]
    assert len(left) == len(wanted)
    for line, at in zip(left, wanted, strict=True):
        assert abs(line["t_us"] - at) <= error_us
        assert abs(line["mso"] - MSO.value) <= 1
        assert line["t_us"] <= b.on_device(permit.expires_at) + error_us

    seen = b.all(PulseSeen)
    assert [pulse.device_at for pulse in seen] == b.pulses_at()
    assert [pulse.place for pulse in seen] == list(range(block.pulses))
    assert [pulse.pulse_count for pulse in seen] == list(range(4_001, 4_001 + block.pulses))
    assert {pulse.block_id for pulse in seen} == {block.block_id}
    for pulse in seen:
        assert abs(b.on_device(pulse.at) - pulse.device_at) <= error_us
    (ended,) = b.all(BlockEnded)
    assert (ended.delivered, ended.skipped) == (block.pulses, 0)
    assert ended.pulse_count == b.all(DeviceStatus)[-1].pulse_count == 4_000 + block.pulses


def test_a_lost_answer_fires_nothing_twice(bench: MakeBench) -> None:
    b = bench().armed()
    b.to_host.cut = True
    ticket = b.driver.fire(b.permit(SINGLE), b.now)
    b.wait(b.row.reply_within_us)
    b.to_host.cut = False
    b.wait(2 * SECOND)
    assert b.outcomes(ticket) == [Outcome.UNKNOWN]
    assert len(b.pulses_at()) <= 1


# -- ends ------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("framing_lost", [False, True])
def test_after_stop_no_pulse_leaves_whatever_was_going_on(
    bench: MakeBench, seed: int, framing_lost: bool
) -> None:
    rng = random.Random(seed)
    states = set()
    for number in range(25):
        b = bench(100 * seed + number)
        b.work(TEN, rng.randrange(WORK_US))
        if framing_lost:
            b.to_device.send(rng.randbytes(rng.randrange(1, 80)), b.now)
            b.to_device.flip = 1.0  # one bit of each write
        states.add(b.state)
        known = bool(b.all(LinkUp))  # before, nobody knows who is on the port
        at_most = b.on_device(b.now) + STOP_US
        for _ in range(rng.choice((1, 1, 2, 3))):
            b.driver.stop(b.now)
        b.to_device.flip = 0.0
        b.wait(300 * MS)
        assert all(at <= at_most for at in b.pulses_at())
        stopped = b.disarmed_at()
        assert stopped is not None
        assert stopped <= at_most
        if known:
            assert b.happened("stop")
    assert {DeviceState.READY, DeviceState.FIRING} <= states


def test_a_stopped_device_cannot_be_armed_before_somebody_acknowledges(bench: MakeBench) -> None:
    b = bench().armed()
    b.driver.stop(b.now)
    b.wait(100 * MS)
    assert b.state is DeviceState.LATCHED
    ticket = b.arm()
    b.wait(100 * MS)
    assert b.outcomes(ticket) == [Outcome.REFUSED]

    b.driver.acknowledge(b.now)
    b.connected().wait(SECOND)
    assert (len(b.all(LinkDown)), len(b.all(LinkUp))) == (1, 2)
    assert b.all(DeviceStatus)[-1].state is DeviceState.IDLE
    again = b.arm()
    b.wait(100 * MS)
    assert b.outcomes(again) == [Outcome.APPLIED]


def test_disarm_ends_a_block_and_latches_nothing(bench: MakeBench) -> None:
    b = bench().armed()
    b.driver.fire(b.permit(TEN), b.now)
    b.until(lambda: len(b.pulses_at()) == 4)
    at_most = b.on_device(b.now) + STOP_US
    b.driver.disarm(b.now)
    b.wait(SECOND)
    assert all(at <= at_most for at in b.pulses_at())
    (ended,) = b.all(BlockEnded)
    assert ended.delivered == len(b.pulses_at()) < TEN.pulses
    assert ended.delivered + ended.skipped < TEN.pulses
    assert ended.why
    assert b.state is DeviceState.IDLE  # and not LATCHED


def test_a_beat_without_a_permit_lets_no_pulse_leave(bench: MakeBench) -> None:
    b = bench().armed()
    b.driver.fire(b.permit(TEN), b.now)
    b.until(lambda: len(b.pulses_at()) == 4)
    b.permit_for_us = 0
    b.wait(b.next_beat - b.now)
    at_most = b.last_beat_at()
    b.wait(SECOND)
    assert all(at <= at_most for at in b.pulses_at())
    assert len(b.pulses_at()) < TEN.pulses


@pytest.mark.parametrize("seed", range(20))
def test_without_beats_the_device_disarms_itself(bench: MakeBench, seed: int) -> None:
    rng = random.Random(1_000 + seed)
    fired = 0
    for number in range(50):
        b = bench(100 * seed + number)
        b.work(TEN, rng.randrange(WORK_US))
        at_most = b.last_beat_at() + SILENCE_US[b.row.info.stop_class]
        fired += b.state is DeviceState.FIRING
        b.silence(150 * MS)
        assert all(at <= at_most for at in b.pulses_at())
        ended = b.disarmed_at()
        assert ended is not None
        assert ended <= at_most
    assert fired > 10


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


@pytest.mark.parametrize("seed", range(10))
def test_garbage_on_the_line_raises_nothing_and_is_survived(bench: MakeBench, seed: int) -> None:
    rng = random.Random(seed)
    b = bench(seed)
    b.to_device.flip = b.to_host.flip = 0.05
    for _ in range(100):
        wire = rng.choice((b.to_device, b.to_host))
        wire.send(rng.randbytes(rng.randrange(1, 200)), b.now)
        b.wait(rng.randrange(30 * MS))
    b.to_device.flip = b.to_host.flip = 0.0
    assert b.pulses_at() == []
    b.wait(SECOND)
    b.driver.acknowledge(b.now)
    b.connected()
    assert b.state is DeviceState.IDLE


def test_a_device_of_another_protocol_version_is_never_up(bench: MakeBench) -> None:
    b = bench(protocol=9)
    b.wait(2 * SECOND)
    assert {type(event) for _, event in b.heard} == {LinkDown}
    assert all(down.why.startswith("wrong-version: ") for down in b.all(LinkDown))
    assert "9" in b.all(LinkDown)[0].why


@pytest.mark.parametrize("noisy", [False, True])
def test_a_port_where_no_such_device_answers_is_reported(bench: MakeBench, noisy: bool) -> None:
    b = bench()
    b.to_device.cut = True
    for _ in range(200):
        if noisy:
            b.to_host.send(b.rng.randbytes(30), b.now)
        b.wait(10 * MS)
    assert {type(event) for _, event in b.heard} == {LinkDown}
    codes = {down.why.partition(": ")[0] for down in b.all(LinkDown)}
    assert codes == {"unasked"} if noisy else {"mute"}


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
    b.wait(SECOND)
    assert b.heard[told][1].why.startswith("device-silent: ")
    assert {type(event) for _, event in b.heard[told:]} == {LinkDown}
    b.to_host.cut = False
    b.connected()
    assert b.state is DeviceState.IDLE


def test_nothing_blocks_on_a_port_that_takes_no_bytes(bench: MakeBench) -> None:
    """Each write is tried once: a driver that waits for room would spin here for ever."""
    b = bench().armed()
    b.port.full = True
    refused = b.port.refused
    b.driver.fire(b.permit(TEN), b.now)
    b.driver.stop(b.now)
    b.driver.disarm(b.now)
    b.beat()
    assert b.port.refused == refused + 4
    at_most = b.last_beat_at() + SILENCE_US[b.row.info.stop_class]
    b.wait(2 * SECOND)
    assert b.pulses_at() == []
    ended = b.disarmed_at()
    assert ended is not None
    assert ended <= at_most
    b.port.full = False
    b.driver.acknowledge(b.now)
    b.connected()


def test_before_there_is_a_device_every_safe_verb_may_be_called(bench: MakeBench) -> None:
    b = bench()
    b.driver.stop(b.now)
    b.driver.disarm(b.now)
    b.driver.acknowledge(b.now)
    b.driver.close()
    assert list(b.driver.poll(b.now)) == []
    b.connected()
    b.driver.close()
    b.driver.close()
    assert b.driver.fileno() == -1
