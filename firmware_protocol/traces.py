"""The families whose bytes can be told in words."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final, NamedTuple

from firmware_protocol import recording
from firmware_protocol.duomag.trace import DuomagTrace
from firmware_protocol.magpro.trace import MagproTrace
from firmware_protocol.magstim.trace import MagstimTrace
from firmware_protocol.recording import Record
from firmware_protocol.tmslink.trace import TmslinkTrace
from firmware_protocol.traced import Trace

Facts = Mapping[str, str]

TRACES: Final[dict[str, Callable[[Facts], Trace]]] = {
    "tmslink": lambda facts: TmslinkTrace(facts.get("serial", "")),
    "magstim": lambda _: MagstimTrace(),
    "magpro": lambda _: MagproTrace(),
    "duomag": lambda _: DuomagTrace(),
}
"""Made anew each time the port is opened; `facts` is the header of the recording."""


def family_of(driver: str) -> str | None:
    """The family that the name of a driver begins with: magstim-rapid speaks magstim."""
    family = driver.partition("-")[0]
    return family if family in TRACES else None


class Line(NamedTuple):
    """One line of a trace."""

    at_us: int
    mark: str
    text: str  # empty for damaged bytes
    data: bytes  # of what is damaged
    damage: str  # why these bytes are no frame; empty for a good one


def trace(family: str, facts: Facts, records: Iterable[Record]) -> Iterator[Line]:
    """The recording in words. KeyError for a family that is not in TRACES."""
    make = TRACES[family]
    reader = make(facts)
    for record in records:
        if record.mark == recording.OPENED:
            reader = make(facts)
        if not record.is_bytes:
            spoilt = "a line that cannot be read" if record.mark == recording.SPOILT else ""
            yield Line(record.at_us, record.mark, record.text, b"", spoilt)
            continue
        to_device = record.mark != recording.FROM_DEVICE
        for told in reader.feed(record.data, to_device=to_device):
            yield Line(record.at_us, record.mark, *told)
