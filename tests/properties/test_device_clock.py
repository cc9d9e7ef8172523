"""The device's clock and the host's: there and back, at any rate, also when that changes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sim_device.device import DeviceClock

INSTANTS = st.integers(0, 10**13)
RATES = st.integers(-2_000, 2_000)


@given(host=INSTANTS, device=INSTANTS, ppm=RATES, at=INSTANTS)
def test_the_host_is_there_first_when_the_device_shows_an_instant(
    host: int, device: int, ppm: int, at: int
) -> None:
    clock = DeviceClock(host, device, ppm)
    first = clock.host(at)
    assert clock.device(first - 1) < at <= clock.device(first)


@given(host=INSTANTS, device=INSTANTS, before=RATES, after=RATES, passed=st.integers(0, 10**10))
def test_another_rate_makes_no_clock_jump(
    host: int, device: int, before: int, after: int, passed: int
) -> None:
    clock = DeviceClock(host, device, before)
    shown = clock.device(host + passed)
    clock.set_ppm(after, host + passed)
    assert clock.device(host + passed) == shown
