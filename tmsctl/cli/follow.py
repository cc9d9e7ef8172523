"""A session as its station sees it: confirm, start, watch to the end, read the record."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from pathlib import Path
from types import FrameType
from typing import Final

from tmsctl.cli import confirm, live, presence, record, stop
from tmsctl.cli.client import Client, Json
from tmsctl.cli.errors import EXIT_FAULT, EXIT_UNREACHABLE, CliError
from tmsctl.cli.presence import Signs
from tmsctl.cli.show import JsonEvents, Show, console, opened, print_json

FRAME_S: Final = 0.1
SILENT_MAX_S: Final = 15.0
"""After this the view gives up; the guard went to SAFE long before."""
SETTLE_S: Final = 2.0
"""After the end the device still has to report that it is disarmed, and tmsd the last outcome."""


def prepare(client: Client, request: Json) -> Json:
    """What would be done, and the checks; CliError for an order that cannot be."""
    if not math.isfinite(request["mt"]):
        raise CliError(
            "mt-not-a-number",
            f"The motor threshold must be a number of %MSO, got {request['mt']}.",
            "Measure it and give it with --mt.",
        )
    return client.call("session.prepare", request)


def start(
    client: Client,
    runtime: Path,
    request: Json,
    *,
    reason: str | None = None,
    yes: bool,
    as_json: bool,
    signs: Signs | None = None,
) -> int:
    """`session start` from summary to record; returns the exit status."""
    prepared = prepare(client, request)
    if as_json:
        print_json({"prepared": prepared})
    else:
        confirm.show(prepared)
    confirm.refuse_failed(prepared)
    confirmed = {
        **request,
        "reason": confirm.agreed(prepared, reason, yes=yes, as_json=as_json),
        "plan_hash": prepared["plan_hash"],
        "confirmation": prepared["confirmation"],
    }

    def begin() -> int:
        return int(client.call("session.start", confirmed)["session"])

    return attach(client, runtime, begin, as_json, signs)


def attach(
    client: Client,
    runtime: Path,
    begin: Callable[[], int],
    as_json: bool,
    signs: Signs | None = None,
) -> int:
    """Begin or resume a session and stay its station until it ends. Ctrl-C sends STOP.

    `signs` says when the operator has shown that somebody is there; None: standard input.
    """
    client.call("status.subscribe")
    with ExitStack() as stack:
        presses = stack.enter_context(_stop_on_ctrl_c(runtime))
        session = begin()
        given = signs or stack.enter_context(presence.standard_input())
        with nullcontext(JsonEvents()) if as_json else opened(live.STATION) as show:
            _watch(client, session, show, presses, given)
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


def watch(
    client: Client, show: Show, over: Callable[[Json], bool], signs: Signs = lambda: False
) -> None:
    """Show the live state until `over` says so. CliError when tmsd stays silent.

    Each of the operator's `signs` is passed on to tmsd.
    """
    arrived_at = time.monotonic()
    frame_at = arrived_at
    status: Json | None = None
    while True:
        notes = client.notes(FRAME_S)
        if signs():
            client.tell("session.present")
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


def _watch(
    client: Client, session: int, show: Show, presses: list[list[str]], signs: Signs
) -> None:
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

    watch(client, show, over, signs)


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
