"""USB/IP 1.1.1 as bytes: what a client sends and reads (Linux, Documentation/usb/usbip_protocol).

Every wait has an end. All integers are big-endian but those of USB itself.
"""

from __future__ import annotations

import socket
import struct
import time
from typing import Final, NamedTuple

VERSION: Final = 0x0111
OP_REQ_DEVLIST: Final = 0x8005
OP_REQ_IMPORT: Final = 0x8003
CMD_SUBMIT: Final = 1
CMD_UNLINK: Final = 2
RET_SUBMIT: Final = 3
RET_UNLINK: Final = 4
OUT: Final = 0
IN: Final = 1

COMMAND: Final = struct.Struct("!IIIIIIiiii8s")
"""Command, number, device, direction, endpoint; flags (UNLINK: the number that is meant), size,
start frame, packets, interval; set-up packet."""
REPLY_SIZE: Final = 48
REPLY: Final = struct.Struct("!II12xii20x")
"""Command, number; status, actual length. What else there is of a reply is for isochronous ones."""
_OPERATION: Final = struct.Struct("!HHI")
_COUNT: Final = struct.Struct("!I")
_RECORD: Final = struct.Struct("!256s32sIIIHHHBBBBBB")
_BUS_ID_SIZE: Final = 32

DEVICES_MAX: Final = 255
"""More than any server exports; a number above it is no answer of one."""
CONNECT_WITHIN_S: Final = 1.0
ANSWER_WITHIN_S: Final = 1.0
"""For a list of devices, or an import, as a whole."""
RECEIVE_WITHIN_S: Final = 0.1
"""After so long a receive ends without anything, so that whoever waits can look at the clock."""
SEND_WITHIN_S: Final = 1.0
"""A server that takes nothing for so long is gone: a command that went out by half is no use."""


class Exported(NamedTuple):
    """One device that a server offers."""

    bus_id: bytes
    bus: int
    address: int
    speed: int  # as Linux counts: 1 low, 2 full, 3 high


class WireError(OSError):
    """The server is gone, or says what no server may say."""


class RefusedError(OSError):
    """The server does not give the device: another client has it, or it has just gone."""


def connect(address: str) -> socket.socket:
    """To `unix:PATH` or `HOST:PORT`. OSError when nobody is there."""
    if address.startswith("unix:"):
        line = socket.socket(socket.AF_UNIX)
        try:
            line.settimeout(CONNECT_WITHIN_S)
            line.connect(address.removeprefix("unix:"))
        except OSError:
            line.close()
            raise
        return line
    host, _, port = address.rpartition(":")
    line = socket.create_connection((host.strip("[]"), int(port)), CONNECT_WITHIN_S)
    line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return line


def devices(address: str) -> list[Exported]:
    """What the server exports."""
    with connect(address) as line:
        answer = _operation(line, OP_REQ_DEVLIST)
        (count,) = _COUNT.unpack(answer.exactly(_COUNT.size))
        if count > DEVICES_MAX:
            raise WireError(f"a list of {count} devices is no answer of a USB/IP server")
        found = []
        for _ in range(count):
            record = answer.exactly(_RECORD.size)
            found.append(_exported(record))
            answer.exactly(4 * record[-1])  # its interfaces; the descriptors tell more
        return found


def take(address: str, bus_id: bytes) -> socket.socket:
    """Import a device: from now on the socket carries its transfers."""
    line = connect(address)
    try:
        answer = _operation(line, OP_REQ_IMPORT, bus_id.ljust(_BUS_ID_SIZE, b"\0"))
        given = _exported(answer.exactly(_RECORD.size))
        if given.bus_id != bus_id:
            raise WireError(f"asked for device {bus_id!r}, was given {given.bus_id!r}")
    except OSError:
        line.close()
        raise
    line.setblocking(True)
    for option, seconds in (
        (socket.SO_SNDTIMEO, SEND_WITHIN_S),
        (socket.SO_RCVTIMEO, RECEIVE_WITHIN_S),
    ):
        whole, part = divmod(round(seconds * 1_000_000), 1_000_000)
        line.setsockopt(socket.SOL_SOCKET, option, struct.pack("@ll", whole, part))
    return line


class _Answer:
    """What the server answers, which may take so long and no longer, in however many pieces."""

    def __init__(self, line: socket.socket) -> None:
        self._line = line
        self._until = time.monotonic() + ANSWER_WITHIN_S

    def exactly(self, size: int) -> bytes:
        data = bytearray()
        while len(data) < size:
            left = self._until - time.monotonic()
            if left <= 0:
                raise WireError("it does not answer as USB/IP demands: timed out")
            self._line.settimeout(left)
            try:
                piece = self._line.recv(size - len(data))
            except OSError as error:
                raise WireError(f"it does not answer as USB/IP demands: {error}") from error
            if not piece:
                raise WireError("it hung up in the middle of an answer")
            data += piece
        return bytes(data)


def _operation(line: socket.socket, request: int, of: bytes = b"") -> _Answer:
    """The answer behind its head. WireError where it has another."""
    answer = _Answer(line)
    try:
        line.sendall(_OPERATION.pack(VERSION, request, 0) + of)
    except OSError as error:
        raise WireError(f"it does not listen as USB/IP demands: {error}") from error
    version, code, status = _OPERATION.unpack(answer.exactly(_OPERATION.size))
    if version != VERSION or code != request & 0x7FFF:
        raise WireError(f"version {version:#06x}, code {code:#06x} is no answer of USB/IP 1.1.1")
    if status:
        raise RefusedError(f"the server refuses, status {status}")
    return answer


def _exported(record: bytes) -> Exported:
    _, bus_id, bus, address, speed, *_ = _RECORD.unpack(record)
    return Exported(bus_id.rstrip(b"\0"), bus, address, speed)
