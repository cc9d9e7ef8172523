"""Whole sessions of every family, recorded as the guard does it, and played again."""

from __future__ import annotations

from typing import Any

import pytest

from drivers.contract import PulseSeen
from firmware_protocol import recording, traces
from firmware_protocol.quantities import SECOND
from firmware_protocol.recording import Record
from sim_device.faults import Rule
from tests.fakes.recorded import recorded, replayed
from tests.families import FAMILIES, Family
from tests.world.rig import SITE, Rig, compiled

NOISE = {
    "clean": (),
    "mute at first": (Rule("silent", at_us=0, for_us=4 * SECOND),),
    "damaged": tuple(
        Rule(kind, probability=0.02)
        for kind in ("bit_flip", "drop_frame", "drop_byte", "rx_bit_flip")
    ),
    "unplugged": (Rule("disconnect", 700, at_us=6 * SECOND),),
}  # fmt: skip


def told(rig: Rig, family: Family, records: list[Record]) -> Family:
    """The family with its driver recorded."""

    def driver(port: Any, site: Any) -> Any:
        return recorded(family.driver, records, lambda: rig.now, port, site)[0]

    return family._replace(driver=driver)


class RecordedRig(Rig):
    def __init__(self, family: Family, **options: Any) -> None:
        self.records: list[Record] = []
        super().__init__(family=told(self, family, self.records), **options)


@pytest.mark.parametrize("rules", NOISE.values(), ids=NOISE)
@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.info.name)
def test_a_session_is_played_again_byte_for_byte(family: Family, rules: tuple[Rule, ...]) -> None:
    rig = RecordedRig(family, rules=rules)
    plan = compiled("sp02-6")
    if rules:
        rig.run(5 * SECOND)
        rig.load(plan)
        rig.ask_to_run()
        rig.run(5 * SECOND)
    else:
        rig.start(plan)
        rig.run_until(lambda: rig.complete, plan.span_us + 5 * SECOND)
        assert len(rig.pulses) == plan.pulses

    again = replayed(rig.records, family.driver, SITE)
    assert again.differs == ""
    assert again.written == sum(len(r.data) for r in rig.records if r.mark == recording.TO_DEVICE)
    assert again.written > 0
    if not rules:
        seen = [event for _, event in again.events if isinstance(event, PulseSeen)]
        assert len(seen) == plan.pulses
        name = traces.family_of(family.info.name)
        assert name is not None
        lines = list(traces.trace(name, {}, rig.records))
        damaged = [line for line in lines if line.damage]
        # What the self-test spoils and what is answered to it; records of unknown length.
        assert len(damaged) <= 2
        spoilt_by = recording.TO_DEVICE if family.info.checks_frames else recording.FROM_DEVICE
        assert {line.mark for line in damaged[:1]} <= {spoilt_by}
