"""What people ask of the ledger, and what a start asks of it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from tmsctl.ipc.messages import SelfTested, SelfTestState, Snapshot
from tmsctl.records import clock, ledger
from tmsctl.records.clock import Mark, Moment, Reading
from tmsctl.records.journal import Journal
from tmsctl.records.ledger import Life
from tmsctl.records.views import Unresolved, stamp
from tmsctl.safety.facts import CounterRange
from tmsctl.safety.limits import Limits
from tmsctl.safety.patient import PatientDose
from tmsctl.session.guard_view import GuardView
from tmsctl.session.prepare import check_id, reason_given
from tmsctl.session.refused import Exit, RefusedError
from tmsctl.session.state import Ports

SHOWN_MAX: Final = timedelta(seconds=120)
"""A person who confirms the clock was shown it so recently."""


class Admission(NamedTuple):
    """What the ledger adds to a session that may begin."""

    counter: CounterRange
    self_test: int


@dataclass(frozen=True, slots=True)
class ClockState:
    """The wall clock, and whether it may be relied on."""

    time: str
    why: str  # a person has to confirm it; empty when nobody has to
    confirmed_by: str | None
    confirmed_at: str | None


@dataclass(frozen=True, slots=True)
class CounterState:
    """The counter of the device that answers, beside what the ledger expects."""

    life: Life
    shown: int
    expected: CounterRange

    @property
    def agrees(self) -> bool:
        return self.expected.low <= self.shown <= self.expected.high


class LedgerDesk:
    """One for the life of the service. Every method may raise JournalError."""

    def __init__(self, journal: Journal, site: Limits, ports: Ports, guard: GuardView) -> None:
        self._journal, self._site, self._ports, self._guard = journal, site, ports, guard
        newest = ledger.newest_mark(journal)
        self._mark: Mark | None = None
        self._by: str | None = None
        self._at: str | None = None
        if newest is not None:
            self._mark, self._by, self._at = newest

    # Time

    def reading(self) -> Reading:
        return Reading(self._ports.boot_id, self._ports.boot_us(), self._ports.utc())

    def moment(self) -> Moment:
        """For a row that is written now."""
        return clock.moment(self._mark, self.reading())

    def doubt(self) -> str:
        """Why a person has to look at the clock; empty when nobody has to."""
        return clock.doubt(self._mark, self.reading())

    def clock(self) -> ClockState:
        return ClockState(stamp(self._ports.utc()), self.doubt(), self._by, self._at)

    def confirm_clock(self, operator: str, shown: str) -> ClockState:
        """A person was shown this time and found it right."""
        check_id("operator", operator)
        now = self.reading()
        try:
            seen = datetime.fromisoformat(shown)
            age = now.utc - seen
        except (ValueError, TypeError) as error:  # no time, or one without a zone
            raise _time_wrong(f"{shown[:40]!r} is not a time with a zone") from error
        if not timedelta(0) <= age <= SHOWN_MAX:
            raise _time_wrong(f"The clock shows {stamp(now.utc)}, not {shown[:40]}")
        mark = clock.marked(self._mark, now)
        at = stamp(now.utc)
        ledger.write_mark(self._journal, mark, operator, at)
        self._mark, self._by, self._at = mark, operator, at
        return self.clock()

    # Doses

    def history(self, patient: str) -> PatientDose:
        """What counts for this patient now."""
        return ledger.history(self._journal, patient, self.moment().ledger_us)

    def unresolved(self) -> list[Unresolved]:
        """Blocks whose outcome nobody knows, with what the device's counter says of them."""
        snapshot = self._connected()
        shown = None if snapshot is None else (_life(snapshot), snapshot.pulse_count)
        return ledger.unresolved(self._journal, shown)

    def resolve(self, session: int, block: int, delivered: int, operator: str, reason: str) -> None:
        """A person says how many pulses of a block left the coil; the session must have ended."""
        check_id("operator", operator)
        reason = reason_given(reason)
        found = ledger.find_block(self._journal, session, block)
        which = f"Block {block} of session {session}"
        see = "See `tmsctl ledger list`."
        if found is None:
            raise RefusedError(Exit.USAGE, "block-unknown", f"{which} is not on record.", see)
        if found.by_person:
            raise RefusedError(
                Exit.USAGE, "block-resolved", f"{which} was resolved before; once is for ever.", see
            )
        if found.unknown == 0:
            sentence = f"{which} has a sure outcome: {found.confirmed} pulses."
            raise RefusedError(Exit.USAGE, "block-sure", sentence, see)
        if not found.confirmed <= delivered <= found.pulses:
            raise RefusedError(
                Exit.USAGE,
                "delivered-range",
                f"{which} has {found.pulses} pulses, {found.confirmed} of them confirmed by the "
                f"device, so {delivered} cannot be.",
                f"Give a number from {found.confirmed} to {found.pulses}.",
            )
        ledger.resolve(self._journal, found.intent, delivered, operator, reason, self.moment())

    # The device's counter

    def counter(self) -> CounterState | None:
        """None while no device answers."""
        snapshot = self._connected()
        return None if snapshot is None else self._counter(snapshot)

    def accept_counter(self, serial: str, operator: str, reason: str) -> CounterState:
        """A person accepts what the counter of this device shows."""
        check_id("operator", operator)
        reason = reason_given(reason)
        snapshot = self._guard.connected(self._ports.boot_us())
        if snapshot.serial != serial:
            raise RefusedError(
                Exit.USAGE,
                "serial-wrong",
                f"The device that answers is {snapshot.serial}, not {serial[:16]!r}.",
                "Look at the device, then give its serial number.",
            )
        ledger.accept_counter(
            self._journal, _life(snapshot), snapshot.pulse_count, operator, reason, self.moment()
        )
        return self._counter(snapshot)

    # Self-test and start

    def write_self_test(self, result: SelfTested, device: Snapshot) -> None:
        pid = self._guard.pid
        assert pid is not None  # it has just spoken
        ledger.write_self_test(
            self._journal, result, pid, device.model, _life(device), self.moment()
        )

    def check_clock(self) -> None:
        """RefusedError when a person has to look at the clock first."""
        why = self.doubt()
        if why:
            raise RefusedError(
                Exit.LIMIT,
                "clock-unconfirmed",
                f"{why} Doses of a day and a week are counted by it.",
                "Compare it with another clock, set it if needed, then `tmsctl ledger "
                "confirm-clock`.",
            )

    def admit(self, snapshot: Snapshot) -> Admission:
        """What has to be so of the device before a session begins; RefusedError when it is not."""
        self_test = self._self_test(snapshot)
        counter = self._counter(snapshot)
        if not counter.agrees:
            low, high = counter.expected
            expected = f"{low}" if low == high else f"{low} to {high}"
            raise RefusedError(
                Exit.LIMIT,
                "counter-disagrees",
                f"The counter of {snapshot.serial} shows {counter.shown}; by the ledger it is "
                f"{expected}.",
                "Find out who pulsed, then `tmsctl ledger accept-counter`.",
            )
        return Admission(counter.expected, self_test)

    def _self_test(self, snapshot: Snapshot) -> int:
        """The number of a self-test that passed today and is on disk."""
        assert self._guard.pid is not None
        age_us = snapshot.self_test_age_us
        passed = None
        if snapshot.self_test == SelfTestState.PASSED and (
            0 <= age_us <= self._site.self_test_age_max_us
        ):
            passed = ledger.passed_self_test(
                self._journal, self._guard.pid, _life(snapshot), self._ports.boot_id
            )
        if passed is None:
            raise RefusedError(
                Exit.LIMIT,
                "self-test-missing",
                "This guard and this device have not passed a self-test in the last 24 h.",
                "Run `tmsctl selftest`.",
            )
        return passed

    def _counter(self, snapshot: Snapshot) -> CounterState:
        life, shown = _life(snapshot), snapshot.pulse_count
        expected = ledger.counter_range(self._journal, life)
        return CounterState(life, shown, expected or CounterRange(shown, shown))

    def _connected(self) -> Snapshot | None:
        snapshot = self._guard.fresh(self._ports.boot_us())
        return snapshot if snapshot is not None and snapshot.connected else None


def _life(snapshot: Snapshot) -> Life:
    return Life(snapshot.serial, snapshot.boot_count)


def _time_wrong(sentence: str) -> RefusedError:
    return RefusedError(
        Exit.USAGE, "time-wrong", f"{sentence}.", "Look at the clock again, then confirm it."
    )
