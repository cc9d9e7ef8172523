"""Words to the service manager (sd_notify); silent where there is none."""

from __future__ import annotations

import os
import socket


def notify(words: str) -> None:
    """Send `READY=1`, `WATCHDOG=1` or the like. Never blocks and never fails."""
    path = os.environ.get("NOTIFY_SOCKET")
    if not path:
        return
    address = "\0" + path[1:] if path.startswith("@") else path
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as manager:
        manager.connect_ex(address)
        try:
            manager.send(words.encode())
        except OSError:
            return
