"""Which nodes become statements, and where: before the loop, in it, or after it.

A node is bound by a statement if the source binds it, if it is the gradient by something with a name, if
it is used twice and not short, or if the expression around it would become too long. Some must be bound (needs.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from heapq import heapify, heappop, heappush

from tp_compiler.expand.alike import EqualNodes
from tp_compiler.expand.forms import LEAVES, Forms, WrittenForm
from tp_compiler.expand.unit import SourceProgram, is_renaming, unwritten
from tp_compiler.ir import nodes as ir
from tp_compiler.ir.types import Index
from tp_compiler.ir.walk import reachable
from tp_compiler.transform.steps import changing

BEFORE, LOOP, AFTER = "before", "loop", "after"
#: The most leaves and operations in one statement; the least in a repeated part that gets its own statement.
MAX_WEIGHT = 14
REPEATED = 3
#: What stands under copies cannot be taken apart into statements; beyond this it is refused.
MAX_COPIES = 20_000


@dataclass(frozen=True, eq=False)
class OutputName:
    """The node of an output, and the output's names for its indices."""

    node: ir.Node
    names: dict[Index, Index]


class WritingPlan:
    """`order`: all nodes that are written, arguments first; `bound`: nodes with a statement.

    `changing`: nodes that depend on the step; `inside`: those the loop computes; `beyond`: those that use several steps.
    `aliases`: initial values of trained parameters used where their names denote the current values.
    """

    def __init__(self, unit: SourceProgram):
        self.unit = unit
        self.forms = Forms(unit.build, unit.applications)
        self.outputs = [o.node for o in unit.outputs]
        loop = unit.loop_roots()
        self.roots = [*unit.laws(), *self.outputs, *loop]
        self.forms.learn_slopes(reachable(self.roots))
        self.forms.learn_products((*unit.names, *unit.cotangents))
        everything = reachable([*self.roots, *self.written(self.roots), *self.forms.slopes])
        self.changing = changing(everything) if unit.training is not None else set()
        self.beyond = _containing(everything, ir.Trace)
        self.inside = set(self.written(loop)) & self.changing
        self._rename(everything)
        self.order = self.written(self.roots)
        self.inside = set(self.written(loop)) & self.changing
        self.targets = [self._target(node) for node in self.outputs]
        self.stepwise = set(self.written(n for n in everything if isinstance(n, ir.Trace))) & self.changing
        self.bound: set[ir.Node] = set()
        self.aliases: set[ir.Node | ir.MatrixSymbol] = set()
        self.weights: dict[ir.Node, int] = {}
        self._choose()

    # -- nodes as written ---------------------------------------------------------------------------------------
    def args(self, node: ir.Node) -> tuple[ir.Node, ...]:
        return self.forms.of(node).args

    def written(self, roots: Iterable[ir.Node]) -> list[ir.Node]:
        """The nodes needed to write the roots: arguments first, otherwise in the order of the program."""
        users: dict[ir.Node, list[ir.Node]] = {}
        missing: dict[ir.Node, int] = {}
        todo = list(roots)
        while todo:
            node = todo.pop()
            if node not in missing:
                args = dict.fromkeys(self.args(node))
                missing[node] = len(args)
                for a in args:
                    users.setdefault(a, []).append(node)
                todo.extend(args)
        ready = [(node.serial, node) for node, count in missing.items() if not count]
        heapify(ready)
        order: list[ir.Node] = []
        while ready:
            order.append(heappop(ready)[1])
            for user in users.get(order[-1], ()):
                missing[user] -= 1
                if not missing[user]:
                    heappush(ready, (user.serial, user))
        return order

    def _rename(self, everything: list[ir.Node]) -> None:
        """Nodes that are equal up to the names of indices are written once, in the first region that needs them."""
        kinds = EqualNodes(everything).kinds
        first = {kinds[slope].number: slope for slope in reversed(self.forms.slopes)}
        rank = {BEFORE: 0, LOOP: 1, AFTER: 2}
        for node in sorted(self.written(self.roots), key=lambda n: (rank[self.region(n)], n.serial)):
            if isinstance(node, (*LEAVES, ir.Reindex, ir.Trace)) or any(slot for slot, _ in node.type.slots):
                continue
            other = first.setdefault(kinds[node].number, node)
            if other is node:
                continue
            pairs = zip(kinds[other].free, kinds[node].free, strict=True)
            renamed = {b: a for a, b in pairs if isinstance(a, Index) and isinstance(b, Index)}
            self.forms.rename(node, other, {a: b for b, a in renamed.items()})
            if node in self.unit.names:
                ident, places = self.unit.names[node]
                self.unit.call(other, ident, tuple(renamed.get(p, p) if isinstance(p, Index) else p for p in places))

    def _target(self, node: ir.Node) -> OutputName:
        """The node that an output reports, with the output's names for its indices."""
        node = node.args[0] if isinstance(node, ir.Trace) else node
        names = {i: i for i in node.type.indices}
        while True:
            form = self.forms.of(node)
            if form.kind == "renamed":
                names = {a: names[b] for a, b in form.renamed.items()}
            elif isinstance(node, ir.Reindex) and is_renaming(node):
                selected = zip(node.args[0].type.indices, node.selectors, strict=True)
                names = {i: names[s] for i, s in selected if isinstance(s, Index)}
            elif form.kind != "same":
                return OutputName(node, names)
            node = form.args[0]

    # -- where it stands ----------------------------------------------------------------------------------------
    def region(self, node: ir.Node) -> str:
        if node in self.beyond:
            return AFTER
        return LOOP if node in self.inside else AFTER if node in self.changing else BEFORE

    def clocked(self, node: ir.Node) -> bool:
        """Does a node have a value at every step: is it bound in the loop, or after it as `|h[step,i]> = ...`?"""
        if node in self.inside:
            return True
        return node in self.changing and node not in self.beyond and (node in self.stepwise or self.tells_time(node))

    def tells_time(self, node: ir.Node) -> bool:
        return any(isinstance(n, ir.Clock) for n in self.inline(node))

    def inline(self, node: ir.Node) -> Iterator[ir.Node]:
        """The nodes that are written within the statement of a node, itself included."""
        todo, seen = [node], {node}
        while todo:
            here = todo.pop()
            yield here
            for a in self.args(here):
                if a not in self.bound and a not in seen:
                    seen.add(a)
                    todo.append(a)

    def read(self, node: ir.Node) -> set[ir.Node]:
        """The nodes that the statement of a node reads by name."""
        return {a for part in self.inline(node) for a in self.args(part) if a in self.bound}

    # -- choice of statements -------------------------------------------------------------------------------------
    def _choose(self) -> None:
        uses: dict[ir.Node, int] = dict.fromkeys(self.order, 0)
        for node in (*self.roots, *(a for n in self.order for a in self.args(n))):
            uses[node] += 1
        reported = {t.node for t in self.targets} - self.inside
        for node in self.order:
            form = self.forms.of(node)
            weight = self._weight(node, form)
            alone = uses[node] == 1 and node in reported  # the output's line is its statement
            if self.can(node) and not alone and self._worth(node, weight, uses[node]):
                self.bound.add(node)
                weight = 1
            if form.kind == "unwritten" or weight > MAX_COPIES:
                raise unwritten(node)
            self.weights[node] = weight

    def _weight(self, node: ir.Node, form: WrittenForm) -> int:
        if isinstance(node, ir.Constant):
            return 0
        if form.kind in ("leaf", "reading", "same", "copy", "trace", "renamed"):
            return self.weights[form.args[0]] if form.args else 1
        return 1 + sum(self.weights[a] for a in form.args)

    def can(self, node: ir.Node) -> bool:
        """Statements bind scalars and kets: no leaves, no copies, nothing over the index `step`."""
        plain = node.type.is_scalar or node.type.is_ket
        passing = self.forms.of(node).kind in ("leaf", "trace", "same", "renamed")
        return plain and not passing and self.unit.clock not in node.type.indices

    def _worth(self, node: ir.Node, weight: int, uses: int) -> bool:
        if weight < 2:
            return False
        if node in self.unit.names or weight > MAX_WEIGHT or isinstance(node, ir.Stack):
            return True
        of = (forward for forward, _ in self.unit.cotangents.get(node, ()))
        known = any(n in self.bound or isinstance(n, LEAVES) for n in of)
        return (known or uses >= 2) and (weight >= REPEATED or isinstance(node, ir.MatMul))

    def bind(self, node: ir.Node) -> None:
        """Gives a node a statement, unless it is short or cannot have one."""
        if self.weights[node] > 1 and self.can(node):
            self.bound.add(node)


def _containing(order: list[ir.Node], kind: type[ir.Node]) -> set[ir.Node]:
    found: set[ir.Node] = set()
    for node in order:
        if isinstance(node, kind) or any(a in found for a in node.args):
            found.add(node)
    return found
