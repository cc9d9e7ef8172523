"""P3 and P4: rules only add up, and a tighter limit never admits more (D-12).

On every combination of small requests and limits, not on samples.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, replace
from itertools import combinations, product
from typing import Any

import pytest

from drivers.contract import DeviceState, PulseBlock
from firmware_protocol.quantities import BootUs, PercentMso
from tests.proofs.views import FACTS, NOW, STATUS, with_facts, with_request
from tmsctl.safety.dose import PulseTimes
from tmsctl.safety.facts import CounterRange, Facts, Request
from tmsctl.safety.limits import GENERAL, ROWS, TABLE, Limits, session_limits, site_limits
from tmsctl.safety.rules import GATE, PERMIT, WATCH, Action, Trip, Verdict, gate, latching, watch

SECOND = 1_000_000
START = BootUs(NOW + 100_000)


def sent(*before_us: int) -> PulseTimes:
    """Pulses so long before the block."""
    noted = PulseTimes(GENERAL.train_gap_min_us)
    noted.extend(START - us for us in before_us)
    return noted


BLOCKS = [
    PulseBlock(4, PercentMso(mso), *shape)
    for mso in (50, 51)
    for shape in ((1, 0, 1, 0), (2, 50_000, 1, 0), (2, 100_000, 3, 20_000), (3, 4 * SECOND, 1, 0))
]
BEFORE = [
    sent(),
    sent(20_000),
    sent(19_999),
    sent(*range(10 * SECOND, 0, -250_000)),
    sent(12 * SECOND, 8 * SECOND, 5 * SECOND),
]
CHANGES: dict[str, tuple[Any, ...]] = {
    "plan_pulses_left": (5, 100),
    "granted_pulses": (5, 100),
    "session_pulses": (0, 2_995),
    "day_pulses": (0, 5_995),
    "settled_at": (BootUs(START), BootUs(START + 1)),
}


def requests() -> Iterator[Request]:
    for block, before, *values in product(BLOCKS, BEFORE, *CHANGES.values()):
        changes = dict(zip(CHANGES, values, strict=True))
        yield with_request(block=block, start_at=START, sent=before, **changes)


REQUESTS = list(requests())


def codes(verdict: Verdict) -> set[str]:
    return {trip.code for trip in verdict.trips}


def test_the_gate_refuses_with_each_rule_that_refuses_alone_and_no_other() -> None:
    let = 0
    for asked in REQUESTS:
        verdict = gate(PERMIT, asked, GENERAL)
        alone = {row.code: row.action for row in GATE if row.rule(asked, GENERAL) is not None}
        assert codes(verdict) == set(alone)
        assert verdict.action is max(alone.values(), default=Action.PERMIT)
        let += not alone
    assert 20 < let < len(REQUESTS)


def test_what_the_cycle_says_is_never_lost_by_asking_for_a_block() -> None:
    causes = [Trip(name, action, "") for name in "ab" for action in Action if action]
    for size in range(3):
        for trips in combinations(causes, size):
            action = max((trip.action for trip in trips), default=Action.PERMIT)
            watched = Verdict(action, tuple(trips))
            for asked in REQUESTS[::37]:
                joined, alone = gate(watched, asked, GENERAL), gate(PERMIT, asked, GENERAL)
                assert joined.trips == watched.trips + alone.trips
                assert joined.action is max(watched.action, alone.action)


# -- tighter never admits more ----------------------------------------------------------------

SETTABLE = [row for row in TABLE if row.settable]


def steps(name: str) -> list[int]:
    """Values of a limit from the loosest that there is to zero or an hour, tighter and tighter."""
    row = ROWS[name]
    if not row.at_most:
        values = {row.absolute, row.general, row.general + 1, row.general * 3 // 2, 3_600 * SECOND}
        return sorted(value for value in values if value >= row.absolute)
    values = {row.absolute, row.general, row.general - 1, row.general * 2 // 3, 5, 1, 0}
    return sorted((value for value in values if 0 <= value <= row.absolute), reverse=True)


def with_limit(name: str, value: int, base: Limits = GENERAL) -> Limits:
    return replace(base, **{name: value})


def noted_for(asked: Request, limits: Limits) -> Request:
    """The guard tells trains apart by the interval in force."""
    return asked._replace(sent=asked.sent.with_gap(limits.train_gap_min_us))


@pytest.mark.parametrize("name", [row.name for row in SETTABLE])
def test_a_tighter_limit_admits_no_block_that_the_looser_one_refuses(name: str) -> None:
    for asked in REQUESTS[::3]:
        before: set[str] = set()
        for value in steps(name):
            limits = with_limit(name, value)
            found = codes(gate(PERMIT, noted_for(asked, limits), limits))
            assert before <= found, (name, value, before - found)
            before = found


def worlds() -> Iterator[Facts]:
    """Armed, or not; each age, count and reading on its limit and beside it."""
    lim = GENERAL
    ages: dict[str, int] = {
        "service_seen_at": lim.service_age_max_us,
        "session_since": lim.session_us_max,
        "energy_at": lim.armed_idle_max_us,
        "unresolved_since": lim.unresolved_max_us,
    }
    for name, age_us in ages.items():
        for off in (-1, 0, 1):
            yield with_facts(**{name: BootUs(NOW - age_us + off)})
    for value in (lim.coil_max_dc - 1, lim.coil_max_dc, lim.coil_max_dc + 1, 0):
        yield with_facts(status=STATUS._replace(surface_dc=value))
    for off in (29, 30, 31):
        yield with_facts(realised_permille=500 + off)
    for count in (20, 21, 240, 241):
        seen = PulseTimes(lim.train_gap_min_us)
        seen.extend(NOW - 900_000 + 3_000 * i for i in range(count))
        yield with_facts(seen=seen)


@pytest.mark.parametrize("name", [row.name for row in TABLE])
def test_a_tighter_limit_permits_no_cycle_that_the_looser_one_stops(name: str) -> None:
    for facts in worlds():
        before: set[str] = set()
        for value in steps(name):
            found = codes(watch(facts, with_limit(name, value), NOW))
            assert before <= found, (name, value, before - found)
            before = found


def tight(row_name: str, value: int, than: int) -> bool:
    return value <= than if ROWS[row_name].at_most else value >= than


def test_layers_only_tighten_a_site_and_a_protocol_never_passes_the_absolute_layer() -> None:
    for row in SETTABLE:
        for value in steps(row.name):
            if not tight(row.name, value, row.general):
                continue
            site = site_limits({row.name: value})
            assert tight(row.name, getattr(site, row.name), row.general)
            if row.absolute != row.general:
                session = session_limits(site, {row.name: row.absolute})
                loosened = getattr(session, row.name)
                expected = row.absolute if value == row.general else value
                assert loosened == expected  # a site that tightened keeps its own value
            others = [f.name for f in fields(Limits) if f.name != row.name]
            assert all(getattr(site, name) == getattr(GENERAL, name) for name in others)


# -- the whole verdict, by product ------------------------------------------------------------

BAD: dict[str, dict[str, Any]] = {
    "stop": {"stopped_by": "pedal"},
    "stranger-pulse": {"strangers": 1},
    "service-lost": {"service_seen_at": None},
    "cycle-gap": {"cycle_gap_us": 40_001},
    "wrong-device": {"device_known": False},
    "refused": {"refusals": 3},
    "missed-pulses": {"missed": 3},
    "unresolved": {"unresolved_since": BootUs(NOW - 1)},
    "counter": {"counter": CounterRange(1_001, 1_010)},
    "session-long": {"session_since": BootUs(NOW - 2_700_000_001)},
    "armed-idle": {"energy_at": BootUs(NOW - 60_000_000)},
    "journal-failed": {"service_fault": "no space left"},
    "presence-lost": {"presence_at": None},
}


def test_in_every_combination_all_causes_are_named_and_the_worst_action_wins() -> None:
    """2 to the power of the number of things that can be wrong."""
    assert watch(FACTS, GENERAL, NOW) == PERMIT
    actions = {row.code: row.action for row in WATCH}
    always = {row.code for row in WATCH if row.always}
    for size in range(len(BAD) + 1):
        for wrong in combinations(BAD, size):
            changes: dict[str, Any] = {}
            for code in wrong:
                changes |= BAD[code]
            verdict = watch(with_facts(**changes), GENERAL, NOW)
            assert codes(verdict) == set(wrong)
            assert verdict.action is max((actions[c] for c in wrong), default=Action.PERMIT)
            assert codes(latching(verdict)) == set(wrong) & always


def test_nothing_known_at_all_trips() -> None:
    blind = with_facts(status=None, service_seen_at=None, counter=None, device_known=None)
    verdict = watch(blind, GENERAL, NOW)
    assert verdict.action is Action.SAFE
    assert {"status-age", "service-lost", "counter", "coil-hot"} <= codes(verdict)
    assert DeviceState.READY is FACTS.status.state  # type: ignore[union-attr]
