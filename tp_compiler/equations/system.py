"""A system of limit equations: named equations in program order, never one nested expression."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import sympy as sp

from tp_compiler.equations.graph import DependencyGraph, graph
from tp_compiler.equations.terms import Expectation, Expr, Hat, Learned, Named, Scalar, reindex
from tp_compiler.pages import Shown, written


@dataclass(frozen=True)
class HatPart:
    """Ŵ|x>: centred Gaussian, Cov(Ŵ|x>, Ŵ|x'>) = `scale`·<x|x'>, independent of other hats and initial kets.

    `primed` renames the family's indices for the second argument of `covariance`.
    """

    symbol: Hat
    scale: Expr
    primed: Mapping[Expr, Expr]
    single: bool = True  # False where members of a family of matrices are batched: then other members are independent

    @property
    def argument(self) -> Expr:
        return self.symbol.argument

    @property
    def covariance(self) -> Expr:
        """Between the family's hats at the indices and at the primed indices."""
        return self.scale * Expectation(self.argument * reindex(self.argument, self.primed))

    def at(self, equation: Equation, ket: Expr) -> Expr:
        """The argument for another member of the family than the one with the equation's own indices."""
        return equation.at(ket, self.argument)


@dataclass(frozen=True)
class DotTerm:
    """`coefficient`·|y>, summed over the indices `over`. Unpacks as (ket, coefficient).

    `derivative` is E[∂|x>/∂Ŵᵀ|y>], unevaluated (times δ if only one member of a family of matrices is applied to |y>):
    times `scale` (σ², or ρσ²) it is the coefficient; None in the Stein form. `symbol` is the name that other equations
    use for the coefficient. In a training loop |y_s> is also summed over the steps from 0 to `last`: `steps` is
    (s, last).
    """

    ket: Expr
    coefficient: Expr
    over: tuple[tuple[Expr, int], ...] = ()
    derivative: Expr | None = None
    scale: Expr = 1
    symbol: Expr | None = None
    steps: tuple[Expr, Expr] | None = None

    def __iter__(self) -> Iterator[Expr]:
        return iter((self.ket, self.coefficient))

    def term(self) -> Expr:
        """The term as other equations read it."""
        return self.summed((self.coefficient if self.symbol is None else self.symbol) * self.ket)

    def summed(self, value: Expr) -> Expr:
        """`value` summed over the indices of the term."""
        if self.over:
            value = sp.Sum(value, *((i, 1, n) for i, n in self.over))
        return sp.Sum(value, (self.steps[0], 0, self.steps[1])) if self.steps else value


@dataclass(frozen=True, repr=False)
class Equation(Shown):
    """`symbol` = `expression`.

    `kind`: initial (|u> ~ N(mean, covariance), or another `law` with its `parameters`), product (hat + dot), ket
    (entrywise), scalar, clt (jointly Gaussian, mean 0, `covariance`; `others` are earlier families, over primed
    indices, with the covariance where that is not 0), derivative (of `meaning`), coefficient (of a dot, `meaning` its
    expectation), bracket (`meaning` is the bracket, its own name). `closed_form` is the formula of an expectation, where known.

    In a training loop a symbol has the number of updates as an index, `time`. Kinds that occur only in loops: state (`expression` at
    t + 1, `start` at 0), entry (of a gradient by a matrix), operator (what a linear optimizer adds to a matrix), weight
    (its coefficients, `start` at t = s + 1). A product with a trained matrix is `keep` (hat + dot) + `learned`.
    """

    symbol: Named
    kind: str
    expression: Expr
    hat: HatPart | None = None
    dot: tuple[DotTerm, ...] = ()
    mean: Expr | None = None
    covariance: Expr | None = None
    law: str = "normal"
    parameters: tuple[Expr, ...] = ()
    primed: Mapping[Expr, Expr] = field(default_factory=dict)
    others: tuple[tuple[Expr, Expr], ...] = ()
    meaning: Expr | None = None
    closed_form: Expr | None = None
    output: bool = False
    time: Expr | None = None
    start: Expr | None = None
    keep: Expr = sp.S.One
    learned: Expr | None = None
    update: Learned | None = None

    def _brief(self) -> str:
        return f"Equation of {self.name}"

    @property
    def name(self) -> str:
        return self.symbol.label

    @property
    def is_ket(self) -> bool:
        return not isinstance(self.symbol, Scalar)

    @property
    def free_symbols(self) -> set[Expr]:
        return set(self.expression.free_symbols)

    def dot_expression(self) -> Expr:
        """Ẇ|x> as a sum of kets."""
        return sp.Add(*(t.term() for t in self.dot))

    def at(self, ket: Expr, expression: Expr) -> Expr:
        """`expression`, written in the equation's own indices, for the member `ket` of the family."""
        return reindex(expression, dict(zip(self.symbol.indices, ket.indices, strict=True)))

    def _mapped(self, change: Any) -> Equation:
        values = {n: getattr(self, n) for n in ("expression", "mean", "covariance", "closed_form", "start", "learned")}
        changed = {n: change(v) for n, v in values.items() if v is not None}
        return replace(self, **changed, parameters=tuple(map(change, self.parameters)))

    def subs(self, *args: Any, **kwargs: Any) -> Equation:
        """SymPy's `subs` on the right side."""
        return self._mapped(lambda e: e.subs(*args, **kwargs))

    def doit(self, **hints: Any) -> Equation:
        """SymPy's `doit` on the right-hand side: sums over indices are written out; expectations stay."""
        return self._mapped(lambda e: e.doit(**hints))


@dataclass(frozen=True)
class LimitMatrix:
    """A matrix of the program: entries of variance σ²/n; `ratio` ρ = lim rows/columns.

    Where it is trained, W_t = `keep` W + `update`, over t and the indices of the family.
    """

    name: str
    indices: tuple[Expr, ...]
    variance: Expr
    ratio: Expr
    law: str
    widths: tuple[str, str]
    update: Expr | None = None
    keep: Expr = sp.S.One


@dataclass(frozen=True)
class TrainingClock:
    """The steps of a training loop: `time` (t) and `earlier` (s) count updates, 0, 1, ..., `steps`."""

    time: Expr
    earlier: Expr
    steps: int


@dataclass(frozen=True, repr=False)
class System(Shown):
    """The limit equations of a program. `system["h2"]` is an equation; "|x>" is the ket x if there is also a scalar x, and
    "<x|y>" the statement about a bracket. `clock` is None if nothing is trained.

    `sizes`: an index i runs over 1, ..., sizes[i] (the clock over 0, 1, ..., sizes[t] - 1). `data`: the numbers of the
    program's data, over the indices that a `Data` term has, as nested sequences or arrays.
    """

    equations: tuple[Equation, ...]
    matrices: tuple[LimitMatrix, ...]
    remarks: tuple[str, ...] = ()
    clock: TrainingClock | None = None
    sizes: Mapping[Expr, int] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def _scalars(self) -> dict[str, Equation]:
        return {e.name: e for e in self.equations if not e.is_ket}

    @cached_property
    def _kets(self) -> dict[str, Equation]:
        return {e.name: e for e in self.equations if e.is_ket}

    def __iter__(self) -> Iterator[Equation]:
        return iter(self.equations)

    def __len__(self) -> int:
        return len(self.equations)

    def __contains__(self, name: str) -> bool:
        return name in self._scalars or name.strip("|>⟩") in self._kets

    def __getitem__(self, name: str) -> Equation:
        key = name.replace(" ", "")
        if key in self._scalars:
            return self._scalars[key]
        if key.strip("|>⟩") in self._kets:
            return self._kets[key.strip("|>⟩")]
        raise KeyError(f"no equation is named {name!r}; the names are {', '.join(e.name for e in self.equations)}")

    @property
    def outputs(self) -> tuple[Equation, ...]:
        return tuple(e for e in self.equations if e.output)

    def covariance(self, left: Equation, right: Equation) -> Expr:
        """Cov of the hats of two products: σ²<x|x'> for one matrix in one orientation, else 0 (TP IVb, Def 2.6.5)."""
        a, b = left.hat, right.hat
        if a is None or b is None:
            raise ValueError("only products W|x> have a hat")
        if (a.symbol.args[0], a.symbol.args[1]) != (b.symbol.args[0], b.symbol.args[1]):
            return sp.Integer(0)
        same = sp.Mul(*(sp.KroneckerDelta(i, j) for i, j in zip(a.symbol.member, b.symbol.member, strict=True)))
        if left is right:
            return a.covariance
        return same * a.scale * Expectation(a.argument * b.argument)

    def graph(self) -> DependencyGraph:
        """Which quantity depends on which: `.dot()` for Graphviz, `.plot(path)` draws it."""
        return graph(self)

    def unicode(self) -> str:
        """Plain text, one equation a paragraph."""
        return str(written(self, "text"))

    def latex(self) -> str:
        """An `align*` environment (amsmath), which breaks between equations and inside long ones."""
        return str(written(self, "latex"))

    def markdown(self) -> str:
        """Markdown with one displayed formula an equation."""
        return str(written(self, "markdown"))

    def _brief(self) -> str:
        outputs = ", ".join(e.name for e in self.outputs)
        return f"System of {len(self)} equations{': ' if outputs else ''}{outputs}"
