"""Broken programs are caught: one breach each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from tp_compiler.diagnostics import Source, Span
from tp_compiler.ir import nodes as ir
from tp_compiler.ir.build import Builder
from tp_compiler.ir.program import Output, Program
from tp_compiler.ir.types import Axis, Index, N, Type, Width
from tp_compiler.ir.wellformed import verify

SOURCE = Source("p", "text")
HERE = Span(SOURCE, 0, 1)
I = Index("i", Axis("i", 3))  # noqa: E741
K = Index("k", Axis("k", 2))
M = Width("m", 2.0)
build = Builder()
ZERO, ONE = build.constant(0, HERE), build.constant(1, HERE)
X = build.initial_ket(ir.KetSymbol("x", (), N, HERE), ZERO, ONE, HERE)
XI = build.initial_ket(ir.KetSymbol("y", (I,), N, HERE), ZERO, ONE, HERE)
Q = build.initial_ket(ir.KetSymbol("q", (), M, HERE), ZERO, ONE, HERE)
W = ir.MatrixSymbol("W", (), N, N, "normal", ONE, HERE)
KET = Type((), ((0, N),))


def program(node: ir.Node, *indices: Index) -> Program:
    return Program(SOURCE, (Output("f", indices, node, HERE),))


def mean(node: ir.Node) -> ir.Node:
    return build.average(node, HERE)


def test_a_sound_program() -> None:
    verify(program(mean(build.matmul(W, (), False, X, HERE))))


BROKEN: dict[str, Callable[[], Program]] = {
    "output is a ket": lambda: program(X),
    "free index": lambda: program(mean(XI)),
    "order": lambda: program(replace(mean(X), serial=-1)),
    "index twice": lambda: program(ir.Position(type=Type((I, I)), index=I, span=HERE), I),
    "arity": lambda: program(ir.Map(type=Type(), fn="tanh", args=(ZERO, ONE), span=HERE)),
    "two widths in one slot": lambda: program(mean(ir.Map(type=KET, fn="add", args=(X, Q), span=HERE))),
    "matrix of a scalar": lambda: program(
        mean(ir.MatMul(type=KET, args=(ONE,), matrix=W, member=(), transposed=False, span=HERE))
    ),
    "matrix of another width": lambda: program(mean(build.matmul(W, (), False, Q, HERE))),
    "member": lambda: program(mean(build.matmul(W, (1,), False, X, HERE))),
    "copy into slot 0": lambda: program(mean(ir.Copy(type=KET, args=(X,), slot=0, span=HERE))),
    "clt of two widths": lambda: program(build.clt(X, Q, HERE)),
    "position outside": lambda: program(mean(build.rename(XI, {I: 4}, HERE))),
    "selector missing": lambda: program(mean(ir.Reindex(type=KET, args=(XI,), selectors=(), span=HERE))),
    "other axis": lambda: program(
        mean(build.rename(XI, {I: Index("k", Axis("k", 2))}, HERE)), Index("k", Axis("k", 2))
    ),
    "reduced index": lambda: program(mean(ir.Reduce(type=KET, args=(X,), op="max", index=I, span=HERE))),
    "linalg": lambda: program(build.linalg("logdet", I, Index("j", I.axis), (build.position(I, HERE),), "", HERE)),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken(name: str) -> None:
    with pytest.raises(AssertionError):
        verify(BROKEN[name]())
