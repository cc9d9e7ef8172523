"""One session at a time: what the guard says and what people ask, turned into messages and rows.

No pulse is granted before its intent is in the journal, and no outcome is acknowledged to the guard
before it is there too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, assert_never

from tmsctl.ipc import messages as ipc
from tmsctl.ipc.messages import GuardState
from tmsctl.records.journal import OUTCOME_NAMES, Journal, JournalError
from tmsctl.records.views import Event, Kind, NewSession, stamp
from tmsctl.safety.limits import Limits
from tmsctl.session.guard_view import TO_DELIVER, GuardView
from tmsctl.session.prepare import Order, Prepared, prepare
from tmsctl.session.refused import Exit, RefusedError
from tmsctl.session.state import Ask, Ports, Session, State, ask
from tmsctl.stimulation.plan import Plan
from tmsctl.stimulation.protocol import Protocol

_OUTCOME_EVENTS: Final = {"unasked": "outcome-unasked", "no-session": "outcome-no-session"}


class Engine:
    """Feed it everything that the guard says; `flush` often, `close` at the end."""

    def __init__(
        self, journal: Journal, library: Mapping[str, Protocol], site: Limits, ports: Ports
    ) -> None:
        """Closes what an earlier life of the service left open. JournalError when it cannot."""
        self.session: Session | None = None
        self.guard = GuardView()
        self._journal, self._library, self._site, self._ports = journal, library, site, ports
        self._pulses: list[ipc.PulseRecord] = []
        self._events: list[Event] = []
        for number in journal.unfinished():
            journal.end_session(number, "interrupted", "service-restarted", None, ports.utc())
            unknown = journal.totals(number).unknown
            self._event(
                "session",
                "service-restarted",
                f"Session {number} was interrupted; {unknown} pulses are unknown "
                "and count as delivered.",
                number,
            )

    # What people ask

    def prepare(self, order: Order) -> Prepared:
        return prepare(order, self._library, self._site)

    def start(self, order: Order, plan_hash: str, station: object) -> Ask:
        """Begin the session that was confirmed by its plan hash."""
        if self.open is not None:
            raise RefusedError(
                Exit.USAGE,
                "session-open",
                f"Session {self.open.number} is {self.open.state}; there is one session at a time.",
                "Stop it first, or wait for its end.",
            )
        prepared = self.prepare(order)
        plan = prepared.plan
        if plan.hash != plan_hash:
            raise RefusedError(
                Exit.LIMIT,
                "plan-changed",
                f"The plan is {plan.hash[:12]}, but {plan_hash[:12] or 'none'} was confirmed.",
                "Prepare the session again and confirm what is shown.",
            )
        if (refusal := prepared.refusal()) is not None:
            raise refusal
        snapshot = self.guard.ready(self._ports.boot_us())
        try:
            number = self._journal.begin_session(
                _new_session(order, plan, snapshot), self._ports.utc()
            )
        except JournalError as error:
            self._journal_failed(error)
            sentence = str(error)
            raise RefusedError(Exit.USAGE, "journal-failed", sentence, "See the log.") from error
        session = Session(number, order, plan, station, self._ports.boot_us())
        self.session = session
        self._event("session", "started", prepared.sentence, number)
        load = ipc.Load(
            number, plan.protocol.id, plan.mt_permille, plan.pct_mt, plan.reduced, plan.hash, 0
        )
        self._ports.send(load)
        self._ports.send(ipc.Run(number))
        return ask(lambda: session.state is not State.STARTING, ipc.Load, ipc.Run)

    def pause(self) -> Ask:
        """No more pulses; the position is kept. Allowed in every state of an open session."""
        session = self._needs_open()
        self._pause(session, "operator", "A person paused the session.")
        return ask(lambda: not session.pausing, ipc.Pause)

    def resume(self, station: object) -> Ask:
        """Go on with the next pulse. Whoever resumes a session without a station becomes it."""
        session = self._needs_open()
        if session.state is not State.PAUSED or session.pausing:
            raise RefusedError(
                Exit.USAGE,
                "wrong-state",
                f"Session {session.number} is {session.state}; only a paused one can be resumed.",
                "Look at the status, then try again.",
            )
        self.guard.ready(self._ports.boot_us())
        if session.station is None:
            session.station = station
        session.state = State.STARTING
        self._event("session", "resumed", "A person resumed the session.", session.number)
        self._ports.send(ipc.Run(session.number))
        return ask(lambda: session.state is not State.STARTING, ipc.Run)

    def stop(self) -> Session:
        """End the session in good order: no more pulses, disarm, no latch."""
        session = self._needs_open()
        self._end(session, State.STOPPED, "operator", "A person stopped the session.")
        return session

    def acknowledge(self) -> Ask:
        """A person has seen why the guard is in SAFE."""
        if self.guard.present(self._ports.boot_us()).state == GuardState.SAFE:
            self._ports.send(ipc.Acknowledge())
        return ask(lambda: not self.guard.safe, ipc.Acknowledge)

    def station_gone(self, station: object) -> None:
        """A connection closed; if it was the session's station, the session is paused."""
        session = self.open
        if session is not None and session.station is station:
            session.station = None
            if session.state is not State.PAUSED:
                detail = "The connection of the control station closed."
                self._pause(session, "station-gone", detail)

    def give_up(self, session: Session, code: str, detail: str) -> None:
        """End a session that the guard does not answer for."""
        if not session.state.ended:
            self._end(session, State.STOPPED, code, detail)

    # What is so

    @property
    def open(self) -> Session | None:
        """The session, unless it has ended."""
        return None if self.session is None or self.session.state.ended else self.session

    # What the guard says

    def guard_up(self, pid: int) -> None:
        """A guard answered. It may still hold a plan that no session stands behind."""
        self.guard.pid = pid
        self._event("guard", "guard-up", f"The guard answers, process {pid}.")
        self._ports.send(ipc.Unload())

    def guard_down(self, why: str) -> None:
        """The connection to the guard is gone; its device disarms by itself."""
        self.guard.down()
        self._event("guard", "guard-lost", why)
        if self.open is not None:
            self._end(self.open, State.INTERRUPTED, "guard-lost", why)

    def hear(self, item: ipc.ToService) -> None:
        match item:
            case ipc.Snapshot():
                self._on_snapshot(item)
            case ipc.Transition():
                self._on_transition(item)
            case ipc.Refused():
                self._on_refused(item)
            case ipc.Want():
                self._on_want(item)
            case ipc.BlockOutcome():
                self._on_outcome(item)
            case ipc.PulseRecord():
                self._pulses.append(item)
            case ipc.Welcome():
                pass  # the link has looked at it
            case _:
                assert_never(item)

    def _on_snapshot(self, item: ipc.Snapshot) -> None:
        before, self.guard.last = self.guard.last, item
        if before is None or before.connected != item.connected:
            if item.connected:
                self._event("device", "device-up", f"{item.model} {item.serial} answers.")
            else:
                self._event("device", "device-lost", item.link or "The device is gone.")
        session = self.open
        if session is None or item.session_no != session.number:
            return
        session.train = item.train
        if item.session == ipc.Session.RUNNING:
            if session.state is State.STARTING:
                session.state, session.ran = State.RUNNING, True
                self._event("session", "running", "The guard runs the plan.", session.number)
            elif session.state is State.PAUSED and not session.pausing:
                session.pausing = True
                self._pause(session, "paused", "The guard ran although the session is paused.")
            return
        session.pausing = False
        if item.session == ipc.Session.COMPLETE:
            if session.totals.doubtful:
                detail = f"{session.totals.doubtful} pulses are unknown and count as delivered."
                self._end(session, State.STOPPED, "outcome-unknown", detail)
            elif session.totals.open_pulses == 0:
                self._end(session, State.COMPLETE, "complete", "The plan is at its end.")
        elif session.state is State.RUNNING:
            self._paused_by_guard(session, "paused", "The guard paused the plan.")

    def _on_transition(self, item: ipc.Transition) -> None:
        session = self.open
        number = None if session is None else session.number
        self._event("transition", item.code, item.detail, number)
        if item.after == GuardState.SAFE:
            self.guard.entered_safe(item)
            if session is not None and item.code.startswith("stop"):
                self._end(session, State.STOPPED, item.code, item.detail)
            elif session is not None and session.state is not State.PAUSED:
                self._paused_by_guard(session, item.code, item.detail)
        elif (item.before, item.after) == (GuardState.ARMING, GuardState.IDLE):
            if session is None or session.state is not State.STARTING:
                return
            self._paused_by_guard(session, item.code, item.detail)

    def _on_refused(self, item: ipc.Refused) -> None:
        session = self.open
        self._event("refused", item.code, item.detail, session.number if session else None)
        if session is None:
            return
        session.pausing = False
        if session.state is State.STARTING and item.of_code in TO_DELIVER:
            if session.ran:
                session.state = State.PAUSED
            else:
                self._end(session, State.STOPPED, item.code, item.detail)

    def _on_want(self, want: ipc.Want) -> None:
        session = self.open
        if session is None or want.session_no != session.number:
            self._event("guard", "want-unasked", "The guard wants pulses that no session asks for.")
            self._ports.send(ipc.Unload())
            return
        if session.state is State.PAUSED or self.guard.pid is None:
            return  # it asks again after the next Run
        last = want.first_pulse + want.pulses - 1
        if want.pulses == 0 or last >= session.plan.pulses or want.block_id <= session.last_block:
            detail = f"The guard wants pulses {want.first_pulse} to {last} as block "
            detail += f"{want.block_id}; the plan has {session.plan.pulses} pulses, and the block "
            detail += f"before was {session.last_block}."
            self._pause(session, "want-wrong", detail)
            return
        try:
            self._journal.write_intent(want, self.guard.pid, self._ports.utc())
            session.totals = self._journal.totals(session.number)
        except JournalError as error:
            self._journal_failed(error)
            return
        session.last_block = want.block_id
        self._ports.send(ipc.Grant(want.session_no, want.block_id, want.first_pulse, want.pulses))

    def _on_outcome(self, item: ipc.BlockOutcome) -> None:
        if self.guard.pid is None:
            return
        session = self.session if self.session and self.session.number == item.session_no else None
        try:
            matched = self._journal.write_outcome(item, self.guard.pid, self._ports.utc())
            if session is not None:
                session.totals = self._journal.totals(session.number)
        except JournalError as error:
            self._journal_failed(error)
            return
        self._ports.send(ipc.Recorded(item.session_no, item.block_id))
        code = _OUTCOME_EVENTS.get(matched, "")
        if matched == "recorded" and OUTCOME_NAMES[item.outcome] == "unknown":
            code = "outcome-unknown"
        elif matched == "recorded" and (session is None or session.state.ended):
            code = "outcome-late"
        if code:
            told = f"Block {item.block_id} of session {item.session_no}: {item.delivered} of "
            told += f"{item.pulses} pulses confirmed; {item.why}."
            self._event("guard", code, told, None if matched == "no-session" else item.session_no)

    # Housekeeping

    def flush(self) -> None:
        """Put pulses and events that came since the last call on disk."""
        pulses, self._pulses = self._pulses, []
        events, self._events = self._events, []
        if self._journal.error:
            return
        try:
            self._journal.append(pulses, events)
        except JournalError as error:
            self._journal_failed(error)

    def close(self) -> None:
        """The service ends: so does its session."""
        if self.open is not None:
            self._end(self.open, State.INTERRUPTED, "service-stopped", "tmsd was told to end.")
        self._ports.send(ipc.Unload())
        self.flush()

    def _event(self, kind: Kind, code: str, detail: str, session: int | None = None) -> None:
        event = Event(stamp(self._ports.utc()), kind, code, detail, session)
        self._events.append(event)
        self._ports.publish(event)

    def _pause(self, session: Session, code: str, detail: str) -> None:
        """Send Pause; from here on nothing is granted."""
        self._ports.send(ipc.Pause(session.number))
        session.pausing = session.pausing or session.state is not State.PAUSED
        session.state = State.PAUSED
        self._event("session", code, detail, session.number)

    def _paused_by_guard(self, session: Session, code: str, detail: str) -> None:
        session.state = State.PAUSED
        self._event("session", code, detail, session.number)

    def _end(self, session: Session, state: State, code: str, detail: str) -> None:
        """Make it safe first, then write it down."""
        self._ports.send(ipc.Unload())
        session.state, session.ended_us = state, self._ports.boot_us()
        last = self.guard.last
        count = last.pulse_count if last is not None and last.connected else None
        try:
            self._journal.end_session(session.number, state.value, code, count, self._ports.utc())
        except JournalError as error:
            self._journal_failed(error)
        self._event("session", code, detail, session.number)

    def _journal_failed(self, error: JournalError) -> None:
        """Nothing more is granted in this life of the service, and nothing is tried again."""
        session = self.open
        if session is not None:
            self._ports.send(ipc.Unload())
            session.state, session.ended_us = State.STOPPED, self._ports.boot_us()
        self._event("session", "journal-failed", str(error), session.number if session else None)

    def _needs_open(self) -> Session:
        if self.open is None:
            raise RefusedError(Exit.USAGE, "no-session", "No session is open.", "Start one first.")
        return self.open


def _new_session(order: Order, plan: Plan, snapshot: ipc.Snapshot) -> NewSession:
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
    )
