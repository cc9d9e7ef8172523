"""The session under way, kept in step with what the guard says.

No pulse is granted before its intent is in the journal, and no outcome is acknowledged to the guard
before it is there too.
"""

from __future__ import annotations

import contextlib
from typing import Final, assert_never

from tmsctl.ipc import messages as ipc
from tmsctl.ipc.messages import GuardState
from tmsctl.records.journal import OUTCOME_NAMES, Journal, JournalError
from tmsctl.records.views import Event, Kind, stamp
from tmsctl.safety.limits import Limits
from tmsctl.session.guard_view import TO_DELIVER, GuardView
from tmsctl.session.inspection import Inspection
from tmsctl.session.ledger_desk import LedgerDesk
from tmsctl.session.self_tests import SELF_TEST, SelfTests
from tmsctl.session.state import Ports, Session, State

_OUTCOME_EVENTS: Final = {"unasked": "outcome-unasked", "no-session": "outcome-no-session"}


class Runner:
    """Feed it everything that the guard says; `flush` often, `close` at the end."""

    def __init__(self, journal: Journal, site: Limits, ports: Ports) -> None:
        """Closes what an earlier life of the service left open. JournalError when it cannot."""
        self.session: Session | None = None
        self.guard = GuardView()
        self.desk = LedgerDesk(journal, site, ports, self.guard)
        self.self_tests = SelfTests(self.desk, self.guard, ports)
        self._inspections: list[Inspection] = []
        self._journal, self._ports = journal, ports
        self._pulses: list[ipc.PulseRecord] = []
        self._events: list[Event] = []
        self._doubt_told = False
        for number in journal.unfinished():
            journal.end_session(
                number, "interrupted", "service-restarted", None, self.desk.moment()
            )
            unknown = journal.totals(number).unknown
            self._event(
                "session",
                "service-restarted",
                f"Session {number} was interrupted; {unknown} pulses are unknown "
                "and count as delivered.",
                number,
            )
        journal.failed = self._journal_failed

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
        if self._journal.error:
            self._ports.send(ipc.Fail("journal-failed", self._journal.error))
        self._ports.send(ipc.Unload())

    def guard_down(self, why: str) -> None:
        """The connection to the guard is gone; its device disarms by itself."""
        self.guard.down()
        self.self_tests.lost()
        self._event("guard", "guard-lost", why)
        if self.open is not None:
            self._end(self.open, State.INTERRUPTED, "guard-lost", why)

    def hear(self, item: ipc.ToService) -> None:
        with contextlib.suppress(JournalError):  # `_journal_failed` has done all that is to be done
            self._hear(item)
        for inspection in self._inspections:
            inspection.hear(item)

    def _hear(self, item: ipc.ToService) -> None:
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
            case ipc.SelfTested():
                self._on_self_tested(item)
            case ipc.Welcome() | ipc.Interlock():
                pass  # the link has looked at it; whoever asked looks at it
            case _:
                assert_never(item)

    def _on_snapshot(self, item: ipc.Snapshot) -> None:
        before, self.guard.last = self.guard.last, item
        if before is None or before.connected != item.connected:
            if item.connected:
                self._event(
                    "device", "device-up", f"{item.model} {item.serial}".rstrip() + " answers."
                )
            else:
                self._event("device", "device-lost", item.link or "The device is gone.")
        session = self.open
        if session is None or item.session_no != session.number:
            return
        session.train = item.train
        if item.session == ipc.Session.RUNNING:
            if session.state is State.STARTING:
                session.state, session.runs = State.RUNNING, session.runs + 1
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
        if item.of_code == SELF_TEST:
            self.self_tests.lost()
        if session is None:
            return
        session.pausing = False
        if session.state is State.STARTING and item.of_code in TO_DELIVER:
            if session.runs:
                session.state, session.why = State.PAUSED, item.detail
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
        self._journal.write_intent(want, self.guard.pid, self.desk.moment())
        session.totals = self._journal.totals(session.number)
        session.last_block = want.block_id
        self._ports.send(ipc.Grant(want.session_no, want.block_id, want.first_pulse, want.pulses))

    def _on_outcome(self, item: ipc.BlockOutcome) -> None:
        if self.guard.pid is None:
            return
        session = self.session if self.session and self.session.number == item.session_no else None
        matched = self._journal.write_outcome(item, self.guard.pid, self.desk.moment())
        if session is not None:
            session.totals = self._journal.totals(session.number)
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
        if matched != "repeated" and item.pulse_count and session is not None:
            self._compare_counter(session, item.pulse_count)

    def _compare_counter(self, session: Session, shown: int) -> None:
        """After every block: does the device's counter agree with the ledger?"""
        low = session.count_before + session.totals.delivered
        high = low + session.totals.unknown
        if not low <= shown <= high and not session.state.ended:
            detail = f"The device's counter shows {shown}; by the ledger it is {low} to {high}."
            self._pause(session, "counter-disagrees", detail)

    def _on_self_tested(self, item: ipc.SelfTested) -> None:
        self.self_tests.ended(item)
        code = "self-test-passed" if self.self_tests.passed else "self-test-failed"
        self._event("guard", code, item.detail)

    # Housekeeping

    def flush(self) -> None:
        """Put pulses and events that came since the last call on disk."""
        doubt = self.desk.doubt()
        if doubt and not self._doubt_told:
            self._event("ledger", "clock-unconfirmed", doubt)
        self._doubt_told = bool(doubt)
        pulses, self._pulses = self._pulses, []
        events, self._events = self._events, []
        if not self._journal.error:
            with contextlib.suppress(JournalError):
                self._journal.append(pulses, events)

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
        session.state, session.why = State.PAUSED, detail
        self._event("session", code, detail, session.number)

    def _paused_by_guard(self, session: Session, code: str, detail: str) -> None:
        session.state, session.why = State.PAUSED, detail
        self._event("session", code, detail, session.number)

    def _end(self, session: Session, state: State, code: str, detail: str) -> None:
        """Make it safe first, then write it down."""
        self._ports.send(ipc.Unload())
        session.state, session.ended_us = state, self._ports.boot_us()
        session.why = detail
        last = self.guard.last
        count = last.pulse_count if last is not None and last.connected else None
        with contextlib.suppress(JournalError):
            self._journal.end_session(session.number, state.value, code, count, self.desk.moment())
        self._event("session", code, detail, session.number)

    def _journal_failed(self, why: str) -> None:
        """The first failure, told by the journal itself. The guard comes first.

        Nothing more is granted in this life of the service, and nothing is tried again.
        """
        self._ports.send(ipc.Fail("journal-failed", why))
        session = self.open
        if session is not None:
            self._ports.send(ipc.Unload())
            session.state, session.ended_us = State.STOPPED, self._ports.boot_us()
            session.why = why
        self._event("session", "journal-failed", why, session.number if session else None)
