"""Formulas of the site as MathML: browsers typeset it without scripts, so the pages are complete offline."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from docutils import nodes

from tp_compiler.report.mathml import formula, row, sentence

_ALIGNED = re.compile(r"\\begin\{aligned\}(.*?)\\end\{aligned\}", re.DOTALL)


def _inline(translator: Any, node: nodes.math) -> None:
    translator.body.append(formula(node.astext()).replace('displaystyle="true"', 'display="inline"', 1))
    raise nodes.SkipNode


def _displayed(translator: Any, node: nodes.math_block) -> None:
    translator.body.append(f"<div class='equations'>{''.join(_pieces(node.astext()))}</div>")
    raise nodes.SkipNode


def _pieces(text: str) -> Iterator[str]:
    """A formula; or what a notebook prints, where sentences and displays between `$$` alternate."""
    parts = text.split("$$")
    if len(parts) == 1:
        yield from _rows(text)
        return
    for k, part in enumerate(parts):
        if k % 2:
            yield from _rows(part)
        elif part.strip():
            yield f"<p>{sentence(part.strip())}</p>"


def _rows(text: str) -> Iterator[str]:
    found = _ALIGNED.search(text)
    if found is None:
        yield f"<div class='formula'>{formula(text)}</div>"
        return
    yield from (row(line.strip().removeprefix("&")) for line in found[1].split("\\\\\n"))


def setup(app: Any) -> dict[str, Any]:
    app.add_html_math_renderer("mathml", (_inline, None), (_displayed, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
