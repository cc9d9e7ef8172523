"""A small client of USB/IP, written from its documentation, that may also send nonsense."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable
from typing import Final, NamedTuple

DEADLINE_S: Final = 20.0
DEVLIST, IMPORT = 0x8005, 0x8003
RECORD_SIZE: Final = 312
DEVICE_ID: Final = 0x10002
GET_CONFIGURATION, SET_CONFIGURATION = (0x80, 8), (0x00, 9)


class Ret(NamedTuple):
    """An answer; of an unlink without data."""

    command: int  # 3 submit, 4 unlink
    number: int
    status: int
    data: bytes


def connect(name: str) -> socket.socket:
    """To `unix:PATH` or `tcp:HOST:PORT`."""
    scheme, _, place = name.partition(":")
    if scheme == "unix":
        line = socket.socket(socket.AF_UNIX)
        line.settimeout(DEADLINE_S)
        line.connect(place)
        return line
    host, _, number = place.rpartition(":")
    return socket.create_connection((host, int(number)), DEADLINE_S)


class UsbipClient:
    """`serve` lets the server work, where nobody else does."""

    def __init__(self, name: str, serve: Callable[[], object] = lambda: None) -> None:
        self.line = connect(name)
        self._serve = serve
        self._numbers = 0
        self._is_in: dict[int, bool] = {}

    def close(self) -> None:
        self.line.close()
        self._serve()

    def send(self, data: bytes) -> None:
        self.line.sendall(data)
        self._serve()

    def exactly(self, size: int) -> bytes:
        """EOFError when the server has hung up."""
        data = b""
        while len(data) < size:
            try:
                more = self.line.recv(size - len(data))
            except ConnectionResetError:
                more = b""
            if not more:
                raise EOFError
            data += more
        return data

    # Operations.

    def devices(self) -> list[tuple[bytes, int, int, tuple[int, int, int]]]:
        """Bus id, vendor, product, and class of the interface."""
        self.send(struct.pack("!HHI", 0x111, DEVLIST, 0))
        version, code, status, count = struct.unpack("!HHII", self.exactly(12))
        assert (version, code, status) == (0x111, 5, 0)
        found = []
        for _ in range(count):
            bus_id, vendor, product = self._record()
            first, second, third, _ = self.exactly(4)
            found.append((bus_id, vendor, product, (first, second, third)))
        return found

    def import_(self, bus_id: bytes = b"1-1") -> int:
        """The status."""
        self.send(struct.pack("!HHI32s", 0x111, IMPORT, 0, bus_id))
        version, code, status = struct.unpack("!HHI", self.exactly(8))
        assert (version, code) == (0x111, 3)
        if status == 0:
            assert self._record()[0] == b"1-1"
        return int(status)

    def _record(self) -> tuple[bytes, int, int]:
        row = struct.unpack("!256s32sIIIHHHBBBBBB", self.exactly(RECORD_SIZE))
        assert (row[2] << 16 | row[3], row[4]) == (DEVICE_ID, 2)
        return row[1].rstrip(b"\0"), row[5], row[6]

    # Transfers.

    def submit(
        self, endpoint: int, data_or_length: bytes | int, setup: bytes = bytes(8), flags: int = 0
    ) -> int:
        """Its number."""
        self._numbers += 1
        is_in = isinstance(data_or_length, int)
        data, length = (b"", data_or_length) if is_in else (data_or_length, len(data_or_length))
        self._is_in[self._numbers] = is_in
        head = struct.pack("!IIIII", 1, self._numbers, DEVICE_ID, is_in, endpoint & 15)
        self.send(head + struct.pack("!IIIII8s", flags, length, 0, 0, 0, setup) + data)
        return self._numbers

    def unlink(self, number: int) -> int:
        self._numbers += 1
        self.send(struct.pack("!IIIIII24x", 2, self._numbers, DEVICE_ID, 0, 0, number))
        return self._numbers

    def ret(self) -> Ret:
        """The next answer, whatever it is for."""
        command, number, _, _, _, status, actual = struct.unpack("!5Iii20x", self.exactly(48))
        data = b""
        if command == 3 and self._is_in[number]:
            data = self.exactly(actual)
        return Ret(command, number, status, data)

    def control(
        self, request: tuple[int, int], value: int = 0, index: int = 0, length: int = 0
    ) -> Ret:
        """A request without data OUT; other answers must not be on their way."""
        setup = struct.pack("<BBHHH", *request, value, index, length)
        number = self.submit(0, length if request[0] & 0x80 else b"", setup)
        answer = self.ret()
        assert answer.number == number
        return answer

    def begin(self) -> None:
        """Import and configure."""
        assert self.import_() == 0
        assert self.control(SET_CONFIGURATION, 1).status == 0
