"""From replicates to estimates: standard errors with the bias of finite M, and the laws of random outputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tp_compiler.diagnostics import Diagnostic
from tp_compiler.evaluate.array_types import Array, Outputs
from tp_compiler.evaluate.arrays import aligned, labels, reindexed
from tp_compiler.evaluate.sampling.clt import CltScalars
from tp_compiler.ir import nodes as ir
from tp_compiler.ir.program import Output
from tp_compiler.shapes import Float


def mean_and_error(levels: Levels, sizes: list[int], halves: Array | None = None) -> tuple[Array, Array]:
    """Value and standard error of the last level, over its replicates and with the bias of finite size.

    levels   arrays (R, ...) from coarse to fine, None if a level has no value
    sizes    of the levels: M particles, or the P copies of an E
    halves   for some of the last level's replicates, the mean of two runs on the halves of their particles

    Functions of averages have a bias b/size. Runs on halves have twice that bias and hardly any additional noise,
    since averages over the halves add up to those over the whole (those over copies do not). The coarser levels also show
    it; the sharper of the two is used. If the noise explains the difference, any excess is added to the error.
    If it is clearly a bias, it is subtracted, 2f(M) - f(M/2), and the remainder under a law other than 1/size is added to the
    error.
    """
    value, variance, noise = _by_levels(levels, sizes)
    if halves is not None:
        other, of_other, its_noise = _by_halves(levels, sizes, halves)
        sharper = its_noise <= noise
        value, variance = np.where(sharper, other, value), np.where(sharper, of_other, variance)
    return value, np.sqrt(variance)


def _mean(level: Float[Array, " replicates *entries"]) -> tuple[Float[Array, "*entries"], Float[Array, "*entries"]]:
    """The mean over replicates and its variance."""
    return level.mean(axis=0), level.var(axis=0, ddof=1) / len(level)


#: Arrays (R, ...) from coarse to fine, None where a level has no value; the last one has.
Levels = Sequence[Array | None]
#: A value, its variance, and the variance of the noise in the bias that they are made with.
_Judged = tuple[Array, Array, Array]


def _last(levels: Levels) -> Array:
    last = levels[-1]
    assert last is not None
    return last


def _by_halves(levels: Levels, sizes: list[int], halves: Array) -> _Judged:
    """The bias from the difference between two halves and the whole.

    Under the law 1/size this difference equals the bias.
    """
    last = _last(levels)
    value, variance = _mean(last)
    bias, noise = _mean(halves - last[: len(halves)])
    left = _left(bias, bias**2, levels, sizes)
    plain = bias**2 > 16 * noise
    kept = variance + np.maximum(bias**2 - noise, 0.0)
    return np.where(plain, value - bias, value), np.where(plain, variance + noise + left, kept), noise


def _left(bias: Array, otherwise: Array, levels: Levels, sizes: list[int]) -> Array:
    """The square of the bias that remains after subtracting f(M/2) - f(M).

    Under the law M^-p this difference is (2^p - 1) b(M). A level of a quarter of the size determines 2^p if it is well above
    its noise (if not: `otherwise`); laws as slow as 1/√M are allowed for.
    """
    quarter = _level_of(levels, sizes, sizes[-1] / 4)
    if quarter is None:
        return otherwise
    far, noise = _mean(quarter - _last(levels))
    with np.errstate(all="ignore"):
        growth = np.clip(np.where(bias != 0, far / bias, 3.0) - 1, np.sqrt(2.0), 16.0)
    told = np.square(bias * (2 - growth) / (growth - 1)) + noise
    return np.where(far**2 > 16 * noise, told, otherwise)


def _level_of(levels: Levels, sizes: list[int], size: float) -> Array | None:
    found = [x for x, own in zip(levels, sizes, strict=True) if x is not None and own == size]
    return found[-1] if found and found[-1].shape == _last(levels).shape else None


def _by_levels(levels: Levels, sizes: list[int]) -> _Judged:
    """From up to three coarser levels, each the finest of its size.

    The bias is their mean difference from the last, over size_last/size - 1. The scramblings are common (the first half
    of a Sobol sequence is one).
    """
    last = _last(levels)
    value, variance = _mean(last)
    finest = {size: x for x, size in zip(levels, sizes, strict=True) if x is not None and size < sizes[-1]}
    coarser = [
        (finest[size] - last) / (sizes[-1] / size - 1)
        for size in sorted(finest, reverse=True)[:3]
        if finest[size].shape == last.shape
    ]
    if not coarser:
        return value, variance, np.full_like(variance, np.inf)
    bias, noise = _mean(np.mean(coarser, axis=0))
    kept = variance + np.maximum(bias**2 - noise, 0.0)
    if len(coarser) < 2:
        return value, kept, noise
    corrected, spread_corrected = _mean(last - coarser[0])
    disagreement = np.square((coarser[0] - coarser[1]).mean(axis=0))
    if _level_of(levels, sizes, sizes[-1] / 2) is not None:
        disagreement = _left(coarser[0].mean(axis=0), disagreement, levels, sizes)
    plain = (bias**2 > 16 * noise) & (spread_corrected < kept)
    return np.where(plain, corrected, value), np.where(plain, spread_corrected + disagreement, kept), noise


def spread(level: Float[Array, " replicates *entries"]) -> float:
    """The largest standard error of an output at one level, over its replicates alone."""
    return float(np.max(level.std(axis=0, ddof=1), initial=0.0)) / float(np.sqrt(level.shape[0]))


def averaged(runs: list[Outputs]) -> Outputs:
    """Every output's mean over the outer draws, or its first Diagnostic."""
    result: Outputs = {}
    for name in runs[0]:
        parts: list[Any] = [r[name] for r in runs]
        broken = next((p for p in parts if isinstance(p, Diagnostic)), None)
        result[name] = broken if broken is not None else np.mean(parts, axis=0)
    return result


def base(node: ir.Node) -> ir.Node:
    """The node that an output reads through index manipulations."""
    while isinstance(node, ir.Reindex) and len(node.args) == 1:
        node = node.args[0]
    return node


def is_gaussian(node: ir.Node) -> bool:
    """A `clt` scalar of non-random kets (read through index manipulations only)."""
    node = base(node)
    return isinstance(node, ir.Clt) and not any(a.type.random for a in node.args)


def gaussian_law(output: Output, clt: CltScalars) -> Float[Array, "n n"] | None:
    """The covariance over the flattened entries of a Gaussian output in one run, or None."""
    known = clt.covariance.get(base(output.node)) if is_gaussian(output.node) else None
    return None if known is None else covariance_of(output, known)


def covariance_of(output: Output, known: Float[Array, "size size"]) -> Float[Array, "n n"]:
    """The covariance over the flattened entries of an output, from the covariance of the family it reads (size, size)."""
    chain = [output.node]
    while isinstance(chain[-1], ir.Reindex):
        chain.append(chain[-1].args[0])
    family = chain[-1]
    # Entry numbers of the base family are passed through the index manipulations; they select from the covariance.
    places: Any = np.arange(family.type.size()).reshape(family.type.shape)
    for node in reversed(chain[:-1]):
        assert isinstance(node, ir.Reindex)
        places = reindexed(node, places, labels(node.args[0].type), [], labels(node.type))
    shape = tuple(i.size for i in output.indices)
    flat = np.broadcast_to(aligned(places, labels(output.node.type), output.indices), shape).ravel()
    return known[np.ix_(flat, flat)]


def covariances(runs: list[Outputs], laws: Sequence[Mapping[str, Array | None]]) -> dict[str, Array]:
    """For Gaussian outputs the mean of their covariances, for sampled ones the covariance over the draws."""
    result = {}
    for name in laws[0]:
        known = [found for law in laws if (found := law[name]) is not None]
        if len(known) == len(laws):
            result[name] = np.mean(known, axis=0)
            continue
        parts = [r[name] for r in runs]
        if any(isinstance(p, Diagnostic) for p in parts):
            continue
        flat = np.array(parts).reshape(len(parts), -1)
        size = flat.shape[1]
        result[name] = np.cov(flat, rowvar=False).reshape(size, size) if len(parts) > 1 else np.zeros((size, size))
    return result
