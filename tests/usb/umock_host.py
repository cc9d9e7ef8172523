"""Puts emulated USB functions behind umockdev: usbfs and sysfs as unmodified programs see them.

Run by the system's Python, which has the bindings of umockdev:
    umockdev-wrapper /usr/bin/python3 -m tests.usb.umock_host CONTROL
It prints the environment for clients as JSON and obeys one command a line on the Unix socket
CONTROL: `plug SERIAL [CLASS]`, `unplug`, `adapter SERIAL`, `fault KIND`, `clear`, `truth`. The
answer is the events of the device's ground truth so far. It ends with its standard input.

A file stands for the node of usbfs, so that nothing tells a client of its end by poll(): what is
pending at an unplug completes with ESHUTDOWN, as it does in Linux, and only new transfers fail with
ENODEV. libusb would spin on such a file, which is always ready: a reap that finds nothing is kept
for a millisecond.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import random
import socket
import struct
import sys
import time
from collections import deque
from typing import Any, Final, NamedTuple

import gi

gi.require_version("UMockdev", "1.0")
from gi.repository import GLib, UMockdev  # noqa: E402

from sim_device import usb_descriptors  # noqa: E402
from sim_device.faults import Rule  # noqa: E402
from sim_device.settings import Settings  # noqa: E402
from sim_device.tmslink_firmware import Firmware  # noqa: E402
from sim_device.usb_function import Completion, UsbFunction  # noqa: E402
from sim_device.usb_tmslink import BULK_OUT, CLASS, make_tmslink  # noqa: E402
from tests.usb.umock_host_names import ADAPTER, ADAPTER_TTY, DEVICE  # noqa: E402

NODE: Final = "/dev/bus/usb/001/005"
REAP_HELD_MS: Final = 1


def _ioctl(number: int, direction: int = 0, size: int = 0) -> int:
    return direction << 30 | size << 16 | ord("U") << 8 | number


# linux/usbdevice_fs.h, on 64 bits
_READS, _WRITES, _BOTH = 2, 1, 3
SET_INTERFACE: Final = _ioctl(4, _READS, 8)
SET_CONFIGURATION: Final = _ioctl(5, _READS, 4)
GET_DRIVER: Final = _ioctl(8, _WRITES, 260)
SUBMIT: Final = _ioctl(10, _READS, 56)
DISCARD: Final = _ioctl(11)
REAP: Final = _ioctl(12, _WRITES, 8)
REAP_NO_DELAY: Final = _ioctl(13, _WRITES, 8)
CLAIM: Final = _ioctl(15, _READS, 4)
RELEASE: Final = _ioctl(16, _READS, 4)
RESET: Final = _ioctl(20)
CLEAR_HALT: Final = _ioctl(21, _READS, 4)
CAPABILITIES: Final = _ioctl(26, _READS, 4)
GET_SPEED: Final = _ioctl(31)

_URB: Final = struct.Struct("@BBiIPiiiiiIP")
_STATUS_AT, _BUFFER_AT, _ACTUAL_AT = 4, 16, 28
_CONTROL_URB, _ZERO_PACKET = 2, 0x40
_ZERO_PACKETS, _ANY_SIZE = 0x01, 0x04  # capabilities
_FULL_SPEED = 2

Outcome = tuple[int, int]
"""Result of an ioctl, and errno when it is -1."""


class Urb(NamedTuple):
    struct: Any  # of the client, UMockdev.IoctlData
    buffer: Any
    data_at: int  # behind the setup of a control transfer


class Usbfs(UMockdev.IoctlBase):  # type: ignore[misc]
    """The node of one device, for one client at a time. All in the thread of the main loop."""

    def __init__(self, function: UsbFunction) -> None:
        super().__init__()
        self._function = function
        self._began_us = time.monotonic_ns() // 1000 - function.now
        self._urbs: dict[int, Urb] = {}
        self._done: deque[tuple[int, Completion]] = deque()
        self.gone = False
        self._enumerate()

    def unplug(self) -> None:
        self.gone = True
        self._function.lose_host()
        finished = {address for address, _ in self._done}
        for address in self._urbs:
            if address not in finished:
                self._done.append((address, Completion(-errno.ESHUTDOWN)))

    def do_handle_ioctl(self, client: Any) -> bool:
        self._function.run_to(time.monotonic_ns() // 1000 - self._began_us)
        request = client.get_request() & 0xFFFFFFFF
        if request == REAP_NO_DELAY and not self._done:
            GLib.timeout_add(REAP_HELD_MS, self._give_back, client)
        else:
            self._complete(client, request)
        return True

    def _complete(self, client: Any, request: int) -> None:
        with contextlib.suppress(GLib.Error):  # the program has ended meanwhile
            client.complete(*self._answer(request, client.get_arg()))

    def _give_back(self, client: Any) -> bool:
        self._function.run_to(time.monotonic_ns() // 1000 - self._began_us)
        self._complete(client, REAP)
        return False

    def _answer(self, request: int, argument: Any) -> Outcome:
        if self.gone and request not in (REAP, REAP_NO_DELAY, DISCARD):
            return -1, errno.ENODEV
        match request:
            case s if s == SUBMIT:
                self._submit(argument)
            case s if s in (REAP, REAP_NO_DELAY):
                return self._reap(argument)
            case s if s == DISCARD:
                return self._discard(_pointer(argument))
            case s if s == CAPABILITIES:
                argument.resolve(0, 4).update(0, list(struct.pack("I", _ZERO_PACKETS | _ANY_SIZE)))
            case s if s == SET_CONFIGURATION:
                return self._ask(0x00, 9, *_words(argument, 1), 0)
            case s if s == SET_INTERFACE:
                interface, alternate = _words(argument, 2)
                return self._ask(0x01, 11, alternate, interface)
            case s if s == CLEAR_HALT:
                return self._ask(0x02, 1, 0, *_words(argument, 1))
            case s if s == RESET:
                self._enumerate()
            case s if s == GET_DRIVER:
                return -1, errno.ENODATA
            case s if s == GET_SPEED:
                return _FULL_SPEED, 0
            case s if s not in (CLAIM, RELEASE):
                return -1, errno.ENOTTY
        return 0, 0

    def _enumerate(self) -> None:
        """As Linux does: reset, and the first configuration is set."""
        self._function.bus_reset()
        self._ask(0x00, 9, usb_descriptors.CONFIGURATION, 0)

    def _ask(self, kind: int, request: int, value: int, index: int) -> Outcome:
        ended: list[Completion] = []
        setup = struct.pack("<BBHHH", kind, request, value, index & 0xFF, 0)
        self._function.control(object(), setup, b"", ended.append)
        status = ended[0].status
        return (0, 0) if status == 0 else (-1, -status)

    def _submit(self, argument: Any) -> None:
        urb = argument.resolve(0, _URB.size)
        address = urb.client_addr
        kind, endpoint, _, flags, _, length = _URB.unpack(bytes(urb.retrieve()))[:6]
        buffer = urb.resolve(_BUFFER_AT, length) if length else None
        data = bytes(buffer.retrieve()) if buffer is not None else b""
        is_control = kind == _CONTROL_URB
        self._urbs[address] = Urb(urb, buffer, 8 if is_control else 0)

        def done(ended: Completion) -> None:
            if address in self._urbs:
                self._done.append((address, ended))

        if is_control:
            reads = data[0] & usb_descriptors.IN
            self._function.control(address, data[:8], b"" if reads else data[8:], done)
        else:
            wanted = length if endpoint & usb_descriptors.IN else data
            ends = bool(flags & _ZERO_PACKET)
            self._function.submit(address, endpoint, wanted, done, ends_with_zero=ends)

    def _reap(self, argument: Any) -> Outcome:
        if not self._done:
            return -1, errno.EAGAIN
        address, ended = self._done.popleft()
        urb = self._urbs.pop(address)
        if ended.data:
            urb.buffer.update(urb.data_at, list(ended.data))
        urb.struct.update(_STATUS_AT, list(struct.pack("i", ended.status)))
        urb.struct.update(_ACTUAL_AT, list(struct.pack("i", ended.actual)))
        argument.resolve(0, 8).set_ptr(0, urb.struct)
        return 0, 0

    def _discard(self, address: int) -> Outcome:
        if not self._function.cancel(address):
            return -1, errno.EINVAL
        self._done.append((address, Completion(-errno.ENOENT)))
        return 0, 0


def _pointer(argument: Any) -> int:
    (address,) = struct.unpack("@P", bytes(argument.retrieve())[:8])
    return int(address)


def _words(argument: Any, count: int) -> tuple[int, ...]:
    return struct.unpack(f"{count}I", bytes(argument.resolve(0, 4 * count).retrieve()))


class Bus:
    """At most one device of ours on it, and at most one serial adapter."""

    def __init__(self) -> None:
        self._bed = UMockdev.Testbed.new()
        self._node: Usbfs | None = None
        self._function: UsbFunction | None = None
        self.events: list[str] = []

    @property
    def folder(self) -> str:
        return str(self._bed.get_root_dir())

    def plug(self, serial: str, kind: str = bytes(CLASS).hex()) -> None:
        """`kind`: class, subclass and protocol of its interface."""
        settings = Settings(serial=serial)
        self.events.clear()
        device = Firmware(
            settings, random.Random(1), lambda line: self.events.append(str(line["event"])), ()
        )
        self._function = function = make_tmslink(device, settings.clock_us)
        about = function.about._replace(class_=tuple(bytes.fromhex(kind)))
        descriptors = usb_descriptors.device(about) + usb_descriptors.configuration(about)
        self._bed.add_from_string(
            _usb_device(DEVICE, NODE, "1209", "0001", serial)
            + f"H: descriptors={descriptors.hex()}\n"
        )
        self._node = Usbfs(function)
        self._bed.attach_ioctl(NODE, self._node)
        self._bed.uevent(DEVICE, "add")

    def unplug(self) -> None:
        if self._node is not None:
            self._node.unplug()
            self._bed.detach_ioctl(NODE)
            self._bed.uevent(DEVICE, "remove")
            self._bed.remove_device(DEVICE)
            self._node = None

    def adapter(self, serial: str) -> None:
        """An FT232 with its terminal, for udev alone."""
        self._bed.add_from_string(
            _usb_device(ADAPTER, "/dev/bus/usb/001/006", "0403", "6001", serial)
        )
        self._bed.add_from_string(
            f"P: {ADAPTER[4:]}/1-2:1.0\nE: DEVTYPE=usb_interface\nE: DRIVER=ftdi_sio\n"
            "E: SUBSYSTEM=usb\nA: bInterfaceNumber=00\\n\n"
        )
        self._bed.add_from_string(
            f"P: {ADAPTER_TTY[4:]}\nN: ttyUSB0\nE: DEVNAME=/dev/ttyUSB0\n"
            "E: MAJOR=188\nE: MINOR=0\nE: SUBSYSTEM=tty\n"
        )

    def fault(self, kind: str) -> None:
        assert self._function is not None
        self._function.faults.add_from_now(Rule(kind, value=BULK_OUT), self._function.now)

    def truth(self) -> None:
        """Only asks."""

    def clear(self) -> None:
        assert self._function is not None
        self._function.faults.clear_all()


def _usb_device(sysfs: str, node: str, vendor: str, product: str, serial: str) -> str:
    bus, number = node.rsplit("/", 2)[1:]
    return (
        f"P: {sysfs[4:]}\nN: {node[5:]}\nE: DEVNAME={node}\nE: DEVTYPE=usb_device\n"
        f"E: BUSNUM={bus}\nE: DEVNUM={number}\nE: MAJOR=189\nE: MINOR={int(number) - 1}\n"
        f"E: PRODUCT={int(vendor, 16):x}/{int(product, 16):x}/100\nE: SUBSYSTEM=usb\n"
        f"A: bConfigurationValue=1\\n\nA: bNumConfigurations=1\\n\nA: busnum={int(bus)}\\n\n"
        f"A: devnum={int(number)}\\n\nA: idVendor={vendor}\\n\nA: idProduct={product}\\n\n"
        f"A: serial={serial}\\n\nA: speed=12\\n\n"
    )


def main() -> None:
    bus = Bus()
    verbs = {
        "plug": bus.plug,
        "unplug": bus.unplug,
        "adapter": bus.adapter,
        "fault": bus.fault,
        "clear": bus.clear,
        "truth": bus.truth,
    }
    control = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    control.bind(sys.argv[1])
    loop = GLib.MainLoop()

    def obey(*_: object) -> bool:
        command, sender = control.recvfrom(256)
        verb, *words = command.decode().split()
        verbs[verb](*words)
        control.sendto(json.dumps(bus.events).encode(), sender)
        return True

    def end(*_: object) -> bool:
        loop.quit()
        return False

    GLib.unix_fd_add_full(0, control.fileno(), GLib.IOCondition.IN, obey)
    GLib.unix_fd_add_full(0, sys.stdin.fileno(), GLib.IOCondition.IN | GLib.IOCondition.HUP, end)
    environment = {"LD_PRELOAD": os.environ["LD_PRELOAD"], "UMOCKDEV_DIR": bus.folder}
    print(json.dumps(environment), flush=True)
    loop.run()


if __name__ == "__main__":
    main()
