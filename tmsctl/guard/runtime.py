"""The guard's loop in real time: wait for the timer, STOP, tmsd or the device; then one cycle.

Only the timer and STOP start a cycle (and the loss of tmsd, so that it is noticed at once). What
the device says is judged in the next cycle. Unless the guard is at rest it is taken when it
arrives, so that its times are true.
"""

from __future__ import annotations

import select
import signal
from collections.abc import Callable
from typing import Final

from drivers.contract import DeviceState
from firmware_protocol.quantities import MS, SECOND, BootUs
from tmsctl.guard.core import PERIOD_US, Guard, Inputs
from tmsctl.guard.flight import FlightRecorder
from tmsctl.guard.realtime import CycleTimer, now
from tmsctl.guard.recording import Recording
from tmsctl.guard.sockets import ServiceSocket, StopSocket
from tmsctl.ipc import messages as ipc
from tmsctl.safety.machine import Safe

OVERRUN_US: Final = 5 * MS
WATCHDOG_EVERY_US: Final = 500 * MS
DUMP_AFTER_US: Final = 500 * MS
LEAVING_US: Final = 200 * MS
NOT_POLLED: Final = -1
"""No port is open, or it is read with each cycle."""


class Runtime:
    """Feeds one guard. Ends on SIGTERM or SIGINT, or when nobody has used it for `linger_us`."""

    def __init__(
        self,
        guard: Guard,
        stop: StopSocket,
        service: ServiceSocket,
        flight: FlightRecorder,
        notify: Callable[[str], None],
        linger_us: int | None,
        recording: Recording | None = None,
    ) -> None:
        self._guard = guard
        self._stop = stop
        self._service = service
        self._flight = flight
        self._notify = notify
        self._linger_us = linger_us
        self._recording = recording
        self._leaving_at: BootUs | None = None
        self._alone_since: BootUs | None = now()
        self._notify_at = BootUs(0)
        self._dump_at: BootUs | None = None
        self._dumped_for: object = None
        self._stopping = False
        self._poller = select.poll()
        self._polled: frozenset[int] | None = None
        self._device = NOT_POLLED

    def run(self) -> None:
        """Until told to end. Whatever happens, the last thing sent is STOP."""
        signal.signal(signal.SIGTERM, self._told_to_end)
        signal.signal(signal.SIGINT, self._told_to_end)
        timer = CycleTimer(PERIOD_US)
        try:
            self._loop(timer)
        finally:
            self._guard.make_safe(now())
            timer.close()

    def leave(self) -> None:
        """End after this cycle, disarmed."""
        self._stopping = True

    def _told_to_end(self, _signal: int, _frame: object) -> None:
        self.leave()

    def _loop(self, timer: CycleTimer) -> None:
        guard, service, stop = self._guard, self._service, self._stop
        timer_fd, stop_fd = timer.fileno(), stop.fileno()
        commands: list[ipc.ToGuard] = []
        greeted = False
        while True:
            ready = self._wait(timer_fd, stop_fd)
            woken_at = now()
            stopped_by = stop.read() if stop_fd in ready else None
            wake_at = guard.driver.wake_at
            due = wake_at is not None and woken_at >= wake_at
            if stopped_by is None and (due or self._device in ready):
                guard.listen(woken_at)
            if not service.filenos.isdisjoint(ready):
                service.accept()
                commands += service.read()
            passed = timer.passed() if timer_fd in ready else 0
            if not passed and stopped_by is None and not (greeted and not service.welcomed):
                continue
            at = now()
            if service.welcomed and not greeted:
                guard.report.repeat(guard.state, at)
            greeted = service.welcomed
            outputs = guard.cycle(Inputs(stopped_by, service.welcomed, commands), at)
            if stopped_by is not None:
                stop.answer(b"ACCEPTED")
            commands = []
            service.send(outputs)
            self._after(passed, at, woken_at - timer.deadline if passed else 0)
            timer.pace(guard.period_us)
            if self._may_leave(at):
                return

    def _wait(self, timer_fd: int, stop_fd: int) -> list[int]:
        """File descriptors that are ready. Ports come and go; the poller follows."""
        guard = self._guard
        device = guard.driver.fileno() if guard.listens else NOT_POLLED
        if device != self._device or self._service.filenos is not self._polled:
            self._device, self._polled = device, self._service.filenos
            self._poller = select.poll()
            for fileno in (timer_fd, stop_fd, device, *self._polled):
                if fileno != NOT_POLLED:
                    self._poller.register(fileno, select.POLLIN)
        # Until a pulse that the host times; the kernel waits in whole milliseconds, rounded up,
        # so the last one is spun away by coming back at once.
        wake_at = guard.driver.wake_at
        until_ms = None if wake_at is None else max(0, wake_at - now()) // MS
        return [fileno for fileno, _ in self._poller.poll(until_ms)]

    def _after(self, passed: int, at: BootUs, late_us: int) -> None:
        """Bookkeeping of a completed cycle; the watchdog is fed here and nowhere else."""
        guard, report = self._guard, self._guard.report
        if passed:
            self._flight.cycle(guard.cycles, at, late_us)
            report.late_max_us = max(report.late_max_us, late_us)
            if late_us > OVERRUN_US:
                report.overruns += 1
        if at >= self._notify_at:
            self._notify_at = BootUs(at + WATCHDOG_EVERY_US)
            self._notify("WATCHDOG=1")
        status = guard.device.status
        disarmed = (DeviceState.IDLE, DeviceState.LATCHED)
        safe = None if status is None else status.state in disarmed
        self._stop.confirm(disarmed=safe)
        self._dump(at, device_is_safe=bool(safe))
        if self._recording is not None:
            self._recording.flush()

    def _dump(self, at: BootUs, *, device_is_safe: bool) -> None:
        state = self._guard.state
        if not isinstance(state, Safe) or state is self._dumped_for:
            self._dump_at = None
            return
        if self._dump_at is None:
            self._dump_at = BootUs(at + DUMP_AFTER_US)
        if device_is_safe or at >= self._dump_at:
            self._dumped_for, self._dump_at = state, None
            self._flight.write(state.causes, at, self._facts())

    def _facts(self) -> list[str]:
        """What a reader of the flight recorder has to know."""
        facts = [f"driver {self._guard.driver.info.name}"]
        identity = self._guard.device.identity
        if identity is not None:
            facts.append(f"serial {ascii(identity.serial)[1:-1]}")
        return [*facts, f"timing {self._guard.report.timing}"]

    def _may_leave(self, at: BootUs) -> bool:
        if self._stopping:
            if self._leaving_at is None:
                self._leaving_at = BootUs(at + LEAVING_US)
                self._guard.make_safe(at)
            return not self._guard.energised or at >= self._leaving_at
        if self._service.welcomed:
            self._alone_since = None
        elif self._alone_since is None:
            self._alone_since = at
        alone_us = 0 if self._alone_since is None else at - self._alone_since
        return self._linger_us is not None and alone_us > self._linger_us


def seconds(value: float) -> int:
    """Seconds of the command line in microseconds."""
    return int(value * SECOND)
