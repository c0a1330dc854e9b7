"""Dots: Ẇ|x> = σ² Σ_y |y> E[∂|x>/∂Ŵᵀ|y>] over the earlier products Wᵀ|y> that |x> depends on (TP IVb, Def 2.6.5).

The derivative is total: it follows named kets by the chain rule, in program order and without recursion on the
program. A derivative that is not a small term becomes a separate equation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import sympy as sp

from tp_compiler.equations import laws
from tp_compiler.equations.differentiate import NoDerivative, differentiate
from tp_compiler.equations.facts import Character, Facts, total
from tp_compiler.equations.names import Names
from tp_compiler.equations.system import DotTerm, Equation, HatPart
from tp_compiler.equations.terms import Expectation, Expr, Hat, Ket, Partial, Scalar, Stein, copies_of, reindex

#: A derivative of more operations than this is named.
_LONG = 16
#: So many definitions are followed back in search of a factor of mean zero.
_DEPTH = 5


class Dots:
    """Finds the dots of products, in program order; `emit` adds equations, `clean` simplifies."""

    def __init__(
        self, names: Names, facts: Facts, clean: Callable[[Expr], Expr], emit: Callable[[Equation], Any]
    ) -> None:
        self.names, self.facts, self.clean, self.emit = names, facts, clean, emit
        self.products: dict[tuple[str, bool], list[Equation]] = {}
        self._slopes: dict[tuple[str, str], Expr] = {}  # (ket, product) -> derivative in the product's hat

    def register(self, equation: Equation) -> None:
        """Registers a product for later ones."""
        assert equation.hat is not None
        key = (equation.hat.symbol.matrix, equation.hat.symbol.transposed)
        self.products.setdefault(key, []).append(equation)

    def character(self, equation: Equation) -> Character:
        """The sources of randomness in |Wx>: its hat, and the kets of its dots."""
        assert equation.hat is not None
        hat = self.facts.centred(self.facts.generators[equation.name], equation.name)
        return total([hat, *(self.facts.of(t.ket) for t in equation.dot)])

    def terms(self, symbol: Expr, hat: HatPart, variance: Expr, rho: Expr) -> tuple[DotTerm, ...]:
        """The dot terms of W|x>, those that vanish left out."""
        x, own = hat.argument, hat.symbol
        roots = self.facts.of(x).roots
        earlier = self.products.get((own.matrix, not own.transposed), [])
        uses = [e for e in earlier if (("hat", e.name), 0) in roots and _compatible(e, own)]
        scale = laws.dot_scale(variance, rho, own.transposed)
        try:
            found = [t for use in uses for t in self._derived(symbol, x, own, use, scale)]
        except NoDerivative:
            if all(self._uncorrelated(x, own, use) for use in uses):
                return ()
            factor = laws.stein_scale(rho, own.transposed)
            found = [self._stein(symbol, x, own, use, uses, factor) for use in uses]
        return tuple(found)

    def _uncorrelated(self, x: Expr, own: Hat, use: Equation) -> bool:
        """E[Ĝ x] = 0, for example if |x> has a factor of mean zero that is independent of the others."""
        assert use.hat is not None
        hat = reindex(use.hat.symbol, self._target(own, use)[0])
        return any(self.clean(Expectation(sp.expand_mul(hat * body))) == 0 for body in self._written_out(x))

    def _written_out(self, x: Expr) -> Iterable[Expr]:
        """x, and x with the definitions of its kets put in, a few of them deep."""
        for _ in range(_DEPTH):
            yield x
            known = {k: self.facts.definitions[k.label] for k in x.atoms(Ket) if not k.copy_number}
            follow = {
                k: e.at(k, e.expression)
                for k, e in known.items()
                if e.kind == "ket" and e.time is None and not self.facts.kets[k.label].affine
            }
            if not follow or sp.count_ops(x) > _LONG * _DEPTH:
                return
            x = x.xreplace(follow)

    # -- in a training loop --------------------------------------------------------------------------------------
    def over_steps(
        self, symbol: Expr, hat: HatPart, uses: Sequence[tuple[Equation, bool]], variance: Expr, rho: Expr, jumps: bool
    ) -> tuple[DotTerm, ...]:
        """Ẇ|x_t> = σ² Σ_y Σ_s |y_s> E[∂|x_t>/∂Ŵᵀ|y_s>], s < t, or s ≤ t where |x_t> depends on Wᵀ|y_t> itself.

        Derivatives go through the steps and are not carried out; where functions jump, the Stein form is stated.
        """
        x, own = hat.argument, hat.symbol
        scale = laws.dot_scale(variance, rho, own.transposed)
        found = [self._at_step(own, use, now) for use, now in uses if _compatible(use, own)]
        if not jumps:
            return tuple(
                DotTerm(y, scale * derivative, over, derivative, scale, steps=steps)
                for y, to, over, deltas, steps in found
                for derivative in [deltas * Expectation(Partial(x, to))]
            )
        factor = laws.stein_scale(rho, own.transposed)
        kets, hats = [y for y, *_ in found], [to for _, to, *_ in found]
        ranges = [r for *_, r in found if r is not None]
        terms = []
        for y, _, over, deltas, steps in found:
            mine = {i: self.names.prime(i) for i, _ in over}
            here = reindex(y, mine)
            value = factor * deltas * Stein(here, kets, hats, x, [i for _, _, o, *_ in found for i, _ in o], ranges)
            indices = [*symbol.indices, *(steps or ())[:1], *mine.values()]
            name = Scalar(self.names.fresh("θ", False), *(i for i in indices if i in value.free_symbols))
            self.emit(Equation(name, "coefficient", value, time=self.names.time))
            terms.append(DotTerm(here, value, tuple((mine[i], n) for i, n in over), None, factor, name, steps))
        return tuple(terms)

    def _at_step(self, own: Hat, use: Equation, now: bool) -> tuple[Any, ...]:
        """|y_s> and its hat, the indices they are summed over, deltas of members, and the steps."""
        assert use.hat is not None
        target, over, deltas = self._target(own, use)
        steps = None
        if use.time is not None:
            over = [i for i in over if i != self.names.prime(use.time)]
            target[use.time] = self.names.earlier
            if use.hat.symbol.has(use.time):
                steps = self.names.earlier, self.names.time - (0 if now else 1)
        y, to = (reindex(e, target) for e in (use.hat.argument, use.hat.symbol))
        return y, to, tuple((i, self.names.sizes[i]) for i in over), deltas, steps

    # -- the derivative form -------------------------------------------------------------------------------------
    def _derived(self, symbol: Expr, x: Expr, own: Hat, use: Equation, scale: Expr) -> Iterable[DotTerm]:
        assert use.hat is not None
        target, over, deltas = self._target(own, use)
        slope = self._slope_of(x, use)
        slope = reindex(slope, {self.names.prime(s): target[s] for s in use.symbol.indices})
        expectation = self.clean(Expectation(slope))
        y, hat = (reindex(e, target) for e in (use.hat.argument, use.hat.symbol))
        groups = _grouped(expectation, over)
        if len(groups) > 1:  # members may meet: E[∂|x_i>/∂Ŵ|x_j>] is one derivative, also at j = i
            groups = [({}, expectation)]
        for chosen, part in groups:
            ket, to, left = reindex(y, chosen), reindex(hat, chosen), [i for i in over if i not in chosen]
            yield self._term(symbol, ket, scale * deltas * part, deltas * Expectation(Partial(x, to)), scale, left)

    def _term(
        self, symbol: Expr, ket: Expr, value: Expr, derivative: Expr | None, scale: Expr, over: list[Expr]
    ) -> DotTerm:
        name = None
        if not value.is_number:
            indices = [i for i in [*symbol.indices, *over] if i in value.free_symbols]
            name = Scalar(self.names.fresh("θ", False), *indices)
            meaning = scale * derivative if derivative is not None else None
            self.emit(Equation(name, "coefficient", value, meaning=meaning))
        return DotTerm(ket, value, tuple((i, self.names.sizes[i]) for i in over), derivative, scale, name)

    def _target(self, own: Hat, use: Equation) -> tuple[dict[Expr, Expr], list[Expr], Expr]:
        """The indices of the earlier product: those of the matrix are our own, the others are summed over."""
        assert use.hat is not None
        target: dict[Expr, Expr] = {}
        deltas = sp.Integer(1)
        for mine, theirs in zip(own.member, use.hat.symbol.member, strict=True):
            if theirs.is_Symbol and theirs not in target:
                target[theirs] = mine
            else:
                deltas *= sp.KroneckerDelta(mine, target.get(theirs, theirs))
        over = []
        for s in use.symbol.indices:
            if s not in target:
                target[s] = self.names.prime(s)
                over.append(target[s])
        return target, over, deltas

    def _slope_of(self, x: Expr, use: Equation) -> Expr:
        """d x / d (hat of use), over the primed indices of `use`."""
        for label in self._between(x, use):
            self._slopes[label, use.name] = self._slope_of_ket(label, use)
        return differentiate(x, lambda ket: self._known(ket, use))

    def _known(self, ket: Ket, use: Equation) -> Expr:
        slope = self._slopes.get((ket.label, use.name), sp.Integer(0))
        return self.facts.definitions[ket.label].at(ket, slope) if slope != 0 else slope

    def _depends(self, label: str, use: Equation) -> bool:
        return (("hat", use.name), 0) in self.facts.kets[label].roots

    def _between(self, x: Expr, use: Equation) -> list[str]:
        """Kets on the way from `use` to x whose derivative is not known yet, in program order."""
        found: dict[str, None] = {}
        todo = [k.label for k in x.atoms(Ket)]
        while todo:
            label = todo.pop()
            if label in found or (label, use.name) in self._slopes or not self._depends(label, use):
                continue
            found[label] = None
            equation = self.facts.definitions[label]
            inside = equation.dot_expression() if equation.hat is not None else equation.expression
            todo += [k.label for k in inside.atoms(Ket)]
        order = {label: k for k, label in enumerate(self.facts.kets)}
        return sorted(found, key=lambda label: order[label])

    def _slope_of_ket(self, label: str, use: Equation) -> Expr:
        equation = self.facts.definitions[label]
        formal = equation.symbol.indices
        if equation.hat is None:
            slope = differentiate(equation.expression, lambda ket: self._known(ket, use))
        else:
            slope = differentiate(equation.dot_expression(), lambda ket: self._known(ket, use))
            if label == use.name:
                slope += sp.Mul(*(sp.KroneckerDelta(s, self.names.prime(s)) for s in formal))
        return self._short(equation.symbol, slope, use) if sp.count_ops(slope) > _LONG else slope

    def _short(self, symbol: Expr, slope: Expr, use: Equation) -> Expr:
        """A name for a long derivative; deltas stay in front, where sums can use them."""
        if 0 not in copies_of(slope):
            return slope
        factors = sp.Mul.make_args(slope)
        deltas = [f for f in factors if isinstance(f, sp.KroneckerDelta)]
        body = self.clean(sp.Mul(*(f for f in factors if f not in deltas)))
        targets = {s: self.names.prime(s) for s in use.symbol.indices}
        own = [i for i in [*symbol.indices, *targets.values()] if i in body.free_symbols]
        ket = Ket(self.names.fresh("d", True), 0, *own)
        assert use.hat is not None
        meaning = Partial(symbol, reindex(use.hat.symbol, targets))
        self.emit(Equation(ket, "derivative", body, meaning=meaning))
        return sp.Mul(ket, *deltas)

    # -- the Stein form ------------------------------------------------------------------------------------------
    def _stein(self, symbol: Expr, x: Expr, own: Hat, use: Equation, uses: list[Equation], factor: Expr) -> DotTerm:
        """No derivative: the coefficients of Ẇ|x> = ρ⁻¹|Y><Y|Y>⁺<Ĝ|x>."""
        kets, hats, ranges = [], [], []
        for e in uses:
            assert e.hat is not None
            target, over, _ = self._target(own, e)
            kets.append(reindex(e.hat.argument, target))
            hats.append(reindex(e.hat.symbol, target))
            ranges += over
        target, over, deltas = self._target(own, use)
        assert use.hat is not None
        mine = {s: self.names.prime(s) for s in over}
        y = reindex(reindex(use.hat.argument, target), mine)
        value = factor * deltas * Stein(y, kets, hats, x, sorted(set(ranges), key=str))
        return self._term(symbol, y, self.clean(value), None, factor, [mine[i] for i in over])


def _compatible(use: Equation, own: Hat) -> bool:
    """May the two products use the same member of the family?"""
    assert use.hat is not None
    pairs = zip(own.member, use.hat.symbol.member, strict=True)
    return all(not (a.is_Integer and b.is_Integer and a != b) for a, b in pairs)


def _grouped(expectation: Expr, over: list[Expr]) -> list[tuple[dict[Expr, Expr], Expr]]:
    """The terms of a coefficient, added up if deltas fix the same indices."""
    groups: dict[tuple[tuple[Expr, Expr], ...], Expr] = {}
    wide = sp.expand_mul(expectation) if expectation.has(sp.KroneckerDelta) else expectation
    for term in sp.Add.make_args(wide):
        chosen, part = _collapsed(term, over)
        key = tuple(sorted(chosen.items(), key=str))
        groups[key] = groups.get(key, sp.Integer(0)) + part
    return [(dict(key), part) for key, part in groups.items() if part != 0]


def _collapsed(term: Expr, over: list[Expr]) -> tuple[dict[Expr, Expr], Expr]:
    """Σ_j δ_ij c_j: the summed indices that a delta fixes, and the remaining term."""
    chosen: dict[Expr, Expr] = {}
    rest = []
    for factor in sp.Mul.make_args(term):
        if isinstance(factor, sp.KroneckerDelta):
            a, b = factor.args
            free = next((i for i in (a, b) if i in over and i not in chosen), None)
            if free is not None:
                chosen[free] = b if free == a else a
                continue
        rest.append(factor)
    return chosen, reindex(sp.Mul(*rest), chosen)
