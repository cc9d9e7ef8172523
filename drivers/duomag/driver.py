"""The driver of the Deymed DuoMAG. No thread, no sleep, no clock.

The unit has no arming, no answers, no checksum and no dead-man: it charges to what it is told and
streams records of how it is. So an intensity of 0 is what disarmed means here, a command counts
once the stream shows its effect, and a pulse once the stream shows that it recharges; the driver
sets the recharge delay so that no record can miss that. Every pulse is triggered by the host.
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
from drivers.options import Option, Options, OptionTable
from firmware_protocol.duomag.framing import StatusDecoder, encode
from firmware_protocol.duomag.messages import (
    FIRE,
    Command,
    Kind,
    Status,
    delay_commands,
    delay_of,
)
from firmware_protocol.quantities import MS, SECOND, BootUs, DeviceUs, PercentMso

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
SEEN_WITHIN_US: Final = 150 * MS
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
    "adc_at_0c": Option("reading of the coil's thermometer at 0 degree C", None, 0, 254),
    "adc_per_100c": Option("and how much it rises in 100 degrees", None, -2_000, 2_000),
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
        self._site = site
        self._adc_at_0c, self._adc_per_100c = options["adc_at_0c"], options["adc_per_100c"]
        if self._adc_per_100c == 0:
            raise ValueError("device.options.adc_per_100c is 0: a thermometer must move")
        self._line = Line(open_port, INFO.hello_after_us)
        self._decoder = StatusDecoder()
        self._lives = itertools.count(life)
        self._tickets = itertools.count(1)
        self._up = False
        self._link_up: LinkUp | None = None  # as told last
        self._opened_at = self._heard_at = self._said_at = BootUs(0)
        self._heard_bytes = False
        self._status: Status | None = None
        self._mso = 0  # what it was told last
        self._arm_ticket: Ticket | None = None
        self._arm_at = BootUs(0)
        self._latch = ""
        self._permit_until = BootUs(0)
        self._shot: Shot | None = None
        self._omitted = 0
        self._was_charged = self._ready = False  # at the intensity that is shown now
        self._keeps_delay = True  # it shows the recharge delay that it was set to
        self._count = self._block_id = self._block_fired = 0

    @property
    def wake_at(self) -> BootUs | None:
        shot = self._shot
        return None if shot is None or shot.sent_at is not None else shot.send_at

    def fileno(self) -> int:
        return self._line.fileno()

    def poll(self, now: BootUs) -> Sequence[DriverEvent]:
        was_open = self._line.port is not None
        if not was_open:
            self._drop()  # also where it was lost in a write
        if not self._line.open(now):
            return self._line.taken()
        if not was_open:
            self._decoder = StatusDecoder()
            self._opened_at = self._heard_at = now
            self._heard_bytes = False
            self._set(0, now)
        data = self._line.read()
        if data is None:
            self._drop()
            return self._line.taken()
        self._heard_bytes |= bool(data)
        for item in self._decoder.feed(data):
            if isinstance(item, Status):
                self._note(item, now)
            elif self._up:
                self._tell(LinkError(f"garbage: {item.why}"))
        self._look_at_time(now)
        shot = self._shot
        if shot is not None and shot.sent_at is None and now >= shot.send_at:
            self._trigger(shot, now)
        return self._line.taken()

    def beat(self, cycle: int, now: BootUs, permit_until: BootUs) -> None:
        self._permit_until = permit_until
        status = self._status
        wrong = status is not None and status.mso_pct != self._mso
        awaited = self._arm_ticket is not None or self._mso == 0
        if self._up and wrong and awaited and now - self._said_at >= SET_AGAIN_US:
            self._set(self._mso, now)

    # -- verbs -------------------------------------------------------------------------------

    def arm(self, mso: PercentMso, shape: Shape, now: BootUs) -> Ticket:
        ticket = Ticket(next(self._tickets))
        why = self._latch or ("" if self._up else "no unit answers")
        if not why and (self._arm_ticket is not None or self._shot is not None):
            why = "another command is under way"
        why = why or above_ceiling(mso, self._site)
        if not why and self._status is not None and self._status.faults:
            why = ", ".join(self._status.faults).replace("_", " ")
        if why:
            self._tell(CommandEnded(ticket, Outcome.REFUSED, why))
            return ticket
        self._arm_ticket, self._arm_at = ticket, now
        self._set(mso.value, now)
        return ticket

    def disarm(self, now: BootUs) -> None:
        if self._shot is not None and self._shot.sent_at is None:
            self._refuse(self._shot, "stopped")
        self._end_arming(Outcome.UNKNOWN, "stopped")
        if self._mso or now - self._said_at >= SET_AGAIN_US:
            self._set(0, now)

    def stop(self, now: BootUs) -> None:
        self._latch = self._latch or "host stop"
        self.disarm(now)

    def acknowledge(self, now: BootUs) -> None:
        self._latch = ""
        status, up = self._status, self._link_up
        if self._up and status is not None and up is not None:
            coil_type = self._coil_type(status)
            if up.identity.coil_type != coil_type:  # a person has seen that it has another one
                self._link_up = LinkUp(up.identity._replace(coil_type=coil_type), up.envelope)
                self._tell(self._link_up)

    def fire(self, permit: Permit, now: BootUs) -> Ticket:
        permit.spend(now)
        ticket = Ticket(next(self._tickets))
        why = self._latch or ("" if self._up else "no unit answers")
        if why or self._shot is not None:
            self._tell(CommandEnded(ticket, Outcome.REFUSED, why or "another block is under way"))
        else:
            self._shot = Shot(permit, ticket, permit.start_at, permit.start_at)
        return ticket

    def refuses(self, block: PulseBlock) -> str:
        return "" if block.pulses == 1 else "a DuoMAG is triggered pulse by pulse"

    def probe_bad_frame(self, now: BootUs) -> None:
        raise NotImplementedError("the self-test asks `info.checks_frames` first")

    def close(self) -> None:
        self._line.close()
        self._drop()

    def _tell(self, event: DriverEvent) -> None:
        self._line.events.append(event)

    def _set(self, mso_pct: int, now: BootUs) -> None:
        """The intensity, and with 0 the recharge delay as well."""
        self._mso, self._said_at = mso_pct, now
        commands = [Command(Kind.INTENSITY, mso_pct)]
        if not mso_pct:
            commands += delay_commands(Kind.RECHARGE_HIGH, delay_of(RECHARGE_DELAY_US))
        self._line.write(encode(commands))

    # -- finding it, and losing it -----------------------------------------------------------

    def _look_at_time(self, now: BootUs) -> None:
        if self._up:
            if now - self._heard_at > SILENT_US:
                self._line.down(f"device-silent: no record for {SILENT_US // MS} ms")
                self._drop()
                self._opened_at = now
                self._set(0, now)  # it carries on, and may still hear
            elif self._arm_ticket is not None and now - self._arm_at > SET_WITHIN_US:
                self._end_arming(Outcome.UNKNOWN, "the intensity was not shown")
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
        self._line.up()
        self._up = True
        self._was_charged = self._ready = False
        self._keeps_delay = True
        self._omitted = status.omitted
        self._count = self._block_id = self._block_fired = 0
        life = next(self._lives) & 0xFFFF_FFFF
        identity = Identity("DuoMAG", "", "", life, self._coil_type(status))
        self._tell(Disarmed())
        self._link_up = LinkUp(identity, ENVELOPE.within(self._site))
        self._tell(self._link_up)

    def _is_disarmed(self, status: Status) -> bool:
        """Does it show both of what a new connection tells it?"""
        return status.mso_pct == 0 and status.recharge_delay.us == RECHARGE_DELAY_US

    def _drop(self) -> None:
        """The unit is gone. An open block stays open: the guard settles it as unknown."""
        self._up = False
        self._line.lost(self._shot)
        self._status = self._shot = None
        self._end_arming(Outcome.UNKNOWN, "no answer")

    def _end_arming(self, outcome: Outcome, why: str) -> None:
        ticket, self._arm_ticket = self._arm_ticket, None
        if ticket is not None:
            self._tell(CommandEnded(ticket, outcome, why))

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
        shot = self._shot
        if shot is not None and shot.sent_at is not None:
            self._settle(shot, status, now)
        elif self._was_charged and not status.charged and not moved and not status.faults:
            self._count += 1  # of nobody here: its trigger input, its panel
            self._pulse(now, 0)
        # One damaged record must not make it ready: there is no checksum. Two have to agree.
        self._ready = self._was_charged and bool(status.charged) and not moved
        self._was_charged = bool(status.charged) and status.mso_pct > 0
        self._omitted = status.omitted
        if self._arm_ticket is not None and status.mso_pct == self._mso:
            self._end_arming(Outcome.APPLIED, "")
        self._tell_status(status, now)

    def _tell_status(self, status: Status, now: BootUs) -> None:
        shot = self._shot
        if shot is not None and shot.sent_at is not None:
            state = DeviceState.FIRING
        elif status.mso_pct == 0:
            state = DeviceState.LATCHED if self._latch else DeviceState.IDLE
        else:
            ready = self._ready and not status.faults
            state = DeviceState.READY if ready else DeviceState.ARMING
        coil_dc = self._coil_dc(status)
        self._tell(
            DeviceStatus(
                asked_at=now,  # it is never asked; a record is as old as the line makes it
                state=state,
                cause=self._latch if status.mso_pct == 0 else "",
                fault=", ".join(status.faults).replace("_", " "),
                mso_pct=status.mso_pct,
                charge_permille=10 * status.mso_pct,
                coil_dc=coil_dc,
                surface_dc=coil_dc,
                pulse_count=self._count,
                block_id=self._block_id,
                block_fired=self._block_fired,
                coil_type=self._coil_type(status),
            )
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
            self._refuse(shot, why)
            return
        shot.sent_at = shot.start_at = now
        self._block_id, self._block_fired = shot.block.block_id, 0
        self._line.write(encode([FIRE]))

    def _refuse(self, shot: Shot, why: str) -> None:
        """Nothing of the block leaves."""
        self._shot = None
        self._tell(CommandEnded(shot.ticket, Outcome.REFUSED, why))

    def _settle(self, shot: Shot, status: Status, now: BootUs) -> None:
        """What this record proves; what it cannot prove counts as fired."""
        assert shot.sent_at is not None
        if status.omitted != self._omitted:
            self._block_fired = 0
            self._refuse(shot, "the unit omitted the pulse")
        elif now - shot.sent_at < SEEN_AFTER_US:
            return
        elif not status.charged or status.faults:
            self._end(shot, 1, "complete")
        elif now - shot.sent_at >= RECHARGE_DELAY_US:
            self._end(shot, 1, "no record came while it would have shown the pulse")
        elif now - shot.sent_at >= SEEN_WITHIN_US:
            seen = 0 if self._keeps_delay else 1  # without the delay it would not have been seen
            self._end(shot, seen, "no pulse was seen")

    def _end(self, shot: Shot, fired: int, why: str) -> None:
        self._shot = None
        self._count += fired
        self._block_fired = fired
        self._tell(CommandEnded(shot.ticket, Outcome.APPLIED, ""))
        if fired:
            self._pulse(shot.start_at, shot.block.block_id)
        self._tell(BlockEnded(shot.block.block_id, fired, 1 - fired, why, self._count))

    def _pulse(self, at: BootUs, block_id: int) -> None:
        permille = 10 * (self._status.mso_pct if self._status is not None else 0)
        self._tell(PulseSeen(at, DeviceUs(at), self._count, block_id, 0, permille, 0))
