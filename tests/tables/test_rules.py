"""The interlocks, one by one and together: on each limit, one unit past it, unknown, from later."""

from __future__ import annotations

from itertools import product
from typing import Any, NamedTuple

import pytest

from drivers.contract import DeviceState, DeviceStatus, PulseBlock
from firmware_protocol.quantities import BootUs, PercentMso
from tmsctl.safety.dose import PulseTimes
from tmsctl.safety.facts import CounterRange, Facts, Request
from tmsctl.safety.limits import GENERAL, site_limits
from tmsctl.safety.rules import GATE, PERMIT, WATCH, Action, Trip, Verdict, gate, latching, watch

NOW = BootUs(10_000_000_000)
SECOND = 1_000_000
MSO = PercentMso(50)
LIMITS = site_limits({"mso_max_pct": 60})
GAP_US = GENERAL.train_gap_min_us

LATCHES = """
    stop stranger-pulse device-fault rate-seen cycle-gap service-lost wrong-device status-age
    disarmed-itself coil-hot counter setting realised arming-slow unresolved-long refused
    session-long ceiling-mso ceiling-mt not-the-plan not-granted interval train-length
    session-pulses
"""
ACTIONS = {
    **dict.fromkeys(LATCHES.split(), Action.SAFE),
    "armed-idle": Action.DISARM,
    "unresolved": Action.HOLD,
    "rate": Action.HOLD,
    "train-gap": Action.HOLD,
}
ALWAYS = {"stop", "stranger-pulse", "device-fault"}


def pulses(*times: int) -> PulseTimes:
    noted = PulseTimes(GAP_US)
    noted.extend(times)
    return noted


STATUS = DeviceStatus(
    asked_at=BootUs(NOW - 20_000),
    state=DeviceState.READY,
    cause="",
    fault="",
    mso_pct=50,
    charge_permille=500,
    coil_dc=300,
    surface_dc=250,
    pulse_count=1_000,
    block_id=3,
    block_fired=10,
    coil_type=1,
)
GOOD = Facts(
    stopped_by=None,
    service_seen_at=BootUs(NOW - 200_000),
    cycle_gap_us=10_000,
    device_known=True,
    status=STATUS,
    armed_since=BootUs(NOW - 2 * SECOND),
    armed_mso=MSO,
    ready_seen=True,
    energy_at=BootUs(NOW - SECOND),
    counter=CounterRange(1_000, 1_010),
    realised_permille=500,
    unresolved_since=None,
    refusals=0,
    strangers=0,
    seen=pulses(),
    session_since=BootUs(NOW - 60 * SECOND),
)


def facts(*, status: dict[str, Any] | None = None, **changes: Any) -> Facts:
    changed = GOOD._replace(**changes)
    return changed._replace(status=STATUS._replace(**status)) if status else changed


def at(age_us: int) -> BootUs:
    return BootUs(NOW - age_us)


class View(NamedTuple):
    """What one rule is shown, and all codes that must trip."""

    about: str
    given: Any
    trips: frozenset[str]


def permits(code: str, given: Any) -> View:
    return View(code, given, frozenset())


def trips(code: str, given: Any, *others: str) -> View:
    return View(code, given, frozenset({code, *others}))


BLIND = ("status-age", "coil-hot", "counter")  # what trips when there is no status
WATCH_VIEWS = (
    permits("stop", facts()),
    trips("stop", facts(stopped_by="")),
    permits("stranger-pulse", facts(strangers=0)),
    trips("stranger-pulse", facts(strangers=1)),
    permits("device-fault", facts(status={"cause": "host stop"})),
    trips("device-fault", facts(status={"fault": "coil too hot"})),
    View("device-fault", facts()._replace(status=None), frozenset(BLIND)),
    permits("rate-seen", facts(seen=pulses(*range(0, SECOND, 50_000)))),
    permits("rate-seen", facts(seen=pulses(*range(0, SECOND + 1, 50_000)))),
    trips("rate-seen", facts(seen=pulses(*range(0, SECOND, 50_000), SECOND - 1))),
    permits("rate-seen", facts(seen=pulses(*range(0, 60 * SECOND + 1, 250_000)))),
    trips("rate-seen", facts(seen=pulses(*range(0, 60 * SECOND, 250_000), 60 * SECOND - 1))),
    permits("cycle-gap", facts(cycle_gap_us=0)),
    permits("cycle-gap", facts(cycle_gap_us=40_000)),
    trips("cycle-gap", facts(cycle_gap_us=40_001)),
    trips("cycle-gap", facts(cycle_gap_us=-1)),
    permits("service-lost", facts(service_seen_at=at(0))),
    permits("service-lost", facts(service_seen_at=at(1_000_000))),
    trips("service-lost", facts(service_seen_at=at(1_000_001))),
    trips("service-lost", facts(service_seen_at=at(-1))),
    trips("service-lost", facts(service_seen_at=None)),
    permits("wrong-device", facts(device_known=True)),
    permits("wrong-device", facts(device_known=None)),
    trips("wrong-device", facts(device_known=False)),
    permits("status-age", facts(status={"asked_at": at(0)})),
    permits("status-age", facts(status={"asked_at": at(60_000)})),
    trips("status-age", facts(status={"asked_at": at(60_001)})),
    trips("status-age", facts(status={"asked_at": at(-1)})),
    trips("status-age", facts()._replace(status=None), *BLIND),
    permits("disarmed-itself", facts(status={"state": DeviceState.ARMING})),
    permits("disarmed-itself", facts(status={"state": DeviceState.READY})),
    permits("disarmed-itself", facts(status={"state": DeviceState.FIRING})),
    trips("disarmed-itself", facts(status={"state": DeviceState.IDLE})),
    trips("disarmed-itself", facts(status={"state": DeviceState.LATCHED})),
    permits("disarmed-itself", facts(status={"state": DeviceState.IDLE}, ready_seen=False)),
    permits("disarmed-itself", facts(status={"state": DeviceState.IDLE}, armed_since=None)),
    permits("coil-hot", facts(status={"surface_dc": 1})),
    permits("coil-hot", facts(status={"surface_dc": 410})),
    trips("coil-hot", facts(status={"surface_dc": 411})),
    trips("coil-hot", facts(status={"surface_dc": 0})),
    trips("coil-hot", facts(status={"surface_dc": -1})),
    trips("coil-hot", facts()._replace(status=None), *BLIND),
    permits("counter", facts(status={"pulse_count": 1_000})),
    permits("counter", facts(status={"pulse_count": 1_010})),
    trips("counter", facts(status={"pulse_count": 999})),
    trips("counter", facts(status={"pulse_count": 1_011})),
    trips("counter", facts(counter=None)),
    trips("counter", facts()._replace(status=None), *BLIND),
    permits("setting", facts(status={"mso_pct": 50})),
    trips("setting", facts(status={"mso_pct": 49})),
    trips("setting", facts(status={"mso_pct": 51})),
    permits("setting", facts(status={"mso_pct": 0}, ready_seen=False)),
    permits("setting", facts(status={"mso_pct": 0}, armed_mso=None, realised_permille=None)),
    permits("realised", facts(realised_permille=470)),
    permits("realised", facts(realised_permille=530)),
    trips("realised", facts(realised_permille=469)),
    trips("realised", facts(realised_permille=531)),
    trips("realised", facts(realised_permille=0)),
    permits("realised", facts(realised_permille=None)),
    permits("realised", facts(realised_permille=900, armed_mso=None)),
    permits("arming-slow", facts(ready_seen=False, armed_since=at(0))),
    permits("arming-slow", facts(ready_seen=False, armed_since=at(4_000_000))),
    trips("arming-slow", facts(ready_seen=False, armed_since=at(4_000_001))),
    trips("arming-slow", facts(ready_seen=False, armed_since=at(-1))),
    permits("arming-slow", facts(ready_seen=False, armed_since=None)),
    permits("arming-slow", facts(ready_seen=True, armed_since=at(4_000_001))),
    permits("unresolved", facts(unresolved_since=None)),
    trips("unresolved", facts(unresolved_since=at(0))),
    permits("unresolved-long", facts(unresolved_since=None)),
    View("unresolved-long", facts(unresolved_since=at(1_000_000)), frozenset({"unresolved"})),
    trips("unresolved-long", facts(unresolved_since=at(1_000_001)), "unresolved"),
    trips("unresolved-long", facts(unresolved_since=at(-1)), "unresolved"),
    permits("refused", facts(refusals=2)),
    trips("refused", facts(refusals=3)),
    permits("session-long", facts(session_since=None)),
    permits("session-long", facts(session_since=at(0))),
    permits("session-long", facts(session_since=at(2_700_000_000))),
    trips("session-long", facts(session_since=at(2_700_000_001))),
    trips("session-long", facts(session_since=at(-1))),
    permits("armed-idle", facts(energy_at=None)),
    permits("armed-idle", facts(energy_at=at(0))),
    permits("armed-idle", facts(energy_at=at(59_999_999))),
    trips("armed-idle", facts(energy_at=at(60_000_000))),
    trips("armed-idle", facts(energy_at=at(-1))),
)


def block(mso: int = 50, bursts: int = 10, period_us: int = 100_000, per_burst: int = 1,
          interval_us: int = 0) -> PulseBlock:  # fmt: skip
    return PulseBlock(4, PercentMso(mso), bursts, period_us, per_burst, interval_us)


START = BootUs(NOW + 100_000)
ASKED = Request(
    block=block(),
    start_at=START,
    plan_mso=MSO,
    mt_permille=500,
    plan_pulses_left=100,
    session_pulses=100,
    sent=pulses(),
    granted_pulses=100,
)


def request(**changes: Any) -> Request:
    return ASKED._replace(**changes)


def sent(*before_us: int) -> PulseTimes:
    """Pulses so long before the block's first one."""
    return pulses(*(START - us for us in before_us))


TWENTY = block(bursts=20, period_us=50_000)
MINUTE = [60 * SECOND - 7_500_000 * train - 50_000 * i for train in range(8) for i in range(30)]
TRAIN = [10 * SECOND, 6 * SECOND, 2 * SECOND, 0]  # one run of 10 s
GATE_VIEWS = (
    permits("ceiling-mso", request(block=block(60), plan_mso=PercentMso(60))),
    trips("ceiling-mso", request(block=block(61), plan_mso=PercentMso(61), mt_permille=1_000)),
    permits("ceiling-mt", request(block=block(60), plan_mso=PercentMso(60), mt_permille=500)),
    trips("ceiling-mt", request(block=block(60), plan_mso=PercentMso(60), mt_permille=499)),
    trips("ceiling-mt", request(mt_permille=0)),
    permits("not-the-plan", request(plan_pulses_left=10)),
    trips("not-the-plan", request(plan_pulses_left=9)),
    trips("not-the-plan", request(plan_mso=PercentMso(49))),
    trips("not-the-plan", request(plan_mso=PercentMso(51))),
    permits("not-granted", request(granted_pulses=10)),
    trips("not-granted", request(granted_pulses=9)),
    trips("not-granted", request(granted_pulses=0)),
    permits("interval", request(block=block(bursts=1, per_burst=3, interval_us=20_000))),
    trips("interval", request(block=block(bursts=1, per_burst=3, interval_us=19_999))),
    permits("interval", request(block=block(bursts=1, per_burst=2, interval_us=20_000))),
    trips("interval", request(block=block(bursts=1, per_burst=2, interval_us=19_999))),
    permits("interval", request(block=block(50, 2, 60_000, 3, 20_000))),
    trips("interval", request(block=block(50, 2, 59_999, 3, 20_000))),
    permits("interval", request(sent=sent(20_000))),
    trips("interval", request(sent=sent(19_999))),
    trips("interval", request(sent=sent(0))),
    trips("interval", request(sent=sent(-1))),
    permits("interval", request(block=block(bursts=1, period_us=0))),
    permits("train-length", request(block=block(bursts=11, period_us=SECOND))),
    trips("train-length", request(block=block(bursts=2, period_us=10_000_001)), "train-gap"),
    permits("session-pulses", request(session_pulses=2_990)),
    trips("session-pulses", request(session_pulses=2_991)),
    permits("rate", request(block=TWENTY)),
    permits("rate", request(block=TWENTY, sent=sent(50_000))),
    trips("rate", request(block=TWENTY, sent=sent(49_999))),
    trips("rate", request(block=block(bursts=21, period_us=49_999))),
    permits("rate", request(sent=sent(*MINUTE))),
    trips("rate", request(sent=sent(*(us - 1 for us in MINUTE)))),
    permits("train-gap", request(sent=sent(*(us + 5_000_000 for us in TRAIN)))),
    trips("train-gap", request(sent=sent(*(us + 4_999_999 for us in TRAIN)))),
    permits("train-gap", request(sent=sent(9_100_000, 5_000_000, 1_000_000))),
    trips("train-gap", request(sent=sent(9_100_001, 5_000_000, 1_000_000))),
)


def codes(verdict: Verdict) -> set[str]:
    found = [trip.code for trip in verdict.trips]
    assert len(found) == len(set(found))
    return set(found)


def worst(found: set[str]) -> Action:
    return max((ACTIONS[code] for code in found), default=Action.PERMIT)


def numbered(views: tuple[View, ...]) -> pytest.MarkDecorator:
    names = [f"{view.about}-{number}" for number, view in enumerate(views)]
    return pytest.mark.parametrize("view", views, ids=names)


@numbered(WATCH_VIEWS)
def test_each_rule_of_every_cycle_trips_exactly_beyond_its_limit(view: View) -> None:
    verdict = watch(view.given, LIMITS, NOW)
    assert codes(verdict) == view.trips
    assert verdict.action is worst(codes(verdict))


@numbered(GATE_VIEWS)
def test_each_rule_for_a_block_trips_exactly_beyond_its_limit(view: View) -> None:
    verdict = gate(PERMIT, view.given, LIMITS)
    assert codes(verdict) == view.trips
    assert verdict.action is worst(codes(verdict))


def test_every_rule_has_a_hazard_and_the_action_that_was_reviewed() -> None:
    watched = [(row.code, row.action) for row in WATCH if row.hazards]
    gated = [(row.code, row.action) for row in GATE if row.hazards]
    assert len(watched + gated) == len(ACTIONS)
    assert dict(watched + gated) == ACTIONS
    assert {row.code for row in WATCH if row.always} == ALWAYS


def test_every_rule_must_permit_somewhere_and_trip_somewhere() -> None:
    for view_set, rules in ((WATCH_VIEWS, WATCH), (GATE_VIEWS, GATE)):
        seen = {(view.about, view.about in view.trips) for view in view_set}
        assert seen == {(rule.code, tripped) for rule in rules for tripped in (False, True)}


def test_nothing_wrong_is_a_permit_without_a_reason() -> None:
    assert watch(GOOD, LIMITS, NOW) == PERMIT == Verdict(Action.PERMIT, ())
    assert gate(PERMIT, ASKED, LIMITS) == PERMIT


NUMBERS: tuple[tuple[Facts | Request, str, str], ...] = (
    (facts(cycle_gap_us=40_001), "40001", "40000"),
    (facts(service_seen_at=at(1_000_001)), "1000001", "1000000"),
    (facts(status={"asked_at": at(60_001)}), "60001", "60000"),
    (facts(status={"surface_dc": 411}), "41.1", "41.0"),
    (facts(status={"pulse_count": 1_011}), "1011", "1000..1010"),
    (facts(realised_permille=531), "53.1", "50"),
    (facts(ready_seen=False, armed_since=at(4_000_001)), "4000001", "4000000"),
    (facts(session_since=at(2_700_000_001)), "2700000001", "2700000000"),
    (facts(energy_at=at(60_000_001)), "60000001", "60000000"),
    (request(sent=sent(*(us + 4_999_999 for us in TRAIN))), "4999999", "5000000"),
    (request(block=block(bursts=2, period_us=10_000_001)), "10000001", "10000000"),
    (request(block=block(bursts=1, per_burst=3, interval_us=19_999)), "19999", "20000"),
    (request(block=TWENTY, sent=sent(49_999)), "21 ", "20 "),
    (request(session_pulses=2_991), "3001", "3000"),
    (request(granted_pulses=9), "10", "9"),
)


@pytest.mark.parametrize(("given", "value", "limit"), NUMBERS)
def test_a_reason_says_both_numbers(given: Facts | Request, value: str, limit: str) -> None:
    verdict = watch(given, LIMITS, NOW) if isinstance(given, Facts) else gate(PERMIT, given, LIMITS)
    assert verdict.trips
    for trip in verdict.trips:
        assert value in trip.detail
        assert limit in trip.detail


# -- all of them together --------------------------------------------------------------------

Axis = tuple[dict[str, Any], str]
ARMED_AXES: tuple[Axis, ...] = (
    ({"stopped_by": "pedal"}, "stop"),
    ({"strangers": 1}, "stranger-pulse"),
    ({"seen": pulses(*range(21))}, "rate-seen"),
    ({"cycle_gap_us": 40_001}, "cycle-gap"),
    ({"service_seen_at": None}, "service-lost"),
    ({"device_known": False}, "wrong-device"),
    ({"counter": None}, "counter"),
    ({"realised_permille": 0}, "realised"),
    ({"refusals": 3}, "refused"),
    ({"session_since": at(-1)}, "session-long"),
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
)
GATE_AXES: tuple[Axis, ...] = (
    ({"mt_permille": 1}, "ceiling-mt"),
    ({"granted_pulses": 0}, "not-granted"),
    ({"plan_pulses_left": 0}, "not-the-plan"),
    ({"session_pulses": 2_991}, "session-pulses"),
    ({"block": TWENTY, "sent": sent(1, 0)}, "interval"),
)


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


@pytest.mark.parametrize("watched", ["", "unresolved", "armed-idle", "stop"])
def test_a_permit_is_judged_with_the_causes_of_the_cycle(watched: str) -> None:
    before = [Trip(watched, ACTIONS[watched], "before")] if watched else []
    verdict = Verdict(worst({watched} - {""}), tuple(before))
    for bad in product((False, True), repeat=len(GATE_AXES)):
        changes, expected = joined(GATE_AXES, bad)
        judged = gate(verdict, request(**changes), LIMITS)
        assert codes(judged) - {"rate"} == expected | ({watched} - {""})
        assert judged.action is worst(codes(judged))
        assert list(judged.trips[: len(before)]) == before


def test_while_nothing_is_armed_only_what_always_counts_can_latch() -> None:
    every = Verdict(Action.SAFE, tuple(Trip(row.code, row.action, "x") for row in WATCH))
    left = latching(every)
    assert codes(left) == ALWAYS
    assert left.action is Action.SAFE
    others = tuple(trip for trip in every.trips if trip.code not in ALWAYS)
    assert latching(Verdict(Action.SAFE, others)) == latching(PERMIT) == PERMIT
