"""One session at a time: what people ask, turned into messages to the guard and rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from tmsctl.ipc import messages as ipc
from tmsctl.ipc.messages import GuardState
from tmsctl.records.journal import Journal, JournalError
from tmsctl.safety.limits import Limits
from tmsctl.session.begin import load_of, new_session
from tmsctl.session.confirmations import Confirmations
from tmsctl.session.inspection import Inspection
from tmsctl.session.ledger_desk import ClockState, CounterState
from tmsctl.session.prepare import Order, Prepared, prepare
from tmsctl.session.refused import Exit, RefusedError
from tmsctl.session.runner import Runner
from tmsctl.session.state import Ask, Ports, Session, State, ask
from tmsctl.stimulation.protocol import Protocol


class Engine(Runner):
    """All that people ask of a session, of the guard and of the ledger.

    Every method may raise RefusedError, and JournalError when the ledger can no longer be kept: of
    that the guard has been told before.
    """

    def __init__(
        self, journal: Journal, library: Mapping[str, Protocol], site: Limits, ports: Ports
    ) -> None:
        """Closes what an earlier life of the service left open. JournalError when it cannot."""
        super().__init__(journal, site, ports)
        self._library, self._site = library, site
        self._confirmations = Confirmations(ports.token)

    def prepare(self, order: Order) -> Prepared:
        """What a person is shown, with the confirmation that a start of just this needs."""
        prepared = self._prepared(order)
        issued = self._confirmations.issue(prepared, self._ports.boot_us())
        return replace(prepared, confirmation=issued)

    def start(
        self, order: Order, plan_hash: str, confirmation: str, reason: str | None, station: object
    ) -> Ask:
        """Begin the session that a person confirms now, being shown just this."""
        if self._journal.error:
            raise JournalError(self._journal.error)  # the cause, before what follows from it
        if self.open is not None:
            raise self._session_open()
        now_us = self._ports.boot_us()
        self._confirmations.check_order(confirmation, order, now_us)
        self.desk.check_clock()  # without it, what the patient has had is not known either
        prepared = self._prepared(order)
        self._confirmations.check_plan(confirmation, prepared, plan_hash)
        if (refusal := prepared.refusal()) is not None:
            raise refusal
        reason = prepared.accepted(reason)
        snapshot = self.guard.ready(now_us)
        admission = self.desk.admit(snapshot)
        number = self._journal.begin_session(
            new_session(prepared, snapshot, admission, reason), self.desk.moment()
        )
        self._confirmations.use(confirmation)
        session = Session(
            number, order, prepared.plan, station, now_us, count_before=snapshot.pulse_count
        )
        self.session = session
        self._event("session", "started", prepared.sentence, number)
        if prepared.soft:
            codes = ", ".join(check.code for check in prepared.soft)
            detail = f"A person exceeds soft limits ({codes}); the reason is on record."
            self._event("session", "soft-limit", detail, number)
        self._ports.send(ipc.Present(now_us))
        self._ports.send(load_of(number, prepared, admission))
        self._ports.send(ipc.Run(number, prepared.plan.hash, now_us))
        return _running(session, ipc.Load, ipc.Run)

    def present(self, station: object) -> None:
        """Somebody at the station of the session has shown to be there."""
        session = self._needs_open()
        if session.station is not station:
            raise RefusedError(
                Exit.USAGE,
                "not-station",
                f"This connection is not the station of session {session.number}.",
                "Only who started or resumed the session can show to be there.",
            )
        self._ports.send(ipc.Present(self._ports.boot_us()))

    def pause(self) -> Ask:
        """No more pulses; the position is kept. Allowed in every state of an open session."""
        session = self._needs_open()
        self._pause(session, "operator", "A person paused the session.")
        return ask(lambda: not session.pausing or session.state.ended, ipc.Pause)

    def resume(self, station: object) -> Ask:
        """Go on with the next pulse. Whoever resumes a session without a station becomes it."""
        session = self._needs_open()
        if session.pausing:
            sentence = f"Session {session.number} is being paused; the guard has not shown it yet."
            raise RefusedError(Exit.USAGE, "pausing", sentence, "Try again in a second.")
        if session.state is not State.PAUSED:
            raise RefusedError(
                Exit.USAGE,
                "wrong-state",
                f"Session {session.number} is {session.state}; only a paused one can be resumed.",
                "Look at the status, then try again.",
            )
        now_us = self._ports.boot_us()
        self.guard.ready(now_us)
        if session.station is None:
            session.station = station
        session.state = State.STARTING
        self._event("session", "resumed", "A person resumed the session.", session.number)
        self._ports.send(ipc.Present(now_us))
        self._ports.send(ipc.Run(session.number, session.plan.hash, now_us))
        return _running(session, ipc.Run)

    def stop(self) -> Session:
        """End the session in good order: no more pulses, disarm, no latch."""
        session = self._needs_open()
        self._end(session, State.STOPPED, "operator", "A person stopped the session.")
        return session

    def acknowledge(self) -> Ask:
        """A person has seen why the guard is in SAFE."""
        snapshot = self.guard.present(self._ports.boot_us())
        if snapshot.state == GuardState.SAFE:
            self._ports.send(ipc.Acknowledge(snapshot.cycle))
        return ask(lambda: not self.guard.safe, ipc.Acknowledge)

    def self_test(self) -> Ask:
        """Prove the barriers on the disarmed device; `self_tests.last` then tells how it ended."""
        if self.open is not None:
            raise self._session_open()
        return self.self_tests.begin()

    def inspect(self) -> tuple[Ask, Inspection]:
        """Ask for every rule of the guard with its present value; `forget` it afterwards."""
        self.guard.present(self._ports.boot_us())
        inspection = Inspection()
        self._inspections.append(inspection)
        self._ports.send(ipc.ReadInterlocks())
        return ask(lambda: inspection.complete, ipc.ReadInterlocks), inspection

    def forget(self, inspection: Inspection) -> None:
        self._inspections.remove(inspection)

    def resolve(self, session: int, block: int, delivered: int, operator: str, reason: str) -> None:
        """A person says how many pulses of a block left the coil."""
        if self.open is not None and self.open.number == session:
            raise RefusedError(
                Exit.USAGE,
                "block-running",
                f"Session {session} is {self.open.state}; its outcomes may still come.",
                "Stop it first, or wait for its end.",
            )
        self.desk.resolve(session, block, delivered, operator, reason)
        if self.session is not None and self.session.number == session:
            self.session.totals = self._journal.totals(session)
        detail = f"Block {block} was resolved by {operator}: {delivered} pulses count."
        self._event("ledger", "resolved", detail, session)

    def accept_counter(self, serial: str, operator: str, reason: str) -> CounterState:
        """A person accepts what the counter of the device shows."""
        if self.open is not None:
            raise self._session_open()
        counter = self.desk.accept_counter(serial, operator, reason)
        detail = f"{operator} accepted that the counter of {serial} shows {counter.shown}."
        self._event("ledger", "counter-accepted", detail)
        return counter

    def confirm_clock(self, operator: str, shown: str) -> ClockState:
        """A person was shown this time and found it right."""
        clock = self.desk.confirm_clock(operator, shown)
        self._event("ledger", "clock-confirmed", f"{operator} found the clock right.")
        return clock

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

    def _prepared(self, order: Order) -> Prepared:
        return prepare(order, self._library, self._site, self.desk.history)

    def _session_open(self) -> RefusedError:
        assert self.open is not None
        return RefusedError(
            Exit.USAGE,
            "session-open",
            f"Session {self.open.number} is {self.open.state}; there is one session at a time.",
            "Stop it first, or wait for its end.",
        )

    def _needs_open(self) -> Session:
        if self.open is None:
            last = self.session
            sentence = "No session is open."
            if last is not None:
                sentence = f"No session is open; session {last.number} is {last.state}."
            raise RefusedError(Exit.USAGE, "no-session", sentence, "Start one first.")
        return self.open


def _running(session: Session, *kinds: type) -> Ask:
    """Done when the guard runs the session, or somebody else was faster."""
    before = session.runs

    def ensure() -> None:
        if session.runs > before or session.state is State.COMPLETE:
            return
        word = "ended" if session.state.ended else "paused"
        raise RefusedError(
            Exit.USAGE,
            f"session-{word}",
            f"Session {session.number} was {word} before it ran: {session.why.rstrip('.')}.",
            "Look at the status, then try again.",
        )

    return ask(lambda: session.state is not State.STARTING, *kinds, ensure=ensure)
