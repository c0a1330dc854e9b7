"""Reverse-mode differentiation of a program, in bra-ket form and natural units (Tensor Programs IVb, 2.2; docs/training.md).

Conventions: for a ket, df = <dx|δx>, the mean over the ket's own neurons; for a matrix, df = <dh|δW|x>, so that its
gradient is a sum of outer products |dh><x|. No n appears, and the result consists of ordinary instructions.

A *cotangent* of a node y belonging to a family f[i] is kept in pieces. A piece ties some of y's own indices, either to
an index of f (h[i] enters f[i] alone: no square array of zeros) or to a position (f reads h[i, 3]); its value carries
the other indices of y and those of f. `local` names y's own indices where f has one of the same name.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from graphlib import TopologicalSorter
from typing import Any, Protocol

from tp_compiler.diagnostics import Diagnostic, ProgramError, Span
from tp_compiler.ir import nodes as ir
from tp_compiler.ir.build import Builder, is_zero
from tp_compiler.ir.types import Index
from tp_compiler.ir.walk import dependencies, reachable
from tp_compiler.transform.entrywise import NodeAlgebra, partial
from tp_compiler.transform.slots import exchanged

Leaf = ir.Node | ir.MatrixSymbol
Label = Index | int
#: Own index of a node -> the index of f, or the position, it is tied to; sorted, so that pieces can be compared.
Ties = tuple[tuple[Index, Label], ...]


@dataclass(frozen=True, eq=False)
class Outer:
    """One term Σ_over |left><right| of a matrix's gradient, for the member of the family at `member`: positions, indices
    of f, or indices that run through the family (`free`)."""

    member: tuple[Label, ...]
    left: ir.Node
    right: ir.Node
    over: tuple[Index, ...]
    free: tuple[Index, ...]

    @property
    def factors(self) -> tuple[ir.Node, ...]:
        return self.left, self.right

    def mapped(self, change: Callable[[ir.Node], ir.Node], **names: Any) -> Outer:
        """Both factors changed, and the labels that are given."""
        return replace(self, left=change(self.left), right=change(self.right), **names)


@dataclass(frozen=True, eq=False)
class Single:
    """One term of the gradient by a ket or scalar (family), for the member at `member`; as `Outer`."""

    member: tuple[Label, ...]
    value: ir.Node
    free: tuple[Index, ...]
    over: tuple[Index, ...] = ()

    @property
    def factors(self) -> tuple[ir.Node, ...]:
        return (self.value,)

    def mapped(self, change: Callable[[ir.Node], ir.Node], **names: Any) -> Single:
        return replace(self, value=change(self.value), **names)


Part = Outer | Single


class Gradient:
    """The gradients of the family `root` by several leaves: kets and scalars (nodes) and matrices (symbols).

    The indices of `root` keep their names in every result.
    """

    def __init__(self, build: Builder, root: ir.Node, leaves: Collection[Leaf], span: Span):
        self.build = build
        self.span = span
        self.leaves = set(leaves)
        self.seeds = root.type.indices
        self._fresh: dict[Index, Index] = {}
        self._outer: dict[ir.MatrixSymbol, list[Outer]] = {}
        self._pieces: dict[ir.Node, dict[Ties, list[ir.Node]]] = {}
        self._refuse_omitted()
        self._wholes: dict[ir.Node, tuple[ir.Node, ...]] = {}
        self._nodes = self._ordered(root)
        self._moving = self._depending()
        build.differentiated.append(root)
        if root in self._moving:
            ties = tuple(sorted(((i, i) for i in self.seeds), key=_order))
            self._pieces[root] = {ties: [build.constant(1, span)]}
            self._run()

    def _refuse_omitted(self) -> None:
        """A leaf that is a product with 0 may have been dropped from a sum."""
        for leaf in self.leaves:
            if isinstance(leaf, ir.Map) and is_zero(leaf) and any(_zero_by(x, leaf) for x in self.build.omitted):
                message = "this ket is 0 times another one, and was dropped from a sum"
                raise ProgramError([Diagnostic("NX280", message, self.span, "declare it instead: `ket |y> ~ N(0, 0)`")])

    def _ordered(self, root: ir.Node) -> list[ir.Node]:
        """The nodes of `root`, arguments first. Products that are leaves and were split are whole again."""
        nodes = reachable([root])
        products = {x for x in self.leaves if isinstance(x, ir.Map) and x.fn == "mul"}
        if not products:
            return nodes
        order: TopologicalSorter[ir.Node] = TopologicalSorter()
        todo, seen = [root], {root}
        while todo:
            node = todo.pop()
            given = max(self.build.wholes.get(node, ()), key=lambda args: sum(a in products for a in args), default=())
            if not products.isdisjoint(given):
                self._wholes[node] = given
            needed = given if node in self._wholes else dependencies(node)
            order.add(node, *needed)
            todo += [a for a in dict.fromkeys(needed) if a not in seen]
            seen.update(needed)
        return list(order.static_order())

    def arguments(self, node: ir.Node) -> tuple[ir.Node, ...]:
        return self._wholes.get(node, node.args)

    def _depending(self) -> set[ir.Node]:
        """The nodes that depend on a leaf."""
        moving: set[ir.Node] = set()
        for node in self._nodes:
            own = node in self.leaves or (isinstance(node, ir.MatMul) and node.matrix in self.leaves)
            if own or (not isinstance(node, ir.Stop) and any(a in moving for a in self.arguments(node))):
                moving.add(node)
        return moving

    def _run(self) -> None:
        for node in reversed(self._nodes):
            if node not in self._pieces:
                continue
            pieces = self._pieces[node] if node in self.leaves else self._pieces.pop(node)
            found = [_Piece(self, dict(ties), self._added(values)) for ties, values in pieces.items()]
            for piece in found:
                self.build.note(piece.value, node, tuple(piece.name(i) for i in node.type.indices))
            if node in self.leaves and not any(a in self._moving for a in self.arguments(node)):
                continue
            rule = _contract if node in self._wholes else RULES.get(type(node))
            if rule is None:
                raise ProgramError([_no_gradient(node)])
            for piece in found:
                rule(self, node, piece)

    def _added(self, values: list[ir.Node]) -> ir.Node:
        return values[0] if len(values) == 1 else self.build.map("add", values, self.span)

    # -- results ------------------------------------------------------------------------------------------------
    def depends(self, leaf: Leaf) -> bool:
        return leaf in self._outer if isinstance(leaf, ir.MatrixSymbol) else leaf in self._pieces

    def by(self, leaf: ir.Node, wanted: tuple[Label, ...]) -> ir.Node:
        """The gradient by a ket or scalar, with its indices named (or placed) as requested; an index named like one of f
        gives the diagonal."""
        parts = []
        for ties, values in self._pieces.get(leaf, {}).items():
            piece = self._placed(self._added(values), dict(ties), leaf.type.indices, wanted)
            if piece is not None:
                parts.append(piece)
        total = self._added(parts) if parts else self.build.constant(0, self.span)
        return self.build.as_ket(total, leaf.type.width, self.span) if leaf.type.is_ket else total

    def _placed(
        self, value: ir.Node, ties: Mapping[Index, Label], own: tuple[Index, ...], wanted: tuple[Label, ...]
    ) -> ir.Node | None:
        """A piece over the requested labels; None if it is zero there."""
        renamed: dict[Index, Label] = {}
        factors = []
        for index, label in zip(own, wanted, strict=True):
            tied = ties.get(index)
            if tied is None:
                renamed[self.local(index)] = label
            elif tied != label:
                factors.append(self.build.delta(tied, label, self.span))
        if any(is_zero(f) for f in factors):
            return None
        placed = self.build.rename(value, renamed, self.span)
        return self.build.map("mul", (placed, *factors), self.span) if factors else placed

    def tied(self, leaf: ir.Node, index: Index) -> Index | None:
        """The index of f that an own index of a leaf is tied to everywhere, if there is one."""
        (label, *others) = {dict(ties).get(index) for ties in self._pieces.get(leaf, {(): []})}
        return label if isinstance(label, Index) and not others else None

    def members(self, leaf: Leaf) -> set[tuple[Label, ...]]:
        """The members of a family that a gradient is not zero for: positions, and own indices that run."""
        if isinstance(leaf, ir.MatrixSymbol):
            terms = [zip(o.member, leaf.indices, strict=True) for o in self.outer(leaf)]
            return {tuple(i if not isinstance(m, int) else m for m, i in term) for term in terms}
        return {tuple(dict(ties).get(i, i) for i in leaf.type.indices) for ties in self._pieces.get(leaf, {})}

    def outer(self, matrix: ir.MatrixSymbol) -> tuple[Outer, ...]:
        """The gradient by a matrix as a sum of outer products."""
        return tuple(self._outer.get(matrix, ()))

    def parts(self, leaf: Leaf) -> tuple[Part, ...]:
        """The gradient by a leaf term by term, each for its members of the family."""
        if isinstance(leaf, ir.MatrixSymbol):
            return self.outer(leaf)
        found = [(dict(ties), self._added(values)) for ties, values in self._pieces.get(leaf, {}).items()]
        return tuple(self._single(leaf, ties, value) for ties, value in found)

    def _single(self, leaf: ir.Node, ties: Mapping[Index, Label], value: ir.Node) -> Single:
        member = tuple(ties.get(i, self.local(i)) for i in leaf.type.indices)
        value = self.build.as_ket(value, leaf.type.width, self.span) if leaf.type.is_ket else value
        return Single(member, value, tuple(self.local(i) for i in leaf.type.indices if i not in ties))

    # -- names --------------------------------------------------------------------------------------------------
    def local(self, index: Index) -> Index:
        """The name of an own index in a piece: its own, unless f has an index of that name."""
        if index not in self.seeds:
            return index
        if index not in self._fresh:
            self._fresh[index] = self.build.fresh(index)
        return self._fresh[index]

    def add(self, node: ir.Node, ties: Mapping[Index, Label], value: ir.Node) -> None:
        if node in self._moving and not is_zero(value):
            key = tuple(sorted(ties.items(), key=_order))
            self._pieces.setdefault(node, {}).setdefault(key, []).append(value)

    def add_outer(self, matrix: ir.MatrixSymbol, outer: Outer) -> None:
        if matrix in self.leaves:
            self._outer.setdefault(matrix, []).append(outer)


class Outers(Protocol):
    """Anything that gives gradients by matrices as sums of outer products."""

    def outer(self, matrix: ir.MatrixSymbol) -> tuple[Outer, ...]: ...


def entries(
    build: Builder, gradient: Outers, matrix: ir.MatrixSymbol, slot: int, span: Span,
    weight: tuple[ir.Node, tuple[Index, ...]] | None = None,
) -> ir.Node:  # fmt: skip
    """The natural entries Σ dh_α x_β of the gradient by a matrix (family), over slot 0 and `slot`.

    With `weight` (χ, its indices) the gradient of Σ χ f for a family f over those indices.
    """
    terms = []
    factor, seeds = weight or (build.constant(1, span), ())
    hidden = {i: build.fresh(i) for i in matrix.indices}
    for outer in gradient.outer(matrix):
        names: dict[Index, Label] = {i: build.fresh(i) for i in outer.over}
        factors = [] if weight is None else [factor]
        for label, own in zip(outer.member, matrix.indices, strict=True):
            if label in outer.free and isinstance(label, Index):
                names[label] = hidden[own]
            else:
                factors.append(build.delta(label, hidden[own], span))
        left, right = (build.rename(x, names, span) for x in (outer.left, outer.right))
        over = (*(i for k, i in names.items() if k in outer.over and isinstance(i, Index)), *seeds)
        terms.append(build.contract((left, build.copy(right, slot, span), *factors), over, (), span))
    if not terms:
        zero = build.constant(0, span)
        left, right = (build.mul(zero, build.ones(w, span), span) for w in (matrix.rows, matrix.cols))
        return build.mul(left, build.copy(right, slot, span), span)
    total = build.map("add", terms, span) if len(terms) > 1 else terms[0]
    return build.rename(total, {new: old for old, new in hidden.items()}, span)


class _Piece:
    """A piece of the cotangent of a node y, with the operations that rules need."""

    def __init__(self, of: Gradient, ties: dict[Index, Label], value: ir.Node):
        self.of, self.build, self.span = of, of.build, of.span
        self.ties = ties
        self.value = value

    def name(self, index: Index) -> Label:
        """The label in the value for one of y's own indices."""
        return self.ties.get(index, self.of.local(index))

    def at(self, node: ir.Node) -> ir.Node:
        """A node over indices of y, under the names of this piece."""
        return self.build.rename(node, {i: self.name(i) for i in node.type.indices}, self.span)

    def free(self, indices: Iterable[Index]) -> tuple[Index, ...]:
        """The names of the own indices that are not tied."""
        return tuple(self.of.local(i) for i in indices if i not in self.ties)

    def send(self, arg: ir.Node, factors: Iterable[ir.Node], own: Iterable[Index], slots: Iterable[int]) -> None:
        """Adds value·Π factors to the cotangent of `arg`: summed over the indices `own` and averaged over the `slots`
        (those of y, and those that y sums) that `arg` does not have."""
        factors = tuple(f for f in (self.value, *factors) if not (isinstance(f, ir.Constant) and f.value == 1))
        if any(is_zero(f) for f in factors):
            self.build.omit(factors)
            return
        kept = self.free(arg.type.indices)
        over = tuple(i for i in self.free(dict.fromkeys(own)) if i not in kept)
        mean = tuple(s for s in dict.fromkeys(slots) if s not in {k for k, _ in arg.type.slots})
        factors = factors or (self.build.constant(1, self.span),)
        ties = {i: t for i, t in self.ties.items() if i in arg.type.indices}
        self.of.add(arg, ties, self.build.contract(factors, over, mean, self.span))

    def loosened(self, index: Index) -> _Piece:
        """The same piece with one index not tied."""
        if index not in self.ties:
            return self
        factor = self.build.delta(self.ties[index], self.of.local(index), self.span)
        rest = {i: t for i, t in self.ties.items() if i != index}
        return _Piece(self.of, rest, self.build.mul(self.value, factor, self.span))


def _order(item: tuple[Index, Label]) -> tuple[str, str]:
    return item[0].name, str(item[1])


def _slots(node: ir.Node) -> tuple[int, ...]:
    return tuple(s for s, _ in node.type.slots)


def _zero_by(node: ir.Node, leaf: ir.Node) -> bool:
    """Is a product that is 0 so by this factor alone?"""
    while node is not leaf:
        zeros = [a for a in node.args if is_zero(a)]
        if len(zeros) != 1:
            return False
        (node,) = zeros
    return True


def _no_gradient(node: ir.Node) -> Diagnostic:
    what = {ir.Spectral: "a matrix function of an operator", ir.Carry: "a state", ir.Trace: "a history"}.get(
        type(node), type(node).__name__.lower()
    )
    what = node.construct if isinstance(node, ir.Unavailable) else what
    return Diagnostic("NX280", f"{what} cannot be differentiated", node.span, "wrap it in `stop(...)`, or write it out")


# ------------------------------------------------------------------------------------------------- one rule a node
def _map(of: Gradient, node: ir.Map, y: _Piece) -> None:
    alg = NodeAlgebra(of.build, of.span)
    for k, arg in enumerate(node.args):
        if arg in of._moving:
            slope = partial(alg, node, k)
            if not is_zero(slope):
                y.send(arg, (y.at(slope),), node.type.indices, _slots(node))


def _contract(of: Gradient, node: ir.Node, y: _Piece) -> None:
    """d(Σ mean Π x_k) = Σ mean Π_{j≠k} x_j dx_k: indices summed in the value are free in the cotangent."""
    over, mean = (node.over, node.slots) if isinstance(node, ir.Contract) else ((), ())
    args = of.arguments(node)
    for k, arg in enumerate(args):
        if arg in of._moving:
            others = [y.at(a) for j, a in enumerate(args) if j != k]
            y.send(arg, others, (*node.type.indices, *over), (*_slots(node), *mean))


def _copy(of: Gradient, node: ir.Copy, y: _Piece) -> None:
    moved = exchanged(of.build, y.value, node.slot, of.span)
    _Piece(of, y.ties, moved).send(node.args[0], (), node.type.indices, ())


def _matmul(of: Gradient, node: ir.MatMul, y: _Piece) -> None:
    """y = W x: |dx> += ρ⁻¹ Wᵀ|dy>, dW += |dy><x|;  y = Wᵀ x: |dx> += ρ W|dy>, dW += ρ |x><dy|; ρ = lim rows/cols."""
    (x,) = node.args
    build, span = of.build, of.span
    ratio = node.matrix.rows.ratio / node.matrix.cols.ratio
    member = tuple(y.name(m) if isinstance(m, Index) else m for m in node.member)
    value = build.as_ket(y.value, node.type.width, span)
    if x in of._moving:
        back = build.matmul(node.matrix, member, not node.transposed, value, span)
        scale = build.constant(ratio if node.transposed else 1 / ratio, span)
        _Piece(of, y.ties, build.mul(scale, back, span)).send(x, (), node.type.indices, ())
    if node.matrix in of.leaves:
        left, right = value, y.at(x)
        if node.transposed:
            left, right = build.mul(build.constant(ratio, span), right, span), left
        loose = y.free(node.type.indices)
        over = tuple(i for i in loose if i not in member)
        of.add_outer(node.matrix, Outer(member, left, right, over, tuple(i for i in loose if i in member)))


def _reindex(of: Gradient, node: ir.Reindex, y: _Piece) -> None:
    """x read under other names, at positions, on diagonals, or at positions in integer data."""
    x, *gathers = node.args
    build, span = of.build, of.span
    by_data = dict.fromkeys(i for g in gathers for i in g.type.indices)
    by_name = {s for s in node.selectors if isinstance(s, Index)}
    hidden: dict[Index, Label] = {of.local(i): build.fresh(i) for i in by_data if i not in by_name and i not in y.ties}
    ties: dict[Index, Label] = {}
    moved: dict[Index, Label] = {}
    factors: list[ir.Node] = []
    gathered: list[tuple[Index, ir.Node]] = []
    for index, selector in zip(x.type.indices, node.selectors, strict=True):
        if isinstance(selector, int):
            ties[index] = selector
        elif isinstance(selector, ir.Gather):
            gathered.append((of.local(index), y.at(node.args[selector.arg])))
        elif selector in y.ties:
            ties[index] = y.ties[selector]
        elif of.local(selector) in moved:  # a diagonal
            factors.append(build.delta(moved[of.local(selector)], of.local(index), span))
        else:
            moved[of.local(selector)] = of.local(index)
    names = {**hidden, **moved}
    value = build.rename(y.value, {k: v for k, v in names.items() if k != v}, span)
    for own, position in gathered:
        placed = build.rename(position, {k: v for k, v in names.items() if k != v}, span)
        factors.append(build.equal(build.position(own, span), placed, span))
    over = tuple(i for i in hidden.values() if isinstance(i, Index))
    of.add(x, ties, build.contract((value, *factors), over, (), span))


def _stack(of: Gradient, node: ir.Stack, y: _Piece) -> None:
    place = y.ties.get(node.index)
    rest = tuple(i for i in node.type.indices if i != node.index)
    for position, arg in enumerate(node.args, 1):
        if arg not in of._moving or (isinstance(place, int) and place != position):
            continue
        ties = {i: t for i, t in y.ties.items() if i != node.index}
        value = y.value
        if isinstance(place, Index):
            value = of.build.mul(value, of.build.delta(place, position, of.span), of.span)
        elif place is None:
            value = of.build.rename(value, {of.local(node.index): position}, of.span)
        _Piece(of, ties, value).send(arg, (), rest, _slots(node))


def _along(of: Gradient, node: ir.Along, y: _Piece) -> None:
    """The transposed map."""
    loose = y.loosened(node.index)
    index = of.local(node.index)
    value = of.build.again(node, (loose.value,), of.span, index=index, **node.transposed())
    _Piece(of, loose.ties, value).send(node.args[0], (), node.type.indices, ())


def _reduce(of: Gradient, node: ir.Reduce, y: _Piece) -> None:
    """max and min: to the extreme entries, in equal parts; logsumexp: softmax; prod: the product of the others."""
    build, span = of.build, of.span
    (x,) = node.args
    if node.op == "logsumexp":
        weight = build.map("exp", (build.add(x, build.neg(node, span), span),), span)
    elif node.op == "prod":
        other = build.fresh(node.index)
        there = build.rename(x, {node.index: other}, span)
        same = build.delta(node.index, other, span)
        weight = build.reduce("prod", build.map("where", (same, build.constant(1, span), there), span), other, span)
    else:
        hit = build.equal(x, node, span)
        count = build.contract((hit,), (node.index,), (), span)
        weight = build.map("div", (hit, count), span)
    y.send(x, (y.at(weight),), node.type.indices, _slots(node))


def _clt(of: Gradient, node: ir.Clt, y: _Piece) -> None:
    """The natural gradients of vᵀx/√n are those of <v|x> (language.md section 7)."""
    for k, arg in enumerate(node.args):
        y.send(arg, (y.at(node.args[1 - k]),), node.type.indices, (0,))


def _initial_scalar(of: Gradient, node: ir.InitialScalar, y: _Piece) -> None:
    y.send(node.args[0], (), node.type.indices, ())


def _initial_ket(of: Gradient, node: ir.InitialKet, y: _Piece) -> None:
    """Initial values are drawn: their mean and variance are held fixed."""


def _linalg(of: Gradient, node: ir.Linalg, y: _Piece) -> None:
    """inv: dK = -Y' dY Y';  solve: db = K'⁻¹ dy, dK = -db y';  logdet: dK = dy K'⁻¹;  cholesky and functions of a
    symmetric matrix by their own rules (Murray 2016, arXiv 1602.07527; Daleckii-Krein)."""
    build, span = of.build, of.span
    rows, cols = node.rows, node.cols
    loose = y.loosened(rows).loosened(cols)
    own = tuple(dict.fromkeys((*node.type.indices, rows, cols)))
    slot: dict[str, Index] = {k: build.fresh(rows) for k in "ab"}
    a, b = slot["a"], slot["b"]

    def named(x: ir.Node, r: Index, c: Index) -> ir.Node:
        """A matrix, already under the names of the piece, over (r, c)."""
        return build.rename(x, {of.local(rows): r, of.local(cols): c}, span)

    def send(k: int, value: ir.Node, without: Index | None = None) -> None:
        _Piece(of, loose.ties, value).send(node.args[k], (), (i for i in own if i != without), ())

    r, c = of.local(rows), of.local(cols)
    minus = build.constant(-1, span)
    if node.op == "inv":
        inverse = loose.at(node)
        terms = (minus, named(inverse, a, r), named(loose.value, a, b), named(inverse, c, b))
        send(0, build.contract(terms, (a, b), (), span))
    elif node.op == "solve":
        flipped = build.rename(loose.at(node.args[0]), {r: c, c: r}, span)
        value = build.rename(loose.value, {r: c}, span)
        right = build.linalg("solve", r, c, (flipped, value), "", span)  # over r
        send(1, build.rename(right, {r: c}, span), without=rows)
        solution = build.rename(loose.at(node), {r: c}, span)
        send(0, build.map("mul", (minus, right, solution), span))
    elif node.op == "logdet":
        inverse = build.linalg("inv", r, c, (loose.at(node.args[0]),), "", span)
        send(0, build.mul(loose.value, build.rename(inverse, {r: c, c: r}, span), span))
    elif node.op == "cholesky":
        lower = loose.at(node)
        inverse = build.linalg("inv", r, c, (lower,), "", span)
        product = build.contract((named(lower, a, r), named(loose.value, a, c)), (a,), (), span)
        places = [build.position(i, span) for i in (r, c)]
        half = build.constant(0.5, span)
        below = build.add(places[0], build.neg(places[1], span), span)
        mask = build.add(build.map("step", (below,), span), build.mul(half, build.delta(r, c, span), span), span)
        phi = build.mul(product, mask, span)
        full = build.contract((named(inverse, a, r), named(phi, a, b), named(inverse, b, c)), (a, b), (), span)
        send(0, build.mul(half, build.add(full, build.rename(full, {r: c, c: r}, span), span), span))
    elif node.op in ("dpow", "dmatfun"):
        message = "second derivatives of functions of a matrix are not supported"
        raise ProgramError([Diagnostic("NX280", message, node.span, "wrap the first derivative in `stop(...)`")])
    elif any(x in of._moving for x in node.args[1:]):
        message = "the exponent of a matrix power must not depend on the parameter"
        raise ProgramError([Diagnostic("NX280", message, node.span, "wrap the exponent in `stop(...)`")])
    else:  # matfun and pow
        args = [loose.at(x) for x in node.args[:1]] + [loose.value] + [loose.at(x) for x in node.args[1:]]
        slope = build.linalg(f"d{node.op}", r, c, tuple(args), node.fn, span)
        send(0, slope)


RULES: dict[type[ir.Node], Callable[..., None]] = {
    ir.Map: _map,
    ir.Contract: _contract,
    ir.Copy: _copy,
    ir.MatMul: _matmul,
    ir.Reindex: _reindex,
    ir.Stack: _stack,
    **dict.fromkeys(ir.ALONG, _along),
    ir.Reduce: _reduce,
    ir.Clt: _clt,
    ir.InitialScalar: _initial_scalar,
    ir.InitialKet: _initial_ket,
    ir.Linalg: _linalg,
}
