"""Options that all tests share."""

from __future__ import annotations

import json
from typing import Any

import hypothesis
import pytest

from tests.world.odometer import Odometer

# A slow machine is no failure: the default of 200 ms an example would be a wall-clock assertion.
hypothesis.settings.register_profile("tmsctl", deadline=None)
hypothesis.settings.load_profile("tmsctl")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--seed", type=int, default=None, help="replay one seed (tests/world)")


# What the stories amount to, added up over all processes of a run and printed at its end.
_KEY = "odometer"
_TOTAL = pytest.StashKey[Odometer]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_TOTAL] = Odometer()


@pytest.fixture
def odometer(pytestconfig: pytest.Config) -> Odometer:
    """Add what was simulated."""
    return pytestconfig.stash[_TOTAL]


def pytest_sessionfinish(session: pytest.Session) -> None:
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output[_KEY] = json.dumps(session.config.stash[_TOTAL].as_table())


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """A process of pytest-xdist ended."""
    told = getattr(node, "workeroutput", {}).get(_KEY)
    if told:
        node.config.stash[_TOTAL].add_table(json.loads(told))


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    total = config.stash[_TOTAL]
    if total.seeds:
        terminalreporter.section("simulated worlds")
        terminalreporter.write_line(total.text())
