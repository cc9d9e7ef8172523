"""What differs between the units of Magstim: how each is found, armed, and told of a block.

Conversations are generators: each yields a command and is sent the reply, or None when none came.
A conversation returns why it failed; empty when it did not.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Final, Protocol

from drivers.contract import Envelope, PulseBlock
from drivers.magstim.exchange import Ask
from firmware_protocol.magstim.messages import PHASES, Answer, Dialect, Reply, Status, Values
from firmware_protocol.quantities import PercentMso

Talk = Generator[Ask, Reply | None, str]

EVERY_PCT: Final = range(101)


class Unit(Protocol):
    """One model."""

    model: str
    firmware: str
    envelope: Envelope

    @property
    def polls(self) -> Sequence[Ask]:
        """Asked in turn, while it is connected. The first keeps it alive; each of the others tells
        more than its bits, and has to do so again and again."""

    def connect(self) -> Talk:
        """Make it safe, take remote control, and see that it is what it should be."""

    def arm(self, mso: PercentMso) -> Talk: ...

    def prepare(self, block: PulseBlock) -> Talk:
        """All but the trigger."""

    def stands(self, block: PulseBlock) -> bool:
        """As far as the newest answers show, would a trigger give this block and nothing else?"""

    def refuses(self, block: PulseBlock) -> str: ...

    def by_trigger(self) -> PulseBlock:
        """What a trigger of anybody lets go, as it was told to be set last: at least as much."""

    def rest_us(self, block: PulseBlock) -> int:
        """From its last pulse until another may be triggered; what the unit itself keeps to is in
        its envelope."""

    def astray(self, *, armed: bool) -> str:
        """How it shows to be set so that other pulses would leave than it is told of; empty when
        it is as it should be. What arming sets anyway is only looked at while it is `armed`."""

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


def failed_at(reply: Reply | None, what: str) -> str:
    """Why a step of a conversation failed; empty when it did not."""
    if reply is None:
        return f"no-answer: nothing came back to {what}"
    if reply.answer is not Answer.DONE:
        return f"refused: {what} was answered with: {reply.answer.value}"
    return ""


class Common:
    """What the models share."""

    polls: tuple[Ask, ...] = ()

    def __init__(self, dialect: Dialect) -> None:
        self.dialect = dialect
        self.firmware = ""
        self.told: dict[str, int | str] = {}  # the newest of each field

    def astray(self, *, armed: bool) -> str:
        return ""

    def rest_us(self, block: PulseBlock) -> int:
        return 0

    def told_number(self, name: str) -> int:
        """0 when it was not told."""
        return int(self.told.get(name, 0))

    @property
    def told_mso(self) -> PercentMso:
        return PercentMso(min(100, self.told_number("power")))

    def ask(self, name: str, *values: int | str) -> Ask:
        return Ask(self.dialect.row(name), values)

    def note(self, values: Values) -> None:
        self.told.update(values)

    def _power(self, mso: PercentMso, read: str) -> Talk:
        """Set it and read it back."""
        failed = failed_at((yield self.ask("set_power", mso.value)), "the power")
        if not failed:
            reply = yield self.ask(read)
            failed = failed_at(reply, "the question for the power")
            if reply is not None and not failed and reply.values["power"] != mso.value:
                failed = f"refused: {mso} were set, and it shows {reply.values['power']}"
        return failed

    def _disarmed(self, reply: Reply | None) -> Talk:
        """Tell it until it shows standby. `reply`: to being told the first time."""
        for _ in range(DISARMS - 1):
            if reply is None or self._stands_by(reply):
                break
            reply = yield self.ask("disarm")
        if failed := failed_at(reply, "disarming"):
            return failed
        return "" if self._stands_by(reply) else STILL_ARMED

    def _stands_by(self, reply: Reply | None) -> bool:
        return reply is not None and (reply.status or Status(0)) & PHASES is Status.STANDBY

    def _shows_remote(self, reply: Reply | None) -> bool:
        return reply is not None and bool((reply.status or 0) & Status.REMOTE)
