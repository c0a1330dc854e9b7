"""Optimizers, training loops and parametrizations: checked as far as this version can, and marked unavailable.

What is checked: the names in every body, the targets of `update`, arguments of optimizers defined in the program, one
`train` and one `minimize`. Outputs that depend on training are refused at evaluation, by the name of the construct.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tp_compiler.diagnostics import Diagnostic, Span
from tp_compiler.frontend import syntax as ast
from tp_compiler.frontend import values as v
from tp_compiler.frontend.definitions import check_body
from tp_compiler.frontend.expressions import Context, error, free_indices
from tp_compiler.frontend.names import Scope, suggest
from tp_compiler.ir.program import Output
from tp_compiler.ir.types import Axis, Index

if TYPE_CHECKING:
    from tp_compiler.frontend.check import Checker

#: Optimizers of the standard library and of torch.optim that programs may name.
STANDARD = (
    "SGD", "Adam", "AdamW", "NAdam", "RAdam", "Adamax", "AMSGrad", "RMSprop", "Adagrad", "Adadelta", "Rprop", "SignSGD",
    "Signum", "Lion", "Adafactor", "KFAC", "Shampoo", "Muon", "SOAP", "Nero",
)  # fmt: skip
PARAMETRIZATIONS = ("mup", "ntk", "standard")
_OPERATOR_WORDS = {"pow", "inv", "msign", "matfun", "rowmean", "colmean", "rownorm", "colnorm", "inputs", "signals"}


class Training:
    """State of the checks: the training clock, what has been updated, the parametrization asked for."""

    def __init__(self, checker: Checker):
        self.checker = checker
        self.core = checker.core
        self.construct = ""  # what makes the following outputs unavailable
        self.parametrized = ""
        self.trained: ast.Train | None = None
        self.minimized = False
        self.updates = False
        self.updated: set[str] = set()
        self.rows: list[tuple[ast.ParametrizationRow, Scope]] = []  # their targets may be declared below them

    def announce(self, statements: tuple[ast.Statement, ...], scope: Scope) -> None:
        """Declares the index `step` where the program trains: values 0..steps."""
        train = next((s for s in statements if isinstance(s, ast.Train)), None)
        if train is None:
            return
        steps = 1
        if isinstance(train.extent, ast.ListLiteral):
            steps = len(train.extent.items)
        elif isinstance(train.extent, ast.Number) and train.extent.text.isdigit():
            steps = int(train.extent.text)
        index = Index("step", Axis("step", steps + 1))
        scope.others["step"] = v.Binding(v.IndexName(index))

    def sized(self, indices: tuple[Index, ...], values: Any) -> tuple[Index, ...]:
        """Data over `step` may have one entry per update, or one more."""
        if len(values.shape) != len(indices):
            return indices
        return tuple(
            Index("step", Axis("step", size)) if i.name == "step" and size in (i.size, i.size - 1) else i
            for i, size in zip(indices, values.shape, strict=True)
        )

    def finish(self) -> None:
        """Checks that rely on the whole program: every parametrization row names a parameter."""
        for row, scope in self.rows:
            name = row.target.label if isinstance(row.target, ast.Ket) else row.target
            assert isinstance(name, ast.Name)
            table = scope.kets if isinstance(row.target, ast.Ket) else scope.others
            if name.ident not in table and (name.ident != "output" or isinstance(row.target, ast.Ket)):
                message = f"no parameter is called `{row.target.span.text}`"
                self.checker.found.add(Diagnostic("NX156", message, row.target.span, suggest(name.ident, table)))

    def marked(self, output: Output) -> Output:
        """The output, unavailable where the program's parametrization is."""
        if not self.parametrized:
            return output
        return self._refused(output, self.parametrized)

    def _refused(self, output: Output, construct: str) -> Output:
        build = self.checker.build
        node = build.unavailable(construct, (), output.node.type.indices, None, output.span)
        return replace(output, node=node)

    # -- statements ---------------------------------------------------------------------------------------------
    def train(self, s: ast.Train, scope: Scope) -> None:
        if self.trained is not None:
            raise error("NX150", "a program has one `train`", s.span, "put both phases into one loop")
        self.trained = s
        if s.clock == "steps" or not isinstance(s.extent, ast.ListLiteral):
            steps = self.core.integer(s.extent, Context(scope), "the number of steps")
            if steps is not None and steps < 1:
                raise error("NX151", f"{steps} steps", s.extent.span, "train for one step or more")
        before = {**scope.kets}, {**scope.others}
        clock = scope.others["step"]
        refused = self.checker.build.unavailable("the index step", (), (), None, s.span)
        scope.others["step"] = v.Binding(v.Scalar(refused))
        self.checker.run(s.body, scope, "train")
        scope.others["step"] = clock
        if not self.minimized:
            raise error("NX152", "the loop minimizes nothing", s.span, "add `minimize loss`")
        if not self.updates:
            raise error("NX153", "the loop updates nothing", s.span, "add `update all with SGD(lr = 0.1)`")
        assert isinstance(clock.value, v.IndexName)
        self._after(scope, before, clock.value.index)

    def _after(self, scope: Scope, before: tuple[dict[str, v.Binding], dict[str, v.Binding]], clock: Index) -> None:
        """Behind the loop, parameters are trained: their values are unavailable in this version."""
        for table, old in zip((scope.kets, scope.others), before, strict=True):
            for name, binding in list(table.items()):
                if binding.parameter:
                    table[name] = replace(binding, value=self._refused_value(binding.value))
                elif old.get(name) is not binding and name != "step":
                    table[name] = replace(binding, value=self._refused_value(binding.value), clock=clock)
        for name, binding in list(scope.others.items()):
            if isinstance(binding.value, v.UserDef):
                inner = binding.value.scope
                current = Scope(
                    {**inner.kets, **_declared(scope.kets)}, {**inner.others, **_declared(scope.others)}, scope.library
                )
                scope.others[name] = replace(binding, value=v.UserDef(binding.value.statement, current))

    def _refused_value(self, value: v.Value) -> v.Value:
        """A value of the same type that training would give."""
        build = self.checker.build
        if isinstance(value, v.Ket):
            width = dict(value.node.type.slots).get(0)
            if width is None:
                return value
            return v.Ket(build.unavailable("train", (), value.node.type.indices, width, self._span()))
        if isinstance(value, v.Scalar):
            return v.Scalar(build.unavailable("train", (), value.node.type.indices, None, self._span()))
        return v.Opaque("train", free_indices(value)) if isinstance(value, v.Operator) else value

    def _span(self) -> Span:
        """The head of the training loop: what a refused output is refused for."""
        assert self.trained is not None
        span = self.trained.span
        return Span(span.source, span.start, self.trained.extent.span.end)

    def minimize(self, s: ast.Minimize, scope: Scope) -> None:
        if self.minimized:
            raise error("NX154", "a loop minimizes one loss", s.span, "add the losses up")
        self.minimized = True
        value = self.core.value(s.loss, Context(scope))
        if isinstance(value, v.Broken):
            return
        node = self.core.expect_scalar(value, s.loss.span, "a scalar loss")
        if node is not None and node.type.indices:
            name = node.type.indices[0].name
            raise error("NX155", f"the loss carries the index {name}", s.loss.span, f"write mean[{name}](...)")
        if s.clip is not None:
            self.core.scalar(s.clip, Context(scope), "a threshold")

    def update(self, s: ast.Update, scope: Scope) -> None:
        self.updates = True
        with self.core.collecting():
            self._optimizer_call(s.optimizer, scope)
        for target in s.targets:
            with self.core.collecting():
                self._target(target, scope)
        if not s.targets:
            self._once("all", s)

    def _target(self, target: ast.Name | ast.Ket, scope: Scope) -> None:
        name = target.label if isinstance(target, ast.Ket) else target
        assert isinstance(name, ast.Name)
        table = scope.kets if isinstance(target, ast.Ket) else scope.others
        binding = table.get(name.ident)
        shown = f"|{name.ident}>" if isinstance(target, ast.Ket) else name.ident
        if binding is None:
            known = [k for k, b in table.items() if b.parameter]
            message = f"no parameter is called `{shown}`"
            raise self.core.undefined("NX156", message, name.ident, target.span, suggest(name.ident, known))
        if not binding.parameter and not isinstance(binding.value, v.Broken):
            reason = "frozen" if binding.declared else "no declared parameter"
            raise error("NX156", f"`{shown}` is {reason}", target.span, "update declared, unfrozen parameters")
        self._once(target.span.text, target)

    def _once(self, key: str, at: ast.Tree) -> None:
        if key in self.updated:
            raise error("NX157", f"`{key}` is updated twice", at.span, "name each parameter in one update")
        self.updated.add(key)

    def _optimizer_call(self, call: ast.Call, scope: Scope) -> None:
        name = call.fn.ident
        binding = scope.other(name)
        params: tuple[str, ...] | None = None
        if binding is not None and isinstance(binding.value, v.OptimizerName):
            params = binding.value.params
        elif name not in STANDARD:
            known = [*STANDARD, *(k for k, b in scope.others.items() if isinstance(b.value, v.OptimizerName))]
            message = f"no optimizer is called `{name}`"
            raise self.core.undefined("NX158", message, name, call.fn.span, suggest(name, known))
        for arg in call.args:
            if params is not None and arg.keyword is not None and arg.keyword not in params:
                raise error("NX251", f"{name} has no argument `{arg.keyword}`", arg.span, suggest(arg.keyword, params))
            self.core.value(arg.value, Context(scope))

    def optimizer(self, s: ast.Optimizer, scope: Scope) -> None:
        states = {x.name for x in s.body if isinstance(x, ast.State)}
        check_body(s, scope, {"g", "p", "t", "step", *states}, self.checker.found, self.core.doubtful)
        if not any(isinstance(x, ast.Return) for x in s.body):
            raise error("NX159", f"optimizer {s.name} returns no update", s.span, "end it with `return -lr * g`")
        if not s.on_operators:
            self._entrywise(s.body)
        names = tuple(p.name.ident for p in s.params)
        scope.others[s.name] = v.Binding(v.OptimizerName(s.name, names), span=s.span)

    def _entrywise(self, tree: object) -> None:
        """An entrywise body has no transposes and no matrix functions."""
        if isinstance(tree, tuple):
            for part in tree:
                self._entrywise(part)
        elif isinstance(tree, ast.Transpose) or (isinstance(tree, ast.Call) and tree.fn.ident in _OPERATOR_WORDS):
            what = "^T" if isinstance(tree, ast.Transpose) else tree.fn.ident
            raise error(
                "NX160", f"{what} in an entrywise optimizer", tree.span, "write `optimizer NAME(...) on operators`"
            )
        elif isinstance(tree, ast.Tree):
            for name in tree.__dataclass_fields__:
                if name != "span":
                    self._entrywise(getattr(tree, name))

    def parametrization(self, s: ast.Parametrization, scope: Scope) -> None:
        if s.name is not None and s.name not in PARAMETRIZATIONS:
            remedy = suggest(s.name, PARAMETRIZATIONS) or f"known: {', '.join(PARAMETRIZATIONS)}"
            raise error("NX161", f"no parametrization is called `{s.name}`", s.span, remedy)
        for row in s.rows:
            with self.core.collecting():
                self._row(row, scope)
        if s.name != "mup":
            self.parametrized = f"parametrization {s.name}" if s.name else "a parametrization block"

    def _row(self, row: ast.ParametrizationRow, scope: Scope) -> None:
        self.rows.append((row, scope))
        for exponent in row.exponents:
            if exponent.keyword not in ("a", "b", "c", "d"):
                raise error("NX162", f"no exponent is called `{exponent.keyword}`", exponent.span, "write a, b, c, d")
            self.core.scalar(exponent.value, Context(scope), "an exponent")


def _declared(table: dict[str, v.Binding]) -> dict[str, v.Binding]:
    return {k: b for k, b in table.items() if b.declared}
