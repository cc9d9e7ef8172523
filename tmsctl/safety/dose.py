"""Dose arithmetic: exact sliding windows over pulse times. Integers of microseconds."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence

from firmware_protocol.quantities import SECOND

WINDOWS_US = (1 * SECOND, 60 * SECOND)
"""Windows in which pulses are counted, for `pulses_1s_max` and `pulses_60s_max`."""

PULSE_UJ_PER_PCT2 = 25_200
"""A pulse at P %MSO takes this times P squared, in microjoules: 252 J at 100 %MSO, as published
for the Rapid2, and quadratic because the voltage is proportional to the output."""

KEPT_MAX = 4_096
"""More than the absolute limits allow in the longest window: 25 a second for 60 s."""


def peak(times: Sequence[int], window_us: int) -> int:
    """Most pulses in any half-open window [t, t + window). `times` are sorted."""
    first = 0
    for at in times:
        # The pulses looked at end here. They slide on, or become one more; they never become fewer.
        if at - times[first] >= window_us:
            first += 1
    return len(times) - first


def pulse_energy_uj(mso_pct: int) -> int:
    """Energy that one pulse takes from the supply, microjoules. Exact."""
    return PULSE_UJ_PER_PCT2 * mso_pct * mso_pct


FULL_PULSE_UJ = pulse_energy_uj(100)


def peak_energy(times: Sequence[int], energies: Sequence[int], window_us: int) -> int:
    """Most energy in any half-open window [t, t + window). `times` are sorted."""
    worst = total = first = 0
    for at, energy in zip(times, energies, strict=True):
        total += energy
        while at - times[first] >= window_us:
            total -= energies[first]
            first += 1
        worst = max(worst, total)
    return worst


class PulseTimes:
    """Pulses of the last window, and the start of the run that they belong to. Bounded."""

    __slots__ = ("_energies", "_gap_us", "_keep_us", "_times", "_total_uj", "run_started_at")

    def __init__(self, gap_us: int, keep_us: int = WINDOWS_US[-1]) -> None:
        self._gap_us = gap_us
        self._keep_us = keep_us
        self._times: deque[int] = deque()
        self._energies: deque[int] = deque()  # of the same pulses, microjoules
        self._total_uj = 0
        self.run_started_at: int | None = None  # first pulse since the last gap of a train's length

    def add(self, at: int, energy_uj: int = FULL_PULSE_UJ) -> None:
        """Note one pulse; times come in rising order. A pulse of unknown energy is a full one."""
        times = self._times
        if not times or at - times[-1] >= self._gap_us:
            self.run_started_at = at
        times.append(at)
        self._energies.append(energy_uj)
        self._total_uj += energy_uj
        while at - times[0] > self._keep_us or len(times) > KEPT_MAX:
            times.popleft()
            self._total_uj -= self._energies.popleft()

    def extend(self, times: Iterable[int], energy_uj: int = FULL_PULSE_UJ) -> None:
        """Note pulses of the same energy."""
        for at in times:
            self.add(at, energy_uj)

    def with_gap(self, gap_us: int) -> PulseTimes:
        """The same pulses, with runs told apart by another gap."""
        other = PulseTimes(gap_us, self._keep_us)
        for at, energy_uj in zip(self._times, self._energies, strict=True):
            other.add(at, energy_uj)
        if self.run_started_at is not None and other.run_started_at == self._times[0]:
            # The run may have begun before what is kept: assume what was known of it.
            other.run_started_at = min(self.run_started_at, self._times[0])
        return other

    def clear(self) -> None:
        """Forget all: the clock of these times is another one from now on."""
        self._times.clear()
        self._energies.clear()
        self._total_uj = 0
        self.run_started_at = None

    @property
    def newest(self) -> int | None:
        return self._times[-1] if self._times else None

    def __len__(self) -> int:
        return len(self._times)

    def within(self, window_us: int, now: int) -> int:
        """Pulses in (now - window, now]."""
        return sum(1 for at in self._times if now - at < window_us)

    def too_many(self, most: int, window_us: int) -> bool:
        """Did the newest pulse make more than `most` in a window? Constant time."""
        times = self._times
        return len(times) > most and times[-1] - times[-1 - most] < window_us

    def peak_with(self, block: Sequence[int], window_us: int) -> int:
        """Most pulses in any window, if `block` were added."""
        return peak([*self._times, *block], window_us)

    def peak_energy_with(self, block: Sequence[int], energy_uj: int, window_us: int) -> int:
        """Most energy in any window, if pulses of `energy_uj` each were added at these times."""
        energies = [*self._energies, *(energy_uj for _ in block)]
        return peak_energy([*self._times, *block], energies, window_us)

    def energy_at_most(self, extra_uj: int) -> int:
        """No window can hold more than this, if `extra_uj` were added. Constant time."""
        return self._total_uj + extra_uj

    def since_rests(self, rest_us: int) -> Iterator[tuple[int, int]]:
        """Each first pulse after a pause as long as `rest_us`, with the energy since; newest first.

        The oldest pulse that is kept counts as one.
        """
        later, energy_uj = None, 0
        for at, each_uj in zip(reversed(self._times), reversed(self._energies), strict=True):
            if later is not None and later - at >= rest_us:
                yield later, energy_uj
            later, energy_uj = at, energy_uj + each_uj
        if later is not None:
            yield later, energy_uj
