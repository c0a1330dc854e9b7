"""Outputs that depend on the values of `clt` scalars, for all draws together.

At initialisation the `clt` scalars are one Gaussian vector with covariance E[v x v' x'] (docs/mathematics.md, section 4),
independent of every ket. A program that uses their values (training in the neural tangent limit from a random
f_0) is run with an additional index, `draw`, in place of every such scalar: all draws are computed together.
Averages with an exact value enter as that value. If an output turns out to be an affine function of the vector,
its law is Gaussian with a mean and covariance that need no draws. If kets are left (an optimizer that is not
linear), they are frozen: neuron_pairs.py.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from tp_compiler.diagnostics import Diagnostic, Span
from tp_compiler.evaluate.array_types import Array, Outputs
from tp_compiler.evaluate.budget import BASE, budget_for
from tp_compiler.evaluate.clt_laws import covariance_node
from tp_compiler.evaluate.exact.evaluator import ExactEvaluator
from tp_compiler.evaluate.exact.ket_formula import Tensor
from tp_compiler.evaluate.interface import Answers
from tp_compiler.evaluate.options import Options
from tp_compiler.evaluate.sampling.clt import CltScalars
from tp_compiler.evaluate.sampling.neuron_pairs import PairedProgram, paired
from tp_compiler.evaluate.sampling.plan import SamplingPlan
from tp_compiler.evaluate.sampling.points import Points
from tp_compiler.evaluate.sampling.replicate import Replication, only
from tp_compiler.ir import nodes as ir
from tp_compiler.ir.build import MAX_STEPS, Builder
from tp_compiler.ir.program import Output, Program
from tp_compiler.ir.types import Axis, Index
from tp_compiler.ir.walk import reachable, rewrite
from tp_compiler.replicates import Replicates, mean_and_error
from tp_compiler.results import Estimate
from tp_compiler.shapes import Float

#: Draws of the first and of the largest run of a program of numbers alone; with kets, the particles decide.
FIRST, MOST = 2**9, 2**13
#: Particles for every draw of a level, in units of the draws: both double from level to level.
PARTICLES = 4
#: Particles times draws that are run at once (they stay in the cache); numbers that one replicate holds at most.
ENTRIES, MOST_NUMBERS = 2**16, 2**27
#: How many draws decide whether an output is affine, and to what accuracy.
PROBES, AFFINE = 32, 1e-10


AFFINE_NOTE = "an affine function of the outputs at initialisation, which are Gaussian"


def drawn_together(program: Program, names: list[str]) -> bool:
    """Can the draws be made before anything else? Yes, unless a `clt` scalar depends on the value of another."""
    nodes = SamplingPlan(program, set(names)).nodes
    return all(not any(a.type.random for a in n.args) for n in nodes if isinstance(n, ir.Clt))


Sampled = Mapping[ir.Node, Array | Diagnostic]
#: Mean and covariance of an output.
Law = tuple[Array, Array] | Diagnostic


class Draws:
    """The outputs `names` of a program over the draws of its `clt` scalars."""

    def __init__(self, program: Program, names: list[str], options: Options, reasons: Mapping[str, str]):
        self.program, self.options, self.reasons = program, options, reasons
        self.start = time.monotonic()
        self.plan = SamplingPlan(program, set(names))
        self.outputs = self.plan.outputs
        self.clts = [n for n in self.plan.nodes if isinstance(n, ir.Clt)]
        self.size = sum(c.type.size() for c in self.clts)
        self.build = Builder(fresh_from=MAX_STEPS)
        self.span = program.outputs[0].span
        self.static = self._static()
        self._labels: dict[tuple[int, int], tuple[Index, ...]] = {}  # of the covariance of two families
        self.covariances = self._covariance_nodes()
        wanted = reachable([*self.static, *self.covariances.values()])
        with budget_for("auto", options.max_time, len(wanted), options.memory - BASE).running():
            exact = options.method != "qmc"
            found = ExactEvaluator(wanted, quadrature=options.method != "exact").values if exact else {}
        self.known = {n: v for n in wanted if isinstance(v := found.get(n), Tensor) and n.type.is_scalar}
        self.warnings: list[Diagnostic] = []
        self.affine = False  # are the outputs affine in the draws, with averages that are sampled?
        self._pairs: dict[int, PairedProgram | None] = {}

    # -- what stays -------------------------------------------------------------------------------------------------
    def _static(self) -> list[ir.Node]:
        """The averages that depend neither on a draw nor on the step and that something which does depend reads."""
        static = {n for n in self.plan.phases.static if not n.type.random}
        read = {a for n in self.plan.nodes if n not in static and not isinstance(n, ir.Clt) for a in n.args}
        return [n for n in self.plan.phases.static if n in read and _is_average(n)]

    def _covariance_nodes(self) -> dict[tuple[int, int], ir.Node]:
        """E[v x v' x'] of every two families of `clt` scalars."""
        found = {}
        for k, a in enumerate(self.clts):
            for m, b in enumerate(self.clts[: k + 1]):
                found[k, m], self._labels[k, m] = covariance_node(self.build, a, b, self.span)
        return found

    # -- one run ----------------------------------------------------------------------------------------------------
    def _sampled(self, samples: int, number: int) -> dict[ir.Node, Array | Diagnostic]:
        """Under one scrambling: the averages that have no exact value."""
        missing = [n for n in dict.fromkeys([*self.static, *self.covariances.values()]) if n not in self.known]
        if not missing:
            return {}
        outputs = tuple(Output(f"#{k}", n.type.indices, n, n.span) for k, n in enumerate(missing))
        plan = SamplingPlan(replace(self.program, outputs=outputs, loop=None))
        run = Replication(
            plan, samples, [(self.options.seed, number)], self.options.method == "mc", backend=self.options.library
        )
        values = only(run.outputs_given(CltScalars()))
        return {n: values[o.name] for n, o in zip(missing, outputs, strict=True)}

    def _value(self, node: ir.Node, sampled: Sampled, own: tuple[Index, ...]) -> Array:
        if node in sampled:
            order = [node.type.indices.index(i) for i in own if i in node.type.indices]
            value = sampled[node]
            assert not isinstance(value, Diagnostic)
            found = np.transpose(value, order)
            shape = [i.size if i in node.type.indices else 1 for i in own]
            return np.broadcast_to(found.reshape(shape), [i.size for i in own])
        return np.broadcast_to(self.known[node].at(own), [i.size for i in own])

    def _root(self, sampled: Sampled) -> Float[Array, "scalars scalars"]:
        """A square root of the covariance of all `clt` scalars."""
        sizes = [c.type.size() for c in self.clts]
        ends = np.cumsum([0, *sizes])
        covariance = np.zeros((self.size, self.size))
        for (k, m), node in self.covariances.items():
            block = self._value(node, sampled, self._labels[k, m]).reshape(sizes[k], sizes[m])
            covariance[ends[k] : ends[k + 1], ends[m] : ends[m + 1]] = block
            covariance[ends[m] : ends[m + 1], ends[k] : ends[k + 1]] = block.T
        values, vectors = np.linalg.eigh(covariance)
        return vectors * np.sqrt(np.maximum(values, 0.0))

    def _run(self, draws: Float[Array, "draws scalars"], sampled: Sampled, samples: int, number: int) -> Outputs:
        """The outputs for an array of draws (D, size): arrays (D, ...) or Diagnostics."""
        program = self._batched(draws, sampled)
        plan = SamplingPlan(program)
        run = Replication(
            plan, samples, [(self.options.seed, number)], self.options.method == "mc", backend=self.options.library
        )
        return only(run.outputs_given(CltScalars()))

    def _batched(self, draws: Float[Array, "draws scalars"], sampled: Sampled) -> Program:
        """The program with an index `draw` in place of the `clt` scalars."""
        draw = Index("draw", Axis("draw#", len(draws)))
        drawn = self._drawn(draws)
        fixed: dict[ir.Node, ir.Node] = {c: self._array(drawn[c], (draw, *c.type.indices), c.span) for c in self.clts}
        for n in self.static:
            if n in self.known or (n in sampled and not isinstance(sampled[n], Diagnostic)):
                fixed[n] = self._array(self._value(n, sampled, n.type.indices), n.type.indices, n.span)
        return _Batch(fixed, draw).program(self.program, self.outputs)

    def _drawn(self, draws: Float[Array, "draws scalars"]) -> dict[ir.Node, Array]:
        """The values of the `clt` scalars, over the draws and their own indices."""
        found: dict[ir.Node, Array] = {}
        at = 0
        for c in self.clts:
            found[c] = draws[:, at : at + c.type.size()].reshape(len(draws), *c.type.shape)
            at += c.type.size()
        return found

    def _array(self, values: Array, indices: tuple[Index, ...], span: Span) -> ir.Node:
        return self.build.array("f_0", np.array(values), indices, False, span)

    # -- estimates --------------------------------------------------------------------------------------------------
    def run(self) -> Answers:
        problem = next(iter(self.plan.problems.values()), None)
        if isinstance(problem, Diagnostic):
            return Answers({o.name: problem for o in self.outputs})
        if self._has_kets() or not self._all_known():
            return self._levels()
        found = self._exact()
        left = [o.name for o in self.outputs if o.name not in found.found]
        if left:
            found.add(Draws(self.program, left, self.options, self.reasons)._levels())
        return found

    @property
    def certain(self) -> bool:
        """Nothing is drawn: by `--f0 zero`, or because no output depends on the outputs at initialisation."""
        return self.options.f0 == "zero" or not self.size

    def _all_known(self) -> bool:
        return all(n in self.known for n in (*self.static, *self.covariances.values()))

    def _has_kets(self) -> bool:
        """Whether training moves kets or entries. Otherwise it only moves numbers, once the averages are known."""
        fixed = {n: np.zeros(n.type.shape) for n in self.static}
        return any(n.type.slots for n in SamplingPlan(self._batched(np.zeros((1, self.size)), fixed)).nodes)

    def _exact(self) -> Answers:
        """Mean and covariance of the outputs that are affine in the `clt` scalars, if every average is known."""
        outputs: dict[str, Estimate] = {}
        law = self._law({}, 1, 0)
        failed = {name: value for name, value in law.items() if isinstance(value, Diagnostic)}
        for o in self.outputs:
            known = law.get(o.name)
            if known is not None and not isinstance(known, Diagnostic):
                mean, spread = known
                axes = tuple(i.name for i in o.indices)
                zeros = np.zeros_like(mean), np.zeros_like(spread)
                certain = Estimate(mean, zeros[0], axes, "exact")
                drawn = Estimate(mean, zeros[0], axes, "exact", "gaussian", spread, zeros[1], AFFINE_NOTE)
                outputs[o.name] = certain if self.certain else drawn
        return Answers({**outputs, **failed})

    def _law(self, sampled: Sampled, samples: int, number: int) -> dict[str, Law]:
        """Mean and covariance (or the Diagnostic) of every output that is affine in the `clt` scalars."""
        zero = self.certain
        generator = np.random.Generator(np.random.PCG64([self.options.seed, 31]))
        root = self._root(sampled)
        probes = generator.standard_normal((PROBES, self.size)) @ root.T
        points = np.concatenate([np.zeros((1, self.size)), np.eye(self.size), probes])
        found = self._run(points[:1] if zero else points, sampled, samples, number)
        law: dict[str, Law] = {}
        for name, value in found.items():
            if isinstance(value, Diagnostic):
                law[name] = value
            elif zero:
                law[name] = value[0], np.zeros((value[0].size, value[0].size))
            else:
                base, slope = value[0], (value[1 : self.size + 1] - value[0]).reshape(self.size, value[0].size)
                off = value[self.size + 1 :].reshape(PROBES, value[0].size) - (base.ravel() + probes @ slope)
                if np.max(np.abs(off), initial=0.0) > AFFINE * (1 + float(np.max(np.abs(value), initial=0.0))):
                    continue
                moved = slope.T @ root
                law[name] = base, moved @ moved.T
        return law

    def _levels(self) -> Answers:
        """Double the draws (and particles) until the errors meet the tolerance."""
        values: list[dict[str, Any]] = []
        spreads: list[dict[str, Any]] = []
        failed: dict[str, Diagnostic] = {}
        sizes: list[int] = []
        for samples, count in self._sizes():
            level, spread = self._level(samples, count, failed)
            values, spreads, sizes = [*values, level], [*spreads, spread], [*sizes, self._resolution(samples, count)]
            if len(values) > 1 and all(self._met(values, sizes, o.name) for o in self.outputs if o.name not in failed):
                break
            late = self.options.max_time is not None and time.monotonic() - self.start > self.options.max_time
            if late or len(failed) == len(self.outputs):
                break
        outputs = {}
        for o in self.outputs:
            if o.name in failed:
                continue
            value, error = mean_and_error([v.get(o.name) for v in values], sizes)
            covariance, uncertain = mean_and_error([s.get(o.name) for s in spreads], sizes)
            axes = tuple(i.name for i in o.indices)
            law, note = ("gaussian", AFFINE_NOTE) if self.affine else ("sampled", self.reasons.get(o.name, ""))
            if not self.certain:
                outputs[o.name] = Estimate(value, error, axes, "qmc", law, covariance, uncertain, note)
            else:
                found = Replicates.of([v.get(o.name) for v in values], sizes)
                outputs[o.name] = Estimate(
                    value, error, axes, "qmc", note=self.reasons.get(o.name, ""), replicates=found
                )
            if not self._met(values, sizes, o.name):
                message = f"the error of `{o.name}`, {float(np.max(error)):.2g}, exceeds the tolerance"
                self.warnings.append(Diagnostic("NX913", message, o.span, "raise `--max-samples` or `--samples`"))
        return Answers({**outputs, **failed}, tuple(self.warnings), sizes[-1])

    def _sizes(self) -> list[tuple[int, int]]:
        """(particles, draws) of every level."""
        o = self.options
        wanted = o.samples or o.max_samples
        numbers = not self._has_kets()
        if numbers and not self._all_known():
            sampled = self._sampled(256, 0)
            broken = any(isinstance(value, Diagnostic) for value in sampled.values())
            self.affine = not broken and len(self._law(sampled, 256, 0)) == len(self.outputs)
        if numbers and not self.affine and self._all_known():
            most = wanted or MOST
            return [(1, d) for d in _doubling(min(FIRST, most), most)]
        if self.certain or self.affine:
            most = wanted or 2**16
            return [(m, 1) for m in _doubling(max(64, most // 8 if o.samples else min(2**11, most)), most)]
        most = wanted or 2**20
        sizes = [(max(64, t // d), d) for d in (2**k for k in range(6, 13)) for t in (PARTICLES * d * d,) if t <= most]
        return sizes or [(max(64, most // 64), 64)]

    def _level(
        self, samples: int, count: int, failed: dict[str, Diagnostic]
    ) -> tuple[dict[str, Array], dict[str, Array]]:
        """Means and covariances of every replicate."""
        means: dict[str, list[Any]] = {}
        spreads: dict[str, list[Any]] = {}
        for number in range(self.options.replicates):
            for name, found in self._replicate(samples, count, number).items():
                if isinstance(found, Diagnostic):
                    failed[name] = found
                else:
                    means.setdefault(name, []).append(found[0])
                    spreads.setdefault(name, []).append(found[1])
            if failed:
                break
            if self.options.progress is not None:
                self.options.progress(number + 1, self.options.replicates, f"{count} draws")
        kept = [n for n in means if n not in failed]
        return {n: np.array(means[n]) for n in kept}, {n: np.array(spreads[n]) for n in kept}

    def _replicate(self, samples: int, count: int, number: int) -> dict[str, Law]:
        """(mean, covariance) over the draws of every output, or its Diagnostic, under one scrambling."""
        sampled = self._sampled(samples, number)
        broken = next((v for v in sampled.values() if isinstance(v, Diagnostic)), None)
        if broken is not None:
            return {o.name: broken for o in self.outputs}
        if self.affine:
            return self._law(sampled, samples, number)
        zero = self.certain
        draws = np.zeros((1, self.size)) if zero else self._normal(count, number) @ self._root(sampled).T
        return {name: _moments(value) for name, value in self._values(draws, sampled, samples, number).items()}

    def _values(self, draws: Float[Array, "draws scalars"], sampled: Sampled, samples: int, number: int) -> Outputs:
        """The outputs for an array of draws: on pairs of frozen kets if possible, otherwise on particles in blocks."""
        part = _part(samples, len(draws))
        pairs = self._paired(part) if samples > 1 else None
        if pairs is None:
            return self._run(draws, sampled, samples, number)
        samples = _fitting(samples, pairs)
        library = self.options.library
        kets = pairs.fill(self.program, samples, (self.options.seed, number), self.options.method == "mc", library)
        if isinstance(kets, Diagnostic):
            return {o.name: kets for o in self.outputs}
        scalars = {n: self._value(n, sampled, n.type.indices) for n in self.static}
        runs = []
        for at in range(0, len(draws), part):
            chunk = draws[at : at + part]
            runs.append(pairs.run(samples, kets, {**scalars, **self._drawn(chunk)}, library))
        return {name: _concatenated([r[name] for r in runs]) for name in runs[0]}

    def _resolution(self, samples: int, count: int) -> int:
        """The size with which the bias of a level decreases: the number of particles, or of draws if only numbers are drawn."""
        if samples == 1:
            return count
        pairs = None if self.certain or self.affine else self._paired(_part(samples, count))
        return samples if pairs is None else _fitting(samples, pairs)

    def _paired(self, count: int) -> PairedProgram | None:
        if count not in self._pairs:
            draw = Index("draw", Axis("draw#", count))
            frozen = {n for n in self.plan.phases.static if not n.type.random}
            self._pairs[count] = paired(self.program, self.outputs, frozen, draw, {*self.clts, *self.static})
        return self._pairs[count]

    def _normal(self, count: int, number: int) -> Float[Array, "draws scalars"]:
        """Standard normal vectors with sample mean 0 and, if there are enough of them, sample covariance 1, like the law: linear
        functions of them, and their covariances, have no error."""
        half = max(1, count // 2)
        points = Points(half, (self.options.seed, number, 104729), self.size, self.options.method == "mc")
        drawn = points.draw(self.size)
        drawn = np.concatenate([drawn, -drawn])
        if half < 2 * self.size:
            return drawn
        return np.linalg.solve(np.linalg.cholesky(drawn.T @ drawn / len(drawn)), drawn.T).T

    def _met(self, levels: list[dict[str, Array]], sizes: list[int], name: str) -> bool:
        value, error = mean_and_error([v.get(name) for v in levels], sizes)
        atol = 1e-3 if self.options.atol is None else self.options.atol
        rtol = 1e-3 if self.options.rtol is None else self.options.rtol
        return bool(np.max(error, initial=0.0) <= atol + rtol * np.max(np.abs(value), initial=0.0))


def _is_average(node: ir.Node) -> bool:
    """A number that averages over neurons, and no draw enters."""
    return node.type.is_scalar and not node.type.random and not isinstance(node, ir.Constant | ir.Array | ir.Position)


def _part(samples: int, draws: int) -> int:
    """How many draws are run together."""
    return min(draws, max(1, ENTRIES // samples))


def _fitting(samples: int, pairs: PairedProgram) -> int:
    """Particles of frozen kets, as many as the memory of one replicate holds."""
    return min(samples, max(64, 1 << int(np.log2(MOST_NUMBERS // max(1, pairs.size())))))


def _doubling(first: int, most: int) -> list[int]:
    sizes = [first]
    while 2 * sizes[-1] <= most:
        sizes.append(2 * sizes[-1])
    return sizes


def _moments(value: Array | Diagnostic) -> Law:
    """Mean and covariance over the first dimension."""
    if isinstance(value, Diagnostic):
        return value
    flat = value.reshape(len(value), -1)
    centred = flat - flat.mean(axis=0)
    return value.mean(axis=0), centred.T @ centred / len(flat)


def _concatenated(parts: list[Array | Diagnostic]) -> Array | Diagnostic:
    broken = next((p for p in parts if isinstance(p, Diagnostic)), None)
    return broken or np.concatenate([p for p in parts if not isinstance(p, Diagnostic)])


class _Batch:
    """Rewrites a program: some nodes by others, states that depend on draws with the index `draw` added."""

    def __init__(self, fixed: Mapping[ir.Node, ir.Node], draw: Index):
        self.build = Builder()
        self.fixed = fixed
        self.draw = draw
        self.states: dict[ir.State, ir.State] = {}
        self.done: dict[ir.Node, ir.Node] = {}

    def program(self, program: Program, outputs: list[Output]) -> Program:
        changed = tuple(replace(o, node=self.node(o.node), indices=(self.draw, *o.indices)) for o in outputs)
        loop = program.loop
        if loop is not None:
            following = {self.state(s): self.node(n) for s, n in loop.following.items()}
            loop = replace(loop, following=following)
        return replace(program, outputs=changed, loop=loop)

    def node(self, root: ir.Node) -> ir.Node:
        return rewrite(self.build, root, self._rule, root.span, self.done)

    def _rule(self, node: ir.Node) -> ir.Node | None:
        if node in self.fixed:
            return self.fixed[node]
        if isinstance(node, ir.Carry):
            return self.build.carry(self.state(node.state), node.span)
        if isinstance(node, ir.Apply) and node.state.type.random:
            x = self.node(node.args[0])
            return self.build.apply(self.state(node.state), (*node.member, self.draw), node.transposed, x, node.span)
        return None if node.args else node

    def state(self, state: ir.State) -> ir.State:
        if state not in self.states:
            kind = state.type
            if kind.random:
                kind = replace(kind, indices=(*kind.indices, self.draw), random=False)
            self.states[state] = replace(state, type=kind, init=self.node(state.init))
        return self.states[state]
