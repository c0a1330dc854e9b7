"""Means and covariances of outputs over many random networks: the truth of tests of finite width.

The programs are those of the folder `finite_width`, the figures `finite_width/networks.json`. To compute them again (a quarter
of an hour of one core): `python -m tests.consistency.networks`, with names of programs for some of them only.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import tp_compiler as tpc

HERE = Path(__file__).resolve().parent / "finite_width"
PROGRAMS = {path.stem: path for path in sorted(HERE.glob("*.nexort"))}
TRUTH = HERE / "networks.json"
#: Networks of each width.
USUAL, MANY = {64: 20_000, 128: 20_000}, {64: 60_000, 128: 60_000}
SEEDS = dict.fromkeys(PROGRAMS, USUAL)
SEEDS |= dict.fromkeys(("linear", "linear_deep", "mlp_adam", "rectangular"), MANY)
SEEDS["mlp_sgd"] = {32: 60_000, **MANY, 256: 20_000}


@dataclass(frozen=True)
class Networks:
    """An output over `seeds` networks of one width; entries in C order."""

    seeds: int
    mean: np.ndarray
    covariance: np.ndarray
    covariance_stderr: np.ndarray

    @property
    def stderr(self) -> np.ndarray:
        """Of the mean."""
        return np.asarray(np.sqrt(np.diag(self.covariance) / self.seeds))


def measured(name: str, width: int, seeds: int, seed: int = 0) -> dict[str, Networks]:
    """Every output of a program in networks of one width."""
    run = tpc.simulate(PROGRAMS[name], width, seeds=seeds, seed=seed)
    return {output: over(values.reshape(seeds, -1)) for output, values in run.replicates.items()}


def over(values: np.ndarray) -> Networks:
    """Mean and covariance of values (networks, entries), with errors that count their tails."""
    seeds = len(values)
    mean = values.mean(axis=0)
    products = np.einsum("ri,rj->rij", values - mean, values - mean)
    return Networks(seeds, mean, products.sum(axis=0) / (seeds - 1), products.std(axis=0) / np.sqrt(seeds))


def truth(name: str) -> dict[int, dict[str, Networks]]:
    """The stored figures of a program: by width, then by output."""
    stored = json.loads(TRUTH.read_text(encoding="utf-8"))[name]
    return {int(width): {o: _read(figures) for o, figures in outputs.items()} for width, outputs in stored.items()}


def _read(figures: Mapping[str, Any]) -> Networks:
    arrays = {key: np.array(figures[key]) for key in ("mean", "covariance", "covariance_stderr")}
    return Networks(figures["seeds"], **arrays)


def _written(found: Networks) -> dict[str, Any]:
    def digits(values: np.ndarray) -> Any:
        return np.vectorize(lambda v: float(f"{v:.6g}"))(values).tolist()

    return {"seeds": found.seeds, "mean": digits(found.mean), "covariance": digits(found.covariance),
            "covariance_stderr": digits(found.covariance_stderr)}  # fmt: skip


def compute(names: Collection[str]) -> None:
    """Measure these programs, and store what is found beside the others."""
    stored = json.loads(TRUTH.read_text(encoding="utf-8")) if TRUTH.exists() else {}
    for name in names:
        stored[name] = {
            str(width): {o: _written(found) for o, found in measured(name, width, seeds, seed=width).items()}
            for width, seeds in SEEDS[name].items()
        }
        print(name, flush=True)
        lines = ",\n".join(f"{json.dumps(key)}: {json.dumps(stored[key])}" for key in sorted(stored))
        TRUTH.write_text(f"{{\n{lines}\n}}\n", encoding="utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="programs (all of them)")
    compute(parser.parse_args().names or list(PROGRAMS))
