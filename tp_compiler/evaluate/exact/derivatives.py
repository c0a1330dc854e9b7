"""Averages of derivatives of kets, of first and second order, jumps included.

For a function f of a Gaussian ℓ that jumps by J at κ, f' is its derivative elsewhere plus J δ(ℓ - κ), and f'' that of the former
plus J δ'(ℓ - κ). With p the density of ℓ, and R̄(x) = E[R | ℓ = x] for the other factors R,

    E δ(ℓ - κ) R = p(κ) R̄(κ),    E δ'(ℓ - κ) R = -(p R̄)'(κ) = p(κ) ((κ - E ℓ)/Var ℓ · R̄(κ) - R̄'(κ)),

and R̄'(x) = Σ_k Cov(ℓ_k, ℓ)/Var ℓ · E[∂_k R | ℓ = x], since given ℓ the other Gaussians move with it on their regression lines.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tp_compiler.evaluate.budget import current
from tp_compiler.evaluate.exact import pointwise, stein
from tp_compiler.evaluate.exact.expectations import Expectations
from tp_compiler.evaluate.exact.ket_formula import (
    GaussianFactor,
    KetFormula,
    Linear,
    Tensor,
    Term,
    Variable,
    delta,
    identity,
    number,
    plus,
    summed,
    times,
)
from tp_compiler.evaluate.gaussian.univariate import Univariate, is_constant
from tp_compiler.evaluate.interface import NotExact

MINUS = number(-1.0)


def slope(factor: GaussianFactor, variable: Variable) -> Tensor | None:
    """∂ℓ/∂variable for the argument of a factor on the ket's own neuron; None if it does not occur."""
    if not any(p.variable.node is variable.node for a in factor.arguments if a.copy == 0 for p in a.flat()):
        return None
    if len(factor.arguments) > 1:
        raise NotExact("the derivative of a function of several Gaussians")
    (argument,) = factor.arguments
    found = []
    for part in argument.flat():
        if part.variable.node is variable.node:
            part = part.refreshed()
            deltas = [d for p, q in zip(part.variable.places, variable.places, strict=True) if (d := delta(p, q))]
            found.append(summed([part.coefficient, *deltas], part.over))
    return plus(*found)


@dataclass(frozen=True)
class Derived:
    """A factor, and how many times its function is differentiated."""

    factor: GaussianFactor
    order: int = 0


class Derivatives:
    """E ∂_a ∂_b |x> by Gaussian variables a, b: through the ket's own neuron."""

    def __init__(self, expect: Expectations) -> None:
        self.expect = expect

    def mean(self, x: KetFormula, by: Sequence[Variable]) -> Tensor | None:
        """E of the derivative by all the variables; None if it vanishes."""
        gaussians = self.expect.gaussians
        signs = [gaussians.variable(v) for v in by]
        total: Tensor | None = None
        for term in x.terms:
            current().poll()
            made = gaussians.term(term)
            if not all(made.meets(s) for s in signs):
                continue
            for s in signs:
                made = made.times(s)
            part = None if made.vanishes else self._term(term, by)
            total = _added(total, part)
        return total

    def _term(self, term: Term, by: Sequence[Variable]) -> Tensor | None:
        factors = pointwise.fused(term.factors)
        slopes = [[(k, s) for k, f in enumerate(factors) if (s := slope(f, v)) is not None] for v in by]
        total: Tensor | None = None
        for choice in itertools.product(*slopes):
            orders = [sum(k == chosen for chosen, _ in choice) for k in range(len(factors))]
            inner = self._product([Derived(f, n) for f, n in zip(factors, orders, strict=True)])
            if inner is not None:
                total = _added(total, summed([term.coefficient, inner, *(s for _, s in choice)], term.over))
        return total

    # -- products of derivatives ---------------------------------------------------------------------------------
    def _product(self, items: list[Derived]) -> Tensor | None:
        """E Π of derivatives; independent clusters are averaged separately."""
        found = []
        own = {id(d.factor): d for d in items}
        for _, members in self.expect.gaussians.clusters(d.factor for d in items):
            value = self._cluster([own[id(f)] for f in members])
            if value is None:
                return None
            found.append(value)
        return times(*found) if found else number(1.0)

    def _cluster(self, items: list[Derived]) -> Tensor | None:
        moving = [d for d in items if d.order]
        if not moving:
            return stein.mean_at(self.expect.product, self.expect.covariance, tuple(d.factor for d in items))
        item = min(moving, key=lambda d: not d.factor.is_identity)
        rest = [d for d in items if d is not item]
        if item.factor.is_identity:
            return self._product(rest) if item.order == 1 else None
        f, argument = item.factor.function, item.factor.arguments[0]
        if not isinstance(f, Univariate):
            raise NotExact("the derivative of a function of several Gaussians")
        jumps, regular = [] if f.crowded else stein.jumps_of(f), f.regular()
        if not rest and (jumps or regular is None):
            return self._alone(item)
        if regular is None:
            return self._by_parts(item, rest)
        if jumps and stein.halfway(self.expect.covariance, item.factor):
            raise NotExact("functions that jump at one place")
        total: Tensor | None = None
        if not (is_constant(regular) and regular.factor == 0.0):
            total = self._product([Derived(GaussianFactor(regular, (argument,)), item.order - 1), *rest])
        for place, size in jumps:
            part = self._at_jump(rest, argument, place, item.order)
            total = _added(total, None if part is None else times(number(size), part))
        return total

    def _alone(self, item: Derived) -> Tensor | None:
        """E f' = E (ℓ - m) f/Var ℓ, and E f'' = E ((ℓ - m)²/Var ℓ - 1) f/Var ℓ."""
        (argument,) = item.factor.arguments
        covariance, product = self.expect.covariance, self.expect.product
        if item.order == 1:
            return stein.mean_derivative(product, covariance, item.factor, ())
        variance, mean, same = covariance(argument, argument), argument.mean, identity(argument)
        inverse = stein.inverse(variance)
        rest = plus(times(mean, mean), times(MINUS, variance))
        scales = (number(1.0), times(number(-2.0), mean), rest)
        moments = (product((*(same,) * (2 - k), item.factor)) for k in range(3))
        found = [times(m, s, inverse, inverse) for m, s in zip(moments, scales, strict=True) if m is not None]
        return plus(*found) if found else None

    def _by_parts(self, item: Derived, rest: list[Derived]) -> Tensor | None:
        """E f' R = (E (ℓ - m) f R - Σ_k Cov(ℓ_k, ℓ) E f ∂_k R)/Var ℓ, where f' is not known; jumps count."""
        (argument,) = item.factor.arguments
        lower = Derived(item.factor, item.order - 1)
        whole, plain = (self._product([*more, lower, *rest]) for more in ([Derived(identity(argument))], []))
        found = [whole, None if plain is None else times(MINUS, argument.mean, plain)]
        found += [None if x is None else times(MINUS, x) for x in self._moved(rest, argument, rest, [lower])]
        known = [t for t in found if t is not None]
        return times(plus(*known), stein.inverse(self.expect.covariance(argument, argument))) if known else None

    def _moved(
        self, own: list[Derived], argument: Linear, rest: list[Derived], others: list[Derived]
    ) -> list[Tensor | None]:
        """Cov(ℓ_k, ℓ) E ∂_k Π rest Π others for each of the rest; `own` have the Gaussians ℓ_k."""
        found: list[Tensor | None] = []
        for k, d in enumerate(own):
            moved = [Derived(x.factor, x.order + (k == m)) for m, x in enumerate(rest)]
            for a in d.factor.arguments:
                if a.groups & argument.groups and (change := self._product([*moved, *others])) is not None:
                    found.append(times(self.expect.covariance(a, argument), change))
        return found

    def _at_jump(self, rest: list[Derived], argument: Linear, place: float, order: int) -> Tensor | None:
        """E δ(ℓ - κ) Π rest, or of δ' if the order is 2."""
        covariance = self.expect.covariance
        there = self._given(rest, argument, place)
        variance = covariance(argument, argument)
        density = stein.density(argument.mean, variance, place)
        value = self._product(there)
        if order == 1:
            return None if value is None else times(density, value)
        inverse = stein.inverse(variance)
        away = plus(number(place), times(MINUS, argument.mean))
        total = None if value is None or not np.any(away.values) else times(away, inverse, value)
        for change in self._moved(rest, argument, there, []):
            total = _added(total, None if change is None else times(MINUS, inverse, change))
        return None if total is None else times(density, total)

    def _given(self, rest: list[Derived], argument: Linear, place: float) -> list[Derived]:
        if isinstance(argument, stein.ConditionalLaw):
            plain = [a for d in rest for a in d.factor.arguments if not isinstance(a, stein.ConditionalLaw)]
            if any(a.groups & argument.groups for a in plain):
                raise NotExact("functions that jump, of Gaussians that share some of their parts")
        factors = stein.conditioned(self.expect.covariance, tuple(d.factor for d in rest), argument, place)
        return [Derived(f, d.order) for f, d in zip(factors, rest, strict=True)]


def _added(a: Tensor | None, b: Tensor | None) -> Tensor | None:
    if a is None or b is None:
        return b if a is None else a
    return plus(a, b)
