"""The class of a parametrization for any architecture: orders of magnitude of every ket, update and readout.

One training step changes a parameter by what its optimizer computes from its gradient; gradients are nodes of the same
program (`transform.gradient`), so the same sweep gives their sizes. An update is as large as it becomes in training:
after each sweep the parameters that were 0, and readouts, have the size that their updates give them, and the
next sweep uses gradients with those sizes. On perceptrons the verdicts are those of TP IVb Thm 2.8.12 (verdict.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from tp_compiler.ir import nodes as ir
from tp_compiler.ir.model import Member
from tp_compiler.scale.alignment import Alignment
from tp_compiler.scale.exchange import alike
from tp_compiler.scale.figures import Row, strict
from tp_compiler.scale.growth import CONSTANT, NOTHING, Order
from tp_compiler.scale.numbers import HALF, order, power
from tp_compiler.scale.optimizers import EntrywiseOptimizer, ParameterKind
from tp_compiler.scale.program import NetworkParameter, NetworkReading
from tp_compiler.scale.symmetry import Symmetry
from tp_compiler.scale.tropical import ABSENT, FIXED, AlignedParameters, Given, Members, NodeSizes, Size
from tp_compiler.scale.verdict import Condition, Question, Verdict
from tp_compiler.transform.gradient import Leaf

#: Sizes of parameters, part by part.
Parts = dict[Leaf, dict[Member, Size]]


@dataclass(frozen=True)
class ScalingProblem:
    """What goes wrong with a quantity: `|x> freezes: it moves by Θ(n^(-1))`."""

    name: str
    what: str

    def __str__(self) -> str:
        return f"{self.name} {self.what}"


@dataclass(frozen=True)
class Architecture(Verdict):
    """The class of a program, and the sizes that it rests on."""

    conditions: tuple[Condition, ...]
    r: Fraction
    updates: dict[str, Order]  #: parameter: its update moves the quantities it acts on by n^this
    problems: tuple[ScalingProblem, ...]  #: quantities that blow up or do not move, with the power
    notes: tuple[str, ...] = ()  #: parameters that do not learn because members of a family start equal


class Analysis:
    """A network with its gradients; `judge` determines the class for given rows of values."""

    def __init__(self, reading: NetworkReading):
        self.reading = reading
        self.forward = reading.order
        self.backward = reading.backward
        self.symmetry = Symmetry(self.backward)
        self.alike = alike(reading, self.symmetry.suppressed)
        self.members: Members | None = None  # of the rows that are judged
        self.natural = self._sweep(
            self.forward, _parts((p, ABSENT if p.zero else FIXED) for p in reading.parameters), None
        )
        self.watched = self._watched()

    def _sweep(self, nodes: list[ir.Node], sizes: Parts, rows: list[Row] | None, first: bool = True) -> NodeSizes:
        given = Given(sizes | self._powers(rows or ()), self.reading.brackets)
        return NodeSizes(nodes, self.symmetry, given, first, self.members)

    def aligned_sizes(
        self,
        nodes: list[ir.Node],
        sizes: Parts,
        rows: Sequence[Row],
        aligned: Mapping[Leaf, Mapping[Member, Alignment]],
        members: Members | None,
    ) -> NodeSizes:
        """Nodes for parameters of these sizes, at all orders, with the alignments of parameters that are given."""
        by = AlignedParameters(aligned, self.reading.readers, set(self.forward))
        given = Given(sizes | self._powers(rows), self.reading.brackets, by)
        return NodeSizes(nodes, self.symmetry, given, False, members)

    def _powers(self, rows: Sequence[Row]) -> Parts:
        powers: Parts = {}
        for node, leaf in self.reading.powers.items():
            tied = [r for r in rows if r.output is not None and r.parameter.leaf is leaf]
            powers[node] = {(): Size(1 + tied[0].output if tied and tied[0].output is not None else CONSTANT)}
        return powers

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
    def updates(self, rows: list[Row], first: bool = False) -> tuple[dict[int, Order], dict[int, Order]]:
        """What every row's update adds to its parameter, in natural units, and the entries of its gradient.

        `first`: in the very first step. Else in training, to first order where that already blows up.
        """
        self.members = self.members_apart(rows)
        return self._updates(rows, first)

    def _updates(self, rows: list[Row], first: bool = False) -> tuple[dict[int, Order], dict[int, Order]]:
        starts = initial_sizes(rows)
        found, entries = self._steps(rows, starts)
        if first:
            return found, entries
        for _ in range(len(rows) + 1):
            new, entries = self._steps(rows, self._after(rows, starts, found, True))
            if new == found:
                break
            found = new
        return found, entries

    def _steps(self, rows: list[Row], sizes: Parts, first: bool = True) -> tuple[dict[int, Order], dict[int, Order]]:
        """Updates and gradient entries for parameters of these sizes."""
        swept = self._sweep(self.backward, sizes, rows, first)
        found: dict[int, Order] = {}
        entries: dict[int, Order] = {}
        for k, row in enumerate(rows):
            terms = self.reading.gradient(row.parameter)
            natural = max((sum((swept[x].total for x in t), CONSTANT) for t in terms), default=NOTHING)
            found[k], entries[k] = _step(row, natural)
        return found, entries

    def _trained(self, rows: list[Row]) -> tuple[dict[int, Order], dict[int, Order], NodeSizes]:
        """Updates, gradient entries and sizes in training: everything has moved, and products of two things that move count
        where nothing blows up without them."""
        starts = initial_sizes(rows)
        found, entries = self._updates(rows)
        sizes = self._sweep(self.forward, self._after(rows, starts, found, False), rows)
        if self._bursts(sizes):
            return found, entries, sizes
        for _ in range(len(rows) + 2):
            new, entries = self._steps(rows, self._after(rows, starts, found, False), first=False)
            new = {k: max(x, found[k]) for k, x in new.items()}
            settled = new == found
            found = new
            sizes = self._sweep(self.forward, self._after(rows, starts, found, False), rows, first=False)
            if settled or self._bursts(sizes):
                break
        return found, entries, sizes

    def _bursts(self, sizes: NodeSizes) -> bool:
        return any(sizes.of[n].moves > 0 for n in self.watched)

    def _after(self, rows: list[Row], starts: Parts, found: dict[int, Order], early: bool, grow: bool = True) -> Parts:
        """The parameters with their updates; `early`: only those that may outgrow their initial values. `grow`: a
        readout counts as large as it becomes."""
        after = {leaf: dict(parts) for leaf, parts in starts.items()}
        for k, row in enumerate(rows):
            p = row.parameter
            if not early or p.zero or p.kind == ParameterKind.OUTPUT:
                start = starts[p.leaf][p.declared.member].start
                if grow and p.kind == ParameterKind.OUTPUT and start != NOTHING:
                    start = max(start, found[k])
                after[p.leaf][p.declared.member] = Size(start, found[k], p)
        return after

    def sizes(self, rows: list[Row]) -> dict[str, Size]:
        """What has a name in the program (`|x>`, `f`): its size at initialisation, and how it moves in training.

        A name that a loop binds again has the largest of its sizes.
        """
        self.members = self.members_apart(rows)
        initial = self._sweep(self.forward, initial_sizes(rows), rows)
        moving = self._trained(rows)[2]
        found: dict[str, Size] = {}
        for node, name in self.reading.names.items():
            if node in moving.of:
                before, size = found.get(name, ABSENT), moving.of[node]
                start = max(before.start, initial.of[node].start)
                found[name] = Size(start, max(before.change, size.change), None, max(before.scaled, size.scaled))
        return found

    # -- verdicts -----------------------------------------------------------------------------------------------
    def judge(self, rows: list[Row], given_d: bool = False) -> Architecture:
        """The class. `given_d`: the rows have their own exponents d, so that eps may be unfaithful."""
        self.members = None
        apart = self._trained(rows)
        self.members = self.members_apart(rows)
        found, entries, sizes = self._trained(rows) if self.members is not None else apart
        notes = self._notes(rows, entries, apart[1], found)
        starts = initial_sizes(rows)
        initial = self._sweep(self.forward, starts, rows)
        moves = [sizes.of[n].moves for n in self.reading.features]
        fastest = max(moves, default=NOTHING)
        r = -Fraction(fastest) if fastest != NOTHING else Fraction(0)
        conditions = (
            *self._at_init(initial),
            *self._faithful(rows, entries, given_d),
            *self._stable(sizes),
            self._nontrivial(sizes),
            self._features(fastest, sizes),
        )
        updates = {row.parameter.shown: found[k] for k, row in enumerate(rows)}
        still = {n for n in self.watched if sizes.of[n].moves == NOTHING}
        first = self._first_step(rows)
        if self._bursts(first):
            sizes = first
        return Architecture(conditions, r, updates, tuple(self._problems(initial, sizes, still)), notes)

    def members_apart(self, rows: list[Row]) -> Members | None:
        """The difference of members that start equal; None if they differ by order one, or if there are none."""
        if not self.alike.pinned:
            return None
        initial = self._sweep(self.forward, initial_sizes(rows), rows)
        random = [n for n in self.alike.brackets if isinstance(n, ir.Contract) and self.symmetry.suppressed(n)]
        largest = max((initial.of[n].start for n in random), default=NOTHING)
        return Members(self.alike, max(largest, -HALF)) if largest < 0 else None

    def _notes(
        self, rows: list[Row], entries: dict[int, Order], apart: dict[int, Order], found: dict[int, Order]
    ) -> tuple[str, ...]:
        """Notes on cancellations under exchange of members."""
        notes, axes = [], ", ".join(sorted(axis.name for axis in self.alike.axes))
        for k, row in enumerate(rows):
            if not row.trained or entries[k] >= apart[k]:
                continue
            name, why = row.parameter.shown, f"the members of {axes} start alike, so its gradient cancels"
            if found[k] >= 0:
                notes.append(f"{name} moves by normalised noise: {why}, and {row.optimizer.name} divides by its size")
            else:
                notes.append(f"{name} does not learn at this initialisation: {why} in the limit")
        return tuple(notes)

    def _first_step(self, rows: list[Row]) -> NodeSizes:
        """Whatever blows up does so already in the first step, before the readout has grown."""
        found = self._updates(rows, first=True)[0]
        return self._sweep(self.forward, self._after(rows, initial_sizes(rows), found, False, grow=False), rows)

    def _shown(self, sizes: NodeSizes, wrong: Callable[[ir.Node], bool]) -> list[ir.Node]:
        """The nodes to report: named nodes, readouts, and those at which something first goes wrong."""
        first = [n for n in self.watched if wrong(n) and not any(wrong(a) for a in n.args)]
        if first:
            return first
        return [n for n in self.watched if n in self.reading.names or n in self.reading.brackets]

    def _off(self, initial: NodeSizes) -> Callable[[ir.Node], bool]:
        """Is a ket not as large as in natural units, or a scalar larger?"""
        watched = set(self.watched)

        def off(node: ir.Node) -> bool:
            start, natural = initial.of[node].start, self.natural.of[node].start
            return node in watched and (start != natural if node.type.slots else start > max(CONSTANT, natural))

        return off

    def _at_init(self, sizes: NodeSizes) -> list[Condition]:
        source, off, conditions = "[orders of magnitude; TP IVb (2.25)]", self._off(sizes), []
        for node in self._shown(sizes, off):
            text = f"{self.reading.name(node)} is {_order(sizes.of[node].start)} at initialisation"
            if off(node):
                text += f", not {_order(self.natural.of[node].start)}"
            conditions.append(Condition(Question.INIT, source, not off(node), text))
        return _unique(conditions) or [Condition(Question.INIT, source, True, "no ket depends on a parameter")]

    def _faithful(self, rows: list[Row], entries: dict[int, Order], given_d: bool) -> list[Condition]:
        conditions = []
        for k, row in enumerate(rows):
            if not row.trained:
                continue
            name, source = row.parameter.shown, f"[{row.optimizer.source}]"
            if given_d and strict(row) and entries[k] != NOTHING:
                eps = row.raw["eps"]
                wanted = getattr(row.optimizer, "eps", 1) * Fraction(entries[k])
                holds = eps == wanted
                text = f"{name}: gradient entries are {_order(entries[k])}, and eps is {power(eps)}"
                conditions.append(Condition(Question.FAITHFUL, source, holds, text))
            else:
                degree = row.optimizer.degree if isinstance(row.optimizer, EntrywiseOptimizer) else None
                what = f"is homogeneous of degree {degree}" if degree is not None else "scales with its gradient"
                text = f"{name}: {row.optimizer.name} {what}, if eps and damping scale with what they are added to"
                conditions.append(Condition(Question.FAITHFUL, source, True, text))
        return conditions

    def _stable(self, sizes: NodeSizes) -> list[Condition]:
        source, watched = "[orders of magnitude; TP IVb (2.27)]", set(self.watched)

        def bursts(node: ir.Node) -> bool:
            return node in watched and sizes.of[node].moves > 0

        conditions = [
            Condition(Question.STABLE, source, not bursts(node), self._moves(node, sizes.of[node]))
            for node in self._shown(sizes, bursts)
        ]
        return _unique(conditions) or [Condition(Question.STABLE, source, True, "nothing moves")]

    def _moves(self, node: ir.Node, size: Size) -> str:
        if size.moves == NOTHING:
            return f"{self.reading.name(node)} does not move"
        by = f", through updates of {size.cause.shown}" if size.cause is not None else ""
        return f"{self.reading.name(node)} moves by {_order(size.moves)}{by}"

    def _nontrivial(self, sizes: NodeSizes) -> Condition:
        best = max(self.reading.brackets, key=lambda n: sizes.of[n].moves, default=None)
        change = sizes.of[best].moves if best is not None else NOTHING
        text = self._moves(best, sizes.of[best]) if best is not None else "there is no readout"
        return Condition(Question.NONTRIVIAL, "[TP IVb (2.28)]", change == 0, text)

    def _features(self, fastest: Order, sizes: NodeSizes) -> Condition:
        named = self.reading.names
        node = max(self.reading.features, key=lambda n: (sizes.of[n].moves, n in named), default=None)
        text = self._moves(node, sizes.of[node]) if node is not None else "there are no features"
        r = f"r = {-Fraction(fastest)}: " if fastest != NOTHING else ""
        return Condition(Question.FEATURES, "[TP IVb 2.8]", fastest == 0, r + text)

    def _problems(self, initial: NodeSizes, sizes: NodeSizes, still: set[ir.Node]) -> list[ScalingProblem]:
        """The first node of each name that is not Θ(1), or that does not move by Θ(1); `still`: those that never move."""
        found: dict[str, str] = {}
        off = self._off(initial)
        for node in self.watched:
            size, name = sizes.of[node], self.reading.name(node)
            bursts = size.moves > 0 and not any(sizes.of[a].moves > 0 for a in node.args)
            if node not in self.reading.names and node not in self.reading.brackets and not bursts:
                continue
            if off(node):
                start, natural = initial.of[node].start, self.natural.of[node].start
                found[name] = f"is {_order(start)} at initialisation, not {_order(natural)}"
            elif size.moves > 0 and not found.get(name, "").startswith("blows up"):
                found[name] = f"blows up: it{self._moves(node, size).removeprefix(name)}"
            elif (NOTHING < size.moves < 0 or node in still) and name not in found:
                found[name] = f"freezes: it{self._moves(node, size).removeprefix(name)}"
        return [ScalingProblem(name, what) for name, what in found.items()]


def _parts(sizes: Iterable[tuple[NetworkParameter, Size]]) -> Parts:
    found: Parts = {}
    for p, size in sizes:
        found.setdefault(p.leaf, {})[p.declared.member] = size
    return found


def initial_sizes(rows: Iterable[Row]) -> Parts:
    """Of parameters, at initialisation."""
    return _parts((r.parameter, Size(NOTHING if r.parameter.zero else r.size)) for r in rows)


def _unique(conditions: list[Condition]) -> list[Condition]:
    return list({condition.text: condition for condition in conditions}.values())


def _step(row: Row, natural: Order) -> tuple[Order, Order]:
    """The change of a parameter in one step, in natural units, and the entries of its raw gradient, which eps may dominate."""
    if natural == NOTHING or not row.trained:
        return NOTHING, NOTHING
    g = row.gradient(Fraction(natural))
    beside = min(Fraction(0), g.entry - row.raw["eps"]) if strict(row) and not row.negligible else 0
    return row.raw["lr"] + row.optimizer.step(g) + beside + row.raw["multiplier"], g.entry


def moved(row: Row, natural: Fraction | int) -> Fraction:
    """The power of n of the change of a parameter in one step, in natural units, if its natural gradient is n^natural."""
    return Fraction(_step(row, Fraction(natural))[0])


def _order(size: Order) -> str:
    return "0" if size == NOTHING else order(Fraction(size))
