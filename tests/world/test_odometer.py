"""The totals of a run, over all its processes."""

from __future__ import annotations

import json
from collections import Counter

from tests.world.odometer import HOUR_US, Odometer


def test_what_another_process_counted_is_added_whole() -> None:
    one = Odometer(seeds=2, simulated_us=HOUR_US, bench_us=HOUR_US // 2, violations=1)
    one.faults += Counter({"drop": 3, "delay": 1})
    both = Odometer(seeds=1, faults=Counter(drop=1))
    both.add_table(json.loads(json.dumps(one.as_table())))
    assert (both.seeds, both.hours, both.violations) == (3, 1.5, 1)
    assert both.faults == {"drop": 4, "delay": 1}
    assert "1.50 simulated hours, 1.00 of them in 3 stories" in both.text()
    assert "drop                      4" in both.text()
