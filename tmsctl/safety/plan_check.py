"""Judges a whole pulse plan against the limits before anything is armed. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import NamedTuple, Protocol

from firmware_protocol.quantities import PercentMso
from tmsctl.safety.dose import WINDOWS_US, peak
from tmsctl.safety.limits import Limits


class TrainView(Protocol):
    """What the check needs to know of a train."""

    @property
    def onset_us(self) -> int: ...
    @property
    def bursts(self) -> int: ...
    @property
    def burst_period_us(self) -> int: ...
    @property
    def pulses_per_burst(self) -> int: ...
    @property
    def interval_us(self) -> int: ...
    @property
    def span_us(self) -> int: ...


class PlanView(Protocol):
    """What the check needs to know of a plan."""

    @property
    def mso(self) -> PercentMso: ...
    @property
    def mt_permille(self) -> int: ...
    @property
    def trains(self) -> Sequence[TrainView]: ...
    @property
    def pulses(self) -> int: ...
    @property
    def span_us(self) -> int: ...


class Check(NamedTuple):
    """One limit, judged. `detail` holds the two numbers compared."""

    code: str
    ok: bool
    detail: str
    next_step: str


CLOCK_GRACE_US = 5_000
"""What a train may seem longer than planned, because two clocks are compared."""


def check_plan(plan: PlanView, limits: Limits) -> tuple[Check, ...]:
    """Every limit that a plan can break, in the order in which people read it."""
    times = [
        train.onset_us + burst * train.burst_period_us + place * train.interval_us
        for train in plan.trains
        for burst in range(train.bursts)
        for place in range(train.pulses_per_burst)
    ]
    gaps = [later - earlier for earlier, later in pairwise(times)]
    train_gaps = [
        after.onset_us - (before.onset_us + before.span_us)
        for before, after in pairwise(plan.trains)
    ]
    longest = max(train.span_us for train in plan.trains)
    choose = "Choose another protocol, or ask the physician who owns it."
    lower = "Lower the intensity or measure the motor threshold again."
    ceiling_mt = limits.mt_max_pct * plan.mt_permille  # in 1/1000 %MSO
    return (
        _most("ceiling-mso", "%MSO", plan.mso.value, limits.mso_max_pct, lower),
        Check(
            "ceiling-mt",
            1_000 * plan.mso.value <= ceiling_mt,
            f"{plan.mso} is {100_000 * plan.mso.value // plan.mt_permille / 100} % of the motor "
            f"threshold, at most {limits.mt_max_pct} % allowed",
            lower,
        ),
        _least("interval", "us between pulses", gaps, limits.interval_min_us, choose),
        _most("rate-1s", "pulses in 1 s", peak(times, WINDOWS_US[0]), limits.pulses_1s_max, choose),
        _most("rate-60s", "pulses in 60 s", peak(times, WINDOWS_US[1]), limits.pulses_60s_max,
              choose),
        _most("train-length", "us in a train", longest, limits.train_us_max, choose),
        _least("train-gap", "us between trains", train_gaps, limits.train_gap_min_us, choose),
        _most("session-pulses", "pulses", plan.pulses, limits.session_pulses_max, choose),
        _most("session-length", "us", plan.span_us, limits.session_us_max, choose),
    )  # fmt: skip


def tightened(limits: Limits, plan: PlanView) -> Limits:
    """Layer (c): a session may do what its plan does, and no more."""
    longest = max(train.span_us for train in plan.trains)
    return replace(
        limits,
        mso_max_pct=min(limits.mso_max_pct, plan.mso.value),
        train_us_max=min(limits.train_us_max, longest + CLOCK_GRACE_US),
        session_pulses_max=min(limits.session_pulses_max, plan.pulses),
    )


def _most(code: str, unit: str, value: int, limit: int, next_step: str) -> Check:
    return Check(code, value <= limit, f"{value} {unit}, at most {limit} allowed", next_step)


def _least(code: str, unit: str, values: Sequence[int], limit: int, next_step: str) -> Check:
    if not values:
        return Check(code, True, f"nothing to compare, at least {limit} {unit} needed", "")
    value = min(values)
    return Check(code, value >= limit, f"{value} {unit}, at least {limit} needed", next_step)
