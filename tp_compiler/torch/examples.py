"""Example inputs from a short description, for the command line: `int[2,16]<50257, float[2,8]`."""

from __future__ import annotations

import re

import torch

from tp_compiler.torch.refusals import refusal

_ONE = re.compile(r"(int|float)\[([0-9, ]*)\](?:<([0-9]+))?")


def example_inputs(text: str) -> tuple[torch.Tensor, ...]:
    """Tensors drawn with seed 0: `float[2,8]` standard Gaussian, `int[2,16]<100` uniform over 0, ..., 99.

    Raises ProgramError NX708 for a description that is not understood.
    """
    parts = re.sub(r"\s*,\s*(?=(int|float)\[)", ";", text.strip()).split(";")
    generator = torch.Generator().manual_seed(0)
    return tuple(_tensor(part.strip(), generator) for part in parts)


def _tensor(text: str, generator: torch.Generator) -> torch.Tensor:
    found = _ONE.fullmatch(text)
    if found is None or (found[1] == "int") != (found[3] is not None):
        raise refusal("NX708", f"`{text}` is not an input", "write inputs such as `float[2,8]` or `int[2,16]<50257`")
    shape = [int(n) for n in found[2].split(",") if n.strip()]
    if found[1] == "int":
        return torch.randint(int(found[3]), shape, generator=generator)
    return torch.randn(shape, generator=generator)
