"""Results as files: NumPy archives (`.npz`) and NetCDF (`.nc`), and the results in them.

A file has the arrays for other programs (NAME, NAME.stderr, NAME.covariance, NAME.sigma in `.npz`; the variables of
`to_xarray` in `.nc`), the replicates, and a record in JSON of everything else. `load` reads both formats with NumPy and SciPy alone.
"""

from __future__ import annotations

import io
import json
import os
import re
import zipfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tp_compiler.diagnostics import Diagnostic, Source, Span
from tp_compiler.report import datasets
from tp_compiler.results import Array, Estimate, Fluctuations, Replicates, Run
from tp_compiler.tex import spelled

#: The member of an archive, and the attribute of a NetCDF file, with the record.
RECORD = "tpc.json"
_ATTRIBUTE = "tpc_record"
#: Changed when files of earlier versions can no longer be read.
_LAYOUT = 1
_PARTS = ("stderr", "covariance", "covariance_stderr")
_FLUCTUATIONS = ("sigma", "sigma_stderr", "bias", "bias_stderr")


# -- a result as arrays and a record -----------------------------------------------------------------------------------
@dataclass
class Packed:
    """A result as named arrays, and everything else as JSON."""

    arrays: dict[str, Array]
    record: dict[str, Any]

    def same(self, other: Packed) -> bool:
        """Whether both are equal, except for the time that they took."""
        records = ({k: v for k, v in p.record.items() if k != "seconds"} for p in (self, other))
        if self.arrays.keys() != other.arrays.keys() or len({json.dumps(r, sort_keys=True) for r in records}) > 1:
            return False
        return all(np.array_equal(x, other.arrays[key], equal_nan=True) for key, x in self.arrays.items())


@dataclass
class _Sources:
    """The texts that diagnostics point into, each once."""

    found: list[Source] = field(default_factory=list)

    def packed(self, d: Diagnostic) -> dict[str, Any]:
        record: dict[str, Any] = {"code": d.code, "message": d.message, "remedy": d.remedy}
        if d.span is None:
            return record
        if not any(s is d.span.source for s in self.found):
            self.found.append(d.span.source)
        number = next(k for k, s in enumerate(self.found) if s is d.span.source)
        return record | {"span": [number, d.span.start, d.span.end]}


def packed(run: Run) -> Packed:
    """Everything that makes a result."""
    sources = _Sources()
    arrays: dict[str, Array] = {}
    for name, estimate in run.outputs.items():
        arrays |= _arrays(name, estimate)
    order = list(run.outputs)
    for (one, other), found in run.crossed.items():
        parts = (("sigma", found.sigma), ("sigma_stderr", found.sigma_stderr))
        arrays |= {f"{one}.crossed.{order.index(other)}.{part}": x for part, x in parts if x is not None}
    record = {
        "layout": _LAYOUT,
        "program": run.program,
        "command": run.command,
        "version": run.version,
        "seconds": float(run.seconds),
        "settings": {key: datasets.plain(value) for key, value in run.settings.items()},
        "coordinates": {i: {n: np.asarray(x).tolist() for n, x in d.items()} for i, d in run.coordinates.items()},
        "outputs": {name: _described(estimate) for name, estimate in run.outputs.items()},
        "failed": {name: sources.packed(d) for name, d in run.failed.items()},
        "warnings": [sources.packed(d) for d in run.warnings],
    }
    texts = [{"name": s.name, "text": s.text, "allow_outside": s.allow_outside} for s in sources.found]
    return Packed(arrays, record | {"sources": texts})


def _arrays(name: str, estimate: Estimate) -> dict[str, Array]:
    found = {name: estimate.value, f"{name}.stderr": np.broadcast_to(estimate.stderr, estimate.value.shape)}
    for part in ("covariance", "covariance_stderr"):
        if getattr(estimate, part) is not None:
            found[f"{name}.{part}"] = getattr(estimate, part)
    for part in _FLUCTUATIONS if estimate.fluctuations is not None else ():
        if getattr(estimate.fluctuations, part) is not None:
            found[f"{name}.{part}"] = getattr(estimate.fluctuations, part)
    drawn = estimate.replicates
    if drawn is not None:
        found |= {f"{name}.replicates.{k}": level for k, level in enumerate(drawn.levels)}
        found |= {} if drawn.halves is None else {f"{name}.replicates.halves": drawn.halves}
    return {key: np.asarray(x, dtype=np.float64) for key, x in found.items()}


def _described(estimate: Estimate) -> dict[str, Any]:
    sizes = None if estimate.replicates is None else list(estimate.replicates.sizes)
    return {
        "axes": list(estimate.axes),
        "method": estimate.method,
        "law": estimate.law,
        "note": estimate.note,
        "sizes": sizes,
    }


def unpacked(found: Packed) -> Run:
    """The result again."""
    record = found.record
    sources = [Source(s["name"], s["text"], s["allow_outside"]) for s in record["sources"]]

    def diagnostic(d: Mapping[str, Any]) -> Diagnostic:
        span = Span(sources[d["span"][0]], *d["span"][1:]) if "span" in d else None
        return Diagnostic(d["code"], d["message"], span, d["remedy"])

    return Run(
        record["program"],
        record["command"],
        {name: _estimate(name, o, found.arrays) for name, o in record["outputs"].items()},
        {name: diagnostic(d) for name, d in record["failed"].items()},
        tuple(map(diagnostic, record["warnings"])),
        record["settings"],
        record["seconds"],
        record["version"],
        {i: {n: np.array(x) for n, x in data.items()} for i, data in record["coordinates"].items()},
        _crossed(list(record["outputs"]), found.arrays),
    )


def _crossed(names: list[str], arrays: Mapping[str, Array]) -> dict[tuple[str, str], Fluctuations]:
    keys = {(one, other): f"{one}.crossed.{k}" for one in names for k, other in enumerate(names)}
    return {
        pair: Fluctuations(arrays[f"{key}.sigma"], arrays[f"{key}.sigma_stderr"])
        for pair, key in keys.items()
        if f"{key}.sigma" in arrays
    }


def _estimate(name: str, record: Mapping[str, Any], arrays: Mapping[str, Array]) -> Estimate:
    drawn = None
    if record["sizes"] is not None:
        levels = tuple(arrays[f"{name}.replicates.{k}"] for k in range(len(record["sizes"])))
        drawn = Replicates(levels, tuple(record["sizes"]), arrays.get(f"{name}.replicates.halves"))
    stderr, covariance, error = (arrays.get(f"{name}.{part}") for part in _PARTS)
    assert stderr is not None
    axes, method, law, note = (record[key] for key in ("axes", "method", "law", "note"))
    parts = [arrays.get(f"{name}.{part}") for part in _FLUCTUATIONS]
    moves = None if all(part is None for part in parts) else Fluctuations(*parts)
    return Estimate(arrays[name], stderr, tuple(axes), method, law, covariance, error, note, drawn, moves)


# -- files -------------------------------------------------------------------------------------------------------------
def save(run: Run, path: str | os.PathLike[str]) -> None:
    """Write a result to a `.npz` or `.nc` file."""
    _of(path, _WRITERS)(run, path)


def load(path: str | os.PathLike[str]) -> Run:
    """The result in a file that `save` wrote: equal to the one that was saved.

    Raises OSError if the file cannot be read, and ValueError if it is not a result.
    """
    read, content = _of(path, _READERS), Path(path).read_bytes()
    try:
        found = read(content)
        if found.record["layout"] != _LAYOUT:
            raise ValueError(
                f"{path} was written by version {found.record['version']}, whose files this one cannot read"
            )
        return unpacked(found)
    except (zipfile.BadZipFile, KeyError, IndexError, TypeError, AssertionError, json.JSONDecodeError) as problem:
        raise ValueError(f"{path} is not a result that was saved by `--save` or `run.save`") from problem


def _of(path: str | os.PathLike[str], table: Mapping[str, Callable[..., Any]]) -> Callable[..., Any]:
    suffix = Path(path).suffix.lower()
    if suffix not in table:
        raise ValueError(f"results are saved as {' or '.join(table)}, and {str(path)!r} is neither")
    return table[suffix]


def _save_npz(run: Run, path: str | os.PathLike[str]) -> None:
    """Written by hand and not by `numpy.savez`, whose keyword arguments collide with outputs named `file`."""
    found = packed(run)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, array in found.arrays.items():
            buffer = io.BytesIO()
            np.lib.format.write_array(buffer, array, allow_pickle=False)
            archive.writestr(f"{name}.npy", buffer.getvalue())
        archive.writestr(RECORD, json.dumps(found.record))


def _load_npz(content: bytes) -> Packed:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        record = json.loads(archive.read(RECORD))
        names = [n for n in archive.namelist() if n != RECORD]
        arrays = {n.removesuffix(".npy"): _array(archive.read(n)) for n in names}
    return Packed(arrays, record)


def _array(content: bytes) -> Array:
    found: Array = np.lib.format.read_array(io.BytesIO(content), allow_pickle=False)
    return found


def _save_netcdf(run: Run, path: str | os.PathLike[str]) -> None:
    """The variables of `to_xarray` under names that NetCDF allows, and the replicates; classic format, for every reader."""
    datasets.library("xarray", "data", "a NetCDF file")
    found, names = packed(run), datasets.DatasetNames(run)
    dataset = datasets.run_dataset(run)
    variables: dict[str, str] = {}
    for name, estimate in run.outputs.items():
        for part in ("", *_PARTS, *_FLUCTUATIONS):
            variables[".".join(filter(None, (name, part)))] = names.variables.get((name, f"_{part}" * bool(part)), "")
        for key, array in found.arrays.items():
            if key.startswith(f"{name}.replicates."):
                variables[key] = names.free(key)
                count = "half_replicate" if key.endswith("halves") else "replicate"
                dataset[variables[key]] = ((f"{count}_{len(array)}", *names.dims[name]), array)
            elif key.startswith(f"{name}.crossed."):
                variables[key] = names.free(key)
                dataset[variables[key]] = (tuple(f"entries_{size}_{k}" for k, size in enumerate(array.shape)), array)
        assert estimate.value.ndim == len(names.dims[name])
    safe = _safe([*map(str, dataset.variables), *map(str, dataset.dims)])
    held = {key: [safe[variables[key]], list(array.shape)] for key, array in found.arrays.items()}
    dataset = dataset.rename(
        {old: new for old, new in safe.items() if old != new and old in {*dataset.variables, *dataset.dims}}
    )
    dataset.attrs = {key: _attribute(value) for key, value in dataset.attrs.items()}
    dataset.attrs[_ATTRIBUTE] = json.dumps(found.record | {"keys": held})
    Path(path).write_bytes(bytes(dataset.to_netcdf(engine="scipy", format="NETCDF3_64BIT")))


def _attribute(value: Any) -> Any:
    """Whole numbers of the classic format have 32 bits."""
    return str(value) if isinstance(value, int) and abs(value) >= 2**31 else value


def _safe(names: Iterable[str]) -> dict[str, str]:
    """Names of ASCII letters, digits and underscores, all different."""
    found: dict[str, str] = {}
    for name in dict.fromkeys(names):
        text = re.sub(r"\W+", "_", name if name.isascii() else spelled(name)).strip("_") or "output"
        text = text if text[0].isalpha() else f"x{text}"
        while text in found.values():
            text += "_"
        found[name] = text
    return found


def _load_netcdf(content: bytes) -> Packed:
    from scipy.io import netcdf_file

    try:
        file = netcdf_file(io.BytesIO(content), "r", mmap=False)
    except (TypeError, ValueError, IndexError, OverflowError) as problem:
        raise KeyError("not a NetCDF file of the classic format") from problem
    record = json.loads(file._attributes[_ATTRIBUTE].decode("utf-8"))
    held = record.pop("keys")
    arrays = {
        key: np.array(file.variables[variable][...], dtype=np.float64).reshape(shape)
        for key, (variable, shape) in held.items()
    }
    return Packed(arrays, record)


_WRITERS: dict[str, Callable[[Run, str | os.PathLike[str]], None]] = {".npz": _save_npz, ".nc": _save_netcdf}
_READERS: dict[str, Callable[[bytes], Packed]] = {".npz": _load_npz, ".nc": _load_netcdf}
