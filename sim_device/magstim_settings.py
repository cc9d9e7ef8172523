"""What can be set of the emulated Magstim units. What no public source says is a row here."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from firmware_protocol.magstim import messages as m
from firmware_protocol.magstim.rates import Kind, Supply
from sim_device.settings import Physics, SetupError, choice, number, text

_VERSION: Final = re.compile(r"(\d{1,3})(\.\d{1,3}){1,2}")
_CODE: Final = re.compile(r"[^@]{4}-[^@]{8}-[^@]{2}")


@dataclass(frozen=True, slots=True)
class MagstimSettings(Physics):
    """Every unit of the family."""

    coil_type: int = number(1, "", 0, 4, "connected coil, 0 for none")
    power: int = number(30, "%MSO", 0, 100, "what is set when it is switched on")
    arming_us: int = number(m.ARMING_US, "us", 0, 60_000_000, "least time from arm to ready")
    keep_alive_us: int = number(
        m.KEEP_ALIVE_US, "us", 1_000, 60_000_000, "longest silence while armed"
    )
    standby_keep_alive_us: int = number(
        6_000_000, "us", 0, 3_600_000_000,
        "unknown: longest silence in standby; 0 for none (MagPy polls every 5 s)",
    )  # fmt: skip
    armed_idle_us: int = number(
        m.ARMED_IDLE_US, "us", 1_000, 3_600_000_000, "armed so long without a pulse: it disarms"
    )
    coil_max_dc: int = number(m.COIL_MAX_DC, "0.1 C", 0, 1_000, "above this it disarms")
    reply_us: int = number(3_000, "us", 0, 1_000_000, "unknown: from a command to its reply")
    fire_us: int = number(6_000, "us", 0, 100_000, "from the fire command to its pulse, 5 to 15 ms")
    after_pulse_us: int = number(
        100_000, "us", 0, 10_000_000,
        "unknown: so long after a pulse it is neither standby, armed nor ready",
    )  # fmt: skip
    partial_us: int = number(
        0, "us", 0, 60_000_000,
        "unknown: a command that is not complete is forgotten after such a silence; 0 never",
    )  # fmt: skip
    bad_checksum: str = choice(
        "data", ("data", "silence"), "unknown: a wrong checksum is answered like wrong data, or not"
    )
    unknown_needs_remote: int = number(1, "", 0, 1, "unknown: 1 when X and I need remote control")
    stops_on_disarm: int = number(
        0, "", 0, 1, "unknown: 1 when disarming ends a running train or pair; 0: it goes on"
    )
    replace_when_hot: int = number(
        0, "", 0, 1, "unknown: 1 when a coil that is too hot shows as one to be replaced"
    )


@dataclass(frozen=True, slots=True)
class Magstim200Settings(MagstimSettings):
    recharge_us_per_pct: int = number(1_300, "us/%", 1, 65535, "refill after a pulse, per %MSO")
    bistim_commands: str = choice(
        "data", ("data", "conflict"), "unknown: commands of a BiStim² get `?` or `S`"
    )


@dataclass(frozen=True, slots=True)
class BistimSettings(MagstimSettings):
    recharge_us_per_pct: int = number(1_300, "us/%", 1, 65535, "refill after a pulse, per %MSO")
    power_b: int = number(30, "%MSO", 0, 100, "of unit B when it is switched on")
    rest_us: int = number(4_000_000, "us", 0, 60_000_000, "pair to pair")
    both_rest_us: int = number(
        4_000_000, "us", 0, 60_000_000, "both at once: pulse to pulse, 2 to 4 s by power"
    )
    mode_after_remote_us: int = number(
        m.MODE_AFTER_REMOTE_US, "us", 0, 10_000_000, "Y and Z are refused so long after Q"
    )


@dataclass(frozen=True, slots=True)
class RapidSettings(MagstimSettings):
    firmware: str = text("9.0", 11, "version of the software, 5.0 or 10.2.0 for example")
    unlock: str = text("0123-456789ab-cd", 16, "made-up code that firmware 9 and later asks for")
    supply: str = choice("240", ("115", "240"), "mains, V")
    super: int = number(0, "", 0, 1, "1 for a Super Rapid²")
    plus: int = number(0, "", 0, 1, "1 for a Super Rapid² Plus¹; asks for super=1")
    coil_switch: int = number(0, "", 0, 1, "1: the coil has a safety switch that nobody holds")
    error: str = text("E01", 3, "unknown: code of I after a charger fault")
    duration_max_ds: int = number(
        1_000, "0.1 s", 1, 9_999,
        "sources say 100, 600 and 999.9 s: longest duration from firmware 9",
    )  # fmt: skip
    charge_delay_us: int = number(
        1_000, "us", 1, 1_000_000, "sources say ms and s: unit of the charge delay"
    )
    train_ends: str = choice(
        "later", ("later", "pulses", "duration"),
        "unknown: what ends a train whose pulses and duration disagree",
    )  # fmt: skip
    over_frequency: str = choice(
        "lowers", ("lowers", "refuses"),
        "unknown: power too high for the frequency lowers that, or refuses to fire",
    )  # fmt: skip
    enforces_energy: int = number(
        0, "", 0, 1, "1: it refuses trains beyond its energy; 0: it logs a fault `overdriven`"
    )
    plain_keep_alive: int = number(
        0, "", 0, 1, "unknown: 1 when Q without a code keeps firmware 9 and later alive"
    )

    def __post_init__(self) -> None:
        if _VERSION.fullmatch(self.firmware) is None:
            raise SetupError(f"--set firmware={self.firmware}: expected 9.0 or 10.2.0 for example.")
        if _CODE.fullmatch(self.unlock) is None:
            raise SetupError("--set unlock: expected xxxx-xxxxxxxx-xx, without an @.")
        if self.plus and not self.super:
            raise SetupError("--set plus=1: only a Super Rapid² has it; add super=1.")

    @property
    def major(self) -> int:
        return int(self.firmware.split(".")[0])

    @property
    def mains(self) -> Supply:
        return Supply(int(self.supply))

    @property
    def kind(self) -> Kind:
        return Kind(self.super + self.plus)
