"""The interlocks that each block of pulses has to pass. Pure functions over (request, limits)."""

from __future__ import annotations

from typing import Final

from firmware_protocol.quantities import BootUs
from tmsctl.safety.dose import WINDOWS_US, pulse_energy_uj
from tmsctl.safety.facts import Request
from tmsctl.safety.limits import Limits
from tmsctl.safety.verdict import Action, GateRow


def _ceiling(r: Request, lim: Limits) -> str | None:
    if r.block.mso.value <= lim.mso_max_pct:
        return None
    return f"{r.block.mso} is above the ceiling of {lim.mso_max_pct} %MSO"


def _ceiling_mt(r: Request, lim: Limits) -> str | None:
    # 1000 * mso = 10 * (permille of MSO); compare without division.
    if 1_000 * r.block.mso.value <= lim.mt_max_pct * r.mt_permille:
        return None
    return (
        f"{r.block.mso} is above {lim.mt_max_pct} % of the motor threshold "
        f"of {r.mt_permille / 10} %MSO"
    )


def _not_the_plan(r: Request, _lim: Limits) -> str | None:
    if r.block.mso == r.plan_mso and r.block.pulses <= r.plan_pulses_left:
        return None
    return f"{r.block.pulses} pulses at {r.block.mso} are not what was confirmed"


def _not_granted(r: Request, _lim: Limits) -> str | None:
    if r.block.pulses <= r.granted_pulses:
        return None
    return f"{r.block.pulses} pulses asked, intent on disk for {r.granted_pulses}"


def _shortest_us(r: Request) -> int | None:
    """Shortest time between two pulses, in the block or to the pulse before it; None: no other."""
    block = r.block
    gaps = []
    if block.pulses_per_burst > 1:
        gaps.append(block.interval_us)
    if block.bursts > 1:
        gaps.append(block.burst_period_us - (block.pulses_per_burst - 1) * block.interval_us)
    if r.sent.newest is not None:
        gaps.append(r.start_at - r.sent.newest)
    return min(gaps, default=None)


def _interval(r: Request, lim: Limits) -> str | None:
    shortest = _shortest_us(r)
    if shortest is None or shortest >= lim.interval_min_us:
        return None
    return f"{shortest} us from pulse to pulse, at least {lim.interval_min_us} needed"


def _recharge(r: Request, _lim: Limits) -> str | None:
    """A pulse before the capacitor is full again is a weaker one, or none."""
    shortest = _shortest_us(r)
    if shortest is None or shortest >= r.recharge_us:
        return None
    return (
        f"{shortest} us from pulse to pulse, the device recharges in {r.recharge_us} "
        f"at {r.block.mso}"
    )


def _block_rest(r: Request, _lim: Limits) -> str | None:
    since_us = _since_train_us(r)
    if since_us is None or since_us >= r.rest_us:
        return None
    return f"{since_us} us after the block before, the device needs {r.rest_us}"


def _times(r: Request) -> list[int]:
    return r.block.times_us(r.start_at)


def _energy(r: Request, lim: Limits) -> str | None:
    each = pulse_energy_uj(r.block.mso.value)
    most = lim.energy_60s_max_j * 1_000_000
    if r.sent.energy_at_most(each * r.block.pulses) <= most:
        return None  # without looking at each window
    energy = r.sent.peak_energy_with(_times(r), each, WINDOWS_US[-1])
    if energy <= most:
        return None
    return f"{energy / 1_000_000} J in 60 s, at most {lim.energy_60s_max_j} allowed"


def _settle(r: Request, _lim: Limits) -> str | None:
    """Lowering takes long: before that a pulse may leave with the old intensity."""
    if r.start_at >= r.settled_at:
        return None
    return (
        f"first pulse in {r.settled_at - r.start_at} us less than the capacitor needs "
        f"to reach {r.block.mso}"
    )


def _train_rest(r: Request, lim: Limits) -> str | None:
    """Mean power from each start after a rest until now. A block after less rest goes on with its
    train, whose energy the rule of 60 s bounds."""
    newest = r.sent.newest
    if newest is None or r.start_at - newest < lim.train_rest_min_us:
        return None
    for started, energy_uj in r.sent.since_rests(lim.train_rest_min_us):
        if energy_uj > lim.power_max_w * (r.start_at - started):  # 1 W is 1 uJ in 1 us
            return (
                f"{energy_uj / 1_000_000} J in {r.start_at - started} us of train and rest, "
                f"at most {lim.power_max_w} W allowed"
            )
    return None


def _rate(r: Request, lim: Limits) -> str | None:
    times = _times(r)
    for window_us, most in zip(WINDOWS_US, (lim.pulses_1s_max, lim.pulses_60s_max), strict=True):
        count = r.sent.peak_with(times, window_us)
        if count > most:
            return f"{count} pulses in {window_us // 1_000_000} s, at most {most} allowed"
    return None


def _minute_unknown(r: Request, _lim: Limits) -> str | None:
    """What the guard before this one sent is in no window of ours."""
    watched_us = r.start_at - r.all_sent_since
    if watched_us >= WINDOWS_US[-1]:
        return None
    return f"the pulses of the last minute are known for {watched_us} us only, all 60 s are needed"


def _train(r: Request, lim: Limits) -> str | None:
    """A pulse closer than the least inter-train interval to the last one belongs to its train."""
    started = r.start_at
    newest, run_started = r.sent.newest, r.sent.run_started_at
    near = newest is not None and r.start_at - newest < lim.train_gap_min_us
    if near and run_started is not None:
        started = BootUs(run_started)
    length_us = r.start_at + r.block.span_us - started
    if length_us <= lim.train_us_max:
        return None
    if started == r.start_at:
        return f"a train of {length_us} us, at most {lim.train_us_max} allowed"
    return (
        f"{r.start_at - (newest or 0)} us after the train before, "
        f"at least {lim.train_gap_min_us} needed"
    )


def _train_alone(r: Request, lim: Limits) -> str | None:
    """A block that is too long by itself will never become short enough by waiting."""
    if r.block.span_us <= lim.train_us_max:
        return None
    return f"a train of {r.block.span_us} us, at most {lim.train_us_max} allowed"


def _session_pulses(r: Request, lim: Limits) -> str | None:
    total = r.session_pulses + r.block.pulses
    if total <= lim.session_pulses_max:
        return None
    return f"{total} pulses in this session, at most {lim.session_pulses_max} allowed"


def _day_pulses(r: Request, lim: Limits) -> str | None:
    total = r.day_pulses + r.session_pulses + r.block.pulses
    if r.day_pulses >= 0 and total <= lim.pulses_day_max:
        return None
    return f"{total} pulses for this patient in 24 h, at most {lim.pulses_day_max} allowed"


def _week_pulses(r: Request, lim: Limits) -> str | None:
    total = r.week_pulses + r.session_pulses + r.block.pulses
    if r.week_pulses >= 0 and total <= lim.pulses_week_max:
        return None
    return f"{total} pulses for this patient in 7 days, at most {lim.pulses_week_max} allowed"


# -- present values, for people ---------------------------------------------------------------


def _pct_mt(r: Request) -> int | None:
    """Rounded up, as the rule is strict."""
    return -(-1_000 * r.block.mso.value // r.mt_permille) if r.mt_permille else None


def _peak_1s(r: Request) -> int | None:
    return r.sent.peak_with(_times(r), WINDOWS_US[0])


def _peak_j(r: Request) -> int | None:
    each = pulse_energy_uj(r.block.mso.value)
    return r.sent.peak_energy_with(_times(r), each, WINDOWS_US[-1]) // 1_000_000


def _since_train_us(r: Request) -> int | None:
    return None if r.sent.newest is None else r.start_at - r.sent.newest


GATE: Final[tuple[GateRow, ...]] = (
    GateRow("ceiling-mso", "H01 H29", Action.SAFE, _ceiling,
            "mso_max_pct", lambda r: r.block.mso.value),
    GateRow("ceiling-mt", "H01 H12", Action.SAFE, _ceiling_mt,
            "mt_max_pct", _pct_mt),
    GateRow("not-the-plan", "H06 H11", Action.SAFE, _not_the_plan,
            "", lambda r: r.plan_pulses_left),
    GateRow("not-granted", "H34 H45", Action.SAFE, _not_granted,
            "", lambda r: r.granted_pulses),
    GateRow("interval", "H03 H09", Action.SAFE, _interval,
            "interval_min_us", _shortest_us),
    GateRow("recharge", "H32 H33", Action.SAFE, _recharge,
            "", _shortest_us),
    GateRow("train-length", "H04", Action.SAFE, _train_alone,
            "train_us_max", lambda r: r.block.span_us),
    GateRow("session-pulses", "H06 H07", Action.SAFE, _session_pulses,
            "session_pulses_max", lambda r: r.session_pulses + r.block.pulses),
    GateRow("day-pulses", "H07", Action.SAFE, _day_pulses,
            "pulses_day_max", lambda r: r.day_pulses + r.session_pulses + r.block.pulses),
    GateRow("week-pulses", "H07", Action.SAFE, _week_pulses,
            "pulses_week_max", lambda r: r.week_pulses + r.session_pulses + r.block.pulses),
    GateRow("rate", "H03 H25", Action.HOLD, _rate,
            "pulses_1s_max", _peak_1s),
    GateRow("minute-unknown", "H03 H05 H45", Action.HOLD, _minute_unknown,
            "", lambda r: r.start_at - r.all_sent_since),
    GateRow("energy", "H33 H46", Action.HOLD, _energy,
            "energy_60s_max_j", _peak_j),
    GateRow("settle", "H02", Action.HOLD, _settle,
            "", lambda r: max(0, r.settled_at - r.start_at)),
    GateRow("block-rest", "H33", Action.HOLD, _block_rest,
            "", _since_train_us),
    GateRow("train-rest", "H32 H33", Action.HOLD, _train_rest,
            "train_rest_min_us", _since_train_us),
    GateRow("train-gap", "H05 H44", Action.HOLD, _train,
            "train_gap_min_us", _since_train_us),
)  # fmt: skip
