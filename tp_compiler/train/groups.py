"""The update lines in the neural tangent limit, and reasons to refuse it."""

from __future__ import annotations

from collections.abc import Iterable

from tp_compiler.diagnostics import error
from tp_compiler.ir import nodes as ir
from tp_compiler.ir.build import Builder
from tp_compiler.ir.model import Target, Training, UpdateLine
from tp_compiler.ir.walk import reachable
from tp_compiler.train.decay import classified
from tp_compiler.train.on_entries import Parameter, Stepped, stepped
from tp_compiler.train.parametrized import Parametrized
from tp_compiler.train.tangent_limit import Change, Group, Step
from tp_compiler.train.updates import count, on_entries, run


def groups(build: Builder, training: Training, asked: Parametrized) -> list[Group]:
    """The parameters of each `update` line, at their initial values; those that the limit does not see, separately."""
    found: dict[tuple[int, bool], Group] = {}
    powers = asked.powers
    for target in training.targets:
        for line, picks in target.updates:
            seen = powers is None or (target.name, target.ket) in powers.surviving
            if not seen and training.clip is None and not _decays(build, training, line):
                continue
            if any(p is not None for p in picks):
                where = "in the neural tangent limit" if powers is None else "where features do not move, as here,"
                message = f"{where} a family must be updated as a whole"
                remedy = f"update `{target.shown}`, or declare its members one by one"
                raise error("NX174", message, line.span, remedy)
            name = f"update{training.lines.index(line) + 1}"
            new = Group(name, [], _step(build, training, line), line.span, seen)
            _put(found.setdefault((id(line), seen), new), target)
    return list(found.values())


def _put(group: Group, target: Target) -> None:
    if isinstance(target.leaf, ir.Carry) and target.number:
        group.numbers.append(target.leaf)
    else:
        group.leaves.append(target.start)


def _decays(build: Builder, training: Training, line: UpdateLine) -> bool:
    """Is there a weight decay that acts unscaled, independently of the gradients?"""
    found = classified(build, lambda p: run(build, training, line, p), line.span)
    return found.decay in ("linear", "apart")


def _step(build: Builder, training: Training, line: UpdateLine) -> Step:
    def step(parameter: Parameter, change: Change) -> Stepped:
        changed = {node: change(node) for node in line.arguments.values()}
        return stepped(build, on_entries(line), parameter, count(build, training), line.span, changed)

    return step


def moves_features(training: Training, found: Iterable[Group], asked: Parametrized) -> bool:
    """A trained number inside features moves them by order one: there is no limit in which they do not move."""
    features = {n for b in reachable([training.loss]) if isinstance(b, ir.Clt) for n in reachable([b])}
    for group in found:
        inside = next((t.name for t in training.targets if t.leaf in group.numbers and t.leaf in features), None)
        if inside is not None:
            why = f"the trained number `{inside}` is used inside features, and moves them by order one"
            remedy = f"make it a ket, `ket |{inside}> = 1`, or an untrained number, `{inside} = 1`"
            asked.refuse(why, remedy, group.span)
            return True
    return False
