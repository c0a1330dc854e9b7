"""What the positions along the axes of outputs stand for: data over one index, such as learning rates, and times of a flow."""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

from tp_compiler.ir.nodes import Array, Reindex
from tp_compiler.ir.program import Program
from tp_compiler.ir.types import Axis
from tp_compiler.ir.walk import reachable

_known: WeakKeyDictionary[Program, dict[str, dict[str, Any]]] = WeakKeyDictionary()


def coordinates(program: Program) -> dict[str, dict[str, Any]]:
    """Index of an output to names of data to their numbers, one per position.

    Data over several indices (points in a plane, say), and those that select members (the words of a text), make positions
    along them arbitrary: such axes have no coordinates.
    """
    if program not in _known:
        _known[program] = _coordinates(program)
    return {name: dict(data) for name, data in _known[program].items()}


def _coordinates(program: Program) -> dict[str, dict[str, Any]]:
    found: dict[Axis, dict[str, Any]] = {}
    loop = program.loop
    arbitrary: set[Axis] = {loop.index.axis} if loop is not None else set()  # data over steps are the steps' own
    nodes = reachable(program.roots)
    labels = {selector for node in nodes if isinstance(node, Reindex) for selector in node.args[1:]}
    for node in nodes:
        if isinstance(node, Array):
            axes = [index.axis for index in node.type.indices]
            if len(axes) == 1 and node not in labels:
                found.setdefault(axes[0], {})[node.name] = node.values
            else:
                arbitrary.update(axes)
    indices = {index.name: index.axis for output in program.outputs for index in output.indices}
    named = {name: dict(found[axis]) for name, axis in indices.items() if axis in found and axis not in arbitrary}
    if loop is not None and loop.times and loop.index.name in indices:
        named[loop.index.name] = {"time": (0.0, *loop.times)}
    return named
