"""The steps of a kernel on one block of pairs of points, in place, on arrays that stay in cache.

A step reads arrays over the points (point_arrays.py) and the results of earlier steps; its result is an array over the block
with one error for all pairs (bulk.py).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from tp_compiler.evaluate import errors
from tp_compiler.evaluate.array_types import Array, Places
from tp_compiler.evaluate.bulk import EPS, Bulk, Extent
from tp_compiler.evaluate.exact.abstract import EntriesDecide
from tp_compiler.evaluate.exact.point_arrays import PointArray, is_jump, of_product, of_sum, probed
from tp_compiler.evaluate.gaussian import arccos_in_place, closed_forms, sensitivity
from tp_compiler.evaluate.gaussian.arccosine import shape_of
from tp_compiler.evaluate.gaussian.operations import places
from tp_compiler.evaluate.gaussian.univariate import Univariate

ROWS, COLUMNS = 0, 1
MOST_CANCELLED = 1e3  # times that a difference may be smaller than what it is taken of
MOST_PROBED = 64  # rows and columns of a block that show how far errors carry
ONE = np.array(1.0)  # NumPy takes a number of Python for one only after some thought
#: An array over points, by its number, and the side of the block that it runs over (None: a number for all).
Side = tuple[int, int | None]


@dataclass(frozen=True)
class PairBlock:
    """The rows and columns of a block; `diagonal`: they are the same points."""

    rows: slice
    columns: slice
    diagonal: bool

    @property
    def shape(self) -> tuple[int, int]:
        return self.rows.stop - self.rows.start, self.columns.stop - self.columns.start


class Scratch:
    """Arrays for one block after another, used again by blocks of the same shape."""

    def __init__(self) -> None:
        self._of: dict[tuple[int, int], list[Array]] = {}
        self.begin((0, 0))

    def begin(self, shape: tuple[int, int]) -> None:
        """A block of this shape is next."""
        self._shape, self._free = shape, self._of.setdefault(shape, [])

    def take(self) -> Array:
        return self._free.pop() if self._free else np.empty(self._shape)

    def give(self, array: Array) -> None:
        self._free.append(array)


@dataclass(eq=False)
class PairArray(PointArray):
    """The result of a step on a block."""

    angle: Array | None = None  # arcsin of the values, if these are correlations
    ratios: tuple[float, float] = (0.0, 0.0)  # the least and the largest of them, without the diagonal


@dataclass
class PairRun:
    """What the steps of one block read and write."""

    points: Sequence[PointArray]
    scratch: Scratch
    block: PairBlock
    seen: dict[PairStep, float] = field(default_factory=dict)
    spread: dict[tuple[Side, float], Array] | None = None  # arrays over points, at the pairs of the only block
    pairs: list[PairArray] = field(default_factory=list)

    def side(self, at: Side, coefficient: float = 1.0) -> Array:
        """coefficient · an array over points, for every pair."""
        if self.spread is None:
            return self._along(at, coefficient)
        found = self.spread.get((at, coefficient))
        if found is None:
            found = np.broadcast_to(self._along(at, coefficient), self.block.shape).copy()
            self.spread[at, coefficient] = found
        return found

    def _along(self, at: Side, coefficient: float) -> Array:
        number, side = at
        values = self.points[number].values
        if coefficient != 1.0:
            values = coefficient * values
        if side is None or values.ndim == 0:
            return values
        return values[self.block.rows, None] if side == ROWS else values[None, self.block.columns]

    def entries(self, at: Side, here: Places) -> Array:
        number, side = at
        values = self.points[number].values
        if side is None or values.ndim == 0:
            return np.broadcast_to(values, here[0].shape)
        part = self.block.rows if side == ROWS else self.block.columns
        return values[part][here[side]]


class PairStep:
    """What is done to a block."""

    @property
    def inputs(self) -> tuple[int, ...]:
        """The numbers of the steps whose results it reads."""
        return ()

    def run(self, run: PairRun) -> PairArray:
        raise NotImplementedError


@dataclass(frozen=True)
class Inner(PairStep):
    """Σ a b over the labels that two arrays over points share."""

    rows: int
    columns: int

    def run(self, run: PairRun) -> PairArray:
        a, b = run.points[self.rows], run.points[self.columns]
        out = run.scratch.take()
        np.matmul(a.values[run.block.rows], b.values[run.block.columns].T, out=out)
        found = PairArray(out)
        off = EPS * found.largest
        if a.off.share or b.off.share or a.off.floor or b.off.floor:
            lengths = [float(np.sqrt(np.max(np.sum(x.values**2, axis=1)))) for x in (a, b)]
            counts = [math.sqrt(x.values.shape[1]) * x.off.floor for x in (a, b)]
            off += (a.off.share + b.off.share) * math.prod(lengths) + counts[0] * lengths[1] + counts[1] * lengths[0]
        return PairArray(out, Bulk(0.0, off))


@dataclass(frozen=True)
class ScaledPairs(PairStep):
    """coefficient · a product of steps and of arrays over points."""

    coefficient: float
    share: float
    reads: tuple[int, ...]
    points: tuple[Side, ...]

    @property
    def inputs(self) -> tuple[int, ...]:
        return self.reads

    def run(self, run: PairRun) -> PairArray:
        known: list[PointArray] = [run.pairs[k] for k in self.reads]
        factors, c = [x.values for x in known], self.coefficient
        for side in self.points:
            known.append(run.points[side[0]])
            factors.append(run.side(side, c))
            c = 1.0
        out, first = run.scratch.take(), factors[0]
        if c != 1.0 or len(factors) == 1:
            first = np.multiply(first, c, out=out)
        for x in factors[1:]:
            first = np.multiply(first, x, out=out)
        return PairArray(out, of_product(known, self.coefficient, self.share))


@dataclass(frozen=True)
class SummedPairs(PairStep):
    """constant + a sum of coefficient · step, and of arrays over points."""

    constant: float
    off: float
    reads: tuple[int, ...]
    coefficients: tuple[float, ...]
    shares: tuple[float, ...]
    points: tuple[Side, ...]

    @property
    def inputs(self) -> tuple[int, ...]:
        return self.reads

    def run(self, run: PairRun) -> PairArray:
        out = run.scratch.take()
        known: list[PointArray] = []
        spare = run.scratch.take() if any(c != 1.0 for c in self.coefficients[1:]) else out
        if not self.reads:
            out.fill(0.0)
        for k, (number, c, share) in enumerate(zip(self.reads, self.coefficients, self.shares, strict=True)):
            part = run.pairs[number]
            values = part.values if c == 1.0 else np.multiply(part.values, c, out=spare if k else out)
            if k:
                np.add(out, values, out=out)
            elif c == 1.0:
                np.copyto(out, values)
            known.append(_multiple(part, c, share))
        for side in self.points:
            np.add(out, run.side(side), out=out)
            known.append(run.points[side[0]])
        if self.constant:
            np.add(out, self.constant, out=out)
        if spare is not out:
            run.scratch.give(spare)
        return PairArray(out, of_sum(known, self.off, self.constant))


def _multiple(part: PairArray, c: float, share: float) -> PointArray:
    """coefficient · part, as far as its error is concerned."""
    if c == 1.0:
        return part
    off = Bulk(part.off.share + share + EPS, abs(c) * part.off.floor)
    ends = c * part.extent.low, c * part.extent.high
    return PointArray(part.values, off, Extent(min(ends), max(ends)))


@dataclass(frozen=True)
class Law:
    """The law of the two Gaussians of each pair: variances, and coefficient · a step for the covariance."""

    variances: tuple[Side, Side]
    covariance: int
    coefficient: float
    share: float

    def off(self, run: PairRun) -> Bulk:
        """The error of the covariances."""
        off, c = run.pairs[self.covariance].off, abs(self.coefficient)
        share = self.share if c == 1.0 else self.share + EPS
        return Bulk(off.share + share, off.floor * c * (1 + share))

    def entries(self, run: PairRun, here: Places) -> tuple[Array, Array, Array]:
        first, second = (run.entries(s, here) for s in self.variances)
        return first, second, self.coefficient * run.pairs[self.covariance].values[here]


@dataclass(frozen=True)
class Ratio(PairStep):
    """ρ = c/√((v1 + h1)(v2 + h2)), and its arcsin."""

    covariance: int
    coefficient: float
    roots: tuple[Side, Side]

    @property
    def inputs(self) -> tuple[int, ...]:
        return (self.covariance,)

    def run(self, run: PairRun) -> PairArray:
        ratio, angle = run.scratch.take(), run.scratch.take()
        one, other = self.roots
        np.multiply(run.pairs[self.covariance].values, run.side(one, self.coefficient), out=ratio)
        np.multiply(ratio, run.side(other), out=ratio)
        own = ratio.reshape(-1)[:: ratio.shape[1] + 1] if run.block.diagonal else None
        if own is not None:
            kept = own.copy()
            own[:] = ratio[0, -1]
        low, high = Extent.of(ratio)
        if own is not None:
            own[:] = np.maximum(np.minimum(kept, 1.0), -1.0)
        if not (math.isfinite(low) and math.isfinite(high)):
            raise EntriesDecide("correlations that are not finite")
        if low < -1 or high > 1:
            np.minimum(ratio, 1.0, out=ratio)
            np.maximum(ratio, -1.0, out=ratio)
        np.arcsin(ratio, out=angle)
        return PairArray(ratio, angle=angle, ratios=(low, high))


@dataclass(frozen=True)
class Tabled(PairStep):
    """E f(u) g(w) by a row of the table. `one`: the values where u and w are one variable, over the points; `apart`:
    coefficients that tell Var(u - w) (two arrays over points each)."""

    f: Univariate
    g: Univariate
    law: Law
    own: int | None
    apart: tuple[tuple[int, int], ...]

    def finished(self, run: PairRun, out: Array, off: Bulk) -> PairArray:
        if run.block.diagonal and self.own is not None:
            out.reshape(-1)[:: out.shape[1] + 1] = run.points[self.own].values[run.block.rows]
        return PairArray(out, off)

    def distance(self, run: PairRun, here: Places) -> closed_forms.Distance | None:
        if not self.apart or not is_jump(self.f, self.g):
            return None

        def between(which: Places) -> Array:
            at = [side[which[0]] for side in here]
            total = np.zeros(len(at[0]))
            for a, b in self.apart:
                one = run.points[a].values[run.block.rows][at[0]]
                other = run.points[b].values[run.block.columns][at[1]]
                total += np.sum((one - other) ** 2, axis=1)
            return total

        return between

    def careful(self, run: PairRun, out: Array, near: Places) -> None:
        """Entries by the formula that loses no digits."""
        v1, v2, c = self.law.entries(run, near)
        out[near] = closed_forms.careful(self.f, self.g, v1, v2, c, self.distance(run, near))

    def error(self, run: PairRun, out: Array, ratios: tuple[float, float]) -> Bulk:
        (first, _), (second, _) = self.law.variances
        rows, key = run.points[first], (id(self), run.block.diagonal)
        if key not in rows.carried:
            one, two = rows.scaled_law(self.f.scale), run.points[second].scaled_law(self.g.scale)
            rows.carried[key] = self, sensitivity.of_ratios(self.f, self.g, one, two, run.block.diagonal)
        off = rows.carried[key][1](self.law.off(run), ratios)
        return self.seen(run, out) if off is None else off

    def seen(self, run: PairRun, out: Array) -> Bulk:
        """The error as it is seen in a corner of the first block, relative to the largest value."""
        if self not in run.seen:
            rows, columns = (min(n, MOST_PROBED) for n in run.block.shape)
            here = tuple(x.ravel() for x in np.indices((rows, columns)))
            v1, v2, c = self.law.entries(run, here)
            off = [run.points[number].off for number, _ in self.law.variances]
            value, error = probed(self.f, self.g, [(v1, off[0]), (v2, off[1]), (c, self.law.off(run))])
            largest = errors.largest(value)
            run.seen[self] = float(np.max(error)) / largest if largest else EPS
        return Bulk(0.0, run.seen[self] * errors.largest(out))


@dataclass(frozen=True)
class Jump(Tabled):
    """Order 0: even + odd (2/π) arcsin ρ."""

    ratio: int = 0

    @property
    def inputs(self) -> tuple[int, ...]:
        return (self.ratio, self.law.covariance)

    @cached_property
    def weights(self) -> tuple[float, float]:
        a, b = shape_of(self.f), shape_of(self.g)
        return a.even * b.even, a.odd * b.odd

    def run(self, run: PairRun) -> PairArray:
        known, (even, odd) = run.pairs[self.ratio], self.weights
        factor, out = self.f.factor * self.g.factor, run.scratch.take()
        assert known.angle is not None
        np.multiply(known.angle, factor * odd * 2 / math.pi, out=out)
        if even:
            np.add(out, factor * even, out=out)
        cancels, steep = arccos_in_place.CANCELS, arccos_in_place.STEEP
        near = _beyond(known, cancels if even * odd > 0 else steep, cancels if even * odd < 0 else steep, run.block)
        if near is not None:
            self.careful(run, out, near)
        return self.finished(run, out, self.error(run, out, known.ratios))


@dataclass(frozen=True)
class Bend(Tabled):
    """Order 1: √(v1 v2) (even (2/π) (√(1 - ρ²) + ρ arcsin ρ) + odd ρ)."""

    ratio: int = 0
    heights: tuple[Side, Side] = ((0, None), (0, None))
    weights: tuple[float, float] = (0.0, 0.0)

    @property
    def inputs(self) -> tuple[int, ...]:
        return (self.ratio, self.law.covariance)

    def run(self, run: PairRun) -> PairArray:
        known, (even, odd) = run.pairs[self.ratio], self.weights
        out, other = run.scratch.take(), run.scratch.take()
        ratio = known.values
        assert known.angle is not None
        np.subtract(ONE, ratio, out=out)
        np.add(ratio, ONE, out=other)
        np.multiply(out, other, out=out)
        np.sqrt(out, out=out)
        shifted = np.add(known.angle, math.pi / 2 * odd / even, out=other) if odd else known.angle
        np.multiply(shifted, ratio, out=other)
        np.add(out, other, out=out)
        for side in self.heights:
            np.multiply(out, run.side(side), out=out)
        run.scratch.give(other)
        cancels = arccos_in_place.CANCELS
        near = _beyond(known, cancels if even * odd > 0 else 2.0, cancels if even * odd < 0 else 2.0, run.block)
        if near is not None:
            self.careful(run, out, near)
        return self.finished(run, out, self.error(run, out, known.ratios))


def _beyond(known: PairArray, low: float, high: float, block: PairBlock) -> Places | None:
    """Where ρ < -low or ρ > high, without the diagonal."""
    below, above = known.ratios[0] < -low, known.ratios[1] > high
    if not (below or above):
        return None
    mask = known.values < -low if below else known.values > high
    if below and above:
        np.logical_or(mask, known.values > high, out=mask)
    if block.diagonal:
        np.fill_diagonal(mask, False)
    return places(mask)


@dataclass(frozen=True)
class AnyRow(Tabled):
    """Any other row."""

    @property
    def inputs(self) -> tuple[int, ...]:
        return (self.law.covariance,)

    def run(self, run: PairRun) -> PairArray:
        v1, v2 = (run.side(s) for s in self.law.variances)
        out = run.scratch.take()
        c = run.pairs[self.law.covariance].values
        if self.law.coefficient != 1.0:
            c = np.multiply(c, self.law.coefficient, out=out)
        found = closed_forms.kernel(self.f, self.g, v1, v2, c)
        assert found is not None
        np.copyto(out, found)
        if not np.isfinite(out).all():
            raise EntriesDecide("values that are not finite")
        return self.finished(run, out, self.seen(run, out))


@dataclass(frozen=True)
class Bell(Tabled):
    """Gaussians: E exp(-a u²) exp(-b w²) = 1/√D, D = (1 + 2a v1)(1 + 2b v2) - 4ab c² (Williams 1997, eq. 13).

    The difference cancels no more than `MOST_CANCELLED` allows, since D ≥ 1 + 2a v1 + 2b v2.
    """

    rates: tuple[float, float] = (1.0, 1.0)
    spreads: tuple[Side, Side] = ((0, None), (0, None))  # 1 + 2a v

    @property
    def inputs(self) -> tuple[int, ...]:
        return (self.law.covariance,)

    def run(self, run: PairRun) -> PairArray:
        one, two = (run.points[number].law for number, _ in self.law.variances)
        a, b = self.rates
        least = 1 + 2 * a * one.low + 2 * b * two.low
        w1, w2 = 1 + 2 * a * one.high, 1 + 2 * b * two.high
        if w1 * w2 > MOST_CANCELLED * least:
            return AnyRow(self.f, self.g, self.law, self.own, self.apart).run(run)
        out, other = run.scratch.take(), run.scratch.take()
        c = run.pairs[self.law.covariance].values
        np.multiply(c, c, out=out)
        np.multiply(out, -4 * a * b * self.law.coefficient**2, out=out)
        np.multiply(run.side(self.spreads[0]), run.side(self.spreads[1]), out=other)
        np.add(out, other, out=out)
        np.sqrt(out, out=out)
        np.divide(self.f.factor * self.g.factor, out, out=out)
        run.scratch.give(other)
        reach = math.sqrt(one.high * two.high)
        moved = 2 * a * w2 * one.most + 2 * b * w1 * two.most + 8 * a * b * reach * self.law.off(run).within(reach)
        size = abs(self.f.factor * self.g.factor) / math.sqrt(least)
        return self.finished(run, out, Bulk(0.0, size * ((moved + 8 * EPS * w1 * w2) / (2 * least) + 4 * EPS)))
