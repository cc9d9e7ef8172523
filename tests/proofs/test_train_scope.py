"""D-04: the gate's train rule against another way to count trains, on every small schedule.

The rule keeps one number, the start of the run that goes on. The oracle keeps nothing: it cuts the
whole schedule into trains with exact fractions of a second, where the time off from the last pulse
of one to the first of the next is at least the inter-train interval, and measures the last.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import accumulate, product

import pytest

from drivers.contract import PulseBlock
from firmware_protocol.quantities import BootUs
from tests.proofs.views import MSO, rule_of, with_request
from tmsctl.safety.dose import PulseTimes
from tmsctl.safety.limits import GENERAL, Limits, session_limits

TRAIN_GAP = rule_of("train-gap")
PULSES_MAX = 7
GAPS_US = (1_000_000, 1_999_999, 2_000_000, 2_999_999, 3_000_000)
"""Pulse to pulse: on both inter-train intervals below, 1 us less, and inside a train."""

INTERVALS_US = (2_000_000, 3_000_000)
TRAINS_US = (
    1_000_000, 1_999_999, 2_000_000, 2_999_999, 3_000_000, 3_999_998, 3_999_999, 4_000_000,
    4_999_999, 5_000_000, 9_000_000,
)  # fmt: skip
FIRST_US = 50_000_000
ONE = PulseBlock(1, MSO, 1, 0, 1, 0)


def schedules(pulses: int) -> Iterator[list[int]]:
    """Every schedule of so many pulses with gaps of the grid."""
    for gaps in product(GAPS_US, repeat=pulses - 1):
        yield list(accumulate(gaps, initial=FIRST_US))


def last_train(times: Sequence[int], interval_us: int) -> Fraction:
    """The oracle: seconds from the first to the last pulse of the schedule's last train."""
    seconds = [Fraction(at, 1_000_000) for at in times]
    off = Fraction(interval_us, 1_000_000)
    trains: list[list[Fraction]] = []
    for at in seconds:
        if trains and at - trains[-1][-1] < off:
            trains[-1].append(at)
        else:
            trains.append([at])
    return trains[-1][-1] - trains[-1][0]


def limits(interval_us: int, train_us: int) -> Limits:
    return session_limits(GENERAL, {"train_gap_min_us": interval_us, "train_us_max": train_us})


ALL_LIMITS = {
    interval_us: [(Fraction(us, 1_000_000), limits(interval_us, us)) for us in TRAINS_US]
    for interval_us in INTERVALS_US
}


def test_rule_and_oracle_agree_on_every_schedule_of_seven_pulses_at_most() -> None:
    judged = refused = 0
    for pulses in range(1, PULSES_MAX + 1):
        for times in schedules(pulses):
            for interval_us, train_limits in ALL_LIMITS.items():
                sent = PulseTimes(interval_us)
                sent.extend(times[:-1])
                asked = with_request(block=ONE, start_at=BootUs(times[-1]), sent=sent)
                length = last_train(times, interval_us)
                for longest, limit in train_limits:
                    says = TRAIN_GAP(asked, limit)
                    assert (says is not None) == (length > longest), (times, interval_us, longest)
                    judged += 1
                    refused += says is not None
    assert judged > 400_000
    assert min(refused, judged - refused) > judged // 10


BLOCKS = [PulseBlock(1, MSO, n, 500_000, 1, 0) for n in (1, 2, 5)] + [
    PulseBlock(1, MSO, n, 700_000, 3, 20_000) for n in (1, 2)
]


@pytest.mark.parametrize("pulses", range(1, 5))
def test_rule_and_oracle_agree_on_every_block_after_four_pulses_at_most(pulses: int) -> None:
    for times in schedules(pulses):
        for block, (interval_us, train_limits) in product(BLOCKS, ALL_LIMITS.items()):
            sent = PulseTimes(interval_us)
            sent.extend(times[:-1])
            asked = with_request(block=block, start_at=BootUs(times[-1]), sent=sent)
            whole = [*times[:-1], *(times[-1] + block.offset_us(i) for i in range(block.pulses))]
            length = last_train(whole, interval_us)
            for longest, limit in train_limits:
                assert (TRAIN_GAP(asked, limit) is not None) == (length > longest)


def test_what_the_rule_lets_through_pulse_by_pulse_has_no_train_that_is_too_long() -> None:
    for times in schedules(6):
        for interval_us, train_limits in ALL_LIMITS.items():
            longest, limit = train_limits[len(times) % len(train_limits)]
            sent, let = PulseTimes(interval_us), []
            for at in times:
                if TRAIN_GAP(with_request(block=ONE, start_at=BootUs(at), sent=sent), limit):
                    assert last_train([*let, at], interval_us) > longest
                else:
                    sent.add(at)
                    let.append(at)
            for end in range(1, len(let) + 1):
                assert last_train(let[:end], interval_us) <= longest
