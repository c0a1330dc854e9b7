"""Generators that are seeded together are those of `default_rng`, one by one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tp_compiler.finite import draws
from tp_compiler.finite.seeding import generators

WORD = st.integers(0, 2**32 - 1)


@settings(deadline=None, max_examples=60)
@given(
    st.integers(1, 9).flatmap(
        lambda words: st.lists(st.lists(WORD, min_size=words, max_size=words), min_size=1, max_size=5)
    )
)
def test_seeds_of_any_length(seeds: list[list[int]]) -> None:
    for seed, together in zip(seeds, generators(seeds), strict=True):
        alone = np.random.default_rng(seed)
        assert together.bit_generator.state == alone.bit_generator.state
        np.testing.assert_array_equal(together.standard_normal(5), alone.standard_normal(5))
        np.testing.assert_array_equal(together.integers(0, 2, 5, dtype=np.int8), alone.integers(0, 2, 5, dtype=np.int8))


def test_a_generator_starts_without_what_the_last_one_left() -> None:
    """Half of a 64-bit number may be left over from integers of 32 bits."""
    first, second = [3, 1], [3, 2]
    made = generators([first, second])
    next(made).integers(0, 1 << 31, 3, dtype=np.int32)
    np.testing.assert_array_equal(
        next(made).integers(0, 1 << 31, 3, dtype=np.int32),
        np.random.default_rng(second).integers(0, 1 << 31, 3, dtype=np.int32),
    )


@pytest.mark.parametrize("number", [2**32, 2**40 + 5, 2**100 + 2**33])
def test_large_seeds_take_several_words(number: int) -> None:
    (made,) = generators([[number, 7]])
    assert made.bit_generator.state == np.random.default_rng([number, 7]).bit_generator.state


def test_seeds_are_not_negative() -> None:
    with pytest.raises(ValueError, match="-1"):
        next(generators([[-1, 0]]))


def test_few_and_many_networks_have_the_same_generators() -> None:
    keys = [(5, k) for k in range(draws._MANY)]
    for key, made in zip(keys, draws._generators(keys, "matrix", "W", [3]), strict=True):
        assert made.random() == draws.generator(key, "matrix", "W", 3).random()
    few = draws._generators(keys[:2], "ket", "u", [0, 1])
    alone = [draws.generator(key, "ket", "u", member).random() for key in keys[:2] for member in (0, 1)]
    assert [made.random() for made in few] == alone
