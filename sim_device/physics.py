"""Capacitor and coil as functions of device time. Pure: no clock, no state that reading changes.

Both are kept as the values of their last change and evaluated in closed form, so that the result
never depends on how often anybody looked.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Final, NamedTuple

FULL_VOLTAGE_V: Final = 1650.0
CAPACITANCE_F: Final = 185e-6
FULL_ENERGY_J: Final = 0.5 * CAPACITANCE_F * FULL_VOLTAGE_V**2
"""252 J at 100 %MSO, as published for the Rapid2 (voltage and capacitance reproduce it)."""

CHARGED_WITHIN_PCT: Final = 0.5
"""The capacitor counts as charged this close to its set-point, %MSO."""


class CoilKind(NamedTuple):
    """What a coil does at full output."""

    name: str
    didt_max: float  # A/us at 100 %MSO


# Published dI/dt at full output of each coil's own stimulator (SimNIBS set, Drakaki 2022).
COILS: Final[dict[int, CoilKind]] = {
    1: CoilKind("figure-8 70 mm", 114.73),
    2: CoilKind("double cone", 84.37),
    3: CoilKind("figure-8 50 mm", 97.59),
    4: CoilKind("figure-8 120 mm, bent", 102.93),
    # Coils of a MagPro, by the type that it tells. Those marked take the value of their sister.
    56: CoilKind("Cool-B35", 141.28),
    60: CoilKind("Cool-B65", 149.77),
    62: CoilKind("MCF-B65", 147.86),
    63: CoilKind("MCF-P-B65", 147.86),  # MCF-B65
    64: CoilKind("Cool-B65 A/P", 149.77),  # Cool-B65
    72: CoilKind("C-B60", 155.40),
    73: CoilKind("C-B70", 146.52),
    81: CoilKind("MC-125", 151.67),
    82: CoilKind("MC-B70", 155.33),
    86: CoilKind("D-B80", 146.44),
}


def stored_energy_j(mso_pct: float) -> float:
    """Energy in the capacitor: half C V squared, with V proportional to output."""
    return FULL_ENERGY_J * (mso_pct / 100) ** 2


@dataclass(frozen=True, slots=True)
class Charger:
    """Slopes of the capacitor's voltage in %MSO per microsecond, and what a pulse leaves."""

    rise: float  # of the set-point, upwards
    bleed: float  # downwards, through the bleed resistor
    refill: float  # after a pulse
    pulse_keeps: float  # share of the voltage that a pulse leaves


def make_charger(
    rise_us_per_pct: int, bleed_us_per_pct: int, recharge_us_per_pct: int, loss_permille: int
) -> Charger:
    """`loss_permille` of the stored energy goes with a pulse; a pulse at P % refills in
    recharge_us_per_pct x P."""
    keeps = math.sqrt(1 - loss_permille / 1000)
    refill = (1 - keeps) / recharge_us_per_pct
    return Charger(1 / rise_us_per_pct, 1 / bleed_us_per_pct, refill, keeps)


@dataclass(frozen=True, slots=True)
class Capacitor:
    """Voltage in %MSO since the last change of the set-point or the last pulse."""

    charger: Charger
    since_us: int = 0
    level: float = 0.0  # voltage at since_us
    ramp: float = 0.0  # where the rising set-point stood at since_us
    target: float = 0.0

    def at(self, now_us: int) -> float:
        """Voltage now, %MSO."""
        passed = now_us - self.since_us
        if self.level > self.target:
            return max(self.target, self.level - self.charger.bleed * passed)
        ramp = self.ramp + self.charger.rise * passed
        return min(self.target, ramp, self.level + self.charger.refill * passed)

    def charged_at_us(self) -> int:
        """First instant at which the voltage is within CHARGED_WITHIN_PCT of the set-point."""
        if self.level > self.target:
            wait = (self.level - self.target - CHARGED_WITHIN_PCT) / self.charger.bleed
        else:
            enough = self.target - CHARGED_WITHIN_PCT
            wait = max(
                (enough - self.ramp) / self.charger.rise,
                (enough - self.level) / self.charger.refill,
            )
        return self.since_us + max(0, math.ceil(wait))

    def charge_to(self, target: float, now_us: int) -> Capacitor:
        """A new set-point; 0 bleeds."""
        level = self.at(now_us)
        return Capacitor(self.charger, now_us, level, level, target)

    def pulsed(self, now_us: int) -> Capacitor:
        """After a pulse; the set-point goes on where it was."""
        level = self.at(now_us)
        ramp = max(level, self.ramp + self.charger.rise * (now_us - self.since_us))
        left = level * self.charger.pulse_keeps
        return Capacitor(self.charger, now_us, left, min(ramp, self.target), self.target)


@dataclass(frozen=True, slots=True)
class Thermal:
    """Two heat nodes, winding and surface, solved once: relaxation rates, projections, rest state.

    The parameters are assumptions of the reference model, not measurements of a real coil.
    """

    slow_per_us: float
    fast_per_us: float
    # Slow part of the state: [[ww, ws], [sw, ss]] times the distance from rest; the fast part is
    # what remains.
    ww: float
    ws: float
    sw: float
    ss: float
    winding_rest_c: float
    surface_rest_c: float


WINDING_J_PER_K: Final = 120.0
SURFACE_J_PER_K: Final = 400.0
WINDING_TO_SURFACE_W_PER_K: Final = 4.0
SURFACE_TO_ROOM_W_PER_K: Final = 1.0
WINDING_TO_COOLANT_W_PER_K: Final = 25.0
COOLANT_C: Final = 18.0


def make_thermal(coolant_w_per_k: float, room_c: float) -> Thermal:
    """`coolant_w_per_k` is 0 for an uncooled coil, else WINDING_TO_COOLANT_W_PER_K."""
    between, outside = WINDING_TO_SURFACE_W_PER_K, SURFACE_TO_ROOM_W_PER_K
    a = -(between + coolant_w_per_k) / WINDING_J_PER_K
    b = between / WINDING_J_PER_K
    c = between / SURFACE_J_PER_K
    d = -(between + outside) / SURFACE_J_PER_K
    middle, spread = (a + d) / 2, math.sqrt(((a - d) / 2) ** 2 + b * c)
    slow, fast = middle + spread, middle - spread
    gap = slow - fast
    to_coolant = coolant_w_per_k * COOLANT_C / WINDING_J_PER_K
    to_room = outside * room_c / SURFACE_J_PER_K
    det = a * d - b * c
    return Thermal(
        slow_per_us=slow / 1e6,
        fast_per_us=fast / 1e6,
        ww=(a - fast) / gap,
        ws=b / gap,
        sw=c / gap,
        ss=(d - fast) / gap,
        winding_rest_c=(b * to_room - d * to_coolant) / det,
        surface_rest_c=(c * to_coolant - a * to_room) / det,
    )


class CoilTemperature(NamedTuple):
    winding_c: float
    surface_c: float


@dataclass(frozen=True, slots=True)
class CoilHeat:
    """Temperatures since the last pulse."""

    thermal: Thermal
    since_us: int
    winding_c: float
    surface_c: float
    # Distance from rest at since_us: slow and fast part of the winding, then of the surface.
    parts: tuple[float, float, float, float] = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        thermal = self.thermal
        w = self.winding_c - thermal.winding_rest_c
        s = self.surface_c - thermal.surface_rest_c
        slow_w = thermal.ww * w + thermal.ws * s
        slow_s = thermal.sw * w + thermal.ss * s
        object.__setattr__(self, "parts", (slow_w, w - slow_w, slow_s, s - slow_s))

    def at(self, now_us: int) -> CoilTemperature:
        """Temperatures now, degrees C."""
        thermal = self.thermal
        passed = now_us - self.since_us
        slow = math.exp(thermal.slow_per_us * passed)
        fast = math.exp(thermal.fast_per_us * passed)
        slow_w, fast_w, slow_s, fast_s = self.parts
        return CoilTemperature(
            thermal.winding_rest_c + slow * slow_w + fast * fast_w,
            thermal.surface_rest_c + slow * slow_s + fast * fast_s,
        )

    def heated(self, energy_j: float, now_us: int) -> CoilHeat:
        """After a pulse left this energy in the winding."""
        winding, surface = self.at(now_us)
        return CoilHeat(self.thermal, now_us, winding + energy_j / WINDING_J_PER_K, surface)
