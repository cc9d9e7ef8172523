"""What the readers of all families give for a trace."""

from __future__ import annotations

from typing import NamedTuple, Protocol


class Traced(NamedTuple):
    """One frame, or bytes that are none: then `damage` says why and `text` is empty."""

    text: str
    data: bytes = b""  # only where they are not in the text: of what is damaged
    damage: str = ""


class Trace(Protocol):
    """Reads both ways of one line, from one opening of the port to its closing."""

    def feed(self, data: bytes, *, to_device: bool) -> list[Traced]:
        """What ended with these bytes. Never raises on them."""
