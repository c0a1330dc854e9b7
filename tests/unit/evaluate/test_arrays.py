"""Contraction by BLAS against einsum, on random label patterns."""

from __future__ import annotations

import numpy as np
import pytest

from tp_compiler.evaluate.arrays import aligned, contract
from tp_compiler.ir.types import Axis, Index

LABELS = (0, *(Index(name, Axis(name, size)) for name, size in (("a", 2), ("b", 3), ("c", 4))))
SIZES = {0: 5, **{i: i.size for i in LABELS if isinstance(i, Index)}}


@pytest.mark.parametrize("seed", range(60))
def test_contract_equals_einsum(seed: int) -> None:
    rng = np.random.default_rng(seed)
    of = []
    for _ in range(int(rng.integers(1, 5))):
        chosen = rng.permutation(len(LABELS))[: int(rng.integers(0, len(LABELS) + 1))]
        of.append(tuple(LABELS[k] for k in chosen))
    arrays = [rng.standard_normal([SIZES[label] for label in own]) for own in of]
    present = [label for label in LABELS if any(label in own for own in of)]
    out = tuple(label for label in present if rng.random() < 0.5)
    operands: list[object] = []
    for x, own in zip(arrays, of, strict=True):
        operands += [x, [LABELS.index(label) for label in own]]
    wanted = np.einsum(*operands, [LABELS.index(label) for label in out])  # type: ignore[call-overload]
    np.testing.assert_allclose(contract(arrays, of, out), wanted, rtol=1e-12, atol=1e-12)


def test_aligned_adds_missing_dimensions() -> None:
    x = np.arange(6.0).reshape(2, 3)
    a, b, c = LABELS[1], LABELS[2], LABELS[3]
    assert aligned(x, (a, b), (b, c, a)).shape == (3, 1, 2)
