"""The limit table: every value pinned, and no layer that loosens the one before."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest

from firmware_protocol.duomag.messages import Coil
from firmware_protocol.magpro.names import COIL_TYPES
from tmsctl.safety.coils import COILS
from tmsctl.safety.dose import FULL_PULSE_UJ, pulse_energy_uj
from tmsctl.safety.limits import (
    GENERAL,
    ROWS,
    SETTING_MAX,
    TABLE,
    LimitRow,
    Limits,
    session_limits,
    site_limits,
    stricter,
)

# name: (unit, soft, general, absolute, a smaller value is tighter, may be set)
PINNED = {
    "mso_max_pct": ("%MSO", None, 100, 100, True, True),
    "mt_max_pct": ("% of motor threshold", None, 120, 120, True, True),
    "interval_min_us": ("us", None, 20_000, 10_000, False, True),
    "pulses_1s_max": ("pulses in 1 s", None, 20, 25, True, True),
    "pulses_60s_max": ("pulses in 60 s", None, 240, 600, True, True),
    "train_us_max": ("us", None, 10_000_000, 1_800_000_000, True, True),
    "beyond_table_us_max": ("us", None, 0, 1_800_000_000, True, True),
    "train_gap_min_us": ("us", None, 5_000_000, 2_000_000, False, True),
    "energy_60s_max_j": ("J in 60 s", None, 63_000, 63_000, True, True),
    "session_pulses_max": ("pulses", 3_000, 5_000, 5_000, True, True),
    "session_us_max": ("us", None, 2_700_000_000, 3_600_000_000, True, True),
    "pulses_day_max": ("pulses in 24 h", 3_000, 6_000, 18_000, True, True),
    "pulses_week_max": ("pulses in 7 d", 15_000, 30_000, 90_000, True, True),
    "session_gap_min_s": ("s", 14_400, 3_000, 3_000, False, True),
    "coil_max_dc": ("0.1 degree C", None, 410, 410, True, True),
    "presence_age_max_us": ("us", None, 60_000_000, 60_000_000, True, False),
    "confirm_age_max_us": ("us", None, 10_000_000, 10_000_000, True, False),
    "self_test_age_max_us": ("us", None, 86_400_000_000, 86_400_000_000, True, False),
    "armed_idle_max_us": ("us", None, 60_000_000, 60_000_000, True, False),
    "status_age_max_us": ("us", None, 60_000, 250_000, True, False),
    "service_age_max_us": ("us", None, 1_000_000, 1_000_000, True, False),
    "cycle_gap_max_us": ("us", None, 40_000, 40_000, True, False),
    "arming_max_us": ("us", None, 4_000_000, 4_000_000, True, False),
    "unresolved_max_us": ("us", None, 1_000_000, 1_000_000, True, False),
    "refusals_max": ("blocks", None, 2, 2, True, False),
    "missed_max": ("pulses in a row", None, 2, 2, True, False),
    "link_errors_max": ("errors in 60 min", None, 1, 1, True, False),
    "realised_off_max_permille": ("permille of MSO", None, 30, 30, True, False),
    "didt_off_max_permille": ("permille of the coil's di/dt", None, 60, 60, True, False),
    "didt_off_floor_a_per_us": ("A/us", None, 3, 3, True, False),
    "coil_min_dc": ("0.1 degree C", None, 50, 50, False, False),
    "coil_sensor_max_dc": ("0.1 degree C", None, 600, 600, True, False),
    "coil_rate_max_dc": ("0.1 degree C in 1 s", None, 20, 20, True, False),
    "coil_stuck_max_j": ("J", None, 5_000, 5_000, True, False),
    "settle_up_us_per_pct": ("us for 1 %MSO", None, 10_000, 10_000, False, False),
    "settle_down_us_per_pct": ("us for 1 %MSO", None, 100_000, 100_000, False, False),
    "train_rest_min_us": ("us", None, 500_000, 500_000, True, False),
    "power_max_w": ("W", None, 1_050, 1_050, True, False),
}
SETTABLE = [row for row in TABLE if row.settable]
FIXED = [row for row in TABLE if not row.settable]
NO_WHOLE_NUMBERS = [True, False, 1.0, 20.5, float("nan"), float("inf"), "20", None, [20], -1]

settable = pytest.mark.parametrize("row", SETTABLE, ids=lambda row: row.name)
can_be_tighter = pytest.mark.parametrize(  # a limit of 0 is as tight as can be
    "row", [row for row in SETTABLE if row.general > 0], ids=lambda row: row.name
)
every = pytest.mark.parametrize("row", TABLE, ids=lambda row: row.name)


def looser(row: LimitRow, value: int) -> int:
    return value + 1 if row.at_most else value - 1


def tighter(row: LimitRow, value: int) -> int:
    return value - 1 if row.at_most else value + 1


def test_every_limit_is_the_one_that_was_reviewed() -> None:
    assert {
        row.name: (row.unit, row.soft, row.general, row.absolute, row.at_most, row.settable)
        for row in TABLE
    } == PINNED
    assert len(TABLE) == len(PINNED)


def test_every_row_is_a_field_and_the_general_layer_holds_its_value() -> None:
    assert [field.name for field in fields(Limits)] == list(PINNED) == list(ROWS)
    for name, (_, _, general, *_) in PINNED.items():
        assert getattr(GENERAL, name) == general


@every
def test_a_soft_bound_lies_before_the_hard_one(row: LimitRow) -> None:
    if row.soft is None:
        assert row.bound == row.general
    else:
        assert row.bound == row.soft
        assert row.settable
        assert looser(row, row.soft) in (range(row.soft + 1, row.general + 1) if row.at_most
                                         else range(row.general, row.soft))  # fmt: skip


def test_the_stricter_of_two_values_is_the_smaller_or_the_greater_one() -> None:
    most, least = ROWS["pulses_1s_max"], ROWS["interval_min_us"]
    assert (stricter(most, 1, 2), stricter(most, 2, 1), stricter(most, 2, 2)) == (1, 1, 2)
    assert (stricter(least, 1, 2), stricter(least, 2, 1), stricter(least, 2, 2)) == (2, 2, 2)


COILS_PINNED = {
    1: 11_473, 2: 8_437, 3: 9_759, 4: 10_293,
    **dict.fromkeys((56, 60, 62, 63, 64, 72, 73, 81, 82, 86), None),  # MagPro
    **dict.fromkeys(range(100, 108), None),  # DuoMAG
    200: None,  # Magstim
}  # fmt: skip


def test_the_table_of_coils_is_the_one_that_was_reviewed() -> None:
    assert {kind: row.didt_max_centi for kind, row in COILS.items()} == COILS_PINNED
    assert all(row.name and row.source and not row.verified for row in COILS.values())


def test_coils_have_the_names_that_the_protocols_give_them() -> None:
    told = {kind: name for kind, name in COIL_TYPES.items() if kind}
    told |= {100 + coil: coil.name.removeprefix("C").replace("_", "-") for coil in Coil}
    assert {kind: COILS[kind].name for kind in told} == told


def test_the_energy_of_a_pulse_is_exact() -> None:
    assert [pulse_energy_uj(pct) for pct in (0, 1, 10, 50, 60, 100)] == [
        0, 25_200, 2_520_000, 63_000_000, 90_720_000, 252_000_000,
    ]  # fmt: skip
    assert FULL_PULSE_UJ == 252_000_000


@every
def test_a_row_names_its_unit_and_its_source(row: LimitRow) -> None:
    assert row.unit
    assert row.source


def test_no_row_claims_to_be_verified_before_a_clinician_has_read_it() -> None:
    assert [row.name for row in TABLE if row.verified] == []


# -- the type itself -------------------------------------------------------------------------


@every
def test_limits_reach_to_the_absolute_layer_and_no_further(row: LimitRow) -> None:
    at = replace(GENERAL, **{row.name: row.absolute})
    assert getattr(at, row.name) == row.absolute
    with pytest.raises(ValueError, match=f"limit {row.name} is .* {row.absolute} is allowed"):
        replace(GENERAL, **{row.name: looser(row, row.absolute)})


@every
def test_a_limit_that_is_no_whole_number_cannot_exist(row: LimitRow) -> None:
    for value in NO_WHOLE_NUMBERS:
        with pytest.raises(ValueError, match=f"limit {row.name} is "):
            replace(GENERAL, **{row.name: value})


@every
def test_no_limit_can_be_changed_afterwards(row: LimitRow) -> None:
    for owner, name in ((GENERAL, row.name), (row, "general")):
        with pytest.raises(AttributeError):
            setattr(owner, name, row.absolute)


def test_a_missing_limit_cannot_exist() -> None:
    values = {row.name: row.general for row in TABLE}
    del values["pulses_1s_max"]
    with pytest.raises(TypeError):
        Limits(**values)


# -- the site --------------------------------------------------------------------------------


def test_a_site_without_settings_has_the_general_layer() -> None:
    assert site_limits({}) == GENERAL


@can_be_tighter
def test_a_site_may_keep_or_tighten_a_limit(row: LimitRow) -> None:
    assert site_limits({row.name: row.general}) == GENERAL
    value = tighter(row, row.general)
    assert site_limits({row.name: value}) == replace(GENERAL, **{row.name: value})


@settable
def test_a_site_may_not_loosen_a_limit_by_one(row: LimitRow) -> None:
    with pytest.raises(ValueError, match=f"{row.name} = .* would loosen .* {row.general} "):
        site_limits({row.name: looser(row, row.general)})


@settable
def test_zero_at_most_allows_nothing_and_is_a_limit(row: LimitRow) -> None:
    if row.at_most:
        assert getattr(site_limits({row.name: 0}), row.name) == 0
    else:
        with pytest.raises(ValueError, match="loosen"):
            site_limits({row.name: 0})


@settable
def test_a_site_cannot_set_what_is_no_whole_number(row: LimitRow) -> None:
    for value in NO_WHOLE_NUMBERS:
        with pytest.raises(ValueError, match=f"limit {row.name} is "):
            site_limits({row.name: value})


@pytest.mark.parametrize("row", [row for row in SETTABLE if row.at_most], ids=lambda row: row.name)
def test_a_huge_value_is_never_a_limit(row: LimitRow) -> None:
    with pytest.raises(ValueError, match="loosen"):
        site_limits({row.name: 10**30})


@pytest.mark.parametrize("row", [row for row in SETTABLE if not row.at_most], ids=lambda r: r.name)
def test_an_hour_is_the_longest_that_can_be_asked_for(row: LimitRow) -> None:
    assert SETTING_MAX == 3_600_000_000
    assert getattr(site_limits({row.name: SETTING_MAX}), row.name) == SETTING_MAX
    with pytest.raises(ValueError, match=f"{row.name} = 3600000001 is too large; at most"):
        site_limits({row.name: SETTING_MAX + 1})


@pytest.mark.parametrize("name", ["pulses_1s", "MSO_MAX_PCT", "", *(row.name for row in FIXED)])
def test_a_name_that_cannot_be_set_is_refused_with_those_that_can(name: str) -> None:
    with pytest.raises(ValueError, match="cannot be set; allowed are") as refused:
        site_limits({name: 1})
    sentence = str(refused.value)
    assert all(row.name in sentence for row in SETTABLE)
    assert not any(row.name in sentence.partition("allowed are")[2] for row in FIXED)


def test_one_bad_setting_refuses_all() -> None:
    with pytest.raises(ValueError, match="loosen"):
        site_limits({"pulses_1s_max": 10, "pulses_60s_max": 241})


# -- a protocol of the library ---------------------------------------------------------------


def test_a_protocol_that_exceeds_nothing_changes_nothing() -> None:
    assert session_limits(GENERAL, {}) == GENERAL


@settable
def test_a_protocol_may_exceed_the_general_layer_up_to_the_absolute_one(row: LimitRow) -> None:
    limits = session_limits(GENERAL, {row.name: row.absolute})
    assert limits == replace(GENERAL, **{row.name: row.absolute})
    with pytest.raises(ValueError, match=f"limit {row.name} is "):
        session_limits(GENERAL, {row.name: looser(row, row.absolute)})


@can_be_tighter
def test_a_site_that_tightened_a_limit_keeps_its_own_value(row: LimitRow) -> None:
    site = site_limits({row.name: tighter(row, row.general)})
    assert session_limits(site, {row.name: row.absolute}) == site


@pytest.mark.parametrize("name", ["pulses_1s", *(row.name for row in FIXED)])
def test_a_protocol_cannot_exceed_what_nobody_may_set(name: str) -> None:
    with pytest.raises(ValueError, match="cannot be exceeded by a protocol"):
        session_limits(GENERAL, {name: 1})


@pytest.mark.parametrize("value", NO_WHOLE_NUMBERS)
def test_a_protocol_cannot_set_what_is_no_whole_number(value: int) -> None:
    with pytest.raises(ValueError, match="limit pulses_1s_max is "):
        session_limits(GENERAL, {"pulses_1s_max": value})
