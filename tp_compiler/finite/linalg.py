"""Finite matrices of scalars: inverse, power, solve, Cholesky factor, log-determinant, function of the eigenvalues."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tp_compiler.diagnostics import Diagnostic
from tp_compiler.finite import kernels
from tp_compiler.finite.blame import Refusal
from tp_compiler.finite.tensors import Tensor, Values, align
from tp_compiler.ir import nodes as ir
from tp_compiler.ir.types import Index


def linalg(node: ir.Linalg, args: Sequence[Tensor]) -> Values:
    """The array of a Linalg node, of shape `node.type.shape`; computed in float64, returned in the dtype of K."""
    rest = tuple(i for i in node.type.indices if i not in (node.rows, node.cols))
    dtype = args[0].array.dtype
    matrix = align(args[0], (*rest, node.rows, node.cols)).astype(np.float64)
    size = node.rows.size
    matrix = np.broadcast_to(matrix, (*matrix.shape[:-2], size, size))
    if not np.isfinite(matrix).all():
        raise _refusal(node, "the matrix has an entry that is not finite")
    second = args[1] if len(args) > 1 else None
    tolerance = 1e-4 if dtype == np.float32 else 1e-8
    try:
        with np.errstate(all="ignore"):
            value = _value(node, matrix, second, rest, tolerance)
    except np.linalg.LinAlgError:
        raise _refusal(node, _REASON.get(node.op, "the matrix is singular")) from None
    return np.broadcast_to(value, node.type.shape).astype(dtype)


_REASON = {"cholesky": "the matrix is not positive definite", "logdet": "the determinant is not positive"}


def _value(node: ir.Linalg, k: Values, second: Tensor | None, rest: tuple[Index, ...], tolerance: float) -> Values:
    if node.op == "inv":
        return np.linalg.inv(_regular(node, k))
    if node.op == "solve":
        assert second is not None
        y = align(second, (*rest, node.cols)).astype(np.float64)
        y = np.broadcast_to(y, (*y.shape[:-1], k.shape[-1]))
        return np.linalg.solve(_regular(node, k), y[..., None])[..., 0]
    if node.op == "logdet":
        sign, value = np.linalg.slogdet(k)
        if (sign <= 0).any():
            raise np.linalg.LinAlgError
        return np.asarray(value)
    _symmetric(node, k, tolerance)
    if node.op == "cholesky":
        return np.linalg.cholesky(k)
    values, vectors = np.linalg.eigh(k)
    if node.op == "pow":
        assert second is not None
        mapped = _power(node, values, align(second, rest).astype(np.float64)[..., None])
    else:
        mapped = kernels.apply(node.fn, values)
        if not np.isfinite(mapped).all():
            raise _refusal(node, f"{node.fn} is not defined at an eigenvalue of the matrix")
    return np.asarray((vectors * mapped[..., None, :]) @ vectors.swapaxes(-1, -2))


def _power(node: ir.Linalg, values: Values, p: Values) -> Values:
    """λ^p; eigenvalues that rounding pushed below zero count as zero."""
    noise = values.shape[-1] * np.finfo(np.float64).eps * np.abs(values).max(axis=-1, keepdims=True)
    values = np.where(np.abs(values) <= noise, 0.0, values)
    if ((p != np.round(p)) & (values < 0)).any():
        raise _refusal(node, "the matrix has a negative eigenvalue, so this power is not real")
    if ((p < 0) & (values == 0)).any():
        raise np.linalg.LinAlgError
    return np.asarray(values**p)


def _regular(node: ir.Linalg, k: Values) -> Values:
    """k, unless it is singular to working precision."""
    if k.size and not (np.linalg.cond(k) < 1 / np.finfo(np.float64).eps).all():
        raise _refusal(node, "the matrix is singular")
    return k


def _symmetric(node: ir.Linalg, k: Values, tolerance: float) -> None:
    if np.abs(k - k.swapaxes(-1, -2)).max(initial=0.0) > tolerance * np.abs(k).max(initial=0.0):
        raise _refusal(node, "the matrix is not symmetric")


def _refusal(node: ir.Linalg, reason: str) -> Refusal:
    name = node.op if node.op != "matfun" else f"matfun of {node.fn}"
    return Refusal(Diagnostic("NX414", f"{name}: {reason}", node.span, "add a multiple of delta[i,j] to the matrix"))
