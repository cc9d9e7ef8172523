"""P10: Hz and % as papers write them against whole microseconds and permille, exact both ways."""

from __future__ import annotations

from fractions import Fraction

from firmware_protocol.quantities import PercentMso
from tests.proofs.views import REQUEST, rule_of
from tmsctl.safety.guideline_check import train_on_us
from tmsctl.safety.guidelines import ROSSI_2009, TABLES, is_theta, train_limit
from tmsctl.safety.limits import GENERAL
from tmsctl.stimulation.plan import Train

SECOND = 1_000_000
ROWS_HZ = sorted(ROSSI_2009.rows)


def near(hz: int) -> range:
    """Every whole interval within 5 us of this frequency's own, which is whole."""
    assert hz * (SECOND // hz) == SECOND
    return range(SECOND // hz - 5, SECOND // hz + 6)


INTERVALS_US = sorted(
    {
        *(us for hz in ROWS_HZ for us in near(hz)),
        *range(39_000, 1_100_000, 1_499),
        333_333, 333_334, 3_000_000, 66_666, 66_667, 142_857, 142_858,
    }
)  # fmt: skip


def row_hz(interval_us: int) -> int | None:
    """By definition: the lowest row that is no slower than this frequency, an exact fraction."""
    hz = Fraction(SECOND, interval_us)
    return next((row for row in ROWS_HZ if row >= hz), None)


def test_every_table_has_the_same_rows() -> None:
    assert all(sorted(table.rows) == ROWS_HZ for table in TABLES)


def test_a_frequency_between_two_rows_counts_as_the_faster_one_to_the_microsecond() -> None:
    for interval_us in INTERVALS_US:
        row = row_hz(interval_us)
        for pct in (Fraction(80), Fraction(100), Fraction(120), Fraction(361, 3)):
            found = train_limit(interval_us, pct, True)
            if row is None:
                assert found == (None, None), interval_us
            else:
                assert found == train_limit(SECOND // row, pct, True), interval_us


def test_no_frequency_above_the_last_row_is_covered_and_a_burst_of_it_is_theta() -> None:
    for interval_us in near(max(ROWS_HZ)):
        above = Fraction(SECOND, interval_us) > max(ROWS_HZ)
        assert (train_limit(interval_us, Fraction(100), True) == (None, None)) == above
        assert is_theta(3, interval_us) == above


def test_a_train_lasts_exactly_its_pulses_over_its_frequency() -> None:
    for interval_us in INTERVALS_US:
        for pulses in (2, 10, 40, 1_800):
            train = Train(0, 0, pulses, interval_us, 1, 0)
            assert Fraction(train_on_us(train), SECOND) == pulses / Fraction(SECOND, interval_us)


def test_the_ceiling_in_percent_of_the_threshold_is_the_exact_fraction() -> None:
    """All whole intensities with all thresholds of a permille, without a division."""
    rule = rule_of("ceiling-mt")
    for mso in range(1, 101):
        block = REQUEST.block.__class__(4, PercentMso(mso), 1, 0, 1, 0)
        asked = REQUEST._replace(block=block)
        lowest = Fraction(1_000 * mso, GENERAL.mt_max_pct)  # permille at which it just fits
        for mt in {1, 500, 1_000, *range(int(lowest) - 3, int(lowest) + 4)} - {0}:
            refused = rule(asked._replace(mt_permille=mt), GENERAL) is not None
            assert refused == (mt < lowest), (mso, mt)
