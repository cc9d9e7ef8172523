"""What the checks need to know of a plan, so that safety never imports stimulation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from firmware_protocol.quantities import PercentMso


class TrainView(Protocol):
    """What the check needs to know of a train."""

    @property
    def onset_us(self) -> int: ...
    @property
    def bursts(self) -> int: ...
    @property
    def burst_period_us(self) -> int: ...
    @property
    def pulses_per_burst(self) -> int: ...
    @property
    def interval_us(self) -> int: ...
    @property
    def span_us(self) -> int: ...


class PlanView(Protocol):
    """What the check needs to know of a plan."""

    @property
    def mso(self) -> PercentMso: ...
    @property
    def mt_permille(self) -> int: ...
    @property
    def trains(self) -> Sequence[TrainView]: ...
    @property
    def pulses(self) -> int: ...
    @property
    def span_us(self) -> int: ...
