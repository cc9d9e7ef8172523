"""A 200², or unit A of a BiStim² with unit B at 0 %: single pulses, triggered by the host."""

from __future__ import annotations

from typing import Final

from drivers.contract import Envelope, PulseBlock
from drivers.magstim.exchange import Ask
from drivers.magstim.units import DAMAGED, EVERY_PCT, OFF_LINE, Common, Talk, failed_at
from firmware_protocol.magstim.messages import COIL_MAX_DC, MODES_OF_X, Answer, Dialect, Model
from firmware_protocol.quantities import MS, SECOND, PercentMso

_X: Final = Dialect(Model.BISTIM).row("get_mode")

ONE_BY_ONE: Final = ("0", "2", "4")
"""Modes of X in which pulse A leaves alone when the host asks, and pulse B after it or, at 0 %,
not at all."""


class Paired(Common):
    """A 200², or unit A of a BiStim² with unit B at 0 %: single pulses, triggered by the host."""

    def __init__(self, model: Model) -> None:
        super().__init__(Dialect(model))
        self.model = {Model.M200: "Magstim 200", Model.BISTIM: "BiStim"}[model]
        self._two = model is Model.BISTIM
        names = ("enable_remote", "get_parameters", "get_temperature")
        self.polls = tuple(self.ask(name) for name in names)
        if self._two:
            self.polls += (Ask(_X),)
        # 2, 3 and 4 s on a 200² by power, 4 s on a BiStim² (MagPy).
        self.envelope = Envelope(
            mso_max_pct=100,
            interval_min_us=2 * SECOND,
            block_pulses_max=1,
            block_max_us=0,
            coil_max_dc=COIL_MAX_DC,
            recharge_us=tuple(
                (4 if self._two or pct >= 80 else 3 if pct >= 50 else 2) * SECOND
                for pct in EVERY_PCT
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
        if failed := failed_at(reply, "the question for the power"):
            return failed
        mode = yield Ask(_X)
        if mode is None:
            return failed_at(mode, "the question for the mode")
        is_two = mode.answer is Answer.DONE
        if is_two is not self._two:
            there = "BiStim²" if is_two else "200²"
            return f"wrong-model: this is a {there}"
        if is_two and str(mode.values["mode"]) in "QRST":
            return "wrong-model: this is the slave of a BiStim², the cable belongs to the master"
        if self._two:
            if why := self._at_once():
                return f"wrong-mode: {why}"
            if failed := (yield from self._power_b_off()):
                return failed
        return failed_at((yield self.ask("get_temperature")), "the question for the temperature")

    def _power_b_off(self) -> Talk:
        """Set it and read it back."""
        failed = failed_at((yield self.ask("set_power_b", 0)), "the power of unit B")
        return failed or failed_at((yield self.ask("get_parameters")), "the question for the power")

    def _at_once(self) -> str:
        """How a BiStim² shows that a trigger would give something else than pulse A, then pulse B.

        With an interval of 0 both leave at once: 113 % of what is set, where one gives 90 %.
        """
        mode = str(self.told.get("mode", "?"))
        if mode not in ONE_BY_ONE:
            return f"its mode is {MODES_OF_X.get(mode, repr(mode))}"
        if not self.told.get("interval"):
            return "its interval is 0: both units go at once"
        return ""

    def astray(self, *, armed: bool) -> str:
        if not self._two:
            return ""
        pairs = armed and self.told.get("power_b") != 0
        return self._at_once() or ("unit B is not at 0 %" if pairs else "")

    def arm(self, mso: PercentMso) -> Talk:
        failed = ""
        if self._two and self.told.get("power_b") != 0:  # it was switched off and on
            failed = yield from self._power_b_off()
        failed = failed or (yield from self._power(mso, "get_parameters"))
        why = self.astray(armed=True)
        if not failed and why:
            failed = f"refused: {why}"
        return failed or failed_at((yield self.ask("arm")), "arming")

    def prepare(self, block: PulseBlock) -> Talk:
        yield from ()  # it needs no word
        return ""

    def stands(self, block: PulseBlock) -> bool:
        return self.told.get("power") == block.mso.value and not self.astray(armed=True)

    def by_trigger(self) -> PulseBlock:
        pulses = 2 if self.told_number("power_b") else 1
        interval_us = (pulses - 1) * self.told_number("interval") * MS
        return PulseBlock(0, self.told_mso, 1, 0, pulses, interval_us)

    def refuses(self, block: PulseBlock) -> str:
        return "" if block.pulses == 1 else f"a {self.model} gives single pulses"
