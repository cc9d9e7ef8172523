"""A small tmsd: the JSON-RPC API, the STOP socket and one session, without guard or device.

Time is the test's: `pulse(n)` delivers pulses, nothing happens by itself. As a program
(`python -m tests.fakes.tmsd RUNTIME`) it delivers by the clock, to look at the live view.
"""

from __future__ import annotations

import copy
import json
import select
import socket
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

Json = dict[str, Any]
PUSH_S = 0.05

STATUS: Json = {
    "time": "2030-01-02T03:04:05.000000Z",
    "guard": {
        "state": "idle", "cycle": 100, "overruns": 0, "late_max_us": 210,
        "timing": "fifo=on mlock=on gc=frozen cpu=1", "causes": [],
    },
    "device": {
        "connected": True, "link": "", "model": "TMSLINK-1", "serial": "TR000001", "state": "idle",
        "status_age_ms": 12, "pulse_count": 1000, "charge_pct": 0.0,
    },
    "coil": {"temperature_c": 24.1, "winding_c": 25.0},
    "intensity": {"planned_mso": 40, "realised_mso": 39.8},
    "session": None,
    "journal_error": "",
    "self_test": {"state": "passed", "age_s": 60.0},
    "clock_confirmed": True,
}  # fmt: skip

SESSION: Json = {
    "id": 1, "patient": "P001", "operator": "AB", "protocol": "ctbs600", "state": "running",
    "planned": 600, "delivered": 0, "skipped": 0, "unknown": 0, "train": 1, "trains": 1,
    "waiting": "", "next_train_s": 0.0, "left_s": 40.0, "elapsed_s": 0.0, "presence_s": 0.5,
}  # fmt: skip

CHECK: Json = {"ok": True, "soft": False, "verified": False, "source": "a table", "next": ""}

PREPARED: Json = {
    "plan_hash": "ab" * 32,
    "confirmation": "token-1",
    "confirmation_s": 120.0,
    "sentence": "cTBS 600 at 40 %MSO (80 % of a motor threshold of 50.0 %MSO): 600 pulses.",
    "mso": 40,
    "pulses": 600,
    "trains": 1,
    "duration_s": 40.0,
    "warnings": ["No clinician has reviewed the protocol file ctbs600."],
    "checks": [
        CHECK | {"code": "train-pulses", "detail": "600 pulses, at most 600", "verified": True},
        CHECK | {"code": "session-pulses", "detail": "600 pulses, at most 3000"},
    ],
    "needs_reason": [],
}

SELF_TEST: Json = {
    "passed": True, "dead_man": True, "stop": True, "bad_frame": True, "ledger": True,
    "detail": "The device disarmed by itself 50 ms after the last beat.",
}  # fmt: skip

CLOCK: Json = {
    "time": "2030-01-02T03:04:05.000000Z", "confirmed": False, "why": "The computer was started.",
    "confirmed_by": None, "confirmed_at": None,
}  # fmt: skip

COUNTER: Json = {"serial": "TR000001", "boot_count": 2, "shown": 1007, "low": 1000, "high": 1003,
                 "agrees": False}  # fmt: skip

UNRESOLVED: Json = {
    "session": 7, "block": 3, "patient": "P001", "operator": "AB", "protocol": "ctbs600",
    "intent_at": "2030-01-01T10:00:00.000000Z", "pulses": 30, "confirmed": 12, "suggests": 15,
    "why": "no outcome was told",
}  # fmt: skip

INTERLOCK: Json = {
    "code": "coil-hot", "table": "watch", "value": 241, "limit": 400, "limit_name": "coil_max_dc",
    "unit": "0.1 degree C", "verified": False, "source": "IEC 60601-1 applied part 41 C",
    "says": "",
}  # fmt: skip


class FakeTmsd:
    """Serves RUNTIME/tmsd.sock and RUNTIME/stop.sock from one thread until it is closed."""

    def __init__(self, runtime: Path) -> None:
        self.status = copy.deepcopy(STATUS)
        self.prepared = copy.deepcopy(PREPARED)
        self.self_test = copy.deepcopy(SELF_TEST)
        self.interlocks = [copy.deepcopy(INTERLOCK)]
        self.ledger: Json = {
            "clock": copy.deepcopy(CLOCK), "unresolved": [copy.deepcopy(UNRESOLVED)],
            "counter": copy.deepcopy(COUNTER), "dose": None,
        }  # fmt: skip
        self.refusals: dict[str, Json] = {}  # method -> the `data` of an error object
        self.silent: set[str] = set()  # methods that are never answered
        self.stop_answers = [b"ACCEPTED", b"CONFIRMED"]
        self.calls: list[tuple[str, Json]] = []
        self.stops: list[bytes] = []
        self.pushing = True
        self.pulses_per_push = 0
        self.station_gone = False
        self.presence_s = 0.5  # since the operator's last sign, when a session starts
        self.record = _record()
        self._lock = threading.RLock()
        self._ended = threading.Event()
        self._clients: dict[socket.socket, bytes] = {}
        self._subscribed: set[socket.socket] = set()
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(runtime / "tmsd.sock"))
        self._listener.listen()
        self._stop = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._stop.bind(str(runtime / "stop.sock"))
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> FakeTmsd:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended.set()
        self._thread.join(5)
        for line in (self._listener, self._stop, *self._clients):
            line.close()

    def pulse(self, pulses: int) -> None:
        """So many pulses leave the coil; the last one completes the session."""
        with self._lock:
            session = self.status["session"]
            if session is None or session["state"] != "running":
                return
            pulses = min(pulses, session["planned"] - session["delivered"])
            session["delivered"] += pulses
            session["elapsed_s"] = session["delivered"] / 15
            session["left_s"] = 40.0 - session["elapsed_s"]
            self.status["device"]["pulse_count"] += pulses
            if session["delivered"] == session["planned"]:
                self._close("complete")

    def trip(self, code: str, detail: str) -> None:
        """The guard goes to SAFE and the session is paused."""
        with self._lock:
            self.status["guard"]["state"] = "safe"
            self.status["device"]["state"] = "latched"
            self.status["guard"]["causes"].append({"code": code, "detail": detail})
            if self.status["session"] is not None:
                self.status["session"]["state"] = "paused"
            self._tell("transition", code, detail)

    def disarm(self, code: str, detail: str) -> None:
        """The guard disarms without a latch, which pauses the session."""
        with self._lock:
            self.status["guard"]["state"] = self.status["device"]["state"] = "idle"
            self.status["session"]["state"] = "paused"
            self._tell("transition", code, detail)

    def called(self, method: str) -> list[Json]:
        """The parameters of every call of a method."""
        return [params for name, params in self.calls if name == method]

    def _serve(self) -> None:
        push_at = time.monotonic()
        while not self._ended.is_set():
            lines = [self._listener, self._stop, *self._clients]
            ready = select.select(lines, [], [], PUSH_S / 5)[0]
            with self._lock:
                for line in ready:
                    if line.fileno() >= 0:
                        self._read(line)
                if self.pushing and time.monotonic() >= push_at:
                    push_at = time.monotonic() + PUSH_S
                    self.pulse(self.pulses_per_push)
                    self._notify("status", self.status)

    def _read(self, line: socket.socket) -> None:
        if line is self._listener:
            self._clients[line.accept()[0]] = b""
            return
        if line is self._stop:
            datagram, passed, _, _ = socket.recv_fds(line, 256, 1)
            self.stops.append(datagram)
            for fileno in passed:
                # Who has pressed STOP need not wait for the answer.
                with socket.socket(fileno=fileno) as sender, suppress(OSError):
                    for answer in self.stop_answers:
                        sender.send(answer)
            self.trip("operator-stop", datagram.decode())
            return
        try:
            data = line.recv(65536)
        except OSError:
            data = b""
        if not data:
            self._drop(line)
            return
        *requests, rest = (self._clients[line] + data).split(b"\n")
        self._clients[line] = rest
        for request in requests:
            if line in self._clients:
                self._answer(line, json.loads(request))

    def _drop(self, line: socket.socket) -> None:
        self._clients.pop(line, None)
        self._subscribed.discard(line)
        line.close()

    def _answer(self, line: socket.socket, request: Json) -> None:
        method, params = request["method"], request["params"]
        self.calls.append((method, params))
        if method == "session.present" and self.status["session"] is not None:
            self.status["session"]["presence_s"] = 0.0
        if method in self.silent or "id" not in request:
            return
        reply: Json = {"jsonrpc": "2.0", "id": request["id"]}
        if method in self.refusals:
            data = self.refusals[method]
            reply["error"] = {"code": -32000, "message": data["sentence"], "data": data}
        else:
            reply["result"] = self._result(line, method, params)
        self._send(line, reply)

    def _result(self, line: socket.socket, method: str, params: Json) -> Json:
        match method:
            case "status.get":
                return self.status
            case "status.subscribe":
                self._subscribed.add(line)
                return {}
            case "session.prepare":
                return self.prepared
            case "session.start":
                self.status["session"] = copy.deepcopy(SESSION) | {"presence_s": self.presence_s}
                self.status["guard"]["state"] = "armed"
                self.status["device"]["state"] = "firing"
                self._tell("session", "started", "Session 1 was started.")
                return {"session": 1}
            case "session.pause":
                self.status["session"]["state"] = "paused"
                self.status["guard"]["state"] = self.status["device"]["state"] = "idle"
            case "session.resume":
                self.status["session"]["state"] = "running"
                self.status["guard"]["state"] = "armed"
                return {"session": 1, "state": "running", "adopted": self.station_gone}
            case "session.stop":
                self._close("stopped")
            case "session.show":
                return self.record
            case "session.list":
                return {"sessions": [self.record]}
            case "selftest.run":
                return self.self_test
            case "interlocks.list":
                return {"interlocks": self.interlocks}
            case name if name.startswith("ledger."):
                return self._ledger(name, params)
            case "guard.acknowledge":
                self.status["guard"] |= {"state": "idle", "causes": []}
                return {"state": "idle"}
        return {"session": 1, "state": self.status["session"]["state"]}

    def _ledger(self, method: str, params: Json) -> Json:
        clock, counter = self.ledger["clock"], self.ledger["counter"]
        match method:
            case "ledger.resolve":
                self.ledger["unresolved"] = []
                return {}
            case "ledger.accept_counter":
                counter |= {"low": counter["shown"], "high": counter["shown"], "agrees": True}
                return counter
            case "ledger.confirm_clock":
                clock |= {"confirmed": True, "why": "", "confirmed_by": params["operator"],
                          "confirmed_at": params["time"]}  # fmt: skip
                return clock
        if params.get("patient") is None:
            return self.ledger
        dose = {"patient": params["patient"], "day_pulses": 600, "week_pulses": 1800,
                "since_last_s": 5400.0}  # fmt: skip
        return self.ledger | {"dose": dose}

    def _close(self, state: str) -> None:
        session, device = self.status["session"], self.status["device"]
        session["state"] = state
        self.status["guard"]["state"] = device["state"] = "idle"
        self.record |= {"state": state, "delivered": session["delivered"], "end_code": state}
        self.record["device"]["count_after"] = device["pulse_count"]
        self._tell("session", state, f"Session 1 is {state}.")

    def _tell(self, kind: str, code: str, detail: str) -> None:
        event = {
            "time": STATUS["time"], "kind": kind, "code": code, "detail": detail, "session": 1
        }  # fmt: skip
        self._notify("event", event)

    def _notify(self, method: str, params: Json) -> None:
        message = {"jsonrpc": "2.0", "method": method, "params": params}
        for line in list(self._subscribed):
            self._send(line, message)

    def _send(self, line: socket.socket, message: Json) -> None:
        try:
            line.sendall(json.dumps(message).encode() + b"\n")
        except OSError:
            self._drop(line)


def _record() -> Json:
    return {
        "id": 1, "patient": "P001", "operator": "AB", "protocol": "ctbs600",
        "protocol_hash": "cd" * 32, "plan_hash": "ab" * 32, "mt": 50.0, "pct_mt": 80, "mso": 40,
        "reduced": False, "planned": 600, "delivered": 0, "skipped": 0, "unknown": 0,
        "state": "running", "started_at": "2030-01-02T03:04:05.000000Z",
        "ended_at": "2030-01-02T03:04:45.000000Z", "end_code": None,
        "device": {"model": "TMSLINK-1", "serial": "TR000001", "boot_count": 1,
                   "count_before": 1000, "count_after": None},
        "temperature_max_c": 31.5, "blocks": [], "mt_method": "visual", "reason": "",
        "resolved": 0, "self_test": None,
        "events": [{"time": "2030-01-02T03:04:05.000000Z", "kind": "session", "code": "started",
                    "detail": "Session 1 was started.", "session": 1}],
        "journal": "/var/lib/tmsctl/journal.sqlite",
    }  # fmt: skip


def main() -> None:
    """Serve the folder in the first argument; 40 s for a session, until the input ends."""
    runtime = Path(sys.argv[1])
    with FakeTmsd(runtime) as tmsd:
        tmsd.pulses_per_push = 1
        print("ready", flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
