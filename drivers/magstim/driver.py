"""The driver of every Magstim unit. No thread, no sleep, no clock.

The unit has no counter, no clock and no tags: what it did is inferred from its status, which is
asked for every 20 ms, and what cannot be inferred counts as delivered. It disarms by itself 1 s
after the last command, so only a completed cycle of the guard sends any: `beat`, and the verbs.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Final

from drivers.contract import (
    BlockEnded,
    CommandEnded,
    DeviceState,
    DeviceStatus,
    Disarmed,
    DriverEvent,
    DriverInfo,
    Envelope,
    Identity,
    LinkError,
    LinkUp,
    Maturity,
    Outcome,
    Permit,
    PulseBlock,
    PulseSeen,
    Shape,
    StopClass,
    Ticket,
    Transport,
)
from drivers.line import ECHO, Line, Shot, above_ceiling
from drivers.magstim.exchange import Answered, Ask, Exchange, Noise
from drivers.magstim.units import NOTHING_TOLD, Talk, Unit
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
from firmware_protocol.quantities import MS, SECOND, BootUs, DeviceUs, PercentMso

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

SILENT_AFTER: Final = 3  # questions without an answer, one after another
STOP_AGAIN_US: Final = 40 * MS
STOPS: Final = 5
STOP_REST_US: Final = KEEP_ALIVE_US + 200 * MS
"""A unit that does not obey is left without any command for so long: then it disarms by itself."""

COIL: Final = 200
"""Type of any coil of Magstim: the unit tells only that one is there."""

INFO: Final = {
    name: DriverInfo(
        name=name,
        stop_class=StopClass.KEEP_ALIVE,
        maturity=Maturity.EXPERIMENTAL,
        verified_on="",
        lease_max_us=SECOND,
        lead_us=LEAD_US,
        hello_after_us=500 * MS,
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
        self._unit, self._site = unit, site
        self._line = Line(open_port, info.hello_after_us)
        self._exchange = Exchange(self._line)
        self._lives = itertools.count(life)
        self._tickets = itertools.count(1)
        self._turn = 0  # of the polls
        self._up = False
        self._identity: Identity | None = None  # as told last
        self._connect_at = BootUs(0)
        self._unanswered = 0
        self._error_at = BootUs(0)  # when one was last told
        self._probe_asked = False
        self._talk: Conversation[Ask, Reply] = Conversation()
        self._arm_ticket: Ticket | None = None
        self._latch = ""  # why it must not be armed, until somebody acknowledges
        self._stops = 0  # since it was told to disarm, until it shows that it is
        self._stop_at = BootUs(0)
        self._permit_until = BootUs(0)
        self._shot: Shot | None = None
        self._began = False  # the train of the shot was seen running
        self._phase = self._status = Status(0)
        self._status_at = BootUs(0)
        self._count = self._block_id = self._block_fired = 0

    @property
    def wake_at(self) -> BootUs | None:
        shot = self._shot
        if shot is None or shot.sent_at is not None or self._talk.active:
            return None
        return shot.send_at

    def fileno(self) -> int:
        return self._line.fileno()

    def poll(self, now: BootUs) -> Sequence[DriverEvent]:
        was_open = self._line.port is not None
        if not was_open:
            self._drop()  # also where it was lost in a write
        if not self._line.open(now):
            return self._line.taken()
        if not was_open:
            self._connect_at = now
        data = self._line.read()
        if data is None:
            self._drop()
            return self._line.taken()
        if not self._up and not self._exchange.busy and data.strip(b"\0"):
            self._line.ear.stranger(now)  # a unit speaks when it is asked, but for zero bytes
        answered = self._exchange.receive(data, now)
        if self._up and self._exchange.noise is not Noise.NONE:
            self._tell_error(f"garbage: {self._exchange.noise.value}", now)
            self._exchange.noise = Noise.NONE
        if answered is not None:
            self._answered(answered, now)
        if not self._up:
            self._look_for_unit(now)
        wake_at = self.wake_at
        if self._shot is not None and wake_at is not None and now >= wake_at:
            self._trigger(self._shot, now)
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
            polls = self._unit.polls
            self._turn = (self._turn + 1) % len(polls)
            self._exchange.ask(polls[self._turn], now)

    # -- verbs -------------------------------------------------------------------------------

    def arm(self, mso: PercentMso, shape: Shape, now: BootUs) -> Ticket:
        ticket = Ticket(next(self._tickets))
        if why := self._occupied() or above_ceiling(mso, self._site):
            self._tell(CommandEnded(ticket, Outcome.REFUSED, why))
        else:
            self._arm_ticket = ticket
            self._begin(self._unit.arm(mso), now)
        return ticket

    def disarm(self, now: BootUs) -> None:
        self._make_safe(now)

    def stop(self, now: BootUs) -> None:
        self._latch = self._latch or "host stop"
        self._make_safe(now)

    def acknowledge(self, now: BootUs) -> None:
        self._latch, self._stops = "", 0
        if self._up:  # it is not asked again before it shows that it is not latched
            self._tell_coil()
            self._tell(self._device_status(self._status_at, None))

    def fire(self, permit: Permit, now: BootUs) -> Ticket:
        permit.spend(now)
        ticket = Ticket(next(self._tickets))
        if why := self._occupied():
            self._tell(CommandEnded(ticket, Outcome.REFUSED, why))
            return ticket
        send_at = BootUs(permit.start_at - FIRE_LATENCY_US)
        self._shot, self._began = Shot(permit, ticket, send_at, permit.start_at), False
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
        if self._latch or self._stops:
            return self._latch or "it is being disarmed"
        return "another command is under way" if self._talk.active or self._shot else ""

    def _tell(self, event: DriverEvent) -> None:
        self._line.events.append(event)

    def _tell_error(self, why: str, now: BootUs) -> None:
        """One for each question: a damaged answer is a lost one as well."""
        if self._error_at <= self._exchange.asked_at:
            self._error_at = now
            self._tell(LinkError(why))

    def _make_safe(self, now: BootUs) -> None:
        """Disarm, again and again; a unit that does not obey is left to its own dead-man."""
        shot = self._shot
        if shot is not None and shot.sent_at is None:
            self._refuse(shot, "stopped")
        if self._talk.active and self._up:
            self._talk.give_up()
            self._end_arming(Outcome.UNKNOWN, "stopped")
        if not self._up:
            return  # to connect begins with disarming, and must not be disturbed
        if self._stops and now < self._stop_at:
            return
        self._line.lost(self._shot)  # what was asked before has no answer any more
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
        elif self._arm_ticket is not None:
            sure = Outcome.REFUSED if not failed.startswith("no-answer") else Outcome.UNKNOWN
            self._end_arming(sure if failed else Outcome.APPLIED, failed)
        elif failed and self._shot is not None:
            self._refuse(self._shot, failed)

    def _end_arming(self, outcome: Outcome, why: str) -> None:
        ticket, self._arm_ticket = self._arm_ticket, None
        if ticket is not None:
            self._tell(CommandEnded(ticket, outcome, why))

    # -- finding it --------------------------------------------------------------------------

    def _look_for_unit(self, now: BootUs) -> None:
        if self._talk.active or self._exchange.busy or now < self._connect_at:
            return
        if self._line.ear.may_speak(now):
            self._line.ear.spoke(now)
            self._exchange.noise = Noise.NONE
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
            failed = "still-armed: it does not disarm"
        if failed:
            self._line.down(failed)
            self._connect_at = BootUs(now + self.info.hello_after_us)
            return
        self._line.up()
        self._up, self._unanswered, self._stops = True, 0, 0
        self._count = self._block_id = self._block_fired = 0
        self._identity = Identity(
            model=self._unit.model,
            serial="",  # there is none on the wire
            firmware=self._unit.firmware,
            boot_count=next(self._lives) & 0xFFFF_FFFF,
            coil_type=self._coil_type,
        )
        self._tell(Disarmed())
        self._tell(LinkUp(self._identity, self._unit.envelope.within(self._site)))

    def _tell_coil(self) -> None:
        """A person has seen that it has another one, or has one now."""
        if self._identity is not None and self._identity.coil_type != self._coil_type:
            self._identity = self._identity._replace(coil_type=self._coil_type)
            self._tell(LinkUp(self._identity, self._unit.envelope.within(self._site)))

    def _drop(self) -> None:
        """The unit is gone. An open block stays open: the guard settles it as unknown."""
        self._up = self._probe_asked = False
        self._talk.give_up()
        self._line.lost(self._shot)
        self._shot = None
        self._exchange.forget()
        self._end_arming(Outcome.UNKNOWN, "no answer")

    # -- what it says ------------------------------------------------------------------------

    def _answered(self, answered: Answered, now: BootUs) -> None:
        reply, name = answered.reply, answered.ask.row.name
        if reply is None:
            if self._up and not self._is_lost(name, now):
                return
        else:
            self._unanswered = 0
            self._unit.note(reply.values)
            if reply.status is not None:
                self._note_status(reply, reply.status, answered.asked_at, now)
        if name == "fire" and self._shot is not None:
            self._fire_answered(self._shot, reply)
        else:
            self._went_on(self._talk.hear(answered.ask, reply), now)

    def _is_lost(self, name: str, now: BootUs) -> bool:
        """A question without an answer; False when the unit counts as gone."""
        self._unanswered += 1
        self._tell_error(f"lost: no answer to {name}", now)
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
        if self._phase is Status.STANDBY and self._shot is None:
            self._stops = 0
        if not self._up:
            return
        rapid = reply.values.get("rapid_status")
        train = None if rapid is None else bool(int(rapid) & RapidStatus.TRAIN)
        if self._shot is not None and self._shot.sent_at is not None:
            self._settle(self._shot, train, asked_at, now)
        elif train or (before is Status.READY and self._phase == Status(0)):
            self._count += 1  # of nobody here: a trigger input, a pedal, the panel
            self._pulse(asked_at, 0, 0)
        self._tell(self._device_status(asked_at, train))

    def _device_status(self, asked_at: BootUs, train: bool | None) -> DeviceStatus:
        told, status = self._unit.told, self._status
        standby = self._phase is Status.STANDBY
        # What was triggered may still leave, whatever the unit shows meanwhile.
        if train or (self._shot is not None and self._shot.sent_at is not None):
            state = DeviceState.FIRING
        elif standby:
            state = DeviceState.LATCHED if self._latch else DeviceState.IDLE
        else:
            ready = self._phase is Status.READY
            state = DeviceState.READY if ready else DeviceState.ARMING
        fault = ""
        if status & Status.ERROR:
            fault = "an error that is fatal" if status & Status.FATAL else "an error"
        elif status & Status.REPLACE_COIL:
            fault = "its coil has to be replaced"
        elif not status & Status.COIL_PRESENT:
            fault = "no coil connected"
        power = int(told.get("power", 0))
        coil_dc = max(int(told.get("coil_1", 0)), int(told.get("coil_2", 0)))
        return DeviceStatus(
            asked_at=asked_at,
            state=state,
            cause=self._latch if standby else "",
            fault=fault,
            mso_pct=power,
            charge_permille=10 * power,  # charging takes as long from any setting to the next
            coil_dc=coil_dc,
            surface_dc=coil_dc,
            pulse_count=self._count,
            block_id=self._block_id,
            block_fired=self._block_fired,
            coil_type=self._coil_type,
        )

    # -- pulses ------------------------------------------------------------------------------

    def _trigger(self, shot: Shot, now: BootUs) -> None:
        why = shot.hindrance(now, self._permit_until)
        if not why and self._exchange.busy:
            why = "busy: the unit has not answered the question before"
        if not why and not self._unit.stands(shot.block):
            why = "changed: what the unit shows is not what was set"
        if why:
            self._refuse(shot, why)
            return
        shot.sent_at, shot.start_at = now, BootUs(now + FIRE_LATENCY_US)
        self._block_id, self._block_fired = shot.block.block_id, 0
        self._exchange.ask(self._unit.ask("fire"), now)

    def _fire_answered(self, shot: Shot, reply: Reply | None) -> None:
        if reply is None:
            self._line.lost(shot)
        elif reply.answer is Answer.DONE:
            shot.answered = True
            self._tell(CommandEnded(shot.ticket, Outcome.APPLIED, ""))
        else:
            self._refuse(shot, reply.answer.value)

    def _refuse(self, shot: Shot, why: str) -> None:
        """Nothing of the block leaves."""
        self._shot = None
        if shot.sent_at is None:  # what was to be set for it is not needed any more
            self._talk.give_up()
        self._tell(CommandEnded(shot.ticket, Outcome.REFUSED, why))

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
            self._end(shot, shot.due_by(latest), "the train ended early")

    def _end(self, shot: Shot, fired: int, why: str) -> None:
        self._shot = None
        self._count += fired
        self._block_fired = fired
        if fired and shot.block.pulses == 1:
            self._pulse(shot.start_at, shot.block.block_id, 0)
        self._tell(
            BlockEnded(shot.block.block_id, fired, shot.block.pulses - fired, why, self._count)
        )

    def _pulse(self, at: BootUs, block_id: int, place: int) -> None:
        permille = 10 * int(self._unit.told.get("power", 0))
        self._tell(PulseSeen(at, DeviceUs(at), self._count, block_id, place, permille, 0))
