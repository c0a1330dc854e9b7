"""Functions of low-rank operators at finite width in the basis of their kets: C' = K^-½ (f(s + K^½ C K^½) - f(s)) K^-½.

Gram matrices of a network's kets are exact, so this equals the function of the dense matrix.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tp_compiler.diagnostics import Diagnostic
from tp_compiler.finite import kernels
from tp_compiler.finite.array_types import Mask, Values
from tp_compiler.finite.blame import Refusal
from tp_compiler.finite.tensors import LabelledArray, align
from tp_compiler.ir import nodes as ir
from tp_compiler.ir.types import Index
from tp_compiler.shapes import Float

#: Singular values of a matrix below this part of the largest count as zero.
NULL = 1e-7


def spectral(node: ir.Spectral, args: Sequence[LabelledArray]) -> Values:
    """The array of a Spectral node, of shape `node.type.shape`."""
    rest = tuple(i for i in node.type.indices if i not in (node.rows, node.cols))
    batch = tuple(i.size for i in rest)

    def square(k: int, rows: Index, cols: Index) -> Values:
        found = align(args[k], (*rest, rows, cols)).astype(np.float64)
        if not np.isfinite(found).all():
            raise _refusal(node, "its matrix has an entry that is not finite")
        return np.broadcast_to(found, (*batch, rows.size, cols.size))

    if node.op == "polar":
        half_rows, back_rows = _roots(square(1, node.rows, node.hidden[0]))
        half_cols, back_cols = _roots(square(2, node.cols, node.hidden[1]))
        inner = half_rows @ square(0, node.rows, node.cols) @ half_cols
        result = back_rows @ _unit(inner) @ back_cols
    elif node.op == "eigenvectors":
        half, back = _roots(square(0, node.rows, node.hidden[0]))
        result = back @ _eigenvectors(node, half @ square(1, node.rows, node.hidden[0]) @ half)
    elif node.hidden:
        half, back = _roots(square(0, node.rows, node.hidden[0]))
        inner = half @ square(1, node.rows, node.hidden[0]) @ half
        shift = np.broadcast_to(align(args[2], rest).astype(np.float64), batch)[..., None]
        result = back @ _times(node, args, rest, inner, shift, half @ square(len(args) - 1, node.rows, node.cols))
    else:
        shift = np.broadcast_to(align(args[2], rest).astype(np.float64), batch)[..., None]
        half, back = _roots(square(0, node.rows, node.cols))
        inner = half @ square(1, node.rows, node.cols) @ half
        result = back @ _changed(node, args, rest, inner, shift) @ back
    if not np.isfinite(result).all():
        raise _refusal(node, "the result overflows or is not real")
    return np.asarray(align(LabelledArray(result, (*rest, node.rows, node.cols)), node.type.indices))


def _changed(
    node: ir.Spectral, args: Sequence[LabelledArray], rest: tuple[Index, ...], inner: Values, shift: Values
) -> Values:
    """f(s + S) - f(s) for the matrix S of the operator in an orthonormal basis."""
    identity = np.eye(inner.shape[-1])
    if node.op == "inverse" and (shift != 0).all():
        whole = shift[..., None] * identity + inner
        if whole.size and not (np.linalg.cond(whole) < 1e14).all():
            raise _refusal(node, "it is singular")
        return np.asarray(np.linalg.inv(whole) - identity / shift[..., None])
    values, vectors, null = _eigen(node, inner)
    if node.op == "matfun":
        mapped = kernels.apply(node.fn, values + shift) - kernels.apply(node.fn, shift + 0 * values)
    else:
        power = -1.0 if node.op == "inverse" else align(args[3], rest).astype(np.float64)[..., None]
        base = np.where((shift == 0) & null, 1.0, values + shift)
        start = np.where(shift == 0, 0.0, np.where(shift == 0, 1.0, shift) ** power)
        mapped = np.where((shift == 0) & null, 0.0, base**power - start)
    return np.asarray((vectors * mapped[..., None, :]) @ vectors.swapaxes(-1, -2))


def _eigen(
    node: ir.Spectral, inner: Float[Values, "*batch n n"]
) -> tuple[Float[Values, "*batch n"], Float[Values, "*batch n n"], Mask]:
    """Eigenvalues and eigenvectors of a symmetric matrix, and which of them make up its null space."""
    if np.abs(inner - inner.swapaxes(-1, -2)).max(initial=0.0) > 1e-8 * np.abs(inner).max(initial=0.0):
        raise _refusal(node, "it is not symmetric")
    values, vectors = np.linalg.eigh((inner + inner.swapaxes(-1, -2)) / 2)
    return values, vectors, np.abs(values) <= NULL**2 * np.abs(values).max(axis=-1, keepdims=True, initial=0.0)


def _times(
    node: ir.Spectral,
    args: Sequence[LabelledArray],
    rest: tuple[Index, ...],
    inner: Values,
    shift: Values,
    other: Values,
) -> Values:
    """f(s + S) B for matrices in an orthonormal basis; on the null space of S, rounding errors of B are dropped."""
    values, vectors, null = _eigen(node, inner)
    parts = vectors.swapaxes(-1, -2) @ other
    small = np.abs(parts) <= 1e-12 * np.abs(parts).max(axis=(-2, -1), keepdims=True, initial=0.0)
    parts[null[..., None] & small] = 0.0
    whole = shift + np.where(null, 0.0, values)
    if node.op == "matfun":
        mapped = kernels.apply(node.fn, whole)
    else:
        power = align(args[3], rest).astype(np.float64)[..., None]
        mapped = np.where(whole == 0, 0.0, np.where(whole == 0, 1.0, whole) ** power)
    return np.asarray(vectors @ (mapped[..., None] * parts))


def _eigenvectors(node: ir.Spectral, inner: Float[Values, "*batch n n"]) -> Float[Values, "*batch n n"]:
    values, vectors, null = _eigen(node, inner)
    values, vectors, null = values[..., ::-1], vectors[..., ::-1], null[..., ::-1]
    gaps = values[..., :-1] - values[..., 1:]
    if ((gaps <= 1e-9 * np.abs(values[..., :-1])) & ~null[..., :-1] & ~null[..., 1:]).any():
        raise _refusal(
            node,
            "two of its eigenvalues are equal",
            "use `Shampoo`, because equal eigenvalues do not determine a basis",
        )
    return np.asarray(vectors * ~null[..., None, :])


def _roots(gram: Float[Values, "*batch n n"]) -> tuple[Float[Values, "*batch n n"], Float[Values, "*batch n n"]]:
    """K^½ and its pseudo-inverse."""
    values, vectors = np.linalg.eigh((gram + gram.swapaxes(-1, -2)) / 2)
    floor = 1e-15 * gram.shape[-1] * values.max(axis=-1, keepdims=True, initial=0.0)
    root = np.sqrt(np.where(values > floor, values, 0.0))
    back = np.divide(1.0, root, out=np.zeros_like(root), where=root > 0)
    flipped = vectors.swapaxes(-1, -2)
    return (vectors * root[..., None, :]) @ flipped, (vectors * back[..., None, :]) @ flipped


def _unit(inner: Float[Values, "*batch m n"]) -> Float[Values, "*batch m n"]:
    """The matrix with its nonzero singular values made 1."""
    left, values, right = np.linalg.svd(inner, full_matrices=False)
    kept = values > NULL * values.max(axis=-1, keepdims=True, initial=0.0)
    return np.asarray((left * kept[..., None, :]) @ right)


def _refusal(node: ir.Spectral, why: str, remedy: str = "add damping, or check the operator") -> Refusal:
    name = {"power": "pow", "inverse": "inv", "polar": "msign"}.get(node.op, node.op)
    return Refusal(Diagnostic("NX416", f"`{name}` of an operator: {why}", node.span, remedy))
