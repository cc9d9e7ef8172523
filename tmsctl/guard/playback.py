"""Where the loaded plan stands: position, time line, the block under way and the one after it."""

from __future__ import annotations

from dataclasses import dataclass, field

from drivers.contract import PulseBlock
from firmware_protocol.quantities import MS, BootUs
from tmsctl.ipc.messages import Session
from tmsctl.safety.dose import PulseTimes
from tmsctl.safety.limits import Limits
from tmsctl.stimulation.plan import Plan, Slice

CLOCK_ERROR_US = 2 * MS
"""What the device's clock may be off by, as the driver estimates it."""

START_AFTER_US = 100 * MS
"""From ready, or from a missed moment, to the next first pulse, beyond the driver's lead."""


@dataclass(slots=True)
class Intent:
    """A block that needs a durable intent, and what became of it. It may shrink, never grow."""

    block_id: int
    first_pulse: int  # as written on disk
    pulses: int
    slice: Slice  # what is still to be fired of it
    granted: bool = False
    skipped: int = 0  # pulses that were late before any was handed over


@dataclass(slots=True)
class OpenBlock:
    """A block that was handed to the device and has not ended."""

    intent: Intent
    block: PulseBlock
    start_at: BootUs
    sent_at: BootUs
    ticket: int
    places: list[int] = field(default_factory=list)  # pulses seen; at most the block's
    unresolved_since: BootUs | None = None
    refused: str = ""  # what the device answered, until it is read back
    absent: int = 0  # pulses that were due and have not left
    counted: int | None = None  # what the device's counter showed with the newest report

    @property
    def end_at(self) -> BootUs:
        return BootUs(self.start_at + self.block.span_us)

    def due_by(self, now: BootUs) -> int:
        """Pulses that can have left by now, clock error allowed for."""
        block, passed = self.block, now + CLOCK_ERROR_US - self.start_at
        if passed < 0:
            return 0
        bursts = passed // block.burst_period_us if block.bursts > 1 else 0
        if bursts >= block.bursts:
            return block.pulses
        per, rest = block.pulses_per_burst, passed - bursts * block.burst_period_us
        begun = 1 if per == 1 else min(per, rest // block.interval_us + 1)
        return bursts * per + begun


@dataclass(slots=True)
class Playback:
    """One loaded plan. Positions are places in the plan, from 0."""

    plan: Plan
    session_no: int
    limits: Limits  # of this session, all layers joined
    position: int  # next pulse to hand over
    lease_max_us: int
    pulses_max: int
    lead_us: int
    sent: PulseTimes  # all pulses that the guard has sent, on our clock; outlives the plan
    day_pulses: int  # of the patient before this session, by the ledger
    week_pulses: int
    count_at_load: tuple[int, int]  # readings of the device's counter that fitted the ledger
    running: bool = False
    first_pulse: int = field(init=False)  # position at loading
    delivered: int = 0  # since loading, unknown ones counted in full
    confirmed: int = 0  # since loading, for certain
    skipped: int = 0
    origin: BootUs | None = None  # planned time 0 on our clock; None until armed
    ask_at: int = 0  # not before this for a permit
    waiting: str = ""  # CODE: why the next block is held back
    keeps_rhythm: bool = False  # a block has run since the time line was laid
    since: BootUs | None = None  # first arming
    open: OpenBlock | None = None
    intent: Intent | None = None  # of the block after the one under way

    def __post_init__(self) -> None:
        self.first_pulse = self.position

    @property
    def session(self) -> Session:
        if self.complete:
            return Session.COMPLETE
        return Session.RUNNING if self.running else Session.LOADED

    @property
    def complete(self) -> bool:
        return self.position >= self.plan.pulses and self.open is None

    @property
    def reached(self) -> int:
        """Place of the next pulse, counting those of the running block."""
        return self.position + (len(self.open.places) if self.open else 0)

    @property
    def next_pulse(self) -> int:
        """First pulse after the block under way, if that one runs to its end."""
        return self.position + (self.open.block.pulses if self.open else 0)

    def slice_at(self, pulse: int) -> Slice:
        return self.plan.slice_at(pulse, self.lease_max_us, self.pulses_max)

    def due(self, piece: Slice) -> BootUs:
        """Planned time of a block's first pulse on our clock."""
        assert self.origin is not None
        return BootUs(self.origin + piece.onset_us)

    def lay_time_line(self, now: BootUs) -> None:
        """Set the origin so that the next pulse comes soon, and never sooner than planned.

        The planned distance to the pulse before is kept; if its time is unknown, it counts as now.
        """
        earliest = now + self.lead_us + START_AFTER_US
        if self.position > 0:
            gap_us = self.plan.at_us(self.position) - self.plan.at_us(self.position - 1)
            newest = self.sent.newest
            earliest = max(earliest, (now if newest is None else newest) + gap_us)
        self.origin = BootUs(earliest - self.plan.at_us(self.position))
        self.keeps_rhythm = False

    def is_late(self, piece: Slice, now: BootUs) -> bool:
        return now > self.due(piece) - self.lead_us

    def make_up_for_lateness(self, intent: Intent, now: BootUs) -> None:
        """Shift the rest of the plan, or skip inside a train.

        A train that has not begun begins later, with all that follows: no interval gets shorter.
        Inside a train the rhythm stays, and what is late is left out; nothing is ever bunched.
        """
        piece = intent.slice
        assert self.origin is not None
        if piece.starts_train or not self.keeps_rhythm:
            late_us = now + self.lead_us + START_AFTER_US - self.due(piece)
            self.origin = BootUs(self.origin + late_us)
            return
        end, at = piece.first_pulse + piece.pulses, piece.first_pulse
        while at < end and self.origin + self.plan.at_us(at) < now + self.lead_us:
            at += piece.pulses_per_burst
        late = at - piece.first_pulse
        self.position = at
        self.skipped += late
        intent.skipped += late
        if at < end:
            intent.slice = self.plan.slice_at(at, self.lease_max_us, end - at)

    def left_us(self, now: BootUs) -> int:
        """Until the last pulse; while no time line is laid, the planned rest."""
        if self.complete:
            return 0
        end_us = self.plan.span_us
        if self.origin is None or not self.running:
            return end_us - self.plan.at_us(min(self.reached, self.plan.pulses - 1))
        return max(0, self.origin + end_us - now)

    def next_in_us(self, now: BootUs) -> int:
        """Until the next block begins: 0 while one runs, -1 when unknown."""
        if self.open is not None:
            return max(0, self.open.start_at - now)
        if self.origin is None or self.complete or not self.running:
            return -1
        return max(0, self.origin + self.plan.at_us(self.position) - now)
