"""`tmsctl interlocks`: with tmsd, without it, and for whoever asks for one id."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.fakes.tmsd import FakeTmsd
from tmsctl.cli import interlocks
from tmsctl.safety import rules
from tmsctl.safety.catalogue import load
from tmsctl.safety.limits import ROWS

CATALOGUE = load()
TABLES = (("watch", rules.WATCH), ("gate", rules.GATE), ("arm", rules.ARM))


def listed(tmsctl: Any) -> tuple[str, dict[tuple[str, str], Any]]:
    status, out, err = tmsctl("interlocks", "list", "--json")
    assert (status, err) == (0, "")
    answer = json.loads(out)
    return answer["note"], {(row["table"], row["code"]): row for row in answer["interlocks"]}


def test_without_tmsd_every_rule_is_listed_with_its_general_limit(tmsctl: Any) -> None:
    note, found = listed(tmsctl)
    assert note.startswith("General limits and no present values: tmsd is not running")
    for table, rows in TABLES:
        for row in rows:
            shown = found[table, row.code]
            limit = ROWS[row.limit] if row.limit else None
            assert shown["hazards"] == row.hazards.split()
            assert (shown["value"], shown["live"], shown["says"]) == (None, False, "")
            assert shown["limit"] == (limit.general if limit else None)
            assert shown["unit"] == (limit.unit if limit else "")
            assert shown["verified"] == (limit.verified if limit else None)
    out = tmsctl("interlocks", "list")[1]
    assert out.splitlines()[-1] == note
    assert "at most 60 ms (unverified: A-12: device status at most 60 ms old; as old" in out
    assert "now" not in out.split()


def test_with_tmsd_the_limit_in_force_and_the_present_value_are_shown(
    tmsd: FakeTmsd, tmsctl: Any
) -> None:
    tmsd.interlocks[0] |= {"says": "coil surface at 40.5 C, allowed 40.0 C", "value": 405}
    note, found = listed(tmsctl)
    shown = found["watch", "coil-hot"]
    assert (note, shown["live"], shown["value"], shown["limit"]) == ("", True, 405, 400)
    out = tmsctl("interlocks", "list")[1]
    assert "now 40.5 °C, at most 40.0 °C (unverified: IEC 60601-1 applied part 41 C)" in out
    assert "ACTS: coil surface at 40.5 C, allowed 40.0 C" in out


def test_a_value_that_is_unknown_says_so(tmsd: FakeTmsd, tmsctl: Any) -> None:
    tmsd.interlocks[0] |= {"value": None, "verified": True}
    assert "now unknown, at most 40.0 °C (verified: " in tmsctl("interlocks", "list")[1]


def test_a_guard_that_does_not_answer_is_named_and_the_table_is_shown(
    tmsd: FakeTmsd, tmsctl: Any
) -> None:
    tmsd.refusals["interlocks.list"] = {
        "sentence": "The guard does not answer.", "code": "guard-absent", "exit": 2, "next": "",
    }  # fmt: skip
    note, found = listed(tmsctl)
    assert note.endswith("The guard does not answer.")
    assert not found["watch", "coil-hot"]["live"]


def test_any_other_refusal_is_an_error(tmsd: FakeTmsd, tmsctl: Any) -> None:
    tmsd.refusals["interlocks.list"] = {
        "sentence": "No.", "code": "unknown-method", "exit": 1, "next": "",
    }  # fmt: skip
    assert tmsctl("interlocks", "list")[::2] == (1, "tmsctl: No. [unknown-method]\n")


@pytest.mark.parametrize("name", ["H15", "h15", "A-09", "a-09", "coil-hot"])
def test_a_rule_is_found_by_its_code_its_hazard_and_its_requirement(
    tmsd: FakeTmsd, tmsctl: Any, name: str
) -> None:
    status, out, _ = tmsctl("interlocks", "show", name)
    rule = CATALOGUE.rules["coil-hot"]
    assert status == 0
    assert "now 24.1 °C, at most 40.0 °C" in out
    for test in (*rule.refused_by, *rule.allowed_by):
        assert test in out
    found = json.loads(tmsctl("interlocks", "show", name, "--json")[1])
    assert "coil-hot" in {row["code"] for row in found["interlocks"]}


def test_a_rule_names_its_hazards_and_requirements_in_words(tmsctl: Any) -> None:
    out = tmsctl("interlocks", "show", "coil-hot")[1]
    assert f"H15: {CATALOGUE.hazards['H15'].hazard}" in out
    assert f"A-09: {CATALOGUE.requirements['A-09'].text}" in out
    assert "at most 2.0 °C in 1 s" in tmsctl("interlocks", "show", "coil-sensor")[1]


@pytest.mark.parametrize("kind", ["rules", "hazards", "requirements"])
def test_every_id_of_the_catalogue_can_be_shown(kind: str) -> None:
    for name, found in getattr(CATALOGUE, kind).items():
        codes = [name] if kind == "rules" else found.rules
        rows = [row for code in codes for row in interlocks._rows(CATALOGUE.rules[code], {})]
        text = "\n".join(interlocks._told(found, CATALOGUE, rows))
        assert text.startswith(f"{name}: ")
        assert all(code in text for code in codes)


def test_an_unknown_id_is_one_sentence(tmsctl: Any) -> None:
    status, out, err = tmsctl("interlocks", "show", "H99")
    assert (status, out) == (1, "")
    assert err == (
        "tmsctl: There is no rule, hazard or requirement 'H99'. See `tmsctl interlocks list`. "
        "[interlock-unknown]\n"
    )
