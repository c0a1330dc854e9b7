"""Gaussian coordinates of the particles of one space: scrambled Sobol points, or plain random draws.

Each fresh Gaussian takes its own coordinate of one scrambled Sobol sequence; each space (the
neurons of one layer) has its own sequence. Beyond `CHUNK` coordinates further sequences are joined by a random
permutation of their points (Latin supercube sampling, Owen 1998), so that memory stays bounded.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy, deepcopy
from typing import Any

import numpy as np

from tp_compiler.evaluate.array_types import Array
from tp_compiler.shapes import Float

CHUNK = 128


class JointPoints:
    """The points of several replicates, side by side: `draw(k)` gives an array (replicates, samples, k)."""

    def __init__(self, parts: Sequence[Points]):
        self.parts = list(parts)

    def fork(self) -> JointPoints:
        """A copy that continues drawing separately from here."""
        return JointPoints([p.fork() for p in self.parts])

    def one(self, replicate: int) -> JointPoints:
        """The same points, of one replicate alone."""
        return JointPoints(self.parts[replicate : replicate + 1])

    def draw(self, count: int) -> Float[Array, "replicates samples {count}"]:
        return np.stack([p.draw(count) for p in self.parts])


class Points:
    """`draw(k)` gives the next k independent N(0, 1) coordinates, an array of shape (samples, k).

    With a `half`, 0 or 1, that half of them, which is also a net.
    """

    def __init__(self, samples: int, seed: tuple[int, ...], bound: int, plain: bool = False, half: int | None = None):
        self.samples = samples
        self.rows = slice(None) if half is None else slice(half * samples // 2, (half + 1) * samples // 2)
        self.generator = np.random.Generator(np.random.PCG64(list(seed)))
        self.bound = max(1, bound)  # an upper bound on how many coordinates will be drawn
        self.plain = plain
        self.drawn = 0
        self.chunk: Any = np.empty((samples, 0))[self.rows]
        self.at = 0

    def fork(self) -> Points:
        """A copy that continues drawing separately from here."""
        other = copy(self)
        other.generator = deepcopy(self.generator)
        return other

    def draw(self, count: int) -> Float[Array, "samples {count}"]:
        if self.plain:
            return self.generator.standard_normal((self.samples, count))[self.rows]
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
        from scipy.special import ndtri
        from scipy.stats import qmc

        size = max(1, min(CHUNK, self.bound - self.drawn))
        uniform = qmc.Sobol(size, scramble=True, rng=self.generator).random(self.samples)
        if self.drawn:
            uniform = self.generator.permutation(uniform, axis=0)
        # SciPy's points are multiples of 2^-30 and can be 0: the centre of each cell has a finite quantile.
        self.chunk = ndtri(uniform[self.rows] + 2.0**-31)
        self.drawn += size
        self.at = 0
