"""Judges a whole pulse plan against the limits before anything is armed. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from math import ceil
from typing import Final

from tmsctl.safety.check import Check, judge
from tmsctl.safety.dose import WINDOWS_US, peak, pulse_energy_uj
from tmsctl.safety.guideline_check import guideline_iti, guideline_train, theta_burst
from tmsctl.safety.limits import ROWS, Limits
from tmsctl.safety.plan_view import PlanView

CLOCK_GRACE_US = 5_000
"""What a train may seem longer than planned, because two clocks are compared."""

_CHOOSE: Final = "Choose another protocol, or ask the physician who owns it."
_LOWER: Final = "Lower the intensity or measure the motor threshold again."


def check_plan(
    plan: PlanView,
    limits: Limits,
    recharge_us: int | None,
    by_emg: bool,
    exceeds: Mapping[str, int],
    reviewer: str,
) -> tuple[Check, ...]:
    """Every limit that a plan can break, in the order in which people read it.

    `limits` are those of the session, with what the protocol `exceeds`; `reviewer` is the
    clinician of its file, empty when there is none. `by_emg`: the motor threshold was measured by
    EMG; by eye it reads too high, and stricter rules hold. `recharge_us` is the connected device's,
    from pulse to pulse at the plan's intensity; None while none has answered: then that check is
    left to the guard, which loads no plan without a device.
    """
    times = pulse_times(plan)

    def most(code: str, name: str, value: int | None, next_step: str = _CHOOSE) -> Check:
        return judge(code, name, value, limits, exceeds, next_step)

    shortest = min((later - earlier for earlier, later in pairwise(times)), default=None)
    gaps = (
        after.onset_us - (before.onset_us + before.span_us)
        for before, after in pairwise(plan.trains)
    )
    longest = max(train.span_us for train in plan.trains)
    each = pulse_energy_uj(plan.mso.value)
    in_1s, in_60s = (peak(times, window_us) for window_us in WINDOWS_US)
    energy_j = ceil(Fraction(each * in_60s, 1_000_000))
    return (
        most("ceiling-mso", "mso_max_pct", plan.mso.value, _LOWER),
        _ceiling_mt(plan, limits),
        most("interval", "interval_min_us", shortest),
        _recharge(plan, shortest, recharge_us),
        most("rate-1s", "pulses_1s_max", in_1s),
        most("rate-60s", "pulses_60s_max", in_60s),
        most("energy", "energy_60s_max_j", energy_j, _LOWER),
        most("train-length", "train_us_max", longest),
        guideline_train(plan, limits, by_emg),
        most("train-gap", "train_gap_min_us", min(gaps, default=None)),
        guideline_iti(plan, by_emg, exceeds),
        theta_burst(plan, by_emg, exceeds),
        _train_rest(times, each, limits),
        most("session-pulses", "session_pulses_max", plan.pulses),
        most("session-length", "session_us_max", plan.span_us),
        _not_reviewed(exceeds, reviewer),
    )


def pulse_times(plan: PlanView) -> list[int]:
    """Planned time of every pulse, from the first one."""
    return [
        train.onset_us + burst * train.burst_period_us + place * train.interval_us
        for train in plan.trains
        for burst in range(train.bursts)
        for place in range(train.pulses_per_burst)
    ]


def _ceiling_mt(plan: PlanView, limits: Limits) -> Check:
    row = ROWS["mt_max_pct"]
    return Check(
        "ceiling-mt",
        1_000 * plan.mso.value <= limits.mt_max_pct * plan.mt_permille,  # without division
        False,
        f"{plan.mso} is {100_000 * plan.mso.value // plan.mt_permille / 100} % of the motor "
        f"threshold, at most {limits.mt_max_pct} % allowed",
        _LOWER,
        row.verified,
        row.source,
    )


def _recharge(plan: PlanView, shortest: int | None, needed: int | None) -> Check:
    source = "the connected device's own word"
    if shortest is None:
        detail = "nothing to compare without two pulses"
    elif needed is None:
        detail = f"{shortest} us between pulses; the guard compares it with the device's time"
    else:
        detail = f"{shortest} us between pulses, at least {needed} needed to recharge at {plan.mso}"
        return Check("recharge", shortest >= needed, False, detail, _LOWER, True, source)
    return Check("recharge", True, False, detail, "", True, source)


def _train_rest(times: Sequence[int], each_uj: int, limits: Limits) -> Check:
    """Mean power over each train and the rest after it, as the gate judges it."""
    row = ROWS["power_max_w"]
    worst = Fraction(0)
    started = 0
    for index, (before, at) in enumerate(pairwise(times), 1):
        if at - before >= limits.train_rest_min_us:
            worst = max(worst, Fraction((index - started) * each_uj, at - times[started]))
            started = index
    shown_w = ceil(10 * worst) / 10  # never shown as kept when it is not
    detail = f"{shown_w} W over a train and its rest, at most {limits.power_max_w} allowed"
    ok = worst <= limits.power_max_w
    return Check("train-rest", ok, False, detail, _LOWER, row.verified, row.source)


def _not_reviewed(exceeds: Mapping[str, int], reviewer: str) -> Check:
    names = ", ".join(exceeds)
    if not exceeds:
        detail = "the protocol exceeds 0 general limits, so 0 reviewers are needed"
    else:
        detail = f"reviewer of a file that exceeds {names}: {reviewer or 'none, 1 needed'}"
    ok = not exceeds or bool(reviewer.strip())
    return Check("not-reviewed", ok, not ok, detail, _CHOOSE, True, "the protocol file")


def tightened(limits: Limits, plan: PlanView) -> Limits:
    """Layer (c): a session may do what its plan does, and no more."""
    longest = max(train.span_us for train in plan.trains)
    return replace(
        limits,
        mso_max_pct=min(limits.mso_max_pct, plan.mso.value),
        train_us_max=min(limits.train_us_max, longest + CLOCK_GRACE_US),
        session_pulses_max=min(limits.session_pulses_max, plan.pulses),
    )
