"""The drivers that are put to the conformance suite: one row each, in the device's own terms.

What a device by its nature cannot do is in `cannot`, with the reason; every other demand is made.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from drivers.contract import DriverInfo, PulseBlock, StopClass
from firmware_protocol.quantities import MS, SECOND, PercentMso
from tests.families import (
    BISTIM,
    DUOMAG,
    LIFE,
    M200,
    R30,
    RAPID,
    RAPID_7,
    TMSLINK_FAMILY,
    X100,
    Family,
)

MSO: Final = PercentMso(5)
SINGLE: Final = PulseBlock(1, MSO, 1, 0, 1, 0)
TEN: Final = PulseBlock(
    1, MSO, bursts=10, burst_period_us=20 * MS, pulses_per_burst=1, interval_us=0
)
BURSTS: Final = PulseBlock(
    1, MSO, bursts=3, burst_period_us=200 * MS, pulses_per_burst=3, interval_us=20 * MS
)
BURST: Final = PulseBlock(1, MSO, 1, 0, pulses_per_burst=5, interval_us=20 * MS)
LONG: Final = PulseBlock(
    1, MSO, bursts=9, burst_period_us=100 * MS, pulses_per_burst=1, interval_us=0
)
BLOCKS: Final = {"ten": TEN, "bursts": BURSTS, "burst": BURST, "long": LONG, "single": SINGLE}
"""Each driver is tried with those of them that it takes."""

STOP_US: Final = {
    StopClass.NATIVE_LEASE: 20 * MS,
    StopClass.KEEP_ALIVE: 100 * MS,
    StopClass.NONE: 100 * MS,
}
"""From STOP, on a line that works, to the last pulse and to disarmed."""

PERMIT_US: Final = 50 * MS
"""From a beat: no pulse is triggered later."""


class Strange(NamedTuple):
    """A device that this driver must not take, and how it begins to say so."""

    family: Family
    settings: Mapping[str, Any]
    why: str


@dataclass(frozen=True, eq=False)
class Row:
    """One driver, and the emulated device that it is tried on."""

    name: str
    family: Family
    quick: Mapping[str, Any]  # settings that make tests short
    serial: str
    boot_count: int  # of the first connection
    connect_us: int  # from a line that works to LinkUp and a status, at most
    round_us: int  # question, what the unit takes to answer it, answer: without the line's delay
    end_us: int  # from the call an arming has ended, whatever the line does
    garbled_stop_us: int  # STOP_US when noise comes before, and every write is spoilt once
    pulse_us: Callable[[Any], int]  # error of a pulse's time, but for the line's delay
    seeds_pct: int  # of those of the fastest
    silences: tuple[str, ...]  # how it says that nothing or nobody answers
    strange: Strange | None
    cannot: Mapping[str, str]  # demand: why not

    @property
    def info(self) -> DriverInfo:
        return self.family.info

    @property
    def host_triggers(self) -> bool:
        """Each block begins with a trigger of the host, in time."""
        return self.info.stop_class is not StopClass.NATIVE_LEASE

    @property
    def stop_us(self) -> int:
        return STOP_US[self.info.stop_class]


UNTAGGED: Final = "its frames carry no number: one that comes again is as good as the first"
NO_CHECKSUM: Final = "its bytes carry no checksum: noise may read like them"
NO_LATCH: Final = "it has no latch of its own: the driver keeps one, and the line stays"
TRAIN_GOES_ON: Final = "nobody knows whether a running train ends: none is longer than the lease"
ONE_PULSE: Final = "what was triggered is over before anything could end it"
NO_CEILING: Final = "it takes no ceiling from its host: the driver keeps it"

_TMSLINK = Row(
    name="tmslink",
    family=TMSLINK_FAMILY,
    quick={"rise_us_per_pct": 1_000},
    serial="SIM00001",
    boot_count=1,
    connect_us=2 * SECOND,
    round_us=3 * MS,
    end_us=40 * MS,
    garbled_stop_us=20 * MS,
    pulse_us=lambda driver: 100 + int(driver._clock.error_us),
    seeds_pct=100,
    silences=("mute: ", "unasked: "),
    strange=Strange(TMSLINK_FAMILY, {"protocol": 9}, "wrong-version: "),
    cannot={},
)


def _magstim(name: str, family: Family, strange: Strange, **more: Any) -> Row:
    quick = {"rise_us_per_pct": 1_000, "arming_us": 20 * MS}
    return Row(
        name=name,
        family=family,
        quick={**quick, **more.pop("quick", {})},
        serial="",
        boot_count=LIFE,
        connect_us=3 * SECOND,
        round_us=60 * MS,
        end_us=800 * MS,
        garbled_stop_us=1_300 * MS,  # left to its dead-man
        pulse_us=lambda driver: MS,
        seeds_pct=10,
        silences=("mute: ", "garbage: ", "unlock-", "unasked: "),
        strange=strange,
        cannot={
            "latch": NO_LATCH,
            "ceiling": NO_CEILING,
            "repeated": UNTAGGED,
            **more.pop("cannot", {}),
        },
    )


def _magpro(family: Family, strange: Family, **cannot: str) -> Row:
    return Row(
        name=family.info.name,
        family=family,
        quick={"rise_us_per_pct": 1_000},
        serial="12345",
        boot_count=LIFE,
        connect_us=3 * SECOND,
        round_us=300 * MS,
        end_us=1_500 * MS,
        garbled_stop_us=SECOND,
        pulse_us=lambda driver: MS,
        seeds_pct=10,
        silences=("mute: ", "garbage: ", "unasked: "),
        strange=Strange(strange, {}, "wrong-model: "),
        cannot={
            "latch": NO_LATCH,
            "ceiling": NO_CEILING,
            "repeated": UNTAGGED,
            **cannot,
        },
    )


_DUOMAG = Row(
    name="duomag-xt",
    family=DUOMAG,
    quick={"rise_us_per_pct": 1_000},
    serial="",
    boot_count=LIFE,
    connect_us=3 * SECOND,
    round_us=60 * MS,
    end_us=SECOND + 60 * MS,
    garbled_stop_us=500 * MS,
    pulse_us=lambda driver: MS,
    seeds_pct=10,
    silences=("mute: ", "garbage: ", "still-armed: "),
    strange=None,
    cannot={
        "latch": NO_LATCH,
        "ceiling": NO_CEILING,
        "repeated": UNTAGGED,
        "noise": NO_CHECKSUM,
        "lost": "nothing is asked: a record that does not come is missed by nobody",
        "strange": "its records do not say what it is",
        "cut": ONE_PULSE,
    },
)

DRIVERS: Final = (
    _TMSLINK,
    _magstim("magstim-200", M200, Strange(BISTIM, {}, "wrong-model: "), cannot={"cut": ONE_PULSE}),
    _magstim(
        "magstim-bistim", BISTIM, Strange(M200, {}, "wrong-model: "), cannot={"cut": ONE_PULSE}
    ),
    _magstim(
        "magstim-rapid",
        RAPID,
        Strange(RAPID, {"firmware": "99.0"}, "firmware-unknown: "),
        cannot={"cut": TRAIN_GOES_ON},
    ),
    _magstim(
        "magstim-rapid-7",
        RAPID_7,
        Strange(RAPID, {"firmware": "9.0"}, "unlock-missing: "),
        quick={"firmware": "7.0"},
        cannot={"cut": TRAIN_GOES_ON},
    ),
    _magpro(R30, X100, cut=ONE_PULSE),
    _magpro(X100, R30, cut="nobody knows whether a running burst ends: it lasts 80 ms"),
    _DUOMAG,
)
