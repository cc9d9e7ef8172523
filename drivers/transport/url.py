"""The form of `[device] url`: what can be judged of it without opening anything."""

from __future__ import annotations

from typing import NamedTuple


class UsbPlace(NamedTuple):
    """What the URL of a USB device says."""

    server: str  # of USB/IP; empty: the buses of this computer
    serial: str  # empty: the only one there is


def is_usb(url: str) -> bool:
    """Is it of the USB class of docs/tmslink.md? `usb-serial:` is a serial adapter."""
    return url.startswith(("usb:", "usbip:"))


def usb_place(url: str) -> UsbPlace:
    """ValueError says which form is needed."""
    scheme, _, rest = url.partition(":")
    if scheme == "usb" and "#" not in rest:
        return UsbPlace("", rest)
    server, _, serial = rest.partition("#")
    path = server.removeprefix("unix:")
    host, _, port = server.rpartition(":")
    good = bool(path) if path != server else bool(host) and port.isascii() and port.isdigit()
    if scheme != "usbip" or not good:
        raise ValueError(
            f"device.url {url!r} is no USB device; allowed are usb:SERIAL, "
            "usbip:unix:PATH#SERIAL and usbip:HOST:PORT#SERIAL"
        )
    return UsbPlace(server, serial)
