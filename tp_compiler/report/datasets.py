"""Results as objects of other libraries: an xarray Dataset, and a pandas DataFrame."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np

from tp_compiler.report.csv import AFTER, BEFORE, column
from tp_compiler.report.numbers import axis_names, covariance_of, first_label, fluctuation_parts
from tp_compiler.results import Array, Estimate, Run

if TYPE_CHECKING:
    import pandas
    import xarray

#: Parts of an estimate beside its value, as suffixes of the names of variables.
STDERR, COVARIANCE, COVARIANCE_STDERR = "_stderr", "_covariance", "_covariance_stderr"


def library(name: str, extra: str, purpose: str) -> Any:
    """A library that is not always installed; ImportError names the extra that has it."""
    try:
        return import_module(name)
    except ImportError:
        message = f"{purpose} needs {name}: pip install {name} (it is in the extra `{extra}` of tp_compiler)"
        raise ImportError(message) from None


# -- xarray ----------------------------------------------------------------------------------------------------------
def run_dataset(run: Run) -> xarray.Dataset:
    """A variable for each output and one for its standard error; random outputs have covariances, and limits computed with
    a width `f_sigma` and `f_bias`, too.

    An axis whose size differs between outputs has several dimensions: `step` is the longest, others are `step_20`. A
    dimension that is called like a variable is `i_axis`.
    """
    xr = library("xarray", "data", "to_xarray")
    names = DatasetNames(run)
    variables: dict[str, Any] = {}
    for name, estimate in run.outputs.items():
        for part, values, dims in parts(name, estimate, names):
            variables[names.variables[name, part]] = (dims, values, _attributes(names, name, estimate, part))
    shown = {d for dims, *_ in variables.values() for d in dims}
    coordinates: dict[str, Any] = {
        d: np.arange(size) + start for d, (size, start) in names.coordinates.items() if d in shown
    }
    coordinates |= {n: (d, values) for n, d, values in _data_along(run, names) if d in shown}
    found: xarray.Dataset = xr.Dataset(variables, coords=coordinates, attrs=attributes(run))
    return found


def _data_along(run: Run, names: DatasetNames) -> Iterator[tuple[str, str, Array]]:
    """Data over one index, such as learning rates, as coordinates of its dimension."""
    for axis, data in run.coordinates.items():
        for name, values in data.items():
            for dim in names.dims_of(axis, len(values)):
                yield names.free(name), dim, np.asarray(values, dtype=np.float64)


def parts(name: str, estimate: Estimate, names: DatasetNames) -> Iterator[tuple[str, Array, tuple[str, ...]]]:
    """The arrays of an estimate over dimensions of the Dataset."""
    dims = names.dims[name]
    yield "", estimate.value, dims
    yield STDERR, np.broadcast_to(estimate.stderr, estimate.value.shape), dims
    spread = covariance_of(estimate)
    if spread is not None:
        other = tuple(names.other(d) for d in dims)
        shape = estimate.value.shape * 2
        yield COVARIANCE, spread[0].reshape(shape), (*dims, *other)
        yield COVARIANCE_STDERR, spread[1].reshape(shape), (*dims, *other)
    for part, values, errors in fluctuation_parts(estimate):
        over = (*dims, *map(names.other, dims)) if part == "sigma" else dims
        shape = estimate.value.shape * (2 if part == "sigma" else 1)
        yield f"_{part}", values.reshape(shape), over
        yield f"_{part}{STDERR}", errors.reshape(shape), over


def attributes(run: Run) -> dict[str, Any]:
    """What the numbers depend on; settings without a value are left out."""
    methods = ", ".join(dict.fromkeys(o.method for o in run.outputs.values()))
    head = {"program": run.program, "command": run.command, "version": run.version, "method": methods}
    settings = {key: plain(value) for key, value in run.settings.items() if value is not None and key not in head}
    failed = {"failed": "; ".join(f"{name}: {d.message}" for name, d in run.failed.items())} if run.failed else {}
    warned = {"warnings": "; ".join(d.message for d in run.warnings)} if run.warnings else {}
    return head | settings | failed | warned


def plain(value: Any) -> Any:
    """A setting as a number or text; None remains None."""
    if isinstance(value, np.generic):
        return value.item()
    return value if value is None or isinstance(value, int | float | str) else str(value)


def _attributes(names: DatasetNames, name: str, estimate: Estimate, part: str) -> dict[str, str]:
    if part:
        return {"long_name": f"{part[1:].replace('_', ' ')} of {name}"}
    found = {"long_name": name, "method": estimate.method, "ancillary_variables": names.variables[name, STDERR]}
    found |= {"law": estimate.law} if estimate.law else {}
    return found | ({"note": estimate.note} if estimate.note else {})


class DatasetNames:
    """The names of variables and dimensions, all different."""

    def __init__(self, run: Run):
        self.taken = set(run.outputs)
        self.variables: dict[tuple[str, str], str] = {}
        for name, estimate in run.outputs.items():
            own = [STDERR, *((COVARIANCE, COVARIANCE_STDERR) if estimate.covariance is not None else ())]
            own += [f"_{part}{end}" for part, *_ in fluctuation_parts(estimate) for end in ("", STDERR)]
            self.variables |= {(name, part): self.free(name + part) for part in own} | {(name, ""): name}
        self.coordinates: dict[str, tuple[int, int]] = {}  #: dimension -> its size and its first label
        self._known: dict[tuple[str, int, int], str] = {}
        longest: dict[str, int] = {}
        shapes = {n: dict(_numbered(axis_names(o), o.value.shape)) for n, o in run.outputs.items()}
        for shape in shapes.values():
            for (axis, _), size in shape.items():
                longest[axis] = max(size, longest.get(axis, 0))
        self.dims = {
            name: tuple(self._dim(axis, turn, size, longest[axis]) for (axis, turn), size in shape.items())
            for name, shape in shapes.items()
        }

    def free(self, name: str) -> str:
        """The name, or one like it if it is taken; taken from now on."""
        while name in self.taken:
            name += "_"
        self.taken.add(name)
        return name

    def _dim(self, axis: str, turn: int, size: int, longest: int) -> str:
        key = (axis, turn, size)
        if key not in self._known:
            name = axis if size == longest else f"{axis}_{size}"
            name += f"_{turn + 1}" * bool(turn)
            self._known[key] = self.free(name if name not in self.taken else f"{name}_axis")
            self.coordinates[self._known[key]] = (size, first_label(axis))
        return self._known[key]

    def dims_of(self, axis: str, size: int) -> list[str]:
        """The dimensions of an axis that have a size: none, or one unless an output has the axis twice."""
        return [dim for (own, _, length), dim in self._known.items() if (own, length) == (axis, size)]

    def other(self, dim: str) -> str:
        """The second dimension of a covariance."""
        key = (f"{dim} other", 0, 0)
        if key not in self._known:
            self._known[key] = self.free(f"{dim}_other")
            self.coordinates[self._known[key]] = self.coordinates[dim]
        return self._known[key]


def _numbered(axes: Sequence[str], shape: Sequence[int]) -> Iterator[tuple[tuple[str, int], int]]:
    """Each axis with the number of times it has occurred before."""
    for k, (axis, size) in enumerate(zip(axes, shape, strict=True)):
        yield (axis, axes[:k].count(axis)), size


# -- pandas ----------------------------------------------------------------------------------------------------------
def run_frame(run: Run, name: str | None = None) -> pandas.DataFrame:
    """One row for each entry, with the columns of `--format csv`; or one output, indexed by its axes."""
    pd = library("pandas", "data", "to_dataframe")
    if name is not None:
        return _of_one(pd, run, name)
    tables = [table for n, estimate in run.outputs.items() for table in _tables(n, estimate)]
    axes = dict.fromkeys(c for table in tables for c in table if c not in (*BEFORE, *AFTER))
    frames = [pd.DataFrame(table) for table in tables]
    if not frames:
        return pd.DataFrame(columns=[*BEFORE, *AFTER])
    found = pd.concat([f.astype({c: "Int64" for c in f if c in axes or c in ("entry", "other")}) for f in frames])
    return found.reindex(columns=[*BEFORE, *axes, *AFTER]).reset_index(drop=True)


def _of_one(pd: Any, run: Run, name: str) -> pandas.DataFrame:
    value, estimate = run[name], run.outputs[name]
    columns = {"value": value.ravel(), "stderr": np.broadcast_to(estimate.stderr, value.shape).ravel()}
    if value.ndim == 0:
        return pd.DataFrame(columns)
    ranges = [np.arange(size) + first_label(axis) for axis, size in zip(axis_names(estimate), value.shape, strict=True)]
    return pd.DataFrame(columns, index=pd.MultiIndex.from_product(ranges, names=axis_names(estimate)))


def _tables(name: str, estimate: Estimate) -> Iterator[dict[str, Any]]:
    value, axes = estimate.value, axis_names(estimate)
    places = np.indices(value.shape).reshape(len(axes), -1) if axes else np.zeros((0, 1))
    at = {column(axis): place + first_label(axis) for axis, place in zip(axes, places, strict=True)}
    stderr = np.broadcast_to(estimate.stderr, value.shape).ravel()
    same = {"output": name, "method": estimate.method}
    yield {**same, "quantity": "value", **at, "value": value.ravel(), "stderr": stderr}
    spread = covariance_of(estimate)
    if spread is not None:
        entry, other = np.indices(spread[0].shape).reshape(2, -1) + 1
        pair = {"quantity": "covariance", "entry": entry, "other": other}
        yield {**same, **pair, "value": spread[0].ravel(), "stderr": spread[1].ravel()}
    for part, values, errors in fluctuation_parts(estimate):
        counts = np.indices(values.shape).reshape(values.ndim, -1) + 1
        yield {
            **same,
            "quantity": part,
            **dict(zip(("entry", "other"), counts, strict=False)),
            "value": values.ravel(),
            "stderr": errors.ravel(),
        }
