"""A program as seen by width exponents: the network at initialisation, its readouts, and the uses of each parameter.

The network is the function of the parameters that the program minimises, differentiates or reports, written with the
initial values of the parameters. Its *readings* are the brackets that meet no ket any more on their way to the result:
f in (f - y)^2. A `clt` bracket is √n times the natural one; where a trained ket reads the other side, that ket takes
the √n.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property

from tp_compiler.diagnostics import Diagnostic, ProgramError, Span
from tp_compiler.ir import nodes as ir
from tp_compiler.ir.build import Builder
from tp_compiler.ir.model import Member, Network, Trainable, meet
from tp_compiler.ir.types import Type
from tp_compiler.ir.walk import reachable, rewrite
from tp_compiler.scale.kinds import BracketUse, centred, readers, readouts, uses
from tp_compiler.scale.numbers import HALF
from tp_compiler.scale.optimizers import ParameterKind
from tp_compiler.transform.gradient import Gradient, Leaf


@dataclass(frozen=True, eq=False)
class NetworkParameter:
    """A parameter, its place in the network, and how it is used there."""

    declared: Trainable
    leaf: Leaf
    kind: ParameterKind
    role: str
    shown: str
    tied: bool = False
    clt: bool = False  #: a readout of brackets over the square root of the width

    @property
    def zero(self) -> bool:
        """It is 0 at initialisation."""
        if isinstance(self.leaf, ir.MatrixSymbol):
            return _is_zero(self.leaf.variance)
        return all(_is_zero(a) for a in self.leaf.args)


@dataclass(eq=False)
class NetworkReading:
    """The network of a program. `order` lists all its nodes, `backward` the gradients by every parameter."""

    network: Network
    build: Builder
    roots: tuple[ir.Node, ...]
    parameters: tuple[NetworkParameter, ...]
    names: dict[ir.Node, str]
    spans: dict[ir.Node, Span] = field(default_factory=dict)  # where the source says it
    powers: dict[ir.Node, ir.Node] = field(default_factory=dict)  # powers of n at brackets, by the tied ket that reads

    @cached_property
    def clt(self) -> float | None:
        """The ratio of the width whose square root divides outputs, if there are any."""
        return next(
            (p.leaf.type.slots[0][1].ratio for p in self.parameters if p.clt and isinstance(p.leaf, ir.Node)), None
        )

    @cached_property
    def order(self) -> list[ir.Node]:
        return reachable(self.roots)

    @cached_property
    def brackets(self) -> tuple[ir.Node, ...]:
        """The readings: brackets reached from a root through scalars alone."""
        found: dict[ir.Node, None] = {}
        seen, todo = set(self.roots), list(self.roots)
        while todo:
            node = todo.pop()
            if not node.type.is_scalar:
                continue
            if _is_bracket(node):
                found[node] = None
                continue
            new = [a for a in node.args if a not in seen]
            seen.update(new)
            todo.extend(new)
        moving = self.moving
        return tuple(sorted((n for n in found if n in moving), key=lambda n: n.serial))

    @cached_property
    def readers(self) -> dict[ir.Node, tuple[ir.Node, ir.Node]]:
        """The brackets with a readout: the factor that reads, and its parameter."""
        kets = [p for p in self.parameters if isinstance(p.leaf, ir.Node)]
        leaves = {p.leaf for p in kets if isinstance(p.leaf, ir.Node)}
        still = [p.leaf for p in kets if p.declared.still and isinstance(p.leaf, ir.Node)]
        return readers(self.roots, leaves, still)

    @cached_property
    def moving(self) -> dict[ir.Node, frozenset[Leaf]]:
        """Every node that depends on parameters, with those that it depends on."""
        leaves = {p.leaf for p in self.parameters}
        found: dict[ir.Node, frozenset[Leaf]] = {}
        for node in self.order:
            own: Leaf = node.matrix if isinstance(node, ir.MatMul) else node
            start: frozenset[Leaf] = frozenset({own} & leaves)
            total = start.union(*(found.get(a, frozenset()) for a in node.args))
            if total:
                found[node] = total
        return found

    @cached_property
    def features(self) -> list[ir.Node]:
        """The kets of the network that training can move, without the readouts themselves."""
        read = {p.leaf for p in self.parameters if p.kind == ParameterKind.OUTPUT and not p.tied}
        return [n for n, leaves in self.moving.items() if n.type.slots and not leaves <= read]

    @cached_property
    def gradients(self) -> dict[Leaf, list[tuple[Member, tuple[ir.Node, ...]]]]:
        """The natural gradient by every parameter as a list of terms, by a part each: products (ket,), or (left, right)."""
        leaves = list(dict.fromkeys(p.leaf for p in self.parameters))
        found: dict[Leaf, list[tuple[Member, tuple[ir.Node, ...]]]] = {leaf: [] for leaf in leaves}
        for root in self.roots:
            if root not in self.moving:
                continue
            gradient = Gradient(self.build, root, leaves, root.span)
            for leaf in leaves:
                if isinstance(leaf, ir.MatrixSymbol):
                    for term in gradient.outer(leaf):
                        member = tuple(m if isinstance(m, int) else None for m in term.member)
                        found[leaf].append((member, (term.left, term.right)))
                elif gradient.depends(leaf):
                    own = leaf.type.indices
                    found[leaf].append(((None,) * len(own), (gradient.by(leaf, own),)))
        return found

    def gradient(self, parameter: NetworkParameter) -> list[tuple[ir.Node, ...]]:
        """The terms of one parameter, or of a part of a family."""
        terms = self.gradients[parameter.leaf]
        return [term for part, term in terms if meet(part, parameter.declared.member)]

    @cached_property
    def backward(self) -> list[ir.Node]:
        """The nodes of the network and of its gradients, in topological order."""
        terms = [node for terms in self.gradients.values() for _, term in terms for node in term]
        return reachable([*self.roots, *terms])

    def name(self, node: ir.Node) -> str:
        """The name of a node in the source, or its text."""
        return self.names.get(node) or " ".join(self.spans.get(node, node.span).text.split())


def read(network: Network) -> NetworkReading:
    """A network as exponents see it. Raises ProgramError NX600 (no parameter), NX602 (not analysed)."""
    trainable = [t for t in network.parameters if not t.still]
    if not trainable:
        message = "the program has no trainable parameter"
        raise ProgramError([Diagnostic("NX600", message, None, "declare a ket or matrix that is not `frozen`")])
    build = Builder(fresh_from=10**6)
    candidates = list(dict.fromkeys((*network.roots, *network.outputs)))
    done: dict[ir.Node, ir.Node] = {}
    leaves = {id(t): _initial(t.leaf) for t in trainable}
    plain = {r: rewrite(build, r, _start, r.span, done) for r in candidates}
    chosen = _sufficient([plain[r] for r in network.roots], [plain[r] for r in network.outputs], set(leaves.values()))
    drawn = {t.leaf: t for t in network.parameters if t.still and isinstance(t.leaf, ir.Node)}
    used = uses(chosen, {leaf for leaf in (*leaves.values(), *drawn) if isinstance(leaf, ir.Node)}, drawn)
    for leaf, t in drawn.items():
        use = used.get(leaf, BracketUse())
        if (
            use.output
            and not use.vector
            and centred(leaf)
            and any(_leaves([b]) & set(leaves.values()) for b in use.brackets)
        ):
            trainable.append(t)
            leaves[id(t)] = leaf
        else:
            used.pop(leaf, None)
    roots, powers, again = _scaled(build, chosen, used)
    _refuse_unknown(roots)
    names: dict[ir.Node, str] = {}
    for node, (name, _) in network.names.items():
        now = done.get(node, node)
        _call(names, again.get(now, now), f"|{name}>" if node.type.slots else name)
    spans = {again.get(new, new): old.span for old, new in done.items()}
    parameters = tuple(_parameter(t, leaves[id(t)], used) for t in trainable)
    for p in parameters:
        if isinstance(p.leaf, ir.Node):
            names.setdefault(p.leaf, f"|{p.declared.name}>" if p.declared.ket else p.declared.name)
    return NetworkReading(network, build, roots, parameters, names, spans, powers)


def _call(names: dict[ir.Node, str], node: ir.Node, name: str) -> None:
    """Names a node, and the nodes that it only renames."""
    names[node] = name
    while isinstance(node, ir.Reindex) and len(node.args) == 1:
        (node,) = node.args
        names.setdefault(node, name)


def _sufficient(roots: list[ir.Node], outputs: list[ir.Node], leaves: set[Leaf]) -> list[ir.Node]:
    """The roots, and the outputs that show parameters which no root does; without any root all outputs."""
    shown = _leaves(roots)
    return roots + [o for o in outputs if not roots or (_leaves([o]) & leaves) - shown]


def _leaves(roots: Iterable[ir.Node]) -> set[Leaf]:
    return {n.matrix if isinstance(n, ir.MatMul) else n for n in reachable(roots)}


def _initial(leaf: Leaf) -> Leaf:
    return leaf.state.init if isinstance(leaf, ir.Carry) else leaf


def _start(node: ir.Node) -> ir.Node | None:
    """Replaces a parameter in the loop by its initial value; other leaves stay."""
    if isinstance(node, ir.Carry):
        return node.state.init
    return None if node.args and not isinstance(node, ir.InitialKet | ir.InitialScalar) else node


def _scaled(
    build: Builder, roots: list[ir.Node], used: dict[ir.Node, BracketUse]
) -> tuple[tuple[ir.Node, ...], dict[ir.Node, ir.Node], dict[ir.Node, ir.Node]]:
    """`clt` brackets written as √n times natural ones, and a power of n, open as yet, before those of tied kets."""
    powers: dict[ir.Node, ir.Node] = {}
    done: dict[ir.Node, ir.Node] = {}

    def rule(node: ir.Node) -> ir.Node | None:
        return None if _is_bracket(node) else _start(node)

    def made(node: ir.Node, args: tuple[ir.Node, ...]) -> ir.Node | None:
        if not _is_bracket(node):
            return None
        over, slots = (node.over, node.slots) if isinstance(node, ir.Contract) else ((), (0,))
        readers = [leaf for leaf, _ in readouts(node, used)]
        tied = [leaf for leaf in readers if used[leaf].vector]
        if tied:
            power = ir.WidthPower(type=Type(), exponent=0.0, span=node.span)
            powers[power] = tied[0]
            args = (power, *args)
        elif isinstance(node, ir.Clt) and not readers:
            args = (build.width_power(float(HALF), node.span), *args)
        return build.contract(args, over, slots, node.span)

    return tuple(rewrite(build, r, rule, r.span, done, made) for r in roots), powers, done


def _parameter(declared: Trainable, leaf: Leaf, used: dict[ir.Node, BracketUse]) -> NetworkParameter:
    shown = f"|{declared.name}>" if declared.ket else declared.name
    if any(p is not None for p in declared.member):
        shown += f"[{','.join('*' if p is None else str(p) for p in declared.member)}]"
    if isinstance(leaf, ir.MatrixSymbol):
        return NetworkParameter(declared, leaf, ParameterKind.HIDDEN, "matrix", shown)
    if leaf.type.is_scalar:
        return NetworkParameter(declared, leaf, ParameterKind.SCALAR, "number", shown)
    use = used.get(leaf, BracketUse())
    clt = any(isinstance(bracket, ir.Clt) for bracket in use.brackets)
    if use.output and not use.vector:
        return NetworkParameter(declared, leaf, ParameterKind.OUTPUT, "readout", shown, clt=clt)
    role = f"tied {use.role}" if use.output else use.role
    return NetworkParameter(declared, leaf, ParameterKind.INPUT, role, shown, use.output, clt)


def _is_bracket(node: ir.Node) -> bool:
    return isinstance(node, ir.Clt) or (isinstance(node, ir.Contract) and node.type.is_scalar and bool(node.slots))


def _is_zero(node: ir.Node) -> bool:
    return isinstance(node, ir.Constant) and node.value == 0


def _refuse_unknown(roots: Iterable[ir.Node]) -> None:
    for node in reachable(roots):
        if isinstance(node, ir.Unavailable | ir.Trace | ir.Apply | ir.Spectral | ir.Join):
            what = node.construct if isinstance(node, ir.Unavailable) else "a function of operators"
            message = f"sizes in {what} are not analysed"
            raise ProgramError([Diagnostic("NX602", message, node.span, "minimise or report a network without it")])
