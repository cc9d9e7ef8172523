"""Confirmation, presence, self-test and ledger over the API; and two clients at once."""

from __future__ import annotations

import re
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.fakes.tmsd_place import ORDER, REASON, Place, until
from tmsctl.ipc import messages as ipc
from tmsctl.safety.limits import ROWS


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    place = Place(tmp_path)
    place.run()
    yield place
    place.close()


def test_what_is_shown_says_where_each_figure_is_from_and_what_needs_a_reason(
    place: Place,
) -> None:
    client = place.client()
    shown = client.call("session.prepare", **ORDER)
    assert set(shown) == {
        "plan_hash", "confirmation", "confirmation_s", "sentence", "mso", "pulses", "trains",
        "duration_s", "warnings", "checks", "needs_reason",
    }  # fmt: skip
    assert set(shown["checks"][0]) == {
        "code", "ok", "soft", "verified", "source", "detail", "next",
    }  # fmt: skip
    assert shown["needs_reason"] == ["not-reviewed"]
    assert shown["confirmation_s"] == 120.0
    by_eye = client.call("session.prepare", **{**ORDER, "mt_method": "visual"})
    silent = client.call("session.prepare", **{k: v for k, v in ORDER.items() if k != "mt_method"})
    assert by_eye["checks"] == silent["checks"]  # what is not said is the stricter reading
    assert by_eye["checks"] != shown["checks"]
    wrong = client.answer(client.ask("session.prepare", **{**ORDER, "mt_method": "guess"}))
    assert wrong["error"]["message"] == "mt_method is 'guess'; allowed is 'emg' or 'visual'."


def test_the_way_of_a_day_begins_with_the_clock_and_the_self_test(place: Place) -> None:
    client = place.client()
    shown = client.call("session.prepare", **ORDER)
    start = {**ORDER, "reason": REASON}
    start |= {name: shown[name] for name in ("plan_hash", "confirmation")}
    assert client.refusal("session.start", **start) == ("clock-unconfirmed", 16)
    ledger = client.call("ledger.list")
    assert (ledger["clock"]["confirmed"], ledger["clock"]["confirmed_by"]) == (False, None)
    wrong = {"operator": "op", "time": "2001-01-01T00:00:00Z"}
    assert client.refusal("ledger.confirm_clock", **wrong) == ("time-wrong", 1)
    clock = client.call("ledger.confirm_clock", operator="op", time=ledger["clock"]["time"])
    assert (clock["confirmed"], clock["why"], clock["confirmed_by"]) == (True, "", "op")
    assert client.refusal("session.start", **start) == ("self-test-missing", 16)
    result = client.call("selftest.run")
    assert result == {
        "passed": True, "dead_man": True, "stop": True, "bad_frame": True, "ledger": True,
        "detail": "dead-man within 50 ms",
    }  # fmt: skip
    without = {**start, "reason": None}
    assert client.refusal("session.start", **without) == ("soft-limit", 16)
    other = {**start, "mt": 50.1}
    assert client.call("session.start", **start) == {"session": 1}
    client.until_session("complete")
    assert client.refusal("session.start", **other)[0] == "confirmation-used"
    record = client.call("session.show")
    assert (record["reason"], record["soft_limits"]) == (REASON, ["not-reviewed"])
    assert record["self_test"]["detail"] == "dead-man within 50 ms"
    assert record["mt_method"] == "emg"
    dose = client.call("ledger.list", patient="P1")["dose"]
    assert (dose["day_pulses"], dose["week_pulses"]) == (600, 600)
    assert dose["since_last_s"] >= 0
    assert REASON not in place.log.read_text()  # what a person writes is in no log


def test_an_edit_after_it_was_shown_is_refused_over_the_api(place: Place) -> None:
    client = place.client()
    client.self_test()
    start = client.prepare()
    assert client.refusal("session.start", **{**start, "mt": 50.1}) == ("confirmation-changed", 16)
    assert client.refusal("session.start", **start) == ("confirmation-used", 1)
    assert client.call("session.list")["sessions"] == []


def test_a_proof_that_fails_is_told_and_kept(place: Place) -> None:
    client = place.client()
    place.guard.proofs = (1, 0, 1)
    result = client.call("selftest.run")
    assert (result["passed"], result["stop"], result["ledger"]) == (False, False, True)
    assert client.status()["self_test"]["state"] == "failed"
    with closing(sqlite3.connect(place.journal)) as journal:
        rows = journal.execute("SELECT dead_man, stop, bad_frame FROM self_tests").fetchall()
    assert rows == [(1, 0, 1)]
    place.guard.refuse[ipc.SelfTest] = ("no-device", "no stimulator has answered yet")
    assert client.refusal("selftest.run")[0] == "no-device"


def test_every_rule_is_told_with_its_limit_and_where_it_is_from(place: Place) -> None:
    client = place.client()
    rules = {rule["code"]: rule for rule in client.call("interlocks.list")["interlocks"]}
    row = ROWS["presence_age_max_us"]
    assert rules["presence-lost"] == {
        "code": "presence-lost", "table": "watch", "value": None, "limit": 60_000_000,
        "limit_name": row.name, "unit": row.unit, "verified": row.verified, "source": row.source,
        "says": "nobody was there",
    }  # fmt: skip
    real, place.guard.hear = place.guard.hear, lambda item: []
    assert client.refusal("interlocks.list") == ("guard-silent", 2)
    place.guard.hear = real
    assert client.call("interlocks.list")["interlocks"]


def test_only_the_station_shows_to_be_there(place: Place) -> None:
    station, watcher = place.client(), place.client()
    assert station.refusal("session.present") == ("no-session", 1)
    station.start()
    assert watcher.refusal("session.present") == ("not-station", 1)
    assert station.call("session.present") == {}
    until(lambda: station.status()["session"]["presence_s"] is not None, "presence is shown")


def test_a_block_that_nobody_knows_is_resolved_by_a_person_once(place: Place) -> None:
    client = place.client()
    number = client.start()
    until(lambda: place.guard.fired[number] > 5, "pulses")
    with place.server.lock:
        place.guard.outcome = 2
        place.server.say(place.guard.trip("stop", "STOP by pedal"))
        fired = place.guard.fired[number]
    client.until_session("stopped")
    until(lambda: client.call("ledger.list")["counter"]["shown"] == fired, "the counter")
    until(lambda: client.call("session.show")["blocks"][-1]["outcome"] == "unknown", "an outcome")
    ledger = client.call("ledger.list")
    [block] = ledger["unresolved"]
    done = sum(item["delivered"] for item in client.call("session.show")["blocks"])
    assert block["suggests"] == fired - done
    assert (block["pulses"], block["confirmed"], block["patient"]) == (30, 0, "P1")
    low = ledger["counter"]["low"]
    assert (ledger["counter"]["agrees"], ledger["counter"]["high"] - low) == (True, 30)
    word = {
        "session": number, "block": block["block"], "delivered": block["suggests"],
        "operator": "dr", "reason": "the counter says so",
    }  # fmt: skip
    assert client.refusal("ledger.resolve", **{**word, "delivered": 31})[0] == "delivered-range"
    assert client.call("ledger.resolve", **word) == {}
    assert client.refusal("ledger.resolve", **word) == ("block-resolved", 1)
    assert client.call("ledger.list", patient="P1")["dose"]["day_pulses"] == fired
    record = client.call("session.show")
    assert record["delivered"] + record["resolved"] == fired
    assert record["unknown"] == 0
    assert record["blocks"][-1]["resolution"]["operator"] == "dr"


def test_a_pulse_by_hand_is_accepted_by_a_person(place: Place) -> None:
    client = place.client()
    client.start()
    client.until_session("complete")
    with place.server.lock:
        place.guard.fired[0] += 1
    until(lambda: not client.call("ledger.list")["counter"]["agrees"], "the counter disagrees")
    start = client.prepare(patient="P2")
    assert client.refusal("session.start", **start) == ("counter-disagrees", 16)
    word = {"operator": "dr", "reason": "a pulse by hand"}
    assert client.refusal("ledger.accept_counter", serial="X", **word) == ("serial-wrong", 1)
    counter = client.call("ledger.accept_counter", serial="F0000001", **word)
    assert counter == {
        "serial": "F0000001", "boot_count": 1, "shown": 601, "low": 601, "high": 601,
        "agrees": True,
    }  # fmt: skip
    assert client.call("session.start", **start) == {"session": 2}


def test_a_stop_that_is_faster_than_a_start_is_told_to_both(place: Place) -> None:
    """The guard hears the start and the stop, but has not shown that it runs."""
    starter, stopper = place.client(), place.client()
    starter.self_test()
    start = starter.prepare()
    real, place.guard.hear = place.guard.hear, lambda item: []
    asked = starter.ask("session.start", **start)
    until(lambda: (stopper.status()["session"] or {}).get("state") == "starting", "it starts")
    assert stopper.call("session.stop") == {"session": 1, "state": "stopped"}
    error = starter.answer(asked)["error"]
    assert error["data"]["code"] == "session-ended"
    assert "A person stopped the session" in error["message"]
    place.guard.hear = real
    assert stopper.refusal("session.stop") == ("no-session", 1)
    assert place.guard.fired.total() == 0


def test_of_two_who_resume_at_once_one_owns_the_session(place: Place) -> None:
    station, first, second = place.client(), place.client(), place.client()
    number = station.start()
    station.close()
    first.until_session("paused")
    until(lambda: first.status()["guard"]["state"] == "idle", "the guard shows the pause")
    asked = [client.ask("session.resume") for client in (first, second)]
    answers = [client.answer(n) for client, n in zip((first, second), asked, strict=True)]
    [won] = [answer["result"] for answer in answers if "result" in answer]
    [lost] = [answer["error"]["data"]["code"] for answer in answers if "error" in answer]
    assert (won["session"], won["adopted"]) == (number, True)
    assert lost == "wrong-state"
    owner = first if "result" in answers[0] else second
    other = second if owner is first else first
    assert owner.call("session.present") == {}
    assert other.refusal("session.present") == ("not-station", 1)


def test_a_tmsd_that_was_started_again_still_knows_the_clock_and_the_self_test(
    place: Place,
) -> None:
    client = place.client()
    client.self_test()
    client.prepare()
    place.processes[0].kill()
    place.processes[0].wait()
    client.close()
    place.clients.clear()
    place.run()
    again = place.client()
    again.call("guard.acknowledge")
    assert again.status()["clock_confirmed"] is True
    assert again.call("session.start", **again.prepare()) == {"session": 1}


def test_the_program_on_the_page_runs_a_session(place: Place, tmp_path: Path) -> None:
    place.client()  # waits until the guard is seen
    page = Path(__file__).parents[2] / "docs" / "api.md"
    [code] = re.findall(r"^```python\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)
    (tmp_path / "program.py").write_text(code)
    words = [sys.executable, str(tmp_path / "program.py"), str(place.runtime)]
    ended = subprocess.run(words, capture_output=True, timeout=50, check=False)
    assert ended.returncode == 0, ended.stderr.decode()
    assert ended.stdout.decode().splitlines()[-1] == "600"
    assert place.guard.fired.total() == 600
