"""Adds up what was simulated: how long, how many faults of which kind, what came of it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.world.story import Result

HOUR_US = 3_600_000_000


@dataclass
class Odometer:
    """Totals of many stories, and of what else runs in virtual time."""

    seeds: int = 0
    simulated_us: int = 0  # in stories
    bench_us: int = 0  # on the rig, of a driver with its device, of the device alone
    pulses: int = 0
    sessions: int = 0
    violations: int = 0
    wrong_refusals: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    refusals: Counter[str] = field(default_factory=Counter)

    def add(self, result: Result) -> None:
        self.seeds += 1
        self.simulated_us += result.simulated_us
        self.pulses += result.pulses
        self.sessions += result.sessions
        self.violations += bool(set(result.wrong) - {"O10"})
        self.wrong_refusals += len(result.wrong.get("O10", ()))
        self.faults += result.faults
        self.refusals += result.refusals

    @property
    def hours(self) -> float:
        return (self.simulated_us + self.bench_us) / HOUR_US

    def as_table(self) -> dict[str, Any]:
        rows = vars(self).items()
        return {name: dict(own) if isinstance(own, Counter) else own for name, own in rows}

    def add_table(self, table: dict[str, Any]) -> None:
        """What another process counted."""
        for name, value in table.items():
            own = getattr(self, name)
            setattr(self, name, own + (Counter(value) if isinstance(own, Counter) else value))

    def text(self) -> str:
        """For people."""
        lines = [
            f"{self.hours:.2f} simulated hours, {self.simulated_us / HOUR_US:.2f} of them in "
            f"{self.seeds} stories: {self.pulses} pulses, {self.sessions} sessions completed",
            f"{self.violations} stories with a violation, {self.wrong_refusals} refusals that "
            "should not have been",
            f"{self.faults.total()} injected faults:",
            *_columns(self.faults),
            f"{self.refusals.total()} refusals:",
            *_columns(self.refusals),
        ]
        return "\n".join(lines)


TOTAL = Odometer()
"""Of this process."""


def _columns(counts: Counter[str], across: int = 4) -> list[str]:
    cells = [f"{name:<20}{count:>7}" for name, count in sorted(counts.items())]
    return ["  " + "   ".join(cells[at : at + across]) for at in range(0, len(cells), across)]
