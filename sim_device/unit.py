"""The emulated power stage and coil: the only place where a pulse happens and is logged."""

from __future__ import annotations

from collections.abc import Mapping
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
from sim_device.settings import Physics


class Discharge(NamedTuple):
    """What the unit's own sensors saw of one pulse."""

    mso_pct: float
    didt_a_per_us: float


class Unit:
    """Capacitor, coil and the ground-truth log. Obeys whoever triggers it; knows no limit."""

    def __init__(self, settings: Physics, log: Log) -> None:
        self._settings, self._log = settings, log
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
        # What faults change; see `settle`.
        self.sensor_dc: tuple[int, int] | None = None  # instead of the real temperatures
        self._heats_dc_per_s = self._heated_at = 0  # from outside
        # The newest reading, since it is often wanted twice.
        self._read_at, self._read, self._reading_dc = -1, self.heat, (0, 0)

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

    def temperatures_dc(self, now_us: int) -> tuple[int, int]:
        """Winding and surface as its sensors read them, 0.1 degree C."""
        if self._heats_dc_per_s:
            self._warm(now_us)
        if self.sensor_dc is not None:
            return self.sensor_dc
        heat = self.heat
        if self._read_at != now_us or self._read is not heat:
            self._read_at, self._read = now_us, heat
            winding_c, surface_c = heat.at(now_us)
            self._reading_dc = round(winding_c * 10), round(surface_c * 10)
        return self._reading_dc

    def _warm(self, now_us: int) -> None:
        """The heat that came from outside since the last time."""
        winding_c, surface_c = self.heat.at(now_us)
        warmer_c = self._heats_dc_per_s * (now_us - self._heated_at) / 10_000_000
        self._heated_at = now_us
        self.heat = replace(
            self.heat,
            since_us=now_us,
            winding_c=winding_c + warmer_c,
            surface_c=surface_c + warmer_c,
        )

    def settle(self, on: Mapping[str, int], now_us: int) -> None:
        """Become what the settings and the faults that are in force (kind, value) make of it."""
        settings = self._settings
        if self._heats_dc_per_s:
            self._warm(now_us)
        gone = "coil_absent" in on or "coil_unplugged" in on
        self.coil_type = 0 if gone else on.get("coil_swapped", settings.coil_type)

        slower, bleeds = on.get("charger_slow", 1), on.get("bleeds_slow", 1)
        charger = make_charger(
            settings.rise_us_per_pct * slower,
            settings.bleed_us_per_pct * bleeds,
            settings.recharge_us_per_pct * slower,
            settings.loss_permille,
        )
        capacitor = self.capacitor
        if charger != capacitor.charger:
            level = capacitor.at(now_us)
            self.capacitor = Capacitor(charger, now_us, level, level, capacitor.target)

        warmer_dc = on.get("coil_heats", 0)
        winding_c, surface_c = self.heat.at(now_us)
        cooled = settings.cooled and "cooling_failure" not in on
        thermal = make_thermal(WINDING_TO_COOLANT_W_PER_K if cooled else 0.0, settings.room_dc / 10)
        self.heat = replace(
            self.heat, thermal=thermal, since_us=now_us, winding_c=winding_c, surface_c=surface_c
        )
        if warmer_dc and not self._heats_dc_per_s:
            self._heated_at = now_us
        self._heats_dc_per_s = warmer_dc

        if "sensor_wrong" in on:
            self.sensor_dc = (on["sensor_wrong"], on["sensor_wrong"])
        elif "sensor_stuck" not in on:
            self.sensor_dc = None
        elif self.sensor_dc is None:
            self.sensor_dc = (round(winding_c * 10), round(surface_c * 10))
