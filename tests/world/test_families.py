"""Whole sessions on the stimulators that laboratories own, in virtual time."""

from __future__ import annotations

from itertools import pairwise

import pytest

from drivers.contract import DeviceState
from firmware_protocol.quantities import MS, SECOND
from sim_device.faults import Rule
from tests.families import BISTIM, DUOMAG, FAMILIES, M200, R30, RAPID, X100, Family
from tests.world.rig import Rig, compiled
from tmsctl.ipc import messages as ipc
from tmsctl.safety.machine import Idle

PACED_ERROR_US = 10 * MS
"""The units take 5 to 15 ms from the command to the pulse; the emulated ones always the same."""


def times(rig: Rig) -> list[int]:
    return [int(str(pulse["t_us"])) for pulse in rig.pulses]


def refusals(rig: Rig) -> list[tuple[str, str]]:
    return [(m.code, m.detail) for m in rig.service.told if isinstance(m, ipc.Refused)]


@pytest.mark.parametrize(
    ("family", "protocol"),
    [
        (M200, "sp02-6"),
        (BISTIM, "sp02-6"),
        (RAPID, "sp02-6"),
        (RAPID, "hf10-l10"),
        (R30, "hf10-s10"),
        (X100, "hf10-s10"),
        (X100, "itbs90"),
        (DUOMAG, "sp02-6"),
    ],
    ids=lambda it: it.info.name if isinstance(it, Family) else it,
)
def test_a_clean_session_delivers_exactly_its_plan(family: Family, protocol: str) -> None:
    plan = compiled(protocol)
    rig = Rig(family=family)
    rig.start(plan)
    rig.run_until(lambda: rig.complete, plan.span_us + 5 * SECOND)
    rig.run(2 * SECOND)

    assert refusals(rig) == []
    assert len(rig.pulses) == plan.pulses == rig.service.counted
    begin = times(rig)[0]
    errors = [abs(at - begin - plan.at_us(i)) for i, at in enumerate(times(rig))]
    assert max(errors) <= PACED_ERROR_US
    assert rig.service.codes() == ["run", "ready", "complete"]
    assert isinstance(rig.guard.state, Idle)
    assert rig.truth[-1]["event"] == "disarm"
    gaps = [b - a for a, b in pairwise(times(rig))]
    assert min(gaps) >= 20 * MS - 1


def befall(rig: Rig, kind: str) -> None:
    rig.firmware.faults.add_from_now(Rule(kind), rig.clock.device(rig.now))


def test_a_unit_that_fires_no_more_is_found_out_where_it_shows_that() -> None:
    rig = Rig(family=DUOMAG)
    rig.start(compiled("sp02-6"))
    rig.run_until(lambda: bool(rig.pulses), SECOND)
    befall(rig, "no_fire")
    rig.run_until(lambda: not rig.guard.device.may_be_armed, 40 * SECOND)
    assert rig.service.codes() == ["run", "ready", "missed-pulses"]
    assert len(rig.pulses) == 1
    assert rig.service.counted == 1 + 3  # the stream proves of none that it did not leave


@pytest.mark.parametrize("family", FAMILIES, ids=lambda it: it.info.name)
@pytest.mark.parametrize("before_us", [12 * MS, 0, -3 * MS, -12 * MS])
def test_a_pulse_behind_frames_that_go_round_counts(family: Family, before_us: int) -> None:
    """What they show may be old, and only tmslink's carry a number that says so."""
    rig = Rig(family=family)
    rig.start(compiled("sp02-6"))
    rig.run(SECOND)
    play = rig.guard.play
    assert play is not None
    rig.run_until(lambda: play.open is not None, 12 * SECOND)
    assert play.open is not None
    rig.run(play.open.start_at - before_us - rig.now)
    befall(rig, "revolving")
    rig.run(SECOND)
    rig.firmware.faults.clear("revolving")
    rig.run(SECOND)
    assert rig.service.counted >= len(rig.pulses) == 2


@pytest.mark.parametrize(
    ("family", "protocol"), [(M200, "sp02-6"), (RAPID, "hf10-s10"), (X100, "hf10-s10")]
)
def test_where_a_unit_shows_the_same_with_a_pulse_and_without_it_counts(
    family: Family, protocol: str
) -> None:
    rig = Rig(family=family)
    plan = compiled(protocol)
    rig.start(plan)
    befall(rig, "no_fire")
    rig.run_until(lambda: rig.complete, plan.span_us + 5 * SECOND)
    assert len(rig.pulses) == 1
    assert rig.guard.play is not None
    assert rig.service.counted + rig.guard.play.skipped == plan.pulses
    assert rig.service.counted > 1


def test_a_thermometer_that_stands_still_while_trains_leave_ends_the_session() -> None:
    rig = Rig(family=RAPID)
    rig.start(compiled("hf10-l10", 100))
    befall(rig, "sensor_stuck")
    rig.run_until(lambda: rig.is_safe, 90 * SECOND)
    assert rig.service.codes() == ["run", "ready", "coil-sensor"]
    train_j = sum(pulse["energy_j"] for pulse in rig.pulses[:10])
    assert sum(pulse["energy_j"] for pulse in rig.pulses) < 5_000 + 2 * train_j


def shows_idle(rig: Rig) -> bool:
    status = rig.guard.device.status
    return status is not None and status.state is DeviceState.IDLE


@pytest.mark.parametrize("family", FAMILIES, ids=lambda it: it.info.name)
def test_after_stop_and_acknowledgement_it_is_idle_and_can_be_armed_again(family: Family) -> None:
    """Also where a person takes longer than a unit bears silence."""
    rig = Rig(family=family)
    rig.start(compiled("sp02-6"))
    rig.stop()
    rig.run(10 * SECOND)
    assert rig.is_safe
    assert len(rig.pulses) == 1
    rig.acknowledge()
    rig.run_until(lambda: isinstance(rig.guard.state, Idle), SECOND)
    rig.run_until(lambda: shows_idle(rig), 2 * SECOND)
    rig.ask_to_run()
    rig.run_until(lambda: len(rig.pulses) == 2, 20 * SECOND)
