"""The host's end of the MagPro line: payloads <-> frames. Never raises on what comes in.

A frame is FE LEN payload CRC8 FF. Nothing is stuffed: FE and FF may stand inside, so the length
decides where a frame ends. What is no frame costs its first byte only; the search goes on behind.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from firmware_protocol.errors import LocalProtocolError, RemoteProtocolError
from firmware_protocol.magpro.coding import decode, encode
from firmware_protocol.magpro.messages import (
    END,
    FRAME_REST,
    PAYLOAD_SIZE_MAX,
    START,
    AnyMessage,
    ToDevice,
)

FRAME_SIZE_MAX: Final = PAYLOAD_SIZE_MAX + FRAME_REST
_POLYNOMIAL: Final = 0x8C  # x^8 + x^5 + x^4 + 1, least significant bit first


def _step(byte: int) -> int:
    for _ in range(8):
        byte = byte >> 1 ^ (_POLYNOMIAL if byte & 1 else 0)
    return byte


_STEPS: Final = bytes(map(_step, range(256)))


def crc8(data: bytes) -> int:
    """CRC-8 of Dallas/Maxim: begins at 0, no final inversion. "123456789" gives 0xA1."""
    register = 0
    for byte in data:
        register = _STEPS[register ^ byte]
    return register


def frame(payload: bytes) -> bytes:
    """A payload as it goes onto the wire; LocalProtocolError when it has 0 or too many bytes."""
    if not 0 < len(payload) <= PAYLOAD_SIZE_MAX:
        raise LocalProtocolError(f"a payload has 1 to {PAYLOAD_SIZE_MAX} bytes, not {len(payload)}")
    return bytes((START, len(payload), *payload, crc8(payload), END))


def frame_of(message: ToDevice) -> bytes:
    """A message of the host as it goes onto the wire; LocalProtocolError for a bad value."""
    return frame(encode(message))


class Deframer:
    """Payloads with the right checksum from any chunking of a noisy stream.

    Keeps less than one frame. `skipped` counts the bytes that belonged to none.
    """

    def __init__(self) -> None:
        self.skipped = 0
        self._buffer = b""

    def feed(self, data: bytes) -> list[bytes]:
        """Payloads that are complete now, in their order."""
        return self._take(self._buffer + data, ended=False)

    def silence(self) -> list[bytes]:
        """Nothing has come for a while: what is incomplete is no frame, something in it may be."""
        return self._take(self._buffer, ended=True)

    def _take(self, data: bytes, *, ended: bool) -> list[bytes]:
        found: list[bytes] = []
        at, size = 0, len(data)
        while True:
            start = data.find(START, at)
            if start < 0:
                self.skipped += size - at
                at = size
                break
            self.skipped += start - at
            at = start
            if size - at < 2 and not ended:
                break
            length = data[at + 1] if size - at > 1 else 0
            end = at + length + FRAME_REST
            if 0 < length <= PAYLOAD_SIZE_MAX:
                if end > size and not ended:
                    break
                payload = data[at + 2 : end - 2]
                if end <= size and data[end - 1] == END and data[end - 2] == crc8(payload):
                    found.append(payload)
                    at = end
                    continue
            self.skipped += 1
            at += 1
        self._buffer = data[at:]
        return found


class BadMessage(NamedTuple):
    """A sealed frame that means nothing: a wrong size or value."""

    payload: bytes
    why: str


class Decoder:
    """Messages of the unit from its bytes."""

    def __init__(self) -> None:
        self._deframer = Deframer()

    @property
    def skipped(self) -> int:
        """Bytes so far that belonged to no frame."""
        return self._deframer.skipped

    def feed(self, data: bytes) -> list[AnyMessage | BadMessage]:
        """What is complete now."""
        return [_message_of(payload) for payload in self._deframer.feed(data)]

    def silence(self) -> list[AnyMessage | BadMessage]:
        """The same when nothing has come for a while, see Deframer."""
        return [_message_of(payload) for payload in self._deframer.silence()]


def _message_of(payload: bytes) -> AnyMessage | BadMessage:
    try:
        return decode(payload)
    except RemoteProtocolError as error:
        return BadMessage(payload, str(error))
