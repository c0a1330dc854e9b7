"""One printer, three outputs: LaTeX, Unicode text and Markdown.

`_lines` lists what is stated about an equation, for all outputs; system_notations.py defines how a term is written.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import sympy as sp
from sympy.printing.precedence import PRECEDENCE

from tp_compiler.equations.system import Equation, LimitMatrix, System, TrainingClock
from tp_compiler.equations.terms import DotPart, Entry, Expr, Ket, Stacked, Stein, reindex
from tp_compiler.report import system_notes as notes
from tp_compiler.report.line_breaking import broken
from tp_compiler.report.system_notations import Latex, Unicode, names_apart

# -- statements ------------------------------------------------------------------------------------------------------
Line = tuple[str, str, str]  # left, relation, right


def _lines(e: Equation, p: Any) -> list[Line]:
    """The statements about an equation: pairs of left-hand and right-hand sides, and the sign between them."""
    show = p.doprint
    eq, law = ("=", r"\sim" if isinstance(p, Latex) else "~")
    if e.kind == "bracket":
        chain = [x for x in (e.expression, e.closed_form) if x is not None]
        return [(show(e.meaning) if k == 0 else "", eq, show(x)) for k, x in enumerate(chain)]
    left = show(e.symbol)
    if e.kind == "initial":
        text = _law(e, p)
        if _is_iid(e):
            return [(left, law, text + p.upright(", independent over ") + ", ".join(show(i) for i in e.primed))]
        return (
            [(left, law, text), *_covariance_line(e, p)]
            if e.primed and e.covariance is not None
            else [(left, law, text)]
        )
    if e.kind == "clt":
        first = (left, law, f"{_normal(p)}(0, {show(reindex(e.covariance, {b: a for a, b in e.primed.items()}))})")
        within = [(_cov(p, left, show(_moved(e.symbol, e.primed))), eq, show(e.covariance))] if e.primed else []
        return [first, *within, *((_cov(p, left, show(other)), eq, show(value)) for other, value in e.others)]
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
    """The state after the next update, and its initial value."""
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
    deltas, derivative = _dot_first(t.derivative)
    scale = p.parenthesize(t.scale * deltas, PRECEDENCE["Mul"]) + " " if t.scale * deltas != 1 else ""
    ket = p.doprint(t.ket) if isinstance(t.ket, Ket) else p.paren(p.doprint(t.ket))
    text = f"{scale}{ket} {p.doprint(derivative)}"
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


def _law(e: Equation, p: Any) -> str:
    """The law of one member of an initial ket."""
    if e.law == "normal":
        return f"{_normal(p)}({p.doprint(e.mean)}, {p.doprint(_variance(e))})"
    if e.law == "rows":
        (rows,) = e.parameters
        return str(p.upright(f"entries of a random row of {rows.name}"))
    name = "Bernoulli" if e.law == "bernoulli" else "Uniform"
    values = e.parameters or (sp.Integer(1),)
    ends = (-values[0], values[0]) if len(values) == 1 and name == "Uniform" else values
    inner = ", ".join(p.doprint(x) for x in ends)
    if e.law != "rademacher":
        return f"{p.upright(name)}({inner})"
    return p.upright(name) + (rf"\{{{inner}\}}" if isinstance(p, Latex) else f"{{{inner}}}")


def _normal(p: Any) -> str:
    return r"\mathcal{N}" if isinstance(p, Latex) else "N"


def _cov(p: Any, left: str, right: str) -> str:
    return rf"\operatorname{{Cov}}({left}, {right})" if isinstance(p, Latex) else f"Cov({left}, {right})"


def _var(p: Any, inner: str) -> str:
    return rf"\operatorname{{Var}}({inner})" if isinstance(p, Latex) else f"Var({inner})"


def _matrix(m: LimitMatrix, p: Any) -> str:
    """σ² and ρ of a matrix, and that its hats are jointly Gaussian."""
    name = p.operator("", m.name, tuple(p.doprint(i) for i in m.indices), False)
    rows, cols = m.widths
    variance, ratio = p.doprint(m.variance), p.doprint(m.ratio)
    sigma = r"\sigma^{2}" if isinstance(p, Latex) else "σ²"
    rho, cross = (r"\rho", r" \times ") if isinstance(p, Latex) else ("ρ", " × ")
    shape = "" if rows == cols else f", {p.word(rows)}{cross}{p.word(cols)}, {rho} = {ratio}"
    return f"{name}: {sigma} = {variance}{shape}" + (f"{p.between}{_trained(m, p)}" if m.update else "")


def _trained(m: LimitMatrix, p: Any) -> str:
    """W_t = W + ΔW_t, for a matrix that training changes."""
    assert m.update is not None
    time, *own = (p.doprint(i) for i in m.update.indices)
    keep = f"{p.doprint(m.keep)} " if m.keep != 1 else ""
    start = p.operator("", m.name, tuple(own), False)
    update = p.operator("", *_operator(m.update, p), False)
    return f"{p.operator('', m.name, (time, *own), False)} = {keep}{start} + {update}"


def _clock(clock: TrainingClock, p: Any, has_earlier: bool) -> str:
    """The meaning of t."""
    time = p.doprint(clock.time)
    steps = ["0", "1", p.dots, str(clock.steps)]
    counts = ", ".join(steps if clock.steps > 2 else map(str, range(clock.steps + 1)))
    earlier = p.upright("; ") + f"{p.doprint(clock.earlier)} < {time}" + p.upright(" are earlier steps")
    return f"{time} = {counts}" + p.upright(" counts the updates made") + (earlier if has_earlier else "")


def _dot_first(derivative: Expr) -> tuple[Expr, Expr]:
    """A δ in front of an expectation, and the expectation."""
    deltas = [f for f in sp.Mul.make_args(derivative) if isinstance(f, sp.KroneckerDelta)]
    return sp.Mul(*deltas), sp.Mul(*(f for f in sp.Mul.make_args(derivative) if f not in deltas))


# -- pages -----------------------------------------------------------------------------------------------------------
#: The width in points of the text on a page, and of a notebook's output.
_PAGE, _SCREEN = 330.0, 560.0
#: A statement of more rows than this may run over a page's end.
_TOGETHER = 8
#: MathJax reads at most 5 KiB at once if there are macros in it; signs between rows count, too.
_MATHJAX = 4000
_SET_IN, _INDENT = r"\quad ", 20.0


def _preamble(system: System, p: Any) -> list[str]:
    """σ² of the matrices, ranges of indices, the meaning of t."""
    out = [_matrix(m, p) for m in system.matrices]
    ranges = notes.ranges(system, p)
    out += [ranges] if ranges else []
    if system.clock is not None:
        out.append(_clock(system.clock, p, system.clock.earlier in notes.symbols(system)))
    return out


def unicode(system: System) -> str:
    p = Unicode()
    out = _preamble(system, p)
    before, after = notes.around(system)
    out = [*out, *(n.text for n in before), ""] if out or before else []
    for e in system:
        for k, (left, sign, right) in enumerate(_lines(e, p)):
            indent = "" if k == 0 else "    "
            out.append(f"{indent}{left} {sign} {right}" if left else f"        {sign} {right}")
    closing = [*(n.text for n in after), *system.remarks]
    out += ["", *(f"({r})" for r in closing)] if closing else []
    return "\n".join(out) + "\n"


def printer_of(system: System) -> Latex:
    """The LaTeX printer, in which names that would look the same are distinguished."""
    p = Latex({"fold_short_frac": False})
    p.apart = names_apart(system)
    return p


def _statement(lines: list[Line], room: float) -> list[str]:
    """The rows of one equation: continuation lines and dependent statements are indented."""
    rows = []
    for k, (left, sign, right) in enumerate(lines):
        first, *rest = broken(f"{left} {sign} {right}" if left else f"{sign} {right}", room - _INDENT)
        rows += [_SET_IN * bool(k) * (1 if left else 2) + first, *(_SET_IN + more for more in rest)]
    return rows


def statements(system: System, room: float) -> list[list[str]]:
    """Statements as rows of LaTeX that are at most `room` points wide."""
    p = printer_of(system)
    front = [broken(line, room) for line in _preamble(system, p)]
    return front + [_statement(lines, room) for e in system if (lines := _lines(e, p))]


def _rows(statements: list[list[str]], end: str) -> str:
    """Rows for an amsmath environment; `end` closes a row whose statement continues."""
    ends = [end if len(rows) <= _TOGETHER else r" \\" for rows in statements]
    closed = [[*(row + e for row in rows[:-1]), rows[-1]] for rows, e in zip(statements, ends, strict=True)]
    return " \\\\\n".join("".join(f"  &{row}\n" for row in rows)[:-1] for rows in closed)


def latex(system: System) -> str:
    r"""Sentences, and an `align*` (amsmath) with one statement a line, which breaks across pages between statements."""
    before, after = notes.around(system)
    front = "".join(f"{n.tex}\n" for n in before)
    closing = "".join(f"\n{sentence}\n" for sentence in (*(n.tex for n in after), *notes.remarks(system)))
    body = _rows(statements(system, _PAGE), r" \\*")
    return f"{front}{{\\allowdisplaybreaks\n\\begin{{align*}}\n{body}\n\\end{{align*}}}}\n{closing}"


def notebook(system: System) -> str:
    """For MathJax in notebooks: sentences with formulas, and displayed formulas: one if it is not too long for MathJax."""
    before, after = notes.around(system)
    bodies = (_rows(part, r" \\") for part in _parts(statements(system, _SCREEN)))
    displays = [f"$$\\begin{{aligned}}\n{body}\n\\end{{aligned}}$$" for body in bodies]
    return "\n\n".join(
        [*(n.web for n in before), *displays, *(n.web for n in after), *(f"{r}." for r in system.remarks)]
    )


def _parts(stated: list[list[str]]) -> Iterator[list[list[str]]]:
    """Statements in groups that MathJax can read, the rows of a very long one apart."""
    part: list[list[str]] = []
    size = 0
    for rows in stated:
        for piece in [rows] if sum(map(len, rows)) < _MATHJAX else [[row] for row in rows]:
            more = sum(map(len, piece))
            if part and size + more > _MATHJAX:
                yield part
                part, size = [], 0
            part, size = [*part, piece], size + more
    yield part


def markdown(system: System) -> str:
    """A list of displayed formulas, and sentences."""
    end = r" \\"
    out = [f"$$\n\\begin{{aligned}}\n{_rows([s], end)}\n\\end{{aligned}}\n$$\n" for s in statements(system, _SCREEN)]
    return "\n".join([*out, *(f"*{n.tex}*\n" for n in notes.needed(system)), *(f"*{r}.*\n" for r in system.remarks)])


def _alone(equation: Equation) -> System:
    return System((equation,), ())


def equation_text(equation: Equation) -> str:
    """The statements about one equation."""
    return unicode(_alone(equation)).strip("\n")


def equation_notebook(equation: Equation) -> str:
    return notebook(_alone(equation))
