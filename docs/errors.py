"""Writes docs/errors.md and the pages of docs/errors/, from the texts of `tpc explain` (tp_compiler/explanations/).

python docs/errors.py
"""

from __future__ import annotations

from pathlib import Path

from tp_compiler.explanation import Section, catalogue

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"

HEAD = """# Errors and warnings

Every message gives the location, shows the line, and says what to write instead. Each kind of error has one code; codes
from `NX900` on are warnings. `tpc explain NX226` says more about a code: the rule and its reason, a program that breaks it
and one that does not. The pages that the codes link to say the same.

This page and those are written by `python docs/errors.py` from `tp_compiler/explanations/`.
"""


#: For the site, which shows the pages below this one.
TREE = """
```{{toctree}}
:hidden:

{}
```
"""


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def table(section: Section) -> str:
    """The codes of a section, each with a link to its explanation."""
    rows = [
        f"| [`{e.code}`](errors/{section.name}.md#{e.code.lower()}) | {_cell(e.what)} | {_cell(e.remedy)} |"
        for e in section.entries
    ]
    return "\n".join([f"\n## {section.title}\n", "| code | meaning | remedy |", "| --- | --- | --- |", *rows, ""])


def page(section: Section) -> str:
    """Everything about the codes of a section."""
    return "\n".join([f"# {section.title}\n", *(e.markdown() for e in section.entries)])


def pages() -> dict[Path, str]:
    """Every file that is written, with its text."""
    sections = catalogue().sections
    tree = TREE.format("\n".join(f"errors/{s.name}" for s in sections))
    found = {DOCS / "errors.md": HEAD + "".join(map(table, sections)) + tree}
    return found | {DOCS / "errors" / f"{s.name}.md": page(s) for s in sections}


if __name__ == "__main__":
    written = pages()
    (DOCS / "errors").mkdir(exist_ok=True)
    for old in set((DOCS / "errors").glob("*.md")) - set(written):
        old.unlink()
    for path, text in written.items():
        path.write_text(text, encoding="utf-8")
