"""What needs real processes: wake-ups of the guard, STOP, start times, memory."""

from __future__ import annotations

import os
import pty
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from benchmarks.figures import Figure, percentile

BIN = Path(sys.executable).parent
HERE = Path(__file__).resolve().parent.parent
SLICE_S = 10  # cyclictest and guard take turns, so that both see the same machine
TURNS = 3
STOPS = 300


def _python(*words: str) -> list[str]:
    return [sys.executable, *words]


@contextmanager
def running(*words: str | Path, **options: object) -> Iterator[subprocess.Popen[str]]:
    """A process that is ended, by its id, when the block is left."""
    child = subprocess.Popen(  # type: ignore[call-overload]
        [str(w) for w in words], text=True, **{"stdout": subprocess.PIPE, **options}
    )
    try:
        yield child
    finally:
        with suppress(ProcessLookupError):
            child.send_signal(signal.SIGTERM)
        child.wait(10)


def wake_ups(folder: Path) -> list[Figure]:
    """Lateness of the guard's cycles beside cyclictest's wake-ups, in turns."""
    ours: list[float] = []
    theirs: list[float] = []
    stim = folder / "stim"
    has_reference = shutil.which("cyclictest") is not None
    with running(BIN / "tmssim", "tmslink", "--pty", stim) as emulator:
        assert emulator.stdout is not None
        emulator.stdout.readline()
        for _ in range(TURNS):
            child = subprocess.run(
                _python("-m", "benchmarks.guard_child", str(folder), str(stim), str(SLICE_S)),
                capture_output=True, text=True, check=True, cwd=HERE,
            )  # fmt: skip
            timing, *values = child.stdout.split("\n")
            ours += [float(value) for value in values[20:] if value]
            if has_reference:
                theirs += _cyclictest()
    figures = []
    for name, share, ratio in (("median", 0.5, 3.0), ("p99.9", 0.999, 1.5)):
        value = percentile(ours, share)
        if theirs:
            reference = percentile(theirs, share)
            figures.append(
                Figure(f"guard wake-up late, {name} / cyclictest", value / reference, "x", ratio,
                       reference=f"{value:.0f} us / {reference:.0f} us")
            )  # fmt: skip
        else:
            figures.append(Figure(f"guard wake-up late, {name}", value, "us", None,
                                  reference="no cyclictest here"))  # fmt: skip
    print(f"guard timing: {timing}")
    return figures


def _cyclictest() -> list[float]:
    """Latencies in microseconds at the guard's period, priority and processor."""
    cpu = max(os.sched_getaffinity(0))
    output = subprocess.run(
        ["cyclictest", "-t1", "-p40", "-i10000", f"-a{cpu}", f"-D{SLICE_S}", "-q", "-h20000"],
        capture_output=True, text=True, check=False,
    ).stdout  # fmt: skip
    values: list[float] = []
    for at, count in re.findall(r"^(\d+)\s+(\d+)$", output, re.MULTILINE):
        values += [float(at)] * int(count)
    return values


def stop_latency(folder: Path) -> list[Figure]:
    """From the STOP datagram to the STOP bytes at the far end of the line."""
    master, slave = pty.openpty()
    tty.setraw(master)
    tty.setraw(slave)
    os.set_blocking(master, False)
    port = os.ttyname(slave)
    config = _config(folder, port)
    late = []
    with running(BIN / "tms-guard", "--config", config) as _guard:
        stop = folder / "stop.sock"
        wait_for(stop)
        if not select.select([master], [], [], 5.0)[0]:  # it listens first, and then says HELLO
            raise RuntimeError("no HELLO within 5 seconds")
        sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        for _ in range(STOPS):
            time.sleep(0.013)
            with suppress(BlockingIOError):
                while os.read(master, 65536):
                    pass
            began = time.perf_counter()
            sender.sendto(b"STOP bench", str(stop))
            seen = b""
            while b"\x18" * 8 not in seen:
                if not select.select([master], [], [], 1.0)[0]:
                    raise RuntimeError("no STOP bytes within a second")
                seen += os.read(master, 4096)
            late.append((time.perf_counter() - began) * 1e3)
    os.close(master)
    os.close(slave)
    return [
        Figure("STOP datagram to STOP bytes, median", percentile(late, 0.5), "ms", None),
        Figure("STOP datagram to STOP bytes, p99", percentile(late, 0.99), "ms", 2),
    ]


def start_times(folder: Path) -> list[Figure]:
    """Best of several starts: what a person waits for, without the noise of the machine."""
    figures = [
        Figure("tmsctl --help", _best(5, lambda: _time(BIN / "tmsctl", "--help")), "s", 0.35),
        Figure("tmsctl stop, start to datagram", _best(5, lambda: _stop_start(folder)), "s", 0.12),
    ]
    stim = folder / "stim2"
    with running(BIN / "tmssim", "tmslink", "--pty", stim) as emulator:
        assert emulator.stdout is not None
        emulator.stdout.readline()
        config = _config(folder, str(stim))
        ready, rss = [], 0.0
        for _ in range(3):
            began = time.perf_counter()
            with running(BIN / "tmsd", "--config", config, stderr=subprocess.PIPE) as daemon:
                assert daemon.stderr is not None
                for line in daemon.stderr:
                    if '"ready"' in line:
                        break
                ready.append(time.perf_counter() - began)
                time.sleep(1.5)
                rss = max(rss, _guard_rss_mb(config))
    figures.append(Figure("tmsd, start to ready", min(ready), "s", 1.5))
    figures.append(Figure("guard, resident memory", rss, "MB", 45))
    return figures


def _best(times: int, measure: Callable[[], float]) -> float:
    return min(measure() for _ in range(times))


def _time(*words: str | Path) -> float:
    began = time.perf_counter()
    subprocess.run([str(w) for w in words], check=True, capture_output=True)
    return time.perf_counter() - began


def _stop_start(folder: Path) -> float:
    """`tmsctl stop` against a socket of ours."""
    runtime = folder / "stoptest"
    runtime.mkdir(exist_ok=True)
    path = runtime / "stop.sock"
    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(path))
        listener.settimeout(5)
        began = time.perf_counter()
        with running(BIN / "tmsctl", "--runtime", runtime, "stop", stderr=subprocess.PIPE):
            listener.recv(128)
            return time.perf_counter() - began


def _guard_rss_mb(config: Path) -> float:
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            words = (entry / "cmdline").read_bytes().split(b"\0")
            if any(w.endswith(b"tms-guard") for w in words) and str(config).encode() in words:
                match = re.search(r"VmRSS:\s+(\d+)", (entry / "status").read_text())
                return int(match.group(1)) / 1024 if match else 0.0
    return 0.0


def _config(folder: Path, port: str) -> Path:
    config = folder / "bench.toml"
    config.write_text(
        f'[paths]\nruntime = "{folder}"\nstate = "{folder}/state"\n'
        f'[device]\ndriver = "tmslink"\nurl = "{port}"\n[guard]\nsupervise = true\n'
    )
    return config


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 5
    while not path.exists():
        if time.monotonic() > deadline:
            raise RuntimeError(f"{path} did not come")
        time.sleep(0.01)
    time.sleep(0.3)
