"""The state of one replicate, shared by its parts: particles of every space, and the values computed so far."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from tp_compiler.diagnostics import Diagnostic
from tp_compiler.evaluate.array_types import Array
from tp_compiler.evaluate.sampling.plan import SamplingPlan
from tp_compiler.ir import nodes as ir

#: The value of an instruction in a replicate: an array, the reason why it has none, or the node itself if it is over several
#: neurons and evaluated in tiles.
Value = Array | np.float64 | Diagnostic | ir.Node


@dataclass(frozen=True, eq=False)
class Particles:
    """`samples` particles of every space, and the array (or Diagnostic) of every instruction so far.

    `half`: 0 or 1 for a run on the first or the second half of the particles; the numbers of copies and of entries are
    chosen by `full`, the number of all particles. `plain`: random draws instead of scrambled points. `pause` is called in
    long loops and may raise to stop.
    """

    plan: SamplingPlan
    samples: int
    full: int
    seed: tuple[int, ...]
    plain: bool
    inspect: bool = False  # look for heavy tails
    half: int | None = None
    pause: Callable[[], None] = lambda: None
    values: dict[ir.Node, Any] = field(default_factory=dict)
    non_finite: dict[ir.Node, Diagnostic] = field(default_factory=dict)  # why entries are NaN or infinite
    counted: dict[ir.Node, float] = field(default_factory=dict)  # errors of averages of kets that jump
    heavy: dict[ir.Node, list[Any]] = field(
        default_factory=dict
    )  # tail estimates from the largest samples of averages, step by step

    def fork(self) -> Particles:
        """The same particles with separate values."""
        return replace(self, values=dict(self.values), non_finite=dict(self.non_finite))

    def forget(self, nodes: Iterable[ir.Node]) -> None:
        """Drops the values of one step."""
        for node in nodes:
            self.values.pop(node, None)
            self.non_finite.pop(node, None)
