"""A real tms-guard with its stimulator on USB: unplugged in a train, and with nothing to do.

Guard and emulator are programs of their own; tmsd is played here.
"""

from __future__ import annotations

import os
import random
import select
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from benchmarks.figures import Figure, percentile
from benchmarks.processes import BIN, running, wait_for
from sim_device.control import ctl
from tests.process.system import DENSE
from tests.world.rig import Service
from tmsctl.guard.core import PERIOD_US
from tmsctl.guard.realtime import CycleTimer, now
from tmsctl.ipc import messages as ipc
from tmsctl.stimulation.plan import Plan
from tmsctl.stimulation.prescription import Prescription, compile_plan
from tmsctl.stimulation.protocol import load_library

UNPLUGS: Final = 20
TRIES_MAX: Final = 2 * UNPLUGS
AWAY_MS: Final = 50
SETTLED_S: Final = 2
IDLE_S: Final = 10
TALK_S: Final = 0.005
LOOK_AGAIN_CYCLES: Final = 50
TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")
MT_PERMILLE: Final = 250
WITHIN_S: Final = 30


class Rig:
    """tmsd's end of the guard's socket."""

    def __init__(self, folder: Path, line: socket.socket) -> None:
        self.service = Service()
        self._line = line
        welcome = ipc.decode(line.recv(ipc.MESSAGE_SIZE_MAX))
        assert isinstance(welcome, ipc.Welcome)
        self.guard_pid = welcome.pid
        line.send(ipc.encode(welcome._replace(pid=os.getpid())))
        self._control = folder / "control"
        library = load_library((folder / "protocols",))
        dense = library["dense"]
        plan = compile_plan(Prescription(dense, MT_PERMILLE, dense.pct_mt, reduced=False), 100)
        assert isinstance(plan, Plan)
        self.plan = plan

    def until(self, so: Callable[[ipc.Snapshot], bool]) -> None:
        """Go on with the conversation until a snapshot shows it."""
        end = time.monotonic() + WITHIN_S
        while self.service.snapshot is None or not so(self.service.snapshot):
            if time.monotonic() > end:
                told = "\n".join(map(str, self.service.told[-5:]))
                raise RuntimeError(f"never came about: {self.service.snapshot}\n{told}")
            self._talk()

    def talk_for(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self._talk()

    def _talk(self) -> None:
        for item in self.service.commands(now()):
            self._line.send(ipc.encode(item))
        if select.select([self._line], [], [], TALK_S)[0]:
            said = ipc.decode(self._line.recv(ipc.MESSAGE_SIZE_MAX))
            self.service.hear([said], now())  # type: ignore[list-item] # the guard speaks

    def deliver(self) -> bool:
        """From an idle guard to the middle of a train; False: this machine was away."""
        say, shown = self.service.say, self.service.snapshot
        assert shown is not None
        counted, heard = shown.pulse_count, len(self.service.told)

        def failed() -> bool:
            return any(
                isinstance(said, ipc.Refused)
                or (isinstance(said, ipc.Transition) and said.after <= ipc.GuardState.IDLE)
                for said in self.service.told[heard:]
            )

        say(
            ipc.Load(
                1, "dense", MT_PERMILLE, self.plan.pct_mt, 0, self.plan.hash, 0, 1, 1, 0, 0,
                counted, counted,
            )
        )  # fmt: skip
        say(ipc.Run(1, self.plan.hash, now()))
        pulses = random.randint(2, 30)
        self.until(lambda seen: failed() or seen.delivered >= pulses)
        if failed():
            return False
        time.sleep(random.uniform(0, 0.02))  # snapshots come in step with the guard's cycle
        return True

    def unplug(self) -> int:
        """When it was asked for, before anything was done."""
        at = now()
        ctl((str(self._control), "set", "disconnect", f"value={AWAY_MS}"))
        return at

    def safe_at(self, after: int) -> int:
        """When the guard says it went into SAFE."""
        self.until(lambda seen: seen.boot_us > after and seen.state == ipc.GuardState.SAFE)
        return next(
            said.boot_us
            for said in reversed(self.service.told)
            if isinstance(said, ipc.Transition) and said.after == ipc.GuardState.SAFE
        )

    def prove(self) -> None:
        """The daily self-test."""
        self.service.say(ipc.SelfTest())
        self.until(lambda seen: seen.self_test == ipc.SelfTestState.PASSED)

    def make_idle(self) -> None:
        """What a person does after a trip: acknowledge what is shown, until there is no more."""
        self.until(lambda seen: seen.connected == 1)
        acknowledged = -LOOK_AGAIN_CYCLES

        def is_idle(seen: ipc.Snapshot) -> bool:
            nonlocal acknowledged
            safe = seen.state == ipc.GuardState.SAFE
            if safe and seen.cycle >= acknowledged + LOOK_AGAIN_CYCLES:
                acknowledged = seen.cycle
                self.service.say(ipc.Acknowledge(acknowledged))
            return (seen.state, seen.device_state) == (ipc.GuardState.IDLE, 0)

        self.until(is_idle)
        self.service.say(ipc.Unload())
        self.until(lambda seen: seen.session_no == 0)


@contextmanager
def guarded(folder: Path, kind: str, *, plugged: bool = True) -> Iterator[Rig]:
    """`kind`: `--usb` or `--pty`. It ends its programs."""
    folder.mkdir()
    (folder / "protocols").mkdir()
    (folder / "protocols" / "dense.toml").write_text(DENSE)
    place, config = folder / "stim", folder / "bench.toml"
    url, where = (f"usbip:unix:{place}", f"unix:{place}") if kind == "--usb" else (place, place)
    config.write_text(
        f'[paths]\nruntime = "{folder}"\nstate = "{folder}/state"\n'
        f'[device]\ndriver = "tmslink"\nurl = "{url}"\n'
        f'[protocols]\nfolders = ["{folder}/protocols"]\n'
    )
    with ExitStack() as programs:
        if plugged:
            words = (BIN / "tmssim", "tmslink", kind, where, "--control", folder / "control")
            emulator = programs.enter_context(running(*words))
            assert emulator.stdout is not None
            emulator.stdout.readline()
        programs.enter_context(running(BIN / "tms-guard", "--config", config))
        wait_for(folder / "guard.sock")
        line = programs.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET))
        line.connect(str(folder / "guard.sock"))
        rig = Rig(folder, line)
        rig.until(lambda seen: seen.connected == plugged)
        yield rig


def unplugged(folder: Path) -> list[Figure]:
    """From before the emulator is told to leave the bus, until the guard is in SAFE."""
    taken = []
    with guarded(folder / "u", "--usb") as rig:
        rig.prove()
        for _ in range(TRIES_MAX):
            if rig.deliver():
                at = rig.unplug()
                safe_at = rig.safe_at(at)
                if safe_at >= at:  # else it had tripped just before
                    taken.append((safe_at - at) / 1e3)
            rig.make_idle()
            if len(taken) == UNPLUGS:
                break
    told = f"n = {len(taken)}"
    return [
        Figure("USB, unplugged in a train, guard SAFE, median", percentile(taken, 0.5), "ms", None,
               reference=told),
        Figure("the same, the longest", max(taken), "ms", 20, reference=told),
    ]  # fmt: skip


def idle(folder: Path) -> list[Figure]:
    """The guard's processor time, unarmed: over USB, over a terminal, and without a device."""
    usb = _idle_pct(folder / "usb", "--usb", plugged=True)
    terminal = _idle_pct(folder / "pty", "--pty", plugged=True)
    alone = _idle_pct(folder / "none", "--pty", plugged=False)
    return [
        Figure("guard, connected and unarmed, USB", usb, "% core", 3,
               reference=f"terminal {terminal:.1f}, none {alone:.1f}"),
        Figure("Python that wakes 100 times a second", _waking_pct(), "% core", None),
    ]  # fmt: skip


def _waking_pct() -> float:
    """What this machine takes for a loop with the guard's timer that does nothing else."""
    timer, poller = CycleTimer(PERIOD_US), select.poll()
    poller.register(timer.fileno(), select.POLLIN)
    began, used = time.monotonic(), time.process_time()
    while time.monotonic() - began < IDLE_S:
        poller.poll()
        timer.passed()
    timer.close()
    return 100 * (time.process_time() - used) / (time.monotonic() - began)


def _idle_pct(folder: Path, kind: str, *, plugged: bool) -> float:
    """Of one core."""
    with guarded(folder, kind, plugged=plugged) as rig:
        rig.talk_for(SETTLED_S)
        began, before = time.monotonic(), _used_s(rig.guard_pid)
        rig.talk_for(IDLE_S)
        return 100 * (_used_s(rig.guard_pid) - before) / (time.monotonic() - began)


def _used_s(pid: int) -> float:
    """Processor time of a process, all threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S
