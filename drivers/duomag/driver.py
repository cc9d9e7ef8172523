"""The driver of the Deymed DuoMAG. No thread, no sleep, no clock.

The unit has no arming, no answers, no checksum and no dead-man: it charges to what it is told and
streams records of how it is. So an intensity of 0 is what disarmed means here, a command counts
once the stream shows its effect, and a pulse once the stream shows that it recharges; the driver
sets the recharge delay so that no record can miss that. Every pulse is triggered by the host.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from drivers.account import Account, Shot
from drivers.contract import (
    DriverEvent,
    DriverInfo,
    Envelope,
    LinkError,
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
from drivers.options import Option, Options, OptionTable
from firmware_protocol.duomag.framing import StatusDecoder, encode
from firmware_protocol.duomag.messages import (
    FIRE,
    SYNC,
    Command,
    Kind,
    Status,
    delay_commands,
    delay_of,
)
from firmware_protocol.quantities import MS, SECOND, BootUs, PercentMso

RECHARGE_DELAY_US: Final = 200 * MS
"""The unit begins to recharge so long after a pulse: several records show it uncharged."""

RECHARGE_US: Final = 500 * MS
"""From pulse to pulse: the delay, the recharge, and records that show both."""

SILENT_US: Final = SECOND
"""Without a record for so long the unit counts as gone. How often it sends them is not public."""

CONNECT_US: Final = 2 * SECOND
SET_AGAIN_US: Final = 100 * MS
SET_WITHIN_US: Final = SECOND
SEEN_AFTER_US: Final = 20 * MS
"""A record that may have been made earlier behind a trigger proves nothing: 15 ms in the unit, and
the way of the record."""

SEEN_WITHIN_US: Final = 100 * MS
"""Still charged so long behind a trigger, and before it could be charged again: none has left."""

ENVELOPE: Final = Envelope(100, RECHARGE_US, 1, 0, 1_000, (RECHARGE_US,) * 101, 0)
COIL: Final = 100
"""Types of coils begin here, so that they are no other family's."""

INFO: Final = DriverInfo(
    name="duomag-xt",
    stop_class=StopClass.NONE,
    maturity=Maturity.EXPERIMENTAL,
    verified_on="",
    lease_max_us=0,
    lead_us=20 * MS,
    hello_after_us=500 * MS,
    connect_within_us=CONNECT_US + 500 * MS,
    status_age_us=250 * MS,
    dead_man_us=None,
    coil_step_dc=5,
    checks_frames=False,  # there is no checksum
)

ADC_MISSING: Final = (
    "adc-missing: the scale of its coil thermometer is not known; "
    "device.options.adc_at_0c and adc_per_100c are not given"
)

OPTIONS: Final[OptionTable] = {
    "adc_at_0c": Option(
        "reading of the coil's thermometer at 0 degree C", None, 0, 254, required=True
    ),
    "adc_per_100c": Option(
        "and how much it rises in 100 degrees", None, -2_000, 2_000, required=True
    ),
}
"""Nobody has published the scale; without it the coil's temperature is unknown."""


class DuomagStimulator:
    """One unit on one line."""

    info = INFO

    def __init__(
        self, open_port: Callable[[], Transport], site: Envelope, life: int, options: Options
    ) -> None:
        """`life`: a number that no driver of this unit had before; each connection takes one.

        ValueError when the options cannot be so.
        """
        self._adc_at_0c, self._adc_per_100c = options["adc_at_0c"], options["adc_per_100c"]
        if self._adc_per_100c == 0:
            raise ValueError("device.options.adc_per_100c is 0: a thermometer must move")
        self._line = Line(open_port, INFO.hello_after_us)
        self._account = Account(self._line, site, life)
        self._decoder = StatusDecoder()
        self._up = False
        self._opened_at = self._heard_at = self._said_at = BootUs(0)
        self._heard_bytes = False
        self._status: Status | None = None
        self._mso = 0  # what it was told last
        self._cut_short = False  # the line did not take all of a trigger or an intensity above 0
        self._arm_at = BootUs(0)
        self._permit_until = BootUs(0)
        self._polled_at = BootUs(0)
        self._made_from = self._made_by = BootUs(0)
        """When the record that is coming was made: its first byte came between these two looks. It
        is known only with the first byte of the next one, a whole period later."""
        self._omitted = self._omitted_last = 0  # as two records agree; as the newest one has it
        self._omitted_then: int | None = None  # when the newest trigger was sent
        self._was_charged = self._ready = False  # at the intensity that is shown now
        self._keeps_delay = True  # it shows the recharge delay that it was set to

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
            self._drop()
            self._opened_at = now
            self._set(0, now)
        if data is None or self._line.is_new:
            self._drop()  # also where it was lost in a write
        if data is None:
            return self._line.taken()
        if self._line.is_new:
            self._decoder = StatusDecoder()
            self._opened_at = self._heard_at = now
            self._heard_bytes = False
            self._set(0, now)
            self._polled_at = self._made_from = self._made_by = now
        polled_at, self._polled_at = self._polled_at, now
        self._heard_bytes |= bool(data)
        for item in self._decoder.feed(data):
            if isinstance(item, Status):
                self._note(item, now)
            elif self._up:
                self._account.tell(LinkError(f"garbage: {item.why}"))
            self._made_from, self._made_by = polled_at, now  # of the next one, which began here
        if SYNC in data:
            self._made_from, self._made_by = polled_at, now
        self._look_at_time(now)
        shot, wake_at = self._account.shot, self.wake_at
        if shot is not None and wake_at is not None and now >= wake_at:
            self._trigger(shot, now)
        return self._line.taken()

    def beat(self, cycle: int, now: BootUs, permit_until: BootUs) -> None:
        self._permit_until = permit_until
        status = self._status
        wrong = status is not None and status.mso_pct != self._mso
        awaited = self._account.is_arming or self._mso == 0
        if self._up and wrong and awaited and now - self._said_at >= SET_AGAIN_US:
            self._set(self._mso, now)

    # -- verbs -------------------------------------------------------------------------------

    def arm(self, mso: PercentMso, shape: Shape, now: BootUs) -> Ticket:
        why = self._occupied() or self._account.above_ceiling(mso)
        if not why and self._status is not None and self._status.faults:
            why = ", ".join(self._status.faults).replace("_", " ")
        if why:
            return self._account.refused(why)
        self._arm_at = now
        self._set(mso.value, now)
        return self._account.arming()

    def disarm(self, now: BootUs) -> None:
        self._account.refuse_waiting("stopped")
        self._account.end_arming(Outcome.UNKNOWN, "stopped")
        if self._mso or now - self._said_at >= SET_AGAIN_US:
            self._set(0, now)

    def stop(self, now: BootUs) -> None:
        self._account.latch = self._account.latch or "host stop"
        self.disarm(now)

    def acknowledge(self, now: BootUs) -> None:
        self._account.latch = ""
        if self._up and self._status is not None:
            self._account.coil_accepted(ENVELOPE, self._coil_type(self._status))

    def fire(self, permit: Permit, now: BootUs) -> Ticket:
        permit.spend(now)
        why = self._occupied()
        return self._account.refused(why) if why else self._account.take(permit, 0)

    def refuses(self, block: PulseBlock) -> str:
        return "" if block.pulses == 1 else "a DuoMAG is triggered pulse by pulse"

    def probe_bad_frame(self, now: BootUs) -> None:
        """Sends nothing: its commands have no checksum, as `info.checks_frames` says."""

    def close(self) -> None:
        self._line.close()
        self._drop()

    def _occupied(self) -> str:
        """Why nothing new may begin now; empty when it may."""
        if not self._up:
            return "no unit answers"
        busy = self._account.is_arming or self._account.shot is not None
        return self._account.latch or ("another command is under way" if busy else "")

    def _set(self, mso_pct: int, now: BootUs) -> None:
        """The intensity, and with 0 the recharge delay as well."""
        self._mso, self._said_at = mso_pct, now
        commands = [Command(Kind.INTENSITY, mso_pct)]
        if not mso_pct:
            commands += delay_commands(Kind.RECHARGE_HIGH, delay_of(RECHARGE_DELAY_US))
        taken = self._line.write(encode(commands))
        self._cut_short |= not taken and mso_pct > 0  # 0 is said again until it is shown

    # -- finding it, and losing it -----------------------------------------------------------

    def _look_at_time(self, now: BootUs) -> None:
        if self._up:
            if now - self._heard_at > SILENT_US:
                self._line.down(f"device-silent: no record for {SILENT_US // MS} ms")
                self._drop()
                self._opened_at = now
                self._set(0, now)  # it carries on, and may still hear
            elif self._account.is_arming and now - self._arm_at > SET_WITHIN_US:
                self._account.end_arming(Outcome.UNKNOWN, "the intensity was not shown")
        elif now - self._opened_at > CONNECT_US:
            self._opened_at = now
            self._line.down(self._why_not_up())
            self._heard_bytes = self._line.echoed = False
            self._status = None
            self._set(0, now)

    def _why_not_up(self) -> str:
        if self._line.echoed:
            return ECHO
        if self._status is not None:
            disarmed = self._is_disarmed(self._status)
            return ADC_MISSING if disarmed else "still-armed: it does not take the intensity 0"
        if self._heard_bytes:
            return "garbage: what comes is none of a DuoMAG; it sends 1000000 baud, 2 stop bits"
        return "mute: no record comes; is the unit on, and its USB cable plugged in"

    def _connected(self, status: Status) -> None:
        if self._adc_at_0c is None or self._adc_per_100c is None:
            self._line.down(ADC_MISSING)
            return
        self._up = True
        self._was_charged = self._ready = False
        self._keeps_delay = True
        self._omitted = self._omitted_last = status.omitted
        self._omitted_then = None
        self._account.connected(ENVELOPE, self._coil_type(status), model="DuoMAG")

    def _is_disarmed(self, status: Status) -> bool:
        """Does it show both of what a new connection tells it?"""
        return status.mso_pct == 0 and status.recharge_delay.us == RECHARGE_DELAY_US

    def _drop(self) -> None:
        """The unit is gone. An open block stays open: the guard settles it as unknown."""
        self._up = False
        self._status = None
        self._account.lost()

    # -- what it says ------------------------------------------------------------------------

    def _note(self, status: Status, now: BootUs) -> None:
        before, self._status, self._heard_at = self._status, status, now
        if not self._up:
            if self._is_disarmed(status):
                self._connected(status)
            elif now - self._said_at >= SET_AGAIN_US:
                self._set(0, now)
            if not self._up:
                return
        keeps = status.recharge_delay.us == RECHARGE_DELAY_US
        if not keeps and not self._keeps_delay:  # two records agree, as for ready
            self._line.down("restarted: it has lost its recharge delay, so no pulse could be seen")
            self._drop()
            self._opened_at = now
            return
        self._keeps_delay = keeps
        moved = before is None or before.mso_pct != status.mso_pct
        if status.omitted == self._omitted_last:  # as below: two have to agree
            self._omitted = status.omitted
        self._omitted_last = status.omitted
        shot = self._account.shot
        if shot is not None and shot.sent_at is not None:
            self._settle(shot, status)
        elif self._omitted_then is not None:
            if self._omitted != self._omitted_then:  # of two triggers one was nobody's
                self._account.stranger(now, status.mso_pct)
            self._omitted_then = None
        elif self._was_charged and not status.charged and not moved and not status.faults:
            self._account.stranger(now, status.mso_pct)
        # One damaged record must not make it ready: there is no checksum. Two have to agree.
        self._ready = self._was_charged and bool(status.charged) and not moved
        self._was_charged = bool(status.charged) and status.mso_pct > 0
        if status.mso_pct == self._mso:
            self._account.end_arming(Outcome.APPLIED, "")
        self._tell_status(status, now)

    def _tell_status(self, status: Status, now: BootUs) -> None:
        self._account.tell_status(
            self._made_from,  # it is never asked
            runs=False,
            disarmed=status.mso_pct == 0,
            ready=self._ready and not status.faults,
            fault=", ".join(status.faults).replace("_", " "),
            mso_pct=status.mso_pct,
            charge_permille=10 * status.mso_pct,
            coil_dc=self._coil_dc(status),
            coil_type=self._coil_type(status),
        )

    def _coil_type(self, status: Status) -> int:
        return 0 if status.coil_absent else COIL + (status.coil_type or 0) % 8

    def _coil_dc(self, status: Status) -> int:
        at_0c, per_100c = self._adc_at_0c, self._adc_per_100c
        assert isinstance(at_0c, int)  # else it would not be up
        assert isinstance(per_100c, int)
        return (status.coil_adc - at_0c) * 1_000 // per_100c

    # -- pulses ------------------------------------------------------------------------------

    def _trigger(self, shot: Shot, now: BootUs) -> None:
        why, status = shot.hindrance(now, self._permit_until), self._status
        if not why and (status is None or status.mso_pct != shot.block.mso.value):
            why = "changed: what the unit shows is not what was set"
        if not why and not (self._ready and self._keeps_delay):
            why = "not charged" if self._keeps_delay else "changed: its recharge delay"
        if why:
            self._account.refuse(shot, why)
            return
        self._account.triggered(shot, now, 0)
        self._omitted_then = self._omitted
        self._cut_short |= not self._line.write(encode([FIRE]))

    def _settle(self, shot: Shot, status: Status) -> None:
        """What this record proves; what it cannot prove counts as fired.

        Uncharged, a pulse has left, ours or that of a trigger close to it: one counts, and when the
        next record shows as well that one was omitted, the other trigger is told as a stranger's.
        """
        assert shot.sent_at is not None
        made_from_us = self._made_from - shot.sent_at
        if made_from_us < SEEN_AFTER_US:
            return
        if not status.charged or status.faults:
            self._end(shot, 1, "complete")
        elif self._omitted != self._omitted_then:
            self._omitted_then = None
            self._end(shot, 0, "the unit omitted the pulse")
        elif self._made_by - shot.sent_at >= RECHARGE_DELAY_US:
            self._end(shot, 1, "no record came while it would have shown the pulse")
        elif made_from_us >= SEEN_WITHIN_US:
            seen = 0 if self._keeps_delay else 1  # without the delay it would not have been seen
            self._end(shot, seen, "no pulse was seen")

    def _end(self, shot: Shot, fired: int, why: str) -> None:
        self._account.answered(shot, Outcome.APPLIED if fired else Outcome.UNKNOWN, "")
        shown_pct = self._status.mso_pct if self._status is not None else 0
        self._account.ended(shot, fired, why, shown_pct)
