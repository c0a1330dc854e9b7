"""From replicates to estimates: the spread of a level, and the laws of random outputs (for errors see replicates.py)."""

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


def gaussian_law(output: Output, clt: CltScalars, replicate: int) -> Float[Array, "n n"] | None:
    """The covariance over the flattened entries of a Gaussian output in one run of a replicate, or None."""
    known = clt.covariance.get(base(output.node)) if is_gaussian(output.node) else None
    return None if known is None else covariance_of(output, known[replicate])


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
