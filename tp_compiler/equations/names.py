"""Names for equations: the source's where it has them, fresh ones elsewhere; SymPy symbols for indices."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import sympy as sp

from tp_compiler.equations.terms import Expr
from tp_compiler.ir import nodes as ir
from tp_compiler.ir.program import Program
from tp_compiler.ir.types import Index
from tp_compiler.ir.walk import reachable

#: node -> (source name, indices; an int fixes a position: `|h[i,1]> = ...` binds ("h", (i, 1)))
SourceNames = Mapping[ir.Node, tuple[str, tuple[Index | int, ...]]]

_SUBSCRIPT = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")


def index_symbol(name: str) -> Expr:
    return sp.Symbol(name, integer=True, positive=True)


def primed(symbol: Expr) -> Expr:
    return index_symbol(symbol.name + "′")


class Names:
    """Allocates symbols and labels; remembers sizes of indices."""

    def __init__(self, program: Program, nodes: Iterable[ir.Node]):
        self.sizes: dict[Expr, int] = {}
        self._symbols: dict[Index, Expr] = {}
        self._used: set[str] = set()
        self._labels: dict[bool, set[str]] = {True: set(), False: set()}
        self._counts: dict[str, int] = {}
        self.source = self._source(program)
        self._reserved = {name for name, _ in self.source.values()}
        self._reserved |= {n.symbol.name for n in nodes if isinstance(n, ir.InitialKet)}
        self._reserved |= {n.name for n in nodes if isinstance(n, ir.Array)}

    @staticmethod
    def _source(program: Program) -> SourceNames:
        """The names of the source; an output names what has no name yet."""
        names = dict(getattr(program, "names", {}) or {})
        for output in program.outputs:
            own = tuple(i for i in output.indices if i in output.node.type.indices)
            if set(own) == set(output.node.type.indices) and output.node not in names:
                names[output.node] = (output.name, own)
        return names

    def symbol(self, index: Index) -> Expr:
        """The SymPy symbol of an index. Names made up by the compiler (`k#1`) become a letter with a subscript."""
        if index not in self._symbols:
            base, _, fresh = index.name.partition("#")
            name = base if not fresh and index.name == base else base[:1]
            trial, k = name, 0
            while trial in self._used or (trial == name and "#" in index.name):
                k += 1
                trial = name + str(k).translate(_SUBSCRIPT)
            self._used.add(trial)
            self._symbols[index] = index_symbol(trial)
            self.sizes[self._symbols[index]] = index.size
        return self._symbols[index]

    def local(self, symbols: Iterable[Expr]) -> dict[Expr, Expr]:
        """i for i₂, where an equation has no other i: its own indices are its own business."""
        taken = {s.name for s in symbols}
        mapping = {}
        for s in sorted(symbols, key=str):
            plain = s.name.rstrip("₀₁₂₃₄₅₆₇₈₉")
            if plain != s.name and plain not in taken:
                taken.add(plain)
                mapping[s] = index_symbol(plain)
                self.sizes.setdefault(mapping[s], self.sizes[s])
        return mapping

    def prime(self, symbol: Expr) -> Expr:
        """i′ for i, over the same axis."""
        other = primed(symbol)
        self.sizes.setdefault(other, self.sizes[symbol])
        return other

    def label(self, name: str, positions: tuple[Index | int, ...], is_ket: bool) -> str:
        """A label no other ket (or scalar) has: a name bound again gets a number."""
        pattern = ",".join(str(p) if isinstance(p, int) else ":" for p in positions)
        suffix = f"[{pattern}]" if any(isinstance(p, int) for p in positions) else ""
        labels, trial, k = self._labels[is_ket], name, 1
        while trial + suffix in labels or (k > 1 and trial in self._reserved):
            k += 1
            trial = f"{name}{'_' if name[-1:].isdigit() else ''}{k}"
        labels.add(trial + suffix)
        return trial + suffix

    def fresh(self, stem: str, is_ket: bool) -> str:
        """z1, z2, ...: not a name of the source."""
        while True:
            self._counts[stem] = self._counts.get(stem, 0) + 1
            trial = f"{stem}{self._counts[stem]}"
            if trial not in self._reserved and trial not in self._labels[is_ket]:
                self._labels[is_ket].add(trial)
                return trial


def uses(program: Program) -> tuple[list[ir.Node], dict[ir.Node, int]]:
    """The nodes in program order, and by how many nodes each is used."""
    nodes = reachable(o.node for o in program.outputs)
    count: dict[ir.Node, int] = dict.fromkeys(nodes, 0)
    for node in nodes:
        for a in dict.fromkeys(node.args):
            count[a] += 1
    return nodes, count
