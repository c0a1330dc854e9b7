"""Classifications and scaling values as plain tables."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from fractions import Fraction

from tp_compiler.report.blocks import grid
from tp_compiler.scale.abcd import Layer
from tp_compiler.scale.numbers import order, power
from tp_compiler.scale.raw import Raw
from tp_compiler.scale.verdict import Classification

#: The answers to questions about a parametrization; None if a theorem does not apply.
WORDS = {True: "yes", False: "no", None: "-"}


def classification_table(found: Classification, layers: Sequence[Layer] | None = None) -> str:
    """The layers with their exponents and sizes, then every question with its answer and the reason."""
    sizes = found.sizes
    names = [f"W^{k}" for k in range(1, sizes.hidden + 2)]
    head = ["layer", *(["a", "b", "c", "d"] if layers else []), "a+b", "r", "its update moves"]
    rows = []
    for k, name in enumerate(names):
        moved = f"{'f' if k == sizes.hidden else f'h^{k + 1}'} by {order(-sizes.r[k])}"
        given = [layers[k].a, layers[k].b, layers[k].c, layers[k].d] if layers else []
        rows.append([name, *(str(x) for x in given), str(sizes.init[k]), str(sizes.r[k]), moved])
    lines = [grid([head, *rows]), ""]
    for question, answer in found.answers.items():
        lines.append(f"{question.value}: {WORDS[answer]}")
        lines += [f"  {condition}" for condition in found.deciding(question) if answer is not None]
    lines += [f"regime: {found.regime.value}, r = {found.r}", f"  {found.reason}"]
    return "\n".join(lines)


def figure_cells(
    rows: Mapping[str, Raw],
    constants: Mapping[str, Mapping[str, float]] | None = None,
    outputs: Mapping[str, Fraction] | None = None,
) -> list[list[str]]:
    """Parameters by name, one figure a column, after a row of headings. `constants`: factors of figures; `outputs`:
    multipliers of the brackets that tied parameters read."""
    factors, tied = constants or {}, outputs or {}
    held = dict.fromkeys(name for row in rows.values() for name in row.figures)
    figures = [name for name in held if name != "multiplier"] + ["multiplier"]
    head = ["parameter", "kind", "optimizer", *figures, *(["output_multiplier"] if tied else [])]
    body = []
    for name, row in rows.items():
        values = row.figures | ({"output_multiplier": tied[name]} if name in tied else {})
        cells = [_figure(values[f], factors.get(name, {}).get(f, 1)) if f in values else "" for f in head[3:]]
        body.append([name, row.kind.value, row.optimizer, *cells])
    return [head, *body]


def _figure(exponent: Fraction, factor: float) -> str:
    """A power of n, with its factor."""
    if math.isclose(factor, 1):
        return power(exponent)
    return f"{factor:.4g}" if exponent == 0 else f"{factor:.4g} {power(exponent)}"


def raw_table(rows: Mapping[str, Raw]) -> str:
    """The same, and the reasons."""
    reasons = [f"{name}, {figure}: {why}." for name, row in rows.items() for figure, why in row.reasons.items()]
    return "\n".join([grid(figure_cells(rows)), "", *reasons])
