"""The measurements behind docs/benchmarks.md: `python -m tests.benchmarks.measure` prints its tables.

Each function returns seconds, or errors, of one claim; test_benchmarks.py asserts them against the targets.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

import tp_compiler as tpc
from tp_compiler import driver
from tp_compiler.diagnostics import Source
from tp_compiler.ir.program import Program

ROOT = Path(__file__).resolve().parents[2]


def print_tables(tables: Mapping[str, Callable[[], None]], names: Sequence[str]) -> None:
    """The tables of these names, or all of them."""
    for name in names or tables:
        tables[name]()
        print()


def deep_mlp(layers: int) -> str:
    """A relu MLP of `layers` layers written out line by line."""
    lines = ["axis i, j : 2", "axis d : 2", "data xi[i,d] = [[1.0, 0.5], [-0.3, 0.8]]", "ket |u[d]> ~ N(0, 1)"]
    lines += [f"matrix W{k} ~ N(0, 2)" for k in range(1, layers + 1)]
    lines += ["|x0[i]> = sum[d](xi[i,d] |u[d]>)"]
    lines += [f"|x{k}[i]> = relu(W{k} |x{k - 1}[i]>)" for k in range(1, layers + 1)]
    return "\n".join([*lines, f"output nngp[i,j] = <x{layers}[i]|x{layers}[j]>", ""])


def long_text(lines: int) -> str:
    """A residual network of `lines` lines of ordinary length."""
    head = ["ket |x0> ~ N(0, 1)", "ket |b> ~ N(0, 1)", "matrix W ~ N(0, 1)"]
    body = [f"|x{k}> = |x{k - 1}> + 0.1 tanh(W |x{k - 1}> + 0.3 |b>)" for k in range(1, lines - 3)]
    return "\n".join([*head, *body, f"output k = <x{lines - 4}|x{lines - 4}>", ""])


def parse_seconds(lines: int = 10_000) -> float:
    source = Source("long.nexort", long_text(lines))
    start = time.perf_counter()
    driver.parse(source)
    return time.perf_counter() - start


#: What `python_seconds` takes on the machine of docs/benchmarks.md.
PYTHON_SECONDS = 0.26


def python_seconds() -> float:
    """The interpreter's own speed on the work of a parser: small objects, dictionaries, calls, and no library."""
    start = time.perf_counter()
    table = {str(k): k for k in range(100)}
    for _ in range(13_500):
        stack: list[tuple[str, list[int]]] = []
        for name, value in table.items():
            stack.append((name, [value, len(name)]))
            if len(stack) > 3:
                stack = [(stack[-1][0], [sum(table[word] for word, _ in stack)])]
    return time.perf_counter() - start


def compile_seconds(layers: int) -> float:
    source = Source("deep.nexort", deep_mlp(layers))
    start = time.perf_counter()
    driver.compile(source)
    return time.perf_counter() - start


def cold_start_seconds(example: str = "examples/mlp.nexort") -> float:
    """A fresh Python process from the command line to the printed limit."""
    start = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "tp_compiler", "limit", str(ROOT / example), "--quiet"],
        check=True, capture_output=True, cwd=tempfile.gettempdir(),
    )  # fmt: skip
    return time.perf_counter() - start


ACCURACY = """
axis i : 3
data xi[i] = [0.9, -0.4, 1.3]
ket |u> ~ N(0, 1)
ket |b> ~ N(0, 0.5)
matrix W ~ N(0, 1)
|x[i]> = tanh(xi[i] |u> + |b>)
|y[i]> = tanh(W |x[i]>)
|z[i]> = sin(W^T |y[i]> + |x[i]>)
output k[i] = <z[i]|z[i]>
"""


def limit_error(
    program: Program, exact: np.ndarray, samples: int, repeats: int = 4, output: str = "k"
) -> tuple[float, float]:
    """(seconds, RMS error) of one limit with M = samples and 8 scramblings."""
    errors, start = [], time.perf_counter()
    for seed in range(repeats):
        run = tpc.limit(program, method="qmc", samples=samples, seed=1000 + seed, threads=1)
        errors.append(run[output] - exact)
    return (time.perf_counter() - start) / repeats, float(np.sqrt(np.mean(np.square(errors))))


@dataclass(frozen=True)
class Networks:
    """Random networks of one width: seconds for one, and the mean squares of their bias and of their spread."""

    width: int
    seconds: float
    bias: float
    spread: float

    def error(self, budget: float) -> float:
        """RMS error of the average over as many networks as fit into `budget` seconds."""
        return float(np.sqrt(self.bias + self.spread / max(1.0, budget / self.seconds)))


def networks(program: Program, exact: np.ndarray, width: int, output: str = "k", seeds: int = 24) -> Networks:
    start = time.perf_counter()
    run = tpc.simulate(program, width, seeds=seeds, seed=5)
    each = (time.perf_counter() - start) / seeds
    noise = np.square(run.outputs[output].stderr)
    bias = max(0.0, float(np.mean(np.square(run[output] - exact) - noise)))
    return Networks(width, each, bias, float(np.mean(noise) * seeds))


def best_networks(found: list[Networks], budget: float) -> tuple[float, int]:
    """(RMS error, width) of the best width in `budget` seconds."""
    return min((n.error(budget), n.width) for n in found)


def accuracy_table() -> list[tuple[int, float, float, float, int]]:
    """(M, seconds, limit's RMS error, best averaged networks' RMS error in that time, their width), a row per M."""
    program = tpc.compile(ACCURACY)
    exact = tpc.limit(program, method="qmc", samples=2**17, seed=77)["k"]
    tpc.simulate(program, 64, seeds=2)
    found = [networks(program, exact, width) for width in (64, 128, 256, 512, 1024, 2048)]
    rows = []
    for samples in (2**10, 2**12, 2**14, 2**16):
        seconds, error = limit_error(program, exact, samples)
        rows.append((samples, seconds, error, *best_networks(found, seconds)))
    return rows


def kernel_program(fn: str, depth: int, inputs: int) -> str:
    """The NNGP of an MLP with biases on random inputs of dimension 10."""
    return f"""
        axis i, j : {inputs}
        axis d : 10
        axis l : {depth}
        data xi[i,d] ~ N(0, 1) seed 3
        ket |u[d]> ~ N(0, 0.1)
        matrix W[l] ~ N(0, 2)
        ket |b[l]> ~ N(0, 0.01)
        |x[i]> = {fn}(sum[d](xi[i,d] |u[d]>))
        for k in 2..{depth} {{ |x[i]> = {fn}(W[k] |x[i]> + |b[k]>) }}
        output k[i,j] = <x[i]|x[j]>
    """


def plain_recursion(fn: str, depth: int, inputs: int) -> np.ndarray:
    """The same kernel, by a NumPy recursion without any care for accuracy."""
    x = np.random.Generator(np.random.PCG64(3)).standard_normal((inputs, 10))
    kernel = 0.1 * x @ x.T
    for layer in range(depth):
        if layer:
            kernel *= 2
            kernel += 0.01
        diagonal = np.diag(kernel).copy()
        if fn == "relu":
            scale = np.sqrt(np.outer(diagonal, diagonal))
            cosine = np.clip(kernel / scale, -1, 1)
            kernel = scale * (np.sqrt(1 - cosine * cosine) + (np.pi - np.arccos(cosine)) * cosine) / (2 * np.pi)
        else:
            kernel = 2 / np.pi * np.arcsin(2 * kernel / np.sqrt(np.outer(1 + 2 * diagonal, 1 + 2 * diagonal)))
    return kernel


def kernel_seconds(fn: str, depth: int, inputs: int, repeats: int = 3) -> tuple[float, float, float]:
    """(from text to kernel, kernel alone, plain recursion), the best of some runs on one thread:
    its CPU time, which other work on the machine changes less."""
    text = kernel_program(fn, depth, inputs)
    best = [np.inf, np.inf, np.inf]
    with threadpool_limits(limits=1):
        for _ in range(repeats):
            start = time.thread_time()
            program = tpc.compile(text)
            compiled = time.thread_time()
            tpc.limit(program, method="exact")
            done = time.thread_time()
            plain_recursion(fn, depth, inputs)
            end = time.thread_time()
            for k, seconds in enumerate((done - start, done - compiled, end - done)):
                best[k] = min(best[k], seconds)
    return best[0], best[1], best[2]


#: Bodies of deep networks: plain, residual, and residual blocks of two matrices and biases, of either order or normalised.
DEEP = {
    "plain": "1.4*(A[l] relu(|h[i]>)) + 0.3*|c[l]>",
    "residual": "|h[i]> + 0.05*(A[l] relu(|h[i]>))",
    "blocks": "|h[i]> + 0.05*(A[l] relu(B[l] relu(|h[i]>) + |c[l]>))",
    "classical": "|h[i]> + 0.05*(A[l] relu(B[l] |h[i]> + |c[l]>)) + 0.01*|c[l]>",
    "normalised": "|h[i]> + 0.05*(A[l] relu(B[l] |h[i]> / sqrt(<h[i]|h[i]>)))",
}


def depth_seconds(name: str, layers: int) -> float:
    """From the text to NNGP and tangent kernel of three inputs, in closed form."""
    text = f"""
        axis i, j : 3
        axis l : {layers}
        data xi[i] = [1.0, -0.3, 0.2]
        ket |u> ~ N(0, 1); ket |w> ~ N(0, 1); ket |v> ~ N(0, 1); ket |c[l]> ~ N(0, 1)
        matrix A[l] ~ N(0, 1); matrix B[l] ~ N(0, 1)
        |h[i]> = xi[i] * |u> + |w>
        for l in 1..{layers} {{ |h[i]> = {DEEP[name]} }}
        f[i] = <v|relu(|h[i]>)>
        output nngp[i,j] = <relu(|h[i]>)|relu(|h[j]>)>
        output ntk[i,j] = ntk(f[i], f[j])
    """
    start = time.process_time()
    run = tpc.limit(text)
    seconds = time.process_time() - start
    assert {o.method for o in run.outputs.values()} == {"closed-form"}
    return seconds


def main() -> None:
    print(f"parse, 10,000 lines: {parse_seconds():.2f} s")
    for layers in (10, 100, 1000):
        print(f"compile, {layers} layers: {compile_seconds(layers):.3f} s")
    print(f"cold start to result, examples/mlp.nexort: {min(cold_start_seconds() for _ in range(3)):.2f} s")
    for name in DEEP:
        times = ", ".join(f"{layers}: {depth_seconds(name, layers):.2f} s" for layers in (16, 64, 250, 1000))
        print(f"tangent kernel of a {name} network by layers: {times}")
    print("| M | seconds | RMS error of the limit | averaged networks, same time | their width | ratio |")
    print("| --- | --- | --- | --- | --- | --- |")
    for samples, seconds, error, other, width in accuracy_table():
        print(f"| {samples} | {seconds:.2f} | {error:.1e} | {other:.1e} | {width} | {other / error:.0f} |")
    print("| kernel | depth | inputs | from text, s | kernel, s | plain recursion, s | ratio |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for fn in ("relu", "erf"):
        for depth in (3, 10, 50):
            for inputs in (100, 500, 1000):
                whole, alone, plain = kernel_seconds(fn, depth, inputs, repeats=7)
                print(f"| {fn} | {depth} | {inputs} | {whole:.3f} | {alone:.3f} | {plain:.3f} | {alone / plain:.1f} |")


if __name__ == "__main__":
    main()
