"""Rules of faults as texts: TOML files, requests of the control socket, and --help.

A fault file is TOML, one table a fault, each with exactly one trigger:

    [[fault]]
    kind = "silent"
    at_s = 2.5          # or at_pulse = 100, at_command = 3, at_frame = 50, probability = 0.01
    for_s = 0.2         # optional: how long it lasts from then on
    times = 5           # optional: how often it strikes at most
    value = 20          # for kinds that have one
"""

from __future__ import annotations

import tomllib
from collections.abc import Collection
from pathlib import Path
from typing import Any, Final

from firmware_protocol.quantities import SECOND
from sim_device.fault_kinds import FRAME_KINDS, KINDS, RX
from sim_device.faults import FRAMES, Active, Rule
from sim_device.settings import SetupError

_TRIGGERS: Final = ("at_s", "at_pulse", "at_command", "at_frame", "probability")
# Key: lowest and highest value. Seconds and probabilities may be fractions.
_KEYS: Final[dict[str, tuple[float, float]]] = {
    "at_s": (0, 1e6),
    "at_pulse": (1, 1e9),
    "at_command": (1, 1e9),
    "at_frame": (1, 1e9),
    "probability": (0, 1),
    "for_s": (0, 1e6),
    "times": (1, 1e9),
}
_WHOLE: Final = frozenset({"at_pulse", "at_command", "at_frame", "times"})


def load_rules(path: Path, kinds: Collection[str] = frozenset(KINDS)) -> list[Rule]:
    """The rules of a fault file; SetupError names file, key and what is allowed.

    `kinds`: those that can happen to the model.
    """
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
    return [_with_trigger(f"{path}: fault {n}", table, kinds) for n, table in enumerate(tables, 1)]


def _with_trigger(where: str, table: dict[str, Any], kinds: Collection[str]) -> Rule:
    rule = rule_of(where, table, kinds)
    if not rule.triggers:
        raise SetupError(f"{where}: needs exactly one of {', '.join(_TRIGGERS)}.")
    return rule


def rule_of(where: str, table: dict[str, Any], kinds: Collection[str]) -> Rule:
    """The rule of one table with at most one trigger; SetupError begins with `where`.

    `kinds`: those that can happen to the model.
    """
    kind = table.get("kind")
    row = KINDS.get(kind) if isinstance(kind, str) and kind in kinds else None
    if row is None or not isinstance(kind, str):
        known = ", ".join(name for name in KINDS if name in kinds)
        raise SetupError(f"{where}: kind is {kind!r}; allowed are {known}.")
    keys = [key for key in _KEYS if key != "at_frame" or row.occasion in FRAMES]
    allowed = ["kind", *keys] + ["value"] * (row.value is not None)
    for key in table:
        if key not in allowed:
            raise SetupError(f"{where}: unknown key {key!r}; {kind} takes {', '.join(allowed)}.")
    if sum(key in table for key in _TRIGGERS) > 1:
        raise SetupError(f"{where}: needs exactly one of {', '.join(_TRIGGERS)}.")
    for key, (low, high) in _KEYS.items():
        if key in table:
            _check(where, key, table[key], low, high)
    value = None
    if row.value is not None:
        value = table.get("value", row.value.default)
        _check(where, "value", value, row.value.low, row.value.high)
    return Rule(
        kind,
        value,
        at_us=_microseconds(table.get("at_s")),
        at_pulse=table.get("at_pulse"),
        at_command=table.get("at_command"),
        at_frame=table.get("at_frame"),
        probability=table.get("probability"),
        for_us=_microseconds(table.get("for_s")),
        times=table.get("times"),
    )


def table_of(active: Active, on: Collection[str]) -> dict[str, object]:
    """A rule that is set in the words of its table, and how far it has come. Times are absolute."""
    rule = active.rule
    words = {
        "kind": rule.kind,
        "value": active.value if KINDS[rule.kind].value is not None else None,
        "at_s": _seconds(rule.at_us),
        "at_pulse": rule.at_pulse,
        "at_command": rule.at_command,
        "at_frame": rule.at_frame,
        "probability": rule.probability,
        "for_s": _seconds(rule.for_us),
        "times": rule.times,
        "struck": active.struck,
        "in_force": rule.kind in on or None,
    }
    return {name: word for name, word in words.items() if word is not None}


def _check(where: str, key: str, value: Any, low: float, high: float) -> None:
    types = (int,) if key in _WHOLE or key == "value" else (int, float)
    if isinstance(value, bool) or not isinstance(value, types) or not low <= value <= high:
        what = "a whole number" if types == (int,) else "a number"
        raise SetupError(f"{where}: {key} is {value!r}; allowed is {what} {low:g} to {high:g}.")


def _microseconds(seconds: float | None) -> int | None:
    return None if seconds is None else round(seconds * SECOND)


def _seconds(microseconds: int | None) -> float | None:
    return None if microseconds is None else microseconds / SECOND


def faults_help(kinds: Collection[str]) -> str:
    """The kinds that can happen to a model, as text for --help."""
    lines = []
    for name, kind in KINDS.items():
        second = name.removeprefix(RX) in FRAME_KINDS and name.startswith(RX)
        if second or name not in kinds:
            continue
        both = f"{name}, {RX}{name}" if name in FRAME_KINDS else name
        v = kind.value
        value = f"value {v.low}..{v.high} {v.unit}, default {v.default}" if v is not None else ""
        lines.append(f"  {both:<36} {kind.doc:<62} {value}".rstrip())
    return "\n".join(lines)
