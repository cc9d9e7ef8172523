"""What a block counts, in SQL: intent, outcome and a person's word read together."""

from __future__ import annotations

from typing import Final

from sqlalchemy import and_, case, func

from tmsctl.records.schema import INTENTS, OUTCOMES, RESOLUTIONS

LAST_PULSE_US: Final = 3_600_000_000
"""No pulse leaves later than this after its intent: the longest session that any limit allows."""

BLOCKS: Final = INTENTS.outerjoin(OUTCOMES, OUTCOMES.c.intent == INTENTS.c.id).outerjoin(
    RESOLUTIONS, RESOLUTIONS.c.intent == INTENTS.c.id
)
"""Every intent, with what became of it."""

SURE: Final = func.coalesce(OUTCOMES.c.outcome, "open").in_(("applied", "refused"))
"""The device itself said how it ended. That goes before what a person said earlier."""

BY_PERSON: Final = and_(RESOLUTIONS.c.intent.is_not(None), ~SURE)

CONFIRMED: Final = func.coalesce(OUTCOMES.c.delivered, 0)
"""Pulses that the device confirmed."""

RESOLVED: Final = case((BY_PERSON, func.max(RESOLUTIONS.c.delivered - CONFIRMED, 0)), else_=0)
"""Pulses that a person counts as delivered, beside the confirmed ones."""

DOUBTFUL: Final = case((BY_PERSON, 0), else_=func.coalesce(OUTCOMES.c.unknown, 0))
"""Pulses of which the guard could not learn what became of them."""

OPEN: Final = case(
    (and_(OUTCOMES.c.intent.is_(None), RESOLUTIONS.c.intent.is_(None)), INTENTS.c.pulses), else_=0
)
"""Pulses of an intent without an outcome."""

UNKNOWN: Final = DOUBTFUL + OPEN
COUNTED: Final = CONFIRMED + RESOLVED + UNKNOWN
"""What every dose limit counts."""

_LATEST_US: Final = INTENTS.c.ledger_us + LAST_PULSE_US

LAST_US: Final = func.max(
    INTENTS.c.ledger_us, func.min(func.coalesce(OUTCOMES.c.ledger_us, _LATEST_US), _LATEST_US)
)
"""Ledger time by which the last pulse of the block had certainly left."""
