"""Facts about the law of a term, without computing it: its sources of randomness, symmetries, whether it is affine.

A *generator* is a declared ket family, or the hats of one matrix in one orientation. All generators of a program are
independent (TP IVb, Def 2.6.5), and the law of a centred one is invariant under its change of sign: hats and normal kets,
and of the other laws of kets those that are symmetric (derive.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass
from typing import Any

import sympy as sp

from tp_compiler.equations.functions import name_of
from tp_compiler.equations.terms import (
    Block,
    Entry,
    Expectation,
    Expr,
    Hat,
    Ket,
    Missing,
    Partial,
    Scalar,
    Stacked,
    Stein,
)
from tp_compiler.ir.primitives import PRIMITIVES

#: (generator, copy). The generator ALL stands for a change of sign of every generator at once.
Generator = tuple[Any, int]
ALL = "all"
#: What changes with the steps of training is a function of everything: nothing random is independent of it.
LOOP = "loop"
_NONE: frozenset[Generator] = frozenset()


@dataclass(frozen=True)
class Character:
    """`roots`: generators the term is a function of (and, as ("hat", label), single hats). `odd`: sign changes that
    change the term's sign; `mixed`: those that do neither that nor leave it alone. `affine`: in initial kets and hats."""

    roots: frozenset[Generator] = _NONE
    odd: frozenset[Generator] = _NONE
    mixed: frozenset[Generator] = _NONE
    affine: bool = True

    def copied(self, copy: int) -> Character:
        if not copy:
            return self
        roots, odd, mixed = (frozenset((g, copy) for g, _ in part) for part in (self.roots, self.odd, self.mixed))
        return Character(roots, odd, mixed, self.affine)

    def without(self, copies: frozenset[int]) -> Character:
        """After averaging over `copies`."""
        parts = (self.roots, self.odd, self.mixed)
        roots, odd, mixed = (frozenset(g for g in part if g[1] not in copies) for part in parts)
        return Character(roots, odd, mixed, not roots)

    @property
    def signs(self) -> frozenset[Generator]:
        return self.odd | self.mixed


NUMBER = Character()


def total(parts: Iterable[Character]) -> Character:
    """The character of a sum: odd if every term is."""
    parts = [p for p in parts]
    if len(parts) == 1:
        return parts[0]
    roots = _NONE.union(*(p.roots for p in parts))
    odd = frozenset.intersection(*(p.odd for p in parts)) if parts else _NONE
    mixed = _NONE.union(*(p.signs for p in parts)) - odd
    return Character(roots, odd, mixed, all(p.affine for p in parts))


def product(parts: Iterable[Character]) -> Character:
    """The character of a product: signs multiply."""
    roots, odd, mixed, random, affine = _NONE, _NONE, _NONE, 0, True
    for p in parts:
        roots, odd, mixed = roots | p.roots, odd ^ p.odd, mixed | p.mixed
        random += bool(p.roots)
        affine = affine and p.affine
    return Character(roots, _apart(odd - mixed, roots), mixed, affine and random <= 1)


def _apart(signs: frozenset[Generator], roots: frozenset[Generator]) -> frozenset[Generator]:
    """The sign changes that do not affect a training loop."""
    copies = {copy for generator, copy in roots if generator == LOOP}
    return frozenset(s for s in signs if s[1] not in copies) if copies else signs


def applied(parity: int, arg: Character) -> Character:
    """The character of an even (1), odd (-1) or other (0) function."""
    odd = arg.odd if parity < 0 else _NONE
    mixed = arg.mixed if parity else arg.signs
    return Character(arg.roots, odd, mixed, not arg.roots)


#: A ket of a training loop: of no known symmetry.
LOOPED = Character(frozenset({(LOOP, 0)}), _NONE, frozenset({(ALL, 0)}), False)


def meet(roots: Set[Generator], others: Set[Generator]) -> bool:
    """Do two terms share a generator?"""
    if not roots.isdisjoint(others):
        return True
    return any(
        g == LOOP and any(copy == c for _, c in theirs)
        for mine, theirs in ((roots, others), (others, roots))
        for g, copy in mine
    )


class Facts:
    """Characters of the named kets of a system, and of expressions over them."""

    def __init__(self) -> None:
        self.kets: dict[str, Character] = {}
        self.other: set[Any] = set()  # generators that are not Gaussian
        self.generators: dict[str, Any] = {}  # label of a product W|x> -> its hat's generator
        self.definitions: dict[str, Any] = {}  # label -> Equation
        self.brackets: dict[Any, Any] = {}  # brackets of affine kets: their value, or None
        self.depth = 0
        self.sizes: Mapping[Expr, int] = {}  # of indices
        self._order: dict[str, int] = {}
        self.batched: set[str] = set()  # families of matrices whose members count as one generator

    def centred(self, generator: Any, label: str = "") -> Character:
        """A centred member of a generator; `label` also records which hat it is."""
        own = frozenset({(generator, 0)})
        roots = own | {(("hat", label), 0)} if label else own
        return Character(roots, own | {(ALL, 0)}, _NONE)

    def of(self, expr: Expr) -> Character:
        """The character of an expression."""
        if isinstance(expr, Ket):
            return self.kets[expr.label].copied(expr.copy_number)
        if isinstance(expr, Expectation):
            return self.of(expr.body).without(expr.copies) if 0 not in expr.copies else NUMBER
        if isinstance(expr, Hat):
            return self.centred(self.hat_generator(expr))
        if isinstance(expr, Entry):
            return total([LOOPED.copied(c) for c in expr.neurons])
        if isinstance(expr, Scalar | Stein) or not expr.args:
            return NUMBER
        if isinstance(expr, Partial | Missing):
            return Character(frozenset({("unknown", 0)}), _NONE, frozenset({(ALL, 0)}), False)
        if isinstance(expr, sp.Pow):
            return self._power(expr)
        if isinstance(expr, sp.Mul):
            return product(self.of(a) for a in expr.args)
        if isinstance(expr, sp.Add | Stacked):
            return total([self.of(a) for a in expr.args if not isinstance(expr, Stacked) or a is not expr.args[0]])
        if isinstance(expr, sp.Sum | Block):
            return self.of(expr.args[0])
        return self._function(expr)

    def _power(self, expr: Expr) -> Character:
        base, exponent = self.of(expr.base), self.of(expr.exp)
        if exponent.roots or not expr.exp.is_Integer:
            return applied(0, total([base, exponent]))
        return applied(1 if expr.exp % 2 == 0 else -1, base)

    def _function(self, expr: Expr) -> Character:
        parts = [self.of(a) for a in expr.args]
        name = name_of(expr)
        if len(parts) == 1:
            return applied(PRIMITIVES[name].parity if name else 0, parts[0])
        roots = _NONE.union(*(p.roots for p in parts))
        return Character(roots, _NONE, _NONE.union(*(p.signs for p in parts)), not roots)

    def gaussian(self, expr: Expr) -> bool:
        """Is it an affine function of Gaussians?"""
        own = self.of(expr)
        return own.affine and all(generator not in self.other for generator, _ in own.roots)

    def order(self, label: str) -> int:
        """The place of a ket in the program."""
        if len(self._order) < len(self.kets):
            self._order = {label: k for k, label in enumerate(self.kets)}
        return self._order[label]

    def hat_generator(self, hat: Hat) -> Any:
        return (hat.matrix, () if hat.matrix in self.batched else hat.member, hat.transposed)

    def depends(self, expr: Expr, generator: Any) -> bool:
        """Is the row of `expr` a function of the generator (or of the single hat ("hat", label))?"""
        return meet({(generator, 0)}, self.of(expr).roots)
