"""Averages that no sample can give: a heavy tail is recognised before it becomes a number.

The tail index α of |x| (P(|x| > t) ~ t^-α) is read off the largest samples by Hill's estimator. The mean is infinite
for α <= 1, the variance for α <= 2; there, or for a light tail that begins beyond the sampled quantiles, the average
is carried by events rarer than the sample holds. Scrambled points stratify the tail, so that 64 of them fix α to a
few per cent.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tp_compiler.diagnostics import Diagnostic
from tp_compiler.ir import nodes as ir

TOP = 64
INFINITE = 1.8  # with a margin: below 2 the variance is infinite, and a standard error means nothing
NEGLIGIBLE = 1e-4  # a tail that cannot move the average by this part of its size may be as heavy as it likes
ENTRIES = 32  # entries of a family that are looked at

#: Functions that make heavy tails of Gaussians.
_HEAVY = {"div", "exp", "sinh", "cosh", "tan", "log"}
#: Functions whose values stay bounded, or grow like their argument at most.
_BOUNDED = {
    *("sin", "cos", "tanh", "atan", "erf", "erfc", "sigmoid", "softsign"),
    *("sign", "step", "relu6", "hardtanh", "hardsigmoid"),
}
#: Functions that jump.
_JUMPS = {"sign", "step", "where"}
MODERATE = 4.0  # a polynomial of this degree in Gaussians is averaged safely


class Tails:
    """What is known of each ket's tail before any number: its degree as a polynomial in Gaussians (infinite behind an
    exponential or a division), and whether it jumps. Products with a matrix start afresh: hats are Gaussian."""

    def __init__(self, nodes: list[ir.Node]):
        self.degree: dict[ir.Node, float] = {}
        self.jumps: dict[ir.Node, bool] = {}
        for node in nodes:
            self.degree[node] = 0.0 if node.type.is_scalar else self._degree(node)
            self.jumps[node] = not node.type.is_scalar and self._jumps(node)

    def inspected(self, node: ir.Contract) -> bool:
        """Whether an average over neurons needs a look at its largest samples."""
        return sum(self.degree[a] for a in node.args) > MODERATE or any(self.jumps[a] for a in node.args)

    def may_be_infinite(self, node: ir.Contract) -> bool:
        """Polynomials in Gaussians have all moments; only behind an exponential or a division can they be infinite."""
        return bool(np.isinf(sum(self.degree[a] for a in node.args)))

    def _degree(self, node: ir.Node) -> float:
        own = [self.degree[a] for a in node.args]
        if isinstance(node, ir.InitialKet | ir.MatMul):
            return 1.0
        if isinstance(node, ir.Map):
            return self._degree_of_map(node, own)
        if isinstance(node, ir.Contract):
            return sum(own)
        if isinstance(node, ir.Reduce) and node.op == "prod":
            return own[0] * node.index.size
        return max(own, default=0.0)

    def _degree_of_map(self, node: ir.Map, own: list[float]) -> float:
        if node.fn in _BOUNDED:
            return 0.0
        if node.fn == "mul":
            return sum(own)
        if node.fn == "square":
            return 2 * own[0]
        if node.fn == "pow" and isinstance(node.args[1], ir.Constant):
            power = node.args[1].value
            return own[0] * power if power >= 0 else np.inf
        acts = not node.args[-1].type.is_scalar if node.fn == "div" else not node.type.is_scalar
        return np.inf if node.fn in _HEAVY | {"pow"} and acts else max(own)

    def _jumps(self, node: ir.Node) -> bool:
        if isinstance(node, ir.Map) and node.fn in _JUMPS:
            return True
        if isinstance(node, ir.MatMul | ir.InitialKet):
            return False
        return any(self.jumps[a] for a in node.args)


def read(products: Any, jumps: bool) -> tuple[float, float]:
    """The smallest tail index α over the entries of (samples, entries), and the error that the last cells leave.

    A ket that jumps is counted, not averaged: scrambled points may give every replicate the same count, so that one
    particle more or less, max|x|/M, is the least error there is (1/M where no sample has met the event).
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
    if jumps:
        quantum = np.where(largest.max(axis=0) > 0, largest.max(axis=0), 1.0) / samples
        return float("inf"), float(max(quantum.max(), error.max()))
    return float(index.min()), float(error.max())


def diagnostic(node: ir.Node) -> Diagnostic:
    return Diagnostic(
        "NX441",
        "this average has an infinite moment, or one carried by events rarer than the sample holds",
        node.span,
        "bound the tail (clip, or tanh), or raise --max-samples if you know that the moment is finite",
    )
