"""The training loop: what a step computes, the gradients of its loss, and the lines that update."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from tp_compiler.expand.expressions import Env, Expressions, Place
from tp_compiler.expand.naming import Name
from tp_compiler.expand.plan import BEFORE, LOOP
from tp_compiler.expand.statements import left
from tp_compiler.expand.text import ATOM
from tp_compiler.expand.unit import Term
from tp_compiler.expand.verbatim import Copied
from tp_compiler.frontend import syntax as ast
from tp_compiler.ir import nodes as ir

AT = Place(LOOP)


class TrainingText:
    """Writes what a loop needs above it, its head, its gradients and its last lines."""

    def __init__(self, expressions: Expressions, copied: Copied):
        self.expressions = expressions
        self.naming = expressions.naming
        self.unit = expressions.plan.unit
        self.training = self.unit.training
        self.copied = copied

    def above(self) -> Iterator[str]:
        """Optimizers of the program's own, and the numbers that they read under the names of the source."""
        for ident, (node, indices) in self.copied.values.items():
            env = self.expressions.brackets(indices)
            own = left(Name(ident, indices, False), env, Place(BEFORE))
            text = self.expressions.piece(node, env, Place(BEFORE)).text
            if text != own:
                yield f"{own} = {text}"
        yield from self.copied.texts.values()

    def head(self) -> str:
        train, clock = self.training.trained, self.unit.clock
        assert train is not None
        listed = clock is None or isinstance(train.extent, ast.ListLiteral)
        return f"train {train.clock} = {train.extent.span.text if listed or clock is None else clock.size - 1} {{"

    # -- gradients ----------------------------------------------------------------------------------------------
    def slopes(self) -> Iterator[str]:
        """The gradients that are no nodes, those by matrices; and those that have another name already."""
        for slope in self.unit.slopes:
            ident = self.naming.slopes[slope]
            if not isinstance(slope.value, ir.Node):
                env = self.expressions.brackets(slope.member)
                terms = [self._outer(term, env) for term in slope.value]
                yield f"{left(Name(ident, slope.member, False), env, AT)} = {' + '.join(terms)}"
            elif slope.value not in self.expressions.plan.bound:
                env = self.expressions.brackets((*slope.member, *slope.value.type.indices))
                name = Name(ident, slope.member, slope.value.type.is_ket)
                yield f"{left(name, env, AT)} = {self.expressions.piece(slope.value, env, AT).text}"

    def _outer(self, term: Term, env: Env) -> str:
        """sum[i](|dh[i]><x[i]|)"""
        ket, bra, over = term
        inner = dict(env)
        for index in over:
            inner[index] = self.expressions.indices.pick(index, inner.values())
        text = f"{self.expressions.piece(ket, inner, AT).at(ATOM)}<{self.expressions.bra(bra, inner, AT)}|"
        return f"sum[{','.join(inner[i] for i in over)}]({text})" if over else text

    # -- the last lines -----------------------------------------------------------------------------------------
    def updates(self) -> Iterator[str]:
        loss, clip = self.training.loss, self.training.clip
        assert loss is not None
        clipped = f" clip {self.expressions.piece(clip, {}, AT).text}" if clip is not None else ""
        yield f"minimize {self.expressions.piece(loss, {}, AT).text}{clipped}"
        for update in self.training.updates:
            call, params = update.statement.optimizer, update.optimizer.statement.params
            targets = ", ".join(map(self._target, update.statement.targets)) or "all"
            arguments = ", ".join(self._arguments(call, params, update.values))
            yield f"update {targets} with {call.fn.ident}({arguments})"

    def _target(self, target: ast.Name | ast.Ket) -> str:
        """A parameter as the `update` line names it; what is no ket may have another name here."""
        if isinstance(target, ast.Name):
            for d in self.unit.declared:
                if d.ident == target.ident and not d.ket:
                    return self.naming.ident(d) + target.span.text[len(target.ident) :]
        return target.span.text

    def _arguments(self, call: ast.Call, params: tuple[ast.Param, ...], values: Mapping[str, object]) -> Iterator[str]:
        """The arguments that the source gives, as expressions of this program."""
        for k, arg in enumerate(call.args):
            known = arg.keyword or (params[k].name.ident if k < len(params) else "")
            text = self._argument(values.get(known), arg)
            yield text if arg.keyword is None else f"{arg.keyword} = {text}"

    def _argument(self, node: object, arg: ast.Arg) -> str:
        if not isinstance(node, ir.Node):
            return arg.value.span.text
        return self.expressions.piece(node, self.expressions.brackets(node.type.indices), AT).text
