"""The published tables: every cell, both sides of its row and column, more dose, by eye."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise, product
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.tables.plan_cases import plan, theta, train
from tmsctl.safety import guidelines as g
from tmsctl.safety.guideline_check import (
    beyond_table_us,
    pct_mt_of,
    shortest_interval_us,
    train_bounds,
    train_on_us,
)
from tmsctl.safety.guidelines import TrainLimit, iti_min_us, train_limit

# As written down in the reference, character for character. Unit s.
ROSSI_2009_TABLE_4 = """
freq_hz,mt90,mt100,mt110,mt120,mt130
1,>1800,>1800,>1800,>360,>50
5,>10,>10,>10,>10,>10
10,>5,>5,>5,4.2,2.9
20,2.05,2.05,1.6,1.0,0.55
25,1.28,1.28,0.84,0.4,0.24
"""
WASSERMANN_1998_TABLE_3 = """
freq_hz,mt100,mt110,mt120,mt130,mt140,mt150,mt160,mt170,mt180,mt190,mt200,mt210,mt220
1,>1800,>1800,360,>50,>50,>50,>50,27,11,11,8,7,6
5,>10,>10,>10,>10,7.6,5.2,3.6,2.6,2.4,1.6,1.4,1.6,1.2
10,>5,>5,4.2,2.9,1.3,0.8,0.9,0.8,0.5,0.6,0.4,0.3,0.3
20,2.05,1.6,1.0,0.55,0.35,0.25,0.25,0.15,0.2,0.25,0.2,0.1,0.1
25,1.28,0.84,0.4,0.24,0.2,0.24,0.2,0.12,0.08,0.12,0.12,0.08,0.08
"""
CHEN_1997_PART_B = """
freq_hz,mt100_s,mt100_n,mt110_s,mt110_n,mt120_s,mt120_n,mt130_s,mt130_n
1,>270,>270,>270,>270,>180,>180,50,50
5,10,50,10,50,10,50,10,50
10,5,50,5,50,3.2,32,2.2,22
20,1.5,30,1.2,24,0.8,16,0.4,8
25,1.0,25,0.7,17,0.3,7,0.2,5
"""
Cells = dict[tuple[int, int], tuple[Fraction, bool]]  # (Hz, %): seconds, written with `>`


def typed(text: str) -> Cells:
    head, *lines = text.split()
    columns = head.split(",")[1:]
    cells = {}
    for line in lines:
        hz, *words = line.split(",")
        for column, word in zip(columns, words, strict=True):
            if not column.endswith("_n"):
                pct = int(column.removesuffix("_s").removeprefix("mt"))
                cells[int(hz), pct] = Fraction(word.lstrip(">")), word.startswith(">")
    return cells


def running_minimum(cells: Cells) -> Cells:
    """Over intensity; where two are equal, the first one's mark."""
    result: Cells = {}
    for (hz, pct), cell in cells.items():
        smaller = [c for (h, p), c in result.items() if h == hz and p < pct and c[0] <= cell[0]]
        result[hz, pct] = min(smaller, default=cell, key=lambda c: c[0])
    return result


PAPERS = {
    g.ROSSI_2009.name: typed(ROSSI_2009_TABLE_4),
    g.WASSERMANN_1998.name: running_minimum(typed(WASSERMANN_1998_TABLE_3)),
    g.CHEN_1997_B.name: typed(CHEN_1997_PART_B),
}
HZ = (1, 5, 10, 20, 25)
COLUMNS = range(90, 230, 10)


@pytest.mark.parametrize("table", g.TABLES, ids=lambda table: table.name)
def test_every_cell_is_the_one_of_the_reference(table: g.TrainTable) -> None:
    assert {
        (hz, pct): (Fraction(cell.ms, 1_000), cell.tested)
        for hz, cells in table.rows.items()
        for pct, cell in zip(table.columns, cells, strict=True)
    } == PAPERS[table.name]
    assert not table.verified
    assert "from memory" in table.source
    assert table.advice == (table is g.CHEN_1997_B)


def test_the_tables_are_these_three() -> None:
    assert g.TABLES == (g.ROSSI_2009, g.WASSERMANN_1998, g.CHEN_1997_B)
    assert not g.VERIFIED


def expected(hz: int, pct: int) -> TrainLimit:
    """By definition: the least of all cells that bound this train or a weaker, slower one."""
    hard, soft = [inf], [inf]
    for table in g.TABLES:
        cells = PAPERS[table.name]
        end = max(p for _, p in cells)
        for (row, column), (seconds, tested) in cells.items():
            least = min(p for _, p in cells)
            if row <= hz and column <= max(least, min(pct, end)):
                (soft if tested or table.advice else hard).append(float(seconds))
    as_us = [None if value == inf else round(value * 1_000_000) for value in map(min, (hard, soft))]
    return TrainLimit(*as_us)


@pytest.mark.parametrize("hz", HZ)
@pytest.mark.parametrize("pct", COLUMNS)
def test_every_cell_is_looked_up_on_its_edge_and_the_next_one_beyond_it(hz: int, pct: int) -> None:
    period_us = 1_000_000 // hz
    assert train_limit(period_us, Fraction(pct), True) == expected(hz, pct)
    if pct > COLUMNS[0]:  # just above the column before is this column
        above = Fraction((pct - 10) * 1_000_000 + 1, 1_000_000)
        assert train_limit(period_us, above, True) == expected(hz, pct)
    slower = 0 if hz == HZ[0] else HZ[HZ.index(hz) - 1]
    if slower:  # just faster than the row before is this row
        assert train_limit(1_000_000 // slower - 1, Fraction(pct), True) == expected(hz, pct)


# hard and soft limit, s, of those that matter most; None: no such limit
LITERAL = {
    (1, 100): (None, 270), (1, 110): (None, 270), (1, 120): (360, 180), (1, 130): (360, 50),
    (5, 110): (None, 10), (5, 120): (360, 10),
    (10, 100): (None, 5), (10, 110): (None, 5), (10, 120): (4.2, 3.2), (10, 130): (2.9, 2.2),
    (10, 140): (1.3, 2.2),
    (20, 90): (2.05, 1.5), (20, 100): (2.05, 1.5), (20, 110): (1.6, 1.2), (20, 120): (1.0, 0.8),
    (20, 130): (0.55, 0.4), (25, 100): (1.28, 1.0), (25, 110): (0.84, 0.7), (25, 120): (0.4, 0.3),
    (25, 130): (0.24, 0.2), (25, 220): (0.08, 0.2),
}  # fmt: skip


@pytest.mark.parametrize(("place", "seconds"), [*LITERAL.items()])
def test_these_limits_are_known_by_heart(
    place: tuple[int, int], seconds: tuple[float | None, float | None]
) -> None:
    hz, pct = place
    us = [None if value is None else round(value * 1_000_000) for value in seconds]
    assert train_limit(1_000_000 // hz, Fraction(pct), True) == TrainLimit(*us)


@pytest.mark.parametrize(("hz", "pct"), [*product(HZ, COLUMNS)])
def test_by_eye_the_next_column_counts(hz: int, pct: int) -> None:
    by_eye = train_limit(1_000_000 // hz, Fraction(pct), False)
    if pct == 220:
        assert by_eye == TrainLimit(None, None)
    elif pct == 90:  # Rossi begins at 90 %, the others at 100 %, each is moved by one
        assert by_eye == expected(hz, 110)
    else:
        assert by_eye == expected(hz, pct + 10)


REFUSED = TrainLimit(None, None)


def test_what_no_table_covers_is_refused() -> None:
    assert train_limit(40_000, Fraction(100), True) != REFUSED
    for interval_us in (39_999, 20_000, 1, 0, -1):
        assert train_limit(interval_us, Fraction(100), True) == REFUSED
    assert train_limit(100_000, Fraction(220), True) != REFUSED
    assert train_limit(100_000, Fraction(2_200_001, 10_000), True) == REFUSED
    assert train_limit(100_000, Fraction(210), False) != REFUSED
    assert train_limit(100_000, Fraction(2_100_001, 10_000), False) == REFUSED
    assert train_limit(100_000, Fraction(0), True) == REFUSED
    assert train_limit(100_000, Fraction(1, 10), True) == expected(10, 90)


def test_a_train_slower_than_every_row_counts_as_the_slowest() -> None:
    assert train_limit(60_000_000, Fraction(120), True) == expected(1, 120)


def verdict(on_us: int, limit: TrainLimit) -> int:
    """0 allowed, 1 with a reason, 2 refused."""
    known = [bound for bound in limit if bound is not None]
    if not known or (limit.hard_us is not None and on_us > limit.hard_us):
        return 2
    return int(on_us > min(known))


INTERVALS = st.integers(30_000, 2_000_000)
PERCENTS = st.fractions(min_value=Fraction(1, 2), max_value=230, max_denominator=1_000)


@given(INTERVALS, INTERVALS, PERCENTS, PERCENTS, st.integers(1, 2_000), st.integers(1, 2_000),
       st.booleans(), st.booleans())  # fmt: skip
def test_more_dose_never_allows_more(
    interval_us: int, other_us: int, pct: Fraction, other_pct: Fraction, pulses: int, others: int,
    by_emg: bool, other_by_emg: bool,
) -> None:  # fmt: skip
    """Faster, stronger, longer, or by eye: never a milder word."""
    slow_us, fast_us = max(interval_us, other_us), min(interval_us, other_us)
    low, high = sorted((pct, other_pct))
    short_us, long_us = sorted((pulses * slow_us, others * slow_us))
    mild = verdict(short_us, train_limit(slow_us, low, by_emg or other_by_emg))
    assert mild <= verdict(long_us, train_limit(fast_us, high, by_emg and other_by_emg))


@given(INTERVALS, PERCENTS, st.booleans())
def test_no_limit_is_looser_than_one_of_its_own_tables(
    interval_us: int, pct: Fraction, by_emg: bool
) -> None:
    """The hard limit is at most every plain cell, the soft one at most every other cell."""
    limit = train_limit(interval_us, pct, by_emg)
    if limit == REFUSED:
        return
    hz = next(row for row in HZ if row * interval_us >= 1_000_000)
    for table in g.TABLES:
        cells = PAPERS[table.name]
        columns = sorted({p for _, p in cells})
        reached = [p for p in columns if p >= pct]
        place = columns.index(reached[0]) + (0 if by_emg else 1) if reached else len(columns)
        if place < len(columns):
            seconds, tested = cells[hz, columns[place]]
            bound = limit.soft_us if tested or table.advice else limit.hard_us
            assert bound is not None
            assert bound <= seconds * 1_000_000


# -- between trains --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pct", "by_emg", "seconds"),
    [
        (Fraction(1), True, 5),
        (Fraction(110), True, 5),
        (Fraction(110_001, 1_000), True, 10),
        (Fraction(120), True, 10),
        (Fraction(100), False, 5),
        (Fraction(100_001, 1_000), False, 10),
        (Fraction(300), False, 10),
    ],
)
def test_more_time_is_needed_above_110_percent(pct: Fraction, by_emg: bool, seconds: int) -> None:
    assert iti_min_us(pct, by_emg) == seconds * 1_000_000


# -- theta burst and the shape of trains -----------------------------------------------------


def test_the_rules_of_theta_burst_are_those_that_were_reviewed() -> None:
    assert g.THETA == (
        ("pulses in a burst", "at most", 3, ""),
        ("pulse to pulse inside a burst", "at least", 20_000, "us"),
        ("burst to burst", "at least", 200_000, "us"),
        ("length of a train, one of several", "at most", 2_000_000, "us"),
        ("off-time between trains", "at least", 8_000_000, "us"),
        ("length of a train that is the only one", "at most", 40_000_000, "us"),
        ("intensity of such a long train", "at most", 80, "% of MT"),
        ("intensity", "at most", 120, "% of MT"),
        ("pulses in a session", "at most", 1_800, ""),
    )
    assert (g.COLUMN_PCT, g.ITI_HIGH_ABOVE_PCT) == (10, 110)
    assert "proposed" in g.THETA_SOURCE
    assert "proposed" in g.ITI_SOURCE


@pytest.mark.parametrize(
    ("pulses", "interval_us", "fast"),
    [(1, 0, False), (1, 20_000, False), (2, 39_999, True), (2, 40_000, False), (3, 20_000, True)],
)
def test_bursts_above_25_hz_are_theta_burst(pulses: int, interval_us: int, fast: bool) -> None:
    assert g.is_theta(pulses, interval_us) == fast


@pytest.mark.parametrize(
    ("pulses", "interval_us", "on_us"),
    [
        (train(), None, 0),
        (train(0, 1, 700), None, 700),
        (train(0, 40, 100_000), 100_000, 4_000_000),
        (theta(0, 10), 20_000, 2_000_000),
        (theta(0, 2, 50_000), 10_000, 100_000),  # the gap between two bursts is the shortest
        (theta(0, 1, 1), 20_000, 60_000),
        (train(0, 1, 0, 5, 100_000), 100_000, 500_000),
    ],
)
def test_a_train_counts_with_its_whole_last_period_and_its_shortest_interval(
    pulses: object, interval_us: int | None, on_us: int
) -> None:
    assert shortest_interval_us(pulses) == interval_us  # type: ignore[arg-type]
    assert train_on_us(pulses) == on_us  # type: ignore[arg-type]


def test_the_intensity_is_that_which_would_be_delivered() -> None:
    assert pct_mt_of(plan(mso=60, mt=501)) == Fraction(60_000, 501)


@pytest.mark.parametrize(
    ("alone", "pct", "by_emg", "hard_s"),
    [
        (True, 80, True, 40),
        (True, Fraction(80_001, 1_000), True, 2),
        (True, 70, False, 40),
        (True, Fraction(70_001, 1_000), False, 2),
        (False, 80, True, 2),
        (False, 120, True, 2),
    ],
)
def test_a_long_train_of_theta_burst_is_alone_and_weak(
    alone: bool, pct: Fraction, by_emg: bool, hard_s: int
) -> None:
    limit = train_bounds(theta(), 20_000, alone, Fraction(pct), by_emg)
    assert limit == TrainLimit(hard_s * 1_000_000, None)
    plain = train_bounds(train(0, 40, 100_000), 100_000, alone, Fraction(pct), by_emg)
    assert plain == train_limit(100_000, Fraction(pct), by_emg)


def test_only_a_train_beyond_its_tables_needs_an_exception() -> None:
    def needs(pulses: int, pct: int) -> int:
        return beyond_table_us(train(0, pulses, 100_000), False, Fraction(pct))

    assert (needs(32, 120), needs(33, 120), needs(43, 120)) == (0, 3_300_000, 4_300_000)
    assert (needs(50, 110), needs(51, 110)) == (0, 5_100_000)
    assert beyond_table_us(train(), True, Fraction(120)) == 0
    assert beyond_table_us(train(0, 2, 30_000), True, Fraction(100)) == 60_000
    assert beyond_table_us(theta(0, 200), True, Fraction(80)) == 0
    assert beyond_table_us(theta(0, 200), True, Fraction(81)) == 40_000_000
    assert beyond_table_us(theta(0, 11), False, Fraction(80)) == 2_200_000


def test_rows_and_columns_rise() -> None:
    for table in g.TABLES:
        for places in (table.columns, tuple(table.rows)):
            assert all(a < b for a, b in pairwise(places))
