"""One printer, three outputs: LaTeX, Unicode text and Markdown.

`_lines` says what is stated about an equation, once for all; backends.py how a term is written.
"""

from __future__ import annotations

import html as _html
import re
from typing import Any

import sympy as sp
from sympy.printing.precedence import PRECEDENCE

from tp_compiler.equations.backends import Latex, Unicode
from tp_compiler.equations.system import Clock, Equation, Matrix, System
from tp_compiler.equations.terms import DotPart, Entry, Expr, Ket, Stacked, Stein, reindex

#: A line of LaTeX source longer than this breaks at its sums.
_WIDTH = 100


# -- statements ------------------------------------------------------------------------------------------------------
Line = tuple[str, str, str]  # left, relation, right


def _lines(e: Equation, p: Any) -> list[Line]:
    """What is stated about an equation: pairs of a left and a right side, and the sign between them."""
    show = p.doprint
    eq, law = ("=", r"\sim" if isinstance(p, Latex) else "~")
    if e.kind == "bracket":
        chain = [x for x in (e.expression, e.closed_form) if x is not None]
        return [(show(e.meaning) if k == 0 else "", eq, show(x)) for k, x in enumerate(chain)]
    left = show(e.symbol)
    if e.kind == "initial":
        text = f"{_normal(p)}({show(e.mean)}, {show(_variance(e))})"
        if _is_iid(e):
            return [(left, law, text + p.upright(", independent over ") + ", ".join(show(i) for i in e.primed))]
        return [(left, law, text), *_covariance_line(e, p)] if e.primed else [(left, law, text)]
    if e.kind == "clt":
        first = (left, law, f"{_normal(p)}(0, {show(reindex(e.covariance, {b: a for a, b in e.primed.items()}))})")
        if not e.primed:
            return [first]
        return [first, (_cov(p, left, show(_moved(e.symbol, e.primed))), eq, show(e.covariance))]
    if e.kind == "product":
        return _product_lines(e, p)
    if e.kind in ("state", "weight"):
        return _state_lines(e, p)
    if e.kind == "operator":
        entries = e.expression.has(Entry)
        return [(left if entries else p.operator("", *_operator(e.symbol, p), False), eq, show(e.expression))]
    if isinstance(e.expression, Stacked) and show(e.expression) == left:
        return []  # a family whose members have names: nothing to state
    chain = [show(e.meaning)] if e.meaning is not None else []
    families = [p.where_stein(x) for x in sorted(e.expression.atoms(Stein), key=str)]
    chain += [show(e.expression) + "".join(families)] + ([show(e.closed_form)] if e.closed_form is not None else [])
    return [(left if k == 0 else "", eq, text) for k, text in enumerate(chain)]


def _product_lines(e: Equation, p: Any) -> list[Line]:
    assert e.hat is not None
    show, hat = p.doprint, e.hat.symbol
    dot = DotPart(*hat.args)
    whole = show(hat) + (f" + {show(dot)}" if e.dot else "")
    if e.keep != 1:
        whole = f"{p.parenthesize(e.keep, PRECEDENCE['Mul'])} {p.paren(whole) if e.dot else whole}"
    if e.learned is not None:
        whole += f" + {show(e.update)}"
    other = _moved(hat, e.hat.primed)
    spread = _cov(p, show(hat), show(other)) if other != hat else _var(p, show(hat))
    lines = [(show(e.symbol), "=", whole), (spread, "=", show(e.hat.covariance))]
    if e.dot:
        stated = [_dot_term(t, p) for t in e.dot]
        if all(stated):
            lines.append((show(dot), "=", " + ".join(s for s in stated if s)))
        if not all(stated) or any(t.symbol is not None or t.coefficient.is_number for t in e.dot):
            lines.append(("" if all(stated) else show(dot), "=", show(e.dot_expression())))
    if e.learned is not None:
        p.explicit = True
        lines.append((show(e.update), "=", show(e.learned)))
        p.explicit = False
    return lines


def _state_lines(e: Equation, p: Any) -> list[Line]:
    """What a state is after the next update, and where it starts."""
    show, (time, *_) = p.doprint, (i for i in e.symbol.indices if i == e.time)
    first = e.symbol.indices[-1] + 1 if e.kind == "weight" else sp.Integer(0)
    lines = [(show(reindex(e.symbol, {time: time + 1})), "=", show(e.expression))]
    if e.start is not None:
        lines.append((show(reindex(e.symbol, {time: first})), "=", show(e.start)))
    return lines


def _operator(symbol: Expr, p: Any) -> tuple[str, tuple[str, ...]]:
    """The name and the indices of ΔW_t as an operator."""
    return symbol.label, tuple(p.doprint(i) for i in symbol.indices)


def _dot_term(t: Any, p: Any) -> str | None:
    """σ² |y⟩ E[∂|x⟩/∂Ŵᵀ|y⟩], as the definition has it; None in the Stein form."""
    if t.derivative is None:
        return None
    scale = p.parenthesize(t.scale, PRECEDENCE["Mul"]) + " " if t.scale != 1 else ""
    ket = p.doprint(t.ket) if isinstance(t.ket, Ket) else p.paren(p.doprint(t.ket))
    text = f"{scale}{ket} {p.doprint(t.derivative)}"
    if t.over:
        text = p.big("sum", ",".join(p.doprint(i) for i, _ in t.over), text)
    return p.big("sum", p.range_of((t.steps[0], sp.Integer(0), t.steps[1])), text) if t.steps else text


def _moved(e: Expr, primes: Any) -> Expr:
    return reindex(e, dict(primes))


def _variance(e: Equation) -> Expr:
    return reindex(e.covariance, {b: a for a, b in e.primed.items()})


def _is_iid(e: Equation) -> bool:
    """Are all members of an initial family independent?"""
    deltas = sp.Mul(*(sp.KroneckerDelta(a, b) for a, b in e.primed.items()))
    return bool(e.primed) and e.covariance is not None and not (e.covariance / deltas).has(*e.primed.values())


def _covariance_line(e: Equation, p: Any) -> list[Line]:
    return [(_cov(p, p.doprint(e.symbol), p.doprint(_moved(e.symbol, e.primed))), "=", p.doprint(e.covariance))]


def _normal(p: Any) -> str:
    return r"\mathcal{N}" if isinstance(p, Latex) else "N"


def _cov(p: Any, left: str, right: str) -> str:
    return rf"\operatorname{{Cov}}({left}, {right})" if isinstance(p, Latex) else f"Cov({left}, {right})"


def _var(p: Any, inner: str) -> str:
    return rf"\operatorname{{Var}}({inner})" if isinstance(p, Latex) else f"Var({inner})"


def _matrix(m: Matrix, p: Any) -> str:
    """σ² and ρ of a matrix, and that its hats are jointly Gaussian."""
    name = p.operator("", m.name, tuple(p.doprint(i) for i in m.indices), False)
    rows, cols = m.widths
    variance, ratio = p.doprint(m.variance), p.doprint(m.ratio)
    if isinstance(p, Latex):
        shape = "" if rows == cols else rf",\ {p.upright(rows)} \times {p.upright(cols)},\ \rho = {ratio}"
        return rf"{name} &: \quad \sigma^2 = {variance}{shape}" + (rf",\ {_trained(m, p)}" if m.update else "")
    shape = "" if rows == cols else f", {rows} × {cols}, ρ = {ratio}"
    return f"{name}: σ² = {variance}{shape}" + (f", {_trained(m, p)}" if m.update else "")


def _trained(m: Matrix, p: Any) -> str:
    """W_t = W + ΔW_t, for a matrix that training changes."""
    assert m.update is not None
    time, *own = (p.doprint(i) for i in m.update.indices)
    keep = f"{p.doprint(m.keep)} " if m.keep != 1 else ""
    start = p.operator("", m.name, tuple(own), False)
    update = p.operator("", *_operator(m.update, p), False)
    return f"{p.operator('', m.name, (time, *own), False)} = {keep}{start} + {update}"


def _clock(clock: Clock, p: Any) -> str:
    """What t counts."""
    time = p.doprint(clock.time)
    steps = ["0", "1", "…" if isinstance(p, Unicode) else r"\ldots", str(clock.steps)]
    counts = ", ".join(steps if clock.steps > 2 else map(str, range(clock.steps + 1)))
    if isinstance(p, Latex):
        return rf"{time} &= {counts} \quad \text{{updates made}}"
    return f"{time} = {counts} counts the updates made; s<{time} are earlier ones".replace(
        "s<", f"{p.doprint(clock.earlier)}<"
    )


_HATS = (
    "hats of one matrix (and orientation) are jointly Gaussian: Cov(Ŵ|x⟩, Ŵ|x′⟩) = σ²⟨x|x′⟩; other hats are independent"
)


def unicode(system: System) -> str:
    p = Unicode()
    out = [_matrix(m, p) for m in system.matrices]
    if system.matrices:
        out.append(_HATS)
    if system.clock is not None:
        out.append(_clock(system.clock, p))
    out += [""] if out else []
    for e in system:
        for k, (left, sign, right) in enumerate(_lines(e, p)):
            indent = "" if k == 0 else "    "
            out.append(f"{indent}{left} {sign} {right}" if left else f"        {sign} {right}")
    out += ["", *(f"({r})" for r in system.remarks)] if system.remarks else []
    return "\n".join(out) + "\n"


def _latex_lines(system: System) -> list[str]:
    p = Latex({"fold_short_frac": False})
    out = [_matrix(m, p) for m in system.matrices]
    out += [_clock(system.clock, p)] if system.clock is not None else []
    for e in system:
        for left, sign, right in _lines(e, p):
            first, *rest = _broken(right)
            out.append(f"{left} &{sign} {first}")
            out += [rf"&\quad {more}" for more in rest]
    return out


def _broken(text: str) -> list[str]:
    r"""A long right side, broken before + and − at depth 0 (\left and braces balanced)."""
    if len(text) <= _WIDTH:
        return [text]
    parts, depth, start = [], 0, 0
    for m in re.finditer(r"\\left|\\right|[{}()\[\]]| [+-] ", text):
        token = m.group()
        if token in (r"\left", "{", "(", "["):
            depth += 1
        elif token in (r"\right", "}", ")", "]"):
            depth -= 1
        elif depth == 0 and m.start() - start > _WIDTH // 2:
            parts.append(text[start : m.start()])
            start = m.start() + 1
    return [*parts, text[start:]]


def latex(system: System) -> str:
    r"""`\begin{align*}`: needs amsmath; breaks across pages with \allowdisplaybreaks."""
    body = " \\\\\n".join(f"  {line}" for line in _latex_lines(system))
    notes = "".join(f"% {r}\n" for r in system.remarks)
    return f"{notes}\\begin{{align*}}\n{body}\n\\end{{align*}}\n"


def notebook(system: System) -> str:
    """For MathJax in notebooks."""
    return "$$\\begin{aligned}\n" + " \\\\\n".join(_latex_lines(system)) + "\n\\end{aligned}$$"


def markdown(system: System) -> str:
    """A list of displayed formulas."""
    p = Latex({"fold_short_frac": False})
    out = [f"$$\n{_matrix(m, p).replace('&', '')}\n$$\n" for m in system.matrices]
    out += [f"$$\n{_clock(system.clock, p).replace('&', '')}\n$$\n"] if system.clock is not None else []
    for e in system:
        lines = " \\\\\n".join(f"{left} &{sign} {right}" for left, sign, right in _lines(e, p))
        out.append(f"$$\n\\begin{{aligned}}\n{lines}\n\\end{{aligned}}\n$$\n")
    return "\n".join([*out, *(f"*{r}.*\n" for r in system.remarks)])


def html(system: System) -> str:
    """The text form, escaped."""
    return f"<pre>{_html.escape(unicode(system))}</pre>"
