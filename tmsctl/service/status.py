"""The live state as subscribers see it, made from the engine and the guard's newest snapshot."""

from __future__ import annotations

from datetime import datetime

from drivers.contract import DeviceState
from tmsctl.ipc.messages import GuardState, SelfTestState, Snapshot
from tmsctl.records.views import stamp
from tmsctl.service import api
from tmsctl.session.engine import Engine
from tmsctl.session.state import Session, State

_US = 1_000_000


def status_of(engine: Engine, utc: datetime, boot_us: int, journal_error: str) -> api.Status:
    """Nothing older than the guard's last word is shown as if it were now."""
    snapshot = engine.guard.fresh(boot_us)
    session = engine.session
    return api.Status(
        time=stamp(utc),
        guard=_guard(engine, snapshot),
        device=_device(snapshot),
        coil=_coil(snapshot),
        intensity=_intensity(session, snapshot),
        session=None if session is None else _session(session, snapshot, boot_us),
        self_test=_self_test(snapshot),
        clock_confirmed=not engine.desk.doubt(),
        journal_error=journal_error,
    )


def guard_word(snapshot: Snapshot | None) -> str:
    """The guard's state in a word."""
    return "absent" if snapshot is None else GuardState(snapshot.state).name.lower()


def _guard(engine: Engine, snapshot: Snapshot | None) -> api.GuardStatus:
    if snapshot is None:
        return api.GuardStatus(state=guard_word(None))
    causes = engine.guard.causes if engine.guard.safe else []
    return api.GuardStatus(
        state=guard_word(snapshot),
        cycle=snapshot.cycle,
        overruns=snapshot.overruns,
        late_max_us=snapshot.late_max_us,
        timing=snapshot.timing,
        causes=tuple(api.Cause(code=c.code, detail=c.detail) for c in causes),
    )


def _device(snapshot: Snapshot | None) -> api.DeviceStatus:
    if snapshot is None:
        return api.DeviceStatus(link="GUARD-ABSENT: the guard does not answer")
    if not snapshot.connected:
        return api.DeviceStatus(link=snapshot.link, model=snapshot.model, serial=snapshot.serial)
    age_us = snapshot.status_age_us
    return api.DeviceStatus(
        connected=True,
        link=snapshot.link,
        model=snapshot.model,
        serial=snapshot.serial,
        state="unknown" if age_us < 0 else DeviceState(snapshot.device_state).name.lower(),
        status_age_ms=None if age_us < 0 else age_us // 1000,
        pulse_count=snapshot.pulse_count,
        charge_pct=snapshot.charge_permille / 10,
    )


def _coil(snapshot: Snapshot | None) -> api.CoilStatus:
    if snapshot is None or not snapshot.connected or snapshot.status_age_us < 0:
        return api.CoilStatus()
    return api.CoilStatus(temperature_c=snapshot.surface_dc / 10, winding_c=snapshot.coil_dc / 10)


def _intensity(session: Session | None, snapshot: Snapshot | None) -> api.Intensity:
    return api.Intensity(
        planned_mso=0 if session is None else session.plan.mso.value,
        realised_mso=0.0 if snapshot is None else snapshot.realised_permille / 10,
    )


def _self_test(snapshot: Snapshot | None) -> api.SelfTestStatus:
    if snapshot is None or not snapshot.connected:
        return api.SelfTestStatus()
    return api.SelfTestStatus(
        state=SelfTestState(snapshot.self_test).name.lower(),
        age_s=_seconds(snapshot.self_test_age_us),
    )


def _session(session: Session, snapshot: Snapshot | None, boot_us: int) -> api.SessionStatus:
    presence_s = None if snapshot is None else _seconds(snapshot.presence_age_us)
    if snapshot is not None and snapshot.session_no != session.number:
        snapshot = None  # it speaks of no session, or of another one
    totals = session.totals
    delivered = totals.delivered
    if snapshot is not None:  # pulses of the block that runs; the guard counts doubtful ones too
        delivered = max(delivered, snapshot.delivered - totals.doubtful)
    left_s = next_s = None
    if session.state is State.COMPLETE:
        left_s = 0.0
    elif snapshot is not None and not session.state.ended:
        left_s = _seconds(snapshot.left_us)
        next_s = _seconds(snapshot.next_in_us) if session.state is State.RUNNING else None
    state = session.state
    if state is State.RUNNING and snapshot is not None and snapshot.state == GuardState.ARMING:
        state = State.STARTING  # the guard runs the plan, but no pulse can leave yet
    end_us = boot_us if session.ended_us is None else session.ended_us
    return api.SessionStatus(
        id=session.number,
        patient=session.order.patient,
        operator=session.order.operator,
        protocol=session.plan.protocol.id,
        state=state.value,
        planned=session.plan.pulses,
        delivered=delivered,
        skipped=totals.skipped if snapshot is None else max(totals.skipped, snapshot.skipped),
        # The guard knows how far its running block is; what it does not speak of is unknown.
        unknown=totals.doubtful if snapshot is not None else totals.unknown,
        train=session.train,
        trains=len(session.plan.trains),
        waiting="" if snapshot is None else snapshot.waiting,
        next_train_s=next_s,
        left_s=left_s,
        elapsed_s=(end_us - session.started_us) / _US,
        presence_s=presence_s,
    )


def _seconds(us: int) -> float | None:
    """None for the guard's "unknown", a negative number."""
    return None if us < 0 else us / _US
