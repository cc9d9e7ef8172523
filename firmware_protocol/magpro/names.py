"""What the numbers of the MagPro protocol mean, and what each model can do. Data only.

Nobody has published the protocol. The facts are from clients that others wrote and tried on their
own units: L2K2/TMSEMG_toolbox (X100+Option), xiangruili/MagventureTMS and MagventurePyTMS (X100),
nigelrogasch/MAGIC and its translation magicpy. Where they disagree the lower bound stands here.
"""

from __future__ import annotations

import enum
from typing import Final, NamedTuple


class Model(enum.IntEnum):
    R30 = 0
    X100 = 1
    R30_OPTION = 2
    X100_OPTION = 3
    R30_OPTION_MONO = 4
    MST = 5


class Mode(enum.IntEnum):
    STANDARD = 0
    POWER = 1
    TWIN = 2  # two pulses a trigger, B as a ratio of A
    DUAL = 3  # two pulses a trigger, B set by itself


class Waveform(enum.IntEnum):
    MONOPHASIC = 0
    BIPHASIC = 1
    HALF_SINE = 2
    BIPHASIC_BURST = 3


class CurrentDirection(enum.IntEnum):
    NORMAL = 0
    REVERSE = 1


class Page(enum.IntEnum):
    """What the screen shows; it decides what START starts."""

    MAIN = 1
    TIMING = 2
    TRIGGER = 3
    CONFIG = 4
    DOWNLOAD = 6
    PROTOCOL = 7
    MEP = 8
    SERVICE = 13
    TREATMENT = 15
    TREAT_SELECT = 16
    SERVICE_2 = 17
    CALCULATOR = 19


SETTABLE_PAGES: Final = (Page.MAIN, Page.TIMING, Page.TRIGGER, Page.CONFIG, Page.PROTOCOL)


class TimingControl(enum.IntEnum):
    """Low four bits of the timing control byte; bit 4 is the extended rate, which no host can set.

    With the extended rate the steps of 0.1 Hz go on to 20 Hz.
    """

    SEQUENCE = 0
    EXTERNAL_TRIGGER = 1
    EXTERNAL_SEQUENCE_START = 2
    EXTERNAL_SEQUENCE_CONTINUE = 3


EXTENDED_RATE_BIT: Final = 0x10

COIL_TYPES: Final[dict[int, str]] = {
    0: "unknown or none",
    56: "Cool-B35",
    60: "Cool-B65",
    62: "MCF-B65",
    63: "MCF-P-B65",
    64: "Cool-B65 A/P",
    72: "C-B60",
    73: "C-B70",
    81: "MC-125",
    82: "MC-B70",
    86: "D-B80",
}
COOLED_COILS: Final = frozenset({56, 60, 64})
NO_COOLER_C: Final = 90
"""What a cooled coil tells as its temperature while no cooler is attached."""


class Status(NamedTuple):
    """The status byte that nearly every frame of the unit carries."""

    mode: int
    waveform: int
    enabled: bool
    model: int

    def byte(self) -> int:
        return self.mode | self.waveform << 2 | self.enabled << 4 | self.model << 5


def status_of(byte: int) -> Status:
    """Every byte is a status; models 6 and 7 are not known."""
    return Status(byte & 3, byte >> 2 & 3, bool(byte & 0x10), byte >> 5)


# -- what is read back as an index ----------------------------------------------------------------


def _down(first: int, last: int, step: int) -> tuple[int, ...]:
    return tuple(range(first, last - 1, -step))


IPI_OF_INDEX_BURST_DMS: Final = _down(1000, 200, 10) + _down(195, 100, 5) + _down(99, 5, 1)
"""Interval from pulse to pulse in a burst by the index that is read back, 0.1 ms: 0..195."""

IPI_OF_INDEX_PAIR_DMS: Final = (
    _down(30_000, 10_000, 1_000)
    + _down(9_500, 5_000, 500)
    + _down(4_900, 1_000, 100)
    + _down(990, 200, 10)
    + _down(195, 100, 5)
    + _down(99, 10, 1)
)
"""The same from A to B in Twin and Dual: 0..260. Monophasic pairs begin at 2.0 ms."""

IPI_MIN_MONOPHASIC_DMS: Final = 20

BA_OF_INDEX_TWIN_PCT: Final = _down(500, 20, 5)
"""B in percent of A in Twin: 0..96."""

B_OF_INDEX_DUAL_PCT: Final = _down(100, 0, 1)
"""Amplitude of B in Dual: 0..100."""

PULSES_OF_INDEX: Final = (5, 4, 3, 2)
"""Pulses of a burst by burst index."""

# -- what each model can do -----------------------------------------------------------------------


class Ability(NamedTuple):
    """Of one model, as MagventurePyTMS has it."""

    modes: tuple[Mode, ...]
    waveforms: tuple[Waveform, ...]
    directions: tuple[CurrentDirection, ...]


_ONE_WAY: Final = (CurrentDirection.NORMAL,)
_BOTH_WAYS: Final = (CurrentDirection.NORMAL, CurrentDirection.REVERSE)

ABILITIES: Final[dict[Model, Ability]] = {
    Model.R30: Ability((Mode.STANDARD,), (Waveform.BIPHASIC,), _ONE_WAY),
    Model.X100: Ability(
        (Mode.STANDARD,),
        (Waveform.MONOPHASIC, Waveform.BIPHASIC, Waveform.BIPHASIC_BURST),
        _BOTH_WAYS,
    ),
    Model.R30_OPTION: Ability(
        (Mode.STANDARD, Mode.TWIN, Mode.DUAL), (Waveform.MONOPHASIC, Waveform.BIPHASIC), _ONE_WAY
    ),
    Model.X100_OPTION: Ability(tuple(Mode), tuple(Waveform), _BOTH_WAYS),
    # Named by one client and described by none: taken for an R30+Option.
    Model.R30_OPTION_MONO: Ability(
        (Mode.STANDARD, Mode.TWIN, Mode.DUAL), (Waveform.MONOPHASIC, Waveform.BIPHASIC), _ONE_WAY
    ),
}

PAIRS: Final = frozenset({Mode.TWIN, Mode.DUAL})
X100_MAX_DHZ: Final = 1_000
R30_MAX_DHZ: Final = 300
R30_PAIR_MAX_DHZ: Final = 50
X100_PAIR_MAX_DHZ: Final = 500
MONOPHASIC_PAIR_MAX_DHZ: Final = 50  # 200 in TMSEMG_toolbox, 50 in MagventurePyTMS
BURST_MAX_DHZ: Final = 200


def rate_max_dhz(model: Model, mode: Mode, waveform: Waveform) -> int:
    """Ceiling of the repetition rate of pulses, pairs or bursts, 0.1 Hz."""
    if waveform is Waveform.BIPHASIC_BURST:
        return BURST_MAX_DHZ
    fast = model in (Model.X100, Model.X100_OPTION)
    if mode in PAIRS and waveform is Waveform.MONOPHASIC:
        return MONOPHASIC_PAIR_MAX_DHZ
    if mode in PAIRS:
        return X100_PAIR_MAX_DHZ if fast else R30_PAIR_MAX_DHZ
    return X100_MAX_DHZ if fast else R30_MAX_DHZ


RATES_DHZ: Final = (*range(1, 10), *range(10, 1_001, 10))
"""0.1 to 0.9 Hz by 0.1, then 1 to 100 Hz by 1; 0.1 Hz. Without the extended rate."""

PULSES_IN_TRAIN: Final = (*range(1, 1_001), *range(1_100, 2_001, 100))
TRAINS_MAX: Final = 500
ITI_MAX_DS: Final = 3_000  # 1_200 in TMSEMG_toolbox
DELAY_IN_DMS: Final = (*range(101), *range(110, 1_001, 10), *range(1_100, 65_001, 100))
DELAY_OUT_DMS: Final = (*range(-1_000, -99, 10), *range(-99, 101), *range(110, 1_001, 10))
CHARGE_DELAY_MS: Final = (*range(0, 101, 10), *range(125, 4_001, 25), *range(4_050, 12_001, 50))
RAMP_PCT: Final = tuple(range(70, 101, 5))
RAMP_TRAINS_MAX: Final = 10
