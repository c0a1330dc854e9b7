"""One pass over the entries of a trained matrix: the body of an optimizer applied to them, in place.

The body of an entrywise optimizer is a few `Map` nodes over two neurons. `compiled` puts them in order once, as
instructions on registers: entries of the states, gradients Σ |l><r|, buffers, kets and scalars. `run` executes them on
one tile, a few blocks that stay in the processor's cache with all their buffers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from tp_compiler.evaluate.array_types import Numbers
from tp_compiler.evaluate.kernels import KERNELS
from tp_compiler.evaluate.sampling.entry_blocks import Entries
from tp_compiler.evaluate.sampling.outerproducts import is_outer, outer_terms
from tp_compiler.ir import nodes as ir
from tp_compiler.ir.types import Index
from tp_compiler.ir.walk import reachable

#: Primitives that write into a buffer by themselves; the others make an array of their own.
UFUNCS: dict[str, Callable[..., Any]] = {
    "add": np.add, "mul": np.multiply, "div": np.divide, "sqrt": np.sqrt, "square": np.square, "exp": np.exp,
    "abs": np.abs, "sign": np.sign, "tanh": np.tanh, "max": np.maximum, "min": np.minimum, "log": np.log,
    "sin": np.sin, "cos": np.cos, "copy": np.positive,
}  # fmt: skip


@dataclass(frozen=True)
class StepNumber:
    """A number of the step: `fn` of scalar nodes; "div" of one node is its reciprocal, "copy" itself."""

    fn: str
    nodes: tuple[ir.Node, ...]

    def value(self, known: Callable[[ir.Node], Numbers]) -> Numbers:
        values = [known(n) for n in self.nodes]
        if self.fn == "div":
            return 1 / values[0]
        return values[0] if self.fn == "copy" else KERNELS[self.fn](*values)


#: The content of a register: a state's entries, a node (gradient or ket), a number of the step, or a buffer (an int).
Register = ir.State | ir.Node | StepNumber | int


@dataclass(frozen=True)
class Instruction:
    """target := fn(*sources); the target may be one of the sources."""

    fn: str
    sources: tuple[int, ...]
    target: int


@dataclass
class Sweep:
    """Instructions in order. `gradients` are the registers that are filled before the first one."""

    registers: list[Register] = field(default_factory=list)
    gradients: list[int] = field(default_factory=list)
    instructions: list[Instruction] = field(default_factory=list)

    @cached_property
    def calls(self) -> list[tuple[Callable[..., Any], tuple[int, ...], int, bool]]:
        """The function, sources and target of every instruction, and whether the function writes into the target."""
        found = [(UFUNCS.get(i.fn), i) for i in self.instructions]
        return [(fn or KERNELS[i.fn], i.sources, i.target, fn is not None) for fn, i in found]

    def terms(self, gradient: int) -> tuple[ir.Node, ...]:
        """The outer products that a gradient is the sum of."""
        node = self.registers[gradient]
        assert isinstance(node, ir.Node)
        return outer_terms(node)

    def numbers(self, known: Callable[[ir.Node], Numbers], dtype: type[np.floating]) -> dict[int, Any]:
        """The scalar registers at one step, over the replicates where they differ."""
        found = {k: r for k, r in enumerate(self.registers) if isinstance(r, StepNumber)}
        return {k: _single(r.value(known), dtype) for k, r in found.items()}


def _single(value: Numbers, dtype: type[np.floating]) -> Any:
    return dtype(value) if isinstance(value, float) else value.astype(dtype)


def compiled(states: list[ir.State], following: Mapping[ir.State, ir.Node], family: tuple[Index, ...]) -> Sweep | None:
    """The sweep of a group of states; None if it is not a pass over entries alone (a sum of functions of entries)."""
    roots = [following[s] for s in states]
    order = _order(roots)
    fits = all(len(r.type.slots) == 2 for r in roots) and all(_fits(n, family) for n in order)
    return _Compiler(states, following, order).sweep if fits else None


def _fits(node: ir.Node, family: tuple[Index, ...]) -> bool:
    if not set(node.type.indices) <= set(family):
        return False
    return is_outer(node) or isinstance(node, ir.Carry) or (isinstance(node, ir.Map) and len(node.type.slots) == 2)


def _order(roots: list[ir.Node]) -> list[ir.Node]:
    """The nodes over two neurons and their arguments, in order, except those inside sums of outer products."""
    return reachable(roots, lambda n: n.args if len(n.type.slots) == 2 and not outer_terms(n) else ())


class _Compiler:
    def __init__(self, states: list[ir.State], following: Mapping[ir.State, ir.Node], order: list[ir.Node]):
        self.sweep = Sweep()
        self.at: dict[Any, int] = {}  # registers by their content
        self.place: dict[ir.Node, int] = {}  # where the value of a node over two neurons is
        self.free: list[int] = []
        self.buffers: set[int] = set()
        self.maps = [n for n in order if isinstance(n, ir.Map) and len(n.type.slots) == 2 and not outer_terms(n)]
        self.readers = Counter(a for n in self.maps for a in set(n.args))
        self.readers.update(set(following.values()))
        self.home = self._homes(states, following)
        for node in order:
            if isinstance(node, ir.Carry) and len(node.type.slots) == 2:
                self.place[node] = self._register(node.state)
            elif outer_terms(node):
                self.place[node] = self._buffer()
                self.sweep.gradients.append(self.place[node])
                self.sweep.registers[self.place[node]] = node
        for node in self.maps:
            self._emit(node)
        for s in states:
            target = self._register(s)
            if self.place[following[s]] != target:
                self._instruct("copy", (self.place[following[s]],), target)

    def _homes(self, states: list[ir.State], following: Mapping[ir.State, ir.Node]) -> dict[ir.Node, ir.State]:
        """Next values that can overwrite the old ones immediately, because the old ones are not read later."""
        homes: dict[ir.Node, ir.State] = {}
        for s in states:
            root = following[s]
            if root in self.maps and root not in homes:
                later = self.maps[self.maps.index(root) + 1 :]
                copied = any(isinstance(r, ir.Carry) and r.state is s for r in following.values())
                if not copied and not any(isinstance(a, ir.Carry) and a.state is s for n in later for a in n.args):
                    homes[root] = s
        return homes

    # -- registers ----------------------------------------------------------------------------------------------
    def _register(self, held: Register) -> int:
        if held not in self.at:
            self.at[held] = len(self.sweep.registers)
            self.sweep.registers.append(held)
        return self.at[held]

    def _buffer(self) -> int:
        if self.free:
            return self.free.pop()
        self.sweep.registers.append(len(self.sweep.registers))
        self.buffers.add(len(self.sweep.registers) - 1)
        return len(self.sweep.registers) - 1

    def _source(self, node: ir.Node) -> int:
        if node in self.place:
            return self.place[node]
        return self._register(StepNumber("copy", (node,)) if node.type.is_scalar else node)

    def _instruct(self, fn: str, sources: tuple[int, ...], target: int) -> None:
        self.sweep.instructions.append(Instruction(fn, sources, target))

    # -- instructions -------------------------------------------------------------------------------------------
    def _emit(self, node: ir.Map) -> None:
        fn, sources = self._sources(node)
        self.readers.subtract(set(node.args))
        dead = [self.place[a] for a in dict.fromkeys(node.args) if a in self.place and not self.readers[a]]
        dead = [r for r in dead if r in self.buffers]
        if node in self.home:
            target = self._register(self.home[node])
            self.free += dead
        else:
            target = dead.pop() if dead else self._buffer()
            self.free += dead
        self.place[node] = target
        self._folded(fn, sources, target)

    def _sources(self, node: ir.Map) -> tuple[str, list[int]]:
        """A primitive and its registers; scalars among the terms and factors are put together."""
        if node.fn in ("add", "mul"):
            small = tuple(a for a in node.args if a.type.is_scalar)
            large = [self._source(a) for a in node.args if not a.type.is_scalar]
            return node.fn, [*large, self._register(StepNumber(node.fn, small))] if small else large
        if node.fn == "div" and node.args[1].type.is_scalar:
            return "mul", [self._source(node.args[0]), self._register(StepNumber("div", node.args[1:]))]
        if node.fn == "pow" and isinstance(node.args[1], ir.Constant) and node.args[1].value in (2, 0.5):
            return "square" if node.args[1].value == 2 else "sqrt", [self._source(node.args[0])]
        return node.fn, [self._source(a) for a in node.args]

    def _folded(self, fn: str, sources: list[int], target: int) -> None:
        """Sums and products two at a time. A source that is overwritten on the way is read first, or saved."""
        if fn not in ("add", "mul") or len(sources) == 1:
            self._instruct("copy" if fn in ("add", "mul") else fn, tuple(sources), target)
            return
        sources = sorted(sources, key=lambda r: r != target)
        if len(sources) > 2 and sources.count(target) > 2:
            saved = self._buffer()
            self._instruct("copy", (target,), saved)
            sources = [saved if r == target else r for r in sources]
            self.free.append(saved)
        self._instruct(fn, (sources[0], sources[1]), target)
        for r in sources[2:]:
            self._instruct(fn, (target, r), target)


def run(sweep: Sweep, registers: list[Entries]) -> None:
    """The instructions on the arrays (and numbers) of one tile."""
    for fn, sources, target, writes in sweep.calls:
        arguments = [registers[r] for r in sources]
        if writes:
            fn(*arguments, out=registers[target])
        else:
            np.copyto(registers[target], fn(*arguments))
