"""The port that every stimulator driver implements, and the only driver module that safety sees."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, NewType, Protocol, final

from drivers._seal import SEAL as _SEAL
from firmware_protocol.quantities import BootUs, DeviceUs, PercentMso

Ticket = NewType("Ticket", int)
"""Names one command until its `CommandEnded` comes."""


class StopClass(enum.Enum):
    """What the device does when its host falls silent; decides what may be promised."""

    NATIVE_LEASE = "N"  # disarms by itself within 50 ms
    KEEP_ALIVE = "K"  # disarms by itself within about 1 s
    NONE = "V"  # carries on


AT_RISK: Final = {
    StopClass.NATIVE_LEASE: "pulses of 50 ms: 1 at 20 Hz, 5 at 100 Hz",
    StopClass.KEEP_ALIVE: "pulses of 1 s, and the rest of the train that it times, at most 0.95 s",
    StopClass.NONE: "one trigger that was under way; but it stays charged until a person acts",
}
"""What can still leave the coil when all of tmsctl fails at once. It is assumed that a unit does
not end its own train when it is disarmed. No driver hands more to a device of the last class."""


class Maturity(enum.IntEnum):
    BROKEN = 0  # cannot be started
    EXPERIMENTAL = 1  # emulator only
    BENCH = 2  # conformance suite run on hardware; no patient use
    VERIFIED = 3


@dataclass(frozen=True, slots=True)
class DriverInfo:
    """What a driver states about itself."""

    name: str
    stop_class: StopClass
    maturity: Maturity
    verified_on: str  # firmware and date of the hardware runs; empty below BENCH
    lease_max_us: int  # longest pulse block handed to the device at once
    lead_us: int  # a block must reach the driver this long before its first pulse
    hello_after_us: int  # a connect attempt is repeated this often
    connect_within_us: int  # from the open port to LinkUp, or to LinkDown with the cause
    status_age_us: int  # how old its newest status may get; the rule `status-age` holds it to that
    dead_man_us: int | None  # from the host's last word to disarmed; None: it carries on
    coil_step_dc: int  # smallest change that its coil thermometer tells, 0.1 degree C
    checks_frames: bool  # may the self-test send it a damaged frame, to see that it is ignored


class Outcome(enum.Enum):
    """How a command that changes the device ended. There is no fourth answer."""

    APPLIED = "applied"
    REFUSED = "refused"
    UNKNOWN = "unknown"  # sent, no answer: it may or may not have taken effect


class DeviceState(enum.IntEnum):
    """What the device says about itself, in the terms of every family."""

    IDLE = 0  # disarmed
    ARMING = 1  # armed, not yet charged
    READY = 2  # armed and charged
    FIRING = 3  # a block runs
    LATCHED = 4  # disarmed by a cause of its own


class Identity(NamedTuple):
    """Who is on the line. `serial` and `boot_count` name one life of the pulse counter."""

    model: str
    serial: str
    firmware: str
    boot_count: int
    coil_type: int


class Envelope(NamedTuple):
    """Layer (a) of the limits: what the device and its coil can do. Never exceeded."""

    mso_max_pct: int
    interval_min_us: int
    block_pulses_max: int
    block_max_us: int  # first pulse to last; 0: one burst, or one pulse, at a time
    coil_max_dc: int
    recharge_us: tuple[int, ...]  # from pulse to pulse at 0, 1, ... 100 %MSO
    block_rest_us: int  # from the last pulse of a block to the first of the next one

    def within(self, site: Envelope) -> Envelope:
        """What both allow."""
        return self._replace(
            mso_max_pct=min(self.mso_max_pct, site.mso_max_pct),
            interval_min_us=max(self.interval_min_us, site.interval_min_us),
            block_pulses_max=min(self.block_pulses_max, site.block_pulses_max),
            block_max_us=min(self.block_max_us, site.block_max_us),
            coil_max_dc=min(self.coil_max_dc, site.coil_max_dc),
        )


class LinkUp(NamedTuple):
    """A device answered. It is disarmed."""

    identity: Identity
    envelope: Envelope


class LinkDown(NamedTuple):
    """The port or the device is gone."""

    why: str


class Disarmed(NamedTuple):
    """The device has opened a new session for us, which disarms it, whatever it was before.

    It comes before LinkUp. Without it, a device that was armed when the link fell counts as armed.
    """


class LinkError(NamedTuple):
    """A frame of the device came damaged, came again, or never came. Told while the link is up."""

    why: str  # KIND: what; a kind is garbage, checksum, content, lost or repeated


class DeviceStatus(NamedTuple):
    """What the device last said. Its age counts from when we asked, so delay makes it older."""

    asked_at: BootUs
    state: DeviceState
    cause: str  # why it last disarmed, in words; empty when it did not
    fault: str  # the same, but only where neither a command of ours nor our silence was the cause
    mso_pct: int
    charge_permille: int
    coil_dc: int
    surface_dc: int
    pulse_count: int
    block_id: int
    block_fired: int
    coil_type: int
    made_by: BootUs = BootUs(0)  # it was made no later, by the device's clock; 0: not known


class PulseSeen(NamedTuple):
    """One pulse has left the coil."""

    at: BootUs
    device_at: DeviceUs
    pulse_count: int
    block_id: int
    place: int
    mso_permille: int  # what it is set to, where the device does not tell what it delivered
    didt_a_per_us: int  # 0: the device does not tell


class BlockEnded(NamedTuple):
    """A block is over."""

    block_id: int
    delivered: int
    skipped: int  # were due and left out, in time order before the end; never made up
    why: str
    pulse_count: int
    complete: bool  # every place of it has passed: what was not delivered is missing
    unsure: int = 0  # were not seen, on a line that may tell what is old: they count as delivered


class CommandEnded(NamedTuple):
    """The end of one command, said exactly once."""

    ticket: Ticket
    outcome: Outcome
    why: str


DriverEvent = (
    Disarmed | LinkUp | LinkDown | LinkError | DeviceStatus | PulseSeen | BlockEnded | CommandEnded
)


@dataclass(frozen=True, slots=True)
class PulseBlock:
    """What one permit allows: equal bursts of equal pulses, timed by the device."""

    block_id: int
    mso: PercentMso
    bursts: int
    burst_period_us: int
    pulses_per_burst: int
    interval_us: int  # pulse to pulse inside a burst; 0 for one pulse a burst

    def __post_init__(self) -> None:
        if self.bursts < 1 or self.pulses_per_burst < 1:
            raise ValueError("a block has at least one pulse")

    @property
    def pulses(self) -> int:
        return self.bursts * self.pulses_per_burst

    @property
    def span_us(self) -> int:
        """First pulse to last pulse."""
        return self.offset_us(self.pulses - 1)

    def offset_us(self, index: int) -> int:
        """First pulse to pulse `index`."""
        burst, place = divmod(index, self.pulses_per_burst)
        return burst * self.burst_period_us + place * self.interval_us

    def times_us(self, start_us: int) -> list[int]:
        """Every pulse, when the first one leaves at `start_us`."""
        bursts = [start_us + burst * self.burst_period_us for burst in range(self.bursts)]
        in_burst = [place * self.interval_us for place in range(self.pulses_per_burst)]
        return [begun + later for begun in bursts for later in in_burst]


@final
class Permit:
    """The right to fire one block once. Only `tmsctl.safety.permit` mints these."""

    __slots__ = ("_spent", "block", "expires_at", "start_at", "use_before")

    def __init__(
        self,
        seal: object,
        *,
        block: PulseBlock,
        start_at: BootUs,
        expires_at: BootUs,
        use_before: BootUs,
    ) -> None:
        if seal is not _SEAL:
            raise PermissionError("a permit was minted outside tmsctl.safety.permit")
        self.block = block
        self.start_at = start_at  # first pulse
        self.expires_at = expires_at  # no pulse after this
        self.use_before = use_before  # the command must be sent before this
        self._spent = False

    def spend(self, now: BootUs) -> None:
        """Every driver calls this before it sends. PermissionError means a defect of ours."""
        if self._spent:
            raise PermissionError(f"block {self.block.block_id}: permit already spent")
        if now >= self.use_before:
            raise PermissionError(f"block {self.block.block_id}: permit is too old")
        self._spent = True


class Shape(NamedTuple):
    """What one trigger gives: a pulse, or a burst of equal pulses."""

    pulses: int
    interval_us: int  # pulse to pulse; 0 for one pulse


SINGLE: Final = Shape(1, 0)


class Transport(Protocol):
    """A byte stream that never blocks. OSError means that it is gone."""

    def read(self) -> bytes:
        """All that has arrived; empty when nothing has."""

    def write(self, data: bytes) -> bool:
        """True when every byte was taken; False when the line is blocked and some were not."""

    def stop(self) -> bool:
        """STOP by a way of the transport's own, beside the bytes; False where it has none.

        It never blocks. A loss shows in the next `read`.
        """

    def fileno(self) -> int:
        """For poll(); -1 when there is none."""

    def close(self) -> None:
        """At once; what was accepted before goes out as far as it can within a bounded time."""


class Stimulator(Protocol):
    """One device. No method blocks; answers come as events of `poll`."""

    info: DriverInfo

    @property
    def wake_at(self) -> BootUs | None:
        """When `poll` has to send, however quiet the line: the trigger of a pulse."""

    def fileno(self) -> int:
        """Readable when `poll` has something to do; -1 while the port is closed."""

    def poll(self, now: BootUs) -> Sequence[DriverEvent]:
        """What has happened since the last call. While no device answers it looks for one."""

    def beat(self, cycle: int, now: BootUs, permit_until: BootUs) -> None:
        """Last act of a completed cycle: keeps the link and, until `permit_until`, pulses alive.

        Not calling it is the dead-man.
        """

    def arm(self, mso: PercentMso, shape: Shape, now: BootUs) -> Ticket:
        """Charge and arm. `shape`: of the blocks to come, for devices that are set to it before."""

    def disarm(self, now: BootUs) -> None:
        """End a running block and disarm, without a latch. Repeated until the status shows it."""

    def fire(self, permit: Permit, now: BootUs) -> Ticket:
        """Hand one block to the device. Never repeated, whatever the answer."""

    def refuses(self, block: PulseBlock) -> str:
        """Why this device never takes such a block, in one clause; empty when it can."""

    def stop(self, now: BootUs) -> None:
        """By every means of the device: no more pulses. Repeated until the status shows it."""

    def acknowledge(self, now: BootUs) -> None:
        """A person has seen why it stopped: leave the device's own latch. It stays disarmed."""

    def probe_bad_frame(self, now: BootUs) -> None:
        """For the self-test: send one frame that would arm, but with a wrong checksum.

        A device that works as it should does nothing. Never called unless `info.checks_frames`.
        """

    def close(self) -> None:
        """Release the port."""
