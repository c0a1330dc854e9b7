"""Figure 4 of Tensor Programs IV: infinite-width training curves beside networks of growing width.

    python examples/figure4.py [figure4.png]

Left: linear networks with one and two hidden layers, whose limit is exact. Right: one hidden layer with x², sampled.
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.axes import Axes

import tp_compiler
from tp_compiler import Source

HERE = Path(__file__).parent
WIDTHS = (64, 256, 1024)

TRAIN = """
train steps = {steps} {{
    f    = {net}
    loss = (f - s[step])^2 / 2
    minimize loss
    update all with SGD(lr = {rate})
}}
output loss[step]
"""
DEEP = """data s[step] = [-1,-1,1,-1,1,1,-1,1,1,-1]
ket    |u> ~ N(0, 1)
matrix W   ~ N(0, 1)
ket    |v> ~ N(0, 0.01)
""" + TRAIN.format(steps=9, net="<v|W|u>", rate=0.2)
QUADRATIC = """data s[step] = [-1,1,1,-1,1,1]
ket |u> ~ N(0, 1)
ket |v> ~ N(0, 0.01)
""" + TRAIN.format(steps=5, net="<v|u^2>", rate=0.1)


def draw(axes: Axes, title: str, program: Path | Source) -> None:
    """Loss against step: networks in colour, the limit in black."""
    for width in WIDTHS:
        run = tp_compiler.simulate(program, width=width, seeds=1)
        axes.plot(run.outputs["loss"].value, label=f"n = {width}", alpha=0.7)
    limit = tp_compiler.limit(program).outputs["loss"]
    axes.plot(limit.value, "k--", label=f"limit ({limit.method})")
    axes.set(title=title, xlabel="step", ylabel="loss")
    axes.legend(fontsize="small")


def main(target: str = "figure4.png") -> None:
    figure, (one, two, square) = plt.subplots(1, 3, figsize=(13, 3.6), layout="constrained")
    draw(one, "linear, one hidden layer", HERE / "figure4.nexort")
    draw(two, "linear, two hidden layers", Source("two hidden layers", DEEP))
    draw(square, "x², one hidden layer", Source("x²", QUADRATIC))
    figure.savefig(target, dpi=150)


if __name__ == "__main__":
    main(*sys.argv[1:2])
