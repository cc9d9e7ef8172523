"""The device's states: arming, leases, pulses and everything that ends them.

What the host says arrives here as calls; what the device says leaves through a Sender.
"""

from __future__ import annotations

from typing import Final

from firmware_protocol.tmslink.messages import (
    ARMED_IDLE_US,
    Arm,
    Cause,
    Fault,
    LeaseEnd,
    Limits,
    Pulse,
    Result,
    State,
    Tighten,
)
from sim_device.device import Log
from sim_device.faults import Faults
from sim_device.leases import Lease, Situation, judge
from sim_device.settings import Settings
from sim_device.tmslink_sender import Sender
from sim_device.unit import Unit

LATE_MAX_US: Final = 1_000
"""A pulse that the processor comes to later than this is skipped."""

COIL_COOLER_DC: Final = 30
"""After COIL_HOT, ARM is refused until the surface is more than this below its limit."""

_ARMED: Final = frozenset({State.ARMING, State.READY, State.FIRING})


class Machine:
    """One armed or disarmed unit. `now` is the instant at which it acts; its owner moves it."""

    def __init__(self, settings: Settings, faults: Faults, log: Log, sender: Sender) -> None:
        self.now = settings.clock_us
        self.unit = Unit(settings, log)
        self.faults = faults
        self.limits = Limits(
            settings.mso_max_pct,
            settings.interval_min_us,
            settings.lease_pulses_max,
            settings.lease_max_us,
            settings.coil_max_dc,
            settings.recharge_us_per_pct,
        )
        self.pulse_count = settings.pulse_count
        self.clock_ppm = settings.drift_ppm
        self.state = State.IDLE
        self.cause = Cause.NONE
        self.status_owed = False
        self.mso = 0
        self.newest_lease = self.lease_fired = 0
        # What the newest session and its newest beat said.
        self.session = 0
        self.permit_us = self.state_hash = 0
        self._lease: Lease | None = None
        self._active_at = 0
        self._last_pulse_at: int | None = None
        self._was_hot = False
        self._log = log
        self._sender = sender

    def new_session(self, session: int) -> None:
        """Disarmed and unlatched; only limits and counters are left of the session before."""
        self.disarm(Cause.NEW_SESSION, State.IDLE)
        self.session = session
        self.permit_us = self.state_hash = 0
        self.newest_lease = self.lease_fired = 0
        self._log({"t_us": self.now, "event": "remote", "session": session})

    def next_event_us(self) -> int | None:
        """Next instant at which something happens by itself."""
        at = self.faults.next_us()
        if self.state in _ARMED:
            own_at = self._active_at + ARMED_IDLE_US
            if self.state is State.ARMING:
                own_at = min(own_at, self.unit.charged_at_us())
            elif self._lease is not None:
                own_at = min(own_at, self._lease.due_us())
            if at is None or own_at < at:
                at = own_at
        return at

    def happen(self, found_us: int) -> None:
        """Whatever is due at `now`; what disarms comes before what fires.

        `found_us` is when the processor came to it.
        """
        fault_at = self.faults.next_us()
        if fault_at is not None and self.now >= fault_at:
            self.faults_happen()
        if self.state not in _ARMED:
            return
        if self.now >= self._active_at + ARMED_IDLE_US:
            self.disarm(Cause.IDLE_TOO_LONG, State.IDLE)
        if self._lease is not None and self.now >= self._lease.due_us():
            self._pulse_due(self._lease, found_us)
        if self.state is State.ARMING and self.now >= self.unit.charged_at_us():
            self._enter(State.READY)
            self._log({"t_us": self.now, "event": "ready", "mso": self.mso})

    def _pulse_due(self, lease: Lease, found_us: int) -> None:
        late = found_us - lease.due_us() > LATE_MAX_US
        if not late:
            self.now = found_us
        if self.now > self.permit_us or self.now > lease.expires_us:
            self.trip(Cause.PERMIT_EXPIRED)
            return
        self.faults.pulses += 1
        if late or self.now < self.unit.charged_at_us():
            lease.skipped += 1
        elif self.faults.strikes("missing_pulse", self.now) is None:
            lease.fired += 1
            self.lease_fired = lease.fired
            bias = self.faults.strikes("intensity_bias", self.now)
            self._discharge(lease.kind, lease.lease_id, lease.place, bias or 0)
        lease.place += 1
        if lease.place == lease.pulses:
            self._end_lease(Cause.COMPLETE)
            self._enter(State.ARMING)  # until the capacitor is full again
        self.faults_happen()

    def _discharge(self, why: str, lease_id: int, place: int, bias_pct: int) -> None:
        now = self.now
        self.pulse_count = (self.pulse_count + 1) & 0xFFFF_FFFF
        seen = self.unit.discharge(
            now, why, bias_pct, lease=lease_id, session=self.session, count=self.pulse_count
        )
        self._last_pulse_at = self._active_at = now
        permille = min(0xFFFF, round(seen.mso_pct * 10))
        didt = min(0xFFFF, round(seen.didt_a_per_us))
        self._sender.send(Pulse(now, self.pulse_count, lease_id, place, permille, didt), now)
        if self.state is State.READY:
            self._enter(State.ARMING)

    def check_coil(self) -> None:
        surface_dc = round(self.unit.heat.at(self.now).surface_c * 10)
        self._was_hot &= surface_dc > self.limits.coil_max_dc - COIL_COOLER_DC
        if surface_dc >= self.limits.coil_max_dc:
            self._was_hot = True
            if self.state in _ARMED:
                self.trip(Cause.COIL_HOT)

    def faults_happen(self) -> None:
        for kind, value in self.faults.moments(self.now):
            self._log({"t_us": self.now, "event": "injected", "kind": kind, "value": value})
            match kind:
                case "garbage":
                    self._sender.noise(value)
                case "spontaneous_pulse":
                    if self.unit.capacitor.at(self.now) >= 1:  # an empty one gives no pulse
                        self._discharge("spontaneous", 0, 0, 0)
                case "coil_hot":
                    self.unit.jump_to(value, self.now)
                    self.check_coil()
                case "coil_absent":
                    self.unit.coil_type = 0
                    self.trip(Cause.COIL_ABSENT)
                case "disarms_itself":
                    self.trip(Cause.PANEL)
                case "clock_drift_ppm":
                    self.clock_ppm = value
                case _:
                    raise AssertionError(f"fault {kind} has no effect")

    def _enter(self, state: State) -> None:
        self.status_owed |= state is not self.state
        self.state = state

    def disarm(self, cause: Cause, into: State) -> None:
        """End the lease, bleed the capacitor and say why, if there was anything to end."""
        self._end_lease(cause)
        if self.state in _ARMED:
            self.unit.charge_to(0, self.now)
            self.cause = cause
            self._log({"t_us": self.now, "event": "disarm", "cause": cause.name})
        self.mso = 0
        self._enter(into)

    def trip(self, cause: Cause) -> None:
        """The device disarms itself and latches. The first cause is kept."""
        if self.state is State.LATCHED:
            return
        self.disarm(cause, State.LATCHED)
        self.cause = cause
        self._log({"t_us": self.now, "event": "fault", "cause": cause.name})
        self._sender.send(Fault(self.now, cause), self.now)

    def stop(self) -> None:
        self._log({"t_us": self.now, "event": "stop", "session": self.session})
        if self.state is not State.LATCHED:
            self.disarm(Cause.HOST_STOP, State.LATCHED)
            self.cause = Cause.HOST_STOP

    def _end_lease(self, cause: Cause) -> None:
        lease, self._lease = self._lease, None
        if lease is None:
            return
        ended = LeaseEnd(
            self.now, lease.lease_id, lease.fired, lease.skipped, cause, self.pulse_count
        )
        self._log(
            {
                "t_us": self.now,
                "event": "train_end",
                "lease": lease.lease_id,
                "fired": lease.fired,
                "skipped": lease.skipped,
                "cause": cause.name,
            }
        )
        self._sender.send(ended, self.now)

    def tighten(self, ask: Tighten) -> Result:
        if self.state is not State.IDLE:
            return Result.WRONG_STATE
        have = self.limits
        looser = (
            ask.mso_max_pct > have.mso_max_pct,
            ask.interval_min_us < have.interval_min_us,
            ask.lease_pulses_max > have.lease_pulses_max,
            ask.lease_max_us > have.lease_max_us,
            ask.coil_max_dc > have.coil_max_dc,
        )
        if any(looser):
            return Result.LOOSENS_LIMIT
        self.limits = Limits(*ask, have.recharge_us_per_pct)
        return Result.APPLIED

    def arm(self, ask: Arm) -> Result:
        if self.state is not State.IDLE:
            return Result.WRONG_STATE
        self.check_coil()
        refuses = self.faults.strikes("refuse_arm", self.now) is not None
        if self._was_hot or self.unit.coil_type == 0 or refuses:
            return Result.FAULT_PRESENT
        if ask.coil_type != self.unit.coil_type:
            return Result.WRONG_COIL
        if ask.mso_pct > self.limits.mso_max_pct:
            return Result.ABOVE_LIMIT
        self.mso = ask.mso_pct
        self._active_at = self.now
        self.unit.charge_to(ask.mso_pct, self.now)
        self._log({"t_us": self.now, "event": "arm", "mso": ask.mso_pct})
        self._enter(State.ARMING)
        return Result.APPLIED

    def start(self, lease: Lease) -> Result:
        here = Situation(
            self.now,
            self.state,
            self.mso,
            self.permit_us,
            self.newest_lease,
            self._last_pulse_at,
        )
        result = judge(lease, here, self.limits)
        if result is Result.APPLIED:
            self._lease = lease
            self.newest_lease = lease.lease_id
            self.lease_fired = 0
            self._log(
                {
                    "t_us": self.now,
                    "event": "train_start",
                    "lease": lease.lease_id,
                    "start_us": lease.start_us,
                    "pulses": lease.pulses,
                    "state_hash": self.state_hash,
                }
            )
            self._enter(State.FIRING)
        return result
