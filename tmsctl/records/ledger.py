"""The dose ledger: what counts for a patient, for a device's counter, and what nobody knows yet."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from sqlalchemy import Row, bindparam, case, func, select

from tmsctl.ipc.messages import SelfTested
from tmsctl.records import schema
from tmsctl.records.blocks import (
    BLOCKS,
    BY_PERSON,
    CONFIRMED,
    COUNTED,
    LAST_US,
    RESOLVED,
    SURE,
    UNKNOWN,
)
from tmsctl.records.clock import Mark, Moment
from tmsctl.records.journal import Journal
from tmsctl.records.views import Unresolved
from tmsctl.safety.facts import CounterRange
from tmsctl.safety.patient import PatientDose

DAY_US: Final = 86_400_000_000
WEEK_US: Final = 7 * DAY_US

UNRESOLVED_MAX: Final = 100
"""Shown at once: a list without a bound would keep tmsd from its signs of life."""


class Life(NamedTuple):
    """A device from one power-up to the next; its pulse counter belongs to it."""

    serial: str
    boot_count: int


class Found(NamedTuple):
    """A block on record that a person asks about."""

    intent: int
    pulses: int
    confirmed: int
    unknown: int
    by_person: bool


def _within(bound: str) -> Any:
    """Pulses that left after this instant of ledger time."""
    return func.coalesce(func.sum(case((bindparam(bound) < LAST_US, COUNTED), else_=0)), 0)


_HISTORY: Final = (
    select(_within("day"), _within("week"), func.max(case((COUNTED > 0, LAST_US))))
    .select_from(BLOCKS.join(schema.SESSIONS, schema.SESSIONS.c.id == schema.INTENTS.c.session))
    .where(schema.SESSIONS.c.patient == bindparam("patient"))
)


def history(journal: Journal, patient: str, now_us: int) -> PatientDose:
    """What counts for this patient at this ledger time.

    A window has no end: what lies in the future, after a clock that was wrong, counts as well.
    """
    bounds = {"day": now_us - DAY_US, "week": now_us - WEEK_US, "patient": patient}
    with journal.reading() as connection:
        day, week, last_us = connection.execute(_HISTORY, bounds).one()
    return PatientDose(day, week, None if last_us is None else max(0, now_us - last_us))


def newest_mark(journal: Journal) -> tuple[Mark, str, str] | None:
    """When a person last confirmed the clock, who, and the time of the row."""
    marks = schema.CLOCK_MARKS.c
    query = select(
        marks.boot_id, marks.boot_us, marks.utc_us, marks.ledger_us, marks.operator, marks.at
    ).order_by(marks.id.desc())
    with journal.reading() as connection:
        row = connection.execute(query).first()
    return None if row is None else (Mark(*row[:4]), row.operator, row.at)


def write_mark(journal: Journal, mark: Mark, operator: str, at: str) -> None:
    with journal.writing() as connection:
        connection.execute(
            schema.CLOCK_MARKS.insert().values(**mark._asdict(), operator=operator, at=at)
        )


def counter_range(journal: Journal, life: Life) -> CounterRange | None:
    """What this device's counter may show; None when the ledger never saw this life of it.

    It counts from the newest reading that was found right, or that a person accepted.
    """
    sessions, accepts, intents = schema.SESSIONS.c, schema.COUNTER_ACCEPTS.c, schema.INTENTS.c
    begun = (
        select(sessions.id, sessions.count_before)
        .where(sessions.serial == life.serial, sessions.boot_count == life.boot_count)
        .order_by(sessions.id.desc())
    )
    accepted = (
        select(accepts.pulse_count, accepts.after_session)
        .where(accepts.serial == life.serial, accepts.boot_count == life.boot_count)
        .order_by(accepts.id.desc())
    )
    total = func.coalesce(func.sum(CONFIRMED + RESOLVED), 0), func.coalesce(func.sum(UNKNOWN), 0)
    with journal.reading() as connection:
        session, person = connection.execute(begun).first(), connection.execute(accepted).first()
        if person is not None and (session is None or person.after_session >= session.id):
            return CounterRange(person.pulse_count, person.pulse_count)
        if session is None:
            return None
        since = select(*total).select_from(BLOCKS).where(intents.session == session.id)
        sure, unknown = connection.execute(since).one()
    low = session.count_before + sure
    return CounterRange(low, low + unknown)


def accept_counter(
    journal: Journal, life: Life, shown: int, operator: str, reason: str, moment: Moment
) -> None:
    """From now on the ledger expects what the device shows."""
    newest = select(func.coalesce(func.max(schema.SESSIONS.c.id), 0))
    with journal.writing() as connection:
        connection.execute(
            schema.COUNTER_ACCEPTS.insert().values(
                serial=life.serial,
                boot_count=life.boot_count,
                pulse_count=shown,
                after_session=connection.execute(newest).scalar_one(),
                operator=operator,
                reason=reason,
                at=moment.at,
            )
        )


def unresolved(journal: Journal, shown: tuple[Life, int] | None) -> list[Unresolved]:
    """Blocks whose outcome nobody knows, the oldest ones first and UNRESOLVED_MAX at most.

    `shown`: the device that answers now and its counter, None when none does.
    """
    sessions, intents = schema.SESSIONS, schema.INTENTS.c
    query = (
        select(sessions.c.id, sessions.c.patient, sessions.c.operator, sessions.c.protocol,
               sessions.c.serial, sessions.c.boot_count, sessions.c.count_before,
               intents.block, intents.pulses, intents.at, CONFIRMED.label("confirmed"),
               UNKNOWN.label("unknown"), schema.OUTCOMES.c.why)
        .select_from(BLOCKS.join(sessions, sessions.c.id == intents.session))
        .where(UNKNOWN > 0)
        .order_by(intents.id)
        .limit(UNRESOLVED_MAX + 1)
    )  # fmt: skip
    with journal.reading() as connection:
        rows: list[Row[Any]] = list(connection.execute(query))
    of_session: dict[int, list[Row[Any]]] = {}
    for row in rows:
        of_session.setdefault(row.id, []).append(row)
    extra = {number: _extra(journal, found[0], shown) for number, found in of_session.items()}
    if len(rows) > UNRESOLVED_MAX:
        extra[rows[-1].id] = None  # not all of its blocks are here
    return [
        Unresolved(
            session=row.id,
            block=row.block,
            patient=row.patient,
            operator=row.operator,
            protocol=row.protocol,
            intent_at=row.at,
            pulses=row.pulses,
            confirmed=row.confirmed,
            suggests=_suggestion(row, of_session[row.id], extra[row.id]),
            why=row.why or "no outcome was told",
        )
        for row in rows[:UNRESOLVED_MAX]
    ]


_NEXT_OF_LIFE: Final = (
    select(schema.SESSIONS.c.id, schema.SESSIONS.c.count_before)
    .where(schema.SESSIONS.c.serial == bindparam("serial"))
    .where(schema.SESSIONS.c.boot_count == bindparam("boot_count"))
    .where(schema.SESSIONS.c.id > bindparam("session"))
    .order_by(schema.SESSIONS.c.id)
)
_ACCEPTED: Final = (
    select(func.min(schema.COUNTER_ACCEPTS.c.after_session))
    .where(schema.COUNTER_ACCEPTS.c.serial == bindparam("serial"))
    .where(schema.COUNTER_ACCEPTS.c.boot_count == bindparam("boot_count"))
    .where(schema.COUNTER_ACCEPTS.c.after_session >= bindparam("session"))
)
_SURE_OF_SESSION: Final = (
    select(func.sum(CONFIRMED + RESOLVED))
    .select_from(BLOCKS)
    .where(schema.INTENTS.c.session == bindparam("session"))
)


def _extra(journal: Journal, row: Row[Any], shown: tuple[Life, int] | None) -> int | None:
    """Pulses of a session that the counter knows of beside the sure ones; None: it cannot say.

    The reading at the start of the next session decides, else the present one.
    """
    life = Life(row.serial, row.boot_count)
    which = {"serial": life.serial, "boot_count": life.boot_count, "session": row.id}
    count = shown[1] if shown is not None and shown[0] == life else None
    with journal.reading() as connection:
        following = connection.execute(_NEXT_OF_LIFE, which).first()
        accepted = connection.execute(_ACCEPTED, which).scalar()
        delivered = connection.execute(_SURE_OF_SESSION, which).scalar_one()
    if accepted is not None and (following is None or accepted < following.id):
        return None  # pulses of somebody else are in that reading
    if following is not None:
        count = following.count_before
    return None if count is None else int(count - row.count_before - delivered)


def _suggestion(row: Row[Any], of_session: list[Row[Any]], extra: int | None) -> int | None:
    """Several unknown blocks can only be told apart when none or all of their pulses left."""
    if extra is None:
        return None
    if len(of_session) == 1:
        return int(row.confirmed + extra) if 0 <= extra <= row.unknown else None
    if extra == sum(other.unknown for other in of_session):
        return int(row.confirmed + row.unknown)
    return None if extra else int(row.confirmed)


def find_block(journal: Journal, session: int, block: int) -> Found | None:
    """The block of this number; one that nobody knows goes before others of the same number."""
    intents = schema.INTENTS.c
    query = (
        select(intents.id, intents.pulses, CONFIRMED.label("confirmed"),
               UNKNOWN.label("unknown"), BY_PERSON.label("person"))
        .select_from(BLOCKS)
        .where(intents.session == session, intents.block == block)
        .order_by((UNKNOWN > 0).desc(), intents.id)
    )  # fmt: skip
    with journal.reading() as connection:
        row = connection.execute(query).first()
    return (
        None if row is None else Found(row.id, row.pulses, row.confirmed, row.unknown, row.person)
    )


def resolve(
    journal: Journal, intent: int, delivered: int, operator: str, reason: str, moment: Moment
) -> None:
    """A person says how many pulses of a block left the coil. Once, and never of a sure outcome."""
    sure = select(SURE).select_from(BLOCKS).where(schema.INTENTS.c.id == intent)
    with journal.writing() as connection:
        if connection.execute(sure).scalar_one():
            raise ValueError(f"the outcome of intent {intent} is sure")
        connection.execute(
            schema.RESOLUTIONS.insert().values(
                intent=intent,
                delivered=delivered,
                operator=operator,
                reason=reason,
                ledger_us=moment.ledger_us,
                at=moment.at,
            )
        )


def write_self_test(
    journal: Journal,
    result: SelfTested,
    guard_pid: int,
    model: str,
    life: Life,
    moment: Moment,
) -> None:
    """That this returns is the fourth proof: the ledger can be written."""
    with journal.writing() as connection:
        connection.execute(
            schema.SELF_TESTS.insert().values(
                guard_pid=guard_pid,
                model=model,
                serial=life.serial,
                boot_count=life.boot_count,
                dead_man=result.dead_man,
                stop=result.stop,
                bad_frame=result.bad_frame,
                detail=result.detail,
                ledger_us=moment.ledger_us,
                boot_id=moment.boot_id,
                at=moment.at,
            )
        )


def passed_self_test(journal: Journal, guard_pid: int, life: Life, boot_id: str) -> int | None:
    """Number of the newest self-test of this guard on this life of the device, if it passed."""
    tests = schema.SELF_TESTS.c
    query = (
        select(tests.id, tests.dead_man * tests.stop * tests.bad_frame)
        .where(tests.guard_pid == guard_pid, tests.boot_id == boot_id)
        .where(tests.serial == life.serial, tests.boot_count == life.boot_count)
        .order_by(tests.id.desc())
    )
    with journal.reading() as connection:
        row = connection.execute(query).first()
    return row[0] if row is not None and row[1] else None
