"""Program → system of limit equations, one walk in program order; nothing is evaluated.

Products W|x> get their hat and dot here (dots.py has the derivatives). Names bound in the source are equations of their
own; so are brackets used more than once and whatever would nest too deeply, so that no expression grows with the
program and no recursion meets a limit.
"""

from __future__ import annotations

from dataclasses import replace

import sympy as sp

from tp_compiler.equations import laws
from tp_compiler.equations.dots import Dots
from tp_compiler.equations.facts import Character, Facts
from tp_compiler.equations.names import Names, uses
from tp_compiler.equations.share import ClosedForm, finish
from tp_compiler.equations.simplify import simplify as simplified
from tp_compiler.equations.system import Equation, HatPart, Matrix, System
from tp_compiler.equations.terms import Expectation, Expr, Hat, Ket, Missing, Named, Scalar, reindex, renumbered
from tp_compiler.ir import nodes as ir
from tp_compiler.ir.program import Program
from tp_compiler.ir.types import Index

#: Expressions of more operations than this get a name of their own where they are used again, or anyway (twice this).
_LONG = 24
#: Used more than once, an unnamed ket of so many operations is named.
_SHARED = 6


def derive(program: Program, simplify: bool = True, closed_form: ClosedForm | None = None) -> System:
    """The infinite-width limit of a program as equations (Tensor Programs IVb, Def 2.6.5 and Thm 2.6.10).

    simplify      rewrite expectations (simplify.py's table) and leave out what no equation needs
    closed_form   `closed_form(f, g)` gives the formula of E f(g) for jointly Gaussian g (share.Gaussian), or None
    """
    return _Derivation(program, simplify).system(closed_form)


class _Derivation:
    def __init__(self, program: Program, simplify: bool):
        self.program = program
        self.simplify = simplify
        self.nodes, self.count = uses(program)
        self.names = Names(program, self.nodes)
        self.facts = Facts()
        self.facts.batched = _batched(self.nodes)
        self.equations: list[Equation] = []
        self.matrices: dict[ir.MatrixSymbol, Matrix] = {}
        self.weight: dict[ir.Node, int] = {}
        self.expr: dict[ir.Node, Expr] = {}
        self.must_name = {a for n in self.nodes if isinstance(n, ir.Shift | ir.Stack) for a in n.args}
        self.dots = Dots(self.names, self.facts, self.clean, self.emit)

    def system(self, closed_form: ClosedForm | None) -> System:
        for node in self.nodes:
            self.expr[node] = self._visit(node)
        for output in self.program.outputs:
            self._output(output.name, output.indices, self.expr[output.node])
        found = System(tuple(self.equations), tuple(self.matrices.values()), self._remarks())
        return finish(found, self.facts, self.simplify, closed_form)

    def clean(self, expr: Expr) -> Expr:
        expr = renumbered(expr)
        return renumbered(simplified(expr, self.facts)) if self.simplify else expr

    def emit(self, equation: Equation, character: Character | None = None) -> Named:
        """Adds an equation and what is known of its ket."""
        self.equations.append(equation)
        if equation.is_ket:
            self.facts.kets[equation.name] = character or self.facts.of(equation.expression)
            self.facts.definitions[equation.name] = equation
        return equation.symbol

    # -- naming --------------------------------------------------------------------------------------------------
    def _symbol(self, node: ir.Node, stem: str) -> Named:
        """The name of a node: from the source, or fresh; over the node's indices."""
        is_ket = not node.type.is_scalar
        if node in self.names.source:
            name, positions = self.names.source[node]
            label = self.names.label(name, positions, is_ket)
            own = [p for p in positions if isinstance(p, Index) and p in node.type.indices]
            own += [i for i in node.type.indices if i not in own]
        else:
            label, own = self.names.fresh(stem, is_ket), list(node.type.indices)
        indices = [self.names.symbol(i) for i in own]
        return Ket(label, 0, *indices) if is_ket else Scalar(label, *indices)

    def _wants_name(self, node: ir.Node, value: Expr) -> bool:
        if not (node.type.is_scalar or node.type.is_ket) or isinstance(value, Named) or not value.args:
            return False
        if isinstance(node, ir.Linalg | ir.Unavailable) or node in self.names.source:
            return True
        if isinstance(node, ir.Contract) and 0 in node.slots and self.count[node] > 1:
            return True
        weight = self.weight[node]
        is_alias = isinstance(node, ir.Reindex | ir.Stack)
        if is_alias and weight <= 2 * _LONG:
            return False
        return node in self.must_name or weight > 2 * _LONG or (self.count[node] > 1 and weight > _SHARED)

    def _visit(self, node: ir.Node) -> Expr:
        args = [self.expr[a] for a in node.args]
        self.weight[node] = 1 + sum(self.weight[a] for a in node.args)
        if isinstance(node, ir.InitialKet):
            value = self._initial(node, args)
        elif isinstance(node, ir.MatMul):
            value = self._product(node, args[0])
        elif isinstance(node, ir.Clt):
            value = self._clt(node, args)
        else:
            build = laws.LAWS[type(node)].build
            assert build is not None
            value = build(self.names, node, args)
        if self._wants_name(node, value):
            value = self._named(node, value)
        if isinstance(value, Named) or not value.args:
            self.weight[node] = 1
        return value

    def _named(self, node: ir.Node, value: Expr) -> Expr:
        value = self.clean(value)
        if not value.args and node not in self.names.source:
            return value
        kind = "scalar" if node.type.is_scalar else "ket"
        symbol = self._symbol(node, "c" if node.type.is_scalar else "z")
        local = self.names.local(symbol.indices)
        self.emit(Equation(reindex(symbol, local), kind, reindex(value, local)))
        return symbol

    def _output(self, name: str, indices: tuple[Index, ...], value: Expr) -> None:
        symbols = [self.names.symbol(i) for i in indices]
        for k, equation in enumerate(self.equations):
            if equation.symbol == value and not equation.is_ket and equation.name == name:
                self.equations[k] = replace(equation, output=True)
                return
        own = [s for s in symbols if s in value.free_symbols] if value.args else []
        label = self.names.label(name, (), False)
        self.equations.append(Equation(Scalar(label, *own), "scalar", self.clean(value), output=True))

    # -- instructions with randomness of their own ---------------------------------------------------------------
    def _initial(self, node: ir.InitialKet, args: list[Expr]) -> Expr:
        """Kets jointly Gaussian as declared, independent of all else (TP IVb, Def 2.6.5 Init)."""
        mean, spread = args
        if spread == 0:
            return mean  # a constant ket is its mean
        symbol = node.symbol
        indices = [self.names.symbol(i) for i in symbol.indices]
        primes = {i: self.names.prime(i) for i in indices}
        covariance, paired = spread, set()
        if symbol.pair:
            left, right = (self.names.symbol(i) for i in symbol.pair)
            own = left if left in indices else right
            covariance = reindex(spread, {left: own, right: primes[own]} if own is left else {left: primes[own]})
            paired = {own}
        for i in indices:
            if i not in paired:
                covariance = covariance * sp.KroneckerDelta(i, primes[i])
        ket = Ket(self.names.label(symbol.name, symbol.indices, True), 0, *indices)
        known = self.facts.centred(("ket", symbol.name))
        if mean != 0:
            known = Character(known.roots, frozenset(), known.odd)
        equation = Equation(ket, "initial", ket, mean=mean, covariance=covariance, primed=primes)
        return self.emit(equation, known)

    def _member(self, node: ir.MatMul) -> tuple[Expr, ...]:
        return tuple(self.names.symbol(m) if isinstance(m, Index) else sp.Integer(m) for m in node.member)

    def _product(self, node: ir.MatMul, x: Expr) -> Expr:
        """|Wx> = Ŵ|x> + Ẇ|x> (TP IVb, Def 2.6.5)."""
        if x == 0:
            return x
        matrix, member = self._matrix(node.matrix), self._member(node)
        if not isinstance(x, Named):
            x = self.expr[node.args[0]] = self._named(node.args[0], x)
        whole = self._symbol(node, "z")
        local = self.names.local(whole.indices)
        symbol, x = reindex(whole, local), reindex(x, local)
        member = tuple(local.get(m, m) for m in member)
        variance = reindex(matrix.variance, dict(zip(matrix.indices, member, strict=True)))
        hat = Hat(matrix.name, node.transposed, x, member)
        primes = {i: self.names.prime(i) for i in symbol.indices if i not in member}
        scale = laws.hat_scale(variance, matrix.ratio, node.transposed)
        part = HatPart(hat, scale, primes, all(m.is_Integer for m in member))
        terms = self.dots.terms(symbol, part, variance, matrix.ratio)
        equation = Equation(symbol, "product", sp.Integer(0), hat=part, dot=terms)
        equation = replace(equation, expression=hat + equation.dot_expression())
        self.facts.generators[symbol.label] = self.facts.hat_generator(hat)
        known = self.dots.character(equation)
        self.emit(equation, known)
        self.dots.register(equation)
        return whole

    def _matrix(self, symbol: ir.MatrixSymbol) -> Matrix:
        if symbol not in self.matrices:
            indices = tuple(self.names.symbol(i) for i in symbol.indices)
            widths = (symbol.rows.name, symbol.cols.name)
            variance, rho = self.expr[symbol.variance], laws.ratio(symbol)
            self.matrices[symbol] = Matrix(symbol.name, indices, variance, rho, symbol.law, widths)
        return self.matrices[symbol]

    def _clt(self, node: ir.Clt, args: list[Expr]) -> Expr:
        """vᵀx/√n → a centred Gaussian with Cov = E[v x v' x'] (limit.md section 2)."""
        symbol = self._symbol(node, "ℓ")
        primes = {i: self.names.prime(i) for i in symbol.indices}
        body = args[0] * args[1]
        covariance = self.clean(Expectation(body * reindex(body, primes)))
        equation = Equation(symbol, "clt", body, covariance=covariance, primed=primes)
        return self.emit(equation)

    def _remarks(self) -> tuple[str, ...]:
        found = []
        if any(n.type.random for n in self.nodes):
            found.append("clt scalars are random in the limit; expectations of what uses them are conditional on them")
        if any(isinstance(n, ir.Shift) for n in self.nodes):
            found.append("members outside an axis are 0")
        if any(e.expression.has(Missing) for e in self.equations):
            found.append("some constructs of the program have no limit law in this version")
        return tuple(found)


def _batched(nodes: list[ir.Node]) -> set[str]:
    """Families of matrices used with a symbolic member: all their members then count as one generator."""
    return {n.matrix.name for n in nodes if isinstance(n, ir.MatMul) and any(isinstance(m, Index) for m in n.member)}
