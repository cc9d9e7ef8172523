"""Everything of an emulated stimulator that is no firmware: time, bytes, faults and physics.

The families that laboratories own differ in what their firmware makes of bytes; what a line, a
clock and a coil do to it is the same for all and is here. tmslink has its own, tmslink_firmware.py,
whose processor may find an instant too late; the hardware of these times everything itself.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping
from typing import Final, Protocol

from firmware_protocol.quantities import MS
from sim_device.device import Agenda, Log
from sim_device.fault_kinds import FRAME_KINDS, RX, Occasion
from sim_device.faults import Faults, Rule
from sim_device.settings import Physics
from sim_device.unit import Discharge, Unit
from sim_device.wire_faults import BANNER, Dialect, Way

Effect = Callable[[int], bool]
"""Takes the value of a fault; False when there was nothing to act on."""

_OF_SESSIONS: Final = ("foreign_session", "foreign_device")  # a plain line knows neither

KINDS: Final = frozenset(
    [prefix + name for prefix in ("", RX) for name in FRAME_KINDS if name not in _OF_SESSIONS]
    + ["echo", "garbage", "rx_garbage", "banner", "disconnect", "reboot"]
    + ["no_reply", "reply_late", "lacks_command"]
    + ["missing_pulse", "no_fire", "phantom_pulse", "extra_pulse"]
    + ["intensity_bias", "hidden_bias", "intensity_drift"]
    + ["coil_hot", "coil_unplugged", "coil_swapped", "coil_heats", "cooling_failure"]
    + ["sensor_stuck", "sensor_wrong", "charger_slow", "bleeds_slow", "clock_drift_ppm"]
)
"""Faults that can happen to every unit on a serial line, whatever its firmware."""


class Model(Protocol):
    """A family's firmware. Made with its SerialUnit; everything it does, it does through that."""

    kinds: frozenset[str]
    """KINDS, and those of `effects`."""

    effects: Mapping[str, Effect]
    """What faults of the firmware's own do: somebody at its panel, a failing charger."""

    def hear(self, data: bytes) -> None:
        """Bytes of the host, in any chunks, at `bench.now`."""

    def check(self) -> None:
        """Something has happened: look at coil, temperature and charge."""

    def power_down(self) -> None:
        """Power is lost: no pulse, no answer."""

    def power_up(self) -> None:
        """Power is back: nothing is left of what was set."""


class SerialUnit:
    """An emulated device on a serial line, as `sim_device.device.Device`. All instants are its
    own clock's, in microseconds."""

    def __init__(
        self,
        settings: Physics,
        rng: random.Random,
        log: Log,
        rules: Iterable[Rule],
        make: Callable[[SerialUnit], Model],
        dialect: Dialect,
    ) -> None:
        """`dialect`: how its bytes fall into frames, for the faults of the line."""
        self.settings, self.rng, self.log = settings, rng, log
        self.now = settings.clock_us  # never jumps
        self.clock_ppm = settings.drift_ppm
        self.plugged = True
        self.powered = True
        self.unit = Unit(settings, log)
        self.agenda = Agenda()
        self.faults = Faults(rng, settings.clock_us, log, rules)
        self._out: list[bytes] = []
        self._outward = Way(self.faults, Occasion.TO_HOST, dialect)
        self._inward = Way(self.faults, Occasion.TO_DEVICE, dialect)
        self._line_free_us = 0  # when the last answer that was ordered has left
        self._power_no = 0  # timers of a life that ended do nothing
        self._drift_permille = 0
        self.model = make(self)
        self.kinds = self.model.kinds
        self._moments: dict[str, Effect] = {
            "garbage": lambda size: self._noise(rng.randbytes(size)),
            "rx_garbage": lambda size: self._hear_noise(rng.randbytes(size)),
            "banner": lambda _: self._noise(BANNER),
            "disconnect": self._unplug,
            "reboot": self._lose_power,
            "coil_hot": self._coil_hot,
            **self.model.effects,
        }
        self.faults.changed = self._faults_changed
        self._faults_changed()

    # -- what the firmware uses ----------------------------------------------------------------

    def at(self, when_us: int, action: Callable[[], None]) -> None:
        """A timer of the firmware; a loss of power forgets it."""
        life = self._power_no

        def act() -> None:
            if life == self._power_no:
                action()

        self.agenda.add(max(when_us, self.now), act)

    def say(self, frame: bytes, after_us: int = 0) -> None:
        """One frame to the host, so much later; frames leave in the order of the calls."""
        self._line_free_us = max(self._line_free_us, self.now + after_us)
        if self._line_free_us <= self.now:
            self._emit(frame)
        else:
            self.at(self._line_free_us, lambda: self._emit(frame))

    def answer(self, frame: bytes, after_us: int = 0) -> None:
        """The answer to one command: may be lost or late by a fault of the firmware."""
        strikes = self.faults.strikes
        if self.faults.any_set:
            if strikes("no_reply", self.now) is not None:
                return
            after_us += MS * (strikes("reply_late", self.now) or 0)
        self.say(frame, after_us)

    def lacks(self, code: int) -> bool:
        """One command of this code has come: does this firmware not know it, by a fault?"""
        self.faults.commands += 1
        return self.faults.strikes("lacks_command", self.now, code) is not None

    def pulse(self, cause: str, **notes: object) -> Discharge | None:
        """A pulse is due. What the unit's own sensors saw of it; None when none was seen."""
        self.faults.pulses += 1
        now, strikes = self.now, self.faults.strikes
        if not self.faults.any_set:
            return self.unit.discharge(now, cause, 0, **notes)
        if strikes("missing_pulse", now) is not None or strikes("no_fire", now) is not None:
            return None
        if strikes("phantom_pulse", now) is not None:
            return Discharge(0.0, 0.0)
        bias_pct = strikes("intensity_bias", now) or 0
        more = strikes("intensity_drift", now)
        self._drift_permille = 0 if more is None else self._drift_permille + more
        bias_pct += self._drift_permille // 10 + (strikes("hidden_bias", now) or 0)
        seen = self.unit.discharge(now, cause, max(-100, bias_pct), **notes)
        later_ms = strikes("extra_pulse", now)
        if later_ms is not None:
            self.at(now + later_ms * MS, lambda: self._extra(notes))
        return seen

    # -- as a device ---------------------------------------------------------------------------

    def receive(self, data: bytes, now_us: int) -> None:
        """Bytes from the host. What was due up to now happens first."""
        self.run_to(now_us)
        if not self.powered or not self.plugged:
            return
        if self._inward.touched or self._inward.held:
            for frame in self._inward.dialect.cut(data):
                if self.faults.strikes("echo", self.now) is not None:
                    self._out.append(frame)
                self._inward.put(frame, self.now)
            data = self._inward.due(self.now)
        if data:
            self.model.hear(data)
        self._after()

    def advance(self, now_us: int) -> None:
        """Its timers are of hardware: nothing is found too late."""
        self.run_to(now_us)

    def run_to(self, now_us: int) -> None:
        """All that is due up to now happens at its own instant."""
        while (at := self.next_event_us()) is not None and at <= now_us:
            self.now = max(self.now, at)
            self.agenda.run(self.now)
            if self._outward.held:
                self._out.append(self._outward.due(self.now))
            if self._inward.held and (heard := self._inward.due(self.now)):
                self.model.hear(heard)
            self._after()
        self.now = max(self.now, now_us)

    def next_event_us(self) -> int | None:
        """Next instant at which something happens without the host."""
        at = self.agenda.next_us()
        if not self.faults.any_set and not self._outward.held and not self._inward.held:
            return at
        several = (at, self.faults.next_us(), self._outward.next_us(), self._inward.next_us())
        return min((each for each in several if each is not None), default=None)

    def take_output(self) -> bytes:
        """Bytes for the host since the last call."""
        if not self.plugged:
            self._lose_bytes()
        data = b"".join(self._out)
        self._out.clear()
        return data

    # -- inside --------------------------------------------------------------------------------

    def _after(self) -> None:
        """Something has happened: what follows from it, by faults and by itself."""
        if self.faults.any_set:
            cooled = bool(self.settings.cooled)
            self.faults.happen(self.now, self._moments, self._settle, cooled=cooled)
        if self.powered:
            self.model.check()

    def _emit(self, frame: bytes) -> None:
        if not self.plugged or not self.powered:
            return
        if self._outward.touched or self._outward.held:
            for piece in self._outward.dialect.cut(frame):
                self._outward.put(piece, self.now)
            self._out.append(self._outward.due(self.now))
        else:
            self._out.append(frame)

    def _extra(self, notes: Mapping[str, object]) -> None:
        self.unit.discharge(self.now, "extra", 0, **notes)

    def _faults_changed(self) -> None:
        self._outward.touched = self.faults.touches(Occasion.TO_HOST)
        self._inward.touched = self.faults.touches(Occasion.TO_DEVICE)

    def _settle(self, _begun: str) -> None:
        on = self.faults.states()
        self.unit.settle(on, self.now)
        self.clock_ppm = on.get("clock_drift_ppm", self.settings.drift_ppm)

    def _noise(self, data: bytes) -> bool:
        there = self.powered and self.plugged
        if there:
            self._out.append(data)
        return there

    def _hear_noise(self, data: bytes) -> bool:
        there = self.powered and self.plugged
        if there:
            self.model.hear(data)
        return there

    def _coil_hot(self, temperature_dc: int) -> bool:
        self.unit.jump_to(temperature_dc, self.now)
        return True

    def _lose_bytes(self) -> None:
        self._out.clear()
        self._outward.clear()
        self._inward.clear()

    def _unplug(self, for_ms: int) -> bool:
        """The port is gone; what was under way is lost. The device itself works on."""
        if not self.plugged:
            return False
        self.plugged = False
        self._lose_bytes()
        self.agenda.add(self.now + for_ms * MS, self._plug)
        return True

    def _plug(self) -> None:
        self.plugged = True
        self._lose_bytes()

    def _lose_power(self, for_ms: int) -> bool:
        if not self.powered:
            return False
        self.powered = False
        self._power_no += 1
        self._line_free_us = 0
        self._lose_bytes()
        self.log({"t_us": self.now, "event": "power_lost"})
        self.unit.charge_to(0, self.now)
        self.model.power_down()
        self.agenda.add(self.now + for_ms * MS, self._boot)
        return True

    def _boot(self) -> None:
        self.powered = True
        self._lose_bytes()
        self.log({"t_us": self.now, "event": "boot"})
        self.model.power_up()
