"""How the guard settles each block: pulse by pulse, by its report, by its answer, or read back."""

from __future__ import annotations

from typing import Any

import pytest

from drivers.contract import (
    BlockEnded,
    CommandEnded,
    DeviceState,
    LinkDown,
    LinkError,
    Outcome,
    Ticket,
)
from firmware_protocol.quantities import MS, SECOND, BootUs
from tests.fakes.stimulator import START, STATUS, block, opened, playback
from tests.tables.test_device_view import View, under_way
from tmsctl.safety.facts import CounterRange

FIRE_TICKET = Ticket(1)


# -- pulses -----------------------------------------------------------------------------------


def test_a_pulse_of_the_block_under_way_is_told_with_its_place_in_the_plan() -> None:
    play = playback(position=4)
    seen = View(play)
    play.open = opened(play, block(2, 1))
    seen.pulse(1, 41, START + 100 * MS)
    assert seen.records() == [(3, 5, 250)]
    view = seen.view
    assert (view.realised_permille, view.last_realised, view.didt_a_per_us) == (503, 503, 57)
    assert view.energy_at == START + 100 * MS
    assert (len(view.seen), play.open.places) == (1, [1])
    assert view.strangers == 0


@pytest.mark.parametrize(
    ("place", "block_id", "strange"),
    [(0, 1, False), (1, 1, False), (2, 1, True), (3, 1, True), (0, 2, True), (1, 0, True)],
)
def test_a_pulse_that_no_block_explains_is_a_strangers(
    place: int, block_id: int, strange: bool
) -> None:
    seen = under_way()
    seen.pulse(place, 41, block_id=block_id)
    assert (seen.records() == [(0, 0, 250)]) is strange
    assert seen.view.strangers == (1 if strange else 0)
    assert seen.view.count == (41 if strange else 40)
    assert (seen.view.realised_permille is None) is strange


@pytest.mark.parametrize("loaded", [False, True])
def test_every_pulse_is_a_strangers_while_no_block_is_under_way(loaded: bool) -> None:
    seen = View(playback() if loaded else None)
    seen.pulse(0, 41)
    seen.pulse(1, 42)
    assert seen.view.strangers == 2
    assert seen.view.count == 42
    assert seen.records() == [(0, 0, 250)] * 2
    assert seen.view.last_realised == 503


def test_without_a_lost_frame_the_first_report_that_counts_two_names_a_stranger() -> None:
    seen = under_way(block(4, 1))
    seen.pulse(1, 42)
    assert seen.view.strangers == 1


@pytest.mark.parametrize(
    ("later_ms", "high"),
    [(0, 41), (37, 41), (38, 42), (40, 42), (41, 42), (-500, 41)],  # 2 ms: error of the clocks
)
def test_what_was_due_when_a_status_was_made_may_be_counted_by_it(later_ms: int, high: int) -> None:
    """The clock is read before the port; who loses the processor in between is told of later."""
    seen = under_way(block(4, 1))  # the second pulse is due after 100 ms
    read_at = START + 60 * MS
    made_by = BootUs(read_at + later_ms * MS)
    seen.note(STATUS._replace(asked_at=START, pulse_count=40, made_by=made_by), read_at)
    assert seen.view.counter_range(seen.play) == CounterRange(40, high)


def test_a_status_says_no_more_than_40_ms_of_when_it_was_read() -> None:
    seen = under_way(block(4, 1))
    made_by = BootUs(START + 400 * MS)
    seen.note(STATUS._replace(asked_at=START, pulse_count=40, made_by=made_by), START + 50 * MS)
    assert seen.view.counter_range(seen.play) == CounterRange(40, 41)


def test_a_place_that_does_not_rise_is_a_strangers() -> None:
    seen = under_way(block(4, 1))
    for place in (0, 1):
        seen.pulse(place, 41 + place)
    assert seen.view.strangers == 0
    seen.pulse(1, 42)  # the same once more
    assert seen.view.strangers == 1
    seen.pulse(0, 43)
    assert seen.view.strangers == 2
    assert seen.records() == [(3, 0, 250), (3, 1, 250), (0, 0, 250), (0, 0, 250)]


def test_a_strangers_pulse_before_any_status_begins_the_count() -> None:
    seen = View(up=False)
    seen.pulse(0, 17)
    assert seen.view.count == 17
    assert seen.records() == [(0, 0, 0)]  # a surface that nobody has told
    seen.pulse(1, 99)
    assert seen.view.count == 18


def test_a_pulse_while_the_count_is_unknown_accuses_nobody() -> None:
    seen = under_way()
    seen.view.count = None
    seen.pulse(0, 99)
    assert (seen.view.strangers, seen.view.missed) == (0, 0)


def test_a_counter_ahead_of_the_place_tells_of_pulses_in_between() -> None:
    seen = under_way(block(4, 1))
    seen.pulse(0, 43)  # two more than the one that the device reports
    assert seen.view.strangers == 2
    seen.pulse(1, 44)
    assert seen.view.strangers == 2


def test_a_pulse_too_many_is_noticed_behind_one_that_was_missed() -> None:
    seen = under_way(block(8, 1))
    seen.pulse(1, 41)  # place 0 has not left
    assert seen.view.strangers == 0
    seen.pulse(2, 43)
    assert seen.view.strangers == 1


def test_a_pulse_too_many_is_noticed_although_the_next_one_is_left_out() -> None:
    seen = under_way(block(8, 1))
    seen.pulse(0, 41)
    seen.pulse(2, 43)
    assert seen.view.strangers == 1


@pytest.mark.parametrize(("place", "strangers"), [(0, 1), (1, 0)])
def test_nothing_of_a_block_leaves_before_its_first_place(place: int, strangers: int) -> None:
    seen = under_way(block(8, 1))
    seen.note(LinkError("lost: 1"))
    seen.pulse(place, 42)
    assert seen.view.strangers == strangers


def test_pulses_whose_reports_were_lost_are_no_strangers_but_no_more_than_those() -> None:
    seen = under_way(block(8, 1))
    seen.pulse(0, 41)
    seen.note(LinkError("lost: 1"))
    seen.pulse(2, 43)
    assert seen.view.strangers == 0
    seen.pulse(4, 45)  # that one frame is accounted for
    assert seen.view.strangers == 1
    seen.note(LinkError("lost: 1"))
    seen.pulse(6, 48)
    assert seen.view.strangers == 2


# -- pulses that did not leave ----------------------------------------------------------------


def test_pulses_missed_in_a_row_are_counted_up_to_the_next_one() -> None:
    seen = under_way(block(8, 1))
    view = seen.view
    seen.pulse(2, 41)  # places 0 and 1 did not leave
    assert view.missed == 2
    seen.pulse(3, 42)
    seen.pulse(5, 43)  # one more, after one that did
    assert view.missed == 2  # the most in a row
    seen.pulse(7, 44)
    assert view.missed == 2
    assert view.strangers == 0


def test_missed_pulses_go_on_from_block_to_block() -> None:
    seen = under_way()
    play = seen.play
    assert play is not None
    for missed in (2, 4):
        seen.note(BlockEnded(1, 0, 0, "complete", 40, True))
        assert seen.view.missed == missed
        play.open = opened(play, block(2, 1))
    seen.pulse(0, 41)
    seen.note(BlockEnded(1, 1, 0, "in whatever words", 41, True))
    assert seen.view.missed == 4
    assert seen.view._missing == 1


@pytest.mark.parametrize(("delivered", "skipped"), [(0, 0), (0, 2), (1, 1)])
def test_a_block_that_was_cut_short_missed_nothing(delivered: int, skipped: int) -> None:
    seen = under_way()
    seen.note(BlockEnded(1, delivered, skipped, "STOP", 40 + delivered, False))
    assert seen.view.missed == 0


# -- the report of the end --------------------------------------------------------------------


def test_the_report_of_a_block_closes_it_and_adds_up() -> None:
    seen = under_way(block(4, 1))
    play = seen.play
    assert play is not None
    play.delivered, play.confirmed, play.skipped, seen.view.refusals = 10, 9, 1, 2
    seen.note(BlockEnded(1, 2, 1, "STOP", 42, False))
    assert (play.delivered, play.confirmed, play.skipped, play.position) == (12, 11, 2, 3)
    assert seen.view.count == 42
    assert seen.view.refusals == 0
    assert seen.outcomes() == [(2, 1, 0, "STOP")]
    assert play.open is None


@pytest.mark.parametrize(("shown", "times"), [(0, [0, 100]), (1, [0, 100, 200])])
def test_pulses_that_a_line_cannot_exclude_count_until_a_person_has_said_what_became_of_them(
    shown: int, times: list[int]
) -> None:
    seen = under_way(block(4, 1))
    play = seen.play
    assert play is not None
    play.delivered, play.confirmed, play.skipped, seen.view.refusals = 10, 9, 1, 2
    if shown:
        seen.pulse(0, 41)
    seen.note(BlockEnded(1, shown, 0, "not seen", 40 + shown, False, unsure=2))
    assert (play.delivered, play.confirmed, play.skipped) == (12 + shown, 9 + shown, 1)
    assert play.position == 2 + shown
    assert seen.view.count == 40 + shown
    assert seen.view.refusals == (0 if shown else 2)
    assert seen.outcomes() == [(shown, 0, 2, "not seen")]
    assert list(play.sent._times) == [START + at * MS for at in times]


def test_a_pulse_that_was_not_seen_is_a_missed_one_as_well() -> None:
    seen = under_way()
    seen.note(BlockEnded(1, 0, 0, "not seen", 40, True, unsure=2))
    assert seen.view.missed == 2


def test_only_its_own_report_closes_a_block() -> None:
    seen = under_way()
    seen.note(BlockEnded(2, 2, 0, "complete", 42, True))
    assert seen.outcomes() == []
    assert seen.view.count == 40
    for other in (View(), View(playback())):
        other.note(BlockEnded(1, 2, 0, "complete", 42, True))
        assert other.outcomes() == []


@pytest.mark.parametrize(
    ("seen_places", "delivered", "skipped", "times"),
    [
        ([0, 2], 2, 0, [0, 200]),  # each was reported: their own times
        ([0], 2, 0, [0, 100]),  # one report is lost: all up to the last one
        ([0], 2, 1, [0, 100, 200]),
        ([], 0, 0, []),
        ([0, 2], 3, 0, [0, 100, 200, 300]),  # place 1 was absent: one of the three was 300
        ([0, 3], 3, 1, [0, 100, 200, 300]),
    ],
)
def test_the_dose_counts_pulses_at_the_times_when_they_left(
    seen_places: list[int], delivered: int, skipped: int, times: list[int]
) -> None:
    seen = under_way(block(4, 1))
    play = seen.play
    assert play is not None
    for number, place in enumerate(seen_places):
        seen.pulse(place, 41 + number, START + place * 100 * MS)
    seen.note(BlockEnded(1, delivered, skipped, "STOP", 40 + delivered, False))
    assert list(play.sent._times) == [START + at * MS for at in times]
    assert play.sent.energy_at_most(0) == len(times) * 63_000_000


# -- the answer to the command ----------------------------------------------------------------


def test_a_refused_block_is_counted_and_has_not_left_once_a_status_says_so() -> None:
    seen = under_way()
    seen.view.refusals = 1
    seen.note(CommandEnded(FIRE_TICKET, Outcome.REFUSED, "busy"), START + 5)
    assert seen.view.refusals == 2
    for asked_us in (4, 5):
        seen.status(START + asked_us, state=DeviceState.READY)
        seen.view.settle(seen.play)
        assert seen.outcomes() == []
    seen.status(START + 6, state=DeviceState.READY)
    seen.view.settle(seen.play)
    assert seen.outcomes() == [(0, 0, 1, "refused by the device: busy")]


def test_a_block_that_was_refused_and_leaves_all_the_same_counts() -> None:
    seen = under_way()
    seen.note(CommandEnded(FIRE_TICKET, Outcome.REFUSED, "busy"), START + 5)
    seen.status(START + 6, state=DeviceState.FIRING, block_id=1, block_fired=0)
    seen.view.settle(seen.play)
    assert seen.view.unresolved_since(seen.play) is None
    for place in (0, 1):
        seen.pulse(place, 41 + place, START + place * 100 * MS)
    seen.note(BlockEnded(1, 2, 0, "complete", 42, True))
    assert seen.outcomes() == [(2, 0, 0, "complete")]
    assert seen.view.strangers == 0


def test_an_unknown_answer_is_unresolved_until_a_better_one() -> None:
    seen = under_way()
    seen.note(CommandEnded(FIRE_TICKET, Outcome.UNKNOWN, "no answer"), START + 5)
    assert seen.view.unresolved_since(seen.play) == START + 5
    seen.note(CommandEnded(FIRE_TICKET, Outcome.APPLIED, ""))
    assert seen.view.unresolved_since(seen.play) is None
    assert seen.outcomes() == []


@pytest.mark.parametrize("outcome", list(Outcome))
def test_the_answer_to_another_command_says_nothing_of_the_block(outcome: Outcome) -> None:
    seen = under_way()
    seen.note(CommandEnded(Ticket(7), outcome, "x"))
    assert seen.view.unresolved_since(seen.play) is None
    assert seen.play is not None
    assert seen.play.open is not None
    assert seen.view.arm_refused() is None
    for other in (View(), View(playback())):
        other.note(CommandEnded(FIRE_TICKET, outcome, "x"))
        assert other.outcomes() == []


# -- read back --------------------------------------------------------------------------------

CUT, READ, NEVER = "cut short; read back", "read back", "never reached the device"
BEGAN = "never began"
OVER_MS = 100 + 60
"""The last pulse of a block of two, and what its report may take."""


@pytest.mark.parametrize(
    ("asked_us", "changes", "outcome"),
    [
        (0, {"block_id": 1}, None),  # asked before the block was sent
        (1, {"block_id": 1}, (0, 0, 0, CUT)),
        (1, {"block_id": 1, "block_fired": 1, "state": DeviceState.LATCHED}, (1, 0, 0, CUT)),
        (1, {"block_id": 1, "block_fired": 1, "state": DeviceState.FIRING}, None),
        (SECOND, {"block_id": 1, "block_fired": 1, "state": DeviceState.FIRING}, None),
        (OVER_MS * MS, {"block_id": 1, "block_fired": 1, "state": DeviceState.READY}, None),
        (OVER_MS * MS + 1, {"block_id": 1, "block_fired": 1, "state": DeviceState.READY},
         (1, 1, 0, READ)),
        (OVER_MS * MS + 1, {"block_id": 1, "block_fired": 2, "state": DeviceState.READY},
         (2, 0, 0, READ)),
        (SECOND, {"block_id": 1, "block_fired": 1, "state": DeviceState.ARMING}, None),
        # A device that took it, by its answer, and shows that it has not begun.
        (0, {"block_id": 0}, None),
        (1, {"block_id": 0}, (0, 0, 1, BEGAN)),
        (1, {"block_id": 0, "state": DeviceState.LATCHED}, (0, 0, 1, BEGAN)),
        (SECOND, {"block_id": 0, "state": DeviceState.FIRING}, None),
        (SECOND, {"block_id": 0, "state": DeviceState.ARMING}, None),
        (OVER_MS * MS, {"block_id": 0, "state": DeviceState.READY}, None),
        (OVER_MS * MS + 1, {"block_id": 0, "state": DeviceState.READY}, (0, 0, 1, BEGAN)),
    ],
)  # fmt: skip
def test_a_block_is_read_back_from_a_status_that_names_it(
    asked_us: int, changes: dict[str, Any], outcome: tuple[int, int, int, str] | None
) -> None:
    seen = under_way()
    seen.status(START + asked_us, **changes)
    seen.view.settle(seen.play)
    assert seen.outcomes() == ([] if outcome is None else [outcome])


@pytest.mark.parametrize(("state", "missed"), [(DeviceState.READY, 2), (DeviceState.IDLE, 0)])
def test_a_block_that_never_began_is_missing_where_the_device_stayed_armed(
    state: DeviceState, missed: int
) -> None:
    seen = under_way()
    seen.status(START + OVER_MS * MS + 1, state=state)
    seen.view.settle(seen.play)
    assert seen.view.missed == missed
    assert seen.play is not None
    assert seen.play.position == 0


@pytest.mark.parametrize(("asked_us", "ended"), [(5, False), (6, True)])
def test_a_block_in_doubt_that_a_younger_status_does_not_name_was_never_there(
    asked_us: int, ended: bool
) -> None:
    seen = under_way()
    seen.note(CommandEnded(FIRE_TICKET, Outcome.UNKNOWN, ""), START + 5)
    seen.status(START + asked_us, state=DeviceState.READY)
    seen.view.settle(seen.play)
    assert seen.outcomes() == ([(0, 0, 1, NEVER)] if ended else [])
    assert seen.play is not None
    assert seen.play.position == 0


def test_a_block_in_doubt_that_the_status_names_is_in_doubt_no_longer() -> None:
    seen = under_way()
    seen.note(CommandEnded(FIRE_TICKET, Outcome.UNKNOWN, ""), START + 5)
    seen.status(START + 6, state=DeviceState.FIRING, block_id=1)
    seen.view.settle(seen.play)
    assert seen.view.unresolved_since(seen.play) is None
    assert seen.outcomes() == []


def test_without_a_status_nothing_is_read_back() -> None:
    seen = under_way()
    seen.note(LinkDown("unplugged"))
    seen.view.settle(seen.play)
    assert seen.outcomes() == []
    View().view.settle(None)
    View(playback()).view.settle(playback())


# -- a plan that was unloaded -----------------------------------------------------------------


def test_a_block_of_an_unloaded_plan_is_settled_before_the_next_plan_counts() -> None:
    seen = under_way()
    orphan, seen.play = seen.play, playback()
    assert orphan is not None
    seen.view.adopt_orphan(orphan)
    assert seen.view.counter_range(seen.play).high == 41  # type: ignore[union-attr]
    seen.pulse(0, 41)
    assert orphan.open is not None
    assert orphan.open.places == [0]
    seen.note(CommandEnded(FIRE_TICKET, Outcome.UNKNOWN, ""), START + 5)
    assert seen.view.unresolved_since(seen.play) == START + 5
    seen.status(BootUs(START + SECOND), block_id=1, block_fired=2, pulse_count=42)
    seen.view.settle(seen.play)
    assert seen.outcomes() == [(2, 0, 0, CUT)]
    assert (orphan.delivered, seen.play.delivered) == (2, 0)
    # From now on the plan that is loaded is the one that counts.
    seen.play.open = opened(seen.play, block(2, 1))
    seen.note(BlockEnded(1, 2, 0, "complete", 44, True))
    assert (orphan.delivered, seen.play.delivered) == (2, 2)


def test_the_end_of_a_loaded_block_forgets_no_unloaded_one() -> None:
    seen = under_way()
    assert seen.play is not None
    seen.note(BlockEnded(1, 2, 0, "complete", 42, True))
    seen.view.adopt_orphan(seen.play)  # nothing is open: nothing is kept
    seen.play = playback()
    seen.play.open = opened(seen.play, block(2, 1))
    seen.note(BlockEnded(1, 1, 0, "STOP", 43, False))
    assert seen.play.delivered == 1
