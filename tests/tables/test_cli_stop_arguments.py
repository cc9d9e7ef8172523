"""Which command lines mean STOP, and where they send it."""

from __future__ import annotations

import pytest

from tmsctl.cli import stop


@pytest.mark.parametrize(
    ("line", "asked"),
    [
        ("stop", True),
        ("--runtime /x stop", True),
        ("--runtime=/x stop", True),
        ("stop --runtime /x", True),
        ("stop now please", True),
        ("stop --jsno", True),
        ("stop --help", False),
        ("session stop", False),
        ("--runtime stop", False),
        ("--runtime stop status", False),
        ("status", False),
        ("", False),
    ],
)
def test_a_mistyped_stop_is_still_a_stop_and_nothing_else_is(line: str, asked: bool) -> None:
    assert stop.asked(line.split()) is asked


@pytest.mark.parametrize(
    ("line", "environment", "folder"),
    [
        ("stop", None, "/run/tmsctl"),
        ("stop", "/env", "/env"),
        ("stop", "", "/run/tmsctl"),
        ("stop --runtime /x", "/env", "/x"),
        ("--runtime=/x stop", "/env", "/x"),
        ("stop --runtime", "/env", "/env"),
    ],
)
def test_the_option_wins_over_the_environment(
    line: str, environment: str | None, folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TMSCTL_RUNTIME", raising=False)
    if environment is not None:
        monkeypatch.setenv("TMSCTL_RUNTIME", environment)
    assert stop.runtime_folder(line.split()) == folder


@pytest.mark.parametrize(
    ("stages", "why"),
    [
        ([], "no guard listens"),
        ([stop.SENT], "has not answered"),
        ([stop.SENT, stop.ACCEPTED], "has not confirmed within 300 ms"),
        ([stop.SENT, stop.ACCEPTED, stop.NO_DEVICE], "has no device"),
    ],
)
def test_anything_less_than_a_confirmed_stop_sends_people_to_the_hardware(
    stages: list[str], why: str
) -> None:
    sentence = stop.words("/x", stages)
    assert sentence.startswith("USE THE HARDWARE STOP: ")
    assert why in sentence


def test_a_confirmed_stop_asks_for_nothing_more() -> None:
    assert stop.words("/x", [stop.SENT, stop.ACCEPTED, stop.CONFIRMED]) == ""
