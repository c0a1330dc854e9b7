"""The result of `tpc scale` as plain text."""

from __future__ import annotations

import re
from collections.abc import Iterator

from tp_compiler.report.scaling_tables import grid, raw_figures
from tp_compiler.scale.numbers import order, power
from tp_compiler.scale.result import Scaling, Table
from tp_compiler.scale.verdict import Question

#: How the reasons of raw.py call the weight.
WEIGHT = r"\bW\b"


def page(scaling: Scaling, equivalent: bool = False) -> str:
    """Tables with reasons, the class with its reasons, other parametrizations, equivalent tables."""
    return "\n".join(_lines(scaling, equivalent))


def _lines(scaling: Scaling, equivalent: bool) -> Iterator[str]:
    yield f"{scaling.network.source.name}: parametrization {scaling.main.parametrization}"
    for name, table in scaling.tables.items():
        yield ""
        if len(scaling.tables) > 1:
            yield f"-- {name} --"
        yield from _table(table)
        yield from _class(table)
    if equivalent:
        for title, rows in scaling.equivalent().items():
            yield from ("", f"equivalent: {title}")
            yield raw_figures(dict(rows))
    for name, table in scaling.compared.items():
        yield ""
        yield f"{name}: {table.verdict.regime.value}, r = {table.verdict.r}"
        if name == "standard":
            yield "  all hyperparameters constant, 1/√fan-in at initialisation"
        yield from (f"  {problem}" for problem in table.verdict.problems)


def _table(table: Table) -> Iterator[str]:
    outputs = {name: row.output for name, row in table.rows.items() if row.output is not None}
    yield raw_figures(table.raw, table.constants, outputs)
    if any(table.constants.values()):
        yield "factors are width ratios and initial standard deviations"
    yield ""
    for name, raw in table.raw.items():
        for figure, why in raw.reasons.items():
            if figure != "multiplier" or raw["multiplier"] != 0:
                yield f"{name}, {figure}: {re.sub(WEIGHT, name, why)}."
    for name, row in table.rows.items():
        if row.output is not None:
            yield f"{name}: {row.parameter.role}; multiply the sums of the brackets it reads out by {power(row.output)}."
    yield ""
    rows = [["parameter", "is", "its update moves its output by"]]
    for name, row in table.rows.items():
        moved = table.verdict.updates[row.parameter.shown]
        rows.append([name, row.parameter.role, order(moved) if not isinstance(moved, float) else "nothing"])
    yield grid(rows)


def _class(table: Table) -> Iterator[str]:
    verdict = table.verdict
    words = {True: "yes", False: "no", None: "-"}
    answers = {
        Question.INIT: verdict.stable_at_init,
        Question.FAITHFUL: verdict.faithful,
        Question.STABLE: verdict.stable,
        Question.NONTRIVIAL: verdict.nontrivial,
    }
    yield ""
    for question, answer in answers.items():
        yield f"{question.value}: {words[answer]}"
        if answer is False:
            yield from (f"  {condition}" for condition in verdict.deciding(question))
    yield f"class: {verdict.regime.value}, r = {verdict.r}"
    yield f"  {verdict.reason}"
    yield from verdict.notes
