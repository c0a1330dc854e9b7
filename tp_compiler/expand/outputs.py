"""Outputs. The line of an output also binds the value it reports, unless an earlier line reads it."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

from tp_compiler.expand.expressions import Env, ExpressionWriter, Place
from tp_compiler.expand.indices import STEP
from tp_compiler.expand.plan import AFTER, BEFORE, LOOP, OutputName
from tp_compiler.ir import nodes as ir
from tp_compiler.ir.program import Output


class Outputs:
    """Writes the outputs. `merged`: those whose line binds their node, by their number."""

    def __init__(self, expressions: ExpressionWriter):
        self.expressions = expressions
        self.plan = expressions.plan
        self.naming = expressions.naming
        self.clock = self.plan.unit.clock
        self.merged: dict[int, ir.Node] = {}
        for k in reversed(range(len(self.plan.targets))):
            if self._can_bind(k):
                self.merged[k] = self.plan.targets[k].node

    def _can_bind(self, k: int) -> bool:
        """Is the node called like the output, bound outside the loop, and read by no statement and no output above?"""
        output, node = self.plan.unit.outputs[k], self.plan.targets[k].node
        name = self.naming.names.get(node)
        if name is None or name.ident != output.name or isinstance(node, ir.Stack):
            return False
        region = self.plan.region(node)
        if region == LOOP or (region == BEFORE and self.plan.unit.training is not None):
            return False
        if len(name.brackets) != len([i for i in output.indices if i != self.clock]):
            return False
        statements = [n for n in self.plan.bound if n is not node and n not in self.merged.values()]
        above = [*statements, *self.plan.outputs[:k], *self.plan.unit.loop_roots(), *self.plan.unit.laws()]
        return not any(node is n or node in self.plan.read(n) for n in above)

    def write(self) -> Iterator[str]:
        fresh = (f"o{k}" for k in count(1) if f"o{k}" not in self.naming.taken)
        for k, (output, target) in enumerate(zip(self.plan.unit.outputs, self.plan.targets, strict=True)):
            yield f"output {self._line(output, target, k in self.merged, fresh)}"

    def _line(self, output: Output, target: OutputName, merged: bool, fresh: Iterator[str]) -> str:
        """`f[i]`, `f[i] = ...`, or `<x|y>`: a name given as text names the new line."""
        over = self.clock in output.indices
        at = Place(AFTER, True) if over else Place(self.plan.region(output.node))
        env = self.expressions.brackets(i for i in output.indices if i != self.clock)
        value = self._value(output, target, merged, env, at)
        named = output.name.isidentifier()
        brackets = [*([STEP] if over else []), *env.values()]
        if not named and len(brackets) < 2 and not over:
            return value
        head = (output.name if named else next(fresh)) + (f"[{','.join(brackets)}]" if brackets else "")
        return head if value == head and not merged else f"{head} = {value}"

    def _value(self, output: Output, target: OutputName, merged: bool, env: Env, at: Place) -> str:
        if merged:
            inner = {own: env[out] for own, out in target.names.items()}
            return self.expressions.body(target.node, inner, at).text
        return self.expressions.piece(output.node, env, at).text
