"""Functions of the eigenvalues of symmetric matrices, and their divided differences (f(a) - f(b)) / (a - b)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from tp_compiler.finite import kernels
from tp_compiler.finite.array_types import Values
from tp_compiler.ir.primitives import PRIMITIVES
from tp_compiler.shapes import Float

#: Eigenvalues closer than this (relative to the largest) count as equal, with the slope at the midpoint.
CLOSE = 1e-5


@runtime_checkable
class SpectralFunction(Protocol):
    """Eigenvalues are arrays (*batch, size)."""

    def __call__(self, values: Float[Values, "*batch n"]) -> Float[Values, "*batch n"]: ...

    def undefined_at(self, values: Values) -> str:
        """Why the function is undefined at these values; empty if it is defined."""
        ...

    def differences(self, values: Float[Values, "*batch n"]) -> Float[Values, "*batch n n"]:
        """Divided differences over pairs, (*batch, size, size); the derivative where two eigenvalues agree."""
        ...


@dataclass(frozen=True)
class Entrywise:
    """A primitive of one argument."""

    fn: str

    def __call__(self, values: Float[Values, "*batch n"]) -> Float[Values, "*batch n"]:
        return kernels.apply(self.fn, values)

    def undefined_at(self, values: Values) -> str:
        defined = bool(np.isfinite(self(values)).all())
        return "" if defined else f"`{self.fn}` is not defined at an eigenvalue of the matrix"

    def differences(self, values: Float[Values, "*batch n"]) -> Float[Values, "*batch n n"]:
        slope = PRIMITIVES[self.fn].partials[0]
        return _quotients(values, self(values), lambda x: slope(_ARRAYS, x))


class _Arrays:
    """The algebra in which derivatives are written, over arrays."""

    def __call__(self, fn: str, *args: Values) -> Values:
        return kernels.apply(fn, *args)

    def number(self, value: float) -> Values:
        return np.asarray(value)


_ARRAYS = _Arrays()


@dataclass(frozen=True)
class SpectralPower:
    """λ^p, p of shape (*batch, 1). Eigenvalues that rounding pushed below zero count as zero."""

    p: Values

    def __call__(self, values: Float[Values, "*batch n"]) -> Float[Values, "*batch n"]:
        return np.asarray(_cleaned(values) ** self.p)

    def undefined_at(self, values: Values) -> str:
        values = _cleaned(values)
        if ((self.p != np.round(self.p)) & (values < 0)).any():
            return "the matrix has a negative eigenvalue, so this power is not real"
        return "the matrix is singular" if ((self.p < 0) & (values == 0)).any() else ""

    @np.errstate(all="ignore")  # of every pair one branch counts, and all are computed
    def differences(self, values: Float[Values, "*batch n"]) -> Float[Values, "*batch n n"]:
        """For positive a > b, a^(p-1) (e^(px) - 1) / (e^x - 1) with x = log(b/a): no cancellation at any distance."""
        values, p = _cleaned(values), self.p[..., None]
        high = np.maximum(values[..., :, None], values[..., None, :])
        low = np.minimum(values[..., :, None], values[..., None, :])
        x = np.log(low / high)
        equal = high == low
        ratio = np.where(equal, p, np.expm1(p * x) / np.where(equal, 1, np.expm1(x)))
        found = np.where(p == 0, 0.0, np.where(p == 1, 1.0, high ** (p - 1) * ratio))
        signed = _quotients(values, self(values), lambda y: self.p[..., None] * y ** (self.p[..., None] - 1))
        negative = np.asarray(np.any(values < 0, axis=-1, keepdims=True))[..., None]
        return np.asarray(np.where(negative, signed, found))


def _cleaned(values: Float[Values, "*batch n"]) -> Float[Values, "*batch n"]:
    noise = values.shape[-1] * np.finfo(np.float64).eps * np.abs(values).max(axis=-1, keepdims=True, initial=0.0)
    return np.where(np.abs(values) <= noise, 0.0, values)


def _quotients(
    values: Float[Values, "*batch n"], mapped: Float[Values, "*batch n"], slope: Callable[[Values], Values]
) -> Float[Values, "*batch n n"]:
    a, b = values[..., :, None], values[..., None, :]
    gap = a - b
    close = np.abs(gap) <= CLOSE * np.abs(values).max(axis=-1, initial=0.0)[..., None, None]
    quotient = (mapped[..., :, None] - mapped[..., None, :]) / np.where(close, 1.0, gap)
    return np.asarray(np.where(close, slope((a + b) / 2), quotient))
