"""The protocol library: TOML files, read strictly, each of which must agree with its own totals.

No field that shapes a dose has a default: a file that does not say it is refused.
"""

from __future__ import annotations

import hashlib
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Final

from tmsctl.safety.limits import TABLE

LIBRARY: Final = Path(__file__).resolve().parent / "library"
"""The protocols that ship with the program."""

FILE_SIZE_MAX: Final = 16_384
TEXT_MAX: Final = 1_000
HOUR_US: Final = 3_600_000_000

PCT_MT: Final = range(1, 201)
"""Intensities that can be written down, % of motor threshold."""

EVIDENCE: Final = ("confirmed", "from memory, unverified")

_ID: Final = re.compile(r"[a-z0-9](-?[a-z0-9])*")
_ID_MAX: Final = 32  # bytes of the protocol's name in a message to the guard

_TEXTS: Final = ("id", "title", "target", "mt_basis", "source", "evidence", "reviewer")

_NUMBERS: Final = {
    "pct_mt": PCT_MT,
    "pulses_per_burst": range(1, 6),
    "interval_us": range(HOUR_US + 1),
    "burst_period_us": range(1, HOUR_US + 1),
    "bursts_per_train": range(1, 100_001),
    "train_period_us": range(1, HOUR_US + 1),
    "trains": range(1, 1_001),
    "pulses": range(1, 100_001),
    "span_us": range(24 * HOUR_US + 1),
    "cycle_us": range(1, 24 * HOUR_US + 1),
}

EXCEEDABLE: Final = {
    row.name: (
        range(row.bound + 1, row.absolute + 1) if row.at_most else range(row.absolute, row.bound)
    )
    for row in TABLE
    if row.settable and row.bound != row.absolute
}
"""Limits that a protocol may exceed, and how far: from the soft bound to the absolute layer."""


class ProtocolFileError(ValueError):
    """One sentence: the file, the key, its value, and what is allowed."""


@dataclass(frozen=True, slots=True)
class Protocol:
    """One protocol file. Times in microseconds; totals are declared in the file and checked."""

    id: str
    title: str
    target: str
    pct_mt: int  # % of motor threshold
    mt_basis: str  # which motor threshold
    pulses_per_burst: int
    interval_us: int  # pulse to pulse inside a burst; 0 for one pulse a burst
    burst_period_us: int  # onset to onset
    bursts_per_train: int
    train_period_us: int  # onset to onset
    trains: int
    pulses: int
    span_us: int  # first pulse to last pulse
    cycle_us: int  # trains x train period
    source: str
    evidence: str  # one of EVIDENCE
    reviewer: str  # empty: not reviewed by a clinician
    exceeds: Mapping[str, int] = field(hash=False)  # limit name -> value for this protocol
    exceeds_reason: str  # empty when it exceeds nothing
    hash: str  # hexadecimal SHA-256 of the file's bytes

    @property
    def train_on_us(self) -> int:
        """Length of a train with its whole last burst period, as safety tables count it."""
        return self.bursts_per_train * self.burst_period_us

    @property
    def train_span_us(self) -> int:
        """First pulse to last pulse of a train."""
        burst_span_us = (self.pulses_per_burst - 1) * self.interval_us
        return (self.bursts_per_train - 1) * self.burst_period_us + burst_span_us

    @property
    def off_us(self) -> int:
        """Inter-train interval read as off-time: whole last burst period to the next train."""
        return self.train_period_us - self.train_on_us

    @property
    def gap_us(self) -> int:
        """Inter-train interval read as last pulse to first pulse of the next train."""
        return self.train_period_us - self.train_span_us


def load_library(folders: Iterable[Path] = ()) -> dict[str, Protocol]:
    """The shipped protocols and those of `folders`, by id. ProtocolFileError when one is wrong."""
    library: dict[str, Protocol] = {}
    found_in: dict[str, Path] = {}
    for folder in dict.fromkeys(folder.resolve() for folder in (LIBRARY, *folders)):
        if not folder.is_dir():
            raise ProtocolFileError(f"{folder}: not a folder of protocol files (*.toml).")
        for path in sorted(folder.glob("*.toml")):
            protocol = load_protocol(path)
            if protocol.id in library:
                raise _wrong(path, "id", protocol.id, f"an id not used in {found_in[protocol.id]}")
            library[protocol.id] = protocol
            found_in[protocol.id] = path
    return library


def load_protocol(path: Path) -> Protocol:
    """One file. ProtocolFileError for anything unknown, missing, out of range or contradictory."""
    content = _read(path)
    table = _parse(path, content)
    keys = {*_TEXTS, *_NUMBERS}
    for key in sorted(table.keys() - keys - {"exceeds"}):
        raise _wrong(path, key, table[key], f"only {', '.join(sorted(keys))} and [exceeds]")
    for key in sorted(keys - table.keys()):
        raise ProtocolFileError(f"{path}: {key} is missing; it has no default.")
    exceeds, reason = _exceeds(path, table.get("exceeds"))
    texts = {key: _text(path, key, table[key]) for key in _TEXTS}
    numbers = {key: _number(path, key, table[key], _NUMBERS[key]) for key in _NUMBERS}
    protocol = Protocol(
        id=texts["id"],
        title=texts["title"],
        target=texts["target"],
        pct_mt=numbers["pct_mt"],
        mt_basis=texts["mt_basis"],
        pulses_per_burst=numbers["pulses_per_burst"],
        interval_us=numbers["interval_us"],
        burst_period_us=numbers["burst_period_us"],
        bursts_per_train=numbers["bursts_per_train"],
        train_period_us=numbers["train_period_us"],
        trains=numbers["trains"],
        pulses=numbers["pulses"],
        span_us=numbers["span_us"],
        cycle_us=numbers["cycle_us"],
        source=texts["source"],
        evidence=texts["evidence"],
        reviewer=texts["reviewer"],
        exceeds=exceeds,
        exceeds_reason=reason,
        hash=hashlib.sha256(content).hexdigest(),
    )
    _self_check(path, protocol)
    return protocol


def _wrong(path: Path, key: str, value: object, allowed: str) -> ProtocolFileError:
    shown = repr(value)
    shown = shown if len(shown) <= 60 else shown[:57] + "..."
    return ProtocolFileError(f"{path}: {key} is {shown}; allowed is {allowed}.")


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(FILE_SIZE_MAX + 1)
    except OSError as error:
        raise ProtocolFileError(f"{path}: cannot be read ({error.strerror}).") from error
    if len(content) > FILE_SIZE_MAX:
        raise ProtocolFileError(f"{path}: longer than the {FILE_SIZE_MAX} bytes that are allowed.")
    return content


def _parse(path: Path, content: bytes) -> dict[str, object]:
    try:
        return tomllib.loads(content.decode())
    except (ValueError, RecursionError) as error:  # not UTF-8, not TOML, absurd number or nesting
        raise ProtocolFileError(f"{path}: not a TOML file ({error}).") from error


def _text(path: Path, key: str, value: object) -> str:
    if type(value) is not str or len(value) > TEXT_MAX or not value.isprintable():
        raise _wrong(path, key, value, f"one line of text of at most {TEXT_MAX} characters")
    if not value.strip() and key != "reviewer":
        raise _wrong(path, key, value, "a text that is not empty")
    return value


def _number(path: Path, key: str, value: object, allowed: range) -> int:
    if type(value) is not int or value not in allowed:
        raise _wrong(path, key, value, f"a whole number {allowed.start}..{allowed.stop - 1}")
    return value


def _exceeds(path: Path, table: object) -> tuple[Mapping[str, int], str]:
    """The [exceeds] table: limit names with their values, and the reason."""
    if table is None:
        return MappingProxyType({}), ""
    if not isinstance(table, dict) or len(table) < 2 or "reason" not in table:
        raise _wrong(path, "[exceeds]", table, "a table of at least one limit, and a reason")
    values = {}
    for name in sorted(table.keys() - {"reason"}):
        if name not in EXCEEDABLE:
            raise _wrong(path, f"exceeds.{name}", table[name], f"only {', '.join(EXCEEDABLE)}")
        values[name] = _number(path, f"exceeds.{name}", table[name], EXCEEDABLE[name])
    return MappingProxyType(values), _text(path, "exceeds.reason", table["reason"])


def _self_check(path: Path, p: Protocol) -> None:
    """Each value on its own was in range; here they must agree with each other."""
    burst_span_us = (p.pulses_per_burst - 1) * p.interval_us
    pulses = p.trains * p.bursts_per_train * p.pulses_per_burst
    span_us = (p.trains - 1) * p.train_period_us + p.train_span_us
    cycle_us = p.trains * p.train_period_us
    one_pulse = p.pulses_per_burst == 1
    id_well_formed = _ID.fullmatch(p.id) is not None and len(p.id) <= _ID_MAX
    checks = (
        ("id", id_well_formed, f"a-z, 0-9 and single hyphens, at most {_ID_MAX} characters"),
        ("id", p.id == path.stem, f"{path.stem!r}, the name of the file"),
        ("evidence", p.evidence in EVIDENCE, " or ".join(map(repr, EVIDENCE))),
        ("interval_us", one_pulse == (p.interval_us == 0), "0 with one pulse a burst, else more"),
        ("burst_period_us", p.burst_period_us > burst_span_us, f"more than {burst_span_us}"),
        ("train_period_us", p.off_us >= 0, f"at least {p.train_on_us}, the train itself"),
        ("pulses", p.pulses == pulses, f"{pulses}, which the pattern gives"),
        ("span_us", p.span_us == span_us, f"{span_us}, which the pattern gives"),
        ("cycle_us", p.cycle_us == cycle_us, f"{cycle_us}, which the pattern gives"),
    )
    for key, right, allowed in checks:
        if not right:
            raise _wrong(path, key, getattr(p, key), allowed)
