"""The judges of a story, independent of the interlocks that they judge.

Each reads only plain data (`tests.world.evidence`) and returns what it found wrong, one sentence
each. They share no code with tmsctl, the drivers or the message tables, and where the interlock
counts with a deque they count with SQL, fractions, sets, regular expressions or bit columns.
O11 (hash chain) and O15 (station log) judge what does not exist yet; O14, which compares two runs,
is in `tests.world.story`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from tests.world import oracles_dose, oracles_link, oracles_people
from tests.world.evidence import Evidence

Oracle = Callable[[Evidence], list[str]]

ORACLES: Final[dict[str, Oracle]] = {
    "O1": oracles_dose.rate,
    "O2": oracles_dose.intervals,
    "O3": oracles_dose.intensity,
    "O4": oracles_people.ledger,
    "O5": oracles_link.dead_man,
    "O6": oracles_people.permission,
    "O7": oracles_dose.heat,
    "O8": oracles_dose.totals,
    "O9": oracles_link.stop_latency,
    "O10": oracles_people.availability,
    "O12": oracles_link.channel,
    "O13": oracles_link.commands,
    "O16": oracles_people.liveness,
}


def judge(evidence: Evidence) -> dict[str, list[str]]:
    """What each judge found wrong; judges that found nothing are left out."""
    found = {name: oracle(evidence) for name, oracle in ORACLES.items()}
    return {name: wrong for name, wrong in found.items() if wrong}
