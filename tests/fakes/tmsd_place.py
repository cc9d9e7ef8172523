"""tmsd as a process with a fake guard, and clients of its API."""

from __future__ import annotations

import json
import os
import select
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.fakes import programs
from tests.fakes.guard import FakeGuard, GuardServer

DEADLINE_S = 20.0
ORDER = {
    "patient": "P1", "operator": "op", "protocol": "ctbs600", "mt": 50.0, "mt_method": "emg",
}  # fmt: skip
REASON = "the physician asked for it"  # ctbs600 has no reviewer yet


def until(what: Callable[[], object], about: str) -> None:
    """Poll until it is so; the deadline only ends a test that has failed."""
    end = time.monotonic() + DEADLINE_S
    while not what():
        assert time.monotonic() < end, f"never happened: {about}"
        select.select([], [], [], 0.005)


class Client:
    """One connection; `notes` are the notifications that arrived so far."""

    def __init__(self, runtime: Path) -> None:
        self.line = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.line.settimeout(DEADLINE_S)
        try:
            self.line.connect(str(runtime / "tmsd.sock"))
        except OSError:
            self.line.close()
            raise
        self._read = self.line.makefile("rb")
        self.notes: list[dict[str, Any]] = []
        self._number = 0

    def send(self, data: bytes) -> None:
        self.line.sendall(data)

    def receive(self) -> Any:
        line = self._read.readline()
        if not line:
            raise ConnectionError("tmsd closed the connection")
        return json.loads(line)

    def ask(self, method: str, **params: object) -> int:
        self._number += 1
        request = {"jsonrpc": "2.0", "id": self._number, "method": method, "params": params}
        self.send(json.dumps(request).encode() + b"\n")
        return self._number

    def answer(self, number: int) -> dict[str, Any]:
        while (message := self.receive()).get("id") != number:
            self.notes.append(message)
        return message

    def call(self, method: str, **params: object) -> Any:
        answer = self.answer(self.ask(method, **params))
        assert "error" not in answer, answer
        return answer["result"]

    def refusal(self, method: str, **params: object) -> tuple[str, int]:
        error = self.answer(self.ask(method, **params))["error"]
        assert error["message"].endswith(".")
        return error["data"]["code"], error["data"]["exit"]

    def prepare(self, **changes: object) -> dict[str, Any]:
        """The parameters of a start of just what was shown, after the morning's routine."""
        if not (status := self.status())["clock_confirmed"]:
            self.call("ledger.confirm_clock", operator="op", time=status["time"])
        order = {**ORDER, **changes}
        shown = self.call("session.prepare", **order)
        answer = {name: shown[name] for name in ("plan_hash", "confirmation")}
        return {**order, **answer, "reason": REASON}

    def self_test(self) -> None:
        assert self.call("selftest.run")["passed"]

    def start(self, patient: str = "P1") -> int:
        """A session of a new tmsd, a new guard or a new patient."""
        self.self_test()
        return self.call("session.start", **self.prepare(patient=patient))["session"]

    def status(self) -> dict[str, Any]:
        return self.call("status.get")

    def until_session(self, state: str) -> None:
        until(lambda: (self.status()["session"] or {}).get("state") == state, f"session {state}")

    def close(self) -> None:
        self._read.close()
        self.line.close()


class Place:
    """A runtime and a state folder with a fake guard, and the processes that a test started."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.runtime = folder, folder / "run"
        self.runtime.mkdir()
        self.config = folder / "tmsctl.toml"
        self.config.write_text(
            f'[paths]\nruntime = "{self.runtime}"\nstate = "{folder}/state"\n'
            '[device]\ndriver = "tmslink"\nurl = "/dev/none"\n[guard]\nsupervise = false\n'
        )
        self.journal = folder / "state" / "journal.sqlite"
        self.guard = FakeGuard(step_by_step=True)
        self.server = GuardServer(self.guard, self.runtime, pid=7, step_s=0.005)
        self.clients: list[Client] = []
        self.processes: list[programs.Program | subprocess.Popen[bytes]] = []
        self.log = folder / "log"

    def new_guard(self, pid: int, step_s: float = 0.005, *, same_device: bool = False) -> None:
        self.server.close()
        fired = self.guard.fired
        self.guard = FakeGuard(step_by_step=True)
        if same_device:
            self.guard.fired = fired
        self.server = GuardServer(self.guard, self.runtime, pid, step_s)

    def run(self) -> programs.Program:
        with self.log.open("ab") as log:
            process = programs.start("tmsd", "--config", self.config, stderr=log.fileno())
        self.processes.append(process)
        return process

    def run_with(self, **environment: str) -> None:
        """As a service manager starts it."""
        words = [programs.FOLDER / "tmsd", "--config", self.config]
        with self.log.open("ab") as log:
            self.processes.append(
                subprocess.Popen(words, stderr=log, env={**os.environ, **environment})
            )

    def client(self) -> Client:
        """Waits until tmsd answers and sees its guard."""

        def connected() -> bool:
            try:
                self.clients.append(Client(self.runtime))
            except OSError:
                return False
            return True

        until(connected, "tmsd listens")
        client = self.clients[-1]
        until(lambda: client.status()["guard"]["state"] != "absent", "the guard is seen")
        return client

    def logged(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.read_text().splitlines()]

    def close(self) -> None:
        for client in self.clients:
            client.close()
        for process in self.processes:
            process.kill()
            process.wait()
        self.server.close()
