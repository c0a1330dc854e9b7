"""The class of a parametrization for any architecture: orders of magnitude of every ket, update and reading.

One step of training changes a parameter by what its optimizer makes of its gradient; gradients are nodes of the same
program (`ir.gradient`), so their sizes come out of the same sweep. An update is as large as it becomes in training: after
each sweep the parameters that were 0, or that read outputs, have the size that their updates give them, and the next sweep
sees gradients made of those. On perceptrons the verdicts are those of TP IVb Thm 2.8.12 (verdict.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from tp_compiler.ir import nodes as ir
from tp_compiler.ir.gradient import Leaf
from tp_compiler.scale.figures import Row, strict
from tp_compiler.scale.growth import CONSTANT, NOTHING, Order
from tp_compiler.scale.numbers import order, power
from tp_compiler.scale.optimizers import Entrywise, Kind
from tp_compiler.scale.program import Reading
from tp_compiler.scale.symmetry import Symmetry
from tp_compiler.scale.tropical import ABSENT, FIXED, Given, Size, Sizes
from tp_compiler.scale.verdict import Condition, Question, Verdict


@dataclass(frozen=True)
class Architecture(Verdict):
    """The class of a program, and the sizes that it rests on."""

    conditions: tuple[Condition, ...]
    r: Fraction
    updates: dict[str, Order]  #: parameter: what its own update moves, moves by n^this
    problems: tuple[str, ...]  #: what blows up or stands still, with its power


class Analysis:
    """A network with its gradients; `judge` asks for the class that rows of figures give it."""

    def __init__(self, reading: Reading):
        self.reading = reading
        self.forward = reading.order
        self.backward = reading.backward
        self.symmetry = Symmetry(self.backward)
        self.natural = self._sweep(self.forward, {p.leaf: ABSENT if p.zero else FIXED for p in reading.parameters}, None)
        self.watched = self._watched()

    def _sweep(self, nodes: list[ir.Node], sizes: dict[Leaf, Size], rows: list[Row] | None) -> Sizes:
        powers: dict[Leaf, Size] = {}
        for node, name in self.reading.powers.items():
            tied = [r for r in rows or () if r.output is not None and r.parameter.declared.name == name]
            powers[node] = Size(1 + tied[0].output if tied and tied[0].output is not None else CONSTANT)
        return Sizes(nodes, self.symmetry, Given(sizes | powers, self.reading.brackets))

    def _watched(self) -> list[ir.Node]:
        """The kets that can move, the scalars that enter kets, and the readings."""
        moving = self.reading.moving
        inner: set[ir.Node] = set()
        for node in reversed(self.forward):
            if node.type.slots or node in inner:
                inner |= {a for a in node.args if a.type.is_scalar and a in moving}
        kets = set(self.reading.features)
        return [n for n in self.forward if n in kets or n in inner or n in self.reading.brackets]

    # -- training -----------------------------------------------------------------------------------------------
    def updates(self, rows: list[Row]) -> tuple[dict[int, Order], dict[int, Order]]:
        """What every row's update adds to its parameter, in natural units, and the entries of its gradient."""
        starts = {r.parameter.leaf: Size(NOTHING if r.parameter.zero else r.size) for r in rows}
        found: dict[int, Order] = {}
        entries: dict[int, Order] = {}
        grown = starts
        for _ in range(len(rows) + 2):
            sizes = self._sweep(self.backward, grown, rows)
            new = {}
            for k, row in enumerate(rows):
                terms = self.reading.gradients[row.parameter.leaf]
                natural = max((sum((sizes[x].total for x in t), CONSTANT) for t in terms), default=NOTHING)
                new[k], entries[k] = _step(row, natural)
            if new == found:
                break
            found = new
            grown = self._after(rows, starts, found, True)
        return found, entries

    def _after(self, rows: list[Row], starts: dict[Leaf, Size], found: dict[int, Order], early: bool) -> dict[Leaf, Size]:
        """The parameters with their updates; `early`: of those alone that may outgrow what they started as."""
        after = dict(starts)
        for k, row in enumerate(rows):
            p = row.parameter
            if not early or p.zero or p.kind == Kind.OUTPUT:
                change = max(after[p.leaf].change, found[k])
                after[p.leaf] = Size(starts[p.leaf].start, change, p.leaf)
        return after

    # -- verdicts -----------------------------------------------------------------------------------------------
    def judge(self, rows: list[Row], given_d: bool = False) -> Architecture:
        """The class. `given_d`: the rows have exponents d of their own, so that eps may be off."""
        found, entries = self.updates(rows)
        starts = {r.parameter.leaf: Size(NOTHING if r.parameter.zero else r.size) for r in rows}
        sizes = self._sweep(self.forward, self._after(rows, starts, found, False), rows)
        moves = [sizes.of[n].change for n in self.reading.features]
        fastest = max(moves, default=NOTHING)
        r = -Fraction(fastest) if fastest != NOTHING else Fraction(0)
        conditions = (
            *self._at_init(sizes),
            *self._faithful(rows, entries, given_d),
            *self._stable(sizes),
            self._nontrivial(sizes),
            self._features(fastest, sizes),
        )
        updates = {row.parameter.shown: found[k] for k, row in enumerate(rows)}
        return Architecture(conditions, r, updates, tuple(self._problems(sizes)))

    def _named(self) -> list[ir.Node]:
        """What has a name, and the readings."""
        names = self.reading.names
        return [n for n in self.watched if n in names or n in self.reading.brackets]

    def _at_init(self, sizes: Sizes) -> list[Condition]:
        source, conditions = "[orders of magnitude; TP IVb (2.25)]", []
        for node in self.watched:
            start, name = sizes.of[node].start, self.reading.name(node)
            if node.type.slots:
                holds = start == self.natural.of[node].start
                text = f"{name} is {_order(start)} at initialisation"
                if not holds:
                    text += f", not {_order(self.natural.of[node].start)}"
            else:
                holds = start <= max(CONSTANT, self.natural.of[node].start)
                text = f"{name} is {_order(start)} at initialisation"
            if not holds or node in self.reading.names or node in self.reading.brackets:
                conditions.append(Condition(Question.INIT, source, holds, text))
        return conditions or [Condition(Question.INIT, source, True, "no ket depends on a parameter")]

    def _faithful(self, rows: list[Row], entries: dict[int, Order], given_d: bool) -> list[Condition]:
        conditions = []
        for k, row in enumerate(rows):
            name, source = row.parameter.shown, f"[{row.optimizer.source}]"
            if given_d and strict(row) and entries[k] != NOTHING:
                eps = row.raw["eps"]
                wanted = getattr(row.optimizer, "eps", 1) * Fraction(entries[k])
                holds = eps == wanted
                text = f"{name}: gradient entries are {_order(entries[k])}, and eps stands for {power(eps)}"
                conditions.append(Condition(Question.FAITHFUL, source, holds, text))
            else:
                degree = row.optimizer.degree if isinstance(row.optimizer, Entrywise) else None
                what = f"is homogeneous of degree {degree}" if degree is not None else "scales with its gradient"
                text = f"{name}: {row.optimizer.name} {what}, its eps and damping with what they stand beside"
                conditions.append(Condition(Question.FAITHFUL, source, True, text))
        return conditions

    def _stable(self, sizes: Sizes) -> list[Condition]:
        source, conditions = "[orders of magnitude; TP IVb (2.27)]", []
        for node in self.watched:
            size = sizes.of[node]
            holds = size.change <= 0
            if not holds or node in self.reading.names or node in self.reading.brackets:
                conditions.append(Condition(Question.STABLE, source, holds, self._moves(node, size)))
        return conditions or [Condition(Question.STABLE, source, True, "nothing moves")]

    def _moves(self, node: ir.Node, size: Size) -> str:
        if size.change == NOTHING:
            return f"{self.reading.name(node)} does not move"
        by = next((p.shown for p in self.reading.parameters if p.leaf == size.cause), "")
        return f"{self.reading.name(node)} moves by {_order(size.change)}" + (f", through updates of {by}" if by else "")

    def _nontrivial(self, sizes: Sizes) -> Condition:
        best = max(self.reading.brackets, key=lambda n: sizes.of[n].change, default=None)
        change = sizes.of[best].change if best is not None else NOTHING
        text = self._moves(best, sizes.of[best]) if best is not None else "there is no reading"
        return Condition(Question.NONTRIVIAL, "[TP IVb (2.28)]", change == 0, text)

    def _features(self, fastest: Order, sizes: Sizes) -> Condition:
        node = max(self.reading.features, key=lambda n: sizes.of[n].change, default=None)
        text = self._moves(node, sizes.of[node]) if node is not None else "there are no features"
        r = f"r = {-Fraction(fastest)}: " if fastest != NOTHING else ""
        return Condition(Question.FEATURES, "[TP IVb 2.8]", fastest == 0, r + text)

    def _problems(self, sizes: Sizes) -> list[str]:
        """The first node of each name that is not Θ(1), or that does not move by Θ(1)."""
        found: dict[str, str] = {}
        for node in self._named():
            size, name = sizes.of[node], self.reading.name(node)
            start = self.natural.of[node].start
            if (node.type.slots and size.start != start) or (not node.type.slots and size.start > max(CONSTANT, start)):
                found[name] = f"{name} is {_order(size.start)} at initialisation"
            elif size.change > 0 and "blows up" not in found.get(name, ""):
                found[name] = f"{name} blows up: {self._moves(node, size).removeprefix(name).strip()}"
            elif size.change < 0 and name not in found and self._could_move(node):
                freezes = "stands still" if size.change == NOTHING else f"freezes: {self._moves(node, size)}"
                found[name] = freezes if name in freezes else f"{name} {freezes}"
        return list(found.values())

    def _could_move(self, node: ir.Node) -> bool:
        return node in self.reading.moving


def _step(row: Row, natural: Order) -> tuple[Order, Order]:
    """What a step adds to a parameter, in natural units; and the entries of its raw gradient."""
    if natural == NOTHING:
        return NOTHING, NOTHING
    g = row.gradient(Fraction(natural))
    return row.raw["lr"] + row.optimizer.step(g) + row.raw["multiplier"], g.entry


def _order(size: Order) -> str:
    return "0" if size == NOTHING else order(Fraction(size))
