"""What a session that begins is on record, and what the guard is told of it. Pure."""

from __future__ import annotations

from tmsctl.ipc.messages import Load, Snapshot
from tmsctl.records.views import NewSession
from tmsctl.session.ledger_desk import Admission
from tmsctl.session.prepare import Prepared


def new_session(
    prepared: Prepared, snapshot: Snapshot, admission: Admission, reason: str
) -> NewSession:
    """The row that is written before anything is sent."""
    order, plan = prepared.order, prepared.plan
    return NewSession(
        patient=order.patient,
        operator=order.operator,
        protocol=plan.protocol.id,
        protocol_hash=plan.protocol.hash,
        plan_hash=plan.hash,
        mt_permille=plan.mt_permille,
        pct_mt=plan.pct_mt,
        mso=plan.mso.value,
        reduced=plan.reduced,
        planned=plan.pulses,
        model=snapshot.model,
        serial=snapshot.serial,
        boot_count=snapshot.boot_count,
        count_before=snapshot.pulse_count,
        mt_method="emg" if order.by_emg else "visual",
        soft_limits=" ".join(check.code for check in prepared.soft),
        reason=reason,
        self_test=admission.self_test,
    )


def load_of(number: int, prepared: Prepared, admission: Admission) -> Load:
    """The prescription, the patient's dose before it, and what the device's counter may show."""
    order, plan, history = prepared.order, prepared.plan, prepared.history
    return Load(
        session_no=number,
        protocol=plan.protocol.id,
        mt_permille=plan.mt_permille,
        pct_mt=plan.pct_mt,
        reduced=plan.reduced,
        plan_hash=plan.hash,
        first_pulse=0,
        by_emg=order.by_emg,
        soft_accepted=bool(prepared.soft),
        day_pulses=history.day_pulses,
        week_pulses=history.week_pulses,
        count_low=admission.counter.low,
        count_high=admission.counter.high,
    )
