"""The file of what passed on a line, one line a record: written and read. See docs/recording.md.

Pure functions over lines of text: who has a file opens it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final, NamedTuple

FORMAT: Final = 1
_FIRST: Final = "# tmsctl recording "
_FLIGHT: Final = "# tmsctl flight recorder"

FROM_DEVICE: Final = "<"
TO_DEVICE: Final = ">"
NOT_TAKEN: Final = "x"
STOPPED: Final = "^"
OPENED: Final = "+"
CLOSED: Final = "-"
FAILED: Final = "!"
CALL: Final = ":"
CYCLE: Final = "="
LOST: Final = "~"
MARKS: Final = {
    FROM_DEVICE: "bytes that were read",
    TO_DEVICE: "bytes that were written, and that the line took",
    NOT_TAKEN: "bytes that were to be written, and that the line did not take whole",
    STOPPED: "STOP was sent by the port's own way, beside the bytes (USB)",
    OPENED: "the port was opened",
    CLOSED: "the port was closed by the program",
    FAILED: "reading or writing failed: errno and sentence",
    CALL: "the driver was asked: word and numbers, see Calls",
    CYCLE: "a cycle of the guard (flight recorder)",
    LOST: "so many records before this one were not kept: the disk was too slow",
}
SPOILT: Final = "?"
"""What `read` calls a line that it cannot read; it is never written."""

_BYTES: Final = frozenset((FROM_DEVICE, TO_DEVICE, NOT_TAKEN))


def holds_bytes(mark: str) -> bool:
    """Are the data of such a record bytes of the line, and not words about it?"""
    return mark in _BYTES


class Record(NamedTuple):
    """One line: instant in microseconds (CLOCK_BOOTTIME), what it is, and its bytes or text."""

    at_us: int
    mark: str
    data: bytes

    @property
    def is_bytes(self) -> bool:
        """See `holds_bytes`."""
        return self.mark in _BYTES

    @property
    def text(self) -> str:
        return self.data.hex() if self.is_bytes else self.data.decode(errors="replace")


def line_of(record: Record) -> str:
    """With its end: a line without one was cut short and is not believed."""
    return f"{record.at_us} {record.mark} {record.text}".rstrip() + "\n"


def header_of(facts: Mapping[str, str]) -> str:
    """The lines that begin a file. What would end a line early becomes a space."""
    lines = [f"{_FIRST}{FORMAT}"]
    lines += [f"# {name} {' '.join(fact.split())}".rstrip() for name, fact in facts.items()]
    return "".join(f"{line}\n" for line in lines)


def read(lines: Iterable[str]) -> tuple[dict[str, str], Iterator[Record]]:
    """Facts of the header, and the records behind it; ValueError when it is no such file.

    Reads as it goes: a file may be longer than the memory. A later header is passed over, so that
    the parts of one recording can be read one after the other.
    """
    several = iter(lines)
    first = next(several, "").rstrip("\n")
    if first.startswith(_FIRST):
        version = first.removeprefix(_FIRST)
        if version != str(FORMAT):
            raise ValueError(f"format {version!r} of the recording is not known; {FORMAT} is")
    elif not first.startswith(_FLIGHT):
        raise ValueError("neither a recording nor a file of the flight recorder")
    facts: dict[str, str] = {}
    begun: list[str] = []
    for line in several:
        if not line.startswith("#"):
            begun.append(line)
            break
        name, _, fact = line[1:].strip().partition(" ")
        facts.setdefault(name, fact)
    return facts, _records(begun, several)


def _records(begun: Iterable[str], rest: Iterable[str]) -> Iterator[Record]:
    at_us = 0
    for lines in (begun, rest):
        for line in lines:
            if line.startswith("#"):
                continue
            record = _record(line)
            if record is None:
                yield Record(at_us, SPOILT, line.rstrip("\n").encode())
                continue
            at_us = record.at_us
            yield record


def _record(line: str) -> Record | None:
    at, _, rest = line.partition(" ")
    mark, _, text = rest.rstrip("\n").partition(" ")
    if not line.endswith("\n") or not (at.isascii() and at.isdigit()) or mark not in MARKS:
        return None
    try:
        data = bytes.fromhex(text) if mark in _BYTES else text.encode()
    except ValueError:
        return None
    return Record(int(at), mark, data)
