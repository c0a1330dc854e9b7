"""Functions of several Gaussians, which can be watched: a record of the primitives in them with their arguments says
where they are singular or narrow (features.py), and their parities whether they are even or odd.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import numpy as np

from tp_compiler.evaluate.array_types import Array, Numbers
from tp_compiler.evaluate.exact.ket_formula import GaussianFactor, KetFormula, Linear, Operand, Tensor, Term, number
from tp_compiler.evaluate.gaussian.tilting import Coupling
from tp_compiler.evaluate.gaussian.univariate import Seen, Univariate, common, degree, degree_of_sum, parity
from tp_compiler.evaluate.interface import NotExact
from tp_compiler.evaluate.kernels import KERNELS
from tp_compiler.ir.primitives import PRIMITIVES


class KetOfGaussians:
    """A ket as a function of the values of its Gaussians."""

    def __init__(self, ket: KetFormula | Tensor, variables: dict[Hashable, Linear]):
        self.pieces: list[tuple[float, tuple[GaussianFactor, ...]]] = []
        self.kinked = False
        if isinstance(ket, Tensor):
            if np.ndim(ket.values):
                raise NotExact("a function of a ket and an indexed scalar")
            self.pieces.append((float(ket.values), ()))
            return
        for term in ket.terms:
            if term.over or np.ndim(term.coefficient.values):
                raise NotExact("a nonlinear function of a sum over an index")
            for factor in term.factors:
                self.kinked |= kinked(factor)
                for argument in factor.arguments:
                    if argument.copy < 0:
                        raise NotExact("a nonlinear function of an average over copies")
                    variables[argument.key] = argument
            self.pieces.append((float(term.coefficient.values), term.factors))

    def __call__(self, known: Mapping[Hashable, Array], seen: Seen | None = None) -> Numbers:
        total: Any = 0.0
        for coefficient, factors in self.pieces:
            part: Any = coefficient
            for f in factors:
                points = [known[x.key] for x in f.arguments]
                if seen is not None:
                    watch(f, points, seen)
                part = part * f.function(*points)
            total = total + part
        return total

    @property
    def parity(self) -> int:
        return common([math.prod(parity_of(f) for f in factors) for _, factors in self.pieces])

    @property
    def degree(self) -> int | None:
        return degree_of_sum([[degree_of(f) for f in factors] for _, factors in self.pieces])

    @property
    def number(self) -> float | None:
        """Its value, if it is a number."""
        return None if any(factors for _, factors in self.pieces) else sum(c for c, _ in self.pieces)


class Several:
    """fn of sums: one function of as many arrays as there are Gaussians."""

    def __init__(self, fn: str, inner: list[KetOfGaussians], keys: list[Hashable]):
        self.fn, self.inner, self.keys = fn, inner, keys
        self.kinked = not PRIMITIVES[fn].smooth or any(f.kinked for f in inner)
        exponent = inner[1].number if fn == "pow" else None
        self.parity = parity_under(fn, [f.parity for f in inner], exponent)
        self.degree = degree_under(fn, [f.degree for f in inner], exponent)

    def __call__(self, *points: Array) -> Array:
        known = dict(zip(self.keys, points, strict=True))
        return KERNELS[self.fn](*(f(known) for f in self.inner))

    def watch(self, points: Sequence[Array], seen: Seen) -> None:
        known = dict(zip(self.keys, points, strict=True))
        seen.append((self.fn, [f(known, seen) for f in self.inner]))


class Moved:
    """A function of several Gaussians at scaled and shifted ones."""

    def __init__(self, function: Callable[..., Array], lines: list[tuple[float, float]]):
        self.function, self.lines = function, lines
        self.parity = 0 if any(shift for _, shift in lines) else getattr(function, "parity", 0)
        self.degree: int | None = getattr(function, "degree", None)
        self.kinked: bool = getattr(function, "kinked", False)

    def _inner(self, points: Sequence[Array]) -> list[Array]:
        return [s * x + t for (s, t), x in zip(self.lines, points, strict=True)]

    def __call__(self, *points: Array) -> Array:
        return self.function(*self._inner(points))

    def watch(self, points: Sequence[Array], seen: Seen) -> None:
        if isinstance(self.function, Several | Moved | Coupling):
            self.function.watch(self._inner(points), seen)


def several(fn: str, args: Sequence[Operand]) -> KetFormula:
    """fn of kets that are themselves functions of Gaussians: one factor of all Gaussians involved."""
    variables: dict[Any, Linear] = {}
    inner = [KetOfGaussians(a, variables) for a in args]
    return KetFormula(
        (Term(number(1.0), (GaussianFactor(Several(fn, inner, list(variables)), tuple(variables.values())),)),)
    )


def together(form: KetFormula) -> KetFormula:
    """A sum of products as one function, if its terms have no averages separately."""
    return several("add", [form])


def watch(factor: GaussianFactor, points: Sequence[Array], seen: Seen) -> None:
    """Records the primitives in a factor, evaluated at points of its arguments."""
    f = factor.function
    if isinstance(f, Univariate):
        f.seen(points[0], seen)
    elif isinstance(f, Several | Moved | Coupling):
        f.watch(points, seen)


def kinked(factor: GaussianFactor) -> bool:
    f = factor.function
    return bool(f.kinks) or f.crowded if isinstance(f, Univariate) else getattr(f, "kinked", False)


def parity_of(factor: GaussianFactor) -> int:
    """1: even, -1: odd, under a change of sign of all its Gaussians, if they have no mean."""
    f = factor.function
    return parity(f) if isinstance(f, Univariate) else getattr(f, "parity", 0)


def degree_of(factor: GaussianFactor) -> int | None:
    """The degree of a polynomial in all its Gaussians, at most; None for other functions."""
    f = factor.function
    return degree(f) if isinstance(f, Univariate) else getattr(f, "degree", None)


def degree_under(fn: str, own: list[int | None], exponent: float | None) -> int | None:
    """The degree of fn of polynomials of these degrees; None if the result is not a polynomial."""
    if fn in ("add", "mul"):
        return degree_of_sum([[d] for d in own] if fn == "add" else [own])
    power = 2.0 if fn == "square" else exponent if fn == "pow" else None
    if power is None or power < 0 or not power.is_integer() or own[0] is None:
        return None
    return own[0] * int(power)


def parity_under(fn: str, own: list[int], exponent: float | None) -> int:
    """The parity of fn of functions that are even, odd or neither."""
    if all(p == 1 for p in own):
        return 1
    if fn == "add":
        return common(own)
    if fn in ("mul", "div"):
        return math.prod(own)
    if fn == "square":
        exponent = 2.0
    if exponent is not None and exponent.is_integer() and own[0] == -1:
        return 1 if exponent % 2 == 0 else -1
    row = PRIMITIVES[fn]
    return row.parity if row.arity == 1 and own[0] == -1 else 0
