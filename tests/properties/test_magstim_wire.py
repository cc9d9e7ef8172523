"""Both ends of the line to a Magstim unit: whatever arrives, nothing raises or grows, and the next
whole frame is read. The host's code and the unit's agree on every frame, and share none.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from firmware_protocol.magstim import messages as m
from firmware_protocol.magstim.framing import Decoder, encode
from sim_device import magstim_wire as wire

FIRMWARE = (0, 5, 7, 9, 10)
DIALECTS = (
    m.Dialect(m.Model.M200),
    m.Dialect(m.Model.BISTIM),
    *(m.Dialect(m.Model.RAPID, major) for major in FIRMWARE[1:]),
)
STREAMS_EACH = 32_000
COMMAND_SIZE_MAX = 18
LETTERS = bytes({ord(row.letter) for row in m.TABLE}) + b"?S@\0\n"


def drawn(field: m.Field, rng: random.Random) -> m.Value:
    """A value that the field can hold."""
    if field.form is m.Form.DIGITS:
        return rng.choice((field.low, field.high, rng.randint(field.low, field.high)))
    if field.form is m.Form.STATUS:
        return rng.randrange(32) << 3 | rng.choice((0, 1, 2, 4))
    if field.form is m.Form.CODE:
        return "".join(rng.choices("0123456789abcdef", k=16))
    if field.form is m.Form.VERSION:
        return ".".join(str(rng.randrange(12)) for _ in range(rng.choice((2, 3))))
    if field.form in (m.Form.LETTER, m.Form.TEXT):
        return "".join(rng.choices("0124QRST", k=field.size))
    return rng.randrange(256**field.size)


def drawn_reply(row: m.Row, rng: random.Random) -> tuple[bytes, m.Answer, dict[str, m.Value]]:
    if rng.random() < 0.1:
        answer = rng.choice((m.Answer.BAD_DATA, m.Answer.CONFLICT))
        return wire.refusal(row, answer), answer, {}
    values = {field.name: drawn(field, rng) for field in row.reply}
    return wire.reply(row, values), m.Answer.DONE, values


def drawn_command(row: m.Row, rng: random.Random) -> tuple[bytes, dict[str, m.Value]]:
    fields = [f for f in row.data if f.form in (m.Form.DIGITS, m.Form.CODE)]
    values = [drawn(field, rng) for field in fields]
    return encode(row, *values), m.values_of(row, values)


def chunks(data: bytes, rng: random.Random) -> Iterator[bytes]:
    at = 0
    while at < len(data):
        size = rng.choice((1, 2, 3, len(data)))
        yield data[at : at + size]
        at += size


def noise(rng: random.Random) -> bytes:
    """Anything; often bytes that mean something."""
    if rng.random() < 0.5:
        return rng.randbytes(rng.randrange(30))
    return bytes(rng.choices(LETTERS, k=rng.randrange(30)))


@pytest.mark.parametrize("dialect", DIALECTS)
def test_every_reply_of_the_unit_is_what_the_host_reads(dialect: m.Dialect) -> None:
    rng = random.Random(1)
    decoder = Decoder()
    for row in dialect.rows * 20:
        data, answer, values = drawn_reply(row, rng)
        if answer is m.Answer.DONE and row.reply_size is not None:
            assert len(data) == row.reply_size
        decoder.expect(row)
        *early, last = chunks(data, rng)
        assert [decoder.feed(chunk) for chunk in early] == [None] * len(early)
        assert decoder.feed(last) == m.Reply(row, answer, values)
        assert (decoder.garbage, decoder.begun, decoder.outstanding) == (0, 0, None)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_every_command_of_the_host_is_what_the_unit_hears(dialect: m.Dialect) -> None:
    rng = random.Random(2)
    parser = wire.Parser(dialect)
    said, wanted = b"", []
    for row in dialect.rows * 20:
        data, values = drawn_command(row, rng)
        said += data
        wanted.append(wire.Heard(row, values, sound=True))
    found = [heard for chunk in chunks(said, rng) for heard in parser.feed(chunk)]
    assert found == wanted


def test_the_host_survives_any_noise_and_reads_the_next_reply() -> None:
    rng = random.Random(3)
    decoder = Decoder()
    skipped = 0
    for number in range(STREAMS_EACH):
        rows = DIALECTS[number % len(DIALECTS)].rows
        row = rows[number // len(DIALECTS) % len(rows)]
        decoder.expect(row)
        for chunk in chunks(noise(rng), rng):
            decoder.feed(chunk)
            assert decoder.begun <= m.REPLY_SIZE_MAX
        decoder.expect(row)  # as a host does that gave up and asks again
        data, answer, values = drawn_reply(row, rng)
        nuls = bytes(rng.randrange(3))
        before = decoder.garbage
        assert decoder.feed(nuls + data) == m.Reply(row, answer, values)
        assert decoder.garbage - before == len(nuls)
        skipped += before
    assert decoder.garbage > STREAMS_EACH  # there was noise


def test_the_unit_survives_any_noise_and_hears_the_host_again() -> None:
    rng = random.Random(4)
    calm = encode(DIALECTS[0].row("disable_remote"))
    parsers = [wire.Parser(dialect) for dialect in DIALECTS]
    for number in range(STREAMS_EACH):
        parser = parsers[number % len(parsers)]
        for chunk in chunks(noise(rng), rng):
            parser.feed(chunk)
            assert parser.begun < COMMAND_SIZE_MAX
        heard = parser.feed(calm * 8)
        last = heard[-1]
        assert last.row is not None
        assert (last.row.name, last.sound) == ("disable_remote", True)
        assert parser.begun == 0


def test_one_wrong_bit_is_never_taken_for_the_frame_that_was_meant() -> None:
    rng = random.Random(5)
    for dialect in DIALECTS:
        for row in dialect.rows:
            data, answer, values = drawn_reply(row, rng)
            for bit in range(8 * len(data)):
                spoilt = bytearray(data)
                spoilt[bit // 8] ^= 1 << bit % 8
                decoder = Decoder()
                decoder.expect(row)
                got = decoder.feed(bytes(spoilt))
                assert got != m.Reply(row, answer, values)
            said, _ = drawn_command(row, rng)
            for bit in range(8 * len(said)):
                spoilt = bytearray(said)
                spoilt[bit // 8] ^= 1 << bit % 8
                heard = wire.Parser(dialect).feed(bytes(spoilt))
                assert not any(h.sound and h.row is row for h in heard)


def test_a_bare_question_mark_ends_the_wait_and_what_follows_is_garbage() -> None:
    decoder = Decoder()
    row = DIALECTS[0].row("arm")
    decoder.expect(row)
    assert decoder.feed(b"\0\0?" + b"E\x89\x31") == m.Reply(row, m.Answer.UNKNOWN, {})
    assert (decoder.garbage, decoder.nuls) == (5, 2)
    assert decoder.feed(b"E\x89\x31") is None
    assert decoder.garbage == 8


def test_a_reply_with_two_phases_at_once_is_none() -> None:
    decoder = Decoder()
    for status, wanted in ((0x8A, True), (0x88, True), (0x8B, False), (0x8E, False)):
        decoder.expect(DIALECTS[0].row("arm"))
        reply = decoder.feed(wire.with_checksum(bytes((0x45, status))))
        assert (reply is not None) is wanted
        assert reply is None or reply.status == status


def test_a_version_without_an_end_is_given_up() -> None:
    decoder = Decoder()
    decoder.expect(DIALECTS[-1].row("get_version"))
    assert decoder.feed(b"N" + b"V" * 500) is None
    assert decoder.begun <= m.REPLY_SIZE_MAX
    assert decoder.feed(wire.with_checksum(b"NV10.2\0")) is not None


@pytest.mark.parametrize(("size", "read"), [(m.VERSION_SIZE_MAX, True), (17, False)])
def test_a_version_has_its_longest_text(size: int, read: bool) -> None:
    data = wire.with_checksum(b"NV" + b"1" * (size - 1) + b"\0")
    for pieces in ([data], [data[i : i + 1] for i in range(len(data))]):
        decoder = Decoder()
        decoder.expect(DIALECTS[-1].row("get_version"))
        assert any(decoder.feed(piece) is not None for piece in pieces) is read


def test_a_host_that_gave_up_reads_nothing() -> None:
    decoder = Decoder()
    decoder.expect(DIALECTS[0].row("arm"))
    decoder.feed(b"E\x89")
    decoder.give_up()
    assert (decoder.outstanding, decoder.begun, decoder.garbage) == (None, 0, 2)
    assert decoder.feed(b"E\x89\x31") is None


def test_a_byte_that_begins_no_command_is_told_one_by_one() -> None:
    parser = wire.Parser(DIALECTS[0])
    assert parser.feed(b"\n!") == [wire.STRAY, wire.STRAY]
    (heard,) = parser.feed(bytes.fromhex("51406e"))
    assert heard.row is not None
    assert heard.row.name == "enable_remote"


def test_a_host_without_a_code_is_heard_by_firmware_9_as_one_without_a_code() -> None:
    (heard,) = wire.Parser(m.Dialect(m.Model.RAPID, 9)).feed(bytes.fromhex("51406e"))
    assert heard.row is not None
    assert (heard.row.name, heard.values) == ("unlock", {"code": "@"})
