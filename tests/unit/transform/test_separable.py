"""Sums over two neurons taken apart: the value, whatever the summed indices are called outside."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from tp_compiler.diagnostics import Source, Span
from tp_compiler.ir import nodes as ir
from tp_compiler.ir.build import Builder
from tp_compiler.ir.types import Axis, Index, N
from tp_compiler.transform.separable import added, averaged, separated

SPAN = Span(Source("p", "text"), 0, 1)
SIZE = 4  # neurons
P, Q = (Index(name, Axis("p", 3)) for name in "pq")
Point = dict[Index | int, int]
build = Builder()
_rng = np.random.default_rng(0)
DRAWN: dict[ir.KetSymbol, np.ndarray] = {}


def ket(name: str, *indices: Index) -> ir.Node:
    symbol = ir.KetSymbol(name, indices, N, SPAN)
    DRAWN[symbol] = _rng.normal(size=(SIZE, *(i.size for i in indices)))
    return build.initial_ket(symbol, build.constant(0, SPAN), build.constant(1, SPAN), SPAN)


def value(node: ir.Node, at: Point) -> float:
    """An instruction at given neurons and positions, straight from its definition (four neurons)."""
    if isinstance(node, ir.Constant):
        return node.value
    if isinstance(node, ir.Array):
        return float(node.values[tuple(at[i] for i in node.type.indices)])
    if isinstance(node, ir.InitialKet):
        return float(DRAWN[node.symbol][(at[0], *(at[i] for i in node.type.indices))])
    if isinstance(node, ir.Copy):
        return value(node.args[0], at | {0: at[node.slot]})
    if isinstance(node, ir.Reindex):
        own = zip(node.args[0].type.indices, node.selectors, strict=True)
        return value(node.args[0], at | {i: at[s] for i, s in own if isinstance(s, Index)})
    if isinstance(node, ir.Contract):
        ranges = [range(i.size) for i in node.over] + [range(SIZE) for _ in node.slots]
        inside = [at | dict(zip((*node.over, *node.slots), p, strict=True)) for p in itertools.product(*ranges)]
        total = sum(float(np.prod([value(a, point) for a in node.args])) for point in inside)
        return total / SIZE ** len(node.slots)
    assert isinstance(node, ir.Map)
    args = [value(a, at) for a in node.args]
    return sum(args) if node.fn == "add" else float(np.prod(args)) if node.fn == "mul" else args[0] / args[1]


x, y, z = (build.copy(ket(name, P), 1, SPAN) if name == "y" else ket(name, P) for name in "xyz")
c = build.array("c", _rng.normal(size=3), (P,), False, SPAN)
inner = build.contract((x, y), (P,), (), SPAN)  # Σ_p |x_p><y_p|
BODIES = {
    "scaled": build.mul(inner, c, SPAN),
    "divided": build.map("div", (inner, c), SPAN),
    "added": build.add(inner, build.map("mul", (z, y, c), SPAN), SPAN),
    "two of them": build.add(inner, build.mul(inner, build.rename(c, {P: Q}, SPAN), SPAN), SPAN),
}


@pytest.mark.parametrize("name", BODIES)
def test_terms_add_up(name: str) -> None:
    node = BODIES[name]
    terms = separated(build, node, SPAN)
    assert terms is not None
    total = added(build, terms, (1, N), SPAN)
    for p, q in itertools.product(range(3), repeat=2):
        at: Point = {0: 1, 1: 2, P: p, Q: q}
        assert value(total, at) == pytest.approx(value(node, at), rel=1e-12)


@pytest.mark.parametrize("name", BODIES)
@pytest.mark.parametrize("power", [1, 2])
@pytest.mark.parametrize("over", [(), (P,), (Q,)])
def test_averages_of_rows(name: str, power: int, over: tuple[Index, ...]) -> None:
    node = BODIES[name]
    terms = separated(build, node, SPAN)
    assert terms is not None
    found = averaged(build, terms, power, over, (0, 1), SPAN)
    assert found is not None
    for p, q in itertools.product(range(3), repeat=2):
        at: Point = {P: p, Q: q}
        points = itertools.product(range(SIZE), range(SIZE), *(range(3) for _ in over))
        wanted = sum(value(node, at | dict(zip((0, 1, *over), point, strict=True))) ** power for point in points)
        assert value(found, at) == pytest.approx(wanted / SIZE**2, rel=1e-10)
