"""Writes the tables of docs/safety-case.md from the catalogue and the tables of the code.

Usage: python docs/make_safety_case.py [--check] docs/safety-case.md
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Final

from tmsctl.safety import guidelines
from tmsctl.safety.catalogue import MET_BY, Catalogue, Hazard, Requirement, Rule, load
from tmsctl.safety.limits import ROWS, LimitRow
from tmsctl.safety.rules import ARM, GATE, WATCH

TABLES: Final[dict[str, tuple[str, str]]] = {
    "watch": ("In every cycle of the guard: every 10 ms, disarmed every 20 ms", "acts when"),
    "gate": ("For each block of pulses, before it gets its permit", "refuses when"),
    "arm": ("Before the device is armed", "refuses when"),
    "plan": ("On the whole plan, before it is loaded; these only here", "refuses when"),
    "patient": ("On the patient's dose, by the ledger; these only here", "refuses when"),
    "guard": ("Elsewhere in the guard", "acts when"),
    "service": ("In tmsd, before anything reaches the guard", "refuses when"),
    "device": ("In the driver and the stimulator", "acts when"),
}

LIMITS_OF: Final = {row.code: row.limit for row in (*WATCH, *GATE, *ARM)} | {
    "rate-1s": "pulses_1s_max",
    "rate-60s": "pulses_60s_max",
    "session-length": "session_us_max",
    "session-gap": "session_gap_min_s",
}
GUIDELINES: Final = {  # codes of checks by published tables -> source
    "guideline-train": "; ".join(table.source for table in guidelines.TABLES),
    "guideline-iti": guidelines.ITI_SOURCE,
    "theta-burst": guidelines.THETA_SOURCE,
}
ACTIONS: Final = {row.code: row.action.name for row in (*WATCH, *GATE)}


def _grid(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def _codes(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names) or "-"


def _limit(row: LimitRow) -> str:
    sign = "≤" if row.at_most else "≥"
    bounds = [row.general] if row.general == row.absolute else [row.general, row.absolute]
    text = " / ".join(f"{bound:_}" for bound in bounds)
    soft = "" if row.soft is None else f"soft {row.soft:_}, "
    return f"`{row.name}` {sign} {soft}{text} {row.unit}"


def _hazard(hazard: Hazard) -> tuple[str, ...]:
    why = hazard.why + (f" *Remains:* {hazard.remains}" if hazard.remains else "")
    met_by = hazard.met_by if hazard.met_by == "rule" else f"**{hazard.met_by}**"
    return (hazard.id, hazard.hazard, str(hazard.severity), met_by, why, _codes(hazard.rules))


def _rule(rule: Rule) -> tuple[str, ...]:
    row = ROWS.get(LIMITS_OF.get(rule.code, ""))
    if rule.code in GUIDELINES:
        verified = "" if guidelines.VERIFIED else ", **not verified**"
        limit, source = f"[guideline tables](limits.md){verified}", GUIDELINES[rule.code]
    elif row is None:
        limit = source = "-"
    else:
        limit = _limit(row) + ("" if row.verified else ", **not verified**")
        source = row.source
    action = ACTIONS.get(rule.code, "refuses" if rule.where == "" else "-")
    ids = " ".join((*rule.hazards, *rule.requirements))
    return (f"`{rule.code}`", rule.does, action, limit, source, ids)


def _coded(rule: Rule) -> tuple[str, ...]:
    ids = " ".join((*rule.hazards, *rule.requirements))
    tests = _tests((*rule.refused_by, *rule.allowed_by))
    return (f"`{rule.code}`", rule.does, f"`{rule.where}`", tests, ids)


def _tests(tests: Iterable[str]) -> str:
    """Names that a reader can look for, without their folder."""
    names = [test.partition("::") for test in tests]
    return "; ".join(f"{Path(file).stem}: {name[5:].replace('_', ' ')}" for file, _, name in names)


def _requirement(row: Requirement) -> tuple[str, ...]:
    met_by = row.met_by if row.met_by == "rule" else f"**{row.met_by}**"
    how = " ".join(part for part in (row.why, _tests(row.tests)) if part) or "-"
    return (row.id, row.text, met_by, _codes(row.rules), how)


def _rules_of(catalogue: Catalogue, table: str) -> str:
    title, verb = TABLES[table]
    rules = [rule for rule in catalogue.rules.values() if rule.table == table]
    if rules[0].where:
        head = ("code", verb, "in", "tests on both sides", "for")
        grid = _grid(head, map(_coded, rules))
    else:
        grid = _grid(("code", verb, "action", "limit", "source", "for"), map(_rule, rules))
    return f"### {title}\n\n{grid}"


def _counts(rows: Iterable[Hazard | Requirement]) -> str:
    """How many are met by whom, in words."""
    met = [row.met_by for row in rows]
    parts = [f"{met.count(name)} by {name}" for name in MET_BY if name != "later"]
    return f"Of {len(met)}: {', '.join(parts)}, {met.count('later')} later."


def _hazards(catalogue: Catalogue) -> str:
    hazards = catalogue.hazards.values()
    head = ("id", "hazard", "severity", "met by", "how", "rules")
    return f"{_counts(hazards)}\n\n{_grid(head, map(_hazard, hazards))}"


def _left(catalogue: Catalogue) -> str:
    """Hazards that need somebody besides the program."""
    rows = [
        (hazard.id, hazard.hazard, hazard.remains or hazard.why)
        for hazard in catalogue.hazards.values()
        if hazard.remains or hazard.met_by != "rule"
    ]
    return _grid(("id", "hazard", "what is left"), rows)


def _rules(catalogue: Catalogue) -> str:
    return "\n\n".join(_rules_of(catalogue, table) for table in TABLES)


def _requirements(catalogue: Catalogue) -> str:
    rows = catalogue.requirements.values()
    head = ("id", "requirement", "met by", "rules", "how it is known")
    return f"{_counts(rows)}\n\n{_grid(head, map(_requirement, rows))}"


SECTIONS: Final[dict[str, Callable[[Catalogue], str]]] = {
    "hazards": _hazards,
    "left": _left,
    "rules": _rules,
    "requirements": _requirements,
}
_SECTION: Final = re.compile(r"(<!-- generated: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def fill(page: str) -> str:
    """The page with its generated sections made anew; ValueError when one is missing or twice."""
    found = [match[2] for match in _SECTION.finditer(page)]
    if found != list(SECTIONS):
        raise ValueError(f"the page has the sections {found}; it must have {list(SECTIONS)}")
    catalogue = load()
    return _SECTION.sub(lambda m: f"{m[1]}\n{SECTIONS[m[2]](catalogue)}\n\n{m[3]}", page)


def main(arguments: list[str] | None = None) -> int:
    """Exit status: 0 done or up to date, 1 out of date or not possible."""
    parser = argparse.ArgumentParser(description="Writes the generated parts of the safety case.")
    parser.add_argument("--check", action="store_true", help="change nothing; 1 when out of date")
    parser.add_argument("page", type=Path)
    options = parser.parse_args(arguments)
    before = options.page.read_text(encoding="utf-8")
    try:
        after = fill(before)
    except ValueError as error:
        sys.stderr.write(f"{options.page}: {error}\n")
        return 1
    if not options.check:
        options.page.write_text(after, encoding="utf-8")
    elif before != after:
        sys.stderr.write(
            f"{options.page} is out of date: run `python docs/make_safety_case.py {options.page}`\n"
        )
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
