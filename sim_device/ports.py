"""The emulator's end of a real line: pseudo-terminal or TCP. Never blocks; like a UART, output that
nobody reads is lost."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import socket
import tty
from pathlib import Path
from typing import Final, Protocol

from sim_device.settings import SetupError

_READ_MAX: Final = 4096
_PTS: Final = "/dev/pts/"


class Port(Protocol):
    name: str  # where a client finds it
    plugged: bool
    edges: tuple[int, ...]
    """Where among the bytes of the last `read` RTS rose; empty on lines without modem lines."""

    def plug(self, *, plugged: bool) -> None:
        """Take the line away from whoever has it open, or bring it back; never twice the same."""

    def filenos(self) -> list[int]:
        """Readable when `read` has something to do."""

    def read(self) -> bytes: ...

    def write(self, data: bytes) -> None: ...

    def close(self) -> None: ...


class PtyPort:
    """A fresh pseudo-terminal, with a symbolic link to it if one is wanted."""

    edges: tuple[int, ...] = ()

    def __init__(self, link: Path | None) -> None:
        self.plugged = True
        self._link = link
        self._open()
        self.name = self._terminal if link is None else str(link)

    def plug(self, *, plugged: bool) -> None:
        if plugged:
            self.plugged = True
            self._open()
        else:
            self.close()

    def filenos(self) -> list[int]:
        return [self._master] if self.plugged else []

    def read(self) -> bytes:
        if not self.plugged:
            return b""
        try:
            return os.read(self._master, _READ_MAX)
        except BlockingIOError:
            return b""

    def write(self, data: bytes) -> None:
        if self.plugged:
            with contextlib.suppress(BlockingIOError):
                os.write(self._master, data)

    def close(self) -> None:
        if not self.plugged:
            return
        self.plugged = False
        if self._link is not None and self._points_here(self._link):
            self._link.unlink()
        os.close(self._slave)
        os.close(self._master)

    def _open(self) -> None:
        # The slave stays open here, so that the master never sees the end of the file.
        try:
            self._master, self._slave = os.openpty()
        except OSError as error:
            raise SetupError(f"no pseudo-terminal can be had: {error.strerror}.") from None
        tty.setraw(self._slave)
        os.set_blocking(self._master, False)
        self._terminal = os.ttyname(self._slave)
        if self._link is not None:
            self._make_link(self._link)

    def _points_here(self, link: Path) -> bool:
        return link.is_symlink() and str(link.readlink()) == self._terminal

    def _make_link(self, link: Path) -> None:
        ours = link.is_symlink() and str(link.readlink()).startswith(_PTS)
        if not ours and (link.is_symlink() or link.exists()):
            raise SetupError(
                f"--pty {link}: exists and is no link to a pseudo-terminal; give another path."
            )
        try:
            if ours:
                link.unlink()  # left behind by an emulator that was killed
            link.symlink_to(self._terminal)
        except OSError as error:
            raise SetupError(f"--pty {link}: cannot be made: {error.strerror}.") from None


class TcpPort:
    """A listening socket on the loopback that serves one client at a time."""

    option = "--tcp"
    edges: tuple[int, ...] = ()

    def __init__(self, address: str) -> None:
        self._listener, self.name = listen_tcp(self.option, address)
        self._client: socket.socket | None = None
        self.plugged = True

    def plug(self, *, plugged: bool) -> None:
        self.plugged = plugged
        self._hang_up()

    def filenos(self) -> list[int]:
        client = [] if self._client is None else [self._client.fileno()]
        return [self._listener.fileno(), *client]

    def read(self) -> bytes:
        self._welcome()
        if self._client is None:
            return b""
        try:
            data = self._client.recv(_READ_MAX)
        except BlockingIOError:
            return b""
        except OSError:
            data = b""
        if not data:
            self._hang_up()
        return data

    def write(self, data: bytes) -> None:
        self.send(data)

    def send(self, data: bytes) -> None:
        """As it is, to the client; lost when there is none or it does not read."""
        if self._client is None:
            return
        try:
            self._client.send(data)
        except BlockingIOError:
            pass
        except OSError:
            self._hang_up()

    def close(self) -> None:
        self._hang_up()
        self._listener.close()

    def _welcome(self) -> None:
        try:
            client, _ = self._listener.accept()
        except OSError:
            return
        if self._client is not None or not self.plugged:
            client.close()
            return
        client.setblocking(False)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._client = client
        self._greet()

    def _greet(self) -> None:
        """A client has come."""

    def _hang_up(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None


def listen_tcp(option: str, address: str) -> tuple[socket.socket, str]:
    """A listener on the loopback that never blocks, and HOST:PORT where it is found."""
    host, _, number = address.rpartition(":")
    try:
        loopback = host == "localhost" or ipaddress.ip_address(host).is_loopback
        port = int(number)
    except ValueError:
        raise SetupError(
            f"{option} {address}: expected HOST:PORT, for example 127.0.0.1:4001."
        ) from None
    if not loopback or not 0 <= port <= 65535:
        raise SetupError(
            f"{option} {address}: allowed are loopback addresses and ports 0 to 65535."
        )
    try:
        listener = socket.create_server((host, port), backlog=1)
    except OSError as error:
        raise SetupError(f"{option} {address}: cannot listen: {error.strerror}.") from None
    listener.setblocking(False)
    return listener, f"{host}:{listener.getsockname()[1]}"


def listen_unix(option: str, path: Path, backlog: int) -> socket.socket:
    """A socket that only this user can open. One that a killed emulator left is replaced."""
    if path.is_socket():
        with socket.socket(socket.AF_UNIX) as probe:
            if probe.connect_ex(str(path)) == 0:
                raise SetupError(f"{option} {path}: another emulator listens there.")
        with contextlib.suppress(OSError):
            path.unlink()
    listener = socket.socket(socket.AF_UNIX)
    before = os.umask(0o177)
    try:
        listener.bind(str(path))
        listener.listen(backlog)
    except OSError as error:
        listener.close()
        why = error.strerror or str(error)
        raise SetupError(f"{option} {path}: cannot be made: {why}.") from None
    finally:
        os.umask(before)
    listener.setblocking(False)
    return listener
