"""Signs that an operator is there: a key at the terminal, a line where there is none."""

from __future__ import annotations

import os
import select
import sys
import termios
import time
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

WARN_S: Final = 20.0
"""So long before the sign is too old, the view asks for another."""

SIGN_EVERY_S: Final = 1.0
HELD_S: Final = 0.5
"""A key that repeats faster is held down, or something lies on it: nobody's sign."""

Signs = Callable[[], bool]
"""Has somebody given a sign since the last call? Never waits."""


class Pace:
    """Which presses count: at most one a second, and none of a key that is held down."""

    def __init__(self) -> None:
        self._pressed_at = self._sign_at = float("-inf")

    def counts(self, now: float) -> bool:
        """Something was pressed at `now` seconds, on a clock that never goes back."""
        held = now - self._pressed_at < HELD_S
        self._pressed_at = now
        if held or now - self._sign_at < SIGN_EVERY_S:
            return False
        self._sign_at = now
        return True


class Input:
    """Standard input, read without waiting: any key of a terminal, else a whole line."""

    def __init__(self, fileno: int, *, terminal: bool) -> None:
        self._fileno, self._terminal = fileno, terminal
        self._open = True
        self._pace = Pace()

    def sign(self) -> bool:
        """Has somebody given a sign since the last call?"""
        data = self._read()
        pressed = bool(data) if self._terminal else b"\n" in data
        return pressed and self._pace.counts(time.monotonic())

    def _read(self) -> bytes:
        # Who reads a terminal from the background is stopped by the kernel.
        if self._terminal and not _foreground(self._fileno):
            return b""
        if not self._open or not select.select([self._fileno], [], [], 0)[0]:
            return b""
        try:
            data = os.read(self._fileno, 4096)
        except OSError:  # the terminal is gone
            data = b""
        self._open = bool(data)
        return data


@contextmanager
def standard_input() -> Iterator[Signs]:
    """Signs from whoever sits at standard input; from nobody when it is closed."""
    try:
        fileno = sys.stdin.fileno()
        terminal = os.isatty(fileno)
        select.select([fileno], [], [], 0)
    except (AttributeError, OSError, ValueError):  # closed, or no file at all
        yield lambda: False
        return
    if not (terminal and _foreground(fileno)):
        yield Input(fileno, terminal=terminal).sign
        return
    before = termios.tcgetattr(fileno)
    try:
        _single_keys(fileno)
        yield Input(fileno, terminal=True).sign
    finally:
        if _foreground(fileno):
            termios.tcsetattr(fileno, termios.TCSAFLUSH, before)  # no key is left for the shell


def _single_keys(fileno: int) -> None:
    """Keys come one by one and unseen. Ctrl-C stays STOP; Ctrl-Z must not take it away."""
    tty.setcbreak(fileno)
    mode = termios.tcgetattr(fileno)
    mode[6][termios.VSUSP] = os.fpathconf(fileno, "PC_VDISABLE").to_bytes(1, "big")
    termios.tcsetattr(fileno, termios.TCSANOW, mode)


def _foreground(fileno: int) -> bool:
    try:
        return os.tcgetpgrp(fileno) == os.getpgrp()
    except OSError:  # the terminal is gone, or is not ours
        return False
