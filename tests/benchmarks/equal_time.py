"""Limits beside PyTorch networks batched over seeds, at equal time on one thread, by error.

    OMP_NUM_THREADS=1 python -m tests.benchmarks.equal_time 1 5             # seconds; all tables, about 15 minutes
    OMP_NUM_THREADS=1 python -m tests.benchmarks.equal_time 1 5 10 60 MLP   # an hour and more; also: Transformer, SGD, Adam

Both have a budget of CPU seconds, and whatever is best in hindsight. A limit is timed from the text of its program to numbers: it
takes the largest M that fits, and 4 to 32 scramblings. Networks: the width, float32 or float64, the mean over networks of one
width, or Richardson's extrapolation in 1/n, 2 f(2n) - f(n), with the best division of the time.

Errors are expected ones, so that a lucky run does not decide: variances and biases, of limits from the replicates of several
seeds, of networks from all that were trained, their bias as a series in 1/n that is fitted to all widths. Both are
measured in turns, against a limit with twice the largest M and 16 scramblings.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from threadpoolctl import threadpool_limits

import tp_compiler as tpc
from tests.benchmarks.opponents import OPPONENTS, Opponent

SMALLEST = 128
FEWEST, MOST, EXACT = 4, 32, 16  # scramblings, and those of the limit that both are compared with


class Size(NamedTuple):
    """M particles in each of some scramblings."""

    samples: int
    scramblings: int


@dataclass
class Batches:
    """Networks of one width, as they come: CPU seconds, and the sums of which mean and variance are made."""

    seconds: float = 0.0
    outputs: list[np.ndarray] = field(default_factory=list)

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
    """At one budget: the limit's size (None where none is ready), its seconds and error; the networks' error and their way; the
    relative standard error with which the ratio of errors is known."""

    budget: float
    size: Size | None
    seconds: float
    limit: float
    networks: float
    way: str
    spread: float

    @property
    def ratio(self) -> float:
        return self.networks / self.limit


@dataclass(frozen=True)
class Expected:
    """An expected RMS error, and the standard error with which its square is known."""

    square: float
    spread: float

    @property
    def error(self) -> float:
        return math.sqrt(self.square)

    @property
    def relative(self) -> float:
        """The relative standard error of the error."""
        return self.spread / (2 * self.square) if self.square else 0.0


class Bias:
    """The bias of networks, b_1 / n + b_2 / n² + b_3 / n³ for each output, fitted to the means of all widths."""

    def __init__(self, found: dict[tuple[str, int], Batches], exact: np.ndarray):
        pooled: dict[int, list[Batches]] = {}
        for (_, width), batches in found.items():  # that of rounding in single precision is far below
            pooled.setdefault(width, []).append(batches)
        widths = np.array(sorted(pooled), float)
        means = np.stack([_pooled(pooled[int(n)])[0] - exact for n in widths])
        noise = np.array([_pooled(pooled[int(n)])[1] for n in widths])
        powers = self._powers(widths)[:, : max(1, min(3, len(widths) - 1))]
        whitened = powers / np.sqrt(noise)[:, None]
        self.covariance = np.linalg.inv(whitened.T @ whitened)
        self.coefficients = self.covariance @ whitened.T @ (means / np.sqrt(noise)[:, None])

    @staticmethod
    def _powers(widths: np.ndarray) -> np.ndarray:
        return widths[:, None] ** -np.arange(1.0, 4.0)

    def expected(self, weights: dict[int, float], variance: float) -> Expected:
        """Of a combination of means over networks of some widths, which has this variance."""
        powers = self._powers(np.array(list(weights), float))[:, : len(self.coefficients)]
        row = np.array(list(weights.values())) @ powers
        bias, noise = row @ self.coefficients, float(row @ self.covariance @ row)
        square = max(0.0, float(np.mean(bias**2)) - noise)
        return Expected(square + variance, math.sqrt((4 * square + 2 * noise) * noise / bias.size))


def _pooled(many: list[Batches]) -> tuple[np.ndarray, float]:
    """The mean over all networks of one width, and its variance, the mean over outputs."""
    outputs = np.concatenate([output for batches in many for output in batches.outputs])
    return outputs.mean(axis=0), float(np.mean(outputs.var(axis=0, ddof=1))) / len(outputs)


def networks_error(found: dict[tuple[str, int], Batches], exact: np.ndarray, budget: float) -> tuple[Expected, str]:
    """The smallest RMS error of networks in this time, and how it is reached."""
    bias = Bias(found, exact)
    options: list[tuple[Expected, str]] = []
    for (dtype, width), few in found.items():
        cost = float(np.mean(few.cost))
        options.append((bias.expected({width: 1.0}, cost / budget), f"{dtype}, n = {width}"))
        many = found.get((dtype, 2 * width))
        if many is not None:
            both = (math.sqrt(cost) + 2 * math.sqrt(float(np.mean(many.cost)))) ** 2
            extrapolated = bias.expected({width: -1.0, 2 * width: 2.0}, both / budget)
            options.append((extrapolated, f"{dtype}, n = {width} and {2 * width}"))
    return min(options, key=lambda option: option[0].square)


@dataclass(frozen=True)
class Limit:
    """CPU seconds from the text of a program, its outputs, and their replicates."""

    seconds: float
    value: np.ndarray
    replicates: np.ndarray


def limit_of(text: str, opponent: Opponent, size: Size, seed: int) -> Limit:
    start = time.process_time()
    run = tpc.limit(text, method="qmc", samples=size.samples, replicates=size.scramblings, seed=seed, threads=1)
    seconds = time.process_time() - start
    found = run.outputs["f"]
    replicates = np.stack([opponent.output(one) for one in found.replicates.levels[-1]])
    return Limit(seconds, np.asarray(opponent.output(found.value)), replicates)


def limit_error(runs: Sequence[Limit], exact: Limit) -> Expected:
    """The RMS error of a limit: the variance of its replicates, that of what is taken off as their bias, and any other bias."""
    count = len(runs[0].replicates)
    variance = np.mean([run.replicates.var(axis=0, ddof=1) for run in runs], axis=0) / count
    variance += np.var([run.value - run.replicates.mean(axis=0) for run in runs], axis=0, ddof=1)
    noise = variance / len(runs) + exact.replicates.var(axis=0, ddof=1) / len(exact.replicates)
    bias = np.mean([run.value for run in runs], axis=0) - exact.value
    square = max(0.0, float(np.mean(bias**2 - noise)))
    # Outputs vary together: their number adds no degrees of freedom.
    spread = math.hypot(float(np.mean(variance)) * math.sqrt(2 / (len(runs) * (count - 1))), float(np.mean(noise)))
    return Expected(float(np.mean(variance)) + square, spread)


def sizes(text: str, opponent: Opponent, budgets: Sequence[float]) -> set[Size]:
    """For each budget the largest M that fits with the fewest scramblings, and as many of them as fit; also half of it, since
    which of both fits on the average is not known yet."""
    limit_of(text, opponent, Size(SMALLEST, FEWEST), 0)  # imports
    samples, seconds, found = SMALLEST, 0.0, set()
    spent: dict[int, float] = {}
    while seconds < max(budgets):
        seconds = spent[samples] = limit_of(text, opponent, Size(samples, FEWEST), 0).seconds
        samples *= 2
    for budget in budgets:
        largest = max((m for m, seconds in spent.items() if seconds <= budget), default=SMALLEST)
        for m in {largest, max(SMALLEST, largest // 2)}:
            found.add(Size(m, max(FEWEST, min(MOST, int(0.95 * FEWEST * budget / spent[m])))))
    return found


def _batch(opponent: Opponent, optimizer: str, dtype: str, width: int, generator: torch.Generator) -> np.ndarray:
    kind = getattr(torch, dtype)
    return opponent.networks(optimizer, width, opponent.seeds(width), generator, kind).double().numpy()


def measure(
    name: str, optimizer: str, budgets: Sequence[float], *, rounds: int = 4, seconds: float | None = None
) -> list[Row]:
    """A row for each budget. `seconds` of networks of every width and dtype, in as many rounds as there are limits of each M."""
    opponent, threads = OPPONENTS[name], torch.get_num_threads()
    text, generator = opponent.programs[optimizer], torch.Generator().manual_seed(1)
    spend = (max(budgets) if seconds is None else seconds) / rounds
    torch.set_num_threads(1)
    try:
        with threadpool_limits(limits=1):
            tried = sorted(sizes(text, opponent, budgets))
            exact = limit_of(text, opponent, Size(2 * tried[-1].samples, EXACT), 99)
            limits: dict[Size, list[Limit]] = {size: [] for size in tried}
            found = {(dtype, width): Batches() for dtype in ("float32", "float64") for width in opponent.widths}
            for (dtype, width), _ in found.items():
                _batch(opponent, optimizer, dtype, width, generator)
            for turn in range(rounds):
                for size in tried:
                    limits[size].append(limit_of(text, opponent, size, turn + 1))
                for (dtype, width), batches in found.items():
                    start = time.process_time()
                    while time.process_time() - start < spend:
                        batches.outputs.append(_batch(opponent, optimizer, dtype, width, generator))
                    batches.seconds += time.process_time() - start
    finally:
        torch.set_num_threads(threads)
    return [_row(budget, limits, found, exact) for budget in budgets]


def _row(
    budget: float, limits: dict[Size, list[Limit]], found: dict[tuple[str, int], Batches], exact: Limit
) -> Row:  # fmt: skip
    theirs, way = networks_error(found, exact.value, budget)
    seconds = {size: float(np.mean([run.seconds for run in runs])) for size, runs in limits.items()}
    errors = {size: limit_error(limits[size], exact) for size in limits if seconds[size] <= budget}
    if not errors:
        return Row(budget, None, math.nan, math.inf, theirs.error, way, 0.0)
    best = min(errors, key=lambda size: errors[size].square)
    spread = math.hypot(errors[best].relative, theirs.relative)
    return Row(budget, best, seconds[best], errors[best].error, theirs.error, way, spread)


def main(words: list[str]) -> None:
    budgets = [float(word) for word in words if word[0].isdigit()] or [1.0, 5.0]
    names = [word for word in words if not word[0].isdigit()]
    print(
        "| network | budget, s | M | scramblings | seconds | RMS error of the limit | networks, same time | how | ratio |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for name in OPPONENTS:
        for optimizer in OPPONENTS[name].programs:
            wanted = [{name, optimizer} >= {word} for word in names]
            if not all(wanted):
                continue
            for row in measure(name, optimizer, budgets):
                ours = (
                    "none in this time | | | "
                    if row.size is None
                    else f"{row.size.samples:,} | {row.size.scramblings} | {row.seconds:.2f} | {row.limit:.1e}"
                )
                ratio = f"{row.ratio:.3g} ± {row.ratio * row.spread:.2g}"
                print(
                    f"| {name}, {optimizer} | {row.budget:g} | {ours} | {row.networks:.1e} | {row.way} | {ratio} |",
                    flush=True,
                )


if __name__ == "__main__":
    main(sys.argv[1:])
