"""The host's end of the line to a Magstim unit: commands to bytes, bytes to replies.

A reply has no delimiter and its length follows from the command, so the decoder has to know which
one is outstanding; there is never more than one. Never raises on what the line brings.
"""

from __future__ import annotations

from typing import Final

from firmware_protocol.errors import LocalProtocolError
from firmware_protocol.magstim.messages import (
    BAD_DATA,
    CONFLICT,
    PHASES,
    REPLY_SIZE_MAX,
    UNKNOWN_COMMAND,
    VERSION_SIZE_MAX,
    Answer,
    Field,
    Form,
    Reply,
    Row,
    Value,
)

_ERROR_SIZE: Final = 3
_ANSWERS: Final = {BAD_DATA: Answer.BAD_DATA, CONFLICT: Answer.CONFLICT}
_NUL: Final = 0


def checksum(data: bytes) -> int:
    """The low eight bits of the sum, inverted."""
    return ~sum(data) & 0xFF


def _encoded(field: Field, value: Value) -> bytes:
    if field.form is Form.DIGITS and isinstance(value, int):
        if field.low <= value <= field.high:
            return f"{value:0{field.size}d}".encode("ascii")
        allowed = f"{field.low} to {field.high} {field.unit}".rstrip()
        raise LocalProtocolError(f"{field.name} is {value}, allowed are {allowed}")
    if field.form is Form.CODE and isinstance(value, str):
        code = value.encode("latin-1", "replace")
        if len(code) == field.size:
            return code
        raise LocalProtocolError(f"an unlock code has {field.size} characters, not {len(code)}")
    raise LocalProtocolError(f"{field.name}: {type(value).__name__} is not {field.form.value}")


def encode(row: Row, *values: Value) -> bytes:
    """A command as it goes onto the wire; LocalProtocolError for a value out of its range."""
    left = list(values)
    content = row.letter.encode("ascii")
    for field in row.data:
        if field.form is Form.PAD:
            content += b"@"
        elif field.form is Form.MODE:
            content += field.name.encode("ascii")
        elif left:
            content += _encoded(field, left.pop(0))
        else:
            raise LocalProtocolError(f"{row.name}: {field.name} is missing")
    if left:
        raise LocalProtocolError(f"{row.name}: {len(left)} values too many")
    return content + bytes([checksum(content)])


def _decoded(field: Field, cell: bytes) -> Value | None:
    """The value of one field; None when no unit would send that."""
    if field.form is Form.DIGITS:
        return int(cell) if cell.isdigit() else None
    if field.form is Form.STATUS:
        phase = cell[0] & PHASES
        return cell[0] if phase & (phase - 1) == 0 else None  # one at most
    if field.form in (Form.RAPID, Form.EXTENDED):
        return int.from_bytes(cell, "big")
    return cell.decode("latin-1") if cell.isascii() else None


class Decoder:
    """Finds the reply to the one outstanding command in any chunking of a noisy stream."""

    def __init__(self) -> None:
        self.garbage = 0  # bytes that belong to no reply
        self.nuls = 0  # of them zero bytes, which a unit may send when it starts
        self._row: Row | None = None
        self._buffer = b""

    @property
    def outstanding(self) -> Row | None:
        return self._row

    @property
    def begun(self) -> int:
        """Bytes of a reply that is not complete; at most REPLY_SIZE_MAX."""
        return len(self._buffer)

    def expect(self, row: Row) -> None:
        """A command has been sent. What came before it counts no more."""
        self.give_up()
        self._row = row

    def give_up(self) -> None:
        """No reply is waited for any more."""
        self._skip(len(self._buffer))
        self._row = None

    def feed(self, data: bytes) -> Reply | None:
        """The reply, once it is complete. All else is skipped and counted."""
        self._buffer += data
        reply = None
        if self._row is not None:
            first = self._row.letter.encode("ascii")[0]
            while self._buffer and reply is None:
                if self._buffer[0] == UNKNOWN_COMMAND:
                    reply = self._ended(Reply(self._row, Answer.UNKNOWN, {}), 1)
                elif self._buffer[0] != first:
                    self._skip(1)
                else:
                    size, reply = self._read(self._row)
                    if size == 0:
                        return None
                    if reply is None:
                        self._skip(1)
                    else:
                        self._ended(reply, size)
        if self._row is None:
            self._skip(len(self._buffer))
        return reply

    def _ended(self, reply: Reply, size: int) -> Reply:
        self._buffer = self._buffer[size:]
        self._row = None
        return reply

    def _skip(self, size: int) -> None:
        self.garbage += size
        self.nuls += self._buffer[:size].count(_NUL)
        self._buffer = self._buffer[size:]

    def _read(self, row: Row) -> tuple[int, Reply | None]:
        """Size and reply at the beginning of the buffer: size 0 when more has to come, no reply
        when this is none.
        """
        buffer = self._buffer
        if len(buffer) < 2:
            return 0, None
        answer = _ANSWERS.get(buffer[1], Answer.DONE)
        size = _ERROR_SIZE if answer is not Answer.DONE else row.reply_size
        if size is None:
            end = buffer.find(_NUL)
            if end < 0 and len(buffer) <= 1 + VERSION_SIZE_MAX:
                return 0, None
            if not 0 < end <= 1 + VERSION_SIZE_MAX:
                return 1, None
            size = end + 2
        assert size <= REPLY_SIZE_MAX
        if len(buffer) < size:
            return 0, None
        frame = buffer[:size]
        if checksum(frame[:-1]) != frame[-1]:
            return 1, None
        if answer is not Answer.DONE:
            return size, Reply(row, answer, {})
        return size, _reply(row, frame[1:-1])


def _reply(row: Row, content: bytes) -> Reply | None:
    """The reply of what lies between letter and checksum; None when a field cannot be."""
    values: dict[str, Value] = {}
    for field in row.reply:
        size = field.size or len(content)
        cell, content = content[:size], content[size:]
        if field.form is Form.VERSION:
            cell = cell.removeprefix(b"V").removesuffix(b"\0").strip()
        value = _decoded(field, cell)
        if value is None:
            return None
        values[field.name] = value
    return Reply(row, Answer.DONE, values)
