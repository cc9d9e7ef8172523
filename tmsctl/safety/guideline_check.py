"""Judges the trains of a plan by the published tables. Pure.

A pattern of fast bursts is judged by the theta-burst rules, everything else by the tables of
trains. A library protocol may exceed both where its file says so, but only when the motor
threshold was measured by EMG: the tables, and the trials behind the exceptions, are about that one.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from itertools import pairwise
from typing import Final, NamedTuple

from tmsctl.safety import guidelines as g
from tmsctl.safety.check import Check
from tmsctl.safety.limits import Limits
from tmsctl.safety.plan_view import PlanView, TrainView

TABLES_SOURCE: Final = "; ".join(table.source for table in g.TABLES)
_CHOOSE: Final = (
    "Choose another protocol or a lower intensity, or measure the motor threshold by EMG."
)


def pct_mt_of(plan: PlanView) -> Fraction:
    """Intensity that would be delivered, % of motor threshold. Exact."""
    return Fraction(1_000 * plan.mso.value, plan.mt_permille)


def train_on_us(train: TrainView) -> int:
    """Length with the whole last period, as the tables count it; the longer of two readings."""
    last_us = shortest_interval_us(train) or 0
    return max(train.bursts * train.burst_period_us, train.span_us + last_us)


def shortest_interval_us(train: TrainView) -> int | None:
    """Between two neighbouring pulses of a train; None where there is one pulse."""
    gaps = []
    if train.pulses_per_burst > 1:
        gaps.append(train.interval_us)
    if train.bursts > 1:
        burst_span_us = (train.pulses_per_burst - 1) * train.interval_us
        gaps.append(train.burst_period_us - burst_span_us)
    return min(gaps, default=None)


def train_bounds(
    train: TrainView, interval_us: int, alone: bool, pct_mt: Fraction, by_emg: bool
) -> g.TrainLimit:
    """Longest allowed train of this kind. `alone`: the plan has no other."""
    if not g.is_theta(train.pulses_per_burst, train.interval_us):
        return g.train_limit(interval_us, pct_mt, by_emg)
    if alone and g.felt_pct(pct_mt, by_emg) <= g.THETA_CONTINUOUS_MAX_PCT:
        return g.TrainLimit(g.THETA_CONTINUOUS_MAX_US, None)
    return g.TrainLimit(g.THETA_TRAIN_MAX_US, None)


def beyond_table_us(train: TrainView, alone: bool, pct_mt: Fraction) -> int:
    """Length of a train that needs an exception even with EMG; 0: it needs none."""
    interval_us, on_us = shortest_interval_us(train), train_on_us(train)
    if interval_us is None:
        return 0
    bounds = train_bounds(train, interval_us, alone, pct_mt, by_emg=True)
    known = [bound for bound in bounds if bound is not None]
    return 0 if known and on_us <= min(known) else on_us


_INSIDE, _SOFT, _REFUSED = range(3)


class _Judged(NamedTuple):
    """One train; the greatest is the worst."""

    severity: int
    on_us: int
    bound_us: int
    why: str


def guideline_train(plan: PlanView, limits: Limits, by_emg: bool) -> Check:
    """Length of each train by frequency and intensity."""
    pct, alone = pct_mt_of(plan), len(plan.trains) == 1
    beyond_us = limits.beyond_table_us_max if by_emg else 0
    judged = [
        _judge(train, interval_us, alone, pct, by_emg, beyond_us)
        for train in plan.trains
        if (interval_us := shortest_interval_us(train)) is not None
    ]
    severity, detail = _INSIDE, "nothing to compare: no train has two pulses"
    if judged:
        severity, on_us, bound_us, why = max(judged)
        at = f"{float(pct):.2f} % of the motor threshold measured by {'EMG' if by_emg else 'eye'}"
        detail = f"{on_us} us in a train at {at}, at most {bound_us} allowed{why}"
    return Check(
        "guideline-train", severity == _INSIDE, severity == _SOFT, detail, _CHOOSE, g.VERIFIED,
        TABLES_SOURCE,
    )  # fmt: skip


def _judge(
    train: TrainView, interval_us: int, alone: bool, pct: Fraction, by_emg: bool, beyond_us: int
) -> _Judged:
    bounds, on_us = train_bounds(train, interval_us, alone, pct, by_emg), train_on_us(train)
    known = [bound for bound in bounds if bound is not None]
    if not known:
        return _Judged(_REFUSED, on_us, 0, f": no table covers pulses every {interval_us} us")
    if on_us <= min(known):
        return _Judged(_INSIDE, on_us, min(known), "")
    if on_us <= beyond_us:
        return _Judged(_INSIDE, on_us, beyond_us, f" by the protocol, {min(known)} by the tables")
    if bounds.hard_us is None or on_us <= bounds.hard_us:
        return _Judged(_SOFT, on_us, min(known), " without a second confirmation")
    return _Judged(_REFUSED, on_us, bounds.hard_us, "")


def guideline_iti(plan: PlanView, by_emg: bool, exceeds: Mapping[str, int]) -> Check:
    """Off-time between trains, read as the shorter of both readings: from the end of the last
    period. A protocol that exceeds `train_gap_min_us` is judged by that limit instead."""
    pct = pct_mt_of(plan)
    found = []
    for before, after in pairwise(plan.trains):
        theta = g.is_theta(before.pulses_per_burst, before.interval_us)
        needed_us = g.THETA_OFF_MIN_US if theta else g.iti_min_us(pct, by_emg)
        off_us = after.onset_us - before.onset_us - train_on_us(before)
        found.append((off_us - needed_us, off_us, needed_us))
    ok, detail = True, "nothing to compare: there is one train"
    if found:
        spare_us, off_us, needed_us = min(found)
        exceeded = by_emg and "train_gap_min_us" in exceeds
        ok = exceeded or spare_us >= 0
        why = ", which the protocol exceeds" if exceeded else ""
        detail = f"{off_us} us off between trains, at least {needed_us} needed{why}"
    source = f"{g.ITI_SOURCE}; {g.THETA_SOURCE}"
    return Check("guideline-iti", ok, False, detail, _CHOOSE, g.VERIFIED, source)


def theta_burst(plan: PlanView, by_emg: bool, exceeds: Mapping[str, int]) -> Check:
    """The pattern of theta burst, whose trains and intervals the other two checks judge."""
    trains = [t for t in plan.trains if g.is_theta(t.pulses_per_burst, t.interval_us)]
    felt = g.felt_pct(pct_mt_of(plan), by_emg)
    faults = []
    for train in trains:
        most = g.THETA_PULSES_PER_BURST_MAX
        if train.pulses_per_burst > most:
            faults.append(f"{train.pulses_per_burst} pulses in a burst, at most {most} allowed")
        least = g.THETA_INTERVAL_MIN_US
        if train.interval_us < least and not (by_emg and "interval_min_us" in exceeds):
            faults.append(f"{train.interval_us} us inside a burst, at least {least} needed")
        least = g.THETA_BURST_PERIOD_MIN_US
        if train.bursts > 1 and train.burst_period_us < least:
            faults.append(
                f"{train.burst_period_us} us from burst to burst, at least {least} needed"
            )
    if trains and felt > g.THETA_MAX_PCT:
        eye = "" if by_emg else f", {g.COLUMN_PCT} % more for a threshold measured by eye"
        faults.append(
            f"{float(felt):.2f} % of the motor threshold{eye}, at most {g.THETA_MAX_PCT} allowed"
        )
    if trains and plan.pulses > g.THETA_SESSION_PULSES_MAX:
        faults.append(
            f"{plan.pulses} pulses of theta burst, at most {g.THETA_SESSION_PULSES_MAX} allowed"
        )
    detail = faults[0] if faults else f"{len(trains)} trains with fast bursts, 0 break a rule"
    return Check("theta-burst", not faults, False, detail, _CHOOSE, g.VERIFIED, g.THETA_SOURCE)
