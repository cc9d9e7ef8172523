"""A small USB/IP server for the tests: one device of the tmslink class, and every way to lie.

It shares no code with the emulator or the client. What a test wants different it sets or overrides.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections import defaultdict, deque
from pathlib import Path
from typing import Any

BULK_OUT, BULK_IN, INTERRUPT_IN = 0x02, 0x83, 0x81  # neither first nor in order
BUS, ADDRESS = 3, 7
RESET, STALL, OVERFLOW, NO_ANSWER = -104, -32, -75, "no answer"


def endpoint(address: int, kind: int, size: int = 64, interval: int = 0) -> bytes:
    return struct.pack("<BBBBHB", 7, 5, address, kind, size, interval)


def interface(*endpoints: bytes, kind: tuple[int, int, int] = (0xFF, 0x54, 0x01)) -> bytes:
    return struct.pack("<BBBBBBBBB", 9, 4, 0, 0, len(endpoints), *kind, 0) + b"".join(endpoints)


TMSLINK = interface(
    endpoint(INTERRUPT_IN, 3, interval=1), endpoint(BULK_OUT, 2), endpoint(BULK_IN, 2)
)


def configuration(body: bytes = TMSLINK, interfaces: int = 1) -> bytes:
    return struct.pack("<BBHBBBBB", 9, 2, 9 + len(body), interfaces, 1, 0, 0x80, 50) + body


class FakeDevice:
    """Echoes bulk OUT on bulk IN. Answers are computed under the server's lock."""

    def __init__(self, serial: str = "TR000001", descriptors: bytes | None = None) -> None:
        self.strings = {1: "tests", 2: "fake", 3: serial}
        self.descriptors = configuration() if descriptors is None else descriptors
        self.configured = 0
        self.requests: list[bytes] = []  # set-up packets that are none of the standard's
        self.written: list[bytes] = []
        self.waiting: dict[int, deque[tuple[int, int, Any]]] = defaultdict(deque)
        self.ready: dict[int, deque[bytes]] = defaultdict(deque)
        self.status: dict[int, int] = {}  # of an endpoint: what each transfer ends with
        self.silent: set[int] = set()  # endpoints that NAK for ever
        self.cleared: list[int] = []
        self.echo = True

    def control(self, setup: bytes) -> bytes | int | str:
        """Data, a status, or no answer."""
        kind, request, value, index, size = struct.unpack("<BBHHH", setup)
        if kind & 0x60:
            self.requests.append(setup)
            return self.vendor(kind, request, value)[:size]
        if (kind, request) == (0x80, 6):
            return self._descriptor(value >> 8, value & 255)[:size]
        if (kind, request) == (0x80, 8):
            return bytes([self.configured])
        if (kind, request) == (0x00, 9):
            self.configured = value
        if (kind, request) == (0x02, 1):
            self.cleared.append(index)
            self.status.pop(index, None)
        return b""

    def vendor(self, _kind: int, _request: int, _value: int) -> bytes:
        return b"I am it"

    def _descriptor(self, kind: int, index: int) -> bytes:
        if kind == 1:
            return struct.pack(
                "<BBHBBBBHHHBBBB", 18, 1, 0x200, 0, 0, 0, 64, 0x1209, 1, 0x100, 1, 2, 3, 1
            )
        if kind == 2:
            return self.descriptors
        if index == 0:
            return struct.pack("<BBH", 4, 3, 0x0409)
        text = self.strings[index].encode("utf-16-le")
        return struct.pack("<BB", 2 + len(text), 3) + text


class FakeServer:
    """Listens on a Unix socket; each client has a thread. Close it, or use it with `with`."""

    def __init__(self, path: Path, *devices: FakeDevice) -> None:
        self.path = path
        self.devices = devices or (FakeDevice(),)
        self.lock = threading.RLock()
        self.imported: dict[int, socket.socket] = {}
        self.unlinked: list[int] = []  # endpoints whose transfer was taken back
        self.unlink_answers = True
        self.crossing: bytes | None = None  # sent as a reply just before the UNLINK is answered
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._threads = [threading.Thread(target=self._accept)]
        self._clients: list[socket.socket] = []
        self._threads[0].start()

    @property
    def url(self) -> str:
        return f"usbip:unix:{self.path}"

    @property
    def device(self) -> FakeDevice:
        return self.devices[0]

    def __enter__(self) -> FakeServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def unplug(self) -> None:
        """Hang up on everybody; nobody can connect any more."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self.path.unlink(missing_ok=True)
        with self.lock:
            for client in self._clients:
                with contextlib.suppress(OSError):
                    client.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self.unplug()
        for thread in self._threads:
            thread.join(5)
            assert not thread.is_alive()
        self._listener.close()

    def push(self, address: int, data: bytes) -> None:
        """The device has something to say."""
        with self.lock:
            self._give(self.device, address, data)

    def raw(self, data: bytes) -> None:
        """Bytes to whoever has imported the first device."""
        with self.lock:
            self.imported[0].sendall(data)

    # -- inside --------------------------------------------------------------------------

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            with self.lock:
                self._clients.append(client)
            thread = threading.Thread(target=self._serve, args=[client])
            self._threads.append(thread)
            thread.start()

    def _serve(self, client: socket.socket) -> None:
        try:
            self._talk(client)
        except (OSError, EOFError):
            pass
        finally:
            with self.lock:
                for number, owner in list(self.imported.items()):
                    if owner is client:
                        del self.imported[number]
                        self.devices[number].waiting.clear()
                self._clients.remove(client)
            client.close()

    def _record(self, number: int) -> bytes:
        return struct.pack(
            "!256s32sIIIHHHBBBBBB", b"/fake", b"1-%d" % (number + 1), BUS, ADDRESS + number, 2,
            0x1209, 1, 0x100, 0, 0, 0, 1, 1, 1,
        )  # fmt: skip

    def _talk(self, client: socket.socket) -> None:
        file = client.makefile("rb")
        _, code, _ = struct.unpack("!HHI", take(file, 8))
        if code == 0x8005:
            records = [self._record(n) + b"\xff\x54\x01\0" for n in range(len(self.devices))]
            client.sendall(struct.pack("!HHII", 0x111, 5, 0, len(records)) + b"".join(records))
            return
        number = int(take(file, 32).rstrip(b"\0").split(b"-")[1]) - 1
        with self.lock:
            free = number not in self.imported
            if free:
                self.imported[number] = client
        if not free:
            client.sendall(struct.pack("!HHI", 0x111, 3, 1))
            return
        client.sendall(struct.pack("!HHI", 0x111, 3, 0) + self._record(number))
        while True:
            self._command(client, self.devices[number], file)

    def _command(self, client: socket.socket, device: FakeDevice, file: Any) -> None:
        command, number, _, incoming, address, flags, size, _, _, _, setup = struct.unpack(
            "!IIIIIIiiii8s", take(file, 48)
        )
        data = take(file, size) if command == 1 and not incoming else b""
        with self.lock:
            if command == 2:
                self._unlink(client, device, number, flags)
            elif address == 0:
                self._control(client, device, number, setup)
            else:
                self._submit(client, device, number, address, incoming, size, data)

    def _control(
        self, client: socket.socket, device: FakeDevice, number: int, setup: bytes
    ) -> None:
        answer = device.control(setup)
        if isinstance(answer, int):
            reply(client, number, answer, 0)
        elif isinstance(answer, bytes):
            incoming = setup[0] & 0x80
            reply(client, number, 0, len(answer), answer if incoming else b"")

    def _submit(
        self, client: socket.socket, device: FakeDevice, number: int, address: int,
        incoming: int, size: int, data: bytes,
    ) -> None:  # fmt: skip
        address |= 0x80 if incoming else 0
        if address in device.status:
            reply(client, number, device.status[address], 0)
        elif address in device.silent or incoming:
            device.waiting[address].append((number, size, client))
            if device.ready[address] and address not in device.silent:
                self._give(device, address, device.ready[address].popleft())
        else:
            device.written.append(data)
            reply(client, number, 0, len(data))
            if device.echo and data:
                self._give(device, BULK_IN, data)

    def _give(self, device: FakeDevice, address: int, data: bytes) -> None:
        if not device.waiting[address]:
            device.ready[address].append(data)
            return
        number, size, client = device.waiting[address].popleft()
        reply(client, number, 0, len(data[:size]), data[:size])

    def _unlink(self, client: socket.socket, device: FakeDevice, number: int, victim: int) -> None:
        hit = False
        for address, waiting in device.waiting.items():
            for one in list(waiting):
                if one[0] != victim:
                    continue
                waiting.remove(one)
                self.unlinked.append(address)
                hit = self.crossing is None
                if self.crossing is not None:
                    reply(client, victim, 0, len(self.crossing), self.crossing)
        if self.unlink_answers:
            client.sendall(struct.pack("!IIIIIi24x", 4, number, 0, 0, 0, RESET if hit else 0))


def reply(client: socket.socket, number: int, status: int, length: int, data: bytes = b"") -> None:
    with contextlib.suppress(OSError):
        client.sendall(
            struct.pack("!IIIIIiiiii8x", 3, number, 0, 0, 0, status, length, 0, 0, 0) + data
        )


def take(file: Any, size: int) -> bytes:
    data: bytes = file.read(size)
    if len(data) != size:
        raise EOFError
    return data
