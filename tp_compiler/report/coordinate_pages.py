"""The result of a coordinate check as text, HTML and LaTeX: the causes first, then what is measured beside what is derived."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

from tp_compiler.report import blocks
from tp_compiler.report.blocks import Block, Grid, Heading, Lines
from tp_compiler.scale.coordinates import CoordCheck, CoordinateRow, CoordinateVerdict, listed
from tp_compiler.scale.numbers import power

#: Headings of the tables, by quantity.
_TITLES = {
    "activation": "activations at initialisation",
    "update": "updates of activations",
    "parameter update": "updates of parameters",
    "gradient": "first gradients",
}
_OFF = (CoordinateVerdict.WRONG, CoordinateVerdict.FOLLOWS, CoordinateVerdict.WARNING)


def text(check: CoordCheck) -> str:
    """The causes, the settings, and a row for each module and parameter."""
    return blocks.text(_blocks(check))


def table(check: CoordCheck) -> str:
    """The tables alone."""
    return blocks.text(_tables(check))


def html(check: CoordCheck) -> str:
    """The same for notebooks."""
    return blocks.html(_blocks(check))


def latex(check: CoordCheck) -> str:
    """The same for a LaTeX document."""
    return blocks.tex(_blocks(check))


def _blocks(check: CoordCheck) -> Iterator[Block]:
    yield Heading(f"coordinate check: {'passed' if check.passed else 'FAILED'}", main=True)
    yield Lines([f"{k}. {problem}" for k, problem in enumerate(check.problems, 1)])
    widths, optimizers = ", ".join(map(str, check.widths)), ", ".join(check.optimizers)
    yield Lines((f"n = {widths}; {check.seeds} seeds; {check.steps} steps of {optimizers}",), apart=True)
    yield Lines(_warnings(check))
    yield Lines([f"note: {note}" for note in check.notes])
    yield from _tables(check)


def _warnings(check: CoordCheck) -> list[str]:
    found: dict[tuple[str, str], list[str]] = {}
    for row in check.rows:
        if row.verdict == CoordinateVerdict.WARNING:
            found.setdefault((row.quantity, row.reason), []).append(row.name)
    return [f"warning: {quantity} of {listed(names)}: {reason}" for (quantity, reason), names in found.items()]


def _tables(check: CoordCheck) -> Iterator[Block]:
    settings = [row for row in check.rows if row.step is None]
    if settings:
        yield Heading("settings: powers of n")
        yield Grid([["parameter", "", "found", "muP", "", ""], *_settings(settings)])
    for quantity, title in _TITLES.items():
        rows = [row for row in check.rows if row.quantity == quantity and row.step is not None]
        if rows:
            after = f", after {rows[0].step} step{'s' * (rows[0].step != 1)}" if rows[0].step else ""
            yield Heading(title + after)
            head = ["module" if quantity in ("activation", "update") else "parameter", "slope", "se", "derived", "", ""]
            yield Grid([head, *map(_measured, rows)], right=frozenset((1, 2, 3)))
    yield from _alignments(check)


def _alignments(check: CoordCheck) -> Iterator[Block]:
    if not check.alignments:
        return
    yield Heading(f"alignments, after {check.steps} step{'s' * (check.steps != 1)}: exponents of sums over neurons")
    head = ["parameter", "ΔW x", "se", "W Δx", "se", "ΔW Δx", "se"]
    body = [
        [name, *(cell for key in ("alpha", "omega", "u") for cell in _pair(found.slopes[key]))]
        for name, found in check.alignments.items()
    ]
    yield Grid([head, *body], right=frozenset(range(1, 7)))


def _pair(slope: tuple[float, float] | None) -> list[str]:
    return ["-", ""] if slope is None else [f"{slope[0]:.2f}", f"{slope[1]:.2f}"]


def _settings(rows: list[CoordinateRow]) -> Iterator[list[str]]:
    """Parameters with the same figures are one row."""
    found: dict[tuple[str, ...], list[str]] = {}
    for row in rows:
        derived = power(row.derived) if row.derived is not None else "-"
        at = "-" if row.slope is None else _power(row.slope)
        reason = row.reason if row.verdict in _OFF else ""
        found.setdefault((row.quantity, at, derived, row.verdict.value, reason), []).append(row.name)
    for key, names in found.items():
        yield [listed(names), *key]


def _power(slope: float) -> str:
    near = Fraction(slope).limit_denominator(12)
    return power(near) if abs(float(near) - slope) < 1e-6 else f"n^{slope:.2f}"


def _measured(row: CoordinateRow) -> list[str]:
    slope = ["-", ""] if row.slope is None else [f"{row.slope:+.2f}", f"{row.stderr:.2f}"]
    derived = "-" if row.derived is None else str(row.derived)
    return [row.name or "the module", *slope, derived, row.verdict.value, row.reason]
