"""`make soak MINUTES=n`: fresh seeds on every core for so long, on tmslink over a
line and over USB, and on the stimulators of laboratories in turn; then the kill matrix.

Prints what was simulated and injected. Exit status 1 when a judge found anything, when a planted
defect lived, or when a judge saw none of them.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import queue
import secrets
import sys
import time
import traceback
from typing import Any

from tests.world.defects import blind, matrix, matrix_text
from tests.world.family_story import tell_family
from tests.world.odometer import Odometer
from tests.world.rig import START
from tests.world.story import OVER_USB, tell


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.world.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--first-seed", type=int, help="default: drawn")
    arguments = parser.parse_args()
    first = arguments.first_seed
    if first is None:
        first = 1_000_000 + secrets.randbelow(1_000_000_000)
    total, failed, took_s = soak(first, arguments.minutes)
    print(total.text())
    print(f"seeds from {first}; {total.simulated_us / 1e6 / took_s:.0f} x real time on "
          f"{os.cpu_count()} cores")  # fmt: skip
    if not failed and total.hours:
        print(f"no violation: at most {3 / total.hours:.2g} an hour, with 95 % confidence, under "
              "these fault rates and for what this model can express")  # fmt: skip
    print("\n\n".join(failed))
    print("\ndefects planted, by judge that saw them:")
    rows = matrix()
    print(matrix_text(rows))
    lives = [name for name, killers in rows.items() if not killers]
    return 1 if failed or lives or blind(rows) else 0


def soak(first: int, minutes: float) -> tuple[Odometer, list[str], float]:
    """Totals, what went wrong, and how long it took in real time."""
    context = multiprocessing.get_context("spawn")
    results: Any = context.Queue()
    cores = os.cpu_count() or 1
    began = time.monotonic()
    workers = [
        context.Process(target=_work, args=(first + core, cores, 60 * minutes, results))
        for core in range(cores)
    ]
    for worker in workers:
        worker.start()
    total, failed = Odometer(), []
    while any(worker.is_alive() for worker in workers) or not results.empty():
        try:
            table, story = results.get(timeout=1)
        except queue.Empty:
            continue
        total.add_table(table)
        failed += [story] if story else []
    for worker in workers:
        worker.join()
        if worker.exitcode:
            failed.append(f"a process of the soak ended with {worker.exitcode}")
    return total, failed, time.monotonic() - began


def _work(seed: int, step: int, for_s: float, results: Any) -> None:
    end = time.monotonic() + for_s
    while time.monotonic() < end:
        one, wrong = Odometer(), []
        try:
            stories = [tell(seed), tell(seed, OVER_USB)]
            for result in stories:
                one.add(result)
            told = tell_family(seed)
            one.bench_us += told.simulated_us - START
            one.faults += told.faults
            wrong = [each.story() for each in (*stories, told) if each.wrong]
        except Exception:  # noqa: BLE001  whatever breaks is told with its seed
            wrong = [f"seed {seed} broke:\n{traceback.format_exc()}"]
        results.put((one.as_table(), "\n\n".join(wrong)))
        seed += step


if __name__ == "__main__":
    sys.exit(main())
