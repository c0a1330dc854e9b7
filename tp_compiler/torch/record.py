"""A traced module: its program, what became of its parameters, and how it compares with the module itself."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from tp_compiler import api
from tp_compiler.diagnostics import Source
from tp_compiler.ir.model import Compiled
from tp_compiler.scale.given_alignments import Given
from tp_compiler.torch.dimensions import Sizes, ratio
from tp_compiler.torch.lines import family, ranged, with_data_beside
from tp_compiler.torch.refusals import refusal
from tp_compiler.torch.returned import Returned
from tp_compiler.torch.scaling import TorchScaling, TracedTensor
from tp_compiler.torch.steps import own_leaves
from tp_compiler.torch.text import ModuleText
from tp_compiler.torch.training.batches import Again, batches
from tp_compiler.torch.training.loop import trained
from tp_compiler.torch.training.optimizers import NaturalRatios
from tp_compiler.torch.training.owners import width_of
from tp_compiler.torch.training.replay import TorchLoop
from tp_compiler.torch.walk import double_precision, doubled


@dataclass(frozen=True)
class Parameter:
    """What a parameter of the module is in the program: its entries are n^power times what is declared.

    Parameters of repeated blocks are members of one family: `name` is the family's, `member` the positions (from 1) of this
    one in the first of `axes`.
    """

    name: str
    kind: str  # ket, matrix or scalar
    axes: tuple[str, ...]
    widths: tuple[str, ...]  # ratios to n: of a ket, or of rows and columns
    law: str
    power: Fraction
    member: tuple[int, ...] = ()


@dataclass(eq=False)
class Traced:
    """A module as a program.

    `text` is the program, `parameters` what became of each tensor, `report` what was assumed. A Traced is accepted wherever
    a program is: `tpc.limit(traced)`.
    """

    text: str
    parameters: dict[str, Parameter]
    report: list[str]
    widths: Sizes
    training: bool
    _inputs: Sequence[Any] = field(repr=False)
    _written: ModuleText = field(repr=False)
    _outputs: list[str] = field(repr=False)
    _again: Again = field(repr=False)  # the program for other inputs
    unused: list[str] = field(repr=False, default_factory=list)  #: parameters that the outputs do not depend on
    _loop: TorchLoop | None = field(repr=False, default=None)

    def __str__(self) -> str:
        alike: dict[str, list[str]] = {}
        for name, p in self.parameters.items():
            alike.setdefault(f"{p.kind} {p.name}{family(p.axes)}, {p.law}{_power(p)}", []).append(name)
        rows = [f"{ranged(names)}: {text}" for text, names in alike.items()]
        notes = ["", "Assumed:", *(f"  {note}" for note in self.report)] if self.report else []
        return "\n".join([f"Traced at n = {self.widths[0]} and {self.widths[1]}.", "", *rows, *notes])

    def __repr__(self) -> str:
        return f"<Traced module, {len(self.parameters)} parameters>"

    @cached_property
    def source(self) -> Source:
        return Source("<traced>", self.text)

    @cached_property
    def program(self) -> Compiled:
        return api.compile(self.source)

    @property
    def returned(self) -> dict[str, Returned]:
        """What each module returns, by its path."""
        return self._written.returned

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shapes of the outputs, as torch has them."""
        return {name.partition("[")[0]: shape for name, shape in self._written.shapes.items()}

    def save(self, path: str | Path) -> list[Path]:
        """Writes the program, and data of more than 64 numbers to an .npz file beside it; the files."""
        file = Path(path)
        beside = file.with_suffix(".npz")
        text, arrays = with_data_beside(self.text, beside.name)
        with file.open("w", encoding="utf-8", newline="\n") as written:
            written.write(text)
        if not arrays:
            return [file]
        np.savez(beside, **arrays)  # type: ignore[arg-type]
        return [file, beside]

    def train(
        self,
        loss: str,
        targets: Any = None,
        *,
        optimizer: str | Mapping[str, str] | torch.optim.Optimizer | None = None,
        steps: int | None = None,
        scheduler: Any = None,
        module: nn.Module | None = None,
        inputs: Sequence[torch.Tensor] | None = None,
    ) -> Traced:
        """The module in a training loop: its limit is that of the loss and of the outputs after 0, 1, ..., `steps` updates.

        loss        "mse", "cross_entropy" (over the last axis), or an expression of the outputs and of `target`, as in the language
        targets     a tensor, or one for each step (a leading axis of `steps` entries); several by name: {"y": .., "weight": ..}
        optimizer   text in natural units, "Adam(lr = 0.01)", one for each pattern of names, {"*": .., "blocks.*.fc.weight": ..}, or an
                    optimizer of torch.optim of a module of the factory
        steps       the number of updates
        scheduler   a learning-rate scheduler of the optimizer, which steps after every update
        module      the module that the optimizer was built for; needed where shapes do not say which parameter is which

        inputs      those of the module, as in the trace or with a leading axis of `steps` entries: one batch for each step

        Raises ProgramError NX720 to NX724, with a remedy, for what does not fit.
        """
        given = None if inputs is None else batches(self._inputs, inputs, steps or 0)
        made = trained(
            self._written, self.widths, loss, targets, optimizer, steps, scheduler, module, self._ratios, len(self.unused),
            given, self._again,
        )  # fmt: skip
        found = replace(
            self, text=made.text, report=[*self.report, *made.notes], _loop=made.replayed,
            _inputs=given.at(0) if given else self._inputs,
        )  # fmt: skip
        assert found.program
        return found

    def weights(
        self, module: nn.Module | Mapping[str, torch.Tensor], width: int | None = None
    ) -> dict[str, np.ndarray]:
        """The parameters of a module by their names in the program, in natural units: for `tpc.simulate(weights=...)`.

        module  a module of the traced factory, or its `state_dict()`
        width   the n that the module was built with; by default it is inferred from a parameter
        """
        held = _tensors(module)
        found = {}
        for weight, made in self._written.declared.items():
            if weight.name not in held:
                raise refusal(
                    "NX708",
                    f"the module has no parameter `{weight.name}`",
                    "give a module of the traced factory, or its `state_dict()`",
                )
            places = own_leaves(weight)
            value = held[weight.name].detach().double().cpu().numpy()
            n = width or width_of(value.shape, weight, self.widths)
            shape = [self._size(p, n) for p in places]
            if np.prod(shape, dtype=int) != value.size:
                raise refusal(
                    "NX708", f"`{weight.name}` has shape {value.shape} at width {n}", "give the module's width"
                )
            order = [k for k, p in enumerate(places) if not p.dimension.is_width]
            order += [k for k, p in enumerate(places) if p.dimension.is_width]
            scale = 1.0 if n is None else float(n) ** -float(made.power)
            part = value.reshape(shape).transpose(order) * scale
            name, member = self._written.names[weight], tuple(k - 1 for k in self._written.members[weight])
            if not member:
                found[name] = part
                continue
            outer = self._outer[name]
            found.setdefault(name, np.empty((*outer, *part.shape)))[member] = part
        return found

    @cached_property
    def _outer(self) -> dict[str, tuple[int, ...]]:
        """How many blocks a parameter of repeated blocks has members for."""
        found: dict[str, tuple[int, ...]] = {}
        for weight, member in self._written.members.items():
            name = self._written.names[weight]
            found[name] = tuple(map(max, zip(found.get(name, member), member, strict=True)))
        return found

    def _size(self, place: Any, width: int | None) -> int:
        if not place.dimension.is_width:
            return int(place.dimension.sizes[0])
        return int(ratio(place.dimension, self.widths) * (width or 0))

    def scale(self, optimizer: str | None = None, alignment: Given | None = None) -> TorchScaling:
        """The width exponents of every parameter: `tpc.scale`, and parameter groups and initial values for the module.

        optimizer   the name of an optimizer to assume for every parameter: `"AdamW"`
        alignment   as in `tpc.scale`; also `coord_check(..).alignments`
        """
        members, names = self._written.members, self._written.names
        weights = {(names[weight], members[weight]): weight for weight in self._written.declared}
        tensors = {}
        for name, parameter in self.parameters.items():
            weight = weights[parameter.name, parameter.member]
            shape = tuple((int(one), int(other)) for one, other in zip(*(v.shape for v in weight.values), strict=True))
            start = self._written.declared[weight].start
            laws = self._written.laws[weight.name]
            tensors[name] = TracedTensor(
                parameter.name, parameter.power, shape, laws, start, weight.values[0], parameter.member
            )
        return TorchScaling(self.program.network, optimizer, tensors, self.widths, self.unused, alignment)

    @cached_property
    def _adam(self) -> TorchScaling:
        return self.scale("Adam")

    def _ratios(self, name: str, width: int) -> NaturalRatios:
        """Natural units over torch's: what becomes of the figures of Adam, whose steps have the size of the learning rate."""
        return NaturalRatios(*(self._adam.natural(figure, name, 1.0, width) for figure in ("lr", "eps")))

    def compare(self, module: nn.Module, width: int) -> float:
        """The largest difference between the module's outputs and those of the program with the module's own weights.

        The module is run in double precision, with the inputs of the trace. A training loop with a loss by name and an optimizer of
        torch.optim is run by torch, too, at this width: losses and outputs of every step are compared. Of another loop, only the
        outputs before the first update are.
        """
        copied = copy.deepcopy(module).double().train(self.training)
        if self._loop is not None:
            return self._compare_loops(self._loop, copied, width)
        with torch.no_grad(), double_precision():
            out = copied(*(doubled(x) for x in self._inputs))
        wanted = [t for t in torch.utils._pytree.tree_leaves(out) if isinstance(t, torch.Tensor)]
        run = api.simulate(self, width, weights=self.weights(copied, width))
        return max(
            float(np.abs(t.double().numpy() - run[name].reshape(-1, *t.shape)[0]).max())
            for name, t in zip(self._outputs, wanted, strict=True)
        )

    def _compare_loops(self, loop: TorchLoop, module: nn.Module, width: int) -> float:
        run = api.simulate(self, width, weights=self.weights(module, width))
        with double_precision():
            found = loop.run(module, self._inputs, width)
        pairs = zip((loop.loss_name, *self._outputs), zip(*found, strict=True), strict=True)
        return max(
            float(np.abs(run[name] - torch.stack(values[: len(run[name])]).numpy().reshape(run[name].shape)).max())
            for name, values in pairs
        )


def _power(parameter: Parameter) -> str:
    return f", times n^({parameter.power})" if parameter.power else ""


def _tensors(module: nn.Module | Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Parameters and buffers by name."""
    if isinstance(module, Mapping):
        return dict(module)
    return dict(module.named_parameters(remove_duplicate=False)) | dict(module.named_buffers())


def traced(
    written: ModuleText,
    outputs: Sequence[str],
    inputs: Sequence[Any],
    widths: Sizes,
    training: bool,
    aliases: dict[str, Any],
    again: Again,
) -> Traced:
    """The record of a written program; `aliases` are all names of each parameter."""
    parameters, unused = {}, []
    for name, weight in aliases.items():
        if weight not in written.declared:
            unused.append(name)
            continue
        made = written.declared[weight]
        parameters[name] = Parameter(
            written.names[weight],
            made.kind,
            tuple(written.families[weight]),
            tuple(str(ratio(p.dimension, widths)) for p in made.widths),
            made.law or "given values",
            made.power,
            written.members[weight],
        )
    return Traced(
        written.text, parameters, written.notes, widths, training, inputs, written, list(outputs), again, unused
    )
