"""Seconds of one training program with each library of the sampler, on the CPU and on a GPU if there is one.

Run from the root of the repository: python -m tests.benchmarks.accelerator
"""

from __future__ import annotations

import argparse
import time

import tp_compiler as tpc
from tests.benchmarks.training import OPTIMIZERS, tanh_network

PROGRAM = tanh_network(OPTIMIZERS["Adam"], steps=20)


def choices() -> list[dict[str, str]]:
    """Backends that are at hand."""
    import torch

    found = [{"backend": "numpy"}, {"backend": "torch"}, {"backend": "torch", "dtype": "float32"}]
    if torch.cuda.is_available():
        found += [{"backend": "torch", "device": "cuda", "dtype": dtype} for dtype in ("float64", "float32")]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, nargs="*", default=[2**12, 2**14])
    sizes = parser.parse_args().samples
    compiled = tpc.compile(PROGRAM)
    for samples in sizes:
        for options in choices():
            start = time.perf_counter()
            run = tpc.limit(compiled, samples=samples, replicates=2, threads=1, **options)  # type: ignore[arg-type]
            seconds = time.perf_counter() - start
            print(f"M = {samples:6d}   {run.settings['backend']!s:28s} {seconds:8.2f} s   f = {run['f'][0]:.6f}")


if __name__ == "__main__":
    main()
