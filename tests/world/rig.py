"""The production guard, driver and codec against the emulator's firmware, in virtual time.

One clock, one random generator, no sleep: `Rig.run_until` moves from event to event. The fake tmsd
answers what the real one would, after a delay that a test chooses.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from drivers.contract import Envelope, Stimulator
from firmware_protocol.quantities import MS, SECOND, BootUs
from sim_device.device import DeviceClock
from sim_device.faults import Rule
from sim_device.settings import Physics
from sim_device.world import VirtualPort, Wire
from tests.families import TMSLINK_FAMILY, Family
from tests.world.odometer import TOTAL
from tmsctl.guard.core import PERIOD_US, Guard, Inputs
from tmsctl.guard.plans import plan_for
from tmsctl.ipc import messages as ipc
from tmsctl.safety.limits import GENERAL, Limits, device_limits
from tmsctl.safety.machine import Safe
from tmsctl.stimulation.plan import Plan
from tmsctl.stimulation.prescription import Prescription, compile_plan
from tmsctl.stimulation.protocol import load_library

LIBRARY = load_library((Path(__file__).parent / "protocols",))
START = BootUs(1_000 * SECOND)
SITE = Envelope(100, 10_000, 1_000, 60_000_000, 410, (), 0)


def compiled(protocol: str, mt_pct: int = 50) -> Plan:
    plan = compile_plan(
        Prescription(LIBRARY[protocol], mt_pct * 10, LIBRARY[protocol].pct_mt, reduced=False), 100
    )
    assert isinstance(plan, Plan), plan
    return plan


@dataclass
class Service:
    """Plays tmsd: signs of life, grants after `grant_us`, and a record of all that it was told."""

    grant_us: int = 5 * MS
    connected: bool = True
    told: list[ipc.ToService] = field(default_factory=list)
    outcomes: dict[int, ipc.BlockOutcome] = field(default_factory=dict)
    intents: dict[int, ipc.Want] = field(default_factory=dict)
    snapshot: ipc.Snapshot | None = None
    present: bool = True  # somebody shows every 10 s that he is there
    _queue: list[tuple[int, ipc.ToGuard]] = field(default_factory=list)
    _alive_at: int = 0
    _present_at: int = 0

    def hear(self, messages: Iterable[ipc.ToService], now: int) -> None:
        for message in messages:
            if isinstance(message, ipc.Snapshot):
                self.snapshot = message
                continue
            self.told.append(message)
            if isinstance(message, ipc.Want):
                self.intents[message.block_id] = message
                grant = ipc.Grant(
                    message.session_no, message.block_id, message.first_pulse, message.pulses
                )
                self.say(grant, now + self.grant_us)
            elif isinstance(message, ipc.BlockOutcome):
                self.outcomes[message.block_id] = message
                self.say(ipc.Recorded(message.session_no, message.block_id), now + self.grant_us)

    def say(self, message: ipc.ToGuard, at: int = 0) -> None:
        self._queue.append((at, message))

    def commands(self, now: int) -> list[ipc.ToGuard]:
        if not self.connected:
            return []
        due = [message for at, message in self._queue if at <= now]
        self._queue = [item for item in self._queue if item[0] > now]
        if now - self._alive_at >= 200 * MS:
            self._alive_at = now
            due.append(ipc.Alive())
        if self.present and now - self._present_at >= 10 * SECOND:
            self._present_at = now
            due.append(ipc.Present(now))
        return due

    @property
    def counted(self) -> int:
        """The dose: confirmed pulses, and every intent without a sure outcome in full."""
        total = 0
        for block_id, want in self.intents.items():
            outcome = self.outcomes.get(block_id)
            sure = outcome is not None and outcome.outcome != 2
            total += outcome.delivered if outcome is not None and sure else want.pulses
        return total

    def codes(self) -> list[str]:
        """Cause codes of all transitions, in order."""
        return [message.code for message in self.told if isinstance(message, ipc.Transition)]


class Rig:
    """One guard, one line, one device."""

    def __init__(
        self,
        seed: int = 0,
        settings: Physics | None = None,
        limits: Limits = GENERAL,
        rules: Iterable[Rule] = (),
        delay_us: int = 300,
        serial: str | None = None,
        latched: str | None = None,
        family: Family = TMSLINK_FAMILY,
    ) -> None:
        self.rng = random.Random(seed)
        self.now = START
        self.truth: list[dict[str, object]] = []
        self.pulses: list[dict[str, object]] = []  # the pulses among the truth
        self.family = family
        self.settings = settings or family.settings()
        self.firmware: Any = family.device(self.settings, self.rng, self._log, rules)
        self.clock = DeviceClock(START, self.settings.clock_us, self.settings.drift_ppm)
        self.port = self._new_line(delay_us)
        self.limits = device_limits(limits, family.info.status_age_us)
        self.serial = serial
        self.service = Service()
        self.stop_pressed_by: str | None = None
        self.guard = self._new_guard(latched)
        self._period_us = PERIOD_US
        self.next_cycle = BootUs(self.now + PERIOD_US)

    def _new_line(self, delay_us: int) -> Any:
        self.to_device = Wire(self.rng, delay_us, self.family.per_byte_us)
        self.to_host = Wire(self.rng, delay_us, self.family.per_byte_us)
        return VirtualPort(self.firmware, self.to_device, self.to_host, self.clock, START)

    def _new_driver(self) -> Stimulator:
        return self.family.driver(self.port.open, SITE)

    def _new_guard(self, latched: str | None) -> Guard:
        self.driver = self._new_driver()
        return Guard(
            self.driver,
            self.limits,
            lambda load, envelope, why_not: plan_for(load, LIBRARY, self.limits, envelope, why_not),
            self.serial,
            self.now,
            BootUs(self.now - 60 * SECOND),
            latched,
        )

    # -- time --------------------------------------------------------------------------------

    def advance(self, to: int) -> None:
        """Device and line go on; the guard takes bytes as they arrive but runs no cycle."""
        TOTAL.bench_us += to - self.now
        listen = self._listen if self.guard.listens else None
        while (at := self.driver.wake_at) is not None and at <= to:
            self.port.advance(max(at, self.port.now_us), listen)
            self._listen(max(at, self.now))
        self.port.advance(to, listen)
        self.now = BootUs(to)

    def _listen(self, now: int) -> None:
        self.now = BootUs(now)
        self.guard.listen(self.now)

    def cycle(self) -> None:
        """Go to the next deadline and run one cycle."""
        self.advance(self.next_cycle)
        self.next_cycle = BootUs(self.next_cycle + self._period_us)
        self.cycle_now()

    def cycle_now(self) -> None:
        inputs = Inputs(
            self.stop_pressed_by, self.service.connected, self.service.commands(self.now)
        )
        self.stop_pressed_by = None
        self.service.hear(self.guard.cycle(inputs, self.now), self.now)
        if self.guard.period_us != self._period_us:  # as tmsctl.guard.realtime.CycleTimer
            self._period_us = self.guard.period_us
            self.next_cycle = BootUs(self.now + self._period_us)

    def run(self, duration_us: int) -> None:
        end = self.now + duration_us
        while self.next_cycle <= end:
            self.cycle()
        self.advance(end)

    def run_until(self, condition: Callable[[], bool], within_us: int) -> None:
        end = self.now + within_us
        while not condition():
            assert self.now < end, f"not within {within_us} us; {self.story()}"
            self.cycle()

    def stall(self, duration_us: int) -> None:
        """The guard process gets no processor; missed cycles are skipped, as the timer does."""
        end = self.now + duration_us
        while self.port.now_us < end:  # bytes wait in the kernel meanwhile
            at = self.port.next_event_us()
            self.port.advance(end if at is None else max(self.port.now_us, min(at, end)))
        self.now = BootUs(end)
        while self.next_cycle < end:
            self.next_cycle = BootUs(self.next_cycle + self._period_us)

    # -- a session ---------------------------------------------------------------------------

    def self_test(self) -> None:
        """The daily proof, which every new guard needs before it arms."""
        self.run_until(lambda: self.guard.device.status is not None, 2 * SECOND)
        self.service.say(ipc.SelfTest())
        self.run_until(lambda: self.guard.self_test.passed_at is not None, 3 * SECOND)

    def load(self, plan: Plan, first_pulse: int = 0, session_no: int = 1) -> None:
        self.plan = plan
        status = self.guard.device.status
        count = 0 if status is None else status.pulse_count
        self.service.say(
            ipc.Load(
                session_no=session_no,
                protocol=plan.protocol.id,
                mt_permille=plan.mt_permille,
                pct_mt=plan.pct_mt,
                reduced=int(plan.reduced),
                plan_hash=plan.hash,
                first_pulse=first_pulse,
                by_emg=1,
                soft_accepted=1,
                day_pulses=0,
                week_pulses=0,
                count_low=count,
                count_high=count,
            )
        )

    def ask_to_run(self) -> None:
        """A person confirms the plan at this instant."""
        self.service.say(ipc.Run(1, self.plan.hash, self.now))

    def start(self, plan: Plan, first_pulse: int = 0) -> None:
        """Connect, prove, load and run; returns when the first pulse has left."""
        self.self_test()
        self.load(plan, first_pulse)
        self.ask_to_run()
        self.run_until(lambda: bool(self.pulses), 40 * SECOND)

    def acknowledge(self) -> None:
        """A person has read the newest snapshot."""
        assert self.service.snapshot is not None
        self.service.say(ipc.Acknowledge(self.service.snapshot.cycle))

    def stop(self, by: str = "test") -> None:
        """A STOP datagram: the guard's poll returns and a cycle runs at once."""
        self.stop_pressed_by = by
        self.cycle_now()

    # -- what is known -----------------------------------------------------------------------

    def _log(self, line: dict[str, object]) -> None:
        self.truth.append(line)
        if line["event"] == "pulse":
            self.pulses.append(line)

    @property
    def complete(self) -> bool:
        play = self.guard.play
        return play is not None and play.complete and not play.running

    @property
    def is_safe(self) -> bool:
        return isinstance(self.guard.state, Safe)

    def last_pulse_at(self) -> int:
        """Of the newest pulse, on the host's clock."""
        at = self.pulses[-1]["t_us"]
        assert isinstance(at, int)
        return self.clock.host(at)

    def story(self) -> str:
        lines = [str(message) for message in self.service.told[-12:]]
        link = self.guard.device.link
        return f"state {self.guard.state}, link {link!r}\n" + "\n".join(lines)
