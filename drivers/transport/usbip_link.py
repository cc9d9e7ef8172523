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

    __slots__ = ("comes", "data", "done", "length", "number", "size", "status", "woken")

    def __init__(self, size: int, *, comes: bool) -> None:
        self.size = size
        self.comes = comes  # bytes come with the reply: the server does not repeat the direction
        self.number = self.status = self.length = 0
        self.done = False
        self.data = b""
        self.woken: threading.Lock | None = None  # a leader needs none

    def wake(self) -> None:
        """Only under the link's lock. Several times count once."""
        if self.woken is not None and self.woken.locked():
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
        self._users = 0  # threads that use the socket
        self._ended = ""  # why there is no connection any more
        self._input = b""  # of a reply that has not come whole; the leader's
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
        mine = _Pending(size, comes=direction == wire.IN)
        self._exchange(
            mine, wire.CMD_SUBMIT, direction, endpoint, 0, setup, out, timeout_ms / 1_000
        )
        if not mine.done:
            self._unlink(mine)
        if mine.status:
            raise failure(-mine.status)
        return mine.length, mine.data

    def close(self) -> None:
        """Whoever still waits gets ENODEV at once. Where nobody does it waits, for a short time,
        until the server has noticed: then the device can be imported again."""
        with self._lock:
            alone = not self._users and not self._ended
        if alone:
            until = time.monotonic() + END_WITHIN_S
            with contextlib.suppress(OSError):  # it takes its time, or is gone: no matter
                self._line.shutdown(socket.SHUT_WR)
                while (left := until - time.monotonic()) > 0:
                    self._line.settimeout(left)
                    if not self._line.recv(RECEIVE_SIZE):
                        break
        self._end("closed")
        with self._lock:
            self._release()

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

    def _exchange(
        self,
        mine: _Pending,
        command: int,
        direction: int,
        endpoint: int,
        flags: int,
        setup: bytes,
        out: bytes,
        wait_s: float,
    ) -> None:
        """Send a command and wait until it is done or the time is over. USBError when all ends."""
        with self._lock:
            self._check()
            self._users += 1
            self._number = mine.number = self._number + 1
            self._pending[mine.number] = mine
            leads = not self._led
            self._led = True
        try:
            data = wire.COMMAND.pack(
                command, mine.number, self._device_id, direction, endpoint,
                flags, mine.size, 0, 0, 0, setup,
            )  # fmt: skip
            self._send(data + out)
            until = time.monotonic() + wait_s
            left = wait_s
            while left > 0 and not (mine.done or self._ended):
                if leads:
                    # A blocking receive is one system call less, and ends after RECEIVE_WITHIN_S.
                    if left >= wire.RECEIVE_WITHIN_S or self._poller.poll(left * 1_000):
                        self._receive()
                else:
                    leads = self._follow(mine, left)
                left = until - time.monotonic()
        finally:
            with self._lock:
                if leads:
                    self._led = False
                if not self._led:
                    self._appoint(mine)
                self._users -= 1
                self._release()
        if not mine.done:
            self._check()

    def _send(self, data: bytes) -> None:
        try:
            with self._sending:
                self._line.sendall(data)
        except OSError as error:
            self._end(f"nothing can be sent: {error.strerror or error}")

    def _follow(self, mine: _Pending, left_s: float) -> bool:
        """Whether to lead now; else wait until woken, or the time is over."""
        with self._lock:
            if mine.done or self._ended:
                return False
            if not self._led:
                self._led = True
                return True
            if mine.woken is None:
                mine.woken = threading.Lock()
                mine.woken.acquire()
        mine.woken.acquire(timeout=left_s)
        return False

    def _appoint(self, mine: _Pending) -> None:
        """Under the lock: somebody else reads on. The oldest waits longest, as readers do."""
        for pending in self._pending.values():
            if pending is not mine and pending.woken is not None:
                pending.wake()
                return

    def _receive(self) -> None:
        """What has come, for everybody. Only the leader."""
        try:
            data = self._line.recv(RECEIVE_SIZE)
        except BlockingIOError:
            return
        except OSError as error:
            self._end(error.strerror or str(error))
            return
        if not data:
            self._end("the server hung up")
            return
        if self._input:
            data = self._input + data
        try:
            with self._lock:
                self._input = self._deliver(data)
        except wire.WireError as error:
            self._end(str(error))

    def _deliver(self, data: bytes) -> bytes:
        """Under the lock: all replies that have come whole. What is left belongs to the next."""
        at = 0
        while len(data) - at >= wire.REPLY_SIZE:
            command, number, status, length = wire.REPLY.unpack_from(data, at)
            pending = self._pending.get(number)
            if pending is None or command not in (wire.RET_SUBMIT, wire.RET_UNLINK):
                raise wire.WireError(f"reply {command} to command {number}, which nobody awaits")
            size = length if pending.comes and command == wire.RET_SUBMIT else 0
            if not 0 <= size <= pending.size:
                raise wire.WireError(f"{size} bytes came where {pending.size} were asked for")
            end = at + wire.REPLY_SIZE + size
            if len(data) < end:
                break
            if size:
                pending.data = data[end - size : end]
            # What a RET_UNLINK says of a length is of no transfer: nothing came.
            pending.status = status
            pending.length = length if command == wire.RET_SUBMIT else 0
            pending.done = True
            del self._pending[number]
            pending.wake()
            at = end
        return data[at:]

    def _unlink(self, mine: _Pending) -> None:
        """Take a transfer back whose time is over. Its status says what became of it."""
        with self._lock:
            mine.woken = None  # nobody waits for it here: it must not be appointed to read on
        unlink = _Pending(0, comes=False)
        self._exchange(
            unlink, wire.CMD_UNLINK, wire.OUT, 0, mine.number, NO_SETUP, b"", UNLINK_WITHIN_S
        )
        with self._lock:
            if not mine.done:
                del self._pending[mine.number]
                mine.status = -errno.ETIMEDOUT
        if not unlink.done:
            self._end("it does not answer UNLINK")
            self._check()
