"""Writes the generated parts of docs/tmslink.md: tables, enumerations, constants, test vectors.

Usage: python -m firmware_protocol.tmslink.spec [--check] docs/tmslink.md
"""

from __future__ import annotations

import argparse
import enum
import re
import struct
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

from firmware_protocol import table
from firmware_protocol.crc import SEED, crc32
from firmware_protocol.tmslink import messages as m
from firmware_protocol.tmslink.framing import frame, stuff
from firmware_protocol.tmslink.link import IN_FLIGHT_MAX

_TYPES: Final = {"B": "u8", "H": "u16", "I": "u32", "Q": "u64", "h": "i16", "q": "i64"}
_WHOLE: Final = {wire.code: wire for wire in (table.U8, table.U16, table.U32, table.U64, table.I16)}

_CONSTANTS: Final[tuple[tuple[str, str, str], ...]] = (
    ("dead-man", f"{m.DEAD_MAN_US} µs", "longest time without an accepted BEAT in a session"),
    ("beat period", f"{m.BEAT_PERIOD_US} µs", "BEAT, host to device"),
    ("status period", f"{m.STATUS_PERIOD_US} µs", "STATUS, device to host"),
    (
        "echo age",
        f"{m.ECHO_AGE_MAX_US} µs",
        "oldest `device_time_us` that an accepted BEAT may carry",
    ),
    ("lead", f"{m.LEAD_MIN_US} µs", "least time from the arrival of TRAIN to its first pulse"),
    ("armed idle", f"{m.ARMED_IDLE_US} µs", "longest time armed without a pulse"),
    ("STOP byte", f"0x{m.STOP_BYTE:02X}", "of the unframed STOP"),
    ("STOP run", f"{m.STOP_RUN} bytes", "in a row: the device stops"),
    ("STOP burst", f"{len(m.STOP_BYTES)} bytes", "sent by the host"),
    ("payload", f"{m.PAYLOAD_SIZE_MAX} bytes", "longest, in this and later versions"),
    ("body", f"{m.BODY_SIZE_MAX} bytes", "longest: header, payload, checksum"),
    ("frame", f"{m.FRAME_SIZE_MAX} bytes", "longest on the wire, both delimiters included"),
    ("under way", f"{IN_FLIGHT_MAX} commands", "most that a host sends before the answers come"),
)

_MEANINGS: Final[dict[type[enum.IntEnum], dict[str, str]]] = {
    m.State: {
        "IDLE": "disarmed",
        "ARMING": "armed; the capacitor is not yet at the set intensity",
        "READY": "armed and charged",
        "FIRING": "a lease runs, or waits for its first pulse",
        "LATCHED": "disarmed by a cause; only a new HELLO leaves it",
    },
    m.Cause: {
        "NONE": "nothing since power-up",
        "HOST_DISARM": "DISARM",
        "HOST_STOP": "STOP, framed or unframed",
        "DEAD_MAN": "no accepted BEAT for 50 ms",
        "NEW_SESSION": "HELLO",
        "COIL_HOT": "coil surface at or above `coil_max_dc`",
        "COIL_ABSENT": "no coil, or another one than at arming",
        "CHARGER": "capacitor or charger outside its bounds",
        "IDLE_TOO_LONG": "armed for 60 s without a pulse",
        "PERMIT_EXPIRED": "the lease's `expires_us`, or the permit of the newest BEAT, passed",
        "COMPLETE": "the lease came to its end; not a reason to disarm",
        "PANEL": "a person at the device's own controls",
    },
    m.Result: {
        "APPLIED": "done; for ARM charging has begun, for TRAIN and FIRE the lease is taken",
        "WRONG_STATE": "not allowed in this state, see Device states",
        "ABOVE_LIMIT": "a value is beyond the limits in force",
        "TOO_LATE": "`start_us` is less than 30 ms ahead (TRAIN)",
        "EXPIRED": "`expires_us` has passed, or lies before `start_us`",
        "NOT_CHARGED": "the capacitor is not at the set intensity",
        "WRONG_COIL": "another coil than the plan was made for",
        "FAULT_PRESENT": "no coil, coil still hot, charger still failing",
        "LOOSENS_LIMIT": "TIGHTEN asked for a looser limit; none of its values was taken",
        "BAD_VALUE": "outside the range of the table, no pulses at all, or not the armed intensity",
        "WRONG_VERSION": "the HELLO of this session asked for another version",
        "LEASE_NOT_NEW": "`lease_id` is not greater than the newest one",
        "NO_PERMIT": "FIRE whose time has come, and the newest BEAT permits no pulses now",
    },
}

_SERIAL: Final = "TR000001"
_SESSION: Final = 0xA1B2C3D4
VECTORS: Final[tuple[tuple[int, int, Any], ...]] = (  # session, sequence, message
    (0, 0, m.Hello(1, 0xDEADBEEF, 1_000_000)),
    (_SESSION, 1, m.Identity(1, 0xDEADBEEF, 2_500_000, _SERIAL, "reference", 0x01020300, 7, 70)),
    (_SESSION, 8, m.Beat(5, 1_050_000, 2_540_000, 2_700_000, 0xBEEF)),
    (_SESSION, 9, m.Train(1, 2_600_000, 4_700_000, 10, 200_000, 3, 20_000, 45)),
    (
        _SESSION,
        4,
        m.Status(
            2_560_000, 1_050_000, 9_000, 5, m.State.READY, m.Cause.NEW_SESSION,
            45, 450, 251, 243, 1_234, 0, 0, 70,
        ),
    ),
    (_SESSION, 10, m.Stop()),
)  # fmt: skip
_STUFFING_EXAMPLE: Final = bytes.fromhex("11 22 00 33 00 00")


def _wire_name(spec: table.Spec) -> str:
    """LeaseEnd -> LEASE_END."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", spec.name).upper()


def _grid(head: tuple[str, ...], rows: Iterable[tuple[object, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def _frame_size(spec: table.Spec) -> int:
    return spec.layout.size + m.FRAME_SIZE_MAX - m.PAYLOAD_SIZE_MAX


def _overview() -> str:
    head = ("code", "message", "direction", "effect", "payload", "frame", "at 115200", "at 921600")
    rows = []
    for spec in m.TABLE.specs:
        size = _frame_size(spec)
        times = (f"{size * 10_000 / baud:.2f} ms" for baud in (115_200, 921_600))
        cells = (spec.direction.value, spec.effect.value, spec.layout.size, size)
        rows.append((f"0x{spec.code:02X}", _wire_name(spec), *cells, *times))
    return _grid(head, rows)


def _type(wire: table.Wire) -> str:
    return f"text[{wire.high}]" if wire.is_text else _TYPES[wire.code]


def _range(wire: table.Wire) -> str:
    if wire.is_text:
        return "printable ASCII"
    return "any" if wire == _WHOLE[wire.code] else f"{wire.low}..{wire.high}"


def _messages() -> str:
    parts = []
    for spec in m.TABLE.specs:
        title = f"### 0x{spec.code:02X} {_wire_name(spec)}"
        facts = f"{spec.direction.value.capitalize()}; {spec.effect.value}; payload "
        parts += [title, f"{facts}{spec.layout.size} bytes. {spec.doc}"]
        offset, rows = 0, []
        for field in spec.fields:
            rows.append(
                (offset, f"`{field.name}`", _type(field.wire), _range(field.wire), field.doc)
            )
            offset += struct.calcsize("<" + field.wire.code)
        if rows:
            parts.append(_grid(("offset", "field", "type", "range", "meaning"), rows))
    return "\n\n".join(parts)


def _enumeration(kind: type[enum.IntEnum]) -> str:
    return _grid(
        ("value", "name", "meaning"), ((v.value, v.name, _MEANINGS[kind][v.name]) for v in kind)
    )


def _constants() -> str:
    return _grid(("what", "value", "meaning"), _CONSTANTS)


def _stuffing() -> str:
    stuffed, wire = stuff(_STUFFING_EXAMPLE), frame(_STUFFING_EXAMPLE)
    rows = (("body", _STUFFING_EXAMPLE), ("stuffed", stuffed), ("on the wire", wire))
    return "\n".join(["```text", *(f"{name:12}{data.hex(' ')}" for name, data in rows), "```"])


def vector_body(session: int, sequence: int, message: Any) -> bytes:
    """Header, payload and checksum of one test vector, before stuffing."""
    code = table.spec_of(type(message)).code
    content = struct.pack(m.HEADER, code, session, sequence) + table.pack(message)
    seed = SEED if code in m.PLAIN_SEED else crc32(_SERIAL.encode().ljust(8, b"\0"))
    return content + struct.pack("<I", crc32(content, seed))


def _vectors() -> str:
    padded = _SERIAL.encode().ljust(8, b"\0")
    lines = [
        "```text",
        f'CRC of "123456789"           0x{crc32(b"123456789"):08X}',
        f'CRC of "{_SERIAL}" (the seed) 0x{crc32(padded):08X}',
    ]
    for session, sequence, message in VECTORS:
        spec = table.spec_of(type(message))
        body = vector_body(session, sequence, message)
        fields = " ".join(f"{f.name}={v}" for f, v in zip(spec.fields, message, strict=True))
        lines += [
            "",
            f"{_wire_name(spec)} session=0x{session:08X} sequence={sequence}",
            *([f"  {fields}"] if fields else []),
            f"  body  {body.hex()}",
            f"  wire  {frame(body).hex()}",
        ]
    return "\n".join([*lines, "```"])


SECTIONS: Final[dict[str, Callable[[], str]]] = {
    "overview": _overview,
    "constants": _constants,
    "stuffing": _stuffing,
    "messages": _messages,
    "states": lambda: _enumeration(m.State),
    "causes": lambda: _enumeration(m.Cause),
    "results": lambda: _enumeration(m.Result),
    "vectors": _vectors,
}
_SECTION: Final = re.compile(r"(<!-- generated: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def fill(page: str) -> str:
    """The page with its generated sections made anew; ValueError when one is missing or unknown."""
    found = [match[2] for match in _SECTION.finditer(page)]
    if sorted(found) != sorted(SECTIONS):
        raise ValueError(
            f"the page has the generated sections {', '.join(found) or 'none'}; "
            f"it must have each of {', '.join(SECTIONS)} once"
        )
    return _SECTION.sub(lambda match: f"{match[1]}\n{SECTIONS[match[2]]()}\n\n{match[3]}", page)


def main(arguments: list[str] | None = None) -> int:
    """Exit status: 0 done or up to date, 1 out of date or not possible."""
    parser = argparse.ArgumentParser(description="Writes the generated parts of docs/tmslink.md.")
    parser.add_argument("--check", action="store_true", help="change nothing; 1 when out of date")
    parser.add_argument("page", type=Path)
    options = parser.parse_args(arguments)
    page: Path = options.page
    try:
        before = page.read_text(encoding="utf-8")
        after = fill(before)
        if not options.check:
            page.write_text(after, encoding="utf-8")
    except (OSError, ValueError) as error:
        sys.stderr.write(f"{page}: {error}\n")
        return 1
    if options.check and before != after:
        command = f"python -m firmware_protocol.tmslink.spec {page}"
        sys.stderr.write(f"{page} is out of date: run `{command}`\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
