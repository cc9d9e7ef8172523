"""Everything of the emulated unit that can be set: --set, --help and checks follow the table."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar


class SetupError(Exception):
    """A wrong argument, file or port of the emulator, said in one sentence for a person."""


class Row(NamedTuple):
    """One setting: a number with its closed range, a text (then `low`..`high` is its length), or
    one of the words in `words`."""

    unit: str
    low: int
    high: int
    doc: str
    words: tuple[str, ...] = ()

    @property
    def span(self) -> str:
        """What is allowed, for --help."""
        return " | ".join(self.words) or f"{self.low}..{self.high}"


def number(default: int, unit: str, low: int, high: int, doc: str) -> Any:
    """A row of a table of settings."""
    return field(default=default, metadata={"row": Row(unit, low, high, doc)})


def text(default: str, size: int, doc: str) -> Any:
    """A row that takes up to so many characters."""
    return field(default=default, metadata={"row": Row("characters", 1, size, doc)})


def choice(default: str, words: tuple[str, ...], doc: str) -> Any:
    """A row that takes one of some words."""
    return field(default=default, metadata={"row": Row("", 0, 0, doc, words)})


@dataclass(frozen=True, slots=True)
class Physics:
    """What every emulated unit has; physical constants are those of the reference model."""

    clock_us: int = number(1_000_000, "us", 0, 2**53, "device clock at start")
    drift_ppm: int = number(0, "ppm", -10_000, 10_000, "how much too fast the device clock runs")
    coil_type: int = number(1, "", 0, 255, "connected coil, 0 for none")
    cooled: int = number(0, "", 0, 1, "1 for a liquid-cooled coil")
    room_dc: int = number(240, "0.1 C", 0, 400, "room temperature")
    coil_start_dc: int = number(200, "0.1 C", 0, 800, "coil temperature at start")
    recharge_us_per_pct: int = number(200, "us/%", 1, 65535, "refill after a pulse, per %MSO")
    rise_us_per_pct: int = number(10_000, "us/%", 1, 1_000_000, "set-point up, per %MSO")
    bleed_us_per_pct: int = number(100_000, "us/%", 1, 10_000_000, "set-point down, per %MSO")
    loss_permille: int = number(250, "permille", 1, 999, "share of the stored energy a pulse takes")
    coil_heat_permille: int = number(100, "permille", 0, 999, "share that heats the winding")


@dataclass(frozen=True, slots=True)
class Settings(Physics):
    """The tmslink unit as it left the factory."""

    serial: str = text("SIM00001", 8, "serial number")
    model: str = text("tmssim", 12, "model name")
    protocol: int = number(1, "", 0, 65535, "version of the specification that it speaks")
    boot_count: int = number(1, "", 0, 2**32 - 1, "power-ups so far")
    pulse_count: int = number(0, "pulses", 0, 2**32 - 1, "pulses since manufacture, at start")
    coil_type: int = number(1, "", 0, 4, "connected coil, 0 for none")
    mso_max_pct: int = number(100, "%MSO", 0, 100, "ceiling")
    interval_min_us: int = number(10_000, "us", 1_000, 10_000_000, "shortest pulse to pulse")
    lease_pulses_max: int = number(1_000, "pulses", 1, 65535, "most pulses in one lease")
    lease_max_us: int = number(120_000_000, "us", 0, 2**32 - 1, "longest lease")
    coil_max_dc: int = number(410, "0.1 C", 0, 1_000, "coil surface temperature that disarms")


def rows(kind: type[Physics] = Settings) -> list[tuple[str, Any, Row]]:
    """Name, default and row of every setting."""
    return [(f.name, f.default, f.metadata["row"]) for f in dataclasses.fields(kind)]


S = TypeVar("S", bound=Physics)


def parse_settings(assignments: Iterable[str], kind: type[S]) -> S:
    """Settings from NAME=VALUE texts; SetupError names what is allowed."""
    known = {name: (default, row) for name, default, row in rows(kind)}
    values: dict[str, int | str] = {}
    for assignment in assignments:
        name, equals, value = assignment.partition("=")
        if not equals:
            raise SetupError(f"--set {assignment}: expected NAME=VALUE, for example cooled=1.")
        if name not in known:
            raise SetupError(
                f"--set {assignment}: no setting {name!r}; there are {', '.join(known)}."
            )
        default, row = known[name]
        if row.words:
            if value not in row.words:
                raise SetupError(f"--set {assignment}: allowed are {', '.join(row.words)}.")
            values[name] = value
            continue
        values[name] = value if isinstance(default, str) else parse_int(f"--set {name}", value)
        size = len(value.encode()) if isinstance(default, str) else int(value)
        if not row.low <= size <= row.high:
            raise SetupError(
                f"--set {assignment}: allowed are {row.low} to {row.high} {row.unit}".rstrip() + "."
            )
    return kind(**values)  # type: ignore[arg-type]


def parse_int(what: str, value: str) -> int:
    try:
        return int(value)
    except ValueError:
        raise SetupError(f"{what}: {value!r} is not a whole number.") from None


def settings_help(kind: type[Physics] = Settings) -> str:
    """The table as text for --help."""
    return "\n".join(
        f"  {name:<20} {default!s:>10} {row.unit:<10} {row.span:<18} {row.doc}"
        for name, default, row in rows(kind)
    )
