"""Cases for every check of a whole plan and of a patient's dose; see `rule_cases`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from firmware_protocol.quantities import PercentMso
from tmsctl.safety.limits import Limits, session_limits, site_limits
from tmsctl.safety.patient import PatientDose
from tmsctl.stimulation.plan import Train

SECOND = 1_000_000
SITE = site_limits({})


class Case(NamedTuple):
    """What one rule is shown, and all codes that trip on it. `soft`: those that a reason passes."""

    table: str  # watch, gate, arm, plan or patient
    code: str
    given: Any
    trips: frozenset[str]
    soft: frozenset[str] = frozenset()


@dataclass(frozen=True)
class View:
    """A plan as the checks see it."""

    trains: tuple[Train, ...]
    mso: PercentMso
    mt_permille: int

    @property
    def pulses(self) -> int:
        return sum(train.pulses for train in self.trains)

    @property
    def span_us(self) -> int:
        return self.trains[-1].onset_us + self.trains[-1].span_us


class PlanAsked(NamedTuple):
    """The arguments of `check_plan`."""

    plan: View
    limits: Limits
    recharge: int | None
    by_emg: bool
    exceeds: Mapping[str, int]
    reviewer: str


class PatientAsked(NamedTuple):
    """The arguments of `patient_checks`."""

    history: PatientDose | None
    plan: View
    limits: Limits
    exceeds: Mapping[str, int]


def train(onset_us: int = 0, bursts: int = 1, period_us: int = 0, burst: int = 1,
          interval_us: int = 0) -> Train:  # fmt: skip
    """`bursts` bursts of `burst` pulses."""
    return Train(onset_us, 0, bursts, period_us, burst, interval_us)


def theta(onset_us: int = 0, bursts: int = 10, period_us: int = 200_000, burst: int = 3,
          interval_us: int = 20_000) -> Train:  # fmt: skip
    return train(onset_us, bursts, period_us, burst, interval_us)


def plan(*trains: Train, mso: int = 50, mt: int = 500) -> View:
    return View(trains or (train(),), PercentMso(mso), mt)


def asked(
    view: View,
    *,
    exceeds: Mapping[str, int] | None = None,
    site: Mapping[str, int] | None = None,
    by_emg: bool = True,
    reviewer: str = "A. Clinician, 2026-05-01",
    recharge: int | None = 10_000,
) -> PlanAsked:
    limits = session_limits(site_limits(site or {}), exceeds or {})
    return PlanAsked(view, limits, recharge, by_emg, exceeds or {}, reviewer)


def ok(code: str, view: View, others: Iterable[str] = (), soft: Iterable[str] = (),
       **how: Any) -> Case:  # fmt: skip
    """The check passes; `others` are refused and `soft` ones want a reason nevertheless."""
    return Case("plan", code, asked(view, **how), frozenset([*others, *soft]), frozenset(soft))


def bad(code: str, view: View, others: Iterable[str] = (), soft: Iterable[str] = (),
        **how: Any) -> Case:  # fmt: skip
    return Case("plan", code, asked(view, **how), frozenset([code, *others, *soft]),
                frozenset(soft))  # fmt: skip


def wants_reason(code: str, view: View, others: Iterable[str] = (), **how: Any) -> Case:
    return bad(code, view, others, [code], **how)


LONG = {"train_us_max": 1_800_000_000, "beyond_table_us_max": 1_800_000_000}
FAST = LONG | {"pulses_60s_max": 600}
LOW_SITE = {"mso_max_pct": 60}


def hot(second_us: int) -> View:
    """Two trains of 40 pulses at 10 Hz of 252 J each, the second one so long after the first."""
    return plan(train(0, 40, 100_000), train(second_us, 40, 100_000), mso=100, mt=1_000)


def ten_hertz(pulses: int, pct: int) -> View:
    return plan(train(0, pulses, 100_000), mso=pct // 2, mt=500)


LIMIT_CASES = (
    ok("ceiling-mso", plan(mso=60, mt=1_000), site=LOW_SITE),
    bad("ceiling-mso", plan(mso=61, mt=1_000), site=LOW_SITE),
    ok("ceiling-mt", plan(mso=60, mt=500)),
    bad("ceiling-mt", plan(mso=60, mt=499)),
    ok("ceiling-mt", plan(mso=100, mt=834)),
    bad("ceiling-mt", plan(mso=100, mt=833)),  # 120.05 %
    ok("interval", plan(theta(0, 1, 1))),
    bad("interval", plan(theta(0, 1, 1, 3, 19_999)), ["theta-burst"]),
    ok("interval", plan(theta(0, 2, 60_000)), ["theta-burst"]),  # between two bursts
    bad("interval", plan(theta(0, 2, 59_999)), ["theta-burst"]),
    ok("interval", plan()),
    ok("recharge", plan(train(0, 2, 100_000)), recharge=100_000),
    bad("recharge", plan(train(0, 2, 100_000)), recharge=100_001),
    ok("recharge", plan(theta()), recharge=20_000),
    bad("recharge", plan(theta()), recharge=20_001),
    ok("recharge", plan(), recharge=3_000_000),
    ok("recharge", plan(train(0, 2, 100_000)), recharge=None),
    ok("rate-1s", plan(train(0, 21, 50_000))),
    bad("rate-1s", plan(train(0, 21, 47_619))),
    bad("rate-1s", plan(train(0, 21, 49_999)), soft=["guideline-train"]),
    ok("rate-60s", plan(train(0, 241, 250_000)), exceeds=LONG),
    bad("rate-60s", plan(train(0, 241, 249_999)), exceeds=LONG),
    ok("energy", plan(train(0, 251, 240_000), mso=100, mt=1_000), exceeds=FAST),
    bad("energy", plan(train(0, 251, 239_999), mso=100, mt=1_000), exceeds=FAST),
    ok("train-length", plan(train(0), train(10 * SECOND, 2, 10 * SECOND), train(40 * SECOND))),
    bad("train-length", plan(train(0), train(10 * SECOND, 2, 10_000_001), train(40 * SECOND))),
    ok("train-length", plan(train(0, 2, 1_800_000_000)), exceeds=LONG, soft=["guideline-train"]),
    bad("train-length", plan(train(0, 2, 1_800_000_001)), exceeds=LONG, soft=["guideline-train"]),
    ok("train-gap", plan(train(0), train(6 * SECOND, 2, SECOND), train(12 * SECOND)),
       exceeds={"train_gap_min_us": 4_000_000}),
    ok("train-gap", plan(train(0), train(5_000_000))),
    bad("train-gap", plan(train(0), train(4_999_999)), ["guideline-iti"]),
    ok("train-gap", plan(train(0), train(4_000_000)), exceeds={"train_gap_min_us": 4_000_000}),
    bad("train-gap", plan(train(0), train(3_999_999)), exceeds={"train_gap_min_us": 4_000_000}),
    bad("train-gap", plan(train(0), train(10 * SECOND, 2, SECOND), train(15_999_999)),
        ["guideline-iti"]),
    ok("train-gap", plan()),
    ok("train-rest", hot(9_600_000)),
    bad("train-rest", hot(9_599_999)),
    bad("train-rest", plan(*hot(9_599_999).trains, train(60 * SECOND), mso=100, mt=1_000)),
    ok("train-rest", plan(*hot(9_600_000).trains, train(60 * SECOND), mso=100, mt=1_000)),
    bad("train-rest", plan(train(0), *(replace(t, onset_us=t.onset_us + 20 * SECOND)
                                      for t in hot(9_599_999).trains), mso=100, mt=1_000)),
    bad("train-rest", plan(train(0, 10, 100_000), train(1_400_000), mso=100, mt=1_000),
        ["train-gap", "guideline-iti"]),  # 0.5 s is a rest, less is none
    ok("train-rest", plan(train(0, 10, 100_000), train(1_399_999), mso=100, mt=1_000),
       ["train-gap", "guideline-iti"]),
    ok("session-pulses", plan(train(0, 1_500, 800_000), train(1_300 * SECOND, 1_500, 800_000)),
       exceeds=LONG),
    wants_reason("session-pulses",
                 plan(train(0, 1_500, 800_000), train(1_300 * SECOND, 1_501, 800_000)),
                 exceeds=LONG),
    wants_reason("session-pulses",
                 plan(train(0, 2_500, 500_000), train(1_300 * SECOND, 2_500, 500_000)),
                 exceeds=LONG),
    bad("session-pulses", plan(train(0, 2_500, 500_000), train(1_300 * SECOND, 2_501, 500_000)),
        exceeds=LONG),
    ok("session-pulses", plan(train(0, 2_000, 500_000), train(1_300 * SECOND, 2_000, 500_000)),
       exceeds=LONG | {"session_pulses_max": 4_000}),
    bad("session-pulses", plan(train(0, 2_000, 500_000), train(1_300 * SECOND, 2_001, 500_000)),
        exceeds=LONG | {"session_pulses_max": 4_000}),
    ok("session-pulses", plan(train(0, 2, SECOND), train(10 * SECOND, 2, SECOND)),
       site={"session_pulses_max": 4}),
    bad("session-pulses", plan(train(0, 2, SECOND), train(10 * SECOND, 2, SECOND)),
        site={"session_pulses_max": 3}),
    ok("session-length", plan(train(0), train(2_700_000_000))),
    bad("session-length", plan(train(0), train(2_700_000_001))),
    ok("not-reviewed", plan(), reviewer=""),
    ok("not-reviewed", plan(), exceeds={"pulses_60s_max": 600}, reviewer="B. Clinician"),
    wants_reason("not-reviewed", plan(), exceeds={"pulses_60s_max": 600}, reviewer=""),
    wants_reason("not-reviewed", plan(), exceeds={"pulses_60s_max": 600}, reviewer=" \t"),
)  # fmt: skip

GUIDELINE_CASES = (
    # 10 Hz: soft 3.2 s and hard 4.2 s at 120 %, soft 5 s at 110 %, none above the flat limit.
    ok("guideline-train", ten_hertz(32, 120)),
    wants_reason("guideline-train", ten_hertz(33, 120)),
    wants_reason("guideline-train", ten_hertz(42, 120)),
    bad("guideline-train", ten_hertz(43, 120)),
    ok("guideline-train", ten_hertz(50, 110)),
    wants_reason("guideline-train", ten_hertz(51, 110)),
    wants_reason("guideline-train", plan(train(0, 33, 100_000), mso=56, mt=509)),  # 110.02 %
    # The same by eye: 130 % instead of 120 %, soft 2.2 s and hard 2.9 s.
    ok("guideline-train", ten_hertz(22, 120), by_emg=False),
    wants_reason("guideline-train", ten_hertz(23, 120), by_emg=False),
    wants_reason("guideline-train", ten_hertz(29, 120), by_emg=False),
    bad("guideline-train", ten_hertz(30, 120), by_emg=False),
    # A protocol may be longer where it says so, but not by eye.
    ok("guideline-train", ten_hertz(40, 120), exceeds={"beyond_table_us_max": 4_000_000}),
    ok("guideline-train", ten_hertz(60, 120), exceeds={"beyond_table_us_max": 6_000_000}),
    bad("guideline-train", ten_hertz(61, 120), exceeds={"beyond_table_us_max": 6_000_000}),
    wants_reason("guideline-train", ten_hertz(41, 120), exceeds={"beyond_table_us_max": 4_000_000}),
    bad("guideline-train", ten_hertz(40, 120), exceeds={"beyond_table_us_max": 4_000_000},
        by_emg=False),
    # Above 25 Hz, or with nothing known, no exception helps.
    ok("guideline-train", plan(train(0, 20, 40_000))),
    bad("guideline-train", plan(train(0, 2, 39_999)), exceeds=LONG),
    bad("guideline-train", plan(train(0, 2, 39_999))),
    ok("guideline-train", plan(), by_emg=False),
    # Slow bursts are plain trains of their shortest interval; of two lengths the longer counts.
    ok("guideline-train", plan(train(0, 1, 0, 32, 100_000), mso=60)),
    wants_reason("guideline-train", plan(train(0, 1, 0, 33, 100_000), mso=60)),
    ok("guideline-train", plan(train(0, 2, 400_000, 2, 50_000), mso=60)),
    wants_reason("guideline-train", plan(train(0, 2, 450_000, 2, 50_000), mso=60)),
    bad("guideline-train", plan(train(0, 3, 400_000, 2, 50_000), mso=60)),
    # The worst train counts, wherever it stands.
    bad("guideline-train", plan(train(0, 43, 100_000), train(30 * SECOND, 32, 100_000), mso=60)),
    bad("guideline-train", plan(train(0, 33, 100_000), train(30 * SECOND, 43, 100_000), mso=60)),
    # Theta burst: 2 s, or 40 s alone and at 80 %.
    ok("guideline-train", plan(theta(0, 10), mso=60)),
    bad("guideline-train", plan(theta(0, 11), mso=60)),
    ok("guideline-train", plan(theta(0, 200), mso=40), ["rate-60s", "train-length"]),
    bad("guideline-train", plan(theta(0, 201), mso=40), ["rate-60s", "train-length"]),
    bad("guideline-train", plan(theta(0, 11), mso=41)),
    bad("guideline-train", plan(theta(0, 11), theta(20 * SECOND, 11), mso=40)),
    ok("guideline-train", plan(theta(0, 11), mso=35), by_emg=False),
    bad("guideline-train", plan(theta(0, 11), mso=36), by_emg=False),
    ok("guideline-train", plan(theta(0, 11), mso=60), exceeds={"beyond_table_us_max": 2_200_000}),
    bad("guideline-train", plan(theta(0, 12), mso=60), exceeds={"beyond_table_us_max": 2_200_000}),
    # Off-time: 5 s, above 110 % 10 s, theta burst 8 s.
    ok("guideline-iti", plan(train(0, 10, 100_000), train(6_000_000, 10, 100_000), mso=55)),
    bad("guideline-iti", plan(train(0, 10, 100_000), train(5_999_999, 10, 100_000), mso=55)),
    ok("guideline-iti", plan(train(0, 10, 100_000), train(11_000_000, 10, 100_000), mso=56)),
    bad("guideline-iti", plan(train(0, 10, 100_000), train(10_999_999, 10, 100_000), mso=56)),
    ok("guideline-iti", plan(train(0, 10, 100_000), train(6_000_000)), by_emg=False),
    bad("guideline-iti", plan(train(0, 10, 100_000), train(6_000_000), mso=51), by_emg=False),
    bad("guideline-iti",
        plan(train(0, 10, 100_000), train(10_500_000), train(30_000_000), mso=60)),
    bad("guideline-iti",
        plan(train(0), train(20_000_000, 10, 100_000), train(30_500_000), mso=60)),
    ok("guideline-iti", plan(theta(0), theta(10_000_000), mso=60)),
    bad("guideline-iti", plan(theta(0), theta(9_999_999), mso=60)),
    ok("guideline-iti", plan(theta(0), theta(9_000_000)), exceeds={"train_gap_min_us": 4_000_000}),
    bad("guideline-iti", plan(theta(0), theta(9_000_000)), exceeds={"train_gap_min_us": 4_000_000},
        by_emg=False),
    ok("guideline-iti", plan()),
    # The pattern of theta burst.
    ok("theta-burst", plan(theta())),
    ok("theta-burst", plan(train(0, 3, 300_000, 2, 40_000))),
    bad("theta-burst", plan(theta(0, 5, 200_000, 4))),
    ok("theta-burst", plan(theta(0, 5, 200_000, 2, 39_999))),
    bad("theta-burst", plan(theta(0, 5, 200_000, 3, 19_999)), ["interval"]),
    bad("theta-burst", plan(theta(0, 5, 200_000, 3, 19_999)), exceeds={"interval_min_us": 10_000},
        by_emg=False),
    ok("theta-burst", plan(theta(0, 5, 200_000, 3, 19_999)), exceeds={"interval_min_us": 10_000}),
    bad("theta-burst", plan(theta(0, 5, 199_999))),
    ok("theta-burst", plan(theta(0, 1, 1))),
    ok("theta-burst", plan(theta(), mso=60)),
    bad("theta-burst", plan(theta(), mso=60, mt=499), ["ceiling-mt"]),
    ok("theta-burst", plan(theta(), mso=55), by_emg=False),
    bad("theta-burst", plan(theta(), mso=56), by_emg=False),
    ok("theta-burst", plan(*(theta(n * 10 * SECOND) for n in range(60)))),
    bad("theta-burst", plan(*(theta(n * 10 * SECOND) for n in range(60)), train(620 * SECOND))),
    ok("theta-burst", plan(*(train(n * 20 * SECOND, 30, 100_000) for n in range(61)))),
)  # fmt: skip

PLAN_CASES = (*LIMIT_CASES, *GUIDELINE_CASES)

# -- what the patient has had ----------------------------------------------------------------

TEN = plan(train(0, 10, 100_000))
COURSE = {"pulses_day_max": 18_000, "pulses_week_max": 90_000, "session_gap_min_s": 3_000}
DOSES = {"day_pulses": 0, "week_pulses": 0, "since_last_us": None}


def had(code: str, refused: bool, soft: bool, exceeds: Mapping[str, int], site: Mapping[str, int],
        **dose: int | None) -> Case:  # fmt: skip
    history = PatientDose(**{**DOSES, **dose})  # type: ignore[arg-type]
    given = PatientAsked(history, TEN, session_limits(site_limits(site), exceeds), exceeds)
    trips = frozenset([code] if refused else [])
    return Case("patient", code, given, trips, trips if soft else frozenset())


def may(code: str, *, exceeds: Mapping[str, int] | None = None,
        site: Mapping[str, int] | None = None, **dose: int | None) -> Case:  # fmt: skip
    return had(code, False, False, exceeds or {}, site or {}, **dose)


def asks(code: str, *, exceeds: Mapping[str, int] | None = None,
         site: Mapping[str, int] | None = None, **dose: int | None) -> Case:  # fmt: skip
    return had(code, True, True, exceeds or {}, site or {}, **dose)


def not_(code: str, *, exceeds: Mapping[str, int] | None = None,
         site: Mapping[str, int] | None = None, **dose: int | None) -> Case:  # fmt: skip
    return had(code, True, False, exceeds or {}, site or {}, **dose)


CODES = ("day-pulses", "week-pulses", "session-gap")
UNKNOWN = tuple(
    Case("patient", code, PatientAsked(history, TEN, SITE, {}), frozenset(CODES))
    for code in CODES
    for history in (None, PatientDose(-1, 0, None), PatientDose(0, -1, None))
)
PATIENT_CASES = (
    may("day-pulses", day_pulses=2_990),
    asks("day-pulses", day_pulses=2_991),
    asks("day-pulses", day_pulses=5_990),
    not_("day-pulses", day_pulses=5_991),
    may("day-pulses", day_pulses=17_990, exceeds=COURSE),
    not_("day-pulses", day_pulses=17_991, exceeds=COURSE),
    may("day-pulses", day_pulses=90, site={"pulses_day_max": 100}),
    not_("day-pulses", day_pulses=91, site={"pulses_day_max": 100}),
    not_("day-pulses", day_pulses=91, site={"pulses_day_max": 100}, exceeds=COURSE),
    asks("day-pulses", day_pulses=3_990, site={"pulses_day_max": 4_000}),
    may("week-pulses", week_pulses=14_990),
    asks("week-pulses", week_pulses=14_991),
    asks("week-pulses", week_pulses=29_990),
    not_("week-pulses", week_pulses=29_991),
    may("week-pulses", week_pulses=89_990, exceeds=COURSE),
    not_("week-pulses", week_pulses=89_991, exceeds=COURSE),
    may("session-gap", since_last_us=None),
    may("session-gap", since_last_us=14_400 * SECOND),
    asks("session-gap", since_last_us=14_400 * SECOND - 1),
    asks("session-gap", since_last_us=3_000 * SECOND),
    not_("session-gap", since_last_us=3_000 * SECOND - 1),
    not_("session-gap", since_last_us=0),
    not_("session-gap", since_last_us=-1),
    may("session-gap", since_last_us=3_000 * SECOND, exceeds=COURSE),
    not_("session-gap", since_last_us=3_000 * SECOND - 1, exceeds=COURSE),
    may("session-gap", since_last_us=20_000 * SECOND, site={"session_gap_min_s": 20_000}),
    not_("session-gap", since_last_us=20_000 * SECOND - 1, site={"session_gap_min_s": 20_000}),
    *UNKNOWN,
)
