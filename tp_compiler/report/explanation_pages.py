"""What a code means, and the list of all codes, as text, HTML, LaTeX, Markdown and JSON."""

from __future__ import annotations

import io
import json
import textwrap
from collections.abc import Iterable, Iterator, Sequence

from tp_compiler._version import __version__
from tp_compiler.diagnostics import printable
from tp_compiler.explanation import Catalogue, Explanation
from tp_compiler.report import blocks
from tp_compiler.report.blocks import Block, Grid, Heading, Lines, Verbatim

#: A program that is refused with a smaller number cannot be read, and so has no colours.
READABLE = 100
#: Characters on a line of prose, where lines are broken.
WIDTH = 88


def text(explanation: Explanation) -> str:
    """Prose in lines of at most 88 characters, examples indented."""
    return blocks.text(_broken(_page(explanation)))


def html(explanation: Explanation) -> str:
    return blocks.html(_page(explanation))


def latex(explanation: Explanation) -> str:
    return blocks.tex(_page(explanation))


def catalogue_text(catalogue: Catalogue) -> str:
    """One line a code."""
    return blocks.text(_catalogue(catalogue))


def catalogue_html(catalogue: Catalogue) -> str:
    return blocks.html(_catalogue(catalogue))


def catalogue_latex(catalogue: Catalogue) -> str:
    return blocks.tex(_catalogue(catalogue))


def json_text(explanations: Sequence[Explanation]) -> str:
    """The document of `tpc explain CODE... --json`."""
    return _document({"explanations": [e.to_json() for e in explanations]})


def catalogue_json(catalogue: Catalogue) -> str:
    """The document of `tpc explain --json`."""
    return _document({"sections": catalogue.to_json()})


def _document(content: dict[str, object]) -> str:
    return json.dumps({"version": __version__, "command": "explain", **content}, indent=2, ensure_ascii=False)


def _page(e: Explanation) -> Iterator[Block]:
    yield Heading(f"{e.code}: {e.what}", main=True)
    if e.why:
        yield Lines([" ".join(e.why.split())], apart=True)
    if e.remedy:
        yield Lines([f"Instead: {e.remedy}"], apart=True)
    for title, example in _examples(e):
        yield Heading(title)
        yield Verbatim(textwrap.indent(example.strip("\n"), "    "))
    if e.shown:
        yield Lines([f"No example: {e.shown}"], apart=True)


def _examples(e: Explanation) -> Iterator[tuple[str, str]]:
    by = f" (tpc {e.command})" if e.language == "nexort" else ""
    bad, good = ("Warns", "Does not warn") if e.is_warning else ("Refused", "Accepted")
    if e.bad:
        yield f"{bad}{by}:", e.bad
    if e.good:
        yield f"{good}:", e.good


def _broken(page: Iterable[Block]) -> Iterator[Block]:
    for block in page:
        if isinstance(block, Lines):
            yield Lines([part for line in block.lines for part in textwrap.wrap(line, WIDTH)], apart=block.apart)
        elif isinstance(block, Heading):
            yield Heading(textwrap.fill(block.text, WIDTH), block.main)
        else:
            yield block


def _catalogue(catalogue: Catalogue) -> Iterator[Block]:
    for section in catalogue.sections:
        yield Heading(section.title)
        yield Grid([["code", "meaning"], *([e.code, e.what] for e in section.entries)])
    yield Lines(["`tpc explain CODE` says more."], apart=True)


def markdown(e: Explanation) -> str:
    """A section of a page; its heading is the code alone, which makes its anchor `#nx226`."""
    parts = [f"## {e.code}", f"{e.what[0].upper()}{e.what[1:]}.", e.why.strip()]
    parts += [f"**Instead:** {e.remedy}." if e.remedy else ""]
    for title, example in _examples(e):
        unreadable = example == e.bad and int(e.code.removeprefix("NX")) < READABLE
        language = "text" if unreadable and e.language == "nexort" else e.language
        parts.append(f"{title}\n\n```{language}\n{example.strip()}\n```")
    parts += [f"No example: {e.shown}." if e.shown else ""]
    return "\n\n".join(filter(None, parts)) + "\n"


def terminal(explanation: Explanation) -> str:
    """The text in colours."""
    from rich.console import Console
    from rich.text import Text

    console = Console(file=io.StringIO(), force_terminal=True, width=10_000, highlight=False)
    for block, piece in blocks.text_lines(_broken(_page(explanation))):
        style = "bold" if isinstance(block, Heading) else "cyan" if isinstance(block, Verbatim) else ""
        console.print(Text(printable(piece), style), soft_wrap=True)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().removesuffix("\n")
