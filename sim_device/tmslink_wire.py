"""The device's own end of the tmslink line, written from the specification alone.

It shares the message table with the host and nothing else: checksum, stuffing and framing are done
in another way here, so that a mistake on either side shows.
"""

from __future__ import annotations

import struct
from array import array
from dataclasses import dataclass
from functools import reduce
from operator import getitem, xor
from typing import Any, Final, NamedTuple

from firmware_protocol.table import Direction, Spec, pack, spec_of
from firmware_protocol.tmslink.messages import (
    BODY_SIZE_MAX,
    CRC_SIZE,
    HEADER,
    HEADER_SIZE,
    PLAIN_SEED,
    STOP_BYTE,
    STOP_RUN,
    TABLE,
)

PLAIN: Final = 0xFFFFFFFF
_POLYNOMIAL: Final = 0xF1922815
_HEADER: Final = struct.Struct(HEADER)
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


def checksum(data: bytes, register: int = PLAIN) -> int:
    """CRC-32 of 4 to BODY_SIZE_MAX bytes.

    The checksum is linear: it is the sum (XOR) of what each byte adds by itself, and the register
    at the start counts as four more bytes laid over the first four.
    """
    parts = _FROM_END[len(data)]
    first, second, third, fourth = parts[:4]
    start = (
        first[register >> 24]
        ^ second[register >> 16 & 0xFF]
        ^ third[register >> 8 & 0xFF]
        ^ fourth[register & 0xFF]
    )
    return reduce(xor, map(getitem, parts, data), start)


def seed_of(serial: str) -> int:
    """Where the checksum of a device's own frames begins."""
    return checksum(serial.encode()[:8].ljust(8, b"\0"))


_LEAD: Final = tuple(bytes((length + 1,)) for length in range(BODY_SIZE_MAX + 1))


def encode(message: Any, session: int, sequence: int, seed: int) -> bytes:
    """One frame for the host, delimiters included."""
    code = spec_of(type(message)).code
    content = _HEADER.pack(code, session, sequence) + pack(message)
    check = checksum(content, PLAIN if code in PLAIN_SEED else seed)
    runs = (content + check.to_bytes(CRC_SIZE, "little")).split(b"\0")
    # Each run of non-zero bytes is led by its length plus one, which takes the place of a zero.
    return b"\0" + b"".join([_LEAD[len(run)] + run for run in runs]) + b"\0"


def unstuff(piece: bytes) -> bytes | None:
    """The body of one piece between delimiters, or None when its counts do not add up."""
    body = bytearray(piece)
    at, size = 0, len(piece)
    while at < size:
        count = piece[at]
        body[at] = 0  # each count stands where a zero was, the first one before the body
        at += count
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
        self._piece = bytearray()
        self._overlong = False
        self._stop_run = 0

    def feed(self, data: bytes) -> list[Inbound | RawStop]:
        found: list[Inbound | RawStop] = []
        if not self._stop_run and STOP_BYTE not in data:
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
        at = 0
        while (end := data.find(0, at)) >= 0:
            self._keep(data[at:end])
            if self._piece or self._overlong:
                inbound = None if self._overlong else self._check(bytes(self._piece))
                if inbound is not None:
                    found.append(inbound)
                self.counters.garbage += self._overlong
                self._piece.clear()
                self._overlong = False
            at = end + 1
        self._keep(data[at:])

    def _keep(self, data: bytes) -> None:
        if len(self._piece) + len(data) > BODY_SIZE_MAX + 1:
            self._overlong = True
            self._piece.clear()
        if not self._overlong:
            self._piece += data

    def _check(self, piece: bytes) -> Inbound | None:
        body = unstuff(piece)
        if body is None or len(body) < HEADER_SIZE + CRC_SIZE:
            self.counters.garbage += 1
            return None
        content, check = body[:-CRC_SIZE], body[-CRC_SIZE:]
        code, session, sequence = _HEADER.unpack_from(content)
        seed = PLAIN if code in PLAIN_SEED else self._seed
        if checksum(content, seed) != int.from_bytes(check, "little"):
            self.counters.bad_crc += 1
            return None
        spec = _COMMANDS.get(code)
        if spec is None or len(content) - HEADER_SIZE != spec.layout.size:
            self.counters.unknown += 1
            return None
        values = spec.layout.unpack_from(content, HEADER_SIZE)
        fits = all(low <= values[index] <= high for index, low, high in spec.ranged)
        return Inbound(spec, session, sequence, values if fits else None)
