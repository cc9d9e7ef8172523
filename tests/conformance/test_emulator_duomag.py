"""The emulated DuoMAG as a host sees it, held against the ground truth. All in virtual time."""

from __future__ import annotations

import random
from typing import Any

import pytest

from firmware_protocol.duomag import messages as m
from firmware_protocol.duomag.framing import Ignored, StatusDecoder, encode
from firmware_protocol.duomag.messages import Command, Kind, Status
from firmware_protocol.quantities import MS, SECOND
from sim_device.duomag_firmware import duomag_xt
from sim_device.duomag_settings import DuomagSettings
from sim_device.faults import Rule

FAST = {"rise_us_per_pct": 1_000, "bleed_us_per_pct": 1_000}  # 100 % in 0.1 s


class Bench:
    def __init__(self, *rules: Rule, **settings: Any) -> None:
        self.settings = DuomagSettings(**{**FAST, **settings})
        self.log: list[dict[str, Any]] = []
        self.device = duomag_xt(self.settings, random.Random(1), self.log.append, rules)
        self.now = self.settings.clock_us
        self.decoder = StatusDecoder()
        self.seen: list[Status] = []
        self.ignored: list[Ignored] = []
        self.heard = b""

    def wait(self, duration_us: int) -> Bench:
        self.now += duration_us
        self.device.run_to(self.now)
        data = self.device.take_output()
        self.heard += data
        for one in self.decoder.feed(data):
            if isinstance(one, Status):
                self.seen.append(one)
            else:
                self.ignored.append(one)
        return self

    def raw(self, data: bytes) -> Bench:
        self.device.receive(data, self.now)
        return self

    def say(self, *commands: Command) -> Bench:
        return self.raw(encode(commands))

    def set_to(self, mso_pct: int, wait_us: int = SECOND) -> Bench:
        return self.say(Command(Kind.INTENSITY, mso_pct)).wait(wait_us)

    @property
    def status(self) -> Status:
        """The newest that is whole; the device says more than one since the last change."""
        self.wait(3 * self.settings.status_period_us)
        return self.seen[-1]

    def pulses(self) -> list[tuple[int, str]]:
        return [(round(e["mso"]), e["cause"]) for e in self.log if e["event"] == "pulse"]

    def events(self, *names: str) -> list[tuple[str, Any]]:
        """With the cause or the intensity."""
        told = [e for e in self.log if e["event"] in (names or ("arm", "ready", "disarm"))]
        return [(e["event"], e.get("cause", e.get("mso"))) for e in told]


# -- status stream -----------------------------------------------------------------------------


@pytest.mark.parametrize(("period_us", "records"), [(50_000, 20), (10_000, 100), (250_000, 4)])
def test_it_speaks_unasked_at_the_rate_that_was_set(period_us: int, records: int) -> None:
    bench = Bench(status_period_us=period_us).wait(SECOND - 1)
    assert bench.heard.count(b"\xff") == records
    assert len(bench.heard) == 16 * records


@pytest.mark.parametrize(("size", "coil"), [(12, None), (13, None), (15, 1), (16, 1), (31, 1)])
def test_the_length_of_a_record_is_a_setting(size: int, coil: int | None) -> None:
    bench = Bench(record_bytes=size, byte_13=9, byte_14=8)
    assert bench.status.coil_type == coil
    assert bench.heard.split(b"\xff")[1][12:14] == bytes([9, 8])[: max(0, size - 12)]


def test_what_nobody_has_explained_may_be_anything_and_changes_nothing_of_what_is_known() -> None:
    plain = Bench().set_to(40).status
    noisy = Bench(unused_bits=1, byte_13=254, byte_14=254).set_to(40)
    assert noisy.status == plain
    assert noisy.heard.split(b"\xff")[1][6] == 0x87


@pytest.mark.parametrize(
    ("settings", "rules", "flags"),
    [
        ({}, [], {"coil_data_ok"}),
        ({"coil_type": 0}, [], {"coil_absent"}),
        ({}, [Rule("coil_unplugged", at_us=0)], {"coil_absent"}),
        ({"coil_start_dc": 411}, [], {"coil_data_ok", "coil_hot"}),
        ({"coil_start_dc": 405}, [], {"coil_data_ok"}),
        ({}, [Rule("coil_hot", 450, at_us=0)], {"coil_data_ok", "coil_hot"}),
        ({}, [Rule("charger_fault", at_us=0)], {"coil_data_ok", "recharge_error"}),
        ({"flags_7": 64}, [], {"coil_data_ok", "power_hot"}),
        ({"flags_7": 16}, [], {"coil_data_ok", "hold_error"}),
        ({"flags_8": 64}, [], {"coil_data_ok", "fan_seized"}),
        ({"flags_8": 8}, [], {"coil_data_ok", "resistor_hot"}),
        ({"flags_8": 4}, [], {"coil_data_ok", "discharge_hot"}),
        ({"charged_at_zero": 1}, [], {"coil_data_ok", "charged"}),
    ],
)
def test_every_flag_is_shown_when_its_cause_is_there(
    settings: dict[str, int], rules: list[Rule], flags: set[str]
) -> None:
    status = Bench(*rules, **settings).status
    assert {name for name in m.FLAGS if getattr(status, name)} == flags


@pytest.mark.parametrize(
    ("coil", "code"), [(1, m.Coil.C70BF), (3, m.Coil.C50BF), (4, m.Coil.C120BFV), (2, 0), (0, 0)]
)
def test_it_names_the_coil(coil: int, code: int) -> None:
    assert Bench(coil_type=coil).status.coil_type == code


@pytest.mark.parametrize(
    ("settings", "adc"),
    [
        ({}, 60),  # 20 + 2 for each degree, at 20 degrees
        ({"adc_at_0c": 200, "adc_per_100c": -500}, 100),
        ({"adc_per_100c": 2_000}, 254),  # never a byte that looks like a sync
        ({"adc_per_100c": -200}, 0),
    ],
)
def test_the_scale_of_the_temperature_is_a_setting(settings: dict[str, int], adc: int) -> None:
    assert Bench(room_dc=200, coil_start_dc=200, **settings).status.coil_adc == adc


def test_it_shows_for_a_time_that_bytes_of_the_host_arrive() -> None:
    bench = Bench(usb_bit_us=100_000)
    assert not bench.status.receiving_usb
    bench.raw(b"\x28").wait(10 * 50_000)
    assert sum(status.receiving_usb for status in bench.seen) == 2


# -- intensity ---------------------------------------------------------------------------------


def test_it_charges_at_once_without_arming_and_says_when_it_is_charged() -> None:
    bench = Bench()
    assert bench.wait(SECOND).status.charged == 0
    bench.set_to(40, 39 * MS)
    assert bench.seen[-1].charged == 0
    status = bench.wait(SECOND).status
    assert (status.mso_pct, status.charged, status.change_pct) == (40, 1, 0)
    assert bench.events() == [("arm", 40), ("ready", 40)]


def test_it_keeps_its_intensity_for_ever_without_a_word_of_the_host() -> None:
    """It has no dead-man: this is why no train may be left to it."""
    bench = Bench().set_to(40).wait(600 * SECOND)
    assert bench.status.charged == 1
    assert bench.say(m.FIRE).pulses() == [(40, "fire")]


def test_zero_discharges_it() -> None:
    bench = Bench().set_to(40).set_to(0)
    assert bench.events()[-1] == ("disarm", "SET_TO_ZERO")
    assert bench.status.charged == 0
    assert bench.device.unit.capacitor.at(bench.now) == 0


@pytest.mark.parametrize(("setting", "mso_pct"), [("ignored", 40), ("full_intensity", 100)])
@pytest.mark.parametrize("byte", [101, 120, 122, 127])
def test_bytes_of_unknown_meaning_do_what_was_set(setting: str, mso_pct: int, byte: int) -> None:
    bench = Bench(unknown_commands=setting).set_to(40)
    assert bench.raw(bytes((byte, byte))).status.mso_pct == mso_pct
    assert bench.pulses() == []


@pytest.mark.parametrize(
    ("by_pct", "shown", "mso_pct"), [(5, 5, 45), (-5, -5, 35), (-100, -16, 0), (60, 15, 100)]
)
def test_a_knob_that_is_turned_shows_in_one_record(by_pct: int, shown: int, mso_pct: int) -> None:
    bench = Bench(Rule("panel_setting", by_pct, at_us=2 * SECOND)).set_to(40).wait(3 * SECOND)
    assert [s.change_pct for s in bench.seen if s.change_pct] == [shown]
    assert bench.status.mso_pct == mso_pct


def test_the_intensity_after_power_up_is_a_setting_and_nothing_else_is_left() -> None:
    bench = Bench(Rule("reboot", 100, at_us=3 * SECOND), start_pct=7).set_to(40)
    bench.say(*m.delay_commands(Kind.TTL_HIGH, m.delay_of(100_000))).wait(3 * SECOND)
    status = bench.status
    assert (status.mso_pct, status.ttl_delay.us, status.charged) == (7, 0, 1)
    assert [cause for name, cause in bench.events("disarm")] == ["POWER"]


def test_the_first_byte_that_is_lost_does_not_turn_one_command_into_another() -> None:
    bench = Bench().set_to(40).raw(b"\x79").wait(10 * MS + 1)
    assert bench.say(Command(Kind.INTENSITY, 30)).status.mso_pct == 30
    assert bench.pulses() == []


# -- pulses ------------------------------------------------------------------------------------


def test_fire_gives_one_pulse_and_it_charges_again_by_itself() -> None:
    bench = Bench().set_to(40)
    for n in range(3):
        bench.say(m.FIRE).wait(SECOND)
        assert bench.pulses() == [(40, "fire")] * (n + 1)
    assert bench.status.omitted == 0


def test_a_fire_before_it_is_charged_is_omitted_and_counted() -> None:
    bench = Bench().say(Command(Kind.INTENSITY, 40)).wait(20 * MS).say(m.FIRE, m.FIRE)
    assert bench.pulses() == []
    assert bench.wait(SECOND).status.omitted == 2
    assert bench.say(m.FIRE).pulses() == [(40, "fire")]


def test_or_it_gives_a_weaker_pulse_if_it_was_set_so() -> None:
    bench = Bench(fires_uncharged=1).say(Command(Kind.INTENSITY, 40)).wait(20 * MS).say(m.FIRE)
    assert bench.pulses() == [(13, "fire")]


@pytest.mark.parametrize(("wraps", "count"), [(0, 3), (1, 1)])
def test_the_count_of_omitted_pulses_ends_as_it_was_set(wraps: int, count: int) -> None:
    bench = Bench(omitted_max=3, omitted_wraps=wraps).say(*[m.FIRE] * 5)
    assert bench.status.omitted == count


@pytest.mark.parametrize(("after_us", "pulses"), [(119 * MS, 1), (119 * MS + 400 * MS, 2)])
def test_the_recharge_delay_holds_the_next_pulse_back(after_us: int, pulses: int) -> None:
    bench = Bench().set_to(40)
    bench.say(*m.delay_commands(Kind.RECHARGE_HIGH, m.delay_of(120_000)))
    assert bench.status.recharge_delay.us == 120_000
    bench.say(m.FIRE).wait(after_us).say(m.FIRE)
    assert len(bench.pulses()) == pulses


def test_it_is_not_charged_while_the_recharge_delay_runs() -> None:
    bench = Bench().set_to(40)
    bench.say(*m.delay_commands(Kind.RECHARGE_HIGH, m.delay_of(600_000))).say(m.FIRE).wait(SECOND)
    assert 11 <= sum(1 - s.charged for s in bench.seen[-20:]) <= 13  # 0.6 s at 50 ms each
    assert bench.status.charged == 1


@pytest.mark.parametrize(
    ("rule", "status"),
    [
        (Rule("coil_unplugged", at_us=2 * SECOND), "coil_absent"),
        (Rule("coil_hot", 450, at_us=2 * SECOND), "coil_hot"),
        (Rule("charger_fault", at_us=2 * SECOND), "recharge_error"),
    ],
)
@pytest.mark.parametrize("discharges", [0, 1])
def test_a_fault_of_the_device_discharges_it_or_only_shows(
    rule: Rule, status: str, discharges: int
) -> None:
    bench = Bench(rule, fault_discharges=discharges).set_to(40).wait(2 * SECOND)
    assert bench.status.faults == (status,)
    assert bench.status.charged == 1 - discharges
    assert bench.say(m.FIRE).pulses() == [(40, "fire")] * (1 - discharges)
    assert bench.events("fault") == [("fault", "FLAGS")] * discharges


def test_it_charges_again_when_the_fault_is_over_without_asking_anybody() -> None:
    rule = Rule("coil_unplugged", at_us=2 * SECOND, for_us=SECOND)
    bench = Bench(rule).set_to(40).wait(4 * SECOND)
    assert bench.status.charged == 1
    assert [name for name, _ in bench.events()] == ["arm", "ready", "disarm", "arm", "ready"]


def test_an_edge_at_the_trigger_input_fires_and_shows() -> None:
    bench = Bench(Rule("external_trigger", at_us=2 * SECOND)).set_to(40).wait(3 * SECOND)
    assert bench.pulses() == [(40, "external")]
    assert sum(status.ttl_demand for status in bench.seen) == 1


def test_a_pulse_that_nobody_ordered_leaves_only_a_charged_unit() -> None:
    assert Bench(Rule("spontaneous_pulse", at_us=SECOND)).wait(3 * SECOND).pulses() == []
    bench = Bench(Rule("spontaneous_pulse", at_us=2 * SECOND)).set_to(40).wait(3 * SECOND)
    assert bench.pulses() == [(40, "spontaneous")]


@pytest.mark.parametrize(("settings", "rules"), [
    ({"idle_after_ms": 2_000}, []), ({}, [Rule("falls_idle", at_us=2 * SECOND)])
])  # fmt: skip
def test_an_idle_unit_is_discharged_until_it_is_told_an_intensity(
    settings: dict[str, int], rules: list[Rule]
) -> None:
    bench = Bench(*rules, **settings).set_to(40).wait(4 * SECOND)
    assert (bench.status.idle, bench.status.charged) == (1, 0)
    assert bench.say(m.FIRE).pulses() == []
    status = bench.set_to(40, SECOND // 2).status
    assert (status.idle, status.charged) == (0, 1)


def test_a_pulse_heats_the_coil_until_it_is_too_hot() -> None:
    bench = Bench(coil_start_dc=400, coil_heat_permille=900).set_to(100)
    for _ in range(200):
        bench.say(m.FIRE).wait(200 * MS)
    assert bench.status.coil_hot == 1
    assert 10 < len(bench.pulses()) < 200


# -- the line ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "value", "believed"),
    [("drop_frame", None, 18), ("drop_byte", None, 18), ("duplicate", None, 20), ("", None, 19)],
)
def test_faults_of_the_line_act_on_records(kind: str, value: int | None, believed: int) -> None:
    rules = [Rule(kind, value, at_frame=10)] if kind else []
    bench = Bench(*rules).wait(SECOND + 50 * MS)
    assert len(bench.seen) == believed
    assert all(status.mso_pct == 0 for status in bench.seen)


def test_a_lost_byte_on_the_way_in_costs_a_command() -> None:
    bench = Bench(Rule("rx_drop_byte", at_frame=1)).set_to(40)
    assert bench.status.mso_pct == 0
    assert bench.set_to(40).status.mso_pct == 40


def test_a_firmware_without_a_command_ignores_it() -> None:
    bench = Bench(Rule("lacks_command", 121, at_us=0)).set_to(40).say(m.FIRE).wait(SECOND)
    assert bench.pulses() == []


def test_the_same_seed_gives_the_same_bytes() -> None:
    def told() -> bytes:
        rules = (Rule("bit_flip", probability=0.2), Rule("drop_byte", probability=0.2))
        return Bench(*rules).set_to(40).say(m.FIRE).wait(SECOND).heard

    assert told() == told()


def test_fifty_thousand_bytes_of_noise_never_hurt_it() -> None:
    rng = random.Random(9)
    bench = Bench()
    for _ in range(500):
        bench.raw(rng.choices((rng.randbytes(100), b"\x79" * 100, b"\x79\x00" * 50))[0])
        bench.wait(MS)
    assert bench.set_to(30).status.mso_pct == 30
