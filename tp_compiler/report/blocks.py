"""Pages as blocks (headings, tables, lines), and the blocks as text, HTML and LaTeX. Everything is escaped here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from html import escape

from tp_compiler.diagnostics import printable
from tp_compiler.report import latex


@dataclass(frozen=True)
class Heading:
    """A title; `main` for that of the whole page."""

    text: str
    main: bool = False


@dataclass(frozen=True)
class Grid:
    """A table: the first row is the head, `right` the columns that are aligned to the right."""

    rows: Sequence[Sequence[str]]
    right: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Lines:
    """Sentences, one a line; `inset`: they belong to the line before. `apart`: a blank line precedes them."""

    lines: Sequence[str]
    inset: bool = False
    apart: bool = False


@dataclass(frozen=True)
class Verbatim:
    """Text whose layout matters, such as a program."""

    text: str


Block = Heading | Grid | Lines | Verbatim


def text(blocks: Iterable[Block]) -> str:
    """Plain text, independent of the width of the screen."""
    return printable("\n".join(line for _, line in text_lines(blocks)))


def text_lines(blocks: Iterable[Block]) -> Iterator[tuple[Block | None, str]]:
    """The plain text in pieces, each with the block that it is of; None for a blank line between two."""
    for k, block in enumerate(blocks):
        if k and (isinstance(block, Heading) or (isinstance(block, Lines) and block.apart)):
            yield None, ""
        if isinstance(block, Grid):
            yield block, grid(block.rows, block.right)
        elif isinstance(block, Lines):
            yield from ((block, "  " * block.inset + line) for line in block.lines)
        else:
            yield block, block.text


def grid(rows: Sequence[Sequence[str]], right: frozenset[int] = frozenset()) -> str:
    """Columns of equal width."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ([(k, x, w) for k, (x, w) in enumerate(zip(row, widths, strict=True))] for row in rows)
    return "\n".join("  ".join(x.rjust(w) if k in right else x.ljust(w) for k, x, w in row).rstrip() for row in lines)


def html(blocks: Iterable[Block]) -> str:
    """A fragment of a page."""
    return "\n".join(["<div class='tpc-page'>", *filter(None, map(_html, blocks)), "</div>"])


def _html(block: Block) -> str:
    if isinstance(block, Heading):
        return f"<p><b>{_safe(block.text)}</b></p>"
    if isinstance(block, Verbatim):
        return f"<pre>{_safe(block.text)}</pre>"
    if isinstance(block, Lines):
        style = " style='margin-left: 1.5em'" if block.inset else ""
        return "\n".join(f"<div{style}>{_safe(line)}</div>" for line in block.lines if line)
    head, *body = block.rows
    cells = [_row(head, "th", block.right), *(_row(row, "td", block.right) for row in body)]
    return f"<table><thead>{cells[0]}</thead><tbody>{''.join(cells[1:])}</tbody></table>"


def _row(cells: Sequence[str], tag: str, right: frozenset[int]) -> str:
    shown = (_cell(cell, tag, "right" if k in right else "left") for k, cell in enumerate(cells))
    return f"<tr>{''.join(shown)}</tr>"


def _cell(text: str, tag: str, side: str) -> str:
    return f"<{tag} style='text-align: {side}'>{_safe(text)}</{tag}>"


def _safe(text: str) -> str:
    return escape(printable(text))


def tex(blocks: Iterable[Block]) -> str:
    r"""Paragraphs, `tabular` and `verbatim` for a LaTeX document."""
    return "\n\n".join(filter(None, map(_tex, blocks))) + "\n"


def _tex(block: Block) -> str:
    if isinstance(block, Heading):
        return rf"\noindent\textbf{{{latex.prose(block.text)}}}"
    if isinstance(block, Verbatim):
        # The only text that would end it; a blank changes nothing that a reader sees.
        body = printable(block.text).replace(r"\end{verbatim}", r"\end {verbatim}")
        return f"\\begin{{verbatim}}\n{body}\n\\end{{verbatim}}"
    if isinstance(block, Lines):
        indent = r"\noindent\hspace*{1.5em}" if block.inset else r"\noindent "
        return "\n\n".join(indent + latex.prose(line) for line in block.lines if line)
    columns = "".join("r" if k in block.right else "l" for k in range(len(block.rows[0])))
    rows = [" & ".join(map(latex.prose, row)) + r" \\" for row in block.rows]
    return "\n".join([rf"\begin{{tabular}}{{{columns}}}", rows[0], r"\hline", *rows[1:], r"\end{tabular}"])
