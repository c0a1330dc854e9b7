"""The terms of limit equations: SymPy expressions over kets, hats and expectations; nothing is evaluated here.

Notation of Tensor Programs IVb, sections 1.2 and 4.2: `Ket` |x_i>, `Hat` Ŵ|x>, `Expectation` E[...] (a bracket <x|y> is
E|x>|y>), a ket's iid copy |x>⁽ᵏ⁾ with `copy = k`. Indices stay symbols: one term represents a whole family.
A term with an index expression outside its axis is 0 (the meaning of `shift`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias

import sympy as sp
from sympy.core.symbol import Str

#: SymPy is untyped; the alias documents the intent.
Expr: TypeAlias = Any


class Named(sp.Expr):
    """A named family. args: label, then indices. The label is unique in a system; `[:,1]` in it fixes positions."""

    is_commutative = True
    is_real = True
    _diff_wrt = True
    _first = 1  # where indices start in args

    def __new__(cls, label: Any, *indices: Any) -> Named:
        return sp.Expr.__new__(cls, label if isinstance(label, Str) else Str(label), *map(sp.sympify, indices))

    @property
    def label(self) -> str:
        return str(self.args[0].name)

    @property
    def name(self) -> str:
        """SymPy's symbols have this attribute: it looks for free names."""
        return f"{self.label}{self.args[1:]}"

    @property
    def indices(self) -> tuple[Expr, ...]:
        return tuple(self.args[self._first :])

    @property
    def free_symbols(self) -> set[Expr]:
        return {self}.union(*(a.free_symbols for a in self.indices))

    def _eval_derivative(self, s: Expr) -> Expr:
        return sp.Integer(int(self == s))


class Data(Named):
    """Given numbers."""


class Scalar(Named):
    """A scalar of the program, or a fresh one (c1, θ1): a number in the limit; random only beyond `clt`."""


class Ket(Named):
    """|x_i>: a random variable. args: label, copy, indices; copy 0 is the row itself, k > 0 its k-th iid copy."""

    _first = 2

    def __new__(cls, label: Any, copy: Any = 0, *indices: Any) -> Ket:
        return Named.__new__(cls, label, copy, *indices)

    @property
    def copy_number(self) -> int:
        return int(self.args[1])


class Entry(Named):
    """A natural entry of an operator, Δ⁽⁰¹⁾, random in two neurons: row and column. args: label, their copies, indices.

    Copy 0 is the row itself, as for kets; Δ⁽¹⁰⁾ is the entry of the transpose.
    """

    _first = 3

    def __new__(cls, label: Any, row: Any, column: Any, *indices: Any) -> Entry:
        return Named.__new__(cls, label, row, column, *indices)

    @property
    def neurons(self) -> tuple[int, int]:
        return int(self.args[1]), int(self.args[2])


class _Applied(sp.Expr):
    """A matrix applied to a ket expression. args: name, 1 if transposed, argument, member indices of the family."""

    is_commutative = True
    is_real = True
    _diff_wrt = True

    def __new__(cls, matrix: Any, transposed: Any, argument: Any, member: Any = ()) -> _Applied:
        name = matrix if isinstance(matrix, Str) else Str(matrix)
        return sp.Expr.__new__(cls, name, sp.Integer(int(transposed)), sp.sympify(argument), sp.Tuple(*member))

    @property
    def matrix(self) -> str:
        return str(self.args[0].name)

    @property
    def transposed(self) -> bool:
        return bool(self.args[1])

    @property
    def argument(self) -> Expr:
        return self.args[2]

    @property
    def member(self) -> tuple[Expr, ...]:
        return tuple(self.args[3])

    def _eval_derivative(self, s: Expr) -> Expr:
        return sp.Integer(int(self == s))


class Hat(_Applied):
    """Ŵ|x>: the Gaussian part of W|x>; Cov(Ŵ|x>, Ŵ|x'>) = σ²<x|x'> (TP IVb, Def 2.6.5)."""


class DotPart(_Applied):
    """Ẇ|x>: the correlation with earlier uses of Wᵀ (TP IVb, Def 2.6.5)."""


class Learned(_Applied):
    """ΔW_t|x>: the sum of the updates of W, applied to |x>. `member` begins with the time (TP IVb, Thm 2.7.3)."""


class Outer(sp.Expr):
    """The operator |y><x|. args: y, x."""

    is_commutative = True
    is_real = True

    def __new__(cls, left: Any, right: Any) -> Outer:
        return sp.Expr.__new__(cls, sp.sympify(left), sp.sympify(right))


class Expectation(sp.Expr):
    """E over the row (copies = (0,)) or over iid copies of it. args: body, copies."""

    is_commutative = True
    is_real = True

    def __new__(cls, body: Any, copies: Iterable[Any] = (0,)) -> Expectation:
        return sp.Expr.__new__(cls, sp.sympify(body), sp.Tuple(*copies))

    @property
    def body(self) -> Expr:
        return self.args[0]

    @property
    def copies(self) -> frozenset[int]:
        return frozenset(int(c) for c in self.args[1])

    def _eval_derivative(self, s: Expr) -> Expr:
        inner = sp.Integer(0) if 0 in self.copies else self.body.diff(s)
        return Expectation(inner, self.args[1]) if inner != 0 else inner


class Partial(sp.Expr):
    """∂|x>/∂Ŵᵀ|y>, not carried out. args: the ket expression, the hat."""

    is_commutative = True
    is_real = True

    def __new__(cls, ket: Any, hat: Any) -> Partial:
        return sp.Expr.__new__(cls, ket, hat)


class Stein(sp.Expr):
    """The coefficient of one |y> in |Y><Y|Y>⁺<Ĝ|x>. args: |y>, the |Y>, their hats Ĝ, |x>, indices that Y runs over,
    and the steps of training it runs over: (s, last).

    The form of the dot rule without derivatives (TP IVb after Def 2.6.5; TP III), which also holds for jumps.
    """

    is_commutative = True
    is_real = True

    def __new__(cls, y: Any, kets: Any, hats: Any, x: Any, over: Any, steps: Any = ()) -> Expr:
        if len(kets) == 1 and not over and not steps:
            return Expectation(hats[0] * x) / Expectation(y * y)
        ranges = sp.Tuple(*(sp.Tuple(*r) for r in steps))
        return sp.Expr.__new__(cls, y, sp.Tuple(*kets), sp.Tuple(*hats), x, sp.Tuple(*over), ranges)


class AtMost(sp.Function):
    """1 where the first of two indices is at most the second, else 0. In a sum over either it is a bound: Σ_{j ≤ i}."""

    is_commutative = True
    is_real = True

    @classmethod
    def eval(cls, first: Expr, last: Expr) -> Expr | None:
        apart = last - first
        return sp.Integer(int(apart >= 0)) if apart.is_Integer else None


class Reduce(sp.Expr):
    """max, min, prod or logsumexp of a family over an index. args: op, body, the (bound) index."""

    is_commutative = True
    is_real = True

    def __new__(cls, op: Any, body: Any, index: Any) -> Reduce:
        return sp.Expr.__new__(cls, op if isinstance(op, Str) else Str(op), body, index)

    @property
    def free_symbols(self) -> set[Expr]:
        return set(self.args[1].free_symbols) - {self.args[2]}


class Softmax(sp.Expr):
    """softmax_t(a_t) at a position. args: body, bound index, position (shown only if it is not the index itself)."""

    is_commutative = True
    is_real = True

    def __new__(cls, body: Any, index: Any, at: Any) -> Softmax:
        if at != index and isinstance(at, sp.Symbol) and at not in body.free_symbols:
            body, index = reindex(body, {index: at}), at
        return sp.Expr.__new__(cls, body, index, sp.sympify(at))

    @property
    def free_symbols(self) -> set[Expr]:
        return (set(self.args[0].free_symbols) - {self.args[1]}) | set(self.args[2].free_symbols)


class Stacked(sp.Expr):
    """A family put together of members. args: the position (an index, free), then the members."""

    is_commutative = True
    is_real = True

    def __new__(cls, at: Any, *members: Any) -> Expr:
        at = sp.sympify(at)
        return members[int(at) - 1] if at.is_Integer else sp.Expr.__new__(cls, at, *members)


def place_of(named: Named) -> tuple[str, tuple[Expr, ...]]:
    """`h[:,1]` over (i) is the member (i, 1) of h. An index that the value does not carry (the cotangent of a member may
    be one ket for a whole family) is left out."""
    name, _, pattern = named.label.partition("[")
    if not pattern:
        return name, named.indices
    rest = iter(named.indices)
    filled = (next(rest, None) if p == ":" else sp.Integer(p) for p in pattern.rstrip("]").split(","))
    return name, (*(place for place in filled if place is not None), *rest)


def family_of(e: Stacked) -> tuple[str, tuple[Expr, ...]] | None:
    """(h, (i, s)) for the members |h_{i,1}>, |h_{i,2}>, ... put together over s: the family as the source has it."""
    at, *members = e.args
    if not all(isinstance(m, Named) and "[" in m.label for m in members):
        return None
    (name, first), *others = places = [place_of(m) for m in members]
    if any(other != name or len(own) != len(first) for other, own in others):
        return None
    differing = {p for _, own in others for p, i in enumerate(own) if i != first[p]}
    if len(differing) != 1:
        return None
    (position,) = differing
    if any(own[position] != k + 1 for k, (_, own) in enumerate(places)):
        return None
    return name, (*first[:position], at, *first[position + 1 :])


class Block(sp.Expr):
    """A family laid out: one entry after the other, the last index running fastest. args: body, then (index, size) pairs.

    The indices are bound. One that does not occur in the body repeats it.
    """

    is_commutative = True
    is_real = True

    def __new__(cls, body: Any, *indices: Any) -> Block:
        return sp.Expr.__new__(cls, sp.sympify(body), *(sp.Tuple(*pair) for pair in indices))

    @property
    def body(self) -> Expr:
        return self.args[0]

    @property
    def limits(self) -> tuple[tuple[Expr, int], ...]:
        return tuple((pair[0], int(pair[1])) for pair in self.args[1:])

    @property
    def free_symbols(self) -> set[Expr]:
        return set(self.body.free_symbols) - {i for i, _ in self.limits}


class Joined(sp.Expr):
    """Families laid out one after the other over one index. args: the position, then the `Block`s."""

    is_commutative = True
    is_real = True


#: What functions of finite matrices bind in addition to their hidden indices, as positions in (rows, cols).
_BOUND = {"solve": (1,), "logdet": (0, 1)}


class Linalg(sp.Expr):
    """A function of finite matrices (ir.Linalg, ir.Spectral). args: op, function, (rows, cols), hidden, arguments.

    Hidden indices are bound, and so are those that the result does not have: cols of `solve`, both of `logdet`.
    """

    is_commutative = True
    is_real = True

    def __new__(cls, op: Any, fn: Any, place: Any, hidden: Any, *arguments: Any) -> Linalg:
        op, fn = (a if isinstance(a, Str) else Str(a) for a in (op, fn))
        return sp.Expr.__new__(cls, op, fn, sp.Tuple(*place), sp.Tuple(*hidden), *arguments)

    @property
    def op(self) -> str:
        return str(self.args[0].name)

    @property
    def fn(self) -> str:
        return str(self.args[1].name)

    @property
    def place(self) -> tuple[Expr, Expr]:
        return self.args[2][0], self.args[2][1]

    @property
    def hidden(self) -> tuple[Expr, ...]:
        return tuple(self.args[3])

    @property
    def arguments(self) -> tuple[Expr, ...]:
        return tuple(self.args[4:])

    @property
    def bound(self) -> tuple[Expr, ...]:
        return (*(self.place[k] for k in _BOUND.get(self.op, ())), *self.hidden)

    @property
    def free_symbols(self) -> set[Expr]:
        return set(self.place).union(*(a.free_symbols for a in self.arguments)) - set(self.bound)


class Missing(sp.Expr):
    """A construct without a limit law in this version. args: its name."""

    is_commutative = True
    is_real = True

    def __new__(cls, construct: Any) -> Missing:
        return sp.Expr.__new__(cls, construct if isinstance(construct, Str) else Str(construct))


BINDERS = (sp.Sum, Reduce, Softmax, Block, Linalg)


def bracket(x: Expr, y: Expr) -> Expectation:
    """<x|y> = E|x>|y>."""
    return Expectation(x * y)


def rebuild(expr: Expr, rule: Callable[[Expr], Expr | None]) -> Expr:
    """`rule` returns a replacement, which is not traversed, or None to continue with the arguments."""
    found = rule(expr)
    if found is not None:
        return found
    if not expr.args:
        return expr
    args = [rebuild(a, rule) for a in expr.args]
    if isinstance(expr, sp.Sum) and args[0] == 0:
        return sp.Integer(0)
    return expr if all(a is b for a, b in zip(args, expr.args, strict=True)) else expr.func(*args)


def bound(expr: Expr) -> tuple[Expr, ...]:
    """The indices that a binder binds."""
    if isinstance(expr, sp.Sum | Block):
        return tuple(limit[0] for limit in expr.limits)
    if isinstance(expr, Linalg):
        return expr.bound
    return (expr.args[2],) if isinstance(expr, Reduce) else (expr.args[1],)


def rebound(expr: Expr, body: Callable[[Expr], Expr], new: Mapping[Expr, Expr]) -> Expr:
    """A binder over other indices: `body` is applied to its inside, then the bound indices are exchanged."""

    def inside(e: Expr) -> Expr:
        return _replaced(body(e), new)

    if isinstance(expr, Linalg):
        place, hidden = ([new.get(i, i) for i in group] for group in (expr.place, expr.hidden))
        return Linalg(*expr.args[:2], place, hidden, *map(inside, expr.arguments))
    own = [new.get(i, i) for i in bound(expr)]
    if isinstance(expr, sp.Sum):
        return sp.Sum(inside(expr.args[0]), *((i, *limit[1:]) for i, limit in zip(own, expr.limits, strict=True)))
    if isinstance(expr, Block):
        return Block(inside(expr.body), *((i, size) for i, (_, size) in zip(own, expr.limits, strict=True)))
    if isinstance(expr, Reduce):
        return Reduce(expr.args[0], inside(expr.args[1]), own[0])
    return Softmax(inside(expr.args[0]), own[0], expr.args[2])


def _replaced(expr: Expr, new: Mapping[Expr, Expr]) -> Expr:
    """Replace free indices; a binder inside that binds one of them again hides it."""
    if not any(not new.keys().isdisjoint(bound(b)) for b in expr.atoms(*BINDERS)):
        return expr.xreplace(dict(new))

    def rule(e: Expr) -> Expr | None:
        if isinstance(e, BINDERS) and not new.keys().isdisjoint(bound(e)):
            rest = {k: v for k, v in new.items() if k not in bound(e)}
            place = {"place": [rest.get(i, i) for i in e.place]} if isinstance(e, Linalg) else {}
            inner = rebound(e, lambda x: _replaced(x, rest), {})
            return Linalg(*inner.args[:2], place["place"], inner.hidden, *inner.arguments) if place else inner
        return new.get(e)

    return rebuild(expr, rule)


def reindex(expr: Expr, mapping: Mapping[Expr, Expr]) -> Expr:
    """Replaces indices simultaneously; a bound index that would be captured is renamed first (with a tilde)."""
    mapping = {k: v for k, v in mapping.items() if k != v}
    if not mapping:
        return expr
    danger = set(mapping).union(*(v.free_symbols for v in map(sp.sympify, mapping.values())))
    if any(not danger.isdisjoint(bound(b)) for b in expr.atoms(*BINDERS)):
        expr = rebuild(expr, lambda e: _freshened(e, danger))
    return expr.xreplace({k: sp.sympify(v) for k, v in mapping.items()})


def _freshened(expr: Expr, danger: set[Expr]) -> Expr | None:
    if not isinstance(expr, BINDERS) or danger.isdisjoint(bound(expr)):
        return None
    taken = danger | expr.atoms(sp.Symbol)
    new = {i: fresh_like(i, taken) for i in bound(expr) if i in danger}
    return rebound(expr, lambda inner: rebuild(inner, lambda e: _freshened(e, danger)), new)


def like(symbol: Expr, name: str) -> Expr:
    """Another index over the same positions."""
    if symbol.is_positive:
        return sp.Symbol(name, integer=True, positive=True)
    return sp.Symbol(name, integer=True, nonnegative=True)


def fresh_like(symbol: Expr, taken: Iterable[Expr]) -> Expr:
    """The index with as many tildes as needed to differ from those taken."""
    taken, new = set(taken), symbol
    while new in taken or new == symbol:
        new = like(symbol, new.name + "\u0303")
    return new


def common_factor(e: Expr) -> tuple[Expr, Expr] | None:
    """a/4 - b/4 as (1/4, a - b); None if the numbers of the terms differ, or are integers."""
    numbers = {abs(t.as_coeff_Mul()[0]) for t in e.args}
    number = min(numbers, key=str)
    if len(numbers) > 1 or not number.is_Rational or number.q == 1:
        return None
    return number, sp.Add(*(t / number for t in e.args))


def marked(expr: Expr, copy: int) -> Expr:
    """|x>@k: kets of the row become copy k. Averages over the row are numbers and do not change."""
    return with_copies(expr, {0: copy})


def renumbered(expr: Expr, used: int = 0) -> Expr:
    """Copies numbered 1, 2, ... from the outermost E inwards, so that equal expectations are equal expressions."""

    def rule(e: Expr) -> Expr | None:
        if not isinstance(e, Expectation):
            return None
        slots = sorted(c for c in e.copies if c)
        new = {slot: used + k + 1 for k, slot in enumerate(slots)}
        body = with_copies(e.body, {s: -n for s, n in new.items()})
        body = renumbered(body, used + len(slots))
        body = with_copies(body, {-n: n for n in new.values()})
        return Expectation(body, sorted(new.get(c, c) for c in e.copies))

    return rebuild(expr, rule) if expr.has(Expectation) else expr


def with_copies(expr: Expr, new: Mapping[int, int]) -> Expr:
    """Free copies under other numbers; an expectation over copies of those numbers gets others first."""

    def rule(e: Expr) -> Expr | None:
        if not isinstance(e, Expectation):
            return recopied(e, new)
        free = {k: n for k, n in new.items() if k not in e.copies and k in copies_of(e.body)}
        if not free:
            return e
        spare = max((*free, *free.values(), *e.copies, *copies_of(e.body))) + 1
        away = {c: spare + k for k, c in enumerate(sorted(e.copies & set(free.values())))}
        body = with_copies(e.body, away) if away else e.body
        return Expectation(with_copies(body, free), sorted(away.get(c, c) for c in e.copies))

    return rebuild(expr, rule)


def recopied(expr: Expr, new: Mapping[int, int]) -> Expr | None:
    """A ket (or an entry) of other copies; None for all else: a rule for `rebuild`."""
    if isinstance(expr, Ket) and expr.copy_number in new:
        return Ket(expr.args[0], new[expr.copy_number], *expr.indices)
    if isinstance(expr, Entry) and not new.keys().isdisjoint(expr.neurons):
        return Entry(expr.args[0], *(new.get(c, c) for c in expr.neurons), *expr.indices)
    return None


def copies_of(expr: Expr) -> frozenset[int]:
    """The copies in which an expression is random, 0 for the row; an expectation removes the copies it averages over."""
    found: set[int] = set()
    todo = [expr]
    while todo:
        e = todo.pop()
        if isinstance(e, Ket):
            found.add(e.copy_number)
        elif isinstance(e, Entry):
            found.update(e.neurons)
        elif isinstance(e, Hat | Learned | Partial):
            found.add(0)
        elif isinstance(e, Expectation):
            found |= copies_of(e.body) - e.copies
        elif not isinstance(e, Stein | Missing):
            todo.extend(e.args)
    return frozenset(found)
