"""Diagnostics for numbers, in the user's terms: NaN and overflow, singular matrices, impossible laws."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tp_compiler.diagnostics import Diagnostic
from tp_compiler.evaluate import eigenvalues
from tp_compiler.evaluate.array_types import Array, Numbers, Whole
from tp_compiler.evaluate.arrays import Labelled, Labels, aligned
from tp_compiler.ir import nodes as ir
from tp_compiler.ir.types import Index
from tp_compiler.shapes import Float


class Refused(Exception):
    """An instruction without a value; caught at the instruction."""

    def __init__(self, diagnostic: Diagnostic):
        self.diagnostic = diagnostic


def finite(value: NDArray[np.floating] | float) -> bool:
    """Whether all numbers are finite. Their sum knows, and is quick; it may overflow where they do not."""
    if isinstance(value, np.ndarray):
        return math.isfinite(np.add.reduce(value, axis=None)) or bool(np.isfinite(value).all())
    return bool(np.isfinite(np.sum(value))) or bool(np.isfinite(value).all())


def problem(node: ir.Node, value: Numbers, non_finite: Mapping[ir.Node, Diagnostic]) -> Diagnostic | None:
    """None for finite values; else what is wrong with the earliest non-finite ancestor, for which `blame` was asked."""
    if finite(value):
        return None
    found, todo = [node], list(node.args)
    seen = set(todo)
    while todo:
        n = todo.pop()
        if n in non_finite:
            found.append(n)
        fresh = [a for a in n.args if a not in seen]
        seen.update(fresh)
        todo.extend(fresh)
    culprit = min(found, key=lambda n: n.serial)
    return non_finite.get(culprit) or blame(culprit)


def blame(node: ir.Node, args: Sequence[Numbers] = ()) -> Diagnostic:
    """Why a value is not finite. Without the arguments, a quotient or a power counts as undefined, not as too large."""
    fn = node.fn if isinstance(node, ir.Map) else ""
    if fn == "div" and (not args or bool(np.any(args[1] == 0))):
        return Diagnostic("NX411", "division by zero", node.span, "keep the divisor away from 0")
    if fn in ("log", "sqrt", "pow") and (not args or _outside(fn, args)):
        what = {"log": "`log` of a number that is not positive", "sqrt": "`sqrt` of a negative number"}
        return Diagnostic(
            "NX413", what.get(fn, "a power outside its domain"), node.span, "keep the argument inside the domain"
        )
    return overflow(node)


def _outside(fn: str, args: Sequence[Numbers]) -> bool:
    """Whether some argument is outside the domain of a function; of a power, some base with some exponent."""
    x = args[0]
    if fn == "pow":
        p = args[1]
        return bool(np.any(x < 0) and np.any(p != np.round(p))) or bool(np.any(x == 0) and np.any(p < 0))
    return bool(np.any(x <= 0) if fn == "log" else np.any(x < 0))


def overflow(node: ir.Node) -> Diagnostic:
    return Diagnostic(
        "NX412", "the values overflow or are undefined here", node.span, "rescale the quantity, or check the domain"
    )


def no_average(node: ir.Node, why: str) -> Diagnostic:
    return Diagnostic(
        "NX441",
        f"this average does not exist: the average of its absolute value is infinite ({why})",
        node.span,
        "bound the tail or the pole (clip, tanh, or add a constant to the divisor)",
    )


def undecided(node: ir.Node) -> Diagnostic:
    return Diagnostic(
        "NX411",
        "cannot divide by (or take the logarithm of) a number that is 0 within its numerical error",
        node.span,
        "rewrite the divisor without the cancelling difference",
    )


def check_law(symbol: ir.KetSymbol | ir.MatrixSymbol, variance: Numbers, mean: Numbers = 0.0) -> None:
    """Refuses a law without finite mean and variance, and independent members of negative variance."""
    shown = f"`|{symbol.name}>`" if isinstance(symbol, ir.KetSymbol) else f"`{symbol.name}`"
    if not (np.isfinite(variance).all() and np.isfinite(mean).all()):
        message = f"the distribution of {shown} has a mean or variance that is not finite"
        raise Refused(Diagnostic("NX425", message, symbol.span, "rescale it, or check how it is computed"))
    joint = isinstance(symbol, ir.KetSymbol) and symbol.pair is not None
    if not joint and np.min(variance, initial=0.0) < 0:
        if isinstance(symbol, ir.KetSymbol) and symbol.law == "bernoulli":
            message = f"the probability of {shown} is not between 0 and 1 (p (1 - p) is {np.min(variance):g})"
            raise Refused(Diagnostic("NX421", message, symbol.span, "give a number from 0 to 1"))
        message = f"the variance of {shown} is negative ({np.min(variance):g})"
        raise Refused(Diagnostic("NX421", message, symbol.span, "give a variance of 0 or more"))


def covariance_root(covariance: Float[Array, "*batch n n"], symbol: ir.KetSymbol) -> Float[Array, "*batch n n"]:
    """A root R with R Rᵀ = covariance, for a stack of matrices; refuses matrices that are not covariances."""
    scale = max(float(np.max(np.abs(covariance), initial=0.0)), 1e-300)
    if not np.allclose(covariance, np.swapaxes(covariance, -1, -2), rtol=0, atol=1e-10 * scale):
        raise Refused(
            Diagnostic(
                "NX423",
                f"the covariance of `|{symbol.name}>` is not symmetric",
                symbol.span,
                "make `S[i,j]` equal to `S[j,i]`",
            )
        )
    values, vectors = np.linalg.eigh(covariance)
    if np.min(values) < -1e-10 * scale:
        raise Refused(
            Diagnostic(
                "NX422",
                f"the covariance of `|{symbol.name}>` has the negative eigenvalue {np.min(values):.3g}",
                symbol.span,
                "use a positive semidefinite covariance, such as `A A^T`",
            )
        )
    return (vectors * np.sqrt(np.maximum(values, 0.0))[..., None, :]) @ np.swapaxes(vectors, -1, -2)


def positions(value: Array, gather: ir.Node, node: ir.Reindex) -> Whole:
    """0-based positions of a gather, checked against the axis they index."""
    x = node.args[0]
    which = next(k for k, s in enumerate(node.selectors) if isinstance(s, ir.Gather) and node.args[s.arg] is gather)
    size = x.type.indices[which].size
    rounded = np.round(value)
    if not (rounded == value).all() or (value.size and (value.min() < 1 or value.max() > size)):
        raise Refused(Diagnostic("NX424", f"an index is outside 1..{size}", gather.span, "count positions from 1"))
    return rounded.astype(np.int64) - 1


def linalg(node: ir.Linalg, args: Sequence[Labelled], wanted: Labels) -> Array:
    """inv, pow, solve, cholesky, logdet, matfun of finite matrices (stacked over the other indices), and dpow, dmatfun,
    the derivatives of pow and matfun in the direction args[1]."""
    rest = tuple(w for w in wanted if isinstance(w, Index) and w not in (node.rows, node.cols))
    sizes = tuple(i.size for i in rest)
    matrix = np.broadcast_to(aligned(*args[0], (*rest, node.rows, node.cols)), (*sizes, node.rows.size, node.cols.size))
    if not np.isfinite(matrix).all():
        raise Refused(
            Diagnostic(
                "NX414", "the matrix has NaN or infinite entries", node.span, "check how its entries are computed"
            )
        )
    try:
        result: Array = _linalg(node, matrix, args, rest, sizes)
    except np.linalg.LinAlgError:
        result = np.full(1, np.nan)
    if not np.isfinite(result).all():
        raise Refused(
            Diagnostic(
                "NX414",
                f"`{node.op}` of a matrix that is singular or not positive definite",
                node.span,
                "add a multiple of `delta[i,j]`",
            )
        )
    own = {"logdet": rest, "solve": (*rest, node.rows)}.get(node.op, (*rest, node.rows, node.cols))
    return aligned(result, own, wanted)


def _linalg(
    node: ir.Linalg,
    matrix: Float[Array, "*batch n n"],
    args: Sequence[Labelled],
    rest: tuple[Index, ...],
    sizes: tuple[int, ...],
) -> Any:  # NumPy does not say in which precision its decompositions are
    if node.op in ("inv", "solve"):
        if np.max(np.linalg.cond(matrix), initial=0.0) > 1e14:
            raise np.linalg.LinAlgError
        if node.op == "inv":
            return np.linalg.inv(matrix)
        right = np.broadcast_to(aligned(*args[1], (*rest, node.cols)), (*sizes, node.cols.size))
        return np.linalg.solve(matrix, right[..., None])[..., 0]
    if node.op == "logdet":
        sign, value = np.linalg.slogdet(matrix)
        return np.where(sign > 0, value, np.nan)
    scale = float(np.max(np.abs(matrix), initial=1e-300))
    if not np.allclose(matrix, np.swapaxes(matrix, -1, -2), rtol=0, atol=1e-8 * scale):
        raise Refused(Diagnostic("NX415", f"`{node.op}` needs a symmetric matrix", node.span, "symmetrise the matrix"))
    if node.op == "cholesky":
        return np.linalg.cholesky(matrix)
    values, vectors = np.linalg.eigh(matrix)
    values = np.where((values < 0) & (values > -1e-12 * scale), 0.0, values)
    if node.op in ("matfun", "dmatfun"):
        function = eigenvalues.primitive(node.fn)
    else:
        power, of = args[-1]
        function = eigenvalues.power(aligned(power, of, rest)[..., None] if of else power)
    if node.op in ("matfun", "pow"):
        return eigenvalues.applied(values, vectors, function[0])
    direction = np.broadcast_to(aligned(*args[1], (*rest, node.rows, node.cols)), matrix.shape)
    return eigenvalues.derivative(values, vectors, function, direction)
