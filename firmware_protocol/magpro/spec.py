"""The generated tables of docs/magpro.md, as rows."""

from __future__ import annotations

import enum
from collections.abc import Iterator

from firmware_protocol.magpro import messages as m
from firmware_protocol.magpro import names as n
from firmware_protocol.magpro.coding import describe, encode
from firmware_protocol.magpro.framing import frame
from firmware_protocol.magpro.layout import Field, Row
from firmware_protocol.table import Direction

COMMAND_HEAD = ("id", "message", "payload bytes", "effect", "answer", "meaning")
REPLY_HEAD = ("id", "message", "payload bytes", "meaning")
FIELD_HEAD = ("message", "bytes", "field", "range", "meaning")
NUMBER_HEAD = ("table", "numbers")
INDEX_HEAD = ("what", "index", "from", "to", "step")
ABILITY_HEAD = ("model", "modes", "waveforms", "directions", "highest rates, Hz")
EXAMPLE_HEAD = ("message", "frame")

_EXAMPLES: tuple[m.ToDevice | m.ToHost, ...] = (
    m.GetShortStatus(),
    m.SetAmplitude(50),
    m.SetAmplitude(50, 0),
    m.Enable(),
    m.Fire(1),
    m.SetTrain(100, 5, 3, 10),
    m.Start(),
    m.SetTrigger(0, -50, 0),
    m.ShortStatus(0x34, 12_345, 20, 73, 50, 0),
    m.Didt(73, 0, 0x34),
)


def _id(row: Row) -> str:
    return row.prefix.hex(" ").upper()


def _sizes(row: Row) -> str:
    return " or ".join(map(str, row.sizes)) + (" or more" if row.open_ended else "")


def _of(direction: Direction) -> list[Row]:
    return [row for row in m.TABLE if row.direction is direction]


def commands() -> Iterator[tuple[str, ...]]:
    for row in _of(Direction.TO_DEVICE):
        yield _id(row), row.name, _sizes(row), row.effect.value, row.reply, row.doc


def replies() -> Iterator[tuple[str, ...]]:
    for row in _of(Direction.TO_HOST):
        yield _id(row), row.name, _sizes(row), row.doc


def fields(direction: Direction) -> Iterator[tuple[str, ...]]:
    for row in _of(direction):
        for field in row.fields:
            yield row.name, _place(field), f"`{field.name}`", field.wire.span, field.doc


def _place(field: Field) -> str:
    wire = field.wire
    where = str(wire.at) if wire.size == 1 else f"{wire.at}-{wire.end - 1}"
    return f"{where}, may be absent" if field.optional else where


def numbers() -> Iterator[tuple[str, str]]:
    several: tuple[tuple[str, type[enum.IntEnum]], ...] = (
        ("Models", n.Model),
        ("Modes", n.Mode),
        ("Waveforms", n.Waveform),
        ("Pages", n.Page),
        ("Timing control", n.TimingControl),
    )
    for name, kind in several:
        yield name, ", ".join(f"{each.value} {each.name}" for each in kind)
    yield "Coils", ", ".join(f"{number} {name}" for number, name in n.COIL_TYPES.items())


def indices() -> Iterator[tuple[str, ...]]:
    """Each stretch of even steps."""
    tables = (
        ("interval in a burst, ms", n.IPI_OF_INDEX_BURST_DMS, 10),
        ("interval in a Twin or Dual pair, ms", n.IPI_OF_INDEX_PAIR_DMS, 10),
        ("B in % of A (Twin)", n.BA_OF_INDEX_TWIN_PCT, 1),
        ("amplitude of B, %MSO (Dual)", n.B_OF_INDEX_DUAL_PCT, 1),
    )
    for name, table, unit in tables:
        first = 0
        while first < len(table) - 1:
            step = table[first] - table[first + 1]
            last = first + 1
            while last + 1 < len(table) and table[last] - table[last + 1] == step:
                last += 1
            span = (table[first] / unit, table[last] / unit, step / unit)
            yield name, f"{first}..{last}", *(f"{value:g}" for value in span)
            first = last


def abilities() -> Iterator[tuple[str, ...]]:
    for model, able in n.ABILITIES.items():
        rates: dict[int, list[str]] = {}
        for mode in able.modes:
            for waveform in able.waveforms:
                rate = n.rate_max_dhz(model, mode, waveform) // 10
                rates.setdefault(rate, []).append(f"{mode.name}/{waveform.name}")
        most = max(rates, key=lambda rate: len(rates[rate]))
        others = (f"{' '.join(where)}: {rate}" for rate, where in rates.items() if rate != most)
        yield (
            f"{model.value} {model.name}",
            ", ".join(mode.name for mode in able.modes),
            ", ".join(waveform.name for waveform in able.waveforms),
            ", ".join(direction.name for direction in able.directions),
            "; ".join((str(most), *others)),
        )


def examples() -> Iterator[tuple[str, str]]:
    for message in _EXAMPLES:
        yield f"`{describe(message)}`", f"`{frame(encode(message)).hex(' ').upper()}`"
