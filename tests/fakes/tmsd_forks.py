"""Starts tmsd many times without the time for its imports: one fork for each path on stdin.

`python -m tests.fakes.tmsd_forks` prints the process id of each; a dead one leaves nothing behind.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from tmsctl.service.start import start


def main() -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while config := sys.stdin.readline().strip():
        pid = os.fork()
        if pid == 0:
            os._exit(1 if start(Path(config)) else 0)
        print(pid, flush=True)


if __name__ == "__main__":
    main()
