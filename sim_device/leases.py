"""Leases as the device sees them: what one asks for, and whether the device may take it. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from firmware_protocol.tmslink.messages import (
    LEAD_MIN_US,
    Fire,
    Limits,
    Result,
    State,
    Train,
)


@dataclass(slots=True)
class Lease:
    """Pulses that the device times by itself, and how far it has come."""

    lease_id: int
    start_us: int
    expires_us: int
    bursts: int
    burst_period_us: int
    pulses_per_burst: int
    interval_us: int
    mso_pct: int
    kind: str  # "train" or "fire"; cause of its pulses in the ground truth
    place: int = 0  # of the next pulse
    fired: int = 0
    skipped: int = 0

    @property
    def pulses(self) -> int:
        return self.bursts * self.pulses_per_burst

    def due_us(self) -> int:
        """Instant of the next pulse."""
        burst, place = divmod(self.place, self.pulses_per_burst)
        return self.start_us + burst * self.burst_period_us + place * self.interval_us

    def span_us(self) -> int:
        """First pulse to last pulse."""
        last = (self.pulses_per_burst - 1) * self.interval_us
        return (self.bursts - 1) * self.burst_period_us + last

    def gap_min_us(self) -> int | None:
        """Shortest time from pulse to pulse inside it; None for a single pulse."""
        gaps = []
        if self.pulses_per_burst > 1:
            gaps.append(self.interval_us)
        if self.bursts > 1:
            gaps.append(self.burst_period_us - (self.pulses_per_burst - 1) * self.interval_us)
        return min(gaps, default=None)


class Situation(NamedTuple):
    """What the device knows when a lease is asked for."""

    now_us: int
    state: State
    mso_pct: int
    permit_us: int
    newest_lease: int
    last_pulse_us: int | None


def lease_of_train(ask: Train) -> Lease:
    return Lease(*ask, kind="train")


def lease_of_fire(ask: Fire, now_us: int) -> Lease:
    """A start in the past means at once."""
    start_us = max(ask.start_us, now_us)
    return Lease(ask.lease_id, start_us, ask.expires_us, 1, 0, 1, 0, ask.mso_pct, kind="fire")


def judge(lease: Lease, here: Situation, limits: Limits) -> Result:
    """APPLIED when the lease may start, else the first reason against it."""
    if here.state is not State.READY:
        return Result.NOT_CHARGED if here.state is State.ARMING else Result.WRONG_STATE
    if lease.lease_id <= here.newest_lease:
        return Result.LEASE_NOT_NEW
    if lease.pulses < 1 or lease.mso_pct != here.mso_pct:
        return Result.BAD_VALUE
    if lease.expires_us <= lease.start_us:
        return Result.EXPIRED
    if lease.kind == "train" and lease.start_us - here.now_us < LEAD_MIN_US:
        return Result.TOO_LATE
    if lease.start_us <= here.now_us and here.permit_us < here.now_us:
        return Result.NO_PERMIT
    gap_us = lease.gap_min_us()
    since_last_us = None if here.last_pulse_us is None else lease.start_us - here.last_pulse_us
    for shortest in (gap_us, since_last_us):
        if shortest is not None and shortest < limits.interval_min_us:
            return Result.ABOVE_LIMIT
    if lease.pulses > limits.lease_pulses_max or lease.span_us() > limits.lease_max_us:
        return Result.ABOVE_LIMIT
    return Result.APPLIED
