"""Results as LaTeX: one displayed equation per output, values with their errors in brackets."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tp_compiler.diagnostics import printable
from tp_compiler.report.number_tables import EVERYTHING, TableLimits, Writing, omission, tables
from tp_compiler.report.numbers import Written, at_width, axis_names, covariance_of, same_in_all, write_spread
from tp_compiler.report.numbers import write as write_number
from tp_compiler.results import Array, Estimate, Run
from tp_compiler.tex import spelled

_ESCAPES = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "⟨": r"\textless{}",
    "⟩": r"\textgreater{}",
}

#: Signs of sentences, in math mode.
_SIGNS = {
    "Θ": r"\Theta",
    "√": r"\surd",
    "·": r"\cdot",
    "∞": r"\infty",
    "→": r"\to",
    "×": r"\times",
    "≥": r"\ge",
    "≤": r"\le",
    "−": "-",
    "…": r"\ldots",
    "²": "^2",
}


def run_latex(run: Run, full: bool = False) -> str:
    """Displayed equations, one per output (per table, for more than two axes); failed outputs as comments."""
    limits = EVERYTHING if full else _LIMITS
    equations = list(_lines(run, limits))
    said = {name: diagnostic.message for name, diagnostic in run.failed.items()}
    said |= {n: f"{x}; --full shows all" for n, o in run.outputs.items() if (x := _omission(o, limits))}
    comments = [printable(f"% {name}: {message}".replace("\n", " ")) for name, message in said.items()]
    return "\n".join([*(f"\\[ {equation} \\]" for equation in equations), *comments])


def _lines(run: Run, limits: TableLimits) -> Iterator[str]:
    for name, estimate in run.outputs.items():
        yield from estimate_latex(name, estimate, limits)
        spread = None if run.width is None else at_width(estimate, run.width)
        if spread is None or same_in_all(estimate):
            continue
        symbol = rf"{_symbol(name)}\big|_{{n = {run.width}}}"
        if estimate.value.ndim == 0:
            yield f"{symbol} = {number(write_spread(*map(float, spread)))}"
        else:
            yield from _equations(symbol, axis_names(estimate), *spread, limits, write_spread)


def run_display(run: Run) -> str:
    """The output in a notebook: one display with a line per output."""
    return "$$\\begin{gathered}" + r" \\[1ex] ".join(_lines(run, _LIMITS)) + "\\end{gathered}$$"


def estimate_display(estimate: Estimate) -> str:
    """One value with its error, or a matrix."""
    return "$$\\begin{gathered}" + r" \\[1ex] ".join(estimate_latex("x", estimate)) + "\\end{gathered}$$"


#: LaTeX is for copying into a paper: nothing is left out within reason.
_LIMITS = TableLimits(100, 100, 100)


def _omission(estimate: Estimate, limits: TableLimits) -> str:
    return omission(axis_names(estimate), estimate.value.shape, limits)


def estimate_latex(name: str, estimate: Estimate, limits: TableLimits = _LIMITS) -> Iterator[str]:
    """`name_{i,j} = (...)`, and its covariance if it has one."""
    symbol, axes = _symbol(name), axis_names(estimate)
    error = np.broadcast_to(estimate.stderr, estimate.value.shape)
    if estimate.value.ndim == 0:
        yield f"{symbol} = {number(write_number(float(estimate.value), float(error)))}"
    else:
        yield from _equations(symbol, axes, estimate.value, error, limits)
    spread = covariance_of(estimate)
    if spread is not None:
        yield from _equations(rf"\operatorname{{Cov}}({symbol})", (), *spread, limits)


def _equations(
    symbol: str, axes: tuple[str, ...], value: Array, error: Array, limits: TableLimits, written: Writing = write_number
) -> Iterator[str]:
    names = axes or ("", "")
    for table in tables(names, value, error, limits, written):
        if table is None:
            yield r"\vdots"
            continue
        index = table.caption.replace(" ", "") + ("," if table.caption else "") + ",".join(axes[-2:])
        lines = (" & ".join(number(cell) for cell in cells) for _, cells in table.rows)
        matrix = r"\begin{pmatrix} " + r" \\ ".join(lines) + r" \end{pmatrix}"
        yield f"{symbol}{_subscript(index)} = {matrix}"


def number(cell: Written | None) -> str:
    """`0.37940(12)` or `1.2(3)\\times 10^{-8}`."""
    if cell is None:
        return r"\cdots"
    power = rf"\times 10^{{{cell.exponent}}}" if cell.exponent else ""
    return cell.spelled(r"\pm", power)


def _symbol(name: str) -> str:
    if not name.isascii():
        return spelled(name)
    return name if len(name) == 1 and name.isalpha() else rf"\text{{{escape(name)}}}"


def _subscript(index: str) -> str:
    shown = "".join(c if c.isascii() else spelled(c) + " " for c in escape(index))
    return f"_{{{shown}}}" if index else ""


def escape(text: str) -> str:
    """Text escaped for LaTeX."""
    return "".join(_ESCAPES.get(char, char) for char in printable(text))


def prose(text: str) -> str:
    """A sentence escaped for LaTeX, with letters and signs that fonts of text may lack in math mode."""
    return "".join(c if c.isascii() else f"${_SIGNS.get(c) or spelled(c)}$" for c in escape(text))
