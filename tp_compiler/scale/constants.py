"""The factors of the powers of n: width ratios and initial variances.

A value is a power of the widths that a layer connects, so a ratio ρ = m/n enters it with its own power: entries of
W : m x n start at σ/√n, and the gradient by |x> : m has entries 1/m. The rules of optimizers.py are linear in the logarithms of
sizes; here they are applied to the ratios instead of the powers of n. Raw training with the resulting values, at
width_mult = n, is exactly the training of the program.
"""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction

from tp_compiler.ir import nodes as ir
from tp_compiler.ir.shape_factors import FACTORS, SideLength, counted, natural_factor, neurons
from tp_compiler.scale.figures import Row
from tp_compiler.scale.optimizers import (
    UNTRAINED,
    GradientSize,
    Homogeneous,
    OptimizerScaling,
    ParameterKind,
    Relative,
    Rotational,
    ScaledOptimizer,
    SpectralOptimizer,
)

ZERO = Fraction(0)


def constants(row: Row, clt: float | None, factor: float = 1.0) -> dict[str, float]:
    """The factors of a row's figures.

    clt      the ratio of the width, if outputs are brackets over its square root
    factor   that of the parameter W = factor · n^multiplier · w, where w is the tensor that is optimized
    """
    into, out = ratios(row)
    root, times = ZERO if clt is None else _log(clt) / 2, _log(factor)
    reads = into / 2 if row.parameter.clt else ZERO
    found = {"init_std": _start(row, into - reads) / factor}
    if row.optimizer is not UNTRAINED and not isinstance(row.optimizer, Rotational):
        gradient = _gradient(row, into, out, root, times)
        relative = isinstance(row.optimizer, Relative)
        found["lr"] = 1.0 if relative else math.exp(reads - _plain(row.optimizer).step(gradient) - times) * _aspect(row)
        found |= {name: math.exp(size) for name, (size, _) in row.optimizer.scales(gradient).items()}
        found.setdefault("weight_decay", 1 / found["lr"])
    if row.output is not None:
        found["output_multiplier"] = math.exp(root - out)
    names = {*row.raw.figures, "output_multiplier"}
    return {name: value for name, value in found.items() if name in names and not math.isclose(value, 1, rel_tol=1e-12)}


def ratios(row: Row) -> tuple[Fraction, Fraction]:
    """Logarithms of the ratios of the widths that a layer sums over, and that it has outputs of."""
    leaf, kind = row.parameter.leaf, row.raw.kind
    if isinstance(leaf, ir.MatrixSymbol):
        return _log(leaf.cols.ratio), _log(leaf.rows.ratio)
    own = _log(leaf.type.slots[0][1].ratio) if leaf.type.slots else ZERO
    return (own, ZERO) if kind == ParameterKind.OUTPUT else (ZERO, own)


def extents(row: Row) -> tuple[SideLength, SideLength]:
    """The rows and columns of the tensor of a raw network: a matrix, or a family of kets as columns, or rows where it is read out."""
    into, out = ratios(row)
    leaf = row.parameter.leaf
    if isinstance(leaf, ir.MatrixSymbol):
        return neurons(math.exp(out)), neurons(math.exp(into))
    count = counted(math.prod(i.size for i in leaf.type.indices))
    return (neurons(math.exp(out)), count) if row.raw.kind.writes_features else (count, neurons(math.exp(into)))


def _plain(optimizer: OptimizerScaling) -> OptimizerScaling:
    return replace(optimizer, scale="natural") if isinstance(optimizer, ScaledOptimizer) else optimizer


def _aspect(row: Row) -> float:
    """The factor of rows and columns in natural units over the one of an implementation, without its power of n."""
    name = row.optimizer.scale if isinstance(row.optimizer, ScaledOptimizer) else "natural"
    if name == "natural":
        return 1.0
    return natural_factor(name, lambda: extents(row)) / FACTORS[name](*extents(row)).size


def law(row: Row) -> tuple[float | None, float | None]:
    """Mean and standard deviation in natural units; None if members of a family differ."""
    leaf = row.parameter.leaf
    if isinstance(leaf, ir.MatrixSymbol):
        variance = _number(leaf.variance)
        return 0.0, None if variance is None else math.sqrt(variance)
    mean = _number(leaf.args[0]) if leaf.args else None
    if isinstance(leaf, ir.InitialKet):
        variance = _number(leaf.args[1])
        return mean, None if variance is None else math.sqrt(variance)
    return mean, 0.0


def _start(row: Row, into: Fraction) -> float:
    """The factor of an entry at initialisation."""
    deviation = law(row)[1] or 1.0  # a deviation that is 0, or differs between entries, is reported separately
    summed = {ParameterKind.HIDDEN: into / 2, ParameterKind.OUTPUT: into}.get(row.raw.kind, ZERO)
    return deviation * math.exp(-summed)


def _gradient(row: Row, into: Fraction, out: Fraction, root: Fraction, times: Fraction) -> GradientSize:
    entry = times + (root - out if row.raw.kind.writes_features else ZERO)
    own = isinstance(row.optimizer, Homogeneous) and row.optimizer.whole and not row.optimizer.factored
    operator = (own or isinstance(row.optimizer, SpectralOptimizer)) and row.raw.kind == ParameterKind.HIDDEN
    return GradientSize(entry, 2 * entry + (into if operator else out), into)


def _number(node: ir.Node) -> float | None:
    return node.value if isinstance(node, ir.Constant) else None


def _log(ratio: float) -> Fraction:
    return Fraction(math.log(ratio))
