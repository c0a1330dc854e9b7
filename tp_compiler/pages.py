"""Which function prints which record in which format: one row for each pair.

Records (a `Run`, a `System`, a `Scaling`) print themselves by asking here, so that they know nothing of the room that
writes pages; and no page is imported before it is asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

#: record -> form -> module of report/, and the function in it
PAGES: dict[str, dict[str, str]] = {
    "Run": {
        "text": "text:run_text",
        "reasons": "text:run_text_with_reasons",
        "json": "json:run_json",
        "csv": "csv:run_csv",
        "latex": "latex:run_latex",
        "html": "html:run_html",
        "notebook": "latex:run_display",
    },
    "System": {
        "text": "system_pages:unicode",
        "latex": "system_pages:latex",
        "markdown": "system_pages:markdown",
        "html": "system_pages:html",
        "notebook": "system_pages:notebook",
    },
    "Scaling": {
        "text": "scaling_text:page",
        "torch": "scaling_torch:emit",
        "plot": "scaling_plot:plot",
    },
}


#: What `tpc limit --format` offers.
FORMATS = tuple(form for form in PAGES["Run"] if form not in ("reasons", "notebook"))


def written(record: Any, form: str, *args: Any) -> Any:
    """A record as a page in one of its forms."""
    module, function = PAGES[type(record).__name__][form].split(":")
    return getattr(import_module(f"tp_compiler.report.{module}"), function)(record, *args)
