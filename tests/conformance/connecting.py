"""A driver that looks for its device, on any emulated device or line, in virtual time."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from typing import Any

from drivers.causes import code_of
from drivers.contract import DriverEvent, Envelope, LinkDown, LinkUp, Stimulator, Transport
from firmware_protocol.quantities import MS, SECOND, BootUs
from sim_device.device import DeviceClock
from sim_device.faults import Rule
from sim_device.settings import Physics
from sim_device.world import VirtualPort, Wire
from tests.families import Family

SITE = Envelope(100, 10_000, 1_000, 60_000_000, 410, (), 0)
START = BootUs(1_000 * SECOND)
CYCLE_US = 10 * MS
Act = Callable[[Stimulator, BootUs], None]


def no_act(_driver: Stimulator, _now: BootUs) -> None:
    """Nobody asks for anything."""


class Loop:
    """A port whose two lines touch: nothing else is there."""

    def __init__(self) -> None:
        self._data = b""

    def read(self) -> bytes:
        data, self._data = self._data, b""
        return data

    def write(self, data: bytes) -> bool:
        self._data += data
        return True

    def stop(self) -> bool:
        return False

    def fileno(self) -> int:
        return -1

    def close(self) -> None:
        self._data = b""


class Connecting:
    """What a driver told until it was up, or down with a cause, and what the device did."""

    def __init__(
        self,
        driver: Callable[[Callable[[], Transport], Envelope], Stimulator],
        there: Family,
        settings: Physics | None = None,
        rules: Iterable[Rule] = (),
        *,
        cut: bool = False,
        seed: int = 0,
    ) -> None:
        rng = random.Random(seed)
        settings = settings or there.settings()
        self.truth: list[dict[str, Any]] = []
        self.device = there.device(settings, rng, self.truth.append, rules)
        self.to_device = Wire(rng, 300, there.per_byte_us)
        self.to_host = Wire(rng, 300, there.per_byte_us)
        self.to_device.cut = self.to_host.cut = cut
        clock = DeviceClock(START, settings.clock_us, settings.drift_ppm)
        self.port = VirtualPort(self.device, self.to_device, self.to_host, clock, START)
        self.driver = driver(self.port.open, SITE)
        self.now = START
        self.cycle = 0
        self.heard: list[tuple[BootUs, DriverEvent]] = []

    def run(self, duration_us: int, act: Act = no_act) -> None:
        """The guard's cycles, and what somebody does in each."""
        end = self.now + duration_us
        while self.now < end:
            self.port.advance(self.now, self._listen)
            self._listen(self.now)
            self.cycle += 1
            act(self.driver, self.now)
            self.driver.beat(self.cycle, self.now, BootUs(0))
            self.now = BootUs(self.now + CYCLE_US)

    def _listen(self, at: int) -> None:
        self.heard += [(BootUs(at), event) for event in self.driver.poll(BootUs(at))]

    @property
    def ended(self) -> tuple[int, str, str]:
        """After how long, "up" or the code, and the sentence, of the first end there is."""
        return end_of(self.heard)

    def events(self, *names: str) -> list[dict[str, Any]]:
        return [line for line in self.truth if line["event"] in names]


def end_of(heard: list[tuple[BootUs, DriverEvent]]) -> tuple[int, str, str]:
    for at, event in heard:
        if isinstance(event, LinkUp):
            return at - START, "up", ""
        if isinstance(event, LinkDown):
            return at - START, code_of(event.why), event.why
    raise AssertionError("neither up nor down")
