"""Arrays of numbers: inline lists, .npy, .npz and .csv files (never pickled), objects of Python, and drawn data."""

from __future__ import annotations

import io
import math
import os
import re
import zipfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import IO, Any, TextIO

import numpy as np

from tp_compiler.diagnostics import ProgramError, Span, error
from tp_compiler.frontend import syntax as ast
from tp_compiler.ir.types import Index

#: Of a file, and of an array in it.
MAX_BYTES = 2**31
#: Of the list of members of an .npz file.
MAX_DIRECTORY = 2**24
#: Laws that data are drawn from.
_LAWS = ("N", "uniform", "rademacher")
#: Characters of a line of a .csv file.
MAX_LINE = 2**26


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
            raise error("NX301", f"this row has shape {_shape(shape)}, but the first has {_shape(shapes[0])}", item.span,
                         "make all rows equally long")  # fmt: skip
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
            raise error("NX411", "division by zero", expr.span, "the divisor is the constant 0; change it")
        value = top / bottom
    elif isinstance(expr, ast.Call):
        remedy = f"draw data with `~`: `~ {expr.span.text} seed 7`" if expr.fn.ident in _LAWS else "write numbers"
        raise error("NX302", "inline data must be numbers", expr.span, remedy)
    else:
        raise error("NX302", "inline data must be numbers", expr.span, "write `0.5`, `-1e-3` or `2/3`")
    if not math.isfinite(value):
        raise error("NX303", "this number is too large for a double", expr.span, "use a smaller one")
    return value


#: The shape that a file turns out to have; raises ProgramError where that is not the shape of the axes.
Accept = Callable[[tuple[int, ...]], object]


def from_file(source: ast.FromFile, path: Path, accept: Accept, name: str = "") -> Any:
    """The array of a file, without a key the one called `name`. Its shape is read first, and accepted or refused, before
    any number is."""
    span = source.span
    suffix = path.suffix.lower()
    readers: dict[str, Callable[[IO[bytes], ast.FromFile, Accept], Any]] = {
        ".npy": _npy,
        ".npz": partial(_npz, name),
        ".csv": _csv,
    }
    if suffix not in readers:
        raise error("NX310", f"`{source.path}` is not a data file", span, "use a `.npy`, `.npz` or `.csv` file")
    if path.stat().st_size > MAX_BYTES:
        raise error("NX312", f"`{source.path}` is larger than 2 GiB", span, "split it")
    if source.key is not None and suffix != ".npz":
        raise error("NX313", f"`key` is only for `.npz` files; this is `{suffix}`", span, "remove the key")
    try:
        with open(path, "rb") as file:
            loaded = readers[suffix](file, source, accept)
    except ProgramError:
        raise
    except Exception as problem:  # NumPy raises various exceptions on malformed files
        message = f"`{source.path}` cannot be read: {_reason(problem)}"
        raise error("NX314", message, span, "check the file") from None
    values = loaded.astype(np.float64)
    if not np.isfinite(values).all():
        raise error("NX316", f"`{source.path}` contains NaN or infinite values", span, "clean the data")
    return values


def _reason(problem: Exception) -> str:
    """What an exception of another library says, in one short line."""
    return str(problem).splitlines()[0][:200] if str(problem) else type(problem).__name__


def _npy(file: IO[bytes], source: ast.FromFile, accept: Accept) -> Any:
    return _array(file, os.fstat(file.fileno()).st_size, source, accept)


def _npz(name: str, file: IO[bytes], source: ast.FromFile, accept: Accept) -> Any:
    if _directory(file) > MAX_DIRECTORY:
        raise error("NX312", f"`{source.path}` contains too many arrays", source.span, "save fewer arrays per file")
    with zipfile.ZipFile(file) as archive:
        names = [member.removesuffix(".npy") for member in archive.namelist()]
        key = source.key
        if key is None and (len(names) == 1 or name in names):
            key = name if name in names else names[0]
        if key is None or key not in names:
            shown = ", ".join(names[:8]) or "none"
            message = f"`{source.path}` has no array `{key}`" if key else f"`{source.path}` contains several arrays"
            raise error(
                "NX317",
                message,
                source.span,
                f'choose one with `key "..."`, for `--data` as `{source.path}:NAME`: {shown}',
            )
        member = archive.infolist()[names.index(key)]
        with archive.open(member) as stream:
            return _array(stream, member.file_size, source, accept)


def _directory(file: IO[bytes]) -> int:
    """The size in bytes of the directory of a zip archive, according to its last record."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - 2**16 - 22))
    tail = file.read()
    file.seek(0)
    at = tail.rfind(b"PK\x05\x06")
    return int.from_bytes(tail[at + 12 : at + 16], "little") if at >= 0 else 0


def _array(file: IO[bytes], size: int, source: ast.FromFile, accept: Accept) -> Any:
    """An array in NumPy's format of `size` bytes; its header is checked before the rest is read."""
    header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    version = np.lib.format.read_magic(file)
    if version not in header:
        raise ValueError("unknown version of the format")
    shape, _, kind = header[version](file)
    if kind.kind not in "fiub":
        if kind.hasobject:
            raise ValueError("Object arrays cannot be loaded when allow_pickle=False")
        raise error(
            "NX315", f"`{source.path}` contains {kind}, not real numbers", source.span, "save an array of floats"
        )
    accept(shape)
    if math.prod(shape) * kind.itemsize > min(MAX_BYTES, size):
        raise ValueError("it contains fewer numbers than its header says")
    file.seek(0)
    return np.lib.format.read_array(file, allow_pickle=False)


def _csv(file: IO[bytes], source: ast.FromFile, accept: Accept) -> Any:
    """Comma-separated numbers; a first line without any number is taken as a header. One column gives a vector."""
    with io.TextIOWrapper(file, encoding="utf-8-sig") as text:
        first = text.readline(MAX_LINE)
        if "," not in first and len(_numbers_in(re.split(r"[;\s]+", first))) > 1:
            raise ValueError("the numbers are not separated by commas")
        skipped = 1 if first.strip() and not _numbers_in(first.split(",")) else 0
        text.seek(0)
        rows, columns = _rows(text, skipped)
        accept((rows,) if columns == 1 else (rows, columns))
        text.seek(0)
        values = np.loadtxt(text, delimiter=",", ndmin=2, skiprows=skipped)
    return values[:, 0] if values.shape[1] == 1 else values


def _rows(text: TextIO, skipped: int) -> tuple[int, int]:
    """The number of rows, and of columns of the first row; lines are not stored."""
    rows = columns = 0
    while line := text.readline(MAX_LINE):
        if len(line) >= MAX_LINE:
            raise ValueError(f"a line is longer than {MAX_LINE} characters")
        if skipped:
            skipped = 0
        elif line := line.split("#")[0].strip():
            rows, columns = rows + 1, columns or line.count(",") + 1
    return rows, columns


def _numbers_in(parts: list[str]) -> list[float]:
    """The parts that are numbers. A first line with both numbers and words is a row with an error, not a header."""
    found = []
    for part in parts:
        try:
            found.append(float(part))
        except ValueError:
            continue
    return found


#: What arrays of NumPy hold, by the kind of their type, where it is not real numbers; and what to do.
_KINDS = {
    "c": ("complex numbers", "pass their real and imaginary parts as two arrays"),
    "U": ("text", "number the entries, from 1 if they are to be positions"),
    "S": ("text", "number the entries, from 1 if they are to be positions"),
    "M": ("dates", "convert them to numbers"),
    "m": ("durations", "convert them to numbers"),
    "V": ("records", "pass one array for each field"),
}


def from_object(value: Any, target: ast.Name, accept: Accept) -> Any:
    """The array that a caller gives for data declared as `target`, as float64; a copy."""
    found = _numbers(value, target)
    accept(found.shape)
    return _finite(found.astype(np.float64), target)


def _numbers(value: Any, target: ast.Name) -> Any:
    """The value as an array of real numbers, whatever holds it."""
    name = target.ident
    if np.ma.is_masked(value):
        raise error("NX316", f"the array given for `{name}` has masked entries", target.span, "fill or drop them")
    try:
        found = np.asarray(_ordered(_detached(value), target))
    except Exception as problem:  # whatever `__array__` raises
        message = f"what was given for `{name}` cannot be read as an array: {_reason(problem)}"
        raise error("NX314", message, target.span, "pass a NumPy array of numbers") from None
    if found.dtype.kind not in "fiub":
        objects = ("objects" if found.ndim else f"one {type(value).__name__}", "pass a NumPy array of numbers")
        kind, remedy = _KINDS.get(found.dtype.kind, objects)
        raise error("NX315", f"what was given for `{name}` holds {kind}, not real numbers", target.span, remedy)
    return found


def _detached(value: Any) -> Any:
    """A tensor of PyTorch without its gradient, on the CPU."""
    return value.detach().cpu() if hasattr(value, "detach") and hasattr(value, "cpu") else value


def _ordered(value: Any, target: ast.Name) -> Any:
    """An array of xarray whose dimensions have the names of the indices, in their order."""
    names = [e.ident for e in target.indices or () if isinstance(e, ast.Name)]
    dims = getattr(value, "dims", None)
    if isinstance(dims, tuple) and dims != tuple(names) and sorted(map(str, dims)) == sorted(names):
        return value.transpose(*names)
    return value


def _finite(values: Any, target: ast.Name) -> Any:
    bad = np.argwhere(~np.isfinite(values))
    if len(bad):
        names = [e.ident if isinstance(e, ast.Name) else "" for e in target.indices or ()]
        place = ",".join(str(k + (name != "step")) for k, name in zip(bad[0], names, strict=True))
        what = "NaN" if np.isnan(values[tuple(bad[0])]) else "infinite"
        shown = f"{target.ident}[{place}]" if place else target.ident
        raise error("NX316", f"`{shown}` is {what} in the array that was given", target.span, "clean the data")
    return values


def drawn(law: ast.Law, args: list[float], seed: int, shape: tuple[int, ...]) -> Any:
    """`~ N(mean, variance)`, `~ uniform(variance)`, `~ rademacher(variance)`, with NumPy's PCG64."""
    generator = np.random.Generator(np.random.PCG64(seed))
    if law.name == "N":
        mean, variance = args
        return mean + math.sqrt(variance) * generator.standard_normal(shape)
    if law.name == "uniform":
        return math.sqrt(3 * args[0]) * generator.uniform(-1, 1, shape)
    return math.sqrt(args[0]) * generator.choice([-1.0, 1.0], shape)


def check_shape(
    name: str,
    shape: tuple[int, ...],
    indices: tuple[Index, ...],
    span: Span,
    origin: Callable[[Index], tuple[str, str]],
) -> None:
    """The shape of an array against the indices it is declared over. `origin`: who says how long an axis is, and what to
    do about it."""
    if len(shape) != len(indices):
        own = f", [{','.join(i.name for i in indices)}]" if indices else ""
        wanted = f"has {_counted(len(indices), 'index', 'indices')}{own}"
        message = f"`{name}` {wanted}, but its array has {_counted(len(shape), 'dimension', 'dimensions')}"
        shown = f": {_shape(shape)}" if shape else ""
        remedy = "reshape the array, or change the brackets of the declaration"
        if not indices:
            letters = "ijkl"[: len(shape)]
            axes = " and ".join(f"`axis {i} : {size}`" for i, size in zip(letters, shape, strict=False))
            remedy = f"declare {axes}, and write `data {name}[{','.join(letters)}] = ...`"
        raise error("NX304", message + shown, span, remedy)
    for index, size in zip(indices, shape, strict=True):
        if size != index.size:
            other, remedy = origin(index)
            message = f"`{name}` has {_counted(size, 'entry', 'entries')} over `{index.name}`, but {other}"
            raise error("NX304", message, span, remedy)


def _counted(number: int, one: str, many: str) -> str:
    return f"{number or 'no'} {one if number == 1 else many}"


def check_rows(
    name: str,
    shape: tuple[int, ...],
    indices: Sequence[Index],
    span: Span,
    origin: Callable[[Index], tuple[str, str]],
) -> None:
    """The shape of an array of rows against the ket (family) that takes them; `origin` as in `check_shape`."""
    if shape and shape[0] == 0:
        raise error("NX318", f"there are no rows for `{name}` to be drawn from", span, "give at least one row")
    if len(shape) == 1 and math.prod(i.size for i in indices) == 1:
        return  # one column
    if len(shape) != len(indices) + 1:
        wanted = ", ".join(("rows", *(i.name for i in indices)))
        message = f"`{name}` takes rows of an array over ({wanted}), but the array has the shape {_shape(shape)}"
        raise error("NX304", message, span, "save one row for each draw, with one column for each member")
    for index, size in zip(indices, shape[1:], strict=True):
        if size != index.size:
            other, remedy = origin(index)
            message = (
                f"the rows for `{name}` have {_counted(size, 'entry', 'entries')} over `{index.name}`, but {other}"
            )
            raise error("NX304", message, span, remedy)


def bounds(values: Any) -> tuple[float, float]:
    """The smallest and the largest entry."""
    return float(values.min()), float(values.max())


def is_integer(values: Any) -> bool:
    """Whether the array may index (every entry an integer)."""
    return bool(values.size) and bool((values == np.round(values)).all())


def _shape(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape)) if shape else "()"
