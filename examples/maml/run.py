"""First-order MAML at infinite width, at finite widths and in the kernel limit, on the arrays of omniglot.py.

    python examples/maml/run.py FOLDER [--widths 16,64,256,1024] [--seeds 1] [--rate 0.1]

Prints a table, and writes `maml.json` and, with matplotlib, `maml.png` to the folder.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

import tp_compiler as tpc

sys.path.insert(0, str(Path(__file__).parent))
import omniglot

PROGRAM = Path(__file__).with_name("maml.nexort")


def figures(run: Any, limit: Any) -> dict[str, Any]:
    """Means over the last quarter of the steps, the tasks held out, and the deviation of the curve from the limit's."""
    last = len(run["loss"]) * 3 // 4
    return {
        "loss": float(run["loss"][last:].mean()),
        "accuracy": float(run["accuracy"][last:].mean()),
        "held_loss": float(run["held_loss"]),
        "held_accuracy": float(run["held_accuracy"]),
        "deviation": float(np.sqrt(np.mean(np.square(run["loss"] - limit)))),
        "curve": np.asarray(run["loss"]).round(6).tolist(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--widths", default="16,64,256,1024", help="none: the limits alone")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--rate", type=float, default=0.1)
    options = parser.parse_args()
    folder: Path = options.folder
    widths = [] if options.widths == "none" else options.widths.split(",")
    if options.seeds < 1 or not all(w.isdigit() and int(w) for w in widths):
        parser.error("--seeds is 1 or more, and --widths a list of whole numbers, 16,64, or none")
    try:
        with np.load(folder / "omniglot.npz") as arrays:
            settings = omniglot.sizes(dict(arrays)) | {"rate": options.rate}
    except (OSError, ValueError, KeyError) as problem:
        parser.error(str(problem))
    program = folder / PROGRAM.name
    program.write_text(PROGRAM.read_text(encoding="utf-8"), encoding="utf-8")

    table: dict[str, Any] = {}
    limit = None
    for name in ("limit", "kernel", *widths):
        start = time.monotonic()
        if name in ("limit", "kernel"):
            run = tpc.limit(program, settings=settings | {"features": float(name == "limit")}, method="exact")
            limit = run["loss"] if limit is None else limit
            rows = [figures(run, limit)]
        else:
            compiled = tpc.compile(program, settings=settings)
            seeds = range(options.seeds)
            rows = [
                figures(tpc.simulate(compiled, width=int(name), seeds=1, seed=s, dtype="float32"), limit) for s in seeds
            ]
        mean = {k: np.mean([r[k] for r in rows], axis=0) for k in rows[0]}
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        table[name] = {k: v.tolist() for k, v in mean.items()} | {"seconds": time.monotonic() - start, "GB": memory}
        print(f"{name:>7}: " + ", ".join(f"{k} {v:.4f}" for k, v in table[name].items() if k != "curve"), flush=True)
        (folder / "maml.json").write_text(json.dumps(table), encoding="utf-8")
    try:
        plot(table, folder / "maml.png")
    except ImportError:
        print('no figure: pip install "tp_compiler[plot]"')


def plot(table: dict[str, Any], target: Path) -> None:
    """Against width, the limit as the last point: accuracy and loss; and the deviation of the loss over training."""
    import matplotlib.pyplot as plt

    widths = [k for k in table if k.isdigit()]
    figure, panels = plt.subplots(1, 3, figsize=(13, 3.6), layout="constrained")
    keys = ("accuracy", "loss")
    titles = ("accuracy after one step", "loss after one step")
    for axes, key, title in zip(panels, keys, titles, strict=False):
        axes.plot(range(len(widths) + 1), [table[k][key] for k in (*widths, "limit")], "o-")
        axes.axhline(table["kernel"][key], color="gray", ls="--", label="kernel limit")
        axes.set_xticks(range(len(widths) + 1), [*widths, "∞"])
        axes.set(title=title, xlabel="width")
        axes.legend()
    panels[2].loglog([int(k) for k in widths], [table[k]["deviation"] for k in widths], "o-")
    panels[2].set(title="RMS deviation of the loss from the limit", xlabel="width")
    figure.savefig(target, dpi=150)


if __name__ == "__main__":
    main()
