"""What the kernel and udevd say of USB devices that are plugged in: when a look is worth it.

Both speak on a netlink socket, udevd once its rules have given the device to whoever may use it.
In a network namespace of its own, as under PrivateNetwork, the guard hears the kernel alone; where
no socket can be had, nobody. So this says when to look, never what is there: a message that is
missed, or a lie, changes nothing but the instant of a look.
"""

from __future__ import annotations

import enum
import select
import socket
import struct
import threading
import time
from typing import Final, Protocol

LOOK_ANYWAY_S: Final = 1.0
"""A look without a word: for where nobody speaks, or another program gives the device up."""
RULES_WITHIN_S: Final = 0.2
"""After the kernel's word udevd has so long: before its rules are applied opening is refused."""
FORGOTTEN_S: Final = 0.25
"""How soon a wait sees that the program has ended."""
MESSAGE_MAX: Final = 8_192
"""The kernel's own bound is 2 KiB of properties; udevd adds as much again at the most usual."""

_PROTOCOL: Final = 15  # NETLINK_KOBJECT_UEVENT
_BY_KERNEL, _BY_UDEV = 1, 2  # multicast groups
_CREDENTIALS: Final = struct.Struct("@iII")  # pid, uid, gid
_UDEV_HEADER: Final = struct.Struct("=8s4sIII")
"""Prefix, magic; size of the header, where the properties begin, their size."""
_NEW: Final = frozenset((b"ACTION=add", b"ACTION=bind"))
_DEVICE: Final = frozenset((b"SUBSYSTEM=usb", b"DEVTYPE=usb_device"))


class Word(enum.Enum):
    """Who announces a USB device."""

    KERNEL = enum.auto()
    UDEV = enum.auto()


class Line(Protocol):
    """What is used of the socket."""

    def fileno(self) -> int: ...
    def recvmsg(
        self, size: int, ancillary_size: int, /
    ) -> tuple[bytes, list[tuple[int, int, bytes]], int, tuple[int, int]]: ...
    def close(self) -> None: ...


def announced(message: bytes, groups: int, pid: int, uid: int) -> Word | None:
    """Does it say that a USB device is there? `pid` is the netlink address of who sent it.

    Only the kernel sends as pid 0 to its group, and only root's programs are listened to: anybody
    may send to this socket directly, and then belongs to no group.
    """
    if groups == _BY_KERNEL and pid == 0:
        head, *properties = message.split(b"\0")
        word = Word.KERNEL if b"@" in head else None
    elif groups == _BY_UDEV and uid == 0:
        properties = _of_udev(message)
        word = Word.UDEV
    else:
        return None
    said = frozenset(properties)
    return word if said >= _DEVICE and said & _NEW else None


def _of_udev(message: bytes) -> list[bytes]:
    """The properties behind the header of libudev; none of what is not its."""
    if len(message) < _UDEV_HEADER.size:
        return []
    prefix, magic, _, begin, size = _UDEV_HEADER.unpack_from(message)
    known = prefix == b"libudev\0" and magic == b"\xfe\xed\xca\xfe"
    if not known or begin < _UDEV_HEADER.size or begin + size > len(message):
        return []
    return message[begin : begin + size].split(b"\0")


def listen() -> Announcements | None:
    """None where no such socket can be had."""
    try:
        line = socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC, _PROTOCOL)
    except OSError:
        return None
    try:
        line.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        line.bind((0, _BY_KERNEL | _BY_UDEV))
    except OSError:
        line.close()
        return None
    return Announcements(line)


class Announcements:
    """Listens from its making on, so that nothing is missed between a look and the next wait."""

    def __init__(self, line: Line) -> None:
        self._line = line

    def wait(self) -> None:
        """Until a look is worth it."""
        until = time.monotonic() + LOOK_ANYWAY_S
        while (left := until - time.monotonic()) > 0 and threading.main_thread().is_alive():
            if not select.select([self._line], [], [], min(left, FORGOTTEN_S))[0]:
                continue
            try:
                word = self._read()
            except OSError:
                return  # more was said than there was room for
            if word is Word.UDEV:
                return
            if word is Word.KERNEL:
                until = min(until, time.monotonic() + RULES_WITHIN_S)

    def close(self) -> None:
        self._line.close()

    def _read(self) -> Word | None:
        message, ancillary, flags, (pid, groups) = self._line.recvmsg(
            MESSAGE_MAX, socket.CMSG_SPACE(_CREDENTIALS.size)
        )
        if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
            return None
        for level, kind, data in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_CREDENTIALS):
                _, uid, _ = _CREDENTIALS.unpack(data)
                return announced(message, groups, pid, uid)
        return None
