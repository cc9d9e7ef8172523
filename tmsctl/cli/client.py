"""A synchronous JSON-RPC client of tmsd. Every wait has a deadline."""

from __future__ import annotations

import json
import socket
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from tmsctl.cli.errors import EXIT_COMMUNICATION, EXIT_UNREACHABLE, EXIT_USAGE, CliError

Json = dict[str, Any]

CALL_S: Final = 5.0
MESSAGE_SIZE_MAX: Final = 16 * 1024 * 1024  # a record of 3,000 blocks with events is below 2 MB


class Client:
    """One connection. tmsd pauses the session that was started on it when it closes."""

    def __init__(self, runtime: Path) -> None:
        self._path = runtime / "tmsd.sock"
        self._received = bytearray()
        self._notes: list[Json] = []
        self._last_id = 0
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(CALL_S)
        try:
            self._socket.connect(str(self._path))
        except OSError as error:
            self._socket.close()
            raise _unreachable(self._path, error) from error

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._socket.close()

    def call(self, method: str, params: Json | None = None, within_s: float = CALL_S) -> Json:
        """The result; CliError with tmsd's own sentence and exit status when it refuses."""
        self._last_id += 1
        request = {"jsonrpc": "2.0", "id": self._last_id, "method": method, "params": params or {}}
        until = time.monotonic() + within_s
        self._send(json.dumps(request, allow_nan=False).encode() + b"\n", within_s)
        answer: Json | None = None
        while answer is None:
            left_s = until - time.monotonic()
            if left_s <= 0:
                raise _silent(f"did not answer {method} within {within_s:g} s")
            for message in self._receive(left_s):
                if "method" in message:
                    self._notes.append(message)
                elif message.get("id") == self._last_id:
                    answer = message
        if "error" in answer:
            raise _refusal(answer["error"])
        result: Json = answer["result"]
        return result

    def tell(self, method: str) -> None:
        """As `call`, without an answer: nobody waits, and nobody hears of a refusal."""
        self._send(
            json.dumps({"jsonrpc": "2.0", "method": method, "params": {}}).encode() + b"\n", CALL_S
        )

    def notes(self, within_s: float) -> list[Json]:
        """What tmsd has sent unasked, in order; waits at most `within_s` for the first."""
        messages = self._receive(0 if self._notes else within_s)
        notes = self._notes + [message for message in messages if "method" in message]
        self._notes = []
        return notes

    def _send(self, data: bytes, within_s: float) -> None:
        self._socket.settimeout(within_s)
        try:
            self._socket.sendall(data)
        except TimeoutError as error:
            raise _silent("does not read its socket") from error
        except OSError as error:
            raise _gone() from error

    def _receive(self, within_s: float) -> list[Json]:
        self._socket.settimeout(within_s)
        try:
            data = self._socket.recv(1 << 18)
        except (TimeoutError, BlockingIOError):
            return []
        except OSError as error:
            raise _gone() from error
        if not data:
            raise _gone()
        self._received += data
        if len(self._received) > MESSAGE_SIZE_MAX:
            raise _garbled("a message of more than 16 MiB")
        *lines, rest = self._received.split(b"\n")
        self._received = rest
        try:
            messages = [json.loads(line) for line in lines if line]
        except ValueError as error:
            raise _garbled("a line that is not JSON") from error
        if not all(isinstance(message, dict) for message in messages):
            raise _garbled("a line that is not a JSON object")
        return messages


def _refusal(error: Json) -> CliError:
    data = error.get("data") or {}
    return CliError(
        data.get("code", "refused"),
        error.get("message", "tmsd refused the command."),
        data.get("next", ""),
        data.get("exit", EXIT_USAGE),
    )


def _unreachable(path: Path, error: OSError) -> CliError:
    if isinstance(error, PermissionError):
        return CliError(
            "tmsd-not-allowed",
            f"You may not open {path}.",
            "Ask the administrator for membership of the group that owns it.",
            EXIT_UNREACHABLE,
        )
    return CliError(
        "tmsd-not-running",
        f"tmsd is not running: nothing listens at {path}.",
        "Start it with `systemctl start tmsd` or `tmsd --config FILE`, "
        "or name its folder with --runtime.",
        EXIT_UNREACHABLE,
    )


def _silent(what: str) -> CliError:
    return CliError(
        "tmsd-silent",
        f"tmsd {what}.",
        "See its log with `journalctl -u tmsd`; if in doubt, use the hardware stop.",
        EXIT_UNREACHABLE,
    )


def _gone() -> CliError:
    return CliError(
        "tmsd-gone",
        "tmsd closed the connection; the guard goes to SAFE when tmsd is gone.",
        "See `journalctl -u tmsd`, then `tmsctl status`.",
        EXIT_UNREACHABLE,
    )


def _garbled(what: str) -> CliError:
    return CliError(
        "tmsd-garbled",
        f"tmsd sent {what}.",
        "Check that tmsctl and tmsd are of one version.",
        EXIT_COMMUNICATION,
    )
