"""The journal of sessions: an intent is on disk before its pulses may be fired.

It writes from the thread that calls. A durable commit takes about 0.3 ms, less than the way to a
second thread and back; and a disk that hangs holds up the sign of life to the guard, which then
makes itself safe. STOP goes past this program, so nothing that stops a pulse waits for the disk.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Final, Literal

from sqlalchemy import Connection, bindparam, create_engine, event, exists, func, select
from sqlalchemy.exc import DBAPIError

from tmsctl.ipc.messages import BlockOutcome, PulseRecord, Want
from tmsctl.records import schema
from tmsctl.records.blocks import BLOCKS, CONFIRMED, DOUBTFUL, OPEN, RESOLVED
from tmsctl.records.clock import Moment
from tmsctl.records.views import Event, NewSession, State, Totals

OUTCOME_NAMES: Final = ("applied", "refused", "unknown")
"""BlockOutcome.outcome in words."""

_UNKNOWN: Final = OUTCOME_NAMES.index("unknown")

_INSERT_INTENT: Final = schema.INTENTS.insert().returning(schema.INTENTS.c.id)
_INSERT_OUTCOME: Final = schema.OUTCOMES.insert()
_INSERT_PULSE: Final = schema.PULSES.insert()
_INSERT_EVENT: Final = schema.EVENTS.insert()
_PARTS: Final = (CONFIRMED, schema.OUTCOMES.c.skipped, RESOLVED, DOUBTFUL, OPEN)
_TOTALS: Final = (  # made once: it is asked for every block, before its grant
    select(*(func.coalesce(func.sum(part), 0) for part in _PARTS))
    .select_from(BLOCKS)
    .where(schema.INTENTS.c.session == bindparam("session"))
)

Matched = Literal["recorded", "repeated", "unasked", "no-session"]


class JournalError(Exception):
    """One sentence: the journal cannot be opened or can no longer be relied on."""


class Journal:
    """The only writer of one journal file.

    After the first failure it writes no more until it is opened anew: a disk that has once
    reported a failed write may report the next as done. `error` then says why.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.error = ""
        self.failed: Callable[[str], None] = lambda _: None
        """Told of the first failure at once, before whoever asked for the row hears of it."""

        try:
            path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
            version = schema.version_of(path)
            if version is not None and 0 <= version <= schema.VERSION:
                self._connection = _opened(path, version)
                return
        except (OSError, sqlite3.Error, DBAPIError) as error:
            raise JournalError(f"The journal {path} cannot be opened: {_words(error)}.") from error
        found = "not a journal" if version is None else f"of version {version}"
        raise JournalError(
            f"The journal {path} is {found}; this program knows version {schema.VERSION}. "
            "Install the newer tmsctl, or name another [paths] state."
        )

    def close(self) -> None:
        self._connection.close()
        self._connection.engine.dispose()

    def begin_session(self, new: NewSession, moment: Moment) -> int:
        """The number of a new session, now on disk."""
        row = asdict(new) | _when(moment)
        with self.writing() as connection:
            insert = schema.SESSIONS.insert().returning(schema.SESSIONS.c.id)
            number: int = connection.execute(insert, row).scalar_one()
        return number

    def end_session(
        self, session: int, state: State, code: str, count_after: int | None, moment: Moment
    ) -> None:
        with self.writing() as connection:
            connection.execute(
                schema.SESSION_ENDS.insert().values(
                    session=session, state=state, code=code, count_after=count_after, at=moment.at
                )
            )

    def write_intent(self, want: Want, guard_pid: int, moment: Moment) -> None:
        """When this returns, the pulses count as delivered until their outcome is written."""
        with self.writing() as connection:
            _insert_intent(connection, want, guard_pid, moment)

    def write_outcome(self, item: BlockOutcome, guard_pid: int, moment: Moment) -> Matched:
        """Add the outcome to the intent of this block; a repetition changes nothing.

        Pulses that no intent covers get one now ("unasked"), so that they count all the same.
        """
        intents = schema.INTENTS.c
        intent_of_block = select(intents.id).where(
            intents.session == item.session_no,
            intents.guard_pid == guard_pid,
            intents.block == item.block_id,
        )
        outcomes, sessions = schema.OUTCOMES.c, schema.SESSIONS.c
        told = select(outcomes.intent)
        matched: Matched = "recorded"
        with self.writing() as connection:
            intent = connection.execute(intent_of_block).scalar()
            if intent is None:
                known = select(sessions.id).where(sessions.id == item.session_no)
                if not connection.execute(known).first():
                    return "no-session"
                matched = "unasked"
                want = Want(item.session_no, item.block_id, item.first_pulse, item.pulses, 0)
                intent = _insert_intent(connection, want, guard_pid, moment)
            elif connection.execute(told.where(outcomes.intent == intent)).first():
                return "repeated"
            left = max(0, item.pulses - item.delivered)
            row = {
                "intent": intent,
                "outcome": OUTCOME_NAMES[item.outcome],
                "delivered": item.delivered,
                "skipped": item.skipped,
                "unknown": left if item.outcome == _UNKNOWN else 0,
                "pulse_count": item.pulse_count,
                "why": item.why,
                "ledger_us": moment.ledger_us,
                "at": moment.at,
            }
            connection.execute(_INSERT_OUTCOME, row)
        return matched

    def append(self, pulses: Sequence[PulseRecord], events: Sequence[Event]) -> None:
        """Details for the record. No dose is counted from them."""
        if not pulses and not events:
            return
        with self.writing() as connection:
            if pulses:
                connection.execute(_INSERT_PULSE, [pulse._asdict() for pulse in pulses])
            if events:
                rows = [
                    {"session": e.session, "kind": e.kind, "code": e.code, "detail": e.detail,
                     "at": e.time}
                    for e in events
                ]  # fmt: skip
                connection.execute(_INSERT_EVENT, rows)

    def unfinished(self) -> list[int]:
        """Sessions without an end, oldest first."""
        ended = exists().where(schema.SESSION_ENDS.c.session == schema.SESSIONS.c.id)
        query = select(schema.SESSIONS.c.id).where(~ended).order_by(schema.SESSIONS.c.id)
        with self.reading() as connection:
            return list(connection.execute(query).scalars())

    def totals(self, session: int) -> Totals:
        """Pulses of one session."""
        with self.reading() as connection:
            return Totals(*connection.execute(_TOTALS, {"session": session}).one())

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """For queries; JournalError when the file cannot be read."""
        try:
            with self._connection.begin():
                yield self._connection
        except DBAPIError as error:
            raise self._failure("read", error) from error

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """One durable transaction; JournalError when it could not be made so."""
        if self.error:
            raise JournalError(self.error)
        try:
            with self._connection.begin():
                yield self._connection
        except DBAPIError as error:
            raise self._failure("written", error) from error

    def _failure(self, act: str, error: DBAPIError) -> JournalError:
        why = f"The journal {self.path} cannot be {act}: {_words(error)}. "
        why += "Mend the disk, then restart tmsd."
        if not self.error:
            self.error = why
            self.failed(why)
        return JournalError(why)


def _opened(path: Path, version: int) -> Connection:
    """With the tables of this version; an older file is brought up to it, or left as it was."""
    connection = _connect(path)
    try:
        if version == 0:
            schema.create(connection)
        elif version < schema.VERSION:
            schema.migrate(connection)
        connection.commit()
    except DBAPIError:
        connection.close()
        connection.engine.dispose()
        raise
    return connection


def _connect(path: Path) -> Connection:
    """A connection whose commits are on the disk when they return."""
    engine = create_engine(f"sqlite:///{path}")

    @event.listens_for(engine, "connect")
    def set_up(connection: sqlite3.Connection, _: object) -> None:
        connection.isolation_level = None  # transactions begin where we say, see `begin`
        for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN")

    return engine.connect()


def _when(moment: Moment) -> dict[str, object]:
    return {"ledger_us": moment.ledger_us, "boot_id": moment.boot_id, "at": moment.at}


def _insert_intent(connection: Connection, want: Want, guard_pid: int, moment: Moment) -> int:
    row = {
        "session": want.session_no,
        "guard_pid": guard_pid,
        "block": want.block_id,
        "first_pulse": want.first_pulse,
        "pulses": want.pulses,
        "pulse_count": want.pulse_count,
    }
    number: int = connection.execute(_INSERT_INTENT, row | _when(moment)).scalar_one()
    return number


def _words(error: Exception) -> str:
    """What the system said, without the statement that it was said about."""
    cause = getattr(error, "orig", None) or error
    return getattr(cause, "strerror", None) or str(cause)
