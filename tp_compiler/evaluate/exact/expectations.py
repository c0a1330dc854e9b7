"""Expectations of products of functions of Gaussians, by the first method that applies.

Independent clusters factorise (TP IVb, 4.2: <x|y> = <x><y>); within a cluster: moments by Isserlis' theorem, closed
forms (closed_forms.py), quadrature in up to three dimensions (quadrature.py). Anything else is `NotExact`, with the
reason.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, TypeVar

import numpy as np

from tp_compiler.evaluate import bulk, errors
from tp_compiler.evaluate.array_types import Array, Mask, Numbers
from tp_compiler.evaluate.arrays import aligned
from tp_compiler.evaluate.budget import current
from tp_compiler.evaluate.bulk import LARGE, Bulk
from tp_compiler.evaluate.exact import composites, compositions, distances, pointwise, stein
from tp_compiler.evaluate.exact.apart import Diagonals, is_large
from tp_compiler.evaluate.exact.binding import fresh
from tp_compiler.evaluate.exact.gaussians import Gaussians
from tp_compiler.evaluate.exact.ket_formula import (
    GaussianFactor,
    KetFormula,
    Linear,
    LinearPart,
    Shared,
    Tensor,
    Term,
    Variable,
    bounded,
    delta,
    number,
    plus,
    product,
    summed,
    times,
)
from tp_compiler.evaluate.exact.places import Place, Places, PositionTable, moved
from tp_compiler.evaluate.exact.recursion import Recursion
from tp_compiler.evaluate.gaussian import careful, closed_forms, flat, quadrature, sensitivity, tilting
from tp_compiler.evaluate.gaussian.lines import Infinite
from tp_compiler.evaluate.gaussian.tame import is_tame
from tp_compiler.evaluate.gaussian.univariate import Seen, Univariate, combination, degree_of_sum, is_constant
from tp_compiler.evaluate.interface import NotExact
from tp_compiler.ir.types import Index
from tp_compiler.shapes import Float

EXACT, CLOSED, QUADRATURE = range(3)
METHODS = ("exact", "closed-form", "quadrature")
MOST_DIMENSIONS = 3
MOST_MOMENTS = 8  # degree of a polynomial expectation
COST = {1: 2e-5, 2: 7e-4, 3: 5e-2}  # approximate seconds of an integral over one, two, three Gaussians
MOST_STORED = 2**23  # numbers of averages that are kept although they are large
T = TypeVar("T")
PATIENCE = 15.0  # seconds of quadrature in one program; beyond, sampling everything at once is cheaper
SMALL = 1e-75  # coefficients of Gaussians: fourth powers of smaller ones underflow
HIGH = 16  # products of a higher power with other functions are integrated by quadrature
MOST_PROBED = 4096  # entries of a closed form that are computed again, to see how far errors carry
MOST_ONE_BY_ONE = 64  # variances; for more, the error is bounded by the derivative
MOST_INTEGRALS = 16  # integrals that are computed again for the same purpose
CONVERGED = 1e-5  # errors above this part of the largest value are not accepted; cancellation may leave as much
SETTLED = 1e-10  # an error below this may be any fraction of a small value
MOST_DEGREE = 256  # of a polynomial integrated by an exact rule
MOST_NODES = 2**22  # of an exact rule

Told = Callable[[Array], "errors.Error | Bulk"]  # of a value, its error


class Expectations:
    """E of forms. `between(a, b)` gives the covariance of two Gaussian variables of one group."""

    dimensions = MOST_DIMENSIONS
    cost: ClassVar[dict[int, float]] = COST

    def __init__(
        self, between: Callable[[Variable, Variable], Tensor], quadrature: bool = True, patience: float = PATIENCE
    ):
        self.between = between
        self.gaussians = Gaussians(_may_be_infinite)
        self.recursion = Recursion()
        self._stored = 0  # numbers of large averages that are kept
        self.apart: Diagonals | None = None  # which averages vanish off a diagonal, where it is asked
        self.quadrature = quadrature  # whether quadrature may be used
        self.patience = patience
        self.spent = 0.0
        self.method = EXACT  # the least exact method used since the caller reset it

    # -- covariances --------------------------------------------------------------------------------------------
    def covariance(self, a: Linear, b: Linear) -> Tensor:
        """Cov(a, b), over the labels of both."""
        result = number(0.0)
        if a.copy != b.copy:
            return result
        if isinstance(a, stein.ConditionalLaw) and isinstance(b, stein.ConditionalLaw):
            return stein.covariance_given(self.covariance, a, b)
        theirs = [(q, self.gaussians.variable(q.variable)) for q in (part.refreshed() for part in b.parts)]
        for p in (part.refreshed() for part in a.parts):
            own = self.gaussians.variable(p.variable)
            for q, other in theirs:
                if own.meets(other):
                    result = plus(result, self._parts(p, q))
        return result

    def _parts(self, p: LinearPart, q: LinearPart) -> Tensor:
        p, q, over = self._matched(p, q)
        for part in (p, q):
            self.squares(part.coefficient)
        inner = self.between(p.variable, q.variable)
        return summed([p.coefficient, q.coefficient, inner], over)

    def _matched(self, p: LinearPart, q: LinearPart) -> tuple[LinearPart, LinearPart, tuple[Index, ...]]:
        """Two parts of one group with their summed labels made equal where independence makes them so.

        Members of a family are independent: in Σ_d a[d] u[d] · Σ_e b[e] u[e], or Σ_d W[d] x[d] · Σ_e W[e] y[e], only d = e
        survives.
        """
        over = [*p.over, *q.over]
        if p.variable.group != q.variable.group:
            return p, q, tuple(over)
        pairs = [*zip(p.variable.members, q.variable.members, strict=True)]
        if self.apart is not None and q.over and is_large((*p.variable.labels, *q.variable.labels)):
            pairs = self.apart.pairs(p.variable, q.variable)
        for a, b in pairs:
            if isinstance(b, Index) and b in q.over and a != b:
                q = q.opened({b: a})
                over.remove(b)
        return p, q, tuple(dict.fromkeys(over))

    def squares(self, coefficient: Tensor) -> None:
        """Raises NotExact for coefficients whose squares underflow or overflow."""
        if not has_squares(coefficient.values):
            raise NotExact("numbers too small or too large for their squares")

    # -- expectations -------------------------------------------------------------------------------------------
    def form(self, form: KetFormula) -> Tensor:
        """E of a form. Terms that have no average one by one may have one together."""
        try:
            return plus(number(0.0), *[self.term(t) for t in form.parts])
        except Infinite:
            if len(form.terms) == 1:
                raise
        return plus(*[self.term(t) for t in composites.together(form).terms])

    def term(self, term: Term) -> Tensor:
        term = self._collapsed(term)
        value = self.product(term.factors)
        if value is None:
            return number(0.0)
        return summed([term.coefficient, value], term.over)

    def multiplied(self, forms: list[KetFormula]) -> KetFormula | None:
        """The product of kets that is averaged next; None if it has too many terms."""
        return product(forms, matched=self._agreeing if len(forms) == 2 else None)

    def _agreeing(self, a: Term, b: Term) -> Term:
        """b without sums over labels that must agree with one of a, so that coefficients are multiplied where they meet."""
        if self.apart is None or not b.over or not is_large((*a.labels, *a.over, *b.labels, *b.over)):
            return b
        for label in b.over:
            same = [x for x in (*a.labels, *a.over) if x.axis == label.axis]
            agrees = next((x for x in same if self.apart.terms((a, b), x, label)), None)
            b = b if agrees is None else b.opened({label: agrees})
        return b

    def _collapsed(self, term: Term) -> Term:
        """The same without sums over labels that must agree for anything to be left."""
        if self.apart is None or not term.over or not is_large((*term.labels, *term.over)):
            return term
        for b in term.over:
            same = [a for a in (*term.labels, *term.over) if a != b and a.axis == b.axis]
            agrees = next((a for a in same if self.apart.terms((term,), a, b)), None)
            term = term if agrees is None else term.opened({b: agrees})
        return term

    def product(self, factors: tuple[GaussianFactor, ...]) -> Tensor | None:
        """E Π factors; None if it vanishes by independence and symmetry, provided it exists."""
        clusters = self.gaussians.clusters(factors)
        vanishes = any(made.vanishes for made, _ in clusters)
        values: list[Tensor] = []
        for made, members in clusters:
            if vanishes and not made.risky:
                continue
            value, method = self.kept(partial(self._picked, members))
            vanishes = vanishes or value is None
            if not vanishes and value is not None:
                self.used(method)
                values.append(value)
        return None if vanishes else times(*values) if values else number(1.0)

    def _picked(self, factors: list[GaussianFactor]) -> Tensor | None:
        """E Π factors. Where a family is read through tables, the average is computed at its own positions, once for every
        pattern of places, and the entries are picked from it."""
        tables = dict.fromkeys(p for f in factors for p in f.places if isinstance(p, PositionTable))
        if not tables:
            return self._once(factors, self._cluster) if self._is_kept(factors) else self._cluster(factors)
        names: dict[Place, Place] = {p: fresh(Index(p.axis.name, p.axis)) for p in tables}
        value = self._once([f.exchanged(names) for f in factors], self._cluster)
        return None if value is None else value.renamed({n: p for p, n in names.items() if isinstance(n, Index)})

    def _is_kept(self, factors: list[GaussianFactor]) -> bool:
        """Whether an average is kept for those who need it again: gradients by one matrix after the other do."""
        if any(isinstance(f, Shared) for f in factors):
            return False  # kept as sums
        labels = {x for f in factors for x in f.labels}
        if not is_large(labels):
            return False
        size = math.prod(x.size for x in labels)
        known = self.recursion.knows((self._cluster, _pattern(factors)[0]))
        self._stored += 0 if known else size
        return known or self._stored <= MOST_STORED

    def _once(
        self, factors: list[GaussianFactor], compute: Callable[[list[GaussianFactor]], Tensor | None]
    ) -> Tensor | None:
        """E Π factors, computed once for every pattern of labels."""
        key, labels = _pattern(factors)
        (value, then), method = self.recursion.value(
            (compute, key), lambda: self.kept(lambda: (compute(factors), labels))
        )
        self.used(method)
        return None if value is None else value.renamed(dict(zip(then, labels, strict=True)))

    def _cluster(self, factors: list[GaussianFactor]) -> Tensor | None:
        if any(isinstance(f, Shared) for f in factors):
            return self._once(factors, self._of_sum)
        if all(f.is_identity for f in factors) and len(factors) <= MOST_MOMENTS:
            return self._moments([f.arguments[0] for f in factors])
        factors = _gathered(factors)
        if not _is_odd(factors):
            return self._even(factors)
        if any(_may_be_infinite(f) for f in factors):
            self._must_vanish(factors)
        return None

    def _must_vanish(self, factors: list[GaussianFactor]) -> None:
        """Raises Infinite if the average that should vanish does not exist; two members of a family represent all."""
        before = self.method
        known = self._few(_as_integrated(factors))
        try:
            self._integral(known)(_Reader(_labels(_distinct(known)), None, 2))
        except careful.Unsettled as reason:
            raise NotExact(f"quadrature met {reason}") from None
        self.method = before

    def _even(self, factors: list[GaussianFactor]) -> Tensor:
        """E Π factors, if it is not 0 by symmetry."""
        for known in (factors, _gathered(pointwise.unified(factors))):
            value = self._tabled(known)
            if value is not None:
                return value
        known = _as_integrated(factors)
        reduced = self._reduced(known)
        return self._integrated(self._few(known)) if reduced is None else reduced

    def must_be_few(self, form: KetFormula) -> None:
        """Raises NotExact if an average in E of a form is over more Gaussians than are integrated; no integral is done."""
        for term in form.terms:
            clusters = self.gaussians.clusters(term.factors)
            if not any(made.vanishes for made, _ in clusters):
                for _, members in clusters:
                    self._few(pointwise.unified(members))

    def _few(self, factors: list[GaussianFactor]) -> list[GaussianFactor]:
        """The factors, if they are functions of few enough Gaussians."""
        count = len(_distinct(factors))
        if count > self.dimensions and _polynomial(factors) is None:
            raise NotExact(f"an expectation over {count} Gaussians")
        return factors

    def _of_sum(self, factors: list[GaussianFactor]) -> Tensor | None:
        """E Π factors with a sum among them: Σ of those with its terms in its place. A residual stream is a sum of a sum of
        a sum, and this, computed once, the recursion along it."""
        terms = Term(number(1.0), tuple(factors)).distributed()
        found = [(t, v) for t in terms if (v := self.product(t.factors)) is not None]
        return plus(*[summed([t.coefficient, v], t.over) for t, v in found]) if found else None

    def kept(self, compute: Callable[[], T]) -> tuple[T, int]:
        """A value with its method, for later uses."""
        before, self.method = self.method, EXACT
        try:
            value = compute()
            return value, self.method
        finally:
            self.method = before

    def used(self, method: int) -> None:
        self.method = max(self.method, method)

    def _reduced(self, factors: list[GaussianFactor]) -> Tensor | None:
        """E Π factors if one factor is a Gaussian that no other factor is a function of: eliminated by Stein's lemma."""
        for k, factor in enumerate(factors):
            rest = factors[:k] + factors[k + 1 :]
            own = factor.arguments[0].origin.base.key
            if not factor.is_identity or any(a.origin.base.key == own for f in rest for a in f.arguments):
                continue
            if not rest or not all(isinstance(f.function, Univariate) for f in rest):
                return None
            before = self.method, self.spent
            try:
                return stein.without(self.product, self.covariance, factor.arguments[0], pointwise.fused(rest))
            except NotExact:
                self.method, self.spent = before
                return None
        return None

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
            if lower is not None and self.gaussians.linear(first).meets(self.gaussians.linear(partner)):
                term = times(self.covariance(first, partner), lower)
                total = term if total is None else plus(total, term)
        return total

    def _tabled(self, factors: list[GaussianFactor]) -> Tensor | None:
        """E of one or two functions by a row of the table of closed forms, or None."""
        if len(factors) > 2 or not all(isinstance(f.function, Univariate) for f in factors):
            return None
        labels = _labels(_distinct(factors))
        row, told = (None, None) if left_alone(factors) else self._row(factors, labels)
        plain = _Reader(labels)
        value = None if row is None else row(plain)
        if row is None or value is None:
            return None
        value = np.asarray(value, dtype=np.float64)  # 59!! is a Python integer
        _must_exist(factors, value)
        self.method = max(self.method, CLOSED)
        value = np.broadcast_to(value, [x.size for x in labels])
        error = told(value) if told is not None else None
        if error is None:
            rounded = errors.rounding(value, self._size_of_terms(factors, plain))
            error = errors.added(rounded, plain.moved(row, value, MOST_PROBED))
        return _with_error(value, labels, error)

    def _size_of_terms(self, factors: list[GaussianFactor], read: _Reader) -> Array | None:
        """How large the terms of a closed form of two functions are that may cancel, where that is known."""
        if len(factors) != 2 or not all(_is_centred(x.arguments[0]) for x in factors):
            return None
        (f, u), (g, w) = ((x.function, x.arguments[0]) for x in factors)
        assert isinstance(f, Univariate) and isinstance(g, Univariate)
        return sensitivity.size_of_terms(f, g, read(self.covariance(u, u)), read(self.covariance(w, w)))

    def _row(
        self, factors: list[GaussianFactor], labels: tuple[Index, ...]
    ) -> tuple[Callable[[_Reader], Array | None], Told | None]:
        """The row of the table for one or two functions, of a reader of means and covariances; and the error of its
        value, where a bound of the derivatives is known (None where it is not after all)."""
        f = factors[0].function
        assert isinstance(f, Univariate)
        u = factors[0].arguments[0]
        variance = self.covariance(u, u)
        if len(factors) == 1:
            return lambda read: closed_forms.single(f, read(u.mean), read(variance)), None
        g, w = factors[1].function, factors[1].arguments[0]
        assert isinstance(g, Univariate)
        if u.key == w.key:
            told: Told | None = partial(_told_of_one, f, g, variance) if _is_centred(u) else None
            return lambda read: _same(f, g, u, read, read(variance)), told
        exchanged = _exchanged(u, w, labels)
        other = self.covariance(w, w) if exchanged is None else variance.renamed(exchanged)
        cross = self.covariance(u, w)
        steep = closed_forms.steep(f, g)
        same = _coincide(u, w) if steep else None
        distance = (
            distances.between(self.between, u, w, labels) if steep and not isinstance(u, stein.ConditionalLaw) else None
        )

        def row(read: _Reader) -> Array | None:
            first, second = _centred(f, u, read), _centred(g, w, read)
            if first is None or second is None:
                return None
            v1, v2 = read(variance), read(other)
            c = read.together(v1, v2, read(cross))
            mask = None if same is None else read.mask(same)

            def pair(f: Univariate, g: Univariate) -> Array | None:
                return closed_forms.kernel(f, g, v1, v2, c, mask, distance, exchanged is not None and f == g)

            return _combined(first, second, pair)

        told = partial(_told_of_two, f, g, labels, (variance, other, cross), exchanged is not None and f == g)
        return row, told if _is_centred(u) and _is_centred(w) else None

    def _integrated(self, factors: list[GaussianFactor]) -> Tensor:
        """Quadrature over the distinct Gaussians of a cluster."""
        labels = _labels(_distinct(factors))
        if not self.quadrature:
            raise NotExact("an expectation without a closed form")
        self._spend(_cost(factors, self.cost) * float(np.prod([float(x.size) for x in labels])))
        integral, plain = self._integral(factors), _Reader(labels)
        try:
            value, error = integral(plain)
        except careful.Unsettled as reason:
            raise NotExact(f"quadrature met {reason}") from None
        worst = float(np.max(error, initial=0.0))
        if not np.isfinite(worst):
            raise NotExact("quadrature met values that are not finite")
        if worst > max(SETTLED, CONVERGED * float(np.max(np.abs(value), initial=0.0))):
            raise NotExact("quadrature did not converge")
        moved = plain.moved(lambda read: integral(read)[0], value, MOST_INTEGRALS)
        return _with_error(value, labels, errors.compact(errors.added(error, moved)))

    def _spend(self, seconds: float) -> None:
        """Counts the approximate cost of integrals, not the clock, so that the method of an output does not depend on the machine."""
        self.spent += seconds
        if self.spent > self.patience:
            raise NotExact("too many integrals without a closed form")

    def _integral(self, factors: list[GaussianFactor]) -> Callable[[_Reader], tuple[Array, Array]]:
        """The integral and its error, of a reader of means and covariances."""
        variables = _distinct(factors)
        count = len(variables)
        means = [v.mean for v in variables]
        spread = [
            [self.covariance(a, b) if j >= i else None for j, b in enumerate(variables)]
            for i, a in enumerate(variables)
        ]
        places: dict[Hashable, int] = {v.key: k for k, v in enumerate(variables)}
        degree = _polynomial(factors)

        def integral(read: _Reader) -> tuple[Array, Array]:
            current().room(float(math.prod(read.shape)) * count * (count + 1), "the law of an integrand")
            mean = np.stack([np.broadcast_to(read(m), read.shape) for m in means], axis=-1)
            covariance = np.empty([*read.shape, count, count])
            for i, row in enumerate(spread):
                for j, known in enumerate(row):
                    covariance[..., i, j] = covariance[..., j, i] if known is None else read(known)
            for i, j in itertools.combinations(range(count), 2):
                c = read.together(covariance[..., i, i], covariance[..., j, j], covariance[..., i, j])
                covariance[..., i, j] = covariance[..., j, i] = c
            if degree is not None:
                self.method = QUADRATURE
                return quadrature.polynomial(_joint(factors, places), mean, covariance, degree)
            return self._tilted(factors, variables, places, mean, covariance)

        return integral

    def _tilted(
        self,
        factors: list[GaussianFactor],
        variables: list[Linear],
        places: dict[Hashable, int],
        mean: Array,
        spread: Array,
    ) -> tuple[Array, Array]:
        """Exponentials change the law; the other factors are integrated under the new one."""
        split = _split(factors, places)
        log: Any = 0.0
        if np.any(split.linear) or np.any(split.quadratic):
            known = self._flat(split, mean, spread)
            if known is not None:
                return known
            log, new_mean, new_spread, finite = tilting.tilted(split.linear, split.quadratic, mean, spread)
            if np.all(finite):
                mean, spread = new_mean, new_spread
            elif split.joint or any(_may_fall(f) for own in split.rest for f in own):
                log, split = 0.0, _split(factors, places, whole=True)
            else:
                raise Infinite("an exponential grows faster than the Gaussian falls")
        size = tilting.number(log)
        if split.joint:
            left = [
                *split.joint,
                *(GaussianFactor(f, (variables[k],)) for k, own in enumerate(split.rest) for f in own),
            ]
            value, error = self._several(left, places, mean, spread)
        else:
            value, error = self._univariate(split.rest, mean, spread)
        return value * size, error * np.abs(size)

    def _flat(self, split: _Split, mean: Array, spread: Array) -> tuple[Array, Array] | None:
        """The case in which exponentials of a Gaussian cancel its density."""
        if len(split.rest) > 1 or split.joint or not flat.cancels(split.quadratic[0, 0], spread[..., 0, 0]):
            return None
        self._spend(careful.COST[1] * float(np.size(mean)))
        whole = combination([(1.0, split.rest[0])])
        try:
            found = flat.expectation(whole, split.linear[0], split.quadratic[0, 0], mean[..., 0], spread[..., 0, 0])
        except careful.Unsettled:
            return None
        self.method = QUADRATURE
        return found

    def _several(
        self, factors: list[GaussianFactor], places: dict[Hashable, int], mean: Array, spread: Array
    ) -> tuple[Array, Array]:
        self.method = QUADRATURE
        joint, watched, kinks = _joint(factors, places), _watched(factors, places), _kinks(factors, places)
        curved = any(composites.kinked(f) and not getattr(f.function, "kinks", ()) for f in factors)
        return careful.expectation_of(joint, watched, mean, spread, kinks, self._spend, curved)

    def _univariate(self, rest: list[list[Univariate]], mean: Array, spread: Array) -> tuple[Array, Array]:
        """By a closed form, or by quadrature."""
        known = [k for k, own in enumerate(rest) if not all(is_constant(f) for f in own)]
        constant = np.prod([f.factor for k, own in enumerate(rest) if k not in known for f in own])
        merged = [combination([(1.0, rest[k])]) for k in known]
        law = mean[..., known], spread[..., known, :][..., known]
        value = None
        if not merged:
            value = np.ones(np.shape(mean)[:-1])
        elif len(merged) == 1 and not (merged[0].name == "real_power" and merged[0].params[0] <= -1):
            (k,) = known
            value = closed_forms.single(merged[0], mean[..., k], spread[..., k, k])
        if value is not None:
            self.method = max(self.method, CLOSED)
            return value * constant, 8 * errors.EPS * np.abs(value * constant)
        several = self.by_signs([rest[k] for k in known], *law)
        if several is not None:
            self.method = max(self.method, CLOSED)
            return several[0] * constant, several[1] * np.abs(constant)
        self.method = QUADRATURE
        value, error = self.nested(merged, *law)
        return value * constant, error * np.abs(constant)

    def by_signs(self, functions: list[list[Univariate]], mean: Array, spread: Array) -> tuple[Array, Array] | None:
        """E Π functions of Gaussians by further closed forms, and the error; None here."""
        return None

    def nested(self, functions: list[Univariate], mean: Array, spread: Array) -> tuple[Array, Array]:
        """By quadrature."""
        return careful.expectation(functions, mean, spread, self._spend)


def has_squares(values: Numbers) -> bool:
    """Whether the fourth powers of numbers neither underflow nor overflow."""
    sizes = np.abs(values)
    return not np.any(((sizes < SMALL) & (sizes > 0)) | (sizes > 1 / SMALL))


def _pattern(factors: list[GaussianFactor]) -> tuple[Hashable, tuple[Index, ...]]:
    """The pattern of a product of factors, up to the names of its labels; and the labels, in order."""
    numbers: dict[Index, int] = {}

    def numbered(places: tuple[Place, ...]) -> tuple[Hashable, ...]:
        return tuple((numbers.setdefault(p, len(numbers)), p.axis) if isinstance(p, Index) else p for p in places)

    key: list[Any] = []
    for f in sorted(factors, key=_rank):
        if isinstance(f, Shared):
            key.append((f.root, numbered(f.where)))
        else:
            key.append((f.function, *((a.root, a.copy, numbered(a.positions)) for a in f.arguments)))
    return tuple(key), tuple(numbers)


def _rank(f: GaussianFactor) -> tuple[Hashable, ...]:
    return (0, f.root) if isinstance(f, Shared) else (1, *(a.root for a in f.arguments))


def _polynomial(factors: list[GaussianFactor]) -> int | None:
    """The degree of a product of polynomials, if the rule that is exact for it has few points."""
    degree = degree_of_sum([[composites.degree_of(f) for f in factors]])
    if degree is None or degree > MOST_DEGREE or _points(factors, degree) > MOST_NODES:
        return None
    return degree


def _points(factors: list[GaussianFactor], degree: int) -> float:
    return float(degree // 2 + 2) ** len(_distinct(factors))


def _cost(factors: list[GaussianFactor], each: dict[int, float]) -> float:
    """Seconds of an integral, about."""
    degree = _polynomial(factors)
    return each[len(_distinct(factors))] if degree is None else 1e-5 + 1e-7 * _points(factors, degree)


def _labels(variables: list[Linear]) -> tuple[Index, ...]:
    return bounded(dict.fromkeys(x for v in variables for x in v.labels))


def _distinct(factors: list[GaussianFactor]) -> list[Linear]:
    return list({a.key: a for f in factors for a in f.arguments}.values())


def _coincide(a: Linear, b: Linear) -> Tensor | None:
    """Where two placements of one family are the same variable; None if they never are."""
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
    """The exchange of the two labels, if two placements of one family differ by it."""
    if a.root != b.root or a.copy != b.copy or len(labels) != 2 or labels[0].size != labels[1].size:
        return None
    places = dict(zip(labels, labels[::-1], strict=True))
    return places if moved(a.positions, places) == b.positions else None


def _gathered(factors: list[GaussianFactor]) -> list[GaussianFactor]:
    """Functions of one variable multiplied if the table has the product: relu(u) relu(u) is a power of relu."""
    gathered: list[GaussianFactor] = []
    for factor in factors:
        for k, other in enumerate(gathered):
            product = _one_factor(other, factor)
            if product is not None:
                gathered[k] = product
                break
        else:
            gathered.append(factor)
    return gathered


def _as_integrated(factors: list[GaussianFactor]) -> list[GaussianFactor]:
    """Functions of few Gaussians, with exponentials by themselves."""
    if any(tilting.exponential(f.function) for f in factors) and len(_distinct(factors)) <= MOST_DIMENSIONS:
        return factors
    return _gathered(pointwise.unified(factors))


def _one_factor(a: GaussianFactor, b: GaussianFactor) -> GaussianFactor | None:
    if not (isinstance(a.function, Univariate) and isinstance(b.function, Univariate)):
        return None
    if a.arguments[0].key != b.arguments[0].key:
        return None
    product = compositions.multiplied(a.function, b.function)
    return None if product is None else GaussianFactor(product, a.arguments)


Centred = Sequence[tuple[Numbers | None, Univariate]]  # weights (None: 1) and functions


def _centred(f: Univariate, argument: Linear, read: _Reader) -> Centred | None:
    """f of a Gaussian as a combination of functions of the centred one, f alone where it is centred; None where a mean
    is in the way."""
    if not np.any(argument.mean.values):
        return [(None, f)]
    return compositions.centred(f, read(argument.mean))


def _same(f: Univariate, g: Univariate, argument: Linear, read: _Reader, v: Array) -> Array | None:
    """The value of a row of the table, if both are functions of one variable."""
    first, second = _centred(f, argument, read), _centred(g, argument, read)
    if first is None or second is None:
        return None
    return _combined(first, second, lambda f, g: closed_forms.kernel(f, g, v, v, v, same=np.True_))


def _is_centred(argument: Linear) -> bool:
    return argument.mean.vanishes


def _told_of_one(f: Univariate, g: Univariate, variance: Tensor, value: Array) -> errors.Error:
    """The error of E f(u) g(u) of many variables."""
    if value.size <= MOST_ONE_BY_ONE or f != g:
        return None
    return sensitivity.of_variances(f, variance.values, variance.error, value)


def _told_of_two(
    f: Univariate, g: Univariate, labels: tuple[Index, ...], law: Sequence[Tensor], symmetric: bool, value: Array
) -> Bulk | None:
    """The error of E f(u) g(v) of two large families: one for all pairs."""
    if value.size <= LARGE:
        return None
    v1, v2, c = law
    return sensitivity.of_kernel(
        f, g, (v1.at(labels), v1.error_at(labels)), (v2.at(labels), v2.error_at(labels)), c.at(labels),
        bulk.of(c.off if isinstance(c.off, Bulk) else errors.most(c.error)), value, symmetric,
    )  # fmt: skip


class _Reader:
    """Reads means and covariances over some labels; as a probe, moved by their errors; thinned, at the first `most`
    positions of each label alone."""

    def __init__(self, labels: tuple[Index, ...], probe: int | None = None, most: int | None = None):
        self.labels = labels
        self.rng = None if probe is None else np.random.default_rng(probe)
        self.most = most
        self.shape = [x.size if most is None else min(x.size, most) for x in labels]
        self.read: list[Tensor] = []

    def _thinned(self, tensor: Tensor) -> Tensor:
        if self.most is None or not tensor.labels:
            return tensor
        return tensor.taken((slice(self.most),) * len(tensor.labels), tensor.labels)

    def mask(self, tensor: Tensor) -> Mask:
        """Where a boolean tensor is true."""
        truths: Mask = self._thinned(tensor).values
        return aligned(truths, tensor.labels, self.labels)

    def __call__(self, tensor: Tensor) -> Array:
        tensor = self._thinned(tensor)
        self.read.append(tensor)
        if tensor.off is not None and self.rng is not None:
            return Tensor(errors.shaken(tensor.values, tensor.error, self.rng), tensor.labels).at(self.labels)
        return tensor.at(self.labels)

    @property
    def worst(self) -> float:
        """The largest relative error so far."""
        found = 0.0
        for tensor in (t for t in self.read if t.off is not None):
            scale, off = float(errors.largest(tensor.values)), float(errors.most(tensor.error))
            found = max(found, off / scale if scale else float(off > 0))
        return found

    def together(self, v1: Array, v2: Array, c: Array) -> Array:
        """The covariance; in a probe, variables that are equal up to errors stay equal, since their errors are the same."""
        if self.rng is None:
            return c
        near = 1 - 16 * min(self.worst, 1 / 32)
        return np.where(c * c >= v1 * v2 * near, np.sign(c) * np.sqrt(np.abs(v1 * v2)), c)

    def moved(self, function: Callable[[_Reader], Array | None], value: Array, most: int) -> errors.Error:
        """The error of `function`, evaluated before, due to errors in its inputs. A large array is examined in part, and
        has one relative error."""
        if not self.worst:
            return None
        own = None if np.size(value) <= most else max(2, int(most ** (1 / len(self.labels))))

        def probe(k: int | None) -> Array:
            try:
                found = function(_Reader(self.labels, k, own))
            except (Infinite, careful.Unsettled):
                raise errors.Unknown from None
            assert found is not None  # it was not None when first evaluated
            return found

        if own is None:
            return errors.again(probe, value)
        part = probe(None)
        largest = float(np.max(np.abs(part), initial=0.0))
        change = float(errors.most(errors.again(probe, part)))
        ratio = change / largest if largest else self.worst
        return np.float64(ratio * np.max(np.abs(value), initial=0.0))


def _with_error(value: Array, labels: tuple[Index, ...], error: errors.Error | Bulk) -> Tensor:
    shape = tuple(x.size for x in labels)
    return Tensor(
        np.reshape(value, shape),
        labels,
        np.reshape(error, shape) if isinstance(error, np.ndarray) and error.ndim else error,
    )


def _combined(first: Centred, second: Centred, pair: Callable[[Univariate, Univariate], Array | None]) -> Array | None:
    """Σ a b E f(u) g(v) over the two combinations; None if a pair has no row."""
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


@dataclass(frozen=True)
class _Split:
    """e^(bᵀx - xᵀQx), and the other functions: of each variable, and of several."""

    linear: Any
    quadratic: Any
    rest: list[list[Univariate]]
    joint: list[GaussianFactor]


def _split(factors: list[GaussianFactor], places: dict[Hashable, int], whole: bool = False) -> _Split:
    """`whole`: all of them are others."""
    count = len(places)
    found = _Split(np.zeros(count), np.zeros((count, count)), [[] for _ in range(count)], [])
    for f in factors:
        at = [places[a.key] for a in f.arguments]
        if isinstance(f.function, tilting.Coupling) and not whole:
            found.quadratic[at, at[::-1]] -= f.function.c / 2
        elif isinstance(f.function, Univariate):
            b, q, others = (0.0, 0.0, [f.function]) if whole else tilting.split(f.function)
            found.linear[at] += b
            found.quadratic[at, at] += q
            found.rest[at[0]] += others
        else:
            found.joint.append(f)
    return found


def _may_fall(f: Univariate) -> bool:
    """Whether f may fall as fast as an exponential of a square."""
    return f.name in ("composite", "erfc", "normal_cdf", "gelu", "gelu_prime") or f.name.endswith("'")


def left_alone(factors: list[GaussianFactor]) -> bool:
    """Whether the table must not be asked: growing exponentials, powers that only other factors make integrable, and
    high powers, whose sums cancel."""
    own = [f.function for f in factors if isinstance(f.function, Univariate)]
    if any(tilting.grows(f) for f in own):
        return True
    if len(own) == 1 or all(f.name == "monomial" for f in own):
        return False
    order = [f.params[0] for f in own if f.name in ("monomial", "relu_power", "two_sided", "real_power")]
    return any(p <= -1 or p > HIGH for p in order)


def _may_be_infinite(factor: GaussianFactor) -> bool:
    """Whether E|f| may be infinite."""
    f = factor.function
    if not isinstance(f, Univariate) or f.name == "tan":
        return True
    if f.name == "composite":
        return not is_tame(f)
    return tilting.grows(f) or (f.name == "real_power" and f.params[0] < 0)


def _is_odd(factors: list[GaussianFactor]) -> bool:
    """Whether the product changes sign with all Gaussians, and so has the average 0, if it has one."""
    if any(np.any(a.mean.values) for f in factors for a in f.arguments):
        return False
    return int(np.prod([composites.parity_of(f) for f in factors])) == -1


def _must_exist(factors: list[GaussianFactor], value: Array) -> None:
    """Powers of the table may have no average."""
    powers = [f.function for f in factors if isinstance(f.function, Univariate) and f.function.name == "real_power"]
    if powers and np.any(np.isinf(value)):
        raise Infinite("near 0 it grows like " + " ".join(f"|d|^{f.params[0]:g}" for f in powers))


def _kinks(factors: list[GaussianFactor], places: dict[Hashable, int]) -> list[tuple[float, ...]]:
    """The kinks of each variable: functions of one variable list theirs, joint ones are analytic."""
    own: list[set[float]] = [set() for _ in places]
    for f in factors:
        if isinstance(f.function, Univariate):
            own[places[f.arguments[0].key]].update(f.function.kinks)
    return [tuple(sorted(k)) for k in own]


def _watched(factors: list[GaussianFactor], places: dict[Hashable, int]) -> Callable[[Array, Seen], None]:
    def watched(points: Float[Array, "*points p"], seen: Seen) -> None:
        for f in factors:
            composites.watch(f, [points[..., places[a.key]] for a in f.arguments], seen)

    return watched


def _joint(factors: list[GaussianFactor], places: dict[Hashable, int]) -> Callable[[Array], Array]:
    def value(points: Float[Array, "*points p"]) -> Array:
        result: Any = 1.0
        for f in factors:
            result = result * f.function(*(points[..., places[a.key]] for a in f.arguments))
        return result

    return value
