"""Damaged and lost frames while armed: the first makes doubt, the second within the hour stops."""

from __future__ import annotations

from collections import deque
from typing import Final

from firmware_protocol.quantities import SECOND, BootUs

WINDOW_US: Final = 3_600 * SECOND
"""L-03: one error within 60 min is tolerated, as OPC UA Safety and PROFIsafe do."""

GOOD_NEEDED: Final = 2
"""Good round trips after an error before pulses go on."""


class LinkWatch:
    """Facts for the rules `link-errors` and `link-doubt`. Bounded."""

    __slots__ = ("_doubt", "_errors")

    def __init__(self) -> None:
        self._errors: deque[BootUs] = deque(maxlen=16)
        self._doubt = 0

    @property
    def doubt(self) -> bool:
        return self._doubt > 0

    def error(self, now: BootUs) -> None:
        """A frame of the device came damaged, twice, or not at all."""
        self._errors.append(now)
        self._doubt = GOOD_NEEDED

    def round_trip(self) -> None:
        """The device answered to a beat."""
        if self._doubt:
            self._doubt -= 1

    def errors(self, now: BootUs) -> int:
        """In the last hour."""
        errors = self._errors
        while errors and now - errors[0] >= WINDOW_US:
            errors.popleft()
        return len(errors)

    def acknowledge(self) -> None:
        """A person has seen that the link is bad."""
        self._errors.clear()
