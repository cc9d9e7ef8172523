"""A stimulator that speaks tmslink, as a function of its own clock. No I/O, no clock, no thread.

Time and bytes are here, and what faults make of them. What the bytes mean is in tmslink_session.py.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from functools import partial
from typing import Final

from firmware_protocol.table import pack
from firmware_protocol.tmslink.messages import Cause, State
from sim_device import device_faults
from sim_device.device import Agenda, Log
from sim_device.fault_kinds import KINDS, USB_KINDS, Occasion
from sim_device.faults import Faults, Rule
from sim_device.settings import Settings
from sim_device.tmslink_machine import Machine
from sim_device.tmslink_sender import Sender
from sim_device.tmslink_session import Heard, Session
from sim_device.tmslink_wire import Inbound, Line, seed_of
from sim_device.wire_faults import Tmslink, Way

_LACKS: Final = {
    "external_trigger", "panel_gap", "panel_mode", "panel_waveform", "panel_interval",
}  # fmt: skip
"""It has neither such an input nor such settings."""


class Firmware:
    """The device. `settings.clock_us` is the instant at which it is switched on."""

    kinds = frozenset(KINDS) - {*USB_KINDS, *_LACKS}

    def __init__(
        self,
        settings: Settings,
        rng: random.Random,
        log: Log,
        rules: Iterable[Rule] = (),
        heard: Heard | None = None,
    ) -> None:
        self._seed = seed_of(settings.serial)
        self.settings = settings
        self.plugged = True
        self.faults = Faults(rng, settings.clock_us, log, rules)
        self.agenda = Agenda()
        self.line = Line(self._seed)
        self.sender = Sender(self._seed, self.faults)
        self.machine = Machine(settings, self.faults, log, self.sender, self.agenda)
        self.session = Session(settings, self.machine, self.sender, rng, log, heard)
        self.counters = self.session.counters
        self._inward = Way(self.faults, Occasion.TO_DEVICE, Tmslink(self._seed))
        self._dark = False  # without power
        self._wrong = False  # is there anything that a device without faults has not to look at
        self._log = log
        self._moments = {
            kind: partial(effect, self) for kind, effect in device_faults.MOMENTS.items()
        }
        self._next_us: int | None = None
        self.faults.changed = self._faults_changed
        self._faults_changed()

    @property
    def clock_ppm(self) -> int:
        """How much too fast its clock runs at present."""
        return self.machine.clock_ppm

    # -- time and bytes ------------------------------------------------------------------------

    def receive(self, data: bytes, now_us: int) -> None:
        """Bytes from the host. What was due up to now happens first."""
        self.advance(now_us)
        if self._dark or not self.plugged:
            return
        if self._inward.touched or self._inward.held:
            self._receive_badly(data)
        else:
            self._hear(data)
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

    def take_output(self) -> bytes:
        """Bytes for the host since the last call."""
        if not self.plugged:
            self.sender.clear()
        return self.sender.take()

    def _reckon(self) -> None:
        """Work out the next instant; only when something has changed, for it is asked often."""
        at = self.machine.next_event_us()
        session_at = self.session.next_event_us()
        if session_at is not None and (at is None or session_at < at):
            at = session_at
        if self._wrong:
            several = (at, self.faults.next_us(), *self._waiting())
            at = min((each for each in several if each is not None), default=None)
        self._next_us = at

    def _act(self, due_us: int, found_us: int) -> None:
        machine = self.machine
        machine.now = max(machine.now, due_us)
        if self._wrong:
            self._act_wrong()
        self.session.watch()
        pulses = self.faults.pulses
        machine.happen(max(machine.now, found_us))
        if self._wrong:
            if self.faults.pulses > pulses:
                self._happen()
            self._wrong = self._is_wrong()
        self.session.send_owed_status()
        self._reckon()

    def _hear(self, data: bytes) -> None:
        session = self.session
        for item in self.line.feed(data):
            if not isinstance(item, Inbound):
                session.raw_stop()
            elif self._wrong:
                self._hear_wrongly(item)
            else:
                session.accept(item)
            session.send_owed_status()

    # -- faults --------------------------------------------------------------------------------

    def _faults_changed(self) -> None:
        self.sender.way.touched = self.faults.touches(Occasion.TO_HOST)
        self._inward.touched = self.faults.touches(Occasion.TO_DEVICE)
        self._wrong = self._is_wrong()
        self._reckon()

    def _waiting(self) -> tuple[int | None, ...]:
        """Instants of what faults have put off."""
        return self.agenda.next_us(), self.sender.way.next_us(), self._inward.next_us()

    def _is_wrong(self) -> bool:
        return self.faults.any_set or any(at is not None for at in self._waiting())

    def _happen(self) -> None:
        """What faults do by themselves."""
        cooled = bool(self.settings.cooled)
        self.faults.happen(self.machine.now, self._moments, self._settle, cooled=cooled)

    def _settle(self, begun: str) -> None:
        device_faults.settle(self)
        if begun:
            device_faults.begin(self, begun)

    def _act_wrong(self) -> None:
        now = self.machine.now
        self.sender.release(now)
        if self._inward.held:
            self._hear(self._inward.due(now))
        self.agenda.run(now)
        self._happen()

    def _receive_badly(self, data: bytes) -> None:
        now = self.machine.now
        for frame in self._inward.dialect.cut(data):
            if self.faults.strikes("echo", now) is not None:
                self.sender.raw(frame)
            self._inward.put(frame, now)
        self._hear(self._inward.due(now))

    def _hear_wrongly(self, item: Inbound) -> None:
        if device_faults.lacks(self, item.spec.code):
            self.line.counters.unknown += 1
            return
        commands = self.faults.commands
        self.session.accept(item)
        if self.faults.commands > commands:
            self._happen()

    def noise(self, data: bytes) -> bool:
        """Bytes to the host that nobody ordered."""
        if self._dark or not self.plugged:
            return False
        self.sender.raw(data)
        return True

    def hear_noise(self, data: bytes) -> bool:
        """Bytes that no host sent."""
        if self._dark or not self.plugged:
            return False
        self._hear(data)
        return True

    def unplug(self, for_us: int) -> bool:
        """The port is gone; what was under way is lost. The device itself works on."""
        if not self.plugged:
            return False
        self.plugged = False
        self._lose_bytes()
        self.agenda.add(self.machine.now + for_us, self._plug)
        return True

    def _plug(self) -> None:
        self.plugged = True
        self._lose_bytes()

    def _lose_bytes(self) -> None:
        self.sender.clear()
        self._inward.clear()
        self.line = Line(self._seed)

    def end_session(self) -> None:
        """The line itself says that the host has begun anew: nobody is there who sends beats."""
        if self.sender.session:
            self.machine.trip(Cause.DEAD_MAN)
        self.sender.open(0)
        self._lose_bytes()
        self._reckon()

    def identity(self) -> bytes | None:
        """The payload of IDENTITY, its nonce 0; None without power."""
        return None if self._dark else pack(self.session.identity(0))

    def reboot(self, for_us: int) -> bool:
        """Power is lost, and comes back."""
        if self._dark:
            return False
        self._dark = True
        self._log({"t_us": self.machine.now, "event": "power_lost"})
        self.sender.open(0)
        self._lose_bytes()
        self.machine.disarm(Cause.NONE, State.IDLE)
        self.agenda.add(self.machine.now + for_us, self._boot)
        return True

    def _boot(self) -> None:
        self._dark = False
        boot_count = self.session.boot()
        self._log({"t_us": self.machine.now, "event": "boot", "boot_count": boot_count})
        self._lose_bytes()
        self.machine.power_up()
