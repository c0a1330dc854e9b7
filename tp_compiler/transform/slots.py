"""Exchange of neuron slots: k(α, β) to k(β, α)."""

from __future__ import annotations

from tp_compiler.diagnostics import Span
from tp_compiler.ir import nodes as ir
from tp_compiler.ir.build import Builder
from tp_compiler.ir.walk import rewrite


def exchanged(build: Builder, root: ir.Node, slot: int, span: Span) -> ir.Node:
    """`root` with the neurons of slot 0 and of `slot` exchanged (a node over other slots, too, keeps those).

    A ket (slot 0 alone) moves as a whole; what ties several neurons together is rebuilt.
    """

    def made(node: ir.Node, args: tuple[ir.Node, ...]) -> ir.Node:
        return _rebuilt(build, node, args, slot, span)

    return rewrite(build, root, lambda node: _moved(build, node, slot, span), span, made=made)


def _moved(build: Builder, node: ir.Node, slot: int, span: Span) -> ir.Node | None:
    slots = {s for s, _ in node.type.slots}
    if not slots:
        return node
    if slots == {0}:
        return build.copy(node, slot, span)
    if isinstance(node, ir.Copy):
        return node.args[0] if node.slot == slot else node
    return None


def _rebuilt(build: Builder, node: ir.Node, args: tuple[ir.Node, ...], slot: int, span: Span) -> ir.Node:
    if isinstance(node, ir.Contract):
        other = {0: slot, slot: 0}
        return build.contract(args, node.over, tuple(other.get(s, s) for s in node.slots), span)
    return build.again(node, args, span)
