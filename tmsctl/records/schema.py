"""Tables of the journal. Rows are only ever added: what follows later is a row of its own."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Final

from sqlalchemy import (
    Column,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    cast,
    func,
    text,
)
from sqlalchemy.engine import Connection
from sqlalchemy.schema import CreateColumn

VERSION: Final = 2
"""SQLite user_version of a journal with these tables; rises with every change of them."""

METADATA: Final = MetaData()

_NEW_IN_2: Final = "new in 2"
"""Key in `Column.info`: version 1 had no such column. Its default is for rows of that time."""


def _number(name: str) -> Column[int]:
    return Column(name, Integer, nullable=False)


def _words(name: str) -> Column[str]:
    return Column(name, Text, nullable=False)


def _new_number(name: str) -> Column[int]:
    return Column(name, Integer, nullable=False, server_default=text("0"), info={_NEW_IN_2: True})


def _new_words(name: str) -> Column[str]:
    return Column(name, Text, nullable=False, server_default=text("''"), info={_NEW_IN_2: True})


def _time() -> Column[str]:
    """UTC as `2026-01-31T12:00:00.000000Z`: of fixed width, so that text order is time order."""
    return Column("at", Text, nullable=False)


def _session(*, nullable: bool = False) -> Column[int]:
    return Column("session", ForeignKey("sessions.id"), nullable=nullable)


SESSIONS: Final = Table(
    "sessions",
    METADATA,
    Column("id", Integer, primary_key=True),
    _words("patient"),
    _words("operator"),
    _words("protocol"),
    _words("protocol_hash"),
    _words("plan_hash"),
    _number("mt_permille"),
    _number("pct_mt"),
    _number("mso"),  # %MSO
    _number("reduced"),
    _number("planned"),  # pulses
    _words("model"),
    _words("serial"),
    _number("boot_count"),
    _number("count_before"),  # device's counter at the start
    _new_words("mt_method"),  # emg or visual; empty: nobody was asked
    _new_words("soft_limits"),  # codes of those that it exceeds, separated by spaces
    _new_words("reason"),  # why a person exceeds them
    Column("self_test", ForeignKey("self_tests.id"), info={_NEW_IN_2: True}),  # that allowed it
    _new_number("ledger_us"),
    _new_words("boot_id"),
    _time(),
    Index("sessions_of_patient", "patient"),
    Index("sessions_of_device", "serial", "boot_count"),
)

SESSION_ENDS: Final = Table(
    "session_ends",
    METADATA,
    Column("session", ForeignKey("sessions.id"), primary_key=True),
    _words("state"),  # complete, stopped, interrupted
    _words("code"),
    Column("count_after", Integer),  # NULL: no device to ask
    _time(),
)

INTENTS: Final = Table(  # committed before the guard may fire these pulses
    "intents",
    METADATA,
    Column("id", Integer, primary_key=True),
    _session(),
    _number("guard_pid"),
    _number("block"),  # rises in the life of one guard
    _number("first_pulse"),
    _number("pulses"),
    _number("pulse_count"),
    _new_number("ledger_us"),
    _new_words("boot_id"),
    _time(),
    UniqueConstraint("session", "guard_pid", "block"),
)

OUTCOMES: Final = Table(  # an intent without a row here is open: all its pulses are unknown
    "outcomes",
    METADATA,
    Column("intent", ForeignKey("intents.id"), primary_key=True),
    _words("outcome"),  # applied, refused, unknown
    _number("delivered"),
    _number("skipped"),
    _number("unknown"),
    _number("pulse_count"),  # device's counter after the block, 0 when unknown
    _words("why"),
    _new_number("ledger_us"),
    _time(),
)

RESOLUTIONS: Final = Table(  # what a person says of an intent whose outcome nobody knows
    "resolutions",
    METADATA,
    Column("intent", ForeignKey("intents.id"), primary_key=True),
    _number("delivered"),  # pulses of the block
    _words("operator"),
    _words("reason"),
    _number("ledger_us"),
    _time(),
)

CLOCK_MARKS: Final = Table(  # a person confirmed the wall clock, see records.clock
    "clock_marks",
    METADATA,
    Column("id", Integer, primary_key=True),
    _words("boot_id"),
    _number("boot_us"),
    _number("utc_us"),
    _number("ledger_us"),
    _words("operator"),
    _time(),
)

COUNTER_ACCEPTS: Final = Table(  # a person accepted a counter that disagreed with the ledger
    "counter_accepts",
    METADATA,
    Column("id", Integer, primary_key=True),
    _words("serial"),
    _number("boot_count"),
    _number("pulse_count"),
    _number("after_session"),  # newest session then, 0 when there was none
    _words("operator"),
    _words("reason"),
    _time(),
)

SELF_TESTS: Final = Table(  # that a row could be written is the fourth proof
    "self_tests",
    METADATA,
    Column("id", Integer, primary_key=True),
    _number("guard_pid"),
    _words("model"),
    _words("serial"),
    _number("boot_count"),
    _number("dead_man"),
    _number("stop"),
    _number("bad_frame"),
    _words("detail"),
    _number("ledger_us"),
    _words("boot_id"),
    _time(),
)

PULSES: Final = Table(  # columns as the fields of PulseRecord
    "pulses",
    METADATA,
    Column("id", Integer, primary_key=True),
    _number("session_no"),  # as the guard says it; 0: no session asked for the pulse
    _number("place"),
    _number("boot_us"),
    _number("device_us"),
    _number("mso_permille"),
    _number("pulse_count"),
    _number("surface_dc"),
    Index("pulses_of_session", "session_no"),
)

EVENTS: Final = Table(
    "events",
    METADATA,
    Column("id", Integer, primary_key=True),
    _session(nullable=True),
    _words("kind"),
    _words("code"),
    _words("detail"),
    _time(),
    Index("events_of_session", "session"),
)


def version_of(path: Path) -> int | None:
    """Version of the tables in this file; 0 for an empty file; None for a file of someone else.

    It only looks. sqlite3.Error when the file is no database or cannot be read.
    """
    with closing(sqlite3.connect(path)) as connection:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        has_tables = connection.execute("SELECT 1 FROM sqlite_master").fetchone()
    return None if version == 0 and has_tables else int(version)


def create(connection: Connection) -> None:
    """All tables, in the transaction that is open, with triggers that refuse change and removal."""
    METADATA.create_all(connection)
    _seal(connection)


def migrate(connection: Connection) -> None:
    """From version 1, in the transaction that is open. Every row stays; ledger time is its UTC."""
    for (trigger,) in connection.exec_driver_sql(
        "SELECT name FROM sqlite_master WHERE type = 'trigger'"
    ).all():
        connection.exec_driver_sql(f"DROP TRIGGER {trigger}")
    METADATA.create_all(connection)  # the tables that are new; those that exist are left alone
    for table in METADATA.sorted_tables:
        for column in table.columns:
            if _NEW_IN_2 in column.info:
                definition = CreateColumn(column).compile(connection)
                references = "".join(f" REFERENCES {key.column.table.name}({key.column.name})"
                                     for key in column.foreign_keys)  # fmt: skip
                connection.exec_driver_sql(
                    f"ALTER TABLE {table.name} ADD COLUMN {definition}{references}"
                )
    for table in (SESSIONS, INTENTS, OUTCOMES):
        # Of the whole text SQLite would round the seconds.
        seconds = cast(func.strftime("%s", func.substr(table.c.at, 1, 19)), Integer)
        parts = cast(func.substr(table.c.at, 21, 6), Integer)
        connection.execute(table.update().values(ledger_us=seconds * 1_000_000 + parts))
    for index in SESSIONS.indexes:
        index.create(connection, checkfirst=True)
    _seal(connection)


def _seal(connection: Connection) -> None:
    for table in METADATA.sorted_tables:
        for act in ("UPDATE", "DELETE"):
            connection.exec_driver_sql(
                f"CREATE TRIGGER {table.name}_no_{act.lower()} BEFORE {act} ON {table.name} "
                "BEGIN SELECT RAISE(ABORT, 'the journal is only ever added to'); END"
            )
    connection.exec_driver_sql(f"PRAGMA user_version = {VERSION}")
