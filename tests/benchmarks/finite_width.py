"""What spread and bias cost beside the limit alone: CPU seconds of one thread, in turns in one process.

    OMP_NUM_THREADS=1 python -m tests.benchmarks.finite_width    # some minutes; also: names of programs

Programs are those of `tests/consistency/finite_width`. Errors of Σ are relative to the deviations of both entries, those of b to
the larger of b and the deviation of its entry; each is the largest over the entries of all outputs. Networks are what the same
accuracies take with `tpc simulate` at n = 128, where a variance is known to √(2/R) from R networks, and b to √(n/R) deviations.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

import tp_compiler as tpc
from tests.consistency.networks import PROGRAMS
from tp_compiler.results import Run

WIDTH = 128


@dataclass(frozen=True)
class Row:
    """One program: seconds of the limit, of the limit with its fluctuations, and of one network; errors of both parts."""

    name: str
    limit: float
    both: float
    network: float
    sigma: float
    bias: float

    @property
    def ratio(self) -> float:
        return self.both / self.limit

    @property
    def networks(self) -> tuple[float, float]:
        """Seconds of as many networks as know a variance, and a bias, to the same error."""
        return self.network * 2 / self.sigma**2, self.network * WIDTH / self.bias**2

    def __str__(self) -> str:
        costs = [f"{self.limit:.2g}", f"{self.both:.2g}", f"{self.ratio:.0f}"]
        errors = [f"{self.sigma:.0%}", f"{self.bias:.0%}"]
        return "| " + " | ".join([self.name, *costs, *errors, *(f"{x:.2g}" for x in self.networks)]) + " |"


def errors(run: Run) -> tuple[float, float]:
    """The largest relative errors of Σ and of b."""
    spread, bias = [0.0], [0.0]
    for one in map(run.fluctuations, run.outputs):
        assert one.sigma is not None and one.bias is not None and one.bias_stderr is not None, run.warnings
        deviations = np.sqrt(np.diag(one.sigma))
        spread.append(float(np.max(one.sigma_stderr / np.outer(deviations, deviations))))
        bias.append(float(np.max(one.bias_stderr / np.maximum(np.abs(one.bias), deviations))))
    return max(spread), max(bias)


def measure(name: str, rounds: int = 3) -> Row:
    """The least of several, in turns."""
    program, seconds = tpc.compile(PROGRAMS[name]), np.full((3, rounds), np.inf)
    for turn in range(rounds):
        start = time.process_time()
        tpc.limit(program, threads=1)
        seconds[0, turn] = time.process_time() - start
        start = time.process_time()
        run = tpc.limit(program, width=WIDTH, threads=1)
        seconds[1, turn] = time.process_time() - start
        start = time.process_time()
        tpc.simulate(program, WIDTH, seeds=100)
        seconds[2, turn] = (time.process_time() - start) / 100
    return Row(name, *map(float, seconds.min(axis=1)), *errors(run))


def table(names: Sequence[str]) -> list[Row]:
    """Rows, printed as they come."""
    print("| program | limit, s | with Σ and b, s | ratio | error of Σ | error of b | networks for Σ, s | for b, s |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    rows = []
    for name in names:
        rows.append(measure(name))
        print(rows[-1], flush=True)
    return rows


if __name__ == "__main__":
    table(sys.argv[1:] or list(PROGRAMS))
