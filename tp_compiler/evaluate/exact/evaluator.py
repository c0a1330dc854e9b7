"""The exact evaluator: kets as formulas, scalars as numbers without sampling.

The instructions run in order under the ket rules (TP IVb, Def 2.6.5; docs/mathematics.md, section 2), in their first form: a
product W|x> is its hat, a new Gaussian family with covariance σ²<x|x'>, plus its dot, σ² Σ_y |y> E[∂|x>/∂Ŵᵀ|y>]. What
has no formula is a `NotExact` in place of a value, and so is everything that depends on it.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Never

import numpy as np

from tp_compiler.diagnostics import Diagnostic
from tp_compiler.evaluate import errors, laws, numerical_errors
from tp_compiler.evaluate.array_types import Array
from tp_compiler.evaluate.budget import current
from tp_compiler.evaluate.bulk import Bulk
from tp_compiler.evaluate.exact import compositions, derivatives, pointwise, stein
from tp_compiler.evaluate.exact.apart import Diagonals, is_large
from tp_compiler.evaluate.exact.atoms import Atoms
from tp_compiler.evaluate.exact.binding import fresh
from tp_compiler.evaluate.exact.expectations import EXACT, METHODS, PATIENCE, Expectations
from tp_compiler.evaluate.exact.ket_formula import (
    Bundle,
    GaussianFactor,
    KetFormula,
    Linear,
    LinearPart,
    Operand,
    Shared,
    Tensor,
    Term,
    Variable,
    bounded,
    constant,
    delta,
    gaussian,
    identity,
    number,
    one_hot,
    plus,
    private,
    product,
    summed,
    times,
    union,
)
from tp_compiler.evaluate.exact.places import Place, PositionTable, exchanged, labels_of, placed_by
from tp_compiler.evaluate.exact.trials import Trials
from tp_compiler.evaluate.gaussian.lines import Infinite
from tp_compiler.evaluate.gaussian.univariate import Univariate, monomial, univariate
from tp_compiler.evaluate.instructions import RULES
from tp_compiler.evaluate.interface import Exact, Interrupted, NotExact, TooLarge
from tp_compiler.evaluate.ranges import Range, with_signs
from tp_compiler.ir import nodes as ir
from tp_compiler.ir.primitives import PRIMITIVES
from tp_compiler.ir.program import Output
from tp_compiler.ir.types import Index, Type
from tp_compiler.ir.walk import dependencies, reachable

LAW_KNOWN = 1e-12  # the relative error of a parameter of a law that is not normal; beyond it, moments have an error


NOTES = {
    "exact": "every ket in it is a combination (or a polynomial) of Gaussians, or takes finitely many values",
    "closed-form": "its expectations are rows of the table of closed forms",
    "quadrature": "its expectations are integrals over a few Gaussians",
}


@dataclass(frozen=True, eq=False)
class Waiting:
    """The average of a ket, of which its users may need a diagonal alone."""

    form: KetFormula


#: What is known of an instruction, or why it is not.
Held = Operand | Waiting | Diagnostic | NotExact


class ExactEvaluator:
    """Runs the nodes of a plan; `output` gives a value, a Diagnostic, or NotExact with the reason."""

    averages: ClassVar[type[Expectations]] = Expectations
    reads_tables = True  # whether families are read at the positions of a table, and not as sums with zeros and ones

    def __init__(
        self,
        nodes: list[ir.Node],
        quadrature: bool = True,
        patience: float = PATIENCE,
        expectations: Expectations | None = None,
        asked: Collection[ir.Node] | None = None,
    ):
        """`asked`: the nodes whose values are wanted; None: all of them."""
        self.values: dict[ir.Node, Any] = {}
        self.method: dict[ir.Node, int] = {}
        self.ranges = with_signs(nodes)
        self.trials = Trials()
        self.atoms = Atoms.of(nodes)
        self.expect = expectations or self.averages(self.between, quadrature, patience)
        self._waits: set[ir.Node] = set()
        self._averages: dict[Any, tuple[Tensor, int]] = {}
        if self.reads_tables:
            self.expect.apart = Diagonals(self.expect.gaussians, lambda node: self.values[node.args[0]])
            self._waits = set() if asked is None else _only_summed(nodes, asked)
        self.products: dict[tuple[ir.MatrixSymbol, bool], dict[Any, list[ir.MatMul]]] = defaultdict(
            lambda: defaultdict(list)
        )
        with np.errstate(all="ignore"):
            try:
                for k, node in enumerate(nodes):
                    current().report(k, len(nodes))
                    self.values[node] = self._evaluate(node)
            except KeyboardInterrupt:
                self.values |= {n: Interrupted("interrupted") for n in nodes if n not in self.values}

    def value(self, node: ir.Node) -> Tensor | KetFormula | Diagnostic | NotExact:
        """The value of an instruction; one that is new is evaluated now, with what it needs."""
        if node not in self.values:
            new = reachable([node], lambda n: [a for a in dependencies(n) if a not in self.values])
            self.ranges |= with_signs(new, self.ranges)
            for n in new:
                self.values[n] = self._evaluate(n)
        found: Tensor | KetFormula | Diagnostic | NotExact = self.values[node]
        return found

    def output(self, output: Output) -> Exact | Diagnostic | NotExact:
        node = output.node
        value: Tensor | Diagnostic | NotExact = self.values[node]
        if not isinstance(value, Tensor):
            return value
        if not np.isfinite(value.values).all():
            problem = self._blame(node)
            cancelled = problem.code == "NX411" and value.error is not None and not np.all(np.isfinite(value.error))
            if problem.code == "NX411":  # by a number that is 0 up to its error, or exactly
                return numerical_errors.undecided(node) if cancelled else problem
            return NotExact(problem.message)
        shape = tuple(i.size for i in output.indices)
        try:
            current().room(3.0 * math.prod(shape), "an output and its error")
        except NotExact as reason:
            return reason
        array = np.array(np.broadcast_to(value.at(output.indices), shape), dtype=np.float64)
        method = METHODS[self.method[node]]
        off = value.off if isinstance(value.off, Bulk) else value.error_at(output.indices)
        error = errors.shown(array, off, method == "quadrature")
        if not np.all(np.isfinite(error)):
            pole = self._pole(node)
            if pole is not None:
                return numerical_errors.undecided(pole)
            error = np.where(np.isfinite(error), error, np.finfo(float).max)  # exp of anything, with no pole
        return Exact(array, error, method, NOTES[method])

    def _blame(self, node: ir.Node) -> Diagnostic:
        args = [self.values[a] for a in node.args]
        known = all(isinstance(a, Tensor) for a in args)
        return numerical_errors.blame(node, [a.values for a in args] if known else ())

    def _pole(self, node: ir.Node) -> ir.Node | None:
        """The first instruction below that may divide by 0, of those whose error is infinite."""
        found, todo = {node}, [node]
        while todo:
            for a in todo.pop().args:
                x = self.values[a]
                if a not in found and not (isinstance(x, Tensor) and (x.error is None or np.all(np.isfinite(x.error)))):
                    found.add(a)
                    todo.append(a)
        return next((n for n in sorted(found, key=lambda n: n.serial) if self._may_divide(n)), None)

    def _may_divide(self, node: ir.Node) -> bool:
        args = [self.values[a] for a in node.args]
        if not isinstance(self.values[node], Tensor):
            return False
        if not (isinstance(node, ir.Map) and all(isinstance(a, Tensor) for a in args)):
            return isinstance(node, ir.Linalg | ir.Spectral) or any(isinstance(a, KetFormula) for a in args)
        own, known = union(args), [self.ranges[a] for a in node.args]
        return bool(np.any(errors.pole(node.fn, [a.at(own) for a in args], [a.error_at(own) for a in args], known)))

    def _evaluate(self, node: ir.Node) -> Held:
        args = [self.values[a] for a in node.args]
        self.expect.method = EXACT
        bad = next((a for a in args if isinstance(a, Diagnostic | NotExact)), None)
        if bad is not None:
            return bad
        try:
            current().poll()
            value = self.rules[type(node)](self, node, args)
        except NotExact as reason:
            value = reason.with_traceback(None)  # which keeps the arrays of every call
        except Infinite as reason:
            value = numerical_errors.no_average(node, str(reason))
        except MemoryError:
            value = TooLarge("an array that does not fit into the memory")
        except numerical_errors.Refused as refused:
            value = refused.diagnostic
        if isinstance(value, Tensor):
            value = self.trials.carried(node, args, value, lambda moved: self._again(node, moved))
            value = replace(value, off=errors.within(value.values, value.off, self.ranges[node]))
        self.method[node] = max([self.expect.method, *(self.method[a] for a in node.args)])
        return value

    # -- leaves -------------------------------------------------------------------------------------------------
    def _constant(self, node: ir.Constant, args: list[Operand]) -> Tensor:
        return number(node.value)

    def _passed_on(self, node: ir.InitialScalar | ir.Stop, args: list[Operand]) -> Operand:
        return args[0]

    def _array(self, node: ir.Array, args: list[Operand]) -> Tensor:
        return Tensor(np.asarray(node.values, dtype=np.float64), node.type.indices)

    def _position(self, node: ir.Position, args: list[Operand]) -> Tensor:
        return Tensor(np.arange(1.0, node.index.size + 1), (node.index,))

    def _unavailable(self, node: ir.Unavailable, args: list[Operand]) -> Never:
        raise NotExact(f"{node.construct} is not evaluated in this version")

    def _training(self, node: ir.Node, args: list[Operand]) -> Never:
        raise NotExact("training with a nonlinear network or optimizer")

    def _clt(self, node: ir.Clt, args: list[Operand]) -> Never:
        raise NotExact("the law of a `clt` scalar is sampled")

    def _initialket(self, node: ir.InitialKet, args: list[Tensor]) -> KetFormula:
        mean, spread, *parameters = args
        numerical_errors.check_law(node.symbol, spread.values, mean.values)
        if node.symbol.law != "normal":
            return self._other(node, parameters)
        if node.symbol.pair is not None:
            left, right = node.symbol.pair
            rest = tuple(x for x in spread.labels if x not in (left, right))
            numerical_errors.covariance_root(spread.at((*rest, left, right)), node.symbol)
        centre = constant(mean)
        if not np.any(spread.values):
            return centre
        family = gaussian(Variable(node, node.type.indices))
        return _simplified([*family.terms, *(centre.terms if np.any(mean.values) else ())])

    def _other(self, node: ir.InitialKet, parameters: list[Tensor]) -> KetFormula:
        """A ket with another law."""
        if any(pointwise.relative_error(p) > LAW_KNOWN for p in parameters):
            raise NotExact("a law with a parameter that is known up to an error")
        table = self.atoms.table(node, parameters)
        if table is not None:
            return constant(table)
        if node.symbol.law == "rows":
            raise NotExact("copies of a ket that takes rows of an array")
        return self._image(node, parameters)

    def _image(self, node: ir.InitialKet, parameters: list[Tensor]) -> KetFormula:
        """A ket with another law, as a function of a Gaussian one."""
        own = union(parameters)
        image = laws.image(node.symbol.law, [p.at(own) for p in parameters])
        zero, one = (ir.Constant(type=Type(), value=value, span=node.span) for value in (0.0, 1.0))
        hidden = replace(node, symbol=replace(node.symbol, law="normal"), args=(zero, one))
        self.values[one] = number(1.0)
        z = gaussian(Variable(hidden, node.type.indices)).scaled(number(image.slope))
        offset, factor, base = (Tensor(x, own if np.ndim(x) else ()) for x in (image.offset, image.factor, image.base))
        moved = _simplified([*z.terms, *(constant(offset).terms if np.any(offset.values) else ())])
        value = self._function(image.fn, [moved]).scaled(factor)
        return _simplified([*value.terms, *(constant(base).terms if np.any(base.values) else ())])

    # -- covariances of Gaussian families -------------------------------------------------------------------------
    def between(self, a: Variable, b: Variable) -> Tensor:
        """Cov(a, b) of two variables of one group, over their labels.

        Computed once for each pattern of labels, with canonical names: one recursion in depth, not one for every name.
        """
        if _rank(a) > _rank(b):
            a, b = b, a
        canonical: dict[Place, Place] = {}
        for place in (*a.places, *b.places):
            if not isinstance(place, int):
                canonical.setdefault(place, Index(f"@{len(canonical)}", place.axis))
        key = Variable(a.node, exchanged(a.places, canonical)), Variable(b.node, exchanged(b.places, canonical))
        value, method = self.expect.recursion.value(key, lambda: self.expect.kept(lambda: self._covariance(*key)))
        self.expect.used(method)
        back = {new: old for old, new in canonical.items() if isinstance(new, Index)}
        found: Tensor = value.renamed(back)
        return found

    def _covariance(self, a: Variable, b: Variable) -> Tensor:
        if isinstance(b.node, Bundle):
            other = Linear(number(0.0), (LinearPart(number(1.0), a),))
            return self.expect.covariance(b.node.placed(b.places), other)
        return self._initial(a, b) if isinstance(a.node, ir.InitialKet) else self._hats(a, b)

    def _initial(self, a: Variable, b: Variable) -> Tensor:
        assert isinstance(a.node, ir.InitialKet)
        spread: Tensor = self.values[a.node.args[1]]
        own = a.node.symbol.indices
        pair = a.node.symbol.pair
        places: dict[Index, Place] = dict(zip(own, a.places, strict=True))
        factors = []
        for index, p, q in zip(own, a.places, b.places, strict=True):
            if pair is not None and index == pair[0]:
                places[pair[1]] = q
            elif (d := delta(p, q)) is not None:
                factors.append(d)
        return times(spread.renamed(places), *factors)

    def _hats(self, a: Variable, b: Variable) -> Tensor:
        """Cov(Ŵ|x>, Ŵ|x'>) = σ² <x|x'>, and ρσ² for Wᵀ; members of a family are independent."""
        assert isinstance(a.node, ir.MatMul) and isinstance(b.node, ir.MatMul)
        x, y = (self._placed_operand(v) for v in (a, b))
        factors = [self._scale(a.node, a.members)]
        for p, q in zip(a.members, b.members, strict=True):
            if (d := delta(p, q)) is not None:
                factors.append(d)
        return times(self._bracket([x, y]), *factors)

    def _placed_operand(self, variable: Variable) -> KetFormula:
        node = variable.node
        assert isinstance(node, ir.MatMul)
        form: KetFormula = self.values[node.args[0]]
        return form.placed(dict(zip(node.type.indices, variable.places, strict=True)))

    def scale(self, node: ir.MatMul) -> Tensor:
        """σ² (or ρσ²) of a product: the covariance of its hats, per <x|x'>."""
        return self._scale(node, node.member)

    def _scale(self, node: ir.MatMul, members: tuple[Place, ...]) -> Tensor:
        """σ² at the members (times ρ = rows/cols for the transpose)."""
        variance: Tensor = self.values[node.matrix.variance]
        numerical_errors.check_law(node.matrix, variance.values)
        placed = variance.renamed(dict(zip(node.matrix.indices, members, strict=True)))
        ratio = node.matrix.rows.ratio / node.matrix.cols.ratio if node.transposed else 1.0
        return times(number(ratio), placed)

    def _bracket(self, forms: list[KetFormula]) -> Tensor:
        multiplied = self.expect.multiplied(forms)
        if multiplied is None:
            raise NotExact("a product of too many terms")
        return self.atoms.averaged(self.expect.form(multiplied))

    # -- products with matrices -----------------------------------------------------------------------------------
    def _matmul(self, node: ir.MatMul, args: list[KetFormula]) -> Operand:
        self.expect.gaussians.operand(node, args[0])
        terms = list(gaussian(Variable(node, node.type.indices)).terms)
        for earlier in self.met(node):
            terms += self._dot(node, args[0], earlier)
        self.products[node.matrix, node.transposed][_position(node)].append(node)
        return _simplified(terms)

    def together(self, node: ir.MatMul) -> list[ir.MatMul]:
        """The products so far with the same matrix: of the same member of a family, if both name one."""
        return self._with(node, node.transposed)

    def met(self, node: ir.MatMul) -> list[ir.MatMul]:
        """The products with the transpose so far, of the same member of the family if both name one."""
        return self._with(node, not node.transposed)

    def _with(self, node: ir.MatMul, transposed: bool) -> list[ir.MatMul]:
        products, own = self.products[node.matrix, transposed], _position(node)
        if own is None:
            return [n for found in products.values() for n in found]
        return [*products[own], *products[None]]

    def _dot(self, node: ir.MatMul, x: KetFormula, earlier: ir.MatMul) -> list[Term]:
        """|y> σ² E[∂|x>/∂Ŵᵀ|y>] for one earlier product Wᵀ|y>, summed over its family."""
        new: dict[Index, Place] = {i: fresh(i) for i in earlier.type.indices}
        places = tuple(new.values())
        variable = Variable(earlier, places)
        theta = self._derivative(x, variable)
        if theta is None or not np.any(theta.values):
            return []
        factors = [theta, self.scale(node)]
        for p, q in zip(node.member, variable.members, strict=True):
            if (d := delta(p, q)) is not None:
                factors.append(d)
        y: KetFormula = self.values[earlier.args[0]].placed(new)
        over = labels_of(places)
        return list(y.scaled(times(*factors)).summed(over).parts)

    def _derivative(self, x: KetFormula, variable: Variable) -> Tensor | None:
        """E ∂|x>/∂variable: through the ket's own neuron only (TP IVb, Def 2.6.5)."""
        gaussians = self.expect.gaussians
        by = gaussians.variable(variable)
        total = None
        todo = list(reversed(x.parts))
        while todo:
            current().poll()
            term = todo.pop()
            made = gaussians.term(term)
            if made.times(by).vanishes or not made.meets(by):
                continue  # the derivative is odd in a symbol, so its mean is 0; or there is none
            if any(isinstance(f, Shared) for f in term.factors):
                todo += reversed(term.distributed())
                continue
            part = self._term_derivative(term, variable)
            if part is not None:
                total = part if total is None else plus(total, part)
        return None if total is None else self.atoms.averaged(total)

    def _term_derivative(self, term: Term, variable: Variable) -> Tensor | None:
        total = None
        factors = pointwise.fused(term.factors)
        for k, factor in enumerate(factors):
            slope = derivatives.slope(factor, variable)
            if slope is None:
                continue
            rest = factors[:k] + factors[k + 1 :]
            inner = self._mean_derivative(factor, rest)
            if inner is None:
                continue
            part = summed([term.coefficient, inner, slope], term.over)
            total = part if total is None else plus(total, part)
        return total

    def _mean_derivative(self, factor: GaussianFactor, rest: tuple[GaussianFactor, ...]) -> Tensor | None:
        """E f'(ℓ) Π rest; factors that share no Gaussians with f are averaged separately."""
        near, far = self._cluster_of(factor, rest)
        others = self.expect.product(far)
        if others is None:
            return None
        own = stein.mean_derivative(self.expect.product, self.expect.covariance, factor, near)
        return None if own is None else times(own, others)

    def _cluster_of(
        self, factor: GaussianFactor, rest: tuple[GaussianFactor, ...]
    ) -> tuple[tuple[GaussianFactor, ...], tuple[GaussianFactor, ...]]:
        """The other factors, parted into those that share Gaussians with `factor` and the independent ones."""
        near = next(c for _, c in self.expect.gaussians.clusters((factor, *rest)) if any(f is factor for f in c))
        own = {id(f) for f in near}
        return tuple(f for f in rest if id(f) in own), tuple(f for f in rest if id(f) not in own)

    # -- entrywise ------------------------------------------------------------------------------------------------
    def _map(self, node: ir.Map, args: list[Operand]) -> Operand:
        forms = [a for a in args if isinstance(a, KetFormula)]
        scalars = [a for a in args if isinstance(a, Tensor)]
        if not forms:
            own = union(scalars)  # a scalar may be constant over an index of its type
            return _function_of_numbers(node.fn, scalars, own, [self.ranges[a] for a in node.args])
        if node.fn == "add":
            return _simplified(
                [t for a in args for t in (a if isinstance(a, KetFormula) else constant(a)).shared().parts]
            )
        if node.fn == "mul":
            multiplied = product(forms)
            if multiplied is None:
                raise NotExact("a product of too many terms")
            return _simplified(multiplied.scaled(times(*scalars)).parts if scalars else multiplied.parts)
        if node.fn == "div" and isinstance(args[1], Tensor):
            known = [(1.0, 1.0), self.ranges[node.args[1]]]
            factor = _function_of_numbers("div", [number(1.0), args[1]], args[1].labels, known)
            return _simplified(forms[0].scaled(factor).parts)
        inverse = compositions.reciprocal(args[1]) if node.fn == "div" and isinstance(args[1], KetFormula) else None
        if inverse is not None:
            return _simplified(_quotient(args[0], inverse).terms)
        return self._function(node.fn, args)

    def _function(self, fn: str, args: list[Operand]) -> KetFormula:
        """f of kets and numbers, as one factor."""
        if all((isinstance(a, KetFormula) and _is_number(a)) or isinstance(a, Tensor) for a in args):
            tensors = [
                a if isinstance(a, Tensor) else plus(number(0.0), *(t.coefficient for t in a.terms)) for a in args
            ]
            own = tuple(dict.fromkeys(x for t in tensors for x in t.labels))
            return constant(_function_of_numbers(fn, tensors, own))
        first, *rest = args
        linear = first.linear() if isinstance(first, KetFormula) else None
        if linear is not None and all(isinstance(a, Tensor) and np.ndim(a.values) == 0 for a in rest):
            named = _named(fn, [float(a.values) for a in rest if isinstance(a, Tensor)])
            if named is not None:
                return KetFormula((Term(number(1.0), (GaussianFactor(named, (linear,)),)),))
        return pointwise.marked(pointwise.applied(fn, args), args)

    # -- averages, sums and indices ---------------------------------------------------------------------------------
    def _needed(self, node: ir.Contract, args: list[Tensor | Waiting]) -> Tensor:
        """A sum of products of averages, of which each is computed where no other factor vanishes."""
        assert self.expect.apart is not None
        over = list(node.over)
        followed = any(a in self.trials.runs for a in node.args)
        for k in range(0 if followed else len(args)):
            for b in node.over:
                known = args[k]
                if not isinstance(known, Waiting) or b not in known.form.labels:
                    continue
                same = [a for a in known.form.labels if a != b and a.axis == b.axis]
                agrees = next((a for a in same if self.expect.apart.form(known.form, a, b)), None)
                if agrees is not None:
                    args = [_at(x, {b: agrees}) for x in args]
                    over.remove(b)
        return summed([self._averaged(n, x) for n, x in zip(node.args, args, strict=True)], over)

    def _averaged(self, node: ir.Node, x: Tensor | Waiting) -> Tensor:
        """The value of an instruction, once for all that need the same part of it."""
        if isinstance(x, Tensor):
            return x
        key = node, x.form.labels
        if key not in self._averages:
            try:
                self._averages[key] = self.expect.kept(lambda: self.atoms.averaged(self.expect.form(x.form)))
            except Infinite as reason:
                raise numerical_errors.Refused(numerical_errors.no_average(node, str(reason))) from None
        value, method = self._averages[key]
        self.expect.used(method)
        return value

    def _contract(self, node: ir.Contract, args: list[Any]) -> Operand | Waiting:
        forms = [a for a in args if isinstance(a, KetFormula)]
        scalars = [a for a in args if isinstance(a, Tensor)]
        if not forms:
            return summed(scalars, node.over) if len(scalars) == len(args) else self._needed(node, args)
        multiplied = product(forms) if node.type.slots else self.expect.multiplied(forms)
        if multiplied is None:
            raise NotExact("a product of too many terms")
        whole = (multiplied.scaled(times(*scalars)) if scalars else multiplied).summed(node.over)
        if node in self._waits:
            return Waiting(whole)
        if not node.type.slots:
            return self.atoms.averaged(self.expect.form(whole))
        return self._closed(whole, node.slots) if node.slots else _simplified(whole.parts)

    def _closed(self, form: KetFormula, slots: tuple[int, ...]) -> KetFormula:
        """The average over copies: factors without other copies become numbers, the others wait for the
        row."""
        copies = {slot: private() for slot in slots}
        terms = []
        for term in form.terms:
            term = term.copied(copies)
            waiting = _touching([0, *(c for c in term.copies if c > 0)], term.factors)
            done = tuple(f for f in term.factors if f not in waiting)
            value = self.expect.product(done) if done else number(1.0)
            if value is not None:
                coefficient = times(term.coefficient, value)
                terms.append(
                    Term(self.atoms.averaged(coefficient) if 0 in slots else coefficient, tuple(waiting), term.over)
                )
        return _simplified(terms)

    def _copy(self, node: ir.Copy, args: list[Operand]) -> Operand:
        (x,) = args
        return KetFormula(tuple(t.copied({0: node.slot}) for t in x.terms)) if isinstance(x, KetFormula) else x

    def _reduce(self, node: ir.Reduce, args: list[Operand]) -> Tensor:
        (x,) = args
        if isinstance(x, KetFormula):
            raise NotExact(f"{node.op} over kets")
        own = node.args[0].type.indices
        values = np.broadcast_to(x.at(own), [i.size for i in own])
        rule = _rule(node, [own])
        if node.op != "prod":
            value, error = errors.monotone(lambda v: rule([v]), values, _spread(x, own))
            return Tensor(value, node.type.indices, error)
        return _probed(rule, [(values, _spread(x, own))], node.type.indices)

    def _reindex(self, node: ir.Reindex, args: list[Operand]) -> Operand:
        x, *_ = args
        numbers = [a for a in args if isinstance(a, Tensor)]
        return _entries(node, numbers, 1) if isinstance(x, Tensor) else self._moved(x, node, numbers)

    def _moved(self, x: KetFormula, node: ir.Reindex, gathers: list[Tensor]) -> KetFormula:
        """Renames, selections and gathers."""
        places: dict[Index, Place] = {}
        for index, selector in zip(node.args[0].type.indices, node.selectors, strict=True):
            if not isinstance(selector, ir.Gather):
                places[index] = selector
                continue
            gather = gathers[selector.arg - 1]
            positions = numerical_errors.positions(gather.values, node.args[selector.arg], node)
            places[index] = placed_by(index.axis, positions, gather.labels)
        return self._read(x, places)

    def _read(self, x: KetFormula, places: dict[Index, Place]) -> KetFormula:
        """A ket at other places."""
        tables = {label: p for label, p in places.items() if isinstance(p, PositionTable)}
        if not tables:
            return x.placed(places)
        parts = []
        for term in x.shared().parts:
            hot = {label: (p, fresh(label)) for label, p in tables.items() if self._by_sum(term, label)}
            placed = term.placed(places | {label: new for label, (_, new) in hot.items()})
            coefficient = times(placed.coefficient, *(one_hot(p, new) for p, new in hot.values()))
            parts.append(replace(placed, coefficient=coefficient).bind(tuple(new for _, new in hot.values())))
        return _simplified(parts)

    def _by_sum(self, term: Term, label: Index) -> bool:
        """Whether entries are read as a sum with zeros and ones: those of initial kets in a linear combination, whose
        coefficients then add up."""
        if not self.reads_tables:
            return True
        parts = term.factors[0].arguments[0].flat() if term.factors and term.is_linear else ()
        return any(isinstance(p.variable.node, ir.InitialKet) and label in p.variable.labels for p in parts)

    def _along(self, node: ir.Along, args: list[Operand]) -> Operand:
        (x,) = args
        if isinstance(x, Tensor):
            return _entries(node, [x]) if node.terms[1] < 2 else _sums(node, x)
        if isinstance(node, ir.Shift) and self.reads_tables:
            return self._shifted(node, x)
        label = fresh(node.index)
        bounded((node.index, label))
        unit = np.eye(node.index.size)  # the image of each member
        hot = Tensor(RULES[type(node)](node, [(unit, (label, node.index))], (node.index, label)), (node.index, label))
        return _simplified(x.placed({node.index: label}).scaled(hot).summed((label,)).parts)

    def _shifted(self, node: ir.Shift, x: KetFormula) -> KetFormula:
        """x[s - by], 0 outside."""
        size, from_here = node.index.size, np.arange(node.index.size) - node.by
        moved = self._read(x, {node.index: placed_by(node.index.axis, from_here % size, (node.index,))})
        inside = Tensor(((from_here >= 0) & (from_here < size)).astype(float), (node.index,))
        return moved if inside.values.all() else _simplified(moved.scaled(inside).parts)

    def _stack(self, node: ir.Stack, args: list[Operand]) -> Operand:
        numbers = [a for a in args if isinstance(a, Tensor)]
        if len(numbers) == len(args):
            return _entries(node, numbers)
        terms: list[Term] = []
        for k, a in enumerate(args):
            here = delta(node.index, k + 1)
            assert here is not None
            terms += (a if isinstance(a, KetFormula) else constant(a)).scaled(here).parts
        return _simplified(terms)

    def _join(self, node: ir.Join, args: list[Operand]) -> Tensor:
        numbers = [a for a in args if isinstance(a, Tensor)]
        if len(numbers) < len(args):
            raise NotExact("a basis of kets")
        return self._spectral(node, numbers)

    def _spectral(self, node: ir.Spectral | ir.Join, args: list[Tensor]) -> Tensor:
        rule = _rule(node, [a.labels for a in args])
        return _probed(rule, [(a.values, a.error) for a in args], node.type.indices)

    def _linalg(self, node: ir.Linalg, args: list[Tensor]) -> Tensor:
        bounded(node.type.indices)
        found = _rule(node, [a.labels for a in args])([a.values for a in args])
        return Tensor(found, node.type.indices)  # trials give its error

    def _again(self, node: ir.Node, args: list[Tensor]) -> Operand:
        """The instruction once more, with other numbers."""
        if isinstance(node, ir.Linalg):
            args = [_symmetric(node, args[0]), *args[1:]]
        return self.rules[type(node)](self, node, args)

    #: One rule an instruction.
    rules: ClassVar[dict[type[ir.Node], Callable[[ExactEvaluator, Any, list[Any]], Any]]] = {
        ir.Constant: _constant,
        ir.Array: _array,
        ir.Position: _position,
        ir.Unavailable: _unavailable,
        ir.InitialKet: _initialket,
        ir.InitialScalar: _passed_on,
        ir.Stop: _passed_on,
        ir.MatMul: _matmul,
        ir.Map: _map,
        ir.Contract: _contract,
        ir.Copy: _copy,
        ir.Reduce: _reduce,
        ir.Reindex: _reindex,
        **dict.fromkeys(ir.ALONG, _along),
        ir.Stack: _stack,
        ir.Join: _join,
        ir.Spectral: _spectral,
        ir.Linalg: _linalg,
        ir.Clt: _clt,
        ir.Carry: _training,
        ir.Clock: _training,
        ir.Apply: _training,
        ir.Trace: _training,
    }


# ---------------------------------------------------------------------------------------------------------- helpers
def _only_summed(nodes: Iterable[ir.Node], asked: Collection[ir.Node]) -> set[ir.Node]:
    """Large averages that enter nothing but sums of products of numbers, over one of two labels of an axis at least."""
    users: dict[ir.Node, list[ir.Node]] = defaultdict(list)
    found = []
    for node in nodes:
        for a in node.args:
            users[a].append(node)
        if isinstance(node, ir.Contract) and node.slots and not node.type.slots and is_large(node.type.indices):
            found.append(node)
    return {n for n in found if n not in asked and users[n] and all(_sums_pairs(u, n) for u in users[n])}


def _sums_pairs(user: ir.Node, of: ir.Node) -> bool:
    if not isinstance(user, ir.Contract) or any(a.type.slots for a in user.args):
        return False
    own = of.type.indices
    return any(a.axis == b.axis for b in own if b in user.over for a in own if a != b)


def _at(x: Tensor | Waiting, places: dict[Index, Place]) -> Tensor | Waiting:
    return x.renamed(places) if isinstance(x, Tensor) else Waiting(x.form.placed(places))


def _position(node: ir.MatMul) -> tuple[int, ...] | None:
    """The member of the family, if it is one."""
    fixed = tuple(m for m in node.member if isinstance(m, int))
    return fixed if len(fixed) == len(node.member) else None


def _rank(v: Variable) -> tuple[bool, int]:
    """Bundles after the others, later ones after earlier ones."""
    return (True, v.node.linear.root) if isinstance(v.node, Bundle) else (False, v.node.serial)


def _named(fn: str, params: list[float]) -> Univariate | None:
    """The table's function of that name: a primitive of one Gaussian and constant parameters."""
    if fn == "pow":
        (power,) = params
        return monomial(int(power)) if power == int(power) and 1 <= power <= compositions.MOST_POWER else None
    if fn == "square":
        return monomial(2)
    if fn == "leaky_relu" or (PRIMITIVES[fn].arity == 1 and not params):
        return univariate(fn, *params)
    return None


def _quotient(above: KetFormula | Tensor, inverse: KetFormula) -> KetFormula:
    if isinstance(above, Tensor):
        return inverse.scaled(above)
    multiplied = product([above, inverse])
    if multiplied is None:
        raise NotExact("a product of too many terms")
    return multiplied


def _function_of_numbers(fn: str, args: list[Tensor], own: tuple[Index, ...], known: Sequence[Range] = ()) -> Tensor:
    value, error = errors.applied(fn, [a.at(own) for a in args], [a.error_at(own) for a in args], known)
    return Tensor(value, own, errors.full(error, np.shape(value)))


def _spread(x: Tensor, own: tuple[Index, ...]) -> Array | None:
    """The error over all its labels."""
    error = x.error_at(own)
    return None if error is None else np.broadcast_to(error, [i.size for i in own])


def _rule(node: ir.Node, of: Sequence[tuple[Index, ...]]) -> Callable[[Sequence[Array]], Array]:
    """The array of an instruction as a function of the arrays of its arguments, over the labels `of`."""
    rule, own = RULES[type(node)], node.type.indices
    return lambda values: rule(node, list(zip(values, of, strict=True)), own)


def _entries(node: ir.Node, args: Sequence[Tensor], moved: int | None = None) -> Tensor:
    """Entries of the first `moved` arguments moved to other places (given by the other arguments), with their errors."""
    of = [a.type.indices for a in node.args]
    values = [np.broadcast_to(x.at(own), [i.size for i in own]) for x, own in zip(args, of, strict=True)]
    spreads = [_spread(x, own) for x, own in zip(args[:moved], of, strict=False)]
    rule = _rule(node, of)
    bounded(node.type.indices)
    found = rule(values)
    if all(e is None for e in spreads):
        return Tensor(found, node.type.indices)
    known = [np.zeros(np.shape(v)) if e is None else e for v, e in zip(values, spreads, strict=False)]
    return Tensor(found, node.type.indices, errors.compact(rule([*known, *values[len(known) :]])))


def _sums(node: ir.Along, x: Tensor) -> Tensor:
    """The same for sums of entries: rounding is relative to the largest sum of absolute values, and grows with their length."""
    found = _entries(node, [x])
    whole = _entries(node, [Tensor(np.abs(x.values), x.labels)])
    rounding = errors.rounding(found.values, math.sqrt(node.terms[1]) * errors.largest(whole.values))
    return Tensor(found.values, found.labels, errors.full(errors.added(found.error, rounding), np.shape(found.values)))


def _probed(
    function: Callable[[list[Array]], Array],
    args: list[tuple[Array, errors.Error]],
    own: tuple[Index, ...],
) -> Tensor:
    """A function of whole arrays, with its error."""

    def probe(values: list[Array]) -> Array:
        try:
            return function(values)
        except numerical_errors.Refused:
            raise errors.Unknown from None

    values = [v for v, _ in args]
    bounded(own)
    result = function(values)
    error = errors.probed(probe, values, [e for _, e in args], result)
    return Tensor(result, own, error)


def _symmetric(node: ir.Linalg, matrix: Tensor) -> Tensor:
    """The matrix made symmetric again for functions of symmetric matrices, since a trial moves its halves separately."""
    if node.op in ("inv", "solve", "logdet"):
        return matrix
    rows, cols = matrix.labels.index(node.rows), matrix.labels.index(node.cols)
    return Tensor((matrix.values + np.swapaxes(matrix.values, rows, cols)) / 2, matrix.labels)


def _is_number(form: KetFormula) -> bool:
    return all(not t.factors and not t.over for t in form.parts)


def _simplified(terms: Iterable[Term]) -> KetFormula:
    """Combines terms: linear terms become one Gaussian ket, numbers become one number, functions of one Gaussian
    become one unless they are in the table."""
    linear: list[Term] = []
    others: list[Term] = []
    for t in terms:
        (linear if t.is_linear else others).append(t)
    whole = (*_gaussian(linear), *others)
    return KetFormula(pointwise.gathered(whole) if others else whole)


def _gaussian(linear: list[Term]) -> tuple[Term, ...]:
    """Linear terms as one Gaussian ket. A family of multiples of one ket, too: x_i |u> squared is a function of one
    Gaussian for every i, where x_i^2 |u>^2 has another coefficient for each."""
    if not linear or (len(linear) == 1 and not linear[0].over and not np.ndim(linear[0].coefficient.values)):
        return tuple(linear)
    gathered = KetFormula(tuple(linear)).linear()
    if gathered is None:
        return tuple(linear)
    merged = Linear(gathered.mean, _merged_parts(gathered.parts), gathered.copy, affine=gathered.affine)
    return (Term(number(1.0), (identity(merged),)),) if merged.parts else (Term(merged.mean, ()),)


def _merged_parts(parts: tuple[LinearPart, ...]) -> tuple[LinearPart, ...]:
    """Parts of one variable added up: Σ_d a_d |u[d]> + Σ_e b_e |u[e]> = Σ_d (a_d + b_d) |u[d]>."""
    merged: dict[Variable, tuple[LinearPart, list[Index]]] = {}
    rest = []
    for part in parts:
        bound = [p for p in part.variable.labels if p in part.over]
        key = part.variable.placed({p: Index(f"@{k}", p.axis) for k, p in enumerate(bound)})
        if len(bound) < len(part.over):
            rest.append(part)
        elif key in merged:
            other, names = merged[key]
            added = part.coefficient.renamed(dict(zip(bound, names, strict=True)))
            merged[key] = replace(other, coefficient=plus(other.coefficient, added)), names
        else:
            merged[key] = part, bound
    return (*(part for part, _ in merged.values()), *rest)


def _touching(copies: list[int], factors: tuple[GaussianFactor, ...]) -> list[GaussianFactor]:
    """The factors that depend, directly or through shared copies, on the given copies."""
    reached, found = set(copies), []
    grown = True
    while grown:
        grown = False
        for f in factors:
            own = {a.copy for a in f.arguments}
            if f not in found and own & reached:
                found.append(f)
                reached |= own
                grown = True
    return [f for f in factors if f in found]
