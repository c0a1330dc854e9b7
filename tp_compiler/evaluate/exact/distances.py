"""Var(u - v) of two members of one family, from the differences of their coefficients.

For inputs 1e-6 apart, v1 + v2 - 2c has lost their difference, 1e-12 of the variances; the coefficients have not.
A function that jumps takes a square root of that distance, so that the next layer sees 1e-6, which covariances can resolve.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tp_compiler.evaluate.array_types import Array, Places
from tp_compiler.evaluate.exact.ket_formula import Bundle, Linear, LinearPart, Tensor, Variable
from tp_compiler.evaluate.gaussian.closed_forms import Distance
from tp_compiler.evaluate.gaussian.operations import at
from tp_compiler.ir import nodes as ir
from tp_compiler.ir.types import Index

_BLOCK = 2**20  # numbers at a time


def between(
    covariance: Callable[[Variable, Variable], Tensor], u: Linear, v: Linear, labels: tuple[Index, ...]
) -> Distance | None:
    """Var(u - v) at places of an array over `labels`; None unless both are sums of the same initial kets."""
    pairs = comparable(u, v)
    if pairs is None:
        return None

    def distance(places: Places) -> Array:
        total = np.zeros(len(places[0]))
        for p, q in pairs:
            variance = covariance(p.variable, p.variable)
            total += _variance(p, q, Tensor(np.asarray(variance.values), variance.labels), labels, places)
        return total

    return distance


def comparable(u: Linear, v: Linear) -> list[tuple[LinearPart, LinearPart]] | None:
    """The parts of two Gaussians side by side, if both are sums of the same initial kets."""
    if u.root != v.root or u.copy != v.copy:
        return None
    if not all(isinstance(p.variable.node, ir.InitialKet | Bundle) for p in u.parts):
        return None  # before many parts are examined
    own = u.flat()
    pairs = list(zip(own, v.flat(), strict=False))
    if not all(_comparable(p, q) for p, q in pairs):
        return None
    if any(not p.variable.independent_of(q.variable) for k, p in enumerate(own) for q in own[:k]):
        return None
    return pairs


def _comparable(p: LinearPart, q: LinearPart) -> bool:
    """One variable, summed over independent members, with two coefficients."""
    node = p.variable.node
    if not isinstance(node, ir.InitialKet) or node.symbol.pair is not None:
        return False
    return p.variable == q.variable and p.over == q.over and set(p.over) == set(p.variable.labels)


def _variance(p: LinearPart, q: LinearPart, variance: Tensor, labels: tuple[Index, ...], places: Places) -> Array:
    """Σ_over (a - b)² Var at the places, a and b the coefficients."""
    size = max(1, int(np.prod([x.size for x in p.over])))
    step = max(1, _BLOCK // size)
    parts = []
    for start in range(0, len(places[0]), step):
        here = tuple(i[start : start + step] for i in places)
        a, b, spread = (_gathered(t, labels, p.over, here) for t in (p.coefficient, q.coefficient, variance))
        square = np.broadcast_to((a - b) ** 2 * spread, (len(here[0]), *(x.size for x in p.over)))
        parts.append(square.sum(axis=tuple(range(1, square.ndim))))
    return np.concatenate(parts) if parts else np.zeros(0)


def _gathered(t: Tensor, labels: tuple[Index, ...], over: tuple[Index, ...], here: Places) -> Array:
    """The entries of t at places of `labels`, in front of the dimensions of `over`."""
    return np.asarray(at(np.asarray(t.at((*labels, *over))), here))
