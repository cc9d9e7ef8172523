"""Why a stimulator does not connect, as the person at the station reads it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from drivers.causes import CAUSES
from tests.fakes import programs
from tests.process.system import System, system, until

STEPS = {cause.code: cause.step for cause in CAUSES}


def simulate(whole: System, model: str, *words: str) -> None:
    whole.spawn(
        "tmssim", model, "--pty", str(whole.port), "--log", whole.folder / "truth.jsonl", *words
    )
    until(whole.port.is_symlink, "the port is there")


def configure(whole: System, driver: str) -> None:
    before = whole.config.read_text()
    whole.config.write_text(before.replace('driver = "tmslink"', f'driver = "{driver}"'))


@pytest.mark.parametrize(
    ("driver", "model", "code"),
    [("magstim-200", "magstim-bistim", "wrong-model"), ("magpro-x100", "duomag-xt", "unasked")],
)
def test_status_says_the_cause_and_the_next_step(driver: str, model: str, code: str) -> None:
    with system() as whole:
        simulate(whole, model)
        configure(whole, driver)
        whole.start_tmsd()
        until(lambda: whole.status()["device"]["link"].startswith(f"{code}: "), code)
        assert whole.status()["device"]["link"].endswith(f"; {STEPS[code]}")
        status, out, _ = whole.tmsctl("status")
        assert status == 2
        words = " ".join(out.split())
        assert f"NO LINK: {code}: " in words
        assert STEPS[code] in words
        assert whole.truth.events("arm", "pulse") == []


def test_safe_off_says_nothing_to_another_makers_device() -> None:
    """STOP of tmslink would set a DuoMAG to 24 %MSO."""
    with system() as whole:
        simulate(whole, "duomag-xt")
        assert safe_off(whole.config) == 0
        assert whole.truth.events("arm", "pulse") == []


def test_safe_off_stops_its_own_device() -> None:
    with system() as whole:
        whole.start_simulator()
        until(whole.port.is_symlink, "the port is there")
        assert safe_off(whole.config) == 0
        until(lambda: whole.truth.events("stop"), "STOP has arrived")


def safe_off(config: Path) -> int:
    words = [programs.FOLDER / "tms-guard", "--safe-off", "--config", config]
    return subprocess.run(words, timeout=30, check=False).returncode
