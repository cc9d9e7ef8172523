"""The live view: what a technician sees in ten-second glances. Pure: status in, picture out."""

from __future__ import annotations

import math
import textwrap
from typing import Any, Final, Literal, NamedTuple

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from drivers.causes import parted
from tmsctl.safety.limits import GENERAL

Json = dict[str, Any]

WIDTH: Final = 80
STALE_S: Final = 1.0
"""Older data is marked: a picture that stands still must not look alive."""

NOT_MEDICAL: Final = "tmsctl is not a cleared medical device."

PRESENCE_S: Final = GENERAL.presence_age_max_us / 1_000_000
SELF_TEST_S: Final = GENERAL.self_test_age_max_us / 1_000_000
PRESENCE_WARN_S: Final = 20.0
"""So long before the operator's sign is too old, the view asks for another."""


class Place(NamedTuple):
    """What can be done where the picture is seen."""

    keys: str
    sign: str  # how the operator shows that somebody is there


STATION: Final = Place(
    "Ctrl-C = STOP   any other key = I am here   to pause: tmsctl session pause", "press a key"
)
ELSEWHERE: Final = Place(
    "Ctrl-C leaves this view; it does not stop anything. To stop: tmsctl stop",
    "somebody at the station must press a key",
)
ONCE: Final = Place("to follow it: tmsctl status --watch", ELSEWHERE.sign)


Word = Literal[
    "NO DATA", "NO GUARD", "SAFE", "NO LINK", "WAITING", "ARMING", "RUNNING", "PAUSED", "DONE",
    "STOPPED", "IDLE", "READY",
]  # fmt: skip


class Headline(NamedTuple):
    """The word to read from across the room, a sentence, and what to do."""

    word: Word
    style: str
    sentence: str
    next_step: str


_NO_ANSWER: Final = "The stimulator does not answer"
_OF_SESSION: Final = {
    "starting": Headline("ARMING", "bold cyan", "The stimulator is being armed and charged.", ""),
    "running": Headline("RUNNING", "bold cyan", "Pulses are being delivered.", ""),
    "paused": Headline(
        "PAUSED",
        "bold yellow",
        "No pulses; the place in the plan is kept.",
        "tmsctl session resume (goes on where it was), or tmsctl session stop",
    ),
    "complete": Headline("DONE", "bold green", "Every planned pulse has had its turn.", ""),
    "stopped": Headline("STOPPED", "bold yellow", "The session was stopped by a person.", ""),
    "interrupted": Headline(
        "STOPPED", "bold yellow", "The session was interrupted.", "tmsctl session show"
    ),
}


def headline(status: Json, age_s: float) -> Headline:
    """The most urgent thing that is true, in one fixed order."""
    guard, device, session = status["guard"], status["device"], status["session"]
    if age_s > STALE_S:
        sentence = f"Nothing new from tmsd for {age_s:.1f} s: all values below are old."
        return Headline(
            "NO DATA", "bold yellow reverse", sentence, "if in doubt, use the hardware stop"
        )
    if guard["state"] == "absent":
        return Headline(
            "NO GUARD", "bold red", "The guard is not running: no pulse can be given.",
            "tmsd restarts it; if it does not come back: journalctl -u tms-guard",
        )  # fmt: skip
    if guard["state"] == "safe":
        step = "remove the cause, then tmsctl acknowledge"
        if session is not None and session["state"] in ("starting", "running", "paused"):
            step += ", then tmsctl session resume"
        return Headline("SAFE", "bold red", "Pulses are off and stay off until acknowledged.", step)
    if not device["connected"]:
        if not device["link"]:
            return Headline("NO LINK", "bold red", f"{_NO_ANSWER}.", "check its power and cable")
        return Headline("NO LINK", "bold red", *parted(device["link"]))
    if session is not None:
        if session["state"] == "running" and session["waiting"]:
            return Headline("WAITING", "bold yellow", "A limit holds the next train back.", "")
        return _OF_SESSION[session["state"]]
    if guard["state"] == "idle":
        return _before_a_session(status)
    return Headline("ARMING", "bold cyan", "The stimulator is being armed and charged.", "")


def _before_a_session(status: Json) -> Headline:
    missing = [] if status["clock_confirmed"] else ["tmsctl ledger confirm-clock"]
    tested = status["self_test"]
    if tested["state"] != "passed" or tested["age_s"] is None or tested["age_s"] > SELF_TEST_S:
        missing.append("tmsctl selftest")
    if missing:
        sentence = "Disarmed; the checks of today are not complete."
        return Headline("IDLE", "bold yellow", sentence, ", then ".join(missing))
    return Headline("READY", "bold green", "Disarmed; a session can be started.", "")


def presence_left(status: Json, age_s: float) -> float | None:
    """Seconds until pulses stop for want of a sign; None while that is far off or not at stake."""
    session = status["session"]
    if session is None or session["state"] not in ("starting", "running"):
        return None
    if session["presence_s"] is None:  # the guard has not spoken of this session yet
        return None
    left_s = max(0.0, PRESENCE_S - session["presence_s"] - age_s)
    return left_s if left_s <= PRESENCE_WARN_S else None


def view(status: Json, age_s: float, place: Place, last: str = "") -> RenderableType:
    """One picture of at most 23 lines and 80 columns. `last`: what the guard did last, and why."""
    head = headline(status, age_s)
    dim = "dim" if age_s > STALE_S else ""
    parts: list[RenderableType] = [
        _title(status),
        Text(),
        Text(giant(head.word), style=head.style),
        Text(),
        _sentence(f"{head.word}: {head.sentence}", "bold", 2),
    ]
    if head.word == "PAUSED" and last:
        parts.append(_sentence(f"why: {last}", "yellow"))
    if head.word == "WAITING":
        parts.append(_sentence(f"why: {status['session']['waiting']}", "yellow", 2))
    if status["session"] is not None:
        parts.append(_progress(status["session"], dim))
    parts.append(_values(status, age_s, dim))
    if status["guard"]["state"] == "safe":
        lost = not status["device"]["connected"]
        if lost:
            parts.append(_sentence(f"no link: {status['device']['link'] or _NO_ANSWER}", "red"))
        parts += _causes(status["guard"]["causes"], 2 if lost else 3)
    if status["journal_error"]:
        parts.append(_sentence(f"journal: {status['journal_error']}", "bold red"))
    if head.next_step:
        parts.append(_sentence(f"next step: {head.next_step}", ""))
    if (left_s := presence_left(status, age_s)) is not None:
        words = f"presence: {place.sign} within {math.ceil(left_s)} s"
        parts.append(_sentence(words, "bold yellow reverse"))
    parts.append(Text(f"{place.keys}\n{NOT_MEDICAL}", style="dim"))
    return Group(*parts)


def line(status: Json, age_s: float) -> str:
    """The same in one line, for a log or a terminal that cannot redraw."""
    session = status["session"]
    head = headline(status, age_s)
    parts = [status["time"], head.word]
    if session is not None:
        parts += [
            f"{session['delivered']}/{session['planned']} pulses",
            f"train {session['train']}/{session['trains']}",
            f"{status['intensity']['planned_mso']} %MSO",
            f"left {clock(session['left_s'])}",
        ]
    parts += [
        f"coil {celsius(status['coil']['temperature_c'])}",
        f"guard {status['guard']['state']}",
    ]
    if head.word == "WAITING":
        parts.append(session["waiting"])
    if (left_s := presence_left(status, age_s)) is not None:
        parts.append(f"presence ends in {math.ceil(left_s)} s")
    parts += [f"{cause['code']}: {cause['detail']}" for cause in status["guard"]["causes"][:1]]
    if age_s > STALE_S:
        parts.append(f"data {age_s:.1f} s old")
    return "  ".join(parts)


def celsius(value: float | None) -> str:
    """A temperature, or "unknown": never a number that was not measured."""
    return "unknown" if value is None else f"{value:.1f} °C"


def clock(seconds: float | None) -> str:
    """Minutes and seconds, rounded up so that 0:00 means over."""
    if seconds is None:
        return "unknown"
    whole = math.ceil(seconds)
    return f"{whole // 60}:{whole % 60:02d}"


def _title(status: Json) -> RenderableType:
    session = status["session"]
    device = f"{status['device']['model']} {status['device']['serial']}".strip()
    if session is None:
        return _row("no session", device or "no stimulator")
    left = f"{session['patient']}   {session['protocol']}"
    return _row(left, f"session {session['id']}   operator {session['operator']}")


def _row(left: str, right: str) -> Table:
    row = Table.grid(expand=True)
    row.add_column(no_wrap=True, overflow="ellipsis", style="bold")
    row.add_column(no_wrap=True, overflow="ellipsis", justify="right")
    row.add_row(left, right)
    return row


def _sentence(text: str, style: str, lines: int = 1) -> Text:
    """So many lines of it at most; an ellipsis where there is more."""
    parts = textwrap.wrap(text, WIDTH - 1)
    shown = [*parts[: lines - 1], " ".join(parts[lines - 1 :])]
    return Text("\n".join(filter(None, shown)), style=style, no_wrap=True, overflow="ellipsis")


def _progress(session: Json, dim: str) -> RenderableType:
    planned, delivered = session["planned"], session["delivered"]
    share = delivered / max(planned, 1)
    words = f"{delivered} / {planned} pulses  {share:.0%}"
    if session["skipped"]:
        words += f"  {session['skipped']} skipped"
    # While a block runs its rest is unknown to the journal; that is no news to anybody.
    if session["unknown"] and session["state"] not in ("starting", "running"):
        words += f"  {session['unknown']} unknown"
    width = WIDTH - 2 - len(words)
    filled = int(width * share)
    return Text(f"{'█' * filled}{'░' * (width - filled)} {words}", style=dim or "bold")


def _values(status: Json, age_s: float, dim: str) -> RenderableType:
    guard, device, session = status["guard"], status["device"], status["session"]
    intensity, coil = status["intensity"], status["coil"]
    rows: list[tuple[str, str, str, str]] = []
    if session is not None:
        train = f"{session['train']} of {session['trains']}"
        planned, realised = intensity["planned_mso"], intensity["realised_mso"]
        rows += [
            ("train", train, "next train", _next_train(session)),
            ("time left", clock(session["left_s"]), "elapsed", clock(session["elapsed_s"])),
            ("planned", f"{planned} %MSO", "realised", f"{realised:.1f} %MSO"),
        ]
    rows += [
        ("coil", celsius(coil["temperature_c"]), "winding", celsius(coil["winding_c"])),
        ("guard", guard["state"].upper(), "timing", _timing(guard)),
        ("device", _device(device), "status", _status_age(device, age_s)),
        ("charge", f"{device['charge_pct']:.0f} %", "counter", f"{device['pulse_count']} pulses"),
    ]
    table = Table.grid(expand=True, padding=(0, 2, 0, 0))
    for width, style in ((9, "dim"), (24, dim or "bold"), (10, "dim"), (None, dim or "bold")):
        table.add_column(width=width, style=style, no_wrap=True, overflow="ellipsis")
    for row in rows:
        table.add_row(*row)
    return table


def _next_train(session: Json) -> str:
    seconds = session["next_train_s"]
    if seconds is None:
        return "unknown" if session["train"] < session["trains"] else "none"
    return "now" if seconds <= 0 else f"in {seconds:.1f} s"


def _timing(guard: Json) -> str:
    late = f"late {guard['late_max_us'] / 1000:.1f} ms, {guard['overruns']} overruns"
    return f"{'DEGRADED' if 'degraded' in guard['timing'] else 'ok'} ({late})"


def _device(device: Json) -> str:
    if not device["connected"]:
        return "NOT CONNECTED"
    return f"{device['state'].upper()}  {device['serial']}"


def _status_age(device: Json, age_s: float) -> str:
    if age_s > STALE_S:
        return f"OLD, {age_s:.1f} s"
    age_ms = device["status_age_ms"]
    return "none" if age_ms is None else f"{age_ms} ms old"


def _causes(causes: list[Json], most: int) -> list[RenderableType]:
    """The first cause first; so many lines as the screen can spare."""
    lines = [
        part
        for cause in causes
        for part in textwrap.wrap(f"cause {cause['code']}: {cause['detail']}", WIDTH - 1)
    ]
    more = [f"... {len(causes)} causes in all: tmsctl status --json"]
    shown = lines if len(lines) <= most else lines[: most - 1] + more
    return [Text(text, style="red") for text in shown]


def giant(word: Word) -> str:
    """The word five lines high, two columns a point."""
    rows = (" ".join(_FONT[letter][row] for letter in word) for row in range(5))
    return "\n".join("".join("██" if point == "#" else "  " for point in row) for row in rows)


_FONT: Final = {
    " ": ("..", "..", "..", "..", ".."),
    "A": (".##.", "#..#", "####", "#..#", "#..#"),
    "D": ("###.", "#..#", "#..#", "#..#", "###."),
    "E": ("####", "#...", "###.", "#...", "####"),
    "F": ("####", "#...", "###.", "#...", "#..."),
    "G": (".###", "#...", "#.##", "#..#", ".###"),
    "I": ("#", "#", "#", "#", "#"),
    "K": ("#..#", "#.#.", "##..", "#.#.", "#..#"),
    "L": ("#...", "#...", "#...", "#...", "####"),
    "M": ("#...#", "##.##", "#.#.#", "#...#", "#...#"),
    "N": ("#..#", "##.#", "#.##", "#..#", "#..#"),
    "O": (".##.", "#..#", "#..#", "#..#", ".##."),
    "P": ("###.", "#..#", "###.", "#...", "#..."),
    "R": ("###.", "#..#", "###.", "#.#.", "#..#"),
    "S": (".###", "#...", ".##.", "...#", "###."),
    "T": ("###", ".#.", ".#.", ".#.", ".#."),
    "U": ("#..#", "#..#", "#..#", "#..#", ".##."),
    "W": ("#...#", "#...#", "#.#.#", "##.##", "#...#"),
    "Y": ("#.#", "#.#", ".#.", ".#.", ".#."),
}
