"""One self-contained page about a limit: program, equations, numbers, pictures, methods, seeds and versions.

It is well-formed XML, needs nothing from elsewhere, and follows the reader's choice of light or dark.
"""

from __future__ import annotations

import platform
import re
from collections.abc import Iterator
from html import escape
from typing import Any

import numpy as np

from tp_compiler._version import __version__
from tp_compiler.diagnostics import ProgramError
from tp_compiler.equations.system import System
from tp_compiler.ir.program import Program
from tp_compiler.report.highlight import highlighted
from tp_compiler.report.html import run_html
from tp_compiler.report.mathml import equations
from tp_compiler.report.plots.theme import THEMES
from tp_compiler.results import Run

#: A graph of more quantities is not drawn.
_MOST = 80
_STYLE = """
:root { color-scheme: light dark; --paper: #ffffff; --ink: #1a1f26; --muted: #5c6570; --rule: #e3e6ea; --soft: #f6f7f9;
  --ket: #0f3fb5; --keyword: #8a1010; --number: #7a6200; --string: #6b2460; }
@media (prefers-color-scheme: dark) { :root { --paper: #14171c; --ink: #e8eaed; --muted: #9aa4b0; --rule: #2b313a;
  --soft: #1b2027; --ket: #8cf2f2; --keyword: #f2b58c; --number: #c3e830; --string: #d9a6ff; } }
body { background: var(--paper); color: var(--ink); font: 16px/1.55 system-ui, sans-serif; margin: 0 auto; max-width: 60rem;
  padding: 1.5rem; }
h1 { font-size: 1.6rem; margin: 0 0 .2rem; } h2 { font-size: 1.15rem; margin: 2.2rem 0 .6rem; border-bottom: 1px solid
  var(--rule); padding-bottom: .2rem; }
pre { background: var(--soft); padding: .9rem 1rem; overflow-x: auto; border-radius: 6px; font-size: .86rem; line-height: 1.5; }
.comment { color: var(--muted); font-style: italic; } .keyword { color: var(--keyword); font-weight: 600; }
.ket { color: var(--ket); } .number { color: var(--number); } .string { color: var(--string); }
table { border-collapse: collapse; margin: .3rem 0 1rem; font-variant-numeric: tabular-nums; font-size: .9rem; display: block;
  overflow-x: auto; }
th, td { padding: .15rem .7rem; text-align: right; border-bottom: 1px solid var(--rule); white-space: nowrap; }
th { font-weight: 600; color: var(--muted); } .facts th, .facts td { text-align: left; white-space: normal; }
.statement { margin: .45rem 0; overflow: auto hidden; padding-bottom: .1rem; } .row { padding: .1rem 0; } math { font-size: 1.08rem; }
svg { max-width: 100%; height: auto; } small, .note { color: var(--muted); }
.picture.dark { display: none; }
@media (prefers-color-scheme: dark) { .picture.light { display: none; } .picture.dark { display: block; } }
@media print { .picture.dark { display: none; } .picture.light { display: block; } }
"""


def page(run: Run, program: Program, system: System | ProgramError) -> str:
    """The page; if a limit has no equations, the reason is given instead."""
    title = f"{program.source.name.rsplit('/', 1)[-1]}: limit n → ∞"
    parts = [
        ("Program", f"<pre>{highlighted(program.source.text.strip(chr(10)))}</pre>"),
        ("Pictures", _pictures(run)),
        ("Numbers", run_html(run)),
        ("Equations", _equations(system)),
        ("Methods", _table(_methods(run))),
        ("Settings and versions", _table(_facts(run))),
        ("Warnings", "".join(f"<p>{escape(w.code)}: {escape(w.message)}</p>" for w in run.warnings)),
    ]
    body = "\n".join(f"<section><h2>{name}</h2>\n{text}\n</section>" for name, text in parts if text)
    head = "<meta charset='utf-8'/><meta name='viewport' content='width=device-width, initial-scale=1'/>"
    return (
        f"<!DOCTYPE html>\n<html lang='en' xmlns='http://www.w3.org/1999/xhtml'>\n<head>{head}<title>{escape(title)}</title>"
        f"<style>{_STYLE}</style></head>\n<body>\n<h1>{escape(title)}</h1>\n"
        f"<p class='note'>computed by tpc {__version__} in {run.seconds:.2f} s</p>\n{body}\n</body>\n</html>\n"
    )


def _pictures(run: Run) -> str:
    band = {"width": run.width} if run.command == "limit" and run.width is not None else {}
    return _both(run, **band) if run.outputs else ""


def _both(record: Any, **options: Any) -> str:
    """A picture in both themes; the style shows one of them."""
    drawn = {name: record.plot(theme=name, **options).svg() for name in THEMES}
    return "\n".join(f"<div class='picture {name}'>{_inline(picture)}</div>" for name, picture in drawn.items())


def _inline(svg: str) -> str:
    """The element alone: no head of an XML file, no metadata, and no wider than the page."""
    element = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    head, rest = element.split(">", 1)
    width = re.search(r' width="([^"]*)"', head)
    style = f' style="width: min(100%, {width[1]})"' if width else ""
    return re.sub(r' (?:width|height)="[^"]*"', "", head) + style + ">" + rest


def _equations(system: System | ProgramError) -> str:
    if isinstance(system, ProgramError):
        return "".join(f"<p>{escape(d.message)} <small>{escape(d.code)}</small></p>" for d in system.diagnostics)
    graph = system.graph()
    drawn = ""
    if len(graph.vertices) <= _MOST:
        drawn = f"<details><summary>which quantity depends on which</summary>{_both(graph)}</details>"
    return f"{equations(system)}\n{drawn}"


def _methods(run: Run) -> Iterator[tuple[str, str]]:
    yield "output", "method"
    for name, estimate in run.outputs.items():
        yield name, f"{estimate.method}: {estimate.note}" if estimate.note else estimate.method
    for name, diagnostic in run.failed.items():
        yield name, f"not computed, {diagnostic.code}: {diagnostic.message}"


def _facts(run: Run) -> Iterator[tuple[str, str]]:
    yield "setting", "value"
    for name, value in run.settings.items():
        if value is not None:
            yield name, str(value)
    yield "tpc", __version__
    yield "NumPy", np.__version__
    yield "Python", platform.python_version()


def _table(rows: Iterator[tuple[str, str]]) -> str:
    """Two columns; the first row is the head."""
    head, *rest = ((escape(a), escape(b)) for a, b in rows)
    body = "".join(f"<tr><th>{a}</th><td>{b}</td></tr>" for a, b in rest)
    return f"<table class='facts'><thead><tr><th>{head[0]}</th><th>{head[1]}</th></tr></thead><tbody>{body}</tbody></table>"
