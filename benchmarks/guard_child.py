"""A guard on a real port for some seconds; prints the lateness of each cycle in microseconds."""

from __future__ import annotations

import signal
import sys
from collections import deque
from pathlib import Path

from drivers import registry
from tmsctl.guard import realtime
from tmsctl.guard.core import Guard
from tmsctl.guard.entry import device_envelope
from tmsctl.guard.flight import FlightRecorder
from tmsctl.guard.runtime import Runtime
from tmsctl.guard.sockets import ServiceSocket, StopSocket
from tmsctl.ipc.notify import notify
from tmsctl.safety.limits import GENERAL
from tmsctl.safety.rules import Action, Trip


class Hurried(Guard):
    """At the pace of an armed one, though nothing is."""

    @property
    def energised(self) -> bool:
        return True


def main() -> None:
    """Arguments: folder, port, seconds."""
    folder, url, seconds = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    flight = FlightRecorder(folder)
    flight.cycles = deque(maxlen=200 * seconds)
    place = registry.Place(url, device_envelope(GENERAL), 0, lambda transport: transport)
    driver = registry.make(registry.find("tmslink"), place, {})
    no_plan = Trip("none", Action.HOLD, "no plans here")
    guard = Hurried(driver, GENERAL, lambda *_: no_plan, None, realtime.now(), realtime.now())
    stop, service = StopSocket(folder / "stop.sock"), ServiceSocket(folder / "guard.sock", 0)
    guard.report.timing = realtime.prepare(None)
    print(guard.report.timing, flush=True)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    runtime = Runtime(guard, stop, service, flight, notify, None)
    signal.signal(signal.SIGALRM, lambda *_: runtime.leave())
    runtime.run()
    for _, _, late_us in flight.cycles:
        print(late_us)


if __name__ == "__main__":
    main()
