"""Networks on given weights: initial values that replace those drawn, by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from tp_compiler.diagnostics import Diagnostic, ProgramError, suggest
from tp_compiler.finite.array_types import Values
from tp_compiler.finite.widths import neurons
from tp_compiler.ir import nodes as ir
from tp_compiler.ir.program import Program
from tp_compiler.ir.walk import reachable

Symbol = ir.KetSymbol | ir.MatrixSymbol


@dataclass(frozen=True, eq=False)
class Weights:
    """Initial values by name: kets (*family, neurons), matrices (*family, rows, columns).

    They are what would be drawn: entries of size 1 for `ket |u> ~ N(0, 1)`, of variance 2/columns for
    `matrix W ~ N(0, 2)`. Powers of n in a `parametrization` multiply them, as they multiply what is drawn.
    """

    kets: dict[str, Values] = field(default_factory=dict)
    matrices: dict[str, Values] = field(default_factory=dict)
    whole: bool = False  # nothing is left to draw


NO_WEIGHTS = Weights()


def weights(program: Program, given: Mapping[str, object], width: int) -> Weights:
    """The arrays that are given for a network of this width, checked. A ket whose name something else has, too, is `|u>`.

    Raises ProgramError NX432 for a name that the outputs do not depend on, and for a shape or numbers that do not fit.
    """
    nodes = _nodes(program)
    kets = {n.symbol.name: n.symbol for n in nodes if isinstance(n, ir.InitialKet)}
    matrices = {n.matrix.name: n.matrix for n in nodes if isinstance(n, ir.MatMul)}
    own, arrays = {}, {}
    for name, value in given.items():
        bare = name[1:-1] if name.startswith("|") and name.endswith(">") else name
        if bare == name and bare in matrices:
            arrays[bare] = _array(name, value, matrices[bare], width)
        elif bare in kets:
            own[bare] = _array(name, value, kets[bare], width)
        elif not any(isinstance(n, ir.Unavailable) for n in nodes):  # what refused outputs depend on is not known
            remedy = suggest(bare, {*kets, *matrices}) or "give initial kets, matrices and, with the text, scalars"
            raise _wrong(f"`{name}` was given, but no output depends on a parameter of this name", remedy)
    return Weights(own, arrays, whole=kets.keys() == own.keys() and matrices.keys() == arrays.keys())


def _nodes(program: Program) -> list[ir.Node]:
    starts = [state.init for state in program.loop.following] if program.loop is not None else []
    return reachable([*program.roots, *starts])


def _array(name: str, value: object, symbol: Symbol, width: int) -> Values:
    family = tuple(i.size for i in symbol.indices)
    classes = (symbol.width,) if isinstance(symbol, ir.KetSymbol) else (symbol.rows, symbol.cols)
    wanted = (*family, *(neurons(w, width) for w in classes))
    try:
        array = np.array(value, dtype=np.float64)
    except (TypeError, ValueError):
        raise _wrong(f"the values of `{name}` are not an array of numbers", "give an array of real numbers") from None
    if array.shape != wanted:
        parts = [*(f"{i.name} : {i.size}" for i in symbol.indices), *_WIDTHS[len(classes)]]
        message = f"the array for `{name}` has shape {array.shape}, not {wanted}, at width {width}"
        raise _wrong(message, f"its axes are, in this order: {', '.join(parts)}")
    if not np.isfinite(array).all():
        raise _wrong(f"the array for `{name}` has entries that are not finite", "give finite numbers")
    return array


_WIDTHS = {1: ("neurons",), 2: ("rows", "columns")}


def _wrong(message: str, remedy: str) -> ProgramError:
    return ProgramError([Diagnostic("NX432", message, None, remedy)])
