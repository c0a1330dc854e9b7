"""Pages of the gallery, made anew at every build: each example with its equations, numbers and pictures, and the notebooks."""

from __future__ import annotations

import logging
from contextlib import chdir
from pathlib import Path
from typing import Any

import jupytext
import matplotlib
import nbformat

import tp_compiler as tpc
from tp_compiler.report import mathml

matplotlib.use("Agg")
logging.getLogger("tp_compiler").setLevel(logging.WARNING)

ROOT = Path(__file__).resolve().parents[2]
OUT = ROOT / "docs" / "gallery"
NOTEBOOKS = OUT / "notebooks"

INDEX = """# Gallery

Every example of the project, with its equations, its numbers and a picture: all made by this build. The programs are in the
folder `examples/`; `tpc limit examples/NAME.nexort` gives the same numbers.

## Programs

```{{toctree}}
:hidden:
{pages}
```

{cards}

## Notebooks

```{{toctree}}
:maxdepth: 1
{notebooks}
```
"""

CARDS = """::::{{grid}} 1 2 3 3
:gutter: 2
{cards}
::::
"""

CARD = """:::{{grid-item-card}} {name}
:link: {name}
:link-type: doc
{picture}

{says}
:::
"""

PAGE = """# {name}

{says}

```nexort
{program}
```

`tpc limit examples/{name}.nexort` prints

```text
{numbers}
```

{pictures}

## Equations

```{{raw}} html
<div class="equations">
{equations}
</div>
```
"""


def write() -> None:
    with chdir(ROOT):
        _write()


def _write() -> None:
    NOTEBOOKS.mkdir(parents=True, exist_ok=True)
    programs = sorted(Path("examples").glob("*.nexort"))
    cards = [_page(path) for path in programs]
    notebooks = sorted(path for path in (ROOT / "examples" / "notebooks").iterdir() if path.suffix in (".md", ".py"))
    for path in [ROOT / "examples" / "first_steps.py", *notebooks]:
        notebook = jupytext.read(path)
        notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
        home = nbformat.v4.new_code_cell(f"%cd -q {ROOT}", metadata={"tags": ["remove-cell"]})
        notebook.cells.insert(0, home)
        nbformat.write(notebook, NOTEBOOKS / f"{path.stem}.ipynb", version=4)
    index = INDEX.format(
        pages="\n".join(path.stem for path in programs),
        cards=CARDS.format(cards="\n".join(cards)),
        notebooks="\n".join([f"notebooks/{stem}" for stem in ("first_steps", *(path.stem for path in notebooks))]),
    )
    _put(OUT / "index.md", index)


def _page(path: Path) -> str:
    """Writes the page of a program; the card that leads to it."""
    text, name = path.read_text(encoding="utf-8"), path.stem
    says = _first_comment(text)
    run = tpc.limit(path)
    for theme in ("light", "dark"):
        run.plot(OUT / f"{name}_{theme}.svg", theme=theme)
    page = PAGE.format(
        name=name,
        says=says,
        program=text.strip(),
        numbers=str(run).strip(),
        pictures=_picture(name),
        equations=_equations(path),
    )
    _put(OUT / f"{name}.md", page)
    return CARD.format(name=name, says=says, picture=_picture(name))


def _equations(path: Path) -> str:
    """The equations of a program, or why it has none."""
    try:
        return mathml.equations(tpc.equations(path))
    except tpc.ProgramError as error:
        return f"<p>None: {error.diagnostics[0].message}.</p>"


def _picture(name: str) -> str:
    return "\n".join(f"![Outputs of {name}]({name}_{t}.svg){{.only-{t}}}" for t in ("light", "dark"))


def _first_comment(text: str) -> str:
    """The sentences at the top of a program."""
    lines = []
    for line in text.splitlines():
        if not line.startswith("#") or line.startswith("# verify"):
            break
        lines.append(line.removeprefix("#").strip())
    return " ".join(lines)


def _put(path: Path, text: str) -> None:
    """Writes a page if it has changed, so that an unchanged one is not built again."""
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")


def setup(app: Any) -> dict[str, Any]:
    app.connect("builder-inited", lambda app: write())
    return {"parallel_read_safe": True, "parallel_write_safe": True}
