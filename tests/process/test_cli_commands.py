"""The commands of tmsctl against a small tmsd on real sockets."""

from __future__ import annotations

import io
import json
import os
import pty
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.tmsd import FakeTmsd
from tmsctl.cli import client as client_module
from tmsctl.cli import entry, follow, stop
from tmsctl.cli.client import Client
from tmsctl.cli.errors import CliError

Json = dict[str, Any]
DEADLINE_S = 20.0
START = ("session", "start", "--patient", "P001", "--operator", "AB", "--protocol", "ctbs600",
         "--mt", "50")  # fmt: skip


@pytest.fixture
def runtime() -> Iterator[Path]:
    """A folder with a short name: the path of a socket has at most 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="tms") as folder:
        yield Path(folder)


@pytest.fixture
def tmsd(runtime: Path) -> Iterator[FakeTmsd]:
    with FakeTmsd(runtime) as served:
        yield served


@pytest.fixture
def tmsctl(
    runtime: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Runs a command in this process: exit status, standard output, standard error."""
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.setattr(sys, "stdin", io.StringIO())  # nobody sits here

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["tmsctl", "--runtime", str(runtime), *arguments])
        status = entry.main()
        out, err = capsys.readouterr()
        return status, out, err

    return run


def until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + DEADLINE_S
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < end, "the deadline has passed"
        pause.wait(0.01)


def fill(line: socket.socket, path: Path) -> None:
    """Send until the receiver's queue is full."""
    while True:
        try:
            line.sendto(b"x", str(path))
        except BlockingIOError:
            return


def spawn(runtime: Path, *arguments: str, **options: Any) -> subprocess.Popen[str]:
    program = Path(sys.executable).parent / "tmsctl"
    command = [str(program), "--runtime", str(runtime), *arguments]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
    )


# ---- STOP


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


# ---- what a person is told


def test_without_tmsd_one_sentence_says_how_to_start_it(tmsctl: Any) -> None:
    status, out, err = tmsctl("status")
    assert (status, out) == (2, "")
    assert err.startswith("tmsctl: tmsd is not running: nothing listens at ")
    assert "tmsd --config FILE" in err
    assert err.endswith("[tmsd-not-running]\n")
    assert err.count("\n") == 1


def test_with_json_the_error_is_also_an_object_on_standard_output(tmsctl: Any) -> None:
    status, out, _ = tmsctl("status", "--json")
    error = json.loads(out)["error"]
    assert (error["code"], error["exit"], status) == ("tmsd-not-running", 2, 2)


@pytest.mark.parametrize(
    "line", ["session start", "sesion", "session start --mt x", "session list --limit 0"]
)
def test_a_usage_error_is_one_line_and_exit_status_1(tmsctl: Any, line: str) -> None:
    status, _, err = tmsctl(*line.split())
    assert status == 1
    assert err.startswith("tmsctl: ")
    assert err.count("\n") == 1
    assert err.endswith("[usage]\n")


@pytest.mark.parametrize("exit_bit", [1, 2, 4, 8, 16])
def test_a_refusal_of_tmsd_keeps_its_sentence_code_and_status(
    tmsd: FakeTmsd, tmsctl: Any, exit_bit: int
) -> None:
    tmsd.refusals["session.prepare"] = {
        "sentence": "71 %MSO is above 70 %MSO.", "code": "mso-max", "exit": exit_bit,
        "next": "Give less.",
    }  # fmt: skip
    status, _, err = tmsctl(*START, "--yes")
    assert status == exit_bit
    assert err == "tmsctl: 71 %MSO is above 70 %MSO. Give less. [mso-max]\n"


def test_a_silent_tmsd_is_given_up_after_the_deadline(tmsd: FakeTmsd, runtime: Path) -> None:
    tmsd.silent.add("status.get")
    with Client(runtime) as client:
        with pytest.raises(CliError) as caught:
            client.call("status.get", within_s=0.05)
        assert (caught.value.code, caught.value.exit_status) == ("tmsd-silent", 2)
        assert client.call("session.list")["sessions"]


def test_notes_and_answers_do_not_get_in_each_others_way(tmsd: FakeTmsd, runtime: Path) -> None:
    with Client(runtime) as client:
        client.call("status.subscribe")
        tmsd.trip("coil-hot", "too hot")
        assert client.call("status.get")["guard"]["state"] == "safe"
        until(lambda: any(note["method"] == "event" for note in client.notes(0.1)))
        until(lambda: any(note["method"] == "status" for note in client.notes(0.1)))


@pytest.mark.parametrize("line", [b"no json\n", b"[1]\n", b"x" * 200])
def test_what_is_not_json_rpc_is_a_communication_error(
    runtime: Path, line: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "MESSAGE_SIZE_MAX", 100)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(runtime / "tmsd.sock"))
        listener.listen()
        with Client(runtime) as client:
            other, _ = listener.accept()
            with other:
                other.sendall(line)
                with pytest.raises(CliError) as caught:
                    client.call("status.get")
    assert (caught.value.code, caught.value.exit_status) == ("tmsd-garbled", 4)


def test_a_tmsd_that_goes_away_ends_the_view_with_a_sentence(tmsd: FakeTmsd, runtime: Path) -> None:
    with Client(runtime) as client:
        client.call("status.subscribe")
        tmsd.__exit__(None, None, None)
        with pytest.raises(CliError) as caught:
            until(lambda: client.notes(0.1) and False)
    assert caught.value.code == "tmsd-gone"


# ---- a session


def test_a_session_runs_from_summary_to_record(tmsd: FakeTmsd, tmsctl: Any) -> None:
    tmsd.pulses_per_push = 200
    status, out, _ = tmsctl(*START, "--yes")
    assert status == 0
    for part in ("600 pulses.", "✓ ok", "RUNNING", "DONE", "600 delivered of 600", "1000 -> 1600"):
        assert part in out
    (start,) = tmsd.called("session.start")
    assert start == {
        "patient": "P001", "operator": "AB", "protocol": "ctbs600", "mt": 50.0, "pct_mt": None,
        "reduced": False, "plan_hash": tmsd.prepared["plan_hash"],
    }  # fmt: skip


def test_with_json_a_session_is_one_object_a_line(tmsd: FakeTmsd, tmsctl: Any) -> None:
    tmsd.pulses_per_push = 600
    status, out, _ = tmsctl(*START, "--yes", "--json", "--pct-mt", "90", "--reduced")
    kinds = [next(iter(json.loads(line))) for line in out.splitlines()]
    assert status == 0
    assert (kinds[0], kinds[-1]) == ("prepared", "record")
    assert set(kinds[1:-1]) == {"event"}
    (start,) = tmsd.called("session.start")
    assert (start["pct_mt"], start["reduced"]) == (90, True)


def test_without_a_terminal_and_without_yes_nothing_is_started(tmsd: FakeTmsd, tmsctl: Any) -> None:
    status, out, err = tmsctl(*START)
    assert status == 1
    assert "600 pulses." in out
    assert "repeat the command with --yes. [no-confirmation]" in err
    assert tmsd.called("session.start") == []


def test_a_failed_check_is_marked_and_nothing_is_started(tmsd: FakeTmsd, tmsctl: Any) -> None:
    tmsd.prepared["checks"][1] |= {"ok": False, "detail": "3600 pulses, at most 3000"}
    status, out, err = tmsctl(*START, "--yes")
    assert status == 16
    assert "✗ NO" in out
    assert "3600 pulses, at most 3000" in err
    assert tmsd.called("session.start") == []


def test_a_motor_threshold_that_is_no_number_is_refused(tmsd: FakeTmsd, tmsctl: Any) -> None:
    status, _, err = tmsctl(*START, "--yes", "--mt", "nan")
    assert status == 1
    assert "[mt-not-a-number]" in err
    assert tmsd.calls == []


def test_a_trip_ends_the_view_with_its_cause_and_exit_status_8(tmsd: FakeTmsd, tmsctl: Any) -> None:

    def trip() -> None:
        until(lambda: tmsd.called("session.start"))
        tmsd.trip("coil-hot", "hot")

    tripping = threading.Thread(target=trip)
    tripping.start()
    status, out, _ = tmsctl(*START, "--yes")
    tripping.join()
    assert status == 8
    assert "coil-hot: hot" in out
    assert "tmsctl acknowledge, then tmsctl session resume" in out


def test_ctrl_c_is_stop(tmsd: FakeTmsd, runtime: Path) -> None:
    with spawn(runtime, *START, "--yes") as station:
        assert station.stdout is not None
        seen = iter(station.stdout.readline, "")
        assert any("RUNNING" in line for line in seen)
        station.send_signal(signal.SIGINT)
        out = "".join(seen)
        assert station.wait(DEADLINE_S) == 8
    assert tmsd.stops == [f"STOP cli ctrl-c uid={os.getuid()}".encode()]
    assert "STOP sent\nguard accepted\ndevice confirms: disarmed\n" in out


def test_ctrl_c_with_nobody_behind_it_names_the_hardware_stop(
    tmsd: FakeTmsd, runtime: Path
) -> None:
    with spawn(runtime, *START, "--yes") as station:
        assert station.stdout is not None
        seen = iter(station.stdout.readline, "")
        assert any("RUNNING" in line for line in seen)
        (runtime / "stop.sock").unlink()
        station.send_signal(signal.SIGINT)
        out = "".join(seen)
        assert station.wait(DEADLINE_S) == 2
    assert "USE THE HARDWARE STOP: no guard listens" in out
    assert len(tmsd.called("session.pause")) == 1


def test_on_a_terminal_the_start_is_asked_for_and_the_view_is_drawn(
    tmsd: FakeTmsd, runtime: Path
) -> None:
    tmsd.pulses_per_push = 20
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "80", "LINES": "24"}
    program = Path(sys.executable).parent / "tmsctl"
    with subprocess.Popen(
        [program, "--runtime", str(runtime), *START],
        stdin=theirs, stdout=theirs, stderr=theirs, env=environment,
    ) as station:  # fmt: skip
        os.close(theirs)
        text = _read_until(ours, b"[y/N]")
        assert tmsd.called("session.start") == []
        os.write(ours, b"y\n")
        text += _read_until(ours, b"delivered of 600")
        os.close(ours)
        assert station.wait(DEADLINE_S) == 0
    for part in ("RUNNING: ", "DONE: ", "Ctrl-C = STOP", "████"):
        assert part in text.decode()


def _read_until(terminal: int, end: bytes) -> bytes:
    text = b""
    while end not in text:
        assert select.select([terminal], [], [], DEADLINE_S)[0], text.decode()
        text += os.read(terminal, 65536)
    return text


def test_resume_returns_when_the_station_is_alive(tmsd: FakeTmsd, tmsctl: Any) -> None:
    tmsd.status["session"] = {"id": 1, "state": "paused"}
    status, out, _ = tmsctl("session", "resume")
    assert (status, out) == (0, "Session 1 is running.\n")


def test_resume_becomes_the_station_when_the_old_one_is_gone(
    tmsd: FakeTmsd, tmsctl: Any, runtime: Path
) -> None:
    with Client(runtime) as client:
        client.call("session.start")
        client.call("session.pause")
    tmsd.station_gone = True
    tmsd.pulses_per_push = 300
    status, out, _ = tmsctl("session", "resume")
    assert status == 0
    assert "600 delivered of 600" in out


@pytest.mark.parametrize(
    ("line", "method", "words"),
    [
        ("session pause", "session.pause", "Session 1 is paused."),
        ("session stop", "session.stop", "Session 1 is stopped."),
        ("acknowledge", "guard.acknowledge", "The guard is idle."),
    ],
)
def test_a_change_is_one_call_and_one_line(
    tmsd: FakeTmsd, tmsctl: Any, runtime: Path, line: str, method: str, words: str
) -> None:
    with Client(runtime) as client:
        client.call("session.start")
        assert tmsctl(*line.split())[:2] == (0, f"{words}\n")
    assert len(tmsd.called(method)) == 1


def test_show_and_list_read_the_record(tmsd: FakeTmsd, tmsctl: Any) -> None:
    assert "0 delivered of 600" in tmsctl("session", "show")[1]
    assert json.loads(tmsctl("session", "show", "1", "--json")[1]) == tmsd.record
    assert tmsd.called("session.show") == [{"session": None}, {"session": 1}]
    assert "0/600" in tmsctl("session", "list")[1]
    assert json.loads(tmsctl("session", "list", "--json")[1]) == {"sessions": [tmsd.record]}


def test_status_is_text_for_people_and_json_for_programs(tmsd: FakeTmsd, tmsctl: Any) -> None:
    status, out, _ = tmsctl("status")
    assert status == 0
    assert "READY: " in out
    assert json.loads(tmsctl("status", "--json")[1]) == tmsd.status
    tmsd.trip("coil-hot", "hot")
    assert tmsctl("status")[0] == 8


def test_watching_goes_on_until_ctrl_c_and_stops_nothing(tmsd: FakeTmsd, runtime: Path) -> None:
    with spawn(runtime, "status", "--watch", "--json") as watcher:
        assert watcher.stdout is not None
        assert json.loads(watcher.stdout.readline())["status"]["guard"]["state"] == "idle"
        watcher.send_signal(signal.SIGINT)
        watcher.stdout.read()
        assert watcher.wait(DEADLINE_S) == 0
    assert tmsd.stops == []


def test_the_view_gives_up_when_nothing_comes_any_more(
    tmsd: FakeTmsd, tmsctl: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    tmsd.pushing = False
    monkeypatch.setattr(follow, "SILENT_MAX_S", 0.3)
    status, _, err = tmsctl("status", "--watch")
    assert status == 2
    assert "[tmsd-silent]" in err


def test_the_constants_of_stop_are_as_specified() -> None:
    assert (stop.SENDS, stop.RESEND_S, stop.CONFIRM_S) == (3, 0.020, 0.300)
