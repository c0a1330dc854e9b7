"""The words of a program, for writing it out again (ir/model.py, `Vocabulary`)."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from tp_compiler.check import values as v
from tp_compiler.check.core import Core
from tp_compiler.check.names import Scope
from tp_compiler.diagnostics import Source
from tp_compiler.ir import nodes as ir
from tp_compiler.ir.model import Declared, Vocabulary, initial
from tp_compiler.ir.types import Axis


def vocabulary(source: Source, core: Core, scope: Scope, axes: Iterable[Axis], given: Collection[str]) -> Vocabulary:
    found: dict[Axis, list[str]] = {axis: [] for axis in axes}
    for name, binding in scope.others.items():
        if isinstance(binding.value, v.IndexName) and binding.value.index.axis in found:
            found[binding.value.index.axis].append(name)
    return Vocabulary(
        found, tuple(_declared(source, scope)), frozenset(scope.library), core.algebra.applied, frozenset(given)
    )


def _declared(source: Source, scope: Scope) -> Iterator[Declared]:
    """In the order of the source, those of imported files first."""
    found = []
    for table in (scope.others, scope.kets):
        for name, binding in table.items():
            value = _start(binding.value)
            if binding.declared and binding.span is not None and value is not None:
                own = binding.span.source.name == source.name
                found.append((own, binding.span.start, Declared(name, value)))
    yield from (d for *_, d in sorted(found, key=lambda x: x[:2]))


def _start(value: v.Value) -> ir.InitialKet | ir.InitialScalar | ir.Array | ir.MatrixSymbol | None:
    """The declaration of a value; for a trained parameter its initial value."""
    leaf = value.symbol if isinstance(value, v.Matrix) else value.node if isinstance(value, v.Scalar | v.Ket) else None
    start = initial(leaf) if leaf is not None else None
    return start if isinstance(start, ir.InitialKet | ir.InitialScalar | ir.Array | ir.MatrixSymbol) else None
