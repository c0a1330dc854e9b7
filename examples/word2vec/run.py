"""Word2Vec at infinite width, at finite widths and in the kernel limit, on the arrays that corpus.py has made.

    python examples/word2vec/run.py FOLDER [--widths 16,64,256,1024] [--questions questions-words.txt] [--rate 0.2]

Prints a table, and writes `word2vec.json` and, with matplotlib, `word2vec.png` to the folder.
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
import corpus

PROGRAM = Path(__file__).with_name("word2vec.nexort")


def accuracy(gram: Any, questions: Any) -> float:
    """The share of analogies a : b = c : d answered by the largest cosine with b - a + c, the three words left out."""
    if not len(questions):
        return float("nan")
    norm = np.sqrt(np.maximum(np.diag(gram), 1e-300))
    cosine = gram / norm[:, None] / norm
    a, b, c, d = questions.T
    scores = cosine[b] - cosine[a] + cosine[c]
    rows = np.arange(len(questions))
    for asked in (a, b, c):
        scores[rows, asked] = -np.inf
    return float((scores.argmax(axis=1) == d).mean())


def figures(run: Any, gram: Any, questions: Any, chosen: int = 20) -> dict[str, Any]:
    """Losses, analogies, and the deviation of the Gram matrix of the most frequent words from the limit's."""
    found = run["gram"]
    return {
        "loss": float(np.mean(run["loss"][-100:])),
        "held": float(run["held"]),
        "analogies": accuracy(found, questions),
        "gram": float(np.sqrt(np.mean(np.square(found - gram)[:chosen, :chosen]))),
        "curve": np.asarray(run["loss"]).round(6).tolist(),
    }


def numbers(text: str) -> list[str]:
    """The widths of a list; `none` is none."""
    found = [] if text == "none" else text.split(",")
    if not all(w.isdigit() and int(w) for w in found):
        raise ValueError(f"--widths {text}: write whole numbers, 16,64, or none")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--widths", default="16,64,256,1024", help="none: the limits alone")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--questions", type=Path)
    parser.add_argument("--rate", type=float, default=0.2)
    options = parser.parse_args()
    folder: Path = options.folder
    try:
        widths = numbers(options.widths)
        corpus.at_least("seeds", options.seeds, 1)
        words = corpus.text_of(folder / "words.txt").split()
        with np.load(folder / "word2vec.npz") as arrays:
            settings = corpus.sizes(dict(arrays), len(words)) | {"rate": options.rate}
        questions = corpus.analogies(options.questions, words) if options.questions else np.empty((0, 4), int)
    except (OSError, ValueError, KeyError) as problem:
        parser.error(str(problem))
    (folder / PROGRAM.name).write_text(PROGRAM.read_text(encoding="utf-8"), encoding="utf-8")

    table: dict[str, Any] = {}
    program = folder / PROGRAM.name
    gram = None
    for name in ("limit", "kernel", *widths):
        start = time.monotonic()
        if name in ("limit", "kernel"):
            run = tpc.limit(program, settings=settings | {"features": float(name == "limit")}, method="exact")
            gram = run["gram"] if gram is None else gram
            rows = [figures(run, gram, questions)]
        else:
            rows = [
                figures(
                    tpc.simulate(program, width=int(name), seeds=1, seed=s, settings=settings, dtype="float32"),
                    gram, questions,
                )
                for s in range(options.seeds)
            ]  # fmt: skip
        mean = {k: np.mean([r[k] for r in rows], axis=0) for k in rows[0]}
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        table[name] = {k: v.tolist() for k, v in mean.items()} | {"seconds": time.monotonic() - start, "GB": memory}
        shown = ", ".join(f"{k} {v:.4f}" for k, v in table[name].items() if k != "curve")
        print(f"{name:>7}: {shown}", flush=True)
        (folder / "word2vec.json").write_text(json.dumps(table), encoding="utf-8")
    try:
        plot(table, folder / "word2vec.png")
    except ImportError:
        print('no figure: pip install "tp_compiler[plot]"')


def plot(table: dict[str, Any], target: Path) -> None:
    """Against width, the limit as the last point: loss held out, analogies, and the deviation of the Gram matrix."""
    import matplotlib.pyplot as plt

    widths = [k for k in table if k.isdigit()]
    figure, panels = plt.subplots(1, 3, figsize=(13, 3.6), layout="constrained")
    for axes, key, title in zip(panels, ("held", "analogies"), ("loss held out", "analogies right"), strict=False):
        axes.plot(range(len(widths) + 1), [table[k][key] for k in (*widths, "limit")], "o-")
        axes.axhline(table["kernel"][key], color="gray", ls="--", label="kernel limit")
        axes.set_xticks(range(len(widths) + 1), [*widths, "∞"])
        axes.set(title=title, xlabel="width")
        axes.legend()
    panels[2].loglog([int(k) for k in widths], [table[k]["gram"] for k in widths], "o-")
    panels[2].set(title="RMS deviation of <e|e'> from the limit", xlabel="width")
    figure.savefig(target, dpi=150)


if __name__ == "__main__":
    main()
