"""The interlocks, one by one and together: on each limit, one unit past it, unknown, from later."""

from __future__ import annotations

import re
from dataclasses import fields, replace
from itertools import product
from typing import Any

import pytest

from drivers.contract import DeviceState
from firmware_protocol.quantities import PercentMso
from tests.tables.plan_cases import Case
from tests.tables.rule_cases import (
    ALLOWS,
    ARM_CASES,
    ASKED,
    CASES,
    CONFIRMED,
    GATE_CASES,
    GOOD,
    LIMITS,
    NO_STATUS,
    NOW,
    REFUSES,
    START,
    TWENTY,
    WATCH_CASES,
    at,
    before,
    block,
    facts,
    pulses,
    request,
    sent,
)
from tmsctl.safety import coils
from tmsctl.safety.facts import ArmRequest, CounterRange, Facts, Request
from tmsctl.safety.limits import GENERAL, ROWS, Limits
from tmsctl.safety.rules import (
    ARM,
    GATE,
    PERMIT,
    WATCH,
    Action,
    Trip,
    Verdict,
    arm,
    gate,
    latching,
    watch,
)

LATCHES = """
    stop stranger-pulse device-fault journal-failed rate-seen cycle-gap service-lost wrong-device
    status-age link-errors disarmed-itself coil-hot coil-sensor coil-changed counter setting
    realised didt arming-slow unresolved-long refused session-long
    ceiling-mso ceiling-mt not-the-plan not-granted interval recharge train-length
    session-pulses day-pulses week-pulses
"""
ACTIONS = {
    **dict.fromkeys(LATCHES.split(), Action.SAFE),
    **dict.fromkeys(("presence-lost", "armed-idle", "missed-pulses"), Action.DISARM),
    **dict.fromkeys(("unresolved", "link-doubt"), Action.HOLD),
    **dict.fromkeys(("rate", "minute-unknown", "energy", "settle"), Action.HOLD),
    **dict.fromkeys(("block-rest", "train-rest", "train-gap"), Action.HOLD),
    **dict.fromkeys(("not-confirmed", "confirmation-old", "self-test"), Action.HOLD),
    "ledger-counter": Action.HOLD,
}
ALWAYS = {"stop", "stranger-pulse", "device-fault", "journal-failed", "link-errors"}


def codes(verdict: Verdict) -> set[str]:
    found = [trip.code for trip in verdict.trips]
    assert len(found) == len(set(found))
    return set(found)


def worst(found: set[str] | frozenset[str]) -> Action:
    return max((ACTIONS[code] for code in found), default=Action.PERMIT)


def numbered(cases: tuple[Case, ...]) -> pytest.MarkDecorator:
    names = [f"{case.code}-{number}" for number, case in enumerate(cases)]
    return pytest.mark.parametrize("case", cases, ids=names)


@numbered(WATCH_CASES)
def test_each_rule_of_every_cycle_trips_exactly_beyond_its_limit(case: Case) -> None:
    verdict = watch(case.given, LIMITS, NOW)
    assert codes(verdict) == case.trips
    assert verdict.action is worst(case.trips)


@numbered(GATE_CASES)
def test_each_rule_for_a_block_trips_exactly_beyond_its_limit(case: Case) -> None:
    verdict = gate(PERMIT, case.given, LIMITS)
    assert codes(verdict) == case.trips
    assert verdict.action is worst(case.trips)


@numbered(ARM_CASES)
def test_each_condition_for_arming_refuses_exactly_beyond_its_limit(case: Case) -> None:
    verdict = arm(PERMIT, case.given, LIMITS, NOW)
    assert codes(verdict) == case.trips
    assert verdict.action is worst(case.trips)


def test_every_rule_has_a_hazard_and_the_action_that_was_reviewed() -> None:
    rows = [(row.code, row.hazards, row.action) for row in WATCH]
    rows += [(row.code, row.hazards, row.action) for row in GATE]
    rows += [(row.code, row.hazards, Action.HOLD) for row in ARM]
    assert len(rows) == len(ACTIONS)
    assert {code: action for code, _, action in rows} == ACTIONS
    assert [hazards for _, hazards, _ in rows if not re.fullmatch(r"H\d\d( H\d\d)*", hazards)] == []
    assert {row.code for row in WATCH if row.always} == ALWAYS


def test_every_rule_must_permit_somewhere_and_trip_somewhere() -> None:
    tables: dict[str, tuple[Any, ...]] = {"watch": WATCH, "gate": GATE, "arm": ARM}
    wanted = {
        (table, row.code, tripped)
        for table, rows in tables.items()
        for row in rows
        for tripped in (False, True)
    }
    seen = {(case.table, case.code, case.code in case.trips) for case in CASES}
    assert {side for side in seen if side[0] in tables} == wanted


def test_the_cases_of_both_sides_are_all_cases() -> None:
    assert sum(map(len, ALLOWS.values())) + sum(map(len, REFUSES.values())) == len(CASES)
    assert set(ALLOWS) == set(REFUSES)
    assert all(code not in case.trips for code, cases in ALLOWS.items() for case in cases)
    assert all(code in case.trips for code, cases in REFUSES.items() for case in cases)


def test_nothing_wrong_is_a_permit_without_a_reason() -> None:
    assert watch(GOOD, LIMITS, NOW) == PERMIT == Verdict(Action.PERMIT, ())
    assert gate(PERMIT, ASKED, LIMITS) == PERMIT
    assert arm(PERMIT, CONFIRMED, LIMITS, NOW) == PERMIT


def test_the_slope_of_the_current_may_differ_by_exactly_its_tolerance(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    even = coils.CoilRow("even", 10_000, False, "none")  # 100 A/us at 100 %MSO
    monkeypatch.setitem(coils.COILS, 9, even)
    tolerated = {100: (94, 106), 50: (47, 53), 40: (37, 43), 10: (7, 13)}  # 6 %, at least 3 A/us
    for mso, (low, high) in tolerated.items():
        given = facts(
            status={"coil_type": 9, "mso_pct": mso},
            coil_at_link=9,
            armed_mso=PercentMso(mso),
            realised_permille=10 * mso,
        )
        found = {
            didt: codes(watch(given._replace(didt_a_per_us=didt), LIMITS, NOW))
            for didt in (low - 1, low, mso, high, high + 1)
        }
        assert list(found.values()) == [{"didt"}, set(), set(), set(), {"didt"}], mso
    monkeypatch.setitem(coils.COILS, 9, even._replace(didt_max_centi=19_999))
    given = facts(status={"coil_type": 9}, coil_at_link=9, didt_a_per_us=106)
    assert codes(watch(given, LIMITS, NOW)) == {"didt"}  # 6.005 A/us off, 5.9997 tolerated


NUMBERS: tuple[tuple[Facts | Request | ArmRequest, str, str], ...] = (
    (facts(cycle_gap_us=40_001), "40001", "40000"),
    (facts(service_seen_at=at(1_000_001)), "1000001", "1000000"),
    (facts(status={"asked_at": at(60_001)}), "60001", "60000"),
    (facts(status={"surface_dc": 411}), "41.1", "41.0"),
    (facts(status={"coil_dc": 49}), "4.9", "5.0 to 60.0"),
    (facts(status={"surface_dc": 49}), "4.9", "5.0 to 60.0"),
    (facts(coil_rate_dc=21), "2.1", "2.0"),
    (facts(coil_stuck_j=5_001), "5001", "5000"),
    (facts(coil_at_link=2), "type 1", "type 2"),
    (facts(status={"pulse_count": 1_011}), "1011", "1000..1010"),
    (facts(link_errors=2), "2", "1"),
    (facts(refusals=3), "3", "2"),
    (facts(missed=3), "3", "2"),
    (facts(realised_permille=531), "53.1", "50"),
    (facts(didt_a_per_us=61), "61", "57.365"),
    (facts(didt_a_per_us=61), "61", "+- 3.4419"),
    (facts(ready_seen=False, armed_since=at(4_000_001)), "4000001", "4000000"),
    (facts(session_since=at(2_700_000_001)), "2700000001", "2700000000"),
    (facts(presence_at=at(60_000_001)), "60000001", "60000000"),
    (facts(energy_at=at(60_000_001)), "60000001", "60000000"),
    (request(sent=sent(14_999_999, 10_999_999, 6_999_999, 4_999_999)), "4999999", "5000000"),
    (request(block=block(bursts=2, period_us=10_000_001)), "10000001", "10000000"),
    (request(block=block(bursts=1, per_burst=3, interval_us=19_999)), "19999", "20000"),
    (request(recharge_us=100_001), "100000", "100001"),
    (request(sent=sent(499_999), rest_us=500_000), "499999", "500000"),
    (request(block=TWENTY, sent=sent(49_999)), "21 ", "20 "),
    (request(session_pulses=4_991), "5001", "5000"),
    (request(day_pulses=5_891), "6001", "6000"),
    (request(week_pulses=29_891), "30001", "30000"),
    (request(granted_pulses=9), "10", "9"),
    (
        request(block=block(bursts=1), sent=before((59_999_999, 62_937_000_001))),
        "63000.000001 J in 60 s",
        "63000",
    ),
    (request(sent=before((2_399_999, 2_520_000_000))), "2520.0 J in 2399999 us", "1050 W"),
    (request(all_sent_since=START - 59_999_999), "59999999", "60 s"),
    (request(settled_at=START + 7), "7 us", "50 %MSO"),
    (CONFIRMED._replace(confirmed_at=at(10_000_001)), "10000001", "10000000"),
    (CONFIRMED._replace(self_test_at=at(86_400_000_001)), "86400000001", "86400000000"),
    (CONFIRMED._replace(pulse_count=1_011), "1011", "990..1010"),
    (CONFIRMED._replace(confirmed_hash="cd" * 32), "cd" * 6, "ab" * 6),
)


def verdict_on(given: Facts | Request | ArmRequest) -> Verdict:
    match given:
        case Facts():
            return watch(given, LIMITS, NOW)
        case Request():
            return gate(PERMIT, given, LIMITS)
        case ArmRequest():
            return arm(PERMIT, given, LIMITS, NOW)


@pytest.mark.parametrize(("given", "value", "limit"), NUMBERS)
def test_a_reason_says_both_numbers(
    given: Facts | Request | ArmRequest, value: str, limit: str
) -> None:
    verdict = verdict_on(given)
    assert verdict.trips
    for trip in verdict.trips:
        assert value in trip.detail
        assert limit in trip.detail


WORDS: tuple[tuple[str, Facts | ArmRequest, str], ...] = (
    ("stop", facts(stopped_by="pedal"), "STOP by pedal"),
    ("journal-failed", facts(service_fault="EIO"), "the ledger cannot be kept: EIO"),
    ("service-lost", facts(service_seen_at=None), "tmsd is not connected"),
    ("presence-lost", facts(presence_at=None), "no operator has shown presence"),
    ("status-age", NO_STATUS, "no device status"),
    ("coil-hot", NO_STATUS, "coil temperature unknown"),
    ("coil-sensor", NO_STATUS, "coil temperature unknown"),
    ("coil-changed", NO_STATUS, "type of the coil unknown"),
    ("coil-changed", facts(coil_at_link=None), "type of the coil unknown"),
    ("coil-changed", facts(status={"coil_type": 0}), "no coil is connected"),
    ("counter", NO_STATUS, "pulse counter unknown"),
    ("didt", facts(status={"coil_type": 5}), "nothing is known of coils of type 5"),
    (
        "disarmed-itself",
        facts(status={"state": DeviceState.IDLE, "cause": "panel"}),
        "the device disarmed by itself: panel",
    ),
    (
        "disarmed-itself",
        facts(status={"state": DeviceState.IDLE}),
        "the device disarmed by itself: no cause given",
    ),
    ("unresolved", facts(unresolved_since=at(0)), "an outcome is unknown; reading back"),
    (
        "link-doubt",
        facts(link_doubt=True),
        "a frame was damaged or lost; waiting for good answers",
    ),
    ("stranger-pulse", facts(strangers=2), "2 pulses that nobody asked for"),
    ("device-fault", facts(status={"fault": "hot"}), "the device reports: hot"),
    ("wrong-device", facts(device_known=False), "another device than the configured one answers"),
    ("setting", facts(status={"mso_pct": 49}), "device is set to 49 %MSO, commanded 50 %MSO"),
    (
        "self-test",
        CONFIRMED._replace(self_test_at=None),
        "no self-test has passed since this device was switched on",
    ),
    ("ledger-counter", CONFIRMED._replace(pulse_count=None), "pulse counter unknown"),
    (
        "not-confirmed",
        CONFIRMED._replace(confirmed_hash="", plan_hash=""),
        "the person confirmed the plan without a hash, loaded is none",
    ),
)


@pytest.mark.parametrize(("code", "given", "words"), WORDS)
def test_a_cause_without_two_numbers_says_what_is_wrong(
    code: str, given: Facts | ArmRequest, words: str
) -> None:
    assert [trip.detail for trip in verdict_on(given).trips if trip.code == code] == [words]


# -- present values, for people --------------------------------------------------------------

LIMIT_OF = {
    "rate-seen": "pulses_60s_max",
    "cycle-gap": "cycle_gap_max_us",
    "service-lost": "service_age_max_us",
    "status-age": "status_age_max_us",
    "link-errors": "link_errors_max",
    "coil-hot": "coil_max_dc",
    "coil-sensor": "coil_rate_max_dc",
    "realised": "realised_off_max_permille",
    "didt": "didt_off_max_permille",
    "arming-slow": "arming_max_us",
    "unresolved-long": "unresolved_max_us",
    "refused": "refusals_max",
    "missed-pulses": "missed_max",
    "session-long": "session_us_max",
    "presence-lost": "presence_age_max_us",
    "armed-idle": "armed_idle_max_us",
    "ceiling-mso": "mso_max_pct",
    "ceiling-mt": "mt_max_pct",
    "interval": "interval_min_us",
    "train-length": "train_us_max",
    "session-pulses": "session_pulses_max",
    "day-pulses": "pulses_day_max",
    "week-pulses": "pulses_week_max",
    "rate": "pulses_1s_max",
    "energy": "energy_60s_max_j",
    "train-rest": "train_rest_min_us",
    "train-gap": "train_gap_min_us",
    "confirmation-old": "confirm_age_max_us",
    "self-test": "self_test_age_max_us",
}


def test_a_rule_names_the_limit_that_it_compares_with() -> None:
    named = {row.code: row.limit for row in WATCH}
    named |= {row.code: row.limit for row in GATE} | {row.code: row.limit for row in ARM}
    assert {code: limit for code, limit in named.items() if limit} == LIMIT_OF
    assert set(LIMIT_OF.values()) <= set(ROWS)


def readings(given: Facts | Request | ArmRequest) -> dict[str, int | None]:
    match given:
        case Facts():
            return {row.code: row.reading(given, NOW) for row in WATCH}
        case Request():
            return {row.code: row.reading(given) for row in GATE}
        case ArmRequest():
            return {row.code: row.reading(given, NOW) for row in ARM}


def test_each_rule_tells_its_present_value() -> None:
    assert readings(GOOD) == {
        "stop": 0, "stranger-pulse": 0, "device-fault": 0, "journal-failed": 0, "rate-seen": 0,
        "cycle-gap": 10_000, "service-lost": 200_000, "wrong-device": 0, "status-age": 20_000,
        "link-errors": 0, "disarmed-itself": 2, "coil-hot": 250, "coil-sensor": 0,
        "coil-changed": 1, "counter": 1_000, "setting": 50, "realised": 0, "didt": 6,
        "arming-slow": None, "unresolved-long": None, "refused": 0, "session-long": 60_000_000,
        "missed-pulses": 0,
        "presence-lost": 5_000_000, "armed-idle": 1_000_000, "unresolved": 0, "link-doubt": 0,
    }  # fmt: skip
    assert readings(ASKED) == {
        "ceiling-mso": 50, "ceiling-mt": 100, "not-the-plan": 100, "not-granted": 100,
        "interval": 100_000, "recharge": 100_000, "train-length": 900_000, "session-pulses": 110,
        "day-pulses": 310, "week-pulses": 410, "rate": 10, "minute-unknown": 3_600_100_000,
        "energy": 630, "settle": 0,
        "block-rest": None, "train-rest": None, "train-gap": None,
    }  # fmt: skip
    assert readings(CONFIRMED) == {
        "not-confirmed": 0, "confirmation-old": 2_000_000, "self-test": 3_600_000_000,
        "ledger-counter": 1_000,
    }  # fmt: skip


def test_what_is_unknown_has_no_value_and_what_is_wrong_shows_its_own() -> None:
    unknown = {code for code, value in readings(NO_STATUS).items() if value is None}
    assert unknown == {
        "device-fault", "status-age", "disarmed-itself", "coil-hot", "coil-changed", "counter",
        "setting", "didt", "arming-slow", "unresolved-long",
    }  # fmt: skip
    shown = readings(
        facts(
            stopped_by="", service_fault="", device_known=False, link_doubt=True, ready_seen=False,
            unresolved_since=at(7), realised_permille=490, coil_rate_dc=9, presence_at=None,
            seen=pulses(0, 1, 60 * 1_000_000), status={"fault": "hot"}, didt_a_per_us=54,
        )
    )  # fmt: skip
    assert [
        shown[code]
        for code in ("stop", "journal-failed", "wrong-device", "link-doubt", "unresolved",
                     "unresolved-long", "realised", "coil-sensor", "presence-lost", "rate-seen",
                     "device-fault", "arming-slow", "didt")
    ] == [1, 1, 1, 1, 1, 7, 10, 9, None, 2, 1, 2_000_000, 58]  # fmt: skip
    alone = {"armed_mso": None, "realised_permille": None, "device_known": None}
    nothing = readings(facts(**alone))
    assert [nothing[code] for code in ("realised", "didt", "wrong-device")] == [None, None, None]
    assert readings(facts(armed_mso=PercentMso(0)))["didt"] is None
    assert readings(facts(didt_a_per_us=None))["didt"] is None
    assert readings(facts(realised_permille=None))["realised"] is None
    assert readings(facts(armed_mso=None))["realised"] is None


def test_a_block_shows_what_it_would_make_of_the_limits() -> None:
    shown = readings(request(sent=sent(2_000_000, 50_000), settled_at=START + 5, mt_permille=499))
    assert [shown[code] for code in ("ceiling-mt", "interval", "train-gap", "train-rest", "rate",
                                     "energy", "settle")] == [
        101, 50_000, 50_000, 50_000, 11, 756, 5,
    ]  # fmt: skip
    assert readings(request(mt_permille=0))["ceiling-mt"] is None
    full = request(block=block(100), mt_permille=999, sent=before((59_000_000, 59_109_950_000)))
    assert readings(full)["ceiling-mt"] == 101  # 100.1 %, rounded up
    assert readings(full)["energy"] == 61_629  # 61629.95 J
    assert {type(value) for value in readings(full).values()} == {int}
    later = CONFIRMED._replace(confirmed_hash="x", self_test_at=None, pulse_count=None)
    assert readings(later) == {
        "not-confirmed": 1, "confirmation-old": 2_000_000, "self-test": None,
        "ledger-counter": None,
    }  # fmt: skip


# -- all of them together --------------------------------------------------------------------

Axis = tuple[dict[str, Any], str]
ARMED_AXES: tuple[Axis, ...] = (
    ({"stopped_by": "pedal"}, "stop"),
    ({"strangers": 1}, "stranger-pulse"),
    ({"seen": pulses(*range(21))}, "rate-seen"),
    ({"cycle_gap_us": 40_001}, "cycle-gap"),
    ({"service_seen_at": None}, "service-lost"),
    ({"service_fault": "EIO"}, "journal-failed"),
    ({"counter": None}, "counter"),
    ({"realised_permille": 0}, "realised"),
    ({"refusals": 3}, "refused"),
    ({"missed": 3}, "missed-pulses"),
    ({"presence_at": None}, "presence-lost"),
    ({"energy_at": at(-1)}, "armed-idle"),
    ({"unresolved_since": at(0)}, "unresolved"),
)
STATUS_AXES: tuple[Axis, ...] = (
    ({"asked_at": at(60_001)}, "status-age"),
    ({"fault": "coil too hot"}, "device-fault"),
    ({"surface_dc": 411}, "coil-hot"),
    ({"mso_pct": 51}, "setting"),
    ({"state": DeviceState.IDLE}, "disarmed-itself"),
    ({"pulse_count": 5}, "counter"),
    ({"coil_dc": 601}, "coil-sensor"),
)
GATE_AXES: tuple[Axis, ...] = (
    ({"mt_permille": 1}, "ceiling-mt"),
    ({"granted_pulses": 0}, "not-granted"),
    ({"plan_pulses_left": 0}, "not-the-plan"),
    ({"session_pulses": 4_991}, "session-pulses"),
    ({"settled_at": START + 1}, "settle"),
)
ARM_AXES: tuple[Axis, ...] = (
    ({"confirmed_hash": "x"}, "not-confirmed"),
    ({"confirmed_at": at(-1)}, "confirmation-old"),
    ({"self_test_at": None}, "self-test"),
    ({"ledger_count": CounterRange(0, 1)}, "ledger-counter"),
)
WATCHED = pytest.mark.parametrize("watched", ["", "unresolved", "armed-idle", "stop"])


def joined(axes: tuple[Axis, ...], bad: tuple[bool, ...]) -> tuple[dict[str, Any], set[str]]:
    """The changes of the axes that are bad, and the codes that they must give."""
    chosen = [axis for axis, is_bad in zip(axes, bad, strict=True) if is_bad]
    changes = {name: value for change, _ in chosen for name, value in change.items()}
    return changes, {code for _, code in chosen}


@pytest.mark.parametrize("axes", [ARMED_AXES, STATUS_AXES], ids=["facts", "status"])
def test_all_causes_are_told_and_the_worst_action_wins(axes: tuple[Axis, ...]) -> None:
    for bad in product((False, True), repeat=len(axes)):
        changes, expected = joined(axes, bad)
        given = facts(status=changes) if axes is STATUS_AXES else facts(**changes)
        verdict = watch(given, LIMITS, NOW)
        assert codes(verdict) == expected
        assert verdict.action is worst(expected)


@WATCHED
def test_a_permit_is_judged_with_the_causes_of_the_cycle(watched: str) -> None:
    first = [Trip(watched, ACTIONS[watched], "before")] if watched else []
    verdict = Verdict(worst({watched} - {""}), tuple(first))
    for bad in product((False, True), repeat=len(GATE_AXES)):
        changes, expected = joined(GATE_AXES, bad)
        judged = gate(verdict, request(**changes), LIMITS)
        assert codes(judged) == expected | ({watched} - {""})
        assert judged.action is worst(codes(judged))
        assert list(judged.trips[: len(first)]) == first


@WATCHED
def test_arming_is_judged_with_the_causes_of_the_cycle(watched: str) -> None:
    first = [Trip(watched, ACTIONS[watched], "before")] if watched else []
    verdict = Verdict(worst({watched} - {""}), tuple(first))
    for bad in product((False, True), repeat=len(ARM_AXES)):
        changes, expected = joined(ARM_AXES, bad)
        judged = arm(verdict, CONFIRMED._replace(**changes), LIMITS, NOW)
        assert codes(judged) == expected | ({watched} - {""})
        assert judged.action is worst(codes(judged))
        assert list(judged.trips[: len(first)]) == first


def test_while_nothing_is_armed_only_what_always_counts_can_latch() -> None:
    every = Verdict(Action.SAFE, tuple(Trip(row.code, row.action, "x") for row in WATCH))
    left = latching(every)
    assert codes(left) == ALWAYS
    assert left.action is Action.SAFE
    others = tuple(trip for trip in every.trips if trip.code not in ALWAYS)
    assert latching(Verdict(Action.SAFE, others)) == latching(PERMIT) == PERMIT


FIXED_ONLY = {"beyond_table_us_max", "settle_up_us_per_pct", "settle_down_us_per_pct"}


def test_every_limit_is_looked_at_by_a_rule_or_a_check() -> None:
    """A limit that nothing compares with would protect nobody."""
    used = {name for row in (*WATCH,) for name in row.rule.__code__.co_names}
    used |= {name for row in GATE for name in row.rule.__code__.co_names}
    used |= {name for row in ARM for name in row.rule.__code__.co_names}
    unused = {field.name for field in fields(Limits)} - used
    assert unused == FIXED_ONLY | {"session_gap_min_s"}


def test_a_limit_of_zero_lets_nothing_pass() -> None:
    for name in ("mso_max_pct", "mt_max_pct", "pulses_1s_max", "energy_60s_max_j",
                 "session_pulses_max", "pulses_day_max", "pulses_week_max"):  # fmt: skip
        assert gate(PERMIT, ASKED, replace(GENERAL, **{name: 0})).action > Action.PERMIT, name
