"""A program put together: declarations, bindings, the training loop with its gradients, outputs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from tp_compiler.diagnostics import Diagnostics, Source, Span
from tp_compiler.expand.declarations import Declarations
from tp_compiler.expand.expressions import Expressions, Place
from tp_compiler.expand.indices import Indices
from tp_compiler.expand.naming import Naming
from tp_compiler.expand.optimizers import Copied, copied
from tp_compiler.expand.plan import AFTER, BEFORE, LOOP, Plan
from tp_compiler.expand.statements import Statements, fresh_names
from tp_compiler.expand.text import wrapped
from tp_compiler.expand.unit import Unit
from tp_compiler.frontend import syntax as ast
from tp_compiler.frontend.check import Checker
from tp_compiler.frontend.format import format_file
from tp_compiler.frontend.parse import parse
from tp_compiler.ir import nodes as ir

#: A text is read and written again until it stays as long as it is: shared parts are found at the second reading.
MAX_ROUNDS = 4


def expand(file: ast.File, found: Diagnostics, settings: Mapping[str, float] | None = None) -> str | None:
    """The program of a parsed file written out; None where `found` has errors."""
    text = _written(file, found, dict(settings or {}))
    for _ in range(MAX_ROUNDS):
        if text is None:
            return None
        source = Source(file.source.name, text)
        inner = Diagnostics()
        again = _written(parse(source, inner), inner, {})
        inner.raise_if_errors()
        stays = again is None or again.count("\n") == text.count("\n")
        text = again
        if stays:
            break
    return text


def _written(file: ast.File, found: Diagnostics, settings: dict[str, float]) -> str | None:
    checker = Checker(found, settings)
    checker.read(file)
    if checker.program(file.source) is None:
        return None
    text = Writer(Unit(checker, file.source), file).text()
    source = Source(file.source.name, text)
    return format_file(parse(source, found))


class Writer:
    """Writes one program."""

    def __init__(self, unit: Unit, file: ast.File):
        self.unit = unit
        self.file = file
        self.copied: Copied = copied(unit)
        self.plan = Plan(unit)
        axes = unit.axes()
        words = {n for names in axes.values() for n in names} | {w.name for w in unit.checker.widths}
        self.naming = Naming(self.plan, words | self.copied.words)
        span = Span(file.source, 0, 0)
        kets = {name.ident for name in (*self.naming.declared.values(), *self.naming.names.values()) if name.ket}
        self.indices = Indices(axes, self.naming.taken, kets, span)
        self.expressions = Expressions(self.plan, self.naming, self.indices)
        self.statements = Statements(self.plan, self.naming, self.expressions)
        self.declarations = Declarations(unit, self.expressions)
        self.done: set[ir.Node] = set()
        self.merged = self._merged()

    def text(self) -> str:
        sections = [self._declared(), self._bindings(BEFORE), self._train(), self._bindings(AFTER), self._outputs()]
        written = [list(lines) for lines in sections]
        head = [*self.declarations.axes(self.indices.declared), *self.declarations.widths()]
        parts = [head, *written]
        return "\n\n".join("\n".join(map(wrapped, lines)) for lines in parts if lines) + "\n"

    # -- sections -----------------------------------------------------------------------------------------------
    def _declared(self) -> Iterator[str]:
        """Data, kets, matrices and scalars, each behind what its numbers are made of."""
        for d in self.unit.declared:
            yield from self._needed(d.numbers)
            yield self.declarations.write(d)
        for s in self.file.statements:
            if isinstance(s, ast.Parametrization):
                yield s.span.text

    def _needed(self, nodes: Iterable[ir.Node]) -> Iterator[str]:
        for node in self.plan.written(nodes):
            yield from self._bind(node, BEFORE)

    def _bind(self, node: ir.Node, region: str) -> Iterator[str]:
        if node in self.plan.bound and node not in self.done and self.plan.region(node) == region:
            self.done.add(node)
            if node not in self.merged.values():
                yield from self.statements.bind(node)

    def _bindings(self, region: str) -> Iterator[str]:
        if region == BEFORE:
            for kept in self.plan.aliases:
                yield self.statements.alias(kept)
        for node in self.plan.order:
            yield from self._bind(node, region)
        if region == BEFORE:
            yield from self._copies()

    def _copies(self) -> Iterator[str]:
        """Optimizers of the program, and what they name."""
        for name, binding in self.copied.values.items():
            node = binding.value.node  # type: ignore[attr-defined]
            env = self.expressions.brackets(binding.indices)
            brackets = f"[{','.join(env.values())}]" if env else ""
            yield f"{name}{brackets} = {self.expressions.piece(node, env, Place(BEFORE)).text}"
        yield from self.copied.texts.values()

    # -- training -----------------------------------------------------------------------------------------------
    def _train(self) -> Iterator[str]:
        training = self.unit.training
        if training.trained is None or training.loss is None or training.minimized is None:
            return
        head = training.trained
        clock = self.unit.clock
        steps = head.extent.span.text if clock is None or isinstance(head.extent, ast.ListLiteral) else str(clock.size - 1)
        yield f"train {head.clock} = {steps} {{"
        forward = [n for n in self.plan.order if n.serial <= training.loss.serial]
        for node in forward:
            yield from self._indented(self._bind(node, LOOP))
        yield ""
        yield from self._indented(self._bindings(LOOP))
        yield from self._indented(line for s in self.unit.slopes if (line := self.statements.slope(s)) is not None)
        yield ""
        yield from self._indented(self._updates())
        yield "}"

    @staticmethod
    def _indented(lines: Iterable[str]) -> Iterator[str]:
        return (f"    {line}" for line in lines)

    def _updates(self) -> Iterator[str]:
        training, at = self.unit.training, Place(LOOP)
        assert training.loss is not None
        clip = f" clip {self.expressions.piece(training.clip, {}, at).text}" if training.clip is not None else ""
        yield f"minimize {self.expressions.piece(training.loss, {}, at).text}{clip}"
        for update in training.updates:
            call = update.statement.optimizer
            targets = ", ".join(self._target(t) for t in update.statement.targets) or "all"
            yield f"update {targets} with {call.fn.ident}({', '.join(self._arguments(call, update.values))})"

    def _target(self, target: ast.Name | ast.Ket) -> str:
        """A parameter as the `update` line names it; a scalar may have another name here."""
        if isinstance(target, ast.Name):
            for d in self.unit.declared:
                if d.ident == target.ident and isinstance(d.value, ir.InitialScalar):
                    return self.naming.declared[d.value].ident + target.span.text[len(target.ident) :]
        return target.span.text

    def _arguments(self, call: ast.Call, values: Mapping[str, object]) -> Iterator[str]:
        """The arguments that are given, as numbers of this program."""
        binding = next(u.optimizer.statement for u in self.unit.training.updates if u.statement.optimizer is call)
        for param, arg in zip(binding.params, call.args, strict=False):
            if arg.keyword is None:
                yield self._argument(values.get(param.name.ident), arg)
        for arg in call.args:
            if arg.keyword is not None:
                yield f"{arg.keyword} = {self._argument(values.get(arg.keyword), arg)}"

    def _argument(self, node: object, arg: ast.Arg) -> str:
        if not isinstance(node, ir.Node):
            return arg.value.span.text
        env = self.expressions.brackets(node.type.indices)
        return self.expressions.piece(node, env, Place(LOOP)).text

    # -- outputs ------------------------------------------------------------------------------------------------
    def _outputs(self) -> Iterator[str]:
        fresh = fresh_names(self.naming.taken)
        for k, output in enumerate(self.unit.outputs):
            yield from self.statements.output(output, self.plan.targets[k], k in self.merged, fresh)

    def _merged(self) -> dict[int, ir.Node]:
        """Outputs whose line binds their node, too: no statement, and no earlier output, reads it."""
        readers: dict[ir.Node, set[ir.Node]] = {}
        for node in self.plan.bound:
            for part in self.plan.inline(node):
                for a in self.plan.args(part):
                    if a in self.plan.bound:
                        readers.setdefault(a, set()).add(node)
        found: dict[int, ir.Node] = {}
        last = len(self.unit.outputs)
        for k in reversed(range(last)):
            output, node = self.unit.outputs[k], self.plan.targets[k].node
            name = self.naming.names.get(node)
            if name is None or name.ident != output.name or isinstance(node, ir.Stack):
                continue
            if self.plan.region(node) == LOOP or (self.unit.trains and self.plan.region(node) == BEFORE):
                continue  # it stands in the loop, or above it
            if len(name.brackets) != len([i for i in output.indices if i != self.unit.clock]):
                continue
            later = set(found.values())
            if readers.get(node, set()) <= later and not self._read_before(node, k):
                found[k] = node
        return found

    def _read_before(self, node: ir.Node, k: int) -> bool:
        """Does an output above number k, or the training, read a node?"""
        roots = [o.node for o in self.unit.outputs[:k]] + self.unit.loop_roots() + self.unit.laws()
        return any(n is node for root in roots for n in (root, *self.plan.inline(root), *self._args_inside(root)))

    def _args_inside(self, root: ir.Node) -> Iterator[ir.Node]:
        for part in self.plan.inline(root):
            yield from self.plan.args(part)
