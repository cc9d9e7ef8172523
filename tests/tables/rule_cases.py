"""Cases for every rule and every check: just allowed, just refused, unknown, from the future.

`ALLOWS` and `REFUSES` hold them by code. A code may have cases of several tables: the same limit is
judged on the whole plan and on each block again. What each case shows to its rule, and all codes
that have to trip on it, is in the case itself; `test_rules`, `test_plan_check` and `test_patient`
run them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from drivers.contract import DeviceState, DeviceStatus, PulseBlock
from firmware_protocol.quantities import BootUs, PercentMso
from tests.tables.plan_cases import PATIENT_CASES, PLAN_CASES, Case
from tmsctl.safety.dose import PulseTimes, pulse_energy_uj
from tmsctl.safety.facts import ArmRequest, CounterRange, Facts, Request
from tmsctl.safety.limits import GENERAL, site_limits

NOW = BootUs(100_000_000_000)
SECOND = 1_000_000
HOUR = 3_600 * SECOND
MSO = PercentMso(50)
EACH_UJ = pulse_energy_uj(50)  # 63 J
LIMITS = site_limits({"mso_max_pct": 60})
GAP_US = GENERAL.train_gap_min_us


def at(age_us: int) -> BootUs:
    return BootUs(NOW - age_us)


def pulses(*times: int, energy_uj: int = EACH_UJ) -> PulseTimes:
    noted = PulseTimes(GAP_US)
    noted.extend(times, energy_uj)
    return noted


# -- every cycle -----------------------------------------------------------------------------

STATUS = DeviceStatus(
    asked_at=at(20_000),
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
    service_seen_at=at(200_000),
    cycle_gap_us=10_000,
    device_known=True,
    status=STATUS,
    armed_since=at(2 * SECOND),
    armed_mso=MSO,
    ready_seen=True,
    arm_taken=True,
    energy_at=at(SECOND),
    counter=CounterRange(1_000, 1_010),
    realised_permille=500,
    unresolved_since=None,
    refusals=0,
    missed=0,
    strangers=0,
    seen=pulses(),
    session_since=at(60 * SECOND),
    presence_at=at(5 * SECOND),
    service_fault=None,
    link_errors=0,
    link_doubt=False,
    coil_at_link=1,
    coil_rate_dc=0,
    coil_stuck_j=0,
    didt_a_per_us=57,
)


def facts(*, status: dict[str, Any] | None = None, **changes: Any) -> Facts:
    changed = GOOD._replace(**changes)
    return changed._replace(status=STATUS._replace(**status)) if status else changed


NO_STATUS = GOOD._replace(status=None)
BLIND = ("status-age", "coil-hot", "coil-sensor", "coil-changed", "counter")  # without a status


def ok(code: str, given: Facts, *others: str) -> Case:
    """The rule permits; `others` trip nevertheless."""
    return Case("watch", code, given, frozenset(others))


def bad(code: str, given: Facts, *others: str) -> Case:
    return Case("watch", code, given, frozenset({code, *others}))


LOW = {"armed_mso": PercentMso(10), "realised_permille": 100}  # 11.473 A/us expected, +- 3
WATCH_CASES = (
    ok("stop", facts()),
    bad("stop", facts(stopped_by="")),
    bad("stop", facts(stopped_by="pedal")),
    ok("stranger-pulse", facts(strangers=0)),
    bad("stranger-pulse", facts(strangers=1)),
    ok("device-fault", facts(status={"cause": "host stop"})),
    ok("device-fault", NO_STATUS, *BLIND),
    bad("device-fault", facts(status={"fault": "coil too hot"})),
    ok("journal-failed", facts(service_fault=None)),
    bad("journal-failed", facts(service_fault="no space left on device")),
    bad("journal-failed", facts(service_fault="")),
    ok("rate-seen", facts(seen=pulses(*range(0, SECOND, 50_000)))),
    ok("rate-seen", facts(seen=pulses(*range(0, SECOND + 1, 50_000)))),
    bad("rate-seen", facts(seen=pulses(*range(0, SECOND, 50_000), SECOND - 1))),
    ok("rate-seen", facts(seen=pulses(*range(0, 60 * SECOND + 1, 250_000)))),
    bad("rate-seen", facts(seen=pulses(*range(0, 60 * SECOND, 250_000), 60 * SECOND - 1))),
    ok("cycle-gap", facts(cycle_gap_us=0)),
    ok("cycle-gap", facts(cycle_gap_us=40_000)),
    bad("cycle-gap", facts(cycle_gap_us=40_001)),
    bad("cycle-gap", facts(cycle_gap_us=-1)),
    ok("service-lost", facts(service_seen_at=at(0))),
    ok("service-lost", facts(service_seen_at=at(1_000_000))),
    bad("service-lost", facts(service_seen_at=at(1_000_001))),
    bad("service-lost", facts(service_seen_at=at(-1))),
    bad("service-lost", facts(service_seen_at=None)),
    ok("wrong-device", facts(device_known=True)),
    ok("wrong-device", facts(device_known=None)),
    bad("wrong-device", facts(device_known=False)),
    ok("status-age", facts(status={"asked_at": at(0)})),
    ok("status-age", facts(status={"asked_at": at(60_000)})),
    bad("status-age", facts(status={"asked_at": at(60_001)})),
    bad("status-age", facts(status={"asked_at": at(-1)})),
    bad("status-age", NO_STATUS, *BLIND),
    ok("link-errors", facts(link_errors=0)),
    ok("link-errors", facts(link_errors=1)),
    bad("link-errors", facts(link_errors=2)),
    ok("link-doubt", facts(link_doubt=False)),
    bad("link-doubt", facts(link_doubt=True)),
    ok("disarmed-itself", facts(status={"state": DeviceState.ARMING})),
    ok("disarmed-itself", facts(status={"state": DeviceState.READY})),
    ok("disarmed-itself", facts(status={"state": DeviceState.FIRING})),
    ok("disarmed-itself", facts(status={"state": DeviceState.ARMING}, ready_seen=False)),
    ok(
        "disarmed-itself",
        facts(status={"state": DeviceState.IDLE}, ready_seen=False, arm_taken=False),
    ),
    bad("disarmed-itself", facts(status={"state": DeviceState.IDLE}, ready_seen=False)),
    bad("disarmed-itself", facts(status={"state": DeviceState.LATCHED}, arm_taken=False)),
    ok("disarmed-itself", facts(status={"state": DeviceState.IDLE}, armed_since=None)),
    ok("disarmed-itself", NO_STATUS, *BLIND),
    bad("disarmed-itself", facts(status={"state": DeviceState.IDLE})),
    bad("disarmed-itself", facts(status={"state": DeviceState.LATCHED})),
    ok("coil-hot", facts(status={"surface_dc": 1}), "coil-sensor"),
    ok("coil-hot", facts(status={"surface_dc": 410})),
    bad("coil-hot", facts(status={"surface_dc": 411})),
    bad("coil-hot", facts(status={"surface_dc": 0}), "coil-sensor"),
    bad("coil-hot", facts(status={"surface_dc": -1}), "coil-sensor"),
    bad("coil-hot", NO_STATUS, *BLIND),
    ok("coil-sensor", facts(status={"surface_dc": 50, "coil_dc": 50})),
    ok("coil-sensor", facts(status={"coil_dc": 600})),
    ok("coil-sensor", facts(status={"surface_dc": 600}), "coil-hot"),
    ok("coil-sensor", facts(coil_rate_dc=20)),
    ok("coil-sensor", facts(coil_rate_dc=-20)),
    ok("coil-sensor", facts(coil_stuck_j=5_000)),
    bad("coil-sensor", facts(status={"surface_dc": 49})),
    bad("coil-sensor", facts(status={"coil_dc": 49})),
    bad("coil-sensor", facts(status={"coil_dc": 601})),
    bad("coil-sensor", facts(status={"surface_dc": 601}), "coil-hot"),
    bad("coil-sensor", facts(coil_rate_dc=21)),
    bad("coil-sensor", facts(coil_rate_dc=-21)),
    bad("coil-sensor", facts(coil_stuck_j=5_001)),
    bad("coil-sensor", NO_STATUS, *BLIND),
    ok("coil-changed", facts(status={"coil_type": 2}, coil_at_link=2, didt_a_per_us=None)),
    bad("coil-changed", facts(status={"coil_type": 2}, didt_a_per_us=None)),
    bad("coil-changed", facts(coil_at_link=2)),
    bad("coil-changed", facts(status={"coil_type": 0}), "didt"),
    bad("coil-changed", facts(status={"coil_type": 0}, coil_at_link=0), "didt"),
    bad("coil-changed", facts(coil_at_link=0)),
    bad("coil-changed", facts(coil_at_link=None)),
    bad("coil-changed", NO_STATUS, *BLIND),
    ok("counter", facts(status={"pulse_count": 1_000})),
    ok("counter", facts(status={"pulse_count": 1_010})),
    bad("counter", facts(status={"pulse_count": 999})),
    bad("counter", facts(status={"pulse_count": 1_011})),
    bad("counter", facts(counter=None)),
    bad("counter", NO_STATUS, *BLIND),
    ok("setting", facts(status={"mso_pct": 50})),
    ok("setting", facts(status={"mso_pct": 0}, ready_seen=False)),
    ok("setting", facts(status={"mso_pct": 0}, armed_mso=None)),
    ok("setting", NO_STATUS, *BLIND),
    bad("setting", facts(status={"mso_pct": 49})),
    bad("setting", facts(status={"mso_pct": 51})),
    ok("realised", facts(realised_permille=470)),
    ok("realised", facts(realised_permille=530)),
    ok("realised", facts(realised_permille=None)),
    ok("realised", facts(realised_permille=900, armed_mso=None)),
    bad("realised", facts(realised_permille=469)),
    bad("realised", facts(realised_permille=531)),
    bad("realised", facts(realised_permille=0)),
    ok("didt", facts(didt_a_per_us=54)),  # 57.365 +- 3.442 at 50 %MSO
    ok("didt", facts(didt_a_per_us=60)),
    ok("didt", facts(status={"mso_pct": 10}, **LOW, didt_a_per_us=9)),
    ok("didt", facts(status={"mso_pct": 10}, **LOW, didt_a_per_us=14)),
    ok("didt", facts(didt_a_per_us=None)),
    ok("didt", facts(didt_a_per_us=1_000, armed_mso=None)),
    ok("didt", NO_STATUS, *BLIND),
    bad("didt", facts(didt_a_per_us=53)),
    bad("didt", facts(didt_a_per_us=61)),
    bad("didt", facts(didt_a_per_us=0)),
    bad("didt", facts(status={"mso_pct": 10}, **LOW, didt_a_per_us=8)),
    bad("didt", facts(status={"mso_pct": 10}, **LOW, didt_a_per_us=15)),
    bad("didt", facts(status={"coil_type": 5}, coil_at_link=5)),
    bad("didt", facts(status={"coil_type": 5}, coil_at_link=5, armed_mso=None)),
    bad("didt", facts(status={"coil_type": 5}, coil_at_link=5, didt_a_per_us=None)),
    ok("arming-slow", facts(ready_seen=False, armed_since=at(0))),
    ok("arming-slow", facts(ready_seen=False, armed_since=at(4_000_000))),
    ok("arming-slow", facts(ready_seen=False, armed_since=None)),
    ok("arming-slow", facts(ready_seen=True, armed_since=at(4_000_001))),
    bad("arming-slow", facts(ready_seen=False, armed_since=at(4_000_001))),
    bad("arming-slow", facts(ready_seen=False, armed_since=at(-1))),
    ok("unresolved", facts(unresolved_since=None)),
    bad("unresolved", facts(unresolved_since=at(0))),
    ok("unresolved-long", facts(unresolved_since=None)),
    ok("unresolved-long", facts(unresolved_since=at(0)), "unresolved"),
    ok("unresolved-long", facts(unresolved_since=at(1_000_000)), "unresolved"),
    bad("unresolved-long", facts(unresolved_since=at(1_000_001)), "unresolved"),
    bad("unresolved-long", facts(unresolved_since=at(-1)), "unresolved"),
    ok("refused", facts(refusals=2)),
    bad("refused", facts(refusals=3)),
    ok("missed-pulses", facts(missed=2)),
    bad("missed-pulses", facts(missed=3)),
    ok("session-long", facts(session_since=None)),
    ok("session-long", facts(session_since=at(0))),
    ok("session-long", facts(session_since=at(2_700_000_000))),
    bad("session-long", facts(session_since=at(2_700_000_001))),
    bad("session-long", facts(session_since=at(-1))),
    ok("presence-lost", facts(presence_at=at(0))),
    ok("presence-lost", facts(presence_at=at(60_000_000))),
    bad("presence-lost", facts(presence_at=at(60_000_001))),
    bad("presence-lost", facts(presence_at=at(-1))),
    bad("presence-lost", facts(presence_at=None)),
    ok("armed-idle", facts(energy_at=None)),
    ok("armed-idle", facts(energy_at=at(0))),
    ok("armed-idle", facts(energy_at=at(59_999_999))),
    bad("armed-idle", facts(energy_at=at(60_000_000))),
    bad("armed-idle", facts(energy_at=at(-1))),
)

# -- each block ------------------------------------------------------------------------------


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
    day_pulses=200,
    week_pulses=300,
    all_sent_since=at(HOUR),
    settled_at=NOW,
    recharge_us=10_000,
    rest_us=0,
)


def request(**changes: Any) -> Request:
    return ASKED._replace(**changes)


def sent(*before_us: int, energy_uj: int = EACH_UJ) -> PulseTimes:
    """Pulses so long before the block's first one."""
    return pulses(*(START - us for us in before_us), energy_uj=energy_uj)


def before(*pulse: tuple[int, int]) -> PulseTimes:
    """Pulses of their own energy, uJ, so long before the block's first one."""
    noted = PulseTimes(GAP_US)
    for us, energy_uj in pulse:
        noted.add(START - us, energy_uj)
    return noted


def run(first_us: int, *then_us: int, count: int = 10, energy_uj: int = 252_000_000) -> PulseTimes:
    """`count` pulses 100 ms apart from `first_us` before the block, then single ones."""
    times = [first_us - 100_000 * i for i in range(count)]
    return sent(*times, *then_us, energy_uj=energy_uj)


def lets(code: str, given: Request, *others: str) -> Case:
    return Case("gate", code, given, frozenset(others))


def no(code: str, given: Request, *others: str) -> Case:
    return Case("gate", code, given, frozenset({code, *others}))


SINGLE = block(bursts=1, period_us=0)
TWENTY = block(bursts=20, period_us=50_000)
MINUTE = [60 * SECOND - 7_500_000 * train - 50_000 * i for train in range(8) for i in range(30)]
TRAIN = [10 * SECOND, 6 * SECOND, 2 * SECOND, 0]  # one run of 10 s
GATE_CASES = (
    lets("ceiling-mso", request(block=block(60), plan_mso=PercentMso(60))),
    no("ceiling-mso", request(block=block(61), plan_mso=PercentMso(61), mt_permille=1_000)),
    lets("ceiling-mt", request(block=block(60), plan_mso=PercentMso(60), mt_permille=500)),
    no("ceiling-mt", request(block=block(60), plan_mso=PercentMso(60), mt_permille=499)),
    no("ceiling-mt", request(mt_permille=0)),
    lets("ceiling-mt", request(block=block(100), plan_mso=PercentMso(100), mt_permille=834),
         "ceiling-mso"),
    no("ceiling-mt", request(block=block(100), plan_mso=PercentMso(100), mt_permille=833),
       "ceiling-mso"),  # 120.05 %
    lets("not-the-plan", request(plan_pulses_left=10)),
    no("not-the-plan", request(plan_pulses_left=9)),
    no("not-the-plan", request(plan_mso=PercentMso(49))),
    no("not-the-plan", request(plan_mso=PercentMso(51))),
    lets("not-granted", request(granted_pulses=10)),
    no("not-granted", request(granted_pulses=9)),
    no("not-granted", request(granted_pulses=0)),
    lets("interval", request(block=block(bursts=1, per_burst=3, interval_us=20_000))),
    no("interval", request(block=block(bursts=1, per_burst=3, interval_us=19_999))),
    lets("interval", request(block=block(bursts=1, per_burst=2, interval_us=20_000))),
    no("interval", request(block=block(bursts=1, per_burst=2, interval_us=19_999))),
    lets("interval", request(block=block(50, 2, 60_000, 3, 20_000))),
    no("interval", request(block=block(50, 2, 59_999, 3, 20_000))),
    lets("interval", request(sent=sent(20_000))),
    no("interval", request(sent=sent(19_999))),
    no("interval", request(sent=sent(0)), "recharge"),
    no("interval", request(sent=sent(-1)), "recharge", "block-rest"),
    lets("interval", request(block=SINGLE)),
    lets("recharge", request(recharge_us=100_000)),
    no("recharge", request(recharge_us=100_001)),
    lets("recharge", request(block=block(1, 1, 0, 3, 20_000), plan_mso=PercentMso(1),
                             recharge_us=20_000)),
    no("recharge", request(block=block(1, 1, 0, 3, 20_000), plan_mso=PercentMso(1),
                           recharge_us=20_001)),
    lets("recharge", request(sent=sent(50_000), recharge_us=50_000)),
    no("recharge", request(sent=sent(49_999), recharge_us=50_000)),
    lets("recharge", request(block=SINGLE, recharge_us=3_276_750)),
    lets("train-length", request(block=block(bursts=11, period_us=SECOND))),
    no("train-length", request(block=block(bursts=2, period_us=10_000_001)), "train-gap"),
    lets("session-pulses", request(session_pulses=4_990)),
    no("session-pulses", request(session_pulses=4_991)),
    lets("day-pulses", request(day_pulses=5_890)),
    no("day-pulses", request(day_pulses=5_891)),
    no("day-pulses", request(day_pulses=-1)),
    lets("day-pulses", request(day_pulses=0)),
    lets("week-pulses", request(week_pulses=29_890)),
    no("week-pulses", request(week_pulses=29_891)),
    no("week-pulses", request(week_pulses=-1)),
    lets("week-pulses", request(week_pulses=0)),
    lets("rate", request(block=TWENTY)),
    lets("rate", request(block=TWENTY, sent=sent(50_000))),
    no("rate", request(block=TWENTY, sent=sent(49_999))),
    no("rate", request(block=block(bursts=21, period_us=49_999))),
    lets("rate", request(sent=sent(*MINUTE))),
    no("rate", request(sent=sent(*(us - 1 for us in MINUTE)))),
    lets("minute-unknown", request(all_sent_since=BootUs(START - 60 * SECOND))),
    no("minute-unknown", request(all_sent_since=BootUs(START - 60 * SECOND + 1))),
    no("minute-unknown", request(all_sent_since=BootUs(START + 1))),
    # 63000 J in 60 s. The block is one pulse of 63 J; the rest left 1 us less than 60 s before.
    lets("energy", request(block=SINGLE, sent=before((59_999_999, 62_937_000_000)))),
    no("energy", request(block=SINGLE, sent=before((59_999_999, 62_937_000_001)))),
    lets("energy", request(block=SINGLE, sent=before((60_000_000, 63_000_000_000)))),
    lets("energy", request(sent=before((59_999_999, 62_370_000_000)))),  # 10 pulses, one inside
    lets("energy", request(block=TWENTY, sent=before((59 * SECOND, 61_000_000_000),
                                                     (30 * SECOND, 740_000_000)))),
    no("energy", request(block=TWENTY, sent=before((59 * SECOND, 61_000_000_000),
                                                   (30 * SECOND, 740_000_001)))),
    lets("settle", request(settled_at=START)),
    no("settle", request(settled_at=BootUs(START + 1))),
    # 10 pulses of 252 J want 2.4 s at 1050 W, from the first one on.
    lets("block-rest", request(sent=sent(500_000), rest_us=500_000)),
    no("block-rest", request(sent=sent(499_999), rest_us=500_000)),
    lets("block-rest", request(sent=sent(), rest_us=500_000)),
    lets("train-rest", request(sent=run(2_400_000))),
    no("train-rest", request(sent=run(2_399_999))),
    no("train-rest", request(sent=run(1_400_000))),  # 0.5 s after the last one
    lets("train-rest", request(sent=run(1_399_999))),  # less is no rest: the train goes on
    lets("train-rest", request(sent=run(4_000_000, 1_000_000))),
    no("train-rest", request(sent=run(2_500_000, 1_000_000))),  # 11 pulses since the first start
    lets("train-rest", request(sent=run(2_640_000, 1_000_000))),
    no("train-rest", request(sent=before((3_000_000, 1), (2_500_000, 2_625_000_001)))),
    lets("train-rest", request(sent=before((3_000_000, 1), (2_500_000, 2_625_000_000)))),
    lets("train-rest", request(sent=before((2_999_999, 1), (2_500_000, 2_625_000_001)))),
    lets("train-rest", request(sent=sent())),
    lets("train-gap", request(sent=sent(*(us + 5_000_000 for us in TRAIN)))),
    no("train-gap", request(sent=sent(*(us + 4_999_999 for us in TRAIN)))),
    lets("train-gap", request(sent=sent(9_100_000, 5_000_000, 1_000_000))),
    no("train-gap", request(sent=sent(9_100_001, 5_000_000, 1_000_000))),
)  # fmt: skip

# -- arming ----------------------------------------------------------------------------------

CONFIRMED = ArmRequest(
    plan_hash="ab" * 32,
    confirmed_hash="ab" * 32,
    confirmed_at=at(2 * SECOND),
    self_test_at=at(HOUR),
    ledger_count=CounterRange(990, 1_010),
    pulse_count=1_000,
)


def arms(code: str, **changes: Any) -> Case:
    return Case("arm", code, CONFIRMED._replace(**changes), frozenset())


def never(code: str, **changes: Any) -> Case:
    return Case("arm", code, CONFIRMED._replace(**changes), frozenset({code}))


ARM_CASES = (
    arms("not-confirmed"),
    never("not-confirmed", confirmed_hash="ab" * 31 + "ac"),
    never("not-confirmed", plan_hash="cd" * 32),
    never("not-confirmed", confirmed_hash=""),
    never("not-confirmed", confirmed_hash="", plan_hash=""),
    arms("confirmation-old", confirmed_at=at(0)),
    arms("confirmation-old", confirmed_at=at(10_000_000)),
    never("confirmation-old", confirmed_at=at(10_000_001)),
    never("confirmation-old", confirmed_at=at(-1)),
    arms("self-test", self_test_at=at(0)),
    arms("self-test", self_test_at=at(24 * HOUR)),
    never("self-test", self_test_at=at(24 * HOUR + 1)),
    never("self-test", self_test_at=at(-1)),
    never("self-test", self_test_at=None),
    arms("ledger-counter", pulse_count=990),
    arms("ledger-counter", pulse_count=1_010),
    never("ledger-counter", pulse_count=989),
    never("ledger-counter", pulse_count=1_011),
    never("ledger-counter", pulse_count=None),
)


# -- all of them -----------------------------------------------------------------------------

CASES: tuple[Case, ...] = (*WATCH_CASES, *GATE_CASES, *ARM_CASES, *PLAN_CASES, *PATIENT_CASES)


class _Sides(NamedTuple):
    allows: dict[str, tuple[Case, ...]]
    refuses: dict[str, tuple[Case, ...]]


def _sides(cases: Iterable[Case]) -> _Sides:
    sides = _Sides({}, {})
    for case in cases:
        side = sides.refuses if case.code in case.trips else sides.allows
        side[case.code] = (*side.get(case.code, ()), case)
    return sides


ALLOWS, REFUSES = _sides(CASES)
