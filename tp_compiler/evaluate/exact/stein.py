"""Averages of derivatives, jumps included, and of products with a Gaussian (Stein 1981).

If f jumps by J at κ, f' has a Dirac part: E f'(ℓ) Π g contains J · (density of ℓ at κ) · E[Π g | ℓ = κ] in addition to the average of
the derivative elsewhere, and given ℓ the others are Gaussian again (`ConditionalLaw`). E x F = E x E F + Σ_k Cov(x, ℓ_k) E ∂_k F
takes x out of an integral.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from tp_compiler.evaluate import errors
from tp_compiler.evaluate.array_types import Array
from tp_compiler.evaluate.exact.ket_formula import GaussianFactor, Linear, Tensor, identity, number, plus, times, union
from tp_compiler.evaluate.gaussian.operations import ARRAYS
from tp_compiler.evaluate.gaussian.univariate import Univariate, is_constant
from tp_compiler.evaluate.interface import NotExact

Product = Callable[[tuple[GaussianFactor, ...]], "Tensor | None"]  # E of a product; None: it vanishes
Covariance = Callable[[Linear, Linear], Tensor]

ULPS = 16  # distance from a kink, on either side, at which a jump is looked for
ROUNDING = 1e-14  # relative to a variance: a smaller remainder is rounding
SMALLEST = 1e-12  # relative to the values on either side: a smaller jump is rounding


@dataclass(frozen=True, eq=False)
class ConditionalLaw(Linear):
    """The law of `inner` given the value of `fixed`, with its own mean and covariances; `parts` only identify its Gaussians."""

    inner: Linear | None = None
    fixed: Linear | None = None


def given(covariance: Covariance, x: Linear, fixed: Linear, value: float) -> ConditionalLaw:
    slope = times(covariance(x, fixed), inverse(covariance(fixed, fixed)))
    shift = plus(number(value), times(number(-1.0), fixed.mean))
    mean = plus(x.mean, times(slope, shift))
    return ConditionalLaw(mean, (*x.parts, *fixed.parts), x.copy, inner=x, fixed=fixed)


def covariance_given(covariance: Covariance, a: ConditionalLaw, b: ConditionalLaw) -> Tensor:
    """Cov(a, b) - Cov(a, ℓ) Cov(ℓ, b)/Var ℓ."""
    assert a.inner is not None and b.inner is not None and a.fixed is not None
    own, variance = covariance(a.inner, b.inner), covariance(a.fixed, a.fixed)
    left, right = covariance(a.inner, a.fixed), covariance(a.fixed, b.inner)
    if a.key != b.key:
        return plus(own, times(number(-1.0), left, right, inverse(variance)))
    labels = union([own, variance, left])
    error = plus(own, times(number(-1.0), left, left, inverse(variance))).error_at(labels)
    first, fixed, cross = np.broadcast_arrays(*(np.atleast_1d(t.at(labels)) for t in (own, variance, left)))
    determinant = ARRAYS.determinant(first, fixed, cross)
    rest = np.where(fixed > 0, determinant / np.where(fixed > 0, fixed, 1.0), first)
    return Tensor(rest if labels else rest[0], labels, errors.full(error, tuple(x.size for x in labels)))


def inverse(variance: Tensor) -> Tensor:
    """1/Var; 0 for a Gaussian that is constant, on which nothing depends."""
    positive = variance.values > 0
    value, error = errors.applied("div", [1.0, np.where(positive, variance.values, 1.0)], [None, variance.error])
    return Tensor(np.where(positive, value, 0.0), variance.labels, None if error is None else error * positive)


def mean_derivative(
    product: Product, covariance: Covariance, factor: GaussianFactor, near: tuple[GaussianFactor, ...]
) -> Tensor | None:
    """E f'(ℓ) Π near, for one function f of one Gaussian."""
    if factor.is_identity:
        return product(near)
    if not isinstance(factor.function, Univariate):
        raise NotExact("the derivative of a function of several Gaussians")
    f, (argument,) = factor.function, factor.arguments
    jumps = [] if f.crowded else jumps_of(f)
    slope = f.regular()
    if not near and (jumps or slope is None):
        return _alone(product, covariance, factor)
    if slope is None:
        raise NotExact("the derivative of a function that is not known")
    found = [] if is_constant(slope) and slope.factor == 0.0 else [product((GaussianFactor(slope, (argument,)), *near))]
    variance = covariance(argument, argument)
    for place, size in jumps:
        value = mean_at(product, covariance, conditioned(covariance, near, argument, place))
        if value is not None:
            found.append(times(number(size), density(argument.mean, variance, place), value))
    kept = [t for t in found if t is not None]
    return plus(*kept) if kept else None


def _alone(product: Product, covariance: Covariance, factor: GaussianFactor) -> Tensor | None:
    """E f' = E (ℓ - m) f(ℓ) / Var ℓ."""
    (argument,) = factor.arguments
    both, alone = product((identity(argument), factor)), product((factor,))
    if both is None:
        return None
    shifted = times(number(-1.0), argument.mean, alone) if alone is not None else number(0.0)
    return times(plus(both, shifted), inverse(covariance(argument, argument)))


def density(mean: Tensor, variance: Tensor, place: float) -> Tensor:
    """The density of N(mean, variance) at a place; 0 if the variance is 0."""
    precise = inverse(variance)
    labels = union([mean, precise])

    def value(values: list[Array]) -> Array:
        distance, precision = place - values[0], np.maximum(values[1], 0.0)
        return np.exp(-(distance**2) * precision / 2) * np.sqrt(precision / (2 * np.pi))

    values = [mean.at(labels), precise.at(labels)]
    result = value(values)
    probed = errors.probed(value, values, [mean.error_at(labels), precise.error_at(labels)], result)
    error = errors.added(errors.rounding(result), probed)
    return Tensor(result, labels, errors.full(error, np.shape(result)))


def mean_at(product: Product, covariance: Covariance, rest: tuple[GaussianFactor, ...]) -> Tensor | None:
    """E Π rest at a jump. A function that jumps at the same place, being of the same Gaussian, counts there by the mean
    of its values on either side: the jump of f g is [f] (g₋ + g₊)/2 + (f₋ + f₊)/2 [g]."""
    value = product(rest)
    sides = [(k, *side) for k, factor in enumerate(rest) for side in halfway(covariance, factor)]
    for k, here, middle in sides:
        if any(np.any(times(here, other).values) for m, other, _ in sides if m != k):
            raise NotExact("three functions that jump at one place")
        others = product(rest[:k] + rest[k + 1 :])
        there = times(number(middle), others) if others is not None else number(0.0)
        value = _replaced(value if value is not None else number(0.0), here, there)
    return value


def halfway(covariance: Covariance, factor: GaussianFactor) -> list[tuple[Tensor, float]]:
    """Where a function is evaluated at one of its jumps without randomness, and the mean of both sides there."""
    a = factor.arguments[0]
    if not (isinstance(a, ConditionalLaw) and isinstance(factor.function, Univariate)):
        return []
    assert a.inner is not None
    left, whole = covariance(a, a), covariance(a.inner, a.inner)
    labels = union([left, whole, a.mean])
    deviation = np.sqrt(whole.at(labels))
    still = left.at(labels) <= ROUNDING * whole.at(labels)
    found = []
    for place, size in jumps_of(factor.function):
        here = still & (np.abs(a.mean.at(labels) - place) <= ROUNDING**0.5 * deviation)
        if np.any(here):
            below = float(factor.function(np.array([place - ULPS * np.spacing(max(abs(place), 1e-300))]))[0])
            found.append((Tensor(here.astype(float), labels), below + size / 2))
    return found


def _replaced(value: Tensor, here: Tensor, other: Tensor) -> Tensor:
    labels = union([value, here, other])
    chosen = here.at(labels) > 0
    result = np.where(chosen, other.at(labels), value.at(labels))
    kept: list[Any] = [0.0 if t.error is None else t.error_at(labels) for t in (other, value)]
    return Tensor(result, labels, errors.full(np.where(chosen, *kept), result.shape))


def conditioned(
    covariance: Covariance, factors: tuple[GaussianFactor, ...], fixed: Linear, place: float
) -> tuple[GaussianFactor, ...]:
    """The factors given that `fixed` is at `place`."""
    others: dict[object, Linear] = {}
    result = []
    for factor in factors:
        if any(a.origin.base.key == fixed.origin.base.key for a in factor.arguments):
            raise NotExact("the dot of a product with a function that jumps")
        for a in factor.arguments:
            if a.key not in others:
                others[a.key] = given(covariance, a, fixed, place) if a.groups & fixed.groups else a
        result.append(GaussianFactor(factor.function, tuple(others[a.key] for a in factor.arguments)))
    return tuple(result)


def jumps_of(f: Univariate) -> list[tuple[float, float]]:
    """(place, size) of the jumps among its kinks."""
    if f.crowded:
        raise NotExact("jumps of a function with many kinks")
    found = []
    for kink in f.kinks:
        reach = ULPS * np.spacing(max(abs(kink), 1e-300))
        left, right = f(np.array([kink - reach, kink + reach]))
        if abs(right - left) > SMALLEST * max(abs(left), abs(right)):
            found.append((kink, float(right - left)))
    return found


def without(product: Product, covariance: Covariance, x: Linear, factors: tuple[GaussianFactor, ...]) -> Tensor:
    """E x Π factors."""
    found = []
    if np.any(x.mean.values):
        rest = product(factors)
        found += [] if rest is None else [times(x.mean, rest)]
    for k, factor in enumerate(factors):
        for argument in factor.arguments:
            if argument.groups & x.groups:
                slope = mean_derivative(product, covariance, factor, factors[:k] + factors[k + 1 :])
                found += [] if slope is None else [times(covariance(x, argument), slope)]
    return plus(*found) if found else number(0.0)
