"""The training loop: the computation of a step, the gradients of its loss, and the `update` lines."""

from __future__ import annotations

from collections.abc import Iterator

from tp_compiler.expand.expressions import Env, ExpressionWriter, Place
from tp_compiler.expand.naming import WrittenName
from tp_compiler.expand.plan import BEFORE, LOOP
from tp_compiler.expand.statements import left
from tp_compiler.expand.text import ATOM
from tp_compiler.expand.unit import Term
from tp_compiler.ir import nodes as ir
from tp_compiler.ir.model import Copied, UpdateLine, WrittenTarget

AT = Place(LOOP)


class TrainingText:
    """Writes the statements that a loop needs before it, its head, its gradients and its last lines."""

    def __init__(self, expressions: ExpressionWriter, copied: Copied):
        self.expressions = expressions
        self.naming = expressions.naming
        self.unit = expressions.plan.unit
        self.training = self.unit.training
        self.copied = copied

    def above(self) -> Iterator[str]:
        """Optimizers of the program's own, and the numbers that they read under the names of the source."""
        for ident, (node, indices) in self.copied.values.items():
            env = self.expressions.brackets(indices)
            own = left(WrittenName(ident, indices, False), env, Place(BEFORE))
            text = self.expressions.piece(node, env, Place(BEFORE)).text
            if text != own:
                yield f"{own} = {text}"
        yield from self.copied.texts.values()

    def head(self) -> str:
        training = self.training
        assert training is not None
        clock = "time" if training.times else "steps"
        return f"train {clock} = {training.extent.text if training.listed else training.clock.size - 1} {{"

    # -- gradients ----------------------------------------------------------------------------------------------
    def slopes(self) -> Iterator[str]:
        """The gradients that are not nodes, those by matrices; and those that already have another name."""
        for slope in self.unit.slopes:
            ident = self.naming.slopes[slope]
            if not isinstance(slope.value, ir.Node):
                env = self.expressions.brackets(slope.member)
                terms = [self._outer(term, env) for term in slope.value]
                yield f"{left(WrittenName(ident, slope.member, False), env, AT)} = {' + '.join(terms)}"
            elif slope.value not in self.expressions.plan.bound:
                env = self.expressions.brackets((*slope.member, *slope.value.type.indices))
                name = WrittenName(ident, slope.member, slope.value.type.is_ket)
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
        assert self.training is not None
        loss, clip = self.training.loss, self.training.clip
        clipped = f" clip {self.expressions.piece(clip, {}, AT).text}" if clip is not None else ""
        yield f"minimize {self.expressions.piece(loss, {}, AT).text}{clipped}"
        for line in self.training.lines:
            targets = ", ".join(map(self._target, line.targets)) or "all"
            yield f"update {targets} with {line.optimizer}({', '.join(self._arguments(line))})"

    def _target(self, target: WrittenTarget) -> str:
        """A parameter as the `update` line names it; parameters other than kets may have another name here."""
        if not target.ket:
            for d in self.unit.declared:
                if d.ident == target.name and not d.ket:
                    return self.naming.ident(d) + target.text[len(target.name) :]
        return target.text

    def _arguments(self, line: UpdateLine) -> Iterator[str]:
        """The arguments in the source, as expressions of this program."""
        for given in line.given:
            node = line.arguments.get(given.name)
            text = given.text
            if node is not None and not given.word:
                text = self.expressions.piece(node, self.expressions.brackets(node.type.indices), AT).text
            yield f"{given.name} = {text}" if given.keyword else text
