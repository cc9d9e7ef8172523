"""What the journal keeps: nothing that was delivered is ever missing from the dose."""

from __future__ import annotations

import sqlite3
import stat
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tmsctl.ipc.messages import BlockOutcome, PulseRecord, Want
from tmsctl.records import reports, schema
from tmsctl.records.journal import Journal, JournalError
from tmsctl.records.views import Event, NewSession, Totals

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
GUARD = 77
NEW = NewSession(
    patient="P1", operator="op", protocol="ctbs600", protocol_hash="aa", plan_hash="bb",
    mt_permille=525, pct_mt=80, mso=42, reduced=False, planned=600, model="m", serial="s",
    boot_count=3, count_before=1000,
)  # fmt: skip


def outcome(session: int, block: int, delivered: int, kind: int = 0, pulses: int = 30):
    return BlockOutcome(session, block, 0, pulses, delivered, 0, kind, 1000 + delivered, "done")


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    journal = Journal(tmp_path / "state" / "journal.sqlite")
    yield journal
    journal.close()


@pytest.fixture
def session(journal: Journal) -> int:
    return journal.begin_session(NEW, NOON)


def intent(journal: Journal, session: int, block: int = 1, at: datetime = NOON) -> None:
    journal.write_intent(Want(session, block, 0, 30, 1000), GUARD, at)


def test_an_intent_without_an_outcome_counts_in_full(journal: Journal, session: int) -> None:
    assert journal.totals(session).counted == 0
    intent(journal, session)
    assert journal.totals(session) == Totals(open_pulses=30)
    assert journal.totals(session).counted == 30


@pytest.mark.parametrize(
    ("kind", "delivered", "confirmed", "unknown"),
    [(0, 30, 30, 0), (0, 12, 12, 0), (1, 0, 0, 0), (2, 12, 12, 18), (2, 0, 0, 30), (2, 30, 30, 0)],
)
def test_an_outcome_settles_its_intent_and_doubt_counts(
    journal: Journal, session: int, kind: int, delivered: int, confirmed: int, unknown: int
) -> None:
    intent(journal, session)
    assert journal.write_outcome(outcome(session, 1, delivered, kind), GUARD, NOON) == "recorded"
    totals = journal.totals(session)
    assert (totals.delivered, totals.unknown) == (confirmed, unknown)
    assert totals.open_pulses == 0


def test_a_repeated_outcome_changes_nothing(journal: Journal, session: int) -> None:
    intent(journal, session)
    journal.write_outcome(outcome(session, 1, 30), GUARD, NOON)
    assert journal.write_outcome(outcome(session, 1, 30), GUARD, NOON) == "repeated"
    assert journal.totals(session).counted == 30


def test_pulses_that_no_intent_covers_count_all_the_same(journal: Journal, session: int) -> None:
    assert journal.write_outcome(outcome(session, 9, 30), GUARD, NOON) == "unasked"
    assert journal.totals(session).delivered == 30


def test_an_outcome_of_another_guard_does_not_settle_an_intent(
    journal: Journal, session: int
) -> None:
    intent(journal, session)
    assert journal.write_outcome(outcome(session, 1, 30), GUARD + 1, NOON) == "unasked"
    assert journal.totals(session).counted == 60  # too much rather than too little


def test_an_outcome_of_a_session_that_is_not_here_is_told_and_not_kept(journal: Journal) -> None:
    assert journal.write_outcome(outcome(5, 1, 30), GUARD, NOON) == "no-session"


def test_the_dose_of_a_patient_has_a_begin_and_no_end(journal: Journal, session: int) -> None:
    other = journal.begin_session(NEW, NOON)
    hour = timedelta(hours=1)
    intent(journal, session, 1, NOON - hour)
    intent(journal, other, 1, NOON)
    intent(journal, other, 2, NOON + 24 * hour)  # the clock was set back since
    assert journal.dose_of_patient("P1", NOON - hour) == 90
    assert journal.dose_of_patient("P1", NOON) == 60
    assert journal.dose_of_patient("P1", NOON + timedelta(microseconds=1)) == 30
    assert journal.dose_of_patient("P2", NOON - hour) == 0


@pytest.mark.parametrize("table", sorted(schema.METADATA.tables))
@pytest.mark.parametrize("act", ["UPDATE {} SET at = ''", "DELETE FROM {}"])
def test_what_is_written_cannot_be_changed_or_removed(
    journal: Journal, session: int, table: str, act: str
) -> None:
    intent(journal, session)
    journal.write_outcome(outcome(session, 1, 30), GUARD, NOON)
    journal.end_session(session, "complete", "complete", 1030, NOON)
    journal.append([PulseRecord(session, 0, 1, 2, 420, 1001, 300)], [_event(session)])
    if table == "pulses":
        act = act.replace("at", "place")
    with sqlite3.connect(journal.path) as connection, pytest.raises(sqlite3.IntegrityError):
        connection.execute(act.format(table))
    connection.close()


def _event(session: int) -> Event:
    return Event("2026-01-31T12:00:00.000000Z", "session", "started", "words", session)


def test_commits_are_durable_and_the_folder_is_private(journal: Journal) -> None:
    with journal.reading() as connection:
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1
    assert stat.S_IMODE(journal.path.parent.stat().st_mode) == 0o750


def test_a_journal_is_found_again_as_it_was_left(tmp_path: Path) -> None:
    first = Journal(tmp_path / "journal.sqlite")
    session = first.begin_session(NEW, NOON)
    intent(first, session)
    first.close()
    again = Journal(tmp_path / "journal.sqlite")
    assert again.unfinished() == [session]
    assert again.totals(session).counted == 30
    again.end_session(session, "interrupted", "service-restarted", None, NOON)
    assert again.unfinished() == []
    again.close()


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("PRAGMA user_version = 2", "of version 2; this program knows version 1"),
        ("CREATE TABLE cats (name TEXT)", "not a journal"),
    ],
)
def test_a_newer_or_a_foreign_file_is_refused_and_left_alone(
    tmp_path: Path, statement: str, words: str
) -> None:
    path = tmp_path / "journal.sqlite"
    connection = sqlite3.connect(path)
    connection.execute(statement)
    connection.commit()
    connection.close()
    before = path.read_bytes()
    with pytest.raises(JournalError, match=words):
        Journal(path)
    assert path.read_bytes() == before


def test_a_file_that_is_no_database_is_refused_in_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    path.write_bytes(b"not a database, but long enough to be looked at" * 100)
    with pytest.raises(JournalError, match="cannot be opened: file is not a database"):
        Journal(path)


def test_a_full_disk_is_an_error_that_stays_and_reading_goes_on(
    journal: Journal, session: int
) -> None:
    intent(journal, session)
    with journal.reading() as connection:
        connection.exec_driver_sql("PRAGMA max_page_count = 1")
    events = [_event(session)] * 500
    with pytest.raises(JournalError, match="full"):
        journal.append([], events)
    with journal.reading() as connection:
        connection.exec_driver_sql("PRAGMA max_page_count = 100000")
    with pytest.raises(JournalError, match="restart tmsd"):  # a failed disk is not trusted again
        intent(journal, session, 2)
    assert journal.totals(session).counted == 30


def test_a_record_tells_the_whole_session(journal: Journal, session: int) -> None:
    intent(journal, session)
    journal.write_outcome(outcome(session, 1, 30), GUARD, NOON)
    intent(journal, session, 2)
    journal.append([PulseRecord(session, 0, 1, 2, 420, 1001, 312)], [_event(session)])
    journal.end_session(session, "interrupted", "guard-lost", None, NOON)
    record = reports.record(journal, None, "running")
    assert record is not None
    assert (record.id, record.state, record.end_code) == (session, "interrupted", "guard-lost")
    assert (record.delivered, record.skipped, record.unknown) == (30, 0, 30)
    assert (record.mt, record.temperature_max_c) == (52.5, 31.2)
    assert (record.device.count_before, record.device.count_after) == (1000, 1030)
    assert [(b.block, b.outcome, b.delivered) for b in record.blocks] == [
        (1, "applied", 30),
        (2, "open", 0),
    ]
    assert record.events == [_event(session)]
    assert reports.record(journal, session + 1, "running") is None


def test_the_list_has_the_newest_first_and_names_the_state_of_an_open_one(
    journal: Journal, session: int
) -> None:
    journal.end_session(session, "complete", "complete", None, NOON)
    newer = journal.begin_session(NEW, NOON)
    found = reports.summaries(journal, 20, "paused")
    assert [(s.id, s.state) for s in found] == [(newer, "paused"), (session, "complete")]
    assert len(reports.summaries(journal, 1, "paused")) == 1
