"""Program → system of limit equations, one walk in program order; nothing is evaluated.

laws.py has the limit of each instruction, products.py the limit of a product W|x>, work.py decides what is named. In a training
loop every quantity has one equation, over the number t of updates so far (training.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import sympy as sp

from tp_compiler.equations import laws
from tp_compiler.equations.facts import LOOPED, Character
from tp_compiler.equations.formulas import ClosedForm
from tp_compiler.equations.name_common_expectations import finish
from tp_compiler.equations.overlaps import Meeting, meeting
from tp_compiler.equations.products import Products
from tp_compiler.equations.system import Equation, System
from tp_compiler.equations.terms import Expectation, Expr, Ket, Named, Scalar, reindex
from tp_compiler.equations.training import TrainingEquations, trained_products
from tp_compiler.equations.work import Work
from tp_compiler.ir import nodes as ir
from tp_compiler.ir.program import Program
from tp_compiler.ir.types import Index

#: The equations of a loop are printed in sections: the rest, the loop itself, its updates, and quantities over all steps.
_UPDATES = frozenset({"state", "entry", "operator", "weight"})


def derive(program: Program, simplify: bool = True, closed_form: ClosedForm | None = None) -> System:
    """The infinite-width limit of a program as equations (Tensor Programs IVb, Def 2.6.5 and Thm 2.6.10).

    simplify      rewrite expectations (simplify.py's table) and leave out what no equation needs
    closed_form   `closed_form(f, g)` gives the formula of E f(g) for jointly Gaussian g (formulas.Gaussian), or None
    """
    known = Meeting()
    while True:  # until no further products meet: once for most programs, three times at most
        derivation = _Derivation(program, simplify, known)
        derivation.walk()
        found = meeting(derivation.products.met, known)
        if found.shape() == known.shape():
            return derivation.system(closed_form)
        known = found


class _Derivation(Work):
    def __init__(self, program: Program, simplify: bool, known: Meeting):
        super().__init__(program, simplify)
        self.training = TrainingEquations(program, self.flow, self.names, self.clean)
        self.products = Products(self, self.training, known)
        self.trained = trained_products(self.nodes, self.count)
        self.inside = {n for node, t in self.trained.items() for n in (*node.args, t.product)}
        for symbol in self.training.symbols.values():
            if isinstance(symbol, Ket):
                self.facts.kets[symbol.label] = LOOPED
                self.facts.definitions[symbol.label] = Equation(symbol, "state", sp.Integer(0), time=self.names.time)

    def walk(self) -> None:
        """The equations of all nodes, in program order."""
        for node in self.nodes:
            self._reach(node)

    def system(self, closed_form: ClosedForm | None) -> System:
        """The system of equations found by the walk."""
        self.products.finish()
        for output in self.program.outputs:
            self._output(output.name, output.indices, self._at_last(output.node))
        equations, matrices = self.training.finish(self.equations, self.expr, self.products.matrices)
        data = {n.name: n.values for n in self.nodes if isinstance(n, ir.Array) and n.name}
        found = System(tuple(_sections(equations)), matrices, clock=self.training.clock, data=data)
        return finish(found, self.facts, self.names, self.simplify, closed_form)

    # -- the walk ------------------------------------------------------------------------------------------------
    def _reach(self, node: ir.Node) -> None:
        """The limit of a node; a reassembled product comes before the nodes that read it."""
        if node in self.expr or node in self.inside:
            return
        args = self.folding.args(node)
        for a in args:
            if a not in self.expr and a not in self.inside:
                for part in (self.flow.moving, self.flow.beyond):
                    if any(b in part for b in a.args):
                        part.add(a)
                self._reach(a)
        self.expr[node] = self._visit(node, args)

    def _visit(self, node: ir.Node, operands: Sequence[ir.Node]) -> Expr:
        self.weight[node] = 1 + sum(self.weight.get(a, 1) for a in operands)
        if node in self.trained:
            value = self.products.trained(node, self.trained[node])
        else:
            beyond = node in self.flow.beyond and not isinstance(node, ir.Trace)
            value = self._value(node, [self._at_last(a) if beyond else self.expr[a] for a in operands])
        entry = self.training.gradient(node, value)
        if entry is not None:
            value = entry
        if self.wants_name(node, value) and (self.names.has_name(node) or node not in self.training.of):
            value = self.named(node, value)
        elif node.type.is_ket and value.args and not isinstance(value, Named):
            value = self.known(node, value) or value
        following = self.training.advanced(node, value, self.expr)
        value = value if following is None else following
        if isinstance(value, Named) or not value.args:
            self.weight[node] = 1
        return value

    def _value(self, node: ir.Node, args: list[Expr]) -> Expr:
        if isinstance(node, ir.InitialKet):
            return self._initial(node, args)
        if isinstance(node, ir.MatMul):
            return self.products.product(node)
        if isinstance(node, ir.Clt):
            return self._clt(node, args)
        if isinstance(node, ir.Carry):
            return self.training.symbols[node.state]
        if isinstance(node, ir.Apply):
            return self.training.apply(node, self.products.argument(node), self.products.member(node))
        build = laws.LAWS[type(node)].build
        assert build is not None
        return build(self.names, node, args)

    def _at_last(self, node: ir.Node) -> Expr:
        """The value of a node after the last step, as read after the loop."""
        value = self.expr[node]
        return reindex(value, {self.names.time: sp.Integer(self.training.steps)}) if self.is_current(node) else value

    def _output(self, name: str, indices: tuple[Index, ...], value: Expr) -> None:
        symbols = [self.names.symbol(i) for i in indices]
        for k, equation in enumerate(self.equations):
            if not equation.is_ket and equation.name == name and isinstance(value, Scalar) and value.label == name:
                if equation.symbol != value and not _renames(equation.symbol.indices, value.indices):
                    continue
                moved = dict(zip(equation.symbol.indices, value.indices, strict=True))
                body = reindex(equation.expression, moved)
                self.equations[k] = replace(equation, symbol=value, expression=body, output=True)
                return
        label = self.names.label(name, (), False)
        self.equations.append(Equation(Scalar(label, *symbols), "scalar", self.clean(value), output=True))

    # -- instructions with randomness of their own ---------------------------------------------------------------
    def _initial(self, node: ir.InitialKet, args: list[Expr]) -> Expr:
        """Kets as declared, independent of all else (TP IVb, Def 2.6.5 Init)."""
        mean, spread, *parameters = args
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
        start = (0,) if symbol in self.names.starts else ()
        ket = Ket(self.names.label(symbol.name, (*start, *symbol.indices), True), 0, *indices)
        known = self.facts.centred(("ket", ket.label))
        if mean != 0 or symbol.law in ("bernoulli", "rows"):  # no symmetry
            known = Character(known.roots, frozenset(), known.odd)
        stated = Equation(ket, "initial", ket, mean=mean, covariance=covariance, primed=primes)
        if symbol.law != "normal":
            self.facts.other.add(("ket", ket.label))
            stated = replace(stated, law=symbol.law, parameters=tuple(parameters))
        if symbol.law == "rows":
            stated = replace(stated, mean=None, covariance=None, parameters=(sp.Symbol(node.parameters[0].span.text),))
        return self.emit(stated, known)

    def _clt(self, node: ir.Clt, args: list[Expr]) -> Expr:
        """vᵀx/√n → a centred Gaussian with Cov = E[v x v' x'] (docs/mathematics.md, section 4)."""
        body = args[0] * args[1]
        known = self.known(node, sp.Tuple(body))
        if known is not None:
            return known
        symbol = self.symbol(node, "ℓ")
        self.remember(node, sp.Tuple(body), symbol)
        local = self.names.local(symbol.indices)
        own, body = reindex(symbol, local), reindex(body, local)
        primes = {i: self.names.prime(i) for i in own.indices}
        covariance = self.clean(Expectation(body * reindex(body, primes)))
        earlier = [e for e in self.equations if e.kind == "clt"]
        others = [
            (self._primed(e.symbol, e), self.clean(Expectation(body * self._primed(e.expression, e)))) for e in earlier
        ]
        correlated = tuple((other, value) for other, value in others if value != 0)
        self.emit(Equation(own, "clt", body, covariance=covariance, primed=primes, others=correlated))
        return symbol

    @staticmethod
    def _primed(expression: Expr, e: Equation) -> Expr:
        return reindex(expression, e.primed)


def _renames(old: Sequence[Expr], new: Sequence[Expr]) -> bool:
    return len(old) == len(new) == len(set(new)) and all(i.is_Symbol for i in new)


def _sections(equations: list[Equation]) -> list[Equation]:
    """The parts of a program: constant values, the loop, its updates, and values that use the whole course of training."""
    looped = {(e.is_ket, e.name) for e in equations if e.time is not None}

    def section(e: Equation) -> int:
        if e.time is not None:
            return 2 if e.kind in _UPDATES else 1
        found = e.expression.atoms(Ket, Scalar)
        return 3 if any((isinstance(n, Ket), n.label) in looped for n in found) else 0

    return sorted(equations, key=section) if looped else equations
