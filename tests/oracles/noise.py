"""Random numbers that are hashes of their place."""

import numpy as np

from .common import Array


def normal(seed: int, place: int, draw: int, count: int) -> Array:
    """Standard normal numbers, by Box and Muller, from two hashes for each element."""
    stream = hashed(hashed(seed) + place)
    keys = [hashed(hashed(stream + draw) + slot) for slot in (1, 2)]
    bits = [np.array([hashed(hashed(i) + key) for i in range(1, count + 1)], dtype=np.float64) for key in keys]
    u, angle = ((x + 0.5) / 2.0**32 for x in bits)
    return np.asarray(np.sqrt(-2.0 * np.log(u)) * np.cos(2.0 * np.pi * angle))


def hashed(x: int) -> int:
    """The hash lowbias32 of 32 bits."""
    x &= 0xFFFFFFFF
    x = (x ^ (x >> 16)) * 0x7FEB352D & 0xFFFFFFFF
    x = (x ^ (x >> 15)) * 0x846CA68B & 0xFFFFFFFF
    return x ^ (x >> 16)
