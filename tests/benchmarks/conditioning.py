"""What conditioning on all kets that were met costs in long training, and what it drops.

`python -m tests.benchmarks.conditioning`, or with the name of a table: block (a GPT block), blocks (two of them, more tokens),
dropped (the bias that dropping leaves).
"""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Callable
from unittest import mock

import numpy as np
from threadpoolctl import threadpool_limits

import tp_compiler as tpc
from tests.benchmarks.measure import print_tables
from tests.benchmarks.training import tanh_network
from tp_compiler.evaluate.sampling import replicate

ADAM = "Adam(lr = 0.05, eps = 0.01)"


def gpt(
    tokens: int = 32, heads: int = 4, layers: int = 1, vocabulary: int = 100, batch: int = 4, steps: int = 10
) -> str:
    """A GPT with `layers` blocks: attention of several heads, an MLP, cross entropy of the next token, all trained."""
    draw = random.Random(0)
    now, following = ([[draw.randint(1, vocabulary) for _ in range(tokens)] for _ in range(batch)] for _ in range(2))
    return f"""
        import layers
        axis i : {batch}
        axis s, t : {tokens}
        axis w, c : {vocabulary}
        axis l : {layers}
        axis m : {layers * heads}
        data tok[i,s] = {now}
        data nxt[i,s] = {following}
        ket |e[w]> ~ N(0, 1)
        ket |p[s]> ~ N(0, 1)
        ket |o[w]> ~ N(0, 1)
        matrix Q[m] ~ N(0, 1)
        matrix K[m] ~ N(0, 1)
        matrix V[m] ~ N(0, 1)
        matrix O[m] ~ N(0, 1)
        matrix M1[l] ~ N(0, 2)
        matrix M2[l] ~ N(0, 1)
        train steps = {steps} {{
            |x[i,s]> = |e[tok[i,s]]> + |p[s]>
            for b in 1..{layers} {{
                |z[i,s]> = layernorm(|x[i,s]>)
                |r[i,s]> = 0 |x[i,s]>
                for a in {heads} * (b - 1) + 1 .. {heads} * b {{
                    g[i,s,t] = softmax[t](where(s - t + 1/2, <z[i,s]|(Q[a]^T K[a]) |z[i,t]>, -1e9))
                    |r[i,s]> = |r[i,s]> + O[a] sum[t](g[i,s,t] V[a] |z[i,t]>)
                }}
                |x[i,s]> = |x[i,s]> + |r[i,s]> / {heads}
                |x[i,s]> = |x[i,s]> + M2[b] relu(M1[b] layernorm(|x[i,s]>))
            }}
            |y[i,s]> = layernorm(|x[i,s]>)
            lg[i,s,w] = <o[w]|y[i,s]>
            minimize mean[i,s](logsumexp[w](lg[i,s,w]) - lg[i,s,nxt[i,s]])
            update all with {ADAM}
        }}
        output loss[step] = mean[i,s](logsumexp[w](lg[i,s,w]) - lg[i,s,nxt[i,s]])
    """


def gpt_seconds(text: str, samples: int | None = None, replicates: int = 8) -> tuple[float, int, float]:
    """CPU seconds of one thread from text to numbers, M, and the largest standard error; by default M is the default."""
    start = time.process_time()
    with threadpool_limits(limits=1):
        run = tpc.limit(text, method="qmc", samples=samples, replicates=replicates, threads=1)
    return time.process_time() - start, int(run.settings["samples"]), float(np.max(run.outputs["loss"].stderr))


# -- the bias of what is dropped -------------------------------------------------------------------------------------
#: Programs whose matrices meet more than `directions.MANY` kets.
LONG = {
    "MLP, SGD": lambda: tanh_network("SGD(lr = 0.2)", 40),
    "MLP, Adam": lambda: tanh_network("Adam(lr = 0.03, eps = 0.01)", 40),
    "MLP of relu, SGD": lambda: tanh_network("SGD(lr = 0.1)", 40).replace("tanh(", "relu("),
}


def bias(text: str, dropped: float, samples: int = 256, replicates: int = 64) -> tuple[float, float, float]:
    """How far dropping this part of kets moves the outputs, the noise of that, and the standard error of 8 replicates."""
    found = []
    for drop in (1e-6, dropped):
        with (
            mock.patch.object(replicate, "dropped_of", lambda *_, drop=drop: drop),
            threadpool_limits(limits=1),
        ):
            run = tpc.limit(text, method="qmc", samples=samples, replicates=replicates, threads=1)
        (output,) = run.outputs.values()
        found.append(output.replicates.levels[-1].reshape(replicates, -1))
    moved = found[1] - found[0]
    noise = moved.std(axis=0, ddof=1) / np.sqrt(replicates)
    square = np.mean(np.square(moved.mean(axis=0)) - np.square(noise))
    stderr = np.sqrt(np.mean(found[0].var(axis=0, ddof=1)) / 8)
    return float(np.sqrt(max(0.0, square))), float(np.sqrt(np.mean(np.square(noise)))), float(stderr)


# -- tables ---------------------------------------------------------------------------------------------------------
def _print_gpt(name: str, text: str) -> None:
    print("| program | M | CPU seconds | largest standard error |")
    print("| --- | --- | --- | --- |")
    seconds, samples, error = gpt_seconds(text)
    print(f"| {name} | {samples:,} | {seconds:.0f} | {error:.1e} |", flush=True)


def print_dropped() -> None:
    print("| program | dropped δ | bias | noise of the bias | bias / δ² | standard error of 8 replicates |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name, text in LONG.items():
        for dropped in (0.1, 0.2):
            moved, noise, error = bias(text(), dropped)
            row = f"| {name} | {dropped} | {moved:.1e} | {noise:.1e} | {moved / dropped**2:.2f} | {error:.1e} |"
            print(row, flush=True)


TABLES: dict[str, Callable[[], None]] = {
    "block": lambda: _print_gpt("GPT block, 4 x 32 tokens, 4 heads, 10 steps of Adam", gpt()),
    "blocks": lambda: _print_gpt("two GPT blocks, 4 x 64 tokens, 4 heads, 10 steps of Adam", gpt(64, layers=2)),
    "dropped": print_dropped,
}


if __name__ == "__main__":
    print_tables(TABLES, sys.argv[1:])
