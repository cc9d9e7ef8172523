"""The people of a simulated world: a random operator, and the desk where each ask is written down.

The operator behaves like a person: looks at the status, thinks, asks, waits for the answer; now and
then forgets to show that somebody is there, asks too early, edits what was confirmed, or presses
STOP. Every ask says beforehand what answers would be right.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from drivers.contract import DeviceState
from firmware_protocol.quantities import MS, SECOND
from tests.world.sim import Line
from tmsctl.ipc.messages import GuardState, SelfTestState, Snapshot
from tmsctl.records.journal import JournalError
from tmsctl.records.views import stamp
from tmsctl.session.engine import Engine
from tmsctl.session.prepare import Order, Prepared
from tmsctl.session.refused import RefusedError
from tmsctl.session.state import Ask, State

if TYPE_CHECKING:
    from tests.world.sim import World

Deed = Generator[int, None, None]
"""What a person does, step by step; yields how long until the next step."""

OPERATOR: Final = "op"


class Desk:
    """The service's API as the daemon serves it, with a record of what was asked and answered."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.station: object = object()
        self.sessions: list[Line] = []

    @property
    def engine(self) -> Engine | None:
        tmsd = self.world.tmsd
        here = tmsd is not None and not tmsd.dead and self.world.now >= tmsd.busy_until
        return tmsd.engine if here and tmsd is not None else None

    def snapshot(self) -> Snapshot | None:
        """What `tmsctl status` shows of the guard; None while nobody answers."""
        engine = self.engine
        return None if engine is None else engine.guard.fresh(self.world.boot_us())

    def ask(
        self,
        what: str,
        call: Callable[[Engine], Ask | None],
        wanted: Sequence[str] = (),
        failed: Callable[[Engine, str], None] = lambda _engine, _code: None,
        **notes: Any,
    ) -> Line:
        """One request. `wanted`: codes that would be right, none when it must be granted."""
        world, engine, tmsd = self.world, self.engine, self.world.tmsd
        line: Line = {"what": what, "at_us": world.now, "answer": "", "answered_us": None,
                      "wanted": list(wanted), "sent": False, "armed": False, **notes}  # fmt: skip
        world.asks.append(line)

        def answered(answer: str) -> None:
            if answer == "ok" and waiting is not None:
                try:
                    waiting.ensure()
                except RefusedError as error:
                    answer = error.refusal.code
            line["answer"], line["answered_us"] = answer, world.now
            if answer not in ("ok", "tmsd-absent") and engine is not None and line["sent"]:
                failed(engine, answer)  # a tmsd that is gone does nothing about it

        waiting: Ask | None = None
        if engine is None or tmsd is None:
            answered("tmsd-absent")
            return line
        try:
            waiting = call(engine)
        except RefusedError as error:
            answered(error.refusal.code)
        except JournalError:
            answered("journal-failed")
        else:
            line["sent"] = True
            if waiting is None:
                answered("ok")
            else:
                tmsd.wait_for(waiting, answered)
        return line

    # -- verbs -------------------------------------------------------------------------------

    def start(
        self, order: Order, plan_hash: str, confirmation: str, reason: str | None,
        wanted: Sequence[str] = (),
    ) -> Line:  # fmt: skip
        def call(engine: Engine) -> Ask:
            ask = engine.start(order, plan_hash, confirmation, reason, self.station)
            assert engine.session is not None
            self._note_session(order, engine.session.number, reason)
            return ask

        def failed(engine: Engine, code: str) -> None:
            session = engine.session
            if session is not None and not session.state.ended:
                engine.give_up(session, code, "The guard does not run it.")

        return self.ask("start", call, wanted, failed)

    def _note_session(self, order: Order, number: int, reason: str | None) -> None:
        note = {"number": number, "at_us": self.world.now, "reason": bool(reason)}
        self.sessions.append(note | self._plain(order))

    def _plain(self, order: Order) -> Line:
        """What was asked for, as plain data."""
        protocol = self.world.library[order.protocol]
        names = ("pulses_per_burst", "interval_us", "burst_period_us", "bursts_per_train",
                 "train_period_us", "trains")  # fmt: skip
        return {
            "patient": order.patient,
            "mt_permille": round((order.mt or 0) * 10),
            "pct_mt": protocol.pct_mt if order.pct_mt is None else order.pct_mt,
            "exceeds": dict(protocol.exceeds),
            "pattern": {name: getattr(protocol, name) for name in names},
        }

    def prepare(self, order: Order) -> Prepared | None:
        """What the person is shown; None when it cannot be, or must not be delivered."""
        found: list[Prepared] = []

        def call(engine: Engine) -> None:
            shown = engine.prepare(order)
            refusal = shown.refusal()
            if refusal is not None:
                raise refusal
            found.append(shown)

        self.ask("prepare", call, order=self._plain(order))
        return found[0] if found else None

    def resume(self, wanted: Sequence[str] = ()) -> Line:
        def failed(engine: Engine, _code: str) -> None:
            if engine.open is not None and engine.open.state is State.STARTING:
                engine.pause()

        return self.ask("resume", lambda engine: engine.resume(self.station), wanted, failed)

    def pause(self, wanted: Sequence[str] = ()) -> Line:
        return self.ask("pause", lambda engine: engine.pause(), wanted)

    def end(self, wanted: Sequence[str] = ()) -> Line:
        return self.ask("end", lambda engine: engine.stop() and None, wanted)

    def acknowledge(self, wanted: Sequence[str] = ()) -> Line:
        return self.ask("acknowledge", lambda engine: engine.acknowledge(), wanted)

    def self_test(self, wanted: Sequence[str] = ()) -> Line:
        def call(engine: Engine) -> Ask:
            ask = engine.self_test()

            def ensure() -> None:
                ask.ensure()
                if not engine.self_tests.passed:
                    raise RefusedError(1, "self-test-failed", "", "")  # type: ignore[arg-type]

            return replace(ask, ensure=ensure)

        return self.ask("self-test", call, wanted)

    def present(self, station: object | None = None, wanted: Sequence[str] = ()) -> Line:
        who = self.station if station is None else station
        return self.ask("present", lambda engine: engine.present(who), wanted)

    def confirm_clock(self) -> Line:
        shown = stamp(self.world.utc())
        return self.ask("confirm-clock", lambda e: e.confirm_clock(OPERATOR, shown) and None)

    def accept_counter(self) -> Line:
        serial = self.world.settings.serial
        return self.ask(
            "accept-counter", lambda e: e.accept_counter(serial, OPERATOR, "looked") and None
        )

    def leave(self) -> Line:
        """The operator's program dies: its connection closes."""
        gone, self.station = self.station, object()
        return self.ask("leave", lambda engine: engine.station_gone(gone))

    def stop(self) -> Line:
        """STOP goes to the guard, past tmsd."""
        device = self.world.firmware.machine.state
        armed = device in (DeviceState.ARMING, DeviceState.READY, DeviceState.FIRING)
        line: Line = {"what": "stop", "at_us": self.world.now, "answered_us": self.world.now,
                      "wanted": ["ok", "guard-absent"], "sent": True, "armed": armed}  # fmt: skip
        self.world.asks.append(line)
        line["answer"] = "ok" if self.world.stop("test") else "guard-absent"
        return line


@dataclass(slots=True)
class Habits:
    """What kind of person it is: how often, in one look out of so many."""

    protocols: tuple[str, ...]
    thresholds: tuple[float, ...]
    patients: int = 1_000_000  # few: the same ones come again and again
    mistakes: float = 0.1  # of starts
    meddles: float = 0.05  # pauses, ends, STOPs, per look at a running session
    forgets: float = 0.05  # a sign of presence
    too_hot_dc: int = 370  # a device that was too hot arms again 3 C below its limit
    think_us: tuple[int, int] = (200 * MS, 2 * SECOND)


class Operator:
    """One person at one desk, for as long as the world runs."""

    def __init__(self, world: World, habits: Habits) -> None:
        self.world, self.habits, self.rng = world, habits, world.rng
        self.desk = Desk(world)
        self.careful = False  # no more mistakes, nothing but getting on
        self.patient = 0
        self.told = ""  # code of the last refusal
        self._refused_to_resume = 0
        self._used = ""  # a confirmation that was good once
        self._do(self._work())
        self._do(self._show_presence())

    def _do(self, deed: Deed) -> None:
        def step() -> None:
            self.world.at(self.world.now + max(1, next(deed)), step)

        self.world.at(self.world.now, step)

    def _think(self) -> int:
        return self.rng.randrange(*self.habits.think_us)

    def _chance(self, probability: float) -> bool:
        return not self.careful and self.rng.random() < probability

    def _answer_to(self, ask: Line) -> Deed:
        while ask["answered_us"] is None:
            yield 50 * MS
        self.told = ask["answer"]

    # -- what a person does all day ----------------------------------------------------------

    def _work(self) -> Deed:
        while True:
            yield self._think()
            engine, snapshot = self.desk.engine, self.desk.snapshot()
            if self._disk_is_broken():
                yield from self._mend_the_disk()
            elif engine is None:
                continue
            elif snapshot is None or not snapshot.connected:
                continue  # a person waits until the device is shown
            elif snapshot.surface_dc > self.habits.too_hot_dc and engine.open is None:
                continue  # and until the coil has cooled
            elif snapshot.state == GuardState.SAFE:
                yield from self._answer_to(self.desk.acknowledge())
            elif snapshot.self_test == SelfTestState.RUNNING:
                continue
            elif snapshot.self_test != SelfTestState.PASSED or self.told == "self-test-missing":
                yield from self._prove(engine)
            elif engine.open is not None:
                yield from self._mind(engine, snapshot)
            elif snapshot.state == GuardState.IDLE:
                yield from self._start(engine)

    def _show_presence(self) -> Deed:
        while True:
            pause_us = self.rng.randrange(5, 40) * SECOND
            if self._chance(self.habits.forgets):
                pause_us += 60 * SECOND
            yield pause_us
            engine = self.desk.engine
            if engine is not None and engine.open is not None:
                mine = engine.open.station is self.desk.station
                self.desk.present(wanted=() if mine else ("not-station",))

    def _disk_is_broken(self) -> bool:
        """As the status says, or the log of a tmsd that does not start."""
        tmsd = self.world.tmsd
        if tmsd is None:
            return bool(self.world.disk.fault)
        return bool(tmsd.journal.error)

    def _mend_the_disk(self) -> Deed:
        """The administrator makes room, and starts tmsd again."""
        self.world.disk.fault = ""
        yield 1 * SECOND
        self.world.end_tmsd(in_order=True)
        yield 1 * SECOND

    def _prove(self, engine: Engine) -> Deed:
        if engine.open is not None:
            self.desk.end()  # a session cannot outlive the guard or device that was proven
            yield self._think()
            return
        if self._chance(self.habits.mistakes):
            yield from self._begin(engine, wanted=("self-test-missing", "clock-unconfirmed"))
        yield from self._answer_to(self.desk.self_test())

    # -- a session ---------------------------------------------------------------------------

    def _order(self) -> Order:
        self.patient += 1
        return Order(
            patient=f"P{self.patient % self.habits.patients}",
            operator=OPERATOR,
            protocol=self.rng.choice(self.habits.protocols),
            mt=self.rng.choice(self.habits.thresholds),
            pct_mt=None,
            reduced=False,
            by_emg=True,
        )

    def _start(self, engine: Engine) -> Deed:
        if engine.desk.doubt():
            self.world.wall_off_us = 0  # first the clock is set right
            self.desk.confirm_clock()
            return
        if self.told == "counter-disagrees":
            yield from self._answer_to(self.desk.accept_counter())
            return
        if self._chance(self.habits.mistakes):
            yield from self.rng.choice(self._mistakes)(self, engine)
        else:
            yield from self._begin(engine)

    def _begin(self, engine: Engine, wanted: Sequence[str] = ()) -> Deed:
        """As it should be: prepare, read, confirm."""
        order = self._order()
        shown = self.desk.prepare(order)
        if shown is None:
            return
        yield self._think()
        if self.desk.engine is not engine:
            return  # tmsd is another one, and forgot what it showed
        reason = "as the physician wrote" if shown.soft else None
        ask = self.desk.start(order, shown.plan.hash, shown.confirmation, reason, wanted)
        self._used = shown.confirmation
        yield from self._answer_to(ask)

    def _mind(self, engine: Engine, snapshot: Snapshot) -> Deed:
        """Somebody sits beside a session."""
        session = engine.open
        assert session is not None
        if session.state is State.PAUSED and not session.pausing:
            if self._refused_to_resume >= 2:  # it will not do; another session may
                self._refused_to_resume = 0
                self.desk.end()
            elif snapshot.state == GuardState.IDLE:
                yield from self._answer_to(self.desk.resume())
                self._refused_to_resume += self.told not in ("ok", "guard-busy", "pausing")
        elif session.state is State.RUNNING and self._chance(self.habits.meddles):
            deed = self.rng.choice(("pause", "pause", "stop", "stop", "end", "leave", "again"))
            if deed == "again":
                self.desk.resume(wanted=("wrong-state", "no-session"))
                order = self._order()
                self.desk.start(order, "", "", None, wanted=("session-open",))
            else:
                ask = getattr(self.desk, deed)()
                if deed == "pause" and self._chance(0.2):  # at once, without looking
                    self.desk.resume(wanted=("ok", "wrong-state", "guard-busy", "pausing"))
                yield from self._answer_to(ask)
        yield 0

    # -- mistakes ----------------------------------------------------------------------------

    def _unknown_confirmation(self, _: Engine) -> Deed:
        self.desk.start(self._order(), "0" * 64, "made-up", None, ("confirmation-unknown",))
        yield 0

    def _used_confirmation(self, _: Engine) -> Deed:
        # To another tmsd it is unknown; if the start was refused, it is another order's.
        codes = ("confirmation-used", "confirmation-unknown", "confirmation-changed",
                 "confirmation-old")  # fmt: skip
        self.desk.start(self._order(), "0" * 64, self._used, None, codes)
        yield 0

    def _edited_order(self, engine: Engine) -> Deed:
        order = self._order()
        shown = self.desk.prepare(order)
        if shown is None:
            return
        yield self.rng.randrange(1, 8_000) * MS
        if self.desk.engine is engine:
            other = replace(order, mt=(order.mt or 0) - 0.5)
            codes = ("confirmation-changed",)
            self.desk.start(other, shown.plan.hash, shown.confirmation, "why not", codes)

    def _old_confirmation(self, engine: Engine) -> Deed:
        order = self._order()
        shown = self.desk.prepare(order)
        if shown is None:
            return
        yield self.rng.randrange(121, 125) * SECOND
        if self.desk.engine is engine:
            codes = ("confirmation-old", "session-open")
            self.desk.start(order, shown.plan.hash, shown.confirmation, "late", codes)

    def _stranger_shows_presence(self, _: Engine) -> Deed:
        self.desk.present(object(), wanted=("not-station", "no-session"))
        yield 0

    def _needless(self, _: Engine) -> Deed:
        """Acknowledges where nothing waits, and ends what is not there."""
        self.desk.acknowledge(wanted=("ok",))
        self.desk.end(wanted=("no-session",))
        yield 0

    _mistakes = (
        _unknown_confirmation, _used_confirmation, _edited_order, _old_confirmation,
        _stranger_shows_presence, _needless,
    )  # fmt: skip
