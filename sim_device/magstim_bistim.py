"""A Magstim BiStim²: two capacitors on one coil, pairs of pulses or both at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from firmware_protocol.magstim.messages import Answer, Dialect, Model
from sim_device.magstim_core import Core
from sim_device.magstim_part import Handler, Read, Values
from sim_device.magstim_settings import BistimSettings
from sim_device.physics import Capacitor
from sim_device.serial_unit import Effect, SerialUnit

PAIRED_OUTPUT: Final = 0.90
"""Output beside that of a 200² at the same setting, and when both go at once (MagPy)."""
BOTH_OUTPUT: Final = 1.13

LOW_INTERVAL: Final = 10  # ms, set by Z
HIGH_INTERVAL: Final = 10  # 0.1 ms, set by Y


class Bistim:
    """What a BiStim² adds to the common firmware. Unit A's capacitor is that of the bench."""

    def __init__(self, core: Core, settings: BistimSettings) -> None:
        self._core, self._settings = core, settings
        self.dialect = Dialect(Model.BISTIM)
        self.commands: Mapping[str, Handler] = {
            "set_power_b": self._set_power_b,
            "set_interval": self._set_interval,
            "high_resolution": lambda _: self._set_resolution(high=True),
            "low_resolution": lambda _: self._set_resolution(high=False),
        }
        self.reads: Mapping[str, Read] = {
            "power_b": lambda: self.power_b,
            "interval": lambda: self.interval,
            "mode": self._mode,
        }
        self.effects: Mapping[str, Effect] = {"panel_gap": self._turn_gap}
        bench = core.bench
        self._bank_b = Capacitor(bench.unit.capacitor.charger, bench.now)
        self.power_up()

    def power_up(self) -> None:
        self.power_b = self._settings.power_b
        self.interval = LOW_INTERVAL
        self.high = False
        self._pair = 0  # number of the pair whose second pulse is still to come
        self._pairs = self._gap_us = 0

    def power_max(self) -> int:
        return 100

    def changeable(self) -> bool:
        return True

    def power_set(self) -> None:
        pass

    def may_arm(self) -> bool:
        return True

    def may_fire(self) -> bool:
        return True

    def charge(self) -> None:
        now = self._core.bench.now
        unit = self._core.bench.unit
        output = PAIRED_OUTPUT if self.interval else BOTH_OUTPUT
        second = self.power_b if self.interval else self._core.power
        unit.capacitor = unit.capacitor.charge_to(output * self._core.power, now)
        self._bank_b = self._bank_b.charge_to(output * second, now)

    def bleed(self) -> None:
        now = self._core.bench.now
        self._core.bench.unit.charge_to(0, now)
        self._bank_b = self._bank_b.charge_to(0, now)

    def charged_at_us(self) -> int:
        self._same_charger()
        return max(self._core.bench.unit.charged_at_us(), self._bank_b.charged_at_us())

    def rest_us(self) -> int:
        return self._settings.rest_us if self.interval else self._settings.both_rest_us

    def triggered(self) -> None:
        self._gap_us = self.interval * (100 if self.high else 1_000)

    def go(self, cause: str) -> None:
        core = self._core
        if not self._gap_us:
            core.pulse(cause, power=core.power, both=True)
            self._bank_b = self._bank_b.pulsed(core.bench.now)
            return
        core.pulse(cause, power=core.power)
        if self.power_b:
            self._pairs += 1
            self._pair = number = self._pairs
            core.bench.at(core.bench.now + self._gap_us, lambda: self._second(cause, number))

    def spent(self) -> None:
        pass

    def busy(self) -> bool:
        return self._pair != 0

    def stop(self, _cause: str, /) -> None:
        self._pair = 0

    def _second(self, cause: str, number: int) -> None:
        """The pulse of unit B, if nothing has stopped the pair."""
        if self._pair != number:
            return
        self._pair = 0
        self._same_charger()
        unit = self._core.bench.unit
        bank_a, unit.capacitor = unit.capacitor, self._bank_b
        self._core.pulse(cause, power=self.power_b, second=True)
        self._bank_b, unit.capacitor = unit.capacitor, bank_a
        self._core.let_go()

    def _same_charger(self) -> None:
        """What a fault does to the chargers it does to both."""
        charger, now = self._core.bench.unit.capacitor.charger, self._core.bench.now
        if self._bank_b.charger != charger:
            level = self._bank_b.at(now)
            self._bank_b = Capacitor(charger, now, level, level, self._bank_b.target)

    def _set_power_b(self, values: Values) -> Answer:
        if self.power_b != int(values["power_b"]):
            self.power_b = int(values["power_b"])
            self._core.recharge()
        return Answer.DONE

    def _set_interval(self, values: Values) -> Answer:
        before, self.interval = self.interval, int(values["interval"])
        if (before == 0) != (self.interval == 0):
            self._core.recharge()
        return Answer.DONE

    def _set_resolution(self, *, high: bool) -> Answer:
        core = self._core
        soon = core.bench.now - core.remote_us < self._settings.mode_after_remote_us
        if core.armed or soon:
            return Answer.CONFLICT
        self.high = high
        self.interval = HIGH_INTERVAL if high else LOW_INTERVAL
        return Answer.DONE

    def _turn_gap(self, interval: int) -> bool:
        """Somebody sets the interval at the panel, which is never locked."""
        self._set_interval({"interval": interval})
        return True

    def _mode(self) -> str:
        if not self.interval:
            return "1"
        if not self.power_b:
            return "0"
        return "4" if self.high else "2"


def magstim_bistim(bench: SerialUnit, settings: BistimSettings) -> Core:
    """The firmware of one unit."""
    return Core(bench, settings, lambda core: Bistim(core, settings))
