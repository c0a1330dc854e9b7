"""The random objects of a finite network: matrices and initial kets (TP IVb, Setup 2.6.2 with rectangular matrices).

Every matrix member and every ket of a family has its own generator, keyed by seed, network, name and position, so
that no value depends on the order of evaluation or on what else is computed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from zlib import crc32

import numpy as np

from tp_compiler.diagnostics import Diagnostic
from tp_compiler.finite.array_types import Values
from tp_compiler.finite.blame import Refusal
from tp_compiler.finite.seeding import generators
from tp_compiler.finite.tensors import LabelledArray, align
from tp_compiler.ir import nodes as ir
from tp_compiler.shapes import Float

Key = tuple[int, int]
_BLOCK = 1 << 15  # entries drawn in float64 at a time: few enough to stay in the cache
_MANY = 8  # generators that are made faster together than one by one
_BYTES = 1 << 20  # signs drawn at a time: they come in fours, so that other blocks are other signs


def generator(key: Key, kind: str, name: str, member: int) -> np.random.Generator:
    """The generator of one member; `kind` separates a ket from a matrix of the same name."""
    return np.random.default_rng(_seed(key, kind, name, member))


def _seed(key: Key, kind: str, name: str, member: int) -> list[int]:
    return [*key, crc32(f"{kind} {name}".encode()), member]


def _generators(keys: Sequence[Key], kind: str, name: str, members: Sequence[int]) -> Iterator[np.random.Generator]:
    """Those of all members of the first network, then of the second, and so on; each has to be used before the next."""
    seeds = [_seed(key, kind, name, member) for key in keys for member in members]
    return generators(seeds) if len(seeds) >= _MANY else map(np.random.default_rng, seeds)


def matrices(
    keys: Sequence[Key],
    symbol: ir.MatrixSymbol,
    member: int,
    out: Float[Values, "networks rows cols"],
    variances: Float[Values, " networks"],
) -> None:
    """Fills `out`, rows x cols of each network, with independent entries of mean 0 and variance σ²/cols."""
    _check_law(symbol, symbol.name, variances)
    _, rows, columns = out.shape
    scales = np.sqrt(np.asarray(variances, np.float64) / columns).tolist()
    step = max(1, (_BYTES if symbol.law == "rademacher" else _BLOCK) // columns)
    drawn = zip(out, scales, _generators(keys, "matrix", symbol.name, [member]), strict=True)
    for entries, scale, rng in drawn:
        for row in range(0, rows, step):
            block = entries[row : row + step]
            np.multiply(_entries(rng, symbol.law, block.shape), scale, out=block, casting="same_kind")


def _check_law(
    symbol: ir.KetSymbol | ir.MatrixSymbol, shown: str, variance: float | Values, mean: float | Values = 0.0
) -> None:
    """Refuses a law without finite mean and variance, and independent members of negative variance."""
    if not (np.isfinite(variance).all() and np.isfinite(mean).all()):
        message = f"the distribution of `{shown}` has a mean or variance that is not finite"
        raise Refusal(Diagnostic("NX425", message, symbol.span, "rescale it, or check how it is computed"))
    joint = isinstance(symbol, ir.KetSymbol) and symbol.pair is not None
    if not joint and np.min(variance, initial=0.0) < 0:
        if isinstance(symbol, ir.KetSymbol) and symbol.law == "bernoulli":
            message = f"the probability of `{shown}` is not between 0 and 1 (p (1 - p) is {np.min(variance):g})"
            raise Refusal(Diagnostic("NX421", message, symbol.span, "give a number from 0 to 1"))
        message = f"the variance of `{shown}` is negative ({np.min(variance):g})"
        raise Refusal(Diagnostic("NX421", message, symbol.span, "give a variance of 0 or more"))


def _entries(rng: np.random.Generator, law: str, shape: tuple[int, ...]) -> Values:
    """Unit variance, by law."""
    if law == "rademacher":
        return rng.integers(0, 2, shape, dtype=np.int8) * 2.0 - 1.0
    if law == "uniform":
        return rng.uniform(-np.sqrt(3.0), np.sqrt(3.0), shape)
    assert law == "normal", law
    return rng.standard_normal(shape)


def initial_kets(
    keys: Sequence[Key],
    node: ir.InitialKet,
    mean: LabelledArray,
    covariance: LabelledArray,
    neurons: int,
    dtype: type[np.floating] | np.dtype[np.floating],
) -> Float[Values, "networks *family {neurons}"]:
    """The family (networks, *indices, neurons): jointly Gaussian over its indices, independent over networks and neurons."""
    symbol = node.symbol
    shape = (len(keys), *node.type.shape, neurons)
    centre = align(mean, symbol.indices)[..., None]
    _check_law(symbol, f"|{symbol.name}>", covariance.array, mean.array)
    out = np.empty(shape, dtype)
    if symbol.pair is None:
        scale = np.sqrt(align(covariance, symbol.indices)[..., None])
        if not scale.any():
            out[...] = centre
            return out
        _fill(keys, symbol, out)
        out *= scale
    else:
        _fill(keys, symbol, out)
        out = _mixed(symbol, out, _root(symbol, covariance))
    return np.asarray(out + centre, dtype=dtype)


def other_ket(
    key: Key,
    node: ir.InitialKet,
    mean: LabelledArray,
    variance: LabelledArray,
    parameters: Sequence[LabelledArray],
    neurons: int,
    dtype: type[np.floating] | np.dtype[np.floating],
) -> Float[Values, "*family {neurons}"]:
    """The family (*indices, neurons) of another law: independent members, or a row of an array for each neuron."""
    symbol = node.symbol
    _check_law(symbol, f"|{symbol.name}>", variance.array, mean.array)
    out = np.empty((*node.type.shape, neurons), dtype)
    if symbol.law == "rows":
        table = np.broadcast_to(align(parameters[0], (node.row, *symbol.indices)), (node.row.size, *node.type.shape))
        chosen = generator(key, "ket", symbol.name, 0).integers(0, node.row.size, neurons)
        out[...] = np.moveaxis(table[chosen], 0, -1)
        return out
    aligned = [np.broadcast_to(align(p, symbol.indices), node.type.shape).ravel() for p in parameters]
    for member, row in enumerate(out.reshape(-1, neurons)):
        rng = generator(key, "ket", symbol.name, member)
        row[...] = _drawn(rng, symbol.law, [float(p[member]) for p in aligned], neurons)
    return out


def _drawn(rng: np.random.Generator, law: str, parameters: Sequence[float], neurons: int) -> Values:
    if law == "rademacher":
        return (parameters[0] if parameters else 1.0) * _entries(rng, law, (neurons,))
    if law == "bernoulli":
        return np.asarray(rng.random(neurons) < parameters[0], dtype=np.float64)
    assert law == "uniform", law
    low, high = parameters if len(parameters) == 2 else (-parameters[0], parameters[0])
    return low + (high - low) * rng.random(neurons)


def _fill(keys: Sequence[Key], symbol: ir.KetSymbol, out: Values) -> None:
    kets = out.reshape(-1, out.shape[-1])
    rngs = _generators(keys, "ket", symbol.name, range(len(kets) // len(keys)))
    for ket, rng in zip(kets, rngs, strict=True):
        ket[...] = rng.standard_normal(len(ket))


def _root(symbol: ir.KetSymbol, covariance: LabelledArray) -> Values:
    """The symmetric root of the covariance, shape (*other indices, left, right)."""
    assert symbol.pair is not None
    left, right = symbol.pair
    others = tuple(i for i in symbol.indices if i != left)
    full = align(covariance, (*others, left, right)).astype(np.float64)
    full = np.broadcast_to(full, (*full.shape[:-2], left.size, right.size))
    scale = float(np.abs(full).max(initial=0.0))
    tolerance = 1e-6 if covariance.array.dtype == np.float32 else 1e-10
    if np.abs(full - full.swapaxes(-1, -2)).max(initial=0.0) > tolerance * scale:
        message = f"the covariance of `|{symbol.name}>` is not symmetric"
        raise Refusal(Diagnostic("NX423", message, symbol.span, "make `S[i,j]` equal to `S[j,i]`"))
    values, vectors = np.linalg.eigh(full)
    if values.min(initial=0.0) < -tolerance * np.abs(values).max(initial=0.0):
        message = f"the covariance of `|{symbol.name}>` has the negative eigenvalue {values.min():.3g}"
        raise Refusal(
            Diagnostic("NX422", message, symbol.span, "use a positive semidefinite covariance, such as `A A^T`")
        )
    roots = np.sqrt(np.maximum(values, 0.0))
    return np.asarray((vectors * roots[..., None, :]) @ vectors.swapaxes(-1, -2))


def _mixed(symbol: ir.KetSymbol, z: Values, root: Values) -> Values:
    """Σ_right root[left, right] z[right], with the left index in the position of the right one."""
    assert symbol.pair is not None
    axis = 1 + symbol.indices.index(symbol.pair[0])
    return np.moveaxis(root @ np.moveaxis(z, axis, -2), -2, axis)
