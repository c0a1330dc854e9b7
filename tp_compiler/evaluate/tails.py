"""Averages that no sample can give: a heavy tail is recognised before it becomes a number.

The tail index α of |x| (P(|x| > t) ~ t^-α) is read off the largest samples by Hill's estimator. The mean is infinite
for α <= 1; up to 1.25, or for a light tail that begins beyond the sampled quantiles, it is carried by events rarer than
the sample holds. Scrambled points stratify the tail, so that 64 of them fix α to a few per cent.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tp_compiler.diagnostics import Diagnostic
from tp_compiler.ir import nodes as ir

TOP = 64
INFINITE = 1.25  # with a margin: at α = 1.2 the sample holds too little of the tail for an honest error
ENTRIES = 32  # entries of a family that are looked at

#: Functions that make heavy tails of Gaussians.
_HEAVY = {"div", "pow", "exp", "tan", "log"}


def may_be_heavy(node: ir.Node, known: dict[ir.Node, bool]) -> bool:
    """Whether a ket passes through a function that makes heavy tails (entrywise, not through a matrix)."""
    if node not in known:
        known[node] = False
        if isinstance(node, ir.Map) and node.fn in _HEAVY and _acts_on_kets(node):
            known[node] = True
        elif not isinstance(node, ir.MatMul) and not node.type.is_scalar:
            known[node] = any(known.get(a, False) for a in node.args)
    return known[node]


def _acts_on_kets(node: ir.Map) -> bool:
    if node.fn == "div":
        return not node.args[1].type.is_scalar
    if node.fn == "pow" and isinstance(node.args[1], ir.Constant):
        return not 0 <= node.args[1].value <= 4
    return not node.type.is_scalar


def read(products: Any) -> tuple[float, float]:
    """The smallest tail index α over the entries of (samples, entries), and the error that the last cells leave.

    The largest sample lies at random in a cell of probability 1/M: the mean feels it as a skewed error of about
    max|x| / (α M), which a spread over few scramblings misses more often than not.
    """
    samples = products.shape[0]
    top = min(TOP, samples // 16)
    if top < 8:
        return np.inf, 0.0
    sizes = np.abs(products[:, :ENTRIES])
    largest = np.partition(sizes, samples - top - 1, axis=0)[samples - top - 1 :]
    threshold = largest.min(axis=0)
    with np.errstate(all="ignore"):
        spread = np.log(largest / threshold).sum(axis=0)
        index = np.where(threshold > 0, top / spread, np.inf)
    error = np.where(np.isfinite(index), largest.max(axis=0) / (samples * np.maximum(index, 0.5)), 0.0)
    return float(index.min()), float(error.max())


def diagnostic(node: ir.Node) -> Diagnostic:
    return Diagnostic(
        "NX441",
        "this average has an infinite moment, or one carried by events rarer than the sample holds",
        node.span,
        "bound the tail (clip, or tanh), or raise --max-samples if you know that the moment is finite",
    )
