"""The guard's way to a pulse, one cycle at a time: want, grant, permit, fire, and what holds it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from drivers.contract import (
    SINGLE,
    BlockEnded,
    CommandEnded,
    DeviceState,
    LinkError,
    Outcome,
    Shape,
)
from firmware_protocol.quantities import MS, SECOND, PercentMso
from tests.fakes.stimulator import (
    LEAD_US,
    PATIENCE,
    SESSION,
    START,
    Bench,
    codes,
    outcomes,
    plan,
    wants,
)
from tmsctl.guard.playback import START_AFTER_US
from tmsctl.ipc import messages as ipc
from tmsctl.safety.limits import GENERAL
from tmsctl.safety.machine import Armed, Idle, Safe
from tmsctl.stimulation.plan import Plan

OTHER = SESSION + 1
AHEAD_US = 60 * MS
AGAIN_US = 100 * MS


def waiting(bench: Bench) -> str:
    """What holds the next block back, as tmsd is told; a snapshot comes with every 50 ms."""
    for _ in range(6):
        bench.cycle()
    assert bench.snapshot is not None
    return bench.snapshot.waiting.partition(":")[0]


def due(bench: Bench) -> int:
    """First pulse of the block that is wanted."""
    play = bench.guard.play
    assert play is not None
    assert play.intent is not None
    return play.due(play.intent.slice)


# -- want and grant ----------------------------------------------------------------------------


@pytest.mark.parametrize(("of", "shape"), [(plan(), SINGLE), (plan(3), Shape(3, 20 * MS))])
def test_the_device_is_armed_for_the_shape_of_the_plan(of: Plan, shape: Shape) -> None:
    assert Bench(of).arming().driver.armed_shape == shape


def test_blocks_are_asked_for_one_ahead_and_numbered_without_a_gap() -> None:
    bench = Bench().arming()
    assert wants(bench.become_ready()) == [(1, 0, 2)]
    assert wants(bench.cycle(bench.grant())) == []  # asked for once
    permit = bench.firing_granted()
    assert permit.block.block_id == 1
    assert wants(bench.cycle()) == [(2, 2, 2)]  # while the first one runs
    bench.play_block(permit)
    second = bench.firing()
    assert second.block.block_id == 2
    assert wants(bench.cycle()) == [(3, 4, 2)]


def test_no_grant_no_pulse() -> None:
    bench = Bench().armed()
    for _ in range(30):
        bench.cycle()
        assert bench.fired is None
    assert isinstance(bench.guard.state, Armed)


@pytest.mark.parametrize(
    "change", [{"block_id": 2}, {"pulses": 1}, {"pulses": 3}, {"session_no": OTHER}]
)
def test_a_grant_of_something_else_grants_nothing_and_is_closed(change: dict[str, int]) -> None:
    bench = Bench().armed()
    wrong = bench.grant()._replace(**change)
    told = bench.cycle(wrong)
    assert outcomes(told) == [(wrong.block_id, 0, 0, 1, "no longer wanted")]
    for _ in range(12):
        bench.cycle()
        assert bench.fired is None


@pytest.mark.parametrize("armed", [None, False, True])
def test_a_grant_that_nobody_waits_for_is_closed(armed: bool | None) -> None:
    bench = Bench().armed()
    grant = bench.grant()
    if armed is None:
        bench.cycle(ipc.Unload())
    elif not armed:
        bench.cycle(ipc.Pause(SESSION))
    else:
        bench.cycle(grant)
        bench.firing_granted()
    assert outcomes(bench.cycle(grant)) == [(1, 0, 0, 1, "no longer wanted")]


@pytest.mark.parametrize("granted", [False, True])
def test_a_granted_block_that_a_pause_gives_up_is_closed_as_never_sent(granted: bool) -> None:
    bench = Bench().armed()
    if granted:
        bench.cycle(bench.grant())
    told = bench.cycle(ipc.Pause(SESSION))
    assert outcomes(told) == ([(1, 0, 0, 1, "paused")] if granted else [])
    assert bench.guard.play is not None
    assert bench.guard.play.intent is None


@pytest.mark.parametrize("granted", [False, True])
def test_a_granted_block_that_a_stop_gives_up_is_closed_as_never_sent(granted: bool) -> None:
    bench = Bench().armed()
    if granted:
        bench.cycle(bench.grant())
    told = bench.cycle(stopped_by="test")
    assert outcomes(told) == ([(1, 0, 0, 1, "stop")] if granted else [])
    assert bench.snapshot is not None
    assert bench.snapshot.session == ipc.Session.LOADED


def test_a_granted_block_that_an_unload_gives_up_is_closed_as_never_sent() -> None:
    bench = Bench().armed()
    bench.cycle(bench.grant())
    assert outcomes(bench.cycle(ipc.Unload())) == [(1, 0, 0, 1, "unloaded")]
    assert bench.did == ["disarm"]


@pytest.mark.parametrize(
    ("recorded", "repeated"), [((SESSION, 1), False), ((SESSION, 2), True), ((OTHER, 1), True)]
)
def test_an_outcome_is_repeated_every_second_until_it_is_on_disk(
    recorded: tuple[int, int], repeated: bool
) -> None:
    bench = Bench().armed()
    bench.cycle(bench.grant())
    assert len(outcomes(bench.cycle(ipc.Pause(SESSION)))) == 1
    again = bench.now + SECOND
    assert bench.cycle(ipc.Recorded(*recorded)) == []
    assert bench.until(again) == []
    assert outcomes(bench.cycle(at=again)) == ([(1, 0, 0, 1, "paused")] if repeated else [])


# -- when it is handed over --------------------------------------------------------------------


def test_the_first_pulse_comes_a_fixed_time_after_ready() -> None:
    bench = Bench().armed()
    assert due(bench) == bench.now + LEAD_US + START_AFTER_US
    assert START_AFTER_US == 100 * MS


def test_a_block_is_handed_over_60_ms_before_the_lead_begins_and_no_sooner() -> None:
    bench = Bench().armed()
    at = due(bench) - LEAD_US - AHEAD_US
    bench.cycle(bench.grant())
    bench.until(at)
    assert bench.now == at - 1
    assert bench.fired is None
    bench.cycle(at=at)
    assert bench.fired is not None
    assert bench.fired.start_at == at + LEAD_US + AHEAD_US
    assert bench.fired.block.mso == PercentMso(50)
    assert bench.did == ["fire"]


def test_one_block_is_under_way_at_a_time() -> None:
    bench = Bench(plan(bursts=8, trains=1)).armed()
    first = bench.firing()
    bench.cycle()
    bench.cycle(bench.grant())
    for place in (0, 1):
        bench.until(first.start_at + first.block.offset_us(place) + 1)
        bench.cycle(at=bench.now + 1, events=[bench.pulse(first, place)])
        assert bench.fired is None
    assert due(bench) - bench.now < AHEAD_US + LEAD_US + 40 * MS
    last = due(bench) - LEAD_US  # the last moment for the second one
    bench.until(last)
    assert bench.fired is None
    bench.end(first, 2, at=last)
    assert bench.fired is not None
    assert bench.fired.block.block_id == 2


def test_a_run_whose_last_block_has_no_outcome_lays_no_time_line() -> None:
    bench = Bench().armed()
    bench.firing()
    bench.cycle(ipc.Pause(SESSION))
    bench.show(state=DeviceState.READY, block_id=0)  # it knows nothing of the block yet
    bench.cycle(bench.run())
    assert bench.did == ["arm"]
    bench.become_ready()
    assert isinstance(bench.guard.state, Armed)
    assert bench.guard.play is not None
    assert bench.guard.play.origin is None
    told = bench.cycle(events=[BlockEnded(1, 0, 0, "refused", 40, False)])
    assert bench.guard.play.origin is not None
    assert wants(told) == [(2, 0, 2)]


# -- held back -----------------------------------------------------------------------------------


def held(bench: Bench) -> int:
    """A damaged frame makes doubt just when the block would go; when that was."""
    at = due(bench) - LEAD_US - AHEAD_US + 50 * MS  # so late that only the asking again counts
    bench.until(at - 10 * MS)
    bench.cycle(bench.grant(), at=at, events=[LinkError("checksum: 1")])
    assert bench.did == []
    return at


def test_a_block_that_is_held_back_asks_again_after_100_ms_and_no_sooner() -> None:
    bench = Bench().armed()
    at = held(bench) + AGAIN_US
    bench.until(at)
    assert bench.now == at - 1
    assert bench.guard.device.link_watch.doubt is False  # nothing else holds it
    assert bench.fired is None
    bench.cycle(at=at)
    assert bench.fired is not None


def test_tmsd_is_told_what_a_block_waits_for_and_when_it_no_longer_does() -> None:
    bench = Bench().armed()
    assert waiting(Bench().armed()) == ""
    held(bench)
    assert waiting(bench) == "link-doubt"
    bench.firing_granted()
    assert waiting(bench) == ""


def test_a_train_that_is_held_back_begins_later_and_loses_no_pulse() -> None:
    bench = Bench(known_us=59 * SECOND + 800 * MS).armed()
    bench.cycle(bench.grant())
    permit = bench.until_fired()
    assert permit.start_at - START >= 200 * MS  # all 60 s before it are known
    assert permit.block.pulses == 2
    assert bench.guard.play is not None
    assert bench.guard.play.skipped == 0


def test_a_block_that_a_rule_forbids_for_good_makes_safe_at_once() -> None:
    bench = Bench(limits=replace(GENERAL, pulses_day_max=1)).armed()
    bench.cycle(bench.grant())
    at = due(bench) - LEAD_US - AHEAD_US
    assert codes(bench.until(at)) == []
    told = bench.cycle(at=at)
    assert isinstance(bench.guard.state, Safe)
    assert codes(told) == ["day-pulses"]
    assert bench.did == ["stop"]
    assert outcomes(told) == [(1, 0, 0, 1, "day-pulses")]


# -- late ----------------------------------------------------------------------------------------


def test_a_train_that_begins_late_is_shifted_as_a_whole() -> None:
    bench = Bench().armed()
    at = due(bench) - LEAD_US
    bench.until(at + 1)
    assert bench.now == at
    bench.cycle(bench.grant(), at=at)  # just in time
    assert bench.fired is not None

    bench = Bench().armed()
    bench.until(at + 1)
    bench.cycle(bench.grant(), at=at + 1)
    assert bench.fired is None
    assert due(bench) == at + 1 + LEAD_US + START_AFTER_US
    assert bench.firing_granted().block.pulses == 2
    assert bench.guard.play is not None
    assert bench.guard.play.skipped == 0


def after_one_block() -> Bench:
    """In the middle of a train; the second block of two pulses is wanted."""
    bench = Bench().armed()
    bench.play_block(bench.firing())
    assert wanted_places(bench) == (2, 2)
    return bench


def wanted_places(bench: Bench) -> tuple[int, int]:
    grant = bench.grant()
    return grant.first_pulse, grant.pulses


def test_inside_a_train_what_is_late_is_left_out_and_the_rest_keeps_its_time() -> None:
    bench = after_one_block()
    first = due(bench)
    bench.until(first - LEAD_US + 2)
    bench.cycle(bench.grant(), at=first - LEAD_US + 1)
    assert bench.fired is None
    permit = bench.firing_granted()
    assert permit.start_at == first + 100 * MS
    assert permit.block.pulses == 1
    assert outcomes(bench.play_block(permit))[-1] == (2, 1, 1, 0, "complete")


@pytest.mark.parametrize(("late_us", "left"), [(0, 1), (1, 0)])
def test_a_block_that_is_late_as_a_whole_is_closed_as_never_sent(late_us: int, left: int) -> None:
    bench = after_one_block()
    last = due(bench) + 100 * MS - LEAD_US + late_us
    bench.until(last)
    told = bench.cycle(bench.grant(), at=last)
    closed = [] if left else [(2, 0, 2, 1, "late")]
    assert [item for item in outcomes(told) if item[0] == 2] == closed
    assert bench.guard.play is not None
    assert bench.guard.play.position == 4 - left
    assert wants(bench.cycle()) == ([] if left else [(3, 4, 2)])


def test_the_rest_of_a_train_that_is_held_back_becomes_a_train_of_its_own() -> None:
    bench = after_one_block()
    newest = due(bench) - 100 * MS
    held(bench)
    permit = bench.until_fired(6 * PATIENCE)
    assert permit.start_at >= newest + GENERAL.train_gap_min_us
    assert permit.block.pulses == 2
    assert bench.guard.play is not None
    assert bench.guard.play.skipped == 0


def test_a_block_that_went_keeps_the_rhythm_again() -> None:
    bench = Bench().armed()
    held(bench)
    bench.play_block(bench.firing_granted())
    first = due(bench)
    bench.until(first)
    bench.cycle(bench.grant(), at=first)
    assert bench.guard.play is not None
    assert bench.guard.play.skipped == 1


# -- refused by the device, and the end --------------------------------------------------------


def test_the_third_refusal_in_a_row_makes_safe() -> None:
    bench = Bench().armed()
    for _ in range(3):
        assert isinstance(bench.guard.state, Armed)
        number = bench.firing().block.block_id
        bench.show(state=DeviceState.READY, block_id=0)
        refused = CommandEnded(bench.driver.ticket, Outcome.REFUSED, "busy")
        told = bench.cycle(events=[refused]) + bench.cycle()  # and it is read back
        assert (number, 0, 0, 1, "refused by the device: busy") in outcomes(told)
    assert codes(told) == ["refused", "unresolved"]
    assert isinstance(bench.guard.state, Safe)


def test_a_plan_that_is_done_disarms_and_is_not_run_again() -> None:
    bench = Bench(plan(trains=1)).armed()
    bench.play_block(bench.firing())
    assert isinstance(bench.guard.state, Armed)
    told = bench.play_block(bench.firing())
    assert codes(told) == ["complete"]
    assert bench.did == ["disarm"]
    assert isinstance(bench.guard.state, Idle)
    assert bench.snapshot is not None
    assert bench.snapshot.session == ipc.Session.COMPLETE
    assert bench.guard.play is not None
    assert not bench.guard.play.running
    bench.show(state=DeviceState.IDLE)
    assert codes(bench.cycle(bench.run())) == ["complete"]
    assert bench.did == []


def test_a_resumed_plan_goes_on_at_the_next_pulse_and_keeps_the_planned_distance() -> None:
    bench = Bench().armed()
    first = bench.firing()
    bench.play_block(first)
    newest = first.start_at + first.block.span_us
    bench.cycle(ipc.Pause(SESSION))
    bench.show(state=DeviceState.IDLE)
    bench.cycle(bench.run())
    told = bench.become_ready()
    assert wants(told) == [(3, 2, 2)]
    assert due(bench) == max(newest + 100 * MS, bench.now + LEAD_US + START_AFTER_US)
