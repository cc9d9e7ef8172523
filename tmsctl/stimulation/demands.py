"""What a protocol asks of the limits, counted on its pulses. Pure."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from typing import Final

from tmsctl.safety.dose import WINDOWS_US, peak
from tmsctl.safety.guideline_check import beyond_table_us
from tmsctl.safety.limits import ROWS
from tmsctl.stimulation.plan import trains_of
from tmsctl.stimulation.protocol import Protocol

OF_A_COURSE: Final = ("pulses_day_max", "pulses_week_max", "session_gap_min_s")
"""What several sessions ask cannot be counted on the pulses of one: the file's word counts."""


def demands(protocol: Protocol) -> dict[str, int]:
    """For each limit of the pattern, the tightest value under which all of it may be delivered."""
    trains = trains_of(protocol)
    times = [
        train.onset_us + burst * train.burst_period_us + place * train.interval_us
        for train in trains
        for burst in range(train.bursts)
        for place in range(train.pulses_per_burst)
    ]
    second, minute = WINDOWS_US
    asked = {
        "mt_max_pct": protocol.pct_mt,
        "pulses_1s_max": peak(times, second),
        "pulses_60s_max": peak(times, minute),
        "train_us_max": protocol.train_on_us,
        "beyond_table_us_max": beyond_table_us(
            trains[0], len(trains) == 1, Fraction(protocol.pct_mt)
        ),
        "session_pulses_max": protocol.pulses,
        "session_us_max": protocol.span_us,
    }
    if len(times) > 1:
        asked["interval_min_us"] = min(b - a for a, b in pairwise(times))
    if protocol.trains > 1:
        asked["train_gap_min_us"] = protocol.gap_us
    return asked | {
        name: protocol.exceeds[name] for name in OF_A_COURSE if name in protocol.exceeds
    }


def excess(protocol: Protocol) -> dict[str, int]:
    """The demands beyond what needs no exception. The file must declare exactly these."""
    return {
        name: asked
        for name, asked in demands(protocol).items()
        if (asked > ROWS[name].bound if ROWS[name].at_most else asked < ROWS[name].bound)
    }
