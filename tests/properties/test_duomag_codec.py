"""Both ends of the DuoMAG line: whatever arrives, nothing raises or grows, and it goes on."""

from __future__ import annotations

import itertools
import random
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware_protocol.duomag import messages as m
from firmware_protocol.duomag.framing import (
    AGREE,
    CommandDecoder,
    Ignored,
    StatusDecoder,
    encode,
)
from firmware_protocol.duomag.messages import Command, Kind, Status
from sim_device.duomag_wire import SIZES, Pairs, record
from tests.properties.damage import mutated

BYTES = st.integers(0, 254)
CHUNKS = st.lists(st.integers(1, 40), min_size=1, max_size=12)
STATUSES = st.builds(
    lambda body, mso: m.status_of(bytes([body[0] & 0x3F, mso, *body[2:]])),
    st.lists(BYTES, min_size=15, max_size=15),
    st.integers(0, 100),
)


def chunked(stream: bytes, sizes: list[int]) -> list[bytes]:
    pieces, at = [], 0
    for size in itertools.cycle(sizes):
        if at >= len(stream):
            return pieces
        pieces.append(stream[at : at + size])
        at += size
    raise AssertionError("no sizes")


def read(stream: bytes, sizes: list[int]) -> list[Status | Ignored]:
    decoder = StatusDecoder()
    return [found for piece in chunked(stream, sizes) for found in decoder.feed(piece)]


def believed(found: list[Status | Ignored]) -> list[Status]:
    return [one for one in found if isinstance(one, Status)]


def plain(mso_pct: int) -> Status:
    return Status(*([0] * 23), 1)._replace(mso_pct=mso_pct, charged=1)


def stream_of(count: int, size: int = 15) -> bytes:
    """Records that can be told apart, and the sync of the next one."""
    return b"".join(record(plain(n % 101), size) for n in range(count)) + b"\xff"


@given(status=STATUSES, sizes=CHUNKS)
def test_what_one_side_writes_the_other_reads_in_any_chunks(
    status: Status, sizes: list[int]
) -> None:
    stream = record(status, 15) * (AGREE + 3) + b"\xff"
    assert believed(read(stream, sizes)) == [status] * 4


@given(
    values=st.lists(st.integers(0, 255).filter(lambda b: m.BY_BYTE[b].kind is not Kind.UNKNOWN)),
    sizes=CHUNKS,
)
def test_commands_reach_the_device_in_any_chunks(values: list[int], sizes: list[int]) -> None:
    commands = [m.BY_BYTE[value] for value in values]
    stream = encode(commands)
    device, trace = Pairs(0), CommandDecoder()
    pieces = chunked(stream, sizes)
    assert [byte for piece in pieces for byte in device.feed(piece, 0)] == values
    assert [one for piece in pieces for one in trace.feed(piece)] == commands
    assert device.lonely == 0


@pytest.mark.parametrize("size", [12, 13, 14, 15, 31])
def test_the_length_is_learned_from_three_records_in_a_row(size: int) -> None:
    assert AGREE == 3
    found = read(stream_of(5, size), [7])
    assert [type(one) for one in found] == [Ignored, Ignored, Status, Status, Status]


@pytest.mark.parametrize("size", [11, 32, 33, 64])
def test_no_length_outside_the_known_ones_is_ever_believed(size: int) -> None:
    assert SIZES == (m.BODY_SIZE_MIN, m.BODY_SIZE_MAX) == (12, 31)
    assert believed(read((b"\xff" + bytes(size)) * 20 + b"\xff", [5])) == []


@pytest.mark.parametrize("place", range(16))
@pytest.mark.parametrize("change", ["lost", "added", "sync"])
def test_a_byte_too_few_or_too_many_costs_only_the_records_that_it_touches(
    place: int, change: str
) -> None:
    """Above all it never moves a value into the place of another one."""
    records = [record(plain(n), 15) for n in range(8)]
    hit = records[4]
    records[4] = {
        "lost": hit[:place] + hit[place + 1 :],
        "added": hit[:place] + b"\x01" + hit[place:],
        "sync": hit[:place] + b"\xff" + hit[place:],
    }[change]
    seen = [status.mso_pct for status in believed(read(b"".join(records) + b"\xff", [16]))]
    at_the_sync = {("lost", 0): {3, 4}, ("added", 0): {3}, ("sync", 0): set(), ("sync", 1): set()}
    hurt = at_the_sync.get((change, place), {4})
    assert seen == [n for n in range(2, 8) if n not in hurt]


def test_another_length_is_taken_when_it_stays() -> None:
    found = read(stream_of(4, 13)[:-1] + stream_of(4, 15), [50])
    assert [type(one) for one in found] == [Ignored] * 2 + [Status] * 2 + [Ignored] * 2 + [
        Status
    ] * 2


def test_two_records_that_lost_a_byte_each_are_not_enough_to_change_the_length() -> None:
    short = record(plain(50), 15)[:-1]
    stream = stream_of(4)[:-1] + short * (AGREE - 1) + stream_of(2)
    assert [s.mso_pct for s in believed(read(stream, [64]))] == [2, 3, 0, 1]


def test_a_byte_that_is_lost_on_the_way_to_the_device_costs_one_command() -> None:
    stream = encode([Command(Kind.INTENSITY, 40), m.FIRE, Command(Kind.INTENSITY, 50)])
    for place in range(len(stream)):
        device = Pairs(0)
        got = device.feed(stream[:place] + stream[place + 1 :], 0)
        assert got == [byte for n, byte in enumerate((40, 121, 50)) if n != place // 2]
        assert device.lonely == (place < 4)  # the half of the last one still waits


@pytest.mark.parametrize(("later_us", "fires"), [(10_000, True), (10_001, False)])
def test_half_a_command_is_forgotten_after_its_time(later_us: int, fires: bool) -> None:
    device = Pairs(10_000)
    assert device.feed(b"\x79", 5) == []
    assert device.feed(b"\x79", 5 + later_us) == ([121] if fires else [])
    never = Pairs(0)
    never.feed(b"\x79", 5)
    assert never.feed(b"\x79", 5 + 3_600_000_000) == [121]


def test_bytes_that_are_alone_are_told_to_a_reader_of_traces() -> None:
    found = CommandDecoder().feed(b"\x28\x79\x79\x32\x32")
    assert found == [
        Ignored(b"\x28", "a byte without its double"),
        m.FIRE,
        Command(Kind.INTENSITY, 50),
    ]


@pytest.mark.parametrize("noise", [b"\x55", b"\xff", bytes(range(255))])
def test_a_megabyte_of_noise_takes_no_memory(noise: bytes) -> None:
    decoder, device, chunk = StatusDecoder(), Pairs(0), noise * (4096 // len(noise))
    decoder.feed(chunk), device.feed(chunk, 0)
    tracemalloc.start()
    for _ in range(250):
        decoder.feed(chunk)
        device.feed(chunk[:64], 0)
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 20_000


def test_thirty_thousand_damaged_streams_to_the_host_raise_nothing_and_end_well() -> None:
    rng = random.Random(3)
    clean, tail = stream_of(4)[:-1], stream_of(AGREE + 1)
    last, hurt = m.status_of(tail[-16:-1]), 0
    for _ in range(30_000):
        spoilt = mutated(clean, rng, 4, 0xFF)
        decoder, at = StatusDecoder(), rng.randint(0, len(spoilt))
        found = decoder.feed(spoilt[:at]) + decoder.feed(spoilt[at:] + tail)
        assert found[-1] == last  # it reads again whatever was before
        hurt += len(believed(found)) != 6
    assert hurt > 15_000  # the mutations do damage


def test_thirty_thousand_damaged_streams_to_the_device_raise_nothing_and_end_well() -> None:
    rng = random.Random(4)
    commands = [Command(Kind.INTENSITY, 40), *m.delay_commands(Kind.TTL_HIGH, m.delay_of(100_000))]
    clean = encode([*commands, m.FIRE, m.FIRE])
    hurt = 0
    for _ in range(30_000):
        spoilt = mutated(clean, rng, 4, 0xFF)
        device, trace = Pairs(0), CommandDecoder()
        got = device.feed(spoilt, 0)
        seen = [one for one in trace.feed(spoilt) if isinstance(one, Command)]
        assert [m.BY_BYTE[byte] for byte in got] == seen  # two readers, one meaning
        assert device.feed(b"\x28\x32\x32", 0)[-1] == 50
        hurt += len(got) != 5
    assert hurt > 15_000
