"""The unit's own end of the MagPro line, written from the facts alone.

It shares the table of messages with the host and nothing else: checksum, framing and encoder are
written a second time here, so that a mistake on either side shows.
"""

from __future__ import annotations

import enum
from typing import Final, NamedTuple

from firmware_protocol.magpro.layout import Row, fits, raw_values, row_of
from firmware_protocol.magpro.messages import ToHost, find_row
from firmware_protocol.table import Direction

_FIRST: Final = 254
_LAST: Final = 255
COMMAND_SIZE_MAX: Final = 16
"""Payload bytes. The longest command has 14; a greater length is no beginning of a frame."""


def checksum(payload: bytes) -> int:
    """Remainder of the payload by x^8 + x^5 + x^4 + 1, each byte with its lowest bit first."""
    remainder = 0
    for byte in payload:
        for place in range(8):
            carry = (remainder ^ byte >> place) & 1
            remainder >>= 1
            if carry:
                remainder ^= 0b10001100
    return remainder


def seal(payload: bytes) -> bytes:
    """A frame around the payload."""
    return bytes([_FIRST, len(payload)]) + payload + bytes([checksum(payload), _LAST])


def encode(message: ToHost) -> bytes:
    """One frame for the host. What does not fit into its field is cut to what does."""
    row = row_of(type(message))
    payload = bytearray(row.sizes[-1])
    payload[0] = row.code
    for field, value in zip(row.fields, message, strict=True):
        wire = field.wire
        lowest = -(1 << 8 * wire.size - 1) if wire.signed else 0
        highest = lowest + (1 << 8 * wire.size) - 1
        bits = min(max(int(value), lowest), highest) % (1 << 8 * wire.size)
        octets = [bits >> 8 * place & 0xFF for place in range(wire.size)]
        payload[wire.at : wire.end] = octets if wire.little else octets[::-1]
    return seal(bytes(payload))


class Flaw(enum.Enum):
    """Why something that began like a frame is no command."""

    LENGTH = "a length that no command has"
    CHECKSUM = "wrong checksum"
    END = "no FF where the length says that it ends"
    UNKNOWN = "an id that is not known"
    SIZE = "another size than the id has"


class Command(NamedTuple):
    """A command with the right checksum and size. Its values may be out of their ranges."""

    row: Row
    values: dict[str, int]  # without those that a short form leaves out


class Malformed(NamedTuple):
    flaw: Flaw
    data: bytes


class Line:
    """Bytes from the host, in any chunks, to commands and flaws in the order in which they ended.

    Bytes between frames that do not begin one are passed over. Behind a flaw the search goes on at
    the byte behind its first.
    """

    def __init__(self, *, check: bool = True) -> None:
        """`check`: False for a firmware that does not look at the checksum."""
        self._check = check
        self._held = bytearray()  # begins with FE when there is anything

    def feed(self, data: bytes) -> list[Command | Malformed]:
        found: list[Command | Malformed] = []
        for byte in data:
            if not self._held and byte != _FIRST:
                continue
            self._held.append(byte)
            while self._held:
                item, used = _judge(bytes(self._held), check=self._check)
                if not used:
                    break
                if item is not None:
                    found.append(item)
                del self._held[:used]
                begin = self._held.find(_FIRST)
                del self._held[: len(self._held) if begin < 0 else begin]
        return found


def _judge(held: bytes, *, check: bool) -> tuple[Command | Malformed | None, int]:
    """What bytes that begin with FE are, and how many of them that settles; 0: more are needed."""
    if len(held) < 2:
        return None, 0
    length = held[1]
    if not 1 <= length <= COMMAND_SIZE_MAX:
        return Malformed(Flaw.LENGTH, held[:2]), 1
    whole = length + 4
    if len(held) < whole:
        return None, 0
    if held[whole - 1] != _LAST:
        return Malformed(Flaw.END, held[:whole]), 1
    payload = held[2 : 2 + length]
    if check and checksum(payload) != held[whole - 2]:
        return Malformed(Flaw.CHECKSUM, held[:whole]), 1
    row = find_row(payload, Direction.TO_DEVICE)
    if row is None:
        return Malformed(Flaw.UNKNOWN, held[:whole]), whole
    if not fits(row, length):
        return Malformed(Flaw.SIZE, held[:whole]), whole
    values = zip((f.name for f in row.fields), raw_values(row, payload), strict=True)
    return Command(row, {name: value for name, value in values if value is not None}), whole
