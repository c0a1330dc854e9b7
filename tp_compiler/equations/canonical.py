"""Identifies families that differ only in the names of their indices, such as |z_i> and |z_j>."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Sequence

import sympy as sp

from tp_compiler.equations.terms import BINDERS, Expr, bound, like, rebound, rebuild, reindex


def canonical(expr: Expr, indices: Sequence[Expr]) -> Hashable:
    """The expression with the k-th index called ιk, and bound ones by the depth they are bound at."""
    named = {i: like(i, f"ι{k}") for k, i in enumerate(indices)}
    return _bound(reindex(expr, named), 0)


def _bound(expr: Expr, depth: int) -> Expr:
    def rule(e: Expr) -> Expr | None:
        if not isinstance(e, BINDERS):
            return None
        new = {old: like(old, f"β{depth + k}") for k, old in enumerate(bound(e))}
        return rebound(e, lambda inner: _bound(inner, depth + len(new)), new)

    return rebuild(expr, rule)


def readable(expr: Expr, plain: Callable[[Expr], Expr], taken: Collection[Expr] = ()) -> Expr:
    """Bound indices by their plain letters, Σ_s for Σ_s₁₄, with primes if a letter is taken."""

    def rule(e: Expr) -> Expr | None:
        if not isinstance(e, BINDERS):
            return None
        used = {*taken, *(e.free_symbols - set(bound(e)))}
        new: dict[Expr, Expr] = {}
        for old in bound(e):
            letter = plain(old)
            while letter in used:
                letter = like(letter, letter.name + "′")
            used.add(letter)
            new[old] = letter
        apart = {old: sp.Dummy(old.name, integer=True) for old in new}
        opened = rebound(e, lambda inner: inner, apart)
        closed = {apart[old]: letter for old, letter in new.items()}
        return rebound(opened, lambda inner: readable(inner, plain, used), closed)

    return rebuild(expr, rule)
