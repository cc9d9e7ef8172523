"""The recording of a whole session: handed to a program beside the guard, which owns the disk.

The guard itself never waits for a disk. It formats records after its cycle and puts them into a
pipe that does not block; what does not fit waits in a buffer with a bound, and what does not fit
there is counted and lost.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import sys
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from firmware_protocol import recording
from firmware_protocol.recording import Record

WAITING_MAX: Final = 8192
"""Records; tmslink makes some 410 a second."""

AT_ONCE_MAX: Final = 256
"""Records that are formatted after one cycle."""

PIPE_SIZE: Final = 1 << 20
ENDING_MS: Final = 1_000


class Recording:
    """Takes records at any time, and passes them on in `flush`."""

    def __init__(self, pipe: int, keeper: int, facts: Mapping[str, str]) -> None:
        """`pipe` must not block; `keeper` is the process that reads it."""
        self.lost = 0  # records, in all
        self._pipe, self._keeper = pipe, keeper
        self._gap, self._gap_at = (
            0,
            0,
        )  # records lost since the last one kept; when the last one was
        self._waiting: deque[Record] = deque()
        self._piece = recording.header_of(facts).encode()
        self._ended = False  # nobody reads any more

    def note(self, record: Record) -> None:
        if len(self._waiting) >= WAITING_MAX:
            self.lost += 1
            self._gap, self._gap_at = self._gap + 1, record.at_us
            return
        self._tell_gap()
        self._waiting.append(record)

    def _tell_gap(self) -> None:
        if self._gap:
            lost = str(self._gap).encode()
            self._waiting.append(Record(self._gap_at, recording.LOST, lost))
            self._gap = 0

    def flush(self) -> bool:
        """Pass on what the pipe takes; True when nothing is left. Never blocks, never raises."""
        if self._ended:
            self._waiting.clear()
            return True
        if not self._piece:
            self._tell_gap()  # at once: nothing may come behind it
            waiting = self._waiting
            several = [waiting.popleft() for _ in range(min(len(waiting), AT_ONCE_MAX))]
            self._piece = "".join(map(recording.line_of, several)).encode()
        try:
            while self._piece:
                self._piece = self._piece[os.write(self._pipe, self._piece) :]
        except BlockingIOError:
            return False
        except OSError:
            self._ended = True  # its reader has said on standard error why
            self._waiting.clear()
        return not self._waiting

    def close(self) -> None:
        """At the guard's end, when the device is safe: wait a little for the disk, then go."""
        poller = select.poll()
        poller.register(self._pipe, select.POLLOUT)
        while not self.flush() and poller.poll(ENDING_MS):
            pass
        os.close(self._pipe)
        with contextlib.suppress(OSError):  # it has ended already, or this kernel has no pidfd
            ending = os.pidfd_open(self._keeper)
            waits = select.poll()
            waits.register(ending, select.POLLIN)
            waits.poll(ENDING_MS)
            os.close(ending)
            os.waitpid(self._keeper, os.WNOHANG)


def start(folder: Path, facts: Mapping[str, str]) -> Recording:
    """With the program that keeps it. OSError when that cannot be started."""
    read_end, write_end = os.pipe()
    try:
        with contextlib.suppress(OSError):  # an ordinary user may be out of pipe memory
            fcntl.fcntl(write_end, fcntl.F_SETPIPE_SZ, PIPE_SIZE)
        os.set_blocking(write_end, False)
        keeper = os.posix_spawn(
            sys.executable,
            [sys.executable, "-m", "tmsctl.guard.keeper", str(folder)],
            os.environ,
            file_actions=[(os.POSIX_SPAWN_DUP2, read_end, 0)],
        )
    except OSError:
        os.close(write_end)
        raise
    finally:
        os.close(read_end)
    return Recording(write_end, keeper, facts)
