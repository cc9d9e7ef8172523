"""Helpers for tests that run tmsctl as a program."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

DEADLINE_S = 20.0
START = ("session", "start", "--patient", "P001", "--operator", "AB", "--protocol", "ctbs600",
         "--mt", "50")  # fmt: skip


def until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + DEADLINE_S
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < end, "the deadline has passed"
        pause.wait(0.01)


def spawn(runtime: Path, *arguments: str, **options: Any) -> subprocess.Popen[str]:
    program = Path(sys.executable).parent / "tmsctl"
    command = [str(program), "--runtime", str(runtime), *arguments]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
    )


class Terminal:
    """What a person at a terminal of 80 by 24 sees and types."""

    def __init__(self, fileno: int, far_end: int, process: subprocess.Popen[bytes]) -> None:
        self.fileno, self.far_end, self.process = fileno, far_end, process
        self.text = b""

    def until(self, *ends: str) -> str:
        """Read until these have been seen in this order; returns everything so far."""
        place = 0
        for end in map(str.encode, ends):
            while (found := self.text.find(end, place)) < 0:
                assert select.select([self.fileno], [], [], DEADLINE_S)[0], self.text.decode()
                self.text += os.read(self.fileno, 65536)
            place = found + len(end)
        return self.text.decode(errors="replace")

    def type(self, keys: str) -> None:
        self.text = b""
        os.write(self.fileno, keys.encode())


@contextmanager
def terminal(runtime: Path, *arguments: str) -> Iterator[Terminal]:
    """tmsctl on a terminal of its own, which Ctrl-C reaches as it does on a real one."""
    program = Path(sys.executable).parent / "tmsctl"
    ours, theirs = pty.openpty()
    path = os.ttyname(theirs)
    # The first terminal that the leader of a new session opens is the one that controls it.
    opened = ["sh", "-c", 'exec "$@" <"$0" >"$0" 2>&1', path]
    with subprocess.Popen(
        [*opened, str(program), "--runtime", str(runtime), *arguments],
        env={**os.environ, "TERM": "xterm", "COLUMNS": "80", "LINES": "24"},
        start_new_session=True,
    ) as process:
        try:
            yield Terminal(ours, theirs, process)
        finally:
            process.kill()
            os.close(ours)
            os.close(theirs)
