"""The program tmssim as a process: ready line, links, signals, log, bad arguments."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import time
import tty
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from firmware_protocol.quantities import BootUs
from firmware_protocol.tmslink import messages as m
from firmware_protocol.tmslink.link import Link
from sim_device.entry import MODELS
from tests.fakes import programs

PROGRAM = programs.FOLDER / "tmssim"
DEADLINE_S = 20

Start = Callable[..., programs.Program]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts tmssim and waits for its ready line; whatever still runs at the end is killed."""
    running: list[programs.Program] = []

    def begin(*arguments: str) -> programs.Program:
        process = programs.start("tmssim", "tmslink", *arguments, stdout=programs.PIPE)
        running.append(process)
        assert process.stdout is not None
        assert process.stdout.readline().startswith("ready ")
        return process

    yield begin
    for process in running:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def end(process: programs.Program, number: int = signal.SIGTERM) -> int:
    process.send_signal(number)
    return process.wait(DEADLINE_S)


def refusal(*arguments: str) -> str:
    """What a wrong call says on standard error, after checking how it says it."""
    done = programs.run("tmssim", *arguments, timeout=DEADLINE_S)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("tmssim: ")
    return done.stderr


def read_until(descriptor: int, link: Link, kind: type) -> Any:
    """The first message of a kind that comes."""
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        if select.select([descriptor], [], [], 1)[0]:
            for event in link.receive(os.read(descriptor, 4096), BootUs(0)):
                if isinstance(event, kind):
                    return event
    pytest.fail(f"no {kind.__name__} came")


def truth(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def open_terminal(path: Path) -> int:
    descriptor = os.open(path, os.O_RDWR | os.O_NOCTTY)
    tty.setraw(descriptor)
    return descriptor


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_cleanly_and_removes_the_link(
    start: Start, tmp_path: Path, number: int
) -> None:
    link = tmp_path / "device"
    process = start("--pty", str(link))
    assert link.is_symlink()
    assert end(process, number) == 0
    assert not link.is_symlink()


def test_a_host_on_the_pseudo_terminal_is_answered_and_the_log_maps_the_clocks(
    start: Start, tmp_path: Path
) -> None:
    path, log = tmp_path / "device", tmp_path / "truth.jsonl"
    start("--pty", str(path), "--log", str(log), "--set", "serial=TR000007")
    link, terminal = Link(), open_terminal(path)
    try:
        os.write(terminal, link.hello(m.Hello(1, 7, 0), 7))
        assert read_until(terminal, link, m.Identity).serial == "TR000007"
        fault = read_until(terminal, link, m.Fault)
    finally:
        os.close(terminal)
    clock, remote, dead_man, *_ = truth(log)
    assert clock["event"] == "clock"
    assert clock["boot_us"] > 0
    assert dead_man["t_us"] - remote["t_us"] == m.DEAD_MAN_US
    assert fault.device_time_us == dead_man["t_us"]


def test_a_client_can_leave_and_come_back(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "device"
    start("--pty", str(path))
    for nonce in (1, 2):
        link, terminal = Link(), open_terminal(path)
        os.write(terminal, link.hello(m.Hello(1, nonce, 0), nonce))
        assert read_until(terminal, link, m.Identity).nonce == nonce
        os.close(terminal)


def test_the_log_is_complete_after_sigkill_and_the_stale_link_is_replaced(
    start: Start, tmp_path: Path
) -> None:
    path, log = tmp_path / "device", tmp_path / "truth.jsonl"
    process = start("--pty", str(path), "--log", str(log))
    link, terminal = Link(), open_terminal(path)
    os.write(terminal, link.hello(m.Hello(1, 7, 0), 7))
    session = link.session or (read_until(terminal, link, m.Identity) and link.session)
    os.close(terminal)
    assert end(process, signal.SIGKILL) == -signal.SIGKILL
    assert session in [line.get("session") for line in truth(log)]
    assert path.is_symlink()
    assert end(start("--pty", str(path))) == 0


def test_tcp_serves_one_client_at_a_time_on_a_free_port(start: Start) -> None:
    process = programs.start("tmssim", "tmslink", "--tcp", "127.0.0.1:0", stdout=programs.PIPE)
    try:
        assert process.stdout is not None
        host, _, port = process.stdout.readline().split()[1].rpartition(":")
        with socket.create_connection((host, int(port)), DEADLINE_S) as first:
            link = Link()
            first.sendall(link.hello(m.Hello(1, 7, 0), 7))
            assert read_until(first.fileno(), link, m.Identity).nonce == 7
            with socket.create_connection((host, int(port)), DEADLINE_S) as second:
                assert second.recv(100) == b""
        assert "cannot listen" in refusal("tmslink", "--tcp", f"{host}:{port}")
        assert end(process) == 0
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "MODEL"),
        (("magstim-300",), "there are tmslink"),
        (("tmslink", "--set", "colour=1"), "no setting 'colour'"),
        (("tmslink", "--set", "cooled=2"), "allowed are 0 to 1"),
        (("tmslink", "--set", "cooled"), "NAME=VALUE"),
        (("tmslink", "--pty", "/nonexistent/device"), "No such file"),
        (("tmslink", "--log", "/nonexistent/log"), "No such file"),
        (("tmslink", "--faults", "/nonexistent/faults"), "No such file"),
        (("tmslink", "--tcp", "8.8.8.8:4001"), "loopback"),
        (("tmslink", "--tcp", "4001"), "HOST:PORT"),
        (("tmslink", "--seed", "x"), "whole number"),
        (("tmslink", "--pty", "a", "--tcp", "b"), "not allowed with"),
        (("tmslink", "--control", "/nonexistent/control"), "No such file"),
        (("tmslink", "--control", "/tmp/" + "x" * 200), "too long"),
        (("ctl",), "usage"),
        (("ctl", "/nonexistent/control"), "usage"),
        (("ctl", "/nonexistent/control", "list"), "No such file"),
        (("ctl", "/nonexistent/control", "list", "late"), "not expected"),
        (("ctl", "/nonexistent/control", "clear", "late", "silent"), "not expected"),
    ],
)
def test_a_wrong_call_is_refused_in_one_sentence(arguments: tuple[str, ...], said: str) -> None:
    assert said in refusal(*arguments)


def test_a_file_in_the_place_of_the_link_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "notes"
    path.write_text("mine")
    assert str(path) in refusal("tmslink", "--pty", str(path))
    assert path.read_text() == "mine"


def test_help_lists_models_settings_and_faults() -> None:
    done = subprocess.run(
        [PROGRAM, "--help"], capture_output=True, text=True, timeout=DEADLINE_S, check=True
    )
    for model in MODELS:
        assert f"  {model} " in done.stdout
    done = subprocess.run(
        [PROGRAM, "tmslink", "--help"],
        capture_output=True, text=True, timeout=DEADLINE_S, check=True,
    )  # fmt: skip
    for word in ("tmslink", "recharge_us_per_pct", "200", "us/%", "spontaneous_pulse"):
        assert word in done.stdout


# -- the control socket ----------------------------------------------------------------------


class Client:
    """One connection to the control socket."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(DEADLINE_S)
        self.socket.connect(str(path))
        self._lines = self.socket.makefile("rb")

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def read(self) -> Any:
        """The next answer; None when the emulator has hung up."""
        line = self._lines.readline()
        return json.loads(line) if line else None

    def ask(self, **request: Any) -> Any:
        self.send(json.dumps(request).encode() + b"\n")
        return self.read()

    def close(self) -> None:
        self._lines.close()
        self.socket.close()


Connect = Callable[[Path], Client]


@pytest.fixture
def connect() -> Iterator[Connect]:
    clients: list[Client] = []

    def begin(path: Path) -> Client:
        clients.append(Client(path))
        return clients[-1]

    yield begin
    for client in clients:
        client.close()


def ctl(path: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return programs.run("tmssim", "ctl", path, *words, timeout=DEADLINE_S)


def test_faults_are_set_listed_counted_and_cleared_while_it_runs(
    start: Start, connect: Connect, tmp_path: Path
) -> None:
    control, log = tmp_path / "control", tmp_path / "truth.jsonl"
    process = start("--control", str(control), "--log", str(log))
    assert control.stat().st_mode & 0o777 == 0o600
    client = connect(control)
    assert client.ask(do="set", kind="coil_swapped", value=3) == {"ok": True}
    assert client.ask(do="set", kind="late", for_s=900) == {"ok": True}
    assert [fault["kind"] for fault in client.ask(do="list")["faults"]] == ["coil_swapped", "late"]
    assert client.ask(do="counts")["counts"] == {"coil_swapped": 1}
    assert client.ask(do="clear") == {"ok": True}
    assert client.ask(do="list")["faults"] == []
    assert end(process) == 0
    assert not control.exists()
    last = truth(log)[-1]
    assert (last["event"], last["counts"]) == ("faults", {"coil_swapped": 1})


def test_two_clients_are_served_and_one_that_talks_nonsense_or_goes_away_harms_nobody(
    start: Start, connect: Connect, tmp_path: Path
) -> None:
    control = tmp_path / "control"
    start("--control", str(control))
    one, two = connect(control), connect(control)
    one.send(b"\x00\xff nonsense\n[[[\n\n")
    two.send(b'{"do": "set", "kind": "la')
    assert [one.read()["ok"], one.read()["ok"]] == [False, False]
    two.send(b'te"}\n{"do": "list"}\n')
    assert two.read() == {"ok": True}
    assert two.read()["faults"][0]["kind"] == "late"
    assert one.ask(do="set", kind="silent") == {"ok": True}
    gone = connect(control)
    gone.send(b'{"do": "counts"}\n' * 500 + b'{"do": "se')
    gone.close()
    assert len(two.ask(do="list")["faults"]) == len(one.ask(do="list")["faults"]) == 2


def test_a_line_without_end_and_a_client_that_never_reads_are_dropped(
    start: Start, connect: Connect, tmp_path: Path
) -> None:
    control = tmp_path / "control"
    start("--control", str(control))
    endless = connect(control)
    with contextlib.suppress(OSError):
        endless.send(b"x" * 200_000)
    with contextlib.suppress(OSError):
        while (said := endless.read()) is not None:
            assert "longer than" in said["error"]
    deaf = connect(control)
    with contextlib.suppress(OSError):
        for _ in range(2_000):
            deaf.send(b'{"do": "loud"}\n' * 100)
    assert connect(control).ask(do="list") == {"ok": True, "faults": []}


def test_no_more_clients_than_there_is_room_for(
    start: Start, connect: Connect, tmp_path: Path
) -> None:
    control = tmp_path / "control"
    start("--control", str(control))
    clients = [connect(control) for _ in range(8)]
    assert all(client.ask(do="list")["ok"] for client in clients)
    with contextlib.suppress(OSError):
        assert connect(control).ask(do="list") is None
    clients[0].close()
    deadline = time.monotonic() + DEADLINE_S
    said = None
    while said is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError):  # until it has noticed that one has left
            said = connect(control).ask(do="list")
    assert said == {"ok": True, "faults": []}


def test_a_socket_that_a_killed_emulator_left_is_replaced_and_another_one_is_not(
    start: Start, tmp_path: Path
) -> None:
    control = tmp_path / "control"
    process = start("--control", str(control))
    assert "another emulator" in refusal("tmslink", "--control", str(control))
    end(process, signal.SIGKILL)
    assert control.is_socket()
    end(start("--control", str(control)))
    control.write_text("mine")
    assert "in use" in refusal("tmslink", "--control", str(control))
    assert control.read_text() == "mine"


def test_ctl_asks_in_words_and_says_what_is_wrong(start: Start, tmp_path: Path) -> None:
    control = tmp_path / "control"
    start("--control", str(control))
    done = ctl(control, "set", "sensor_wrong", "value=250", "for_s=900.5")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    listed = ctl(control, "list").stdout
    assert listed.startswith("sensor_wrong value=250 at_s=")
    assert "for_s=900.5" in listed
    assert ctl(control, "counts").stdout == "sensor_wrong 1\n"
    assert ctl(control, "clear", "sensor_wrong").returncode == 0
    assert ctl(control, "press", "stop").returncode == 0
    assert ctl(control, "counts").stdout == "disarms_itself 1\nsensor_wrong 1\n"
    for words in (("set", "loud"), ("set", "late", "value=x"), ("press", "hard"), ("dance",)):
        wrong = ctl(control, *words)
        assert (wrong.returncode, wrong.stdout) == (1, "")
        assert wrong.stderr.startswith("tmssim: ")
        assert wrong.stderr.count("\n") == 1


def test_a_disconnect_is_eio_for_the_host_and_the_link_leads_to_a_new_terminal(
    start: Start, connect: Connect, tmp_path: Path
) -> None:
    path, control = tmp_path / "device", tmp_path / "control"
    start("--pty", str(path), "--control", str(control))
    terminal, client = open_terminal(path), connect(control)
    try:
        assert client.ask(do="set", kind="disconnect", value=400) == {"ok": True}
        with contextlib.suppress(OSError):
            while os.read(terminal, 100):
                pass
        with pytest.raises(OSError, match="Input/output error"):
            os.write(terminal, b"x")
    finally:
        os.close(terminal)
    deadline = time.monotonic() + DEADLINE_S
    while not path.exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    link, terminal = Link(), open_terminal(path)
    try:
        os.write(terminal, link.hello(m.Hello(1, 7, 0), 7))
        assert read_until(terminal, link, m.Identity).nonce == 7
    finally:
        os.close(terminal)
    assert client.ask(do="counts")["counts"] == {"disconnect": 1}
