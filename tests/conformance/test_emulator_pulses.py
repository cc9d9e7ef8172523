"""Arming, leases and pulses of the emulated device, judged by the ground truth."""

from __future__ import annotations

import pytest
from emulator_host import Host

from firmware_protocol.tmslink import messages as m


def test_arming_takes_10_ms_a_percent_and_then_the_device_says_ready_at_once() -> None:
    host = Host()
    host.hello()
    began = host.now
    assert host.ask(m.Arm(60, 1)) is m.Result.APPLIED
    assert host.state is m.State.ARMING
    host.live(700_000)
    ready = next(s for s in host.all(m.Status) if s.state == m.State.READY)
    assert ready.device_time_us == host.truth("ready")[0]["t_us"] == began + 595_000
    assert host.all(m.Status)[-1].charge_permille == 600


@pytest.mark.parametrize(
    ("arm", "settings", "result"),
    [
        (m.Arm(60, 2), {}, m.Result.WRONG_COIL),
        (m.Arm(60, 0), {}, m.Result.WRONG_COIL),
        (m.Arm(60, 2), {"coil_type": 2}, m.Result.APPLIED),
        (m.Arm(80, 1), {"mso_max_pct": 80}, m.Result.APPLIED),
        (m.Arm(81, 1), {"mso_max_pct": 80}, m.Result.ABOVE_LIMIT),
        (m.Arm(60, 0), {"coil_type": 0}, m.Result.FAULT_PRESENT),
        (m.Arm(60, 1), {"coil_start_dc": 410}, m.Result.FAULT_PRESENT),
        (m.Arm(60, 1), {"coil_start_dc": 409}, m.Result.APPLIED),
    ],
)
def test_arm_is_allowed_only_for_the_right_coil_within_the_limits(
    arm: m.Arm, settings: dict[str, int], result: m.Result
) -> None:
    host = Host(**settings)
    host.hello()
    assert host.ask(arm) is result
    assert len(host.truth("arm")) == (result is m.Result.APPLIED)


def test_a_second_arm_is_refused() -> None:
    host = Host().armed()
    assert host.ask(m.Arm(60, 1)) is m.Result.WRONG_STATE


def test_a_train_leaves_exactly_as_leased() -> None:
    host = Host(pulse_count=500).armed()
    start = host.now + 50_000
    ask = host.train(start_us=start, bursts=3, burst_period_us=200_000, pulses_per_burst=3,
                     interval_us=20_000)  # fmt: skip
    assert host.ask(ask) is m.Result.APPLIED
    assert host.state is m.State.FIRING
    host.live(600_000)
    assert host.pulses_at() == [
        start + b * 200_000 + p * 20_000 for b in range(3) for p in range(3)
    ]
    assert {line["mso"] for line in host.truth("pulse")} == {60.0}
    assert host.truth("pulse")[0]["didt"] == pytest.approx(114.73 * 0.6, abs=0.01)
    told = host.all(m.Pulse)
    assert [p.device_time_us for p in told] == host.pulses_at()
    assert [(p.pulse_count, p.place, p.mso_permille) for p in told] == [
        (501 + place, place, 600) for place in range(9)
    ]
    (ended,) = host.all(m.LeaseEnd)
    assert (ended.fired, ended.skipped, ended.cause) == (9, 0, m.Cause.COMPLETE)
    assert host.state is m.State.READY


def test_the_device_is_ready_again_when_the_last_pulse_is_recharged() -> None:
    host = Host().armed(100)
    host.ask(host.fire())
    assert host.state is m.State.ARMING
    assert host.ask(host.fire(lease_id=2)) is m.Result.NOT_CHARGED
    host.live(20_000)
    assert host.state is m.State.READY
    assert host.ask(host.fire(lease_id=2)) is m.Result.APPLIED


@pytest.mark.parametrize(
    ("lead_us", "result"), [(30_000, m.Result.APPLIED), (29_999, m.Result.TOO_LATE)]
)
def test_a_train_needs_a_lead_of_30_ms(lead_us: int, result: m.Result) -> None:
    host = Host().armed()
    assert host.ask(host.train(start_us=host.now + lead_us)) is result


BURSTS = {"bursts": 10, "burst_period_us": 200_000, "pulses_per_burst": 3, "interval_us": 20_000}


@pytest.mark.parametrize(
    ("changes", "result"),
    [
        ({"mso_pct": 59}, m.Result.BAD_VALUE),
        ({"mso_pct": 61}, m.Result.BAD_VALUE),
        ({"bursts": 0}, m.Result.BAD_VALUE),
        ({"pulses_per_burst": 0}, m.Result.BAD_VALUE),
        ({"lease_id": 0}, m.Result.LEASE_NOT_NEW),
        ({"expires_us": 1}, m.Result.EXPIRED),
        ({"burst_period_us": 10_000}, m.Result.APPLIED),
        ({"burst_period_us": 9_999}, m.Result.ABOVE_LIMIT),
        ({**BURSTS, "interval_us": 10_000}, m.Result.APPLIED),
        ({**BURSTS, "interval_us": 9_999}, m.Result.ABOVE_LIMIT),
        ({**BURSTS, "burst_period_us": 50_000}, m.Result.APPLIED),
        ({**BURSTS, "burst_period_us": 49_999}, m.Result.ABOVE_LIMIT),
        ({"bursts": 1_000}, m.Result.APPLIED),
        ({"bursts": 1_001}, m.Result.ABOVE_LIMIT),
        ({"bursts": 2, "burst_period_us": 120_000_000}, m.Result.APPLIED),
        ({"bursts": 2, "burst_period_us": 120_000_001}, m.Result.ABOVE_LIMIT),
    ],
)
def test_a_lease_is_taken_only_within_every_limit(
    changes: dict[str, int], result: m.Result
) -> None:
    host = Host().armed()
    assert host.ask(host.train(**changes)) is result
    assert len(host.truth("train_start")) == (result is m.Result.APPLIED)


def test_a_lease_needs_a_charged_device_without_another_lease() -> None:
    host = Host()
    host.hello()
    assert host.ask(host.train(mso_pct=60)) is m.Result.WRONG_STATE
    host.ask(m.Arm(60, 1))
    assert host.ask(host.train()) is m.Result.NOT_CHARGED
    host.live(600_000)
    assert host.ask(host.train()) is m.Result.APPLIED
    assert host.ask(host.train(lease_id=2)) is m.Result.WRONG_STATE


def test_lease_ids_rise() -> None:
    host = Host().armed()
    assert host.ask(host.fire(lease_id=5)) is m.Result.APPLIED
    host.live(100_000)
    assert host.ask(host.fire(lease_id=5)) is m.Result.LEASE_NOT_NEW
    assert host.ask(host.fire(lease_id=6)) is m.Result.APPLIED


def test_two_leases_keep_the_shortest_interval_between_them() -> None:
    host = Host(interval_min_us=100_000).armed(10)
    host.ask(host.fire())
    host.live(99_999)
    assert host.ask(host.fire(lease_id=2)) is m.Result.ABOVE_LIMIT
    host.wait(1)
    assert host.ask(host.fire(lease_id=2)) is m.Result.APPLIED


def test_fire_in_the_past_fires_at_once_unless_it_has_expired() -> None:
    host = Host().armed()
    assert host.ask(host.fire(start_us=5, expires_us=host.now)) is m.Result.EXPIRED
    assert host.ask(host.fire(start_us=5, expires_us=host.now + 1)) is m.Result.APPLIED
    assert host.pulses_at() == [host.now]


def test_fire_at_once_without_a_permit_is_refused_and_changes_nothing() -> None:
    host = Host().armed()
    host.beat(permit_us=host.now - 1)
    assert host.ask(host.fire()) is m.Result.NO_PERMIT
    assert host.state is m.State.READY
    host.beat(permit_us=host.now)
    assert host.ask(host.fire()) is m.Result.APPLIED


@pytest.mark.parametrize(("short_us", "pulses"), [(0, 10), (1, 9)])
def test_no_pulse_leaves_after_the_newest_permit(short_us: int, pulses: int) -> None:
    host = Host().armed()
    ask = host.train()
    host.ask(ask)
    host.live(1_000_000, permit_us=ask.start_us + 900_000 - short_us)
    assert len(host.pulses_at()) == pulses
    if short_us:
        assert (host.state, host.cause) == (m.State.LATCHED, m.Cause.PERMIT_EXPIRED)
        assert host.all(m.LeaseEnd)[0].cause == m.Cause.PERMIT_EXPIRED
    else:
        assert host.state is m.State.READY


@pytest.mark.parametrize(("short_us", "pulses"), [(0, 10), (1, 9)])
def test_no_pulse_leaves_after_the_end_of_its_lease(short_us: int, pulses: int) -> None:
    host = Host().armed()
    ask = host.train()
    host.ask(ask._replace(expires_us=ask.start_us + 900_000 - short_us))
    host.live(1_000_000)
    assert len(host.pulses_at()) == pulses


def test_a_pulse_that_finds_the_capacitor_low_is_skipped_and_not_made_up() -> None:
    host = Host(recharge_us_per_pct=2_500).armed()  # 150 ms at 60 %
    ask = host.train()
    host.ask(ask)
    host.live(1_000_000)
    assert host.pulses_at() == [ask.start_us + n * 200_000 for n in range(5)]
    (ended,) = host.all(m.LeaseEnd)
    assert (ended.fired, ended.skipped, ended.cause) == (5, 5, m.Cause.COMPLETE)
    assert [p.place for p in host.all(m.Pulse)] == [0, 2, 4, 6, 8]


@pytest.mark.parametrize(("late_us", "pulses"), [(1_000, 10), (1_001, 9)])
def test_a_pulse_found_more_than_1_ms_late_is_skipped(late_us: int, pulses: int) -> None:
    host = Host().armed()
    ask = host.train()
    host.ask(ask)
    host.now = ask.start_us + late_us
    host.device.advance(host.now)
    host.live(1_000_000)
    assert len(host.pulses_at()) == pulses
    assert host.all(m.LeaseEnd)[0].skipped == 10 - pulses


def test_late_pulses_are_never_bunched() -> None:
    host = Host().armed(40)
    ask = host.train(burst_period_us=10_000)
    host.ask(ask)
    host.live(29_000)
    host.now = ask.start_us + 40_500  # five pulses are overdue, the last by half a millisecond
    host.device.advance(host.now)
    host.collect()
    host.live(100_000)
    assert host.pulses_at() == [
        ask.start_us + 40_500,
        *range(ask.start_us + 50_000, ask.start_us + 100_000, 10_000),
    ]
    assert host.all(m.LeaseEnd)[0].skipped == 4


def test_a_stall_longer_than_the_dead_man_leaves_nothing_but_a_latch() -> None:
    host = Host().armed()
    host.ask(host.train())
    host.now += 5_000_000
    host.device.advance(host.now)
    host.collect()
    assert host.pulses_at() == []
    assert host.cause is m.Cause.DEAD_MAN


@pytest.mark.parametrize("how", ["stop bytes", "disarm", "silence"])
def test_no_pulse_leaves_after_the_lease_was_ended(how: str) -> None:
    host = Host().armed()
    host.ask(host.train())
    host.live(235_000)
    if how == "stop bytes":
        host.give(m.STOP_BYTES)
    elif how == "disarm":
        assert host.ask(m.Disarm()) is m.Result.APPLIED
        kinds = [type(event).__name__ for event in host.events[-3:]]
        assert kinds == ["LeaseEnd", "Answered", "Status"]
        assert host.state is m.State.IDLE
    else:
        host.wait(50_000)
    assert len(host.pulses_at()) == 3
    host.live(2_000_000)
    assert len(host.pulses_at()) == 3


def test_disarming_bleeds_the_capacitor_by_1_percent_in_100_ms() -> None:
    host = Host().armed()
    host.ask(m.Disarm())
    host.live(1_000_000)
    assert host.all(m.Status)[-1].charge_permille == 500


def test_armed_60_s_without_a_pulse_disarms_without_a_latch() -> None:
    host = Host()
    host.hello()
    host.ask(m.Arm(10, 1))
    host.live(59_999_999)
    assert host.device.machine.state is m.State.READY
    host.wait(1)
    assert (host.state, host.cause) == (m.State.IDLE, m.Cause.IDLE_TOO_LONG)
    assert host.ask(m.Arm(10, 1)) is m.Result.APPLIED


def test_a_pulse_starts_the_60_s_anew() -> None:
    host = Host().armed(10)
    host.live(40_000_000)
    host.ask(host.fire())
    host.live(40_000_000)
    assert host.device.machine.state is m.State.READY


def test_pulses_heat_the_coil_to_its_limit_and_there_the_device_disarms_and_latches() -> None:
    host = Host(coil_start_dc=240).armed(100)
    assert host.ask(host.train(bursts=1_000)) is m.Result.APPLIED
    host.live(100_000_000)
    assert (host.state, host.cause) == (m.State.LATCHED, m.Cause.COIL_HOT)
    assert host.all(m.Fault)[-1].cause == m.Cause.COIL_HOT
    assert host.truth("pulse")[-1]["surface_c"] == pytest.approx(41.0, abs=0.1)


def test_a_coil_that_was_too_hot_must_cool_by_3_degrees() -> None:
    host = Host().armed()
    unit = host.device.machine.unit
    unit.jump_to(409, host.now)
    host.live(20_000)
    assert host.state is m.State.READY
    unit.jump_to(410, host.now)
    host.live(20_000)
    assert host.cause is m.Cause.COIL_HOT
    host.hello()
    unit.jump_to(381, host.now)
    assert host.ask(m.Arm(10, 1)) is m.Result.FAULT_PRESENT
    unit.jump_to(380, host.now)
    assert host.ask(m.Arm(10, 1)) is m.Result.APPLIED


def test_the_log_of_a_pulse_carries_every_promised_key() -> None:
    host = Host().armed()
    host.ask(host.fire())
    (line,) = host.truth("pulse")
    assert line.keys() >= {"t_us", "event", "n", "mso", "didt", "energy_j", "coil_c", "cause"}
    assert (line["n"], line["cause"], line["lease"], line["count"]) == (1, "fire", 1, 1)
    assert line["energy_j"] == pytest.approx(90.7, abs=0.1)
