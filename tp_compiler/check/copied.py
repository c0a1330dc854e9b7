"""Optimizers of the program's own, word for word, with the functions and numbers that they name."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from tp_compiler.check import values as v
from tp_compiler.check.names import OptimizerName, Scope, UserDef, UserFn
from tp_compiler.frontend import syntax as ast
from tp_compiler.frontend.mentions import bound_names, names_in
from tp_compiler.ir import nodes as ir
from tp_compiler.ir.model import Copied
from tp_compiler.ir.types import Index


@dataclass
class _Copies:
    texts: dict[str, str] = field(default_factory=dict)
    values: dict[str, tuple[ir.Node, tuple[Index, ...]]] = field(default_factory=dict)


def copied(optimizers: Iterable[OptimizerName]) -> Copied:
    """The optimizers that the `update` lines call, except those of the library."""
    found = _Copies()
    for optimizer in optimizers:
        if not optimizer.statement.span.source.name.startswith("library/"):
            _copy(found, optimizer.statement.name, optimizer)
    return Copied(found.texts, found.values)


def _copy(found: _Copies, name: str, value: OptimizerName | UserFn | UserDef) -> None:
    if name in found.texts:
        return
    found.texts[name] = ""  # for those that name each other
    own = {"g", "p", "t", "step", *_locals(value.statement)}
    _names(found, (n for n, _ in names_in(_body(value.statement), True) if n.ident not in own), value.scope)
    del found.texts[name]  # after the statements it needs
    found.texts[name] = value.statement.span.text


def _body(statement: ast.Optimizer | ast.Fn | ast.Def) -> tuple[object, ...]:
    if isinstance(statement, ast.Fn):
        return (statement.body,)
    return (*(p.default for p in statement.params if p.default is not None), *statement.body)


def _locals(statement: ast.Optimizer | ast.Fn | ast.Def) -> set[str]:
    if isinstance(statement, ast.Fn):
        return set(statement.params)
    brackets = {e.ident for e in statement.indices} if isinstance(statement, ast.Def) else set()
    return brackets | {p.name.ident for p in statement.params} | bound_names(statement.body, False)


def _names(found: _Copies, names: Iterable[ast.Name], scope: Scope) -> None:
    for name in names:
        binding = scope.others.get(name.ident)
        if binding is None:
            continue
        if isinstance(binding.value, UserFn | UserDef | OptimizerName):
            _copy(found, name.ident, binding.value)
        elif isinstance(binding.value, v.Scalar):
            found.values[name.ident] = binding.value.node, binding.indices
