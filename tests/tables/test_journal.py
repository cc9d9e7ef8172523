"""What the journal keeps: nothing that was delivered is ever missing from the dose."""

from __future__ import annotations

import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Connection

from tmsctl.ipc.messages import BlockOutcome, PulseRecord, SelfTested, Want
from tmsctl.records import ledger, reports, schema
from tmsctl.records.clock import Mark, Moment, microseconds
from tmsctl.records.journal import Journal, JournalError
from tmsctl.records.ledger import Life
from tmsctl.records.views import Event, NewSession, Resolution, SelfTestRecord, Totals


def moment(at: datetime) -> Moment:
    return Moment(at, microseconds(at), "boot-1")


NOON = moment(datetime(2026, 1, 31, 12, tzinfo=UTC))
GUARD = 77
NEW = NewSession(
    patient="P1", operator="op", protocol="ctbs600", protocol_hash="aa", plan_hash="bb",
    mt_permille=525, pct_mt=80, mso=42, reduced=False, planned=600, model="m", serial="s",
    boot_count=3, count_before=1000, mt_method="emg", soft_limits="session-gap rate-1s",
    reason="the physician asked for it", self_test=None,
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


def intent(journal: Journal, session: int, block: int = 1, at: Moment = NOON) -> None:
    journal.write_intent(Want(session, block, 0, 30, 1000), GUARD, at)


def column(journal: Journal, query: str) -> list[object]:
    with journal.reading() as connection:
        return list(connection.exec_driver_sql(query).scalars())


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
    word = ("applied", "refused", "unknown")[kind]
    assert column(journal, "SELECT outcome FROM outcomes") == [word]


def test_a_repeated_outcome_changes_nothing(journal: Journal, session: int) -> None:
    intent(journal, session)
    journal.write_outcome(outcome(session, 1, 30), GUARD, NOON)
    assert journal.write_outcome(outcome(session, 1, 30), GUARD, NOON) == "repeated"
    assert journal.totals(session).counted == 30


def test_pulses_that_no_intent_covers_count_all_the_same(journal: Journal, session: int) -> None:
    assert journal.write_outcome(outcome(session, 9, 30), GUARD, NOON) == "unasked"
    assert journal.totals(session).delivered == 30
    # Nobody asked what the device's counter showed before them.
    assert column(journal, "SELECT pulse_count FROM intents") == [0]


def test_an_outcome_of_another_guard_does_not_settle_an_intent(
    journal: Journal, session: int
) -> None:
    intent(journal, session)
    assert journal.write_outcome(outcome(session, 1, 30), GUARD + 1, NOON) == "unasked"
    assert journal.totals(session).counted == 60  # too much rather than too little


def test_an_outcome_of_a_session_that_is_not_here_is_told_and_not_kept(journal: Journal) -> None:
    assert journal.write_outcome(outcome(5, 1, 30), GUARD, NOON) == "no-session"


@pytest.mark.parametrize("table", ["sessions", "intents"])
def test_a_row_names_the_start_of_the_computer_that_its_time_is_of(
    journal: Journal, table: str
) -> None:
    for boot in ("boot-1", "boot-2"):
        at = NOON._replace(boot_id=boot)
        intent(journal, journal.begin_session(NEW, at), at=at)
    assert column(journal, f"SELECT boot_id FROM {table} ORDER BY id") == ["boot-1", "boot-2"]


@pytest.mark.parametrize(("pulses", "events"), [(1, 0), (0, 1), (2, 1), (0, 0)])
def test_details_are_kept_with_or_without_others_beside_them(
    journal: Journal, session: int, pulses: int, events: int
) -> None:
    journal.append(
        [PulseRecord(session, 0, 1, 2, 420, 1001, 300)] * pulses, [_event(session)] * events
    )
    assert column(journal, "SELECT count(*) FROM pulses") == [pulses]
    assert column(journal, "SELECT count(*) FROM events") == [events]


@pytest.mark.parametrize("table", sorted(schema.METADATA.tables))
@pytest.mark.parametrize("act", ["UPDATE {} SET at = ''", "DELETE FROM {}"])
def test_what_is_written_cannot_be_changed_or_removed(
    journal: Journal, session: int, table: str, act: str
) -> None:
    intent(journal, session)
    journal.write_outcome(outcome(session, 1, 30), GUARD, NOON)
    journal.end_session(session, "complete", "complete", 1030, NOON)
    journal.append([PulseRecord(session, 0, 1, 2, 420, 1001, 300)], [_event(session)])
    intent(journal, session, 2)
    ledger.resolve(journal, 2, 12, "op", "seen", NOON)
    ledger.write_mark(journal, Mark("boot-1", 1, 2, 3), "op", NOON.at)
    ledger.accept_counter(journal, Life("s", 3), 1000, "op", "by hand", NOON)
    write_self_test(journal)
    if table == "pulses":
        act = act.replace("at", "place")
    with sqlite3.connect(journal.path) as connection, pytest.raises(sqlite3.IntegrityError):
        connection.execute(act.format(table))
    connection.close()


def write_self_test(journal: Journal, proofs: tuple[int, int, int] = (1, 1, 1)) -> int:
    ledger.write_self_test(
        journal, SelfTested(1, *proofs, "all good"), GUARD, "m", Life("s", 3), NOON
    )
    with journal.reading() as connection:
        return connection.exec_driver_sql("SELECT max(id) FROM self_tests").scalar_one()


def _event(session: int) -> Event:
    return Event("2026-01-31T12:00:00.000000Z", "session", "started", "words", session)


def test_commits_are_durable_and_the_folder_is_private(journal: Journal) -> None:
    with journal.reading() as connection:
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1
    assert stat.S_IMODE(journal.path.parent.stat().st_mode) == 0o750


def test_all_folders_above_a_new_journal_are_made(tmp_path: Path) -> None:
    path = tmp_path / "var" / "lib" / "tmsctl" / "journal.sqlite"
    Journal(path).close()
    assert path.is_file()


def test_a_folder_that_cannot_be_made_is_told_in_the_words_of_the_system_alone(
    tmp_path: Path,
) -> None:
    (tmp_path / "file").touch()
    path = tmp_path / "file" / "state" / "journal.sqlite"
    with pytest.raises(JournalError) as told:
        Journal(path)
    assert str(told.value) == f"The journal {path} cannot be opened: Not a directory."


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
        ("PRAGMA user_version = 3", "of version 3; this program knows version 2"),
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
    told: list[str] = []
    journal.failed = told.append
    intent(journal, session)
    with journal.reading() as connection:
        connection.exec_driver_sql("PRAGMA max_page_count = 1")
    events = [_event(session)] * 500
    with pytest.raises(JournalError, match=r"cannot be written: .*full"):
        journal.append([], events)
    journal.append([], [])  # nothing is written, so nothing fails
    with journal.reading() as connection:
        connection.exec_driver_sql("PRAGMA max_page_count = 100000")
    with pytest.raises(JournalError, match="restart tmsd"):  # a failed disk is not trusted again
        intent(journal, session, 2)
    assert journal.totals(session).counted == 30
    assert told == [journal.error]  # once


def test_a_journal_that_cannot_be_read_is_not_written_any_more(
    journal: Journal, session: int
) -> None:
    told: list[str] = []
    journal.failed = told.append
    no_table = pytest.raises(JournalError, match="cannot be read: no such table: cats")
    with no_table, journal.reading() as connection:
        connection.exec_driver_sql("SELECT * FROM cats")
    with pytest.raises(JournalError, match="cannot be read"):
        intent(journal, session)
    assert told == [journal.error]


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
    assert (record.mt_method, record.reason) == ("emg", "the physician asked for it")
    assert record.soft_limits == ["session-gap", "rate-1s"]
    assert (record.resolved, record.self_test) == (0, None)
    assert reports.record(journal, session + 1, "running") is None


def test_the_list_has_the_newest_first_and_names_the_state_of_an_open_one(
    journal: Journal, session: int
) -> None:
    journal.end_session(session, "complete", "complete", None, NOON)
    newer = journal.begin_session(NEW, NOON)
    found = reports.summaries(journal, 20, "paused")
    assert [(s.id, s.state) for s in found] == [(newer, "paused"), (session, "complete")]
    assert len(reports.summaries(journal, 1, "paused")) == 1


def test_a_record_tells_what_a_person_said_and_which_self_test_allowed_it(
    journal: Journal,
) -> None:
    number = write_self_test(journal)
    session = journal.begin_session(replace(NEW, self_test=number), NOON)
    intent(journal, session)
    later = moment(NOON.utc + timedelta(hours=1))
    ledger.resolve(journal, 1, 12, "dr", "the counter says so", later)
    record = reports.record(journal, session, "running")
    assert record is not None
    assert record.self_test == SelfTestRecord(NOON.at, "all good")
    assert (record.delivered, record.resolved, record.unknown) == (0, 12, 0)
    [block] = record.blocks
    assert block.outcome == "open"  # what was written stays
    assert block.resolution == Resolution(12, "dr", "the counter says so", later.at)


# A journal of version 1

VERSION_1 = (
    "CREATE TABLE sessions (id INTEGER NOT NULL, patient TEXT NOT NULL, operator TEXT NOT NULL, "
    "protocol TEXT NOT NULL, protocol_hash TEXT NOT NULL, plan_hash TEXT NOT NULL, "
    "mt_permille INTEGER NOT NULL, pct_mt INTEGER NOT NULL, mso INTEGER NOT NULL, "
    "reduced INTEGER NOT NULL, planned INTEGER NOT NULL, model TEXT NOT NULL, "
    "serial TEXT NOT NULL, boot_count INTEGER NOT NULL, count_before INTEGER NOT NULL, "
    "at TEXT NOT NULL, PRIMARY KEY (id))",
    "CREATE INDEX sessions_of_patient ON sessions (patient)",
    "CREATE TABLE session_ends (session INTEGER NOT NULL, state TEXT NOT NULL, "
    "code TEXT NOT NULL, count_after INTEGER, at TEXT NOT NULL, PRIMARY KEY (session), "
    "FOREIGN KEY(session) REFERENCES sessions (id))",
    "CREATE TABLE intents (id INTEGER NOT NULL, session INTEGER NOT NULL, "
    "guard_pid INTEGER NOT NULL, block INTEGER NOT NULL, first_pulse INTEGER NOT NULL, "
    "pulses INTEGER NOT NULL, pulse_count INTEGER NOT NULL, at TEXT NOT NULL, "
    "PRIMARY KEY (id), UNIQUE (session, guard_pid, block), "
    "FOREIGN KEY(session) REFERENCES sessions (id))",
    "CREATE TABLE outcomes (intent INTEGER NOT NULL, outcome TEXT NOT NULL, "
    "delivered INTEGER NOT NULL, skipped INTEGER NOT NULL, unknown INTEGER NOT NULL, "
    "pulse_count INTEGER NOT NULL, why TEXT NOT NULL, at TEXT NOT NULL, PRIMARY KEY (intent), "
    "FOREIGN KEY(intent) REFERENCES intents (id))",
    "CREATE TABLE pulses (id INTEGER NOT NULL, session_no INTEGER NOT NULL, "
    "place INTEGER NOT NULL, boot_us INTEGER NOT NULL, device_us INTEGER NOT NULL, "
    "mso_permille INTEGER NOT NULL, pulse_count INTEGER NOT NULL, surface_dc INTEGER NOT NULL, "
    "PRIMARY KEY (id))",
    "CREATE INDEX pulses_of_session ON pulses (session_no)",
    "CREATE TABLE events (id INTEGER NOT NULL, session INTEGER, kind TEXT NOT NULL, "
    "code TEXT NOT NULL, detail TEXT NOT NULL, at TEXT NOT NULL, PRIMARY KEY (id), "
    "FOREIGN KEY(session) REFERENCES sessions (id))",
    "CREATE INDEX events_of_session ON events (session)",
    *(
        f"CREATE TRIGGER {table}_no_{act.lower()} BEFORE {act} ON {table} "
        "BEGIN SELECT RAISE(ABORT, 'the journal is only ever added to'); END"
        for table in ("sessions", "session_ends", "intents", "outcomes", "pulses", "events")
        for act in ("UPDATE", "DELETE")
    ),
    "PRAGMA user_version = 1",
    "INSERT INTO sessions VALUES (1, 'P1', 'op', 'ctbs600', 'aa', 'bb', 525, 80, 42, 0, 600, 'm', "
    "'s', 3, 1000, '2026-01-31T12:00:00.000000Z')",
    "INSERT INTO intents VALUES (1, 1, 77, 1, 0, 30, 1000, '2026-01-31T12:00:01.000002Z')",
    "INSERT INTO intents VALUES (2, 1, 77, 2, 30, 30, 1030, '2026-01-31T12:00:03.999999Z')",
    "INSERT INTO outcomes VALUES (1, 'applied', 30, 0, 0, 1030, 'done', "
    "'2026-01-31T12:00:03.000000Z')",
    "INSERT INTO session_ends VALUES (1, 'interrupted', 'guard-lost', NULL, "
    "'2026-01-31T12:00:05.000000Z')",
    "INSERT INTO pulses VALUES (1, 1, 0, 1, 2, 420, 1001, 300)",
    "INSERT INTO events VALUES (1, 1, 'session', 'started', 'words', "
    "'2026-01-31T12:00:00.000000Z')",
)
"""Version 1 as it was released, with one interrupted session."""


def old_journal(tmp_path: Path) -> Path:
    path = tmp_path / "journal.sqlite"
    with closing(sqlite3.connect(path)) as connection:
        for statement in VERSION_1:
            connection.execute(statement)
        connection.commit()
    return path


def test_a_journal_of_version_1_keeps_every_row_and_gets_its_ledger_time_from_its_utc(
    tmp_path: Path,
) -> None:
    path = old_journal(tmp_path)
    journal = Journal(path)
    record = reports.record(journal, 1, "running")
    assert record is not None
    assert (record.patient, record.mt, record.end_code) == ("P1", 52.5, "guard-lost")
    assert (record.delivered, record.unknown) == (30, 30)
    assert (record.mt_method, record.reason, record.self_test) == ("", "", None)
    assert [block.intent_at for block in record.blocks] == [
        "2026-01-31T12:00:01.000002Z",
        "2026-01-31T12:00:03.999999Z",
    ]
    noon = NOON.ledger_us
    with journal.reading() as connection:
        for table, wanted in (
            ("sessions", [noon]),
            ("intents", [noon + 1_000_002, noon + 3_999_999]),
            ("outcomes", [noon + 3_000_000]),
        ):
            rows = connection.exec_driver_sql(f"SELECT ledger_us FROM {table}")
            assert list(rows.scalars()) == wanted
    # The day after, the unknown block is the last to leave the window.
    day = 86_400_000_000
    assert ledger.history(journal, "P1", noon + day).day_pulses == 60
    assert ledger.history(journal, "P1", noon + 2 * day).day_pulses == 0
    assert [block.block for block in ledger.unresolved(journal, None)] == [2]
    assert ledger.newest_mark(journal) is None
    journal.close()


def test_a_journal_of_version_1_becomes_one_like_any_other(tmp_path: Path) -> None:
    def shape(path: Path) -> dict[str, list[tuple[object, ...]]]:
        with closing(sqlite3.connect(path)) as connection:
            names = connection.execute("SELECT type, name FROM sqlite_master").fetchall()
            tables = {
                name: sorted(
                    (row[1], row[2], row[3], row[5])
                    for row in connection.execute(f"PRAGMA table_info({name})")
                )
                for kind, name in names
                if kind == "table"
            }
            keys = {
                f"keys of {name}": sorted(
                    row[2:5] for row in connection.execute(f"PRAGMA foreign_key_list({name})")
                )
                for name in tables
            }
            version = connection.execute("PRAGMA user_version").fetchall()
            return {**tables, **keys, "names": sorted(names), "version": version}

    path = old_journal(tmp_path)
    Journal(path).close()
    Journal(tmp_path / "new.sqlite").close()
    assert shape(path) == shape(tmp_path / "new.sqlite")


def test_a_migration_that_fails_leaves_the_journal_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = old_journal(tmp_path)

    def before() -> list[object]:
        with closing(sqlite3.connect(path)) as connection:
            return [
                *connection.execute("PRAGMA user_version"),
                *connection.execute("SELECT sql FROM sqlite_master ORDER BY name"),
                *connection.execute("SELECT * FROM intents"),
            ]

    rows = before()
    real = schema._seal

    def full(connection: Connection) -> None:
        real(connection)
        connection.exec_driver_sql("INSERT INTO nowhere VALUES (1)")

    monkeypatch.setattr(schema, "_seal", full)
    with pytest.raises(JournalError, match="cannot be opened: no such table"):
        Journal(path)
    assert before() == rows
    monkeypatch.undo()
    Journal(path).close()
    assert before() != rows
