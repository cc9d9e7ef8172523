"""The generated tables of docs/magstim.md, as rows."""

from __future__ import annotations

from collections.abc import Iterator

from firmware_protocol.magstim.messages import (
    MODES_OF_X,
    TABLE,
    Extended,
    Field,
    Form,
    Model,
    RapidStatus,
    Row,
    Status,
)
from firmware_protocol.magstim.rates import STEPS, Kind

COMMAND_HEAD = ("letter", "command", "data", "reply", "bytes", "remote", "effect", "models",
                "firmware", "meaning", "source")  # fmt: skip
MODE_HEAD = ("mode", "meaning")
STATUS_HEAD = ("bit", "status", "Rapid status", "extended, second byte")
RATE_HEAD = ("type", "supply", "highest frequency in Hz, by % of power")

_SHORT = {Form.PAD: "pad", Form.STATUS: "status", Form.RAPID: "Rapid status"}
_TYPES = {
    Kind.RAPID: "Rapid²",
    Kind.SUPER: "Super Rapid²",
    Kind.SUPER_PLUS: "Super Rapid² Plus¹",
}


def _field(field: Field) -> str:
    if field.form is Form.DIGITS:
        unit = f" {field.unit}" if field.unit else ""
        span = f"{field.low}..{field.high}{unit}"
        return f"`{field.name}` {field.size} digits, {span} ({field.doc})"
    if field.form is Form.MODE:
        return f"`{field.name}`"
    return _SHORT.get(field.form) or f"`{field.name}` {field.form.value}"


def _firmware(row: Row) -> str:
    if row.since and row.since + 1 == row.before:
        return str(row.since)
    if row.since and row.before < 1_000:
        return f"{row.since} to {row.before - 1}"
    if row.since:
        return f"from {row.since}"
    if row.before < 1_000:
        return f"to {row.before - 1}"
    return "all" if row.models == (Model.RAPID,) else ""


def commands() -> Iterator[tuple[str, ...]]:
    for row in TABLE:
        yield (
            f"`{row.letter}`",
            f"`{row.name}`",
            "; ".join(map(_field, row.data)),
            "; ".join(map(_field, row.reply)),
            f"{row.command_size} / {row.reply_size or 'by its zero byte'}",
            row.remote.value,
            row.effect.value,
            ", ".join(model.value for model in row.models),
            _firmware(row),
            row.doc,
            row.source,
        )


def modes() -> Iterator[tuple[str, ...]]:
    for letter, doc in MODES_OF_X.items():
        yield f"`{letter}`", doc


def status() -> Iterator[tuple[str, ...]]:
    """The bits of the three bytes of flags, side by side."""
    kinds = (Status, RapidStatus, Extended)
    names = [{flag.value: str(flag.name).lower() for flag in kind} for kind in kinds]
    for bit in range(8):
        yield str(bit), *(each.get(1 << bit, "") for each in names)


def rates() -> Iterator[tuple[str, ...]]:
    for (supply, kind), steps in STEPS.items():
        spans, first = [], 0
        for last, hz in steps:
            spans.append(f"{first}-{last}: {hz}" if last > first else f"{last}: {hz}")
            first = last + 1
        yield _TYPES[kind], f"{supply.value} V", ", ".join(spans)
