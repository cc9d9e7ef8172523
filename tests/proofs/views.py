"""One world in which every rule permits, to change one thing at a time."""

from __future__ import annotations

from typing import Any

from drivers.contract import PulseBlock
from tests.tables.rule_cases import ASKED, GOOD, MSO, NOW, STATUS
from tmsctl.safety.dose import PulseTimes
from tmsctl.safety.facts import Facts, Request
from tmsctl.safety.limits import GENERAL
from tmsctl.safety.rules import GATE, WATCH

FACTS = GOOD
REQUEST = ASKED._replace(
    block=PulseBlock(4, MSO, 1, 0, 1, 0),
    plan_pulses_left=3_000,
    session_pulses=0,
    sent=PulseTimes(GENERAL.train_gap_min_us),
    granted_pulses=3_000,
    day_pulses=0,
    week_pulses=0,
    recharge_us=0,
    rest_us=0,
)

__all__ = ["FACTS", "MSO", "NOW", "REQUEST", "STATUS", "rule_of", "with_facts", "with_request"]


def rule_of(code: str) -> Any:
    """The function of one row of WATCH or GATE."""
    return {row.code: row.rule for row in (*WATCH, *GATE)}[code]


def with_request(**changes: Any) -> Request:
    return REQUEST._replace(**changes)


def with_facts(**changes: Any) -> Facts:
    return FACTS._replace(**changes)
