"""The guard's own compilation of a confirmed prescription, from its own copy of the library."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from drivers.contract import Envelope
from tmsctl.ipc import messages as ipc
from tmsctl.safety.limits import Limits, session_limits
from tmsctl.safety.plan_check import check_plan
from tmsctl.safety.refusal import Refusal
from tmsctl.safety.rules import Action, Trip
from tmsctl.stimulation.plan import Plan
from tmsctl.stimulation.prescription import Prescription, compile_plan
from tmsctl.stimulation.protocol import Protocol


def plan_for(
    load: ipc.Load,
    library: Mapping[str, Protocol],
    site: Limits,
    envelope: Envelope,
    why_not: Callable[[Plan], str],
) -> tuple[Plan, Limits] | Trip:
    """The plan and the limits of its session, or why it is refused. tmsd is not believed.

    `why_not`: what the connected device cannot deliver, in its driver's words. It is asked before
    the limits: a device that times no bursts says more by that than by its recharge time.
    """
    protocol = library.get(load.protocol)
    if protocol is None:
        return _no("protocol-unknown", f"the guard's library has no protocol {load.protocol!r}")
    prescription = Prescription(protocol, load.mt_permille, load.pct_mt, bool(load.reduced))
    plan = compile_plan(prescription, site.mso_max_pct)
    if isinstance(plan, Refusal):
        return _no(plan.code, plan.sentence)
    if plan.hash != load.plan_hash:
        return _no("plan-changed", "the plan is not the one that was confirmed")
    if cannot := why_not(plan):
        return _no("device-cannot", cannot)
    try:
        limits = session_limits(site, protocol.exceeds)
    except ValueError as error:
        return _no("limits-wrong", str(error))
    for check in check_plan(
        plan,
        limits,
        envelope.recharge_us[plan.mso.value],
        bool(load.by_emg),
        protocol.exceeds,
        protocol.reviewer,
    ):
        if not check.ok and not (check.soft and load.soft_accepted):
            return _no(check.code, check.detail)
    return plan, limits


def _no(code: str, detail: str) -> Trip:
    return Trip(code, Action.HOLD, detail)
