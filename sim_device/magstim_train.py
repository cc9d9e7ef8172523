"""One train of an emulated Rapid²: equal intervals, timed by the unit itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sim_device.magstim_core import Core


class Train:
    """Runs until its pulses have left or somebody ends it; then tells how many left."""

    def __init__(
        self,
        core: Core,
        frequency_dhz: int,
        pulses: int,
        cause: str,
        ended: Callable[[int], None],
    ) -> None:
        self._core, self._cause, self._ended = core, cause, ended
        self._frequency_dhz, self._pulses = frequency_dhz, pulses
        self._start_us = core.bench.now
        self._place = 0
        self._over = False

    def begin(self) -> None:
        """The first pulse leaves now."""
        self._note("train_start", pulses=self._pulses, frequency_dhz=self._frequency_dhz)
        self._next()

    def end(self, cause: str) -> None:
        """No pulse of it leaves any more."""
        if self._over:
            return
        self._over = True
        self._note("train_end", fired=self._place, cause=cause)
        self._ended(self._place)

    def _next(self) -> None:
        if self._over:
            return
        self._core.pulse(self._cause, power=self._core.power, place=self._place)
        self._place += 1
        if self._place == self._pulses:
            self.end("complete")
            return
        # From the start, so that no error of rounding adds up.
        at_us = self._start_us + self._place * 10_000_000 // self._frequency_dhz
        self._core.bench.at(at_us, self._next)

    def _note(self, event: str, **more: object) -> None:
        now = self._core.bench.now
        self._core.bench.log({"t_us": now, "event": event, "mso": self._core.power, **more})
