"""The measurements of training behind docs/benchmarks.md: `python -m tests.benchmarks.training` prints its tables.

Names of tables after the command print these alone: entries, steps, demand, floor, threads.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from typing import Any
from unittest import mock

import numpy as np
from threadpoolctl import threadpool_limits

import tp_compiler as tpc
from tests.benchmarks.measure import ROOT, print_tables
from tp_compiler.evaluate.allocator import keep_memory
from tp_compiler.evaluate.sampling import blocks
from tp_compiler.evaluate.sampling.entry_blocks import block_size
from tp_compiler.evaluate.sampling.fused import available
from tp_compiler.evaluate.sampling.merge_equal_nodes import shared
from tp_compiler.evaluate.sampling.plan import SamplingPlan
from tp_compiler.evaluate.sampling.replicate import Replication

OPTIMIZERS = {"SGD": "SGD(lr = 0.2)", "Adam": "Adam(lr = 0.1, beta1 = 0.9, beta2 = 0.99, eps = 0.01)"}


INPUTS = [[0.8, -0.5, 1.2], [-0.6, 1.0, 0.4], [0.3, 0.9, -0.8], [-1.2, -0.2, 0.5]]
TARGETS = [1.0, -0.5, 0.25, -1.0]


def tanh_network(optimizer: str, steps: int = 5, inputs: int = 4) -> str:
    """Two hidden tanh layers, maximal update; the output is what the trained network says of its inputs."""
    return f"""
        axis i : {inputs}
        axis d : 3
        data xi[i,d] = {INPUTS[:inputs]}
        data y[i] = {TARGETS[:inputs]}
        ket |u[d]> ~ N(0, 1)
        matrix W ~ N(0, 1)
        ket |v> ~ N(0, 1)
        def mlp(x[d]) {{ return <v|tanh(W tanh(sum[d](x[d] |u[d]>) / sqrt(3)))> }}
        train steps = {steps} {{
            f[i] = mlp(xi[i,d])
            minimize mean[i]((f[i] - y[i])^2) / 2
            update |u>, W, |v> with {optimizer}
        }}
        output f[i] = mlp(xi[i,d])
    """


@contextmanager
def numba(allowed: bool) -> Iterator[None]:
    """Without the extra `fast`, if it is not allowed."""
    with mock.patch.object(blocks, "available", available if allowed else lambda: False):
        yield


def numbas() -> tuple[bool, ...]:
    return (True, False) if find_spec("numba") else (False,)


# -- one step of Adam on M·P entries --------------------------------------------------------------------------------
def step_seconds(samples: int, steps: tuple[int, int] = (8, 16), repeats: int = 2, fast: bool = True) -> float:
    """CPU seconds of a step of one replicate with Adam, on one thread: the difference of two lengths of training."""
    keep_memory()  # as every run does
    best = []
    for count in steps:
        plan = SamplingPlan(shared(tpc.compile(tanh_network(OPTIMIZERS["Adam"], count))))
        times = []
        with numba(fast), threadpool_limits(limits=1):
            for number in range(repeats + 1):  # the first one compiles
                start = time.process_time()
                Replication(plan, samples, [(0, number)], plain=False)
                times.append(time.process_time() - start)
        best.append(min(times[1:]))
    return (best[1] - best[0]) / (steps[1] - steps[0])


def pass_seconds(samples: int, fast: bool = True) -> float:
    """CPU seconds of the pass over the entries in such a step, its gradient included."""
    plan = SamplingPlan(shared(tpc.compile(tanh_network(OPTIMIZERS["Adam"], 8))))
    follow, times = blocks.Blocks.follow, []

    def timed(*arguments: Any) -> None:
        start = time.process_time()
        follow(*arguments)
        times.append(time.process_time() - start)

    with (
        numba(fast),
        threadpool_limits(limits=1),
        mock.patch.object(blocks, "WORTHWHILE", 0),
        mock.patch.object(blocks.Blocks, "follow", timed),
    ):
        Replication(plan, samples, [(0, 0)], plain=False)
    return min(times)


def torch_step_seconds(samples: int, dtype: str, fused: bool = False, repeats: int = 4) -> float:
    """CPU seconds of G = D Xᵀ and `torch.optim.Adam.step` on a dense matrix with as many entries, on one thread."""
    import torch

    side = int(np.sqrt(samples * block_size(samples)))
    kind = getattr(torch, dtype)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        left, right = torch.randn(side, 4, dtype=kind), torch.randn(side, 4, dtype=kind)
        weight = torch.nn.Parameter(torch.zeros(side, side, dtype=kind))
        adam = torch.optim.Adam([weight], lr=0.1, betas=(0.9, 0.99), eps=0.01, fused=fused)
        times = []
        for _ in range(repeats + 1):
            start = time.process_time()
            weight.grad = left @ right.T
            adam.step()
            times.append(time.process_time() - start)
        return min(times[1:])
    finally:
        torch.set_num_threads(threads)


# -- cost as steps accumulate ---------------------------------------------------------------------------------------
def training_seconds(optimizer: str, steps: int, samples: int = 2048) -> float:
    """Seconds of a training limit with fixed samples, two replicates, on one thread."""
    program = tpc.compile(
        tanh_network(optimizer, steps)
        .replace("axis i : 4", "axis i : 3")
        .replace(", [-1.2, -0.2, 0.5]", "")
        .replace(", -1.0]", "]")
    )
    start = time.perf_counter()
    tpc.limit(program, method="qmc", samples=samples, replicates=2, threads=1)
    return time.perf_counter() - start


# -- what a limit costs however few the particles --------------------------------------------------------------------
def floor_seconds(text: str, samples: int | None, repeats: int = 3) -> float:
    """CPU seconds of a limit on one thread, the least of several; `samples` None: as many as the default error takes."""
    program = tpc.compile(text)
    found = []
    for _ in range(repeats + 1):  # the first one imports
        start = time.process_time()
        tpc.limit(program, samples=samples, threads=1)
        found.append(time.process_time() - start)
    return min(found[1:])


# -- two threads -----------------------------------------------------------------------------------------------------
def thread_seconds(text: str, samples: int, repeats: int) -> list[float]:
    """Seconds on the wall with one thread and with two, the least of several, in turns."""
    program = tpc.compile(text)
    tpc.limit(program, samples=256, threads=2)  # imports
    found: list[list[float]] = [[], []]
    for _ in range(repeats):
        for threads, times in enumerate(found, 1):
            start = time.perf_counter()
            tpc.limit(program, samples=samples, threads=threads)
            times.append(time.perf_counter() - start)
    return [min(times) for times in found]


# -- from a cold start ----------------------------------------------------------------------------------------------
def demand_seconds(
    atol: float = 3e-4, example: str = "examples/train_mlp.nexort", fast: bool = True
) -> tuple[float, float, int]:
    """(seconds, largest standard error of f, M) of a fresh process that is asked for standard errors below atol."""
    start = "import sys; from tp_compiler.cli import main; sys.exit(main())"
    if not fast:
        start = "import sys; sys.modules['numba'] = None; " + start
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", start, "limit", str(ROOT / example), "--only", "f", "--json", "--quiet", "--rtol", "0",
         "--atol", str(atol)],
        check=True, capture_output=True, cwd=tempfile.gettempdir(),
    )  # fmt: skip
    seconds = time.perf_counter() - began
    run: dict[str, Any] = json.loads(done.stdout)
    return seconds, float(np.max(run["outputs"]["f"]["stderr"])), run["samples"]


# -- tables ---------------------------------------------------------------------------------------------------------
def print_entries() -> None:
    sizes = {m: m * block_size(m) for m in (2**14, 2**16)}
    rows: dict[str, Callable[[int], float]] = {}
    for fast in numbas():
        extra = f"{'with' if fast else 'without'} numba"
        rows[f"limit, {extra}"] = partial(step_seconds, fast=fast)
        rows[f"the pass over the entries alone, {extra}"] = partial(pass_seconds, fast=fast)
    if find_spec("torch") is None:
        print("PyTorch is not installed: nothing to compare with\n")
    else:
        for dtype in ("float64", "float32"):
            rows[f"PyTorch, {dtype}"] = partial(torch_step_seconds, dtype=dtype)
            rows[f"PyTorch, {dtype}, fused"] = partial(torch_step_seconds, dtype=dtype, fused=True)
    print("| ns an entry |", " | ".join(f"M = {m:,}: {entries:,} entries" for m, entries in sizes.items()), "|")
    print("| --- | --- | --- |")
    for name, seconds in rows.items():
        print(f"| {name} |", " | ".join(f"{1e9 * seconds(m) / n:.1f}" for m, n in sizes.items()), "|", flush=True)


def print_steps() -> None:
    print("| optimizer | steps | seconds | seconds a step |")
    print("| --- | --- | --- | --- |")
    for name, optimizer in (("SGD", "SGD(lr = 0.1)"), ("Adam", "Adam(lr = 0.02, eps = 0.01)")):
        for steps in (10, 100, 1000):
            seconds = training_seconds(optimizer, steps)
            print(f"| {name} | {steps:,} | {seconds:.1f} | {seconds / steps:.3f} |", flush=True)


def print_demand() -> None:
    print("| extra `fast` | seconds | largest standard error | M |")
    print("| --- | --- | --- | --- |")
    for fast in numbas():
        seconds, stderr, samples = min(demand_seconds(fast=fast) for _ in range(3))
        print(f"| {'yes' if fast else 'no'} | {seconds:.1f} | {stderr:.1e} | {samples:,} |", flush=True)


def print_floor() -> None:
    from tests.torch.architectures import ARCHITECTURES

    adam = (ROOT / "examples" / "train_mlp.nexort").read_text()
    transformer = ARCHITECTURES["transformer"].program("Adam(lr = 0.05, eps = 0.01)", 3)
    print("| limit | M | CPU seconds |")
    print("| --- | --- | --- |")
    print(f"| train_mlp, Adam, to 1e-3 | 2,048 | {floor_seconds(adam, None):.2f} |")
    for name, text, samples in (("train_mlp", adam, 256), ("Transformer of two layers", transformer, 64)):
        print(f"| {name}, Adam | {samples} | {floor_seconds(text, samples):.2f} |", flush=True)


def print_threads() -> None:
    adam = (ROOT / "examples" / "train_mlp.nexort").read_text()
    print("| M | one thread, s | two threads, s | ratio |")
    print("| --- | --- | --- | --- |")
    for samples, repeats in ((2048, 8), (16384, 2)):
        one, two = thread_seconds(adam, samples, repeats)
        print(f"| {samples:,} | {one:.2f} | {two:.2f} | {one / two:.2f} |", flush=True)


TABLES: dict[str, Callable[[], None]] = {
    "entries": print_entries, "steps": print_steps, "demand": print_demand,
    "floor": print_floor, "threads": print_threads,
}  # fmt: skip


if __name__ == "__main__":
    print_tables(TABLES, sys.argv[1:])
