"""A virtual FT232BM between USB and the serial line of any emulated device.

Linux binds its own driver ftdi_sio to it, so that a real /dev/ttyUSBn has baud rate, parity, break
and modem lines. Requests and packets are those that the driver uses; CTS and DSR are high, and a
rise of RTS leads to the trigger input as in rfc2217_port.py.
"""

from __future__ import annotations

import enum
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from firmware_protocol.quantities import MS
from sim_device.device import Device
from sim_device.usb_descriptors import PACKET_MAX, Description, Endpoint, Transfer
from sim_device.usb_function import Setup, UsbFunction

VENDOR, PRODUCT, RELEASE = 0x0403, 0x6001, 0x0400  # the release tells ftdi_sio that it is a BM
BULK_IN, BULK_OUT = 0x81, 0x02

TO_CHIP, FROM_CHIP = 0x40, 0xC0  # bmRequestType


class Request(enum.IntEnum):
    """bRequest."""

    RESET = 0
    MODEM_CTRL = 1
    SET_FLOW = 2
    SET_BAUD = 3
    SET_DATA = 4
    POLL_STATUS = 5
    EVENT_CHAR = 6
    ERROR_CHAR = 7
    SET_LATENCY = 9
    GET_LATENCY = 10


_RESET_ALL, _PURGE_IN, _PURGE_OUT = 0, 1, 2  # wValue of RESET
_DTR, _RTS = 0x01, 0x02  # levels; which of them are meant is 8 bits higher

MODEM_STATUS: Final = 0x31
"""CTS and DSR are high, ring and carrier low; the lowest bit is always set."""

LINE_STATUS: Final = 0x60
"""Its transmitter is empty."""

OVERRUN: Final = 0x02
"""Bit of the line status: bytes came that nobody had taken in time."""

BUFFER_MAX: Final = 8192
"""Bytes for the host. The chip has 128, but a line paces what comes, and nothing does it here."""

LATENCY_MS: Final = 16
"""Until the driver sets another one: an IN packet that is not full leaves after so long."""

BASE_BAUD: Final = 3_000_000
EIGHTHS: Final = (0, 4, 2, 1, 3, 5, 6, 7)  # code of the divisor's fraction: eighths
BAUD_OFF_MAX_PCT: Final = 3
"""A UART samples in the middle of a bit; at its tenth, 5 % are half a bit, and both ends err."""

_PARITIES: Final = "NOEMS"


class Format(NamedTuple):
    """How bytes stand on a line. Stop bits are left out: a receiver does not look at them."""

    baud: int
    bits: int = 8
    parity: str = "N"

    def understands(self, other: Format) -> bool:
        off = abs(self.baud - other.baud) * 100
        return self[1:] == other[1:] and off <= self.baud * BAUD_OFF_MAX_PCT


@dataclass(slots=True)
class Chip:
    """What the host has set."""

    format: Format = field(default_factory=lambda: Format(9600))
    sends_break: bool = False
    dtr: bool = False
    rts: bool = False
    latency_ms: int = LATENCY_MS


def baud_of(value: int, index: int) -> int:
    """The baud rate of a divisor as SET_BAUD carries it: 14 bits, and three for eighths."""
    whole, code = value & 0x3FFF, value >> 14 | (index & 1) << 2
    if whole < 2 and code == 0:
        return (BASE_BAUD, 2_000_000)[whole]
    return round(BASE_BAUD * 8 / (whole * 8 + EIGHTHS[code]))


class FtdiRole:
    """`hand_over` takes the host's bytes, `edge` is told of each rise of RTS."""

    def __init__(
        self,
        hand_over: Callable[[bytes, int], None],
        edge: Callable[[int], None],
        line: Format,
        rng: random.Random,
        serial: str,
        now_us: int,
    ) -> None:
        self.about = Description(
            vendor=VENDOR,
            product=PRODUCT,
            release=RELEASE,
            class_=(0xFF, 0xFF, 0xFF),
            endpoints=(Endpoint(BULK_IN, Transfer.BULK), Endpoint(BULK_OUT, Transfer.BULK)),
            self_powered=False,
            max_ma=90,
            texts=("tmsctl", "tmssim serial adapter", serial),
        )
        self.chip = Chip()
        self._hand_over, self._edge, self._line, self._rng = hand_over, edge, line, rng
        self._coming = bytearray()  # from the device
        self._overrun = False
        self._sent_us = now_us  # the newest packet IN

    def reset(self, now_us: int) -> None:
        """As after power-up; the host's own line settings are gone."""
        self.lost()
        self._sent_us = now_us

    def lost(self) -> None:
        """Without power its lines are low."""
        self.chip = Chip()
        self._coming.clear()
        self._overrun = False

    # -- requests ------------------------------------------------------------------------------

    def vendor(self, setup: Setup, _data: bytes, now_us: int) -> bytes | None:
        chip, value = self.chip, setup.value
        if setup.request_type == FROM_CHIP:
            answers: dict[int, bytes] = {
                Request.POLL_STATUS: bytes((MODEM_STATUS, LINE_STATUS)),
                Request.GET_LATENCY: bytes((chip.latency_ms,)),
            }
            return answers.get(setup.request)
        if setup.request_type != TO_CHIP or setup.length:
            return None
        match setup.request:
            case Request.RESET:
                return self._reset(value)
            case Request.MODEM_CTRL:
                self._set_lines(value, now_us)
            case Request.SET_BAUD:
                chip.format = chip.format._replace(baud=baud_of(value, setup.index))
            case Request.SET_DATA:
                return self._set_data(value)
            case Request.SET_LATENCY if 1 <= value <= 255:
                chip.latency_ms = value
            case Request.SET_FLOW | Request.EVENT_CHAR | Request.ERROR_CHAR:
                pass  # taken, and nothing here makes use of them
            case _:
                return None
        return b""

    def _reset(self, value: int) -> bytes | None:
        if value not in (_RESET_ALL, _PURGE_IN, _PURGE_OUT):
            return None
        if value != _PURGE_OUT:  # what was written has left already
            self._coming.clear()
            self._overrun = False
        return b""

    def _set_lines(self, value: int, now_us: int) -> None:
        chip = self.chip
        if value & _DTR << 8:
            chip.dtr = bool(value & _DTR)
        if value & _RTS << 8:
            before, chip.rts = chip.rts, bool(value & _RTS)
            if chip.rts and not before:
                self._edge(now_us)

    def _set_data(self, value: int) -> bytes | None:
        bits, parity = value & 0xFF, value >> 8 & 7
        if bits not in (7, 8) or parity >= len(_PARITIES):
            return None
        self.chip.format = self.chip.format._replace(bits=bits, parity=_PARITIES[parity])
        self.chip.sends_break = bool(value & 1 << 14)
        return b""

    # -- bytes ---------------------------------------------------------------------------------

    def take(self, packet: bytes, now_us: int) -> bool:
        """A stream: the line knows no transfers. Nothing is heard of what is sent in a break."""
        if packet and not self.chip.sends_break:
            self._hand_over(self._heard(packet), now_us)
        return True

    def hear(self, output: bytes, _now_us: int) -> None:
        room = BUFFER_MAX - len(self._coming)
        self._overrun |= len(output) > room
        self._coming += self._heard(output)[:room]

    def give(self, _address: int, now_us: int) -> bytes | None:
        """Each packet begins with two bytes of status. One that is not full waits for its time."""
        room = PACKET_MAX - 2
        if len(self._coming) < room and now_us < self._due_us():
            return None
        line = LINE_STATUS | OVERRUN * self._overrun
        packet = bytes((MODEM_STATUS, line)) + self._coming[:room]
        del self._coming[:room]
        self._overrun = False
        self._sent_us = now_us
        return packet

    def next_us(self, _address: int) -> int | None:
        return self._due_us()

    def _due_us(self) -> int:
        return self._sent_us + self.chip.latency_ms * MS

    def _heard(self, data: bytes) -> bytes:
        """What the other end makes of it; at another baud rate or parity something else."""
        right = self._line.understands(self.chip.format)
        return data if right else self._rng.randbytes(len(data))


def make_ftdi(
    device: Device, edge: Callable[[int], None], line: Format, serial: str, now_us: int
) -> UsbFunction:
    """Any emulated device on a serial line, behind an adapter. `line`: the format that it has."""
    role = FtdiRole(device.receive, edge, line, device.faults.rng, serial, now_us)
    return UsbFunction(device, role, now_us)
