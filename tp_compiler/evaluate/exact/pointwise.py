"""Functions of kets, combined into few functions of few Gaussians: functions of one Gaussian become a single function.

silu'(x) = σ(x)(1 + xσ(-x)) is written with functions of x and of -x, in three products. Integration needs one function
of one variable, with the places of its kinks. Functions that are all in the table of closed forms are not combined.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from tp_compiler.evaluate.array_types import Array, Numbers
from tp_compiler.evaluate.exact import composites, compositions
from tp_compiler.evaluate.exact.ket_formula import (
    GaussianFactor,
    KetFormula,
    Linear,
    Operand,
    Tensor,
    Term,
    number,
    product,
)
from tp_compiler.evaluate.gaussian import kernel_table as table
from tp_compiler.evaluate.gaussian import tilting
from tp_compiler.evaluate.gaussian.univariate import (
    Seen,
    Univariate,
    Watch,
    affine,
    combination,
    composite,
    degree,
    is_constant,
    jumps,
    parity,
    univariate,
)
from tp_compiler.evaluate.interface import NotExact
from tp_compiler.evaluate.kernels import KERNELS
from tp_compiler.ir.primitives import PRIMITIVES

Values = Callable[[Array], Array]

TABLED = frozenset(name for row in table.ROWS for name in row.first | row.second)
MOST_KINKS = 16  # of one function; further ones are found when needed
_SIZES = np.geomspace(1e-9, 1e9, 1801)
_SCAN = np.array(
    sorted({0.0, *_SIZES, *-_SIZES, *np.linspace(-40, 40, 3201)})
)  # points between which sign changes are searched for
_HALVINGS = 1100  # at most this many, until the ends of an interval are adjacent doubles


def applied(fn: str, args: Sequence[Operand]) -> KetFormula:
    """fn of kets and of numbers: a function of the table, of one Gaussian, or of several."""
    return compositions.composed(fn, args) or _of_one(fn, args) or _chosen(fn, args) or composites.several(fn, args)


def marked(form: KetFormula, args: Iterable[Operand]) -> KetFormula:
    """A form that contains numbers with errors, with the same relative error."""
    worst = max((relative_error(t) for a in args for t in _numbers(a)), default=0.0)
    return form.scaled(Tensor(np.float64(1.0), (), np.float64(worst))) if worst else form


def _numbers(a: Operand) -> list[Tensor]:
    return [a] if isinstance(a, Tensor) else [t.coefficient for t in a.terms]


def relative_error(t: Tensor) -> float:
    """The largest error relative to the largest number."""
    scale = float(np.max(np.abs(t.values), initial=0.0))
    return 0.0 if t.error is None or not scale else float(np.max(t.error, initial=0.0)) / scale


# one Gaussian ------------------------------------------------------------------------------------------------
def gathered(terms: Iterable[Term]) -> tuple[Term, ...]:
    """The same sum, where terms that differ in their functions of one Gaussian become one term with one function of it,
    unless the table has all of these functions."""
    numbers: list[Term] = []
    others: list[Term] = []
    groups: dict[Any, list[Term]] = {}
    for term in terms:
        key = _group(term)
        if key is not None:
            groups.setdefault(key, []).append(term)
        else:
            (others if term.factors or _indexed(term) or term.over else numbers).append(term)
    if len(groups) == 1 and not others and not _all_tabled([t for g in groups.values() for t in g]):
        (whole,) = groups.values()
        if not _rest(whole[0]):
            return (_one([*whole, *numbers]),)
    return (*numbers, *others, *(t for group in groups.values() for t in _merged(group)))


def _group(term: Term) -> Hashable:
    """The Gaussian of the last factor, and the rest of the term; None for sums and for families of numbers."""
    if term.over or _indexed(term) or not all(isinstance(f.function, Univariate) for f in term.factors):
        return None
    return (_own(term), frozenset((f.function, f.arguments[0].key) for f in _rest(term))) if term.factors else None


def _own(term: Term) -> Hashable:
    return term.factors[-1].arguments[0].origin.base.key


def _rest(term: Term) -> list[GaussianFactor]:
    """The factors in other Gaussians than the last factor's."""
    return [f for f in term.factors if f.arguments[0].origin.base.key != _own(term)]


def _all_tabled(terms: list[Term]) -> bool:
    return all(_tabled(replace(t, factors=_inner(t))) for t in terms)


def _inner(term: Term) -> tuple[GaussianFactor, ...]:
    return tuple(f for f in term.factors if f.arguments[0].origin.base.key == _own(term))


def _merged(group: list[Term]) -> list[Term]:
    if _all_tabled(group) or (len(group) == 1 and len(_inner(group[0])) == 1):
        return group
    return [_one(group)]


def _one(terms: list[Term]) -> Term:
    """Terms that differ only in functions of one Gaussian, combined into one function of it."""
    inner = [replace(t, factors=_inner(t)) if t.factors else t for t in terms]
    on = _steepest(a for t in inner for f in t.factors for a in f.arguments)
    function = _function_of(KetFormula(tuple(inner)), on)
    whole = KetFormula((Term(number(1.0), (*_rest(terms[0]), GaussianFactor(function, (on,)))),))
    return marked(whole, [KetFormula(tuple(terms))]).terms[0]


def unified(factors: list[GaussianFactor]) -> list[GaussianFactor]:
    """Functions of affine functions of one Gaussian, as functions of one of these."""
    arguments = {a.key: a for f in factors for a in f.arguments}
    groups: dict[Any, list[Linear]] = {}
    for a in arguments.values():
        groups.setdefault(a.origin.base.key, []).append(a)
    if len(groups) == len(arguments):
        return factors
    chosen = {key: _steepest(group) for key, group in groups.items()}
    return [_rewritten(f, [chosen[a.origin.base.key] for a in f.arguments]) for f in factors]


def fused(factors: Sequence[GaussianFactor]) -> tuple[GaussianFactor, ...]:
    """Multiplies functions of one Gaussian: one factor for each Gaussian, except functions of several."""
    groups: dict[Any, list[GaussianFactor]] = {}
    for factor in factors:
        one = isinstance(factor.function, Univariate)
        groups.setdefault(factor.arguments[0].origin.base.key if one else id(factor), []).append(factor)
    return tuple(f for group in groups.values() for f in _one_of(group))


def _one_of(group: list[GaussianFactor]) -> list[GaussianFactor]:
    if len(group) == 1:
        return group
    whole = compositions.one_function(Term(number(1.0), tuple(group)))
    if whole is not None:
        return [GaussianFactor(whole[0], (whole[1],))]
    on = _steepest(a for f in group for a in f.arguments)
    return [GaussianFactor(_function_of(KetFormula((Term(number(1.0), tuple(group)),)), on), (on,))]


def _rewritten(factor: GaussianFactor, on: list[Linear]) -> GaussianFactor:
    if isinstance(factor.function, Univariate):
        return GaussianFactor(_moved(factor.function, factor.arguments[0], on[0]), (on[0],))
    lines = [_line(a, b) for a, b in zip(factor.arguments, on, strict=True)]
    return GaussianFactor(composites.Moved(factor.function, lines), tuple(on))


def _line(argument: Linear, on: Linear) -> tuple[float, float]:
    """s and t in argument = s · on + t."""
    if argument.key == on.key:
        return 1.0, 0.0
    slope = argument.origin.factor / on.origin.factor
    return slope, argument.origin.shift - slope * on.origin.shift


def _moved(function: Univariate, argument: Linear, on: Linear) -> Univariate:
    return affine(function, *_line(argument, on))


def _steepest(arguments: Iterable[Linear]) -> Linear:
    """The argument that varies most, so that functions rewritten in it get no steeper."""
    return max(arguments, key=lambda a: abs(a.origin.factor))


def _variable(term: Term) -> Hashable:
    """The Gaussian that a term is a function of; None unless there is exactly one."""
    if term.over or _indexed(term) or not all(isinstance(f.function, Univariate) for f in term.factors):
        return None
    keys = {a.origin.base.key for f in term.factors for a in f.arguments}
    return keys.pop() if len(keys) == 1 else None


def _indexed(term: Term) -> bool:
    return bool(np.ndim(term.coefficient.values))


def _tabled(term: Term) -> bool:
    whole = compositions.one_function(term)
    return whole is not None and whole[0].name in TABLED


def _function_of(a: Operand, on: Linear) -> Univariate:
    """A number, or a ket in one Gaussian, as a function of `on`."""
    if isinstance(a, Tensor):
        return combination([(float(a.values), [])])
    pieces = []
    for term in a.terms:
        functions = [_moved(f.function, f.arguments[0], on) for f in term.factors if isinstance(f.function, Univariate)]
        pieces.append((float(term.coefficient.values), functions))
    return combination(pieces)


def _of_one(fn: str, args: Sequence[Operand]) -> KetFormula | None:
    """fn of functions of one Gaussian, or None."""
    terms = [t for a in args if isinstance(a, KetFormula) for t in a.terms]
    if any(isinstance(a, Tensor) and np.ndim(a.values) for a in args):
        return None
    if any(_indexed(t) or t.over or (t.factors and _variable(t) is None) for t in terms):
        return None
    if len({_variable(t) for t in terms if t.factors}) != 1:
        return None
    on = _steepest(x for t in terms for f in t.factors for x in f.arguments)
    if on.copy < 0:
        return None
    function = composed(fn, [_function_of(a, on) for a in args])
    return KetFormula((Term(number(1.0), (GaussianFactor(function, (on,)),)),))


def composed(fn: str, parts: list[Univariate]) -> Univariate:
    """x ↦ fn(parts(x)), with its kinks: those of the parts, and where an argument passes a kink of fn."""
    row = PRIMITIVES[fn]
    found = [k for part in parts for k in part.kinks]
    if not row.smooth:
        found += [x for g in _switches(fn, parts) for x in crossings(g)]
    kinks = apart(found)
    crowded = len(kinks) > MOST_KINKS or any(p.crowded for p in parts)
    kinks = () if crowded else kinks
    kernel = KERNELS[fn]
    analytic = row.smooth and not crowded and all(p.analytic for p in parts)
    broken = fn in ("step", "sign", "where") or any(jumps(p) for p in parts)
    whole = composite(lambda x: np.asarray(kernel(*(p(x) for p in parts))) + 0.0 * x, kinks, analytic)
    exponent = float(parts[1](0.0)) if fn == "pow" and is_constant(parts[1]) else None
    own = composites.degree_under(fn, [degree(p) for p in parts], exponent)
    whole = whole.watched(
        _watch(fn, parts), composites.parity_under(fn, [parity(p) for p in parts], exponent), degree=own
    )
    if fn == "div" and tilting.exponential(parts[0]):
        whole = replace(whole, parts=(parts[0], composed(fn, [combination([(1.0, [])]), parts[1]])))
    if crowded:
        return replace(whole.with_slope(lambda: None, True), crowded=True)
    return whole.with_slope(lambda: _chain(fn, parts, kinks), broken)


def _watch(fn: str, parts: list[Univariate]) -> Watch:
    def watch(x: Array, seen: Seen) -> None:
        for part in parts:
            part.seen(x, seen)
        seen.append((fn, [part(x) for part in parts]))

    return watch


def _chain(fn: str, parts: list[Univariate], kinks: tuple[float, ...]) -> Univariate | None:
    """The chain rule; None if a part has no derivative."""
    slopes = [p.regular() for p in parts]
    if any(s is None for s in slopes):
        return None
    algebra = _Arrays()
    partials = PRIMITIVES[fn].partials

    def value(x: Array) -> Array:
        values = [p(x) for p in parts]
        total = 0.0 * x
        for k, s in enumerate(slopes):
            assert s is not None
            if s.factor != 0.0:
                total = total + partials[k](algebra, *values) * s(x)
        return total

    every = {*kinks, *(k for s in slopes if s is not None for k in s.kinks)}
    smooth = PRIMITIVES[fn].smooth and all(s.analytic for s in slopes if s is not None)
    watch = _watch(fn, parts)
    return replace(composite(value, tuple(every), smooth), jumps=bool(every)).watched(watch)


class _Arrays:
    """The derivative rules of `ir.primitives`, on arrays."""

    def __call__(self, fn: str, *args: Numbers) -> Array:
        return KERNELS[fn](*args)

    def number(self, value: float) -> float:
        return value


def _switches(fn: str, parts: list[Univariate]) -> list[Values]:
    """Functions of x whose changes of sign are the kinks of fn."""
    if fn in ("max", "min"):
        return [lambda x: parts[0](x) - parts[1](x)]
    if fn == "where":
        return [parts[0]]
    places = univariate(fn).kinks

    def beyond(place: float) -> Values:
        return lambda x: parts[0](x) - place

    return [beyond(place) for place in places]


def apart(places: list[float]) -> tuple[float, ...]:
    """Sorted, with places that differ only by rounding merged."""
    kept: list[float] = []
    for x in sorted(places):
        if not kept or x - kept[-1] > 8 * np.spacing(abs(x)):
            kept.append(x)
    return tuple(kept)


def crossings(g: Values) -> list[float]:
    """Where g changes sign (to or from 0 included), to the last digit, from a scan of the line."""
    with np.errstate(all="ignore"):
        signs = np.broadcast_to(np.sign(g(_SCAN)), _SCAN.shape)
        here = np.flatnonzero(signs[1:] != signs[:-1])
        low, high, left = _SCAN[here], _SCAN[here + 1], signs[here]
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            if np.all((middle == low) | (middle == high)):
                break
            before = np.sign(g(middle)) == left
            low, high = np.where(before, middle, low), np.where(before, high, middle)
        zero = np.sign(g(high)) == 0
    return sorted({float(x) for x in np.where(zero, high, low)})


# several Gaussians -------------------------------------------------------------------------------------------
def _chosen(fn: str, args: Sequence[Operand]) -> KetFormula | None:
    """A choice between kets as a sum of products: where(c, a, b) = b + step(c)(a - b), max(a, b) = b + relu(a - b)."""
    if fn == "leaky_relu":
        return _chosen("where", [args[0], args[0], _times(args[1], args[0])])
    if fn == "where":
        gate = applied("step", [args[0]])
        return _sum(_times(gate, args[1]), args[2], _negative(_times(gate, args[2])))
    if fn in ("max", "min"):
        a, b = args
        if fn == "max":
            return _sum(b, applied("relu", [_sum(a, _negative(b))]))
        return _sum(a, _negative(applied("relu", [_sum(a, _negative(b))])))
    return None


def _times(*args: Operand) -> KetFormula:
    forms = [a if isinstance(a, KetFormula) else KetFormula((Term(a, ()),)) for a in args]
    multiplied = product(forms)
    if multiplied is None:
        raise NotExact("a product of too many terms")
    return multiplied


def _negative(a: Operand) -> KetFormula:
    return _times(number(-1.0), a)


def _sum(*args: Operand) -> KetFormula:
    whole = KetFormula(
        tuple(t for a in args for t in (a if isinstance(a, KetFormula) else KetFormula((Term(a, ()),))).terms)
    )
    linear = whole.linear()
    if linear is None:
        return KetFormula(gathered(whole.terms))
    return KetFormula((Term(number(1.0), (GaussianFactor(univariate("monomial", 1), (linear,)),)),))
