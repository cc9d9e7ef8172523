"""What every emulated device is to the programs and tests that run it."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Protocol

from sim_device.faults import Faults, Log

__all__ = ["Agenda", "Device", "DeviceClock", "Log"]


class Device(Protocol):
    """A device as a function of its own clock, in microseconds. It owns no clock and no port."""

    faults: Faults

    @property
    def kinds(self) -> frozenset[str]:
        """Faults that can happen to it."""

    @property
    def clock_ppm(self) -> int:
        """How much too fast its clock runs at present."""

    @property
    def plugged(self) -> bool:
        """Is its port there? Whoever had it open has to open it again after it was not."""

    def receive(self, data: bytes, now_us: int) -> None:
        """Bytes from the host; what was due before them happens first."""

    def advance(self, now_us: int) -> None:
        """The device gets to act now, and finds late what was due before."""

    def run_to(self, now_us: int) -> None:
        """All that is due up to now happens at its own instant, as by timers of real hardware."""

    def next_event_us(self) -> int | None:
        """Next instant at which something happens by itself."""

    def take_output(self) -> bytes:
        """Bytes for the host since the last call."""


class DeviceClock:
    """Host time to device time and back, with a rate that can change. Integers throughout."""

    def __init__(self, host_us: int, device_us: int, ppm: int = 0) -> None:
        self._host_us, self._device_us, self.ppm = host_us, device_us, ppm

    def set_ppm(self, ppm: int, host_us: int) -> None:
        """Another rate from now on; the clock does not jump."""
        self._host_us, self._device_us = host_us, self.device(host_us)
        self.ppm = ppm

    def device(self, host_us: int) -> int:
        """Device time at an instant of the host."""
        passed = host_us - self._host_us
        return self._device_us + passed + passed * self.ppm // 1_000_000

    def host(self, device_us: int) -> int:
        """First instant of the host at which the device clock shows at least this."""
        # `device` rounds p (1 + ppm / 10^6) down, so the least p that reaches it is rounded up.
        passed = device_us - self._device_us
        return self._host_us - (-passed * 1_000_000 // (1_000_000 + self.ppm))


class Agenda:
    """What a device is going to do by itself, at instants of its own clock."""

    def __init__(self) -> None:
        self._entries: list[tuple[int, int, Callable[[], None]]] = []
        self._number = 0  # keeps the order of what is due at the same instant

    def add(self, at_us: int, action: Callable[[], None]) -> None:
        self._number += 1
        heapq.heappush(self._entries, (at_us, self._number, action))

    def next_us(self) -> int | None:
        return self._entries[0][0] if self._entries else None

    def run(self, now_us: int) -> None:
        """Do what is due."""
        while self._entries and self._entries[0][0] <= now_us:
            heapq.heappop(self._entries)[2]()
