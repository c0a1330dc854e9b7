"""What the positions along the axes of outputs stand for: data over one index, such as learning rates, and times of a flow."""

from __future__ import annotations

from typing import Any

from tp_compiler.ir.nodes import Array
from tp_compiler.ir.program import Program
from tp_compiler.ir.types import Axis
from tp_compiler.ir.walk import reachable


def coordinates(program: Program) -> dict[str, dict[str, Any]]:
    """Index of an output to names of data to their numbers, one per position.

    Data over several indices make positions along them arbitrary (points in a plane, say): such axes have no coordinates.
    """
    found: dict[Axis, dict[str, Any]] = {}
    arbitrary: set[Axis] = set()
    for node in _nodes(program):
        if isinstance(node, Array):
            axes = [index.axis for index in node.type.indices]
            if len(axes) == 1 and not node.integer:
                found.setdefault(axes[0], {})[node.name] = node.values
            else:
                arbitrary.update(axes)
    indices = {index.name: index.axis for output in program.outputs for index in output.indices}
    named = {name: dict(found[axis]) for name, axis in indices.items() if axis in found and axis not in arbitrary}
    loop = program.loop
    if loop is not None and loop.times and loop.index.name in indices:
        named[loop.index.name] = {"time": (0.0, *loop.times)}
    return named


def _nodes(program: Program) -> list[Any]:
    roots = [output.node for output in program.outputs]
    if program.loop is not None:
        roots += program.loop.following.values()
    return reachable(roots)
