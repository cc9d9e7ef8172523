"""Which key presses and lines are a sign that an operator is there."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tmsctl.cli import presence
from tmsctl.cli.presence import Input, Pace


@pytest.mark.parametrize(
    ("presses", "signs"),
    [
        ([0.0], [0.0]),
        ([0.0, 0.9], [0.0]),  # at most one a second
        ([0.0, 1.0], [0.0, 1.0]),
        ([0.0, 1.0, 2.0, 3.0], [0.0, 1.0, 2.0, 3.0]),
        ([0.0, 0.6, 1.1], [0.0, 1.1]),  # 0.5 s apart: pressed, not held
        ([0.0, 0.6, 1.09], [0.0]),  # less: held
        ([0.0, 0.5, *(0.5 + n / 30 for n in range(3000))], [0.0]),  # a book on the keyboard
    ],
)
def test_a_press_counts_once_a_second_and_a_key_that_is_held_down_once(
    presses: list[float], signs: list[float]
) -> None:
    pace = Pace()
    assert [at for at in presses if pace.counts(at)] == signs


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for end in ends:
        try:
            os.close(end)
        except OSError:
            continue


@pytest.mark.parametrize(
    ("text", "sign"), [(b"\n", True), (b"here\nhere\n", True), (b"here", False), (b"", False)]
)
def test_without_a_terminal_a_whole_line_is_a_sign(
    pipe: tuple[int, int], text: bytes, sign: bool
) -> None:
    os.write(pipe[1], text)
    assert Input(pipe[0], terminal=False).sign() is sign


def test_lines_that_come_without_end_are_one_sign(pipe: tuple[int, int]) -> None:
    source = Input(pipe[0], terminal=False)
    found = []
    for _ in range(10):
        os.write(pipe[1], b"y\n")
        found.append(source.sign())
    assert found == [True] + 9 * [False]


def test_the_end_of_the_input_is_no_sign_and_is_not_read_again(pipe: tuple[int, int]) -> None:
    source = Input(pipe[0], terminal=False)
    os.close(pipe[1])
    assert [source.sign(), source.sign()] == [False, False]
    os.close(pipe[0])
    assert source.sign() is False


def test_a_closed_input_gives_no_sign(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", None)
    with presence.standard_input() as sign:
        assert sign() is False
