"""The guard, one cycle at a time: what tmsd asks for, from loading a plan to unloading it."""

from __future__ import annotations

import pytest

from drivers.contract import (
    CommandEnded,
    DeviceState,
    LinkUp,
    Outcome,
)
from firmware_protocol.quantities import MS, PercentMso
from tests.fakes.stimulator import (
    ENVELOPE,
    IDENTITY,
    PLAN,
    SESSION,
    START,
    Bench,
    Call,
    codes,
    outcomes,
    plan,
)
from tmsctl.ipc import messages as ipc
from tmsctl.safety.limits import GENERAL
from tmsctl.safety.machine import Armed, Arming, Idle
from tmsctl.safety.rules import Action, Trip

OTHER = SESSION + 1


# -- loading ------------------------------------------------------------------------------------


def test_a_plan_needs_a_device() -> None:
    bench = Bench()
    assert codes(bench.cycle(bench.load())) == ["no-device"]
    assert bench.guard.play is None


def test_a_plan_that_the_guard_does_not_find_in_its_library_is_refused() -> None:
    bench = Bench().connected()
    bench.planned = Trip("plan-changed", Action.HOLD, "another one")
    assert codes(bench.cycle(bench.load())) == ["plan-changed"]
    assert bench.guard.play is None


@pytest.mark.parametrize(("first", "good"), [(0, True), (7, True), (8, False), (9, False)])
def test_a_plan_begins_with_one_of_its_pulses(first: int, good: bool) -> None:
    assert PLAN.pulses == 8
    bench = Bench().connected()
    assert codes(bench.cycle(bench.load(first))) == ([] if good else ["wrong-position"])
    assert (bench.guard.play is not None) is good


def test_a_plan_that_was_not_begun_gives_way_to_another_one() -> None:
    bench = Bench().loaded()
    assert bench.cycle(bench.load(session_no=OTHER)) == []
    assert bench.guard.play is not None
    assert bench.guard.play.session_no == OTHER


def test_no_plan_is_loaded_while_armed_or_during_a_self_test() -> None:
    bench = Bench().armed()
    assert codes(bench.cycle(bench.load(session_no=OTHER))) == ["wrong-state"]
    assert isinstance(bench.guard.state, Armed)
    bench = Bench().connected()
    bench.cycle(ipc.SelfTest())
    assert codes(bench.cycle(bench.load())) == ["wrong-state"]
    assert bench.guard.play is None


def test_no_plan_is_loaded_while_a_block_of_the_one_before_has_no_outcome() -> None:
    bench = Bench().armed()
    bench.firing()
    bench.cycle(ipc.Pause(SESSION))
    assert isinstance(bench.guard.state, Idle)
    assert codes(bench.cycle(bench.load(session_no=OTHER))) == ["wrong-state"]
    bench.show(state=DeviceState.IDLE)
    told = bench.cycle()  # the status tells that nothing of it left
    assert outcomes(told) == [(1, 0, 0, 0, "cut short; read back")]
    assert codes(bench.cycle(bench.load(session_no=OTHER))) == []


def test_the_shorter_of_lease_and_longest_block_binds() -> None:
    bench = Bench().connected()
    short = ENVELOPE._replace(block_max_us=99 * MS)
    bench.cycle(events=[LinkUp(IDENTITY, short)])
    bench.cycle(bench.load())
    assert bench.guard.play is not None
    assert bench.guard.play.slice_at(0).pulses == 1
    assert Bench().loaded().guard.play.slice_at(0).pulses == 2  # type: ignore[union-attr]


# -- run, pause, unload -------------------------------------------------------------------------


def test_a_run_arms_at_the_intensity_of_the_plan_and_the_session_runs() -> None:
    bench = Bench().loaded()
    assert codes(bench.cycle(bench.run())) == ["run"]
    assert bench.calls[1] == Call("arm", bench.now, PercentMso(50))
    assert bench.guard.state == Arming(PercentMso(50), bench.now)
    assert bench.snapshot is not None
    assert bench.snapshot.session == ipc.Session.RUNNING


@pytest.mark.parametrize("loaded", [False, True])
def test_a_run_of_a_session_that_is_not_loaded_arms_nothing(loaded: bool) -> None:
    bench = Bench().loaded() if loaded else Bench().connected()
    assert codes(bench.cycle(bench.run(OTHER))) == ["not-loaded"]
    assert bench.did == []
    assert isinstance(bench.guard.state, Idle)


def test_a_run_that_a_rule_forbids_is_refused_with_the_code_of_the_rule() -> None:
    bench = Bench().loaded()
    wrong = ipc.Run(SESSION, "0" * 64, bench.now)
    assert codes(bench.cycle(wrong)) == ["not-confirmed"]
    assert bench.did == []
    assert bench.cycle() == []  # refused once, and not tried again
    assert bench.snapshot is not None
    assert bench.guard.play is not None
    assert not bench.guard.play.running


def test_a_run_in_safe_is_refused_and_not_kept_for_later() -> None:
    bench = Bench().loaded().stopped()
    assert codes(bench.cycle(bench.run())) == ["latched"]
    assert codes(bench.cycle(bench.seen())) == ["acknowledged"]
    assert bench.cycle() == []
    assert isinstance(bench.guard.state, Idle)


def test_a_second_run_while_armed_is_refused_and_nothing_changes() -> None:
    bench = Bench().armed()
    assert codes(bench.cycle(bench.run())) == ["wrong-state"]
    assert bench.did == []
    assert isinstance(bench.guard.state, Armed)


@pytest.mark.parametrize("armed", [False, True])
def test_a_pause_disarms_and_the_session_no_longer_runs(armed: bool) -> None:
    bench = Bench().armed() if armed else Bench().arming()
    assert codes(bench.cycle(ipc.Pause(SESSION))) == ["paused"]
    assert bench.did == ["disarm"]
    assert bench.snapshot is not None
    assert bench.snapshot.session == ipc.Session.LOADED


def test_a_pause_of_another_session_is_refused_and_changes_nothing() -> None:
    bench = Bench().armed()
    assert codes(bench.cycle(ipc.Pause(OTHER))) == ["not-loaded"]
    assert isinstance(bench.guard.state, Armed)
    bench = Bench().connected()
    assert codes(bench.cycle(ipc.Pause(SESSION))) == ["not-loaded"]


def test_a_pause_beats_a_run_of_the_same_cycle() -> None:
    bench = Bench().loaded()
    told = bench.cycle(bench.run(), ipc.Pause(SESSION))
    assert codes(told) == []
    assert bench.did == []
    assert isinstance(bench.guard.state, Idle)


def test_a_stop_beats_a_run_of_the_same_cycle() -> None:
    bench = Bench().loaded()
    assert codes(bench.cycle(bench.run(), stopped_by="test")) == ["stop"]
    assert "arm" not in bench.did
    bench.cycle(bench.seen())
    bench.cycle()
    assert isinstance(bench.guard.state, Idle)


@pytest.mark.parametrize("armed", [False, True])
def test_unloading_disarms_and_forgets_the_plan(armed: bool) -> None:
    bench = Bench().armed() if armed else Bench().loaded()
    assert codes(bench.cycle(ipc.Unload())) == (["unloaded"] if armed else [])
    assert bench.did == (["disarm"] if armed else [])
    assert bench.guard.play is None
    assert bench.snapshot is not None
    assert bench.cycle(ipc.Unload()) == []  # a second one finds nothing to do


@pytest.mark.parametrize("command", [ipc.Pause(SESSION), ipc.Unload()])
def test_a_disarmed_guard_goes_on_disarming_whatever_tmsd_ends(command: ipc.ToGuard) -> None:
    bench = Bench().loaded()
    bench.show(state=DeviceState.READY)
    assert bench.cycle(command) == []
    assert bench.did == ["disarm"]


def test_a_refused_arming_disarms_and_says_why() -> None:
    bench = Bench().arming()
    refused = CommandEnded(bench.driver.ticket, Outcome.REFUSED, "door open")
    assert codes(bench.cycle(events=[refused])) == ["arm-refused"]
    assert bench.did == ["disarm"]
    assert isinstance(bench.guard.state, Idle)


def test_a_session_lasts_from_its_first_arming_whatever_comes_between() -> None:
    bench = Bench().arming()
    first = bench.now
    assert session_age(bench) == bench.now - first
    bench.cycle(ipc.Pause(SESSION))
    bench.cycle(bench.run())
    assert bench.did == ["arm"]
    assert session_age(bench) == bench.now - first
    assert session_age(Bench().loaded()) is None


def session_age(bench: Bench) -> int | None:
    for item in bench.cycle(ipc.ReadInterlocks()):
        if isinstance(item, ipc.Interlock) and item.code == "session-long":
            return item.value if item.known else None
    raise AssertionError


@pytest.mark.parametrize(("ahead_us", "known"), [(0, True), (1, False)])
def test_a_sign_of_the_operator_from_the_future_is_none(ahead_us: int, known: bool) -> None:
    bench = Bench()
    bench.cycle(ipc.Present(START + 10 * MS + ahead_us))
    assert (bench.guard.presence_at is not None) is known


def test_a_fault_of_tmsd_makes_safe_and_says_which() -> None:
    bench = Bench().armed()
    told = bench.cycle(ipc.Fail("journal-failed", "disk full"))
    assert codes(told) == ["journal-failed"]
    assert "journal-failed: disk full" in told[0].detail  # type: ignore[union-attr]
    assert bench.did[0] == "stop"


def test_a_plan_of_its_own_limits_is_armed_at_its_own_intensity_only() -> None:
    bench = Bench(plan(trains=1)).loaded()
    assert bench.guard.limits_in_force.mso_max_pct == 50
    assert bench.guard.limits_in_force.session_pulses_max == 4
    bench.cycle(ipc.Unload())
    assert bench.guard.limits_in_force is GENERAL
    assert GENERAL.mso_max_pct == 100


def test_the_last_words_of_a_tmsd_that_has_gone_are_no_sign_of_life() -> None:
    bench = Bench().armed()
    [cause, *_] = bench.cycle(ipc.Alive(), connected=False)
    assert isinstance(cause, ipc.Transition)
    assert (cause.after, cause.code) == (ipc.GuardState.SAFE, "service-lost")
