"""Constructors of the intermediate representation: they infer types and share equal nodes.

A `Builder` belongs to one compilation. Constants fold here (with Python floats), and sums and products with
neutral elements are simplified, so that `1 * x` and `x` are the same node.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, ClassVar, TypeVar

from tp_compiler.diagnostics import Diagnostic, ProgramError, Span
from tp_compiler.ir import nodes as ir
from tp_compiler.ir.primitives import PRIMITIVES
from tp_compiler.ir.types import Index, Type, Width

NodeT = TypeVar("NodeT", bound=ir.Node)

#: The size of an expanded program: nodes asked for, calls, turns of loops. Some seconds of work.
MAX_STEPS = 200_000


def join(args: Iterable[ir.Node]) -> Type:
    """The type of an entrywise function: the union of indices (in order of appearance) and slots."""
    args = tuple(args)
    indices = tuple(dict.fromkeys(i for a in args for i in a.type.indices))
    slots = tuple(sorted({s for a in args for s in a.type.slots}, key=lambda s: s[0]))
    return Type(indices, slots, any(a.type.random for a in args))


def is_zero(node: ir.Node) -> bool:
    """A product with the constant 0, or that constant: derivatives of jumps have this form.

    Found once for each node: products share factors, and a chain of them is as long as a program is deep.
    """
    known: bool | None = node.__dict__.get("_zero")
    if known is not None:
        return known
    todo = [node]
    while todo:
        factors = todo[-1].args if isinstance(todo[-1], ir.Map) and todo[-1].fn == "mul" else ()
        missing = [a for a in factors if "_zero" not in a.__dict__]
        if missing:
            todo.extend(missing)
            continue
        top = todo.pop()
        zero = isinstance(top, ir.Constant) and top.value == 0
        top.__dict__["_zero"] = zero or any(a.__dict__["_zero"] for a in factors)
    return bool(node.__dict__["_zero"])


class Builder:
    """Makes nodes. Every method takes the span of the source text that needs the node."""

    def __init__(self, fresh_from: int = 0) -> None:
        """`fresh_from`: the first number for fresh indices, so that they do not collide with those of another builder."""
        self._known: dict[tuple[Any, ...], ir.Node] = {}
        self._slots = 0
        self._indices = fresh_from
        self._spent = 0
        self.kept: dict[object, ir.Node] = {}  # nodes that a caller wants made once
        self.differentiated: list[ir.Node] = []  # what gradients were taken of
        self.cotangents: ir.Cotangents = {}  # what differentiation has made, for readers
        self.wholes: dict[ir.Node, dict[tuple[ir.Node, ...], None]] = {}  # products taken apart -> as they were given
        self.omitted: dict[ir.Node, None] = {}  # terms that are 0, left out of sums and of gradients

    @property
    def exhausted(self) -> bool:
        """Has the program grown beyond its bounds? Anything built after that is refused without another diagnostic."""
        return self._spent > MAX_STEPS

    def spend(self, span: Span, steps: int = 1) -> None:
        """Counts work, so that no short text (nested loops, defs that call others twice) keeps the compiler busy forever.

        Raises ProgramError NX133 the first time, and without a diagnostic afterwards.
        """
        before = self._spent
        self._spent += steps
        if self._spent > MAX_STEPS:
            message = f"the program expands to more than {MAX_STEPS} instructions"
            remedy = "use fewer iterations, or an axis instead of a loop"
            raise ProgramError([Diagnostic("NX133", message, span, remedy)] if before <= MAX_STEPS else [])

    def slot(self) -> int:
        """A fresh slot number for an iid copy."""
        self._slots += 1
        return self._slots

    def note(self, value: ir.Node, of: ir.Node, labels: tuple[Index | int, ...]) -> None:
        """`value` is the cotangent of the node `of` where its own indices are the `labels`."""
        if not isinstance(value, ir.Constant):
            self.cotangents.setdefault(value, []).append((of, labels))

    def omit(self, terms: Iterable[ir.Node]) -> None:
        """Remembers terms that were dropped because they are 0: a later gradient may be by one of their factors."""
        self.omitted.update(dict.fromkeys(t for t in terms if not isinstance(t, ir.Constant) and is_zero(t)))

    def fresh(self, index: Index) -> Index:
        """An index of the same axis under a name no program can write."""
        self._indices += 1
        return Index(f"{index.name.split('#')[0]}#{self._indices}", index.axis)

    def _make(self, kind: type[NodeT], **given: Any) -> NodeT:
        self.spend(given["span"])
        key = (kind, *((name, value) for name, value in given.items() if name != "span"))
        node = self._known.get(key)
        if node is None:
            node = self._known[key] = kind(**given)
        return node  # type: ignore[return-value]

    # leaves
    def constant(self, value: float, span: Span) -> ir.Node:
        return self._make(ir.Constant, type=Type(), value=float(value), span=span)

    def array(self, name: str, values: Any, indices: tuple[Index, ...], integer: bool, span: Span) -> ir.Node:
        return ir.Array(type=Type(indices), name=name, values=values, integer=integer, span=span)

    def position(self, index: Index, span: Span) -> ir.Node:
        return self._make(ir.Position, type=Type((index,)), index=index, span=span)

    def initial_ket(
        self, symbol: ir.KetSymbol, mean: ir.Node, covariance: ir.Node, span: Span,
        parameters: tuple[ir.Node, ...] = (),
    ) -> ir.Node:  # fmt: skip
        kind = Type(symbol.indices, ((0, symbol.width),))
        return self._make(ir.InitialKet, type=kind, symbol=symbol, args=(mean, covariance, *parameters), span=span)

    def initial_scalar(self, symbol: ir.ScalarSymbol, value: ir.Node, span: Span) -> ir.Node:
        return self._make(
            ir.InitialScalar, type=Type(symbol.indices, (), value.type.random), symbol=symbol, args=(value,), span=span
        )

    def stop(self, x: ir.Node, span: Span) -> ir.Node:
        return x if isinstance(x, ir.Constant) else self._make(ir.Stop, type=x.type, args=(x,), span=span)

    def ones(self, width: Width, span: Span) -> ir.Node:
        """|1> as a node with slot 0, for instructions that need a real ket."""
        key = ("ones", width.name)
        if key not in self.kept:
            symbol = ir.KetSymbol("1", (), width, span, frozen=True)
            self.kept[key] = self.initial_ket(symbol, self.constant(1, span), self.constant(0, span), span)
        return self.kept[key]

    def as_ket(self, node: ir.Node, width: Width, span: Span) -> ir.Node:
        """A constant ket made a node of `width`; others are returned."""
        return node if node.type.slots else self.mul(node, self.ones(width, span), span)

    # training
    def clock(self, span: Span) -> ir.Node:
        return self._make(ir.Clock, type=Type(), span=span)

    def time(self, span: Span) -> ir.Node:
        return self._make(ir.Clock, type=Type(), time=True, span=span)

    def carry(self, state: ir.State, span: Span) -> ir.Node:
        return self._make(ir.Carry, type=state.type, state=state, span=span)

    def apply(
        self, state: ir.State, member: tuple[Index | int, ...], transposed: bool, x: ir.Node, span: Span
    ) -> ir.Node:
        width = state.type.slots[1 if transposed else 0][1]
        indices = tuple(dict.fromkeys((*x.type.indices, *(m for m in member if isinstance(m, Index)))))
        kind = Type(indices, ((0, width),), x.type.random)
        return self._make(ir.Apply, type=kind, args=(x,), state=state, member=member, transposed=transposed, span=span)

    def trace(self, x: ir.Node, index: Index, span: Span) -> ir.Node:
        kind = Type((index, *x.type.indices), (), x.type.random)
        return self._make(ir.Trace, type=kind, args=(x,), index=index, span=span)

    def width_power(self, exponent: float, span: Span) -> ir.Node:
        if exponent == 0:
            return self.constant(1, span)
        return self._make(ir.WidthPower, type=Type(), exponent=exponent, span=span)

    # kets
    def matmul(
        self, matrix: ir.MatrixSymbol, member: tuple[Index | int, ...], transposed: bool, x: ir.Node, span: Span
    ) -> ir.Node:
        apart = _apart(member)
        if apart != member:  # W[k,k] |x> is the diagonal of W[k,k'] |x>
            back = {new: old for new, old in zip(apart, member, strict=True) if isinstance(new, Index)}
            return self.rename(self.matmul(matrix, apart, transposed, x, span), back, span)
        width = matrix.cols if transposed else matrix.rows
        indices = tuple(dict.fromkeys((*x.type.indices, *(m for m in member if isinstance(m, Index)))))
        kind = Type(indices, ((0, width),), x.type.random)
        return self._make(
            ir.MatMul, type=kind, args=(x,), matrix=matrix, member=member, transposed=transposed, span=span
        )

    def copy(self, x: ir.Node, slot: int, span: Span) -> ir.Node:
        if x.type.is_scalar:
            return x
        kind = Type(x.type.indices, ((slot, x.type.width),), x.type.random)
        return self._make(ir.Copy, type=kind, args=(x,), slot=slot, span=span)

    def clt(self, v: ir.Node, x: ir.Node, span: Span) -> ir.Node:
        return self._make(ir.Clt, type=Type(join((v, x)).indices, (), True), args=(v, x), span=span)

    # entrywise
    def map(self, fn: str, args: Iterable[ir.Node], span: Span) -> ir.Node:
        given = tuple(args)
        args = _simplified(fn, given)
        if fn == "add" and len(args) < len(given):
            self.omit(a for a in given if a not in args)
        if fn in ("add", "mul"):
            if not args:
                return self.constant(0.0 if fn == "add" else 1.0, span)
            if len(args) == 1:
                return args[0]
        if fn == "pow" and isinstance(args[1], ir.Constant) and args[1].value == 1:
            return args[0]
        if args and all(isinstance(a, ir.Constant) for a in args):
            return self._fold(fn, [a.value for a in args if isinstance(a, ir.Constant)], span)
        return self._make(ir.Map, type=join(args), fn=fn, args=args, span=span)

    def _fold(self, fn: str, values: list[float], span: Span) -> ir.Node:
        try:
            value = PRIMITIVES[fn].scalar(*values)
        except (ValueError, ZeroDivisionError, OverflowError) as error:
            raise ProgramError([_undefined(fn, values, error, span)]) from None
        if not math.isfinite(value):
            raise ProgramError([_undefined(fn, values, OverflowError(), span)])
        return self.constant(value, span)

    def add(self, a: ir.Node, b: ir.Node, span: Span) -> ir.Node:
        return self.map("add", (a, b), span)

    def mul(self, a: ir.Node, b: ir.Node, span: Span) -> ir.Node:
        return self.map("mul", (a, b), span)

    def neg(self, a: ir.Node, span: Span) -> ir.Node:
        return self.mul(self.constant(-1.0, span), a, span)

    def delta(self, a: Index | int, b: Index | int, span: Span) -> ir.Node:
        """1 if two positions agree, else 0."""
        if a == b:
            return self.constant(1, span)
        if isinstance(a, int) and isinstance(b, int):
            return self.constant(0, span)
        places = [self.constant(x, span) if isinstance(x, int) else self.position(x, span) for x in (a, b)]
        return self.equal(places[0], places[1], span)

    def equal(self, a: ir.Node, b: ir.Node, span: Span) -> ir.Node:
        """1 if two integers are equal, else 0."""
        apart = self.map("abs", (self.add(a, self.neg(b, span), span),), span)
        return self.add(self.constant(1, span), self.neg(self.map("step", (apart,), span), span), span)

    # averages and reductions
    def contract(self, args: Iterable[ir.Node], over: tuple[Index, ...], slots: tuple[int, ...], span: Span) -> ir.Node:
        """Σ over `over`, mean over `slots`, of the product of args. A product node is taken apart; `wholes` has it still,
        for gradients by that node."""
        given = tuple(args)
        factors = tuple(f for a in given for f in (a.args if isinstance(a, ir.Map) and a.fn == "mul" else (a,)))
        apart = len(factors) != len(given)
        joined = join(factors)
        present = tuple(i for i in over if i in joined.indices)
        repeats = math.prod(i.size for i in over if i not in joined.indices)
        kept = tuple(s for s in slots if s in {slot for slot, _ in joined.slots})
        if repeats != 1:
            times = self.constant(repeats, span)
            given, factors = (times, *given), (times, *factors)
        if present or kept:
            kind = Type(
                tuple(i for i in joined.indices if i not in over),
                tuple(s for s in joined.slots if s[0] not in slots),
                joined.random,
            )
            made: ir.Node = self._make(ir.Contract, type=kind, args=factors, over=present, slots=kept, span=span)
        else:
            made = self.map("mul", factors, span)
        if apart and made not in given:
            self.wholes.setdefault(made, {})[given] = None
        return made

    def average(self, x: ir.Node, span: Span) -> ir.Node:
        """<x>: the mean over neurons."""
        return self.contract((x,), (), (0,), span)

    def reduce(self, op: str, x: ir.Node, index: Index, span: Span) -> ir.Node:
        if index not in x.type.indices:
            if op == "prod":
                return self.map("pow", (x, self.constant(index.size, span)), span)
            return x if op != "logsumexp" else self.add(x, self.constant(math.log(index.size), span), span)
        kind = Type(tuple(i for i in x.type.indices if i != index), x.type.slots, x.type.random)
        return self._make(ir.Reduce, type=kind, args=(x,), op=op, index=index, span=span)

    # indices
    def reindex(
        self, x: ir.Node, selectors: tuple[Index | int | ir.Gather, ...], gathers: tuple[ir.Node, ...], span: Span
    ) -> ir.Node:
        if selectors == x.type.indices:
            return x
        if isinstance(x, ir.Reindex) and len(x.args) == 1 and not gathers:
            return self._compose(x, selectors, span)
        kept = [s for s in selectors if isinstance(s, Index)]
        kept += [i for g in gathers for i in g.type.indices]
        kind = Type(tuple(dict.fromkeys(kept)), x.type.slots, x.type.random or any(g.type.random for g in gathers))
        return self._make(ir.Reindex, type=kind, args=(x, *gathers), selectors=selectors, span=span)

    def _compose(self, x: ir.Reindex, selectors: tuple[Index | int | ir.Gather, ...], span: Span) -> ir.Node:
        outer = dict(zip(x.type.indices, selectors, strict=True))
        merged = tuple(outer[s] if isinstance(s, Index) else s for s in x.selectors)
        return self.reindex(x.args[0], merged, (), span)

    def rename(self, x: ir.Node, mapping: dict[Index, Index | int], span: Span) -> ir.Node:
        """Indices of x replaced as `mapping` says; the others stay."""
        return self.reindex(x, tuple(mapping.get(i, i) for i in x.type.indices), (), span)

    def apart(
        self, factors: tuple[ir.Node, ...], over: tuple[Index, ...], taken: Iterable[Index], span: Span
    ) -> tuple[tuple[ir.Node, ...], tuple[Index, ...]]:
        """Σ_over Π factors taken out of its own instruction: summed indices that are `taken` outside get new names."""
        met = set(taken)
        names: dict[Index, Index | int] = {i: self.fresh(i) for i in over if i in met}
        if not names:
            return factors, over
        kept = tuple(i for i in over if i not in names)
        named = tuple(i for i in names.values() if isinstance(i, Index))
        return tuple(self.rename(f, names, span) for f in factors), (*kept, *named)

    def over(self, x: ir.Node, indices: tuple[Index, ...], span: Span) -> ir.Node:
        """x, as a family over at least these indices: constant over those that it does not carry."""
        for index in indices:
            if index not in x.type.indices:
                x = self.map(
                    "add", (x, self.map("mul", (self.constant(0, span), self.position(index, span)), span)), span
                )
        return x

    def shift(self, x: ir.Node, index: Index, by: int, span: Span) -> ir.Node:
        """x[i - by], 0 outside the axis; if x is constant over the axis, x wherever i - by is on it."""
        if index not in x.type.indices:
            return self.mul(x, self._moved_inside(index, by, span), span)
        kind = Type(join((x,)).indices, x.type.slots, x.type.random)
        return self._make(ir.Shift, type=kind, args=(x,), index=index, by=by, span=span)

    def _moved_inside(self, index: Index, by: int, span: Span) -> ir.Node:
        """1 if i - by is a position of the axis, else 0."""
        i = self.position(index, span)
        if by >= 0:
            return self.map("step", (self.add(i, self.constant(-by - 0.5, span), span),), span)
        return self.map("step", (self.add(self.constant(index.size + by + 0.5, span), self.neg(i, span), span),), span)

    def cumsum(self, x: ir.Node, index: Index, reverse: bool, span: Span) -> ir.Node:
        """Σ_{k ≤ i} x[k], or Σ_{k ≥ i} x[k]; if x is constant over the axis, x times the number of terms."""
        if index not in x.type.indices:
            i = self.position(index, span)
            left = self.add(self.constant(index.size + 1, span), self.neg(i, span), span)
            return self.mul(left if reverse else i, x, span)
        return self._make(ir.Cumulate, type=x.type, args=(x,), index=index, reverse=reverse, span=span)

    def stack(self, args: tuple[ir.Node, ...], index: Index, span: Span) -> ir.Node:
        joined = join(args)
        kind = Type((index, *joined.indices), joined.slots, joined.random)
        return self._make(ir.Stack, type=kind, args=args, index=index, span=span)

    def linalg(self, op: str, rows: Index, cols: Index, args: tuple[ir.Node, ...], fn: str, span: Span) -> ir.Node:
        joined = join(args)
        rest = tuple(i for i in joined.indices if i not in (rows, cols))
        own = {"logdet": (), "solve": (rows,)}.get(op, (rows, cols))
        kind = Type((*rest, *own), (), joined.random)
        return self._make(ir.Linalg, type=kind, args=args, op=op, rows=rows, cols=cols, fn=fn, span=span)

    def join_indices(
        self, args: tuple[ir.Node, ...], groups: tuple[tuple[Index, ...], ...], index: Index, span: Span
    ) -> ir.Node:
        joined = join(args)
        gone = {i for group in groups for i in group}
        kind = Type((index, *(i for i in joined.indices if i not in gone)), joined.slots, joined.random)
        return self._make(ir.Join, type=kind, args=args, index=index, groups=groups, span=span)

    def spectral(
        self, op: str, rows: Index, cols: Index, args: tuple[ir.Node, ...], hidden: tuple[Index, ...], fn: str,
        span: Span,
    ) -> ir.Node:  # fmt: skip
        joined = join(args)
        rest = tuple(i for i in joined.indices if i not in (rows, cols, *hidden))
        kind = Type((*rest, rows, cols), (), joined.random)
        return self._make(
            ir.Spectral, type=kind, args=args, op=op, rows=rows, cols=cols, hidden=hidden, fn=fn, span=span
        )

    def unavailable(
        self, construct: str, args: tuple[ir.Node, ...], indices: tuple[Index, ...], width: Width | None, span: Span,
        why: str = "", remedy: str = "",
    ) -> ir.Node:  # fmt: skip
        """A value of the right type whose evaluation is refused by name."""
        self.spend(span)
        kind = Type(indices, ((0, width),) if width else ())
        return ir.Unavailable(type=kind, args=args, construct=construct, span=span, why=why, remedy=remedy)

    # once more
    def again(self, node: ir.Node, args: tuple[ir.Node, ...], span: Span, **changed: Any) -> ir.Node:
        """The same instruction of other arguments; `changed`: with other attributes."""
        named: dict[str, Any] = {name: getattr(node, name) for name in node.attributes()} | changed
        if isinstance(node, ir.Unavailable):
            return ir.Unavailable(type=node.type, args=args, span=span, **named)
        if isinstance(node, ir.Reindex):
            old = dict(zip(node.args[0].type.indices, node.selectors, strict=True))
            named["selectors"] = tuple(old.get(i, i) for i in args[0].type.indices)
        for k, name in enumerate(node.takes):
            named[name.lstrip("*")] = args[k:] if name.startswith("*") else args[k]
        return self.makers[type(node)](self, **named, span=node.span if isinstance(node, ir.InitialKet) else span)

    #: The method that makes an instruction of arguments: they are called as `takes` says, the rest as the attributes.
    makers: ClassVar[dict[type[ir.Node], Callable[..., ir.Node]]] = {
        ir.InitialKet: initial_ket,
        ir.InitialScalar: initial_scalar,
        ir.Stop: stop,
        ir.MatMul: matmul,
        ir.Map: map,
        ir.Contract: contract,
        ir.Reduce: reduce,
        ir.Reindex: reindex,
        ir.Shift: shift,
        ir.Cumulate: cumsum,
        ir.Stack: stack,
        ir.Copy: copy,
        ir.Linalg: linalg,
        ir.Join: join_indices,
        ir.Spectral: spectral,
        ir.Clt: clt,
        ir.Apply: apply,
        ir.Trace: trace,
    }


def _apart(member: tuple[Index | int, ...]) -> tuple[Index | int, ...]:
    """The labels of a member, with new names for those that were already there."""
    found: list[Index | int] = []
    for m in member:
        found.append(Index(f"{m.name}#{len(found)}'", m.axis) if isinstance(m, Index) and m in found else m)
    return tuple(found)


def _simplified(fn: str, args: tuple[ir.Node, ...]) -> tuple[ir.Node, ...]:
    """Drops neutral constants of sums and products.

    Sums are not flattened: a residual stream of L blocks would otherwise grow L² arguments.
    """
    if fn not in ("add", "mul"):
        return args
    if fn == "add":
        return _without_zeros(args) or args[:1]
    rest = tuple(a for a in args if not (isinstance(a, ir.Constant) and a.value == 1))
    return rest or args[:1]


def _without_zeros(args: tuple[ir.Node, ...]) -> tuple[ir.Node, ...]:
    """The terms of a sum without `0` and `0 * x`, unless such a term gives the sum its type."""
    rest = tuple(a for a in args if not is_zero(a))
    kept, given = join(rest), join(args)
    if set(kept.indices) == set(given.indices) and (kept.slots, kept.random) == (given.slots, given.random):
        return rest
    return tuple(a for a in args if not isinstance(a, ir.Constant) or a.value != 0)


def _undefined(fn: str, values: list[float], error: Exception, span: Span) -> Diagnostic:
    shown = ", ".join(f"{v:g}" for v in values)
    if isinstance(error, ZeroDivisionError):
        return Diagnostic("NX411", "division by zero", span, "the divisor is the constant 0; change it")
    if isinstance(error, OverflowError):
        return Diagnostic("NX412", f"{fn}({shown}) overflows a double", span, "rescale the quantity")
    return Diagnostic("NX413", f"{fn}({shown}) is not a real number", span, "keep the argument inside the domain")
