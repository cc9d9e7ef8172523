"""The interlocks: pure functions over (facts, limits, now). No I/O, no clock, no memory.

`WATCH` runs in every cycle, whole. `GATE` runs beside it when a block asks for a permit, so that
the path that grants runs the same evaluation as the path that keeps. The worst action wins; every
cause is reported.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple

from drivers.contract import DeviceState
from firmware_protocol.quantities import BootUs
from tmsctl.safety.dose import WINDOWS_US
from tmsctl.safety.facts import Facts, Request
from tmsctl.safety.limits import Limits


class Action(enum.IntEnum):
    """Ordered: the worst requested action wins. Each says how it clears."""

    PERMIT = 0
    HOLD = 1  # nothing new leaves; clears by itself when the condition is gone
    DISARM = 2  # disarm; clears by a new arming
    SAFE = 3  # latch; clears by an acknowledgement while the condition is gone, then a new arming


class Trip(NamedTuple):
    """Why an interlock acts."""

    code: str
    action: Action
    detail: str


REFUSALS_MAX: Final = 3
"""One refusal may be a late command; the third in a row means that host and device disagree."""

Watch = Callable[[Facts, Limits, BootUs], str | None]
Gate = Callable[[Request, Limits], str | None]


@dataclass(frozen=True, slots=True)
class WatchRow:
    """An interlock of every cycle. `always`: it latches even while nothing is armed."""

    code: str
    hazards: str
    action: Action
    always: bool
    rule: Watch


@dataclass(frozen=True, slots=True)
class GateRow:
    code: str
    hazards: str
    action: Action
    rule: Gate


def _stop(f: Facts, _lim: Limits, _now: BootUs) -> str | None:
    return None if f.stopped_by is None else f"STOP by {f.stopped_by}"


def _service_lost(f: Facts, lim: Limits, now: BootUs) -> str | None:
    if f.service_seen_at is None:
        return "tmsd is not connected"
    age_us = now - f.service_seen_at
    if 0 <= age_us <= lim.service_age_max_us:
        return None
    return f"no sign of life of tmsd for {age_us} us, allowed {lim.service_age_max_us}"


def _cycle_gap(f: Facts, lim: Limits, _now: BootUs) -> str | None:
    if 0 <= f.cycle_gap_us <= lim.cycle_gap_max_us:
        return None
    return f"the guard did not watch for {f.cycle_gap_us} us, allowed {lim.cycle_gap_max_us}"


def _wrong_device(f: Facts, _lim: Limits, _now: BootUs) -> str | None:
    return "another device than the configured one answers" if f.device_known is False else None


def _status_age(f: Facts, lim: Limits, now: BootUs) -> str | None:
    if f.status is None:
        return "no device status"
    age_us = now - f.status.asked_at
    if 0 <= age_us <= lim.status_age_max_us:
        return None
    return f"device status is {age_us} us old, allowed {lim.status_age_max_us}"


def _device_fault(f: Facts, _lim: Limits, _now: BootUs) -> str | None:
    if f.status is None or not f.status.fault:
        return None  # an absent status trips `status-age`
    return f"the device reports: {f.status.fault}"


def _coil_hot(f: Facts, lim: Limits, _now: BootUs) -> str | None:
    if f.status is None:
        return "coil temperature unknown"
    # A sensor at a head that reads 0 C or less is broken, and its reading no evidence.
    if 0 < f.status.surface_dc <= lim.coil_max_dc:
        return None
    return f"coil surface at {f.status.surface_dc / 10} C, allowed {lim.coil_max_dc / 10} C"


def _stranger(f: Facts, _lim: Limits, _now: BootUs) -> str | None:
    return f"{f.strangers} pulses that nobody asked for" if f.strangers else None


def _counter(f: Facts, _lim: Limits, _now: BootUs) -> str | None:
    if f.status is None or f.counter is None:
        return "pulse counter unknown"
    if f.counter.low <= f.status.pulse_count <= f.counter.high:
        return None
    return (
        f"device counts {f.status.pulse_count} pulses, "
        f"{f.counter.low}..{f.counter.high} agree with what was sent"
    )


def _unresolved(f: Facts, _lim: Limits, _now: BootUs) -> str | None:
    return "an outcome is unknown; reading back" if f.unresolved_since is not None else None


def _unresolved_long(f: Facts, lim: Limits, now: BootUs) -> str | None:
    if f.unresolved_since is None or 0 <= now - f.unresolved_since <= lim.unresolved_max_us:
        return None
    return f"an outcome stayed unknown for {now - f.unresolved_since} us"


def _refused(f: Facts, _lim: Limits, _now: BootUs) -> str | None:
    if f.refusals < REFUSALS_MAX:
        return None
    return f"the device refused {f.refusals} blocks one after another"


def _rate_seen(f: Facts, lim: Limits, _now: BootUs) -> str | None:
    second_us, minute_us = WINDOWS_US
    if f.seen.too_many(lim.pulses_1s_max, second_us):
        return f"more than {lim.pulses_1s_max} pulses in 1 s left the coil"
    if f.seen.too_many(lim.pulses_60s_max, minute_us):
        return f"more than {lim.pulses_60s_max} pulses in 60 s left the coil"
    return None


def _disarmed_itself(f: Facts, _lim: Limits, _now: BootUs) -> str | None:
    if f.armed_since is None or f.status is None or not f.ready_seen:
        return None
    if f.status.state in (DeviceState.IDLE, DeviceState.LATCHED):
        return f"the device disarmed by itself: {f.status.cause or 'no cause given'}"
    return None


def _arming_slow(f: Facts, lim: Limits, now: BootUs) -> str | None:
    if f.armed_since is None or f.ready_seen or 0 <= now - f.armed_since <= lim.arming_max_us:
        return None
    return f"not ready {now - f.armed_since} us after arming, allowed {lim.arming_max_us}"


def _setting(f: Facts, _lim: Limits, _now: BootUs) -> str | None:
    if f.armed_mso is None or f.status is None or not f.ready_seen:
        return None
    if f.status.mso_pct == f.armed_mso.value:
        return None
    return f"device is set to {f.status.mso_pct} %MSO, commanded {f.armed_mso}"


def _realised(f: Facts, lim: Limits, _now: BootUs) -> str | None:
    if f.realised_permille is None or f.armed_mso is None:
        return None
    off = abs(f.realised_permille - 10 * f.armed_mso.value)
    if off <= lim.realised_off_max_permille:
        return None
    return f"a pulse left with {f.realised_permille / 10} %MSO, commanded {f.armed_mso}"


def _session_long(f: Facts, lim: Limits, now: BootUs) -> str | None:
    if f.session_since is None or 0 <= now - f.session_since <= lim.session_us_max:
        return None
    return f"session runs for {now - f.session_since} us, allowed {lim.session_us_max}"


def _armed_idle(f: Facts, lim: Limits, now: BootUs) -> str | None:
    if f.energy_at is None or 0 <= now - f.energy_at < lim.armed_idle_max_us:
        return None
    return f"armed for {now - f.energy_at} us without a pulse, allowed {lim.armed_idle_max_us}"


WATCH: Final[tuple[WatchRow, ...]] = (
    WatchRow("stop", "H18 H19", Action.SAFE, True, _stop),
    WatchRow("stranger-pulse", "H06 H13", Action.SAFE, True, _stranger),
    WatchRow("device-fault", "H14 H15", Action.SAFE, True, _device_fault),
    WatchRow("rate-seen", "H03 H25", Action.SAFE, False, _rate_seen),
    WatchRow("cycle-gap", "H24 H26", Action.SAFE, False, _cycle_gap),
    WatchRow("service-lost", "H17 H23", Action.SAFE, False, _service_lost),
    WatchRow("wrong-device", "H20 H42", Action.SAFE, False, _wrong_device),
    WatchRow("status-age", "H20 H22", Action.SAFE, False, _status_age),
    WatchRow("disarmed-itself", "H30 H33", Action.SAFE, False, _disarmed_itself),
    WatchRow("coil-hot", "H15 H16", Action.SAFE, False, _coil_hot),
    WatchRow("counter", "H06", Action.SAFE, False, _counter),
    WatchRow("setting", "H01 H10 H30", Action.SAFE, False, _setting),
    WatchRow("realised", "H02 H13", Action.SAFE, False, _realised),
    WatchRow("arming-slow", "H32", Action.SAFE, False, _arming_slow),
    WatchRow("unresolved-long", "H06 H20", Action.SAFE, False, _unresolved_long),
    WatchRow("refused", "H32 H33", Action.SAFE, False, _refused),
    WatchRow("session-long", "H04", Action.SAFE, False, _session_long),
    WatchRow("armed-idle", "H31", Action.DISARM, False, _armed_idle),
    WatchRow("unresolved", "H06", Action.HOLD, False, _unresolved),
)


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


def _interval(r: Request, lim: Limits) -> str | None:
    block = r.block
    gaps = []
    if block.pulses_per_burst > 1:
        gaps.append(block.interval_us)
    if block.bursts > 1:
        gaps.append(block.burst_period_us - (block.pulses_per_burst - 1) * block.interval_us)
    if r.sent.newest is not None:
        gaps.append(r.start_at - r.sent.newest)
    if not gaps or min(gaps) >= lim.interval_min_us:
        return None
    return f"{min(gaps)} us from pulse to pulse, at least {lim.interval_min_us} needed"


def _rate(r: Request, lim: Limits) -> str | None:
    times = [r.start_at + r.block.offset_us(i) for i in range(r.block.pulses)]
    for window_us, most in zip(WINDOWS_US, (lim.pulses_1s_max, lim.pulses_60s_max), strict=True):
        count = r.sent.peak_with(times, window_us)
        if count > most:
            return f"{count} pulses in {window_us // 1_000_000} s, at most {most} allowed"
    return None


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


GATE: Final[tuple[GateRow, ...]] = (
    GateRow("ceiling-mso", "H01 H29", Action.SAFE, _ceiling),
    GateRow("ceiling-mt", "H01 H12", Action.SAFE, _ceiling_mt),
    GateRow("not-the-plan", "H06 H11", Action.SAFE, _not_the_plan),
    GateRow("not-granted", "H34 H45", Action.SAFE, _not_granted),
    GateRow("interval", "H03 H09", Action.SAFE, _interval),
    GateRow("train-length", "H04", Action.SAFE, _train_alone),
    GateRow("session-pulses", "H06 H07", Action.SAFE, _session_pulses),
    GateRow("rate", "H03 H25", Action.HOLD, _rate),
    GateRow("train-gap", "H05 H44", Action.HOLD, _train),
)


class Verdict(NamedTuple):
    """What the rules say of one view."""

    action: Action
    trips: tuple[Trip, ...]


PERMIT: Final = Verdict(Action.PERMIT, ())


def watch(facts: Facts, limits: Limits, now: BootUs) -> Verdict:
    """Run every rule of every cycle: all causes are reported and the cost is constant."""
    trips = [
        Trip(row.code, row.action, why)
        for row in WATCH
        if (why := row.rule(facts, limits, now)) is not None
    ]
    return _verdict(trips) if trips else PERMIT


def gate(watched: Verdict, request: Request, limits: Limits) -> Verdict:
    """The verdict of this cycle, joined by the rules for one block."""
    trips = [
        Trip(row.code, row.action, why)
        for row in GATE
        if (why := row.rule(request, limits)) is not None
    ]
    return _verdict([*watched.trips, *trips]) if trips else watched


def latching(verdict: Verdict) -> Verdict:
    """The part of a verdict that counts while nothing is armed."""
    return _verdict([trip for trip in verdict.trips if trip.code in _ALWAYS])


_ALWAYS: Final = frozenset(row.code for row in WATCH if row.always)


def _verdict(trips: list[Trip]) -> Verdict:
    return Verdict(max((t.action for t in trips), default=Action.PERMIT), tuple(trips))
