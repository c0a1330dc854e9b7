"""The table of limit laws: the limit of each instruction, with its theorem.

`build(symbols, node, args)` writes the limit of an instruction over the limits of its arguments. Instructions that
introduce new randomness have no such expression: `derive.py` gives them an equation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import sympy as sp

from tp_compiler.equations.functions import FUNCTIONS, name_of, number
from tp_compiler.equations.names import Names, is_time
from tp_compiler.equations.terms import (
    AtMost,
    Block,
    Data,
    Expectation,
    Expr,
    Joined,
    Linalg,
    Missing,
    Reduce,
    Stacked,
    fresh_like,
    marked,
    reindex,
)
from tp_compiler.ir import nodes as ir
from tp_compiler.ir.types import Index

Build = Callable[[Names, Any, Sequence[Expr]], Expr]


@dataclass(frozen=True)
class LimitLaw:
    statement: str
    source: str
    build: Build | None = None


def ratio(matrix: ir.MatrixSymbol) -> Expr:
    """ρ = lim rows/columns (TP III, App. F)."""
    return number(matrix.rows.ratio / matrix.cols.ratio)


def hat_scale(variance: Expr, rho: Expr, transposed: bool) -> Expr:
    """Cov(Ŵ|x>, Ŵ|x'>) = σ²<x|x'>, and ρσ²<y|y'> for Wᵀ (TP IVb, Def 2.6.5 Hat; TP III, App. F for ρ)."""
    return variance * rho if transposed else variance


def dot_scale(variance: Expr, rho: Expr, transposed: bool) -> Expr:
    """Ẇ|x> = σ² Σ_y |y> E[∂|x>/∂Ŵᵀ|y>], and ρσ² for Wᵀ (TP IVb, Def 2.6.5 Dot)."""
    return variance * rho if transposed else variance


def stein_scale(rho: Expr, transposed: bool) -> Expr:
    """Ẇ|x> = ρ⁻¹ |Y><Y|Y>⁺<Ĝ|x>, and ρ for Wᵀ: the dot without derivatives (TP III, 2.12; TP IVb, section 4.8)."""
    return rho if transposed else 1 / rho


def _contract(names: Names, node: ir.Contract, args: Sequence[Expr]) -> Expr:
    value = sp.Mul(*args)
    if node.slots:
        value = Expectation(value, sorted(node.slots))
    over = [names.limits(i) for i in node.over]
    return sp.Sum(value, *over) if over and value != 0 else value


def _reduce(names: Names, node: ir.Reduce, args: Sequence[Expr]) -> Expr:
    return Reduce(node.op, args[0], names.symbol(node.index))


def _reindex(names: Names, node: ir.Reindex, args: Sequence[Expr]) -> Expr:
    mapping = {}
    for index, selector in zip(node.args[0].type.indices, node.selectors, strict=True):
        if isinstance(selector, Index):
            mapping[names.symbol(index)] = names.symbol(selector)
        else:
            chosen = sp.Integer(selector) if isinstance(selector, int) else args[selector.arg]
            mapping[names.symbol(index)] = chosen - int(is_time(index))
    return reindex(args[0], mapping)


def _position(names: Names, node: ir.Position, args: Sequence[Expr]) -> Expr:
    return names.symbol(node.index) + int(is_time(node.index))


def _map(names: Names, node: ir.Map, args: Sequence[Expr]) -> Expr:
    value = FUNCTIONS[node.fn](*args)
    return _delta(value) if node.fn == "add" and node.type.is_scalar else value


def _delta(value: Expr) -> Expr:
    """1 - step|i - j|, as the builder writes it, is δ_ij."""
    steps = [f for a in value.args for f in sp.Mul.make_args(a) if name_of(f) == "step"] if value.is_Add else []
    apart = steps[0].args[0] if len(steps) == 1 else sp.Integer(-1)
    if apart.is_nonnegative and value == 1 - steps[0]:
        terms = sp.Add.make_args(apart.args[0] if isinstance(apart, sp.Abs) else apart)
        sides = [[t for t in terms if t.is_Symbol], [-t for t in terms if not t.is_Symbol]]
        if sides[0] and all(s.is_Symbol or s.is_Integer or isinstance(s, Data) for s in sides[1]):
            return sp.KroneckerDelta(sides[0][0], sp.Add(*sides[1]) - sp.Add(*sides[0][1:]))
    return value


def _shift(names: Names, node: ir.Shift, args: Sequence[Expr]) -> Expr:
    return reindex(args[0], {names.symbol(node.index): names.symbol(node.index) - node.by})


def _cumulate(names: Names, node: ir.Cumulate, args: Sequence[Expr]) -> Expr:
    """Σ_{j ≤ i} x_j."""
    i, size = names.symbol(node.index), node.index.size
    j = fresh_like(i, args[0].atoms(sp.Symbol))
    within = AtMost(i, j) if node.reverse else AtMost(j, i)
    return sp.Sum(within * reindex(args[0], {i: j}), (j, 1, size)) if args[0] != 0 else args[0]


def _stack(names: Names, node: ir.Stack, args: Sequence[Expr]) -> Expr:
    return Stacked(names.symbol(node.index), *args)


def _trace(names: Names, node: ir.Trace, args: Sequence[Expr]) -> Expr:
    """The same at the time of an index, which may end with the last update."""
    return reindex(args[0], {names.time: names.symbol(node.index)})


def _linalg(names: Names, node: ir.Linalg | ir.Spectral, args: Sequence[Expr]) -> Expr:
    hidden = [names.symbol(i) for i in node.hidden] if isinstance(node, ir.Spectral) else []
    return Linalg(node.op, node.fn, (names.symbol(node.rows), names.symbol(node.cols)), hidden, *args)


def _join(names: Names, node: ir.Join, args: Sequence[Expr]) -> Expr:
    """One family over one index is the family itself, under another name."""
    if len(args) == 1 and len(node.groups[0]) == 1:
        return reindex(args[0], {names.symbol(node.groups[0][0]): names.symbol(node.index)})
    if len(args) == 1 and not node.groups[0]:
        return args[0]  # one ket, over an axis of one
    blocks = (Block(a, *((names.symbol(i), i.size) for i in group)) for a, group in zip(args, node.groups, strict=True))
    return Joined(names.symbol(node.index), *blocks)


def _array(names: Names, node: ir.Array, args: Sequence[Expr]) -> Expr:
    return Data(node.name, *(names.symbol(i) for i in node.type.indices))


_DEF = "TP IVb, Def 2.6.5"
_LOOP = "TP IVb, Theorem 2.7.3"
_FINITE = "finite arithmetic (continuous mapping of TP IVb, Thm 2.6.10)"

LAWS: dict[type[ir.Node], LimitLaw] = {
    ir.Constant: LimitLaw("a number is its own limit", _FINITE, lambda _, n, a: number(n.value)),
    ir.Array: LimitLaw("data are their own limit", _FINITE, _array),
    ir.Position: LimitLaw("the position of an index", _FINITE, _position),
    ir.InitialKet: LimitLaw("jointly Gaussian as declared", f"{_DEF} (Init), Setup 2.6.3"),
    ir.MatMul: LimitLaw("|Wx⟩ = Ŵ|x⟩ + Ẇ|x⟩", f"{_DEF} (Hat, Dot, MatMul); with widths TP III, App. F"),
    ir.Map: LimitLaw("entrywise functions act on kets", f"{_DEF} (OuterNonlin)", _map),
    ir.Contract: LimitLaw(
        "⟨x⟩ → E|x⟩, and n⁻ʳ Σ_β ψ → E⁽¹..ʳ⁾ψ over iid copies", f"{_DEF} (Avg, OuterNonlin), Thm 2.6.10", _contract
    ),
    ir.Reduce: LimitLaw("max, min, product, log-sum-exp of a finite family", _FINITE, _reduce),
    ir.Reindex: LimitLaw("another member of the family", _FINITE, _reindex),
    ir.Shift: LimitLaw("x_i ↦ x_{i-k}, zero outside the axis", _FINITE, _shift),
    ir.Cumulate: LimitLaw("x_i ↦ Σ_{j≤i} x_j, or over j ≥ i", _FINITE, _cumulate),
    ir.Stack: LimitLaw("a family assembled from its members", _FINITE, _stack),
    ir.Copy: LimitLaw("|x⟩⁽ᵏ⁾, an iid copy", f"{_DEF} (OuterNonlin)", lambda _, n, a: marked(a[0], n.slot)),
    ir.Linalg: LimitLaw("functions of finite matrices", _FINITE, _linalg),
    ir.Clt: LimitLaw(
        "vᵀx/√n → N(0, E[v x v′ x′]) where v is a fresh centred Gaussian",
        "docs/mathematics.md section 4 (TP IVb, Lemma 4.8.2 with the central limit theorem)",
    ),
    ir.Join: LimitLaw("families concatenated along one index", _FINITE, _join),
    ir.Spectral: LimitLaw("functions of an operator of finite rank, in a basis of kets", _FINITE, _linalg),
    ir.Stop: LimitLaw("a constant to differentiation", _FINITE, lambda _, n, a: a[0]),
    ir.InitialScalar: LimitLaw("a number", _FINITE, lambda _, n, a: a[0]),
    ir.Clock: LimitLaw("the number of updates so far", _LOOP, lambda names, n, a: names.time),
    ir.Carry: LimitLaw("the state of a parameter or of its optimizer", _LOOP),
    ir.Apply: LimitLaw("Δ|x⟩ = E⁽¹⁾[Δ⁽⁰¹⁾|x⟩⁽¹⁾]", f"{_LOOP}; {_DEF} (OuterNonlin)"),
    ir.Trace: LimitLaw("values over the steps", _LOOP, _trace),
    ir.WidthPower: LimitLaw(
        "a power of n: in programs that have no limit", "", lambda _, n, a: Missing("a power of n")
    ),
    ir.Unavailable: LimitLaw("no limit law in this version", "", lambda _, n, a: Missing(n.construct)),
}
