"""Which quantity of a limit depends on which: kets with their hats and dots, initial kets, scalars and entries, as a graph."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from tp_compiler.equations.terms import DotPart, Entry, Expr, Ket, Named, Scalar
from tp_compiler.pages import Shown, written


class Quantity(StrEnum):
    """What a node of the graph stands for."""

    INITIAL = "initial ket"
    KET = "ket"
    HAT = "hat"
    DOT = "dot"
    LEARNED = "update of a matrix, applied"
    ENTRY = "entry of an operator"
    SCALAR = "scalar"
    RANDOM = "random scalar"


@dataclass(frozen=True)
class Vertex:
    """A quantity (a family, over its indices) with the term that denotes it.

    `output`: the program prints it. `moves`: it depends on its own value at the step before.
    """

    term: Expr
    quantity: Quantity
    output: bool = False
    moves: bool = False


@dataclass(frozen=True)
class Arrow:
    """`target` depends on `source`, both positions in the list of vertices; `earlier`: of its value at an earlier step."""

    source: int
    target: int
    earlier: bool = False


@dataclass(frozen=True, repr=False)
class DependencyGraph(Shown):
    """The quantities of a limit, each after those that it depends on at the same step of training."""

    vertices: tuple[Vertex, ...]
    arrows: tuple[Arrow, ...]

    def _brief(self) -> str:
        return f"DependencyGraph of {len(self.vertices)} quantities, {len(self.arrows)} arrows"

    def dot(self) -> str:
        """The graph in the language of Graphviz."""
        return str(written(self, "text"))

    def plot(self, path: str | os.PathLike[str] | None = None, *, theme: str = "light") -> Any:
        """A figure of the graph, also written to `path`."""
        return written(self, "plot", path, theme=theme)


def graph(system: Iterable[Any]) -> DependencyGraph:
    """The graph of the equations. Statements about brackets are not in it: they follow from those of their kets."""
    parts = [part for equation in system if equation.kind != "bracket" for part in _parts(equation)]
    at = {_key(vertex.term): k for k, (vertex, _) in enumerate(parts)}
    reads = [{at[key] for key in keys if key in at} for _, keys in parts]
    # A state of training has at this step the value that the step before gave it, and at first its initial value.
    now = [
        {k for (kind, label), k in at.items() if (kind, label.partition("[")[0]) == _key(vertex.term)} - {t}
        if vertex.moves
        else reads[t] - {t}
        for t, (vertex, _) in enumerate(parts)
    ]
    order = _order([vertex for vertex, _ in parts], now)
    place = {k: number for number, k in enumerate(order)}
    pairs = [(s, t) for t in order for s in sorted(reads[t] | now[t]) if s != t or parts[t][0].moves]
    arrows = (Arrow(place[s], place[t], place[s] >= place[t] or s not in now[t]) for s, t in pairs)
    return DependencyGraph(tuple(parts[k][0] for k in order), tuple(arrows))


def _order(vertices: Sequence[Vertex], now: Sequence[set[int]]) -> list[int]:
    """Program order, but everything after what it reads at the same step. Where that goes round in a circle, a dot or an update
    that reads earlier steps comes first."""
    order: dict[int, None] = {}
    while len(order) < len(vertices):
        left = [k for k in range(len(vertices)) if k not in order]
        ready = next((k for k in left if now[k] <= order.keys()), None)
        past = (k for k in left if vertices[k].quantity in (Quantity.DOT, Quantity.LEARNED))
        order[next(past, left[0]) if ready is None else ready] = None
    return list(order)


Key = tuple[str, str]


def _parts(e: Any) -> Iterator[tuple[Vertex, list[Key]]]:
    """The vertices of an equation, and what each depends on: a product W|x> has a hat, and may have a dot and an update."""
    if e.kind != "product":
        yield Vertex(e.symbol, _quantity(e), e.output, e.kind in ("state", "weight")), _read(_sides(e))
        return
    assert e.hat is not None
    parts = [(Vertex(e.hat.symbol, Quantity.HAT), _read([e.hat.argument]))]
    if e.dot:
        terms = [side for t in e.dot for side in (t.ket, t.coefficient if t.symbol is None else t.symbol)]
        parts.append((Vertex(DotPart(*e.hat.symbol.args), Quantity.DOT), _read(terms)))
    if e.learned is not None:
        parts.append((Vertex(e.update, Quantity.LEARNED), _read([e.learned])))
    yield from parts
    yield Vertex(e.symbol, Quantity.KET, e.output), [_key(vertex.term) for vertex, _ in parts] + _read([e.keep])


def _quantity(e: Any) -> Quantity:
    if e.kind == "clt":
        return Quantity.RANDOM
    if isinstance(e.symbol, Entry) or e.kind in ("operator", "entry"):
        return Quantity.ENTRY
    if isinstance(e.symbol, Scalar):
        return Quantity.SCALAR
    return Quantity.INITIAL if e.kind == "initial" else Quantity.KET


def _sides(e: Any) -> list[Expr]:
    found = [e.expression, e.start, e.mean, e.covariance, e.meaning, *(value for _, value in e.others)]
    return [side for side in found if side is not None]


def _read(sides: Iterable[Expr]) -> list[Key]:
    """The families that terms contain; iid copies and members are of the same family."""
    return sorted({_key(atom) for side in sides for atom in side.atoms(Ket, Scalar, Entry)})


def _key(term: Expr) -> Key:
    if isinstance(term, Named):
        return ("ket" if isinstance(term, Ket) else "entry" if isinstance(term, Entry) else "scalar", term.label)
    return type(term).__name__, str(term.args)
