"""Ledger time: how much time has passed between two doses, whatever was done to the wall clock.

While the computer runs, CLOCK_BOOTTIME counts it. What passed while it was switched off only the
wall clock tells, so a person has to confirm the wall clock once after every start of the computer.
A mark keeps that moment on both clocks and in ledger time. Ledger time is in microseconds; it
begins as UTC and then only counts what has passed, so its absolute value means nothing. Pure.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

from tmsctl.records.views import stamp

STEP_MAX_US: Final = 2_000_000
"""The wall clock may move so much against CLOCK_BOOTTIME since it was confirmed (leap seconds,
the first correction by NTP); more is a step, and a person looks at it again. Proposed here; the
reference asks for 1 s, which one leap second uses up."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Mark(NamedTuple):
    """A person found the wall clock right."""

    boot_id: str  # of the start of the computer
    boot_us: int  # CLOCK_BOOTTIME
    utc_us: int  # wall clock, microseconds since 1970
    ledger_us: int


class Reading(NamedTuple):
    """The clocks at one instant."""

    boot_id: str
    boot_us: int
    utc: datetime

    @property
    def utc_us(self) -> int:
        return microseconds(self.utc)


class Moment(NamedTuple):
    """When a row was written: for people, and for counting."""

    utc: datetime
    ledger_us: int
    boot_id: str

    @property
    def at(self) -> str:
        return stamp(self.utc)


def microseconds(moment: datetime) -> int:
    """Since 1970, exactly."""
    return (moment - _EPOCH) // timedelta(microseconds=1)


def ledger_us(mark: Mark | None, now: Reading) -> int:
    """Ledger time by the newest mark; the wall clock only where there is none."""
    if mark is None:
        return now.utc_us
    if mark.boot_id == now.boot_id:
        return mark.ledger_us + now.boot_us - mark.boot_us
    # Of another start: never backwards, and at least as long as the computer has been running.
    return mark.ledger_us + max(now.boot_us, now.utc_us - mark.utc_us)


def marked(before: Mark | None, now: Reading) -> Mark:
    """What it means that a person confirms the wall clock now."""
    return Mark(now.boot_id, now.boot_us, now.utc_us, ledger_us(before, now))


def doubt(mark: Mark | None, now: Reading) -> str:
    """Why a person has to look at the wall clock before the next dose; empty when nobody has to."""
    if mark is None or mark.boot_id != now.boot_id:
        return "Nobody has confirmed the clock since the computer was started."
    stepped_us = (now.utc_us - mark.utc_us) - (now.boot_us - mark.boot_us)
    for way, by_us in (("forward", stepped_us), ("back", -stepped_us)):
        if by_us > STEP_MAX_US:
            return f"The clock was set {way} by {by_us // 1_000_000} s since it was confirmed."
    return ""


def moment(mark: Mark | None, now: Reading) -> Moment:
    """For the rows that are written at this instant."""
    return Moment(now.utc, ledger_us(mark, now), now.boot_id)
