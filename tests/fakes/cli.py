"""Helpers for tests that run tmsctl as a program."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable
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
