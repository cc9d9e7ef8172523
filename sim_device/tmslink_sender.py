"""The device's frames on their way to the host."""

from __future__ import annotations

from typing import Any

from sim_device.fault_kinds import Occasion
from sim_device.faults import Faults
from sim_device.tmslink_wire import encode
from sim_device.wire_faults import Tmslink, Way


class Sender:
    """Numbers and seals frames. Silent until a session is open."""

    def __init__(self, seed: int, faults: Faults) -> None:
        self.session = 0
        self.way = Way(faults, Occasion.TO_HOST, Tmslink(seed))
        self._sent = 0
        self._seed = seed
        self._out: list[bytes] = []

    def open(self, session: int) -> None:
        """Frames belong to this session from now on; 0 is silence."""
        self.session, self._sent = session, 0

    def send(self, message: Any, now_us: int) -> None:
        if not self.session:
            return
        self._sent += 1
        frame = encode(message, self.session, self._sent, self._seed)
        if self.way.touched or self.way.held:
            self.way.put(frame, now_us)
            self.release(now_us)
        else:
            self._out.append(frame)

    def raw(self, data: bytes) -> None:
        """Bytes that are no frame, whether a session is open or not."""
        self._out.append(data)

    def release(self, now_us: int) -> None:
        """Let the frames go whose time has come."""
        if self.way.held:
            self._out.append(self.way.due(now_us))

    def take(self) -> bytes:
        """All that has left since the last call."""
        if not self._out:
            return b""
        data = b"".join(self._out)
        self._out.clear()
        return data

    def clear(self) -> None:
        """What has not left never will."""
        self._out.clear()
        self.way.clear()
