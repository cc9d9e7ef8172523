"""What passed on the line of a DuoMAG, in words: for reading recordings without a device."""

from __future__ import annotations

from firmware_protocol.duomag.framing import CommandDecoder, Ignored, StatusDecoder
from firmware_protocol.duomag.messages import describe
from firmware_protocol.traced import Traced


class DuomagTrace:
    """Both ways of one line."""

    def __init__(self) -> None:
        self._status, self._commands = StatusDecoder(), CommandDecoder()

    def feed(self, data: bytes, *, to_device: bool) -> list[Traced]:
        found = (self._commands if to_device else self._status).feed(data)
        return [
            Traced("", one.data, one.why) if isinstance(one, Ignored) else Traced(describe(one))
            for one in found
        ]
