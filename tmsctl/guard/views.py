"""What the rules look at, gathered from the guard. Nothing here decides anything."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from drivers.contract import SINGLE, PulseBlock, Shape
from firmware_protocol.quantities import BootUs, PercentMso
from tmsctl.guard.playback import Intent, Playback
from tmsctl.ipc import messages as ipc
from tmsctl.safety import rules
from tmsctl.safety.facts import ArmRequest, CounterRange, Facts, Request
from tmsctl.safety.limits import Limits
from tmsctl.safety.machine import Armed, Arming

if TYPE_CHECKING:
    from tmsctl.guard.core import Guard

NEVER_US: Final = 10**12
"""Recharge and rest of a device that has not told its own: no interval is long enough."""


def facts_of(guard: Guard, gap_us: int, now: BootUs) -> Facts:
    """One view for one cycle."""
    device, state, play = guard.device, guard.state, guard.play
    since, mso = (state.since, state.mso) if isinstance(state, Arming | Armed) else (None, None)
    armed = since is not None
    return Facts(
        guard.stopped_by,
        guard.service_seen_at,
        gap_us,
        device.known,
        device.status,
        since,
        mso,
        isinstance(state, Armed),
        armed and device.arm_taken,
        device.energy_at if armed else None,
        device.counter_range(play),
        device.realised_permille if armed else None,
        device.unresolved_since(play),
        device.refusals if armed else 0,
        device.missed if armed else 0,
        device.strangers,
        device.seen,
        play.since if play else None,
        guard.presence_at,
        guard.service_fault,
        device.link_watch.errors(now),
        device.link_watch.doubt,
        device.identity.coil_type if device.identity else None,
        device.coil.rate_dc,
        device.coil.stuck_j,
        device.didt_a_per_us if armed else None,
    )


def facts_if_acknowledged(guard: Guard, now: BootUs) -> Facts:
    """What has happened is acknowledged; only what is still so can keep the latch."""
    return facts_of(guard, 0, now)._replace(
        stopped_by=None, strangers=0, link_errors=0, status=guard.device.status_without_fault
    )


def arm_request_of(guard: Guard, play: Playback, run: ipc.Run) -> ArmRequest:
    """What arming this plan would rest on."""
    status = guard.device.status
    return ArmRequest(
        plan_hash=play.plan.hash,
        confirmed_hash=run.plan_hash,
        confirmed_at=BootUs(run.confirmed_us),
        self_test_at=guard.self_test.passed_at,
        ledger_count=ledger_count(play),
        pulse_count=None if status is None else status.pulse_count,
    )


def ledger_count(play: Playback) -> CounterRange:
    """What the device's counter may show by the ledger, and by what left since the plan came."""
    low, high = play.count_at_load
    return CounterRange(low + play.confirmed, high + play.delivered)


def request_of(guard: Guard, play: Playback, intent: Intent) -> Request:
    """One block that asks for a permit."""
    piece, envelope = intent.slice, guard.device.envelope
    return Request(
        block=PulseBlock(
            block_id=intent.block_id,
            mso=play.plan.mso,
            bursts=piece.bursts,
            burst_period_us=piece.burst_period_us,
            pulses_per_burst=piece.pulses_per_burst,
            interval_us=piece.interval_us,
        ),
        start_at=play.due(piece),
        plan_mso=play.plan.mso,
        mt_permille=play.plan.mt_permille,
        plan_pulses_left=play.plan.pulses - play.position,
        session_pulses=play.first_pulse + play.delivered,
        sent=play.sent,
        granted_pulses=intent.pulses - intent.skipped if intent.granted else 0,
        day_pulses=play.day_pulses,
        week_pulses=play.week_pulses,
        all_sent_since=guard.all_sent_since,
        settled_at=guard.settled_at,
        recharge_us=NEVER_US if envelope is None else envelope.recharge_us[play.plan.mso.value],
        rest_us=NEVER_US if envelope is None else envelope.block_rest_us,
    )


def settled_at(guard: Guard, mso: PercentMso, now: BootUs) -> BootUs:
    """When the capacitor has certainly come from what it shows to the intensity."""
    status, limits = guard.device.status, guard.limits_in_force
    assert status is not None  # without one the rules permit no arming
    step = 10 * mso.value - status.charge_permille
    up_us, down_us = step * limits.settle_up_us_per_pct, -step * limits.settle_down_us_per_pct
    return BootUs(now + max(up_us, down_us) // 10)


def shape_of(play: Playback | None) -> Shape:
    """Of the next blocks."""
    if play is None or play.complete:
        return SINGLE
    train = play.plan.train_of(play.position)
    return Shape(train.pulses_per_burst, train.interval_us)


def interlocks(guard: Guard, now: BootUs) -> list[ipc.Interlock]:
    """Every rule with its present value and the limit in force."""
    facts, limits = facts_of(guard, 0, now), guard.limits_in_force
    play = guard.play
    told = [
        _told(row.code, "watch", row.reading(facts, now), row.limit, limits,
              row.rule(facts, limits, now))
        for row in rules.WATCH
    ]  # fmt: skip
    if play is not None and play.intent is not None and play.origin is not None:
        request = request_of(guard, play, play.intent)
        told += [
            _told(row.code, "gate", row.reading(request), row.limit, limits,
                  row.rule(request, limits))
            for row in rules.GATE
        ]  # fmt: skip
    if play is not None:
        # Nobody confirms anything now: what a confirmation of this instant would find.
        wish = arm_request_of(guard, play, ipc.Run(play.session_no, play.plan.hash, now))
        told += [
            _told(row.code, "arm", row.reading(wish, now), row.limit, limits,
                  row.rule(wish, limits, now))
            for row in rules.ARM
        ]  # fmt: skip
    return told


def _told(
    code: str, table: str, value: int | None, limit: str, limits: Limits, says: str | None
) -> ipc.Interlock:
    return ipc.Interlock(
        code=code,
        table=table,
        known=int(value is not None),
        value=value or 0,
        limit=getattr(limits, limit) if limit else -1,
        says=says or "",
    )
