"""The catalogue is whole: each hazard and requirement has its rules, each rule its tests."""

from __future__ import annotations

import ast
import json
import re
from functools import cache
from pathlib import Path

import pytest

from tests.tables.rule_cases import ALLOWS, REFUSES
from tmsctl.safety.catalogue import MET_BY, RULE_TABLES, Hazard, Requirement, Rule, load, parse
from tmsctl.safety.rules import ARM, GATE, WATCH

ROOT = Path(__file__).parents[2]
CATALOGUE = load()
RULES, HAZARDS = CATALOGUE.rules.values(), CATALOGUE.hazards.values()
REQUIREMENTS = CATALOGUE.requirements.values()
TEXT = (ROOT / "tmsctl" / "safety" / "catalogue.toml").read_text(encoding="utf-8")

LAST = {"A": 14, "D": 16, "L": 11, "J": 12, "T": 6, "H": 6, "P": 4}
"""Requirements of each letter, counted from 01."""

CASE_TABLES = ("watch", "gate", "arm", "plan", "patient")
"""Their rules have two-sided cases in tests/tables/rule_cases.py."""


@cache
def functions(file: str) -> frozenset[str]:
    """Top-level functions and Class.method of a file."""
    names = set()
    for node in ast.parse((ROOT / file).read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        if isinstance(node, ast.ClassDef):
            names |= {
                f"{node.name}.{inner.name}"
                for inner in node.body
                if isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef)
            }
    return frozenset(names)


def exists(place: str, mark: str) -> bool:
    file, _, name = place.partition(mark)
    return (ROOT / file).is_file() and name in functions(file)


# -- hazards and requirements -----------------------------------------------------------------


def test_every_hazard_and_every_requirement_is_there_once() -> None:
    assert list(CATALOGUE.hazards) == [f"H{number:02}" for number in range(1, 48)]
    assert list(CATALOGUE.requirements) == [
        f"{letter}-{number:02}" for letter, last in LAST.items() for number in range(1, last + 1)
    ]


@pytest.mark.parametrize("hazard", HAZARDS, ids=lambda hazard: hazard.id)
def test_a_hazard_has_a_rule_or_says_who_meets_it_and_why(hazard: Hazard) -> None:
    assert hazard.met_by in MET_BY
    assert hazard.why.endswith(".")
    assert (hazard.met_by != "rule") or hazard.rules, "no rule"


@pytest.mark.parametrize("requirement", REQUIREMENTS, ids=lambda requirement: requirement.id)
def test_a_requirement_has_a_rule_or_a_test_or_says_who_meets_it(requirement: Requirement) -> None:
    if requirement.met_by == "rule":
        assert requirement.rules or requirement.tests
    else:
        assert requirement.why.endswith(".")
    assert [test for test in requirement.tests if not exists(test, "::")] == []


def test_what_a_rule_names_is_in_the_catalogue() -> None:
    for rule in RULES:
        assert [name for name in rule.hazards if name not in CATALOGUE.hazards] == []
        assert [name for name in rule.requirements if name not in CATALOGUE.requirements] == []
        assert rule.hazards or rule.requirements, rule.code


# -- rules and the code -----------------------------------------------------------------------


def test_the_tables_of_the_code_and_the_catalogue_have_the_same_rules() -> None:
    for name, rows in (("watch", WATCH), ("gate", GATE), ("arm", ARM)):
        coded = {row.code: tuple(row.hazards.split()) for row in rows}
        assert coded == {rule.code: rule.hazards for rule in RULES if rule.table == name}
        assert all(row.code in CATALOGUE.rules for row in rows)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.code)
def test_a_rule_has_a_test_on_each_side(rule: Rule) -> None:
    tests = (*rule.refused_by, *rule.allowed_by)
    assert [test for test in tests if not exists(test, "::")] == []
    if rule.table in CASE_TABLES:
        assert REFUSES.get(rule.code), "no case that it refuses"
        assert ALLOWS.get(rule.code), "no case that it allows"
        assert rule.where == ""
    else:
        assert rule.refused_by
        assert rule.allowed_by
        assert not {*rule.refused_by} & {*rule.allowed_by}
        assert exists(rule.where, ":"), f"{rule.where} does not exist"


def test_every_case_belongs_to_a_rule() -> None:
    assert {*REFUSES, *ALLOWS} <= CATALOGUE.rules.keys()


NO_RULES = {
    "acknowledged": "an event",
    "arm-refused": "the device's own refusal, passed on",
    "block-resolved": "what a person asks of the ledger twice",
    "block-running": "a question of order: the outcome comes by itself",
    "block-sure": "what a person asks of the ledger without need",
    "block-unknown": "a name that the ledger does not have",
    "complete": "an event: nothing is left to deliver",
    "delivered-range": "a number that a person typed",
    "device-unreachable": "a fact of the link; nothing can be delivered without a device",
    "dose-zero": "an order of nothing",
    "guard-absent": "a fact; without a guard nothing is delivered",
    "guard-busy": "a question of order: the guard disarms first",
    "latched": "a question of order: acknowledge first",
    "mt-missing": "a number that a person typed",
    "mt-out-of-range": "a number that a person typed",
    "newer-cause": "a question of order: look, then acknowledge",
    "device-cannot": "what the connected device is able to do; asked before anything is armed",
    "no-device": "a fact of the link; nothing can be delivered without a device",
    "no-session": "a question of order",
    "not-loaded": "a question of order",
    "not-station": "a question of who may show presence; refusing leaves presence to age",
    "paused": "an event",
    "pausing": "a question of order: the guard pauses first",
    "pct-mt-out-of-range": "a number that a person typed",
    "protocol-unknown": "a name that the library does not have",
    "ready": "an event",
    "reason-wrong": "a text that a person typed",
    "run": "an event",
    "self-test-running": "a question of order",
    "serial-wrong": "a name that a person typed",
    "time-wrong": "a text that a person typed",
    "unloaded": "an event",
    "wrong-position": "a question of order",
}
"""Codes of the guard and of sessions that keep nothing from harm, and why."""

CODE_AT = {"Trip": 0, "_no": 0, "refuse": 1, "Refusal": 0, "RefusedError": 1}


def codes_of(file: Path) -> set[str]:
    """Codes that are written out in a file, where a cause or a refusal is made."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            name = getattr(node.func, "id", getattr(node.func, "attr", ""))
            at = CODE_AT.get(name, len(node.args))
            found |= {a.value for a in node.args[at : at + 1] if isinstance(a, ast.Constant)}
    return {code for code in found if isinstance(code, str)}


def test_every_code_of_safety_guard_and_sessions_is_a_rule_or_says_why_it_is_none() -> None:
    rooms = ("safety", "guard", "session", "stimulation")
    files = [file for room in rooms for file in (ROOT / "tmsctl" / room).glob("*.py")]
    found = {code for file in files for code in codes_of(file)}
    assert len(found) > 40
    assert sorted(found - CATALOGUE.rules.keys() - NO_RULES.keys()) == []
    assert not NO_RULES.keys() & CATALOGUE.rules.keys()
    assert sorted(NO_RULES.keys() - found) == []


# -- a wrong catalogue is refused -------------------------------------------------------------

SMALL = """
[tests_of.watch]
refused_by = ["tests/tables/a.py::test_a"]
allowed_by = ["tests/tables/a.py::test_b"]
[rules.stop]
table = "watch"
does = "somebody pressed STOP"
hazards = ["H01"]
requirements = ["A-01"]
[rules.plan-changed]
table = "guard"
also = ["watch"]
does = "the plan is another one"
where = "tmsctl/guard/plans.py:plan_for"
hazards = []
requirements = ["A-01"]
refused_by = ["tests/tables/a.py::test_c"]
allowed_by = ["tests/tables/a.py::test_d"]
[hazards.H01]
hazard = "a seizure begins"
severity = 5
met_by = "rule"
why = "One key stops everything."
[requirements.A-01]
text = "STOP stops."
tests = []
met_by = "device"
why = "By its own timer."
"""


def test_a_small_catalogue_is_read_whole() -> None:
    found = parse(SMALL)
    assert found.rules["stop"] == Rule(
        "stop", "watch", (), "somebody pressed STOP", "", ("H01",), ("A-01",),
        ("tests/tables/a.py::test_a",), ("tests/tables/a.py::test_b",),
    )  # fmt: skip
    changed = found.rules["plan-changed"]
    assert (changed.table, changed.also) == ("guard", ("watch",))
    assert changed.where == "tmsctl/guard/plans.py:plan_for"
    everywhere = parse(SMALL.replace('also = ["watch"]', f"also = {json.dumps(RULE_TABLES)}"))
    assert everywhere.rules["plan-changed"].also == RULE_TABLES
    assert changed.refused_by == ("tests/tables/a.py::test_a", "tests/tables/a.py::test_c")
    assert changed.allowed_by == ("tests/tables/a.py::test_b", "tests/tables/a.py::test_d")
    assert found.hazards["H01"] == Hazard(
        "H01", "a seizure begins", 5, ("stop",), "rule", "One key stops everything.", ""
    )
    assert found.requirements["A-01"] == Requirement(
        "A-01", "STOP stops.", ("stop", "plan-changed"), (), "device", "By its own timer."
    )


KEYS = [
    (section, key)
    for section, body in re.findall(r"\[([\w.-]+)\]\n(.*?)(?=\n\[|\Z)", SMALL, re.DOTALL)
    for key in re.findall(r"^(\w+) =", body, re.MULTILINE)
    if key not in ("also", "why") or section == "hazards.H01"
]


@pytest.mark.parametrize(("section", "key"), KEYS)
def test_a_row_without_any_one_key_is_refused_by_name(section: str, key: str) -> None:
    pattern = rf"(\[{re.escape(section)}\]\n(?:(?!\[).*\n)*?){key} = .*\n"
    without, count = re.subn(pattern, r"\1", SMALL)
    assert count == 1
    with pytest.raises(ValueError, match=f"{re.escape(section)}: {key} is missing"):
        parse(without)


WRONG = {
    "table is 'often'": ('table = "watch"', 'table = "often"'),
    "also must be of": ('also = ["watch"]', 'also = ["often"]'),
    "where is": ("plans.py:plan_for", "plans.py"),
    "hazards holds 'X01'": ('hazards = ["H01"]', 'hazards = ["X01"]'),
    "hazards holds 1": ('hazards = ["H01"]', "hazards = [1]"),
    "hazards must be a list": ('hazards = ["H01"]', 'hazards = "H01"'),
    "requirements names one thing twice": ('["A-01"]', '["A-01", "A-01"]'),
    "refused_by holds": ("a.py::test_c", "a.py"),
    "does must be a text": ('does = "somebody pressed STOP"', "does = 1"),
    "does is empty": ('does = "somebody pressed STOP"', 'does = ""'),
    "severity is 6": ("severity = 5", "severity = 6"),
    "severity is 0": ("severity = 5", "severity = 0"),
    "severity must be a whole number": ("severity = 5", "severity = true"),
    "met_by is 'nobody'": ('met_by = "device"', 'met_by = "nobody"'),
    "else is unknown": ("severity = 5", "severity = 5\nelse = 1"),
    "an id is H": ("[hazards.H01]", "[hazards.H1]"),
    "an id is a letter": ("[requirements.A-01]", "[requirements.S-01]"),
    "a code is made of": ("[rules.stop]", "[rules.Stop]"),
    "must be one of watch": ("[tests_of.watch]", "[tests_of.often]"),
    "extra is unknown or missing": ("[tests_of.watch]", "[extra]\n[tests_of.watch]"),
    "must be a table": ("[rules.stop]", "[rules]\nother = 1\n[rules.stop]"),
}


@pytest.mark.parametrize("says", WRONG)
def test_a_wrong_cell_is_refused_in_one_sentence(says: str) -> None:
    before, after = WRONG[says]
    assert before in SMALL
    with pytest.raises(ValueError, match=re.escape(says)):
        parse(SMALL.replace(before, after, 1))


def test_severity_from_one_to_five_is_taken() -> None:
    for severity in range(1, 6):
        assert parse(SMALL.replace("severity = 5", f"severity = {severity}"))


def test_the_file_that_ships_is_the_one_that_is_read() -> None:
    assert parse(TEXT) == CATALOGUE
