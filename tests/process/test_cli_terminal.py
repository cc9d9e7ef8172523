"""tmsctl on a terminal: what it asks, what each key does, and how it leaves the terminal."""

from __future__ import annotations

import os
import termios
from pathlib import Path

import pytest

from tests.fakes.cli import DEADLINE_S, START, terminal, until
from tests.fakes.tmsd import FakeTmsd


def test_the_start_is_asked_for_and_the_view_is_drawn(tmsd: FakeTmsd, runtime: Path) -> None:
    tmsd.pulses_per_push = 20
    with terminal(runtime, *START) as station:
        station.until("600 pulses.", "[y/N]")
        assert tmsd.called("session.start") == []
        station.type("y\n")
        text = station.until("delivered of 600")
        assert station.process.wait(DEADLINE_S) == 0
    for part in ("RUNNING: ", "DONE: ", "Ctrl-C = STOP", "████"):
        assert part in text


@pytest.mark.parametrize("answer", ["n\n", "\n", "\x03"])
def test_anything_but_yes_starts_nothing(tmsd: FakeTmsd, runtime: Path, answer: str) -> None:
    with terminal(runtime, *START) as station:
        station.until("[y/N]")
        # Ctrl-C between the question and the wait for an answer is heard with the next key only.
        stat = Path(f"/proc/{station.process.pid}/stat")
        until(lambda: stat.read_text().rpartition(")")[2].split()[0] == "S")
        station.type(answer)
        station.until("[not-confirmed]")
        assert station.process.wait(DEADLINE_S) == 1
    assert tmsd.called("session.start") == []


def soft(tmsd: FakeTmsd) -> None:
    tmsd.prepared["checks"][1] |= {"ok": False, "soft": True}
    tmsd.prepared["needs_reason"] = ["session-gap"]
    tmsd.pulses_per_push = 200


def test_an_exceeded_soft_limit_is_a_second_question_with_a_reason(
    tmsd: FakeTmsd, runtime: Path
) -> None:
    soft(tmsd)
    with terminal(runtime, *START) as station:
        station.until("[y/N]")
        station.type("y\n")
        station.until("Soft limits are exceeded: session-gap.", "Reason:")
        assert tmsd.called("session.start") == []
        station.type("Two sessions a day, order 12.\n")
        assert station.process.wait(DEADLINE_S) == 0
    assert tmsd.called("session.start")[0]["reason"] == "Two sessions a day, order 12."


def test_no_reason_is_no_start(tmsd: FakeTmsd, runtime: Path) -> None:
    soft(tmsd)
    with terminal(runtime, *START) as station:
        station.until("[y/N]")
        station.type("y\n")
        station.until("Reason:")
        station.type("\n")
        station.until("no reason was given. [not-confirmed]")
        assert station.process.wait(DEADLINE_S) == 1
    assert tmsd.called("session.start") == []


@pytest.mark.parametrize(("answer", "starts"), [("y\n", 1), ("n\n", 0)])
def test_a_reason_given_before_is_still_confirmed(
    tmsd: FakeTmsd, runtime: Path, answer: str, starts: int
) -> None:
    soft(tmsd)
    with terminal(runtime, *START, "--reason", "order 12") as station:
        station.until("[y/N]")
        station.type("y\n")
        station.until("Exceed soft limits (session-gap), because: order 12?", "[y/N]")
        station.type(answer)
        assert station.process.wait(DEADLINE_S) == (0 if starts else 1)
    assert len(tmsd.called("session.start")) == starts


def test_any_key_is_a_sign_of_presence_and_the_bell_asks_for_it_once(
    tmsd: FakeTmsd, runtime: Path
) -> None:
    tmsd.presence_s = 45.0
    with terminal(runtime, *START, "--yes") as station:
        text = station.until("press a key within 15 s", "\x07", "press a key within", "Ctrl-C")
        assert text.count("\x07") == 1
        assert tmsd.called("session.present") == []
        station.type(" ")
        until(lambda: tmsd.called("session.present"))
        station.until("RUNNING: ")
        tmsd.pulses_per_push = 600
        assert station.process.wait(DEADLINE_S) == 0
    assert tmsd.called("session.present") == [{}]
    assert tmsd.stops == []


def test_ctrl_c_is_stop_and_ctrl_z_does_not_take_it_away(tmsd: FakeTmsd, runtime: Path) -> None:
    with terminal(runtime, *START, "--yes") as station:
        before = termios.tcgetattr(station.far_end)
        station.until("RUNNING: ")
        assert termios.tcgetattr(station.far_end) != before
        station.type("\x1a")
        until(lambda: tmsd.called("session.present"))
        station.type("\x03")
        station.until("device confirms: disarmed")
        assert station.process.wait(DEADLINE_S) == 8
        assert termios.tcgetattr(station.far_end) == before
    assert tmsd.stops == [f"STOP cli ctrl-c uid={os.getuid()}".encode()]
    assert len(tmsd.called("session.present")) == 1


def test_a_paused_session_says_why_the_guard_paused_it(tmsd: FakeTmsd, runtime: Path) -> None:
    with terminal(runtime, *START, "--yes") as station:
        station.until("RUNNING: ")
        tmsd.disarm("presence-lost", "no sign of the operator for 60 s")
        station.until("PAUSED: ", "why: presence-lost: no sign of the operator for 60 s")
        tmsd.trip("operator-stop", "STOP by a test")
        assert station.process.wait(DEADLINE_S) == 8
