"""A pulse that the host itself triggers: how far from its planned instant, beside MagPy's latency.

Both drive the same model, each on a fresh pseudo-terminal, one after the other. The emulated unit
takes 6 ms from the command to the pulse; what is more is the host's.
"""

from __future__ import annotations

import json
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.figures import Figure, percentile
from drivers.contract import SINGLE, DeviceState, DeviceStatus, Envelope, Permit, PulseBlock
from drivers.magstim.driver import INFO, MagstimStimulator
from drivers.magstim.paired import Paired
from drivers.transport.serial_port import SerialPort
from firmware_protocol.magstim.messages import BAUD, Model
from firmware_protocol.quantities import MS, SECOND, BootUs, PercentMso
from tmsctl.guard.realtime import now
from tmsctl.safety.dose import PulseTimes
from tmsctl.safety.facts import Request
from tmsctl.safety.machine import Armed
from tmsctl.safety.permit import mint
from tmsctl.safety.rules import PERMIT

PULSES = 8
MSO = PercentMso(40)
SITE = Envelope(100, 10_000, 1_000, 60_000_000, 410, (), 0)
FIRE_US = 6_000  # of the emulated unit, from the command to the pulse
LINE_US = 3_125  # three bytes at 9600 baud, which a pseudo-terminal does not take

_MAGPY = f"""
import json, sys, time
sys.path.insert(0, {str(Path(__file__).resolve().parent.parent / "tests" / "interop")!r})
from magpy_client import tolerate_terminals_without_modem_lines, wait_until_ready
from magpy import magstim

if __name__ == "__main__":
    tolerate_terminals_without_modem_lines()
    unit = magstim.Magstim(sys.argv[1])
    unit.connect()
    unit.setPower({MSO.value}, delay=True)
    unit.arm(delay=True)
    asked = []
    for _ in range({PULSES}):
        wait_until_ready(unit)
        asked.append(time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1000)
        unit.fire()
        time.sleep(0.3)
    unit.disarm()
    unit.disconnect()
    print(json.dumps(asked))
"""


@contextmanager
def _emulator(folder: Path, name: str) -> Iterator[tuple[Path, Path]]:
    """A 200²: where it is, and its ground truth."""
    path, log = folder / name, folder / f"{name}.jsonl"
    command = (sys.executable, "-c", "from sim_device.entry import main; main()")
    with subprocess.Popen(
        [*command, "magstim-200", "--pty", path, "--log", log], stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        try:
            yield path, log
        finally:
            child.terminate()


def _pulses_at(log: Path) -> list[int]:
    """Instants of the pulses on CLOCK_BOOTTIME."""
    lines = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    clock = next(line for line in lines if line["event"] == "clock")
    since = clock["boot_us"] - clock["t_us"]
    return [line["t_us"] + since for line in lines if line["event"] == "pulse"]


def _permit(block: PulseBlock, start_at: BootUs) -> Permit:
    request = Request(
        block, start_at, MSO, 500, 0, 0, PulseTimes(1), 0, 0, 0, BootUs(0), BootUs(0), 0, 0
    )
    permit = mint(Armed(MSO, now()), PERMIT, request, now())
    assert isinstance(permit, Permit)
    return permit


class _Host:
    """The guard's loop without the guard: a beat every 10 ms, and awake when the driver asks."""

    def __init__(self, path: Path) -> None:
        self.driver = MagstimStimulator(
            INFO["magstim-200"], lambda: SerialPort(str(path), BAUD), SITE, 1, Paired(Model.M200)
        )
        self.state: DeviceState | None = None
        self._cycle = 0
        self._beat_at = now()

    def until(self, wanted: DeviceState | None, within_us: int = 10 * SECOND) -> None:
        """Until the unit shows it, or so long."""
        end = now() + within_us
        while now() < end:
            wake_at = min(self._beat_at, self.driver.wake_at or self._beat_at)
            fileno = self.driver.fileno()
            files = [fileno] if fileno >= 0 else []
            select.select(files, [], [], max(0, wake_at - now()) / 1e6)
            at = now()
            for event in self.driver.poll(at):
                if isinstance(event, DeviceStatus):
                    self.state = event.state
            if at >= self._beat_at:
                self._cycle += 1
                self._beat_at = BootUs(self._beat_at + 10 * MS)
                self.driver.beat(self._cycle, at, BootUs(at + 50 * MS))
            if wanted is not None and self.state is wanted:
                return
        assert wanted is None, f"not {wanted}"


def _ours(folder: Path) -> list[float]:
    """Distance of each pulse from its planned instant, ms; what the line would take is added."""
    planned = []
    with _emulator(folder, "ours") as (path, log):
        host = _Host(path)
        host.until(DeviceState.IDLE)
        host.driver.arm(MSO, SINGLE, now())
        host.until(DeviceState.READY)
        for number in range(PULSES):
            start_at = BootUs(now() + INFO["magstim-200"].lead_us + 50 * MS)
            block = PulseBlock(number + 1, MSO, 1, 0, 1, 0)
            host.driver.fire(_permit(block, start_at), now())
            planned.append(start_at)
            host.until(DeviceState.ARMING)
            host.until(DeviceState.READY)
        host.driver.disarm(now())
        host.until(None, 200 * MS)
        host.driver.close()
        left = _pulses_at(log)
    assert len(left) == PULSES
    return [abs(at + LINE_US - plan) / MS for at, plan in zip(left, planned, strict=True)]


def _magpy(folder: Path) -> list[float]:
    """From MagPy's call of fire to the pulse less what the unit itself takes, ms."""
    with _emulator(folder, "magpy") as (path, log):
        child = subprocess.run(
            [sys.executable, "-c", _MAGPY, str(path)],
            capture_output=True, text=True, check=True, timeout=120,
        )  # fmt: skip
        time.sleep(0.1)
        left = _pulses_at(log)
    asked = json.loads(child.stdout.splitlines()[-1])
    assert len(left) == PULSES
    return [(at - call - FIRE_US) / MS for at, call in zip(left, asked, strict=True)]


def host_paced(folder: Path) -> list[Figure]:
    """MagPy fires when it is asked, we at an instant that was planned."""
    ours, theirs = _ours(folder), _magpy(folder)
    return [
        Figure(f"host-paced pulse off its instant, {name}", percentile(ours, share), "ms", None,
               reference=f"MagPy fires {percentile(theirs, share):.2f} ms late")
        for name, share in (("median", 0.5), ("worst", 1.0))
    ]  # fmt: skip
