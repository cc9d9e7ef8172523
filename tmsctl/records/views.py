"""What is read from the journal, in the shapes of the API."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

State = Literal["starting", "running", "paused", "complete", "stopped", "interrupted"]
Kind = Literal["transition", "session", "refused", "guard", "device", "ledger"]


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
    mt_method: str  # emg or visual
    soft_limits: str  # codes of those that it exceeds, separated by spaces
    reason: str  # why a person exceeds them
    self_test: int | None  # number of the one that allowed it


@dataclass(frozen=True, slots=True)
class Totals:
    """Pulses of a session."""

    delivered: int = 0  # confirmed
    skipped: int = 0
    resolved: int = 0  # that a person counts as delivered
    doubtful: int = 0  # of blocks whose outcome the guard could not learn
    open_pulses: int = 0  # of intents without an outcome yet

    @property
    def unknown(self) -> int:
        """They may have left the coil, so they count as delivered."""
        return self.doubtful + self.open_pulses

    @property
    def counted(self) -> int:
        """What every dose limit counts."""
        return self.delivered + self.resolved + self.unknown


@dataclass(frozen=True, slots=True)
class Event:
    """Something that a person may want to know. `session` is None where none is concerned."""

    time: str
    kind: Kind
    code: str
    detail: str
    session: int | None


@dataclass(frozen=True, slots=True)
class Resolution:
    """What a person says of a block whose outcome nobody knows."""

    delivered: int  # pulses of the block
    operator: str
    reason: str
    at: str


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
    resolution: Resolution | None


@dataclass(frozen=True, slots=True)
class Unresolved:
    """A block whose outcome nobody knows; it counts in full."""

    session: int
    block: int
    patient: str
    operator: str
    protocol: str
    intent_at: str
    pulses: int
    confirmed: int  # of them the device confirmed
    suggests: int | None  # delivered, by the device's counter; None: it cannot be told
    why: str  # what ended it


@dataclass(frozen=True, slots=True)
class SelfTestRecord:
    """A self-test that is on disk."""

    at: str
    detail: str


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
    mt_method: str  # emg or visual; empty: recorded by a version that did not ask
    pct_mt: int
    mso: int
    reduced: bool
    soft_limits: list[str]  # codes of those that it exceeds
    reason: str
    planned: int
    delivered: int
    skipped: int
    resolved: int
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

    self_test: SelfTestRecord | None  # the one that allowed it
    blocks: list[Block]
    events: list[Event]
