"""`tmsctl trace` tells a recording in words, for people and as JSON, and needs nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from firmware_protocol.tmslink.framing import frame
from firmware_protocol.tmslink.spec import VECTORS, vector_body

IDENTITY = frame(vector_body(*VECTORS[1])).hex()
STOP = frame(vector_body(*VECTORS[5])).hex()
HEAD = "# tmsctl recording 1\n# driver tmslink\n# url /dev/ttyACM0\n"
LINES = f"""\
1000000 : poll
1000010 +
1000020 > {STOP}
1500000 < {IDENTITY}
1500000 : beat 1 2000000
2000000 < 00051b5b324a00
2000001 ! 5 Input/output error
2000002 -
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "recording-1.txt"
    path.write_text(HEAD + LINES)
    return path


def test_frames_are_told_with_time_and_direction(file: Path, tmsctl: Any) -> None:
    status, out, err = tmsctl("trace", str(file))
    assert (status, err) == (0, "")
    head, lines = out.splitlines()[:2], out.splitlines()[2:]
    assert head == ["driver: tmslink", "url: /dev/ttyACM0"]
    assert lines[0] == "      0.000000 + the port was opened"
    assert lines[1].startswith("      0.000010 > Stop session=")
    assert lines[2].startswith("      0.499990 < Identity protocol=1")
    assert lines[3:] == [
        "      0.999990 < DAMAGED garbage: bytes that are no frame [05 1b 5b 32 4a]",
        "      0.999991 ! 5 Input/output error",
        "      0.999992 - the port was closed by the program",
    ]


def test_calls_are_shown_when_asked_for(file: Path, tmsctl: Any) -> None:
    _, out, _ = tmsctl("trace", str(file), "--calls")
    assert "      0.000000 : poll\n" in out
    assert "      0.500000 : beat 1 2000000\n" in out


def test_json_has_the_header_and_one_object_a_line(file: Path, tmsctl: Any) -> None:
    status, out, _ = tmsctl("trace", str(file), "--json")
    head, *lines = map(json.loads, out.splitlines())
    assert status == 0
    assert head == {"recording": {"driver": "tmslink", "url": "/dev/ttyACM0"}}
    assert lines[0] == {"t_us": 1_000_010, "mark": "+", "text": ""}
    assert lines[3] == {
        "t_us": 2_000_000, "mark": "<", "text": "",
        "damage": "garbage: bytes that are no frame", "bytes": "051b5b324a",
    }  # fmt: skip


def test_nothing_that_stands_in_a_file_steers_the_terminal(tmp_path: Path, tmsctl: Any) -> None:
    path = tmp_path / "r.txt"
    path.write_bytes(f"{HEAD}# url \x1b[2J\n1 ! 5 \x1b[2J\n\x1b[2J\xff\n2 -".encode("latin-1"))
    status, out, _ = tmsctl("trace", str(path))
    assert status == 0
    assert "\x1b" not in out
    assert out.count("DAMAGED a line that cannot be read") == 2


def test_several_files_are_the_parts_of_one(tmp_path: Path, tmsctl: Any) -> None:
    half = len(IDENTITY) // 4 * 2
    for number, piece in enumerate((IDENTITY[:half], IDENTITY[half:])):
        (tmp_path / f"{number}.txt").write_text(f"{HEAD}{number} < {piece}\n")
    _, out, _ = tmsctl("trace", str(tmp_path / "0.txt"), str(tmp_path / "1.txt"))
    assert out.count("Identity") == 1
    assert "DAMAGED" not in out


def test_a_file_that_names_no_driver_is_told_with_the_one_that_is_said(
    tmp_path: Path, tmsctl: Any
) -> None:
    path = tmp_path / "flight-1.txt"
    path.write_text("# tmsctl flight recorder, CLOCK_BOOTTIME 9 us\n1 > 7979\n2 = cycle 1 late 0\n")
    status, _, err = tmsctl("trace", str(path))
    assert status == 1
    assert err.startswith("tmsctl: the file names no driver. Say --driver; there are tmslink, ")
    status, out, _ = tmsctl("trace", str(path), "--driver", "duomag-xt")
    assert status == 0
    assert out.splitlines()[-1] == "      0.000000 > Fire"


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "recording"),
        ("hello\n", "recording"),
        ("# tmsctl recording 2\n", "recording"),
        ("# tmsctl recording 1\n# driver other\n", "driver-unknown"),
    ],
)
def test_what_is_no_recording_is_refused_in_one_sentence(
    tmp_path: Path, tmsctl: Any, text: str, code: str
) -> None:
    path = tmp_path / "r.txt"
    path.write_text(text)
    status, out, err = tmsctl("trace", str(path))
    assert (status, out) == (1, "")
    assert err.count("\n") == 1
    assert err.endswith(f"[{code}]\n")


@pytest.mark.parametrize("name", ["missing.txt", "."])
def test_a_file_that_cannot_be_read_is_said(tmp_path: Path, tmsctl: Any, name: str) -> None:
    status, _, err = tmsctl("trace", str(tmp_path / name))
    assert status == 1
    assert "cannot be read: " in err
    assert err.endswith("[file]\n")
