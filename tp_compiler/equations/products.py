"""Products: |Wx> = Ŵ|x> + Ẇ|x> (TP IVb, Def 2.6.5), and |W_t x> = κ_t (Ŵ|x> + Ẇ|x>) + ΔW_t|x> where W is trained."""

from __future__ import annotations

from dataclasses import replace

import sympy as sp

from tp_compiler.equations import laws
from tp_compiler.equations.dots import Dots
from tp_compiler.equations.system import Equation, HatPart, Matrix
from tp_compiler.equations.terms import Expr, Hat, Learned, Named, reindex
from tp_compiler.equations.training import TrainedProduct, Training
from tp_compiler.equations.work import Work
from tp_compiler.ir import nodes as ir
from tp_compiler.ir.types import Index


class Products:
    """The equations of products. Dots of the loop wait until all of its kets are there."""

    def __init__(self, work: Work, training: Training):
        self.work, self.training = work, training
        self.names, self.facts = work.names, work.facts
        self.dots = Dots(work.names, work.facts, work.clean, work.emit)
        self.matrices: dict[ir.MatrixSymbol, Matrix] = {}
        self._pending: list[tuple[ir.MatMul, Named]] = []
        self._labels: dict[ir.MatMul, str] = {}  # the ket that a product is a part of

    def argument(self, node: ir.MatMul | ir.Apply) -> Expr:
        """What a matrix is applied to has a name, unless it is 0."""
        x = self.work.expr[node.args[0]]
        if x != 0 and not isinstance(x, Named):
            x = self.work.expr[node.args[0]] = self.work.named(node.args[0], x)
        return x

    def product(self, node: ir.MatMul) -> Expr:
        x = self.argument(node)
        return x if x == 0 else self._named(node, node, self._hat(node, x), sp.Integer(1), None)

    def trained(self, node: ir.Node, parts: TrainedProduct) -> Expr:
        """The sum `node` is a product with W_t."""
        x = self.argument(parts.product)
        if x == 0:
            return x
        keep = sp.Mul(*(self.work.expr[k] for k in parts.keep))
        return self._named(node, parts.product, self._hat(parts.product, x), keep, parts.learned)

    def _hat(self, node: ir.MatMul, x: Expr) -> Hat:
        member = (self.names.symbol(m) if isinstance(m, Index) else sp.Integer(m) for m in node.member)
        return Hat(self._matrix(node.matrix).name, node.transposed, x, tuple(member))

    def _matrix(self, symbol: ir.MatrixSymbol) -> Matrix:
        if symbol not in self.matrices:
            indices = tuple(self.names.symbol(i) for i in symbol.indices)
            widths = (symbol.rows.name, symbol.cols.name)
            variance, rho = self.work.expr[symbol.variance], laws.ratio(symbol)
            self.matrices[symbol] = Matrix(symbol.name, indices, variance, rho, symbol.law, widths)
        return self.matrices[symbol]

    def _variance(self, matrix: Matrix, hat: Hat) -> Expr:
        """σ² of the member."""
        return reindex(matrix.variance, dict(zip(matrix.indices, hat.member, strict=True)))

    def _named(self, node: ir.Node, matmul: ir.MatMul, hat: Hat, keep: Expr, learned: ir.Apply | None) -> Expr:
        family = hat if learned is None else sp.Tuple(keep, hat)
        whole = self.work.known(node, family)
        if whole is None:
            whole = self.work.symbol(node, "z")
            self.work.remember(node, family, whole)
            self._state(node, matmul, whole, hat, keep, learned)
        self._labels[matmul] = whole.label
        return whole

    def _state(
        self, node: ir.Node, matmul: ir.MatMul, whole: Named, hat: Hat, keep: Expr, learned: ir.Apply | None
    ) -> None:
        """The equation; its dot, unless it must wait."""
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
                learned=reindex(self.training.apply(learned, hat.argument), local),
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
                label = self._labels[use]
                found[label] = found.get(label, False) or now
        return found


def _whole(equation: Equation) -> Equation:
    """A product's expression: keep (hat + dot) + what is learned."""
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
