"""The first random number of many generators at once: numpy makes one generator after another, 15 µs each.

SeedSequence (O'Neill 2015) and Philox4x64-10 (Salmon et al. 2011) as numpy has them; it promises that their streams
stay (NEP 19).
"""

from __future__ import annotations

import numpy as np

BLOCK = 2**15  # generators: what is worked on stays in the cache
WORD = 2**32 - 1
# Of SeedSequence: what its hashes begin with, what they are multiplied by, and how two words are mixed.
BEGIN_IN, TIMES_IN, BEGIN_OUT, TIMES_OUT = 0x43B0D7E5, 0x931E8875, 0x8B51F9DD, 0x58F38DED
MIX_LEFT, MIX_RIGHT = np.uint32(0xCA01F9DD), np.uint32(0x4973F715)
N_HASHED = 24  # words before the last: 4 of a seed below 2**128, 12 that mix them, 4 for each of two words of the key
# Of Philox.
N_ROUNDS, FACTORS = 10, (0xD2E7470EE14C6C93, 0xCA5A826395121157)
STEPS = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBB67AE8584CAA73B)


def first_uniforms(seed: int, key: tuple[int, int], n: int) -> np.ndarray:
    """(n,) float64 in [0, 1): `Generator(Philox(SeedSequence(seed, spawn_key=(*key, i)))).random()` of i in 0..n-1.

    All of them are below 2**32, the seed below 2**128.
    """
    pool = np.random.SeedSequence(seed, spawn_key=key).pool[:, None]
    found = np.empty(n)
    for start in range(0, n, BLOCK):
        place = found[start : start + BLOCK]
        place[:] = _uniforms(_keys(pool, np.arange(start, start + len(place), dtype=np.uint32)))
    return found


def _keys(pool: np.ndarray, numbers: np.ndarray) -> list[np.ndarray]:
    """Philox's two keys of each: a number is the last word that is mixed into the pool."""
    words, hash_in, hash_out = [], BEGIN_IN * pow(TIMES_IN, N_HASHED, WORD + 1) & WORD, BEGIN_OUT
    for word in pool:
        hashed, hash_in = _hashed(numbers, hash_in, TIMES_IN)
        mixed = word * MIX_LEFT - hashed * MIX_RIGHT
        hashed, hash_out = _hashed(mixed ^ mixed >> 16, hash_out, TIMES_OUT)
        words.append(hashed.astype(np.uint64))
    return [words[0] | words[1] << 32, words[2] | words[3] << 32]


def _hashed(words: np.ndarray, by: int, times: int) -> tuple[np.ndarray, int]:
    """The words, and what the next ones are hashed by."""
    then = by * times & WORD
    hashed = (words ^ np.uint32(by)) * np.uint32(then)
    return hashed ^ hashed >> 16, then


def _uniforms(keys: list[np.ndarray]) -> np.ndarray:
    a, b, c, d = (np.full(len(keys[0]), i == 0, np.uint64) for i in range(4))  # it counts before it draws
    for _ in range(N_ROUNDS):
        (high_a, low_a), (high_c, low_c) = _product(a, FACTORS[0]), _product(c, FACTORS[1])
        a, b, c, d = high_c ^ b ^ keys[0], low_c, high_a ^ d ^ keys[1], low_a
        keys = [key + step for key, step in zip(keys, STEPS, strict=True)]
    return (a >> 11) * 2.0**-53


def _product(x: np.ndarray, factor: int) -> tuple[np.ndarray, np.ndarray]:
    """The upper and the lower 64 bits of a product, from halves."""
    high, low = np.uint64(factor >> 32), np.uint64(factor & WORD)
    middle = (x >> 32) * low + ((x & WORD) * low >> 32)
    other = (x & WORD) * high + (middle & WORD)
    return (x >> 32) * high + (middle >> 32) + (other >> 32), x * np.uint64(factor)
