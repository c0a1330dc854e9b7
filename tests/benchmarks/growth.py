"""What a fresh process takes, and how the time of training grows with the depth of a family W[l]:
`python -m tests.benchmarks.growth`, or with the name of a table (start, depth).
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

from threadpoolctl import threadpool_limits

import tp_compiler as tpc
from tests.benchmarks.measure import ROOT

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


TABLES: dict[str, Callable[[], None]] = {"start": print_start, "depth": print_depth}


def main(names: list[str]) -> None:
    for name in names or TABLES:
        TABLES[name]()
        print()


if __name__ == "__main__":
    main(sys.argv[1:])
