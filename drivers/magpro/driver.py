"""The driver of MagVenture's MagPro. No thread, no sleep, no clock.

The unit carries on when its host falls silent, so nothing is handed to it that goes on by itself:
the host triggers each pulse, or each burst, in its time, and the unit times what is inside a burst.
It tells each pulse with the slope of its current, and everything that people do at its panel.
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
from drivers.line import CUT_SHORT, ECHO, Line
from drivers.magpro.charge import Charge
from drivers.magpro.unit import (
    COUNTERS,
    DISABLE,
    FIRE,
    MUTE,
    STATUS,
    WAVEFORM,
    Ask,
    Talk,
    Unit,
)
from drivers.talk import Conversation
from firmware_protocol.magpro import messages as m
from firmware_protocol.magpro import names as n
from firmware_protocol.magpro.framing import BadMessage, Decoder, frame_of
from firmware_protocol.quantities import MS, SECOND, BootUs, PercentMso

BAUD: Final = 38_400
ANSWER_WITHIN_US: Final = 300 * MS
"""20 to 80 ms are usual (TMSEMG_toolbox, MAGIC); more is an answer that was lost."""

SETTING_US: Final = 100 * MS
"""What is not answered is given so long to take effect."""

POLL_US: Final = 50 * MS
STATUS_DUE_US: Final = 100 * MS
"""A conversation waits for a status that is older than this."""

FIRE_LATENCY_US: Final = 2 * MS
"""Six bytes at 38400 baud; how long the unit itself takes is not public."""

QUIET_US: Final = 12 * MS
SEEN_WITHIN_US: Final = 250 * MS
"""The frame that tells a pulse comes by then, or its counter is asked."""

FRAMES_WITHIN_US: Final = 100 * MS
"""Of a burst one frame may come or one a pulse, which nobody knows; the last one by then."""

SILENT_AFTER: Final = 3
STOP_AGAIN_US: Final = 100 * MS

INFO: Final = {
    name: DriverInfo(
        name=name,
        stop_class=StopClass.NONE,
        maturity=Maturity.EXPERIMENTAL,
        verified_on="",
        lease_max_us=0,
        lead_us=4 * MS,
        hello_after_us=500 * MS,
        connect_within_us=2 * SECOND,  # listening, and at most 4 exchanges
        status_age_us=250 * MS,
        dead_man_us=None,
        coil_step_dc=10,
        checks_frames=False,  # a malformed command may leave it deaf (magicpy)
    )
    for name in ("magpro-r30", "magpro-x100")
}


class MagproStimulator:
    """One unit on one line."""

    def __init__(
        self,
        info: DriverInfo,
        open_port: Callable[[], Transport],
        site: Envelope,
        life: int,
    ) -> None:
        """`life`: a number that no driver of this unit had before; each connection takes one."""
        self.info = info
        self._unit = Unit(info.name)
        self._line = Line(open_port, info.hello_after_us)
        self._account = Account(self._line, site, life)
        self._decoder = Decoder()
        self._skipped = 0
        self._up = False
        self._connect_at = BootUs(0)
        self._heard_bytes = False  # since the attempt to connect began
        self._silent = True  # no byte since the port was opened
        self._cut_short = False  # the line did not take all of a question or a trigger
        self._ask: Ask | None = None
        self._asked_at = self._status_at = BootUs(0)
        self._unanswered = 0
        self._talk: Conversation[Ask, m.AnyMessage] = Conversation()
        self._stop_at: BootUs | None = None  # it is being disabled; when to say so again
        self._permit_until = BootUs(0)
        self._ready_at: BootUs | None = None  # None: not enabled by us
        self._charge = Charge()
        self._fault = ""  # somebody was at its panel while it was armed
        self._waveform_told = True  # since the newest question for its status, if asked with it
        self._unproven: list[tuple[BootUs, int]] = []
        """Triggers behind the newest question whose answer showed the waveform as it was armed:
        when, and of how many pulses. Few, since a status that does not come trips."""
        self._told = 0  # frames that told pulses of the shot
        self._a_per_us = 0

    @property
    def wake_at(self) -> BootUs | None:
        return self._account.wake_at

    def fileno(self) -> int:
        return self._line.fileno()

    def poll(self, now: BootUs) -> Sequence[DriverEvent]:
        data = self._line.receive(now)
        cut_short, self._cut_short = self._cut_short, False
        if cut_short and self._up and data is not None:
            self._line.down(CUT_SHORT)  # what the unit makes of the part nobody knows
            self._connect_at = now
            self._drop()
        if data is None or self._line.is_new:
            self._drop()  # also where it was lost in a write
            self._connect_at = now
            self._silent = True
        if data is None:
            return self._line.taken()
        if data:
            self._heard_bytes = True
            self._silent = False
            for item in self._decoder.feed(data):
                self._note(item, now)
            if self._up and self._decoder.skipped > self._skipped:
                self._error("garbage: bytes that are no frame of a MagPro", now)
            if not self._up and self._ask is None and self._decoder.skipped > self._skipped:
                self._line.ear.stranger(now)
            self._skipped = self._decoder.skipped
        if self._ask is not None and now - self._asked_at >= self._patience_us():
            for item in self._decoder.silence():  # an answer behind a false beginning of a frame
                self._note(item, now)
            if self._up and self._decoder.skipped > self._skipped:
                self._error("garbage: the beginning of a frame that never ended", now)
            self._skipped = self._decoder.skipped
        if self._ask is not None and now - self._asked_at >= self._patience_us():
            self._no_answer(self._ask, now)
        if not self._up and not self._talk.active and now >= self._connect_at:
            if self._line.ear.may_speak(now):
                self._line.ear.spoke(now)
                self._heard_bytes = self._line.echoed = False
                self._begin(self._unit.connect(lambda: self._silent), now)
            elif why := self._line.ear.complaint(now):
                self._line.down(why)
        shot = self._account.shot
        if shot is not None:
            if shot.sent_at is None:
                if now >= shot.send_at:
                    self._trigger(shot, now)
            else:
                self._settle(shot, now)
        return self._line.taken()

    def beat(self, cycle: int, now: BootUs, permit_until: BootUs) -> None:
        self._permit_until = permit_until
        if not self._up or self._ask is not None:
            return
        if self._stop_at is not None:
            self._make_safe(now)
        elif self._talk.next is not None and now - self._status_at < STATUS_DUE_US:
            self._send(self._talk.speak(), now)
        elif not self._is_soon(now) and now - self._status_at >= POLL_US:
            self._send(STATUS, now)

    def _is_soon(self, now: BootUs) -> bool:
        """Is a trigger due, for which the line is kept free?"""
        wake_at = self.wake_at
        return wake_at is not None and wake_at - now < QUIET_US

    # -- verbs -------------------------------------------------------------------------------

    def arm(self, mso: PercentMso, shape: Shape, now: BootUs) -> Ticket:
        if why := self._occupied() or self._account.above_ceiling(mso):
            return self._account.refused(why)
        ticket = self._account.arming()
        self._begin(self._unit.arm(mso, shape), now)
        return ticket

    def disarm(self, now: BootUs) -> None:
        self._make_safe(now)

    def stop(self, now: BootUs) -> None:
        self._account.latch = self._account.latch or "host stop"
        self._make_safe(now)

    def acknowledge(self, now: BootUs) -> None:
        self._account.latch = self._fault = ""
        self._stop_at = None
        status = self._unit.status
        if self._up and status is not None:
            self._account.coil_accepted(self._unit.envelope, status.coil_type)
            self._tell_status(now)  # it is not asked before it shows that it is not latched

    def fire(self, permit: Permit, now: BootUs) -> Ticket:
        permit.spend(now)
        block = permit.block
        why = self._occupied()
        if not why and Shape(block.pulses_per_burst, block.interval_us) != self._unit.shape:
            why = "it is not armed for such a burst"
        if why:
            return self._account.refused(why)
        self._told = 0
        return self._account.take(permit, FIRE_LATENCY_US)

    def refuses(self, block: PulseBlock) -> str:
        if block.bursts > 1:
            return "a MagPro is triggered burst by burst"
        return self._unit.refuses(block)

    def probe_bad_frame(self, now: BootUs) -> None:
        """Sends nothing: a malformed command may leave it deaf, as `info.checks_frames` says."""

    def close(self) -> None:
        self._line.close()
        self._drop()

    def _occupied(self) -> str:
        if not self._up:
            return "no unit answers"
        if self._account.latch or self._stop_at is not None:
            return self._account.latch or "it is being disabled"
        return "another command is under way" if self._talk.active or self._account.shot else ""

    def _error(self, why: str, now: BootUs) -> None:
        self._account.tell_error(why, self._asked_at, now)

    def _make_safe(self, now: BootUs) -> None:
        """Disable, again and again until the unit shows it."""
        self._account.refuse_waiting("stopped")
        if self._talk.active and self._up:
            self._talk.give_up()
            self._account.end_arming(Outcome.UNKNOWN, "stopped")
        self._ready_at = None
        self._unit.forget()
        if not self._up and (self._talk.active or not self._line.ear.known):
            if self._silent:  # to try ends with disabling: at once, and again and again
                self._connect_at = min(self._connect_at, now)
            return  # to connect begins with disabling, and must not be disturbed
        if self._line.port is None or (self._stop_at is not None and now < self._stop_at):
            return
        self._stop_at = BootUs(now + STOP_AGAIN_US)
        taken = self._line.write(DISABLE.data)  # if not, it is said again, and nothing else
        if self._up and taken:  # else the conversation that looks for it asks
            self._send(STATUS, now)  # behind it: what it shows is after the disabling

    # -- conversations -----------------------------------------------------------------------

    def _send(self, ask: Ask, now: BootUs) -> None:
        """With the status of an armed unit its waveform is asked: nobody knows that it tells id 09
        unasked. Not in a conversation, which has enough to ask and reads it back itself."""
        self._ask, self._asked_at = ask, now
        data = ask.data
        if ask is STATUS:
            self._waveform_told = self._unit.armed is None or self._talk.active
            data = data if self._waveform_told else WAVEFORM.data + data
        self._cut_short |= not self._line.write(data)

    def _patience_us(self) -> int:
        answers = self._ask is None or self._ask.answer is not None
        return ANSWER_WITHIN_US if answers else SETTING_US

    def _no_answer(self, ask: Ask, now: BootUs) -> None:
        self._ask = None
        if self._up and ask.answer is not None:
            self._unanswered += 1
            self._error(f"lost: no answer to {type(ask.message).__name__}", now)
            if self._unanswered >= SILENT_AFTER:
                self._line.down(f"device-silent: {SILENT_AFTER} questions without an answer")
                self._connect_at = now
                self._drop()
                return
        self._went_on(self._talk.hear(ask, None), now)

    def _begin(self, talk: Talk, now: BootUs) -> None:
        self._went_on(self._talk.begin(talk), now)

    def _went_on(self, failed: str | None, now: BootUs) -> None:
        """What it says next is sent by a beat while connected, else at once."""
        if failed is not None:
            self._ended(failed, now)
        elif not self._up and self._talk.next is not None:
            self._send(self._talk.speak(), now)

    def _ended(self, failed: str, now: BootUs) -> None:
        """A conversation is over; `failed` is CODE: sentence, or empty."""
        if not self._up:
            self._connected(failed, now)
            return
        sure = Outcome.UNKNOWN if failed.startswith("no-answer") else Outcome.REFUSED
        if not failed:
            status = self._unit.status
            self._ready_at = self._charge.ready_at(status.a_pct if status else 100, now)
        self._account.end_arming(sure if failed else Outcome.APPLIED, failed)

    def _connected(self, failed: str, now: BootUs) -> None:
        if self._line.echoed:
            failed = ECHO
        elif failed == MUTE and self._heard_bytes:
            failed = "garbage: what comes is none of a MagPro; its baud rate is 38400"
        if failed:
            self._line.down(failed)
            self._connect_at = BootUs(now + self.info.hello_after_us)
            return
        self._up, self._unanswered = True, 0
        self._stop_at = self._ready_at = None
        unit = self._unit
        assert unit.status is not None  # the conversation saw one
        self._charge.connected(unit.status.a_pct, now)
        self._account.connected(
            unit.envelope, unit.status.coil_type, model=unit.name, serial=str(unit.serial)
        )

    def _drop(self) -> None:
        """The unit is gone; nothing that was under way on the port counts any more."""
        self._up, self._ready_at = False, None
        self._decoder, self._skipped = Decoder(), 0
        self._ask = None
        self._fault = ""
        self._unit.forget()
        self._unproven.clear()
        self._talk.give_up()
        self._account.lost()

    # -- what it says ------------------------------------------------------------------------

    def _note(self, item: m.AnyMessage | BadMessage, now: BootUs) -> None:
        if isinstance(item, BadMessage):
            if self._up:
                self._error(f"content: {item.why}", now)
            return
        changed, pulses = self._unit.changed(item), self._unit.pulses_by(item)
        match item:
            case m.LongStatus():
                self._unit.status = item
                if not self._waveform_told:  # half of the facts stay as old as before
                    self._error("lost: no answer to GetWaveform", now)
                elif self._ask is STATUS or self._ask is None:
                    self._status_at = self._asked_at
                self._tell_status(now)
                self._charge.seen(now)
            case m.WaveformStatus():
                self._waveform_told = True
                if self._ask is not None and not changed:
                    self._unproven = [it for it in self._unproven if it[0] >= self._asked_at]
            case m.Amplitude(a_pct, b_pct, st):
                self._change(now, a_pct=a_pct, b_pct=b_pct, st=st)
            case m.Coil(coil_c, coil_type, st):
                self._change(now, coil_c=coil_c, coil_type=coil_type, st=st)
            case m.PageStatus(page, running, st):
                self._change(now, page=page, running=running, st=st)
            case m.Didt(a_per_us, _, st):
                self._pulse_told(a_per_us, pulses, now)
                self._change(now, st=st)
            case m.Counters() if self._account.shot is not None and self._account.is_shooting:
                self._count_told(self._account.shot, item, now)
            case _:
                pass
        ask = self._ask
        if ask is not None and ask.answer is type(item):
            self._ask, self._unanswered = None, 0
            self._went_on(self._talk.hear(ask, item), now)
        if changed:
            self._panel_used(changed, pulses, now)

    def _panel_used(self, how: str, pulses: int, now: BootUs) -> None:
        """A trigger would give something else now, and one that was sent may have: `pulses` of it.
        Disable; what is told until somebody acknowledges trips the guard."""
        self._fault = how
        self._account.latch = self._account.latch or how
        for _, counted in self._unproven:
            self._strangers(pulses - counted, 0, now)
        self._unproven.clear()
        self._make_safe(now)
        self._tell_status(now)

    def _change(self, now: BootUs, **told: int) -> None:
        """The unit told a part of its status, asked or not."""
        status = self._unit.status
        if status is not None:
            self._unit.status = status._replace(**told)
            self._tell_status(now)

    def _tell_status(self, now: BootUs) -> None:
        status = self._unit.status
        if not self._up or status is None:
            return
        enabled = n.status_of(status.st).enabled
        self._charge.note(status.a_pct, now, enabled=enabled)
        if not enabled:
            self._ready_at = None
            if not self._talk.active:
                self._stop_at = None
        self._account.tell_status(
            self._status_at,
            runs=bool(status.running),
            disarmed=not enabled,
            ready=self._ready_at is not None and now >= self._ready_at,
            fault=self._fault or ("no coil connected" if status.coil_type == 0 else ""),
            mso_pct=status.a_pct,
            charge_permille=10 * status.a_pct if enabled else 0,
            coil_dc=10 * status.coil_c,
            coil_type=status.coil_type,
        )

    # -- pulses ------------------------------------------------------------------------------

    def _trigger(self, shot: Shot, now: BootUs) -> None:
        why = shot.hindrance(now, self._permit_until) or self._unit.hindrance(shot.block)
        if why:
            self._account.refuse(shot, why)
            return
        self._account.triggered(shot, now, FIRE_LATENCY_US)
        self._unproven.append((now, shot.block.pulses))
        self._cut_short |= not self._line.write(frame_of(FIRE))

    def _strangers(self, pulses: int, a_per_us: int, now: BootUs) -> None:
        """Pulses of nobody here. Of a pair the stronger one counts."""
        status = self._unit.status
        paired = status is not None and n.status_of(status.st).mode in n.PAIRS
        mso_pct = max(self._shown_pct, status.b_pct if status is not None and paired else 0)
        for _ in range(pulses):
            self._account.stranger(now, mso_pct, a_per_us)

    def _pulse_told(self, a_per_us: int, pulses: int, now: BootUs) -> None:
        """A trigger of ours, one more frame of the same burst, or one of nobody here, of which no
        frame but this may come: it counts with all its `pulses`."""
        shot = self._account.shot
        if shot is None or shot.sent_at is None or self._told >= shot.block.pulses:
            self._strangers(pulses, a_per_us, now)
            return
        self._told += 1
        self._a_per_us = max(a_per_us, self._a_per_us) if self._told > 1 else a_per_us
        if not shot.answered:
            self._unit.stimuli += 1
            self._account.answered(shot, Outcome.APPLIED, "")

    def _settle(self, shot: Shot, now: BootUs) -> None:
        """Told, and over; or not told in time: then its counter decides."""
        assert shot.sent_at is not None
        if self._told:
            several = self._told < shot.block.pulses
            if now >= shot.end_at + (FRAMES_WITHIN_US if several else 0):
                self._end(shot, shot.block.pulses, "complete", now)
        elif now - shot.sent_at >= SEEN_WITHIN_US and self._ask is None:
            self._account.answered(shot, Outcome.UNKNOWN, "")
            if self._up:
                self._send(COUNTERS, now)

    def _count_told(self, shot: Shot, counters: m.Counters, now: BootUs) -> None:
        """No frame told a pulse; the unit's own counter of stimuli tells whether one left."""
        before, self._unit.stimuli = self._unit.stimuli, counters.stimuli
        if counters.stimuli == before:
            self._end(shot, 0, "not told, and not counted", now)
        else:
            self._end(shot, shot.block.pulses, "not told, but counted", now)

    def _end(self, shot: Shot, fired: int, why: str, now: BootUs) -> None:
        a_per_us = self._a_per_us if self._told else 0
        self._account.ended(shot, fired, why, self._shown_pct, a_per_us)
        self._tell_status(now)

    @property
    def _shown_pct(self) -> int:
        """Its amplitude, as it last showed it."""
        status = self._unit.status
        return status.a_pct if status is not None else 0
