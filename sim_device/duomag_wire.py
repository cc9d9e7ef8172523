"""The device's own end of the DuoMAG line, written from the facts and not from the host's code."""

from __future__ import annotations

from operator import or_
from typing import Final

from firmware_protocol.duomag.messages import Status

SYNC: Final = b"\xff"
SIZES: Final = (12, 31)
"""Shortest and longest record behind its sync."""

_UNUSED: Final = (0xC0, 0, 0, 0, 0, 0, 0x87, 0xA0, 0xFA, 0x80, 0x80, 0x88)
"""Bits of each byte of a record whose meaning nobody has told."""


class Dialect:
    """How the bytes fall into frames, for the faults of the line. There is no checksum."""

    def cut(self, data: bytes) -> list[bytes]:
        """A record is said at once; a host's write is cut into pairs."""
        if data[:1] == SYNC and data[1:2] != SYNC:
            return [data]
        return [data[at : at + 2] for at in range(0, len(data), 2)]

    def misprinted(self, frame: bytes, _hit: object, _rng: object) -> bytes:
        return frame

    def strangers(self, _frame: bytes, _hit: object) -> list[bytes]:
        return []


class Pairs:
    """Bytes from the host, in any chunks, to those that came twice."""

    def __init__(self, within_us: int) -> None:
        """A first byte is forgotten when its double takes longer than this; 0: never."""
        self._within_us = within_us
        self._first = -1  # none
        self._since_us = 0
        self.lonely = 0  # bytes without a double

    def feed(self, data: bytes, now_us: int) -> list[int]:
        found = []
        for byte in data:
            if self._within_us and now_us - self._since_us > self._within_us:
                self._drop()
            if byte == self._first:
                found.append(byte)
                self._first = -1
            else:
                self._drop()
                self._first, self._since_us = byte, now_us
        return found

    def _drop(self) -> None:
        self.lonely += self._first >= 0
        self._first = -1


def record(
    status: Status, size: int, spare: tuple[int, int] = (0, 0), *, unused: bool = False
) -> bytes:
    """A sync and `size` bytes, none of which looks like a sync.

    `spare`: bytes 13 and 14; `unused`: are the bits set whose meaning is unknown.
    """
    s = status
    content = [
        s.ttl_demand << 5 | s.change_pct & 0x1F,
        s.mso_pct,
        s.coil_adc,
        s.resistor_adc,
        s.discharge_adc,
        s.omitted,
        s.power_hot << 6 | s.coil_absent << 5 | s.hold_error << 4 | s.recharge_error << 3,
        s.fan_seized << 6 | s.coil_hot << 4 | s.resistor_hot << 3 | s.discharge_hot << 2
        | s.coil_data_ok << 1 | s.receiving_usb,
        s.idle << 2 | s.charged,
        s.ttl_steps,
        s.recharge_steps,
        s.recharge_step << 4 | s.ttl_step,
        *spare,
        s.coil_type or 0,
    ]  # fmt: skip
    if unused:
        content[: len(_UNUSED)] = map(or_, content, _UNUSED)
    content += [0] * (size - len(content))
    return SYNC + bytes(min(byte, 0xFE) for byte in content[:size])
