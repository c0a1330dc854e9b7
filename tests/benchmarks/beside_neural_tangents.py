"""Kernels of perceptrons beside neural-tangents, in turns in one process: CPU seconds of one thread, the least of several.

By hand, since the environment takes 2.6 GB (`tests` there is another package, hence the path):

    python -m venv ENV && ENV/bin/pip install . jax==0.5.3 jaxlib==0.5.3 tf2jax==0.3.7 neural-tangents==0.6.5
    ENV/bin/python tests/benchmarks/beside_neural_tangents.py

Both are compiled before the first measurement, neural-tangents by `jax.jit` in double precision.
"""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Callable
from typing import Any

THREAD = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
os.environ |= {"JAX_PLATFORMS": "cpu", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "XLA_FLAGS": THREAD}

import jax  # noqa: E402
import numpy as np  # noqa: E402
from kernels import network, points  # noqa: E402
from neural_tangents import stax  # noqa: E402

import tp_compiler as tpc  # noqa: E402

ROWS = (
    ("relu", 3, 20, "nngp ntk"),
    ("erf", 3, 20, "nngp ntk"),
    ("relu", 3, 500, "nngp ntk"),
    ("relu", 3, 2000, "nngp ntk"),
    ("relu", 50, 1000, "nngp ntk"),
    ("relu", 3, 5000, "ntk"),
    ("relu", 1, 10000, "nngp"),
    ("relu", 3, 10000, "nngp"),
)


def opponent(fn: str, depth: int, outputs: tuple[str, ...]) -> Callable[[Any], Any]:
    layers = [
        part for _ in range(depth) for part in (stax.Dense(1, 2**0.5), stax.Relu() if fn == "relu" else stax.Erf())
    ]
    kernel = stax.serial(*layers, stax.Dense(1, 1.0))[2]
    return jax.jit(lambda x: tuple(kernel(x, None, outputs)))


def seconds(fn: str, depth: int, inputs: int, outputs: tuple[str, ...]) -> tuple[float, float]:
    """Of the limit and of neural-tangents, whose values are compared."""
    x, program, other = points(inputs), network(fn, depth, inputs), opponent(fn, depth, outputs)
    place, best = jax.numpy.asarray(x), [math.inf, math.inf]
    jax.block_until_ready(other(place))
    for _ in range(500 if inputs < 100 else 9 if inputs <= 2000 else 4):
        start = time.process_time()
        run = tpc.limit(program, only=list(outputs))
        middle = time.process_time()
        theirs = jax.block_until_ready(other(place))
        best = [min(best[0], middle - start), min(best[1], time.process_time() - middle)]
        for name, value in zip(outputs, theirs, strict=True):  # theirs has errors of 1e-7 next to the diagonal
            np.testing.assert_allclose(run[name][:50], np.asarray(value[:50]), rtol=1e-6, atol=1e-6)
        del run, theirs
    return best[0], best[1]


def main() -> None:
    jax.config.update("jax_enable_x64", True)
    print("| kernels | depth | inputs | limit, s | neural-tangents, s | ratio |")
    print("| --- | --- | --- | --- | --- | --- |")
    for fn, depth, inputs, outputs in ROWS:
        if len(sys.argv) == 1 or str(inputs) in sys.argv[1:]:
            own, other = seconds(fn, depth, inputs, tuple(outputs.split()))
            print(
                f"| {fn}, {outputs} | {depth} | {inputs:,} | {own:.2g} | {other:.2g} | {own / other:.2f} |", flush=True
            )


if __name__ == "__main__":
    main()
