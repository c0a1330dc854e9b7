"""One replicate of a limit: every ket as an array over particles, every scalar as a number.

The instructions run in order under the ket rules (docs/mathematics.md, section 3). A value that cannot be computed is a
`Diagnostic` in place of an array, and so is everything that depends on it; the others are still computed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from copy import copy
from typing import Any, ClassVar

import numpy as np

from tp_compiler.diagnostics import Diagnostic
from tp_compiler.evaluate import laws, numerical_errors
from tp_compiler.evaluate.array_types import Array, Outputs
from tp_compiler.evaluate.arrays import Label, Labels, aligned, contract, labels
from tp_compiler.evaluate.instructions import RULES
from tp_compiler.evaluate.kernels import KERNELS
from tp_compiler.evaluate.sampling import heavy_tails
from tp_compiler.evaluate.sampling.blocks import Blocks
from tp_compiler.evaluate.sampling.clt import CltScalars
from tp_compiler.evaluate.sampling.directions import drop_of
from tp_compiler.evaluate.sampling.entry_blocks import Entries
from tp_compiler.evaluate.sampling.matmul import MatrixState
from tp_compiler.evaluate.sampling.outer import OuterNonlin
from tp_compiler.evaluate.sampling.particles import Particles, Value
from tp_compiler.evaluate.sampling.plan import SamplingPlan
from tp_compiler.evaluate.sampling.points import Points
from tp_compiler.evaluate.sampling.training import ParticleTraining
from tp_compiler.ir import nodes as ir
from tp_compiler.ir.types import Index
from tp_compiler.ir.walk import dependencies
from tp_compiler.shapes import Float


class Replicate:
    """Particles of every space under one scrambling. `outputs` returns the arrays of the outputs.

    `half`: 0 or 1 for a run on the first or the second half of the particles, paired with half as many copies; together
    the two show the bias of finite size (estimates.py).
    """

    def __init__(
        self, plan: SamplingPlan, samples: int, seed: tuple[int, ...], plain: bool, inspect: bool = False,
        tick: Callable[[], None] = lambda: None, pause: Callable[[], None] = lambda: None, half: int | None = None,
    ):  # fmt: skip
        self.tick = tick  # called after every step of training; may raise to stop
        size = samples if half is None else samples // 2
        self._hold(Particles(plan, size, samples, seed, plain, inspect, half, pause))
        self.plan = plan
        self.clt = CltScalars()
        self.points: dict[int, Points] = {}
        self.states: dict[tuple[ir.MatrixSymbol, tuple[int, ...]], MatrixState] = {}
        self.training: ParticleTraining | None = None
        self.remaining_uses = Counter(plan.uses)
        self._evaluate_all(n for n in plan.phases.static if not n.type.random)
        if plan.phases.loop is not None and not plan.phases.random:
            self._train()

    def _hold(self, particles: Particles) -> None:
        self.particles = particles
        self.values, self.non_finite, self.samples = particles.values, particles.non_finite, particles.samples
        self.outer = OuterNonlin(particles)

    def _train(self) -> None:
        """The loop, and the nodes after it."""
        phases = self.plan.phases
        with np.errstate(all="ignore"):
            self.training = ParticleTraining(self.particles, self._step, self.tick)
            self.training.train()
        self._evaluate_all(n for n in phases.last if not n.type.random or phases.random)
        with np.errstate(all="ignore"):
            self.training.finish()
        self._evaluate_all(n for n in phases.after if not n.type.random or phases.random)

    def directions(self) -> int:
        """Rows of the bases of initial matrices."""
        return sum(s.forward.size + s.backward.size for s in self.states.values())

    def outputs_given(self, clt: CltScalars) -> Outputs:
        """Arrays (or Diagnostics) by output name, under one draw of the `clt` scalars.

        Values that do not depend on `clt` values were computed once; draws share the particles and differ in all others.
        """
        run = copy(self)
        run._hold(self.particles.fork())
        run.clt, run.remaining_uses = clt, Counter(self.remaining_uses)
        run.points = {k: p.fork() for k, p in self.points.items()}
        run.states = {k: s.fork() for k, s in self.states.items()}
        phases = self.plan.phases
        run._evaluate_all(n for n in phases.static if n.type.random)
        if phases.random:  # training from this draw of the outputs at initialisation
            run._train()
        else:
            run._evaluate_all(n for n in (*phases.last, *phases.after) if n.type.random)
        return {o.name: run._output(o.node, o.indices) for o in self.plan.outputs}

    def _evaluate_all(self, nodes: Iterable[ir.Node]) -> None:
        with np.errstate(all="ignore"):
            for node in nodes:
                self.particles.pause()
                value = self.values[node] = self._evaluate(node)
                if not isinstance(value, ir.Node):
                    self._release(dependencies(node))

    def _release(self, args: tuple[ir.Node, ...]) -> None:
        """Frees values that are no longer needed. A value over several neurons keeps its arguments until it is freed itself."""
        todo = list(args)
        while todo:
            node = todo.pop()
            self.remaining_uses[node] -= 1
            if not self.remaining_uses[node]:
                if isinstance(self.values[node], ir.Node):
                    todo.extend(dependencies(node))
                self.values[node] = None

    # -- the training loop --------------------------------------------------------------------------------------
    def _step(self, nodes: list[ir.Node]) -> None:
        """Evaluates the nodes of one step with the current states."""
        held, self.remaining_uses = self.remaining_uses, Counter(self.plan.step_uses)
        self._evaluate_all(nodes)
        self.remaining_uses = held

    def _carry(self, node: ir.Carry) -> Value:
        assert self.training is not None
        return self.training.carried(node.state)

    def _clock(self, node: ir.Clock) -> Value:
        assert self.training is not None
        return self.training.time()

    def _apply(self, node: ir.Apply) -> Value:
        training = self.training
        assert training is not None

        def product(member: tuple[int, ...], columns: Float[Array, "samples k"]) -> Float[Array | Entries, "samples k"]:
            return training.applied(node, tuple(m - 1 for m in member), columns)

        return training.failure or self._member_by_member(node, product)

    def _output(self, node: ir.Node, indices: tuple[Index, ...]) -> Array | Diagnostic:
        value = self.values[node]
        if isinstance(value, Diagnostic):
            return value
        problem = numerical_errors.problem(node, value, self.non_finite)
        if problem is not None:
            return problem
        shape = tuple(i.size for i in indices)
        return np.array(np.broadcast_to(aligned(value, labels(node.type), indices), shape), dtype=np.float64)

    def space(self, node: ir.Node) -> Points:
        """The particles of a ket's space."""
        number = self.plan.space[node]
        if number not in self.points:
            p = self.particles
            seed = (*p.seed, number)
            self.points[number] = Points(p.full, seed, self.plan.coordinates[number], p.plain, p.half)
        return self.points[number]

    def _evaluate(self, node: ir.Node) -> Value:
        for arg in dependencies(node):
            if isinstance(self.values[arg], Diagnostic):
                return self.values[arg]
        if len(node.type.slots) > 1 or isinstance(node, ir.Copy):
            return node  # over several neurons at once: evaluated inside the tiles of outer.py
        if any(slot != 0 for slot, _ in node.type.slots):
            return node
        try:
            return self.rules[type(node)](self, node)
        except numerical_errors.Refused as refused:
            return refused.diagnostic

    # -- leaves -------------------------------------------------------------------------------------------------
    def _constant(self, node: ir.Constant) -> Value:
        return np.float64(node.value)

    def _array(self, node: ir.Array) -> Value:
        return np.asarray(node.values, dtype=np.float64)

    def _position(self, node: ir.Position) -> Value:
        return np.arange(1.0, node.index.size + 1)

    def _unavailable(self, node: ir.Unavailable) -> Value:
        return node.diagnostic("leave out the outputs that depend on it")

    def _initialket(self, node: ir.InitialKet) -> Value:
        symbol = node.symbol
        mean, spread = (self.values[a] for a in node.args[:2])
        own = symbol.indices
        shape = tuple(i.size for i in own)
        centre = aligned(mean, labels(node.args[0].type), own)
        numerical_errors.check_law(symbol, spread, mean)
        if symbol.law != "normal":
            return self._drawn(node, shape)
        if symbol.pair is None:
            if not np.any(spread):
                return np.broadcast_to(centre, (self.samples, *shape))
            draws = self.space(node).draw(node.type.size()).reshape(self.samples, *shape)
            return centre + np.sqrt(aligned(spread, labels(node.args[1].type), own)) * draws
        return centre + self._correlated(node, spread)

    def _drawn(self, node: ir.InitialKet, shape: tuple[int, ...]) -> Array:
        """A family with another law."""
        own = node.symbol.indices
        if node.symbol.law == "rows":
            (rows,) = node.parameters
            table = aligned(self.values[rows], labels(rows.type), (node.row, *own))
            table = np.broadcast_to(table, (node.row.size, *shape))
            return np.asarray(table[laws.rows(self.space(node).draw(1)[:, 0], node.row.size)])
        parameters = [aligned(self.values[p], labels(p.type), own) for p in node.parameters]
        draws = self.space(node).draw(node.type.size()).reshape(self.samples, *shape)
        return np.broadcast_to(laws.image(node.symbol.law, parameters)(draws), draws.shape)

    def _correlated(self, node: ir.InitialKet, spread: Array) -> Array:
        """A jointly Gaussian family: draws times the symmetric root of its covariance."""
        symbol = node.symbol
        assert symbol.pair is not None
        left, right = symbol.pair
        rest = tuple(i for i in symbol.indices if i != left)
        covariance = aligned(spread, labels(node.args[1].type), (*rest, left, right))
        size = tuple(i.size for i in rest)
        covariance = np.broadcast_to(covariance, (*size, left.size, right.size))
        root = numerical_errors.covariance_root(covariance, symbol)
        draws = self.space(node).draw(node.type.size()).reshape(self.samples, *size, right.size)
        values = np.einsum("...ij,m...j->m...i", root, draws)
        return aligned(values, (0, *rest, left), labels(node.type))

    def _passed_on(self, node: ir.InitialScalar | ir.Stop) -> Value:
        (x,) = node.args
        own = labels(node.type)
        shape = tuple(i.size if isinstance(i, Index) else self.samples for i in own)
        return np.broadcast_to(aligned(self.values[x], labels(x.type), own), shape)

    # -- instructions -------------------------------------------------------------------------------------------
    def _watch(self, node: ir.Node, result: Array, args: Sequence[Array] = ()) -> None:
        if not np.isfinite(result).all():
            self.non_finite[node] = numerical_errors.blame(node, args)

    def _contract(self, node: ir.Contract) -> Value:
        if node in self.plan.of_entries:
            return self._mean_of_entries(node)
        if any(isinstance(self.values[a], ir.Node) and not isinstance(a, ir.Copy) for a in node.args):
            return self.outer.contract(node)
        arrays, of = [], []
        for a in node.args:
            arrays.append(self.values[a.args[0]] if isinstance(a, ir.Copy) else self.values[a])
            of.append(labels(a.type))
        result = contract(arrays, of, labels(node.type))
        result /= float(self.samples) ** len(node.slots)
        if self.particles.inspect and len(node.slots) == 1 and self.plan.inspected(node):
            self._inspect(node, arrays, of)
        elif self.particles.inspect and node.slots == (0,) and not np.any(result):
            self.particles.counted[node] = 1 / self.samples  # no particle hit the event: zero up to one particle
        if not np.isfinite(result).all():
            problem = numerical_errors.problem(node, result, self.non_finite)
            assert problem is not None
            return problem if node.slots else self._mark_non_finite(node, result)
        return result

    def _mean_of_entries(self, node: ir.Contract) -> Value:
        """An average over the entries of a trained matrix."""
        assert self.training is not None
        if self.training.failure is not None:
            return self.training.failure
        learned = self.training.matrices[self.plan.of_entries[node]]
        assert isinstance(learned, Blocks)
        result = learned.mean(node, self.values)
        self._watch(node, result)
        return result

    def _inspect(self, node: ir.Contract, arrays: list[Array], of: list[Labels]) -> None:
        """Examines the largest samples of an average; a large family is represented by a part of it."""
        (neurons,) = node.slots
        own: tuple[Label, ...] = (neurons, *dict.fromkeys(label for one in of for label in one if label != neurons))
        parts = [aligned(x, one, own) for x, one in zip(arrays, of, strict=True)]
        parts = [p[(slice(None), *(slice(0, 4) for _ in own[1:]))] for p in parts]
        products = KERNELS["mul"](*parts)
        if products.shape[0] != self.samples:
            return
        flat = products.reshape(self.samples, -1)
        jumps, heavy = self.plan.tails.jump(node), self.plan.tails.may_be_heavy(node)
        if jumps:
            self.particles.counted[node] = heavy_tails.counted(flat)
        found = heavy_tails.logs(flat) if heavy else None
        if found is not None:
            self.particles.heavy.setdefault(node, []).append(found)

    def _mark_non_finite(self, node: ir.Node, result: Array) -> Array:
        self.non_finite[node] = numerical_errors.blame(node)
        return result

    def _by_rule(self, node: ir.Node) -> Value:
        """An instruction that does the same to every particle."""
        args = [(self.values[a], labels(a.type)) for a in node.args]
        result = RULES[type(node)](node, args, labels(node.type))
        if isinstance(node, ir.Map | ir.Reduce):
            self._watch(node, result, [x for x, _ in args])
        return result

    def _matmul(self, node: ir.MatMul) -> Value:
        variance = self.values[node.matrix.variance]

        def product(member: tuple[int, ...], columns: Float[Array, "samples k"]) -> Float[Array, "samples k"]:
            return self._state(node, member, variance).apply(columns, node.transposed, self.space(node))

        return self._member_by_member(node, product)

    def _member_by_member(
        self, node: ir.MatMul | ir.Apply, product: Callable[[tuple[int, ...], Array], Array | Entries]
    ) -> Array | Diagnostic:
        """A product with a family of matrices: each member is applied to its columns of x, (samples, k)."""
        x = node.args[0]
        value = np.broadcast_to(self.values[x], (self.samples, *x.type.shape))
        problem = numerical_errors.problem(node, value, self.non_finite)
        if problem is not None:
            return problem
        batch = tuple(m for m in node.member if isinstance(m, Index))
        rest = tuple(i for i in x.type.indices if i not in batch)
        moved = np.broadcast_to(
            aligned(value, labels(x.type), (*batch, 0, *rest)),
            (*(b.size for b in batch), self.samples, *(i.size for i in rest)),
        )
        parts = np.empty(moved.shape)
        for place in np.ndindex(*(b.size for b in batch)):
            chosen = dict(zip(batch, place, strict=True))
            member = tuple(chosen[m] + 1 if isinstance(m, Index) else m for m in node.member)
            columns = np.ascontiguousarray(moved[place]).reshape(self.samples, -1)
            parts[place] = product(member, columns).reshape(moved.shape[len(batch) :])
        return aligned(parts, (*batch, 0, *rest), labels(node.type))

    def _state(self, node: ir.MatMul, member: tuple[int, ...], variance: Array) -> MatrixState:
        symbol = node.matrix
        if (symbol, member) not in self.states:
            own = labels(symbol.variance.type)
            position = dict(zip(symbol.indices, member, strict=True))
            value = (
                float(variance[tuple(position[i] - 1 for i in own if isinstance(i, Index))]) if own else float(variance)
            )
            numerical_errors.check_law(symbol, value)
            self.states[symbol, member] = MatrixState(
                value,
                symbol.rows.ratio / symbol.cols.ratio,
                drop_of(self.plan.products[symbol], self.samples, self.plan.single),
            )
        return self.states[symbol, member]

    def _clt(self, node: ir.Clt) -> Value:
        if node in self.plan.problems:
            return self.plan.problems[node]
        v, x = node.args
        own: tuple[Label, ...] = (0, *node.type.indices)
        product = aligned(self.values[v], labels(v.type), own) * aligned(self.values[x], labels(x.type), own)
        flat = np.broadcast_to(product, (self.samples, *node.type.shape)).reshape(self.samples, -1)
        if not np.isfinite(flat).all():
            problem = numerical_errors.problem(node, flat, self.non_finite)
            assert problem is not None
            return problem
        return self.clt.value(node, flat, self.plan.space[v]).reshape(node.type.shape)

    #: One rule an instruction. Copies are read by their users, traces gathered by the loop.
    rules: ClassVar[dict[type[ir.Node], Callable[[Any, Any], Value]]] = {
        **dict.fromkeys(RULES, _by_rule),
        ir.Constant: _constant,
        ir.Array: _array,
        ir.Position: _position,
        ir.Unavailable: _unavailable,
        ir.InitialKet: _initialket,
        ir.InitialScalar: _passed_on,
        ir.Stop: _passed_on,
        ir.Contract: _contract,
        ir.MatMul: _matmul,
        ir.Clt: _clt,
        ir.Carry: _carry,
        ir.Clock: _clock,
        ir.Apply: _apply,
    }
