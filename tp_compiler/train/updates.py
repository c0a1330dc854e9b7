"""One step of training: the gradients of the loss, and the next value of every state."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial

from tp_compiler.diagnostics import Diagnostic, Diagnostics, Span, error
from tp_compiler.ir import nodes as ir
from tp_compiler.ir.build import Builder
from tp_compiler.ir.model import Member, Target, Training, UpdateLine, initial
from tp_compiler.ir.rules import OnEntries, OnLayers, OnOperators
from tp_compiler.ir.types import Index, Type
from tp_compiler.ir.walk import uses_initial
from tp_compiler.train.clipping import clipped
from tp_compiler.train.decay import scaled
from tp_compiler.train.flow import AFTER_THE_FIRST
from tp_compiler.train.layers import Layers
from tp_compiler.train.on_entries import Parameter, Stepped, stepped
from tp_compiler.train.on_layers import LayerParameter, LayerStep, layered
from tp_compiler.train.on_operators import MatrixParameter, MatrixUpdate, OuterStack, family, stacked, updated
from tp_compiler.train.parametrized import Parametrized
from tp_compiler.transform import low_rank
from tp_compiler.transform.algebra import OperatorAlgebra
from tp_compiler.transform.gradient import Gradient, entries
from tp_compiler.transform.lower import Trained
from tp_compiler.transform.tangent import inner_products


@dataclass
class States:
    """The next value of each state, the current trained matrices, and states with another initial value."""

    following: dict[ir.State, ir.Node] = field(default_factory=dict)
    matrices: dict[ir.MatrixSymbol, Trained] = field(default_factory=dict)
    starts: dict[ir.State, ir.State] = field(default_factory=dict)


def count(build: Builder, training: Training) -> ir.Node:
    """The number of updates seen by an optimizer; in gradient flow, which has none, as after the first."""
    head = training.head
    return build.constant(AFTER_THE_FIRST, head) if training.times else build.clock(head)


def run(build: Builder, training: Training, line: UpdateLine, parameter: Parameter) -> Stepped:
    """One update of a parameter by an optimizer on entries."""
    return stepped(build, on_entries(line), parameter, count(build, training), line.span)


def on_entries(line: UpdateLine) -> OnEntries:
    assert not isinstance(line.rule, OnOperators) and line.on == ""
    return line.rule  # type: ignore[return-value]


class Updates:
    """Computes `states`."""

    def __init__(self, build: Builder, training: Training, asked: Parametrized, found: Diagnostics):
        self.build, self.training, self.asked = build, training, asked
        self.states = States()
        self._layers: Layers | None = None  # for K-FAC's factors
        self._others: dict[ir.Node, Gradient] = {}  # by the losses that optimizers are given
        leaves = [t.leaf for t in training.targets]
        self.gradient = Gradient(build, training.loss, leaves, training.loss_span)
        self.scale = self._clipping([*leaves])
        for target in training.targets:
            if not self.gradient.depends(target.leaf):
                message = f"the loss does not depend on `{target.shown}`, so its gradient is 0"
                remedy = "use it in the network, or declare it `frozen`"
                found.add(Diagnostic("NX920", message, training.loss_span, remedy))
            self._follow(target)

    def _clipping(self, leaves: list[ir.Node | ir.MatrixSymbol]) -> ir.Node | None:
        """The factor of the natural gradients."""
        if self.training.clip is None:
            return None
        square = inner_products(self.build, self.gradient, self.gradient, leaves, self.training.loss_span)
        return clipped(self.build, self.training.clip, square, self.training.loss_span)

    def _scaled(self, gradient: ir.Node) -> ir.Node:
        return gradient if self.scale is None else self.build.mul(self.scale, gradient, gradient.span)

    def _other(self, loss: ir.Node, span: Span) -> Gradient:
        """The gradient of another loss, which an optimizer is given."""
        if loss not in self._others:
            for target in self.training.targets:
                if uses_initial(loss, {initial(target.leaf)}):
                    message = f"this loss uses the initial `{target.shown}`, bound before the loop, so training never changes it"
                    raise error("NX282", message, span, "move the line into the loop, or make it a `def`")
            self._others[loss] = Gradient(self.build, loss, [t.leaf for t in self.training.targets], span)
        return self._others[loss]

    def _follow(self, target: Target) -> None:
        if any(line.on for line, _ in target.updates):
            self._follow_whole(target)
        elif isinstance(target.leaf, ir.MatrixSymbol):
            self._follow_matrix(target, target.leaf)
        else:
            assert isinstance(target.leaf, ir.Carry)
            self._follow_entries(target, target.leaf)

    # -- on entries ---------------------------------------------------------------------------------------------
    def _follow_entries(self, target: Target, leaf: ir.Carry) -> None:
        own = leaf.type.indices
        slope = self.gradient.by(leaf, own)

        def other(of: ir.Node, at: Span) -> ir.Node:
            return self._other(of, at).by(leaf, own)

        parameter = Parameter(target.shown, leaf.state.type, leaf, self._scaled(slope), slope=other)
        moved = [leaf, *(self._masked(target, u, parameter, own, picks)[0] for u, picks in target.updates)]
        self.states.following[leaf.state] = self.build.map("add", moved, leaf.span)

    def _masked(
        self, target: Target, line: UpdateLine, parameter: Parameter, own: tuple[Index, ...], picks: Member
    ) -> tuple[ir.Node, ir.Node | None]:
        """The change of a parameter (and of its part along W_0) in an update, for the member it names."""
        span = line.span

        def step(parameter: Parameter) -> Stepped:
            return run(self.build, self.training, line, parameter)

        powers = self.asked.steps(target, picks)
        if any(powers.values()):
            change, along, following = scaled(self.build, step, parameter, span, self._widths(powers, own, span))
        else:
            change, along, following = step(parameter)
        self.states.following.update(following)
        masks = self._masks(own, picks, span)
        if not masks:
            return change, along
        changed = self.build.map("mul", (change, *masks), span)
        return changed, self.build.map("mul", (along, *masks), span) if along is not None else None

    def _masks(self, own: tuple[Index, ...], member: Member, span: Span) -> list[ir.Node]:
        """1 at a member, 0 at the others of its family."""
        return [self.build.delta(i, p, span) for i, p in zip(own, member, strict=True) if p is not None]

    def _widths(self, powers: Mapping[Member, float], own: tuple[Index, ...], span: Span) -> ir.Node:
        """A power of n; if members of a family have different ones, all of them over its indices."""
        build = self.build
        if len(set(powers.values())) == 1:
            return build.width_power(next(iter(powers.values())), span)
        terms = [
            build.map("mul", (build.width_power(power, span), *self._masks(own, member, span)), span)
            for member, power in powers.items()
        ]
        return build.map("add", terms, span)

    def _follow_matrix(self, target: Target, matrix: ir.MatrixSymbol) -> None:
        """W_t = keep W_0 + Δ, entry by entry."""
        build, span, states = self.build, matrix.span, self.states
        own = matrix.indices
        slot = build.slot()
        kind = Type(own, ((0, matrix.rows), (slot, matrix.cols)))
        delta = ir.State(target.name, kind, build.constant(0, span), span)
        entry = ir.Array(type=replace(kind), name=f"{target.name}_0", values=None, span=span)
        learned = build.carry(delta, span)
        slope = self._scaled(entries(build, self.gradient, matrix, slot, span))

        def other(of: ir.Node, at: Span) -> ir.Node:
            return entries(build, self._other(of, at), matrix, slot, at)

        keep = ir.State(f"{target.name}.keep", Type(own), build.constant(1, span), span)
        kept: ir.Node = build.constant(1, span)
        for _ in range(2):  # with decay the initial entries shrink, and `p` contains the remainder
            saved = dict(states.following)
            current = build.add(build.mul(kept, entry, span), learned, span)
            parameter = Parameter(target.name, kind, current, slope, entry, other)
            changes = [self._masked(target, u, parameter, own, picks) for u, picks in target.updates]
            shrinking = [along for _, along in changes if along is not None]
            if not shrinking or isinstance(kept, ir.Carry):
                break
            kept = build.carry(keep, span)
            states.following = saved
        states.following[delta] = build.map("add", [learned, *(c for c, _ in changes)], span)
        if shrinking:
            states.following[keep] = build.map("add", [kept, *shrinking], span)
        states.matrices[matrix] = Trained(delta, kept if shrinking else None)

    # -- on layers, on operators --------------------------------------------------------------------------------
    def _follow_whole(self, target: Target) -> None:
        """An optimizer that sees the parameter, or the whole family, as one."""
        (line, picks), asked = target.updates[0], self.asked
        if len(target.updates) > 1 or any(p is not None for p in picks):
            message = f"an optimizer on {line.on} must update `{target.shown}` as a whole"
            raise error("NX288", message, target.updates[-1][0].statement, f"write `update {target.shown} with ...`")
        if asked.tangential or any(asked.steps(target, picks).values()):
            where = f"`parametrization {asked.name}`" if asked.name != "block" else "this parametrization"
            message = f"optimizers on {line.on} are not supported under {where}"
            raise error("NX296", message, line.span, "use an entrywise optimizer, or `parametrization mup`")
        if isinstance(line.rule, OnOperators):
            self._follow_operator(target, line, line.rule)
        else:
            self._follow_layer(target, line, line.rule)  # type: ignore[arg-type]

    def _follow_layer(self, target: Target, line: UpdateLine, rule: OnLayers) -> None:
        """An optimizer on layers: entries that know their rows and columns."""
        build, span, leaf, states = self.build, line.span, target.leaf, self.states

        def run(parameter: LayerParameter) -> LayerStep:
            def change_of(inner: OnOperators, at: Span) -> ir.Node:
                return self._change(target, inner, at, parameter)

            found = layered(build, rule, parameter, build.clock(self.training.head), span, change_of)
            states.following.update(found.following)
            return found

        lengths = partial(self.layers().extents, leaf)
        if not isinstance(leaf, ir.MatrixSymbol):
            assert isinstance(leaf, ir.Carry)
            rows, cols = self.layers().sides(leaf)
            slope = self._scaled(self.gradient.by(leaf, leaf.type.indices))
            found = run(
                LayerParameter(target.shown, leaf.state.type, leaf, leaf.state.init, slope, rows, cols, lengths)
            )
            states.following[leaf.state] = build.add(leaf, found.change, span)
            if found.start is not leaf.state.init:
                states.starts[leaf.state] = replace(leaf.state, init=found.start)
            return
        own, slot = leaf.indices, build.slot()
        kind = Type(own, ((0, leaf.rows), (slot, leaf.cols)))
        delta = ir.State(target.name, kind, build.constant(0, span), span)
        keep = ir.State(f"{target.name}.keep", Type(own), build.constant(1, span), span)
        entry = ir.Array(type=kind, name=f"{target.name}_0", values=None, span=span)
        learned, kept = build.carry(delta, span), build.carry(keep, span)
        slope = self._scaled(entries(build, self.gradient, leaf, slot, span))
        current = build.add(build.mul(kept, entry, span), learned, span)
        deviation = build.map("sqrt", (leaf.variance,), span)
        found = run(LayerParameter(target.name, kind, current, entry, slope, (0,), (slot,), lengths, entry, deviation))
        states.following[delta] = build.add(learned, found.change, span)
        states.following[keep] = kept if found.along is None else build.add(kept, found.along, span)
        states.starts[keep] = replace(keep, init=found.start)
        states.matrices[leaf] = Trained(delta, kept, found.centred)

    def _follow_operator(self, target: Target, line: UpdateLine, rule: OnOperators) -> None:
        """An optimizer on operators: the parameter, or the whole family, is one operator."""
        leaf = target.leaf
        stack = self._stack(target, line.span)
        if stack is None:
            return  # the loss does not depend on it: it is constant
        found = self._worked_out(target, target.shown, stack, rule, line.span)
        if isinstance(leaf, ir.MatrixSymbol):
            self._learn(target, leaf, found)
            return
        assert isinstance(leaf, ir.Carry)
        self.states.following[leaf.state] = self.build.add(
            leaf, self._of_kets(leaf, stack, found, line.span), line.span
        )

    def _stack(self, target: Target, span: Span) -> OuterStack | None:
        """The gradient by a parameter as one operator."""
        build, leaf = self.build, target.leaf
        if isinstance(leaf, ir.MatrixSymbol):
            return stacked(build, self.gradient, leaf, self.scale, span)
        if leaf.type.is_ket:
            return family(build, self._scaled(self.gradient.by(leaf, leaf.type.indices)), span)
        raise error(
            "NX289",
            f"`{target.shown}` is a number, not an operator",
            span,
            "update it with an entrywise optimizer, such as `SGD` or `Adam`",
        )

    def _worked_out(self, target: Target, name: str, stack: OuterStack, rule: OnOperators, span: Span) -> MatrixUpdate:
        """What an optimizer on operators makes of a gradient; its states have names that begin with `name`."""
        build, leaf = self.build, target.leaf
        own = leaf.indices if isinstance(leaf, ir.MatrixSymbol) else ()
        parameter = MatrixParameter(name, stack, own, leaf, self.layers())
        steps, clock = self.training.clock.size - 1, build.clock(self.training.head)
        found = updated(OperatorAlgebra(build, low_rank.applied), rule, parameter, steps, clock, span)
        self.states.following.update(found.following)
        return found

    def _of_kets(self, leaf: ir.Node, stack: OuterStack, found: MatrixUpdate, span: Span) -> ir.Node:
        """The change of kets by an optimizer on operators."""
        change = found.low_rank.columns(found.core, stack.index)
        if not leaf.type.indices:
            change = self.build.rename(change, {stack.index: 1}, span)
        start = found.core.start
        return change if start is None else self.build.add(change, self.build.mul(start, leaf, span), span)

    def _change(self, target: Target, rule: OnOperators, span: Span, parameter: LayerParameter) -> ir.Node:
        """The entries of the change that an optimizer on operators makes, for one on layers."""
        stack = self._stack(target, span)
        if stack is None:
            return self.build.constant(0, span)
        found = self._worked_out(target, f"{target.shown}.{rule.name}", stack, rule, span)
        if not isinstance(target.leaf, ir.MatrixSymbol):
            return self._of_kets(target.leaf, stack, found, span)
        (slot,) = (side for side in parameter.cols if not isinstance(side, Index))
        change, start = found.low_rank.entries(found.core, slot), found.core.start
        return change if start is None else self.build.add(change, self.build.mul(start, parameter.current, span), span)

    def layers(self) -> Layers:
        if self._layers is None:
            names = {t.leaf: t.shown for t in self.training.targets}
            self._layers = Layers(self.build, self.training.loss, names, self.training.loss_span)
        return self._layers

    def _learn(self, target: Target, matrix: ir.MatrixSymbol, found: MatrixUpdate) -> None:
        """W_t = keep W_0 + Δ if the update is a sum of outer products and a multiple of W_t."""
        build, span, states = self.build, matrix.span, self.states
        slot = build.slot()
        kind = Type(matrix.indices, ((0, matrix.rows), (slot, matrix.cols)))
        delta = ir.State(target.name, kind, build.constant(0, span), span)
        learned = build.carry(delta, span)
        parts = [learned, found.low_rank.entries(found.core, slot)]
        keep = None
        if found.core.start is not None:
            parts.append(build.mul(found.core.start, learned, span))
            state = ir.State(f"{target.name}.keep", Type(matrix.indices), build.constant(1, span), span)
            keep = build.carry(state, span)
            states.following[state] = build.add(keep, build.mul(found.core.start, keep, span), span)
        states.following[delta] = build.map("add", parts, span)
        states.matrices[matrix] = Trained(delta, keep)
