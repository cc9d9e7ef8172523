"""A whole session in virtual time: every pulse where the plan puts it, and nothing else."""

from __future__ import annotations

from itertools import pairwise

import pytest

from firmware_protocol.quantities import MS, SECOND, BootUs
from sim_device.settings import Settings
from tests.world.rig import Rig, compiled
from tmsctl.ipc import messages as ipc
from tmsctl.safety.machine import Armed, Idle

TIMING_ERROR_MAX_US = 100  # T-01, class N


def times(rig: Rig) -> list[int]:
    return [int(str(pulse["t_us"])) for pulse in rig.pulses]


@pytest.mark.parametrize(
    ("protocol", "from_pulse"),
    [("ctbs600", 0), ("itbs600", 0), ("hf10-19", 2_800), ("hf10-37", 2_700), ("lf1-900", 750),
     ("snt1800", 0)],
)  # fmt: skip
def test_a_clean_session_delivers_exactly_its_plan(protocol: str, from_pulse: int) -> None:
    plan = compiled(protocol)
    rig = Rig(settings=Settings(cooled=1))
    rig.start(plan, from_pulse)
    rig.run_until(lambda: rig.complete, plan.span_us + 2 * SECOND)
    rig.run(1 * SECOND)

    assert len(rig.pulses) == plan.pulses - from_pulse == rig.service.counted
    begin = times(rig)[0] - plan.at_us(from_pulse)
    errors = [abs(at - begin - plan.at_us(from_pulse + i)) for i, at in enumerate(times(rig))]
    assert max(errors) <= TIMING_ERROR_MAX_US
    assert {round(float(str(p["mso"]))) for p in rig.pulses} == {plan.mso.value}
    assert rig.service.codes() == ["run", "ready", "complete"]
    assert isinstance(rig.guard.state, Idle)
    assert rig.truth[-1]["event"] == "disarm"
    assert not [m for m in rig.service.told if isinstance(m, ipc.Refused)]


def test_the_device_clock_may_drift_by_500_ppm() -> None:
    plan = compiled("itbs600")
    rig = Rig(settings=Settings(drift_ppm=500))
    rig.start(plan, first_pulse=300)
    rig.run_until(lambda: rig.complete, plan.span_us + 2 * SECOND)
    assert len(rig.pulses) == plan.pulses - 300
    gaps = [b - a for a, b in pairwise(times(rig))]
    assert min(gaps) >= 20 * MS - 1


@pytest.mark.parametrize(
    ("protocol", "seed"),
    [*(("ctbs600", seed) for seed in range(3)), ("itbs600", 6), ("itbs600", 7)],
)
def test_pause_is_immediate_and_resume_continues_at_the_exact_next_pulse(
    protocol: str, seed: int
) -> None:
    plan = compiled(protocol)
    rig = Rig(seed)
    rig.start(plan)
    for _ in range(3):
        rig.run(rig.rng.randrange(10 * MS, 12 * SECOND))
        paused_at = rig.now
        rig.service.say(ipc.Pause(1))
        rig.cycle()
        rig.run(300 * MS)
        assert isinstance(rig.guard.state, Idle)
        assert rig.last_pulse_at() <= paused_at + 20 * MS
        rig.run(rig.rng.randrange(0, 8 * SECOND))
        rig.ask_to_run()
        rig.run_until(lambda: rig.guard.energised, 1 * SECOND)
    rig.run_until(lambda: rig.complete, plan.span_us + 60 * SECOND)

    assert len(rig.pulses) == plan.pulses == rig.service.counted
    gaps = [b - a for a, b in pairwise(times(rig))]
    planned = [plan.at_us(i + 1) - plan.at_us(i) for i in range(plan.pulses - 1)]
    early = [(i, g, p) for i, (g, p) in enumerate(zip(gaps, planned, strict=True)) if g < p - 300]
    assert not early  # no interval is ever shorter than planned
    places = [m.place for m in rig.service.told if isinstance(m, ipc.PulseRecord)]
    assert places == list(range(plan.pulses))  # none twice, none left out


def test_a_guard_that_died_goes_on_where_the_journal_says() -> None:
    plan = compiled("itbs600")
    rig = Rig()
    rig.start(plan, first_pulse=137)
    rig.run_until(lambda: rig.complete, plan.span_us + 2 * SECOND)
    assert len(rig.pulses) == plan.pulses - 137


def test_a_slow_grant_postpones_a_train_and_shortens_no_interval() -> None:
    plan = compiled("itbs600")
    rig = Rig()
    rig.service.grant_us = 9 * SECOND  # later than the gap between trains allows
    rig.self_test()
    rig.load(plan)
    rig.ask_to_run()
    rig.run_until(lambda: len(rig.pulses) >= 90, 60 * SECOND)
    onsets = times(rig)[::30]
    assert all(b - a >= 10 * SECOND for a, b in pairwise(onsets))


def test_a_late_block_inside_a_train_is_skipped_not_bunched() -> None:
    plan = compiled("lf1-900")
    rig = Rig()
    rig.start(plan)
    rig.run(20 * SECOND)
    rig.service.grant_us = 47 * SECOND  # asked early in the block before, still too late
    rig.run_until(lambda: len(rig.pulses) >= 100, 200 * SECOND)
    assert rig.guard.play is not None
    assert rig.guard.play.skipped > 0
    first = times(rig)[0]
    assert all((at - first) % SECOND < 300 or (at - first) % SECOND > SECOND - 300
               for at in times(rig))  # fmt: skip
    gaps = [b - a for a, b in pairwise(times(rig))]
    assert min(gaps) >= SECOND - 300


def test_a_beat_permits_pulses_only_while_armed_and_for_50_ms_at_most() -> None:
    rig = Rig()
    beat, permits = rig.driver.beat, []

    def watched(cycle: int, now: BootUs, permit_until: BootUs) -> None:
        permits.append((permit_until - now if permit_until else 0, type(rig.guard.state)))
        beat(cycle, now, permit_until)

    rig.driver.beat = watched  # type: ignore[method-assign]
    rig.run(1 * SECOND)
    rig.start(compiled("ctbs600"))
    rig.run(1 * SECOND)
    rig.stop()
    rig.run(1 * SECOND)
    assert {permit for permit, state in permits if state is Armed} == {50 * MS}
    assert {permit for permit, state in permits if state is not Armed} == {0}


def test_an_acknowledgement_that_crosses_a_new_cause_is_refused() -> None:
    rig = Rig()
    rig.start(compiled("ctbs600"))
    rig.stop()
    rig.run(300 * MS)
    rig.acknowledge()
    ((_, on_its_way),) = rig.service._queue
    rig.service._queue.clear()
    rig.stop("pedal")  # somebody presses STOP again
    rig.service.say(on_its_way)
    rig.run(100 * MS)
    assert rig.is_safe
    refusals = [m.code for m in rig.service.told if isinstance(m, ipc.Refused)]
    assert refusals == ["newer-cause"]
    rig.acknowledge()  # having seen that one, too
    rig.run(100 * MS)
    assert isinstance(rig.guard.state, Idle)


def test_a_session_can_go_on_as_soon_as_the_guard_shows_the_device_again() -> None:
    rig = Rig()
    rig.start(compiled("ctbs600"))
    rig.stop()
    rig.run(300 * MS)
    rig.acknowledge()
    rig.run_until(
        lambda: (
            rig.service.snapshot is not None
            and rig.service.snapshot.state == ipc.GuardState.IDLE
            and bool(rig.service.snapshot.connected)
        ),
        2 * SECOND,
    )
    rig.ask_to_run()
    rig.run(50 * MS)
    assert not [m for m in rig.service.told if isinstance(m, ipc.Refused)]
