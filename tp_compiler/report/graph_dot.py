"""The graph of a limit's quantities as text: the language of Graphviz."""

from __future__ import annotations

from typing import Any

from tp_compiler.equations.graph import DependencyGraph, Quantity
from tp_compiler.report.system_notations import Unicode

#: Shapes and colours by kind; outputs have a double border.
_LOOKS = {
    Quantity.INITIAL: 'shape=box, style="filled,rounded", fillcolor="#dbe6f7"',
    Quantity.KET: 'shape=box, style="rounded"',
    Quantity.HAT: 'shape=box, style="filled", fillcolor="#f6ecc9"',
    Quantity.DOT: 'shape=box, style="filled", fillcolor="#f1d3d3"',
    Quantity.LEARNED: 'shape=box, style="filled", fillcolor="#e6d7e8"',
    Quantity.ENTRY: 'shape=hexagon, style="filled", fillcolor="#e6d7e8"',
    Quantity.SCALAR: "shape=ellipse",
    Quantity.RANDOM: 'shape=ellipse, style="filled", fillcolor="#dbe6f7"',
}


def names(graph: DependencyGraph) -> list[str]:
    """Every quantity as the equations write it."""
    printer: Any = Unicode()
    return [printer.doprint(vertex.term) for vertex in graph.vertices]


def dot(graph: DependencyGraph) -> str:
    """The graph, from top to bottom; dashed arrows come from earlier steps of training."""
    lines = ["digraph limit {", "  rankdir=TB;", '  node [fontname="DejaVu Sans"];']
    for k, (vertex, name) in enumerate(zip(graph.vertices, names(graph), strict=True)):
        border = ", peripheries=2" if vertex.output else ""
        lines.append(f'  q{k} [label="{_quoted(name)}", {_LOOKS[vertex.quantity]}{border}];')
    for arrow in graph.arrows:
        back = " [style=dashed, constraint=false]" if arrow.earlier else ""
        lines.append(f"  q{arrow.source} -> q{arrow.target}{back};")
    return "\n".join([*lines, "}"])


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')
