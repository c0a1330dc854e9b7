"""Training: `train`, `minimize`, `update`, and what names mean in and after the loop.

The loop stays a loop: its body is checked once, with every trained parameter standing for its value at the current step
(`ir.Carry`; a matrix for a symbol W_t). After the loop parameters have their last values; in an output over `step`, those
of every step. The updates of its states are computed later (train/).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from tp_compiler.check import values as v
from tp_compiler.check.arguments import arguments, words
from tp_compiler.check.copied import copied
from tp_compiler.check.core import Context, Core
from tp_compiler.check.declarations import Settings
from tp_compiler.check.definitions import check_body
from tp_compiler.check.name_lookup import NameLookup
from tp_compiler.check.names import Binding, OptimizerName, Scope, UserDef, UserFn
from tp_compiler.check.optimizer_rules import STATISTICS, Values, rule_of
from tp_compiler.check.parametrize import ParametrizationReading, picked
from tp_compiler.diagnostics import ProgramError, Span, error, suggest
from tp_compiler.frontend import syntax as ast
from tp_compiler.frontend.mentions import calls_in, functions_of, names_in, within
from tp_compiler.ir import model
from tp_compiler.ir import nodes as ir
from tp_compiler.ir.model import Leaf, Member, initial, meet
from tp_compiler.ir.types import Axis, Index, Width
from tp_compiler.ir.walk import dependencies, reachable, uses_initial
from tp_compiler.transform.steps import changing, extent, reads_beyond, shorter, traced

#: Functions that an optimizer on entries does not have.
_OPERATOR_WORDS = {
    "pow", "inv", "msign", "matfun", "eigenvectors", "rowmean", "colmean", "rownorm", "colnorm", "inputs", "signals"
}  # fmt: skip


@dataclass(eq=False)
class _Target:
    """A trained parameter: its declaration, its value in the loop, and who updates it."""

    name: str
    ket: bool
    before: Binding
    inside: Binding
    leaf: Leaf
    updates: list[tuple[_Update, Member]] = field(default_factory=list)

    @property
    def shown(self) -> str:
        return f"|{self.name}>" if self.ket else self.name

    @property
    def sides(self) -> tuple[Width | None, Width | None]:
        """The rows and columns of a matrix."""
        return (self.leaf.rows, self.leaf.cols) if isinstance(self.leaf, ir.MatrixSymbol) else (None, None)


@dataclass(eq=False)
class _Update:
    statement: ast.Update
    optimizer: OptimizerName
    values: Values


class TrainingChecks:
    """State of the checks: the training clock, the parameters updated so far, the requested parametrization."""

    def __init__(
        self, core: Core, lookup: NameLookup, settings: Settings,
        run: Callable[[tuple[ast.Statement, ...], Scope, str], None], library: Callable[[Scope], None],
    ):  # fmt: skip
        """`run` reads statements at a place, `library` the standard optimizers."""
        self.core, self.lookup, self.settings = core, lookup, settings
        self._run, self._library = run, library
        self.build = core.build
        self.found = core.found
        self.trained: ast.Train | None = None
        self.loss: ir.Node | None = None
        self.minimized: ast.Minimize | None = None
        self.clip: ir.Node | None = None
        self.targets: dict[tuple[str, bool], _Target] = {}
        self.named: dict[str, ast.Tree] = {}
        self.updates: list[_Update] = []
        self.parametrization = ParametrizationReading(core, lookup)
        self.times: tuple[float, ...] = ()  # of gradient flow
        self.model: model.Training | None = None  # once the loop is read

    # -- the clock ----------------------------------------------------------------------------------------------
    def announce(self, statements: tuple[ast.Statement, ...], scope: Scope) -> None:
        """Declares the index `step`, with values 0..steps, if the program trains."""
        train = next((s for s in statements if isinstance(s, ast.Train)), None)
        if train is None:
            return
        self.core.flows = train.clock != "steps"
        clock = Index("step", Axis("step", self._announced(train.extent, statements) + 1))
        self.core.clock = clock
        scope.others["step"] = Binding(v.IndexName(clock))
        self._library(scope)

    def _announced(self, extent: ast.Expr, statements: tuple[ast.Statement, ...]) -> int:
        """The number of steps, which data declared before the loop rely on: a number, or a name bound to one."""
        if isinstance(extent, ast.ListLiteral):
            return len(extent.items)
        if isinstance(extent, ast.Name) and extent.indices is None:
            if extent.ident in self.settings.given:
                return max(1, int(self.settings.given[extent.ident]))
            for s in statements:
                named = isinstance(s, ast.Bind) and len(s.value) == 1 and isinstance(s.targets[0], ast.Name)
                if named and isinstance(s, ast.Bind) and s.targets[0].span.text == extent.span.text:
                    return self._announced(s.value[0], ())
        return int(extent.text) if isinstance(extent, ast.Number) and extent.text.isdigit() else 1

    def sized(self, indices: tuple[Index, ...], shape: tuple[int, ...]) -> tuple[Index, ...]:
        """Data over `step` may have one entry per update, or one more."""
        if len(shape) != len(indices):
            return indices
        return tuple(
            Index("step", Axis("step", size)) if i.name == "step" and size in (i.size, i.size - 1) else i
            for i, size in zip(indices, shape, strict=True)
        )

    # -- the loop -----------------------------------------------------------------------------------------------
    def train(self, s: ast.Train, scope: Scope) -> None:
        if self.trained is not None:
            raise error("NX150", "a program can have only one `train`", s.span, "put both phases into one loop")
        self.trained = s
        if s.clock != "steps":
            self.times = self._listed_times(s, scope)
        else:
            self._steps(s, scope)
        assert self.core.clock is not None
        self._find_targets(s.body, scope)
        before = {**scope.kets}, {**scope.others}
        self._rebind(scope)
        step = scope.others["step"]
        scope.others["step"] = Binding(v.Scalar(self._number(s.span)))
        self.core.last_step = self.core.clock.size - 2
        self._run(s.body, scope, "train")
        self.core.last_step = self.core.clock.size - 1
        scope.others["step"] = step
        self._clocked(scope, before)
        if self.minimized is None:
            raise error("NX152", "the loop minimizes nothing", s.span, "add `minimize loss`")
        if not self.updates and not self.found.errors:
            raise error("NX153", "the loop updates nothing", s.span, "add `update all with SGD(lr = 0.1)`")
        if not self.found.errors and self.loss is not None:
            self.model = self._closed(s, self.loss, self.minimized.loss.span)

    def _listed_times(self, s: ast.Train, scope: Scope) -> tuple[float, ...]:
        """The times at which a gradient flow is read: increasing numbers above 0."""
        if self.parametrization.name == "mup":
            remedy = "write `parametrization ntk` above it, or `train steps` with a small `lr`"
            raise error("NX177", "gradient flow is only supported where features do not move", s.extent.span, remedy)
        if not isinstance(s.extent, ast.ListLiteral) or not s.extent.items:
            raise error("NX178", "gradient flow needs a list of times", s.extent.span, "write `train time = [1, 2]`")
        times: list[float] = []
        for item in s.extent.items:
            node = self.core.scalar(item, Context(scope), "a time")
            if not isinstance(node, ir.Constant) or node.value <= (times[-1] if times else 0.0):
                raise error(
                    "NX178", "times must be increasing numbers above 0", item.span, "write `train time = [1, 2, 4]`"
                )
            times.append(node.value)
        return tuple(times)

    def _steps(self, s: ast.Train, scope: Scope) -> None:
        steps = self.core.integer(s.extent, Context(scope), "the number of steps")
        if steps is not None and steps < 1:
            raise error("NX151", f"training cannot have {steps} steps", s.extent.span, "train for at least one step")
        assert self.core.clock is not None
        if steps is not None and steps != self.core.clock.size - 1:
            remedy = "write a number, or the name of a scalar bound to a number"
            raise error("NX151", "the number of steps must be known before the program is read", s.extent.span, remedy)

    def _clocked(self, scope: Scope, before: tuple[dict[str, Binding], dict[str, Binding]]) -> None:
        """Makes the bindings of the loop quantities over `step` from here on."""
        for table, old in zip((scope.kets, scope.others), before, strict=True):
            for name, binding in list(table.items()):
                if old.get(name) is not binding and not binding.declared and name != "step":
                    table[name] = replace(binding, clock=self.core.clock)

    def _head(self) -> Span:
        """The head of the training loop."""
        assert self.trained is not None
        span = self.trained.span
        return Span(span.source, span.start, self.trained.extent.span.end)

    def _number(self, span: Span) -> ir.Node:
        """The value of `step` used as a number."""
        return self.build.time(span) if self.times else self.build.clock(span)

    def _closed(self, s: ast.Train, loss: ir.Node, at: Span) -> model.Training:
        """The loop as data."""
        assert self.core.clock is not None
        for target in self.targets.values():
            if uses_initial(loss, {initial(target.leaf)}):
                message = (
                    f"the loss uses the initial `{target.shown}`, bound before the loop, so training never changes it"
                )
                raise error("NX282", message, at, "move the line into the loop, or make it a `def`")
        rest = next((u for u in self.updates if not u.statement.targets), None)
        for target in self.targets.values():
            if rest is not None and not target.updates:
                target.updates.append((rest, (None,) * len(target.before.indices)))
        lines = {id(u): self._line(u) for u in self.updates}
        targets = tuple(
            model.Target(
                t.name, t.ket, t.before.indices, t.leaf, tuple((lines[id(u)], picks) for u, picks in t.updates)
            )
            for t in self.targets.values()
        )
        own = copied(u.optimizer for u in self.updates)
        return model.Training(
            loss, self.clip, self.core.clock, self.times, targets, tuple(lines.values()), own, at, s.extent.span,
            isinstance(s.extent, ast.ListLiteral), self._head(),
        )  # fmt: skip

    def _line(self, update: _Update) -> model.UpdateLine:
        statement, call = update.optimizer.statement, update.statement.optimizer
        sides = {t.sides for t in self.targets.values() if any(u is update for u, _ in t.updates)}
        rule = rule_of(
            self.core, self._read_body, update.optimizer, update.values, call.span,
            sides.pop() if len(sides) == 1 else (None, None),
        )  # fmt: skip
        names = [p.name.ident for p in statement.params]
        chosen = words(update.optimizer)
        given = tuple(
            model.PassedArgument(name, a.keyword is not None, a.value.span.text, name in chosen)
            for a, name in ((a, a.keyword or (names[k] if k < len(names) else "")) for k, a in enumerate(call.args))
        )
        targets = tuple(_written(t) for t in update.statement.targets)
        standard = statement.span.source.name.startswith("library/")
        return model.UpdateLine(
            statement.name,
            standard,
            rule,
            statement.on,
            update.values,
            targets,
            given,
            update.statement.span,
            call.span,
        )

    def _read_body(self, statements: tuple[ast.Statement, ...], scope: Scope) -> None:
        errors = len(self.found.errors)
        self._run(statements, scope, "optimizer")
        if len(self.found.errors) > errors:
            raise ProgramError([])

    # -- parameters ---------------------------------------------------------------------------------------------
    def _find_targets(self, body: tuple[ast.Statement, ...], scope: Scope) -> None:
        """Every parameter that some `update` of the loop names; `update all` names those that no other does."""
        updates = [s for s in within(body) if isinstance(s, ast.Update)]
        for s in updates:
            for target in s.targets:
                with self.core.collecting():
                    self._announce_target(target, scope)
        if any(not s.targets for s in updates):
            for ket, table in ((True, scope.kets), (False, scope.others)):
                for name, binding in table.items():
                    if binding.parameter and (name, ket) not in self.targets:
                        self._target(name, ket, binding)

    def _announce_target(self, target: ast.Name | ast.Ket, scope: Scope) -> None:
        name = target.label if isinstance(target, ast.Ket) else target
        assert isinstance(name, ast.Name)
        ket = isinstance(target, ast.Ket)
        table = scope.kets if ket else scope.others
        binding = table.get(name.ident)
        shown = f"|{name.ident}>" if ket else name.ident
        if binding is None:
            known = [k for k, b in table.items() if b.parameter]
            other = (scope.others if ket else scope.kets).get(name.ident)
            declared = f"ket {shown}" if ket else f"matrix {shown}"
            remedy = suggest(name.ident, known) or f"declare it: `{declared} ~ N(0, 1)`"
            if other is not None and other.parameter:
                remedy = f"write `update {name.ident if ket else f'|{name.ident}>'}`"
            message = f"there is no parameter `{shown}`"
            raise self.core.undefined("NX156", message, name.ident, target.span, remedy)
        if isinstance(binding.value, v.Broken):
            raise ProgramError([])
        if not binding.parameter:
            reason = "frozen" if binding.declared else "not a declared parameter"
            raise error(
                "NX156", f"`{shown}` is {reason}", target.span, "update only declared parameters that are not frozen"
            )
        if (name.ident, ket) not in self.targets:
            self._target(name.ident, ket, binding)

    def _target(self, name: str, ket: bool, binding: Binding) -> None:
        value = binding.value
        inside: v.Value
        leaf: Leaf
        if isinstance(value, v.Matrix):
            leaf = replace(value.symbol, start=value.symbol)
            inside = v.Matrix(leaf, value.member)
        elif isinstance(value, v.Scalar | v.Ket):
            shown = f"|{name}>" if ket else name
            kind = replace(value.node.type, random=False)
            state = ir.State(shown, kind, value.node, value.node.span)
            leaf = self.build.carry(state, value.node.span)
            inside = type(value)(leaf)
        else:
            return
        self.targets[name, ket] = _Target(name, ket, binding, replace(binding, value=inside), leaf)

    def _rebind(self, scope: Scope) -> None:
        """Binds the parameters to their current values, also in every def."""
        new = {(t.name, t.ket, id(t.before.value)): t.inside for t in self.targets.values()}
        seen: dict[int, Scope] = {}

        def renewed(table: dict[str, Binding], ket: bool) -> None:
            for name, binding in list(table.items()):
                inside = new.get((name, ket, id(binding.value)))
                if inside is not None:
                    table[name] = replace(binding, value=inside.value)
                elif isinstance(binding.value, UserDef | UserFn):
                    table[name] = replace(binding, value=replace(binding.value, scope=inner(binding.value.scope)))

        def inner(old: Scope) -> Scope:
            if id(old) not in seen:
                seen[id(old)] = copy = old.snapshot()
                renewed(copy.kets, True)
                renewed(copy.others, False)
                copy.hidden = {
                    n: new[key] if (key := (n, True, id(b.value))) in new else b for n, b in old.hidden.items()
                }
            return seen[id(old)]

        renewed(scope.kets, True)
        renewed(scope.others, False)

    # -- minimize and update ------------------------------------------------------------------------------------
    def minimize(self, s: ast.Minimize, scope: Scope) -> None:
        if self.minimized is not None:
            raise error("NX154", "a loop can minimize only one loss", s.span, "add up the losses")
        self.minimized = s
        value = self.core.value(s.loss, Context(scope))
        if s.clip is not None:
            self.clip = self.core.scalar(s.clip, Context(scope), "a threshold")
            if isinstance(self.clip, ir.Constant) and self.clip.value <= 0:
                message = f"the gradient cannot be clipped to the norm {self.clip.value:g}"
                raise error("NX181", message, s.clip.span, "write a positive number, such as `clip 1`")
        if isinstance(value, v.Broken):
            return
        node = self.core.expect_scalar(value, s.loss.span, "a scalar loss")
        if node is not None and node.type.indices:
            name = node.type.indices[0].name
            raise error("NX155", f"the loss has the free index `{name}`", s.loss.span, f"write `mean[{name}](...)`")
        self.loss = node

    def update(self, s: ast.Update, scope: Scope) -> None:
        optimizer = self._optimizer(s.optimizer, scope)
        update = _Update(s, optimizer, arguments(self.core, optimizer, s.optimizer, scope))
        self.updates.append(update)
        for target in s.targets:
            with self.core.collecting():
                self._name(target, update, scope)
        if not s.targets:
            self._once("all", s)

    def _name(self, target: ast.Name | ast.Ket, update: _Update, scope: Scope) -> None:
        name = target.label if isinstance(target, ast.Ket) else target
        assert isinstance(name, ast.Name)
        found = self.targets.get((name.ident, isinstance(target, ast.Ket)))
        if found is None:
            return  # reported when the loop was entered
        picks = picked(self.lookup, name, target, found.before.indices, scope)
        key = f"{found.shown}[{','.join('*' if p is None else str(p) for p in picks)}]"
        self._once(key, target)
        self._once_in_all(found, picks, target)
        found.updates.append((update, picks))

    def _once_in_all(self, target: _Target, picks: Member, at: ast.Tree) -> None:
        for _, others in target.updates:
            if meet(picks, others):
                raise error(
                    "NX157", f"`{at.span.text}` is updated twice", at.span, "name each parameter in only one `update`"
                )

    def _once(self, key: str, at: ast.Tree) -> None:
        if key in self.named:
            raise error(
                "NX157", f"`{at.span.text}` is updated twice", at.span, "name each parameter in only one `update`"
            )
        self.named[key] = at

    def _optimizer(self, call: ast.Call, scope: Scope) -> OptimizerName:
        name = call.fn.ident
        binding = scope.other(name)
        if binding is not None and isinstance(binding.value, OptimizerName):
            return binding.value
        if binding is not None and isinstance(binding.value, v.Broken):
            raise ProgramError([])
        tables = {**scope.library, **scope.others}
        known = [k for k, b in tables.items() if isinstance(b.value, OptimizerName)]
        message = f"there is no optimizer `{name}`"
        remedy = suggest(name, known) or f"use one of: {', '.join(known)}"
        raise self.core.undefined("NX158", message, name, call.fn.span, remedy)

    # -- optimizer bodies ---------------------------------------------------------------------------------------
    def state(self, s: ast.State, scope: Scope) -> None:
        assert scope.optimizer is not None
        scope.optimizer.declare(s, scope)

    def assign(self, s: ast.Assign, scope: Scope) -> None:
        assert scope.optimizer is not None
        scope.optimizer.assign(s, scope)

    def optimizer(self, s: ast.Optimizer, scope: Scope) -> None:
        states = {x.name for x in s.body if isinstance(x, ast.State)}
        check_body(s, scope, {"g", "p", "t", "step", *states}, self.found, self.core.unresolved)
        for target in (t for b in within(s.body) if isinstance(b, ast.Bind) for t in b.targets):
            if isinstance(target, ast.Name) and target.ident in states:
                message = f"`{target.ident}` is a state, which `=` does not change"
                raise error("NX166", message, target.span, f"write `{target.ident} := ...`")
        if not s.body or not isinstance(s.body[-1], ast.Return):
            raise error("NX159", f"the optimizer `{s.name}` returns no update", s.span, "end it with `return -lr * g`")
        if s.on != "operators":
            self._entrywise(s.body, _OPERATOR_WORDS - (set(STATISTICS) if s.on == "layers" else set()))
        scope.others[s.name] = Binding(OptimizerName(s, scope.snapshot()), span=s.span)

    def _entrywise(self, tree: object, words: set[str]) -> None:
        """An entrywise body has no transposes and no matrix functions."""
        if isinstance(tree, tuple):
            for part in tree:
                self._entrywise(part, words)
        elif isinstance(tree, ast.Transpose) or (isinstance(tree, ast.Call) and tree.fn.ident in words):
            what = "^T" if isinstance(tree, ast.Transpose) else tree.fn.ident
            raise error(
                "NX160",
                f"`{what}` is not allowed in an entrywise optimizer",
                tree.span,
                "write `optimizer NAME(...) on operators`",
            )
        elif isinstance(tree, ast.Tree):
            for name in tree.__dataclass_fields__:
                if name != "span":
                    self._entrywise(getattr(tree, name), words)

    # -- after the loop -----------------------------------------------------------------------------------------
    def over_steps(self, tree: object) -> bool:
        """Does an expression, or the left side of an output, speak of `step`, the index? `step(x)` is the function."""
        if self.model is None:
            return False
        functions = {id(name) for call in calls_in(tree) for name in functions_of(call)}
        return any(n.ident == "step" and id(n) not in functions for n, _ in names_in(tree))

    def stepwise(self, scope: Scope) -> Scope:
        """The names at one step: `step` is a number, parameters have their values at that step."""
        inner = scope.snapshot()
        inner.others["step"] = Binding(v.Scalar(self._number(self._head())))
        return inner

    def traced(self, node: ir.Node, indices: tuple[Index, ...], at: Span) -> tuple[ir.Node, tuple[Index, ...]]:
        """A scalar of one step as a family over the steps at which it exists, and the indices of an output of it."""
        assert self.core.clock is not None
        own = extent(node, self.core.clock)
        family = traced(self.build, node, self.core.clock)
        indices = tuple(own if i == self.core.clock else i for i in indices)
        if not set(family.type.indices) <= set(indices):
            remedy = "bind it in the loop, as `g = <u|u>`, and write `g[step]` here; or write `output NAME[step] = ...`"
            raise error("NX201", "this reads a value of every step that is not written over `step`", at, remedy)
        return family, indices

    def check_output(self, node: ir.Node, over_steps: bool, at: Span) -> None:
        """An output over `step` must change with the steps, and read data for the value after the last update."""
        if self.model is None:
            return
        order = reachable([node])
        now = set(reachable([node], lambda n: () if isinstance(n, ir.Trace) else dependencies(n)))
        if over_steps and not changing(order) and not any(isinstance(n, ir.Trace) for n in order):
            remedy = "use a `def` instead of a value bound before the loop, or leave out `step`"
            raise error("NX171", "nothing in this output depends on `step`", at, remedy)
        for n in order:
            self._reads_no_further(n, at, whole=n in now and not over_steps)

    def _reads_no_further(self, node: ir.Node, at: Span, whole: bool) -> None:
        """Data over `step` may end with the last update, and so does an output over `step` that reads them; what is read after
        the last update (`whole`), and other data read by `step`, need one more entry."""
        assert self.core.clock is not None
        found = reads_beyond(node, self.core.clock)
        if found is None:
            return
        family, place = found
        if place == shorter(self.core.clock) and not whole:
            return
        name, axis = getattr(family, "name", "a family"), place.name.split("#")[0]
        message = f"`{name}` has {place.size} entries over `{axis}`, but this output reads one more"
        remedy = "add an entry for the value after the last update"
        if place == shorter(self.core.clock):
            remedy += ", or report it over `step`: `output loss[step]`"
        raise error("NX164", message, at, remedy)


def _written(target: ast.Name | ast.Ket) -> model.WrittenTarget:
    name = target.label if isinstance(target, ast.Ket) else target
    assert isinstance(name, ast.Name)
    return model.WrittenTarget(name.ident, isinstance(target, ast.Ket), target.span.text)
