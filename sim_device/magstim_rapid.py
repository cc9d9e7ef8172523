"""A Magstim Rapid² of any firmware: single pulses, or trains that it times by itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from firmware_protocol.magstim import energy
from firmware_protocol.magstim.messages import (
    TRAIN_REST_US,
    Answer,
    Dialect,
    Extended,
    Model,
    RapidStatus,
)
from firmware_protocol.magstim.rates import frequency_max_dhz
from sim_device.magstim_core import Core
from sim_device.magstim_part import Handler, Phase, Read, Values
from sim_device.magstim_settings import RapidSettings
from sim_device.magstim_train import Train
from sim_device.serial_unit import Effect, SerialUnit

SINGLE_REST_US: Final = 1_000_000
ENHANCED_REST_US: Final = 2_000_000  # at 100 to 110 % of enhanced power
TENTHS_UP_TO: Final = 300  # 0.1 Hz and 0.1 s: above 30 Hz and 30 s only whole ones
_MINUTE_US: Final = 60_000_000


def _whole(tenths: int) -> bool:
    return tenths <= TENTHS_UP_TO or tenths % 10 == 0


class Rapid:
    """What a Rapid² adds to the common firmware."""

    def __init__(self, core: Core, settings: RapidSettings) -> None:
        self._core, self._settings = core, settings
        self.effects: Mapping[str, Effect] = {}
        self.dialect = Dialect(Model.RAPID, settings.major)
        self.commands: Mapping[str, Handler] = {
            "unlock": self._unlock,
            "set_frequency": self._set_frequency,
            "set_pulses": self._set_pulses,
            "set_duration": self._set_duration,
            "ignore_coil_switch": lambda _: self._ignore_switch(),
            "enhanced_power_on": lambda _: self._enhance(),
            "enhanced_power_off": lambda _: self._enhance_no_more(),
            "set_charge_delay": self._set_delay,
        }
        self.reads: Mapping[str, Read] = {
            "rapid_status": self._rapid_status,
            "extended": self._extended,
            "frequency": lambda: self.frequency,
            "pulses": lambda: self.pulses,
            "duration": lambda: self.duration,
            "wait": lambda: -(-self._wait_us() // 100_000),
            "delay": lambda: self.delay,
            "version": lambda: settings.firmware,
            "error": lambda: settings.error if core.error else "000",
        }
        self.train: Train | None = None
        self.power_up()

    def power_up(self) -> None:
        self.frequency, self.pulses, self.duration = 10, 1, 0
        self.delay = 0
        self.enhanced = self.ignores_switch = False
        self.train = None
        self._rest_until_us = self._energy_until_us = 0

    @property
    def repetitive(self) -> bool:
        return self.duration > 0

    # -- as a Part -----------------------------------------------------------------------------

    def power_max(self) -> int:
        return 110 if self.enhanced else 100

    def changeable(self) -> bool:
        return not self._core.under_way() and not self._waits()

    def power_set(self) -> None:
        if self.repetitive and self._settings.over_frequency == "lowers":
            self.frequency = min(self.frequency, self._frequency_max())

    def may_arm(self) -> bool:
        return self._coil_ready()

    def may_fire(self) -> bool:
        if not self.repetitive:
            return not self._waits()
        if not 0 < self.frequency <= self._frequency_max() or not self.changeable():
            return False
        return not (self._settings.enforces_energy and self._overdriven())

    def charge(self) -> None:
        self._core.bench.unit.charge_to(self._core.power, self._core.bench.now)

    def bleed(self) -> None:
        self._core.bench.unit.charge_to(0, self._core.bench.now)

    def charged_at_us(self) -> int:
        return self._core.bench.unit.charged_at_us()

    def rest_us(self) -> int:
        if self.train is not None:
            return 0
        enhanced = self.enhanced and self._core.power >= 100
        return max(ENHANCED_REST_US if enhanced else SINGLE_REST_US, self._delay_us())

    def triggered(self) -> None:
        pass

    def go(self, cause: str) -> None:
        core = self._core
        if not self.repetitive:
            core.pulse(cause, power=core.power)
            return
        if self._overdriven():
            core.note("fault", cause="overdriven", by=cause)
        self.train = Train(core, self.frequency, self.train_pulses(), cause, self._ended)
        self.train.begin()

    def spent(self) -> None:
        delay_us = self._delay_us()
        if self.train is not None or not delay_us:
            return
        unit, now = self._core.bench.unit, self._core.bench.now
        unit.capacitor = unit.capacitor.charge_to(unit.capacitor.at(now), now)
        self._core.bench.at(now + delay_us, self._charge_again)

    def busy(self) -> bool:
        return self.train is not None

    def stop(self, cause: str, /) -> None:
        if self.train is not None:
            self.train.end(cause)

    # -- trains --------------------------------------------------------------------------------

    def train_pulses(self) -> int:
        """Pulses of a train as it is set now."""
        by_duration = self.duration * self.frequency // 100
        several = {
            "later": max(self.pulses, by_duration),
            "pulses": self.pulses,
            "duration": by_duration,
        }
        return max(1, several[self._settings.train_ends])

    def _ended(self, fired: int) -> None:
        self.train = None
        now = self._core.bench.now
        power = self._core.power
        self._rest_until_us = now + TRAIN_REST_US
        self._energy_until_us = now + energy.wait_min_us(power, self.frequency, max(1, fired))
        self._core.rest_until(self._rest_until_us)
        self._core.let_go()

    def _overdriven(self) -> bool:
        """Is a train now more than it can bear?"""
        if self._core.bench.now < self._energy_until_us:
            return True
        longest_us = energy.on_time_max_us(self._core.power, self.frequency)
        train_us = self.train_pulses() * 10_000_000 // self.frequency
        return longest_us is not None and min(train_us, _MINUTE_US) > longest_us

    def _wait_us(self) -> int:
        power, frequency = min(self._core.power, 100), max(1, self.frequency)
        return energy.wait_min_us(power, frequency, self.train_pulses())

    def _waits(self) -> bool:
        until_us = self._rest_until_us
        if self._settings.enforces_energy:
            until_us = max(until_us, self._energy_until_us)
        return self._core.bench.now < until_us

    def _frequency_max(self) -> int:
        return frequency_max_dhz(self._settings.mains, self._settings.kind, self._core.power)

    def _delay_us(self) -> int:
        return self.delay * self._settings.charge_delay_us

    def _charge_again(self) -> None:
        if self._core.armed:
            self.charge()

    # -- what it shows -------------------------------------------------------------------------

    def _coil_ready(self) -> bool:
        return self.ignores_switch or not self._settings.coil_switch

    def _rapid_status(self) -> int:
        flags = {
            RapidStatus.ENHANCED_POWER: self.enhanced,
            RapidStatus.TRAIN: self.train is not None,
            RapidStatus.WAIT: self._waits(),
            RapidStatus.SINGLE_PULSE: not self.repetitive,
            RapidStatus.HV_PSU: bool(self._settings.super),
            RapidStatus.COIL_READY: self._core.bench.unit.coil_type != 0 and self._coil_ready(),
            RapidStatus.THETA_PSU: bool(self._settings.plus),
        }
        return sum(flag for flag, on in flags.items() if on)

    def _extended(self) -> int:
        plus = Extended.PLUS1 if self._settings.plus else 0
        return int(plus | (Extended.CHARGE_DELAY if self.delay else 0))

    # -- commands ------------------------------------------------------------------------------

    def _unlock(self, values: Values) -> Answer | None:
        plain = self._core.remote and self._settings.plain_keep_alive and values["code"] == "@"
        if values["code"] != self._settings.unlock and not plain:
            return None
        return self._core.take_remote()

    def _set_frequency(self, values: Values) -> Answer:
        frequency = int(values["frequency"])
        if frequency > self._frequency_max() or not _whole(frequency):
            return Answer.BAD_DATA
        if not self.changeable():
            return Answer.CONFLICT
        self.frequency = frequency
        return Answer.DONE

    def _set_pulses(self, values: Values) -> Answer:
        if not self.changeable():
            return Answer.CONFLICT
        self.pulses = int(values["pulses"])
        return Answer.DONE

    def _set_duration(self, values: Values) -> Answer:
        duration = int(values["duration"])
        if duration > self._settings.duration_max_ds or not _whole(duration):
            return Answer.BAD_DATA
        if not self.changeable() or (duration and self.enhanced):
            return Answer.CONFLICT
        self.duration = duration
        self.power_set()
        return Answer.DONE

    def _ignore_switch(self) -> Answer:
        self.ignores_switch = True
        return Answer.DONE

    def _enhance(self) -> Answer:
        if self.repetitive or self._core.phase is not Phase.STANDBY:
            return Answer.CONFLICT
        self.enhanced = True
        return Answer.DONE

    def _enhance_no_more(self) -> Answer:
        if self.repetitive or self._core.phase is not Phase.STANDBY:
            return Answer.CONFLICT
        self.enhanced = False
        self._core.change_power(min(self._core.power, 100))
        return Answer.DONE

    def _set_delay(self, values: Values) -> Answer:
        if not self.changeable():
            return Answer.CONFLICT
        self.delay = int(values["delay"])
        return Answer.DONE


def magstim_rapid(bench: SerialUnit, settings: RapidSettings) -> Core:
    """The firmware of one unit."""
    return Core(bench, settings, lambda core: Rapid(core, settings))
