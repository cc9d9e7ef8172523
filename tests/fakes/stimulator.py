"""A stimulator that does nothing but keep what it was told, and a guard on it, cycle by cycle.

No emulator, no line, no driver: each test says what the device shows and reports, and reads what
the guard told the device and tmsd in the same cycle. Time moves only when a test says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from drivers.contract import (
    BlockEnded,
    CommandEnded,
    DeviceState,
    DeviceStatus,
    DriverEvent,
    DriverInfo,
    Envelope,
    Identity,
    LinkUp,
    Maturity,
    Outcome,
    Permit,
    PulseBlock,
    PulseSeen,
    Shape,
    StopClass,
    Ticket,
)
from firmware_protocol.quantities import MS, SECOND, BootUs, DeviceUs, PercentMso
from tmsctl.guard.core import Guard, Inputs
from tmsctl.guard.playback import Intent, OpenBlock, Playback
from tmsctl.ipc import messages as ipc
from tmsctl.safety.dose import PulseTimes
from tmsctl.safety.limits import GENERAL, Limits
from tmsctl.safety.rules import Action, Trip
from tmsctl.stimulation.plan import Plan, trains_of
from tmsctl.stimulation.protocol import Protocol

START = BootUs(1_000 * SECOND)
PERIOD_US = 10 * MS
PATIENCE = 100
"""Cycles that a test waits for a block, so that a guard that never fires ends it."""

LEAD_US = 20 * MS
INFO = DriverInfo(
    "fake", StopClass.NATIVE_LEASE, Maturity.EXPERIMENTAL, "", 100 * MS, LEAD_US, 0, SECOND,
    60 * MS, 50 * MS, 1, True,
)  # fmt: skip
IDENTITY = Identity("Fake", "F1", "1.0", 7, 1)
ENVELOPE = Envelope(100, 10 * MS, 1_000, 60 * SECOND, 410, (0,) * 101, 0)
STATUS = DeviceStatus(START, DeviceState.IDLE, "", "", 50, 500, 300, 250, 40, 0, 0, 1)
SESSION = 3


def plan(
    pulses_per_burst: int = 1, bursts: int = 4, trains: int = 2, gap_us: int = 6 * SECOND
) -> Plan:
    """At 50 %MSO: bursts every 100 ms, pulses of a burst 20 ms apart."""
    pulses = trains * bursts * pulses_per_burst
    protocol = Protocol(
        "tiny", "", "", 100, "", pulses_per_burst, 20 * MS * (pulses_per_burst > 1), 100 * MS,
        bursts, gap_us, trains, pulses, 0, 0, "", "", "", {}, "", "0" * 64,
    )  # fmt: skip
    return Plan(protocol, PercentMso(50), 500, 100, False, trains_of(protocol))


PLAN = plan()
"""Two trains of four pulses; a block of the fake holds two."""


def playback(of: Any = PLAN, position: int = 0, lease_ms: int = 100, **changes: Any) -> Playback:
    play = Playback(
        plan=of,
        session_no=3,
        limits=GENERAL,
        position=position,
        lease_max_us=lease_ms * MS,
        pulses_max=1_000,
        lead_us=LEAD_US,
        sent=PulseTimes(GENERAL.train_gap_min_us),
        day_pulses=0,
        week_pulses=0,
        count_at_load=(0, 0),
    )
    for name, value in changes.items():
        setattr(play, name, value)
    return play


def block(bursts: int, per_burst: int, period_us: int = 100 * MS) -> PulseBlock:
    interval_us = 20 * MS if per_burst > 1 else 0
    return PulseBlock(1, PercentMso(50), bursts, period_us, per_burst, interval_us)


def opened(play: Playback, of: PulseBlock, start_at: int = START) -> OpenBlock:
    piece = play.slice_at(play.position)
    intent = Intent(1, play.position, of.pulses, piece, granted=True)
    return OpenBlock(intent, of, BootUs(start_at), START, 1)


class Call(NamedTuple):
    """One thing that the guard did to the device."""

    name: str
    at: BootUs
    given: Any = None


class FakeStimulator:
    """Keeps every call. `events` is what the next `poll` finds."""

    def __init__(self) -> None:
        self.info = INFO
        self.wake_at: BootUs | None = None
        self.refused_shapes = ""  # why it never takes a block
        self.armed_shape: Shape | None = None  # that the newest arming named
        self.calls: list[Call] = []
        self.events: list[DriverEvent] = []
        self.ticket = Ticket(0)  # of the newest command

    def refuses(self, block: PulseBlock) -> str:
        return self.refused_shapes

    def fileno(self) -> int:
        return -1

    def poll(self, now: BootUs) -> list[DriverEvent]:
        self.calls.append(Call("poll", now))
        found, self.events = self.events, []
        return found

    def beat(self, cycle: int, now: BootUs, permit_until: BootUs) -> None:
        self.calls.append(Call("beat", now, (cycle, permit_until)))

    def arm(self, mso: PercentMso, shape: Shape, now: BootUs) -> Ticket:
        self.armed_shape = shape
        return self._command(Call("arm", now, mso))

    def disarm(self, now: BootUs) -> None:
        self.calls.append(Call("disarm", now))

    def fire(self, permit: Permit, now: BootUs) -> Ticket:
        permit.spend(now)
        return self._command(Call("fire", now, permit))

    def stop(self, now: BootUs) -> None:
        self.calls.append(Call("stop", now))

    def acknowledge(self, now: BootUs) -> None:
        self.calls.append(Call("acknowledge", now))

    def probe_bad_frame(self, now: BootUs) -> None:
        self.calls.append(Call("probe", now))

    def close(self) -> None:
        self.calls.append(Call("close", START))

    def _command(self, call: Call) -> Ticket:
        self.calls.append(call)
        self.ticket = Ticket(self.ticket + 1)
        return self.ticket


class Bench:
    """One guard on the fake, whose pulses of the last `known_us` are known.

    `shows` is the device's status in every cycle; None: it is silent.
    """

    def __init__(
        self,
        loaded: Plan = PLAN,
        limits: Limits = GENERAL,
        latched: str | None = None,
        serial: str | None = None,
        known_us: int = 60 * SECOND,
    ) -> None:
        self.driver = FakeStimulator()
        self.plan = loaded
        self.planned: tuple[Plan, Limits] | Trip = (loaded, limits)
        self.now = START
        self.shows: DeviceStatus | None = STATUS
        self.snapshot: ipc.Snapshot | None = None
        self.calls: list[Call] = []  # of the newest cycle
        self.guard = Guard(
            self.driver, limits, self._plan_for, serial, START,
            BootUs(START - known_us), latched,
        )  # fmt: skip

    def _plan_for(
        self, _load: ipc.Load, _envelope: Envelope, why_not: Callable[[Plan], str]
    ) -> tuple[Plan, Limits] | Trip:
        """As tmsctl.guard.plans does: the device's word goes before the limits."""
        if isinstance(self.planned, Trip) or not (cannot := why_not(self.planned[0])):
            return self.planned
        return Trip("device-cannot", Action.HOLD, cannot)

    # -- cycles ------------------------------------------------------------------------------

    def cycle(
        self,
        *commands: ipc.ToGuard,
        at: int | None = None,
        events: Iterable[DriverEvent] = (),
        stopped_by: str | None = None,
        connected: bool = True,
    ) -> list[ipc.ToService]:
        """One cycle, a period later or `at` that time; what tmsd was told, but for snapshots.

        `events` come after the status that every cycle finds.
        """
        self.now = BootUs(self.now + PERIOD_US if at is None else at)
        if self.shows is not None:
            self.driver.events.append(self.shows._replace(asked_at=BootUs(self.now - MS)))
        self.driver.events += events
        self.driver.calls.clear()
        alive = (ipc.Alive(),) if connected else ()
        told = self.guard.cycle(Inputs(stopped_by, connected, (*alive, *commands)), self.now)
        self.calls = list(self.driver.calls)
        for message in told:
            if isinstance(message, ipc.Snapshot):
                self.snapshot = message
        return [message for message in told if not isinstance(message, ipc.Snapshot)]

    def until(self, at: int) -> list[ipc.ToService]:
        """Cycles up to just before that time, none more than a period apart."""
        told = []
        while self.now < at - 1:
            told += self.cycle(at=min(self.now + PERIOD_US, at - 1))
        return told

    def show(self, **changes: Any) -> None:
        assert self.shows is not None
        self.shows = self.shows._replace(**changes)

    @property
    def did(self) -> list[str]:
        """What the guard did to the device in the newest cycle, beside poll and beat."""
        return [call.name for call in self.calls if call.name not in ("poll", "beat")]

    @property
    def beat(self) -> tuple[int, BootUs] | None:
        """The beat of the newest cycle: its number, and until when pulses may leave."""
        return next((call.given for call in self.calls if call.name == "beat"), None)

    @property
    def fired(self) -> Permit | None:
        return next((call.given for call in self.calls if call.name == "fire"), None)

    # -- the way to a running plan -----------------------------------------------------------

    def connected(self) -> Bench:
        """The device answers, its self-test has passed, and an operator is there."""
        self.cycle(ipc.Present(self.now), events=[LinkUp(IDENTITY, ENVELOPE)])
        test = self.guard.self_test
        test._state, test._passed_at = ipc.SelfTestState.PASSED, self.now
        test._life = self.guard.device.life
        return self

    def load(self, first_pulse: int = 0, session_no: int = SESSION, count: int = 40) -> ipc.Load:
        return ipc.Load(
            session_no, "tiny", 500, 100, 0, self.plan.hash, first_pulse, 1, 1, 0, 0, count, count
        )

    def loaded(self, first_pulse: int = 0) -> Bench:
        assert self.connected().cycle(self.load(first_pulse)) == []
        return self

    def run(self, session_no: int = SESSION) -> ipc.Run:
        """A person confirms the plan at this instant."""
        return ipc.Run(session_no, self.plan.hash, self.now)

    def stopped(self) -> Bench:
        """Somebody pressed STOP, and the device shows that it obeyed."""
        self.cycle(stopped_by="pedal")
        self.show(state=DeviceState.LATCHED, cause="STOP")
        self.cycle()
        return self

    def seen(self) -> ipc.Acknowledge:
        """A person has seen all that was told up to the newest cycle."""
        return ipc.Acknowledge(self.guard.cycles)

    def arming(self, first_pulse: int = 0) -> Bench:
        self.loaded(first_pulse).cycle(self.run())
        assert self.did == ["arm"]
        return self

    def armed(self, first_pulse: int = 0) -> Bench:
        """The time line begins in the newest cycle, and the first block is asked for."""
        self.arming(first_pulse)
        self.become_ready()
        return self

    def become_ready(self) -> list[ipc.ToService]:
        applied = CommandEnded(self.driver.ticket, Outcome.APPLIED, "")
        self.show(state=DeviceState.READY)
        return self.cycle(events=[applied])

    # -- blocks ------------------------------------------------------------------------------

    def grant(self) -> ipc.Grant:
        """Of the block that the guard wants at present."""
        play = self.guard.play
        assert play is not None
        assert play.intent is not None
        intent = play.intent
        return ipc.Grant(SESSION, intent.block_id, intent.first_pulse, intent.pulses)

    def firing(self) -> Permit:
        """Grant the block that is wanted, and go on until it is handed over."""
        self.cycle(self.grant())
        return self.firing_granted()

    def until_fired(self, patience: int = PATIENCE) -> Permit:
        for _ in range(patience):
            if self.fired is not None:
                return self.fired
            self.cycle()
        raise AssertionError(f"no block is handed over; {self.guard.state}")

    def firing_granted(self) -> Permit:
        self.until_fired()
        assert self.fired is not None
        self.show(state=DeviceState.FIRING, block_id=self.fired.block.block_id, block_fired=0)
        return self.fired

    def pulse(self, permit: Permit, place: int) -> PulseSeen:
        """One pulse of that block leaves at its planned time."""
        assert self.shows is not None
        count = self.shows.pulse_count + 1
        at = permit.start_at + permit.block.offset_us(place)
        self.show(pulse_count=count, block_fired=place + 1)
        return PulseSeen(BootUs(at), DeviceUs(at), count, permit.block.block_id, place, 500, 57)

    def play_block(self, permit: Permit) -> list[ipc.ToService]:
        """Go on to the end of a block whose pulses all leave in time; the cycle that hears it."""
        for place in range(permit.block.pulses):
            self.until(permit.start_at + permit.block.offset_us(place) + 1)
            self.cycle(at=self.now + 1, events=[self.pulse(permit, place)])
        return self.end(permit, permit.block.pulses)

    def end(
        self, permit: Permit, delivered: int, skipped: int = 0, at: int | None = None
    ) -> list[ipc.ToService]:
        assert self.shows is not None
        self.show(state=DeviceState.READY)
        count = self.shows.pulse_count
        ended = BlockEnded(permit.block.block_id, delivered, skipped, "complete", count, True)
        return self.cycle(events=[ended], at=at)


def codes(told: Iterable[ipc.ToService]) -> list[str]:
    """Of refusals and transitions, in order."""
    return [item.code for item in told if isinstance(item, ipc.Refused | ipc.Transition)]


def wants(told: Iterable[ipc.ToService]) -> list[tuple[int, int, int]]:
    """Number, first pulse and pulses of each block that was asked for."""
    return [
        (item.block_id, item.first_pulse, item.pulses)
        for item in told
        if isinstance(item, ipc.Want)
    ]


def outcomes(told: Iterable[ipc.ToService]) -> list[tuple[int, int, int, int, str]]:
    """Of each block that ended: number, delivered, skipped, outcome, and why."""
    return [
        (item.block_id, item.delivered, item.skipped, item.outcome, item.why)
        for item in told
        if isinstance(item, ipc.BlockOutcome)
    ]
