"""Message tables: a message is declared once, and encoder, decoder, trace text and page follow.

A message is a NamedTuple whose annotations carry the wire form of each field:

    @message(0x0A, Direction.TO_DEVICE, Effect.SUSTAIN)
    class Beat(NamedTuple):
        '''What it means.'''
        cycle: Annotated[int, U32, "number of the completed cycle"]

All integers are little-endian; texts are UTF-8, padded with zero bytes.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar, get_type_hints

from firmware_protocol.errors import LocalProtocolError, RemoteProtocolError


class Wire(NamedTuple):
    """How one field travels: struct code and the closed range that is allowed."""

    code: str
    low: int
    high: int

    def within(self, low: int, high: int) -> Wire:
        """The same width with a narrower range."""
        return Wire(self.code, low, high)

    @property
    def is_text(self) -> bool:
        return self.code.endswith("s")


U8 = Wire("B", 0, 0xFF)
U16 = Wire("H", 0, 0xFFFF)
U32 = Wire("I", 0, 0xFFFF_FFFF)
U64 = Wire("Q", 0, 0xFFFF_FFFF_FFFF_FFFF)
I16 = Wire("h", -0x8000, 0x7FFF)
I64 = Wire("q", -0x8000_0000_0000_0000, 0x7FFF_FFFF_FFFF_FFFF)


def text(size: int) -> Wire:
    """A fixed field of `size` bytes of UTF-8."""
    return Wire(f"{size}s", 0, size)


class Direction(enum.Enum):
    TO_DEVICE = "host to device"
    TO_HOST = "device to host"


class Effect(enum.Enum):
    """What a message can do to the coil; a new message must say it."""

    READ = "reads"
    MAKE_SAFE = "makes safe"
    SUSTAIN = "keeps armed"  # starts nothing by itself
    ENERGISE = "energises"


class Field(NamedTuple):
    name: str
    wire: Wire
    doc: str


@dataclass(frozen=True, slots=True)
class Spec:
    """One row of a message table, derived from the declaration."""

    code: int
    name: str
    direction: Direction
    effect: Effect
    doc: str
    fields: tuple[Field, ...]
    make: Callable[..., Any]
    layout: struct.Struct
    texts: tuple[int, ...]
    ranged: tuple[tuple[int, int, int], ...]


_M = TypeVar("_M")
_SPECS: dict[type, Spec] = {}


def message(code: int, direction: Direction, effect: Effect) -> Callable[[type[_M]], type[_M]]:
    """Declare a NamedTuple class as a message."""

    def declare(cls: type[_M]) -> type[_M]:
        hints = get_type_hints(cls, include_extras=True)
        fields = tuple(
            Field(name, hints[name].__metadata__[0], hints[name].__metadata__[1])
            for name in cls._fields  # type: ignore[attr-defined]
        )
        layout = struct.Struct("<" + "".join(f.wire.code for f in fields))
        texts = tuple(i for i, f in enumerate(fields) if f.wire.is_text)
        whole = {w.code: w for w in (U8, U16, U32, U64, I16, I64)}
        ranged = tuple(
            (i, f.wire.low, f.wire.high)
            for i, f in enumerate(fields)
            if not f.wire.is_text and f.wire != whole[f.wire.code]
        )
        doc = " ".join((cls.__doc__ or "").split())
        name = cls.__name__
        _SPECS[cls] = Spec(code, name, direction, effect, doc, fields, cls, layout, texts, ranged)
        return cls

    return declare


def spec_of(kind: type) -> Spec:
    """The table row of a declared message class."""
    return _SPECS[kind]


class Table:
    """The messages of one protocol, by code."""

    def __init__(self, kinds: Iterable[type]) -> None:
        self.specs = tuple(_SPECS[kind] for kind in kinds)
        self.by_code = {spec.code: spec for spec in self.specs}
        if len(self.by_code) != len(self.specs):
            raise LocalProtocolError("two messages share a code")

    def unpack(self, code: int, payload: bytes) -> Any:
        """The message, or RemoteProtocolError for an unknown code, a wrong size or a bad value."""
        spec = self.by_code.get(code)
        if spec is None:
            raise RemoteProtocolError(f"unknown message code 0x{code:02x}")
        if len(payload) != spec.layout.size:
            raise RemoteProtocolError(
                f"{spec.name}: {len(payload)} payload bytes, expected {spec.layout.size}"
            )
        return message_of(spec, spec.layout.unpack(payload))


def message_of(spec: Spec, values: tuple[Any, ...]) -> Any:
    """The message of unpacked values; RemoteProtocolError when one is out of its range."""
    for index, low, high in spec.ranged:
        if not low <= values[index] <= high:
            raise RemoteProtocolError(
                f"{spec.name}.{spec.fields[index].name} is {values[index]}, allowed {low}..{high}"
            )
    if spec.texts:
        cells = list(values)
        for index in spec.texts:
            cells[index] = cells[index].rstrip(b"\0").decode(errors="replace")
        return spec.make(*cells)
    return spec.make(*values)


def values_of(spec: Spec, message: Any) -> Sequence[Any]:
    """What the layout packs; LocalProtocolError when a narrowed value is out of its range."""
    if not (spec.ranged or spec.texts):
        return message  # type: ignore[no-any-return]
    for index, low, high in spec.ranged:
        if not low <= message[index] <= high:
            raise LocalProtocolError(
                f"{spec.name}.{spec.fields[index].name} is {message[index]}, allowed {low}..{high}"
            )
    if not spec.texts:
        return message  # type: ignore[no-any-return]
    cells = list(message)
    for index in spec.texts:
        cells[index] = cells[index].encode()[: spec.fields[index].wire.high]
    return cells


def pack(message: Any) -> bytes:
    """Payload bytes of a message; LocalProtocolError when a value is out of its range."""
    spec = _SPECS[type(message)]
    try:
        return spec.layout.pack(*values_of(spec, message))
    except struct.error as error:
        raise LocalProtocolError(f"{spec.name}: {error}") from error


def describe(message: Any) -> str:
    """One line for a trace: name and every field."""
    spec = _SPECS[type(message)]
    # A text is quoted: what a device calls itself must not break the line or steer a terminal.
    values = (repr(value) if isinstance(value, str) else value for value in message)
    cells = " ".join(f"{f.name}={v}" for f, v in zip(spec.fields, values, strict=True))
    return f"{spec.name} {cells}".rstrip()
