"""What a DuoMAG is told and says, declared once. Encoder, decoder, trace text and page follow.

Source of every row: the class `duomag` of the MAGIC toolbox, whose author tried it on the models
MP, XT, MP-Dual and QPS. No firmware differences are known but the length of the status record.
"""

from __future__ import annotations

import enum
from typing import Annotated, Any, Final, NamedTuple, get_type_hints

from firmware_protocol.errors import LocalProtocolError, RemoteProtocolError
from firmware_protocol.table import Effect

BAUD: Final = 1_000_000
STOP_BITS: Final = 2
BYTE_US: Final = 11  # start, 8 data, 2 stop bits

SYNC: Final = 0xFF
BODY_SIZE_MIN: Final = 12
"""Bytes of a status record behind its sync byte: up to the last one whose meaning is known."""
BODY_SIZE_MAX: Final = 31
"""No longer one can be read by the published client, which looks for two syncs in 32 bytes."""


class Kind(enum.Enum):
    """What one command byte means."""

    INTENSITY = "intensity"
    FIRE = "fire"
    RECHARGE_HIGH = "recharge delay, upper"
    RECHARGE_LOW = "recharge delay, lower"
    TTL_HIGH = "TTL-out delay, upper"
    TTL_LOW = "TTL-out delay, lower"
    UNKNOWN = "unknown"


class Row(NamedTuple):
    """Command bytes from `first` to `last`; the value is the byte less `first`."""

    kind: Kind
    first: int
    last: int
    effect: Effect
    doc: str


_SETS, _GOES = Effect.SUSTAIN, Effect.ENERGISE
COMMANDS: Final = (
    Row(Kind.INTENSITY, 0, 100, _GOES, "%MSO; the device charges to it at once, without arming"),
    Row(Kind.UNKNOWN, 101, 120, _GOES, "never sent by us: nobody has told what they do"),
    Row(Kind.FIRE, 121, 121, _GOES, "one pulse now"),
    Row(Kind.UNKNOWN, 122, 127, _GOES, "never sent by us: nobody has told what they do"),
    Row(Kind.RECHARGE_HIGH, 0x80, 0x9F, _SETS, "upper 5 of 7 bits of the step count"),
    Row(Kind.RECHARGE_LOW, 0xA0, 0xBF, _SETS, "step (3 bits), lower 2 bits of the count"),
    Row(Kind.TTL_HIGH, 0xC0, 0xDF, _SETS, "upper 5 of 7 bits of the step count"),
    Row(Kind.TTL_LOW, 0xE0, 0xFF, _SETS, "step (3 bits), lower 2 bits of the count"),
)
_FIRST: Final = {row.kind: row.first for row in COMMANDS if row.kind is not Kind.UNKNOWN}


class Command(NamedTuple):
    """One command; of kind UNKNOWN the value is the byte itself."""

    kind: Kind
    value: int


def _command(byte: int) -> Command:
    row = next(row for row in COMMANDS if row.first <= byte <= row.last)
    return Command(row.kind, byte if row.kind is Kind.UNKNOWN else byte - row.first)


BY_BYTE: Final = tuple(_command(byte) for byte in range(256))
"""The command of each byte."""

_BYTES: Final = {command: byte for byte, command in enumerate(BY_BYTE)}


def byte_of(command: Command) -> int:
    """LocalProtocolError for what we never send: an unknown command, or a value out of range."""
    byte = _BYTES.get(command)
    if byte is None or command.kind is Kind.UNKNOWN:
        raise LocalProtocolError(f"DuoMAG has no command {command.kind.value} {command.value}")
    return byte


FIRE: Final = Command(Kind.FIRE, 0)

# -- delays ------------------------------------------------------------------------------------

STEP_US: Final = (50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000)
STEPS_MAX: Final = 127
DELAY_MIN_US: Final = 50
DELAY_MAX_US: Final = 600_000
"""The range that the published client allows; the bytes could carry 0 to 1.27 s."""


class Delay(NamedTuple):
    """`steps` times STEP_US[`step`]."""

    steps: int
    step: int

    @property
    def us(self) -> int:
        return self.steps * STEP_US[self.step]


def delay_of(us: int) -> Delay:
    """The finest way to say exactly this delay; LocalProtocolError when there is none."""
    if DELAY_MIN_US <= us <= DELAY_MAX_US:
        for step, step_us in enumerate(STEP_US):
            if us % step_us == 0 and us // step_us <= STEPS_MAX:
                return Delay(us // step_us, step)
    raise LocalProtocolError(f"DuoMAG cannot be set to a delay of {us} us")


def delay_commands(high: Kind, delay: Delay) -> tuple[Command, Command]:
    """The two commands that set a delay; `high` is RECHARGE_HIGH or TTL_HIGH."""
    low = {Kind.RECHARGE_HIGH: Kind.RECHARGE_LOW, Kind.TTL_HIGH: Kind.TTL_LOW}[high]
    return (
        Command(high, delay.steps >> 2),
        Command(low, delay.step << 2 | delay.steps & 3),
    )


# -- status ------------------------------------------------------------------------------------


class Coil(enum.IntEnum):
    """Coils that the newer units name."""

    C70BF = 1
    C70BF_COOL = 2
    C120BFV = 3
    C100R = 4
    C125R = 5
    C50BF = 6
    C50BFT = 7


class Bits(NamedTuple):
    """Where a value of the record is: the byte behind the sync, from 1, and its bits."""

    byte: int
    high: int = 7
    low: int = 0
    signed: bool = False


class Status(NamedTuple):
    """One record of the stream, sent without request."""

    ttl_demand: Annotated[int, Bits(1, 5, 5), "a pulse is demanded by the TTL input"]
    change_pct: Annotated[int, Bits(1, 4, 0, signed=True), "change of intensity, %MSO"]
    mso_pct: Annotated[int, Bits(2), "set intensity, %MSO"]
    coil_adc: Annotated[int, Bits(3), "coil temperature; the scale is unknown"]
    resistor_adc: Annotated[int, Bits(4), "resistor temperature; the scale is unknown"]
    discharge_adc: Annotated[int, Bits(5), "temperature of the discharge stage; scale unknown"]
    omitted: Annotated[int, Bits(6), "pulses that were asked for and did not leave"]
    power_hot: Annotated[int, Bits(7, 6, 6), "power supply too hot"]
    coil_absent: Annotated[int, Bits(7, 5, 5), "no coil connected"]
    hold_error: Annotated[int, Bits(7, 4, 4), "the voltage is not held"]
    recharge_error: Annotated[int, Bits(7, 3, 3), "the voltage is not reached"]
    fan_seized: Annotated[int, Bits(8, 6, 6), "the fan of the power supply stands still"]
    coil_hot: Annotated[int, Bits(8, 4, 4), "coil too hot"]
    resistor_hot: Annotated[int, Bits(8, 3, 3), "resistor too hot"]
    discharge_hot: Annotated[int, Bits(8, 2, 2), "discharge stage too hot"]
    coil_data_ok: Annotated[int, Bits(8, 1, 1), "the coil's own data could be read"]
    receiving_usb: Annotated[int, Bits(8, 0, 0), "bytes of the host arrive"]
    idle: Annotated[int, Bits(9, 2, 2), "idle; what ends it is unknown"]
    charged: Annotated[int, Bits(9, 0, 0), "charged: a FIRE gives a pulse"]
    ttl_steps: Annotated[int, Bits(10, 6, 0), "TTL-out delay, number of steps"]
    recharge_steps: Annotated[int, Bits(11, 6, 0), "recharge delay, number of steps"]
    recharge_step: Annotated[int, Bits(12, 6, 4), "recharge delay, which step"]
    ttl_step: Annotated[int, Bits(12, 2, 0), "TTL-out delay, which step"]
    coil_type: Annotated[int | None, Bits(15), "see Coils; None where the record is shorter"]

    @property
    def recharge_delay(self) -> Delay:
        return Delay(self.recharge_steps, self.recharge_step)

    @property
    def ttl_delay(self) -> Delay:
        return Delay(self.ttl_steps, self.ttl_step)

    @property
    def faults(self) -> tuple[str, ...]:
        """Names of the flags that say why no pulse may be expected."""
        return tuple(name for name in FAULT_FLAGS if getattr(self, name))


class Field(NamedTuple):
    name: str
    bits: Bits
    doc: str


_HINTS: Final = get_type_hints(Status, include_extras=True)
FIELDS: Final = tuple(
    Field(name, _HINTS[name].__metadata__[0], _HINTS[name].__metadata__[1])
    for name in Status._fields
)
FLAGS: Final = tuple(f.name for f in FIELDS if f.bits.high == f.bits.low)
FAULT_FLAGS: Final = (
    "power_hot", "coil_absent", "hold_error", "recharge_error",
    "fan_seized", "coil_hot", "resistor_hot", "discharge_hot",
)  # fmt: skip

_PLACES: Final = tuple(
    (f.bits.byte - 1, f.bits.low, (2 << (f.bits.high - f.bits.low)) - 1) for f in FIELDS
)
_SIGNED: Final = tuple(
    (n, 1 << (f.bits.high - f.bits.low)) for n, f in enumerate(FIELDS) if f.bits.signed
)
_MSO: Final = Status._fields.index("mso_pct")


def status_of(body: bytes) -> Status:
    """The status of a whole record without its sync; RemoteProtocolError when it cannot be one."""
    size = len(body)
    if not BODY_SIZE_MIN <= size <= BODY_SIZE_MAX:
        raise RemoteProtocolError(f"a status record of {size} bytes")
    values: list[Any] = [body[at] >> low & mask if at < size else None for at, low, mask in _PLACES]
    for index, sign in _SIGNED:
        values[index] = (values[index] ^ sign) - sign
    if values[_MSO] > 100:
        raise RemoteProtocolError(f"mso_pct is {values[_MSO]}, allowed 0..100")
    return Status._make(values)


def describe(message: Command | Status) -> str:
    """One line for a trace."""
    if isinstance(message, Status):
        cells = [
            f"{name}={value}"
            for name, value in zip(message._fields, message, strict=True)
            if name not in FLAGS and value is not None
        ]
        flags = ",".join(name for name in FLAGS if getattr(message, name)) or "none"
        return f"Status {' '.join(cells)} flags={flags}"
    name = message.kind.name.title().replace("_", "")
    match message.kind:
        case Kind.FIRE:
            return name
        case Kind.INTENSITY:
            return f"{name} mso_pct={message.value}"
        case Kind.RECHARGE_HIGH | Kind.TTL_HIGH:
            return f"{name} steps_upper={message.value}"
        case Kind.RECHARGE_LOW | Kind.TTL_LOW:
            step = STEP_US[message.value >> 2]
            return f"{name} step_us={step} steps_lower={message.value & 3}"
        case _:
            return f"{name} value={message.value}"
