"""A tighter limit never admits what a looser one refuses, and rules only add up (D-12).

Seeded pairs of limits, apart in one value, on random blocks, plans, doses and cycles.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

import pytest

from drivers.contract import DeviceState, PulseBlock
from firmware_protocol.quantities import BootUs, PercentMso
from tests.tables.plan_cases import TEN, View, theta, train
from tests.tables.rule_cases import ASKED, CONFIRMED, GOOD, NOW, STATUS
from tmsctl.safety.check import Check
from tmsctl.safety.dose import PulseTimes, pulse_energy_uj
from tmsctl.safety.facts import ArmRequest, CounterRange, Facts, Request
from tmsctl.safety.limits import GENERAL, ROWS, TABLE, LimitRow, Limits, session_limits
from tmsctl.safety.patient import PatientDose, patient_checks
from tmsctl.safety.plan_check import check_plan, tightened
from tmsctl.safety.rules import ARM, GATE, PERMIT, WATCH, Action, Verdict, arm, gate, watch

PAIRS: Final = 5_000
SECOND: Final = 1_000_000
START: Final = BootUs(NOW + 100_000)
NAMES: Final = [row.name for row in TABLE]


def codes(verdict: Verdict) -> set[str]:
    return {trip.code for trip in verdict.trips}


def near(draw: random.Random, row: LimitRow) -> int:
    """A value that is a limit: on a bound, beside one, or anywhere up to the absolute one."""
    marks = (row.absolute, row.general, row.bound, 0 if row.at_most else row.general * 2)
    value = draw.choice((*marks, draw.randint(0, 2 * max(marks) + 10))) + draw.randint(-2, 2)
    inside = min(value, row.absolute) if row.at_most else max(value, row.absolute)
    return max(0, inside)


def loose(draw: random.Random) -> Limits:
    """Limits of a session: general ones, some of them exceeded or tightened."""
    names = draw.sample(NAMES, 3)
    return replace(GENERAL, **{name: near(draw, ROWS[name]) for name in names})


def one_tighter(draw: random.Random, limits: Limits, name: str) -> Limits:
    row, now = ROWS[name], getattr(limits, name)
    step = draw.choice((1, 1 + now // 10, 1 + now // 2, now))
    return replace(limits, **{name: max(0, now - step) if row.at_most else now + step})


# -- blocks ----------------------------------------------------------------------------------


def a_block(draw: random.Random) -> PulseBlock:
    per_burst = draw.choice((1, 1, 1, 3))
    interval_us = draw.choice((10_000, 19_999, 20_000, 50_000)) if per_burst > 1 else 0
    period_us = draw.choice((40_000, 50_000, 100_000, 200_000, 1_000_000, 3_000_000))
    bursts = draw.choice((1, 2, 5, 10, 20))
    return PulseBlock(
        7, PercentMso(draw.choice((1, 30, 50, 60, 100))), bursts,
        period_us + (per_burst - 1) * interval_us, per_burst, interval_us,
    )  # fmt: skip


def some_sent(draw: random.Random, gap_us: int) -> PulseTimes:
    """Trains before the block, each at its own intensity."""
    sent = PulseTimes(gap_us)
    at = START - draw.choice((500_000, 5 * SECOND, 20 * SECOND, 61 * SECOND))
    while at < START and draw.random() < 0.9:
        energy_uj = pulse_energy_uj(draw.choice((30, 60, 100)))
        period_us = draw.choice((20_000, 50_000, 100_000, 500_000))
        for _ in range(draw.choice((1, 10, 40))):
            if at < START - 10_000:
                sent.add(at, energy_uj)
            at += period_us
        at += draw.choice((400_000, 500_000, 2 * SECOND, 5 * SECOND, 10 * SECOND))
    return sent


def a_request(draw: random.Random, limits: Limits) -> Request:
    block = a_block(draw)

    def spare() -> int:
        return draw.choice((-1, 0, 100, 1_000))

    return ASKED._replace(
        block=block,
        start_at=START,
        plan_mso=draw.choice((block.mso, block.mso, block.mso, PercentMso(2))),
        mt_permille=draw.choice((0, 250, 500, 834, 1_000)),
        plan_pulses_left=block.pulses + spare(),
        granted_pulses=block.pulses + spare(),
        session_pulses=draw.choice((0, limits.session_pulses_max - block.pulses + spare())),
        day_pulses=draw.choice((0, limits.pulses_day_max - block.pulses + spare())),
        week_pulses=draw.choice((0, limits.pulses_week_max - block.pulses + spare())),
        sent=some_sent(draw, limits.train_gap_min_us),
        all_sent_since=BootUs(START - draw.choice((59, 60, 61)) * SECOND),
        settled_at=BootUs(START + draw.choice((-SECOND, 0, 0, 1))),
        recharge_us=draw.choice((0, 10_000, 50_000)),
        rest_us=draw.choice((0, 500_000)),
    )


def as_the_guard_has_it(request: Request, limits: Limits) -> Request:
    """Runs are told apart by the interval in force."""
    return request._replace(sent=request.sent.with_gap(limits.train_gap_min_us))


# -- cycles and arming -----------------------------------------------------------------------


def a_view(draw: random.Random, limits: Limits) -> Facts:
    def age(limit: int) -> Any:
        past = limit + draw.choice((-limit, -1, 0, 1))
        return draw.choice((None, BootUs(NOW - past), BootUs(NOW - past), BootUs(NOW + 1)))

    status = STATUS._replace(
        asked_at=age(limits.status_age_max_us) or NOW,
        state=draw.choice((*DeviceState, DeviceState.READY)),
        surface_dc=limits.coil_max_dc + draw.choice((-400, -200, -1, 0, 1, 200)),
        coil_dc=draw.choice((49, 50, 300, 600, 601)),
        coil_type=draw.choice((0, 1, 1, 1, 5)),
    )
    seen = PulseTimes(limits.train_gap_min_us)
    step_us = draw.choice((40_000, 50_000, 250_000))
    seen.extend(NOW - i * step_us for i in reversed(range(draw.choice((0, 20, 21, 26, 250)))))
    return GOOD._replace(
        status=draw.choice((None, status, status, status)),
        service_seen_at=age(limits.service_age_max_us),
        cycle_gap_us=limits.cycle_gap_max_us + draw.choice((-30_000, 0, 1)),
        armed_since=age(limits.arming_max_us),
        ready_seen=draw.random() < 0.5,
        arm_taken=draw.random() < 0.5,
        energy_at=age(limits.armed_idle_max_us),
        unresolved_since=age(limits.unresolved_max_us),
        refusals=draw.randint(0, 4),
        missed=draw.randint(0, 4),
        link_errors=draw.randint(0, 3),
        session_since=age(limits.session_us_max),
        presence_at=age(limits.presence_age_max_us),
        coil_rate_dc=draw.randint(-25, 25),
        coil_stuck_j=limits.coil_stuck_max_j + draw.choice((-1_000, 0, 1)),
        realised_permille=500 + draw.randint(-40, 40),
        didt_a_per_us=draw.choice((None, draw.randint(50, 65))),
        seen=seen,
    )


def an_arming(draw: random.Random, limits: Limits) -> ArmRequest:
    def age(limit: int) -> BootUs:
        return BootUs(NOW - limit + draw.choice((-1, 0, 1, 1_000, limit, limit + 1)))

    return CONFIRMED._replace(
        confirmed_hash=draw.choice(("", CONFIRMED.plan_hash, CONFIRMED.plan_hash)),
        confirmed_at=age(limits.confirm_age_max_us),
        self_test_at=draw.choice((None, age(limits.self_test_age_max_us))),
        ledger_count=CounterRange(0, draw.choice((999, 1_000))),
    )


# -- plans -----------------------------------------------------------------------------------


def a_plan(draw: random.Random) -> View:
    bursts = draw.choice((1, 2, 10, 20, 33, 41, 43, 60))
    if draw.random() < 0.4:
        one = theta(0, min(bursts, 20), draw.choice((199_999, 200_000)), 3, 20_000)
    else:
        one = train(0, bursts, draw.choice((39_999, 40_000, 50_000, 100_000, 200_000, SECOND)))
    period_us = one.bursts * one.burst_period_us + draw.choice((2, 5, 8, 10, 26)) * SECOND
    number = draw.choice((1, 1, 2, 3))
    trains = tuple(replace(one, onset_us=n * period_us) for n in range(number))
    return View(trains, PercentMso(draw.choice((30, 50, 60, 100))), draw.choice((417, 500, 1_000)))


def grades(checks: tuple[Check, ...]) -> dict[str, int]:
    """0 allowed, 1 with a reason, 2 refused."""
    return {check.code: 0 if check.ok else 1 if check.soft else 2 for check in checks}


def an_exception(draw: random.Random) -> dict[str, int]:
    names = [row.name for row in TABLE if row.settable and row.bound != row.absolute]
    chosen = draw.sample(names, draw.choice((0, 1, 2)))
    return {name: ROWS[name].absolute for name in chosen}


# -- the properties --------------------------------------------------------------------------


def test_a_tighter_limit_admits_no_block_that_a_looser_one_refuses() -> None:
    draw, seen = random.Random(20_260_501), Counter[str]()
    for _ in range(PAIRS):
        limits = loose(draw)
        request = a_request(draw, limits)
        name = draw.choice(NAMES)
        tight = one_tighter(draw, limits, name)
        before = codes(gate(PERMIT, as_the_guard_has_it(request, limits), limits))
        after = codes(gate(PERMIT, as_the_guard_has_it(request, tight), tight))
        assert before <= after, (name, before - after)
        seen.update(after or {"permitted"})
    assert {row.code for row in GATE} < {*seen}
    assert seen["permitted"] > 50


def test_a_block_is_admitted_when_every_rule_alone_admits_it_and_only_then() -> None:
    draw = random.Random(7)
    for _ in range(PAIRS // 4):
        limits = loose(draw)
        request = a_request(draw, limits)
        alone = {row.code for row in GATE if row.rule(request, limits) is not None}
        verdict = gate(PERMIT, request, limits)
        assert codes(verdict) == alone
        assert (verdict.action is Action.PERMIT) == (not alone)


def test_a_tighter_limit_permits_no_cycle_and_no_arming_that_a_looser_one_stops() -> None:
    draw, seen = random.Random(11), Counter[str]()
    for _ in range(PAIRS // 2):
        limits = loose(draw)
        tight = one_tighter(draw, limits, draw.choice(NAMES))
        facts, asked = a_view(draw, limits), an_arming(draw, limits)
        for before, after in (
            (watch(facts, limits, NOW), watch(facts, tight, NOW)),
            (arm(PERMIT, asked, limits, NOW), arm(PERMIT, asked, tight, NOW)),
        ):
            assert codes(before) <= codes(after)
            assert before.action <= after.action
            seen.update(codes(after))
    compared = {row.code for row in WATCH if row.limit} | {row.code for row in ARM}
    assert compared <= {*seen}


def check_pairs(seed: int, pairs: int, run: Callable[[random.Random, Limits], Any]) -> Counter[str]:
    """Run the same checks under limits and one that is tighter; which of them failed, how often."""
    draw, seen = random.Random(seed), Counter[str]()
    for _ in range(pairs):
        limits = loose(draw)
        tight = one_tighter(draw, limits, draw.choice(NAMES))
        state = draw.getstate()
        before = grades(run(draw, limits))
        draw.setstate(state)  # the same plan again
        after = grades(run(draw, tight))
        assert before.keys() == after.keys()
        assert [code for code in before if after[code] < before[code]] == []
        seen.update(code for code, grade in after.items() if grade)
        seen.update(["allowed"] if not any(after.values()) else [])
    return seen


def test_a_tighter_limit_admits_no_plan_that_a_looser_one_refuses() -> None:
    def run(draw: random.Random, limits: Limits) -> tuple[Check, ...]:
        exceeds, by_emg = an_exception(draw), draw.random() < 0.7
        recharge = draw.choice((None, 10_000, 50_000))
        return check_plan(a_plan(draw), limits, recharge, by_emg, exceeds, draw.choice(("", "A")))

    seen = check_pairs(13, PAIRS // 3, run)
    assert len(seen) == 17  # every check failed somewhere, and some plan passed all
    assert seen["allowed"] > 20


def test_a_tighter_limit_admits_no_dose_that_a_looser_one_refuses() -> None:
    def run(draw: random.Random, limits: Limits) -> tuple[Check, ...]:
        history = PatientDose(
            draw.choice((0, 2_900, 5_900, 17_900)) + draw.randint(0, 100),
            draw.choice((0, 14_900, 29_900, 89_900)) + draw.randint(0, 100),
            draw.choice((None, 2_999, 3_000, 14_399, 14_400, 100_000)),
        )
        if history.since_last_us is not None:
            history = history._replace(since_last_us=history.since_last_us * SECOND)
        return patient_checks(history, TEN, limits, an_exception(draw))

    seen = check_pairs(17, PAIRS // 3, run)
    assert {*seen} == {"day-pulses", "week-pulses", "session-gap", "allowed"}


def test_an_exception_loosens_only_what_it_names_and_a_plan_only_tightens() -> None:
    draw = random.Random(19)
    for _ in range(500):
        exceeds, plan = an_exception(draw), a_plan(draw)
        limits = session_limits(GENERAL, exceeds)
        changed = {name for name in NAMES if getattr(limits, name) != getattr(GENERAL, name)}
        assert changed <= {*exceeds}
        session = tightened(limits, plan)
        for row in TABLE:
            now, then = getattr(limits, row.name), getattr(session, row.name)
            assert then <= now if row.at_most else then >= now


@pytest.mark.parametrize("row", [row for row in TABLE if row.settable], ids=lambda row: row.name)
def test_tightening_really_tightens(row: LimitRow) -> None:
    """The pairs above would prove nothing if they were equal."""
    draw = random.Random(23)
    tight = [getattr(one_tighter(draw, GENERAL, row.name), row.name) for _ in range(20)]
    if row.general > 0:
        assert all(value < row.general if row.at_most else value > row.general for value in tight)
