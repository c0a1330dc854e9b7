"""Families that differ in the names of their indices alone, |z_i> and |z_j>, are one family."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import sympy as sp

from tp_compiler.equations.terms import BINDERS, Expr, Reduce, bound, like, rebuild, reindex


def canonical(expr: Expr, indices: Sequence[Expr]) -> Hashable:
    """The expression with the k-th index called ιk, and bound ones by the depth they are bound at."""
    named = {i: like(i, f"ι{k}") for k, i in enumerate(indices)}
    return _bound(reindex(expr, named), 0)


def _bound(expr: Expr, depth: int) -> Expr:
    def rule(e: Expr) -> Expr | None:
        if not isinstance(e, BINDERS):
            return None
        old = bound(e)
        new = like(old, f"β{depth}")
        inner = _bound(e.args[1] if isinstance(e, Reduce) else e.args[0], depth + 1).xreplace({old: new})
        if isinstance(e, sp.Sum):
            return sp.Sum(inner, (new, *e.limits[0][1:]), *e.limits[1:])
        return Reduce(e.args[0], inner, new) if isinstance(e, Reduce) else e.func(inner, new, e.args[2])

    return rebuild(expr, rule)
