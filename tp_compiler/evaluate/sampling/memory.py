"""The peak memory of one replicate of a limit, before anything is allocated."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from tp_compiler.evaluate.budget import BASE
from tp_compiler.evaluate.sampling.conditioning.directions import dropped_of
from tp_compiler.evaluate.sampling.conditioning.spans import precision_of
from tp_compiler.evaluate.sampling.entry_blocks import entry_bytes
from tp_compiler.evaluate.sampling.plan import SamplingPlan
from tp_compiler.evaluate.sampling.points import CHUNK
from tp_compiler.ir import nodes as ir

ROOM = 1.5  # growing arrays double their capacity


@dataclass(frozen=True)
class Memory:
    """Bytes, by purpose."""

    kets: float  # values that are alive at once
    states: float  # of training: parameters and optimizer states that are kets, old and new
    conditioning: float  # bases and images of every initial matrix
    trained: float  # trained matrices: entries in blocks, or bases
    points: float

    @property
    def total(self) -> float:
        return self.kets + self.states + self.conditioning + self.trained + self.points + BASE


def memory(plan: SamplingPlan, samples: int, directions: int | None = None) -> Memory:
    """`directions`: how many rows the bases of initial matrices had in a smaller run; None: the most they can have."""
    ket = 8.0 * samples
    phases = plan.phases
    alive = _peak([*phases.static, *phases.last, *phases.after], plan.uses, plan, samples)
    alive += _peak(phases.step, plan.step_uses, plan, samples)
    states = sum(2 * s.type.size() * ket for s in phases.states if len(s.type.slots) == 1)
    points = sum(min(CHUNK, drawn) for drawn in plan.coordinates.values())
    return Memory(alive, states, _conditioning(plan, samples, directions), _trained(plan, samples), 3 * points * ket)


def _conditioning(plan: SamplingPlan, samples: int, directions: int | None) -> float:
    """Directions and their images."""
    most, size = 0, 0.0
    for products in plan.products.values():
        rows = min(products, 2 * samples)
        most += rows
        precision = precision_of(dropped_of(products, samples, plan.single))
        size += 2 * ROOM * rows * samples * np.dtype(precision).itemsize
    return size if directions is None or not most else size * min(1.0, 1.5 * directions / most)


def _trained(plan: SamplingPlan, samples: int) -> float:
    total = 0.0
    for cell, linear in zip(plan.cells, plan.linear, strict=True):
        if linear:
            rows = min(plan.outer_products(cell), samples)
            total += 2 * ROOM * 8.0 * samples * rows
        else:
            total += entry_bytes(samples) * len(cell) * cell[0].type.size()
    return total


def _peak(nodes: Iterable[ir.Node], uses: Counter[ir.Node], plan: SamplingPlan, samples: int) -> float:
    """The memory of values that are freed after their last use."""
    left = Counter(uses)
    live = peak = 0.0
    sizes: dict[ir.Node, float] = {}
    for node in nodes:
        sizes[node] = size = _size(node, samples)
        live += size
        peak = max(peak, live + 2 * size)
        for arg in plan.reads[node]:
            left[arg] -= 1
            if not left[arg]:
                live -= sizes.get(arg, 0.0)
    return peak


def _size(node: ir.Node, samples: int) -> float:
    """Views cost nothing, and expressions over several neurons are evaluated in tiles."""
    if len(node.type.slots) > 1 or isinstance(node, ir.Reindex | ir.Copy | ir.Carry):
        return 0.0
    return 8.0 * node.type.size() * (samples if node.type.slots else 1)
