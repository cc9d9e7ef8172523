"""A Magstim 200²: one capacitor, single pulses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from firmware_protocol.magstim.messages import Answer, Dialect, Model
from sim_device.magstim_core import Core
from sim_device.magstim_part import Handler, Read
from sim_device.magstim_settings import Magstim200Settings
from sim_device.serial_unit import Effect, SerialUnit

RECHARGE_US: Final = ((50, 2_000_000), (80, 3_000_000), (101, 4_000_000))
"""Below so many percent, from pulse to ready (MagPy's own emulator)."""

_REFUSED: Final = {"data": Answer.BAD_DATA, "conflict": Answer.CONFLICT}


class Magstim200:
    """What a 200² adds to the common firmware."""

    def __init__(self, core: Core, settings: Magstim200Settings) -> None:
        self._core = core
        self.effects: Mapping[str, Effect] = {}
        self.dialect = Dialect(Model.M200)
        refused = _REFUSED[settings.bistim_commands]
        foreign = [row for rows in self.dialect.by_letter.values() for row in rows]
        self.commands: Mapping[str, Handler] = {
            row.name: lambda _: refused for row in foreign if Model.M200 not in row.models
        }
        self.reads: Mapping[str, Read] = {
            "power_b": lambda: 0,
            "interval": lambda: 0,
            "mode": lambda: "0",
        }

    def power_up(self) -> None:
        pass

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
        self._core.bench.unit.charge_to(self._core.power, self._core.bench.now)

    def bleed(self) -> None:
        self._core.bench.unit.charge_to(0, self._core.bench.now)

    def charged_at_us(self) -> int:
        return self._core.bench.unit.charged_at_us()

    def rest_us(self) -> int:
        return next(us for below_pct, us in RECHARGE_US if self._core.power < below_pct)

    def triggered(self) -> None:
        pass

    def go(self, cause: str) -> None:
        self._core.pulse(cause, power=self._core.power)

    def spent(self) -> None:
        pass

    def busy(self) -> bool:
        return False

    def stop(self, cause: str, /) -> None:
        pass


def magstim_200(bench: SerialUnit, settings: Magstim200Settings) -> Core:
    """The firmware of one unit."""
    return Core(bench, settings, lambda core: Magstim200(core, settings))
