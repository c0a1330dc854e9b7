"""Bindings: kets, scalars, members of families, and saved initial values."""

from __future__ import annotations

from collections.abc import Iterator

from tp_compiler.expand.expressions import Env, ExpressionWriter, Place
from tp_compiler.expand.indices import STEP
from tp_compiler.expand.naming import WrittenName
from tp_compiler.expand.plan import AFTER, BEFORE
from tp_compiler.expand.text import identifiers
from tp_compiler.ir import nodes as ir
from tp_compiler.ir.types import Index


class Statements:
    """Writes the statements of bindings."""

    def __init__(self, expressions: ExpressionWriter):
        self.expressions = expressions
        self.plan = expressions.plan
        self.naming = expressions.naming
        self.indices = expressions.indices

    def bind(self, node: ir.Node) -> Iterator[str]:
        """`|h[i]> = ...`, or a line for every member of a family that the source has not bound itself."""
        name, at = self.naming.names[node], self._place(node)
        if not isinstance(node, ir.Stack):
            yield self._binding(name, node, at)
        elif name.family is None:
            yield from self._assembled(name, node, at)

    def _place(self, node: ir.Node) -> Place:
        region = self.plan.region(node)
        return Place(region, region == AFTER and self.naming.names[node].clocked)

    def _binding(self, name: WrittenName, node: ir.Node, at: Place) -> str:
        env = self.expressions.brackets((*name.brackets, *node.type.indices))
        text = self.expressions.body(node, env, at).text
        family = name.family
        if family is None or family.index is None or family.opened:
            return f"{left(name, env, at)} = {text}"
        family.opened = True
        return self._opened(name, env, at, text, family.index)

    def _assembled(self, name: WrittenName, stack: ir.Stack, at: Place) -> Iterator[str]:
        """The members of a family, one by one."""
        env = self.expressions.brackets(b for b in name.brackets if b != stack.index)
        for position, member in enumerate(stack.args, 1):
            brackets = tuple(position if b == stack.index else b for b in name.brackets)
            placed = WrittenName(name.ident, brackets, name.ket)
            text = self.expressions.piece(member, env, at).text
            first = position == 1
            yield self._opened(placed, env, at, text, stack.index) if first else f"{left(placed, env, at)} = {text}"

    def _opened(self, name: WrittenName, env: Env, at: Place, text: str, index: Index) -> str:
        """The first member of a family, in a loop that shows which axis its position is on."""
        variable = self.indices.pick(index, identifiers(text) | set(env.values()))
        spot, position = next((k, b) for k, b in enumerate(name.brackets) if not isinstance(b, Index))
        own = left(name, env, at, {spot: variable})
        return f"for {variable} in {position}..{position} {{ {own} = {text} }}"

    def alias(self, kept: ir.Node | ir.MatrixSymbol) -> str:
        """`|u_0[d]> = |u[d]>`, `W_0 = W`: the value of a parameter before the loop."""
        name, at = self.naming.aliases[kept], Place(BEFORE)
        env = self.expressions.brackets(name.brackets)
        if isinstance(kept, ir.MatrixSymbol):
            whole = WrittenName(self.naming.matrices[kept], name.brackets, False)
            return f"{left(name, env, at)} = {left(whole, env, at)}"
        return f"{left(name, env, at)} = {self.expressions.body(kept, env, at).text}"


def left(name: WrittenName, env: Env, at: Place, spots: dict[int, str] | None = None) -> str:
    """The left-hand side of a binding; `spots` replaces some of the entries in its brackets."""
    brackets = [env[b] if isinstance(b, Index) else str(b) for b in name.brackets]
    for k, text in (spots or {}).items():
        brackets[k] = text
    if at.over_steps:
        brackets.insert(0, STEP)
    text = name.ident + (f"[{','.join(brackets)}]" if brackets else "")
    return f"|{text}>" if name.ket else text
