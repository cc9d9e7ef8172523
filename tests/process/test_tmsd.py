"""tmsd as a process: its API, its supervision, and its death at any instant."""

from __future__ import annotations

import contextlib
import json
import random
import resource
import select
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.tmsd_place import DEADLINE_S, ORDER, Client, Place, until
from tmsctl.ipc import messages as ipc
from tmsctl.records.journal import Journal
from tmsctl.service.guard_process import GuardProcess
from tmsctl.service.rpc import Connection


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    place = Place(tmp_path)
    yield place
    place.close()


@pytest.fixture
def tmsd(place: Place) -> Place:
    place.run()
    return place


def test_a_session_runs_to_its_end_over_the_api(tmsd: Place) -> None:
    client = tmsd.client()
    client.call("status.subscribe")
    number = client.start()
    assert number == 1
    client.until_session("complete")
    record = client.call("session.show", session=None)
    assert record["planned"] == record["delivered"] == tmsd.guard.fired[1] == 600
    assert (record["state"], record["unknown"], record["mt"]) == ("complete", 0, 50.0)
    assert record["device"]["count_after"] == 600
    assert len(record["blocks"]) == 20
    assert record["events"][0]["code"] == "started"
    assert client.call("session.list")["sessions"][0]["id"] == 1
    events = [note["params"]["code"] for note in client.notes if note["method"] == "event"]
    assert "complete" in events
    assert "P1" not in tmsd.log.read_text()  # no patient in any log


def test_status_has_exactly_the_agreed_names(tmsd: Place) -> None:
    client = tmsd.client()
    client.start()
    status = client.status()
    names = {key: set(value) for key, value in status.items() if isinstance(value, dict)}
    assert set(status) == {*names, "time", "journal_error", "clock_confirmed"}
    assert names == {
        "guard": {"state", "cycle", "overruns", "late_max_us", "timing", "causes"},
        "device": {"connected", "link", "model", "serial", "state", "status_age_ms",
                   "pulse_count", "charge_pct"},
        "coil": {"temperature_c", "winding_c"},
        "intensity": {"planned_mso", "realised_mso"},
        "session": {"id", "patient", "operator", "protocol", "state", "planned", "delivered",
                    "skipped", "unknown", "train", "trains", "waiting", "next_train_s", "left_s",
                    "elapsed_s", "presence_s"},
        "self_test": {"state", "age_s"},
    }  # fmt: skip
    info = client.call("system.info")
    assert set(info) == {"version", "pid", "config", "guard_pid", "timing", "journal"}
    assert info["guard_pid"] == 7


def test_subscribers_get_status_and_others_do_not(tmsd: Place) -> None:
    quiet, client = tmsd.client(), tmsd.client()
    client.call("status.subscribe")
    notes = [client.receive() for _ in range(40)]
    assert {note["method"] for note in notes} == {"status"}
    assert set(notes[0]["params"]) == set(quiet.status())
    assert quiet.notes == []


HEAD = b'{"jsonrpc":"2.0","id":1,"method":'


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (b"garbage", -32700),
        (b"\xff\xfe", -32700),
        (b"", -32700),
        (HEAD + b'"status.get"', -32700),
        (b'{"jsonrpc":"2.0","id":1,"id":2,"method":"status.get"}', -32700),
        (HEAD + b'"session.prepare","params":{"mt":NaN}}', -32700),
        (HEAD + b'"session.prepare","params":{"mt":1e999}}', -32700),
        (HEAD + b'"status.get","params":{"a":' + b"[" * 8 + b"]" * 8 + b"}}", -32700),
        (b"[" * 60_000, -32700),
        (b"1" * 60_000, -32700),
        (b"[]", -32600),
        (b"3", -32600),
        (b'{"id":1,"method":"status.get"}', -32600),
        (b'{"jsonrpc":"2.0","id":true,"method":"status.get"}', -32600),
        (b'{"jsonrpc":"2.0","id":1}', -32600),
        (HEAD + b'"status.get","extra":1}', -32600),
        (HEAD + b'"status.gets"}', -32601),
        (HEAD + b'"status.get","params":[]}', -32602),
        (HEAD + b'"status.get","params":{"x":1}}', -32602),
        (HEAD + b'"session.list","params":{"limit":0}}', -32602),
        (HEAD + b'"session.list","params":{"limit":true}}', -32602),
    ],
    ids=lambda value: str(value)[:60],
)
def test_a_wrong_message_gets_its_error_and_the_connection_goes_on(
    one_tmsd: Place, line: bytes, code: int
) -> None:
    client = Client(one_tmsd.runtime)
    client.send(line + b"\n")
    error = client.receive()["error"]
    assert error["code"] == code
    assert error["data"]["exit"] == 1
    assert client.status()["journal_error"] == ""
    client.close()


@pytest.fixture(scope="module")
def one_tmsd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """For tests that leave nothing behind."""
    place = Place(tmp_path_factory.mktemp("tmsd"))
    place.run()
    place.client()
    yield place
    place.close()


def test_what_is_wrong_with_parameters_is_said_in_words(one_tmsd: Place) -> None:
    client = Client(one_tmsd.runtime)
    answer = client.answer(client.ask("session.prepare", **{**ORDER, "pct_mt": "80"}))
    assert answer["error"]["message"] == "pct_mt is '80'; allowed is a whole number."
    client.close()


def test_batches_and_notifications_follow_the_standard(one_tmsd: Place) -> None:
    client = Client(one_tmsd.runtime)
    note = {"jsonrpc": "2.0", "method": "status.get"}
    batch = [note | {"id": "a"}, note, 7, note | {"id": None, "method": "no"}]
    client.send(json.dumps(note).encode() + b"\n" + json.dumps(batch).encode() + b"\n")
    answers = client.receive()
    assert [answer["id"] for answer in answers] == ["a", None, None]
    assert [answer.get("error", {}).get("code") for answer in answers] == [None, -32600, -32601]
    client.close()


@pytest.mark.parametrize(("size", "closes"), [(65_536, False), (65_537, True)])
def test_a_message_may_have_64_kib_and_not_a_byte_more(
    one_tmsd: Place, size: int, closes: bool
) -> None:
    client = Client(one_tmsd.runtime)
    start = HEAD + b'"none","params":{"x":"'
    client.send(start + b"x" * (size - len(start) - 3) + b'"}}' + b"\n")
    assert client.receive()["error"]["code"] == (-32600 if closes else -32601)
    if closes:
        with pytest.raises(ConnectionError):
            client.receive()
    client.close()


def test_the_33rd_connection_is_turned_away_and_a_free_place_is_given_again(tmsd: Place) -> None:
    tmsd.client()
    tmsd.clients += [Client(tmsd.runtime) for _ in range(32 - len(tmsd.clients))]
    assert all(client.status() for client in tmsd.clients)
    extra = Client(tmsd.runtime)
    assert extra.receive()["error"]["data"]["code"] == "connections-max"
    extra.close()
    tmsd.clients.pop().close()
    tmsd.client()


def test_the_socket_is_for_owner_and_group(one_tmsd: Place) -> None:
    assert (one_tmsd.runtime / "tmsd.sock").stat().st_mode & 0o777 == 0o660


def test_a_second_tmsd_is_refused_and_a_dead_ones_socket_is_replaced(tmsd: Place) -> None:
    tmsd.client()
    words = ["-m", "tmsctl.service.entry", "--config", str(tmsd.config)]
    second = subprocess.run([sys.executable, *words], capture_output=True, check=False)
    assert second.returncode == 1
    [sentence] = second.stderr.decode().splitlines()
    assert f"Another tmsd (process {tmsd.processes[0].pid}) uses" in sentence
    assert tmsd.clients[0].status()
    tmsd.processes[0].kill()
    tmsd.processes[0].wait()
    assert (tmsd.runtime / "tmsd.sock").exists()
    tmsd.run()
    assert tmsd.client().status()


@pytest.mark.parametrize("what", ["config", "journal"])
def test_what_keeps_tmsd_from_starting_is_one_sentence_and_status_1(
    tmp_path: Path, what: str
) -> None:
    place = Place(tmp_path)
    if what == "config":
        place.config.write_text(place.config.read_text() + "speed = 3\n")
    else:
        place.journal.parent.mkdir()
        with contextlib.closing(sqlite3.connect(place.journal)) as connection:
            connection.execute("PRAGMA user_version = 99")
    words = ["-m", "tmsctl.service.entry", "--config", str(place.config)]
    ended = subprocess.run([sys.executable, *words], capture_output=True, check=False)
    place.close()
    assert ended.returncode == 1
    [sentence] = ended.stderr.decode().splitlines()
    assert ("guard.speed is not known" in sentence) == (what == "config")
    assert ("version 99" in sentence) == (what == "journal")


def test_ready_is_told_to_the_service_manager_and_then_signs_of_life(
    place: Place, tmp_path: Path
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.settimeout(DEADLINE_S)
        manager.bind(str(tmp_path / "notify"))
        place.run_with(NOTIFY_SOCKET=str(tmp_path / "notify"))
        words = [manager.recv(64), manager.recv(64), manager.recv(64)]
    assert words == [b"READY=1", b"WATCHDOG=1", b"WATCHDOG=1"]
    assert [line["event"] for line in place.logged()].count("ready") == 1


def test_of_two_who_start_at_once_one_wins(tmsd: Place) -> None:
    clients = [tmsd.client(), tmsd.client()]
    clients[0].self_test()
    starts = [client.prepare(patient=f"P{n}") for n, client in enumerate(clients)]
    asked = zip(clients, starts, strict=True)
    numbers = [client.ask("session.start", **params) for client, params in asked]
    answers = [client.answer(n) for client, n in zip(clients, numbers, strict=True)]
    [won] = [answer for answer in answers if "result" in answer]
    [lost] = [answer for answer in answers if "error" in answer]
    assert won["result"] == {"session": 1}
    assert lost["error"]["data"]["code"] == "session-open"


def test_a_station_that_goes_pauses_and_whoever_resumes_is_the_next(tmsd: Place) -> None:
    watcher, station = tmsd.client(), Client(tmsd.runtime)
    number = station.start()
    watcher.until_session("running")
    station.close()
    watcher.until_session("paused")
    until(lambda: watcher.status()["guard"]["state"] == "idle", "the guard shows the pause")
    fired = tmsd.guard.fired[number]
    resumed = watcher.call("session.resume")
    assert (resumed["session"], resumed["adopted"]) == (number, True)
    watcher.until_session("complete")
    assert tmsd.guard.fired[number] == 600
    assert fired < 600


def test_pause_is_confirmed_by_the_guard_and_stop_ends_in_good_order(tmsd: Place) -> None:
    client = tmsd.client()
    number = client.start()
    assert client.call("session.pause") == {"session": number, "state": "paused"}
    with tmsd.server.lock:
        fired = tmsd.guard.fired[number]
        assert tmsd.guard.snapshot().session == ipc.Session.LOADED
    assert client.call("session.stop") == {"session": number, "state": "stopped"}
    assert tmsd.guard.fired[number] == fired
    until(lambda: client.status()["guard"]["state"] == "idle", "the guard is idle")
    assert not tmsd.server.stops  # STOP is for persons: it latches
    assert client.start("P2") == number + 1


def test_what_the_guard_refuses_reaches_whoever_asked(tmsd: Place) -> None:
    client = tmsd.client()
    tmsd.guard.refuse[ipc.Run] = ("rate-60s", "601 pulses in 60 s, at most 600 allowed.")
    client.self_test()
    assert client.refusal("session.start", **client.prepare()) == ("rate-60s", 16)
    record = client.call("session.show")
    assert (record["state"], record["end_code"]) == ("stopped", "rate-60s")


def test_a_guard_that_does_not_answer_a_start_ends_the_session(tmsd: Place) -> None:
    client = tmsd.client()
    client.self_test()
    start = client.prepare()
    real, tmsd.guard.hear = tmsd.guard.hear, lambda item: []
    assert client.refusal("session.start", **start) == ("guard-silent", 2)
    tmsd.guard.hear = real
    assert client.call("session.show")["end_code"] == "guard-silent"


def test_a_lost_guard_interrupts_the_session_and_the_next_guard_is_taken(tmsd: Place) -> None:
    client = tmsd.client()
    number = client.start()
    client.until_session("running")
    until(lambda: tmsd.guard.fired[number] > 5, "pulses")
    fired = tmsd.guard.fired
    tmsd.new_guard(pid=8, same_device=True)
    client.until_session("interrupted")
    until(lambda: client.call("system.info")["guard_pid"] == 8, "the next guard")
    record = client.call("session.show")
    assert record["end_code"] == "guard-lost"
    assert record["delivered"] + record["unknown"] >= fired[number]
    start = client.prepare(patient="P2")
    assert client.refusal("session.start", **start) == ("self-test-missing", 16)
    assert client.start("P2") == number + 1


def test_sigterm_ends_the_session_makes_the_guard_unload_and_keeps_the_dose(tmsd: Place) -> None:
    client = tmsd.client()
    number = client.start()
    until(lambda: tmsd.guard.fired[number] > 5, "pulses")
    tmsd.processes[0].terminate()
    assert tmsd.processes[0].wait() == 0
    assert ipc.Unload() in tmsd.guard.heard
    assert not (tmsd.runtime / "tmsd.sock").exists()
    journal = Journal(tmsd.journal)
    assert journal.totals(number).delivered == tmsd.guard.fired[number]
    assert journal.totals(number).unknown == 0
    assert journal.unfinished() == []
    journal.close()


def test_a_full_disk_in_a_session_stops_it_and_is_said_everywhere(tmsd: Place) -> None:
    client = tmsd.client()
    number = client.start()
    until(lambda: tmsd.guard.fired[number] > 5, "pulses")
    size = tmsd.journal.with_name("journal.sqlite-wal").stat().st_size
    pid = tmsd.processes[0].pid
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, size))
    client.until_session("stopped")
    assert "cannot be written" in client.status()["journal_error"]
    with tmsd.server.lock:
        fired = tmsd.guard.fired[number]
        assert any(isinstance(item, ipc.Fail) for item in tmsd.guard.heard)
        assert tmsd.guard.state == ipc.GuardState.SAFE
        tmsd.guard.play()
        assert tmsd.guard.fired[number] == fired
    assert client.refusal("session.start", **client.prepare()) == ("journal-failed", 1)
    record = client.call("session.show")
    assert record["delivered"] + record["unknown"] >= fired
    assert any(line["event"] == "session.journal-failed" for line in tmsd.logged())


def test_a_flood_does_not_stop_the_ticks_of_others(
    tmsd: Place,
) -> None:
    client, hostile = tmsd.client(), Client(tmsd.runtime)
    deaf = Client(tmsd.runtime)
    deaf.line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    deaf.ask("status.subscribe")
    client.call("status.subscribe")
    hostile.line.setblocking(False)
    flood = HEAD + b'"status.get"}\n' + b"garbage\n" * 50
    ticks = 0
    while ticks < 60:
        ticks += client.receive()["method"] == "status"
        for _ in range(20):
            with contextlib.suppress(BlockingIOError, BrokenPipeError, ConnectionResetError):
                hostile.line.send(flood)
    hostile.close()
    number = client.start()
    client.until_session("complete")
    assert tmsd.guard.fired[number] == 600
    deaf.close()


def test_a_client_that_does_not_take_its_replies_is_dropped(tmsd: Place) -> None:
    deaf = tmsd.client()
    deaf.ask("status.subscribe")
    watcher = Client(tmsd.runtime)
    tmsd.clients.append(watcher)
    # Replies that are not read fill the line; the server then gives up on this client.
    deaf.line.setblocking(False)

    def gone() -> bool:
        try:
            deaf.line.send((HEAD + b'"session.list"}\n') * 100)
        except BlockingIOError:
            return False
        except OSError:
            return True
        return False

    until(gone, "the connection is closed")
    assert watcher.status()


class Unread:
    """A client's stream with this many bytes that it has not read."""

    def __init__(self, size: int) -> None:
        self.size, self.written, self.aborted = size, b"", False
        self.transport = self

    def get_write_buffer_size(self) -> int:
        return self.size

    def is_closing(self) -> bool:
        return self.aborted

    def write(self, data: bytes) -> None:
        self.written += data

    def abort(self) -> None:
        self.aborted = True


@pytest.mark.parametrize(("unread", "dropped"), [(262_144, False), (262_145, True)])
def test_a_subscriber_that_leaves_too_much_unread_is_dropped(unread: int, dropped: bool) -> None:
    stream = Unread(unread)
    Connection(stream).push(b"status\n")  # type: ignore[arg-type]
    assert (stream.aborted, stream.written) == (dropped, b"" if dropped else b"status\n")


KILLS = 25


@pytest.mark.timeout(240)
@pytest.mark.parametrize("seed", [1, 2])
def test_sigkill_at_any_instant_loses_no_delivered_pulse(place: Place, seed: int) -> None:
    chance = random.Random(seed)
    fired: dict[int, int] = {}
    same_guard: set[int] = set()  # sessions whose guard lived on to tell the outcome
    place.new_guard(pid=0, step_s=0.0005)
    for kill in range(KILLS):
        tmsd = place.run()
        client = place.client()
        client.call("guard.acknowledge")
        counter = client.call("ledger.list")["counter"]
        if not counter["agrees"]:  # a pulse whose intent is on disk, but not its guard's outcome
            client.call(
                "ledger.accept_counter", serial=counter["serial"], operator="op", reason="kill"
            )
        client.self_test()
        before = place.guard.fired.total()
        client.ask("session.start", **client.prepare(patient=f"P{kill}"))
        if chance.random() < 0.6:  # the others are killed on the way to the first pulse, or later
            until(lambda n=before: place.guard.fired.total() > n, "a pulse")
        select.select([], [], [], chance.random() * 0.06)
        tmsd.kill()
        tmsd.wait()
        until(lambda: place.server._client is None, "the guard has seen it")
        client.close()
        with place.server.lock:
            fired.update(place.guard.fired)
        _counts_cover(place.journal, fired)
        same_guard |= place.guard.fired.keys()
        if chance.random() < 0.3:  # the guard dies as well
            same_guard -= {outcome.session_no for outcome in place.guard.repeat()}
            place.new_guard(pid=kill + 1, step_s=0.0005)
    tmsd = place.run()
    place.client()
    until(lambda: not place.guard.repeat(), "every outcome is told")
    tmsd.kill()
    tmsd.wait()
    _counts_cover(place.journal, fired)
    journal = Journal(place.journal)
    for number in same_guard:
        totals = journal.totals(number)
        assert totals.delivered == fired[number]
        assert totals.unknown in (0, 30)  # the last intent, if its Grant died with tmsd
    journal.close()
    assert len(same_guard) > KILLS // 3  # most kills came after the first pulse


def _counts_cover(path: Path, fired: dict[int, int]) -> None:
    journal = Journal(path)
    for number, pulses in fired.items():
        assert journal.totals(number).counted >= pulses
    journal.close()


def test_a_guard_that_dies_is_started_again_three_times_and_then_stays_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "tms-guard"
    program.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/starts\nexit 3\n')
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    said: list[str] = []
    guard = GuardProcess(tmp_path / "c.toml", lambda code, _: said.append(code))

    def die_at(now_us: int) -> None:
        guard.ensure(now_us)
        if guard._child is not None:
            guard._child.wait()

    die_at(0)
    assert said == ["guard-started"]
    for restart in range(3):
        die_at(1_000_000 * restart + 1)  # sees the death
        assert said[-1] == "guard-ended"
        die_at(1_000_000 * restart + 500_000)  # too early by 1 us
        assert said[-1] == "guard-ended"
        die_at(1_000_000 * restart + 500_001)
        assert said[-1] == "guard-started"
    die_at(3_000_001)
    die_at(3_500_001)
    assert said[-1] == "guard-given-up"
    die_at(100_000_000)  # it stays down
    assert said.count("guard-started") == 4
    starts = (tmp_path / "starts").read_text().splitlines()
    assert starts == [f"--config {tmp_path}/c.toml --linger-s 30"] * 4


def test_a_guard_that_dies_rarely_is_always_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "tms-guard"
    program.write_text("#!/bin/sh\nexit 0\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    said: list[str] = []
    guard = GuardProcess(tmp_path / "c.toml", lambda code, _: said.append(code))
    for start in range(8):
        guard.ensure(start * 20_000_000)
        guard._child.wait()  # type: ignore[union-attr]
        guard.ensure(start * 20_000_000 + 1)
    assert said.count("guard-started") == 8
