"""The picture of the live view, as text at 80 columns."""

from __future__ import annotations

import copy
from io import StringIO
from typing import Any, get_args

import pytest
from rich.console import Console

from drivers.causes import CAUSES, Cause, parted, with_step
from tests.fakes.tmsd import SESSION, STATUS
from tmsctl.cli import live
from tmsctl.cli.follow import exit_status

Json = dict[str, Any]
LINES_MAX = 24


def status(**changes: Json) -> Json:
    """A running session, with fields of its parts replaced."""
    made = copy.deepcopy(STATUS) | {"session": copy.deepcopy(SESSION)}
    made["guard"] |= {"state": "armed"}
    for part, values in changes.items():
        made[part] |= values
    return made


def drawn(state: Json, age_s: float = 0.0, place: live.Place = live.STATION, last: str = "") -> str:
    console = Console(file=StringIO(), width=80, height=24, color_system=None)
    console.print(live.view(state, age_s, place, last))
    assert isinstance(console.file, StringIO)
    return console.file.getvalue()


SAFE = {"state": "safe", "causes": [{"code": "coil-hot", "detail": "41.2 °C, at most 41.0 °C"}]}
GONE = {"connected": False, "link": "port-missing: /dev/ttyACM0 is not there"}


@pytest.mark.parametrize(
    ("changes", "age_s", "word"),
    [
        ({}, 0.0, "RUNNING"),
        ({}, 1.0, "RUNNING"),
        ({}, 1.1, "NO DATA"),
        ({"session": {"state": "starting"}}, 0.0, "ARMING"),
        ({"session": {"state": "paused"}}, 0.0, "PAUSED"),
        ({"session": {"state": "complete"}}, 0.0, "DONE"),
        ({"session": {"state": "stopped"}}, 0.0, "STOPPED"),
        ({"session": {"state": "interrupted"}}, 0.0, "STOPPED"),
        ({"guard": SAFE}, 0.0, "SAFE"),
        ({"guard": SAFE}, 1.1, "NO DATA"),
        ({"guard": {"state": "absent"}}, 0.0, "NO GUARD"),
        ({"device": GONE}, 0.0, "NO LINK"),
        ({"device": GONE, "guard": SAFE}, 0.0, "SAFE"),
    ],
)
def test_the_most_urgent_truth_is_the_giant_word(
    changes: Json, age_s: float, word: live.Word
) -> None:
    text = drawn(status(**changes), age_s)
    assert live.giant(word).splitlines()[0].rstrip() in text
    assert f"{word}: " in text


@pytest.mark.parametrize(("state", "word"), [("idle", "READY"), ("arming", "ARMING")])
def test_without_a_session_the_guard_is_the_word(state: str, word: str) -> None:
    now = copy.deepcopy(STATUS)
    now["guard"]["state"] = state
    text = drawn(now)
    assert f"{word}: " in text
    assert "TMSLINK-1 TR000001" in text
    assert "time left" not in text


@pytest.mark.parametrize(
    ("confirmed", "self_test", "step"),
    [
        (False, "none", "tmsctl ledger confirm-clock, then tmsctl selftest"),
        (False, "passed", "tmsctl ledger confirm-clock"),
        (True, "none", "tmsctl selftest"),
        (True, "failed", "tmsctl selftest"),
        (True, "running", "tmsctl selftest"),
        (True, "unknown", "tmsctl selftest"),
        (True, "passed", ""),
    ],
)
def test_it_is_ready_only_after_the_checks_of_the_day(
    confirmed: bool, self_test: str, step: str
) -> None:
    now = copy.deepcopy(STATUS)
    now["clock_confirmed"], now["self_test"]["state"] = confirmed, self_test
    head = live.headline(now, 0.0)
    assert (head.word, head.next_step) == ("IDLE" if step else "READY", step)


@pytest.mark.parametrize(
    ("age_s", "word"), [(86_400.0, "READY"), (86_400.1, "IDLE"), (None, "IDLE")]
)
def test_a_self_test_holds_for_a_day(age_s: float | None, word: str) -> None:
    now = copy.deepcopy(STATUS)
    now["self_test"]["age_s"] = age_s
    assert live.headline(now, 0.0).word == word


@pytest.mark.parametrize("word", get_args(live.Word))
def test_every_word_can_be_drawn_on_80_columns(word: live.Word) -> None:
    rows = live.giant(word).splitlines()
    assert len(rows) == 5
    assert max(map(len, rows)) <= 79


def test_in_safe_a_lost_device_says_why_it_is_lost() -> None:
    text = drawn(status(device=GONE, guard=SAFE))
    assert f"no link: {GONE['link']}" in text
    assert "cause coil-hot" in text
    assert "no link" not in drawn(status(guard=SAFE))
    assert "no link: The stimulator does not answer" in drawn(
        status(device=GONE | {"link": ""}, guard=SAFE)
    )


def test_a_train_that_a_limit_holds_back_is_shown_as_waiting() -> None:
    why = (
        "minute-unknown: the pulses of the last minute are known for 28 s only, all 60 s are needed"
    )
    now = status(session={"waiting": why})
    text = drawn(now)
    assert live.giant("WAITING").splitlines()[0].rstrip() in text
    assert "WAITING: A limit holds the next train back." in text
    assert f"why: {why}" in " ".join(text.split())
    assert len(text.splitlines()) <= LINES_MAX
    assert live.line(now, 0.0).endswith(why)
    assert "why" not in drawn(status(session={"state": "paused", "waiting": why}))


def test_a_running_session_shows_all_that_a_glance_needs() -> None:
    text = drawn(
        status(session={"delivered": 312, "train": 2, "trains": 5, "next_train_s": 4.25,
                        "left_s": 18.2, "elapsed_s": 21.0})
    )  # fmt: skip
    for part in (
        "P001", "ctbs600", "operator AB", "312 / 600 pulses  52%", "2 of 5", "in 4.2 s", "0:19",
        "40 %MSO", "39.8 %MSO", "24.1 °C", "ARMED", "ok (late 0.2 ms, 0 overruns)", "TR000001",
        "12 ms old", "Ctrl-C = STOP", "any other key = I am here", "not a cleared medical device",
    ):  # fmt: skip
        assert part in text


def test_the_bar_grows_with_the_pulses_and_needs_no_colour() -> None:
    def filled(delivered: int) -> tuple[int, int]:
        text = drawn(status(session={"delivered": delivered}))
        line = next(line for line in text.splitlines() if " pulses " in line and "/" in line)
        return line.count("█"), line.count("░")

    assert filled(0)[0] == 0
    assert filled(600)[1] == 0
    assert abs(filled(300)[0] - filled(300)[1]) <= 1


def test_skipped_and_unknown_pulses_are_named_only_when_there_are_some() -> None:
    assert "skipped" not in drawn(status())
    lost = {"skipped": 3, "unknown": 5}
    assert "3 skipped  5 unknown" in drawn(status(session={"state": "paused", **lost}))


def test_the_rest_of_a_running_block_is_not_called_unknown() -> None:
    text = drawn(status(session={"skipped": 3, "unknown": 5}))
    assert "3 skipped" in text
    assert "unknown" not in text


def test_old_data_say_their_age() -> None:
    assert "OLD" not in drawn(status(), 1.0)
    text = drawn(status(), 2.3)
    assert "OLD, 2.3 s" in text
    assert "Nothing new from tmsd for 2.3 s" in text


@pytest.mark.parametrize(
    ("since_s", "age_s", "left"),
    [
        (39.9, 0.0, None),
        (40.0, 0.0, 20),
        (39.5, 0.5, 20),
        (58.9, 0.0, 2),
        (59.9, 0.0, 1),
        (60.0, 0.0, 0),
        (70.0, 0.0, 0),
        (None, 0.0, None),
    ],
)
def test_a_sign_of_presence_is_asked_for_20_s_before_it_is_due(
    since_s: float | None, age_s: float, left: int | None
) -> None:
    now = status(session={"presence_s": since_s})
    assert ("presence" in drawn(now, age_s)) == (left is not None)
    if left is not None:
        assert f"presence: press a key within {left} s" in drawn(now, age_s)
        assert f"at the station must press a key within {left} s" in drawn(
            now, age_s, live.ELSEWHERE
        )
        assert f"presence ends in {left} s" in live.line(now, age_s)


@pytest.mark.parametrize("state", ["paused", "complete", "stopped", "interrupted"])
def test_nobody_need_be_there_while_no_pulse_can_leave(state: str) -> None:
    assert live.presence_left(status(session={"state": state, "presence_s": 59.0}), 0.0) is None
    assert live.presence_left(status(session={"state": "starting", "presence_s": 59.0}), 0.0)
    assert live.presence_left(copy.deepcopy(STATUS), 0.0) is None


def test_a_paused_session_says_what_the_guard_did_last() -> None:
    last = "presence-lost: no sign of the operator for 60.1 s, allowed 60"

    def why(**changes: Json) -> bool:
        return f"why: {last}" in drawn(status(**changes), last=last)

    assert why(guard={"state": "idle"}, session={"state": "paused"})
    assert not why()
    assert not why(guard=SAFE, session={"state": "paused"})  # the causes say it
    assert "why:" not in drawn(status(guard={"state": "idle"}, session={"state": "paused"}))


def test_degraded_timing_is_said_in_a_word() -> None:
    text = drawn(status(guard={"timing": "degraded: fifo=off (no permission)"}))
    assert "DEGRADED" in text


def test_what_was_not_measured_is_unknown_and_never_zero() -> None:
    text = drawn(status(coil={"temperature_c": None, "winding_c": None}, session={"left_s": None}))
    assert text.count("unknown") == 3


def test_safe_names_the_first_cause_in_words_and_the_next_step() -> None:
    text = drawn(status(guard=SAFE, session={"state": "paused"}))
    assert "cause coil-hot: 41.2 °C, at most 41.0 °C" in text
    assert "tmsctl acknowledge, then tmsctl session resume" in text


def test_why_there_is_no_link_is_read_to_its_end() -> None:
    why = "port-missing: no tmslink USB device with serial number SIM00001 is plugged in"
    text = " ".join(drawn(status(device=GONE | {"link": with_step(why)})).split())
    assert f"NO LINK: {why} " in text
    assert "next step: plug it in, or correct [device] url" in text
    endless = drawn(status(device=GONE | {"link": "x-y: " + "very " * 90 + "long"}))
    assert endless.count("…") == 1
    assert len(endless.splitlines()) <= LINES_MAX


@pytest.mark.parametrize("cause", CAUSES, ids=[cause.code for cause in CAUSES])
def test_the_step_is_told_apart_whatever_stands_in_the_sentence(cause: Cause) -> None:
    why = f"{cause.code}: one thing; another thing"
    assert parted(with_step(why)) == (why, cause.step)
    assert parted(why) == (why, "")
    head = live.headline(status(device=GONE | {"link": with_step(why)}), 0.0)
    assert (head.sentence, head.next_step) == (why, cause.step)


def test_without_a_word_of_the_link_the_power_and_the_cable_are_named() -> None:
    assert parted("") == ("", "")
    head = live.headline(status(device=GONE | {"link": ""}), 0.0)
    assert (head.word, head.next_step) == ("NO LINK", "check its power and cable")


@pytest.mark.parametrize("device", [{}, GONE | {"link": "a long sentence " * 10}])
@pytest.mark.parametrize("causes", [1, 3, 12])
def test_the_picture_fits_a_terminal_of_80_by_24(causes: int, device: Json) -> None:
    long = [{"code": f"cause-{n}", "detail": "a long sentence " * 10} for n in range(causes)]
    session = {"patient": "P" * 64, "protocol": "x" * 32, "delivered": 3000, "skipped": 300,
               "planned": 3000, "unknown": 30, "presence_s": 59.0}  # fmt: skip
    text = drawn(status(guard={"state": "safe", "causes": long}, session=session, device=device))
    assert len(text.splitlines()) <= LINES_MAX
    assert max(len(line) for line in text.splitlines()) <= 80
    assert "cause cause-0:" in text
    assert live.NOT_MEDICAL in text


@pytest.mark.parametrize(
    "changes",
    [
        {"guard": SAFE},
        {"guard": {"state": "absent"}},
        {"device": GONE},
        *({"session": {"state": state}} for state in ("paused", "interrupted", "complete")),
    ],
)
def test_what_to_do_next_is_never_cut_off(changes: Json) -> None:
    assert live.headline(status(**changes), 0.0).next_step in drawn(status(**changes))


def test_every_word_that_can_be_shown_fits_80_columns() -> None:
    for word in ("RUNNING", "NO GUARD", "NO DATA", "STOPPED", "NO LINK", "ARMING", "READY"):
        assert max(len(line) for line in live.giant(word).splitlines()) <= 80


def test_one_line_tells_the_same_for_a_log() -> None:
    text = live.line(status(guard=SAFE, session={"state": "paused", "delivered": 7}), 0.0)
    for part in ("SAFE", "7/600 pulses", "train 1/1", "coil 24.1 °C", "guard safe", "coil-hot"):
        assert part in text
    assert "data 3.0 s old" in live.line(status(), 3.0)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.0, "0:00"), (0.1, "0:01"), (59.1, "1:00"), (None, "unknown")]
)
def test_time_left_is_rounded_up(seconds: float | None, text: str) -> None:
    assert live.clock(seconds) == text


@pytest.mark.parametrize(
    ("changes", "bits"),
    [
        ({}, 0),
        ({"guard": {"state": "safe"}}, 8),
        ({"guard": {"state": "absent"}}, 2),
        ({"device": GONE}, 2),
        ({"device": GONE, "guard": {"state": "safe"}}, 10),
    ],
)
def test_the_exit_status_adds_up_what_is_wrong(changes: Json, bits: int) -> None:
    assert exit_status(status(**changes)) == bits
