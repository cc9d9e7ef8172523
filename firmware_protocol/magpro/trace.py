"""What passed on the line of a MagPro, in words: for reading recordings without a device."""

from __future__ import annotations

from firmware_protocol.errors import RemoteProtocolError
from firmware_protocol.magpro.coding import decode, describe
from firmware_protocol.magpro.framing import Deframer, frame
from firmware_protocol.table import Direction
from firmware_protocol.traced import Traced


class _Way:
    """One direction. Keeps its bytes until they are told, so that damaged ones can be shown."""

    def __init__(self, direction: Direction) -> None:
        self._direction = direction
        self._deframer = Deframer()
        self._untold = b""

    def feed(self, data: bytes) -> list[Traced]:
        self._untold += data
        skipped = self._deframer.skipped
        found = []
        for payload in self._deframer.feed(data):
            whole = frame(payload)
            at = self._untold.index(whole)
            skipped += at
            found += self._damaged(at)
            self._untold = self._untold[len(whole) :]
            found.append(self._told(payload))
        return found + self._damaged(self._deframer.skipped - skipped)

    def _damaged(self, size: int) -> list[Traced]:
        """The next so many bytes belong to no frame."""
        data, self._untold = self._untold[:size], self._untold[size:]
        return [Traced("", data, "garbage: bytes that are no frame")] if data else []

    def _told(self, payload: bytes) -> Traced:
        try:
            return Traced(describe(decode(payload, self._direction)))
        except RemoteProtocolError as error:
            return Traced("", frame(payload), f"content: {error}")


class MagproTrace:
    """Both ways of one line."""

    def __init__(self) -> None:
        self._ways = {True: _Way(Direction.TO_DEVICE), False: _Way(Direction.TO_HOST)}

    def feed(self, data: bytes, *, to_device: bool) -> list[Traced]:
        return self._ways[to_device].feed(data)
