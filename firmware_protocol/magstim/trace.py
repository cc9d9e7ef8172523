"""What passed on the line of a Magstim unit, in words: for reading recordings without a device.

How long a command or a reply is depends on model and firmware, which a recording may not tell. So
all of them are possible at first, and each answer that fits leaves those that it fits.
"""

from __future__ import annotations

from typing import Final

from firmware_protocol.magstim.framing import Decoder, checksum
from firmware_protocol.magstim.messages import (
    Answer,
    Dialect,
    Field,
    Form,
    Model,
    Reply,
    Row,
    Value,
    describe_command,
    describe_reply,
)
from firmware_protocol.traced import Traced

_FIRMWARES: Final = (6, 7, 8, 9, 10)  # a Rapid differs at these major versions, if at all
DIALECTS: Final = (
    Dialect(Model.M200),
    Dialect(Model.BISTIM),
    *(Dialect(Model.RAPID, firmware) for firmware in _FIRMWARES),
)


class MagstimTrace:
    """Both ways of one line. There is never more than one command under way."""

    def __init__(self) -> None:
        self._possible = DIALECTS
        self._waiting: list[Decoder] = []  # one for each reply that may come
        self._heard = b""  # since the last command

    def feed(self, data: bytes, *, to_device: bool) -> list[Traced]:
        return self._said(data) if to_device else self._answered(data)

    def _said(self, data: bytes) -> list[Traced]:
        """A write of the host is one command, or several of them, and never a part of one."""
        found = self._unanswered()
        while data:
            rows = [row for row in self._rows(data[0]) if _values(row, data) is not None]
            if not rows:
                found.append(Traced("", data, "garbage: bytes that are no command"))
                break
            row = rows[0]
            values = _values(row, data)
            assert values is not None
            found.append(Traced(describe_command(row, values)))
            self._expect([other for other in rows if other.command_size == row.command_size])
            data = data[row.command_size :]
        return found

    def _rows(self, letter: int) -> list[Row]:
        """As each dialect that is still possible has it; each row once."""
        rows = [row for dialect in self._possible for row in dialect.by_letter.get(letter, ())]
        return list({id(row): row for row in rows}.values())

    def _expect(self, rows: list[Row]) -> None:
        self._waiting = []
        for row in rows:
            decoder = Decoder()
            decoder.expect(row)
            self._waiting.append(decoder)

    def _answered(self, data: bytes) -> list[Traced]:
        self._heard += data
        replies = [
            (decoder.garbage, reply)
            for decoder in self._waiting
            if (reply := decoder.feed(data)) is not None
        ]
        if not replies:
            return [] if self._waiting else self._unanswered()
        # The one that leaves the fewest bytes over; what is left over is damaged.
        left, reply = min(replies, key=lambda one: one[0])
        self._learn(reply)
        self._waiting = []
        damage = self._heard if left else b""
        self._heard = b""
        told = [Traced(describe_reply(reply))]
        return [Traced("", damage, f"garbage: {left} bytes are no reply"), *told] if left else told

    def _learn(self, reply: Reply) -> None:
        if reply.answer is Answer.DONE:
            fits = tuple(d for d in self._possible if any(row is reply.row for row in d.rows))
            self._possible = fits or self._possible

    def _unanswered(self) -> list[Traced]:
        """What came and was no whole reply."""
        data, self._heard, self._waiting = self._heard, b"", []
        return [Traced("", data, "garbage: bytes that are no reply")] if data else []


def _values(row: Row, data: bytes) -> dict[str, Value] | None:
    """What a command says; None when the data do not begin with this command."""
    command = data[: row.command_size]
    if len(command) < row.command_size or checksum(command[:-1]) != command[-1]:
        return None
    values: dict[str, Value] = {}
    at = 1
    for field in row.data:
        value = _value(field, command[at : at + field.size])
        if value is None:
            return None
        if field.form in (Form.DIGITS, Form.CODE):
            values[field.name] = value
        at += field.size
    return values


def _value(field: Field, cell: bytes) -> Value | None:
    match field.form:
        case Form.DIGITS:
            return int(cell) if cell.isdigit() else None
        case Form.PAD:
            return "@" if cell == b"@" else None
        case Form.MODE:
            return field.name if cell == field.name.encode() else None
        case _:
            return cell.decode("latin-1")
