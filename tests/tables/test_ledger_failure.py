"""A ledger that cannot be kept: the guard hears of it before anything else is sent."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest
from sqlalchemy import event

from tests.fakes.engine import GUARD_PID, ORDER, STATION, Rig, changed
from tests.fakes.guard import FakeGuard
from tmsctl.ipc import messages as ipc
from tmsctl.ipc.messages import GuardState
from tmsctl.records import reports
from tmsctl.records.journal import Journal, JournalError
from tmsctl.session.refused import RefusedError

FAULTS: Final = {
    "ENOSPC": "database or disk is full",
    "EIO": "disk I/O error",
    "EROFS": "attempt to write a readonly database",
}
"""What SQLite says of each error of the system."""

ENERGISING = (ipc.Load, ipc.Run, ipc.Grant, ipc.Recorded, ipc.SelfTest)


class Disk:
    """Fails the statement or the commit of this number, counted from now; 0: none."""

    def __init__(self, journal: Journal, rig: Rig) -> None:
        self.seen, self.fail_at, self.words = 0, 0, ""
        self.failed_after: int | None = None  # acts of the engine until then
        self._rig = rig
        engine = journal._connection.engine
        event.listen(engine, "do_execute", self._executed)
        self._commit = engine.dialect.do_commit
        engine.dialect.do_commit = self._committed  # type: ignore[method-assign]

    def _executed(self, _cursor: object, statement: str, *_: object) -> None:
        if statement != "BEGIN":
            self._count()

    def _committed(self, connection: object) -> None:
        self._count()
        self._commit(connection)  # type: ignore[arg-type]

    def _count(self) -> None:
        self.seen += 1
        if self.seen == self.fail_at:
            self.failed_after = len(self._rig.acts)
            raise sqlite3.OperationalError(self.words)


def story(rig: Rig) -> None:
    """Everything that touches the ledger, once; what a person asks may be refused on the way."""
    engine = rig.engine

    def ask(act: Callable[[], object]) -> None:
        with contextlib.suppress(RefusedError, JournalError):
            act()
        rig.pump()

    ask(rig.start)
    rig.play(7)
    engine.flush()
    ask(engine.pause)
    ask(lambda: engine.resume(STATION))
    rig.play()
    rig.play(3)
    rig.guard.outcome = 2
    ask(engine.stop)
    rig.guard.outcome = 0
    ask(lambda: engine.resolve(1, rig.guard._block, 3, "dr", "the counter says so"))
    rig.guard.fired[0] += 1
    ask(lambda: engine.accept_counter("F0000001", "dr", "a pulse by hand"))
    ask(lambda: engine.confirm_clock("op", engine.desk.clock().time))
    ask(engine.self_test)
    ask(engine.desk.unresolved)
    ask(lambda: reports.record(rig.journal, 1, "running"))
    ask(lambda: reports.summaries(rig.journal, 5, "running"))
    ask(lambda: rig.start(changed(ORDER, patient="P2")))
    rig.play(2)
    engine.guard_down("The guard closed the connection.")
    engine.guard_up(GUARD_PID)
    engine.close()


def told(tmp_path: Path, fail_at: int, words: str) -> tuple[Rig, Disk]:
    """The story, with the disk failing at this place."""
    rig = Rig(tmp_path / f"{fail_at}" / "journal.sqlite", FakeGuard(step_by_step=True))
    disk = Disk(rig.journal, rig)
    disk.fail_at, disk.words = fail_at, words
    story(rig)
    rig.journal.close()
    return rig, disk


def places(tmp_path: Path) -> int:
    """Statements and commits of the whole story."""
    rig, disk = told(tmp_path, 0, "")
    assert rig.journal.error == ""
    assert not any(isinstance(act, ipc.Fail) for act in rig.acts)
    codes = set(rig.codes)
    assert {"started", "operator", "resolved", "counter-accepted", "clock-confirmed"} <= codes
    assert {"self-test-passed", "outcome-unknown", "guard-lost"} <= codes
    return disk.seen


@pytest.mark.timeout(120)
def test_at_each_third_statement_or_commit_a_failure_is_the_next_thing_the_guard_hears(
    tmp_path: Path,
) -> None:
    names = sorted(FAULTS)
    count = places(tmp_path)
    assert count > 80
    for place in range(1, count + 1, 3):  # a third of them, statements and commits in turn
        words = FAULTS[names[place % len(names)]]
        rig, disk = told(tmp_path, place, words)
        assert disk.failed_after is not None, place
        after = rig.acts[disk.failed_after :]
        assert isinstance(after[0], ipc.Fail), (place, after[:3])
        assert after[0].code == "journal-failed"
        assert words in after[0].detail or len(after[0].detail) > 160
        assert not any(isinstance(act, ENERGISING) for act in after), (place, after)
        assert words in rig.journal.error
        assert "journal-failed" in rig.codes


@pytest.mark.parametrize("fault", sorted(FAULTS))
def test_a_failure_in_a_session_puts_the_guard_into_safe_and_no_pulse_follows(
    tmp_path: Path, fault: str
) -> None:
    rig = Rig(tmp_path / "journal.sqlite", FakeGuard(step_by_step=True))
    number = rig.start()
    rig.pump()
    rig.play(7)
    disk = Disk(rig.journal, rig)
    disk.fail_at, disk.words = 1, FAULTS[fault]
    rig.acts.clear()
    rig.hear(*rig.guard.play())  # the end of the block
    assert isinstance(rig.acts[0], ipc.Fail)
    assert set(rig.acts[1:]) == {ipc.Unload()}
    fired = rig.guard.fired[number]
    rig.pump()
    assert rig.guard.state == GuardState.SAFE
    rig.play()
    assert rig.guard.fired[number] == fired
    with pytest.raises(JournalError, match="restart tmsd"):
        rig.start(changed(ORDER, patient="P2"))
    rig.journal.close()


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    rig = Rig(tmp_path / "journal.sqlite", FakeGuard(step_by_step=True))
    yield rig
    rig.journal.close()


@pytest.mark.parametrize("pragma", ["query_only = ON", "max_page_count = 1"])
def test_a_disk_that_sqlite_itself_finds_full_or_read_only_is_a_failure_too(
    rig: Rig, pragma: str
) -> None:
    rig.start()
    rig.pump()
    with rig.journal.reading() as connection:
        connection.exec_driver_sql(f"PRAGMA {pragma}")
    rig.acts.clear()
    for _ in range(200):  # a full file takes what fits into its last page
        rig.play()
        rig.engine.flush()
        if rig.journal.error:
            break
    rig.pump()
    failed = next(i for i, act in enumerate(rig.acts) if isinstance(act, ipc.Fail))
    assert not any(isinstance(act, ENERGISING) for act in rig.acts[failed:])
    assert rig.guard.state == GuardState.SAFE


def test_a_guard_that_comes_later_is_told_too(rig: Rig) -> None:
    disk = Disk(rig.journal, rig)
    disk.fail_at, disk.words = 1, FAULTS["EIO"]
    rig.engine.flush()
    rig.engine.guard_down("gone")
    rig.acts.clear()
    rig.engine.guard_up(GUARD_PID + 1)
    assert isinstance(rig.acts[0], ipc.Fail)


def test_a_result_of_a_self_test_that_cannot_be_written_is_no_proof(rig: Rig) -> None:
    ask = rig.engine.self_test()
    disk = Disk(rig.journal, rig)
    disk.fail_at, disk.words = 1, FAULTS["ENOSPC"]
    rig.acts.clear()
    rig.pump()
    assert ask.done()
    assert rig.engine.self_tests.last is not None
    assert (rig.engine.self_tests.on_disk, rig.engine.self_tests.passed) == (False, False)
    assert isinstance(rig.acts[0], ipc.Fail)


def test_a_ledger_that_is_well_fails_nobody(rig: Rig) -> None:
    story(rig)
    assert not any(isinstance(act, ipc.Fail) for act in rig.acts)
