"""Starts our programs as processes of their own, without the time that their imports take.

One process beside the tests has imported them, and forks for each start. From there the copy is
that program: its arguments, streams and signals, and nothing of the tests.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from functools import cache
from io import TextIOWrapper
from pathlib import Path
from subprocess import DEVNULL, PIPE
from typing import Any, Final

_PYTHON: Final = Path(sys.executable)
FOLDER: Final = _PYTHON.parent
_ROOT: Final = Path(__file__).parents[2]
ROOM: Final = 2_000
"""Bytes that the command line of a program may have."""

_MODULES: Final = {
    "tmsctl": (
        "tmsctl.cli.entry", "tmsctl.cli.app", "tmsctl.cli.client", "tmsctl.cli.confirm",
        "tmsctl.cli.follow", "tmsctl.cli.live", "tmsctl.cli.record", "tmsctl.cli.show",
        "pydantic.fields", "pydantic.functional_validators", "pydantic.type_adapter",
    ),
    "tmsd": ("tmsctl.service.entry", "tmsctl.service.start"),
    "tmssim": ("sim_device.entry",),
}  # fmt: skip
"""The module with `main`, and what is imported later."""


class Program:
    """One start, with the part of `subprocess.Popen` that tests use."""

    def __init__(self, words: list[str], pid: int, stdout: TextIOWrapper | None) -> None:
        self.args, self.pid, self.stdout = words, pid, stdout
        self.returncode: int | None = None
        self._handle = os.pidfd_open(pid)  # a dead one keeps its number until `_beside` is asked

    def poll(self) -> int | None:
        if self.returncode is None and select.select([self._handle], [], [], 0)[0]:
            self.returncode = _ask({"ended": self.pid})
            os.close(self._handle)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None:
            select.select([self._handle], [], [], timeout)
            if self.poll() is None:
                raise subprocess.TimeoutExpired(self.args, timeout or 0)
        assert self.returncode is not None
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            signal.pidfd_send_signal(self._handle, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def start(name: str, *words: str | Path, stdout: int = DEVNULL, stderr: int = 2) -> Program:
    """Streams are file descriptors, DEVNULL, or (stdout only) PIPE; nothing is on its stdin."""
    read_end, write_end = os.pipe() if stdout == PIPE else (None, None)
    nothing = os.open(os.devnull, os.O_RDWR)
    out = nothing if stdout == DEVNULL else stdout
    arguments = [str(word) for word in words]
    asked = {"start": name, "words": arguments}
    pid = _ask(asked, nothing, out if write_end is None else write_end, stderr)
    for end in (nothing, write_end):
        if end is not None:
            os.close(end)
    return Program([name, *arguments], pid, None if read_end is None else os.fdopen(read_end))


def run(name: str, *words: str | Path, timeout: float) -> subprocess.CompletedProcess[str]:
    """Start it, and wait for its end: exit status, standard output, standard error."""
    with (
        os.fdopen(os.memfd_create("out"), "w+") as out,
        os.fdopen(os.memfd_create("err"), "w+") as err,
    ):
        program = start(name, *words, stdout=out.fileno(), stderr=err.fileno())
        try:
            status = program.wait(timeout)
        except subprocess.TimeoutExpired:
            program.kill()
            program.wait()
            raise
        for stream in (out, err):
            stream.seek(0)
        return subprocess.CompletedProcess(program.args, status, out.read(), err.read())


_ONE_AT_A_TIME: Final = threading.Lock()


@cache
def _beside() -> socket.socket:
    """The line to the process that forks. It ends when this one does."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        process = subprocess.Popen(
            [_PYTHON, "-m", "tests.fakes.programs", str(theirs.fileno()), " " * ROOM],
            pass_fds=[theirs.fileno()], stdin=DEVNULL, stdout=DEVNULL, cwd=_ROOT,
        )  # fmt: skip

    def end() -> None:
        ours.close()
        process.wait()

    atexit.register(end)
    return ours


def _ask(what: dict[str, Any], *descriptors: int) -> Any:
    with _ONE_AT_A_TIME:
        line = _beside()
        socket.send_fds(line, [json.dumps(what).encode()], descriptors)
        answer = line.recv(1 << 16)
    assert answer, "the process that starts programs has ended"
    return json.loads(answer)


# -- the process beside the tests -----------------------------------------------------------------


def _serve(line: socket.socket) -> str:
    """Returns in each copy, with the name of the program that it has become."""
    known: set[str] = set()
    while True:
        data, descriptors, _, _ = socket.recv_fds(line, 1 << 16, 3)
        if not data:
            os._exit(0)
        asked = json.loads(data)
        if "ended" in asked:
            status = os.waitstatus_to_exitcode(os.waitpid(asked["ended"], 0)[1])
            line.send(json.dumps(status).encode())
            continue
        if asked["start"] not in known:
            known.add(asked["start"])
            for module in _MODULES[asked["start"]]:
                importlib.import_module(module)
            gc.freeze()  # what is there now is not looked through, page by page, in each copy
        pid = os.fork()
        if pid == 0:
            line.close()
            for number, descriptor in enumerate(descriptors):
                os.dup2(descriptor, number)
                os.close(descriptor)
            sys.argv = [str(FOLDER / asked["start"]), *asked["words"]]
            _show(sys.argv)
            return str(asked["start"])
        for descriptor in descriptors:
            os.close(descriptor)
        line.send(json.dumps(pid).encode())


def _show(words: list[str]) -> None:
    """Other programs see this command line: it is written over the one of the first start."""
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    begin, end = int(fields[45]), int(fields[46])  # arg_start and arg_end of proc(5)
    text = b"".join(word.encode() + b"\0" for word in words)
    with Path("/proc/self/mem").open("r+b", buffering=0) as memory:
        memory.seek(begin)
        memory.write(text[: end - begin].ljust(end - begin, b"\0"))


def main() -> int:
    name = _serve(socket.socket(fileno=int(sys.argv[1])))
    status: int = importlib.import_module(_MODULES[name][0]).main()
    return status


if __name__ == "__main__":
    sys.exit(main())
