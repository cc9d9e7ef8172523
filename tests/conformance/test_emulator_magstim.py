"""What all emulated Magstim units do, byte by byte, and what a 200² does."""

from __future__ import annotations

import pytest
from magstim_host import MS, SECOND, MagstimHost

from firmware_protocol.magstim.messages import Answer, Status
from sim_device.faults import Rule

DONE, CONFLICT, BAD_DATA = Answer.DONE, Answer.CONFLICT, Answer.BAD_DATA
STANDBY, ARMED, READY = (
    Status.COIL_PRESENT | s for s in (Status.STANDBY, Status.ARMED, Status.READY)
)
REMOTE = Status.REMOTE
MODELS = ("magstim-200", "magstim-bistim", "magstim-rapid")


# -- bytes ---------------------------------------------------------------------------------------


def test_the_bytes_are_those_that_magpy_exchanges_with_a_200() -> None:
    host = MagstimHost("magstim-200")
    assert host.bytes("51406e") == "518925"
    assert host.bytes("4a4075") == "4a8930333030303030303079"
    assert host.bytes("403035302a") == "408936"
    assert host.bytes("454278", 501 * MS) == "458931"  # armed: the status before
    assert host.bytes("51406e", 501 * MS) == "518a24"
    assert host.bytes("51406e") == "518c22"
    assert host.bytes("454872") == "458c2e"  # fired: the status before
    assert host.bytes("51406e") == "518826"  # spent
    assert host.bytes("454278") == "455367"
    assert host.bytes("454179") == "458832"
    assert host.bytes("52406d") == "5209a4"


def test_errors_have_three_forms() -> None:
    host = MagstimHost("magstim-200")
    assert host.bytes("0a") == "3f"  # a stray LF
    assert host.bytes("21de") == "3f3f"  # one for each byte
    assert host.bytes("454872") == "455367"  # no remote control
    host.take()
    assert host.bytes("4031303129") == "403f80"  # 101 %
    assert host.bytes("403035302b") == "403f80"  # wrong checksum
    assert host.bytes("454377") == "453f7b"  # no such mode
    assert host.bytes("4341414141") == "433f7d"
    quiet = MagstimHost("magstim-200", "bad_checksum=silence", "bistim_commands=conflict")
    quiet.take()
    assert quiet.bytes("403035302b") == ""
    assert quiet.bytes("433031302b") == "435369"


def test_a_reply_leaves_when_the_setting_says() -> None:
    host = MagstimHost("magstim-200", "reply_us=7000")
    assert host.bytes("51406e", 6_999) == ""
    assert host.wait(1).hex() == "518925"


@pytest.mark.parametrize(("partial_us", "answers"), [(0, False), (50_000, True)])
def test_a_command_that_was_begun_waits_or_is_forgotten(partial_us: int, answers: bool) -> None:
    host = MagstimHost("magstim-200", f"partial_us={partial_us}")
    host.bytes("40", 100 * MS)
    assert (host.bytes("51406e") == "518925") is answers


@pytest.mark.parametrize(("gap_us", "forgotten"), [(50_000, False), (50_001, True)])
def test_a_command_is_forgotten_after_the_silence_since_its_newest_byte(
    gap_us: int, forgotten: bool
) -> None:
    host = MagstimHost("magstim-200", "partial_us=50000")
    assert host.bytes("40", 40_000) == host.bytes("3035", gap_us) == ""
    assert host.bytes("302a") == ("3f3f" if forgotten else "40536c")


@pytest.mark.parametrize("model", MODELS)
def test_commands_need_remote_control_but_for_those_that_read_or_make_safe(model: str) -> None:
    host = MagstimHost(model, *(["firmware=7.0"] if model == "magstim-rapid" else []))
    free = {"enable_remote", "disable_remote", "disarm", "get_temperature", "get_parameters",
            "get_rapid_parameters"}  # fmt: skip
    for row in host.dialect.rows:
        values = [field.low for field in row.data if field.form.name == "DIGITS"]
        wanted = DONE if row.name in free else CONFLICT
        assert host.does(row.name, *values) is wanted, row.name
        host.does("disable_remote")


def test_what_nobody_knows_to_need_remote_control_can_be_asked_without() -> None:
    assert MagstimHost("magstim-bistim").does("get_mode") is CONFLICT
    assert MagstimHost("magstim-bistim", "unknown_needs_remote=0").does("get_mode") is DONE


# -- arming, power, pulses -----------------------------------------------------------------------


@pytest.mark.parametrize("model", MODELS)
def test_arming_takes_a_second_and_the_status_says_how_far_it_is(model: str) -> None:
    host = MagstimHost(model)
    host.take()
    assert host.status() == STANDBY | REMOTE
    host.does("arm")
    assert host.status() == ARMED | REMOTE
    host.keep(980 * MS)
    assert host.status() == ARMED | REMOTE
    assert host.until_ready() <= 20 * MS
    assert host.status() == READY | REMOTE
    assert [line["event"] for line in host.truth] == ["remote", "arm", "ready"]
    ready = host.events("ready")[0]["t_us"] - host.events("arm")[0]["t_us"]
    assert ready == SECOND


def test_arming_lasts_as_long_as_the_setting_says() -> None:
    host = MagstimHost("magstim-200", "arming_us=1234567")
    host.get_ready()
    assert host.events("ready")[0]["t_us"] - host.events("arm")[0]["t_us"] == 1_234_567
    assert host.events("remote")[0]["on"]


def test_power_settles_fast_up_and_slowly_down() -> None:
    host = MagstimHost("magstim-200")
    host.get_ready(50)
    host.does("set_power", 60)
    assert host.status() == ARMED | REMOTE
    assert 85 * MS <= host.until_ready() <= 110 * MS
    host.does("set_power", 50)
    assert host.status() == ARMED | REMOTE
    assert 940 * MS <= host.until_ready() <= 1_010 * MS
    host.fire()
    assert host.levels == [50]


def test_a_fire_command_is_a_pulse_only_when_ready() -> None:
    host = MagstimHost("magstim-200", "fire_us=6000")
    host.take()
    assert host.fire() is CONFLICT
    host.does("arm")
    assert host.fire() is CONFLICT
    host.until_ready()
    began_us = host.now
    assert host.fire() is DONE
    assert host.fire() is CONFLICT
    assert [pulse["t_us"] for pulse in host.pulses] == [began_us + 6_000]
    assert host.levels == [30]


@pytest.mark.parametrize(("power", "wait_s"), [(49, 2), (50, 3), (79, 3), (80, 4), (100, 4)])
def test_a_200_recharges_in_two_three_or_four_seconds(power: int, wait_s: int) -> None:
    host = MagstimHost("magstim-200")
    host.get_ready(power)
    host.fire()
    host.until_ready()
    (pulse,) = host.pulses
    assert host.events("ready")[1]["t_us"] - pulse["t_us"] == wait_s * SECOND


def test_just_after_a_pulse_it_is_in_no_phase_for_as_long_as_the_setting_says() -> None:
    host = MagstimHost("magstim-200", "after_pulse_us=200000")
    host.get_ready()
    host.fire(wait_us=180 * MS)
    assert host.status() == Status.COIL_PRESENT | REMOTE  # 88
    host.wait(30 * MS)
    assert host.status() == ARMED | REMOTE


# -- what ends it --------------------------------------------------------------------------------


def test_a_second_of_silence_disarms_and_drops_remote_control() -> None:
    host = MagstimHost("magstim-200")
    host.get_ready()
    host.wait(995 * MS)
    assert host.status() == READY | REMOTE  # 5 ms for each answer: heard after exactly 1 s
    host.wait(996 * MS)
    assert host.status() == STANDBY
    assert [line["event"] for line in host.truth][-3:] == ["dead_man", "disarm", "remote"]
    assert host.events("dead_man")[0]["t_us"] == host.now - 6 * MS + 1


def test_what_is_refused_keeps_nothing_alive() -> None:
    host = MagstimHost("magstim-200")
    host.get_ready()
    host.wait(600 * MS)
    assert host.does("arm") is CONFLICT
    host.wait(600 * MS)
    assert host.events("dead_man")


@pytest.mark.parametrize(("setting", "lost"), [(6_000_000, True), (0, False)])
def test_silence_in_standby_is_a_setting(setting: int, lost: bool) -> None:
    host = MagstimHost("magstim-200", f"standby_keep_alive_us={setting}")
    host.take()
    host.wait(5 * SECOND)
    assert host.status() == STANDBY | REMOTE
    host.wait(6 * SECOND)
    assert (host.status() == STANDBY) is lost


def test_a_minute_armed_without_a_pulse_disarms() -> None:
    host = MagstimHost("magstim-200")
    host.get_ready()
    armed_us = host.events("arm")[0]["t_us"]
    host.keep(armed_us + 60 * SECOND - host.now - 10 * MS)
    assert host.status() == READY | REMOTE
    host.keep(100 * MS)
    assert host.status() == STANDBY | REMOTE
    (disarmed,) = host.events("disarm")
    assert (disarmed["cause"], disarmed["t_us"]) == ("idle", armed_us + 60 * SECOND + 1)


def test_a_pulse_begins_that_minute_anew() -> None:
    host = MagstimHost("magstim-200")
    host.get_ready()
    host.keep(50 * SECOND)
    host.fire()
    host.keep(50 * SECOND)
    assert host.status() == READY | REMOTE


def test_giving_remote_control_back_disarms() -> None:
    host = MagstimHost("magstim-200")
    host.get_ready()
    assert host.bytes("52406d") == "5209a4"
    assert [line["event"] for line in host.truth][-2:] == ["disarm", "remote"]
    assert not host.truth[-1]["on"]
    assert host.fire() is CONFLICT


@pytest.mark.parametrize("model", MODELS)
def test_above_40_degrees_it_disarms_and_cannot_be_armed(model: str) -> None:
    host = MagstimHost(model, rules=(Rule("coil_hot", 400, at_us=3 * SECOND),))
    host.get_ready()
    host.keep(3 * SECOND)
    assert host.status() == READY | REMOTE  # exactly 40 is not above
    hot = MagstimHost(model, rules=(Rule("coil_hot", 401, at_us=3 * SECOND),))
    hot.get_ready()
    hot.keep(2 * SECOND)
    assert hot.status() == STANDBY | REMOTE
    assert hot.read("get_temperature")["coil_1"] == 401
    assert hot.does("arm") is CONFLICT
    assert hot.events("fault")[0]["cause"] == "coil_hot"
    shows = MagstimHost("magstim-200", "coil_start_dc=450", "replace_when_hot=1")
    assert Status.REPLACE_COIL in shows.status()


def test_a_coil_that_heats_slowly_is_noticed_without_a_pulse() -> None:
    host = MagstimHost("magstim-200", "coil_start_dc=395", "room_dc=395",
                       rules=(Rule("coil_heats", 10, at_us=0),))  # fmt: skip
    host.take()
    host.does("arm")
    host.wait(800 * MS)
    assert host.status() == STANDBY | REMOTE


def test_without_a_coil_it_disarms_at_once_and_cannot_be_armed() -> None:
    host = MagstimHost("magstim-200", rules=(Rule("coil_unplugged", at_us=3 * SECOND),))
    host.get_ready()
    host.keep(3 * SECOND)
    assert host.status() == Status.STANDBY | REMOTE
    assert host.does("arm") is CONFLICT


def test_a_pulse_that_was_ordered_leaves_even_when_it_is_disarmed_meanwhile() -> None:
    """The safer default for a host that relies on it."""
    for stops, pulses in ((0, 1), (1, 0)):
        host = MagstimHost("magstim-200", "fire_us=20000", f"stops_on_disarm={stops}")
        host.get_ready()
        host.fire(wait_us=0)
        host.does("disarm")
        host.wait(50 * MS)
        assert len(host.pulses) == pulses
        assert host.unit.unit.capacitor.target == 0


# -- people and faults ---------------------------------------------------------------------------


@pytest.mark.parametrize("model", MODELS)
def test_a_person_turns_the_knob_and_stops_and_somebody_triggers(model: str) -> None:
    rules = (
        Rule("panel_setting", 5, at_us=3 * SECOND),
        Rule("external_trigger", at_us=4 * SECOND),
        Rule("disarms_itself", at_us=12 * SECOND),
        Rule("external_trigger", at_us=13 * SECOND),
    )
    host = MagstimHost(model, rules=rules)
    host.get_ready()
    host.keep(14 * SECOND)
    assert {pulse["cause"] for pulse in host.pulses} == {"trigger"}
    assert host.pulses[0]["t_us"] == 5 * SECOND
    assert host.pulses[0]["power"] == 55
    assert [line["cause"] for line in host.events("disarm")] == ["panel"]
    assert len(host.pulses) == (2 if model == "magstim-bistim" else 1)


def test_a_charger_fault_is_fatal_until_it_is_switched_off() -> None:
    rules = (Rule("charger_fault", at_us=3 * SECOND), Rule("reboot", 500, at_us=5 * SECOND))
    host = MagstimHost("magstim-200", rules=rules)
    host.get_ready()
    host.keep(2 * SECOND)
    assert host.status() == STANDBY | REMOTE | Status.ERROR | Status.FATAL
    assert [line["cause"] for line in host.events("fault")] == ["charger"]
    assert host.does("arm") is CONFLICT
    host.wait(3 * SECOND)
    assert host.status() == STANDBY
    host.take()
    assert host.does("arm") is DONE


def test_a_loss_of_power_ends_everything() -> None:
    host = MagstimHost("magstim-200", rules=(Rule("reboot", 500, at_us=3 * SECOND),))
    host.get_ready(80)
    host.keep(2 * SECOND - 200 * MS)
    assert host.bytes("4030") == ""
    host.wait(300 * MS)
    assert host.bytes("51406e") == ""
    assert [line["cause"] for line in host.events("disarm")] == ["power"]
    host.wait(500 * MS)
    assert host.bytes("51406e") == "518925"  # what was begun before is no part of it
    assert host.bytes("52406d") == "5209a4"
    assert host.read("get_parameters")["power"] == 30
    assert host.status() == STANDBY


def test_a_unit_in_standby_that_loses_power_was_not_armed() -> None:
    host = MagstimHost("magstim-200", rules=(Rule("reboot", 500, at_us=SECOND),))
    host.take()
    host.wait(2 * SECOND)
    assert host.events("disarm") == []
    assert host.status() == STANDBY


def test_a_sensor_below_zero_reads_zero() -> None:
    host = MagstimHost("magstim-200", rules=(Rule("sensor_wrong", -100, at_us=0),))
    host.wait(1)
    assert host.bytes("464079")[4:16] == "303030303030"


def test_its_timers_work_again_after_a_loss_of_power() -> None:
    host = MagstimHost("magstim-200", rules=(Rule("reboot", 500, at_us=3 * SECOND),))
    host.get_ready()
    host.keep(2 * SECOND - 200 * MS)
    host.wait(SECOND)
    host.take()
    host.does("arm")
    host.wait(1_100 * MS)
    armed, dead = host.events("arm")[1]["t_us"], host.events("dead_man")[0]["t_us"]
    assert dead - armed == SECOND + 1


def test_it_can_fire_by_itself_and_fall_idle() -> None:
    rules = (Rule("spontaneous_pulse", at_us=3 * SECOND), Rule("falls_idle", at_us=8 * SECOND))
    host = MagstimHost("magstim-200", rules=rules)
    host.get_ready()
    host.keep(4 * SECOND + 50 * MS - host.now)
    assert host.status() == Status.COIL_PRESENT | REMOTE
    host.keep(9 * SECOND)
    assert [pulse["cause"] for pulse in host.pulses] == ["spontaneous"]
    assert host.status() == STANDBY | REMOTE
