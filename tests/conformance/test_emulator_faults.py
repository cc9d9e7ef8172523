"""Every fault of the emulator does what its row says, when its trigger says, and is counted."""

from __future__ import annotations

from pathlib import Path

import pytest
from emulator_host import Host

from firmware_protocol.tmslink import messages as m
from sim_device.fault_kinds import KINDS
from sim_device.fault_rules import load_rules
from sim_device.faults import FRAMES, Rule
from sim_device.settings import Settings, SetupError, parse_settings


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


def test_a_dropped_frame_is_missing_once() -> None:
    host = Host(Rule("drop_frame", at_us=100_000))
    host.hello()
    host.live(1_000_000)
    assert host.link.counters.lost == host.device.faults.counts["drop_frame"] == 1


def test_a_flipped_bit_is_noticed_by_the_host() -> None:
    host = Host(Rule("bit_flip", probability=0.5))
    for _ in range(10):
        host.hello()
        host.live(100_000)
    counters = host.link.counters
    assert host.device.faults.counts["bit_flip"] > 10
    assert counters.bad_crc + counters.garbage > 10


def test_late_frames_keep_their_order_and_all_come() -> None:
    host = Host(Rule("late", 30, at_us=200_000, for_us=100_000))
    host.hello()
    host.live(199_000)
    host.live(51_000)
    newest = host.all(m.Status)[-1]
    assert 30_000 <= host.now - newest.device_time_us <= 50_000
    host.live(200_000)
    assert host.now - host.all(m.Status)[-1].device_time_us < 20_000
    assert host.link.counters.lost == 0
    assert host.link.counters.stale == 0


def test_garbage_reaches_the_host_and_the_link_goes_on() -> None:
    host = Host(Rule("garbage", 500, at_us=100_000))
    host.hello()
    host.live(300_000)
    assert host.link.counters.garbage > 0
    assert host.now - host.all(m.Status)[-1].device_time_us < 20_000


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


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_a_fault_file_becomes_rules(tmp_path: Path) -> None:
    path = write(
        tmp_path / "faults.toml",
        '[[fault]]\nkind = "late"\nvalue = 50\nat_s = 2.5\nfor_s = 1\n'
        '[[fault]]\nkind = "drop_frame"\nprobability = 0.01\n'
        '[[fault]]\nkind = "coil_hot"\nat_pulse = 10\ntimes = 2\n',
    )
    assert load_rules(path) == [
        Rule("late", 50, at_us=2_500_000, for_us=1_000_000),
        Rule("drop_frame", probability=0.01),
        Rule("coil_hot", 450, at_pulse=10, times=2),
    ]


TRIGGERS: dict[str, float] = {
    "at_us": 2_000_000, "at_pulse": 15, "at_command": 7, "at_frame": 300, "probability": 0.2
}  # fmt: skip
CASES = [(kind, trigger) for kind in KINDS for trigger in ("at_us", "probability")] + [
    (kind, trigger)
    for kind in ("late", "refuse", "no_fire", "coil_swapped", "garbage", "rx_bit_flip")
    for trigger in TRIGGERS
    if trigger != "at_frame" or KINDS[kind].occasion in FRAMES
]


@pytest.mark.parametrize(("kind", "trigger"), CASES)
def test_every_fault_happens_is_counted_and_ends_and_the_device_works_again(
    kind: str, trigger: str
) -> None:
    rule = Rule(kind, **{trigger: TRIGGERS[trigger]}, for_us=1_500_000)
    host = Host(rule, rise_us_per_pct=5_000, bleed_us_per_pct=1_000, cooled=1)
    faults = host.device.faults
    host.work(0 if trigger == "probability" else 1)
    assert faults.counts[kind] == 0
    host.work(3_000_000)
    assert faults.counts[kind] > 0
    assert host.truth("injected")[0]["kind"] == kind
    assert faults.in_force() == [] or trigger == "probability"
    faults.clear(kind)
    host.device.machine.unit.jump_to(200, host.now)  # a hot coil would take minutes to cool
    host.work(100_000)
    counted, pulses = faults.counts[kind], len(host.pulses_at())
    host.work(1)
    assert faults.counts[kind] == counted
    assert len(host.pulses_at()) == pulses + 10
    assert faults.in_force() == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("nonsense", "is not TOML"),
        ("[other]", "unknown key 'other'"),
        ("fault = 3", "must be a list"),
        ('[[fault]]\nkind = "loud"\nat_s = 1', "allowed are silent"),
        ("[[fault]]\nat_s = 1", "kind is None"),
        ('[[fault]]\nkind = "silent"', "exactly one of at_s"),
        ('[[fault]]\nkind = "silent"\nat_s = 1\nat_pulse = 1', "exactly one of"),
        ('[[fault]]\nkind = "silent"\nat_s = 1\nvalue = 3', "unknown key 'value'"),
        ('[[fault]]\nkind = "silent"\nat_s = 1\nwhen = 3', "unknown key 'when'"),
        ('[[fault]]\nkind = "silent"\nat_s = "x"', "at_s is 'x'"),
        ('[[fault]]\nkind = "silent"\nat_s = true', "at_s is True"),
        ('[[fault]]\nkind = "silent"\nat_pulse = 1.5', "whole number"),
        ('[[fault]]\nkind = "silent"\nprobability = 1.1', "0 to 1"),
        ('[[fault]]\nkind = "late"\nat_s = 1\nvalue = 0', "1 to 10000"),
    ],
)
def test_a_wrong_fault_file_is_refused_in_one_sentence(
    text: str, said: str, tmp_path: Path
) -> None:
    path = write(tmp_path / "faults.toml", text)
    with pytest.raises(SetupError) as refused:
        load_rules(path)
    sentence = str(refused.value)
    assert said in sentence
    assert str(path) in sentence
    assert "\n" not in sentence


def test_settings_are_taken_within_their_range_and_refused_outside() -> None:
    assert parse_settings(["cooled=1", "serial=TR000001"]) == Settings(cooled=1, serial="TR000001")
    for wrong in ("cooled=2", "cooled=-1", "cooled=x", "cooled", "colour=1", "serial=TR0000012"):
        with pytest.raises(SetupError):
            parse_settings([wrong])
