"""What a person prescribed, and its compilation to a pulse plan. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal, InvalidOperation

from firmware_protocol.quantities import PercentMso
from tmsctl.safety.refusal import Refusal
from tmsctl.stimulation.plan import Plan, trains_of
from tmsctl.stimulation.protocol import PCT_MT, Protocol

MT_PERMILLE = range(1, 1001)
"""Motor thresholds that exist, permille of MSO."""


@dataclass(frozen=True, slots=True)
class Prescription:
    """A protocol at an intensity for one person.

    `mt_permille` (motor threshold, permille of MSO) is 1..1000 and `pct_mt` 1..200; what of this is
    allowed, the limits judge. `reduced`: a person accepted less where the ceiling needs it.
    Raises TypeError for anything but int, int, bool, and ValueError out of range.
    """

    protocol: Protocol
    mt_permille: int
    pct_mt: int
    reduced: bool

    def __post_init__(self) -> None:
        if type(self.mt_permille) is not int or type(self.pct_mt) is not int:
            raise TypeError(f"needs integers, got {self.mt_permille!r} and {self.pct_mt!r}")
        if type(self.reduced) is not bool:
            raise TypeError(f"reduced needs a bool, got {self.reduced!r}")
        if self.mt_permille not in MT_PERMILLE:
            raise ValueError(f"motor threshold {self.mt_permille} permille is outside 1..1000")
        if self.pct_mt not in PCT_MT:
            raise ValueError(f"intensity {self.pct_mt} % of motor threshold is outside 1..200")


def mt_permille(percent_mso: str | float) -> int:
    """A motor threshold as people write it (%MSO, at most one decimal), in permille of MSO.

    Raises ValueError with one sentence for anything that is not exactly 0.1 to 100.
    """
    try:
        percent = Decimal(str(percent_mso))
    except InvalidOperation:
        percent = Decimal("NaN")
    if not percent.is_finite() or not 0 < percent <= 100 or percent != round(percent, 1):
        raise ValueError(
            f"A motor threshold is 0.1 to 100 %MSO with at most one decimal, not {percent_mso!r}."
        )
    return int(percent * 10)


def compile_plan(prescription: Prescription, mso_max_pct: int) -> Plan | Refusal:
    """The plan at floor(pct_mt x motor threshold) %MSO: never above what was prescribed.

    More than `mso_max_pct` is refused, or given at `mso_max_pct` when a person accepted less.
    """
    protocol, mt, pct = prescription.protocol, prescription.mt_permille, prescription.pct_mt
    ceiling = mso_max_pct if 0 <= mso_max_pct <= PercentMso.MAX else 0  # a bad limit is zero
    dose = f"{pct} % of a motor threshold of {mt / 10:.1f} %MSO"
    mso = pct * mt // 1000
    if mso > ceiling:
        if not prescription.reduced:
            return Refusal(
                "dose-not-reachable",
                f"{dose} is {mso} %MSO, more than the ceiling of {ceiling} %MSO.",
                "Accept the ceiling as a reduced dose, or prescribe a lower % of motor threshold.",
            )
        mso = ceiling
    if mso == 0:
        return Refusal(
            "dose-zero",
            f"{dose} under a ceiling of {ceiling} %MSO leaves 0 %MSO; the least is 1 %MSO.",
            "Check the motor threshold, the % of it and the ceiling.",
        )
    return Plan(
        protocol=protocol,
        mso=PercentMso(mso),
        mt_permille=mt,
        pct_mt=pct,
        reduced=prescription.reduced,
        trains=trains_of(protocol),
    )
