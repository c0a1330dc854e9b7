"""Expectations of products of two integrands: of up to four Gaussians, to the seven digits that fluctuations need.

Two entries of a kernel over four points are functions of four Gaussians. Relu and erf have closed forms for these (orthants.py);
analytic functions are summed on uniform grids (grids.py). What neither gives is left to the rules for three.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import ClassVar

import numpy as np

from tp_compiler.evaluate.array_types import Array
from tp_compiler.evaluate.exact.expectations import COST, Expectations
from tp_compiler.evaluate.exact.ket_formula import GaussianFactor
from tp_compiler.evaluate.gaussian import grids, orthants
from tp_compiler.evaluate.gaussian.univariate import Univariate
from tp_compiler.evaluate.interface import NotExact

MOST_ROWS = 64  # of families of laws


class PairsOfIntegrands(Expectations):
    dimensions = 4
    cost: ClassVar[dict[int, float]] = {**COST, 3: 1e-2, 4: 5e-2}

    def by_signs(self, functions: list[list[Univariate]], mean: Array, spread: Array) -> tuple[Array, Array] | None:
        return None if np.any(mean) else _each(lambda m, c: orthants.mean(functions, c), mean, spread)

    def nested(self, functions: list[Univariate], mean: Array, spread: Array) -> tuple[Array, Array]:
        found = _each(lambda m, c: grids.mean(functions, m, c), mean, spread) if len(functions) > 2 else None
        if found is None and len(functions) > 3:
            raise NotExact(f"an expectation over {len(functions)} Gaussians")
        return super().nested(functions, mean, spread) if found is None else found

    def _several(
        self, factors: list[GaussianFactor], places: dict[Hashable, int], mean: Array, spread: Array
    ) -> tuple[Array, Array]:
        if mean.shape[-1] > 2:
            raise NotExact("a function of several Gaussians together with others")
        return super()._several(factors, places, mean, spread)


def _each(
    law: Callable[[Array, Array], tuple[float, float] | None], mean: Array, spread: Array
) -> tuple[Array, Array] | None:
    """Values and errors, law by law."""
    shape = mean.shape[:-1]
    p = mean.shape[-1]
    rows = list(zip(mean.reshape(-1, p), spread.reshape(-1, p, p), strict=True))
    if len(rows) > MOST_ROWS:
        return None
    with np.errstate(all="ignore"):
        found = [x for m, c in rows if (x := law(m, c)) is not None]
    if len(found) < len(rows):
        return None
    values, off = np.array(found, dtype=np.float64).reshape(-1, 2).T
    return values.reshape(shape), off.reshape(shape)
