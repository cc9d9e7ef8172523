"""A Rapid²: single pulses, or trains that it times by itself."""

from __future__ import annotations

from typing import Final

from drivers.contract import Envelope, PulseBlock
from drivers.magstim.exchange import Ask
from drivers.magstim.units import DAMAGED, EVERY_PCT, OFF_LINE, Common, Talk, failed_at
from drivers.options import Option, Options, OptionTable
from firmware_protocol.magstim.energy import on_time_max_us, wait_min_us
from firmware_protocol.magstim.messages import (
    COIL_MAX_DC,
    TRAIN_REST_US,
    Answer,
    Dialect,
    Model,
    RapidStatus,
)
from firmware_protocol.magstim.rates import Kind, Supply, frequency_max_dhz
from firmware_protocol.quantities import MS, SECOND, PercentMso

LEASE_US: Final = 950 * MS
"""Longest train that is handed over: nobody knows whether a unit ends one when it is disarmed."""

TRAIN_ASKS: Final = 40
"""Some 30 ms each: longer than any train that was handed over."""

SINGLE_REST_US: Final = SECOND
FIRMWARE_MAX: Final = 11
"""Newest that any public client claims to have met."""

RAPID_OPTIONS: Final[OptionTable] = {
    "unlock": Option(
        "code of the unit, which firmware 9 and later asks for",
        pattern="[!-?A-~]{4}-[!-?A-~]{8}-[!-?A-~]{2}",
        form="xxxx-xxxxxxxx-xx, without an @",
        secret=True,
    ),
    "supply": Option("mains, V", 115, choices=tuple(Supply)),
    "super": Option("1 for a Super Rapid²", 0, 0, 1),
    "plus": Option("1 for a Super Rapid² Plus¹", 0, 0, 1),
}


class Rapid(Common):
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
        highest_dhz = [frequency_max_dhz(self._supply, self._kind, pct) for pct in EVERY_PCT]
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
            return failed_at(reply, "the question for its version")
        self.firmware = str(reply.values["version"])
        major = int(self.firmware.split(".")[0] or 0)
        if not 1 <= major <= FIRMWARE_MAX or (major >= 9) is not bool(self._unlock):
            return f"firmware-unknown: {self.firmware[:12]!r}; known are 1 to {FIRMWARE_MAX}"
        self.dialect = Dialect(Model.RAPID, major)
        alive = "get_system_status" if major >= 9 else "enable_remote"
        names = (alive, "get_rapid_parameters", "get_temperature")
        self.polls = tuple(self.ask(name) for name in names)
        for _ in range(TRAIN_ASKS):
            reply = yield self.ask("get_rapid_parameters")
            if reply is None or reply.answer is not Answer.DONE:
                return failed_at(reply, "the question for its parameters")
            rapid_status = int(reply.values["rapid_status"])
            if not rapid_status & RapidStatus.TRAIN:
                break
        else:
            return "still-firing: a train goes on, and disarming does not end it"
        if rapid_status & RapidStatus.ENHANCED_POWER:
            failed = failed_at((yield self.ask("enhanced_power_off")), "ending enhanced power")
            if failed:
                return failed
        return failed_at((yield self.ask("get_temperature")), "the question for the temperature")

    def take_remote(self) -> Ask:
        return self.ask("unlock", self._unlock) if self._unlock else self.ask("enable_remote")

    def arm(self, mso: PercentMso) -> Talk:
        failed = yield from self._power(mso, "get_rapid_parameters")
        return failed or failed_at((yield self.ask("arm")), "arming")

    def prepare(self, block: PulseBlock) -> Talk:
        if self.stands(block):
            return ""
        wanted = self._wanted(block)
        if wanted["duration"]:
            # Duration first: it enters the mode in which the others count.
            for name in ("duration", "frequency", "pulses"):
                if self.told.get(name) != wanted[name]:
                    failed = failed_at((yield self.ask(f"set_{name}", wanted[name])), f"the {name}")
                    if failed:
                        return failed
        else:
            failed = failed_at((yield self.ask("set_duration", 0)), "the mode for single pulses")
            if failed:
                return failed
        failed = failed_at((yield self.ask("get_rapid_parameters")), "the question for the train")
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
        longest_us = on_time_max_us(block.mso.value, wanted["frequency"])
        train_us = block.bursts * block.burst_period_us
        if longest_us is not None and train_us > longest_us:
            return f"a train of {train_us} us at {block.mso}, a Rapid² bears {longest_us} us of it"
        return ""

    def by_trigger(self) -> PulseBlock:
        """Nobody knows what ends a train whose pulses and duration disagree: the later of them."""
        duration_ds, dhz = self.told_number("duration"), self.told_number("frequency")
        if not duration_ds or not dhz:
            return PulseBlock(0, self.told_mso, 1, 0, 1, 0)
        pulses = max(1, self.told_number("pulses"), duration_ds * dhz // 100)
        return PulseBlock(0, self.told_mso, pulses, 10 * SECOND // dhz, 1, 0)

    def rest_us(self, block: PulseBlock) -> int:
        """A unit that gets the next train sooner is damaged, and does not refuse it."""
        if block.bursts == 1:
            return 0
        dhz = 10 * SECOND // block.burst_period_us
        return wait_min_us(block.mso.value, dhz, block.bursts)

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
