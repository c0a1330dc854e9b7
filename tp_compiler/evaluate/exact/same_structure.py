"""Programs that differ in their data alone: which array of one is which of the other."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from tp_compiler.ir import nodes as ir
from tp_compiler.ir.walk import reachable


def arrays_of(one: Iterable[ir.Node], other: Iterable[ir.Node]) -> dict[ir.Array, ir.Array] | None:
    """The arrays that the nodes `one` read to those in their place in `other`; None if anything else differs."""
    first, second = reachable(one), reachable(other)
    place: dict[ir.Node, ir.Node] = dict(zip(first, second, strict=False))
    if len(first) != len(second) or not all(_alike(a, b, place) for a, b in place.items()):
        return None
    return {a: b for a, b in place.items() if isinstance(a, ir.Array) and isinstance(b, ir.Array)}


def _alike(one: ir.Node, other: ir.Node, place: dict[ir.Node, ir.Node]) -> bool:
    if one is other:
        return True
    if type(one) is not type(other) or one.type != other.type or len(one.args) != len(other.args):
        return False
    if any(place[a] is not b for a, b in zip(one.args, other.args, strict=True)):
        return False
    names = [name for name in one.attributes() if not (isinstance(one, ir.Array) and name == "values")]
    return all(_equal(getattr(one, name), getattr(other, name)) for name in names)


def _equal(one: object, other: object) -> bool:
    if isinstance(one, np.ndarray) or isinstance(other, np.ndarray):
        return one is other
    return one is other or bool(one == other)
