"""What the driver of a Rapid² says of a train is never less than what left the coil."""

from __future__ import annotations

import random
from typing import Any

import pytest

from drivers.contract import (
    SINGLE,
    BlockEnded,
    DeviceState,
    DeviceStatus,
    DriverEvent,
    Envelope,
    Permit,
    PulseBlock,
)
from firmware_protocol.quantities import MS, SECOND, BootUs, PercentMso
from sim_device.device import DeviceClock
from sim_device.magstim_settings import RapidSettings
from sim_device.world import VirtualPort, Wire
from tests.families import RAPID
from tmsctl.safety.dose import PulseTimes
from tmsctl.safety.facts import Request
from tmsctl.safety.machine import Armed
from tmsctl.safety.permit import mint
from tmsctl.safety.rules import PERMIT

MSO = PercentMso(30)
START = BootUs(1_000 * SECOND)
STEP_US = 500
CYCLE_US = 10 * MS


class Host:
    """The driver on its unit, with a beat every 10 ms and no guard between."""

    def __init__(self, fire_us: int) -> None:
        self.now, self.pulses = START, 0
        self.heard: list[DriverEvent] = []
        rng = random.Random(1)
        device = RAPID.device(RapidSettings(fire_us=fire_us), rng, self._log, ())
        wires = [Wire(rng, 300, RAPID.per_byte_us) for _ in range(2)]
        clock = DeviceClock(START, 1_000_000)
        self.port = VirtualPort(device, wires[0], wires[1], clock, START)
        site = Envelope(100, 10_000, 1_000, 60_000_000, 410, (), 0)
        self.driver = RAPID.driver(self.port.open, site)

    def _log(self, line: dict[str, Any]) -> None:
        self.pulses += line["event"] == "pulse"

    def run(self, duration_us: int, *, beats: bool = True) -> None:
        for _ in range(duration_us // STEP_US):
            self.port.advance(self.now + STEP_US)
            self.now = BootUs(self.now + STEP_US)
            if beats or (self.driver.wake_at or self.now) > self.now:
                self.heard += self.driver.poll(self.now)
            if beats and (self.now - START) % CYCLE_US == 0:
                self.driver.beat(1, self.now, BootUs(self.now + 50 * MS))

    def until_ready(self) -> None:
        for _ in range(500):
            self.run(CYCLE_US)
            last = [event for event in self.heard if isinstance(event, DeviceStatus)][-1:]
            if last and last[0].state is DeviceState.READY:
                return
        raise AssertionError(self.heard[-3:])

    def fire(self, pulses: int, in_us: int) -> None:
        """A train at 10 Hz."""
        block = PulseBlock(1, MSO, pulses, 100 * MS, pulses_per_burst=1, interval_us=0)
        start = BootUs(self.now + in_us)
        request = Request(
            block, start, MSO, mt_permille=500, plan_pulses_left=0, session_pulses=0,
            sent=PulseTimes(1), granted_pulses=0, day_pulses=0, week_pulses=0,
            all_sent_since=BootUs(0), settled_at=BootUs(0), recharge_us=0, rest_us=0,
        )  # fmt: skip
        permit = mint(Armed(MSO, self.now), PERMIT, request, self.now)
        assert isinstance(permit, Permit)
        self.driver.fire(permit, self.now)

    def ended(self) -> list[int]:
        return [event.delivered for event in self.heard if isinstance(event, BlockEnded)]


def armed(fire_us: int) -> Host:
    host = Host(fire_us)
    host.run(SECOND)
    host.driver.arm(MSO, SINGLE, host.now)
    host.until_ready()
    return host


@pytest.mark.parametrize("fire_us", [0, 3 * MS, 15 * MS])
def test_whenever_a_train_begins_and_whenever_it_is_looked_at_each_pulse_counts(
    fire_us: int,
) -> None:
    """A unit that fires sooner than presumed also ends sooner."""
    host = armed(fire_us)
    for step in range(24):
        host.fire(7, 400 * MS + step * 9_500)
        host.run(1_500 * MS)
        host.until_ready()
    assert host.ended() == [7] * 24
    assert host.pulses == 7 * 24


def test_a_train_that_nobody_looked_at_until_it_was_over_counts() -> None:
    """The host was away, and the unit is ready again before it can be asked."""
    host = armed(6 * MS)
    host.fire(3, 400 * MS)
    while host.pulses == 0:
        host.run(STEP_US)
    host.run(850 * MS, beats=False)
    host.run(SECOND)
    assert (host.pulses, host.ended()) == (3, [3])
