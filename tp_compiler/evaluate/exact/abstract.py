"""Numbers that are not known yet: the values of a kernel over all pairs of points, as expressions of data.

The exact evaluator (tracer.py) finds how a kernel follows from data, layer by layer, without its entries: sums, products and
rows of the table of closed forms. Whatever would depend on the numbers themselves raises `EntriesDecide`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np

from tp_compiler.evaluate.bulk import EPS
from tp_compiler.ir.types import Index

Labels = tuple[Index, ...]


class EntriesDecide(Exception):
    """A step that depends on numbers not known yet, or has no form here."""


@dataclass(frozen=True, eq=False)
class Expression:
    """Numbers over `labels`; `parts` are those it is made of, each with the labels of its own."""

    labels: Labels
    parts: tuple[Placed, ...] = ()


@dataclass(frozen=True)
class Placed:
    """An expression whose labels, in order, have become `labels`; two of them may be one."""

    expression: Expression
    labels: Labels


@dataclass(frozen=True, eq=False)
class PointData(Expression):
    """An array, taken to be free of errors; `node` is where it stands in the program."""

    values: Any = None
    node: Any = None


@dataclass(frozen=True, eq=False)
class ProductOf(Expression):
    """coefficient · Σ_over Π parts; the coefficient is off by `share` of itself."""

    coefficient: float = 1.0
    share: float = 0.0
    over: Labels = ()


@dataclass(frozen=True, eq=False)
class SumOf(Expression):
    """constant + Σ parts; the constant is off by `off`."""

    constant: float = 0.0
    off: float = 0.0


@dataclass(frozen=True, eq=False)
class PairOf(Expression):
    """E f(u) g(w) for centred Gaussians; parts are their variances and their covariance.

    u and w are one variable where the labels in each pair of `apart` agree; they never are if it is None. Then `distance`
    tells Var(u - w), if it is known: for each Gaussian in both, its coefficients and its variance, over the labels summed.
    """

    f: Any = None
    g: Any = None
    apart: tuple[tuple[Index, Index], ...] | None = None
    distance: tuple[tuple[Placed, Placed, Labels], ...] | None = None


@dataclass(frozen=True, eq=False)
class SingleOf(Expression):
    """E f(u) for a centred Gaussian; its part is the variance."""

    f: Any = None


class Symbolic:
    """In place of the array of a tensor over `labels`. Nothing about it is known but its shape."""

    __slots__ = ("placed",)
    __hash__ = object.__hash__

    def __init__(self, placed: Placed):
        self.placed = placed

    @property
    def labels(self) -> Labels:
        return tuple(dict.fromkeys(self.placed.labels))

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(x.size for x in self.labels)

    @property
    def ndim(self) -> int:
        return len(self.labels)

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    def renamed(self, places: Any) -> Symbolic:
        """Labels replaced; positions are not followed."""
        labels = tuple(places.get(x, x) for x in self.placed.labels)
        if not all(isinstance(x, Index) for x in labels):
            raise EntriesDecide("an entry")
        return Symbolic(Placed(self.placed.expression, labels))

    def __array_function__(self, function: Any, kinds: Any, args: Any, options: Any) -> Any:
        """Its shape is known."""
        known = {np.ndim: self.ndim, np.shape: self.shape, np.size: self.size}
        return known[function] if function in known else self._refused()

    def _refused(self, *_: Any, **__: Any) -> NoReturn:
        raise EntriesDecide("a number that is not known yet")

    __array__ = __array_ufunc__ = __bool__ = __float__ = __iter__ = __len__ = __getitem__ = _refused
    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __rtruediv__ = __neg__ = _refused
    __pow__ = __abs__ = __lt__ = __le__ = __gt__ = __ge__ = __eq__ = __ne__ = _refused


Known = tuple[Any, Labels, Any]  # values, labels and error of a tensor


def _part(values: Any, labels: Labels, off: Any) -> Placed:
    if isinstance(values, Symbolic):
        return values.placed
    if off is not None:
        raise EntriesDecide("an array with errors")
    return Placed(PointData(labels, (), np.asarray(values, dtype=np.float64)), labels)


def _own(parts: Iterable[Placed], over: Labels = ()) -> Labels:
    return tuple(x for x in dict.fromkeys(x for p in parts for x in p.labels) if x not in over)


def _parted(tensors: Sequence[Known]) -> tuple[list[Placed], list[tuple[float, float]]]:
    """Arrays, and numbers with their errors."""
    arrays = [_part(*t) for t in tensors if t[1]]
    return arrays, [(float(v), float(e or 0.0)) for v, own, e in tensors if not own]


def product(tensors: Sequence[Known], over: Iterable[Index] = ()) -> tuple[Any, Labels]:
    """Σ over some labels of the product; a label that nobody carries multiplies by its size."""
    arrays, numbers = _parted(tensors)
    gone = tuple(over)
    coefficient, share, parts = 1.0, 0.0, []
    for value, off in numbers:
        coefficient *= value
        exact = not value or math.frexp(abs(value))[0] == 0.5
        share += (off / abs(value) if value else math.inf if off else 0.0) + (0.0 if exact else EPS)
    todo = arrays[::-1]
    while todo:
        part = todo.pop()
        inner = part.expression
        if isinstance(inner, ProductOf) and _opened(inner, part.labels, gone):
            coefficient, share = coefficient * inner.coefficient, share + inner.share + EPS
            todo += _inside(part)[::-1]
        else:
            parts.append(part)
    if not coefficient and not share:
        return np.float64(0.0), ()
    carried = {x for p in parts for x in p.labels}
    coefficient *= math.prod(x.size for x in gone if x not in carried)
    gone = tuple(x for x in gone if x in carried)
    many = next((k for k, p in enumerate(parts) if _is_summed_sum(p, gone)), None)
    if many is not None:
        return _distributed(parts, many, coefficient, share, gone)
    own = _own(parts, gone)
    if coefficient == 1.0 and not gone and len(parts) == 1 and not share:
        return _alone(parts[0])
    return _made(ProductOf(own, tuple(parts), coefficient, share, gone))


def _opened(inner: ProductOf, labels: Labels, gone: Labels) -> bool:
    """Whether the factors of a product become those of a product with it: numbers do, and what is summed over. Other products
    stay as they are: a gradient is one more factor on that of the layer above."""
    return not inner.over and (len(inner.parts) == 1 or any(x in gone for x in labels))


def _inside(part: Placed) -> list[Placed]:
    """The parts of an expression, with its labels."""
    places = dict(zip(part.expression.labels, part.labels, strict=True))
    return [Placed(p.expression, tuple(places[x] for x in p.labels)) for p in part.expression.parts]


def _is_summed_sum(part: Placed, gone: Labels) -> bool:
    return isinstance(part.expression, SumOf) and any(x in gone for x in part.labels)


def _distributed(
    parts: Sequence[Placed], many: int, coefficient: float, share: float, gone: Labels
) -> tuple[Any, Labels]:
    """The product with the terms of one sum in its place, summed one by one: each splits into rows and columns."""
    inner = parts[many].expression
    assert isinstance(inner, SumOf)
    number: Known = np.float64(coefficient), (), share * abs(coefficient)
    rest: list[Known] = [number, *((Symbolic(p), p.labels, None) for k, p in enumerate(parts) if k != many)]
    found = [product([*rest, (Symbolic(p), p.labels, None)], gone) for p in _inside(parts[many])]
    if inner.constant or inner.off:
        found.append(product([*rest, (np.float64(inner.constant), (), inner.off)], gone))
    return total([(values, own, None) for values, own in found])


def total(tensors: Sequence[Known]) -> tuple[Symbolic, Labels]:
    """The sum."""
    parts, numbers = _parted(tensors)
    constant = math.fsum(v for v, _ in numbers)
    off = sum(e for _, e in numbers) + (EPS * abs(constant) if len(numbers) > 1 else 0.0)
    if not constant and not off and len(parts) == 1:
        return _alone(parts[0])
    return _made(SumOf(_own(parts), tuple(parts), constant, off))


def single(variance: Known, f: Any) -> tuple[Symbolic, Labels]:
    """E f(u), from the variance."""
    placed = _part(*variance)
    return _made(SingleOf(placed.labels, (placed,), f))


def _alone(part: Placed) -> tuple[Symbolic, Labels]:
    found = Symbolic(part)
    return found, found.labels


def _made(made: Expression) -> tuple[Symbolic, Labels]:
    return Symbolic(Placed(made, made.labels)), made.labels


def pair(parts: Sequence[Known], **about: Any) -> tuple[Symbolic, Labels]:
    """E f(u) g(w), from two variances and a covariance."""
    placed = tuple(_part(*p) for p in parts)
    return _made(PairOf(_own(placed), placed, **about))
