from __future__ import annotations

import math

import numpy as np
import pytest

from tp_compiler.finite.kernels import KERNELS, apply
from tp_compiler.ir.primitives import PRIMITIVES

POINTS = (-30.0, -6.5, -2.0, -0.7, -1e-3, 0.0, 1e-3, 0.4, 1.0, 3.5, 7.0, 30.0)


def test_every_primitive_has_a_kernel() -> None:
    assert KERNELS.keys() == PRIMITIVES.keys()


def _cases(name: str) -> list[tuple[float, ...]]:
    arity = PRIMITIVES[name].arity or 3
    shifts = (0, 3, 7)[:arity]
    points = [tuple(POINTS[(k + s) % len(POINTS)] for s in shifts) for k in range(len(POINTS))]
    return points if arity != 2 else points + [(p, q) for p in POINTS for q in (-2.0, 0.5, 2.0, 3.0)]


@pytest.mark.parametrize("name", sorted(PRIMITIVES))
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_kernel_agrees_with_the_scalar_function(name: str, dtype: str) -> None:
    cases, expected = [], []
    for case in _cases(name):
        rounded = tuple(float(np.dtype(dtype).type(x)) for x in case)
        try:
            value = PRIMITIVES[name].scalar(*rounded)
        except (ValueError, ZeroDivisionError, OverflowError):
            continue
        cases.append(rounded)
        expected.append(value)
    args = [np.array(column, dtype=dtype) for column in zip(*cases, strict=True)]
    found = apply(name, *args)
    assert found.dtype == np.dtype(dtype)
    tolerance = 1e-12 if dtype == "float64" else 2e-5
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=1e-300 if dtype == "float64" else 1e-5)
    scalar = apply(name, *(a[:1].reshape(()) for a in args))
    assert scalar.dtype == np.dtype(dtype)


def test_undefined_arguments_are_not_taken_for_negative_ones() -> None:
    nan = np.array(math.nan)
    assert np.isnan(apply("step", nan)) and np.isnan(apply("where", nan, np.array(1.0), np.array(2.0)))
    assert apply("where", np.array(-1.0), nan, np.array(2.0)) == 2.0
