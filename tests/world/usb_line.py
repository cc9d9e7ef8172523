"""A USB port in virtual time, with the four threads of `UsbPort` as chains of transfers.

What a transfer means is decided by the same code as in production (`Inward`, `Halts`,
`has_no_end`, `sentence_of`, `usb_find.claim`); here is only the order in which each thread does one
thing after the other. tests/tables/test_usb_port.py has the same for the threads themselves.
"""

from __future__ import annotations

import errno
import random
import struct
from collections import deque
from typing import Final

import usb.util
from usb.core import USBError

from drivers.transport import usb_find, usb_port
from drivers.transport.port_error import PortError
from drivers.transport.url import UsbPlace
from drivers.transport.usb_find import Found
from drivers.transport.usb_transfers import (
    AT_ONCE_MAX,
    HANDED_OVER_MAX,
    READ_SIZE,
    Halts,
    Inward,
    has_no_end,
    reads_of,
    sentence_of,
)
from drivers.transport.usbip_backend import STANDARD_WITHIN_MS
from drivers.transport.usbip_link import failure
from firmware_protocol.quantities import MS, SECOND
from sim_device.usb_function import Completion
from tests.world.usb_bus import BusBackend, UsbBus

_SETUP: Final = struct.Struct("<BBHHH")
_CLEAR_HALT: Final = (0x02, 0x01)
FOUND_WITHIN_US: Final = (1 * MS, 30 * MS)
"""How long it takes to look at the buses and claim a device."""


class UsbLine:
    """An open device, as `UsbPort`."""

    def __init__(self, bus: UsbBus, found: Found, written: list[tuple[int, bytes]]) -> None:
        """`written` records what is put on the wire."""
        self.bus, self.found = bus, found
        self.gone: OSError | None = None
        self.closed = False
        self.came: deque[tuple[_Reader, bytes]] = deque()
        self.threads = 4
        self._readers = [_Reader(self, found.bulk_in), _Reader(self, found.interrupt_in)]
        self._writer = _Writer(self, written)
        self._stopper = _Stopper(self)

    # -- as a transport ----------------------------------------------------------------------

    def read(self) -> bytes:
        data = b""
        while self.came and len(data) + len(self.came[0][1]) <= AT_ONCE_MAX:
            reader, piece = self.came.popleft()
            data += piece
            reader.has_room(reads_of(piece))
        if not data:
            self._fail()
        elif self.came or self.gone is not None:
            self.bus.woken = True
        return data

    def write(self, data: bytes) -> bool:
        self._fail()
        return self._writer.queue(data)

    def stop(self) -> bool:
        if not self.closed:
            self._stopper.ask()
        return True

    def fileno(self) -> int:
        return -1

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self._wake_all()

    # -- for the threads ---------------------------------------------------------------------

    @property
    def over(self) -> bool:
        return self.closed or self.gone is not None

    def lose(self, number: int) -> None:
        if self.gone is None:
            self.gone = OSError(number, sentence_of(failure(number)))
            self._wake_all()
        self.bus.woken = True

    def thread_ends(self) -> None:
        self.threads -= 1
        if not self.threads:
            usb.util.dispose_resources(self.found.device)

    def _wake_all(self) -> None:
        for reader in self._readers:
            reader.look()
        self._writer.look()
        self._stopper.look()

    def _fail(self) -> None:
        if self.gone is not None:
            raise OSError(*self.gone.args)


class _Thread:
    """Does one transfer after the other, until its port is over."""

    def __init__(self, line: UsbLine) -> None:
        self.line, self.bus = line, line.bus
        self.busy = self.ended = False

    def end(self) -> None:
        if not self.ended:
            self.ended = True
            self.line.thread_ends()


class _Pipe(_Thread):
    """One that has an endpoint, and frees it when it halts."""

    def __init__(self, line: UsbLine, endpoint: int) -> None:
        super().__init__(line)
        self.endpoint, self.halts = endpoint, Halts()

    def look(self) -> None:
        raise NotImplementedError

    def failed(self, number: int) -> None:
        """A transfer ended with an error other than a time-out."""
        if self.halts.frees(number):
            setup = _SETUP.pack(*_CLEAR_HALT, 0, self.endpoint, 0)
            self.busy = True
            self.bus.control(setup, STANDARD_WITHIN_MS, self._freed)
            return
        self.line.lose(number)
        self.look()

    def _freed(self, how: Completion) -> None:
        self.busy = False
        if how.status:
            self.line.lose(-how.status)
        self.look()


class _Reader(_Pipe):
    def __init__(self, line: UsbLine, endpoint: int) -> None:
        super().__init__(line, endpoint)
        self._room, self._inward = HANDED_OVER_MAX, Inward()
        self.look()

    def has_room(self, reads: int) -> None:
        self._room += reads
        self.look()

    def look(self) -> None:
        if self.busy:
            return
        if self.line.over:
            self.end()
        elif self._room:
            self.busy = True
            self.bus.data(self.endpoint, READ_SIZE, usb_port.POLL_MS, self._came)

    def _came(self, how: Completion) -> None:
        self.busy = False
        if how.status not in (0, -errno.ETIMEDOUT):
            self.failed(-how.status)
            return
        if not how.status:
            self.halts.worked()
            if how.data:
                self._room -= 1
            whole = self._inward.add(how.data)
            if whole:
                self.line.came.append((self, whole))
                self.bus.woken = True
        self.look()


class _Writer(_Pipe):
    def __init__(self, line: UsbLine, written: list[tuple[int, bytes]]) -> None:
        super().__init__(line, line.found.bulk_out)
        self._written = written
        self._waiting: deque[bytes] = deque()

    def queue(self, data: bytes) -> bool:
        if len(self._waiting) >= usb_port.QUEUED_MAX:
            return False
        self._waiting.append(data)
        self.look()
        return True

    def look(self) -> None:
        if self.busy:
            return
        if self.line.gone is not None:
            self._waiting.clear()
        if self._waiting:
            data = b"".join(self._waiting)
            self._waiting.clear()
            self._written.append((self.bus.now_us, data))
            self._send(data)
        elif self.line.closed:
            self.end()

    def _send(self, data: bytes) -> None:
        self.busy = True
        ends = not data or not has_no_end(data, self.line.found.packet_out)

        def ended(how: Completion) -> None:
            self.busy = False
            if how.status in (0, -errno.ETIMEDOUT):
                if not how.status and not ends:
                    self._send(b"")
                    return
                if not how.status:
                    self.halts.worked()
                self.look()
            else:
                self.failed(-how.status)

        self.bus.data(self.endpoint, data, usb_port.WRITE_WITHIN_MS, ended)


class _Stopper(_Thread):
    def __init__(self, line: UsbLine) -> None:
        super().__init__(line)
        self._waits = False

    def ask(self) -> None:
        """A STOP that waits already is enough."""
        self._waits = True
        self.look()

    def look(self) -> None:
        if self.busy:
            return
        if self._waits:
            self._waits, self.busy = False, True
            setup = _SETUP.pack(*usb_port.STOP_REQUEST, 0, self.line.found.interface, 0)
            self.bus.control(setup, usb_port.STOP_WITHIN_MS, self._ended)
        elif self.line.closed:
            self.end()

    def _ended(self, how: Completion) -> None:
        self.busy = False
        if how.status not in (0, -errno.EPIPE, -errno.ETIMEDOUT):
            self.line.lose(-how.status)
        self.look()


class VirtualOpener:
    """As `Opener`, for one life of a guard process."""

    def __init__(
        self, bus: UsbBus, serial: str, written: list[tuple[int, bytes]], rng: random.Random
    ) -> None:
        self._bus, self._written, self._rng = bus, written, rng
        self._place = UsbPlace("", serial)
        self._looks = False
        self._result: Found | PortError | None = None
        self._newest: UsbLine | None = None

    def __call__(self) -> UsbLine:
        if self._result is None:
            if not self._looks:
                self._looks = True
                self._later(self._bus.now_us + 1 * SECOND)
            raise BlockingIOError(errno.EINPROGRESS, "the USB device is being opened")
        result, self._result = self._result, None
        if isinstance(result, PortError):
            raise result
        self._place = UsbPlace("", result.serial)
        self._newest = UsbLine(self._bus, result, self._written)
        return self._newest

    @property
    def serial(self) -> str:
        """Of the one device that is opened; empty: of whichever is found first."""
        return self._place.serial

    def forget(self) -> None:
        """The program is gone; nobody looks any more."""
        self._looks = False

    def _later(self, until_us: int) -> None:
        within = FOUND_WITHIN_US
        self._bus.at(self._bus.now_us + self._rng.randrange(*within), lambda: self._look(until_us))

    def _look(self, until_us: int) -> None:
        if not self._looks:
            return
        if self._newest is not None and self._newest.threads:
            if self._bus.now_us < until_us:
                self._later(until_us)
                return
            self._result = PortError("port-busy", "the port before has not ended yet")
        else:
            self._result = self._claim()
        self._looks = False

    def _claim(self) -> Found | PortError:
        try:
            return usb_find.claim(self._place, BusBackend(self._bus))
        except PortError as error:
            return error
        except USBError as error:
            return usb_find.explained(error, "the USB device")
