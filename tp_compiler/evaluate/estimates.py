"""From replicates to estimates: standard errors with the bias of finite M, and the laws of random outputs."""

from __future__ import annotations

from typing import Any

import numpy as np

from tp_compiler.diagnostics import Diagnostic
from tp_compiler.evaluate.arrays import aligned, labels, reindexed
from tp_compiler.evaluate.clt import CltScalars
from tp_compiler.ir import nodes as ir
from tp_compiler.ir.program import Output


def mean_and_error(levels: list[Any], sizes: list[int]) -> tuple[Any, Any]:
    """Value and standard error of the last level, over its replicates and with the bias of finite size.

    Functions of averages have a bias b/size (size: M particles, or the P copies of an E). A coarser level has more
    of it, and the scramblings are common (the first half of a Sobol sequence is one), so each level estimates the bias
    of the last as the mean difference over size_last/size - 1. Where the noise explains the estimate, what exceeds it
    joins the error. Where it is plainly a bias, it is taken off, 2f(M) - f(M/2), and the disagreement of the levels
    joins the error.
    """
    last = levels[-1]
    count = last.shape[0]
    value, variance = last.mean(axis=0), last.var(axis=0, ddof=1) / count
    coarser = [
        (level - last) / (sizes[-1] / size - 1)
        for level, size in zip(levels[-2:-5:-1], sizes[-2:-5:-1], strict=True)
        if level is not None and level.shape == last.shape and size < sizes[-1]
    ]
    if not coarser:
        return value, np.sqrt(variance)
    bias = np.mean(coarser, axis=0)
    noise = bias.var(axis=0, ddof=1) / count
    variance_kept = variance + np.maximum(bias.mean(axis=0) ** 2 - noise, 0.0)
    if len(coarser) < 2:
        return value, np.sqrt(variance_kept)
    corrected = last - coarser[0]
    disagreement = np.square((coarser[0] - coarser[1]).mean(axis=0))
    variance_corrected = corrected.var(axis=0, ddof=1) / count + disagreement
    plain = (bias.mean(axis=0) ** 2 > 16 * noise) & (variance_corrected < variance_kept)
    return np.where(plain, corrected.mean(axis=0), value), np.sqrt(np.where(plain, variance_corrected, variance_kept))


def spread(level: Any) -> float:
    """The largest standard error of an output at one level, over its replicates alone."""
    return float(np.max(level.std(axis=0, ddof=1), initial=0.0)) / float(np.sqrt(level.shape[0]))


def averaged(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Every output's mean over the outer draws, or its first Diagnostic."""
    result = {}
    for name in runs[0]:
        parts = [r[name] for r in runs]
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


def gaussian_law(output: Output, clt: CltScalars) -> Any:
    """The covariance over the flattened entries of a Gaussian output in one run, or None."""
    if not is_gaussian(output.node):
        return None
    chain = [output.node]
    while isinstance(chain[-1], ir.Reindex):
        chain.append(chain[-1].args[0])
    base = chain[-1]
    if base not in clt.covariance:
        return None
    # Entry numbers of the base family travel through the index manipulations; the covariance is read off at them.
    places: Any = np.arange(base.type.size()).reshape(base.type.shape)
    for node in reversed(chain[:-1]):
        assert isinstance(node, ir.Reindex)
        places = reindexed(node, places, labels(node.args[0].type), [], labels(node.type))
    shape = tuple(i.size for i in output.indices)
    flat = np.broadcast_to(aligned(places, labels(output.node.type), output.indices), shape).ravel()
    return clt.covariance[base][np.ix_(flat, flat)]


def covariances(runs: list[dict[str, Any]], laws: list[dict[str, Any]]) -> dict[str, Any]:
    """Of Gaussian outputs the mean of their covariances, of sampled ones the covariance over the draws."""
    result = {}
    for name in laws[0]:
        known = [law[name] for law in laws if law[name] is not None]
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
