"""One tmsd for one runtime folder, and one for one state folder."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path


class LockedError(Exception):
    """One sentence: who holds the folder, or why it cannot be used."""


def hold(folder: Path) -> int:
    """Make the folder if needed and lock it for the life of this process (or of the descriptor)."""
    path = folder / "tmsd.lock"
    try:
        folder.mkdir(mode=0o750, parents=True, exist_ok=True)
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    except OSError as error:
        raise LockedError(f"{path} cannot be made: {error.strerror}.") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(lock, 16, 0).decode(errors="replace").strip() or "unknown"
        os.close(lock)
        raise LockedError(
            f"Another tmsd (process {holder}) uses {folder}; stop it first."
        ) from None
    os.ftruncate(lock, 0)
    os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
    return lock
