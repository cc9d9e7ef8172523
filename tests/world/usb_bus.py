"""A USB cable in virtual time: the emulated function, and transfers with a delay each way.

Enumeration takes no time and is that of production (`usb_find`, through pyusb); of transfers each
is under way for up to a frame of the bus in each direction, on every pipe by itself.
"""

from __future__ import annotations

import errno
import heapq
import itertools
import random
from collections.abc import Callable, Hashable, Iterator
from functools import partial
from typing import Final

from drivers.transport.usbip_backend import UsbipBackend, UsbipDevice
from drivers.transport.usbip_link import failure
from drivers.transport.usbip_wire import Exported
from firmware_protocol.quantities import MS
from sim_device.device import DeviceClock
from sim_device.usb_function import Completion, Done, UsbFunction

DELAY_US: Final = (50, 1_050)
"""A packet waits for its frame of 1 ms; the rest is the way through a thread."""

Begin = Callable[[Hashable, Done], None]


class UsbBus:
    """One host and one function. All times here are the host's, as in `VirtualPort`."""

    def __init__(
        self, function: UsbFunction, clock: DeviceClock, now_us: int, rng: random.Random
    ) -> None:
        self.function, self.clock, self.now_us = function, clock, now_us
        self._rng = rng
        self._plugged = True
        self._order = itertools.count()
        self._due: list[tuple[int, int, Callable[[], None]]] = []
        self._expiries: list[tuple[int, int]] = []  # when each transfer runs out of time
        self._pending: dict[int, Callable[[Completion], None]] = {}
        self._begun: set[int] = set()  # of these, what the function knows of and has not ended
        self.woken = False  # there is something to read

    # -- the cable ---------------------------------------------------------------------------

    @property
    def plugged(self) -> bool:
        """The cable; the device may still not be on the bus."""
        return self._plugged

    @plugged.setter
    def plugged(self, plugged: bool) -> None:
        if self._plugged and not plugged:
            self._catch_up()
            self.function.lose_host()
            begun, self._begun = self._begun, set()
            for key in sorted(begun):
                self._answer(key, Completion(-errno.ENODEV))
        self._plugged = plugged

    @property
    def shows(self) -> bool:
        """Would a look at the bus find the device?"""
        return self._plugged and self.function.plugged

    def forget(self) -> None:
        """The program is gone: the kernel takes back all that it had under way."""
        for key in self._begun:
            self.function.cancel(key)
        self._begun.clear()
        self._pending.clear()
        self.woken = False

    # -- transfers ---------------------------------------------------------------------------

    def data(
        self,
        endpoint: int,
        wanted: bytes | int,
        within_ms: int,
        ended: Callable[[Completion], None],
    ) -> None:
        """`wanted`: the bytes of a transfer OUT, or the size of one IN. `ended` is called once."""
        self._transfer(
            lambda key, done: self.function.submit(key, endpoint, wanted, done), within_ms, ended
        )

    def control(self, setup: bytes, within_ms: int, ended: Callable[[Completion], None]) -> None:
        """A request without data."""
        self._transfer(
            lambda key, done: self.function.control(key, setup, b"", done), within_ms, ended
        )

    def _transfer(self, begin: Begin, within_ms: int, ended: Callable[[Completion], None]) -> None:
        key = next(self._order)
        self._pending[key] = ended
        self.at(self.now_us + self._rng.randrange(*DELAY_US), partial(self._begin, key, begin))
        heapq.heappush(self._expiries, (self.now_us + within_ms * MS, key))

    def _begin(self, key: int, begin: Begin) -> None:
        if key not in self._pending:
            return
        if not self._plugged:
            self._answer(key, Completion(-errno.ENODEV))
            return
        self._catch_up()
        self._begun.add(key)
        begin(key, partial(self._ended, key))

    def _ended(self, key: int, how: Completion) -> None:
        if key in self._begun:  # else its host is gone
            self._begun.remove(key)
            self._answer(key, how)

    def _answer(self, key: int, how: Completion) -> None:
        self.at(self.now_us + self._rng.randrange(*DELAY_US), partial(self._tell, key, how))

    def _tell(self, key: int, how: Completion) -> None:
        ended = self._pending.pop(key, None)
        if ended is not None:
            ended(how)

    def _expire(self, key: int) -> None:
        """A transfer that has ended by now is told of as it ended, even if a little late."""
        self._catch_up()
        if key in self._begun and self.function.cancel(key):
            self._begun.remove(key)
            self._tell(key, Completion(-errno.ETIMEDOUT))

    # -- time --------------------------------------------------------------------------------

    def at(self, when_us: int, act: Callable[[], None]) -> None:
        heapq.heappush(self._due, (when_us, next(self._order), act))

    def next_event_us(self) -> int | None:
        """Next instant at which the device acts, or something happens on the bus."""
        due, expiries = self._due, self._expiries
        while expiries and expiries[0][1] not in self._pending:
            heapq.heappop(expiries)
        at = due[0][0] if due else None
        if expiries and (at is None or expiries[0][0] < at):
            at = expiries[0][0]
        own_us = self.function.next_event_us()
        if own_us is not None:
            own_us = max(self.now_us, self.clock.host(own_us))
            at = own_us if at is None else min(own_us, at)
        return at

    def advance(self, to_us: int, heard: Callable[[int], None] | None = None) -> None:
        """Let everything up to `to_us` happen, each at its own instant.

        `heard` is called with the instant at which there is something to read.
        """
        while True:
            while self.woken and heard is not None:
                self.woken = False
                heard(self.now_us)
            at = self.next_event_us()
            if at is None or at > to_us:
                break
            self.now_us = max(at, self.now_us)
            self._act(self.now_us)
        self.now_us = to_us

    def _act(self, at_us: int) -> None:
        own_us, clock = self.function.next_event_us(), self.clock
        if own_us is not None and own_us <= clock.device(at_us):
            self._catch_up()
        while self._due and self._due[0][0] <= at_us:
            heapq.heappop(self._due)[2]()
        while self._expiries and self._expiries[0][0] <= at_us:
            self._expire(heapq.heappop(self._expiries)[1])
        if self.function.clock_ppm != clock.ppm:
            clock.set_ppm(self.function.clock_ppm, at_us)

    def _catch_up(self) -> None:
        self.function.run_to(self.clock.device(self.now_us))


class BusBackend(UsbipBackend):
    """What pyusb finds on this bus. Each request is answered at once, or not at all."""

    def __init__(self, bus: UsbBus) -> None:
        super().__init__("")
        self._bus = bus

    def enumerate_devices(self) -> Iterator[UsbipDevice]:
        if self._bus.shows:
            yield UsbipDevice(Exported(b"1-1", 1, 1, 2))

    def open_device(self, _: UsbipDevice) -> _Requests:  # type: ignore[override]
        return _Requests(self._bus)


class _Requests:
    """Control transfers while the device is being looked at."""

    def __init__(self, bus: UsbBus) -> None:
        self._bus = bus

    def transfer(
        self,
        _direction: int,
        endpoint: int,
        _size: int,
        _timeout_ms: int,
        setup: bytes,
        out: bytes = b"",
    ) -> tuple[int, bytes]:
        assert endpoint == 0, "data transfers go over the bus itself"
        if not self._bus.shows:
            raise failure(errno.ENODEV)
        ended: list[Completion] = []
        self._bus.function.control(self, setup, out, ended.append)
        if not ended:
            self._bus.function.cancel(self)
            raise failure(errno.ETIMEDOUT)
        if ended[0].status:
            raise failure(-ended[0].status)
        return ended[0].actual, ended[0].data

    def close(self) -> None:
        """Nothing is held."""
