"""What can be set of an emulated MagPro. What nobody has published is a row here, with its default.

The default is what clients report of a real unit; where they report nothing, what lets a careless
host do more harm: no answer, no dead-man, a pulse at whatever voltage there is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from firmware_protocol.magpro.names import Model
from sim_device.settings import Physics, choice, number

_FRAMES: Final = ("1", "1-3", "3-1", "1-3-1")
_NONE_OR_STATE: Final = ("none", "state")


@dataclass(frozen=True, slots=True)
class MagproSettings(Physics):
    """One unit and its firmware, apart from its model."""

    coil_type: int = number(73, "", 0, 255, "connected coil as the unit numbers it, 0 for none")
    cooler: int = number(1, "", 0, 1, "0: the cooler of a cooled coil is not attached")
    serial: int = number(12_345, "", 0, 0xFF_FFFF, "serial number")
    page: int = number(1, "", 1, 19, "page on the screen when it is switched on")
    reply_min_ms: int = number(20, "ms", 0, 5_000, "an answer comes after at least this")
    reply_max_ms: int = number(80, "ms", 0, 5_000, "and at most this")
    # Answers that nobody has published.
    enable_frames: str = choice("1-3-1", _FRAMES, "ids of the frames that answer enable (02 01)")
    disable_frames: str = choice("1", _FRAMES, "ids of the frames that answer disable (02 00)")
    reply_04: str = choice(
        "page", ("page", "mep"), "answer to start (04): id 08, or the 17 bytes of id 04 before it"
    )
    reply_06: str = choice("none", _NONE_OR_STATE, "answer to 06: none, or id 0B")
    reply_08: str = choice("none", _NONE_OR_STATE, "answer to 08: none, or id 0A")
    reply_09_01: str = choice("none", _NONE_OR_STATE, "answer to 09 01: none, or id 09")
    reply_0a_01: str = choice("none", _NONE_OR_STATE, "answer to 0A 01: none, or id 0A")
    reply_0b_01: str = choice("none", _NONE_OR_STATE, "answer to 0B 01: none, or id 0B")
    pair_frames: str = choice(
        "either", ("one", "two", "either"), "id-02 frames of one Twin or Dual pair"
    )
    burst_frames: str = choice("one", ("one", "each"), "id-02 frames of one burst")
    panel_frames: str = choice(
        "none",
        _NONE_OR_STATE,
        "mode, waveform or interval are set at its panel: it tells nothing, or id 09 and id 01",
    )
    counts: str = choice("trigger", ("trigger", "pulse"), "what the counter of 0C counts")
    count_resets: str = choice("start", ("never", "start", "enable"), "when it begins at 0 again")
    # What it makes of bad and of untimely commands.
    bad_crc: str = choice("ignore", ("ignore", "obey"), "a command with a wrong checksum")
    deaf_on_malformed: int = number(
        0, "", 0, 1, "1: a malformed command leaves it deaf until it is switched off and on"
    )
    out_of_range: str = choice(
        "snap", ("snap", "ignore"), "a value that it does not have: the nearest, or no change"
    )
    wrong_model: str = choice(
        "obey", ("obey", "ignore"), "09 01 that names another model than its own"
    )
    fire_disabled: str = choice(
        "silent", ("silent", "answer"), "fire or start while disabled: nothing, or id 01"
    )
    fire_uncharged: str = choice(
        "fire", ("fire", "ignore"), "a trigger before the voltage is there"
    )
    start_running: str = choice(
        "ignore", ("ignore", "stop"), "start (04) while a train runs: nothing, or it ends"
    )
    disable_stops_train: int = number(
        1, "", 0, 1, "0: a running train is finished before the unit is disabled"
    )
    # When it disables itself.
    coil_missing: str = choice("disable", ("disable", "ignore"), "without a coil")
    coil_hot: str = choice("disable", ("disable", "ignore"), "at or above coil_max_dc")
    coil_max_dc: int = number(430, "0.1 C", 0, 1_000, "coil surface temperature that disables")
    disable_after_s: int = number(0, "s", 0, 3_600, "enabled for so long without a pulse; 0: never")
    # The protocol that is stored behind its Protocol page.
    protocol_pulses: int = number(0, "pulses", 0, 2_000, "pulses of it; 0: none is stored")
    protocol_rate_dhz: int = number(10, "0.1 Hz", 1, 1_000, "their rate")


@dataclass(frozen=True, slots=True)
class R30Settings(MagproSettings):
    """An R30."""

    option: str = choice("none", ("none", "option", "mono"), "R30, +Option, +Option+Mono")
    recharge_us_per_pct: int = number(500, "us/%", 1, 65535, "refill after a pulse, per %MSO")

    @property
    def model(self) -> Model:
        return {
            "none": Model.R30,
            "option": Model.R30_OPTION,
            "mono": Model.R30_OPTION_MONO,
        }[self.option]


@dataclass(frozen=True, slots=True)
class X100Settings(MagproSettings):
    """An X100."""

    option: str = choice("none", ("none", "option"), "X100, +Option")

    @property
    def model(self) -> Model:
        return Model.X100 if self.option == "none" else Model.X100_OPTION


AnySettings = R30Settings | X100Settings
