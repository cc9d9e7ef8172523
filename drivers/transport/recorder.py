"""Notes what passes on any transport, with the instant of each."""

from __future__ import annotations

from collections.abc import Callable

from drivers.contract import Transport
from firmware_protocol import recording
from firmware_protocol.quantities import BootUs
from firmware_protocol.recording import Record

Sink = Callable[[Record], None]
"""Takes a record, and never blocks."""


class RecordingTransport:
    """A transport that also notes what passes."""

    def __init__(self, inner: Transport, now: Callable[[], BootUs], sink: Sink) -> None:
        """`inner` has just been opened."""
        self._inner = inner
        self._now = now
        self._sink = sink
        self._note(recording.OPENED)

    def read(self) -> bytes:
        try:
            data = self._inner.read()
        except OSError as error:
            self._failed(error)
            raise
        if data:
            self._note(recording.FROM_DEVICE, data)
        return data

    def write(self, data: bytes) -> bool:
        try:
            taken = self._inner.write(data)
        except OSError as error:
            self._failed(error)
            raise
        self._note(recording.TO_DEVICE if taken else recording.NOT_TAKEN, data)
        return taken

    def stop(self) -> bool:
        """Noted where the transport has a way of its own."""
        has_way = self._inner.stop()
        if has_way:
            self._note(recording.STOPPED)
        return has_way

    def fileno(self) -> int:
        return self._inner.fileno()

    def close(self) -> None:
        self._note(recording.CLOSED)
        self._inner.close()

    def _failed(self, error: OSError) -> None:
        why = " ".join((error.strerror or str(error)).split())
        self._note(recording.FAILED, f"{error.errno or 0} {why}".encode())

    def _note(self, mark: str, data: bytes = b"") -> None:
        self._sink(Record(self._now(), mark, data))
