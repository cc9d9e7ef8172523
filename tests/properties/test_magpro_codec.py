"""Both parsers of the MagPro line: whatever arrives, nothing raises or grows, frames come through.

A reference that looks at the whole stream at once says what each of them has to find.
"""

from __future__ import annotations

import random
import tracemalloc
from collections.abc import Callable

import pytest

from firmware_protocol.magpro import messages as m
from firmware_protocol.magpro.coding import decode, encode
from firmware_protocol.magpro.framing import FRAME_SIZE_MAX, BadMessage, Decoder, Deframer, frame
from firmware_protocol.magpro.layout import row_of
from firmware_protocol.table import Direction
from sim_device.magpro_wire import COMMAND_SIZE_MAX, Command, Flaw, Line, Malformed, seal

STREAMS = 30_000
"""For each parser."""

COMMANDS = [
    encode(message)
    for message in (
        m.GetShortStatus(), m.SetAmplitude(50), m.SetAmplitude(50, 40), m.Enable(), m.Disable(),
        m.Fire(), m.Fire(1), m.Start(), m.SetTrain(100, 5, 3, 10), m.SetPage(2, 0),
        m.SetTrigger(0, -50, 0), m.SetWaveform(1, 0, 0, 3, 2, 254, 255), m.GetCounters(),
    )
]  # fmt: skip
REPLIES = [
    encode(message)
    for message in (
        m.ShortStatus(0x34, 0xFEFF01, 22, 60, 50, 0), m.Amplitude(50, 0, 0x34),
        m.Didt(255, 254, 0x34), m.Coil(20, 73, 0x34), m.PageStatus(2, 1, 0x34),
        m.WaveformStatus(1, 0, 0, 3, 2, 80, 80), m.Delays(0, -50, 0), m.Counters(1, 5, 0xFEFF, 2),
        m.LongStatus(0x34, 0xFFFFFF, 22, 60, 50, 0, 50, 0, 100, 100, 2, 1),
    )
]  # fmt: skip
FIRE = Command(row_of(m.Fire), {"one": 1})
SHARP = b"\xfe\xff\x00\x01\x02\x04\x09\x20\x21"
"""Bytes that mean something to a parser."""


def stream_of(rng: random.Random, payloads: list[bytes]) -> bytes:
    """Frames, noise, and frames with a bit flipped, a byte lost, or cut short."""
    pieces = []
    for _ in range(rng.randrange(1, 4)):
        kind = rng.random()
        good = frame(rng.choice(payloads))
        at = rng.randrange(len(good))
        if kind < 0.5:
            pieces.append(good)
        elif kind < 0.65:
            pieces.append(bytes(rng.choices(SHARP, k=rng.randrange(1, 6))))
        elif kind < 0.75:
            pieces.append(rng.randbytes(rng.randrange(1, 8)))
        elif kind < 0.85:
            pieces.append(good[:at] + bytes((good[at] ^ 1 << rng.randrange(8),)) + good[at + 1 :])
        elif kind < 0.95:
            pieces.append(good[:at] + good[at + 1 :])
        else:
            pieces.append(good[:at])
    return b"".join(pieces)


def chunks(rng: random.Random, stream: bytes) -> list[bytes]:
    """The stream in up to four pieces."""
    cuts = sorted(rng.randrange(len(stream) + 1) for _ in range(rng.randrange(4)))
    return [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]


def reference(stream: bytes, size_max: int) -> list[bytes]:
    """Payloads of the whole frames, from the left; what is no frame costs one byte."""
    found, at = [], 0
    while at < len(stream):
        size = stream[at + 1] if at + 1 < len(stream) else 0
        piece = stream[at : at + size + 4]
        if stream[at] == 0xFE and 1 <= size <= size_max:
            if len(piece) < size + 4:
                break
            if piece[-1] == 0xFF and piece == seal(piece[2:-2]):
                found.append(piece[2:-2])
                at += len(piece)
                continue
        elif stream[at] == 0xFE and at + 1 == len(stream):
            break
        at += 1
    return found


def test_the_host_finds_in_any_stream_and_any_chunks_what_the_reference_finds() -> None:
    rng = random.Random(0x3A61)
    found_any = 0
    for _ in range(STREAMS):
        stream = stream_of(rng, REPLIES)
        deframer = Deframer()
        found = [payload for chunk in chunks(rng, stream) for payload in deframer.feed(chunk)]
        assert found == reference(stream, m.PAYLOAD_SIZE_MAX), stream.hex()
        assert len(deframer._buffer) < FRAME_SIZE_MAX
        found_any += len(found)
    assert found_any > STREAMS // 2


def test_the_device_finds_in_any_stream_and_any_chunks_what_the_reference_finds() -> None:
    rng = random.Random(0x3A62)
    for _ in range(STREAMS):
        stream = stream_of(rng, COMMANDS)
        line = Line()
        items = [item for chunk in chunks(rng, stream) for item in line.feed(chunk)]
        sealed = [name for item in items if (name := _name(item)) is not None]
        wanted = reference(stream, COMMAND_SIZE_MAX)
        assert sealed == [_wanted_name(payload) for payload in wanted], stream.hex()
        assert len(line._held) < COMMAND_SIZE_MAX + 4


def _name(item: Command | Malformed) -> str | None:
    """Of a frame with the right checksum: its message, or its bytes when it means nothing."""
    if isinstance(item, Command):
        return item.row.name
    return item.data[2:-2].hex() if seal(item.data[2:-2]) == item.data else None


def _wanted_name(payload: bytes) -> str:
    row = m.find_row(payload, Direction.TO_DEVICE)
    return payload.hex() if row is None or len(payload) not in row.sizes else row.name


@pytest.mark.parametrize("payload", COMMANDS, ids=bytes.hex)
def test_both_sides_read_the_same_in_a_command(payload: bytes) -> None:
    (command,) = Line().feed(frame(payload))
    assert isinstance(command, Command)
    message = decode(payload, Direction.TO_DEVICE)
    values = {f.name: getattr(message, f.name) for f in command.row.fields}
    assert command.values == {name: value for name, value in values.items() if value is not None}
    assert command.row.make is type(message)


@pytest.mark.parametrize("payload", REPLIES, ids=bytes.hex)
def test_both_sides_seal_alike(payload: bytes) -> None:
    assert frame(payload) == seal(payload)


def test_fe_and_ff_inside_a_frame_end_nothing() -> None:
    payload = encode(m.ShortStatus(0xFE, 0xFFFEFF, 0xFF, 0xFE, 0xFE, 0xFF))
    assert Deframer().feed(frame(payload) * 2) == [payload, payload]
    (command,) = Line().feed(frame(encode(m.SetTrigger(0, -50, 0))))
    assert isinstance(command, Command)
    assert command.values["delay_out_dms"] == -50


@pytest.mark.parametrize("make", [Deframer, Line])
def test_behind_any_noise_a_frame_is_found_once_the_line_has_moved_on(
    make: Callable[[], Deframer | Line],
) -> None:
    """Noise may look like the beginning of a frame; it costs at most the longest one."""
    rng = random.Random(0x3A63)
    payload = encode(m.Fire(1))
    for _ in range(500):
        noise = bytes(rng.choices(SHARP, k=rng.randrange(1, 60)))
        found = make().feed(noise + frame(payload) + bytes(FRAME_SIZE_MAX))
        last = found[-1]
        assert last == payload if isinstance(last, bytes) else last == FIRE


def test_silence_frees_what_hides_behind_the_beginning_of_a_frame() -> None:
    payload = encode(m.Amplitude(50, 0, 0x34))
    decoder = Decoder()
    assert decoder.feed(b"\xfe\x20" + frame(payload)) == []
    assert decoder.silence() == [m.Amplitude(50, 0, 0x34)]
    assert (decoder.skipped, decoder.silence()) == (2, [])
    assert decoder.feed(b"\xfe") == []
    assert decoder.silence() == []
    assert decoder.skipped == 3


def test_the_longest_frame_is_waited_for_and_a_longer_one_is_none() -> None:
    for parser, longest in ((Deframer(), 32), (Line(), 16)):
        assert parser.feed(bytes((0xFE, longest)) + bytes(longest + 1)) == []
        assert len(parser._buffer if isinstance(parser, Deframer) else parser._held) == longest + 3
    deframer = Deframer()
    assert deframer.feed(b"\xfe\x21") == []
    assert deframer.skipped == 2
    assert Line().feed(b"\xfe\x11") == [Malformed(Flaw.LENGTH, b"\xfe\x11")]


@pytest.mark.parametrize(
    ("flaw", "data"),
    [
        (Flaw.LENGTH, b"\xfe\x00"),
        (Flaw.END, frame(b"\x04")[:-1] + b"\x00"),
        (Flaw.CHECKSUM, b"\xfe\x01\x04\x00\xff"),
        (Flaw.UNKNOWN, frame(b"\x0d")),
        (Flaw.UNKNOWN, frame(b"\x02\x02")),
        (Flaw.SIZE, frame(b"\x04\x00")),
    ],
)
def test_the_device_says_why_a_frame_is_no_command(flaw: Flaw, data: bytes) -> None:
    assert Line().feed(data) == [Malformed(flaw, data)]


def test_bytes_that_belong_to_no_frame_are_counted() -> None:
    deframer = Deframer()
    assert deframer.feed(b"noise") == []
    assert deframer.skipped == 5
    deframer = Deframer()
    spoilt = bytearray(frame(encode(m.Amplitude(50, 0, 0x34))))
    spoilt[-2] ^= 1
    assert deframer.feed(b"abc" + bytes(spoilt) + frame(b"\x05")) == [b"\x05"]
    assert deframer.skipped == 3 + len(spoilt)


def test_a_sealed_frame_of_a_wrong_size_is_said_and_does_not_stop_the_next() -> None:
    decoder = Decoder()
    bad, good = decoder.feed(frame(b"\x01\x02") + frame(encode(m.Coil(20, 73, 0))))
    assert bad == BadMessage(b"\x01\x02", "Amplitude: 2 payload bytes, expected 4")
    assert good == m.Coil(20, 73, 0)


def test_a_hundred_thousand_bytes_of_noise_take_no_memory() -> None:
    rng = random.Random(0x3A64)
    deframer, line = Deframer(), Line()
    tracemalloc.start()
    for _ in range(50):
        noise = rng.randbytes(2_000)
        deframer.feed(noise)
        line.feed(noise)
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert size < 20_000
