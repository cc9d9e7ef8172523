"""Energy arithmetic of the Rapid², which the host must keep to: a unit that is driven beyond it is
damaged (MAGIC #22). Sources: rapid_system_info.yaml and formulas of MagPy; the same table in MAGIC
and in j-cronin's Rapid2Constants.py.
"""

from __future__ import annotations

import math
from typing import Final

REST_MIN_US: Final = 500_000
PULSES_MAX: Final = 6_000
_WATTS: Final = 1050  # what a unit can give continuously
_JOULES_PER_MINUTE: Final = 63_000

# J at the coil in tenths, at 0 to 100 %.
_DECIJOULES: Final[tuple[int, ...]] = (
    0, 0, 1, 2, 4, 6, 9, 12, 16, 20,
    25, 30, 36, 43, 49, 57, 64, 73, 82, 91,
    101, 111, 122, 133, 145, 157, 170, 184, 197, 212,
    227, 242, 258, 274, 291, 308, 326, 345, 364, 383,
    403, 423, 444, 466, 488, 510, 533, 556, 580, 605,
    630, 655, 681, 707, 734, 762, 790, 818, 847, 877,
    907, 937, 968, 1000, 1032, 1064, 1097, 1130, 1164, 1199,
    1234, 1269, 1305, 1342, 1379, 1417, 1455, 1493, 1532, 1572,
    1612, 1652, 1693, 1735, 1777, 1819, 1863, 1906, 1950, 1995,
    2040, 2085, 2131, 2178, 2225, 2273, 2321, 2369, 2419, 2468,
    2520,
)  # fmt: skip


def energy_dj(power_pct: int) -> int:
    """Energy of one pulse in 0.1 J.

    No value above 100 % is public: there it is the square law through 252 J, and 0.3 J more, for
    the table is up to 0.21 J off that law.
    """
    if power_pct <= 100:
        return _DECIJOULES[power_pct]
    return math.ceil(2520 * power_pct * power_pct / 10_000) + 3


def wait_min_us(power_pct: int, frequency_dhz: int, pulses: int) -> int:
    """Rest after a train before the next may begin, in microseconds, rounded up.

    pulses x (f J - 1050) / (1050 f) seconds, and at least half a second.
    """
    surplus = frequency_dhz * energy_dj(power_pct) - _WATTS * 100
    # f and J are in tenths: seconds = pulses (f J / 100 - 1050) / (1050 f / 10).
    wait = -(-pulses * surplus * 1_000_000 // (_WATTS * 10 * frequency_dhz))
    return max(REST_MIN_US, wait)


def on_time_max_us(power_pct: int, frequency_dhz: int) -> int | None:
    """Longest train in any minute, in microseconds, rounded down; None for no bound: 60 s and more
    is continuous, with PULSES_MAX at most.
    """
    power = frequency_dhz * energy_dj(power_pct)
    if power * 60 <= _JOULES_PER_MINUTE * 100:
        return None
    return _JOULES_PER_MINUTE * 100 * 1_000_000 // power


def continuous_max_dhz(power_pct: int) -> int | None:
    """Highest frequency that may go on without a rest, in 0.1 Hz; None for no bound."""
    energy = energy_dj(power_pct)
    return _WATTS * 100 // energy if energy else None
