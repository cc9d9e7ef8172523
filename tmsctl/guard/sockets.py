"""The guard's two sockets: STOP datagrams, and the one connection to tmsd. Neither ever blocks."""

from __future__ import annotations

import contextlib
import os
import socket
from pathlib import Path
from typing import Final

from firmware_protocol.errors import ProtocolError
from tmsctl.ipc import messages as ipc

STOP_READS_MAX: Final = 16
COMMANDS_MAX: Final = 32
WAITING_MAX: Final = 8


class StopSocket:
    """Any datagram stops, whoever sent it.

    With a socket passed along, its owner learns ACCEPTED, then CONFIRMED when the device shows
    that it is disarmed. A passed socket needs no name, so the answer gets through every sandbox.
    """

    def __init__(self, path: Path) -> None:
        path.unlink(missing_ok=True)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._socket.bind(str(path))
        path.chmod(0o666)  # whoever can reach the folder may stop
        self._waiting: list[socket.socket] = []

    def fileno(self) -> int:
        return self._socket.fileno()

    def read(self) -> str | None:
        """Who pressed STOP, or None. Reads a bounded number of datagrams."""
        stopped_by = None
        for _ in range(STOP_READS_MAX):
            try:
                data, answer_to, _, _ = socket.recv_fds(self._socket, 128, 1)
            except BlockingIOError:
                break
            who = data.removeprefix(b"STOP ").decode(errors="replace").strip("\0 \n")
            stopped_by = stopped_by or who[:64] or "unnamed source"
            for fileno in answer_to:
                self._expect(fileno)
        return stopped_by

    def _expect(self, fileno: int) -> None:
        try:
            passed = socket.socket(fileno=fileno)
        except OSError:
            os.close(fileno)  # not a socket
            return
        if len(self._waiting) < WAITING_MAX:
            self._waiting.append(passed)
        else:
            passed.close()

    def answer(self, word: bytes) -> None:
        for sender in self._waiting:
            with contextlib.suppress(OSError):  # a sender that is gone needs no answer
                sender.send(word, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)

    def confirm(self, *, disarmed: bool | None) -> None:
        """Tell those who wait; None: no device is connected."""
        if self._waiting and disarmed is not False:
            self.answer(b"NO-DEVICE" if disarmed is None else b"CONFIRMED")
            for sender in self._waiting:
                sender.close()
            self._waiting.clear()


class ServiceSocket:
    """Serves one tmsd at a time, of our layout and configuration.

    A client that does not read is cut off, never waited for.
    """

    def __init__(self, path: Path, settings_mark: int) -> None:
        self._welcome = ipc.Welcome(ipc.LAYOUT, os.getpid(), settings_mark)
        path.unlink(missing_ok=True)
        kind = socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK
        self._listener = socket.socket(socket.AF_UNIX, kind)
        self._listener.bind(str(path))
        path.chmod(0o660)
        self._listener.listen(1)
        self._client: socket.socket | None = None
        self._alone = self.filenos = frozenset((self._listener.fileno(),))
        self.welcomed = False

    def accept(self) -> None:
        """Take a new client if there is none; a second one is turned away."""
        try:
            client, _ = self._listener.accept()
        except BlockingIOError:
            return
        if self._client is not None:
            client.close()
            return
        client.setblocking(False)
        self._client, self.filenos = client, self._alone | {client.fileno()}
        self.send([self._welcome])

    def read(self) -> list[ipc.ToGuard]:
        """Messages of a welcomed client; wrong ones end the connection."""
        messages: list[ipc.ToGuard] = []
        for _ in range(COMMANDS_MAX):
            if self._client is None:
                break
            try:
                datagram = self._client.recv(ipc.MESSAGE_SIZE_MAX + 1)
            except BlockingIOError:
                break
            except OSError:
                datagram = b""
            if not datagram:
                self.drop()
                break
            try:
                message = ipc.decode(datagram)
            except ProtocolError:
                self.drop()
                break
            if isinstance(message, ipc.Welcome):
                mine = self._welcome
                self.welcomed = message._replace(pid=mine.pid) == mine
            if not self.welcomed:
                self.drop()
                break
            messages.append(message)  # type: ignore[arg-type]  # service messages are ignored later
        return messages

    def send(self, messages: list[ipc.ToService]) -> None:
        if self._client is None:
            return
        try:
            for message in messages:
                self._client.send(ipc.encode(message))
        except OSError:
            self.drop()

    def drop(self) -> None:
        if self._client is not None:
            self._client.close()
        self._client, self.filenos, self.welcomed = None, self._alone, False
