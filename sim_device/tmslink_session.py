"""A session as the device sees it: what the host says, and what is answered. No bytes here.

Written from the specification in the message table. All instants are device time in microseconds.
"""

from __future__ import annotations

import random
from collections.abc import Callable
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
from sim_device.device_faults import obey_wrongly
from sim_device.leases import lease_of_fire, lease_of_train
from sim_device.settings import Settings
from sim_device.tmslink_machine import Machine
from sim_device.tmslink_sender import Sender
from sim_device.tmslink_wire import Inbound

FIRMWARE_VERSION: Final = 0x01_00_00_00

Heard = Callable[[int, str, int, int, "tuple[Any, ...] | None"], None]
"""Told of each frame that the device acted upon: its time, message, session, sequence, values."""


@dataclass(slots=True)
class Counters:
    """Frames that came in whole. All but `accepted` changed nothing."""

    accepted: int = 0
    foreign: int = 0  # another session
    stale: int = 0  # sequence not rising
    beats_refused: int = 0  # cycle not rising, echo too old or from the future, or latched


class Session:
    """One session after the other: numbers, beats, commands, and the STATUS that is owed."""

    def __init__(
        self,
        settings: Settings,
        machine: Machine,
        sender: Sender,
        rng: random.Random,
        log: Log,
        heard: Heard | None,
    ) -> None:
        self.machine, self.sender, self.heard = machine, sender, heard
        self.boot_count = settings.boot_count
        self.counters = Counters()
        self._settings = settings
        self._rng, self._log = rng, log
        self._other_version = False  # the host of this session speaks another one than we
        self._received = 0  # newest sequence number of this session
        self._cycle = 0
        self._host_us = self._host_at = 0  # newest host time, and when it came
        self._fed_at = self._status_at = 0

    def next_event_us(self) -> int | None:
        """The next STATUS, or the dead-man."""
        if not self.sender.session:
            return None
        dead_man_at = self._fed_at + DEAD_MAN_US
        if self.machine.state is not State.LATCHED and dead_man_at < self._status_at:
            return dead_man_at
        return self._status_at

    def watch(self) -> None:
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

    def boot(self) -> int:
        """Power is back. Gives the number of power-ups."""
        self.boot_count = (self.boot_count + 1) & 0xFFFF_FFFF
        return self.boot_count

    def raw_stop(self) -> None:
        """A run of STOP bytes went by."""
        if self.heard is not None:
            self.heard(self.machine.now, "RawStop", 0, 0, None)
        self.machine.stop()

    def accept(self, item: Inbound) -> None:
        """A frame with the right checksum came."""
        kind = item.spec.make
        if kind is Hello:
            self.counters.accepted += 1
            self._notice(item)
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
            if self._beat(Beat(*item.values or ())):
                self._notice(item)
            return
        self._notice(item)
        faults = self.machine.faults
        faults.commands += 1
        if faults.any_set:
            obey_wrongly(self, item)
        else:
            self.answer(item, self.obey(item))

    def _notice(self, item: Inbound) -> None:
        if self.heard is not None:
            name = item.spec.make.__name__
            self.heard(self.machine.now, name, item.session, item.sequence, item.values)

    def answer(self, item: Inbound, result: Result, of_sequence: int | None = None) -> None:
        """ACK, and after a TIGHTEN what is in force now."""
        sequence = item.sequence if of_sequence is None else of_sequence
        self._send(Ack(sequence, item.spec.code, result))
        if item.spec.make is Tighten and result is Result.APPLIED:
            self._send(self.machine.limits)

    def obey(self, item: Inbound) -> Result:
        """Carry out one command, or say why not."""
        machine, kind, values = self.machine, item.spec.make, item.values
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
        return machine.start(lease_of_fire(Fire(*values), machine.clock_us))

    def _hello(self, message: Hello) -> None:
        machine = self.machine
        session = self._rng.randint(1, 0xFFFF_FFFF)
        machine.new_session(session)  # a lease that it ends is still told to the old one
        self.sender.open(session)
        self._received = self._cycle = 0
        self._other_version = message.protocol != self._settings.protocol
        self._host_us = message.host_time_us
        self._host_at = self._fed_at = machine.now
        self._send(self.identity(message.nonce))
        self._send(machine.limits)
        machine.status_owed = True

    def identity(self, nonce: int) -> Identity:
        """Who this is; the nonce is that of the HELLO which asks."""
        unit, machine = self._settings, self.machine
        return Identity(
            unit.protocol,
            nonce,
            machine.clock_us,
            unit.serial,
            unit.model,
            FIRMWARE_VERSION,
            self.boot_count,
            machine.unit.coil_type,
        )

    def _beat(self, beat: Beat) -> bool:
        """True when it fed the dead-man."""
        machine = self.machine
        fresh = 0 <= machine.clock_us - beat.device_time_us <= ECHO_AGE_MAX_US
        if beat.cycle <= self._cycle or not fresh or machine.state is State.LATCHED:
            self.counters.beats_refused += 1
            return False
        self._cycle = beat.cycle
        self._host_us = beat.host_time_us
        self._host_at = self._fed_at = machine.now
        machine.permit_us = beat.permit_us - machine.skew_us
        machine.state_hash = beat.state_hash
        return True

    def _send(self, message: Any) -> None:
        self.sender.send(message, self.machine.now)

    def send_owed_status(self) -> None:
        """One STATUS for all that has changed at this instant."""
        machine = self.machine
        if not machine.status_owed:
            return
        machine.status_owed = False
        now = machine.now
        self._status_at = now + STATUS_PERIOD_US
        self._send(
            Status(
                machine.clock_us,
                self._host_us,
                min(now - self._host_at, 0xFFFF_FFFF),
                self._cycle,
                machine.state,
                machine.cause,
                machine.mso,
                round(machine.unit.capacitor.at(now) * 10),
                *machine.unit.temperatures_dc(machine.now),
                machine.pulse_count,
                machine.newest_lease,
                machine.lease_fired,
                machine.unit.coil_type,
            )
        )
