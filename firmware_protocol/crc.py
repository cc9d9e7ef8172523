"""CRC-32, polynomial 0xF1922815, four bytes at a time.

Chosen because it detects every error of up to seven bits in frames of up to 124 bytes (Hamming
distance 8; zlib's CRC-32 has 5 at our lengths). Register starts at 0xFFFFFFFF, most significant bit
first, no final inversion; "123456789" gives 0xED2C5F4E.
"""

from __future__ import annotations

import struct
from typing import Final

POLYNOMIAL: Final = 0xF1922815
SEED: Final = 0xFFFFFFFF


def _make_tables() -> tuple[list[int], ...]:
    """What each of four bytes does to the register: the last byte's table first."""
    last = []
    for byte in range(256):
        register = byte << 24
        for _ in range(8):
            register = (register << 1) ^ POLYNOMIAL if register & 0x80000000 else register << 1
        last.append(register & 0xFFFFFFFF)
    tables = [last]
    for _ in range(3):  # the same byte with one more byte behind it
        tables.append([((row << 8) & 0xFFFFFFFF) ^ last[row >> 24] for row in tables[-1]])
    return tuple(tables)


# 1,024 numbers stay in the nearest cache between frames; tables of 65,536 are faster only in a
# tight loop.
_FOURTH, _THIRD, _SECOND, _FIRST = _make_tables()
_LAYOUTS: Final = [struct.Struct(f">{count}I") for count in range(32)]


def crc32(data: bytes, seed: int = SEED) -> int:
    """Checksum of at most 127 bytes, continuing from `seed`."""
    register = seed
    whole = len(data) >> 2
    first, second, third, fourth = _FIRST, _SECOND, _THIRD, _FOURTH
    for word in _LAYOUTS[whole].unpack_from(data):
        mixed = word ^ register
        register = (
            first[mixed >> 24]
            ^ second[mixed >> 16 & 255]
            ^ third[mixed >> 8 & 255]
            ^ fourth[mixed & 255]
        )
    for byte in data[whole << 2 :]:
        register = (register << 8 & 0xFFFFFFFF) ^ fourth[register >> 24 ^ byte]
    return register
