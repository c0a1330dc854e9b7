"""Runs with weighted particles along random directions: the fluctuations of finite width are made of their differences.

A network of width n is a particle system whose averages over space s are those of ρ_s n particles drawn at random (P⊥ in
conditioning/matmul.py). So f_n = F(P̂_1, .., P̂_S), with P̂_s the empirical law of space s. Let every particle α of every space s have
the weight (1 + ε ξ_α)/mean(1 + ε ξ), with ξ_α = ±ρ_s^(-1/2) at random, in every average of the space, and let F be the outputs of one run
with M particles in each space. Then

    D = (F(εξ) - F(-εξ))/2ε,   B = (F(εξ) + F(-εξ) - 2 F(0))/2ε²,   Σ = M E[D Dᵀ],   b = M E[B]

over directions ξ and scramblings, and f_n = f + b/n + N(0, Σ/n). Averages move by ε/√M, so that ε need not be small. Where functions
jump it must not be: the density at the jump is seen by how many particles pass it, some ε√M of them, and B would be off by their
fluctuation (signSGD in two steps: -.12 for .19 with M = 4,096 and ε = 1). Where Σ or b depend on ε, there is a kink or a jump
of averages within reach of their fluctuations, and neither exists: of |<u>|, B grows by 1/ε.
"""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any

import numpy as np

from tp_compiler.diagnostics import Diagnostic, ProgramError
from tp_compiler.evaluate.array_types import Array, Outputs
from tp_compiler.evaluate.backend import ArrayBackend
from tp_compiler.evaluate.blas import one_blas_thread
from tp_compiler.evaluate.options import Options
from tp_compiler.evaluate.sampling.averages import DifferentiableAverages, WeightedAverages
from tp_compiler.evaluate.sampling.clock import OutOfTime, ProgressClock
from tp_compiler.evaluate.sampling.clt import CltScalars
from tp_compiler.evaluate.sampling.copies import depth_of, flattened
from tp_compiler.evaluate.sampling.merge_equal_nodes import shared
from tp_compiler.evaluate.sampling.plan import SamplingPlan
from tp_compiler.evaluate.sampling.points import Sequences
from tp_compiler.evaluate.sampling.replicate import Replication
from tp_compiler.evaluate.sampling.shared_values import whole
from tp_compiler.ir import nodes as ir
from tp_compiler.ir.dependence import lattice_at_jumps
from tp_compiler.ir.model import Compiled
from tp_compiler.ir.primitives import PRIMITIVES
from tp_compiler.ir.program import Output, Program
from tp_compiler.ir.types import Index
from tp_compiler.ir.walk import reachable
from tp_compiler.shapes import Float

#: ε where nothing jumps; ε/√M, and the least ε, where something does.
SMOOTH, JUMPING, LEAST = 0.5, 1 / 16, 1.0
#: Particles of the runs that share arrays, and entries of each of their trained matrices.
SHARED, ENTRIES = 2**15, 2**23
#: A number in the seeds of directions.
DIRECTION = 32452843


@dataclass
class Runs:
    """By output name: `base` (R, *shape) of R scramblings, `plus` and `minus` (R, K, *shape) of K directions each.

    Runs of one scrambling have equal points.
    """

    samples: int  # M
    step: float  # ε
    base: dict[str, Array] = field(default_factory=dict)
    plus: dict[str, Array] = field(default_factory=dict)
    minus: dict[str, Array] = field(default_factory=dict)
    failed: dict[str, Diagnostic] = field(default_factory=dict)  # outputs without a value, and why


class WeightedSampler:
    """The outputs `only` of a program, under one scrambling and direction after the other.

    `refused`: outputs of which neither Σ nor b can be had in this way, and why. `biased`: outputs whose Σ is that of networks, but
    whose b is not, and why. `in_blocks`: whether there are entries of matrices or averages over copies, so that the pairing matters.
    """

    def __init__(self, program: Program, only: Collection[str], options: Options):
        self.options = options
        self.plan = SamplingPlan(shared(program), set(only))
        self.in_blocks = not all(self.plan.linear) or bool(self.plan.depth)
        self.ratios = _ratios(self.plan)
        self.kept = Sequences()
        self.changed = changed(program)
        self.refused: dict[str, Diagnostic] = {}
        self.biased: dict[str, Diagnostic] = {}
        for output in self.plan.outputs:
            self._judge(output)

    @property
    def jumps(self) -> bool:
        """Whether functions of kets jump."""
        return any(isinstance(n, ir.Map) and PRIMITIVES[n.fn].jumps and n.type.slots for n in self.plan.nodes)

    def step(self, samples: int) -> float:
        """ε."""
        return max(LEAST, JUMPING * math.sqrt(samples)) if self.jumps else SMOOTH

    # -- what is computed ---------------------------------------------------------------------------------------
    def _judge(self, output: Output) -> None:
        nodes = self.plan.needs(output.name).nodes
        for span, why, remedy in _refusals(output, nodes, self.options, output.name in self.changed):
            message = f"no fluctuations of `{output.name}` at finite width: {why}"
            self.refused.setdefault(output.name, Diagnostic("NX934", message, span, remedy))
        for span, why, remedy in _unknown_biases(nodes):
            message = f"no bias of `{output.name}` at finite width: {why}"
            self.biased.setdefault(output.name, Diagnostic("NX935", message, span, remedy))

    # -- runs ---------------------------------------------------------------------------------------------------
    def runs(
        self,
        samples: int,
        scramblings: range,
        directions: range,
        pairing: int | None = None,
        step: float | None = None,
    ) -> Runs:
        """The scramblings and directions with these numbers, with `samples` particles, along a step ε. Raises ProgramError.

        `pairing`: of rows and columns of matrices that are kept by their entries, and of copies of neurons. None: every row meets
        every column, as b needs, at M² entries. 0, 1, ..: one of the ways to pair blocks: cheaper, but each D has noise of its
        own pairing, and Σ is M E[D D'ᵀ] for the D and D' of two of them.
        """
        result = Runs(samples, self.step(samples) if step is None else step)
        clock = ProgressClock(self.plan, self.options, time.monotonic())
        parts = self._parts(samples, directions, pairing)
        with one_blas_thread():
            try:
                found = []
                for k, s in enumerate(scramblings):
                    self._tell(k, len(scramblings), samples, directions)
                    found.append([self._together(result, s, part, pairing, clock) for part in parts])
            except OutOfTime:
                raise ProgramError([clock.too_slow(samples)]) from None
        for output in self.plan.outputs:
            self._collect(result, output.name, [[values[output.name] for values in of_one] for of_one in found])
        return result

    def _tell(self, done: int, scramblings: int, samples: int, directions: range) -> None:
        """Progress: the scramblings whose runs along these directions are done."""
        if self.options.progress is not None:
            numbers = f"directions {directions.start + 1} to {directions.stop}"
            self.options.progress(done, scramblings, f"finite width, {numbers}, M = {samples}")

    def _parts(self, samples: int, directions: range, pairing: int | None) -> list[range]:
        """Directions whose runs share arrays."""
        most = SHARED // samples
        if pairing is None and self.in_blocks:
            most = min(most, ENTRIES // samples**2)
        each = max(1, (most - 1) // 2)
        return [directions[k : k + each] for k in range(0, len(directions), each)]

    def _collect(self, result: Runs, name: str, found: list[list[Any]]) -> None:
        broken = next((x for of_one in found for x in of_one if isinstance(x, Diagnostic)), None)
        if broken is not None:
            result.failed[name] = broken
            return
        result.base[name] = np.array([of_one[0][0] for of_one in found])
        for k, sign in ((1, result.plus), (2, result.minus)):
            sign[name] = np.array([np.concatenate([x[k::2] for x in of_one]) for of_one in found])

    @np.errstate(all="ignore")
    def _together(
        self, asked: Runs, scrambling: int, directions: range, pairing: int | None, clock: ProgressClock
    ) -> Outputs:
        """The outputs with equal weights, then those of each direction and its opposite."""
        library, samples = self.options.library, asked.samples
        weights = {
            space: library.array(self._weights(space, ratio, asked, scrambling, directions))
            for space, ratio in self.ratios.items()
        }
        seeds = [(self.options.seed, scrambling)] * (2 * len(directions) + 1)
        plain = self.options.method == "mc"
        run = Replication(
            self.plan, samples, seeds, plain, pause=clock.pause, kept=self.kept, backend=library,
            averages=WeightedAverages(weights), pairing=pairing,
        )  # fmt: skip
        return run.outputs_given(CltScalars())

    # -- by reverse mode ----------------------------------------------------------------------------------------
    @property
    def differentiable(self) -> bool:
        """Whether outputs are smooth functions of the weights, whose derivatives PyTorch knows, and PyTorch is here."""
        nodes, loop = self.plan.nodes, self.plan.phases.loop
        refused = self.jumps or self.in_blocks or (loop is not None and bool(loop.times))
        return not refused and not any(isinstance(n, ir.Spectral) for n in nodes) and find_spec("torch") is not None

    def influences(self, samples: int, scramblings: range) -> dict[str, Float[Array, "scramblings entries particles"]]:
        """Of every particle of every space on each entry of the outputs that have derivatives, by a reverse pass for each: IF/√(ρ_s M).

        Σ between two outputs is the mean of A Bᵀ over the scramblings. Raises torch_arrays.Undifferentiated where derivatives
        are lost on the way.
        """
        clock = ProgressClock(self.plan, self.options, time.monotonic())
        with one_blas_thread():
            try:
                found = [self._influences(samples, scrambling, clock) for scrambling in scramblings]
            except OutOfTime:
                raise ProgramError([clock.too_slow(samples)]) from None
        return {name: np.stack([one[name] for one in found]) for name in found[0] if all(name in one for one in found)}

    @np.errstate(all="ignore")
    def _influences(self, samples: int, scrambling: int, clock: ProgressClock) -> dict[str, Array]:
        import torch

        from tp_compiler.evaluate.torch_arrays import TorchArray, Undifferentiated

        o = self.options
        if self._tape(samples) > o.memory:
            raise Undifferentiated
        library = o.library if o.backend == "torch" else ArrayBackend("torch")
        kind = getattr(torch, library.dtype)
        moves = {s: torch.zeros(1, samples, dtype=kind, device=library.device, requires_grad=True) for s in self.ratios}
        weights: Any = {s: TorchArray((1 + x) / (1 + x).mean()) for s, x in moves.items()}
        run = _Differentiated(
            self.plan, samples, [(o.seed, scrambling)], o.method == "mc", pause=clock.pause, kept=self.kept,
            backend=library, averages=DifferentiableAverages(weights),
        )  # fmt: skip
        found = {}
        for name, value in run.outputs_given(CltScalars()).items():
            if isinstance(value, Diagnostic):
                continue
            rows = [self._gradient(entry, moves, samples) for entry in value.tensor.reshape(-1)]  # type: ignore[attr-defined]
            found[name] = np.array(rows).reshape(len(rows), samples * len(moves))
        return {name: x for name, x in found.items() if np.isfinite(x).all()}

    def _tape(self, samples: int) -> float:
        """The bytes of all kets of a run, which reverse mode keeps, with what they are made of."""
        kets = (self.plan.phases.repeats(n) * n.type.size() for n in self.plan.nodes if n.type.slots)
        return 4 * 8.0 * samples * sum(kets)

    def _gradient(self, entry: Any, moves: Mapping[int, Any], samples: int) -> Array:
        """√(M/ρ_s) times the derivatives of a number in the weights of all spaces."""
        import torch

        if not entry.requires_grad:
            return np.zeros(samples * len(moves))
        parts = torch.autograd.grad(entry, [*moves.values()], retain_graph=True, allow_unused=True)
        scales = [math.sqrt(samples / self.ratios[space]) for space in moves]
        known = [np.zeros(samples) if x is None else x.cpu().numpy()[0] for x in parts]
        return np.concatenate([scale * x for scale, x in zip(scales, known, strict=True)])

    def _weights(
        self, space: int, ratio: float, asked: Runs, scrambling: int, directions: range
    ) -> Float[Array, "runs {asked.samples}"]:
        """1, then 1 + ε ξ and 1 - ε ξ for every direction, divided by their means."""
        samples = asked.samples
        rows: list[Any] = [np.ones(samples)]
        for direction in directions:
            seed = [self.options.seed, scrambling, DIRECTION, direction, space]
            # As many + as -: the weights of a direction have the mean 1, whose noise would be that of b.
            signs = np.random.Generator(np.random.PCG64(seed)).permutation(np.resize([1.0, -1.0], samples))
            move = asked.step / math.sqrt(ratio) * signs
            rows += [1 + move, 1 - move]
        weights = np.array(rows)
        found: Array = weights / weights.mean(axis=1, keepdims=True)
        return found


class _Differentiated(Replication):
    """A run whose outputs know what they are made of."""

    def _output(self, node: ir.Node, indices: tuple[Index, ...]) -> Array | Diagnostic:
        value = self.values[node]
        problem = value if isinstance(value, Diagnostic) else self.particles.problem(node, value)
        return problem or whole(self.particles, node, indices, tuple(i.size for i in indices))


def _ratios(plan: SamplingPlan) -> dict[int, float]:
    """ρ of every space."""
    found = {}
    for node in plan.nodes:
        for x in (node, *node.args):
            for slot, width in x.type.slots:
                found[plan.neurons[x, slot]] = width.ratio
    return found


def changed(program: Program) -> set[str]:
    """Trained outputs that networks compute in another way than the limit, which drops powers of n."""
    networks = {o.name: o.node for o in program.finite.outputs} if isinstance(program, Compiled) else {}
    others = {o.name: networks[o.name] for o in program.outputs if networks.get(o.name, o.node) is not o.node}
    trained = (ir.Carry, ir.Clock, ir.Apply, ir.Trace)
    return {name for name, node in others.items() if any(isinstance(n, trained) for n in reachable([node]))}


#: Where, why, and what to do instead.
Problem = tuple[Any, str, str]


def _refusals(output: Output, nodes: Collection[ir.Node], options: Options, other: bool) -> Iterator[Problem]:
    """What stands against the fluctuations of an output. `other`: networks compute it in another way."""
    if other:
        why = "the limit drops what networks have at a power of n (the neural tangent limit, or exponents of your own)"
        yield output.span, why, "use the maximal-update parametrization"
    if options.shards is not None:
        yield output.span, "shards do not weigh particles", "leave out `--shards`"
    for node in nodes:
        if isinstance(node, ir.Clt):
            why = "it depends on `clt` values, which are random in the limit"
            yield node.span, why, "ask for outputs that do not depend on them"
    lattice = lattice_at_jumps(nodes)
    if lattice is not None:
        name = lattice.matrix.name
        why = f"a function jumps at sums of the entries of `{name}`, and in networks such sums lie on a lattice"
        yield lattice.matrix.span, why, f"write `matrix {name} ~ N(0, ..)`"


def _unknown_biases(nodes: Collection[ir.Node]) -> Iterator[Problem]:
    """What adds to the bias of networks, and not to that of particles."""
    for node in nodes:
        if isinstance(node, ir.MatMul) and node.matrix.law != "normal":
            why = f"it depends on the fourth moment of the entries of `{node.matrix.name}`"
            yield node.matrix.span, why, "write N(0, ..) for the spread and the bias"
        elif isinstance(node, ir.Contract) and any(slot != 0 for slot in node.slots):
            _, copies, _ = flattened(node, list(node.args))
            if len(copies) > 1 or depth_of(node) > 1:
                why = "an average over several copies of neurons pairs each with one other"
                yield node.span, why, "write averages over one copy"


__all__ = ["Runs", "WeightedSampler", "changed"]
