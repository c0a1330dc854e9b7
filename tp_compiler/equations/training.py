"""The equations of a training loop: states, products with trained matrices, and updates of the matrices.

|h_t> = W_t|x_t> = Ŵ|x_t> + Ẇ|x_t> + ΔW_t|x_t> (Tensor Programs IVb, Theorem 2.7.3 unwound), one equation for all t. The
states of an optimizer are entrywise: kets where the parameter is a ket, and for a matrix natural entries ΔW⁽⁰¹⁾, random
in a row and a column neuron: ΔW_t|x> = E⁽¹⁾[ΔW_t⁽⁰¹⁾|x>⁽¹⁾].
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import sympy as sp

from tp_compiler.equations.flow import StepDependence
from tp_compiler.equations.functions import number
from tp_compiler.equations.learned import Gathered, gathered, is_gradient, operator
from tp_compiler.equations.names import Names
from tp_compiler.equations.simplify import reindex_bound
from tp_compiler.equations.system import Equation, LimitMatrix, TrainingClock
from tp_compiler.equations.terms import (
    Entry,
    Expectation,
    Expr,
    Ket,
    Named,
    Scalar,
    copies_of,
    marked,
    rebuild,
    reindex,
    with_copies,
)
from tp_compiler.ir import nodes as ir
from tp_compiler.ir.program import Program


@dataclass(frozen=True)
class TrainedProduct:
    """keep W|x> + Δ|x>, as the loop writes a product with a trained matrix."""

    product: ir.MatMul
    learned: ir.Apply
    keep: tuple[ir.Node, ...]


def trained_products(nodes: Sequence[ir.Node], count: Mapping[ir.Node, int]) -> dict[ir.Node, TrainedProduct]:
    """The sums of a program that are products with a trained matrix."""
    found: dict[ir.Node, TrainedProduct] = {}
    for node in nodes:
        if not (isinstance(node, ir.Map) and node.fn == "add" and len(node.args) == 2):
            continue
        start, learned = node.args
        factors = start.args if isinstance(start, ir.Map) and start.fn == "mul" else (start,)
        products = [f for f in factors if isinstance(f, ir.MatMul)]
        if len(products) != 1 or not isinstance(learned, ir.Apply) or any(count[n] > 1 for n in (start, *products)):
            continue
        (product,) = products
        same = product.args == learned.args and product.member == learned.member
        if same and product.transposed == learned.transposed and count[learned] == 1:
            found[node] = TrainedProduct(product, learned, tuple(f for f in factors if f is not product))
    return found


class TrainingEquations:
    """Names of states, their equations, and the updates of matrices."""

    def __init__(self, program: Program, flow: StepDependence, names: Names, clean: Callable[[Expr], Expr]):
        self.flow, self.names, self.clean = flow, names, clean
        self.steps = program.loop.steps if program.loop else 0
        self.symbols: dict[ir.State, Named] = {s: self._symbol(s) for s in flow.states}
        self.of: dict[ir.Node, ir.State] = {}
        for state in flow.states:
            self.of.setdefault(flow.following[state], state)
        self.equations: dict[ir.State, Equation] = {}
        slots = {s.slot: s for s in flow.states if s.is_matrix}
        self.gradients = _gradients(flow, set(slots))
        self.parameter = {slot: s.name.split(".")[0] for slot, s in slots.items()}
        self.dW: dict[int, Equation] = {}
        self.arguments: dict[tuple[str, bool], set[str]] = {}  # arguments of a matrix (or of its transpose)
        self.made = _made_by_functions_of_matrices(flow.nodes)

    def _symbol(self, state: ir.State) -> Named:
        label, time = self.names.state(state), self.names.time
        own = [self.names.symbol(i) for i in state.type.indices]
        if state.type.is_scalar:
            return Scalar(label, time, *own)
        return Ket(label, 0, time, *own) if state.type.is_ket else Entry(label, 0, state.slot, time, *own)

    @property
    def clock(self) -> TrainingClock | None:
        return TrainingClock(self.names.time, self.names.earlier, self.steps) if self.flow.states else None

    # -- instructions -------------------------------------------------------------------------------------------
    def apply(self, node: ir.Apply, x: Expr, member: Sequence[Expr]) -> Expr:
        """Δ|x> = E⁽ᵏ⁾[Δ⁽⁰ᵏ⁾|x>⁽ᵏ⁾], and ρ E⁽ᵏ⁾[Δ⁽ᵏ⁰⁾|x>⁽ᵏ⁾] transposed."""
        slot, symbol = node.state.slot, self.symbols[node.state]
        own = (self.names.symbol(i) for i in node.state.type.indices)
        entry = reindex(symbol, dict(zip(own, member, strict=True)))
        ratio = sp.Integer(1)
        if node.transposed:
            entry = Entry(entry.args[0], slot, 0, *entry.indices)
            rows, cols = (w for _, w in node.state.type.slots)
            ratio = number(rows.ratio / cols.ratio)
        return ratio * Expectation(entry * marked(x, slot), (slot,))

    def advanced(self, node: ir.Node, value: Expr, start: Mapping[ir.Node, Expr]) -> Expr | None:
        """The value of a state after the update, if `node` is that; its equation is recorded."""
        state = self.of.get(node)
        if state is None or isinstance(value, Named) or not value.args:
            return None
        self._follow(state, value, start)
        return reindex(self.symbols[state], {self.names.time: self.names.time + 1})

    def _follow(self, state: ir.State, value: Expr, start: Mapping[ir.Node, Expr]) -> None:
        symbol, first = _first_copy(self.symbols[state], state), start[state.init]
        begins = None if isinstance(first, Ket) and first.label.startswith(f"{symbol.label}[") else first
        value, local = self.clean(_first_copy(value, state)), self.names.local(symbol.indices)
        symbol, value = reindex(symbol, local), reindex(value, local)
        begins = None if begins is None else reindex(begins, local)
        self.equations[state] = Equation(symbol, "state", value, start=begins, time=self.names.time)

    def gradient(self, node: ir.Node, value: Expr) -> Entry | None:
        """dW_t⁽⁰¹⁾ = Σ |dh_t>|x_t>⁽¹⁾, if `node` is that; the result of the optimizer is called step^W."""
        slot = self.gradients.get(node)
        if slot is None or slot in self.dW:
            return None
        name = self.parameter[slot]
        columns, rows = self.arguments.get((name, False), set()), self.arguments.get((name, True), set())
        is_plain = node not in self.made and is_gradient(value, columns, rows)
        label = self.names.label(f"d{name}" if is_plain else f"step^{name}", (), True)
        symbol = Entry(label, 0, slot, self.names.time, *(self.names.symbol(i) for i in node.type.indices))
        first, body = with_copies(symbol, {slot: 1}), self.clean(with_copies(value, {slot: 1}))
        self.dW[slot] = Equation(first, "entry", body, time=self.names.time)
        return symbol

    # -- after the walk -----------------------------------------------------------------------------------------
    def finish(
        self, equations: list[Equation], expr: Mapping[ir.Node, Expr], matrices: Mapping[ir.MatrixSymbol, LimitMatrix]
    ) -> tuple[list[Equation], tuple[LimitMatrix, ...]]:
        """All equations, with the sums of linear optimizers written out, and the matrices with their updates."""
        for state in self.flow.states:
            if state not in self.equations:
                self._follow(state, expr[self.flow.following[state]], expr)
        linear = self._linear()
        updates: list[Equation] = []
        for slot in self.dW:
            updates += self._of_matrix(slot, linear.get(slot))
        own = [e for s, e in self.equations.items() if not s.is_matrix]
        found = [self._written(e, linear) for e in [*equations, *_in_order(own, self.flow, self.equations), *updates]]
        return found, tuple(self._trained(m) for m in matrices.values())

    def _linear(self) -> dict[int, Gathered]:
        found = {}
        for slot, gradient in self.dW.items():
            states = {e.symbol: e.expression for s, e in self.equations.items() if s.is_matrix and s.slot == slot}
            update = next(
                e.symbol for s, e in self.equations.items() if s.is_matrix and s.slot == slot and _is_update(s)
            )
            gain = gathered(update, states, gradient, self.names)
            if gain is not None:
                found[slot] = gain
        return found

    def _of_matrix(self, slot: int, gain: Gathered | None) -> list[Equation]:
        """The equations of a matrix's update: entry by entry, or as an operator."""
        gradient = self.dW[slot]
        states = [e for s, e in self.equations.items() if s.is_matrix and s.slot == slot]
        if gain is None:
            return [gradient, *states]
        written = operator(gain.gradient)
        body = gain.weight * (written if written is not None else reindex(
            gradient.symbol, {self.names.time: self.names.earlier}))  # fmt: skip
        total = sp.Sum(body, (self.names.earlier, 0, self.names.time - 1))
        found = Equation(gain.entry, "operator", total, time=self.names.time)
        return [*([] if written is not None else [gradient]), *gain.equations, found]

    def _written(self, e: Equation, linear: Mapping[int, Gathered]) -> Equation:
        """The sums that linear optimizers accumulate, in place of the entries of ΔW."""
        gains = {g.entry.label: g for g in linear.values()}
        if e.kind in ("operator", "entry") or not gains:
            return e

        def inner(x: Expr) -> Expr | None:
            return gains[x.label].at(x, self.names) if isinstance(x, Entry) and x.label in gains else None

        def rule(x: Expr) -> Expr | None:
            if not isinstance(x, Expectation):
                return inner(x)
            body = rebuild(x.body, inner)
            return None if body == x.body else Expectation(_multiplied(body), x.args[1])

        parts = {n: getattr(e, n) for n in ("expression", "learned") if getattr(e, n) is not None}
        changed = {n: rebuild(x, rule) for n, x in parts.items() if x.has(Entry)}
        return replace(e, **{n: self.clean(x) for n, x in changed.items()}) if changed else e

    def _trained(self, matrix: LimitMatrix) -> LimitMatrix:
        for state, symbol in self.symbols.items():
            if _is_update(state) and state.name == matrix.name:
                keep = next((s for t, s in self.symbols.items() if t.name == f"{matrix.name}.keep"), sp.Integer(1))
                return replace(matrix, update=symbol, keep=keep)
        return matrix


def _multiplied(expr: Expr) -> Expr:
    """Sums of outer products, term by term: (Σ_i a_i + b) x as Σ_i a_i x + b x."""
    factors = sp.Mul.make_args(expr)
    inner = next((f for f in factors if isinstance(f, sp.Sum | sp.Add) and copies_of(f)), None)
    if inner is None:
        return expr
    rest = sp.Mul(*(f for f in factors if f is not inner))
    if isinstance(inner, sp.Add):
        return sp.Add(*(_multiplied(a * rest) for a in inner.args))
    inner = reindex_bound(inner, rest)
    return sp.Add(*(sp.Sum(a, *inner.limits) for a in sp.Add.make_args(_multiplied(inner.function * rest))))


def _is_update(state: ir.State) -> bool:
    return state.is_matrix and "." not in state.name


def _first_copy(expr: Expr, state: ir.State) -> Expr:
    """Entries over the row and copy 1, whatever slot the loop has them in."""
    return with_copies(expr, {state.slot: 1}) if state.is_matrix else expr


def _in_order(own: Sequence[Equation], flow: StepDependence, known: Mapping[ir.State, Equation]) -> list[Equation]:
    """The states in the order of the loop: an optimizer's before the parameter that reads them."""
    return sorted(own, key=lambda e: next(k for k, s in enumerate(flow.states) if known.get(s) is e))


def _gradients(flow: StepDependence, slots: set[int]) -> dict[ir.Node, int]:
    """Sums of outer products |y>|x>⁽ᵏ⁾, as large as they come, of the entries of trained matrices."""
    found: dict[ir.Node, int] = {}
    for node in flow.nodes:
        own = {s for s, _ in node.type.slots}
        column = next(iter(own & slots), None)
        if column is None or own != {0, column}:
            continue
        kind = node.fn if isinstance(node, ir.Map) else "mul" if isinstance(node, ir.Contract) else ""
        parts = [a for a in node.args if not a.type.is_scalar]
        outer = kind == "mul" and all(len(a.type.slots) == 1 for a in parts)
        added = (kind == "add" or isinstance(node, ir.Reindex)) and all(a in found for a in parts)
        if outer or added:
            found[node] = column
    inner = {a for n in found for a in n.args}
    return {n: slot for n, slot in found.items() if n not in inner}


def _made_by_functions_of_matrices(nodes: Sequence[ir.Node]) -> set[ir.Node]:
    """Nodes in which functions of finite matrices are factors: updates, not gradients."""
    found: set[ir.Node] = set()
    for node in nodes:
        parts = [a for a in node.args if a.type.is_scalar or len(node.type.slots) == 2]
        if isinstance(node, ir.Spectral) or any(a in found for a in parts):
            found.add(node)
    return found
