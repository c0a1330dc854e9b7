"""The progress bar: on standard error, or below the cell of a notebook."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from html import escape
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from rich.progress import ProgressColumn

#: Seconds between two pictures of a bar in a notebook.
PAUSE = 0.2

Update = Callable[..., None]


@contextmanager
def progress_bar(title: str) -> Iterator[Update]:
    """Yields `update(done, total=None, note="")`; the bar is gone when the block ends."""
    with (_in_a_cell if _has_cells() else _on_standard_error)(title) as update:
        yield update


@contextmanager
def _on_standard_error(title: str) -> Iterator[Update]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[note]}"), _elapsed())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=None, note="")

        def update(done: float, total: float | None = None, note: str = "") -> None:
            bar.update(task, completed=done, total=total, note=note)

        yield update


def _elapsed() -> ProgressColumn:
    """The time since the beginning, also between the end of one part and the first news of the next one."""
    from rich.progress import Task, TimeElapsedColumn
    from rich.text import Text

    class Elapsed(TimeElapsedColumn):
        def render(self, task: Task) -> Text:
            return Text(str(timedelta(seconds=int(task.elapsed or 0))), style="progress.elapsed")

    return Elapsed()


def _has_cells() -> bool:
    """Whether the code runs in the kernel of a notebook."""
    ipython = sys.modules.get("IPython")
    return ipython is not None and getattr(ipython.get_ipython(), "kernel", None) is not None


@contextmanager
def _in_a_cell(title: str) -> Iterator[Update]:
    """A `<progress>` element that is replaced as the work goes on: needs no widgets."""
    from IPython.display import HTML, display

    page: Any = HTML
    handle = cast(Any, display)(page(_element(title, 0, None, "")), display_id=True)
    start = shown = time.monotonic()

    def update(done: float, total: float | None = None, note: str = "") -> None:
        nonlocal shown
        now = time.monotonic()
        if now - shown >= PAUSE or done == total:
            shown = now
            handle.update(page(_element(title, done, total, f"{note} {now - start:.0f} s".strip())))

    try:
        yield update
    finally:
        handle.update(page(""))


def _element(title: str, done: float, total: float | None, note: str) -> str:
    value = f' value="{done:g}" max="{total:g}"' if total else ""
    return f"<div>{escape(title)} <progress{value}></progress> {escape(note)}</div>"
