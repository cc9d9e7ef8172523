"""The methods of the API: parameters checked, the engine asked, the result put into its shape."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, ValidationError

from tmsctl.ipc import messages as ipc
from tmsctl.records import reports, views
from tmsctl.records.journal import Journal, JournalError
from tmsctl.safety.limits import ROWS
from tmsctl.safety.rules import ARM, GATE, WATCH
from tmsctl.service import api
from tmsctl.service.rpc import BadParamsError, Connection, UnknownMethodError
from tmsctl.service.status import guard_word, status_of
from tmsctl.service.waiters import Waiters
from tmsctl.service.words import sentences
from tmsctl.session.confirmations import GOOD_FOR_US
from tmsctl.session.engine import Engine
from tmsctl.session.ledger_desk import ClockState, CounterState
from tmsctl.session.prepare import check_id
from tmsctl.session.refused import Exit, RefusedError
from tmsctl.session.self_tests import ENDS_WITHIN_US, proof
from tmsctl.session.state import State

Handler = Callable[[Connection, Any], Awaitable[BaseModel]]

_LIMIT_OF: Final = {
    (table, row.code): row.limit
    for table, rows in (("watch", WATCH), ("gate", GATE), ("arm", ARM))
    for row in rows
}
"""Name of the limit that a rule compares with, by its table and code."""


class Methods:
    """`table` has them by name. Nothing here decides anything; RefusedError is the engine's no."""

    def __init__(
        self,
        config: Path,
        engine: Engine,
        journal: Journal,
        waiters: Waiters,
        boot_us: Callable[[], int],
        utc: Callable[[], datetime],
    ) -> None:
        self._config, self._engine, self._journal = config, engine, journal
        self._confirm, self._boot_us, self._utc = waiters.confirm, boot_us, utc
        self.table: dict[str, tuple[type[api.Params], Handler]] = {
            "system.info": (api.Nothing, self._info),
            "status.get": (api.Nothing, self._status),
            "status.subscribe": (api.Nothing, self._subscribe),
            "session.prepare": (api.PrepareParams, self._prepare),
            "session.start": (api.StartParams, self._start),
            "session.present": (api.Nothing, self._present),
            "session.pause": (api.Nothing, self._pause),
            "session.resume": (api.Nothing, self._resume),
            "session.stop": (api.Nothing, self._stop),
            "session.show": (api.ShowParams, self._show),
            "session.list": (api.ListParams, self._list),
            "guard.acknowledge": (api.Nothing, self._acknowledge),
            "selftest.run": (api.Nothing, self._self_test),
            "interlocks.list": (api.Nothing, self._interlocks),
            "ledger.list": (api.LedgerParams, self._ledger),
            "ledger.resolve": (api.ResolveParams, self._resolve),
            "ledger.accept_counter": (api.AcceptCounterParams, self._accept_counter),
            "ledger.confirm_clock": (api.ConfirmClockParams, self._confirm_clock),
        }

    async def call(self, connection: Connection, method: str, params: dict[str, Any]) -> BaseModel:
        """The result; UnknownMethodError, BadParamsError or RefusedError."""
        if method not in self.table:
            raise UnknownMethodError(method)
        model, handler = self.table[method]
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

    # What is so

    async def _info(self, _: Connection, __: api.Nothing) -> api.Info:
        snapshot = self._engine.guard.fresh(self._boot_us())
        return api.Info(
            version=version("tmsctl"),
            pid=os.getpid(),
            config=str(self._config),
            guard_pid=self._engine.guard.pid,
            timing="" if snapshot is None else snapshot.timing,
            journal=str(self._journal.path),
        )

    async def _status(self, _: Connection, __: api.Nothing) -> api.Status:
        return status_of(self._engine, self._utc(), self._boot_us(), self._journal.error)

    async def _subscribe(self, connection: Connection, _: api.Nothing) -> api.Done:
        connection.subscribed = True
        return api.Done()

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

    def _state_without_end(self) -> views.State:
        """Of a session that has no end in the journal."""
        session = self._engine.session
        return "interrupted" if session is None else session.state.value

    # A session

    async def _prepare(self, _: Connection, params: api.PrepareParams) -> api.PrepareResult:
        prepared = self._engine.prepare(params.order)
        plan = prepared.plan
        return api.PrepareResult(
            plan_hash=plan.hash,
            confirmation=prepared.confirmation,
            confirmation_s=GOOD_FOR_US / 1e6,
            sentence=prepared.sentence,
            mso=plan.mso.value,
            pulses=plan.pulses,
            trains=len(plan.trains),
            duration_s=plan.span_us / 1e6,
            warnings=prepared.warnings,
            checks=tuple(
                api.CheckResult(
                    code=check.code,
                    ok=check.ok,
                    soft=check.soft,
                    verified=check.verified,
                    source=check.source,
                    detail=check.detail,
                    next=check.next_step,
                )
                for check in prepared.checks
            ),
            needs_reason=tuple(check.code for check in prepared.soft),
        )

    async def _start(self, connection: Connection, params: api.StartParams) -> api.StartResult:
        ask = self._engine.start(
            params.order, params.plan_hash, params.confirmation, params.reason, connection
        )
        session = self._engine.session
        assert session is not None
        try:
            await self._confirm(ask)
        except RefusedError as error:
            if session.state is State.STARTING:
                self._engine.give_up(session, *error.refusal[:2])
            raise
        return api.StartResult(session=session.number)

    async def _present(self, connection: Connection, _: api.Nothing) -> api.Done:
        self._engine.present(connection)
        return api.Done()

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

    def _session_state(self) -> api.SessionState:
        session = self._engine.session
        assert session is not None
        return api.SessionState(session=session.number, state=session.state.value)

    # The guard

    async def _acknowledge(self, _: Connection, __: api.Nothing) -> api.GuardWord:
        await self._confirm(self._engine.acknowledge())
        return api.GuardWord(state=guard_word(self._engine.guard.fresh(self._boot_us())))

    async def _self_test(self, _: Connection, __: api.Nothing) -> api.SelfTestResult:
        await self._confirm(self._engine.self_test(), ENDS_WITHIN_US / 1e6)
        tests = self._engine.self_tests
        assert tests.last is not None
        return api.SelfTestResult(
            passed=tests.passed,
            dead_man=proof(tests.last.dead_man),
            stop=bool(tests.last.stop),
            bad_frame=proof(tests.last.bad_frame),
            ledger=tests.on_disk,
            detail=tests.last.detail,
        )

    async def _interlocks(self, _: Connection, __: api.Nothing) -> api.Interlocks:
        ask, inspection = self._engine.inspect()
        try:
            await self._confirm(ask)
        finally:
            self._engine.forget(inspection)
        return api.Interlocks(
            interlocks=tuple(_interlock(item) for item in inspection.found.values())
        )

    # The ledger

    async def _ledger(self, _: Connection, params: api.LedgerParams) -> api.Ledger:
        desk = self._engine.desk
        counter, dose = desk.counter(), None
        if params.patient is not None:
            check_id("patient", params.patient)
            had = desk.history(params.patient)
            dose = api.Dose(
                patient=params.patient,
                day_pulses=had.day_pulses,
                week_pulses=had.week_pulses,
                since_last_s=None if had.since_last_us is None else had.since_last_us / 1e6,
            )
        return api.Ledger(
            clock=_clock(desk.clock()),
            unresolved=desk.unresolved(),
            counter=None if counter is None else _counter(counter),
            dose=dose,
        )

    async def _resolve(self, _: Connection, params: api.ResolveParams) -> api.Done:
        self._engine.resolve(
            params.session, params.block, params.delivered, params.operator, params.reason
        )
        return api.Done()

    async def _accept_counter(self, _: Connection, params: api.AcceptCounterParams) -> api.Counter:
        return _counter(self._engine.accept_counter(params.serial, params.operator, params.reason))

    async def _confirm_clock(self, _: Connection, params: api.ConfirmClockParams) -> api.Clock:
        return _clock(self._engine.confirm_clock(params.operator, params.time))


def _interlock(item: ipc.Interlock) -> api.Interlock:
    name = _LIMIT_OF.get((item.table, item.code), "")
    row = ROWS.get(name)
    return api.Interlock(
        code=item.code,
        table=item.table,
        value=item.value if item.known else None,
        limit=None if row is None else item.limit,
        limit_name=name,
        unit="" if row is None else row.unit,
        verified=None if row is None else row.verified,
        source="" if row is None else row.source,
        says=item.says,
    )


def _clock(state: ClockState) -> api.Clock:
    return api.Clock(
        time=state.time,
        confirmed=not state.why,
        why=state.why,
        confirmed_by=state.confirmed_by,
        confirmed_at=state.confirmed_at,
    )


def _counter(state: CounterState) -> api.Counter:
    return api.Counter(
        serial=state.life.serial,
        boot_count=state.life.boot_count,
        shown=state.shown,
        low=state.expected.low,
        high=state.expected.high,
        agrees=state.agrees,
    )
