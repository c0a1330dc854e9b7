"""Rewriting expectations: a table of rules, each with its side condition.

Every rule is an identity of the limit (tests/unit/equations checks each on numbers), makes a term smaller in the order
(expectations over later kets, then sizes of their bodies), and so the rewriting ends; the tests also apply the rules
in shuffled orders and compare. Expectations are conditional on `clt` scalars, which so count as numbers throughout.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sympy as sp

from tp_compiler.equations.facts import Facts, Generator, meet
from tp_compiler.equations.terms import (
    Expectation,
    Expr,
    Ket,
    Reduce,
    Softmax,
    bound,
    copies_of,
    fresh_like,
    rebound,
    rebuild,
    reindex,
    with_copies,
)

if TYPE_CHECKING:
    from tp_compiler.equations.system import Equation

#: Products are multiplied out into at most so many brackets; beyond, they are more readable as they are.
MAX_TERMS = 12
#: A bracket with more operations than this is kept under its name.
_SHORT = 6
#: The most products and definitions that brackets are traced back through: deep programs keep their names.
MAX_DEPTH = 32


@dataclass(frozen=True)
class Rule:
    """`left` → `right` if `when` holds; `apply` returns the right-hand side, or None if the rule does not apply."""

    name: str
    left: str
    right: str
    when: str
    apply: Callable[[Expectation, Facts], Expr | None]
    source: str = "linearity of E"
    deep: bool = False  # the right side goes one product or definition back in the program


def _over(e: Expectation, body: Expr) -> Expr:
    return Expectation(body, e.args[1])


def _constant(e: Expectation, facts: Facts) -> Expr | None:
    free = copies_of(e.body)
    if not free & e.copies:
        return e.body
    if e.copies - free:
        return Expectation(e.body, sorted(e.copies & free))
    return None


def _nested(e: Expectation, facts: Facts) -> Expr | None:
    """A mean over the row of a mean over copies is one mean over all of them."""
    inner = e.body
    if isinstance(inner, Expectation) and not inner.copies & e.copies:
        return Expectation(inner.body, sorted(inner.copies | e.copies))
    return None


def _row_of_copies(e: Expectation, facts: Facts) -> Expr | None:
    """Copies alone are as good as the row: E over copy k only is E over the row."""
    if len(e.copies) == 1 and 0 not in e.copies and copies_of(e.body) == e.copies:
        copy = min(e.copies)
        return Expectation(with_copies(e.body, {copy: 0}))
    return None


def _sum(e: Expectation, facts: Facts) -> Expr | None:
    return sp.Add(*(_over(e, a) for a in e.body.args)) if isinstance(e.body, sp.Add) else None


def _indexed_sum(e: Expectation, facts: Facts) -> Expr | None:
    if isinstance(e.body, sp.Sum):
        return sp.Sum(_over(e, e.body.function), *e.body.limits)
    factors = [f for a in sp.Mul.make_args(e.body) for f in _spelled(a)]
    for k, s in enumerate(factors):
        rest = sp.Mul(*(a for j, a in enumerate(factors) if j != k))
        if isinstance(s, sp.Sum) and copies_of(s):
            s = reindex_bound(s, rest)
            return sp.Sum(_over(e, s.function * rest), *s.limits)
    return None


def _spelled(factor: Expr) -> tuple[Expr, ...]:
    """The square of a sum over an index, as two factors."""
    if isinstance(factor, sp.Pow) and factor.exp == 2 and isinstance(factor.base, sp.Sum):
        return factor.base, factor.base
    return (factor,)


def reindex_bound(s: Expr, rest: Expr) -> Expr:
    """A sum whose indices do not occur in `rest`, so that `rest` may go inside."""
    taken = rest.atoms(sp.Symbol)
    new = {i: fresh_like(i, taken | s.atoms(sp.Symbol)) for i in bound(s) if i in taken}
    return rebound(s, lambda inner: inner, new) if new else s


def _scalars(e: Expectation, facts: Facts) -> Expr | None:
    if not isinstance(e.body, sp.Mul):
        return None
    out = [a for a in e.body.args if not copies_of(a) & e.copies]
    if not out:
        return None
    inside = sp.Mul(*(a for a in e.body.args if copies_of(a) & e.copies))
    return sp.Add(*(sp.Mul(*out, _over(e, a)) for a in sp.Add.make_args(inside)))


def components(body: Expr, facts: Facts) -> list[list[Expr]]:
    """The factors of a product, grouped by their sources of randomness."""
    groups: list[tuple[set[Generator], list[Expr]]] = []
    for factor in sp.Mul.make_args(body):
        roots, members = set(facts.of(factor).roots), [factor]
        apart = []
        for other, theirs in groups:
            if meet(other, roots):
                roots, members = roots | other, theirs + members
            else:
                apart.append((other, theirs))
        groups = [*apart, (roots, members)]
    return [members for _, members in groups]


def _independence(e: Expectation, facts: Facts) -> Expr | None:
    groups = components(e.body, facts)
    return sp.Mul(*(_over(e, sp.Mul(*g)) for g in groups)) if len(groups) > 1 else None


def _parity(e: Expectation, facts: Facts) -> Expr | None:
    return sp.Integer(0) if any(copy in e.copies for _, copy in facts.of(e.body).odd) else None


def _affine(e: Expectation, facts: Facts) -> Expr | None:
    """Brackets of sums of kets: only if every factor is Gaussian or a number, and no factor splits off."""
    body = e.body
    if not isinstance(body, sp.Mul | sp.Pow) or not body.has(sp.Add):
        return None
    if any(not _is_polynomial(f, facts) for f in sp.Mul.make_args(body)) or len(components(body, facts)) > 1:
        return None
    pairs = _correlated(body, facts)
    if pairs is not None:
        return _over(e, sp.Add(*pairs)) if len(pairs) <= MAX_TERMS else None
    wide = sp.expand_multinomial(sp.expand_mul(body))
    return _over(e, wide) if isinstance(wide, sp.Add) and len(wide.args) <= MAX_TERMS else None


def _correlated(body: Expr, facts: Facts) -> list[Expr] | None:
    """The products of a term of x and one of y in x y that do not vanish; None if the body is not a product of two factors."""
    x, y = (body.base, body.base) if isinstance(body, sp.Pow) and body.exp == 2 else (*body.args, None)[:2]
    if y is None or (isinstance(body, sp.Mul) and len(body.args) != 2):
        return None
    left, right = ([(t, facts.of(t)) for t in sp.Add.make_args(f)] for f in (x, y))
    if len(left) == len(right) == 1:
        return None
    found = []
    for a, p in left:
        for b, q in right:
            centred = any(g[1] == 0 for g in (*p.odd, *q.odd))
            if not centred or meet(p.roots, q.roots):
                found.append(a * b)
    return found


def _is_polynomial(factor: Expr, facts: Facts) -> bool:
    base = factor.base if isinstance(factor, sp.Pow) and factor.exp in (2, 3) else factor
    return facts.of(base).affine


def _products(e: Expectation, facts: Facts) -> list[tuple[Expr, Equation]]:
    """Factors |Wx>, to the first power, of an expectation over the row."""
    if e.copies != {0}:
        return []
    kets = [f for f in sp.Mul.make_args(e.body) if isinstance(f, Ket) and f.label in facts.definitions]
    found = [(k, facts.definitions[k.label]) for k in kets]
    return [(k, e) for k, e in found if e.hat is not None and e.time is None]


def _pairs(e: Expectation) -> list[tuple[Expr, Expr]]:
    """Two kets of the row among the factors (a square counts twice)."""
    if e.copies != {0}:
        return []
    factors = sp.Mul.make_args(e.body)
    kets = [f for f in factors if isinstance(f, Ket)]
    squares = [f.base for f in factors if isinstance(f, sp.Pow) and f.exp == 2 and isinstance(f.base, Ket)]
    return [(a, b) for i, a in enumerate(kets) for b in kets[i + 1 :]] + [(k, k) for k in squares]


def _hat_vanishes(e: Expectation, facts: Facts) -> Expr | None:
    for ket, equation in _products(e, facts):
        rest = sp.Mul(*(f for f in sp.Mul.make_args(e.body) if f != ket))
        if facts.depends(rest, facts.generators[ket.label]):
            continue
        dots = equation.dot_expression()
        return _over(e, rest * equation.at(ket, dots)) if dots != 0 else sp.Integer(0)
    return None


def _isometry(e: Expectation, facts: Facts) -> Expr | None:
    """<Wx|Wx'> = σ²<x|x'> if neither has a dot; `rest` must not depend on the matrix."""
    for a, b in _pairs(e):
        value = _pair(a, b, facts)
        rest = e.body / (a * b)
        if value is not None and not facts.depends(rest, facts.generators[a.label]):
            return value * _over(e, rest)
    return None


def _pair(a: Expr, b: Expr, facts: Facts) -> Expr | None:
    left, right = facts.definitions.get(a.label), facts.definitions.get(b.label)
    if left is None or right is None or left.hat is None or right.hat is None or left.dot or right.dot:
        return None
    if left.time is not None or right.time is not None:
        return None
    if facts.generators[a.label] != facts.generators[b.label]:
        return None
    x, y = left.hat.at(left, a), right.hat.at(right, b)
    members = zip(left.hat.symbol.member, right.hat.symbol.member, strict=True)
    same = sp.Mul(*(sp.KroneckerDelta(left.at(a, m), right.at(b, n)) for m, n in members))
    return same * left.at(a, left.hat.scale) * Expectation(x * y)


def _affine_mean(e: Expectation, facts: Facts) -> Expr | None:
    """<1|x> of an affine ket, written out."""
    ket = e.body
    if not isinstance(ket, Ket) or e.copies != {0} or ket.copy_number or ket.label not in facts.definitions:
        return None
    definition = _affine_definition(ket, facts)
    return None if definition is None else _over(e, definition)


def _initial_mean(e: Expectation, facts: Facts) -> Expr | None:
    ket = e.body
    if not isinstance(ket, Ket) or e.copies != {ket.copy_number} or ket.label not in facts.definitions:
        return None
    equation = facts.definitions[ket.label]
    return equation.at(ket, equation.mean) if equation.kind == "initial" and equation.mean is not None else None


def _initial_pair(e: Expectation, facts: Facts) -> Expr | None:
    """E[u_i u_j] = Cov(u_i, u_j) + E u_i E u_j; `rest` may not see the family."""
    for a, b in _pairs(e):
        left, right = facts.definitions.get(a.label), facts.definitions.get(b.label)
        rest = e.body / (a * b)
        if (
            left is None
            or right is None
            or left is not right
            or left.covariance is None
            or left.kind != "initial"
            or facts.depends(rest, ("ket", left.name))
        ):
            continue
        mapping = dict(zip(left.symbol.indices, a.indices, strict=True))
        mapping |= {left.primed[i]: v for i, v in zip(left.symbol.indices, b.indices, strict=True)}
        return (reindex(left.covariance, mapping) + left.at(a, left.mean) * left.at(b, left.mean)) * _over(e, rest)
    return None


def _definition(e: Expectation, facts: Facts) -> Expr | None:
    """A bracket of two affine kets, if writing them out gives little more than a number; otherwise it stays a bracket of names."""
    pairs = _pairs(e)
    if len(pairs) != 1 or pairs[0][0] * pairs[0][1] != e.body:
        return None
    definitions: dict[Ket, Any] = {k: _affine_definition(k, facts) for k in pairs[0]}
    later = max(
        (k for k in definitions if definitions[k] is not None), key=lambda k: facts.order(k.label), default=None
    )
    if later is None:
        return None
    if e not in facts.brackets:
        a, b = pairs[0]
        other = b if a == later else a
        body = definitions[later] * (definitions[later] if other == later else other)
        facts.depth += 1
        value = simplify(_over(e, body), facts)
        facts.depth -= 1
        facts.brackets[e] = value if is_short(value) else None
    return facts.brackets[e]


def is_short(value: Expr) -> bool:
    """Shorter than a bracket: a number, or a delta. Longer values are stated together with their bracket (brackets.py)."""
    return not value.has(Expectation, sp.Sum) and value.count_ops() <= _SHORT


def _affine_definition(ket: Ket, facts: Facts) -> Expr | None:
    equation = facts.definitions[ket.label]
    if equation.kind != "ket" or not facts.kets[ket.label].affine:
        return None
    return equation.at(ket, equation.expression)


def _delta(expr: Expr) -> Expr | None:
    """Σ_j δ_ij c_j = c_i, for an index i that runs over the same axis (it does: axes are nominal)."""
    if not isinstance(expr, sp.Sum):
        return None
    factors = sp.Mul.make_args(expr.function)
    for factor in (f for f in factors if isinstance(f, sp.KroneckerDelta)):
        for index, other in (factor.args, factor.args[::-1]):
            if index in bound(expr) and index not in other.free_symbols:
                body = reindex(sp.Mul(*(f for f in factors if f is not factor)), {index: other})
                rest = [limit for limit in expr.limits if limit[0] != index]
                return sp.Sum(body, *rest) if rest else body
    return None


RULES: tuple[Rule, ...] = (
    Rule("constant", "E[c]", "c", "c is random in no copy that E averages", _constant),
    Rule("nested", "E[E⁽ᵏ⁾[x]]", "E⁽⁰ᵏ⁾[x]", "different copies", _nested, "Fubini"),
    Rule("copies", "E⁽ᵏ⁾[x⁽ᵏ⁾]", "E[x]", "x is random in copy k alone", _row_of_copies, "copies are equal in law"),
    Rule("sum", "E[x + y]", "E[x] + E[y]", "always", _sum),
    Rule("index sum", "E[Σ_i x_i y]", "Σ_i E[x_i y]", "i not in y (renamed)", _indexed_sum),
    Rule("scalar", "E[c x]", "c E[x]", "c is random in no copy that E averages", _scalars),
    Rule("independence", "E[x y]", "E[x] E[y]", "x, y share no generator", _independence, "TP IVb, Def 2.6.5"),
    Rule("parity", "E[x]", "0", "x is odd in a centred generator, or in all", _parity, "symmetry of the Gaussian"),
    Rule("brackets", "E[(x + y) z]", "E[x z] + E[y z]", "x, y, z Gaussian, not independent", _affine),
    Rule("hat", "⟨y|Wx⟩", "⟨y|Ẇx⟩", "y does not depend on hats of W", _hat_vanishes, "TP IVb, Def 2.6.5 (Hat)", True),
    Rule("isometry", "⟨W_l x|W_m x′⟩", "δ_lm σ²⟨x|x′⟩", "no dots", _isometry, "TP IVb, Def 2.6.5 (Hat)", True),
    Rule("covariance", "⟨u|u′⟩", "the declared one", "u, u′ initial", _initial_pair, "TP IVb, Def 2.6.3"),
    Rule("definition", "⟨x|y⟩", "a number", "x, y affine in Gaussians", _definition, deep=True),
    Rule("affine", "⟨1|x⟩", "of its terms", "x affine in Gaussians", _affine_mean, deep=True),
    Rule("mean", "⟨1|u⟩", "the declared mean", "u an initial ket", _initial_mean, "TP IVb, Def 2.6.3"),
)


def simplify(expr: Expr, facts: Facts, rules: Sequence[Rule] = RULES) -> Expr:
    """Rewrites every expectation in `expr`, inner ones first, until no rule applies."""
    expr = rebuild(expr, softmax)
    if expr.has(Expectation):
        expr = rebuild(expr, lambda e: _normal(e, facts, rules) if isinstance(e, Expectation) else None)
    if expr.has(Reduce):
        expr = rebuild(expr, lambda e: _repeated(e, facts) if isinstance(e, Reduce | Softmax) else None)
    return collapsed(expr)


def _repeated(e: Expr, facts: Facts) -> Expr | None:
    """The maximum, product, log-sum-exp and softmax of a family of equal numbers."""
    op, body, index = ("softmax", *e.args[:2]) if isinstance(e, Softmax) else (e.args[0].name, *e.args[1:])
    body = rebuild(body, lambda x: _repeated(x, facts) if isinstance(x, Reduce | Softmax) else None)
    if index in body.free_symbols or index not in facts.sizes:
        return None
    size = sp.Integer(facts.sizes[index])
    return {"softmax": 1 / size, "logsumexp": body + sp.log(size), "prod": body**size}.get(op, body)


def collapsed(expr: Expr) -> Expr:
    """Sums over deltas carried out, and numbers in front of sums."""
    if expr.has(sp.Sum):
        expr = rebuild(expr, number_in_front)
    while expr.has(sp.KroneckerDelta) and expr.has(sp.Sum):
        following = rebuild(expr, lambda e: _delta(_inner(e)) if isinstance(e, sp.Sum) else None)
        if following == expr:
            return expr
        expr = following
    return expr


def number_in_front(s: Expr) -> Expr | None:
    """Σ_i x_i/2 as 1/2 Σ_i x_i: a rule for `rebuild`."""
    if not isinstance(s, sp.Sum):
        return None
    number, rest = rebuild(s.function, number_in_front).as_coeff_Mul()
    return None if number == 1 and rest == s.function else number * sp.Sum(rest, *s.limits)


def _inner(s: Expr) -> Expr:
    """Σ_i c_i Σ_j x_ij as Σ_i Σ_j c_i x_ij if the inner sum contains a delta, so that the delta can act on its index."""
    for factor in sp.Mul.make_args(s.function):
        if isinstance(factor, sp.Sum) and factor.has(sp.KroneckerDelta):
            rest = sp.Mul(*(f for f in sp.Mul.make_args(s.function) if f is not factor))
            inner = reindex_bound(factor, rest)
            found = _delta(sp.Sum(rest * inner.function, *inner.limits))
            return s if found is None else sp.Sum(found, *s.limits)
    return s


def _normal(e: Expectation, facts: Facts, rules: Sequence[Rule]) -> Expr:
    e = Expectation(simplify(e.body, facts, rules), e.args[1])
    for row in rules:
        if row.deep and facts.depth >= MAX_DEPTH:
            continue
        found = row.apply(e, facts)
        if found is not None:
            facts.depth += row.deep
            found = simplify(found, facts, rules)
            facts.depth -= row.deep
            return found
    return e


def softmax(expr: Expr) -> Expr | None:
    """exp(x_t − log Σ_τ exp x_τ) = softmax_t(x)."""
    if not isinstance(expr, sp.exp) or not isinstance(expr.args[0], sp.Add):
        return None
    for term in expr.args[0].args:
        lse = -term
        if isinstance(lse, Reduce) and lse.args[0].name == "logsumexp":
            rest, index = expr.args[0] - term, lse.args[2]
            at = _position(rest, lse.args[1], index)
            return None if at is None else Softmax(lse.args[1], index, at)
    return None


def _position(rest: Expr, body: Expr, index: Expr) -> Expr | None:
    """The places where `rest` reads the family `body` over `index`."""
    if rest == body:
        return index
    candidates = [s for s in rest.atoms(sp.Symbol, sp.Integer) if s != index]
    return next((s for s in candidates if reindex(body, {index: s}) == rest), None)
