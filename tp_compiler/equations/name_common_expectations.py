"""Final passes over a system: name common expectations, add closed forms, drop what is unused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import sympy as sp

from tp_compiler.equations.brackets import Brackets
from tp_compiler.equations.canonical import readable
from tp_compiler.equations.facts import Facts
from tp_compiler.equations.formulas import ClosedForm, Formulas
from tp_compiler.equations.names import Names
from tp_compiler.equations.simplify import number_in_front
from tp_compiler.equations.system import Equation, System
from tp_compiler.equations.terms import Expectation, Expr, Named, common_factor, rebuild


def finish(system: System, facts: Facts, names: Names, simplify: bool, closed_form: ClosedForm | None) -> System:
    """The finished system."""
    equations = system.equations
    if simplify:
        equations = tuple(_legible(e, names) for e in _needed(_shared(equations)))
    formula = None if closed_form is None else Formulas(equations, facts, closed_form)
    if simplify or formula is not None:
        equations = Brackets(equations, facts, names, formula).complete(equations)
    return replace(system, equations=tuple(_legible(e, names) for e in equations), sizes=names.sizes)


def _legible(e: Equation, names: Names) -> Equation:
    """Bound indices by plain letters, and (a - b)/4 for a/4 - b/4 in products."""
    fields = {"product": ("learned",), "initial": (), "clt": ()}.get(e.kind, ("expression", "closed_form"))
    own = e.symbol.indices
    parts = {n: getattr(e, n) for n in fields if getattr(e, n) is not None}
    return replace(e, **{n: _plain(x, names, own) for n, x in parts.items()})


def _plain(expr: Expr, names: Names, own: Sequence[Expr]) -> Expr:
    return rebuild(rebuild(readable(expr, names.plain, own), _primitive), number_in_front)


def _primitive(expr: Expr) -> Expr | None:
    if not isinstance(expr, sp.Mul):
        return None
    parts = [rebuild(a, _primitive) for a in expr.args]
    split = [(common_factor(a) if isinstance(a, sp.Add) else None) or (sp.Integer(1), a) for a in parts]
    return sp.Mul(*(c for c, _ in split), *(a for _, a in split))


def _shared(equations: tuple[Equation, ...]) -> tuple[Equation, ...]:
    """A scalar that is a single expectation is written by its name from there on (never in its own definition)."""
    known: dict[Expr, Named] = {}
    found = []
    for e in equations:
        scalar = e.kind == "scalar"
        value = e.expression if e.kind in ("product", "initial", "clt", "operator") else _renamed(e.expression, known)
        found.append(replace(e, expression=value))
        if scalar and isinstance(value, Expectation):
            known.setdefault(value, e.symbol)
    return tuple(found)


def _renamed(expr: Expr, known: dict[Expr, Named]) -> Expr:
    if not known or not expr.has(Expectation):
        return expr
    return rebuild(expr, lambda e: known.get(e) if isinstance(e, Expectation) else None)


def _needed(equations: tuple[Equation, ...]) -> tuple[Equation, ...]:
    """Drops new scalars and derivatives to which nothing refers any longer."""
    counts: Counter[tuple[type, str]] = Counter()
    for e in equations:
        counts.update(_references(e))
    keep = []
    for e in reversed(equations):
        idle = not counts[type(e.symbol), e.name] and not e.output and e.kind in ("derivative", "coefficient")
        if idle:
            counts.subtract(_references(e))
        else:
            keep.append(e)
    return tuple(reversed(keep))


def _references(e: Equation) -> set[tuple[type, str]]:
    parts = [e.expression, *(x for x in (e.mean, e.covariance, e.start, e.learned) if x is not None)]
    found = {(type(n), n.label) for p in parts for n in p.atoms(Named)}
    return found - {(type(e.symbol), e.name)}
