"""A session as its station sees it: confirm, start, watch to the end, read the record."""

from __future__ import annotations

import math
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from types import FrameType
from typing import Final

import typer
from rich.table import Table

from tmsctl.cli import live, record, stop
from tmsctl.cli.client import Client, Json
from tmsctl.cli.errors import EXIT_FAULT, EXIT_LIMIT, EXIT_UNREACHABLE, CliError
from tmsctl.cli.show import JsonEvents, Show, console, opened, print_json

FRAME_S: Final = 0.1
SILENT_MAX_S: Final = 15.0
"""After this the view gives up; the guard went to SAFE long before."""
SETTLE_S: Final = 2.0
"""After the end the device still has to report that it is disarmed, and tmsd the last outcome."""


def start(client: Client, runtime: Path, request: Json, *, yes: bool, as_json: bool) -> int:
    """`session start` from summary to record; returns the exit status."""
    if not math.isfinite(request["mt"]):
        raise CliError(
            "mt-not-a-number",
            f"The motor threshold must be a number of %MSO, got {request['mt']}.",
            "Measure it and give it with --mt.",
        )
    prepared = client.call("session.prepare", request)
    if as_json:
        print_json({"prepared": prepared})
    else:
        _print_prepared(prepared)
    _refuse_failed_checks(prepared["checks"])
    if not yes:
        _confirm(as_json)
    planned = {**request, "plan_hash": prepared["plan_hash"]}
    return attach(
        client, runtime, lambda: client.call("session.start", planned)["session"], as_json
    )


def attach(client: Client, runtime: Path, begin: Callable[[], int], as_json: bool) -> int:
    """Begin or resume a session and stay its station until it ends. Ctrl-C sends STOP."""
    client.call("status.subscribe")
    with _stop_on_ctrl_c(runtime) as presses:
        session = begin()
        with nullcontext(JsonEvents()) if as_json else opened(live.STOP_FOOTER) as show:
            _watch(client, session, show, presses)
            if presses:
                _report_stop(client, runtime, presses[-1], as_json)
            status = _settled(client)
            show.status(status, 0.0)
    kept = client.call("session.show", {"session": session})
    if as_json:
        print_json({"record": kept})
    else:
        paper = console()
        paper.print(record.summary(kept))
        head = live.headline(status, 0.0)
        if head.next_step:
            paper.print(f"{head.word}: {head.sentence}\nnext step: {head.next_step}")
    unconfirmed = bool(presses) and stop.CONFIRMED not in presses[-1]
    return exit_status(status) | (EXIT_UNREACHABLE if unconfirmed else 0)


def exit_status(status: Json) -> int:
    """The bits that say what is wrong now; 0 when nothing is."""
    unreachable = status["guard"]["state"] == "absent" or not status["device"]["connected"]
    fault = status["guard"]["state"] == "safe"
    return (EXIT_UNREACHABLE if unreachable else 0) | (EXIT_FAULT if fault else 0)


def watch(client: Client, show: Show, over: Callable[[Json], bool]) -> None:
    """Show the live state until `over` says so. CliError when tmsd stays silent."""
    arrived_at = time.monotonic()
    frame_at = arrived_at
    status: Json | None = None
    while True:
        notes = client.notes(FRAME_S)
        now = time.monotonic()
        for note in notes:
            if note["method"] == "event":
                show.event(note["params"])
            elif note["method"] == "status":
                status, arrived_at = note["params"], now
        if now - arrived_at > SILENT_MAX_S:
            raise CliError(
                "tmsd-silent",
                f"tmsd has sent nothing for {SILENT_MAX_S:g} s.",
                "See its log with `journalctl -u tmsd`; if in doubt, use the hardware stop.",
                EXIT_UNREACHABLE,
            )
        if status is None:
            continue
        done = over(status)
        if done or now >= frame_at:
            frame_at = now + FRAME_S
            show.status(status, now - arrived_at)
        if done:
            return


def _watch(client: Client, session: int, show: Show, presses: list[list[str]]) -> None:
    # States from before the session began say nothing about it.
    for note in client.notes(0):
        if note["method"] == "event":
            show.event(note["params"])

    def over(status: Json) -> bool:
        current = status["session"]
        return (
            bool(presses)
            or status["guard"]["state"] == "safe"
            or current is None
            or current["id"] != session
            or current["state"] in ("complete", "stopped", "interrupted")
        )

    watch(client, show, over)


@contextmanager
def _stop_on_ctrl_c(runtime: Path) -> Iterator[list[list[str]]]:
    """Ctrl-C sends STOP from the signal handler itself; the list receives the stages of each."""
    presses: list[list[str]] = []

    def pressed(_number: int, _frame: FrameType | None) -> None:
        presses.append(list(stop.press(str(runtime), "cli ctrl-c")))

    before = signal.signal(signal.SIGINT, pressed)
    try:
        yield presses
    finally:
        signal.signal(signal.SIGINT, before)


def _settled(client: Client) -> Json:
    until = time.monotonic() + SETTLE_S
    while True:
        status = client.call("status.get")
        session, device = status["session"], status["device"]
        moving = session is not None and session["state"] in ("starting", "running")
        armed = device["connected"] and device["state"] in ("arming", "ready", "firing")
        if not (moving or armed) or time.monotonic() > until:
            return status
        time.sleep(FRAME_S)


def _report_stop(client: Client, runtime: Path, stages: list[str], as_json: bool) -> None:
    failure = stop.words(str(runtime), stages)
    if as_json:
        print_json({"stop": stages})
    else:
        print("\n".join([*(stop.STAGE_WORDS[stage] for stage in stages), failure]).rstrip())
    if failure:
        # The way through tmsd is slower, but it may be the one that still works.
        with suppress(CliError):
            client.call("session.pause")


def _print_prepared(prepared: Json) -> None:
    paper = console()
    paper.print(prepared["sentence"], style="bold")
    for warning in prepared["warnings"]:
        paper.print(f"warning: {warning}", style="yellow")
    table = Table("", "check", "found", box=None)
    for check in prepared["checks"]:
        mark = ("✓ ok", "green") if check["ok"] else ("✗ NO", "bold red")
        table.add_row(mark[0], check["code"], check["detail"], style=mark[1])
    paper.print(table)


def _refuse_failed_checks(checks: list[Json]) -> None:
    failed = [check for check in checks if not check["ok"]]
    if failed:
        raise CliError(
            failed[0]["code"],
            f"The session cannot start: {failed[0]['detail'].rstrip('.')}.",
            f"Put right what is marked NO ({len(failed)} of {len(checks)}) and start again.",
            EXIT_LIMIT,
        )


def _confirm(as_json: bool) -> None:
    if as_json or not sys.stdin.isatty():
        raise CliError(
            "no-confirmation",
            "A session starts only after a yes, and there is nobody here to ask.",
            "Read the summary, then repeat the command with --yes.",
        )
    if not typer.confirm("Start?", default=False):
        raise CliError("not-confirmed", "Nothing was started: the answer was no.")
