"""tmssim, tmsd and its guard as real programs in one folder, judged by the ground truth."""

from __future__ import annotations

import json
import os
import random
import select
import shutil
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from tests.fakes import programs
from tmsctl.cli.client import Client
from tmsctl.cli.errors import CliError

Json = dict[str, Any]

DEADLINE_S = 30.0
POLL_S = 0.01
RECOVERIES_MAX = 15
STIMULATOR_PRIORITY = 20  # below the guard's 40
NUISANCES = frozenset({"cycle-gap", "status-age", "service-lost"})
"""First causes of a trip that a shared machine provokes when it takes the processor away."""

LATE_DEVICE = ("dead man", "permit expired")
"""The same from the other side: the emulator was away, and disarmed by itself as it must."""

ORDER: Json = {"operator": "AB", "protocol": "dense", "mt": 25.0, "mt_method": "emg"}
REASON = "made for tests; nobody has reviewed it"
DENSE = """\
id = "dense"
title = "Theta bursts without a pause, for tests"
target = "none"
pct_mt = 80
mt_basis = "resting MT"
pulses_per_burst = 3
interval_us = 20_000
burst_period_us = 200_000
bursts_per_train = 30
train_period_us = 6_000_000
trains = 1
pulses = 90
span_us = 5_840_000
cycle_us = 6_000_000
source = "Made for tests: short, and dense enough that a pulse too many would be seen."
evidence = "from memory, unverified"
reviewer = ""
[exceeds]
pulses_60s_max = 600
train_gap_min_us = 2_000_000
reason = "Sessions of a test follow each other without the rest that a patient gets."
"""


def boot_us() -> int:
    """CLOCK_BOOTTIME in microseconds."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000


def until(what: Callable[[], object], about: str, within_s: float = DEADLINE_S) -> None:
    """Poll until it is so; the deadline only ends a test that has failed."""
    end = time.monotonic() + within_s
    while not what():
        assert time.monotonic() < end, f"never happened: {about}"
        select.select([], [], [], POLL_S)


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the ground truth. `at`: CLOCK_BOOTTIME in microseconds."""

    at: int
    event: str
    says: Json


class Truth:
    """The ground-truth log, over all lives of the emulator that appended to it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = self._to_boot_us = 0
        self._lines: list[Line] = []

    def lines(self) -> list[Line]:
        """All complete lines so far."""
        if self._path.exists():
            with self._path.open("rb") as file:
                file.seek(self._offset)
                text = file.read()
            whole = text[: text.rfind(b"\n") + 1]
            self._offset += len(whole)
            for says in map(json.loads, whole.splitlines()):
                if says["event"] == "clock":
                    self._to_boot_us = says["boot_us"] - says["t_us"]
                self._lines.append(Line(says["t_us"] + self._to_boot_us, says["event"], says))
        return self._lines

    def events(self, *names: str, after: int = 0) -> list[Line]:
        """Lines of these kinds that are younger than `after`."""
        return [line for line in self.lines() if line.event in names and line.at > after]

    def pulses(self, after: int = 0) -> list[Line]:
        return self.events("pulse", after=after)

    @property
    def firing(self) -> bool:
        """Is a train under way?"""
        last = self.events("train_start", "train_end")[-1:]
        return bool(last) and last[0].event == "train_start"


class Cable:
    """A TCP line to the emulator that can be cut: the emulator lives on, but no byte gets over."""

    def __init__(self, device_port: int) -> None:
        self._device = ("127.0.0.1", device_port)
        self.port = 0
        self.plug()

    def plug(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self.port = self._listener.getsockname()[1]
        self._wake, self._woken = socket.socketpair()
        self._thread = threading.Thread(target=self._carry)
        self._thread.start()

    def cut(self) -> None:
        """When this returns, the line is gone."""
        if self._thread.is_alive():
            self._wake.send(b"x")
            self._thread.join()
            self._wake.close()

    def _carry(self) -> None:
        ends: dict[socket.socket, socket.socket] = {}
        while True:
            ready = select.select([self._woken, self._listener, *ends], [], [])[0]
            if self._woken in ready:
                break
            if self._listener in ready:
                host, device = self._listener.accept()[0], socket.create_connection(self._device)
                ends |= {host: device, device: host}
                for end in (host, device):
                    end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for end in [end for end in ends if end in ready]:
                data = b""
                with suppress(OSError):
                    data = end.recv(65536)
                    ends[end].sendall(data)
                if not data:
                    other = ends.pop(end)
                    ends.pop(other)
                    end.close()
                    other.close()
                    break
        for end in (self._woken, self._listener, *ends):
            end.close()


@dataclass(frozen=True, slots=True)
class Run:
    """A session that was started, when, and how many pulses the device had given before."""

    session: int
    before: int
    began_at: int


class System:
    """The programs, a technician's connection to tmsd, and the ground truth."""

    def __init__(self, seed: int = 1, model: str = "tmslink") -> None:
        self.model = model  # of tmssim, and the driver of the same name
        self.folder = Path(tempfile.mkdtemp(prefix="tms", dir="/tmp"))  # sockets need short paths
        self.runtime, self.state = self.folder / "run", self.folder / "state"
        self.port, self.config = self.folder / "stim", self.folder / "tmsctl.toml"
        self.truth = Truth(self.folder / "truth.jsonl")
        self.random = random.Random(seed)
        self.recoveries = self._patients = 0
        self.running: dict[str, programs.Program] = {}
        self._client: Client | None = None
        (self.folder / "protocols").mkdir()
        (self.folder / "protocols" / "dense.toml").write_text(DENSE)
        self.write_config(str(self.port))

    def write_config(self, url: str, more: str = "") -> None:
        self.config.write_text(
            f'[paths]\nruntime = "{self.runtime}"\nstate = "{self.state}"\n'
            f'[device]\ndriver = "{self.model}"\nurl = "{url}"\n[guard]\nsupervise = true\n'
            f'[protocols]\nfolders = ["{self.folder}/protocols"]\n{more}'
        )

    # -- programs ------------------------------------------------------------------------------

    def spawn(self, name: str, *words: str | Path) -> programs.Program:
        with (self.folder / f"{name}.log").open("ab") as log:
            out = log.fileno()
            process = programs.start(name, *words, stdout=out, stderr=out)
        self.running[name] = process
        return process

    def start_simulator(self, *words: str) -> None:
        """With the pulse counter of its life before, where a real unit keeps it."""
        kept = (
            "--set", f"pulse_count={len(self.truth.pulses())}",
            "--set", f"boot_count={1 + len(self.truth.events('clock'))}",
        )  # fmt: skip
        log = self.folder / "tmssim.log"
        before = log.read_text().count("ready ") if log.exists() else 0
        process = self.spawn(
            "tmssim", self.model, *(words or ("--pty", str(self.port))),
            "--log", self.folder / "truth.jsonl", *(kept if self.model == "tmslink" else ()),
        )  # fmt: skip
        # Hardware does not wait for a processor, where we may say so. But not before it is there:
        # a program that starts would keep the stimulators of other tests from theirs.
        until(lambda: log.read_text().count("ready ") > before, "the emulator is there")
        with suppress(PermissionError):
            os.sched_setscheduler(process.pid, os.SCHED_FIFO, os.sched_param(STIMULATOR_PRIORITY))

    def start_tmsd(self) -> None:
        self._client = None
        self.spawn("tmsd", "--config", self.config)

    def start(self) -> System:
        self.start_simulator()
        self.start_tmsd()
        self.until_disarmed("idle")
        return self

    def tmsctl(self, *words: str) -> tuple[int, str, str]:
        """Run `tmsctl`: exit status, standard output, standard error."""
        done = programs.run("tmsctl", "--runtime", self.runtime, *words, timeout=DEADLINE_S)
        return done.returncode, done.stdout, done.stderr

    def kill(self, name: str) -> int:
        """SIGKILL; CLOCK_BOOTTIME right after it, when nothing of the program runs any more."""
        process = self.running.pop(name)
        process.kill()
        at = boot_us()
        process.wait(DEADLINE_S)
        if name == "tmsd":
            self.hang_up()
        return at

    def signal(self, pid: int, number: int) -> int:
        """CLOCK_BOOTTIME right after the signal was sent."""
        os.kill(pid, number)
        return boot_us()

    def left(self) -> dict[int, str]:
        """Every living process that was started with a file of this folder, by pid."""
        found = {}
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with suppress(OSError):
                words = path.read_text().replace("\0", " ")
                if str(self.folder) in words:
                    found[int(path.parent.name)] = words
        return found

    def end(self) -> None:
        """In order, as a service manager does it; then nothing of it runs."""
        self.hang_up()
        for name in ("tmsd", "tmssim"):
            process = self.running.pop(name, None)
            if process is not None:
                process.terminate()
                assert process.wait(DEADLINE_S) == 0, name
            for pid, words in self.left().items():
                if "tms-guard" in words:  # it outlived the tmsd that started it
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGTERM)
            until(lambda: "tms-guard" not in str(self.left()), "the guard ends")
        assert self.left() == {}

    def remove(self) -> None:
        """Whatever has happened: kill what is left, and remove the folder."""
        self.hang_up()
        for pid in self.left():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for process in self.running.values():
            process.wait()
        shutil.rmtree(self.folder)

    # -- the technician ------------------------------------------------------------------------

    @property
    def client(self) -> Client:
        if self._client is None:

            def connected() -> bool:
                assert self.running["tmsd"].poll() is None, "tmsd has ended"
                with suppress(CliError):
                    self._client = Client(self.runtime)
                return self._client is not None

            until(connected, "tmsd listens")
        assert self._client is not None
        return self._client

    def call(self, method: str, **params: object) -> Json:
        return self.client.call(method, params, within_s=10)

    def hang_up(self) -> None:
        if self._client is not None:
            self._client.__exit__(None, None, None)
            self._client = None

    def status(self) -> Json:
        return self.call("status.get")

    def session_state(self) -> str | None:
        session = self.status()["session"]
        return None if session is None else str(session["state"])

    def waiting(self) -> str:
        """`code: why` a limit holds the next pulses back, else empty."""
        return str(self.status()["session"]["waiting"])

    def causes(self) -> list[str]:
        return [cause["code"] for cause in self.status()["guard"]["causes"]]

    @property
    def guard_pid(self) -> int:
        return int(self.call("system.info")["guard_pid"])

    def until_new_guard(self, pid: int) -> None:
        until(lambda: self.call("system.info")["guard_pid"] not in (None, pid), "a new guard")

    def until_disarmed(self, guard: str) -> None:
        """Guard in this state, device connected and disarmed."""

        def so() -> bool:
            now = self.status()
            disarmed = now["device"]["connected"] and now["device"]["state"] in ("idle", "latched")
            return disarmed and now["guard"]["state"] == guard

        until(so, f"the device is disarmed and the guard {guard}")

    def acknowledge(self) -> None:
        """A person has seen why; the device's latch is released too."""
        self.call("guard.acknowledge")
        until(
            lambda: (
                self.status()["guard"]["state"] == "idle"
                and self.status()["device"]["state"] == "idle"
            ),
            "guard and device are idle",
        )

    def confirm_clock(self) -> None:
        """A person has compared it with another one."""
        shown = self.call("ledger.list")["clock"]["time"]
        self.call("ledger.confirm_clock", operator="AB", time=shown)

    def checks_of_the_day(self) -> None:
        """What a person does before the first session, as far as it is missing."""
        now = self.status()
        if not now["clock_confirmed"]:
            self.confirm_clock()
        if now["self_test"]["state"] != "passed":
            while not (result := self.call("selftest.run"))["passed"]:
                self._tell("self-test", result["detail"])
                self.make_disarmed()
            until(lambda: self.status()["self_test"]["state"] == "passed", "its result is known")
            self.until_disarmed("idle")

    def new_patient(self) -> str:
        """Between two sessions of one patient hours have to pass."""
        self._patients += 1
        return f"P{self._patients:03}"

    def confirmed(self, client: Client, **order: object) -> Json:
        """Prepare as this client and say yes: the parameters of `session.start`."""
        asked = ORDER | {"patient": self.new_patient()} | order
        plan = client.call("session.prepare", asked)
        said = {name: plan[name] for name in ("plan_hash", "confirmation")}
        return asked | said | {"reason": REASON if plan["needs_reason"] else None}

    def start_session(self, **order: object) -> Run:
        """Prepare, confirm, start. A machine that is away at this moment makes a second try due."""
        self.checks_of_the_day()
        while True:
            before, began_at = len(self.truth.pulses()), boot_us()
            try:
                started = self.call("session.start", **self.confirmed(self.client, **order))
            except CliError as error:
                self._tell(error.code, error.sentence)
                continue
            return Run(started["session"], before, began_at)

    def given(self, run: Run) -> int:
        """Pulses of this session so far, by the physics. No other session has begun since."""
        return len(self.truth.pulses()) - run.before

    def until_given(self, run: Run, pulses: int) -> None:
        """The session goes on until the coil gave so many pulses; a nuisance trip is cleared."""

        def so() -> bool:
            self.keep_running()
            return self.given(run) >= pulses

        until(so, f"{pulses} pulses")

    def delivering(self, run: Run | None = None) -> Run:
        """A session, new or going on, at a random instant of its delivery."""
        run = run or self.start_session()
        pulses = self.given(run) + self.random.randint(1, 12)
        while True:
            self.until_given(run, pulses)
            select.select([], [], [], self.random.uniform(0, 0.2))
            if self.truth.firing:
                return run
            pulses = self.given(run) + 1

    def until_complete(self) -> None:
        """The session goes on to its end; a nuisance trip is cleared."""

        def so() -> bool:
            self.keep_running()
            return self.session_state() == "complete"

        until(so, "the session is complete", within_s=120)
        self.until_disarmed("idle")

    def keep_running(self) -> None:
        """Acknowledge and resume, as a technician would, when this machine lost the processor."""
        now = self.status()
        if now["session"] is None or now["session"]["state"] != "paused":
            return
        guard = now["guard"]
        if guard["state"] == "safe" and guard["causes"]:
            self._tell(*guard["causes"][0].values())
            self.acknowledge()
        elif guard["state"] == "idle" and now["device"]["state"] == "idle":
            try:
                self.call("session.resume")
            except CliError as error:
                self._tell(error.code, error.sentence)

    def is_excused(self) -> None:
        """What tripped the guard was this machine, being away."""
        self._tell(*self.status()["guard"]["causes"][0].values())

    def _tell(self, code: str, detail: str) -> None:
        late_device = code == "disarmed-itself" and detail.endswith(LATE_DEVICE)
        if code == "self-test":  # while nothing was armed, so that this was no part of the test
            events = [line.event for line in self.truth.events("arm", "disarm", "dead_man")]
            late_device = ("disarm", "dead_man") in pairwise(["disarm", *events])
        assert code in NUISANCES or late_device, f"{code}: {detail}"
        self.recoveries += 1
        print(f"recovery {self.recoveries}: {code}: {detail}")
        assert self.recoveries <= RECOVERIES_MAX, "this machine is away too often to judge anything"

    # -- what must be so -----------------------------------------------------------------------

    def until_logged(self, *events: str, after: int) -> int:
        """Until the device has done one of these; returns when it did."""
        until(lambda: self.truth.events(*events, after=after), f"{events} of the device")
        return self.truth.events(*events, after=after)[0].at

    def until_device_disarmed(self) -> int:
        """Returns when the device disarmed."""

        def so() -> bool:
            return self.truth.events("arm", "disarm")[-1].event == "disarm"

        until(so, "the device disarms")
        return self.truth.events("disarm")[-1].at

    def no_pulse_after(self, at: int, bound_us: int) -> None:
        """By the physics, and nothing was armed again since."""
        until(lambda: boot_us() > at + bound_us + 100_000, "the bound has passed")
        late = [line.at - at for line in self.truth.pulses(after=at + bound_us)]
        assert late == [], f"pulses {late} us after, bound {bound_us}"
        assert self.truth.events("arm", after=at) == []

    def dose_covers(self, run: Run) -> Json:
        """What is on record is never less than what left the coil. Returns the record."""
        record = self.call("session.show", session=run.session)
        assert record["delivered"] + record["unknown"] >= self.given(run)
        return record

    def dose_is_exact(self, run: Run) -> Json:
        """Once the last outcome is on record, it is what left the coil, pulse for pulse."""

        def settled() -> bool:
            blocks = self.dose_covers(run)["blocks"]
            return all(block["outcome"] != "open" for block in blocks)

        until(settled, "every intent has its outcome")
        record = self.dose_covers(run)
        assert (record["delivered"], record["unknown"]) == (self.given(run), 0)
        return record

    def is_ended(self, run: Run) -> None:
        """The session was stopped: nothing is armed, and the record is exact."""
        self.until_device_disarmed()
        if self.session_state() == "paused":  # it had tripped a moment before
            self.is_excused()
            self.call("session.stop")
        assert self.session_state() == "stopped"
        self.dose_is_exact(run)
        self.make_disarmed()

    def end_session(self, run: Run) -> None:
        self.call("session.stop")
        self.is_ended(run)

    def make_idle(self) -> None:
        """No session, nothing latched: where every test of a shared system begins."""
        if self.session_state() in ("starting", "running", "paused"):
            self.call("session.stop")
        self.make_disarmed()

    def make_disarmed(self) -> None:
        """Nothing armed, nothing latched."""
        until(lambda: self.status()["guard"]["state"] in ("idle", "safe"), "the guard disarms")
        if self.status()["guard"]["state"] == "safe":
            self.acknowledge()
        self.until_disarmed("idle")

    def works_again(self) -> None:
        """A person acts, a new session starts, and pulses leave; then it is stopped."""
        run = self.start_session()
        self.until_given(run, 2)
        self.end_session(run)


@contextmanager
def system(seed: int = 1, model: str = "tmslink") -> Iterator[System]:
    """A folder for the programs. At its end they are ended in order, and nothing is left."""
    made = System(seed, model)
    try:
        yield made
        made.end()
    except BaseException:
        for log in made.folder.glob("*.log"):
            print(f"--- {log.name}\n{log.read_text()[-6000:]}")
        lines = [line for line in made.truth.lines() if line.event != "pulse"]
        print("--- truth\n" + "\n".join(f"{line.at} {line.says}" for line in lines[-40:]))
        raise
    finally:
        made.remove()
