"""A backend of pyusb that speaks USB/IP itself: no kernel module, no libusb, no root.

Complete but for isochronous transfers, which no stimulator has.
"""

from __future__ import annotations

import errno
import struct
from array import array
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, Final

import usb.backend

from drivers.transport import usb_descriptors as descriptors
from drivers.transport import usbip_wire as wire
from drivers.transport.usbip_link import UsbipLink, failure

STANDARD_WITHIN_MS: Final = 1_000
"""For standard requests; USB itself allows a device 5 s, and none needs 100 ms."""

_SETUP: Final = struct.Struct("<BBHHH")
_GET_DESCRIPTOR, _GET_CONFIGURATION, _SET_CONFIGURATION = 6, 8, 9
_SET_INTERFACE, _CLEAR_FEATURE = 11, 1
_TO_DEVICE, _TO_INTERFACE, _TO_ENDPOINT, _FROM_DEVICE = 0x00, 0x01, 0x02, 0x80


class UsbipDevice:
    """One device that a server exports, and its descriptors once they were read."""

    def __init__(self, exported: wire.Exported) -> None:
        self.exported = exported
        self.descriptor: SimpleNamespace | None = None
        self.configurations: list[descriptors.Configuration] = []


class UsbipBackend(usb.backend.IBackend):  # type: ignore[misc] # pyusb has no types
    """All devices of one server."""

    def __init__(self, address: str) -> None:
        """`address`: `unix:PATH` or `HOST:PORT`."""
        self._address = address

    def enumerate_devices(self) -> Iterator[UsbipDevice]:
        """None when nobody is there. USBError when somebody is, and speaks no USB/IP."""
        try:
            exported = wire.devices(self._address)
        except wire.WireError as error:
            raise failure(errno.EPROTO, str(error)) from error
        except OSError:
            return
        yield from map(UsbipDevice, exported)

    # -- descriptors --------------------------------------------------------------------------

    def get_device_descriptor(self, dev: UsbipDevice) -> SimpleNamespace:
        self._describe(dev)
        assert dev.descriptor is not None
        return dev.descriptor

    def get_configuration_descriptor(self, dev: UsbipDevice, config: int) -> SimpleNamespace:
        self._describe(dev)
        return dev.configurations[config].itself

    def get_interface_descriptor(
        self, dev: UsbipDevice, intf: int, alt: int, config: int
    ) -> SimpleNamespace:
        """IndexError behind the last one, which is how pyusb finds the end."""
        self._describe(dev)
        return dev.configurations[config].interfaces[intf][alt]

    def get_endpoint_descriptor(
        self, dev: UsbipDevice, ep: int, intf: int, alt: int, config: int
    ) -> SimpleNamespace:
        endpoint: SimpleNamespace = self.get_interface_descriptor(dev, intf, alt, config).endpoints[
            ep
        ]
        return endpoint

    def _describe(self, dev: UsbipDevice) -> None:
        """Read all descriptors once, over a connection of its own."""
        if dev.descriptor is not None:
            return
        link = self.open_device(dev)
        try:
            size = descriptors.DEVICE_SIZE
            found = descriptors.parse(
                _descriptor(link, descriptors.DEVICE, 0, size), descriptors.DEVICE
            )
            dev.configurations = [
                _configuration(link, index) for index in range(found.bNumConfigurations)
            ]
        except descriptors.LieError as lie:
            raise failure(errno.EPROTO, f"the descriptors contradict themselves: {lie}") from lie
        finally:
            link.close()
        exported = dev.exported
        found.bus, found.address, found.speed = exported.bus, exported.address, exported.speed
        found.port_number, found.port_numbers = 1, (1,)
        dev.descriptor = found

    # -- one device ---------------------------------------------------------------------------

    def open_device(self, dev: UsbipDevice) -> UsbipLink:
        exported = dev.exported
        try:
            line = wire.take(self._address, exported.bus_id)
        except wire.RefusedError as error:
            raise failure(errno.EBUSY, str(error)) from error
        except wire.WireError as error:
            raise failure(errno.EPROTO, str(error)) from error
        except OSError as error:
            raise failure(errno.ENODEV, f"the USB/IP server is gone: {error}") from error
        return UsbipLink(line, exported.bus << 16 | exported.address)

    def close_device(self, dev_handle: UsbipLink) -> None:
        dev_handle.close()

    def set_configuration(self, dev_handle: UsbipLink, config_value: int) -> None:
        _request(dev_handle, _TO_DEVICE, _SET_CONFIGURATION, config_value)

    def get_configuration(self, dev_handle: UsbipLink) -> int:
        setup = _SETUP.pack(_FROM_DEVICE, _GET_CONFIGURATION, 0, 0, 1)
        _, data = dev_handle.transfer(wire.IN, 0, 1, STANDARD_WITHIN_MS, setup)
        return data[0] if data else 0

    def set_interface_altsetting(self, dev_handle: UsbipLink, intf: int, altsetting: int) -> None:
        _request(dev_handle, _TO_INTERFACE, _SET_INTERFACE, altsetting, intf)

    def claim_interface(self, dev_handle: UsbipLink, intf: int) -> None:
        """Whoever has imported the device has all of its interfaces."""

    def release_interface(self, dev_handle: UsbipLink, intf: int) -> None:
        """See `claim_interface`."""

    def clear_halt(self, dev_handle: UsbipLink, ep: int) -> None:
        _request(dev_handle, _TO_ENDPOINT, _CLEAR_FEATURE, 0, ep)

    def reset_device(self, dev_handle: UsbipLink) -> None:
        """USB/IP has no such command. What it is used for, SET_CONFIGURATION does as well: every
        endpoint begins anew, and a tmslink device disarms."""
        self.set_configuration(dev_handle, self.get_configuration(dev_handle))

    def is_kernel_driver_active(self, dev_handle: UsbipLink, intf: int) -> bool:
        return False  # no kernel has seen the device

    def detach_kernel_driver(self, dev_handle: UsbipLink, intf: int) -> None:
        raise failure(errno.ENOENT, "no kernel driver has a USB/IP device")

    def attach_kernel_driver(self, dev_handle: UsbipLink, intf: int) -> None:
        raise failure(errno.ENOENT, "no kernel driver has a USB/IP device")

    # -- transfers ----------------------------------------------------------------------------

    def bulk_write(
        self, dev_handle: UsbipLink, ep: int, intf: int, data: array[int], timeout: int
    ) -> int:
        out = data.tobytes()
        return dev_handle.transfer(wire.OUT, ep & 15, len(out), timeout, out=out)[0]

    def bulk_read(
        self, dev_handle: UsbipLink, ep: int, intf: int, buff: array[Any], timeout: int
    ) -> int:
        size = len(buff) * buff.itemsize
        length, data = dev_handle.transfer(wire.IN, ep & 15, size, timeout)
        memoryview(buff).cast("B")[:length] = data
        return length

    intr_write = bulk_write  # USB/IP tells them apart by the endpoint alone
    intr_read = bulk_read

    def ctrl_transfer(
        self,
        dev_handle: UsbipLink,
        bmRequestType: int,  # noqa: N803 - the names of pyusb
        bRequest: int,  # noqa: N803
        wValue: int,  # noqa: N803
        wIndex: int,  # noqa: N803
        data: array[Any],
        timeout: int,
    ) -> int:
        size = len(data) * data.itemsize
        setup = _SETUP.pack(bmRequestType, bRequest, wValue, wIndex, size)
        if bmRequestType & _FROM_DEVICE:
            length, came = dev_handle.transfer(wire.IN, 0, size, timeout, setup)
            if length:
                memoryview(data).cast("B")[:length] = came
            return length
        return dev_handle.transfer(wire.OUT, 0, size, timeout, setup, data.tobytes())[0]


def _request(link: UsbipLink, kind: int, request: int, value: int, index: int = 0) -> None:
    setup = _SETUP.pack(kind, request, value, index, 0)
    link.transfer(wire.OUT, 0, 0, STANDARD_WITHIN_MS, setup)


def _descriptor(link: UsbipLink, kind: int, index: int, size: int) -> bytes:
    setup = _SETUP.pack(_FROM_DEVICE, _GET_DESCRIPTOR, kind << 8 | index, 0, size)
    return link.transfer(wire.IN, 0, size, STANDARD_WITHIN_MS, setup)[1]


def _configuration(link: UsbipLink, index: int) -> descriptors.Configuration:
    head = _descriptor(link, descriptors.CONFIGURATION, index, descriptors.CONFIGURATION_SIZE)
    size = descriptors.parse(head, descriptors.CONFIGURATION).wTotalLength
    if not descriptors.CONFIGURATION_SIZE <= size <= descriptors.TOTAL_SIZE_MAX:
        raise descriptors.LieError(f"a configuration of {size} bytes")
    return descriptors.parse_configuration(
        _descriptor(link, descriptors.CONFIGURATION, index, size)
    )
