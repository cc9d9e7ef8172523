"""USB descriptors as objects with the field names of the standard, which is what pyusb reads."""

from __future__ import annotations

import struct
from types import SimpleNamespace
from typing import Final, NamedTuple

DEVICE: Final = 1
CONFIGURATION: Final = 2
INTERFACE: Final = 4
ENDPOINT: Final = 5
CONFIGURATION_SIZE: Final = 9
DEVICE_SIZE: Final = 18
TOTAL_SIZE_MAX: Final = 4_096
"""Of one configuration; ours has 39 bytes. What says more lies."""


class Layout(NamedTuple):
    """Names and form of one kind of descriptor."""

    names: tuple[str, ...]
    form: struct.Struct


def _layout(form: str, names: str) -> Layout:
    return Layout(("bLength", "bDescriptorType", *names.split()), struct.Struct(f"<BB{form}"))


_LAYOUTS: Final = {
    DEVICE: _layout(
        "HBBBBHHHBBBB",
        "bcdUSB bDeviceClass bDeviceSubClass bDeviceProtocol bMaxPacketSize0 idVendor idProduct "
        "bcdDevice iManufacturer iProduct iSerialNumber bNumConfigurations",
    ),
    CONFIGURATION: _layout(
        "HBBBBB",
        "wTotalLength bNumInterfaces bConfigurationValue iConfiguration bmAttributes bMaxPower",
    ),
    INTERFACE: _layout(
        "BBBBBBB",
        "bInterfaceNumber bAlternateSetting bNumEndpoints bInterfaceClass bInterfaceSubClass "
        "bInterfaceProtocol iInterface",
    ),
    ENDPOINT: _layout("BBHB", "bEndpointAddress bmAttributes wMaxPacketSize bInterval"),
}


class LieError(ValueError):
    """Descriptors that contradict themselves."""


class Configuration(NamedTuple):
    """A configuration; `interfaces[number][alternate]`, each with its `endpoints`."""

    itself: SimpleNamespace
    interfaces: list[list[SimpleNamespace]]


def parse(data: bytes, kind: int) -> SimpleNamespace:
    """The descriptor at the beginning of the bytes, which must be of that kind and whole."""
    names, form = _LAYOUTS[kind]
    if len(data) < form.size or data[0] < form.size or data[1] != kind:
        raise LieError(f"a descriptor of type {kind} is cut short or of another type")
    fields = dict(zip(names, form.unpack_from(data), strict=True))
    return SimpleNamespace(extra_descriptors=[], **fields)


def parse_configuration(data: bytes) -> Configuration:
    """All descriptors of one configuration, as GET_DESCRIPTOR gives them in one piece."""
    itself = parse(data, CONFIGURATION)
    if itself.wTotalLength != len(data):
        raise LieError(f"the configuration says {itself.wTotalLength} bytes and has {len(data)}")
    found: dict[int, list[SimpleNamespace]] = {}
    newest: SimpleNamespace | None = None
    at = 0
    while at < len(data):
        size = data[at]
        if size < 2 or at + size > len(data):
            raise LieError(f"a descriptor of {size} bytes stands where {len(data) - at} are left")
        piece = data[at : at + size]
        at += size
        if piece[1] == INTERFACE:
            newest = parse(piece, INTERFACE)
            newest.endpoints = []
            found.setdefault(newest.bInterfaceNumber, []).append(newest)
        elif piece[1] == ENDPOINT:
            if newest is None:
                raise LieError("an endpoint stands before the first interface")
            endpoint = parse(piece, ENDPOINT)
            endpoint.bRefresh = endpoint.bSynchAddress = 0
            newest.endpoints.append(endpoint)
    if len(found) != itself.bNumInterfaces:
        raise LieError(f"{itself.bNumInterfaces} interfaces are announced, {len(found)} are there")
    for alternates in found.values():
        for one in alternates:
            if len(one.endpoints) != one.bNumEndpoints:
                raise LieError(
                    f"{one.bNumEndpoints} endpoints are announced, {len(one.endpoints)} are there"
                )
    return Configuration(itself, [found[number] for number in sorted(found)])
