"""The plot of the classes (TP IV Figure 2): a slice through the space of parametrizations, with the program in it.

Horizontal: every update moves its output by n^-s. Vertical: an entry of the readout is n^-m at initialisation.
The classes are those of the program's own network (analysis.py), point by point on a grid of exact fractions.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

from tp_compiler.ir.model import Trainable
from tp_compiler.scale.abcd import Layer
from tp_compiler.scale.figures import table
from tp_compiler.scale.numbers import HALF
from tp_compiler.scale.optimizers import OPTIMIZERS, EntrywiseOptimizer, OptimizerScaling, ParameterKind, Untrained
from tp_compiler.scale.points import Point
from tp_compiler.scale.result import Scaling
from tp_compiler.scale.verdict import Regime

STEP = Fraction(1, 8)
ACROSS = (-HALF, Fraction(1))
UP = (Fraction(1, 4), Fraction(3, 2))

_COLOURS = {
    Regime.UNSTABLE: "#f3c6c0",
    Regime.TRIVIAL: "#dfe7ee",
    Regime.OPERATOR: "#2f6fb0",
    Regime.FEATURE_LEARNING: "#2d8a4e",
}


def slice_point(s: Fraction, m: Fraction) -> Point:
    """The parametrization at (s, m), with faithful d."""
    scalar = Layer(Fraction(0), Fraction(0), s, Fraction(0))
    hidden, output = Layer(Fraction(0), HALF, 1 + s, m), Layer(m, Fraction(0), 1 + s - m, m)
    return Point(Layer(Fraction(0), Fraction(0), s, m), hidden, output, scalar)


def classes(scaling: Scaling) -> dict[tuple[Fraction, Fraction], Regime]:
    """The class at every point of the grid."""

    def entrywise(t: Trainable) -> OptimizerScaling:
        """Faithful points are the same for all optimizers; optimizers without d are treated as ignoring it."""
        found = scaling.choice(t)
        return found if isinstance(found, EntrywiseOptimizer | Untrained) else OPTIMIZERS["SignSGD"]

    return {
        (s, m): scaling.analysis.judge(table(scaling.reading, entrywise, slice_point(s, m))).regime
        for s in _grid(*ACROSS)
        for m in _grid(*UP)
    }


def place(scaling: Scaling) -> tuple[Fraction, Fraction] | None:
    """The position of the program: (r, m); None if there is no readout."""
    for row in scaling.main.rows.values():
        if row.output is not None:
            return scaling.verdict.r, -row.output
        if row.raw.kind == ParameterKind.OUTPUT:
            return scaling.verdict.r, -row.raw["init_std"] - row.raw["multiplier"]
    return None


def plot(scaling: Scaling, path: str | Path) -> None:
    """Writes the picture."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    found = classes(scaling)
    figure, axes = plt.subplots(figsize=(6.4, 4.8), layout="constrained")
    try:
        for regime, colour in _COLOURS.items():
            points = sorted(p for p, r in found.items() if r == regime)
            if not points:
                continue
            s, m = ([float(p[k]) for p in points] for k in (0, 1))
            line = regime in (Regime.OPERATOR, Regime.FEATURE_LEARNING)
            if line:
                axes.plot(s, m, "-o", color=colour, linewidth=3, markersize=5, label=regime.value, zorder=3)
            else:
                axes.scatter(s, m, s=420, marker="s", color=colour, label=regime.value, zorder=1)
        own = place(scaling)
        if own is not None:
            name = f"this program ({scaling.main.parametrization})"
            axes.plot(float(own[0]), float(own[1]), "*", color="black", markersize=16, label=name, zorder=4)
        axes.set_xlabel("s: updates move their outputs by $n^{-s}$")
        axes.set_ylabel("m: entries of the readout are $n^{-m}$")
        axes.set_xlim(float(ACROSS[0] - STEP / 2), float(ACROSS[1] + STEP / 2))
        axes.set_ylim(float(UP[0] - STEP / 2), float(UP[1] + STEP / 2))
        axes.set_title(scaling.network.source.name.rsplit("/", 1)[-1])
        figure.legend(loc="outside lower center", ncols=3, markerscale=0.5)
        figure.savefig(path)
    finally:
        plt.close(figure)


def _grid(low: Fraction, high: Fraction) -> Iterator[Fraction]:
    while low <= high:
        yield low
        low += STEP
