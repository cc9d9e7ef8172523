"""`tms-guard --safe-off` behind a guard that died, on each family, in virtual time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from firmware_protocol.quantities import MS, SECOND, BootUs
from tests.world.family_rig import CASES, Case, FamilyRig
from tmsctl.guard import entry


class Waits:
    """What waits for bytes; time passes in the rig meanwhile."""

    def __init__(self, rig: FamilyRig) -> None:
        self._rig = rig

    def register(self, *_: object) -> None: ...

    def poll(self, wait_ms: int) -> None:
        self._rig.alone(wait_ms * MS)


@pytest.mark.parametrize("heard", [True, False])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_it_disarms_what_the_dead_guard_left_armed_also_where_it_cannot_be_heard(
    case: Case, heard: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A defect once: a MagPro, which disarms by nothing else, was asked who it is, and no more."""
    rig = FamilyRig(case)
    rig.run_until(rig.armed, 10 * SECOND)
    rig.run(SECOND)
    rig.kill()
    rig.to_host.cut = not heard
    driver = case.family.driver(rig.port.open, entry.device_envelope(rig.limits))
    now: Callable[[], BootUs] = lambda: rig.now  # noqa: E731
    monkeypatch.setattr(entry.realtime, "now", now)
    monkeypatch.setattr(entry.select, "poll", lambda: Waits(rig))
    monkeypatch.setattr(entry, "_driver", lambda *_: driver)
    settings: Any = None
    assert entry._safe_off(settings) == 0
    rig.alone(100 * MS)
    assert not rig.armed()
