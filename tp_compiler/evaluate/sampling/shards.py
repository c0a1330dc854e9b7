"""Particles of one replicate in shards, here or in several processes (torch.distributed).

The rows of all arrays are the shards of one replicate that this process has. What happens to a particle happens in its shard, and
averages over the shards are gathered from all processes and added in a fixed order: the digits depend on the number of
shards, never on the number of processes. Matrices have blocks of entries, and an average over copies has its pairs, within
a shard.
"""

from __future__ import annotations

import numpy as np

from tp_compiler.diagnostics import Diagnostic, ProgramError
from tp_compiler.evaluate.array_types import Array
from tp_compiler.evaluate.backend import ArrayBackend, host
from tp_compiler.evaluate.process_group import processes
from tp_compiler.evaluate.sampling import heavy_tails
from tp_compiler.evaluate.sampling.averages import Averages
from tp_compiler.evaluate.sampling.points import Chunk, Points, cells, copied, normal

#: Particles of a shard in the smallest run of a ladder, half of which see the bias.
FEWEST = 16


class Shards(Averages):
    """The averages over the particles of `count` shards, of which every process has equally many."""

    def __init__(self, count: int, backend: ArrayBackend):
        self.processes, self.backend = processes(), backend
        self.count = count
        if count % self.processes.size:
            found = f"{count} shards cannot be divided among {self.processes.size} processes"
            raise ProgramError([Diagnostic("NX432", found, None, "choose a multiple of their number for `--shards`")])
        self.rows = count // self.processes.size

    @property
    def own(self) -> range:
        """The numbers of the shards of this process."""
        return range(self.rows * self.processes.rank, self.rows * (self.processes.rank + 1))

    def joined(self, rows: Array) -> Array:
        total = self._all(rows)
        while len(total) > 1:
            total = total[::2] + total[1::2]
        return self._shared(total / self.count)

    def largest(self, rows: Array) -> Array:
        return self._shared(self._all(rows).max(axis=0, keepdims=True))

    def first(self, problem: Diagnostic | None) -> Diagnostic | None:
        found = self.processes.gathered(np.array([problem is not None]))
        if not np.any(found):  # numbers are gathered in a fraction of the time
            return None
        return next(one for one in self.processes.gathered(problem) if one is not None)

    def tails(self, own: list[dict[str, Array]]) -> dict[str, Array]:
        """What all shards show of the errors of averages (`batch.Replicated.tails`)."""
        found = [one for some in self.processes.gathered(own) for one in some]
        keys = [key for key in found[0] if all(key in one for one in found)]
        return {key: self._tail(key, [one[key] for one in found]) for key in keys}

    def _tail(self, key: str, parts: list[Array]) -> Array:
        if key.startswith("counted"):  # all points are a net too: one of them is too many or too few
            return np.max(parts, axis=0) / self.count
        return np.array([heavy_tails.joined(steps) for steps in zip(*parts, strict=True)])

    def _all(self, rows: Array) -> Array:
        found: Array = np.concatenate(self.processes.gathered(host(rows)))
        return found

    def _shared(self, one: Array) -> Array:
        return self.backend.array(np.repeat(one, self.rows, axis=0))


class ShardPoints(Points):
    """The points of one shard, a part of those of the replicate: of `samples` each in `count` shards.

    The first sequence is that of a run without shards. Others are joined by a permutation within the shard.
    """

    def __init__(
        self, samples: int, seed: tuple[int, ...], bound: int, plain: bool, half: int | None, backend: ArrayBackend,
        shard: int, count: int,
    ):  # fmt: skip
        super().__init__(samples, seed, bound, plain, half, None, backend)
        rows = range(samples)[self.rows]
        self.first, self.own = rows.start * count + shard * len(rows), len(rows)
        self.joining = np.random.Generator(np.random.PCG64([*seed, 15485863, shard]))
        if plain:
            self.generator = self.joining

    def fork(self) -> Points:
        other = super().fork()
        assert isinstance(other, ShardPoints)
        other.joining = copied(self.joining)
        return other

    def _next(self, size: int) -> Chunk:
        from scipy.stats import qmc

        engine = qmc.Sobol(size, scramble=True, rng=self.generator)
        if self.first:
            engine.fast_forward(self.first)
        points = cells(engine.random(self.own))
        if self.drawn:
            points = self.joining.permutation(points, axis=0)
        return lambda first, last: normal(points[:, first:last])
