"""From what a person asks for to a plan that is checked and can be confirmed. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from tmsctl.safety.check import Check, first_refusal, soft_failures
from tmsctl.safety.limits import Limits, session_limits
from tmsctl.safety.patient import PatientDose, patient_checks
from tmsctl.safety.plan_check import check_plan
from tmsctl.safety.refusal import Refusal
from tmsctl.session.refused import Exit, RefusedError
from tmsctl.stimulation.plan import Plan
from tmsctl.stimulation.prescription import Prescription, compile_plan, mt_permille
from tmsctl.stimulation.protocol import PCT_MT, Protocol

ID_PATTERN: Final = r"[A-Za-z0-9._-]{1,64}"
"""Patient and operator ids: never a name with spaces, safe in a file name and a log."""

REASON_MAX: Final = 300
"""Characters of a reason that a person gives."""


@dataclass(frozen=True, slots=True)
class Order:
    """What a person asks for. `mt` is in %MSO; `pct_mt` None means the protocol's own."""

    patient: str
    operator: str
    protocol: str
    mt: float | None
    pct_mt: int | None
    reduced: bool
    by_emg: bool  # how the motor threshold was measured; by eye is the stricter reading


@dataclass(frozen=True, slots=True)
class Prepared:
    """A plan with its judgement, for a person to confirm."""

    order: Order
    plan: Plan
    limits: Limits  # that it was judged by
    history: PatientDose  # what the patient has had, when it was judged
    checks: tuple[Check, ...]
    sentence: str
    warnings: tuple[str, ...]
    confirmation: str = ""  # what `start` needs; empty until it is shown to somebody

    def refusal(self) -> RefusedError | None:
        """The first limit that nobody may exceed here."""
        check = first_refusal(self.checks)
        if check is None:
            return None
        sentence = f"The plan breaks a limit, {check.code}: {check.detail}."
        return RefusedError(Exit.LIMIT, check.code, sentence, check.next_step)

    @property
    def soft(self) -> tuple[Check, ...]:
        """Limits that a person may exceed with a reason."""
        return soft_failures(self.checks)

    def accepted(self, reason: str | None) -> str:
        """The reason to put on record, empty when none was given. RefusedError when one is needed.

        A protocol's [exceeds] and a person's reason are different things: this is the person's.
        """
        if reason is not None:
            return reason_given(reason)
        if not self.soft:
            return ""
        named = "; ".join(f"{check.code}: {check.detail}" for check in self.soft)
        raise RefusedError(
            Exit.LIMIT,
            "soft-limit",
            f"The plan goes beyond what is usual ({named}).",
            "Give the reason why it shall be so, or change the plan.",
        )


def check_id(name: str, value: str) -> None:
    """RefusedError unless it is an id."""
    if not re.fullmatch(ID_PATTERN, value):
        sentence = (
            f"The {name} id is {value[:64]!r}; allowed are 1 to 64 characters of "
            "A-Z, a-z, 0-9, dot, underscore and hyphen."
        )
        raise RefusedError(Exit.USAGE, f"{name}-id", sentence, "Use the clinic's number.")


def reason_given(reason: str) -> str:
    """The reason as it is kept; RefusedError when it is none."""
    kept = reason.strip()
    if not kept or len(kept) > REASON_MAX or not kept.isprintable():
        raise RefusedError(
            Exit.USAGE,
            "reason-wrong",
            f"A reason is 1 to {REASON_MAX} printable characters, not {reason[:20]!r}.",
            "Say in a sentence why it shall be so.",
        )
    return kept


def prepare(
    order: Order,
    library: Mapping[str, Protocol],
    site: Limits,
    history: Callable[[str], PatientDose],
) -> Prepared:
    """RefusedError when the order cannot become a plan; a plan that breaks a limit is returned.

    `history` knows what a patient has had.
    """
    check_id("patient", order.patient)
    check_id("operator", order.operator)
    protocol = library.get(order.protocol)
    if protocol is None:
        known = ", ".join(sorted(library))
        raise RefusedError(
            Exit.USAGE,
            "protocol-unknown",
            f"There is no protocol {order.protocol[:64]!r}; known are {known}.",
            "See `tmsctl protocol list`.",
        )
    limits = session_limits(site, protocol.exceeds)
    plan = compile_plan(_prescription(order, protocol), limits.mso_max_pct)
    if isinstance(plan, Refusal):
        raise RefusedError(Exit.LIMIT, *plan)
    had = history(order.patient)
    # The recharge time is the device's; the guard, which knows the device, judges it.
    checks = check_plan(plan, limits, None, order.by_emg, protocol.exceeds, protocol.reviewer)
    checks += patient_checks(had, plan, limits, protocol.exceeds)
    return Prepared(order, plan, limits, had, checks, _sentence(plan), tuple(_warnings(plan)))


def _prescription(order: Order, protocol: Protocol) -> Prescription:
    if order.mt is None:
        raise RefusedError(
            Exit.USAGE,
            "mt-missing",
            "No motor threshold was given; it is needed in %MSO, 0.1 to 100.",
            "Measure the motor threshold, then give it.",
        )
    try:
        permille = mt_permille(order.mt)
    except ValueError as error:
        raise RefusedError(
            Exit.USAGE, "mt-out-of-range", str(error), "Check the motor threshold."
        ) from error
    pct_mt = protocol.pct_mt if order.pct_mt is None else order.pct_mt
    if pct_mt not in PCT_MT:
        raise RefusedError(
            Exit.USAGE,
            "pct-mt-out-of-range",
            f"The intensity is {pct_mt} % of motor threshold; allowed are 1 to 200.",
            f"The protocol's own is {protocol.pct_mt} %.",
        )
    return Prescription(protocol, permille, pct_mt, order.reduced)


def minutes(duration_us: int) -> str:
    """Rounded to whole seconds: `37 min 26 s`, or `40 s`."""
    whole_min, seconds = divmod(round(duration_us / 1_000_000), 60)
    return f"{whole_min} min {seconds} s" if whole_min else f"{seconds} s"


def _sentence(plan: Plan) -> str:
    return (
        f"{plan.protocol.title} at {plan.mso} ({plan.pct_mt} % of a motor threshold of "
        f"{plan.mt_permille / 10:.1f} %MSO): {plan.pulses} pulses, "
        f"{len(plan.trains)} train{'s' if len(plan.trains) > 1 else ''}, "
        f"{minutes(plan.span_us)}."
    )


def _warnings(plan: Plan) -> list[str]:
    protocol, warnings = plan.protocol, []
    prescribed = plan.pct_mt * plan.mt_permille // 1000
    if prescribed > plan.mso.value:
        warnings.append(f"Reduced dose: {plan.mso} instead of the prescribed {prescribed} %MSO.")
    if protocol.exceeds:
        beyond = ", ".join(f"{name} = {value}" for name, value in protocol.exceeds.items())
        warnings.append(
            f"The protocol exceeds the general limits ({beyond}): {protocol.exceeds_reason}"
        )
    if not protocol.reviewer:
        warnings.append(f"No clinician has reviewed the protocol file {protocol.id}.")
    return warnings
