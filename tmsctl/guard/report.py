"""What tmsd is told. Everything here is bounded, and nothing here decides anything."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from drivers.contract import DeviceState, PulseSeen
from firmware_protocol.quantities import MS, SECOND, BootUs
from firmware_protocol.table import spec_of
from tmsctl.guard.playback import Intent
from tmsctl.ipc import messages as ipc
from tmsctl.safety.machine import Armed, Arming, Idle, Safe, State
from tmsctl.safety.rules import Trip

if TYPE_CHECKING:
    from tmsctl.guard.core import Guard

SNAPSHOT_EVERY_US: Final = 50 * MS
REPEAT_EVERY_US: Final = 1 * SECOND
UNRECORDED_MAX: Final = 256
PENDING_MAX: Final = 512

STATES: Final[dict[type[State], ipc.GuardState]] = {
    Safe: ipc.GuardState.SAFE,
    Idle: ipc.GuardState.IDLE,
    Arming: ipc.GuardState.ARMING,
    Armed: ipc.GuardState.ARMED,
}


class Reporter:
    """Collects messages during a cycle. Outcomes are repeated until tmsd has them on disk."""

    def __init__(self) -> None:
        self.timing = ""
        self.overruns = 0
        self.late_max_us = 0
        self._pending: deque[ipc.ToService] = deque(maxlen=PENDING_MAX)
        self._unrecorded: dict[int, ipc.BlockOutcome] = {}
        self._snapshot_at = BootUs(0)
        self._repeat_at = BootUs(0)
        self._changed = False

    def transition(
        self, before: State, after: State, causes: tuple[Trip, ...], now: BootUs
    ) -> None:
        self._changed = True
        for cause in causes:
            self._pending.append(
                ipc.Transition(
                    now, STATES[type(before)], STATES[type(after)], cause.code, cause.detail
                )
            )

    def say(self, items: Iterable[ipc.ToService]) -> None:
        self._pending.extend(items)

    def refuse(self, command: ipc.ToGuard, code: str, detail: str) -> None:
        self._pending.append(ipc.Refused(spec_of(type(command)).code, code, detail))

    def want(self, session_no: int, intent: Intent, count: int | None) -> None:
        self._pending.append(
            ipc.Want(session_no, intent.block_id, intent.first_pulse, intent.pulses, count or 0)
        )

    def pulse(self, session_no: int, place: int, pulse: PulseSeen, surface_dc: int) -> None:
        self._pending.append(
            ipc.PulseRecord(
                session_no=session_no,
                place=place,
                boot_us=max(0, pulse.at),
                device_us=pulse.device_at,
                mso_permille=pulse.mso_permille,
                pulse_count=pulse.pulse_count,
                surface_dc=surface_dc,
            )
        )

    def ended(
        self,
        session_no: int,
        intent: Intent,
        delivered: int,
        skipped: int,
        outcome: int,
        count: int | None,
        why: str,
    ) -> None:
        self._keep(
            ipc.BlockOutcome(
                session_no=session_no,
                block_id=intent.block_id,
                first_pulse=intent.first_pulse,
                pulses=intent.pulses,
                delivered=delivered,
                skipped=skipped + intent.skipped,
                outcome=outcome,
                pulse_count=count or 0,
                why=why,
            )
        )

    def never_sent(self, session_no: int, intent: Intent, why: str) -> None:
        """An intent without a use: no pulse of it ever went to the device."""
        self.ended(session_no, intent, 0, 0, 1, None, why)

    def useless(self, grant: ipc.Grant) -> None:
        """A grant for an intent that the guard has given up."""
        self._keep(
            ipc.BlockOutcome(
                session_no=grant.session_no,
                block_id=grant.block_id,
                first_pulse=grant.first_pulse,
                pulses=grant.pulses,
                delivered=0,
                skipped=0,
                outcome=1,
                pulse_count=0,
                why="no longer wanted",
            )
        )

    def recorded(self, session_no: int, block_id: int) -> None:
        kept = self._unrecorded.get(block_id)
        if kept is not None and kept.session_no == session_no:
            del self._unrecorded[block_id]

    def repeat(self, state: State, now: BootUs) -> None:
        """A new tmsd is there: tell it everything at once, and why the guard is in SAFE."""
        self._repeat_at = BootUs(0)
        self._changed = True
        if isinstance(state, Safe):
            self.transition(state, state, state.causes, now)

    def collect(self, guard: Guard, now: BootUs) -> list[ipc.ToService]:
        """What is to be said after this cycle."""
        if self._unrecorded and now >= self._repeat_at:
            self._repeat_at = BootUs(now + REPEAT_EVERY_US)
            self._pending.extend(self._unrecorded.values())
        if self._changed or now - self._snapshot_at >= SNAPSHOT_EVERY_US:
            self._changed = False
            self._snapshot_at = now
            self._pending.append(self._snapshot(guard, now))
        messages = list(self._pending)
        self._pending.clear()
        return messages

    def _keep(self, outcome: ipc.BlockOutcome) -> None:
        if len(self._unrecorded) >= UNRECORDED_MAX:
            return  # the intent stays open and counts in full: the safe side
        self._unrecorded[outcome.block_id] = outcome
        self._repeat_at = BootUs(0)  # say it in this cycle, then every second

    def _snapshot(self, guard: Guard, now: BootUs) -> ipc.Snapshot:
        play, device = guard.play, guard.device
        status, identity = device.status, device.identity
        passed_at = guard.self_test.passed_at
        planned = play.plan.pulses if play else 0
        reached = min(play.reached, planned) if play else 0
        train = play.plan.train_index(min(reached, planned - 1)) + 1 if play else 0
        return ipc.Snapshot(
            cycle=guard.cycles,
            boot_us=now,
            state=STATES[type(guard.state)],
            session=play.session if play else ipc.Session.NONE,
            session_no=play.session_no if play else 0,
            position=reached,
            planned=planned,
            delivered=play.delivered + (len(play.open.places) if play.open else 0) if play else 0,
            skipped=play.skipped if play else 0,
            train=train,
            trains=len(play.plan.trains) if play else 0,
            next_in_us=play.next_in_us(now) if play else -1,
            left_us=play.left_us(now) if play else -1,
            waiting=play.waiting if play and play.running else "",
            mso_pct=play.plan.mso.value if play else 0,
            realised_permille=device.last_realised,
            connected=int(status is not None),
            device_state=status.state if status else DeviceState.IDLE,
            status_age_us=max(0, now - status.asked_at) if status else -1,
            charge_permille=status.charge_permille if status else 0,
            coil_dc=status.coil_dc if status else 0,
            surface_dc=status.surface_dc if status else 0,
            pulse_count=status.pulse_count if status else 0,
            overruns=self.overruns,
            late_max_us=self.late_max_us,
            model=identity.model if identity else "",
            serial=identity.serial if identity else "",
            boot_count=identity.boot_count if identity else 0,
            link=device.link,
            presence_age_us=-1 if guard.presence_at is None else max(0, now - guard.presence_at),
            self_test=guard.self_test.state,
            self_test_age_us=-1 if passed_at is None else max(0, now - passed_at),
            timing=self.timing,
        )
