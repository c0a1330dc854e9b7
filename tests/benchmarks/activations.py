"""Seconds of a tangent kernel for each activation: `python -m tests.benchmarks.activations` prints the table of
docs/benchmarks.md."""

from __future__ import annotations

import time

import tp_compiler as tpc
from tests.consistency.test_activations import NAMES, SHALLOW, inputs, program


def seconds(name: str, depth: int = 3) -> tuple[float, str, float]:
    """(CPU seconds of the kernels of three inputs, the method, the largest error), the best of two runs."""
    text = program(name, depth, inputs(1e-5)[[0, 1, 4]])
    best, method, error = float("inf"), "", 0.0
    for _ in range(2):
        start = time.process_time()
        output = tpc.limit(text).outputs["t"]
        best = min(best, time.process_time() - start)
        method, error = output.method, float(output.stderr.max())
    return best, method, error


def main() -> None:
    print("| activation | method | seconds | printed error |\n| --- | --- | --- | --- |")
    for name in NAMES:
        found, method, error = seconds(name, 1 if name in SHALLOW else 3)
        print(
            f"| {name} | {method} | {found:.2f} | {error:.0e} |"
            if error
            else f"| {name} | {method} | {found:.2f} | 0 |"
        )


if __name__ == "__main__":
    main()
