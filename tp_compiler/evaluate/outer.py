"""OuterNonlin on particles: averages over iid copies, paired in blocks, in bounded memory.

All pairs of M rows with the same M columns share the columns' error. Instead each block of P rows meets a block of P
columns of its own (numerics.md section 2): consecutive Sobol points are themselves a scrambled net, so every row's
average is over a balanced set, and the blocks' errors average out. Copies (1), (2), ... of one E are paired by
orders of their own inside the block, so that order r costs M·P evaluations like order 1. Rows never meet their
own block, which keeps a particle from being its own copy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tp_compiler.evaluate.arrays import aligned, contract, labels, reduced, reindexed, shifted
from tp_compiler.evaluate.kernels import KERNELS
from tp_compiler.ir import nodes as ir
from tp_compiler.ir.types import Index

if TYPE_CHECKING:
    from tp_compiler.evaluate.replicate import Replicate

PAIRED = 1024  # P: the columns that a row meets
TILE = 2**19  # entries of one tile


class OuterNonlin:
    """Evaluates contractions whose arguments live over several neurons at once."""

    def __init__(self, replicate: Replicate):
        self.replicate = replicate
        self.pairing: dict[int, tuple[int, Any]] = {}

    def contract(self, node: ir.Contract) -> Any:
        """The value of a contraction with at most slot 0 left: a scalar (family) or a ket (family)."""
        values = self.replicate.values
        inner = [a for a in node.args if isinstance(values[a], ir.Node) or set(node.over) & set(a.type.indices)]
        outer = [a for a in node.args if a not in inner]
        body = _Body(self, node, inner)
        averaged = body.over_rows()
        if not outer:
            return averaged
        arrays = [averaged, *(values[a] for a in outer)]
        of = [body.labels, *(labels(a.type) for a in outer)]
        if 0 in node.slots:
            value = contract(arrays, of, labels(node.type))
            return value / self.replicate.samples if any(0 in own for own in of) else value
        own = labels(node.type)
        return KERNELS["mul"](*(aligned(x, of_x, own) for x, of_x in zip(arrays, of, strict=True)))

    def bind(self, slots: list[int], paired: int) -> None:
        """Chooses the columns of the copies of one E: a block for each, and an order inside the block."""
        blocks = self.replicate.samples // paired
        for place, slot in enumerate(slots):
            if slot not in self.pairing:
                generator = np.random.Generator(np.random.PCG64([*self.replicate.seed, 7919, len(self.pairing)]))
                shift = int(generator.integers(1, blocks)) if blocks > 1 else 0
                self.pairing[slot] = shift, _order(place, paired, generator)

    def columns(self, slot: int, block: int, paired: int) -> Any:
        """Particle numbers of copy `slot` that the rows of a block meet."""
        shift, order = self.pairing[slot]
        return ((block + shift) % (self.replicate.samples // paired)) * paired + order


def _order(place: int, paired: int, generator: np.random.Generator) -> Any:
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
    """One contraction, tile by tile. Labels of tile arrays: neuron dimensions (ints) first, then indices."""

    def __init__(self, outer: OuterNonlin, node: ir.Contract, args: list[ir.Node]):
        self.outer = outer
        self.values = outer.replicate.values
        self.samples = outer.replicate.samples
        self.node = node
        self.args = args
        self.paired = min(PAIRED, max(1, self.samples // 2))
        slots = {s for a in args for s, _ in a.type.slots}
        indices = tuple(dict.fromkeys(i for a in args for i in a.type.indices if i not in node.over))
        self.keeps_rows = 0 in slots and 0 not in node.slots
        self.has_rows = 0 in slots
        self.labels: tuple[Any, ...] = (*((0,) if self.keeps_rows else ()), *indices)

    def over_rows(self) -> Any:
        """The average over the copies, for every row (or over the rows too, where slot 0 is contracted)."""
        family = max(1, max(_family(n) for n in _bodies(self.args, self.values)))
        depth = _depth(self.args, self.values)
        size = max(1, min(self.paired, TILE // (family * self.paired**depth) or 1))
        parts, total = [], 0.0
        for block in range(self.samples // self.paired):
            for start in range(0, self.paired, size):
                rows = np.arange(block * self.paired + start, block * self.paired + min(start + size, self.paired))
                part = self._tile(rows, block)
                if self.keeps_rows:
                    parts.append(part)
                else:
                    total = total + part * (len(rows) if self.has_rows else 1)
                if not self.has_rows:
                    break
        if self.keeps_rows:
            return np.concatenate(parts, axis=0)
        return total / (self.samples if self.has_rows else self.samples // self.paired)

    def _tile(self, rows: Any, block: int) -> Any:
        """The contraction for some rows: dimension 0 rows, dimension 1 the copies of this E, 2.. of nested ones."""
        env = {0: (0, rows)}
        copies = sorted(s for s in self.node.slots if s != 0)
        self.outer.bind(copies, self.paired)
        for slot in copies:
            env[slot] = (1, self.outer.columns(slot, block, self.paired))
        evaluated = [self._value(a, env, 1, block, {}) for a in self.args]
        value = KERNELS["mul"](*self._common(evaluated, self.args))
        return self._averaged(value, env)

    def _common(self, evaluated: list[Any], args: list[ir.Node]) -> list[Any]:
        """Tile arrays (dims, value) brought to the same neuron dimensions and indices."""
        dims = max(d for d, _ in evaluated)
        indices = tuple(dict.fromkeys(i for a in args for i in a.type.indices))
        return [_spread(x, d, dims, a.type.indices, indices) for (d, x), a in zip(evaluated, args, strict=True)]

    def _averaged(self, value: Any, env: dict[int, Any]) -> Any:
        indices = tuple(dict.fromkeys(i for a in self.args for i in a.type.indices))
        lead = value.ndim - len(indices)
        value = value.mean(axis=tuple(range(1, lead))) if lead > 1 else value
        over = tuple(1 + indices.index(i) for i in self.node.over if i in indices)
        if over:
            value = np.broadcast_to(value, [value.shape[0], *(i.size for i in indices)]).sum(axis=over)
        if self.keeps_rows:
            kept = [i.size for i in self.labels if isinstance(i, Index)]
            return np.broadcast_to(value, [len(env[0][1]), *kept])
        return value.mean(axis=0)

    # -- evaluation of a body in a tile: (number of leading neuron dimensions, array) ----------------------------
    def _value(self, node: ir.Node, env: dict[int, Any], depth: int, block: int, done: dict[ir.Node, Any]) -> Any:
        if node not in done:
            done[node] = self._compute(node, env, depth, block, done)
        return done[node]

    def _compute(self, node: ir.Node, env: dict[int, Any], depth: int, block: int, done: dict[ir.Node, Any]) -> Any:
        known = self.values[node]
        if not isinstance(known, ir.Node):
            if node.type.is_scalar:
                return 0, np.asarray(known)
            return 1, known[env[0][1]]
        if isinstance(node, ir.Copy):
            dim, particles = env[node.slot]
            x = self.values[node.args[0]][particles]
            return dim + 1, x.reshape((1,) * dim + x.shape)
        if isinstance(node, ir.Contract):
            return self._nested(node, env, depth, block)
        args = [self._value(a, env, depth, block, done) for a in node.args]
        return self._apply(node, args)

    def _apply(self, node: ir.Node, args: list[Any]) -> Any:
        dims, x = args[0]
        own = node.args[0].type.indices
        if isinstance(node, ir.Map):
            common = self._common(args, list(node.args))
            return max(d for d, _ in args), KERNELS[node.fn](*common)
        if isinstance(node, ir.Reduce):
            return dims, reduced(node.op, x, dims + own.index(node.index))
        if isinstance(node, ir.Shift):
            return dims, shifted(x, dims + own.index(node.index), node.by)
        if isinstance(node, ir.Reindex):
            lead = tuple(range(-dims, 0))
            positions = [np.asarray(g, dtype=np.int64) - 1 for _, g in args[1:]]
            return dims, reindexed(node, x, (*lead, *own), positions, (*lead, *node.type.indices))
        assert isinstance(node, ir.Stack)
        top = max(d for d, _ in args)
        rest = tuple(i for i in node.type.indices if i != node.index)
        parts = [_spread(a, d, top, n.type.indices, rest) for (d, a), n in zip(args, node.args, strict=True)]
        place = top + node.type.indices.index(node.index)
        return top, np.stack(np.broadcast_arrays(*parts), axis=place)

    def _nested(self, node: ir.Contract, env: dict[int, Any], depth: int, block: int) -> Any:
        """An E inside an E: its copies take the next neuron dimension."""
        inner = dict(env)
        self.outer.bind(list(node.slots), self.paired)
        for slot in node.slots:
            inner[slot] = (depth + 1, self.outer.columns(slot, block, self.paired))
        evaluated = [self._value(a, inner, depth + 1, block, {}) for a in node.args]
        value = KERNELS["mul"](*self._common(evaluated, list(node.args)))
        indices = tuple(dict.fromkeys(i for a in node.args for i in a.type.indices))
        dims = value.ndim - len(indices)
        over = tuple(dims + indices.index(i) for i in node.over)
        if over:
            value = np.broadcast_to(value, [*value.shape[:dims], *(i.size for i in indices)]).sum(axis=over)
        if node.slots and dims > depth + 1:
            value = value.mean(axis=depth + 1)
            dims -= 1
        kept = tuple(i for i in indices if i not in node.over)
        return dims, aligned(value, (*range(-dims, 0), *kept), (*range(-dims, 0), *node.type.indices))


def _spread(x: Any, own_dims: int, dims: int, own: tuple[Index, ...], indices: tuple[Index, ...]) -> Any:
    """Neuron dimensions padded behind (a row value has no column dimension), indices aligned."""
    lead = tuple(range(-own_dims, 0))
    x = aligned(x, (*lead, *own), (*lead, *indices))
    shape = x.shape
    return x.reshape((*shape[:own_dims], *((1,) * (dims - own_dims)), *shape[own_dims:]))


def _bodies(args: list[ir.Node], values: dict[ir.Node, Any]) -> list[ir.Node]:
    """The nodes that a tile evaluates."""
    seen: dict[ir.Node, None] = {}
    todo = list(args)
    while todo:
        node = todo.pop()
        if node not in seen:
            seen[node] = None
            if isinstance(values[node], ir.Node) and not isinstance(node, ir.Copy):
                todo.extend(node.args)
    return list(seen)


def _family(node: ir.Node) -> int:
    indices = dict.fromkeys(i for a in (node, *node.args) for i in a.type.indices)
    size = 1
    for i in indices:
        size *= i.size
    return size


def _depth(args: list[ir.Node], values: dict[ir.Node, Any]) -> int:
    """How many E are nested, this one included."""
    nested = [n for n in _bodies(args, values) if isinstance(n, ir.Contract) and isinstance(values[n], ir.Node)]
    return 1 + max((_depth(list(n.args), values) for n in nested), default=0)
