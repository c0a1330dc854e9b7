"""The program as a function of its parameters, from which width exponents are derived (ir/model.py, `Network`)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from tp_compiler.check import values as v
from tp_compiler.check.degrees import homogeneity
from tp_compiler.check.names import Scope
from tp_compiler.check.training import TrainingChecks
from tp_compiler.diagnostics import Source
from tp_compiler.ir import nodes as ir
from tp_compiler.ir.model import Names, Network, Trainable
from tp_compiler.ir.program import Output


def network(source: Source, training: TrainingChecks, scope: Scope, outputs: Iterable[Output], names: Names) -> Network:
    """The loss or, if nothing is trained, the differentiated value, with the parameters it depends on."""
    trains = training.loss is not None
    roots = (training.loss,) if training.loss is not None else tuple(dict.fromkeys(training.build.differentiated))
    wanted, asked = tuple(o.node for o in outputs), training.parametrization
    parameters = tuple(_parameters(training, scope))
    return Network(source, roots, wanted, parameters, asked.name, tuple(asked.exponents), dict(names), trains)


def _parameters(training: TrainingChecks, scope: Scope) -> Iterator[Trainable]:
    """The trained parameters (if there are none, those that are not frozen), and the other kets that are drawn."""
    found = list(_updated(training) if training.trained is not None else _unfrozen(training, scope))
    yield from found
    known = {t.leaf.state.init if isinstance(t.leaf, ir.Carry) else t.leaf for t in found}
    for name, binding in scope.kets.items():
        leaf = binding.value.node if binding.declared and isinstance(binding.value, v.Ket) else None
        if isinstance(leaf, ir.InitialKet) and leaf not in known:
            yield Trainable(name, True, leaf, leaf.span, (None,) * len(leaf.type.indices), still=True)


def _updated(training: TrainingChecks) -> Iterator[Trainable]:
    for t in training.targets.values():
        for u, picks in t.updates:
            optimizer = u.optimizer.statement
            standard = optimizer.span.source.name.startswith("library/")
            own = "" if standard or not optimizer.on else homogeneity(u.optimizer, u.values)
            for member in training.parametrization.apart(t.name, t.ket, t.before.indices, picks):
                yield Trainable(
                    t.name, t.ket, t.leaf, u.statement.span, member, optimizer.name, standard, not optimizer.on, own, u.values
                )  # fmt: skip


def _unfrozen(training: TrainingChecks, scope: Scope) -> Iterator[Trainable]:
    for ket, table in ((True, scope.kets), (False, scope.others)):
        for name, binding in table.items():
            if binding.parameter and isinstance(binding.value, v.Scalar | v.Ket | v.Matrix):
                leaf = binding.value.symbol if isinstance(binding.value, v.Matrix) else binding.value.node
                for member in training.parametrization.apart(
                    name, ket, binding.indices, (None,) * len(binding.indices)
                ):
                    yield Trainable(name, ket, leaf, leaf.span, member)
