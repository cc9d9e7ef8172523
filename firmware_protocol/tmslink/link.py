"""The host's end of a tmslink session: numbering, checksums, replies. Pure: bytes and times in."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final, NamedTuple

from firmware_protocol import table
from firmware_protocol.crc import SEED, crc32
from firmware_protocol.errors import LocalProtocolError, RemoteProtocolError
from firmware_protocol.quantities import BootUs
from firmware_protocol.tmslink.framing import Deframer, body_of, frame
from firmware_protocol.tmslink.messages import (
    CONTENT,
    CRC_SIZE,
    HEADER,
    HEADER_SIZE,
    PLAIN_SEED,
    TABLE,
    Ack,
    AnyMessage,
    Fault,
    Identity,
    Result,
    Status,
)

IN_FLIGHT_MAX: Final = 4
OVERTAKEN_MAX: Final = 64
"""Of two pipes: a number that has not come so many numbers later is lost."""
_INTERRUPT_PIPE: Final = (Status, Fault)
_HEADER: Final = struct.Struct(HEADER)
_FROM_HOST: Final = frozenset(
    spec.code for spec in TABLE.specs if spec.direction is table.Direction.TO_DEVICE
)


class Answered(NamedTuple):
    """A command ended: the device said how."""

    sequence: int
    result: Result


class Unanswered(NamedTuple):
    """A command's deadline passed. It may still have been carried out."""

    sequence: int


class BadFrame(NamedTuple):
    """Something went wrong on the line while a session was open: KIND: what."""

    why: str


LinkEvent = Answered | Unanswered | BadFrame | AnyMessage


@dataclass(slots=True)
class LinkCounters:
    """What the link has seen since the port was opened."""

    frames: int = 0
    garbage: int = 0  # bytes between delimiters that were no frame
    bad_crc: int = 0
    bad_content: int = 0  # right checksum, forbidden content
    foreign: int = 0  # another session, or our own frame that the line echoed
    echoed: int = 0  # of them our own
    stale: int = 0  # sequence number not rising
    lost: int = 0  # sequence numbers that never came

    @property
    def shaped(self) -> int:
        """Pieces that have the shape of a frame, whatever is wrong with them."""
        return self.frames + self.bad_crc + self.bad_content + self.foreign + self.stale


class Link:
    """Numbers what we send, checks what comes, and says exactly once how each command ended.

    With two pipes, which USB has, STATUS and FAULT come on the one and all else on the other. Each
    keeps its order and either may overtake: numbers rise within a pipe, and one is lost when both
    pipes are past it.
    """

    def __init__(self, *, two_pipes: bool = False) -> None:
        self._two_pipes = two_pipes
        self.counters = LinkCounters()
        self.session = 0  # 0: none
        self._seed = SEED
        self._sent = 0
        self._received = [0, 0]  # newest number of each of two pipes
        self._passed = 0  # up to this number nothing is awaited any more
        self._early: set[int] = set()  # numbers above it that are not missing
        self._nonce: int | None = None
        self.asked: dict[int, BootUs] = {}  # commands under way, by number: their deadlines
        self._deframer = Deframer()
        self._torn = False  # the piece before was damaged, and what follows may be the rest of it
        self._damaged = 0  # frames told as bad; they are not told again as lost
        self._settled_at = 0  # once this number is passed, none of them is missed any more; 0: open

    def hello(self, message: AnyMessage, nonce: int) -> bytes:
        """Frame a HELLO; until IDENTITY echoes its nonce, the session stays closed."""
        self.close()
        self._nonce = nonce
        return self._frame(message, 0)

    def close(self) -> None:
        """No session any more. Commands under way end as Unanswered at their deadline.

        Sequence numbers go on rising, so that no number ever names two commands.
        """
        self.session = 0

    def tell(self, message: AnyMessage) -> bytes:
        """Frame a message to which no answer is awaited."""
        self._sent += 1
        return self._frame(message, self.session)

    def ask(self, message: AnyMessage, deadline: BootUs) -> tuple[int, bytes]:
        """Frame a command; exactly one Answered or Unanswered with its number will follow."""
        if not self.session:
            raise LocalProtocolError("no session is open")
        if len(self.asked) >= IN_FLIGHT_MAX:
            raise LocalProtocolError(f"{IN_FLIGHT_MAX} commands are already under way")
        data = self.tell(message)
        self.asked[self._sent] = deadline
        return self._sent, data

    def spoilt(self, message: AnyMessage) -> bytes:
        """What `tell` gives, but with one wrong bit in the checksum: nobody may believe it."""
        self._sent += 1
        return self._frame(message, self.session, wrong_bits=1)

    def receive(self, data: bytes, now: BootUs) -> list[LinkEvent]:
        """Events in the order in which they happened; deadlines are judged after the bytes."""
        events: list[LinkEvent] = []
        if data:
            for piece in self._deframer.feed(data):
                if piece:
                    self._piece(piece, events)
                else:
                    self._torn = False
        if self.asked:
            for sequence in [s for s, deadline in self.asked.items() if now >= deadline]:
                del self.asked[sequence]
                events.append(Unanswered(sequence))
        return events

    def _piece(self, piece: bytes, events: list[LinkEvent]) -> None:
        body = body_of(piece)
        if body is None:
            self.counters.garbage += 1
            self._bad("garbage: bytes that are no frame", events)
            return
        content = body[:-CRC_SIZE]
        code, session, sequence = _HEADER.unpack_from(content)
        seed = SEED if code in PLAIN_SEED else self._seed
        if crc32(content, seed) != int.from_bytes(body[-CRC_SIZE:], "little"):
            self.counters.bad_crc += 1
            self._bad("checksum: a frame whose checksum is wrong", events)
            return
        try:
            message: AnyMessage = TABLE.unpack(code, content[HEADER_SIZE:])
        except RemoteProtocolError as error:
            self.counters.bad_content += 1
            self._bad(f"content: {error}", events)
        else:
            if self._is_next(message, code, session, sequence, events):
                self._note(message, events)
        self._torn = False

    def _is_next(
        self, message: AnyMessage, code: int, session: int, sequence: int, events: list[LinkEvent]
    ) -> bool:
        """Is it from our device, for this session, and not older than what we have?"""
        counters = self.counters
        if code in _FROM_HOST:
            counters.foreign += 1
            counters.echoed += 1
            return False
        if isinstance(message, Identity):
            if message.nonce != self._nonce or not session:
                counters.foreign += 1
                return False
            self._open(session, message.serial)
        elif session != self.session or not session:
            counters.foreign += 1
            return False
        pipe = int(self._two_pipes and isinstance(message, _INTERRUPT_PIPE))
        newest = max(self._received[pipe], self._passed)
        if sequence <= newest:
            counters.stale += 1
            events.append(BadFrame(f"repeated: frame {sequence} after {newest}"))
            return False
        lost = self._lost(sequence, pipe)
        if lost:
            counters.lost += lost
            if lost > self._damaged:  # the others were told when they came, spoilt
                events.append(BadFrame(f"lost: {lost - self._damaged} frames never came"))
            self._damaged = max(0, self._damaged - lost)
        self._settled_at = self._settled_at or sequence
        if self._passed >= self._settled_at:
            self._damaged = self._settled_at = 0
        counters.frames += 1
        return True

    def _lost(self, sequence: int, pipe: int) -> int:
        """Take the number of a frame; how many numbers will never come, as is clear only now."""
        if not self._two_pipes:
            lost, self._passed = sequence - self._passed - 1, sequence
            return lost
        if pipe and not self._received[pipe]:  # what overtook IDENTITY was not understood
            self._early.update(range(max(self._passed, sequence - OVERTAKEN_MAX) + 1, sequence))
        self._early.add(sequence)
        self._received[pipe] = sequence
        passed = max(min(self._received), max(self._received) - OVERTAKEN_MAX)
        came = {number for number in self._early if number <= passed}
        lost = passed - self._passed - len(came)
        self._early -= came
        self._passed = passed
        return lost

    def _note(self, message: AnyMessage, events: list[LinkEvent]) -> None:
        if isinstance(message, Ack):
            if self.asked.pop(message.of_sequence, None) is not None:
                events.append(Answered(message.of_sequence, Result(message.result)))
            return
        if isinstance(message, Identity):  # of the commands before it nobody will tell
            events += [Unanswered(number) for number in self.asked]
            self.asked.clear()
        events.append(message)

    def _bad(self, why: str, events: list[LinkEvent]) -> None:
        """One damaged frame. A wrong bit that became a delimiter does not make it two."""
        if self.session and not self._torn:
            self._damaged, self._settled_at = self._damaged + 1, 0
            events.append(BadFrame(why))
        self._torn = True

    def _frame(self, message: AnyMessage, session: int, wrong_bits: int = 0) -> bytes:
        kind = type(message)
        spec = table.spec_of(kind)
        values = table.values_of(spec, message)
        try:
            content = CONTENT[kind].pack(spec.code, session, self._sent & 0xFFFF_FFFF, *values)
        except struct.error as error:
            raise LocalProtocolError(f"{spec.name}: {error}") from error
        check = crc32(content, SEED if spec.code in PLAIN_SEED else self._seed) ^ wrong_bits
        return frame(content + check.to_bytes(CRC_SIZE, "little"))

    def _open(self, session: int, serial: str) -> None:
        self.session = session
        self._nonce = None
        self._seed = crc32(serial.encode().ljust(8, b"\0"))
        self._received, self._passed = [0, 0], 0
        self._damaged = self._settled_at = 0
        self._early.clear()
