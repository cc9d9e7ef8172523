"""The interlocks of every cycle. Pure functions over (facts, limits, now); None permits.

What is unknown trips: it is never taken for what it was, or for nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from drivers.contract import DeviceState
from firmware_protocol.quantities import BootUs
from tmsctl.safety.coils import COILS
from tmsctl.safety.dose import WINDOWS_US
from tmsctl.safety.facts import Facts
from tmsctl.safety.limits import Limits
from tmsctl.safety.verdict import Action, WatchRow, age

_DISARMED: Final = (DeviceState.IDLE, DeviceState.LATCHED)


def _stop(f: Facts, _lim: Limits, _now: BootUs) -> str | None:
    return None if f.stopped_by is None else f"STOP by {f.stopped_by}"


def _journal_failed(f: Facts, _lim: Limits, _now: BootUs) -> str | None:
    return None if f.service_fault is None else f"the ledger cannot be kept: {f.service_fault}"


def _presence_lost(f: Facts, lim: Limits, now: BootUs) -> str | None:
    if f.presence_at is None:
        return "no operator has shown presence"
    age_us = now - f.presence_at
    if 0 <= age_us <= lim.presence_age_max_us:
        return None
    return f"no sign of the operator for {age_us} us, allowed {lim.presence_age_max_us}"


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


def _coil_sensor(f: Facts, lim: Limits, _now: BootUs) -> str | None:
    """A reading that no coil can give, or that does not follow the energy, is no evidence."""
    status = f.status
    if status is None:
        return "coil temperature unknown"
    low, high = lim.coil_min_dc, lim.coil_sensor_max_dc
    surface, winding = status.surface_dc, status.coil_dc
    if not (low <= surface <= high and low <= winding <= high):
        return (
            f"coil reads {surface / 10} C at the surface and {winding / 10} C inside, "
            f"plausible is {low / 10} to {high / 10} C"
        )
    if abs(f.coil_rate_dc) > lim.coil_rate_max_dc:
        return (
            f"coil surface changed by {f.coil_rate_dc / 10} K in 1 s, "
            f"plausible is {lim.coil_rate_max_dc / 10} K"
        )
    if f.coil_stuck_j > lim.coil_stuck_max_j:
        return (
            f"coil temperature did not move while {f.coil_stuck_j} J were delivered, "
            f"allowed {lim.coil_stuck_max_j} J"
        )
    return None


def _coil_changed(f: Facts, _lim: Limits, _now: BootUs) -> str | None:
    status, before = f.status, f.coil_at_link
    if status is None or before is None:
        return "type of the coil unknown"
    if status.coil_type == before != 0:
        return None
    if status.coil_type == 0:
        return "no coil is connected"
    return f"coil of type {status.coil_type}, type {before} was connected"


def _link_errors(f: Facts, lim: Limits, _now: BootUs) -> str | None:
    if f.link_errors <= lim.link_errors_max:
        return None
    return f"{f.link_errors} damaged or lost frames while armed, allowed {lim.link_errors_max}"


def _link_doubt(f: Facts, _lim: Limits, _now: BootUs) -> str | None:
    return "a frame was damaged or lost; waiting for good answers" if f.link_doubt else None


def _stranger(f: Facts, _lim: Limits, _now: BootUs) -> str | None:
    return f"{f.strangers} pulses that nobody asked for" if f.strangers else None


def _counter(f: Facts, _lim: Limits, _now: BootUs) -> str | None:
    status, counter = f.status, f.counter
    if status is None or counter is None:
        return "pulse counter unknown"
    low, high = counter
    if low <= status.pulse_count <= high:
        return None
    return f"device counts {status.pulse_count} pulses, {low}..{high} agree with what was sent"


def _unresolved(f: Facts, _lim: Limits, _now: BootUs) -> str | None:
    return "an outcome is unknown; reading back" if f.unresolved_since is not None else None


def _unresolved_long(f: Facts, lim: Limits, now: BootUs) -> str | None:
    if f.unresolved_since is None or 0 <= now - f.unresolved_since <= lim.unresolved_max_us:
        return None
    return f"an outcome stayed unknown for {now - f.unresolved_since} us"


def _refused(f: Facts, lim: Limits, _now: BootUs) -> str | None:
    if f.refusals <= lim.refusals_max:
        return None
    return f"the device refused {f.refusals} blocks one after another, allowed {lim.refusals_max}"


def _missed(f: Facts, lim: Limits, _now: BootUs) -> str | None:
    """A device that obeys but does not pulse treats nobody."""
    if f.missed <= lim.missed_max:
        return None
    return f"{f.missed} pulses in a row did not leave, allowed {lim.missed_max}"


def _rate_seen(f: Facts, lim: Limits, _now: BootUs) -> str | None:
    second_us, minute_us = WINDOWS_US
    if f.seen.too_many(lim.pulses_1s_max, second_us):
        return f"more than {lim.pulses_1s_max} pulses in 1 s left the coil"
    if f.seen.too_many(lim.pulses_60s_max, minute_us):
        return f"more than {lim.pulses_60s_max} pulses in 60 s left the coil"
    return None


def _disarmed_itself(f: Facts, _lim: Limits, _now: BootUs) -> str | None:
    status = f.status
    if f.armed_since is None or status is None or not (f.ready_seen or f.arm_taken):
        return None
    if status.state in _DISARMED:
        return f"the device disarmed by itself: {status.cause or 'no cause given'}"
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


def _didt(f: Facts, lim: Limits, _now: BootUs) -> str | None:
    """The slope of the current tells a wrong coil, a tired capacitor, another pulse shape."""
    mso, status = f.armed_mso, f.status
    if status is None:
        return None  # an absent status trips `status-age`
    coil = COILS.get(status.coil_type)
    if coil is None:  # its pulses could not be judged, so it is not armed either
        return f"nothing is known of coils of type {status.coil_type}"
    if mso is None or f.didt_a_per_us is None or coil.didt_max_centi is None:
        return None
    expected = coil.didt_max_centi * mso.value  # 1e-4 A/us
    allowed = max(expected * lim.didt_off_max_permille, 10_000_000 * lim.didt_off_floor_a_per_us)
    if 1_000 * abs(10_000 * f.didt_a_per_us - expected) <= allowed:
        return None
    return (
        f"a pulse left with {f.didt_a_per_us} A/us, "
        f"{expected / 10_000} A/us +- {allowed / 10_000_000} expected at {mso}"
    )


def _session_long(f: Facts, lim: Limits, now: BootUs) -> str | None:
    if f.session_since is None or 0 <= now - f.session_since <= lim.session_us_max:
        return None
    return f"session runs for {now - f.session_since} us, allowed {lim.session_us_max}"


def _armed_idle(f: Facts, lim: Limits, now: BootUs) -> str | None:
    if f.energy_at is None or 0 <= now - f.energy_at < lim.armed_idle_max_us:
        return None
    return f"armed for {now - f.energy_at} us without a pulse, allowed {lim.armed_idle_max_us}"


# -- present values, for people ---------------------------------------------------------------


def _shown(name: str) -> Callable[[Facts, BootUs], int | None]:
    """What the newest status shows."""
    return lambda f, _now: None if f.status is None else int(getattr(f.status, name))


def _status_age_us(f: Facts, now: BootUs) -> int | None:
    return None if f.status is None else age(f.status.asked_at, now)


def _count_60s(f: Facts, _now: BootUs) -> int | None:
    newest = f.seen.newest
    return 0 if newest is None else f.seen.within(WINDOWS_US[-1], newest)


def _realised_off(f: Facts, _now: BootUs) -> int | None:
    if f.realised_permille is None or f.armed_mso is None:
        return None
    return abs(f.realised_permille - 10 * f.armed_mso.value)


def _didt_off(f: Facts, _now: BootUs) -> int | None:
    coil = None if f.status is None else COILS.get(f.status.coil_type)
    if coil is None or f.didt_a_per_us is None or f.armed_mso is None or f.armed_mso.value == 0:
        return None
    if coil.didt_max_centi is None:
        return None
    expected = coil.didt_max_centi * f.armed_mso.value
    return abs(10_000_000 * f.didt_a_per_us - 1_000 * expected) // expected


WATCH: Final[tuple[WatchRow, ...]] = (
    WatchRow("stop", "H18 H19", Action.SAFE, True, _stop,
             "", lambda f, _now: int(f.stopped_by is not None)),
    WatchRow("stranger-pulse", "H06 H13", Action.SAFE, True, _stranger,
             "", lambda f, _now: f.strangers),
    WatchRow("device-fault", "H14 H15 H33", Action.SAFE, True, _device_fault,
             "", lambda f, _now: None if f.status is None else int(f.status.fault != "")),
    WatchRow("journal-failed", "H34", Action.SAFE, True, _journal_failed,
             "", lambda f, _now: int(f.service_fault is not None)),
    WatchRow("rate-seen", "H03 H25", Action.SAFE, False, _rate_seen,
             "pulses_60s_max", _count_60s),
    WatchRow("cycle-gap", "H24 H26", Action.SAFE, False, _cycle_gap,
             "cycle_gap_max_us", lambda f, _now: f.cycle_gap_us),
    WatchRow("service-lost", "H17 H23", Action.SAFE, False, _service_lost,
             "service_age_max_us", lambda f, now: age(f.service_seen_at, now)),
    WatchRow("wrong-device", "H20 H42", Action.SAFE, False, _wrong_device,
             "", lambda f, _now: None if f.device_known is None else int(not f.device_known)),
    WatchRow("status-age", "H20 H22", Action.SAFE, False, _status_age,
             "status_age_max_us", _status_age_us),
    WatchRow("link-errors", "H21 H22", Action.SAFE, True, _link_errors,
             "link_errors_max", lambda f, _now: f.link_errors),
    WatchRow("disarmed-itself", "H30 H33", Action.SAFE, False, _disarmed_itself,
             "", _shown("state")),
    WatchRow("coil-hot", "H15 H16", Action.SAFE, False, _coil_hot,
             "coil_max_dc", _shown("surface_dc")),
    WatchRow("coil-sensor", "H15 H16", Action.SAFE, False, _coil_sensor,
             "coil_rate_max_dc", lambda f, _now: f.coil_rate_dc),
    WatchRow("coil-changed", "H13 H14", Action.SAFE, False, _coil_changed,
             "", _shown("coil_type")),
    WatchRow("counter", "H06", Action.SAFE, False, _counter,
             "", _shown("pulse_count")),
    WatchRow("setting", "H01 H10 H30", Action.SAFE, False, _setting,
             "", _shown("mso_pct")),
    WatchRow("realised", "H02 H13", Action.SAFE, False, _realised,
             "realised_off_max_permille", _realised_off),
    WatchRow("didt", "H02 H13", Action.SAFE, False, _didt,
             "didt_off_max_permille", _didt_off),
    WatchRow("arming-slow", "H32", Action.SAFE, False, _arming_slow,
             "arming_max_us", lambda f, now: None if f.ready_seen else age(f.armed_since, now)),
    WatchRow("unresolved-long", "H06 H20", Action.SAFE, False, _unresolved_long,
             "unresolved_max_us", lambda f, now: age(f.unresolved_since, now)),
    WatchRow("refused", "H32 H33", Action.SAFE, False, _refused,
             "refusals_max", lambda f, _now: f.refusals),
    WatchRow("missed-pulses", "H32", Action.DISARM, False, _missed,
             "missed_max", lambda f, _now: f.missed),
    WatchRow("session-long", "H04", Action.SAFE, False, _session_long,
             "session_us_max", lambda f, now: age(f.session_since, now)),
    WatchRow("presence-lost", "H17", Action.DISARM, False, _presence_lost,
             "presence_age_max_us", lambda f, now: age(f.presence_at, now)),
    WatchRow("armed-idle", "H31", Action.DISARM, False, _armed_idle,
             "armed_idle_max_us", lambda f, now: age(f.energy_at, now)),
    WatchRow("unresolved", "H06", Action.HOLD, False, _unresolved,
             "", lambda f, _now: int(f.unresolved_since is not None)),
    WatchRow("link-doubt", "H21", Action.HOLD, False, _link_doubt,
             "", lambda f, _now: int(f.link_doubt)),
)  # fmt: skip
