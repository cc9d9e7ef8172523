"""What the guard believes of the device, event by event, at the edges; nothing is ever sent."""

from __future__ import annotations

from typing import Any

import pytest

from drivers.contract import (
    CommandEnded,
    DeviceState,
    Disarmed,
    LinkDown,
    LinkError,
    LinkUp,
    Outcome,
    PulseSeen,
    Ticket,
)
from firmware_protocol.quantities import MS, SECOND, BootUs, DeviceUs, PercentMso
from tests.fakes.stimulator import ENVELOPE, IDENTITY, START, STATUS, block, opened, playback
from tmsctl.guard.device_view import DeviceView
from tmsctl.guard.playback import Playback
from tmsctl.guard.report import Reporter
from tmsctl.ipc import messages as ipc
from tmsctl.safety.dose import PulseTimes
from tmsctl.safety.facts import CounterRange
from tmsctl.safety.limits import GENERAL
from tmsctl.safety.rules import Action, Trip

MSO = PercentMso(50)
ARM_TICKET = Ticket(9)


class View:
    """A device view, the plan that is loaded, and what tmsd was told."""

    def __init__(
        self, play: Playback | None = None, serial: str | None = None, up: bool = True
    ) -> None:
        self.report = Reporter()
        self.view = DeviceView(serial, PulseTimes(GENERAL.train_gap_min_us), self.report, 1)
        self.play = play
        if up:
            self.note(LinkUp(IDENTITY, ENVELOPE))
            self.status()

    def note(self, event: Any, at: int = START) -> None:
        self.view.note(event, self.play, BootUs(at))

    def status(self, at: int = START, **changes: Any) -> None:
        """A status that was asked for and arrives at that time."""
        self.note(STATUS._replace(asked_at=BootUs(at), **changes), at)

    def pulse(self, place: int, count: int, at: int = START, block_id: int = 1) -> None:
        self.note(PulseSeen(BootUs(at), DeviceUs(at), count, block_id, place, 503, 57), at)

    def outcomes(self) -> list[tuple[int, int, int, str]]:
        """Delivered, skipped, outcome and why of each block that has ended."""
        return [
            (one.delivered, one.skipped, one.outcome, one.why)
            for one in self.report._unrecorded.values()
        ]

    def records(self) -> list[tuple[int, int, int]]:
        """Session, place and surface of each pulse that tmsd was told."""
        return [
            (one.session_no, one.place, one.surface_dc)
            for one in self.report._pending
            if isinstance(one, ipc.PulseRecord)
        ]


def test_before_the_device_answers_nothing_is_known() -> None:
    view = View(up=False).view
    assert (view.status, view.identity, view.envelope) == (None, None, None)
    assert (view.known, view.life, view.count, view.counter_range(None)) == (None,) * 4
    assert (view.armed_since, view.energy_at, view.realised_permille) == (None,) * 3
    assert (view.didt_a_per_us, view.status_without_fault, view.arm_refused()) == (None,) * 3
    assert (view.refusals, view.missed, view.strangers, view.last_realised) == (0, 0, 0, 0)
    assert not any((view.may_be_armed, view.latched, view.latched_by_us, view.has_another_coil))
    assert view.link == "starting: looking for the device"


@pytest.mark.parametrize(
    ("serial", "known"), [(None, True), (IDENTITY.serial, True), ("another", False)]
)
def test_a_device_is_known_by_its_serial_number_once_it_has_answered_and_shown_itself(
    serial: str | None, known: bool
) -> None:
    seen = View(serial=serial, up=False)
    seen.note(LinkUp(IDENTITY, ENVELOPE))
    assert seen.view.known is None
    seen.status()
    assert seen.view.known is known
    assert View(serial=serial, up=False).view.known is None
    only_status = View(serial=serial, up=False)
    only_status.status()
    assert only_status.view.known is None


def test_a_link_comes_and_goes() -> None:
    seen = View()
    assert seen.view.life == (IDENTITY.serial, IDENTITY.boot_count)
    assert (seen.view.link, seen.view.envelope) == ("", ENVELOPE)
    seen.note(LinkDown("unplugged: gone"))
    assert (seen.view.link, seen.view.status) == ("unplugged: gone", None)


@pytest.mark.parametrize(
    ("identity", "kept"), [(IDENTITY, True), (IDENTITY._replace(boot_count=8), False)]
)
def test_counter_and_pulses_hold_for_one_life_of_the_device(identity: Any, kept: bool) -> None:
    seen = View()
    seen.pulse(0, 41)
    seen.note(LinkDown("unplugged"))
    seen.note(LinkUp(identity, ENVELOPE))
    assert (seen.view.count is not None) is kept
    assert len(seen.view.seen) == kept


# -- armed, ready ---------------------------------------------------------------------------------


@pytest.mark.parametrize("state", list(DeviceState))
def test_a_device_counts_as_armed_while_it_shows_it(state: DeviceState) -> None:
    seen = View()
    seen.status(state=state)
    armed = state in (DeviceState.ARMING, DeviceState.READY, DeviceState.FIRING)
    assert seen.view.may_be_armed is armed
    assert seen.view.latched is (state is DeviceState.LATCHED)


def test_a_device_that_fell_silent_armed_counts_as_armed_until_it_says_otherwise() -> None:
    seen = View()
    seen.view.arming(ARM_TICKET, START)
    seen.note(LinkDown("unplugged"))
    assert seen.view.may_be_armed
    seen.note(Disarmed())
    assert not seen.view.may_be_armed
    assert seen.view.armed_since is None


def test_a_disarmed_status_ends_an_arming_only_after_its_command_has() -> None:
    seen = View()
    seen.view.arming(ARM_TICKET, START)
    seen.status()
    assert seen.view.armed_since == START  # the device has not taken the command yet
    seen.note(CommandEnded(ARM_TICKET, Outcome.APPLIED, ""))
    seen.status(state=DeviceState.ARMING)
    assert seen.view.armed_since == START
    seen.status()
    assert seen.view.armed_since is None


def test_an_arming_begins_with_a_clean_sheet() -> None:
    view = View().view
    view.refusals, view.missed, view._missing = 2, 3, 3
    view.realised_permille, view.didt_a_per_us = 500, 57
    view.arming(ARM_TICKET, START)
    assert (view.refusals, view.missed, view._missing) == (0, 0, 0)
    assert (view.realised_permille, view.didt_a_per_us) == (None, None)
    assert (view.armed_since, view.energy_at) == (START, START)


def test_a_refused_arming_is_told_once() -> None:
    seen = View()
    seen.view.arming(ARM_TICKET, START)
    seen.note(CommandEnded(ARM_TICKET, Outcome.REFUSED, "door open"))
    why = Trip("arm-refused", Action.DISARM, "the device refused to arm: door open")
    assert seen.view.arm_refused() == why
    assert seen.view.arm_refused() is None
    assert seen.view.armed_since is None


def test_what_is_seen_after_the_device_answered_that_it_arms_is_no_older_state() -> None:
    seen = View()
    assert not seen.view.arm_taken
    seen.view.arming(ARM_TICKET, START)
    seen.status(START + 1)
    assert not seen.view.arm_taken  # no answer yet
    seen.note(CommandEnded(ARM_TICKET, Outcome.APPLIED, ""), START + 2)
    assert not seen.view.arm_taken
    seen.status(START + 2)
    assert not seen.view.arm_taken  # asked for no later than the answer came
    seen.status(START + 3)
    assert seen.view.arm_taken
    seen.note(LinkDown("unplugged"))
    assert not seen.view.arm_taken
    seen.status(START + 4)
    seen.view.arming(Ticket(10), START + 5)
    assert not seen.view.arm_taken  # the next arming begins anew


@pytest.mark.parametrize("outcome", [Outcome.REFUSED, Outcome.UNKNOWN])
def test_an_arming_that_the_device_did_not_take_proves_nothing(outcome: Outcome) -> None:
    seen = View()
    seen.view.arming(ARM_TICKET, START)
    seen.note(CommandEnded(ARM_TICKET, outcome, ""), START)
    seen.status(START + 1)
    assert not seen.view.arm_taken


@pytest.mark.parametrize(
    ("changes", "since", "ready"),
    [
        ({"state": DeviceState.READY}, START - 1, True),
        ({"state": DeviceState.FIRING}, START - 1, True),
        ({"state": DeviceState.ARMING}, START - 1, False),
        ({"state": DeviceState.IDLE}, START - 1, False),
        ({"state": DeviceState.READY}, START, False),  # it was asked for before
        ({"state": DeviceState.READY}, None, False),
        ({"state": DeviceState.READY, "mso_pct": 49}, START - 1, False),
    ],
)
def test_ready_is_what_a_younger_status_shows_at_that_intensity(
    changes: dict[str, Any], since: int | None, ready: bool
) -> None:
    seen = View()
    seen.status(**changes)
    at = None if since is None else BootUs(since)
    assert seen.view.ready_at(MSO, at) is ready
    assert seen.view.ready_at(None, at) is False
    seen.note(LinkDown("unplugged"))
    assert seen.view.ready_at(MSO, at) is False


def test_a_fault_is_set_aside_and_the_rest_of_the_status_stays() -> None:
    seen = View()
    seen.status(state=DeviceState.LATCHED, fault="coil too hot")
    assert not seen.view.latched_by_us
    assert seen.view.status is not None
    assert seen.view.status_without_fault == seen.view.status._replace(fault="")


@pytest.mark.parametrize(
    ("late_us", "asked_us"),
    [(-1, -1), (0, 0), (1, 0), (40 * MS, 0), (40 * MS + 1, 40 * MS + 1), (60 * MS, 60 * MS)],
)
def test_a_status_that_was_read_late_is_as_young_as_can_be(late_us: int, asked_us: int) -> None:
    seen = View()
    seen.note(STATUS._replace(asked_at=BootUs(START + late_us)), START)
    assert seen.view.status is not None
    assert seen.view.status.asked_at == START + asked_us


@pytest.mark.parametrize("armed", [False, True])
def test_errors_of_the_link_count_while_armed(armed: bool) -> None:
    seen = View()
    if armed:
        seen.view.arming(ARM_TICKET, START)
    seen.note(LinkError("checksum: 1"))
    assert seen.view.link_watch.errors(START) == armed
    assert seen.view.link_watch.doubt is armed
    seen.status()
    seen.status()
    assert not seen.view.link_watch.doubt


# -- the counter ----------------------------------------------------------------------------------


def under_way(of: Any = None, start_at: int = START, **changes: Any) -> View:
    """A block of two pulses was handed over; the device showed 40 pulses before it."""
    play = playback()
    seen = View(play)
    play.open = opened(play, of or block(2, 1), start_at)
    for name, value in changes.items():
        setattr(seen.view, name, value)
    return seen


def test_the_counter_may_show_what_is_due_of_the_block_under_way() -> None:
    seen = under_way()
    assert View().view.counter_range(None) == CounterRange(40, 40)
    assert View(playback()).view.counter_range(playback()) == CounterRange(40, 40)
    assert seen.view.counter_range(seen.play) == CounterRange(40, 41)
    seen.status(START + 98 * MS, state=DeviceState.FIRING, pulse_count=41)
    assert seen.view.counter_range(seen.play) == CounterRange(40, 42)


def test_before_the_first_status_nothing_of_a_block_is_due() -> None:
    play = playback()
    play.open = opened(play, block(2, 1), 2 * MS + 1)
    seen = View(play, up=False)
    seen.pulse(0, 41, block_id=2)
    assert seen.view.counter_range(play) == CounterRange(41, 41)


@pytest.mark.parametrize("state", list(DeviceState))
def test_pulses_that_nobody_told_of_are_strangers_while_nothing_is_under_way(
    state: DeviceState,
) -> None:
    disarmed = state in (DeviceState.IDLE, DeviceState.LATCHED)
    seen = View()
    seen.status(state=state, pulse_count=43)
    assert seen.view.strangers == (3 if disarmed else 0)
    assert seen.view.count == (43 if disarmed else 40)
    seen.status(state=state, pulse_count=42)
    assert seen.view.strangers == (4 if disarmed else 0)  # backwards is as wrong
    seen = under_way()
    seen.status(state=state, pulse_count=43)
    assert seen.view.strangers == 0
    assert seen.view.count == 40


@pytest.mark.parametrize(
    ("counted", "outcome"),
    [
        (39, (0, 0, 2, "connection lost; the counter proves nothing")),
        (40, (0, 0, 0, "connection lost; delivered pulses by the counter")),
        (41, (1, 0, 0, "connection lost; delivered pulses by the counter")),
        (42, (2, 0, 0, "connection lost; delivered pulses by the counter")),
        (43, (0, 0, 2, "connection lost; the counter proves nothing")),
    ],
)
def test_after_a_lost_connection_the_counter_tells_or_nothing_does(
    counted: int, outcome: tuple[int, int, int, str]
) -> None:
    seen = under_way()
    seen.note(LinkDown("unplugged"))
    seen.note(LinkUp(IDENTITY, ENVELOPE))
    seen.status(START + SECOND, pulse_count=counted)
    assert seen.outcomes() == [outcome]
    assert seen.view.count == counted
    assert seen.view.strangers == 0
    assert seen.play is not None
    assert seen.play.open is None
    assert seen.play.delivered == (2 if outcome[2] else outcome[0])


@pytest.mark.parametrize("counted", [0, 1, 40, 41])
def test_another_life_of_the_device_proves_nothing(counted: int) -> None:
    seen = under_way()
    seen.note(LinkDown("unplugged"))
    seen.note(LinkUp(IDENTITY._replace(boot_count=8), ENVELOPE))
    seen.status(START + SECOND, pulse_count=counted)
    assert [outcome[2] for outcome in seen.outcomes()] == [2]


def test_what_nobody_can_say_counts_in_full_and_in_time_as_far_as_it_was_due() -> None:
    seen = under_way()
    play = seen.play
    assert play is not None
    play.delivered, play.confirmed, play.skipped = 10, 9, 1
    seen.pulse(0, 41)
    seen.note(LinkDown("unplugged"))
    seen.status(START + 100 * MS, pulse_count=0)  # just when the second one was due
    assert (play.delivered, play.confirmed, play.skipped) == (12, 10, 1)
    assert play.position == 2
    assert (len(play.sent), play.sent.newest) == (2, START + 100 * MS)
    assert play.sent.energy_at_most(0) == 2 * 63_000_000
    assert seen.outcomes() == [(1, 0, 2, "connection lost; the counter proves nothing")]
    seen = under_way()
    assert seen.play is not None
    seen.note(LinkDown("unplugged"))
    seen.status(START + 100 * MS - 1, pulse_count=0)
    assert (len(seen.play.sent), seen.play.delivered) == (1, 2)


def test_a_lost_connection_leaves_the_open_block_unresolved_from_then_on() -> None:
    seen = under_way()
    assert seen.view.unresolved_since(seen.play) is None
    seen.note(LinkDown("unplugged"), START + 1)
    seen.note(LinkDown("again"), START + 2)
    assert seen.view.unresolved_since(seen.play) == START + 1
    assert seen.view.unresolved_since(None) is None
    View().note(LinkDown("nothing is open"))
