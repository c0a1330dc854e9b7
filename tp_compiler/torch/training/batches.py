"""Inputs of every step: the module is walked with each of them, and data that differ become data over `step`."""

from __future__ import annotations

import ast
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from tp_compiler.torch.lines import listed, split
from tp_compiler.torch.refusals import refusal
from tp_compiler.torch.text import ModuleText
from tp_compiler.torch.walk import arguments

#: The program for other inputs.
Again = Callable[[Sequence[torch.Tensor]], ModuleText]


@dataclass(frozen=True, eq=False)
class Batches:
    """Inputs, of which some have a leading axis with an entry for each step."""

    tensors: Sequence[torch.Tensor]
    stepped: Sequence[bool]
    count: int

    def at(self, step: int) -> list[torch.Tensor]:
        return [x[step] if leads else x for x, leads in zip(self.tensors, self.stepped, strict=True)]


def batches(examples: Sequence[torch.Tensor], given: Sequence[torch.Tensor], steps: int) -> Batches:
    """Inputs as they are given to `train`: of the shapes of the trace, or with a leading axis."""
    given = arguments(given)
    if len(given) != len(examples):
        raise refusal("NX721", f"{len(given)} inputs are given, and the module has {len(examples)}", "give all of them")
    counts = set()
    for x, example in zip(given, examples, strict=True):
        if x.shape != example.shape:
            if x.shape[1:] != example.shape or len(x) not in (steps, steps + 1):
                raise refusal(
                    "NX721",
                    f"an input has shape {tuple(x.shape)}, and was traced with shape {tuple(example.shape)}",
                    f"give one for each step: {(steps, *example.shape)}",
                )
            counts.add(len(x))
    if len(counts) > 1:
        raise refusal("NX721", f"inputs have {' and '.join(map(str, sorted(counts)))} entries", "give as many of each")
    if not counts:
        raise refusal(
            "NX721", "no input has an entry for each step", "trace with these inputs, or stack those of the steps"
        )
    stepped = [x.shape != example.shape for x, example in zip(given, examples, strict=True)]
    return Batches(given, stepped, counts.pop())


def over_steps(written: ModuleText, again: Again, given: Batches) -> ModuleText:
    """The program whose data are those of every step. Raises NX721 unless the steps differ in data alone."""
    texts = [again(given.at(step)) for step in range(given.count)]
    for step, text in enumerate(texts):
        heads = [[line.partition(" = ")[0] for line in t.declarations] for t in (text, written)]
        if (text.header, text.body, text.outputs, heads[0]) != (
            written.header, written.body, written.outputs, heads[1]
        ):  # fmt: skip
            raise refusal(
                "NX721",
                f"the inputs of step {step} make another program than those of the trace",
                "trace with inputs like those of the steps: not all alike, and not positions in order",
            )
    declarations, moving = [], set()
    for lines in zip(*(text.declarations for text in texts), strict=True):
        if len(set(lines)) == 1:
            declarations.append(lines[0])
            continue
        head, _, _ = lines[0].partition(" = ")
        values = np.array([ast.literal_eval(line.partition(" = ")[2]) for line in lines])
        moving.add(split(head.removeprefix("data "))[0])
        declarations.append(f"{_stepped(head, moving)} = {listed(values)}")
    return replace(
        written,
        declarations=declarations,
        body=[_stepped(line, moving) for line in written.body],
        outputs={name: _stepped(value, moving) for name, value in written.outputs.items()},
    )


def _stepped(text: str, names: set[str]) -> str:
    """With the index `step` in front of those of data."""
    words = split(text)
    return "".join("[step," if word == "[" and words[k - 1] in names else word for k, word in enumerate(words))
