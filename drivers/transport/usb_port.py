"""A tmslink device on USB, as `drivers.contract.Transport`: threads wait for it, never the guard.

Threads, and not asynchronous transfers: pyusb has none, and libusb's own would be a second binding
of ours, with callbacks from C. What the threads cost was measured, `benchmarks/over_usb.py` and
`usb_guard.py` do it again: on a busy machine of two cores an open port took 1.1 % of a core, an
unarmed guard 1.4 % more than on a terminal, where it takes 2.8, and a message and its echo
0.2 ms more than without the threads.

Four threads a port, each for one thing that must not wait for another: bulk IN, interrupt IN, bulk
OUT, and STOP as a control request, which passes while bulk is full or halted. What comes is handed
over in a bounded queue; while it is full nothing more is read, and the device keeps the rest. Every
transfer has a time-out, so each thread sees within `POLL_MS` that the port is closed. The writing
thread ends last and gives everything back; nobody waits for it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import queue
import sys
import threading
from array import array
from collections import deque
from collections.abc import Callable
from typing import Final

import usb.util
from usb.core import USBError, USBTimeoutError

from drivers.transport import usb_find, usb_hotplug
from drivers.transport.port_error import PortError
from drivers.transport.url import UsbPlace, usb_place
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

POLL_MS: Final = 250
"""Time-out of a read; a closed port keeps its threads for so long, and for what follows here."""
WRITE_WITHIN_MS: Final = 100
"""A device that takes nothing for so long has disarmed itself: what is left is not sent late."""
STOP_WITHIN_MS: Final = 100
QUEUED_MAX: Final = 64
"""Writes that wait for the device: half a second of beats. More is answered with "not taken"."""

FORGOTTEN_S: Final = 1.0

STOP_REQUEST: Final = (0x41, 0x01)
IDENTITY_REQUEST: Final = (0xC1, 0x02)
"""bmRequestType and bRequest, docs/tmslink.md."""

Rooms = queue.SimpleQueue[None]
"""One for each read that may still wait for the guard. Unlike a semaphore of Python's it has no
lock that a reader could hold while the guard's thread gives a room back."""


class UsbPort:
    """An open device. Only one thread, the guard's, calls its methods."""

    def __init__(self, found: Found) -> None:
        """Takes the device over; it is given back after `close`. RuntimeError: no thread is to be
        had, and it is given back at once."""
        self.serial = found.serial
        self._found = found
        self._ready = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._came: deque[tuple[Rooms, bytes]] = deque()
        self._to_send: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._to_stop: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._gone: OSError | None = None
        self._closed = False
        self._urgency = _urgency()
        readers = (
            lambda: self._read_all(found.bulk_in),
            lambda: self._read_all(found.interrupt_in),
            self._stop_all,
        )
        self._others: list[threading.Thread] = []
        self._last = self._thread(self._write_all)
        try:
            self._last.start()  # first, since it gives back what the others have begun with
        except RuntimeError:
            self._give_back()
            raise
        try:
            for work in readers:
                thread = self._thread(work)
                thread.start()
                self._others.append(thread)
        except RuntimeError:
            self.close()
            raise

    def read(self) -> bytes:
        """What has come, whole transfers, as many as a call may give; what is left wakes at once.
        OSError, behind the last byte, when it is gone."""
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._ready)
        data = b""
        while self._came and len(data) + len(self._came[0][1]) <= AT_ONCE_MAX:
            rooms, piece = self._came.popleft()
            for _ in range(reads_of(piece)):
                rooms.put(None)
            data += piece
        if not data:
            self._fail()
        elif self._came or self._gone is not None:
            self._wake()  # for the next call
        return data

    def write(self, data: bytes) -> bool:
        """False when too much waits already."""
        self._fail()
        if self._to_send.qsize() >= QUEUED_MAX:
            return False
        self._to_send.put(data)
        return True

    def stop(self) -> bool:
        """A STOP that waits already is enough."""
        if not self._closed and self._to_stop.empty():
            self._to_stop.put(True)
        return True

    def fileno(self) -> int:
        return self._ready

    def close(self) -> None:
        """What was written before, and a STOP, still go out within their time-outs."""
        if not self._closed:
            self._closed = True
            self._to_stop.put(False)
            self._to_send.put(None)

    def ended(self, timeout_s: float) -> bool:
        """Wait until everything is given back; not for the guard's thread."""
        self._last.join(timeout_s)
        return not self._last.is_alive()

    # -- the threads -------------------------------------------------------------------------

    def _thread(self, work: Callable[[], None]) -> threading.Thread:
        def run() -> None:
            self._urgency()
            try:
                work()
            finally:
                self._lose_if_it_failed()

        return threading.Thread(target=run, name="usb", daemon=False)  # a STOP still goes out

    @property
    def _over(self) -> bool:
        return self._closed or self._gone is not None

    def _read_all(self, endpoint: int) -> None:
        buffer = array("B", bytes(READ_SIZE))
        rooms: Rooms = queue.SimpleQueue()  # a pipe that overflows leaves the other alone
        for _ in range(HANDED_OVER_MAX):
            rooms.put(None)
        inward, halts = Inward(), Halts()
        while not self._over:
            try:
                rooms.get(timeout=POLL_MS / 1_000)
            except queue.Empty:
                continue  # the guard is behind
            try:
                size = self._found.device.read(endpoint, buffer, POLL_MS)
            except USBTimeoutError:
                rooms.put(None)
                continue
            except USBError as error:
                rooms.put(None)
                self._clear_halt(endpoint, error, halts)
                continue
            halts.worked()
            if not size:
                rooms.put(None)
            whole = inward.add(buffer[:size].tobytes())
            if whole:
                self._came.append((rooms, whole))
                self._wake()

    def _write_all(self) -> None:
        halts = Halts()
        try:
            while (data := self._next_write()) is not None:
                if not data or self._gone is not None:
                    continue  # until the guard has closed
                try:
                    self._send(data)
                    halts.worked()
                except USBTimeoutError:
                    continue  # a device that falls silent is noticed by the status's age
                except USBError as error:
                    self._clear_halt(self._found.bulk_out, error, halts)
        finally:
            self._lose_if_it_failed()  # or the others would not end
            while not self._closed:
                self._next_write()
            self._give_back()

    def _give_back(self) -> None:
        """When the port is closed, and its other threads are about to end."""
        for thread in self._others:
            thread.join()
        try:
            with contextlib.suppress(USBError):
                usb.util.dispose_resources(self._found.device)
        finally:
            os.close(self._ready)

    def _next_write(self) -> bytes | None:
        """All that waits, as one transfer, if need be nothing; None: closed, and nothing left."""
        try:
            first = self._to_send.get(timeout=FORGOTTEN_S)
        except queue.Empty:
            if not threading.main_thread().is_alive():
                self.close()  # the program has ended without: its threads must not keep it
            return b""
        if first is None:
            return None
        pieces = [first]
        while len(pieces) < QUEUED_MAX and not self._to_send.empty():  # nobody else takes any
            more = self._to_send.get()
            if more is None:
                self._to_send.put(None)
                break
            pieces.append(more)
        return b"".join(pieces)

    def _send(self, data: bytes) -> None:
        write, endpoint = self._found.device.write, self._found.bulk_out
        write(endpoint, data, WRITE_WITHIN_MS)
        if has_no_end(data, self._found.packet_out):
            write(endpoint, b"", WRITE_WITHIN_MS)

    def _stop_all(self) -> None:
        kind, request = STOP_REQUEST
        while self._to_stop.get():
            try:
                self._found.device.ctrl_transfer(
                    kind, request, 0, self._found.interface, None, STOP_WITHIN_MS
                )
            except USBTimeoutError:
                continue  # the guard repeats it
            except USBError as error:
                if error.errno != errno.EPIPE:  # one that knows no such request reads the bytes
                    self._lose(error)

    def _clear_halt(self, endpoint: int, error: USBError, halts: Halts) -> None:
        """What a halted endpoint held is not sent again: nothing that fires is ever repeated."""
        if halts.frees(error.errno):
            try:
                self._found.device.clear_halt(endpoint)
            except USBError as worse:  # keeping it would keep all that is in its traceback
                self._lose(worse)
        else:
            self._lose(error)

    def _lose(self, error: USBError) -> None:
        if self._gone is None:
            self._gone = OSError(error.errno or errno.EIO, sentence_of(error))
        self._wake()

    def _lose_if_it_failed(self) -> None:
        """Called when the work of a thread ends: before the port is over, none may. Whatever that
        raised, of USB or not, it is said and not kept."""
        if not self._over:
            self._lose(USBError(f"{sys.exception()!r}"))

    def _wake(self) -> None:
        os.eventfd_write(self._ready, 1)

    def _fail(self) -> None:
        if self._gone is not None:
            raise OSError(*self._gone.args)


class Opener:
    """Opens one device again and again, in a thread: finding it may take long.

    After a look in vain the next one waits for the system to announce a device, where it does; one
    behind USB/IP is looked for whenever this is called.
    Without a serial number in the URL it keeps to the first device that it has found: another one
    in its place is never taken.
    """

    def __init__(self, url: str) -> None:
        """ValueError for a URL that is none of USB."""
        self._place = usb_place(url)
        self._looking: threading.Thread | None = None
        self._result: Found | tuple[str, str] | None = None  # code and sentence: an exception would
        # keep alive all that was looked at, and the guard collects no garbage
        self._newest: UsbPort | None = None
        self._announcements: usb_hotplug.Announcements | None = None  # while it is looked for

    def __call__(self) -> UsbPort:
        """BlockingIOError: it is being opened, ask again. PortError says why it cannot be."""
        if self._looking is None:
            looking = threading.Thread(target=self._look, name="usb-open")
            try:
                looking.start()
            except RuntimeError as error:
                raise _no_thread(error) from error
            self._looking = looking
        if self._looking.is_alive():
            raise BlockingIOError(errno.EINPROGRESS, "the USB device is being opened")
        self._looking, result, self._result = None, self._result, None
        if not isinstance(result, Found):
            raise PortError(*(result or ("port-failed", "the USB device cannot be looked for")))
        self._place = UsbPlace(self._place.server, result.serial)
        try:
            self._newest = UsbPort(result)
        except RuntimeError as error:
            raise _no_thread(error) from error
        return self._newest

    @property
    def serial(self) -> str:
        """Of the one device that is opened; empty: of whichever is found first."""
        return self._place.serial

    def _look(self) -> None:
        """Wait for the port before this one to end, then claim the device."""
        if self._newest is not None and not self._newest.ended(1.0):
            self._result = ("port-busy", "the port before has not ended yet")
            return
        if self._announcements is not None:
            self._announcements.wait()
        elif not self._place.server:
            self._announcements = usb_hotplug.listen()  # before the look: nothing is missed
        try:
            self._result = usb_find.claim(self._place, usb_find.backend_of(self._place))
        except PortError as error:
            self._result = (error.code, str(error.args[0]))
        except USBError as error:
            explained = usb_find.explained(error, "the USB device")
            self._result = (explained.code, str(explained.args[0]))
        else:
            if self._announcements is not None:
                self._announcements.close()
                self._announcements = None


def _no_thread(error: RuntimeError) -> PortError:
    return PortError("port-failed", f"no thread can be had for USB: {error}")


def _urgency() -> Callable[[], None]:
    """Makes another thread as urgent as this one: a thread that holds Python's lock and is not
    given the processor would keep the guard waiting. Where it is not allowed nothing changes."""
    policy = os.sched_getscheduler(0) & ~os.SCHED_RESET_ON_FORK
    parameter = os.sched_getparam(0)

    def take_over() -> None:
        with contextlib.suppress(OSError):
            os.sched_setscheduler(0, policy, parameter)

    return take_over
