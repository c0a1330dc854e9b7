"""Gaussian averages of products of one-sided powers of several variables, by signs: step, sign, relu, abs, powers, erf.

Such a function is a combination of |x|^a and sgn(x)|x|^a. Stein's lemma, E x_k G = Σ_j K_kj E ∂_j G, takes powers out one by one; the
derivative of a sign is 2δ, and given x_j = 0 the others are centred Gaussians again. What remains are products of signs:

    E s₁s₂ = (2/π) asin ρ₁₂ (Sheppard 1899),    E s₁s₂s₃s₄ = ∫₀¹ dt Σ_{i<j} ρ_ij 2/(π √(1 - t²ρ_ij²)) (2/π) asin ρ_kl|ij(t),

k and l the other two, with all correlations times t (Plackett 1954). An odd number of signs has mean 0.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np

from tp_compiler.evaluate.array_types import Array
from tp_compiler.evaluate.gaussian.arccosine import Sided, sided
from tp_compiler.evaluate.gaussian.univariate import Univariate, monomial, scaled, times

MOST_VARIABLES = 6  # with the noise of erf; all combinations of their even and odd parts are averaged
SINGULAR = 1e-10  # relative to a variance: what is left of it, given others, is rounding
APART = 1e-7  # relative to variances: how far dependent variables are moved apart
SMALLER = 0.1  # the part of what that changes that is left after extrapolation
NODES = (24, 48, 96, 192)
SETTLED = 1e-12
PAIRS = [(i, j, *(k for k in range(4) if k not in (i, j))) for i, j in itertools.combinations(range(4), 2)]


class UnknownSigns(Exception):
    """Too many signs, or the sign of a variable that is 0 with others."""


def mean(functions: Sequence[Sequence[Univariate]], covariance: Array) -> tuple[float, float] | None:
    """E Π_k Π functions[k](x_k), x ~ N(0, covariance), and its error; None if it is not known."""
    variables: list[tuple[int, float, Sided]] = []
    for k, own in enumerate(functions):
        plain = Sided(0, 1.0, 0.0)
        for f in (g for whole in own for g in _factors(whole)):
            shape = sided(f)
            if shape is None:
                return None
            shape = Sided(shape.order, f.factor * shape.even, f.factor * shape.odd, shape.halves)
            if shape.halves:
                variables.append((k, f.scale, shape))
            else:
                plain = _multiplied(plain, shape, f.scale)
        variables.append((k, 1.0, plain))
    kept = [(k, scale, s) for k, scale, s in variables if s.order or s.odd]
    factor = math.prod(s.even for _, _, s in variables if not (s.order or s.odd))
    if len(kept) > MOST_VARIABLES:
        return None
    where, scales = [k for k, _, _ in kept], np.array([scale for _, scale, _ in kept])
    joint = covariance[np.ix_(where, where)] * np.outer(scales, scales) + np.diag([s.halves / 2 for _, _, s in kept])
    return _combined([s for _, _, s in kept], joint, factor)


def _factors(f: Univariate) -> list[Univariate]:
    """The functions that a product is made of, down to those of the table."""
    if sided(f) is not None or not f.parts:
        return [f]
    inner = [g for part in f.parts for g in _factors(scaled(part, f.scale))]
    return [times(monomial(0), f.factor), *inner]


def _multiplied(a: Sided, b: Sided, scale: float) -> Sided:
    """a(x) b(scale · x)"""
    size = abs(scale) ** b.order
    even, odd = b.even * size, b.odd * size * (1 if scale > 0 else -1)
    return Sided(a.order + b.order, a.even * even + a.odd * odd, a.even * odd + a.odd * even)


def _combined(shapes: Sequence[Sided], joint: Array, factor: float) -> tuple[float, float] | None:
    """Variables that depend on one another are the limit of others that do not: extrapolated from two distances."""
    found = _nonsingular(shapes, joint, factor)
    if found is not None:
        return found
    apart = np.diag(APART * np.diag(joint))
    near, far = _nonsingular(shapes, joint + apart, factor), _nonsingular(shapes, joint + 2 * apart, factor)
    if near is None or far is None:
        return None
    return 2 * near[0] - far[0], 2 * near[1] + far[1] + APART * abs(near[0]) + SMALLER * abs(near[0] - far[0])


def _nonsingular(shapes: Sequence[Sided], joint: Array, factor: float) -> tuple[float, float] | None:
    moments = _Moments(joint)
    orders = tuple(s.order for s in shapes)
    total, size = 0.0, 0.0
    try:
        for signs in itertools.product((0, 1), repeat=len(shapes)):
            weight = factor * math.prod(s.odd if sign else s.even for s, sign in zip(shapes, signs, strict=True))
            if weight and sum(signs) % 2 == 0:
                term = weight * moments.mean((), orders, signs)
                total, size = total + term, size + abs(term)
    except UnknownSigns:
        return None
    return total, moments.error + 1e-14 * size


class _Moments:
    """E Π sgn(x_k)^s_k |x_k|^a_k, given that some of the variables are 0."""

    def __init__(self, covariance: Array) -> None:
        self.covariance = covariance
        self.error = 0.0
        self._given: dict[tuple[int, ...], Array] = {(): covariance}
        self._known: dict[tuple[tuple[int, ...], ...], float] = {}

    def mean(self, given: tuple[int, ...], powers: tuple[int, ...], signs: tuple[int, ...]) -> float:
        if sum(signs) % 2:
            return 0.0
        key = given, powers, signs
        if key not in self._known:
            self._known[key] = self._mean(*key)
        return self._known[key]

    def _mean(self, given: tuple[int, ...], powers: tuple[int, ...], signs: tuple[int, ...]) -> float:
        law = self._law(given)
        k = next((k for k, a in enumerate(powers) if a), None)
        if k is None:
            return self._signs(law, [j for j, s in enumerate(signs) if s])
        if self._is_fixed(law, k):
            return 0.0
        powers, signs = _changed(powers, k, -1), _flipped(signs, k)
        total = 0.0
        for j in range(len(powers)):
            if self._is_fixed(law, j):
                continue
            if law[k, j] and powers[j]:
                total += law[k, j] * powers[j] * self.mean(given, _changed(powers, j, -1), _flipped(signs, j))
            elif law[k, j] and signs[j]:
                density = math.sqrt(2 / (math.pi * law[j, j]))
                total += law[k, j] * density * self.mean(tuple(sorted((*given, j))), powers, _flipped(signs, j))
        return total

    def _is_fixed(self, law: Array, j: int) -> bool:
        """Whether a variable is 0 with the others."""
        return not law[j, j] > SINGULAR * self.covariance[j, j]

    def _law(self, given: tuple[int, ...]) -> Array:
        """The covariance given that these are 0."""
        if given not in self._given:
            *rest, j = given
            law = self._law(tuple(rest))
            self._given[given] = law - np.outer(law[j], law[j]) / law[j, j]
        return self._given[given]

    def _signs(self, law: Array, which: list[int]) -> float:
        if not which:
            return 1.0
        if len(which) > 4 or any(self._is_fixed(law, j) for j in which):
            raise UnknownSigns
        deviations = np.array([math.sqrt(law[j, j]) for j in which])
        correlation = np.clip(law[np.ix_(which, which)] / np.outer(deviations, deviations), -1.0, 1.0)
        if len(which) == 2:
            return 2 / math.pi * math.asin(correlation[0, 1])
        value, error = four_signs(correlation)
        self.error += error
        return value


def four_signs(correlation: Array) -> tuple[float, float]:
    """E s₁s₂s₃s₄, and its error. Correlations near ±1 have a root at t = 1, which t = 1 - u² removes."""
    value = np.inf
    for count in NODES:
        nodes, weights = np.polynomial.legendre.leggauss(count)
        u = (nodes + 1) / 2
        before, value = value, float(np.sum(weights * u * _slope(correlation, 1 - u * u)))
        if abs(value - before) < SETTLED:
            break
    return value, abs(value - before)


def _slope(correlation: Array, t: Array) -> Array:
    """d/dt of the average, all correlations times t."""
    r = correlation[:, :, None] * t
    total = np.zeros_like(t)
    for i, j, k, m in PAIRS:
        rest = 1 - r[i, j] ** 2

        def left(a: int, b: int, i: int = i, j: int = j, rest: Array = rest) -> Array:
            """Cov(a, b | i, j), times the determinant of i and j."""
            own = 1.0 if a == b else r[a, b]
            cross = r[a, i] * r[b, j] + r[a, j] * r[b, i]
            return np.asarray(rest * own - r[a, i] * r[b, i] - r[a, j] * r[b, j] + r[i, j] * cross)

        size = np.sqrt(np.maximum(left(k, k) * left(m, m), np.finfo(float).tiny))
        angle = np.arcsin(np.clip(left(k, m) / size, -1.0, 1.0))
        total += correlation[i, j] * 4 / math.pi**2 * angle / np.sqrt(np.maximum(rest, np.finfo(float).tiny))
    return total


def _changed(powers: tuple[int, ...], k: int, by: int) -> tuple[int, ...]:
    return (*powers[:k], powers[k] + by, *powers[k + 1 :])


def _flipped(signs: tuple[int, ...], k: int) -> tuple[int, ...]:
    return (*signs[:k], 1 - signs[k], *signs[k + 1 :])
