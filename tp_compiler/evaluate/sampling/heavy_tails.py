"""Averages that samples cannot determine: a heavy tail is recognised before it becomes a number.

The tail index α of |x| (P(|x| > t) ~ t^-α) is estimated from the largest samples by Hill's estimator, for each entry of every replicate
separately, and the replicates are combined. The mean is infinite for α <= 1. Nothing is refused inside a run: a
few particles determine α poorly. An average is refused if even the upper end of the interval for α is near 1. Between
there and 2, where the variance is infinite, the error includes the tail beyond the largest sample.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from tp_compiler.diagnostics import Diagnostic
from tp_compiler.evaluate.array_types import Array
from tp_compiler.evaluate.backend import host
from tp_compiler.evaluate.ranges import Range, away_from_zero, bounded, ranges
from tp_compiler.ir import nodes as ir
from tp_compiler.ir.primitives import PRIMITIVES
from tp_compiler.shapes import Float

PART, FAR = 64, 1024  # the fraction of largest samples used is one over this
INFINITE = 1.25  # above 1, since only the beginning of a tail is visible: exp(0.45 x²) has 1.11 and appears as 1.3
SIGMAS = 2.0  # of the interval for α
NEGLIGIBLE = 1e-4  # a tail that cannot move the average by this part of its size is ignored
ENTRIES = 32  # entries of a family that are examined

_JUMP = ("rademacher", "bernoulli", "rows")  # laws with atoms: as images of Gaussians they jump
_SETTLED = (
    ir.Constant, ir.Array, ir.Position, ir.Reduce, ir.Reindex, ir.Along, ir.Stack, ir.Copy, ir.InitialKet, ir.MatMul
)  # fmt: skip
MODERATE = 4.0  # polynomials in Gaussians up to this degree are averaged safely


class Tails:
    """The tail of each ket as known before sampling: its degree as a polynomial in Gaussians (0 if it is
    bounded, infinite after an exponential or a division), and whether it jumps. Products with a matrix start
    afresh: hats are Gaussian."""

    def __init__(self, nodes: list[ir.Node]):
        self.range = ranges(nodes)
        self.degree: dict[ir.Node, float] = {}
        self.polynomial: dict[ir.Node, bool] = {}
        self.jumps: dict[ir.Node, bool] = {}
        for node in nodes:
            self.polynomial[node] = self._polynomial(node)
            known = node.type.is_scalar or bounded(self.range[node])
            self.degree[node] = 0.0 if known else self._degree(node)
            self.jumps[node] = not node.type.is_scalar and self._jumps(node)

    def inspected(self, node: ir.Contract) -> bool:
        """Whether the largest samples of an average over neurons must be examined."""
        return self.may_be_heavy(node) or self.jump(node)

    def may_be_heavy(self, node: ir.Contract) -> bool:
        return sum(self.degree[a] for a in node.args) > MODERATE

    def jump(self, node: ir.Contract) -> bool:
        return any(self.jumps[a] for a in node.args)

    def may_be_infinite(self, node: ir.Contract) -> bool:
        """Polynomials in Gaussians have all moments; moments can be infinite only after an exponential or a division."""
        return bool(np.isinf(sum(self.degree[a] for a in node.args)))

    def settles(self, nodes: Iterable[ir.Node]) -> bool:
        """Whether numbers are averages of finite variance, combined without poles and jumps: their errors are sure to fall
        as samples are added, however rare the events are that they count."""
        return all(self._settles(node) for node in nodes)

    def _settles(self, node: ir.Node) -> bool:
        if isinstance(node, ir.Contract):
            return not self.may_be_heavy(node)
        if not isinstance(node, ir.Map):
            return isinstance(node, _SETTLED)
        if node.fn == "div":
            divisor = node.args[1]
            return not divisor.type.is_scalar or away_from_zero(self.range[divisor])
        if not node.type.is_scalar:
            return True  # its degree is part of every average over it
        if node.fn == "pow":
            return np.isfinite(self._degree_of_power(node, [1.0]))
        return not PRIMITIVES[node.fn].jumps and np.isfinite(PRIMITIVES[node.fn].degree)

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
        of: Range = self.range[node.args[0]]
        if node.fn == "mul":
            return sum(own)
        if node.fn == "div":
            divisor = node.args[1]
            return own[0] if divisor.type.is_scalar or away_from_zero(self.range[divisor]) else np.inf
        if node.fn == "pow":
            return self._degree_of_power(node, own)
        if node.fn == "log" and (of[0] > 0 or self.polynomial[node.args[0]]):
            return min(own[0], 1.0) if np.isfinite(own[0]) else np.inf
        degree = PRIMITIVES[node.fn].degree
        return np.inf if np.isinf(degree) else max(1.0, degree) * max(own)

    def _degree_of_power(self, node: ir.Map, own: list[float]) -> float:
        power = node.args[1]
        if not isinstance(power, ir.Constant):
            return np.inf
        if power.value >= 0:
            return own[0] * power.value
        return 0.0 if away_from_zero(self.range[node.args[0]]) else np.inf

    def _polynomial(self, node: ir.Node) -> bool:
        """Whether a ket is a polynomial of Gaussians, or the absolute value of one: near its zeros |p| < ε has a
        probability of order ε^(1/degree), so that log|p| has all moments."""
        if node.type.is_scalar or isinstance(node, ir.MatMul | ir.InitialKet):
            return not (isinstance(node, ir.InitialKet) and node.symbol.law in _JUMP)
        if not isinstance(node, ir.Map):
            return False
        power = node.fn == "pow" and isinstance(node.args[1], ir.Constant) and node.args[1].value >= 0
        return (PRIMITIVES[node.fn].polynomial or power) and all(self.polynomial[a] for a in node.args)

    def _jumps(self, node: ir.Node) -> bool:
        if isinstance(node, ir.Map) and PRIMITIVES[node.fn].jumps:
            return True
        if isinstance(node, ir.MatMul | ir.InitialKet):
            return isinstance(node, ir.InitialKet) and node.symbol.law in _JUMP
        return any(self.jumps[a] for a in node.args)


def top_of(samples: int, part: int = PART) -> int:
    """How many of the largest samples are read."""
    return max(8, samples // part)


def logs(products: Float[Array, "samples entries"]) -> Float[Array, "7 looked"] | None:
    """What Hill's estimator needs of (samples, entries), shape (7, entries): the sums of log(x / threshold) over the largest
    |x| and over fewer of them, how many these are, the largest |x|, the mean of |x| and the number of samples. None where
    there are too few samples."""
    samples, top = len(products), top_of(len(products))
    if samples < 4 * top:
        return None
    sizes = np.abs(products[:, :ENTRIES])
    largest = np.sort(np.partition(sizes, samples - top - 1, axis=0)[samples - top - 1 :], axis=0)
    far = top_of(samples, FAR)
    found = _spread(largest), _spread(largest[-far - 1 :]), top, far, largest[-1], sizes.mean(axis=0), samples
    return host(np.stack(np.broadcast_arrays(*found)))


def _spread(ordered: Float[Array, "samples entries"]) -> Float[Array, " entries"]:
    """Σ (log x_k - log x_1) over samples in ascending order; 0 if the first is 0."""
    with np.errstate(all="ignore"):
        return np.where(ordered[0] > 0, np.log(ordered / ordered[0]).sum(axis=0), 0.0)


def index(found: Sequence[Float[Array, "7 entries"]], far: bool = False) -> Float[Array, " entries"]:
    """Hill's α of every entry from the `logs` of all replicates; infinite if there is no tail."""
    total = np.sum(found, axis=0)
    spread, count = total[1 if far else 0], total[3 if far else 2]
    with np.errstate(all="ignore"):
        return np.where(spread > 0, count / spread, np.inf)


def joined(found: Sequence[Float[Array, "7 entries"]]) -> Float[Array, "7 entries"]:
    """The `logs` of all parts of one replicate."""
    total: Array = np.sum(found, axis=0)
    total[4], total[5] = np.max(found, axis=0)[4], np.mean(found, axis=0)[5]
    return total


def infinite(found: Sequence[Float[Array, "7 entries"]]) -> bool:
    """Whether the mean of some entry is infinite, or carried by events rarer than the samples hold: the whole interval
    for its α is near 1 or below, and its largest samples move the mean."""
    upper = index(found) * (1 + SIGMAS / np.sqrt(np.sum(found, axis=0)[2]))
    largest, size, samples = np.mean(found, axis=0)[4:]
    return bool(np.any((upper < INFINITE) & (largest > NEGLIGIBLE * samples * (1 + size))))


def beyond(found: Sequence[Float[Array, "7 entries"]], far: bool) -> float:
    """The error that the tail beyond the largest samples leaves in the mean of all replicates, the largest of the entries.

    The largest sample lies at random in a cell of probability 1/M: the mean feels it as a skewed error of about
    max|x| / (α M), which a spread over few scramblings misses more often than not. Below α = 2 nearly every sample
    misses the same part, max|x| / ((α - 1) M) of it, unless the tail is a polynomial's (`far` is False). The α is that
    of the farthest samples, since those of exponentials grow with the distance.
    """
    alpha = index(found, far=True)
    largest, _, samples = np.mean(found, axis=0)[4:]
    cell = largest / samples
    with np.errstate(all="ignore"):
        missed = np.where(far & (alpha < 2), 3 * (2 - alpha) / np.maximum(alpha - 1, 0.05), 0.0)
        error = np.where(np.isfinite(alpha), cell * (1 / np.maximum(alpha, 0.5) / np.sqrt(len(found)) + missed), 0.0)
    return float(error.max(initial=0.0))


def counted(products: Float[Array, "samples entries"]) -> float:
    """The error of an average of a discontinuous value.

    It is counted, not averaged: scrambled points may give every replicate the same count, so that one particle more or
    less, max|x|/M, is the least error there is (1/M where no sample has met the event).
    """
    largest = np.abs(products[:, :ENTRIES]).max(axis=0)
    return float(np.where(largest > 0, largest, 1.0).max()) / len(products)


def diagnostic(nodes: Iterable[ir.Node]) -> Diagnostic:
    """The diagnostic of the first of these averages in the program."""
    node = min(nodes, key=lambda n: n.serial)
    return Diagnostic(
        "NX441",
        "this average has an infinite moment, or one dominated by events too rare for the sample",
        node.span,
        "bound the tail (clip, or tanh), or raise `--max-samples` if you know that the moment is finite",
    )
