"""Statements: bindings of kets, scalars and members of families, and outputs."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

from tp_compiler.expand.expressions import Env, Expressions, Place
from tp_compiler.expand.indices import STEP
from tp_compiler.expand.naming import Name, Naming
from tp_compiler.expand.plan import AFTER, Plan, Target
from tp_compiler.expand.text import identifiers
from tp_compiler.expand.unit import Slope, Term
from tp_compiler.ir import nodes as ir
from tp_compiler.ir.program import Output
from tp_compiler.ir.types import Index


class Statements:
    """Writes the statement of a node, a gradient or an output."""

    def __init__(self, plan: Plan, naming: Naming, expressions: Expressions):
        self.plan = plan
        self.naming = naming
        self.expressions = expressions
        self.written: set[str] = set()

    # -- bindings -----------------------------------------------------------------------------------------------
    def bind(self, node: ir.Node) -> Iterator[str]:
        """`|h[i]> = ...`, or a line for every member of a family that the source has not bound itself."""
        name = self.naming.names[node]
        if not isinstance(node, ir.Stack):
            yield self._binding(name, node, node, self._place(node))
        elif name.family is None:
            for position, member in enumerate(node.args, 1):
                yield self._member(name, node, member, position)

    def _place(self, node: ir.Node) -> Place:
        region = self.plan.region(node)
        return Place(region, region == AFTER and self.naming.names[node].clocked)

    def _binding(self, name: Name, node: ir.Node, value: ir.Node, at: Place) -> str:
        env = self.expressions.brackets(dict.fromkeys((*(b for b in name.brackets if isinstance(b, Index)), *value.type.indices)))
        text = self._value(node, value, env, at)
        family = name.family
        if family is None or family.index is None or family.opened:
            return f"{self._left(name, env, at)} = {text}"
        family.opened = True
        spot = next(k for k, b in enumerate(name.brackets) if not isinstance(b, Index))
        return self._opened(name, env, at, text, family.index, spot)

    def _value(self, node: ir.Node, value: ir.Node, env: Env, at: Place) -> str:
        if value is node:
            return self.expressions.body(value, env, at).text
        return self.expressions.piece(value, env, at).text

    def _left(self, name: Name, env: Env, at: Place, spots: dict[int, str] | None = None) -> str:
        brackets = [env[b] if isinstance(b, Index) else str(b) for b in name.brackets]
        for k, text in (spots or {}).items():
            brackets[k] = text
        if at.over_steps:
            brackets.insert(0, STEP)
        text = name.ident + (f"[{','.join(brackets)}]" if brackets else "")
        return f"|{text}>" if name.ket else text

    def _opened(self, name: Name, env: Env, at: Place, text: str, index: Index, spot: int) -> str:
        """The first member of a family, in a loop over its axis."""
        used = identifiers(text) | set(env.values())
        variable = self.expressions.indices.pick(index, used)
        position = name.brackets[spot]
        left = self._left(name, env, at, {spot: variable})
        return f"for {variable} in {position}..{position} {{ {left} = {text} }}"

    def _member(self, name: Name, stack: ir.Stack, member: ir.Node, position: int) -> str:
        """A member of a family that is assembled here."""
        at = self._place(stack)
        env = self.expressions.brackets(b for b in name.brackets if b != stack.index and isinstance(b, Index))
        text = self.expressions.piece(member, env, at).text
        spot = name.brackets.index(stack.index)
        placed = Name(name.ident, tuple(position if k == spot else b for k, b in enumerate(name.brackets)), name.ket)
        if position == 1:
            return self._opened(placed, env, at, text, stack.index, spot)
        return f"{self._left(placed, env, at)} = {text}"

    # -- initial values that stay -------------------------------------------------------------------------------
    def alias(self, kept: ir.Node | ir.MatrixSymbol) -> str:
        """`|u_0[d]> = |u[d]>`, `W_0 = W`: what a parameter was before the loop."""
        name, at = self.naming.aliases[kept], Place("before")
        env = self.expressions.brackets(b for b in name.brackets if isinstance(b, Index))
        if isinstance(kept, ir.MatrixSymbol):
            own = ",".join(env.values())
            return f"{self._left(name, env, at)} = {kept.name}{f'[{own}]' if own else ''}"
        return f"{self._left(name, env, at)} = {self.expressions.piece(kept, env, at).text}"

    # -- gradients of a loss ------------------------------------------------------------------------------------
    def slope(self, slope: Slope) -> str | None:
        """The gradient by a parameter that no statement binds: of a matrix, or one that has another name already."""
        at = Place("loop")
        free = [m for m in slope.member if isinstance(m, Index)]
        env = self.expressions.brackets(free)
        if isinstance(slope.value, ir.Node):
            if slope.value in self.plan.bound:
                return None
            name = Name(self.naming.slopes[slope], slope.member, slope.value.type.is_ket)
            env = self.expressions.brackets(dict.fromkeys((*free, *slope.value.type.indices)))
            return f"{self._left(name, env, at)} = {self.expressions.piece(slope.value, env, at).text}"
        name = Name(self.naming.slopes[slope], slope.member, False)
        terms = " + ".join(self._outer(term, env, at) for term in slope.value)
        return f"{self._left(name, env, at)} = {terms}"

    def _outer(self, term: Term, env: Env, at: Place) -> str:
        """sum[i](|dh[i]><x[i]|)"""
        left, right, over = term
        inner = dict(env)
        for index in over:
            inner[index] = self.expressions.indices.pick(index, inner.values())
        ket = self.expressions.piece(left, inner, at).at(3)
        bra = self.expressions.bra(right, inner, at)
        text = f"{ket}<{bra}|"
        return f"sum[{','.join(inner[i] for i in over)}]({text})" if over else text

    # -- outputs ------------------------------------------------------------------------------------------------
    def output(self, output: Output, target: Target, merged: bool, fresh: Iterator[str]) -> Iterator[str]:
        """`output f[i]`, `output f[i] = ...`, `output <x|y>`. `merged`: the node is bound here and nowhere else."""
        clock = self.plan.unit.clock
        over = clock in output.indices
        at = Place(AFTER, True) if over else Place(self.plan.region(output.node))
        env = self.expressions.brackets(i for i in output.indices if i != clock)
        value = self._reported(output, target, merged, env, at)
        brackets = [*([STEP] if over else []), *env.values()]
        named = output.name.isidentifier()
        head = (output.name if named else next(fresh)) + (f"[{','.join(brackets)}]" if brackets else "")
        if not merged and value == head:
            yield f"output {head}"
        elif named or len(brackets) > 1 or over:
            yield f"output {head} = {value}"
        else:
            yield f"output {value}"

    def _reported(self, output: Output, target: Target, merged: bool, env: Env, at: Place) -> str:
        if merged:
            inner = {own: env[out] for own, out in target.names.items()}
            return self.expressions.body(target.node, inner, at).text
        return self.expressions.piece(output.node, env, at).text


def fresh_names(taken: set[str]) -> Iterator[str]:
    """o1, o2, ...: outputs whose name is a text that reads otherwise here."""
    return (f"o{k}" for k in count(1) if f"o{k}" not in taken)
