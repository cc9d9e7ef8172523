"""The emulated power stage and coil: the only place where a pulse happens and is logged."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from sim_device.device import Log
from sim_device.physics import (
    COILS,
    WINDING_TO_COOLANT_W_PER_K,
    Capacitor,
    CoilHeat,
    make_charger,
    make_thermal,
    stored_energy_j,
)
from sim_device.settings import Settings


class Discharge(NamedTuple):
    """What the unit's own sensors saw of one pulse."""

    mso_pct: float
    didt_a_per_us: float


class Unit:
    """Capacitor, coil and the ground-truth log. Obeys whoever triggers it; knows no limit."""

    def __init__(self, settings: Settings, log: Log) -> None:
        self._log = log
        self._heat_share = settings.coil_heat_permille / 1000
        self.capacitor = Capacitor(
            make_charger(
                settings.rise_us_per_pct,
                settings.bleed_us_per_pct,
                settings.recharge_us_per_pct,
                settings.loss_permille,
            ),
            settings.clock_us,
        )
        coolant = WINDING_TO_COOLANT_W_PER_K if settings.cooled else 0.0
        start_c = settings.coil_start_dc / 10
        thermal = make_thermal(coolant, settings.room_dc / 10)
        self.heat = CoilHeat(thermal, settings.clock_us, start_c, start_c)
        self.coil_type = settings.coil_type
        self.pulses = 0  # since the emulator started

    def charge_to(self, mso_pct: int, now_us: int) -> None:
        """Move the set-point; 0 bleeds the capacitor."""
        self.capacitor = self.capacitor.charge_to(mso_pct, now_us)

    def charged_at_us(self) -> int:
        return self.capacitor.charged_at_us()

    def discharge(self, now_us: int, cause: str, bias_pct: int, **notes: object) -> Discharge:
        """Let one pulse go at whatever voltage there is, off by `bias_pct` percent of it."""
        mso = self.capacitor.at(now_us) * (1 + bias_pct / 100)
        coil = COILS.get(self.coil_type)
        didt = coil.didt_max * mso / 100 if coil is not None else 0.0
        energy = stored_energy_j(mso)
        self.capacitor = self.capacitor.pulsed(now_us)
        self.heat = self.heat.heated(energy * self._heat_share if coil is not None else 0.0, now_us)
        self.pulses += 1
        winding_c, surface_c = self.heat.at(now_us)
        self._log(
            {
                "t_us": now_us,
                "event": "pulse",
                "n": self.pulses,
                "mso": round(mso, 3),
                "didt": round(didt, 2),
                "energy_j": round(energy, 3),
                "coil_c": round(winding_c, 3),
                "surface_c": round(surface_c, 3),
                "cause": cause,
                **notes,
            }
        )
        return Discharge(mso, didt)

    def jump_to(self, temperature_dc: int, now_us: int) -> None:
        """The whole coil is suddenly this hot."""
        hot = temperature_dc / 10
        self.heat = replace(self.heat, since_us=now_us, winding_c=hot, surface_c=hot)
