"""A program put together: declarations, bindings, the training loop with its gradients, outputs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from tp_compiler.check.statements import Checker
from tp_compiler.diagnostics import Diagnostic, Diagnostics, ProgramError, Source, Span
from tp_compiler.expand.declarations import Declarations
from tp_compiler.expand.expressions import Expressions
from tp_compiler.expand.indices import Indices
from tp_compiler.expand.naming import Naming
from tp_compiler.expand.needs import add_needed
from tp_compiler.expand.outputs import Outputs
from tp_compiler.expand.plan import AFTER, BEFORE, LOOP, Plan
from tp_compiler.expand.statements import Statements
from tp_compiler.expand.text import wrapped
from tp_compiler.expand.training import TrainingText
from tp_compiler.expand.unit import Unit
from tp_compiler.expand.verbatim import copied
from tp_compiler.frontend import syntax as ast
from tp_compiler.frontend.format import format_file
from tp_compiler.frontend.parse import parse
from tp_compiler.ir import nodes as ir

#: A text is read and written again until it stays as long as it is: what reads alike is found at the second reading.
MAX_ROUNDS = 4


def expand(file: ast.File, found: Diagnostics, settings: Mapping[str, float] | None = None) -> str | None:
    """The program of a parsed file written out, in canonical layout; None where `found` has errors."""
    text = _written(file, found, dict(settings or {}))
    for _ in range(MAX_ROUNDS):
        if text is None:
            return None
        before, text = text, _again(Source(file.source.name, text))
        if text.count("\n") == before.count("\n"):
            break
    return text


def _again(source: Source) -> str:
    """A text of ours, read back and written once more."""
    found = Diagnostics()
    text = _written(parse(source, found), found, {})
    if found.errors or text is None:
        reason = found.errors[0].render() if found.errors else "it has errors"
        raise ProgramError(
            [
                Diagnostic(
                    "NX503", f"the program written out cannot be read back: {reason}", None, "report this as a bug"
                )
            ]
        )
    return text


def _written(file: ast.File, found: Diagnostics, settings: dict[str, float]) -> str | None:
    checker = Checker(found, settings, file.source)
    checker.read(file)
    if checker.program(file.source) is None:
        return None
    text = Writer(Unit(checker, file.source), file).text()
    return format_file(parse(Source(file.source.name, text), found))


class Writer:
    """Writes one program."""

    def __init__(self, unit: Unit, file: ast.File):
        self.unit = unit
        self.file = file
        self.plan = Plan(unit)
        add_needed(self.plan)
        verbatim, axes = copied(unit), unit.axes()
        words = {name for names in axes.values() for name in names} | {w.name for w in unit.checker.declarations.widths}
        naming = Naming(self.plan, words | verbatim.words)
        self.naming = naming
        self.indices = Indices(axes, naming.taken, naming.kets(), Span(file.source, 0, 0))
        expressions = Expressions(self.plan, naming, self.indices)
        self.declarations = Declarations(unit, expressions)
        self.statements = Statements(expressions)
        self.training = TrainingText(expressions, verbatim)
        self.outputs = Outputs(expressions)
        self.done: set[ir.Node] = set(self.outputs.merged.values())

    def text(self) -> str:
        sections = [self._declared(), self._above(), *self._train(), self._bindings(AFTER), self.outputs.write()]
        written = [list(lines) for lines in sections]  # before the axes, which get the index names made up on the way
        head = [*self.declarations.axes(self.indices.declared), *self.declarations.widths()]
        return "\n\n".join("\n".join(map(wrapped, lines)) for lines in (head, *written) if lines) + "\n"

    # -- sections -----------------------------------------------------------------------------------------------
    def _declared(self) -> Iterator[str]:
        """Data, kets, matrices and scalars, each behind what its numbers are made of."""
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
        loss = self.unit.training.loss
        if loss is None:
            return
        yield [self.training.head(), *_indented(self._bound(self.plan.written([loss]), LOOP))]
        yield _indented([*self._bindings(LOOP), *self.training.slopes()])
        yield [*_indented(self.training.updates()), "}"]


def _indented(lines: Iterable[str]) -> list[str]:
    return [f"    {line}" for line in lines]
