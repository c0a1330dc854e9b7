"""Which ket depends on which initial ket and matrix, through kets alone.

A scalar's limit is a number, so a path through a scalar carries no dependence. Paths through matrices, in either
orientation, do. Used by the limit (are `clt` scalars Gaussian?) and by the width exponents.
"""

from __future__ import annotations

from collections.abc import Iterable

from tp_compiler.diagnostics import Diagnostic
from tp_compiler.ir import nodes as ir
from tp_compiler.ir.primitives import PRIMITIVES
from tp_compiler.ir.walk import reachable

Symbol = ir.KetSymbol | ir.MatrixSymbol


class Dependence:
    """`symbols(node)`: the initial kets and matrices that a ket is a function of."""

    def __init__(self, roots: Iterable[ir.Node]):
        self._of: dict[ir.Node, frozenset[Symbol]] = {}
        for node in reachable(roots):
            self._of[node] = self._symbols(node)

    def symbols(self, node: ir.Node) -> frozenset[Symbol]:
        return self._of[node]

    def _symbols(self, node: ir.Node) -> frozenset[Symbol]:
        if node.type.is_scalar:
            return frozenset()
        own: frozenset[Symbol] = frozenset().union(*(self._of[a] for a in node.args))
        if isinstance(node, ir.InitialKet) and not _is_constant(node):
            return own | {node.symbol}
        return own | {node.matrix} if isinstance(node, ir.MatMul) else own

    def free_part(self, node: ir.Node) -> list[ir.Node] | None:
        """The centred Gaussian kets that `node` is a linear combination of: initial kets, or products W|x> whose
        |x> does not depend on W. None if it is not such a combination."""
        parts: list[ir.Node] = []
        todo = [node]
        while todo:
            n = todo.pop()
            if self._is_centred_gaussian(n):
                parts.append(n)
                continue
            kets = _combined_kets(n)
            if kets is None:
                return None
            todo.extend(kets)
        return parts

    def _is_centred_gaussian(self, node: ir.Node) -> bool:
        if isinstance(node, ir.InitialKet):
            mean = node.args[0]
            return isinstance(mean, ir.Constant) and mean.value == 0
        return isinstance(node, ir.MatMul) and node.matrix not in self.symbols(node.args[0])


def _combined_kets(node: ir.Node) -> list[ir.Node] | None:
    """The kets that a node combines linearly with scalar coefficients; None if it does anything else."""
    kets = [a for a in node.args if not a.type.is_scalar]
    linear = False
    if isinstance(node, ir.Map):
        everything = len(kets) == len(node.args)
        linear = {
            "add": everything,
            "mul": len(kets) == 1,
            "div": len(kets) == 1 and kets[0] is node.args[0],
        }.get(node.fn, False)
    elif isinstance(node, ir.Contract):
        linear = not node.slots and len(kets) == 1
    else:
        linear = node.linear == "entries"
    return kets if linear else None


def _is_constant(node: ir.InitialKet) -> bool:
    spread = node.args[1]
    return isinstance(spread, ir.Constant) and spread.value == 0


def clt_problem(dependence: Dependence, node: ir.Clt) -> Diagnostic | None:
    """Why vᵀx/√n has no limit of the form N(0, E v²x²), or None if it has one (docs/mathematics.md, section 4).

    One factor must be a combination of centred Gaussians (initial kets, hats) on which the other does not depend,
    not even through a transposed matrix.
    """
    for free, other in (node.args, node.args[::-1]):
        if gaussian_factor(dependence, free, other) is not None:
            return None
    return Diagnostic(
        "NX451",
        "this `clt` bracket is not known to be Gaussian: neither factor is a centred initial ket (or a fresh product"
        " `W|x>`) on which the other factor does not depend",
        node.span,
        "make one side an initial ket (or a fresh `W|x>`) on which the other side does not depend",
    )


#: A source of fresh Gaussians: an initial ket, or a matrix in one orientation (W and Wᵀ are not independent).
Fresh = tuple[Symbol, bool]


def gaussian_factor(dependence: Dependence, free: ir.Node, other: ir.Node) -> frozenset[Fresh] | None:
    """What makes `free` a centred Gaussian independent of `other`, or None if nothing does.

    Conditionally on everything else, `free` must be linear in the fresh Gaussians: none of them may enter the argument of another
    product, and no matrix may occur in both orientations (x·Wx and x·Wᵀx are one number).
    """
    parts = dependence.free_part(free)
    if not parts:
        return None
    found = frozenset(_fresh(p) for p in parts)
    symbols = {symbol for symbol, _ in found}
    arguments = [p.args[0] for p in parts if isinstance(p, ir.MatMul)]
    if len(symbols) < len(found) or any(symbols & dependence.symbols(x) for x in (other, *arguments)):
        return None
    return found


def _fresh(part: ir.Node) -> Fresh:
    if isinstance(part, ir.InitialKet):
        return part.symbol, False
    assert isinstance(part, ir.MatMul)
    return part.matrix, part.transposed


def clt_pair_problem(dependence: Dependence, a: ir.Clt, b: ir.Clt) -> Diagnostic | None:
    """Whether two `clt` scalars are jointly Gaussian with the covariance E v x v' x'.

    They are where both are linear in the same fresh Gaussians, or where the fresh Gaussians of one do not enter the
    other at all. <v|W w> and <w|Wᵀ v> are one number and neither: such pairs are refused.
    """
    for free_a, other_a in (a.args, a.args[::-1]):
        mine = gaussian_factor(dependence, free_a, other_a)
        for free_b, other_b in (b.args, b.args[::-1]):
            theirs = gaussian_factor(dependence, free_b, other_b)
            if mine is None or theirs is None:
                continue
            if mine == theirs or not _enters(dependence, mine, b) or not _enters(dependence, theirs, a):
                return None
    return Diagnostic(
        "NX452",
        "two `clt` brackets are not known to be jointly Gaussian: each depends on the kets that make the other one Gaussian",
        b.span,
        "put them in separate programs, or give them independent parameters",
    )


def _enters(dependence: Dependence, fresh: frozenset[Fresh], clt: ir.Clt) -> bool:
    return any(symbol in dependence.symbols(x) for symbol, _ in fresh for x in clt.args)


def lattice_at_jumps(nodes: Iterable[ir.Node]) -> ir.MatMul | None:
    """A product with a matrix of signs at which a function of kets may jump.

    Its entries lie on a lattice in networks of width n, and the average of a jump is off by n^-1/2.
    """
    nodes = list(nodes)
    products = [n for n in nodes if isinstance(n, ir.MatMul) and n.matrix.law != "normal"]
    if not products:
        return None
    jumping = [n for n in nodes if isinstance(n, ir.Map) and n.type.slots and PRIMITIVES[n.fn].jumps]
    met = set(reachable(jumping))
    if any(isinstance(n, ir.Carry) for n in met):  # in a training, which may bring every product there
        return products[0]
    return next((n for n in products if n in met), None)
