"""Trained matrices under nonlinear optimizers: their entries, in blocks of P × P pairs of particles.

Q(|dh><x|)|z> pairs every row particle with column particles. Each block of P rows is paired with one block of P columns, its
partner for the whole run: y_α = 1/P Σ_β Δ(α, β) z_β over the partner block, and the transposed
product with the same P × P entries. Consecutive Sobol points are themselves a net, so every block is balanced. A
block is never its own partner, so that no particle is its own copy if rows and columns are in the same space.

Functions of averages over P copies have a bias of O(1/P), and less where the averages are smooth: it was measured at
less than a tenth of the standard error with P = √M (docs/benchmarks.md). Runs on half the particles with blocks of half
the size show it (estimates.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tp_compiler.evaluate.array_types import Array
from tp_compiler.evaluate.arrays import REPLICATE, Label, contract, labels
from tp_compiler.evaluate.backend import NUMPY, contiguous
from tp_compiler.evaluate.sampling.entry_blocks import BLOCK, PRECISION, Entries, EntryBlocks, block_size
from tp_compiler.evaluate.sampling.fused import WORTHWHILE, Fused, available, fused
from tp_compiler.evaluate.sampling.outerproducts import Member, by_member, columns, selected
from tp_compiler.evaluate.sampling.shared_values import SharedValues, whole
from tp_compiler.evaluate.sampling.sweep import Sweep, compiled, run
from tp_compiler.evaluate.sampling.tiles import tiles
from tp_compiler.ir import nodes as ir
from tp_compiler.shapes import Float

#: Entries of one tile of a pass: a few calls, long enough that threads can take turns, on arrays that stay in the cache.
LARGE_TILE = 2**16


class Passes:
    """How the entries of one matrix are updated, decided once for all replicates."""

    def __init__(self, cell: list[ir.State], following: Mapping[ir.State, ir.Node], steps: int):
        self.sweep = compiled(cell, following, cell[0].type.indices)
        self.entries = steps * cell[0].type.size()
        self.loop = None if self.sweep is None else fused(self.sweep)

    def fused(self, samples: int) -> Fused | None:
        """The compiled loop; None if there is too little work for it."""
        if self.loop is None or not (self.loop.ready or self.entries * samples * block_size(samples) >= WORTHWHILE):
            return None
        return self.loop if available() else None


class Blocks(EntryBlocks):
    """The states of one trained matrix (family) and its optimizer, entry by entry."""

    def __init__(self, states: list[ir.State], run: SharedValues, paired: int, partners: Sequence[int], passes: Passes):
        super().__init__(states, run, paired, partners)
        self.passes = passes
        self._buffers: dict[tuple[int, int], Entries] = {}

    def buffer(self, register: int, width: int) -> Entries:
        """Room for `width` blocks, from pass to pass the same: new memory takes longer than a function of it."""
        if (register, width) not in self._buffers:
            like = next(iter(self.entries.values()))
            self._buffers[register, width] = np.empty_like(like, shape=(width, self.paired, self.paired))
        return self._buffers[register, width]

    def apply(
        self, state: ir.State, member: tuple[int, ...], x: Float[Array, "replicates samples k"], transposed: bool
    ) -> Float[Entries, "replicates samples k"]:
        """Δ|x> for the columns of x."""
        entries = self.entries[state][member]
        z = self.blocks(self.run.over(state, 0 if transposed else self.slot).weighed(x)).astype(PRECISION)
        if transposed:
            y = np.matmul(entries.transpose(0, 2, 1), z) * (self.ratio / self.paired)
            return self.from_partner(y).reshape(x.shape)
        return np.matmul(entries, self.to_partner(z)).reshape(x.shape) / self.paired

    def follow(self, following: Mapping[ir.State, ir.Node]) -> None:
        """Replaces the states by their next values."""
        if self.passes.sweep is not None:
            sweep = self.passes.sweep
            terms = {r: by_member(sweep.terms(r), self.indices, self.run) for r in sweep.gradients}
            for member in np.ndindex(self.shape):
                self._sweep(sweep, member, {r: list(of[member]) for r, of in terms.items()})
            return
        for tile in tiles(self, [following[s] for s in self.states]):
            done: dict[ir.Node, Any] = {}
            new = {s: tile.entries(following[s], done) for s in self.states}
            for s, value in new.items():
                self.entries[s][tile.place] = value

    def _sweep(self, sweep: Sweep, member: tuple[int, ...], terms: Mapping[int, list[ir.Node]]) -> None:
        """One member's entries, some blocks at a time; `terms`: the outer products of each gradient."""
        fused = self.passes.fused(self.samples) if self.run.backend == NUMPY else None
        width = min(self.count, max(1, LARGE_TILE // self.paired**2))
        operands = Operands(self, sweep, member, terms, width)
        for first, last in operands.ranges():
            for start in range(first, last, width):
                registers = operands.registers(slice(start, min(start + width, last)))
                if fused is None:
                    run(sweep, registers)
                else:
                    fused(registers)

    def mean(self, node: ir.Contract) -> Array:
        """A contraction of entries over neurons: a scalar, or a ket of the rows."""
        own = labels(node.type)
        keeps = 0 in dict(node.type.slots)
        out: tuple[Label, ...] = (BLOCK, *own) if keeps else own
        parts: list[list[Any]] = [[] for _ in range(self.run.replicates)]
        for tile in tiles(self, [node], whole=True):
            x, of = tile.value(node, {})
            x, of = (x, of) if BLOCK in of else (x[None], (BLOCK, *of))
            parts[tile.replicate].append(contract([x], [of], out))
        if keeps:
            return np.stack([np.concatenate(one).reshape(self.samples, *one[0].shape[2:]) for one in parts])
        return self.run.averages.joined(np.stack([sum(one) / self.each for one in parts]))


class Operands:
    """Scalars, kets and gradients of one member at one step, shaped for the tiles of a sweep: `width` blocks, or fewer."""

    def __init__(
        self, blocks: Blocks, sweep: Sweep, place: tuple[int, ...], terms: Mapping[int, list[ir.Node]], width: int
    ):
        self.blocks = blocks
        self.member: Member = dict(zip(blocks.indices, place, strict=True))
        numbers = sweep.numbers(self._number, PRECISION)
        self.gradients = {r: self._sides(terms[r]) for r in sweep.gradients}
        self.whole: list[Any] = []  # the registers of a whole tile, or what is cut into tiles
        self.cut: list[int] = []
        self.each: list[int] = []  # numbers of every replicate
        self.buffers: list[int] = []
        for r, held in enumerate(sweep.registers):
            if r in numbers:
                self.whole.append(numbers[r])
                self.each += [r] * bool(np.ndim(numbers[r]))
            elif isinstance(held, ir.State):
                self.whole.append(blocks.entries[held][place])
                self.cut.append(r)
            elif isinstance(held, ir.Node) and r not in self.gradients:
                self.whole.append(self._ket(held))
                self.cut.append(r)
            else:
                self.whole.append(blocks.buffer(r, width))
                self.buffers.append(r)
        self.width = width

    def ranges(self) -> list[tuple[int, int]]:
        """The blocks that have the same numbers: all, or those of one replicate."""
        b = self.blocks
        return [(start, start + b.each) for start in range(0, b.count, b.each)] if self.each else [(0, b.count)]

    def registers(self, part: slice) -> list[Entries]:
        """The registers of the tile of the blocks `part`, with gradients filled in."""
        found = self.whole.copy()
        for r in self.cut:
            found[r] = found[r][part]
        for r in self.each:
            found[r] = found[r][part.start // self.blocks.each]
        count = part.stop - part.start
        if count < self.width:
            for r in self.buffers:
                found[r] = found[r][:count]
        for r, (left, right) in self.gradients.items():
            np.matmul(left[part], right[part], out=found[r])
        return found

    def _number(self, node: ir.Node) -> Array:
        run = self.blocks.run
        return selected(run.values[node], run.labels[node], self.member)[0][()]

    def _sides(
        self, terms: list[ir.Node]
    ) -> tuple[Float[Entries, "blocks paired r"], Float[Entries, "blocks r paired"]]:
        """Left and right kets of a gradient, (blocks, P, r) and (blocks, r, P)."""
        b = self.blocks
        none = b.run.backend.array(np.zeros((b.run.replicates, b.samples, 0)))
        found = [columns(t, self.member, b.run) for t in terms] or [(none, none)]
        sides = found[0] if len(found) == 1 else [np.concatenate(parts, axis=2) for parts in zip(*found, strict=True)]
        left, right = (b.blocks(x).astype(PRECISION) for x in sides)
        return left, contiguous(b.to_partner(right).transpose(0, 2, 1))

    def _ket(self, node: ir.Node) -> Entries:
        b = self.blocks
        of_rows = node.type.is_ket
        indices = node.type.indices
        ket = whole(b.run, node if of_rows else node.args[0], (0, *indices), (b.samples, *(i.size for i in indices)))
        x, _ = selected(ket, (REPLICATE, 0, *indices), self.member)
        single = b.blocks(x).astype(PRECISION)
        return single[:, :, None] if of_rows else b.to_partner(single)[:, None, :]
