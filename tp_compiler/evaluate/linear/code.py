"""Instructions as functions of registers: every node of a linear program becomes a closure, made once and run often.

A register holds an array whose dimensions are the labels of its shape. The last dimension of a ket are its coordinates
(matrices.py); a ket that is shorter than another one has zeros there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial, reduce
from typing import Any, ClassVar

import numpy as np

from tp_compiler.evaluate import numerical_errors
from tp_compiler.evaluate.array_types import Array, Whole
from tp_compiler.evaluate.arrays import Label, Labels
from tp_compiler.evaluate.budget import COUNTED, LEAST, current, spacious
from tp_compiler.evaluate.instructions import RULES
from tp_compiler.evaluate.interface import MOST_ENTRIES, NotExact
from tp_compiler.evaluate.kernels import KERNELS
from tp_compiler.evaluate.linear.averages import averaging
from tp_compiler.evaluate.linear.contraction import arranged, size_of, viewer
from tp_compiler.evaluate.linear.matrices import Coordinates, InitialMatrix, padded
from tp_compiler.evaluate.linear.shapes import Shapes, indices, slots
from tp_compiler.evaluate.linear.sparse import KetScatter, SparseUpdate, scatter, scattering
from tp_compiler.ir import nodes as ir
from tp_compiler.ir.program import Loop
from tp_compiler.ir.types import Index

Run = Callable[[], None]


class Code:
    """Registers, and the instruction of every node. `instruction` is called in program order."""

    def __init__(self, shapes: Shapes, loop: Loop | None, sparse: dict[ir.State, SparseUpdate]):
        self.shapes = shapes
        self.loop = loop
        self.sparse = sparse
        self.registers: list[Any] = []
        self.at: dict[object, int] = {}
        self.coordinates = Coordinates()
        self.matrices: dict[tuple[ir.MatrixSymbol, tuple[int, ...]], InitialMatrix] = {}
        self.clock = self.new("clock", np.float64(0))

    # -- registers ----------------------------------------------------------------------------------------------
    def new(self, name: object, value: object = None) -> int:
        self.at[name] = len(self.registers)
        self.registers.append(value)
        return self.at[name]

    def read(self, node: ir.Node, wanted: Labels | None = None, whole: bool = False) -> Callable[[], Array]:
        """The value of a node with the wanted dimensions, of size 1 where it lacks one; `whole`: never of size 1."""
        registers, k, own = self.registers, self.at[node], self.shapes[node]
        view = None if wanted is None else viewer(own, wanted)
        if view is None:
            return lambda: registers[k]
        assert wanted is not None
        if not whole:
            return lambda: view(registers[k])
        sizes = [x.size if isinstance(x, Index) else -1 for x in wanted]

        def run() -> Array:
            x = view(registers[k])
            return np.broadcast_to(x, [n if s < 0 else s for s, n in zip(sizes, x.shape, strict=True)])

        return run

    def instruction(self, node: ir.Node) -> Run | None:
        """None if an existing register already holds the value."""
        return self.rules[type(node)](self, node)

    def _computing(self, node: ir.Node, value: Callable[[], Array]) -> Run:
        registers, k = self.registers, self.new(node)

        own = self.shapes[node]
        numbers = 0 if slots(own) else size_of(own)

        def run() -> None:
            found = value()
            if found.size > COUNTED:
                current().hold(found)
            registers[k] = found

        def asking() -> None:
            current().room(
                numbers, "an array over " + ", ".join(i.name.split("~")[0].split("#")[0] for i in indices(own))
            )
            run()

        return asking if numbers > LEAST else run

    def _alias(self, node: ir.Node, other: object) -> None:
        self.at[node] = self.at[other]

    # -- leaves -------------------------------------------------------------------------------------------------
    def _constant(self, node: ir.Constant) -> None:
        self.new(node, np.float64(node.value))

    def _array(self, node: ir.Array) -> None:
        self.new(node, np.asarray(node.values, dtype=np.float64))

    def _position(self, node: ir.Position) -> None:
        self.new(node, np.arange(1.0, node.index.size + 1))

    def _clock(self, node: ir.Clock) -> None:
        self._alias(node, "clock")

    def _initialket(self, node: ir.InitialKet) -> Run | None:
        mean = node.args[0]
        own = indices(self.shapes[node])
        if not slots(self.shapes[node]):
            return self._computing(node, self.read(mean, own))
        centre = self.read(mean, own)
        sizes = [x.size for x in own]
        root = self._root(node, own)

        def value() -> Array:
            new = self.coordinates.draw(math.prod(sizes))
            if (new[-1] + 1) * len(new) > MOST_ENTRIES:
                raise NotExact("a family of too many Gaussians")
            x = np.zeros((*sizes, new[-1] + 1))
            x[..., 0] = centre()
            x[..., new[0] :] = root()
            return x

        return self._computing(node, value)

    def _root(self, node: ir.InitialKet, own: tuple[Index, ...]) -> Callable[[], Array]:
        """A root of the covariance of a family, over its indices and the new coordinates; first and second moments are
        all that an average of two kets reads of a law (shapes.py)."""
        symbol, spread = node.symbol, node.args[1]
        sizes = [x.size for x in own]
        if symbol.law == "rows":
            return self._root_of_rows(node, own)
        if symbol.pair is None:
            variance = self.read(spread, own, whole=True)

            def independent() -> Array:
                numerical_errors.check_law(symbol, variance())
                return np.diag(np.sqrt(variance()).ravel()).reshape(*sizes, -1)

            return independent
        left, right = symbol.pair
        rest = tuple(x for x in own if x != left)
        covariance = self.read(spread, (*rest, left, right), whole=True)
        order = viewer((*rest, left, right), (*own, right))

        def joint() -> Array:
            numerical_errors.check_law(symbol, covariance())
            blocks = numerical_errors.covariance_root(covariance(), symbol)
            blocks = order(blocks) if order else blocks
            each = np.eye(math.prod(x.size for x in rest)).reshape(
                *(x.size if x in rest else 1 for x in own), *(x.size for x in rest), 1
            )
            columns = blocks.reshape(*sizes, *(1 for _ in rest), right.size)
            return (columns * each).reshape(*sizes, -1)

        return joint

    def _root_of_rows(self, node: ir.InitialKet, own: tuple[Index, ...]) -> Callable[[], Array]:
        """A root of the covariance of the entries of a row."""
        rows = self.read(node.parameters[0], (node.row, *own), whole=True)

        def root() -> Array:
            table = rows().reshape(node.row.size, -1)
            triangle = np.linalg.qr((table - table.mean(axis=0)) / math.sqrt(node.row.size)).R
            members = table.shape[1]
            columns = np.zeros((members, members))
            columns[:, : len(triangle)] = triangle.T
            return columns.reshape(*(x.size for x in own), members)

        return root

    # -- training -----------------------------------------------------------------------------------------------
    def state(self, state: ir.State) -> Run:
        """Sets a state to its initial value."""
        own = self.shapes.states[state]
        assert isinstance(own, tuple)
        start = self.read(state.init, own, whole=True)
        registers, k = self.registers, self.new(state)
        if state in self.sparse:
            self.new((state, "scale"), 1.0)

        def run() -> None:
            registers[k] = np.array(start())

        return run

    def _carry(self, node: ir.Carry) -> Run | None:
        if node.state not in self.sparse:
            self._alias(node, node.state)
            return None
        registers, k, s = self.registers, self.at[node.state], self.at[node.state, "scale"]
        return self._computing(node, lambda: registers[k] * registers[s])  # a copy: the state is updated in place

    def following(self, state: ir.State) -> Callable[[], Array]:
        """The next value of a state."""
        own = self.shapes.states[state]
        assert isinstance(own, tuple) and self.loop is not None
        return self.read(self.loop.following[state], own, whole=True)

    def _trace(self, node: ir.Trace) -> Run:
        value = self.read(node.args[0])
        own = self.shapes[node]
        registers, clock = self.registers, self.clock
        k = self.new(node, np.zeros([x.size for x in indices(own)]))

        def run() -> None:
            registers[k][int(registers[clock])] = value()

        return run

    # -- products with matrices ---------------------------------------------------------------------------------
    def _matmul(self, node: ir.MatMul) -> Run:
        (x,) = node.args
        batch = tuple(m for m in node.member if isinstance(m, Index))
        rest = tuple(i for i in indices(self.shapes[x]) if i not in batch)
        columns = self.read(x, (*batch, *rest, 0), whole=True)
        variance = self.read(node.matrix.variance, node.matrix.indices, whole=True)
        places = list(np.ndindex(*(b.size for b in batch)))
        final = viewer((*batch, *rest, 0), self.shapes[node])

        def value() -> Array:
            x = columns()
            parts = []
            for place in places:
                matrix = self._member(node, dict(zip(batch, place, strict=True)), variance)
                rows = x[place].reshape(-1, x.shape[-1])
                parts.append(matrix.apply(rows, node.transposed))
            length = max(p.shape[-1] for p in parts)
            if length * sum(p.shape[0] for p in parts) > MOST_ENTRIES:
                raise NotExact("a family of too many Gaussians")
            result = np.stack([padded(p, length) for p in parts]).reshape(*x.shape[:-1], length)
            return final(result) if final else result

        return self._computing(node, value)

    def _member(self, node: ir.MatMul, chosen: dict[Index, int], variance: Callable[[], Array]) -> InitialMatrix:
        symbol = node.matrix
        member = tuple(chosen[m] if isinstance(m, Index) else m - 1 for m in node.member)
        if (symbol, member) not in self.matrices:
            square = float(variance()[member])
            numerical_errors.check_law(symbol, square)
            self.matrices[symbol, member] = InitialMatrix(
                square, symbol.rows.ratio / symbol.cols.ratio, self.coordinates
            )
        return self.matrices[symbol, member]

    def _apply(self, node: ir.Apply) -> Run:
        """The mean over the columns (rows) of the entries, in coordinates a dot product."""
        state, (x,) = node.state, node.args
        core = self.shapes.states[state]
        assert isinstance(core, tuple)
        own: dict[Label, Label | int] = dict(zip(state.type.indices, node.member, strict=True))
        fixed = {i: m - 1 for i, m in own.items() if isinstance(m, int)}
        if node.transposed:
            own |= {0: state.slot, state.slot: 0}
        pick = tuple(fixed.get(i, slice(None)) for i in core)
        labels = tuple(own.get(i, i) for i in core if i not in fixed)
        if len(set(labels)) < len(labels):
            raise NotExact("a diagonal of a family of learned matrices")
        ket = tuple(state.slot if i == 0 else i for i in self.shapes[x])
        average = averaging([labels, ket], (state.slot,), (), self.shapes[node])
        ratio = state.type.slots[0][1].ratio / state.type.slots[1][1].ratio if node.transposed else 1.0
        registers, k, columns = self.registers, self.at[state], self.read(x)
        return self._computing(node, lambda: ratio * average([registers[k][pick], columns()]))

    # -- entrywise ----------------------------------------------------------------------------------------------
    def _map(self, node: ir.Map) -> Run:
        own = self.shapes[node]
        reads = [self.read(a, own) for a in node.args]
        depth = len(slots(own))
        kernel = KERNELS[node.fn]
        if depth and node.fn == "add":
            return self._computing(node, lambda: added([r() for r in reads], depth))
        if depth and node.fn == "where":
            condition, yes, no = reads

            def chosen() -> Array:
                return np.where(condition() > 0, *levelled([yes(), no()], depth))

            return self._computing(node, chosen)
        if len(reads) == 2:
            first, second = reads
            return self._computing(node, lambda: spacious(kernel, first(), second()))
        return self._computing(node, lambda: spacious(kernel, *(r() for r in reads), copies=2.0))

    # -- averages, sums and indices -----------------------------------------------------------------------------
    def _contract(self, node: ir.Contract) -> Run:
        if slots(self.shapes[node]) == (0,) and (part := scatter(node, self.shapes)) is not None:
            return self._scattered(node, part)
        factors = self.shapes.factors(node.args)
        reads = [self.read(f) for f in factors]
        average = averaging([self.shapes[f] for f in factors], node.slots, node.over, self.shapes[node])
        return self._computing(node, lambda: average([r() for r in reads]))

    def scattered(self, part: KetScatter) -> Callable[[], tuple[Whole, Array]]:
        """The members that a scatter touches, with their rows."""
        run = scattering(part, self.shapes)
        at, ket, scalars = self.read(part.at), self.read(part.ket), [self.read(s) for s in part.scalars]
        return lambda: run(at(), ket(), [s() for s in scalars])

    def _scattered(self, node: ir.Contract, part: KetScatter) -> Run:
        rows = self.scattered(part)

        def value() -> Array:
            touched, moved = rows()
            result = np.zeros((part.index.size, moved.shape[-1]))
            result[touched] = moved
            return result

        return self._computing(node, value)

    def _copy(self, node: ir.Copy) -> None:
        self._alias(node, node.args[0])

    def _by_rule(self, node: ir.Node, of: Sequence[Labels]) -> Run:
        """An array rule of the arguments over the labels `of`, kets made as long as one another."""
        rule, own = RULES[type(node)], self.shapes[node]
        depth = len(slots(own))
        reads = [self.read(a, wanted, whole=True) for a, wanted in zip(node.args, of, strict=True)]

        def value() -> Array:
            return rule(node, list(zip(levelled([r() for r in reads], depth), of, strict=True)), own)

        return self._computing(node, value)

    def _along(self, node: ir.Reduce | ir.Along) -> Run:
        return self._by_rule(node, [arranged((*self.shapes[node.args[0]], node.index))])

    def _reindex(self, node: ir.Reindex) -> Run | None:
        x = node.args[0]
        own, new = self.shapes[x], self.shapes[node]
        chosen = dict(zip(x.type.indices, node.selectors, strict=True))
        selectors = [chosen[i] for i in indices(own)]
        names = [s for s in selectors if isinstance(s, Index)]
        if len(names) == len(selectors) and len(set(names)) == len(names):
            self._alias(node, x)
            return None
        held, owned = self._held(x)
        if len(names) + sum(isinstance(s, int) for s in selectors) == len(selectors) and len(set(names)) == len(names):
            grid = tuple(s - 1 if isinstance(s, int) else slice(None) for s in selectors)
            return self._computing(node, lambda: owned(held()[grid]))
        places = [self._place(node, s, indices(new)) for s in selectors]
        return self._computing(node, lambda: owned(held()[tuple(p() for p in places)]))

    def _held(self, x: ir.Node) -> tuple[Callable[[], Array], Callable[[Array], Array]]:
        """An array whose members are taken, copied if necessary: states may be changed in place."""
        if not isinstance(x, ir.Carry) or x.state not in self.sparse:
            return self.read(x), lambda part: part
        registers, k, s = self.registers, self.at[x.state], self.at[x.state, "scale"]

        def owned(part: Array) -> Array:
            return part if part.base is None and registers[s] == 1 else part * registers[s]

        return (lambda: registers[k]), owned

    def _place(
        self, node: ir.Reindex, selector: Index | int | ir.Gather, new: tuple[Index, ...]
    ) -> Callable[[], int | Whole]:
        """Positions from 0 along one dimension, over the new indices."""
        if isinstance(selector, int):
            return lambda: selector - 1
        if isinstance(selector, Index):
            view = viewer((selector,), new)
            fixed: Any = np.arange(selector.size)
            fixed = view(fixed) if view else fixed
            return lambda: fixed
        gather = node.args[selector.arg]
        positions = self.read(gather, new)
        return lambda: numerical_errors.positions(positions(), gather, node)

    def _stack(self, node: ir.Stack) -> Run:
        rest = tuple(x for x in self.shapes[node] if x != node.index)
        return self._by_rule(node, [rest] * len(node.args))

    def _join(self, node: ir.Join) -> Run:
        rest = tuple(x for x in self.shapes[node] if x != node.index)
        return self._by_rule(node, [(*group, *rest) for group in node.groups])

    def _of_matrices(self, node: ir.Linalg | ir.Spectral) -> Run:
        return self._by_rule(node, [indices(self.shapes[a]) for a in node.args])

    #: One rule an instruction that has a shape (shapes.py).
    rules: ClassVar[dict[type[ir.Node], Callable[[Code, Any], Run | None]]] = {
        ir.Constant: _constant,
        ir.Array: _array,
        ir.Position: _position,
        ir.Clock: _clock,
        ir.InitialKet: _initialket,
        ir.Carry: _carry,
        ir.Trace: _trace,
        ir.MatMul: _matmul,
        ir.Apply: _apply,
        ir.Map: _map,
        ir.Contract: _contract,
        ir.Copy: _copy,
        **dict.fromkeys((*ir.ALONG, ir.Reduce), _along),
        ir.Reindex: _reindex,
        ir.Stack: _stack,
        ir.Join: _join,
        ir.Linalg: _of_matrices,
        ir.Spectral: _of_matrices,
    }


# ------------------------------------------------------------------------------------------------------------ sums
def levelled(parts: list[Array], depth: int) -> list[Array]:
    """Arrays with the last `depth` dimensions, coordinates, padded with zeros to one length."""
    if not depth or all(p.shape[-depth:] == parts[0].shape[-depth:] for p in parts):
        return parts
    lengths = [max(p.shape[p.ndim - depth + d] for p in parts) for d in range(depth)]
    found = []
    for p in parts:
        x = np.zeros((*p.shape[: p.ndim - depth], *lengths))
        part: tuple[Any, ...] = (..., *(slice(n) for n in p.shape[p.ndim - depth :]))
        x[part] = p
        found.append(x)
    return found


def added(parts: list[Array], depth: int) -> Array:
    """The sum of kets; a number adds to coordinate 0."""
    return reduce(partial(spacious, np.add), levelled(parts, depth))
