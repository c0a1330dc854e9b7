"""Training on frozen kets: every average over two neurons as one quasi-Monte Carlo integral.

In the neural tangent limit no ket moves: the kets of the network and their gradients are computed once, and a trained
matrix occurs only in averages <dh|Δ|x>, with Δ(α, β) a function of the kets at α, those at β, and the draw. The two copies
are independent, also where rows and columns are the same neurons. So the average is one integral over pairs (α, β).
Kets are evaluated at two sets of particles, rows and columns, that take different coordinates of one Sobol sequence,
and a pair is a row and the column with the same number. A matrix of states is then a ket of states.

`paired` rewrites a program in this way; it returns None if a trained matrix is used in another way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import accumulate, pairwise
from typing import Any

from tp_compiler.diagnostics import Diagnostic, Span
from tp_compiler.evaluate.array_types import Array, Outputs
from tp_compiler.evaluate.arrays import aligned, labels
from tp_compiler.evaluate.backend import ArrayBackend
from tp_compiler.evaluate.sampling.clt import CltScalars
from tp_compiler.evaluate.sampling.particles import Value
from tp_compiler.evaluate.sampling.plan import SamplingPlan
from tp_compiler.evaluate.sampling.points import Points
from tp_compiler.evaluate.sampling.replicate import Replication, only
from tp_compiler.evaluate.sampling.shared_values import whole
from tp_compiler.ir import nodes as ir
from tp_compiler.ir.build import Builder, join
from tp_compiler.ir.program import Output, Program
from tp_compiler.ir.types import Index, Type
from tp_compiler.ir.walk import rewrite

#: The largest family of products of frozen kets that is computed once and kept.
KEPT = 1024
#: Names of the two sets of particles.
ROWS, COLUMNS = 0, 1


class Unpaired(Exception):
    """A trained matrix is used otherwise than in an average over both of its neurons."""


class PairedProgram:
    """A program over frozen kets: `program` reads them, and everything else that is given, from arrays filled later."""

    def __init__(self, program: Program, outputs: list[Output], frozen: set[ir.Node], draw: Index, given: set[ir.Node]):
        """`frozen`: the nodes that depend on no state; `given`: scalars whose values will be filled in, over their own
        indices and, if they are random, `draw`."""
        self.build = Builder()
        self.frozen, self.draw, self.given = frozen, draw, given
        self.kets: dict[tuple[ir.Node, int], ir.Array] = {}  # (node, set of particles)
        self.scalars: dict[ir.Node, ir.Array] = {}
        self.products: dict[tuple[ir.Node, ...], ir.Array] = {}
        self.held: set[ir.Node] = set()
        self.meetings: list[set[ir.Node]] = []  # the arrays in one average
        self.states: dict[ir.State, ir.State] = {}
        self.done: tuple[dict[ir.Node, ir.Node], dict[ir.Node, ir.Node]] = ({}, {})
        changed = tuple(replace(o, node=self.node(o.node), indices=(draw, *o.indices)) for o in outputs)
        loop = program.loop
        if loop is not None:
            following = {self.state(s): self.node(n) for s, n in loop.following.items()}
            loop = replace(loop, following=following)
        self.program = replace(program, outputs=changed, loop=loop)
        self.plan = SamplingPlan(self.program)

    # -- what nodes become --------------------------------------------------------------------------------------
    def node(self, root: ir.Node, side: int = ROWS) -> ir.Node:
        return rewrite(self.build, root, lambda n: self._rule(n, side), root.span, self.done[side])

    def _rule(self, node: ir.Node, side: int) -> ir.Node | None:
        if node in self.given:
            return self._scalar(node)
        if node in self.frozen and node.type.is_ket:
            return self._ket(node, side)
        match node:
            case ir.Copy(args=(x,)):
                return self.node(x, COLUMNS)
            case ir.Carry(state=state):
                if state.type.is_ket and side == COLUMNS:
                    raise Unpaired
                return self.build.carry(self.state(state), node.span)
            case ir.Contract():
                return self._contract(node, side)
            case ir.Apply() | ir.MatMul() | ir.InitialKet():
                raise Unpaired
        return None if node.args else node

    def _contract(self, node: ir.Contract, side: int) -> ir.Node:
        slots = {s for s, _ in node.type.slots}
        met = {s for a in node.args for s, _ in a.type.slots}
        if node.slots and slots and met - slots:
            raise Unpaired  # an average over one neuron, for every other one
        args: list[ir.Node] = []
        for a in node.args:
            args += self._image(a) if isinstance(a, ir.Apply) else [self.node(a, side)]
        if any(isinstance(a, ir.Apply) for a in node.args) and 0 not in node.slots:
            raise Unpaired
        self.meetings.append({a for a in args if a in self.held})
        return self.build.contract(self._merged(args), node.over, (0,) if node.slots else (), node.span)

    def _image(self, node: ir.Apply) -> list[ir.Node]:
        """The factors of Δ|x>, to be averaged over pairs."""
        if node.transposed:
            raise Unpaired
        learned = self.build.carry(self.state(node.state), node.span)
        named = dict(zip(node.state.type.indices, node.member, strict=True))
        return [self.build.rename(learned, {**named}, node.span), self.node(node.args[0], COLUMNS)]

    def _merged(self, args: list[ir.Node]) -> list[ir.Node]:
        """The frozen kets among the factors as one."""
        held = [a for a in args if a in self.held and a.type.is_ket]
        own = join(held) if held else None
        if own is None or len(held) < 2 or own.size() > KEPT:
            return args
        key = tuple(sorted(held, key=lambda n: n.serial))
        if key not in self.products:
            self.products[key] = self._array(own, args[0].span)
        return [self.products[key], *(a for a in args if a not in held)]

    def state(self, state: ir.State) -> ir.State:
        if state not in self.states:
            kind = state.type
            indices = (*kind.indices, self.draw) if kind.random else kind.indices
            kind = Type(indices, kind.slots[:1])
            self.states[state] = replace(state, type=kind, init=self.node(state.init))
        return self.states[state]

    # -- arrays -------------------------------------------------------------------------------------------------
    def _array(self, kind: Type, span: Span) -> ir.Array:
        found = ir.Array(type=replace(kind, random=False), name="frozen", values=None, span=span)
        self.held.add(found)
        return found

    def _ket(self, node: ir.Node, side: int) -> ir.Array:
        if (node, side) not in self.kets:
            self.kets[node, side] = self._array(Type(node.type.indices, ((0, node.type.width),)), node.span)
        return self.kets[node, side]

    def _scalar(self, node: ir.Node) -> ir.Array:
        if node not in self.scalars:
            indices = (self.draw, *node.type.indices) if node.type.random else node.type.indices
            self.scalars[node] = self._array(Type(indices), node.span)
        return self.scalars[node]

    # -- numbers ------------------------------------------------------------------------------------------------
    def size(self) -> int:
        """Numbers held for each particle: frozen kets and their products, and the states."""
        held = [*self.kets.values(), *self.products.values()]
        states = [s for s in self.plan.phases.states if s.type.slots]
        return sum(n.type.size() for n in held) + 3 * sum(s.type.size() for s in states)

    def fill(
        self, program: Program, samples: int, seed: tuple[int, ...], plain: bool, backend: ArrayBackend
    ) -> dict[ir.Node, Array] | Diagnostic:
        """The frozen kets at the particles of one scrambling, and their products."""
        values: dict[ir.Node, Any] = {}
        offset = 0
        for side in (ROWS, COLUMNS):
            kets = [n for n, s in self.kets if s == side]
            outputs = tuple(Output(f"#{k}", n.type.indices, n, n.span) for k, n in enumerate(kets))
            plan = SamplingPlan(replace(program, outputs=outputs, loop=None))
            places = self._places(plan, side, offset)
            run = _FrozenKets(plan, samples, (seed,), plain, places, backend)
            for n in kets:
                found = run.values[n]
                if isinstance(found, Diagnostic):
                    return found
                (values[self.kets[n, side]],) = whole(run.particles, n, labels(n.type), (samples, *n.type.shape))
            offset = max((place + plan.coordinates[space] for space, place in places.items()), default=offset)
        for parts, product in self.products.items():
            own = labels(product.type)
            values[product] = 1.0
            for part in parts:
                values[product] = values[product] * aligned(values[part], labels(part.type), own)
        return values

    def _places(self, plan: SamplingPlan, side: int, offset: int) -> dict[int, int]:
        """The first coordinate of each space: after those of the spaces with which it shares an average."""
        spaces = {array: plan.space[n] for (n, s), array in self.kets.items() if s == side and n in plan.space}
        groups = {space: [space] for space in sorted(set(plan.space.values()))}
        for meeting in self.meetings:
            for a, b in pairwise(sorted({spaces[m] for m in meeting if m in spaces})):
                if groups[a] is not groups[b]:
                    groups[a] += groups[b]
                    groups.update(dict.fromkeys(groups[b], groups[a]))
        places: dict[int, int] = {}
        for group in {id(g): g for g in groups.values()}.values():
            starts = accumulate((plan.coordinates[space] for space in group), initial=offset)
            places |= dict(zip(group, starts, strict=False))
        return places

    def run(
        self, samples: int, kets: Mapping[ir.Node, Array], scalars: Mapping[ir.Node, Array], backend: ArrayBackend
    ) -> Outputs:
        """The outputs, over `draw`; `scalars`: the given ones by the nodes of the original program."""
        values: dict[ir.Node, Any] = {**kets, **{held: scalars[n] for n, held in self.scalars.items()}}
        return only(_GivenArrays(self.plan, samples, values, backend).outputs_given(CltScalars()))


class _FrozenKets(Replication):
    """The frozen kets. Spaces that share no average except through pairs use the same coordinates of the sequence: `places`
    gives the first; columns use others than rows."""

    def __init__(
        self, plan: SamplingPlan, samples: int, seeds: Sequence[tuple[int, ...]], plain: bool, places: Mapping[int, int],
        backend: ArrayBackend,
    ):  # fmt: skip
        self.places = places
        super().__init__(plan, samples, seeds, plain, backend=backend)

    def _points(self, run: int, number: int, bound: int) -> Points:
        place = self.places[number]
        p = self.particles
        return _LaterPoints(p.samples, (*p.seeds[run], number, place), bound, p.plain, place, p.backend)


class _LaterPoints(Points):
    """The coordinates of a sequence from `offset` on."""

    def __init__(
        self, samples: int, seed: tuple[int, ...], bound: int, plain: bool, offset: int, backend: ArrayBackend
    ):
        super().__init__(samples, seed, bound + offset, plain, backend=backend)
        if offset and not plain:
            self.draw(offset)


class _GivenArrays(Replication):
    """A replicate whose arrays are given from outside."""

    def __init__(self, plan: SamplingPlan, samples: int, given: Mapping[ir.Node, Array], backend: ArrayBackend):
        self.given = given
        super().__init__(plan, samples, ((0,),), False, backend=backend)

    def _array(self, node: ir.Array) -> Value:
        return self.given[node] if node in self.given else super()._array(node)

    rules = Replication.rules | {ir.Array: _array}


def paired(
    program: Program, outputs: list[Output], frozen: set[ir.Node], draw: Index, given: set[ir.Node]
) -> PairedProgram | None:
    """The program over pairs, or None."""
    try:
        return PairedProgram(program, outputs, frozen, draw, given)
    except Unpaired:
        return None


__all__ = ["PairedProgram", "paired"]
