"""Functions of one real variable, with the properties an integrator needs: kinks, analyticity, derivative.

A `Univariate` is x ↦ factor · name(scale · x; params). The factor and the scale keep derivatives and affine
arguments inside the table of closed forms: erf' is 2/√π · gauss(1), and sin(2x)' is 2 · cos(2x).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from tp_compiler.evaluate import special
from tp_compiler.evaluate.array_types import Array, Numbers
from tp_compiler.evaluate.kernels import KERNELS
from tp_compiler.ir.primitives import DEFAULTS, PRIMITIVES

Seen = list[tuple[str, Sequence[Numbers]]]  # primitives in the order of evaluation, with their arguments
Watch = Callable[[Array, Seen], None]
_SQRT_2PI = math.sqrt(2 * math.pi)


@dataclass(frozen=True)
class Univariate:
    """x ↦ factor · base(scale · x). `kinks` are the points where it or a derivative jumps."""

    name: str
    params: tuple[float, ...]
    base: Callable[[Array], Array] = field(repr=False, compare=False)
    kinks: tuple[float, ...] = ()
    analytic: bool = True
    factor: float = 1.0
    scale: float = 1.0
    parity: int = 0  # of a composite: 1 even, -1 odd
    degree: int | None = field(default=None, repr=False, compare=False)  # of a composite that is a polynomial
    watch: Watch | None = field(default=None, repr=False, compare=False)
    parts: tuple[Univariate, ...] = field(default=(), repr=False, compare=False)  # of a composite that is a product
    identity: object = field(default=None, repr=False)  # distinguishes composites
    slope: Callable[[], Univariate | None] | None = field(default=None, repr=False, compare=False)  # base', if known
    jumps: bool = field(default=False, repr=False, compare=False)  # of a composite: whether it may jump at its kinks
    crowded: bool = field(default=False, repr=False, compare=False)  # whether it has more kinks than are listed

    def __call__(self, x: Numbers) -> Array:
        x = np.asarray(x, dtype=np.float64)
        value = self.base(x if self.scale == 1.0 else self.scale * x)
        return value if self.factor == 1.0 else self.factor * value

    def seen(self, x: Numbers, record: Seen) -> None:
        """Records the primitives evaluated at x with their arguments, which features.py searches for features."""
        inner = self.scale * np.asarray(x, dtype=np.float64)
        if self.watch is not None:
            self.watch(inner, record)
        else:
            record.append((self.name.rstrip("'"), [inner]))

    def derivative(self) -> Univariate | None:
        """f' if it is a function; None if f jumps (its Dirac part belongs to the Stein form) or f' is unknown."""
        return None if jumps(self) else self.regular()

    def regular(self) -> Univariate | None:
        """f' wherever f does not jump; None if it is unknown."""
        inner = _derivative(self)
        return None if inner is None else times(scaled(inner, self.scale), self.factor * self.scale)

    def watched(
        self, watch: Watch, parity: int = 0, parts: Sequence[Univariate] = (), degree: int | None = None
    ) -> Univariate:
        """The same function, with a record of its parts."""
        return replace(self, watch=watch, parity=parity, parts=tuple(parts), degree=degree)

    def with_slope(self, slope: Callable[[], Univariate | None], jumps: bool = False) -> Univariate:
        """The same function, whose base has this derivative between jumps."""
        return replace(self, slope=slope, jumps=jumps)


def univariate(name: str, *params: float) -> Univariate:
    """The function of a primitive; missing trailing arguments have the language's defaults."""
    special_case = _NAMED.get(name)
    if special_case is not None:
        return special_case(*params)
    row = PRIMITIVES[name]
    given = params or tuple(DEFAULTS.get(name, {}).values())
    if row.arity != 1 + len(given):
        raise ValueError(f"{name} is not a function of one variable and {len(given)} numbers")
    kernel = KERNELS[name]
    return Univariate(name, given, lambda x: kernel(x, *given), row.kinks, row.smooth and not row.kinks)


def monomial(k: int) -> Univariate:
    """x^k, k ≥ 0; x^0 is the constant 1."""
    _check_order(k)
    return Univariate("monomial", (float(k),), lambda x: x**k if k else np.ones_like(x))


def hermite(k: int) -> Univariate:
    """The probabilists' Hermite polynomial He_k: He_0 = 1, He_1 = x, He_{k+1} = x He_k - k He_{k-1}."""
    _check_order(k)
    series = np.eye(k + 1)[k]

    def values(x: Array) -> Array:
        from numpy.polynomial import hermite_e

        return np.asarray(hermite_e.hermeval(x, series))

    return Univariate("hermite", (float(k),), values)


def relu_power(k: int) -> Univariate:
    """max(x, 0)^k; k = 0 is the step (0 at 0)."""
    _check_order(k)
    if k < 2:
        return univariate("relu" if k else "step")
    return Univariate("relu_power", (float(k),), lambda x: np.maximum(x, 0.0) ** k, (0.0,), False)


def gauss(a: float = 1.0) -> Univariate:
    """exp(-a x²); it grows if a < 0, and has an average if -2a Var x < 1 (tilting.py)."""
    return Univariate("gauss", (float(a),), lambda x: np.exp(-a * x * x))


def gauss_prime(a: float = 1.0) -> Univariate:
    """-2a x exp(-a x²), the derivative of gauss."""
    return Univariate("gauss_prime", (float(a),), lambda x: -2 * a * x * np.exp(-a * x * x))


def normal_cdf() -> Univariate:
    """Φ(x) = (1 + erf(x/√2))/2."""
    return Univariate("normal_cdf", (), special.ndtr)


def two_sided(k: int, right: float, left: float) -> Univariate:
    """right·max(x, 0)^k + left·max(-x, 0)^k, k ≥ 1."""
    _check_order(k)
    if k == 0:
        raise ValueError("step, sign and leaky_step are the functions of order 0")
    return Univariate(
        "two_sided",
        (float(k), float(right), float(left)),
        lambda x: np.where(x > 0, right, left) * np.abs(x) ** k,
        (0.0,),
        False,
    )


def real_power(p: float, right: float, left: float) -> Univariate:
    """right·max(x, 0)^p + left·max(-x, 0)^p for any real p; E|·| is finite for p > -1."""

    def value(x: Array) -> Array:
        side = np.where(x > 0, right, left)
        return np.where(side == 0, 0.0, side * np.abs(x) ** p)

    return Univariate("real_power", (float(p), float(right), float(left)), value, (0.0,), False)


def gelu_prime() -> Univariate:
    """Φ(x) + x φ(x), the derivative of gelu."""
    return Univariate("gelu_prime", (), lambda x: special.ndtr(x) + x * np.exp(-x * x / 2) / _SQRT_2PI)


def leaky_step(slope: float = 0.01) -> Univariate:
    """1 for x > 0, `slope` for x < 0 and 0 at 0: the derivative of leaky_relu."""
    return Univariate(
        "leaky_step", (float(slope),), lambda x: np.where(x > 0, 1.0, np.where(x < 0, slope, 0.0)), (0.0,), False
    )


def composite(function: Callable[[Array], Array], kinks: tuple[float, ...] = (), analytic: bool = True) -> Univariate:
    """Any other function of one array, for quadrature."""
    return Univariate("composite", (), function, tuple(sorted(kinks)), analytic and not kinks, identity=function)


def parity(f: Univariate) -> int:
    """1 for an even function, -1 for an odd one, 0 for others."""
    if f.name in ("monomial", "hermite"):
        return 1 - 2 * (int(f.params[0]) % 2)
    if f.name in ("two_sided", "real_power"):
        _, right, left = f.params
        return 1 if right == left else -1 if right == -left else 0
    if f.name in _PARITY:
        return _PARITY[f.name]
    row = PRIMITIVES.get(f.name.removesuffix("'"))
    if row is None:
        return f.parity
    return -row.parity if f.name.endswith("'") else row.parity


def degree(f: Univariate) -> int | None:
    """The degree of a polynomial, or an upper bound; None for other functions."""
    return int(f.params[0]) if f.name in ("monomial", "hermite") else f.degree


def degree_of_sum(pieces: Sequence[Sequence[int | None]]) -> int | None:
    """The degree of a sum of products of functions of these degrees."""
    found = [d for piece in pieces for d in piece]
    return None if None in found else max((sum(d or 0 for d in piece) for piece in pieces), default=0)


def is_constant(f: Univariate) -> bool:
    return f.name == "monomial" and f.params == (0.0,)


def common(parities: Sequence[int]) -> int:
    """The parity of a sum."""
    return parities[0] if len(set(parities)) == 1 else 0


def jumps(f: Univariate) -> bool:
    """Whether it may jump."""
    return f.jumps or f.name in _JUMPING


def combination(pieces: Sequence[tuple[float, Sequence[Univariate]]]) -> Univariate:
    """x ↦ Σ coefficient Π f(x), with every kink and the derivative by the product rule."""
    if len(pieces) == 1 and len(pieces[0][1]) == 1:
        return times(pieces[0][1][0], pieces[0][0])

    def value(x: Array) -> Array:
        total = 0.0 * x
        for coefficient, functions in pieces:
            part: Any = coefficient
            for f in functions:
                part = part * f(x)
            total = total + part
        return total

    def slope() -> Univariate | None:
        found: list[tuple[float, Sequence[Univariate]]] = []
        for coefficient, functions in pieces:
            for k, f in enumerate(functions):
                own = f.regular()
                if own is None:
                    return None
                found.append((coefficient, [*functions[:k], own, *functions[k + 1 :]]))
        return combination(found)

    def watch(x: Array, record: Seen) -> None:
        for f in every:
            f.seen(x, record)

    every = [f for _, functions in pieces for f in functions]
    own = common([math.prod(parity(f) for f in functions) for _, functions in pieces])
    parts = [times(monomial(0), pieces[0][0]), *pieces[0][1]] if len(pieces) == 1 else ()
    kinks = tuple({k for f in every for k in f.kinks})
    return (
        replace(composite(value, kinks, all(f.analytic for f in every)), crowded=any(f.crowded for f in every))
        .with_slope(slope, any(jumps(f) for f in every))
        .watched(watch, own, parts, degree_of_sum([[degree(f) for f in functions] for _, functions in pieces]))
    )


def affine(f: Univariate, a: float, b: float) -> Univariate:
    """x ↦ f(a x + b), a ≠ 0."""
    if b == 0.0:
        return scaled(f, a)

    def slope() -> Univariate | None:
        own = f.regular()
        return None if own is None else times(affine(own, a, b), a)

    moved = composite(lambda x: f(a * x + b), tuple((k - b) / a for k in f.kinks), f.analytic)
    moved = replace(moved, crowded=f.crowded)
    watch: Watch = lambda x, record: f.seen(a * x + b, record)  # noqa: E731
    return moved.with_slope(slope, jumps(f)).watched(watch, degree=degree(f))


def scaled(f: Univariate, a: float) -> Univariate:
    """x ↦ f(a x)."""
    if a == 1.0:
        return f
    if a == 0.0:
        return times(monomial(0), float(f(0.0)))
    return replace(f, scale=f.scale * a, kinks=tuple(sorted(k / a for k in f.kinks)))


def times(f: Univariate, factor: float) -> Univariate:
    """x ↦ factor · f(x)."""
    return f if factor == 1.0 else replace(f, factor=f.factor * factor)


class _Numpy:
    """The derivative rules of `ir.primitives`, evaluated on arrays."""

    def __call__(self, fn: str, *args: Numbers) -> Array:
        return KERNELS[fn](*args)

    def number(self, value: float) -> float:
        return value


def _derivative(f: Univariate) -> Univariate | None:
    """The derivative of the base function, by name."""
    if f.slope is not None:
        return f.slope()
    rule = _DERIVATIVES.get(f.name)
    if rule is not None:
        return rule(*f.params)
    row = PRIMITIVES.get(f.name)
    if f.name in _JUMPING:
        return times(monomial(0), 0.0)
    if row is None:
        return None
    partial, algebra, params = row.partials[0], _Numpy(), f.params
    kinks = tuple(sorted(k * f.scale for k in f.kinks))
    return Univariate(
        f.name + "'", params, lambda x: np.asarray(partial(algebra, x, *params)) + 0.0 * x, kinks, row.smooth
    )


def _check_order(k: int) -> None:
    if k != int(k) or k < 0:
        raise ValueError("the order must be a whole number ≥ 0")


_PARITY = {"gauss": 1, "gauss_prime": -1}
_JUMPING = frozenset({"step", "sign", "leaky_step"})
_NAMED: dict[str, Callable[..., Univariate]] = {
    "square": lambda: monomial(2),
    "monomial": monomial,
    "hermite": hermite,
    "relu_power": relu_power,
    "two_sided": two_sided,
    "real_power": real_power,
    "gauss": gauss,
    "gauss_prime": gauss_prime,
    "normal_cdf": normal_cdf,
    "leaky_step": leaky_step,
    "gelu_prime": gelu_prime,
}


def _power_rule(make: Callable[[int], Univariate]) -> Callable[[float], Univariate]:
    return lambda k: times(make(int(k) - 1), k) if k else times(monomial(0), 0.0)


def _two_sided_slope(k: float, right: float, left: float) -> Univariate:
    if k > 1:
        return times(two_sided(int(k) - 1, right, -left), k)
    return times(leaky_step(-left / right), right) if right else times(scaled(univariate("step"), -1.0), -left)


def _real_power_slope(p: float, right: float, left: float) -> Univariate | None:
    return times(real_power(p - 1, right, -left), p) if p > 0 else None


_DERIVATIVES: dict[str, Callable[..., Univariate | None]] = {
    "monomial": _power_rule(monomial),
    "hermite": _power_rule(hermite),
    "relu_power": _power_rule(relu_power),
    "relu": lambda: univariate("step"),
    "leaky_relu": leaky_step,
    "abs": lambda: univariate("sign"),
    "sin": lambda: univariate("cos"),
    "cos": lambda: times(univariate("sin"), -1.0),
    "exp": lambda: univariate("exp"),
    "sinh": lambda: univariate("cosh"),
    "cosh": lambda: univariate("sinh"),
    "erf": lambda: times(gauss(1.0), 2 / math.sqrt(math.pi)),
    "erfc": lambda: times(gauss(1.0), -2 / math.sqrt(math.pi)),
    "gelu": gelu_prime,
    "gauss": gauss_prime,
    "normal_cdf": lambda: times(gauss(0.5), 1 / _SQRT_2PI),
    "two_sided": _two_sided_slope,
    "real_power": _real_power_slope,
    "softplus": lambda: univariate("sigmoid"),
}
