"""The safety case is made from the catalogue, and holds all of it."""

from __future__ import annotations

import importlib.util
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest

from tmsctl.safety.catalogue import load
from tmsctl.safety.limits import ROWS
from tmsctl.safety.rules import ARM, GATE, WATCH

DOCS = Path(__file__).parents[2] / "docs"
PAGE = DOCS / "safety-case.md"


@cache
def maker() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_safety_case", DOCS / "make_safety_case.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_up_to_date() -> None:
    assert maker().main(["--check", str(PAGE)]) == 0


def test_a_page_that_is_out_of_date_is_found_and_made_anew(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "safety-case.md"
    page.write_text(PAGE.read_text(encoding="utf-8").replace("H01", "H99"), encoding="utf-8")
    assert maker().main(["--check", str(page)]) == 1
    assert capsys.readouterr().err.count("out of date") == 1
    assert maker().main([str(page)]) == 0
    assert page.read_text(encoding="utf-8") == PAGE.read_text(encoding="utf-8")


def test_a_page_that_lacks_a_section_is_refused_in_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "safety-case.md"
    text = PAGE.read_text(encoding="utf-8").replace("<!-- generated: left -->", "")
    page.write_text(text, encoding="utf-8")
    assert maker().main([str(page)]) == 1
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert page.read_text(encoding="utf-8") == text


def test_every_hazard_rule_and_requirement_has_one_row() -> None:
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    catalogue = load()
    hazards = lines[lines.index("## 2. Hazards") : lines.index("## 4. Rules")]
    for name in catalogue.hazards:
        assert sum(line.startswith(f"| {name} |") for line in hazards) in (1, 2), name
    for name in catalogue.requirements:
        assert sum(line.startswith(f"| {name} |") for line in lines) == 1, name
    for code in catalogue.rules:
        assert sum(line.startswith(f"| `{code}` |") for line in lines) == 1, code


def test_a_figure_that_is_not_verified_says_so_wherever_it_stands() -> None:
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    for row in (*WATCH, *GATE, *ARM):
        if row.limit:
            line = next(line for line in lines if line.startswith(f"| `{row.code}` |"))
            assert ("**not verified**" in line) == (not ROWS[row.limit].verified), row.code
            assert f"{ROWS[row.limit].general:_}" in line


def test_the_page_claims_no_probability_for_a_clinic() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert "no number for a clinic follows from it" in text
    assert "It cannot express:" in text
