"""The tmslink messages, declared once. Encoder, decoder, trace text and docs/tmslink.md follow."""

from __future__ import annotations

import enum
import struct
from typing import Annotated, Final, NamedTuple

from firmware_protocol.table import (
    I16,
    U8,
    U16,
    U32,
    U64,
    Direction,
    Effect,
    Table,
    message,
    text,
)

PROTOCOL_VERSION: Final = 1

# One frame on the wire, before byte stuffing: code, session, sequence, payload, CRC-32.
HEADER: Final = "<BII"
HEADER_SIZE: Final = 9
CRC_SIZE: Final = 4
PAYLOAD_SIZE_MAX: Final = 48
BODY_SIZE_MAX: Final = HEADER_SIZE + PAYLOAD_SIZE_MAX + CRC_SIZE
FRAME_SIZE_MAX: Final = BODY_SIZE_MAX + 3  # one stuffing byte and a delimiter at either end
DELIMITER: Final = b"\0"

# STOP that needs no framing: a run of eight CAN bytes anywhere in the stream. A host sends 32, so
# that any three of them may be lost or spoilt.
STOP_BYTE: Final = 0x18
STOP_RUN: Final = 8
STOP_BYTES: Final = bytes([STOP_BYTE]) * 32

# Times fixed by the protocol, in microseconds. They are not settings.
DEAD_MAN_US: Final = 50_000
ECHO_AGE_MAX_US: Final = 40_000
STATUS_PERIOD_US: Final = 20_000
BEAT_PERIOD_US: Final = 10_000
LEAD_MIN_US: Final = 30_000
ARMED_IDLE_US: Final = 60_000_000

MSO = U8.within(0, 100)


class State(enum.IntEnum):
    """What the device says about itself."""

    IDLE = 0  # disarmed
    ARMING = 1  # armed, capacitor not yet at the set intensity
    READY = 2  # armed and charged
    FIRING = 3  # a lease runs
    LATCHED = 4  # disarmed by a cause; only a new HELLO leaves it


class Cause(enum.IntEnum):
    """Why the device disarmed or ended a lease."""

    NONE = 0
    HOST_DISARM = 1
    HOST_STOP = 2
    DEAD_MAN = 3
    NEW_SESSION = 4
    COIL_HOT = 5
    COIL_ABSENT = 6
    CHARGER = 7
    IDLE_TOO_LONG = 8
    PERMIT_EXPIRED = 9
    COMPLETE = 10
    PANEL = 11  # a person at the device's own controls


class Result(enum.IntEnum):
    """How the device answered a command. APPLIED is the only yes."""

    APPLIED = 0
    WRONG_STATE = 1
    ABOVE_LIMIT = 2
    TOO_LATE = 3
    EXPIRED = 4
    NOT_CHARGED = 5
    WRONG_COIL = 6
    FAULT_PRESENT = 7
    LOOSENS_LIMIT = 8
    BAD_VALUE = 9
    WRONG_VERSION = 10
    LEASE_NOT_NEW = 11
    NO_PERMIT = 12


TIME_US: Final = U64.within(0, 1 << 62)
"""Of a device's clock: 146,000 years. The difference to any other clock fits in 64 bits too, and
all ones, which firmware may write for "unknown", is no time."""

_OUT, _IN = Direction.TO_DEVICE, Direction.TO_HOST


@message(0x01, _OUT, Effect.MAKE_SAFE)
class Hello(NamedTuple):
    """Opens a session: the device disarms, leaves LATCHED, draws a new random session id and
    answers IDENTITY and LIMITS.
    """

    protocol: Annotated[int, U16, "version of this specification that the host speaks"]
    nonce: Annotated[int, U32, "random; echoed, so that an old answer is not taken for a new one"]
    host_time_us: Annotated[int, U64, "the host's clock"]


@message(0x02, _OUT, Effect.READ)
class Tighten(NamedTuple):
    """Narrows the device's limits until its next reboot. A looser value refuses the whole
    message with LOOSENS_LIMIT. Answer: ACK, then LIMITS.
    """

    mso_max_pct: Annotated[int, MSO, "ceiling, %MSO"]
    interval_min_us: Annotated[int, U32, "shortest time from pulse to pulse"]
    lease_pulses_max: Annotated[int, U16, "most pulses in one lease"]
    lease_max_us: Annotated[int, U32, "longest lease"]
    coil_max_dc: Annotated[int, I16, "coil surface temperature that disarms, 0.1 degree C"]


@message(0x03, _OUT, Effect.ENERGISE)
class Arm(NamedTuple):
    """Charges to the given intensity and arms. Allowed in IDLE only. Answer: ACK at once; STATUS
    shows ARMING, then READY.
    """

    mso_pct: Annotated[int, MSO, "intensity of all that follows, %MSO"]
    coil_type: Annotated[int, U16, "coil that the plan was made for; another one refuses"]


@message(0x04, _OUT, Effect.MAKE_SAFE)
class Disarm(NamedTuple):
    """Ends a running lease at once, disarms and bleeds the capacitor. Does not latch. Answer:
    LEASE_END if a lease ran, then ACK.
    """


@message(0x05, _OUT, Effect.ENERGISE)
class Train(NamedTuple):
    """Leases one train, or a part of one: bursts of equal pulses, timed by the device. One lease
    at a time; lease ids rise.
    """

    lease_id: Annotated[int, U32, "greater than every lease id of this session"]
    start_us: Annotated[int, U64, "device time of the first pulse, at least 30 ms ahead"]
    expires_us: Annotated[int, U64, "device time after which no pulse of this lease may leave"]
    bursts: Annotated[int, U16, "number of bursts"]
    burst_period_us: Annotated[int, U32, "first pulse of a burst to first pulse of the next"]
    pulses_per_burst: Annotated[int, U8, "1 for a plain train"]
    interval_us: Annotated[int, U32, "pulse to pulse inside a burst; 0 for a plain train"]
    mso_pct: Annotated[int, MSO, "must equal the armed intensity, %MSO"]


@message(0x06, _OUT, Effect.ENERGISE)
class Fire(NamedTuple):
    """Leases one single pulse. Same rules as TRAIN, except that start_us may lie in the past:
    then it fires at once, or refuses with EXPIRED.
    """

    lease_id: Annotated[int, U32, "greater than every lease id of this session"]
    start_us: Annotated[int, U64, "device time before which it must not fire"]
    expires_us: Annotated[int, U64, "device time after which it must not fire"]
    mso_pct: Annotated[int, MSO, "must equal the armed intensity, %MSO"]


@message(0x07, _OUT, Effect.MAKE_SAFE)
class Stop(NamedTuple):
    """Ends everything and latches. Accepted with any session and any sequence number. Answer:
    ACK. The unframed STOP does the same.
    """


@message(0x08, _OUT, Effect.SUSTAIN)
class Beat(NamedTuple):
    """Proof that one cycle of the host's interlocks completed. Accepted only if the cycle is
    greater than the last one, and the echo is at most 40 ms old. 50 ms without an accepted beat
    disarm and latch: dead-man.
    """

    cycle: Annotated[int, U32, "counts the host's completed cycles"]
    host_time_us: Annotated[int, U64, "the host's clock"]
    device_time_us: Annotated[
        int, U64, "device time of the newest STATUS or IDENTITY that the host has"
    ]
    permit_us: Annotated[int, U64, "device time until which pulses may leave; 0 permits none"]
    state_hash: Annotated[int, U16, "low 16 bits of the host's hash over plan and limits; logged"]


@message(0x41, _IN, Effect.READ)
class Identity(NamedTuple):
    """Answer to HELLO; its header carries the new session id."""

    protocol: Annotated[int, U16, "version of this specification that the device speaks"]
    nonce: Annotated[int, U32, "of the HELLO"]
    device_time_us: Annotated[int, TIME_US, "the device's clock"]
    serial: Annotated[str, text(8), "serial number; also the seed of the checksum, see Frames"]
    model: Annotated[str, text(12), "model name"]
    firmware: Annotated[int, U32, "version, one byte each: major, minor, patch, build"]
    boot_count: Annotated[
        int, U32, "number of power-ups; with the serial it names one life of the counter"
    ]
    coil_type: Annotated[int, U16, "type of the connected coil; 0 when none"]


@message(0x42, _IN, Effect.READ)
class Limits(NamedTuple):
    """The limits in force. Sent after IDENTITY and after every TIGHTEN."""

    mso_max_pct: Annotated[int, MSO, "ceiling, %MSO"]
    interval_min_us: Annotated[int, U32, "shortest time from pulse to pulse"]
    lease_pulses_max: Annotated[int, U16, "most pulses in one lease"]
    lease_max_us: Annotated[int, U32, "longest lease"]
    coil_max_dc: Annotated[int, I16, "coil surface temperature that disarms, 0.1 degree C"]
    recharge_us_per_pct: Annotated[int, U16, "recharge time after a pulse, for each % of MSO"]


@message(0x43, _IN, Effect.READ)
class Ack(NamedTuple):
    """Answer to one command, named by its sequence number."""

    of_sequence: Annotated[int, U32, "sequence number of the command"]
    of_code: Annotated[int, U8, "message code of the command"]
    result: Annotated[int, U8.within(0, max(Result)), "see Results"]


@message(0x44, _IN, Effect.READ)
class Status(NamedTuple):
    """Every 20 ms while a session is open, and at once after each change of state."""

    device_time_us: Annotated[int, TIME_US, "the device's clock as this frame is made"]
    echo_host_us: Annotated[int, U64, "host_time_us of the newest accepted HELLO or BEAT"]
    echo_hold_us: Annotated[int, U32, "device time since that message arrived"]
    echo_cycle: Annotated[int, U32, "cycle of the newest accepted BEAT; 0 before the first"]
    state: Annotated[int, U8.within(0, max(State)), "see States"]
    cause: Annotated[int, U8.within(0, max(Cause)), "why it last disarmed, see Causes"]
    mso_pct: Annotated[int, MSO, "set intensity, %MSO; 0 while disarmed"]
    charge_permille: Annotated[int, U16, "capacitor voltage, permille of full output"]
    coil_dc: Annotated[int, I16, "coil winding temperature, 0.1 degree C"]
    surface_dc: Annotated[int, I16, "coil surface temperature, 0.1 degree C"]
    pulse_count: Annotated[int, U32, "pulses since manufacture"]
    lease_id: Annotated[int, U32, "newest lease; 0 before the first"]
    lease_fired: Annotated[int, U16, "pulses of that lease that have left"]
    coil_type: Annotated[int, U16, "type of the connected coil; 0 when none"]


@message(0x45, _IN, Effect.READ)
class Pulse(NamedTuple):
    """One pulse has left the coil."""

    device_time_us: Annotated[int, TIME_US, "instant of the discharge"]
    pulse_count: Annotated[int, U32, "counter after this pulse"]
    lease_id: Annotated[int, U32, "lease that it belongs to; 0 when none"]
    place: Annotated[int, U16, "place in the lease, from 0; a skipped pulse keeps its place"]
    mso_permille: Annotated[int, U16, "realised intensity, permille of MSO"]
    didt_a_per_us: Annotated[int, U16, "realised coil current slope"]


@message(0x46, _IN, Effect.READ)
class LeaseEnd(NamedTuple):
    """A lease is over. fired + skipped < its pulses when it was cut short."""

    device_time_us: Annotated[int, TIME_US, "the device's clock"]
    lease_id: Annotated[int, U32, "the lease"]
    fired: Annotated[int, U16, "pulses that left"]
    skipped: Annotated[int, U16, "pulses that could not leave in time; never made up"]
    cause: Annotated[int, U8.within(0, max(Cause)), "COMPLETE, or what cut it short"]
    pulse_count: Annotated[int, U32, "counter now"]


@message(0x47, _IN, Effect.READ)
class Fault(NamedTuple):
    """The device disarmed itself and latched."""

    device_time_us: Annotated[int, TIME_US, "the device's clock"]
    cause: Annotated[int, U8.within(0, max(Cause)), "see Causes"]


TABLE: Final = Table(
    (
        Hello, Tighten, Arm, Disarm, Train, Fire, Stop, Beat,
        Identity, Limits, Ack, Status, Pulse, LeaseEnd, Fault,
    )
)  # fmt: skip

CONTENT: Final = {
    spec.make: struct.Struct(HEADER + spec.layout.format.removeprefix("<")) for spec in TABLE.specs
}
"""Header and payload of each message as one layout."""

PLAIN_SEED: Final = frozenset({0x01, 0x07, 0x41})
"""Codes whose checksum is not seeded with the serial number: HELLO, STOP and IDENTITY."""

AnyMessage = (
    Hello | Tighten | Arm | Disarm | Train | Fire | Stop | Beat
    | Identity | Limits | Ack | Status | Pulse | LeaseEnd | Fault
)  # fmt: skip
