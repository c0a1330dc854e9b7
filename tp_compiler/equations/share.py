"""The last touches on a system: common expectations named once, closed forms beside them, the unused left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import sympy as sp

from tp_compiler.equations.brackets import Brackets
from tp_compiler.equations.facts import Facts
from tp_compiler.equations.names import Names
from tp_compiler.equations.simplify import simplify as simplified
from tp_compiler.equations.system import Equation, System
from tp_compiler.equations.terms import Expectation, Expr, Ket, Named, rebuild


@dataclass(frozen=True)
class Gaussian:
    """Jointly Gaussian variables: their symbols, means and covariances, which are expressions of the system."""

    variables: tuple[Expr, ...]
    mean: tuple[Expr, ...]
    covariance: Expr


ClosedForm = Callable[[Expr, Gaussian], Expr | None]
FOLLOWED = 3  # entrywise definitions that are followed back in search of a closed form


def finish(system: System, facts: Facts, names: Names, simplify: bool, closed_form: ClosedForm | None) -> System:
    """The system as it is handed out."""
    equations = system.equations
    if simplify:
        equations = _needed(_shared(equations))
    formula = None
    if closed_form is not None:
        known = {e.name: e for e in equations if e.kind == "ket"}
        formula = partial(_evaluated, facts=facts, known=known, closed_form=closed_form)
    if simplify or formula is not None:
        equations = Brackets(equations, facts, names, formula).complete(equations)
    return System(equations, system.matrices, system.remarks, system.clock)


def _shared(equations: tuple[Equation, ...]) -> tuple[Equation, ...]:
    """A scalar that is one expectation is known by its name from there on (never in what defines it)."""
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
    """Without fresh scalars and derivatives that nothing refers to any more."""
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


def _evaluated(e: Expectation, facts: Facts, known: dict[str, Equation], closed_form: ClosedForm) -> Expr | None:
    body = _followed(e.body, facts, known)
    kets = sorted(body.atoms(Ket), key=str)
    if e.copies != {0} or any(k.copy_number or not facts.of(k).gaussian for k in kets) or not kets:
        return None
    if body in kets or (isinstance(body, sp.Mul | sp.Pow) and len(kets) <= 2 and not body.has(sp.Function)):
        return None  # a bracket of Gaussians is a covariance: nothing to integrate
    variables = sp.symbols(f"g1:{len(kets) + 1}", real=True)
    mean = tuple(simplified(Expectation(k), facts) for k in kets)
    covariance = sp.Matrix(
        len(kets),
        len(kets),
        lambda i, j: _bracket(kets[i], kets[j], facts) - mean[i] * mean[j],
    )
    return closed_form(body.xreplace(dict(zip(kets, variables, strict=True))), Gaussian(variables, mean, covariance))


def _bracket(x: Ket, y: Ket, facts: Facts) -> Expr:
    """<x|y>, or what it is where that is as short: formulas are written in brackets, which have formulas of their own."""
    value = simplified(Expectation(x * y), facts)
    parts = [f for f in sp.Mul.make_args(value) if not f.is_number]
    short = len(parts) == 1 and isinstance(parts[0], Expectation)
    return value if short or value.is_number else Expectation(x * y)


def _followed(body: Expr, facts: Facts, known: dict[str, Equation]) -> Expr:
    """The body in Gaussian kets, where entrywise definitions lead there; as it stands where they do not."""
    for _ in range(FOLLOWED):
        definitions = {
            k: known[k.label].at(k, known[k.label].expression)
            for k in body.atoms(Ket)
            if not k.copy_number and k.label in known and not facts.of(k).gaussian
        }
        if not definitions:
            break
        body = body.xreplace(definitions)
    return body
