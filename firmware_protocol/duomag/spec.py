"""The generated tables of docs/duomag.md, as rows."""

from __future__ import annotations

from collections.abc import Iterator

from firmware_protocol.duomag.messages import COMMANDS, FIELDS, STEP_US, Bits

COMMAND_HEAD = ("bytes", "command", "effect", "meaning")
STEP_HEAD = ("step", "milliseconds")
STATUS_HEAD = ("byte", "bits", "field", "meaning")


def commands() -> Iterator[tuple[str, ...]]:
    for row in COMMANDS:
        span = f"{row.first:02X}" if row.first == row.last else f"{row.first:02X}..{row.last:02X}"
        yield span, row.kind.value, row.effect.value, row.doc


def steps() -> Iterator[tuple[str, ...]]:
    for number, us in enumerate(STEP_US):
        yield str(number), f"{us / 1_000:g}"


def _place(bits: Bits) -> str:
    if bits.high == bits.low:
        return str(bits.high)
    span = "all" if (bits.high, bits.low) == (7, 0) else f"{bits.high}..{bits.low}"
    return f"{span}, signed" if bits.signed else span


def status() -> Iterator[tuple[str, ...]]:
    for field in FIELDS:
        yield str(field.bits.byte), _place(field.bits), f"`{field.name}`", field.doc
