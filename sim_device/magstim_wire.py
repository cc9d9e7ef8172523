"""The wire as a Magstim unit sees it: a parser of its own, written from the facts on the bytes and
not from the host's code.

A command ends where its letter says, and its last byte is the complement of the sum of the others.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from firmware_protocol.magstim.messages import Answer, Dialect, Form, Row, Value

_QUESTION: Final = b"?"
_REFUSED: Final = {Answer.BAD_DATA: b"?", Answer.CONFLICT: b"S"}
_PLAIN_Q: Final = b"Q@"
_PLAIN_Q_SIZE: Final = 3


class Heard(NamedTuple):
    """One command of the host, or one byte that begins none."""

    row: Row | None  # None for a byte that begins no command
    values: dict[str, Value] | None  # None when the data is not what this unit accepts
    sound: bool  # is the checksum right


STRAY: Final = Heard(None, None, sound=False)


def with_checksum(content: bytes) -> bytes:
    """As it goes onto the wire."""
    total = 0
    for byte in content:
        total = (total + byte) % 256
    return content + bytes((255 - total,))


class Parser:
    """Cuts any chunking of the host's bytes into commands. Holds less than one command."""

    def __init__(self, dialect: Dialect) -> None:
        self._rows = dialect.by_letter
        self._sizes = {letter: rows[0].command_size for letter, rows in self._rows.items()}
        self._begun = bytearray()

    @property
    def begun(self) -> int:
        """Bytes of a command that has not ended."""
        return len(self._begun)

    def forget(self) -> None:
        """What was begun is not a command."""
        self._begun.clear()

    def feed(self, data: bytes) -> list[Heard]:
        found = []
        for byte in data:
            if not self._begun and byte not in self._rows:
                found.append(STRAY)
                continue
            self._begun.append(byte)
            if len(self._begun) == self._size():
                found.append(_heard(self._rows[self._begun[0]], bytes(self._begun)))
                self._begun.clear()
        return found

    def _size(self) -> int:
        # An unlock code has no `@`: a host that knows of none sends the short form.
        if self._begun.startswith(_PLAIN_Q):
            return _PLAIN_Q_SIZE
        return self._sizes[self._begun[0]]


def _heard(rows: tuple[Row, ...], frame: bytes) -> Heard:
    sound = with_checksum(frame[:-1]) == frame
    for row in rows:
        values = _values(row, frame[1:-1])
        if values is not None:
            return Heard(row, values, sound)
    return Heard(rows[0], None, sound)


def _values(row: Row, data: bytes) -> dict[str, Value] | None:
    """What the fields hold; None when this is not what the row takes."""
    values: dict[str, Value] = {}
    at = 0
    for field in row.data:
        cell = data[at : at + field.size]
        at += field.size
        if field.form is Form.MODE:
            if cell != field.name.encode():
                return None
        elif field.form is Form.DIGITS:
            if any(not 0x30 <= byte <= 0x39 for byte in cell):
                return None
            number = int(cell)
            if number < field.low or number > field.high:
                return None
            values[field.name] = number
        elif field.form is Form.CODE:
            # A short `Q@` leaves no room for a code; whoever obeys sees that it is none.
            values[field.name] = cell.decode("latin-1")
    return values


def reply(row: Row, values: Mapping[str, Value]) -> bytes:
    """The answer to a command that is carried out, from what its reply has to show."""
    content = bytearray(row.letter.encode())
    for field in row.reply:
        value = values[field.name]
        if field.form is Form.VERSION:
            content += b"V" + str(value).encode() + b"\0"
        elif field.form is Form.DIGITS:
            content += str(min(int(value), field.high)).zfill(field.size).encode()
        elif field.form in (Form.LETTER, Form.TEXT):
            content += str(value).encode().ljust(field.size)[: field.size]
        else:
            content += int(value).to_bytes(field.size, "big")
    return with_checksum(bytes(content))


def refusal(row: Row, answer: Answer) -> bytes:
    """The answer to a command that is known and not carried out."""
    return with_checksum(row.letter.encode() + _REFUSED[answer])


def unknown() -> bytes:
    """The answer to a byte that begins no command."""
    return _QUESTION
