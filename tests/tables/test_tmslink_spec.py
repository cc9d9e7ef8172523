"""docs/tmslink.md says what the code does, and its test vectors hold for a reader of their own."""

from __future__ import annotations

import re
import struct
from pathlib import Path

import pytest

from firmware_protocol.tmslink import messages as m
from firmware_protocol.tmslink.spec import SECTIONS, fill, main

PAGE = Path(__file__).parents[2] / "docs" / "tmslink.md"
VECTOR = re.compile(
    r"^(\w+) session=0x(\w+) sequence=(\d+)\n(?:  (.+=.+)\n)?  body  (\w+)\n  wire  (\w+)$",
    re.MULTILINE,
)
FRAMES = VECTOR.findall(PAGE.read_text(encoding="utf-8"))


def checksum(data: bytes, register: int = 0xFFFFFFFF) -> int:
    for byte in data:
        register ^= byte << 24
        for _ in range(8):
            register = register << 1 ^ (0x1F1922815 if register >> 31 else 0)
    return register


def unstuffed(wire: bytes) -> bytes:
    assert wire[0] == wire[-1] == 0
    pieces, rest = [], wire[1:-1]
    while rest:
        pieces.append(rest[1 : rest[0]])
        rest = rest[rest[0] :]
    return b"\0".join(pieces)


def test_the_page_is_up_to_date() -> None:
    assert main(["--check", str(PAGE)]) == 0


def test_a_page_that_is_out_of_date_is_found_and_made_anew(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page.md"
    page.write_text(PAGE.read_text(encoding="utf-8").replace("0xED2C5F4E", "0xED2C5F4F"))
    before = page.read_text()
    assert main(["--check", str(page)]) == 1
    assert "out of date" in capsys.readouterr().err
    assert page.read_text() == before
    assert main([str(page)]) == 0
    assert main(["--check", str(page)]) == 0


def test_a_page_without_one_of_the_sections_is_refused_in_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = PAGE.read_text(encoding="utf-8")
    with pytest.raises(ValueError, match="must have each of"):
        fill(text.replace("<!-- generated: states -->", ""))
    assert main([str(tmp_path / "missing.md")]) == 1
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_every_message_and_every_field_is_on_the_page() -> None:
    text = PAGE.read_text(encoding="utf-8")
    for spec in m.TABLE.specs:
        assert f"### 0x{spec.code:02X} " in text
        assert all(f"| `{field.name}` | " in text for field in spec.fields)
        assert all(len(field.doc) > 3 for field in spec.fields)


def test_offsets_add_up_to_the_size_of_the_payload() -> None:
    sizes = {"u8": 1, "u16": 2, "u32": 4, "u64": 8, "i16": 2, "text[8]": 8, "text[12]": 12}
    for part in SECTIONS["messages"]().split("### ")[1:]:
        payload = re.search(r"payload (\d+) bytes", part)
        assert payload
        at = 0
        for offset, kind in re.findall(r"^\| (\d+) \| `\w+` \| ([^ ]+) \|", part, re.MULTILINE):
            assert int(offset) == at
            at += sizes[kind]
        assert at == int(payload[1])


def test_vectors_exist_for_the_messages_that_a_firmware_begins_with() -> None:
    names = [name for name, *_ in FRAMES]
    assert names == ["HELLO", "IDENTITY", "BEAT", "TRAIN", "STATUS", "STOP"]


@pytest.mark.parametrize("vector", FRAMES, ids=lambda vector: vector[0])
def test_a_vector_is_what_a_reader_of_the_specification_would_make(
    vector: tuple[str, ...],
) -> None:
    name, session, sequence, values, body_hex, wire_hex = vector
    body = bytes.fromhex(body_hex)
    assert unstuffed(bytes.fromhex(wire_hex)) == body
    seed = checksum(b"TR000001") if name in ("BEAT", "TRAIN", "STATUS") else 0xFFFFFFFF
    assert int.from_bytes(body[-4:], "little") == checksum(body[:-4], seed)
    layouts = {
        "HELLO": "HIQ",
        "IDENTITY": "HIQ8s12sIIH",
        "BEAT": "IQQQH",
        "TRAIN": "IQQHIBIB",
        "STATUS": "QQIIBBBHhhIIHH",
        "STOP": "",
    }
    code, got_session, got_sequence, *got = struct.unpack("<BII" + layouts[name], body[:-4])
    assert (got_session, got_sequence) == (int(session, 16), int(sequence))
    assert m.TABLE.by_code[code].name.upper() == name
    texts = [str(v.rstrip(b"\0"), "ascii") if isinstance(v, bytes) else str(v) for v in got]
    assert texts == [cell.split("=")[1] for cell in values.split()]


def test_one_frame_is_pinned_by_hand() -> None:
    """HELLO, version 1, nonce 0xDEADBEEF, host time 1 s: written out from the specification."""
    body = struct.pack("<BIIHIQ", 0x01, 0, 0, 1, 0xDEADBEEF, 1_000_000)
    assert body.hex() == "0100000000000000000100efbeadde40420f0000000000"
    assert FRAMES[0][5] == "00020101010101010101020108efbeadde40420f01010101052e2e628b00"
