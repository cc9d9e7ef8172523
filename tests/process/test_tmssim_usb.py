"""tmssim with a USB connector as a process: what it prints, USB/IP, faults, the virtual FT232."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from firmware_protocol.quantities import BootUs
from firmware_protocol.tmslink import messages as m
from firmware_protocol.tmslink.link import Link
from sim_device.entry import MODELS
from sim_device.settings import SetupError
from sim_device.usbip_attach import attach
from tests.fakes import programs
from tests.fakes.usbip import UsbipClient

DEADLINE_S = 20
STOP, IDENTITY = (0x41, 1), (0xC1, 2)
CLEAR_HALT, MODEM_CTRL, SET_DATA, SET_BAUD = (0x02, 1), (0x40, 1), (0x40, 4), (0x40, 3)
BULK_OUT, BULK_IN, INTERRUPT_IN = 0x02, 0x83, 0x81

Start = Callable[..., str]
Client = Callable[[str], UsbipClient]


@pytest.fixture
def client() -> Iterator[Client]:
    made: list[UsbipClient] = []

    def connect(name: str) -> UsbipClient:
        made.append(UsbipClient(name))
        return made[-1]

    yield connect
    for each in made:
        each.close()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts tmssim and gives the name of its port; whatever still runs at the end is killed."""
    running: list[programs.Program] = []

    def begin(model: str, *arguments: str) -> str:
        log = ("--log", tmp_path / "truth.jsonl")
        process = programs.start("tmssim", model, *arguments, *log, stdout=programs.PIPE)
        running.append(process)
        assert process.stdout is not None
        ready, name = process.stdout.readline().split()
        assert ready == "ready"
        assert process.stdout.readline() == f"as root, with vhci_hcd: tmssim attach {name}\n"
        return name

    yield begin
    for process in running:
        process.send_signal(signal.SIGTERM)
        assert process.stdout is not None
        with process.stdout:
            try:
                assert process.wait(DEADLINE_S) == 0
            finally:
                process.kill()


def truth(folder: Path, event: str) -> list[dict[str, Any]]:
    lines = (json.loads(line) for line in (folder / "truth.jsonl").read_text().splitlines())
    return [line for line in lines if line["event"] == event]


def until(what: Callable[[], object]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def refusal(*arguments: str) -> str:
    done = programs.run("tmssim", *arguments, timeout=DEADLINE_S)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    return done.stderr


@pytest.mark.parametrize("scheme", ["unix", "tcp"])
def test_a_session_runs_over_usb_and_a_stop_request_ends_it(
    scheme: str, start: Start, client: Client, tmp_path: Path
) -> None:
    where = f"unix:{tmp_path}/usb" if scheme == "unix" else "tcp:127.0.0.1:0"
    name = start("tmslink", "--usb", where, "--set", "serial=TR000007")
    user, link = client(name), Link()
    user.begin()
    said = m.TABLE.unpack(0x41, user.control(IDENTITY, length=44).data)
    assert (said.serial, said.nonce) == ("TR000007", 0)
    hello = user.submit(BULK_OUT, link.hello(m.Hello(1, 7, 0), 7))
    assert user.ret()[1:3] == (hello, 0)
    user.submit(BULK_IN, 4096)
    events = link.receive(user.ret().data, BootUs(0))
    assert [type(event) for event in events] == [m.Identity, m.Limits]
    assert user.control(STOP).status == 0
    until(lambda: truth(tmp_path, "stop"))
    user.submit(INTERRUPT_IN, 64)
    assert isinstance(link.receive(user.ret().data, BootUs(0))[-1], m.Status)
    user.close()


def test_a_client_that_talks_nonsense_does_not_disturb_the_one_that_has_it(
    start: Start, client: Client, tmp_path: Path
) -> None:
    name = start("tmslink", "--usb", f"unix:{tmp_path}/usb")
    user, bad = client(name), client(name)
    user.begin()
    bad.send(b"nonsense" * 100)
    with pytest.raises(EOFError):
        bad.exactly(1)
    bad.close()
    assert client(name).devices()[0][1:3] == (0x1209, 0x0001)
    assert client(name).import_() == 2
    assert user.control(IDENTITY, length=44).status == 0


def test_a_fault_of_a_transfer_from_the_control_socket_is_counted(
    start: Start, client: Client, tmp_path: Path
) -> None:
    control = tmp_path / "ctl"
    name = start("tmslink", "--usb", f"unix:{tmp_path}/usb", "--control", str(control))

    def ctl(*words: str) -> str:
        done = programs.run("tmssim", "ctl", control, *words, timeout=DEADLINE_S)
        done.check_returncode()
        return done.stdout

    user = client(name)
    user.begin()
    ctl("set", "usb_stall", "value=2")
    user.submit(BULK_OUT, b"\0")
    assert user.ret().status == -32
    assert ctl("counts") == "usb_stall 1\n"
    assert user.control(CLEAR_HALT, 0, BULK_OUT).status == 0
    user.submit(BULK_OUT, b"\0")
    assert user.ret().status == 0
    ctl("set", "disconnect", "value=100")
    with pytest.raises(EOFError):
        user.exactly(1)
    until(client(name).devices)


@pytest.mark.parametrize("model", MODELS)
def test_every_model_has_a_serial_adapter(
    model: str, start: Start, client: Client, tmp_path: Path
) -> None:
    user = client(start(model, "--ftdi", f"unix:{tmp_path}/usb"))
    assert user.devices() == [(b"1-1", 0x0403, 0x6001, (255, 255, 255))]
    user.begin()
    user.submit(0x81, 64)
    assert user.ret().data[:2] == b"\x31\x60"


def test_a_magstim_answers_through_the_adapter_and_a_rise_of_rts_is_an_edge(
    start: Start, client: Client, tmp_path: Path
) -> None:
    user = client(start("magstim-200", "--ftdi", "tcp:127.0.0.1:0"))
    user.begin()
    assert user.control(SET_BAUD, 0x4138).status == 0
    assert user.control(SET_DATA, 8).status == 0
    user.submit(0x02, b"Q@n")
    assert user.ret().status == 0
    heard = b""
    while len(heard) < 3:
        user.submit(0x81, 64)
        heard += user.ret().data[2:]
    assert heard[:1] == b"Q"
    assert truth(tmp_path, "edge") == []
    assert user.control(MODEM_CTRL, 0x0303).status == 0
    until(lambda: truth(tmp_path, "edge"))
    assert truth(tmp_path, "edge")[0]["line"] == "RTS"


def test_attach_hands_the_connection_and_the_device_to_the_kernel(
    start: Start, client: Client, tmp_path: Path
) -> None:
    name = start("tmslink", "--usb", f"unix:{tmp_path}/usb")
    vhci = tmp_path / "vhci_hcd.0"
    vhci.mkdir()
    (vhci / "attach").touch()
    head = "hub port sta spd dev      sockfd local_busid\n"
    full = head + "hs  0000 006 002 00010002 000005 1-1\n"
    (vhci / "status").write_text(full)
    with pytest.raises(SetupError, match="every port of vhci_hcd is taken"):
        attach([name], vhci)
    (vhci / "status").write_text(
        full + "hs  0001 004 000 00000000 000000 0-0\nss  0008 004 000 00000000 000000 0-0\n"
    )
    (said,) = attach([name], vhci)
    assert "port 1" in said
    port, descriptor, device, speed = map(int, (vhci / "attach").read_text().split())
    assert (port, device, speed) == (1, 0x10002, 2)
    assert descriptor > 2
    user = client(name)
    until(lambda: user.import_() == 0)
    with pytest.raises(SetupError, match="somebody has it"):
        attach([name], vhci)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("magstim-200", "--usb", "unix:/tmp/x"), "use --ftdi"),
        (("tmslink", "--usb", "/tmp/x"), "expected unix:PATH or tcp:HOST:PORT"),
        (("tmslink", "--usb", "tcp:0.0.0.0:3240"), "loopback"),
        (("tmslink", "--ftdi", "tcp:8.8.8.8:3240"), "loopback"),
        (("tmslink", "--usb", "tcp:3240"), "HOST:PORT"),
        (("tmslink", "--ftdi", "unix:/nonexistent/x"), "No such file"),
        (("tmslink", "--usb", "unix:/tmp/x", "--ftdi", "unix:/tmp/y"), "not allowed with"),
        (("attach",), "usage: tmssim attach"),
        (("attach", "unix:/tmp/x", "more"), "usage: tmssim attach"),
    ],
)
def test_a_wrong_call_is_refused_in_one_sentence(arguments: tuple[str, ...], said: str) -> None:
    assert said in refusal(*arguments)


def test_attach_without_the_module_says_what_to_do(tmp_path: Path) -> None:
    if Path("/sys/devices/platform/vhci_hcd.0").exists():
        pytest.skip("this kernel has vhci_hcd: the other tests of attach cover it")
    assert "modprobe vhci_hcd" in refusal("attach", f"unix:{tmp_path}/usb")
