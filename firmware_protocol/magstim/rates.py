"""Highest frequency of a train by power, supply and type of a Rapid².

Source: rapid_system_info.yaml of MagPy. A brochure of the maker (SciCrunch SCR_026437) gives the
Super Rapid² 30 Hz at 80 % where that table has 35: the lower value holds here, from 80 % upwards.
The points that the brochure has of the type with one power supply agree with the table.
"""

from __future__ import annotations

import enum
from itertools import pairwise
from typing import Final


class Supply(enum.IntEnum):
    V115 = 115
    V240 = 240


class Kind(enum.IntEnum):
    RAPID = 0
    SUPER = 1
    SUPER_PLUS = 2


FREQUENCY_MAX_HZ: Final = {Supply.V240: 100, Supply.V115: 60}
BROCHURE_FROM_PCT: Final = 80
BROCHURE_MAX_HZ: Final = 30

_Steps = tuple[tuple[int, int], ...]

# Last % of a range, and its highest frequency in Hz.
_V240_RAPID: Final[_Steps] = (
    (30, 50), (31, 46), (32, 45), (33, 44), (34, 42), (36, 41), (38, 39), (39, 38), (40, 37),
    (41, 36), (42, 34), (47, 33), (48, 32), (49, 31), (51, 30), (53, 29), (55, 28), (57, 27),
    (59, 26), (61, 25), (63, 24), (65, 23), (67, 22), (69, 21), (73, 20), (78, 19), (84, 18),
    (91, 17), (97, 16), (100, 15),
)  # fmt: skip
_V240_SUPER: Final[_Steps] = (
    (30, 100), (31, 98), (32, 95), (33, 93), (34, 90), (35, 88), (36, 85), (37, 83), (38, 80),
    (39, 78), (40, 75), (41, 73), (42, 70), (43, 68), (44, 65), (45, 63), (46, 60), (47, 58),
    (48, 55), (49, 53), *((pct, 75 - pct // 2) for pct in range(51, 101, 2)), (100, 25),
)  # fmt: skip
_V240_PLUS: Final[_Steps] = (
    (48, 100), (49, 98), (50, 97), (51, 95), (52, 93), (53, 91), (55, 88), (56, 87), (57, 85),
    (58, 84), (59, 82), (60, 80), (61, 79), (62, 77), (66, 74), (67, 71), (68, 70), (69, 69),
    (71, 68), (72, 66), (73, 65), (76, 62), (77, 60), (78, 59), (79, 58), (81, 57), (82, 56),
    (84, 55), (85, 53), (86, 52), (87, 51), (89, 50), (90, 49), (91, 48), (92, 47), (94, 46),
    (95, 45), (96, 44), (97, 43), (99, 42), (100, 41),
)  # fmt: skip
_V115_RAPID: Final[_Steps] = (
    (30, 36), (32, 35), (33, 34), (34, 33), (36, 32), (37, 31), (38, 30), (39, 29), (41, 28),
    (42, 27), (44, 26), (46, 25), (48, 24), (50, 23), (52, 22), (55, 21), (57, 20), (60, 19),
    (64, 18), (67, 17), (72, 16), (76, 15), (81, 14), (86, 13), (94, 12), (100, 11),
)  # fmt: skip
_V115_SUPER: Final[_Steps] = (
    (37, 60), (38, 59), (39, 57), (40, 55), (41, 54), (42, 53), (43, 52), (44, 51), (45, 50),
    (46, 49), (47, 47), (48, 46), (49, 45), (50, 44), (51, 43), (53, 42), (54, 41), (56, 40),
    (57, 39), (59, 38), (60, 37), (62, 36), (64, 35), (66, 34), (68, 33), (70, 32), (72, 31),
    (74, 30), (76, 29), (79, 28), (82, 27), (86, 26), (89, 25), (93, 24), (96, 23), (100, 22),
)  # fmt: skip
_V115_PLUS: Final[_Steps] = (
    (49, 60), (50, 58), (52, 56), (53, 54), (54, 53), (55, 52), (56, 51), (57, 50), (58, 49),
    (59, 48), (60, 47), (62, 46), (63, 45), (64, 44), (66, 43), (67, 42), (68, 41), (70, 40),
    (72, 39), (73, 38), (75, 37), (77, 36), (79, 35), (81, 34), (84, 33), (86, 32), (88, 31),
    (91, 30), (93, 29), (96, 28), (99, 27), (100, 25),
)  # fmt: skip

STEPS: Final[dict[tuple[Supply, Kind], _Steps]] = {
    (Supply.V240, Kind.RAPID): _V240_RAPID,
    (Supply.V240, Kind.SUPER): _V240_SUPER,
    (Supply.V240, Kind.SUPER_PLUS): _V240_PLUS,
    (Supply.V115, Kind.RAPID): _V115_RAPID,
    (Supply.V115, Kind.SUPER): _V115_SUPER,
    (Supply.V115, Kind.SUPER_PLUS): _V115_PLUS,
}
"""As MagPy has them, before the brochure."""


def _spread(steps: _Steps) -> tuple[int, ...]:
    """Hz for each % from 0."""
    hz: list[int] = []
    for (before, _), (last, step_hz) in pairwise(((-1, 0), *steps)):
        hz += [step_hz] * (last - before)
    return tuple(hz)


_TABLE: Final = {key: _spread(steps) for key, steps in STEPS.items()}


def published_max_hz(supply: Supply, kind: Kind, power_pct: int) -> int:
    """The table of MagPy at 0 to 100 %."""
    return _TABLE[supply, kind][power_pct]


def frequency_max_dhz(supply: Supply, kind: Kind, power_pct: int) -> int:
    """Highest frequency of a train in 0.1 Hz. 0 above 100 %: no trains at enhanced power."""
    if power_pct > 100:
        return 0
    hz = published_max_hz(supply, kind, power_pct)
    if (supply, kind) == (Supply.V240, Kind.SUPER) and power_pct >= BROCHURE_FROM_PCT:
        hz = min(hz, BROCHURE_MAX_HZ)
    return hz * 10
