"""`tmsctl stop`: the STOP datagram to the guard, before anything else happens.

Only small modules of the standard library are imported here: each costs time before the datagram.
"""

from __future__ import annotations

import os
import select
import socket
import sys
import time

TYPE_CHECKING = False  # `typing` itself is one of the modules that cost time
if TYPE_CHECKING:
    from collections.abc import Iterator

RUNTIME_DEFAULT = "/run/tmsctl"
SENDS = 3
RESEND_S = 0.020
CONFIRM_S = 0.300  # a STOP that the device has not confirmed by then needs the hardware stop

SENT, ACCEPTED, CONFIRMED, NO_DEVICE = "sent", "accepted", "confirmed", "no-device"
_ANSWERS = {b"ACCEPTED": ACCEPTED, b"CONFIRMED": CONFIRMED, b"NO-DEVICE": NO_DEVICE}
STAGE_WORDS = {
    SENT: "STOP sent",
    ACCEPTED: "guard accepted",
    CONFIRMED: "device confirms: disarmed",
    NO_DEVICE: "guard has no device",
}
EXIT_CONFIRMED = 0
EXIT_NOT_CONFIRMED = 2


def asked(arguments: list[str]) -> bool:
    """True for `tmsctl stop`, whatever else is on the line: a mistyped STOP is still a STOP."""
    value_follows = False
    for argument in arguments:
        if value_follows:
            value_follows = False
        elif argument == "--runtime":
            value_follows = True
        elif not argument.startswith("-"):
            return argument == "stop" and "--help" not in arguments
    return False


def runtime_folder(arguments: list[str]) -> str:
    """`--runtime DIR` or `--runtime=DIR`, else TMSCTL_RUNTIME, else the default."""
    for place, argument in enumerate(arguments):
        if argument.startswith("--runtime="):
            return argument.partition("=")[2]
        if argument == "--runtime" and place + 1 < len(arguments):
            return arguments[place + 1]
    return os.environ.get("TMSCTL_RUNTIME") or RUNTIME_DEFAULT


def press(runtime: str, source: str) -> Iterator[str]:
    """Send STOP and yield each stage as it is reached; ends within CONFIRM_S."""
    path = f"{runtime}/stop.sock"
    datagram = f"STOP {source} uid={os.getuid()}".encode()
    seen: set[str] = set()
    sends = 0
    line = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    answers, passed = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with line, answers, passed:
        line.setblocking(False)  # a guard that hangs must not hang the person who wants to stop it
        begun = now = time.monotonic()
        while now < begun + CONFIRM_S and not seen & {CONFIRMED, NO_DEVICE}:
            repeating = sends < SENDS and ACCEPTED not in seen
            if repeating and now >= begun + sends * RESEND_S:
                sends += 1
                if _sent(line, datagram, passed, path) and SENT not in seen:
                    seen.add(SENT)
                    yield SENT
                repeating = sends < SENDS
            if not repeating and not seen:
                return  # nobody listens: say so at once
            wake = begun + (sends * RESEND_S if repeating else CONFIRM_S)
            if select.select([answers], [], [], max(0.0, wake - now))[0]:
                stage = _ANSWERS.get(answers.recv(64))
                if stage is not None and stage not in seen:
                    seen.add(stage)
                    yield stage
            now = time.monotonic()


def _sent(line: socket.socket, datagram: bytes, passed: socket.socket, path: str) -> bool:
    number = passed.fileno().to_bytes(4, sys.byteorder)
    try:
        line.sendmsg([datagram], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, number)], 0, path)
    except OSError:
        return False  # no guard yet, or its queue is full: the next send may get through
    return True


def words(runtime: str, stages: list[str]) -> str:
    """What the stages mean together: empty when the device has confirmed, else what to do."""
    if CONFIRMED in stages:
        return ""
    if NO_DEVICE in stages:
        why = "the guard accepted STOP but has no device to disarm."
    elif ACCEPTED in stages:
        why = "the device has not confirmed within 300 ms that it is disarmed."
    elif SENT in stages:
        why = "the guard has not answered within 300 ms."
    else:
        why = f"no guard listens at {runtime}/stop.sock."
    return f"USE THE HARDWARE STOP: {why} [stop-not-confirmed]"


def main(arguments: list[str]) -> int:
    """The whole of `tmsctl stop [--runtime DIR] [--json]`."""
    runtime = runtime_folder(arguments)
    as_json = "--json" in arguments
    stages: list[str] = []
    for stage in press(runtime, "cli"):
        stages.append(stage)
        if not as_json:
            print(STAGE_WORDS[stage], flush=True)
    failure = words(runtime, stages)
    if as_json:
        pairs = ", ".join(f'"{name}": {str(name in stages).lower()}' for name in STAGE_WORDS)
        print("{" + pairs + "}")
    elif failure:
        print(failure)
    return EXIT_NOT_CONFIRMED if failure else EXIT_CONFIRMED
