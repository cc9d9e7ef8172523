"""A driver, a line and an emulated device in virtual time, without a guard between.

`DRIVERS` holds one row a driver; every demand of test_driver_conformance.py is made to each row.
Each driver is recorded, and when a test has passed the recording is played through a new one: it
must write every byte again.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest

from drivers.contract import (
    SINGLE,
    CommandEnded,
    DeviceState,
    DeviceStatus,
    DriverInfo,
    Envelope,
    LinkUp,
    Outcome,
    Permit,
    PulseBlock,
    Stimulator,
    Ticket,
    Transport,
)
from drivers.tmslink.driver import INFO as TMSLINK
from drivers.tmslink.driver import TmslinkStimulator
from drivers.transport.replay import Replayed
from firmware_protocol.quantities import MS, SECOND, BootUs, PercentMso
from firmware_protocol.recording import Record
from sim_device.device import Device, DeviceClock, Log
from sim_device.settings import Settings
from sim_device.tmslink_firmware import Firmware
from sim_device.world import VirtualPort, Wire
from tests.fakes.recorded import recorded, replayed
from tmsctl.safety.dose import PulseTimes
from tmsctl.safety.facts import Request
from tmsctl.safety.machine import Armed
from tmsctl.safety.permit import mint
from tmsctl.safety.rules import PERMIT

START = BootUs(1_000 * SECOND)
CYCLE_US = 10 * MS
PER_BYTE_US = 11  # 921600 baud
SITE = Envelope(60, 10_000, 1_000, 60_000_000, 410, (), 0)
MSO = PercentMso(5)


class Row(NamedTuple):
    """One driver, and the emulated device that it is tried on. All devices share `Settings`."""

    info: DriverInfo
    driver: Callable[[Callable[[], Transport], Envelope], Stimulator]
    device: Callable[[Settings, random.Random, Log], Device]
    clock_error_us: Callable[[Any], int]  # of the driver's own estimate
    reply_within_us: int


DRIVERS = (
    Row(TMSLINK, TmslinkStimulator, Firmware, lambda driver: driver._clock.error_us, 40 * MS),
)


class Port(VirtualPort):
    """A port that can be full: then it takes no byte."""

    full = False
    refused = 0  # writes

    def write(self, data: bytes) -> bool:
        self.refused += self.full
        return not self.full and super().write(data)


class Bench:
    """One host program that beats every 10 ms and notes all that its driver says."""

    def __init__(self, row: Row, seed: int, settings: Settings) -> None:
        self.row, self.rng, self.now = row, random.Random(seed), START
        self.truth: list[dict[str, Any]] = []
        self.device = row.device(settings, self.rng, self.truth.append)
        self.to_device = Wire(self.rng, 300, PER_BYTE_US)
        self.to_host = Wire(self.rng, 300, PER_BYTE_US)
        self.clock = DeviceClock(START, settings.clock_us, settings.drift_ppm)
        self.port = Port(self.device, self.to_device, self.to_host, self.clock, START)
        self.heard: list[tuple[BootUs, Any]] = []  # when, event
        self.permit_for_us = 50 * MS  # from each beat
        self.next_beat = START
        self.beaten_at = START
        self.lives: list[list[Record]] = []  # the recording of each driver
        self.restart()

    def restart(self) -> None:
        """A new host program on the same port."""
        records: list[Record] = []
        self.lives.append(records)
        self.driver: Stimulator
        self.driver, self.bare = recorded(
            self.row.driver, records, lambda: self.now, self.port.open, SITE
        )
        self.cycle = 0

    def replayed(self) -> list[Replayed]:
        """Every life of the host again, from its recording alone."""
        used = [records for records in self.lives if records]
        return [replayed(records, self.row.driver, SITE) for records in used]

    # -- time --------------------------------------------------------------------------------

    def silence(self, duration_us: int) -> None:
        """The host listens, but does not beat."""
        end = self.now + duration_us
        while (at := self.driver.wake_at) is not None and at <= end:
            self.port.advance(max(at, self.port.now_us), self._listen)
            self._listen(max(at, self.now))
        self.port.advance(end, self._listen)
        self._listen(end)

    def _listen(self, at: int) -> None:
        self.now = BootUs(at)
        self.heard += [(self.now, event) for event in self.driver.poll(self.now)]

    def beat(self) -> None:
        self.cycle += 1
        self.beaten_at = self.now
        self.driver.beat(self.cycle, self.now, BootUs(self.now + self.permit_for_us))

    def wait(self, duration_us: int) -> None:
        """Time passes with a beat every 10 ms."""
        end = self.now + duration_us
        self.next_beat = max(self.next_beat, self.now)
        while self.next_beat <= end:
            self.silence(self.next_beat - self.now)
            self.beat()
            self.next_beat = BootUs(self.next_beat + CYCLE_US)
        self.silence(end - self.now)

    def until(self, condition: Callable[[], bool], within_us: int = 2 * SECOND) -> None:
        end = self.now + within_us
        while not condition():
            assert self.now < end, f"not within {within_us} us: {self.heard[-5:]}"
            self.wait(CYCLE_US)

    # -- what a host does --------------------------------------------------------------------

    def connected(self) -> Bench:
        before = len(self.all(LinkUp))
        self.until(lambda: len(self.all(LinkUp)) > before and self.state is not None)
        return self

    def arm(self, mso: PercentMso = MSO) -> Ticket:
        return self.driver.arm(mso, SINGLE, self.now)

    def armed(self, mso: PercentMso = MSO) -> Bench:
        self.connected().arm(mso)
        self.until(lambda: self.state is DeviceState.READY)
        return self

    def permit(self, block: PulseBlock, start_at: int | None = None) -> Permit:
        """For now, and for the earliest moment that the driver can keep."""
        start = BootUs(self.now + self.row.info.lead_us if start_at is None else start_at)
        request = Request(
            block,
            start,
            block.mso,
            mt_permille=500,
            plan_pulses_left=0,
            session_pulses=0,
            sent=PulseTimes(1),
            granted_pulses=0,
            day_pulses=0,
            week_pulses=0,
            all_sent_since=BootUs(0),
            settled_at=BootUs(0),
            recharge_us=0,
            rest_us=0,
        )
        permit = mint(Armed(block.mso, self.now), PERMIT, request, self.now)
        assert isinstance(permit, Permit)
        return permit

    def work(self, block: PulseBlock, duration_us: int) -> None:
        """Connect, arm and fire, each as soon as it can be done; ends in the middle of it."""
        asked = fired = False
        end = self.now + duration_us
        while self.now < end:
            self.wait(min(CYCLE_US, end - self.now))
            if self.state is DeviceState.IDLE and not asked:
                asked = bool(self.arm(block.mso))
            if self.state is DeviceState.READY and not fired:
                fired = bool(self.driver.fire(self.permit(block), self.now))

    # -- what there is to see ----------------------------------------------------------------

    def all(self, kind: type) -> list[Any]:
        return [event for _, event in self.heard if isinstance(event, kind)]

    def outcomes(self, ticket: Ticket) -> list[Outcome]:
        return [end.outcome for end in self.all(CommandEnded) if end.ticket == ticket]

    @property
    def state(self) -> DeviceState | None:
        """As the newest status says."""
        statuses = self.all(DeviceStatus)
        return statuses[-1].state if statuses else None

    def happened(self, *events: str) -> list[dict[str, Any]]:
        """The ground truth."""
        return [line for line in self.truth if line["event"] in events]

    def pulses_at(self) -> list[int]:
        """On the device's clock."""
        return [line["t_us"] for line in self.happened("pulse")]

    def disarmed_at(self) -> int | None:
        """On the device's clock; None while it is armed, 0 when it never was."""
        lines = self.happened("arm", "disarm")
        if lines and lines[-1]["event"] == "arm":
            return None
        return int(lines[-1]["t_us"]) if lines else 0

    def last_beat_at(self) -> int:
        """Latest arrival of the newest beat, on the device's clock."""
        return self.on_device(self.beaten_at + self.to_device.delay_us + 64 * PER_BYTE_US)

    def on_device(self, at: int) -> int:
        return self.clock.device(at)


MakeBench = Callable[..., Bench]


@pytest.fixture(params=DRIVERS, ids=lambda row: row.info.name)
def bench(request: pytest.FixtureRequest) -> Iterator[MakeBench]:
    """`bench(seed, **settings)` makes one; the device charges fast, so that tests are short."""
    made: list[Bench] = []

    def make(seed: int = 0, **settings: Any) -> Bench:
        one = Bench(request.param, seed, Settings(**{"rise_us_per_pct": 1_000, **settings}))
        made.append(one)
        return one

    yield make
    assert [again.differs for one in made for again in one.replayed() if again.differs] == []
