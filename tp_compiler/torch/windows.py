"""Convolution, pooling, padding and resampling: windows of an axis, positions that are data, and weighted sums over it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from tp_compiler.torch import layout
from tp_compiler.torch.arithmetic import Rule, contract, plus, reduce
from tp_compiler.torch.calls import Call
from tp_compiler.torch.dimensions import Dimension, leaves
from tp_compiler.torch.refusals import Untraceable
from tp_compiler.torch.steps import Constants, View, Windows, called, fresh, joint, own, repeated, seen

_FUNCTIONAL = torch.nn.functional
_LABELS = "abcdefgh"


def spread(x: View, dim: int, table: np.ndarray, name: str) -> View:
    """Dimension `dim` at positions of a table, of one or two dimensions; 0 where they are negative."""
    if (table < 0).any():
        zero = [(1, 1) if k == dim else size for k, size in enumerate(x.shape)]
        x, table = layout.put_together([repeated(0.0, zero), x], dim), table.clip(-1) + 1
    return layout.look_up(x, dim, table, name)


def weighted(x: View, dim: int, matrix: np.ndarray, name: str) -> View:
    """sum_s matrix[t, s] x[s] over dimension `dim`."""
    x = layout.flat(x, dim)
    slots, groups = fresh([(n, n) for n in matrix.shape])
    weights = seen(Constants(slots, groups, matrix.reshape([d.sizes[0] for d in slots]), name))
    letters = _LABELS[: len(x.groups)]
    return contract(x, weights, f"{letters},t{letters[dim]}->{letters.replace(letters[dim], 't')}")


def windows(x: View, dim: int, length: int, stride: int, padding: int, dilation: int = 1) -> View:
    """Dimension `dim` becomes two: the windows' positions, and the place in the window."""
    (size, _) = x.shape[dim]
    reach = dilation * (length - 1) + 1
    count = (size + 2 * padding - reach) // stride + 1
    if padding == 0:
        if length == 1:
            x = x if stride == 1 else layout.look_up(x, dim, np.arange(0, size, stride)[:count], "strided")
            return x.inserted(dim + 1)
        if count == 1 and dilation == 1:
            x = x if length == size else layout.look_up(x, dim, np.arange(length), "window")
            return x.inserted(dim)
    if dilation > 1 or count == 1 or length == 1 or len(leaves(x.groups[dim])) != 1:
        table = stride * np.arange(count)[:, None] + dilation * np.arange(length) - padding
        return called("windows", spread(x, dim, np.where(table < size, table, -1), "windows"))
    shared = [joint([g]) for g in x.groups]
    target = shared[dim] if (count, stride) == (size, 1) else [(Dimension((count, count)), True)]
    shared[dim : dim + 1] = [target, [(Dimension((length, length)), True)]]
    slots, out = own(shared)
    return called("windows", seen(Windows(slots, out, x, dim, stride, padding)))


def _each(value: Any, count: int) -> list[int]:
    found = [value] * count if isinstance(value, int) else list(value)
    return found * count if len(found) == 1 else found


def _over(x: View, channel_weights: View) -> View:
    """Weights over channels, the second dimension of x."""
    return channel_weights.regrouped([*channel_weights.groups, *([] for _ in range(len(x.groups) - 2))])


# --------------------------------------------------------------------------------------------------------- convolution


def convolution(call: Call) -> View:
    weight = call.view("weight")
    space = len(weight.groups) - 2
    cut = _transposed if _is_transposed(call) else _plain
    x, weight, labels = cut(call, call.view("input"), weight, space)
    made = contract(x, weight, labels) if "g" not in labels else layout.joined(contract(x, weight, labels), 1)
    return plus(made, _over(made, call.view("bias"))) if call.has("bias") else made


def _is_transposed(call: Call) -> bool:
    return call.name.startswith("conv_transpose") or bool(call.plain("transposed", False))


def _options(call: Call, space: int) -> tuple[list[int], list[int], tuple[int, int]]:
    stride, dilation = (_each(call.plain(n, 1), space) for n in ("stride", "dilation"))
    return stride, dilation, call.pair("groups") if call.has("groups") else (1, 1)


def _plain(call: Call, x: View, weight: View, space: int) -> tuple[View, View, str]:
    stride, dilation, groups = _options(call, space)
    padding = _padding(call, weight, space, dilation)
    for k in range(space):
        dim = len(x.groups) - space + k
        x = windows(x, dim, weight.shape[2 + k][0], stride[k], padding[k], dilation[k])
    places, inner = "tuv"[:space], "xyz"[:space]
    cut = "".join(a + b for a, b in zip(places, inner, strict=True))
    if groups == (1, 1):
        return x, weight, f"bi{cut},oi{inner}->bo{places}"
    x, weight = layout.divided(x, 1, groups), layout.divided(weight, 0, groups)
    return x, weight, f"bgi{cut},goi{inner}->bgo{places}"


def _transposed(call: Call, x: View, weight: View, space: int) -> tuple[View, View, str]:
    """Entry t of the output has x[s] times place r of the window where stride s = t + padding - dilation r."""
    stride, dilation, groups = _options(call, space)
    padding = _each(call.plain("padding", 0), space)
    for k in range(space):
        dim = len(x.groups) - space + k
        (size, _), (length, _), (count, _) = x.shape[dim], weight.shape[2 + k], call.shapes[-space + k]
        at = np.arange(count)[:, None] + padding[k] - dilation[k] * np.arange(length)
        table, rest = np.divmod(at, stride[k])
        x = called(
            "windows", spread(x, dim, np.where((rest == 0) & (table >= 0) & (table < size), table, -1), "windows")
        )
    places, inner = "tuv"[:space], "xyz"[:space]
    cut = "".join(a + b for a, b in zip(places, inner, strict=True))
    if groups == (1, 1):
        return x, weight, f"bi{cut},io{inner}->bo{places}"
    x, weight = layout.divided(x, 1, groups), layout.divided(weight, 0, groups)
    return x, weight, f"bgi{cut},gio{inner}->bgo{places}"


def _padding(call: Call, weight: View, space: int, dilation: Sequence[int]) -> list[int]:
    given = call.plain("padding", 0)
    if given == "valid":
        return [0] * space
    if given == "same":
        reach = [dilation[k] * (weight.shape[2 + k][0] - 1) for k in range(space)]
        if any(n % 2 for n in reach):
            raise Untraceable("NX703", "padding='same' with a window of even length", "use windows of odd length")
        return [n // 2 for n in reach]
    return _each(given, space)


# ------------------------------------------------------------------------------------------------------------- pooling


def pooling(name: str) -> Rule:
    def apply(call: Call) -> View:
        x = call.view("self")
        space = int(call.name[-2])
        lengths = _each(call.plain("kernel_size"), space)
        strides = _each(call.plain("stride", lengths) or lengths, space)
        padding, dilation = (_each(call.plain(n, d), space) for n, d in (("padding", 0), ("dilation", 1)))
        if call.has("divisor_override"):
            raise Untraceable("NX703", "pooling with `divisor_override`", "multiply the mean by a number")
        for k in range(space):
            dim, own_size = len(x.groups) - space + k, x.shape[len(x.groups) - space + k][0]
            count = call.shapes[-space + k][0]
            ends_inside = (count - 1) * strides[k] + dilation[k] * (lengths[k] - 1) < own_size
            if padding[k] == 0 and dilation[k] == 1 and ends_inside:
                x = reduce(windows(x, dim, lengths[k], strides[k], 0), name, [dim + 1])
            elif name == "max":
                at = strides[k] * np.arange(count)[:, None] + dilation[k] * np.arange(lengths[k]) - padding[k]
                x = _largest(x, dim, [row[(row >= 0) & (row < own_size)] for row in at])
            else:
                x = weighted(x, dim, _means(call, own_size, lengths[k], strides[k], padding[k]), "pool")
        return x

    return apply


def _largest(x: View, dim: int, positions: Sequence[np.ndarray]) -> View:
    """The maxima over sets of positions: shorter ones repeat their last."""
    most = max(map(len, positions))
    table = np.array([[*row, *[row[-1]] * (most - len(row))] for row in positions])
    return reduce(layout.look_up(x, dim, table, "pool"), "max", [dim + 1])


def _means(call: Call, size: int, length: int, stride: int, padding: int) -> np.ndarray:
    """The weights of average pooling along one dimension."""
    unit = torch.eye(size, dtype=torch.float64)[:, None]
    options = {
        "ceil_mode": bool(call.plain("ceil_mode", False)),
        "count_include_pad": bool(call.plain("count_include_pad", True)),
    }
    return _matrix(_FUNCTIONAL.avg_pool1d(unit, length, stride, padding, **options))


def _matrix(images: torch.Tensor) -> np.ndarray:
    """[t, s] from the images of unit vectors s."""
    return np.asarray(images[:, 0].T)


def adaptive(name: str) -> Rule:
    """Pooling to a given number of positions; `max` also has positions, which nothing needs."""

    def apply(call: Call) -> Any:
        x = call.view("self")
        space = int(call.name[-2])
        for k, wanted in enumerate(_each(call.plain("output_size"), space)):
            dim = len(x.groups) - space + k
            (size, _) = x.shape[dim]
            edges = [(t * size // wanted, -(-(t + 1) * size // wanted)) for t in range(wanted)]
            if wanted == 1:
                x = reduce(x, name, [dim], keep=True)
            elif name == "mean":
                matrix = np.array([[(a <= s < b) / (b - a) for s in range(size)] for a, b in edges])
                x = weighted(x, dim, matrix, "pool")
            else:
                x = _largest(x, dim, [np.arange(a, b) for a, b in edges])
        return [x] if name == "max" else x

    return apply


# ------------------------------------------------------------------------------------------------ padding, resampling


def pad(call: Call) -> View:
    x, mode = call.view("self"), call.plain("mode", "constant")
    sides = call.plain("pad")
    for k in range(len(sides) // 2):
        dim, (before, after) = len(x.groups) - 1 - k, sides[2 * k : 2 * k + 2]
        if before == after == 0:
            continue
        (size, grown) = x.shape[dim]
        if size != grown:
            raise Untraceable("NX704", "padding of a dimension that grows with the width", "pad finite dimensions")
        at = np.arange(-before, size + after)
        x = (
            _filled(x, dim, at, call)
            if mode == "constant"
            else layout.look_up(x, dim, _PADDINGS[mode](at, size), f"pad_{mode}")
        )
    return x


def _filled(x: View, dim: int, at: np.ndarray, call: Call) -> View:
    value = float(call.plain("value", 0.0) or 0.0)
    (size, _) = x.shape[dim]
    inside = at[(at >= 0) & (at < size)]
    pieces = [layout.look_up(x, dim, inside, "cropped") if len(inside) < size else x]
    for count, place in ((int((at < 0).sum()), 0), (int((at >= size).sum()), len(pieces) + 1)):
        if count:
            shape = [(count, count) if k == dim else s for k, s in enumerate(x.shape)]
            pieces.insert(place, repeated(value, shape))
    return layout.put_together(pieces, dim)


_PADDINGS: dict[str, Callable[[np.ndarray, int], np.ndarray]] = {
    "reflect": lambda at, size: size - 1 - abs(size - 1 - abs(at)),
    "replicate": lambda at, size: at.clip(0, size - 1),
    "circular": lambda at, size: at % size,
}


def resampled(mode: str) -> Rule:
    """Interpolation to other sizes, one dimension after the other."""

    def apply(call: Call) -> View:
        x = call.view("input" if "input" in call.arguments else "self")
        space = len(x.groups) - 2
        for k in range(space):
            dim = len(x.groups) - space + k
            (size, _), (count, _) = x.shape[dim], call.shapes[-space + k]
            if call.has("scale_factors") and call.plain("scale_factors")[k] * size != count:
                raise Untraceable("NX703", "a scale factor that does not give whole positions", "give the output size")
            matrix = _resampling(mode, size, count, call)
            if mode == "nearest":
                x = layout.look_up(x, dim, matrix.argmax(1), "nearest")
            elif count != size:
                x = weighted(x, dim, matrix, mode)
        return x

    return apply


def _resampling(mode: str, size: int, count: int, call: Call) -> np.ndarray:
    unit = torch.eye(size, dtype=torch.float64)[:, None]
    if mode == "nearest":
        return _matrix(_FUNCTIONAL.interpolate(unit, count, mode=mode))
    corners = bool(call.plain("align_corners", False))
    if mode == "linear":
        return _matrix(_FUNCTIONAL.interpolate(unit, count, mode=mode, align_corners=corners))
    flat = _FUNCTIONAL.interpolate(unit[..., None], (count, 1), mode="bicubic", align_corners=corners)
    return _matrix(flat[..., 0])
