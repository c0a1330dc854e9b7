"""Symbolic closed forms: E f(g) of a SymPy expression f in jointly Gaussian variables g.

The equations, which do not use the table directly, call this to write E relu(u)relu(v) as an arc-cosine kernel.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

from tp_compiler.evaluate.exact import compositions
from tp_compiler.evaluate.gaussian import closed_forms
from tp_compiler.evaluate.gaussian.univariate import Univariate, gauss, monomial, univariate
from tp_compiler.ir.primitives import PRIMITIVES

if TYPE_CHECKING:
    import sympy


@runtime_checkable
class GaussianLaw(Protocol):
    """Symbols, their means, and their covariance matrix."""

    @property
    def variables(self) -> tuple[sympy.Symbol, ...]: ...
    @property
    def mean(self) -> tuple[sympy.Expr, ...]: ...
    @property
    def covariance(self) -> sympy.Matrix: ...


#: SymPy's names of primitives, where they differ.
_NAMES = {"Abs": "abs"}


def closed_form(expression: sympy.Expr, gaussian: GaussianLaw) -> sympy.Expr | None:
    """The formula of E expression, or None: for a product of at most two functions of centred Gaussians, each of a
    linear combination of the variables (relu(√2 u + b) is a function of one Gaussian)."""
    import sympy

    if any(m != 0 for m in gaussian.mean):
        return None
    variables = gaussian.variables
    coefficient, factors = sympy.Integer(1), []
    for part in sympy.Mul.make_args(expression):
        if not part.free_symbols & set(variables):
            coefficient *= part
            continue
        read = _factor(part, variables)
        if read is None:
            return None
        factors += read
    if not 1 <= len(factors) <= 2:
        return None
    (f, u), (g, w) = (*factors, (monomial(0), factors[0][1]))[:2]
    formula = closed_forms.formula(f, g)
    if formula is None:
        return None
    covariance = gaussian.covariance
    values = {name: (a.T * covariance * b)[0, 0] for name, a, b in (("v1", u, u), ("v2", w, w), ("c", u, w))}
    found = formula.subs({s: values[s.name] for s in formula.free_symbols if s.name in values}, simultaneous=True)
    return None if found.has(sympy.nan, sympy.zoo) else coefficient * found


def _factor(part: sympy.Expr, variables: tuple[sympy.Symbol, ...]) -> list[tuple[Univariate, sympy.Matrix]] | None:
    """A factor as functions, each with the coefficients of its argument; the square of a function is it twice."""
    import sympy

    linear = _coefficients(part, variables)
    if linear is not None:
        return [(monomial(1), linear)]
    if isinstance(part, sympy.Pow) and part.exp.is_Integer and part.exp > 0:
        base, power = part.args
        linear = _coefficients(base, variables)
        if linear is not None:
            return [(monomial(int(power)), linear)]
        inner = _factor(base, variables)
        if inner is None or len(inner) > 1:
            return None
        ((f, column),) = inner
        whole = compositions.power(f, int(power))
        if whole is not None:
            return [(whole, column)]
        return inner * 2 if power == 2 else None
    if isinstance(part, sympy.exp):
        column = _bell(part.args[0], variables)
        if column is not None:
            return [(gauss(0.5), column)]
    name = _NAMES.get(part.func.__name__, part.func.__name__)
    row = PRIMITIVES.get(name)
    if row is None or row.arity != 1 or len(part.args) != 1:
        return None
    linear = _coefficients(part.args[0], variables)
    return None if linear is None else [(univariate(name), linear)]


def _bell(exponent: sympy.Expr, variables: tuple[sympy.Symbol, ...]) -> sympy.Matrix | None:
    """The coefficients of ℓ if the exponent is -ℓ²/2, else None."""
    import sympy

    number, square = exponent.as_coeff_Mul()
    if not (number.is_negative and isinstance(square, sympy.Pow) and square.exp == 2):
        return None
    linear = _coefficients(square.base, variables)
    return None if linear is None else linear * sympy.sqrt(-2 * number)


def _coefficients(expression: sympy.Expr, variables: tuple[sympy.Symbol, ...]) -> sympy.Matrix | None:
    """The column of coefficients of a homogeneous linear combination of the variables, or None."""
    import sympy

    column = sympy.Matrix([sympy.diff(expression, x) for x in variables])
    if column.free_symbols & set(variables) or not any(column):
        return None
    rest = expression - sum(a * x for a, x in zip(column, variables, strict=True))
    return column if sympy.expand(rest) == 0 else None
