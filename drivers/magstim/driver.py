"""The driver of every Magstim unit. No thread, no sleep, no clock.

The unit has no counter, no clock and no tags: what it did is inferred from its status, which is
asked for every 20 ms, and what cannot be inferred counts as delivered. It disarms by itself 1 s
after the last command. While it is connected only a completed cycle of the guard sends any: `beat`,
and the verbs. To look for it `poll` sends as well: first that it be disarmed, nothing more to a
unit that then shows no standby, and after an attempt that failed nothing for longer than 1 s.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from drivers.account import Account, Shot
from drivers.contract import (
    DriverEvent,
    DriverInfo,
    Envelope,
    Maturity,
    Outcome,
    Permit,
    PulseBlock,
    Shape,
    StopClass,
    Ticket,
    Transport,
)
from drivers.line import ECHO, Line
from drivers.magstim.exchange import Answered, Ask, Exchange, Noise
from drivers.magstim.rapid import LEASE_US
from drivers.magstim.units import NOTHING_TOLD, STILL_ARMED, Talk, Unit
from drivers.talk import Conversation
from firmware_protocol.magstim.messages import (
    KEEP_ALIVE_US,
    PHASES,
    TRAIN_REST_US,
    Answer,
    RapidStatus,
    Reply,
    Status,
)
from firmware_protocol.quantities import MS, SECOND, BootUs, PercentMso

POLL_US: Final = 20 * MS
FIRE_LATENCY_US: Final = 9 * MS
"""From the first byte of the fire command to the pulse: 3 ms on the line, and 5 to 15 ms of the
unit (magneto; rapid2tb measured 6 to 8 ms)."""

LEAD_US: Final = 350 * MS
"""Setting a train and reading it back takes five exchanges of up to 44 ms."""

QUIET_US: Final = 60 * MS
"""Before a trigger nothing else is sent, so that the line is free for it."""

SEEN_AFTER_US: Final = 40 * MS
"""A status that was asked for so long after the trigger shows whether a pulse has left."""

UNSEEN_AFTER_US: Final = 200 * MS
"""A train whose end no answer shows counts as fired so long after it."""

FACT_AGE_US: Final = 250 * MS
"""A status may tell power, temperature and mode as they were so long ago: setting a train, or the
quiet before a trigger, holds up a round of polls. It is the oldest that limit status_age_max_us
lets any status be."""

SILENT_AFTER: Final = 3  # questions without an answer, one after another
STOP_AGAIN_US: Final = 40 * MS
STOPS: Final = 5
STOP_REST_US: Final = KEEP_ALIVE_US + 200 * MS
"""A unit that does not obey is left without any command for so long: then it disarms by itself."""

PORT_AGAIN_US: Final = 500 * MS
"""A port that is gone is tried again so often."""

COIL: Final = 200
"""Type of any coil of Magstim: the unit tells only that one is there."""

INFO: Final = {
    name: DriverInfo(
        name=name,
        stop_class=StopClass.KEEP_ALIVE,
        maturity=Maturity.EXPERIMENTAL,
        verified_on="",
        lease_max_us=LEASE_US if name == "magstim-rapid" else 0,
        lead_us=LEAD_US,
        hello_after_us=STOP_REST_US,
        connect_within_us=2 * SECOND,  # listening, and at most 10 exchanges
        status_age_us=150 * MS,
        dead_man_us=KEEP_ALIVE_US,
        coil_step_dc=1,
        checks_frames=True,
    )
    for name in ("magstim-200", "magstim-bistim", "magstim-rapid")
}


class MagstimStimulator:
    """One unit on one line."""

    def __init__(
        self,
        info: DriverInfo,
        open_port: Callable[[], Transport],
        site: Envelope,
        life: int,
        unit: Unit,
    ) -> None:
        """`life`: a number that no driver of this unit had before; each connection takes one."""
        self.info = info
        self._unit = unit
        self._line = Line(open_port, PORT_AGAIN_US)
        self._exchange = Exchange(self._line)
        self._account = Account(self._line, site, life)
        self._polled_at: dict[str, BootUs] = {}  # when each poll was asked last
        self._fact_at: dict[str, BootUs] = {}  # when it was asked, of the newest that was told
        self._up = False
        self._connect_at = BootUs(0)  # no attempt before: another port does not make it safer
        self._unanswered = 0
        self._probe_asked = False
        self._talk: Conversation[Ask, Reply] = Conversation()
        self._stops = 0  # since it was told to disarm, until it shows that it is
        self._stop_at = BootUs(0)
        self._permit_until = BootUs(0)
        self._rest_until = BootUs(0)  # no pulse before: the supply has to rest after a train
        self._began = False  # the train of the shot was seen running
        self._runs = False  # a train, by the newest that told
        self._counted = False  # all pulses of a foreign train that is not over
        self._phase = self._status = Status(0)
        self._status_at = BootUs(0)

    @property
    def wake_at(self) -> BootUs | None:
        return None if self._talk.active else self._account.wake_at

    def fileno(self) -> int:
        return self._line.fileno()

    def poll(self, now: BootUs) -> Sequence[DriverEvent]:
        data = self._line.receive(now)
        if data is None or self._line.is_new:
            self._drop()  # also where it was lost in a write
        if data is None:
            return self._line.taken()
        if not self._up and not self._exchange.busy and data.strip(b"\0"):
            self._line.ear.stranger(now)  # a unit speaks when it is asked, but for zero bytes
        answered = self._exchange.receive(data, now)
        if self._up and self._exchange.noise is not Noise.NONE:
            why = f"garbage: {self._exchange.noise.value}"
            self._account.tell_error(why, self._exchange.asked_at, now)
            self._exchange.noise = Noise.NONE
        if answered is not None:
            self._answered(answered, now)
        if not self._up:
            self._look_for_unit(now)
        shot, wake_at = self._account.shot, self.wake_at
        if shot is not None and wake_at is not None and now >= wake_at:
            self._trigger(shot, now)
        return self._line.taken()

    def beat(self, cycle: int, now: BootUs, permit_until: BootUs) -> None:
        self._permit_until = permit_until
        if not self._up or self._exchange.busy:
            return
        wake_at = self.wake_at
        if self._stops and self._phase is not Status.STANDBY:
            self._make_safe(now)
        elif self._talk.next is not None:
            self._exchange.ask(self._talk.speak(), now)
        elif wake_at is not None and wake_at - now < QUIET_US:
            return
        elif self._probe_asked:
            self._probe_asked = False
            self._exchange.ask_spoilt(self._unit.ask("arm"), now)
        elif now - self._exchange.asked_at > KEEP_ALIVE_US or not self._status & Status.REMOTE:
            self._exchange.ask(self._unit.take_remote(), now)
        elif now - self._exchange.asked_at >= POLL_US:
            polls, at = self._unit.polls, self._polled_at
            longest_ago = min(polls, key=lambda ask: at.get(ask.row.name, BootUs(0)))
            self._exchange.ask(longest_ago, now)

    # -- verbs -------------------------------------------------------------------------------

    def arm(self, mso: PercentMso, shape: Shape, now: BootUs) -> Ticket:
        if why := self._occupied() or self._account.above_ceiling(mso):
            return self._account.refused(why)
        ticket = self._account.arming()
        self._begin(self._unit.arm(mso), now)
        return ticket

    def disarm(self, now: BootUs) -> None:
        self._make_safe(now)

    def stop(self, now: BootUs) -> None:
        self._account.latch = self._account.latch or "host stop"
        self._make_safe(now)

    def acknowledge(self, now: BootUs) -> None:
        self._account.latch, self._stops = "", 0
        if self._up:  # it is not asked again before it shows that it is not latched
            self._account.coil_accepted(self._unit.envelope, self._coil_type)
            self._tell_status(self._status_at, train=False)

    def fire(self, permit: Permit, now: BootUs) -> Ticket:
        permit.spend(now)
        rest_us = self._rest_until - permit.start_at
        if not (why := self._occupied()) and rest_us > 0:
            why = f"rest: after the train before, the supply needs {rest_us} us more"
        if why:
            return self._account.refused(why)
        ticket, self._began = self._account.take(permit, FIRE_LATENCY_US), False
        if not self._unit.stands(permit.block):
            self._begin(self._unit.prepare(permit.block), now)
        return ticket

    def refuses(self, block: PulseBlock) -> str:
        return self._unit.refuses(block)

    def probe_bad_frame(self, now: BootUs) -> None:
        self._probe_asked = self._up  # the next beat that finds the line free sends it

    def close(self) -> None:
        self._line.close()
        self._drop()

    def _occupied(self) -> str:
        """Why nothing new may begin now; empty when it may."""
        if not self._up:
            return "no unit answers"
        if self._account.latch or self._stops:
            return self._account.latch or "it is being disarmed"
        return "another command is under way" if self._talk.active or self._account.shot else ""

    def _make_safe(self, now: BootUs) -> None:
        """Disarm, again and again; a unit that does not obey is left to its own dead-man."""
        self._account.refuse_waiting("stopped")
        if self._talk.active and self._up:
            self._talk.give_up()
            self._account.end_arming(Outcome.UNKNOWN, "stopped")
        if not self._up:
            return  # to connect begins with disarming, and must not be disturbed
        if self._stops and now < self._stop_at:
            return
        self._account.unheard()  # what was asked before has no answer any more
        self._stops = self._stops % STOPS + 1
        self._stop_at = BootUs(now + (STOP_AGAIN_US if self._stops < STOPS else STOP_REST_US))
        self._exchange.ask(self._unit.ask("disarm"), now)

    # -- conversations -----------------------------------------------------------------------

    def _begin(self, talk: Talk, now: BootUs) -> None:
        self._went_on(self._talk.begin(talk), now)

    def _went_on(self, failed: str | None, now: BootUs) -> None:
        """What it says next is sent by a beat while connected, else at once."""
        if failed is not None:
            self._ended(failed, now)
        elif not self._up and self._talk.next is not None:
            self._exchange.ask(self._talk.speak(), now)

    def _ended(self, failed: str, now: BootUs) -> None:
        """A conversation is over; `failed` is CODE: sentence, or empty."""
        if not self._up:
            self._connected(failed, now)
        elif self._account.is_arming:
            sure = Outcome.REFUSED if not failed.startswith("no-answer") else Outcome.UNKNOWN
            self._account.end_arming(sure if failed else Outcome.APPLIED, failed)
        elif failed:
            self._account.refuse_waiting(failed)

    # -- finding it --------------------------------------------------------------------------

    def _look_for_unit(self, now: BootUs) -> None:
        if self._talk.active or self._exchange.busy or now < self._connect_at:
            return
        if self._line.ear.may_speak(now):
            self._line.ear.spoke(now)
            self._exchange.noise = Noise.NONE
            self._connect_at = BootUs(now + self.info.hello_after_us)
            self._fact_at.clear()
            self._begin(self._unit.connect(), now)
        elif why := self._line.ear.complaint(now):
            self._line.down(why)

    def _connected(self, failed: str, now: BootUs) -> None:
        noise, self._exchange.noise = self._exchange.noise, Noise.NONE
        if noise is Noise.ECHO:
            failed = ECHO
        elif failed.startswith(NOTHING_TOLD) and noise is Noise.GARBAGE:
            failed = "garbage: what comes is none of a Magstim unit; its baud rate is 9600"
        elif not failed and self._phase is not Status.STANDBY:
            failed = STILL_ARMED
        if failed:
            self._line.down(failed)
            self._connect_at = BootUs(now + self.info.hello_after_us)
            return
        self._up, self._unanswered, self._stops = True, 0, 0
        self._runs = self._counted = False
        unit = self._unit  # no serial number is on the wire
        self._account.connected(
            unit.envelope, self._coil_type, model=unit.model, firmware=unit.firmware
        )

    def _drop(self) -> None:
        """The unit is gone. An open block stays open: the guard settles it as unknown."""
        self._up = self._probe_asked = False
        self._talk.give_up()
        self._exchange.forget()
        self._account.lost()

    # -- what it says ------------------------------------------------------------------------

    def _answered(self, answered: Answered, now: BootUs) -> None:
        reply, name = answered.reply, answered.ask.row.name
        self._polled_at[name] = answered.asked_at
        if reply is None:
            if self._up and not self._is_lost(name, now):
                return
        else:
            self._unanswered = 0
            self._unit.note(reply.values)
            if reply.answer is Answer.DONE:
                self._fact_at[name] = answered.asked_at
            elif self._up and answered.ask in self._unit.polls:
                why = f"content: {name} was answered with: {reply.answer.value}"
                self._account.tell_error(why, answered.asked_at, now)
            if reply.status is not None:
                self._note_status(reply, reply.status, answered.asked_at, now)
        if name == "fire" and self._account.shot is not None:
            self._fire_answered(self._account.shot, reply)
        else:
            self._went_on(self._talk.hear(answered.ask, reply), now)

    def _is_lost(self, name: str, now: BootUs) -> bool:
        """A question without an answer; False when the unit counts as gone."""
        self._unanswered += 1
        self._account.tell_error(f"lost: no answer to {name}", self._exchange.asked_at, now)
        if self._unanswered < SILENT_AFTER:
            return True
        self._line.down(f"device-silent: {SILENT_AFTER} questions without an answer")
        self._connect_at = now
        self._drop()
        return False

    @property
    def _coil_type(self) -> int:
        return COIL if self._status & Status.COIL_PRESENT else 0

    def _note_status(self, reply: Reply, status: Status, asked_at: BootUs, now: BootUs) -> None:
        before, self._status, self._phase = self._phase, status, status & PHASES
        self._status_at = asked_at
        shot = self._account.shot
        if self._phase is Status.STANDBY and shot is None:
            self._stops = 0
        if not self._up:
            return
        rapid = reply.values.get("rapid_status")
        train = None if rapid is None else bool(int(rapid) & RapidStatus.TRAIN)
        if shot is not None and shot.sent_at is not None:
            self._settle(shot, train, asked_at, now)
        else:
            self._note_foreign(before, train, asked_at, now)
            self._runs = self._runs if train is None else train
        self._tell_status(asked_at, train=bool(train))

    def _note_foreign(
        self, before: Status, train: bool | None, asked_at: BootUs, now: BootUs
    ) -> None:
        """Count what a trigger input, a pedal or the panel let go; a train once, as it begins.

        How long a unit shows that it is spent nobody knows; but nothing else than a pulse, or a
        knob, makes one that is ready charge again.
        """
        spent = self._phase == Status(0) and before in (Status.READY, Status.ARMED)
        recharges = self._phase is Status.ARMED and before is Status.READY
        left = (spent or recharges) and not self._talk.active
        began = bool(train) and not self._runs
        block = self._unit.by_trigger()
        if (left or began) and not (self._counted and block.bursts > 1):
            for _ in range(block.pulses):
                self._account.stranger(asked_at, self._power)
            self._rests_after(block, BootUs(now + block.span_us))
        is_over = train is False and self._phase in (Status.READY, Status.STANDBY)
        self._counted = not is_over and (self._counted or left or began)

    @property
    def _facts_at(self) -> BootUs:
        """When the oldest of what a status tells beside its bits was asked; 0: never told."""
        return min(self._fact_at.get(ask.row.name, BootUs(0)) for ask in self._unit.polls[1:])

    @property
    def _power(self) -> int:
        return int(self._unit.told.get("power", 0))

    def _tell_status(self, asked_at: BootUs, *, train: bool) -> None:
        told, status = self._unit.told, self._status
        if asked_at - self._facts_at > FACT_AGE_US:
            asked_at = self._facts_at
        fault = ""
        if status & Status.ERROR:
            fault = "an error that is fatal" if status & Status.FATAL else "an error"
        elif status & Status.REPLACE_COIL:
            fault = "its coil has to be replaced"
        elif not status & Status.COIL_PRESENT:
            fault = "no coil connected"
        fault = fault or self._unit.astray(armed=self._phase is not Status.STANDBY)
        self._account.tell_status(
            asked_at,
            runs=train,
            disarmed=self._phase is Status.STANDBY,
            ready=self._phase is Status.READY,
            fault=fault,
            mso_pct=self._power,
            charge_permille=10 * self._power,  # charging takes as long from any setting to the next
            coil_dc=max(int(told.get("coil_1", 0)), int(told.get("coil_2", 0))),
            coil_type=self._coil_type,
        )

    # -- pulses ------------------------------------------------------------------------------

    def _trigger(self, shot: Shot, now: BootUs) -> None:
        why = shot.hindrance(now, self._permit_until)
        if not why and self._exchange.busy:
            why = "busy: the unit has not answered the question before"
        if not why and now - self._facts_at > FACT_AGE_US:
            why = "stale: the unit does not tell its power or temperature any more"
        if not why and not self._unit.stands(shot.block):
            why = "changed: what the unit shows is not what was set"
        if why:
            self._account.refuse(shot, why)
            return
        self._account.triggered(shot, now, FIRE_LATENCY_US)
        self._rests_after(shot.block, shot.end_at)
        self._exchange.ask(self._unit.ask("fire"), now)

    def _rests_after(self, block: PulseBlock, end_at: BootUs) -> None:
        """All of it counts as fired, whatever is seen of it."""
        self._rest_until = max(self._rest_until, BootUs(end_at + self._unit.rest_us(block)))

    def _fire_answered(self, shot: Shot, reply: Reply | None) -> None:
        if reply is None:
            self._account.unheard()
        elif reply.answer is Answer.DONE:
            self._account.answered(shot, Outcome.APPLIED, "")
        else:
            self._account.answered(shot, Outcome.UNKNOWN, reply.answer.value)

    def _settle(self, shot: Shot, train: bool | None, asked_at: BootUs, now: BootUs) -> None:
        """What this status proves of the block; what it cannot prove counts as fired."""
        assert shot.sent_at is not None
        if asked_at < shot.sent_at + SEEN_AFTER_US:
            return
        ready = self._phase is Status.READY
        if shot.block.pulses == 1:
            self._end(shot, 0 if ready else 1, "no pulse was seen" if ready else "complete")
        elif train:
            self._began = True
        elif train is None and asked_at < shot.end_at + UNSEEN_AFTER_US:
            return  # this answer does not tell
        elif train is None:
            self._end(shot, shot.block.pulses, "its end was not seen")
        elif not self._began and ready and asked_at < shot.end_at + TRAIN_REST_US // 2:
            self._end(shot, 0, "the train did not begin")  # it could not be ready again yet
        elif asked_at >= shot.end_at:
            self._end(shot, shot.block.pulses, "complete")
        else:
            # It ended at some instant up to now, and may have begun as soon as it was told.
            latest = BootUs(now + FIRE_LATENCY_US)
            self._end(shot, shot.due_by(latest), "the train ended early", cut=bool(self._stops))

    def _end(self, shot: Shot, fired: int, why: str, *, cut: bool = False) -> None:
        self._account.ended(shot, fired, why, self._power, cut=cut)
