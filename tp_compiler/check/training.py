"""Training: `train`, `minimize`, `update`, and what names mean in and behind the loop.

The loop stays a loop: its body is checked once, with every trained parameter standing for its value at the current step
(`ir.Carry`; a matrix for a symbol W_t), and `ir.Loop` holds what follows each state. Behind the loop parameters have
their last values; in an output over `step`, those of every step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial

from tp_compiler.check import values as v
from tp_compiler.check.core import Context, Core
from tp_compiler.check.declarations import Settings
from tp_compiler.check.definitions import calls_in, check_body, functions_of, names_in
from tp_compiler.check.differentiation import uses_initial
from tp_compiler.check.name_lookup import NameLookup, behind
from tp_compiler.check.names import Binding, OptimizerName, Scope, UserDef, UserFn
from tp_compiler.check.parametrize import Parametrization, picked
from tp_compiler.diagnostics import Diagnostic, ProgramError, Span, error, suggest
from tp_compiler.frontend import syntax as ast
from tp_compiler.ir import nodes as ir
from tp_compiler.ir.program import Loop, Member, meet
from tp_compiler.ir.types import Axis, Index, Type
from tp_compiler.ir.walk import reachable
from tp_compiler.train.decay import classified, scaled
from tp_compiler.train.flow import BEHIND_THE_FIRST, flows, heavy_ball, timeless, times_of
from tp_compiler.train.layers import Layers
from tp_compiler.train.on_entries import Parameter, arguments, stepped
from tp_compiler.train.on_layers import STATISTICS, LayerParameter, LayerUpdate, layered
from tp_compiler.train.on_operators import MatrixParameter, MatrixUpdate, family, stacked, updated
from tp_compiler.train.tangent_limit import Change, Group, Step, Stepped, TangentLimit
from tp_compiler.transform.gradient import Gradient, Leaf, entries
from tp_compiler.transform.lower import Trained
from tp_compiler.transform.tangent import inner_products

_OPERATOR_WORDS = {
    "pow", "inv", "msign", "matfun", "eigenvectors", "rowmean", "colmean", "rownorm", "colnorm", "inputs", "signals"
}  # fmt: skip
#: Torch adds this to the norm that a gradient is clipped by.
CLIP_EPS = 1e-6


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
    def number(self) -> bool:
        return isinstance(self.leaf, ir.Carry) and not self.leaf.type.slots


@dataclass(eq=False)
class _Update:
    statement: ast.Update
    optimizer: OptimizerName
    values: dict[str, ir.Node]


class Training:
    """State of the checks: the training clock, what has been updated, the parametrization asked for (`point`)."""

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
        self.clock: Index | None = None
        self.loss: ir.Node | None = None
        self.minimized: ast.Minimize | None = None
        self.clip: ir.Node | None = None
        self.targets: dict[tuple[str, bool], _Target] = {}
        self.named: dict[str, ast.Tree] = {}
        self.updates: list[_Update] = []
        self.layers: Layers | None = None  # for K-FAC's factors
        self.following: dict[ir.State, ir.Node] = {}
        self.matrices: dict[ir.MatrixSymbol, Trained] = {}
        self.starts: dict[ir.State, ir.State] = {}  # states that an optimizer's `init` starts elsewhere
        self.loop: Loop | None = None
        self.point = Parametrization(core, lookup)
        self.times: tuple[float, ...] = ()  # of gradient flow
        self.tangent: TangentLimit | None = None  # the limit under `parametrization ntk`

    # -- the clock ----------------------------------------------------------------------------------------------
    def announce(self, statements: tuple[ast.Statement, ...], scope: Scope) -> None:
        """Declares the index `step` where the program trains: values 0..steps."""
        train = next((s for s in statements if isinstance(s, ast.Train)), None)
        if train is None:
            return
        self.clock = Index("step", Axis("step", self._announced(train.extent, statements) + 1))
        self.core.flows = train.clock != "steps"
        scope.others["step"] = Binding(v.IndexName(self.clock))
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
            self.times = times_of(self.core, s, scope, self.point.flows)
        else:
            self._steps(s, scope)
        assert self.clock is not None
        self._find_targets(s.body, scope)
        before = {**scope.kets}, {**scope.others}
        self._rebind(scope)
        step = scope.others["step"]
        scope.others["step"] = Binding(v.Scalar(self._number(s.span)))
        self.core.last_step = self.clock.size - 2
        self._run(s.body, scope, "train")
        self.core.last_step = self.clock.size - 1
        scope.others["step"] = step
        self._clocked(scope, before)
        if self.minimized is None:
            raise error("NX152", "the loop minimizes nothing", s.span, "add `minimize loss`")
        if not self.updates and not self.found.errors:
            raise error("NX153", "the loop updates nothing", s.span, "add `update all with SGD(lr = 0.1)`")
        if not self.found.errors and self.loss is not None:
            self._close(s)

    def _steps(self, s: ast.Train, scope: Scope) -> None:
        steps = self.core.integer(s.extent, Context(scope), "the number of steps")
        if steps is not None and steps < 1:
            raise error("NX151", f"training cannot have {steps} steps", s.extent.span, "train for at least one step")
        assert self.clock is not None
        if steps is not None and steps != self.clock.size - 1:
            remedy = "write a number, or the name of a scalar bound to a number"
            raise error("NX151", "the number of steps must be known before the program is read", s.extent.span, remedy)

    def _clocked(self, scope: Scope, before: tuple[dict[str, Binding], dict[str, Binding]]) -> None:
        """What the loop has bound are quantities over `step` from here on."""
        for table, old in zip((scope.kets, scope.others), before, strict=True):
            for name, binding in list(table.items()):
                if old.get(name) is not binding and not binding.declared and name != "step":
                    table[name] = replace(binding, clock=self.clock)

    def _number(self, span: Span) -> ir.Node:
        """What `step` is as a number."""
        return self.build.time(span) if self.times else self.build.clock(span)

    def _head(self) -> Span:
        """The head of the training loop."""
        assert self.trained is not None
        span = self.trained.span
        return Span(span.source, span.start, self.trained.extent.span.end)

    # -- parameters ---------------------------------------------------------------------------------------------
    def _find_targets(self, body: tuple[ast.Statement, ...], scope: Scope) -> None:
        """Every parameter that some `update` of the loop names; `update all` names those that no other does."""
        updates = [s for s in _within(body) if isinstance(s, ast.Update)]
        for s in updates:
            for target in s.targets:
                with self.core.collecting():
                    self._announce_target(target, scope)
        if any(not s.targets for s in updates):
            for ket, table in ((True, scope.kets), (False, scope.others)):
                for name, binding in table.items():
                    if binding.parameter and (name, ket) not in self.targets:
                        self._trained(name, ket, binding)

    def _announce_target(self, target: ast.Name | ast.Ket, scope: Scope) -> None:
        name = target.label if isinstance(target, ast.Ket) else target
        assert isinstance(name, ast.Name)
        ket = isinstance(target, ast.Ket)
        table = scope.kets if ket else scope.others
        binding = table.get(name.ident)
        shown = f"|{name.ident}>" if ket else name.ident
        if binding is None:
            known = [k for k, b in table.items() if b.parameter]
            message = f"there is no parameter `{shown}`"
            raise self.core.undefined("NX156", message, name.ident, target.span, suggest(name.ident, known))
        if isinstance(binding.value, v.Broken):
            raise ProgramError([])
        if not binding.parameter:
            reason = "frozen" if binding.declared else "not a declared parameter"
            raise error(
                "NX156", f"`{shown}` is {reason}", target.span, "update only declared parameters that are not frozen"
            )
        if (name.ident, ket) not in self.targets:
            self._trained(name.ident, ket, binding)

    def _trained(self, name: str, ket: bool, binding: Binding) -> None:
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
        """The parameters stand for their current values, in every def as well."""
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

    # -- the updates --------------------------------------------------------------------------------------------
    def _close(self, s: ast.Train) -> None:
        """Gradients of the loss, and what follows every state."""
        assert self.loss is not None and self.clock is not None
        self._trainable(self.loss)
        rest = next((u for u in self.updates if not u.statement.targets), None)
        for target in self.targets.values():
            if rest is not None and not target.updates:
                target.updates.append((rest, (None,) * len(target.before.indices)))
        leaves = [t.leaf for t in self.targets.values()]
        gradient = Gradient(self.build, self.loss, leaves, self._loss_span())
        scale = self._clipping(gradient, leaves)
        for target in self.targets.values():
            if not gradient.depends(target.leaf):
                message = f"the loss does not depend on `{target.shown}`, so its gradient is 0"
                self.found.add(
                    Diagnostic("NX920", message, self._loss_span(), "use it in the network, or declare it `frozen`")
                )
            self._follow(target, gradient, scale)
        self.loop = Loop(self.clock.size - 1, self.clock, self.following, self._head())
        if self.point.tangential:
            groups = self._groups()
            if self._moves_features(groups):
                return
            moving = {number for group in groups for number in group.numbers}
            starts = {t.leaf: _start(t.leaf) for t in self.targets.values() if t.leaf not in moving}
            powers = self.point.powers
            self.tangent = TangentLimit(
                self.build, self.loss, starts, groups, self.clip, self.clock, self._head(), self._loss_span(),
                centred=powers is not None and powers.reading < 0,
            )  # fmt: skip
            if self.times:
                flows(self.tangent.groups, self.loss)
                for u in self.updates:
                    run = partial(self._stepped, u, u.values)
                    timeless(self.build, run, u.statement.optimizer.span)
                self.tangent.following = heavy_ball(self.build, self.tangent.following, self._head())
                self.following = heavy_ball(self.build, self.following, self._head())
                self.loop = replace(self.loop, times=self.times, following=self.following)

    def _groups(self) -> list[Group]:
        """The parameters under one `update` line each, at their initial values; what the limit does not see, apart."""
        found: dict[tuple[int, bool], Group] = {}
        powers = self.point.powers
        for target in self.targets.values():
            for update, picks in target.updates:
                span = update.statement.optimizer.span
                seen = powers is None or (target.name, target.ket) in powers.surviving
                if not seen and self.clip is None and not self._decays(update):
                    continue
                if any(p is not None for p in picks):
                    where = "in the neural tangent limit" if powers is None else "where features do not move, as here,"
                    message = f"{where} a family must be updated as a whole"
                    raise error("NX174", message, span, f"update `{target.shown}`, or declare its members one by one")
                name = f"update{self.updates.index(update) + 1}"
                group = found.setdefault((id(update), seen), Group(name, [], self._step(update), span, seen))
                if isinstance(target.leaf, ir.Carry) and target.number:
                    group.numbers.append(target.leaf)
                else:
                    group.leaves.append(_start(target.leaf))
        return list(found.values())

    def _decays(self, update: _Update) -> bool:
        """Is there a weight decay that acts as it stands, whatever becomes of the gradients?"""
        span = update.statement.optimizer.span
        found = classified(self.build, lambda p: self._step(update)(p, lambda node: node), span)
        return found.decay in ("linear", "apart")

    def _moves_features(self, groups: list[Group]) -> bool:
        """A trained number inside of features moves them by order one: they have no limit in which they stand still."""
        assert self.loss is not None
        features = {n for b in reachable([self.loss]) if isinstance(b, ir.Clt) for n in reachable([b])}
        for group in groups:
            inside = next(
                (t.name for t in self.targets.values() if t.leaf in group.numbers and t.leaf in features), None
            )
            if inside is not None:
                why = f"the trained number `{inside}` is used inside features, and moves them by order one"
                remedy = f"make it a ket, `ket |{inside}> = 1`, or an untrained number, `{inside} = 1`"
                self.point.refuse(why, remedy, group.span)
                return True
        return False

    def _step(self, update: _Update) -> Step:
        def step(parameter: Parameter, change: Change) -> Stepped:
            values = {name: change(node) for name, node in update.values.items()}
            return self._stepped(update, values, parameter, self._updates())

        return step

    def _updates(self) -> ir.Node:
        """How many updates were made, to an optimizer: in gradient flow, where there are none, as behind the first."""
        return self.build.constant(BEHIND_THE_FIRST, self._head()) if self.times else self.build.clock(self._head())

    def _stepped(self, update: _Update, values: dict[str, ir.Node], parameter: Parameter, clock: ir.Node) -> Stepped:
        span = update.statement.optimizer.span
        return stepped(self.core, self._run_body, update.optimizer, values, parameter, clock, span)

    def _loss_span(self) -> Span:
        assert self.minimized is not None
        return self.minimized.loss.span

    def _trainable(self, loss: ir.Node) -> None:
        if loss.type.random and not self.point.tangential and not self.point.refused:
            bracket = next(n for n in reachable([loss]) if isinstance(n, ir.Clt))
            why = f"`{bracket.span.text}` is trained in natural units, where updates move it by Θ(√n)"
            remedy = "write `parametrization ntk`, or a bracket without `clt`; run `tpc scale` to see what moves by which power"
            self.point.refuse(why, remedy, bracket.span)
        for target in self.targets.values():
            if uses_initial(loss, {_start(target.leaf)}):
                message = (
                    f"the loss uses the initial `{target.shown}`, bound before the loop, so training never changes it"
                )
                raise error("NX282", message, self._loss_span(), "move the line into the loop, or make it a `def`")

    def _clipping(self, gradient: Gradient, leaves: list[Leaf]) -> ir.Node | None:
        """min(1, c / (|gradient| + 1e-6)), as torch.nn.utils.clip_grad_norm_, of the natural gradients."""
        if self.clip is None:
            return None
        build, span = self.build, self._loss_span()
        square = inner_products(build, gradient, gradient, leaves, span)
        norm = build.add(build.map("sqrt", (square,), span), build.constant(CLIP_EPS, span), span)
        return build.map("min", (build.constant(1, span), build.map("div", (self.clip, norm), span)), span)

    def _follow(self, target: _Target, gradient: Gradient, scale: ir.Node | None) -> None:
        kinds = {u.optimizer.statement.on for u, _ in target.updates}
        if kinds & {"operators", "layers"}:
            self._follow_whole(target, gradient, scale)
            return
        if isinstance(target.leaf, ir.MatrixSymbol):
            self._follow_matrix(target, target.leaf, gradient, scale)
            return
        leaf = target.leaf
        assert isinstance(leaf, ir.Carry)
        own = leaf.type.indices
        slope = gradient.by(leaf, own)
        parameter = Parameter(target.shown, leaf.state.type, leaf, self._scaled(slope, scale))
        moved = [leaf, *(self._masked(target, u, parameter, own, picks)[0] for u, picks in target.updates)]
        self.following[leaf.state] = self.build.map("add", moved, leaf.span)

    def _scaled(self, gradient: ir.Node, scale: ir.Node | None) -> ir.Node:
        return gradient if scale is None else self.build.mul(scale, gradient, gradient.span)

    def _masked(
        self,
        target: _Target,
        update: _Update,
        parameter: Parameter,
        own: tuple[Index, ...],
        picks: Member,
    ) -> tuple[ir.Node, ir.Node | None]:
        """What an update adds to a parameter (and to its part along W_0), for the member it names."""
        span = update.statement.optimizer.span

        def run(parameter: Parameter) -> Stepped:
            return self._stepped(update, update.values, parameter, self._updates())

        powers = self.powers(target, picks)
        if any(powers.values()):
            change, along, following = scaled(self.build, run, parameter, span, self._widths(powers, own, span))
        else:
            change, along, following = run(parameter)
        self.following.update(following)
        masks = self._masks(own, picks, span)
        if not masks:
            return change, along
        changed = self.build.map("mul", (change, *masks), span)
        return changed, self.build.map("mul", (along, *masks), span) if along is not None else None

    def _masks(self, own: tuple[Index, ...], member: Member, span: Span) -> list[ir.Node]:
        """1 at a member, 0 at the others of its family."""
        return [self.build.delta(i, p, span) for i, p in zip(own, member, strict=True) if p is not None]

    def _widths(self, powers: Mapping[Member, float], own: tuple[Index, ...], span: Span) -> ir.Node:
        """A power of n; where members of a family have their own, all of them over its indices."""
        build = self.build
        if len(set(powers.values())) == 1:
            return build.width_power(next(iter(powers.values())), span)
        terms = [
            build.map("mul", (build.width_power(power, span), *self._masks(own, member, span)), span)
            for member, power in powers.items()
        ]
        return build.map("add", terms, span)

    def powers(self, target: _Target, picks: Member) -> dict[Member, float]:
        """At finite width an update is n^this of what the optimizer returns, by member."""
        return self.point.steps(target.name, target.ket, target.number, picks)

    def _run_body(self, statements: tuple[ast.Statement, ...], scope: Scope) -> None:
        errors = len(self.found.errors)
        self._run(statements, scope, "optimizer")
        if len(self.found.errors) > errors:
            raise ProgramError([])

    def _follow_matrix(
        self, target: _Target, matrix: ir.MatrixSymbol, gradient: Gradient, scale: ir.Node | None
    ) -> None:
        """W_t = keep W_0 + Δ, entry by entry."""
        build, span = self.build, matrix.span
        own = matrix.indices
        slot = build.slot()
        kind = Type(own, ((0, matrix.rows), (slot, matrix.cols)))
        delta = ir.State(target.name, kind, build.constant(0, span), span)
        entry = ir.Array(type=replace(kind), name=f"{target.name}_0", values=None, span=span)
        learned = build.carry(delta, span)
        slope = self._scaled(entries(self.build, gradient, matrix, slot, span), scale)
        keep = ir.State(f"{target.name}.keep", Type(own), build.constant(1, span), span)
        kept: ir.Node = build.constant(1, span)
        for _ in range(2):  # with decay the initial entries shrink, and `p` contains what is left of them
            saved = dict(self.following)
            current = build.add(build.mul(kept, entry, span), learned, span)
            parameter = Parameter(target.name, kind, current, slope, entry)
            changes = [self._masked(target, u, parameter, own, picks) for u, picks in target.updates]
            shrinking = [along for _, along in changes if along is not None]
            if not shrinking or isinstance(kept, ir.Carry):
                break
            kept = build.carry(keep, span)
            self.following = saved
        self.following[delta] = build.map("add", [learned, *(c for c, _ in changes)], span)
        if shrinking:
            self.following[keep] = build.map("add", [kept, *shrinking], span)
        self.matrices[matrix] = Trained(delta, kept if shrinking else None)

    def _follow_whole(self, target: _Target, gradient: Gradient, scale: ir.Node | None) -> None:
        """An optimizer that sees the parameter, or the whole family, as one."""
        on = target.updates[0][0].optimizer.statement.on
        if len(target.updates) > 1 or any(p is not None for p in target.updates[0][1]):
            message = f"an optimizer on {on} must update `{target.shown}` as a whole"
            at = target.updates[-1][0].statement.span
            raise error("NX288", message, at, f"write `update {target.shown} with ...`")
        ((update, _),) = target.updates
        if self.point.tangential or any(self.powers(target, target.updates[0][1]).values()):
            where = f"`parametrization {self.point.name}`" if self.point.name != "block" else "this parametrization"
            message = f"optimizers on {on} are not supported under {where}"
            raise error(
                "NX296",
                message,
                update.statement.optimizer.span,
                "use an entrywise optimizer, or `parametrization mup`",
            )
        follow = self._follow_operator if on == "operators" else self._follow_layer
        follow(target, update, gradient, scale)

    def _follow_layer(self, target: _Target, update: _Update, gradient: Gradient, scale: ir.Node | None) -> None:
        """An optimizer on layers: entries that know their rows and columns."""
        build, span, leaf = self.build, update.statement.optimizer.span, target.leaf
        values, clock = update.values, build.clock(self._head())

        def run(parameter: LayerParameter) -> LayerUpdate:
            found = layered(self.core, self._run_body, update.optimizer, values, parameter, clock, span)
            self.following.update(found.following)
            return found

        if not isinstance(leaf, ir.MatrixSymbol):
            assert isinstance(leaf, ir.Carry)
            own = leaf.type.indices
            rows, cols = self._layers().sides(leaf)
            slope = self._scaled(gradient.by(leaf, own), scale)
            found = run(LayerParameter(target.shown, leaf.state.type, leaf, leaf.state.init, slope, rows, cols))
            self.following[leaf.state] = build.add(leaf, found.change, span)
            if found.start is not leaf.state.init:
                self.starts[leaf.state] = replace(leaf.state, init=found.start)
            return
        own, slot = leaf.indices, build.slot()
        kind = Type(own, ((0, leaf.rows), (slot, leaf.cols)))
        delta = ir.State(target.name, kind, build.constant(0, span), span)
        keep = ir.State(f"{target.name}.keep", Type(own), build.constant(1, span), span)
        entry = ir.Array(type=kind, name=f"{target.name}_0", values=None, span=span)
        learned, kept = build.carry(delta, span), build.carry(keep, span)
        slope = self._scaled(entries(build, gradient, leaf, slot, span), scale)
        current = build.add(build.mul(kept, entry, span), learned, span)
        deviation = build.map("sqrt", (leaf.variance,), span)
        found = run(LayerParameter(target.name, kind, current, entry, slope, (0,), (slot,), entry, deviation))
        self.following[delta] = build.add(learned, found.change, span)
        self.following[keep] = kept if found.along is None else build.add(kept, found.along, span)
        self.starts[keep] = replace(keep, init=found.start)
        self.matrices[leaf] = Trained(delta, kept, found.centred)

    def _follow_operator(self, target: _Target, update: _Update, gradient: Gradient, scale: ir.Node | None) -> None:
        """An optimizer on operators: the parameter, or the whole family, is one operator."""
        build, span = self.build, update.statement.optimizer.span
        leaf = target.leaf
        if isinstance(leaf, ir.MatrixSymbol):
            stack = stacked(build, gradient, leaf, scale, span)
            own = leaf.indices
        elif leaf.type.is_ket:
            stack = family(build, self._scaled(gradient.by(leaf, leaf.type.indices), scale), span)
            own = ()
        else:
            raise error(
                "NX289",
                f"`{target.shown}` is a number, not an operator",
                span,
                "update it with an entrywise optimizer, such as `SGD` or `Adam`",
            )
        if stack is None:
            return  # the loss does not depend on it: it stays
        clock = build.clock(self._head())
        assert self.clock is not None
        parameter = MatrixParameter(target.shown, stack, own, leaf, self._layers())
        found = updated(
            self.core, self._run_body, update.optimizer, update.values, parameter, self.clock.size - 1, clock, span
        )
        self.following.update(found.following)
        if isinstance(leaf, ir.MatrixSymbol):
            self._learn(target, leaf, found)
            return
        assert isinstance(leaf, ir.Carry)
        change = found.spectral.columns(found.core, stack.index)
        if not leaf.type.indices:
            change = build.rename(change, {stack.index: 1}, span)
        parts = [leaf, change]
        if found.core.start is not None:
            parts.append(build.mul(found.core.start, leaf, span))
        self.following[leaf.state] = build.map("add", parts, span)

    def _layers(self) -> Layers:
        assert self.loss is not None
        if self.layers is None:
            names = {t.leaf: t.shown for t in self.targets.values()}
            self.layers = Layers(self.build, self.loss, names, self._loss_span())
        return self.layers

    def _learn(self, target: _Target, matrix: ir.MatrixSymbol, found: MatrixUpdate) -> None:
        """W_t = keep W_0 + Δ, where the update is a sum of outer products and a multiple of W_t."""
        build, span = self.build, matrix.span
        slot = build.slot()
        kind = Type(matrix.indices, ((0, matrix.rows), (slot, matrix.cols)))
        delta = ir.State(target.name, kind, build.constant(0, span), span)
        learned = build.carry(delta, span)
        parts = [learned, found.spectral.entries(found.core, slot)]
        keep = None
        if found.core.start is not None:
            parts.append(build.mul(found.core.start, learned, span))
            state = ir.State(f"{target.name}.keep", Type(matrix.indices), build.constant(1, span), span)
            keep = build.carry(state, span)
            self.following[state] = build.add(keep, build.mul(found.core.start, keep, span), span)
        self.following[delta] = build.map("add", parts, span)
        self.matrices[matrix] = Trained(delta, keep)

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
        for target in (t for b in _within(s.body) if isinstance(b, ast.Bind) for t in b.targets):
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

    # -- behind the loop ----------------------------------------------------------------------------------------
    def over_steps(self, tree: object) -> bool:
        """Does an expression, or the left side of an output, speak of `step`, the index? `step(x)` is the function."""
        if self.loop is None:
            return False
        functions = {id(name) for call in calls_in(tree) for name in functions_of(call)}
        return any(n.ident == "step" and id(n) not in functions for n, _ in names_in(tree))

    def stepwise(self, scope: Scope) -> Scope:
        """The names as they are at one step: `step` is a number, parameters have their values of that step."""
        inner = scope.snapshot()
        inner.others["step"] = Binding(v.Scalar(self._number(self._head())))
        return inner

    def traced(self, node: ir.Node) -> ir.Node:
        """A scalar of one step as a family over the steps. What is a family over the steps already stays so."""
        assert self.loop is not None
        done: dict[ir.Node, ir.Node] = {}
        order = reachable([node])
        traces = {n for n in order if isinstance(n, ir.Trace)}
        beyond: set[ir.Node] = set(traces)
        for n in order:
            if any(a in beyond for a in n.args):
                beyond.add(n)
        changing = self.changing(order)

        for n in order:
            if n not in beyond:
                done[n] = self.build.trace(n, self.loop.index, n.span) if n in changing and n.type.is_scalar else n
            elif n in traces:
                done[n] = n
            else:
                done[n] = self.build.again(n, tuple(done[a] for a in n.args), n.span)
        return done[node]

    def changing(self, order: Iterable[ir.Node]) -> set[ir.Node]:
        """The nodes that change from step to step."""
        found: set[ir.Node] = set()
        for n in order:
            own = isinstance(n, ir.Carry | ir.Clock) or (isinstance(n, ir.MatMul) and n.matrix.start is not None)
            if own or (not isinstance(n, ir.Trace) and any(a in found for a in n.args)):
                found.add(n)
        return found

    def check_output(self, node: ir.Node, over_steps: bool, at: Span) -> None:
        """An output over `step` must change with the steps, and read data for the value after the last update."""
        if self.loop is None:
            return
        order = reachable([node])
        if over_steps and not self.changing(order) and not any(isinstance(n, ir.Trace) for n in order):
            remedy = "use a `def` instead of a value bound before the loop, or leave out `step`"
            raise error("NX171", "nothing in this output depends on `step`", at, remedy)
        for n in order:
            if isinstance(n, ir.Reindex):
                self._reads_no_further(n, at)

    def _reads_no_further(self, node: ir.Reindex, at: Span) -> None:
        """What the loop reads by `step` is read once more by an output: for the value after the last update."""
        assert self.loop is not None
        for place, selector in zip(node.args[0].type.indices, node.selectors, strict=True):
            ahead = behind(node.args[selector.arg]) if isinstance(selector, ir.Gather) else None
            if ahead is None or self.loop.steps + ahead < place.size:
                continue
            name = getattr(node.args[0], "name", "a family")
            message = (
                f"`{name}` has {place.size} entries over `{place.name.split('#')[0]}`, but this output reads one more"
            )
            raise error("NX164", message, at, "add an entry for the value after the last update")


def _start(leaf: Leaf) -> Leaf:
    """The initial value of a trained parameter."""
    if isinstance(leaf, ir.MatrixSymbol):
        assert leaf.start is not None
        return leaf.start
    assert isinstance(leaf, ir.Carry)
    return leaf.state.init


def _within(body: tuple[ast.Statement, ...]) -> Iterator[ast.Statement]:
    for statement in body:
        yield statement
        if isinstance(statement, ast.For):
            yield from _within(statement.body)
