"""Prescription to intensity, and who says no."""

from __future__ import annotations

import math

import pytest

from tmsctl.safety.refusal import Refusal
from tmsctl.stimulation.plan import Plan
from tmsctl.stimulation.prescription import Prescription, compile_plan, mt_permille
from tmsctl.stimulation.protocol import load_library

ITBS = load_library()["itbs600"]


def compiled(mt: int, pct: int, ceiling: int = 100, reduced: bool = False) -> Plan | Refusal:
    return compile_plan(Prescription(ITBS, mt, pct, reduced), ceiling)


@pytest.mark.parametrize(
    ("mt", "pct", "mso"),
    [
        (500, 120, 60),
        (333, 100, 33),  # 33.3: down
        (499, 120, 59),  # 59.88: down, not to the nearest
        (833, 120, 99),  # 99.96
        (834, 119, 99),
        (1000, 100, 100),  # exactly the ceiling is allowed
        (10, 100, 1),  # the least
        (500, 2, 1),
    ],
)
def test_intensity_is_rounded_down_to_whole_percent_of_mso(mt: int, pct: int, mso: int) -> None:
    plan = compiled(mt, pct)
    assert isinstance(plan, Plan)
    assert plan.mso.value == mso
    assert (plan.mt_permille, plan.pct_mt, plan.reduced) == (mt, pct, False)


@pytest.mark.parametrize(("ceiling", "allowed"), [(60, True), (59, False), (0, False)])
def test_a_dose_at_the_ceiling_is_allowed_and_one_above_it_is_refused(
    ceiling: int, allowed: bool
) -> None:
    assert isinstance(compiled(500, 120, ceiling), Plan) == allowed


def test_a_refused_dose_names_both_numbers_and_the_way_out() -> None:
    refusal = compiled(850, 120)
    assert isinstance(refusal, Refusal)
    assert refusal.code == "dose-not-reachable"
    assert "102 %MSO" in refusal.sentence
    assert "100 %MSO" in refusal.sentence
    assert refusal.next_step


def test_a_person_may_accept_the_ceiling_instead() -> None:
    plan = compiled(850, 120, 95, reduced=True)
    assert isinstance(plan, Plan)
    assert (plan.mso.value, plan.pct_mt, plan.reduced) == (95, 120, True)


def test_accepting_less_does_not_change_a_dose_that_can_be_reached() -> None:
    plan = compiled(500, 120, 95, reduced=True)
    assert isinstance(plan, Plan)
    assert plan.mso.value == 60


@pytest.mark.parametrize("ceiling", [-1, 101, 1000])
def test_a_ceiling_out_of_range_counts_as_zero(ceiling: int) -> None:
    refusal = compiled(500, 120, ceiling)
    assert isinstance(refusal, Refusal)
    assert "ceiling of 0 %MSO" in refusal.sentence


@pytest.mark.parametrize(
    ("mt", "pct", "ceiling", "reduced"), [(9, 100, 100, False), (500, 120, 0, True)]
)
def test_a_dose_of_zero_is_refused(mt: int, pct: int, ceiling: int, reduced: bool) -> None:
    refusal = compiled(mt, pct, ceiling, reduced)
    assert isinstance(refusal, Refusal)
    assert refusal.code == "dose-zero"


@pytest.mark.parametrize(("mt", "pct"), [(1, 1), (1000, 200)])
def test_the_ends_of_the_ranges_can_be_prescribed(mt: int, pct: int) -> None:
    Prescription(ITBS, mt, pct, reduced=False)


@pytest.mark.parametrize(("mt", "pct"), [(0, 100), (1001, 100), (500, 0), (500, 201), (-1, 100)])
def test_a_prescription_out_of_range_cannot_be_made(mt: int, pct: int) -> None:
    with pytest.raises(ValueError, match="outside"):
        Prescription(ITBS, mt, pct, reduced=False)


@pytest.mark.parametrize(
    ("mt", "pct", "reduced"),
    [(50.0, 120, False), (True, 120, False), (500, True, False), (500, "120", False),
     (math.nan, 120, False), (None, 120, False), (500, 120, 1)],
)  # fmt: skip
def test_a_prescription_takes_no_other_type(mt: object, pct: object, reduced: object) -> None:
    with pytest.raises(TypeError):
        Prescription(ITBS, mt, pct, reduced)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("written", "permille"),
    [("50", 500), (50, 500), ("52.5", 525), (52.5, 525), (0.1, 1), ("100", 1000), (100.0, 1000),
     ("58.70", 587), (33.3, 333)],
)  # fmt: skip
def test_a_motor_threshold_is_read_exactly(written: str | float, permille: int) -> None:
    assert mt_permille(written) == permille


@pytest.mark.parametrize(
    "written",
    ["", "fifty", "0", 0, "-5", "100.1", 100.1, "52.55", 52.55, "nan", math.nan, "inf", math.inf,
     "-inf", "1e999999", "1e-999999", True, "0.05", "50 %", "sNaN"],
)  # fmt: skip
def test_any_other_motor_threshold_is_refused_with_what_is_allowed(written: str | float) -> None:
    with pytest.raises(ValueError, match=r"0\.1 to 100 %MSO"):
        mt_permille(written)
