"""What a figure of a tensor in code is, when its natural value is known, and the reverse: natural · constant · n^exponent.

A tensor w need not be the weight W of the raw network that `scale` describes: W = factor · n^multiplier · w where the forward pass
multiplies, or where the entries are drawn at another size (TP IVb (2.5)).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction

from tp_compiler.ir.shape_factors import FACTORS, SideLength
from tp_compiler.scale.constants import constants, extents, law
from tp_compiler.scale.equivalents import shifted
from tp_compiler.scale.figures import Row
from tp_compiler.scale.optimizers import ParameterKind, ScaledOptimizer, foreign

#: Rows over columns of a tensor, as factor · n^power.
Ratio = tuple[float, int]


@dataclass(frozen=True)
class Units:
    """Exponents and constants of the figures of one tensor.

    `tall`: rows over columns, if the optimizer of the library multiplies its step by the root of it, where it is above 1.
    """

    exponents: Mapping[str, Fraction]
    constants: Mapping[str, float]
    tall: Ratio | None = None

    def factor(self, figure: str, width: float) -> float:
        """raw / natural at a width; 1 for a figure that does not depend on it."""
        found: float = self.constants.get(figure, 1.0) * width ** float(self.exponents.get(figure, 0))
        return found * math.pow(self._own(width), -_PER_STEP.get(figure, 0))

    def between(self, figure: str, width: float, base: float) -> float:
        """The figure at a width over that at another one: constants cancel."""
        found: float = (width / base) ** float(self.exponents.get(figure, 0))
        return found * math.pow(self._own(base) / self._own(width), _PER_STEP.get(figure, 0))

    def raw(self, figure: str, natural: float, width: float) -> float:
        """The figure in code at a width."""
        return natural * self.factor(figure, width)

    def natural(self, figure: str, raw: float, width: float) -> float:
        """The figure of the program, from the one in code at a width."""
        return raw / self.factor(figure, width)

    @property
    def wide(self) -> Units:
        """The same with the library's own factor written out, as it is at large n."""
        if self.tall is None:
            return self
        factor, power = self.tall
        exponents, factors = dict(self.exponents), dict(self.constants)
        own, grows = math.sqrt(factor if power > 0 else max(factor, 1.0) if power == 0 else 1.0), max(power, 0)
        for figure, sign in _PER_STEP.items():
            if figure in exponents:
                exponents[figure] -= sign * Fraction(grows, 2)
                factors[figure] = factors.get(figure, 1.0) * own**-sign
        return Units(exponents, {k: x for k, x in factors.items() if not math.isclose(x, 1, rel_tol=1e-12)})

    def per_step(self, factor: SideLength) -> Units:
        """Where the implementation multiplies its step by another factor, this many times as large."""
        exponents, constants = dict(self.exponents), dict(self.constants)
        for figure, sign in _PER_STEP.items():
            if figure in exponents:
                exponents[figure] -= sign * factor.power
                constants[figure] = constants.get(figure, 1.0) * factor.size**-sign
        return Units(exponents, constants, self.tall)

    def _own(self, width: float) -> float:
        if self.tall is None:
            return 1.0
        factor, power = self.tall
        return math.sqrt(max(1.0, factor * width**power))


#: Figures that a factor of the library's step changes: the power of it that they are divided by.
_PER_STEP = {"lr": 1, "weight_decay": -1}


def units(
    row: Row, clt: float | None, multiplier: Fraction = Fraction(0), factor: float = 1.0, shape: Ratio | None = None
) -> Units:
    """The units of a tensor w, where W = factor · n^multiplier · w is the parameter of a row, and w has this shape.

    Of `init_std`, the natural value is the standard deviation that the program declares.
    """
    raw = shifted(row.raw, row.optimizer, multiplier)
    exponents = dict(raw.figures)
    if row.output is not None:
        exponents["output_multiplier"] = row.output
    found = constants(replace(row, raw=raw), clt, factor)
    deviation = law(row)[1] or 1.0
    found["init_std"] = found.get("init_std", 1.0) / deviation
    own = shape if isinstance(row.optimizer, ScaledOptimizer) and row.optimizer.scale == "natural" else None
    return Units(exponents, {k: x for k, x in found.items() if not math.isclose(x, 1, rel_tol=1e-12)}, own)


def plain_units(row: Row, clt: float | None) -> Units:
    """Of plain tensors of the raw network: matrices, and families of kets as the columns of tall ones."""
    if row.raw.kind == ParameterKind.SCALAR:
        return units(row, clt)
    rows, cols = extents(row)
    ratio = rows / cols
    found = units(row, clt, shape=(ratio.size, int(ratio.power)))
    scale = foreign(row.optimizer)
    if scale is None:
        return found
    return found.per_step(FACTORS["original"](rows, cols) / FACTORS[scale](rows, cols))
