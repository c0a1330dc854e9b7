"""NNGP and tangent kernel of perceptrons beside a plain recursion in NumPy, compiled once; and large kernels in files.

    python -m tests.benchmarks.kernels                 the table of docs/benchmarks.md
    python -m tests.benchmarks.kernels 10000 nngp      one kernel: seconds, and the peak of memory
    python -m tests.benchmarks.kernels 20000 ntk --save    the same, streamed to a file

Times are in CPU seconds of one thread, the least of several, in turns with the recursion in one process.
"""

from __future__ import annotations

import math
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

import tp_compiler as tpc
from tp_compiler.ir.model import Compiled

ROWS = (
    ("relu", 3, 20),
    ("relu", 3, 500),
    ("relu", 3, 2000),
    ("relu", 50, 1000),
    ("erf", 3, 20),
    ("erf", 3, 500),
    ("erf", 3, 2000),
)


def network(fn: str, depth: int, inputs: int) -> Compiled:
    text = f"""parametrization ntk
axis i, j : {inputs}
axis d : 10
axis l : {depth}
data xi[i,d]
ket |u[d]> ~ N(0, 1)
matrix W[l] ~ N(0, 1)
ket |v> ~ N(0, 1)
|x[i]> = {fn}(sqrt(2/10) sum[d](xi[i,d] |u[d]>))
for k in 2..{depth} {{ |x[i]> = {fn}(sqrt(2) W[k] |x[i]>) }}
f[i] = clt <v|x[i]>
output nngp[i,j] = <x[i]|x[j]>
output ntk[i,j] = ntk(f[i], f[j])
"""
    return tpc.compile(text, data={"xi": points(inputs)})


def points(inputs: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((inputs, 10))


def recursion(fn: str, depth: int, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """NNGP and tangent kernel, without any care for accuracy."""
    kernel = 2 / 10 * x @ x.T
    tangent = kernel.copy()
    for layer in range(depth):
        kernel = 2 * kernel if layer else kernel
        diagonal = np.diag(kernel)
        if fn == "relu":
            size = np.sqrt(np.outer(diagonal, diagonal))
            cosine = np.clip(kernel / size, -1, 1)
            angle = np.pi - np.arccos(cosine)
            after = size * (np.sqrt(1 - cosine * cosine) + angle * cosine) / (2 * np.pi)
            slope = angle / (2 * np.pi)
        else:
            square = np.outer(1 + 2 * diagonal, 1 + 2 * diagonal)
            slope = 4 / np.pi / np.sqrt(square - 4 * kernel * kernel)
            after = 2 / np.pi * np.arcsin(2 * kernel / np.sqrt(square))
        tangent = after + (2 * tangent if layer else kernel) * slope
        kernel = after
    return kernel, tangent


def seconds(fn: str, depth: int, inputs: int) -> tuple[float, float]:
    """Of the limit and of the recursion."""
    program, x = network(fn, depth, inputs), points(inputs)
    best = [math.inf, math.inf]
    with threadpool_limits(limits=1):
        for _ in range(40 if inputs < 100 else 7):
            start = time.process_time()
            tpc.limit(program)
            middle = time.process_time()
            recursion(fn, depth, x)
            best = [min(best[0], middle - start), min(best[1], time.process_time() - middle)]
    return best[0], best[1]


def large(inputs: int, output: str, save: bool) -> str:
    """One kernel, in memory or in a file."""
    program = network("relu", 3, inputs)
    with threadpool_limits(limits=1), tempfile.TemporaryDirectory() as folder:
        start = time.process_time()
        path = Path(folder) / "kernel.npy"
        run = tpc.limit(program, only=output, save=path) if save else tpc.limit(program, only=output)
        spent = time.process_time() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    assert run.outputs[output].method == "closed-form"
    return f"{inputs} inputs, kernel {8 * inputs**2 / 1e9:.2f} GB: {spent:.1f} s, peak of memory {peak:.2f} GB"


def main() -> None:
    if len(sys.argv) > 1:
        print(large(int(sys.argv[1]), sys.argv[2], "--save" in sys.argv))
        return
    print("| kernels | depth | inputs | limit, s | recursion, s | ratio |")
    print("| --- | --- | --- | --- | --- | --- |")
    for fn, depth, inputs in ROWS:
        limit, plain = seconds(fn, depth, inputs)
        print(f"| {fn} | {depth} | {inputs:,} | {limit:.2g} | {plain:.2g} | {limit / plain:.1f} |")


if __name__ == "__main__":
    main()
