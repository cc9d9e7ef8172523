"""What is read from the journal, in the shapes of the API."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

State = Literal["starting", "running", "paused", "complete", "stopped", "interrupted"]
Kind = Literal["transition", "session", "refused", "guard", "device"]


def stamp(moment: datetime) -> str:
    """UTC in fixed width, so that text order is time order."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


@dataclass(frozen=True, slots=True)
class NewSession:
    """What is known about a session before its first pulse."""

    patient: str
    operator: str
    protocol: str
    protocol_hash: str
    plan_hash: str
    mt_permille: int
    pct_mt: int
    mso: int
    reduced: bool
    planned: int
    model: str
    serial: str
    boot_count: int
    count_before: int


@dataclass(frozen=True, slots=True)
class Totals:
    """Pulses of a session, or of a patient."""

    delivered: int = 0  # confirmed
    skipped: int = 0
    doubtful: int = 0  # of blocks whose outcome the guard could not learn
    open_pulses: int = 0  # of intents without an outcome yet

    @property
    def unknown(self) -> int:
        """They may have left the coil, so they count as delivered."""
        return self.doubtful + self.open_pulses

    @property
    def counted(self) -> int:
        """What every dose limit counts."""
        return self.delivered + self.unknown


@dataclass(frozen=True, slots=True)
class Event:
    """Something that a person may want to know. `session` is None where none is concerned."""

    time: str
    kind: Kind
    code: str
    detail: str
    session: int | None


@dataclass(frozen=True, slots=True)
class Block:
    """An intent and what became of it."""

    block: int  # the guard's number
    first_pulse: int
    pulses: int
    intent_at: str
    outcome: Literal["applied", "refused", "unknown", "open"]
    delivered: int
    skipped: int
    why: str


@dataclass(frozen=True, slots=True)
class DeviceCounts:
    """Which device, and its own pulse counter before and after; None where nobody could ask."""

    model: str
    serial: str
    boot_count: int
    count_before: int
    count_after: int | None


@dataclass(frozen=True, slots=True)
class Summary:
    """One session on record, without its blocks and events."""

    id: int
    patient: str
    operator: str
    protocol: str
    protocol_hash: str
    plan_hash: str
    mt: float  # %MSO
    pct_mt: int
    mso: int
    reduced: bool
    planned: int
    delivered: int
    skipped: int
    unknown: int
    state: State
    started_at: str
    ended_at: str | None
    end_code: str | None
    device: DeviceCounts
    temperature_max_c: float | None  # coil surface
    journal: str


@dataclass(frozen=True, slots=True)
class Record(Summary):
    """One session on record, whole."""

    blocks: list[Block]
    events: list[Event]
