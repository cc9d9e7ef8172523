"""Options that all tests share."""

from __future__ import annotations

import hypothesis
import pytest

# A slow machine is no failure: the default of 200 ms an example would be a wall-clock assertion.
hypothesis.settings.register_profile("tmsctl", deadline=None)
hypothesis.settings.load_profile("tmsctl")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--soak-minutes",
        type=float,
        default=0.0,
        help="run simulated sessions with fresh seeds for so long (tests/world)",
    )
    parser.addoption("--seed", type=int, default=None, help="replay one seed (tests/world)")
