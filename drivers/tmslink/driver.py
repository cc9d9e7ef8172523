"""The tmslink driver: the port's verbs as tmslink messages. No thread, no sleep, no clock."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from drivers.causes import with_step
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
    LinkDown,
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
from drivers.line import LISTEN_US, Ear
from drivers.tmslink.clock import ClockEstimate
from drivers.tmslink.words import CAUSES, FAULTS, why_unanswered
from firmware_protocol.quantities import MS, SECOND, BootUs, DeviceUs, PercentMso
from firmware_protocol.tmslink import messages as wire
from firmware_protocol.tmslink.link import (
    Answered,
    BadFrame,
    Link,
    LinkCounters,
    LinkEvent,
    Unanswered,
)

INFO: Final = DriverInfo(
    name="tmslink",
    stop_class=StopClass.NATIVE_LEASE,
    maturity=Maturity.EXPERIMENTAL,
    verified_on="",
    lease_max_us=45 * SECOND,
    lead_us=wire.LEAD_MIN_US + 20 * MS,
    hello_after_us=200 * MS,
    connect_within_us=SECOND,  # listening, and 4 HELLOs
    status_age_us=60 * MS,
    dead_man_us=wire.DEAD_MAN_US,
    coil_step_dc=1,
    checks_frames=True,
)
REPLY_WITHIN_US: Final = 40 * MS
SILENCE_MAX_US: Final = 500 * MS
"""After this long without a frame the session is given up and a new one is asked for."""

_STATES: Final = tuple(DeviceState)


class TmslinkStimulator:
    """One device on one line, found again after every loss."""

    info = INFO
    wake_at: BootUs | None = None  # the device times every pulse

    def __init__(
        self,
        open_port: Callable[[], Transport],
        site: Envelope,
        *,
        usb_serial: Callable[[], str] | None = None,
    ) -> None:
        """`site`: limits of this installation; the device is told to keep to them as well.
        `open_port`: OSError with the cause; BlockingIOError: ask again. `usb_serial`: on USB, the
        serial number that the bus shows of the open port.
        """
        self._open_port = open_port
        self._site = site
        self._port: Transport | None = None
        self._usb_serial = usb_serial
        self._link = Link(two_pipes=usb_serial is not None)
        self._clock = ClockEstimate()
        self._up = False
        self._identity: wire.Identity | None = None
        self._device_time = DeviceUs(0)  # newest that the device told; echoed as proof of life
        self._heard_at = self._try_at = self._hello_at = BootUs(0)
        self._nonce = 0
        self._ear = Ear()
        self._seen = LinkCounters()  # what the link had seen when the newest HELLO was sent
        self._heard_bytes = False  # since then
        self._why_down = ""
        self._tighten: int | None = None  # sequence number of a TIGHTEN under way
        self._events: list[DriverEvent] = []
        self._coil_type = self._refusals = 0  # tickets of what was never sent count downwards

    def fileno(self) -> int:
        return -1 if self._port is None else self._port.fileno()

    def poll(self, now: BootUs) -> Sequence[DriverEvent]:
        data = b""
        if self._port is not None:
            try:
                data = self._port.read()
            except OSError as error:
                self._lose(f"port-lost: {error.strerror or error}")
        if data or self._link.asked:
            shaped = self._link.counters.shaped
            for event in self._link.receive(data, now):
                self._note(event, now)
            if data and not self._up:
                self._heard_bytes = True
                if self._link.counters.shaped > shaped:
                    self._ear.own()
                else:
                    self._ear.stranger(now)
        if self._up and now - self._heard_at > SILENCE_MAX_US:
            self._drop_session(f"device-silent: nothing heard for {SILENCE_MAX_US // MS} ms", now)
        if not self._up:
            self._look_for_device(now)
        if not self._events:
            return ()
        events, self._events = self._events, []
        return events

    def beat(self, cycle: int, now: BootUs, permit_until: BootUs) -> None:
        if self._identity is None:
            return
        permit_us = self._clock.device(permit_until) if permit_until > now else 0
        self._say(wire.Beat(cycle & 0xFFFF_FFFF, now, self._device_time, permit_us, 0))

    def arm(self, mso: PercentMso, shape: Shape, now: BootUs) -> Ticket:
        return self._ask(wire.Arm(mso.value, self._coil_type), now)

    def disarm(self, now: BootUs) -> None:
        self._say(wire.Disarm())

    def fire(self, permit: Permit, now: BootUs) -> Ticket:
        permit.spend(now)
        block = permit.block
        start = self._clock.device(permit.start_at)
        expires = self._clock.device(permit.expires_at)
        if block.pulses == 1:
            return self._ask(wire.Fire(block.block_id, start, expires, block.mso.value), now)
        train = wire.Train(
            lease_id=block.block_id,
            start_us=start,
            expires_us=expires,
            bursts=block.bursts,
            burst_period_us=block.burst_period_us,
            pulses_per_burst=block.pulses_per_burst,
            interval_us=block.interval_us,
            mso_pct=block.mso.value,
        )
        return self._ask(train, now)

    def refuses(self, block: PulseBlock) -> str:
        return ""  # its limits say all

    def stop(self, now: BootUs) -> None:
        if self._port is None:
            return
        self._port.stop()  # such as a USB request, which no other device would take
        if not self._ear.may_speak(now):
            return  # who is there is not known yet; a tmslink device without a beat disarms itself
        self._write(wire.STOP_BYTES + self._link.tell(wire.Stop()))

    def acknowledge(self, now: BootUs) -> None:
        if self._up:
            self._drop_session("reconnecting: the device's latch is being released", now)

    def probe_bad_frame(self, now: BootUs) -> None:
        if self._link.session:
            self._write(self._link.spoilt(wire.Arm(1, self._coil_type)))

    def close(self) -> None:
        if self._port is not None:
            self._port.close()
            self._port = None
        self._up = False

    # -- inside ------------------------------------------------------------------------------

    def _say(self, message: wire.AnyMessage) -> None:
        if self._link.session:
            self._write(self._link.tell(message))

    def _ask(self, message: wire.AnyMessage, now: BootUs) -> Ticket:
        if not self._link.session:
            self._refusals -= 1
            refused = Ticket(self._refusals)
            self._events.append(CommandEnded(refused, Outcome.REFUSED, "no unit answers"))
            return refused
        sequence, data = self._link.ask(message, BootUs(now + REPLY_WITHIN_US))
        self._write(data)
        return Ticket(sequence)

    def _write(self, data: bytes) -> None:
        if self._port is None:
            return
        try:
            self._port.write(data)  # a line that takes nothing is noticed by the status's age
        except OSError as error:
            self._lose(f"port-lost: {error.strerror or error}")

    def _look_for_device(self, now: BootUs) -> None:
        if now < self._try_at:
            return
        if self._port is None:
            self._try_at = BootUs(now + INFO.hello_after_us)
            try:
                self._port = self._open_port()
            except BlockingIOError:
                self._try_at = now  # with the next call
                return
            except OSError as error:
                self._down(str(error))
                return
            self._ear.opened(now)
            self._try_at = BootUs(now + LISTEN_US)
            return
        if not self._ear.may_speak(now):
            why = self._ear.complaint(now)
            if not why and self._nonce:
                why = why_unanswered(self._seen, self._link.counters, self._heard_bytes)
            if why:
                self._down(why)
            return
        self._try_at = BootUs(now + INFO.hello_after_us)
        if self._nonce:  # an earlier HELLO stayed without an answer
            self._down(why_unanswered(self._seen, self._link.counters, self._heard_bytes))
        self._seen, self._heard_bytes = replace(self._link.counters), False
        self._nonce = (now ^ (now >> 32)) & 0xFFFF_FFFF or 1
        self._identity, self._hello_at = None, now
        self._ear.spoke(now)
        hello = wire.Hello(wire.PROTOCOL_VERSION, self._nonce, now)
        self._write(self._link.hello(hello, self._nonce))

    def _lose(self, why: str) -> None:
        self.close()
        self._link.close()
        self._identity, self._nonce, self._tighten = None, 0, None
        self._down(why)

    def _down(self, why: str) -> None:
        """Tell it once, not with every attempt."""
        if why != self._why_down:
            self._why_down = why
            self._events.append(LinkDown(with_step(why)))

    def _drop_session(self, why: str, now: BootUs) -> None:
        self._up = False
        self._identity, self._nonce, self._tighten = None, 0, None
        self._try_at = now
        self._down(why)

    def _note(self, event: LinkEvent, now: BootUs) -> None:
        match event:
            case wire.Status():
                self._heard(event.device_time_us, now)
                if self._up:
                    self._status(event, now)
            case Answered(sequence, result):
                if sequence == self._tighten:
                    return  # LIMITS follows, and is what counts
                applied = result is wire.Result.APPLIED
                outcome = Outcome.APPLIED if applied else Outcome.REFUSED
                why = result.name.lower().replace("_", " ")
                self._events.append(CommandEnded(Ticket(sequence), outcome, why))
            case Unanswered(sequence):
                if sequence != self._tighten:
                    self._events.append(
                        CommandEnded(Ticket(sequence), Outcome.UNKNOWN, "no answer")
                    )
            case wire.Pulse():
                at = DeviceUs(event.device_time_us)
                self._events.append(
                    PulseSeen(
                        at=self._clock.host(at),
                        device_at=at,
                        pulse_count=event.pulse_count,
                        block_id=event.lease_id,
                        place=event.place,
                        mso_permille=event.mso_permille,
                        didt_a_per_us=event.didt_a_per_us,
                    )
                )
            case wire.LeaseEnd():
                self._events.append(
                    BlockEnded(
                        block_id=event.lease_id,
                        delivered=event.fired,
                        skipped=event.skipped,
                        why=CAUSES[event.cause],
                        pulse_count=event.pulse_count,
                        complete=event.cause == wire.Cause.COMPLETE,
                    )
                )
            case BadFrame(why) if self._up:
                self._events.append(LinkError(why))
            case wire.Identity():
                self._identify(event, now)
            case wire.Limits():
                self._limits(event, now)
            case _:
                pass  # FAULT says no more than the STATUS that follows it

    def _heard(self, device_time_us: int, now: BootUs) -> None:
        self._heard_at = now
        self._device_time = DeviceUs(device_time_us)

    def _identify(self, identity: wire.Identity, now: BootUs) -> None:
        self._heard(identity.device_time_us, now)
        if identity.protocol != wire.PROTOCOL_VERSION:
            self._nonce = 0
            self._down(
                f"wrong-version: the device speaks tmslink {identity.protocol}, "
                f"this driver {wire.PROTOCOL_VERSION}"
            )
            return
        if self._usb_serial is not None and (shown := self._usb_serial()) != identity.serial:
            self._nonce = 0
            self._down(f"usb-descriptors: USB shows the serial number {shown!a}, "
                       f"the device says {identity.serial!a}")  # fmt: skip
            return
        self._identity = identity
        self._clock = ClockEstimate()
        self._clock.observe(DeviceUs(identity.device_time_us), self._hello_at, now)
        self._tighten = None
        self._events.append(Disarmed())

    def _limits(self, limits: wire.Limits, now: BootUs) -> None:
        """After IDENTITY: tell the site's limits; once LIMITS shows them, the link is up."""
        if self._identity is None:
            return
        site = self._site
        wanted = wire.Tighten(
            mso_max_pct=min(site.mso_max_pct, limits.mso_max_pct),
            interval_min_us=max(site.interval_min_us, limits.interval_min_us),
            lease_pulses_max=min(site.block_pulses_max, limits.lease_pulses_max),
            lease_max_us=min(site.block_max_us, limits.lease_max_us),
            coil_max_dc=min(site.coil_max_dc, limits.coil_max_dc),
        )
        if tuple(wanted) != tuple(limits)[: len(wanted)]:
            if self._tighten is None:
                self._tighten = self._ask(wanted, now)
            return
        identity = self._identity
        self._nonce, self._up, self._why_down = 0, True, ""
        self._ear.known = True
        self._coil_type = identity.coil_type
        version = ".".join(str(part) for part in identity.firmware.to_bytes(4, "big"))
        self._events.append(
            LinkUp(
                Identity(
                    model=identity.model,
                    serial=identity.serial,
                    firmware=version,
                    boot_count=identity.boot_count,
                    coil_type=identity.coil_type,
                ),
                Envelope(
                    *limits[:-1],
                    recharge_us=tuple(limits.recharge_us_per_pct * pct for pct in range(101)),
                    block_rest_us=0,
                ),
            )
        )

    def _status(self, status: wire.Status, now: BootUs) -> None:
        (
            device_us, echo_host_us, echo_hold_us, _cycle, state, cause, mso_pct, charge_permille,
            coil_dc, surface_dc, pulse_count, lease_id, lease_fired, coil_type,
        ) = status  # fmt: skip
        made_after = BootUs(echo_host_us + echo_hold_us)
        self._clock.observe(DeviceUs(device_us), made_after, now)
        self._events.append(
            DeviceStatus(
                made_after,
                _STATES[state],
                CAUSES[cause],
                FAULTS.get(cause, "") if state == wire.State.LATCHED else "",
                mso_pct,
                charge_permille,
                coil_dc,
                surface_dc,
                pulse_count,
                lease_id,
                lease_fired,
                coil_type,
                BootUs(self._clock.host(DeviceUs(device_us)) + (self._clock.error_us or 0)),
            )
        )
