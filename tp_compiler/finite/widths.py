"""How many neurons a width class has in a network."""

from __future__ import annotations

from tp_compiler.ir.types import Width


def neurons(width: Width, n: int) -> int:
    """The number of neurons of a width class in a network of width n, at least 1."""
    return max(1, round(width.ratio * n))
