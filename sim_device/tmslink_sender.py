"""The device's frames on their way to the host, and the faults that get hold of them."""

from __future__ import annotations

from collections import deque
from typing import Any

from firmware_protocol.quantities import MS
from sim_device.faults import Faults
from sim_device.tmslink_wire import encode


class Sender:
    """Numbers and seals frames. Silent until a session is open."""

    def __init__(self, seed: int, faults: Faults) -> None:
        self.session = 0
        self._sent = 0
        self._seed, self._faults = seed, faults
        self._out: list[bytes] = []
        self._held: deque[tuple[int, bytes]] = deque()  # when it leaves, in rising order

    def open(self, session: int) -> None:
        """Frames belong to this session from now on."""
        self.session, self._sent = session, 0

    def send(self, message: Any, now_us: int) -> None:
        if not self.session:
            return
        self._sent += 1
        frame = encode(message, self.session, self._sent, self._seed)
        if not self._faults.touches_frames and not self._held:
            self._out.append(frame)
            return
        strikes = self._faults.strikes
        if strikes("silent", now_us) is not None or strikes("drop_frame", now_us) is not None:
            return
        if strikes("bit_flip", now_us) is not None:
            frame = self._faults.spoil(frame)
        late_ms = strikes("late", now_us) or 0
        newest_us = self._held[-1][0] if self._held else 0  # a line keeps the order
        self._held.append((max(now_us + late_ms * MS, newest_us), frame))
        self.release(now_us)

    def noise(self, size: int) -> None:
        """Random bytes, whether a session is open or not."""
        self._out.append(self._faults.noise(size))

    def next_event_us(self) -> int | None:
        """When the next held frame leaves."""
        return self._held[0][0] if self._held else None

    def release(self, now_us: int) -> None:
        """Let the frames go whose time has come."""
        while self._held and self._held[0][0] <= now_us:
            self._out.append(self._held.popleft()[1])

    def take(self) -> bytes:
        """All that has left since the last call."""
        if not self._out:
            return b""
        data = b"".join(self._out)
        self._out.clear()
        return data
