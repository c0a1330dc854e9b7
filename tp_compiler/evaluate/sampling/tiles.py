"""Expressions over the entries of trained matrices, tile by tile, if they are not a plain pass over entries (sweep.py).

A tile is a few blocks, of one member of a family or of all. Its arrays are labelled: BLOCK (which block), 0 (rows), the
slot of the columns, and indices.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tp_compiler.evaluate.array_types import Array
from tp_compiler.evaluate.arrays import Label, Labelled, aligned, contract
from tp_compiler.evaluate.instructions import RULES
from tp_compiler.evaluate.sampling.entry_blocks import BLOCK, EntryBlocks
from tp_compiler.evaluate.sampling.outerproducts import Member, selected
from tp_compiler.evaluate.sampling.shared_values import OneValue, whole
from tp_compiler.evaluate.schedule import entries
from tp_compiler.ir import nodes as ir
from tp_compiler.ir.types import Index

TILE = 2**14  # entries of one tile


def tiles(blocks: EntryBlocks, roots: list[ir.Node], whole: bool = False) -> Iterator[Tile]:
    """Tiles that cover all entries: member by member, unless `whole` or an instruction mixes members."""
    partners: dict[ir.Node, Array] = {}
    whole = whole or any(_mixes(n, blocks.indices) for n in entries(roots))
    members = [None] if whole else list(np.ndindex(blocks.shape))
    family = int(np.prod(blocks.shape)) if whole else 1
    width = max(1, TILE // (blocks.paired**2 * family))
    for member in members:
        for replicate in range(blocks.run.replicates):
            first, last = replicate * blocks.each, (replicate + 1) * blocks.each
            for start in range(first, last, width):
                yield Tile(blocks, replicate, partners, member, slice(start, min(start + width, last)))


def _mixes(node: ir.Node, family: tuple[Index, ...]) -> bool:
    """Whether a member's entries depend on those of others, so that members cannot be taken one by one."""
    if isinstance(node, ir.Contract):
        return bool(set(node.over) & set(family))
    return not isinstance(node, ir.Map | ir.Carry)


class Tile:
    """Some blocks of one replicate. `member` None: all of the family; else its indices are fixed, and gone from the labels."""

    def __init__(
        self, blocks: EntryBlocks, replicate: int, partners: dict[ir.Node, Array],
        member: tuple[int, ...] | None, part: slice,
    ):  # fmt: skip
        self.blocks, self.replicate, self.partners, self.part = blocks, replicate, partners, part
        self.run, self.values = blocks.run, OneValue(blocks.run, replicate)
        self.fixed: Member = {} if member is None else dict(zip(blocks.indices, member, strict=True))
        self.place = (*((slice(None),) * len(blocks.shape) if member is None else member), part)

    def entries(self, node: ir.Node, done: dict[ir.Node, Labelled]) -> Array:
        """An expression over both neurons, laid out as the states are."""
        x, own = self.value(node, done)
        return aligned(x, own, (*self._family(), BLOCK, 0, self.blocks.slot))

    def _family(self) -> tuple[Index, ...]:
        return () if self.fixed else self.blocks.indices

    def value(self, node: ir.Node, done: dict[ir.Node, Labelled]) -> Labelled:
        if node not in done:
            done[node] = self._compute(node, done)
        return done[node]

    def _compute(self, node: ir.Node, done: dict[ir.Node, Labelled]) -> Labelled:
        b = self.blocks
        if isinstance(node, ir.Carry) and node.state.is_matrix:
            return b.entries[node.state][self.place], (*self._family(), BLOCK, 0, b.slot)
        if isinstance(node, ir.Copy):
            return selected(self._partner(node)[self.part], (BLOCK, b.slot, *node.type.indices), self.fixed)
        known = self.values.get(node)  # an average of entries has no value itself yet
        if known is not None and not isinstance(known, ir.Node):
            if node.type.is_scalar:
                return selected(known, node.type.indices, self.fixed)
            x = b.blocks(self._ket(node))[self.part]
            return selected(x, (BLOCK, 0, *node.type.indices), self.fixed)
        return self._apply(node, [self.value(a, done) for a in node.args])

    def _partner(self, node: ir.Copy) -> Array:
        """A ket of the columns in blocks, each at the place of the rows paired with it."""
        if node not in self.partners:
            self.partners[node] = self.blocks.to_partner(self.blocks.blocks(self._ket(node.args[0])))
        return self.partners[node]

    def _ket(self, node: ir.Node) -> Array:
        return whole(self.run, node, (0, *node.type.indices), (self.run.samples, *node.type.shape))

    def _own(self, node: ir.Node, args: list[Labelled]) -> tuple[Label, ...]:
        """Indices outside, so that the entries of a block lie together."""
        block = (BLOCK,) if any(BLOCK in own for _, own in args) else ()
        free = tuple(i for i in node.type.indices if i not in self.fixed)
        return (*free, *block, *(s for s, _ in node.type.slots))

    def _apply(self, node: ir.Node, args: list[Labelled]) -> Labelled:
        own = self._own(node, args)
        if isinstance(node, ir.Contract):
            args = [*args, *self._weights(node)]
            value = contract([a for a, _ in args], [labels_ for _, labels_ in args], own)
            return value / float(self.blocks.paired) ** len(node.slots), own
        return RULES[type(node)](node, args, own), own

    def _weights(self, node: ir.Contract) -> list[Labelled]:
        """The weights of the particles that an average is over."""
        b, found = self.blocks, list[Labelled]()
        for slot in node.slots:
            weights = self.run.over(node, slot).weights
            if weights is not None:
                x = b.blocks(weights)
                found.append(((b.to_partner(x) if slot == b.slot else x)[self.part], (BLOCK, slot)))
        return found
