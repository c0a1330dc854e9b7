"""Program → system of limit equations, one walk in program order; nothing is evaluated.

Products W|x> get their hat and dot here (dots.py has the derivatives). Names bound in the source are equations of their
own, and so are the cotangents of what they name; so is whatever would nest too deeply, so that no expression grows with
the program and no recursion meets a limit. Families that differ in index names alone are one.

Of a training loop every quantity has one equation, over the number t of updates made so far (training.py).
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import replace

import sympy as sp

from tp_compiler.equations import laws
from tp_compiler.equations.brackets import pair_of
from tp_compiler.equations.canonical import canonical
from tp_compiler.equations.dots import Dots
from tp_compiler.equations.facts import LOOPED, Character, Facts
from tp_compiler.equations.flow import Flow
from tp_compiler.equations.folding import Folding
from tp_compiler.equations.formulas import ClosedForm
from tp_compiler.equations.names import Names, uses
from tp_compiler.equations.share import finish
from tp_compiler.equations.simplify import simplify as simplified
from tp_compiler.equations.system import Equation, HatPart, Matrix, System
from tp_compiler.equations.terms import (
    Expectation,
    Expr,
    Hat,
    Joined,
    Ket,
    Learned,
    Missing,
    Named,
    Scalar,
    copies_of,
    reindex,
    renumbered,
)
from tp_compiler.equations.training import TrainedProduct, Training, trained_products
from tp_compiler.ir import nodes as ir
from tp_compiler.ir.program import Program
from tp_compiler.ir.types import Index

_SPECTRAL = (
    "with K = ⟨e|e⟩, power(K, C, s, p), inverse(K, C, s) and matfun(K, C, s) are the C′ of a function of s + |e⟩C⟨e|:"
    " f(s) + |e⟩C′⟨e|; polar makes the nonzero singular values of |e⟩C⟨e′| 1"
)
#: Expressions of more operations than this get a name of their own where they are used again, or anyway (twice this).
_LONG = 24
#: Used more than once, an unnamed ket of so many operations is named.
_SHARED = 6


def derive(program: Program, simplify: bool = True, closed_form: ClosedForm | None = None) -> System:
    """The infinite-width limit of a program as equations (Tensor Programs IVb, Def 2.6.5 and Thm 2.6.10).

    simplify      rewrite expectations (simplify.py's table) and leave out what no equation needs
    closed_form   `closed_form(f, g)` gives the formula of E f(g) for jointly Gaussian g (formulas.Gaussian), or None
    """
    return _Derivation(program, simplify).system(closed_form)


class _Derivation:
    def __init__(self, program: Program, simplify: bool):
        self.program = program
        self.simplify = simplify
        self.flow = Flow(program)
        self.nodes = self.flow.nodes
        self.names = Names(program, self.nodes, self.flow.states, self.flow.moving)
        self.facts = Facts()
        self.facts.batched = _batched(self.nodes)
        self.facts.sizes = self.names.sizes
        self.equations: list[Equation] = []
        self.matrices: dict[ir.MatrixSymbol, Matrix] = {}
        self.weight: dict[ir.Node, int] = {}
        self.expr: dict[ir.Node, Expr] = {}
        self.families: dict[Hashable, tuple[Named, tuple[Expr, ...], str]] = {}
        self.must_name = {a for n in self.nodes if isinstance(n, ir.Shift | ir.Stack) for a in n.args}
        self.must_name |= {a for n in self.nodes if isinstance(n, ir.MatMul | ir.Apply) for a in n.args}
        there = set(self.nodes)
        self.folding = Folding(n for n in program.cotangents if n in there or self.names.has_name(n))
        self.count = uses(self.nodes, self.folding.args)
        self.dots = Dots(self.names, self.facts, self.clean, self.emit)
        self.training = Training(program, self.flow, self.names, self.clean)
        for symbol in self.training.symbols.values():
            self._looped(symbol)
        self.trained = trained_products(self.nodes, self.count)
        self.inside = {n for node, t in self.trained.items() for n in (*node.args, t.product)}
        self.pending: list[tuple[ir.MatMul, Named]] = []  # products of the loop, whose dots wait for all of its kets

    def system(self, closed_form: ClosedForm | None) -> System:
        for node in self.nodes:
            self._reach(node)
        self._dots_over_steps()
        for output in self.program.outputs:
            self._output(output.name, output.indices, self._at_last(output.node))
        equations, matrices = self.training.finish(self.equations, self.expr, self.matrices)
        found = System(tuple(_sections(equations)), matrices, self._remarks(), self.training.clock)
        return finish(found, self.facts, self.names, self.simplify, closed_form)

    def clean(self, expr: Expr) -> Expr:
        expr = renumbered(expr)
        return renumbered(simplified(expr, self.facts)) if self.simplify else expr

    def emit(self, equation: Equation, character: Character | None = None) -> Named:
        """Adds an equation and what is known of its ket."""
        self.equations.append(equation)
        if equation.is_ket:
            looped = LOOPED if equation.time is not None else None
            self.facts.kets[equation.name] = looped or character or self.facts.of(equation.expression)
            self.facts.definitions[equation.name] = equation
        return equation.symbol

    def _looped(self, symbol: Named) -> None:
        """What is known of a state, before its equation."""
        if isinstance(symbol, Ket):
            self.facts.kets[symbol.label] = LOOPED
            self.facts.definitions[symbol.label] = Equation(symbol, "state", sp.Integer(0), time=self.names.time)

    # -- time ----------------------------------------------------------------------------------------------------
    def _is_current(self, node: ir.Node) -> bool:
        """Is this a value at step t of the loop?"""
        return node in self.flow.moving and node not in self.flow.beyond

    def _time(self, node: ir.Node) -> Expr | None:
        return self.names.time if self._is_current(node) else None

    def _indices(self, node: ir.Node) -> list[Expr]:
        """The indices of a node's family; in the loop t comes first."""
        own = [self.names.symbol(i) for i in node.type.indices]
        return [self.names.time, *own] if self._is_current(node) else own

    def _at_last(self, node: ir.Node) -> Expr:
        """What behind the loop reads of a node: its value after the last step."""
        value = self.expr[node]
        return reindex(value, {self.names.time: sp.Integer(self.training.steps)}) if self._is_current(node) else value

    # -- naming --------------------------------------------------------------------------------------------------
    def _symbol(self, node: ir.Node, stem: str) -> Named:
        """The name of a node: from the source, or fresh; over the node's indices."""
        is_ket, time = not node.type.is_scalar, self._indices(node)[: int(self._is_current(node))]
        if node in self.names.source:
            name, positions = self.names.source[node]
            label = self.names.label(name, positions, is_ket)
            own = [p for p in positions if isinstance(p, Index) and p in node.type.indices]
            own += [i for i in node.type.indices if i not in own]
        else:
            label, own = self._fresh(node, stem, is_ket), list(node.type.indices)
        indices = [*time, *(self.names.symbol(i) for i in own)]
        return Ket(label, 0, *indices) if is_ket else Scalar(label, *indices)

    def _fresh(self, node: ir.Node, stem: str, is_ket: bool) -> str:
        """dh for the cotangent of what has been called h; else a fresh name."""
        value = self.expr.get(self.names.primal(node))
        known = isinstance(value, Ket if is_ket else Scalar)
        return self.names.cotangent(value.label, is_ket) if known else self.names.fresh(stem, is_ket)

    def _wants_name(self, node: ir.Node, value: Expr) -> bool:
        if not (node.type.is_scalar or node.type.is_ket) or isinstance(value, Named) or not value.args:
            return False
        if isinstance(node, ir.Linalg | ir.Spectral | ir.Unavailable) or node in self.names.source:
            return True
        if isinstance(value, Joined):
            return True
        weight = self.weight[node]
        is_alias = isinstance(node, ir.Reindex | ir.Stack | ir.Trace)
        if is_alias and weight <= 2 * _LONG:
            return False
        if node in self.must_name or (self.names.has_name(node) and not _is_multiple(value)):
            return True
        if isinstance(node, ir.Contract) and 0 in node.slots and self.count[node] > 1:
            return True
        if node.type.is_scalar and not value.atoms(Named) and weight <= _LONG:
            return False
        return weight > 2 * _LONG or (self.count[node] > 1 and weight > _SHARED)

    def _reach(self, node: ir.Node) -> Expr:
        """The limit of a node; a product put together again stands before what reads it."""
        if node in self.expr or node in self.inside:
            return self.expr.get(node)
        args = self.folding.args(node)
        for a in args:
            if a not in self.expr and a not in self.inside:
                self._join_loop(a)
                self._reach(a)
        self.expr[node] = self._visit(node, args)
        return self.expr[node]

    def _join_loop(self, node: ir.Node) -> None:
        for part in (self.flow.moving, self.flow.beyond):
            if any(a in part for a in node.args):
                part.add(node)

    def _visit(self, node: ir.Node, operands: Sequence[ir.Node]) -> Expr:
        self.weight[node] = 1 + sum(self.weight.get(a, 1) for a in operands)
        if node in self.trained:
            value = self._trained(node, self.trained[node])
        else:
            beyond = node in self.flow.beyond and not isinstance(node, ir.Trace)
            args = [self._at_last(a) if beyond else self.expr[a] for a in operands]
            value = self._value(node, args)
        entry = self.training.gradient(node, value)
        if entry is not None:
            value = entry
        if self._wants_name(node, value) and (self.names.has_name(node) or node not in self.training.of):
            value = self._named(node, value)
        elif node.type.is_ket and value.args and not isinstance(value, Named):
            value = self._known(node, value) or value
        following = self.training.advanced(node, value, self.expr)
        value = value if following is None else following
        if isinstance(value, Named) or not value.args:
            self.weight[node] = 1
        return value

    def _value(self, node: ir.Node, args: list[Expr]) -> Expr:
        if isinstance(node, ir.InitialKet):
            return self._initial(node, args)
        if isinstance(node, ir.MatMul):
            return self._product(node, node, args[0])
        if isinstance(node, ir.Clt):
            return self._clt(node, args)
        if isinstance(node, ir.Carry):
            return self.training.symbols[node.state]
        if isinstance(node, ir.Apply):
            return self.training.apply(node, self._argument(node, args[0]))
        build = laws.LAWS[type(node)].build
        assert build is not None
        return build(self.names, node, args)

    def _named(self, node: ir.Node, value: Expr) -> Expr:
        value = self.clean(value)
        source = node in self.names.source
        if not source and (not value.args or pair_of(value) or isinstance(value, Named)):
            return value
        known = self._known(node, value)
        if known is not None:
            return known
        kind = "scalar" if node.type.is_scalar else "ket"
        symbol = self._symbol(node, "c" if node.type.is_scalar else "z")
        local = self.names.local(symbol.indices)
        self.emit(Equation(reindex(symbol, local), kind, reindex(value, local), time=self._time(node)))
        self._remember(node, value, symbol)
        return symbol

    def _key(self, node: ir.Node, value: Expr) -> Hashable:
        indices = self._indices(node)
        axes = tuple((self.names.axes[i], self.names.sizes[i]) for i in indices)
        return node.type.is_scalar, axes, canonical(value, indices)

    def _known(self, node: ir.Node, value: Expr) -> Expr | None:
        """A family under other index names that has a name already (the same one, where the source gives it one)."""
        found = self.families.get(self._key(node, value))
        if found is None:
            return None
        symbol, indices, name = found
        if node in self.names.source and self.names.source[node][0] != name:
            return None
        return reindex(symbol, dict(zip(indices, self._indices(node), strict=True)))

    def _remember(self, node: ir.Node, value: Expr, symbol: Named) -> None:
        name = self.names.source[node][0] if node in self.names.source else ""
        self.families[self._key(node, value)] = symbol, tuple(self._indices(node)), name

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
        start = (0,) if symbol in self.names.starts else ()
        ket = Ket(self.names.label(symbol.name, (*start, *symbol.indices), True), 0, *indices)
        known = self.facts.centred(("ket", ket.label))
        if mean != 0:
            known = Character(known.roots, frozenset(), known.odd)
        equation = Equation(ket, "initial", ket, mean=mean, covariance=covariance, primed=primes)
        return self.emit(equation, known)

    def _member(self, node: ir.MatMul) -> tuple[Expr, ...]:
        return tuple(self.names.symbol(m) if isinstance(m, Index) else sp.Integer(m) for m in node.member)

    def _argument(self, node: ir.MatMul | ir.Apply, x: Expr) -> Expr:
        """What a matrix is applied to has a name."""
        if x != 0 and not isinstance(x, Named):
            x = self.expr[node.args[0]] = self._named(node.args[0], x)
        return x

    def _trained(self, node: ir.Node, parts: TrainedProduct) -> Expr:
        """|h_t> = W_t|x_t> with W_t = keep W + ΔW_t."""
        keep = sp.Mul(*(self.expr[k] for k in parts.keep))
        return self._product(node, parts.product, self.expr[parts.product.args[0]], keep, parts.learned)

    def _product(
        self, node: ir.Node, matmul: ir.MatMul, x: Expr, keep: Expr = sp.Integer(1), learned: ir.Apply | None = None
    ) -> Expr:
        """|Wx> = Ŵ|x> + Ẇ|x> (TP IVb, Def 2.6.5)."""
        if x == 0:
            return x
        matrix, member = self._matrix(matmul.matrix), self._member(matmul)
        x = self._argument(matmul, x)
        hat = Hat(matrix.name, matmul.transposed, x, member)
        known = self._known(node, keep * hat) if learned is None else self._known(node, sp.Tuple(keep, hat))
        if known is not None:
            return known
        whole = self._symbol(node, "z")
        self._remember(node, keep * hat if learned is None else sp.Tuple(keep, hat), whole)
        local = self.names.local(whole.indices)
        symbol, hat = reindex(whole, local), reindex(hat, local)
        variance = reindex(matrix.variance, dict(zip(matrix.indices, hat.member, strict=True)))
        primes = {i: self.names.prime(i) for i in symbol.indices if i not in hat.member}
        scale = laws.hat_scale(variance, matrix.ratio, matmul.transposed)
        part = HatPart(hat, scale, primes, all(m.is_Integer for m in hat.member))
        equation = Equation(symbol, "product", hat, hat=part, keep=reindex(keep, local), time=self._time(node))
        if learned is not None:
            label = self.training.symbols[learned.state].label
            time = self.training.symbols[learned.state].indices[0]
            added = self.training.apply(learned, x)
            update = Learned(label, matmul.transposed, hat.argument, (time, *hat.member))
            equation = replace(equation, learned=reindex(added, local), update=update)
        self.facts.generators[symbol.label] = self.facts.hat_generator(hat)
        if self._is_current(matmul.args[0]):
            self.pending.append((matmul, symbol))
            self.emit(_whole(equation))
            return whole
        terms = self.dots.terms(symbol, part, variance, matrix.ratio)
        equation = _whole(replace(equation, dot=terms))
        known_as = self.dots.character(equation) if equation.time is None else None
        self.emit(equation, known_as)
        self.dots.register(equation)
        return whole

    def _dots_over_steps(self) -> None:
        """The dots of the loop's products, once all kets are there."""
        place = {e.name: k for k, e in enumerate(self.equations) if e.is_ket}
        labels = self._product_labels()
        for matmul, symbol in self.pending:
            earlier: dict[str, bool] = {}
            for use, now in self.flow.lags(matmul.args[0]):
                if use.matrix is matmul.matrix and use.transposed != matmul.transposed and use in labels:
                    earlier[labels[use]] = earlier.get(labels[use], False) or now
            order = sorted(earlier, key=place.__getitem__)
            k = place[symbol.label]
            equation = self.equations[k]
            assert equation.hat is not None
            matrix = self.matrices[matmul.matrix]
            member = equation.hat.symbol.member
            variance = reindex(matrix.variance, dict(zip(matrix.indices, member, strict=True)))
            found = [(self.equations[place[label]], earlier[label]) for label in order]
            terms = self.dots.over_steps(symbol, equation.hat, found, variance, matrix.ratio, self.flow.jumps)
            self.equations[k] = _whole(replace(equation, dot=terms))
            self.facts.definitions[symbol.label] = self.equations[k]
        self._coefficients_first()

    def _coefficients_first(self) -> None:
        """The coefficients of dots in front of the products that read them."""
        known: dict[Expr, Equation] = {}
        for e in [e for e in self.equations if e.kind == "coefficient" and e.time is not None]:
            self.equations.remove(e)
            known[e.symbol] = e
        found: list[Equation] = []
        for e in self.equations:
            found += [known[t.symbol] for t in e.dot if t.symbol in known]
            found.append(e)
        self.equations = found

    def _product_labels(self) -> dict[ir.MatMul, str]:
        """The ket that each product of the program is a part of."""
        found = {t.product: self.expr[n] for n, t in self.trained.items()}
        found |= {n: self.expr[n] for n in self.nodes if isinstance(n, ir.MatMul) and n in self.expr}
        return {n: x.label for n, x in found.items() if isinstance(x, Ket)}

    def _matrix(self, symbol: ir.MatrixSymbol) -> Matrix:
        if symbol not in self.matrices:
            indices = tuple(self.names.symbol(i) for i in symbol.indices)
            widths = (symbol.rows.name, symbol.cols.name)
            variance, rho = self.expr[symbol.variance], laws.ratio(symbol)
            self.matrices[symbol] = Matrix(symbol.name, indices, variance, rho, symbol.law, widths)
        return self.matrices[symbol]

    def _clt(self, node: ir.Clt, args: list[Expr]) -> Expr:
        """vᵀx/√n → a centred Gaussian with Cov = E[v x v' x'] (limit.md section 2)."""
        body = args[0] * args[1]
        known = self._known(node, sp.Tuple(body))
        if known is not None:
            return known
        symbol = self._symbol(node, "ℓ")
        self._remember(node, sp.Tuple(body), symbol)
        local = self.names.local(symbol.indices)
        own, body = reindex(symbol, local), reindex(body, local)
        primes = {i: self.names.prime(i) for i in own.indices}
        covariance = self.clean(Expectation(body * reindex(body, primes)))
        self.emit(Equation(own, "clt", body, covariance=covariance, primed=primes))
        return symbol

    def _remarks(self) -> tuple[str, ...]:
        found = []
        if any(n.type.random for n in self.nodes):
            found.append("clt scalars are random in the limit; expectations of what uses them are conditional on them")
        if any(isinstance(n, ir.Shift) for n in self.nodes):
            found.append("members outside an axis are 0")
        if any(isinstance(n, ir.Spectral) for n in self.nodes):
            found.append(_SPECTRAL)
        if any(e.expression.has(Missing) for e in self.equations):
            found.append("some constructs of the program have no limit law in this version")
        return tuple(found)


def _whole(equation: Equation) -> Equation:
    """A product's expression: keep (hat + dot) + what is learned."""
    assert equation.hat is not None
    value = equation.keep * (equation.hat.symbol + equation.dot_expression())
    return replace(equation, expression=value if equation.learned is None else value + equation.learned)


def _is_multiple(value: Expr) -> bool:
    """A number times one named ket (or a scalar alone, of one factor): no name makes it shorter."""
    random = [f for f in sp.Mul.make_args(value) if copies_of(f)]
    return len(random) == 1 and isinstance(random[0], Ket)


def _renames(old: Sequence[Expr], new: Sequence[Expr]) -> bool:
    return len(old) == len(new) == len(set(new)) and all(i.is_Symbol for i in new)


def _sections(equations: list[Equation]) -> list[Equation]:
    """What does not change, the loop, the updates, and what is made of values over the steps."""
    looped = {(e.is_ket, e.name) for e in equations if e.time is not None}

    def section(e: Equation) -> int:
        if e.time is not None:
            return 2 if e.kind in ("state", "entry", "operator", "weight") else 1
        found = e.expression.atoms(Ket, Scalar)
        return 3 if any((isinstance(n, Ket), n.label) in looped for n in found) else 0

    return sorted(equations, key=section) if looped else equations


def _batched(nodes: list[ir.Node]) -> set[str]:
    """Families of matrices used with a symbolic member: all their members then count as one generator."""
    return {n.matrix.name for n in nodes if isinstance(n, ir.MatMul) and any(isinstance(m, Index) for m in n.member)}
