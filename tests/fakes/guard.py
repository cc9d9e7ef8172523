"""A guard that talks like the real one and fires into a list: `fired` is the ground truth.

`FakeGuard` has no I/O: give it a message with `hear`, take what it says from the return value. It
delivers a granted block at once, or with `step_by_step` only when `play` is called.
`GuardServer` puts one on RUNTIME/guard.sock and lives in a thread.
"""

from __future__ import annotations

import contextlib
import select
import socket
import threading
import time
from collections import Counter
from pathlib import Path

from firmware_protocol.table import spec_of
from tmsctl.ipc import messages as ipc
from tmsctl.ipc.messages import GuardState
from tmsctl.stimulation.plan import Plan
from tmsctl.stimulation.prescription import Prescription, compile_plan
from tmsctl.stimulation.protocol import load_library

Said = list[ipc.ToService]


def boot_us() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000


class FakeGuard:
    def __init__(self, block_pulses: int = 30, *, step_by_step: bool = False) -> None:
        self.fired: Counter[int] = Counter()  # pulses by session
        self.state = GuardState.IDLE
        self.connected = True
        self.link = ""
        self.refuse: dict[type, tuple[str, str]] = {}  # message class -> code, detail
        self.self_test = ipc.SelfTestState.PASSED
        self.proofs = (1, 1, 1)  # of the next self-test
        self.present_us: int | None = None  # newest sign of the operator
        self.outcome = 0  # of blocks that end early: 0 applied, 2 unknown
        self.heard: list[ipc.ToGuard] = []
        self.now_us = boot_us  # replaced by tests with a clock of their own
        self._block_pulses, self._step_by_step = block_pulses, step_by_step
        self._library = load_library()
        self._plan: Plan | None = None
        self._session_no = self._position = self._skipped = 0
        self._running = False
        self._block = 0
        self._granted: ipc.Grant | None = None
        self._done = 0  # pulses of the granted block that were fired
        self._unrecorded: dict[int, ipc.BlockOutcome] = {}

    def hear(self, item: ipc.ToGuard) -> Said:
        self.heard.append(item)
        if type(item) in self.refuse:
            return [ipc.Refused(spec_of(type(item)).code, *self.refuse[type(item)])]
        match item:
            case ipc.Load():
                return self._load(item)
            case ipc.Run():
                return self._run(item)
            case ipc.Grant():
                return self._grant(item)
            case ipc.Pause():
                return [*self._halt("paused"), self.snapshot()]
            case ipc.Unload():
                said = self._halt("unloaded")
                self._plan, self._session_no = None, 0
                return [*said, self.snapshot()]
            case ipc.Acknowledge():
                return self._move(GuardState.IDLE, "acknowledged", "a person acknowledged")
            case ipc.Recorded():
                self._unrecorded.pop(item.block_id, None)
            case ipc.Present(at_us):
                self.present_us = at_us
            case ipc.Fail(code, detail):
                return self.trip(code, detail)
            case ipc.SelfTest():
                return self._prove()
            case ipc.ReadInterlocks():
                return [
                    ipc.Interlock("coil-hot", "watch", 1, 243, 410, ""),
                    ipc.Interlock("presence-lost", "watch", 0, 0, 60_000_000, "nobody was there"),
                ]
        return []

    def play(self, pulses: int | None = None) -> Said:
        """Fire this many pulses of the granted block, all of them by default."""
        grant = self._granted
        if grant is None:
            return []
        said: Said = []
        end = grant.pulses if pulses is None else min(grant.pulses, self._done + pulses)
        for place in range(grant.first_pulse + self._done, grant.first_pulse + end):
            self.fired[grant.session_no] += 1
            count = self.fired.total()
            said.append(ipc.PulseRecord(grant.session_no, place, 0, 0, 400, count, 301))
        self._done = end
        if end < grant.pulses:
            return [*said, self.snapshot()]
        self._granted, self._position = None, grant.first_pulse + grant.pulses
        return [*said, self._ended(grant, end, 0), *self._want(), self.snapshot()]

    def trip(self, code: str, detail: str = "1 compared with 2") -> Said:
        return [*self._halt(code), *self._move(GuardState.SAFE, code, detail)]

    def repeat(self) -> Said:
        """Outcomes that were not answered yet."""
        return list(self._unrecorded.values())

    def snapshot(self) -> ipc.Snapshot:
        plan = self._plan
        session = ipc.Session.NONE
        if plan is not None:
            at_end = self._position >= plan.pulses
            busy = ipc.Session.RUNNING if self._running else ipc.Session.LOADED
            session = ipc.Session.COMPLETE if at_end else busy
        return ipc.Snapshot(
            cycle=1, boot_us=self.now_us(), state=self.state, session=session,
            session_no=self._session_no, position=self._position + self._done,
            planned=plan.pulses if plan else 0, delivered=self._position + self._done,
            skipped=0, train=1, trains=len(plan.trains) if plan else 0, next_in_us=0,
            left_us=1_000_000, mso_pct=plan.mso.value if plan else 0, realised_permille=400,
            connected=int(self.connected), device_state=0, status_age_us=10_000,
            charge_permille=500, coil_dc=305, surface_dc=301, pulse_count=self.fired.total(),
            waiting="", overruns=0, late_max_us=0, model="fake", serial="F0000001", boot_count=1,
            link=self.link, timing="fake", self_test=self.self_test,
            presence_age_us=-1 if self.present_us is None else self.now_us() - self.present_us,
            self_test_age_us=1_000_000 if self.self_test == ipc.SelfTestState.PASSED else -1,
        )  # fmt: skip

    def _prove(self) -> Said:
        if self.state != GuardState.IDLE or self._plan is not None:
            return [ipc.Refused(spec_of(ipc.SelfTest).code, "wrong-state", "not idle, or loaded")]
        good = all(self.proofs)
        self.self_test = ipc.SelfTestState.PASSED if good else ipc.SelfTestState.FAILED
        said = "dead-man within 50 ms" if good else "a proof failed"
        return [ipc.SelfTested(self.now_us(), *self.proofs, said), self.snapshot()]

    def _load(self, load: ipc.Load) -> Said:
        protocol = self._library[load.protocol]
        prescription = Prescription(protocol, load.mt_permille, load.pct_mt, bool(load.reduced))
        plan = compile_plan(prescription, 100)
        assert isinstance(plan, Plan)
        assert plan.hash == load.plan_hash
        self._plan, self._session_no, self._position = plan, load.session_no, load.first_pulse
        return [self.snapshot()]

    def _run(self, run: ipc.Run) -> Said:
        if self.state != GuardState.IDLE or run.session_no != self._session_no:
            return [ipc.Refused(spec_of(ipc.Run).code, "wrong-state", "not idle, or not loaded")]
        self._running = True
        return [*self._move(GuardState.ARMED, "run", "started or resumed"), *self._want()]

    def _grant(self, grant: ipc.Grant) -> Said:
        if not self._running or grant.block_id != self._block:
            outcome = ipc.BlockOutcome(
                grant.session_no, grant.block_id, grant.first_pulse, grant.pulses, 0, 0, 1, 0,
                "no longer wanted",
            )  # fmt: skip
            self._unrecorded[grant.block_id] = outcome
            return [outcome]
        self._granted, self._done = grant, 0
        return [] if self._step_by_step else self.play()

    def _want(self) -> Said:
        assert self._plan is not None
        left = self._plan.pulses - self._position
        if left == 0:
            self._running, self.state = False, GuardState.IDLE
            return []
        self._block += 1
        pulses = min(left, self._block_pulses)
        count = self.fired.total()
        return [ipc.Want(self._session_no, self._block, self._position, pulses, count)]

    def _halt(self, why: str) -> Said:
        self._running = False
        said: Said = []
        if self._granted is not None:
            self._position += self._done
            said.append(self._ended(self._granted, self._done, self.outcome, why))
            self._granted, self._done = None, 0
        if self.state in (GuardState.ARMED, GuardState.ARMING):
            said += self._move(GuardState.IDLE, why, why)
        return said

    def _ended(
        self, grant: ipc.Grant, done: int, outcome: int, why: str = "done"
    ) -> ipc.BlockOutcome:
        self._done = 0
        item = ipc.BlockOutcome(
            grant.session_no, grant.block_id, grant.first_pulse, grant.pulses,
            0 if outcome == 2 else done, 0, outcome, self.fired.total(), why,
        )  # fmt: skip
        self._unrecorded[grant.block_id] = item
        return item

    def _move(self, after: GuardState, code: str, detail: str) -> Said:
        before, self.state = self.state, after
        return [ipc.Transition(self.now_us(), before, after, code, detail), self.snapshot()]


class GuardServer:
    """Serves one tmsd at a time. With `step_s`, a granted block advances one pulse each step."""

    def __init__(self, guard: FakeGuard, runtime: Path, pid: int, step_s: float = 0.05) -> None:
        self.guard, self._pid, self._step_s = guard, pid, step_s
        # The configuration lies beside the runtime folder in every test.
        self._mark = ipc.settings_mark((runtime.parent / "tmsctl.toml").read_bytes())
        self.lock = threading.Lock()
        self._client: socket.socket | None = None
        path = runtime / "guard.sock"
        path.unlink(missing_ok=True)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._listener.bind(str(path))
        self._listener.listen(1)
        self.stops: list[bytes] = []
        (runtime / "stop.sock").unlink(missing_ok=True)
        self._stop_line = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._stop_line.bind(str(runtime / "stop.sock"))
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def close(self) -> None:
        self._ended.set()
        self._thread.join()
        self._drop()
        self._listener.close()
        self._stop_line.close()

    def say(self, items: Said) -> None:
        """From a test: `server.say(server.guard.trip("heat"))` under `lock`."""
        if self._client is not None:
            with contextlib.suppress(OSError):
                for item in items:
                    self._client.send(ipc.encode(item))

    def _serve(self) -> None:
        snapshot_at = repeat_at = 0.0
        while not self._ended.is_set():
            lines = [self._listener, self._stop_line]
            lines += [] if self._client is None else [self._client]
            ready, _, _ = select.select(lines, [], [], self._step_s)
            with self.lock:
                if self._listener in ready:
                    self._drop()
                    self._client, _ = self._listener.accept()
                    self.say(
                        [ipc.Welcome(ipc.LAYOUT, self._pid, self._mark), self.guard.snapshot()]
                    )
                    self.say(self.guard.repeat())
                elif self._client in ready:
                    self._read()
                if self._stop_line in ready:
                    self.stops.append(self._stop_line.recv(128))
                    self.say(self.guard.trip("stop", "STOP by a test"))
                if not ready:
                    self.say(self.guard.play(1))
                now = time.monotonic()
                if now >= snapshot_at + 0.05:
                    snapshot_at = now
                    self.say([self.guard.snapshot()])
                if now >= repeat_at + 1.0:
                    repeat_at = now
                    self.say(self.guard.repeat())

    def _read(self) -> None:
        assert self._client is not None
        try:
            datagram = self._client.recv(ipc.MESSAGE_SIZE_MAX)
        except OSError:
            datagram = b""
        if not datagram:
            self._drop()
            self.guard.trip("service-lost")
            return
        item = ipc.decode(datagram)
        if not isinstance(item, ipc.Welcome | ipc.Alive):
            self.say(self.guard.hear(item))  # type: ignore[arg-type]

    def _drop(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None
