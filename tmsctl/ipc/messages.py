"""What tmsd and tms-guard say to each other: one message a datagram of a SEQPACKET socket.

The guard listens on RUNTIME/guard.sock and serves one client. Both sides send `Welcome` first; a
layout that differs ends the connection.
"""

from __future__ import annotations

import enum
import zlib
from typing import Annotated, Final, NamedTuple

from firmware_protocol.table import (
    I16,
    I64,
    U8,
    U16,
    U32,
    U64,
    Direction,
    Effect,
    Table,
    message,
    pack,
    text,
)

_TO_GUARD, _TO_SERVICE = Direction.TO_DEVICE, Direction.TO_HOST


class GuardState(enum.IntEnum):
    """The guard's state machine, see tmsctl.safety.machine."""

    SAFE = 0  # latched: nothing leaves until a person acknowledges
    IDLE = 1  # disarmed
    ARMING = 2  # the device was told to arm and has not yet shown READY
    ARMED = 3  # pulses of the plan may leave


class Session(enum.IntEnum):
    """What the guard is doing with its loaded plan."""

    NONE = 0  # no plan loaded
    LOADED = 1  # at its start or paused; position kept
    RUNNING = 2
    COMPLETE = 3


class SelfTestState(enum.IntEnum):
    """Of the running guard, on the device as it was last switched on."""

    NONE = 0
    PASSED = 1
    RUNNING = 2
    FAILED = 3


@message(0x01, _TO_GUARD, Effect.READ)
class Welcome(NamedTuple):
    """First message in both directions."""

    layout: Annotated[int, U32, "LAYOUT: checksum over all messages of this table"]
    pid: Annotated[int, U32, "process id of the sender"]
    settings: Annotated[int, U32, "`settings_mark` of the configuration file it was started with"]


@message(0x02, _TO_GUARD, Effect.SUSTAIN)
class Alive(NamedTuple):
    """Sent by tmsd every 200 ms; 1 s without one trips."""


@message(0x03, _TO_GUARD, Effect.READ)
class Load(NamedTuple):
    """The confirmed prescription. The guard compiles the plan itself and compares the hash."""

    session_no: Annotated[int, U32, "journal number of the session"]
    protocol: Annotated[str, text(32), "id in the protocol library"]
    mt_permille: Annotated[int, U16.within(1, 1000), "motor threshold, permille of MSO"]
    pct_mt: Annotated[int, U16.within(1, 200), "intensity, % of motor threshold"]
    reduced: Annotated[
        int, U8.within(0, 1), "1: a person accepted less than prescribed, see Prescription"
    ]
    plan_hash: Annotated[str, text(64), "of the plan that was confirmed, hexadecimal SHA-256"]
    first_pulse: Annotated[int, U32, "place in the plan of the next pulse to deliver"]
    by_emg: Annotated[
        int, U8.within(0, 1), "1: the motor threshold was measured by EMG; 0: by eye, or unknown"
    ]
    soft_accepted: Annotated[
        int, U8.within(0, 1), "1: a person exceeds soft limits, and the reason is on record"
    ]
    day_pulses: Annotated[int, U32, "that count for this patient in the 24 h before"]
    week_pulses: Annotated[int, U32, "that count for this patient in the 7 days before"]
    count_low: Annotated[int, U32, "least reading of the device's counter that fits the ledger"]
    count_high: Annotated[int, U32, "greatest one; unknown outcomes make it more than the least"]


@message(0x04, _TO_GUARD, Effect.ENERGISE)
class Run(NamedTuple):
    """Arm, and deliver the loaded plan from its position."""

    session_no: Annotated[int, U32, "of the loaded session"]
    plan_hash: Annotated[str, text(64), "of the plan that the person confirmed just now"]
    confirmed_us: Annotated[int, U64, "CLOCK_BOOTTIME of that confirmation"]


@message(0x05, _TO_GUARD, Effect.ENERGISE)
class Grant(NamedTuple):
    """The intent for these pulses is on disk."""

    session_no: Annotated[int, U32, "of the loaded session"]
    block_id: Annotated[int, U32, "as asked by Want"]
    first_pulse: Annotated[int, U32, "as asked by Want"]
    pulses: Annotated[int, U32, "as asked by Want"]


@message(0x06, _TO_GUARD, Effect.MAKE_SAFE)
class Pause(NamedTuple):
    """No more pulses, disarm, keep the position."""

    session_no: Annotated[int, U32, "of the loaded session"]


@message(0x07, _TO_GUARD, Effect.MAKE_SAFE)
class Unload(NamedTuple):
    """No more pulses, disarm, forget the plan."""


@message(0x08, _TO_GUARD, Effect.READ)
class Acknowledge(NamedTuple):
    """A person has seen why the guard is in SAFE; refused when there is a newer cause."""

    cycle: Annotated[int, U64, "of the newest snapshot that was known then"]


@message(0x09, _TO_GUARD, Effect.READ)
class Recorded(NamedTuple):
    """The outcome of this block is on disk; the guard need not repeat it."""

    session_no: Annotated[int, U32, "of the block"]
    block_id: Annotated[int, U32, "of the block"]


@message(0x0A, _TO_GUARD, Effect.SUSTAIN)
class Present(NamedTuple):
    """The operator has shown that somebody is there: a key, a pedal."""

    at_us: Annotated[int, U64, "CLOCK_BOOTTIME of that sign"]


@message(0x0B, _TO_GUARD, Effect.ENERGISE)
class SelfTest(NamedTuple):
    """Prove the barriers on the disarmed device: it is armed at 1 %MSO, and no pulse leaves."""


@message(0x0C, _TO_GUARD, Effect.MAKE_SAFE)
class Fail(NamedTuple):
    """tmsd can no longer keep the ledger: SAFE, at once."""

    code: Annotated[str, text(32), "stable id, for example journal-failed"]
    detail: Annotated[str, text(160), "one sentence"]


@message(0x0D, _TO_GUARD, Effect.READ)
class ReadInterlocks(NamedTuple):
    """Asks for one `Interlock` for each rule."""


@message(0x41, _TO_SERVICE, Effect.READ)
class Snapshot(NamedTuple):
    """Every 50 ms, and at once after every transition."""

    cycle: Annotated[int, U64, "completed cycles"]
    boot_us: Annotated[int, U64, "CLOCK_BOOTTIME"]
    state: Annotated[int, U8, "GuardState"]
    session: Annotated[int, U8, "Session"]
    session_no: Annotated[int, U32, "of the loaded session, 0 when none"]
    position: Annotated[int, U32, "place in the plan of the next pulse"]
    planned: Annotated[int, U32, "pulses of the plan"]
    delivered: Annotated[int, U32, "pulses delivered since the plan was loaded"]
    skipped: Annotated[int, U32, "pulses skipped since the plan was loaded"]
    train: Annotated[int, U16, "train of the next pulse, from 1"]
    trains: Annotated[int, U16, "trains of the plan"]
    next_in_us: Annotated[int, I64, "until the next train begins; 0 while one runs; -1 unknown"]
    left_us: Annotated[int, I64, "until the last pulse, without pauses; -1 when no plan"]
    waiting: Annotated[
        str, text(120), "CODE: why the next block is held back; empty when it is not"
    ]
    mso_pct: Annotated[int, U8, "planned intensity, %MSO"]
    realised_permille: Annotated[int, U16, "realised intensity of the last pulse, permille of MSO"]
    connected: Annotated[int, U8, "1 when a device answers"]
    device_state: Annotated[int, U8, "DeviceState"]
    status_age_us: Annotated[int, I64, "age of the newest device status; -1 when none"]
    charge_permille: Annotated[int, U16, "capacitor voltage, permille of full output"]
    coil_dc: Annotated[int, I16, "winding, 0.1 degree C"]
    surface_dc: Annotated[int, I16, "surface, 0.1 degree C"]
    pulse_count: Annotated[int, U32, "device's counter"]
    overruns: Annotated[int, U32, "cycles more than 5 ms late"]
    late_max_us: Annotated[int, U32, "latest cycle start so far"]
    model: Annotated[str, text(12), "device model"]
    serial: Annotated[str, text(8), "device serial number"]
    boot_count: Annotated[int, U32, "device power-ups"]
    link: Annotated[str, text(200), "empty while connected, else CODE: why not; what to do"]
    presence_age_us: Annotated[int, I64, "since the operator's last sign; -1 when there was none"]
    self_test: Annotated[int, U8, "SelfTestState, of this guard on this life of the device"]
    self_test_age_us: Annotated[int, I64, "since it passed; -1 when it has not"]
    timing: Annotated[
        str, text(96), "real-time measures: fifo=on mlock=on gc=frozen cpu=1, or degraded and why"
    ]


@message(0x42, _TO_SERVICE, Effect.READ)
class Transition(NamedTuple):
    """The guard changed state. One message for each cause, the first cause first."""

    boot_us: Annotated[int, U64, "CLOCK_BOOTTIME"]
    before: Annotated[int, U8, "GuardState"]
    after: Annotated[int, U8, "GuardState"]
    code: Annotated[str, text(32), "stable id of the cause: an interlock or an operator's act"]
    detail: Annotated[str, text(160), "one sentence with the numbers compared"]


@message(0x43, _TO_SERVICE, Effect.READ)
class Refused(NamedTuple):
    """A message of tmsd was not carried out."""

    of_code: Annotated[int, U8, "message code"]
    code: Annotated[str, text(32), "stable id of the reason"]
    detail: Annotated[str, text(160), "one sentence, with what to do next"]


@message(0x44, _TO_SERVICE, Effect.READ)
class Want(NamedTuple):
    """The next block needs a durable intent before it can be fired."""

    session_no: Annotated[int, U32, "of the loaded session"]
    block_id: Annotated[int, U32, "rises in the life of the guard; names the block everywhere"]
    first_pulse: Annotated[int, U32, "place in the plan"]
    pulses: Annotated[int, U32, "number of pulses"]
    pulse_count: Annotated[int, U32, "device's counter now"]


@message(0x45, _TO_SERVICE, Effect.READ)
class BlockOutcome(NamedTuple):
    """How a granted block ended. Repeated every second until `Recorded` comes."""

    session_no: Annotated[int, U32, "of the session"]
    block_id: Annotated[int, U32, "rises in the life of the guard"]
    first_pulse: Annotated[int, U32, "place in the plan"]
    pulses: Annotated[int, U32, "pulses that were granted"]
    delivered: Annotated[int, U32, "pulses that left the coil, by the device's own counter"]
    skipped: Annotated[int, U32, "pulses skipped because they were late"]
    outcome: Annotated[
        int,
        U8.within(0, 2),
        "0 applied, 1 refused or never sent, 2 unknown: count all as delivered",
    ]
    pulse_count: Annotated[int, U32, "device's counter after the block; 0 when unknown"]
    why: Annotated[str, text(80), "what ended it"]


@message(0x46, _TO_SERVICE, Effect.READ)
class PulseRecord(NamedTuple):
    """One delivered pulse."""

    session_no: Annotated[int, U32, "of the session, 0 when none asked for it"]
    place: Annotated[int, U32, "place in the plan"]
    boot_us: Annotated[int, U64, "instant on the host's clock"]
    device_us: Annotated[int, U64, "instant on the device's clock"]
    mso_permille: Annotated[int, U16, "realised intensity, permille of MSO"]
    pulse_count: Annotated[int, U32, "device's counter after it"]
    surface_dc: Annotated[int, I16, "coil surface, 0.1 degree C"]


@message(0x47, _TO_SERVICE, Effect.READ)
class SelfTested(NamedTuple):
    """How a self-test ended. No proof may be 0; 2: this device has no such barrier."""

    boot_us: Annotated[int, U64, "CLOCK_BOOTTIME"]
    dead_man: Annotated[int, U8, "1: without beats the device disarmed by itself, and in time"]
    stop: Annotated[int, U8, "1: STOP disarmed and latched the device"]
    bad_frame: Annotated[int, U8, "1: the device did not act on a frame with a wrong checksum"]
    detail: Annotated[str, text(160), "one sentence with what was measured, or why it failed"]


@message(0x48, _TO_SERVICE, Effect.READ)
class Interlock(NamedTuple):
    """One rule at present, for people."""

    code: Annotated[str, text(32), "of the rule"]
    table: Annotated[str, text(8), "watch, gate or arm"]
    known: Annotated[int, U8, "1: `value` is known"]
    value: Annotated[int, I64, "in the unit of its limit"]
    limit: Annotated[int, I64, "in force; -1 where the rule compares with no limit of the table"]
    says: Annotated[str, text(160), "why it acts at present; empty when it permits"]


TABLE: Final = Table(
    (
        Welcome, Alive, Load, Run, Grant, Pause, Unload, Acknowledge, Recorded,
        Present, SelfTest, Fail, ReadInterlocks,
        Snapshot, Transition, Refused, Want, BlockOutcome, PulseRecord, SelfTested, Interlock,
    )
)  # fmt: skip

LAYOUT: Final = zlib.crc32(repr([(s.name, s.code, s.fields) for s in TABLE.specs]).encode())
"""Differs when any message of the table differs."""

MESSAGE_SIZE_MAX: Final = 1 + max(spec.layout.size for spec in TABLE.specs)

ToGuard = (
    Welcome | Alive | Load | Run | Grant | Pause | Unload | Acknowledge | Recorded
    | Present | SelfTest | Fail | ReadInterlocks
)  # fmt: skip
ToService = (
    Welcome | Snapshot | Transition | Refused | Want | BlockOutcome | PulseRecord
    | SelfTested | Interlock
)  # fmt: skip


def settings_mark(configuration: bytes) -> int:
    """Tells configuration files apart, so that a guard with old limits serves no new tmsd."""
    return zlib.crc32(configuration)


_CODES: Final = {spec.make: spec.code for spec in TABLE.specs}


def encode(item: ToGuard | ToService) -> bytes:
    """One datagram; LocalProtocolError when a value is out of range."""
    return bytes((_CODES[type(item)],)) + pack(item)


def decode(datagram: bytes) -> ToGuard | ToService:
    """The message, or RemoteProtocolError."""
    item: ToGuard | ToService = TABLE.unpack(datagram[0] if datagram else 0, datagram[1:])
    return item
