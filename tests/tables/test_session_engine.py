"""What a session is: no pulse without its intent, and every no with a code."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.fakes.engine import GUARD_PID, ORDER, OTHER, STATION, Rig, changed
from tests.fakes.guard import FakeGuard
from tmsctl.ipc import messages as ipc
from tmsctl.ipc.messages import GuardState
from tmsctl.records import reports
from tmsctl.session.prepare import Order
from tmsctl.session.refused import RefusedError
from tmsctl.session.state import State


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., Rig]]:
    rigs: list[Rig] = []

    def build(**options: object) -> Rig:
        guard = FakeGuard(**options)  # type: ignore[arg-type]
        rigs.append(Rig(tmp_path / "journal.sqlite", guard))
        return rigs[-1]

    yield build
    for rig in rigs:
        rig.journal.close()


@pytest.fixture
def rig(make: Callable[..., Rig]) -> Rig:
    """Blocks advance only when the test plays them."""
    return make(step_by_step=True)


def test_a_session_delivers_every_planned_pulse_and_is_complete(make: Callable[..., Rig]) -> None:
    rig = make()
    number = rig.start()
    rig.pump()
    rig.engine.flush()
    record = reports.record(rig.journal, number, "running")
    assert record is not None
    assert (record.state, record.end_code) == ("complete", "complete")
    assert record.planned == record.delivered == rig.guard.fired[number] == 600
    assert (record.unknown, record.device.count_before, record.device.count_after) == (0, 0, 600)
    assert {block.outcome for block in record.blocks} == {"applied"}
    assert record.temperature_max_c == 30.1


def test_an_intent_is_on_disk_before_its_grant_and_an_outcome_before_its_receipt(
    make: Callable[..., Rig],
) -> None:
    rig = make()
    granted = recorded = 0

    def look(item: ipc.ToGuard) -> None:
        nonlocal granted, recorded
        if isinstance(item, ipc.Grant):
            granted += item.pulses
            assert rig.journal.totals(item.session_no).counted >= granted
        if isinstance(item, ipc.Recorded):
            recorded += 30
            assert rig.journal.totals(item.session_no).delivered >= recorded

    rig.before_send = look
    rig.start()
    rig.pump()
    assert granted == recorded == 600


def test_delivered_and_unknown_together_always_cover_what_left_the_coil(rig: Rig) -> None:
    number = rig.start()
    rig.pump()
    for _ in range(60):
        session = rig.status().session
        assert session is not None
        assert session.delivered == rig.guard.fired[number]
        assert session.delivered + session.unknown >= rig.guard.fired[number]
        rig.play(7)
    assert rig.status().session.unknown == 0  # the guard still speaks of the running block


# Refusals of a start, each beside what is allowed


@pytest.mark.parametrize(
    ("changes", "code", "bit"),
    [
        ({"protocol": "none"}, "protocol-unknown", 1),
        ({"mt": None}, "mt-missing", 1),
        ({"mt": 0.0}, "mt-out-of-range", 1),
        ({"mt": 100.1}, "mt-out-of-range", 1),
        ({"mt": 50.05}, "mt-out-of-range", 1),
        ({"pct_mt": 0}, "pct-mt-out-of-range", 1),
        ({"pct_mt": 201}, "pct-mt-out-of-range", 1),
        ({"patient": ""}, "patient-id", 1),
        ({"patient": "x" * 65}, "patient-id", 1),
        ({"patient": "Ann Example"}, "patient-id", 1),
        ({"operator": "a/b"}, "operator-id", 1),
        ({"mt": 100.0, "pct_mt": 101}, "dose-not-reachable", 16),
    ],
)
def test_an_order_that_cannot_become_a_plan_is_refused(
    rig: Rig, changes: dict[str, object], code: str, bit: int
) -> None:
    with pytest.raises(RefusedError) as caught:
        rig.engine.prepare(changed(ORDER, **changes))
    assert (caught.value.refusal.code, caught.value.exit_bit) == (code, bit)


@pytest.mark.parametrize(
    "changes",
    [
        {"mt": 1.3},
        {"mt": 100.0},
        {"mt": 50},
        {"pct_mt": 120},
        {"patient": "x" * 64},
        {"patient": "A.b_c-9"},
        {"mt": 100.0, "pct_mt": 110, "reduced": True},
    ],
)
def test_an_order_on_the_border_becomes_a_plan(rig: Rig, changes: dict[str, object]) -> None:
    order = changed(ORDER, **{"protocol": "itbs600", "pct_mt": 80, **changes})
    assert rig.engine.prepare(order).refusal() is None


def refused(rig: Rig, order: Order = ORDER) -> tuple[str, int]:
    prepared = rig.engine.prepare(order)
    with pytest.raises(RefusedError) as caught:
        rig.begin(prepared)
    return caught.value.refusal.code, caught.value.exit_bit


def test_a_second_session_is_refused_while_one_is_open_and_allowed_after(rig: Rig) -> None:
    rig.start()
    rig.pump()
    assert refused(rig) == ("session-open", 1)
    rig.engine.stop()
    rig.pump()
    assert rig.start(changed(ORDER, patient="P2")) == 2


def test_a_plan_that_breaks_a_limit_is_refused_with_the_code_of_the_check(rig: Rig) -> None:
    order = changed(ORDER, pct_mt=122, protocol="hf10-19")
    checks = rig.engine.prepare(order).checks
    assert "ceiling-mt" in [check.code for check in checks if not check.ok]
    assert refused(rig, order) == ("ceiling-mt", 16)


def test_a_guard_that_is_silent_for_half_a_second_is_absent(rig: Rig) -> None:
    rig.us += 500_000
    assert rig.status().guard.state == "idle"
    rig.us += 1
    assert rig.status().guard.state == "absent"
    assert refused(rig) == ("guard-absent", 2)
    rig.us -= 500_002  # the snapshot is from the future
    assert rig.status().guard.state == "absent"


def test_a_device_that_is_not_there_refuses_with_the_reason_of_the_link(rig: Rig) -> None:
    rig.guard.connected, rig.guard.link = False, "PORT-BUSY: opened by another program"
    rig.pump()
    with pytest.raises(RefusedError, match="PORT-BUSY: opened by another program") as caught:
        rig.start()
    assert (caught.value.refusal.code, caught.value.exit_bit) == ("device-unreachable", 2)


def test_a_guard_in_safe_refuses_until_a_person_acknowledges(rig: Rig) -> None:
    rig.hear(*rig.guard.trip("coil-temperature", "41.2 degree C, at most 41.0 allowed"))
    assert refused(rig) == ("guard-safe", 8)
    assert rig.status().guard.causes[0].code == "coil-temperature"
    ask = rig.engine.acknowledge()
    assert not ask.done()
    rig.pump()
    assert ask.done()
    assert rig.status().guard.causes == ()
    assert rig.start()


@pytest.mark.parametrize("state", [GuardState.ARMING, GuardState.ARMED])
def test_a_guard_that_has_not_disarmed_yet_refuses_a_start(rig: Rig, state: GuardState) -> None:
    rig.guard.state = state
    rig.pump()
    assert refused(rig) == ("guard-busy", 1)


@pytest.mark.parametrize("kind", [ipc.Load, ipc.Run])
def test_what_the_guard_refuses_at_the_start_ends_the_session_with_its_code(
    rig: Rig, kind: type
) -> None:
    rig.guard.refuse[kind] = ("rate-60s", "601 pulses in 60 s, at most 600 allowed")
    number = rig.start()
    rig.pump()
    assert rig.state is State.STOPPED
    record = reports.record(rig.journal, number, "running")
    assert record is not None
    assert (record.state, record.end_code) == ("stopped", "rate-60s")
    assert "rate-60s" in rig.codes
    error = rig.engine.guard.refusal(ipc.Refused(0x03, *rig.guard.refuse[kind]))
    assert error.exit_bit == 16


# Pause, trip, stop


def test_a_pause_keeps_the_place_and_a_resume_goes_on_with_the_next_pulse(rig: Rig) -> None:
    number = rig.start()
    rig.pump()
    rig.play(17)
    ask = rig.engine.pause()
    assert not ask.done()
    with pytest.raises(RefusedError, match="being paused") as caught:
        rig.engine.resume(STATION)
    assert (caught.value.refusal.code, caught.value.exit_bit) == ("pausing", 1)
    rig.pump()
    assert ask.done()
    assert rig.state is State.PAUSED
    assert rig.journal.totals(number).delivered == 17
    rig.engine.resume(STATION)
    rig.pump()
    assert rig.state is State.RUNNING
    grants = [act for act in rig.acts if isinstance(act, ipc.Grant)]
    assert [(grant.first_pulse, grant.pulses) for grant in grants] == [(0, 30), (17, 30)]
    while rig.engine.open:
        rig.play()
    assert rig.journal.totals(number).delivered == rig.guard.fired[number] == 600


def test_nothing_is_granted_from_the_moment_of_a_pause(rig: Rig) -> None:
    number = rig.start()
    rig.pump()
    rig.engine.pause()
    rig.hear(ipc.Want(number, 9, 30, 30, 0))  # was on its way
    assert rig.journal.totals(number).counted == 30
    assert sum(isinstance(act, ipc.Grant) for act in rig.acts) == 1


def test_a_resume_needs_a_paused_session(rig: Rig) -> None:
    with pytest.raises(RefusedError) as caught:
        rig.engine.resume(STATION)
    assert caught.value.refusal.code == "no-session"
    rig.start()
    rig.pump()
    with pytest.raises(RefusedError) as caught:
        rig.engine.resume(STATION)
    assert (caught.value.refusal.code, caught.value.exit_bit) == ("wrong-state", 1)


def test_a_trip_pauses_and_after_an_acknowledgement_a_resume_goes_on(rig: Rig) -> None:
    number = rig.start()
    rig.pump()
    rig.play(5)
    rig.hear(*rig.guard.trip("status-age", "61 ms, at most 60 allowed"))
    rig.pump()
    assert rig.state is State.PAUSED
    with pytest.raises(RefusedError, match="status-age: 61 ms") as caught:
        rig.engine.resume(STATION)
    assert (caught.value.refusal.code, caught.value.exit_bit) == ("guard-safe", 8)
    rig.engine.acknowledge()
    rig.pump()
    rig.engine.resume(STATION)
    rig.pump()
    assert rig.state is State.RUNNING
    assert rig.journal.totals(number).delivered == 5


def test_an_operators_stop_at_the_guard_ends_the_session(rig: Rig) -> None:
    number = rig.start()
    rig.pump()
    rig.play(5)
    rig.hear(*rig.guard.trip("stop", "STOP by pedal"))
    rig.pump()
    record = reports.record(rig.journal, number, "running")
    assert record is not None
    assert (record.state, record.end_code, record.delivered) == ("stopped", "stop", 5)


def test_session_stop_unloads_the_plan_and_counts_what_had_left(rig: Rig) -> None:
    number = rig.start()
    rig.pump()
    rig.play(5)
    rig.acts.clear()
    rig.engine.stop()
    assert rig.acts == [ipc.Unload()]
    assert rig.state is State.STOPPED
    rig.pump()
    assert rig.journal.totals(number).delivered == 5  # the outcome came after the end
    assert rig.journal.totals(number).unknown == 0


def test_a_run_that_the_guard_refuses_at_a_resume_leaves_the_session_paused(rig: Rig) -> None:
    rig.start()
    rig.pump()
    rig.engine.pause()
    rig.pump()
    rig.guard.refuse[ipc.Run] = ("coil-temperature", "41.2, at most 41.0 allowed")
    ask = rig.engine.resume(STATION)
    rig.pump()
    assert ask.done()
    assert rig.state is State.PAUSED


def test_the_station_that_goes_pauses_its_session_and_who_resumes_takes_it(rig: Rig) -> None:
    rig.start()
    rig.pump()
    rig.engine.station_gone(OTHER)
    assert rig.state is State.RUNNING
    rig.engine.station_gone(STATION)
    rig.pump()
    assert rig.state is State.PAUSED
    assert rig.codes.count("station-gone") == 1
    rig.engine.resume(OTHER)
    rig.pump()
    rig.engine.station_gone(OTHER)
    assert rig.state is State.PAUSED


def test_an_arming_that_fails_pauses_the_session(rig: Rig) -> None:
    rig.guard.refuse[ipc.Run] = ("not-used", "the fake takes no part in this")
    number = rig.start()
    rig.hear(ipc.Transition(1, GuardState.ARMING, GuardState.IDLE, "arm-refused", "by the device"))
    assert rig.state is State.PAUSED
    assert rig.engine.session is not None
    assert rig.engine.session.number == number


def test_a_guard_that_runs_although_the_session_is_paused_is_told_again_once(rig: Rig) -> None:
    number = rig.start()
    rig.pump()
    running = rig.guard.snapshot()
    rig.engine.pause()
    rig.pump()
    rig.acts.clear()
    rig.hear(running, running)
    assert rig.acts == [ipc.Pause(number)]


def test_a_session_is_shown_as_starting_until_the_device_is_armed(rig: Rig) -> None:
    rig.start()
    rig.pump()
    rig.guard.state = GuardState.ARMING
    rig.pump()
    assert rig.status().session.state == "starting"
    rig.guard.state = GuardState.ARMED
    rig.pump()
    assert rig.status().session.state == "running"


# Loss


def test_a_lost_guard_interrupts_and_its_open_pulses_count(rig: Rig) -> None:
    number = rig.start()
    rig.pump()
    rig.play(5)
    rig.engine.guard_down("The guard closed the connection.")
    record = reports.record(rig.journal, number, "running")
    assert record is not None
    assert (record.state, record.end_code) == ("interrupted", "guard-lost")
    assert (record.delivered, record.unknown) == (0, 30)


def test_an_outcome_that_the_same_guard_repeats_later_corrects_the_dose(rig: Rig) -> None:
    number = rig.start()
    rig.pump()
    rig.play(5)
    rig.engine.guard_down("broken")
    rig.guard.trip("service-lost")
    rig.engine.guard_up(GUARD_PID)
    rig.hear(*rig.guard.repeat())
    rig.pump()
    assert rig.journal.totals(number).delivered == 5
    assert rig.journal.totals(number).unknown == 0
    assert "outcome-late" in rig.codes
    assert rig.guard.repeat() == []


def test_a_service_that_died_finds_its_session_interrupted_and_every_open_pulse_counted(
    make: Callable[..., Rig], tmp_path: Path
) -> None:
    first = make(step_by_step=True)
    number = first.start()
    first.pump()
    first.play(5)
    first.guard.trip("service-lost")
    # The first is not asked, and the guard stays in SAFE.
    second = Rig(tmp_path / "journal.sqlite", first.guard, ready=False)
    assert second.engine.session is None
    record = reports.record(second.journal, number, "running")
    assert record is not None
    assert (record.state, record.end_code) == ("interrupted", "service-restarted")
    assert record.unknown == 30
    second.hear(*first.guard.repeat())
    assert second.journal.totals(number).counted == 5
    second.journal.close()


@pytest.mark.parametrize("done", [0, 12, 30])
def test_an_unknown_outcome_counts_all_that_was_granted(rig: Rig, done: int) -> None:
    number = rig.start()
    rig.pump()
    rig.guard.outcome = 2
    rig.play(done) if done < 30 else None
    rig.hear(*rig.guard.trip("unresolved"))
    rig.pump()
    totals = rig.journal.totals(number)
    assert totals.counted == 30
    assert totals.doubtful == 30
    assert "outcome-unknown" in rig.codes


# A guard that asks for what it should not


@pytest.mark.parametrize(
    ("block", "first", "pulses"),
    [(2, 599, 2), (2, 600, 1), (2, 30, 0), (1, 30, 30), (0, 30, 30)],
    ids=["past the end", "after the end", "nothing", "block again", "block falls"],
)
def test_a_want_that_does_not_fit_the_plan_gets_no_grant_and_pauses(
    rig: Rig, block: int, first: int, pulses: int
) -> None:
    number = rig.start()
    rig.pump()
    rig.hear(ipc.Want(number, block, first, pulses, 0))
    assert rig.acts[-1] == ipc.Pause(number)
    assert rig.journal.totals(number).counted == 30


def test_the_last_pulse_of_the_plan_may_be_wanted(rig: Rig) -> None:
    number = rig.start()
    rig.pump()
    rig.hear(ipc.Want(number, 2, 599, 1, 0))
    assert rig.acts[-1] == ipc.Grant(number, 2, 599, 1)


def test_a_want_without_a_session_is_answered_with_unload(rig: Rig) -> None:
    rig.hear(ipc.Want(4, 1, 0, 30, 0))
    assert rig.acts[-1] == ipc.Unload()
    assert "want-unasked" in rig.codes


# The service ends


def test_the_end_of_the_service_ends_its_session(rig: Rig) -> None:
    number = rig.start()
    rig.pump()
    rig.engine.close()
    assert rig.acts[-1] == ipc.Unload()
    record = reports.record(rig.journal, number, "running")
    assert record is not None
    assert (record.state, record.end_code) == ("interrupted", "service-stopped")
    assert record.events[-1].code == "service-stopped"
