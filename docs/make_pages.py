"""Writes the generated parts of the pages in docs/ from the tables of the code.

Usage: python docs/make_pages.py [--check] docs/limits.md docs/emulator.md and so on: see SECTIONS
"""

from __future__ import annotations

import argparse
import re
import sys
import textwrap
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

from drivers import registry
from drivers.causes import CAUSES
from drivers.contract import AT_RISK, DriverInfo, StopClass
from firmware_protocol import recording
from firmware_protocol.duomag import spec as duomag
from firmware_protocol.magpro import spec as magpro
from firmware_protocol.magstim import spec as magstim
from firmware_protocol.table import Direction
from sim_device import settings
from sim_device.duomag_settings import DuomagSettings
from sim_device.entry import MODELS
from sim_device.fault_kinds import FRAME_KINDS, KINDS, RX, USB_KINDS, Kind
from sim_device.magpro_settings import MagproSettings
from sim_device.magstim_settings import BistimSettings, Magstim200Settings, RapidSettings
from sim_device.usb_descriptors import LIES
from tmsctl.safety import catalogue, guidelines
from tmsctl.safety.coils import COILS, CoilRow
from tmsctl.safety.limits import ROWS, TABLE, LimitRow
from tmsctl.safety.rules import ARM, GATE, WATCH, GateRow, WatchRow
from tmsctl.stimulation.protocol import EXCEEDABLE

CATALOGUE: Final = catalogue.load()
MEANINGS: Final = {
    code: CATALOGUE.rules[code].does for code in [r.code for r in WATCH] + [r.code for r in GATE]
}
_NAMED: Final = " ".join([r.hazards for r in WATCH] + [r.hazards for r in GATE]).split()
HAZARDS: Final = {name: CATALOGUE.hazards[name].hazard for name in sorted(set(_NAMED))}


def _grid(head: tuple[str, ...], rows: Iterable[tuple[object, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def _bound(row: LimitRow, value: int | None) -> str:
    return "-" if value is None else f"{'≤' if row.at_most else '≥'} {value:_}"


def _verified(verified: bool) -> str:
    return "yes" if verified else "**no**"


def _settable() -> str:
    head = ("limit", "unit", "soft", "general", "absolute", "verified", "source")
    bounds = {r.name: (r.soft, r.general, r.absolute) for r in TABLE if r.settable}
    return _grid(
        head,
        (
            (f"`{name}`", ROWS[name].unit, *(_bound(ROWS[name], value) for value in values),
             _verified(ROWS[name].verified), ROWS[name].source)
            for name, values in bounds.items()
        ),
    )  # fmt: skip


def _fixed() -> str:
    return _grid(
        ("limit", "unit", "value", "verified", "source"),
        (
            (f"`{r.name}`", r.unit, _bound(r, r.general), _verified(r.verified), r.source)
            for r in TABLE
            if not r.settable
        ),
    )


def _exceedable() -> str:
    return textwrap.fill(", ".join(f"`{name}`" for name in EXCEEDABLE), 118)


def _compared(rule: Callable[..., Any]) -> str:
    """The limits that a rule looks at, read from its own code."""
    return ", ".join(f"`{name}`" for name in rule.__code__.co_names if name in ROWS) or "-"


def _rule(row: WatchRow | GateRow) -> tuple[object, ...]:
    return (f"`{row.code}`", MEANINGS[row.code], _compared(row.rule), row.action.name, row.hazards)


def _watch() -> str:
    head = ("code", "trips when", "limit", "action", "hazards", "counts")
    counts = {True: "always", False: "while armed"}
    return _grid(head, ((*_rule(row), counts[row.always]) for row in WATCH))


def _gate() -> str:
    return _grid(("code", "refuses when", "limit", "action", "hazards"), map(_rule, GATE))


def _arm() -> str:
    return _grid(
        ("code", "refuses when", "limit", "hazards"),
        (
            (f"`{row.code}`", CATALOGUE.rules[row.code].does, _compared(row.rule), row.hazards)
            for row in ARM
        ),
    )


def _hazards() -> str:
    return _grid(("id", "hazard"), HAZARDS.items())


def _cell(cell: guidelines.Cell) -> str:
    return f"{'> ' if cell.tested else ''}{cell.ms / 1_000:g}"


def _trains() -> str:
    """The three tables of train lengths, each with its source."""
    parts = []
    for table in guidelines.TABLES:
        head = ("Hz", *(f"{pct} %" for pct in table.columns))
        grid = _grid(head, ((hz, *map(_cell, cells)) for hz, cells in table.rows.items()))
        kind = "Advice: every cell is soft. " if table.advice else ""
        about = f"{kind}Verified: {_verified(table.verified)}. Source: {table.source}."
        parts.append(f"{table.name}, seconds.\n\n{grid}\n\n{textwrap.fill(about, 118)}")
    return "\n\n".join(parts)


def _theta() -> str:
    grid = _grid(
        ("property", "bound", "verified"),
        (
            (name, f"{bound} {value:_} {unit}".rstrip(), _verified(guidelines.VERIFIED))
            for name, bound, value, unit in guidelines.THETA
        ),
    )
    return f"{grid}\n\n{textwrap.fill(f'Source: {guidelines.THETA_SOURCE}.', 118)}"


def _slope(row: CoilRow) -> str:
    return "not known" if row.didt_max_centi is None else str(row.didt_max_centi / 100)


def _coils() -> str:
    return _grid(
        ("type", "coil", "di/dt at 100 %MSO, A/us", "verified", "source"),
        (
            (kind, row.name, _slope(row), _verified(row.verified), row.source)
            for kind, row in COILS.items()
        ),
    )


def _setting_grid(rows: Iterable[tuple[str, Any, settings.Row]]) -> str:
    head = ("name", "default", "unit", "range", "meaning")
    cells = (
        (f"`{name}`", default, row.unit, row.span.replace("|", "\\|"), row.doc)
        for name, default, row in rows
    )
    return _grid(head, cells)


def _own_settings(kind: type[settings.Physics]) -> str:
    """What a model adds to those that all have, or has otherwise."""
    common = settings.rows(settings.Physics)
    return _setting_grid(row for row in settings.rows(kind) if row not in common)


def _settings() -> str:
    """What all models have, then what each adds or has otherwise."""
    parts = [f"All models:\n\n{_setting_grid(settings.rows(settings.Physics))}"]
    models: dict[type[settings.Physics], list[str]] = {}
    for name, model in MODELS.items():
        models.setdefault(model.settings, []).append(f"`{name}`")
    for kind, names in models.items():
        parts.append(f"{', '.join(names)}:\n\n{_own_settings(kind)}")
    return "\n\n".join(parts)


def _lasts_and_value(kind: Kind) -> tuple[str, str]:
    v = kind.value
    value = "" if v is None else f"{v.low}..{v.high} {v.unit}, default {v.default}"
    return "yes" if kind.lasts else "no", value


def _frames() -> str:
    head = ("to the host", "to the device", "what happens", "lasts", "`value`")
    names = ((f"`{name}`", f"`{RX}{name}`", KINDS[name]) for name in FRAME_KINDS)
    return _grid(head, ((*both, kind.doc, *_lasts_and_value(kind)) for *both, kind in names))


def _kinds(kinds: Iterable[tuple[str, Kind]]) -> str:
    return _grid(
        ("kind", "what happens", "can strike at", "lasts", "`value`"),
        ((f"`{n}`", k.doc, k.occasion.value, *_lasts_and_value(k)) for n, k in kinds),
    )


def _faults() -> str:
    others = {*FRAME_KINDS, *(RX + name for name in FRAME_KINDS), *USB_KINDS}
    return _kinds((name, kind) for name, kind in KINDS.items() if name not in others)


def _lies() -> str:
    return _grid(
        ("`value`", "descriptor", "what is wrong"),
        ((number, kind.name.lower(), doc) for number, (kind, doc, _) in LIES.items()),
    )


def _magstim_unknown() -> str:
    """The settings of all its units that stand for what no source says, or several say."""
    rows = {
        name: (f"`{name}`", default, row.unit, row.span.replace("|", "\\|"),
               row.doc.removeprefix("unknown: "))
        for kind in (Magstim200Settings, BistimSettings, RapidSettings)
        for name, default, row in settings.rows(kind)
        if row.doc.startswith(("unknown: ", "sources say "))
    }  # fmt: skip
    return _grid(("setting", "default", "unit", "range", "what is not known"), rows.values())


_CLASSES: Final = {
    StopClass.NATIVE_LEASE: "disarms by itself within 50 ms",
    StopClass.KEEP_ALIVE: "disarms by itself within about 1 s",
    StopClass.NONE: "carries on",
}


def _driver(info: DriverInfo) -> tuple[object, ...]:
    silent = "never" if info.dead_man_us is None else f"{info.dead_man_us // 1_000} ms"
    return (
        f"`{info.name}`", info.stop_class.value, silent, f"{info.connect_within_us // 1_000} ms",
        info.maturity.name.lower(), info.verified_on or "nothing",
    )  # fmt: skip


def _drivers() -> str:
    head = ("driver", "class", "silent", "connects within", "maturity", "verified on")
    return _grid(head, (_driver(row.info) for row in registry.DRIVERS))


def _classes() -> str:
    return _grid(
        ("class", "without its host the device", "can still leave the coil"),
        ((each.value, _CLASSES[each], AT_RISK[each]) for each in StopClass),
    )


def _options() -> str:
    return _grid(
        ("driver", "option", "allowed", "left out", "what"),
        (
            (
                f"`{row.info.name}`", f"`{name}`",
                option.form or option.allowed,
                "not known" if option.default is None else option.default,
                option.doc + ("; a secret" if option.secret else ""),
            )
            for row in registry.DRIVERS
            for name, option in row.options.items()
        ),
    )  # fmt: skip


def _causes() -> str:
    return _grid(("code", "means", "next step"), ((f"`{c.code}`", c.means, c.step) for c in CAUSES))


SECTIONS: Final[dict[str, dict[str, Callable[[], str]]]] = {
    "limits.md": {
        "settable": _settable,
        "exceedable": _exceedable,
        "fixed": _fixed,
        "watch": _watch,
        "gate": _gate,
        "arm": _arm,
        "trains": _trains,
        "theta": _theta,
        "coils": _coils,
        "hazards": _hazards,
    },
    "recording.md": {
        "marks": lambda: _grid(
            ("mark", "what", "data"),
            (
                (f"`{mark}`", doc, "hexadecimal" if recording.holds_bytes(mark) else "text")
                for mark, doc in recording.MARKS.items()
            ),
        )
    },
    "duomag.md": {
        "commands": lambda: _grid(duomag.COMMAND_HEAD, duomag.commands()),
        "steps": lambda: _grid(duomag.STEP_HEAD, duomag.steps()),
        "status": lambda: _grid(duomag.STATUS_HEAD, duomag.status()),
        "settings": lambda: _own_settings(DuomagSettings),
    },
    "magpro.md": {
        "examples": lambda: _grid(magpro.EXAMPLE_HEAD, magpro.examples()),
        "commands": lambda: _grid(magpro.COMMAND_HEAD, magpro.commands()),
        "command_fields": lambda: _grid(magpro.FIELD_HEAD, magpro.fields(Direction.TO_DEVICE)),
        "replies": lambda: _grid(magpro.REPLY_HEAD, magpro.replies()),
        "reply_fields": lambda: _grid(magpro.FIELD_HEAD, magpro.fields(Direction.TO_HOST)),
        "numbers": lambda: _grid(magpro.NUMBER_HEAD, magpro.numbers()),
        "indices": lambda: _grid(magpro.INDEX_HEAD, magpro.indices()),
        "abilities": lambda: _grid(magpro.ABILITY_HEAD, magpro.abilities()),
        "settings": lambda: _own_settings(MagproSettings),
    },
    "devices.md": {
        "drivers": _drivers,
        "classes": _classes,
        "options": _options,
        "causes": _causes,
    },
    "emulator.md": {
        "settings": _settings,
        "frames": _frames,
        "faults": _faults,
        "usb": lambda: _kinds(USB_KINDS.items()),
        "lies": _lies,
    },
    "magstim.md": {
        "commands": lambda: _grid(magstim.COMMAND_HEAD, magstim.commands()),
        "modes": lambda: _grid(magstim.MODE_HEAD, magstim.modes()),
        "status": lambda: _grid(magstim.STATUS_HEAD, magstim.status()),
        "rates": lambda: _grid(magstim.RATE_HEAD, magstim.rates()),
        "unknown": _magstim_unknown,
    },
}
_SECTION: Final = re.compile(r"(<!-- generated: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def fill(name: str, page: str) -> str:
    """The page with its generated sections made anew; ValueError when they are not those of `name`.

    Each has to be there once.
    """
    makers = SECTIONS.get(name, {})
    found = [match[2] for match in _SECTION.finditer(page)]
    if not makers or sorted(found) != sorted(makers):
        raise ValueError(
            f"the page has the generated sections {', '.join(found) or 'none'}; "
            f"it must have {', '.join(makers) or 'another name'}, each once"
        )
    return _SECTION.sub(lambda match: f"{match[1]}\n{makers[match[2]]()}\n\n{match[3]}", page)


def make(page: Path, *, check: bool) -> str:
    """Write one page, or only look; what is wrong in one sentence, empty when nothing is."""
    try:
        before = page.read_text(encoding="utf-8")
        after = fill(page.name, before)
        if not check:
            page.write_text(after, encoding="utf-8")
    except (OSError, ValueError) as error:
        return f"{page}: {error}"
    if check and before != after:
        return f"{page} is out of date: run `python docs/make_pages.py {page}`"
    return ""


def main(arguments: list[str] | None = None) -> int:
    """Exit status: 0 done or up to date, 1 out of date or not possible."""
    parser = argparse.ArgumentParser(description="Writes the generated parts of the pages.")
    parser.add_argument("--check", action="store_true", help="change nothing; 1 when out of date")
    parser.add_argument("pages", type=Path, nargs="+")
    options = parser.parse_args(arguments)
    problems = [problem for page in options.pages if (problem := make(page, check=options.check))]
    sys.stderr.writelines(f"{problem}\n" for problem in problems)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
