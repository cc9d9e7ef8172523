"""Every limit in one reviewed table: value, hard bound, source, and whether it was re-read.

Three layers, each may only tighten the one before (DESIGN §5): (a) `absolute`, never exceeded;
(b) `general`, exceeded only by a library protocol whose file says so; (c) the plan itself. Beyond
`soft`, where a row has it, a person must confirm a second time and give a reason.
A row that is not `verified` was taken from memory or proposed here; a clinician has to re-read it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Final


@dataclass(frozen=True, slots=True)
class LimitRow:
    """One limit. `at_most`: True when a smaller value is tighter."""

    name: str
    unit: str
    soft: int | None  # between here and `general` a reason is needed; None: there is no such range
    general: int
    absolute: int
    at_most: bool
    settable: bool  # may a site tighten it, may a protocol exceed `general`
    verified: bool
    source: str

    @property
    def bound(self) -> int:
        """What needs neither a reason nor an exception."""
        return self.general if self.soft is None else self.soft


def _most(
    name: str, unit: str, general: int, absolute: int, source: str, soft: int | None = None
) -> LimitRow:
    return LimitRow(name, unit, soft, general, absolute, True, True, False, source)


def _least(
    name: str, unit: str, general: int, absolute: int, source: str, soft: int | None = None
) -> LimitRow:
    return LimitRow(name, unit, soft, general, absolute, False, True, False, source)


def _fixed(name: str, unit: str, value: int, source: str) -> LimitRow:
    return LimitRow(name, unit, None, value, value, True, False, False, source)


def _fixed_least(name: str, unit: str, value: int, source: str) -> LimitRow:
    return LimitRow(name, unit, None, value, value, False, False, False, source)


_MAGPY: Final = "Rapid2 in a public driver (magpy)"

TABLE: Final[tuple[LimitRow, ...]] = (
    # Dose. A protocol of the library may exceed `general` up to `absolute`, with a source.
    _most("mso_max_pct", "%MSO", 100, 100, "full output of the device"),
    _most("mt_max_pct", "% of motor threshold", 120, 120, "highest cleared protocols, 120 % rMT"),
    _least("interval_min_us", "us", 20_000, 10_000, "theta burst 50 Hz (Huang 2005)"),
    _most("pulses_1s_max", "pulses in 1 s", 20, 25, "20 Hz; Rossi 2009 tables end at 25 Hz"),
    _most("pulses_60s_max", "pulses in 60 s", 240, 600,
          "mean rate of published protocols is at most 4 /s; cTBS 600 in 40 s"),
    _most("train_us_max", "us", 10_000_000, 1_800_000_000, "Rossi 2009 table 4; 1 Hz up to 1800 s"),
    _most("beyond_table_us_max", "us", 0, 1_800_000_000,
          "a train longer than the guideline tables allow: none, but as long as a protocol says, "
          "with the motor threshold measured by EMG"),
    _least("train_gap_min_us", "us", 5_000_000, 2_000_000, "Chen 1997: 5 s safe, 1 s unsafe"),
    _most("energy_60s_max_j", "J in 60 s", 63_000, 63_000,
          f"{_MAGPY}: 1050 W for 60 s"),
    _most("session_pulses_max", "pulses", 5_000, 5_000,
          "pivotal trials 3000; device cap of 5000", soft=3_000),
    _most("session_us_max", "us", 2_700_000_000, 3_600_000_000, "37.5 min and a margin"),
    _most("pulses_day_max", "pulses in 24 h", 6_000, 18_000,
          "pivotal trials 3000; twice daily 6000 (Modirrousta 2018); SNT 18000", soft=3_000),
    _most("pulses_week_max", "pulses in 7 d", 30_000, 90_000,
          "pivotal trials 15000; Modirrousta 2018 30000 (Hadley 2011 gave 34000, the stricter "
          "is taken); SNT 90000", soft=15_000),
    _least("session_gap_min_s", "s", 3_000, 3_000,
           "SNT: 50 min, read from the last pulse to the next first one (from onset to onset it "
           "would be 40 min); 4 h proposed for everything else", soft=14_400),
    _most("coil_max_dc", "0.1 degree C", 410, 410, "IEC 60601-1 applied part 41 C"),
    # The watch over people, device, service and the guard itself. Nobody can change these.
    _fixed("presence_age_max_us", "us", 60_000_000, "H17: a sign of presence at most 60 s old"),
    _fixed("confirm_age_max_us", "us", 10_000_000, "A-12: consent at most 10 s old"),
    _fixed("self_test_age_max_us", "us", 86_400_000_000, "A-12, P-01: of the last 24 h"),
    _fixed("armed_idle_max_us", "us", 60_000_000, "A-13: disarm after 60 s without a pulse"),
    LimitRow("status_age_max_us", "us", None, 60_000, 250_000, True, False, False,
             "A-12: device status at most 60 ms old; as old as its driver states for a device that "
             "answers more slowly"),
    _fixed("service_age_max_us", "us", 1_000_000, "loss of tmsd noticed within 1 s"),
    _fixed("cycle_gap_max_us", "us", 40_000, "T-02: an overrun of more than 40 ms trips"),
    _fixed("arming_max_us", "us", 4_000_000, "100 %MSO at 10 ms a percent, with margin"),
    _fixed("unresolved_max_us", "us", 1_000_000, "an unknown outcome is read back within 1 s"),
    _fixed("refusals_max", "blocks", 2,
           "one refusal may be a late command; the third in a row is a disagreement"),
    _fixed("missed_max", "pulses in a row", 2, "H-04: more than two missed in a row pause"),
    _fixed("link_errors_max", "errors in 60 min", 1, "L-03: one in 60 min while armed, not two"),
    _fixed("realised_off_max_permille", "permille of MSO", 30,
           "D-01 asks 1 %MSO; read-back steps and charge tolerance added"),
    _fixed("didt_off_max_permille", "permille of the coil's di/dt", 60,
           "6 %, or didt_off_floor_a_per_us where that is more; proposed"),
    _fixed("didt_off_floor_a_per_us", "A/us", 3, "the read-back has steps of 1 A/us; proposed"),
    _fixed_least("coil_min_dc", "0.1 degree C", 50, "H16: plausible is 5 to 60 C"),
    _fixed("coil_sensor_max_dc", "0.1 degree C", 600, "H16: plausible is 5 to 60 C"),
    _fixed("coil_rate_max_dc", "0.1 degree C in 1 s", 20, "H16: at most 2 K/s"),
    _fixed("coil_stuck_max_j", "J", 5_000, "H16: so much energy warms every coil"),
    # The device: how long its capacitor takes, and what its supply gives.
    _fixed_least("settle_up_us_per_pct", "us for 1 %MSO", 10_000, f"{_MAGPY}: rise"),
    _fixed_least("settle_down_us_per_pct", "us for 1 %MSO", 100_000, f"{_MAGPY}: bleeding"),
    _fixed("train_rest_min_us", "us", 500_000,
           f"{_MAGPY}: a shorter pause is none; after one as long the mean power is judged"),
    _fixed("power_max_w", "W", 1_050, f"{_MAGPY}: mean over a train and the rest after it"),
)  # fmt: skip

SETTING_MAX: Final = 3_600_000_000
"""An hour in microseconds; every limit that can be set fits, and every wire field holds it."""

ROWS: Final[dict[str, LimitRow]] = {row.name: row for row in TABLE}


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits in force. Built only by `site_limits`, `session_limits` and `tightened`."""

    mso_max_pct: int
    mt_max_pct: int
    interval_min_us: int
    pulses_1s_max: int
    pulses_60s_max: int
    train_us_max: int
    beyond_table_us_max: int
    train_gap_min_us: int
    energy_60s_max_j: int
    session_pulses_max: int
    session_us_max: int
    pulses_day_max: int
    pulses_week_max: int
    session_gap_min_s: int
    coil_max_dc: int
    presence_age_max_us: int
    confirm_age_max_us: int
    self_test_age_max_us: int
    armed_idle_max_us: int
    status_age_max_us: int
    service_age_max_us: int
    cycle_gap_max_us: int
    arming_max_us: int
    unresolved_max_us: int
    refusals_max: int
    missed_max: int
    link_errors_max: int
    realised_off_max_permille: int
    didt_off_max_permille: int
    didt_off_floor_a_per_us: int
    coil_min_dc: int
    coil_sensor_max_dc: int
    coil_rate_max_dc: int
    coil_stuck_max_j: int
    settle_up_us_per_pct: int
    settle_down_us_per_pct: int
    train_rest_min_us: int
    power_max_w: int

    def __post_init__(self) -> None:
        for field in fields(self):
            row, value = ROWS[field.name], getattr(self, field.name)
            if type(value) is not int or value < 0:
                raise ValueError(f"limit {row.name} is {value!r}; a whole number >= 0 is needed")
            if _looser(row, value, row.absolute):
                raise ValueError(
                    f"limit {row.name} is {value} {row.unit}; "
                    f"{'at most' if row.at_most else 'at least'} {row.absolute} is allowed"
                )


def _looser(row: LimitRow, value: int, than: int) -> bool:
    return value > than if row.at_most else value < than


def stricter(row: LimitRow, one: int, other: int) -> int:
    """The tighter one of two values of a limit."""
    return min(one, other) if row.at_most else max(one, other)


GENERAL: Final = Limits(**{row.name: row.general for row in TABLE})


def site_limits(settings: Mapping[str, object]) -> Limits:
    """The general layer, tightened by a site's configuration.

    ValueError with one sentence for an unknown name, a value that is no whole number, one that
    is negative, or one that loosens the limit.
    """
    values: dict[str, int] = {}
    for name, value in settings.items():
        row = ROWS.get(name)
        if row is None or not row.settable:
            allowed = ", ".join(r.name for r in TABLE if r.settable)
            raise ValueError(f"limit {name!r} cannot be set; allowed are {allowed}")
        if type(value) is not int or value < 0:
            raise ValueError(f"limit {name} is {value!r}; a whole number of {row.unit} is needed")
        if _looser(row, value, row.general):
            raise ValueError(
                f"limit {name} = {value} would loosen the limit; "
                f"{'at most' if row.at_most else 'at least'} {row.general} {row.unit} is allowed"
            )
        if value > SETTING_MAX:
            raise ValueError(
                f"limit {name} = {value} is too large; at most {SETTING_MAX} is allowed"
            )
        values[name] = value
    return replace(GENERAL, **values)


def device_limits(site: Limits, status_age_us: int) -> Limits:
    """The site's limits for a device whose status can be kept no fresher than this.

    ValueError when that is beyond the absolute layer.
    """
    return replace(site, status_age_max_us=max(site.status_age_max_us, status_age_us))


def session_limits(site: Limits, exceeds: Mapping[str, int]) -> Limits:
    """The site's limits with what a library protocol may exceed.

    A site that tightened a limit keeps its own value: the protocol loosens the general layer only.
    ValueError as `site_limits`, and for a value beyond the absolute layer.
    """
    values: dict[str, int] = {}
    for name, value in exceeds.items():
        row = ROWS.get(name)
        if row is None or not row.settable:
            raise ValueError(f"limit {name!r} cannot be exceeded by a protocol")
        if getattr(site, name) == row.general:
            values[name] = value
    return replace(site, **values)
