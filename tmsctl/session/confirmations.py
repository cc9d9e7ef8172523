"""What a person was shown and may say yes to: each is good once, for two minutes, and unchanged."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple, NoReturn

from firmware_protocol.quantities import SECOND
from tmsctl.safety.limits import Limits
from tmsctl.session.prepare import Order, Prepared
from tmsctl.session.refused import Exit, RefusedError

GOOD_FOR_US: Final = 120 * SECOND
KEPT_MAX: Final = 256
"""Newest ones; whoever asks for more without starting loses the oldest."""

_AGAIN: Final = "Prepare the session again and confirm what is shown."

FIELDS: Final = {
    "patient": "the patient",
    "operator": "the operator",
    "protocol": "the protocol",
    "mt": "the motor threshold",
    "pct_mt": "the percentage of the motor threshold",
    "reduced": "the consent to less than the dose",
    "by_emg": "the method by which the motor threshold was measured",
}
"""What the fields of an order are called by people."""


class Binding(NamedTuple):
    """All that a confirmation stands for."""

    order: Order
    plan_hash: str
    limits: Limits
    judged: tuple[tuple[str, bool, bool], ...]  # code, ok and soft of every check


@dataclass(slots=True)
class _Issued:
    binding: Binding
    at_us: int  # CLOCK_BOOTTIME
    used: bool = False


def binding_of(prepared: Prepared) -> Binding:
    judged = tuple((check.code, check.ok, check.soft) for check in prepared.checks)
    return Binding(prepared.order, prepared.plan.hash, prepared.limits, judged)


class Confirmations:
    """Those of this life of the service; a restart forgets them all."""

    def __init__(self, token: Callable[[], str]) -> None:
        """`token` makes a text that nobody can guess and that never comes twice."""
        self._token = token
        self._issued: dict[str, _Issued] = {}

    def issue(self, prepared: Prepared, now_us: int) -> str:
        """For what is being shown to a person now."""
        name = self._token()
        self._issued[name] = _Issued(binding_of(prepared), now_us)
        while len(self._issued) > KEPT_MAX:
            del self._issued[next(iter(self._issued))]
        return name

    def check_order(self, name: str, order: Order, now_us: int) -> None:
        """RefusedError when the confirmation is not good any more, or is of another order."""
        issued = self._issued.get(name)
        if issued is None:
            sentence = "This confirmation is not known."
            raise RefusedError(Exit.USAGE, "confirmation-unknown", sentence, _AGAIN)
        if issued.used:
            sentence = "This confirmation was used before; each is good once."
            raise RefusedError(Exit.USAGE, "confirmation-used", sentence, _AGAIN)
        age_us = now_us - issued.at_us
        if not 0 <= age_us <= GOOD_FOR_US:
            raise RefusedError(
                Exit.USAGE,
                "confirmation-old",
                f"The plan was shown {age_us // SECOND} s ago; a confirmation is good for "
                f"{GOOD_FOR_US // SECOND} s.",
                _AGAIN,
            )
        if issued.binding.order != order:
            names = [
                name
                for field, name in FIELDS.items()
                if getattr(issued.binding.order, field) != getattr(order, field)
            ]
            self._changed(issued, " and ".join(names))

    def check_plan(self, name: str, prepared: Prepared, plan_hash: str) -> None:
        """RefusedError when what would be delivered, or its judgement, is not what was shown."""
        issued = self._issued[name]
        shown, now = issued.binding, binding_of(prepared)
        if plan_hash != now.plan_hash:
            issued.used = True
            raise RefusedError(
                Exit.LIMIT,
                "plan-changed",
                f"The plan is {now.plan_hash[:12]}, but {plan_hash[:12] or 'none'} was confirmed.",
                _AGAIN,
            )
        if shown == now:
            return
        codes = [new[0] for old, new in zip(shown.judged, now.judged, strict=False) if old != new]
        what = "the plan" if shown.plan_hash != now.plan_hash else "the limits"
        self._changed(issued, f"the judgement of {', '.join(codes)}" if codes else what)

    def use(self, name: str) -> None:
        """A session begins with it."""
        self._issued[name].used = True

    def _changed(self, issued: _Issued, what: str) -> NoReturn:
        issued.used = True
        sentence = f"Since the plan was shown, {what} changed."
        raise RefusedError(Exit.LIMIT, "confirmation-changed", sentence, _AGAIN)
