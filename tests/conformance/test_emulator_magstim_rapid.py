"""What an emulated Rapid² does: its firmware generations, its trains, its energy."""

from __future__ import annotations

import itertools

import pytest
from magstim_host import CODE, MS, SECOND, MagstimHost

from firmware_protocol.magstim.energy import wait_min_us
from firmware_protocol.magstim.messages import Answer, Extended, RapidStatus, Status
from sim_device.faults import Rule
from sim_device.magstim_settings import RapidSettings
from sim_device.settings import SetupError, parse_settings

DONE, CONFLICT, BAD_DATA = Answer.DONE, Answer.CONFLICT, Answer.BAD_DATA


def rapid(*sets: str, rules: tuple[Rule, ...] = ()) -> MagstimHost:
    host = MagstimHost("magstim-rapid", *sets, rules=rules)
    host.take()
    return host


def flags(host: MagstimHost) -> RapidStatus:
    return RapidStatus(int(host.read("get_rapid_parameters")["rapid_status"]))


def set_train(host: MagstimHost, frequency_dhz: int, pulses: int, duration_ds: int) -> None:
    """In this order, as MagPy does."""
    assert host.does("set_duration", duration_ds) is DONE
    assert host.does("set_frequency", frequency_dhz) is DONE
    assert host.does("set_pulses", pulses) is DONE


def ready_for(host: MagstimHost, frequency_dhz: int, pulses: int, duration_ds: int,
              power: int = 40) -> MagstimHost:  # fmt: skip
    host.does("set_power", power)
    set_train(host, frequency_dhz, pulses, duration_ds)
    assert host.does("arm") is DONE
    host.until_ready()
    return host


def gaps_us(host: MagstimHost) -> list[int]:
    return [b["t_us"] - a["t_us"] for a, b in itertools.pairwise(host.pulses)]


# -- firmware generations ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("firmware", "parameters"),  # power, frequency, pulses, duration, wait
    [
        ("5.0", "030 0010 0001 000 005"),
        ("7.2.0", "030 0010 0001 000 0005"),
        ("9.0", "030 0010 00001 0000 0005"),
        ("10.0", "030 0010 00001 0000 0005"),
    ],
)
def test_each_generation_has_its_lengths(firmware: str, parameters: str) -> None:
    host = rapid(f"firmware={firmware}")
    for asked, content in (
        ("4e446d", b"NV" + firmware.encode() + b"\0"),
        ("5c4063", b"\\\x89\x28" + parameters.replace(" ", "").encode()),
    ):
        assert host.bytes(asked) == (content + bytes([255 - sum(content) % 256])).hex()


@pytest.mark.parametrize("firmware", ["9.0", "10.0"])
def test_without_the_code_it_is_silent_but_for_four_letters(firmware: str) -> None:
    host = MagstimHost("magstim-rapid", f"firmware={firmware}")
    assert host.does("unlock", "9999-456789ab-cd") is None
    assert host.bytes("51406e") == ""
    answered = {row.name for row in host.dialect.rows if row.name != "unlock" and host.does(
        row.name, *[f.low for f in row.data if f.form.name == "DIGITS"])}  # fmt: skip
    assert answered == {"disable_remote", "get_temperature", "get_rapid_parameters"}
    assert host.bytes("0a") == ""
    assert host.events("remote") == []
    assert host.does("unlock", CODE) is DONE
    assert host.does("get_version") is DONE


@pytest.mark.parametrize(("setting", "alive"), [(0, False), (1, True)])
def test_whether_a_plain_q_keeps_it_alive_is_a_setting(setting: int, alive: bool) -> None:
    host = rapid(f"plain_keep_alive={setting}")
    host.does("arm")
    host.wait(600 * MS)
    assert (host.bytes("51406e") != "") is alive
    host.wait(600 * MS)
    assert (host.events("dead_man") == []) is alive


def test_x_keeps_it_alive() -> None:
    host = rapid()
    host.does("arm")
    for _ in range(5):
        host.wait(900 * MS)
        host.read("get_system_status")
    assert host.events("dead_man") == []


@pytest.mark.parametrize(
    "wrong", ["firmware=9", "firmware=nine", "unlock=0123", "plus=1", "supply=230", "super=2"]
)
def test_a_unit_that_was_never_built_is_refused(wrong: str) -> None:
    with pytest.raises(SetupError):
        parse_settings([wrong], RapidSettings)


def test_its_flags_say_what_it_is() -> None:
    assert flags(rapid()) == RapidStatus.SINGLE_PULSE | RapidStatus.COIL_READY
    plus = rapid("super=1", "plus=1")
    assert flags(plus) == (
        RapidStatus.SINGLE_PULSE | RapidStatus.COIL_READY | RapidStatus.HV_PSU
        | RapidStatus.THETA_PSU
    )  # fmt: skip
    assert plus.read("get_system_status")["extended"] == Extended.PLUS1


def test_an_error_has_a_code() -> None:
    host = rapid("error=X12", rules=(Rule("charger_fault", at_us=SECOND),))
    assert host.read("get_error")["error"] == "000"
    host.wait(SECOND)
    assert host.read("get_error")["error"] == "X12"


# -- single pulses -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("enhanced", "power", "rest_s"),
    [(False, 100, 1), (True, 99, 1), (True, 100, 2), (True, 110, 2)],
)
def test_single_pulses_come_once_a_second_or_every_other(
    enhanced: bool, power: int, rest_s: int
) -> None:
    host = rapid()
    if enhanced:
        assert host.does("enhanced_power_on") is DONE
    host.does("set_power", power)
    host.does("arm")
    host.until_ready()
    host.fire()
    host.until_ready()
    assert host.levels == [power]
    assert host.events("ready")[1]["t_us"] - host.pulses[0]["t_us"] == rest_s * SECOND


def test_more_than_100_percent_needs_enhanced_power_which_standby_alone_gives() -> None:
    host = rapid()
    assert host.does("set_power", 101) is BAD_DATA
    assert host.does("enhanced_power_on") is DONE
    assert host.does("set_power", 110) is DONE
    assert host.does("set_duration", 10) is CONFLICT
    assert host.does("arm") is DONE
    assert host.does("enhanced_power_off") is CONFLICT
    host.does("disarm")
    assert host.does("enhanced_power_off") is DONE
    assert host.read("get_rapid_parameters")["power"] == 100
    assert host.does("set_duration", 10) is DONE
    assert host.does("enhanced_power_on") is CONFLICT


@pytest.mark.parametrize(("unit_us", "rest_us"), [(1_000, 1_500_000), (1_000_000, 2_000_000)])
def test_a_charge_delay_puts_off_the_next_pulse(unit_us: int, rest_us: int) -> None:
    host = rapid("firmware=10.0", f"charge_delay_us={unit_us}")
    delay = rest_us // unit_us if unit_us > 1_000 else 1_500
    assert host.does("set_charge_delay", delay) is DONE
    assert host.read("get_charge_delay")["delay"] == delay
    assert Extended.CHARGE_DELAY in Extended(int(host.read("get_system_status")["extended"]))
    host.does("set_power", 60)
    host.does("arm")
    host.until_ready()
    host.fire()
    host.keep(rest_us - 100 * MS)
    assert round(host.unit.unit.capacitor.at(host.now)) == 52  # what a pulse leaves of 60
    host.until_ready()
    assert host.events("ready")[1]["t_us"] - host.pulses[0]["t_us"] - rest_us in range(100 * MS)
    host.fire()
    assert host.levels == [60, 60]


def test_a_coil_with_a_switch_that_nobody_holds_is_not_armed_unless_it_is_ignored() -> None:
    host = rapid("coil_switch=1")
    assert RapidStatus.COIL_READY not in flags(host)
    assert host.does("arm") is CONFLICT
    assert host.does("ignore_coil_switch") is DONE
    assert RapidStatus.COIL_READY in flags(host)
    assert host.does("arm") is DONE


# -- trains --------------------------------------------------------------------------------------


def test_a_train_leaves_with_its_frequency_power_and_number() -> None:
    host = ready_for(rapid("super=1"), 300, 30, 10)
    assert host.does("fire") is DONE
    host.keep(500 * MS, step_us=100 * MS)
    assert RapidStatus.TRAIN in flags(host)
    assert host.does("fire") is CONFLICT
    assert host.does("set_power", 41) is host.does("set_frequency", 10) is CONFLICT
    host.keep(SECOND)
    assert host.levels == [40] * 30
    assert set(gaps_us(host)) == {33_333, 33_334}
    assert host.pulses[-1]["t_us"] - host.pulses[0]["t_us"] == 29 * SECOND // 30
    (begun,), (ended,) = host.events("train_start"), host.events("train_end")
    assert (begun["pulses"], begun["frequency_dhz"]) == (30, 300)
    assert (ended["fired"], ended["cause"]) == (30, "complete")


@pytest.mark.parametrize(("after_us", "answer"), [(499_999, CONFLICT), (500_000, DONE)])
def test_nothing_is_accepted_for_half_a_second_after_a_train(after_us: int, answer: Answer) -> None:
    host = ready_for(rapid(), 100, 2, 2)
    host.fire(wait_us=0)
    host.wait(105 * MS)
    ended_us = host.events("train_end")[0]["t_us"]
    assert RapidStatus.WAIT in flags(host)
    host.wait(ended_us + after_us - host.now)
    assert host.does("set_pulses", 3) is answer
    assert RapidStatus.WAIT not in flags(host)
    assert Status.READY in host.status()
    assert host.events("ready")[1]["t_us"] == ended_us + 500_000
    assert host.fire() is DONE


def test_a_loss_of_power_forgets_the_mode_and_what_was_set() -> None:
    host = rapid(rules=(Rule("reboot", 500, at_us=SECOND),))
    before = host.read("get_rapid_parameters")
    set_train(host, 100, 5, 5)
    assert host.does("ignore_coil_switch") is DONE
    host.wait(2 * SECOND)
    host.take()
    assert host.read("get_rapid_parameters") == before


@pytest.mark.parametrize(
    ("ends", "pulses", "duration", "wanted"),
    [
        ("later", 5, 10, 10), ("later", 12, 10, 12), ("pulses", 5, 10, 5),
        ("duration", 5, 10, 10), ("duration", 12, 5, 5),
    ],
)  # fmt: skip
def test_what_ends_a_train_is_a_setting(ends: str, pulses: int, duration: int, wanted: int) -> None:
    host = ready_for(rapid(f"train_ends={ends}"), 100, pulses, duration)
    host.fire()
    host.keep(2 * SECOND)
    assert len(host.pulses) == wanted


@pytest.mark.parametrize(
    ("sets", "power", "highest"),
    [
        (("supply=240",), 50, 300), (("supply=240", "super=1"), 80, 300),
        (("supply=240", "super=1"), 79, 360), (("super=1", "plus=1"), 100, 410),
        (("supply=115",), 100, 110), (("supply=115", "super=1", "plus=1"), 49, 600),
    ],
)  # fmt: skip
def test_the_highest_frequency_follows_from_power_supply_and_type(
    sets: tuple[str, ...], power: int, highest: int
) -> None:
    host = rapid(*sets)
    host.does("set_power", power)
    assert host.does("set_frequency", highest) is DONE
    assert host.does("set_frequency", highest + 10) is BAD_DATA
    if highest > 300:
        assert host.does("set_frequency", highest - 5) is BAD_DATA  # tenths up to 30 Hz only
    assert host.does("set_frequency", 295 if highest >= 300 else highest - 5) is DONE


@pytest.mark.parametrize(("over", "frequency"), [("lowers", 150), ("refuses", 300)])
def test_more_power_than_the_frequency_bears_lowers_it_or_is_not_fired(
    over: str, frequency: int
) -> None:
    host = rapid(f"over_frequency={over}")
    set_train(host, 300, 3, 1)
    host.does("set_power", 100)
    assert host.read("get_rapid_parameters")["frequency"] == frequency
    host.does("arm")
    host.until_ready()
    assert host.fire() is (DONE if over == "lowers" else CONFLICT)


def test_a_frequency_of_0_is_never_fired() -> None:
    host = rapid()
    set_train(host, 0, 5, 5)
    host.does("arm")
    host.until_ready()
    assert host.fire() is CONFLICT
    assert host.does("set_frequency", 1) is DONE
    assert host.fire() is DONE


def test_durations_have_their_bounds() -> None:
    host = rapid()
    for duration, answer in ((300, DONE), (301, BAD_DATA), (310, DONE), (1_000, DONE),
                             (1_010, BAD_DATA)):  # fmt: skip
        assert host.does("set_duration", duration) is answer
    assert rapid("duration_max_ds=6000").does("set_duration", 6_000) is DONE
    old = rapid("firmware=7.0")
    assert old.does("set_duration", 100) is DONE
    assert old.bytes("5b313031" + "11") == "5b3f65"  # 10.1 s


def test_leaving_the_mode_for_trains_makes_single_pulses_again() -> None:
    host = rapid()
    set_train(host, 100, 5, 5)
    assert RapidStatus.SINGLE_PULSE not in flags(host)
    assert host.does("set_duration", 0) is DONE
    assert RapidStatus.SINGLE_PULSE in flags(host)
    host.does("arm")
    host.until_ready()
    host.fire()
    host.keep(SECOND)
    assert len(host.pulses) == 1


@pytest.mark.parametrize(("stops", "least", "most"), [(0, 20, 20), (1, 5, 6)])
@pytest.mark.parametrize("how", ["disarm", "disable_remote", "silence"])
def test_a_running_train_outlives_disarming_unless_it_is_set_to_end(
    how: str, stops: int, least: int, most: int
) -> None:
    host = ready_for(rapid(f"stops_on_disarm={stops}"), 100, 20, 20)
    host.does("fire")
    if how != "silence":
        host.wait(500 * MS)
        host.does(how)
    host.wait(5 * SECOND)
    if how == "silence":
        least, most = (20, 20) if not stops else (10, 11)
    assert least <= len(host.pulses) <= most
    assert host.events("disarm")[0]["t_us"] < host.pulses[0]["t_us"] + 2 * SECOND
    assert host.unit.unit.capacitor.target == 0


@pytest.mark.parametrize("kind", ["coil_unplugged", "disarms_itself", "charger_fault", "reboot"])
def test_what_the_unit_itself_notices_ends_a_train_at_once(kind: str) -> None:
    host = ready_for(rapid(rules=(Rule(kind, at_us=3 * SECOND),)), 100, 100, 100)
    host.keep(3_300 * MS - host.now)
    host.does("fire")
    host.wait(990 * MS)
    assert 0 < len(host.pulses) < 10
    assert host.pulses[-1]["t_us"] <= 4 * SECOND
    assert host.events("train_end")[0]["t_us"] == 4 * SECOND
    host.wait(5 * SECOND)
    assert len(host.pulses) < 10


def test_a_trigger_starts_a_train() -> None:
    host = ready_for(rapid(rules=(Rule("external_trigger", at_us=3 * SECOND),)), 100, 4, 4)
    host.keep(3 * SECOND)
    assert [pulse["cause"] for pulse in host.pulses] == ["trigger"] * 4


# -- energy --------------------------------------------------------------------------------------


def strong(*sets: str) -> MagstimHost:
    """73 %, 25 Hz, 250 pulses: 21.95 s of rest."""
    host = rapid("super=1", "cooled=1", *sets)
    return ready_for(host, 250, 250, 100, power=73)


@pytest.mark.parametrize(("early_us", "faults"), [(1 * SECOND, 1), (0, 0)])
def test_a_train_before_its_time_is_a_fault_in_the_log(early_us: int, faults: int) -> None:
    host = strong()
    host.does("fire")
    host.keep(10 * SECOND)
    (ended,) = host.events("train_end")
    assert ended["fired"] == 250
    host.keep(ended["t_us"] + wait_min_us(73, 250, 250) - early_us - host.now)
    host.until_ready()
    assert host.fire() is DONE
    assert len(host.events("fault")) == faults


def test_a_unit_may_refuse_a_train_before_its_time() -> None:
    host = strong("enforces_energy=1")
    host.does("fire")
    host.keep(12 * SECOND)
    assert RapidStatus.WAIT in flags(host)
    assert host.does("fire") is CONFLICT
    host.keep(21 * SECOND)
    assert RapidStatus.WAIT not in flags(host)
    assert host.does("fire") is DONE


@pytest.mark.parametrize(("duration", "answer"), [(187, DONE), (188, CONFLICT)])
def test_a_train_longer_than_a_minute_allows_is_refused_or_a_fault(
    duration: int, answer: Answer
) -> None:
    """73 %, 25 Hz: 18.78 s."""
    host = ready_for(rapid("super=1", "enforces_energy=1"), 250, 1, duration, power=73)
    assert host.does("fire") is answer
    logs = ready_for(rapid("super=1"), 250, 1, duration, power=73)
    assert logs.fire() is DONE
    assert len(logs.events("fault")) == (answer is CONFLICT)
