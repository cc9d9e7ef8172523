"""What the guard is told of a device that names no command and counts no pulse itself.

Such a device only answers, or streams how it is. Its driver finds out what that means; the tickets,
the latch, the block under way and the count of pulses are kept here, the same for all of them.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Final

from drivers.contract import (
    BlockEnded,
    CommandEnded,
    DeviceState,
    DeviceStatus,
    Disarmed,
    DriverEvent,
    Envelope,
    Identity,
    LinkError,
    LinkUp,
    Outcome,
    Permit,
    PulseBlock,
    PulseSeen,
    Ticket,
)
from drivers.line import Line
from firmware_protocol.quantities import MS, BootUs, DeviceUs, PercentMso

LATE_MAX_US: Final = 5 * MS
"""A trigger that comes later than this is left out: a late pulse is never caught up."""


@dataclass(slots=True)
class Shot:
    """A block that was handed to the driver and is not over. The host triggers it in time."""

    permit: Permit
    ticket: Ticket
    send_at: BootUs
    start_at: BootUs  # of its first pulse, as far as we know
    sent_at: BootUs | None = None
    answered: bool = False  # its ticket has ended
    said: str = ""  # what the unit said against it

    @property
    def block(self) -> PulseBlock:
        return self.permit.block

    @property
    def end_at(self) -> BootUs:
        """Of its last pulse."""
        return BootUs(self.start_at + self.block.span_us)

    def due_by(self, at: BootUs) -> int:
        """Pulses that can have left by then, at most."""
        return sum(due <= at for due in self.block.times_us(self.start_at))

    def hindrance(self, now: BootUs, permit_until: BootUs) -> str:
        """Why it must not be triggered now; empty when it may."""
        if now - self.send_at > LATE_MAX_US:
            return f"late: the trigger came {now - self.send_at} us too late"
        if now > permit_until:
            return "no-permit: no beat permits a pulse now"
        if self.end_at > self.permit.expires_at:
            return "expired: the permit ends before the block"
        return ""


class Account:
    """Of one driver. What it tells goes the way of the line's own events."""

    def __init__(self, line: Line, site: Envelope, life: int) -> None:
        """`life`: a number that no driver of this unit had before; each connection takes one."""
        self.latch = ""  # why it must not be armed, until somebody acknowledges
        self.shot: Shot | None = None
        self._line, self._site = line, site
        self._lives, self._tickets = itertools.count(life), itertools.count(1)
        self._identity: Identity | None = None  # as told last
        self._error_at = BootUs(0)  # when one was last told
        self._arm_ticket: Ticket | None = None
        self._count = self._block_id = self._block_fired = 0  # of this connection

    def tell(self, event: DriverEvent) -> None:
        self._line.events.append(event)

    def tell_error(self, why: str, asked_at: BootUs, now: BootUs) -> None:
        """One for each question: a damaged answer is a lost one as well."""
        if self._error_at <= asked_at:
            self._error_at = now
            self.tell(LinkError(why))

    # -- the link ----------------------------------------------------------------------------

    def connected(
        self, envelope: Envelope, coil_type: int, model: str, serial: str = "", firmware: str = ""
    ) -> None:
        """It answers, and is disarmed. What it does not tell of itself stays empty."""
        self._line.up()
        self._count = self._block_id = self._block_fired = 0
        life = next(self._lives) & 0xFFFF_FFFF
        self._identity = Identity(model, serial, firmware, life, coil_type)
        self.tell(Disarmed())
        self.tell(LinkUp(self._identity, envelope.within(self._site)))

    def coil_accepted(self, envelope: Envelope, coil_type: int) -> None:
        """A person has seen that it has another coil, or has one now."""
        if self._identity is not None and self._identity.coil_type != coil_type:
            self._identity = self._identity._replace(coil_type=coil_type)
            self.tell(LinkUp(self._identity, envelope.within(self._site)))

    def lost(self) -> None:
        """The unit is gone. An open block stays open: the guard settles it as unknown."""
        self.unheard()
        self.shot = None
        self.end_arming(Outcome.UNKNOWN, "no answer")

    # -- commands ----------------------------------------------------------------------------

    def above_ceiling(self, mso: PercentMso) -> str:
        """Why a device that cannot be told must not be armed so high; empty when it may."""
        highest = self._site.mso_max_pct
        if mso.value <= highest:
            return ""
        return f"{mso} is above the ceiling of this place, {highest}"

    def refused(self, why: str) -> Ticket:
        """A command that was not begun."""
        ticket = Ticket(next(self._tickets))
        self.tell(CommandEnded(ticket, Outcome.REFUSED, why))
        return ticket

    def arming(self) -> Ticket:
        self._arm_ticket = Ticket(next(self._tickets))
        return self._arm_ticket

    @property
    def is_arming(self) -> bool:
        return self._arm_ticket is not None

    def end_arming(self, outcome: Outcome, why: str) -> None:
        """Once for each; nothing when no arming is under way."""
        ticket, self._arm_ticket = self._arm_ticket, None
        if ticket is not None:
            self.tell(CommandEnded(ticket, outcome, why))

    # -- one block ---------------------------------------------------------------------------

    @property
    def wake_at(self) -> BootUs | None:
        """When the block that waits has to be triggered."""
        shot = self.shot
        return None if shot is None or shot.sent_at is not None else shot.send_at

    @property
    def is_shooting(self) -> bool:
        """It was triggered. What was may still leave, whatever the unit shows meanwhile."""
        return self.shot is not None and self.shot.sent_at is not None

    def take(self, permit: Permit, latency_us: int) -> Ticket:
        """A block to be triggered in time. `latency_us`: from the trigger to the pulse."""
        ticket, start_at = Ticket(next(self._tickets)), permit.start_at
        self.shot = Shot(permit, ticket, BootUs(start_at - latency_us), start_at)
        return ticket

    def triggered(self, shot: Shot, now: BootUs, latency_us: int) -> None:
        """The trigger is being sent."""
        shot.sent_at, shot.start_at = now, BootUs(now + latency_us)
        self._block_id, self._block_fired = shot.block.block_id, 0

    def answered(self, shot: Shot, outcome: Outcome, why: str) -> None:
        """Its ticket ends, if it has not."""
        if not shot.answered:
            shot.answered, shot.said = True, why
            self.tell(CommandEnded(shot.ticket, outcome, why))

    def unheard(self) -> None:
        """Nobody will hear how the block under way was answered."""
        if self.shot is not None:
            outcome = Outcome.UNKNOWN if self.is_shooting else Outcome.REFUSED
            self.answered(self.shot, outcome, "no answer")

    def refuse(self, shot: Shot, why: str) -> None:
        """It is not triggered: nothing of the block leaves."""
        assert shot.sent_at is None, "what was triggered can be told as ended only"
        self.shot = None
        self.answered(shot, Outcome.REFUSED, why)

    def refuse_waiting(self, why: str) -> None:
        if self.shot is not None and self.shot.sent_at is None:
            self.refuse(self.shot, why)

    def ended(
        self,
        shot: Shot,
        fired: int,
        why: str,
        mso_pct: int,
        a_per_us: int = 0,
        *,
        cut: bool = False,
    ) -> None:
        """`fired` of its pulses have left, at the intensity that the unit shows. The others are
        unknown, for no frame of such a device carries a number: one that shows that a pulse was
        refused, or did not leave, may be an old one. Not where the block was `cut` by us."""
        self.shot = None
        self._block_fired = fired
        block = shot.block
        for place in range(fired):
            at = BootUs(shot.start_at + block.offset_us(place))
            self._pulse(at, block.block_id, place, mso_pct, a_per_us)
        why = f"{why}; {shot.said}" if shot.said else why
        rest = block.pulses - fired
        skipped, unsure = (rest, 0) if cut else (0, rest)
        self.tell(BlockEnded(block.block_id, fired, skipped, why, self._count, not cut, unsure))

    def stranger(self, at: BootUs, mso_pct: int, a_per_us: int = 0) -> None:
        """A pulse of nobody here has left: a trigger input, a pedal, the panel."""
        self._pulse(at, 0, 0, mso_pct, a_per_us)

    def _pulse(self, at: BootUs, block_id: int, place: int, mso_pct: int, a_per_us: int) -> None:
        self._count += 1
        self.tell(PulseSeen(at, DeviceUs(at), self._count, block_id, place, 10 * mso_pct, a_per_us))

    # -- how it is ---------------------------------------------------------------------------

    def tell_status(
        self,
        asked_at: BootUs,
        *,
        runs: bool,
        disarmed: bool,
        ready: bool,
        fault: str,
        mso_pct: int,
        charge_permille: int,
        coil_dc: int,
        coil_type: int,
    ) -> None:
        """`runs`: it shows a train that goes on; `ready`: armed and charged."""
        if runs or self.is_shooting:
            state = DeviceState.FIRING
        elif disarmed:
            state = DeviceState.LATCHED if self.latch else DeviceState.IDLE
        else:
            state = DeviceState.READY if ready else DeviceState.ARMING
        self.tell(
            DeviceStatus(
                asked_at=asked_at,
                state=state,
                cause=self.latch if disarmed else "",
                fault=fault,
                mso_pct=mso_pct,
                charge_permille=charge_permille,
                coil_dc=coil_dc,
                surface_dc=coil_dc,
                pulse_count=self._count,
                block_id=self._block_id,
                block_fired=self._block_fired,
                coil_type=coil_type,
            )
        )
