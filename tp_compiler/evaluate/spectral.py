"""Functions of low-rank operators by finite matrices: s I + |e>C<e| to f(s) I + |e>C'<e|, with K = <e|e>.

With C = R Rᵀ, T = Rᵀ K R = U λ Uᵀ and φ(λ) = (f(s + λ) - f(s))/λ:  C' = R U φ(λ) Uᵀ Rᵀ, since the nonzero eigenvalues
of |e>C<e| are those of T. (Push-through, f(X Xᵀ) X = X f(Xᵀ X).)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from tp_compiler.diagnostics import Diagnostic
from tp_compiler.evaluate.array_types import Array
from tp_compiler.evaluate.arrays import Labelled, Labels, aligned
from tp_compiler.evaluate.kernels import KERNELS
from tp_compiler.evaluate.numerical_errors import Refused
from tp_compiler.ir import nodes as ir
from tp_compiler.ir.types import Index
from tp_compiler.shapes import Float

#: Singular values below this part of the largest are zero: with momentum they soon span seven decades.
CUT = 1e-7
#: Parts of a matrix this small relative to it, or smaller, are rounding.
ROUNDING = 1e-12
#: Two eigenvalues that differ by this part or less are equal.
MEET = 1e-9


def spectral(node: ir.Spectral, args: Sequence[Labelled], wanted: Labels) -> Array:
    """The core C' of a Spectral node; args are arrays with their labels."""
    rest = tuple(w for w in wanted if isinstance(w, Index) and w not in (node.rows, node.cols))
    sizes = tuple(i.size for i in rest)

    def matrix(k: int, rows: Index, cols: Index) -> Array:
        found = np.broadcast_to(aligned(*args[k], (*rest, rows, cols)), (*sizes, rows.size, cols.size))
        if not np.isfinite(found).all():
            raise _refused(node, "its matrix has an entry that is not finite")
        return found

    def number(k: int) -> Array:
        return np.broadcast_to(aligned(*args[k], rest), sizes)[..., None]

    if node.op == "polar":
        rows2, cols2 = node.hidden
        core = _polar(matrix(0, node.rows, node.cols), matrix(1, node.rows, rows2), matrix(2, node.cols, cols2))
    elif node.op == "eigenvectors":
        core = _eigenvectors(node, *(matrix(k, node.rows, node.hidden[0]) for k in (0, 1)))
    elif node.hidden:
        gram, core, shift = (*(matrix(k, node.rows, node.hidden[0]) for k in (0, 1)), number(2))
        power = number(3) if node.op == "power" else None
        core = _applied(node, gram, core, shift, power, matrix(len(args) - 1, node.rows, node.cols))
    else:
        gram, core, shift = matrix(0, node.rows, node.cols), matrix(1, node.rows, node.cols), number(2)
        if node.op == "inverse" and (shift != 0).all():
            core = _inverse(node, gram, core, shift)
        else:
            core = _function(node, gram, core, shift, number(3) if node.op == "power" else None)
    if not np.isfinite(core).all():
        raise _refused(node, "the result overflows or is not real")
    return aligned(core, (*rest, node.rows, node.cols), wanted)


def _refused(node: ir.Spectral, why: str, remedy: str = "add damping, or check the operator") -> Refused:
    name = {"power": "pow", "inverse": "inv", "polar": "msign"}.get(node.op, node.op)
    return Refused(Diagnostic("NX416", f"`{name}` of an operator: {why}", node.span, remedy))


def _polar(
    core: Float[Array, "*batch m n"], rows: Float[Array, "*batch m m"], cols: Float[Array, "*batch n n"]
) -> Float[Array, "*batch m n"]:
    """|e>C<e'| with singular values 1: in orthonormal bases of the two sides, where C is Λ^½ Uᵀ C U' Λ'^½."""
    left, left_back = _half(rows)
    right, right_back = _half(cols)
    a, values, b = np.linalg.svd(_t(left) @ core @ right, full_matrices=False)
    kept = values > CUT * values.max(axis=-1, keepdims=True, initial=0.0)
    return left_back @ (a * kept[..., None, :]) @ b @ _t(right_back)


def _half(gram: Float[Array, "*batch n n"]) -> tuple[Float[Array, "*batch n n"], Float[Array, "*batch n n"]]:
    """U Λ^½ and U Λ^-½ (0 on the null space) of a Gram matrix."""
    values, vectors = np.linalg.eigh(0.5 * (gram + _t(gram)))
    kept = values > 4e-16 * gram.shape[-1] * values.max(axis=-1, keepdims=True, initial=0.0)
    root = np.sqrt(np.where(kept, values, 1.0))
    return vectors * np.where(kept, root, 0.0)[..., None, :], vectors * np.where(kept, 1 / root, 0.0)[..., None, :]


def _t(x: Array) -> Array:
    return np.swapaxes(x, -1, -2)


def _inverse(
    node: ir.Spectral,
    gram: Float[Array, "*batch n n"],
    core: Float[Array, "*batch n n"],
    shift: Float[Array, "*batch 1"],
) -> Float[Array, "*batch n n"]:
    """(s + |e>C<e|)⁻¹ = 1/s - (1/s) |e> (s + C K)⁻¹ C <e|"""
    size = core.shape[-1]
    inner = shift[..., None] * np.eye(size) + core @ gram
    if size and np.max(np.linalg.cond(inner), initial=0.0) > 1e14:
        raise _refused(node, "it is singular")
    return -np.linalg.solve(inner, core) / shift[..., None]


def _function(
    node: ir.Spectral,
    gram: Float[Array, "*batch n n"],
    core: Float[Array, "*batch n n"],
    shift: Float[Array, "*batch 1"],
    power: Float[Array, "*batch 1"] | None,
) -> Float[Array, "*batch n n"]:
    values, weights, basis = _decomposed(node, gram, core)
    if node.op == "inverse":
        power = np.full_like(shift, -1.0)
    f = _Power(power) if power is not None else _Named(node.fn)
    return (basis * (weights * _slope(node, f, shift, values))[..., None, :]) @ _t(basis)


def _applied(
    node: ir.Spectral,
    gram: Float[Array, "*batch n n"],
    core: Float[Array, "*batch n n"],
    shift: Float[Array, "*batch 1"],
    power: Float[Array, "*batch 1"] | None,
    operand: Float[Array, "*batch n k"],
) -> Float[Array, "*batch n k"]:
    """D of f(s + |e>C<e|)|e>B = |e>D, in an orthonormal basis; rounding errors of B on the null space are dropped."""
    half, back = _half(gram)
    values, inner = np.linalg.eigh(_t(half) @ _symmetric(node, gram, core) @ half)
    size = np.abs(values)
    null = size <= CUT**2 * size.max(axis=-1, keepdims=True, initial=0.0)
    b = _t(half @ inner) @ operand
    rounding = np.abs(b) <= ROUNDING * np.abs(b).max(axis=(-2, -1), keepdims=True, initial=0.0)
    b = np.where(null[..., None] & rounding, 0.0, b)
    base = shift + np.where(null, 0.0, values)
    with np.errstate(all="ignore"):
        f = KERNELS[node.fn](base) if power is None else np.where(base == 0, 0.0, np.power(base, power))
    return (back @ inner) @ (f[..., None] * b)


def _eigenvectors(
    node: ir.Spectral, gram: Float[Array, "*batch n n"], core: Float[Array, "*batch n n"]
) -> Float[Array, "*batch n n"]:
    """C' with |e>C' orthonormal; if two eigenvalues coincide, eigenvectors are not functions of the operator."""
    values, weights, basis = _decomposed(node, gram, core)
    order = np.argsort(-values, axis=-1)
    values, weights = (np.take_along_axis(x, order, axis=-1) for x in (values, weights))
    size = np.abs(values)
    kept = size > CUT**2 * size.max(axis=-1, keepdims=True, initial=0.0)
    close = values[..., :-1] - values[..., 1:] <= MEET * size[..., :-1]
    if (close & kept[..., :-1] & kept[..., 1:]).any():
        raise _refused(
            node,
            "two of its eigenvalues are equal",
            "use `Shampoo`, because equal eigenvalues do not determine a basis",
        )
    length = np.sqrt(np.where(kept, weights / np.where(kept, values, 1.0), 0.0))
    return np.take_along_axis(basis, order[..., None, :], axis=-1) * length[..., None, :]


def _decomposed(
    node: ir.Spectral, gram: Float[Array, "*batch n n"], core: Float[Array, "*batch n n"]
) -> tuple[Float[Array, "*batch k"], Float[Array, "*batch k"], Float[Array, "*batch n k"]]:
    """Eigenvalues of |e>C<e|, and C = B w Bᵀ with |e>B its eigenvectors, of squared lengths λ/w."""
    core = _symmetric(node, gram, core)
    scale = float(np.max(np.abs(core), initial=0.0))
    weights, vectors = np.linalg.eigh(core)
    if (weights >= -1e-12 * scale).all():
        root = vectors * np.sqrt(np.maximum(weights, 0.0))[..., None, :]
        values, inner = np.linalg.eigh(_t(root) @ gram @ root)
        return np.maximum(values, 0.0), np.ones_like(values), root @ inner
    half, back = _half(gram)
    values, inner = np.linalg.eigh(_t(half) @ core @ half)
    return values, values, back @ inner


def _symmetric(
    node: ir.Spectral, gram: Float[Array, "*batch n n"], core: Float[Array, "*batch n n"]
) -> Float[Array, "*batch n n"]:
    """The symmetric core of a symmetric operator, which also has other cores if the kets are linearly dependent."""
    other = 0.5 * (core + _t(core))
    if not np.allclose(core, other, rtol=0, atol=1e-9 * np.max(np.abs(core), initial=0.0)):
        half, _ = _half(gram)
        whole = _t(half) @ core @ half
        if not np.allclose(whole, _t(whole), rtol=0, atol=1e-9 * np.max(np.abs(whole), initial=0.0)):
            raise _refused(node, "it is not symmetric")
    return other


class _Power:
    """x^p, 0 on the null space: a pseudo-power."""

    def __init__(self, power: Float[Array, "*batch 1"]):
        self.power = power

    def rise(self, shift: Float[Array, "*batch 1"], values: Float[Array, "*batch n"]) -> Float[Array, "*batch n"]:
        """(f(s + λ) - f(s))/λ without cancellation."""
        with np.errstate(all="ignore"):
            relative = np.power(shift, self.power) * np.expm1(self.power * np.log1p(values / shift)) / values
            tangent = self.power * np.power(shift, self.power - 1)
            alone = np.power(values, self.power - 1)
        near = np.abs(values) < 1e-30 * np.abs(shift)
        return np.where(shift == 0, alone, np.where(near, tangent, relative))


class _Named:
    def __init__(self, name: str):
        self.f: Callable[[Array], Array] = KERNELS[name]

    def rise(self, shift: Float[Array, "*batch 1"], values: Float[Array, "*batch n"]) -> Float[Array, "*batch n"]:
        with np.errstate(all="ignore"):
            step = np.where(np.abs(values) < 1e-6 * np.maximum(np.abs(shift), 1e-300), 1e-6 * np.abs(shift), values)
            return (self.f(shift + step) - self.f(shift + 0 * step)) / step


def _slope(
    node: ir.Spectral, f: _Power | _Named, shift: Float[Array, "*batch 1"], values: Float[Array, "*batch n"]
) -> Float[Array, "*batch n"]:
    top = np.max(np.abs(values), axis=-1, keepdims=True, initial=0.0)
    null = (np.abs(values) <= CUT**2 * top) & (shift == 0)
    found = f.rise(shift, np.where(null, 1.0, values))
    return np.where(null | (values == 0) & (shift == 0), 0.0, found)
