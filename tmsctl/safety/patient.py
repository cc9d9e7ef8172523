"""Judges a session against what the patient has had already. Pure; the ledger knows the dose."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple, Protocol

from firmware_protocol.quantities import SECOND
from tmsctl.safety.check import Check, judge
from tmsctl.safety.limits import ROWS, Limits


class PatientDose(NamedTuple):
    """What counts for one patient on ledger time. Pulses of unknown outcome are in the numbers."""

    day_pulses: int  # in the 24 h before
    week_pulses: int  # in the 7 days before
    since_last_us: int | None  # since the last pulse of any session; None: there was none


class Pulses(Protocol):
    """What the check needs to know of a plan."""

    @property
    def pulses(self) -> int: ...


CODES: Final = ("day-pulses", "week-pulses", "session-gap")


def patient_checks(
    history: PatientDose | None, plan: Pulses, limits: Limits, exceeds: Mapping[str, int]
) -> tuple[Check, ...]:
    """Pulses of the day and the week with this plan, and the time since the last session.

    `history` None: the ledger cannot say, and every check refuses. `exceeds` is what the protocol
    declares; `limits` are those of the session, with it.
    """
    if history is None or min(history.day_pulses, history.week_pulses) < 0:
        return tuple(_unknown(code) for code in CODES)
    later = "Wait, or ask the physician who prescribes."
    gap_s = None if history.since_last_us is None else history.since_last_us // SECOND
    day, week = history.day_pulses + plan.pulses, history.week_pulses + plan.pulses
    return (
        judge("day-pulses", "pulses_day_max", day, limits, exceeds, later),
        judge("week-pulses", "pulses_week_max", week, limits, exceeds, later),
        judge("session-gap", "session_gap_min_s", gap_s, limits, exceeds, later),
    )


def _unknown(code: str) -> Check:
    return Check(
        code,
        False,
        False,
        "what this patient has had is unknown",
        "See `tmsctl ledger list`.",
        ROWS["pulses_day_max"].verified,
        "the ledger",
    )
