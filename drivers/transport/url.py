"""The form of `[device] url`: what can be judged of it without opening anything."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Final, NamedTuple
from urllib.parse import urlsplit

TCP: Final = "socket://"
PORT_MAX: Final = 65_535
PORT_DIGITS: Final = 5


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
    if scheme != "usbip" or not _can_be_connected_to(server):
        raise ValueError(
            f"device.url {url!r} is no USB device; allowed are usb:SERIAL, "
            "usbip:unix:PATH#SERIAL and usbip:HOST:PORT#SERIAL"
        )
    return UsbPlace(server, serial)


def _can_be_connected_to(server: str) -> bool:
    """In its form. What the socket would not take as an address is no OSError there."""
    path = server.removeprefix("unix:")
    if path != server:
        return bool(path)
    host, _, port = server.rpartition(":")
    try:
        name = host.strip("[]").encode("idna")
    except UnicodeError:  # a part of more than 63 characters, or of none
        return False
    number = int(port) if port.isascii() and port.isdigit() and len(port) <= PORT_DIGITS else -1
    return bool(name) and b"\0" not in name and 0 <= number <= PORT_MAX


def tcp_place(url: str) -> tuple[str, int]:
    """Address and port. ValueError says which form is needed.

    No names but localhost: a name server that does not answer would keep the guard's only thread
    for seconds, and STOP with it.
    """
    try:
        parts = urlsplit(url)
        name, port = parts.hostname or "", parts.port
        host = "127.0.0.1" if name == "localhost" else str(ip_address(name))
    except ValueError:
        host, port = "", None
    if port is None:
        raise ValueError(
            f"device.url {url!r} is no TCP address; allowed is socket://ADDRESS:PORT with an "
            "address in numbers, or localhost"
        )
    return host, port
