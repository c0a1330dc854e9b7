"""Expectations of products of functions of Gaussians, by the first method that applies.

Independent clusters factorise (TP IVb, 4.2: <x|y> = <x><y>); within a cluster: moments by Isserlis' theorem, closed
forms (closed_forms.py), quadrature in up to three dimensions (quadrature.py). Anything else is `NotExact`, with the
reason.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tp_compiler.evaluate import closed_forms, compositions, distances, pointwise, quadrature
from tp_compiler.evaluate.binding import Places, moved
from tp_compiler.evaluate.forms import (
    Factor,
    Form,
    Linear,
    NotExact,
    Part,
    Tensor,
    Term,
    Variable,
    bounded,
    delta,
    number,
    plus,
    summed,
    times,
)
from tp_compiler.evaluate.univariate import Univariate, combination
from tp_compiler.ir.types import Index

EXACT, CLOSED, QUADRATURE = range(3)
METHODS = ("exact", "closed-form", "quadrature")
MOST_DIMENSIONS = 3
MOST_MOMENTS = 8  # degree of a polynomial expectation
COST = {1: 2e-5, 2: 7e-4, 3: 5e-2}  # seconds of an integral over one, two, three Gaussians, about
PATIENCE = 15.0  # seconds of quadrature in one program; beyond, sampling everything at once is cheaper
MOST_ENTRIES = 2**27  # numbers in one array


class Expectations:
    """E of forms. `between(a, b)` gives the covariance of two Gaussian variables of one group."""

    def __init__(
        self, between: Callable[[Variable, Variable], Tensor], quadrature: bool = True, patience: float = PATIENCE
    ):
        self.between = between
        self.quadrature = quadrature  # whether quadrature may be used
        self.patience = patience
        self.spent = 0.0
        self.method = EXACT  # the least exact method used since the caller reset it
        self.error = 0.0  # the largest quadrature error since then

    # -- covariances --------------------------------------------------------------------------------------------
    def covariance(self, a: Linear, b: Linear) -> Tensor:
        """Cov(a, b), over the labels of both."""
        result = number(0.0)
        if a.copy != b.copy:
            return result
        theirs = [q.refreshed() for q in b.parts]
        for p in (part.refreshed() for part in a.parts):
            for q in theirs:
                if not p.variable.independent_of(q.variable):
                    result = plus(result, self._parts(p, q))
        return result

    def _parts(self, p: Part, q: Part) -> Tensor:
        p, q, over = _matched(p, q)
        inner = self.between(p.variable, q.variable)
        return summed([p.coefficient, q.coefficient, inner], over)

    # -- expectations -------------------------------------------------------------------------------------------
    def form(self, form: Form) -> Tensor:
        """E of a form."""
        return plus(*(self.term(t) for t in form.terms)) if form.terms else number(0.0)

    def term(self, term: Term) -> Tensor:
        value = self.product(term.factors)
        if value is None:
            return number(0.0)
        return summed([term.coefficient, value], term.over)

    def product(self, factors: tuple[Factor, ...]) -> Tensor | None:
        """E Π factors; None where it vanishes by independence and parity."""
        values = []
        for cluster in clusters(factors):
            value = self._cluster(cluster)
            if value is None:
                return None
            values.append(value)
        return times(*values) if values else number(1.0)

    def _cluster(self, factors: list[Factor]) -> Tensor | None:
        if all(f.is_identity for f in factors):
            return self._moments([f.arguments[0] for f in factors])
        for known in (_gathered(factors), _gathered(pointwise.unified(factors))):
            value = self._tabled(known)
            if value is not None:
                return value
        variables = _distinct(known)
        if len(variables) > MOST_DIMENSIONS:
            raise NotExact(f"an expectation over {len(variables)} Gaussians")
        return self._integrated(known, variables, _labels(variables))

    def _moments(self, arguments: list[Linear]) -> Tensor | None:
        """Isserlis: E Π (m_k + g_k) = the sum over pairings of covariances and means."""
        if len(arguments) > MOST_MOMENTS:
            raise NotExact(f"a moment of degree {len(arguments)}")
        if not arguments:
            return number(1.0)
        first, *rest = arguments
        total = None
        if np.any(first.mean.values):
            lower = self._moments(rest)
            total = None if lower is None else times(first.mean, lower)
        for k, partner in enumerate(rest):
            lower = self._moments(rest[:k] + rest[k + 1 :])
            if lower is not None and first.groups & partner.groups:
                term = times(self.covariance(first, partner), lower)
                total = term if total is None else plus(total, term)
        return total

    def _tabled(self, factors: list[Factor]) -> Tensor | None:
        """E of one or two functions by a row of the table of closed forms, or None."""
        if len(factors) > 2 or not all(isinstance(f.function, Univariate) for f in factors):
            return None
        labels = _labels(_distinct(factors))
        value = self._row(factors, labels)
        if value is None:
            return None
        self.method = max(self.method, CLOSED)
        return Tensor(np.broadcast_to(value, [x.size for x in labels]), labels)

    def _row(self, factors: list[Factor], labels: tuple[Index, ...]) -> Any:
        f = factors[0].function
        assert isinstance(f, Univariate)
        u = factors[0].arguments[0]
        variance = self.covariance(u, u)
        if len(factors) == 1:
            return closed_forms.single(f, u.mean.at(labels), variance.at(labels))
        g, w = factors[1].function, factors[1].arguments[0]
        assert isinstance(g, Univariate)
        first, second = (_centred(x.function, x.arguments[0], labels) for x in factors)
        if first is None or second is None:
            return None
        if u.key == w.key:
            v = variance.at(labels)
            return _combined(first, second, lambda f, g: closed_forms.pair(f, g, v, v, v, same=np.True_))
        exchanged = _exchanged(u, w, labels)
        other = self.covariance(w, w) if exchanged is None else variance.renamed(exchanged)
        cross = self.covariance(u, w)
        v1, v2, c = variance.at(labels), other.at(labels), cross.at(labels)
        steep = closed_forms.steep(f, g)
        same = _coincide(u, w) if steep else None
        mask = None if same is None else same.at(labels)
        distance = distances.between(self.between, u, w, labels) if steep else None

        def pair(f: Univariate, g: Univariate) -> Any:
            return closed_forms.pair(f, g, v1, v2, c, mask, distance, exchanged is not None and f == g)

        return _combined(first, second, pair)

    def _integrated(self, factors: list[Factor], variables: list[Linear], labels: tuple[Index, ...]) -> Tensor:
        """Quadrature over the distinct Gaussians of a cluster."""
        if not self.quadrature:
            raise NotExact("an expectation without a closed form")
        self.spent += COST[len(variables)] * float(np.prod([float(x.size) for x in labels]))
        if self.spent > self.patience:
            raise NotExact("too many integrals without a closed form")
        shape = [x.size for x in labels]
        count = len(variables)
        means = np.stack([np.broadcast_to(v.mean.at(labels), shape) for v in variables], axis=-1)
        covariance = np.empty([*shape, count, count])
        for i, a in enumerate(variables):
            for j, b in enumerate(variables):
                covariance[..., i, j] = self.covariance(a, b).at(labels) if j >= i else covariance[..., j, i]
        places = {v.key: k for k, v in enumerate(variables)}
        if all(isinstance(f.function, Univariate) for f in factors):
            merged = _merged(factors, places, count)
            value, error = quadrature.expectation(merged, means, covariance)
        else:
            value, error = quadrature.expectation_of(
                _joint(factors, places), means, covariance, kinks=_kinks(factors, places, count)
            )
        worst = float(np.max(error, initial=0.0))
        if not np.isfinite(worst):
            raise NotExact("quadrature met values that are not finite")
        if worst > 1e-6 * max(1.0, float(np.max(np.abs(value), initial=0.0))):
            raise NotExact("quadrature did not converge")
        self.method = QUADRATURE
        self.error = max(self.error, worst)
        return Tensor(np.reshape(value, shape), labels)


def _matched(p: Part, q: Part) -> tuple[Part, Part, tuple[Index, ...]]:
    """Two parts of one group with their summed labels made equal where independence makes them so.

    Members of an initial family are independent: in Σ_d a[d] u[d] · Σ_e b[e] u[e] only d = e survives.
    """
    over = [*p.over, *q.over]
    from tp_compiler.ir import nodes as ir

    if not isinstance(p.variable.node, ir.InitialKet) or p.variable.node.symbol.pair is not None:
        return p, q, tuple(over)
    for a, b in zip(p.variable.places, q.variable.places, strict=True):
        if isinstance(b, Index) and b in q.over and a != b:
            q = q.opened({b: a})
            over.remove(b)
    return p, q, tuple(dict.fromkeys(over))


def clusters(factors: tuple[Factor, ...]) -> list[list[Factor]]:
    """Factors joined where they share a group of Gaussians (of one copy): different clusters are independent."""
    clusters: list[tuple[set[object], list[Factor]]] = []
    for factor in factors:
        groups: set[object] = set().union(*(a.groups for a in factor.arguments)) or {("constant", id(factor))}
        joined = [factor]
        rest = []
        for own, members in clusters:
            if own & groups:
                groups |= own
                joined = members + joined
            else:
                rest.append((own, members))
        clusters = [*rest, (groups, joined)]
    return [members for _, members in clusters]


def _labels(variables: list[Linear]) -> tuple[Index, ...]:
    return bounded(dict.fromkeys(x for v in variables for x in v.labels))


def _distinct(factors: list[Factor]) -> list[Linear]:
    return list({a.key: a for f in factors for a in f.arguments}.values())


def _coincide(a: Linear, b: Linear) -> Tensor | None:
    """Where two placements of one family are the same variable; None where they never are."""
    if a.root != b.root or a.copy != b.copy:
        return None
    apart = [(p, q) for p, q in zip(a.positions, b.positions, strict=True) if p != q]
    if len(apart) == 1:
        p, q = apart[0]
        if isinstance(p, Index) and isinstance(q, Index):
            return Tensor(np.eye(p.size, dtype=bool), (p, q))
    result = times(*(d for p, q in apart if (d := delta(p, q)) is not None))
    return Tensor(result.values > 0, result.labels)


def _exchanged(a: Linear, b: Linear, labels: tuple[Index, ...]) -> Places | None:
    """The exchange of the two labels there are, where that is how two placements of one family differ."""
    if a.root != b.root or a.copy != b.copy or len(labels) != 2 or labels[0].size != labels[1].size:
        return None
    places = dict(zip(labels, labels[::-1], strict=True))
    return places if moved(a.positions, places) == b.positions else None


def _gathered(factors: list[Factor]) -> list[Factor]:
    """Functions of one variable multiplied where the table has the product: relu(u) relu(u) is a relu power."""
    gathered: list[Factor] = []
    for factor in factors:
        for k, other in enumerate(gathered):
            product = _one_factor(other, factor)
            if product is not None:
                gathered[k] = product
                break
        else:
            gathered.append(factor)
    return gathered


def _one_factor(a: Factor, b: Factor) -> Factor | None:
    if not (isinstance(a.function, Univariate) and isinstance(b.function, Univariate)):
        return None
    if a.arguments[0].key != b.arguments[0].key:
        return None
    product = compositions.multiplied(a.function, b.function)
    return None if product is None else Factor(product, a.arguments)


Centred = list[tuple[Any, Univariate]]  # weights (None: 1) and functions


def _centred(f: Any, argument: Linear, labels: tuple[Index, ...]) -> Centred | None:
    """f of a Gaussian as a combination of functions of the centred one, f alone where it is centred; None where a mean
    is in the way."""
    if not np.any(argument.mean.values):
        return [(None, f)]
    return compositions.centred(f, argument.mean.at(labels))


def _combined(first: Centred, second: Centred, pair: Callable[[Univariate, Univariate], Any]) -> Any:
    """Σ a b E f(u) g(v) over the two combinations; None where a pair has no row."""
    total: Any = None
    for a, f in first:
        for b, g in second:
            value = pair(f, g)
            if value is None:
                return None
            for weight in (a, b):
                value = value if weight is None else weight * value
            total = value if total is None else total + value
    return total


def _merged(factors: list[Factor], places: dict[Any, int], count: int) -> list[Univariate]:
    """One function for each variable: several functions of one variable multiplied."""
    own: list[list[Univariate]] = [[] for _ in range(count)]
    for f in factors:
        assert isinstance(f.function, Univariate)
        own[places[f.arguments[0].key]].append(f.function)
    return [combination([(1.0, functions)]) for functions in own]


def _kinks(factors: list[Factor], places: dict[Any, int], count: int) -> list[tuple[float, ...]]:
    """Where each variable meets a kink: functions of one variable name theirs, joint ones are analytic."""
    own: list[set[float]] = [set() for _ in range(count)]
    for f in factors:
        if isinstance(f.function, Univariate):
            own[places[f.arguments[0].key]].update(f.function.kinks)
    return [tuple(sorted(k)) for k in own]


def _joint(factors: list[Factor], places: dict[Any, int]) -> Callable[[Any], Any]:
    def value(points: Any) -> Any:
        result: Any = 1.0
        for f in factors:
            result = result * f.function(*(points[..., places[a.key]] for a in f.arguments))
        return result

    return value
