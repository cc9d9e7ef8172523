"""Announcements of USB devices: which messages are one, from whom, and what a wait does then."""

from __future__ import annotations

import errno
import os
import socket
import struct
import subprocess
import sys
from collections import deque
from pathlib import Path

import pytest

from drivers.transport import usb_hotplug
from drivers.transport.usb_hotplug import Announcements, Word, announced

KERNEL, UDEV = 1, 2
SAYS = (b"ACTION=add", b"DEVPATH=/devices/x", b"SUBSYSTEM=usb", b"DEVTYPE=usb_device")


def from_kernel(*properties: bytes) -> bytes:
    return b"\0".join((b"add@/devices/x", *properties, b""))


def from_udev(
    *properties: bytes, prefix: bytes = b"libudev\0", magic: int = 0xFEEDCAFE, more: int = 0
) -> bytes:
    body = b"\0".join((*properties, b""))
    head = prefix + struct.pack("!I", magic)
    return head + struct.pack("=III16x", 40, 40, len(body) + more) + body


def but(old: bytes, new: bytes) -> tuple[bytes, ...]:
    return tuple(new if one == old else one for one in SAYS)


@pytest.mark.parametrize(
    ("says", "new"),
    [
        (SAYS, True),
        (SAYS[::-1], True),
        (but(b"ACTION=add", b"ACTION=bind"), True),
        ((*SAYS, b"SUBSYSTEM=usb", b"PRODUCT=1209/1/100"), True),
        (but(b"ACTION=add", b"ACTION=remove"), False),
        (but(b"ACTION=add", b"ACTION=unbind"), False),
        (but(b"ACTION=add", b"ACTION=added"), False),
        (but(b"SUBSYSTEM=usb", b"SUBSYSTEM=tty"), False),
        (but(b"SUBSYSTEM=usb", b"SUBSYSTEM=usbmon"), False),
        (but(b"DEVTYPE=usb_device", b"DEVTYPE=usb_interface"), False),
        (SAYS[:3], False),
        (SAYS[1:], False),
        ((), False),
        ((b"\xff" * 100, b"=", b"ACTION"), False),
    ],
)
def test_a_usb_device_that_is_added_or_bound_is_announced_and_nothing_else(
    says: tuple[bytes, ...], new: bool
) -> None:
    assert announced(from_kernel(*says), KERNEL, 0, 0) is (Word.KERNEL if new else None)
    assert announced(from_udev(*says), UDEV, 600, 0) is (Word.UDEV if new else None)


@pytest.mark.parametrize(
    ("message", "groups", "pid", "uid"),
    [
        (from_kernel(*SAYS), KERNEL, 600, 0),  # a program plays the kernel
        (from_kernel(*SAYS), 0, 0, 0),
        (from_udev(*SAYS), UDEV, 600, 1_000),
        (from_udev(*SAYS), 0, 600, 0),  # to this socket alone
        (from_udev(*SAYS), KERNEL, 0, 0),
        (from_kernel(*SAYS), UDEV, 0, 0),
        (b"\0".join(SAYS), KERNEL, 0, 0),  # no head
        (b"", KERNEL, 0, 0),
        (b"", UDEV, 600, 0),
        (from_udev(*SAYS, prefix=b"libudev!"), UDEV, 600, 0),
        (from_udev(*SAYS, magic=0xFEEDCAFF), UDEV, 600, 0),
        (from_udev(*SAYS, more=1), UDEV, 600, 0),
        (from_udev(*SAYS, more=0xFFFF_0000), UDEV, 600, 0),
        (from_udev(*SAYS)[:19], UDEV, 600, 0),
        (from_udev(*SAYS)[:-1], UDEV, 600, 0),
        (b"libudev\0\xfe\xed\xca\xfe" + struct.pack("=III", 40, 0, 24) + SAYS[0], UDEV, 600, 0),
    ],
)
def test_what_is_forged_or_malformed_announces_nothing(
    message: bytes, groups: int, pid: int, uid: int
) -> None:
    assert announced(message, groups, pid, uid) is None


# -- waiting -----------------------------------------------------------------------------------


class FakeLine:
    """The socket: readable while something is left to say. An int is an errno."""

    def __init__(self, *says: tuple[bytes, int, int] | int, uid: int = 0) -> None:
        self.says = deque(says)
        self.uid = uid
        self.ancillary = True
        self._ready = os.eventfd(len(says), os.EFD_SEMAPHORE)

    def fileno(self) -> int:
        return self._ready

    def recvmsg(
        self, size: int, _ancillary_size: int, /
    ) -> tuple[bytes, list[tuple[int, int, bytes]], int, tuple[int, int]]:
        os.eventfd_read(self._ready)
        said = self.says.popleft()
        if isinstance(said, int):
            raise OSError(said, os.strerror(said))
        message, pid, groups = said
        who = (socket.SOL_SOCKET, socket.SCM_CREDENTIALS, struct.pack("@iII", 1, self.uid, 0))
        flags = socket.MSG_TRUNC if len(message) > size else 0
        return message[:size], [who] * self.ancillary, flags, (pid, groups)

    def close(self) -> None:
        os.close(self._ready)


BY_KERNEL = (from_kernel(*SAYS), 0, KERNEL)
BY_UDEV = (from_udev(*SAYS), 600, UDEV)
TOO_LONG = (from_kernel(*SAYS, bytes(usb_hotplug.MESSAGE_MAX)), 0, KERNEL)


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long it was ready to wait, each time that nothing was said; time passes at once."""
    now = [1_000.0]
    waited: list[float] = []

    def select(
        lines: list[FakeLine], _out: object, _bad: object, within_s: float
    ) -> tuple[list[FakeLine], list[int], list[int]]:
        if lines[0].says:
            return lines, [], []
        waited.append(within_s)
        now[0] += within_s
        return [], [], []

    monkeypatch.setattr("select.select", select)
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    return waited


@pytest.mark.parametrize(
    ("says", "waited_s"),
    [
        ([], usb_hotplug.LOOK_ANYWAY_S),
        ([BY_UDEV], 0),
        ([BY_KERNEL, BY_UDEV], 0),
        ([BY_KERNEL], usb_hotplug.RULES_WITHIN_S),
        ([BY_KERNEL] * 5, usb_hotplug.RULES_WITHIN_S),
        ([errno.ENOBUFS], 0),
        ([TOO_LONG], usb_hotplug.LOOK_ANYWAY_S),
        ([(b"change@/devices/y\0ACTION=change\0", 0, KERNEL)] * 50, usb_hotplug.LOOK_ANYWAY_S),
    ],
)
def test_udevs_word_ends_a_wait_at_once_and_the_kernels_when_rules_had_their_time(
    waits: list[float], says: list[tuple[bytes, int, int] | int], waited_s: float
) -> None:
    line = FakeLine(*says)
    listening = Announcements(line)
    listening.wait()
    assert sum(waits) == pytest.approx(waited_s)
    listening.close()


def test_who_does_not_say_who_he_is_or_is_not_root_is_not_listened_to(waits: list[float]) -> None:
    for line in (FakeLine(BY_UDEV), FakeLine(BY_UDEV, uid=1_000)):
        line.ancillary = line.uid != 0
        listening = Announcements(line)
        listening.wait()
        listening.close()
    assert sum(waits) == pytest.approx(2 * usb_hotplug.LOOK_ANYWAY_S)


def test_where_no_socket_can_be_had_nobody_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise OSError(errno.EAFNOSUPPORT, "as in a sandbox")

    monkeypatch.setattr("socket.socket", refused)
    assert usb_hotplug.listen() is None


def test_a_program_that_ends_is_not_kept_by_a_wait() -> None:
    program = (
        "import threading\n"
        "from drivers.transport import usb_hotplug\n"
        "usb_hotplug.LOOK_ANYWAY_S = 3_600\n"
        "listening = usb_hotplug.listen()\n"
        "threading.Thread(target=listening.wait).start()\n"
        "raise SystemExit(7)\n"
    )
    words = [sys.executable, "-c", program]
    done = subprocess.run(words, cwd=Path(__file__).parents[2], timeout=30, check=False)
    assert done.returncode == 7
