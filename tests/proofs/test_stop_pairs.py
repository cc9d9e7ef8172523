"""A-05: STOP in every state, together with everything else that can reach the guard in that cycle.

Production guard and driver, the emulator's firmware, virtual time. Four states, nine companions.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.world.rig import Rig, compiled
from tmsctl.ipc import messages as ipc
from tmsctl.safety.machine import Armed, Arming, Idle, Safe

SECOND = 1_000_000
PLAN = compiled("itbs600")


def load(rig: Rig) -> None:
    rig.self_test()
    rig.load(PLAN)
    rig.cycle()


def idle(rig: Rig) -> None:
    load(rig)
    rig.cycle()
    assert isinstance(rig.guard.state, Idle)


def arming(rig: Rig) -> None:
    load(rig)
    rig.ask_to_run()
    rig.run_until(lambda: isinstance(rig.guard.state, Arming), SECOND)


def armed(rig: Rig) -> None:
    load(rig)
    rig.ask_to_run()
    rig.run_until(lambda: len(rig.pulses) > 4, 40 * SECOND)
    assert isinstance(rig.guard.state, Armed)


def safe(rig: Rig) -> None:
    armed(rig)
    rig.stop("before")
    assert isinstance(rig.guard.state, Safe)


STATES: tuple[Callable[[Rig], None], ...] = (safe, idle, arming, armed)
COMPANIONS: dict[str, Callable[[Rig], None]] = {
    "nothing": lambda rig: None,
    "another STOP": lambda rig: setattr(rig, "stop_pressed_by", "first"),
    "a run": lambda rig: rig.ask_to_run(),
    "a pause": lambda rig: rig.service.say(ipc.Pause(1)),
    "a load": lambda rig: rig.load(PLAN),
    "an unload": lambda rig: rig.service.say(ipc.Unload()),
    "an acknowledgement": Rig.acknowledge,
    "a self-test": lambda rig: rig.service.say(ipc.SelfTest()),
    "the loss of tmsd": lambda rig: setattr(rig.service, "connected", False),
}


@pytest.mark.parametrize("state", STATES, ids=lambda f: f.__name__)
@pytest.mark.parametrize("companion", COMPANIONS)
def test_stop_ends_in_safe_with_anything_beside_it(
    state: Callable[[Rig], None], companion: str
) -> None:
    rig = Rig()
    state(rig)
    COMPANIONS[companion](rig)
    rig.stop("pedal")
    stopped_at = rig.now
    assert rig.is_safe, rig.guard.state
    before = len(rig.pulses)
    rig.run(2 * SECOND)
    assert rig.is_safe, rig.guard.state
    assert all(rig.clock.host(int(str(p["t_us"]))) <= stopped_at + 20_000 for p in rig.pulses)
    assert len(rig.pulses) - before <= 1
    assert not rig.guard.energised


def test_there_are_thirty_six_pairs() -> None:
    assert len(STATES) * len(COMPANIONS) == 36
