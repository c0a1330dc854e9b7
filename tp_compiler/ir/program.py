"""Programs, as the evaluators read them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tp_compiler.diagnostics import Diagnostic, Source, Span
from tp_compiler.ir.nodes import Cotangents, Node, State
from tp_compiler.ir.types import Axis, Index, Width


@dataclass(frozen=True, eq=False)
class Output:
    """An `output NAME[indices] = ...`. The node may lack some of `indices`; it is then constant over them."""

    name: str
    indices: tuple[Index, ...]
    node: Node
    span: Span


@dataclass(frozen=True, eq=False)
class Loop:
    """The training loop: `following[state]` is the value of a state after the update of a step.

    It stays a loop: its instructions exist once, whatever the number of steps. They read the states through
    `Carry` and the number of updates through `Clock`. A quantity over `index` has the positions 0, 1, ..., steps.

    With `times`, gradient flow: step k goes from times[k-1] (0 before the first) to times[k], and
    `following - state` is the rate of change of a state.
    """

    steps: int
    index: Index
    following: Mapping[State, Node]
    span: Span
    times: tuple[float, ...] = ()

    def duration(self, step: int) -> float:
        """The duration of the flow in one step."""
        return self.times[step] - (self.times[step - 1] if step else 0.0)


@dataclass(frozen=True, eq=False)
class Program:
    """Outputs in source order; every node reachable from them is part of the program.

    `names`: the name of a node in the source, for display only. An int among the indices is a fixed position: the member
    bound by `|h[i,1]> = ...` is ("h", (i, 1)). `cotangents`: the results of differentiation, also for display.
    """

    source: Source
    outputs: tuple[Output, ...]
    axes: tuple[Axis, ...] = ()
    widths: tuple[Width, ...] = ()
    warnings: tuple[Diagnostic, ...] = field(default=())
    names: Mapping[Node, tuple[str, tuple[Index | int, ...]]] = field(default_factory=dict)
    cotangents: Cotangents = field(default_factory=dict)
    loop: Loop | None = None

    @property
    def roots(self) -> list[Node]:
        """What everything in the program is computed for: outputs, and the new values of states."""
        following = self.loop.following.values() if self.loop is not None else ()
        return [*(output.node for output in self.outputs), *following]
