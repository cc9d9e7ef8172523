"""The catalogue: which hazard and which requirement is met by which rule, and which tests keep it.

`catalogue.toml` beside this file is the one table. It is read strictly: an unknown or missing key
is a ValueError that names it. Hazards are H01..H47, requirements are A- (arming), D- (dose),
L- (link), J- (journal and time), T- (timing), H- (people) and P- (self-test, library).
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from types import MappingProxyType
from typing import Any, Final

RULE_TABLES: Final = ("watch", "gate", "arm", "plan", "patient", "guard", "service", "device")
"""Where a rule acts: in every cycle, before a block, before arming, on a plan, on a patient's dose,
elsewhere in the guard, in tmsd, in the stimulator and its driver.
"""

MET_BY: Final = ("rule", "operator", "device", "later")
"""Who keeps a hazard from becoming harm. `later`: nobody in this program yet."""

_HAZARD: Final = re.compile(r"H\d\d")
_REQUIREMENT: Final = re.compile(r"[ADLJTHP]-\d\d")
_CODE: Final = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_TEST: Final = re.compile(r"tests/[\w/]+\.py::\w+")
_PLACE: Final = re.compile(r"[\w/]+\.py:[\w.]+")


@dataclass(frozen=True, slots=True)
class Rule:
    """One interlock or refusal, by its code.

    The same code may act in several tables: on the whole plan before, and on each block again.
    """

    code: str
    table: str  # one of RULE_TABLES
    also: tuple[str, ...]  # tables besides
    does: str  # when it acts, one sentence
    where: str  # file:function for guard, service and device; empty for a row of a table
    hazards: tuple[str, ...]
    requirements: tuple[str, ...]
    refused_by: tuple[str, ...]  # tests in which it acts, tests/...::name
    allowed_by: tuple[str, ...]  # tests in which it must not act


@dataclass(frozen=True, slots=True)
class Hazard:
    """One way to harm, and who prevents it."""

    id: str
    hazard: str
    severity: int  # 1..5, of the harm that can follow
    rules: tuple[str, ...]
    met_by: str  # one of MET_BY
    why: str  # by which means, one sentence
    remains: str  # what is not covered and who sees to it; empty when nothing is known


@dataclass(frozen=True, slots=True)
class Requirement:
    """One thing that must be so, and how it is known."""

    id: str
    text: str
    rules: tuple[str, ...]
    tests: tuple[str, ...]  # besides those of its rules
    met_by: str
    why: str  # empty where rules and tests say all


@dataclass(frozen=True, slots=True)
class Catalogue:
    rules: Mapping[str, Rule]
    hazards: Mapping[str, Hazard]
    requirements: Mapping[str, Requirement]


_Shared = Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]]
_NO_TESTS: Final = ((), ())


def load() -> Catalogue:
    """The catalogue that ships with the program. ValueError with one sentence when it is wrong."""
    return parse(resources.files("tmsctl.safety").joinpath("catalogue.toml").read_text("utf-8"))


def parse(text: str) -> Catalogue:
    """A catalogue from its text. ValueError names the row and the key that is wrong."""
    tables = tomllib.loads(text)
    unknown = tables.keys() ^ {"tests_of", "rules", "hazards", "requirements"}
    if unknown:
        raise ValueError(f"catalogue: {min(unknown)} is unknown or missing")
    shared = {name: _tests_of(name, row) for name, row in tables["tests_of"].items()}
    rules = {code: _rule(code, row, shared) for code, row in tables["rules"].items()}
    return Catalogue(
        MappingProxyType(rules),
        MappingProxyType({n: _hazard(n, row, rules) for n, row in tables["hazards"].items()}),
        MappingProxyType(
            {n: _requirement(n, row, rules) for n, row in tables["requirements"].items()}
        ),
    )


def _tests_of(table: str, row: object) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Tests that every rule of one table has: those where it acts, those where it must not."""
    cells = _Cells(f"tests_of.{table}", row)
    cells.require(table in RULE_TABLES, f"must be one of {', '.join(RULE_TABLES)}")
    both = cells.texts("refused_by", _TEST), cells.texts("allowed_by", _TEST)
    cells.end()
    return both


def _rule(code: str, row: object, shared: _Shared) -> Rule:
    cells = _Cells(f"rules.{code}", row)
    cells.require(_CODE.fullmatch(code) is not None, "a code is made of words in lower case")
    table = cells.one_of("table", RULE_TABLES)
    also = cells.texts("also", _CODE, optional=True)
    cells.require({*also} <= {*RULE_TABLES}, f"also must be of {', '.join(RULE_TABLES)}")
    refused_by = [test for name in (table, *also) for test in shared.get(name, _NO_TESTS)[0]]
    allowed_by = [test for name in (table, *also) for test in shared.get(name, _NO_TESTS)[1]]
    rule = Rule(
        code=code,
        table=table,
        also=also,
        does=cells.text("does"),
        where="" if table in shared else cells.match("where", _PLACE),
        hazards=cells.texts("hazards", _HAZARD),
        requirements=cells.texts("requirements", _REQUIREMENT),
        refused_by=(*refused_by, *cells.texts("refused_by", _TEST, optional=table in shared)),
        allowed_by=(*allowed_by, *cells.texts("allowed_by", _TEST, optional=table in shared)),
    )
    cells.end()
    return rule


def _hazard(name: str, row: object, rules: Mapping[str, Rule]) -> Hazard:
    cells = _Cells(f"hazards.{name}", row)
    cells.require(_HAZARD.fullmatch(name) is not None, "an id is H and two digits")
    severity = cells.number("severity")
    cells.require(1 <= severity <= 5, f"severity is {severity}; 1 to 5 is allowed")
    hazard = Hazard(
        id=name,
        hazard=cells.text("hazard"),
        severity=severity,
        rules=tuple(code for code, rule in rules.items() if name in rule.hazards),
        met_by=cells.one_of("met_by", MET_BY),
        why=cells.text("why"),
        remains=cells.text("remains", optional=True),
    )
    cells.end()
    return hazard


def _requirement(name: str, row: object, rules: Mapping[str, Rule]) -> Requirement:
    cells = _Cells(f"requirements.{name}", row)
    cells.require(_REQUIREMENT.fullmatch(name) is not None, "an id is a letter and two digits")
    requirement = Requirement(
        id=name,
        text=cells.text("text"),
        rules=tuple(code for code, rule in rules.items() if name in rule.requirements),
        tests=cells.texts("tests", _TEST),
        met_by=cells.one_of("met_by", MET_BY),
        why=cells.text("why", optional=True),
    )
    cells.end()
    return requirement


class _Cells:
    """One row, whose cells are taken out one by one; what is left over is unknown."""

    def __init__(self, name: str, row: object) -> None:
        self._name = name
        self.require(isinstance(row, dict), "must be a table")
        self._left: dict[str, Any] = dict(row)  # type: ignore[call-overload]

    def require(self, so: bool, sentence: str) -> None:
        if not so:
            raise ValueError(f"catalogue, {self._name}: {sentence}")

    def _take(self, key: str) -> Any:
        self.require(key in self._left, f"{key} is missing")
        return self._left.pop(key)

    def text(self, key: str, *, optional: bool = False) -> str:
        value = self._left.pop(key, "") if optional else self._take(key)
        self.require(type(value) is str, f"{key} must be a text")
        self.require(optional or value != "", f"{key} is empty")
        return str(value)

    def match(self, key: str, pattern: re.Pattern[str]) -> str:
        value = self.text(key)
        self.require(pattern.fullmatch(value) is not None, f"{key} is {value!r}")
        return value

    def one_of(self, key: str, allowed: tuple[str, ...]) -> str:
        value = self.text(key)
        self.require(value in allowed, f"{key} is {value!r}; allowed are {', '.join(allowed)}")
        return value

    def number(self, key: str) -> int:
        value = self._take(key)
        self.require(type(value) is int, f"{key} must be a whole number")
        return int(value)

    def texts(
        self, key: str, pattern: re.Pattern[str], *, optional: bool = False
    ) -> tuple[str, ...]:
        values = self._left.pop(key, []) if optional else self._take(key)
        self.require(isinstance(values, list), f"{key} must be a list")
        for value in values:
            fits = isinstance(value, str) and pattern.fullmatch(value) is not None
            self.require(fits, f"{key} holds {value!r}")
        self.require(len(set(values)) == len(values), f"{key} names one thing twice")
        return tuple(values)

    def end(self) -> None:
        self.require(not self._left, f"{next(iter(self._left), '')} is unknown")
