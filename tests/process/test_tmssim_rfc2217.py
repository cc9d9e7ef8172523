"""Modem lines of the software stimulator, as an unmodified pyserial client sees and moves them."""

from __future__ import annotations

import json
import socket
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import serial

from firmware_protocol.magstim.framing import encode
from firmware_protocol.magstim.messages import Dialect, Model
from sim_device.rfc2217_port import OPTION_MAX, Rfc2217Port
from sim_device.settings import SetupError
from tests.fakes import programs
from tests.process.system import DEADLINE_S, until

pytestmark = [
    pytest.mark.timeout(60),
    pytest.mark.filterwarnings(r"ignore:set(Daemon|Name)\(\):DeprecationWarning"),  # of pyserial
]

M200 = Dialect(Model.M200)
IAC, SB, SE, COM_PORT = b"\xff", b"\xfa", b"\xf0", b"\x2c"


class Unit:
    """A 200² that bears any silence and is ready as soon as it is armed and charged."""

    def __init__(self, folder: Path) -> None:
        self._log = folder / "truth.jsonl"
        self.process = subprocess.Popen(
            [
                programs.FOLDER / "tmssim", "magstim-200", "--rfc2217", "127.0.0.1:0",
                "--log", self._log, "--set", "arming_us=0", "keep_alive_us=60000000",
            ],
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self.process.stdout is not None
        self.address = self.process.stdout.readline().split()[1]

    def open(self, *, rts: bool | None = False) -> Any:
        """A client; `rts` is what it asks for before it opens, None: nothing."""
        port = serial.serial_for_url(
            f"rfc2217://{self.address}", 9600, timeout=DEADLINE_S, do_not_open=True
        )
        if rts is not None:
            port.rts = rts
        port.open()
        return port

    def seen(self, *events: str) -> list[dict[str, Any]]:
        lines = map(json.loads, self._log.read_text().splitlines())
        return [line for line in lines if line["event"] in events]

    def arm(self, port: Any) -> None:
        for name, values in (("enable_remote", ()), ("set_power", (5,)), ("arm", ())):
            self.ask(port, name, *values)
        until(lambda: self.seen("ready"), "it is ready")

    def ask(self, port: Any, name: str, *values: int) -> None:
        row = M200.row(name)
        port.write(encode(row, *values))
        assert port.read(3)[:1] == row.letter.encode()


@pytest.fixture
def unit(tmp_path: Path) -> Iterator[Unit]:
    made = Unit(tmp_path)
    with made.process as process:
        try:
            yield made
        finally:
            process.terminate()
        assert process.wait(DEADLINE_S) == 0


def test_only_a_rise_of_rts_fires_and_only_when_it_is_ready(unit: Unit) -> None:
    with closing(unit.open()) as port:
        assert unit.seen("edge") == []
        port.rts = True
        until(lambda: len(unit.seen("edge")) == 1, "the edge is logged")
        assert unit.seen("pulse") == []  # in standby it is lost
        port.rts = False

        unit.arm(port)
        port.send_break(0.01)
        port.dtr = False
        port.dtr = True
        unit.ask(port, "enable_remote")  # all before it has been obeyed
        assert (len(unit.seen("edge")), unit.seen("pulse")) == (1, [])

        port.rts = True
        until(lambda: unit.seen("pulse"), "a pulse")
        port.rts = True
        port.rts = False
        unit.ask(port, "enable_remote")
        (pulse,) = unit.seen("pulse")
        edge = unit.seen("edge")[-1]
        assert (pulse["cause"], edge["line"], edge["reaches"]) == ("trigger", "RTS", True)
        assert len(unit.seen("edge")) == 2


def test_who_opens_the_port_without_a_word_raises_rts_and_who_asks_before_does_not(
    unit: Unit,
) -> None:
    with closing(unit.open(rts=False)) as port:
        unit.arm(port)
    assert unit.seen("edge", "pulse") == []
    with closing(unit.open(rts=None)) as port:
        until(lambda: unit.seen("pulse"), "opening it fired")
        assert (port.cts, port.dsr) == (True, True)
    assert len(unit.seen("edge")) == 1


def test_one_who_speaks_no_telnet_right_is_hung_up_on_and_the_next_is_served(unit: Unit) -> None:
    host, number = unit.address.split(":")
    for bad in (
        IAC + SB + COM_PORT + b"\x01" + IAC + SE,  # a baud rate of no bytes
        IAC + SB + COM_PORT + b"\x03\x09" + IAC + SE,  # a parity that does not exist
        IAC + SB + b"x" * (OPTION_MAX + 1),
    ):
        with socket.create_connection((host, int(number))) as client:
            client.settimeout(DEADLINE_S)
            client.sendall(bad)
            while client.recv(4096):
                pass
    with closing(unit.open()) as port:
        unit.arm(port)
    assert unit.seen("edge", "pulse") == []


def test_bytes_that_are_telnets_own_pass_both_ways_and_edges_keep_their_place() -> None:
    port = Rfc2217Port("127.0.0.1:0")
    with (
        closing(port),
        socket.create_connection(("127.0.0.1", int(port.name.split(":")[1]))) as client,
    ):
        client.settimeout(DEADLINE_S)
        until(lambda: port.read() == b"" and len(port.filenos()) == 2, "it has come")
        rise, fall = (IAC + SB + COM_PORT + bytes((5, to)) + IAC + SE for to in (11, 12))
        client.sendall(b"a" + IAC + IAC + rise + b"b" + rise + fall + rise + b"c")
        heard, edges = b"", []

        def all_came() -> bool:
            nonlocal heard
            heard_before = len(heard)
            heard += port.read()
            edges.extend(heard_before + at for at in port.edges)
            return heard.endswith(b"c")

        until(all_came, "all of it")
        assert (heard, edges) == (b"a\xffbc", [2, 3])
        port.write(b"\x01\xff\x02")
        said = b""
        while not said.endswith(b"\x02"):
            said += client.recv(4096)
        assert said.endswith(b"\x01\xff\xff\x02")


@pytest.mark.parametrize("address", ["0.0.0.0:0", "192.0.2.1:4001", "127.0.0.1", "127.0.0.1:x"])
def test_it_listens_on_the_loopback_only(address: str) -> None:
    with pytest.raises(SetupError, match=r"^--rfc2217 "):
        Rfc2217Port(address)
