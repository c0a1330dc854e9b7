"""Why a value could not be computed: an exception that carries a diagnostic, and the messages for non-finite values."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from tp_compiler.diagnostics import Diagnostic
from tp_compiler.finite.array_types import Values
from tp_compiler.ir import nodes as ir


class Refusal(Exception):
    """A value that cannot be computed; everything that depends on it fails too, but nothing else."""

    def __init__(self, diagnostic: Diagnostic):
        self.diagnostic = diagnostic
        super().__init__(diagnostic.message)


def finite(x: Values) -> bool:
    """Whether every entry is finite."""
    # A finite sum proves it in one pass without a temporary; an infinite one may be a mere overflow.
    return math.isfinite(np.add.reduce(x, axis=None)) or bool(np.isfinite(x).all())


def undefined(node: ir.Node, args: Sequence[Values]) -> Diagnostic:
    """The diagnostic for `node`, whose value is not finite though those of its arguments are."""
    fn = node.fn if isinstance(node, ir.Map) else ""
    if fn == "div" and bool((args[1] == 0).any()):
        return Diagnostic(
            "NX411", "division by zero", node.span, "keep the divisor away from 0: add a small constant, or use `where`"
        )
    if fn and _outside(fn, args):
        what = {"log": "a number that is not positive", "sqrt": "a negative number"}
        message = f"`{fn}` of {what[fn]}" if fn in what else "a power that is not a real number"
        return Diagnostic("NX413", message, node.span, "keep the argument inside the domain")
    if isinstance(node, ir.Array):
        return Diagnostic("NX412", f"`{node.name}` contains a value that is not finite", node.span, "replace it")
    return overflow(node)


def overflow(node: ir.Node) -> Diagnostic:
    """The diagnostic for a node whose value is too large for a number."""
    return Diagnostic("NX412", "the value overflows", node.span, "rescale the quantity, or lower the learning rate")


def _outside(fn: str, args: Sequence[Values]) -> bool:
    x = args[0]
    if fn == "log":
        return bool((x <= 0).any())
    if fn == "sqrt":
        return bool((x < 0).any())
    if fn == "pow":
        p = args[1]
        shown, power = np.broadcast_arrays(x, p)
        return bool((((shown < 0) & (power != np.round(power))) | ((shown == 0) & (power < 0))).any())
    return False
