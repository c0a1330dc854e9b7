"""Where a traced program repeats itself: consecutive blocks of statements that are alike word by word."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np

from tp_compiler.torch.dimensions import Dimension
from tp_compiler.torch.lines import DeclaredEntry, StatementLine, in_module_list, split

#: A statement for one position of an axis.
ONE_POSITION = re.compile(r"for \w+ in (\d+)\.\.\1 \{ ")
#: Loops that save fewer statements are not worth it.
_LEAST = 3
_SAME = ("same", None)
Kind = tuple[str, Any]


@dataclass(eq=False)
class RepeatedBlocks:
    """Consecutive blocks, and what the words of the first one are in all of them.

    words     (statement, word) -> kind: `own` value of the block, `carried` from the block before, `member` parameter of
              each block, `alias` of data that all have, `number` that goes up by equal steps
    axes      axes of the first block, with those that other blocks have in their place
    """

    start: int
    period: int
    count: int
    words: dict[tuple[int, int], Kind] = field(default_factory=dict)
    carried: dict[int, str] = field(default_factory=dict)  # statement -> what the first block has from before the loop
    members: dict[str, tuple[str, ...]] = field(default_factory=dict)
    aliases: dict[str, str] = field(default_factory=dict)
    axes: dict[tuple[Dimension, Dimension], None] = field(default_factory=dict)

    @property
    def merges(self) -> list[tuple[Dimension, Dimension]]:
        """Axes that have to become the same."""
        return [(one, other) for one, other in self.axes if one is not other]

    @property
    def end(self) -> int:
        return self.start + self.period * self.count

    def line(self, block: int, statement: int) -> int:
        return self.start + block * self.period + statement


class RepeatFinder:
    """The statements of a program as words, and the blocks that repeat."""

    def __init__(
        self,
        lines: Sequence[StatementLine],
        entries: Mapping[str, DeclaredEntry],
        axes: Mapping[Dimension, Sequence[str]],
        loops: set[Dimension],
    ):
        self.lines, self.entries, self._loops = lines, entries, loops
        self.words = [split(line.text) for line in lines]
        self.bound: dict[str, list[int]] = {}
        self._axes = {name: (d, k) for d, known in axes.items() for k, name in enumerate(known)}
        for k, line in enumerate(lines):
            if line.name:
                self.bound.setdefault(line.name, []).append(k)

    def found(self) -> Iterator[RepeatedBlocks]:
        """RepeatedBlocks that can be folded, those that save most first."""
        for start, period, count in self._candidates():
            blocks = self._examined(RepeatedBlocks(start, period, count))
            if blocks is not None:
                yield blocks

    # ------------------------------------------------------------------------------------------------- candidates

    def _skeleton(self, k: int) -> Any:
        """A statement without its names and positions."""
        if self.lines[k].is_output:
            return k
        found: list[Any] = []
        header = self.header(k)
        depth = 0
        for q, word in enumerate(self.words[k]):
            depth += (word == "[") - (word == "]")
            if word in self._axes:
                dimension, order = self._axes[word]
                found.append((dimension.sizes, order))
            elif word in self.bound or word in self.entries:
                found.append("name")
            else:
                found.append("number" if word.isdigit() and (depth > 0 or q < header) else word)
        return tuple(found)

    def _candidates(self) -> Iterator[tuple[int, int, int]]:
        known: dict[Any, int] = {}
        ids = np.array([known.setdefault(self._skeleton(k), len(known)) for k in range(len(self.lines))], int)
        found = []
        for period in range(1, len(ids) // 2 + 1):
            alike = (ids[:-period] == ids[period:]).astype(int)
            edges = np.flatnonzero(np.diff(np.concatenate([[0], alike, [0]])))
            for first, last in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
                count, rest = divmod(last - first + period, period)
                if count > 1:
                    found.append((-period * (count - 1), period, first, count, rest))
        for _, period, first, count, rest in sorted(found):
            starts = sorted(range(first, first + rest + 1), key=lambda s: -self._aligned(s, period, count))
            for start in starts:
                for skipped, fewer in ((0, 0), (1, 1), (0, 1), (1, 2)):
                    least = 1 if period == 1 and self.header(first) else _LEAST
                    if count - fewer > 1 and period * (count - fewer - 1) >= least:
                        yield start + skipped * period, period, count - fewer

    def _aligned(self, start: int, period: int, count: int) -> int:
        """How many blocks begin where another module of a list does."""
        ends = [start + k * period for k in range(count)]
        return sum(k == 0 or _head(self.lines[k - 1].path) != _head(self.lines[k].path) for k in ends)

    # --------------------------------------------------------------------------------------------- are they alike

    def _examined(self, blocks: RepeatedBlocks) -> RepeatedBlocks | None:
        depth = 0
        for j in range(blocks.period):
            rows = [self.words[blocks.line(k, j)] for k in range(blocks.count)]
            header = self.header(blocks.line(0, j))
            for q, words in enumerate(zip(*rows, strict=True)):
                depth += (words[0] == "{") - (words[0] == "}")
                kind = self._kind(blocks, words)
                if kind is None or depth < 0:
                    return None
                if kind[0] == "number" and q < header and (blocks.period > 1 or kind[1][1] != 1):
                    return None
                if kind != _SAME:
                    blocks.words[j, q] = kind
        return blocks if depth == 0 and self._consistent(blocks) else None

    def _kind(self, blocks: RepeatedBlocks, words: tuple[str, ...]) -> Kind | None:
        first, alike = words[0], len(set(words)) == 1
        if first in self._axes:
            for word in words[1:]:
                blocks.axes[self._axes[first][0], self._axes[word][0]] = None
            return _SAME
        if first in self.bound or first in self.entries:
            return self._common(blocks, first) if alike else self._name(blocks, words)
        if alike:
            return _SAME
        numbers = [int(word) for word in words]
        steps = {b - a for a, b in pairwise(numbers)}
        return ("number", (numbers[0], steps.pop())) if len(steps) == 1 else None

    def header(self, k: int) -> int:
        """How many words of a statement for one position come before what it binds."""
        found = ONE_POSITION.match(self.lines[k].text)
        return len(split(found[0])) if found else 0

    def _common(self, blocks: RepeatedBlocks, name: str) -> Kind | None:
        """A name that all blocks have: it is bound outside, or put together by them, position by position."""
        inside = [k for k in self.bound.get(name, []) if blocks.start <= k < blocks.end]
        joined = blocks.period == 1 and self.header(blocks.start) and self.words[blocks.start].count(name) == 1
        return _SAME if joined or not inside else None

    def _name(self, blocks: RepeatedBlocks, words: tuple[str, ...]) -> Kind | None:
        homes = [[divmod(b - blocks.start, blocks.period) for b in self.bound.get(word, [])] for word in words]
        places = [tuple(j for _, j in home) for home in homes]
        if all(homes) and len(set(places)) == 1 and _in_blocks(homes, 0):
            return ("own", places[0][-1])
        early = all(b < blocks.start for b in self.bound.get(words[0], []))
        if early and all(homes[1:]) and len(set(places[1:])) == 1 and _in_blocks(homes[1:], 0):
            return ("carried", (places[1][-1], words[0]))
        if all(word in self.entries for word in words):
            return self._declared(words)
        return None

    def _declared(self, words: tuple[str, ...]) -> Kind | None:
        found = [self.entries[word] for word in words]
        if len({(e.keyword, e.law, e.power, len(e.indices), e.origins == ()) for e in found}) > 1:
            return None
        if found[0].keyword == "data":
            values = [np.asarray(e.values) for e in found]
            if len({v.shape for v in values}) > 1:
                return None
            if all(np.array_equal(v, values[0]) for v in values):
                return ("alias", words)
        elif len(set(words)) < len(words) or in_module_list([e.origins[0] for e in found]) is None:
            return None
        return ("member", words)

    def _consistent(self, blocks: RepeatedBlocks) -> bool:
        """Has every value one predecessor of its own shape, and every parameter one place?"""
        homes: dict[str, tuple[str, ...]] = {}
        for kind, what in blocks.words.values():
            if kind == "carried":
                j, first = what
                same = self._shape(first) == self.lines[blocks.start + j].shape
                if blocks.carried.setdefault(j, first) != first or not (same or blocks.merges):
                    return False
            if kind in ("member", "alias"):
                if any(homes.setdefault(word, what) != what for word in what):
                    return False
                if kind == "member":
                    blocks.members[what[0]] = what
                else:
                    blocks.aliases.update(dict.fromkeys(what[1:], what[0]))
        partners: dict[Dimension, set[Dimension]] = {}
        for one, other in blocks.axes:
            partners.setdefault(other, set()).add(one)
        if any(pair & self._loops for pair in map(set, blocks.merges)):
            return False
        return all(len(ones) == 1 for ones in partners.values())

    def _shape(self, name: str) -> tuple[Any, ...]:
        return self.lines[self.bound[name][0]].shape if name in self.bound else self.entries[name].shape


def _in_blocks(homes: Sequence[Sequence[tuple[int, int]]], first: int) -> bool:
    """Is each name bound in a block of its own, one after the other?"""
    return all(k == first + block for block, home in enumerate(homes) for k, _ in home)


def _head(path: str) -> str:
    """A module of a list, and the modules around it: `h.0` of `h.0.attn.c_proj`."""
    found = re.match(r"(.*?\.)?\d+(?=\.|$)", path)
    return found[0] if found else ""
