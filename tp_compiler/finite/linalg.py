"""Finite matrices of scalars: inverse, power, solve, Cholesky factor, log-determinant, functions of the eigenvalues."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tp_compiler.diagnostics import Diagnostic
from tp_compiler.finite.array_types import Values
from tp_compiler.finite.blame import Refusal
from tp_compiler.finite.eigenvalues import Entrywise, SpectralFunction, SpectralPower
from tp_compiler.finite.tensors import LabelledArray, align
from tp_compiler.ir import nodes as ir
from tp_compiler.ir.types import Index


def linalg(node: ir.Linalg, args: Sequence[LabelledArray]) -> Values:
    """The array of a Linalg node, of shape `node.type.shape`; computed in float64, returned in the dtype of K."""
    rest = tuple(i for i in node.type.indices if i not in (node.rows, node.cols))
    dtype = args[0].array.dtype
    matrix = _matrix(node, args[0], rest)
    tolerance = 1e-4 if dtype == np.float32 else 1e-8
    try:
        with np.errstate(all="ignore"):
            value = _value(node, matrix, args[1:], rest, tolerance)
    except np.linalg.LinAlgError:
        raise _refusal(node, _REASON.get(node.op, "the matrix is singular")) from None
    return np.broadcast_to(value, node.type.shape).astype(dtype)


_REASON = {"cholesky": "the matrix is not positive definite", "logdet": "the determinant is not positive"}


def _matrix(node: ir.Linalg, x: LabelledArray, rest: tuple[Index, ...]) -> Values:
    """x over (*rest, rows, cols), those two in full size."""
    matrix = align(x, (*rest, node.rows, node.cols)).astype(np.float64)
    matrix = np.broadcast_to(matrix, (*matrix.shape[:-2], node.rows.size, node.rows.size))
    if not np.isfinite(matrix).all():
        raise _refusal(node, "the matrix has an entry that is not finite")
    return matrix


def _value(
    node: ir.Linalg, k: Values, others: Sequence[LabelledArray], rest: tuple[Index, ...], tolerance: float
) -> Values:
    if node.op == "inv":
        return np.linalg.inv(_regular(node, k))
    if node.op == "solve":
        y = align(others[0], (*rest, node.cols)).astype(np.float64)
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
    return _of_eigenvalues(node, k, others, rest)


def _of_eigenvalues(node: ir.Linalg, k: Values, others: Sequence[LabelledArray], rest: tuple[Index, ...]) -> Values:
    """pow and matfun, U f(λ) Uᵀ for K = U λ Uᵀ; their derivatives dpow and dmatfun in the direction of a symmetric B,
    U (F ∘ UᵀBU) Uᵀ with divided differences F (Daleckii, Krein 1965)."""
    values, vectors = np.linalg.eigh(k)
    back = vectors.swapaxes(-1, -2)
    function: SpectralFunction = Entrywise(node.fn)
    if node.op.endswith("pow"):
        function = SpectralPower(align(others[-1], rest).astype(np.float64)[..., None])
    if reason := function.undefined_at(values):
        raise _refusal(node, reason)
    if node.op in ("pow", "matfun"):
        return np.asarray((vectors * function(values)[..., None, :]) @ back)
    b = _matrix(node, others[0], rest)
    slopes = function.differences(values)
    if not np.isfinite(slopes).all():
        raise _refusal(node, "the function has no derivative at an eigenvalue of the matrix")
    return np.asarray(vectors @ (slopes * (back @ ((b + b.swapaxes(-1, -2)) / 2) @ vectors)) @ back)


def _regular(node: ir.Linalg, k: Values) -> Values:
    """k, unless it is singular to working precision."""
    if k.size and not (np.linalg.cond(k) < 1 / np.finfo(np.float64).eps).all():
        raise _refusal(node, "the matrix is singular")
    return k


def _symmetric(node: ir.Linalg, k: Values, tolerance: float) -> None:
    if np.abs(k - k.swapaxes(-1, -2)).max(initial=0.0) > tolerance * np.abs(k).max(initial=0.0):
        raise _refusal(node, "the matrix is not symmetric")


def _refusal(node: ir.Linalg, reason: str) -> Refusal:
    name = f"`matfun` of `{node.fn}`" if node.fn else f"`{node.op.removeprefix('d')}`"
    what = f"the gradient of {name}" if node.op in ("dpow", "dmatfun") else name
    return Refusal(Diagnostic("NX414", f"{what}: {reason}", node.span, "add a multiple of `delta[i,j]` to the matrix"))
