"""One command at a time: the protocol has no tags, so an answer belongs to the only question."""

from __future__ import annotations

import enum
from typing import Final, NamedTuple

from drivers.line import Line
from firmware_protocol.magstim.framing import Decoder, encode
from firmware_protocol.magstim.messages import Reply, Row, Value
from firmware_protocol.quantities import MS, BootUs

ANSWER_WITHIN_US: Final = 150 * MS
"""The longest exchange has 18 + 24 bytes at 9600 baud, 44 ms on the line."""


class Ask(NamedTuple):
    """One command and its values."""

    row: Row
    values: tuple[Value, ...] = ()


class Noise(enum.Enum):
    """What came beside answers."""

    NONE = "nothing"
    GARBAGE = "bytes that are no answer of a Magstim unit"
    ECHO = "our own bytes"


class Answered(NamedTuple):
    """The end of one exchange; `reply` is None when none came in time."""

    ask: Ask
    reply: Reply | None
    asked_at: BootUs


class Exchange:
    """Of one line."""

    def __init__(self, line: Line) -> None:
        self.noise = Noise.NONE  # since the caller last cleared it
        self.asked_at = BootUs(0)
        self._line = line
        self._decoder = Decoder()
        self._ask: Ask | None = None
        self._sent = b""  # what an echo would be; empty once an answer began
        self._garbage = 0
        self._since = BootUs(0)  # when what is answered now was asked, at the earliest
        self._given_up_at = BootUs(-ANSWER_WITHIN_US)  # of a question whose answer may still come

    @property
    def busy(self) -> bool:
        return self._ask is not None

    def ask(self, ask: Ask, now: BootUs) -> None:
        """Send it. An answer that was still awaited is given up."""
        data = encode(ask.row, *ask.values)
        self._begin(ask, data, now)

    def ask_spoilt(self, ask: Ask, now: BootUs) -> None:
        """Send it with a wrong checksum."""
        data = encode(ask.row, *ask.values)
        self._begin(ask, data[:-1] + bytes((data[-1] ^ 0x55,)), now)

    def forget(self) -> None:
        """The port is another one now."""
        self._decoder = Decoder()
        self._ask, self._sent, self._garbage = None, b"", 0
        self._given_up_at = BootUs(-ANSWER_WITHIN_US)
        self.noise = Noise.NONE

    def receive(self, data: bytes, now: BootUs) -> Answered | None:
        """How the exchange under way ended, if it did."""
        ask = self._ask
        data = self._without_echo(data)
        reply = self._decoder.feed(data)
        # Zero bytes are what a unit sends when it is switched on.
        garbage = self._decoder.garbage - self._decoder.nuls
        is_late = now - self._given_up_at < ANSWER_WITHIN_US
        if garbage > self._garbage and self.noise is Noise.NONE and not is_late:
            self.noise = Noise.GARBAGE
        self._garbage = garbage
        if ask is None or (reply is None and now - self.asked_at < ANSWER_WITHIN_US):
            return None
        self._decoder.give_up()
        self._garbage = self._decoder.garbage - self._decoder.nuls
        self._ask = None
        return Answered(ask, reply, self._since)

    def _begin(self, ask: Ask, data: bytes, now: BootUs) -> None:
        before = self._ask
        if before is not None:
            self._given_up_at = now
        if before is None or before.row.letter != ask.row.letter:
            self._since = now  # else the answer to the one before reads like its own
        self._ask, self._sent, self.asked_at = ask, data, now
        self._decoder.expect(ask.row)
        self._line.write(data)

    def _without_echo(self, data: bytes) -> bytes:
        """An echo of a short command reads like an answer: its second byte like a status."""
        if not data or not self._sent:
            return data
        if data.startswith(self._sent):
            data = data[len(self._sent) :]
            self.noise = Noise.ECHO
        self._sent = b""
        return data
