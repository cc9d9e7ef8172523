"""Dose arithmetic against brute force, and the train rule against another way to count trains."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate, pairwise, product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.contract import PulseBlock
from firmware_protocol.quantities import BootUs, PercentMso
from tests.tables.rule_cases import ASKED
from tmsctl.safety.dose import (
    FULL_PULSE_UJ,
    WINDOWS_US,
    PulseTimes,
    peak,
    peak_energy,
)
from tmsctl.safety.limits import GENERAL, session_limits
from tmsctl.safety.rules import PERMIT, gate

SECOND = 1_000_000
GAP_US = 5 * SECOND

# Small numbers, so that pulses fall on window borders often.
TIMES = st.lists(st.integers(0, 40), max_size=25).map(sorted)
WINDOWS = st.integers(1, 20)


def brute_peak(times: Sequence[int], window_us: int) -> int:
    """By definition: the fullest of the windows [t, t + window) that begin with a pulse."""
    return max((sum(start <= at < start + window_us for at in times) for start in times), default=0)


def noted(times: Sequence[int], gap_us: int = GAP_US, keep_us: int = WINDOWS_US[-1]) -> PulseTimes:
    pulses = PulseTimes(gap_us, keep_us)
    pulses.extend(times)
    return pulses


def runs(times: Sequence[int], gap_us: int) -> list[list[int]]:
    """Cut where two neighbours are `gap_us` or more apart."""
    cuts = [i for i, (a, b) in enumerate(pairwise(times), 1) if b - a >= gap_us]
    return [list(times[a:b]) for a, b in pairwise([0, *cuts, len(times)])]


def test_the_windows_are_one_second_and_one_minute() -> None:
    assert WINDOWS_US == (1_000_000, 60_000_000)


@given(TIMES, WINDOWS)
def test_the_peak_is_that_of_every_window(times: list[int], window_us: int) -> None:
    assert peak(times, window_us) == brute_peak(times, window_us)


@pytest.mark.parametrize("window_us", WINDOWS_US)
def test_a_window_ends_before_the_pulse_that_is_one_window_later(window_us: int) -> None:
    assert peak([0, window_us - 1], window_us) == 2
    assert peak([0, window_us], window_us) == 1
    assert noted([0]).peak_with([window_us - 1], window_us) == 2
    assert noted([0]).peak_with([window_us], window_us) == 1
    assert noted([0, window_us - 1]).too_many(1, window_us)
    assert not noted([0, window_us]).too_many(1, window_us)
    assert noted([0]).within(window_us, window_us - 1) == 1
    assert noted([0]).within(window_us, window_us) == 0


@given(TIMES, WINDOWS, st.integers(0, 8))
def test_too_many_is_told_by_the_pulse_that_is_one_too_many(
    times: list[int], window_us: int, most: int
) -> None:
    pulses = PulseTimes(GAP_US, keep_us=20)
    told = False
    for at in times:
        pulses.add(at)
        told = told or pulses.too_many(most, window_us)
    assert told == (brute_peak(times, window_us) > most)


@given(TIMES, st.lists(st.integers(0, 30), max_size=10).map(sorted), WINDOWS)
def test_the_peak_with_a_block_is_exact_although_only_one_window_is_kept(
    before: list[int], block: list[int], window_us: int
) -> None:
    """What was dropped can share no window with a pulse that is still to come."""
    later = [at + (before[-1] if before else 0) for at in block]
    pulses = noted(before, keep_us=20)
    windows_with_block = [
        sum(start <= at < start + window_us for at in [*before, *later])
        for start in [*before, *later]
        if any(start <= at < start + window_us for at in later)
    ]
    assert pulses.peak_with(later, window_us) >= max(windows_with_block, default=0)
    assert pulses.peak_with(later, window_us) <= brute_peak([*before, *later], window_us)


@given(TIMES.filter(bool), st.integers(1, 10), st.integers(10, 20))
def test_a_run_starts_after_the_last_gap_even_when_its_start_is_no_longer_kept(
    times: list[int], gap_us: int, keep_us: int
) -> None:
    pulses = noted(times, gap_us, keep_us)
    assert pulses.run_started_at == runs(times, gap_us)[-1][0]
    assert pulses.newest == times[-1]
    assert len(pulses) == sum(times[-1] - at <= keep_us for at in times)


@given(TIMES.filter(bool), st.integers(1, 10), st.integers(1, 10))
def test_the_same_pulses_can_be_told_apart_by_another_gap(
    times: list[int], gap_us: int, other_us: int
) -> None:
    before = noted(times, gap_us)
    after = before.with_gap(other_us)
    assert after.run_started_at == runs(times, other_us)[-1][0]
    assert (after.newest, len(after)) == (times[-1], len(times))
    assert before.run_started_at == runs(times, gap_us)[-1][0]


@given(TIMES.filter(bool), WINDOWS, st.integers(0, 10))
def test_within_counts_the_window_that_ends_now(
    times: list[int], window_us: int, later: int
) -> None:
    now = times[-1] + later
    expected = sum(now - window_us < at <= now for at in times)
    assert noted(times).within(window_us, now) == expected


ENERGIES = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 9)), max_size=25).map(sorted)


def brute_energy(pulses: Sequence[tuple[int, int]], window_us: int) -> int:
    """By definition: the richest of the windows [t, t + window) that begin with a pulse."""
    return max(
        (sum(uj for at, uj in pulses if start <= at < start + window_us) for start, _ in pulses),
        default=0,
    )


def noted_energy(pulses: Sequence[tuple[int, int]], keep_us: int = WINDOWS_US[-1]) -> PulseTimes:
    kept = PulseTimes(GAP_US, keep_us)
    for at, uj in pulses:
        kept.add(at, uj)
    return kept


@given(ENERGIES, WINDOWS)
def test_the_energy_peak_is_that_of_every_window(
    pulses: list[tuple[int, int]], window_us: int
) -> None:
    times, energies = [at for at, _ in pulses], [uj for _, uj in pulses]
    assert peak_energy(times, energies, window_us) == brute_energy(pulses, window_us)


@given(ENERGIES, st.lists(st.integers(0, 30), max_size=10).map(sorted), st.integers(0, 9), WINDOWS)
def test_the_energy_with_a_block_is_exact_and_never_more_than_its_quick_bound(
    before: list[tuple[int, int]], block: list[int], each_uj: int, window_us: int
) -> None:
    later = [at + (before[-1][0] if before else 0) for at in block]
    whole = [*before, *((at, each_uj) for at in later)]
    pulses = noted_energy(before)
    assert pulses.peak_energy_with(later, each_uj, window_us) == brute_energy(whole, window_us)
    assert pulses.energy_at_most(each_uj * len(later)) == sum(uj for _, uj in whole)


@given(ENERGIES, st.integers(10, 20))
def test_energy_is_forgotten_with_its_pulse(pulses: list[tuple[int, int]], keep_us: int) -> None:
    kept = noted_energy(pulses, keep_us)
    left = [uj for at, uj in pulses if pulses[-1][0] - at <= keep_us]
    assert kept.energy_at_most(7) == sum(left) + 7
    assert kept.with_gap(3).energy_at_most(0) == sum(left)
    kept.clear()
    assert (kept.energy_at_most(0), kept.peak_energy_with([], 0, SECOND)) == (0, 0)
    kept.add(0, 5)
    assert kept.energy_at_most(0) == 5


def test_a_pulse_of_unknown_energy_counts_as_a_full_one() -> None:
    pulses = PulseTimes(GAP_US)
    pulses.add(0)
    pulses.extend([1, 2])
    pulses.extend([3, 4], 1)
    assert pulses.energy_at_most(0) == 3 * FULL_PULSE_UJ + 2
    assert pulses.with_gap(1).peak_energy_with([], 0, SECOND) == 3 * FULL_PULSE_UJ + 2


@given(ENERGIES.filter(bool), st.integers(1, 10))
def test_every_start_after_a_rest_comes_with_the_energy_since(
    pulses: list[tuple[int, int]], rest_us: int
) -> None:
    times = [at for at, _ in pulses]
    starts = [0, *(i for i, (a, b) in enumerate(pairwise(times), 1) if b - a >= rest_us)]
    expected = [(times[i], sum(uj for _, uj in pulses[i:])) for i in reversed(starts)]
    assert list(noted_energy(pulses).since_rests(rest_us)) == expected


def test_nothing_sent_has_no_start() -> None:
    assert list(PulseTimes(GAP_US).since_rests(1)) == []


def test_no_more_pulses_are_kept_than_the_bound() -> None:
    pulses = PulseTimes(GAP_US)
    pulses.extend(range(5_000), 2)
    assert len(pulses) == 4_096
    assert pulses.energy_at_most(0) == 2 * 4_096


def test_nothing_noted_is_nothing_counted() -> None:
    pulses = PulseTimes(GAP_US)
    assert (pulses.newest, pulses.run_started_at, len(pulses)) == (None, None, 0)
    assert pulses.within(SECOND, 0) == pulses.peak_with([], SECOND) == peak([], SECOND) == 0
    assert not pulses.too_many(0, SECOND)


def test_a_hundred_thousand_pulses_leave_no_more_than_one_window_behind() -> None:
    pulses = PulseTimes(GAP_US)
    most = 0
    for at in range(0, 100_000 * 50_000, 50_000):  # 20 Hz for 83 min
        pulses.add(at)
        most = max(most, len(pulses))
    assert most == 60 * 20 + 1
    assert pulses.run_started_at == 0


# -- the train rule, all small schedules -----------------------------------------------------

UNIT_US = 500_000
GAP_UNITS, TRAIN_UNITS = 4, 3  # runs are cut by 2 s; none may be longer than 1.5 s
LIMITS = session_limits(
    GENERAL, {"train_gap_min_us": GAP_UNITS * UNIT_US, "train_us_max": TRAIN_UNITS * UNIT_US}
)


def asked(sent: PulseTimes, start: int, pulses: int = 1) -> set[str]:
    """Codes against a block of pulses one unit apart."""
    block = PulseBlock(1, PercentMso(50), pulses, UNIT_US, 1, 0)
    request = ASKED._replace(
        block=block,
        start_at=BootUs(start * UNIT_US),
        sent=sent,
        all_sent_since=BootUs(-60 * SECOND),
        settled_at=BootUs(0),
    )
    return {trip.code for trip in gate(PERMIT, request, LIMITS).trips}


def schedules(pulses: int) -> Iterator[list[int]]:
    """All with gaps of 1 unit to one more than cuts a run, in units from 1."""
    for gaps in product(range(1, GAP_UNITS + 2), repeat=pulses - 1):
        yield list(accumulate(gaps, initial=1))


def run_units(times: Sequence[int]) -> int:
    """Length of the last run."""
    last = runs(times, GAP_UNITS)[-1]
    return last[-1] - last[0]


@pytest.mark.parametrize("pulses", range(1, 7))
def test_a_pulse_is_held_exactly_when_its_run_would_be_too_long(pulses: int) -> None:
    for times in schedules(pulses):
        sent = noted([at * UNIT_US for at in times[:-1]], GAP_UNITS * UNIT_US)
        expected = {"train-gap"} if run_units(times) > TRAIN_UNITS else set()
        assert asked(sent, times[-1]) == expected, times


@pytest.mark.parametrize("pulses", range(1, 5))
def test_a_block_is_held_exactly_when_the_run_that_it_ends_would_be_too_long(pulses: int) -> None:
    for times in schedules(pulses + 1):
        for size in (2, 3, 4, 5):
            sent = noted([at * UNIT_US for at in times[:-1]], GAP_UNITS * UNIT_US)
            whole = [*times[:-1], *range(times[-1], times[-1] + size)]
            expected = {"train-gap"} if run_units(whole) > TRAIN_UNITS else set()
            alone = {"train-length"} if size - 1 > TRAIN_UNITS else set()
            assert asked(sent, times[-1], size) == expected | alone, (times, size)


def test_what_is_let_through_has_no_run_that_is_too_long_and_no_refusal_without_need() -> None:
    for wanted in schedules(6):
        sent: list[int] = []
        for at in wanted:
            times = noted([at * UNIT_US for at in sent], GAP_UNITS * UNIT_US)
            if asked(times, at):
                assert run_units([*sent, at]) > TRAIN_UNITS
            else:
                sent.append(at)
        assert all(run[-1] - run[0] <= TRAIN_UNITS for run in runs(sent, GAP_UNITS))
