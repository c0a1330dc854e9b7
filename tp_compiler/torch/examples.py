"""Example inputs and targets from a short description, for the command line: `int[2,16]<50257, float[2,8]`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from tp_compiler.torch.refusals import refusal

_ONE = re.compile(r"(int|float)\[([0-9, ]*)\](?:<([0-9]+))?")


def example_inputs(text: str) -> tuple[torch.Tensor, ...]:
    """Tensors drawn with seed 0: `float[2,8]` standard Gaussian, `int[2,16]<100` uniform over 0, ..., 99.

    Raises ProgramError NX708 for a description that is not understood.
    """
    return _drawn(text, seed=0)


def example_targets(text: str | None, loss: str, shapes: Mapping[str, tuple[int, ...]]) -> torch.Tensor | None:
    """Targets: described as inputs are and drawn with seed 1, or from a file `.npy`.

    By default `mse` has Gaussian ones and `cross_entropy` uniform classes, of the shape of the output.
    """
    if text is None:
        (shape, *others) = shapes.values()
        if others or loss not in ("mse", "cross_entropy"):
            return None
        *outer, last = shape or (1,)
        drawn = f"float{[*shape]}" if loss == "mse" else f"int{outer}<{last}"
        return _drawn(drawn.replace(" ", ""), seed=1)[0]
    if text.endswith(".npy"):
        return _read(Path(text))
    found = _drawn(text, seed=1)
    if len(found) != 1:
        raise refusal("NX708", f"{len(found)} targets are described", "describe one tensor")
    return found[0]


def _read(path: Path) -> torch.Tensor:
    try:
        return torch.as_tensor(np.load(path, allow_pickle=False))
    except (OSError, ValueError, TypeError) as problem:
        raise refusal("NX708", f"targets cannot be read: {problem}", "give an array of numbers as `.npy`") from None


def _drawn(text: str, seed: int) -> tuple[torch.Tensor, ...]:
    parts = re.sub(r"\s*,\s*(?=(int|float)\[)", ";", text.strip()).split(";")
    generator = torch.Generator().manual_seed(seed)
    return tuple(_tensor(part.strip(), generator) for part in parts)


def _tensor(text: str, generator: torch.Generator) -> torch.Tensor:
    found = _ONE.fullmatch(text)
    if found is None or (found[1] == "int") != (found[3] is not None):
        raise refusal("NX708", f"`{text}` is not an input", "write inputs such as `float[2,8]` or `int[2,16]<50257`")
    shape = [int(n) for n in found[2].split(",") if n.strip()]
    if 0 in (*shape, int(found[3] or 1)):
        raise refusal("NX708", f"`{text}` is empty", "give sizes of at least 1, and integers below at least 1")
    if found[1] == "int":
        return torch.randint(int(found[3]), shape, generator=generator)
    return torch.randn(shape, generator=generator)
