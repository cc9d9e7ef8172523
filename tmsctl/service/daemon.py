"""Composition root of tmsd: one loop, one thread, everything wired together here."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import signal
import socket
import time
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import structlog
from pydantic import BaseModel, TypeAdapter

from tmsctl.ipc import messages as ipc
from tmsctl.ipc.notify import notify
from tmsctl.records.journal import Journal
from tmsctl.records.views import Event, stamp
from tmsctl.service import api
from tmsctl.service.config import Config
from tmsctl.service.guard_link import GuardLink, Listener
from tmsctl.service.guard_process import GuardProcess
from tmsctl.service.methods import Methods
from tmsctl.service.rpc import Connection, Server, notification
from tmsctl.service.status import status_of
from tmsctl.service.waiters import Waiters
from tmsctl.session.engine import Engine
from tmsctl.session.refused import RefusedError
from tmsctl.session.state import Ask, Ports
from tmsctl.stimulation.protocol import load_library

TICK_S: Final = 0.05
ALIVE_EVERY: Final = 4  # ticks

LAST_OUTCOMES_S: Final = 0.5
"""How long an ending tmsd waits for the outcome of the block that it cut short."""

_EVENT = TypeAdapter(Event)
_LOUD: Final = frozenset({"journal-failed", "guard-lost", "guard-given-up", "device-lost"})

BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
TOKEN_BYTES: Final = 16


def boot_us() -> int:
    """CLOCK_BOOTTIME in microseconds."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000


def utc() -> datetime:
    return datetime.now(UTC)


def boot_id() -> str:
    """Of this start of the computer; where the system tells none, tmsd's own start is one."""
    try:
        return BOOT_ID.read_text().strip()
    except OSError:
        return str(uuid.uuid4())


def token() -> str:
    return secrets.token_hex(TOKEN_BYTES)


class Daemon:
    """tmsd from its start to its end. JournalError and ProtocolFileError while it is made."""

    def __init__(self, config_path: Path, config: Config) -> None:
        self._config = config
        self._log: structlog.typing.FilteringBoundLogger = structlog.get_logger()
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
            Ports(self._link.send, self._publish, utc, boot_us, boot_id(), token),
        )
        self._waiters = Waiters(self._engine.guard)
        self._methods = Methods(
            config_path, self._engine, self._journal, self._waiters, boot_us, utc
        )

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
                await self._waiters.confirm(settled, LAST_OUTCOMES_S)
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
        self._waiters.hear(item)

    def _guard_down(self, why: str) -> None:
        self._engine.guard_down(why)
        self._waiters.guard_down()

    def _no_guard(self) -> None:
        if self._config.guard.supervise:
            self._process.ensure(boot_us())

    def _odd_guard(self, why: str) -> None:
        if why != self._strange:  # it is told at every attempt
            self._strange = why
            self._say("guard-strange", why)

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
        return await self._methods.call(connection, method, params)

    def _closed(self, connection: Connection) -> None:
        self._engine.station_gone(connection)
