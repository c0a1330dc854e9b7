"""Constants folded, before a training loop runs thousands of times.

An optimizer without momentum reads 0 · b, and `where(0, a, b)`: products with the constant 0 and choices by a constant
are decided here, once. What then nothing reads is never evaluated.
"""

from __future__ import annotations

from dataclasses import replace

from tp_compiler.diagnostics import Span
from tp_compiler.ir import nodes as ir
from tp_compiler.ir.build import Builder
from tp_compiler.ir.program import Output, Program
from tp_compiler.ir.walk import reachable, rebuilt

#: Instructions that map 0 (as their first argument) to 0.
_HOMOGENEOUS = (ir.MatMul, ir.Apply, ir.Copy, ir.Reindex, ir.Shift, ir.Contract)


class Unbounded(Builder):
    """A builder for a program that has been accepted already."""

    def spend(self, span: Span, steps: int = 1) -> None:
        pass


def folded(program: Program, outputs: list[Output], build: Builder) -> Program:
    """The program of these outputs, its loop included."""
    loop = program.loop
    roots = [o.node for o in outputs]
    if loop is not None:
        roots += loop.following.values()
    done: dict[ir.Node, ir.Node] = {}
    for node in reachable(roots):
        done[node] = _folded(build, node, tuple(done[a] for a in node.args))
    if loop is not None:
        loop = replace(loop, following={s: done[n] for s, n in loop.following.items()})
    return replace(program, outputs=tuple(replace(o, node=done[o.node]) for o in outputs), loop=loop)


def _folded(build: Builder, node: ir.Node, args: tuple[ir.Node, ...]) -> ir.Node:
    if not args or isinstance(node, ir.InitialKet | ir.Unavailable):
        return node  # an initial ket is the identity of its symbol
    zero = [a for a in args if _is(a, 0.0)]
    if zero and (isinstance(node, ir.Contract) or (args[0] is zero[0] and isinstance(node, _HOMOGENEOUS))):
        return zero[0]
    if isinstance(node, ir.Map):
        if zero and (node.fn == "mul" or (node.fn == "div" and args[0] is zero[0])):
            return zero[0]
        if node.fn == "where":
            condition, yes, no = args
            if isinstance(condition, ir.Constant):
                return yes if condition.value > 0 else no
            if yes is no or (isinstance(yes, ir.Constant) and _is(no, yes.value)):
                return yes
    if isinstance(node, ir.Reindex) and len(args) == 1 and isinstance(args[0], ir.Map) and args[0].fn == "mul":
        return _renamed(build, node, args[0])
    return node if args == node.args else rebuilt(build, node, args, node.span)


def _renamed(build: Builder, node: ir.Reindex, product: ir.Map) -> ir.Node:
    """A product under new names, factor by factor: a contraction then takes it apart."""
    chosen = dict(zip(node.args[0].type.indices, node.selectors, strict=True))
    factors = []
    for f in product.args:
        selectors = tuple(chosen[i] for i in f.type.indices)
        factors.append(build.reindex(f, selectors, (), node.span))
    return build.map("mul", factors, node.span)


def _is(node: ir.Node, value: float) -> bool:
    return isinstance(node, ir.Constant) and node.value == value
