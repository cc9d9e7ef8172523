"""A host in virtual time, for tests of the emulated tmslink device alone."""

from __future__ import annotations

import random
from typing import Any

from firmware_protocol.quantities import BootUs
from firmware_protocol.tmslink import messages as m
from firmware_protocol.tmslink.link import Answered, Link
from sim_device.faults import Rule
from sim_device.settings import Settings
from sim_device.tmslink_firmware import Firmware

NEVER = BootUs(2**62)
FAR = 2**60  # a permit or an end that is not what the test is about
NONCE = 7


class Host:
    """Speaks to one device without wires; both clocks are the device's."""

    def __init__(self, *rules: Rule, seed: int = 1, **settings: Any) -> None:
        self.settings = Settings(**settings)
        self.log: list[dict[str, Any]] = []
        self.events: list[Any] = []
        self.device = Firmware(self.settings, random.Random(seed), self.log.append, rules)
        self.link = Link()
        self.now = self.settings.clock_us
        self.follows_clock = False  # else the two clocks are taken for one
        self.ahead_us = 0  # of our clock, as the device last told its own
        self.taken: list[tuple[int, bytes]] = []  # when, what came out of the device
        self.cycle = 0

    # Time and bytes.

    def wait(self, duration_us: int) -> None:
        """Time passes and the host is silent."""
        self.now += duration_us
        self.device.run_to(self.now)
        self.collect()

    def give(self, data: bytes) -> None:
        self.device.receive(data, self.now)
        self.collect()

    def collect(self) -> None:
        data = self.device.take_output()
        if data:
            self.taken.append((self.now, data))
        for event in self.link.receive(data, BootUs(self.now)):
            self.events.append(event)
            if self.follows_clock and isinstance(event, m.Status | m.Identity):
                self.ahead_us = event.device_time_us - self.now

    # Messages.

    def hello(self) -> None:
        self.cycle = 0
        self.give(self.link.hello(m.Hello(m.PROTOCOL_VERSION, NONCE, self.now), NONCE))

    def tell(self, message: Any) -> None:
        self.give(self.link.tell(message))

    def ask(self, message: Any) -> m.Result | None:
        """How the device answered at once; None for silence."""
        sequence, data = self.link.ask(message, NEVER)
        before = len(self.events)
        self.give(data)
        for event in self.events[before:]:
            if isinstance(event, Answered) and event.sequence == sequence:
                return event.result
        return None

    def beat(self, permit_us: int = FAR, age_us: int = 0) -> None:
        self.cycle += 1
        echo_us = max(0, self.now + self.ahead_us - age_us)
        self.tell(m.Beat(self.cycle, self.now, echo_us, permit_us, 0))

    def live(self, duration_us: int, permit_us: int = FAR) -> None:
        """Time passes with a beat every 10 ms."""
        end = self.now + duration_us
        self.beat(permit_us)
        while self.now < end:
            self.wait(min(m.BEAT_PERIOD_US, end - self.now))
            self.beat(permit_us)

    def work(self, duration_us: int) -> None:
        """All that a host does, over and over, whatever comes back: connect, arm, fire, disarm."""
        self.follows_clock = True
        end, lease = self.now + duration_us, 0
        while self.now < end:
            self.hello()
            self.live(20_000)
            self.tell(m.Tighten(100, 10_000, 1_000, 120_000_000, 410))
            self.tell(m.Arm(20, self.settings.coil_type))
            self.live(60_000)
            for _ in range(2):
                lease += 1
                start = self.now + self.ahead_us + 60_000
                self.tell(m.Train(lease, start, FAR, 5, 40_000, 1, 0, 20))
                self.live(240_000)
            self.tell(m.Disarm())
            self.live(20_000)

    def armed(self, mso: int = 60) -> Host:
        """From switched on to READY."""
        self.hello()
        assert self.ask(m.Arm(mso, self.settings.coil_type)) is m.Result.APPLIED
        for _ in range(300):
            self.live(10_000)
            if self.state is m.State.READY:
                break
        assert self.state is m.State.READY
        return self

    # What there is to see.

    @property
    def state(self) -> m.State:
        """As the newest STATUS says."""
        return m.State(self.all(m.Status)[-1].state)

    @property
    def cause(self) -> m.Cause:
        return m.Cause(self.all(m.Status)[-1].cause)

    def all(self, kind: type) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    def truth(self, event: str) -> list[dict[str, Any]]:
        return [line for line in self.log if line["event"] == event]

    def pulses_at(self) -> list[int]:
        return [line["t_us"] for line in self.truth("pulse")]

    def train(self, **changes: Any) -> m.Train:
        """Ten pulses at 10 Hz, 30 ms from now, with changes."""
        start = changes.pop("start_us", self.now + self.ahead_us + m.LEAD_MIN_US)
        ask = m.Train(1, start, FAR, 10, 100_000, 1, 0, self.device.machine.mso)
        return ask._replace(**changes)

    def fire(self, **changes: Any) -> m.Fire:
        return m.Fire(1, self.now, FAR, self.device.machine.mso)._replace(**changes)
