"""Framing of tmslink: whatever arrives, nothing raises or grows, and the next frame is read."""

from __future__ import annotations

import itertools
import random
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware_protocol.crc import crc32
from firmware_protocol.quantities import BootUs
from firmware_protocol.tmslink import messages as m
from firmware_protocol.tmslink.framing import Deframer, body_of, frame, stuff, unstuff
from firmware_protocol.tmslink.link import BadFrame, Link, LinkEvent
from firmware_protocol.tmslink.spec import VECTORS, vector_body
from tests.properties.damage import mutated

BODIES = st.binary(min_size=m.HEADER_SIZE + m.CRC_SIZE, max_size=m.BODY_SIZE_MAX)
MOSTLY_ZEROS = st.lists(st.sampled_from([0, 0, 0, 1, 255]), min_size=13, max_size=61).map(bytes)


def reference_stuff(body: bytes) -> bytes:
    """As docs/tmslink.md says it: cut at the zeros, put 1 + its length before each piece."""
    return b"".join(bytes([len(piece) + 1]) + piece for piece in body.split(b"\0"))


def reference_unstuff(stuffed: bytes) -> bytes:
    """Of valid input."""
    pieces = []
    while stuffed:
        pieces.append(stuffed[1 : stuffed[0]])
        stuffed = stuffed[stuffed[0] :]
    return b"\0".join(pieces)


def bodies_in(deframer: Deframer, data: bytes) -> list[bytes | None]:
    """Bodies of the pieces that have ended; None for a piece that is no frame."""
    return [body_of(piece) for piece in deframer.feed(data) if piece]


def fed(deframer: Deframer, stream: bytes, sizes: list[int]) -> list[bytes | None]:
    """Bodies from a stream that arrives in chunks of these sizes, repeated."""
    bodies: list[bytes | None] = []
    at = 0
    for size in itertools.cycle(sizes):
        if at >= len(stream):
            return bodies
        bodies += bodies_in(deframer, stream[at : at + size])
        at += size
    raise AssertionError("no sizes")


@pytest.mark.parametrize("size", range(m.BODY_SIZE_MAX + 1))
def test_bodies_of_every_length_survive_stuffing(size: int) -> None:
    rng = random.Random(size)
    for zeros in (0, 1, size // 2, size):
        body = bytearray(rng.randbytes(size))
        for place in rng.sample(range(size), min(zeros, size)):
            body[place] = 0
        stuffed = stuff(bytes(body))
        assert stuffed == reference_stuff(bytes(body))
        assert 0 not in stuffed
        assert len(stuffed) == size + 1
        assert unstuff(stuffed) == reference_unstuff(stuffed) == body


@given(body=BODIES | MOSTLY_ZEROS)
def test_stuffing_agrees_with_a_second_implementation(body: bytes) -> None:
    assert stuff(body) == reference_stuff(body)
    assert unstuff(reference_stuff(body)) == body


@given(piece=st.binary(min_size=1, max_size=400).map(lambda raw: raw.replace(b"\0", b"\1")))
def test_unstuffing_anything_gives_either_nothing_or_what_stuffs_to_the_same_bytes(
    piece: bytes,
) -> None:
    body = unstuff(piece)
    if body is not None and len(piece) < 254:
        assert stuff(body) == piece


@given(
    bodies=st.lists(BODIES | MOSTLY_ZEROS, min_size=1, max_size=8),
    sizes=st.lists(st.integers(1, 90), min_size=1, max_size=20),
)
def test_the_chunks_in_which_a_stream_arrives_make_no_difference(
    bodies: list[bytes], sizes: list[int]
) -> None:
    assert fed(Deframer(), b"".join(map(frame, bodies)), sizes) == bodies


@given(
    garbage=st.binary(max_size=400)
    | st.lists(st.sampled_from([0, 1, 2, 24, 63, 255]), max_size=400).map(bytes),
    body=BODIES,
    sizes=st.lists(st.integers(1, 90), min_size=1, max_size=20),
)
def test_the_first_good_frame_after_any_garbage_is_accepted(
    garbage: bytes, body: bytes, sizes: list[int]
) -> None:
    assert fed(Deframer(), garbage + frame(body), sizes)[-1:] == [body]


@given(body=BODIES, cut=st.integers(0, m.FRAME_SIZE_MAX), next_body=BODIES)
def test_a_frame_cut_short_costs_only_itself(body: bytes, cut: int, next_body: bytes) -> None:
    torn = frame(body)[:cut]
    assert bodies_in(Deframer(), torn + frame(next_body))[-1:] == [next_body]


def test_the_stop_burst_before_a_frame_does_not_hurt_the_frame() -> None:
    body = vector_body(*VECTORS[0])
    assert bodies_in(Deframer(), m.STOP_BYTES + frame(body)) == [None, body]


def test_the_longest_body_is_read_and_one_byte_more_is_garbage() -> None:
    longest = bytes(range(1, m.BODY_SIZE_MAX + 1))
    deframer = Deframer()
    assert len(frame(longest)) == m.FRAME_SIZE_MAX
    assert bodies_in(deframer, frame(longest)) == [longest]
    assert bodies_in(deframer, frame(longest + b"x")) == [None]


def test_the_shortest_body_is_read_and_one_byte_less_is_garbage() -> None:
    shortest = bytes(range(1, m.HEADER_SIZE + m.CRC_SIZE + 1))
    deframer = Deframer()
    assert bodies_in(deframer, frame(shortest)) == [shortest]
    assert bodies_in(deframer, frame(shortest[:-1])) == [None]


@pytest.mark.parametrize("chunk", [16, 64, 4096])
def test_a_megabyte_without_a_delimiter_takes_no_memory(chunk: int) -> None:
    deframer, noise = Deframer(), b"\x55" * chunk
    deframer.feed(noise)
    tracemalloc.start()
    for _ in range(1_000_000 // chunk):
        deframer.feed(noise)
    held, _peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 1_024
    body = vector_body(*VECTORS[0])
    assert bodies_in(deframer, frame(body))[-1:] == [body]


def test_every_one_and_two_bit_error_on_the_wire_of_a_full_size_frame_is_refused() -> None:
    """Stuffing can turn one wrong bit into many; lengths and checksum must still catch it."""
    content = random.Random(5).randbytes(m.BODY_SIZE_MAX - m.CRC_SIZE)
    sent = stuff(content + crc32(content).to_bytes(m.CRC_SIZE, "little"))
    word = int.from_bytes(sent, "big")

    def is_accepted(wrong: int) -> bool:
        piece = (word ^ wrong).to_bytes(len(sent), "big")
        bodies = bodies_in(Deframer(), b"\0" + piece + b"\0")
        return any(b and crc32(b[: -m.CRC_SIZE]).to_bytes(4, "little") == b[-4:] for b in bodies)

    bits = [1 << place for place in range(8 * len(sent))]
    assert is_accepted(0)
    assert not any(is_accepted(one) for one in bits)
    assert not any(is_accepted(one ^ two) for one, two in itertools.combinations(bits, 2))


def session_stream(count: int) -> bytes:
    """HELLO's answer and `count` status frames of the session that it opens."""
    bodies = [vector_body(*VECTORS[1])]
    session, first, status = VECTORS[4]
    bodies += [
        vector_body(session, first + n, status._replace(pulse_count=n)) for n in range(count)
    ]
    return b"".join(map(frame, bodies))


def believed(events: list[LinkEvent]) -> list[LinkEvent]:
    return [event for event in events if not isinstance(event, BadFrame)]


def test_fifty_thousand_damaged_streams_raise_nothing_and_make_nothing_up() -> None:
    rng = random.Random(6)
    clean = session_stream(3)
    _session, _sequence, hello = VECTORS[0]
    opened = Link()
    opened.hello(hello, hello.nonce)
    honest = set(believed(opened.receive(clean, BootUs(0))))
    assert len(honest) == 4
    whole = 0
    for _ in range(50_000):
        link = Link()
        link.hello(hello, hello.nonce)
        events = link.receive(mutated(clean, rng, 6, 0), BootUs(0))
        assert honest.issuperset(believed(events))
        whole += len(believed(events)) == 4
    assert whole < 25_000  # the mutations do damage
