"""What a USB device says about itself: device, configuration, interface, endpoints and texts.

Written from chapter 9 of the USB 2.0 specification. Everything here is full speed, with one
configuration and one interface.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Callable
from typing import Final, NamedTuple

PACKET_MAX: Final = 64
"""Bytes of one packet: the most that full speed has for bulk, interrupt and control."""

IN: Final = 0x80
"""Bit of an endpoint address, and of bmRequestType: towards the host."""

CONFIGURATION: Final = 1
"""The one value that SET_CONFIGURATION takes, beside 0."""

_ENGLISH: Final = 0x0409
_SIZES: Final = {"device": 18, "configuration": 9, "interface": 9, "endpoint": 7}


class Kind(enum.IntEnum):
    """Types of descriptors."""

    DEVICE = 1
    CONFIGURATION = 2
    STRING = 3
    INTERFACE = 4
    ENDPOINT = 5


class Transfer(enum.IntEnum):
    """How an endpoint transfers, as in its bmAttributes."""

    BULK = 2
    INTERRUPT = 3


class Endpoint(NamedTuple):
    address: int
    transfer: Transfer
    interval_ms: int = 0


class Description(NamedTuple):
    """Everything from which the descriptors are made."""

    vendor: int
    product: int
    release: int  # bcdDevice
    class_: tuple[int, int, int]  # of the interface: class, subclass, protocol
    endpoints: tuple[Endpoint, ...]
    self_powered: bool
    max_ma: int
    texts: tuple[str, str, str]  # manufacturer, product, serial number

    def endpoint(self, address: int) -> Endpoint | None:
        return next((each for each in self.endpoints if each.address == address), None)


def device(about: Description) -> bytes:
    return struct.pack(
        "<BBHBBBBHHHBBBB",
        _SIZES["device"], Kind.DEVICE, 0x0200, 0, 0, 0, PACKET_MAX,
        about.vendor, about.product, about.release, 1, 2, 3, 1,
    )  # fmt: skip


def configuration(about: Description) -> bytes:
    """The configuration with all that belongs to it."""
    body = struct.pack(
        "<9B", _SIZES["interface"], Kind.INTERFACE, 0, 0, len(about.endpoints), *about.class_, 0
    )
    for each in about.endpoints:
        body += struct.pack(
            "<BBBBHB",
            _SIZES["endpoint"], Kind.ENDPOINT, each.address, each.transfer, PACKET_MAX,
            each.interval_ms,
        )  # fmt: skip
    power = 0x80 | 0x40 * about.self_powered
    head = struct.pack(
        "<BBHBBBBB",
        _SIZES["configuration"], Kind.CONFIGURATION, _SIZES["configuration"] + len(body), 1,
        CONFIGURATION, 0, power, about.max_ma // 2,
    )  # fmt: skip
    return head + body


def string(about: Description, index: int) -> bytes | None:
    """Index 0 is the list of languages; None for a text that there is not."""
    if index == 0:
        data = _ENGLISH.to_bytes(2, "little")
    elif index <= len(about.texts):
        data = about.texts[index - 1].encode("utf-16-le")
    else:
        return None
    return bytes((2 + len(data), Kind.STRING)) + data


def descriptor(about: Description, kind: int, index: int) -> bytes | None:
    """As GET_DESCRIPTOR asks for it; None for one that a full-speed device has not."""
    if kind == Kind.STRING:
        return string(about, index)
    if index == 0 and kind == Kind.DEVICE:
        return device(about)
    return configuration(about) if index == 0 and kind == Kind.CONFIGURATION else None


# -- descriptors that lie -------------------------------------------------------------------------

_INTERFACE_AT: Final = _SIZES["configuration"]
_ENDPOINT_AT: Final = _INTERFACE_AT + _SIZES["interface"]


def _with(at: int, value: int) -> Callable[[bytes], bytes]:
    return lambda data: data[:at] + bytes((value,)) + data[at + 1 :]


def _without_last_endpoint(data: bytes) -> bytes:
    """The totals still count it."""
    return data[: -_SIZES["endpoint"]]


LIES: Final[dict[int, tuple[Kind, str, Callable[[bytes], bytes]]]] = {
    1: (Kind.CONFIGURATION, "wTotalLength is far too long", _with(3, 0xFF)),
    2: (Kind.CONFIGURATION, "an endpoint descriptor has length 0", _with(_ENDPOINT_AT, 0)),
    3: (Kind.CONFIGURATION, "an endpoint has packets of 0 bytes", _with(_ENDPOINT_AT + 4, 0)),
    4: (Kind.CONFIGURATION, "the interface is of another class", _with(_INTERFACE_AT + 5, 0x03)),
    5: (Kind.CONFIGURATION, "the last endpoint is missing", _without_last_endpoint),
    6: (
        Kind.CONFIGURATION,
        "the first two endpoints have one address",
        lambda data: _with(_ENDPOINT_AT + 2, data[_ENDPOINT_AT + _SIZES["endpoint"] + 2])(data),
    ),
    7: (Kind.STRING, "a text is longer than what comes of it", _with(0, 0xFE)),
    8: (Kind.DEVICE, "it has no configuration", _with(17, 0)),
}
"""Value of the fault usb_lies: which descriptor is wrong, how, and what makes it so."""


def untrue(lie: int, data: bytes) -> bytes:
    """The descriptor as the lie has it; one of another kind stays true."""
    kind, _, spoil = LIES[lie]
    return spoil(data) if data[1] == kind else data
