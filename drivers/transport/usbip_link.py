"""One imported USB/IP device: transfers of several threads over one socket.

Whichever waiting thread comes first reads the socket and hands the others their replies (leader
and followers), so that a lone caller pays for no change of thread, and a reader that waits for
long serves the short transfers of the others.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import threading
import time
from typing import Final

from usb.core import USBError, USBTimeoutError

from drivers.transport import usbip_wire as wire

UNLINK_WITHIN_S: Final = 1.0
"""A server that has not answered an UNLINK by then is gone."""
END_WITHIN_S: Final = 0.2
RECEIVE_SIZE: Final = 65_536
NO_SETUP: Final = bytes(8)

_CODES: Final = {errno.EPIPE: -9, errno.ENODEV: -4, errno.EOVERFLOW: -8, errno.EBUSY: -6}
"""What libusb calls them; programs that look at `backend_error_code` find what they expect."""


def failure(number: int, why: str = "") -> USBError:
    """The exception for an errno."""
    if number == errno.ETIMEDOUT:
        return USBTimeoutError("the transfer timed out", -7, number)
    return USBError(why or os.strerror(number), _CODES.get(number, -1), number)


class _Pending:
    """One command whose reply is awaited."""

    __slots__ = ("comes", "data", "done", "length", "size", "status", "woken")

    def __init__(self, size: int, *, comes: bool) -> None:
        self.size = size
        self.comes = comes  # bytes come with the reply: the server does not repeat the direction
        self.done = False
        self.status = self.length = 0
        self.data = b""
        self.woken = threading.Lock()
        self.woken.acquire()

    def wake(self) -> None:
        """Only under the link's lock. Several times count once."""
        if self.woken.locked():
            self.woken.release()


class UsbipLink:
    """The connection of one imported device."""

    def __init__(self, line: socket.socket, device_id: int) -> None:
        self._line = line
        self._device_id = device_id
        self._sending = threading.Lock()
        self._lock = threading.Lock()  # for what follows; never held while waiting
        self._number = 0
        self._pending: dict[int, _Pending] = {}
        self._led = False  # some thread reads the socket
        self._users = 0  # threads inside `transfer`
        self._ended = ""  # why there is no connection any more
        self._input = bytearray()
        self._poller = select.poll()
        self._poller.register(line, select.POLLIN)

    def transfer(
        self,
        direction: int,
        endpoint: int,
        size: int,
        timeout_ms: int,
        setup: bytes = NO_SETUP,
        out: bytes = b"",
    ) -> tuple[int, bytes]:
        """How many bytes passed, and those that came. USBError as any backend raises it.

        It ends after the time-out and one UNLINK at the latest; a reply that crosses the UNLINK
        wins. A time-out of 0, no limit for other backends, is refused: no wait is endless here.
        """
        if timeout_ms <= 0:
            raise ValueError("a USB transfer needs a time-out")
        with self._lock:
            self._check()
            self._users += 1
        try:
            mine = _Pending(size, comes=direction == wire.IN)
            number = self._send(mine, wire.CMD_SUBMIT, direction, endpoint, 0, size, setup, out)
            self._wait(mine, time.monotonic() + timeout_ms / 1_000)
            if not mine.done:
                self._unlink(mine, number)
            if mine.status:
                raise failure(-mine.status)
            return mine.length, mine.data
        finally:
            with self._lock:
                self._users -= 1
                self._release()

    def close(self) -> None:
        """Whoever still waits gets ENODEV at once."""
        self._end("closed")
        with self._lock:
            self._release()

    def finish(self) -> None:
        """Close, and wait until the server has noticed: then the device can be imported again."""
        with contextlib.suppress(OSError):  # it takes its time, or is gone: the next import says so
            self._line.shutdown(socket.SHUT_WR)
            self._line.settimeout(END_WITHIN_S)
            while self._line.recv(RECEIVE_SIZE):
                pass
        self.close()

    # -- inside ------------------------------------------------------------------------------

    def _check(self) -> None:
        if self._ended:
            raise failure(errno.ENODEV, f"the USB/IP device is gone: {self._ended}")

    def _release(self) -> None:
        """Under the lock: the socket is closed by the last thread that uses it."""
        if self._ended and not self._users:
            self._line.close()

    def _end(self, why: str) -> None:
        with self._lock:
            if self._ended:
                return
            self._ended = why
            for pending in self._pending.values():
                pending.wake()
            with contextlib.suppress(OSError):  # the other end was faster
                self._line.shutdown(socket.SHUT_RDWR)  # wakes the leader

    def _send(
        self,
        mine: _Pending,
        command: int,
        direction: int,
        endpoint: int,
        flags: int,
        size: int,
        setup: bytes,
        out: bytes,
    ) -> int:
        with self._sending:
            with self._lock:
                self._check()
                self._number += 1
                number = self._number
                self._pending[number] = mine
            data = wire.COMMAND.pack(
                command, number, self._device_id, direction, endpoint, flags, size, 0, 0, 0, setup
            )
            try:
                self._line.sendall(data + out)
            except OSError as error:
                self._end(f"nothing can be sent: {error.strerror or error}")
        return number

    def _wait(self, mine: _Pending, until: float) -> None:
        """Until it is done or the time has come, as leader or follower. USBError when all ends."""
        try:
            while True:
                with self._lock:
                    if mine.done:
                        return
                    self._check()
                    left = until - time.monotonic()
                    if left <= 0:
                        return
                    leads = not self._led
                    if leads:
                        self._led = True
                if leads:
                    self._lead(mine, until)
                else:
                    mine.woken.acquire(timeout=left)
        finally:
            with self._lock:
                if not self._led:
                    self._appoint(mine)

    def _lead(self, mine: _Pending, until: float) -> None:
        """Read the socket for everybody until mine is done or the time has come."""
        try:
            while not (mine.done or self._ended):
                left = until - time.monotonic()
                if left <= 0:
                    break
                if self._poller.poll(left * 1_000):
                    self._receive()
        finally:
            with self._lock:
                self._led = False

    def _appoint(self, mine: _Pending) -> None:
        """Under the lock: somebody else reads on. The oldest waits longest, as readers do."""
        for pending in self._pending.values():
            if pending is not mine and not pending.done:
                pending.wake()
                return

    def _receive(self) -> None:
        try:
            piece = self._line.recv(RECEIVE_SIZE, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        except OSError as error:
            self._end(error.strerror or str(error))
            return
        if not piece:
            self._end("the server hung up")
            return
        self._input += piece
        try:
            with self._lock:
                self._take_replies()
        except wire.WireError as error:
            self._end(str(error))

    def _take_replies(self) -> None:
        """Under the lock: all replies that have come whole."""
        data, at = self._input, 0
        while len(data) - at >= wire.REPLY_SIZE:
            command, number, status, length = wire.read_reply(data, at)
            pending = self._pending.get(number)
            if pending is None or command not in (wire.RET_SUBMIT, wire.RET_UNLINK):
                raise wire.WireError(f"reply {command} to command {number}, which nobody awaits")
            size = length if pending.comes and command == wire.RET_SUBMIT else 0
            if not 0 <= size <= pending.size:
                raise wire.WireError(f"{size} bytes came where {pending.size} were asked for")
            if len(data) - at < wire.REPLY_SIZE + size:
                break
            at += wire.REPLY_SIZE
            pending.data = bytes(data[at : at + size])
            at += size
            pending.status, pending.length = status, length
            del self._pending[number]
            pending.done = True
            pending.wake()
        del data[:at]

    def _unlink(self, mine: _Pending, number: int) -> None:
        """Take a transfer back whose time is over. Its status says what became of it."""
        unlink = _Pending(0, comes=False)
        self._send(unlink, wire.CMD_UNLINK, wire.OUT, 0, number, 0, NO_SETUP, b"")
        self._wait(unlink, time.monotonic() + UNLINK_WITHIN_S)
        with self._lock:
            if mine.done:
                return
            self._pending.pop(number, None)
            mine.status = -errno.ETIMEDOUT
        if not unlink.done:
            self._end("it does not answer UNLINK")
            raise failure(errno.ENODEV, "the USB/IP device is gone: it does not answer UNLINK")
