"""The training loop of a traced module: the lines that update its parameters, and the program around them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
import torch
from torch import nn

from tp_compiler.torch.dimensions import Sizes
from tp_compiler.torch.lines import family, listed, ranged
from tp_compiler.torch.refusals import refusal
from tp_compiler.torch.steps import Weight
from tp_compiler.torch.text import ModuleText
from tp_compiler.torch.training.batches import Again, Batches, over_steps
from tp_compiler.torch.training.losses import LOSSES, LossReader
from tp_compiler.torch.training.optimizers import COUPLED, Counterpart, NaturalRatios, counterpart
from tp_compiler.torch.training.owners import Owned, owners
from tp_compiler.torch.training.replay import Ratios, TorchLoop


@dataclass(eq=False)
class LoopProgram:
    """A training loop as text, notes on what was assumed, and the same for torch, if torch can run it."""

    text: str
    notes: list[str]
    replayed: TorchLoop | None


@dataclass(eq=False)
class UpdateLines:
    """Who updates what: `with` -> what is updated, and data over the steps."""

    lines: dict[str, list[str]] = field(default_factory=dict)
    data: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def trained(
    written: ModuleText,
    widths: Sizes,
    loss: Any,
    targets: Any,
    optimizer: Any,
    steps: Any,
    scheduler: Any,
    module: nn.Module | None,
    ratios: Ratios,
    spare: int,
    given: Batches | None,
    again: Again,
) -> LoopProgram:
    """The program of a training loop.

    ratios   of natural units to torch's, of a parameter at a width; spare: how many parameters the outputs do not need
    given    inputs of every step; again: the program for other inputs

    Raises ProgramError NX720 (the loss), NX721 (targets), NX722 and NX723 (the optimizer), NX724 (no limit).
    """
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
        raise refusal("NX708", f"`steps` is {steps}", "give the number of updates, such as `steps=20`")
    _check_scales(written)
    if given is not None:
        written = over_steps(written, again, given)
    written = replace(written, namer=written.namer.copy(), header=list(written.header))
    objective = LossReader(written, steps).read(loss, targets)
    replayed = None
    if isinstance(optimizer, str | Mapping):
        if scheduler is not None:
            raise refusal(
                "NX722", "a scheduler needs an optimizer of torch, not text", 'write the rate, such as "SGD(lr = 0.1 / (1 + step))"'
            )  # fmt: skip
        updates = UpdateLines({optimizer: ["all"]}) if isinstance(optimizer, str) else _chosen(written, optimizer)
    elif isinstance(optimizer, torch.optim.Optimizer):
        owned = owners(list(written.declared), widths, optimizer, scheduler, steps, module, spare)
        updates = converted(written, optimizer, owned, ratios)
        if loss in LOSSES:
            replayed = TorchLoop(
                loss, torch.as_tensor(targets), steps, optimizer, *owned, ratios, objective.name, given
            )
    else:
        raise refusal(
            "NX722", f"the optimizer {optimizer!r} is neither text nor of torch.optim",
            'give `torch.optim.Adam(module.parameters(), lr=0.01)`, or text in natural units, such as "Adam(lr = 0.01)"',
        )  # fmt: skip
    loop = [
        *written.body,
        *(f"{full} = {value}" for full, value in written.outputs.items() if value),
        *objective.lines,
        f"minimize {objective.name}",
        *(f"update {', '.join(what)} with {how}" for how, what in updates.lines.items()),
    ]
    ends = [f"output {objective.name}[step]"] if objective.lines else []
    ends += [f"output {_over_step(full)}" for full in written.outputs]
    parts = [
        *written.header, *objective.axes, "", *written.declarations, *objective.data, *updates.data, "",
        f"train steps = {steps} {{", *(f"    {line}" for line in loop), "}", "", *ends, "",
    ]  # fmt: skip
    return LoopProgram("\n".join(parts), updates.notes, replayed)


def _check_scales(written: ModuleText) -> None:
    if written.random:
        step = written.random[0]
        raise refusal(
            "NX724",
            f"in `{step.path or 'the module'}`, `{step.label}` is n^(1/2) times a mean over neurons (a `clt` bracket): training moves "
            "it by n^(1/2), and has no limit",
            "as muP does, draw readouts with std 1/n (`nn.Linear` draws n^(-1/2)), and scale the logits of attention by 1/d, not "
            "1/sqrt(d)",
        )


def _over_step(full: str) -> str:
    name, _, indices = full.partition("[")
    return f"{name}[step,{indices}" if indices else f"{name}[step]"


# ------------------------------------------------------------------------------------------------------- in natural units


def converted(
    written: ModuleText, optimizer: torch.optim.Optimizer, found: tuple[int, list[Owned]], ratios: Ratios
) -> UpdateLines:
    """The update lines of an optimizer, its figures in natural units."""
    width, owned = found
    made = UpdateLines()
    writer = _ArgumentWriter(written, made)
    calls: dict[str, list[Weight]] = {}
    for one in owned:
        if one.trained:
            assert one.history is not None
            rows = [counterpart(optimizer, options) for options in one.history]
            _check_decay(one.weight.name, written.declared[one.weight].kind, rows[0])
            how = writer.call(rows, ratios(one.weight.name, width))
            calls.setdefault(how, []).append(one.weight)
    still = [one.weight.name for one in owned if not one.trained and not one.weight.frozen]
    if not calls:
        raise refusal(
            "NX723", "the optimizer trains no parameter of the module", "give it parameters that require gradients"
        )
    made.lines = {how: _targets(written, weights) for how, weights in calls.items()}
    if still:
        made.notes.append(f"{ranged(still)}: not trained (in no group of the optimizer, or without gradients)")
    else:
        largest = max(calls, key=lambda how: len(calls[how]))
        made.lines = {how: what for how, what in made.lines.items() if how != largest} | {largest: ["all"]}
    made.notes.append(
        f"the figures of {type(optimizer).__name__} are read at n = {width}, the width of its module; at other widths they follow muP"
    )
    return made


def _chosen(written: ModuleText, optimizers: Mapping[str, str]) -> UpdateLines:
    """The update lines of optimizers by patterns of torch's names, of which the one with the most letters counts."""
    names = [weight.name for weight in written.declared]
    calls: dict[str, list[Weight]] = {}
    for pattern in optimizers:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise refusal("NX723", f"no parameter matches `{pattern}`", f"the parameters are {ranged(names)}")
    for weight in written.declared:
        fitting = [pattern for pattern in optimizers if fnmatchcase(weight.name, pattern)]
        if fitting and not weight.frozen:
            calls.setdefault(optimizers[max(fitting, key=lambda pattern: len(pattern.replace("*", "")))], []).append(
                weight
            )
    return UpdateLines({how: _targets(written, weights) for how, weights in calls.items()})


def _check_decay(name: str, kind: str, row: Counterpart) -> None:
    """Refuses functions of the entries of an initial matrix."""
    if kind == "matrix" and row.name != "SGD" and any(a.powers == COUPLED and a.value for a in row.arguments):
        raise refusal(
            "NX722",
            f"{row.name} adds weight decay of `{name}` to its gradient, before a function that is not linear: this has no limit",
            "use decoupled weight decay, as AdamW has, or SGD",
        )


class _ArgumentWriter:
    def __init__(self, written: ModuleText, made: UpdateLines):
        self.written, self.made = written, made
        self._tables: dict[tuple[float, ...], str] = {}

    def call(self, rows: list[Counterpart], of: NaturalRatios) -> str:
        """`Adam(lr = 64 * lr_schedule[step], eps = 1e-06)`: what varies over the steps is data."""
        given = []
        for same in zip(*(row.arguments for row in rows), strict=True):
            first = same[0]
            raw = tuple(argument.value for argument in same)
            factor = replace(first, value=1.0).natural(of)
            if len(set(raw)) > 1:
                given.append(f"{first.name} = {self._times(factor)}{self._table(first.name, raw)}[step]")
            elif first.default is None or first.natural(of) != first.default:
                given.append(f"{first.name} = {first.natural(of):.15g}")
        return f"{rows[0].name}({', '.join(given)})"

    def _times(self, factor: float) -> str:
        return "" if factor == 1 else f"{factor:.15g} * "

    def _table(self, name: str, values: tuple[float, ...]) -> str:
        if values not in self._tables:
            self._tables[values] = self.written.namer.unique(f"{name}_schedule")
            self.made.data.append(f"data {self._tables[values]}[step] = {listed(np.array(values))}")
        return self._tables[values]


def _targets(written: ModuleText, weights: list[Weight]) -> list[str]:
    """Parameters as `update` names them: of repeated blocks, the whole family if all its members are among them."""
    names = written.names
    counts, found = Counter(names.values()), Counter(names[weight] for weight in weights)
    texts = []
    for weight in weights:
        name, member = names[weight], written.members[weight]
        picks = [*map(str, member), *written.families[weight][len(member) :]]
        text = name if counts[name] == found[name] else name + family(picks)
        texts.append(f"|{text}>" if written.declared[weight].kind == "ket" else text)
    return list(dict.fromkeys(texts))
