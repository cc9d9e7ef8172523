"""What counts for a patient and for a device's counter, at both sides of every border."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tmsctl.ipc.messages import BlockOutcome, SelfTested, Want
from tmsctl.records import ledger
from tmsctl.records.clock import Mark, Moment
from tmsctl.records.journal import Journal, JournalError
from tmsctl.records.ledger import DAY_US, WEEK_US, Life
from tmsctl.records.views import NewSession, Totals
from tmsctl.safety.facts import CounterRange
from tmsctl.safety.patient import PatientDose

UTC_NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
NOW = 1_000 * DAY_US
GUARD = 77
LIFE = Life("F0000001", 3)
NEW = NewSession(
    patient="P1", operator="op", protocol="ctbs600", protocol_hash="aa", plan_hash="bb",
    mt_permille=525, pct_mt=80, mso=42, reduced=False, planned=600, model="m", serial=LIFE.serial,
    boot_count=LIFE.boot_count, count_before=1000, mt_method="emg", soft_limits="", reason="",
    self_test=None,
)  # fmt: skip

SURE, REFUSED, UNKNOWN = 0, 1, 2
HOUR_US = 3_600_000_000  # by then the last pulse of a block has left, whatever became of it


def at(ledger_us: int) -> Moment:
    """The wall clock says nothing here."""
    return Moment(UTC_NOW, ledger_us, "boot-1")


class Book:
    """A journal, with words for what these tests write into it."""

    def __init__(self, path: Path) -> None:
        self.journal = Journal(path)
        self.block = 0

    def session(self, patient: str = "P1", count_before: int = 1000, life: Life = LIFE) -> int:
        new = replace(
            NEW, patient=patient, count_before=count_before, serial=life.serial,
            boot_count=life.boot_count,
        )  # fmt: skip
        return self.journal.begin_session(new, at(NOW))

    def intent(self, session: int, ledger_us: int = NOW, pulses: int = 30) -> int:
        self.block += 1
        self.journal.write_intent(Want(session, self.block, 0, pulses, 0), GUARD, at(ledger_us))
        return self.block

    def outcome(
        self, session: int, block: int, kind: int, delivered: int, ledger_us: int = NOW
    ) -> None:
        item = BlockOutcome(session, block, 0, 30, delivered, 0, kind, 0, "the device went away")
        self.journal.write_outcome(item, GUARD, at(ledger_us))

    def done(self, session: int, ledger_us: int, delivered: int = 30) -> None:
        """A block whose outcome is sure, told at this instant."""
        self.outcome(session, self.intent(session, ledger_us), SURE, delivered, ledger_us)

    def resolve(self, session: int, block: int, delivered: int) -> None:
        found = ledger.find_block(self.journal, session, block)
        assert found is not None
        ledger.resolve(self.journal, found.intent, delivered, "dr", "the counter", at(NOW))

    def history(self, now_us: int = NOW, patient: str = "P1") -> PatientDose:
        return ledger.history(self.journal, patient, now_us)

    def counter(self, life: Life = LIFE) -> CounterRange | None:
        return ledger.counter_range(self.journal, life)

    def suggestions(self, shown: int | None = None, life: Life = LIFE) -> list[int | None]:
        found = ledger.unresolved(self.journal, None if shown is None else (life, shown))
        return [block.suggests for block in found]


@pytest.fixture
def book(tmp_path: Path) -> Iterator[Book]:
    book = Book(tmp_path / "journal.sqlite")
    yield book
    book.journal.close()


# Windows and gaps


def test_a_patient_without_a_session_has_had_nothing(book: Book) -> None:
    book.done(book.session("P2"), NOW)
    assert book.history() == PatientDose(0, 0, None)


def test_a_day_and_a_week_are_as_long_as_they_are() -> None:
    assert timedelta(microseconds=DAY_US) == timedelta(days=1)
    assert timedelta(microseconds=WEEK_US) == timedelta(weeks=1)


@pytest.mark.parametrize(
    ("age_us", "day", "week"),
    [
        (0, 30, 30),
        (DAY_US - 1, 30, 30),
        (DAY_US, 0, 30),
        (WEEK_US - 1, 0, 30),
        (WEEK_US, 0, 0),
        (-1, 30, 30),  # of the future: a clock was wrong once
        (-400 * DAY_US, 30, 30),
    ],
)
def test_a_window_holds_what_is_younger_than_it_and_what_is_of_the_future(
    book: Book, age_us: int, day: int, week: int
) -> None:
    book.done(book.session(), NOW - age_us)
    assert book.history() == PatientDose(day, week, max(0, age_us))


def test_a_block_counts_from_when_its_last_pulse_had_certainly_left(book: Book) -> None:
    """The intent is older than the window, its outcome is not."""
    session = book.session()
    block = book.intent(session, NOW - DAY_US - 5)
    book.outcome(session, block, SURE, 30, NOW - DAY_US + 1)
    assert book.history() == PatientDose(30, 30, DAY_US - 1)
    assert book.history(NOW + 1).day_pulses == 0


def test_a_block_without_an_outcome_counts_an_hour_longer(book: Book) -> None:
    book.intent(book.session(), NOW - DAY_US - HOUR_US + 1)
    assert book.history() == PatientDose(30, 30, DAY_US - 1)
    assert book.history(NOW + 1).day_pulses == 0


def test_an_outcome_that_comes_days_later_does_not_make_its_block_younger(book: Book) -> None:
    session = book.session()
    block = book.intent(session, NOW - 3 * DAY_US)
    book.outcome(session, block, SURE, 30, NOW)
    assert book.history() == PatientDose(0, 30, 3 * DAY_US - HOUR_US)


def test_an_outcome_written_with_a_clock_that_lags_does_not_make_its_block_older(
    book: Book,
) -> None:
    session = book.session()
    block = book.intent(session, NOW)
    book.outcome(session, block, SURE, 30, NOW - 2 * DAY_US)
    assert book.history() == PatientDose(30, 30, 0)


def test_sessions_of_one_patient_add_up_and_the_newest_pulse_makes_the_gap(book: Book) -> None:
    first, second = book.session(), book.session()
    book.done(first, NOW - 3 * DAY_US)
    book.done(first, NOW - 5)
    book.done(second, NOW - 7)
    assert book.history() == PatientDose(60, 90, 5)


def test_a_block_that_delivered_nothing_makes_no_gap(book: Book) -> None:
    session = book.session()
    book.outcome(session, book.intent(session), REFUSED, 0)
    book.outcome(session, book.intent(session), SURE, 0)
    assert book.history() == PatientDose(0, 0, None)


def test_a_block_that_delivered_a_single_pulse_makes_a_gap(book: Book) -> None:
    book.done(book.session(), NOW - 5, delivered=1)
    assert book.history() == PatientDose(1, 1, 5)


# What counts of a block, and what a person may say of it


@pytest.mark.parametrize(
    ("kind", "confirmed", "word", "totals"),
    [
        (None, 0, None, Totals(open_pulses=30)),
        (None, 0, 0, Totals()),
        (None, 0, 12, Totals(resolved=12)),
        (None, 0, 30, Totals(resolved=30)),
        (UNKNOWN, 12, None, Totals(delivered=12, doubtful=18)),
        (UNKNOWN, 12, 12, Totals(delivered=12)),
        (UNKNOWN, 12, 20, Totals(delivered=12, resolved=8)),
        (UNKNOWN, 12, 30, Totals(delivered=12, resolved=18)),
    ],
)
def test_an_unknown_outcome_counts_in_full_until_a_person_resolves_it(
    book: Book, kind: int | None, confirmed: int, word: int | None, totals: Totals
) -> None:
    session = book.session()
    block = book.intent(session)
    if kind is not None:
        book.outcome(session, block, kind, confirmed)
    if word is not None:
        book.resolve(session, block, word)
    assert book.journal.totals(session) == totals
    assert book.history().day_pulses == totals.counted
    assert len(book.suggestions()) == (word is None)


@pytest.mark.parametrize("word", [0, 30])
def test_a_sure_outcome_that_comes_later_goes_before_what_a_person_said(
    book: Book, word: int
) -> None:
    session = book.session()
    block = book.intent(session)
    book.resolve(session, block, word)
    book.outcome(session, block, SURE, 7)
    assert book.journal.totals(session) == Totals(delivered=7)


def test_an_unknown_outcome_that_comes_later_never_takes_confirmed_pulses_away(
    book: Book,
) -> None:
    session = book.session()
    block = book.intent(session)
    book.resolve(session, block, 3)
    book.outcome(session, block, UNKNOWN, 12)
    assert book.journal.totals(session) == Totals(delivered=12)


def test_a_resolution_is_for_once(book: Book) -> None:
    session = book.session()
    block = book.intent(session)
    book.resolve(session, block, 3)
    with pytest.raises(JournalError, match="UNIQUE"):
        book.resolve(session, block, 4)
    assert book.journal.totals(session).resolved == 3


@pytest.mark.parametrize(("kind", "delivered"), [(SURE, 7), (REFUSED, 0)])
def test_a_sure_outcome_cannot_be_resolved(book: Book, kind: int, delivered: int) -> None:
    session = book.session()
    block = book.intent(session)
    book.outcome(session, block, kind, delivered)
    with pytest.raises(ValueError, match="sure"):
        book.resolve(session, block, 4)
    assert book.journal.totals(session) == Totals(delivered=delivered)


@pytest.mark.parametrize("unknown_first", [False, True])
def test_of_two_blocks_of_one_number_the_unknown_one_is_found(
    book: Book, unknown_first: bool
) -> None:
    """Pulses that another guard told of without an intent have a block number of that guard."""
    session = book.session()
    stranger = BlockOutcome(session, 1, 0, 30, 30, 0, SURE, 0, "done")
    if unknown_first:
        book.intent(session, pulses=1)
    book.journal.write_outcome(stranger, GUARD + 1, at(NOW))
    if not unknown_first:
        book.intent(session, pulses=1)
    found = ledger.find_block(book.journal, session, 1)
    assert found is not None
    assert (found.intent, found.unknown) == (1 if unknown_first else 2, 1)
    assert ledger.find_block(book.journal, session, 99) is None
    assert ledger.find_block(book.journal, session + 1, 1) is None


# The device's counter


def test_a_life_of_a_device_that_the_ledger_never_saw_has_no_range(book: Book) -> None:
    book.session()
    assert book.counter(Life(LIFE.serial, 4)) is None
    assert book.counter(Life("F0000002", 3)) is None


def test_the_range_is_the_reading_before_and_what_was_delivered_since(book: Book) -> None:
    session = book.session(count_before=1000)
    assert book.counter() == (1000, 1000)
    block = book.intent(session)
    assert book.counter() == (1000, 1030)
    book.outcome(session, block, UNKNOWN, 12)
    assert book.counter() == (1012, 1030)
    book.resolve(session, block, 20)
    assert book.counter() == (1020, 1020)
    book.done(session, NOW)
    assert book.counter() == (1050, 1050)


def test_the_next_session_begins_with_the_reading_that_was_found_right(book: Book) -> None:
    session = book.session(count_before=1000)
    book.intent(session)
    book.session(count_before=1012, patient="P2")
    assert book.counter() == (1012, 1012)


def test_a_reading_that_a_person_accepted_holds_until_the_next_session(book: Book) -> None:
    book.intent(book.session(count_before=1000))
    ledger.accept_counter(book.journal, LIFE, 1500, "dr", "a pulse by hand", at(NOW))
    assert book.counter() == (1500, 1500)
    assert book.counter(Life(LIFE.serial, 4)) is None
    session = book.session(count_before=1500)
    book.done(session, NOW)
    assert book.counter() == (1530, 1530)


def test_a_reading_can_be_accepted_before_the_first_session(book: Book) -> None:
    ledger.accept_counter(book.journal, LIFE, 1500, "dr", "new device", at(NOW))
    assert book.counter() == (1500, 1500)
    book.session(count_before=1507)
    assert book.counter() == (1507, 1507)


# What the counter says of an unknown block


@pytest.mark.parametrize(
    ("shown", "suggests"),
    [(1041, None), (1042, 12), (1043, 13), (1060, 30), (1061, None), (None, None)],
)
def test_one_unknown_block_is_told_by_the_counter(
    book: Book, shown: int | None, suggests: int | None
) -> None:
    session = book.session(count_before=1000)
    book.done(session, NOW)
    book.outcome(session, book.intent(session), UNKNOWN, 12)
    assert book.suggestions(shown) == [suggests]


def test_a_block_is_in_the_list_as_long_as_one_of_its_pulses_is_unknown(book: Book) -> None:
    session = book.session(count_before=1000)
    book.outcome(session, book.intent(session), UNKNOWN, 30)
    assert book.suggestions(1030) == []
    book.outcome(session, book.intent(session), UNKNOWN, 29)
    assert book.suggestions(1060) == [30]


def test_a_counter_of_another_life_says_nothing(book: Book) -> None:
    book.intent(book.session(count_before=1000))
    assert book.suggestions(1010) == [10]
    assert book.suggestions(1010, Life(LIFE.serial, 4)) == [None]


def test_two_unknown_blocks_are_told_only_when_none_or_all_of_their_pulses_left(
    book: Book,
) -> None:
    session = book.session(count_before=1000)
    book.intent(session)
    book.outcome(session, book.intent(session), UNKNOWN, 12)
    assert book.suggestions(1012) == [0, 12]
    assert book.suggestions(1013) == [None, None]
    assert book.suggestions(1059) == [None, None]
    assert book.suggestions(1060) == [30, 30]
    book.resolve(session, 1, 5)
    assert book.suggestions(1030) == [25]


def test_the_reading_before_the_next_session_tells_of_the_one_before(book: Book) -> None:
    session = book.session(count_before=1000)
    book.intent(session)
    later = book.session(count_before=1010)
    assert book.suggestions(1200) == [10]
    # What was accepted later disturbs that reading no more.
    ledger.accept_counter(book.journal, LIFE, 1500, "dr", "by hand", at(NOW))
    assert book.suggestions(1500) == [10]
    book.intent(later)
    assert book.suggestions(1500) == [10, None]


def test_after_pulses_by_hand_the_counter_says_nothing(book: Book) -> None:
    book.intent(book.session(count_before=1000))
    ledger.accept_counter(book.journal, LIFE, 1010, "dr", "by hand", at(NOW))
    assert book.suggestions(1010) == [None]
    book.session(count_before=1010)
    assert book.suggestions(1010) == [None]


@pytest.mark.parametrize(
    ("most", "suggests"), [(4, [10, 0, 0]), (3, [10, 0, 0]), (2, [10, None]), (1, [10])]
)
def test_a_long_list_is_cut_and_says_nothing_of_what_it_cut(
    book: Book, monkeypatch: pytest.MonkeyPatch, most: int, suggests: list[int | None]
) -> None:
    """Of two unknown blocks of a session only one may be in the list."""
    book.intent(book.session(count_before=1000))
    session = book.session(count_before=1010)
    book.intent(session)
    book.intent(session)
    monkeypatch.setattr(ledger, "UNRESOLVED_MAX", most)
    assert book.suggestions(1010) == suggests


def test_the_list_has_a_hundred_blocks_and_only_the_session_that_it_cuts_is_left_untold(
    book: Book,
) -> None:
    for blocks in (99, 2, 1):
        session = book.session()
        for _ in range(blocks):
            book.intent(session)
    assert book.suggestions(1000) == [0] * 99 + [None]


# Marks of the clock, and self-tests


def test_the_newest_mark_is_found(book: Book) -> None:
    assert ledger.newest_mark(book.journal) is None
    ledger.write_mark(book.journal, Mark("b", 1, 2, 3), "op", "then")
    ledger.write_mark(book.journal, Mark("c", 4, 5, 6), "dr", "now")
    assert ledger.newest_mark(book.journal) == (Mark("c", 4, 5, 6), "dr", "now")


@pytest.mark.parametrize(
    ("pid", "life", "boot", "proofs", "found"),
    [
        (GUARD, LIFE, "boot-1", (1, 1, 1), True),
        (GUARD + 1, LIFE, "boot-1", (1, 1, 1), False),
        (GUARD, Life("F0000002", 3), "boot-1", (1, 1, 1), False),
        (GUARD, Life("F0000001", 4), "boot-1", (1, 1, 1), False),
        (GUARD, LIFE, "boot-2", (1, 1, 1), False),
        (GUARD, LIFE, "boot-1", (0, 1, 1), False),
        (GUARD, LIFE, "boot-1", (1, 0, 1), False),
        (GUARD, LIFE, "boot-1", (1, 1, 0), False),
    ],
)
def test_a_self_test_holds_for_one_guard_one_life_of_the_device_and_one_start(
    book: Book, pid: int, life: Life, boot: str, proofs: tuple[int, int, int], found: bool
) -> None:
    moment = Moment(UTC_NOW, NOW, boot)
    ledger.write_self_test(book.journal, SelfTested(1, *proofs, "said"), pid, "m", life, moment)
    passed = ledger.passed_self_test(book.journal, GUARD, LIFE, "boot-1")
    assert passed == (1 if found else None)


@pytest.mark.parametrize(("newest", "found"), [((1, 1, 1), 2), ((1, 1, 0), None)])
def test_the_newest_self_test_decides(
    book: Book, newest: tuple[int, int, int], found: int | None
) -> None:
    for proofs in [(1, 1, 1), newest]:
        ledger.write_self_test(
            book.journal, SelfTested(1, *proofs, "said"), GUARD, "m", LIFE, at(NOW)
        )
    assert ledger.passed_self_test(book.journal, GUARD, LIFE, "boot-1") == found


def test_a_ledger_that_a_reader_holds_open_goes_on(book: Book) -> None:
    """A backup or a person with a viewer must not stop a session."""
    session = book.session()
    reader = sqlite3.connect(book.journal.path)
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM intents").fetchall()
    book.intent(session)
    assert book.journal.totals(session).counted == 30
    reader.close()
