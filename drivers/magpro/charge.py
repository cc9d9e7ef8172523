"""What a MagPro may hold in its capacitor: it tells neither that it is charged nor that it is not.

All figures are longer than any that is public. Bleeding is slow, so what counts is until when it
may have been charged to more than what is wanted now.
"""

from __future__ import annotations

from typing import Final

from firmware_protocol.quantities import MS, BootUs

CHARGE_US_PER_PCT: Final = 10 * MS
CHARGE_MORE_US: Final = 300 * MS
"""This long after it was enabled it counts as charged."""

BLEED_US_PER_PCT: Final = 100 * MS
"""And so long for each percent that it may still hold above that: as a Magstim (rapid2tb), since
the figure of a MagPro is not public."""

UNSEEN_US: Final = 500 * MS
"""Longer without its status, an enabled unit may have been turned up by a person and down again."""


class Charge:
    """Of one unit, through all of its connections."""

    def __init__(self) -> None:
        self._empty_at = BootUs(0)  # by then whatever it was charged to has bled away
        self._charges_to = 0  # %MSO, by the status before; 0: it was not enabled
        self._seen_at = BootUs(0)  # when it last told its whole status

    def seen(self, now: BootUs) -> None:
        """It told its whole status, which was noted."""
        self._seen_at = now

    def note(self, a_pct: int, now: BootUs, *, enabled: bool) -> None:
        """What it shows. Until just now it may have gone on as the status before showed it."""
        if enabled or self._charges_to:
            unseen = self._charges_to and now - self._seen_at > UNSEEN_US
            self._holds(100 if unseen else max(a_pct, self._charges_to), now)
        self._charges_to = a_pct if enabled else 0

    def connected(self, a_pct: int, now: BootUs) -> None:
        """It was found, and is disabled. If it was lost enabled, nobody saw what it was set to."""
        self._holds(100 if self._charges_to else a_pct, now)
        self._charges_to = 0

    def ready_at(self, a_pct: int, now: BootUs) -> BootUs:
        """When it holds what it is enabled for now, neither less nor more."""
        charged_at = BootUs(now + CHARGE_US_PER_PCT * a_pct + CHARGE_MORE_US)
        return max(charged_at, BootUs(self._empty_at - BLEED_US_PER_PCT * a_pct))

    def _holds(self, pct: int, now: BootUs) -> None:
        self._empty_at = max(self._empty_at, BootUs(now + BLEED_US_PER_PCT * pct))
