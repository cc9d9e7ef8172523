"""`tmsctl trace`: a recording, or a file of the flight recorder, in words. Needs no device."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from itertools import chain
from pathlib import Path
from typing import Any

from firmware_protocol import recording
from firmware_protocol.traces import TRACES, Line, family_of, trace
from tmsctl.cli.errors import CliError

Json = dict[str, Any]


def run(files: list[Path], driver: str | None, *, calls: bool, as_json: bool) -> int:
    """Print it line by line: a recording may be long."""
    with ExitStack() as stack:
        lines = chain.from_iterable(_opened(stack, path) for path in files)
        try:
            facts, records = recording.read(lines)
        except ValueError as error:
            raise CliError("recording", f"{files[0]}: {error}.") from error
        name = driver or facts.get("driver", "")
        family = family_of(name)
        if family is None:
            known = ", ".join(TRACES)
            what = f"no driver {name!r} is known here" if name else "the file names no driver"
            raise CliError("driver-unknown", f"{what}.", f"Say --driver; there are {known}.")
        show = _print_json if as_json else _print
        show(facts | {"driver": name}, _wanted(trace(family, facts, records), calls))
    return 0


def _opened(stack: ExitStack, path: Path) -> Iterator[str]:
    """Its lines; bytes that are no text become signs that no record can hold."""
    try:
        file = stack.enter_context(path.open(encoding="utf-8", errors="replace", newline="\n"))
        yield from file
    except OSError as error:
        raise CliError("file", f"{path} cannot be read: {error.strerror}.") from error


def _wanted(lines: Iterable[Line], calls: bool) -> Iterator[Line]:
    hidden = () if calls else (recording.CALL, recording.CYCLE)
    return (line for line in lines if line.mark not in hidden)


def _print(facts: dict[str, str], lines: Iterator[Line]) -> None:
    print("\n".join(_shown(f"{name}: {fact}") for name, fact in facts.items()))
    began_us: int | None = None
    for line in lines:
        began_us = line.at_us if began_us is None else began_us
        seconds = (line.at_us - began_us) / 1e6
        print(f"{seconds:14.6f} {line.mark} {_words(line)}")


def _words(line: Line) -> str:
    if line.damage:
        # What stands in a damaged line may steer a terminal: only bytes are shown, as hex.
        return f"DAMAGED {line.damage} [{(line.data or line.text.encode()).hex(' ')}]"
    return _shown(line.text) or recording.MARKS[line.mark]


def _shown(text: str) -> str:
    """Nothing that was said on the line may steer a terminal."""
    return "".join(
        letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text
    )


def _print_json(facts: dict[str, str], lines: Iterator[Line]) -> None:
    from tmsctl.cli.show import print_json

    print_json({"recording": facts})
    for line in lines:
        body: Json = {"t_us": line.at_us, "mark": line.mark, "text": line.text}
        if line.damage:
            body |= {"damage": line.damage, "bytes": line.data.hex()}
        print_json(body)
