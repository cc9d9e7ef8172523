"""Starts umock_host.py, and programs that see its devices; or says which package is missing."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[2]
PYTHON: Final = "/usr/bin/python3"
BINDINGS: Final = 'import gi; gi.require_version("UMockdev", "1.0")'
ANSWER_WITHIN_S: Final = 20
CONTROL: Final = "UMOCK_CONTROL"
"""Environment variable: the socket of the host."""


class Host:
    """A running umock_host.py."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.folder = folder
        self.environment = os.environ | environment | {"PYTHONPATH": str(ROOT)}

    def tell(self, *words: str) -> None:
        command(self.environment[CONTROL], *words)

    def run(self, *words: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            words, env=self.environment, cwd=ROOT, capture_output=True, text=True,
            timeout=ANSWER_WITHIN_S, check=False,
        )  # fmt: skip


def command(path: str, *words: str) -> list[str]:
    """One command for the host; returns when it is done, with the events of the ground truth."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line:
        line.settimeout(ANSWER_WITHIN_S)
        line.bind("")  # any free name
        line.sendto(" ".join(words).encode(), path)
        events: list[str] = json.loads(line.recv(65_536))
        return events


def require(*missing: str) -> None:
    """Skip, and fail in CI, where something is missing."""
    if missing:
        why = f"not installed: {', '.join(missing)} (Debian: apt-get install {' '.join(missing)})"
        if os.environ.get("CI") == "true":
            pytest.fail(why)
        pytest.skip(why)


def missing_packages() -> list[str]:
    """Debian packages that umockdev needs and that are not there."""
    found = []
    if shutil.which("umockdev-wrapper") is None:
        found.append("umockdev")
    if not Path(PYTHON).exists():
        return [*found, "python3-gi", "gir1.2-umockdev-1.0"]
    for package, line in (("python3-gi", "import gi"), ("gir1.2-umockdev-1.0", BINDINGS)):
        if subprocess.run([PYTHON, "-c", line], capture_output=True, check=False).returncode:
            found.append(package)
    return found


@contextmanager
def host(folder: Path) -> Iterator[Host]:
    """With nothing plugged in. `folder` has a short path: a socket is made in it."""
    control = folder / "control"
    process = subprocess.Popen(
        ["umockdev-wrapper", PYTHON, "-m", "tests.usb.umock_host", control],
        cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, stdin=subprocess.PIPE,
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        environment = json.loads(process.stdout.readline())
        yield Host(folder, {**environment, CONTROL: str(control)})
    finally:
        process.stdin.close()
        process.stdout.close()
        try:
            process.wait(ANSWER_WITHIN_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise
