"""Many of NumPy's generators at once: the numbers of `default_rng(seed)`, for many seeds side by side.

A call of `default_rng` takes ten microseconds, as much as a thousand normal numbers; most of it is a hash of the seed
(`SeedSequence`), which arrays compute for all seeds together. NumPy keeps that hash and PCG64, which it starts, from version to
version (NEP 19).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.uint32]

_POOL, _STATE = 4, 8  # words: what is hashed into, and what PCG64 starts with
_PCG = 0x2360ED051FC65DA44385DF649FCCF645  # the multiplier of its congruential generator
_ALL = (1 << 128) - 1


def generators(seeds: Sequence[Sequence[int]]) -> Iterator[np.random.Generator]:
    """`default_rng(seed)` for seeds that take equally many words of 32 bits. It is one object: use it before the next."""
    words = np.array([[w for number in seed for w in _split(number)] for seed in seeds], np.uint32).T
    bits = np.random.PCG64(0)
    generator = np.random.Generator(bits)
    for high, low, top, bottom in _hashed(words).T.copy().view(np.uint64).tolist():
        increment = ((top << 64 | bottom) << 1 | 1) & _ALL
        state = ((increment + (high << 64 | low)) * _PCG + increment) & _ALL
        bits.state = {
            "bit_generator": "PCG64", "state": {"state": state, "inc": increment}, "has_uint32": 0, "uinteger": 0,
        }  # fmt: skip
        yield generator


def _split(number: int) -> list[int]:
    """The number in words of 32 bits, the lowest first."""
    if number < 0:
        raise ValueError(f"a seed cannot be negative: {number}")
    found = [number & 0xFFFFFFFF]
    while number := number >> 32:
        found.append(number & 0xFFFFFFFF)
    return found


def _hashed(words: Words) -> Words:
    """The words of the states, (words, seeds), from those of the seeds."""
    constants = _constants(0x43B0D7E5, 0x931E8875, _POOL * max(_POOL, len(words)) + 1)
    given = np.zeros((max(_POOL, len(words)), words.shape[1]), np.uint32)
    given[: len(words)] = words
    pool = _mangled(given[:_POOL], constants[: _POOL + 1])
    used = _POOL
    for source in range(len(given)):
        others = [k for k in range(_POOL) if k != source]
        word = pool[source] if source < _POOL else given[source]
        pool[others] = _mixed(pool[others], _mangled(word, constants[used : used + len(others) + 1]))
        used += len(others)
    return _mangled(np.concatenate([pool, pool]), _constants(0x8B51F9DD, 0x58F38DED, _STATE + 1))


@cache
def _constants(start: int, factor: int, count: int) -> Words:
    """Powers of the factor times the start, as a column."""
    return np.array([[start * pow(factor, k, 1 << 32) & 0xFFFFFFFF] for k in range(count)], np.uint32)


def _mangled(words: Words, constants: Words) -> Words:
    return _shifted((words ^ constants[:-1]) * constants[1:])


def _mixed(old: Words, new: Words) -> Words:
    return _shifted(old * np.uint32(0xCA01F9DD) - new * np.uint32(0x4973F715))


def _shifted(words: Words) -> Words:
    return words ^ (words >> np.uint32(16))
