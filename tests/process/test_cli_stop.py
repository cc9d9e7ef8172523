"""`tmsctl stop` on real sockets."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.cli import until
from tests.fakes.tmsd import FakeTmsd
from tmsctl.cli import stop


def fill(line: socket.socket, path: Path) -> None:
    """Send until the receiver's queue is full."""
    while True:
        try:
            line.sendto(b"x", str(path))
        except BlockingIOError:
            return


def test_stop_goes_through_three_stages(tmsd: FakeTmsd, tmsctl: Any) -> None:
    status, out, _ = tmsctl("stop")
    assert (status, out.splitlines()) == (
        0, ["STOP sent", "guard accepted", "device confirms: disarmed"],
    )  # fmt: skip
    assert tmsd.stops == [f"STOP cli uid={os.getuid()}".encode()]
    assert tmsd.calls == []


def test_stop_is_sent_three_times_while_nobody_accepts(tmsd: FakeTmsd, tmsctl: Any) -> None:
    tmsd.stop_answers = []
    status, out, _ = tmsctl("stop")
    assert status == 2
    assert "USE THE HARDWARE STOP: the guard has not answered" in out
    until(lambda: len(tmsd.stops) == 3)


@pytest.mark.parametrize(
    ("answers", "words"),
    [([b"ACCEPTED"], "the device has not confirmed"), ([b"NO-DEVICE"], "the guard accepted STOP")],
)
def test_a_stop_without_confirmation_names_the_hardware_stop(
    tmsd: FakeTmsd, tmsctl: Any, answers: list[bytes], words: str
) -> None:
    tmsd.stop_answers = answers
    status, out, _ = tmsctl("stop")
    assert status == 2
    assert f"USE THE HARDWARE STOP: {words}" in out
    assert len(tmsd.stops) == 1


def test_stop_without_a_guard_says_so(tmsctl: Any) -> None:
    status, out, _ = tmsctl("stop")
    assert status == 2
    assert "USE THE HARDWARE STOP: no guard listens at" in out


def test_stop_does_not_wait_for_a_guard_whose_queue_is_full(runtime: Path, tmsctl: Any) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as deaf, \
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as filler:  # fmt: skip
        deaf.bind(str(runtime / "stop.sock"))
        filler.setblocking(False)
        fill(filler, runtime / "stop.sock")
        status, out, _ = tmsctl("stop")
    assert status == 2
    assert "USE THE HARDWARE STOP" in out


def test_stop_as_json_names_every_stage(tmsd: FakeTmsd, tmsctl: Any) -> None:
    status, out, _ = tmsctl("stop", "--json")
    assert status == 0
    assert json.loads(out) == {
        "sent": True,
        "accepted": True,
        "confirmed": True,
        "no-device": False,
    }


def test_stop_imports_nothing_heavy() -> None:
    code = (
        "import sys; sys.argv = ['tmsctl', 'stop', '--runtime', '/nowhere'];"
        "from tmsctl.cli.entry import main; main();"
        "heavy = {'typer', 'rich', 'click', 'json', 'typing', 'asyncio', 'pathlib', 'dataclasses'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", f"import sys; sys.path = {sys.path!r}; {code}"],
        capture_output=True, text=True, check=True, timeout=30,
    )  # fmt: skip
    assert done.stdout.splitlines()[-1] == "[]"


def test_the_constants_of_stop_are_as_specified() -> None:
    assert (stop.SENDS, stop.RESEND_S, stop.CONFIRM_S) == (3, 0.020, 0.300)
