"""Derivatives of every primitive against central differences, straight from the table."""

from __future__ import annotations

import pytest

from tp_compiler.diagnostics import ProgramError, Source, Span
from tp_compiler.ir import nodes as ir
from tp_compiler.ir.build import Builder
from tp_compiler.ir.primitives import PRIMITIVES
from tp_compiler.ir.types import Axis, Index, Type
from tp_compiler.ir.walk import rewrite
from tp_compiler.transform.entrywise import derivative

HERE = Span(Source("p", "text"), 0, 1)
#: Points away from jumps and kinks, inside every domain.
POINTS = {1: [(0.7,), (1.9,), (0.31,)], 2: [(0.7, 1.3), (1.9, 0.4)], 3: [(0.7, 1.3, 0.4), (0.2, 0.4, 1.9)]}
STEP = 1e-5


def arity(name: str) -> int:
    return PRIMITIVES[name].arity or 3


def points(name: str) -> list[tuple[float, ...]]:
    found = POINTS[arity(name)]
    negative = name not in ("log", "sqrt", "pow")
    return [*found, *(tuple(-x for x in p) for p in found if negative)]


@pytest.mark.parametrize("name", sorted(PRIMITIVES))
@pytest.mark.parametrize("order", [1, 2])
def test_derivatives(name: str, order: int) -> None:
    build = Builder()
    leaves = [ir.Array(type=Type(), name=f"z{k}", values=0.0, span=HERE) for k in range(arity(name))]
    root = build.map(name, leaves, HERE)
    for k, leaf in enumerate(leaves):
        graph = root
        for _ in range(order - 1):
            graph = derivative(build, graph, leaf, HERE)
        slope = derivative(build, graph, leaf, HERE)
        for at in points(name):
            low, high = list(at), list(at)
            low[k] -= STEP
            high[k] += STEP
            secant = (number(build, graph, leaves, high) - number(build, graph, leaves, low)) / (2 * STEP)
            assert number(build, slope, leaves, at) == pytest.approx(secant, rel=1e-6, abs=1e-6)


def number(build: Builder, graph: ir.Node, leaves: list[ir.Array], at: tuple[float, ...] | list[float]) -> float:
    """The value of a graph of entrywise functions: constants put in the place of its leaves fold."""
    put = {leaf: build.constant(x, HERE) for leaf, x in zip(leaves, at, strict=True)}
    folded = rewrite(build, graph, lambda n: put.get(n, None if n.args else n), HERE)  # type: ignore[call-overload]
    assert isinstance(folded, ir.Constant)
    return folded.value


@pytest.mark.parametrize("name", [n for n in sorted(PRIMITIVES) if PRIMITIVES[n].parity])
def test_parity(name: str) -> None:
    row = PRIMITIVES[name]
    for (x,) in POINTS[1]:
        assert row.scalar(-x) == pytest.approx(row.parity * row.scalar(x))


def test_a_reduction_has_no_derivative() -> None:
    build = Builder()
    leaf = ir.Array(type=Type(), name="z", values=0.0, span=HERE)
    index = Index("i", Axis("i", 3))
    root = build.reduce("max", build.mul(leaf, build.position(index, HERE), HERE), index, HERE)
    with pytest.raises(ProgramError) as caught:
        derivative(build, root, leaf, HERE)
    assert caught.value.diagnostics[0].code == "NX236"
