"""What passed on the line of a Magstim unit, in words: for reading recordings without a device.

How long a command or a reply is depends on model and firmware, which a recording may not tell. So
all of them are possible at first, and each answer that fits leaves those that it fits.
"""

from __future__ import annotations

from typing import Final

from firmware_protocol.magstim.framing import Decoder, checksum
from firmware_protocol.magstim.messages import (
    REPLY_SIZE_MAX,
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


WAITING_MAX: Final = 4
"""Commands whose answer may still come: a host that stops does not wait for the one before."""

HEARD_MAX: Final = 8 * REPLY_SIZE_MAX


class MagstimTrace:
    """Both ways of one line."""

    def __init__(self) -> None:
        self._possible = DIALECTS
        self._waiting: list[list[Row]] = []  # of each command, the ways in which it may be meant
        self._heard = b""  # not yet told

    def feed(self, data: bytes, *, to_device: bool) -> list[Traced]:
        return self._said(data) if to_device else self._answered(data)

    def _said(self, data: bytes) -> list[Traced]:
        """A write of the host is one command, or several of them, and never a part of one."""
        found = [] if self._waiting else self._untold(len(self._heard))
        while data:
            rows = [row for row in self._rows(data[0]) if _values(row, data) is not None]
            if not rows:
                found.append(Traced("", data, "garbage: bytes that are no command"))
                break
            size = rows[0].command_size
            values = _values(rows[0], data)
            assert values is not None
            found.append(Traced(describe_command(rows[0], values)))
            self._waiting.append([row for row in rows if row.command_size == size])
            data = data[size:]
        del self._waiting[:-WAITING_MAX]
        return found

    def _rows(self, letter: int) -> list[Row]:
        """As each dialect that is still possible has it; each row once."""
        rows = [row for dialect in self._possible for row in dialect.by_letter.get(letter, ())]
        return list({id(row): row for row in rows}.values())

    def _answered(self, data: bytes) -> list[Traced]:
        self._heard += data
        found = []
        while self._waiting:
            several = [
                (*seen, place)
                for place, rows in enumerate(self._waiting)
                for row in rows
                if (seen := _reply_in(self._heard, row)) is not None
            ]
            if not several:
                break
            # The one with the fewest bytes before it; of the older command, where both fit.
            garbage, size, reply, place = min(several, key=lambda seen: (seen[0], seen[-1]))
            found += self._untold(garbage)
            found.append(Traced(describe_reply(reply)))
            self._heard = self._heard[size:]
            self._learn(reply)
            del self._waiting[: place + 1]
        if not self._waiting or len(self._heard) > HEARD_MAX:
            found += self._untold(len(self._heard))
        return found

    def _learn(self, reply: Reply) -> None:
        if reply.answer is Answer.DONE:
            fits = tuple(d for d in self._possible if any(row is reply.row for row in d.rows))
            self._possible = fits or self._possible

    def _untold(self, size: int) -> list[Traced]:
        """The next so many bytes belong to no reply."""
        data, self._heard = self._heard[:size], self._heard[size:]
        return [Traced("", data, "garbage: bytes that are no reply")] if data else []


def _reply_in(heard: bytes, row: Row) -> tuple[int, int, Reply] | None:
    """Bytes before the first reply to this command, its own size, and what it says."""
    decoder = Decoder()
    decoder.expect(row)
    for at in range(len(heard)):
        reply = decoder.feed(heard[at : at + 1])
        if reply is not None:
            return decoder.garbage, at + 1 - decoder.garbage, reply
    return None


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
