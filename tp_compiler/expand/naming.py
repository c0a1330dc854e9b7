"""Names of bindings: those of the source, `dh` for the gradient at `h`, and short new ones.

Kets and everything else share one set of names here, since both look the same inside a bracket.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from tp_compiler.expand.plan import WritingPlan
from tp_compiler.expand.unit import ParameterGradient
from tp_compiler.frontend.syntax import RESERVED
from tp_compiler.ir import nodes as ir
from tp_compiler.ir.model import Brackets, Declared
from tp_compiler.ir.types import Index

FRESH = {True: "z", False: "c"}


@dataclass(eq=False)
class BoundMembers:
    """Members bound one by one, `|h[i,1]> = ...`. If the family is read over `index`, one statement must show which axis it
    is: the first is written in a loop `for s in 1..1`."""

    index: Index | None = None
    opened: bool = False


@dataclass(frozen=True, eq=False)
class WrittenName:
    """The name of a node: `brackets` are its own indices, and positions for a member of a family.

    `clocked`: a quantity of training, with a value at every step.
    """

    ident: str
    brackets: Brackets
    ket: bool
    clocked: bool = False
    family: BoundMembers | None = None


@dataclass(eq=False)
class Naming:
    """The names of leaves (`declared`), of bindings (`names`) and of saved initial values (`aliases`)."""

    plan: WritingPlan
    taken: set[str]
    names: dict[ir.Node, WrittenName] = field(default_factory=dict)
    declared: dict[ir.Node, WrittenName] = field(default_factory=dict)
    matrices: dict[ir.MatrixSymbol, str] = field(default_factory=dict)
    aliases: dict[ir.Node | ir.MatrixSymbol, WrittenName] = field(default_factory=dict)
    slopes: dict[ParameterGradient, str] = field(default_factory=dict)
    _own: dict[str, ir.Node] = field(default_factory=dict)  # output name -> its node
    _brackets: dict[ir.Node, Brackets] = field(default_factory=dict)  # its indices in the order of the output

    def __post_init__(self) -> None:
        unit = self.plan.unit
        self.taken |= set(RESERVED) | set(unit.model.vocabulary.library)
        self._declare(unit.declared)
        for o, target in zip(unit.outputs, self.plan.targets, strict=True):
            if o.name.isidentifier() and o.name not in self.taken:
                self.taken.add(o.name)
                own = {out: own for own, out in target.names.items()}
                whole = set(own) == {i for i in o.indices if i != unit.clock} and target.node not in self._brackets
                if whole and unit.names.get(target.node, (o.name,))[0] == o.name:
                    self._own[o.name] = target.node
                    self._brackets[target.node] = tuple(own[i] for i in o.indices if i != unit.clock)
        bound = [n for n in self.plan.order if n in self.plan.bound]
        self._families(bound)
        for node in bound:
            if node not in self.names and (node in unit.names or node in self._brackets):
                self._assign(node, *self._source(node))
        self._fresh(n for n in bound if n not in unit.cotangents)
        self._gradients(bound)
        self._fresh(bound)
        for kept in sorted(self.plan.aliases, key=lambda k: k.span.start):
            self._alias(kept)

    # -- declarations -------------------------------------------------------------------------------------------
    def _declare(self, declared: Iterable[Declared]) -> None:
        """Kets and matrices keep their names, which determine random draws; data and scalars are renamed in favour of kets."""
        declared = list(declared)
        kets = {d.ident for d in declared if d.ket}
        functions = set(self.plan.unit.model.vocabulary.library)
        self.taken |= kets | {d.ident for d in declared if isinstance(d.value, ir.MatrixSymbol)}
        for d in declared:
            shadows = not d.ket and d.ident in (functions if isinstance(d.value, ir.MatrixSymbol) else functions | kets)
            ident = self._free(d.ident) if shadows else d.ident
            self.taken.add(ident)
            if isinstance(d.value, ir.MatrixSymbol):
                self.matrices[d.value] = ident
            else:
                self.declared[d.value] = WrittenName(ident, d.indices, d.ket)

    def ident(self, declared: Declared) -> str:
        """The name of a declaration in the new text."""
        value = declared.value
        return self.matrices[value] if isinstance(value, ir.MatrixSymbol) else self.declared[value].ident

    def kets(self) -> set[str]:
        """The names of kets."""
        return {name.ident for name in (*self.declared.values(), *self.names.values()) if name.ket}

    def leaf(self, node: ir.Node) -> WrittenName | None:
        """The name of a declaration, or of a parameter's value in the loop."""
        if isinstance(node, ir.Carry):
            return self.declared.get(node.state.init)
        if isinstance(node, ir.InitialKet) and node.symbol.name == "1":
            return WrittenName("1", (), True)
        return self.declared.get(node)

    # -- names of the source ------------------------------------------------------------------------------------
    def _source(self, node: ir.Node) -> tuple[str, Brackets]:
        own = next((name for name, n in self._own.items() if n is node), None)
        if own is not None:
            return own, self._brackets[node]
        ident, places = self.plan.unit.names[node]
        named = tuple(p for p in places if isinstance(p, Index) and p in node.type.indices)
        brackets = (
            named if set(named) == set(node.type.indices) and len(set(named)) == len(named) else node.type.indices
        )
        return ident, brackets

    def _assign(self, node: ir.Node, ident: str, brackets: Brackets, numbered: bool = False) -> None:
        if self._own.get(ident) is not node or any(n.ident == ident for n in self.names.values()):
            ident = self._free(ident, numbered)
        self.taken.add(ident)
        self.names[node] = WrittenName(ident, brackets, node.type.is_ket, self.plan.clocked(node))

    def _fresh(self, nodes: Iterable[ir.Node]) -> None:
        for node in nodes:
            if node not in self.names:
                self._assign(node, FRESH[node.type.is_ket], node.type.indices, numbered=True)

    def _free(self, ident: str, numbered: bool = False) -> str:
        trial, k = (f"{ident}1", 1) if numbered else (ident, 1)
        joint = "_" if ident[-1:].isdigit() else ""
        while trial in self.taken:
            k += 1
            trial = f"{ident}{joint}{k}"
        return trial

    def _alias(self, kept: ir.Node | ir.MatrixSymbol) -> None:
        ident = self.matrices[kept] if isinstance(kept, ir.MatrixSymbol) else self._leaf_name(kept).ident
        brackets = kept.indices if isinstance(kept, ir.MatrixSymbol) else kept.type.indices
        ket = isinstance(kept, ir.InitialKet)
        own = self.plan.unit.names.get(kept, ("", ()))[0] if isinstance(kept, ir.Node) else ""
        self.aliases[kept] = WrittenName(self._free(own or f"{ident}_0"), brackets, ket)
        self.taken.add(self.aliases[kept].ident)

    def _leaf_name(self, node: ir.Node) -> WrittenName:
        name = self.leaf(node)
        assert name is not None
        return name

    # -- gradients ----------------------------------------------------------------------------------------------
    def _gradients(self, bound: list[ir.Node]) -> None:
        shared: dict[str, str] = {}  # the members of a family have one name
        for slope in self.plan.unit.slopes:
            ident = shared.get(slope.parameter) or self._free(f"d{slope.parameter}")
            shared[slope.parameter] = self.slopes[slope] = ident
            self.taken.add(ident)
            node = slope.value
            if isinstance(node, ir.Node) and node in self.plan.bound and node not in self.names:
                self.names[node] = WrittenName(ident, _brackets(slope, node), node.type.is_ket, True)
        for node in bound:
            if node in self.names:
                continue
            for of, _ in self.plan.unit.cotangents.get(node, ()):
                name = self.names.get(of) or self.leaf(of)
                if name is not None:
                    self._assign(node, f"d{name.ident}", node.type.indices)
                    break

    # -- members ------------------------------------------------------------------------------------------------
    def _families(self, bound: list[ir.Node]) -> None:
        """`|h[i,1]>`, `|h[i,2]>`, ...: nodes bound in the source as members of one family remain so."""
        groups: dict[str, dict[ir.Node, Brackets]] = {}
        for node in bound:
            if node in self.plan.unit.names:
                ident, places = self.plan.unit.names[node]
                groups.setdefault(ident, {})[node] = places
        for ident, members in groups.items():
            if ident not in self.taken and _are_members(members) and len({self.plan.region(n) for n in members}) == 1:
                self._family(ident, members)

    def _family(self, ident: str, members: dict[ir.Node, Brackets]) -> None:
        family = BoundMembers()
        ket = next(iter(members)).type.is_ket
        self.taken.add(ident)
        for node, places in members.items():
            self.names[node] = WrittenName(ident, places, ket, self.plan.clocked(node), family)
        for stack in self.plan.order:
            if isinstance(stack, ir.Stack) and stack not in self.names and all(a in members for a in stack.args):
                whole = _whole(stack, [members[a] for a in stack.args])
                if whole is not None:
                    family.index = stack.index
                    self.names[stack] = WrittenName(ident, whole, ket, self.names[stack.args[0]].clocked, family)


def _brackets(slope: ParameterGradient, node: ir.Node) -> Brackets:
    """The brackets of a gradient: those of the parameter if it has them all."""
    return slope.member if set(node.type.indices) <= set(slope.member) else node.type.indices


def _are_members(members: dict[ir.Node, Brackets]) -> bool:
    """Whether they differ only in their positions, with one at each."""
    fixed = {tuple(k for k, p in enumerate(places) if not isinstance(p, Index)) for places in members.values()}
    running = {tuple(p for p in places if isinstance(p, Index)) for places in members.values()}
    once = all(n == 1 for n in Counter(members.values()).values())
    kinds = {(n.type.is_ket, n.type.slots) for n in members}
    whole = all(set(n.type.indices) <= set(places) for n, places in members.items())
    return len(fixed) == len(running) == len(kinds) == 1 and fixed != {()} and once and whole


def _whole(stack: ir.Stack, places: list[Brackets]) -> Brackets | None:
    """The brackets of a family over the index of a stack, whose members have these; None if they do not fit."""
    found = set()
    for position, own in enumerate(places, 1):
        spots = [k for k, p in enumerate(own) if not isinstance(p, Index)]
        if len(spots) != 1 or own[spots[0]] != position:
            return None
        found.add(tuple(stack.index if k == spots[0] else p for k, p in enumerate(own)))
    return found.pop() if len(found) == 1 else None
