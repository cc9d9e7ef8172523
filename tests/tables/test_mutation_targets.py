"""`make mutants` breaks all that must be broken, and each survivor that it accepts has a reason."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "tests" / "mutation"
TARGETS: list[dict[str, Any]] = tomllib.loads((FOLDER / "targets.toml").read_text())["target"]
ACCEPTED: list[dict[str, str]] = tomllib.loads((FOLDER / "accepted.toml").read_text()).get(
    "mutant", []
)
FILES = [file for target in TARGETS for file in target["files"]]
TYPES_ONLY = ("__init__.py", "facts.py", "plan_view.py", "refusal.py")
"""Files of tmsctl/safety that only declare what others compute."""


def test_every_file_is_mutated_once_and_all_of_safety_is() -> None:
    assert len(FILES) == len(set(FILES))
    assert [file for file in FILES if not (ROOT / file).is_file()] == []
    safety = {
        file.relative_to(ROOT).as_posix()
        for file in (ROOT / "tmsctl" / "safety").glob("*.py")
        if file.name not in TYPES_ONLY
    }
    assert safety - set(FILES) == set()


def test_what_is_left_out_decides_nothing() -> None:
    for name in TYPES_ONLY:
        tree = ast.parse((ROOT / "tmsctl" / "safety" / name).read_text(encoding="utf-8"))
        decisions = (ast.If, ast.IfExp, ast.Compare, ast.BoolOp, ast.BinOp, ast.For, ast.While)
        found = [node for node in ast.walk(tree) if isinstance(node, decisions)]
        assert [
            node for node in found if not isinstance(getattr(node, "op", None), ast.BitOr)
        ] == []


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target["name"])
def test_every_test_that_judges_exists(target: dict[str, Any]) -> None:
    for test in (test for stage in target["stages"] for test in stage):
        file, _, name = test.partition("::")
        text = (ROOT / file).read_text(encoding="utf-8")
        assert f"def {name.partition('[')[0]}" in text


def test_every_survivor_that_is_accepted_has_a_reason_and_a_file_that_is_mutated() -> None:
    ids = [row["id"] for row in ACCEPTED]
    assert len(ids) == len(set(ids))
    for row in ACCEPTED:
        assert set(row) == {"id", "why"}
        assert re.fullmatch(r"[\w/]+\.py:[\w.]+~[0-9a-f]{8}(\.\d+)?", row["id"]), row["id"]
        assert row["id"].partition(":")[0] in FILES
        assert len(row["why"]) > 20
        assert row["why"].endswith(".")
