"""`tmsctl demo`: one complete session on the software stimulator, and the proof of its dose.

Every program runs in a temporary folder, which stays with the journal, the ground truth and the
logs. Nothing is left running, whatever happens.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime
from pathlib import Path
from statistics import fmean
from types import FrameType
from typing import Final

from rich.console import Console
from rich.table import Table

from tmsctl.cli import follow, live, self_test
from tmsctl.cli.client import Client, Json
from tmsctl.cli.errors import EXIT_UNREACHABLE, EXIT_USAGE, CliError
from tmsctl.cli.show import console

SOCKET_PATH_MAX: Final = 107  # bytes, sun_path of Linux
READY_S: Final = 20.0
END_S: Final = 5.0  # tmsd stops the guard first
TRUTH_S: Final = 2.0
POLL_S: Final = 0.05

CONFIG: Final = """\
[paths]
runtime = {runtime}
state = {state}

[device]
driver = "tmslink"
url = {url}

[guard]
supervise = true
"""

RECOVERIES_MAX: Final = 10
SLOW_COMPUTER: Final = ("cycle-gap", "status-age", "service-lost")
DEVICE_STARVED: Final = ("dead man", "permit expired")  # the emulator got no processor in time
RECOVERY: Final = (
    "This computer took the processor away for longer than the guard tolerates, so it tripped, "
    "as it must.\n"
    "The demo now does what a technician would: acknowledge, and resume at the next pulse."
)

OPERATOR: Final = (
    "The demo does what an operator would: it confirms the clock, runs the self-test, accepts soft "
    "limits with a reason, and gives a sign of presence."
)
REASON: Final = "demonstration on the software stimulator"
SIGN_EVERY_S: Final = 20.0

_ENDING: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def run(protocol: str, mt: float, *, keep: bool, programs: Path | None = None) -> int:
    """0 when plan, record, device counter and ground truth name the same number of pulses.

    `programs` is the folder of tmssim and tmsd, by default the one of this interpreter.
    """
    _check_length(Path(tempfile.gettempdir()) / "tmsctl-demo-12345678" / "run" / "guard.sock")
    folder = Path(tempfile.mkdtemp(prefix="tmsctl-demo-"))
    paper = console()
    paper.print(f"Software stimulator: no coil, no patient.\n{live.NOT_MEDICAL}", style="bold")
    paper.print(f"Everything is in {folder}", soft_wrap=True)
    request = {
        "patient": "DEMO",
        "operator": "demo",
        "protocol": protocol,
        "mt": mt,
        "mt_method": "emg",
        "pct_mt": None,
        "reduced": False,
    }
    present = Operator()
    with _running(programs or Path(sys.executable).parent, folder) as client:
        follow.prepare(client, request)  # what cannot be is refused before anything is done
        paper.print(OPERATOR)
        if failed := _checks_of_the_day(client):
            return failed
        status = follow.start(
            client,
            folder / "run",
            request,
            reason=REASON,
            yes=True,
            as_json=False,
            signs=present.sign,
        )
        for _ in range(RECOVERIES_MAX):
            if not _tripped_by_a_slow_computer(client):
                break
            paper.print(RECOVERY, style="yellow")
            client.call("guard.acknowledge")
            _until_idle(folder / "run")
            status = follow.attach(
                client, folder / "run", lambda: _resumed(client), as_json=False, signs=present.sign
            )
        record = client.call("session.show", {"session": None})
        truth = _truth(folder / "truth.jsonl", record["delivered"])
        agrees = _print_summary(paper, record, truth, folder)
        if keep:
            _wait_for_ctrl_c(paper, folder / "run")
    return status or (0 if agrees else EXIT_USAGE)


class Operator:
    """Somebody is always there."""

    def __init__(self) -> None:
        self._next_at = time.monotonic() + SIGN_EVERY_S

    def sign(self) -> bool:
        if time.monotonic() < self._next_at:
            return False
        self._next_at += SIGN_EVERY_S
        return True


def _checks_of_the_day(client: Client) -> int:
    """What `session start` wants before it; an exit status, 0 when all is well."""
    clock = client.call("ledger.list")["clock"]
    if not clock["confirmed"]:
        client.call("ledger.confirm_clock", {"operator": "demo", "time": clock["time"]})
    return self_test.run(client, as_json=False)


def _tripped_by_a_slow_computer(client: Client) -> bool:
    """A shared or virtual machine can pause any program; a clinic's dedicated one should not."""
    status = client.call("status.get")
    causes = status["guard"]["causes"]
    paused = status["session"] is not None and status["session"]["state"] == "paused"
    tripped = paused and status["guard"]["state"] == "safe" and bool(causes)
    if not tripped:
        return False
    cause = causes[0]
    starved = cause["code"] == "disarmed-itself" and cause["detail"].endswith(DEVICE_STARVED)
    return starved or cause["code"] in SLOW_COMPUTER


def _until_idle(runtime: Path) -> None:
    until = time.monotonic() + READY_S
    while (what := _not_idle(runtime)) and time.monotonic() < until:
        time.sleep(POLL_S)
    if what:
        raise CliError("not-recovered", f"After the trip {what}.", "", EXIT_UNREACHABLE)


def _resumed(client: Client) -> int:
    return int(client.call("session.resume")["session"])


def _check_length(path: Path) -> None:
    if len(os.fsencode(path)) > SOCKET_PATH_MAX:
        raise CliError(
            "path-too-long",
            f"The socket {path} would have a path of {len(os.fsencode(path))} bytes; "
            f"allowed are {SOCKET_PATH_MAX}.",
            "Set TMPDIR to a shorter folder, such as /tmp.",
        )


@contextmanager
def _running(programs: Path, folder: Path) -> Iterator[Client]:
    """A client of tmsd with an idle guard and a connected software stimulator."""
    paths = {"runtime": folder / "run", "state": folder / "state", "url": folder / "stim"}
    paths["runtime"].mkdir()
    paths["state"].mkdir()
    config = folder / "config.toml"
    # A JSON string is a valid TOML string.
    config.write_text(CONFIG.format(**{name: json.dumps(str(p)) for name, p in paths.items()}))
    truth = folder / "truth.jsonl"
    with ExitStack() as stack:
        stack.enter_context(_ended_by_signals())
        simulator = _Program(
            # A cooled coil: an uncooled one ends the densest protocols by its temperature.
            [
                programs / "tmssim",
                "tmslink",
                "--set",
                "cooled=1",
                "--pty",
                paths["url"],
                "--log",
                truth,
            ],
            folder / "tmssim.log",
        )
        stack.callback(simulator.end)
        simulator.wait_for(lambda: _no_ready_line(simulator.log))
        stack.callback(_end_guard, paths["runtime"] / "guard.sock")
        daemon = _Program([programs / "tmsd", "--config", config], folder / "tmsd.log")
        stack.callback(daemon.end)
        daemon.wait_for(lambda: _not_idle(paths["runtime"]))
        yield stack.enter_context(Client(paths["runtime"]))


class _Program:
    """A program in a process group of its own: Ctrl-C reaches us only, and we end it in order."""

    def __init__(self, command: list[str | Path], log: Path) -> None:
        self.name = Path(command[0]).name
        self.log = log
        try:
            with log.open("wb") as output:
                self._process = subprocess.Popen(  # noqa: S603
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
        except OSError as error:
            raise CliError(
                "program-missing",
                f"{command[0]} cannot be started: {error.strerror}.",
                "Install the project into this environment: `pip install -e .`",
            ) from error

    def wait_for(self, missing: Callable[[], str]) -> None:
        """Until nothing is missing; CliError when it ends first or takes longer than READY_S."""
        until = time.monotonic() + READY_S
        while what := missing():
            ended = self._process.poll()
            if ended is not None or time.monotonic() > until:
                why = f"after {READY_S:g} s" if ended is None else f"it ended with status {ended}"
                last = self.log.read_text(errors="replace").splitlines()[-1:]
                raise CliError(
                    "program-not-ready",
                    f"{self.name} is not ready, {why}: {what}. Its last words: "
                    f"{''.join(last) or 'none.'}",
                    f"See {self.log}.",
                    EXIT_UNREACHABLE,
                )
            time.sleep(POLL_S)

    def end(self) -> None:
        """SIGTERM, and SIGKILL after END_S."""
        with _undisturbed():
            self._process.terminate()
            try:
                self._process.wait(END_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait(END_S)


def _end_guard(socket_path: Path) -> None:
    """End a guard that outlived its tmsd: the process that listens, by the kernel's word."""
    with _undisturbed():
        for number in (signal.SIGTERM, signal.SIGKILL):
            until = time.monotonic() + END_S
            while (pid := _listener(socket_path)) is not None and time.monotonic() < until:
                with suppress(ProcessLookupError):
                    os.kill(pid, number)
                time.sleep(POLL_S)


def _listener(socket_path: Path) -> int | None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as line:
        line.settimeout(POLL_S)
        try:
            line.connect(str(socket_path))
        except OSError:
            return None
        credentials = line.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    pid, _uid, _gid = struct.unpack("3i", credentials)
    return int(pid)


@contextmanager
def _undisturbed() -> Iterator[None]:
    """A second Ctrl-C waits until this is over: nothing may be left running."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDING)


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """A closed terminal or a SIGTERM ends the demo as Ctrl-C does: everything is taken down."""

    def end(number: int, _frame: FrameType | None) -> None:
        raise CliError("demo-ended", f"The demo was ended by {signal.Signals(number).name}.")

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _no_ready_line(log: Path) -> str:
    return "" if "ready " in log.read_text(errors="replace") else "it has not printed `ready`"


def _not_idle(runtime: Path) -> str:
    try:
        with Client(runtime) as client:
            now = client.call("status.get")
    except CliError as error:
        return error.sentence.rstrip(".")
    if not now["device"]["connected"]:
        return f"no stimulator, {now['device']['link'] or 'it does not answer'}"
    return "" if now["guard"]["state"] == "idle" else f"the guard is {now['guard']['state']}"


def _truth(log: Path, expected: int) -> list[Json]:
    """The pulses that the physics wrote down; waits a moment for the last lines."""
    until = time.monotonic() + TRUTH_S
    while True:
        entries = [json.loads(line) for line in log.read_text().splitlines(keepends=True)
                   if line.endswith("\n")]  # fmt: skip
        pulses = [entry for entry in entries if entry["event"] == "pulse"]
        if len(pulses) >= expected or time.monotonic() > until:
            return pulses
        time.sleep(POLL_S)


def _print_summary(paper: Console, record: Json, truth: list[Json], folder: Path) -> bool:
    before, after = record["device"]["count_before"], record["device"]["count_after"]
    counted = None if before is None or after is None else after - before
    numbers = {
        "planned": record["planned"],
        "delivered, on record": record["delivered"],
        "device's own counter": counted,
        "ground truth (physics)": len(truth),
    }
    planned, *counts = numbers.values()
    agrees = {planned} == set(counts)
    if agrees:
        verdict = "all four agree"
    elif len(set(counts)) == 1:
        verdict = "not the whole plan; record, device and physics agree"
    else:
        verdict = "THE NUMBERS DO NOT AGREE"
    realised = f"{fmean(pulse['mso'] for pulse in truth):.1f}" if truth else "no"
    times = [record["started_at"], record["ended_at"]]
    begun, ended = (None if text is None else datetime.fromisoformat(text) for text in times)
    duration = "unknown" if begun is None or ended is None else f"{(ended - begun).seconds} s"
    table = Table("", "", box=None, show_header=False)
    for name, number in numbers.items():
        table.add_row(name, f"{'unknown' if number is None else number} pulses")
    table.add_row("", verdict, style="bold")
    table.add_row("intensity", f"planned {record['mso']} %MSO, realised {realised} %MSO (mean)")
    table.add_row("hottest coil", live.celsius(record["temperature_max_c"]))
    table.add_row("duration", duration)
    table.add_row("record", record["journal"])
    table.add_row("ground truth", str(folder / "truth.jsonl"))
    table.add_row("logs", str(folder))
    paper.print()
    paper.print(table, soft_wrap=True)
    paper.print(f"This was the software stimulator.\n{live.NOT_MEDICAL}", style="bold")
    return agrees


def _wait_for_ctrl_c(paper: Console, runtime: Path) -> None:
    paper.print("Everything stays running until Ctrl-C. In a second terminal:")
    paper.print(f"  export TMSCTL_RUNTIME={runtime}\n  tmsctl status", soft_wrap=True)
    with suppress(KeyboardInterrupt):
        signal.pause()
