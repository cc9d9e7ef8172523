"""The guard, one cycle at a time: STOP, beat, latch and acknowledgement.

The device is a fake that only keeps what it was told. What tmsd asks for is in
`test_guard_step_commands`, the way to a pulse in `test_guard_step_plan`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from drivers.contract import (
    DeviceState,
    LinkDown,
    LinkError,
    LinkUp,
    StopClass,
)
from firmware_protocol.quantities import MS, BootUs
from tests.fakes.stimulator import (
    ENVELOPE,
    IDENTITY,
    SESSION,
    Bench,
    Call,
    codes,
)
from tmsctl.guard.core import PERIOD_US, REST_PERIOD_US, Inputs
from tmsctl.ipc import messages as ipc
from tmsctl.safety.limits import GENERAL
from tmsctl.safety.machine import Idle, Safe
from tmsctl.safety.rules import Action, Trip

OTHER = SESSION + 1


# -- the cycle itself --------------------------------------------------------------------------


def test_a_cycle_listens_first_and_beats_last() -> None:
    bench = Bench().loaded()
    bench.cycle(bench.run())
    assert [call.name for call in bench.calls] == ["poll", "arm", "beat"]
    assert {call.at for call in bench.calls} == {bench.now}


def test_stop_is_the_first_thing_that_a_cycle_does() -> None:
    bench = Bench().armed()
    told = bench.cycle(stopped_by="pedal")
    assert [call.name for call in bench.calls][:2] == ["stop", "poll"]
    assert codes(told) == ["stop"]
    assert bench.guard.state == Safe((Trip("stop", Action.SAFE, "STOP by pedal"),))


def test_who_pressed_stop_first_is_kept() -> None:
    bench = Bench().connected()
    bench.cycle(stopped_by="pedal")
    bench.cycle(stopped_by="screen")
    assert bench.guard.stopped_by == "pedal"


def test_the_first_cycle_is_number_one_to_tmsd_and_to_the_device() -> None:
    assert PERIOD_US == 10 * MS
    bench = Bench()
    bench.cycle()
    assert bench.snapshot is not None
    assert bench.snapshot.cycle == 1
    assert bench.beat == (1, 0)


def test_inputs_that_say_nothing_mean_that_tmsd_is_gone() -> None:
    bench = Bench().armed()
    bench.driver.events.append(bench.shows)  # type: ignore[arg-type]
    assert "service-lost" in codes(bench.guard.cycle(Inputs(), BootUs(bench.now + 10 * MS)))
    assert isinstance(bench.guard.state, Safe)


@pytest.mark.parametrize("loaded", [False, True])
def test_a_tmsd_that_leaves_a_disarmed_guard_changes_nothing(loaded: bool) -> None:
    bench = Bench().loaded() if loaded else Bench().connected()
    assert bench.cycle(connected=False) == []
    assert isinstance(bench.guard.state, Idle)
    assert bench.did == []


def test_a_guard_that_ends_stops_the_device() -> None:
    bench = Bench().connected()
    bench.driver.calls.clear()
    bench.guard.make_safe(bench.now)
    assert bench.driver.calls == [Call("stop", bench.now)]


def test_a_guard_after_a_crash_begins_in_safe_with_the_worst_action_and_the_reason() -> None:
    bench = Bench(latched="it crashed")
    assert bench.guard.state == Safe((Trip("unclean-start", Action.SAFE, "it crashed"),))
    assert Bench().guard.state == Idle()


# -- the beat ----------------------------------------------------------------------------------


def beats(bench: Bench, cycles: int = 6) -> list[int]:
    """Numbers of the cycles with a beat."""
    found = []
    for _ in range(cycles):
        bench.cycle()
        if bench.beat is not None:
            assert bench.beat[0] == bench.guard.cycles
            found.append(bench.beat[0])
    return found


def test_a_disarmed_device_gets_a_beat_every_20_ms_and_no_permit() -> None:
    bench = Bench()
    assert beats(bench, 3) == [1, 2, 3]
    bench.connected()  # cycle 4
    assert beats(bench, 3) == [5, 6, 7]
    assert bench.beat == (7, 0)
    assert bench.guard.period_us == REST_PERIOD_US == 20 * MS


def test_the_guard_goes_at_its_full_pace_from_the_arming_until_the_device_shows_its_end() -> None:
    assert Bench().connected().guard.period_us == 20 * MS
    assert Bench().arming().guard.period_us == 10 * MS
    bench = Bench().armed()
    assert bench.guard.period_us == 10 * MS
    bench.cycle(stopped_by="test")
    assert isinstance(bench.guard.state, Safe)
    assert bench.guard.period_us == 10 * MS
    bench.show(state=DeviceState.LATCHED, cause="STOP")
    bench.cycle()
    assert bench.guard.period_us == 20 * MS


def test_what_a_device_says_is_taken_at_once_unless_it_is_connected_and_disarmed() -> None:
    assert Bench().guard.listens
    assert not Bench().connected().guard.listens
    assert Bench().arming().guard.listens
    assert Bench().armed().guard.listens
    bench = Bench().connected()
    bench.cycle(events=[LinkDown("the port is gone")])
    assert bench.guard.listens


@pytest.mark.parametrize("state", [DeviceState.ARMING, DeviceState.READY, DeviceState.FIRING])
def test_a_device_that_somebody_else_armed_is_watched_at_the_full_pace(state: DeviceState) -> None:
    bench = Bench().connected()
    bench.show(state=state)
    bench.cycle()
    assert bench.guard.period_us == 10 * MS
    assert bench.guard.listens


def test_a_self_test_goes_at_the_full_pace() -> None:
    bench = Bench().connected()
    bench.cycle(ipc.SelfTest())
    assert bench.guard.period_us == 10 * MS
    bench.cycle(connected=False)  # it fails
    bench.show(state=DeviceState.LATCHED, cause="STOP")
    bench.cycle()
    assert bench.guard.period_us == 20 * MS


def test_a_device_that_latched_by_a_fault_gets_no_beat() -> None:
    bench = Bench().connected()
    bench.show(state=DeviceState.LATCHED, fault="coil too hot")
    assert beats(bench) == []
    assert isinstance(bench.guard.state, Safe)
    assert bench.did == []  # it shows that it is disarmed: nothing is to be stopped


@pytest.mark.parametrize("stop_class", [StopClass.KEEP_ALIVE, StopClass.NONE])
def test_one_that_speaks_only_when_asked_is_asked_while_it_is_latched_too(
    stop_class: StopClass,
) -> None:
    """Else nobody would ever see that its latch was released."""
    bench = Bench().connected()
    bench.driver.info = replace(bench.driver.info, stop_class=stop_class)
    bench.show(state=DeviceState.LATCHED, fault="coil too hot")
    assert len(beats(bench)) == 6


def test_from_the_arming_on_every_cycle_beats_and_permits_pulses_only_when_armed() -> None:
    bench = Bench().arming()
    assert bench.beat == (3, 0)
    assert beats(bench, 4) == [4, 5, 6, 7]  # the device still shows that it is idle
    assert bench.beat == (7, 0)
    bench.become_ready()
    assert bench.beat == (8, bench.now + 50 * MS)
    assert beats(bench, 4) == [9, 10, 11, 12]
    assert bench.beat == (12, bench.now + 50 * MS)


def test_an_energised_device_is_stopped_and_gets_every_beat_until_it_shows_that_it_is_not() -> None:
    bench = Bench().armed()
    bench.cycle(stopped_by="test")
    for _ in range(4):
        bench.cycle()
        assert bench.did == ["stop"]
        assert bench.beat == (bench.guard.cycles, 0)
    bench.show(state=DeviceState.LATCHED, cause="STOP")
    bench.cycle()
    assert bench.did == []
    assert bench.beat is None


def test_a_self_test_beats_in_every_cycle_of_the_disarmed_device() -> None:
    bench = Bench().connected()
    bench.cycle(ipc.SelfTest())
    assert bench.guard.self_test.running
    assert bench.did == ["probe"]
    assert beats(bench, 6) == [3, 4, 5, 6, 7, 8]
    assert bench.beat == (8, 0)


@pytest.mark.parametrize(
    "disturbance", [{"stopped_by": "pedal"}, {"connected": False}], ids=["STOP", "no tmsd"]
)
def test_a_disturbed_self_test_stops_the_device_and_has_failed(
    disturbance: dict[str, Any],
) -> None:
    bench = Bench().connected()
    bench.cycle(ipc.SelfTest())
    told = bench.cycle(**disturbance)
    assert [item.detail for item in told if isinstance(item, ipc.SelfTested)] == [
        "something else happened"
    ]
    assert bench.did[-1] == "stop"
    assert not bench.guard.self_test.running
    assert bench.guard.self_test.passed_at is None


@pytest.mark.parametrize(("stops_that_come_late", "passes"), [(0, True), (1, True), (9, False)])
def test_a_self_test_releases_a_device_that_a_late_stop_latches_once_more(
    stops_that_come_late: int, passes: bool
) -> None:
    bench, late = Bench().connected(), stops_that_come_late
    told = bench.cycle(ipc.SelfTest())
    while bench.guard.self_test.running:
        armed = bench.shows is not None and bench.shows.state is DeviceState.READY
        if "arm" in bench.did:
            bench.show(state=DeviceState.READY)
        elif "stop" in bench.did or (armed and bench.beat is None):  # its dead-man
            bench.show(state=DeviceState.LATCHED)
        elif "acknowledge" in bench.did and late:
            late -= 1
        elif "acknowledge" in bench.did:
            bench.show(state=DeviceState.IDLE)
        told = bench.cycle()
    (ended,) = [item for item in told if isinstance(item, ipc.SelfTested)]
    assert (bench.guard.self_test.passed_at is not None) == passes, ended.detail
    assert ("does not come back" in ended.detail) != passes


def test_an_unload_with_nothing_loaded_disturbs_no_self_test() -> None:
    bench = Bench().connected()
    assert bench.cycle(ipc.Unload(), ipc.SelfTest()) == []
    assert bench.cycle(ipc.Unload()) == []
    assert bench.did == []
    assert bench.guard.self_test.running


@pytest.mark.parametrize("loaded", [False, True])
def test_a_self_test_needs_a_guard_without_a_plan(loaded: bool) -> None:
    bench = Bench().loaded() if loaded else Bench().connected()
    assert codes(bench.cycle(ipc.SelfTest())) == (["wrong-state"] if loaded else [])
    assert bench.guard.self_test.running is not loaded


# -- disarmed, and the device says otherwise -----------------------------------------------------


@pytest.mark.parametrize("state", [DeviceState.ARMING, DeviceState.READY, DeviceState.FIRING])
def test_a_device_that_is_armed_while_the_guard_is_not_is_disarmed(state: DeviceState) -> None:
    bench = Bench().connected()
    bench.show(state=state)
    bench.cycle()
    assert bench.did == ["disarm"]
    assert bench.beat is not None  # energised: every cycle


@pytest.mark.parametrize(
    ("changes", "does"),
    [
        ({}, []),
        ({"state": DeviceState.LATCHED, "cause": "dead-man"}, ["acknowledge"]),
        ({"coil_type": 2}, ["acknowledge"]),
        ({"state": DeviceState.LATCHED, "cause": "dead-man", "coil_type": 2}, ["acknowledge"]),
        ({"state": DeviceState.LATCHED, "fault": "coil too hot"}, ["stop"]),
    ],
)
def test_only_a_latch_of_our_own_and_another_coil_renew_the_connection(
    changes: dict[str, object], does: list[str]
) -> None:
    bench = Bench().connected()
    bench.show(**changes)
    bench.cycle()
    assert bench.did == does


# -- acknowledgement -----------------------------------------------------------------------------


def test_an_acknowledgement_leaves_both_latches_and_forgets_who_stopped() -> None:
    bench = Bench().armed().stopped()
    assert codes(bench.cycle(bench.seen())) == ["acknowledged"]
    assert bench.did == ["acknowledge"]
    assert isinstance(bench.guard.state, Idle)
    assert bench.guard.stopped_by is None
    bench.show(state=DeviceState.IDLE)
    assert bench.cycle() == []
    assert bench.did == []  # asked once, done once


def test_an_acknowledgement_of_what_was_seen_before_the_newest_stop_is_refused() -> None:
    bench = Bench().armed().stopped()
    seen = bench.seen()
    assert codes(bench.cycle(seen, stopped_by="pedal")) == ["newer-cause"]
    assert isinstance(bench.guard.state, Safe)
    again = bench.guard.cycles  # the first one whose snapshot shows it
    assert codes(bench.cycle(ipc.Acknowledge(again - 1))) == ["newer-cause"]
    assert bench.did == []
    assert codes(bench.cycle(ipc.Acknowledge(again))) == ["acknowledged"]
    assert isinstance(bench.guard.state, Idle)


def test_an_acknowledgement_of_what_was_seen_before_the_newest_cause_is_refused() -> None:
    bench = Bench().armed().stopped()
    seen = bench.seen()
    assert codes(bench.cycle(ipc.Fail("journal-failed", "disk full"))) == ["stop", "journal-failed"]
    bench.cycle(connected=False)  # another tmsd, with a good disk
    assert codes(bench.cycle(seen)) == ["newer-cause"]
    assert codes(bench.cycle(bench.seen())) == ["acknowledged"]


def test_an_acknowledgement_of_nothing_is_refused() -> None:
    bench = Bench().connected()
    assert codes(bench.cycle(bench.seen())) == ["wrong-state"]
    assert bench.did == []


def test_what_is_still_so_keeps_the_latch() -> None:
    bench = Bench().armed()
    bench.cycle(ipc.Fail("journal-failed", "disk full"))
    bench.show(state=DeviceState.LATCHED)
    assert codes(bench.cycle(bench.seen())) == ["journal-failed"]
    assert bench.did == []
    bench.cycle(connected=False)  # another tmsd
    assert codes(bench.cycle(bench.seen())) == ["acknowledged"]


def test_a_fault_that_the_device_reports_is_acknowledged_with_the_device() -> None:
    bench = Bench().connected()
    bench.show(state=DeviceState.LATCHED, fault="coil too hot")
    assert codes(bench.cycle()) == ["device-fault"]
    assert codes(bench.cycle(bench.seen())) == ["acknowledged"]
    assert bench.did == ["acknowledge"]


def test_errors_of_the_link_are_acknowledged_however_few_are_allowed() -> None:
    strict = replace(GENERAL, link_errors_max=0)
    bench = Bench(limits=strict).armed()
    assert codes(bench.cycle(events=[LinkError("checksum: 1")])) == ["link-errors", "link-doubt"]
    bench.show(state=DeviceState.LATCHED)
    bench.cycle()
    assert codes(bench.cycle(bench.seen())) == ["acknowledged"]
    bench.show(state=DeviceState.IDLE)
    assert bench.cycle() == []
    assert isinstance(bench.guard.state, Idle)


def test_pulses_of_a_stranger_are_acknowledged_and_the_next_one_is_not() -> None:
    bench = Bench().connected()
    for count in (42, 43):
        bench.cycle(events=[LinkDown("unplugged")])
        bench.show(pulse_count=count)
        assert codes(bench.cycle(events=[LinkUp(IDENTITY, ENVELOPE)])) == ["stranger-pulse"]
        assert codes(bench.cycle(bench.seen())) == ["acknowledged"]
        assert bench.cycle() == []
        assert isinstance(bench.guard.state, Idle)
