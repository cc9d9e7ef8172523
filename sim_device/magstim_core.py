"""What the firmware of all Magstim units has in common: remote control, arming, the keep-alive.

What differs between the models is a Part: its own commands, its capacitors, and what a trigger
does. A reply shows the state before the command had its effect, except for Q and R.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from firmware_protocol.magstim.messages import (
    ALIVE_WITHOUT_REMOTE,
    Answer,
    Model,
    Remote,
    Row,
    Status,
    Value,
)
from sim_device.magstim_panel import MAGSTIM_KINDS, effects_on
from sim_device.magstim_part import Handler, Part, Phase, Read, Values
from sim_device.magstim_settings import MagstimSettings
from sim_device.magstim_wire import Heard, Parser, refusal, reply, unknown
from sim_device.serial_unit import Effect, SerialUnit
from sim_device.unit import Discharge

SCAN_US: Final = 100_000
"""So often it looks at the coil while armed."""

_AFTER_EFFECT: Final = frozenset("QR")


class Core:
    """The firmware of one unit; a sim_device.serial_unit.Model."""

    def __init__(
        self,
        bench: SerialUnit,
        settings: MagstimSettings,
        make_part: Callable[[Core], Part],
    ) -> None:
        self.bench, self.settings = bench, settings
        self.part = make_part(self)
        self.dialect = self.part.dialect
        self._parser = Parser(self.dialect)
        self._commands: dict[str, Handler] = {
            "enable_remote": lambda _: self.take_remote(),
            "disable_remote": lambda _: self._give_remote(),
            "arm": lambda _: self._arm(),
            "disarm": lambda _: self._disarm_asked(),
            "fire": lambda _: self._fire(),
            "set_power": self._set_power,
            **self.part.commands,
        }
        self._reads: dict[str, Read] = {
            "status": self._status,
            "power": lambda: self.power,
            "coil_1": self.coil_dc,
            "coil_2": self.coil_dc,
            **self.part.reads,
        }
        self.effects: Mapping[str, Effect] = {**effects_on(self), **self.part.effects}
        self.kinds = MAGSTIM_KINDS | self.part.effects.keys()
        self._wake_us: int | None = None
        self.power_up()

    # -- as a model of SerialUnit --------------------------------------------------------------

    def power_up(self) -> None:
        self.phase = Phase.STANDBY
        self.remote = self.error = False
        self.power = self.settings.power
        self._heard_us = self.remote_us = self.bench.now
        self._byte_us = self.bench.now
        self._active_us = self._spent_until_us = self._ready_from_us = 0
        self._pending = False
        self._wake_us = None
        self._parser.forget()
        self.part.power_up()

    def power_down(self) -> None:
        self._pending = False
        self.part.stop("power")
        self.part.bleed()
        if self.phase is not Phase.STANDBY:
            self.phase = Phase.STANDBY
            self.note("disarm", cause="power")

    def hear(self, data: bytes) -> None:
        partial_us = self.settings.partial_us
        if partial_us and self._parser.begun and self.bench.now - self._byte_us > partial_us:
            self._parser.forget()
        self._byte_us = self.bench.now
        for heard in self._parser.feed(data):
            self._obey(heard)

    def check(self) -> None:
        self._look_at_coil()
        self._look_at_silence()
        self._look_at_phase()
        self._plan()

    @property
    def armed(self) -> bool:
        return self.phase is not Phase.STANDBY

    # -- commands ------------------------------------------------------------------------------

    def _obey(self, heard: Heard) -> None:
        row = heard.row
        letter = "" if row is None else row.letter
        if self._is_mute(letter):
            return
        if row is None:
            self.bench.answer(unknown(), self.settings.reply_us)
            return
        if self.bench.lacks(ord(row.letter)):
            return
        if not heard.sound:
            if self.settings.bad_checksum == "data":
                self._refuse(row, Answer.BAD_DATA)
            return
        if heard.values is None:
            self._refuse(row, Answer.BAD_DATA)
            return
        shown = self._shown(row)
        answer = self._carried_out(row, heard.values)
        if answer is None:
            return
        if answer is not Answer.DONE:
            self._refuse(row, answer)
            return
        self._heard_us = self.bench.now
        if letter in _AFTER_EFFECT:
            shown = self._shown(row)
        self.bench.answer(reply(row, shown), self.settings.reply_us)

    def _is_mute(self, letter: str) -> bool:
        """A Rapid² from firmware 9 on says nothing to a host that has not unlocked it."""
        dialect = self.dialect
        locked = dialect.model is Model.RAPID and dialect.firmware >= 9 and not self.remote
        return locked and letter not in ALIVE_WITHOUT_REMOTE

    def _carried_out(self, row: Row, values: Values) -> Answer | None:
        asks = row.remote is Remote.YES or (
            row.remote is Remote.UNKNOWN and self.settings.unknown_needs_remote
        )
        if asks and not self.remote:
            return Answer.CONFLICT
        handler = self._commands.get(row.name)
        return Answer.DONE if handler is None else handler(values)

    def _shown(self, row: Row) -> dict[str, Value]:
        return {field.name: self._reads[field.name]() for field in row.reply}

    def _refuse(self, row: Row, answer: Answer) -> None:
        self.bench.answer(refusal(row, answer), self.settings.reply_us)

    def take_remote(self) -> Answer:
        if not self.remote:
            self.remote = True
            self.remote_us = self.bench.now
            self.note("remote", on=True)
        return Answer.DONE

    def _give_remote(self) -> Answer:
        self.disarm("host")
        self._drop_remote()
        return Answer.DONE

    def _drop_remote(self) -> None:
        if self.remote:
            self.remote = False
            self.note("remote", on=False)

    def _arm(self) -> Answer:
        fit = self.bench.unit.coil_type != 0 and not self._is_hot() and not self.error
        idle = self.phase is Phase.STANDBY and not self.under_way()
        if not fit or not idle or not self.part.may_arm():
            return Answer.CONFLICT
        now = self.bench.now
        self.phase = Phase.ARMED
        self._active_us = now
        self._ready_from_us = max(self._ready_from_us, now + self.settings.arming_us)
        self.note("arm", mso=self.power)
        self.part.charge()
        return Answer.DONE

    def _disarm_asked(self) -> Answer:
        self.disarm("host")
        return Answer.DONE

    def _fire(self) -> Answer:
        if self.phase is not Phase.READY or not self.part.may_fire():
            return Answer.CONFLICT
        self.trigger("fire", self.settings.fire_us)
        return Answer.DONE

    def _set_power(self, values: Values) -> Answer:
        power = int(values["power"])
        if power > self.part.power_max():
            return Answer.BAD_DATA
        if not self.part.changeable():
            return Answer.CONFLICT
        self.change_power(power)
        return Answer.DONE

    # -- states --------------------------------------------------------------------------------

    def change_power(self, power: int) -> None:
        if power != self.power:
            self.power = power
            self.part.power_set()
            self.recharge()

    def recharge(self) -> None:
        """What it charges to has changed."""
        if self.phase is Phase.STANDBY:
            return
        self.part.charge()
        if self.phase is Phase.READY:
            self.phase = Phase.ARMED

    def disarm(self, cause: str, *, at_once: bool = False) -> None:
        """A train or pair that has begun goes on, unless this unit or `at_once` ends it."""
        if at_once or self.settings.stops_on_disarm:
            self._pending = False
            self.part.stop(cause)
        if self.phase is not Phase.STANDBY:
            self.phase = Phase.STANDBY
            self.note("disarm", cause=cause)
        self.let_go()

    def let_go(self) -> None:
        """Bleed the capacitors when nothing needs them any more."""
        if self.phase is Phase.STANDBY and not self.under_way():
            self.part.bleed()

    def under_way(self) -> bool:
        """Has something been triggered that is not over?"""
        return self._pending or self.part.busy()

    def trigger(self, cause: str, after_us: int) -> None:
        self.phase = Phase.SPENT
        self._pending = True
        self.part.triggered()
        self.bench.at(self.bench.now + after_us, lambda: self._due(cause))

    def _due(self, cause: str) -> None:
        if self._pending:
            self._pending = False
            self.part.go(cause)
            self.let_go()

    def pulse(self, cause: str, **notes: object) -> Discharge | None:
        """One pulse leaves."""
        seen = self.bench.pulse(cause, **notes)
        now = self.bench.now
        self._active_us = now
        self._spent_until_us = now + self.settings.after_pulse_us
        self._ready_from_us = now + self.part.rest_us()
        if self.phase is not Phase.STANDBY:
            self.phase = Phase.SPENT
        self.part.spent()
        return seen

    def rest_until(self, until_us: int) -> None:
        """Not ready before then."""
        self._ready_from_us = max(self._ready_from_us, until_us)

    def coil_dc(self) -> int:
        """The winding, as its sensor reads it."""
        return max(0, self.bench.unit.temperatures_dc(self.bench.now)[0])

    def _is_hot(self) -> bool:
        return self.coil_dc() > self.settings.coil_max_dc

    def _status(self) -> int:
        status = Status(self.phase)
        if self.bench.unit.coil_type != 0:
            status |= Status.COIL_PRESENT
        if self._is_hot() and self.settings.replace_when_hot:
            status |= Status.REPLACE_COIL
        if self.error:
            status |= Status.ERROR | Status.FATAL
        if self.remote:
            status |= Status.REMOTE
        return int(status)

    # -- what happens by itself ----------------------------------------------------------------

    def _look_at_coil(self) -> None:
        if not self.armed and not self.under_way():
            return
        hot, gone = self._is_hot(), self.bench.unit.coil_type == 0
        if hot or gone:
            cause = "coil_hot" if hot else "coil_absent"
            self.note("fault", cause=cause)
            self.disarm(cause, at_once=True)

    def _look_at_silence(self) -> None:
        now = self.bench.now
        silence_us = self._silence_us()
        if silence_us and now - self._heard_us > silence_us:
            self.note("dead_man")
            self.disarm("dead_man")
            self._drop_remote()
        if self.armed and now - self._active_us > self.settings.armed_idle_us:
            self.disarm("idle")

    def _silence_us(self) -> int:
        """Longest silence of the host that it bears now; 0 for any."""
        if not self.remote:
            return 0
        settings = self.settings
        return settings.keep_alive_us if self.armed else settings.standby_keep_alive_us

    def _look_at_phase(self) -> None:
        now = self.bench.now
        spent = self.phase is Phase.SPENT and not self.under_way()
        if spent and now >= self._spent_until_us:
            self.phase = Phase.ARMED
        if self.phase is Phase.ARMED and now >= self._ready_us():
            self.phase = Phase.READY
            self.note("ready", mso=self.power)

    def _ready_us(self) -> int:
        return max(self._ready_from_us, self.part.charged_at_us())

    def _plan(self) -> None:
        """Be woken when the next thing is due."""
        now = self.bench.now
        due = []
        silence_us = self._silence_us()
        if silence_us:
            due.append(self._heard_us + silence_us + 1)
        if self.armed:
            due += [self._active_us + self.settings.armed_idle_us + 1, now + SCAN_US]
            if self.phase is Phase.ARMED:
                due.append(self._ready_us())
            elif self.phase is Phase.SPENT:
                due.append(self._spent_until_us)
        at = min((each for each in due if each > now), default=None)
        if at is not None and (self._wake_us is None or at < self._wake_us):
            self._wake_us = at
            self.bench.at(at, self._woken)

    def _woken(self) -> None:
        """SerialUnit calls `check` next."""
        self._wake_us = None

    def note(self, event: str, **more: object) -> None:
        self.bench.log({"t_us": self.bench.now, "event": event, **more})
