"""What a coil's temperatures prove: how fast they move, and whether they move at all.

A reading must follow the heat while pulses begin. In a steady run a cooled coil settles, and a
reading that stands still proves nothing; so energy counts only in the first seconds of a run.
"""

from __future__ import annotations

from typing import Final

from drivers.contract import DeviceStatus
from firmware_protocol.quantities import SECOND, BootUs
from tmsctl.safety.dose import pulse_energy_uj

RUN_GAP_US: Final = 1_500_000
"""Pulses further apart than this belong to another run."""

YOUNG_US: Final = 10 * SECOND
"""A cooled winding of the reference model settles with a time constant of 4 s."""


class CoilWatch:
    """Facts for the rule `coil-sensor`. Bounded; a reading is kept for a second."""

    __slots__ = (
        "_delivered_uj", "_kept", "_last", "_pulse_at", "_run_began_at", "_step_dc", "rate_dc",
    )  # fmt: skip

    def __init__(self, step_dc: int) -> None:
        """`step_dc`: smallest change that the device's thermometer tells."""
        self._step_dc = step_dc
        self.rate_dc = 0  # change of the surface within the last second or little more, 0.1 C
        self._kept: DeviceStatus | None = None
        self._last: tuple[int, int] | None = None
        self._delivered_uj = 0
        self._pulse_at = self._run_began_at = -RUN_GAP_US

    @property
    def stuck_j(self) -> int:
        """Energy of the pulses of young runs since either temperature last moved; of a coarse
        thermometer its share for 0.1 degree."""
        return self._delivered_uj // (1_000_000 * self._step_dc)

    def reading(self, status: DeviceStatus) -> None:
        seen = (status.coil_dc, status.surface_dc)
        if seen != self._last:
            self._last, self._delivered_uj = seen, 0
        kept = self._kept
        if kept is None or status.asked_at - kept.asked_at > 3 * SECOND:
            self._kept, self.rate_dc = status, 0  # after a gap no rate is known
            return
        self.rate_dc = abs(status.surface_dc - kept.surface_dc)
        if status.asked_at - kept.asked_at >= SECOND:
            self._kept = status

    def pulse(self, at: BootUs, mso_permille: int) -> None:
        if at - self._pulse_at > RUN_GAP_US:
            self._run_began_at = at
        self._pulse_at = at
        if at - self._run_began_at < YOUNG_US:
            self._delivered_uj += pulse_energy_uj(mso_permille) // 100  # permille, not percent
