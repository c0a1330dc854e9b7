"""How a network applies a parameter: its inputs, and the places where its results enter the network.

K-FAC's factors are Σ|x><x| over the inputs and Σ|d><d| over the gradients of the outputs by the results
(Martens & Grosse 2015). For y = W|x> the input is |x> and the result |y>; for y = Σ_d x[d] |u[d]> the inputs are
the arrays x, found in the instructions that compute y; for f[c] = <v[c]|x> the input is |x> and the results are the numbers f:
there the parameter is an operator from kets to arrays, and its gradient the transpose of that by the family.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from tp_compiler.diagnostics import ProgramError, Span, error
from tp_compiler.ir import nodes as ir
from tp_compiler.ir.build import Builder
from tp_compiler.ir.shape_factors import SideLength, counted, neurons
from tp_compiler.ir.types import Axis, Index
from tp_compiler.ir.walk import reachable
from tp_compiler.transform.gradient import Gradient, Label, Leaf


@dataclass(frozen=True, eq=False)
class KetFactor:
    """Σ |ket><ket| over the index `rows`; or, with `cols`, an array over (rows, cols)."""

    node: ir.Node
    rows: Index
    cols: Index | None = None


#: Kets or arrays, and the indices that count them.
Part = tuple[ir.Node, tuple[Index, ...]]


@dataclass(frozen=True, eq=False)
class Use:
    """One place where a parameter is applied: its input there (a ket, or numbers), and the result `place`.

    `coefficients`: of the members of a family, over its `TrainedLayer.column`. `member`: of a family of matrices.
    """

    place: ir.Node
    ket: ir.Node | None = None
    coefficients: ir.Node | None = None
    member: tuple[Label, ...] = ()

    def axes(self, column: Index | None) -> set[Axis]:
        """The axes that count the inputs."""
        met = self.ket if self.ket is not None else self.coefficients
        assert met is not None
        return {i.axis for i in met.type.indices if i != column and i not in self.member}


class TrainedLayer:
    """The uses of one parameter in the computation of `loss`. `readout`: it is used in brackets."""

    def __init__(self, build: Builder, loss: ir.Node, leaf: Leaf, name: str, span: Span):
        self.build, self.leaf, self.name, self.span = build, leaf, name, span
        self.readout = False
        self.uses: list[Use] = []
        self.problem: ProgramError | None = None
        self.own: tuple[Index, ...] = ()
        self.column: Index | None = None
        order = _differentiable(loss)
        try:
            if isinstance(leaf, ir.MatrixSymbol):
                self.own = leaf.indices
                self._of_matrix(order, leaf)
            else:
                own = leaf.type.indices
                self.column = build.fresh(own[0]) if own else None
                self._of_kets(order, leaf)
        except ProgramError as problem:
            self.problem = problem

    # -- uses ---------------------------------------------------------------------------------------------------
    def _of_matrix(self, order: list[ir.Node], matrix: ir.MatrixSymbol) -> None:
        found = [n for n in order if isinstance(n, ir.MatMul) and n.matrix is matrix]
        if any(n.transposed for n in found):
            raise self._refused(f"`{self.name}` is applied as `{self.name}^T`", "declare the transpose as the matrix")
        self.uses = [Use(n, n.args[0], member=n.member) for n in found]

    def _of_kets(self, order: list[ir.Node], leaf: ir.Node) -> None:
        """Follows nodes linear in the family, with numbers as coefficients, to the places where they enter the network."""
        consumers: dict[ir.Node, list[ir.Node]] = defaultdict(list)
        for node in order:
            for arg in dict.fromkeys(node.args):
                consumers[arg].append(node)
        start = self.build.constant(1, self.span)
        if self.column is not None:
            start = self.build.delta(leaf.type.indices[0], self.column, self.span)
        todo: list[tuple[ir.Node, ir.Node, bool]] = [(leaf, start, False)]
        kinds: set[bool] = set()
        while todo:
            node, coefficients, summed = todo.pop()
            above = consumers[node]
            passed = [self._passed(c, node, coefficients) for c in above]
            if above and all(p is not None for p in passed):
                more = [summed or isinstance(c, ir.Contract) for c in above]
                todo += [(c, p, s) for c, p, s in zip(above, passed, more, strict=True) if p is not None]
                continue
            brackets = [c for c in above if not summed and _reads(c, node)]
            kinds |= {c in brackets for c in above}
            self.uses += [self._bracket(c, node, coefficients) for c in brackets if isinstance(c, ir.Contract)]
            if len(brackets) < len(above):
                self.uses.append(Use(node, coefficients=coefficients))
        if len(kinds) > 1:
            raise self._refused(
                f"`{self.name}` appears both in sums and in brackets", "use an entrywise optimizer for it"
            )
        self.readout = True in kinds

    def _passed(self, node: ir.Node, arg: ir.Node, coefficients: ir.Node) -> ir.Node | None:
        """The coefficients of a node that is linear in `arg`, with numbers as coefficients; else None."""
        build, span = self.build, self.span
        if isinstance(node, ir.Reindex) and node.args[0] is arg:
            return self._reindexed(node, arg, coefficients)
        others = [a for a in node.args if a is not arg]
        if len(others) != len(node.args) - 1 or any(a.type.slots for a in others):
            return None
        if isinstance(node, ir.Map) and node.fn == "mul":
            return build.map("mul", (coefficients, *others), span)
        if not isinstance(node, ir.Contract) or node.slots:
            return None
        if arg is self.leaf and self.column is not None and arg.type.indices[0] in node.over:
            own = arg.type.indices[0]  # Σ_d delta[d, column] x[d] is x[column]
            renamed = [build.rename(o, {own: self.column}, span) for o in others]
            rest = tuple(i for i in node.over if i != own)
            return build.contract(renamed or (build.constant(1, span),), rest, (), span)
        return build.contract((coefficients, *others), node.over, (), span)

    def _reindexed(self, node: ir.Reindex, arg: ir.Node, coefficients: ir.Node) -> ir.Node:
        """Reindex of coefficients, keeping the column; indices that `arg` has and the coefficients do not are broadcast."""
        chosen = dict(zip(arg.type.indices, node.selectors, strict=True))
        own = coefficients.type.indices
        selectors = tuple(chosen.get(i, i) for i in own)
        gathers = node.args[1:] if any(isinstance(s, ir.Gather) for s in selectors) else ()
        return self.build.reindex(coefficients, selectors, gathers, self.span)

    def _bracket(self, node: ir.Contract, arg: ir.Node, coefficients: ir.Node) -> Use:
        others = [a for a in node.args if a is not arg]
        if len(others) != len(node.args) - 1:
            raise self._refused(f"`{self.name}` appears twice in a bracket", "use an entrywise optimizer for it")
        ket = self.build.as_ket(self.build.map("mul", others, self.span), arg.type.width, self.span)
        return Use(node, ket, coefficients)

    def _refused(self, why: str, remedy: str) -> ProgramError:
        return error("NX292", f"K-FAC has no factors here: {why}", self.span, remedy)

    # -- factors ------------------------------------------------------------------------------------------------
    def axes(self) -> set[Axis]:
        """The axes that count inputs."""
        return {axis for use in self.uses for axis in use.axes(self.column)}

    def inputs(self, examples: tuple[Index, ...]) -> KetFactor:
        """Σ|x><x|, an input that no example changes counted once for each of them."""
        if self.problem is not None:
            raise self.problem
        parts: list[Part] = []
        for use in self.uses:
            repeats = math.prod(i.size for i in examples if i.axis not in use.axes(self.column))
            root = self.build.constant(repeats**0.5, self.span)
            if use.ket is None:
                assert use.coefficients is not None
                array = self.build.mul(root, use.coefficients, self.span)
                parts.append((array, tuple(i for i in use.coefficients.type.indices if i != self.column)))
            else:
                names = self._names(use.ket.type.indices, use.member)
                ket = self.build.rename(self.build.mul(root, use.ket, self.span), {**names}, self.span)
                parts.append((self._masked(ket, use), tuple(names.values())))
        return self._factor(parts, arrays=not self.readout and not isinstance(self.leaf, ir.MatrixSymbol))

    def signals(self, outputs: list[ir.Node]) -> KetFactor:
        """Σ|d><d| over the gradients d of every output by every result."""
        if self.problem is not None:
            raise self.problem
        parts: list[Part] = []
        for root in outputs:
            gradient = Gradient(self.build, root, [u.place for u in self.uses], self.span)
            parts += [self._signal(gradient, root, u) for u in self.uses if gradient.depends(u.place)]
        return self._factor(parts, arrays=self.readout)

    def _signal(self, gradient: Gradient, root: ir.Node, use: Use) -> Part:
        """The gradients of `root` by one result. An index of the result that is tied to one of the outputs is that one:
        h[i] enters f[i] alone."""
        own = use.place.type.indices
        names = self._names(own, use.member)
        for i in own:
            tied = gradient.tied(use.place, i)
            if tied is not None and i not in use.member and tied not in names.values():
                names[i] = tied
        value = gradient.by(use.place, tuple(names[i] for i in own))
        if not self.readout:
            return self._masked(value, use), tuple(dict.fromkeys((*root.type.indices, *names.values())))
        return self._array_signal(value, root.type.indices, names, use)

    def _array_signal(self, value: ir.Node, seeds: tuple[Index, ...], names: dict[Index, Index], use: Use) -> Part:
        """For a readout: for every output and every input |x>, the gradient by the numbers f, an array over the column."""
        assert use.coefficients is not None and use.ket is not None
        along = self.build.rename(use.coefficients, {k: x for k, x in names.items() if k != self.column}, self.span)
        counted = dict.fromkeys((*seeds, *(names.get(i, i) for i in use.ket.type.indices)))
        linear = [i for i in (*names.values(), *along.type.indices) if i != self.column and i not in counted]
        return self.build.contract((value, along), tuple(dict.fromkeys(linear)), (), self.span), tuple(counted)

    def _names(self, indices: Iterable[Index], member: tuple[Label, ...]) -> dict[Index, Index]:
        """Own indices of the family of matrices, new names for the others."""
        own = {m: o for m, o in zip(member, self.own, strict=True) if isinstance(m, Index)} if member else {}
        return {i: own.get(i) or self.build.fresh(i) for i in indices}

    def _masked(self, ket: ir.Node, use: Use) -> ir.Node:
        """0 for the members of the family that are not meant."""
        chosen = zip(self.own, use.member, strict=False)
        masks = [self.build.delta(own, m, self.span) for own, m in chosen if isinstance(m, int)]
        return self.build.map("mul", (ket, *masks), self.span)

    def _factor(self, parts: list[Part], arrays: bool) -> KetFactor:
        if not parts:
            raise self._refused(f"the outputs do not depend on `{self.name}`", "choose other outputs")
        if arrays:
            return self._array([self._square(value, counted) for value, counted in parts])
        groups = tuple(tuple(i for i in counted if i not in self.own) for _, counted in parts)
        size = sum(math.prod(i.size for i in group) for group in groups)
        index = self.build.fresh(Index("rank", Axis(f"rank {self.name}", size)))
        kets = tuple(ket for ket, _ in parts)
        return KetFactor(self.build.join_indices(kets, groups, index, self.span), index)

    def _square(self, array: ir.Node, over: tuple[Index, ...]) -> ir.Node:
        """Σ_over array[column] array[other]"""
        flipped = array if self.column is None else self.build.rename(array, {self.column: self._other()}, self.span)
        return self.build.contract((array, flipped), over, (), self.span)

    def _other(self) -> Index:
        assert self.column is not None
        return Index(f"{self.column.name}'", self.column.axis)

    def _array(self, terms: list[ir.Node]) -> KetFactor:
        build, span = self.build, self.span
        total = build.map("add", terms, span)
        if self.column is not None:
            return KetFactor(total, self.column, self._other())
        rows, cols = (build.fresh(Index("one", Axis("one", 1))) for _ in range(2))
        whole = build.join_indices((build.join_indices((total,), ((),), rows, span),), ((),), cols, span)
        return KetFactor(whole, rows, cols)


def _reads(node: ir.Node, arg: ir.Node) -> bool:
    """Does a bracket read out the other ket by `arg`? In <v|u> of two parameters it is the bra that does."""
    if not isinstance(node, ir.Contract) or node.slots != (0,):
        return False
    kets = [a for a in node.args if a.type.slots]
    return kets[0] is arg or not all(_is_parameter(a) for a in kets)


def _is_parameter(node: ir.Node) -> bool:
    while isinstance(node, ir.Reindex):
        node = node.args[0]
    return isinstance(node, ir.Carry)


def _differentiable(root: ir.Node) -> list[ir.Node]:
    """The nodes that a gradient of root passes through, in program order."""
    seen: dict[ir.Node, None] = {}
    todo = [root]
    while todo:
        node = todo.pop()
        if node not in seen:
            seen[node] = None
            if not (isinstance(node, ir.Map) and node.fn == "stop"):
                todo.extend(node.args)
    return sorted(seen, key=lambda n: n.serial)


class Layers:
    """The layers of the nodes that lead to a loss, each computed when it is requested."""

    def __init__(self, build: Builder, loss: ir.Node, names: Mapping[Leaf, str], span: Span):
        self.build, self.loss, self.names, self.span = build, loss, names, span
        self._layers: dict[Leaf, TrainedLayer] = {}
        self._fitted: list[ir.Node] | None = None

    def layer(self, leaf: Leaf) -> TrainedLayer:
        if leaf not in self._layers:
            self._layers[leaf] = TrainedLayer(self.build, self.loss, leaf, self.names[leaf], self.span)
        return self._layers[leaf]

    def sides(self, leaf: ir.Node) -> tuple[tuple[int | Index, ...], tuple[int | Index, ...]]:
        """The indices of the rows and the columns of a ket family, or of numbers, as the network applies it."""
        neurons = tuple(slot for slot, _ in leaf.type.slots)
        if leaf.type.is_ket and self.layer(leaf).readout:
            return leaf.type.indices, neurons
        return (neurons, leaf.type.indices) if leaf.type.is_ket else (leaf.type.indices, ())

    def extents(self, leaf: Leaf) -> tuple[SideLength, SideLength]:
        """How many rows and columns a matrix or a family of kets has, as the network applies it."""
        if isinstance(leaf, ir.MatrixSymbol):
            return neurons(leaf.rows.ratio), neurons(leaf.cols.ratio)
        own = neurons(leaf.type.width.ratio), counted(math.prod(i.size for i in leaf.type.indices))
        return own[::-1] if self.layer(leaf).readout else own

    def fitted(self) -> list[ir.Node]:
        if self._fitted is None:
            self._fitted = fitted(self.build, self.loss, self.names, self.span)
        return self._fitted

    def examples(self, outputs: list[ir.Node]) -> tuple[Index, ...]:
        """The indices of the outputs that count examples: those of an axis that counts the inputs of some layer."""
        counted = {axis for leaf in self.names for axis in self.layer(leaf).axes()}
        return tuple(dict.fromkeys(i for root in outputs for i in root.type.indices if i.axis in counted))


# --------------------------------------------------------------------------------------------------- fitted outputs
def fitted(build: Builder, loss: ir.Node, leaves: Iterable[Leaf], span: Span) -> list[ir.Node]:
    """The outputs f of a squared loss, such as mean[i]((f[i] - y[i])^2); of any other loss the losses of the examples,
    which makes K-FAC's factor the empirical Fisher."""
    moving = _moving(loss, set(leaves))
    terms = [_unsummed(build, t, moving, span) for t in _terms(loss, moving)]
    residuals = [_root(value, moving) for _, value in terms]
    if all(r is not None for r in residuals):
        return list(dict.fromkeys(_prediction(r, moving) for r in residuals if r is not None))
    over = terms[0][0]
    if any(set(o) != set(over) for o, _ in terms):
        raise error(
            "NX293",
            "the outputs of the examples cannot be read off the loss",
            span,
            "write `KFAC(..., outputs = f[i])`",
        )
    count = math.prod(i.size for i in over)
    each = build.map("add", [value for _, value in terms], span)
    return [build.mul(build.constant(count, span), each, span)]


def _moving(root: ir.Node, leaves: set[Leaf]) -> set[ir.Node]:
    moving: set[ir.Node] = set()
    for node in reachable([root]):
        stopped = isinstance(node, ir.Map) and node.fn == "stop"
        own = node in leaves or (isinstance(node, ir.MatMul) and node.matrix in leaves)
        if own or (not stopped and any(a in moving for a in node.args)):
            moving.add(node)
    return moving


def _terms(node: ir.Node, moving: set[ir.Node]) -> list[ir.Node]:
    """The terms of a sum, without those that no parameter moves; numbers in front are multiplied in by `_unsummed`."""
    found, todo = [], [node]
    while todo:
        top = todo.pop()
        if isinstance(top, ir.Map) and top.fn == "add":
            todo += [a for a in reversed(top.args) if a in moving]
        else:
            found.append(top)
    return found


def _unsummed(build: Builder, node: ir.Node, moving: set[ir.Node], span: Span) -> tuple[tuple[Index, ...], ir.Node]:
    """(indices, value): a term is the sum over the indices of the value. Sums after fixed factors are opened."""
    factors: list[ir.Node] = []
    over: tuple[Index, ...] = ()
    while True:
        fixed = [a for a in node.args if a not in moving]
        inner = [a for a in node.args if a in moving]
        scaled = isinstance(node, ir.Map) and (node.fn == "mul" or (node.fn == "div" and node.args[0] in moving))
        summed = isinstance(node, ir.Contract) and not node.slots and not over
        if len(inner) != 1 or node.args.count(inner[0]) != 1 or not (scaled or summed):
            if summed:
                assert isinstance(node, ir.Contract)
                over, node = node.over, build.map("mul", node.args, span)
            break
        if summed:
            assert isinstance(node, ir.Contract)
            over = node.over
        if isinstance(node, ir.Map) and node.fn == "div":
            fixed = [build.map("div", (build.constant(1, span), f), span) for f in fixed]
        factors += fixed
        node = inner[0]
    return over, build.map("mul", (*factors, node), span) if factors else node


def _root(node: ir.Node, moving: set[ir.Node]) -> ir.Node | None:
    """r of a term c·r², with sums over the remaining indices inside (the outputs of one example); None for any other term."""
    while True:
        inner = [a for a in node.args if a in moving]
        if isinstance(node, ir.Map) and node.fn == "square":
            return inner[0]
        if isinstance(node, ir.Map) and node.fn == "pow":
            power = node.args[1]
            return inner[0] if isinstance(power, ir.Constant) and power.value == 2 else None
        product = isinstance(node, ir.Map) and node.fn == "mul"
        summed = isinstance(node, ir.Contract) and not node.slots
        if (product or summed) and len(inner) == 2 and inner[0] is inner[1]:
            return inner[0]
        if (product or summed) and len(inner) == 1:
            node = inner[0]
        else:
            return None


def _prediction(node: ir.Node, moving: set[ir.Node]) -> ir.Node:
    """f of a residual c (f - y)."""
    while True:
        inner = [a for a in node.args if a in moving]
        if not isinstance(node, ir.Map) or node.fn not in ("add", "mul") or len(inner) != 1:
            return node
        node = inner[0]
