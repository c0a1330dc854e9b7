"""Closed forms of Gaussian expectations on arrays and symbols: E f(u) g(v) for centred (u, v), and E f(x).

The theorems are in kernel_table.py, one per row. This file has their common parts: scales and factors, constants, blocks that fit in
cache, and the treatment of nearly equal arguments.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from tp_compiler.evaluate.array_types import Array, Mask, Numbers, Places
from tp_compiler.evaluate.gaussian import arccos_in_place
from tp_compiler.evaluate.gaussian import means as singles
from tp_compiler.evaluate.gaussian.arccosine import shape_of
from tp_compiler.evaluate.gaussian.kernel_table import ROWS, KernelRow, row_of
from tp_compiler.evaluate.gaussian.operations import ARRAYS, SymbolicOperations, at, places
from tp_compiler.evaluate.gaussian.univariate import Univariate

if TYPE_CHECKING:
    import sympy

__all__ = ["ROWS", "Distance", "formula", "kernel", "row_of", "single", "source"]

Distance = Callable[[Places], "Array | None"]
_BLOCK = 1 << 16  # elements per pass: a block and its temporaries stay in cache
ALL = slice(None)
_EQUAL = 16 * 2.0**-52  # variables whose covariances differ by less are one variable: rounding must not separate them


def kernel(
    f: Univariate,
    g: Univariate,
    v1: ArrayLike,
    v2: ArrayLike,
    c: ArrayLike,
    same: Mask | np.bool_ | bool | None = None,
    distance: Distance | None = None,
    symmetric: bool = False,
) -> Array | None:
    """E f(u) g(v), (u, v) ~ N(0, [[v1, c], [c, v2]]), arrays broadcast; None when there is no closed form.

    `same` marks entries where u and v are one variable: c and v2 are then read as v1. `distance` gives Var(u - v) at
    places of the result if it is known better than v1 + v2 - 2c; it is called if f and g jump. `symmetric`
    says that the result is a symmetric matrix. A variance of exactly 0 gives the value at 0, with the language's
    conventions there (step(0) = 0). If rounding makes |c| exceed √(v1 v2), it is clipped.
    """
    found = row_of(f, g)
    if found is None:
        return None
    row, swap = found
    if same is not None and np.ndim(same) == 0:
        v2, c, same = (v1, v1, None) if same else (v2, c, None)
    (f, v1), (g, v2) = ((g, v2), (f, v1)) if swap else ((f, v1), (g, v2))
    v1, v2, c = (np.asarray(a, dtype=np.float64) for a in (v1, v2, c))
    if same is not None:
        c = np.broadcast_to(c, np.broadcast_shapes(c.shape, np.shape(same)))
    shape = np.broadcast_shapes(v1.shape, v2.shape, c.shape)
    dims = max(len(shape), 1)
    arrays = [a.reshape((1,) * (dims - a.ndim) + a.shape) for a in (v1, v2, c)]
    out = np.empty(shape or (1,))
    task = _Task(row, f, g, arrays, out, distance, symmetric and len(shape) == 2)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore", under="ignore"):
        careful = task.fill()
        if careful is None:
            return None
        task.care(careful)
        if same is not None:
            task.diagonal(places(np.broadcast_to(same, out.shape)), swap)
    return out.reshape(shape)


def careful(f: Univariate, g: Univariate, v1: Array, v2: Array, c: Array, distance: Distance | None = None) -> Array:
    """The same for one-dimensional arrays of a row that covers f and g, by the formula that loses no digits anywhere."""
    found = row_of(f, g)
    assert found is not None
    row, swap = found
    (f, v1), (g, v2) = ((g, v2), (f, v1)) if swap else ((f, v1), (g, v2))
    task = _Task(row, f, g, [v1, v2, c], np.empty(len(c)), distance, False)
    task.care([(np.arange(len(c)),)])
    return task.out


class _Task:
    """One call of `pair`: row, functions, (v1, v2, c) of as many dimensions as the result, and the result."""

    def __init__(
        self,
        row: KernelRow,
        f: Univariate,
        g: Univariate,
        arrays: list[Array],
        out: Array,
        distance: Distance | None,
        mirrored: bool,
    ):
        self.row, self.f, self.g = row, f, g
        self.arrays, self.out = arrays, out
        self.mirrored = mirrored  # one triangle is computed, the other copied
        jump = row.fast is arccos_in_place.order0 and shape_of(f).halves == shape_of(g).halves == 0
        # Needed if the kernel contains its square root.
        self.distance = distance if jump and f.scale == g.scale else None

    def fill(self) -> list[Places] | None:
        """Block by block; returns the places that need care, or None if the row does not cover f and g."""
        careful = []
        for block in _blocks(self.out.shape):
            rest = (block, slice(block.start, None)) if self.mirrored else (block,)
            v1, v2, c = (
                a[tuple(s if n > 1 else ALL for s, n in zip(rest, a.shape, strict=False))] for a in self.arrays
            )
            if self.row.fast is None:
                v2, c = _equal(v1, v2, c)
            value, near = self.values(v1, v2, c, quick=True)
            if value is None:
                return None
            self.out[rest] = value
            if self.mirrored:
                self.out[block.stop :, block] = self.out[block, block.stop :].T
            if near is not None:
                start = (block.start,) * len(rest) + (0,) * (len(near) - len(rest))
                careful.append(tuple(i + s for i, s in zip(near, start, strict=True)))
        return careful

    def care(self, careful: list[Places]) -> None:
        """Apply the careful formula where it is needed."""
        if not careful:
            return
        where = tuple(np.concatenate(indices) for indices in zip(*careful, strict=True))
        for block in _blocks(where[0].shape):
            here = tuple(i[block] for i in where)
            v1, v2, c = (at(a, here) for a in self.arrays)
            v2, c = _equal(v1, v2, c)
            value, _ = self.values(v1, v2, c, self.determinant(v1, v2, c, here))
            self.out[here] = value
            if self.mirrored:
                self.out[here[::-1]] = value

    def determinant(self, v1: Array, v2: Array, c: Array, here: Places) -> Array | None:
        """v1 v2 - c² = ((√v1 + √v2)² - D)(D - (√v1 - √v2)²)/4 for D = Var(u - v), if it is known."""
        apart = None if self.distance is None else self.distance(here)
        if apart is None:
            return None
        reach = (np.sqrt(v1) + np.sqrt(v2)) ** 2
        det = (reach - apart) * np.maximum(apart - (v1 - v2) ** 2 / reach, 0.0) / 4
        close = (c > 0) & (apart < 1e-3 * reach)
        return np.asarray(np.where(close, det, ARRAYS.determinant(v1, v2, c)) * self.f.scale**4)

    def diagonal(self, here: Places, swap: bool) -> None:
        """Entries where u and v are one variable."""
        if len(here[0]):
            own = at(self.arrays[1] if swap else self.arrays[0], here)
            self.out[here] = self.values(own, own, own)[0]

    def values(
        self, v1: Array, v2: Array, c: Array, det: Array | None = None, quick: bool = False
    ) -> tuple[Numbers | None, Places | None]:
        """The row in the scaled variables; entries with a constant argument are filled in afterwards."""
        f, g = self.f, self.g
        sv1, sv2, sc, near = v1, v2, c, None
        if (f.scale, g.scale) != (1.0, 1.0):
            sv1, sv2, sc = v1 * f.scale**2, v2 * g.scale**2, c * (f.scale * g.scale)
        constant = (sv1 <= 0) | (sv2 <= 0) if not (sv1.min(initial=1) > 0 and sv2.min(initial=1) > 0) else None
        if constant is not None:
            sv1, sv2, sc = np.where(sv1 > 0, sv1, 1.0), np.where(sv2 > 0, sv2, 1.0), np.where(constant, 0.0, sc)
        value: Numbers | None
        if quick and self.row.fast is not None:
            value, near = self.row.fast(shape_of(f), shape_of(g), sv1, sv2, sc)
        else:
            det = ARRAYS.determinant(sv1, sv2, sc) if det is None else det
            value = self.row.formula(ARRAYS, f, g, sv1, sv2, sc, det)
        if value is not None and f.factor * g.factor != 1.0:
            value = value * (f.factor * g.factor)
        if value is not None and constant is not None:
            product = np.asarray(single(f, 0.0, np.maximum(v1, 0.0))) * np.asarray(single(g, 0.0, np.maximum(v2, 0.0)))
            value = np.where(constant, product, value)
        return value, near


def _equal(v1: Array, v2: Array, c: Array) -> tuple[Array, Array]:
    """v2 and c, read as v1 where u and v differ only by rounding."""
    equal = (np.abs(v1 - c) <= _EQUAL * v1) & (np.abs(v2 - c) <= _EQUAL * v2)
    return (np.where(equal, v1, v2), np.where(equal, v1, c)) if equal.any() else (v2, c)


def steep(f: Univariate, g: Univariate) -> bool:
    """Whether the kernel may be steep in the distance of u and v, so that equal ones should be pointed out; kernels of
    order 1 have a bounded derivative."""
    found = row_of(f, g)
    return found is not None and found[0].fast is not arccos_in_place.order1


def _blocks(shape: tuple[int, ...]) -> list[slice]:
    step = max(1, _BLOCK // max(1, int(np.prod(shape[1:]))))
    return [slice(start, start + step) for start in range(0, shape[0], step)] or [slice(0, 0)]


def single(f: Univariate, mean: ArrayLike, variance: ArrayLike) -> Array | None:
    """E f(x), x ~ N(mean, variance), arrays broadcast; f(mean) where the variance is 0; None without a closed form."""
    m, v = np.broadcast_arrays(np.asarray(mean, dtype=np.float64), np.asarray(variance, dtype=np.float64))
    shape = m.shape
    m, v = np.atleast_1d(m) * f.scale, np.atleast_1d(v) * f.scale**2
    fixed = ~(v > 0)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore", under="ignore"):
        value = singles.mean(ARRAYS, f, m, np.where(fixed, 1.0, v))
        if value is None:
            return None
        result = np.where(fixed, f.base(m), value) if fixed.any() else np.asarray(value + 0.0 * m)
    return (f.factor * result).reshape(shape)


def formula(f: Univariate, g: Univariate | None = None) -> sympy.Expr | None:
    """The SymPy formula: of E f(u) g(v) in positive v1, v2 and real c, or of E f(x) in real m and positive v."""
    import sympy

    ops = SymbolicOperations()
    factor = ops.number(f.factor) * (ops.number(g.factor) if g is not None else 1)
    if g is None:
        m, v = sympy.Symbol("m", real=True), sympy.Symbol("v", positive=True)
        scale = ops.number(f.scale)
        value = singles.mean(ops, f, m * scale, v * scale**2)
        return None if value is None else factor * value
    v1, v2 = sympy.symbols("v1 v2", positive=True)
    c = sympy.Symbol("c", real=True)
    found = row_of(f, g)
    if found is None:
        return None
    row, swap = found
    (f, w1), (g, w2) = ((g, v2), (f, v1)) if swap else ((f, v1), (g, v2))
    a, b = ops.number(f.scale), ops.number(g.scale)
    w1, w2, w = w1 * a**2, w2 * b**2, c * a * b
    value = row.formula(ops, f, g, w1, w2, w, ops.determinant(w1, w2, w))
    return None if value is None else factor * value


def source(f: Univariate, g: Univariate) -> str | None:
    """The place where the closed form of a pair is proved."""
    found = row_of(f, g)
    return None if found is None else found[0].source
