"""Some replicates of a limit as one array: every ket over replicates and particles, every scalar over replicates.

The instructions run in order under the ket rules (docs/mathematics.md, section 3). A value that cannot be computed is a
`Diagnostic` in place of an array, and so is everything that depends on it; the others are still computed. The digits of a replicate do not
depend on those that share its arrays.
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
from tp_compiler.evaluate.arrays import REPLICATE, Label, Labelled, Labels, aligned, contract, labels
from tp_compiler.evaluate.backend import NUMPY, ArrayBackend, contiguous, host
from tp_compiler.evaluate.instructions import RULES
from tp_compiler.evaluate.kernels import KERNELS
from tp_compiler.evaluate.sampling import heavy_tails
from tp_compiler.evaluate.sampling.averages import AVERAGES, Averages
from tp_compiler.evaluate.sampling.blocks import Blocks
from tp_compiler.evaluate.sampling.clt import CltScalars
from tp_compiler.evaluate.sampling.conditioning.directions import dropped_of
from tp_compiler.evaluate.sampling.conditioning.matmul import MatrixState
from tp_compiler.evaluate.sampling.conditioning.spans import Kets, KetSpan
from tp_compiler.evaluate.sampling.entry_blocks import Entries
from tp_compiler.evaluate.sampling.outer import OuterNonlin
from tp_compiler.evaluate.sampling.particles import Found, Particles, Value
from tp_compiler.evaluate.sampling.plan import SamplingPlan
from tp_compiler.evaluate.sampling.points import JointPoints, Points, Sequences
from tp_compiler.evaluate.sampling.shards import ShardPoints, Shards
from tp_compiler.evaluate.sampling.shared_values import whole
from tp_compiler.evaluate.sampling.training import ParticleTraining
from tp_compiler.ir import nodes as ir
from tp_compiler.ir.types import Index


class Replication:
    """Particles of every space under the scramblings of some seeds. `outputs_given` returns the arrays of the outputs.

    `halves`: for every run 0 or 1, if they are on the first or the second half of the particles of their seeds, paired
    with half as many copies; together the two show the bias of finite size (estimates.py).
    """

    def __init__(
        self, plan: SamplingPlan, samples: int, seeds: Sequence[tuple[int, ...]], plain: bool, inspect: bool = False,
        tick: Callable[[], None] = lambda: None, pause: Callable[[], None] = lambda: None, halves: Sequence[int] = (),
        kept: Sequences | None = None,
        backend: ArrayBackend = NUMPY,
        averages: Averages = AVERAGES,
        pairing: int | None = 0,
    ):  # fmt: skip
        self.tick = tick  # called after every step of training; may raise to stop
        samples //= averages.count
        size = samples // 2 if halves else samples
        found = tuple(Found() for _ in seeds)
        own = tuple(halves)
        self._hold(
            Particles(
                plan,
                size,
                samples,
                tuple(seeds),
                plain,
                inspect,
                own,
                pause,
                backend,
                averages,
                found=found,
                pairing=pairing,
            )
        )
        self.plan, self.kept = plan, kept
        self.clt = CltScalars()
        self.points: dict[int, JointPoints] = {}
        self.states: dict[tuple[ir.MatrixSymbol, tuple[int, ...]], MatrixState] = {}
        self.starts: dict[tuple[float, int], KetSpan] = {}
        self.training: ParticleTraining | None = None
        self.remaining_uses = Counter(plan.uses)
        self._evaluate_all(n for n in plan.phases.static if not n.type.random)
        if plan.phases.loop is not None and not plan.phases.random:
            self._train()

    def _hold(self, particles: Particles) -> None:
        self.particles = particles
        self.values, self.non_finite, self.samples = particles.values, particles.non_finite, particles.samples
        self.outer = [OuterNonlin(particles.one(r)) for r in range(particles.replicates)]

    @property
    def replicates(self) -> int:
        return self.particles.replicates

    def _train(self) -> None:
        """The loop, and the nodes after it."""
        phases = self.plan.phases
        with np.errstate(all="ignore"):
            self.training = ParticleTraining(self.particles, self.tick)
            self.training.train(self._step)
        self._evaluate_all(n for n in phases.last if not n.type.random or phases.random)
        with np.errstate(all="ignore"):
            self.training.finish()
        self._evaluate_all(n for n in phases.after if not n.type.random or phases.random)

    def directions(self) -> list[int]:
        """Rows of the bases of initial matrices, of every replicate."""
        count = self.particles.replicates
        sizes = [state.sizes(count) for state in self.states.values()]
        return [sum(one) for one in zip(*sizes, strict=True)] if sizes else [0] * count

    def outputs_given(self, clt: CltScalars) -> Outputs:
        """Arrays over the replicates (or Diagnostics) by output name, under one draw of the `clt` scalars.

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
                    self._release(self.plan.reads[node])

    def _release(self, args: tuple[ir.Node, ...]) -> None:
        """Frees values that are no longer needed. A value over several neurons keeps its arguments until it is freed itself."""
        todo = list(args)
        while todo:
            node = todo.pop()
            self.remaining_uses[node] -= 1
            if not self.remaining_uses[node]:
                if isinstance(self.values[node], ir.Node):
                    todo.extend(self.plan.reads[node])
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

        def product(member: tuple[int, ...], columns: Array, _: Kets) -> Array | Entries:
            return training.applied(node, tuple(m - 1 for m in member), columns)

        return training.failure or self._member_by_member(node, product)

    def _output(self, node: ir.Node, indices: tuple[Index, ...]) -> Array | Diagnostic:
        value = self.values[node]
        if isinstance(value, Diagnostic):
            return value
        problem = self.particles.problem(node, value)
        if problem is not None:
            return problem
        return host(whole(self.particles, node, indices, tuple(i.size for i in indices))).copy()

    def space(self, node: ir.Node) -> JointPoints:
        """The particles of a ket's space."""
        number = self.plan.space[node]
        if number not in self.points:
            bound = self.plan.coordinates[number]
            runs = range(self.replicates)
            self.points[number] = JointPoints([self._points(run, number, bound) for run in runs])
        return self.points[number]

    def _points(self, run: int, number: int, bound: int) -> Points:
        p = self.particles
        half = p.halves[run] if p.halves else None
        seed = (*p.seeds[run], number)
        if isinstance(p.averages, Shards):
            shard = p.averages.own[run], p.averages.count
            return ShardPoints(p.full, seed, bound, p.plain, half, p.backend, *shard)
        return Points(p.full, seed, bound, p.plain, half, self.kept, p.backend)

    def _evaluate(self, node: ir.Node) -> Value:
        for arg in self.plan.reads[node]:
            if isinstance(self.values[arg], Diagnostic):
                return self.values[arg]
        if node in self.plan.in_tiles:
            return node
        try:
            return self.rules[type(node)](self, node)
        except numerical_errors.Refused as refused:
            return refused.diagnostic

    # -- leaves -------------------------------------------------------------------------------------------------
    def _constant(self, node: ir.Constant) -> Value:
        return np.float64(node.value)

    def _array(self, node: ir.Array) -> Value:
        return self.particles.backend.array(np.asarray(node.values, dtype=np.float64))

    def _position(self, node: ir.Position) -> Value:
        return self.particles.backend.array(np.arange(1.0, node.index.size + 1))

    def _unavailable(self, node: ir.Unavailable) -> Value:
        return node.diagnostic("leave out the outputs that depend on it")

    def _initialket(self, node: ir.InitialKet) -> Value:
        symbol = node.symbol
        mean, spread = (self.values[a] for a in node.args[:2])
        own = symbol.indices
        shape = tuple(i.size for i in own)
        numerical_errors.check_law(symbol, spread, mean)
        if symbol.law != "normal":
            return self._drawn(node, shape)
        centre = self._of_law(node.args[0], own)
        if symbol.pair is not None:
            return centre + self._correlated(node)
        if not np.any(spread):
            return np.broadcast_to(centre, (self.replicates, self.samples, *shape))
        return centre + np.sqrt(self._of_law(node.args[1], own)) * self._draws(node, shape, spread)

    def _of_law(self, parameter: ir.Node, own: Labels) -> Array:
        """A parameter of a law, to be combined with kets."""
        return aligned(self.values[parameter], self.plan.labels[parameter], (REPLICATE, 0, *own))

    def _draws(self, node: ir.InitialKet, shape: tuple[int, ...], spread: Array | None = None) -> Array:
        """Fresh Gaussians for a family; replicates whose members are certain draw none."""
        size = node.type.size()
        points = self.space(node)
        drawing = [True] * self.replicates
        if spread is not None and self.plan.differs(node.args[1]):
            drawing = [bool(np.any(one)) for one in spread]
        if all(drawing):
            return points.draw(size).reshape(self.replicates, self.samples, *shape)
        none = self.particles.backend.array(np.zeros((1, self.samples, size)))
        parts = [points.of([r]).draw(size) if drawn else none for r, drawn in enumerate(drawing)]
        return np.concatenate(parts).reshape(self.replicates, self.samples, *shape)

    def _drawn(self, node: ir.InitialKet, shape: tuple[int, ...]) -> Array:
        """A family with another law."""
        own = node.symbol.indices
        if node.symbol.law == "rows":
            (rows,) = node.parameters
            sizes = (node.row.size, *shape)
            tables = whole(self.particles, rows, (node.row, *own), sizes)
            numbers = laws.rows(self.space(node).draw(1)[:, :, 0], node.row.size)
            return np.stack([table[chosen] for table, chosen in zip(tables, numbers, strict=True)])
        parameters = [self._of_law(p, own) for p in node.parameters]
        draws = self._draws(node, shape)
        return np.broadcast_to(laws.image(node.symbol.law, parameters)(draws), draws.shape)

    def _correlated(self, node: ir.InitialKet) -> Array:
        """A jointly Gaussian family: draws times the symmetric root of its covariance."""
        symbol = node.symbol
        assert symbol.pair is not None
        left, right = symbol.pair
        rest = tuple(i for i in symbol.indices if i != left)
        size = tuple(i.size for i in rest)
        covariance = whole(self.particles, node.args[1], (*rest, left, right), (*size, left.size, right.size))
        if not self.plan.differs(node.args[1]):
            covariance = covariance[:1]
        roots = [numerical_errors.covariance_root(one, symbol) for one in covariance]
        draws = self._draws(node, (*size, right.size))
        values = [np.einsum("...ij,m...j->m...i", roots[r % len(roots)], one) for r, one in enumerate(draws)]
        return aligned(np.stack(values), (REPLICATE, 0, *rest, left), self.plan.labels[node])

    def _passed_on(self, node: ir.InitialScalar | ir.Stop) -> Value:
        (x,) = node.args
        own = self.plan.labels[node]
        sizes = {REPLICATE: self.replicates, 0: self.samples}
        shape = tuple(i.size if isinstance(i, Index) else sizes[i] for i in own)
        return np.broadcast_to(aligned(self.values[x], self.plan.labels[x], own), shape)

    # -- instructions -------------------------------------------------------------------------------------------
    def _watch(self, node: ir.Node, result: Array, args: Sequence[Array] = ()) -> None:
        if not numerical_errors.finite(result):
            self.non_finite[node] = numerical_errors.blame(node, args)

    def _contract(self, node: ir.Contract) -> Value:
        if node in self.plan.of_entries:
            return self._mean_of_entries(node)
        if any(isinstance(self.values[a], ir.Node) and not isinstance(a, ir.Copy) for a in node.args):
            copied = np.stack([outer.contract(node) for outer in self.outer])
            return copied if node.type.slots else self.particles.averages.joined(copied)
        arrays, of = [], []
        for a in node.args:
            arrays.append(self.values[a.args[0]] if isinstance(a, ir.Copy) else self.values[a])
            of.append(self.plan.labels[a])
        result = self._averaged(node, arrays, of)
        if self.particles.inspect and len(node.slots) == 1 and self.plan.inspected(node):
            self._inspect(node, arrays, of)
        elif self.particles.inspect and node.slots == (0,) and self.plan.differs(node):
            for one, found in zip(result, self.particles.found, strict=True):
                if not np.any(one):
                    found.counted[node] = 1 / self.samples  # no particle hit the event: zero up to one particle
        if not numerical_errors.finite(result):
            problem = numerical_errors.problem(node, result, self.non_finite)
            assert problem is not None
            return problem if node.slots else self._mark_non_finite(node, result)
        return result

    def _averaged(self, node: ir.Contract, arrays: list[Array], of: list[Labels]) -> Array:
        """A sum of products over indices, and its average over neurons."""
        averages, own = self.particles.averages, self.plan.labels[node]
        if averages.count > 1 and len(node.slots) > 1:  # the average of every neuron by itself is one of all shards
            alone = [[k for k, labels_ in enumerate(of) if slot in labels_] for slot in node.slots]
            parts = [self._over_neuron(slot, arrays, of, among) for slot, among in zip(node.slots, alone, strict=True)]
            rest = [(x, labels_) for x, labels_ in zip(arrays, of, strict=True) if not set(node.slots) & set(labels_)]
            factors = [*parts, *rest]
            return contract([x for x, _ in factors], [labels_ for _, labels_ in factors], own)
        if REPLICATE in own and not averages.equal:
            arrays, of = self._weighed(node, arrays, of)
        result = contract(arrays, of, own)
        if not node.slots:
            return result
        result /= float(self.samples) ** len(node.slots)
        return averages.joined(result) if REPLICATE in own else result

    def _weighed(self, node: ir.Contract, arrays: list[Array], of: list[Labels]) -> tuple[list[Array], list[Labels]]:
        """The factors of an average, and the weights of its particles."""
        weights = [self.particles.over(node, slot).weights for slot in node.slots]
        return [*arrays, *weights], [*of, *((REPLICATE, slot) for slot in node.slots)]

    def _over_neuron(self, slot: int, arrays: list[Array], of: list[Labels], among: list[int]) -> Labelled:
        """The average over one neuron of the product of some factors."""
        kept = dict.fromkeys(label for k in among for label in of[k] if label != slot)
        own = tuple(sorted(kept, key=lambda label: label != REPLICATE))
        found = contract([arrays[k] for k in among], [of[k] for k in among], own) / self.samples
        return self.particles.averages.joined(found) if REPLICATE in own else found, own

    def _mean_of_entries(self, node: ir.Contract) -> Value:
        """An average over the entries of a trained matrix."""
        assert self.training is not None
        if self.training.failure is not None:
            return self.training.failure
        learned = self.training.matrices[self.plan.of_entries[node]]
        assert isinstance(learned, Blocks)
        result = learned.mean(node)
        self._watch(node, result)
        return result

    def _inspect(self, node: ir.Contract, arrays: list[Array], of: list[Labels]) -> None:
        """Examines the largest samples of an average; a large family is represented by a part of it."""
        (neurons,) = node.slots
        rest = dict.fromkeys(label for one in of for label in one if label not in (REPLICATE, neurons))
        own: tuple[Label, ...] = (REPLICATE, neurons, *rest)
        parts = [aligned(x, one, own) for x, one in zip(arrays, of, strict=True)]
        parts = [p[(slice(None), slice(None), *(slice(0, 4) for _ in rest))] for p in parts]
        products = KERNELS["mul"](*parts)
        if products.shape[1] != self.samples:
            return
        jumps, heavy = self.plan.tails.jump(node), self.plan.tails.may_be_heavy(node)
        for one, found in zip(products, self.particles.found, strict=True):
            flat = one.reshape(self.samples, -1)
            if jumps:
                found.counted[node] = heavy_tails.counted(flat)
            known = heavy_tails.logs(flat) if heavy else None
            if known is not None:
                found.heavy.setdefault(node, []).append(known)

    def _mark_non_finite(self, node: ir.Node, result: Array) -> Array:
        self.non_finite[node] = numerical_errors.blame(node)
        return result

    def _by_rule(self, node: ir.Node) -> Value:
        """An instruction that does the same to every particle."""
        if isinstance(node, ir.Map):
            return self._map(node)
        args = [(self.values[a], self.plan.labels[a]) for a in node.args]
        own = self.plan.labels[node]
        if REPLICATE in own and self._one_by_one(node):
            return np.stack([self._of_one(node, args, r) for r in range(self.replicates)])
        result = RULES[type(node)](node, args, own)
        if isinstance(node, ir.Reduce):
            self._watch(node, result, [x for x, _ in args])
        return result

    def _map(self, node: ir.Map) -> Array:
        """A function of entries. Numbers that all replicates share stay numbers, which some kernels treat on their own."""
        args = [self.values[a] if to is None else to(self.values[a]) for a, to in self.plan.moves(node)]
        result = KERNELS[node.fn](*args)
        self._watch(node, result, args)
        return result

    def _one_by_one(self, node: ir.Node) -> bool:
        """Whether the rule of an instruction looks at all of an array, so that replicates may not share it."""
        return isinstance(node, ir.Linalg | ir.Spectral) or any(self.plan.differs(a) for a in self._positions(node))

    def _positions(self, node: ir.Node) -> tuple[ir.Node, ...]:
        return node.args[1:] if isinstance(node, ir.Reindex) else ()

    def _of_one(self, node: ir.Node, args: Sequence[Labelled], replicate: int) -> Array:
        own = [(x[replicate], of[1:]) if REPLICATE in of else (x, of) for x, of in args]
        return RULES[type(node)](node, own, labels(node.type))

    def _matmul(self, node: ir.MatMul) -> Value:
        def product(member: tuple[int, ...], columns: Array, kets: Kets) -> Array:
            return self._state(node, member).apply(columns, node.transposed, self.space(node), kets)

        return self._member_by_member(node, product)

    def _member_by_member(
        self, node: ir.MatMul | ir.Apply, product: Callable[[tuple[int, ...], Array, Kets], Array | Entries]
    ) -> Array | Diagnostic:
        """A product with a family of matrices: each member is applied to its columns of x, (replicates, samples, k)."""
        x = node.args[0]
        problem = self.particles.problem(node, self.values[x])
        if problem is not None:
            return problem
        batch = tuple(m for m in node.member if isinstance(m, Index))
        rest = tuple(i for i in x.type.indices if i not in batch)
        sizes = (*(b.size for b in batch), self.samples, *(i.size for i in rest))
        moved = whole(self.particles, x, (*batch, 0, *rest), sizes)
        parts = np.empty_like(moved)
        for place in np.ndindex(*(b.size for b in batch)):
            chosen = dict(zip(batch, place, strict=True))
            member = tuple(chosen[m] + 1 if isinstance(m, Index) else m for m in node.member)
            columns = contiguous(moved[(slice(None), *place)])
            kets = Kets.at(self.values[x], *((i, chosen[i]) for i in x.type.indices if i in chosen))
            result = product(member, columns.reshape(self.replicates, self.samples, -1), kets)
            parts[(slice(None), *place)] = result.reshape(columns.shape)
        return aligned(parts, (REPLICATE, *batch, 0, *rest), self.plan.labels[node])

    def _state(self, node: ir.MatMul, member: tuple[int, ...]) -> MatrixState:
        symbol = node.matrix
        if (symbol, member) not in self.states:
            own = self.plan.labels[symbol.variance]
            position = dict(zip(symbol.indices, member, strict=True))
            at = tuple(position[i] - 1 if isinstance(i, Index) else slice(None) for i in own)
            value = host(self.values[symbol.variance])[at]
            numerical_errors.check_law(symbol, value)
            self.states[symbol, member] = MatrixState(
                value,
                symbol.rows.ratio / symbol.cols.ratio,
                *(self._start(symbol, x) for x in ((node, node.args[0]) if node.transposed else (node.args[0], node))),
            )
        return self.states[symbol, member]

    def _start(self, symbol: ir.MatrixSymbol, ket: ir.Node) -> KetSpan:
        """The empty span of a ket's space, one for all matrices that drop as much."""
        single = self.plan.single or self.particles.backend.single
        averages, space = self.particles.averages, self.plan.space[ket]
        drop = dropped_of(self.plan.products[symbol], averages.resolution(self.particles.all), single)
        return self.starts.setdefault((drop, space), KetSpan(drop, averages.of(space)))

    def _clt(self, node: ir.Clt) -> Value:
        if node in self.plan.problems:
            return self.plan.problems[node]
        v, x = node.args
        own: Labels = (0, *node.type.indices)
        sizes = (self.samples, *node.type.shape)
        product = whole(self.particles, v, own, sizes) * whole(self.particles, x, own, sizes)
        flat = product.reshape(self.replicates, self.samples, -1)
        problem = self.particles.problem(node, flat)
        if problem is not None:
            return problem
        return self.clt.value(node, flat, self.plan.space[v]).reshape(self.replicates, *node.type.shape)

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


def only(values: Outputs) -> Outputs:
    """The outputs of the only replicate."""
    return {name: x if isinstance(x, Diagnostic) else x[0] for name, x in values.items()}
