"""The port on real pseudo-terminals and sockets: exclusive, never blocking, plain in words."""

from __future__ import annotations

import errno
import os
import select
import socket
import subprocess
import sys
import tty
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

import pytest
import serial
from pytest_mock import MockerFixture

from drivers import registry
from drivers.contract import Envelope
from drivers.transport import serial_port
from drivers.transport.port_error import PortError
from drivers.transport.serial_port import READ_SIZE, SerialPort
from firmware_protocol.quantities import BootUs

BAUD = 921_600
SITE = Envelope(100, 10_000, 1_000, 60_000_000, 410, (), 0)
WAIT_MS = 5_000
FDS = Path("/proc/self/fd")
ROOT, NOBODY = os.geteuid() == 0, 65534
OpenPort = Callable[[str], SerialPort]


@pytest.fixture
def open_port() -> Iterator[OpenPort]:
    """Opens ports and closes them when the test is over."""
    opened = []

    def make(url: str) -> SerialPort:
        opened.append(SerialPort(url, BAUD))
        return opened[-1]

    yield make
    for port in opened:
        port.close()


class Pty:
    """A pseudo-terminal; `master` is the device's end, `path` the host's."""

    def __init__(self) -> None:
        self.master, self._slave = os.openpty()
        tty.setraw(self._slave)
        self.path = os.ttyname(self._slave)

    def hang_up(self) -> None:
        """Like an adapter that is pulled out."""
        for fd in (self.master, self._slave):
            os.close(fd)
        self.master = self._slave = -1

    def close(self) -> None:
        if self.master >= 0:
            self.hang_up()


@pytest.fixture
def pty() -> Iterator[Pty]:
    made = Pty()
    yield made
    made.close()


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as made:
        yield made


def url_of(server: socket.socket) -> str:
    return f"socket://127.0.0.1:{server.getsockname()[1]}"


def refused(url: str) -> PortError:
    with pytest.raises(PortError) as found:
        SerialPort(url, BAUD)
    return found.value


def readable(fd: int) -> bool:
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(WAIT_MS))


def readable_now(fd: int) -> bool:
    return bool(select.select([fd], [], [], 0)[0])


def received(port: SerialPort, size: int) -> bytes:
    """Exactly `size` bytes, as they come."""
    data = b""
    while len(data) < size and readable(port.fileno()):
        data += port.read()
    return data


def fill(port: SerialPort) -> None:
    """Write until the line refuses a single byte; a port that blocks hangs here. The kernel moves
    bytes on meanwhile: a line that was full may take more a moment later."""
    for size in (4_096, 1):
        for _ in range(100_000):
            if not port.write(bytes(size)):
                break
        else:
            raise AssertionError("the line never became full")


# -- bytes -----------------------------------------------------------------------------------

EVERY_BYTE = bytes(range(256))


def test_every_byte_passes_a_serial_line_unchanged(pty: Pty, open_port: OpenPort) -> None:
    port = open_port(pty.path)
    assert port.write(EVERY_BYTE)
    assert os.read(pty.master, 1_000) == EVERY_BYTE
    os.write(pty.master, EVERY_BYTE)
    assert received(port, 256) == EVERY_BYTE
    assert port.read() == b""


def test_every_byte_passes_a_socket_unchanged(listener: socket.socket, open_port: OpenPort) -> None:
    port = open_port(url_of(listener))
    device, _ = listener.accept()
    with device:
        assert port.write(EVERY_BYTE)
        assert device.recv(256, socket.MSG_WAITALL) == EVERY_BYTE
        device.sendall(EVERY_BYTE)
        assert received(port, 256) == EVERY_BYTE
        assert port.read() == b""


def test_one_read_takes_a_bounded_amount_and_the_rest_comes_next(
    listener: socket.socket, open_port: OpenPort
) -> None:
    port = open_port(url_of(listener))
    device, _ = listener.accept()
    with device:
        device.sendall(bytes(3 * READ_SIZE))
        assert readable(port.fileno())
        first = port.read()
        assert len(first) <= READ_SIZE
        assert len(received(port, 3 * READ_SIZE - len(first))) == 3 * READ_SIZE - len(first)


def test_a_full_serial_line_says_so_and_does_not_block(pty: Pty, open_port: OpenPort) -> None:
    port = open_port(pty.path)
    fill(port)
    assert port.read() == b""
    while not port.write(b"\x18"):
        os.read(pty.master, 65_536)


def test_a_full_socket_says_so_and_does_not_block(
    listener: socket.socket, open_port: OpenPort
) -> None:
    port = open_port(url_of(listener))
    device, _ = listener.accept()
    with device:
        fill(port)
        assert port.read() == b""
        port.close()


def test_a_serial_line_that_hung_up_is_an_error_and_not_silence(
    pty: Pty, open_port: OpenPort
) -> None:
    port = open_port(pty.path)
    pty.hang_up()
    with pytest.raises(OSError, match=rf"Errno {errno.EIO}"):
        port.read()
    with pytest.raises(OSError, match=rf"Errno {errno.EIO}"):
        port.write(b"\x18")


def test_a_socket_that_was_closed_is_an_error_and_not_silence(
    listener: socket.socket, open_port: OpenPort
) -> None:
    port = open_port(url_of(listener))
    device, _ = listener.accept()
    device.sendall(b"last words")
    device.close()
    assert received(port, 10) == b"last words"
    assert readable(port.fileno())
    with pytest.raises(OSError, match="closed the line"):
        port.read()


# -- opening ---------------------------------------------------------------------------------


def test_a_second_opening_is_refused_and_the_first_goes_on(pty: Pty, open_port: OpenPort) -> None:
    port = open_port(pty.path)
    error = refused(pty.path)
    assert error.code == "port-busy"
    assert str(error) == f"port-busy: {pty.path} is in use by another program"
    assert port.write(b"still here")
    assert os.read(pty.master, 100) == b"still here"


def test_another_program_is_refused_as_well(pty: Pty, open_port: OpenPort) -> None:
    open_port(pty.path)
    program = (
        "import sys\n"
        "from drivers.transport.port_error import PortError\n"
        "from drivers.transport.serial_port import SerialPort\n"
        "try:\n"
        "    SerialPort(sys.argv[1], 921_600)\n"
        "except PortError as error:\n"
        "    print(error.code)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, pty.path], capture_output=True, text=True, check=True
    )
    assert done.stdout == "port-busy\n"


LOCKS: Final = """
import errno, fcntl, os, sys
try:
    fd = os.open(sys.argv[1], os.O_RDWR | os.O_NOCTTY)
except OSError as error:
    print("open", errno.errorcode[error.errno])
else:
    if sys.argv[2] == "write":
        os.write(fd, b"EH")
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        print("locked")
    except OSError as error:
        print("flock", errno.errorcode[error.errno])
"""


def another_program(path: str, act: str = "lock", **options: Any) -> str:
    """What a program says that uses neither pyserial nor ours; `options` of subprocess.run."""
    done: subprocess.CompletedProcess[str] = subprocess.run(
        ["/usr/bin/env", "python3", "-c", LOCKS, path, act],
        capture_output=True, text=True, check=True, timeout=30, **options,
    )  # fmt: skip
    return done.stdout.strip()


def test_the_port_is_locked_for_programs_that_ask_for_a_lock(pty: Pty, open_port: OpenPort) -> None:
    """flock, which holds for root as well; without the port there is none."""
    port = open_port(pty.path)
    assert another_program(pty.path) == ("flock EAGAIN" if ROOT else "open EBUSY")
    port.close()
    assert another_program(pty.path) == "locked"


def test_the_port_is_exclusive_for_programs_that_ask_for_none(
    pty: Pty, open_port: OpenPort
) -> None:
    """TIOCEXCL: all but root are refused at open, so that no byte of theirs gets there."""
    person = {"user": NOBODY} if ROOT else {}
    Path(pty.path).chmod(0o666)
    assert another_program(pty.path, "write", **person) == "locked"
    assert os.read(pty.master, 100) == b"EH"
    open_port(pty.path)
    assert another_program(pty.path, "write", **person) == "open EBUSY"
    assert not readable_now(pty.master)


def test_after_closing_the_port_can_be_opened_again(pty: Pty, open_port: OpenPort) -> None:
    SerialPort(pty.path, BAUD).close()
    assert open_port(pty.path).write(b"x")


def test_a_path_that_does_not_exist_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "ttyACM9"
    error = refused(str(path))
    assert str(error) == f"port-missing: {path} does not exist or is unplugged"


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_is_no_serial_port_is_wrong(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "thing"
    path.write_bytes(b"") if kind == "file" else path.mkdir()
    error = refused(str(path))
    assert str(error) == f"port-wrong: {path} is not a serial port"


def test_a_socket_on_which_nobody_listens_is_missing() -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        error = refused(url_of(nobody))
    assert error.code == "port-missing"
    assert "cannot be reached" in str(error)


@pytest.mark.parametrize(
    "url",
    [
        "socket://",
        "socket://127.0.0.1",
        "socket://127.0.0.1:notaport",
        "socket://[::1:4001",
        "socket://stimulator.example:4001",  # a name server is nothing to wait for
    ],
)
def test_a_socket_without_an_address_is_refused(url: str, mocker: MockerFixture) -> None:
    asked = mocker.patch("socket.getaddrinfo")
    error = refused(url)
    assert error.code.startswith("port-")
    assert url in str(error)
    with pytest.raises(ValueError, match="address in numbers, or localhost"):
        registry.check_url(registry.find("tmslink"), url)
    asked.assert_not_called()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_socket_with_an_address_is_opened(
    host: str, listener: socket.socket, open_port: OpenPort
) -> None:
    url = f"socket://{host}:{listener.getsockname()[1]}"
    registry.check_url(registry.find("tmslink"), url)
    assert open_port(url).write(b"x")


@pytest.mark.parametrize(
    ("of", "step"),
    [(serial.Serial, "_reset_input_buffer"), (serial_port, "_tell_empty_from_ended")],
)
def test_a_port_that_goes_away_while_it_is_opened_is_missing(
    pty: Pty, mocker: MockerFixture, of: object, step: str
) -> None:
    """The last step of pyserial, and one of ours: termios has an error of its own."""
    real, before = getattr(of, step), len([*FDS.iterdir()])

    def unplugged(*words: object) -> None:
        pty.hang_up()
        real(*words)

    mocker.patch.object(of, step, unplugged)
    assert refused(pty.path).code == "port-missing"
    assert len([*FDS.iterdir()]) == before - 2  # both ends of the terminal


@pytest.mark.parametrize("url", ["", "nosuchscheme://x"])
def test_what_is_no_port_name_at_all_is_refused(url: str) -> None:
    assert refused(url).code.startswith("port-")


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (errno.ENOENT, "port-missing"),
        (errno.ENXIO, "port-missing"),
        (errno.EBUSY, "port-busy"),
        (errno.EAGAIN, "port-busy"),
        (errno.EACCES, "port-denied"),
        (errno.EPERM, "port-denied"),
        (errno.ENOTTY, "port-wrong"),
        (errno.EIO, "port-missing"),
        (errno.ENOMEM, "port-failed"),
    ],
)
def test_each_reason_of_the_operating_system_has_its_code(
    mocker: MockerFixture, number: int, code: str
) -> None:
    mocker.patch("serial.Serial.open", side_effect=OSError(number, os.strerror(number)))
    error = refused("/dev/null")
    assert error.code == code
    assert "/dev/null" in str(error)
    assert "\n" not in str(error)


# -- adapters by serial number ---------------------------------------------------------------


def plugged(mocker: MockerFixture, *adapters: tuple[str | None, str]) -> None:
    found = [SimpleNamespace(serial_number=number, device=path) for number, path in adapters]
    mocker.patch("serial.tools.list_ports.comports", return_value=found)


def test_an_adapter_is_found_by_its_serial_number_wherever_it_is(
    mocker: MockerFixture, pty: Pty, open_port: OpenPort
) -> None:
    plugged(mocker, (None, "/dev/ttyS0"), ("FT0", "/dev/ttyUSB0"), ("FT12345", pty.path))
    assert open_port("usb-serial:FT12345").write(b"hello")
    assert os.read(pty.master, 100) == b"hello"


@pytest.mark.parametrize("wanted", ["FT1234", "FT123456", "ft12345", "", "None"])
def test_another_serial_number_is_never_good_enough(mocker: MockerFixture, wanted: str) -> None:
    plugged(mocker, (None, "/dev/null"), ("FT12345", "/dev/null"))
    error = refused(f"usb-serial:{wanted}")
    assert error.code == "port-missing"
    assert f"serial number {wanted} " in str(error)


def test_an_adapter_that_is_not_plugged_in_is_missing() -> None:
    assert refused("usb-serial:UNKNOWN").code == "port-missing"


@pytest.mark.parametrize("lines_low", [True, False])
def test_rts_and_dtr_are_low_with_the_first_word_to_an_open_port_where_that_is_asked(
    lines_low: bool, pty: Pty, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The edge to pyserial: what it is told and when. A pseudo-terminal has no such lines."""
    calls: list[tuple[str, bool]] = []
    plain = serial.Serial.open

    def opens(port: Any) -> None:
        calls.append(("open", port.is_open))
        plain(port)

    def tells(line: str) -> Callable[[Any], None]:
        return lambda port: calls.append((line, getattr(port, f"_{line}_state")))

    monkeypatch.setattr(serial.Serial, "open", opens)
    for line in ("rts", "dtr"):
        monkeypatch.setattr(serial.Serial, f"_update_{line}_state", tells(line))
    SerialPort(pty.path, 9_600, lines_low=lines_low).close()
    level = not lines_low
    assert calls == [("open", False), ("dtr", level), ("rts", level)]


@pytest.mark.parametrize("row", registry.DRIVERS, ids=lambda row: row.info.name)
def test_the_families_with_a_trigger_on_rts_ask_for_it(
    row: registry.Row, pty: Pty, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bool] = []

    def port(*_: object, lines_low: bool = False, **__: object) -> SerialPort:
        asked.append(lines_low)
        return SerialPort(pty.path, BAUD)

    monkeypatch.setattr(registry, "SerialPort", port)
    place = registry.Place(pty.path, SITE, 1, lambda transport: transport)
    made = registry.make(row, place, {})
    made.poll(BootUs(1_000_000))
    made.close()
    assert asked == [row.trigger_on_rts]
