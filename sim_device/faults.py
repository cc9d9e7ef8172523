"""Faults on demand: what the device can do wrong, when, and how often it did.

A fault file is TOML, one table a fault, each with exactly one trigger:

    [[fault]]
    kind = "silent"
    at_s = 2.5          # or at_pulse = 100, at_command = 3, probability = 0.01
    for_s = 0.2         # optional: how long it lasts from then on
    times = 5           # optional: how often it strikes at most
    value = 20          # for kinds that have one
"""

from __future__ import annotations

import enum
import random
import tomllib
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

from firmware_protocol.quantities import SECOND
from sim_device.settings import SetupError


class Occasion(enum.Enum):
    """When a fault of a kind can strike."""

    FRAME = "each frame to the host"
    ARM = "each ARM command"
    PULSE = "each pulse of a lease"
    MOMENT = "by itself; with a probability: at each status, pulse and command"


class Value(NamedTuple):
    unit: str
    default: int
    low: int
    high: int


class Kind(NamedTuple):
    occasion: Occasion
    lasts: bool  # goes on from its trigger; otherwise it strikes once
    value: Value | None
    doc: str


KINDS: Final[dict[str, Kind]] = {
    "silent": Kind(Occasion.FRAME, True, None, "works on, but nothing reaches the host"),
    "drop_frame": Kind(Occasion.FRAME, False, None, "a frame does not leave"),
    "bit_flip": Kind(Occasion.FRAME, False, None, "one bit of a frame is inverted"),
    "late": Kind(Occasion.FRAME, True, Value("ms", 20, 1, 10_000), "frames leave later"),
    "garbage": Kind(Occasion.MOMENT, False, Value("bytes", 64, 1, 4096), "random bytes"),
    "refuse_arm": Kind(Occasion.ARM, True, None, "ARM is answered FAULT_PRESENT"),
    "missing_pulse": Kind(Occasion.PULSE, False, None, "neither leaves nor is counted nor told"),
    "intensity_bias": Kind(
        Occasion.PULSE, True, Value("%", 10, -100, 100), "delivers more or less than is set"
    ),
    "spontaneous_pulse": Kind(Occasion.MOMENT, False, None, "fires without a command"),
    "coil_hot": Kind(Occasion.MOMENT, False, Value("0.1 C", 450, 0, 1000), "coil jumps to this"),
    "coil_absent": Kind(Occasion.MOMENT, False, None, "the coil is unplugged"),
    "disarms_itself": Kind(Occasion.MOMENT, False, None, "somebody presses stop on its panel"),
    "clock_drift_ppm": Kind(
        Occasion.MOMENT,
        False,
        Value("ppm", 500, -10_000, 10_000),
        "its clock runs this much faster",
    ),
}


@dataclass(frozen=True, slots=True)
class Rule:
    """One fault and its one trigger; counts start at 1, times at the device's start."""

    kind: str
    value: int = 0
    at_us: int | None = None
    at_pulse: int | None = None  # from the n-th pulse that was due
    at_command: int | None = None  # from the n-th command, beats not counted
    probability: float | None = None
    for_us: int | None = None
    times: int | None = None


class _Active:
    """A rule and how far it has come."""

    __slots__ = ("left", "rule", "since_us")

    def __init__(self, rule: Rule) -> None:
        bounded = not KINDS[rule.kind].lasts and rule.for_us is None and rule.probability is None
        self.rule = rule
        self.left = rule.times if rule.times is not None else 1 if bounded else None
        self.since_us: int | None = None


class Faults:
    """Decides at each occasion whether a fault strikes. Add and clear rules at any time."""

    def __init__(self, rng: random.Random, start_us: int, rules: Iterable[Rule] = ()) -> None:
        self.counts: Counter[str] = Counter()
        self.pulses = self.commands = 0
        self.changed: Callable[[], None] = lambda: None  # told after `add` and `clear`
        self._rng, self._start_us = rng, start_us
        self._active: dict[str, list[_Active]] = {}
        self.touches_frames = False
        for rule in rules:
            self.add(rule)

    def add(self, rule: Rule) -> None:
        self._active.setdefault(rule.kind, []).append(_Active(rule))
        self.touches_frames |= KINDS[rule.kind].occasion is Occasion.FRAME
        self.changed()

    def clear(self, kind: str) -> None:
        """Forget every rule of a kind; what has happened stays."""
        self._active.pop(kind, None)
        self.touches_frames = any(KINDS[k].occasion is Occasion.FRAME for k in self._active)
        self.changed()

    def strikes(self, kind: str, now_us: int) -> int | None:
        """The fault's value (0 when it has none) if it strikes now, else None."""
        for active in self._active.get(kind, ()):
            if self._begins_or_goes_on(active, now_us):
                if active.left is not None:
                    active.left -= 1
                self.counts[kind] += 1
                return active.rule.value
        return None

    def moments(self, now_us: int) -> list[tuple[str, int]]:
        """Faults that happen by themselves now."""
        if not self._active:
            return []
        found = []
        for kind in self._active:
            if KINDS[kind].occasion is Occasion.MOMENT:
                value = self.strikes(kind, now_us)
                if value is not None:
                    found.append((kind, value))
        return found

    def next_us(self) -> int | None:
        """Earliest instant at which a fault is set to happen by itself."""
        if not self._active:
            return None
        waiting = [
            self._start_us + active.rule.at_us
            for kind, several in self._active.items()
            for active in several
            if KINDS[kind].occasion is Occasion.MOMENT
            and active.rule.at_us is not None
            and active.since_us is None
            and active.left != 0
        ]
        return min(waiting, default=None)

    def spoil(self, frame: bytes) -> bytes:
        """The frame with one random bit inverted."""
        at = self._rng.randrange(len(frame))
        flipped = frame[at] ^ 1 << self._rng.randrange(8)
        return frame[:at] + bytes((flipped,)) + frame[at + 1 :]

    def noise(self, size: int) -> bytes:
        return self._rng.randbytes(size)

    def _begins_or_goes_on(self, active: _Active, now_us: int) -> bool:
        rule = active.rule
        if active.left == 0:
            return False
        if active.since_us is not None and rule.for_us is not None:
            if now_us - active.since_us < rule.for_us:
                return True
            if rule.probability is None:
                active.left = 0
                return False
        if self._triggered(rule, now_us):
            if active.since_us is None or rule.probability is not None:
                active.since_us = now_us
            return True
        return False

    def _triggered(self, rule: Rule, now_us: int) -> bool:
        if rule.probability is not None:
            return self._rng.random() < rule.probability
        if rule.at_us is not None:
            return now_us - self._start_us >= rule.at_us
        if rule.at_pulse is not None:
            return self.pulses >= rule.at_pulse
        return rule.at_command is not None and self.commands >= rule.at_command


_TRIGGERS: Final = ("at_s", "at_pulse", "at_command", "probability")
# Key: lowest and highest value. Seconds and probabilities may be fractions.
_KEYS: Final[dict[str, tuple[float, float]]] = {
    "at_s": (0, 1e6),
    "at_pulse": (1, 1e9),
    "at_command": (1, 1e9),
    "probability": (0, 1),
    "for_s": (0, 1e6),
    "times": (1, 1e9),
}
_WHOLE: Final = frozenset({"at_pulse", "at_command", "times"})


def load_rules(path: Path) -> list[Rule]:
    """The rules of a fault file; SetupError names file, key and what is allowed."""
    try:
        content = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise SetupError(f"{path}: cannot be read: {error.strerror}.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SetupError(f"{path}: is not TOML: {error}.") from None
    for key in content:
        if key != "fault":
            raise SetupError(f"{path}: unknown key {key!r}; allowed is a list of [[fault]] tables.")
    tables = content.get("fault", [])
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise SetupError(f"{path}: fault must be a list of [[fault]] tables.")
    return [_rule(f"{path}: fault {n}", table) for n, table in enumerate(tables, 1)]


def _rule(where: str, table: dict[str, Any]) -> Rule:
    kind = table.get("kind")
    row = KINDS.get(kind) if isinstance(kind, str) else None
    if row is None or not isinstance(kind, str):
        raise SetupError(f"{where}: kind is {kind!r}; allowed are {', '.join(KINDS)}.")
    allowed = ["kind", *_KEYS] + ["value"] * (row.value is not None)
    for key in table:
        if key not in allowed:
            raise SetupError(f"{where}: unknown key {key!r}; {kind} takes {', '.join(allowed)}.")
    if sum(key in table for key in _TRIGGERS) != 1:
        raise SetupError(f"{where}: needs exactly one of {', '.join(_TRIGGERS)}.")
    for key, (low, high) in _KEYS.items():
        if key in table:
            _check(where, key, table[key], low, high)
    value = 0
    if row.value is not None:
        value = table.get("value", row.value.default)
        _check(where, "value", value, row.value.low, row.value.high)
    return Rule(
        kind,
        value,
        at_us=_microseconds(table.get("at_s")),
        at_pulse=table.get("at_pulse"),
        at_command=table.get("at_command"),
        probability=table.get("probability"),
        for_us=_microseconds(table.get("for_s")),
        times=table.get("times"),
    )


def _check(where: str, key: str, value: Any, low: float, high: float) -> None:
    types = (int,) if key in _WHOLE or key == "value" else (int, float)
    if isinstance(value, bool) or not isinstance(value, types) or not low <= value <= high:
        what = "a whole number" if types == (int,) else "a number"
        raise SetupError(f"{where}: {key} is {value!r}; allowed is {what} {low:g} to {high:g}.")


def _microseconds(seconds: float | None) -> int | None:
    return None if seconds is None else round(seconds * SECOND)


def faults_help() -> str:
    """The kinds as text for --help."""
    lines = []
    for name, kind in KINDS.items():
        v = kind.value
        value = f"value {v.low}..{v.high} {v.unit}, default {v.default}" if v is not None else ""
        lines.append(f"  {name:<18} {kind.doc:<42} {value}".rstrip())
    return "\n".join(lines)
