"""Remembers the newest bytes of any transport, with the instant of each."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from drivers.contract import Transport
from firmware_protocol.quantities import BootUs

Record = tuple[int, str, bytes]
"""Instant in microseconds, "<" from or ">" to the device, bytes."""


class RecordingTransport:
    """A transport that also notes what passes."""

    def __init__(self, inner: Transport, now: Callable[[], BootUs], records: deque[Record]) -> None:
        """`records` has a maximum length: the newest are kept."""
        self._inner = inner
        self._now = now
        self._records = records

    def read(self) -> bytes:
        data = self._inner.read()
        if data:
            self._records.append((self._now(), "<", data))
        return data

    def write(self, data: bytes) -> bool:
        taken = self._inner.write(data)
        self._records.append((self._now(), ">" if taken else "x", data))
        return taken

    def fileno(self) -> int:
        return self._inner.fileno()

    def close(self) -> None:
        self._inner.close()
