"""The device's own end of the tmslink line, written from the specification alone.

It shares the message table with the host and nothing else: checksum, stuffing and framing are
written a second time here, so that a mistake on either side shows.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from functools import lru_cache, reduce
from itertools import compress
from operator import getitem, xor
from typing import Any, Final, NamedTuple

from firmware_protocol.table import Direction, Spec, spec_of, values_of
from firmware_protocol.tmslink.messages import (
    BODY_SIZE_MAX,
    CONTENT,
    CRC_SIZE,
    HEADER_SIZE,
    PLAIN_SEED,
    STOP_BYTE,
    STOP_RUN,
    TABLE,
)

PLAIN: Final = 0xFFFFFFFF
_POLYNOMIAL: Final = 0xF1922815
_PIECE_MAX: Final = BODY_SIZE_MAX + 1
_STOP: Final = bytes((STOP_BYTE,))
_STOP_RUN: Final = _STOP * STOP_RUN
_COMMANDS: Final = {s.code: s for s in TABLE.specs if s.direction is Direction.TO_DEVICE}


def _remainder(byte: int) -> int:
    """Of byte x^32 divided by the polynomial."""
    remainder = byte << 32
    for bit in range(39, 31, -1):
        if remainder >> bit & 1:
            remainder ^= (1 << 32 | _POLYNOMIAL) << (bit - 32)
    return remainder


def _make_parts() -> tuple[array[int], ...]:
    """What each byte adds to the checksum, by its distance from the end; the farthest first."""
    last = array("I", [_remainder(byte) for byte in range(256)])  # arrays are small: they stay near
    parts = [last]
    for _ in range(BODY_SIZE_MAX - 1):
        parts.append(array("I", [(p & 0xFFFFFF) << 8 ^ last[p >> 24] for p in parts[-1]]))
    return tuple(reversed(parts))


_PARTS: Final = _make_parts()
_FROM_END: Final = tuple(_PARTS[BODY_SIZE_MAX - size :] for size in range(BODY_SIZE_MAX + 1))


@lru_cache(maxsize=16)
def _starts(register: int) -> tuple[int, ...]:
    """What a register at the start adds, by the number of bytes that follow.

    It counts as four more bytes, laid over the first four.
    """
    laid = register.to_bytes(4, "big")
    return tuple(reduce(xor, map(getitem, parts[:4], laid), 0) for parts in _FROM_END)


def checksum(data: bytes, register: int = PLAIN) -> int:
    """CRC-32 of 4 to BODY_SIZE_MAX bytes.

    The checksum is linear: it is the sum (XOR) of what each byte adds by itself. A zero adds
    nothing.
    """
    size = len(data)
    added = map(getitem, compress(_FROM_END[size], data), data.replace(b"\0", b""))
    return reduce(xor, added, _starts(register)[size])


def seed_of(serial: str) -> int:
    """Where the checksum of a device's own frames begins."""
    return checksum(serial.encode()[:8].ljust(8, b"\0"))


_LEAD: Final = tuple(bytes((length + 1,)) for length in range(BODY_SIZE_MAX + 1))


def encode(message: Any, session: int, sequence: int, seed: int) -> bytes:
    """One frame for the host, delimiters included."""
    kind = type(message)
    spec = spec_of(kind)
    content = CONTENT[kind].pack(spec.code, session, sequence, *values_of(spec, message))
    check = checksum(content, PLAIN if spec.code in PLAIN_SEED else seed)
    runs = (content + check.to_bytes(CRC_SIZE, "little")).split(b"\0")
    # Each run of non-zero bytes is led by its length plus one, which takes the place of a zero.
    stuffed = b"".join([_LEAD[len(run)] + run if run else b"\1" for run in runs])
    return b"\0" + stuffed + b"\0"


def unstuff(piece: bytes) -> bytes | None:
    """The body of one piece between delimiters, or None when its counts do not add up."""
    body = bytearray(piece)
    at, size = 0, len(piece)
    while at < size:
        body[at] = 0  # each count stands where a zero was, the first one before the body
        at += piece[at]
    return bytes(body[1:]) if at == size else None


class Inbound(NamedTuple):
    """A frame with the right checksum. `values` is None when one of them is out of its range."""

    spec: Spec
    session: int
    sequence: int
    values: tuple[Any, ...] | None


class RawStop(NamedTuple):
    """A run of STOP bytes went by."""


@dataclass(slots=True)
class LineCounters:
    """What came and was not used."""

    garbage: int = 0  # pieces that are no frame
    bad_crc: int = 0
    unknown: int = 0  # right checksum, but no command or of a wrong size


class Line:
    """Bytes from the host, in any chunks, to frames and STOPs in the order in which they ended."""

    def __init__(self, seed: int) -> None:
        self.counters = LineCounters()
        self._seed = seed
        self._piece = b""  # what has come of a frame that has not ended
        self._stop_run = 0

    def feed(self, data: bytes) -> list[Inbound | RawStop]:
        found: list[Inbound | RawStop] = []
        if not self._stop_run and _STOP_RUN not in data and not data.endswith(_STOP):
            self._frames(data, found)
            return found
        start = 0
        for at, byte in enumerate(data):
            if byte != STOP_BYTE:
                self._stop_run = 0
                continue
            self._stop_run += 1
            if self._stop_run == STOP_RUN:
                self._frames(data[start : at + 1], found)
                found.append(RawStop())
                start = at + 1
        self._frames(data[start:], found)
        return found

    def _frames(self, data: bytes, found: list[Inbound | RawStop]) -> None:
        *ended, rest = data.split(b"\0")
        for piece in ended:
            if self._piece:
                piece = self._piece + piece  # noqa: PLW2901
                self._piece = b""
            if piece:
                inbound = self._check(piece)
                if inbound is not None:
                    found.append(inbound)
        if rest:
            self._piece = (self._piece + rest)[: _PIECE_MAX + 1]  # too long stays too long

    def _check(self, piece: bytes) -> Inbound | None:
        body = unstuff(piece) if len(piece) <= _PIECE_MAX else None
        if body is None or len(body) < HEADER_SIZE + CRC_SIZE:
            self.counters.garbage += 1
            return None
        content = body[:-CRC_SIZE]
        code = content[0]
        check = checksum(content, PLAIN if code in PLAIN_SEED else self._seed)
        if check != int.from_bytes(body[-CRC_SIZE:], "little"):
            self.counters.bad_crc += 1
            return None
        spec = _COMMANDS.get(code)
        if spec is None or len(content) - HEADER_SIZE != spec.layout.size:
            self.counters.unknown += 1
            return None
        fields = CONTENT[spec.make].unpack(content)
        values = fields[3:]
        fits = not spec.ranged or all(low <= values[at] <= high for at, low, high in spec.ranged)
        return Inbound(spec, fields[1], fields[2], values if fits else None)
