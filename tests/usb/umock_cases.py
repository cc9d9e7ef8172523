"""What unmodified libusb and pyusb do with the emulated function; each case is a program.

Run by test_umock.py with umockdev in front of the C library: umock_cases.py CASE
"""

from __future__ import annotations

import errno
import gc
import os
import select
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import usb.core
import usb.util
from usb.core import USBError, USBTimeoutError

from drivers.tmslink.usb_identity import usb_identity
from drivers.transport import usb_find, usb_hotplug, usb_port
from drivers.transport.port_error import PortError
from drivers.transport.url import usb_place
from drivers.transport.usb_port import Opener, UsbPort
from firmware_protocol.quantities import BootUs
from firmware_protocol.tmslink import messages as m
from firmware_protocol.tmslink.link import Link
from tests.process.system import until
from tests.usb.umock import CONTROL, command

SERIAL = "TR000007"
WAIT_S = 5


def bus(*words: str) -> list[str]:
    """The events of the ground truth so far."""
    return command(os.environ[CONTROL], *words)


def opened(opener: Opener) -> UsbPort:
    """As the guard does it: ask until it is there."""
    while True:
        try:
            return opener()
        except BlockingIOError:
            select.select([], [], [], 0.005)


def refusal(opener: Opener) -> str:
    try:
        port = opened(opener)
    except PortError as error:
        return error.code
    port.close()
    assert port.ended(WAIT_S)
    return ""


def heard(port: UsbPort, link: Link, wanted: set[type]) -> None:
    """Until an event of each of these kinds has come."""
    while wanted:
        assert select.select([port], [], [], WAIT_S)[0], f"{wanted} never came"
        wanted = wanted - {type(event) for event in link.receive(port.read(), BootUs(0))}


def lost(port: UsbPort) -> OSError:
    while True:
        assert select.select([port], [], [], WAIT_S)[0], "the loss is never told"
        try:
            port.read()
        except OSError as error:
            return error


def errno_of(act: Callable[[], object]) -> int | None:
    try:
        act()
    except USBError as error:
        return int(error.errno)
    return None


def device() -> tuple[Any, dict[tuple[int, int], int]]:
    """The raw device of pyusb, and its endpoints by type and direction."""
    backend = usb_find.backend_of(usb_place("usb:"))
    found = usb.core.find(idVendor=0x1209, idProduct=1, backend=backend)
    found.set_configuration()
    interface = found.get_active_configuration()[(0, 0)]
    return found, {
        (e.bmAttributes & 3, e.bEndpointAddress >> 7): e.bEndpointAddress for e in interface
    }


BULK_OUT, BULK_IN, INTERRUPT_IN = (2, 0), (2, 1), (3, 1)


def session() -> None:
    """Enumeration, identity, and the frames of a session over every endpoint."""
    assert SERIAL in usb_identity(f"usb:{SERIAL}")
    port, link = opened(Opener(f"usb:{SERIAL}")), Link()
    assert port.serial == SERIAL
    port.write(link.hello(m.Hello(1, 7, 0), 7))
    heard(port, link, {m.Identity, m.Limits, m.Status})
    port.stop()
    until(lambda: "stop" in bus("truth"), "STOP has arrived")
    port.close()
    assert port.ended(WAIT_S)


def raw() -> None:
    """STALL, time-out, a halt that is cleared, and a transfer of whole packets."""
    found, at = device()
    assert (found.manufacturer, found.serial_number) == ("tmsctl", SERIAL)
    assert errno_of(lambda: found.ctrl_transfer(0xC0, 9, 0, 0, 8, 500)) == errno.EPIPE
    with pytest.raises(USBTimeoutError):
        found.read(at[BULK_IN], 64, 50)
    assert errno_of(lambda: [found.write(at[BULK_OUT], bytes(1024), 500) for _ in range(5)]) == (
        errno.EPIPE
    )
    assert errno_of(lambda: found.write(at[BULK_OUT], b"\0", 500)) == errno.EPIPE
    found.clear_halt(at[BULK_OUT])
    assert found.write(at[BULK_OUT], bytes(128), 500) == 128
    assert found.write(at[BULK_OUT], b"", 500) == 0
    found.reset()
    usb.util.dispose_resources(found)


def unplug() -> None:
    """Reads under way end at once; later transfers fail; another device is never taken."""
    opener = Opener("usb:")
    port, link = opened(opener), Link()
    port.write(link.hello(m.Hello(1, 7, 0), 7))
    heard(port, link, {m.Identity})
    bus("unplug")
    assert lost(port).errno in (errno.ENODEV, errno.EIO, errno.ESHUTDOWN)
    port.close()
    assert port.ended(WAIT_S)
    assert refusal(opener) == "port-missing"
    bus("plug", "TR000008")
    assert refusal(opener) == "port-missing"
    assert refusal(Opener("usb:TR000008")) == ""
    bus("unplug")
    bus("plug", SERIAL)
    port, link = opened(opener), Link()
    port.write(link.hello(m.Hello(1, 7, 0), 7))
    heard(port, link, {m.Identity})
    port.close()
    assert port.ended(WAIT_S)


def pending() -> None:
    """A read of pyusb's own that waits, when the device goes."""
    found, at = device()
    pid = os.fork()
    if pid == 0:
        select.select([], [], [], 0.05)
        bus("unplug")
        os._exit(0)
    assert errno_of(lambda: found.read(at[BULK_IN], 64, 60_000)) in (
        errno.ENODEV, errno.EIO, errno.ESHUTDOWN,
    )  # fmt: skip
    os.waitpid(pid, 0)
    assert errno_of(lambda: found.write(at[BULK_OUT], b"\0", 500)) == errno.ENODEV


def stop() -> None:
    """STOP passes while bulk OUT takes nothing."""
    port, link = opened(Opener("usb:")), Link()
    port.write(link.hello(m.Hello(1, 7, 0), 7))
    heard(port, link, {m.Identity, m.Status})
    bus("fault", "usb_nak")
    for _ in range(4):
        port.write(bytes(200))
    port.stop()
    until(lambda: "stop" in bus("truth"), "STOP has arrived")
    bus("clear")
    port.close()
    assert port.ended(WAIT_S)


def hotplug() -> None:
    """udev's word, and nothing else, ends a wait for a device that is away."""
    usb_hotplug.LOOK_ANYWAY_S = usb_hotplug.RULES_WITHIN_S = 3_600  # type: ignore[misc]
    bus("unplug")
    opener = Opener(f"usb:{SERIAL}")
    assert refusal(opener) == "port-missing"
    for _ in range(20):
        with pytest.raises(BlockingIOError):
            opener()
        select.select([], [], [], 0.005)
    bus("plug", SERIAL)  # umockdev announces it twice, at first without its node
    while refusal(opener):
        pass


def contexts() -> None:
    """Looking again and again, as the guard does while nothing is there, keeps nothing open."""
    usb_hotplug.LOOK_ANYWAY_S = 0.01  # type: ignore[misc]
    gc.disable()  # as in the guard
    opener = Opener("usb:TR999999")
    sizes = []
    for _ in range(6):
        assert refusal(opener) == "port-missing"
        sizes.append(len(list(Path("/proc/self/fd").iterdir())))
    assert len(set(sizes[1:])) == 1, sizes


def objects() -> None:
    """A device that comes and goes leaves no more behind than one that went once."""
    usb_hotplug.LOOK_ANYWAY_S = 0.01  # type: ignore[misc]
    opener, counts = Opener(f"usb:{SERIAL}"), []
    gc.disable()  # as in the guard
    for _ in range(16):
        port = opened(opener)
        bus("unplug")
        lost(port)
        port.close()
        assert port.ended(WAIT_S)
        assert refusal(opener) == "port-missing"
        bus("plug", SERIAL)
        counts.append(len(gc.get_objects()))
    assert counts[-1] - counts[5] < 10, counts


CASES = {
    case.__name__: case
    for case in (session, raw, unplug, pending, stop, hotplug, contexts, objects)
}

if __name__ == "__main__":
    usb_port.POLL_MS = 20  # type: ignore[misc] # ports end within their time-out
    CASES[sys.argv[1]]()
