"""One measured figure and how it compares."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Figure(NamedTuple):
    """`at_most`: the target is an upper bound; `target` None: reported only."""

    what: str
    value: float
    unit: str
    target: float | None
    at_most: bool = True
    reference: str = ""

    @property
    def missed(self) -> bool:
        if self.target is None:
            return False
        return self.value > self.target if self.at_most else self.value < self.target

    def row(self) -> str:
        sign = "<=" if self.at_most else ">="
        target = "" if self.target is None else f"{sign} {self.target:g} {self.unit}"
        mark = "  MISSED" if self.missed else ""
        value = f"{self.value:.4g} {self.unit}"
        return f"{self.what:<46} {value:>14} {target:>14} {self.reference:>24}{mark}"


def percentile(values: Sequence[float], share: float) -> float:
    """The value that `share` (0..1) of the sorted values do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
