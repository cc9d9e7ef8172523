"""Where a plan stands: due pulses, time line, lateness, and what is left, at their edges."""

from __future__ import annotations

from typing import Any

import pytest

from drivers.contract import PulseBlock
from firmware_protocol.quantities import MS, SECOND, BootUs
from tests.fakes.stimulator import LEAD_US, block, opened, plan, playback
from tmsctl.guard.playback import Intent, Playback
from tmsctl.ipc.messages import Session

NOW = BootUs(1_000 * SECOND)
SOON_US = 120 * MS  # lead and 100 ms
CLOCK_ERROR_US = 2 * MS
PLAN = plan()  # two trains of four pulses, 100 ms apart; from train to train 6 s
BURSTS = plan(pulses_per_burst=3)  # the same with bursts of three pulses, 20 ms apart
LONG = plan(bursts=12, trains=1)


# -- the block under way ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("of", "passed_us", "due"),
    [
        (block(3, 3), -1, 0),
        (block(3, 3), 0, 1),
        (block(3, 3), 20 * MS - 1, 1),
        (block(3, 3), 20 * MS, 2),
        (block(3, 3), 40 * MS, 3),
        (block(3, 3), 100 * MS - 1, 3),
        (block(3, 3), 100 * MS, 4),
        (block(3, 3), 140 * MS, 6),
        (block(3, 3), 240 * MS - 1, 8),
        (block(3, 3), 240 * MS, 9),
        (block(3, 3), 300 * MS, 9),
        (block(3, 3), 60 * SECOND, 9),
        (block(1, 3, 0), 0, 1),  # a single burst has no period
        (block(1, 3, 0), 20 * MS, 2),
        (block(1, 3, 0), 40 * MS, 3),
        (block(1, 3, 0), 60 * MS, 3),
        (block(1, 3, 10 * MS), 20 * MS, 2),
        (block(3, 1), 0, 1),
        (block(3, 1), 100 * MS - 1, 1),
        (block(3, 1), 100 * MS, 2),
        (block(3, 1), 200 * MS, 3),
        (block(3, 1), 60 * SECOND, 3),
        (block(2, 1), 100 * MS, 2),
        (block(2, 2), 119 * MS, 3),
        (block(2, 2), 120 * MS, 4),
        (block(1, 1, 0), -1, 0),
        (block(1, 1, 0), 0, 1),
        (block(1, 1, 0), 60 * SECOND, 1),
    ],
)
def test_a_pulse_is_due_from_2_ms_before_its_time_on(
    of: PulseBlock, passed_us: int, due: int
) -> None:
    under_way = opened(playback(BURSTS), of)
    assert under_way.due_by(BootUs(NOW - CLOCK_ERROR_US + passed_us)) == due


def test_a_block_ends_with_its_last_pulse() -> None:
    assert opened(playback(), block(2, 1)).end_at == NOW + 100 * MS
    assert opened(playback(BURSTS), block(2, 3)).end_at == NOW + 140 * MS


def test_a_new_block_has_shown_nothing() -> None:
    under_way = opened(playback(), block(2, 1))
    assert under_way.places == []
    assert under_way.absent == 0
    assert under_way.unresolved_since is None
    intent = Intent(1, 0, 2, playback().slice_at(0))
    assert intent.granted is False
    assert intent.skipped == 0


# -- where the plan stands ----------------------------------------------------------------------


def test_a_new_playback_has_delivered_nothing_and_remembers_where_it_began() -> None:
    play = playback(position=5)
    assert play.first_pulse == 5
    assert (play.delivered, play.confirmed, play.skipped, play.ask_at) == (0, 0, 0, 0)
    assert (play.running, play.keeps_rhythm, play.waiting) == (False, False, "")
    assert (play.origin, play.since, play.open, play.intent) == (None, None, None, None)


def test_a_plan_is_complete_after_its_last_pulse_once_no_block_is_open() -> None:
    assert playback(position=7).session == Session.LOADED
    assert playback(position=7, running=True).session == Session.RUNNING
    assert playback(position=8).session == Session.COMPLETE
    assert playback(position=8, running=True).complete
    last = playback(position=7)
    last.open = opened(last, block(1, 1))
    last.position = 8
    assert not last.complete
    assert last.session == Session.LOADED


def test_seen_pulses_move_the_reached_place_and_the_whole_block_the_next_one() -> None:
    play = playback(position=2)
    assert (play.reached, play.next_pulse) == (2, 2)
    play.open = opened(play, block(2, 1))
    assert (play.reached, play.next_pulse) == (2, 4)
    play.open.places.append(0)
    assert (play.reached, play.next_pulse) == (3, 4)


def test_a_block_is_as_long_as_lease_and_device_allow() -> None:
    assert playback(lease_ms=100).slice_at(0).pulses == 2
    assert playback(lease_ms=99).slice_at(0).pulses == 1
    assert playback(lease_ms=300).slice_at(0).pulses == 4
    assert playback(lease_ms=300, pulses_max=3).slice_at(0).pulses == 3


# -- the time line ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("position", "newest_ago_us", "next_us"),
    [
        (0, None, SOON_US),
        (0, 0, SOON_US),  # nothing of this plan was before it
        (1, None, SOON_US),  # 100 ms as planned is sooner
        (1, -20 * MS, SOON_US),
        (1, -21 * MS, SOON_US + MS),
        (4, None, 5_700 * MS),  # when the pulse before left is not known: it counts as now
        (4, 0, 5_700 * MS),
        (4, SECOND, 4_700 * MS),
        (4, 5_580 * MS - 1, SOON_US + 1),
        (4, 5_580 * MS, SOON_US),
        (4, 60 * SECOND, SOON_US),
        (7, None, SOON_US),
    ],
)
def test_the_next_pulse_comes_soon_but_not_sooner_than_planned_after_the_one_before(
    position: int, newest_ago_us: int | None, next_us: int
) -> None:
    play = playback(position=position, keeps_rhythm=True)
    if newest_ago_us is not None:
        play.sent.add(NOW - newest_ago_us)
    play.lay_time_line(NOW)
    assert play.origin is not None
    assert play.origin + PLAN.at_us(position) == NOW + next_us
    assert play.due(play.slice_at(position)) == NOW + next_us
    assert play.keeps_rhythm is False


def test_a_block_is_late_when_less_than_the_lead_is_left() -> None:
    play = playback(position=2, origin=NOW)
    piece = play.slice_at(2)
    assert play.due(piece) == NOW + 200 * MS
    assert not play.is_late(piece, BootUs(NOW + 180 * MS))
    assert play.is_late(piece, BootUs(NOW + 180 * MS + 1))


# -- lateness -----------------------------------------------------------------------------------


def wanted(play: Playback, pulses: int) -> Intent:
    piece = play.slice_at(play.position)
    assert piece.pulses == pulses
    return Intent(1, piece.first_pulse, piece.pulses, piece, granted=True)


@pytest.mark.parametrize(("position", "rhythm"), [(0, True), (4, True), (2, False), (4, False)])
def test_a_late_train_and_a_block_after_a_rest_are_shifted_with_all_that_follows(
    position: int, rhythm: bool
) -> None:
    play = playback(position=position, origin=NOW, keeps_rhythm=rhythm)
    intent = wanted(play, 2)
    late = BootUs(NOW + PLAN.at_us(position) + 70 * MS)
    play.make_up_for_lateness(intent, late)
    assert play.due(intent.slice) == late + SOON_US
    assert (play.position, play.skipped, intent.skipped) == (position, 0, 0)


@pytest.mark.parametrize(
    ("late_us", "skipped"),
    [(0, 0), (1, 1), (100 * MS, 1), (100 * MS + 1, 2), (300 * MS, 3), (300 * MS + 1, 4),
     (900 * MS, 4)],
)  # fmt: skip
def test_inside_a_train_only_what_is_late_is_left_out(late_us: int, skipped: int) -> None:
    """A block of four pulses, the second one of its train; the rest keeps its planned times."""
    play = playback(LONG, position=4, lease_ms=300, origin=NOW, keeps_rhythm=True)
    intent = wanted(play, 4)
    play.make_up_for_lateness(intent, BootUs(NOW + 400 * MS - LEAD_US + late_us))
    assert (play.position, play.skipped, intent.skipped) == (4 + skipped, skipped, skipped)
    assert play.origin == NOW
    if skipped < 4:
        assert intent.slice.first_pulse == 4 + skipped
        assert intent.slice.pulses == 4 - skipped  # never more than was granted
    else:
        assert intent.slice.first_pulse == 4  # given up as it is


def test_bursts_are_left_out_whole() -> None:
    play = playback(BURSTS, position=3, lease_ms=200, origin=NOW, keeps_rhythm=True)
    intent = wanted(play, 6)
    play.make_up_for_lateness(intent, BootUs(NOW + 100 * MS - LEAD_US + 1))
    assert (play.position, play.skipped, intent.skipped) == (6, 3, 3)
    assert (intent.slice.first_pulse, intent.slice.bursts) == (6, 1)


def test_the_last_block_of_a_plan_may_be_late_as_a_whole() -> None:
    play = playback(position=6, origin=NOW, keeps_rhythm=True)
    play.make_up_for_lateness(wanted(play, 2), BootUs(NOW + 60 * SECOND))
    assert (play.position, play.skipped) == (8, 2)
    assert play.complete


def test_what_was_left_out_adds_up() -> None:
    play = playback(LONG, position=4, lease_ms=300, origin=NOW, keeps_rhythm=True)
    intent = wanted(play, 4)
    for late_us in (1, 100 * MS + 1):
        play.make_up_for_lateness(intent, BootUs(NOW + 400 * MS - LEAD_US + late_us))
    assert (play.position, play.skipped, intent.skipped) == (6, 2, 2)


# -- what is left, for people -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "left_us"),
    [
        ({"position": 8}, 0),
        ({"position": 8, "running": True, "origin": NOW}, 0),
        ({"position": 0}, 6_300 * MS),
        ({"position": 5}, 200 * MS),
        ({"position": 5, "running": True}, 200 * MS),  # not armed yet
        ({"position": 5, "origin": NOW}, 200 * MS),  # paused
        ({"position": 5, "running": True, "origin": NOW - 6_200 * MS}, 100 * MS),
        ({"position": 7, "running": True, "origin": NOW - 6_300 * MS}, 0),
        ({"position": 7, "running": True, "origin": NOW - 9_000 * MS}, 0),
    ],
)
def test_what_is_left_of_a_plan(changes: dict[str, Any], left_us: int) -> None:
    assert playback(**changes).left_us(NOW) == left_us


def test_nothing_is_left_behind_the_last_pulse_while_its_block_is_open() -> None:
    play = playback(position=6)
    play.open = opened(play, block(2, 1))
    assert play.left_us(NOW) == 100 * MS
    play.open.places += [0]
    assert play.left_us(NOW) == 0
    play.open.places += [1]
    assert play.reached == 8
    assert play.left_us(NOW) == 0


@pytest.mark.parametrize(
    ("changes", "next_us"),
    [
        ({"position": 8, "running": True, "origin": NOW}, -1),
        ({"position": 1, "running": True}, -1),
        ({"position": 1, "origin": NOW}, -1),
        ({"position": 1, "running": True, "origin": NOW - 40 * MS}, 60 * MS),
        ({"position": 1, "running": True, "origin": NOW - 100 * MS}, 0),
        ({"position": 1, "running": True, "origin": NOW - 900 * MS}, 0),
    ],
)
def test_when_the_next_block_begins(changes: dict[str, Any], next_us: int) -> None:
    assert playback(**changes).next_in_us(NOW) == next_us


@pytest.mark.parametrize(("start_us", "next_us"), [(30 * MS, 30 * MS), (0, 0), (-30 * MS, 0)])
def test_a_block_that_was_handed_over_is_the_next_one(start_us: int, next_us: int) -> None:
    play = playback()
    play.open = opened(play, block(2, 1), NOW + start_us)
    assert play.next_in_us(NOW) == next_us
