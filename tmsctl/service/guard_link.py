"""The way to the guard: one connection that is made again whenever it breaks."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from firmware_protocol.errors import RemoteProtocolError
from tmsctl.ipc import messages as ipc

RETRY_S: Final = 0.25
WELCOME_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class Listener:
    """Who is told what happens on the way to the guard."""

    up: Callable[[int], None]  # a guard answers, its process id
    hear: Callable[[ipc.ToService], None]
    down: Callable[[str], None]  # it was up, and why it is not any more
    missing: Callable[[], None]  # nobody listens, told at every attempt
    strange: Callable[[str], None]  # somebody listens who does not speak our language


class GuardLink:
    """Sends without waiting: a guard that does not read has hung, and the connection is ended."""

    def __init__(self, path: Path, settings_mark: int, listener: Listener) -> None:
        self._path, self._settings_mark, self._listener = path, settings_mark, listener
        self._line: socket.socket | None = None

    def send(self, item: ipc.ToGuard) -> None:
        """Does nothing while no guard is there."""
        if self._line is None:
            return
        try:
            self._line.send(ipc.encode(item))
        except OSError:  # `run` sees the end of the connection and tells of it
            with contextlib.suppress(OSError):
                self._line.shutdown(socket.SHUT_RDWR)

    async def run(self) -> None:
        """Until it is cancelled."""
        while True:
            with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as line:
                line.setblocking(False)
                try:
                    line.connect(str(self._path))
                except OSError:
                    self._listener.missing()
                else:
                    await self._converse(line)
            await asyncio.sleep(RETRY_S)

    async def _converse(self, line: socket.socket) -> None:
        """Until the guard closes the connection, or breaks the protocol."""
        why = "The guard closed the connection."
        try:
            async with asyncio.timeout(WELCOME_S):
                welcome = await _receive(line)
            if not isinstance(welcome, ipc.Welcome) or welcome.layout != ipc.LAYOUT:
                self._listener.strange("The guard is of another version; install one version.")
                return
            if welcome.settings != self._settings_mark:
                self._listener.strange(
                    "The guard that runs was started with another configuration. One that tmsd "
                    "started ends by itself within 30 s; restart any other."
                )
                return
            line.send(ipc.encode(welcome._replace(pid=os.getpid())))
            self._line = line
            self._listener.up(welcome.pid)
            while (item := await _receive(line)) is not None:
                self._listener.hear(item)
        except TimeoutError:
            self._listener.strange(f"The guard said nothing within {WELCOME_S:g} s.")
        except OSError as error:
            why = f"The connection to the guard broke: {error.strerror}."
        except RemoteProtocolError as error:
            why = f"The guard sent something wrong: {error}."
        if self._line is not None:
            self._line = None
            self._listener.down(why)


async def _receive(line: socket.socket) -> ipc.ToService | None:
    """The next message; None at the end of the connection. RemoteProtocolError, OSError."""
    datagram = await asyncio.get_running_loop().sock_recv(line, ipc.MESSAGE_SIZE_MAX + 1)
    if not datagram:
        return None
    item = ipc.decode(datagram)
    if isinstance(item, ipc.ToService):
        return item
    raise RemoteProtocolError(f"{type(item).__name__} is not for tmsd")
