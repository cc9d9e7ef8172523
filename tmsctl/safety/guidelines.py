"""Published safety tables as data, and how they are looked up: the longest single train, the least
time between trains, and the rules for theta burst. Pure.

The cells were typed from memory and are not verified; a clinician has to re-type them from the
papers. Frequency and intensity are rounded up to the next row and column, never interpolated.
Where two tables disagree the stricter one counts. A cell written `>` in the paper is the longest
train that was tested and not a bound; beyond it a person must give a reason.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Final, NamedTuple

from firmware_protocol.quantities import MS, SECOND

VERIFIED: Final = False
"""Of every figure in this file."""


class Cell(NamedTuple):
    """Longest train, ms. `tested`: written `>` in the paper."""

    ms: int
    tested: bool


@dataclass(frozen=True, slots=True)
class TrainTable:
    """Longest single train by frequency (rows, Hz) and intensity (columns, % of MT)."""

    name: str
    source: str
    advice: bool  # every cell is soft
    columns: tuple[int, ...]
    rows: Mapping[int, tuple[Cell, ...]]
    verified: bool = VERIFIED


def _row(text: str) -> tuple[Cell, ...]:
    """Cells in seconds as the papers write them, `>` in front of those that are no bounds."""
    return tuple(
        Cell(int(Fraction(word.lstrip(">")) * 1_000), word.startswith(">")) for word in text.split()
    )


ROSSI_2009: Final = TrainTable(
    "Rossi 2009, table 4",
    "Rossi et al., Clin Neurophysiol 2009;120:2008-2039, table 4: consensus, from memory",
    False,
    (90, 100, 110, 120, 130),
    {
        1: _row(">1800 >1800 >1800 >360 >50"),
        5: _row(">10 >10 >10 >10 >10"),
        10: _row(">5 >5 >5 4.2 2.9"),
        20: _row("2.05 2.05 1.6 1.0 0.55"),
        25: _row("1.28 1.28 0.84 0.4 0.24"),
    },
)

WASSERMANN_1998: Final = TrainTable(
    "Wassermann 1998, table 3, monotone",
    "Wassermann, Electroencephalogr Clin Neurophysiol 1998;108:1-16, table 3, from memory; the "
    "running minimum over intensity, because the printed table is not monotone",
    False,
    (100, 110, 120, 130, 140, 150, 160, 170, 180, 190, 200, 210, 220),
    {
        1: _row(">1800 >1800 360 >50 >50 >50 >50 27 11 11 8 7 6"),
        5: _row(">10 >10 >10 >10 7.6 5.2 3.6 2.6 2.4 1.6 1.4 1.4 1.2"),
        10: _row(">5 >5 4.2 2.9 1.3 0.8 0.8 0.8 0.5 0.5 0.4 0.3 0.3"),
        20: _row("2.05 1.6 1.0 0.55 0.35 0.25 0.25 0.15 0.15 0.15 0.15 0.1 0.1"),
        25: _row("1.28 0.84 0.4 0.24 0.2 0.2 0.2 0.12 0.08 0.08 0.08 0.08 0.08"),
    },
)

CHEN_1997_B: Final = TrainTable(
    "Chen 1997, part B",
    "Chen et al., Electroencephalogr Clin Neurophysiol 1997;105:415-421, part B (Rossi 2009, "
    "table 5 B): advice, from memory",
    True,
    (100, 110, 120, 130),
    {
        1: _row(">270 >270 >180 50"),
        5: _row("10 10 10 10"),
        10: _row("5 5 3.2 2.2"),
        20: _row("1.5 1.2 0.8 0.4"),
        25: _row("1.0 0.7 0.3 0.2"),
    },
)

TABLES: Final = (ROSSI_2009, WASSERMANN_1998, CHEN_1997_B)


class TrainLimit(NamedTuple):
    """Longest train: beyond `soft_us` with a reason, beyond `hard_us` not. Both None: refuse."""

    hard_us: int | None
    soft_us: int | None


@lru_cache(maxsize=256)
def train_limit(interval_us: int, pct_mt: Fraction, by_emg: bool) -> TrainLimit:
    """What the tables say of one train of pulses `interval_us` apart at this % of MT.

    The train's length counts its whole last interval. A motor threshold measured by eye reads some
    11 % too high (Westin 2014), so one column more counts. What bounds a weaker or slower train
    bounds this one too: more dose never allows more.
    """
    hard: list[int] = []
    soft: list[int] = []
    covered = False
    for table in TABLES:
        row, column = _place(table, interval_us, pct_mt, by_emg)
        if row is None:
            return TrainLimit(None, None)
        covered |= column < len(table.columns)
        for hz, cells in table.rows.items():
            for cell in cells[: column + 1] if hz <= row else ():
                (soft if table.advice or cell.tested else hard).append(cell.ms * MS)
    if not covered or pct_mt <= 0:
        return TrainLimit(None, None)
    return TrainLimit(min(hard, default=None), min(soft, default=None))


def _place(
    table: TrainTable, interval_us: int, pct_mt: Fraction, by_emg: bool
) -> tuple[int | None, int]:
    """Row (Hz, None above all) and column (from 0, behind the last when above all)."""
    # f <= row in Hz, without division: `row` intervals last a second or more.
    row = next((hz for hz in sorted(table.rows) if hz * interval_us >= SECOND), None)
    end = len(table.columns)
    column = next((i for i, pct in enumerate(table.columns) if pct_mt <= pct), end)
    return row, column if by_emg else min(end, column + 1)


# -- between trains ---------------------------------------------------------------------------

ITI_MIN_US: Final = 5 * SECOND
ITI_HIGH_MIN_US: Final = 10 * SECOND
ITI_HIGH_ABOVE_PCT: Final = 110
ITI_SOURCE: Final = (
    "Chen 1997, part A, from memory but for 110 %: 5 s safe up to 110 %, 1 s unsafe at every "
    "intensity (the abstract says above 100 %, the table also at 100 %: the stricter); above "
    "110 %, rounded up to 120 %, insufficient data even for 5 s, so 10 s; proposed"
)
COLUMN_PCT: Final = 10
"""One column of intensity, % of MT."""


def iti_min_us(pct_mt: Fraction, by_emg: bool) -> int:
    """Least off-time between two trains, from the end of the last interval; see ITI_SOURCE."""
    high = felt_pct(pct_mt, by_emg) > ITI_HIGH_ABOVE_PCT
    return ITI_HIGH_MIN_US if high else ITI_MIN_US


def felt_pct(pct_mt: Fraction, by_emg: bool) -> Fraction:
    """The intensity that counts, % of MT: one column more where MT was measured by eye."""
    return pct_mt if by_emg else pct_mt + COLUMN_PCT


# -- theta burst ------------------------------------------------------------------------------


THETA_SOURCE: Final = (
    "theta burst: Huang 2005, Oberman 2011, Rossi 2021 and cleared practice; no table was ever "
    "published, so these rules are proposed, on the strict side, from memory"
)
THETA_PULSES_PER_BURST_MAX: Final = 3
THETA_INTERVAL_MIN_US: Final = 20_000
THETA_BURST_PERIOD_MIN_US: Final = 200_000
THETA_TRAIN_MAX_US: Final = 2_000_000
THETA_OFF_MIN_US: Final = 8_000_000
THETA_CONTINUOUS_MAX_US: Final = 40_000_000
THETA_CONTINUOUS_MAX_PCT: Final = 80
THETA_MAX_PCT: Final = 120
THETA_SESSION_PULSES_MAX: Final = 1_800

THETA: Final = (
    ("pulses in a burst", "at most", THETA_PULSES_PER_BURST_MAX, ""),
    ("pulse to pulse inside a burst", "at least", THETA_INTERVAL_MIN_US, "us"),
    ("burst to burst", "at least", THETA_BURST_PERIOD_MIN_US, "us"),
    ("length of a train, one of several", "at most", THETA_TRAIN_MAX_US, "us"),
    ("off-time between trains", "at least", THETA_OFF_MIN_US, "us"),
    ("length of a train that is the only one", "at most", THETA_CONTINUOUS_MAX_US, "us"),
    ("intensity of such a long train", "at most", THETA_CONTINUOUS_MAX_PCT, "% of MT"),
    ("intensity", "at most", THETA_MAX_PCT, "% of MT"),
    ("pulses in a session", "at most", THETA_SESSION_PULSES_MAX, ""),
)
"""The same figures, for people."""


def is_theta(pulses_per_burst: int, interval_us: int) -> bool:
    """Bursts faster than every row of the tables; slower ones are judged as plain trains."""
    return pulses_per_burst > 1 and interval_us * max(ROSSI_2009.rows) < SECOND
