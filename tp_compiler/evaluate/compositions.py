"""Functions of functions that are again in the table of closed forms: exp(-z²/2) is a gauss, relu(z)² a relu power.

Every rule is an identity of real functions. What is not listed stays a composite, and is integrated.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tp_compiler.evaluate.arccosine import Sided, sided
from tp_compiler.evaluate.forms import Factor, Form, Linear, Tensor, Term, number
from tp_compiler.evaluate.kernels import KERNELS
from tp_compiler.evaluate.univariate import (
    Univariate,
    gauss,
    leaky_step,
    monomial,
    relu_power,
    scaled,
    times,
    two_sided,
    univariate,
)

#: h(t x) = t^degree h(x) for t > 0 and h(0) = 0, a degree for each argument that is a ket
_HOMOGENEOUS = {
    **{"relu": (1,), "abs": (1,), "leaky_relu": (1, None), "step": (0,), "sign": (0,)},
    **{"max": (1, 1), "min": (1, 1), "where": (0, 1, 1)},
}
MOST_POWER = 8


def composed(fn: str, args: list[Any]) -> Form | None:
    """fn of kets and constants where that is one function of the table, or None."""
    if any(isinstance(a, Tensor) and np.ndim(a.values) for a in args):
        return None
    return _of_square(args[0]) if fn == "exp" else _of_power(fn, args) or _of_shapes(fn, args)


def _form(function: Univariate, argument: Linear) -> Form:
    return Form((Term(number(1.0), (Factor(function, (argument,)),)),))


def _of_square(a: Form) -> Form | None:
    """e^(constant - a x²)."""
    constant = sum(float(t.coefficient.values) for t in a.terms if not t.factors and not _indexed(t))
    terms = [t for t in a.terms if t.factors or _indexed(t)]
    read = one_function(terms[0]) if len(terms) == 1 else None
    if read is None:
        return None
    inner, argument = read
    if (inner.name, inner.params) != ("monomial", (2.0,)) or inner.factor > 0:
        return None
    return _form(times(gauss(-inner.factor * inner.scale**2), math.exp(constant)), argument)


def _of_power(fn: str, args: list[Any]) -> Form | None:
    if fn not in ("pow", "square") or not isinstance(args[0], Form) or len(args[0].terms) != 1:
        return None
    read = one_function(args[0].terms[0])
    exponent = float(args[1].values) if fn == "pow" and isinstance(args[1], Tensor) else 2.0
    if read is None or not exponent.is_integer() or any(isinstance(a, Form) for a in args[1:]):
        return None
    whole = power(read[0], int(exponent))
    return None if whole is None else _form(whole, read[1])


def _of_shapes(fn: str, args: list[Any]) -> Form | None:
    """A homogeneous function of right·x₊^n + left·(-x)₊^n is again one, where it vanishes at 0."""
    degrees = _HOMOGENEOUS.get(fn)
    if degrees is None:
        return None
    shapes: list[tuple[float, float]] = []
    orders: set[int] = set()
    variables: dict[Any, Linear] = {}
    for a, degree in zip(args, degrees, strict=True):
        shape = _shape_in(a, variables)
        if shape is None:
            return None
        shapes.append((shape.even + shape.odd, shape.even - shape.odd))
        if degree == 1 and shapes[-1] != (0.0, 0.0):
            orders.add(shape.order)
    at_zero = [float(a.values) if isinstance(a, Tensor) else 0.0 for a in args]
    if len(variables) != 1 or len(orders) > 1 or KERNELS[fn](*at_zero) != 0.0:
        return None
    right, left = (float(KERNELS[fn](*values)) for values in zip(*shapes, strict=True))
    return _form(_of_sides(orders.pop() if orders else 0, right, left), *variables.values())


def _shape_in(a: Any, variables: dict[Any, Linear]) -> Sided | None:
    """A number, or a ket of one term, as a sided function of its Gaussian, which is added to `variables`."""
    if isinstance(a, Tensor):
        return Sided(0, float(a.values), 0.0)
    read = one_function(a.terms[0]) if len(a.terms) == 1 else None
    if read is None or (read[0].name == "monomial" and read[0].params == (0.0,)):
        return None
    variables[read[1].key] = read[1]
    return _pure(read[0])


def _indexed(term: Term) -> bool:
    return bool(np.ndim(term.coefficient.values))


def one_function(term: Term) -> tuple[Univariate, Linear] | None:
    """A term as one function of one Gaussian ket."""
    functions = [f.function for f in term.factors if isinstance(f.function, Univariate)]
    keys = {a.key for f in term.factors for a in f.arguments}
    if term.over or _indexed(term) or len(keys) != 1 or len(functions) != len(term.factors):
        return None
    found: Univariate | None = functions[0]
    for f in functions[1:]:
        found = None if found is None else multiplied(found, f)
    if found is None:
        return None
    return times(found, float(term.coefficient.values)), term.factors[0].arguments[0]


def multiplied(f: Univariate, g: Univariate) -> Univariate | None:
    """x ↦ f(x) g(x), where the table has it."""
    factor = f.factor * g.factor
    if f.name == g.name == "exp":
        return times(scaled(univariate("exp"), f.scale + g.scale), factor)
    if f.name == g.name == "gauss":
        return times(gauss(f.params[0] * f.scale**2 + g.params[0] * g.scale**2), factor)
    for one, other in ((f, g), (g, f)):
        if one.name == "monomial" and one.params == (0.0,):
            return times(other, one.factor)
    a, b = _pure(f), _pure(g)
    if a is None or b is None:
        return None
    return _of_sides(a.order + b.order, (a.even + a.odd) * (b.even + b.odd), (a.even - a.odd) * (b.even - b.odd))


def power(f: Univariate, k: int) -> Univariate | None:
    """x ↦ f(x)^k, k ≥ 1, where the table has it."""
    if not 1 <= k <= MOST_POWER:
        return None
    found: Univariate | None = f
    for _ in range(k - 1):
        found = None if found is None else multiplied(found, f)
    return found


def _pure(f: Univariate) -> Sided | None:
    """factor · f(scale · x) as a sided function of x; None for those with noise (erf)."""
    shape = sided(f)
    if shape is None or shape.halves:
        return None
    size, turn = f.factor * abs(f.scale) ** shape.order, math.copysign(1.0, f.scale)
    return Sided(shape.order, shape.even * size, shape.odd * size * turn)


def _of_sides(order: int, right: float, left: float) -> Univariate:
    """right·x₊^n + left·(-x)₊^n (0 at 0) under its own name, if it has one."""
    if order and left == (-1) ** order * right:
        return times(monomial(order), right)
    if right == 0.0:
        return scaled(_of_sides(order, left, 0.0), -1.0) if left else times(monomial(0), 0.0)
    ratio = left / right
    if order == 0:
        return times(univariate("sign") if ratio == -1 else leaky_step(ratio) if left else univariate("step"), right)
    if order == 1 and left:
        return times(univariate("abs") if ratio == 1 else univariate("leaky_relu", -ratio), right)
    return times(two_sided(order, 1.0, ratio) if left else relu_power(order), right)


def centred(f: Univariate, mean: Any) -> list[tuple[Any, Univariate]] | None:
    """f(mean + x) = Σ coefficient · g(x): binomial and addition theorems; None where f has none."""
    shift = f.scale * mean
    if f.name in ("monomial", "hermite"):
        n = int(f.params[0])
        return [
            (math.comb(n, i) * shift ** (n - i), times(scaled(univariate(f.name, i), f.scale), f.factor))
            for i in range(n + 1)
        ]
    if f.name == "exp":
        return [(np.exp(shift), f)]
    if f.name in ("sin", "cos"):
        own, other = (times(scaled(univariate(n), f.scale), f.factor) for n in ("sin", "cos"))
        sine, cosine = np.sin(shift), np.cos(shift)
        return [(cosine, own), (sine, other)] if f.name == "sin" else [(cosine, other), (-sine, own)]
    if f.name in ("sinh", "cosh"):
        other = times(scaled(univariate("cosh" if f.name == "sinh" else "sinh"), f.scale), f.factor)
        return [(np.cosh(shift), f), (np.sinh(shift), other)]
    return None
