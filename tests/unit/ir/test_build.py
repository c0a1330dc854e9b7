"""Constructors: folding, sharing, types; and the walkers."""

from __future__ import annotations

import pytest

from tp_compiler.diagnostics import ProgramError, Source, Span
from tp_compiler.ir import build as build_module
from tp_compiler.ir import nodes as ir
from tp_compiler.ir.build import Builder
from tp_compiler.ir.types import Axis, Index, N
from tp_compiler.ir.walk import reachable, rewrite

HERE = Span(Source("p", "text"), 0, 1)
AXIS = Axis("i", 3)
I, J = Index("i", AXIS), Index("j", AXIS)  # noqa: E741


@pytest.fixture
def build() -> Builder:
    return Builder()


def ket(build: Builder, *indices: Index) -> ir.Node:
    zero, one = build.constant(0, HERE), build.constant(1, HERE)
    return build.initial_ket(ir.KetSymbol("x", indices, N, HERE), zero, one, HERE)


def value(node: ir.Node) -> float:
    assert isinstance(node, ir.Constant)
    return node.value


def test_constants_fold(build: Builder) -> None:
    two, three = build.constant(2, HERE), build.constant(3, HERE)
    assert value(build.map("pow", (two, three), HERE)) == 8
    assert value(build.add(two, build.neg(three, HERE), HERE)) == -1
    assert value(build.map("mul", (), HERE)) == 1


@pytest.mark.parametrize(
    "fn, args, code",
    [
        ("div", (1, 0), "NX411"),
        ("pow", (0, -1), "NX411"),
        ("exp", (1000,), "NX412"),
        ("mul", (1e300, 1e300), "NX412"),
        ("log", (-1,), "NX413"),
        ("pow", (-1, 0.5), "NX413"),
    ],
)
def test_undefined_constants(build: Builder, fn: str, args: tuple[float, ...], code: str) -> None:
    with pytest.raises(ProgramError) as caught:
        build.map(fn, [build.constant(a, HERE) for a in args], HERE)
    assert [d.code for d in caught.value.diagnostics] == [code]


def test_neutral_elements_vanish(build: Builder) -> None:
    x = ket(build)
    assert build.mul(build.constant(1, HERE), x, HERE) is x
    assert build.add(x, build.constant(0, HERE), HERE) is x
    assert build.map("pow", (x, build.constant(1, HERE)), HERE) is x


def test_equal_nodes_are_one(build: Builder) -> None:
    x = ket(build)
    assert build.map("tanh", (x,), HERE) is build.map("tanh", (x,), HERE)
    assert ket(build) is not ket(build)


def test_contract_takes_products_apart_and_counts_missing_indices(build: Builder) -> None:
    x, y = ket(build, I), ket(build, J)
    inner = build.contract((build.mul(x, y, HERE),), (), (0,), HERE)
    assert isinstance(inner, ir.Contract) and inner.args == (x, y) and set(inner.type.indices) == {I, J}
    repeated = build.contract((ket(build),), (I,), (), HERE)
    assert isinstance(repeated, ir.Map) and value(repeated.args[0]) == 3


def test_reindex_composes(build: Builder) -> None:
    x = ket(build, I)
    renamed = build.rename(x, {I: J}, HERE)
    assert renamed.type.indices == (J,)
    assert build.rename(renamed, {J: I}, HERE) is x
    member = build.rename(renamed, {J: 2}, HERE)
    assert isinstance(member, ir.Reindex) and member.args == (x,) and member.selectors == (2,)


def test_products_over_a_missing_index(build: Builder) -> None:
    two = build.constant(2, HERE)
    assert value(build.reduce("prod", two, I, HERE)) == 8
    assert build.reduce("max", two, I, HERE) is two


def test_the_size_of_a_program_is_bounded(build: Builder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build_module, "MAX_STEPS", 10)
    with pytest.raises(ProgramError) as first:
        for k in range(20):
            build.constant(k, HERE)
    assert [d.code for d in first.value.diagnostics] == ["NX133"] and build.exhausted
    with pytest.raises(ProgramError) as second:
        build.constant(0, HERE)
    assert second.value.diagnostics == []


def test_reachable_is_a_topological_order(build: Builder) -> None:
    x = ket(build)
    symbol = ir.MatrixSymbol("W", (), N, N, "normal", build.constant(5, HERE), HERE)
    root = build.average(build.matmul(symbol, (), False, build.map("tanh", (x,), HERE), HERE), HERE)
    order = reachable([root])
    assert order[-1] is root and symbol.variance in order
    for k, node in enumerate(order):
        assert all(a in order[:k] for a in node.args)


def test_rewrite_rebuilds_every_kind(build: Builder) -> None:
    x, z = ket(build, I), ket(build, I)
    symbol = ir.MatrixSymbol("W", (), N, N, "normal", build.constant(1, HERE), HERE)

    def graph(leaf: ir.Node) -> ir.Node:
        return build.matmul(symbol, (), True, build.shift(build.map("tanh", (leaf,), HERE), I, 1, HERE), HERE)

    copied = build.copy(graph(x), 1, HERE)
    mixed = build.contract((graph(x), copied), (), (1,), HERE)
    picked = build.stack(
        (build.rename(mixed, {I: 1}, HERE), build.rename(mixed, {I: 3}, HERE)), Index("k", Axis("k", 2)), HERE
    )
    both = build.clt(build.rename(picked, {}, HERE), build.reduce("max", picked, picked.type.indices[0], HERE), HERE)
    moved = rewrite(build, both, lambda n: z if n is x else None if n.args else n, HERE)
    assert moved is not both and moved.type == both.type
    assert x not in reachable([moved]) and z in reachable([moved])
    assert rewrite(build, both, lambda n: None if n.args else n, HERE) is both
