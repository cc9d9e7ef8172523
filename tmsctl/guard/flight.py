"""The flight recorder: frames and cycle timings of the last ten seconds, written on every trip."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from firmware_protocol.quantities import SECOND, BootUs
from firmware_protocol.recording import CYCLE, Record, line_of
from tmsctl.safety.rules import Trip

KEPT_US: Final = 10 * SECOND
RECORDS_MAX: Final = 8192  # ten seconds hold some 3,000 to 5,000
FILES_MAX: Final = 20


class FlightRecorder:
    """A bounded ring. Noting never blocks; writing happens when the device is already safe."""

    def __init__(self, folder: Path) -> None:
        self.records: deque[Record] = deque(maxlen=RECORDS_MAX)
        self.cycles: deque[tuple[int, int, int]] = deque(maxlen=KEPT_US // 10_000)
        self._folder = folder

    def cycle(self, number: int, started_at: BootUs, late_us: int) -> None:
        self.cycles.append((started_at, number, late_us))

    def write(self, causes: Sequence[Trip], at: BootUs, facts: Sequence[str]) -> Path | None:
        """One text file a trip; None when it could not be written, which changes nothing."""
        path = self._folder / f"flight-{at}.txt"
        since = at - KEPT_US
        lines = [f"# tmsctl flight recorder, CLOCK_BOOTTIME {at} us"]
        lines += [f"# cause {cause.code}: {cause.detail}" for cause in causes]
        lines += [f"# {fact}" for fact in facts]
        lines.append("# microseconds, < from and > to the device (x: not taken), bytes; = cycle")
        rows = [record for record in self.records if record.at_us >= since]
        rows += [
            Record(t, CYCLE, f"cycle {n} late {late}".encode())
            for t, n, late in self.cycles
            if t >= since
        ]
        rows.sort(key=lambda record: record.at_us)  # what came together stays in its order
        text = "".join(f"{line}\n" for line in lines) + "".join(map(line_of, rows))
        try:
            self._folder.mkdir(mode=0o750, exist_ok=True)
            path.write_text(text)
            for old in sorted(self._folder.glob("flight-*.txt"))[:-FILES_MAX]:
                old.unlink(missing_ok=True)
        except OSError:
            return None
        return path
