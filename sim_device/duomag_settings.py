"""What can be set of an emulated DuoMAG. Every row below is something that nobody has published."""

from __future__ import annotations

from dataclasses import dataclass

from sim_device.duomag_wire import SIZES
from sim_device.settings import Physics, choice, number

UNKNOWN_COMMANDS = ("ignored", "full_intensity")


@dataclass(frozen=True, slots=True)
class DuomagSettings(Physics):
    """The unit as it left the factory; the defaults are the safer way where there is one."""

    status_period_us: int = number(50_000, "us", 1_000, 10_000_000, "from record to record")
    record_bytes: int = number(15, "bytes", *SIZES, "of a record behind its sync; older units: 13")
    byte_13: int = number(0, "", 0, 254, "of the record, meaning unknown")
    byte_14: int = number(0, "", 0, 254, "of the record, meaning unknown")
    unused_bits: int = number(0, "", 0, 1, "what bits of the record without a meaning are")
    unknown_commands: str = choice(
        "ignored", UNKNOWN_COMMANDS, "what the bytes 101..120 and 122..127 do"
    )
    pair_within_us: int = number(
        10_000, "us", 0, 10_000_000, "a byte whose double comes later is forgotten; 0: never"
    )
    start_pct: int = number(0, "%MSO", 0, 100, "intensity after power-up")
    fires_uncharged: int = number(
        0, "", 0, 1, "1: a FIRE before it is charged gives a weaker pulse; 0: omitted, counted"
    )
    charged_at_zero: int = number(0, "", 0, 1, "does it say charged at an intensity of 0")
    fault_discharges: int = number(
        1,
        "",
        0,
        1,
        "a coil that is hot or gone, or a failing charger: 1 discharges, 0 only says so",
    )
    omitted_max: int = number(127, "pulses", 1, 254, "the count of omitted pulses ends here")
    omitted_wraps: int = number(0, "", 0, 1, "1: and begins at 0 again; 0: and stays")
    coil_hot_dc: int = number(410, "0.1 C", 0, 1_000, "surface of the coil that sets coil_hot")
    adc_at_0c: int = number(20, "", 0, 254, "reading of every temperature sensor at 0 degree C")
    adc_per_100c: int = number(200, "", -2_000, 2_000, "and how much it rises in 100 degrees")
    usb_bit_us: int = number(
        100_000, "us", 0, 10_000_000, "receiving_usb is set so long after a byte of the host"
    )
    idle_after_ms: int = number(
        0, "ms", 0, 3_600_000, "so long without pulse or command it is idle, discharged; 0: never"
    )
    flags_7: int = number(0, "", 0, 127, "bits that byte 7 shows besides, 64: power_hot ...")
    flags_8: int = number(0, "", 0, 127, "bits that byte 8 shows besides, 64: fan_seized ...")
