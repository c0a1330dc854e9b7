"""Kernels of convolutional networks from text to numbers, beside a plain recursion in NumPy, and neural-tangents if it is there.

    python -m tests.benchmarks.convolutions               the table of docs/benchmarks.md
    python -m tests.benchmarks.convolutions nngp flat 50  one row, with the peak of memory

Two convolutions (3 x 3 taps, zeros outside), relu, images of 8 x 8 pixels, readout from the mean over positions (`pooled`) or with
weights of its own at every position (`flat`). CPU seconds of one thread; the first call of each in a process, and the least of
several. With neural-tangents: OMP_NUM_THREADS=1, JAX_PLATFORMS=cpu and
XLA_FLAGS="--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1".
"""

from __future__ import annotations

import importlib.util
import resource
import sys
import time
from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

import tp_compiler as tpc

SIZE = 8
ROWS = (("nngp", "pooled", 10), ("nngp", "flat", 50), ("ntk", "pooled", 10), ("ntk", "flat", 50))


def program(kernel: str, readout: str, inputs: int) -> str:
    last = "relu(|h[i,s,t]>)"
    output = {
        ("nngp", "pooled"): f"<mean[s,t]({last})|mean[s,t]({last.replace('i', 'j')})>",
        ("nngp", "flat"): "mean[s,t](<relu(h[i,s,t])|relu(h[j,s,t])>)",
        ("ntk", "pooled"): "ntk(pooled[i], pooled[j])",
        ("ntk", "flat"): "ntk(flat[i], flat[j])",
    }
    return f"""parametrization ntk
import layers
axis i, j : {inputs}
axis s : {SIZE}
axis t : {SIZE}
axis p, q : 3
data xi[i,s,t]
ket |u[p,q]> ~ N(0, 2/9)
matrix W[p,q] ~ N(0, 2/9)
ket |v> ~ N(0, 1)
ket |w[s,t]> ~ N(0, 1)
|h[i,s,t]> = sum[p,q](unfold[s,s,p](unfold[t,t,q](xi[i,s,t], padding = 1), padding = 1) * |u[p,q]>)
|h[i,s,t]> = conv2d[s,t,s,t,p,q](relu(|h[i,s,t]>), W[p,q], padding = 1)
pooled[i] = clt <v|mean[s,t]({last})>
flat[i] = sum[s,t](clt <w[s,t]|relu(h[i,s,t])>) / {SIZE}
output k[i,j] = {output[kernel, readout]}
"""


def images(inputs: int) -> np.ndarray:
    return np.random.default_rng(1).standard_normal((inputs, SIZE, SIZE))


def limit(kernel: str, readout: str, x: np.ndarray) -> np.ndarray:
    run = tpc.limit(program(kernel, readout, len(x)), data={"xi": x})
    assert run.outputs["k"].method == "closed-form"
    return np.asarray(run["k"])


# -- the recursion ------------------------------------------------------------------------------------------------
def recursion(readout: str, x: np.ndarray) -> np.ndarray:
    """NNGP without any care for accuracy: over pairs of positions, or over positions where the readout needs no others."""
    pairs = "istjab" if readout == "pooled" else "ijst"
    k = np.einsum("ist,jab->" + pairs if readout == "pooled" else "ist,jst->" + pairs, x, x)
    variance = x * x
    for layer in range(2):
        if layer:
            k, variance = relu_kernel(k, variance), variance / 2
        k = (
            2
            / 9
            * sum(moved(moved(k, pairs, "s", "a", a), pairs, "t", "b", b) for a, b in product((-1, 0, 1), repeat=2))
        )
        variance = (
            2
            / 9
            * sum(
                moved(moved(variance, "ist", "s", "", a), "ist", "t", "", b) for a, b in product((-1, 0, 1), repeat=2)
            )
        )
    k = relu_kernel(k, variance)
    return k.mean(axis=(1, 2, 4, 5)) if readout == "pooled" else k.mean(axis=(2, 3))


def moved(k: np.ndarray, labels: str, one: str, other: str, by: int) -> np.ndarray:
    """Positions of both images shifted, 0 outside."""
    for label in (one, other):
        if label and label in labels:
            axis = labels.index(label)
            k = np.moveaxis(k, axis, 0)
            out = np.zeros_like(k)
            out[max(0, by) : SIZE + min(0, by)] = k[max(0, -by) : SIZE - max(0, by)]
            k = np.moveaxis(out, 0, axis)
    return k


def relu_kernel(k: np.ndarray, variance: np.ndarray) -> np.ndarray:
    deviation = np.sqrt(variance)
    columns = deviation[:, None] if k.ndim == 4 else deviation[..., None, None, None]
    size = columns * deviation
    cosine = np.clip(k / size, -1, 1)
    return size * (np.sqrt(1 - cosine * cosine) + (np.pi - np.arccos(cosine)) * cosine) / (2 * np.pi)


# -- neural-tangents ------------------------------------------------------------------------------------------------
def beside(kernel: str, readout: str) -> Callable[[np.ndarray], Any] | None:
    """The kernel of neural-tangents, to be compiled at the first call; None if it is not installed."""
    if importlib.util.find_spec("neural_tangents") is None:
        return None
    import jax
    from neural_tangents import stax

    jax.config.update("jax_enable_x64", True)
    layers = [stax.Conv(1, (3, 3), padding="SAME", W_std=2**0.5), stax.Relu()] * 2
    pool = stax.GlobalAvgPool() if readout == "pooled" else stax.Flatten()
    of_points = stax.serial(*layers, pool, stax.Dense(1, 1.0))[2]
    compiled = jax.jit(lambda x: of_points(x, None, kernel))
    return lambda x: jax.block_until_ready(compiled(x[..., None]))


def seconds(of: Callable[[], object], repeats: int = 4) -> tuple[float, float]:
    """Of the first call, and the least of the others."""
    found = []
    for _ in range(repeats):
        start = time.process_time()
        of()
        found.append(time.process_time() - start)
    return found[0], min(found[1:])


def row(kernel: str, readout: str, inputs: int) -> str:
    x = images(inputs)
    own = seconds(lambda: limit(kernel, readout, x))
    plain = f"{seconds(lambda: recursion(readout, x))[1]:.3f}" if kernel == "nngp" else ""
    other = beside(kernel, readout)
    figures = ["", ""] if other is None else [f"{s:.3f}" for s in seconds(lambda: other(x))]
    cells = [kernel, readout, str(inputs), f"{own[0]:.3f}", f"{own[1]:.3f}", plain, *figures]
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    with threadpool_limits(limits=1):
        limit("ntk", "pooled", images(2))  # imports
        if len(sys.argv) > 1:
            kernel, readout, inputs = sys.argv[1:]
            print(row(kernel, readout, int(inputs)))
            print(f"peak of memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.2f} GB")
            return
        print(
            "| kernel | readout | images | first call, s | least, s | recursion, s | neural-tangents, first | least |"
        )
        print("| --- | --- | --- | --- | --- | --- | --- | --- |")
        for kernel, readout, inputs in ROWS:
            print(row(kernel, readout, inputs))


if __name__ == "__main__":
    main()
