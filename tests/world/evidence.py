"""What a judge may read: one story as plain data, and a few ways to look at it.

All instants ending in `at_us` or `until_us` are true time; `t_us` of a line is the device's clock.
No judge imports anything of the program that it judges, so nothing here does either.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, TypedDict

MS: Final = 1_000
SECOND: Final = 1_000_000
HOUR: Final = 3_600 * SECOND

Line = dict[str, Any]


class Evidence(TypedDict):
    """Everything about one story. Texts, numbers, bytes, lists and tables of these."""

    seed: int
    quiet: bool  # nothing was injected: all that is asked must be granted
    from_us: int
    until_us: int
    calm_from_us: int  # from here on nothing is injected any more
    needs_recovery: bool  # did the story mean to go on until somebody could start again
    serial: str  # of the device
    lines: list[Line]  # ground truth from inside the device's physics
    heard: list[tuple[Any, ...]]  # (at_us, t_us, name, session, sequence, values) acted upon
    written: list[tuple[int, bytes]]  # what the host put on the wire, and when
    hazards: list[Line]  # what was done to the world: what, at_us, until_us
    asks: list[Line]  # what people asked: what, at_us, answer, answered_us, wanted
    guards: list[Line]  # lives of guard processes: pid, from_us, until_us
    sessions: list[Line]  # what was granted: number, at_us, patient, pattern, exceeds, ...
    coil: dict[str, float]  # cooled, room_c, start_c, heat_share
    general: dict[str, int]  # the limits as shipped, by name
    soft: dict[str, int]  # those that hold unless a person gave a reason
    site: dict[str, int]  # those that this site has tightened
    ledger: dict[str, list[Line]]  # rows of the journal, by table
    intents_at: list[int]  # when each row of `intents` was on disk


INTENDED: Final = ("train", "fire")
"""Causes of pulses that the host commanded; every other pulse is a fault of the device."""


def intended(e: Evidence) -> list[Line]:
    """Pulses that somebody commanded, in order."""
    return [x for x in e["lines"] if x["event"] == "pulse" and x["cause"] in INTENDED]


def events(e: Evidence, *names: str) -> Iterator[Line]:
    return (line for line in e["lines"] if line["event"] in names)


def injected(e: Evidence, *kinds: str) -> list[Line]:
    """Beginnings of device faults of these kinds."""
    return [
        line for line in events(e, "injected") if line["kind"] in kinds and line.get("on", True)
    ]


def session_of(e: Evidence, at_us: int) -> Line | None:
    """The session that was granted last before this instant."""
    found = None
    for session in e["sessions"]:
        if session["at_us"] > at_us:
            break
        found = session
    return found


def by_session(e: Evidence) -> list[tuple[Line, list[Line]]]:
    """Sessions in order, each with its pulses."""
    pulses = iter(intended(e))
    pulse = next(pulses, None)
    found: list[tuple[Line, list[Line]]] = []
    for session, after in zip(e["sessions"], [*e["sessions"], None][1:], strict=True):
        mine = []
        while pulse is not None and (after is None or pulse["at_us"] < after["at_us"]):
            mine.append(pulse)
            pulse = next(pulses, None)
        found.append((session, mine))
    return found


def limit(e: Evidence, session: Line | None, name: str) -> int:
    """In force for this session: a site's own value stands, else what its protocol may exceed."""
    exceeds: dict[str, int] = {} if session is None else session["exceeds"]
    value = e["site"].get(name, exceeds.get(name, e["general"][name]))
    if name not in e["soft"] or name in exceeds or (session is not None and session["reason"]):
        return value
    stricter = max if "_min_" in name else min
    return stricter(value, e["soft"][name])


def offsets(pattern: Line) -> list[int]:
    """Planned instants of all pulses, the first at 0."""
    return [
        train * pattern["train_period_us"]
        + burst * pattern["burst_period_us"]
        + place * pattern["interval_us"]
        for train in range(pattern["trains"])
        for burst in range(pattern["bursts_per_train"])
        for place in range(pattern["pulses_per_burst"])
    ]


def clock(at_us: int) -> str:
    """An instant for people."""
    return f"{at_us / SECOND:.6f} s"
