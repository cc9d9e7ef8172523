"""The conditions for arming, beside all rules of the cycle. Pure; None permits."""

from __future__ import annotations

from typing import Final

from firmware_protocol.quantities import BootUs
from tmsctl.safety.facts import ArmRequest
from tmsctl.safety.limits import Limits
from tmsctl.safety.verdict import ArmRow, age


def _not_confirmed(r: ArmRequest, _lim: Limits, _now: BootUs) -> str | None:
    if r.plan_hash and r.confirmed_hash == r.plan_hash:
        return None
    return (
        f"the person confirmed the plan {r.confirmed_hash[:12] or 'without a hash'}, "
        f"loaded is {r.plan_hash[:12] or 'none'}"
    )


def _confirmation_old(r: ArmRequest, lim: Limits, now: BootUs) -> str | None:
    age_us = now - r.confirmed_at
    if 0 <= age_us <= lim.confirm_age_max_us:
        return None
    return f"confirmed {age_us} us ago, allowed {lim.confirm_age_max_us}"


def _self_test(r: ArmRequest, lim: Limits, now: BootUs) -> str | None:
    if r.self_test_at is None:
        return "no self-test has passed since this device was switched on"
    age_us = now - r.self_test_at
    if 0 <= age_us <= lim.self_test_age_max_us:
        return None
    return f"the self-test passed {age_us} us ago, allowed {lim.self_test_age_max_us}"


def _ledger_counter(r: ArmRequest, _lim: Limits, _now: BootUs) -> str | None:
    if r.pulse_count is None:
        return "pulse counter unknown"
    if r.ledger_count.low <= r.pulse_count <= r.ledger_count.high:
        return None
    return (
        f"device counts {r.pulse_count} pulses, "
        f"{r.ledger_count.low}..{r.ledger_count.high} agree with the ledger"
    )


ARM: Final[tuple[ArmRow, ...]] = (
    ArmRow("not-confirmed", "H11 H31", _not_confirmed,
           "", lambda r, _now: int(r.confirmed_hash != r.plan_hash)),
    ArmRow("confirmation-old", "H11 H31", _confirmation_old,
           "confirm_age_max_us", lambda r, now: age(r.confirmed_at, now)),
    ArmRow("self-test", "H18 H20 H21 H23", _self_test,
           "self_test_age_max_us", lambda r, now: age(r.self_test_at, now)),
    ArmRow("ledger-counter", "H06 H45", _ledger_counter,
           "", lambda r, _now: r.pulse_count),
)  # fmt: skip
