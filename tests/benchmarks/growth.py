"""What a fresh process takes, how the time of training grows with the depth of a family W[l], and how the work of formulas
compares with their time: `python -m tests.benchmarks.growth`, or with the name of a table (start, depth, work).
"""

from __future__ import annotations

import math
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

import numpy as np
from threadpoolctl import threadpool_limits

import tp_compiler as tpc
from tests.benchmarks.measure import ROOT, print_tables
from tp_compiler.evaluate import auto
from tp_compiler.evaluate.options import Options

COMMANDS = ("check", "limit", "equations")
OPTIMIZERS = {"SGD": "SGD(lr = 0.1)", "Adam": "Adam(lr = 0.05, eps = 0.01)"}
DEPTHS = (8, 32, 64)


def family(layers: int, optimizer: str) -> str:
    """A tanh network of `layers` hidden layers, whose matrices are one family; 4 inputs, 5 steps."""
    hidden = "".join(f"|h> = W[{k}] tanh(|h>)\n" for k in range(1, layers))
    return f"""
        axis i : 4
        axis d : 3
        axis l : {layers - 1}
        data xi[i,d] ~ N(0, 1) seed 1
        data y[i] ~ N(0, 1) seed 2
        ket |u[d]> ~ N(0, 1)
        matrix W[l] ~ N(0, 1)
        ket |v> ~ N(0, 1)
        def mlp(x[d]) {{
            |h> = sum[d](x[d] |u[d]>) / sqrt(3)
            {hidden}
            return <v|tanh(|h>)>
        }}
        train steps = 5 {{
            f[i] = mlp(xi[i,d])
            minimize mean[i]((f[i] - y[i])^2) / 2
            update all with {optimizer}
        }}
        output f[i] = mlp(xi[i,d])
    """


def depth_seconds(optimizer: str, depths: tuple[int, ...] = DEPTHS, repeats: int = 3) -> dict[int, float]:
    """CPU seconds of one thread at each depth, from text to result, the least of several in turn; M = 512, two replicates."""
    found = dict.fromkeys(depths, math.inf)
    with threadpool_limits(limits=1):
        tpc.limit(family(2, optimizer), method="qmc", samples=64, replicates=2, threads=1)
        for _ in range(repeats):
            for depth in depths:
                start = time.process_time()
                tpc.limit(family(depth, optimizer), samples=512, replicates=2, threads=1)
                found[depth] = min(found[depth], time.process_time() - start)
    return found


def exponent(seconds: dict[int, float]) -> float:
    """The power of the depth by which the time grows from the smallest to the largest."""
    least, most = min(seconds), max(seconds)
    return math.log(seconds[most] / seconds[least]) / math.log(most / least)


def start_seconds(command: str, example: str = "examples/mlp.nexort", repeats: int = 5) -> float:
    """CPU seconds of a process, from its start to its end, on one thread, the least of several; bytecode and the tables of
    the parser are there, as they are from the second start on."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    times = []
    with tempfile.TemporaryDirectory() as folder:
        environment |= {"PYTHONPYCACHEPREFIX": folder, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        for _ in range(repeats + 1):
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            arguments = [sys.executable, "-m", "tp_compiler", command, str(ROOT / example)]
            subprocess.run(arguments, check=True, capture_output=True, env=environment)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            times.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return min(times[1:])


def print_start() -> None:
    print("| command | CPU seconds |")
    print("| --- | --- |")
    for command in COMMANDS:
        print(f"| `tpc {command} examples/mlp.nexort` | {start_seconds(command):.2f} |", flush=True)


def print_depth() -> None:
    print("| optimizer |", " | ".join(f"{depth} layers" for depth in DEPTHS), "| exponent |")
    print("| --- " * (len(DEPTHS) + 2) + "|")
    for name, optimizer in OPTIMIZERS.items():
        found = depth_seconds(optimizer)
        print(f"| {name} |", " | ".join(f"{s:.2f}" for s in found.values()), f"| {exponent(found):.2f} |", flush=True)


# -- formulas: work counted, and seconds ----------------------------------------------------------------------------
def _tangent(activation: str) -> str:
    return f"""
        axis i, j : 3
        data xi[i] = [1.0, -0.5, 0.3]
        ket |u> ~ N(0, 1); ket |v> ~ N(0, 1); ket |b> ~ N(0, 1)
        matrix A ~ N(0, 1)
        |h[i]> = A {activation}(xi[i] * |u> + |b>) + |b>
        f[i] = <v|{activation}(h[i])>
        output K[i,j] = ntk(f[i], f[j])
    """


def _gated(steps: int) -> str:
    """A recurrent network with a gate, whose tangent kernel formulas attempt in vain."""
    return f"""
        axis i, j : 3
        axis d : 2
        axis t : {steps}
        data xi[i,t,d] ~ N(0, 1) seed 1
        ket |u[d]> ~ N(0, 1); ket |a[d]> ~ N(0, 1); ket |v> ~ N(0, 1)
        matrix W ~ N(0, 1); matrix Z ~ N(0, 1)
        |h[i]> = tanh(sum[d](xi[i,1,d] |u[d]>))
        for s in 2..{steps} {{
            |g[i]> = sigmoid(Z |h[i]> + sum[d](xi[i,s,d] |a[d]>))
            |h[i]> = |g[i]> * |h[i]> + (1 - |g[i]>) * tanh(W |h[i]> + sum[d](xi[i,s,d] |u[d]>))
        }}
        f[i] = <v|h[i]>
        output K[i,j] = ntk(f[i], f[j])
    """


ATTEMPTS = {
    "tangent kernel, tanh": _tangent("tanh"),
    "tangent kernel, hardswish": _tangent("hardswish"),
    "integral with kinks in a plane": "ket |x> ~ N(0, 1); ket |y> ~ N(0, 1)\noutput m = <relu(tanh(x) + y)>",
    "gated recurrent network, 3 steps": _gated(3),
    "gated recurrent network, 6 steps": _gated(6),
}


def attempt(text: str) -> tuple[float, float, float, bool]:
    """CPU seconds of the formulas of a program, their work in numbers, its share of the budget, and whether they suffice."""
    program = tpc.compile(text)
    question = auto.Request(program, Options())
    start = time.process_time()
    with np.errstate(all="ignore"), threadpool_limits(limits=1):
        found = auto.answer(question, program.outputs, (auto.FORMULAS,)).found
    spent, budget = time.process_time() - start, question.budget
    return spent, budget.done, budget.done / budget.work, len(found) == len(program.outputs)


def print_work() -> None:
    print("| program | CPU seconds | work, 10^6 numbers | ns a number | share of the budget | outcome |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name, text in ATTEMPTS.items():
        spent, work, share, done = attempt(text)
        outcome = "formulas" if done else "sampled"
        figures = f"{spent:.2f} | {work / 1e6:.0f} | {1e9 * spent / work:.0f} | {share:.3f}"
        print(f"| {name} | {figures} | {outcome} |", flush=True)


TABLES: dict[str, Callable[[], None]] = {"start": print_start, "depth": print_depth, "work": print_work}


if __name__ == "__main__":
    print_tables(TABLES, sys.argv[1:])
