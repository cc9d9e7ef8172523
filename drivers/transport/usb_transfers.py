"""What the transfers of a USB port mean: where one ends, which error is a loss, and its words.

Only decisions, for the threads of `usb_port` and for a port in virtual time alike.
"""

from __future__ import annotations

import errno
from typing import Final

READ_SIZE: Final = 4_096
TRANSFER_MAX: Final = 4 * READ_SIZE
"""A transfer without an end is handed over in pieces of so much."""
HANDED_OVER_MAX: Final = 256
"""Reads of each pipe, of up to READ_SIZE bytes, that wait for the guard: 5 s of STATUS, or 1 MB."""
AT_ONCE_MAX: Final = TRANSFER_MAX
"""Bytes that the guard is given at once: the worst noise costs it 14 ms, then it can beat."""


def reads_of(transfer: bytes) -> int:
    """How many reads it came in that brought something."""
    return -(-len(transfer) // READ_SIZE)


class Inward:
    """Puts what is read of one pipe together again, so that the frames of a transfer stay so."""

    def __init__(self) -> None:
        self._begun = b""

    def add(self, piece: bytes) -> bytes:
        """The transfer that this ends; nothing while it goes on."""
        self._begun += piece
        if len(piece) == READ_SIZE and len(self._begun) < TRANSFER_MAX:
            return b""
        whole, self._begun = self._begun, b""
        return whole


class Halts:
    """A halted endpoint is freed once; one that halts again, or anything else, is a loss."""

    def __init__(self) -> None:
        self._failed = 0  # transfers since the last one that worked

    def worked(self) -> None:
        self._failed = 0

    def frees(self, number: int | None) -> bool:
        """May a transfer that failed with this errno be forgotten, and its endpoint freed?"""
        self._failed += 1
        return number == errno.EPIPE and self._failed == 1


def has_no_end(data: bytes, packet_out: int) -> bool:
    """Does nothing but an empty packet behind it say that this transfer OUT is over?"""
    return len(data) % packet_out == 0


def sentence_of(error: OSError) -> str:
    """Why a device is gone, for people."""
    match error.errno:
        case errno.ENODEV | errno.EIO | errno.ESHUTDOWN | errno.ENOENT:
            return "the USB device was unplugged, or its USB has failed"
        case errno.EOVERFLOW:
            return "the USB device sent more than was asked for"
        case errno.EPIPE:
            return "the USB device halts an endpoint again and again"
        case errno.EPROTO | errno.EILSEQ | errno.ETIME:
            return "the USB device does not answer as USB demands; see its cable"
    return f"the USB transfer failed: {error.strerror}"
