"""If readouts are larger than in natural units, their brackets are vᵀx/√n: <v|x> becomes clt <v|x>."""

from __future__ import annotations

from dataclasses import dataclass, replace

from tp_compiler.ir import nodes as ir
from tp_compiler.ir.build import Builder
from tp_compiler.ir.model import Training, UpdateLine
from tp_compiler.ir.rules import UNCHANGED, Changed, EntryHost, OnEntries, Update
from tp_compiler.ir.walk import rewrite


class ReadOut:
    """Nodes in the operator regime, with `readouts` the kets of these names; in other regimes they are unchanged."""

    def __init__(self, build: Builder, readouts: frozenset[str] = frozenset()):
        self.build, self.readouts = build, readouts
        self._done: dict[ir.Node, ir.Node] = {}

    def __call__(self, node: ir.Node) -> ir.Node:
        return rewrite(self.build, node, self._rule, node.span, self._done) if self.readouts else node

    def _rule(self, node: ir.Node) -> ir.Node | None:
        sides = _sides(self.build, node, self.readouts)
        if sides is not None:
            return self.build.clt(self(sides[0]), self(sides[1]), node.span)
        return None if node.args else node

    def training(self, training: Training) -> Training:
        """The loss, the threshold that clips, and the arguments of optimizers."""
        if not self.readouts:
            return training
        lines = {id(line): self._line(line) for line in training.lines}
        targets = tuple(
            replace(t, updates=tuple((lines[id(line)], picks) for line, picks in t.updates)) for t in training.targets
        )
        clip = None if training.clip is None else self(training.clip)
        return replace(training, loss=self(training.loss), clip=clip, targets=targets, lines=tuple(lines.values()))

    def _line(self, line: UpdateLine) -> UpdateLine:
        if line.on:
            return line
        arguments = {name: self(node) for name, node in line.arguments.items()}
        instead = {line.arguments[name]: node for name, node in arguments.items()}
        rule: OnEntries = _Instead(line.rule, instead)  # type: ignore[arg-type]
        return replace(line, arguments=arguments, rule=rule)


@dataclass(frozen=True, eq=False)
class _Instead:
    """A rule with other arguments."""

    rule: OnEntries
    instead: Changed

    def run(self, host: EntryHost, changed: Changed = UNCHANGED) -> Update:
        return self.rule.run(host, {old: changed.get(new, new) for old, new in self.instead.items()})


def _sides(build: Builder, node: ir.Node, readouts: frozenset[str]) -> tuple[ir.Node, ir.Node] | None:
    """(readout, features) of a bracket <v|x>, as it was written."""
    if not isinstance(node, ir.Contract) or node.over or node.slots != (0,):
        return None
    for given in (*build.wholes.get(node, ()), node.args):
        if len(given) == 2 and all(a.type.slots for a in given):
            first, second = (_reads(a, readouts) for a in given)
            if first != second:
                return (given[0], given[1]) if first else (given[1], given[0])
    return None


def _reads(node: ir.Node, readouts: frozenset[str]) -> bool:
    """Is this one of the kets named, up to indices and scalar factors?"""
    while not isinstance(node, ir.Carry | ir.InitialKet):
        kets = [a for a in node.args if a.type.slots]
        if len(kets) != 1 or not (isinstance(node, ir.Reindex | ir.Contract) or getattr(node, "fn", "") == "mul"):
            return False
        (node,) = kets
    name = node.symbol.name if isinstance(node, ir.InitialKet) else node.state.name
    return name.strip("|>") in readouts
