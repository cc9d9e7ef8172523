"""A stimulator that speaks tmslink, as a function of its own clock. No I/O, no clock, no thread.

Written from the specification in the message table. All instants are device time in microseconds.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

from firmware_protocol.tmslink.messages import (
    DEAD_MAN_US,
    ECHO_AGE_MAX_US,
    STATUS_PERIOD_US,
    Ack,
    Arm,
    Beat,
    Cause,
    Disarm,
    Fire,
    Hello,
    Identity,
    Result,
    State,
    Status,
    Stop,
    Tighten,
    Train,
)
from sim_device.device import Log
from sim_device.faults import Faults, Rule
from sim_device.leases import lease_of_fire, lease_of_train
from sim_device.settings import Settings
from sim_device.tmslink_machine import Machine
from sim_device.tmslink_sender import Sender
from sim_device.tmslink_wire import Inbound, Line, seed_of

FIRMWARE_VERSION: Final = 0x01_00_00_00


@dataclass(slots=True)
class Counters:
    """Frames that came in whole. All but `accepted` changed nothing."""

    accepted: int = 0
    foreign: int = 0  # another session
    stale: int = 0  # sequence not rising
    beats_refused: int = 0  # cycle not rising, echo too old or from the future, or latched


class Firmware:
    """The device. `settings.clock_us` is the instant at which it is switched on."""

    def __init__(
        self, settings: Settings, rng: random.Random, log: Log, rules: Iterable[Rule] = ()
    ) -> None:
        seed = seed_of(settings.serial)
        self.settings = settings
        self.faults = Faults(rng, settings.clock_us, rules)
        self.counters = Counters()
        self.line = Line(seed)
        self.sender = Sender(seed, self.faults)
        self.machine = Machine(settings, self.faults, log, self.sender)
        self._log = log
        self._rng = rng
        self._other_version = False  # the host of this session speaks another one than we
        self._received = 0  # newest sequence number of this session
        self._cycle = 0
        self._host_us = self._host_at = 0  # newest host time, and when it came
        self._fed_at = self._status_at = 0
        self._next_us: int | None = None
        self.faults.changed = self._reckon
        self._reckon()

    @property
    def clock_ppm(self) -> int:
        """How much too fast its clock runs at present."""
        return self.machine.clock_ppm

    def receive(self, data: bytes, now_us: int) -> None:
        """Bytes from the host. What was due up to now happens first."""
        self.advance(now_us)
        for item in self.line.feed(data):
            if isinstance(item, Inbound):
                self._accept(item)
            else:
                self.machine.stop()
            self._send_owed_status()
        self._reckon()
        if self.machine.state is State.FIRING:
            self.advance(now_us)  # a FIRE may be due at once

    def advance(self, now_us: int) -> None:
        """Act now: all that was due happens, in its order; pulses found too late are skipped."""
        while (at := self._next_us) is not None and at <= now_us:
            self._act(at, now_us)
        self.machine.now = max(self.machine.now, now_us)

    def run_to(self, now_us: int) -> None:
        """All that is due up to now happens at its own instant, as by timers of real hardware."""
        while (at := self._next_us) is not None and at <= now_us:
            self._act(at, at)
        self.machine.now = max(self.machine.now, now_us)

    def next_event_us(self) -> int | None:
        """Next instant at which something happens without the host."""
        return self._next_us

    def _reckon(self) -> None:
        """Work out the next instant; only when something has changed, for it is asked often."""
        at = self.machine.next_event_us()
        if self.sender.session:
            if at is None or self._status_at < at:
                at = self._status_at
            if self.machine.state is not State.LATCHED and self._fed_at + DEAD_MAN_US < at:
                at = self._fed_at + DEAD_MAN_US
        held = self.sender.next_event_us()
        self._next_us = at if held is None or (at is not None and at <= held) else held

    def take_output(self) -> bytes:
        """Bytes for the host since the last call."""
        return self.sender.take()

    def _act(self, due_us: int, found_us: int) -> None:
        machine = self.machine
        machine.now = max(machine.now, due_us)
        self.sender.release(machine.now)
        self._watch()
        machine.happen(max(machine.now, found_us))
        self._send_owed_status()
        self._reckon()

    def _watch(self) -> None:
        """The dead-man, and every status period the coil; both before anything fires."""
        machine = self.machine
        if not self.sender.session:
            return
        if machine.state is not State.LATCHED and machine.now >= self._fed_at + DEAD_MAN_US:
            self._log({"t_us": machine.now, "event": "dead_man", "session": machine.session})
            machine.trip(Cause.DEAD_MAN)
        if machine.now >= self._status_at:
            machine.status_owed = True
            machine.check_coil()
            machine.faults_happen()

    def _accept(self, item: Inbound) -> None:
        kind = item.spec.make
        if kind is Hello:
            self.counters.accepted += 1
            self._hello(Hello(*item.values or ()))
            return
        if kind is not Stop:
            if item.session != self.sender.session or not item.session:
                self.counters.foreign += 1
                return
            if item.sequence <= self._received:
                self.counters.stale += 1
                return
            self._received = item.sequence
        self.counters.accepted += 1
        if kind is Beat:
            self._beat(Beat(*item.values or ()))
            return
        self.faults.commands += 1
        result = self._obey(kind, item.values)
        self._send(Ack(item.sequence, item.spec.code, result))
        if kind is Tighten and result is Result.APPLIED:
            self._send(self.machine.limits)
        self.machine.faults_happen()

    def _obey(self, kind: Callable[..., Any], values: tuple[Any, ...] | None) -> Result:
        """Carry out one command, or say why not. `values` is None when one is out of its range."""
        machine = self.machine
        if kind is Stop:
            machine.stop()
            return Result.APPLIED
        if machine.state is State.LATCHED:
            return Result.WRONG_STATE
        if self._other_version and kind is not Disarm:
            return Result.WRONG_VERSION
        if values is None:
            return Result.BAD_VALUE
        if kind is Disarm:
            machine.disarm(Cause.HOST_DISARM, State.IDLE)
            return Result.APPLIED
        if kind is Arm:
            return machine.arm(Arm(*values))
        if kind is Tighten:
            return machine.tighten(Tighten(*values))
        if kind is Train:
            return machine.start(lease_of_train(Train(*values)))
        assert kind is Fire, kind
        return machine.start(lease_of_fire(Fire(*values), machine.now))

    def _hello(self, message: Hello) -> None:
        machine = self.machine
        session = self._rng.randint(1, 0xFFFF_FFFF)
        machine.new_session(session)  # a lease that it ends is still told to the old one
        self.sender.open(session)
        self._received = self._cycle = 0
        self._other_version = message.protocol != self.settings.protocol
        self._host_us = message.host_time_us
        self._host_at = self._fed_at = machine.now
        unit = self.settings
        self._send(
            Identity(
                unit.protocol,
                message.nonce,
                machine.now,
                unit.serial,
                unit.model,
                FIRMWARE_VERSION,
                unit.boot_count,
                machine.unit.coil_type,
            )
        )
        self._send(machine.limits)
        machine.status_owed = True

    def _beat(self, beat: Beat) -> None:
        machine = self.machine
        fresh = 0 <= machine.now - beat.device_time_us <= ECHO_AGE_MAX_US
        if beat.cycle <= self._cycle or not fresh or machine.state is State.LATCHED:
            self.counters.beats_refused += 1
            return
        self._cycle = beat.cycle
        self._host_us = beat.host_time_us
        self._host_at = self._fed_at = machine.now
        machine.permit_us = beat.permit_us
        machine.state_hash = beat.state_hash

    def _send(self, message: Any) -> None:
        self.sender.send(message, self.machine.now)

    def _send_owed_status(self) -> None:
        """One STATUS for all that has changed at this instant."""
        machine = self.machine
        if not machine.status_owed:
            return
        machine.status_owed = False
        now = machine.now
        self._status_at = now + STATUS_PERIOD_US
        winding_c, surface_c = machine.unit.heat.at(now)
        self._send(
            Status(
                now,
                self._host_us,
                min(now - self._host_at, 0xFFFF_FFFF),
                self._cycle,
                machine.state,
                machine.cause,
                machine.mso,
                round(machine.unit.capacitor.at(now) * 10),
                round(winding_c * 10),
                round(surface_c * 10),
                machine.pulse_count,
                machine.newest_lease,
                machine.lease_fired,
                machine.unit.coil_type,
            )
        )
