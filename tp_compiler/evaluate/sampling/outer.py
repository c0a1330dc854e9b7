"""OuterNonlin on particles: averages over iid copies, paired in blocks, in bounded memory.

If all M rows were paired with the same M columns, they would share the columns' error. Instead each block of P rows is paired with
its own block of P columns: consecutive Sobol points are themselves a scrambled net, so every row's
average is over a balanced set, and the blocks' errors average out. Copies (1), (2), ... of one E are paired by
different orders inside the block, so that order r costs M·P evaluations like order 1. Rows are never paired with their
own block, which keeps a particle from being its own copy.

P grows with M, with a rule for every E: functions of an average over P copies have a bias of O(1/P), which runs
on half the particles and half the copies show (estimates.py). An E inside an E makes a grid of P × P copies, so that P
is smaller there; if the outer one is linear in the inner one, both are one average over pairs of copies.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tp_compiler.evaluate.array_types import Array, Whole
from tp_compiler.evaluate.arrays import Label, Labelled, aligned, contract, labels
from tp_compiler.evaluate.instructions import RULES
from tp_compiler.evaluate.kernels import KERNELS
from tp_compiler.evaluate.sampling import heavy_tails
from tp_compiler.evaluate.sampling.copies import depth_of, flattened, nested, over_copies, paired
from tp_compiler.evaluate.sampling.particles import OneReplicate
from tp_compiler.ir import nodes as ir
from tp_compiler.ir.walk import reachable

#: The dimension of each slot, and the particles along it.
Env = dict[int, tuple[int, Whole]]

TILE = 2**19  # entries of one tile
ROWS, BLOCKS = 32, 16  # rows (or blocks, without rows) of an average over copies that are examined for heavy tails


class OuterNonlin:
    """Evaluates contractions whose arguments live over several neurons, for one replicate."""

    def __init__(self, particles: OneReplicate):
        self.particles = particles
        self.pairing: dict[tuple[int, int], tuple[int, Whole]] = {}  # by slot and P

    def contract(self, node: ir.Contract) -> Array:
        """The value of a contraction with at most slot 0 left: a scalar (family) or a ket (family)."""
        values = self.particles.values
        inner = [a for a in node.args if isinstance(values[a], ir.Node) or set(node.over) & set(a.type.indices)]
        if 0 in node.slots and any(_of_rows(a) for a in inner):  # an average over rows takes all that depends on them
            inner += [a for a in node.args if _of_rows(a) and a not in inner]
        outer = [a for a in node.args if a not in inner]
        body = _Body(self, node, inner)
        averaged = body.over_rows()
        if not outer:
            return averaged
        arrays = [averaged, *(values[a] for a in outer)]
        of = [body.labels, *(labels(a.type) for a in outer)]
        if 0 in node.slots:
            rows = any(0 in own for own in of)
            weights = self.weights(outer, {0: (0, slice(None))}) if rows else []
            value = contract(
                [*arrays, *(w for w, _ in weights)], [*of, *(own for _, own in weights)], labels(node.type)
            )
            return value / self.particles.samples if rows else value
        own = labels(node.type)
        return KERNELS["mul"](*(aligned(x, of_x, own) for x, of_x in zip(arrays, of, strict=True)))

    def weights(self, args: list[ir.Node], met: Mapping[int, tuple[int, Any]]) -> list[Labelled]:
        """The weights of the particles that an average of a product is over: `met` has the slots, and what Env has of each."""
        found: list[Labelled] = []
        for slot, (dimension, particles) in met.items():
            of_slot = next((a for a in args if slot in dict(a.type.slots)), None)
            weights = None if of_slot is None else self.particles.over(of_slot, slot).weights
            if weights is not None:
                found.append((weights[self.particles.replicate][particles], (dimension,)))
        return found

    def copies(self, node: ir.Contract) -> int:
        """P for the copies of an average; a run on half the particles has half as many. M if every row meets every column."""
        run, depth = self.particles, depth_of(node)
        if run.pairing is None and depth == 1:
            return run.samples
        size = paired(run.full, depth)
        return size // 2 if run.halved else size

    def bind(self, slots: list[int], paired: int) -> None:
        """Chooses the columns of the copies of one E: a block for each, and an order inside the block."""
        blocks = self.particles.samples // paired
        way = [self.particles.pairing] if self.particles.pairing else []
        for place, slot in enumerate(slots):
            if (slot, paired) not in self.pairing:
                generator = np.random.Generator(np.random.PCG64([*self.particles.seed, 7919, len(self.pairing), *way]))
                shift = int(generator.integers(1, blocks)) if blocks > 1 else 0
                self.pairing[slot, paired] = shift, _order(place, paired, generator)

    def columns(self, slot: int, block: int, paired: int) -> Whole:
        """Particle numbers of copy `slot` paired with the rows of a block."""
        shift, order = self.pairing[slot, paired]
        return ((block + shift) % (self.particles.samples // paired)) * paired + order


def _of_rows(node: ir.Node) -> bool:
    return 0 in dict(node.type.slots)


def _order(place: int, paired: int, generator: np.random.Generator) -> Whole:
    """How copy number `place` of an E runs through its block.

    The first copy runs straight, the second in bit-reversed order: b and its reversal are a two-dimensional net
    (Hammersley), so the pairs are balanced jointly. Further copies take random permutations.
    """
    straight = np.arange(paired)
    if place == 0:
        return straight
    if place > 1 or paired & (paired - 1):
        return generator.permutation(paired)
    reversed_bits = np.zeros(paired, dtype=np.int64)
    bits = paired.bit_length() - 1
    for k in range(bits):
        reversed_bits |= ((straight >> k) & 1) << (bits - 1 - k)
    return reversed_bits ^ int(generator.integers(paired))


class _Body:
    """One contraction, tile by tile.

    The neuron dimensions of a tile are the labels 0 (rows), 1 (the copies of this E), 2, ... (those of E nested in it);
    indices follow.
    """

    def __init__(self, outer: OuterNonlin, node: ir.Contract, args: list[ir.Node]):
        self.outer = outer
        self.values = outer.particles.values
        self.samples = outer.particles.samples
        self.node = node
        self.paired = outer.copies(node)
        self.args, copies, over = flattened(node, args)
        self.copies = sorted(copies)
        slots = {s for a in self.args for s, _ in a.type.slots}
        indices = tuple(dict.fromkeys(i for a in self.args for i in a.type.indices if i not in over))
        self.has_rows = 0 in slots
        self.keeps_rows = self.has_rows and 0 not in node.slots
        self.labels: tuple[Label, ...] = (*((0,) if self.keeps_rows else ()), *indices)

    def over_rows(self) -> Array:
        """The average over the copies, for every row (or over the rows too, if slot 0 is contracted)."""
        family = max(_family(n) for n in _bodies(self.args))
        size = max(1, min(self.paired, TILE // (family * self.paired ** nested(self.args))))
        run = self.outer.particles
        if run.inspect and run.plan.tails.may_be_infinite(self.node):
            self._inspect()
        parts: list[Any] = []
        for block in range(self.samples // self.paired):
            self.outer.particles.pause()
            for start in range(0, self.paired if self.has_rows else 1, size):
                rows = block * self.paired + np.arange(start, min(start + size, self.paired))
                parts.append(self._tile(rows, block))
        if self.keeps_rows:
            return np.concatenate(parts, axis=0)
        return sum(parts) / (self.samples if self.has_rows else len(parts))

    def _tile(self, rows: Whole, block: int) -> Array:
        """The contraction for some rows: averaged over the copies, and summed over the rows unless they are kept."""
        return self._product(self.args, self._met(rows, block), 1, block, self.labels)

    def _met(self, rows: Whole, block: int) -> Env:
        """The rows of a tile and the columns paired with them."""
        env: Env = {0: (0, rows)}
        self.outer.bind(self.copies, self.paired)
        for slot in self.copies:
            env[slot] = (1, self.outer.columns(slot, block, self.paired))
        return env

    def _inspect(self) -> None:
        """Looks at the largest products of some rows over their copies, each row in units of its median.

        Copies are paired at random here: pairs of a net never come as close as independent ones.
        """
        found = []
        generator = np.random.Generator(np.random.PCG64([*self.outer.particles.seed, 7927]))
        for block in range(1 if self.has_rows else min(BLOCKS, self.samples // self.paired)):
            rows = block * self.paired + np.arange(min(ROWS, self.paired))
            env = self._met(rows, block)
            env |= {slot: (1, generator.permutation(env[slot][1])) for slot in self.copies}
            evaluated = [self._value(a, env, 1, block, {}) for a in self.args]
            own: tuple[Label, ...] = (1, *dict.fromkeys(label for _, of in evaluated for label in of if label != 1))
            parts = [aligned(x, of, own) for x, of in evaluated]
            parts = [p[(slice(None), *(slice(0, ROWS if label == 0 else 4) for label in own[1:]))] for p in parts]
            sizes = np.abs(KERNELS["mul"](*parts)).reshape(self.paired, -1)
            middle = np.median(sizes, axis=0)
            found.append((sizes[:, middle > 0] / middle[middle > 0]).ravel())
        known = heavy_tails.logs(np.concatenate(found)[:, None])
        if known is not None:
            self.outer.particles.found.heavy.setdefault(self.node, []).append(known)

    def _product(self, args: list[ir.Node], env: Env, depth: int, block: int, out: tuple[Label, ...]) -> Array:
        """Σ of the product over every label not in `out`, divided by P if the copies of this depth are averaged."""
        evaluated = [self._value(a, env, depth, block, {}) for a in args]
        met = any(depth in own for _, own in evaluated)
        rows = [0] if self.has_rows and not self.keeps_rows else []
        evaluated += self.outer.weights(args, {slot: env[slot] for slot in [*rows, *self.copies]})
        value = contract([x for x, _ in evaluated], [own for _, own in evaluated], out)
        return value / self.paired if met else value

    # -- evaluation of a body in a tile -------------------------------------------------------------------------
    def _value(self, node: ir.Node, env: Env, depth: int, block: int, done: dict[ir.Node, Labelled]) -> Labelled:
        if node not in done:
            done[node] = self._compute(node, env, depth, block, done)
        return done[node]

    def _compute(self, node: ir.Node, env: Env, depth: int, block: int, done: dict[ir.Node, Labelled]) -> Labelled:
        known = self.values[node]
        if not isinstance(known, ir.Node):
            if node.type.is_scalar:
                return known, node.type.indices
            dimension, particles = env[0]
            return known[particles], (dimension, *node.type.indices)
        if isinstance(node, ir.Copy):
            dimension, particles = env[node.slot]
            return self.values[node.args[0]][particles], (dimension, *node.type.indices)
        if isinstance(node, ir.Contract):
            return self._nested(node, env, depth, block)
        return self._apply(node, [self._value(a, env, depth, block, done) for a in node.args])

    def _apply(self, node: ir.Node, args: list[Labelled]) -> Labelled:
        dimensions = tuple(sorted({label for _, own in args for label in own if isinstance(label, int)}))
        own: tuple[Label, ...] = (*dimensions, *node.type.indices)
        return RULES[type(node)](node, args, own), own

    def _nested(self, node: ir.Contract, env: Env, depth: int, block: int) -> Labelled:
        """A sum, or an E inside an E: its copies take the next neuron dimension."""
        inner = dict(env)
        below = depth + 1 if node.slots else depth
        args, copies, _ = flattened(node, list(node.args)) if node.slots else (list(node.args), [], None)
        self.outer.bind(copies, self.paired)
        for slot in copies:
            inner[slot] = (below, self.outer.columns(slot, block, self.paired))
        dimensions = sorted({env[slot][0] for slot, _ in node.type.slots})
        own: tuple[Label, ...] = (*dimensions, *node.type.indices)
        evaluated = [self._value(a, inner, below, block, {}) for a in args]
        evaluated += self.outer.weights(args, {slot: inner[slot] for slot in copies})
        value = contract([x for x, _ in evaluated], [of for _, of in evaluated], own)
        return (value / self.paired if node.slots else value), own


def _bodies(args: list[ir.Node]) -> list[ir.Node]:
    """The nodes that a tile evaluates."""
    return reachable(args, lambda n: n.args if over_copies(n) and not isinstance(n, ir.Copy) else ())


def _family(node: ir.Node) -> int:
    indices = dict.fromkeys(i for a in (node, *node.args) for i in a.type.indices)
    size = 1
    for i in indices:
        size *= i.size
    return size
