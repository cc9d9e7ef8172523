"""The program tmssim as a process: ready line, links, signals, log, bad arguments."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
import tty
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from firmware_protocol.quantities import BootUs
from firmware_protocol.tmslink import messages as m
from firmware_protocol.tmslink.link import Link

COMMAND = (sys.executable, "-c", "from sim_device.entry import main; main()")
DEADLINE_S = 20

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts tmssim and waits for its ready line; whatever still runs at the end is killed."""
    running: list[subprocess.Popen[str]] = []

    def begin(*arguments: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [*COMMAND, "tmslink", *arguments], stdout=subprocess.PIPE, text=True
        )
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


def end(process: subprocess.Popen[str], number: int = signal.SIGTERM) -> int:
    process.send_signal(number)
    return process.wait(DEADLINE_S)


def refusal(*arguments: str) -> str:
    """What a wrong call says on standard error, after checking how it says it."""
    done = subprocess.run(
        [*COMMAND, *arguments], capture_output=True, text=True, timeout=DEADLINE_S, check=False
    )
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
    process = subprocess.Popen(
        [*COMMAND, "tmslink", "--tcp", "127.0.0.1:0"], stdout=subprocess.PIPE, text=True
    )
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
        (("magstim-200",), "there are tmslink"),
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
        [*COMMAND, "--help"], capture_output=True, text=True, timeout=DEADLINE_S, check=True
    )
    for word in ("tmslink", "recharge_us_per_pct", "200", "us/%", "spontaneous_pulse"):
        assert word in done.stdout
