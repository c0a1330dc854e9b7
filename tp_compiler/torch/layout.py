"""Operations that only rearrange entries: views, slices, gathers, concatenation."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np

from tp_compiler.torch.calls import Call, Folded
from tp_compiler.torch.dimensions import Dimension, Group, Sizes, leaves, regroup, sizes, unify, whole
from tp_compiler.torch.refusals import Untraceable
from tp_compiler.torch.steps import Constants, Lookup, Pieces, View, fresh, joint, own, seen


def unchanged(call: Call) -> View:
    return call.view("self")


def view(call: Call) -> View:
    x = call.view("self")
    return x.regrouped(regroup(x.groups, call.shapes))


def permute(call: Call) -> View:
    x = call.view("self")
    return x.regrouped([x.groups[k] for k in call.plain("dims")])


def transpose(call: Call) -> View:
    x = call.view("self")
    groups = list(x.groups)
    one, other = call.plain("dim0") % len(groups), call.plain("dim1") % len(groups)
    groups[one], groups[other] = groups[other], groups[one]
    return x.regrouped(groups)


def reverse_axes(call: Call) -> View:
    x = call.view("self")
    return x.regrouped(x.groups[:-2] + x.groups[-2:][::-1])


def unsqueeze(call: Call) -> View:
    x = call.view("self")
    k = call.plain("dim") % (len(x.groups) + 1)
    return x.inserted(k)


def expand(call: Call) -> View:
    x = call.view("self")
    new = len(call.shapes) - len(x.groups)
    padded: list[Group] = [[] for _ in range(new)] + x.groups
    return x.regrouped(
        [group if leaves(group) else whole(wanted, None) for group, wanted in zip(padded, call.shapes, strict=True)]
    )


def repeat_interleave(call: Call) -> View:
    """Each entry several times in a row: grouped queries."""
    x = call.view("self")
    if not call.has("dim"):
        raise Untraceable("NX703", "repeat_interleave of all entries", "name the dimension")
    k = call.plain("dim") % len(x.groups)
    times = call.pair("repeats")
    return repeat(x, k, (int(times[0]), int(times[1])))


def repeat(x: View, dim: int, times: Sizes) -> View:
    groups = list(x.groups)
    groups[dim] = [*leaves(groups[dim]), *whole(times, None)]
    return x.regrouped(groups)


def divided(x: View, dim: int, parts: Sizes) -> View:
    """A dimension as two: the parts, and what is inside a part."""
    shape = x.shape
    inner = (shape[dim][0] // parts[0], shape[dim][1] // parts[1])
    return x.regrouped(regroup(x.groups, [*shape[:dim], parts, inner, *shape[dim + 1 :]]))


def joined(x: View, dim: int) -> View:
    """A dimension and the next as one."""
    return x.regrouped([*x.groups[:dim], [*x.groups[dim], *x.groups[dim + 1]], *x.groups[dim + 2 :]])


def position(x: View, dim: int, at: int) -> View:
    """x at one position of a finite dimension, which is then gone."""
    group = leaves(x.groups[dim])
    fixed = list(x.fixed)
    size = sizes(group)
    if size[0] != size[1]:
        raise Untraceable(
            "NX704", "one entry of a dimension that grows with the width", "select along finite dimensions"
        )
    at %= size[0]
    for place in reversed(group):
        at, k = divmod(at, place.dimension.sizes[0])
        fixed.append((place, k))
    return replace(x, groups=[*x.groups[:dim], *x.groups[dim + 1 :]], fixed=tuple(fixed))


def select(call: Call) -> View:
    x = call.view("self")
    return position(x, call.plain("dim") % len(x.groups), call.plain("index"))


def unbind(call: Call) -> list[View]:
    x = call.view("self")
    k = call.plain("dim", 0) % len(x.groups)
    return [position(x, k, at) for at in range(x.shape[k][0])]


def squeeze(call: Call) -> View:
    x = call.view("self")
    dims = call.plain("dim") if call.has("dim") else range(len(x.groups))
    gone = {d % len(x.groups) for d in ([dims] if isinstance(dims, int) else dims)}
    return x.regrouped([g for k, g in enumerate(x.groups) if k not in gone or leaves(g)])


def section(x: View, dim: int, start: Sizes, length: Sizes, step: int = 1) -> View:
    """Entries start, start + step, ... of a dimension: a part of a width, or positions of a finite dimension."""
    size = sizes(leaves(x.groups[dim]))
    if (start, length, step) == ((0, 0), size, 1):
        return x
    if size[0] == size[1]:
        return look_up(
            x, dim, np.arange(start[0], start[0] + length[0], step), f"from{start[0]}_to{start[0] + length[0]}"
        )
    return _part_of_width(x, dim, start, length, step)


def _part_of_width(x: View, dim: int, start: Sizes, length: Sizes, step: int) -> View:
    size = sizes(leaves(x.groups[dim]))
    part = tuple(math.gcd(*numbers) for numbers in zip(start, length, size, strict=True))
    parts, at, count = ((n[0] // part[0], n[1] // part[1]) for n in (size, start, length))
    if step != 1 or any(n[0] != n[1] for n in (parts, at, count)):
        raise Untraceable(
            "NX704", "a slice of a dimension that grows with the width is not made of equal parts",
            "split widths into equal parts",
        )  # fmt: skip
    cut = divided(x, dim, parts)
    if count == (1, 1):
        return position(cut, dim, at[0])
    return joined(look_up(cut, dim, np.arange(at[0], at[0] + count[0]), f"parts{at[0]}_to{at[0] + count[0]}"), dim)


def slices(call: Call) -> View:
    x = call.view("self")
    k = call.plain("dim", 0) % len(x.groups)
    size = x.shape[k]
    bounds = []
    for n, start, end in zip(size, call.pair("start"), call.pair("end"), strict=True):
        bounds.append(slice(start, end).indices(n)[:2])
    start = (bounds[0][0], bounds[1][0])
    length = (bounds[0][1] - bounds[0][0], bounds[1][1] - bounds[1][0])
    return section(x, k, start, length, call.plain("step", 1))


def split(call: Call) -> list[View]:
    x = call.view("self")
    k = call.plain("dim", 0) % len(x.groups)
    size = x.shape[k]
    name = "split_size" if "split_size" in call.arguments else "split_sizes"
    asked = call.pair(name)
    if isinstance(asked[0], int):
        counts = [-(-size[i] // asked[i]) for i in (0, 1)]
        pieces = [[min(asked[i], size[i] - asked[i] * j) for j in range(counts[i])] for i in (0, 1)]
    else:
        pieces = [list(asked[0]), list(asked[1])]
    if len(pieces[0]) != len(pieces[1]):
        raise Untraceable("NX701", "the number of pieces depends on the width", "split into a fixed number of pieces")
    found, start = [], (0, 0)
    for one, other in zip(*pieces, strict=True):
        found.append(section(x, k, start, (one, other)))
        start = (start[0] + one, start[1] + other)
    return found


def chunk(call: Call) -> list[View]:
    x = call.view("self")
    k = call.plain("dim", 0) % len(x.groups)
    size, chunks = x.shape[k], call.plain("chunks")
    length = (-(-size[0] // chunks), -(-size[1] // chunks))
    if length[0] * chunks != size[0] or length[1] * chunks != size[1]:
        raise Untraceable("NX704", f"{size[0]} entries do not split into {chunks} equal chunks", "use equal chunks")
    return [section(x, k, (j * length[0], j * length[1]), length) for j in range(chunks)]


def look_up(x: View, dim: int, positions: np.ndarray, name: str) -> View:
    """x at positions of a dimension that are data."""
    along = leaves(x.groups[dim])
    if sizes(along)[0] != sizes(along)[1]:
        raise Untraceable("NX704", "entries are picked along a dimension that grows with the width", "pick along axes")
    source, where = _positions(positions % max(1, sizes(along)[0]), name)
    if positions.ndim == 1 and along and np.array_equal(source.values, np.arange(sizes(along)[0])):
        unify(along, where[0])  # every position in its order
        return x
    return _looked_up(x, dim, source, where)


def _positions(positions: np.ndarray, name: str) -> tuple[Constants, list[Group]]:
    slots, where = fresh([(n, n) for n in positions.shape])
    return Constants(slots, where, positions.reshape([d.sizes[0] for d in slots]), name), where


def _looked_up(x: View, dim: int, source: Constants, where: list[Group]) -> View:
    groups = [*x.groups[:dim], *where, *x.groups[dim + 1 :]]
    kept, out = own([joint([g]) for g in groups])
    return seen(Lookup(kept, out, x, dim, source))


def integers(call: Call, name: str) -> tuple[np.ndarray, str]:
    found = call.arguments[name]
    if not isinstance(found, Folded):
        raise Untraceable(
            "NX703",
            "positions are computed from parameters",
            "routing that depends on data has no limit here; route softly",
        )
    one, other = (np.asarray(v) for v in found.values)
    if not np.array_equal(one, other):
        raise Untraceable("NX705", f"the positions `{found.name}` depend on the width", "use the same positions")
    return one, found.name


def embedding(call: Call) -> View:
    positions, name = integers(call, "indices")
    return look_up(call.view("weight"), 0, positions, name)


def index_select(call: Call) -> View:
    x = call.view("self")
    positions, name = integers(call, "index")
    return look_up(x, call.plain("dim") % len(x.groups), positions, name)


def flip(call: Call) -> View:
    x = call.view("self")
    for dim in call.plain("dims"):
        k = dim % len(x.groups)
        x = look_up(x, k, np.arange(x.shape[k][0])[::-1], "backwards")
    return x


def index(call: Call) -> View:
    """x[.., positions, ..] with one array of positions."""
    x = call.view("self")
    given: list[Any] = list(call.arguments["indices"])
    used = [k for k, item in enumerate(given) if isinstance(item, Folded)]
    if len(used) != 1:
        raise Untraceable("NX703", "indexing by several arrays at once", "index along one dimension at a time")
    sub = Call(call.name, {"index": given[used[0]]}, call.shapes, call.widths)
    positions, name = integers(sub, "index")
    if positions.dtype == bool:
        positions = np.flatnonzero(positions) if positions.ndim == 1 else positions
        if positions.ndim != 1:
            raise Untraceable("NX703", "indexing by a mask of several dimensions", "multiply by the mask")
    return look_up(x, used[0], positions, name)


def concatenate(call: Call) -> View:
    return put_together(call.views("tensors"), call.plain("dim", 0))


def stack(call: Call) -> View:
    views = call.views("tensors")
    k = call.plain("dim", 0) % (len(views[0].groups) + 1)
    return put_together([v.inserted(k) for v in views], k)


def put_together(views: list[View], dim: int) -> View:
    """Tensors one after another along a dimension."""
    views = [v for v in views if v.shape != [(0, 0)]] or views[:1]  # torch.cat skips them, such as a cache at its start
    k = dim % len(views[0].groups)
    lengths = [v.shape[k] for v in views]
    if all(n[0] == n[1] for n in lengths):
        views = [flat(v, k) for v in views]
        count = sum(n[0] for n in lengths)
        shared = [joint([v.groups[j] for v in views]) for j in range(len(views[0].groups)) if j != k]
        shared.insert(k, [(Dimension((count, count)), True)])
        kept, out = own(shared)
        return seen(Pieces(kept, out, views, k))
    part = tuple(math.gcd(*(n[side] for n in lengths)) for side in (0, 1))
    counts = [(n[0] // part[0], n[1] // part[1]) for n in lengths]
    if any(c[0] != c[1] for c in counts):
        raise Untraceable(
            "NX704", "a dimension that grows with the width is put together with a finite one", "keep them apart"
        )
    # Equal parts of a width: a finite axis of parts, before the part itself.
    return joined(put_together([divided(v, k, count) for v, count in zip(views, counts, strict=True)], k), k)


def flat(x: View, dim: int) -> View:
    """A finite dimension that was joined from several, as one of its own."""
    along = leaves(x.groups[dim])
    if len(along) < 2:
        return x
    count = sizes(along)[0]
    return _looked_up(x, dim, *_positions(np.arange(count), "joined"))


def tile(call: Call) -> View:
    """The whole tensor several times along each dimension."""
    x = call.view("self")
    one, other = call.pair("repeats")
    times = list(zip(one, other, strict=True))
    padded: list[Group] = [[] for _ in range(len(times) - len(x.groups))] + x.groups
    return x.regrouped([[*whole(t, None), *g] for t, g in zip(times, padded, strict=True)])


def copied(call: Call) -> View:
    """What is written over a tensor."""
    x = call.view("src")
    padded: list[Group] = [[] for _ in range(len(call.shapes) - len(x.groups))] + x.groups
    return x.regrouped([g if leaves(g) else whole(wanted, None) for g, wanted in zip(padded, call.shapes, strict=True)])


def slice_scatter(call: Call) -> View:
    """A tensor with entries start, ..., end of a dimension replaced."""
    x, new = call.view("self"), call.view("src")
    k = call.plain("dim", 0) % len(x.groups)
    (size, grown) = x.shape[k]
    if size != grown or call.plain("step", 1) != 1:
        raise Untraceable("NX704", "writing to a part of a dimension that grows, or with a step", "use torch.where")
    start, end, _ = slice(*(call.plain(n) if call.has(n) else None for n in ("start", "end"))).indices(size)
    return _replaced(x, new, k, start, end)


def select_scatter(call: Call) -> View:
    """A tensor with one position of a dimension replaced."""
    x, new = call.view("self"), call.view("src")
    k = call.plain("dim") % len(x.groups)
    at = call.plain("index") % x.shape[k][0]
    return _replaced(x, new.inserted(k), k, at, at + 1)


def _replaced(x: View, new: View, dim: int, start: int, end: int) -> View:
    (size, _) = x.shape[dim]
    ends = ((0, start), (end, size))
    before, after = ([section(x, dim, (a, a), (b - a, b - a))] if b > a else [] for a, b in ends)
    return put_together([*before, new, *after], dim)
