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
        "_delivered_uj", "_kept", "_kept_at", "_last", "_pulse_at", "_run_began_at", "rate_dc",
    )  # fmt: skip

    def __init__(self) -> None:
        self.rate_dc = 0  # change of the surface within the last second or little more, 0.1 C
        self._kept: int | None = None
        self._kept_at = 0
        self._last = (0, 0)
        self._delivered_uj = 0
        self._pulse_at = self._run_began_at = -RUN_GAP_US

    @property
    def stuck_j(self) -> int:
        """Energy of the pulses of young runs since either temperature last moved."""
        return self._delivered_uj // 1_000_000

    def reading(self, status: DeviceStatus) -> None:
        seen = (status.coil_dc, status.surface_dc)
        if seen != self._last:
            self._last, self._delivered_uj = seen, 0
        passed_us = status.asked_at - self._kept_at
        if self._kept is None or passed_us > 3 * SECOND:  # after a gap no rate is known
            self._kept, self._kept_at, self.rate_dc = status.surface_dc, status.asked_at, 0
            return
        self.rate_dc = abs(status.surface_dc - self._kept)
        if passed_us >= SECOND:
            self._kept, self._kept_at = status.surface_dc, status.asked_at

    def pulse(self, at: BootUs, mso_permille: int) -> None:
        if at - self._pulse_at > RUN_GAP_US:
            self._run_began_at = at
        self._pulse_at = at
        if at - self._run_began_at < YOUNG_US:
            self._delivered_uj += pulse_energy_uj(mso_permille) // 100  # permille, not percent
