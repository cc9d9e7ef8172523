"""How a plan falls into blocks for the connected device, and whether it takes them. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from drivers.contract import DriverInfo, Envelope, PulseBlock
from tmsctl.stimulation.plan import Plan, Slice


def lease_us(info: DriverInfo, envelope: Envelope) -> int:
    """Longest block that is handed over at once, first pulse to last."""
    return min(info.lease_max_us, envelope.block_max_us)


def blocks(plan: Plan, first_pulse: int, lease_max_us: int, pulses_max: int) -> Iterator[Slice]:
    """Every block of the rest of a plan, in order."""
    at = first_pulse
    while at < plan.pulses:
        piece = plan.slice_at(at, lease_max_us, pulses_max)
        yield piece
        at += piece.pulses


def cannot(
    plan: Plan,
    first_pulse: int,
    lease_max_us: int,
    envelope: Envelope,
    refuses: Callable[[PulseBlock], str],
) -> str:
    """Why this device cannot deliver the plan as it is; empty when it can.

    `refuses` is the driver's word on one block. Asked before anything is armed, so that a plan is
    not begun which cannot be ended.
    """
    asked: set[tuple[int, int, int, int]] = set()
    ended_us: int | None = None  # planned time of the last pulse so far
    for piece in blocks(plan, first_pulse, lease_max_us, envelope.block_pulses_max):
        if ended_us is not None and piece.onset_us - ended_us < envelope.block_rest_us:
            return (
                f"this device takes at most {lease_max_us} us of a train at once and then needs "
                f"{envelope.block_rest_us} us, the plan goes on after {piece.onset_us - ended_us}"
            )
        shape = (piece.bursts, piece.burst_period_us, piece.pulses_per_burst, piece.interval_us)
        if shape not in asked:
            asked.add(shape)
            why = refuses(PulseBlock(1, plan.mso, *shape))
            if why:
                return why
        ended_us = plan.at_us(piece.first_pulse + piece.pulses - 1)
    return ""
