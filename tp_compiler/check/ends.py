"""Data over `step` that end with the last update, and what the index `step` means where they are read.

Such data, and quantities of the loop that read them, have one entry for each update. Under `sum[step](..)` and the like, and in
statements `z[step] = ..` before the loop, `step` then runs over these entries only.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from tp_compiler.check import values as v
from tp_compiler.check.core import Context, Core
from tp_compiler.check.functions import REDUCTIONS
from tp_compiler.check.names import Binding, Scope
from tp_compiler.frontend import syntax as ast
from tp_compiler.frontend.mentions import names_in
from tp_compiler.ir.types import Index
from tp_compiler.transform.steps import extent, shorter

#: Functions whose result does not have the indices in their brackets.
BINDING = (REDUCTIONS - {"softmax"}) | {"mse"}


def range_of_step(core: Core, tree: object, scope: Scope) -> Index | None:
    """The index that `step` denotes in a tree over which it runs; None if nothing is trained, or `step` is a number here."""
    clock = core.clock
    here = scope.others.get("step")
    if clock is None or here is None or not isinstance(here.value, v.IndexName):
        return None
    ends = any(_ends(scope.other(name.ident), name, clock) for name, _ in names_in(tree))
    return shorter(clock) if ends else clock


def _ends(binding: Binding | None, name: ast.Name, clock: Index) -> bool:
    """Does a name written `x[step,..]` denote something that ends with the last update?"""
    written = name.indices or ()
    if binding is None or not any(isinstance(e, ast.Name) and e.ident == "step" for e in written):
        return False
    if binding.clock is not None and isinstance(binding.value, v.Scalar | v.Ket):
        return extent(binding.value.node, clock) != clock
    return shorter(clock) in binding.indices


def over(core: Core, call: ast.Call, ctx: Context) -> Context:
    """The context of a call such as `sum[step](..)`, which binds `step`: there it runs over what is read."""
    if call.fn.ident not in BINDING or not any(
        isinstance(e, ast.Name) and e.ident == "step" for e in call.fn.indices or ()
    ):
        return ctx
    index = range_of_step(core, call.args, ctx.scope)
    if index is None:
        return ctx
    scope = ctx.scope.snapshot()
    scope.others["step"] = Binding(v.IndexName(index))
    return replace(ctx, scope=scope)


@contextmanager
def before_the_loop(core: Core, s: ast.Bind, scope: Scope) -> Iterator[None]:
    """While `z[step] = ..` is read, `step` runs over the entries of what it reads."""
    own = scope.others.get("step")
    names = (name.ident for name, _ in names_in(tuple(t.label if isinstance(t, ast.Ket) else t for t in s.targets)))
    index = range_of_step(core, s.value, scope) if "step" in names else None
    if own is None or index is None:
        yield
        return
    scope.others["step"] = Binding(v.IndexName(index))
    try:
        yield
    finally:
        scope.others["step"] = own
