"""Sessions and states through the commands of tmsctl."""

from __future__ import annotations

import json
import os
import signal
import threading
from pathlib import Path
from subprocess import PIPE
from typing import Any

import pytest

from tests.fakes.cli import DEADLINE_S, START, spawn, until
from tests.fakes.tmsd import FakeTmsd
from tmsctl.cli import follow
from tmsctl.cli.client import Client


def test_a_session_runs_from_summary_to_record(tmsd: FakeTmsd, tmsctl: Any) -> None:
    tmsd.pulses_per_push = 200
    tmsd.prepared["warnings"] = ["It says so under [exceeds]."]  # brackets are no markup
    status, out, _ = tmsctl(*START, "--yes")
    assert status == 0
    for part in (
        "600 pulses.",
        "under [exceeds].",
        "✓ ok",
        "RUNNING",
        "DONE",
        "600 delivered of 600",
        "1000 -> 1600",
    ):
        assert part in out
    (start,) = tmsd.called("session.start")
    assert start == {
        "patient": "P001", "operator": "AB", "protocol": "ctbs600", "mt": 50.0, "pct_mt": None,
        "reduced": False, "plan_hash": tmsd.prepared["plan_hash"], "confirmation": "token-1",
        "mt_method": "visual", "reason": None,
    }  # fmt: skip


def test_with_json_a_session_is_one_object_a_line(tmsd: FakeTmsd, tmsctl: Any) -> None:
    tmsd.pulses_per_push = 600
    status, out, _ = tmsctl(*START, "--yes", "--json", "--pct-mt", "90", "--reduced")
    kinds = [next(iter(json.loads(line))) for line in out.splitlines()]
    assert status == 0
    assert (kinds[0], kinds[-1]) == ("prepared", "record")
    assert set(kinds[1:-1]) == {"event"}
    (start,) = tmsd.called("session.start")
    assert (start["pct_mt"], start["reduced"]) == (90, True)


def test_without_a_terminal_and_without_yes_nothing_is_started(tmsd: FakeTmsd, tmsctl: Any) -> None:
    status, out, err = tmsctl(*START)
    assert status == 1
    assert "600 pulses." in out
    assert "repeat the command with --yes. [no-confirmation]" in err
    assert tmsd.called("session.start") == []


def test_a_failed_check_is_marked_and_nothing_is_started(tmsd: FakeTmsd, tmsctl: Any) -> None:
    tmsd.prepared["checks"][1] |= {"ok": False, "detail": "3600 pulses, at most 3000"}
    status, out, err = tmsctl(*START, "--yes")
    assert status == 16
    code = tmsd.prepared["checks"][1]["code"]
    assert f"cannot start, {code}: 3600 pulses, at most 3000." in err
    assert "✗ NO" in out
    assert tmsd.called("session.start") == []


SOFT = {"ok": False, "soft": True, "detail": "7200 s, at least 14400 without a second confirmation"}


def test_an_exceeded_soft_limit_needs_a_reason(tmsd: FakeTmsd, tmsctl: Any) -> None:
    tmsd.prepared["checks"][1] |= SOFT
    tmsd.prepared["needs_reason"] = ["session-gap"]
    status, out, err = tmsctl(*START, "--yes")
    assert status == 16
    assert "! SOFT" in out
    assert "exceeds soft limits (session-gap)" in err
    assert err.endswith("--reason TEXT. [soft-limit]\n")
    assert tmsd.called("session.start") == []


def test_what_is_exceeded_stands_last_next_to_the_question(tmsd: FakeTmsd, tmsctl: Any) -> None:
    fine = tmsd.prepared["checks"][1]
    tmsd.prepared["checks"] = [
        fine | {"code": "hard", "ok": False},
        fine | {"code": "a"},
        fine | SOFT | {"code": "soft"},
        fine | {"code": "b"},
    ]
    out = tmsctl(*START)[1]
    marks = [line.split()[:3] for line in out.splitlines() if line[:2] in (" ✓", " !", " ✗")]
    assert marks == [["✓", "ok", "a"], ["✓", "ok", "b"], ["!", "SOFT", "soft"], ["✗", "NO", "hard"]]


def test_a_reason_goes_with_the_start(tmsd: FakeTmsd, tmsctl: Any) -> None:
    tmsd.pulses_per_push = 600
    tmsd.prepared["checks"][1] |= SOFT
    tmsd.prepared["needs_reason"] = ["session-gap"]
    assert tmsctl(*START, "--yes", "--reason", "Prescribed so.", "--mt-method", "emg")[0] == 0
    (start,) = tmsd.called("session.start")
    assert (start["reason"], start["mt_method"]) == ("Prescribed so.", "emg")


def test_a_reason_is_not_enough_for_a_hard_limit(tmsd: FakeTmsd, tmsctl: Any) -> None:
    tmsd.prepared["checks"][1] |= {"ok": False, "next": "Wait a day."}
    status, _, err = tmsctl(*START, "--yes", "--reason", "Prescribed so.")
    assert status == 16
    assert "Wait a day. [session-pulses]" in err
    assert tmsd.called("session.start") == []


def test_a_limit_that_nobody_has_verified_says_so(tmsd: FakeTmsd, tmsctl: Any) -> None:
    out = tmsctl(*START)[1]
    verified, not_verified = (line for line in out.splitlines() if "✓ ok" in line)
    assert "unverified" not in verified
    assert "unverified" in not_verified
    assert "unverified: nobody has compared this limit with its source yet." in out
    tmsd.prepared["checks"][1]["verified"] = True
    assert "unverified" not in tmsctl(*START)[1]


def test_a_line_on_standard_input_is_a_sign_of_presence(tmsd: FakeTmsd, runtime: Path) -> None:
    with spawn(runtime, *START, "--yes", "--json", stdin=PIPE) as station:
        assert station.stdin is not None
        until(lambda: tmsd.called("session.start"))
        station.stdin.write("here\n")
        station.stdin.flush()
        until(lambda: tmsd.called("session.present"))
        tmsd.pulses_per_push = 600
        station.stdin.close()
        assert station.wait(DEADLINE_S) == 0
    assert tmsd.called("session.present") == [{}]


def test_a_program_is_told_when_a_sign_is_due(tmsd: FakeTmsd, tmsctl: Any) -> None:
    tmsd.pulses_per_push = 60
    tmsd.presence_s = 45.0
    out = tmsctl(*START, "--yes", "--json")[1]
    told = [json.loads(line)["presence"] for line in out.splitlines() if "presence" in line[:12]]
    assert len(told) == 1
    assert 14.0 <= told[0]["left_s"] <= 15.0


def test_a_motor_threshold_that_is_no_number_is_refused(tmsd: FakeTmsd, tmsctl: Any) -> None:
    status, _, err = tmsctl(*START, "--yes", "--mt", "nan")
    assert status == 1
    assert "[mt-not-a-number]" in err
    assert tmsd.calls == []


def test_a_trip_ends_the_view_with_its_cause_and_exit_status_8(tmsd: FakeTmsd, tmsctl: Any) -> None:

    def trip() -> None:
        until(lambda: tmsd.called("session.start"))
        tmsd.trip("coil-hot", "hot")

    tripping = threading.Thread(target=trip)
    tripping.start()
    status, out, _ = tmsctl(*START, "--yes")
    tripping.join()
    assert status == 8
    assert "coil-hot: hot" in out
    assert "tmsctl acknowledge, then tmsctl session resume" in out


def test_ctrl_c_is_stop(tmsd: FakeTmsd, runtime: Path) -> None:
    with spawn(runtime, *START, "--yes") as station:
        assert station.stdout is not None
        seen = iter(station.stdout.readline, "")
        assert any("RUNNING" in line for line in seen)
        station.send_signal(signal.SIGINT)
        out = "".join(seen)
        assert station.wait(DEADLINE_S) == 8
    assert tmsd.stops == [f"STOP cli ctrl-c uid={os.getuid()}".encode()]
    assert "STOP sent\nguard accepted\ndevice confirms: disarmed\n" in out


def test_ctrl_c_with_nobody_behind_it_names_the_hardware_stop(
    tmsd: FakeTmsd, runtime: Path
) -> None:
    with spawn(runtime, *START, "--yes") as station:
        assert station.stdout is not None
        seen = iter(station.stdout.readline, "")
        assert any("RUNNING" in line for line in seen)
        (runtime / "stop.sock").unlink()
        station.send_signal(signal.SIGINT)
        out = "".join(seen)
        assert station.wait(DEADLINE_S) == 2
    assert "USE THE HARDWARE STOP: no guard listens" in out
    assert len(tmsd.called("session.pause")) == 1


def test_resume_returns_when_the_station_is_alive(
    tmsd: FakeTmsd, tmsctl: Any, runtime: Path
) -> None:
    with Client(runtime) as client:
        client.call("session.start")
        client.call("session.pause")
    status, out, _ = tmsctl("session", "resume")
    assert (status, out) == (0, "Session 1 is running.\n")


def test_resume_becomes_the_station_when_the_old_one_is_gone(
    tmsd: FakeTmsd, tmsctl: Any, runtime: Path
) -> None:
    with Client(runtime) as client:
        client.call("session.start")
        client.call("session.pause")
    tmsd.station_gone = True
    tmsd.pulses_per_push = 300
    status, out, _ = tmsctl("session", "resume")
    assert status == 0
    assert "600 delivered of 600" in out


@pytest.mark.parametrize(
    ("line", "method", "words"),
    [
        ("session pause", "session.pause", "Session 1 is paused."),
        ("session stop", "session.stop", "Session 1 is stopped."),
        ("acknowledge", "guard.acknowledge", "The guard is idle."),
    ],
)
def test_a_change_is_one_call_and_one_line(
    tmsd: FakeTmsd, tmsctl: Any, runtime: Path, line: str, method: str, words: str
) -> None:
    with Client(runtime) as client:
        client.call("session.start")
        assert tmsctl(*line.split())[:2] == (0, f"{words}\n")
    assert len(tmsd.called(method)) == 1


def test_show_and_list_read_the_record(tmsd: FakeTmsd, tmsctl: Any) -> None:
    assert "0 delivered of 600" in tmsctl("session", "show")[1]
    assert json.loads(tmsctl("session", "show", "1", "--json")[1]) == tmsd.record
    assert tmsd.called("session.show") == [{"session": None}, {"session": 1}]
    assert "0/600" in tmsctl("session", "list")[1]
    assert json.loads(tmsctl("session", "list", "--json")[1]) == {"sessions": [tmsd.record]}


def test_a_record_says_what_a_person_decided(tmsd: FakeTmsd, tmsctl: Any) -> None:
    out = tmsctl("session", "show")[1]
    assert "(by eye)" in out
    assert "reason" not in out
    assert "by a person" not in out
    tmsd.record |= {"mt_method": "emg", "reason": "order 12", "resolved": 4}
    out = tmsctl("session", "show")[1]
    for part in ("(by EMG)", "order 12 (soft limits were exceeded)", "4 counted by a person"):
        assert part in out


def test_status_is_text_for_people_and_json_for_programs(tmsd: FakeTmsd, tmsctl: Any) -> None:
    status, out, _ = tmsctl("status")
    assert status == 0
    assert "READY: " in out
    assert json.loads(tmsctl("status", "--json")[1]) == tmsd.status
    tmsd.trip("coil-hot", "hot")
    assert tmsctl("status")[0] == 8


def test_watching_goes_on_until_ctrl_c_and_stops_nothing(tmsd: FakeTmsd, runtime: Path) -> None:
    with spawn(runtime, "status", "--watch", "--json") as watcher:
        assert watcher.stdout is not None
        assert json.loads(watcher.stdout.readline())["status"]["guard"]["state"] == "idle"
        watcher.send_signal(signal.SIGINT)
        watcher.stdout.read()
        assert watcher.wait(DEADLINE_S) == 0
    assert tmsd.stops == []


def test_the_view_gives_up_when_nothing_comes_any_more(
    tmsd: FakeTmsd, tmsctl: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    tmsd.pushing = False
    monkeypatch.setattr(follow, "SILENT_MAX_S", 0.3)
    status, _, err = tmsctl("status", "--watch")
    assert status == 2
    assert "[tmsd-silent]" in err
