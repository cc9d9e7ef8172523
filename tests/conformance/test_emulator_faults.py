"""Every fault of the emulator does what its row says, when its trigger says, and is counted.

Faults of frames: test_emulator_line_faults.py.
"""

from __future__ import annotations

import pytest
from emulator_host import Host

from firmware_protocol.tmslink import messages as m
from firmware_protocol.tmslink.link import Answered
from sim_device.fault_kinds import KINDS, USB_KINDS
from sim_device.faults import FRAMES, Rule

SECOND = 1_000_000


def counted(host: Host, kind: str) -> int:
    return host.device.faults.counts[kind]


# -- every kind ------------------------------------------------------------------------------

TRIGGERS: dict[str, float] = {
    "at_us": 1_000_000, "at_pulse": 15, "at_command": 7, "at_frame": 100, "probability": 0.2
}  # fmt: skip
ON_ANY_LINE = [kind for kind in KINDS if kind not in USB_KINDS]
CASES = [(kind, trigger) for kind in ON_ANY_LINE for trigger in ("at_us", "probability")] + [
    (kind, trigger)
    for kind in ("late", "refuse", "no_fire", "coil_swapped", "garbage", "rx_bit_flip")
    for trigger in TRIGGERS
    if trigger != "at_frame" or KINDS[kind].occasion in FRAMES
]


@pytest.mark.parametrize(("kind", "trigger"), CASES)
def test_every_fault_happens_is_counted_and_ends_and_the_device_works_again(
    kind: str, trigger: str
) -> None:
    rule = Rule(kind, **{trigger: TRIGGERS[trigger]}, for_us=SECOND)
    host = Host(rule, rise_us_per_pct=2_000, bleed_us_per_pct=1_000, cooled=1)
    faults = host.device.faults
    host.work(0 if trigger == "probability" else 1)
    assert faults.counts[kind] == 0
    for _ in range(4):
        host.work(1)
    assert faults.counts[kind] > 0
    assert host.truth("injected")[0]["kind"] == kind
    if trigger == "probability":
        faults.clear(kind)
        host.wait(600_000)  # a lost port or a reboot is over by then
    assert faults.set_rules() == faults.in_force() == []
    host.device.machine.unit.jump_to(200, host.now)  # a hot coil would take minutes to cool
    counted, pulses = faults.counts[kind], len(host.pulses_at())
    host.work(1)
    assert faults.counts[kind] == counted
    assert len(host.pulses_at()) == pulses + 10


# -- one by one ------------------------------------------------------------------------------


def test_a_silent_device_works_on_and_is_not_heard() -> None:
    host = Host(Rule("silent", at_us=1_000_000, for_us=500_000)).armed()
    host.ask(host.train(burst_period_us=100_000))
    host.live(2_000_000)
    quiet = [
        s.device_time_us for s in host.all(m.Status)
        if 2_000_000 <= s.device_time_us < 2_500_000
    ]  # fmt: skip
    assert quiet == []
    assert len(host.pulses_at()) == 10
    assert host.state is m.State.READY
    assert host.device.faults.counts["silent"] > 20


def test_arm_is_refused_as_often_as_the_rule_says() -> None:
    host = Host(Rule("refuse_arm", at_command=1, times=2))
    host.hello()
    results = [host.ask(m.Arm(60, 1)) for _ in range(3)]
    assert results == [m.Result.FAULT_PRESENT, m.Result.FAULT_PRESENT, m.Result.APPLIED]


def test_a_missing_pulse_neither_leaves_nor_is_told() -> None:
    host = Host(Rule("missing_pulse", at_pulse=3)).armed()
    ask = host.train()
    host.ask(ask)
    host.live(1_000_000)
    assert host.pulses_at() == [ask.start_us + n * 100_000 for n in range(10) if n != 2]
    (ended,) = host.all(m.LeaseEnd)
    assert (ended.fired, ended.skipped) == (9, 0)
    assert host.all(m.Status)[-1].pulse_count == 9


def test_a_bias_is_delivered_and_measured_but_the_set_point_looks_right() -> None:
    host = Host(Rule("intensity_bias", 15, at_pulse=2)).armed()
    host.ask(host.train(bursts=3))
    host.live(500_000)
    assert [line["mso"] for line in host.truth("pulse")] == [60.0, 69.0, 69.0]
    assert [p.mso_permille for p in host.all(m.Pulse)] == [600, 690, 690]
    assert host.all(m.Status)[-1].charge_permille == 600


def test_a_spontaneous_pulse_leaves_without_a_lease() -> None:
    host = Host(Rule("spontaneous_pulse", at_us=1_000_000)).armed()
    host.live(1_000_000)
    (line,) = host.truth("pulse")
    assert (line["t_us"], line["cause"], line["lease"]) == (2_000_000, "spontaneous", 0)
    assert host.all(m.Pulse)[0].lease_id == 0
    assert host.all(m.Status)[-1].pulse_count == 1


def test_an_empty_capacitor_gives_no_spontaneous_pulse() -> None:
    host = Host(Rule("spontaneous_pulse", at_us=100_000))
    host.hello()
    host.live(1_000_000)
    assert host.pulses_at() == []


@pytest.mark.parametrize(
    ("rule", "cause"),
    [
        (Rule("coil_hot", 450, at_us=1_000_000), m.Cause.COIL_HOT),
        (Rule("coil_absent", at_us=1_000_000), m.Cause.COIL_ABSENT),
        (Rule("disarms_itself", at_us=1_000_000), m.Cause.PANEL),
        (Rule("disarms_itself", at_pulse=2), m.Cause.PANEL),
    ],
)
def test_what_disarms_the_device_also_latches_it_and_is_told(rule: Rule, cause: m.Cause) -> None:
    host = Host(rule).armed()
    host.ask(host.train())
    host.live(1_500_000)
    assert (host.state, host.cause) == (m.State.LATCHED, cause)
    assert host.all(m.Fault)[-1].cause == cause
    assert host.all(m.LeaseEnd)[-1].cause == cause
    assert len(host.truth("injected")) == 1
    assert host.pulses_at()[-1] <= host.truth("fault")[-1]["t_us"]


def test_a_coil_that_is_gone_refuses_arm() -> None:
    host = Host(Rule("coil_absent", at_us=0))
    host.wait(1)
    host.hello()
    assert host.all(m.Identity)[0].coil_type == 0
    assert host.ask(m.Arm(60, 1)) is m.Result.FAULT_PRESENT


def test_a_clock_fault_changes_the_rate_that_programs_read() -> None:
    host = Host(Rule("clock_drift_ppm", 300, at_us=100_000))
    host.wait(99_999)
    assert host.device.clock_ppm == 0
    host.wait(1)
    assert host.device.clock_ppm == 300


# -- commands --------------------------------------------------------------------------------


def connected(*rules: Rule, **settings: int) -> Host:
    host = Host(*rules, **settings)
    host.hello()
    return host


def test_a_refused_command_is_not_carried_out_and_gives_the_result_of_the_rule() -> None:
    host = connected(Rule("refuse", int(m.Result.ABOVE_LIMIT)))
    assert host.ask(m.Arm(60, 1)) is m.Result.ABOVE_LIMIT
    assert host.state is m.State.IDLE
    assert host.ask(m.Arm(60, 1)) is m.Result.APPLIED


def test_a_busy_device_takes_no_lease_but_obeys_otherwise() -> None:
    host = Host(Rule("busy", at_command=1, times=2)).armed()
    results = [host.ask(host.train(lease_id=n)) for n in (1, 2, 3)]
    assert results == [m.Result.NOT_CHARGED, m.Result.NOT_CHARGED, m.Result.APPLIED]


def test_a_false_refusal_is_carried_out_and_a_false_ack_is_not() -> None:
    host = connected(Rule("false_refusal"))
    assert host.ask(m.Arm(60, 1)) is m.Result.FAULT_PRESENT
    assert host.state is m.State.ARMING
    host = connected(Rule("false_ack"))
    assert host.ask(m.Arm(60, 1)) is m.Result.APPLIED
    assert host.state is m.State.IDLE


@pytest.mark.parametrize("kind", ["refuse", "false_ack", "false_refusal"])
def test_disarm_and_stop_are_carried_out_and_answered_all_the_same(kind: str) -> None:
    for message, state in ((m.Disarm(), m.State.IDLE), (m.Stop(), m.State.LATCHED)):
        host = Host().armed()
        host.device.faults.add_from_now(Rule(kind, times=1_000), host.now)
        assert host.ask(message) is m.Result.APPLIED
        assert host.state is state
        assert counted(host, kind) == 0


def test_a_command_without_an_answer_is_carried_out() -> None:
    host = connected(Rule("no_reply"))
    assert host.ask(m.Arm(60, 1)) is None
    assert host.state is m.State.ARMING


def test_a_wrong_answer_names_another_frame_and_settles_no_command() -> None:
    host = connected(Rule("wrong_reply"))
    assert host.ask(m.Arm(60, 1)) is None
    assert host.link.counters.lost == 0
    assert host.state is m.State.ARMING
    assert counted(host, "wrong_reply") == 1


def test_a_late_answer_comes_so_much_later_and_not_to_another_session() -> None:
    host = connected(Rule("reply_late", 60, times=2))
    assert host.ask(m.Arm(60, 1)) is None
    host.live(59_999)
    assert host.all(Answered) == []
    host.live(1)
    assert [event.result for event in host.all(Answered)] == [m.Result.APPLIED]
    host.tell(m.Disarm())
    host.hello()
    host.live(200_000)
    assert len(host.all(Answered)) == 1
    assert host.link.counters.foreign == 0


@pytest.mark.parametrize(("code", "message"), [(2, m.Tighten(50, 10_000, 9, 9, 300)),
                                               (3, m.Arm(60, 1))])  # fmt: skip
def test_a_firmware_that_lacks_a_command_gives_no_answer_to_it_alone(
    code: int, message: object
) -> None:
    host = connected(Rule("lacks_command", code))
    before = len(host.events)
    assert host.ask(message) is None
    assert len(host.events) == before
    assert host.device.line.counters.unknown == counted(host, "lacks_command") == 1
    assert host.ask(m.Disarm()) is m.Result.APPLIED


@pytest.mark.parametrize(("more", "taken"), [(5, 65), (-70, 0), (90, 100)])
def test_an_intensity_that_snaps_is_charged_and_shown(more: int, taken: int) -> None:
    host = connected(Rule("snap", more), rise_us_per_pct=1_000)
    assert host.ask(m.Arm(60, 1)) is m.Result.APPLIED
    host.live(200_000)
    newest = host.all(m.Status)[-1]
    assert (newest.state, newest.mso_pct, newest.charge_permille) == (
        m.State.READY, taken, taken * 10
    )  # fmt: skip


# -- pulses ----------------------------------------------------------------------------------


def trained(*rules: Rule, pulses: int = 5, **settings: int) -> Host:
    host = Host(*rules, **settings).armed()
    assert host.ask(host.train(bursts=pulses)) is m.Result.APPLIED
    host.live(pulses * 100_000 + 100_000)
    return host


def test_a_device_that_does_not_fire_ends_its_lease_with_nothing() -> None:
    host = trained(Rule("no_fire"))
    assert host.pulses_at() == []
    (ended,) = host.all(m.LeaseEnd)
    assert (ended.fired, ended.skipped, ended.cause) == (0, 0, m.Cause.COMPLETE)
    assert counted(host, "no_fire") == 5


def test_a_phantom_pulse_is_counted_and_told_but_there_is_none() -> None:
    host = trained(Rule("phantom_pulse", at_pulse=2))
    assert len(host.pulses_at()) == 4
    assert [(p.pulse_count, p.mso_permille > 0) for p in host.all(m.Pulse)] == [
        (1, True), (2, False), (3, True), (4, True), (5, True)
    ]  # fmt: skip
    assert host.all(m.Pulse)[1].didt_a_per_us == 0
    assert host.all(m.LeaseEnd)[0].fired == host.all(m.Status)[-1].pulse_count == 5


def test_an_extra_pulse_leaves_and_is_counted_but_not_told() -> None:
    host = trained(Rule("extra_pulse", 5, at_pulse=2))
    extra = next(line for line in host.truth("pulse") if line["cause"] == "extra")
    assert extra["t_us"] - host.pulses_at()[1] == 5_000
    assert len(host.pulses_at()) == 6
    assert len(host.all(m.Pulse)) == 5
    assert host.all(m.LeaseEnd)[0].fired == 5
    assert host.all(m.Status)[-1].pulse_count == 6


def test_a_hidden_bias_shows_in_the_slope_of_the_current_alone() -> None:
    host = trained(Rule("hidden_bias", 20, at_pulse=3))
    right, wrong = host.all(m.Pulse)[0], host.all(m.Pulse)[-1]
    assert (right.mso_permille, wrong.mso_permille) == (600, 600)
    assert wrong.didt_a_per_us == pytest.approx(right.didt_a_per_us * 1.2, abs=1)
    assert [line["mso"] for line in host.truth("pulse")] == [60.0, 60.0, 72.0, 72.0, 72.0]


def test_a_drift_grows_from_pulse_to_pulse() -> None:
    host = trained(Rule("intensity_drift", 50, at_pulse=2))
    assert [line["mso"] for line in host.truth("pulse")] == [60.0, 63.0, 66.0, 69.0, 72.0]


@pytest.mark.parametrize("kind", ["intensity_bias", "hidden_bias", "intensity_drift"])
@pytest.mark.parametrize("value", [-100, 100])
def test_the_greatest_errors_of_intensity_are_survived(kind: str, value: int) -> None:
    host = trained(Rule(kind, value), Rule("intensity_bias", value))
    assert len(host.pulses_at()) == 5
    assert all(line["mso"] >= 0 for line in host.truth("pulse"))


# -- the device ------------------------------------------------------------------------------


def test_a_device_that_falls_idle_says_no_cause_and_waits_until_it_is_armed() -> None:
    host = Host(Rule("falls_idle", at_us=0))
    host.hello()
    host.live(SECOND)
    assert counted(host, "falls_idle") == 0
    assert host.ask(m.Arm(60, 1)) is m.Result.APPLIED
    host.live(100_000)
    assert (host.state, host.cause) == (m.State.IDLE, m.Cause.NONE)
    assert counted(host, "falls_idle") == 1


def test_a_charger_that_fails_latches() -> None:
    host = Host(Rule("charger_fault", at_us=SECOND)).armed()
    host.live(SECOND)
    assert (host.state, host.cause) == (m.State.LATCHED, m.Cause.CHARGER)


def test_a_turned_knob_changes_the_setting_of_an_armed_device_only() -> None:
    host = Host(Rule("panel_setting", 7, at_us=0)).armed()
    host.live(200_000)
    newest = host.all(m.Status)[-1]
    assert (newest.mso_pct, newest.charge_permille) == (67, 670)
    assert counted(host, "panel_setting") == 1


@pytest.mark.parametrize("by_ms", [5_000, -700, -86_400_000])
def test_a_clock_that_jumps_takes_its_lease_and_its_permit_along(by_ms: int) -> None:
    host = Host().armed()
    host.ask(host.train(bursts=20))
    host.live(500_000)
    fired = len(host.pulses_at())
    host.device.faults.add_from_now(Rule("clock_jump", by_ms), host.now)
    host.follows_clock = True
    host.live(100_000)
    told = host.all(m.Status)[-1].device_time_us
    assert told == max(host.now + by_ms * 1_000, 0) or by_ms < -1_000
    assert told >= 0
    assert [line["t_us"] for line in host.log] == sorted(line["t_us"] for line in host.log)
    if by_ms < 0:
        assert len(host.pulses_at()) == fired  # the next one is due when the clock shows it again
    else:
        assert host.all(m.LeaseEnd)[-1].skipped == 20 - fired


def test_a_counter_that_jumps_or_begins_again_is_told_as_it_stands() -> None:
    host = trained(Rule("counter_jump", -3, at_pulse=2), pulses=3)
    assert [pulse.pulse_count for pulse in host.all(m.Pulse)] == [1, 2, 0]
    host = trained(Rule("counter_rollover", at_pulse=2), pulses=3)
    assert [pulse.pulse_count for pulse in host.all(m.Pulse)] == [1, 2, 1]
    host = trained(pulses=3, pulse_count=2**32 - 2)
    assert [pulse.pulse_count for pulse in host.all(m.Pulse)] == [2**32 - 1, 0, 1]


def test_a_reboot_forgets_all_but_the_counter() -> None:
    host = Host(pulse_count=40)
    host.hello()
    host.ask(m.Tighten(50, 20_000, 100, SECOND, 400))
    assert host.ask(m.Arm(50, 1)) is m.Result.APPLIED
    host.live(SECOND)
    host.ask(host.fire())
    host.live(100_000)
    host.device.faults.add_from_now(Rule("reboot", 300), host.now)
    before, off_at = len(host.events), host.now
    host.live(299_000)
    host.hello()
    assert len(host.events) == before
    host.live(100_000)
    assert len(host.events) == before  # switched on, but no session is open
    host.follows_clock = True
    host.hello()
    identity = host.all(m.Identity)[-1]
    assert identity.boot_count == 2
    assert identity.device_time_us == host.now - off_at - 300_000
    assert host.all(m.Limits)[-1].mso_max_pct == 100
    status = host.all(m.Status)[-1]
    assert (status.state, status.cause, status.lease_id) == (m.State.IDLE, m.Cause.NONE, 0)
    assert status.pulse_count == 41
    assert [line["event"] for line in host.log if "power" in line["event"]] == ["power_lost"]
    (boot,) = host.truth("boot")
    assert (boot["t_us"], boot["boot_count"]) == (off_at + 300_000, 2)
    host.live(100_000)
    assert host.state is m.State.IDLE


def test_a_lost_port_gives_nothing_and_takes_nothing_until_it_is_back() -> None:
    host = Host(Rule("disconnect", 200, at_us=100_000))
    host.hello()
    host.live(150_000)
    assert not host.device.plugged
    taken = len(host.taken)
    host.live(100_000)
    host.hello()
    assert len(host.taken) == taken
    host.live(100_000)
    assert host.device.plugged
    host.hello()
    assert host.state is m.State.IDLE


# -- how it is for a time --------------------------------------------------------------------


def test_a_coil_pulled_out_unseen_shows_in_the_status_alone() -> None:
    host = Host(Rule("coil_unplugged", at_us=SECOND, for_us=SECOND)).armed()
    host.live(500_000)
    assert (host.state, host.all(m.Status)[-1].coil_type) == (m.State.READY, 0)
    host.ask(host.fire())
    host.live(100_000)
    assert host.truth("pulse")[0]["didt"] == 0
    host.live(SECOND)
    assert host.all(m.Status)[-1].coil_type == 1
    assert [line["on"] for line in host.truth("injected")] == [True, False]


def test_another_coil_shows_in_the_status_and_refuses_arm_for_the_old_one() -> None:
    host = connected(Rule("coil_swapped", 3, for_us=100_000))
    host.wait(1)
    host.live(50_000)
    assert host.all(m.Status)[-1].coil_type == 3
    assert host.ask(m.Arm(60, 1)) is m.Result.WRONG_COIL
    host.live(100_000)
    assert host.ask(m.Arm(60, 1)) is m.Result.APPLIED


def test_a_coil_heated_from_outside_gets_hot_at_the_given_rate_and_disarms() -> None:
    host = Host(Rule("coil_heats", 50, at_us=SECOND)).armed()
    host.live(2 * SECOND)
    first, last = host.all(m.Status)[0], host.all(m.Status)[-1]
    warmer = 50 * (last.device_time_us - 2 * SECOND) / SECOND
    assert last.surface_dc - first.surface_dc == pytest.approx(warmer, abs=3)
    host.live(4 * SECOND)
    assert (host.state, host.cause) == (m.State.LATCHED, m.Cause.COIL_HOT)


def test_without_its_coolant_a_cooled_coil_gets_warmer_and_an_uncooled_one_cannot_fail() -> None:
    def winding(*rules: Rule, cooled: int) -> tuple[int, int]:
        host = Host(*rules, cooled=cooled, coil_start_dc=240)
        host.hello()
        host.wait(60 * SECOND)
        return host.all(m.Status)[-1].coil_dc, counted(host, "cooling_failure")

    fails = Rule("cooling_failure", at_us=0)
    assert winding(cooled=1)[0] < winding(fails, cooled=1)[0] == 240
    assert winding(fails, cooled=1)[1] == 1
    assert winding(fails, cooled=0) == (240, 0)


def test_a_stuck_sensor_shows_the_same_while_the_coil_heats_and_the_device_trusts_it() -> None:
    host = Host(Rule("sensor_stuck", at_us=SECOND), Rule("coil_heats", 200, at_us=SECOND)).armed()
    host.live(4 * SECOND)
    readings = {s.surface_dc for s in host.all(m.Status) if s.device_time_us > 2 * SECOND}
    assert len(readings) == 1
    assert host.device.machine.unit.heat.at(host.now).surface_c > 60
    assert host.state is m.State.READY


@pytest.mark.parametrize("value", [-32768, 0, 2550, 32767])
def test_a_wrong_sensor_shows_its_value_and_comes_right(value: int) -> None:
    host = connected(Rule("sensor_wrong", value, at_us=0, for_us=200_000))
    host.live(150_000)
    newest = host.all(m.Status)[-1]
    assert (newest.coil_dc, newest.surface_dc) == (value, value)
    host.live(100_000)
    assert host.all(m.Status)[-1].surface_dc == pytest.approx(200, abs=3)


def test_a_slow_charger_takes_longer_to_ready_and_skips_what_it_cannot_refill() -> None:
    host = connected(Rule("charger_slow", 10, at_us=0), recharge_us_per_pct=300)
    host.wait(1)
    host.ask(m.Arm(20, 1))
    while host.state is not m.State.READY:
        host.live(10_000)
    assert host.truth("ready")[0]["t_us"] - host.truth("arm")[0]["t_us"] >= 19 * 100_000
    host.ask(host.train(burst_period_us=50_000))
    host.live(SECOND)
    assert host.all(m.LeaseEnd)[0].skipped > 0


def test_slow_bleeding_leaves_the_old_voltage_for_longer() -> None:
    def left(*rules: Rule) -> int:
        host = Host(*rules, bleed_us_per_pct=10_000).armed()
        host.ask(m.Disarm())
        host.live(400_000)
        return host.all(m.Status)[-1].charge_permille

    assert 150 <= left() <= 250
    assert 500 <= left(Rule("bleeds_slow", 5, at_us=0)) <= 560


def test_a_device_that_is_ready_early_fires_with_the_voltage_that_there_is() -> None:
    host = connected(Rule("ready_early", at_us=0))
    host.wait(1)
    host.ask(m.Arm(60, 1))
    host.beat()
    host.wait(1_000)
    assert host.state is m.State.READY
    host.live(100_000)
    host.ask(host.fire())
    host.live(10_000)
    assert host.truth("pulse")[0]["mso"] == pytest.approx(10, abs=1)
    assert host.all(m.Pulse)[0].mso_permille < 120


def test_an_open_door_latches_and_refuses_arm_until_it_is_closed() -> None:
    host = Host(Rule("door_open", at_us=SECOND, for_us=SECOND)).armed()
    host.live(500_000)
    assert (host.state, host.cause) == (m.State.LATCHED, m.Cause.PANEL)
    host.hello()
    assert host.ask(m.Arm(60, 1)) is m.Result.FAULT_PRESENT
    host.live(SECOND)
    assert host.ask(m.Arm(60, 1)) is m.Result.APPLIED


def test_a_state_ends_when_it_is_cleared_and_leaves_the_others() -> None:
    host = connected(Rule("coil_swapped", 2), Rule("clock_drift_ppm", 300))
    host.live(50_000)
    assert host.device.faults.in_force() == ["coil_swapped", "clock_drift_ppm"]
    host.device.faults.clear("coil_swapped")
    host.live(50_000)
    assert host.device.faults.in_force() == ["clock_drift_ppm"]
    assert (host.all(m.Status)[-1].coil_type, host.device.clock_ppm) == (1, 300)
    host.device.faults.clear_all()
    host.live(50_000)
    assert host.device.clock_ppm == 0
    assert host.device.faults.set_rules() == []


@pytest.mark.parametrize("for_us", [500_000, 900_000, None])
def test_a_state_that_is_set_again_while_it_is_in_force_waits_for_its_end(
    for_us: int | None,
) -> None:
    first = Rule("coil_swapped", 2, at_us=100_000, for_us=500_000)
    host = connected(first, Rule("coil_swapped", 3, at_us=560_000, for_us=for_us))
    shown = []
    for _ in range(2):
        host.live(590_000)
        shown.append(host.all(m.Status)[-1].coil_type)
    host.live(400_000)
    shown.append(host.all(m.Status)[-1].coil_type)
    assert shown == [2, 3 if for_us != 500_000 else 1, 3 if for_us is None else 1]
    assert counted(host, "coil_swapped") == 2


# -- all together ----------------------------------------------------------------------------


def every_fault(seed: int) -> Host:
    """Every kind at once, each with a small probability."""
    rules = (Rule(kind, probability=0.02, for_us=20_000) for kind in ON_ANY_LINE)
    host = Host(*rules, seed=seed, rise_us_per_pct=2_000, bleed_us_per_pct=1_000, cooled=1)
    host.work(10 * SECOND)
    return host


@pytest.mark.parametrize("seed", range(3))
def test_all_faults_together_are_survived_and_the_same_seed_gives_the_same(seed: int) -> None:
    host, again = every_fault(seed), every_fault(seed)
    assert sum(host.device.faults.counts.values()) > 250
    assert len(host.device.faults.counts) > len(ON_ANY_LINE) // 2
    assert host.log == again.log
    assert host.taken == again.taken
    assert host.device.faults.counts == again.device.faults.counts
    assert host.log != every_fault(seed + 100).log


def test_faults_can_be_added_and_cleared_while_the_device_runs() -> None:
    host = Host()
    host.hello()
    host.device.faults.add(Rule("silent", at_us=0))
    seen = len(host.events)
    host.live(100_000)
    assert len(host.events) == seen
    host.device.faults.clear("silent")
    host.live(100_000)
    assert len(host.events) > seen


def test_the_same_seed_gives_the_same_bytes() -> None:
    def run() -> tuple[list[object], list[dict[str, object]]]:
        host = Host(Rule("bit_flip", probability=0.1), Rule("garbage", 9, probability=0.1)).armed()
        host.ask(host.train())
        host.live(1_000_000)
        return host.events, host.log

    assert run() == run()
