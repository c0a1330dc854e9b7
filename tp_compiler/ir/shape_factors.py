"""Factors of the rows and columns of a matrix, by which implementations of Muon multiply its steps.

A side of neurons grows with n, so a factor is size · n^power. In natural units only its size is left: the power goes into the
learning rate of the implementation (scale/optimizers.py). `original`: Jordan et al. 2024; `match_rms_adamw`: Liu et al. (arXiv
2502.16982); `unit_rms_norm`: Bernstein 2025; `spectral`: Pethick et al. (arXiv 2502.07529), as in NVIDIA's code.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction


@dataclass(frozen=True, order=True)
class SideLength:
    """size · n^power, ordered as at large n."""

    power: Fraction
    size: float

    def __truediv__(self, other: SideLength) -> SideLength:
        return SideLength(self.power - other.power, self.size / other.size)

    def __mul__(self, other: SideLength) -> SideLength:
        return SideLength(self.power + other.power, self.size * other.size)

    @property
    def root(self) -> SideLength:
        return SideLength(self.power / 2, self.size**0.5)


def neurons(ratio: float) -> SideLength:
    """A side that counts the neurons of a width class, `ratio` times n."""
    return SideLength(Fraction(1), ratio)


def counted(size: int) -> SideLength:
    """A side of fixed size."""
    return SideLength(Fraction(0), float(size))


ONE = counted(1)

#: What an implementation multiplies the step of a matrix by. `natural`: nothing.
FACTORS: dict[str, Callable[[SideLength, SideLength], SideLength]] = {
    "natural": lambda rows, cols: ONE,
    "original": lambda rows, cols: max(ONE, rows / cols).root,
    "match_rms_adamw": lambda rows, cols: SideLength(Fraction(0), 0.2) * max(rows, cols).root,
    "unit_rms_norm": lambda rows, cols: (rows / cols).root,
    "spectral": lambda rows, cols: max(rows, cols).root,
}
#: Those that torch.optim.Muon has.
IN_TORCH = ("original", "match_rms_adamw")
#: A program names a factor by its position here.
NAMES = tuple(FACTORS)


def natural_factor(name: str, extents: Callable[[], tuple[SideLength, SideLength]]) -> float:
    """The same in front of a natural operator of norm 1, whose sides of fixed size are orthonormal and others have entries of
    order 1: beside a side of fixed size it is the raw one times the root of the neurons of the other, or over it."""
    if name == "natural":
        return 1.0
    rows, cols = extents()
    unit = ONE if rows.power == cols.power else cols.root if cols.power else ONE / rows.root
    return (FACTORS[name](rows, cols) * unit).size
