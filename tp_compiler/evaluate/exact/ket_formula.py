"""Kets as formulas: sums of products of functions of Gaussians, with coefficients over the finite indices.

The exact evaluator (evaluator.py) keeps every ket as a `KetFormula`: Σ_terms Σ_over coefficient · Π_k f_k(ℓ_k), where each ℓ_k is
a linear combination of Gaussian families (`Linear`): initial kets, and hats Ŵ|x>. A linear network has single factors
f = identity; a network at initialisation has one function of one linear ket for each layer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import count
from typing import Any, Never

import numpy as np

from tp_compiler.evaluate import bulk, errors
from tp_compiler.evaluate.array_types import Array, Whole
from tp_compiler.evaluate.arrays import Label, aligned, contract
from tp_compiler.evaluate.budget import COUNTED, LEAST, current, spacious
from tp_compiler.evaluate.bulk import LARGE, Bulk
from tp_compiler.evaluate.exact import abstract
from tp_compiler.evaluate.exact.abstract import Symbolic
from tp_compiler.evaluate.exact.binding import Bound, fresh
from tp_compiler.evaluate.exact.places import (
    Place,
    Places,
    PositionTable,
    exchanged,
    grid,
    labels_of,
    moved,
    positions,
)
from tp_compiler.evaluate.gaussian.univariate import Univariate
from tp_compiler.evaluate.interface import NotExact
from tp_compiler.ir import nodes as ir
from tp_compiler.ir.types import Index

_numbers = count()
MOST_ONE_HOT = 2**24  # entries of a table written as a product with zeros and ones


@dataclass(frozen=True, eq=False)
class Tensor:
    """Numbers over finite indices; `labels` name the dimensions of `values`. `error` bounds the error of each
    (errors.py): None, a number, or an array of the shape of the values; `off` is the same, or one rule for all (bulk.py)."""

    values: Any  # an array, NumPy's number where there are no labels; rarely truths
    labels: tuple[Index, ...] = ()
    off: errors.Error | Bulk = None

    @property
    def error(self) -> errors.Error:
        return errors.told(self.off, self.values)

    @property
    def vanishes(self) -> bool:
        """Whether all numbers are exactly 0; of those that are not known yet none is taken to be."""
        return self.off is None and not isinstance(self.values, Symbolic) and not np.any(self.values)

    def __post_init__(self) -> None:
        if getattr(self.values, "size", 1) > COUNTED:
            current().hold(self.values)

    def renamed(self, places: Places) -> Tensor:
        """Labels replaced, positions selected, and diagonals taken if two labels become one."""
        if not any(label in places for label in self.labels):
            return self
        to = [places.get(label, label) for label in self.labels]
        labels = labels_of(to)
        if isinstance(self.values, Symbolic):
            return Tensor(self.values.renamed(places), labels)
        if any(isinstance(p, PositionTable) for p in to):
            bounded(labels)
        apart = [_apart(k, to) for k in range(len(to))]
        if not all(apart):
            return self.taken(grid(to, labels), labels)
        found = self
        for k in reversed(range(len(to))):
            place = to[k]
            if isinstance(place, PositionTable):
                found = found._along(k, place)
        return Tensor(found.values, labels, found.off)

    def _along(self, axis: int, place: PositionTable) -> Tensor:
        """The entries along one dimension at the positions of a table; labels are for the caller."""
        off = self.off
        if isinstance(off, np.ndarray) and off.ndim:
            off = np.take(off, place.positions, axis=axis)
        return Tensor(np.take(self.values, place.positions, axis=axis), self.labels, off)

    def taken(self, places: tuple[int | slice | Whole, ...], labels: tuple[Index, ...]) -> Tensor:
        """The entries at some places of the array."""
        off = self.off[places] if isinstance(self.off, np.ndarray) and self.off.ndim else self.off
        return Tensor(self.values[places], labels, off)

    def at(self, labels: tuple[Index, ...]) -> Array:
        """A view for broadcasting over `labels`."""
        return aligned(self.values, self.labels, labels)

    def error_at(self, labels: tuple[Index, ...]) -> errors.Error:
        """The error, in the same view."""
        error = self.error
        return aligned(np.asarray(error), self.labels, labels) if error is not None and np.ndim(error) else error


def number(value: float) -> Tensor:
    return Tensor(np.float64(value))


def bounded(labels: Iterable[Index]) -> tuple[Index, ...]:
    """The labels, unless an array over them does not fit into the memory."""
    labels = tuple(labels)
    numbers = math.prod(x.size for x in labels)
    if numbers > LEAST:
        what = "an array over " + ", ".join(x.name.split("~")[0].split("#")[0] for x in labels)
        current().room(2.0 * numbers, what)  # the array and its factors
    return labels


def union(tensors: Iterable[Tensor]) -> tuple[Index, ...]:
    return bounded(dict.fromkeys(label for t in tensors for label in t.labels))


def times(*tensors: Tensor) -> Tensor:
    """The product; numbers first, so that large arrays are read once."""
    if any(isinstance(t.values, Symbolic) for t in tensors):
        return Tensor(*abstract.product([(t.values, t.labels, t.off) for t in tensors]))
    return _reduced(np.multiply, tensors, 1.0)


def plus(*tensors: Tensor) -> Tensor:
    if any(isinstance(t.values, Symbolic) for t in tensors):
        return Tensor(*abstract.total([(t.values, t.labels, t.off) for t in tensors]))
    return _reduced(np.add, tensors, 0.0)


def _reduced(operation: np.ufunc, tensors: tuple[Tensor, ...], neutral: float) -> Tensor:
    arrays = [t for t in tensors if t.labels]
    result = Tensor(np.float64(neutral))
    for t in tensors:
        if (not t.labels and t.values != neutral) or (t.error is not None and not t.labels):
            result = _two(operation, result, t, neutral)
    for t in arrays:
        result = _two(operation, result, t, neutral)
    return result


def _two(operation: np.ufunc, a: Tensor, b: Tensor, neutral: float) -> Tensor:
    if not a.labels and a.values == neutral and a.error is None:
        return b
    labels = union((a, b)) if b.labels else ()
    x, y = a.at(labels), b.at(labels)
    result = operation(x, y)
    off = _of_all(operation, a, b, result)
    if off is not None:
        return Tensor(result, labels, off)
    one, other = a.error_at(labels), b.error_at(labels)
    carried = errors.of_product(x, one, y, other) if operation is np.multiply else errors.added(one, other)
    return Tensor(result, labels, errors.full(errors.added(carried, errors.rounding(result)), np.shape(result)))


def _of_all(operation: np.ufunc, a: Tensor, b: Tensor, result: Array) -> Bulk | None:
    """The error of a large array and a number, as one for all entries; None if the entries must be examined."""
    if np.size(result) <= LARGE or bool(a.labels) == bool(b.labels):
        return None
    array, single = (a, b) if a.labels else (b, a)
    rule = bulk.of_product if operation is np.multiply else bulk.of_sum
    return rule(result, array.off, float(single.values), float(single.error or 0.0))


def summed(tensors: list[Tensor], over: Iterable[Index]) -> Tensor:
    """Σ over some labels of the product; a label that nobody carries multiplies by its size."""
    gone = set(over)
    if not gone:
        return times(*tensors)
    if any(isinstance(t.values, Symbolic) for t in tensors):
        return Tensor(*abstract.product([(t.values, t.labels, t.off) for t in tensors], gone))
    labels = bounded(label for label in dict.fromkeys(x for t in tensors for x in t.labels) if label not in gone)
    count = float(np.prod([label.size for label in gone if not any(label in t.labels for t in tensors)]))
    own: list[tuple[Label, ...]] = [t.labels for t in tensors]
    result = contract([t.values for t in tensors], own, labels)
    result = spacious(np.multiply, result, count, what="a sum of products") if count != 1 else result
    error = errors.rounding(result, errors.largest(result))
    if any(t.error is not None for t in tensors):
        current().room(2.0 * sum(np.size(t.values) for t in tensors), "how far a sum of products may be off")
    sizes = [np.abs(t.values) for t in tensors] if any(t.error is not None for t in tensors) else []
    for k, t in enumerate(tensors):
        if t.error is not None:
            moved = [*sizes[:k], np.broadcast_to(t.error, np.shape(t.values)), *sizes[k + 1 :]]
            error = errors.added(error, count * contract(moved, own, labels))
    return Tensor(result, labels, errors.full(error, np.shape(result)))


def delta(a: Place, b: Place) -> Tensor | None:
    """1 where two places agree (over the labels among them); None if they always do."""
    if a == b:
        return None
    if isinstance(a, int) and isinstance(b, int):
        return number(0.0)
    labels = bounded(labels_of((a, b)))
    return Tensor((positions(a, labels) == positions(b, labels)).astype(float), labels)


def one_hot(table: PositionTable, label: Index) -> Tensor:
    """1 where the label is the position that a table gives."""
    if table.positions.size * label.size > MOST_ONE_HOT:
        raise NotExact("a gather from a large family")
    return Tensor(np.eye(label.size)[table.positions], (*table.labels, label))


def _apart(k: int, places: list[Place]) -> bool:
    """Whether a place has labels, all its own."""
    own = labels_of([places[k]])
    return bool(own) and not set(own) & set(labels_of([*places[:k], *places[k + 1 :]]))


# Gaussians -----------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Variable:
    """A Gaussian family placed at labels or positions: an initial ket, the hat of a product W|x>, or a sum of such."""

    node: ir.InitialKet | ir.MatMul | Bundle
    places: tuple[Place, ...]

    @property
    def group(self) -> object:
        """Variables of different groups are independent, except for bundles."""
        if isinstance(self.node, ir.InitialKet):
            return self.node.symbol
        return self.node if isinstance(self.node, Bundle) else (self.node.matrix, self.node.transposed)

    @property
    def members(self) -> tuple[Place, ...]:
        """The place of each index of the family whose members are independent."""
        if isinstance(self.node, Bundle):
            return ()
        if isinstance(self.node, ir.InitialKet):
            return () if self.node.symbol.pair is not None else self.places
        places = dict(zip(self.node.type.indices, self.places, strict=True))
        return tuple(places[m] if isinstance(m, Index) else m for m in self.node.member)

    def independent_of(self, other: Variable) -> bool:
        """Whether two variables are always independent: different groups, or different members of one family."""
        if self.group != other.group:
            return True
        pairs = zip(self.members, other.members, strict=True)
        return any(isinstance(a, int) and isinstance(b, int) and a != b for a, b in pairs)

    def placed(self, places: Places) -> Variable:
        return Variable(self.node, moved(self.places, places))

    @property
    def labels(self) -> tuple[Index, ...]:
        return labels_of(self.places)


@dataclass(frozen=True, eq=False)
class LinearPart(Bound):
    """Σ_over coefficient · variable"""

    coefficient: Tensor
    variable: Variable
    over: tuple[Index, ...] = ()

    def substituted(self, places: Places, over: tuple[Index, ...]) -> LinearPart:
        return LinearPart(self.coefficient.renamed(places), self.variable.placed(places), over)


@dataclass(frozen=True, eq=False)
class Affine:
    """factor · base + shift, factor ≠ 0."""

    factor: float
    base: Linear
    shift: float

    def then(self, factor: float, shift: float) -> Affine:
        """factor · this + shift"""
        return Affine(factor * self.factor, self.base, factor * self.shift + shift)


@dataclass(frozen=True, eq=False)
class Linear:
    """mean + Σ parts: a Gaussian ket family. `copy` 0 is the ket's own neuron; positive ones are the slots of an E
    still open, negative ones belong to an average that has been taken.

    `root` and `where` tell when two are one variable at different places: the family they came from, and the places
    that its labels have taken. `affine` tells what other one this is an affine function of, if any.
    """

    mean: Tensor
    parts: tuple[LinearPart, ...]
    copy: int = 0
    root: int = field(default_factory=lambda: next(_numbers))
    where: tuple[Place, ...] | None = None
    affine: Affine | None = None
    family: Linear | None = field(default=None, repr=False)  # the family itself, if this is one of its placements

    @cached_property
    def labels(self) -> tuple[Index, ...]:
        found = list(self.mean.labels)
        for part in self.parts:
            found += [x for x in (*part.coefficient.labels, *part.variable.labels) if x not in part.over]
        return tuple(dict.fromkeys(found))

    @cached_property
    def groups(self) -> frozenset[object]:
        return frozenset((part.variable.group, self.copy) for part in self.parts)

    def placed(self, places: Places) -> Linear:
        if not any(label in places for label in self.labels):
            return self
        where = moved(self.positions, places)
        parts = tuple(p.placed(places) for p in self.parts)
        own = None if self.affine is None else replace(self.affine, base=self.affine.base.placed(places))
        return Linear(self.mean.renamed(places), parts, self.copy, self.root, where, own, self.family or self)

    def exchanged(self, names: Mapping[Place, Place]) -> Linear:
        """The family at other places: these replace whole places."""
        where, family = exchanged(self.positions, names), self.family or self
        if where == self.positions:
            return self
        return family.placed(dict(zip(family.labels, where, strict=True))).copied({family.copy: self.copy})

    @property
    def positions(self) -> tuple[Place, ...]:
        return self.labels if self.where is None else self.where

    @property
    def key(self) -> tuple[object, ...]:
        """Equal for two occurrences of one variable."""
        return self.root, self.copy, self.positions

    @property
    def origin(self) -> Affine:
        """This as an affine function of the Gaussian it came from."""
        return self.affine or Affine(1.0, self, 0.0)

    def copied(self, copies: Mapping[int, int]) -> Linear:
        own = None if self.affine is None else replace(self.affine, base=self.affine.base.copied(copies))
        return replace(
            self, copy=copies.get(self.copy, self.copy), where=self.positions, affine=own, family=self.family or self
        )

    def bundled(self) -> tuple[LinearPart, ...]:
        """The parts; many of them as one, so that a sum of sums does not grow by all the terms of each."""
        if len(self.parts) <= MOST_PARTS:
            return self.parts
        return (LinearPart(number(1.0), Variable(Bundle(self.family or self), self.positions)),)

    def flat(self) -> tuple[LinearPart, ...]:
        """The parts with bundles split."""
        found: list[LinearPart] = []
        todo = list(reversed(self.parts))
        while todo:
            part = todo.pop()
            if isinstance(part.variable.node, Bundle):
                inner = part.variable.node.placed(part.variable.places).parts
                todo += [_scaled_part(p, part) for p in reversed(inner)]
            else:
                found.append(part)
        return tuple(found)


MOST_PARTS = 8  # of a sum of Gaussians; longer sums enter other sums as one part


@dataclass(frozen=True)
class Bundle:
    """The random part of a Gaussian ket, as a family that others refer to: its covariances are computed once."""

    linear: Linear = field(repr=False)

    def placed(self, places: tuple[Place, ...]) -> Linear:
        return self.linear.placed(dict(zip(self.linear.labels, places, strict=True)))


# functions of Gaussians ----------------------------------------------------------------------------------------
@dataclass(frozen=True, eq=False)
class GaussianFactor:
    """f(ℓ_1, ..., ℓ_p): a `Univariate` of one linear ket, or any function of several (arrays in, array out)."""

    function: Univariate | Callable[..., Any]
    arguments: tuple[Linear, ...]

    @property
    def is_identity(self) -> bool:
        f = self.function
        return isinstance(f, Univariate) and (f.name, f.params, f.factor, f.scale) == ("monomial", (1.0,), 1.0, 1.0)

    @property
    def labels(self) -> tuple[Index, ...]:
        return tuple(dict.fromkeys(x for a in self.arguments for x in a.labels))

    @property
    def copies(self) -> set[int]:
        return {a.copy for a in self.arguments}

    @property
    def places(self) -> tuple[Place, ...]:
        """The places of the families that it is a function of."""
        return tuple(p for a in self.arguments for p in a.positions)

    def placed(self, places: Places) -> GaussianFactor:
        return GaussianFactor(self.function, tuple(a.placed(places) for a in self.arguments))

    def exchanged(self, names: Mapping[Place, Place]) -> GaussianFactor:
        return GaussianFactor(self.function, tuple(a.exchanged(names) for a in self.arguments))

    def copied(self, copies: Mapping[int, int]) -> GaussianFactor:
        return GaussianFactor(self.function, tuple(a.copied(copies) for a in self.arguments))


@dataclass(frozen=True, eq=False)
class Term(Bound):
    """Σ_over coefficient · Π factors"""

    coefficient: Tensor
    factors: tuple[GaussianFactor, ...]
    over: tuple[Index, ...] = ()

    @cached_property
    def labels(self) -> tuple[Index, ...]:
        inner = [x for f in self.factors for x in f.labels]
        return tuple(x for x in dict.fromkeys((*self.coefficient.labels, *inner)) if x not in self.over)

    def substituted(self, places: Places, over: tuple[Index, ...]) -> Term:
        return Term(self.coefficient.renamed(places), tuple(f.placed(places) for f in self.factors), over)

    def copied(self, copies: Mapping[int, int]) -> Term:
        return Term(self.coefficient, tuple(f.copied(copies) for f in self.factors), self.over)

    def distributed(self) -> list[Term]:
        """The same with the terms of the last shared sum in its place."""
        roots = [f.root if isinstance(f, Shared) else -1 for f in self.factors]
        k = roots.index(max(roots))
        inner = self.factors[k]
        assert isinstance(inner, Shared)
        rest = Term(self.coefficient, (*self.factors[:k], *self.factors[k + 1 :]), self.over)
        return [_multiplied(rest, x.refreshed()) for x in inner.terms]

    @property
    def is_linear(self) -> bool:
        """Whether the term is a number, or a multiple of a Gaussian ket."""
        return not self.factors or (len(self.factors) == 1 and self.factors[0].is_identity)

    @property
    def is_argument(self) -> bool:
        """Whether the term is itself a Gaussian ket."""
        one = np.ndim(self.coefficient.values) == 0 and self.coefficient.values == 1.0
        return bool(one) and not self.over and len(self.factors) == 1 and self.factors[0].is_identity

    @property
    def copies(self) -> set[int]:
        return set().union(*(f.copies for f in self.factors))


def _unread(*args: object) -> Never:
    raise AssertionError("a shared sum is taken apart before it is evaluated")


@dataclass(frozen=True, eq=False)
class Shared(GaussianFactor):
    """A sum of terms as one factor of others, by reference: its means with other factors are computed once (`sums.py`).

    `base` are the terms over `free`, their own labels, and `where` gives the places of these.
    """

    base: tuple[Term, ...] = ()
    free: tuple[Index, ...] = ()
    where: tuple[Place, ...] = ()
    root: int = field(default_factory=lambda: next(_numbers))

    @property
    def labels(self) -> tuple[Index, ...]:
        return labels_of(self.where)

    @property
    def copies(self) -> set[int]:
        return {0}

    @cached_property
    def terms(self) -> tuple[Term, ...]:
        places = {label: p for label, p in zip(self.free, self.where, strict=True) if p != label}
        return tuple(t.placed(places) for t in self.base) if places else self.base

    def placed(self, places: Places) -> Shared:
        if not any(label in places for label in self.labels):
            return self
        return replace(self, where=moved(self.where, places))

    @property
    def places(self) -> tuple[Place, ...]:
        return self.where

    def exchanged(self, names: Mapping[Place, Place]) -> Shared:
        return replace(self, where=exchanged(self.where, names))

    def copied(self, copies: Mapping[int, int]) -> Shared:
        assert 0 not in copies, "copies are made of terms"
        return self


@dataclass(frozen=True, eq=False)
class KetFormula:
    """A ket (family): the sum of its parts, terms of which a factor may be `Shared`. No part: the zero ket."""

    parts: tuple[Term, ...]

    @cached_property
    def terms(self) -> tuple[Term, ...]:
        """The parts with shared sums split: products of functions of Gaussians."""
        return tuple(x for t in self.parts for x in expanded(t))

    def shared(self) -> KetFormula:
        """The same ket, with its nonlinear terms combined if there are several."""
        return self._shared

    @cached_property
    def _shared(self) -> KetFormula:
        plain = [t for t in self.parts if t.is_linear]
        others = tuple(t for t in self.parts if not t.is_linear)
        if len(others) < 2 or any(t.copies != {0} for t in others):
            return self
        if len({a.key for t in others for f in t.factors for a in f.arguments}) < 2 and not any(map(_is_sum, others)):
            return self  # functions of one variable are better handled elsewhere
        labels = tuple(dict.fromkeys(x for t in others for x in t.labels))
        return KetFormula((*plain, Term(number(1.0), (Shared(_unread, (), others, labels, labels),))))

    @cached_property
    def labels(self) -> tuple[Index, ...]:
        return tuple(dict.fromkeys(x for t in self.parts for x in t.labels))

    def placed(self, places: Places) -> KetFormula:
        if not any(label in places for label in self.labels):
            return self
        return KetFormula(tuple(t.placed(places) for t in self.shared().parts))

    def scaled(self, factor: Tensor) -> KetFormula:
        """Nothing is left of it if the factor is exactly 0, as a scalar that vanishes by symmetry is."""
        if factor.vanishes:
            return KetFormula(())
        return KetFormula(tuple(replace(t, coefficient=times(t.coefficient, factor)) for t in self.shared().parts))

    def summed(self, over: tuple[Index, ...]) -> KetFormula:
        """Σ over labels: of numbers if only the coefficient carries them, otherwise a sum inside the term."""
        return KetFormula(tuple(_summed_term(t, over) for t in self.shared().parts))

    def linear(self) -> Linear | None:
        """The form as a Gaussian ket, or None where it has another function or a product; always the same one, so that
        all functions of a ket are functions of one variable."""
        return self._linear

    @cached_property
    def _linear(self) -> Linear | None:
        if len(self.parts) == 1 and self.parts[0].is_argument:
            return self.parts[0].factors[0].arguments[0]
        if not all(t.is_linear for t in self.parts):
            return None
        gaussians = [t for t in self.parts if t.factors]
        copies = {t.factors[0].arguments[0].copy for t in gaussians}
        if len(copies) > 1:
            return None
        mean, parts = plus(number(0.0), *(t.coefficient for t in self.parts if not t.factors)), []
        for term in gaussians:
            (argument,) = term.factors[0].arguments
            mean = plus(mean, summed([term.coefficient, argument.mean], term.over))
            inner = argument.bundled() if len(gaussians) > 1 else argument.parts
            parts += [_scaled_part(p, term) for p in inner]
        return Linear(mean, tuple(parts), copies.pop() if copies else 0, affine=self._affine())

    def _affine(self) -> Affine | None:
        """The form as factor · a Gaussian ket + shift, with plain numbers."""
        if any(t.over or np.ndim(t.coefficient.values) for t in self.parts):
            return None
        gaussians = [t for t in self.parts if t.factors]
        if len(gaussians) != 1 or gaussians[0].coefficient.values == 0.0:
            return None
        shift = sum(float(t.coefficient.values) for t in self.parts if not t.factors)
        return gaussians[0].factors[0].arguments[0].origin.then(float(gaussians[0].coefficient.values), shift)


#: What an instruction is here: numbers, or a ket.
Operand = Tensor | KetFormula


def _is_sum(term: Term) -> bool:
    return any(isinstance(f, Shared) for f in term.factors)


def expanded(term: Term, most: int = 4096) -> list[Term]:
    """A term as a sum of terms without shared sums."""
    done: list[Term] = []
    todo = [term]
    while todo:
        t = todo.pop()
        if not _is_sum(t):
            done.append(t)
            continue
        todo += reversed(t.distributed())
        if len(done) + len(todo) > most:
            raise NotExact("a product of too many terms")
    return done


def _scaled_part(part: LinearPart, term: Term | LinearPart) -> LinearPart:
    part = part.refreshed()
    return LinearPart(times(term.coefficient, part.coefficient), part.variable, part.over).bind(term.over)


def _summed_term(term: Term, over: tuple[Index, ...]) -> Term:
    """Σ_over of a term. Labels of tables are summed in the coefficient: Σ_r c[t,r] x[p(t,r)] = Σ_s (Σ_r c[t,r] [p(t,r) = s]) x[s],
    so that an average over windows is a product with a matrix."""
    tables = [(p, fresh(Index(p.axis.name, p.axis))) for p in _tables_over(term, over)]
    factors = tuple(f.exchanged(dict(tables)) for f in term.factors) if tables else term.factors
    inner = {x for f in factors for x in f.labels}
    numeric = tuple(x for x in over if x not in inner)
    parts = [term.coefficient, *(one_hot(p, label) for p, label in tables)]
    coefficient = summed(parts, numeric) if numeric else term.coefficient
    bound = tuple(x for x in over if x in inner)
    return Term(coefficient, factors, (*term.over, *(label for _, label in tables))).bind(bound)


def _tables_over(term: Term, over: tuple[Index, ...]) -> list[PositionTable]:
    """Tables in the factors of a term, over labels of a sum that the factors carry nowhere else."""
    places = [p for f in term.factors for p in f.places]
    found = [p for p in dict.fromkeys(places) if isinstance(p, PositionTable) and set(p.labels) & set(over)]
    rest = labels_of(p for p in places if p not in found)
    apart = [p for p in found if not set(p.labels) & set(over) & set(rest)]
    return [p for p in apart if p.positions.size * p.axis.size <= MOST_ONE_HOT]


def identity(linear: Linear) -> GaussianFactor:
    from tp_compiler.evaluate.gaussian.univariate import monomial

    return GaussianFactor(monomial(1), (linear,))


def gaussian(variable: Variable) -> KetFormula:
    """The form of a Gaussian family itself."""
    linear = Linear(number(0.0), (LinearPart(number(1.0), variable),))
    return KetFormula((Term(number(1.0), (identity(linear),)),))


def constant(value: Tensor) -> KetFormula:
    return KetFormula((Term(value, ()),))


def product(
    forms: list[KetFormula], limit: int = 256, matched: Callable[[Term, Term], Term] | None = None
) -> KetFormula | None:
    """The product of forms, term by term; None if it would have more than `limit` terms. `matched(a, b)`: b as it is to be
    multiplied with a."""
    terms: list[Term] = [Term(number(1.0), ())]
    for form in forms:
        parts = form.shared().parts
        if len(terms) * len(parts) > limit:
            return None
        pairs = [(a, b.refreshed()) for a in terms for b in parts]
        terms = [_multiplied(a, b if matched is None else matched(a, b)) for a, b in pairs]
    return KetFormula(tuple(terms))


def _multiplied(a: Term, b: Term) -> Term:
    # Averages on the two sides run over separate copies: <y|y> with y = E[1](ψ) has two of them.
    copies = {c: private() for c in b.copies if c < 0 and c in a.copies}
    b = b.copied(copies) if copies else b
    return Term(times(a.coefficient, b.coefficient), (*a.factors, *b.factors), (*a.over, *b.over))


def private() -> int:
    """The number of a copy that an average has closed."""
    return -1 - next(_numbers)
