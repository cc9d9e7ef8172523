"""What a patient may have: on each bound, one unit beyond it, with a reason, and unknown."""

from __future__ import annotations

import pytest

from tests.tables.plan_cases import CODES, PATIENT_CASES, TEN, Case, PatientAsked
from tmsctl.safety.limits import GENERAL, ROWS
from tmsctl.safety.patient import PatientDose, patient_checks

NAMES = [f"{case.code}-{number}" for number, case in enumerate(PATIENT_CASES)]
LIMIT_OF = dict(zip(CODES, ("pulses_day_max", "pulses_week_max", "session_gap_min_s"), strict=True))


@pytest.mark.parametrize("case", PATIENT_CASES, ids=NAMES)
def test_each_check_of_a_patient_fails_exactly_beyond_its_limit(case: Case) -> None:
    asked: PatientAsked = case.given
    checks = patient_checks(*asked)
    assert tuple(check.code for check in checks) == CODES
    assert {check.code for check in checks if not check.ok} == case.trips
    assert {check.code for check in checks if not check.ok and check.soft} == case.soft
    assert not any(check.ok and check.soft for check in checks)
    assert all(check.next_step.endswith(".") for check in checks if not check.ok)


def test_every_check_of_a_patient_passes_somewhere_and_fails_somewhere() -> None:
    sides = {(case.code, case.code in case.trips, bool(case.soft)) for case in PATIENT_CASES}
    assert sides == {
        (code, *side) for code in CODES for side in ((False, False), (True, False), (True, True))
    }


def test_a_check_tells_both_numbers_and_the_source_of_the_limit() -> None:
    history = PatientDose(2_991, 29_991, 14_399_999_999)
    day, week, gap = patient_checks(history, TEN, GENERAL, {})
    assert day.detail == "3001 pulses in 24 h, at most 3000 allowed without a second confirmation"
    assert week.detail == "30001 pulses in 7 d, at most 30000 allowed"
    assert gap.detail == "14399 s, at least 14400 needed without a second confirmation"
    for check in (day, week, gap):
        row = ROWS[LIMIT_OF[check.code]]
        assert (check.source, check.verified) == (row.source, row.verified)
        assert check.next_step == "Wait, or ask the physician who prescribes."


def test_without_an_earlier_session_there_is_no_gap_to_judge() -> None:
    checks = patient_checks(PatientDose(0, 0, None), TEN, GENERAL, {})
    assert checks[2].detail == "nothing to compare, at least 3000 needed (s)"
    assert checks[0].detail == "10 pulses in 24 h, at most 3000 allowed"


def test_a_dose_that_the_ledger_cannot_tell_refuses_everything() -> None:
    for check in patient_checks(None, TEN, GENERAL, {}):
        assert check.detail == "what this patient has had is unknown"
        assert check.next_step == "See `tmsctl ledger list`."
        assert (check.verified, check.source) == (False, "the ledger")
