"""Prepares a program for a loop of thousands of steps.

An optimizer without momentum reads 0 · b, and `where(0, a, b)`: products with the constant 0 and choices by a constant
are resolved here, once. Nodes that are then unused are never evaluated. Products and sums are placed where contractions can split
them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from tp_compiler.diagnostics import ProgramError, Span
from tp_compiler.ir import nodes as ir
from tp_compiler.ir.build import Builder
from tp_compiler.ir.onehot import one_hot
from tp_compiler.ir.program import Output, Program
from tp_compiler.ir.types import Index, Type
from tp_compiler.ir.walk import reachable


class Unbounded(Builder):
    """A builder for a program that has been accepted already."""

    def spend(self, span: Span, steps: int = 1) -> None:
        pass

    def _fold(self, fn: str, values: list[float], span: Span) -> ir.Node:
        """Expressions that constants make undefined (1/<x|0*x>) are not folded: the run refuses the outputs that read them."""
        try:
            return super()._fold(fn, values, span)
        except ProgramError:
            args = tuple(self.constant(value, span) for value in values)
            return self._make(ir.Map, type=Type(), fn=fn, args=args, span=span)


Rule = Callable[[ir.Node, tuple[ir.Node, ...]], ir.Node]


def rewritten(program: Program, outputs: Iterable[Output], rule: Rule) -> Program:
    """The program of these outputs, including its loop, with the rule applied to each node and its new arguments."""
    program = replace(program, outputs=tuple(outputs))
    loop = program.loop
    done: dict[ir.Node, ir.Node] = {}
    for node in reachable(program.roots):
        leaf = not node.args or isinstance(node, ir.InitialKet | ir.Unavailable)  # an initial ket is its symbol's
        done[node] = node if leaf else rule(node, tuple(done[a] for a in node.args))
    if loop is not None:
        loop = replace(loop, following={s: done[n] for s, n in loop.following.items()})
    return replace(program, outputs=tuple(replace(o, node=done[o.node]) for o in program.outputs), loop=loop)


def folded(program: Program, outputs: Iterable[Output], build: Builder) -> Program:
    """The program with constant subexpressions folded."""
    return rewritten(program, outputs, lambda node, args: _folded(build, node, args))


def _folded(build: Builder, node: ir.Node, args: tuple[ir.Node, ...]) -> ir.Node:
    zero = [a for a in args if _is(a, 0.0)]
    if zero and (isinstance(node, ir.Contract) or (args[0] is zero[0] and len(node.linear_in) == 1)):
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
    new = node if args == node.args else build.again(node, args, node.span)
    if isinstance(new, ir.Reindex) and len(new.args) == 1:
        return _renamed(build, new.args[0], dict(zip(new.args[0].type.indices, new.selectors, strict=True)), node.span)
    return _scattered(build, new) if isinstance(new, ir.Contract) else new


def _renamed(build: Builder, node: ir.Node, chosen: Mapping[Index, Index | int | ir.Gather], span: Span) -> ir.Node:
    """A product or a sum with renamed parts, one by one, so that a contraction can split it. The stream of a deep residual
    network is a sum of a sum of a sum, too deep for Python's stack."""
    done: dict[ir.Node, ir.Node] = {}
    todo = [node]
    while todo:
        x = todo.pop()
        parts = x.args if isinstance(x, ir.Map) and x.fn in ("mul", "add") else ()
        waiting = [a for a in parts if a not in done]
        if waiting:
            todo += [x, *waiting]
        elif isinstance(x, ir.Map) and parts:
            done[x] = build.map(x.fn, [done[a] for a in parts], span)
        else:
            done[x] = build.reindex(x, tuple(chosen[i] for i in x.type.indices), (), span)
    return done[node]


def _scattered(build: Builder, node: ir.Contract) -> ir.Node:
    """Rows at which a family changes: a sum of kets, each with its own scatter (sparse.py)."""
    sums = [a for a in node.args if isinstance(a, ir.Map) and a.fn == "add" and a.type.is_ket]
    hot = any((found := one_hot(a)) and found[0] not in node.over for a in node.args)
    if not hot or len(sums) != 1:
        return node
    rest = [a for a in node.args if a is not sums[0]]
    parts = [build.contract((x, *rest), node.over, node.slots, node.span) for x in sums[0].args]
    return build.map("add", [_scattered(build, p) if isinstance(p, ir.Contract) else p for p in parts], node.span)


def _is(node: ir.Node, value: float) -> bool:
    return isinstance(node, ir.Constant) and node.value == value
