"""What passed on a tmslink line, in words: for reading recordings without a device."""

from __future__ import annotations

import struct
from typing import Final

from firmware_protocol.crc import SEED, crc32
from firmware_protocol.errors import RemoteProtocolError
from firmware_protocol.table import describe
from firmware_protocol.tmslink.framing import Deframer, body_of
from firmware_protocol.tmslink.messages import (
    CRC_SIZE,
    HEADER,
    HEADER_SIZE,
    PLAIN_SEED,
    STOP_BYTE,
    STOP_RUN,
    TABLE,
    Identity,
)
from firmware_protocol.traced import Traced

_HEADER: Final = struct.Struct(HEADER)
_STOP_RUN: Final = bytes((STOP_BYTE,)) * STOP_RUN


class TmslinkTrace:
    """Both ways of one line. Checksums are held against the serial number as soon as it is known:
    from the header of the recording, or from the IDENTITY that went by."""

    def __init__(self, serial: str = "") -> None:
        self._seed = _seed_of(serial) if serial else None
        self._ways = {True: Deframer(), False: Deframer()}

    def feed(self, data: bytes, *, to_device: bool) -> list[Traced]:
        pieces = self._ways[to_device].feed(data)
        return [self._piece(piece) for piece in pieces if piece]

    def _piece(self, piece: bytes) -> Traced:
        if piece.endswith(_STOP_RUN):
            return Traced(f"unframed STOP, {len(piece)} bytes")
        body = body_of(piece)
        if body is None:
            return Traced("", piece, "garbage: bytes that are no frame")
        content = body[:-CRC_SIZE]
        code, session, sequence = _HEADER.unpack_from(content)
        seed = SEED if code in PLAIN_SEED else self._seed
        if seed is not None and crc32(content, seed) != int.from_bytes(body[-CRC_SIZE:], "little"):
            return Traced("", piece, "checksum: a frame whose checksum is wrong")
        try:
            message = TABLE.unpack(code, content[HEADER_SIZE:])
        except RemoteProtocolError as error:
            return Traced("", piece, f"content: {error}")
        if isinstance(message, Identity):
            self._seed = _seed_of(message.serial)
        unchecked = "" if seed is not None else " (serial number unknown, checksum not checked)"
        text = f"{describe(message)} session={session:08x} sequence={sequence}{unchecked}"
        return Traced(text)


def _seed_of(serial: str) -> int:
    return crc32(serial.encode()[:8].ljust(8, b"\0"))
