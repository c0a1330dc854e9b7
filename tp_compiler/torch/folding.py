"""Repeated blocks of a traced program become loops, and their parameters families with an index for the block."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from tp_compiler.torch.dimensions import Dimension
from tp_compiler.torch.lines import DeclaredEntry, StatementLine, in_module_list, ranged, shared_name, split
from tp_compiler.torch.names import TextNames
from tp_compiler.torch.repeats import RepeatedBlocks, RepeatFinder


class Merged(Exception):
    """Axes of blocks that are alike were made the same: write the program again."""


class FoldedText:
    """The statements and declarations of a program, folded as long as something repeats."""

    def __init__(self, lines: Sequence[StatementLine], entries: Sequence[DeclaredEntry], names: TextNames):
        self.lines, self.names = list(lines), names
        self.entries = {e.name: e for e in entries}
        self._members: dict[str, tuple[str, int]] = {}
        self._loops: set[Dimension] = set()
        self._renamed: list[dict[str, str]] = []  # statements, by every loop that was made
        while self._fold():
            pass

    def _fold(self) -> bool:
        repeats = RepeatFinder(self.lines, self.entries, self.names.axes, self._loops)
        blocks = next(repeats.found(), None)
        if blocks is None:
            return False
        if blocks.merges:
            for one, other in blocks.merges:
                one.root().merge(other.root())
            raise Merged
        self.lines = _BlockLoop(self, repeats, blocks).folded()
        return True

    def place(self, name: str) -> tuple[str, tuple[int, ...]]:
        """The declaration that holds a parameter, and its positions in it."""
        positions: tuple[int, ...] = ()
        while name in self._members:
            name, k = self._members[name]
            positions = (k, *positions)
        return name, positions

    def called(self, name: str) -> str:
        """The name that a statement has now."""
        for renamed in self._renamed:
            name = renamed.get(name, name)
        return name

    def rename(self, renamed: dict[str, str]) -> None:
        """Statements of blocks have one name in their loop."""
        self._renamed.append(renamed)

    def join(self, words: Sequence[str], variable: str) -> str:
        """Parameters of several blocks become one family; its name."""
        found = [self.entries[word] for word in words]
        origins = tuple(name for e in found for name in e.origins)
        self.names.taken.difference_update(words)
        short = shared_name([e.origins[0] for e in found] if origins else words)
        name = self.names.of_weight(short) if origins else self.names.unique(short)
        values = None if found[0].values is None else np.stack([e.values for e in found])  # type: ignore[misc]
        made = replace(
            found[0], name=name, indices=(variable, *found[0].indices), values=values, origins=origins,
            given=self.names.unique(f"{name}_initial") if values is not None and origins else "",
        )  # fmt: skip
        kept = {key: e for key, e in self.entries.items() if key not in words[1:]}
        self.entries = {name if key == words[0] else key: made if key == words[0] else e for key, e in kept.items()}
        self._members.update({word: (name, k + 1) for k, word in enumerate(words)})
        return name

    def drop(self, names: Iterable[str]) -> None:
        """Data that are the same as others."""
        for name in names:
            del self.entries[name]

    def loop_variable(self, count: int, axis: bool) -> str:
        """The name of a loop, and of the axis of its families."""
        name = self.names.letter("l")
        if axis:
            dimension = Dimension((count, count))
            self._loops.add(dimension)
            self.names.axes[dimension] = [name]
        return name


class _BlockLoop:
    """One run of blocks, written as a loop."""

    def __init__(self, folding: FoldedText, repeats: RepeatFinder, blocks: RepeatedBlocks):
        self.folding, self.blocks, self.names = folding, blocks, folding.names
        self.lines, self.words, self.bound = repeats.lines, repeats.words, repeats.bound
        self.inner = [*range(blocks.start, blocks.start + blocks.period)]
        self.outside = [k for k in range(len(self.lines)) if not blocks.start <= k < blocks.end]
        self.header = repeats.header(blocks.start) if blocks.period == 1 else 0
        self._handed: dict[int, str] = {}  # statement -> the name of what blocks hand on
        self._renamed: dict[str, str] = {}
        self.read = {word for k in self.outside for word in self.words[k]}

    def folded(self) -> list[StatementLine]:
        """All statements of the program, with this loop instead of its blocks."""
        blocks, names = self.blocks, self.names
        versions = {} if self.header else self._versions()
        stored = {name for name, all_of_it in versions.items() if self.read & set(all_of_it[:-1])}
        axis = bool(stored or blocks.members)
        first = int(self.words[blocks.start][6]) if self.header else 1
        letter = self.folding.loop_variable(blocks.count, axis) if axis or not self.header else ""
        variable = self.words[blocks.start][2] if self.header else letter
        for found in versions.values():
            names.taken.difference_update(found)
        own = {name: names.unique(shared_name(found)) for name, found in versions.items()}
        histories = {name: names.unique(f"{own[name]}_all") for name in versions if name in stored}
        families = {name: self.folding.join(found, letter) for name, found in blocks.members.items()}
        self.folding.drop(blocks.aliases)
        before, after = self._carries(own)
        self.folding.rename({old: own[name] for name, found in versions.items() for old in found} | self._renamed)
        body = [self._statement(j, own, families, _LoopCounter(variable, first)) for j in range(blocks.period)]
        after += [self._kept(name, own[name], history, variable) for name, history in histories.items()]
        places = self._places(versions, own, histories, families)
        rest = [self._elsewhere(k, places) for k in self.outside]
        if self.header:
            loop = [replace(body[0], text=self._over_all(body[0].text))]
        else:
            title, body = self._titled(body)
            after = [replace(line, path=body[-1].path) for line in after]
            loop = [
                *before,
                StatementLine(title, f"for {variable} in 1..{blocks.count} {{"),
                *body,
                *after,
                StatementLine("", "}"),
            ]
        return [*rest[: blocks.start], *loop, *rest[blocks.start :]]

    def _versions(self) -> dict[str, list[str]]:
        """The names of what the first block binds, and of the same in each block."""
        found = {}
        for j, k in enumerate(self.inner):
            if self.lines[k].name:
                found[self.lines[k].name] = [self.lines[self.blocks.line(b, j)].name for b in range(self.blocks.count)]
        return found

    def _carries(self, own: dict[str, str]) -> tuple[list[StatementLine], list[StatementLine]]:
        """What a value that blocks hand on is before the loop, and how it changes after each block."""
        before, after = [], []
        for j, first in self.blocks.carried.items():
            line = self.lines[self.inner[j]]
            name = self._handed[j] = own[line.name]
            made = min(self.bound[line.name]) - self.blocks.start
            uses = [at for (at, _), kind in self.blocks.words.items() if kind == ("carried", (j, first))]
            if max(uses) > made or (len(self.bound[line.name]) > 1 and max(uses) == made):
                own[line.name] = self.names.unique(f"{name}_next")
                after.append(_copied(line, name, own[line.name]))
            if self._may_be_renamed(first, len(uses)):
                self._renamed[first] = name
                self.names.taken.discard(first)
            else:
                before.append(_copied(line, name, first))
        return before, after

    def _may_be_renamed(self, first: str, uses: int) -> bool:
        """Is a value needed before the loop and by its first block only?"""
        homes = self.bound.get(first, [])
        inside = sum(self.words[k].count(first) for k in range(self.blocks.start, self.blocks.end))
        later = any(first in self.words[k] for k in self.outside if k >= self.blocks.end)
        if len(homes) != 1 or inside != uses or later:
            return False
        depths = np.cumsum(
            [self.words[k].count("{") - self.words[k].count("}") for k in range(homes[0], self.blocks.start)]
        )
        return not depths.any()

    def _statement(self, j: int, own: dict[str, str], families: dict[str, str], counter: _LoopCounter) -> StatementLine:
        """Statement j of the first block, for every block."""
        words = list(self.words[self.inner[j]])
        for q, word in enumerate(words):
            kind, what = self.blocks.words.get((j, q), ("same", None))
            match kind:
                case "own":
                    words[q] = own[word]
                case "carried":
                    words[q] = self._handed[what[0]]
                case "member":
                    _index(words, q, families[word], counter.at(1, 1))
                case "number" if q >= self.header:
                    words[q] = counter.at(*what)
        line = self.lines[self.inner[j]]
        return replace(line, text="".join(words), name=own.get(line.name, line.name))

    def _over_all(self, text: str) -> str:
        words = split(text)
        last = int(words[6]) + self.blocks.count - 1
        return "".join([*words[:9], str(last), *words[10:]])

    def _kept(self, old: str, name: str, history: str, variable: str) -> StatementLine:
        """A value of every block, for those that need it later."""
        line = self.lines[self.bound[old][0]]
        words = split(line.bound)
        _index(words, words.index(old), history, variable)
        return StatementLine(line.path, f"{''.join(words)} = {line.bound_as(name)}", history)

    def _places(
        self, versions: dict[str, list[str]], own: dict[str, str], histories: dict[str, str], families: dict[str, str]
    ) -> dict[str, tuple[str, int]]:
        """What the names of the blocks are outside the loop: a name, and a position or 0."""
        found = {other: (one, 0) for other, one in self.blocks.aliases.items()}
        for name, all_of_it in versions.items():
            found[all_of_it[-1]] = (own[name], 0)
            if name in histories:
                found.update({n: (histories[name], k + 1) for k, n in enumerate(all_of_it)})
        for name, members in self.blocks.members.items():
            found.update({n: (families[name], k + 1) for k, n in enumerate(members)})
        return found

    def _elsewhere(self, k: int, places: dict[str, tuple[str, int]]) -> StatementLine:
        words = list(self.words[k])
        for q, word in enumerate(words):
            name, position = places.get(word, (word, 0)) if word not in self._renamed else (self._renamed[word], 0)
            if position:
                _index(words, q, name, str(position))
            else:
                words[q] = name
        line = self.lines[k]
        return replace(line, text="".join(words), name=self._renamed.get(line.name, line.name))

    def _titled(self, body: list[StatementLine]) -> tuple[str, list[StatementLine]]:
        """The statements of a loop, with the modules as seen from the blocks; and the blocks' modules."""
        heads: list[str] = []
        found = []
        for j, line in enumerate(body):
            paths = [self.lines[self.blocks.line(k, j)].path for k in range(self.blocks.count)]
            numbered = in_module_list(paths)
            if numbered is not None:
                before, after, numbers = numbered
                heads = heads or [f"{before}{k}" for k in numbers]
                line = replace(line, path=after.lstrip(".") or before.rstrip("."))
            found.append(line)
        return ranged(heads), found


class _LoopCounter:
    """Numbers that go up with a loop from `first`."""

    def __init__(self, variable: str, first: int):
        self.variable, self.first = variable, first

    def at(self, start: int, step: int) -> str:
        rest = start - step * self.first
        if step == 0:
            return str(start)
        if step < 0:
            times = self.variable if step == -1 else f"{-step} * {self.variable}"
            return f"{rest} - {times}"
        times = self.variable if step == 1 else f"{step} * {self.variable}"
        return times if rest == 0 else f"{times} {'+' if rest > 0 else '-'} {abs(rest)}"


def _copied(line: StatementLine, name: str, value: str) -> StatementLine:
    return StatementLine(line.path, f"{line.bound_as(name)} = {line.bound_as(value)}", name, line.shape)


def _index(words: list[str], q: int, name: str, position: str) -> None:
    """Writes a member of a family for a name."""
    if words[q + 1 : q + 2] == ["["]:
        words[q], words[q + 1] = f"{name}[{position},", ""
    else:
        words[q] = f"{name}[{position}]"
