"""What a protocol asks of the limits, counted on its pulses. Pure."""

from __future__ import annotations

from itertools import pairwise

from tmsctl.safety.dose import WINDOWS_US, peak
from tmsctl.safety.limits import ROWS
from tmsctl.stimulation.plan import trains_of
from tmsctl.stimulation.protocol import Protocol


def demands(protocol: Protocol) -> dict[str, int]:
    """For each limit of the pattern, the tightest value under which all of it may be delivered."""
    times = [
        train.onset_us + burst * train.burst_period_us + place * train.interval_us
        for train in trains_of(protocol)
        for burst in range(train.bursts)
        for place in range(train.pulses_per_burst)
    ]
    second, minute = WINDOWS_US
    asked = {
        "mt_max_pct": protocol.pct_mt,
        "pulses_1s_max": peak(times, second),
        "pulses_60s_max": peak(times, minute),
        "train_us_max": protocol.train_on_us,
        "session_pulses_max": protocol.pulses,
        "session_us_max": protocol.span_us,
    }
    if len(times) > 1:
        asked["interval_min_us"] = min(b - a for a, b in pairwise(times))
    if protocol.trains > 1:
        asked["train_gap_min_us"] = protocol.gap_us
    return asked


def excess(protocol: Protocol) -> dict[str, int]:
    """The demands that the general layer does not allow. The file must declare exactly these."""
    return {
        name: asked
        for name, asked in demands(protocol).items()
        if (asked > ROWS[name].general if ROWS[name].at_most else asked < ROWS[name].general)
    }
