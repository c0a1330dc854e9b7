"""Gaussian coordinates of the particles of one space: scrambled Sobol points, or plain random draws.

Each fresh Gaussian takes its own coordinate of one scrambled Sobol sequence; each space (the
neurons of one layer) has its own sequence. Beyond `CHUNK` coordinates further sequences are joined by a random
permutation of their points (Latin supercube sampling, Owen 1998), so that memory stays bounded. From the third sequence on
they are one scrambled net, to which each adds (without carry) random binary digits of its own: scrambling takes longer than
all else for few particles.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from functools import partial
from typing import Any

import numpy as np

from tp_compiler.evaluate.array_types import Array, Whole
from tp_compiler.evaluate.backend import NUMPY, ArrayBackend
from tp_compiler.evaluate.sampling.averages import Sizes, even
from tp_compiler.shapes import Float

CHUNK = 128
CELLS = 2**30  # SciPy's points are multiples of its inverse
KEPT = 2**25  # numbers of points that are kept from one size to the next
AT_ONCE = 2**14  # numbers that are worth one call

#: Coordinates from one number to another: an array (samples, numbers).
Chunk = Callable[[int, int], Array]


class _Sequence:
    """Points of one Sobol sequence, as many as were asked for, and the quantiles of those coordinates that are used."""

    def __init__(self, size: int, generator: np.random.Generator):
        from scipy.stats import qmc

        self.size, self.generator = size, copied(generator)
        self.engine = qmc.Sobol(size, scramble=True, rng=self.generator)
        self.cells = np.empty((0, size), np.uint32)
        self.normal, self.known = np.empty((size, 0)), np.zeros(size, int)

    def extend(self, samples: int) -> int:
        """To so many points; how many are new."""
        more = max(0, samples - len(self.cells))
        if more:
            self.cells = np.concatenate([self.cells, cells(self.engine.random(more))])
            held, self.normal = self.normal, np.empty((self.size, samples))
            for row, old, known in zip(self.normal, held, self.known.tolist(), strict=True):
                row[:known] = old[:known]
        return more

    def coordinates(self, samples: int, first: int, last: int) -> Float[Array, "{samples} numbers"]:
        if self.known[first:last].min() < samples:
            new = slice(first, max(last, min(self.size, first + AT_ONCE // samples)))
            start = self.known[new].min()
            self.normal[new, start:samples] = normal(self.cells[start:samples, new].T)
            self.known[new] = np.maximum(self.known[new], samples)
        return self.normal[first:last, :samples].T


class Sequences:
    """The first two sequences of every seed, for larger and larger numbers of points: each size continues the smaller one.

    How the others are scrambled depends on the number of points. Points of a seed are asked for by one thread at a time.
    Those that would be more than `KEPT` numbers are made anew.
    """

    def __init__(self) -> None:
        self.found: dict[tuple[tuple[int, ...], int, int], _Sequence] = {}
        self.numbers = 0

    def points(
        self, seed: tuple[int, ...], start: int, size: int, samples: int, generator: np.random.Generator
    ) -> tuple[Chunk, np.random.Generator]:
        """The N(0, 1) coordinates of a seed from number `start` on, and the generator after it has scrambled them."""
        key = seed, start, size
        sequence = self.found.get(key) or _Sequence(size, generator)
        before = len(sequence.cells) if key in self.found else 0
        self.numbers += (max(samples, before) - before) * size
        sequence.extend(samples)
        if self.numbers <= KEPT:
            self.found[key] = sequence
        else:
            self.numbers -= sequence.cells.size
            self.found.pop(key, None)
        return partial(sequence.coordinates, samples), copied(sequence.generator)


def copied(generator: np.random.Generator) -> np.random.Generator:
    """A generator that goes on as this one does, and has the same children: `deepcopy` loses them before NumPy 2."""
    seeds = generator.bit_generator.seed_seq
    assert isinstance(seeds, np.random.SeedSequence)
    bits = np.random.PCG64(np.random.SeedSequence(**seeds.state))
    state: Any = generator.bit_generator.state
    bits.state = state
    return np.random.Generator(bits)


def cells(uniform: Array) -> Whole:
    """SciPy's points are multiples of 1 / CELLS."""
    found: Whole = (uniform * CELLS).astype(np.uint32)
    return found


def normal(numbers: Whole) -> Array:
    """Points can be 0: the centre of each cell has a finite quantile."""
    from scipy.special import ndtri

    found: Array = ndtri(numbers / CELLS + 0.5 / CELLS)
    return found


class JointPoints:
    """The points of several replicates, side by side: `draw(k)` gives an array (replicates, samples, k)."""

    def __init__(self, parts: Sequence[Points]):
        self.parts = list(parts)

    def fork(self) -> JointPoints:
        """A copy that continues drawing separately from here."""
        return JointPoints([p.fork() for p in self.parts])

    def of(self, replicates: Whole | list[int]) -> JointPoints:
        """The same points, of some replicates alone."""
        return JointPoints([self.parts[r] for r in replicates])

    @property
    def replicates(self) -> int:
        return len(self.parts)

    def draw(self, count: int) -> Float[Array, "replicates samples {count}"]:
        return np.stack([p.draw(count) for p in self.parts])

    def draw_each(self, counts: Sizes) -> Float[Array, "replicates samples most"]:
        """So many coordinates of every replicate, and zeros."""
        if even(counts):
            return self.draw(counts[0])
        drawn = [p.draw(count) for p, count in zip(self.parts, counts, strict=True)]
        found = np.zeros_like(drawn[0], order="C", shape=(len(drawn), len(drawn[0]), max(counts)))
        for one, own in zip(found, drawn, strict=True):
            one[:, : own.shape[1]] = own
        return found


class Points:
    """`draw(k)` gives the next k independent N(0, 1) coordinates, an array of shape (samples, k).

    With a `half`, 0 or 1, that half of them, which is also a net.
    """

    def __init__(
        self, samples: int, seed: tuple[int, ...], bound: int, plain: bool = False, half: int | None = None,
        kept: Sequences | None = None, backend: ArrayBackend = NUMPY,
    ):  # fmt: skip
        self.samples, self.seed, self.kept = samples, seed, kept or Sequences()
        self.backend = backend
        self.rows = slice(None) if half is None else slice(half * samples // 2, (half + 1) * samples // 2)
        self.generator = np.random.Generator(np.random.PCG64(list(seed)))
        self.bound = max(1, bound)  # an upper bound on how many coordinates will be drawn
        self.plain = plain
        self.drawn = self.sequences = 0
        self.net: Any = None  # of the third sequence and those after it
        self.chunk: Chunk | None = None
        self.at = self.size = 0

    def fork(self) -> Points:
        """A copy that continues drawing separately from here."""
        other = copy(self)
        other.generator = copied(self.generator)
        return other

    def draw(self, count: int) -> Float[Array, "samples {count}"]:
        if self.plain:
            return self.backend.array(self.generator.standard_normal((self.samples, count))[self.rows])
        parts = [np.empty((len(range(self.samples)[self.rows]), 0))]
        while count > 0:
            if self.at == self.size:
                self.size = max(1, min(CHUNK, self.bound - self.drawn))
                self.chunk, self.at = self._next(self.size), 0
                self.drawn += self.size
                self.sequences += 1
            assert self.chunk is not None
            end = min(self.at + count, self.size)
            parts.append(self.chunk(self.at, end))
            count -= end - self.at
            self.at = end
        return self.backend.array(parts[-1] if len(parts) < 3 else np.concatenate(parts, axis=1))

    def _next(self, size: int) -> Chunk:
        """The coordinates of one more sequence."""
        if self.sequences > 1:
            return self._further(size)
        chunk, self.generator = self.kept.points(self.seed, self.drawn, size, self.samples, self.generator)
        rows = self.generator.permutation(self.samples)[self.rows] if self.drawn else self.rows
        return lambda first, last: chunk(first, last)[rows]

    def _further(self, size: int) -> Chunk:
        """Of the third one, and those after it."""
        from scipy.stats import qmc

        if self.net is None:
            self.net = cells(qmc.Sobol(size, scramble=True, rng=self.generator).random(self.samples))
        digits = self.generator.integers(0, CELLS, size, dtype=np.uint32)
        order, net = self.generator.permutation(self.samples)[self.rows], self.net
        return lambda first, last: normal(net[order, first:last] ^ digits[first:last])
