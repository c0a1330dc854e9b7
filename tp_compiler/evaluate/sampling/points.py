"""Gaussian coordinates of the particles of one space: scrambled Sobol points, or plain random draws.

Each fresh Gaussian takes its own coordinate of one scrambled Sobol sequence; each space (the
neurons of one layer) has its own sequence. Beyond `CHUNK` coordinates further sequences are joined by a random
permutation of their points (Latin supercube sampling, Owen 1998), so that memory stays bounded. From the third sequence on
they are one scrambled net, to which each adds (without carry) random binary digits of its own: scrambling takes longer than
all else for few particles.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from typing import Any

import numpy as np

from tp_compiler.evaluate.array_types import Array, Whole
from tp_compiler.evaluate.backend import NUMPY, ArrayBackend
from tp_compiler.evaluate.sampling.averages import Sizes, even
from tp_compiler.shapes import Float

CHUNK = 128
CELLS = 2**30  # SciPy's points are multiples of its inverse
KEPT = 2**25  # bytes of points that are kept from one size to the next


class Sequences:
    """The first two sequences of every seed, for larger and larger numbers of points: each size continues the smaller one.

    How the others are scrambled depends on the number of points. Points of a seed are asked for by one thread at a time.
    Those that would take more than `KEPT` bytes are made anew.
    """

    def __init__(self) -> None:
        self.found: dict[tuple[tuple[int, ...], int, int], tuple[Any, Any, Array]] = {}
        self.bytes = 0

    def points(
        self, seed: tuple[int, ...], start: int, size: int, samples: int, generator: np.random.Generator
    ) -> tuple[Float[Array, "{samples} {size}"], np.random.Generator]:
        """The N(0, 1) coordinates of a seed from number `start` on, and the generator after it has scrambled them."""
        from scipy.stats import qmc

        key = seed, start, size
        if key not in self.found:
            own = copied(generator)
            engine = qmc.Sobol(size, scramble=True, rng=own)
            self.found[key] = engine, own, np.empty((0, size))
        engine, own, points = self.found[key]
        if len(points) < samples:
            more = samples - len(points)
            points = np.concatenate([points, normal(engine.random(more))])
            self.bytes += more * size * 8
            if self.bytes <= KEPT:
                self.found[key] = engine, own, points
            else:
                self.bytes -= self.found.pop(key)[2].nbytes + more * size * 8
        return points[:samples], copied(own)


def copied(generator: np.random.Generator) -> np.random.Generator:
    """A generator that goes on as this one does, and has the same children: `deepcopy` loses them before NumPy 2."""
    seeds = generator.bit_generator.seed_seq
    assert isinstance(seeds, np.random.SeedSequence)
    bits = np.random.PCG64(np.random.SeedSequence(**seeds.state))
    state: Any = generator.bit_generator.state
    bits.state = state
    return np.random.Generator(bits)


def normal(uniform: Array) -> Array:
    """SciPy's points are multiples of 2^-30 and can be 0: the centre of each cell has a finite quantile."""
    from scipy.special import ndtri

    found: Array = ndtri(uniform + 2.0**-31)
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
        self.net: Any = None  # of the third sequence and those after it, in multiples of 1 / CELLS
        self.chunk: Any = self.backend.array(np.empty((samples, 0))[self.rows])
        self.at = 0

    def fork(self) -> Points:
        """A copy that continues drawing separately from here."""
        other = copy(self)
        other.generator = copied(self.generator)
        return other

    def draw(self, count: int) -> Float[Array, "samples {count}"]:
        if self.plain:
            return self.backend.array(self.generator.standard_normal((self.samples, count))[self.rows])
        parts = []
        while count > 0:
            if self.at == self.chunk.shape[1]:
                self._refill()
            part = self.chunk[:, self.at : self.at + count]
            self.at += part.shape[1]
            count -= part.shape[1]
            parts.append(part)
        return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1) if parts else self.chunk[:, :0]

    def _refill(self) -> None:
        size = max(1, min(CHUNK, self.bound - self.drawn))
        if self.sequences < 2:
            points, self.generator = self.kept.points(self.seed, self.drawn, size, self.samples, self.generator)
            if self.drawn:
                points = self.generator.permutation(points, axis=0)
            points = points[self.rows]
        else:
            points = self._further(size)
        self.chunk = self.backend.array(points)
        self.drawn += size
        self.sequences += 1
        self.at = 0

    def _further(self, size: int) -> Array:
        """N(0, 1) coordinates of one more sequence."""
        from scipy.stats import qmc

        if self.net is None:
            net = qmc.Sobol(size, scramble=True, rng=self.generator).random(self.samples)
            self.net = (net * CELLS).astype(np.uint32)
        digits = self.generator.integers(0, CELLS, size, dtype=np.uint32)
        order = self.generator.permutation(self.samples)[self.rows]
        return normal((self.net[order, :size] ^ digits) / CELLS)
