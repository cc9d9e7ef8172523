"""Starts the guard where no service manager does, and starts it again a few times if it dies."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

from firmware_protocol.quantities import MS, SECOND

RESTART_AFTER_US: Final = 500 * MS
RESTARTS_MAX: Final = 3
RESTARTS_WITHIN_US: Final = 60 * SECOND
LINGER_S: Final = 30
"""A guard without tmsd makes itself safe at once, and waits this long for a new tmsd."""

END_S: Final = 2.0


class GuardProcess:
    """At most one child. It is in a session of its own: what ends tmsd does not end it."""

    def __init__(self, config: Path, say: Callable[[str, str], None]) -> None:
        """`say` gets a code and a sentence for people."""
        self._config, self._say = config, say
        self._child: subprocess.Popen[bytes] | None = None
        self._ended_us: int | None = None
        self._starts_us: list[int] = []
        self._given_up = False

    def ensure(self, now_us: int) -> None:
        """Call while no guard answers; starts one when it is time to."""
        if self._given_up or (self._child is not None and self._child.poll() is None):
            return
        if self._child is not None:
            self._say("guard-ended", f"tms-guard ended with status {self._child.returncode}.")
            self._child, self._ended_us = None, now_us
        if self._ended_us is not None and now_us - self._ended_us < RESTART_AFTER_US:
            return
        self._starts_us = [t for t in self._starts_us if now_us - t < RESTARTS_WITHIN_US]
        if len(self._starts_us) > RESTARTS_MAX:
            self._given_up = True
            self._say(
                "guard-given-up",
                f"tms-guard was started again {RESTARTS_MAX} times within "
                f"{RESTARTS_WITHIN_US // SECOND} s and stays down; see its log, then restart tmsd.",
            )
            return
        self._starts_us.append(now_us)
        self._start()

    def _start(self) -> None:
        beside = Path(sys.executable).with_name("tms-guard")
        program = [str(beside)] if beside.exists() else [sys.executable, "-m", "tmsctl.guard"]
        try:
            self._child = subprocess.Popen(  # noqa: S603 - our own program, without a shell
                [*program, "--config", str(self._config), "--linger-s", str(LINGER_S)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                start_new_session=True,
            )
        except OSError as error:
            self._given_up = True
            self._say("guard-given-up", f"tms-guard cannot be started: {error.strerror}.")
            return
        self._say("guard-started", f"tms-guard was started, process {self._child.pid}.")

    def end(self) -> None:
        """Tell our child to end, and wait a moment for it."""
        if self._child is None or self._child.poll() is not None:
            return
        self._child.terminate()
        try:
            self._child.wait(END_S)
        except subprocess.TimeoutExpired:
            pid = self._child.pid
            self._say("guard-stays", f"tms-guard {pid} did not end within {END_S:g} s.")
