"""The picture and the table of docs/finite_width.md: what the limit predicts for networks of finite width, and stored networks.

python -m docs.pictures.finite_width    # from the root of the repository; some minutes

It writes finite_width.svg beside itself, and prints the table.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

import tp_compiler as tpc
from tests.consistency.networks import PROGRAMS, truth
from tp_compiler.results import Run

LOSS = "mlp_sgd"


def scaling_law(ax: Axes, run: Run) -> None:
    """The mean loss against the width: a line without a free number, and networks."""
    loss, bias = float(run["loss"]), float(run.outputs["loss"].fluctuations.bias[0])
    widths = np.geomspace(28, 300, 60)
    ax.plot(widths, loss + bias / widths, label="from the limit: L + b/n")
    ax.axhline(loss, color="grey", linestyle=":", label="the limit")
    for width, outputs in truth(LOSS).items():
        found = outputs["loss"]
        ax.errorbar(width, found.mean[0], 2 * found.stderr[0], fmt="o", color="black", markersize=4)
    ax.set(xscale="log", xlabel="width n", ylabel="mean loss of networks")
    ax.set_xticks([32, 64, 128, 256], ["32", "64", "128", "256"])
    ax.minorticks_off()
    ax.legend(frameon=False)


def spreads(ax: Axes, runs: dict[str, Run]) -> None:
    """Every variance of every program: predicted, and n times that of networks of width 128."""
    for name, run in runs.items():
        measured = truth(name)[128]
        own = np.concatenate([np.diag(run.outputs[o].fluctuations.sigma) for o in measured])
        theirs = np.concatenate([128 * np.diag(found.covariance) for found in measured.values()])
        ax.plot(own, theirs, "o", markersize=4, label=name.replace("_", " "))
    ends = np.array([0.004, 300])
    ax.plot(ends, ends, color="grey", linewidth=0.8)
    ax.set(xscale="log", yscale="log", xlabel="Σ from the limit", ylabel="n Var, networks of width 128")
    ax.legend(frameon=False, fontsize="x-small", loc="upper left", ncols=2)


def row(name: str, run: Run) -> str:
    """Σ and b of the first entry of the first output, and networks'. Their bias needs a sharper limit than their spread."""
    output = next(iter(truth(name)[128]))
    own, limit = run.outputs[output].fluctuations, tpc.limit(PROGRAMS[name], samples=2**14, only=[output])
    value, unsure = (np.ravel(x)[0] for x in (limit[output], limit.outputs[output].stderr))
    half, whole = (truth(name)[n][output] for n in (64, 128))
    figures = [
        (own.sigma[0, 0], own.sigma_stderr[0, 0]),
        (128 * whole.covariance[0, 0], 128 * whole.covariance_stderr[0, 0]),
        (own.bias[0], own.bias_stderr[0]),
        (64 * (half.mean[0] - value), 64 * np.hypot(half.stderr[0], unsure)),
    ]
    return "| " + " | ".join([name.replace("_", " "), *(f"{x:.3g} ± {error:.2g}" for x, error in figures)]) + " |"


if __name__ == "__main__":
    runs = {name: tpc.limit(path, width=128) for name, path in PROGRAMS.items()}
    print("| program | Σ | n Var, n = 128 | b | n (mean - f), n = 64 |\n| --- | --- | --- | --- | --- |")
    print("\n".join(row(name, run) for name, run in runs.items()))
    plt.rcParams["svg.hashsalt"] = "tpc"  # the same picture has the same bytes
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 4), layout="constrained")
    scaling_law(left, runs[LOSS])
    spreads(right, runs)
    figure.savefig(Path(__file__).with_suffix(".svg"), metadata={"Date": None})
