"""MagPro messages <-> payloads, and the words of a trace."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from firmware_protocol.errors import LocalProtocolError, RemoteProtocolError
from firmware_protocol.magpro import names as n
from firmware_protocol.magpro.layout import fits, raw_values, row_of
from firmware_protocol.magpro.messages import AnyMessage, ToDevice, ToHost, Unknown, find_row
from firmware_protocol.table import Direction


def encode(message: ToDevice | ToHost) -> bytes:
    """The payload, in the shortest form that holds all; LocalProtocolError for a bad value."""
    row = row_of(type(message))
    values: Sequence[int | None] = message
    given = [(f, v) for f, v in zip(row.fields, values, strict=True) if v is not None]
    needed = max((field.wire.end for field, _ in given), default=0)
    size = next((size for size in row.sizes if size >= needed), None)
    absent = [f.name for f, v in zip(row.fields, values, strict=True)
              if v is None and size is not None and f.wire.end <= size]  # fmt: skip
    if size is None or absent:
        raise LocalProtocolError(f"{row.name}: {', '.join(absent) or 'a field'} is missing")
    payload = bytearray(size)
    payload[: len(row.prefix)] = row.prefix
    for field, value in given:
        wire = field.wire
        if not wire.allows(value):
            raise LocalProtocolError(f"{row.name}.{field.name} is {value}, allowed are {wire.span}")
        payload[wire.at : wire.end] = wire.pack(value)
    return bytes(payload)


def decode(payload: bytes, direction: Direction = Direction.TO_HOST) -> AnyMessage:
    """The message; RemoteProtocolError for a wrong size or, towards the device, a bad value."""
    row = find_row(payload, direction)
    if row is None:
        return Unknown(payload)
    if not fits(row, len(payload)):
        raise RemoteProtocolError(
            f"{row.name}: {len(payload)} payload bytes, expected {' or '.join(map(str, row.sizes))}"
        )
    values = raw_values(row, payload)
    for field, value in zip(row.fields, values, strict=True):
        if value is not None and not field.wire.allows(value):
            raise RemoteProtocolError(
                f"{row.name}.{field.name} is {value}, allowed are {field.wire.span}"
            )
    message: AnyMessage = row.make(*values)
    return message


# -- trace text -----------------------------------------------------------------------------------

_WORDS: Final[dict[str, type[n.Model] | type[n.Mode] | type[n.Waveform] | type[n.Page]]] = {
    "model": n.Model,
    "mode": n.Mode,
    "waveform": n.Waveform,
    "page": n.Page,
}


def _word(name: str, value: int) -> str:
    kind = _WORDS[name]
    return kind(value).name if value in set(map(int, kind)) else f"{name}{value}"


def _status_text(byte: int) -> str:
    status = n.status_of(byte)
    enabled = "enabled" if status.enabled else "disabled"
    words = (_word("mode", status.mode), _word("waveform", status.waveform))
    return ",".join((enabled, *words, _word("model", status.model)))


def _text(name: str, value: int) -> str:
    if name == "st":
        return _status_text(value)
    if name in _WORDS:
        return _word(name, value)
    if name == "coil_type" and value in n.COIL_TYPES:
        return f"{value}({n.COIL_TYPES[value].replace(' ', '_')})"
    return str(value)


def describe(message: AnyMessage) -> str:
    """One line for a trace: name and every field that is there."""
    if isinstance(message, Unknown):
        return f"Unknown {message.payload.hex(' ')}"
    row = row_of(type(message))
    values: Sequence[int | None] = message
    cells = [
        f"{field.name}={_text(field.name, value)}"
        for field, value in zip(row.fields, values, strict=True)
        if value is not None
    ]
    return " ".join([row.name, *cells])
