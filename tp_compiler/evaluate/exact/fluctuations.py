"""The fluctuation of an untrained network's outputs at finite width, by Gaussian moments: Σ in f_n ≈ f + N(0, Σ/n).

A network of width n is a system of ρ_s n iid particles in each space s, and every number in it a function of averages of these,
c_k = <φ_k>. To first order f_n - f is the sum over the spaces of the averages of influence functions (von Mises 1947)

    IF_s = Σ_k a_k (φ_k - c_k) over the averages of the space,    Σ = Σ_s Cov(IF_s, IF_s)/ρ_s,

where a_k = ∂f/∂c_k counts every way in which an average acts on an output. They are found against the order of the program:

* a number computed from others hands its a on by the chain rule; an average <φ>, to its φ.
* a number c inside kets has a_c = Σ_k a_k <∂φ_k/∂c>.
* Products Ŵ|x_j> are Gaussian with covariances s <x_i|x_j>, s = σ² (ρσ² for Wᵀ), so that by Price's theorem the averages <x_i|x_j>
  have Σ_k a_k E ∂²φ_k/∂h_i∂h_j s (half of it for i = j). Each pair is due at the later of its two products, when everything that is
  computed from it is known.
* Where Wᵀ has met |y_a>, with |g_a> = Wᵀ|y_a>, the product |h> = W|x> holds |y_a> D_a, and in every network D is what
  <y_a|h> = <g_a|x>/ρ demands. With a multiplier μ_a for each of these identities, D is stationary where
  Σ_b <y_a|y_b> μ_b = Σ_k a_k E y_a ∂φ_k/∂h. So |y_a>|h> enters with -μ_a, |g_a>|x> with μ_a/ρ, and D is constant. This
  is the projection P⊥ of fresh hats off the kets that the transpose has met.

Only the averages <φ_k φ_l> of at most two integrands remain. Weights are found for all entries at the same time, over one label.
Nothing here depends on the laws of the matrices, beyond their variance: Σ is universal, but where functions jump at sums of signs.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from tp_compiler.diagnostics import Diagnostic, ProgramError
from tp_compiler.evaluate import errors
from tp_compiler.evaluate.budget import WORK, Budget, current
from tp_compiler.evaluate.exact.derivatives import Derivatives
from tp_compiler.evaluate.exact.evaluator import NOTES, ExactEvaluator
from tp_compiler.evaluate.exact.expectations import EXACT, METHODS
from tp_compiler.evaluate.exact.ket_formula import KetFormula, Tensor, Variable, number, plus, times
from tp_compiler.evaluate.exact.members import MemberByMember
from tp_compiler.evaluate.exact.pairs_of_integrands import PairsOfIntegrands
from tp_compiler.evaluate.gaussian.lines import Infinite
from tp_compiler.evaluate.interface import Exact, NotExact
from tp_compiler.ir import nodes as ir
from tp_compiler.ir.build import Builder
from tp_compiler.ir.dependence import lattice_at_jumps
from tp_compiler.ir.primitives import PRIMITIVES
from tp_compiler.ir.program import Output, Program
from tp_compiler.ir.types import Axis, Index
from tp_compiler.ir.walk import reachable
from tp_compiler.transform import entrywise

MOST_ENTRIES = 64  # of all outputs together: Σ has their square
QUADRATURE = 4.0  # seconds of it; to sample takes no longer
DEPENDENT = 1e-11  # relative to the largest eigenvalue: kets that the transpose has met and that depend on the others
NEAR, SHARE_AT_KINKS = 1e-9, 1e-6  # a distance, relative to the root mean square, and a part of the neurons
MINUS = number(-1.0)


def sigma(program: Program, outputs: Sequence[Output], quadrature: bool = True, budget: Budget | None = None) -> Exact:
    """Σ over the entries of all outputs, one output after the other, each in C order: n Cov(f_n, g_n) → Σ[f, g], n the base
    width. Raises NotExact with the reason, also where to sample takes less time (with no `budget` of the caller's).
    """
    count = sum(int(np.prod([i.size for i in o.indices])) for o in outputs)
    if count > MOST_ENTRIES:
        raise NotExact(f"the covariances of {count} entries, of which at most {MOST_ENTRIES} are computed together")
    members = MemberByMember(Builder())
    roots = [
        members.entry(o.node, {i: k + 1 for i, k in zip(o.indices, where, strict=True)})
        for o in outputs
        for where in np.ndindex(*(i.size for i in o.indices))
    ]
    budget = budget or Budget(work=WORK, remedy="")
    with np.errstate(all="ignore"), budget.running():
        try:
            _must_be_universal(reachable(roots))
            return Influence(members.build, roots, quadrature).covariance()
        except (Infinite, ProgramError) as reason:
            raise NotExact(str(reason)) from None


def _must_be_universal(nodes: Iterable[ir.Node]) -> None:
    """Sums of signs lie on lattices, and a jump sees how far a lattice of width n is from it: by n^-1/2."""
    found = lattice_at_jumps(nodes)
    if found is not None:
        raise NotExact(f"jumps of sums of the entries of `{found.matrix.name}`, which are not Gaussian")


@dataclass(eq=False)
class Integrands:
    """The particles of one width: the integrands whose averages act on outputs, each with its weight a_k for every output."""

    ratio: float
    weights: dict[ir.Node, Tensor] = field(default_factory=dict)


def _function_of_matrix(node: ir.Node) -> ir.Node:
    """What an entry is read from; a number without entries is read from itself."""
    return node.args[0] if isinstance(node, ir.Reindex) else node


class UntrainedEvaluator(ExactEvaluator):
    averages = PairsOfIntegrands


class Influence:
    """The influence functions of some numbers of a program without indices, `roots`."""

    def __init__(self, build: Builder, roots: Sequence[ir.Node], quadrature: bool):
        self.build, self.span = build, roots[0].span
        self.nodes = reachable(roots)
        self.exact = UntrainedEvaluator(self.nodes, quadrature, QUADRATURE)
        self.method = max((self._settled(r) for r in dict.fromkeys(roots)), default=EXACT)
        self.derivatives = Derivatives(self.exact.expect)
        self.entry = Index("entry", Axis("entry", len(roots)))
        self.spaces: dict[str, Integrands] = {}
        self.weights: dict[ir.Node, Tensor] = {}  # of numbers
        self._inside = self._numbers_inside_kets()
        for k, root in enumerate(roots):
            self._add(root, Tensor(np.eye(len(roots))[k], (self.entry,)))
        for node in reversed(self.nodes):
            current().poll()
            if isinstance(node, ir.MatMul):
                self._matmul(node)
            elif node.type.is_scalar:
                self._scalar(node)

    def _settled(self, root: ir.Node) -> int:
        self._value(root)
        return self.exact.method[root]

    def _value(self, node: ir.Node) -> Tensor | KetFormula:
        """The value of a node, made now if it is new."""
        value = self.exact.value(node)
        if isinstance(value, Diagnostic):
            raise NotExact(value.message)
        if isinstance(value, NotExact):
            raise value
        self.method = max(getattr(self, "method", EXACT), self.exact.method[node])
        return value

    def _number(self, node: ir.Node) -> Tensor:
        value = self._value(node)
        assert isinstance(value, Tensor)
        return value

    def _ket(self, node: ir.Node) -> KetFormula:
        value = self._value(node)
        assert isinstance(value, KetFormula)
        return value

    # -- numbers --------------------------------------------------------------------------------------------------
    def _add(self, node: ir.Node, weight: Tensor) -> None:
        if not weight.vanishes:
            known = self.weights.get(node)
            self.weights[node] = weight if known is None else plus(known, weight)

    def _scalar(self, node: ir.Node) -> None:
        for part in self._through_kets(node):
            self._add(node, part)
        weight = self.weights.pop(node, None)
        if weight is None:
            return
        if isinstance(node, ir.Contract):
            self._piece(self._times(node.args), weight)
        elif isinstance(function := _function_of_matrix(node), ir.Linalg):
            self._linalg(function, node.selectors if isinstance(node, ir.Reindex) else (), weight)
        elif isinstance(node, ir.Map):
            algebra = entrywise.NodeAlgebra(self.build, self.span)
            for k, a in enumerate(node.args):
                if self._moves(a):
                    self._must_be_smooth(node)
                    self._add(a, times(weight, self._number(entrywise.partial(algebra, node, k))))

    def _linalg(self, node: ir.Linalg, at: tuple[Any, ...], weight: Tensor) -> None:
        """∂X_ab = -X_ai ∂K_ij X_jb for X = K⁻¹, ∂(X y)_a = -X_ai ∂K_ij (X y)_j + X_ai ∂y_i, ∂ log det K = X_ji ∂K_ij."""
        if node.op not in ("inv", "solve", "logdet"):
            raise NotExact(f"the fluctuations of `{node.op}` of a matrix")
        matrix, *vectors = node.args
        size = node.rows.size
        inverse = self.build.linalg("inv", node.rows, node.cols, (matrix,), "", self.span)
        every = [*np.ndindex(size, size)]
        x = {(i, j): self._number(self.build.reindex(inverse, (i + 1, j + 1), (), self.span)) for i, j in every}
        solution = [self._number(self.build.reindex(node, (i + 1,), (), self.span)) for i in range(size) if vectors]
        for i, j in every:
            if node.op == "logdet":
                slope = x[j, i]
            else:
                a = at[0] - 1
                slope = times(MINUS, x[a, i], solution[j] if vectors else x[j, at[1] - 1])
            self._add(matrix.args[i].args[j], times(weight, slope))
        for y in vectors:
            for i in range(size):
                entry = y.args[i] if isinstance(y, ir.Stack) else y
                self._add(entry, times(weight, x[at[0] - 1, i]))

    def _moves(self, node: ir.Node) -> bool:
        """Whether a number has fluctuations."""
        return any(isinstance(n, ir.Contract) for n in reachable([node]))

    def _must_be_smooth(self, node: ir.Map) -> None:
        row = PRIMITIVES[node.fn]
        if row.smooth:
            return
        first, *rest = (self._number(a) for a in node.args)
        apart = plus(first, times(MINUS, rest[0])) if node.fn in ("max", "min") else first
        off = 0.0 if apart.error is None else float(np.max(apart.error))
        if any(abs(float(apart.values) - kink) <= off for kink in row.kinks):
            raise NotExact(f"{node.fn} at a kink, where fluctuations are not Gaussian")

    def _piece(self, integrand: ir.Node, weight: Tensor) -> None:
        """One more integrand, if its covariances with the others are within reach."""
        if weight.vanishes:
            return
        width = integrand.type.width
        weights = self.spaces.setdefault(width.name, Integrands(width.ratio)).weights
        if integrand in weights:
            weights[integrand] = plus(weights[integrand], weight)
            return
        weights[integrand] = weight
        for other in weights:
            current().poll()
            product = self._times((integrand, other))
            if self._depend(integrand, other):
                self.exact.expect.must_be_few(self._ket(product))

    def _times(self, factors: Iterable[ir.Node]) -> ir.Node:
        return self.build.map("mul", sorted(factors, key=lambda n: n.serial), self.span)

    # -- numbers inside kets ----------------------------------------------------------------------------------------
    def _numbers_inside_kets(self) -> set[ir.Node]:
        """The numbers with fluctuations that kets are functions of."""
        kets = [n for n in self.nodes if not n.type.is_scalar and not isinstance(n, ir.InitialKet)]
        inside = {a for n in kets for a in n.args if a.type.is_scalar}
        averages = {a for n in self.nodes if isinstance(n, ir.Contract) for a in n.args if a.type.is_scalar}
        return {a for a in inside | averages if self._moves(a)}

    def _through_kets(self, node: ir.Node) -> list[Tensor]:
        """a_k <∂φ_k/∂c> for the integrands of which c is a part."""
        if node not in self._inside:
            return []
        found = []
        for space in self.spaces.values():
            for integrand, weight in [*space.weights.items()]:
                slope = self._slope(integrand, node)
                if slope is not None:
                    average = self.build.average(slope, self.span)
                    found.append(times(weight, self._number(average)))
        return found

    def _slope(self, root: ir.Node, by: ir.Node) -> ir.Node | None:
        """∂|root>/∂c on one neuron: through entrywise functions, and the kets |y> of dots."""
        algebra = entrywise.NodeAlgebra(self.build, self.span)
        slopes: dict[ir.Node, ir.Node] = {by: algebra.number(1.0)}
        for node in reachable([root], self._kets_below):
            terms = []
            if isinstance(node, ir.Map):
                for k in range(len(node.args)):
                    if node.args[k] in slopes:
                        if PRIMITIVES[node.fn].jumps:
                            raise NotExact(f"a jump of {node.fn} at a place that fluctuates")
                        terms.append(algebra("mul", entrywise.partial(algebra, node, k), slopes[node.args[k]]))
                self._must_not_rest_on_kinks(algebra, node, slopes)
            elif isinstance(node, ir.MatMul):
                for met in self._met(node):
                    y = met.args[0]
                    if y in slopes and (dot := self._dot(node, met)):
                        terms.append(algebra("mul", algebra.number(dot), slopes[y]))
            if terms and node is not by:
                slopes[node] = terms[0] if len(terms) == 1 else algebra("add", *terms)
        return slopes.get(root)

    def _must_not_rest_on_kinks(
        self, algebra: entrywise.NodeAlgebra, node: ir.Map, slopes: Mapping[ir.Node, ir.Node]
    ) -> None:
        """A number may not move neurons away from a kink on which a share of them lies: the slopes differ to its sides."""
        kinks = () if PRIMITIVES[node.fn].smooth else PRIMITIVES[node.fn].kinks
        minus = algebra.number(-1.0)
        at, moves = node.args[0], [slopes[a] for a in node.args[:1] if a in slopes]
        if kinks and node.fn in ("max", "min"):
            at = algebra("add", at, algebra("mul", minus, node.args[1]))
            moves += [algebra("mul", minus, slopes[a]) for a in node.args[1:] if a in slopes]
        if not moves:
            return
        moved = algebra("square", moves[0] if len(moves) == 1 else algebra("add", *moves))
        for kink in kinks:
            near = algebra.number(NEAR * math.sqrt(max(self._average(algebra("square", at)), 0.0)))
            beside = algebra("add", at, algebra.number(-kink))
            sides = (beside, algebra("mul", minus, beside))
            away = [algebra("step", algebra("add", x, algebra("mul", minus, near))) for x in sides]
            if sum(map(self._average, away)) > 1 - SHARE_AT_KINKS:
                continue
            whole = self._average(moved)
            off = whole - sum(self._average(algebra("mul", side, moved)) for side in away)
            if off > SHARE_AT_KINKS * whole:
                raise NotExact(f"neurons at a kink of {node.fn}, from where a number that fluctuates moves them")

    def _average(self, ket: ir.Node) -> float:
        if ket.type.is_scalar:
            return float(self._number(ket).values)
        return float(self._number(self.build.average(ket, self.span)).values)

    def _kets_below(self, node: ir.Node) -> tuple[ir.Node, ...]:
        """What a ket reads on its own neuron."""
        if isinstance(node, ir.MatMul):
            return tuple(met.args[0] for met in self._met(node))
        return node.args if isinstance(node, ir.Map) and not node.type.is_scalar else ()

    def _dot(self, node: ir.MatMul, met: ir.MatMul) -> float:
        """The coefficient of |y> in W|x>, |y> the ket that Wᵀ has met."""
        slope = self.derivatives.mean(self._ket(node.args[0]), [Variable(met, ())])
        return 0.0 if slope is None else float(times(self._averaged(slope), self.exact.scale(node)).values)

    def _averaged(self, value: Tensor) -> Tensor:
        return self.exact.atoms.averaged(value)

    # -- products with matrices ---------------------------------------------------------------------------------------
    def _met(self, node: ir.MatMul) -> list[ir.MatMul]:
        """The products with the transpose before this one."""
        return [n for n in self.exact.met(node) if n.serial < node.serial]

    def _matmul(self, node: ir.MatMul) -> None:
        if node.type.width.name not in self.spaces:
            return
        self._project(node)
        space = self.spaces[node.type.width.name]
        (x,) = node.args
        scale = self.exact.scale(node)
        earlier = [n for n in self.exact.together(node) if n.serial <= node.serial]
        pieces = [(self._ket(k), weight) for k, weight in space.weights.items()]
        for other in earlier:
            by = [Variable(node, ()), Variable(other, ())]
            found = self._weighted(pieces, by)
            if found is not None:
                half = number(0.5 if other is node else 1.0)
                self._piece(self._times((x, other.args[0])), times(found, scale, half))

    def _weighted(self, pieces: Iterable[tuple[KetFormula, Tensor]], by: Sequence[Variable]) -> Tensor | None:
        """Σ_k a_k E ∂φ_k"""
        found = []
        for ket, weight in pieces:
            slope, method = self.exact.expect.kept(partial(self.derivatives.mean, ket, by))
            if slope is not None:
                self.method = max(self.method, method)
                found.append(times(self._averaged(slope), weight))
        return plus(*found) if found else None

    def _project(self, node: ir.MatMul) -> None:
        """The identities <y_a|W x> = <Wᵀ y_a|x>/ρ, with their multipliers."""
        met = self._met(node)
        if not met:
            return
        (x,) = node.args
        space = self.spaces[node.type.width.name]
        kets = [m.args[0] for m in met]
        wanted = []
        for y in kets:
            pieces = [(self._ket(self._times((y, k))), weight) for k, weight in space.weights.items()]
            wanted.append(self._weighted(pieces, [Variable(node, ())]))
        if all(w is None for w in wanted):
            return
        zero = Tensor(np.zeros(self.entry.size), (self.entry,))
        right = [zero if w is None else w for w in wanted]
        gram = [[self._number(self.build.average(self._times((a, b)), self.span)) for b in kets] for a in kets]
        ratio = x.type.width.ratio / node.type.width.ratio
        for y, g, multiplier in zip(kets, met, self._solved(gram, right), strict=True):
            self._piece(self._times((y, node)), times(MINUS, multiplier))
            self._piece(self._times((g, x)), times(number(ratio), multiplier))

    def _solved(self, gram: list[list[Tensor]], right: list[Tensor]) -> list[Tensor]:
        """μ with Σ_b <y_a|y_b> μ_b = right_a; kets that depend on the others do not count."""
        matrix = np.array([[float(t.values) for t in row] for row in gram])
        wanted = np.stack([t.at((self.entry,)) + np.zeros(self.entry.size) for t in right])
        scale = np.sqrt(np.maximum(np.diag(matrix), np.finfo(float).tiny))
        inverse = np.linalg.pinv(matrix / np.outer(scale, scale), rcond=DEPENDENT, hermitian=True) / np.outer(
            scale, scale
        )
        found = inverse @ wanted
        off = np.array([[0.0 if t.error is None else float(np.max(t.error)) for t in row] for row in gram])
        moved = np.stack([np.broadcast_to(0.0 if t.error is None else t.error, wanted.shape[1:]) for t in right])
        error = np.abs(inverse) @ (off @ np.abs(found) + moved + errors.EPS * (np.abs(matrix) @ np.abs(found)))
        return [Tensor(v, (self.entry,), e) for v, e in zip(found, error, strict=True)]

    def _depend(self, a: ir.Node, b: ir.Node) -> bool:
        """Whether two kets may depend on each other; laws with finitely many values are not followed."""
        of = self.exact.expect.gaussians.form
        return bool(self.exact.atoms.weights) or of(self._ket(a)).meets(of(self._ket(b)))

    # -- covariances ----------------------------------------------------------------------------------------------
    def covariance(self) -> Exact:
        other = Index("entry'", self.entry.axis)
        total = Tensor(np.zeros((self.entry.size, self.entry.size)), (self.entry, other))
        for space in self.spaces.values():
            total = plus(total, self._of_space(space, other))
        value = total.at((self.entry, other))
        if not np.isfinite(value).all():
            raise NotExact("a covariance that is not finite")
        error = errors.shown(value, total.error_at((self.entry, other)), METHODS[self.method] == "quadrature")
        value, error = (np.broadcast_to(x, (self.entry.size,) * 2) for x in (value, error))
        return Exact(
            (value + value.T) / 2, np.maximum(error, error.T), METHODS[self.method], NOTES[METHODS[self.method]]
        )

    def _of_space(self, space: Integrands, other: Index) -> Tensor:
        kets = [(k, w) for k, w in space.weights.items() if not w.vanishes]
        whole = Tensor(np.zeros((self.entry.size, self.entry.size)), (self.entry, other))
        means = [self._number(self.build.average(k, self.span)) for k, _ in kets]
        for i, (a, own) in enumerate(kets):
            for j, (b, theirs) in enumerate(kets[: i + 1]):
                current().poll()
                if not self._depend(a, b):
                    continue
                both = self._number(self.build.average(self._times((a, b)), self.span))
                cov = plus(both, times(MINUS, means[i], means[j]))
                if cov.vanishes:
                    continue
                part = times(own, theirs.renamed({self.entry: other}), cov)
                if i != j:
                    part = plus(part, times(theirs, own.renamed({self.entry: other}), cov))
                whole = plus(whole, part)
        return times(number(1.0 / space.ratio), whole)
