"""The equations of a limit as MathML, which browsers typeset without scripts or fonts from elsewhere."""

from __future__ import annotations

from html import escape

from latex2mathml.converter import convert

from tp_compiler.equations.system import System
from tp_compiler.report import system_notes as notes
from tp_compiler.report.system_pages import statements

#: The width in points of a line of equations.
_ROOM = 560.0
_STEP = r"\quad "


def equations(system: System) -> str:
    """A block per statement, and sentences before and after them."""
    before, after = ([f"<p>{sentence(n.web)}</p>" for n in found] for found in notes.around(system))
    body = [f"<div class='statement'>{''.join(map(row, rows))}</div>" for rows in statements(system, _ROOM)]
    return "\n".join([*before, *body, *after, *(f"<p>{escape(remark)}</p>" for remark in notes.remarks(system))])


def row(latex: str) -> str:
    """One line of a statement, set in by steps."""
    inner = latex.removeprefix(_STEP)
    depth = 0
    while inner != latex:
        depth, latex, inner = depth + 1, inner, inner.removeprefix(_STEP)
    indent = f" style='margin-left:{2 * depth}em'" if depth else ""
    return f"<div class='row'{indent}>{formula(latex)}</div>"


def formula(latex: str) -> str:
    """A formula in the size of a displayed one."""
    return _set(latex).replace('display="inline"', 'displaystyle="true"', 1)


def _set(latex: str) -> str:
    """MathML, with the bars of kets as close as those of brackets, and space around signs of relations."""
    page = str(convert(latex))
    for sign, stands in _SIGNS.items():
        page = page.replace(sign, stands)
    return page


_TIGHT = 'stretchy="false" lspace="0" rspace="0"'
_SIGNS = {
    '<mo stretchy="false">&#x0007C;</mo>': f"<mo {_TIGHT}>|</mo>",
    "<mi>&#x027E8;</mi>": f"<mo {_TIGHT}>⟨</mo>",
    "<mi>&#x027E9;</mi>": f"<mo {_TIGHT}>⟩</mo>",
    "<mi>&#x0007E;</mi>": "<mo>∼</mo>",
    "<mi>:</mi>": '<mo lspace="0">:</mo>',
}


def sentence(tex: str) -> str:
    """Text with formulas between dollar signs."""
    pieces = enumerate(tex.split("$"))
    return "".join(_set(piece) if k % 2 else escape(piece.replace("~", " ")) for k, piece in pieces)
