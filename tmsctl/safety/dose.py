"""Dose arithmetic: exact sliding windows over pulse times. Integers of microseconds."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence

from firmware_protocol.quantities import SECOND

WINDOWS_US = (1 * SECOND, 60 * SECOND)
"""Windows in which pulses are counted, for `pulses_1s_max` and `pulses_60s_max`."""


KEPT_MAX = 4_096
"""More than the absolute limits allow in the longest window: 25 a second for 60 s."""


def peak(times: Sequence[int], window_us: int) -> int:
    """Most pulses in any half-open window [t, t + window). `times` are sorted."""
    worst = first = 0
    for last, at in enumerate(times):
        while at - times[first] >= window_us:
            first += 1
        worst = max(worst, last - first + 1)
    return worst


class PulseTimes:
    """Pulses of the last window, and the start of the run that they belong to. Bounded."""

    __slots__ = ("_gap_us", "_keep_us", "_times", "run_started_at")

    def __init__(self, gap_us: int, keep_us: int = WINDOWS_US[-1]) -> None:
        self._gap_us = gap_us
        self._keep_us = keep_us
        self._times: deque[int] = deque(maxlen=KEPT_MAX)
        self.run_started_at: int | None = None  # first pulse since the last gap of a train's length

    def add(self, at: int) -> None:
        """Note one pulse; times come in rising order."""
        times = self._times
        if not times or at - times[-1] >= self._gap_us:
            self.run_started_at = at
        times.append(at)
        while at - times[0] > self._keep_us:
            times.popleft()

    def extend(self, times: Iterable[int]) -> None:
        for at in times:
            self.add(at)

    def with_gap(self, gap_us: int) -> PulseTimes:
        """The same pulses, with runs told apart by another gap."""
        other = PulseTimes(gap_us, self._keep_us)
        other.extend(self._times)
        if self.run_started_at is not None and other.run_started_at == self._times[0]:
            # The run may have begun before what is kept: assume what was known of it.
            other.run_started_at = min(self.run_started_at, self._times[0])
        return other

    def clear(self) -> None:
        """Forget all: the clock of these times is another one from now on."""
        self._times.clear()
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
