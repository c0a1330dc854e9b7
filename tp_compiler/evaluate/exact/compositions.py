"""Functions of functions that are again in the table of closed forms: exp(-z²/2) is a gauss, relu(z)² a relu power.

Every rule is an identity of real functions. A composition that is not listed is integrated.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np

from tp_compiler.evaluate.array_types import Numbers
from tp_compiler.evaluate.exact.ket_formula import GaussianFactor, KetFormula, Linear, Operand, Tensor, Term, number
from tp_compiler.evaluate.gaussian import powers
from tp_compiler.evaluate.gaussian.arccosine import Sided, sided
from tp_compiler.evaluate.gaussian.tilting import Coupling
from tp_compiler.evaluate.gaussian.univariate import (
    Univariate,
    gauss,
    leaky_step,
    monomial,
    real_power,
    relu_power,
    scaled,
    times,
    two_sided,
    univariate,
)
from tp_compiler.evaluate.kernels import KERNELS

#: h(t x) = t^degree h(x) for t > 0 and h(0) = 0, a degree for each argument that is a ket
_HOMOGENEOUS = {
    **{"relu": (1,), "abs": (1,), "leaky_relu": (1, None), "step": (0,), "sign": (0,)},
    **{"max": (1, 1), "min": (1, 1), "where": (0, 1, 1)},
}
LARGEST_EXPONENT = 700.0  # e^700 is finite as a double
MOST_POWER = 170  # (170 - 1)!! is finite as a double


def composed(fn: str, args: Sequence[Operand]) -> KetFormula | None:
    """fn of kets and constants if it is one function of the table, else None."""
    if any(isinstance(a, Tensor) and np.ndim(a.values) for a in args):
        return None
    if fn == "exp" and isinstance(args[0], KetFormula):
        return _of_exponent(args[0])
    return _of_power(fn, args) or _of_shapes(fn, args) or _of_product(fn, args)


def _form(function: Univariate, argument: Linear) -> KetFormula:
    return KetFormula((Term(number(1.0), (GaussianFactor(function, (argument,)),)),))


def _of_exponent(a: KetFormula) -> KetFormula | None:
    """e^(constant + Σ (b x - a x²) + Σ c x y), a factor for each Gaussian and for each pair."""
    constant = sum(float(t.coefficient.values) for t in a.terms if not t.factors and not _indexed(t))
    factors: dict[Any, GaussianFactor] = {}
    for term in a.terms:
        if not term.factors and not _indexed(term):
            continue
        if _is_pair(term):
            x, y = (f.arguments[0] for f in term.factors)
            factors[x.key, y.key] = GaussianFactor(Coupling(float(term.coefficient.values)), (x, y))
            continue
        read = one_function(term)
        outer = None if read is None else _exponential(read[0])
        if read is None or outer is None:
            return None
        factors[outer.name, read[1].key] = GaussianFactor(outer, (read[1],))
    if len(factors) + (constant != 0) < len(a.terms) or abs(constant) > LARGEST_EXPONENT:
        return None
    return KetFormula((Term(number(math.exp(constant)), tuple(factors.values())),)) if factors else None


def _is_pair(term: Term) -> bool:
    """Whether it is c x y."""
    if term.over or _indexed(term) or len(term.factors) != 2 or not all(f.is_identity for f in term.factors):
        return False
    x, y = (f.arguments[0] for f in term.factors)
    return x.key != y.key and min(x.copy, y.copy) >= 0


def _exponential(inner: Univariate) -> Univariate | None:
    """e^(b x) and e^(-a x²)."""
    if (inner.name, inner.params) == ("monomial", (1.0,)):
        return scaled(univariate("exp"), inner.factor * inner.scale)
    if (inner.name, inner.params) == ("monomial", (2.0,)):
        return gauss(-inner.factor * inner.scale**2)
    return None


def _exponent(fn: str, args: Sequence[Operand]) -> float | None:
    """p if fn(x, ..) is x^p."""
    if fn == "pow" and isinstance(args[1], Tensor):
        return float(args[1].values)
    return {"square": 2.0, "sqrt": 0.5}.get(fn)


def _of_power(fn: str, args: Sequence[Operand]) -> KetFormula | None:
    exponent = _exponent(fn, args)
    if exponent is None or not isinstance(args[0], KetFormula) or len(args[0].terms) != 1:
        return None
    read = one_function(args[0].terms[0])
    whole = None if read is None else power(read[0], exponent)
    return None if read is None or whole is None else _form(whole, read[1])


def _of_product(fn: str, args: Sequence[Operand]) -> KetFormula | None:
    """|fg| = |f||g|, and (fg)^p = f^p g^p if p is an integer or f and g are not negative, over several Gaussians."""
    exponent = _exponent(fn, args)
    if (
        (exponent is None and fn not in ("abs", "sign"))
        or not isinstance(args[0], KetFormula)
        or len(args[0].terms) != 1
    ):
        return None
    (term,) = args[0].terms
    keys = list({a.key for f in term.factors for a in f.arguments})
    if term.over or _indexed(term) or len(keys) < 2 or any(len(f.arguments) > 1 for f in term.factors):
        return None
    numbers = [] if exponent is None else [exponent]
    with np.errstate(all="ignore"):
        value = float(KERNELS["pow" if numbers else fn](np.asarray(term.coefficient.values), *numbers))
    factors: list[GaussianFactor] = []
    for key in keys:
        own = KetFormula((Term(number(1.0), tuple(f for f in term.factors if f.arguments[0].key == key)),))
        part = composed("pow" if numbers else fn, [own, *(number(p) for p in numbers)])
        if part is None:
            return None
        value *= float(part.terms[0].coefficient.values)
        factors += part.terms[0].factors
    return KetFormula((Term(number(value), tuple(factors)),)) if np.isfinite(value) else None


def reciprocal(form: KetFormula) -> KetFormula | None:
    """1/f as a function of the table, or None."""
    return composed("pow", [form, number(-1.0)])


def _of_shapes(fn: str, args: Sequence[Operand]) -> KetFormula | None:
    """A homogeneous function of right·x₊^n + left·(-x)₊^n is again one, if it vanishes at 0."""
    degrees = _HOMOGENEOUS.get(fn)
    if degrees is None:
        return None
    shapes: list[tuple[float, float]] = []
    orders: set[Any] = set()
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


def _shape_in(a: Operand, variables: dict[Hashable, Linear]) -> Sided | None:
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
    """x ↦ f(x) g(x), if the table has it."""
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


def power(f: Univariate, p: float) -> Univariate | None:
    """x ↦ f(x)^p, if the table has it; p is an integer if f may be negative."""
    p = float(p)
    if p == 0 or abs(p) > MOST_POWER or (f.factor < 0 and not p.is_integer()):
        return None
    if f.name == "exp":
        return times(scaled(univariate("exp"), f.scale * p), f.factor**p)
    if f.name == "gauss":
        return times(gauss(f.params[0] * f.scale**2 * p), f.factor**p)
    shape = _pure(f)
    if shape is None:
        return None
    right, left = shape.even + shape.odd, shape.even - shape.odd
    if f.name == "monomial" and shape.order == 0:
        return times(monomial(0), right**p)
    if (min(right, left) < 0 and not p.is_integer()) or (min(abs(right), abs(left)) == 0 and p < 0):
        return None
    return _of_sides(shape.order * p, right**p, left**p)


def _pure(f: Univariate) -> Sided | None:
    """factor · f(scale · x) as a sided function of x, of any real order; None for those with noise (erf)."""
    shape = powers.shape(f) if f.name == "real_power" else sided(f)
    if shape is None or shape.halves:
        return None
    size, turn = f.factor * abs(f.scale) ** shape.order, math.copysign(1.0, f.scale)
    return Sided(shape.order, shape.even * size, shape.odd * size * turn)


def _of_sides(order: float, right: float, left: float) -> Univariate:
    """right·x₊^n + left·(-x)₊^n (0 at 0), by name if it has one."""
    if order < 0 or order != int(order):
        return real_power(order, right, left)
    order = int(order)
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


def centred(f: Univariate, mean: Numbers) -> list[tuple[Numbers, Univariate]] | None:
    """f(mean + x) = Σ coefficient · g(x): binomial and addition theorems; None if f has none."""
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
