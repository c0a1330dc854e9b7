"""What every name of a program means: one symbol for all places that bind and read it, under the scoping of the checker.

A `def`, a function and an optimizer have names of their own, and see those around them; loops and training do not have their
own. A loop variable and an index of the same name are one symbol.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TypeAlias

from tp_compiler.editor.chunks import Chunk, placed
from tp_compiler.editor.uses import Enclosed, Imported, Item, Keyword, Mention, uses
from tp_compiler.frontend import syntax as ast

#: The names that every optimizer's body knows.
IMPLICIT = {
    "g": "one natural entry of the gradient",
    "p": "one natural entry of the parameter",
    "t": "the number of the update: 1, 2, ...",
}


@dataclass(slots=True)
class Occurrence:
    """Where a name stands. `binds`: what it is bound as, by the statement `at`; empty where it is read."""

    start: int
    end: int
    binds: str = ""
    at: tuple[int, int] = (0, 0)


@dataclass(frozen=True, slots=True)
class Home:
    """Where another file binds a name: the place, what it is bound as, and the statement."""

    path: str
    start: int
    end: int
    binds: str
    text: str


@dataclass(eq=False, slots=True)
class Symbol:
    """A name with all its places in the text, in the order in which the checker meets them.

    `owner`: the def whose name it is; `home`: where it comes from, if another file binds it.
    """

    name: str
    ket: bool
    owner: str = ""
    places: list[Occurrence] = field(default_factory=list)
    home: Home | None = None
    parameters: dict[str, Symbol] = field(default_factory=dict)

    @property
    def bindings(self) -> list[Occurrence]:
        return [p for p in self.places if p.binds]

    @property
    def what(self) -> str:
        """What it was bound as first."""
        return self.home.binds if self.home else next((p.binds for p in self.places if p.binds), "")

    @property
    def shown(self) -> str:
        return f"|{self.name}>" if self.ket else self.name

    def binding_before(self, offset: int) -> Occurrence | None:
        """The place that gives a name read at an offset its value: the last one before it, otherwise the first."""
        found = self.bindings
        before = [p for p in found if p.at[1] <= offset or p.start == offset]
        return before[-1] if before else found[0] if found else None


@dataclass(eq=False)
class NamesInScope:
    """The names of a scope; a body, of a def or of an optimizer called `owner`, sees those of the program around it."""

    owner: str = ""
    optimizer: bool = False
    around: NamesInScope | None = None
    start: int = 0
    end: int = 0
    kets: dict[str, Symbol] = field(default_factory=dict)
    others: dict[str, Symbol] = field(default_factory=dict)

    def table(self, ket: bool) -> dict[str, Symbol]:
        return self.kets if ket else self.others

    def find(self, name: str, space: str) -> Symbol | None:
        """The symbol that a name means here."""
        if space == "label":
            own = self.kets.get(name) or self.others.get(name)
            return own or (self.around.find(name, space) if self.around else None)
        return self.table(space == "ket").get(name) or (self.around.find(name, space) if self.around else None)

    def visible(self) -> Iterator[Symbol]:
        """The names that can be read here, inner ones first."""
        yield from self.kets.values()
        yield from self.others.values()
        if self.around is not None:
            hidden = {(s.ket, s.name) for s in (*self.kets.values(), *self.others.values())}
            yield from (s for s in self.around.visible() if (s.ket, s.name) not in hidden)


#: The names that an import brings; the second argument: a path in quotes, not a library.
Load: TypeAlias = Callable[[str, bool], Iterable[Symbol]]


class Symbols:
    """The symbols of a text. `load` gives those of imports."""

    def __init__(self, text: str, load: Load):
        self.text = text
        self.load = load
        self.top = NamesInScope(end=len(text))
        self.bodies: list[NamesInScope] = []
        self.imports: list[tuple[int, int, str, bool]] = []
        self.found: list[tuple[int, int, Symbol]] = []
        self._waiting: list[tuple[Mention, int, NamesInScope]] = []
        self._keywords: list[tuple[Keyword, int, NamesInScope]] = []
        self.chunks: list[tuple[int, Chunk]] = list(placed(text))
        for at, chunk in self.chunks:
            for item in uses(chunk):
                self._read(item, at, self.top)
        for mention, at, names in self._waiting:  # read above the line that binds it, or in vain
            symbol = names.find(mention.name, mention.space)
            if symbol is not None:
                self._place(symbol, mention, at)
        for keyword, at, names in self._keywords:
            function = names.find(keyword.function, "plain")
            symbol = function.parameters.get(keyword.name) if function is not None else None
            if symbol is not None:
                self._add(symbol, Occurrence(at + keyword.start, at + keyword.end))
        self.found.sort(key=lambda x: x[0])
        self._starts = [start for start, _, _ in self.found]

    # -- reading ------------------------------------------------------------------------------------------------
    def _read(self, item: Item, at: int, names: NamesInScope) -> None:
        if isinstance(item, Mention):
            if item.binds:
                self._bind(item, at, names)
            else:
                symbol = names.find(item.name, item.space)
                if symbol is None:
                    self._waiting.append((item, at, names))
                else:
                    self._place(symbol, item, at)
        elif isinstance(item, Keyword):
            self._keywords.append((item, at, names))
        elif isinstance(item, Imported):
            self._import(item, at, names)
        else:
            self._block(item, at, names)

    def _bind(self, mention: Mention, at: int, names: NamesInScope) -> None:
        table = names.table(mention.space == "ket")
        symbol = table.get(mention.name)
        if symbol is None or symbol.home is not None:
            symbol = table[mention.name] = Symbol(mention.name, mention.space == "ket", names.owner)
        self._place(symbol, mention, at)

    def _place(self, symbol: Symbol, mention: Mention, at: int) -> None:
        self._add(
            symbol,
            Occurrence(at + mention.start, at + mention.end, mention.binds, (at + mention.at[0], at + mention.at[1])),
        )

    def _add(self, symbol: Symbol, place: Occurrence) -> None:
        symbol.places.append(place)
        self.found.append((place.start, place.end, symbol))

    def _block(self, block: Enclosed, at: int, names: NamesInScope) -> None:
        inner = NamesInScope(block.name, block.optimizer, names, at + block.start, at + block.end)
        self.bodies.append(inner)
        for item in block.body:
            self._read(item, at, inner)
        parameters = {s.name: s for s in (*inner.kets.values(), *inner.others.values()) if s.what == "parameter"}
        function = names.others.get(block.name)
        if function is None or function.home is not None:
            function = names.others[block.name] = Symbol(block.name, False, names.owner)
        function.parameters = parameters

    def _import(self, item: Imported, at: int, names: NamesInScope) -> None:
        self.imports.append((at + item.start, at + item.end, item.path, item.quoted))
        for symbol in self.load(item.path, item.quoted):
            kept = Symbol(symbol.name, symbol.ket, home=symbol.home, parameters=symbol.parameters)
            names.table(symbol.ket).setdefault(symbol.name, kept)

    # -- answers ------------------------------------------------------------------------------------------------
    def at(self, offset: int) -> tuple[Symbol, Occurrence] | None:
        """The symbol at an offset, also directly after its last letter."""
        k = bisect_right(self._starts, offset)
        for start, end, symbol in reversed(self.found[max(0, k - 2) : k]):
            if start <= offset <= end:
                return symbol, next(p for p in symbol.places if p.start == start)
        return None

    def names_at(self, offset: int) -> NamesInScope:
        """The scope of a place."""
        inside = (n for n in self.bodies if n.start <= offset < n.end)
        return min(inside, key=lambda n: n.end - n.start, default=self.top)

    def chunk_at(self, offset: int) -> tuple[int, Chunk] | None:
        """The statement around a place, and where it starts."""
        k = bisect_right(self.chunks, offset, key=lambda c: c[0]) - 1
        return self.chunks[k] if k >= 0 else None

    def statement(self, place: Occurrence) -> str:
        """The text of the statement that binds a name."""
        return self.text[place.at[0] : place.at[1]]

    def exported(self, path: str) -> Iterator[Symbol]:
        """What another program gets that imports this file: everything at top level, outputs and training apart."""
        statements = ((at, s) for at, chunk in self.chunks for s in chunk.file.statements)
        training = [(at + s.span.start, at + s.span.end) for at, s in statements if isinstance(s, ast.Train)]
        for symbol in (*self.top.kets.values(), *self.top.others.values()):
            first = symbol.binding_before(len(self.text))
            if symbol.home is not None:
                yield symbol
            elif first is not None and first.binds != "output" and not any(a <= first.start < b for a, b in training):
                home = Home(path, first.start, first.end, first.binds, self.statement(first))
                yield Symbol(symbol.name, symbol.ket, home=home, parameters=symbol.parameters)
