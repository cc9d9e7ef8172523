"""Two people at two terminals: one owner, one outcome, and both are told."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import permutations
from pathlib import Path

import pytest

from tests.fakes.engine import ORDER, OTHER, STATION, Rig, changed
from tests.fakes.guard import FakeGuard
from tmsctl.ipc import messages as ipc
from tmsctl.ipc.messages import GuardState
from tmsctl.records import reports
from tmsctl.session.refused import RefusedError
from tmsctl.session.state import Ask, State


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    rig = Rig(tmp_path / "journal.sqlite", FakeGuard(step_by_step=True))
    yield rig
    rig.journal.close()


def told(act: Callable[[], object]) -> str:
    """The code of the refusal."""
    with pytest.raises(RefusedError) as caught:
        act()
    assert caught.value.refusal.sentence.endswith(".")
    return caught.value.refusal.code


def test_of_two_who_start_one_owns_the_session_and_the_other_is_told(rig: Rig) -> None:
    """Each was shown a plan of their own."""
    mine, yours = rig.engine.prepare(ORDER), rig.engine.prepare(changed(ORDER, patient="P2"))
    ask = rig.begin(mine, station=STATION)
    assert told(lambda: rig.begin(yours, station=OTHER)) == "session-open"
    rig.pump()
    ask.ensure()
    assert rig.engine.session is not None
    assert (rig.engine.session.order.patient, rig.engine.session.station) == ("P1", STATION)
    assert [act.session_no for act in rig.acts if isinstance(act, ipc.Load)] == [1]
    assert told(lambda: rig.engine.present(OTHER)) == "not-station"


def test_of_two_with_one_confirmation_one_starts(rig: Rig) -> None:
    shown = rig.engine.prepare(changed(ORDER, protocol="itbs600"))
    rig.begin(shown, station=STATION)
    assert told(lambda: rig.begin(shown, station=OTHER)) == "session-open"
    rig.engine.stop()
    rig.pump()
    assert told(lambda: rig.begin(shown, station=OTHER)) == "confirmation-used"


def test_a_stop_that_is_faster_than_the_start_wins_and_the_starter_is_told(rig: Rig) -> None:
    ask = rig.begin(rig.engine.prepare(ORDER))
    rig.engine.stop()
    rig.pump()
    assert ask.done()
    with pytest.raises(RefusedError, match="ended before it ran: A person stopped") as caught:
        ask.ensure()
    assert caught.value.refusal.code == "session-ended"
    assert rig.state is State.STOPPED
    assert rig.guard.snapshot().session == ipc.Session.NONE
    assert rig.guard.fired.total() == 0
    assert rig.engine.open is None


def test_a_stop_after_the_first_pulse_is_no_failed_start(rig: Rig) -> None:
    ask = rig.begin(rig.engine.prepare(ORDER))
    rig.pump()
    rig.play(5)
    rig.engine.stop()
    rig.pump()
    ask.ensure()
    assert rig.state is State.STOPPED


@pytest.mark.parametrize("act", ["stop", "pause", "trip"])
def test_what_is_faster_than_a_resume_wins_and_who_resumed_is_told(rig: Rig, act: str) -> None:
    rig.start()
    rig.pump()
    rig.play(5)
    rig.engine.pause()
    rig.pump()
    ask = rig.engine.resume(STATION)
    if act == "stop":
        rig.engine.stop()
    elif act == "pause":
        rig.engine.pause()
    else:
        rig.hear(ipc.Transition(1, GuardState.IDLE, GuardState.SAFE, "coil-hot", "41.2, at most"))
    rig.pump()
    assert ask.done()
    assert told(ask.ensure) == ("session-ended" if act == "stop" else "session-paused")
    assert rig.state is (State.STOPPED if act == "stop" else State.PAUSED)
    assert rig.guard.fired.total() == 5


def test_of_two_who_resume_one_does_and_the_other_is_told(rig: Rig) -> None:
    """The station is gone; whoever is first becomes it."""
    rig.start()
    rig.pump()
    rig.engine.station_gone(STATION)
    rig.pump()
    ask = rig.engine.resume(OTHER)
    assert told(lambda: rig.engine.resume(STATION)) == "wrong-state"
    rig.pump()
    ask.ensure()
    assert rig.engine.session is not None
    assert rig.engine.session.station is OTHER
    assert [type(act) for act in rig.acts].count(ipc.Run) == 2  # the start and one resume


def test_of_two_who_stop_one_does_and_the_other_is_told_that_it_is_so(rig: Rig) -> None:
    rig.start()
    rig.pump()
    rig.engine.stop()
    with pytest.raises(RefusedError, match=r"session 1 is stopped\.") as caught:
        rig.engine.stop()
    assert caught.value.refusal.code == "no-session"
    record = reports.record(rig.journal, 1, "running")
    assert record is not None
    assert [event.code for event in record.events] == []  # nothing was flushed yet
    assert record.end_code == "operator"


def test_of_two_who_pause_both_are_served(rig: Rig) -> None:
    rig.start()
    rig.pump()
    asks = [rig.engine.pause(), rig.engine.pause()]
    rig.pump()
    assert [ask.done() for ask in asks] == [True, True]
    assert rig.state is State.PAUSED


ACTS = ("resume", "resume-2", "stop", "pause", "carry")


def test_in_every_order_of_acts_both_sides_agree_in_the_end(rig: Rig) -> None:
    """A paused session; "carry" lets the guard hear what was said so far."""
    for order in permutations(ACTS):
        number = rig.start(changed(ORDER, patient="-".join(order)))
        rig.pump()
        rig.play(5)
        rig.engine.pause()
        rig.pump()
        asks, refused = act_in(rig, order)
        # Everybody got an answer.
        assert "stop" not in refused
        assert set(refused.values()) <= {"no-session", "pausing", "wrong-state"}, order
        assert all(ask.done() for ask in asks.values()), order
        # The session is over on both sides, and no pulse left after the stop.
        assert rig.state is State.STOPPED
        assert rig.guard.snapshot().session == ipc.Session.NONE
        assert rig.guard.state == GuardState.IDLE
        rig.play()
        assert rig.guard.fired[number] == 5, order
        assert rig.journal.totals(number).counted == 5, order


def act_in(rig: Rig, order: tuple[str, ...]) -> tuple[dict[str, Ask], dict[str, str]]:
    """What was asked of the guard, and what was refused, by act."""
    asks: dict[str, Ask] = {}
    refused: dict[str, str] = {}
    for act in order:
        try:
            if act == "carry":
                rig.pump()
            elif act == "stop":
                rig.engine.stop()
            elif act == "pause":
                asks[act] = rig.engine.pause()
            else:
                asks[act] = rig.engine.resume(STATION if act == "resume" else OTHER)
        except RefusedError as error:
            refused[act] = error.refusal.code
    rig.pump()
    return asks, refused
