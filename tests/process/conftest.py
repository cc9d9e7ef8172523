"""A command line with a small tmsd behind it."""

from __future__ import annotations

import io
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.fakes.tmsd import FakeTmsd
from tmsctl.cli import entry


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
