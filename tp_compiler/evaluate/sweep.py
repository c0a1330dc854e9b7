"""One pass over the entries of a trained matrix: what an optimizer's own body does to them, in place.

The body of an entrywise optimizer is a few `Map` nodes over two neurons. They are put in order once (`compiled`), as
operations on buffers of one tile: gradients Σ |l><r| by one matrix product, then ufuncs that write into buffers or
into the states themselves. A tile is a few blocks, small enough that all its buffers stay in the processor's cache.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tp_compiler.evaluate.kernels import KERNELS
from tp_compiler.evaluate.outerproducts import is_outer
from tp_compiler.ir import nodes as ir

#: Primitives that write into a buffer by themselves; the others make an array of their own.
UFUNCS: dict[str, Callable[..., Any]] = {
    "add": np.add, "mul": np.multiply, "div": np.divide, "sqrt": np.sqrt, "square": np.square, "exp": np.exp,
    "abs": np.abs, "sign": np.sign, "tanh": np.tanh, "max": np.maximum, "min": np.minimum, "log": np.log,
    "sin": np.sin, "cos": np.cos,
}  # fmt: skip


@dataclass(frozen=True)
class Operation:
    """target := fn(*sources). Registers are entries of a tile; other sources are nodes (scalars and kets)."""

    fn: str
    target: ir.Node
    sources: tuple[ir.Node, ...]
    drop: tuple[ir.Node, ...]  # registers that nobody reads any more


@dataclass(frozen=True)
class Sweep:
    """`gradients`: sums of outer products, made first; `state[n]`: the state that node n is the next value of, and may
    be written to at once; `copies`: states whose next value must be copied at the end."""

    gradients: tuple[ir.Node, ...]
    operations: tuple[Operation, ...]
    state: Mapping[ir.Node, ir.State]
    copies: tuple[tuple[ir.State, ir.Node], ...]


def compiled(states: list[ir.State], following: Mapping[ir.State, ir.Node], family: tuple[Any, ...]) -> Sweep | None:
    """The sweep of a group of states; None where entries carry indices besides those of the family."""
    roots = [following[s] for s in states]
    order = _order(roots)
    full = [n for n in order if len(n.type.slots) == 2]
    if any(len(r.type.slots) < 2 or not set(r.type.indices) <= set(family) for r in roots):
        return None
    if not all(_simple(n) and set(n.type.indices) <= set(family) for n in full):
        return None
    if not all(is_outer(n) for n in order if len(n.type.slots) < 2):
        return None  # an expression over the columns alone
    readers = Counter(a for n in full if not is_outer(n) for a in n.args)
    readers.update(roots)
    gradients = tuple(n for n in full if is_outer(n))
    maps = [n for n in full if not is_outer(n) and not isinstance(n, ir.Carry)]
    in_place = _in_place(states, following, maps)
    operations = []
    for n in maps:
        readers.subtract(n.args)
        drop = tuple(a for a in dict.fromkeys(n.args) if len(a.type.slots) == 2 and readers[a] == 0)
        operations.append(Operation(n.fn, n, n.args, drop))  # type: ignore[attr-defined]
    state = {following[s]: s for s in in_place}
    copies = tuple((s, following[s]) for s in states if s not in in_place)
    return Sweep(gradients, tuple(operations), state, copies)


def _simple(node: ir.Node) -> bool:
    return is_outer(node) or isinstance(node, ir.Carry) or isinstance(node, ir.Map)


def _order(roots: list[ir.Node]) -> list[ir.Node]:
    """The nodes over two neurons and their arguments; not what outer products are made of."""
    seen: dict[ir.Node, None] = {}
    todo = list(roots)
    while todo:
        node = todo.pop()
        if node not in seen:
            seen[node] = None
            if len(node.type.slots) == 2 and not is_outer(node):
                todo.extend(node.args)
    return sorted(seen, key=lambda n: n.serial)


def _in_place(
    states: list[ir.State], following: Mapping[ir.State, ir.Node], maps: list[ir.Node]
) -> list[ir.State]:
    """States whose next value may be written over the old one: nobody reads the old one later."""
    found = []
    for s in states:
        root = following[s]
        if root not in maps or any(following[t] is root for t in found):
            continue
        later = maps[maps.index(root) + 1 :]
        if not any(isinstance(a, ir.Carry) and a.state is s for n in later for a in n.args):
            found.append(s)
    return found


class Buffers:
    """Arrays of one shape, given out and taken back."""

    def __init__(self, shape: tuple[int, ...], dtype: Any):
        self.shape, self.dtype = shape, dtype
        self.free: list[Any] = []

    def take(self) -> Any:
        return self.free.pop() if self.free else np.empty(self.shape, self.dtype)

    def give(self, array: Any) -> None:
        self.free.append(array)


def run(
    sweep: Sweep, entries: Mapping[ir.State, Any], gradient: Callable[[ir.Node, Any], None],
    value: Callable[[ir.Node], Any], buffers: Buffers,
) -> None:  # fmt: skip
    """One tile. `entries`: views of the states' entries, replaced in place; `gradient(n, out)` writes Σ |l><r|;
    `value(n)`: a scalar or a ket, ready to be broadcast against a tile."""
    registers: dict[ir.Node, Any] = {}
    owned: dict[ir.Node, Any] = {}

    def read(node: ir.Node) -> Any:
        if len(node.type.slots) < 2:
            return value(node)
        return entries[node.state] if isinstance(node, ir.Carry) else registers[node]

    for node in sweep.gradients:
        owned[node] = registers[node] = buffers.take()
        gradient(node, registers[node])
    for o in sweep.operations:
        sources = [read(a) for a in o.sources]
        for a in o.drop:
            if a in owned:
                buffers.give(owned.pop(a))
        if o.target in sweep.state:
            out = entries[sweep.state[o.target]]
        else:
            out = owned[o.target] = buffers.take()
        registers[o.target] = out
        _operate(o.fn, sources, out, buffers)
    for state, node in sweep.copies:
        np.copyto(entries[state], read(node))
    for array in owned.values():
        buffers.give(array)


def _operate(fn: str, sources: list[Any], out: Any, buffers: Buffers) -> None:
    """out := fn(*sources); scalars are put together first. `out` may be one of the sources."""
    if fn in ("add", "mul"):
        small = [x for x in sources if np.ndim(x) == 0]
        large = sorted((x for x in sources if np.ndim(x) > 0), key=lambda x: x is not out)
        if small:
            large.append(out.dtype.type(KERNELS[fn](*small)))
        _folded(UFUNCS[fn], large, out)
        return
    if fn == "pow" and np.ndim(sources[1]) == 0 and sources[1] == 2:
        np.multiply(sources[0], sources[0], out=out)
        return
    if fn == "div" and np.ndim(sources[1]) == 0:
        fn, sources = "mul", [sources[0], 1 / sources[1]]
    sources = [out.dtype.type(x) if np.ndim(x) == 0 else x for x in sources]
    if fn in UFUNCS:
        UFUNCS[fn](*sources, out=out)
    else:
        np.copyto(out, KERNELS[fn](*sources))


def _folded(ufunc: Callable[..., Any], sources: list[Any], out: Any) -> None:
    """A sum or a product. `out` comes first where it is a source, and may come twice."""
    if len(sources) == 1:
        np.copyto(out, sources[0])
        return
    if any(x is out for x in sources[2:]):
        sources = [x.copy() if x is out else x for x in sources]
    ufunc(sources[0], sources[1], out=out)
    for x in sources[2:]:
        ufunc(out, x, out=out)
