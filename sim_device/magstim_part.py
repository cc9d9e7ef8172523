"""What one model of the Magstim family adds to the firmware that all of them share."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from typing import Protocol

from firmware_protocol.magstim.messages import Answer, Dialect, Status, Value
from sim_device.serial_unit import Effect

Values = Mapping[str, Value]
Handler = Callable[[Values], Answer | None]
"""Carries out one command; None for silence."""

Read = Callable[[], Value]


class Phase(enum.IntEnum):
    """As its status byte shows it."""

    SPENT = 0  # just after a pulse
    STANDBY = Status.STANDBY
    ARMED = Status.ARMED
    READY = Status.READY


class Part(Protocol):
    """What one model adds."""

    dialect: Dialect
    commands: Mapping[str, Handler]
    reads: Mapping[str, Read]  # of the fields of its replies
    effects: Mapping[str, Effect]  # of faults that only this model has

    def power_up(self) -> None:
        """Forget what was set."""

    def power_max(self) -> int: ...

    def changeable(self) -> bool:
        """May settings be changed now?"""

    def power_set(self) -> None:
        """Another power has been set."""

    def may_arm(self) -> bool: ...

    def may_fire(self) -> bool: ...

    def charge(self) -> None:
        """Charge to what is set."""

    def bleed(self) -> None:
        """Empty the capacitors."""

    def charged_at_us(self) -> int: ...

    def rest_us(self) -> int:
        """From a pulse until the next can be."""

    def triggered(self) -> None:
        """It will fire: what is set now holds for it."""

    def go(self, cause: str) -> None:
        """It fires: a pulse, a pair or a train begins."""

    def spent(self) -> None:
        """A pulse has left."""

    def busy(self) -> bool:
        """Is a pair or a train not over yet?"""

    def stop(self, cause: str, /) -> None:
        """End a pair or a train."""
