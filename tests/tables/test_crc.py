"""The checksum against its published check value, and against a register that shifts bit by bit."""

from __future__ import annotations

import itertools
import random

from firmware_protocol.crc import SEED, crc32

FULL_BODY_SIZE = 61
CRC_SIZE = 4


def bit_by_bit(data: bytes, register: int = 0xFFFFFFFF) -> int:
    """The definition: divide by the polynomial, most significant bit first."""
    for byte in data:
        for place in range(7, -1, -1):
            feedback = (register >> 31) ^ (byte >> place & 1)
            register = register << 1 & 0xFFFFFFFF
            if feedback:
                register ^= 0xF1922815
    return register


def full_body(rng: random.Random) -> bytes:
    content = rng.randbytes(FULL_BODY_SIZE - CRC_SIZE)
    return content + bit_by_bit(content).to_bytes(CRC_SIZE, "little")


def is_accepted(word: int) -> bool:
    body = word.to_bytes(FULL_BODY_SIZE, "big")
    return crc32(body[:-CRC_SIZE]) == int.from_bytes(body[-CRC_SIZE:], "little")


def test_the_check_value_is_the_published_one() -> None:
    assert crc32(b"123456789") == 0xED2C5F4E
    assert bit_by_bit(b"123456789") == 0xED2C5F4E


def test_no_data_leaves_the_seed_unchanged() -> None:
    assert crc32(b"") == SEED == 0xFFFFFFFF
    assert crc32(b"", 0x12345678) == 0x12345678


def test_every_length_agrees_with_the_definition_for_any_seed() -> None:
    rng = random.Random(1)
    for size in range(128):
        for seed in (0, 1, 0x80000000, SEED, rng.getrandbits(32), rng.getrandbits(32)):
            data = rng.randbytes(size)
            assert crc32(data, seed) == bit_by_bit(data, seed), (data, seed)


def test_a_checksum_can_be_continued_from_any_place() -> None:
    data = random.Random(1).randbytes(40)
    for cut in range(41):
        assert crc32(data[cut:], crc32(data[:cut])) == crc32(data)


def test_an_undamaged_full_size_body_is_accepted() -> None:
    assert is_accepted(int.from_bytes(full_body(random.Random(2)), "big"))


def test_every_one_and_two_bit_error_in_a_full_size_body_is_detected() -> None:
    sent = int.from_bytes(full_body(random.Random(3)), "big")
    bits = [1 << place for place in range(8 * FULL_BODY_SIZE)]
    assert not any(is_accepted(sent ^ one) for one in bits)
    assert not any(is_accepted(sent ^ one ^ two) for one, two in itertools.combinations(bits, 2))


def test_three_to_seven_bit_errors_in_a_full_size_body_are_detected() -> None:
    rng = random.Random(4)
    sent = int.from_bytes(full_body(rng), "big")
    for _ in range(20_000):
        places = rng.sample(range(8 * FULL_BODY_SIZE), rng.randint(3, 7))
        assert not is_accepted(sent ^ sum(1 << place for place in places))
