"""What differs between the units of Magstim: how each is found, armed, and told of a block.

Conversations are generators: each yields a command and is sent the reply, or None when none came.
A conversation returns why it failed; empty when it did not.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Final, Protocol

from drivers.contract import Envelope, PulseBlock
from drivers.magstim.exchange import Ask
from drivers.options import Option, Options, OptionTable
from firmware_protocol.magstim.messages import (
    COIL_MAX_DC,
    PHASES,
    TRAIN_REST_US,
    Answer,
    Dialect,
    Model,
    RapidStatus,
    Reply,
    Status,
    Values,
)
from firmware_protocol.magstim.rates import Kind, Supply, frequency_max_dhz
from firmware_protocol.quantities import MS, SECOND, PercentMso

Talk = Generator[Ask, Reply | None, str]

LEASE_US: Final = 950 * MS
"""Longest train that is handed over: nobody knows whether a unit ends one when it is disarmed."""

TRAIN_ASKS: Final = 40
"""Some 30 ms each: longer than any train that was handed over."""

SINGLE_REST_US: Final = SECOND
FIRMWARE_MAX: Final = 11
"""Newest that any public client claims to have met."""

_EVERY_PCT: Final = range(101)


class Unit(Protocol):
    """One model."""

    model: str
    firmware: str
    envelope: Envelope

    @property
    def polls(self) -> Sequence[Ask]:
        """Asked in turn, while it is connected."""

    def connect(self) -> Talk:
        """Make it safe, take remote control, and see that it is what it should be."""

    def arm(self, mso: PercentMso) -> Talk: ...

    def prepare(self, block: PulseBlock) -> Talk:
        """All but the trigger."""

    def stands(self, block: PulseBlock) -> bool:
        """As far as the newest answers show, would a trigger give this block and nothing else?"""

    def refuses(self, block: PulseBlock) -> str: ...

    def ask(self, name: str, *values: int | str) -> Ask:
        """A command as this unit takes it."""

    def take_remote(self) -> Ask:
        """What it answers whether it is under remote control or not."""

    told: dict[str, int | str]
    """The newest value of each field of any reply."""

    def note(self, values: Values) -> None:
        """What any reply told."""


OFF_LINE: Final = (
    "mute: nothing answers; is the unit on, and the cable in its main part and not in the panel"
)
DAMAGED: Final = "checksum: the unit answers that our commands arrive damaged"
STILL_ARMED: Final = "still-armed: it does not disarm"
DISARMS: Final = 3
"""An answer shows the state before its command, so the second one shows standby. A unit that has
not shown it by then is asked nothing more: every command keeps it armed for another second."""

NOTHING_TOLD: Final = ("mute", "no-answer")
"""Failures for which bytes that are no answer are the better explanation."""


def _failed(reply: Reply | None, what: str) -> str:
    """Why a step of a conversation failed; empty when it did not."""
    if reply is None:
        return f"no-answer: nothing came back to {what}"
    if reply.answer is not Answer.DONE:
        return f"refused: {what} was answered with: {reply.answer.value}"
    return ""


class _Common:
    """What the models share."""

    def __init__(self, dialect: Dialect) -> None:
        self.dialect = dialect
        self.firmware = ""
        self.told: dict[str, int | str] = {}  # the newest of each field

    def ask(self, name: str, *values: int | str) -> Ask:
        return Ask(self.dialect.row(name), values)

    def note(self, values: Values) -> None:
        self.told.update(values)

    def _power(self, mso: PercentMso, read: str) -> Talk:
        """Set it and read it back."""
        failed = _failed((yield self.ask("set_power", mso.value)), "the power")
        if not failed:
            reply = yield self.ask(read)
            failed = _failed(reply, "the question for the power")
            if reply is not None and not failed and reply.values["power"] != mso.value:
                failed = f"refused: {mso} were set, and it shows {reply.values['power']}"
        return failed

    def _disarmed(self, reply: Reply | None) -> Talk:
        """Tell it until it shows standby. `reply`: to being told the first time."""
        for _ in range(DISARMS - 1):
            if reply is None or self._stands_by(reply):
                break
            reply = yield self.ask("disarm")
        if failed := _failed(reply, "disarming"):
            return failed
        return "" if self._stands_by(reply) else STILL_ARMED

    def _stands_by(self, reply: Reply | None) -> bool:
        return reply is not None and (reply.status or Status(0)) & PHASES is Status.STANDBY

    def _shows_remote(self, reply: Reply | None) -> bool:
        return reply is not None and bool((reply.status or 0) & Status.REMOTE)


class Paired(_Common):
    """A 200², or unit A of a BiStim² with unit B at 0 %: single pulses, triggered by the host."""

    def __init__(self, model: Model) -> None:
        super().__init__(Dialect(model))
        self.model = {Model.M200: "Magstim 200", Model.BISTIM: "BiStim"}[model]
        self._two = model is Model.BISTIM
        self.polls = tuple(
            self.ask(name)
            for name in ("enable_remote", "get_parameters", "enable_remote", "get_temperature")
        )
        # 2, 3 and 4 s on a 200² by power, 4 s on a BiStim² (MagPy).
        self.envelope = Envelope(
            mso_max_pct=100,
            interval_min_us=2 * SECOND,
            block_pulses_max=1,
            block_max_us=0,
            coil_max_dc=COIL_MAX_DC,
            recharge_us=tuple(
                (4 if self._two or pct >= 80 else 3 if pct >= 50 else 2) * SECOND
                for pct in _EVERY_PCT
            ),
            block_rest_us=0,
        )

    def take_remote(self) -> Ask:
        return self.ask("enable_remote")

    def connect(self) -> Talk:
        reply = yield self.ask("disarm")
        if reply is None:
            reply = yield self.ask("disarm")
        if reply is None:
            if (yield self.ask("get_temperature")) is None:
                return OFF_LINE
            return "wrong-model: it is a Magstim unit, but locked: a Rapid² of firmware 9 or later"
        if reply.answer is Answer.BAD_DATA:
            return DAMAGED
        if failed := (yield from self._disarmed(reply)):
            return failed
        if not self._shows_remote((yield self.ask("enable_remote"))):
            return "no-remote: the unit does not give remote control"
        reply = yield self.ask("get_parameters")
        if reply is not None and reply.answer is Answer.UNKNOWN:
            return "wrong-model: it knows no J, so it is a Rapid²"
        if failed := _failed(reply, "the question for the power"):
            return failed
        mode = yield Ask(_X)
        if mode is None:
            return _failed(mode, "the question for the mode")
        is_two = mode.answer is Answer.DONE
        if is_two is not self._two:
            there = "BiStim²" if is_two else "200²"
            return f"wrong-model: this is a {there}"
        if is_two and str(mode.values["mode"]) in "QRST":
            return "wrong-model: this is the slave of a BiStim², the cable belongs to the master"
        if self._two:
            failed = _failed((yield self.ask("set_power_b", 0)), "the power of unit B")
            if failed:
                return failed
        return _failed((yield self.ask("get_temperature")), "the question for the temperature")

    def arm(self, mso: PercentMso) -> Talk:
        failed = yield from self._power(mso, "get_parameters")
        if not failed and self._two and self.told["power_b"] != 0:
            failed = "refused: unit B is not at 0 %"
        return failed or _failed((yield self.ask("arm")), "arming")

    def prepare(self, block: PulseBlock) -> Talk:
        yield from ()  # it needs no word
        return ""

    def stands(self, block: PulseBlock) -> bool:
        return self.told.get("power") == block.mso.value and (
            not self._two or self.told.get("power_b") == 0
        )

    def refuses(self, block: PulseBlock) -> str:
        return "" if block.pulses == 1 else f"a {self.model} gives single pulses"


_X: Final = Dialect(Model.BISTIM).row("get_mode")

RAPID_OPTIONS: Final[OptionTable] = {
    "unlock": Option(
        "code of the unit, which firmware 9 and later asks for",
        pattern="[!-?A-~]{4}-[!-?A-~]{8}-[!-?A-~]{2}",
        secret=True,
    ),
    "supply": Option("mains, V", 115, choices=tuple(Supply)),
    "super": Option("1 for a Super Rapid²", 0, 0, 1),
    "plus": Option("1 for a Super Rapid² Plus¹", 0, 0, 1),
}


class Rapid(_Common):
    """A Rapid²: single pulses, or trains that it times by itself."""

    model = "Rapid"

    def __init__(self, options: Options) -> None:
        """ValueError when the options cannot be so."""
        unlock = options["unlock"]
        self._unlock = unlock if isinstance(unlock, str) else None
        super().__init__(Dialect(Model.RAPID, 9 if self._unlock else 8))
        if options["plus"] and not options["super"]:
            raise ValueError("device.options.plus is only there with super = 1")
        self._supply = Supply(int(options["supply"] or 0))
        self._kind = Kind(int(options["super"] or 0) + int(options["plus"] or 0))
        self.polls: tuple[Ask, ...] = ()
        highest_dhz = [frequency_max_dhz(self._supply, self._kind, pct) for pct in _EVERY_PCT]
        self.envelope = Envelope(
            mso_max_pct=100,
            interval_min_us=10 * MS,
            block_pulses_max=100,
            block_max_us=LEASE_US,
            coil_max_dc=COIL_MAX_DC,
            recharge_us=tuple(-(-10 * SECOND // dhz) for dhz in highest_dhz),
            block_rest_us=max(SINGLE_REST_US, TRAIN_REST_US),
        )

    def connect(self) -> Talk:
        self.dialect = Dialect(Model.RAPID, 9 if self._unlock else 8)  # its version is not known
        # One that was armed is not kept alive by what follows. One that is locked says nothing.
        reply = yield self.ask("disarm")
        hears = reply is not None and reply.answer is Answer.DONE
        if hears and (failed := (yield from self._disarmed(reply))):
            return failed
        # Then what every unit answers, remote control or not: to who is no Magstim unit the code,
        # whose bytes can be anything, is not told.
        temperature = self.ask("get_temperature")
        reply = yield temperature
        if reply is None:
            reply = yield temperature
        if reply is None:
            return OFF_LINE
        if reply.answer is Answer.BAD_DATA:
            return DAMAGED
        reply = yield self.ask("get_rapid_parameters")
        if reply is not None and reply.answer is Answer.UNKNOWN:
            return "wrong-model: it is no Rapid², but a 200² or a BiStim²"
        reply = yield self.take_remote()
        if reply is None:
            if self._unlock:
                return "unlock-wrong: the unit does not take the code of device.options.unlock"
            return "unlock-missing: firmware 9 and later asks for the unit's own code"
        if self._unlock and reply.answer is not Answer.DONE:
            return "unlock-needless: firmware before 9 has no code"
        if not self._shows_remote(reply):
            return "no-remote: the unit does not give remote control"
        if failed := (yield from self._disarmed((yield self.ask("disarm")))):
            return failed
        reply = yield self.ask("get_version")
        if reply is not None and reply.answer is Answer.UNKNOWN:
            return "wrong-model: it knows no N, so it is a 200² or a BiStim²"
        if reply is None or reply.answer is not Answer.DONE:
            return _failed(reply, "the question for its version")
        self.firmware = str(reply.values["version"])
        major = int(self.firmware.split(".")[0] or 0)
        if not 1 <= major <= FIRMWARE_MAX or (major >= 9) is not bool(self._unlock):
            return f"firmware-unknown: {self.firmware[:12]!r}; known are 1 to {FIRMWARE_MAX}"
        self.dialect = Dialect(Model.RAPID, major)
        alive = "get_system_status" if major >= 9 else "enable_remote"
        self.polls = tuple(
            self.ask(name) for name in (alive, "get_rapid_parameters", alive, "get_temperature")
        )
        for _ in range(TRAIN_ASKS):
            reply = yield self.ask("get_rapid_parameters")
            if reply is None or reply.answer is not Answer.DONE:
                return _failed(reply, "the question for its parameters")
            rapid_status = int(reply.values["rapid_status"])
            if not rapid_status & RapidStatus.TRAIN:
                break
        else:
            return "still-firing: a train goes on, and disarming does not end it"
        if rapid_status & RapidStatus.ENHANCED_POWER:
            failed = _failed((yield self.ask("enhanced_power_off")), "ending enhanced power")
            if failed:
                return failed
        return _failed((yield self.ask("get_temperature")), "the question for the temperature")

    def take_remote(self) -> Ask:
        return self.ask("unlock", self._unlock) if self._unlock else self.ask("enable_remote")

    def arm(self, mso: PercentMso) -> Talk:
        failed = yield from self._power(mso, "get_rapid_parameters")
        return failed or _failed((yield self.ask("arm")), "arming")

    def prepare(self, block: PulseBlock) -> Talk:
        if self.stands(block):
            return ""
        wanted = self._wanted(block)
        if wanted["duration"]:
            # Duration first: it enters the mode in which the others count.
            for name in ("duration", "frequency", "pulses"):
                if self.told.get(name) != wanted[name]:
                    failed = _failed((yield self.ask(f"set_{name}", wanted[name])), f"the {name}")
                    if failed:
                        return failed
        else:
            failed = _failed((yield self.ask("set_duration", 0)), "the mode for single pulses")
            if failed:
                return failed
        failed = _failed((yield self.ask("get_rapid_parameters")), "the question for the train")
        if not failed and not self.stands(block):
            failed = "refused: the unit does not show the train that was set"
        return failed

    def stands(self, block: PulseBlock) -> bool:
        wanted = self._wanted(block)
        return self.told.get("power") == block.mso.value and all(
            self.told.get(name) == value for name, value in wanted.items()
        )

    def refuses(self, block: PulseBlock) -> str:
        if block.pulses_per_burst > 1:
            return "a Rapid² times no bursts: theta burst is not in its serial protocol"
        if block.bursts == 1:
            return ""
        wanted = self._wanted(block)
        exact = wanted["frequency"] * block.burst_period_us == 10 * SECOND
        if not exact or (wanted["frequency"] > 300 and wanted["frequency"] % 10):
            return f"a Rapid² cannot time {block.burst_period_us} us from pulse to pulse exactly"
        if wanted["duration"] * wanted["frequency"] != 100 * block.bursts:
            return (
                f"a Rapid² takes trains of whole tenths of a second, {block.bursts} pulses "
                f"every {block.burst_period_us} us are none"
            )
        highest_dhz = frequency_max_dhz(self._supply, self._kind, block.mso.value)
        if wanted["frequency"] > highest_dhz:
            return (
                f"{wanted['frequency'] / 10} Hz at {block.mso} is more than the "
                f"{highest_dhz / 10} Hz of this Rapid²"
            )
        return ""

    def _wanted(self, block: PulseBlock) -> dict[str, int]:
        """The fields of `\\` for this block: 0.1 Hz, pulses, 0.1 s."""
        if block.bursts == 1:
            return {"duration": 0}
        dhz = 10 * SECOND // block.burst_period_us
        return {
            "duration": 100 * block.bursts // dhz if dhz else 0,
            "frequency": dhz,
            "pulses": block.bursts,
        }
