"""The emulated unit obeys the reference model, however often it is looked at."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim_device.physics import (
    CHARGED_WITHIN_PCT,
    WINDING_TO_COOLANT_W_PER_K,
    Capacitor,
    CoilHeat,
    make_charger,
    make_thermal,
    stored_energy_j,
)
from sim_device.settings import Settings
from sim_device.unit import Unit

SECOND = 1_000_000
CHARGER = make_charger(10_000, 100_000, 200, 250)


def pulse_times(
    trains: int, cycle_us: int, per_train: int, period_us: int, burst: int
) -> list[int]:
    return [
        train * cycle_us + unit * period_us + pulse * 20_000
        for train in range(trains)
        for unit in range(per_train)
        for pulse in range(burst)
    ]


PROTOCOLS = {
    "10 Hz 37.5 min": (60, pulse_times(75, 30 * SECOND, 40, 100_000, 1), 2250),
    "iTBS 600": (60, pulse_times(20, 10 * SECOND, 10, 200_000, 3), 200),
    "SNT 1800": (50, pulse_times(60, 10 * SECOND, 10, 200_000, 3), 600),
}


def heat_after(mso: int, times: list[int], seconds: int, coolant: float) -> tuple[float, CoilHeat]:
    heat = CoilHeat(make_thermal(coolant, 24.0), 0, 20.0, 20.0)
    hottest = 20.0
    for at in times:
        heat = heat.heated(0.10 * stored_energy_j(mso), at)
        hottest = max(hottest, heat.surface_c)
    return max(hottest, heat.at(seconds * SECOND).surface_c), heat


@pytest.mark.parametrize(
    ("protocol", "surface_c", "winding_c"),
    [("10 Hz 37.5 min", 35.9, 37.7), ("iTBS 600", 29.2, 33.8), ("SNT 1800", 35.3, 39.0)],
)
def test_an_uncooled_coil_heats_as_the_reference_table_says(
    protocol: str, surface_c: float, winding_c: float
) -> None:
    mso, times, seconds = PROTOCOLS[protocol]
    hottest, heat = heat_after(mso, times, seconds, 0.0)
    assert hottest == pytest.approx(surface_c, abs=0.3)
    assert heat.at(seconds * SECOND).winding_c == pytest.approx(winding_c, abs=0.3)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_cooled_coil_stays_cool_in_every_protocol(protocol: str) -> None:
    mso, times, seconds = PROTOCOLS[protocol]
    hottest, heat = heat_after(mso, times, seconds, WINDING_TO_COOLANT_W_PER_K)
    assert hottest <= 20.7
    assert heat.at(seconds * SECOND).winding_c <= 19.2


def test_a_coil_left_alone_comes_to_room_temperature() -> None:
    winding_c, surface_c = CoilHeat(make_thermal(0.0, 24.0), 0, 60.0, 50.0).at(36_000 * SECOND)
    assert (winding_c, surface_c) == (pytest.approx(24.0), pytest.approx(24.0))


def test_full_output_stores_252_joules_and_half_of_it_a_quarter() -> None:
    assert stored_energy_j(100) == pytest.approx(252, abs=0.5)
    assert stored_energy_j(50) == pytest.approx(stored_energy_j(100) / 4)


def test_the_set_point_rises_by_one_percent_in_10_ms_and_falls_by_one_in_100_ms() -> None:
    rising = Capacitor(CHARGER).charge_to(60, 0)
    assert rising.at(300_000) == pytest.approx(30)
    assert rising.at(600_000) == 60
    falling = rising.charge_to(50, 600_000)
    assert falling.at(1_100_000) == pytest.approx(55)
    assert falling.at(1_600_000) == pytest.approx(50)
    assert falling.at(9_000_000) == 50


def test_a_pulse_takes_a_quarter_of_the_energy_and_full_output_is_back_in_20_ms() -> None:
    full = Capacitor(CHARGER).charge_to(100, 0)
    after = full.pulsed(2 * SECOND)
    assert stored_energy_j(after.at(2 * SECOND)) == pytest.approx(0.75 * stored_energy_j(100))
    assert after.at(2 * SECOND + 19_000) < 100 - CHARGED_WITHIN_PCT
    assert after.at(2 * SECOND + 20_000) == pytest.approx(100)
    assert after.charged_at_us() <= 2 * SECOND + 20_000  # theta bursts at 50 Hz are possible


@given(st.integers(0, 100), st.integers(0, 100), st.integers(0, 10 * SECOND), st.booleans())
def test_charged_means_within_half_a_percent_and_not_a_microsecond_earlier(
    first: int, second: int, changed_us: int, pulsed: bool
) -> None:
    capacitor = Capacitor(CHARGER).charge_to(first, 0).charge_to(second, changed_us)
    if pulsed:
        capacitor = capacitor.pulsed(changed_us)
    ready = capacitor.charged_at_us()
    assert abs(capacitor.at(ready) - second) <= CHARGED_WITHIN_PCT + 1e-9
    if ready > capacitor.since_us:
        assert abs(capacitor.at(ready - 1) - second) > CHARGED_WITHIN_PCT - 1e-9


STEPS = st.lists(
    st.tuples(st.integers(0, 2 * SECOND), st.sampled_from(("pulse", "set 0", "set 45", "set 90"))),
    max_size=30,
)


@given(STEPS, st.lists(st.integers(0, 2 * SECOND), max_size=30))
def test_looking_at_the_unit_never_changes_it(
    steps: list[tuple[int, str]], looks: list[int]
) -> None:
    quiet_log: list[dict[str, object]] = []
    watched_log: list[dict[str, object]] = []
    quiet, watched = Unit(Settings(), quiet_log.append), Unit(Settings(), watched_log.append)
    now = Settings().clock_us
    for number, (wait_us, step) in enumerate(steps):
        for look in looks[number : number + 3]:
            at = now + min(look, wait_us)
            watched.capacitor.at(at)
            watched.heat.at(at)
            watched.charged_at_us()
        now += wait_us
        for unit in (quiet, watched):
            if step == "pulse":
                unit.discharge(now, "train", 0)
            else:
                unit.charge_to(int(step.split()[1]), now)
    assert quiet_log == watched_log
    assert quiet.heat == watched.heat
    assert quiet.capacitor == watched.capacitor


@given(st.lists(st.integers(1, 60 * SECOND), min_size=1, max_size=20))
def test_cooling_in_many_steps_equals_cooling_in_one(steps: list[int]) -> None:
    start = CoilHeat(make_thermal(0.0, 24.0), 0, 60.0, 40.0)
    stepped, now = start, 0
    for step in steps:
        now += step
        stepped = stepped.heated(0.0, now)
    assert stepped.at(now) == pytest.approx(start.at(now))
