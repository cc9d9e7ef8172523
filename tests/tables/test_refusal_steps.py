"""Whoever is refused by the guard is told what to do next, in the terms of that rule."""

from __future__ import annotations

import pytest

from tmsctl.ipc import messages as ipc
from tmsctl.safety import rules
from tmsctl.session.guard_view import LOOK, NEXT, TO_DELIVER, GuardView

ARMED_ONLY = {
    "disarmed-itself", "setting", "realised", "arming-slow", "refused", "missed-pulses",
    "armed-idle",
}  # fmt: skip
"""They end a session under way; then the guard is in SAFE or says so in the events."""

REFUSING = {row.code for row in rules.WATCH if not row.always} - ARMED_ONLY
REFUSING |= {row.code for row in rules.ARM}
REFUSING |= {"journal-failed"}  # the one that an acknowledgement cannot remove


def refusal(code: str) -> str:
    return GuardView().refusal(ipc.Refused(min(TO_DELIVER), code, "why")).refusal.next_step


@pytest.mark.parametrize("code", sorted(REFUSING))
def test_a_rule_that_refuses_a_person_says_what_to_do(code: str) -> None:
    assert refusal(code) == NEXT[code] != LOOK


def test_what_has_no_step_of_its_own_points_at_the_status() -> None:
    assert refusal("anything-else") == LOOK


def test_every_step_is_of_a_rule_that_exists_and_is_one_sentence() -> None:
    known = {row.code for row in (*rules.WATCH, *rules.GATE, *rules.ARM)} | {"device-cannot"}
    assert set(NEXT) <= known
    assert all(step.endswith(".") and step[0].isupper() for step in NEXT.values())
