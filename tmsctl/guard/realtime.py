"""What makes the loop hard-timed, each measure reported as it turned out; and the cycle timer."""

from __future__ import annotations

import ctypes
import gc
import os
import struct
import sys
import time
from typing import Final

from firmware_protocol.quantities import BootUs

PRIORITY: Final = 40
CLOCK: Final = time.CLOCK_BOOTTIME
_MCL_CURRENT, _MCL_FUTURE, _MCL_ONFAULT = 1, 2, 4
_TFD_NONBLOCK, _TFD_CLOEXEC, _TFD_TIMER_ABSTIME = 0o4000, 0o2000000, 1

_libc = ctypes.CDLL(None, use_errno=True)


def now() -> BootUs:
    """CLOCK_BOOTTIME in microseconds: counts suspend, never steps."""
    return BootUs(time.clock_gettime_ns(CLOCK) // 1_000)


def prepare(cpu: int | None) -> str:
    """Ask for every real-time measure; one word each about how it turned out."""
    return " ".join((_fifo(), _lock_memory(), _freeze_garbage(), _pin(cpu), _stay_awake()))


def _fifo() -> str:
    if os.sched_getscheduler(0) == os.SCHED_FIFO:
        return "fifo=on"
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(PRIORITY))
    except OSError as error:
        return f"fifo=degraded({error.strerror})"
    return "fifo=on"


def _lock_memory() -> str:
    if _libc.mlockall(_MCL_CURRENT | _MCL_FUTURE | _MCL_ONFAULT) == 0:
        return "mlock=on"
    return f"mlock=degraded({os.strerror(ctypes.get_errno())})"


def _freeze_garbage() -> str:
    gc.collect()
    gc.freeze()
    gc.disable()
    return "gc=frozen"


def _pin(cpu: int | None) -> str:
    allowed = os.sched_getaffinity(0)
    wanted = max(allowed) if cpu is None else cpu
    if cpu is None and len(allowed) < 2:
        return "cpu=degraded(only one)"
    try:
        os.sched_setaffinity(0, {wanted})
    except OSError as error:
        return f"cpu=degraded({error.strerror})"
    return f"cpu={wanted}"


def _stay_awake() -> str:
    """Keep the processor out of deep sleep for as long as this process lives."""
    try:
        request = os.open("/dev/cpu_dma_latency", os.O_WRONLY | os.O_CLOEXEC)
        os.write(request, struct.pack("=i", 0))  # the request holds while the file is open
    except OSError as error:
        return f"awake=degraded({error.strerror})"
    return "awake=on"


def wall_seconds() -> int:
    """Seconds since 1970, at least 1 and within 32 bits: tells lives apart, times nothing."""
    return max(1, int(time.clock_gettime(time.CLOCK_REALTIME)) & 0xFFFF_FFFF)


class CycleTimer:
    """A timer with an absolute beginning: late cycles do not move the later ones."""

    def __init__(self, period_us: int) -> None:
        self._fd: int = _libc.timerfd_create(int(CLOCK), _TFD_NONBLOCK | _TFD_CLOEXEC)
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), "no timer is to be had")
        self._period_us = 0
        self.pace(period_us)
        self.deadline = self._next

    def pace(self, period_us: int) -> None:
        """The next deadline is one period from now, unless that is the period already."""
        if period_us == self._period_us:
            return
        self._period_us = period_us
        self._next = BootUs(now() + period_us)
        setting = _timespec(period_us) + _timespec(self._next)
        if _libc.timerfd_settime(self._fd, _TFD_TIMER_ABSTIME, setting, None) != 0:
            raise OSError(ctypes.get_errno(), "the timer cannot be set")

    def fileno(self) -> int:
        return self._fd

    def passed(self) -> int:
        """Deadlines since the last call; more than one means that cycles were missed.

        `deadline` becomes the newest of them. Missed ones are skipped, never made up.
        """
        try:
            expirations = os.read(self._fd, 8)
        except BlockingIOError:
            return 0
        count = int.from_bytes(expirations, sys.byteorder)
        self.deadline = BootUs(self._next + (count - 1) * self._period_us)
        self._next = BootUs(self.deadline + self._period_us)
        return count

    def close(self) -> None:
        os.close(self._fd)


def _timespec(microseconds: int) -> bytes:
    seconds, rest = divmod(microseconds, 1_000_000)
    return struct.pack("=qq", seconds, rest * 1_000)
