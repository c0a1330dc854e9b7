"""Clipping the global norm of a gradient."""

from __future__ import annotations

from tp_compiler.diagnostics import Span
from tp_compiler.ir import nodes as ir
from tp_compiler.ir.build import Builder

#: What `torch.nn.utils.clip_grad_norm_` adds to the norm.
EPS = 1e-6


def clipped(build: Builder, threshold: ir.Node, square: ir.Node, span: Span) -> ir.Node:
    """min(1, threshold / (|gradient| + 1e-6)), for |gradient|² = square, as torch.nn.utils.clip_grad_norm_."""
    norm = build.add(build.map("sqrt", (square,), span), build.constant(EPS, span), span)
    return build.map("min", (build.constant(1, span), build.map("div", (threshold, norm), span)), span)
