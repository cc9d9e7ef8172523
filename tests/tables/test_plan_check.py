"""A whole plan against the limits: on each one it passes, one unit beyond it is refused."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest

from firmware_protocol.quantities import PercentMso
from tmsctl.safety.limits import GENERAL, session_limits, site_limits
from tmsctl.safety.plan_check import check_plan, tightened
from tmsctl.stimulation.plan import Plan, Train
from tmsctl.stimulation.prescription import Prescription, compile_plan
from tmsctl.stimulation.protocol import Protocol, load_library

LIBRARY = load_library()
LIMITS = session_limits(site_limits({"mso_max_pct": 60}), {"train_us_max": 1_800_000_000})
CODES = [
    "ceiling-mso",
    "ceiling-mt",
    "interval",
    "rate-1s",
    "rate-60s",
    "train-length",
    "train-gap",
    "session-pulses",
    "session-length",
]
SECOND = 1_000_000


@dataclass(frozen=True)
class View:
    """A plan as the check sees it."""

    trains: tuple[Train, ...]
    mso: PercentMso
    mt_permille: int

    @property
    def pulses(self) -> int:
        return sum(train.pulses for train in self.trains)

    @property
    def span_us(self) -> int:
        return self.trains[-1].onset_us + self.trains[-1].span_us


def plan(*trains: Train, mso: int = 50, mt: int = 500) -> View:
    return View(trains or (train(0),), PercentMso(mso), mt)


def train(onset_us: int, pulses: int = 1, period_us: int = 1, burst: int = 1,
          interval_us: int = 0) -> Train:  # fmt: skip
    """`pulses` bursts of `burst` pulses."""
    return Train(onset_us, 0, pulses, period_us, burst, interval_us)


TABLE: dict[str, tuple[View, View]] = {  # code: (on the limit, one unit beyond)
    "ceiling-mso": (plan(mso=60, mt=1_000), plan(mso=61, mt=1_000)),
    "ceiling-mt": (plan(mso=60, mt=500), plan(mso=60, mt=499)),
    "interval": (plan(train(0, 1, 1, 3, 20_000)), plan(train(0, 1, 1, 3, 19_999))),
    "rate-1s": (plan(train(0, 21, 50_000)), plan(train(0, 21, 49_999))),
    "rate-60s": (plan(train(0, 241, 250_000)), plan(train(0, 241, 249_999))),
    "train-length": (  # the longest train counts, wherever it stands
        plan(train(0), train(10 * SECOND, 2, 1_800_000_000), train(1_900 * SECOND)),
        plan(train(0), train(10 * SECOND, 2, 1_800_000_001), train(1_900 * SECOND)),
    ),
    "train-gap": (  # from the last pulse of a train
        plan(train(0), train(6 * SECOND, 2, SECOND), train(12_000_000)),
        plan(train(0), train(6 * SECOND, 2, SECOND), train(11_999_999)),
    ),
    "session-pulses": (
        plan(train(0, 1_500, 800_000), train(1_300 * SECOND, 1_500, 800_000)),
        plan(train(0, 1_500, 800_000), train(1_300 * SECOND, 1_501, 800_000)),
    ),
    "session-length": (
        plan(train(0), train(2_700_000_000)),
        plan(train(0), train(2_700_000_001)),
    ),
}


def refused(view: View) -> set[str]:
    return {check.code for check in check_plan(view, LIMITS) if not check.ok}


def test_every_check_has_a_row_and_the_order_of_the_table() -> None:
    assert list(TABLE) == [check.code for check in check_plan(plan(), LIMITS)] == CODES


@pytest.mark.parametrize("code", CODES)
def test_a_plan_on_the_limit_is_allowed(code: str) -> None:
    assert refused(TABLE[code][0]) == set()


@pytest.mark.parametrize("code", CODES)
def test_a_plan_one_unit_beyond_the_limit_is_refused_by_its_code(code: str) -> None:
    assert refused(TABLE[code][1]) == {code}


def test_the_shortest_interval_may_lie_between_two_bursts() -> None:
    assert refused(plan(train(0, 2, 60_000, 3, 20_000))) == set()
    assert refused(plan(train(0, 2, 59_999, 3, 20_000))) == {"interval"}


@pytest.mark.parametrize("code", CODES)
def test_a_check_tells_the_two_numbers_compared(code: str) -> None:
    checks = {check.code: check for check in check_plan(TABLE[code][1], LIMITS)}
    assert sum(character.isdigit() for character in checks[code].detail) >= 2
    assert " at " in checks[code].detail
    assert checks[code].next_step.endswith(".")


def test_the_intensity_is_told_in_percent_of_the_motor_threshold() -> None:
    details = {check.code: check.detail for check in check_plan(TABLE["ceiling-mt"][1], LIMITS)}
    assert details["ceiling-mt"] == (
        "60 %MSO is 120.24 % of the motor threshold, at most 120 % allowed"
    )


def test_a_single_pulse_has_no_interval_and_no_gap_to_judge() -> None:
    details = {check.code: check.detail for check in check_plan(plan(), LIMITS)}
    assert details["interval"].startswith("nothing to compare")
    assert details["train-gap"].startswith("nothing to compare")


# -- the shipped library ---------------------------------------------------------------------


def compiled(protocol: Protocol) -> Plan:
    made = compile_plan(Prescription(protocol, 500, protocol.pct_mt, reduced=False), 100)
    assert isinstance(made, Plan)
    return made


shipped = pytest.mark.parametrize("protocol", LIBRARY.values(), ids=LIBRARY)


@shipped
def test_a_shipped_protocol_passes_with_exactly_what_its_file_exceeds(protocol: Protocol) -> None:
    limits = session_limits(GENERAL, protocol.exceeds)
    assert [check.code for check in check_plan(compiled(protocol), limits) if not check.ok] == []
    refused = [check for check in check_plan(compiled(protocol), GENERAL) if not check.ok]
    assert bool(refused) == bool(protocol.exceeds)


@shipped
def test_a_session_may_do_what_its_plan_does_and_no_more(protocol: Protocol) -> None:
    made, limits = compiled(protocol), session_limits(GENERAL, protocol.exceeds)
    session = tightened(limits, made)
    assert all(check.ok for check in check_plan(made, session))
    assert session == replace(
        limits,
        mso_max_pct=made.mso.value,
        train_us_max=min(limits.train_us_max, made.trains[0].span_us + 5_000),
        session_pulses_max=made.pulses,
    )


def test_a_plan_never_loosens_a_limit() -> None:
    big = plan(train(0, 3_001, 1_000_000), mso=100, mt=1_000)
    assert tightened(LIMITS, big) == LIMITS


def test_the_longest_train_counts_wherever_it_stands() -> None:
    session = tightened(LIMITS, plan(train(0), train(10 * SECOND, 3, SECOND), train(20 * SECOND)))
    assert session.train_us_max == 2 * SECOND + 5_000
