"""What faults do to frames on one way of the line. Frames go in; what is left of them comes out."""

from __future__ import annotations

import heapq
import random
import re
from collections import deque
from collections.abc import Callable
from typing import Final, Protocol

from firmware_protocol.quantities import MS
from firmware_protocol.tmslink.messages import BODY_SIZE_MAX, CRC_SIZE, HEADER_SIZE, PLAIN_SEED
from sim_device.fault_kinds import FRAME_KINDS, RX, Occasion
from sim_device.faults import Faults
from sim_device.tmslink_wire import PLAIN, checksum, unstuff

Hit = Callable[[str], int | None]
"""The value of a kind of fault if it strikes now."""

OLD_MAX: Final = 1_000
"""So many frames are kept for replay; as far back as the kind allows."""

PIECE: Final = re.compile(rb"\0?[^\0]+\0?|\0+")
"""One frame with its delimiters, or as much as there is between two."""

_SESSION: Final = slice(1, 5)  # in a body, see HEADER
_SEQUENCE: Final = slice(5, 9)

BANNER: Final = (
    b"\r\n\r\nU-Boot 2022.10 (tmssim)\r\nDRAM:  64 MiB\r\nHit any key to stop autoboot:  0\r\n"
)


class Dialect(Protocol):
    """What faults of frames have to know of a protocol."""

    def cut(self, data: bytes) -> list[bytes]:
        """A write as frames; a part of one, or bytes without framing, is a piece as well."""

    def misprinted(self, frame: bytes, hit: Hit, rng: random.Random) -> bytes:
        """By `bad_crc` with a wrong checksum and right framing; else as it is."""

    def strangers(self, frame: bytes, hit: Hit, /) -> list[bytes]:
        """Frames of other sessions and devices that come in behind this one."""


class Writes:
    """Each write is one frame, and its last byte but `behind` others is its checksum."""

    def __init__(self, behind: int = 0) -> None:
        self._place = -1 - behind

    def cut(self, data: bytes) -> list[bytes]:
        return [data]

    def misprinted(self, frame: bytes, hit: Hit, rng: random.Random) -> bytes:
        if len(frame) < 1 - self._place or hit("bad_crc") is None:
            return frame
        wrong = bytearray(frame)
        wrong[self._place] ^= 1 << rng.randrange(8)
        return bytes(wrong)

    def strangers(self, _frame: bytes, _hit: Hit) -> list[bytes]:
        return []


class Tmslink:
    """Frames between zero bytes, sealed for one device."""

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def cut(self, data: bytes) -> list[bytes]:
        pieces: list[bytes] = PIECE.findall(data)
        return pieces

    def misprinted(self, frame: bytes, hit: Hit, rng: random.Random) -> bytes:
        body = _body(frame)
        if body is None or hit("bad_crc") is None:
            return frame
        wrong = 1 << rng.randrange(8 * CRC_SIZE)
        check = int.from_bytes(body[-CRC_SIZE:], "little") ^ wrong
        return _framed(body[:-CRC_SIZE] + check.to_bytes(CRC_SIZE, "little"))

    def strangers(self, frame: bytes, hit: Hit) -> list[bytes]:
        """Their sequence number is the next."""
        body = _body(frame)
        if body is None:
            return []
        content = bytearray(body[:-CRC_SIZE])
        sequence = int.from_bytes(content[_SEQUENCE], "little") + 1
        content[_SEQUENCE] = (sequence & 0xFFFF_FFFF).to_bytes(4, "little")
        plain = content[0] in PLAIN_SEED
        found = []
        if not plain and hit("foreign_device") is not None:
            found.append(_sealed(bytes(content), self._seed ^ 1))
        if hit("foreign_session") is not None:
            content[_SESSION.start] ^= 0x55
            found.append(_sealed(bytes(content), PLAIN if plain else self._seed))
        return found


def _body(frame: bytes) -> bytes | None:
    """Content and checksum of one whole frame; None when it is something else."""
    if len(frame) < 2 or frame[0] or frame[-1]:
        return None
    body = unstuff(frame[1:-1])
    whole = body is not None and HEADER_SIZE + CRC_SIZE <= len(body) <= BODY_SIZE_MAX
    return body if whole else None


def _framed(body: bytes) -> bytes:
    """The body between delimiters, stuffed."""
    runs = body.split(b"\0")
    return b"\0" + b"".join(bytes((len(run) + 1,)) + run for run in runs) + b"\0"


def _sealed(content: bytes, seed: int) -> bytes:
    return _framed(content + checksum(content, seed).to_bytes(CRC_SIZE, "little"))


class Way:
    """One way of the line, to the host or to the device."""

    def __init__(self, faults: Faults, occasion: Occasion, dialect: Dialect) -> None:
        self.touched = False  # are there faults for this way
        self.held: list[tuple[int, int, bytes]] = []  # a heap: when it arrives, number, bytes
        self._faults, self._occasion, self.dialect = faults, occasion, dialect
        prefix = RX if occasion is Occasion.TO_DEVICE else ""
        self._kinds = {name: prefix + name for name in FRAME_KINDS}
        self._old: deque[bytes] = deque(maxlen=OLD_MAX)
        self._number = self._turn = 0
        self._now_us = 0
        self._newest_us = 0  # a line keeps the order

    def put(self, frame: bytes, now_us: int) -> None:
        """A frame sets out."""
        self._faults.frames[self._occasion] += 1
        self._now_us = now_us
        self._newest_us = max(now_us, self._newest_us)
        if self._hit("silent") is not None or self._hit("drop_frame") is not None:
            return
        going_round = self._hit("revolving") if self._old else None
        if going_round is None:
            self._old.append(frame)
        else:
            memory = min(going_round, len(self._old))
            frame = self._old[self._turn % memory - memory]
            self._turn += 1
        whole = frame
        frame = self._spoilt(self.dialect.misprinted(frame, self._hit, self._faults.rng))
        self._send(frame)
        if self._hit("duplicate") is not None:
            self._hold(frame, self._newest_us)
        if (back := self._hit("replay")) is not None:
            self._hold(self._older(back), self._newest_us)
        for stranger in self.dialect.strangers(whole, self._hit):
            self._hold(stranger, self._newest_us)

    def due(self, now_us: int) -> bytes:
        """What has arrived by now."""
        pieces = []
        while self.held and self.held[0][0] <= now_us:
            pieces.append(heapq.heappop(self.held)[2])
        return b"".join(pieces)

    def next_us(self) -> int | None:
        """When something arrives by itself."""
        return self.held[0][0] if self.held else None

    def clear(self) -> None:
        """What is under way is lost."""
        self.held.clear()

    def _hit(self, name: str) -> int | None:
        return self._faults.strikes(self._kinds[name], self._now_us)

    def _older(self, back: int) -> bytes:
        """The frame so many before the newest, or the oldest that is known."""
        return self._old[-min(back + 1, len(self._old))]

    def _send(self, frame: bytes) -> None:
        """Let it arrive when the faults of timing say."""
        at = self._now_us + (self._hit("late") or 0) * MS
        jitter_ms = self._hit("jitter")
        if jitter_ms is not None:
            at += self._faults.rng.randrange(jitter_ms * MS + 1)
        merge_ms = self._hit("merge")
        if merge_ms is not None:
            at = -(-at // (merge_ms * MS)) * merge_ms * MS
        overtaken_ms = self._hit("reorder")
        if overtaken_ms is not None:
            heapq.heappush(self.held, (at + overtaken_ms * MS, self._next(), frame))
            return
        self._newest_us = max(at, self._newest_us)
        split_ms = self._hit("split") if len(frame) > 1 else None
        if split_ms is None:
            self._hold(frame, self._newest_us)
            return
        half = len(frame) // 2
        self._hold(frame[:half], self._newest_us)
        self._newest_us = max(at + split_ms * MS, self._newest_us)
        self._hold(frame[half:], self._newest_us)

    def _hold(self, data: bytes, at_us: int) -> None:
        heapq.heappush(self.held, (at_us, self._next(), data))

    def _next(self) -> int:
        self._number += 1
        return self._number

    # -- what becomes of a frame -----------------------------------------------------------------

    def _spoilt(self, frame: bytes) -> bytes:
        rng = self._faults.rng
        if frame and self._hit("drop_byte") is not None:
            at = rng.randrange(len(frame))
            frame = frame[:at] + frame[at + 1 :]
        if frame and self._hit("bit_flip") is not None:
            at = rng.randrange(len(frame))
            frame = frame[:at] + bytes((frame[at] ^ 1 << rng.randrange(8),)) + frame[at + 1 :]
        if self._hit("wrong_baud") is not None:
            frame = rng.randbytes(len(frame))
        return frame
