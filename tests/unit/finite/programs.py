"""Small programs for the tests of `simulate`, and the random objects they will meet."""

from __future__ import annotations

import numpy as np

from tp_compiler.diagnostics import Source, Span
from tp_compiler.finite import draws
from tp_compiler.ir import nodes as ir
from tp_compiler.ir.build import Builder
from tp_compiler.ir.program import Output, Program
from tp_compiler.ir.types import Axis, Index, N, Width

TEXT = "abcdefghijklmnopqrstuvwxyz"
SOURCE = Source("test.nexort", TEXT)
S = Span(SOURCE, 0, 1)


def span(k: int) -> Span:
    return Span(SOURCE, k, k + 1)


def indices(size: int, *names: str) -> tuple[Index, ...]:
    axis = Axis(names[0], size)
    return tuple(Index(name, axis) for name in names)


def ket(b: Builder, name: str, over: tuple[Index, ...] = (), width: Width = N, mean: float = 0.0, var: float = 1.0):
    symbol = ir.KetSymbol(name, over, width, S)
    return b.initial_ket(symbol, b.constant(mean, S), b.constant(var, S), S)


def matrix(
    b: Builder, name: str, over: tuple[Index, ...] = (), rows: Width = N, cols: Width = N, law: str = "normal", var=1.0
) -> ir.MatrixSymbol:
    return ir.MatrixSymbol(name, over, rows, cols, law, b.constant(var, S), S)


def program(**nodes: ir.Node) -> Program:
    return Program(SOURCE, tuple(Output(name, node.type.indices, node, node.span) for name, node in nodes.items()))


def drawn_ket(name: str, n: int, size: int = 1, seed: int = 0, number: int = 0) -> np.ndarray:
    """(size, n)"""
    return np.stack([draws.generator((seed, number), "ket", name, k).standard_normal(n) for k in range(size)])


def drawn_matrix(name: str, rows: int, cols: int, member: int = 0, var: float = 1.0, number: int = 0) -> np.ndarray:
    rng = draws.generator((0, number), "matrix", name, member)
    return rng.standard_normal((rows, cols)) * np.sqrt(var / cols)
