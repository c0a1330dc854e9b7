"""Assembles a program: declarations, bindings, the training loop with its gradients, outputs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from tp_compiler.diagnostics import Diagnostic, Diagnostics, ProgramError, Source, Span
from tp_compiler.expand.declarations import DeclarationWriter
from tp_compiler.expand.expressions import ExpressionWriter
from tp_compiler.expand.indices import Indices
from tp_compiler.expand.naming import Naming
from tp_compiler.expand.needs import add_needed
from tp_compiler.expand.outputs import Outputs
from tp_compiler.expand.plan import AFTER, BEFORE, LOOP, WritingPlan
from tp_compiler.expand.statements import Statements
from tp_compiler.expand.text import identifiers, wrapped
from tp_compiler.expand.training import TrainingText
from tp_compiler.expand.unit import SourceProgram
from tp_compiler.frontend import syntax as ast
from tp_compiler.frontend.format import format_file
from tp_compiler.frontend.parse import parse
from tp_compiler.ir import nodes as ir
from tp_compiler.ir.model import Copied, Model

#: A text is read and written again until it gets no shorter: equal expressions are found at the second reading.
MAX_ROUNDS = 4


def expand(file: ast.File, model: Model, read: Callable[[Source], tuple[ast.File, Model]]) -> str:
    """A program written out, in canonical layout. `read` reads a text, of ours as well."""
    text = _written(file, model)
    for _ in range(MAX_ROUNDS):
        before, text = text, _again(Source(file.source.name, text), read)
        if text.count("\n") == before.count("\n"):
            break
    return text


def _again(source: Source, read: Callable[[Source], tuple[ast.File, Model]]) -> str:
    """Text written by `expand`, read back and written again."""
    try:
        return _written(*read(source))
    except ProgramError as problem:
        if any(d.code == "NX502" for d in problem.diagnostics):
            raise
        message = f"the program written out cannot be read back: {problem.diagnostics[0].render()}"
        raise ProgramError([Diagnostic("NX503", message, None, "report this as a bug")]) from None


def _written(file: ast.File, model: Model) -> str:
    text = Writer(SourceProgram(model), file).text()
    return format_file(parse(Source(file.source.name, text), Diagnostics()))


class Writer:
    """Writes one program."""

    def __init__(self, unit: SourceProgram, file: ast.File):
        self.unit = unit
        self.file = file
        self.plan = WritingPlan(unit)
        add_needed(self.plan)
        vocabulary = unit.model.vocabulary
        words = {name for names in vocabulary.axes.values() for name in names} | {w.name for w in unit.model.widths}
        own = unit.training.copied if unit.training is not None else Copied()
        words |= {word for text in own.texts.values() for word in identifiers(text)} | set(own.values)
        naming = Naming(self.plan, words)
        self.naming = naming
        self.indices = Indices(dict(vocabulary.axes), naming.taken, naming.kets(), Span(file.source, 0, 0))
        expressions = ExpressionWriter(self.plan, naming, self.indices)
        self.declarations = DeclarationWriter(unit, expressions)
        self.statements = Statements(expressions)
        self.training = TrainingText(expressions, own)
        self.outputs = Outputs(expressions)
        self.done: set[ir.Node] = set(self.outputs.merged.values())

    def text(self) -> str:
        sections = [self._declared(), self._above(), *self._train(), self._bindings(AFTER), self.outputs.write()]
        written = [list(lines) for lines in sections]  # before the axes, which get the index names made up on the way
        head = [*self.declarations.axes(self.indices.declared), *self.declarations.widths()]
        return "\n\n".join("\n".join(map(wrapped, lines)) for lines in (head, *written) if lines) + "\n"

    # -- sections -----------------------------------------------------------------------------------------------
    def _declared(self) -> Iterator[str]:
        """Data, kets, matrices and scalars, each after the numbers that it uses."""
        for d in self.unit.declared:
            yield from self._bound(self.plan.written(d.numbers), BEFORE)
            yield self.declarations.write(d)
        for s in self.file.statements:
            if isinstance(s, ast.Parametrization):
                yield s.span.text

    def _above(self) -> Iterator[str]:
        yield from map(self.statements.alias, self.naming.aliases)
        yield from self._bindings(BEFORE)
        yield from self.training.above()

    def _bindings(self, region: str) -> Iterator[str]:
        return self._bound(self.plan.order, region)

    def _bound(self, nodes: Iterable[ir.Node], region: str) -> Iterator[str]:
        """The statements of a region that are not written yet."""
        for node in nodes:
            if node in self.plan.bound and node not in self.done and self.plan.region(node) == region:
                self.done.add(node)
                yield from self.statements.bind(node)

    def _train(self) -> Iterator[Iterable[str]]:
        """The loop: the loss, its gradients, the updates."""
        if self.unit.training is None:
            return
        loss = self.unit.training.loss
        yield [self.training.head(), *_indented(self._bound(self.plan.written([loss]), LOOP))]
        yield _indented([*self._bindings(LOOP), *self.training.slopes()])
        yield [*_indented(self.training.updates()), "}"]


def _indented(lines: Iterable[str]) -> list[str]:
    return [f"    {line}" for line in lines]
