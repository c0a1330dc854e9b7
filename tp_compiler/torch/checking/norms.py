"""Sizes of tensors."""

from __future__ import annotations

import math

import torch


def rms(x: torch.Tensor) -> torch.Tensor:
    """The root mean square of the entries, in double precision, without a copy."""
    return torch.linalg.vector_norm(x.detach(), dtype=torch.float64) / math.sqrt(max(1, x.numel()))
