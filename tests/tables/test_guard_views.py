"""What the rules look at: each fact is the guard's own, and what is unknown is told as unknown."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from drivers.contract import SINGLE, Shape
from firmware_protocol.quantities import MS, SECOND, BootUs, PercentMso
from tests.fakes.stimulator import ENVELOPE, PLAN, START, STATUS, Bench, plan, playback
from tmsctl.guard import views
from tmsctl.guard.playback import Intent
from tmsctl.ipc import messages as ipc
from tmsctl.safety import rules
from tmsctl.safety.limits import GENERAL

NOW = BootUs(START + SECOND)


def with_past(bench: Bench) -> Bench:
    """Its device has been through everything that one can have been through."""
    device = bench.guard.device
    device.energy_at = BootUs(START + 3)
    device.realised_permille, device.didt_a_per_us = 497, 61
    device.refusals, device.missed = 2, 4
    return bench


def test_never_is_longer_than_any_interval_of_a_plan() -> None:
    assert views.NEVER_US == 1_000_000_000_000


def test_what_the_newest_arming_brought_counts_while_armed_and_only_then() -> None:
    def past(bench: Bench) -> tuple[Any, ...]:
        facts = views.facts_of(with_past(bench).guard, 5, NOW)
        return (facts.cycle_gap_us, facts.energy_at, facts.realised_permille, facts.didt_a_per_us,
                facts.refusals, facts.missed)  # fmt: skip

    assert past(Bench().connected()) == (5, None, None, None, 0, 0)
    assert past(Bench().armed()) == (5, START + 3, 497, 61, 2, 4)
    assert past(Bench().arming()) == (5, START + 3, 497, 61, 2, 4)


def test_an_acknowledgement_leaves_what_is_still_so() -> None:
    bench = Bench().connected()
    bench.show(fault="coil too hot", surface_dc=421)
    bench.cycle(stopped_by="pedal")
    bench.guard.device.strangers = 3
    facts = views.facts_if_acknowledged(bench.guard, NOW)
    assert (facts.stopped_by, facts.strangers, facts.link_errors, facts.cycle_gap_us) == (
        None, 0, 0, 0,
    )  # fmt: skip
    assert facts.status is not None
    assert (facts.status.fault, facts.status.surface_dc) == ("", 421)


@pytest.mark.parametrize("shown", [True, False])
def test_a_wish_to_arm_names_the_counter_of_device_and_ledger(shown: bool) -> None:
    bench = Bench().loaded()
    play = bench.guard.play
    assert play is not None
    play.count_at_load, play.confirmed, play.delivered = (100, 104), 7, 9
    bench.guard.device.status = STATUS._replace(pulse_count=111) if shown else None
    wish = views.arm_request_of(bench.guard, play, bench.run())
    assert wish.ledger_count == (107, 113)
    assert wish.pulse_count == (111 if shown else None)
    assert (wish.plan_hash, wish.confirmed_hash) == (PLAN.hash, PLAN.hash)
    assert wish.confirmed_at == bench.now


@pytest.mark.parametrize(("granted", "covered"), [(True, 2), (False, 0)])
def test_a_request_counts_what_is_granted_left_and_given(granted: bool, covered: int) -> None:
    bench = Bench().loaded(first_pulse=2)
    play = bench.guard.play
    assert play is not None
    play.position, play.delivered, play.origin = 4, 2, START
    intent = Intent(5, 3, 3, play.slice_at(4), granted=granted, skipped=1)
    request = views.request_of(bench.guard, play, intent)
    assert request.plan_pulses_left == 4
    assert request.session_pulses == 4
    assert request.granted_pulses == covered
    assert request.block.block_id == 5


@pytest.mark.parametrize("known", [True, False])
def test_the_device_says_how_long_it_needs_and_one_that_has_not_said_needs_for_ever(
    known: bool,
) -> None:
    bench = Bench().loaded()
    guard, play = bench.guard, bench.guard.play
    assert play is not None
    play.origin = START
    recharge = tuple(pct * MS for pct in range(101))
    envelope = ENVELOPE._replace(recharge_us=recharge, block_rest_us=70 * MS)
    guard.device.envelope = envelope if known else None
    request = views.request_of(guard, play, Intent(1, 0, 2, play.slice_at(0)))
    never = views.NEVER_US
    assert (request.recharge_us, request.rest_us) == ((50 * MS, 70 * MS) if known else (never,) * 2)


UP, DOWN = GENERAL.settle_up_us_per_pct, GENERAL.settle_down_us_per_pct


@pytest.mark.parametrize(
    ("shows_permille", "to_pct", "settles_us"),
    [
        (0, 50, 50 * UP),
        (455, 50, 45 * UP // 10),
        (500, 50, 0),
        (501, 50, DOWN // 10),
        (545, 50, 45 * DOWN // 10),
        (1000, 1, 99 * DOWN),
        (499, 50, UP // 10),
    ],
)
def test_a_capacitor_settles_by_its_way_up_or_down(
    shows_permille: int, to_pct: int, settles_us: int
) -> None:
    bench = Bench().connected()
    bench.guard.device.status = STATUS._replace(charge_permille=shows_permille)
    settled = views.settled_at(bench.guard, PercentMso(to_pct), NOW)
    assert settled == NOW + settles_us
    assert type(settled) is int
    assert DOWN > UP  # so that the two ways are told apart here


def test_the_shape_is_that_of_the_next_train_and_of_single_pulses_without_one() -> None:
    assert views.shape_of(None) == SINGLE
    bursts = plan(pulses_per_burst=3)
    assert views.shape_of(playback(bursts)) == Shape(3, 20 * MS)
    assert views.shape_of(playback(bursts, position=bursts.pulses)) == SINGLE


# -- what `tmsctl interlocks` shows --------------------------------------------------------------


def tables(bench: Bench) -> dict[str, list[ipc.Interlock]]:
    told = views.interlocks(bench.guard, bench.now)
    return {table: list(rows) for table, rows in itertools.groupby(told, key=lambda row: row.table)}


def test_the_interlocks_are_those_of_the_tables_as_far_as_a_plan_is_there() -> None:
    without, loaded, running = Bench().connected(), Bench().loaded(), Bench().armed()
    watch, gate, arm = ([row.code for row in of] for of in (rules.WATCH, rules.GATE, rules.ARM))
    codes = [
        {table: [row.code for row in rows] for table, rows in tables(bench).items()}
        for bench in (without, loaded, running)
    ]
    assert codes == [
        {"watch": watch},
        {"watch": watch, "arm": arm},
        {"watch": watch, "gate": gate, "arm": arm},
    ]


def test_a_block_is_judged_only_once_it_has_its_place_on_the_time_line() -> None:
    bench = Bench().armed()
    assert "gate" in tables(bench)
    assert bench.guard.play is not None
    bench.guard.play.origin = None
    assert "gate" not in tables(bench)
    bench = Bench().armed()
    assert bench.guard.play is not None
    bench.guard.play.intent = None
    assert "gate" not in tables(bench)


def test_an_interlock_shows_its_value_and_its_limit_or_that_there_is_none() -> None:
    shown = {row.code: row for row in tables(Bench().connected())["watch"]}
    gap, stop = shown["cycle-gap"], shown["stop"]
    assert (gap.known, gap.value, gap.limit, gap.says) == (1, 0, GENERAL.cycle_gap_max_us, "")
    assert (stop.known, stop.value, stop.limit) == (1, 0, -1)
    unknown = [row for row in shown.values() if not row.known]
    assert unknown
    assert {row.value for row in unknown} == {0}
    hot = shown["coil-hot"]
    assert (hot.value, hot.limit) == (STATUS.surface_dc, GENERAL.coil_max_dc)
