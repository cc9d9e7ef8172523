"""The bytes of USB/IP 1.1.1, as Linux's documentation has them (usb/usbip_protocol). No I/O."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from sim_device.usb_descriptors import CONFIGURATION, Description

VERSION: Final = 0x0111
BUS_ID: Final = b"1-1"
DEVICE_ID: Final = 0x0001_0002  # bus 1, device 2
FULL_SPEED: Final = 2

DEVLIST, IMPORT = 0x0005, 0x0003
_REQUEST: Final = 0x8000  # in the code of what a client asks

OK, BUSY, NO_DEVICE = 0, 2, 4  # ST_OK, ST_DEV_BUSY, ST_NODEV

DATA_MAX: Final = 1 << 20
"""Bytes of one transfer that are believed. Who asks for more is hung up on."""

_SUBMIT, _UNLINK, _RET_SUBMIT, _RET_UNLINK = 1, 2, 3, 4
_ZERO_PACKET: Final = 0x40  # URB_ZERO_PACKET
_NOT_ISOCHRONOUS: Final = (0, 0xFFFF_FFFF)

_OP: Final = struct.Struct("!HHI")
_BUS_ID: Final = struct.Struct("!32s")
_RECORD: Final = struct.Struct("!256s32sIIIHHHBBBBBB")
_URB: Final = struct.Struct("!5I")
_SUBMIT_BODY: Final = struct.Struct("!IIIII8s")
_UNLINK_BODY: Final = struct.Struct("!I24x")
_RET_SUBMIT_BODY: Final = struct.Struct("!iIIII8x")
_RET_UNLINK_BODY: Final = struct.Struct("!i24x")


class MalformedError(Exception):
    """What came is no USB/IP, or nothing that this device could be asked."""


@dataclass(frozen=True, slots=True)
class ListRequest:
    """Which devices are there?"""


@dataclass(frozen=True, slots=True)
class ImportRequest:
    bus_id: bytes


@dataclass(frozen=True, slots=True)
class Submit:
    """A transfer: `data` of one OUT, `length` of one IN."""

    number: int
    endpoint: int  # without the direction
    is_in: bool
    length: int
    setup: bytes
    data: bytes
    ends_with_zero: bool


@dataclass(frozen=True, slots=True)
class Unlink:
    """Take a transfer back."""

    number: int
    of_number: int


Message = ListRequest | ImportRequest | Submit | Unlink


class Reader:
    """What one client says, in any chunks, to messages. MalformedError: hang up."""

    def __init__(self) -> None:
        self.imported = False  # afterwards it speaks of transfers
        self._rest = bytearray()

    def feed(self, data: bytes) -> None:
        self._rest += data

    def next(self) -> Message | None:
        """None until a whole message has come."""
        found = self._transfer() if self.imported else self._operation()
        if found is None:
            return None
        message, size = found
        del self._rest[:size]
        return message

    def _operation(self) -> tuple[Message, int] | None:
        if len(self._rest) < _OP.size:
            return None
        version, code, _status = _OP.unpack_from(self._rest)
        if version != VERSION:
            raise MalformedError(f"version {version:#06x}")
        if code == _REQUEST | DEVLIST:
            return ListRequest(), _OP.size
        if code != _REQUEST | IMPORT:
            raise MalformedError(f"code {code:#06x}")
        size = _OP.size + _BUS_ID.size
        if len(self._rest) < size:
            return None
        (bus_id,) = _BUS_ID.unpack_from(self._rest, _OP.size)
        return ImportRequest(bus_id.partition(b"\0")[0]), size

    def _transfer(self) -> tuple[Message, int] | None:
        head = _URB.size + _SUBMIT_BODY.size
        if len(self._rest) < head:
            return None
        command, number, device, direction, endpoint = _URB.unpack_from(self._rest)
        if device != DEVICE_ID or direction > 1 or endpoint > 15:
            raise MalformedError(f"device {device:#x}, direction {direction}, endpoint {endpoint}")
        if command == _UNLINK:
            return Unlink(number, *_UNLINK_BODY.unpack_from(self._rest, _URB.size)), head
        if command != _SUBMIT:
            raise MalformedError(f"command {command}")
        flags, length, _frame, packets, _interval, setup = _SUBMIT_BODY.unpack_from(
            self._rest, _URB.size
        )
        if length > DATA_MAX or packets not in _NOT_ISOCHRONOUS:
            raise MalformedError(f"{length} bytes, {packets} packets")
        size = head + (0 if direction else length)
        if len(self._rest) < size:
            return None
        data = bytes(self._rest[head:size])
        zero = bool(flags & _ZERO_PACKET)
        return Submit(number, endpoint, bool(direction), length, setup, data, zero), size


# -- answers --------------------------------------------------------------------------------------


def device_record(about: Description) -> bytes:
    """The device as lists and imports tell it."""
    return _RECORD.pack(
        b"/sys/devices/tmssim/usb1/" + BUS_ID, BUS_ID, DEVICE_ID >> 16, DEVICE_ID & 0xFFFF,
        FULL_SPEED, about.vendor, about.product, about.release, 0, 0, 0, CONFIGURATION, 1, 1,
    )  # fmt: skip


def list_answer(about: Description | None) -> bytes:
    """All devices: one, or none."""
    head = _OP.pack(VERSION, DEVLIST, OK)
    if about is None:
        return head + (0).to_bytes(4, "big")
    return head + (1).to_bytes(4, "big") + device_record(about) + bytes((*about.class_, 0))


def import_answer(about: Description) -> bytes:
    return _OP.pack(VERSION, IMPORT, OK) + device_record(about)


def import_refusal(status: int) -> bytes:
    return _OP.pack(VERSION, IMPORT, status)


def submit_answer(number: int, status: int, actual: int, data: bytes) -> bytes:
    head = _URB.pack(_RET_SUBMIT, number, 0, 0, 0)
    return head + _RET_SUBMIT_BODY.pack(status, actual, 0, 0, 0) + data


def unlink_answer(number: int, status: int) -> bytes:
    return _URB.pack(_RET_UNLINK, number, 0, 0, 0) + _RET_UNLINK_BODY.pack(status)
