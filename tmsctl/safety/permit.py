"""The one place where a permit is made."""

from __future__ import annotations

from typing import Final

from drivers._seal import SEAL
from drivers.contract import Permit
from firmware_protocol.quantities import MS, BootUs
from tmsctl.safety.facts import Request
from tmsctl.safety.machine import Armed, State
from tmsctl.safety.rules import Action, Trip, Verdict

USE_WITHIN_US: Final = 10 * MS
"""A permit is for this cycle."""

GRACE_US: Final = 5 * MS
"""The device may send the last pulse this much after its planned time, for clock error."""


def mint(state: State, verdict: Verdict, request: Request, now: BootUs) -> Permit | Verdict:
    """A permit for one block, or the verdict that denies it.

    `verdict` is `rules.gate` of this very cycle.
    """
    if not isinstance(state, Armed):
        trip = Trip("not-armed", Action.HOLD, "the device is not armed and ready")
        return Verdict(Action.HOLD, (trip,))
    if verdict.action is not Action.PERMIT:
        return verdict
    if request.block.mso != state.mso:
        trip = Trip("setting", Action.SAFE, f"armed at {state.mso}, block at {request.block.mso}")
        return Verdict(Action.SAFE, (trip,))
    return Permit(
        SEAL,
        block=request.block,
        start_at=request.start_at,
        expires_at=BootUs(request.start_at + request.block.span_us + GRACE_US),
        use_before=BootUs(now + USE_WITHIN_US),
    )
