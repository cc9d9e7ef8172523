"""USB: a message through the USB/IP backend beside a bare socket, STOP past a full pipe, idle cost.

Nothing here needs USB hardware, a kernel module or root.
"""

from __future__ import annotations

import os
import resource
import select
import socket
import subprocess
import sys
import time
from array import array
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from benchmarks.figures import Figure, percentile
from benchmarks.usb_child import HEADER, MESSAGE
from drivers.contract import Envelope
from drivers.tmslink.driver import TmslinkStimulator
from drivers.transport import usb_find
from drivers.transport.url import usb_place
from drivers.transport.usb_port import Opener, UsbPort
from firmware_protocol.quantities import BootUs
from tmsctl.guard import realtime

HERE = Path(__file__).resolve().parent.parent
TURNS, MESSAGES = 5, 1_000  # reference and backend take turns, so that both see the same machine
STOPS = 300
IDLE_S = 5
SITE = Envelope(100, 10_000, 1_000, 60_000_000, 410, (), 0)


@contextmanager
def _child(kind: str, path: Path) -> Iterator[subprocess.Popen[str]]:
    words = [sys.executable, "-m", "benchmarks.usb_child", kind, str(path)]
    child = subprocess.Popen(words, cwd=HERE, stdout=subprocess.PIPE, text=True)
    try:
        assert child.stdout is not None
        child.stdout.readline()
        yield child
    finally:
        child.terminate()
        child.wait(10)


def round_trip(folder: Path) -> list[Figure]:
    """64 bytes as a transfer OUT, their echo as a transfer IN; the same bytes over a socket.

    Left alone the scheduler puts the two ends on one processor in one case and on two in the other,
    which changes either figure by three: each placement is measured by itself. The guard is bound
    to a processor, and what serves the device is on another.
    """
    there = sorted(os.sched_getaffinity(0))
    try:
        apart = _beside(folder / "2", there[-1], there[0])
        together = _beside(folder / "1", there[0], there[0])
    finally:
        os.sched_setaffinity(0, there)
    figures = []
    for at, (name, ratio) in enumerate((("median", 1.5), ("p99", 2.0))):
        (ours, bare), (ours_1, bare_1) = apart[at], together[at]
        one = f"{ours:.0f} us / {bare:.0f} us; on one processor {ours_1 / bare_1:.1f} x"
        figures.append(
            Figure(f"USB/IP, 64 bytes and echo, {name} / socket", ours / bare, "x", ratio,
                   reference=one)
        )  # fmt: skip
    return [*figures, _through_threads(folder)]


def _beside(folder: Path, client: int, server: int) -> list[tuple[float, float]]:
    """Median and p99 of the backend and of the socket, the two ends on these processors."""
    folder.mkdir()
    bare: list[float] = []
    ours: list[float] = []
    with (
        _child("socket", folder / "bare") as plain,
        _child("usbip", folder / "usbip") as served,
        socket.socket(socket.AF_UNIX) as line,
    ):
        os.sched_setaffinity(0, {client})
        for child in (plain, served):
            os.sched_setaffinity(child.pid, {server})
        line.connect(str(folder / "bare"))
        backend = usb_find.backend_of(usb_place(f"usbip:unix:{folder}/usbip"))
        (device,) = backend.enumerate_devices()
        handle = backend.open_device(device)
        message, buffer = array("B", range(MESSAGE)), array("B", bytes(MESSAGE))
        for _ in range(TURNS):
            bare += _timed(lambda: _exchange(line))
            ours += _timed(lambda: _transfer(backend, handle, message, buffer))
        backend.close_device(handle)
    return [(percentile(ours, share), percentile(bare, share)) for share in (0.5, 0.99)]


def _through_threads(folder: Path) -> Figure:
    with _child("usbip", folder / "port"):
        port = _opened(Opener(f"usbip:unix:{folder}/port"))
        whole = _timed(lambda: _through_port(port, bytes(MESSAGE)))
        port.close()
        port.ended(2)
    return Figure("the same through the port's threads, median", percentile(whole, 0.5), "us", None)


def _timed(act: Any) -> list[float]:
    taken = []
    for _ in range(MESSAGES):
        began = time.perf_counter_ns()
        act()
        taken.append((time.perf_counter_ns() - began) / 1e3)
    return taken


def _exchange(line: socket.socket) -> None:
    line.sendall(bytes(HEADER + MESSAGE))
    line.recv(HEADER)
    line.sendall(bytes(HEADER))
    line.recv(HEADER + MESSAGE)


def _transfer(backend: Any, handle: Any, message: array[int], buffer: array[int]) -> None:
    backend.bulk_write(handle, 1, 0, message, 1_000)
    backend.bulk_read(handle, 0x82, 0, buffer, 1_000)


def _through_port(port: UsbPort, message: bytes) -> None:
    port.write(message)
    came = 0
    while came < len(message):
        select.select([port], [], [], 1)
        came += len(port.read())


def _opened(opener: Opener) -> UsbPort:
    for _ in range(2_000):
        try:
            return opener()
        except BlockingIOError:
            time.sleep(0.001)
    raise RuntimeError("the port does not open")


def stop_past_bulk(folder: Path) -> list[Figure]:
    """From `stop()` to the control request at the device, while bulk is busy both ways."""
    taken = []
    with _child("usbip", folder / "busy") as child:
        port = _opened(Opener(f"usbip:unix:{folder}/busy"))
        assert child.stdout is not None
        for _ in range(STOPS):
            until = time.monotonic() + 0.01
            while time.monotonic() < until:  # more than it can take: the queue is full
                for _ in range(8):
                    port.write(bytes(512))
                port.read()
            began = time.monotonic_ns()
            port.stop()
            if not select.select([child.stdout], [], [], 2)[0]:
                raise RuntimeError("STOP has not arrived within 2 s")
            taken.append((int(child.stdout.readline()) - began) / 1e6)
        port.close()
        port.ended(2)
    return [
        Figure("USB, STOP request past busy bulk, median", percentile(taken, 0.5), "ms", None),
        Figure("USB, STOP request past busy bulk, p99", percentile(taken, 0.99), "ms", 5),
    ]


def opening_and_idling(folder: Path) -> list[Figure]:
    """The guard's thread while a device is found, and what an open port costs in this process."""
    path = folder / "stim-usb"
    words = [str(Path(sys.executable).parent / "tmssim"), "tmslink", "--usb", f"unix:{path}"]
    emulator = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    try:
        assert emulator.stdout is not None
        emulator.stdout.readline()
        opener = Opener(f"usbip:unix:{path}")
        longest, began = 0.0, time.perf_counter()
        port = None
        while port is None:
            asked = time.perf_counter()
            with suppress(BlockingIOError):
                port = opener()
            longest = max(longest, time.perf_counter() - asked)
            time.sleep(0.0005)
        found = time.perf_counter() - began
        silent = _busy_pct(lambda: time.sleep(0.01))
        driver = TmslinkStimulator(lambda: port, SITE, usb_serial=lambda: opener.serial)
        cycle = _Cycle(driver)
        for _ in range(60):
            cycle()
        beating = _busy_pct(cycle)
        driver.close()
        port.ended(2)
    finally:
        emulator.terminate()
        emulator.wait(10)
    return [
        Figure("USB, from nothing to an open port", found * 1e3, "ms", None),
        Figure("USB, longest that opening keeps the guard", longest * 1e3, "ms", 5),
        Figure("USB, open port, nothing passes", silent, "% core", 3),
        Figure("USB, beats as while armed, STATUS, driver too", beating, "% core", None),
    ]


class _Cycle:
    """The guard's cycle as far as the driver is concerned: 10 ms, and every wake-up."""

    def __init__(self, driver: TmslinkStimulator) -> None:
        self._driver, self._number = driver, 0

    def __call__(self) -> None:
        until = time.monotonic() + 0.01
        while (left := until - time.monotonic()) > 0:
            if self._driver.fileno() < 0:
                time.sleep(left)
            else:
                select.select([self._driver], [], [], left)
            self._driver.poll(realtime.now())
        self._number += 1
        self._driver.beat(self._number, realtime.now(), BootUs(0))


def _busy_pct(act: Any) -> float:
    """Processor time of this process, of one core, while it is done again and again."""
    began, used = time.monotonic(), _used_s()
    while time.monotonic() - began < IDLE_S:
        act()
    return 100 * (_used_s() - used) / (time.monotonic() - began)


def _used_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime
