"""The far end of the USB figures, a process of its own: `python -m benchmarks.usb_child KIND PATH`.

KIND `socket` sends back as many bytes as USB/IP would, and looks at none; `usbip` is the smallest
USB/IP server that echoes bulk OUT on bulk IN and notes when STOP comes.
"""

from __future__ import annotations

import socket
import struct
import sys
import time
from collections import deque

HEADER = 48
MESSAGE = 64
STOP_REQUEST = b"\x41\x01"
_COMMAND = struct.Struct("!IIIIIIiiii8s")
_REPLY = struct.Struct("!IIIIIiiiii8x")
_RECORD = struct.pack(
    "!256s32sIIIHHHBBBBBB", b"/bench", b"1-1", 1, 1, 2, 0x1209, 1, 0x100, 0, 0, 0, 1, 1, 1
)
_BODY = b"".join(
    (
        struct.pack("<BBBBBBBBB", 9, 4, 0, 0, 3, 0xFF, 0x54, 0x01, 0),
        struct.pack("<BBBBHB", 7, 5, 0x01, 2, 64, 0),
        struct.pack("<BBBBHB", 7, 5, 0x82, 2, 64, 0),
        struct.pack("<BBBBHB", 7, 5, 0x83, 3, 64, 1),
    )
)
_CONFIGURATION = struct.pack("<BBHBBBBB", 9, 2, 9 + len(_BODY), 1, 1, 0, 0x80, 50) + _BODY
_DEVICE = struct.pack("<BBHBBBBHHHBBBB", 18, 1, 0x200, 0, 0, 0, 64, 0x1209, 1, 1, 0, 0, 3, 1)
_TEXTS = {0: b"\x04\x03\x09\x04", 3: b"\x0c\x03" + "BENCH".encode("utf-16-le")}


class Gone(Exception):  # noqa: N818 - the way this program ends
    """The client hung up."""


class Line:
    """Reads exact sizes with as few system calls as can be."""

    def __init__(self, line: socket.socket) -> None:
        self.line = line
        self._data = b""

    def take(self, size: int) -> bytes:
        data = self._data
        while len(data) < size:
            piece = self.line.recv(65_536)
            if not piece:
                raise Gone
            data += piece
        self._data = data[size:]
        return data[:size]


def echo(line: Line) -> None:
    """The sizes of one message out and back: its transfer OUT, and its transfer IN."""
    short, long = bytes(HEADER), bytes(HEADER + MESSAGE)
    while True:
        line.take(HEADER + MESSAGE)
        line.line.sendall(short)
        line.take(HEADER)
        line.line.sendall(long)


def usbip(line: Line) -> None:
    """One client: what it asks first, then transfers until it hangs up."""
    _, code, _ = struct.unpack("!HHI", line.take(8))
    if code == 0x8005:
        line.line.sendall(struct.pack("!HHII", 0x111, 5, 0, 1) + _RECORD + b"\xff\x54\x01\0")
        return
    line.take(32)
    line.line.sendall(struct.pack("!HHI", 0x111, 3, 0) + _RECORD)
    waiting: dict[int, dict[int, int]] = {2: {}, 3: {}}  # transfers IN: their sizes
    ready: deque[bytes] = deque()
    while True:
        command, number, _, incoming, endpoint, flags, size, _, _, _, setup = _COMMAND.unpack(
            line.take(HEADER)
        )
        if command == 2:
            hit = sum(pipe.pop(flags, None) is not None for pipe in waiting.values())
            line.line.sendall(_REPLY.pack(4, number, 0, 0, 0, -104 if hit else 0, 0, 0, 0, 0))
            continue
        if endpoint == 0:
            answer = _control(setup)[:size]
            line.line.sendall(_REPLY.pack(3, number, 0, 0, 0, 0, len(answer), 0, 0, 0) + answer)
            continue
        if incoming:
            waiting[endpoint][number] = size
        else:
            ready.append(line.take(size))
            line.line.sendall(_REPLY.pack(3, number, 0, 0, 0, 0, size, 0, 0, 0))
        while ready and waiting[2]:
            number, size = waiting[2].popitem()
            said = ready.popleft()
            if len(said) > size:
                ready.appendleft(said[size:])
                said = said[:size]
            line.line.sendall(_REPLY.pack(3, number, 0, 0, 0, 0, len(said), 0, 0, 0) + said)


def _control(setup: bytes) -> bytes:
    kind, request, value, _, _ = struct.unpack("<BBHHH", setup)
    if setup[:2] == STOP_REQUEST:
        print(time.monotonic_ns(), flush=True)
    if (kind, request) == (0x80, 8):
        return b"\x01"
    if (kind, request) == (0x80, 6):
        return {1: _DEVICE, 2: _CONFIGURATION}.get(value >> 8) or _TEXTS[value & 0xFF]
    return b""


def main() -> None:
    """Prints `ready`; of each STOP the instant (CLOCK_MONOTONIC, ns). Ends with its last client."""
    serve = {"socket": echo, "usbip": usbip}[sys.argv[1]]
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(sys.argv[2])
        listener.listen()
        print("ready", flush=True)
        while True:
            client, _ = listener.accept()
            with client:
                try:
                    serve(Line(client))
                except Gone:
                    continue


if __name__ == "__main__":
    main()
