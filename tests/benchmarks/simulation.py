"""`tpc simulate` beside PyTorch networks batched over seeds, in single precision on one thread: `python -m tests.benchmarks.simulation`.

CPU milliseconds for a network of `training.tanh_network`, the least of several batches, which both sides compute in turns.
"""

from __future__ import annotations

import math
import time

import torch
from threadpoolctl import threadpool_limits

import tp_compiler as tpc
from tests.benchmarks.opponents import OPPONENTS

#: Width, and the number of networks.
SIZES = ((64, 32), (256, 8), (1024, 2))


def seconds(optimizer: str, width: int, seeds: int, repeats: int = 15) -> tuple[float, float]:
    """CPU seconds of a batch: of `simulate` on a compiled program, and of PyTorch."""
    opponent, generator, threads = OPPONENTS["MLP"], torch.Generator().manual_seed(1), torch.get_num_threads()
    program = tpc.compile(opponent.programs[optimizer])
    ours = theirs = math.inf
    torch.set_num_threads(1)
    try:
        with threadpool_limits(limits=1):
            for _ in range(repeats):
                start = time.process_time()
                tpc.simulate(program, width=width, seeds=seeds, dtype="float32")
                middle = time.process_time()
                opponent.networks(optimizer, width, seeds, generator, torch.float32)
                ours, theirs = min(ours, middle - start), min(theirs, time.process_time() - middle)
    finally:
        torch.set_num_threads(threads)
    return ours, theirs


def main() -> None:
    print("| optimizer | width | seeds | `tpc simulate`, ms | PyTorch, ms | ratio |")
    print("| --- | --- | --- | --- | --- | --- |")
    for optimizer in OPPONENTS["MLP"].programs:
        for width, seeds in SIZES:
            ours, theirs = seconds(optimizer, width, seeds)
            each = f"{1e3 * ours / seeds:.2g} | {1e3 * theirs / seeds:.2g}"
            print(f"| {optimizer} | {width:,} | {seeds} | {each} | {ours / theirs:.1f} |", flush=True)


if __name__ == "__main__":
    main()
