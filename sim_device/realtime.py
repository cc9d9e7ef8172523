"""Runs an emulated device against the clock of the host until a signal ends it."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from io import RawIOBase
from typing import Final

from sim_device.control import Control
from sim_device.device import Device, DeviceClock, Log
from sim_device.ports import Port
from sim_device.settings import SetupError

PRIORITY: Final = 45
"""SCHED_FIFO, above the guard's 40: what it stands for is no program of this computer."""

ENDING: Final = (signal.SIGTERM, signal.SIGINT)


def boot_us() -> int:
    """CLOCK_BOOTTIME in microseconds."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000


def make_log(file: RawIOBase | None) -> Log:
    """A log of one JSON object a line. `file` is not buffered: a kill loses nothing."""

    def write(line: dict[str, object]) -> None:
        if file is None:
            return
        try:
            file.write(json.dumps(line).encode() + b"\n")
        except OSError as error:
            raise SetupError(f"--log: cannot be written any more: {error.strerror}.") from None

    return write


class Ending:
    """Becomes readable when SIGTERM or SIGINT comes."""

    def __init__(self) -> None:
        self._reader, self._writer = socket.socketpair()
        self._writer.setblocking(False)
        signal.set_wakeup_fd(self._writer.fileno())
        for number in ENDING:
            signal.signal(number, lambda _number, _frame: None)

    def fileno(self) -> int:
        return self._reader.fileno()


def run(
    device: Device,
    port: Port,
    clock: DeviceClock,
    ending: Ending,
    control: Control | None,
    edge: Callable[[int], None],
) -> int:
    """Serve `port` until `ending`. The device's timers are exact even when this program is late.

    `edge` is told of each rise of RTS, between the bytes where it was. Gives the device's time at
    the end.
    """
    # Hardware does not wait for a processor: ask to be served like it, where that is allowed.
    with suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(PRIORITY))
    while True:
        now = boot_us()
        device_us = clock.device(now)
        device.run_to(device_us)
        out = device.take_output()
        if device.plugged != port.plugged:
            port.plug(plugged=device.plugged)
        if out:
            port.write(out)
        if device.clock_ppm != clock.ppm:
            clock.set_ppm(device.clock_ppm, now)
        event_us = device.next_event_us()
        wait_s = None if event_us is None else max(0, clock.host(event_us) - boot_us()) / 1e6
        asked = [] if control is None else control.filenos()
        line = port.filenos()
        readable, _, _ = select.select([ending.fileno(), *line, *asked], [], [], wait_s)
        if ending.fileno() in readable:
            return device_us
        device_us = clock.device(boot_us())
        if control is not None and any(fileno in asked for fileno in readable):
            device.run_to(device_us)
            control.serve(device, device_us)
        if not any(fileno in line for fileno in readable):
            continue
        device.run_to(device_us)  # some ports hand over what they read by themselves
        data, begin = port.read(), 0
        for end in port.edges:
            _hear(device, data[begin:end], device_us)
            edge(device_us)
            begin = end
        _hear(device, data[begin:], device_us)


def _hear(device: Device, data: bytes, now_us: int) -> None:
    if data:
        device.run_to(now_us)
        device.receive(data, now_us)
