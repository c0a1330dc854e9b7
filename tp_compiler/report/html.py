"""Results for notebooks: HTML tables. Every text that comes from a program is escaped."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

import numpy as np

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
from tp_compiler.report.text import MORE, footer, subject
from tp_compiler.results import Array, Estimate, Run


def run_html(run: Run, full: bool = False) -> str:
    """A fragment: heading, a table per output, failures, the footer; every entry if `full`."""
    parts = [f"<div class='tpc-run'><p><b>{escape(run.program)}</b> · {escape(subject(run))}</p>"]
    for name, estimate in run.outputs.items():
        parts.extend(_estimate(name, estimate, full))
        if run.width is not None:
            parts.extend(_at_width(estimate, run.width, full))
    for name, diagnostic in run.failed.items():
        message = f"{diagnostic.code}: {diagnostic.message}"
        parts.append(f"<p><b>{escape(name)}</b> not computed: {escape(message)}</p>")
    parts.append(f"<p><small>{escape(footer(run))}</small></p></div>")
    return "\n".join(parts)


def estimate_html(estimate: Estimate, full: bool = False) -> str:
    """A value with its error, or a table."""
    return "\n".join(["<div class='tpc-estimate'>", *_estimate("value", estimate, full), "</div>"])


def _estimate(name: str, estimate: Estimate, full: bool) -> Iterator[str]:
    limits = EVERYTHING if full else TableLimits()
    axes = axis_names(estimate)
    notes = escape(", ".join(note for note in (estimate.law, estimate.method) if note))
    error = np.broadcast_to(estimate.stderr, estimate.value.shape)
    if estimate.value.ndim == 0:
        shown = number(write(float(estimate.value), float(error)))
        yield f"<p><b>{escape(name)}</b> = {shown} <small>{notes}</small></p>"
    else:
        brackets = escape(titled(name, axes).removeprefix(name))
        yield f"<p><b>{escape(name)}</b>{brackets} <small>{notes}</small></p>"
        yield from _tables(axes, estimate.value, error, limits)
    spread = covariance_of(estimate)
    if spread is not None:
        yield "<details><summary>covariance</summary>"
        yield from _tables(("entry", "entry"), *spread, limits)
        yield "</details>"


def _at_width(estimate: Estimate, width: int, full: bool) -> Iterator[str]:
    spread = at_width(estimate, width)
    if spread is None:
        return
    note = escape(width_note(estimate, width))
    if estimate.value.ndim == 0 or not estimate.value.size or same_in_all(estimate):
        shown = "" if same_in_all(estimate) else f": {number(write_spread(*map(float, spread)))}"
        yield f"<p>{note}{shown}</p>"
        return
    yield f"<details open='open'><summary>{note}</summary>"
    yield from _tables(axis_names(estimate), *spread, EVERYTHING if full else TableLimits(), write_spread)
    yield "</details>"


def _tables(
    axes: tuple[str, ...], value: Array, error: Array, limits: TableLimits, written: Writing = write
) -> Iterator[str]:
    if value.size == 0:
        yield "<p>(empty)</p>"
        return
    for table in tables(axes, value, error, limits, written):
        yield "<p>…</p>" if table is None else _table(table)
    left_out = omission(axes, value.shape, limits)
    if left_out:
        yield f"<p><small>({escape(left_out)}; {escape(MORE)})</small></p>"


def _table(table: NumberTable) -> str:
    caption = f"<caption>{escape(table.caption)}</caption>" if table.caption else ""
    head = "".join(f"<th>{escape(text)}</th>" for text in (table.corner, *table.columns))
    rows = [
        f"<tr><th>{escape(heading)}</th>{''.join(f'<td>{number(cell)}</td>' for cell in cells)}</tr>"
        for heading, cells in table.rows
    ]
    return f"<table>{caption}<thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"


def number(cell: Written | None) -> str:
    """`0.37940(12)`, `1.2(3)×10⁻⁸` or `0.627 ± 0.017`."""
    if cell is None:
        return "…"
    power = f"×10<sup>{cell.exponent}</sup>" if cell.exponent else ""
    return cell.spelled("±", power)
