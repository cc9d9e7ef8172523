"""Options that all tests share."""

from __future__ import annotations

import importlib
import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from tests.world.odometer import TOTAL

# A slow machine is no failure: the default of 200 ms an example would be a wall-clock assertion.
hypothesis.settings.register_profile("tmsctl", deadline=None)
hypothesis.settings.load_profile("tmsctl")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--seed", type=int, default=None, help="replay one seed (tests/world)")


def pytest_configure(config: pytest.Config) -> None:
    """Where several processes share a whole run, each begins with other files than the rest.

    Pytest compiles them so that a failed assertion shows its values, which takes longer than
    anything else until the first test; and whoever comes later finds the file compiled.
    """
    own = os.environ.get("PYTEST_XDIST_WORKER", "").removeprefix("gw")
    here = Path(__file__).parent
    if own and here in [config.invocation_params.dir / name for name in config.args]:
        workers = int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
        for file in sorted(here.rglob("test_*.py"))[int(own) :: workers]:
            name = ".".join(file.relative_to(here.parent).with_suffix("").parts)
            with suppress(Exception, pytest.skip.Exception):  # collection tells what is wrong
                importlib.import_module(name)


# What was simulated, added up over all processes of a run and printed at its end.
_KEY = "odometer"
HOURS_MIN = 5
FAULTS_MIN = 30_000


def pytest_sessionfinish(session: pytest.Session) -> None:
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output[_KEY] = json.dumps(TOTAL.as_table())
    elif _is_whole(session.config) and session.exitstatus == pytest.ExitCode.OK and not _enough():
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """A process of pytest-xdist ended."""
    told = getattr(node, "workeroutput", {}).get(_KEY)
    if told:
        TOTAL.add_table(json.loads(told))


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    if TOTAL.seeds:
        terminalreporter.section("simulated worlds")
        terminalreporter.write_line(TOTAL.text())
    if _is_whole(config) and not _enough():
        terminalreporter.write_line(
            f"TOO LITTLE: at least {HOURS_MIN} hours and {FAULTS_MIN} faults are promised", red=True
        )


def _is_whole(config: pytest.Config) -> bool:
    chosen = config.option
    narrowed = chosen.keyword or chosen.deselect or chosen.markexpr or chosen.collectonly
    return config.args_source is pytest.Config.ArgsSource.TESTPATHS and not narrowed


def _enough() -> bool:
    return TOTAL.hours >= HOURS_MIN and TOTAL.faults.total() >= FAULTS_MIN
