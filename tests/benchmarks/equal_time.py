"""Limits beside PyTorch networks batched over seeds, at equal time on one thread, by error.

    OMP_NUM_THREADS=1 python -m tests.benchmarks.equal_time 1 5             # seconds; all tables, about 5 minutes
    OMP_NUM_THREADS=1 python -m tests.benchmarks.equal_time 1 5 10 60 MLP   # about 20 minutes; also: Transformer, SGD, Adam

A limit has a budget of CPU seconds, from the text of its program to numbers: it takes the largest M that fits. The
networks have the same time, exactly, and whatever is best in hindsight: the width, float32 or float64, the mean over
networks of one width, or Richardson's extrapolation in 1/n, 2 f(2n) - f(n), with the best division of the time.
Their bias is measured without its noise. Both are measured in turns, against a limit with four times the largest M.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from threadpoolctl import threadpool_limits

import tp_compiler as tpc
from tests.benchmarks.opponents import OPPONENTS, Opponent

SMALLEST = 256


@dataclass
class Batches:
    """Networks of one width, as they come: CPU seconds, and the sums of which mean and variance are made."""

    seconds: float = 0.0
    outputs: list[np.ndarray] = field(default_factory=list)

    @property
    def mean(self) -> np.ndarray:
        return np.concatenate(self.outputs).mean(axis=0)

    @property
    def variance(self) -> np.ndarray:
        return np.concatenate(self.outputs).var(axis=0, ddof=1)

    @property
    def count(self) -> int:
        return sum(map(len, self.outputs))

    @property
    def cost(self) -> np.ndarray:
        """Variance times seconds: what a mean over one second of networks has as its variance."""
        return self.variance * self.seconds / self.count


@dataclass(frozen=True)
class Row:
    """At one budget: the limit's M (None where none is ready), its seconds and error, the networks' error and their way."""

    budget: float
    samples: int | None
    seconds: float
    limit: float
    networks: float
    way: str

    @property
    def ratio(self) -> float:
        return self.networks / self.limit


def networks_error(found: dict[tuple[str, int], Batches], exact: np.ndarray, budget: float) -> tuple[float, str]:
    """The smallest RMS error of networks in this time, and how it is reached."""
    best = (math.inf, "")
    for (dtype, width), few in found.items():
        noise = few.variance / few.count
        best = min(best, (_rms(few.mean - exact, noise, few.cost / budget), f"{dtype}, n = {width}"))
        many = found.get((dtype, 2 * width))
        if many is not None:
            noise = noise + 4 * many.variance / many.count
            costs = (np.sqrt(few.cost.mean()) + 2 * np.sqrt(many.cost.mean())) ** 2
            error = _rms(2 * many.mean - few.mean - exact, noise, costs / budget)
            best = min(best, (error, f"{dtype}, n = {width} and {2 * width}"))
    return best


def _rms(bias: np.ndarray, noise: np.ndarray, variance: np.ndarray | float) -> float:
    """Of the bias, without the noise with which it is known, and of the variance of a mean."""
    return math.sqrt(max(0.0, float(np.mean(bias**2 - noise))) + float(np.mean(variance)))


def limit_of(text: str, opponent: Opponent, samples: int, seed: int) -> tuple[float, np.ndarray]:
    """(CPU seconds from the text, outputs)."""
    start = time.process_time()
    run = tpc.limit(text, method="qmc", samples=samples, seed=seed, threads=1)
    return time.process_time() - start, np.asarray(opponent.output(run["f"]))


def sizes(text: str, opponent: Opponent, most: float) -> list[int]:
    """M from the smallest to the largest that takes at most `most` seconds; the smallest in any case."""
    found = [SMALLEST]
    limit_of(text, opponent, SMALLEST, 0)  # imports
    while limit_of(text, opponent, 2 * found[-1], 0)[0] < most:
        found.append(2 * found[-1])
    return found


def _batch(opponent: Opponent, optimizer: str, dtype: str, width: int, generator: torch.Generator) -> np.ndarray:
    kind = getattr(torch, dtype)
    return opponent.networks(optimizer, width, opponent.seeds(width), generator, kind).double().numpy()


def measure(name: str, optimizer: str, budgets: Sequence[float], *, rounds: int = 2, seconds: float = 2.0) -> list[Row]:
    """A row for each budget. `seconds` of networks of every width and dtype, in as many rounds as there are limits of each M."""
    opponent, threads = OPPONENTS[name], torch.get_num_threads()
    text, generator = opponent.programs[optimizer], torch.Generator().manual_seed(1)
    torch.set_num_threads(1)
    try:
        with threadpool_limits(limits=1):
            tried = sizes(text, opponent, max(budgets))
            _, exact = limit_of(text, opponent, 4 * tried[-1], 99)
            limits: dict[int, list[tuple[float, np.ndarray]]] = {samples: [] for samples in tried}
            found = {(dtype, width): Batches() for dtype in ("float32", "float64") for width in opponent.widths}
            for (dtype, width), _ in found.items():
                _batch(opponent, optimizer, dtype, width, generator)
            for turn in range(rounds):
                for samples in tried:
                    limits[samples].append(limit_of(text, opponent, samples, turn))
                for (dtype, width), batches in found.items():
                    start = time.process_time()
                    while time.process_time() - start < seconds / rounds:
                        batches.outputs.append(_batch(opponent, optimizer, dtype, width, generator))
                    batches.seconds += time.process_time() - start
    finally:
        torch.set_num_threads(threads)
    return [_row(budget, limits, found, exact) for budget in budgets]


def _row(
    budget: float, limits: dict[int, list[tuple[float, np.ndarray]]], found: dict[tuple[str, int], Batches],
    exact: np.ndarray,
) -> Row:  # fmt: skip
    ready = [m for m, runs in limits.items() if np.mean([spent for spent, _ in runs]) <= budget]
    error, way = networks_error(found, exact, budget)
    if not ready:
        return Row(budget, None, math.nan, math.inf, error, way)
    runs = limits[ready[-1]]
    ours = math.sqrt(float(np.mean([(value - exact) ** 2 for _, value in runs])))
    return Row(budget, ready[-1], float(np.mean([spent for spent, _ in runs])), ours, error, way)


def main(words: list[str]) -> None:
    budgets = [float(word) for word in words if word[0].isdigit()] or [1.0, 5.0]
    names = [word for word in words if not word[0].isdigit()]
    print("| network | budget, s | M | seconds | RMS error of the limit | networks, same time | how | ratio |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for name in OPPONENTS:
        for optimizer in OPPONENTS[name].programs:
            wanted = [{name, optimizer} >= {word} for word in names]
            if not all(wanted):
                continue
            for row in measure(name, optimizer, budgets, seconds=2 * max(1.0, max(budgets) / 15)):
                start = f"| {name}, {optimizer} | {row.budget:g} |"
                ours = (
                    "none in this time | | "
                    if row.samples is None
                    else f"{row.samples:,} | {row.seconds:.2f} | {row.limit:.1e}"
                )
                print(start, ours, f"| {row.networks:.1e} | {row.way} | {row.ratio:.1f} |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
