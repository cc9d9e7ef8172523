"""What `tmsctl protocol` says of limits: which are exceeded, and which nobody has verified."""

from __future__ import annotations

import json
import re
from typing import Any

from typer.testing import CliRunner

from tmsctl.cli import protocol
from tmsctl.safety.limits import ROWS
from tmsctl.stimulation.protocol import load_library

LIBRARY = load_library()


def run(*arguments: str) -> str:
    runner = CliRunner(env={"COLUMNS": "160"})
    return runner.invoke(protocol.app, arguments, catch_exceptions=False).stdout


def checks(*arguments: str) -> dict[str, Any]:
    found = json.loads(run("show", *arguments, "--json"))["checks"]
    return {check["code"]: check for check in found}


def test_the_plan_is_judged_by_every_limit_and_unverified_ones_are_marked() -> None:
    found = checks("itbs600", "--mt", "50")
    lines = run("show", "itbs600", "--mt", "50").splitlines()
    for code, check in found.items():
        (line,) = (line for line in lines if re.search(rf" {code}  ", line))
        assert check["detail"] in line
        assert check["ok"] == ("✓ ok" in line)
        assert check["verified"] == ("unverified" not in line)
        assert check["source"]
    assert lines[-1].startswith("unverified: ")


def test_without_a_threshold_nothing_is_judged() -> None:
    assert "checks" not in json.loads(run("show", "itbs600", "--json"))
    assert "✓ ok" not in run("show", "itbs600")


def test_a_threshold_measured_by_eye_is_judged_stricter() -> None:
    assert checks("hf10-37", "--mt", "50", "--mt-method", "emg")["guideline-train"]["ok"]
    by_eye = checks("hf10-37", "--mt", "50", "--mt-method", "visual")["guideline-train"]
    assert not by_eye["ok"]
    assert checks("hf10-37", "--mt", "50")["guideline-train"] == by_eye
    assert "✗ NO" in run("show", "hf10-37", "--mt", "50")


def test_a_soft_limit_that_is_exceeded_is_marked() -> None:
    check = checks("ctbs600", "--mt", "50")["not-reviewed"]
    assert (check["ok"], check["soft"]) == (False, True)
    assert re.search(r"! SOFT +not-reviewed", run("show", "ctbs600", "--mt", "50"))


def test_what_a_file_exceeds_is_said_with_the_limit_and_whether_it_was_verified() -> None:
    lines = dict(zip(sorted(LIBRARY), run("check").splitlines(), strict=True))
    for name, found in LIBRARY.items():
        assert ("exceeds" in lines[name]) == bool(found.exceeds)
        for limit, value in found.exceeds.items():
            assert f"{limit} {value} (" in lines[name]
            assert not ROWS[limit].verified
            assert f"{limit} {value} (" in run("show", name)
    assert "session_gap_min_s 3000 (soft limit 14400, unverified)" in lines["snt1800"]
    assert "pulses_day_max 18000 (general limit 6000, unverified)" in lines["snt1800"]
    assert "not reviewed, so a session needs a reason" in lines["ctbs600"]
    assert "reason" not in lines["itbs600"]


def test_the_limits_that_a_file_exceeds_are_in_the_json_with_their_source() -> None:
    beyond = json.loads(run("show", "ctbs600", "--json"))["beyond"]
    assert {item["name"]: item["value"] for item in beyond} == LIBRARY["ctbs600"].exceeds
    for item in beyond:
        row = ROWS[item["name"]]
        assert item == {
            "name": row.name, "value": item["value"], "unit": row.unit, "soft": row.soft,
            "general": row.general, "absolute": row.absolute, "verified": row.verified,
            "source": row.source,
        }  # fmt: skip
