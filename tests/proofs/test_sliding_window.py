"""D-02: no window of any length W holds more than N pulses, proved with z3.

The model below is the rule as `tmsctl.safety` has it: `PulseTimes` keeps the pulses of the last
`KEEP`, `peak` counts in the windows that end with a pulse, the gate lets a block pass when no count
is above N. The judge is written another way: windows that begin with a pulse. Times are integers
and W is any length, so a proof holds for every schedule of so many requests. Three rules that look
alike and are wrong are put to the same judge, and must be found out.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import Any

import pytest

from drivers.contract import PulseBlock
from firmware_protocol.quantities import BootUs, PercentMso
from tests.proofs import solver
from tests.proofs.solver import MISSING, counterexample, prover
from tests.proofs.views import rule_of, with_request
from tmsctl.safety.dose import KEPT_MAX, WINDOWS_US, PulseTimes, peak
from tmsctl.safety.limits import GENERAL, ROWS, session_limits

NUMBERS = (2, 3, 5)
Times = Sequence[Any]
Flags = Sequence[Any]


def total(conditions: Iterable[Any]) -> Any:
    z = prover()
    return z.Sum([z.IntVal(0), *(z.If(condition, 1, 0) for condition in conditions)])


def in_order(times: Times) -> list[Any]:
    return [later >= earlier for earlier, later in pairwise(times)]


def too_full(times: Times, sent: Flags, most: int, window: Any) -> Any:
    """The judge: some window [t, t + W) that begins with a pulse holds more than N."""
    z = prover()
    return z.Or(
        *(
            z.And(
                sent[i],
                total(
                    z.And(sent[j], times[j] >= times[i], times[j] < times[i] + window)
                    for j in range(len(times))
                )
                > most,
            )
            for i in range(len(times))
        )
    )


def test_without_the_prover_a_proof_fails_and_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(solver, "z3", None)
    with pytest.raises(pytest.fail.Exception, match="z3-solver is not installed"):
        counterexample()
    assert "pip install" in MISSING


# -- the rules under proof: when request i is let through -------------------------------------

Rule = Callable[[Times, Flags, int, Any], list[Any]]


def sliding(
    times: Times, sent: Flags, most: int, window: Any, keep: Any = None, block: int = 1
) -> list[Any]:
    """As it is: `peak` over what is kept and the block that asks, in each window that ends.

    `keep`: how long `PulseTimes` keeps a pulse. Each `block` pulses ask together.
    """
    z = prover()
    keep = window if keep is None else keep
    rules = []
    for asks in range(0, len(times), block):
        there: list[Any] = []
        for i in range(asks):
            dropped = [z.And(sent[k], times[k] - times[i] > keep) for k in range(i, asks)]
            there.append(z.And(sent[i], z.Not(z.Or(*dropped))))
        there += [z.BoolVal(True)] * block
        let = z.And(
            *(
                z.Implies(
                    there[last],
                    total(
                        z.And(there[first], times[last] - times[first] < window)
                        for first in range(last + 1)
                    )
                    <= most,
                )
                for last in range(asks + block)
            )
        )
        rules += [sent[i] == let for i in range(asks, asks + block)]
    return rules


def off_by_one(times: Times, sent: Flags, most: int, window: Any) -> list[Any]:
    return sliding(times, sent, most + 1, window)


def token_bucket(times: Times, sent: Flags, most: int, window: Any) -> list[Any]:
    """Room for N, refilled with N in each window."""
    z = prover()
    rules, level, last = [], z.RealVal(most), times[0]
    for at, let in zip(times, sent, strict=True):
        filled = level + z.ToReal(at - last) * most / window
        filled = z.If(filled > most, z.RealVal(most), filled)
        rules.append(let == (filled >= 1))
        level, last = z.If(let, filled - 1, filled), at
    return rules


def tumbling(times: Times, sent: Flags, most: int, window: Any) -> list[Any]:
    """A counter that begins anew when its window is over."""
    z = prover()
    rules, opened, count = [], times[0], z.IntVal(0)
    for at, let in zip(times, sent, strict=True):
        over = at - opened >= window
        opened, count = z.If(over, at, opened), z.If(over, 0, count)
        rules.append(let == (count < most))
        count = z.If(let, count + 1, count)
    return rules


def closed_window(times: Times, sent: Flags, most: int, window: Any) -> list[Any]:
    """Counts a pulse exactly one window ago as well: safe, and refuses what is allowed."""
    return sliding(times, sent, most, window + 1)


def schedule(most: int) -> tuple[Times, Flags]:
    z = prover()
    size = 2 * most + 1
    return z.Ints([f"t{i}" for i in range(size)]), z.Bools([f"sent{i}" for i in range(size)])


@pytest.mark.parametrize("most", NUMBERS)
def test_no_schedule_of_requests_makes_the_sliding_window_too_full(most: int) -> None:
    times, sent = schedule(most)
    window, keep = prover().Ints("window keep")
    found = counterexample(
        window >= 1,
        keep >= window,
        *in_order(times),
        *sliding(times, sent, most, window, keep),
        too_full(times, sent, most, window),
    )
    assert found is None, found


@pytest.mark.parametrize(("most", "block"), [(2, 2), (3, 2), (3, 3), (5, 2), (5, 4)])
def test_no_schedule_of_blocks_makes_the_sliding_window_too_full(most: int, block: int) -> None:
    z = prover()
    size = block * ((2 * most) // block + 1)
    times = z.Ints([f"t{i}" for i in range(size)])
    sent = z.Bools([f"sent{i}" for i in range(size)])
    window, keep = z.Ints("window keep")
    given = (window >= 1, keep >= window, *in_order(times))
    rule = sliding(times, sent, most, window, keep, block)
    found = counterexample(*given, *rule, too_full(times, sent, most, window))
    assert found is None, found
    assert counterexample(*given, *rule, sent[-1], times[-1] - times[0] < 2 * window) is not None


def test_the_proof_needs_that_pulses_are_kept_for_a_whole_window() -> None:
    times, sent = schedule(2)
    window = 1_000
    for keep, holds in ((window - 1, True), (window - 2, False)):
        rule = (*in_order(times), *sliding(times, sent, 2, window, keep))
        assert (counterexample(*rule, too_full(times, sent, 2, window)) is None) == holds


def needless(times: Times, sent: Flags, most: int, window: Any) -> Any:
    """Some request was turned away although no window would have become too full."""
    z = prover()
    options = []
    for asking in range(len(times)):
        if_sent = [*sent[:asking], z.BoolVal(True)]
        full = too_full(times[: asking + 1], if_sent, most, window)
        options.append(z.And(z.Not(sent[asking]), z.Not(full)))
    return z.Or(*options)


@pytest.mark.parametrize("most", NUMBERS)
def test_the_sliding_window_turns_away_nothing_without_need(most: int) -> None:
    times, sent = schedule(most)
    window, keep = prover().Ints("window keep")
    found = counterexample(
        window >= 1,
        keep >= window,
        *in_order(times),
        *sliding(times, sent, most, window, keep),
        needless(times, sent, most, window),
    )
    assert found is None, found


@pytest.mark.parametrize("most", NUMBERS)
@pytest.mark.parametrize("wrong", [off_by_one, token_bucket, tumbling], ids=lambda f: f.__name__)
def test_a_rule_that_only_looks_like_it_is_found_out(wrong: Rule, most: int) -> None:
    times, sent = schedule(most)
    window = 1_000
    found = counterexample(
        times[0] == 0,
        *in_order(times),
        *wrong(times, sent, most, window),
        too_full(times, sent, most, window),
    )
    assert found is not None
    let = [
        found.eval(at, model_completion=True).as_long()
        for at, flag in zip(times, sent, strict=True)
        if prover().is_true(found.eval(flag, model_completion=True))
    ]
    assert peak(let, window) > most  # the code's own count sees it too


def test_a_window_that_is_one_too_long_is_found_by_what_it_turns_away() -> None:
    times, sent = schedule(2)
    wrong = (*in_order(times), *closed_window(times, sent, 2, 1_000))
    assert counterexample(*wrong, too_full(times, sent, 2, 1_000)) is None
    assert counterexample(*wrong, needless(times, sent, 2, 1_000)) is not None


# -- without a bound on the number of pulses --------------------------------------------------


def test_for_any_number_of_pulses_n_apart_by_a_window_means_no_window_is_too_full() -> None:
    """T(k + N) - T(k) >= W for all k, exactly when no window of length W holds N + 1 pulses."""
    z = prover()
    at = z.Function("T", z.IntSort(), z.IntSort())
    i, j, k, most, window = z.Ints("i j k N W")
    rising = z.ForAll([i, j], z.Implies(i <= j, at(i) <= at(j)))
    apart = z.ForAll([k], at(k + most) - at(k) >= window)
    first, last = z.Ints("first last")
    full = z.And(last - first >= most, at(last) - at(first) < window)
    base = (most >= 1, window >= 1, rising)
    assert counterexample(*base, apart, full) is None
    assert counterexample(*base, at(k + most) - at(k) < window, z.Not(
        z.Exists([i, j], z.And(j - i >= most, at(j) - at(i) < window)))) is None  # fmt: skip


def test_for_any_number_of_pulses_what_the_gate_lets_through_is_n_apart_by_a_window() -> None:
    """A step of the induction: `peak` knows the most pulses of any window that ends by `last`."""
    z = prover()
    at = z.Function("T", z.IntSort(), z.IntSort())
    i, j, last, count, most, window = z.Ints("i j last count N W")
    base = (most >= 1, window >= 1, count >= 0, z.ForAll([i, j], z.Implies(i <= j, at(i) <= at(j))))
    before = z.ForAll([i], z.Implies(i < last, at(i) - at(i - count) >= window))
    slid = at(last) - at(last - count) >= window  # `times[first]`, and the loop's only question
    after = z.If(slid, count, count + 1)
    too_near = z.And(j <= last, at(j) - at(j - after) < window)
    assert counterexample(*base, before, too_near) is None  # no window holds more than `after`
    held = at(last) - at(last - after + 1) < window
    assert counterexample(*base, z.Not(slid), z.Not(held)) is None  # and one holds as many
    known = at(last) - at(last - after) >= window
    let_through = after <= most
    assert counterexample(*base, known, let_through, at(last) - at(last - most) < window) is None


def test_what_is_kept_is_more_than_any_limit_can_count() -> None:
    """Nothing that a window needs is dropped: neither by age nor by the bound on their number."""
    assert PulseTimes(1)._keep_us == max(WINDOWS_US)
    seconds = max(WINDOWS_US) // min(WINDOWS_US)
    assert ROWS["pulses_1s_max"].absolute * seconds < KEPT_MAX
    assert ROWS["pulses_60s_max"].absolute < KEPT_MAX


# -- the bridge: the model is the code --------------------------------------------------------

RATE = rule_of("rate")


def by_the_code(times: Sequence[int], most: int, window_us: int) -> list[bool]:
    """What the gate's own rule lets through, one pulse after another."""
    name = {1_000_000: "pulses_1s_max", 60_000_000: "pulses_60s_max"}[window_us]
    limits = session_limits(GENERAL, {"pulses_1s_max": 25, "pulses_60s_max": 600, name: most})
    sent, let = PulseTimes(limits.train_gap_min_us), []
    for at in times:
        block = PulseBlock(1, PercentMso(50), 1, 0, 1, 0)
        asked = with_request(block=block, start_at=BootUs(at), sent=sent)
        let.append(RATE(asked, limits) is None)
        if let[-1]:
            sent.add(at)
    return let


def by_the_model(rule: Rule, times: Sequence[int], most: int, window_us: int) -> list[bool]:
    z = prover()
    solver = z.Solver()
    sent = z.Bools([f"sent{i}" for i in range(len(times))])
    solver.add(*rule([z.IntVal(at) for at in times], sent, most, window_us))
    assert solver.check() == z.sat
    model = solver.model()
    return [z.is_true(model.eval(flag, model_completion=True)) for flag in sent]


def kept_a_minute(times: Times, sent: Flags, most: int, window: Any) -> list[Any]:
    return sliding(times, sent, most, window, WINDOWS_US[-1])


def random_times(rng: random.Random, window_us: int, count: int) -> list[int]:
    """On a coarse grid with single microseconds beside it, so that windows end on a pulse."""
    times, at = [], rng.randrange(1_000_000)
    for _ in range(count):
        times.append(at)
        at += rng.choice((0, 0, 1, 2, 3, 6)) * window_us // 6 + rng.choice((-1, 0, 0, 0, 1))
        at = max(at, times[-1])
    return times


@pytest.mark.parametrize("window_us", WINDOWS_US)
def test_the_model_and_the_code_let_the_same_pulses_through(window_us: int) -> None:
    rng = random.Random(window_us)
    refused = let = 0
    for most in NUMBERS * 8:
        times = random_times(rng, window_us, 2 * most + 2)
        expected = by_the_code(times, most, window_us)
        assert by_the_model(kept_a_minute, times, most, window_us) == expected, (times, most)
        refused += expected.count(False)
        let += expected.count(True)
    assert min(refused, let) > 30


def test_the_bridge_tells_a_wrong_model_from_the_code() -> None:
    rng = random.Random(7)
    for wrong in (off_by_one, token_bucket, tumbling, closed_window):
        cases = [(random_times(rng, 1_000_000, 9), most) for most in NUMBERS for _ in range(9)]
        assert any(
            by_the_model(wrong, times, most, 1_000_000) != by_the_code(times, most, 1_000_000)
            for times, most in cases
        ), wrong.__name__
