"""The serial commands of Magstim's stimulators, declared once. Encoder, decoder, trace and page
follow.

A command is one letter, its data and a checksum; its length follows from the letter, the model and
the firmware. A reply repeats the letter. Facts come from public clients and their issue threads:
MagPy (nicolasmcnair/magpy), MAGIC (nigelrogasch/MAGIC), magneto (a-hurst/magneto),
magstim_python (cboulay/magstim_python) and HandLabToolBox (TheHandLab/HandLabToolBox).
Each row names those that it rests on; no unit has been asked yet.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from firmware_protocol.errors import LocalProtocolError
from firmware_protocol.table import Effect

BAUD: Final = 9600  # 8 data bits, no parity, 1 stop bit, no flow control
REPLY_SIZE_MAX: Final = 24
VERSION_SIZE_MAX: Final = 16  # longest text that is taken for a version; the longest seen has 6
UNKNOWN_COMMAND: Final = 0x3F  # `?` alone, without a checksum: no such command
BAD_DATA: Final = 0x3F  # in place of the status: data or checksum not accepted
CONFLICT: Final = 0x53  # `S` in place of the status: not now

# Times that hosts have to keep to, in microseconds.
KEEP_ALIVE_US: Final = 1_000_000  # longest silence while armed (rapid2tb, MagPy)
ARMED_IDLE_US: Final = 60_000_000  # armed without a pulse (MagPy, magneto)
ARMING_US: Final = 1_000_000  # least time from arm to ready (MagPy)
TRAIN_REST_US: Final = 500_000  # Rapid: nothing is accepted so long after a train (MagPy, MAGIC)
MODE_AFTER_REMOTE_US: Final = 100_000  # BiStim: Y and Z not sooner after Q (magstim_python)
COIL_MAX_DC: Final = 400  # above this it disarms and cannot be armed (MagPy)


class Model(enum.Enum):
    M200 = "200²"
    BISTIM = "BiStim²"
    RAPID = "Rapid²"


class Status(enum.IntFlag):
    """Second byte of nearly every reply. Of the first three at most one is set; none just after a
    pulse.
    """

    STANDBY = 0x01
    ARMED = 0x02  # armed, and not ready
    READY = 0x04
    COIL_PRESENT = 0x08
    REPLACE_COIL = 0x10
    ERROR = 0x20
    FATAL = 0x40  # of ERROR: the type
    REMOTE = 0x80


class RapidStatus(enum.IntFlag):
    """Third byte of most replies of a Rapid²."""

    ENHANCED_POWER = 0x01
    TRAIN = 0x02
    WAIT = 0x04
    SINGLE_PULSE = 0x08
    HV_PSU = 0x10
    COIL_READY = 0x20
    THETA_PSU = 0x40
    MODIFIED_COIL = 0x80


class Extended(enum.IntFlag):
    """Two bytes of `x`, the more significant first. MAGIC reads the flags from the second byte,
    MagPy from the first; MagPy's own emulator sends them as MAGIC reads them.
    """

    PLUS1 = 0x0001
    SPECIAL_TRIGGER = 0x0002
    CHARGE_DELAY = 0x0004


PHASES: Final = Status.STANDBY | Status.ARMED | Status.READY


class Answer(enum.Enum):
    DONE = "done"
    UNKNOWN = "no such command"
    BAD_DATA = "data not accepted"
    CONFLICT = "not in this state"


class Form(enum.Enum):
    """How a field travels."""

    PAD = "one byte that is not looked at, sent as `@`"
    MODE = "this letter"
    DIGITS = "decimal digits"
    CODE = "16 characters, xxxx-xxxxxxxx-xx"
    STATUS = "status byte"
    RAPID = "Rapid status byte"
    EXTENDED = "two bytes of flags"
    LETTER = "one character"
    TEXT = "characters"
    VERSION = "`V`, digits and dots, a zero byte"


class Field(NamedTuple):
    name: str
    form: Form
    size: int  # bytes; 0 where a zero byte ends it
    low: int = 0
    high: int = 0
    unit: str = ""
    doc: str = ""


class Remote(enum.Enum):
    """Does a command need remote control?"""

    NO = "no"
    YES = "yes"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Row:
    """One command as one range of models and firmware takes it."""

    letter: str
    name: str
    data: tuple[Field, ...]
    reply: tuple[Field, ...]
    remote: Remote
    effect: Effect
    doc: str
    source: str
    models: tuple[Model, ...] = tuple(Model)
    since: int = 0  # major version of the firmware, of a Rapid
    before: int = 1_000

    @property
    def command_size(self) -> int:
        """Bytes of the command, with letter and checksum."""
        return 2 + sum(field.size for field in self.data)

    @property
    def reply_size(self) -> int | None:
        """Bytes of the reply, with letter and checksum; None where a zero byte ends it."""
        if any(field.size == 0 for field in self.reply):
            return None
        return 2 + sum(field.size for field in self.reply)


Value = int | str
Values = Mapping[str, Value]


class Reply(NamedTuple):
    """What a unit answered. `values` is empty unless it is DONE."""

    row: Row
    answer: Answer
    values: Values

    @property
    def status(self) -> Status | None:
        value = self.values.get("status")
        return Status(value) if isinstance(value, int) else None


def _digits(name: str, size: int, low: int, high: int, unit: str, doc: str) -> Field:
    return Field(name, Form.DIGITS, size, low, high, unit, doc)


def _mode(letter: str) -> Field:
    return Field(letter, Form.MODE, 1)


_PAD: Final = (Field("pad", Form.PAD, 1),)
_ST: Final = Field("status", Form.STATUS, 1)
_RS: Final = Field("rapid_status", Form.RAPID, 1)
_EXT: Final = Field("extended", Form.EXTENDED, 2)
_SHORT: Final = (_ST,)
_RAPID_SHORT: Final = (_ST, _RS)
_BISTIM: Final = (Model.BISTIM,)
_RAPID: Final = (Model.RAPID,)
_PAIRED: Final = (Model.M200, Model.BISTIM)
_YES, _NO, _ASK = Remote.YES, Remote.NO, Remote.UNKNOWN

_POWER_110: Final = _digits("power", 3, 0, 110, "%", "above 100 only in enhanced mode")
_FREQUENCY: Final = _digits("frequency", 4, 0, 1000, "0.1 Hz", "60 Hz at most at 115 V")


def _parameters(pulses: int, duration: int, wait: int) -> tuple[Field, ...]:
    """Reply of `\\`, with digits as the firmware has them."""
    return (
        _ST,
        _RS,
        _POWER_110,
        _FREQUENCY,
        _digits("pulses", pulses, 0, 10**pulses - 1, "", "of a train"),
        _digits("duration", duration, 0, 10**duration - 1, "0.1 s", "of a train"),
        _digits("wait", wait, 0, 10**wait - 1, "0.1 s", "between trains"),
    )


TABLE: Final[tuple[Row, ...]] = (
    Row("Q", "enable_remote", _PAD, _SHORT, _NO, Effect.SUSTAIN,
        "Takes remote control; the usual keep-alive. The reply shows the state after it.",
        "MagPy, MAGIC, magneto", before=9),
    Row("Q", "unlock", (Field("code", Form.CODE, 16, doc="the unit's own code"),), _SHORT, _NO,
        Effect.SUSTAIN, "Takes remote control. A wrong code is met with silence.",
        "MagPy README and code; MAGIC #11", _RAPID, since=9),
    Row("R", "disable_remote", _PAD, _SHORT, _NO, Effect.MAKE_SAFE,
        "Gives remote control back and disarms. The reply shows the state after it.", "MagPy"),
    Row("E", "disarm", (_mode("A"),), _SHORT, _NO, Effect.MAKE_SAFE, "Disarms.",
        "magneto, MagPy"),
    Row("E", "arm", (_mode("B"),), _SHORT, _YES, Effect.ENERGISE,
        "Charges and arms; ready about 1 s later.", "magneto, MagPy"),
    Row("E", "fire", (_mode("H"),), _SHORT, _YES, Effect.ENERGISE,
        "One pulse, one pair or one train; only when ready.", "magneto, MagPy"),
    Row("F", "get_temperature", _PAD,
        (_ST, _digits("coil_1", 3, 0, 999, "0.1 C", "first winding"),
         _digits("coil_2", 3, 0, 999, "0.1 C", "second winding")),
        _NO, Effect.READ, "Temperatures of the coil.", "MagPy, MAGIC, rapid2tb"),
    Row("@", "set_power", (_digits("power", 3, 0, 100, "%", "of unit A"),), _SHORT, _YES,
        Effect.ENERGISE, "Sets the power; 10 ms for each % up, 100 ms for each % down.",
        "MagPy", _PAIRED),
    Row("@", "set_power", (_POWER_110,), _SHORT, _YES, Effect.ENERGISE,
        "Sets the power; 10 ms for each % up, 100 ms for each % down.", "MagPy", _RAPID),
    Row("J", "get_parameters", _PAD,
        (_ST, _digits("power", 3, 0, 100, "%", "of unit A"),
         _digits("power_b", 3, 0, 100, "%", "of unit B; 0 on a 200²"),
         _digits("interval", 3, 0, 999, "ms", "or 0.1 ms in high resolution; 0 on a 200²")),
        _NO, Effect.READ, "What is set.", "MagPy, MAGIC, HandLabToolBox", _PAIRED),
    Row("A", "set_power_b", (_digits("power_b", 3, 0, 100, "%", "of unit B"),), _SHORT, _YES,
        Effect.ENERGISE, "Sets the power of the second pulse.", "MagPy", _BISTIM),
    Row("C", "set_interval",
        (_digits("interval", 3, 0, 999, "ms", "or 0.1 ms in high resolution; 0: both at once"),),
        _SHORT, _YES, Effect.SUSTAIN, "Sets the time from pulse A to pulse B.",
        "MagPy, magneto", _BISTIM),
    Row("Y", "high_resolution", _PAD, _SHORT, _YES, Effect.SUSTAIN,
        "Intervals in 0.1 ms, and 1 ms is set. Not while armed, not within 100 ms of Q.",
        "MagPy; magstim_python", _BISTIM),
    Row("Z", "low_resolution", _PAD, _SHORT, _YES, Effect.SUSTAIN,
        "Intervals in ms, and 10 ms is set. Not while armed, not within 100 ms of Q.",
        "MagPy; magstim_python", _BISTIM),
    Row("X", "get_mode", _PAD, (_ST, Field("mode", Form.LETTER, 1, doc="see Modes of X")),
        _ASK, Effect.READ, "How the two units of a BiStim work together.",
        "magstim_python README", _BISTIM),
    Row("N", "get_version", (_mode("D"),), (Field("version", Form.VERSION, 0),), _YES,
        Effect.READ, "Version of the software; the reply has no status.",
        "MagPy getVersion, ctrl-magstim_stimulators", _RAPID),
    Row("I", "get_error", _PAD,
        (_ST, Field("error", Form.TEXT, 3, doc="no list of them is public")), _ASK, Effect.READ,
        "Code of the error that is present.", "MagPy, MAGIC", _RAPID),
    *(
        Row("\\", "get_rapid_parameters", _PAD, _parameters(*sizes), _NO, Effect.READ,
            "What is set.", "MagPy, MAGIC", _RAPID, since, before)
        for since, before, sizes in ((0, 7, (4, 3, 3)), (7, 9, (4, 3, 4)), (9, 1_000, (5, 4, 4)))
    ),
    Row("B", "set_frequency", (_FREQUENCY,), _RAPID_SHORT, _YES, Effect.SUSTAIN,
        "Frequency of a train; tenths up to 30 Hz, see Highest frequencies.", "MagPy", _RAPID),
    Row("D", "set_pulses", (_digits("pulses", 4, 1, 1000, "", "of a train"),), _RAPID_SHORT,
        _YES, Effect.SUSTAIN, "Length of a train.", "MagPy, MAGIC setTrain", _RAPID, before=9),
    Row("D", "set_pulses", (_digits("pulses", 5, 1, 6000, "", "of a train"),), _RAPID_SHORT,
        _YES, Effect.SUSTAIN, "Length of a train.", "MagPy, MAGIC setTrain", _RAPID, since=9),
    Row("[", "set_duration", (_digits("duration", 3, 0, 100, "0.1 s", "tenths up to 30 s"),),
        _RAPID_SHORT, _YES, Effect.SUSTAIN, "0 leaves the mode for trains, all else enters it.",
        "MagPy rTMSMode, MAGIC", _RAPID, before=9),
    Row("[", "set_duration", (_digits("duration", 4, 0, 9999, "0.1 s", "tenths up to 30 s"),),
        _RAPID_SHORT, _YES, Effect.SUSTAIN, "0 leaves the mode for trains, all else enters it.",
        "MagPy rTMSMode, MAGIC", _RAPID, since=9),
    Row("b", "ignore_coil_switch", _PAD, _SHORT, _YES, Effect.ENERGISE,
        "Arms without the safety switch of the coil.", "MagPy, rapid2tb", _RAPID),
    Row("^", "enhanced_power_on", _PAD, _RAPID_SHORT, _YES, Effect.ENERGISE,
        "Up to 110 %. In standby and for single pulses only.", "MagPy", _RAPID),
    Row("_", "enhanced_power_off", _PAD, _RAPID_SHORT, _YES, Effect.SUSTAIN,
        "At most 100 % again, which it sets if more was set.", "MagPy", _RAPID),
    Row("x", "get_system_status", _PAD, (_ST, _RS, _EXT), _YES, Effect.READ,
        "All flags; the usual keep-alive from firmware 9.", "MagPy, MAGIC", _RAPID, since=9),
    Row("n", "set_charge_delay", (_digits("delay", 4, 0, 2000, "", "unit: see Unknown"),),
        _RAPID_SHORT, _YES, Effect.SUSTAIN, "Time from a pulse until it charges again.",
        "MagPy, MAGIC", _RAPID, since=9, before=10),
    Row("n", "set_charge_delay", (_digits("delay", 5, 0, 10000, "", "unit: see Unknown"),),
        (_ST, _RS, _EXT), _YES, Effect.SUSTAIN, "Time from a pulse until it charges again.",
        "MagPy, MAGIC", _RAPID, since=10),
    Row("o", "get_charge_delay", _PAD, (_ST, _digits("delay", 4, 0, 9999, "", "as in `n`")),
        _YES, Effect.READ, "What is set.", "MAGIC, MagPy", _RAPID, since=9, before=10),
    Row("o", "get_charge_delay", _PAD, (_ST, _digits("delay", 5, 0, 99999, "", "as in `n`")),
        _YES, Effect.READ, "What is set.", "MAGIC, MagPy", _RAPID, since=10),
)  # fmt: skip

MODES_OF_X: Final[dict[str, str]] = {
    "0": "single unit",
    "1": "both at once, master",
    "2": "low resolution, master",
    "3": "external trigger, master",
    "4": "high resolution, master",
    "Q": "both at once, slave",
    "R": "low resolution, slave",
    "S": "external trigger, slave",
    "T": "high resolution, slave",
}

ALIVE_WITHOUT_REMOTE: Final = frozenset("QRF\\")
"""From firmware 9 a Rapid² that is not under remote control answers these letters only."""


class Dialect:
    """The table as one model with one firmware speaks it. `firmware` is the major version."""

    def __init__(self, model: Model, firmware: int = 0) -> None:
        rows = [row for row in TABLE if model in row.models and row.since <= firmware < row.before]
        self.model, self.firmware, self.rows = model, firmware, tuple(rows)
        self.by_name = {row.name: row for row in rows}
        if model is Model.M200:  # it knows the letters of a BiStim², and refuses them (magneto)
            letters = {row.letter for row in rows}
            rows += [r for r in TABLE if Model.BISTIM in r.models and r.letter not in letters]
        self.by_letter: dict[int, tuple[Row, ...]] = {
            ord(row.letter): tuple(r for r in rows if r.letter == row.letter) for row in rows
        }
        """Also those that it only refuses."""

    def row(self, name: str) -> Row:
        """LocalProtocolError when this unit has no such command."""
        row = self.by_name.get(name)
        if row is None:
            raise LocalProtocolError(
                f"a {self.model.value} with firmware {self.firmware} has no command {name!r}"
            )
        return row


def values_of(row: Row, values: Sequence[Value]) -> dict[str, Value]:
    """The values of a command by the names of their fields."""
    names = [field.name for field in row.data if field.form in (Form.DIGITS, Form.CODE)]
    return dict(zip(names, values, strict=True))


def _shown(field: Field, value: Value) -> str:
    if field.form is Form.DIGITS:
        return f"{field.name}={value}"
    flags: type[enum.IntFlag] | None = {
        Form.STATUS: Status, Form.RAPID: RapidStatus, Form.EXTENDED: Extended
    }.get(field.form)  # fmt: skip
    if flags is not None and isinstance(value, int):
        names = "+".join(str(flag.name).lower() for flag in flags if flag & value)
        return f"{field.name}={value:0{2 * field.size}X}({names})"
    # A text is quoted: what a unit sends must not break the line or steer a terminal.
    return f"{field.name}={value!r}"


def describe_command(row: Row, values: Values) -> str:
    """One line for a trace. The unlock code is not shown."""
    cells = [
        f"{field.name}=..." if field.form is Form.CODE else _shown(field, values[field.name])
        for field in row.data
        if field.name in values
    ]
    return " ".join([row.name, *cells])


def describe_reply(reply: Reply) -> str:
    """One line for a trace."""
    cells = [_shown(field, reply.values[field.name]) for field in reply.row.reply
             if field.name in reply.values]  # fmt: skip
    return " ".join([f"{reply.row.name}: {reply.answer.value}", *cells])
