"""`tmsctl demo` with small stand-ins for tmssim and tmsd: what it proves and what it leaves."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DEADLINE_S = 40

SIMULATOR = """\
import json, pathlib, signal, sys
log = pathlib.Path(sys.argv[sys.argv.index("--log") + 1])
pulse = json.dumps({"t_us": 1, "event": "pulse", "n": 1, "mso": 39.8}) + "\\n"
log.write_text(json.dumps({"t_us": 0, "event": "arm"}) + "\\n" + pulse * PULSES)
print("ready", sys.argv[3], flush=True)
signal.pause()
"""

DAEMON = """\
import os, pathlib, signal, sys, tomllib
sys.path.insert(0, ROOT)
from tests.fakes.tmsd import FakeTmsd
config = tomllib.loads(pathlib.Path(sys.argv[2]).read_text())
assert config["device"]["driver"] == "tmslink" and config["guard"]["supervise"]
signal.signal(signal.SIGTERM, lambda *_: sys.exit())
with FakeTmsd(pathlib.Path(config["paths"]["runtime"])) as tmsd:
    tmsd.pulses_per_push = PACE
    tmsd.self_test |= {"passed": SOUND, "stop": SOUND}
    tmsd.refusals = {"session.prepare": REFUSAL} if REFUSAL else {}
    signal.pause()
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="tms") as name:
        yield Path(name)


def program(path: Path, text: str, **constants: object) -> None:
    lines = [f"#!{sys.executable}", *(f"{name} = {value!r}" for name, value in constants.items())]
    path.write_text("\n".join([*lines, text]))
    path.chmod(0o755)


def stand_ins(
    folder: Path,
    *,
    truth: int = 600,
    pace: int = 100,
    sound: bool = True,
    refusal: dict[str, object] | None = None,
) -> None:
    program(folder / "tmssim", SIMULATOR, PULSES=truth)
    program(folder / "tmsd", DAEMON, ROOT=str(ROOT), PACE=pace, SOUND=sound, REFUSAL=refusal)


def demo(folder: Path) -> subprocess.Popen[str]:
    """A running demo whose programs are those in `folder`, with its files there as well."""
    code = (
        "import sys; from pathlib import Path; from tmsctl.cli import app, demo, entry;"
        "plain = demo.run;"
        f"demo.run = lambda p, mt, keep: plain(p, mt, keep=keep, programs=Path({str(folder)!r}));"
        "sys.argv = ['tmsctl', 'demo']; sys.exit(entry.main())"
    )
    return subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, env={**os.environ, "TMPDIR": str(folder)},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def still_running(folder: Path) -> list[str]:
    """Command lines of processes that were started from this folder."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = entry.read_text()
        except OSError:
            continue
        if f"{folder}/tms" in line and entry.parent.name != str(os.getpid()):
            found.append(line)
    return [line for line in found if "entry.main" not in line]


def finished(process: subprocess.Popen[str]) -> tuple[int, str]:
    text = process.communicate(timeout=DEADLINE_S)[0]
    return process.returncode, text


def test_four_equal_numbers_are_success_and_the_record_stays(folder: Path) -> None:
    stand_ins(folder)
    status, text = finished(demo(folder))
    assert status == 0, text
    assert text.count("✓ ok  ") >= 4  # the self-test comes first
    for part in ("The self-test has passed.", "all four agree",
                 "planned 40 %MSO, realised 39.8 %MSO", "software stimulator",
                 "not a cleared medical device", "journal.sqlite", "31.5 °C", "40 s"):  # fmt: skip
        assert part in text
    assert text.count("600 pulses") >= 4
    (kept,) = folder.glob("tmsctl-demo-*")
    for name in ("config.toml", "truth.jsonl", "tmsd.log", "tmssim.log"):
        assert (kept / name).exists()
    assert still_running(folder) == []


def test_one_pulse_more_in_the_ground_truth_is_failure(folder: Path) -> None:
    stand_ins(folder, truth=601)
    status, text = finished(demo(folder))
    assert status == 1
    assert "THE NUMBERS DO NOT AGREE" in text
    assert "601 pulses" in text


def test_an_order_that_cannot_be_is_refused_before_the_self_test(folder: Path) -> None:
    stand_ins(
        folder,
        refusal={
            "code": "protocol-unknown",
            "sentence": "There is none.",
            "next_step": "",
            "exit_status": 1,
        },
    )
    status, text = finished(demo(folder))
    assert status == 1
    assert "There is none." in text
    assert "STOP" not in text
    assert still_running(folder) == []


def test_a_self_test_that_fails_ends_the_demo_before_any_pulse(folder: Path) -> None:
    stand_ins(folder, sound=False)
    status, text = finished(demo(folder))
    assert status == 32
    assert "THE SELF-TEST HAS FAILED." in text
    assert "RUNNING" not in text
    assert still_running(folder) == []


@pytest.mark.parametrize(
    ("number", "status", "words"),
    [(signal.SIGINT, 8, "STOP sent"), (signal.SIGTERM, 1, "ended by SIGTERM")],
)
def test_whatever_ends_it_nothing_is_left_running(
    folder: Path, number: int, status: int, words: str
) -> None:
    stand_ins(folder, pace=1)
    process = demo(folder)
    assert process.stdout is not None
    seen = iter(process.stdout.readline, "")
    assert any("RUNNING" in line for line in seen)
    process.send_signal(number)
    text = "".join(seen)
    assert process.wait(DEADLINE_S) == status, text
    process.stdout.close()
    assert words in text
    assert still_running(folder) == []


def test_a_daemon_that_cannot_start_is_named_with_its_last_words(folder: Path) -> None:
    stand_ins(folder)
    program(folder / "tmsd", "raise SystemExit('config.toml: no such key')")
    status, text = finished(demo(folder))
    assert status == 2
    assert "tmsd is not ready, it ended with status 1" in text
    assert "config.toml: no such key" in text
    assert "Traceback" not in text
    assert still_running(folder) == []


def test_a_missing_program_is_one_sentence(folder: Path) -> None:
    status, text = finished(demo(folder))
    assert status == 1
    assert "tmssim cannot be started: No such file or directory." in text


def test_a_folder_too_long_for_a_socket_is_refused(folder: Path) -> None:
    deep = folder / ("x" * 80)
    deep.mkdir()
    done = subprocess.run(
        [Path(sys.executable).parent / "tmsctl", "demo"], env={**os.environ, "TMPDIR": str(deep)},
        capture_output=True, text=True, timeout=DEADLINE_S, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "Set TMPDIR to a shorter folder" in done.stderr
    assert list(deep.iterdir()) == []
