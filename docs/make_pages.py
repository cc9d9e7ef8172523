"""Writes the generated parts of docs/limits.md and docs/emulator.md from the tables of the code.

Usage: python docs/make_pages.py [--check] docs/limits.md docs/emulator.md
"""

from __future__ import annotations

import argparse
import re
import sys
import textwrap
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

from sim_device import settings
from sim_device.faults import KINDS, Kind, Occasion
from tmsctl.safety.limits import ROWS, TABLE, LimitRow
from tmsctl.safety.rules import GATE, WATCH, GateRow, WatchRow
from tmsctl.stimulation.protocol import EXCEEDABLE

MEANINGS: Final[dict[str, str]] = {
    "stop": "somebody pressed STOP and nobody has acknowledged it since",
    "stranger-pulse": "pulses left the coil that no block of ours explains",
    "device-fault": "the device latched by itself: coil too hot, no coil, charger, its own panel",
    "rate-seen": "more pulses left the coil in a window than allowed, on the device's clock",
    "cycle-gap": "the guard did not watch for too long (stopped, starved, suspended)",
    "service-lost": "tmsd is not connected, or silent for too long",
    "wrong-device": "another device than `[device] serial` answers",
    "status-age": "no status of the device, or too old a one",
    "disarmed-itself": "the device was ready and has left that state by itself",
    "coil-hot": "the surface is too warm, its temperature unknown, or not between 0 and 60 °C",
    "counter": "the device's pulse counter is outside what was sent, or unknown",
    "setting": "the device shows another intensity than was commanded",
    "realised": "the newest pulse left with another intensity than was commanded",
    "arming-slow": "the device does not become ready",
    "unresolved-long": "what became of a block stays unknown",
    "refused": "the device refused three blocks one after another",
    "session-long": "the session has lasted too long, pauses included",
    "armed-idle": "armed for too long without a pulse",
    "unresolved": "what became of a block is unknown, and is being read back",
    "ceiling-mso": "intensity above the ceiling",
    "ceiling-mt": "intensity above the ceiling in percent of the motor threshold",
    "not-the-plan": "another intensity than the plan's, or more pulses than it has left",
    "not-granted": "more pulses than the intent on disk covers",
    "interval": "pulses too close, in the block or to the pulse before it",
    "train-length": "the block by itself is longer than a train may be",
    "session-pulses": "more pulses than the session may have",
    "rate": "too many pulses in a sliding window of 1 s or 60 s, with those already sent",
    "train-gap": "so soon after the train before that both would count as one, which is too long",
}

HAZARDS: Final[dict[str, str]] = {
    "H01": "intensity above the ceiling",
    "H02": "old intensity after a reduction",
    "H03": "pulses too frequent",
    "H04": "train or session too long",
    "H05": "trains too close",
    "H06": "more pulses than planned",
    "H07": "more pulses than the patient may have",
    "H09": "theta burst pattern outside its rule",
    "H10": "device takes another setting than was sent",
    "H11": "wrong patient or stale plan",
    "H12": "motor threshold wrong or out of date",
    "H13": "another coil, or pulse, than planned",
    "H14": "coil removed while armed",
    "H15": "coil burns skin",
    "H16": "temperature reading invalid",
    "H17": "operator absent",
    "H18": "distress of the patient, emergency stop",
    "H19": "a seizure begins",
    "H20": "communication lost",
    "H22": "an answer taken for another one's",
    "H23": "a program crashes while armed",
    "H24": "a program stalls",
    "H25": "lost time made up by a burst",
    "H26": "clock step, suspend",
    "H29": "wrong unit or overflow",
    "H30": "a second controller changes the device",
    "H31": "armed without intent",
    "H32": "fired or armed while not ready",
    "H33": "power budget exceeded",
    "H34": "record cannot be written",
    "H42": "emulator and hardware confused",
    "H44": "pause and resume race",
    "H45": "restart after a loss of power repeats a dose",
}


def _grid(head: tuple[str, ...], rows: Iterable[tuple[object, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def _bound(row: LimitRow, value: int) -> str:
    return f"{'≤' if row.at_most else '≥'} {value:_}"


def _limit(row: LimitRow) -> tuple[object, ...]:
    bounds = (_bound(row, row.general), _bound(row, row.absolute))
    return (f"`{row.name}`", row.unit, *bounds, "yes" if row.verified else "**no**", row.source)


def _settable() -> str:
    head = ("limit", "unit", "general", "absolute", "verified", "source")
    return _grid(head, (_limit(row) for row in TABLE if row.settable))


def _fixed() -> str:
    head = ("limit", "unit", "value", "verified", "source")
    rows = (_limit(row) for row in TABLE if not row.settable)
    return _grid(head, ((name, unit, value, *rest) for name, unit, value, _, *rest in rows))


def _exceedable() -> str:
    return textwrap.fill(", ".join(f"`{name}`" for name in EXCEEDABLE), 118)


def _compared(rule: Callable[..., Any]) -> str:
    """The limits that a rule looks at, read from its own code."""
    return ", ".join(f"`{name}`" for name in rule.__code__.co_names if name in ROWS) or "-"


def _rule(row: WatchRow | GateRow) -> tuple[object, ...]:
    return (f"`{row.code}`", MEANINGS[row.code], _compared(row.rule), row.action.name, row.hazards)


def _watch() -> str:
    head = ("code", "trips when", "limit", "action", "hazards", "counts")
    counts = {True: "always", False: "while armed"}
    return _grid(head, ((*_rule(row), counts[row.always]) for row in WATCH))


def _gate() -> str:
    return _grid(("code", "refuses when", "limit", "action", "hazards"), map(_rule, GATE))


def _hazards() -> str:
    named = [row.hazards for row in WATCH] + [row.hazards for row in GATE]
    used = sorted(set(" ".join(named).split()))
    return _grid(("id", "hazard"), ((hazard, HAZARDS[hazard]) for hazard in used))


def _settings() -> str:
    rows = (
        (f"`{name}`", default, row.unit, f"{row.low}..{row.high}", row.doc)
        for name, default, row in settings.rows()
    )
    return _grid(("name", "default", "unit", "range", "meaning"), rows)


def _fault(name: str, kind: Kind) -> tuple[object, ...]:
    v = kind.value
    value = "" if v is None else f"{v.low}..{v.high} {v.unit}, default {v.default}"
    return (f"`{name}`", kind.doc, OCCASIONS[kind.occasion], "yes" if kind.lasts else "no", value)


def _faults() -> str:
    head = ("kind", "what the device does", "can strike at", "lasts", "`value`")
    return _grid(head, (_fault(name, kind) for name, kind in KINDS.items()))


OCCASIONS: Final[dict[Occasion, str]] = {
    Occasion.FRAME: "each frame to the host",
    Occasion.ARM: "each ARM command",
    Occasion.PULSE: "each pulse of a lease",
    Occasion.MOMENT: "any time",
}

SECTIONS: Final[dict[str, dict[str, Callable[[], str]]]] = {
    "limits.md": {
        "settable": _settable,
        "exceedable": _exceedable,
        "fixed": _fixed,
        "watch": _watch,
        "gate": _gate,
        "hazards": _hazards,
    },
    "emulator.md": {"settings": _settings, "faults": _faults},
}
_SECTION: Final = re.compile(r"(<!-- generated: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def fill(name: str, page: str) -> str:
    """The page with its generated sections made anew; ValueError when they are not those of `name`.

    Each has to be there once.
    """
    makers = SECTIONS.get(name, {})
    found = [match[2] for match in _SECTION.finditer(page)]
    if not makers or sorted(found) != sorted(makers):
        raise ValueError(
            f"the page has the generated sections {', '.join(found) or 'none'}; "
            f"it must have {', '.join(makers) or 'another name'}, each once"
        )
    return _SECTION.sub(lambda match: f"{match[1]}\n{makers[match[2]]()}\n\n{match[3]}", page)


def make(page: Path, *, check: bool) -> str:
    """Write one page, or only look; what is wrong in one sentence, empty when nothing is."""
    try:
        before = page.read_text(encoding="utf-8")
        after = fill(page.name, before)
        if not check:
            page.write_text(after, encoding="utf-8")
    except (OSError, ValueError) as error:
        return f"{page}: {error}"
    if check and before != after:
        return f"{page} is out of date: run `python docs/make_pages.py {page}`"
    return ""


def main(arguments: list[str] | None = None) -> int:
    """Exit status: 0 done or up to date, 1 out of date or not possible."""
    parser = argparse.ArgumentParser(description="Writes the generated parts of the pages.")
    parser.add_argument("--check", action="store_true", help="change nothing; 1 when out of date")
    parser.add_argument("pages", type=Path, nargs="+")
    options = parser.parse_args(arguments)
    problems = [problem for page in options.pages if (problem := make(page, check=options.check))]
    sys.stderr.writelines(f"{problem}\n" for problem in problems)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
