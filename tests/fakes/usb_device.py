"""A device as pyusb shows it, at the edge to the operating system: scripted, without any bus."""

from __future__ import annotations

import errno
import threading
from array import array
from collections import defaultdict, deque
from typing import Any

from usb.core import USBError, USBTimeoutError

from drivers.transport.usb_find import Found

BULK_OUT, BULK_IN, INTERRUPT_IN = 0x02, 0x83, 0x81
STOP = "stop"


class FakeUsb:
    """`script[endpoint]`: what comes next, bytes, an errno or what is raised. Else it NAKs."""

    def __init__(self) -> None:
        self.script: dict[int | str, deque[bytes | int | Exception]] = defaultdict(deque)
        self.changed = threading.Condition()
        self.reads: list[int] = []
        self.written: list[bytes] = []
        self.cleared: list[int] = []
        self.stops: list[tuple[int, ...]] = []
        self.nak: set[int | str] = set()  # every transfer waits for its whole time-out
        self.disposed = 0
        self._ctx = self  # pyusb's own helpers reach for it

    def found(self) -> Found:
        return Found(self, "TR000001", 0, BULK_OUT, BULK_IN, INTERRUPT_IN, 64)

    def next(self, endpoint: int | str, *items: bytes | int | Exception) -> None:
        with self.changed:
            self.script[endpoint].extend(items)
            self.changed.notify_all()

    # -- what pyusb has ------------------------------------------------------------------

    def read(self, endpoint: int, buffer: array[int], timeout: int) -> int:
        data = self._take(endpoint, timeout)
        self.reads.append(endpoint)
        memoryview(buffer)[: len(data)] = array("B", data)
        return len(data)

    def write(self, endpoint: int, data: bytes, timeout: int) -> int:
        self._wait_or_fail(endpoint, timeout)
        self.written.append(bytes(data))
        return len(data)

    def ctrl_transfer(
        self, kind: int, request: int, value: int, index: int, data: None, timeout: int
    ) -> int:
        self._wait_or_fail(STOP, timeout)
        self.stops.append((kind, request, value, index))
        return 0

    def clear_halt(self, endpoint: int) -> None:
        self._wait_or_fail(-endpoint, 0)
        self.cleared.append(endpoint)

    def dispose(self, _device: Any, _close_handle: bool = True) -> None:
        self.disposed += 1

    # -- inside --------------------------------------------------------------------------

    def _take(self, endpoint: int | str, timeout: int) -> bytes:
        with self.changed:
            there = self.changed.wait_for(lambda: self.script[endpoint], timeout / 1_000)
            if not there:
                raise USBTimeoutError("timed out", -7, errno.ETIMEDOUT)
            item = self.script[endpoint].popleft()
        if isinstance(item, int):
            raise USBError("as the test wants it", None, item)
        if isinstance(item, Exception):
            raise type(item)(*item.args)  # itself, it would be kept by this frame
        return item

    def _wait_or_fail(self, endpoint: int | str, timeout: int) -> None:
        """OUT: taken at once, unless the script or `nak` says otherwise."""
        if endpoint in self.nak or self.script[endpoint]:
            self._take(endpoint, timeout)
