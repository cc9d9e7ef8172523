"""Endpoint 0: the standard requests of every USB device, as a table of requests to answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from sim_device.usb_descriptors import CONFIGURATION, descriptor, untrue

if TYPE_CHECKING:
    from sim_device.usb_function import Setup, UsbFunction

Answer = Callable[["UsbFunction", "Setup"], "bytes | None"]
"""The data of a request IN, or nothing; None: stall."""

_TYPE: Final = 0x60  # of bmRequestType: standard, class or vendor
_ENDPOINT_HALT: Final = 0


def answer(function: UsbFunction, setup: Setup, data: bytes) -> bytes | None:
    """Carry out a request. None, a stall, for whatever is not known or not possible now."""
    if setup.request_type & _TYPE:
        return function.role.vendor(setup, data, function.now)
    act = _STANDARD.get((setup.request_type, setup.request))
    return None if act is None else act(function, setup)


def _is_the_interface(function: UsbFunction, setup: Setup) -> bool:
    return bool(function.configured) and setup.index == 0


def _device_status(function: UsbFunction, _: Setup) -> bytes:
    return bytes((function.about.self_powered, 0))


def _interface_status(function: UsbFunction, setup: Setup) -> bytes | None:
    return b"\0\0" if _is_the_interface(function, setup) else None


def _endpoint_status(function: UsbFunction, setup: Setup) -> bytes | None:
    halted = function.halted(setup.index)
    return None if halted is None else bytes((halted, 0))


def _set_halt(function: UsbFunction, setup: Setup) -> bytes | None:
    if setup.value != _ENDPOINT_HALT or function.halted(setup.index) is None:
        return None
    function.halt(setup.index)
    return b""


def _clear_halt(function: UsbFunction, setup: Setup) -> bytes | None:
    if setup.value != _ENDPOINT_HALT or function.halted(setup.index) is None:
        return None
    function.resume(setup.index)
    return b""


def _set_address(_function: UsbFunction, setup: Setup) -> bytes | None:
    """Nothing to do: the adapter has the addresses."""
    return b"" if setup.value < 128 else None


def _get_descriptor(function: UsbFunction, setup: Setup) -> bytes | None:
    said = descriptor(function.about, setup.value >> 8, setup.value & 0xFF)
    if said is None or not function.faults.any_set:
        return said
    lie = function.faults.strikes("usb_lies", function.now)
    return said if lie is None else untrue(lie, said)


def _set_configuration(function: UsbFunction, setup: Setup) -> bytes | None:
    if setup.value not in (0, CONFIGURATION):
        return None
    function.begin_anew(setup.value)
    return b""


def _get_interface(function: UsbFunction, setup: Setup) -> bytes | None:
    return b"\0" if _is_the_interface(function, setup) else None


def _set_interface(function: UsbFunction, setup: Setup) -> bytes | None:
    if setup.value != 0 or not _is_the_interface(function, setup):
        return None
    function.begin_anew(function.configured)
    return b""


_STANDARD: Final[dict[tuple[int, int], Answer]] = {
    (0x80, 0): _device_status,
    (0x81, 0): _interface_status,
    (0x82, 0): _endpoint_status,
    (0x02, 1): _clear_halt,
    (0x02, 3): _set_halt,
    (0x00, 5): _set_address,
    (0x80, 6): _get_descriptor,
    (0x80, 8): lambda function, _: bytes((function.configured,)),
    (0x00, 9): _set_configuration,
    (0x81, 10): _get_interface,
    (0x01, 11): _set_interface,
}
"""bmRequestType and bRequest. Remote wake-up and test modes are not there: a stall."""
