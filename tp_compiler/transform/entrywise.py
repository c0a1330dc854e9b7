"""Derivatives of entrywise functions: forward mode over `Map` nodes, rules from primitives.py."""

from __future__ import annotations

from typing import Any

from tp_compiler.diagnostics import Diagnostic, ProgramError, Span
from tp_compiler.ir import nodes as ir
from tp_compiler.ir.build import Builder
from tp_compiler.ir.primitives import PRIMITIVES
from tp_compiler.ir.walk import reachable


class NodeAlgebra:
    """The algebra in which primitives.py writes derivatives, over nodes."""

    def __init__(self, build: Builder, span: Span):
        self.build, self.span = build, span

    def __call__(self, fn: str, *args: Any) -> ir.Node:
        return self.build.map(fn, args, self.span)

    def number(self, value: float) -> ir.Node:
        return self.build.constant(value, self.span)


def derivative(build: Builder, root: ir.Node, leaf: ir.Node, span: Span) -> ir.Node:
    """d root / d leaf, where root is built from entrywise functions of leaf.

    Raises ProgramError NX236 if leaf passes through anything other than an entrywise function.
    """
    alg = NodeAlgebra(build, span)
    zero = alg.number(0.0)
    slope: dict[ir.Node, ir.Node] = {leaf: alg.number(1.0)}
    for node in reachable([root]):
        if node is leaf:
            continue
        moving = [k for k, a in enumerate(node.args) if slope.get(a, zero) is not zero]
        if not moving:
            continue
        if not isinstance(node, ir.Map):
            raise ProgramError(
                [
                    Diagnostic(
                        "NX236", "only entrywise functions have a derivative `'`", span, "write the derivative out"
                    )
                ]
            )
        terms = [alg("mul", partial(alg, node, k), slope[node.args[k]]) for k in moving]
        slope[node] = terms[0] if len(terms) == 1 else alg("add", *terms)
    return slope.get(root, zero)


def partial(alg: NodeAlgebra, node: ir.Map, k: int) -> ir.Node:
    """The derivative of an entrywise function in its argument k."""
    if node.fn == "add":
        return alg.number(1.0)
    if node.fn == "mul":
        return alg("mul", *(a for j, a in enumerate(node.args) if j != k))
    slope: ir.Node = PRIMITIVES[node.fn].partials[k](alg, *node.args)
    return slope
