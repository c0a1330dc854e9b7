"""The plan of a limit before sampling: spaces, coordinates and memory.

A *space* is the set of neurons that kets share: kets combined entrywise or in a bracket live in one space, a matrix
connects its row space to its column space, which may be the same (a residual stream). Every space has its own particles
(docs/mathematics.md, section 5).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable
from functools import cached_property
from typing import TypeGuard

from tp_compiler.diagnostics import Diagnostic
from tp_compiler.evaluate.arrays import REPLICATE, Labels, Move, labels, move
from tp_compiler.evaluate.sampling.blocks import Passes
from tp_compiler.evaluate.sampling.copies import depth_of, paired
from tp_compiler.evaluate.sampling.entry_blocks import block_size
from tp_compiler.evaluate.sampling.estimates import base
from tp_compiler.evaluate.sampling.heavy_tails import Tails
from tp_compiler.evaluate.sampling.lowrank import is_linear
from tp_compiler.evaluate.sampling.outerproducts import is_outer
from tp_compiler.evaluate.schedule import Phases, averages_of_entries, cells, entries, phases
from tp_compiler.ir import nodes as ir
from tp_compiler.ir.dependence import Dependence, clt_pair_problem, clt_problem
from tp_compiler.ir.program import Program
from tp_compiler.ir.types import Index
from tp_compiler.ir.walk import dependencies

#: What scramblings draw, or what depends on their particles.
_DRAWN = (ir.InitialKet, ir.MatMul, ir.Carry, ir.Apply, ir.Clt, ir.Trace)


class _Classes:
    """Union-find."""

    def __init__(self) -> None:
        self.parent: dict[Hashable, Hashable] = {}

    def find(self, x: Hashable) -> Hashable:
        self.parent.setdefault(x, x)
        while self.parent[x] != x:
            self.parent[x] = self.parent[self.parent[x]]
            x = self.parent[x]
        return x

    def union(self, x: Hashable, y: Hashable) -> None:
        self.parent[self.find(x)] = self.find(y)


class SamplingPlan:
    """The instructions in order, the space of every ket, the last use of each value, and the cost."""

    def __init__(self, program: Program, only: set[str] | None = None):
        self.program = program
        self.outputs = [o for o in program.outputs if only is None or o.name in only]
        self.phases = phases(program, self.outputs)
        self.nodes = self.phases.nodes
        self.uses = self.phases.uses(self.outputs)
        self.step_uses = self.phases.step_uses()
        self.cells = cells(self.phases)
        self.of_entries = averages_of_entries(self.nodes)
        self.linear = [self._is_linear(cell) for cell in self.cells]
        self.passes = {cell[0]: self._passes(cell) for cell in self.cells}
        self._batched = {n.matrix for n in self.nodes if isinstance(n, ir.MatMul) and _is_batched(n)}
        self.neurons = self._neurons()
        self.space = {n: self.neurons[n, 0] for n in self.nodes if 0 in dict(n.type.slots)}
        self.coordinates = self._coordinates()
        self.products = self._products()
        self.clts = [n for n in self.nodes if isinstance(n, ir.Clt)]
        self.problems = self._problems()
        self.depth: dict[ir.Node, int] = {n: depth_of(n) for n in self.nodes if _averages_copies(n)}
        self.nested = any(depth > 1 for depth in self.depth.values())
        self._needs: dict[str, Phases] = {}  # by output
        self._copies: dict[str, tuple[int, bool]] = {}  # by output, see resolution
        self.tails = Tails(self.nodes)
        self.traced = {base(t.args[0]) for t in self.phases.traces}
        self.labels = self._labels()
        self.reads = {n: dependencies(n) for n in self.nodes}
        #: over several neurons at once: evaluated inside the tiles of outer.py
        self.in_tiles = {n for n in self.nodes if _in_tiles(n) or isinstance(n, ir.Copy)}
        self._moves: dict[ir.Map, list[tuple[ir.Node, Move | None]]] = {}

    @cached_property
    def width(self) -> float:
        """The kets that an instruction computes, on average."""
        repeats = [self.phases.repeats(n) for n in self.nodes]
        kets = (times * n.type.size() for times, n in zip(repeats, self.nodes, strict=True) if n.type.slots)
        return sum(kets) / max(1, sum(repeats))

    def _labels(self) -> dict[ir.Node, Labels]:
        """The dimensions of every value; those that differ between replicates number them first."""
        found: dict[ir.Node, Labels] = {}
        for node in self.nodes:
            drawn = isinstance(node, _DRAWN) or node in self.of_entries or any(REPLICATE in found[a] for a in node.args)
            own = labels(node.type)
            found[node] = (REPLICATE, *own) if drawn else own
        return found

    def moves(self, node: ir.Map) -> list[tuple[ir.Node, Move | None]]:
        """The arguments of a function of entries, and how each is laid out for it; None for a number that all share."""
        if node not in self._moves:
            own = self.labels[node]
            self._moves[node] = [(a, move(self.labels[a], own) if self.labels[a] else None) for a in node.args]
        return self._moves[node]

    def differs(self, node: ir.Node) -> bool:
        """Whether the value of a node differs between replicates."""
        return REPLICATE in self.labels[node]

    def _is_linear(self, cell: list[ir.State]) -> bool:
        """Whether a trained matrix is stored as a sum of outer products; otherwise by its entries, in blocks."""
        assert self.phases.loop is not None
        return not set(cell) & set(self.of_entries.values()) and is_linear(cell, self.phases.loop.following)

    def _passes(self, cell: list[ir.State]) -> Passes:
        assert self.phases.loop is not None
        return Passes(cell, self.phases.loop.following, self.phases.loop.steps)

    # -- spaces -------------------------------------------------------------------------------------------------
    def _neurons(self) -> dict[Hashable, int]:
        """The space of the neurons of every (node, slot) and (state, slot), those that a node averages over included."""
        classes = _Classes()
        for node in self.nodes:
            self._link(node, classes)
        for state in self.phases.states:
            assert self.phases.loop is not None
            for node in (state.init, self.phases.loop.following[state]):
                for slot, _ in node.type.slots:
                    classes.union((node, slot), (state, slot))
        numbers: dict[Hashable, int] = {}
        for node in self.nodes:
            if 0 in dict(node.type.slots):
                numbers.setdefault(classes.find((node, 0)), len(numbers))
        roots = {x: classes.find(x) for x in [*classes.parent]}
        return {x: numbers[root] for x, root in roots.items() if root in numbers}

    def _link(self, node: ir.Node, classes: _Classes) -> None:
        if isinstance(node, ir.MatMul):
            out, into = ("cols", "rows") if node.transposed else ("rows", "cols")
            for member in self.members(node):
                classes.union((node, 0), (out, node.matrix, member))
                classes.union((node.args[0], 0), (into, node.matrix, member))
        elif isinstance(node, ir.Copy):
            classes.union((node, node.slot), (node.args[0], 0))
        elif isinstance(node, ir.Carry):
            for slot, _ in node.type.slots:
                classes.union((node, slot), (node.state, slot))
        elif isinstance(node, ir.Apply):
            row, col = 0, node.state.slot
            classes.union((node, 0), (node.state, col if node.transposed else row))
            classes.union((node.args[0], 0), (node.state, row if node.transposed else col))
        elif isinstance(node, ir.Clt):
            classes.union((node.args[0], 0), (node.args[1], 0))
        else:
            for arg in node.args:
                for slot, _ in arg.type.slots:
                    classes.union((node, slot), (arg, slot))

    def inspected(self, node: ir.Contract) -> bool:
        """Whether an average is looked at for heavy tails; inside of a loop, where a moment may be infinite, or where an
        output reads it."""
        if not self.tails.inspected(node):
            return False
        return self.phases.repeats(node) == 1 or self.tails.may_be_infinite(node) or node in self.traced

    def members(self, node: ir.MatMul) -> list[tuple[int, ...]]:
        """The members of the family that a product uses; () means all of a family used as a batch."""
        if node.matrix in self._batched:
            return [()]
        return [tuple(m for m in node.member if isinstance(m, int))]

    def _coordinates(self) -> Counter[int]:
        """An upper bound on the Gaussian coordinates that each space draws."""
        bound: Counter[int] = Counter()
        for node in self.nodes:
            if isinstance(node, ir.InitialKet | ir.MatMul):
                bound[self.space[node]] += node.type.size() * self.phases.repeats(node)
        return bound

    def _products(self) -> Counter[ir.MatrixSymbol]:
        """How many kets each initial matrix is applied to, at most, over all steps."""
        found: Counter[ir.MatrixSymbol] = Counter()
        for node in self.nodes:
            if isinstance(node, ir.MatMul):
                found[node.matrix] += node.type.size() * self.phases.repeats(node)
        return found

    def outer_products(self, cell: list[ir.State]) -> int:
        """How many outer products the updates of a matrix add up, at most, over all steps."""
        assert self.phases.loop is not None
        order = entries([self.phases.loop.following[s] for s in cell])
        sizes = (math.prod(i.size for i in {j for a in n.args for j in a.type.indices}) for n in order if is_outer(n))
        return sum(sizes) * self.phases.loop.steps

    # -- clt ----------------------------------------------------------------------------------------------------
    def _problems(self) -> dict[ir.Node, Diagnostic]:
        """Diagnostics of `clt` scalars whose limit is not known to be Gaussian."""
        if not self.clts:
            return {}
        dependence = Dependence(self.nodes)
        problems: dict[ir.Node, Diagnostic] = {}
        for k, node in enumerate(self.clts):
            pairs = (clt_pair_problem(dependence, other, node) for other in self.clts[:k] if other not in problems)
            found = clt_problem(dependence, node) or next((p for p in pairs if p), None)
            if found is not None:
                problems[node] = found
        return problems

    @property
    def single(self) -> bool:
        """Whether kets have been through entries in single precision."""
        return not all(self.linear)

    def needs(self, name: str) -> Phases:
        """The nodes that one output depends on."""
        if name not in self._needs:
            self._needs[name] = phases(self.program, [next(o for o in self.outputs if o.name == name)])
        return self._needs[name]

    def settles(self, name: str) -> bool:
        """Whether the error of an output is sure to fall as samples are added."""
        return self.tails.settles(self.needs(name).nodes)

    def resolution(self, samples: int, name: str) -> int:
        """The size with which the bias of an output decreases: M, or the smallest number of copies P in anything it depends on."""
        if name not in self._copies:
            found = self.needs(name)
            depth = max((self.depth.get(n, 0) for n in found.nodes), default=0)
            blocks = {s for cell, linear in zip(self.cells, self.linear, strict=True) if not linear for s in cell}
            self._copies[name] = depth, bool(blocks & set(found.states))
        depth, in_blocks = self._copies[name]
        sizes = [paired(samples, depth)] if depth else []
        return min([samples, *sizes, *([block_size(samples)] if in_blocks else [])])


def _averages_copies(node: ir.Node) -> TypeGuard[ir.Contract]:
    """An average over copies that is not part of another."""
    return isinstance(node, ir.Contract) and any(slot != 0 for slot in node.slots) and not _in_tiles(node)


def _in_tiles(node: ir.Node) -> bool:
    return any(slot != 0 for slot, _ in node.type.slots)


def _is_batched(node: ir.MatMul) -> bool:
    return any(isinstance(m, Index) for m in node.member)
