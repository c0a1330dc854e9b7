"""What must hold of a random index program: names of indices mean nothing, and three roads give the same numbers.

    names     every statement under other names of its indices: the same network, the same limit
    roads     by formulas and by sampling: the same within the errors; and networks of growing width approach it
    kernels   of one family twice are symmetric and positive semidefinite
    slopes    the gradient by a number is the slope of the network in it

As a script: `python -m tests.property.index_checks --programs 3000 --first 0` prints every disagreement, and how many.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.stats import t

import tp_compiler as tpc
from tests.property.index_programs import IndexProgram, index_program, training_program
from tp_compiler.finite.converge import verify
from tp_compiler.finite.run import samples as networks
from tp_compiler.ir.program import Program
from tp_compiler.results import Run

LEVEL = 1e-6  # of the figures of a program together
ROUNDING = 1e-9


@dataclass(frozen=True)
class Effort:
    samples: int
    widths: tuple[int, ...]
    networks: int


#: A disagreement is looked at again with more effort, output by output: it counts where it stands to the end.
EFFORTS = (Effort(256, (32, 96), 8), Effort(2048, (64, 128, 256), 32), Effort(16384, (128, 256, 512), 64))
Found = Iterator[tuple[str, str]]  # (output, what is wrong with it)


def disagreements(seed: int) -> list[str]:
    """What does not hold of program `seed`, whose size grows with seed modulo 4."""
    program = index_program(seed, 1 + seed % 4, 2)
    plain, renamed = (tpc.compile(text) for text in (program.text(), program.text(seed)))
    only = [o.name for o in plain.outputs]
    found: list[tuple[str, str]] = []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for turn, effort in enumerate(EFFORTS):
            found = list(_limits(plain, renamed, program, only, seed + 1_000_000 * turn, effort))
            only = list(dict.fromkeys(name for name, _ in found))
            if not found:
                break
        found += [*_same_network(plain, renamed), *_slopes(program)]
    return [f"{name}: {text}" for name, text in found]


def dependence_on_names(seed: int) -> list[str]:
    """The part of it that costs little, of a larger program: one network and the formulas, under two sets of names."""
    program = index_program(seed, 5, 4, more=True)
    plain, renamed = (tpc.compile(text) for text in (program.text(), program.text(seed)))
    auto = tpc.limit(plain, method="exact")
    found = [*_same_network(plain, renamed), *_slopes(program)]
    found += _same_formulas(auto, renamed, list(auto.outputs), method="exact")
    return [f"{name}: {text}" for name, text in found]


def training_under_names(seed: int) -> list[str]:
    """A trained network under two sets of names: the same at width n, the same in the limit up to rounding."""
    program = training_program(seed)
    plain, renamed = (tpc.compile(text) for text in (program.text(), program.text(seed)))
    found = list(_same_network(plain, renamed))
    a, b = (tpc.limit(text, samples=32, seed=seed, threads=1) for text in (plain, renamed))
    found += [(name, f"no limit: {x.code} {x.message}") for run in (a, b) for name, x in run.failed.items()]
    for name in a.outputs.keys() & b.outputs.keys():
        if _apart(a[name], b[name], 1e-6):
            found.append((name, f"the limit depends on names: {a[name].tolist()}, {b[name].tolist()}"))
    return [f"{name}: {text}" for name, text in found]


def _limits(
    plain: Program, renamed: Program, program: IndexProgram, only: list[str], seed: int, effort: Effort
) -> Found:
    options = {"samples": effort.samples, "seed": seed, "threads": 1}
    auto = tpc.limit(plain, only=only, **options)
    exact = [name for name, o in auto.outputs.items() if o.method != "qmc"]
    sampled = tpc.limit(renamed, method="qmc", only=exact, **options) if exact else auto
    for name, problem in (*auto.failed.items(), *sampled.failed.items()):
        yield name, f"no limit: {problem.code} {problem.message}"
    yield from _two_roads(auto, sampled)
    yield from _same_formulas(auto, renamed, exact)
    yield from _networks(plain, auto, seed, effort)
    for name in auto.outputs.keys() & set(program.symmetric):
        yield from _kernel(name, auto.outputs[name].value, auto.outputs[name].stderr)


def _apart(x: np.ndarray, y: np.ndarray, error: float | np.ndarray) -> bool:
    """Whether two arrays differ by more than `error`, which is relative to the largest entry."""
    scale = 1 + np.max(np.abs(x), initial=0.0)
    return x.shape != y.shape or not bool(np.all(np.abs(x - y) <= error * scale))


def _same_formulas(auto: Run, renamed: Program, exact: list[str], method: str = "quadrature") -> Found:
    """Exact values under other names: to rounding."""
    again = tpc.limit(renamed, method=method, only=exact) if exact else auto
    for name in exact:
        if name not in again.outputs:
            yield name, f"{auto.outputs[name].method} under one name, refused under the other"
            continue
        a, b = auto.outputs[name], again.outputs[name]
        if _apart(a.value, b.value, ROUNDING + float(np.max(a.stderr, initial=0.0))):
            yield name, f"{a.method} limit depends on names: {a.value.tolist()}, {b.value.tolist()}"


def _same_network(plain: Program, renamed: Program) -> Found:
    a, b = (tpc.simulate(program, width=16, seeds=1) for program in (plain, renamed))
    for name, problem in (*a.failed.items(), *b.failed.items()):
        yield name, f"no network: {problem.code} {problem.message}"
    for name in a.outputs.keys() & b.outputs.keys():
        if _apart(a[name], b[name], ROUNDING):
            yield name, f"the network depends on names: {a[name].tolist()}, {b[name].tolist()}"


def _two_roads(auto: Run, sampled: Run) -> Found:
    names = auto.outputs.keys() & sampled.outputs.keys()
    bound = t.isf(LEVEL / max(1, sum(auto[name].size for name in names)), 7)
    for name in names:
        a, b = auto.outputs[name], sampled.outputs[name]
        error = np.hypot(a.stderr, b.stderr) + ROUNDING * (1 + np.max(np.abs(a.value), initial=0.0))
        score = float(np.max(np.abs(a.value - b.value) / error, initial=0.0))
        if not score < bound:
            yield name, f"{a.method} {a.value.tolist()}, sampled {b.value.tolist()}: {score:.1f} errors"


def _networks(program: Program, run: Run, seed: int, effort: Effort) -> Found:
    widths = effort.widths
    drawn = {
        n: networks(program, n, effort.networks, seed=1_000_003 * seed + n, only=list(run.outputs)).values
        for n in widths
    }
    for check in verify(dict(run.outputs), drawn, level=LEVEL).checks:
        if min(check.z[-1], check.z_corrected) > check.threshold:
            limit = run[check.name].tolist()
            wide = drawn[widths[-1]][check.name].mean(axis=0).tolist()
            yield check.name, f"limit {limit}, networks {wide}: z = {check.z}, corrected {check.z_corrected:.1f}"


def _kernel(name: str, value: np.ndarray, stderr: np.ndarray) -> Found:
    """`value` has the indices of the family twice."""
    size = round(value.size**0.5)
    matrix, error = value.reshape(size, size), np.broadcast_to(stderr, value.shape).reshape(size, size)
    slack = 6 * float(np.max(error, initial=0.0)) + ROUNDING * (1 + float(np.max(np.abs(matrix), initial=0.0)))
    if np.max(np.abs(matrix - matrix.T), initial=0.0) > slack:
        yield name, f"not symmetric: {matrix.tolist()}"
    elif size and np.linalg.eigvalsh((matrix + matrix.T) / 2)[0] < -size * slack:
        yield name, f"not positive semidefinite: {matrix.tolist()}"


def _slopes(program: IndexProgram) -> Found:
    step, text = 1e-5, program.text()
    for whole, parameter, gradient in program.slopes:
        start = float(text.split(f"scalar {parameter} = ")[1].split()[0])
        up, down, here = (
            tpc.simulate(text, width=24, seeds=1, settings={parameter: start + shift}) for shift in (step, -step, 0.0)
        )
        if _apart((up[whole] - down[whole]) / (2 * step), here[gradient], 1e-5):
            found = ((up[whole] - down[whole]) / (2 * step)).tolist()
            yield gradient, f"gradient {here[gradient].tolist()}, slope {found}"


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description="Random index programs: every disagreement between three roads.")
    parser.add_argument("--programs", type=int, default=3000)
    parser.add_argument("--first", type=int, default=0, help="the seed of the first program")
    chosen = parser.parse_args(arguments)
    failing = 0
    for seed in range(chosen.first, chosen.first + chosen.programs):
        try:
            found = disagreements(seed)
        except Exception as problem:  # a crash is a disagreement, and the campaign continues
            found = [f"{type(problem).__name__}: {problem}"]
        failing += bool(found)
        for line in found:
            print(f"program {seed}: {line}", flush=True)
        if seed % 100 == 99:
            print(f"# {seed + 1 - chosen.first} programs, {failing} with disagreements", flush=True)
    print(f"# {chosen.programs} programs, {failing} with disagreements", flush=True)
    return 1 if failing else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
