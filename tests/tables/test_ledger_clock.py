"""Ledger time counts what has passed, and nothing that was done to a clock makes it count more."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from tmsctl.records.clock import Mark, Moment, Reading, doubt, ledger_us, marked, microseconds
from tmsctl.records.clock import moment as moment_of

SECOND = 1_000_000
HOUR = 3_600 * SECOND
YEAR = 365 * 24 * HOUR
NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
NOON_US = microseconds(NOON)
MARK = Mark("boot-1", boot_us=50 * SECOND, utc_us=NOON_US, ledger_us=NOON_US + 7)
"""Confirmed at noon, 50 s after the start of the computer; ledger time is 7 us ahead of UTC."""


def reading(boot_us: int, utc_us: int, boot_id: str = "boot-1") -> Reading:
    return Reading(
        boot_id, boot_us, datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=utc_us)
    )


def test_microseconds_are_exact_and_of_any_zone() -> None:
    at = datetime(2026, 1, 31, 13, 0, 0, 1, tzinfo=timezone(timedelta(hours=1)))
    assert microseconds(at) == NOON_US + 1
    assert microseconds(datetime(1970, 1, 1, tzinfo=UTC)) == 0
    assert reading(0, NOON_US + 1).utc_us == NOON_US + 1


def test_without_any_mark_ledger_time_is_utc() -> None:
    assert ledger_us(None, reading(5, NOON_US)) == NOON_US


@pytest.mark.parametrize("step_us", [-YEAR, -HOUR, 0, 1, HOUR, YEAR])
@pytest.mark.parametrize("passed_us", [0, 1, 5 * HOUR])
def test_within_one_start_of_the_computer_no_step_of_the_wall_clock_matters(
    step_us: int, passed_us: int
) -> None:
    now = reading(MARK.boot_us + passed_us, NOON_US + passed_us + step_us)
    assert ledger_us(MARK, now) == MARK.ledger_us + passed_us


@pytest.mark.parametrize(
    ("boot_us", "utc_passed_us", "passed_us"),
    [
        (60 * SECOND, 10 * HOUR, 10 * HOUR),  # it was off for ten hours
        (60 * SECOND, 60 * SECOND, 60 * SECOND),
        (60 * SECOND, 60 * SECOND - 1, 60 * SECOND),  # at least what this start has run
        (60 * SECOND, -YEAR, 60 * SECOND),  # never backwards
        (60 * SECOND, 60 * SECOND + 1, 60 * SECOND + 1),
    ],
)
def test_across_a_start_of_the_computer_the_wall_clock_counts_but_never_backwards(
    boot_us: int, utc_passed_us: int, passed_us: int
) -> None:
    now = reading(boot_us, NOON_US + utc_passed_us, "boot-2")
    assert ledger_us(MARK, now) == MARK.ledger_us + passed_us


def test_a_wrong_clock_that_was_confirmed_and_later_put_right_does_not_count_twice() -> None:
    """A year ahead by mistake on the second start, right again on the third."""
    second = marked(MARK, reading(10, NOON_US + HOUR + YEAR, "boot-2"))
    third = marked(second, reading(10, NOON_US + 2 * HOUR, "boot-3"))
    assert second.ledger_us - MARK.ledger_us == HOUR + YEAR  # a person said so
    assert third.ledger_us - second.ledger_us == 10  # only what is certain
    fourth = marked(third, reading(10, NOON_US + 5 * HOUR, "boot-4"))
    assert fourth.ledger_us - third.ledger_us == 3 * HOUR  # and from then on exactly


def test_a_clock_that_is_corrected_within_one_start_counts_right_from_the_next_start_on() -> None:
    """Confirmed an hour slow, then set and confirmed again."""
    slow = marked(None, reading(0, NOON_US - HOUR))
    right = marked(slow, reading(10 * SECOND, NOON_US + 10 * SECOND))
    assert right.ledger_us == slow.ledger_us + 10 * SECOND
    now = reading(5, NOON_US + 6 * HOUR, "boot-2")
    assert ledger_us(right, now) - right.ledger_us == 6 * HOUR - 10 * SECOND


@pytest.mark.parametrize(
    ("now", "words"),
    [
        (reading(MARK.boot_us, NOON_US), ""),
        (reading(MARK.boot_us + HOUR, NOON_US + HOUR), ""),
        (reading(MARK.boot_us + HOUR, NOON_US + HOUR + 2 * SECOND), ""),
        (reading(MARK.boot_us + HOUR, NOON_US + HOUR - 2 * SECOND), ""),
        (reading(MARK.boot_us + HOUR, NOON_US + HOUR + 2 * SECOND + 1), "set forward by 2 s"),
        (reading(MARK.boot_us + HOUR, NOON_US + HOUR - 2 * SECOND - 1), "set back by 2 s"),
        (reading(MARK.boot_us + HOUR, NOON_US + YEAR), "set forward by 31532400 s"),
        (reading(MARK.boot_us, NOON_US, "boot-2"), "since the computer was started"),
    ],
)
def test_a_person_looks_at_the_clock_after_a_start_and_after_a_step_of_more_than_2_s(
    now: Reading, words: str
) -> None:
    found = doubt(MARK, now)
    assert words in found
    assert bool(found) == bool(words)


def test_a_journal_without_a_mark_needs_a_person() -> None:
    assert doubt(None, reading(1, NOON_US)) != ""


def test_small_steps_do_not_add_up_unseen() -> None:
    """Each is compared with what was confirmed, not with the step before."""
    found = [bool(doubt(MARK, reading(MARK.boot_us, NOON_US + s * SECOND))) for s in range(4)]
    assert found == [False, False, False, True]


def test_a_row_gets_both_times() -> None:
    now = reading(MARK.boot_us + 3, NOON_US + YEAR)
    assert moment_of(MARK, now) == Moment(now.utc, MARK.ledger_us + 3, "boot-1")
    assert moment_of(MARK, now).at == "2027-01-31T12:00:00.000000Z"
