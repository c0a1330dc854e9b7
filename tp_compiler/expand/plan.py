"""Which nodes become statements of their own, and where these stand: before the loop, in it, or behind it.

A node is bound by a statement where the source has bound it, where it is the gradient of something with a name, where it
is used twice and not short, or where the expression around it would grow too long. Some must be: what is read at a
position or by data while brackets inside name its indices, members of a family, values over the steps of a training.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from tp_compiler.expand.alike import Alike
from tp_compiler.expand.forms import LEAVES, Form, Forms, clocked
from tp_compiler.expand.unit import Unit, is_renaming, unwritten
from tp_compiler.ir import nodes as ir
from tp_compiler.ir.types import Index
from tp_compiler.ir.walk import reachable

BEFORE, LOOP, AFTER = "before", "loop", "after"
#: Leaves and operations of one statement; what a repeated part must weigh to get a statement.
MAX_WEIGHT = 14
REPEATED = 3
#: An average over copies cannot be taken apart into statements; beyond this it is refused.
MAX_COPIES = 20_000


@dataclass(frozen=True, eq=False)
class Target:
    """The node behind an output, and what the output calls its indices."""

    node: ir.Node
    names: dict[Index, Index]


class Plan:
    """`bound`: the nodes with a statement; `order`: all that is written, arguments first; `aliases`: see `_carry_over`."""

    def __init__(self, unit: Unit):
        self.unit = unit
        self.forms = Forms(unit.build, unit.applications)
        self.outputs = [o.node for o in unit.outputs]
        loop = unit.loop_roots()
        self.roots = [*unit.laws(), *self.outputs, *loop]
        self.forms.learn_slopes(reachable(self.roots))
        self.forms.learn_products((*unit.names, *unit.cotangents))
        everything = reachable([*self.roots, *self.written(self.roots)])
        self.changing = unit.training.changing(everything) if unit.trains else set()
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
        self._must()

    def args(self, node: ir.Node) -> tuple[ir.Node, ...]:
        return self.forms.of(node).args

    def written(self, roots: Iterable[ir.Node]) -> list[ir.Node]:
        """What is written to write the roots, in ascending serial number."""
        seen: set[ir.Node] = set()
        todo = list(roots)
        while todo:
            node = todo.pop()
            if node not in seen:
                seen.add(node)
                todo.extend(self.args(node))
        return sorted(seen, key=lambda n: n.serial)

    def _rename(self, everything: list[ir.Node]) -> None:
        """What is the same up to the names of indices is written once, in the first region that needs it."""
        kinds = Alike(everything).kinds
        first: dict[int, ir.Node] = {}
        rank = {BEFORE: 0, LOOP: 1, AFTER: 2}
        for node in sorted(self.written(self.roots), key=lambda n: (rank[self.region(n)], n.serial)):
            if isinstance(node, (*LEAVES, ir.Reindex, ir.Trace)) or self._copies(node):
                continue
            other = first.setdefault(kinds[node].number, node)
            if other is not node:
                pairs = zip(kinds[other].free, kinds[node].free, strict=True)
                renamed = tuple((a, b) for a, b in pairs if isinstance(a, Index) and isinstance(b, Index))
                self.forms.rename(node, other, renamed)
                if node in self.unit.names:
                    ident, places = self.unit.names[node]
                    back = {b: a for a, b in renamed}
                    self.unit.call(other, ident, tuple(back.get(p, p) if isinstance(p, Index) else p for p in places))

    def _target(self, node: ir.Node) -> Target:
        """The node that an output reports, under the names that the output gives its indices."""
        node = node.args[0] if isinstance(node, ir.Trace) else node
        names = {i: i for i in node.type.indices}
        while True:
            form = self.forms.of(node)
            if form.kind == "renamed":
                names = {a: names[b] for a, b in form.renamed}
            elif isinstance(node, ir.Reindex) and is_renaming(node):
                names = {
                    i: names[s] for i, s in zip(node.args[0].type.indices, node.selectors, strict=True) if isinstance(s, Index)
                }
            elif form.kind != "same":
                return Target(node, names)
            node = form.args[0]

    @staticmethod
    def _copies(node: ir.Node) -> bool:
        return any(slot for slot, _ in node.type.slots)

    def region(self, node: ir.Node) -> str:
        if node in self.beyond:
            return AFTER
        return LOOP if node in self.inside else AFTER if node in self.changing else BEFORE

    def clocked(self, node: ir.Node) -> bool:
        """Has a node a value at every step: is it bound in the loop, or behind it as `|h[step,i]> = ...`?"""
        if node in self.inside:
            return True
        return node in self.changing and node not in self.beyond and (node in self.stepwise or self._tells_time(node))

    def _tells_time(self, node: ir.Node) -> bool:
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

    # -- what is worth a statement --------------------------------------------------------------------------------
    def _choose(self) -> None:
        uses: dict[ir.Node, int] = dict.fromkeys(self.order, 0)
        for node in (*self.roots, *(a for n in self.order for a in self.args(n))):
            uses[node] += 1
        for node in self.order:
            form = self.forms.of(node)
            if form.kind == "unwritten":
                raise unwritten(node)
            weight = self._weight(form)
            if isinstance(node, ir.Constant):
                weight = 0
            if self._can(node, form) and self._worth(node, weight, uses[node]):
                self.bound.add(node)
                weight = 1
            elif weight > MAX_COPIES:
                raise unwritten(node)
            self.weights[node] = weight

    def _weight(self, form: Form) -> int:
        if form.kind in ("leaf", "reading", "same", "copy", "trace", "renamed"):
            return self.weights[form.args[0]] if form.args else 1
        return 1 + sum(self.weights[a] for a in form.args)

    def _can(self, node: ir.Node, form: Form) -> bool:
        """Statements bind scalars and kets: no leaves, no copies, nothing over the index `step`."""
        plain = node.type.is_scalar or node.type.is_ket
        return plain and form.kind not in ("leaf", "trace", "same", "renamed") and self.unit.clock not in node.type.indices

    def _worth(self, node: ir.Node, weight: int, uses: int) -> bool:
        if weight < 2:
            return False
        if uses == 1 and any(node is t.node for t in self.targets) and node not in self.inside:
            return False  # the output's line is its statement
        if node in self.unit.names or weight > MAX_WEIGHT or isinstance(node, ir.Stack):
            return True
        known = any(self._has_name(of) for of, _ in self.unit.cotangents.get(node, ()))
        return (known or uses >= 2) and (weight >= REPEATED or isinstance(node, ir.MatMul))

    def _has_name(self, node: ir.Node) -> bool:
        return node in self.bound or isinstance(node, LEAVES)

    # -- what must be a statement ---------------------------------------------------------------------------------
    def _must(self) -> None:
        for slope in self.unit.slopes:
            for node in slope.nodes:
                self._bind(node)
        kets = {d.ident for d in self.unit.declared if d.ket}
        for node in self.order:
            if isinstance(node, ir.MatMul) and node.matrix.name in kets:
                self._bind(node)  # in a bracket the name would be the ket's
            if isinstance(node, ir.Reindex):
                self._readable(node)
            if isinstance(node, ir.Trace) and not any(node is o for o in self.outputs):
                self._over(node.args[0])
            if self.unit.clock in self.forms.of(node).hidden:
                self._bind(node)
            if isinstance(node, ir.Stack):
                self.bound |= {a for a in node.args if a in self.unit.names and self._can(a, self.forms.of(a))}
        self._before_shadows()
        for node in self.outputs:
            if node in self.changing and self._tells_time(node):
                self._bind(node)
        self._carry_over()

    def _before_shadows(self) -> None:
        """Behind an output that is called like a function, the function is out of reach."""
        shadowed = False
        for output, target in zip(self.unit.outputs, self.targets, strict=True):
            if shadowed:
                self._bind(target.node)
            shadowed |= output.name in self.unit.checker.scope.library

    def _bind(self, node: ir.Node) -> None:
        if self.weights[node] > 1 and self._can(node, self.forms.of(node)):
            self.bound.add(node)

    def _over(self, node: ir.Node) -> None:
        """A quantity that is read at its steps has a name."""
        if node in self.changing and clocked(node) is None:
            self.bound.add(node)

    def _readable(self, node: ir.Reindex) -> None:
        """Brackets inside what is read at positions name indices that are gone; data point at names only."""
        x = node.args[0]
        if isinstance(x, ir.Trace):
            self._over(x.args[0])
            return
        kept = [s for s in node.selectors if isinstance(s, Index)]
        if len(set(kept)) == len(node.selectors) or isinstance(x, LEAVES) or x in self.bound:
            return
        by_data = len(node.args) > 1
        at_step = any(i == self.unit.clock for i in x.type.indices)
        if (by_data or at_step) and self._can(x, self.forms.of(x)):
            self.bound.add(x)
            return
        for inner in list(self.inline(x)):
            if self.forms.of(inner).rigid:
                self.bound.add(inner)

    def _carry_over(self) -> None:
        """Initial values of trained parameters are named before the loop, where their names still mean them."""
        trained = self.unit.starts()
        if not trained:
            return
        initial: set[ir.Node] = set()
        for node in self.order:
            parts = [a for a in self.args(node) if a in initial]
            matrix = isinstance(node, ir.MatMul) and node.matrix in trained
            if self.region(node) != BEFORE:
                for part in parts:
                    self._keep(part)
                if matrix and isinstance(node, ir.MatMul):
                    self.aliases.add(node.matrix)
            elif (parts or matrix or node in trained) and node not in self.bound:
                initial.add(node)
        for node in self.outputs:
            if node in initial:
                self._keep(node)

    def _keep(self, node: ir.Node) -> None:
        """Binds a value that is made of initial parameters; short ones are written with the parameters kept."""
        parts = set(self.inline(node))
        if self.weights[node] > 2 or any(isinstance(n, ir.MatMul) for n in parts):
            self.bound.add(node)
        else:
            self.aliases |= parts & self.unit.starts()


def _containing(order: list[ir.Node], kind: type[ir.Node]) -> set[ir.Node]:
    found: set[ir.Node] = set()
    for node in order:
        if isinstance(node, kind) or any(a in found for a in node.args):
            found.add(node)
    return found
