"""What the guard knows of the device: status, pulse counter, how each block ended."""

from __future__ import annotations

from drivers.contract import (
    BlockEnded,
    CommandEnded,
    DeviceState,
    DeviceStatus,
    Disarmed,
    DriverEvent,
    Envelope,
    Identity,
    LinkDown,
    LinkError,
    LinkUp,
    Outcome,
    PulseSeen,
    Ticket,
)
from firmware_protocol.quantities import MS, BootUs, PercentMso
from tmsctl.guard.coil_watch import CoilWatch
from tmsctl.guard.link_watch import LinkWatch
from tmsctl.guard.playback import OpenBlock, Playback
from tmsctl.guard.report import Reporter
from tmsctl.safety.dose import PulseTimes, pulse_energy_uj
from tmsctl.safety.facts import CounterRange
from tmsctl.safety.rules import Action, Trip

END_HEARD_WITHIN_US = 60 * MS
"""The report of a block's end may come this much after its last pulse before it counts as lost."""

READ_LATE_MAX_US = 40 * MS
"""The clock is read before the port; a status made in between is as young as can be, not from the
future. A guard that loses the processor for longer trips by its cycle gap."""

_ENERGISED = (DeviceState.ARMING, DeviceState.READY, DeviceState.FIRING)


class DeviceView:
    """Facts about the device, and the settlement of every block. It never sends anything."""

    def __init__(
        self, serial: str | None, seen: PulseTimes, report: Reporter, coil_step_dc: int
    ) -> None:
        self.status: DeviceStatus | None = None
        self.identity: Identity | None = None
        self.envelope: Envelope | None = None
        self.link = "starting: looking for the device"
        self.seen = seen
        self.strangers = 0
        self.refusals = 0
        self.missed = 0  # most in a row since arming
        self._missing = 0  # in a row up to now
        self._frames_lost = False  # since the newest report of a pulse
        self.realised_permille: int | None = None
        self.last_realised = 0
        self.didt_a_per_us: int | None = None
        self.coil = CoilWatch(coil_step_dc)
        self.link_watch = LinkWatch()
        self.energy_at: BootUs | None = None
        self.armed_since: BootUs | None = None
        self.count: int | None = None  # device's counter, as far as every pulse is accounted for
        self._serial = serial
        self._report = report
        self._heard_at = BootUs(0)  # of the newest status, when it arrived
        self._arm_ticket: Ticket | None = None
        self._arm_taken_at: BootUs | None = None
        self._arm_refused: Trip | None = None
        self._orphan: Playback | None = None  # unloaded, but one of its blocks has no outcome yet

    # -- what the rules ask ------------------------------------------------------------------

    @property
    def known(self) -> bool | None:
        if self.identity is None or self.status is None:
            return None
        return self._serial is None or self.identity.serial == self._serial

    @property
    def life(self) -> tuple[str, int] | None:
        """Which device, since which power-up; None: none has answered yet."""
        identity = self.identity
        return None if identity is None else (identity.serial, identity.boot_count)

    @property
    def may_be_armed(self) -> bool:
        """Does the device show, or may it hide, that it is armed?"""
        if self.status is None:
            return self.armed_since is not None
        return self.status.state in _ENERGISED

    @property
    def latched(self) -> bool:
        return self.status is not None and self.status.state is DeviceState.LATCHED

    @property
    def latched_by_us(self) -> bool:
        """The device latched because of our silence or STOP; nothing of its own is wrong."""
        status = self.status
        return status is not None and status.state is DeviceState.LATCHED and not status.fault

    @property
    def has_another_coil(self) -> bool:
        """Another one than when the connection was made, or none."""
        status, identity = self.status, self.identity
        return (
            status is not None and identity is not None and (status.coil_type != identity.coil_type)
        )

    @property
    def status_without_fault(self) -> DeviceStatus | None:
        return None if self.status is None else self.status._replace(fault="")

    def ready_at(self, mso: PercentMso | None, since: BootUs | None) -> bool:
        """Does a status that is younger than the arming show READY at this intensity?"""
        status = self.status
        if mso is None or since is None or status is None:
            return False
        charged = status.state in (DeviceState.READY, DeviceState.FIRING)
        return charged and status.asked_at > since and status.mso_pct == mso.value

    @property
    def arm_taken(self) -> bool:
        """Was the newest status asked after the device had answered that it arms?"""
        status, taken_at = self.status, self._arm_taken_at
        return status is not None and taken_at is not None and status.asked_at > taken_at

    def counter_range(self, play: Playback | None) -> CounterRange | None:
        if self.count is None:
            return None
        block = self._open(play)
        due = block.due_by(self._heard_at) if block else 0
        return CounterRange(self.count, self.count + due)

    def unresolved_since(self, play: Playback | None) -> BootUs | None:
        block = self._open(play)
        return None if block is None else block.unresolved_since

    def arm_refused(self) -> Trip | None:
        """The refusal of the newest arming, once."""
        refused, self._arm_refused = self._arm_refused, None
        return refused

    # -- what the guard tells ----------------------------------------------------------------

    def arming(self, ticket: Ticket, now: BootUs) -> None:
        self._arm_ticket, self._arm_taken_at = ticket, None
        self.armed_since = self.energy_at = now
        self.realised_permille = self.didt_a_per_us = None
        self.refusals = self.missed = self._missing = 0

    def adopt_orphan(self, play: Playback) -> None:
        """Keep an unloaded plan whose block is still open, so that its outcome is not lost."""
        if play.open is not None:
            self._orphan = play

    # -- what the device says ----------------------------------------------------------------

    def note(self, event: DriverEvent, play: Playback | None, now: BootUs) -> None:
        match event:
            case DeviceStatus():
                # Who loses the processor between clock and port reads what was made meanwhile.
                self._heard_at = max(now, min(event.made_by, BootUs(now + READ_LATE_MAX_US)))
                if now < event.asked_at <= now + READ_LATE_MAX_US:
                    event = event._replace(asked_at=now)
                self._note_status(event, play)
            case PulseSeen():
                self._note_pulse(event, play)
            case BlockEnded():
                holder = self._holder(play)
                if holder and holder.open and holder.open.block.block_id == event.block_id:
                    if event.complete:
                        self._note_missed(holder.open, holder.open.block.pulses - event.delivered)
                    self._end(holder, event.delivered, event.skipped, event.why, event.unsure)
            case CommandEnded():
                self._note_command(event, play, now)
            case LinkError():
                self._frames_lost = True
                if self.armed_since is not None:
                    self.link_watch.error(now)
            case Disarmed():
                self.armed_since = None
            case LinkUp(identity, envelope):
                before, self.identity = self.life, identity
                if self.life != before:
                    self.count = None  # another counter, or another life of it
                    self.seen.clear()  # and another clock
                self.envelope = envelope
                self.link = ""
            case LinkDown(why):
                self.status = None
                self.link = why
                block = self._open(play)
                if block is not None and block.unresolved_since is None:
                    block.unresolved_since = now

    def _note_status(self, status: DeviceStatus, play: Playback | None) -> None:
        first = self.status is None
        self.status = status
        self.coil.reading(status)
        self.link_watch.round_trip()
        if status.state not in _ENERGISED:
            self.armed_since = None if self._arm_ticket is None else self.armed_since
        holder = self._holder(play)
        block = holder.open if holder else None
        under_way = block is not None or status.state in _ENERGISED
        if under_way and not first and self.count is not None:
            return
        # First word after a connection, or nothing is under way: the counter tells what happened.
        if holder is not None and block is not None:
            passed = None if self.count is None else status.pulse_count - self.count
            if passed is not None and 0 <= passed <= block.block.pulses:
                self._end(holder, passed, 0, "connection lost; delivered pulses by the counter")
            else:
                why = "connection lost; the counter proves nothing"
                self._end_unknown(holder, why, status.asked_at)
        elif self.count is not None and status.pulse_count != self.count:
            self.strangers += abs(status.pulse_count - self.count)
        self.count = status.pulse_count

    def _note_pulse(self, pulse: PulseSeen, play: Playback | None) -> None:
        self.seen.add(pulse.device_at)
        self.last_realised = pulse.mso_permille
        self.coil.pulse(pulse.at, pulse.mso_permille)
        self.energy_at = pulse.at
        holder = self._holder(play)
        block = holder.open if holder else None
        surface_dc = self.status.surface_dc if self.status else 0
        if (
            holder is None
            or block is None
            or block.block.block_id != pulse.block_id
            or pulse.place >= block.block.pulses
            or (block.places and pulse.place <= block.places[-1])
        ):
            self.strangers += 1
            self.count = pulse.pulse_count if self.count is None else self.count + 1
            self._report.pulse(0, 0, pulse, surface_dc)
            return
        if self.count is not None:
            before = self.count if block.counted is None else block.counted
            passed = pulse.place - (block.places[-1] if block.places else -1)
            may_have_left = passed if self._frames_lost else 1  # since the report before this one
            self.strangers += max(0, pulse.pulse_count - before - may_have_left)
            self._note_missed(block, pulse.place + 1 - (pulse.pulse_count - self.count))
            self._missing = 0
        block.counted, self._frames_lost = pulse.pulse_count, False
        self.realised_permille = pulse.mso_permille
        self.didt_a_per_us = pulse.didt_a_per_us
        block.places.append(pulse.place)
        self._report.pulse(
            holder.session_no, block.intent.slice.first_pulse + pulse.place, pulse, surface_dc
        )

    def _note_missed(self, block: OpenBlock, absent: int) -> None:
        """So many pulses of the block are due and have not left, without one in between."""
        self._missing += max(0, absent - block.absent)
        block.absent = absent
        self.missed = max(self.missed, self._missing)

    def _note_command(self, ended: CommandEnded, play: Playback | None, now: BootUs) -> None:
        holder = self._holder(play)
        if ended.ticket == self._arm_ticket:
            self._arm_ticket = None
            if ended.outcome is Outcome.APPLIED:
                self._arm_taken_at = now
            elif ended.outcome is Outcome.REFUSED:
                self.armed_since = None
                why = f"the device refused to arm: {ended.why}"
                self._arm_refused = Trip("arm-refused", Action.DISARM, why)
        elif holder is not None and holder.open is not None and ended.ticket == holder.open.ticket:
            if ended.outcome is Outcome.REFUSED:
                self.refusals += 1
                holder.open.refused = f"refused by the device: {ended.why}"
            # A refusal too is read back: firmware may answer one and fire all the same.
            applied = ended.outcome is Outcome.APPLIED
            holder.open.unresolved_since = None if applied else now

    def settle(self, play: Playback | None) -> None:
        """Read back what no report told: the status names the newest block and what left of it."""
        holder, status = self._orphan or play, self.status
        if holder is None or holder.open is None or status is None:
            return
        block = holder.open
        if status.asked_at <= block.sent_at:
            return
        may_begin = status.state in _ENERGISED
        over_at = block.end_at + END_HEARD_WITHIN_US
        is_over = status.state is DeviceState.READY and status.asked_at > over_at
        pulses = block.block.pulses
        if status.block_id == block.block.block_id:
            block.unresolved_since = None
            if not may_begin:
                self._end(holder, status.block_fired, 0, "cut short; read back")
            elif is_over:
                self._end(holder, status.block_fired, pulses - status.block_fired, "read back")
        elif block.unresolved_since is not None and status.asked_at > block.unresolved_since:
            why = block.refused or "never reached the device"
            self._end(holder, 0, 0, why, refused=True)
        elif is_over or not may_begin:  # whatever was answered
            self._note_missed(block, pulses if is_over else 0)
            self._end(holder, 0, 0, "never began", refused=True)

    # -- settlement --------------------------------------------------------------------------

    def _holder(self, play: Playback | None) -> Playback | None:
        """The plan that has a block under way; blocks of an unloaded plan come first."""
        return self._orphan or play

    def _open(self, play: Playback | None) -> OpenBlock | None:
        holder = self._holder(play)
        return None if holder is None else holder.open

    def _end(
        self,
        play: Playback,
        delivered: int,
        skipped: int,
        why: str,
        unsure: int = 0,
        *,
        refused: bool = False,
    ) -> None:
        block = play.open
        assert block is not None
        if self.count is not None:
            self.count += delivered
        done = delivered + skipped + unsure
        # Without a report of every pulse, all places up to the last one count as sent; pulses that
        # were absent before it make it a later one.
        last = min(done + block.absent, block.block.pulses)
        times = block.block.times_us(block.start_at)
        if len(block.places) == delivered and not unsure:
            times = [times[place] for place in block.places]
        else:
            del times[last:]
        play.sent.extend(times, pulse_energy_uj(block.block.mso.value))
        play.position = block.intent.slice.first_pulse + done
        play.delivered += delivered + unsure
        play.confirmed += delivered
        play.skipped += skipped
        if delivered:
            self.refusals = 0
        outcome = 2 if unsure else 1 if refused else 0
        self._close(play, block, delivered, skipped, outcome, why)

    def _end_unknown(self, play: Playback, why: str, now: BootUs) -> None:
        """Nobody can say how much of the block left; at most what was due by now, in time."""
        block = play.open
        assert block is not None
        pulses = block.block.pulses
        times = block.block.times_us(block.start_at)
        energy_uj = pulse_energy_uj(block.block.mso.value)
        play.sent.extend((at for at in times if at <= now), energy_uj)
        play.position = block.intent.slice.first_pulse + pulses
        play.delivered += pulses  # unknown counts as delivered
        play.confirmed += len(block.places)
        self._close(play, block, len(block.places), 0, 2, why)

    def _close(
        self, play: Playback, block: OpenBlock, delivered: int, skipped: int, outcome: int, why: str
    ) -> None:
        self._report.ended(
            play.session_no, block.intent, delivered, skipped, outcome, self.count, why
        )
        play.open = None
        if play is self._orphan:
            self._orphan = None
