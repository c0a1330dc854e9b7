"""Notes on a page of equations: ranges of indices, and explanations where they are needed."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import sympy as sp

from tp_compiler.equations.system import Equation, System
from tp_compiler.equations.terms import Data, Entry, Expectation, Expr, Joined, Ket, Linalg, Missing, Named, Stein, like


@dataclass(frozen=True)
class Note:
    """A sentence as text and as LaTeX, and when it is needed; placed before the equations if `in_front`, otherwise after."""

    text: str
    tex: str
    when: Callable[[System], bool]
    in_front: bool = False

    @property
    def web(self) -> str:
        r"""The LaTeX for readers of formulas alone, which do not know `\texttt`."""
        return re.sub(r"\\texttt{(\w+)}", r"\1", self.tex)


def expressions(e: Equation) -> list[Expr]:
    """Everything that is stated about an equation."""
    own = (e.symbol if e.kind != "bracket" else None, e.expression if e.kind != "product" else None)
    parts = [*own, e.mean, e.covariance, *e.parameters, e.closed_form, e.meaning, e.start, e.learned, e.keep]
    hats = [e.hat.symbol, e.hat.covariance] if e.hat is not None else []
    dots = [x for t in e.dot for x in (t.ket, t.coefficient, t.derivative, *(i for i, _ in t.over))]
    return [x for x in (*parts, *hats, *dots, *(x for pair in e.others for x in pair)) if x is not None]


def symbols(system: System) -> list[Expr]:
    """The indices that equations are written with, in order of appearance, without primes."""
    found: dict[Expr, None] = {}
    matrices = [sp.Tuple(*m.indices) for m in system.matrices]
    for x in [*matrices, *(x for e in system for x in expressions(e))]:
        own = {like(s, s.name.rstrip("′\u0303")) for s in x.atoms(sp.Symbol) if s.is_integer}
        found |= dict.fromkeys(sorted(own, key=str))
    return list(found)


def ranges(system: System, p: Any) -> str:
    """i, j = 1, 2; d = 1, ..., 5."""
    clock = {system.clock.time, system.clock.earlier} if system.clock is not None else set()
    by_size: dict[tuple[int, int], list[Expr]] = {}
    for s in symbols(system):
        if s in system.sizes and s not in clock:
            first = 1 if s.is_positive else 0
            by_size.setdefault((first, system.sizes[s]), []).append(s)
    return p.between.join(
        f"{', '.join(p.doprint(i) for i in group)} = {_counted(first, size, p)}"
        for (first, size), group in by_size.items()
    )


def _counted(first: int, size: int, p: Any) -> str:
    every = [str(k) for k in range(first, first + size)] if size <= 3 else [str(first), p.dots, str(first + size - 1)]
    return ", ".join(every)


def needed(system: System) -> list[Note]:
    """The notes that something in the equations asks for."""
    return [note for note in NOTES if note.when(system)]


def around(system: System) -> tuple[list[Note], list[Note]]:
    """The notes before the equations, and those after them."""
    found = needed(system)
    return [note for note in found if note.in_front], [note for note in found if not note.in_front]


def remarks(system: System) -> list[str]:
    """The remarks as sentences."""
    return [f"{r[:1].upper()}{r[1:]}." for r in system.remarks]


def _has(*kinds: type) -> Callable[[System], bool]:
    return lambda system: any(x.has(*kinds) for e in system for x in expressions(e))


def _has_copies(system: System) -> bool:
    atoms = (x.atoms(Ket, Expectation) for e in system for x in expressions(e))
    return any(n.copy_number if isinstance(n, Ket) else n.copies - {0} for found in atoms for n in found)


def _is_shifted(system: System) -> bool:
    """Is a member read at i - 1, so that it may lie outside the axis?"""
    clock = {system.clock.time, system.clock.earlier} if system.clock is not None else set()
    named = {n for e in system for x in expressions(e) for n in x.atoms(Named)}
    return any(i.is_Add and not i.free_symbols & clock and not i.has(Data) for n in named for i in n.indices)


def _uses(op: str, hidden: bool | None = None) -> Callable[[System], bool]:
    def when(system: System) -> bool:
        found = {n for e in system for n in e.expression.atoms(Linalg)}
        return any(n.op == op and (hidden is None or bool(n.hidden) == hidden) for n in found)

    return when


_OPERATOR = "K = ⟨e|e⟩"
_TEX_OPERATOR = r"$K = \langle e|e\rangle$"


def _spectral(op: str, arguments: str, f: str, tex_f: str) -> tuple[Note, Note]:
    """A function f of an operator s + |e>C<e|, and of it applied to |e>B."""
    return (
        Note(
            f"{op}({arguments}) is the C′ of f(s + |e⟩C⟨e|) = f(s) + |e⟩C′⟨e| for {f}, where {_OPERATOR}",
            rf"$\text{{{op}}}({arguments})$ is the $C'$ of $f(s + |e\rangle C\langle e|) = f(s) + |e\rangle C'\langle e|$ for {tex_f},"
            rf" where {_TEX_OPERATOR}.",
            _uses(op, hidden=False),
        ),
        Note(
            f"{op}({arguments}, B) is the D of f(s + |e⟩C⟨e|)|e⟩B = |e⟩D for {f}, where {_OPERATOR}",
            rf"$\text{{{op}}}({arguments}, B)$ is the $D$ of $f(s + |e\rangle C\langle e|)|e\rangle B = |e\rangle D$ for {tex_f},"
            rf" where {_TEX_OPERATOR}.",
            _uses(op, hidden=True),
        ),
    )


NOTES: tuple[Note, ...] = (
    Note(
        "hats of one matrix (and orientation) are jointly Gaussian: Cov(Ŵ|x⟩, Ŵ|x′⟩) = σ²⟨x|x′⟩; other hats are independent",
        r"Hats of one matrix (and orientation) are jointly Gaussian with mean 0 and covariances"
        r" $\operatorname{Cov}(\widehat{W}|x\rangle, \widehat{W}|x'\rangle) = \sigma^{2}\langle x|x'\rangle$;"
        r" other hats are independent.",
        lambda system: any(e.hat is not None for e in system),
        in_front=True,
    ),
    Note(
        "|x⟩⁽ᵏ⁾ is |x⟩ in the k-th independent copy of the space, the same for all kets; E⁽ᵏ⁾ averages over it",
        r"$|x\rangle^{(k)}$ is $|x\rangle$ in the $k$-th independent copy of the space, the same for all kets;"
        r" $\mathbb{E}^{(k)}$ averages over it.",
        _has_copies,
    ),
    Note(
        "ΔW⁽⁰¹⁾ is an entry of ΔW, random through its row (0) and its column (1): ΔW|x⟩ = E⁽¹⁾[ΔW⁽⁰¹⁾|x⟩⁽¹⁾]",
        r"$\Delta W^{(01)}$ is an entry of $\Delta W$, random through its row (0) and its column (1):"
        r" $\Delta W|x\rangle = \mathbb{E}^{(1)}[\Delta W^{(01)}|x\rangle^{(1)}]$.",
        lambda system: any(e.expression.has(Entry) for e in system),
    ),
    Note(
        "(⟨Y|Y⟩⁺⟨Ĝ|x⟩)_y is the component for y in Y; Ĝ are the hats of Y, ⁺ is the pseudo-inverse",
        r"$(\langle Y|Y\rangle^{+}\langle \widehat{G}|x\rangle)_{y}$ is the component for $y$ in $Y$; $\widehat{G}$ are the hats"
        r" of $Y$, $^{+}$ is the pseudo-inverse.",
        _has(Stein),
    ),
    Note(
        "(x_d, d ≤ 2; y_r, r ≤ 3)_b is x_1, x_2, y_1, y_2, y_3 for b = 1, …, 5; with several indices the last varies fastest",
        r"$(x_{d}, d \le 2; y_{r}, r \le 3)_{b}$ is $x_{1}, x_{2}, y_{1}, y_{2}, y_{3}$ for $b = 1, \ldots, 5$; with several"
        r" indices the last varies fastest.",
        _has(Joined),
    ),
    Note(
        "clt scalars ℓ are jointly Gaussian and random in the limit; expectations that involve them are conditional on them",
        r"Scalars $\ell$ of \texttt{clt} are jointly Gaussian and random in the limit; expectations that involve them are"
        r" conditional on them.",
        lambda system: any(e.kind == "clt" for e in system),
    ),
    Note("members outside an axis are 0", "Members outside an axis are 0.", _is_shifted),
    *_spectral("power", "K, C, s, p", "f(x) = xᵖ", "$f(x) = x^{p}$"),
    *_spectral("inverse", "K, C, s", "f(x) = 1/x", "$f(x) = 1/x$"),
    *_spectral("matfun f", "K, C, s", "the function f", "the function $f$"),
    Note(
        "polar(C, ⟨e|e⟩, ⟨e′|e′⟩) sets the nonzero singular values of |e⟩C⟨e′| to 1",
        r"$\text{polar}(C, \langle e|e\rangle, \langle e'|e'\rangle)$ sets the nonzero singular values of"
        r" $|e\rangle C\langle e'|$ to 1.",
        _uses("polar"),
    ),
    Note(
        f"|e⟩eigenvectors(K, C) are the orthonormal eigenvectors of |e⟩C⟨e|, where {_OPERATOR}, by descending eigenvalue",
        r"$|e\rangle\,\text{eigenvectors}(K, C)$ are the orthonormal eigenvectors of $|e\rangle C\langle e|$, where"
        rf" {_TEX_OPERATOR}, by descending eigenvalue.",
        _uses("eigenvectors"),
    ),
    Note(
        "solve_{i,j}(K_{i,j}, y_j) is the x_i of Σ_j K_{i,j} x_j = y_i",
        r"$\text{solve}_{i,j}(K_{i,j}, y_{j})$ is the $x_{i}$ of $\sum_{j} K_{i,j} x_{j} = y_{i}$.",
        _uses("solve"),
    ),
    Note(
        "some constructs of the program have no limit law in this version",
        "Some constructs of the program have no limit law in this version.",
        _has(Missing),
    ),
)
