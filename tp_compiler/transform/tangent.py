"""Inner products of natural gradients: the tangent kernel, and the global norm of a gradient.

For kets <a|a'>, for operators |a><b| and |a'><b'| <a|a'><b|b'>, for scalars the product; with the ratios of widths that
make the sum the tangent kernel of the network at width n (docs/training.md, section 1).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from tp_compiler.diagnostics import Diagnostic, ProgramError, Span
from tp_compiler.ir import nodes as ir
from tp_compiler.ir.build import Builder, is_zero
from tp_compiler.ir.types import Index, N, Width
from tp_compiler.ir.walk import reachable
from tp_compiler.transform.gradient import Gradient, Label, Leaf, Outer, Part


def parameters(root: ir.Node) -> list[Leaf]:
    """The trainable parameters that a scalar depends on: initial kets, scalars and matrices that are not frozen, and
    their values in a training loop."""
    found: dict[Leaf, None] = {}
    starts: set[Leaf] = set()
    for node in reachable([root]):
        match node:
            case ir.InitialKet(symbol=symbol) | ir.InitialScalar(symbol=symbol) if not symbol.frozen:
                found[node] = None
            case ir.MatMul(matrix=matrix) if not matrix.frozen:
                found[matrix] = None
            case ir.Carry(state=state):
                found[node] = None
                starts.add(state.init)
    return [leaf for leaf in found if leaf not in starts]


class Renamed:
    """The gradient of f[j], or f[2], obtained from that of f[i] by renaming the indices of f."""

    def __init__(self, build: Builder, gradient: Gradient, names: dict[Index, Label], span: Span):
        self.build, self.gradient, self.names, self.span = build, gradient, names, span

    def parts(self, leaf: Leaf) -> tuple[Part, ...]:
        return tuple(self._part(p) for p in self.gradient.parts(leaf))

    def _part(self, p: Part) -> Part:
        """Indices that run inside get fresh names: f may be requested under one of theirs."""
        inner: dict[Index, Label] = {i: self.build.fresh(i) for i in (*p.over, *p.free)}
        names = {**self.names, **inner}
        member = tuple(names.get(m, m) if isinstance(m, Index) else m for m in p.member)
        over, free = (tuple(n for i in own if isinstance(n := inner[i], Index)) for own in (p.over, p.free))
        return p.mapped(lambda x: self.build.rename(x, names, self.span), member=member, over=over, free=free)


class Member:
    """The gradient by one member of a family, zero for the others. `at` has a label, where it matters a position, for
    each index of the family."""

    def __init__(self, build: Builder, gradient: Gradient | Renamed, at: tuple[Label, ...], span: Span):
        self.build, self.gradient, self.at, self.span = build, gradient, at, span

    def parts(self, leaf: Leaf) -> tuple[Part, ...]:
        return tuple(kept for p in self.gradient.parts(leaf) if (kept := self._kept(p)) is not None)

    def _kept(self, p: Part) -> Part | None:
        places = [(at, label) for at, label in zip(self.at, p.member, strict=True) if isinstance(at, int)]
        if any(isinstance(label, int) and label != at for at, label in places):
            return None
        here = [self.build.delta(label, at, self.span) for at, label in places]
        first = self.build.map("mul", (p.factors[0], *here), self.span)
        return replace(p, left=first) if isinstance(p, Outer) else replace(p, value=first)


def gradients(
    build: Builder, first: ir.Node, second: ir.Node, leaves: list[Leaf], span: Span
) -> tuple[Gradient | Renamed, Gradient | Renamed]:
    """The gradients of two families without common indices; differentiated once if both are members of one family."""
    (f, f_names), (g, g_names) = (_base(x) for x in (first, second))
    if f is not g:
        return Gradient(build, first, leaves, span), Gradient(build, second, leaves, span)
    gradient = Gradient(build, f, leaves, span)
    return Renamed(build, gradient, f_names, span), Renamed(build, gradient, g_names, span)


def _base(node: ir.Node) -> tuple[ir.Node, dict[Index, Label]]:
    """The family that a node renames, and how."""
    if isinstance(node, ir.Reindex) and len(node.args) == 1:
        named = [s for s in node.selectors if not isinstance(s, ir.Gather)]
        return node.args[0], dict(zip(node.args[0].type.indices, named, strict=True))
    return node, {}


def inner_products(
    build: Builder,
    first: Gradient | Renamed | Member,
    second: Gradient | Renamed,
    leaves: list[Leaf],
    span: Span,
    width: Width | None = None,
) -> ir.Node:
    """Σ over the leaves of <gradient of f|gradient of f'>. The families f and f' must not share an index name.

    `width` is the class of the bracket that f is (ratios of widths); None leaves the ratios out: a plain norm.
    """
    total: list[ir.Node] = []
    for leaf in leaves:
        own = leaf.rows if isinstance(leaf, ir.MatrixSymbol) else leaf.type.width if leaf.type.is_ket else width
        ratio = build.constant(width.ratio / own.ratio if width and own else 1.0, span)
        slots = (0,) if isinstance(leaf, ir.MatrixSymbol) or leaf.type.is_ket else ()
        pairs = [_product(build, a, b, slots, span) for a, b in _meeting(first.parts(leaf), second.parts(leaf))]
        total += [build.mul(ratio, p, span) for p in pairs if not is_zero(p)]
    return build.map("add", total, span) if total else build.constant(0, span)


def _meeting(first: tuple[Part, ...], second: tuple[Part, ...]) -> Iterator[tuple[Part, Part]]:
    """The pairs that may belong to one member of the family. Those at different positions are not looked at: a family
    of L matrices, one a layer, has L pairs and not L²."""
    at: dict[tuple[int, ...], dict[tuple[Label, ...], list[Part]]] = {}  # which indices are fixed -> positions -> parts
    for b in second:
        fixed = tuple(k for k, m in enumerate(b.member) if isinstance(m, int))
        at.setdefault(fixed, {}).setdefault(tuple(b.member[k] for k in fixed), []).append(b)
    for a in first:
        for fixed, found in at.items():
            position = tuple(a.member[k] for k in fixed)
            one = all(isinstance(m, int) for m in position)
            candidates = found.get(position, []) if one else [b for parts in found.values() for b in parts]
            yield from ((a, b) for b in candidates)


def _product(build: Builder, a: Part, b: Part, slots: tuple[int, ...], span: Span) -> ir.Node:
    """Σ <a.left|b.left><a.right|b.right>, or <a|b>, if the two belong to one member of the family."""
    theirs: dict[Index, Label] = {i: build.fresh(i) for i in b.over}
    ours: dict[Index, Label] = {i: build.fresh(i) for i in (*a.over, *a.free)}
    over = list(ours.values()) + list(theirs.values())
    factors: list[ir.Node] = []
    for p, q in zip(a.member, b.member, strict=True):
        if q in b.free and isinstance(q, Index):
            theirs[q] = ours.get(p, p) if isinstance(p, Index) else p
        elif p in a.free and isinstance(p, Index):
            over.remove(ours[p])
            ours[p] = q
        elif p != q:
            factors.append(build.delta(p, q, span))
    if any(is_zero(f) for f in factors):
        return build.constant(0, span)
    met = [
        build.contract((build.rename(x, ours, span), build.rename(y, theirs, span)), (), slots, span)
        for x, y in zip(a.factors, b.factors, strict=True)
    ]
    indices = tuple(dict.fromkeys(i for i in over if isinstance(i, Index)))
    return build.contract((*met, *factors), indices, (), span)


def bracket_width(root: ir.Node, span: Span) -> Width:
    """The width class of the bracket that a scalar is; raises NX281 if it consists of brackets of several classes."""
    found: dict[Width, None] = {}
    todo = [root]
    seen: set[ir.Node] = set()
    while todo:
        node = todo.pop()
        if node in seen or not node.type.is_scalar:
            continue
        seen.add(node)
        if isinstance(node, ir.Contract | ir.Clt):
            widths = {w for a in node.args for slot, w in a.type.slots if slot == 0}
            found.update(dict.fromkeys(widths))
            if widths:
                continue
        todo.extend(node.args)
    if len(found) > 1:
        names = " and ".join(w.name for w in found)
        message = f"the output combines brackets of widths {names}, so its tangent kernel has no single scale"
        raise ProgramError([Diagnostic("NX281", message, span, "compute the kernels of the brackets separately")])
    return next(iter(found), N)
