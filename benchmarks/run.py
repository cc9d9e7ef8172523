"""`make bench`: measures what the project promises, and prints target and figure side by side.

Nothing here decides a test: these machines are noisy, so figures are compared with a reference of
the same run where there is one (cyclictest for wake-ups).
"""

from __future__ import annotations

import os
import platform
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import in_process, over_usb, paced, processes, usb_guard
from benchmarks.figures import Figure

MEASURES: tuple[Callable[[Path], list[Figure]], ...] = (
    in_process.codec,
    in_process.decoders,
    in_process.virtual_time,
    in_process.fault_laden,
    in_process.guard_cycle,
    processes.wake_ups,
    processes.stop_latency,
    processes.start_times,
    paced.host_paced,
    over_usb.round_trip,
    over_usb.stop_past_bulk,
    over_usb.opening_and_idling,
    usb_guard.unplugged,
    usb_guard.idle,
)


def main() -> int:
    """Print the table; exit status 1 when a target is missed, which a loaded machine can cause."""
    load = os.getloadavg()[0]
    print(f"{platform.machine()}, {os.cpu_count()} processors, Python {platform.python_version()}, "
          f"load {load:.1f}")  # fmt: skip
    print(f"{'what':<46} {'figure':>14} {'target':>14} {'reference':>24}")
    missed = 0
    for measure in MEASURES:
        with tempfile.TemporaryDirectory(prefix="tmsbench-") as folder:
            for figure in measure(Path(folder)):
                print(figure.row(), flush=True)
                missed += figure.missed
    print(f"{missed} of the targets missed" if missed else "all targets reached")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
