"""The guard hands its recording over and waits for nobody; the keeper writes all that it got."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from drivers import registry
from drivers.options import Option
from firmware_protocol import recording
from firmware_protocol.recording import Record
from tmsctl.guard import entry, keeper
from tmsctl.guard.keeper import PARTS_MAX, Parts, keep
from tmsctl.guard.recording import AT_ONCE_MAX, WAITING_MAX, Recording
from tmsctl.guard.settings import read

FACTS = {"driver": "tmslink"}
HEAD = b"# tmsctl recording 1\n# driver tmslink\n"


def note(number: int) -> Record:
    return Record(number, recording.TO_DEVICE, number.to_bytes(40, "big"))


class Pipe:
    """The guard's end, and what has come out of the other."""

    def __init__(self) -> None:
        self.reader, writer = os.pipe()
        os.set_blocking(writer, False)
        os.set_blocking(self.reader, False)
        self.size = fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
        self.kept = Recording(writer, os.getpid(), FACTS)

    def read(self) -> bytes:
        try:
            return os.read(self.reader, 1 << 20)
        except BlockingIOError:
            return b""

    def close(self) -> None:
        if self.reader >= 0:
            os.close(self.reader)
            self.reader = -1


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    made = Pipe()
    yield made
    os.close(made.kept._pipe)
    made.close()


def test_what_was_noted_comes_out_in_order_behind_the_header(pipe: Pipe) -> None:
    for number in range(3):
        pipe.kept.note(note(number))
    pipe.kept.flush()
    assert pipe.kept.flush()
    assert pipe.read() == HEAD + b"".join(
        recording.line_of(note(number)).encode() for number in range(3)
    )


def test_a_disk_that_hangs_costs_nothing_and_every_record_comes_in_the_end(pipe: Pipe) -> None:
    for number in range(WAITING_MAX):
        pipe.kept.note(note(number))
        pipe.kept.flush()
    assert not pipe.kept.flush()
    out = b""
    while not pipe.kept.flush():
        out += pipe.read()
    out += pipe.read()
    _, records = recording.read(out.decode().splitlines(keepends=True))
    assert list(records) == [note(number) for number in range(WAITING_MAX)]
    assert pipe.kept.lost == 0


@pytest.mark.parametrize("too_many", [0, 1, 700])
def test_what_finds_no_place_is_counted_and_the_gap_is_told(pipe: Pipe, too_many: int) -> None:
    for number in range(WAITING_MAX + too_many):
        pipe.kept.note(note(number))
    assert pipe.kept.lost == too_many
    out = b""
    while not pipe.kept.flush():
        out += pipe.read()
    pipe.kept.note(note(99_999))
    while not pipe.kept.flush():
        out += pipe.read()
    out += pipe.read()
    _, records = recording.read(out.decode().splitlines(keepends=True))
    newest = WAITING_MAX + too_many - 1
    gap = [Record(newest, recording.LOST, str(too_many).encode())] if too_many else []
    assert list(records) == [*map(note, range(WAITING_MAX)), *gap, note(99_999)]


def test_a_gap_at_the_very_end_is_told_as_well(pipe: Pipe) -> None:
    for number in range(WAITING_MAX + 50):
        pipe.kept.note(note(number))
    out = b""
    while not pipe.kept.flush():
        out += pipe.read()
    out += pipe.read()
    _, records = recording.read(out.decode().splitlines(keepends=True))
    last = Record(WAITING_MAX + 49, recording.LOST, b"50")
    assert list(records) == [*map(note, range(WAITING_MAX)), last]


def test_one_cycle_formats_no_more_than_its_share(pipe: Pipe) -> None:
    for number in range(3 * AT_ONCE_MAX):
        pipe.kept.note(note(number))
    pipe.kept.flush()  # the header
    pipe.kept.flush()
    assert len(pipe.kept._waiting) == 2 * AT_ONCE_MAX


def test_when_the_keeper_has_gone_the_guard_goes_on_and_keeps_nothing(pipe: Pipe) -> None:
    pipe.close()
    for number in range(10):
        pipe.kept.note(note(number))
        assert pipe.kept.flush()
    assert not pipe.kept._waiting


def test_the_header_names_the_options_of_the_driver_but_no_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "tmsctl.toml"
    config.write_text(
        '[device]\ndriver = "tmslink"\nurl = "/dev/x"\nserial = "S1"\n'
        '[device.options]\nfirmware = 10\nunlock = "0123-4567"\n'
    )
    table = {
        "firmware": Option("", low=1, high=99),
        "unlock": Option("", pattern=".*", secret=True),
    }
    row = registry.find("tmslink")._replace(options=table)
    monkeypatch.setattr(registry, "find", lambda _: row)
    assert entry._facts(read(config)) == {
        "driver": "tmslink", "url": "/dev/x", "clock": "CLOCK_BOOTTIME, us", "serial": "S1",
        "option.firmware": "10",
    }  # fmt: skip


# -- the keeper --------------------------------------------------------------------------------


def kept(folder: Path, stream: bytes, size: int, chunk: int = 37) -> list[bytes]:
    """The files that are made of a stream that comes in such chunks."""
    reader, writer = os.pipe()
    parts = Parts(folder, "recording-a", size)
    pieces = [stream[at : at + chunk] for at in range(0, len(stream), chunk)]
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 1 << 20)
    for piece in pieces:
        os.write(writer, piece)
    os.close(writer)
    keep(reader, parts)
    os.close(reader)
    return [path.read_bytes() for path in sorted(folder.glob("recording-*.txt"))]


LINES = b"".join(recording.line_of(note(number)).encode() for number in range(100, 120))
LINE = len(LINES) // 20


def test_a_short_recording_is_one_file(tmp_path: Path) -> None:
    assert kept(tmp_path, HEAD + LINES, 1 << 20) == [HEAD + LINES]


@pytest.mark.parametrize(("size", "files"), [(20 * LINE, 1), (20 * LINE - 1, 2), (5 * LINE, 4)])
def test_a_long_one_goes_on_in_the_next_file_with_the_same_header(
    tmp_path: Path, size: int, files: int
) -> None:
    found = kept(tmp_path, HEAD + LINES, size)
    assert len(found) == files
    assert all(text.startswith(HEAD) for text in found)
    assert b"".join(text.removeprefix(HEAD) for text in found) == LINES


def test_a_line_that_was_cut_by_death_is_kept_and_not_believed(tmp_path: Path) -> None:
    (text,) = kept(tmp_path, HEAD + LINES[: 2 * LINE - 10], 1 << 20)
    _, records = recording.read(text.decode().splitlines(keepends=True))
    assert [record.mark for record in records] == [">", "?"]


def test_only_the_newest_files_are_kept(tmp_path: Path) -> None:
    for number in range(PARTS_MAX + 5):
        path = tmp_path / f"recording-{number}.txt"
        path.write_text("old")
        os.utime(path, (number, number))
    other = tmp_path / "notes.txt"
    other.write_text("mine")
    kept(tmp_path, HEAD + LINES, 1 << 20)
    left = {path.name for path in tmp_path.glob("recording-*.txt")}
    assert len(left) == PARTS_MAX
    assert "recording-5.txt" not in left
    assert {"recording-6.txt", "recording-a-0001.txt"} <= left
    assert other.exists()


def test_a_disk_that_takes_nothing_is_told_in_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(keeper.signal, "signal", lambda *_: None)
    monkeypatch.setattr(keeper.sys, "argv", ["keeper", str(tmp_path / "file" / "folder")])
    assert keeper.main() == 1
    assert capsys.readouterr().err.endswith("ends: Not a directory.\n")
