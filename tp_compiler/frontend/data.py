"""Arrays of numbers: inline lists, .npy, .npz and .csv files (never pickled), and drawn data."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from tp_compiler.diagnostics import Diagnostic, ProgramError, Span
from tp_compiler.frontend import syntax as ast

MAX_BYTES = 2**31


def _error(code: str, message: str, span: Span, remedy: str = "") -> ProgramError:
    return ProgramError([Diagnostic(code, message, span, remedy)])


def inline(literal: ast.Expr) -> Any:
    """A nested list of numbers as a float64 array; ragged lists and other things are errors at their place."""
    return np.array(_nested(literal), dtype=np.float64)


def _nested(expr: ast.Expr) -> Any:
    if not isinstance(expr, ast.ListLiteral):
        return _number(expr)
    if all(isinstance(e, ast.Number) for e in expr.items):  # the common case, kept fast
        return [float(e.text) for e in expr.items if isinstance(e, ast.Number)]
    items = [_nested(e) for e in expr.items]
    shapes = [np.shape(x) for x in items]
    for item, shape in zip(expr.items, shapes, strict=True):
        if shape != shapes[0]:
            raise _error("NX301", f"this part has shape {_shape(shape)}, the first {_shape(shapes[0])}", item.span,
                         "rows have equal lengths")  # fmt: skip
    return items


def _number(expr: ast.Expr) -> float:
    if isinstance(expr, ast.Number):
        value = float(expr.text)
    elif isinstance(expr, ast.Neg):
        value = -_number(expr.operand)
    elif isinstance(expr, ast.Paren):
        value = _number(expr.body)
    elif isinstance(expr, ast.Product) and expr.operators == ("/",):
        top, bottom = map(_number, expr.factors)
        if bottom == 0:
            raise _error("NX411", "division by zero", expr.span, "the divisor is the constant 0; change it")
        value = top / bottom
    else:
        raise _error("NX302", "inline data are numbers", expr.span, "write 0.5, -1e-3 or 2/3")
    if not math.isfinite(value):
        raise _error("NX303", "this number is too large for a double", expr.span, "use a smaller one")
    return value


def from_file(source: ast.FromFile, folder: Path) -> Any:
    """The array of a file, found relative to the program's folder."""
    path = folder / source.path
    span = source.span
    suffix = path.suffix.lower()
    if suffix not in (".npy", ".npz", ".csv"):
        raise _error("NX310", f"`{source.path}` is no data file", span, "data are read from .npy, .npz or .csv")
    if not path.is_file():
        raise _error("NX311", f"there is no file `{source.path}`", span, f"looked in {folder}")
    if path.stat().st_size > MAX_BYTES:
        raise _error("NX312", f"`{source.path}` is larger than 2 GiB", span, "split it")
    if source.key is not None and suffix != ".npz":
        raise _error("NX313", f"`key` is for .npz files, this is {suffix}", span, "remove the key")
    try:
        loaded = _load(path, suffix, source)
    except ProgramError:
        raise
    except Exception as problem:  # NumPy raises many kinds on malformed files
        reason = str(problem).splitlines()[0] if str(problem) else type(problem).__name__
        raise _error("NX314", f"`{source.path}` cannot be read: {reason}", span, "check the file") from None
    if loaded.dtype.kind not in "fiub":
        raise _error("NX315", f"`{source.path}` holds {loaded.dtype}, not real numbers", span, "save a float array")
    values = loaded.astype(np.float64)
    if not np.isfinite(values).all():
        raise _error("NX316", f"`{source.path}` holds NaN or infinite values", span, "clean the data")
    return values


def _load(path: Path, suffix: str, source: ast.FromFile) -> Any:
    if suffix == ".npy":
        return np.load(path, allow_pickle=False)
    if suffix == ".csv":
        return _csv(path)
    with open(path, "rb") as file, np.load(file, allow_pickle=False) as archive:
        names = list(archive.files)
        key = source.key if source.key is not None else (names[0] if len(names) == 1 else None)
        if key is None or key not in names:
            shown = ", ".join(names[:8]) or "none"
            message = f"`{source.path}` has no array `{key}`" if key else f"`{source.path}` holds several arrays"
            raise _error("NX317", message, source.span, f'choose one with key "...": {shown}')
        return archive[key]


def _csv(path: Path) -> Any:
    """Comma-separated numbers; a first line that is no numbers is taken as a header. One column gives a vector."""
    with open(path, encoding="utf-8-sig") as handle:
        first = handle.readline()
    values = np.loadtxt(path, delimiter=",", ndmin=2, encoding="utf-8-sig", skiprows=0 if _is_numbers(first) else 1)
    return values[:, 0] if values.shape[1] == 1 else values


def _is_numbers(line: str) -> bool:
    try:
        [float(part) for part in line.split(",")]
    except ValueError:
        return False
    return True


def drawn(law: ast.Law, args: list[float], seed: int, shape: tuple[int, ...]) -> Any:
    """`~ N(mean, variance)`, `~ uniform(variance)`, `~ rademacher(variance)`, with NumPy's PCG64."""
    generator = np.random.Generator(np.random.PCG64(seed))
    if law.name == "N":
        mean, variance = args
        return mean + math.sqrt(variance) * generator.standard_normal(shape)
    if law.name == "uniform":
        return math.sqrt(3 * args[0]) * generator.uniform(-1, 1, shape)
    return math.sqrt(args[0]) * generator.choice([-1.0, 1.0], shape)


def check_shape(name: str, values: Any, sizes: tuple[int, ...], names: tuple[str, ...], span: Span) -> None:
    """The shape of an array against the axes it is declared over."""
    if values.shape != sizes:
        wanted = ", ".join(f"{n} : {s}" for n, s in zip(names, sizes, strict=True)) or "a single number"
        raise _error(
            "NX304",
            f"`{name}` has shape {_shape(values.shape)}, its axes ask for {_shape(sizes)}",
            span,
            f"expected {wanted}",
        )


def is_integer(values: Any) -> bool:
    """Whether the array may index (every entry an integer)."""
    return bool(values.size) and bool((values == np.round(values)).all())


def _shape(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape)) if shape else "()"
