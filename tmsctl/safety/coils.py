"""What each type of coil does at full output, to recognise a wrong coil or a wrong pulse by."""

from __future__ import annotations

from typing import Final, NamedTuple


class CoilRow(NamedTuple):
    """A coil and its current slope at 100 %MSO."""

    name: str
    didt_max_centi: int | None  # 0.01 A/us; None: not known, so its pulses are not judged by it
    verified: bool
    source: str


_SET: Final = "SimNIBS coil set (Drakaki 2022): largest slope on the stimulator of its maker"
_MAGPRO: Final = "named by public clients (TMSEMG_toolbox, magicpy), which give no slope"
_DUOMAG: Final = "named by the MAGIC toolbox (nigelrogasch/MAGIC), which gives no slope"

COILS: Final[dict[int, CoilRow]] = {
    1: CoilRow("figure-8 70 mm", 11_473, False, _SET),
    2: CoilRow("double cone", 8_437, False, _SET),
    3: CoilRow("figure-8 50 mm", 9_759, False, _SET),
    4: CoilRow("figure-8 120 mm, bent", 10_293, False, _SET),
    56: CoilRow("Cool-B35", None, False, _MAGPRO),
    60: CoilRow("Cool-B65", None, False, _MAGPRO),
    62: CoilRow("MCF-B65", None, False, _MAGPRO),
    63: CoilRow("MCF-P-B65", None, False, _MAGPRO),
    64: CoilRow("Cool-B65 A/P", None, False, _MAGPRO),
    72: CoilRow("C-B60", None, False, _MAGPRO),
    73: CoilRow("C-B70", None, False, _MAGPRO),
    81: CoilRow("MC-125", None, False, _MAGPRO),
    82: CoilRow("MC-B70", None, False, _MAGPRO),
    86: CoilRow("D-B80", None, False, _MAGPRO),
    100: CoilRow("a DuoMAG's that is not named", None, False, _DUOMAG),
    101: CoilRow("70BF", None, False, _DUOMAG),
    102: CoilRow("70BF-COOL", None, False, _DUOMAG),
    103: CoilRow("120BFV", None, False, _DUOMAG),
    104: CoilRow("100R", None, False, _DUOMAG),
    105: CoilRow("125R", None, False, _DUOMAG),
    106: CoilRow("50BF", None, False, _DUOMAG),
    107: CoilRow("50BFT", None, False, _DUOMAG),
    200: CoilRow("any of Magstim", None, False, "the unit tells only that one is connected"),
}
"""By the type that the device tells. A type that is not here cannot be judged, and is refused."""
