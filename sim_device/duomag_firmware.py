"""The firmware of an emulated DuoMAG: no arming, no keep-alive; it charges to what it is told and
says how it is, unasked. What nobody has published about it is a setting, see duomag_settings.py.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from typing import Final

from firmware_protocol.duomag.messages import STEP_US, Coil, Status
from firmware_protocol.quantities import MS
from sim_device.device import Log
from sim_device.duomag_settings import DuomagSettings
from sim_device.duomag_wire import Dialect, Pairs, record
from sim_device.faults import Rule
from sim_device.serial_unit import KINDS, Effect, SerialUnit

_FIRE: Final = 121
_CODES: Final = {1: Coil.C70BF, 3: Coil.C50BF, 4: Coil.C120BFV}
"""What the unit calls the coils of physics.py; it has no double cone."""

_NO_ANSWERS: Final = {"no_reply", "reply_late", "bad_crc", "rx_bad_crc"}
_OWN: Final = (
    "panel_setting", "disarms_itself", "falls_idle", "charger_fault", "spontaneous_pulse",
    "external_trigger",
)  # fmt: skip
_FAULTS_7: Final = 0b0111_1000  # of byte 7: power_hot, coil_absent, hold_error, recharge_error
_FAULTS_8: Final = 0b0101_1100  # of byte 8: fan_seized, coil_hot, resistor_hot, discharge_hot


def duomag_xt(
    settings: DuomagSettings, rng: random.Random, log: Log, rules: Iterable[Rule] = ()
) -> SerialUnit:
    """A DuoMAG XT."""
    return SerialUnit(settings, rng, log, rules, lambda b: Duomag(b, settings), Dialect())


class Duomag:
    """What it makes of bytes, of its knob, of its trigger input and of its sensors."""

    kinds = KINDS - _NO_ANSWERS | set(_OWN)

    def __init__(self, bench: SerialUnit, settings: DuomagSettings) -> None:
        self._bench, self._settings = bench, settings
        self.effects: Mapping[str, Effect] = {
            "panel_setting": self._turn,
            "disarms_itself": lambda _: self._turn(-100),
            "falls_idle": lambda _: self._fall_idle(),
            "charger_fault": lambda _: self._break_charger(),
            "spontaneous_pulse": lambda _: self._spontaneous(),
            "external_trigger": lambda _: self._edge(),
        }
        self.power_up()

    def power_up(self) -> None:
        settings, now = self._settings, self._bench.now
        self._pairs = Pairs(settings.pair_within_us)
        self._mso = 0
        self._delays = {0x80: 0, 0xA0: 0, 0xC0: 0, 0xE0: 0}  # the last command of each kind
        self._omitted = self._turned = 0
        self._edge_seen = self._idle = self._broken = self._charging = False
        self._heard_at: int | None = None  # no byte yet
        self._acted_at = now
        self._hold_no = 0  # counts the waits of the recharge delay
        self._set(settings.start_pct)
        self._say_status()

    def power_down(self) -> None:
        self._stop_charging("POWER")
        self._mso = 0

    # -- commands ------------------------------------------------------------------------------

    def hear(self, data: bytes) -> None:
        bench = self._bench
        self._heard_at = bench.now
        for byte in self._pairs.feed(data, bench.now):
            if bench.lacks(byte):
                continue
            self._acted_at = bench.now
            if byte <= 100:
                self._set(byte)
            elif byte == _FIRE:
                self._fire("fire")
            elif byte >= 0x80:
                self._delays[byte & 0xE0] = byte & 0x1F
            elif self._settings.unknown_commands == "full_intensity":
                self._set(100)

    def _set(self, mso_pct: int) -> None:
        """A new set-point, of host or panel. It charges to it by itself."""
        self._mso, self._idle = mso_pct, False
        self._hold_no += 1
        self._charge("SET_TO_ZERO")

    def _charge(self, why_not: str) -> None:
        bench, mso = self._bench, self._mso
        if not mso or self._idle or (self._settings.fault_discharges and self._faults()):
            self._stop_charging(why_not)
            return
        self._charging = True
        bench.unit.charge_to(mso, bench.now)
        bench.log({"t_us": bench.now, "event": "arm", "mso": mso})
        number = self._hold_no
        bench.at(bench.unit.charged_at_us(), lambda: self._tell_ready(number))

    def _tell_ready(self, number: int) -> None:
        if number == self._hold_no and self._charged():
            self._bench.log({"t_us": self._bench.now, "event": "ready", "mso": self._mso})

    def _stop_charging(self, cause: str) -> None:
        bench = self._bench
        self._hold_no += 1
        bench.unit.charge_to(0, bench.now)
        if self._charging:
            bench.log({"t_us": bench.now, "event": "disarm", "cause": cause})
        self._charging = False

    # -- pulses --------------------------------------------------------------------------------

    def _fire(self, cause: str) -> None:
        """One pulse now, or one more that was omitted."""
        settings, bench = self._settings, self._bench
        if not self._charging or not (self._charged() or settings.fires_uncharged):
            top = 0 if settings.omitted_wraps else settings.omitted_max
            self._omitted = self._omitted + 1 if self._omitted < settings.omitted_max else top
            return
        seen = bench.pulse(cause)
        if seen is None:
            return
        delay_us = self._delay_us(0x80)
        self._hold_no += 1
        if delay_us:
            # It recharges only later: until then the voltage stays where the pulse left it.
            capacitor, number = bench.unit.capacitor, self._hold_no
            bench.unit.capacitor = capacitor.charge_to(capacitor.at(bench.now), bench.now)
            bench.at(bench.now + delay_us, lambda: self._recharge(number))

    def _recharge(self, number: int) -> None:
        if number == self._hold_no:
            self._bench.unit.charge_to(self._mso, self._bench.now)

    def _delay_us(self, high: int) -> int:
        """Of the commands from `high`: 5 upper bits of the steps; step and 2 lower bits."""
        upper, low = self._delays[high], self._delays[high | 0x20]
        return (upper << 2 | low & 3) * STEP_US[low >> 2]

    def _charged(self) -> bool:
        if not self._mso:
            return bool(self._settings.charged_at_zero)
        unit, now = self._bench.unit, self._bench.now
        # While the recharge delay runs the capacitor keeps a lower set-point than the knob's.
        return self._charging and unit.capacitor.target == self._mso and unit.charged_at_us() <= now

    # -- by itself -----------------------------------------------------------------------------

    def check(self) -> None:
        settings, bench = self._settings, self._bench
        faulty = bool(settings.fault_discharges and self._faults())
        if self._charging and faulty:
            self._stop_charging("FAULT")
            bench.log({"t_us": bench.now, "event": "fault", "cause": "FLAGS"})
        elif not self._charging and self._mso and not faulty and not self._idle:
            self._charge("FAULT")  # the fault is over, and nothing asks a person
        idle_us = settings.idle_after_ms * MS
        if idle_us and not self._idle and bench.now - self._acted_at >= idle_us:
            self._fall_idle()

    def _flags(self) -> tuple[int, int]:
        """Bytes 7 and 8 without receiving_usb."""
        settings, unit = self._settings, self._bench.unit
        gone = unit.coil_type == 0
        _, surface_dc = unit.temperatures_dc(self._bench.now)
        hot = not gone and surface_dc >= settings.coil_hot_dc
        flags_7 = settings.flags_7 | gone << 5 | self._broken << 3
        return flags_7, settings.flags_8 | hot << 4 | (not gone) << 1

    def _faults(self) -> bool:
        flags_7, flags_8 = self._flags()
        return bool(flags_7 & _FAULTS_7 or flags_8 & _FAULTS_8)

    def _adc(self, temperature_dc: int) -> int:
        value = self._settings.adc_at_0c + self._settings.adc_per_100c * temperature_dc // 1_000
        return min(max(value, 0), 254)

    def _say_status(self) -> None:
        bench, settings = self._bench, self._settings
        now, heard_at = bench.now, self._heard_at
        flags_7, flags_8 = self._flags()
        room = self._adc(settings.room_dc)
        low_in, low_out = self._delays[0xA0], self._delays[0xE0]
        status = Status(
            ttl_demand=int(self._edge_seen),
            change_pct=min(max(self._turned, -16), 15),
            mso_pct=self._mso,
            coil_adc=self._adc(bench.unit.temperatures_dc(now)[0]),
            resistor_adc=room,
            discharge_adc=room,
            omitted=self._omitted,
            power_hot=flags_7 >> 6 & 1,
            coil_absent=flags_7 >> 5 & 1,
            hold_error=flags_7 >> 4 & 1,
            recharge_error=flags_7 >> 3 & 1,
            fan_seized=flags_8 >> 6 & 1,
            coil_hot=flags_8 >> 4 & 1,
            resistor_hot=flags_8 >> 3 & 1,
            discharge_hot=flags_8 >> 2 & 1,
            coil_data_ok=flags_8 >> 1 & 1,
            receiving_usb=int(heard_at is not None and now - heard_at <= settings.usb_bit_us),
            idle=int(self._idle),
            charged=int(self._charged()),
            ttl_steps=self._delays[0xC0] << 2 | low_out & 3,
            recharge_steps=self._delays[0x80] << 2 | low_in & 3,
            recharge_step=low_in >> 2,
            ttl_step=low_out >> 2,
            coil_type=_CODES.get(bench.unit.coil_type, 0),
        )
        self._edge_seen, self._turned = False, 0
        spare = settings.byte_13, settings.byte_14
        bench.say(record(status, settings.record_bytes, spare, unused=bool(settings.unused_bits)))
        bench.at(now + settings.status_period_us, self._say_status)

    # -- people, and what breaks ---------------------------------------------------------------

    def _turn(self, by_pct: int) -> bool:
        """Somebody turns the knob."""
        wanted = min(max(self._mso + by_pct, 0), 100)
        if wanted == self._mso:
            return False
        self._turned += wanted - self._mso
        self._acted_at = self._bench.now
        self._set(wanted)
        return True

    def _edge(self) -> bool:
        """An edge at the trigger input."""
        self._edge_seen = True
        self._acted_at = self._bench.now
        self._fire("external")
        return True

    def _spontaneous(self) -> bool:
        if not self._charged():
            return False
        self._fire("spontaneous")
        return True

    def _fall_idle(self) -> bool:
        if self._idle or not self._charging:
            return False
        self._idle = True
        self._stop_charging("IDLE")
        return True

    def _break_charger(self) -> bool:
        """It stays broken until the power is switched off."""
        if self._broken:
            return False
        self._broken = True
        return True
