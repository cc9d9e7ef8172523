"""Serial ports, opened and configured by pyserial, and TCP, read and written without blocking.

Bytes go through the file descriptor itself: pyserial's own write spins while a port that must not
block is full.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import termios
from pathlib import Path
from typing import Final

import serial
from serial.tools import list_ports

from drivers.transport.port_error import PortError
from drivers.transport.url import TCP, tcp_place

READ_SIZE: Final = 4096
CONNECT_WITHIN_S: Final = 0.03
"""For TCP: the guard waits no longer than this, and only while it has no device."""

_FULL: Final = (errno.EAGAIN, errno.EWOULDBLOCK)


class SerialPort:
    """An open port, as `drivers.contract.Transport`."""

    def __init__(self, url: str, baud: int, stop_bits: int = 1, *, lines_low: bool = False) -> None:
        """Open exclusively; PortError says why it cannot be done.

        `url` is a device path, `usb-serial:SERIALNO` for an adapter wherever it is plugged in, or
        `socket://ADDRESS:PORT`. `lines_low`: RTS and DTR are let down at once and stay so, because
        a cable may lead RTS to a trigger input. Linux raises both when it opens a port, whatever
        is asked: that moment cannot be avoided here.
        """
        path = _resolve(url)
        self._port: socket.socket | serial.Serial
        try:
            if path.startswith(TCP):
                self._port = socket.create_connection(tcp_place(path), CONNECT_WITHIN_S)
                # A STOP must not wait for the acknowledgement of a beat.
                self._port.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            else:
                self._port = _opened(path, baud, stop_bits, lines_low=lines_low)
        except (OSError, ValueError, termios.error) as error:
            raise _explain(path, error) from error
        self._fd = self._port.fileno()
        os.set_blocking(self._fd, False)

    def read(self) -> bytes:
        """All that has arrived. OSError when the port is gone."""
        try:
            data = os.read(self._fd, READ_SIZE)
        except OSError as error:
            if error.errno in _FULL:
                return b""
            raise
        if not data:
            raise OSError(errno.EIO, "the other end closed the line")
        return data

    def write(self, data: bytes) -> bool:
        """False when the line is full. OSError when the port is gone."""
        try:
            return os.write(self._fd, data) == len(data)
        except OSError as error:
            if error.errno in _FULL:
                return False
            raise

    def stop(self) -> bool:
        return False  # a line has no way but its bytes

    def fileno(self) -> int:
        return self._fd

    def close(self) -> None:
        self._port.close()


def _opened(path: str, baud: int, stop_bits: int, *, lines_low: bool) -> serial.Serial:
    """Ours alone. What goes away meanwhile is a termios.error, which is no OSError."""
    port = serial.serial_for_url(
        path, baudrate=baud, stopbits=stop_bits, timeout=0, write_timeout=0, do_not_open=True
    )
    port.exclusive = True
    if lines_low:
        port.rts = port.dtr = False  # before open: then it is its first act
    with contextlib.ExitStack() as undo:
        undo.callback(port.close)
        port.open()
        fcntl.ioctl(port.fileno(), termios.TIOCEXCL)  # a second program gets EBUSY, not our bytes
        _tell_empty_from_ended(port.fileno())
        _ask_low_latency(port)
        undo.pop_all()
    return port


def _resolve(url: str) -> str:
    if not url.startswith("usb-serial:"):
        return url
    wanted = url.removeprefix("usb-serial:")
    for port in list_ports.comports():
        if port.serial_number == wanted:
            return str(port.device)
    raise PortError(
        "port-missing", f"no USB serial adapter with serial number {wanted} is plugged in"
    )


def _explain(path: str, error: OSError | ValueError | termios.error) -> PortError:
    number = error.args[0] if isinstance(error, termios.error) else getattr(error, "errno", None)
    if path.startswith(TCP):
        return PortError("port-missing", f"{path} cannot be reached: {error}")
    if number in (errno.ENOENT, errno.ENODEV, errno.ENXIO, errno.EIO):
        return PortError("port-missing", f"{path} does not exist or is unplugged")
    if number in (errno.EBUSY, errno.EAGAIN) or "exclusively lock" in str(error):
        return PortError("port-busy", f"{path} is in use by another program")
    if number in (errno.EACCES, errno.EPERM):
        return PortError("port-denied", f"no permission for {path}; join the group that owns it")
    if number == errno.ENOTTY or (Path(path).exists() and not Path(path).is_char_device()):
        return PortError("port-wrong", f"{path} is not a serial port")
    return PortError("port-failed", f"{path} cannot be opened: {error}")


def _tell_empty_from_ended(fd: int) -> None:
    """With VMIN 0, as pyserial leaves it, a read gives nothing both when idle and when hung up."""
    attributes = termios.tcgetattr(fd)
    attributes[6][termios.VMIN] = 1
    termios.tcsetattr(fd, termios.TCSANOW, attributes)


def _ask_low_latency(port: serial.Serial) -> None:
    """Adapters that collect bytes for 16 ms are asked not to, where they can be."""
    with contextlib.suppress(OSError, ValueError, NotImplementedError):
        port.set_low_latency_mode(True)
