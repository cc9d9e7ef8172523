"""Two clocks: the true offset lies within the error that is told, whatever the line delays."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.tmslink.clock import SAMPLES_KEPT, ClockEstimate
from firmware_protocol.quantities import BootUs, DeviceUs

START = 10_000_000_000
DELAYS = st.integers(0, 60_000)
ROUND_TRIPS = st.lists(st.tuples(DELAYS, DELAYS), min_size=1, max_size=200)
STATUS_US = 20_000


def observed(clock: ClockEstimate, sent_at: int, there_us: int, back_us: int, offset: int) -> None:
    """One round trip to a device whose clock is `offset` ahead, asked at `sent_at`."""
    made_at = sent_at + there_us
    clock.observe(
        DeviceUs(made_at + offset), not_before=BootUs(sent_at), not_after=BootUs(made_at + back_us)
    )


def error_of(clock: ClockEstimate) -> int:
    assert clock.error_us is not None
    return clock.error_us


def test_before_the_first_round_trip_nothing_is_known() -> None:
    assert ClockEstimate().error_us is None


@pytest.mark.parametrize("offset", [-3_000_000, 0, 7_000_000_000])
@pytest.mark.parametrize(("there_us", "back_us"), [(0, 0), (1, 0), (0, 1), (500, 0), (0, 499)])
def test_one_round_trip_gives_half_of_it_as_error(offset: int, there_us: int, back_us: int) -> None:
    clock = ClockEstimate()
    observed(clock, START, there_us, back_us, offset)
    assert clock.error_us == (there_us + back_us + 1) // 2
    assert abs(clock.device(BootUs(START)) - (START + offset)) <= clock.error_us


@given(ROUND_TRIPS, st.integers(-START, 2**53))
def test_the_true_offset_is_always_within_the_error(
    trips: list[tuple[int, int]], offset: int
) -> None:
    clock, now = ClockEstimate(), START + 1_000_000
    for there_us, back_us in trips:
        observed(clock, now, there_us, back_us, offset)
        now += STATUS_US
        assert abs(clock.device(BootUs(now)) - (now + offset)) <= error_of(clock)
        assert abs(clock.host(DeviceUs(now + offset)) - now) <= error_of(clock)


@given(ROUND_TRIPS)
def test_the_error_is_that_of_the_shortest_round_trip_in_the_window(
    trips: list[tuple[int, int]],
) -> None:
    clock = ClockEstimate()
    for index, (there_us, back_us) in enumerate(trips, 1):
        observed(clock, START, there_us, back_us, 0)
        window = trips[max(0, index - SAMPLES_KEPT) : index]
        assert clock.error_us == (min(sum(trip) for trip in window) + 1) // 2


def test_the_shortest_round_trip_is_forgotten_after_fifty_more() -> None:
    assert SAMPLES_KEPT == 50
    clock = ClockEstimate()
    observed(clock, START, 100, 100, 0)
    for longer_us in range(49):
        observed(clock, START, 400 + longer_us, 600, 0)
        assert clock.error_us == 100
    observed(clock, START, 400, 700, 0)
    assert clock.error_us == 500


@given(ROUND_TRIPS, st.integers(-100, 100))
def test_a_clock_that_drifts_is_followed_to_what_it_can_drift_in_the_window(
    trips: list[tuple[int, int]], ppm: int
) -> None:
    """100 ppm over 50 status periods are 0.1 ms on top of half the round trip."""
    clock, now = ClockEstimate(), START
    window_us = SAMPLES_KEPT * STATUS_US + 120_000
    for there_us, back_us in trips:
        made_at = now + there_us
        device_at = made_at + (made_at - START) * ppm // 1_000_000
        clock.observe(DeviceUs(device_at), BootUs(now), BootUs(made_at + back_us))
        now += STATUS_US
        truth = now + (now - START) * ppm // 1_000_000
        drift_us = window_us * abs(ppm) // 1_000_000 + 2  # two roundings
        assert abs(clock.device(BootUs(now)) - truth) <= error_of(clock) + drift_us


def test_an_answer_before_its_question_proves_nothing() -> None:
    clock = ClockEstimate()
    clock.observe(DeviceUs(5), not_before=BootUs(1_000), not_after=BootUs(999))
    assert clock.error_us is None
    clock.observe(DeviceUs(5), not_before=BootUs(1_000), not_after=BootUs(1_000))
    assert clock.error_us == 0


def test_an_instant_before_the_device_was_switched_on_is_its_zero() -> None:
    clock = ClockEstimate()
    observed(clock, START, 0, 0, -START)
    assert clock.device(BootUs(START + 1)) == 1
    assert clock.device(BootUs(START - 1)) == 0
