"""How a MagPro message is declared: where its fields lie, and what the table keeps of it.

    @message(0x03, Direction.TO_HOST, Effect.READ, 4)
    class Coil(NamedTuple):
        '''What it means.'''
        coil_c: Annotated[int, u8(1), "coil temperature"]

A field that a shorter form of the message leaves out is `int | None` and defaults to None.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeVar, get_type_hints

from firmware_protocol.table import Direction, Effect


class Wire(NamedTuple):
    """Where a field lies in the payload, and which values a host may send."""

    at: int
    size: int
    low: int
    high: int
    signed: bool = False
    little: bool = False
    among: tuple[int, ...] = ()

    @property
    def end(self) -> int:
        return self.at + self.size

    def allows(self, value: int) -> bool:
        return value in self.among if self.among else self.low <= value <= self.high

    def pack(self, value: int) -> bytes:
        order: Literal["little", "big"] = "little" if self.little else "big"
        return value.to_bytes(self.size, order, signed=self.signed)

    def unpack(self, payload: bytes) -> int:
        order: Literal["little", "big"] = "little" if self.little else "big"
        return int.from_bytes(payload[self.at : self.end], order, signed=self.signed)

    @property
    def span(self) -> str:
        if self.among:
            return ", ".join(map(str, self.among))
        return f"{self.low}..{self.high}"


def u8(at: int, low: int = 0, high: int = 0xFF) -> Wire:
    return Wire(at, 1, low, high)


def u16(at: int, low: int = 0, high: int = 0xFFFF) -> Wire:
    return Wire(at, 2, low, high)


def i16(at: int, low: int = -0x8000, high: int = 0x7FFF) -> Wire:
    return Wire(at, 2, low, high, signed=True)


class Field(NamedTuple):
    name: str
    wire: Wire
    doc: str
    optional: bool  # left out in a shorter form of the message


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the table, derived from the declaration."""

    code: int
    sub: int | None  # the fixed byte behind the id
    name: str
    direction: Direction
    effect: Effect
    sizes: tuple[int, ...]  # of the payload in its known forms, the shortest first
    open_ended: bool  # longer payloads are believed too
    reply: str
    doc: str
    fields: tuple[Field, ...]
    make: Callable[..., Any]

    @property
    def prefix(self) -> bytes:
        return bytes((self.code,)) if self.sub is None else bytes((self.code, self.sub))


_M = TypeVar("_M")
_ROWS: dict[type, Row] = {}


def _wire_and_doc(hint: Any) -> tuple[Wire, str]:
    wire, doc = hint.__metadata__
    return wire, doc


def message(
    code: int,
    direction: Direction,
    effect: Effect,
    *sizes: int,
    sub: int | None = None,
    open_ended: bool = False,
    reply: str = "",
) -> Callable[[type[_M]], type[_M]]:
    def declare(cls: type[_M]) -> type[_M]:
        hints = get_type_hints(cls, include_extras=True)
        defaults: dict[str, object] = cls._field_defaults  # type: ignore[attr-defined]
        fields = tuple(
            Field(name, *_wire_and_doc(hints[name]), name in defaults)
            for name in cls._fields  # type: ignore[attr-defined]
        )
        doc = " ".join((cls.__doc__ or "").split())
        _ROWS[cls] = Row(
            code, sub, cls.__name__, direction, effect, sizes, open_ended, reply, doc, fields, cls
        )
        return cls

    return declare


def rows() -> tuple[Row, ...]:
    """All that have been declared, in their order."""
    return tuple(_ROWS.values())


def row_of(kind: type) -> Row:
    """The table row of a declared message."""
    return _ROWS[kind]


def fits(row: Row, size: int) -> bool:
    """Is it a size that is known of this message?"""
    return size in row.sizes or (row.open_ended and size > row.sizes[-1])


def raw_values(row: Row, payload: bytes) -> list[int | None]:
    """The fields as they lie there, in range or not; None for those of a longer form."""
    size = len(payload)
    return [None if f.wire.end > size else f.wire.unpack(payload) for f in row.fields]
