"""Physical quantities as they cross borders: integers with their unit in the name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NewType

BootUs = NewType("BootUs", int)
"""An instant on the host: CLOCK_BOOTTIME in microseconds (counts suspend, never steps)."""

DeviceUs = NewType("DeviceUs", int)
"""An instant on the device's own clock, in microseconds since its power-up."""

MS = 1_000
"""Microseconds in a millisecond."""

SECOND = 1_000_000
"""Microseconds in a second."""


@dataclass(frozen=True, slots=True, order=True)
class PercentMso:
    """Intensity in whole percent of maximum stimulator output (MSO), the step of every real unit.

    Raises TypeError for anything but an int (a bool is refused on purpose) and ValueError outside
    0..100.
    """

    value: int
    MIN: ClassVar[int] = 0
    MAX: ClassVar[int] = 100

    def __post_init__(self) -> None:
        if type(self.value) is not int:
            raise TypeError(f"PercentMso needs an int, got {self.value!r}")
        if not self.MIN <= self.value <= self.MAX:
            raise ValueError(f"intensity {self.value} %MSO is outside {self.MIN}..{self.MAX}")

    def __str__(self) -> str:
        return f"{self.value} %MSO"
