"""Turns a model and its powers of n into the programs that are evaluated: those of the limit and of finite width.

The two differ in the neural tangent limit, and where powers of n are relative to natural units. What only training needs is
loaded by it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from tp_compiler.diagnostics import Diagnostics, error
from tp_compiler.ir import nodes as ir
from tp_compiler.ir.model import Compiled, Model, Training, UpdateLine, WidthPowers
from tp_compiler.ir.program import Loop, Output, Program
from tp_compiler.ir.walk import reachable
from tp_compiler.train.parametrized import Parametrized
from tp_compiler.train.readouts import ReadOut
from tp_compiler.transform.lower import Lowering, Powers, Trained

if TYPE_CHECKING:
    from tp_compiler.train.on_entries import Parameter, Stepped
    from tp_compiler.train.tangent_limit import Change, TangentLimit


def train(model: Model, found: WidthPowers, diagnostics: Diagnostics) -> Compiled:
    """The programs of a model. `found`: what its parametrization was found to be; `diagnostics` has, and gets, other warnings.

    Raises ProgramError where an optimizer has no limit, or none under this parametrization.
    """
    read = ReadOut(model.build, found.readouts if found.operator else frozenset())
    training = read.training(model.training) if model.training is not None else None
    made = _Trained(model, training, Parametrized(model.network.parametrization, found), read, diagnostics)
    return made.programs()


@dataclass
class _Loop:
    """The loop in one of the programs. `change`: maps the nodes of outputs."""

    loop: Loop
    change: Change
    becomes: Mapping[ir.Node, ir.Node]


class _Trained:
    def __init__(
        self, model: Model, training: Training | None, asked: Parametrized, read: ReadOut, diagnostics: Diagnostics
    ):
        self.model, self.training, self.asked, self.read, self.diagnostics = model, training, asked, read, diagnostics
        self.build = model.build
        self.warnings = asked.found.warnings
        self.matrices: Mapping[ir.MatrixSymbol, Trained] = {}
        self.starts: Mapping[ir.State, ir.State] = {}  # of states that have another initial value
        self.loop: Loop | None = None
        self.tangent: TangentLimit | None = None
        if training is not None:
            self._train(training)

    # -- the loop -----------------------------------------------------------------------------------------------
    def _train(self, training: Training) -> None:
        from tp_compiler.train.flow import heavy_ball
        from tp_compiler.train.updates import Updates

        self._random_loss(training)
        self._no_flow(training)
        states = Updates(self.build, training, self.asked, self.diagnostics).states
        following, self.matrices, self.starts = states.following, states.matrices, states.starts
        if self.asked.tangential:
            self.tangent = self._tangent(training)
            if self.tangent is not None and training.times:
                self._flow(training, self.tangent)
                following = heavy_ball(self.build, following, training.head)
        times = training.times if self.tangent is not None else ()
        self.loop = Loop(training.clock.size - 1, training.clock, following, training.head, times)

    def _random_loss(self, training: Training) -> None:
        """A loss of Θ(1) random outputs has no limit if features move."""
        if training.loss.type.random and not self.asked.tangential and not self.asked.refused:
            bracket = next(n for n in reachable([training.loss]) if isinstance(n, ir.Clt))
            why = f"`{bracket.span.text}` is trained in natural units, where updates move it by Θ(√n)"
            remedy = "write `parametrization ntk`, or a bracket without `clt`; run `tpc scale` to see what moves by which power"
            self.asked.refuse(why, remedy, bracket.span)

    def _no_flow(self, training: Training) -> None:
        if training.times and not self.asked.tangential and self.asked.powers is not None:
            remedy = "write `parametrization ntk` above it, or `train steps` with a small `lr`"
            raise error("NX177", "gradient flow is only supported where features do not move", training.extent, remedy)

    def _tangent(self, training: Training) -> TangentLimit | None:
        """The limit in which features do not move; None if there is none."""
        from tp_compiler.train.groups import groups, moves_features
        from tp_compiler.train.tangent_limit import TangentLimit

        found = groups(self.build, training, self.asked)
        if moves_features(training, found, self.asked):
            return None
        moving = {number for group in found for number in group.numbers}
        starts = {t.leaf: t.start for t in training.targets if t.leaf not in moving}
        powers = self.asked.powers
        return TangentLimit(
            self.build, training.loss, starts, found, training.clip, training.clock, training.head, training.loss_span,
            centred=powers is not None and powers.reading < 0,
        )  # fmt: skip

    def _flow(self, training: Training, tangent: TangentLimit) -> None:
        from tp_compiler.train.flow import flows, heavy_ball, timeless

        flows(tangent.groups, training.loss)
        for line in training.lines:
            timeless(self.build, partial(self._stepped, line), line.span)
        tangent.following = heavy_ball(self.build, tangent.following, training.head)

    def _stepped(self, line: UpdateLine, parameter: Parameter, count: ir.Node) -> Stepped:
        from tp_compiler.train.on_entries import stepped
        from tp_compiler.train.updates import on_entries

        return stepped(self.build, on_entries(line), parameter, count, line.span)

    # -- the programs -------------------------------------------------------------------------------------------
    def programs(self) -> Compiled:
        tangent, powers = self.tangent, self.asked.powers
        finite = self._lowered(self._loop(), self._powers(limit=False))
        limit = finite
        if tangent is not None and self.loop is not None:
            loop = replace(self.loop, following=tangent.following)
            limit = self._lowered(_Loop(loop, tangent, tangent.done), Powers())
        elif powers is not None:
            limit = self._lowered(self._loop(), self._powers(limit=True))
        warnings = (*self.diagnostics.warnings, *self.warnings)
        finite, limit = replace(finite, warnings=warnings), replace(limit, warnings=warnings)
        return Compiled(**vars(limit), network=self.model.network, finite=finite)

    def _loop(self) -> _Loop | None:
        return None if self.loop is None else _Loop(self.loop, _as_it_is, {})

    def _powers(self, limit: bool) -> Powers:
        """The powers of n relative to natural units at this parametrization."""
        powers = self.asked.powers
        if powers is None:
            return Powers(limit)
        if powers.operator:
            return Powers(limit, reading=powers.reading)
        starts: dict[ir.InitialKet, float] = {}
        for p in self.model.network.parameters:
            start = p.leaf.state.init if isinstance(p.leaf, ir.Carry) else p.leaf
            if powers.starts.get((p.name, p.ket)) and isinstance(start, ir.InitialKet):
                starts[start] = powers.starts[p.name, p.ket]
        return Powers(limit, starts, 0.0, list(self._still()) if limit else [])

    def _still(self) -> Iterable[ir.State]:
        """The trained matrices that do not move in the limit."""
        for target in self.training.targets if self.training is not None else ():
            frozen = all(p < 0 for _, picks in target.updates for p in self.asked.steps(target, picks).values())
            if isinstance(target.leaf, ir.MatrixSymbol) and frozen:
                yield self.matrices[target.leaf].update

    def _lowered(self, loop: _Loop | None, powers: Powers) -> Program:
        model = self.model
        given = model.outputs
        if loop is not None and loop.loop.times:
            from tp_compiler.train.flow import Timed

            timed = Timed(self.build, loop.loop)
            given = tuple(replace(o, node=timed.output(o.node)) for o in given)
            loop = replace(loop, loop=replace(loop.loop, following=timed.following(loop.loop.following)))
        following = loop.loop.following if loop is not None else {}
        starts = {s: replace(s, init=s.init.args[0]) for s in following if isinstance(s.init, ir.InitialScalar)}
        starts |= self.starts
        lower = Lowering(self.build, self.matrices, starts, powers)
        for s in following:
            if isinstance(s.init, ir.InitialKet) and s.init in lower.powers.starts:
                starts[s] = replace(s, init=lower.started(s.init))
        change = loop.change if loop is not None else _as_it_is
        outputs = tuple(replace(o, node=lower(self._meaning(o, change))) for o in given)
        done = self._lowered_loop(loop, lower, starts, outputs)
        becomes = loop.becomes if loop is not None else {}
        names = {
            lower.done.get(m, m): name
            for n, name in model.names.items()
            for r in [self.read(n)]
            for m in [becomes.get(r, r)]
        }
        return Program(model.source, outputs, model.axes, model.widths, (), names, lower.cotangents(), done)

    def _lowered_loop(
        self, loop: _Loop | None, lower: Lowering, starts: Mapping[ir.State, ir.State], outputs: Iterable[Output]
    ) -> Loop | None:
        """The loop; None if no output depends on it."""
        if loop is None:
            return None
        following = {starts.get(state, state): lower(node) for state, node in loop.loop.following.items()}
        inside = (ir.Carry, ir.Clock, ir.Apply, ir.Trace)
        if not any(isinstance(n, inside) for o in outputs for n in reachable([o.node])):
            return None
        return replace(loop.loop, following=following)

    def _meaning(self, output: Output, change: Change) -> ir.Node:
        if not self.asked.refused:
            return change(self.read(output.node))
        found = self.asked.found
        span, indices = found.at or output.span, output.node.type.indices
        return self.build.unavailable(self.asked.shown, (), indices, None, span, found.refused, found.remedy)


def _as_it_is(node: ir.Node) -> ir.Node:
    return node
