"""Engine, journal and fake guard, joined without a process; time moves when a test says so."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path

from tests.fakes.guard import FakeGuard
from tmsctl.ipc import messages as ipc
from tmsctl.records.journal import Journal
from tmsctl.records.views import Event
from tmsctl.safety.limits import Limits, site_limits
from tmsctl.service import api
from tmsctl.service.status import status_of
from tmsctl.session.engine import Engine
from tmsctl.session.prepare import Order, Prepared
from tmsctl.session.state import Ask, Ports, State
from tmsctl.stimulation.protocol import load_library

ORDER = Order("P1", "op", "ctbs600", 50.0, None, reduced=False, by_emg=True)
REASON = "the physician asked for it"  # ctbs600 has no reviewer yet
STATION, OTHER = object(), object()
NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
GUARD_PID = 77
LIBRARY = load_library()


class Rig:
    """`us` is CLOCK_BOOTTIME; `wall_off` is how far the wall clock is from it beside noon."""

    def __init__(
        self,
        path: Path,
        guard: FakeGuard,
        *,
        us: int = 1_000_000,
        boot_id: str = "boot-1",
        limits: Limits | None = None,
        ready: bool = True,
    ) -> None:
        """`ready`: the clock is confirmed and the self-test is done."""
        self.guard, self.us, self.wall_off = guard, us, timedelta()
        guard.now_us = lambda: self.us
        self.events: list[Event] = []
        self.acts: list[ipc.ToGuard] = []  # everything that left the engine, in order
        self.before_send: Callable[[ipc.ToGuard], None] = lambda item: None
        self._sent: list[ipc.ToGuard] = []
        tokens = count(1)
        self.ports = Ports(
            self._send, self.events.append, self.utc, lambda: self.us, boot_id,
            lambda: f"token-{next(tokens)}",
        )  # fmt: skip
        self.journal = Journal(path)
        self.engine = Engine(
            self.journal, LIBRARY, site_limits({}) if limits is None else limits, self.ports
        )
        self.engine.guard_up(GUARD_PID)
        self.hear(self.guard.snapshot())
        self.pump()
        if ready:
            self.engine.confirm_clock("op", self.engine.desk.clock().time)
            self.engine.self_test()
            self.pump()
            assert self.engine.self_tests.passed

    def utc(self) -> datetime:
        return NOON + timedelta(microseconds=self.us) + self.wall_off

    def _send(self, item: ipc.ToGuard) -> None:
        self.before_send(item)
        self.acts.append(item)
        self._sent.append(item)

    def hear(self, *items: ipc.ToService) -> None:
        for item in items:
            self.engine.hear(item)

    def pump(self, most: int = 1000) -> None:
        """Carry messages to and fro until both sides are quiet."""
        while self._sent and most:
            most -= 1
            self.hear(*self.guard.hear(self._sent.pop(0)))
        self.hear(self.guard.snapshot())

    def begin(
        self,
        prepared: Prepared,
        *,
        order: Order | None = None,
        reason: str | None = REASON,
        station: object = STATION,
    ) -> Ask:
        """Say yes to what was shown, or to something else."""
        return self.engine.start(
            order or prepared.order, prepared.plan.hash, prepared.confirmation, reason, station
        )

    def start(self, order: Order = ORDER, reason: str | None = REASON) -> int:
        self.begin(self.engine.prepare(order), reason=reason)
        return self.number

    def play(self, pulses: int | None = None) -> None:
        self.hear(*self.guard.play(pulses))
        self.pump()

    def later(self, seconds: float) -> None:
        """Time passes, and the guard goes on telling its state."""
        self.us += round(seconds * 1_000_000)
        self.hear(self.guard.snapshot())

    @property
    def number(self) -> int:
        assert self.engine.session is not None
        return self.engine.session.number

    @property
    def state(self) -> State:
        assert self.engine.session is not None
        return self.engine.session.state

    def status(self) -> api.Status:
        return status_of(self.engine, NOON, self.us, self.journal.error)

    @property
    def codes(self) -> list[str]:
        return [event.code for event in self.events]


def changed(order: Order, **changes: object) -> Order:
    return replace(order, **changes)  # type: ignore[arg-type]
