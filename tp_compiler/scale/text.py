"""Classifications and figures as plain tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tp_compiler.scale.abcd import Layer
from tp_compiler.scale.numbers import order, power
from tp_compiler.scale.raw import Raw
from tp_compiler.scale.verdict import Classification, Question


def classification_table(found: Classification, layers: Sequence[Layer] | None = None) -> str:
    """The layers with their exponents and sizes, then every question with its answer and what decided it."""
    sizes = found.sizes
    names = [f"W^{k}" for k in range(1, sizes.hidden + 2)]
    head = ["layer", *(["a", "b", "c", "d"] if layers else []), "a+b", "r", "its update moves"]
    rows = []
    for k, name in enumerate(names):
        moved = f"{'f' if k == sizes.hidden else f'h^{k + 1}'} by {order(-sizes.r[k])}"
        given = [layers[k].a, layers[k].b, layers[k].c, layers[k].d] if layers else []
        rows.append([name, *(str(x) for x in given), str(sizes.init[k]), str(sizes.r[k]), moved])
    answers: dict[Question, bool | None] = {
        Question.INIT: found.stable_at_init,
        Question.FAITHFUL: found.faithful,
        Question.STABLE: found.stable,
        Question.NONTRIVIAL: found.nontrivial,
    }
    words = {True: "yes", False: "no", None: "-"}
    lines = [grid([head, *rows]), ""]
    for question, answer in answers.items():
        lines.append(f"{question.value}: {words[answer]}")
        lines += [f"  {condition}" for condition in found.deciding(question) if answer is not None]
    lines += [f"regime: {found.regime.value}, r = {found.r}", f"  {found.reason}"]
    return "\n".join(lines)


def raw_figures(rows: Mapping[str, Raw]) -> str:
    """Parameters by name, one figure a column."""
    held = dict.fromkeys(name for row in rows.values() for name in row.figures)
    figures = [name for name in held if name != "multiplier"] + ["multiplier"]
    head = ["parameter", "kind", "optimizer", *figures]
    body = [
        [name, row.kind.value, row.optimizer, *(power(row[f]) if f in row.figures else "" for f in figures)]
        for name, row in rows.items()
    ]
    return grid([head, *body])


def raw_table(rows: Mapping[str, Raw]) -> str:
    """The same, and the reasons."""
    reasons = [f"{name}, {figure}: {why}." for name, row in rows.items() for figure, why in row.reasons.items()]
    return "\n".join([raw_figures(rows), "", *reasons])


def grid(rows: Sequence[Sequence[str]]) -> str:
    """Columns of equal width."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(x.ljust(w) for x, w in zip(row, widths, strict=True)).rstrip() for row in rows)
