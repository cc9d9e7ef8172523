"""Where the live state goes: a terminal, a plain log, or JSON lines."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, Protocol

from rich.console import Console
from rich.live import Live

from tmsctl.cli import live

Json = dict[str, Any]

LINE_EVERY_S: Final = 1.0


class Show(Protocol):
    """One way to show a session while it runs."""

    def status(self, status: Json, age_s: float) -> None:
        """The newest state, about ten times a second; `age_s` since it arrived."""

    def event(self, event: Json) -> None:
        """Something happened, said once."""


class Once:
    """True when something begins, not while it lasts."""

    def __init__(self) -> None:
        self._lasts = False

    def begins(self, lasts: bool) -> bool:
        before, self._lasts = self._lasts, lasts
        return lasts and not before


class Screen:
    """A picture that is redrawn in place."""

    def __init__(self, display: Live, place: live.Place) -> None:
        self._display, self._place = display, place
        self._asking = Once()
        self._last = ""

    def status(self, status: Json, age_s: float) -> None:
        picture = live.view(status, age_s, self._place, self._last)
        self._display.update(picture, refresh=True)
        asks = live.presence_left(status, age_s) is not None
        if self._asking.begins(asks) and self._place is live.STATION:
            self._display.console.bell()

    def event(self, event: Json) -> None:
        """The guard's newest change is remembered; the list of all events is in the record."""
        if event["kind"] == "transition":
            self._last = f"{event['code']}: {event['detail']}"


class Log:
    """One line a second, one when the giant word changes, and one for every event."""

    def __init__(self) -> None:
        self._next_at = 0.0
        self._word = ""

    def status(self, status: Json, age_s: float) -> None:
        now, word = time.monotonic(), live.headline(status, age_s).word
        if now >= self._next_at or word != self._word:
            self._next_at, self._word = now + LINE_EVERY_S, word
            print(live.line(status, age_s), flush=True)

    def event(self, event: Json) -> None:
        print(f"{event['time']}  {event['kind']}  {event['code']}: {event['detail']}", flush=True)


class JsonEvents:
    """Every event as one JSON object a line, and once when a sign of presence is due."""

    def __init__(self) -> None:
        self._asking = Once()

    def status(self, status: Json, age_s: float) -> None:
        """The state is for people; a program that runs a session reads events and the record."""
        left_s = live.presence_left(status, age_s)
        if self._asking.begins(left_s is not None):
            print_json({"presence": {"left_s": left_s}})

    def event(self, event: Json) -> None:
        print_json({"event": event})


class JsonStates(JsonEvents):
    """Every state as well."""

    def status(self, status: Json, age_s: float) -> None:
        print_json({"status": status, "age_s": round(age_s, 3)})


@contextmanager
def opened(place: live.Place) -> Iterator[Show]:
    """For people: a picture on a terminal, lines elsewhere."""
    if not sys.stdout.isatty():
        yield Log()
        return
    with Live(console=console(), auto_refresh=False) as display:
        yield Screen(display, place)


def console() -> Console:
    """Standard output for text that may hold brackets: data are never markup."""
    return Console(markup=False, highlight=False, emoji=False)


def print_json(body: Json) -> None:
    """One JSON object on one line of standard output."""
    print(json.dumps(body), flush=True)
