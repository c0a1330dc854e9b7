"""The role of a ket parameter in the network, derived from the brackets and products it enters.

In a bracket one factor may be a *readout*: a parameter by itself, up to index names and scalar factors, against
features that are not that parameter too, or its product with matrices (<c|c> with |c> = |e> is a norm, and <c|Q^T K|c> is
the logit <q|k> of |q> = Q|c>, |k> = K|c>: no readouts). If both sides
could be the readout, it is the one that is trained, then the one that is centred at initialisation (a gain of ones is
not), then the one without data, then the bra. A ket with no other use is an output parameter; one with both uses is
tied; any other is of vector kind. A readout need not be trained: its initial size still matters.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from tp_compiler.ir import nodes as ir
from tp_compiler.ir.build import is_zero
from tp_compiler.ir.walk import reachable
from tp_compiler.transform.gradient import Leaf


@dataclass
class BracketUse:
    """The brackets that a ket reads, and whether it enters features, too, and as what."""

    brackets: set[ir.Node] = field(default_factory=set)
    vector: bool = False
    role: str = "vector"

    @property
    def output(self) -> bool:
        return bool(self.brackets)


@dataclass(frozen=True)
class _Path:
    """A factor that is a parameter by itself; by data, or looked up by data?"""

    leaf: ir.Node
    data: bool = False
    gathered: bool = False
    mixed: bool = False  # by numbers that the network made, summed over: attention
    matrices: int = 0  # that it is multiplied by


def uses(roots: Iterable[ir.Node], leaves: set[ir.Node], still: Collection[ir.Node] = ()) -> dict[ir.Node, BracketUse]:
    """The uses of the kets among `leaves` in the network with results `roots`; those in `still` are not trained."""
    order = reachable(roots)
    kets = {leaf for leaf in leaves if leaf.type.is_ket}
    images = _images(order, kets)
    carriers = {node: path for node, path in images.items() if not path.matrices}
    found: dict[ir.Node, BracketUse] = defaultdict(BracketUse)
    for node in order:
        chosen = _chosen(node, images, still)
        for arg in node.args:
            path = carriers.get(arg)
            if path is None or node in carriers or is_zero(node):
                continue
            use = found[path.leaf]
            if arg is chosen:
                use.brackets.add(node)
            else:
                use.role = _role(node, arg, path) if not use.vector else use.role
                use.vector = True
    return dict(found)


def readers(
    roots: Iterable[ir.Node], leaves: set[ir.Node], still: Collection[ir.Node]
) -> dict[ir.Node, tuple[ir.Node, ir.Node]]:
    """The brackets that are read by a parameter: the factor that reads, and the parameter."""
    order = reachable(roots)
    images = _images(order, {leaf for leaf in leaves if leaf.type.is_ket})
    chosen = {node: _chosen(node, images, still) for node in order}
    return {node: (arg, images[arg].leaf) for node, arg in chosen.items() if arg is not None}


def readouts(bracket: ir.Node, used: dict[ir.Node, BracketUse]) -> list[tuple[ir.Node, BracketUse]]:
    """The parameters that read a bracket."""
    return [(leaf, use) for leaf, use in used.items() if bracket in use.brackets]


def _images(order: list[ir.Node], kets: set[ir.Node]) -> dict[ir.Node, _Path]:
    """The nodes that are a parameter by itself, up to names of indices, scalar factors and products with matrices."""
    found = {leaf: _Path(leaf) for leaf in kets}
    for node in order:
        inner = [a for a in node.args if a.type.slots]
        if node in found or is_zero(node) or len(inner) != 1 or inner[0] not in found or not _passes(node, inner[0]):
            continue
        before = found[inner[0]]
        scalars = [a for a in node.args if a is not inner[0]]
        made = {n for a in scalars for n in reachable([a])}
        gathered = isinstance(node, ir.Reindex) and bool(scalars)
        found[node] = _Path(
            before.leaf,
            before.data or (not gathered and any(isinstance(n, ir.Array) for n in made)),
            before.gathered or gathered,
            before.mixed or (isinstance(node, ir.Contract) and bool(node.over) and any(map(_averages, made))),
            before.matrices + isinstance(node, ir.MatMul),
        )
    return found


def _passes(node: ir.Node, ket: ir.Node) -> bool:
    match node:
        case ir.Reindex() | ir.Along() | ir.MatMul():
            return True
        case ir.Contract(slots=()):
            return True
        case ir.Map(fn="mul"):
            return True
        case ir.Map(fn="div"):
            return node.args[0] is ket
    return False


def _averages(node: ir.Node) -> bool:
    return isinstance(node, ir.Clt) or (isinstance(node, ir.Contract) and bool(node.slots))


def _chosen(node: ir.Node, images: dict[ir.Node, _Path], still: Collection[ir.Node]) -> ir.Node | None:
    """The factor of a bracket that is its readout."""
    if not (isinstance(node, ir.Clt) or (isinstance(node, ir.Contract) and node.slots == (0,))):
        return None
    kets = [a for a in node.args if a.type.slots]
    if len(kets) < 2 or any(len(a.type.slots) > 1 or a.type.slots[0][0] != 0 for a in kets):
        return None
    paths = [images.get(a) for a in kets]
    able = []
    for k, (ket, path) in enumerate(zip(kets, paths, strict=True)):
        if path is not None and not path.matrices and not _meets_itself(path, paths[:k] + paths[k + 1 :]):
            able.append((path, ket))
    if not able or len(set(kets)) == 1:
        return None
    return min(able, key=lambda own: (own[0].leaf in still, not centred(own[0].leaf), own[0].data))[1]


def _meets_itself(path: _Path, others: list[_Path | None]) -> bool:
    """Is the product of the other factors the same parameter, or a product of it with matrices?

    What attention has mixed is features: a parameter that is not mixed so reads them.
    """
    same = [p for p in others if p is not None and p.leaf is path.leaf]
    if any(not p.matrices for p in same):
        return True
    return len(same) == 1 and None not in others and (path.mixed or not same[0].mixed)


def centred(leaf: Leaf) -> bool:
    """Is a ket drawn with mean 0?"""
    mean = leaf.args[0] if isinstance(leaf, ir.InitialKet) else None
    return isinstance(mean, ir.Constant) and mean.value == 0


def _role(user: ir.Node, arg: ir.Node, path: _Path) -> str:
    if path.gathered:
        return "embedding"
    if path.data:
        return "input weights"
    if isinstance(user, ir.Map) and user.fn == "add":
        return "bias"
    others = any(a.type.slots and a is not arg for a in user.args)
    if others and (isinstance(user, ir.Contract) or (isinstance(user, ir.Map) and user.fn == "mul")):
        return "gain"
    return "vector"
