"""A limit, judged: what the checks of a plan and of a patient's dose return."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from tmsctl.safety.limits import ROWS, Limits, stricter


class Check(NamedTuple):
    """One limit, judged. `detail` holds the two numbers compared.

    `soft` says how a check fails: True when a person may go on with a second confirmation and a
    reason, False when nobody may. `verified` and `source` are those of the figure that decided.
    """

    code: str
    ok: bool
    soft: bool
    detail: str
    next_step: str
    verified: bool
    source: str


def first_refusal(checks: Iterable[Check]) -> Check | None:
    """The first check that nobody may pass."""
    return next((check for check in checks if not check.ok and not check.soft), None)


def soft_failures(checks: Iterable[Check]) -> tuple[Check, ...]:
    """The checks that a person may pass with a second confirmation and a reason."""
    return tuple(check for check in checks if not check.ok and check.soft)


def judge(
    code: str,
    name: str,
    value: int | None,
    limits: Limits,
    exceeds: Mapping[str, int],
    next_step: str,
) -> Check:
    """Compare a value with the limit `name`, its soft bound first; None: nothing to compare.

    A protocol that exceeds the limit exceeds its soft bound too.
    """
    row, limit = ROWS[name], getattr(limits, name)
    needed = "at most {} allowed" if row.at_most else "at least {} needed"
    if value is None:
        detail = f"nothing to compare, {needed.format(limit)} ({row.unit})"
        return Check(code, True, False, detail, "", row.verified, row.source)
    soft = None if name in exceeds else row.soft
    inside = value <= limit if row.at_most else value >= limit
    if inside and soft is not None:
        bound = stricter(row, soft, limit)
        ok = value <= bound if row.at_most else value >= bound
        detail = f"{value} {row.unit}, {needed.format(bound)}"
        detail += "" if ok else " without a second confirmation"
        return Check(code, ok, not ok, detail, next_step, row.verified, row.source)
    detail = f"{value} {row.unit}, {needed.format(limit)}"
    return Check(code, inside, False, detail, next_step, row.verified, row.source)
