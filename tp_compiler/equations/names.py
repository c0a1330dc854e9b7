"""Names for equations: those of the source if it has them, otherwise new ones; SymPy symbols for indices.

The cotangent of h is called dh. In a training loop t counts the updates so far, 0, 1, ..., T; data
over `step` are read as s_t.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Set

import sympy as sp

from tp_compiler.equations.terms import Expr, like
from tp_compiler.ir import nodes as ir
from tp_compiler.ir.program import Program
from tp_compiler.ir.types import Index

Positions = tuple[Index | int, ...]
#: node -> (source name, indices; an int fixes a position: `|h[i,1]> = ...` binds ("h", (i, 1)))
SourceNames = Mapping[ir.Node, tuple[str, Positions]]

_DIGITS = "₀₁₂₃₄₅₆₇₈₉"
_SUBSCRIPT = str.maketrans("0123456789", _DIGITS)
#: In the names of indices that the compiler has made up; no equation is stated with them.
_FRESH = "·"
#: Marks of an index that was renamed: it runs over the same axis.
_MARKS = "\u0303′"
#: The axis of the training clock; the language reserves its name.
_STEP = "step"
_TIMES = ("t", "τ", "k", "n", "T")
_EARLIER = ("s", "r", "ς", "m", "S")


def index_symbol(name: str) -> Expr:
    return sp.Symbol(name, integer=True, positive=True)


def time_symbol(name: str) -> Expr:
    """A number of updates: 0, 1, ..."""
    return sp.Symbol(name, integer=True, nonnegative=True)


def is_time(index: Index) -> bool:
    return index.axis.name == _STEP


class Names:
    """Allocates symbols and labels; remembers sizes of indices."""

    def __init__(
        self,
        program: Program,
        nodes: Iterable[ir.Node],
        states: Iterable[ir.State] = (),
        moving: Set[ir.Node] = frozenset(),
    ):
        nodes = list(nodes)
        self.sizes: dict[Expr, int] = {}
        self.axes: dict[Expr, str] = {}
        self._symbols: dict[Index, Expr] = {}
        self._used: set[str] = set()
        self._letters: dict[str, tuple[str, int]] = {}  # spelling of an index -> its range
        self._labels: dict[bool, set[str]] = {True: set(), False: set()}
        self._counts: dict[str, int] = {}
        self.source = self._source(program, moving)
        self.cotangents = program.cotangents
        self._reserved = {name for name, _ in self.source.values()}
        self._reserved |= {n.symbol.name for n in nodes if isinstance(n, ir.InitialKet)}
        self._reserved |= {n.name for n in nodes if isinstance(n, ir.Array)}
        #: the families of initial kets that are the values at t = 0 of kets in training
        self.starts = {s.init.symbol for s in states if isinstance(s.init, ir.InitialKet) and s.name.startswith("|")}
        self.time, self.earlier = time_symbol(_TIMES[0]), time_symbol(_EARLIER[0])
        if program.loop is not None:
            self._set_clock(program.loop.index, nodes)

    def _set_clock(self, index: Index, nodes: list[ir.Node]) -> None:
        names = {i.name.partition("#")[0] for n in nodes for i in n.type.indices if not is_time(i)}
        taken = names | {name[:1] for name in names} | self._reserved
        chosen = [next(n for n in names if n not in taken) for names in (_TIMES, _EARLIER)]
        self.time, self.earlier = map(time_symbol, chosen)
        self._symbols[index] = self.time
        self._used.update(chosen)
        for symbol in (self.time, self.earlier):
            self.sizes[symbol], self.axes[symbol] = index.size, _STEP
            self._letters[symbol.name] = (_STEP, index.size)

    @staticmethod
    def _source(program: Program, moving: Set[ir.Node]) -> SourceNames:
        """The names of the source; an output names a value that has no name yet. An output after the loop is a value at its end, and
        does not name the value at every step; one over more indices than its value has is a separate statement."""
        names = dict(program.names)
        for output in program.outputs:
            declared = {i for i in output.indices if not is_time(i)}
            apart = output.node in moving or declared != {i for i in output.node.type.indices if not is_time(i)}
            if apart and names.get(output.node, ("",))[0] == output.name:
                del names[output.node]
        for output in program.outputs:
            node = output.node.args[0] if isinstance(output.node, ir.Trace) else output.node
            own = tuple(i for i in output.indices if node is output.node or not is_time(i))
            if set(own) == set(node.type.indices) and node not in names and output.node not in moving:
                names[node] = (output.name, own)
        return names

    def primal(self, node: ir.Node) -> ir.Node | None:
        """The node of which a node is the cotangent: the first that the source names or declares, otherwise the first."""
        direct = [primal for primal, _ in self.cotangents.get(node, ())]
        found = [n for primal in direct for n in (primal, _base(primal))]
        return next((p for p in found if self.is_named(p)), found[0] if found else None)

    def is_named(self, node: ir.Node | None) -> bool:
        """Does the source name this, or declare it?"""
        return node in self.source or isinstance(node, ir.InitialKet | ir.Carry)

    def has_name(self, node: ir.Node) -> bool:
        """Does the source name this node, or the one of which it is the cotangent?"""
        return node in self.source or (node in self.cotangents and self.is_named(self.primal(node)))

    # -- indices ------------------------------------------------------------------------------------------------
    def symbol(self, index: Index) -> Expr:
        """The SymPy symbol of an index. Names made up by the compiler (`k#1`) become letters when an equation is stated."""
        if index not in self._symbols:
            base, _, fresh = index.name.partition("#")
            name = self.time.name if is_time(index) else base[:1] if fresh else base
            if is_time(index) and not fresh:  # to the last update only, where data end with it
                name = next((n for n in _TIMES if n not in self._used | self._reserved), name)
            trial, k = name, 0
            while trial in self._used or (trial == name and fresh):
                k += 1
                trial = f"{name}{_FRESH}{k}"
            self._used.add(trial)
            if "#" not in index.name:
                self._letters[trial] = (index.axis.name, index.size)
            self._symbols[index] = time_symbol(trial) if is_time(index) else index_symbol(trial)
            self.sizes[self._symbols[index]] = index.size
            self.axes[self._symbols[index]] = index.axis.name
        return self._symbols[index]

    def limits(self, index: Index) -> tuple[Expr, int, int]:
        """A sum over an index: 1 to its size, for the clock 0 to the last step."""
        symbol = self.symbol(index)
        return (symbol, 0, index.size - 1) if is_time(index) else (symbol, 1, index.size)

    def local(self, symbols: Iterable[Expr]) -> dict[Expr, Expr]:
        """i for i·2 if an equation has no other i: names of bound indices are local to an equation."""
        symbols = list(symbols)
        taken = {s.name for s in symbols if _FRESH not in s.name}
        mapping = {}
        for s in sorted((s for s in symbols if s.name not in taken), key=str):
            plain = self.plain(s, taken)
            taken.add(plain.name)
            if plain != s:
                mapping[s] = plain
        return mapping

    def plain(self, symbol: Expr, taken: Iterable[str] = ()) -> Expr:
        """The first of i, i₂, i₃, ... that is not taken and denotes no other axis anywhere."""
        base = symbol.name.partition(_FRESH)[0].rstrip(_DIGITS + _MARKS)
        axis, taken, k = self._axis_of(symbol), set(taken), 1
        while True:
            name = base + (str(k).translate(_SUBSCRIPT) if k > 1 else "")
            if name not in taken and self._letters.setdefault(name, axis) == axis:
                return self._same(symbol, like(symbol, name))
            k += 1

    def _axis_of(self, symbol: Expr) -> tuple[str, int]:
        """The range of an index, whatever marks renaming has added."""
        while symbol not in self.sizes and symbol.name[-1:] in _MARKS:
            symbol = like(symbol, symbol.name[:-1])
        return self.axes[symbol], self.sizes[symbol]

    def prime(self, symbol: Expr) -> Expr:
        """i′ for i, over the same axis."""
        return self._same(symbol, like(symbol, symbol.name + "′"))

    def _same(self, old: Expr, new: Expr) -> Expr:
        axis, size = self._axis_of(old)
        self.sizes.setdefault(new, size)
        self.axes.setdefault(new, axis)
        return new

    # -- labels -------------------------------------------------------------------------------------------------
    def label(self, name: str, positions: Positions, is_ket: bool, timed: bool = False) -> str:
        """A label that no other ket (or scalar) has: a rebound name gets a number. `timed`: t comes before the other indices."""
        pattern = ",".join([":"] * timed + [str(p) if isinstance(p, int) else ":" for p in positions])
        suffix = f"[{pattern}]" if any(isinstance(p, int) for p in positions) else ""
        labels, trial, k = self._labels[is_ket], name, 1
        while trial + suffix in labels or (k > 1 and trial in self._reserved):
            k += 1
            trial = name + ("′" * (k - 1) if name[-1:].isdigit() else str(k))
        labels.add(trial + suffix)
        return trial + suffix

    def claim(self, label: str, is_ket: bool) -> bool:
        """The label for a whole family whose members are named one by one; False if something else has it."""
        free = label not in self._labels[is_ket]
        self._labels[is_ket].add(label)
        return free

    def cotangent(self, label: str, is_ket: bool) -> str:
        """dh for the gradient by h; dh′ for a gradient of something else by the same h."""
        name, bracket, pattern = label.partition("[")
        trial = f"d{name}"
        while self._meets(trial, bracket + pattern, is_ket) or trial in self._reserved:
            trial += "′"
        self._labels[is_ket].add(trial + bracket + pattern)
        return trial + bracket + pattern

    def _meets(self, name: str, pattern: str, is_ket: bool) -> bool:
        """Whether there is a label of the name for the same members, or for the whole family."""
        own = {label.removeprefix(name) for label in self._labels[is_ket] if label.partition("[")[0] == name}
        return bool(own) and (pattern in own or "" in own or not pattern)

    def fresh(self, stem: str, is_ket: bool) -> str:
        """z1, z2, ..., continuing the numbering of names of that form in the source."""
        if stem not in self._counts:
            numbers = (name.removeprefix(stem) for name in self._reserved if name.startswith(stem))
            self._counts[stem] = max((int(k) for k in numbers if k.isascii() and k.isdigit() and len(k) < 6), default=0)
        while True:
            self._counts[stem] += 1
            trial = f"{stem}{self._counts[stem]}"
            if trial not in self._reserved and trial not in self._labels[is_ket]:
                self._labels[is_ket].add(trial)
                return trial

    def state(self, state: ir.State) -> str:
        """The label of a state: u for |u>, m^u for Adam's |u>.m, ΔW for the change of W, κ^W for its factor.

        A ket that starts at 0 and is added to an initial one, as in the neural tangent limit, is Δu.
        """
        parameter, *rest = state.name.replace("|", "").replace(">", "").split(".")
        learned = state.is_matrix or (state.type.is_ket and not rest and not isinstance(state.init, ir.InitialKet))
        words = {"keep": "κ"}
        base = f"Δ{parameter}" if learned and not rest else parameter
        name = "^".join([*(words.get(r, r) for r in reversed(rest)), base if not rest else parameter])
        return self.label(name, (), not state.type.is_scalar)


def _base(node: ir.Node) -> ir.Node:
    """The node itself, or its argument if it only renames indices."""
    return node.args[0] if isinstance(node, ir.Reindex) and len(node.args) == 1 else node


def uses(nodes: Iterable[ir.Node], args: Callable[[ir.Node], Iterable[ir.Node]]) -> Counter[ir.Node]:
    """By how many nodes each one is used; who reads it under other index names reads it, too."""
    nodes = list(nodes)
    count = Counter(a for node in nodes for a in set(args(node)))
    for node in reversed(nodes):
        if _base(node) is not node:
            count[_base(node)] += max(count[node] - 1, 0)
    return count
