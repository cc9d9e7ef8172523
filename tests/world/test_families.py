"""Whole sessions on the stimulators that laboratories own, in virtual time."""

from __future__ import annotations

from itertools import pairwise

import pytest

from firmware_protocol.quantities import MS, SECOND
from tests.families import BISTIM, DUOMAG, M200, R30, RAPID, X100, Family
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
        (RAPID, "hf10-s10"),
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
