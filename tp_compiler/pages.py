"""Which function prints which record in which format: one row for each pair.

Records (a `Run`, a `System`, a `Scaling`) print themselves by asking here (`Shown`), so that they know nothing of the room
that writes pages; and no page is imported before it is asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

#: record -> form -> module of report/, and the function in it
PAGES: dict[str, dict[str, str]] = {
    "Run": {
        "text": "text:run_text",
        "reasons": "text:run_text_with_reasons",
        "within": "text:run_within",
        "json": "json:run_json",
        "csv": "csv:run_csv",
        "latex": "latex:run_latex",
        "html": "html:run_html",
        "notebook": "latex:run_display",
        "plot": "plots.run:plot",
        "page": "html_page:page",
        "xarray": "datasets:run_dataset",
        "dataframe": "datasets:run_frame",
        "packed": "save:packed",
        "file": "save:save",
    },
    "Estimate": {
        "text": "text:estimate_text",
        "html": "html:estimate_html",
        "notebook": "latex:estimate_display",
    },
    "System": {
        "text": "system_pages:unicode",
        "latex": "system_pages:latex",
        "markdown": "system_pages:markdown",
        # No HTML: JupyterLab would prefer it to typeset equations.
        "notebook": "system_pages:notebook",
    },
    "DependencyGraph": {
        "text": "graph_dot:dot",
        "plot": "plots.graph:plot",
    },
    "Equation": {
        "text": "system_pages:equation_text",
        "notebook": "system_pages:equation_notebook",
    },
    "Scaling": {
        "text": "scaling_pages:page",
        "html": "scaling_pages:html",
        "latex": "scaling_pages:latex",
        "torch": "scaling_torch:emit",
        "plot": "plots.scaling:plot",
    },
    "TorchScaling": {
        "text": "scaling_pages:torch_page",
        "html": "scaling_pages:torch_html",
        "latex": "scaling_pages:torch_latex",
        "torch": "scaling_torch:emit",
        "plot": "plots.scaling:plot",
    },
    "Verification": {
        "text": "verification_pages:text",
        "html": "verification_pages:html",
        "latex": "verification_pages:latex",
        "plot": "plots.verification:plot",
    },
    "CoordCheck": {
        "text": "coordinate_pages:text",
        "table": "coordinate_pages:table",
        "html": "coordinate_pages:html",
        "latex": "coordinate_pages:latex",
        "plot": "plots.coordinates:plot",
    },
    "Compiled": {
        "text": "program_pages:program_text",
        "html": "program_pages:program_html",
        "latex": "program_pages:program_latex",
    },
    "Explanation": {
        "text": "explanation_pages:text",
        "terminal": "explanation_pages:terminal",
        "html": "explanation_pages:html",
        "latex": "explanation_pages:latex",
        "markdown": "explanation_pages:markdown",
        "json": "explanation_pages:json_text",
    },
    "Catalogue": {
        "text": "explanation_pages:catalogue_text",
        "html": "explanation_pages:catalogue_html",
        "latex": "explanation_pages:catalogue_latex",
        "json": "explanation_pages:catalogue_json",
    },
    "ProgramError": {
        "text": "program_pages:error_text",
        "html": "program_pages:error_html",
        "latex": "program_pages:error_latex",
    },
}


#: Forms that leave entries of large outputs out unless they are written with `full=True`.
SHORTENED = ("text", "reasons", "latex", "html")
#: What `tpc limit --format` offers.
FORMATS = ("text", "json", "csv", "latex", "html")


#: Libraries that forms need and that are not always installed, with the extra that has them.
OPTIONAL = {"matplotlib": "plot", "latex2mathml": "report"}


def writer(record: str, form: str) -> Any:
    """What writes records of this class in this form. Raises ImportError, with the extra to install, without its library."""
    module, function = PAGES[record][form].split(":")
    try:
        return getattr(import_module(f"tp_compiler.report.{module}"), function)
    except ModuleNotFoundError as problem:
        name = (problem.name or "").partition(".")[0]
        if name not in OPTIONAL:
            raise
        extra = f"it is in the extra `{OPTIONAL[name]}` of tp_compiler"
        raise ImportError(f"this needs {name}: pip install {name} ({extra})") from None


def written(record: Any, form: str, *args: Any, **options: Any) -> Any:
    """A record as a page in one of its forms."""
    return writer(type(record).__name__, form)(record, *args, **options)


class Shown:
    """The faces of a record, in terminals and notebooks: its rows in PAGES as text, HTML and LaTeX.

    `_brief` is the record on one line. `__repr__` is defined here alone: IPython prefers that of a subclass to the page.
    """

    def _brief(self) -> str:
        raise NotImplementedError

    def __repr__(self) -> str:
        return f"<{self._brief()}>"

    def __str__(self) -> str:
        return str(written(self, "text"))

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """For terminals with IPython."""
        printer.text(str(self))

    def _repr_html_(self) -> str | None:
        return self._face("html")

    def _repr_latex_(self) -> str | None:
        return self._face("notebook") or self._face("latex")

    def _face(self, form: str) -> str | None:
        return str(written(self, form)) if form in PAGES[type(self).__name__] else None
