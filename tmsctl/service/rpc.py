"""JSON-RPC 2.0, one message a line, over a Unix socket. Every buffer and every wait has a bound."""

from __future__ import annotations

import asyncio
import json
import math
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel

from tmsctl.session.refused import Exit, RefusedError

MESSAGE_SIZE_MAX: Final = 65_536
DEPTH_MAX: Final = 8
CONNECTIONS_MAX: Final = 32
UNREAD_MAX: Final = 262_144
"""Bytes of notifications that wait for a subscriber, about 15 s; then it is dropped."""

REPLY_S: Final = 5.0
"""A client that does not take its reply for this long is dropped."""

PARSE_ERROR, INVALID_REQUEST, UNKNOWN_METHOD, INVALID_PARAMS = -32700, -32600, -32601, -32602
REFUSED: Final = -32000

Call = Callable[["Connection", str, dict[str, Any]], Awaitable[BaseModel]]


class UnknownMethodError(Exception):
    """The method's name."""


class BadParamsError(Exception):
    """What is wrong with the parameters, in a sentence or a few."""


def listen(path: Path) -> socket.socket:
    """A socket for owner and group. What lay there is replaced; OSError when that cannot be."""
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(path))
    path.chmod(0o660)
    return listener


class Connection:
    """One client."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self.subscribed = False
        self._writer = writer
        self._replying = False

    def push(self, line: bytes) -> None:
        """A whole line that was not asked for; left out while a long reply is under way.

        A client that leaves too much unread is dropped.
        """
        if self._replying or self._writer.is_closing():
            return
        if self._writer.transport.get_write_buffer_size() > UNREAD_MAX:
            self._writer.transport.abort()
        else:
            self._writer.write(line)

    async def reply(self, line: bytes) -> None:
        """OSError when the client is gone or does not read."""
        self._replying = True
        self._writer.write(line)
        async with asyncio.timeout(REPLY_S):
            await self._writer.drain()
        self._replying = False

    def close(self) -> None:
        if self._replying:
            self._writer.transport.abort()
        self._writer.close()


class Server:
    """Accepts clients and answers them through `call`; `closed` is told when one is gone."""

    def __init__(self, call: Call, closed: Callable[[Connection], None]) -> None:
        self._call, self._closed = call, closed
        self._tasks: dict[Connection, asyncio.Task[None]] = {}
        self._listener: asyncio.Server | None = None

    async def start(self, listener: socket.socket, group: asyncio.TaskGroup) -> None:
        """Accept clients until `close`; each is served by a task of the group."""

        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            connection = Connection(writer)
            if len(self._tasks) >= CONNECTIONS_MAX:
                sentence = f"There are already {CONNECTIONS_MAX} connections, which is the most."
                answer = _error(None, REFUSED, sentence, "connections-max", "Close one.")
                connection.push(answer + b"\n")
                connection.close()
                return
            self._tasks[connection] = group.create_task(self._serve(connection, reader))

        self._listener = await asyncio.start_unix_server(
            accept, sock=listener, limit=MESSAGE_SIZE_MAX
        )

    def close(self) -> None:
        if self._listener is not None:
            self._listener.close()
        for task in self._tasks.values():
            task.cancel()

    def publish(self, line: bytes) -> None:
        """To every subscriber."""
        for connection in self._tasks:
            if connection.subscribed:
                connection.push(line)

    @property
    def has_subscribers(self) -> bool:
        return any(connection.subscribed for connection in self._tasks)

    async def _serve(self, connection: Connection, reader: asyncio.StreamReader) -> None:
        try:
            while True:
                answer = await self._answer(connection, await reader.readuntil(b"\n"))
                if answer is not None:
                    await connection.reply(answer + b"\n")
                await asyncio.sleep(0)  # a client that floods gets one turn like everybody
        except asyncio.LimitOverrunError:
            sentence = f"A message is longer than {MESSAGE_SIZE_MAX} bytes."
            answer = _error(None, INVALID_REQUEST, sentence, "too-long", "Send less.")
            connection.push(answer + b"\n")
        except (asyncio.IncompleteReadError, OSError):
            pass  # gone, or it does not read
        finally:
            connection.close()
            del self._tasks[connection]
            self._closed(connection)

    async def _answer(self, connection: Connection, line: bytes) -> bytes | None:
        try:
            message = parse(line)
        except (ValueError, RecursionError) as error:
            return _error(None, PARSE_ERROR, f"Not JSON: {error}.", "not-json", "Mend it.")
        if not isinstance(message, list):
            return await self._one(connection, message)
        if not message:
            return _invalid(None, "An empty batch")
        answers = []
        for part in message:
            answers.append(await self._one(connection, part))
            await asyncio.sleep(0)
        said = [answer for answer in answers if answer is not None]
        return b"[" + b",".join(said) + b"]" if said else None

    async def _one(self, connection: Connection, request: object) -> bytes | None:
        """The answer to one request; None for a notification."""
        if not isinstance(request, dict) or request.get("jsonrpc") != "2.0":
            return _invalid(None, 'A request without "jsonrpc": "2.0"')
        number = request.get("id")
        if isinstance(number, bool) or not isinstance(number, str | int | float | None):
            return _invalid(None, "An id that is no text or number")
        method, params = request.get("method"), request.get("params", {})
        if not isinstance(method, str) or request.keys() - {"jsonrpc", "id", "method", "params"}:
            return _invalid(number, "A request without a method, or with unknown members")
        answer = await self._result(connection, number, method, params)
        return answer if "id" in request else None

    async def _result(
        self, connection: Connection, number: object, method: str, params: object
    ) -> bytes:
        if not isinstance(params, dict):
            sentence = "Parameters are given by name, as an object."
            return _error(number, INVALID_PARAMS, sentence, "bad-params", "See the API page.")
        try:
            result = await self._call(connection, method, params)
        except UnknownMethodError:
            sentence = f"There is no method {method[:64]!r}."
            return _error(number, UNKNOWN_METHOD, sentence, "unknown-method", "See the API page.")
        except BadParamsError as error:
            return _error(number, INVALID_PARAMS, str(error), "bad-params", "See the API page.")
        except RefusedError as error:
            code, sentence, next_step = error.refusal
            return _error(number, REFUSED, sentence, code, next_step, error.exit_bit)
        head = f'{{"jsonrpc":"2.0","id":{json.dumps(number)},"result":'
        return f"{head}{result.model_dump_json()}}}".encode()


def notification(method: str, params_json: str) -> bytes:
    """A line for `publish`."""
    return f'{{"jsonrpc":"2.0","method":"{method}","params":{params_json}}}\n'.encode()


def parse(line: bytes) -> object:
    """Strict JSON: no repeated key, nothing that is not a finite number, no deep nesting.

    Raises ValueError or RecursionError.
    """
    value: object = json.loads(
        line, object_pairs_hook=_object, parse_constant=_refuse, parse_float=_finite
    )
    level, depth = [value], 0
    while level:
        depth += 1
        if depth > DEPTH_MAX:
            raise ValueError(f"nested deeper than {DEPTH_MAX} levels")
        level = [part for whole in level for part in _parts(whole)]
    return value


def _parts(whole: object) -> list[object]:
    if isinstance(whole, dict):
        return list(whole.values())
    return whole if isinstance(whole, list) else []


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key is given twice")
    return found


def _refuse(word: str) -> float:
    raise ValueError(f"{word} is not a number")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:20]} is too large")
    return number


def _invalid(number: object, what: str) -> bytes:
    return _error(number, INVALID_REQUEST, f"{what}.", "bad-request", "See JSON-RPC 2.0.")


def _error(
    number: object, code: int, sentence: str, name: str, next_step: str, bit: int = Exit.USAGE
) -> bytes:
    data = {"code": name, "exit": int(bit), "next": next_step}
    error = {"code": code, "message": sentence, "data": data}
    return json.dumps({"jsonrpc": "2.0", "id": number, "error": error}).encode()
