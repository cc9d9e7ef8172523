"""Sessions on record, read back from the journal."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Row, func, select

from tmsctl.records import schema
from tmsctl.records.blocks import BLOCKS
from tmsctl.records.journal import Journal
from tmsctl.records.views import (
    Block,
    DeviceCounts,
    Event,
    Record,
    Resolution,
    SelfTestRecord,
    State,
    Summary,
)

_FACTS = (
    select(schema.SESSIONS, schema.SESSION_ENDS.c.state, schema.SESSION_ENDS.c.code,
           schema.SESSION_ENDS.c.count_after, schema.SESSION_ENDS.c.at.label("ended_at"))
    .select_from(schema.SESSIONS.outerjoin(schema.SESSION_ENDS))
    .order_by(schema.SESSIONS.c.id.desc())
)  # fmt: skip


def summaries(journal: Journal, limit: int, not_ended: State) -> list[Summary]:
    """The newest sessions, newest first; one without an end is given the state `not_ended`."""
    with journal.reading() as connection:
        rows = connection.execute(_FACTS.limit(limit)).all()
        counts = [_last_count(connection, row) for row in rows]
        warmest = [_warmest(connection, row.id) for row in rows]
    return [
        Summary(**_summary(journal, row, count, warm, not_ended))
        for row, count, warm in zip(rows, counts, warmest, strict=True)
    ]


def record(journal: Journal, session: int | None, not_ended: State) -> Record | None:
    """One session whole, None for the newest. None when there is no such session."""
    query = _FACTS.limit(1)
    if session is not None:
        query = query.where(schema.SESSIONS.c.id == session)
    with journal.reading() as connection:
        row = connection.execute(query).first()
        if row is None:
            return None
        count, warm = _last_count(connection, row), _warmest(connection, row.id)
        blocks = _blocks(connection, row.id)
        events = _events(connection, row.id)
        self_test = _self_test(connection, row.self_test)
    return Record(
        **_summary(journal, row, count, warm, not_ended),
        self_test=self_test,
        blocks=blocks,
        events=events,
    )


def _summary(
    journal: Journal, row: Row[Any], count: int | None, warmest_dc: int | None, not_ended: State
) -> dict[str, Any]:
    totals = journal.totals(row.id)
    return {
        "id": row.id,
        "patient": row.patient,
        "operator": row.operator,
        "protocol": row.protocol,
        "protocol_hash": row.protocol_hash,
        "plan_hash": row.plan_hash,
        "mt": row.mt_permille / 10,
        "mt_method": row.mt_method,
        "pct_mt": row.pct_mt,
        "mso": row.mso,
        "reduced": bool(row.reduced),
        "soft_limits": row.soft_limits.split(),
        "reason": row.reason,
        "planned": row.planned,
        "delivered": totals.delivered,
        "skipped": totals.skipped,
        "resolved": totals.resolved,
        "unknown": totals.unknown,
        "state": row.state or not_ended,
        "started_at": row.at,
        "ended_at": row.ended_at,
        "end_code": row.code,
        "device": DeviceCounts(row.model, row.serial, row.boot_count, row.count_before, count),
        "temperature_max_c": None if warmest_dc is None else warmest_dc / 10,
        "journal": str(journal.path),
    }


def _last_count(connection: Connection, row: Row[Any]) -> int | None:
    """Device's counter after the session: an outcome may have come after the end was written."""
    outcomes = schema.OUTCOMES.c
    query = (
        select(func.max(outcomes.pulse_count))
        .select_from(schema.OUTCOMES.join(schema.INTENTS))
        .where(schema.INTENTS.c.session == row.id, outcomes.pulse_count > 0)
    )
    counts = [c for c in (connection.execute(query).scalar(), row.count_after) if c is not None]
    return max(counts, default=None)


def _warmest(connection: Connection, session: int) -> int | None:
    pulses = schema.PULSES.c
    query = select(func.max(pulses.surface_dc)).where(pulses.session_no == session)
    return connection.execute(query).scalar()


def _blocks(connection: Connection, session: int) -> list[Block]:
    intents, outcomes, person = schema.INTENTS.c, schema.OUTCOMES.c, schema.RESOLUTIONS.c
    query = (
        select(intents.block, intents.first_pulse, intents.pulses, intents.at, outcomes.outcome,
               outcomes.delivered, outcomes.skipped, outcomes.why, person.delivered.label("word"),
               person.operator, person.reason, person.at.label("word_at"))
        .select_from(BLOCKS)
        .where(intents.session == session)
        .order_by(intents.id)
    )  # fmt: skip
    return [
        Block(
            block=row.block,
            first_pulse=row.first_pulse,
            pulses=row.pulses,
            intent_at=row.at,
            outcome=row.outcome or "open",
            delivered=row.delivered or 0,
            skipped=row.skipped or 0,
            why=row.why or "",
            resolution=None
            if row.operator is None
            else Resolution(row.word, row.operator, row.reason, row.word_at),
        )
        for row in connection.execute(query)
    ]


def _self_test(connection: Connection, number: int | None) -> SelfTestRecord | None:
    tests = schema.SELF_TESTS.c
    query = select(tests.at, tests.detail).where(tests.id == number)
    row = connection.execute(query).first()
    return None if row is None else SelfTestRecord(*row)


def _events(connection: Connection, session: int) -> list[Event]:
    events = schema.EVENTS.c
    query = (
        select(events.at, events.kind, events.code, events.detail, events.session)
        .where(events.session == session)
        .order_by(events.id)
    )
    return [Event(*row) for row in connection.execute(query)]
