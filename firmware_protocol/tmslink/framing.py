"""Bytes <-> checked frame bodies of tmslink. Bytes in, bodies out; never raises on input.

A body is consistent-overhead-stuffed, so that it holds no zero byte, and travels between two zero
bytes. Whatever garbage comes before, the next good frame is the next thing that is read.
"""

from __future__ import annotations

from firmware_protocol.tmslink.messages import BODY_SIZE_MAX, CRC_SIZE, DELIMITER, HEADER_SIZE

_STUFFED_SIZE_MAX = BODY_SIZE_MAX + 1
_BODY_SIZE_MIN = HEADER_SIZE + CRC_SIZE


def stuff(body: bytes) -> bytes:
    """Consistent overhead byte stuffing of fewer than 254 bytes."""
    out = bytearray(b"\1" + body.replace(b"\0", b"\1"))  # right for a zero that follows a zero
    at = 0
    for run in body.split(b"\0"):
        if run:
            out[at] = step = len(run) + 1  # distance to the next zero, or to the end
            at += step
        else:
            at += 1
    return bytes(out)


def unstuff(stuffed: bytes) -> bytes | None:
    """The body, or None when the bytes are not validly stuffed. `stuffed` holds no zero byte."""
    out = bytearray(stuffed)
    at, end = 0, len(out)
    while at < end:
        step = stuffed[at]
        out[at] = 0
        at += step
    return bytes(out[1:]) if at == end else None


def body_of(piece: bytes) -> bytes | None:
    """Header, payload and checksum, still to be checked; None when the piece is no frame."""
    if len(piece) > _STUFFED_SIZE_MAX:
        return None
    body = unstuff(piece)
    return body if body is not None and len(body) >= _BODY_SIZE_MIN else None


def frame(body: bytes) -> bytes:
    """A body as it goes onto the wire."""
    return DELIMITER + stuff(body) + DELIMITER


class Deframer:
    """Cuts any chunking of a noisy stream at its delimiters. Buffers at most one frame."""

    def __init__(self) -> None:
        self._buffer = b""

    def feed(self, data: bytes) -> list[bytes]:
        """Pieces that ended; an empty one stands between two frames."""
        pieces = (self._buffer + data).split(DELIMITER)
        # One byte more than allowed is kept, so that an overlong piece stays recognisable.
        self._buffer = pieces.pop()[: _STUFFED_SIZE_MAX + 1]
        return pieces
