"""Functions of symmetric finite matrices and their derivatives, in the basis of the eigenvectors.

For K = U diag(λ) Uᵀ: f(K) = U diag(f(λ)) Uᵀ, and its derivative in the direction of a symmetric B is U (F ∘ UᵀBU) Uᵀ with
the divided differences F_ab = (f(λ_a) - f(λ_b)) / (λ_a - λ_b), and f'(λ) where eigenvalues coincide (Daleckii, Krein 1965).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tp_compiler.evaluate.array_types import Array, Numbers
from tp_compiler.evaluate.kernels import KERNELS
from tp_compiler.ir.primitives import PRIMITIVES
from tp_compiler.shapes import Float

Function = Callable[[Array], Array]

#: Eigenvalues nearer than this part of the largest count as one: there f' at their middle is the better approximation.
NEAR = 1e-5


class _Arrays:
    """The algebra in which primitives.py writes derivatives, over arrays."""

    def __call__(self, fn: str, *args: Numbers) -> Array:
        return KERNELS[fn](*args)

    def number(self, value: float) -> Numbers:
        return np.float64(value)


def primitive(fn: str) -> tuple[Function, Function]:
    """A primitive of one argument and its derivative."""
    return KERNELS[fn], lambda x: PRIMITIVES[fn].partials[0](_Arrays(), x)


def power(p: Numbers) -> tuple[Function, Function]:
    """λ^p and p λ^(p-1), the latter 0 for p = 0."""
    return lambda x: np.power(x, p), lambda x: np.where(p == 0, 0.0, p * np.power(x, p - 1))


def applied(
    values: Float[Array, "*batch n"], vectors: Float[Array, "*batch n n"], f: Function
) -> Float[Array, "*batch n n"]:
    return (vectors * f(values)[..., None, :]) @ np.swapaxes(vectors, -1, -2)


def derivative(
    values: Float[Array, "*batch n"],
    vectors: Float[Array, "*batch n n"],
    of: tuple[Function, Function],
    direction: Float[Array, "*batch n n"],
) -> Float[Array, "*batch n n"]:
    """The derivative of f(K) in a direction B, which is symmetrised."""
    back = np.swapaxes(vectors, -1, -2)
    b = (direction + np.swapaxes(direction, -1, -2)) / 2
    return vectors @ (divided_differences(values, *of) * (back @ b @ vectors)) @ back


def divided_differences(values: Float[Array, "*batch n"], f: Function, slope: Function) -> Float[Array, "*batch n n"]:
    """(f(λ_a) - f(λ_b)) / (λ_a - λ_b), over (..., a, b)."""
    a, b = np.broadcast_arrays(values[..., :, None], values[..., None, :])
    scale = np.max(np.abs(values), axis=-1, initial=0.0)[..., None, None]
    near = np.abs(a - b) <= NEAR * scale
    apart = np.where(near, 1.0, a - b)
    f_of = f(values)
    middle = ((a + b) / 2).reshape(*values.shape[:-1], -1)
    with np.errstate(all="ignore"):
        return np.where(near, slope(middle).reshape(a.shape), (f_of[..., :, None] - f_of[..., None, :]) / apart)
