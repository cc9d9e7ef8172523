"""The emulator's end of a USB cable: a USB/IP server on the loopback or on a Unix socket.

Linux attaches it with vhci_hcd as a real device; tmsctl opens it by itself. USB/IP has no
authentication, so nobody from outside may reach it. Never blocks; who does not read is hung up on.
"""

from __future__ import annotations

import errno
import socket
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

from sim_device import usbip_wire as wire
from sim_device.ports import listen_tcp, listen_unix
from sim_device.settings import SetupError
from sim_device.usb_descriptors import IN
from sim_device.usb_function import Completion, UsbFunction

CLIENTS_MAX: Final = 8
PENDING_MAX: Final = 1024
"""Transfers of one client that have not ended. Who submits more is hung up on."""

_READ_MAX: Final = 65_536


@dataclass(eq=False, slots=True)
class _Client:
    socket: socket.socket
    reader: wire.Reader = field(default_factory=wire.Reader)
    pending: set[int] = field(default_factory=set)


class UsbipPort:
    """One device that one client at a time can import. Lists are for everybody."""

    edges: tuple[int, ...] = ()

    def __init__(self, option: str, address: str, function: UsbFunction) -> None:
        self._function = function
        self.plugged = True
        self._clients: list[_Client] = []
        self._importer: _Client | None = None
        self._path: Path | None = None
        scheme, _, place = address.partition(":")
        if scheme == "unix" and place:
            self._path = Path(place)
            self._listener = listen_unix(option, self._path, CLIENTS_MAX)
        elif scheme == "tcp":
            self._listener, place = listen_tcp(option, place)
        else:
            raise SetupError(f"{option} {address}: expected unix:PATH or tcp:HOST:PORT.")
        self.name = f"{scheme}:{place}"

    def plug(self, *, plugged: bool) -> None:
        """Without a device nothing is imported; a list is empty."""
        self.plugged = plugged
        if self._importer is not None:
            self._drop(self._importer)

    def filenos(self) -> list[int]:
        return [self._listener.fileno(), *(each.socket.fileno() for each in self._clients)]

    def read(self) -> bytes:
        """Serve all that has come. The bytes themselves reach the device as transfers."""
        self._welcome()
        for client in list(self._clients):
            if client not in self._clients:
                continue
            try:
                data = client.socket.recv(_READ_MAX)
            except BlockingIOError:
                continue
            except OSError:
                data = b""
            if data:
                self._hear(client, data)
            else:
                self._drop(client)
        return b""

    def write(self, data: bytes) -> None:
        """Nothing comes this way: the function's output leaves in transfers."""
        assert not data

    def close(self) -> None:
        for client in list(self._clients):
            self._drop(client)
        self._listener.close()
        if self._path is not None:
            with suppress(OSError):
                self._path.unlink()

    # -- inside --------------------------------------------------------------------------------

    def _welcome(self) -> None:
        try:
            accepted, _ = self._listener.accept()
        except OSError:
            return
        if len(self._clients) >= CLIENTS_MAX:
            accepted.close()
            return
        accepted.setblocking(False)
        if accepted.family != socket.AF_UNIX:
            accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._clients.append(_Client(accepted))

    def _hear(self, client: _Client, data: bytes) -> None:
        client.reader.feed(data)
        try:
            while client in self._clients and (message := client.reader.next()) is not None:
                self._obey(client, message)
        except wire.MalformedError:
            self._drop(client)

    def _obey(self, client: _Client, message: wire.Message) -> None:
        match message:
            case wire.ListRequest():
                about = self._function.about if self._function.plugged else None
                self._send(client, wire.list_answer(about))
            case wire.ImportRequest():
                self._import(client, message)
            case wire.Submit():
                self._submit(client, message)
            case wire.Unlink():
                taken_back = self._function.cancel((client, message.of_number))
                if taken_back:
                    client.pending.discard(message.of_number)
                status = -errno.ECONNRESET if taken_back else 0
                self._send(client, wire.unlink_answer(message.number, status))

    def _import(self, client: _Client, asked: wire.ImportRequest) -> None:
        if asked.bus_id != wire.BUS_ID or not self._function.plugged:
            self._send(client, wire.import_refusal(wire.NO_DEVICE))
        elif self._importer is not None:
            self._send(client, wire.import_refusal(wire.BUSY))
        else:
            self._importer, client.reader.imported = client, True
            self._function.bus_reset()
            self._send(client, wire.import_answer(self._function.about))

    def _submit(self, client: _Client, asked: wire.Submit) -> None:
        if asked.number in client.pending or len(client.pending) >= PENDING_MAX:
            raise wire.MalformedError(f"transfer {asked.number}")
        client.pending.add(asked.number)
        key, done = (client, asked.number), partial(self._ended, client, asked)
        if asked.endpoint == 0:
            self._function.control(key, asked.setup, asked.data, done)
            return
        address = asked.endpoint | IN * asked.is_in
        wanted = asked.length if asked.is_in else asked.data
        self._function.submit(key, address, wanted, done, ends_with_zero=asked.ends_with_zero)

    def _ended(self, client: _Client, asked: wire.Submit, ended: Completion) -> None:
        client.pending.discard(asked.number)
        data = ended.data if asked.is_in else b""
        actual = len(data) if asked.is_in else ended.actual
        self._send(client, wire.submit_answer(asked.number, ended.status, actual, data))

    def _send(self, client: _Client, data: bytes) -> None:
        try:
            whole = client.socket.send(data) == len(data)
        except OSError:
            whole = False
        if not whole:
            self._drop(client)

    def _drop(self, client: _Client) -> None:
        if client not in self._clients:
            return
        self._clients.remove(client)
        client.socket.close()
        if client is self._importer:
            self._importer = None
            self._function.lose_host()
