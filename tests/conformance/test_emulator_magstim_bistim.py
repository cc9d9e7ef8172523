"""What an emulated BiStim² does: pairs, both at once, and its two resolutions."""

from __future__ import annotations

from typing import Any

import pytest
from magstim_host import MS, SECOND, MagstimHost

from firmware_protocol.magstim.messages import Answer, Status
from sim_device.faults import Rule

DONE, CONFLICT = Answer.DONE, Answer.CONFLICT
REMOTE = Status.REMOTE
ARMED, READY = (Status.COIL_PRESENT | phase for phase in (Status.ARMED, Status.READY))


def paired(*sets: str) -> MagstimHost:
    host = MagstimHost("magstim-bistim", *sets)
    host.take()
    host.wait(100 * MS)
    return host


def test_a_bistim_shows_what_others_captured_from_one() -> None:
    host = paired()
    host.does("high_resolution")
    assert host.bytes("4a4075") == "4a8930333030333030313075"
    assert host.bytes("584067") == "588934ea"


def test_a_pair_leaves_with_its_interval_and_nine_tenths_of_its_power() -> None:
    for high, interval, gap_us in ((False, 25, 25_000), (True, 25, 2_500), (False, 999, 999_000)):
        host = paired()
        host.does("high_resolution" if high else "low_resolution")
        host.does("set_power", 60)
        host.does("set_power_b", 40)
        host.does("set_interval", interval)
        host.does("arm")
        host.until_ready()
        host.fire()
        if gap_us > 500_000:  # spent until the second one, whatever after_pulse_us says
            host.wait(500 * MS)
            assert host.status() == Status.COIL_PRESENT | REMOTE
        host.keep(SECOND)
        assert host.levels == [54, 36]
        first, second = (pulse["t_us"] for pulse in host.pulses)
        assert second - first == gap_us
        host.until_ready()
        assert host.events("ready")[1]["t_us"] - second == 4 * SECOND


def test_somebody_at_its_panel_sets_the_interval_while_it_is_armed() -> None:
    host = MagstimHost("magstim-bistim", rules=(Rule("panel_gap", 0, at_us=3 * SECOND),))
    host.take()
    host.get_ready(50)
    host.keep(2 * SECOND)
    assert host.read("get_mode")["mode"] == "1"
    host.until_ready()
    host.fire()
    host.keep(SECOND)
    assert host.levels == [56]


def test_an_interval_of_0_discharges_both_at_once() -> None:
    host = paired()
    host.does("set_interval", 0)
    assert host.read("get_mode")["mode"] == "1"
    host.does("set_power", 60)
    host.does("arm")
    host.until_ready()
    host.fire()
    assert host.levels == [68]  # 113 %


def test_without_power_b_it_is_a_single_unit() -> None:
    host = paired()
    host.does("set_power_b", 0)
    assert host.read("get_mode")["mode"] == "0"
    host.does("arm")
    host.until_ready()
    host.fire()
    host.keep(SECOND)
    assert host.levels == [27]


@pytest.mark.parametrize(("after_us", "answer"), [(99_999, CONFLICT), (100_000, DONE)])
def test_the_resolution_can_be_changed_100_ms_after_remote_control(
    after_us: int, answer: Answer
) -> None:
    host = MagstimHost("magstim-bistim")
    host.wait(SECOND)
    host.take()  # 5 ms
    host.wait(after_us - 5 * MS)
    assert host.does("high_resolution") is answer


def test_the_resolution_sets_its_interval_and_can_be_changed_in_standby_only() -> None:
    host = paired()
    assert host.does("high_resolution") is DONE
    assert host.read("get_parameters")["interval"] == 10
    assert host.read("get_mode")["mode"] == "4"
    host.does("set_interval", 999)
    assert host.does("low_resolution") is DONE
    assert host.read("get_parameters")["interval"] == 10
    assert host.read("get_mode")["mode"] == "2"
    host.does("high_resolution")
    host.does("arm")
    assert host.does("low_resolution") is CONFLICT


def test_a_loss_of_power_ends_the_high_resolution() -> None:
    host = MagstimHost("magstim-bistim", rules=(Rule("reboot", 500, at_us=SECOND),))
    host.take()
    host.wait(100 * MS)
    host.does("high_resolution")
    host.wait(2 * SECOND)
    host.take()
    assert host.read("get_mode")["mode"] == "2"


def test_power_b_settles_like_power_a_and_both_have_to_be_there() -> None:
    host = paired("arming_us=0", "power=5", "power_b=100")
    host.does("arm")
    assert 870 * MS <= host.until_ready() <= 910 * MS  # 90 % in 10 ms each
    host.does("set_power_b", 90)
    assert host.status() == ARMED | REMOTE
    assert 830 * MS <= host.until_ready() <= 910 * MS  # 9 % down
    host.fire()
    host.keep(100 * MS)
    assert host.levels == [4, 81] or host.levels == [5, 81]
    assert [pulse.get("second", False) for pulse in host.pulses] == [False, True]


def test_a_slow_charger_is_slow_for_both() -> None:
    host = paired("arming_us=0", "power=1", "power_b=20")
    host.unit.faults.add(Rule("charger_slow", 10, at_us=0))
    host.wait(MS)
    host.does("arm")
    assert host.until_ready() >= 1_700 * MS


def test_an_interval_of_0_charges_anew_and_another_one_does_not() -> None:
    host = paired()
    host.does("arm")
    host.until_ready()
    host.does("set_interval", 20)
    assert host.status() == READY | REMOTE
    host.does("set_interval", 0)
    assert host.status() == ARMED | REMOTE
    host.until_ready()
    host.does("set_interval", 20)
    assert host.status() == ARMED | REMOTE  # back to 90 %
    host.does("set_interval", 0)
    host.until_ready()
    host.fire()
    assert (host.levels, host.pulses[0]["both"]) == ([34], True)


def test_both_at_once_take_from_both_capacitors() -> None:
    host = paired("power=60", "recharge_us_per_pct=20000", "both_rest_us=0", "arming_us=0")
    host.does("set_interval", 0)
    host.does("arm")
    for _ in range(30):
        host.keep(500 * MS)
    host.until_ready()
    host.fire(wait_us=MS)
    part: Any = host.unit.model.part
    assert part._bank_b.at(host.now) == pytest.approx(host.unit.unit.capacitor.at(host.now), abs=1)
    assert part._bank_b.at(host.now) < 60


def test_both_capacitors_bleed_while_there_is_no_power() -> None:
    host = paired("power_b=100")
    host.unit.faults.add(Rule("reboot", 20_000, at_us=4 * SECOND))
    host.does("arm")
    host.until_ready()
    host.keep(5 * SECOND - host.now)
    host.wait(21 * SECOND)
    host.take()
    host.does("set_power_b", 5)
    host.does("arm")
    assert host.until_ready() < 1_100 * MS


@pytest.mark.parametrize(("stops", "pulses"), [(0, 2), (1, 1)])
def test_disarming_within_a_pair_ends_it_or_not(stops: int, pulses: int) -> None:
    host = paired(f"stops_on_disarm={stops}")
    host.does("set_interval", 500)
    host.does("arm")
    host.until_ready()
    host.fire()
    host.does("disarm")
    assert host.does("arm") is (CONFLICT if pulses == 2 else DONE)
    host.keep(SECOND)
    assert len(host.pulses) == pulses
    if pulses == 2:
        assert host.unit.unit.capacitor.target == host.unit.model.part._bank_b.target == 0
