"""Makes an emulated USB device one of this computer's: hands its socket to vhci_hcd."""

from __future__ import annotations

import socket
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from sim_device import usbip_wire as wire
from sim_device.settings import SetupError

VHCI: Final = Path("/sys/devices/platform/vhci_hcd.0")
USAGE: Final = "tmssim attach unix:PATH | tcp:HOST:PORT"
ANSWER_WITHIN_S: Final = 5

_FREE: Final = 4  # VDEV_ST_NULL, in the column sta
_RECORD_SIZE: Final = 312
_IMPORT: Final = struct.pack("!HHI32s", wire.VERSION, 0x8000 | wire.IMPORT, 0, wire.BUS_ID)
_STATUS: Final = struct.Struct("!HHI")


def attach(arguments: Sequence[str], vhci: Path = VHCI) -> list[str]:
    """Attach a running emulator; the lines to print. SetupError says what is wrong."""
    if len(arguments) != 1:
        raise SetupError(f"usage: {USAGE}.")
    if not vhci.is_dir():
        raise SetupError(
            "attach: this kernel has no vhci_hcd; as root run 'modprobe vhci_hcd', or leave the "
            "kernel out and give tmsctl the url that tmssim prints."
        )
    (address,) = arguments
    with _imported(address) as line:
        line.settimeout(None)
        port = _free_port(vhci)
        words = f"{port} {line.fileno()} {wire.DEVICE_ID} {wire.FULL_SPEED}"
        try:
            (vhci / "attach").write_text(words)
        except OSError as error:
            raise SetupError(
                f"attach: {vhci}/attach cannot be written: {error.strerror}; run it as root."
            ) from None
    return [f"attached to port {port}; 'usbip detach -p {port}' takes it away"]


def usb_lines(name: str) -> list[str]:
    """What tmssim prints when the port of this name is open: that, and what a person can do."""
    scheme, _, place = name.partition(":")
    lines = [f"ready {name}", f"as root, with vhci_hcd: tmssim attach {name}"]
    if scheme == "tcp":
        host, _, number = place.rpartition(":")
        bus_id = wire.BUS_ID.decode()
        lines.append(f"               or: usbip --tcp-port {number} attach -r {host} -b {bus_id}")
    return lines


def _imported(address: str) -> socket.socket:
    """A connection on which the device has been imported."""
    scheme, _, place = address.partition(":")
    if scheme not in ("unix", "tcp") or not place:
        raise SetupError(f"attach {address}: expected unix:PATH or tcp:HOST:PORT.")
    try:
        line = _connected(scheme, place)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise SetupError(f"attach {address}: no emulator answers: {why}.") from None
    try:
        line.sendall(_IMPORT)
        _, _, status = _STATUS.unpack(_exactly(line, _STATUS.size))
        if status == wire.OK:
            _exactly(line, _RECORD_SIZE)
    except OSError as error:
        line.close()
        raise SetupError(f"attach {address}: does not speak USB/IP: {error}.") from None
    if status != wire.OK:
        line.close()
        why = {wire.BUSY: "somebody has it", wire.NO_DEVICE: "it is unplugged"}.get(status, "")
        raise SetupError(f"attach {address}: the import was refused: {why or f'status {status}'}.")
    return line


def _connected(scheme: str, place: str) -> socket.socket:
    if scheme == "tcp":
        host, _, number = place.rpartition(":")
        line = socket.create_connection((host, int(number)), ANSWER_WITHIN_S)
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return line
    line = socket.socket(socket.AF_UNIX)
    line.settimeout(ANSWER_WITHIN_S)
    try:
        line.connect(place)
    except OSError:
        line.close()
        raise
    return line


def _exactly(line: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = line.recv(size - len(data))
        if not more:
            raise OSError("it hung up")
        data += more
    return data


def _free_port(vhci: Path) -> int:
    """Of the hub for full speed. Columns: hub, port, sta, and more."""
    try:
        rows = [line.split() for line in (vhci / "status").read_text().splitlines()[1:]]
    except OSError as error:
        raise SetupError(f"attach: {vhci}/status cannot be read: {error.strerror}.") from None
    for row in rows:
        if len(row) > 2 and row[0] == "hs" and int(row[2]) == _FREE:
            return int(row[1])
    raise SetupError("attach: every port of vhci_hcd is taken; detach one with 'usbip detach'.")
