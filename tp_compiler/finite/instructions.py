"""Instructions that act on a whole array (a held value) or on one tile of it (a passing value)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tp_compiler.diagnostics import Diagnostic
from tp_compiler.finite import kernels
from tp_compiler.finite.array_types import Values
from tp_compiler.finite.blame import Refusal
from tp_compiler.finite.contraction import contract
from tp_compiler.finite.spectral import spectral
from tp_compiler.finite.tensors import NETWORKS, LabelledArray, align, each_network, labels_from
from tp_compiler.ir import nodes as ir
from tp_compiler.ir.types import Index


def apply(node: ir.Node, args: Sequence[LabelledArray]) -> Values:
    """The array of a Map, Reduce, Reindex, Shift, Stack, Copy, or of a Contract without slots."""
    return ROWS[type(node)](node, args)


def _map(node: ir.Map, args: Sequence[LabelledArray]) -> Values:
    labels = labels_from(node, args)
    return kernels.apply(node.fn, *(align(a, labels) for a in args))


def _contract(node: ir.Contract, args: Sequence[LabelledArray]) -> Values:
    assert not node.slots
    return contract(args, labels_from(node, args))


def _copy(_: ir.Copy, args: Sequence[LabelledArray]) -> Values:
    return args[0].array


def _its_value(node: ir.InitialScalar | ir.Stop, args: Sequence[LabelledArray]) -> Values:
    labels = labels_from(node, args)
    lead = args[0].array.shape[:1] if NETWORKS in labels else ()
    return np.broadcast_to(align(args[0], labels), (*lead, *node.type.shape))


_REDUCTIONS: dict[str, np.ufunc] = {"max": np.maximum, "min": np.minimum, "prod": np.multiply}


def _reduce(node: ir.Reduce, args: Sequence[LabelledArray]) -> Values:
    x = args[0].array
    axis = args[0].labels.index(node.index)
    if node.op in _REDUCTIONS:
        return np.asarray(_REDUCTIONS[node.op].reduce(x, axis=axis))
    top = x.max(axis=axis, keepdims=True)
    top = np.where(np.isfinite(top), top, 0)
    return np.asarray(np.log(np.exp(x - top).sum(axis=axis)) + top.squeeze(axis))


def _shift(node: ir.Shift, args: Sequence[LabelledArray]) -> Values:
    """result[i] = x[i - by], zero outside the axis."""
    x = args[0].array
    axis = args[0].labels.index(node.index)
    size = x.shape[axis]
    lead = (slice(None),) * axis
    out = np.zeros_like(x)
    if abs(node.by) < size:
        target = slice(max(node.by, 0), size + min(node.by, 0))
        origin = slice(max(-node.by, 0), size + min(-node.by, 0))
        out[(*lead, target)] = x[(*lead, origin)]
    return out


def _cumulate(node: ir.Cumulate, args: Sequence[LabelledArray]) -> Values:
    """result[i] = Σ x[k] over k ≤ i, or over k ≥ i."""
    out = args[0].array.copy()
    entries = np.moveaxis(out, args[0].labels.index(node.index), 0)
    entries = entries[::-1] if node.reverse else entries
    for k in range(1, len(entries)):
        entries[k] += entries[k - 1]
    return out


def _stack(node: ir.Stack, args: Sequence[LabelledArray]) -> Values:
    out = labels_from(node, args)
    labels = tuple(x for x in out if x != node.index)
    size = {x: n for a in args for x, n in zip(a.labels, a.array.shape, strict=True)}
    shape = tuple(size[x] for x in labels)
    stacked = np.stack([np.broadcast_to(align(a, labels), shape) for a in args])
    return np.moveaxis(stacked, 0, out.index(node.index))


def _join(node: ir.Join, args: Sequence[LabelledArray]) -> Values:
    """Arguments laid out over their groups, one after the other along the index of the node."""
    out = labels_from(node, args)
    labels = tuple(x for x in out if x != node.index)
    size = {x: n for a in args for x, n in zip(a.labels, a.array.shape, strict=True)}
    size |= {i: i.size for i in labels if isinstance(i, Index)}
    shape = tuple(size[x] for x in labels)
    parts = []
    for a, group in zip(args, node.groups, strict=True):
        whole = np.broadcast_to(align(a, (*labels, *group)), (*shape, *(i.size for i in group)))
        parts.append(whole.reshape(*shape, -1))
    return np.moveaxis(np.concatenate(parts, axis=-1), -1, out.index(node.index))


def _reindex(node: ir.Reindex, args: Sequence[LabelledArray]) -> Values:
    x = args[0]
    networks = (NETWORKS,) if NETWORKS in x.labels else ()
    target = node.type.indices
    names = tuple(s for s in node.selectors if isinstance(s, Index))
    slots = tuple(label for label in x.labels[len(networks) :] if not isinstance(label, Index))
    plain = [s for s in node.selectors if not isinstance(s, ir.Gather)]
    if len(set(names)) == len(names) and len(plain) == len(node.selectors):
        at: list[slice | int] = [slice(None) if isinstance(s, Index) else s - 1 for s in plain]
        picked = x.array[(*(slice(None) for _ in networks), *at)]
        return align(LabelledArray(picked, (*networks, *names, *slots)), (*networks, *target, *slots))
    if any(NETWORKS in a.labels for a in args[1:]):
        count = next(len(a.array) for a in args if NETWORKS in a.labels)
        return each_network(lambda _, own: _reindex(node, own), args, count)
    where: list[Values | slice] = [slice(None) for _ in networks]
    for selector, size in zip(node.selectors, x.array.shape[len(networks) :], strict=False):
        if isinstance(selector, Index):
            where.append(align(LabelledArray(np.arange(size), (selector,)), target))
        elif isinstance(selector, ir.Gather):
            where.append(align(_positions(node, args[selector.arg], size), target))
        else:
            where.append(np.asarray(selector - 1))
    # Every index of the result occurs in some selector, so the positions broadcast to the result's full shape,
    # with the slots last.
    return np.asarray(x.array[tuple(where)])


def _positions(node: ir.Reindex, positions: LabelledArray, size: int) -> LabelledArray:
    """Positions from 0, checked."""
    values = positions.array
    wrong = ~((values >= 1) & (values <= size) & (values == np.round(values)))
    if wrong.any():
        value = float(values[wrong].flat[0])
        message = f"position {value:g} is outside 1..{size}"
        raise Refusal(Diagnostic("NX424", message, node.span, "check the data used as an index"))
    whole: Any = values.astype(np.intp) - 1
    return LabelledArray(whole, positions.labels)


def network_by_network(row: Callable[..., Values]) -> Callable[..., Values]:
    """An instruction for many networks from one for a single network."""

    def rows(node: ir.Node, args: Sequence[LabelledArray]) -> Values:
        counts = [len(a.array) for a in args if NETWORKS in a.labels]
        return each_network(lambda _, own: row(node, own), args, counts[0]) if counts else row(node, args)

    return rows


ROWS: dict[type[ir.Node], Callable[..., Values]] = {
    ir.Map: _map,
    ir.Contract: _contract,
    ir.Copy: _copy,
    ir.InitialScalar: _its_value,
    ir.Stop: _its_value,
    ir.Reduce: _reduce,
    ir.Reindex: _reindex,
    ir.Shift: _shift,
    ir.Cumulate: _cumulate,
    ir.Stack: _stack,
    ir.Join: _join,
    ir.Spectral: network_by_network(spectral),
}
