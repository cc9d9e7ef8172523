"""What a bad line makes of a stream of bytes."""

from __future__ import annotations

import random


def mutated(stream: bytes, rng: random.Random, most: int, filler: int) -> bytes:
    """One to `most` damages: a bit, a loss, something more, something again, or a run of `filler`,
    the byte that means most to the framing."""
    out = bytearray(stream)
    for _ in range(rng.randint(1, most)):
        place, size = rng.randrange(len(out)), rng.randint(1, 20)
        match rng.randrange(5):
            case 0:
                out[place] ^= 1 << rng.randrange(8)
            case 1:
                del out[place : place + size]
                out = out or bytearray(1)
            case 2:
                out[place:place] = rng.randbytes(size)
            case 3:
                out[place:place] = out[place : place + 3 * size]
            case 4:
                out[place : place + size] = bytes([filler]) * size
    return bytes(out)
