"""The programs of the computer in a simulated world: tms-guard, tmsd, and the disk under tmsd.

Each class is one life of a process. What a process keeps in memory dies with it; what it wrote
stays in the world. Neither knows that time is virtual: they get it as production code does.
"""

from __future__ import annotations

import sqlite3
from collections import Counter, deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, NoReturn
from unittest import mock

from firmware_protocol.quantities import MS
from tmsctl.guard.core import PERIOD_US, Guard, Inputs
from tmsctl.guard.plans import plan_for
from tmsctl.ipc import messages as ipc
from tmsctl.records.journal import Journal
from tmsctl.session.engine import Engine
from tmsctl.session.refused import RefusedError
from tmsctl.session.state import Ask, Ports

if TYPE_CHECKING:
    from tests.world.sim import World

TICK_US: Final = 50 * MS
ALIVE_EVERY: Final = 4  # ticks
RECONNECT_US: Final = 250 * MS
CONFIRM_US: Final = 3_000 * MS
"""As tmsctl.service.daemon has them."""


class GuardProcess:
    """tms-guard from its start to its end: one guard, its timer and its ends of the sockets."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.pid = world.new_pid()
        self.inbox: deque[tuple[int, ipc.ToGuard]] = deque()
        self.connected = False
        self.dead = False
        self.awake_at = world.now  # it gets no processor before
        self.stopped_by: str | None = None
        self._greeted = False
        latched, all_sent_since = world.left_by_guard()
        self.guard = Guard(
            world.new_driver(),
            world.site,
            lambda load, envelope, why_not: plan_for(
                load, world.library, world.site, envelope, why_not
            ),
            world.serial,
            world.boot_us(),
            all_sent_since,
            latched,
        )
        self._period_us = PERIOD_US
        self._due = world.now + PERIOD_US
        world.at(self._due, self._timer)

    @property
    def awake(self) -> bool:
        return not self.dead and self.world.now >= self.awake_at

    def _timer(self) -> None:
        now = self.world.now
        if self.dead or now < self._due:  # it goes at another pace now
            return
        if now < self.awake_at:
            self.world.at(self.awake_at, self._timer)
            return
        self.cycle()
        if self._due <= now:
            missed = (now - self._due) // self._period_us  # they are left out
            self._due += (missed + 1) * self._period_us
            self.world.at(self._due, self._timer)

    def cycle(self) -> None:
        """One cycle with all that has reached the process by now."""
        world, inbox = self.world, self.inbox
        commands: list[ipc.ToGuard] = []
        while inbox and inbox[0][0] <= world.now:
            commands.append(inbox.popleft()[1])
        now = world.boot_us()
        if self.connected and not self._greeted:
            self.guard.report.repeat(self.guard.state, now)
        self._greeted = self.connected
        told = self.guard.cycle(Inputs(self.stopped_by, self.connected, commands), now)
        self.stopped_by = None
        if told and self.connected and world.tmsd is not None:
            world.tmsd.post(told)
        if self.guard.period_us != self._period_us:  # as tmsctl.guard.realtime.CycleTimer
            self._period_us = self.guard.period_us
            self._due = world.now + self._period_us
            world.at(self._due, self._timer)

    def die(self) -> None:
        """SIGKILL: nothing more leaves it, and the kernel closes its port."""
        self.dead = True
        self.guard.driver.close()

    def end(self) -> None:
        """SIGTERM: the last thing sent is STOP, and the next guard need not latch."""
        self.guard.make_safe(self.world.boot_us())
        self.world.unclean, self.world.guard_ended = False, self.world.boot_us()
        self.die()


class Disk:
    """The journal's disk. It can be slow, and fail as SQLite would report it."""

    FAULTS: Final = {
        "full": "database or disk is full",
        "io-error": "disk I/O error",
        "read-only": "attempt to write a readonly database",
    }

    def __init__(self, written: Callable[[list[str]], None]) -> None:
        """`written` is told of the statements of each transaction that changed the journal."""
        self.fault = ""
        self.counts: Counter[str] = Counter()
        self._written = written
        self._pending: list[str] = []

    def connect(self, *args: Any, **kwargs: Any) -> sqlite3.Connection:
        return _CONNECT(*args, **kwargs, factory=lambda *a, **k: _Connection(self, *a, **k))

    def execute(self, statement: str) -> None:
        """OperationalError if it cannot be carried out now."""
        writes = statement.startswith("INSERT")
        if self.fault == "io-error" or (self.fault and writes):
            self._fail()
        if writes:
            self._pending.append(statement)

    def commit(self) -> None:
        pending, self._pending = self._pending, []
        if pending and self.fault:
            self._fail()
        if pending:
            self._written(pending)

    def rollback(self) -> None:
        self._pending.clear()

    def _fail(self) -> NoReturn:
        self.counts[self.fault] += 1
        raise sqlite3.OperationalError(self.FAULTS[self.fault])


_CONNECT: Final = sqlite3.connect


class _Connection(sqlite3.Connection):
    def __init__(self, disk: Disk, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.disk = disk

    def cursor(self, factory: Any = None) -> Any:
        return super().cursor(_Cursor)

    def execute(self, statement: str, *args: Any) -> Any:
        self.disk.execute(statement)
        return super().execute(statement, *args)

    def commit(self) -> None:
        self.disk.commit()
        super().commit()

    def rollback(self) -> None:
        self.disk.rollback()
        super().rollback()


class _Cursor(sqlite3.Cursor):
    def execute(self, statement: str, *args: Any) -> Any:
        self.connection.disk.execute(statement)  # type: ignore[attr-defined]
        return super().execute(statement, *args)

    def executemany(self, statement: str, *args: Any) -> Any:
        self.connection.disk.execute(statement)  # type: ignore[attr-defined]
        return super().executemany(statement, *args)


class Waiter:
    """A request of a person that waits for the guard, as the daemon's `_confirm`."""

    def __init__(self, ask: Ask, until: int, ended: Callable[[str], None]) -> None:
        """`ended` gets the code of the refusal, or `ok`."""
        self.ask, self.until, self.ended = ask, until, ended


class TmsdProcess:
    """tmsd from its start to its end: the real engine and journal, and the daemon's loop."""

    def __init__(self, world: World) -> None:
        """JournalError when the journal cannot be opened."""
        self.world = world
        self.dead = False
        self.busy_until = world.now  # it waits for the disk, or gets no processor
        self.waiters: list[Waiter] = []
        self._inbox: deque[tuple[int, ipc.ToService]] = deque()
        self._ticks = 0
        with (
            mock.patch("sqlite3.connect", world.disk.connect),
            mock.patch("sqlite3.dbapi2.connect", world.disk.connect),
        ):
            self.journal = Journal(world.folder / "journal.sqlite")
            self.engine = Engine(self.journal, world.library, world.site, self._ports())
        self._due = world.now
        self._reconnect()
        self._tick()

    def _ports(self) -> Ports:
        world = self.world
        return Ports(
            send=self.send,
            publish=lambda _: None,
            utc=world.utc,
            boot_us=world.boot_us,
            boot_id=world.boot_id,
            token=lambda: f"{world.rng.getrandbits(128):032x}",
        )

    # -- the guard's side --------------------------------------------------------------------

    def post(self, told: list[ipc.ToService]) -> None:
        """What the guard says arrives a little later, in order."""
        world = self.world
        newest = self._inbox[-1][0] if self._inbox else 0
        at = max(world.now + world.ipc_delay_us(), newest)
        if not self._inbox:
            world.at(at, self._read)
        self._inbox.extend((at, item) for item in told)

    def send(self, item: ipc.ToGuard) -> None:
        guard = self.world.guard
        if guard is None or not guard.connected:
            return
        newest = guard.inbox[-1][0] if guard.inbox else 0
        at = max(self.world.now, self.busy_until) + self.world.ipc_delay_us()
        guard.inbox.append((max(at, newest), _over_the_socket(item)))

    def forget(self) -> None:
        """The connection is gone, and what was under way with it."""
        self._inbox.clear()

    def _read(self) -> None:
        world, inbox = self.world, self._inbox
        if self.dead:
            return
        if world.now < self.busy_until:
            world.at(self.busy_until, self._read)
            return
        while inbox and inbox[0][0] <= world.now:
            item = inbox.popleft()[1]
            self.engine.hear(item if type(item) is ipc.Snapshot else _over_the_socket(item))
            if self.waiters:
                self._settle(item)
            if world.now < self.busy_until:
                break
        if inbox:
            world.at(max(inbox[0][0], self.busy_until), self._read)

    def _reconnect(self) -> None:
        world = self.world
        if self.dead:
            return
        if world.now >= self.busy_until:
            world.connect()
        world.at(max(world.now + RECONNECT_US, self.busy_until), self._reconnect)

    def guard_down(self, why: str) -> None:
        self.engine.guard_down(why)
        waiting, self.waiters = self.waiters, []
        for waiter in waiting:
            waiter.ended("guard-absent")

    # -- people's side -----------------------------------------------------------------------

    def wait_for(self, ask: Ask, ended: Callable[[str], None], us: int = CONFIRM_US) -> None:
        if ask.done():
            ended("ok")
            return
        self.waiters.append(Waiter(ask, self.world.now + us, ended))

    def _settle(self, item: ipc.ToService) -> None:
        for waiter in list(self.waiters):
            if isinstance(item, ipc.Refused) and item.of_code in waiter.ask.codes:
                self._end(waiter, self.engine.guard.refusal(item).refusal.code)
            elif waiter.ask.done():
                self._end(waiter, "ok")

    def _end(self, waiter: Waiter, answer: str) -> None:
        self.waiters.remove(waiter)
        waiter.ended(answer)

    # -- time --------------------------------------------------------------------------------

    def _tick(self) -> None:
        world = self.world
        if self.dead:
            return
        if world.now < self.busy_until:
            world.at(self.busy_until, self._tick)
            return
        self.engine.flush()
        if self._ticks % ALIVE_EVERY == 0:
            self.send(ipc.Alive())
        self._ticks += 1
        for waiter in [w for w in self.waiters if world.now >= w.until]:
            self._end(waiter, "guard-silent")
        self._due = max(self._due + TICK_US, world.now)
        world.at(max(self._due, self.busy_until), self._tick)

    def die(self) -> None:
        """SIGKILL: an open transaction is lost, what was committed stays."""
        self.dead = True
        self.journal.close()

    def end(self) -> None:
        """SIGTERM."""
        self.engine.close()
        self.die()


def _over_the_socket(item: Any) -> Any:
    return ipc.decode(ipc.encode(item))


__all__ = ["Disk", "GuardProcess", "RefusedError", "TmsdProcess"]
