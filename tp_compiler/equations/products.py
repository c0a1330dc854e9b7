"""Products: |Wx> = Ŵ|x> + Ẇ|x> (TP IVb, Def 2.6.5), and |W_t x> = κ_t (Ŵ|x> + Ẇ|x>) + ΔW_t|x> where W is trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import sympy as sp

from tp_compiler.equations import laws
from tp_compiler.equations.dots import Dots
from tp_compiler.equations.overlaps import Meeting, MeetingProducts, Met, general_place
from tp_compiler.equations.system import Equation, HatPart, LimitMatrix
from tp_compiler.equations.terms import Expr, Hat, Ket, Learned, Named, Stacked, reindex
from tp_compiler.equations.training import TrainedProduct, TrainingEquations
from tp_compiler.equations.work import Work
from tp_compiler.ir import nodes as ir
from tp_compiler.ir.types import Index


@dataclass(frozen=True)
class _Product:
    """keep (Ŵ|x> + Ẇ|x>) + ΔW|x>, as a node has it: `part` > 0 for one member of a family put together over `at`."""

    node: ir.Node
    matmul: ir.MatMul
    hat: Hat
    keep: Expr
    learned: ir.Apply | None
    part: int = 0
    at: Expr | None = None


class Products:
    """The equations of products. Dots of the loop are deferred until all of its kets are known."""

    def __init__(self, work: Work, training: TrainingEquations, known: Meeting):
        self.work, self.training, self.known = work, training, known
        self.names, self.facts = work.names, work.facts
        self.dots = Dots(work.names, work.facts, work.clean, work.emit)
        self.matrices: dict[ir.MatrixSymbol, LimitMatrix] = {}
        self._pending: list[tuple[ir.MatMul, Named]] = []
        self._labels: dict[ir.MatMul, dict[str, None]] = {}  # the kets that a product is a part of
        self.met: list[Met] = []
        self._stated: dict[MeetingProducts, tuple[Named, Mapping[int, Expr]]] = {}

    def argument(self, node: ir.MatMul | ir.Apply) -> Expr:
        """Names the argument of a matrix, unless it is 0."""
        x = self.work.expr[node.args[0]]
        if x != 0 and not isinstance(x, Named):
            x = self.work.expr[node.args[0]] = self.work.named(node.args[0], x, always=True)
        return x

    def product(self, node: ir.MatMul) -> Expr:
        x = self.argument(node)
        return x if x == 0 else self._applied(node, node, self._hat(node, x), sp.Integer(1), None)

    def trained(self, node: ir.Node, parts: TrainedProduct) -> Expr:
        """The sum `node` is a product with W_t."""
        x = self.argument(parts.product)
        if x == 0:
            return x
        keep = sp.Mul(*(self.work.expr[k] for k in parts.keep))
        return self._applied(node, parts.product, self._hat(parts.product, x), keep, parts.learned)

    def member(self, node: ir.MatMul | ir.Apply) -> tuple[Expr, ...]:
        """Which member of the family of matrices is applied."""
        return tuple(self.names.symbol(m) if isinstance(m, Index) else sp.Integer(m) for m in node.member)

    def _hat(self, node: ir.MatMul, x: Expr) -> Hat:
        return Hat(self._matrix(node.matrix).name, node.transposed, x, self.member(node))

    def _matrix(self, symbol: ir.MatrixSymbol) -> LimitMatrix:
        if symbol not in self.matrices:
            indices = tuple(self.names.symbol(i) for i in symbol.indices)
            widths = (symbol.rows.name, symbol.cols.name)
            variance, rho = self.work.expr[symbol.variance], laws.ratio(symbol)
            self.matrices[symbol] = LimitMatrix(symbol.name, indices, variance, rho, symbol.law, widths)
        return self.matrices[symbol]

    def _variance(self, matrix: LimitMatrix, hat: Hat) -> Expr:
        """σ² of the member."""
        return reindex(matrix.variance, dict(zip(matrix.indices, hat.member, strict=True)))

    def _applied(self, node: ir.Node, matmul: ir.MatMul, hat: Hat, keep: Expr, learned: ir.Apply | None) -> Expr:
        """The product, member by member if other products coincide with members of it."""
        self.training.arguments.setdefault((hat.matrix, hat.transposed), set()).add(hat.argument.label)
        parts = self._parts(hat.argument) if matmul in self.known.apart else None
        if parts is None or not parts.args[0].is_Symbol:
            return self._named(_Product(node, matmul, hat, keep, learned))
        at, *members = parts.args
        found = []
        for k, x in enumerate(members, 1):
            member = tuple(reindex(m, {at: sp.Integer(k)}) for m in hat.member)
            own = Hat(hat.matrix, hat.transposed, x, member)
            found.append(self._named(_Product(node, matmul, own, reindex(keep, {at: sp.Integer(k)}), learned, k, at)))
        return Stacked(at, *found)

    def _parts(self, x: Expr) -> Expr | None:
        """The members of a family put together."""
        equation = self.facts.definitions.get(x.label) if isinstance(x, Ket) else None
        value = equation.at(x, equation.expression) if equation is not None and equation.kind == "ket" else None
        return value if isinstance(value, Stacked) and all(isinstance(m, Ket) for m in value.args[1:]) else None

    def _named(self, p: _Product) -> Expr:
        self._note(p)
        family = self.known.families.get((p.matmul, p.part))
        if family is not None and self._fits(family, p):
            return self._in_family(family, p)
        value = p.hat if p.learned is None else sp.Tuple(p.keep, p.hat)
        whole = self.work.known(p.node, value, p.at)
        if whole is None:
            like = (*p.hat.argument.indices, *p.hat.member)
            whole = self.work.symbol(p.node, "z", like) if p.at is None else self.work.member(p.node, p.at, like)
            self.work.remember(p.node, value, whole, p.at)
            self._state(p, whole)
        self._labels.setdefault(p.matmul, {})[whole.label] = None
        return whole

    # -- products that meet --------------------------------------------------------------------------------------
    def _note(self, p: _Product) -> None:
        """Records the place of a product of a named family, for `overlaps.meeting`."""
        x = p.hat.argument
        if not isinstance(x, Ket):
            return
        key = (p.hat.matrix, p.hat.transposed, p.learned is None, p.keep == 1, self.work.is_current(p.node))
        own = None
        if p.node in self.names.source and p.at is None:
            own = tuple(i for i in self.work.symbol_indices(p.node) if i != self.names.time)
        parts = self._parts(x)
        members = frozenset(m.label for m in parts.args[1:]) if parts is not None else frozenset()
        self.met.append(Met(key, x.label, self._place(p.hat), (p.matmul, p.part), own, members))

    def _place(self, hat: Hat) -> tuple[Expr, ...]:
        return (*hat.member, *(i for i in hat.argument.indices if i != self.names.time))

    def _kept(self, matmul: ir.MatMul, member: Sequence[Expr]) -> Expr:
        """κ of a member of a trained family of matrices."""
        states = self.training.symbols.items()
        symbol = next((s for state, s in states if state.name == f"{matmul.matrix.name}.keep"), sp.Integer(1))
        return reindex(symbol, dict(zip(symbol.indices[1:], member, strict=True))) if symbol != 1 else symbol

    def _fits(self, family: MeetingProducts, p: _Product) -> bool:
        """Whether the factor of W is known for all members of the family."""
        fixed = not any(isinstance(s, int) for s in family.slots[: len(p.hat.member)])
        return p.keep == 1 or fixed or p.keep == self._kept(p.matmul, p.hat.member)

    def _in_family(self, family: MeetingProducts, p: _Product) -> Expr:
        """A member of a family of products that coincide; the first one states the family."""
        hat = p.hat
        if family not in self._stated:
            x = self.facts.definitions[hat.argument.label].symbol
            times = [i for i in hat.argument.indices if i == self.names.time]
            formal = [*self.matrices[p.matmul.matrix].indices, *x.indices[len(times) :]]
            general, slots = general_place(family, formal, self.names.plain)
            cut = len(hat.member)
            all_of = Hat(hat.matrix, hat.transposed, Ket(x.args[0], 0, *times, *general[cut:]), general[:cut])
            keep = p.keep if p.keep == 1 or general[:cut] == hat.member else self._kept(p.matmul, general[:cut])
            whole = self.work.named_family(family, slots, self.work.is_current(p.node))
            self._state(replace(p, hat=all_of, keep=keep), whole)
            self._stated[family] = whole, slots
        whole, slots = self._stated[family]
        self._labels.setdefault(p.matmul, {})[whole.label] = None
        at = family.variables(self._place(hat))
        value = reindex(whole, {index: at[slot] for slot, index in slots.items()})
        if p.node in self.names.source and p.at is None and (p.matmul, p.part) != family.named:
            self.work.named(p.node, value)  # states the source's name; other equations read the family
        return value

    def _state(self, p: _Product, whole: Named) -> None:
        """The equation; its dot, unless it must wait."""
        node, matmul, hat, keep, learned = p.node, p.matmul, p.hat, p.keep, p.learned
        local = self.names.local(whole.indices)
        symbol, own = reindex(whole, local), reindex(hat, local)
        matrix, transposed = self.matrices[matmul.matrix], matmul.transposed
        primes = {i: self.names.prime(i) for i in symbol.indices if i not in own.member}
        scale = laws.hat_scale(self._variance(matrix, own), matrix.ratio, transposed)
        part = HatPart(own, scale, primes, all(m.is_Integer for m in own.member))
        equation = Equation(symbol, "product", own, hat=part, keep=reindex(keep, local), time=self.work.time(node))
        if learned is not None:
            label, time = self.training.symbols[learned.state].label, self.names.time
            equation = replace(
                equation,
                learned=reindex(self.training.apply(learned, hat.argument, hat.member), local),
                update=Learned(label, transposed, own.argument, (time, *own.member)),
            )
        self.facts.generators[symbol.label] = self.facts.hat_generator(own)
        if self.work.is_current(matmul.args[0]):
            self._pending.append((matmul, symbol))
            self.work.emit(_whole(equation))
            return
        terms = self.dots.terms(symbol, part, self._variance(matrix, own), matrix.ratio)
        equation = _whole(replace(equation, dot=terms))
        self.work.emit(equation, self.dots.character(equation) if equation.time is None else None)
        self.dots.register(equation)

    # -- in a training loop --------------------------------------------------------------------------------------
    def finish(self) -> None:
        """The dots of the loop's products."""
        equations, jumps = self.work.equations, self.work.flow.jumps
        place = {e.name: k for k, e in enumerate(equations) if e.is_ket}
        for matmul, symbol in self._pending:
            k = place[symbol.label]
            equation = equations[k]
            assert equation.hat is not None
            earlier = self._earlier(matmul)
            uses = [(equations[place[label]], earlier[label]) for label in sorted(earlier, key=place.__getitem__)]
            matrix = self.matrices[matmul.matrix]
            variance = self._variance(matrix, equation.hat.symbol)
            terms = self.dots.over_steps(symbol, equation.hat, uses, variance, matrix.ratio, jumps)
            equations[k] = _whole(replace(equation, dot=terms))
            self.facts.definitions[symbol.label] = equations[k]
        self.work.equations = _coefficients_first(equations)

    def _earlier(self, matmul: ir.MatMul) -> dict[str, bool]:
        """The products with the transpose that |x_t> depends on, and whether it does within the step."""
        found: dict[str, bool] = {}
        for use, now in self.work.flow.lags(matmul.args[0]):
            if use.matrix is matmul.matrix and use.transposed != matmul.transposed and use in self._labels:
                for label in self._labels[use]:
                    found[label] = found.get(label, False) or now
        return found


def _whole(equation: Equation) -> Equation:
    """A product's expression: keep (hat + dot) + learned part."""
    assert equation.hat is not None
    value = equation.keep * (equation.hat.symbol + equation.dot_expression())
    return replace(equation, expression=value if equation.learned is None else value + equation.learned)


def _coefficients_first(equations: list[Equation]) -> list[Equation]:
    """The coefficients of the loop's dots in front of the products that read them."""
    known: dict[Expr, Equation] = {e.symbol: e for e in equations if e.kind == "coefficient" and e.time is not None}
    found: list[Equation] = []
    for e in equations:
        if e.symbol not in known:
            found += [known[t.symbol] for t in e.dot if t.symbol in known]
            found.append(e)
    return found
