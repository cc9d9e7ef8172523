"""Composition root of tmsd: one loop, one thread, everything wired together here."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import structlog
from pydantic import BaseModel, TypeAdapter, ValidationError

from tmsctl.ipc import messages as ipc
from tmsctl.ipc.notify import notify
from tmsctl.records import reports, views
from tmsctl.records.journal import Journal, JournalError
from tmsctl.records.views import Event, stamp
from tmsctl.service import api
from tmsctl.service.config import Config
from tmsctl.service.guard_link import GuardLink, Listener
from tmsctl.service.guard_process import GuardProcess
from tmsctl.service.rpc import (
    BadParamsError,
    Connection,
    Server,
    UnknownMethodError,
    notification,
)
from tmsctl.service.status import guard_word, status_of
from tmsctl.service.words import sentences
from tmsctl.session.engine import Engine
from tmsctl.session.guard_view import absent
from tmsctl.session.refused import Exit, RefusedError
from tmsctl.session.state import Ask, Ports, State
from tmsctl.stimulation.protocol import load_library

TICK_S: Final = 0.05
ALIVE_EVERY: Final = 4  # ticks
CONFIRM_S: Final = 3.0
"""The guard answers a command within a cycle; without an answer for this long it has hung."""

LAST_OUTCOMES_S: Final = 0.5
"""How long an ending tmsd waits for the outcome of the block that it cut short."""

_EVENT = TypeAdapter(Event)
_LOUD: Final = frozenset({"journal-failed", "guard-lost", "guard-given-up", "device-lost"})

Handler = Callable[[Connection, Any], Awaitable[BaseModel]]


def boot_us() -> int:
    """CLOCK_BOOTTIME in microseconds."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000


def utc() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class _Waiter:
    ask: Ask
    settled: asyncio.Future[None]


class Daemon:
    """tmsd from its start to its end. JournalError and ProtocolFileError while it is made."""

    def __init__(self, config_path: Path, config: Config) -> None:
        self._config_path, self._config = config_path, config
        self._log: structlog.typing.FilteringBoundLogger = structlog.get_logger()
        self._waiters: list[_Waiter] = []
        self._strange = ""
        self._server = Server(self._call, self._closed)
        self._link = GuardLink(
            config.runtime / "guard.sock",
            ipc.settings_mark(config_path.read_bytes()),
            Listener(self._guard_up, self._hear, self._guard_down, self._no_guard, self._odd_guard),
        )
        self._process = GuardProcess(config_path, self._say)
        library = load_library([Path(folder) for folder in config.protocols.folders])
        self._journal = Journal(config.state / "journal.sqlite")
        self._engine = Engine(
            self._journal,
            library,
            config.limits_in_force,
            Ports(self._link.send, self._publish, utc, boot_us),
        )
        self._methods: dict[str, tuple[type[api.Params], Handler]] = {
            "system.info": (api.Nothing, self._info),
            "status.get": (api.Nothing, self._status),
            "status.subscribe": (api.Nothing, self._subscribe),
            "session.prepare": (api.PrepareParams, self._prepare),
            "session.start": (api.StartParams, self._start),
            "session.pause": (api.Nothing, self._pause),
            "session.resume": (api.Nothing, self._resume),
            "session.stop": (api.Nothing, self._stop),
            "session.show": (api.ShowParams, self._show),
            "session.list": (api.ListParams, self._list),
            "guard.acknowledge": (api.Nothing, self._acknowledge),
        }

    async def run(self, listener: socket.socket) -> None:
        """Serve the API until SIGTERM or SIGINT."""
        told_to_end = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, told_to_end.set)
        async with asyncio.TaskGroup() as group:
            await self._server.start(listener, group)
            tasks = [group.create_task(self._link.run()), group.create_task(self._ticks())]
            notify("READY=1")
            self._log.info("ready", **{"api.socket": listener.getsockname()})
            await told_to_end.wait()
            notify("STOPPING=1")
            await self._end_session()
            self._server.close()
            for task in tasks:
                task.cancel()
        self._process.end()
        self._journal.close()
        self._log.info("ended")

    async def _end_session(self) -> None:
        self._engine.close()
        session = self._engine.session
        if session is not None:
            settled = Ask(frozenset(), lambda: session.totals.open_pulses == 0)
            with contextlib.suppress(RefusedError):
                await self._confirm(settled, LAST_OUTCOMES_S)
        self._engine.flush()

    async def _ticks(self) -> None:
        """20 Hz. Signs of life are sent by a tick that did all of its work, and nowhere else."""
        loop = asyncio.get_running_loop()
        due, count = loop.time(), 0
        while True:
            self._engine.flush()
            if self._server.has_subscribers:
                self._server.publish(notification("status", self._status_now().model_dump_json()))
            if count % ALIVE_EVERY == 0:
                self._link.send(ipc.Alive())
                notify("WATCHDOG=1")
            count += 1
            due = max(due + TICK_S, loop.time())  # what was missed is left out
            await asyncio.sleep(due - loop.time())

    # The guard

    def _guard_up(self, pid: int) -> None:
        self._strange = ""
        self._engine.guard_up(pid)

    def _hear(self, item: ipc.ToService) -> None:
        self._engine.hear(item)
        for waiter in self._waiters:
            if waiter.settled.done():
                continue
            if isinstance(item, ipc.Refused) and item.of_code in waiter.ask.codes:
                waiter.settled.set_exception(self._engine.guard.refusal(item))
            elif waiter.ask.done():
                waiter.settled.set_result(None)

    def _guard_down(self, why: str) -> None:
        self._engine.guard_down(why)
        for waiter in self._waiters:
            if not waiter.settled.done():
                waiter.settled.set_exception(absent())

    def _no_guard(self) -> None:
        if self._config.guard.supervise:
            self._process.ensure(boot_us())

    def _odd_guard(self, why: str) -> None:
        if why != self._strange:  # it is told at every attempt
            self._strange = why
            self._say("guard-strange", why)

    async def _confirm(self, ask: Ask, within_s: float = CONFIRM_S) -> None:
        """Wait until the guard has done it; RefusedError when it refuses, is lost, or is silent."""
        if ask.done():
            return
        waiter = _Waiter(ask, asyncio.get_running_loop().create_future())
        self._waiters.append(waiter)
        try:
            async with asyncio.timeout(within_s):
                await waiter.settled
        except TimeoutError:
            raise RefusedError(
                Exit.DEVICE,
                "guard-silent",
                f"The guard has not done it within {within_s:g} s.",
                "Look at the status; if in doubt, use the hardware stop.",
            ) from None
        finally:
            self._waiters.remove(waiter)

    # What is told

    def _say(self, code: str, detail: str) -> None:
        """About the guard, where the engine has no part in it."""
        self._publish(Event(stamp(utc()), "guard", code, detail, None))

    def _publish(self, event: Event) -> None:
        tell = self._log.warning if event.code in _LOUD else self._log.info
        tell(f"{event.kind}.{event.code}", detail=event.detail, session=event.session)
        self._server.publish(notification("event", _EVENT.dump_json(event).decode()))

    def _status_now(self) -> api.Status:
        return status_of(self._engine, utc(), boot_us(), self._journal.error)

    # The API

    async def _call(self, connection: Connection, method: str, params: dict[str, Any]) -> BaseModel:
        if method not in self._methods:
            raise UnknownMethodError(method)
        model, handler = self._methods[method]
        try:
            valid = model.model_validate(params)
        except ValidationError as error:
            raise BadParamsError(" ".join(sentences(error))) from error
        try:
            return await handler(connection, valid)
        except JournalError as error:
            raise RefusedError(
                Exit.USAGE, "journal-failed", str(error), "Mend the disk, then restart tmsd."
            ) from error

    def _closed(self, connection: Connection) -> None:
        self._engine.station_gone(connection)

    async def _info(self, _: Connection, __: api.Nothing) -> api.Info:
        snapshot = self._engine.guard.fresh(boot_us())
        return api.Info(
            version=version("tmsctl"),
            pid=os.getpid(),
            config=str(self._config_path),
            guard_pid=self._engine.guard.pid,
            timing="" if snapshot is None else snapshot.timing,
            journal=str(self._journal.path),
        )

    async def _status(self, _: Connection, __: api.Nothing) -> api.Status:
        return self._status_now()

    async def _subscribe(self, connection: Connection, _: api.Nothing) -> api.Done:
        connection.subscribed = True
        return api.Done()

    async def _prepare(self, _: Connection, params: api.PrepareParams) -> api.PrepareResult:
        prepared = self._engine.prepare(params.order)
        plan = prepared.plan
        return api.PrepareResult(
            plan_hash=plan.hash,
            sentence=prepared.sentence,
            mso=plan.mso.value,
            pulses=plan.pulses,
            trains=len(plan.trains),
            duration_s=plan.span_us / 1e6,
            warnings=prepared.warnings,
            checks=tuple(
                api.CheckResult(code=c.code, ok=c.ok, detail=c.detail) for c in prepared.checks
            ),
        )

    async def _start(self, connection: Connection, params: api.StartParams) -> api.StartResult:
        ask = self._engine.start(params.order, params.plan_hash, connection)
        session = self._engine.session
        assert session is not None
        try:
            await self._confirm(ask)
        except RefusedError as error:
            self._engine.give_up(session, *error.refusal[:2])
            raise
        return api.StartResult(session=session.number)

    async def _pause(self, _: Connection, __: api.Nothing) -> api.SessionState:
        await self._confirm(self._engine.pause())
        return self._session_state()

    async def _resume(self, connection: Connection, _: api.Nothing) -> api.Resumed:
        ask = self._engine.resume(connection)
        session = self._engine.session
        assert session is not None
        try:
            await self._confirm(ask)
        except RefusedError:
            if session.state is State.STARTING:
                self._engine.pause()
            raise
        return api.Resumed(
            session=session.number,
            state=session.state.value,
            adopted=session.station is connection,
        )

    async def _stop(self, _: Connection, __: api.Nothing) -> api.SessionState:
        self._engine.stop()
        return self._session_state()

    async def _acknowledge(self, _: Connection, __: api.Nothing) -> api.GuardWord:
        await self._confirm(self._engine.acknowledge())
        return api.GuardWord(state=guard_word(self._engine.guard.fresh(boot_us())))

    def _session_state(self) -> api.SessionState:
        session = self._engine.session
        assert session is not None
        return api.SessionState(session=session.number, state=session.state.value)

    def _state_without_end(self) -> views.State:
        """Of a session that has no end in the journal."""
        session = self._engine.session
        return "interrupted" if session is None else session.state.value

    async def _show(self, _: Connection, params: api.ShowParams) -> api.Shown:
        self._engine.flush()
        record = reports.record(self._journal, params.session, self._state_without_end())
        if record is None:
            which = "None" if params.session is None else f"No session {params.session}"
            raise RefusedError(
                Exit.USAGE,
                "session-unknown",
                f"{which} is in the journal {self._journal.path}.",
                "See `tmsctl session list`.",
            )
        return api.Shown(record)

    async def _list(self, _: Connection, params: api.ListParams) -> api.Listing:
        return api.Listing(
            sessions=reports.summaries(self._journal, params.limit, self._state_without_end())
        )
