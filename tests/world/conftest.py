"""What the stories of a test run amount to, over all its processes; printed at its end."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.world.odometer import Odometer

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
