"""What a checked program becomes: its network as a function of the parameters, and the programs that are evaluated.

The limit and networks of finite width may read different programs: in the neural tangent limit, and where powers of n stand
beside natural units.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from tp_compiler.check import values as v
from tp_compiler.check.degrees import homogeneity
from tp_compiler.ir import nodes as ir
from tp_compiler.ir.program import Network, Output, Program, Regime, Trainable
from tp_compiler.ir.walk import reachable
from tp_compiler.train.flow import Timed
from tp_compiler.train.tangent_limit import Change, TangentLimit
from tp_compiler.transform.lower import Lowering, Powers

if TYPE_CHECKING:
    from tp_compiler.check.statements import Checker


class Finished:
    """The programs of a training (or of a program without one)."""

    def __init__(self, checker: Checker):
        self.checker = checker
        self.training = checker.training
        self.build = checker.build
        self.point = checker.training.point

    def programs(self, program: Program) -> Program:
        """The program ready to be evaluated; where networks of finite width read another one, with that one beside."""
        program = replace(program, network=self._network(), settings=dict(self.checker.settings.given))
        tangent, following = self.training.tangent, self.training.following
        if tangent is None and self.point.powers is None:
            return self._lowered(program, _as_it_is, following)
        finite = self._lowered(program, _as_it_is, following, self._powers(limit=False))
        if tangent is not None:
            return replace(self._lowered(program, tangent, tangent.following), finite=finite)
        return replace(self._lowered(program, _as_it_is, following, self._powers(limit=True)), finite=finite)

    def _powers(self, limit: bool) -> Powers:
        """What stands beside natural units at this parametrization."""
        regime = self.point.powers
        if regime is None:
            return Powers(limit)
        if regime.operator:
            return Powers(limit, reading=regime.reading)
        starts: dict[ir.InitialKet, float] = {}
        still = []
        for t in self._parameters():
            start = t.leaf.state.init if isinstance(t.leaf, ir.Carry) else t.leaf
            if regime.starts.get((t.name, t.ket)) and isinstance(start, ir.InitialKet):
                starts[start] = regime.starts[t.name, t.ket]
        for target in self.training.targets.values():
            frozen = all(p < 0 for _, picks in target.updates for p in self.training.powers(target, picks).values())
            if isinstance(target.leaf, ir.MatrixSymbol) and frozen and limit:
                still.append(self.training.matrices[target.leaf].update)
        return Powers(limit, starts, 0.0, still)

    def _network(self) -> Network:
        """The program as a function of its parameters, before anything is lowered."""
        outputs = tuple(o.node for o in self.checker.outputs.values())
        loss, names, rows = self.training.loss, dict(self.checker.bindings.names), tuple(self.point.exponents)
        roots = (loss,) if loss is not None else tuple(dict.fromkeys(self.build.differentiated))
        return Network(roots, outputs, tuple(self._parameters()), self.point.name, rows, names, loss is not None)

    def _parameters(self) -> Iterator[Trainable]:
        """What is trained (where nothing is, what is not frozen), and the other kets that are drawn."""
        found = list(self._updated() if self.training.trained is not None else self._unfrozen())
        yield from found
        known = {t.leaf.state.init if isinstance(t.leaf, ir.Carry) else t.leaf for t in found}
        for name, binding in self.checker.scope.kets.items():
            leaf = binding.value.node if binding.declared and isinstance(binding.value, v.Ket) else None
            if isinstance(leaf, ir.InitialKet) and leaf not in known:
                yield Trainable(name, True, leaf, leaf.span, (None,) * len(leaf.type.indices), still=True)

    def _updated(self) -> Iterator[Trainable]:
        for t in self.training.targets.values():
            for u, picks in t.updates:
                optimizer = u.optimizer.statement
                standard = optimizer.span.source.name.startswith("library/")
                at = u.statement.span
                own = "" if standard or not optimizer.on else homogeneity(u.optimizer, u.values)
                for member in self.point.apart(t.name, t.ket, t.before.indices, picks):
                    yield Trainable(
                        t.name, t.ket, t.leaf, at, member, optimizer.name, standard, not optimizer.on, own, u.values
                    )  # fmt: skip

    def _unfrozen(self) -> Iterator[Trainable]:
        for ket, table in ((True, self.checker.scope.kets), (False, self.checker.scope.others)):
            for name, binding in table.items():
                if binding.parameter and isinstance(binding.value, v.Scalar | v.Ket | v.Matrix):
                    leaf = binding.value.symbol if isinstance(binding.value, v.Matrix) else binding.value.node
                    for member in self.point.apart(name, ket, binding.indices, (None,) * len(binding.indices)):
                        yield Trainable(name, ket, leaf, leaf.span, member)

    def _lowered(
        self, program: Program, limit: Change, following: Mapping[ir.State, ir.Node], powers: Powers | None = None
    ) -> Program:
        starts = {s: replace(s, init=s.init.args[0]) for s in following if isinstance(s.init, ir.InitialScalar)}
        starts |= self.training.starts
        lower = Lowering(self.build, self.training.matrices, starts, powers)
        for s in following:
            if isinstance(s.init, ir.InitialKet) and s.init in lower.powers.starts:
                starts[s] = replace(s, init=lower.started(s.init))
        loop = self.training.loop
        given = program.outputs
        if loop is not None and loop.times:
            timed = Timed(self.build, loop)
            given = tuple(replace(o, node=timed.output(o.node)) for o in given)
            following = timed.following(following)
        outputs = tuple(replace(o, node=lower(self._meaning(o, limit))) for o in given)
        if loop is not None:
            loop = replace(loop, following={starts.get(state, state): lower(node) for state, node in following.items()})
            if not any(
                isinstance(n, ir.Carry | ir.Clock | ir.Apply | ir.Trace) for o in outputs for n in reachable([o.node])
            ):
                loop = None
        becomes = limit.done if isinstance(limit, TangentLimit) else {}
        names = {lower.done.get(m, m): name for n, name in program.names.items() for m in [becomes.get(n, n)]}
        return replace(program, outputs=outputs, loop=loop, names=names, cotangents=lower.cotangents())

    def _meaning(self, output: Output, limit: Change) -> ir.Node:
        refused = self.point.refused
        if not refused:
            return limit(output.node)
        regime = self.point.regime or Regime()
        span, why, remedy = regime.at or output.span, regime.refused, regime.remedy
        return self.build.unavailable(refused, (), output.node.type.indices, None, span, why, remedy)


def _as_it_is(node: ir.Node) -> ir.Node:
    return node
