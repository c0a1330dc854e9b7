"""Results for terminals: plain tables, independent of the width of the screen."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from tp_compiler.diagnostics import Diagnostic, printable
from tp_compiler.report.blocks import grid
from tp_compiler.report.number_tables import EVERYTHING, NumberTable, TableLimits, Writing, omission, tables
from tp_compiler.report.numbers import (
    Written,
    at_width,
    axis_names,
    covariance_of,
    same_in_all,
    titled,
    width_note,
    write,
    write_spread,
)
from tp_compiler.results import AT_WIDTH, Array, Estimate, Run

#: The names of settings in the footer, in this order; settings not listed follow under their own name.
_SETTING_NAMES = {
    "width": "n",
    "seeds": "seeds",
    "dtype": "dtype",
    "seed": "seed",
    "samples": "M",
    "replicates": "R",
    "backend": "backend",
}


#: What a reader does about entries that are left out.
MORE = "--full or run.table(full=True) shows all"


def run_text(run: Run, full: bool = False) -> str:
    """The whole result: a section per output, failures, the footer; every entry if `full`."""
    return _page(run, full, reasons=False)


def run_text_with_reasons(run: Run, full: bool = False) -> str:
    """The same, with the reason why each method was chosen."""
    return _page(run, full, reasons=True)


def _page(run: Run, full: bool, reasons: bool) -> str:
    sections = [f"{run.program}: {subject(run)}"]
    for name, estimate in run.outputs.items():
        why = [f"  {estimate.method}: {estimate.note}"] if reasons and estimate.note else []
        sections.append("\n".join([*_estimate(name, estimate, full, run.width), *why]))
    sections += [_failure(name, diagnostic) for name, diagnostic in run.failed.items()]
    return printable("\n\n".join([*sections, footer(run)]))


def run_within(run: Run, rtol: float) -> str:
    """How wide networks must be for each output to be within a fraction of its limit."""
    return printable("\n".join([f"within {100 * rtol:.3g}% of the limit", *_widths(run, rtol)]))


def _widths(run: Run, rtol: float) -> Iterator[str]:
    for name in run.outputs:
        try:
            mean = run.width_for(name, rtol)
        except (KeyError, ValueError) as problem:
            yield f"  {name}: {problem.args[0]}"
            continue
        try:
            most = f"from n = {run.width_for(name, rtol, share=0.95)} in 95% of networks"
        except ValueError as problem:
            most = str(problem)
        yield f"  {name}: from n = {mean} on average, {most}"


def estimate_text(estimate: Estimate, full: bool = False) -> str:
    """A value with its error, or a table."""
    return "\n".join(_estimate("", estimate, full)).removeprefix(" = ").removeprefix("[] ")


def subject(run: Run) -> str:
    """What the numbers are of: the limit, simulated networks, or their law."""
    width = f"width n = {run.settings.get('width', '?')}"
    law = f"networks of {width} (Gaussian law)"
    return {"limit": "limit n → ∞", "simulate": width, AT_WIDTH: law}.get(run.command, run.command)


def _estimate(name: str, estimate: Estimate, full: bool, width: int | None = None) -> Iterator[str]:
    limits = EVERYTHING if full else TableLimits()
    notes = [note for note in (estimate.law, estimate.method) if note]
    if estimate.value.ndim == 0:
        shown = write(float(estimate.value), float(estimate.stderr))
        yield f"{name} = {shown}{_beside(estimate, width)}   [{', '.join(notes)}]"
    else:
        axes = axis_names(estimate)
        shape = " × ".join(map(str, estimate.value.shape))
        yield f"{titled(name, axes)}   {shape}   [{', '.join(notes)}]"
        if estimate.value.size == 0:
            yield "  (empty)"
        else:
            yield from _tables(axes, estimate.value, np.broadcast_to(estimate.stderr, estimate.value.shape), limits)
    spread = covariance_of(estimate)
    if spread is not None:
        yield from _covariance(*spread, limits)
    if width is not None and estimate.value.ndim:
        yield from _at_width(estimate, width, limits)


def _beside(estimate: Estimate, width: int | None) -> str:
    """A number at finite width, beside its limit."""
    spread = None if width is None else at_width(estimate, width)
    if width is None or spread is None:
        return ""
    shown = "" if same_in_all(estimate) else f": {write_spread(*map(float, spread))}"
    return f", {width_note(estimate, width)}{shown}"


def _at_width(estimate: Estimate, width: int, limits: TableLimits) -> Iterator[str]:
    spread = at_width(estimate, width)
    if spread is not None:
        yield f"  {width_note(estimate, width)}"
        if estimate.value.size and not same_in_all(estimate):
            yield from _tables(axis_names(estimate), *spread, limits, write_spread)


def _covariance(covariance: Array, error: Array, limits: TableLimits) -> Iterator[str]:
    if covariance.size == 1:
        yield f"  variance {write(float(covariance[0, 0]), float(error[0, 0]))}"
        return
    yield "  covariance of the entries, in the order above"
    yield from _tables(("entry", "entry"), covariance, error, replace(limits, rows=limits.columns))


def _tables(
    axes: tuple[str, ...], value: Array, error: Array, limits: TableLimits, written: Writing = write
) -> Iterator[str]:
    for table in tables(axes, value, error, limits, written):
        if table is None:
            yield "  …"
            continue
        if table.caption:
            yield f"  {table.caption}"
        yield from _grid(table)
    left_out = omission(axes, value.shape, limits)
    if left_out:
        yield f"  ({left_out}; {MORE})"


def _grid(table: NumberTable) -> Iterator[str]:
    """Aligned columns; the heading of a lone column is left out."""
    lines = [[heading, *map(_cell, cells)] for heading, cells in table.rows]
    lines.insert(0, [table.corner, *table.columns])
    for line in grid(lines, right=frozenset(range(len(lines[0])))).split("\n"):
        yield f"    {line}".rstrip()


def _cell(cell: Written | None) -> str:
    return "…" if cell is None else str(cell)


def _failure(name: str, diagnostic: Diagnostic) -> str:
    remedy = f"\n  {diagnostic.remedy}" if diagnostic.remedy else ""
    return f"{name}   not computed [{diagnostic.code}]: {diagnostic.message}{remedy}"


def footer(run: Run, timed: bool = True) -> str:
    """Everything the numbers depend on, on one line, and how long they took."""
    known = [(label, run.settings[key]) for key, label in _SETTING_NAMES.items() if key in run.settings]
    other = [(key, value) for key, value in run.settings.items() if key not in _SETTING_NAMES]
    parts = [f"{label} {value}" for label, value in [*known, *other] if value is not None]
    return " · ".join([*parts, *([f"{run.seconds:.2f} s"] if timed else []), f"tpc {run.version}"])
