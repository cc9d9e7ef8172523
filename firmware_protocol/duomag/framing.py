"""Commands to bytes, bytes to status records. Never raises on what comes from the line.

Nothing of this protocol has a checksum. All that a host can hold against a damaged record is its
length: the sync byte ends it, and the length is the same every time.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from firmware_protocol.duomag.messages import (
    BODY_SIZE_MAX,
    BODY_SIZE_MIN,
    BY_BYTE,
    SYNC,
    Command,
    Status,
    byte_of,
    status_of,
)
from firmware_protocol.errors import RemoteProtocolError

AGREE: Final = 3
"""So many records of the same length, one after the other, make it the length that is believed."""

_SYNC: Final = bytes((SYNC,))


class Ignored(NamedTuple):
    """Bytes that were not believed, and why."""

    data: bytes
    why: str


def encode(commands: Iterable[Command]) -> bytes:
    """Every byte twice. LocalProtocolError for what the protocol does not have."""
    return b"".join(bytes((byte_of(command),)) * 2 for command in commands)


class StatusDecoder:
    """Cuts any chunking of a noisy stream into records. Holds at most one."""

    def __init__(self) -> None:
        self._piece = b""
        self._synced = False  # what came before the first sync is a part of a record
        self._size = self._other = self._run = 0

    def feed(self, data: bytes) -> list[Status | Ignored]:
        """Records that ended, each with the sync of the one behind it."""
        *ended, rest = (self._piece + data).split(_SYNC)
        found: list[Status | Ignored] = []
        for piece in ended:
            if piece:
                found.append(self._record(piece))
            self._synced = True
        self._piece = rest[: BODY_SIZE_MAX + 1]  # too long stays too long
        return found

    def _record(self, body: bytes) -> Status | Ignored:
        if not self._synced:
            return Ignored(body, "the rest of a record")
        if not BODY_SIZE_MIN <= len(body) <= BODY_SIZE_MAX:
            return Ignored(body, f"length {len(body)}: no record is as long")
        if not self._is_usual(len(body)):
            return Ignored(body, f"length {len(body)}: not the usual one")
        try:
            return status_of(body)
        except RemoteProtocolError as error:
            return Ignored(body, f"content: {error}")

    def _is_usual(self, size: int) -> bool:
        """Is it the length of the other records? Another one has to come AGREE times in a row."""
        if size == self._size:
            self._other = self._run = 0
            return True
        self._run = self._run + 1 if size == self._other else 1
        self._other = size
        if self._run < AGREE:
            return False
        self._size, self._other, self._run = size, 0, 0
        return True


class CommandDecoder:
    """What a host said: for traces and tests. A byte without its double is ignored."""

    def __init__(self) -> None:
        self._half: int | None = None

    def feed(self, data: bytes) -> list[Command | Ignored]:
        found: list[Command | Ignored] = []
        for byte in data:
            if byte == self._half:
                found.append(BY_BYTE[byte])
                self._half = None
                continue
            if self._half is not None:
                found.append(Ignored(bytes((self._half,)), "a byte without its double"))
            self._half = byte
        return found
