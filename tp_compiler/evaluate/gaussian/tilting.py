"""Exponentials of linear and quadratic functions taken out of a Gaussian expectation: they change the law, exactly.

E e^(bᵀx - xᵀQx) g(x), x ~ N(m, Σ), is a number times E g(x') for x' ~ N((1 + 2ΣQ)⁻¹m + Σ'b, Σ'), Σ' = (1 + 2ΣQ)⁻¹Σ
(Cameron & Martin 1944; completing the square). So needles and growing exponentials do not appear in the integrand.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tp_compiler.evaluate.array_types import Array, Mask, Numbers
from tp_compiler.evaluate.gaussian.quadrature import lower_root
from tp_compiler.evaluate.gaussian.univariate import Seen, Univariate, monomial, scaled, times
from tp_compiler.shapes import Float

SMALLEST = 1e-13  # eigenvalues of 1 + 2QΣ below: E|f| = ∞


@dataclass(frozen=True)
class Coupling:
    """(x, y) ↦ e^(c x y)"""

    c: float
    parity = 1
    degree = None
    kinked = False

    def __call__(self, x: Array, y: Array) -> Array:
        return np.exp(self.c * x * y)

    def watch(self, points: Sequence[Array], seen: Seen) -> None:
        x, y = points
        seen.append(("exp", [self.c * x * y]))


def split(f: Univariate) -> tuple[float, float, list[Univariate]]:
    """f(x) = e^(b x - q x²) · the other functions: (b, q, others)."""
    if f.name == "exp":
        return f.scale, 0.0, [times(monomial(0), f.factor)]
    if f.name == "gauss":
        return 0.0, f.params[0] * f.scale**2, [times(monomial(0), f.factor)]
    if f.name == "gauss_prime":
        (a,) = f.params
        return 0.0, a * f.scale**2, [times(scaled(monomial(1), f.scale), -2 * a * f.factor)]
    if f.parts and any(exponential(part) for part in f.parts):
        linear, quadratic, others = 0.0, 0.0, [times(monomial(0), f.factor)]
        for part in f.parts:
            b, q, rest = split(scaled(part, f.scale))
            linear, quadratic, others = linear + b, quadratic + q, [*others, *rest]
        return linear, quadratic, others
    return 0.0, 0.0, [f]


def exponential(f: object) -> bool:
    """Whether there is something to split off."""
    return isinstance(f, Coupling) or (
        isinstance(f, Univariate)
        and (f.name in ("exp", "gauss", "gauss_prime") or any(exponential(part) for part in f.parts))
    )


def tilted(
    linear: Float[Array, " p"],
    quadratic: Float[Array, "p p"],
    mean: Float[Array, "*#rows p"],
    spread: Float[Array, "*#rows p p"],
) -> tuple[Array, Float[Array, "*rows p"], Float[Array, "*rows p p"], Mask]:
    """(log of the number, m', Σ', whether E|f| is finite) for b (p) and Q (p, p), means (..., p), covariances (..., p, p)."""
    b, q = np.asarray(linear, dtype=np.float64), np.asarray(quadratic, dtype=np.float64)
    p = len(b)
    shape = np.broadcast_shapes(np.shape(mean)[:-1], np.shape(spread)[:-2])
    mean, spread = np.broadcast_to(mean, (*shape, p)), np.broadcast_to(spread, (*shape, p, p))
    root = lower_root(spread.reshape(-1, p, p)).reshape(*shape, p, p)
    values, vectors = np.linalg.eigh(np.eye(p) + 2 * np.swapaxes(root, -1, -2) @ q @ root)
    finite = values[..., 0] > SMALLEST
    values = np.where(finite[..., None], values, 1.0)
    half = root @ (vectors / np.sqrt(values)[..., None, :])
    new = half @ np.swapaxes(half, -1, -2)
    matrix = np.where(finite[..., None, None], np.eye(p) + 2 * spread @ q, np.eye(p))
    kept = np.linalg.solve(matrix, mean[..., None])[..., 0]  # m' without b: nothing cancels in a needle
    log = kept @ b - np.sum((kept @ q) * mean, axis=-1) + b @ new @ b / 2 - np.sum(np.log(values), axis=-1) / 2
    return log, kept + new @ b, new, finite


def number(log: Numbers) -> Array:
    """e^log; infinite if that overflows a double."""
    with np.errstate(over="ignore"):
        return np.exp(log)


def grows(f: Univariate) -> bool:
    """Whether the table must leave f to this module: an exponential of a growing square."""
    return (f.name in ("gauss", "gauss_prime") and f.params[0] < 0) or any(grows(part) for part in f.parts)
