"""The result of `tpc limit` or `tpc simulate` as a picture: which panels an output has, and what is in them."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from tp_compiler.report.numbers import at_width, axis_names, labels
from tp_compiler.report.numbers import titled as named
from tp_compiler.report.plots.across import Positions, across, known, positions
from tp_compiler.report.plots.curves import MOST as MOST_CURVES
from tp_compiler.report.plots.curves import CurvePanel, Family, draw_curves, network_style
from tp_compiler.report.plots.distributions import MOST as MOST_VIOLINS
from tp_compiler.report.plots.distributions import correlations, deviations, draw_density, draw_violins
from tp_compiler.report.plots.heat_map import draw_heat_map, limits
from tp_compiler.report.plots.labels import chosen, place_labels
from tp_compiler.report.plots.scalars import draw_scalars
from tp_compiler.report.plots.theme import PANEL, Picture, legend, literal, theme_named, titled
from tp_compiler.report.text import footer, subject
from tp_compiler.results import SECOND_ORDER, Array, Estimate, Run

_MOST_PANELS = 9
_KERNEL_STEPS = 3
_LARGEST_CORRELATION = 40
Draw = Callable[[Picture, Axes], None]
#: Title, small print, and what draws the panel.
Panel = tuple[str, str, Draw]
#: The width and the estimate of the networks that are drawn over an output.
Networks = list[tuple[int | None, Estimate]]


def plot(
    run: Run,
    path: str | os.PathLike[str] | None = None,
    *,
    networks: Sequence[Run] = (),
    x: str | None = None,
    theme: str = "light",
    width: int | None = None,
) -> Picture:
    """The picture; also written to `path`, if there is one. With a width, the law of networks of this width is shaded.

    Raises ValueError if no output can be drawn against `x`, TypeError if `networks` are not results.
    """
    networks = [networks] if isinstance(networks, Run) else networks
    _check(run, x, networks)
    picture = Picture(theme_named(theme), PANEL)
    found = list(_panels(run, networks, x, width))
    panels = picture.panels(len(found)) if found else []
    picture.note(_notes(run, found, width))
    for (title, detail, draw), axes in zip(found, panels, strict=False):
        titled(axes, title, detail)
        draw(picture, axes)
    if not found:
        picture.text(0.5, 0.5, "there are no outputs", ha="center", fontsize=9, color=picture.theme.muted)
    picture.head(_title(run))
    if networks:
        legend(picture, picture.theme, _key(picture, run, networks, width), loc="outside upper right", ncols=6)
    place_labels(picture)
    if path is not None:
        picture.savefig(path)
    return picture


def _check(run: Run, x: str | None, networks: Sequence[Run]) -> None:
    several = networks if isinstance(networks, Collection) else [networks]
    if not all(isinstance(network, Run) and network.command == "simulate" for network in several):
        raise TypeError("networks are results of simulate(): networks=[tpc.simulate(program, 256)]")
    names = [name for e in run.outputs.values() for name in known(axis_names(e), run.coordinates)]
    if x is not None and x not in names:
        there = f"; there are {', '.join(dict.fromkeys(names))}" if names else ""
        raise ValueError(f"no output has an index {x!r}, or data of this name along one{there}")


def _title(run: Run) -> str:
    return subject(run) if run.program == "<text>" else f"{run.program.rsplit('/', 1)[-1]}: {subject(run)}"


def _notes(run: Run, found: list[Panel], width: int | None) -> str:
    parts = [f"not computed: {', '.join(run.failed)}"] if run.failed else []
    if found and any(np.any(e.stderr) for e in run.outputs.values() if e.law is None):
        parts.append("± 2 standard errors")
    if any(e.law is not None for e in run.outputs.values()):
        parts.append("random outputs: ± 1 and 2 standard deviations")
    if width is not None:
        parts.append(f"shaded: ± 1 and 2 standard deviations of networks of width {width}")
    return " · ".join([*parts, footer(run, timed=False)])


def _key(picture: Picture, run: Run, networks: Sequence[Run], width: int | None) -> list[Line2D]:
    theme = picture.theme
    first = "limit" if run.command == "limit" else _width(run)
    handles = [Line2D([], [], color=theme.ink, linewidth=1.7, label=first)]
    for number, network in enumerate(networks):
        dotted = width is not None and network.width == width
        style: dict[str, Any] = {"marker": ".", "linestyle": ""} if dotted else {"linestyle": network_style(number)}
        handles.append(Line2D([], [], color=theme.network(number), label=_width(network), **style))
    return handles


def _width(run: Run) -> str:
    return f"n = {run.settings.get('width', '?')}"


def _panels(run: Run, networks: Sequence[Run], x: str | None, width: int | None) -> Iterator[Panel]:
    """Panels of every output in source order; all plain numbers share one."""
    numbers = {name: e for name, e in run.outputs.items() if not e.value.ndim and e.law in (None, SECOND_ORDER)}
    if numbers:
        others = [[network.outputs.get(name) for name in numbers] for network in networks]
        estimates = list(numbers.values())
        laws = [None if width is None else at_width(e, width) for e in estimates]
        dotted = [width is not None and network.width == width for network in networks]
        draw = partial(
            draw_scalars, names=list(numbers), estimates=estimates, networks=others, laws=laws, dotted=dotted
        )
        yield "numbers", "", draw
    for name, estimate in run.outputs.items():
        if name in numbers or not estimate.value.size:
            continue
        beside = [(n.width, n.outputs[name]) for n in networks if _alike(n.outputs.get(name), estimate)]
        yield from _output(run, name, estimate, beside, x, width)


def _alike(other: Estimate | None, estimate: Estimate) -> bool:
    return other is not None and other.value.shape == estimate.value.shape


def _output(
    run: Run, name: str, estimate: Estimate, networks: Networks, x: str | None, width: int | None
) -> Iterator[Panel]:
    axes = axis_names(estimate)
    title = named(name, axes)
    detail = ", ".join(note for note in (estimate.law, estimate.method) if note)
    along = across(axes, estimate.value.shape, run.coordinates, x)
    random = estimate.law is not None and estimate.covariance is not None
    if random and not (along is not None and along.ordered):
        yield from _random(title, detail, axes, estimate, networks)
    elif along is None or (x is None and _is_kernel(axes, estimate.value)):
        yield from _maps(title, detail, axes, estimate.value)
        law = None if width is None else at_width(estimate, width)
        if law is not None and np.isfinite(law[1]).any():
            yield from _maps(f"deviation of {title}, n = {width}", detail, axes, law[1])
    else:
        yield from _curves(run, title, detail, axes, estimate, networks, along, width)


def _is_kernel(axes: tuple[str, ...], value: Array) -> bool:
    """A symmetric matrix at every step."""
    if len(axes) != 3 or axes[0] != "step" or value.shape[1] != value.shape[2] or value.shape[1] < 3:
        return False
    return bool(np.allclose(value, value.swapaxes(1, 2), rtol=1e-6, atol=1e-9 * float(np.abs(value).max())))


# ------------------------------------------------------------------------------------------------------------ curves
def _curves(
    run: Run,
    title: str,
    detail: str,
    axes: tuple[str, ...],
    estimate: Estimate,
    networks: Networks,
    along: Positions,
    width: int | None,
) -> Iterator[Panel]:
    """One panel, or one per position of the first of several other indices."""
    at = axes.index(along.index)
    rest = axes[:at] + axes[at + 1 :]
    sizes = tuple(size for k, size in enumerate(estimate.value.shape) if k != at)
    families = [_family(estimate, at, width), *(_family(e, at, dots=n == width is not None) for n, e in networks)]
    several = len([s for s in sizes if s > 1]) > 1 or (families[0].spread is not None and along.ordered)
    facets = sizes[0] if sizes and several and sizes[0] <= _MOST_PANELS else 1
    per = math.prod(sizes) // facets
    inner = rest[1:] if facets > 1 else rest
    shape = sizes[1:] if facets > 1 else sizes
    hue = positions(inner[0], shape[0], run.coordinates) if len(inner) == 1 else None
    more = f"{MOST_CURVES} of {per} curves, " if per > MOST_CURVES else ""
    for facet in range(facets):
        part = slice(facet * per, (facet + 1) * per)
        cut = [_slice(family, part) for family in families]
        beside = cut[1:]
        panel = CurvePanel(along, _names(inner, shape, hue), hue, cut[0], beside)
        where = f"{title}, {rest[0]} = {labels(rest[0], facets)[facet]}" if facets > 1 else title
        yield where, more + detail, partial(draw_curves, panel=panel)


def _family(estimate: Estimate, at: int, width: int | None = None, dots: bool = False) -> Family:
    """The curves of an estimate, positions last; with their law at a width, or with each network."""

    def rows(array: Any) -> Array:
        whole = np.broadcast_to(array, estimate.value.shape)
        return np.asarray(np.moveaxis(whole, at, -1).reshape(-1, estimate.value.shape[at]))

    random = estimate.law is not None and estimate.covariance is not None
    spread = rows(deviations(estimate.covariance, estimate.value.shape)) if random else None  # type: ignore[arg-type]
    law = None if width is None else at_width(estimate, width)
    drawn = estimate.replicates if dots else None
    return Family(
        rows(estimate.value),
        rows(estimate.stderr),
        spread,
        None if law is None else np.stack([rows(part) for part in law]),
        None if drawn is None else np.stack([rows(network) for network in drawn.levels[-1]]),
    )


def _slice(family: Family, part: slice) -> Family:
    def cut(x: Array | None) -> Array | None:
        return None if x is None else x[..., part, :]

    return Family(family.mean[part], family.error[part], cut(family.spread), cut(family.law), cut(family.dots))


def _names(indices: tuple[str, ...], shape: tuple[int, ...], hue: Positions | None) -> list[str]:
    if hue is not None:
        return [hue.name(k) for k in range(shape[0])]
    texts = [labels(index, size) for index, size in zip(indices, shape, strict=True)]
    return [
        ", ".join(f"{index} = {text[k]}" for index, text, k in zip(indices, texts, place, strict=True))
        for place in np.ndindex(*shape)
    ]


# --------------------------------------------------------------------------------------------------------- heat maps
def _maps(title: str, detail: str, axes: tuple[str, ...], value: Array) -> Iterator[Panel]:
    """The last two indices, for every position of the others; for some positions if there are many. One scale of colours."""
    leading = value.shape[:-2]
    count, ends = math.prod(leading), limits(value)
    most = _KERNEL_STEPS if "step" in axes[:-2] else _MOST_PANELS
    for flat in chosen(count, most):
        place = np.unravel_index(flat, leading) if leading else ()
        where = ", ".join(f"{i} = {labels(i, s)[int(k)]}" for i, s, k in zip(axes[:-2], leading, place, strict=True))
        draw = partial(draw_heat_map, matrix=value[place], names=(axes[-2], axes[-1]), ends=ends)
        yield f"{title}, {where}" if where else title, detail, draw


# ----------------------------------------------------------------------------------------------------- distributions
def _random(title: str, detail: str, axes: tuple[str, ...], estimate: Estimate, networks: Networks) -> Iterator[Panel]:
    """Densities of the entries, and the correlations among them."""
    covariance = np.atleast_2d(estimate.covariance)  # type: ignore[arg-type]
    mean, size = estimate.value.reshape(-1), estimate.value.size
    spread = deviations(covariance, mean.shape)
    others = [(e.value.reshape(-1), _deviation(e)) for _, e in networks]
    if estimate.value.ndim == 0 and estimate.law == "gaussian":
        pairs = [(float(m[0]), float(s[0])) for m, s in others]
        yield title, detail, partial(draw_density, mean=float(mean[0]), spread=float(spread[0]), networks=pairs)
    elif size <= MOST_VIOLINS:
        places = [",".join(str(k + 1) for k in place) for place in np.ndindex(*estimate.value.shape)]
        gaussian = estimate.law == "gaussian"
        draw = partial(_draw_violins, names=places, mean=mean, spread=spread, gaussian=gaussian, networks=others)
        yield title, detail, partial(draw, index=axes)
    else:
        shape = estimate.value.shape if estimate.value.ndim > 1 else (1, size)
        yield from _maps(f"standard deviation of {title}", detail, ("", *axes)[-len(shape) :], spread.reshape(shape))
    if 2 <= size <= _LARGEST_CORRELATION:
        matrix = correlations(covariance)
        ends = limits(np.append(matrix, [-1.0, 1.0]))
        yield f"correlation of {title}", "", partial(draw_heat_map, matrix=matrix, names=("entry", "entry"), ends=ends)


def _deviation(estimate: Estimate) -> Array:
    if estimate.covariance is None:
        return np.zeros(estimate.value.size)
    return deviations(estimate.covariance, (estimate.value.size,))


def _draw_violins(picture: Picture, axes: Axes, index: tuple[str, ...], **options: Any) -> None:
    draw_violins(picture, axes, **options)
    axes.set_xlabel(literal(",".join(index)))
