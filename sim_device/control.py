"""Faults at run time: the control socket of tmssim, and `tmssim ctl`, its client.

A Unix stream socket; one JSON object a line, one line as answer to each, in order:

    {"do": "set", "kind": "late", "value": 50, "for_s": 2}
    {"ok": true}
    {"do": "set", "kind": "loud"}
    {"ok": false, "error": "set: kind is 'loud'; allowed are ..."}
"""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from sim_device.device import Device
from sim_device.fault_kinds import KINDS
from sim_device.fault_rules import rule_of, table_of
from sim_device.faults import Rule
from sim_device.ports import listen_unix
from sim_device.settings import SetupError

LINE_MAX: Final = 65_536
CLIENTS_MAX: Final = 8
RULES_MAX: Final = 1_000
ANSWER_WITHIN_S: Final = 5
_PRESSES: Final[dict[str, Rule]] = {
    "stop": Rule("disarms_itself"),
    "up": Rule("panel_setting", 1),
    "down": Rule("panel_setting", -1),
    "trigger": Rule("external_trigger"),
}
_READ_MAX: Final = 4096

Request = dict[str, Any]
Answer = dict[str, object]


# -- requests -------------------------------------------------------------------------------------


def answer(line: bytes, device: Device, now_us: int) -> Answer:
    """Do what one line asks. `now_us` is the device's time, up to which it has run."""
    try:
        request = json.loads(line)
    except (ValueError, RecursionError):
        return _error("a line is no JSON")
    verb = request.pop("do", None) if isinstance(request, dict) else None
    act = _VERBS.get(verb) if isinstance(verb, str) else None
    if act is None:
        return _error(f'a request is {{"do": ...}} with one of {", ".join(_VERBS)}')
    try:
        return {"ok": True, **act(request, device, now_us)}
    except SetupError as error:
        return _error(str(error))


def _error(sentence: str) -> Answer:
    return {"ok": False, "error": sentence}


def _only(verb: str, request: Request, *keys: str) -> None:
    for key in request:
        if key not in keys:
            allowed = f"takes {', '.join(keys)}" if keys else "takes nothing else"
            raise SetupError(f"{verb}: unknown key {key!r}; {verb} {allowed}.")


def _list(request: Request, device: Device, _: int) -> Answer:
    _only("list", request)
    on = device.faults.in_force()
    return {"faults": [table_of(active, on) for active in device.faults.set_rules()]}


def _set(request: Request, device: Device, now_us: int) -> Answer:
    """Times and counts begin now; without a trigger it strikes at once."""
    rule = rule_of("set", request, device.kinds)
    if len(device.faults.set_rules()) >= RULES_MAX:
        raise SetupError(f"set: {RULES_MAX} faults are set already; clear some.")
    device.faults.add_from_now(rule, now_us)
    return {}


def _clear(request: Request, device: Device, _: int) -> Answer:
    _only("clear", request, "kind")
    if "kind" not in request:
        device.faults.clear_all()
        return {}
    kind = request["kind"]
    if not isinstance(kind, str) or kind not in KINDS:
        raise SetupError(f"clear: kind is {kind!r}; allowed are {', '.join(KINDS)}.")
    device.faults.clear(kind)
    return {}


def _counts(request: Request, device: Device, _: int) -> Answer:
    _only("counts", request)
    faults = device.faults
    counts = dict(sorted(faults.counts.items()))
    return {"counts": counts, "pulses": faults.pulses, "commands": faults.commands}


def _press(request: Request, device: Device, now_us: int) -> Answer:
    """What a person does at the device's own panel."""
    _only("press", request, "button")
    button = request.get("button")
    if not isinstance(button, str) or button not in _PRESSES:
        raise SetupError(f"press: button is {button!r}; there are {', '.join(_PRESSES)}.")
    rule = _PRESSES[button]
    if rule.kind not in device.kinds:
        raise SetupError(f"press: this model has no {button} button.")
    device.faults.add_from_now(rule, now_us)
    return {}


_VERBS: Final[dict[str, Callable[[Request, Device, int], Answer]]] = {
    "list": _list,
    "set": _set,
    "clear": _clear,
    "counts": _counts,
    "press": _press,
}


# -- the socket -----------------------------------------------------------------------------------


class Control:
    """The listening socket and its clients. Never blocks; who does not read is dropped."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._listener = listen_unix("--control", path, CLIENTS_MAX)
        self._clients: dict[socket.socket, bytearray] = {}  # what of a line has come

    def filenos(self) -> list[int]:
        """Readable when `serve` has something to do."""
        return [self._listener.fileno(), *(client.fileno() for client in self._clients)]

    def serve(self, device: Device, now_us: int) -> None:
        """Answer all that has come."""
        with suppress(OSError):
            client, _ = self._listener.accept()
            if len(self._clients) < CLIENTS_MAX:
                client.setblocking(False)
                self._clients[client] = bytearray()
            else:
                client.close()
        for client in list(self._clients):
            try:
                self._read(client, device, now_us)
            except BlockingIOError:
                pass
            except OSError:
                self._drop(client)

    def close(self) -> None:
        for client in list(self._clients):
            self._drop(client)
        self._listener.close()
        with suppress(OSError):
            self._path.unlink()

    def _read(self, client: socket.socket, device: Device, now_us: int) -> None:
        data = client.recv(_READ_MAX)
        begun = self._clients[client]
        begun += data
        *lines, rest = bytes(begun).split(b"\n")
        begun[:] = rest
        said = [answer(line, device, now_us) for line in lines if line.strip()]
        if len(rest) > LINE_MAX:
            said.append(_error(f"a line is longer than {LINE_MAX} bytes"))
        out = b"".join(json.dumps(each).encode() + b"\n" for each in said)
        if (out and client.send(out) < len(out)) or not data or len(rest) > LINE_MAX:
            self._drop(client)

    def _drop(self, client: socket.socket) -> None:
        del self._clients[client]
        client.close()


# -- the client -----------------------------------------------------------------------------------

USAGE: Final = (
    "tmssim ctl PATH list | counts | set KIND [NAME=VALUE]... | clear [KIND] | "
    "press stop|up|down|trigger"
)


def ctl(arguments: Sequence[str]) -> list[str]:
    """Ask a running emulator; the lines to print. SetupError says what is wrong."""
    if len(arguments) < 2:
        raise SetupError(f"usage: {USAGE}.")
    path, verb, *words = arguments
    said = _asked(path, {"do": verb, **_members(verb, words)})
    if not said.get("ok"):
        raise SetupError(str(said.get("error")))
    if verb == "counts":
        return [f"{kind} {count}" for kind, count in said["counts"].items()]
    if verb == "list":
        return [_words(table) for table in said["faults"]]
    return []


def _members(verb: str, words: Sequence[str]) -> Request:
    """The words after the verb as members of its request."""
    first = {"set": "kind", "clear": "kind", "press": "button"}.get(verb)
    members: Request = {}
    for index, word in enumerate(words):
        name, equals, value = word.partition("=")
        if index == 0 and first is not None and not equals:
            members[first] = word
        elif verb == "set" and equals:
            members[name] = _number(value)
        else:
            raise SetupError(f"{word!r} is not expected here; usage: {USAGE}.")
    return members


def _number(text: str) -> int | float | str:
    for kind in (int, float):
        with suppress(ValueError):
            return kind(text)
    return text


def _words(table: dict[str, object]) -> str:
    kind = table.pop("kind")
    return " ".join([str(kind), *(f"{name}={value}" for name, value in table.items())])


def _asked(path: str, request: Request) -> Request:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(ANSWER_WITHIN_S)
        try:
            client.connect(path)
            client.sendall(json.dumps(request).encode() + b"\n")
            with client.makefile("rb") as answers:
                line = answers.readline()
        except OSError as error:
            raise SetupError(f"{path}: no emulator answers: {error.strerror or error}.") from None
    if not line:
        raise SetupError(f"{path}: the emulator hung up without an answer.")
    said: Request = json.loads(line)
    return said
