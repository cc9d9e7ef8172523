"""The prover. Where it is missing a test fails and says so: what did not run proves nothing."""

from __future__ import annotations

from typing import Any

import pytest

try:
    import z3
except ImportError:
    z3 = None  # type: ignore[assignment]

MISSING = "z3-solver is not installed, so nothing was proved: run `pip install -e .[dev]` again"


def prover() -> Any:
    """The module z3; fails the test where there is none."""
    if z3 is None:
        pytest.fail(MISSING)
    return z3


def counterexample(*claims_against: Any) -> Any:
    """A model of all of these together, or None when there is none: then the claim is proved.

    An answer of neither kind (a time-out of the prover) is a failure.
    """
    solver = prover().Solver()
    solver.set("timeout", 50_000)
    solver.add(*claims_against)
    answer = solver.check()
    assert answer != z3.unknown, solver.reason_unknown()
    return solver.model() if answer == z3.sat else None
