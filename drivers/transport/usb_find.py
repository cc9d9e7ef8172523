"""Which USB device is meant, and whether it is what it says: everything before the first byte.

A device is found by the class of its interface and its serial number, an endpoint by its type and
direction. Numbers of endpoints, interfaces and ports mean nothing: gadget drivers renumber them.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
from _ctypes import dlopen
from collections.abc import Iterable, Iterator
from typing import Any, Final, NamedTuple

import usb.core
import usb.util
from usb.backend import libusb1
from usb.core import USBError

from drivers.transport.port_error import PortError
from drivers.transport.url import UsbPlace
from drivers.transport.usbip_backend import UsbipBackend

CLASS: Final = (0xFF, 0x54, 0x01)
"""Class, subclass and protocol of the interface, docs/tmslink.md."""
RULES: Final = "systemd/70-tmsctl.rules"
LIBRARY: Final = "libusb-1.0.so.0"
NO_USB: Final = "libusb finds no USB on this computer"
BULK_PACKET_SIZES: Final = (8, 16, 32, 64, 512, 1_024)
"""The packet sizes that USB allows for bulk endpoints, full speed to super speed."""
INTERRUPT_PACKET_MAX: Final = 1_024

_BULK, _INTERRUPT = 2, 3
_GONE: Final = (errno.ENODEV, errno.EIO, errno.ESHUTDOWN, errno.ENOENT)


class Found(NamedTuple):
    """A device that is claimed, and the addresses of its endpoints."""

    device: Any  # usb.core.Device
    serial: str
    interface: int
    bulk_out: int
    bulk_in: int
    interrupt_in: int
    packet_out: int  # bytes; an OUT transfer of whole packets needs an empty one behind it


class _Candidate(NamedTuple):
    device: Any
    configuration: Any
    interface: Any
    serial: str


def backend_of(place: UsbPlace) -> Any:
    """What pyusb uses for it. PortError where this computer has no libusb, or no USB."""
    if place.server:
        return UsbipBackend(place.server)
    if libusb1._lib is None:  # noqa: SLF001
        _load_libusb()
    try:
        return _Libusb(libusb1._lib)  # noqa: SLF001
    except USBError as error:
        raise PortError("port-failed", NO_USB) from error


def _load_libusb() -> None:
    """Once: a class that ctypes makes for each library it loads, or tries to, is a cycle of 2.6 kB,
    which nobody frees in a guard that collects no garbage."""
    try:
        dlopen(LIBRARY, ctypes.DEFAULT_MODE)
    except OSError as error:
        raise PortError("libusb-missing", f"{LIBRARY} cannot be loaded") from error
    if libusb1.get_backend(find_library=lambda _: LIBRARY) is None:
        raise PortError("port-failed", NO_USB)


class _Libusb(libusb1._LibUSB):  # type: ignore[misc] # noqa: SLF001
    """A context of libusb of its own, for one look at the buses.

    A context hears of what is plugged in later from udevd alone, and nothing where there is none or
    it is in another network namespace, as under PrivateNetwork: but each one begins with a look.
    """

    def enumerate_devices(self) -> Iterator[Any]:
        for device in super().enumerate_devices():
            device.context = self  # libusb crashes on a device that is given back after it
            yield device


def claim(place: UsbPlace, backend: Any) -> Found:
    """The one device that is meant, ready for transfers. PortError in every other case."""
    chosen = _choose(place, backend)
    with contextlib.ExitStack() as undo:
        undo.callback(usb.util.dispose_resources, chosen.device)
        found = _claimed(chosen)
        undo.pop_all()
        return found


def ask(place: UsbPlace, backend: Any, request_type: int, request: int, size: int) -> bytes:
    """One vendor request to the interface that reads, without claiming anything for longer.

    For finding out who is there, while nobody uses the device. PortError says why not.
    """
    chosen = _choose(place, backend)
    try:
        number = chosen.interface.bInterfaceNumber
        return bytes(chosen.device.ctrl_transfer(request_type, request, 0, number, size, 500))
    except USBError as error:
        raise explained(error, _where(chosen.device)) from error
    finally:
        usb.util.dispose_resources(chosen.device)


def explained(error: USBError, what: str) -> PortError:
    """The same as a person should read it. `what` names the device."""
    if error.errno in (errno.EACCES, errno.EPERM):
        return PortError("port-denied", f"no permission for {what}; install {RULES}")
    if error.errno == errno.EBUSY:
        return PortError("port-busy", f"{what} is in use by another program")
    if error.errno == errno.EPROTO and "contradict" in str(error.strerror):
        return PortError("usb-descriptors", f"{what}: {error.strerror}")
    if error.errno == errno.EPROTO:
        return PortError("port-wrong", f"{what} speaks no USB/IP: {error.strerror}")
    if error.errno in _GONE:
        return PortError("port-missing", f"{what} has just gone: {error.strerror}")
    return PortError("port-failed", f"{what} cannot be used: {error.strerror}")


# -- inside --------------------------------------------------------------------------------------


def _choose(place: UsbPlace, backend: Any) -> _Candidate:
    found: list[_Candidate] = []
    refused: list[PortError] = []
    for device in _devices(place, backend, refused):
        try:
            candidate = _candidate(device)
        except USBError as error:
            usb.util.dispose_resources(device)
            refused.append(explained(error, _where(device)))
            continue
        if candidate is not None and not candidate.serial:
            usb.util.dispose_resources(device)
            refused.append(_lie(_where(device), "it has no serial number"))
            continue
        if candidate is not None and place.serial in ("", candidate.serial):
            found.append(candidate)
        else:
            usb.util.dispose_resources(device)
    if len(found) == 1:
        return found[0]
    for candidate in found:
        usb.util.dispose_resources(candidate.device)
    if found:
        names = " and ".join(f"{one.serial} ({_where(one.device)})" for one in found)
        raise PortError("port-ambiguous", f"more than one tmslink device is there: {names}")
    for code in ("port-denied", "port-busy", "usb-descriptors", "port-wrong", "port-failed"):
        for refusal in refused:
            if refusal.code == code:
                raise PortError(code, refusal.args[0])  # itself, it would be in its own traceback
    wanted = f" with serial number {place.serial}" if place.serial else ""
    raise PortError("port-missing", f"no tmslink USB device{wanted} is plugged in")


def _devices(place: UsbPlace, backend: Any, refused: list[PortError]) -> Iterable[Any]:
    """One after the other: what is wrong with one of them hides no other."""
    try:
        there = list(backend.enumerate_devices())
    except USBError as error:
        refused.append(explained(error, place.server or "the USB of this computer"))
        return
    for one in there:
        try:
            yield usb.core.Device(one, backend)
        except USBError as error:
            refused.append(explained(error, place.server or "a USB device"))


def _candidate(device: Any) -> _Candidate | None:
    """None: no device of ours. USBError: it is, and cannot be looked at."""
    for configuration in device:
        for interface in configuration:
            kind = (
                interface.bInterfaceClass,
                interface.bInterfaceSubClass,
                interface.bInterfaceProtocol,
            )
            if kind == CLASS and interface.bAlternateSetting == 0:
                # Opens it. pyusb itself would take "no permission" for "no strings".
                with contextlib.suppress(NotImplementedError):
                    device.is_kernel_driver_active(interface.bInterfaceNumber)
                return _Candidate(device, configuration, interface, _serial_of(device))
    return None


def _serial_of(device: Any) -> str:
    """Empty where it says that it has none. USBError where the one it has cannot be read: pyusb
    hides most of that, and whoever took the device without could not tell it from another."""
    if not device.iSerialNumber:
        return ""
    try:
        serial = str(device.serial_number)
    except (ValueError, IndexError):  # no languages, no UTF-16, or not even its size
        serial = ""
    if not serial:
        raise USBError("its serial number cannot be read", None, errno.EBADMSG)
    return serial


def _claimed(chosen: _Candidate) -> Found:
    device, interface = chosen.device, chosen.interface
    what = f"device {chosen.serial} ({_where(device)})"
    out, into, interrupt = _endpoints(interface, what)
    number = interface.bInterfaceNumber
    try:
        _free_from_kernel(device, number)
        if _configured(device) != chosen.configuration.bConfigurationValue:
            device.set_configuration(chosen.configuration.bConfigurationValue)
        usb.util.claim_interface(device, number)
    except USBError as error:
        raise explained(error, what) from error
    return Found(
        device=device,
        serial=chosen.serial,
        interface=number,
        bulk_out=out.bEndpointAddress,
        bulk_in=into.bEndpointAddress,
        interrupt_in=interrupt.bEndpointAddress,
        packet_out=out.wMaxPacketSize,
    )


def _endpoints(interface: Any, what: str) -> tuple[Any, Any, Any]:
    """Bulk OUT, bulk IN, interrupt IN: one of each and no other."""
    found: dict[tuple[int, bool], Any] = {}
    for endpoint in interface:
        kind = (endpoint.bmAttributes & 3, bool(endpoint.bEndpointAddress & 0x80))
        if kind in found:
            raise _lie(what, "two endpoints are of the same type and direction")
        found[kind] = endpoint
    if set(found) != {(_BULK, False), (_BULK, True), (_INTERRUPT, True)}:
        raise _lie(what, "its endpoints are not bulk OUT, bulk IN and interrupt IN")
    out, into, interrupt = found[_BULK, False], found[_BULK, True], found[_INTERRUPT, True]
    for endpoint in (out, into):
        if endpoint.wMaxPacketSize not in BULK_PACKET_SIZES:
            raise _lie(what, f"a bulk endpoint has packets of {endpoint.wMaxPacketSize} bytes")
    if not 1 <= interrupt.wMaxPacketSize <= INTERRUPT_PACKET_MAX:
        raise _lie(what, f"its interrupt endpoint has packets of {interrupt.wMaxPacketSize} bytes")
    return out, into, interrupt


def _lie(what: str, sentence: str) -> PortError:
    return PortError("usb-descriptors", f"the descriptors of {what} cannot be true: {sentence}")


def _free_from_kernel(device: Any, number: int) -> None:
    with contextlib.suppress(NotImplementedError):
        if device.is_kernel_driver_active(number):
            device.detach_kernel_driver(number)


def _configured(device: Any) -> int:
    """0: it is not configured yet."""
    try:
        return int(device.get_active_configuration().bConfigurationValue)
    except USBError as error:
        if error.errno is not None:
            raise
        return 0  # pyusb's own word for "not set" has no errno


def _where(device: Any) -> str:
    return f"bus {device.bus} device {device.address}"
