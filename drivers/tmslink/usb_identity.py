"""Asks a USB device who it is, without opening a session: it stays as it is, armed or not."""

from __future__ import annotations

from drivers.transport import usb_find
from drivers.transport.port_error import PortError
from drivers.transport.url import usb_place
from drivers.transport.usb_port import IDENTITY_REQUEST
from firmware_protocol import table
from firmware_protocol.errors import RemoteProtocolError
from firmware_protocol.tmslink import messages as wire


def usb_identity(url: str) -> str:
    """Who it says it is, in words. PortError where nobody is, or somebody else uses it."""
    place = usb_place(url)
    size = table.spec_of(wire.Identity).layout.size
    payload = usb_find.ask(place, usb_find.backend_of(place), *IDENTITY_REQUEST, size)
    try:
        said: wire.Identity = wire.TABLE.unpack(table.spec_of(wire.Identity).code, payload)
    except RemoteProtocolError as error:
        raise PortError("garbage", f"its IDENTITY is none of tmslink: {error}") from error
    if not f"{said.model}{said.serial}".isascii():
        raise PortError("garbage", "its IDENTITY is none of tmslink: a text is not ASCII")
    version = ".".join(str(part) for part in said.firmware.to_bytes(4, "big"))
    return f"{said.model} {said.serial}, firmware {version}, tmslink {said.protocol}"
