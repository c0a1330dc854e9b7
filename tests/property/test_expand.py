"""Programs written out compute the same: the examples, and random programs with gradients and training."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import tp_compiler as tpc
from tests.property.test_random_programs import Writer
from tests.unit.expand.roundtrip import holds

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = sorted([*(ROOT / "examples").glob("*.nexort"), *(ROOT / "tp_compiler" / "starters").glob("*.nexort")])


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda p: p.stem)
def test_examples(path: Path) -> None:
    holds(path.read_text(encoding="utf-8"), str(path), width=8)


def with_gradients(seed: int, steps: int) -> str:
    """A random program with tangent kernels and gradients by kets and matrices of what it computes."""
    writer = Writer(seed)
    lines = [writer.text(steps)]
    for width in ("n", "m"):
        last, other = writer.kets[width][-1], writer.rng.choice(writer.kets[width])
        lines += [
            f"f{width}[i] = <u{width}|{last}> + <sin({other})>",
            f"output t{width}[i,j] = ntk(f{width}[i], f{width}[j])",
            f"output g{width}[i] = <grad(f{width}[i], |un>)|bn[1]>",
            f"output h{width}[i] = <grad(mean[i](f{width}[i]^2), |b{width}[i]>)|b{width}[i]>",
            f"output w{width}[i] = <un|grad(f{width}[i], W)|bn[2]>",
        ]
    return "\n".join(lines) + "\n"


def with_training(seed: int, steps: int) -> str:
    """A random network, trained for two steps; parameters that its loss does not depend on are frozen."""
    writer = Writer(seed)
    writer.declare()
    for _ in range(steps):
        writer.step()
    heads = ("axis", "data", "width", "matrix", "ket")
    declared = [line for line in writer.lines if line.split()[0] in heads]
    network = [line for line in writer.lines if line.split()[0] not in heads]
    optimizer = writer.rng.choice(["SGD(lr = 0.1)", "Adam(lr = 0.1, eps = 0.1)"])
    loop = [
        "data y[i] = [1, -1]", "train steps = 2 {", *network, f"f[i] = <un|{writer.kets['n'][-1]}>",
        "loss = mean[i]((f[i] - y[i])^2)", "minimize loss", f"update all with {optimizer}", "}", "output loss[step]",
        "output f[step,i]", f"output q[i] = <tanh({writer.kets['n'][-1]})>",
        f"output r[step,i] = <{writer.kets['m'][-1]}|um> + f[i]",
    ]  # fmt: skip
    while True:
        text = "\n".join([*declared, *loop]) + "\n"
        warning = next((d.message for d in tpc.check(text) if d.code == "NX920"), None)
        if warning is None:
            return text
        unused = re.findall(r"depend on `\|?(\w+)", warning)
        assert unused, warning
        declared = [f"{s} frozen" if re.findall(r"\w+", s)[1] in unused else s for s in declared]


@pytest.mark.parametrize("write", [with_gradients, with_training])
@pytest.mark.parametrize("seed", range(5))
def test_random_programs(write, seed: int) -> None:  # type: ignore[no-untyped-def]
    holds(write(seed, 3 + seed), width=8)


@pytest.mark.slow
@pytest.mark.parametrize("write", [with_gradients, with_training])
@pytest.mark.parametrize("seed", range(100, 120))
def test_many_random_programs(write, seed: int) -> None:  # type: ignore[no-untyped-def]
    holds(write(seed, 3 + seed % 7), width=8)
