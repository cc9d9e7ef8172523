"""Where the device's clock stands against ours: bounds from every round trip, tightest kept."""

from __future__ import annotations

from collections import deque
from typing import Final

from firmware_protocol.quantities import BootUs, DeviceUs

SAMPLES_KEPT: Final = 50  # one second of status frames: crystal drift within it is below 0.1 ms


class ClockEstimate:
    """Device time minus host time, with half a round trip as its error."""

    def __init__(self) -> None:
        self._samples: deque[tuple[int, int]] = deque(maxlen=SAMPLES_KEPT)  # width, middle
        self._best: tuple[int, int] | None = None

    def observe(self, device_at: DeviceUs, not_before: BootUs, not_after: BootUs) -> None:
        """A frame was made at `device_at`; on our clock that was between the two instants."""
        width = not_after - not_before
        if width < 0:
            return  # clocks that run apart within one round trip prove nothing
        if len(self._samples) == SAMPLES_KEPT and self._samples[0] == self._best:
            self._best = None
        sample = (width, device_at - (not_before + not_after) // 2)
        self._samples.append(sample)
        if self._best is None:
            self._best = min(self._samples)
        elif sample <= self._best:
            self._best = sample

    @property
    def error_us(self) -> int | None:
        """Largest possible error; None before the first observation."""
        return None if self._best is None else (self._best[0] + 1) // 2

    def device(self, at: BootUs) -> DeviceUs:
        """Our instant on the device's clock."""
        assert self._best is not None
        return DeviceUs(max(0, at + self._best[1]))

    def host(self, at: DeviceUs) -> BootUs:
        """The device's instant on our clock."""
        assert self._best is not None
        return BootUs(at - self._best[1])
