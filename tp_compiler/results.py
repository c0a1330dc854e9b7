"""The result of an evaluation: values with their errors, never a bare number."""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from tp_compiler._version import __version__
from tp_compiler.diagnostics import Diagnostic, suggest
from tp_compiler.functions import Function, Known, value_and_error
from tp_compiler.pages import Shown, written
from tp_compiler.replicates import Array as Array
from tp_compiler.replicates import Replicates as Replicates

if TYPE_CHECKING:
    import pandas
    import xarray


@dataclass(frozen=True, eq=False, repr=False)
class Estimate(Shown):
    """A value with its standard error (both of shape `axes`), and how it was found.

    value    array of the shape of the output's axes (0-d for a plain scalar), in natural units
    stderr   standard error of `value`, same shape; 0 where exact
    axes     the names of the indices, in the order of the array's dimensions
    method   exact | closed-form | quadrature | qmc | mc | finite-width
    law      None for a number; "gaussian" for a `clt` output, whose value is the mean and whose `covariance` runs
             over the flattened entries; "sampled" for a scalar that depends on `clt` scalars (mean and covariance
             over the outer draws)
    covariance_stderr   standard error of each entry of the covariance
    note     why this method was chosen
    replicates   what the value is a mean of; None where exact, and for random outputs of a limit
    """

    value: Array
    stderr: Array
    axes: tuple[str, ...]
    method: str
    law: str | None = None
    covariance: Array | None = None
    covariance_stderr: Array | None = None
    note: str = ""
    replicates: Replicates | None = None

    def _brief(self) -> str:
        shape = " × ".join(map(str, self.value.shape))
        return f"Estimate {shape} [{self.method}]" if shape else f"Estimate {self}"


@dataclass(frozen=True, eq=False, repr=False)
class Run(Shown):
    """The result of `limit` or `simulate`: estimates by output name, in source order, and what could not be had.

    Indexing gives the array: `run["f"]`. `failed` holds, for each output without a value, the diagnostic.
    """

    program: str
    command: str
    outputs: Mapping[str, Estimate]
    failed: Mapping[str, Diagnostic] = field(default_factory=dict)
    warnings: tuple[Diagnostic, ...] = ()
    #: what the numbers depend on: seed, samples, replicates, width, seeds, dtype, backend (those that apply)
    settings: Mapping[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    version: str = __version__
    #: index to names of data to their numbers: what the positions along an axis stand for (ir/coordinates.py)
    coordinates: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Array:
        if name in self.failed:
            raise KeyError(f"{name} could not be computed: {self.failed[name].message}")
        if not isinstance(name, str):
            raise TypeError(f"a run is indexed by names of outputs, such as run['f'], not by {name!r}")
        if name not in self.outputs:
            hint = suggest(name, self.outputs) or f"the outputs are {', '.join(self.outputs) or 'none'}"
            raise KeyError(f"there is no output {name!r}; {hint}")
        return self.outputs[name].value

    def __iter__(self) -> Iterator[str]:
        return iter(self.outputs)

    def __eq__(self, other: object) -> bool:
        """Whether everything is equal, digit by digit, except the time that it took."""
        if not isinstance(other, Run):
            return NotImplemented
        return self is other or bool(written(self, "packed").same(written(other, "packed")))

    __hash__ = None  # type: ignore[assignment]  # as for other objects that hold arrays

    def table(self, *, full: bool = False, reasons: bool = False) -> str:
        """The tables that `print(run)` shows.

        full      every entry; otherwise large outputs show their ends, and steps that are evenly spaced, and say so
        reasons   why each method was chosen (`tpc limit -v`)
        """
        return str(written(self, "reasons" if reasons else "text", full=full))

    def to_xarray(self) -> xarray.Dataset:
        """An xarray Dataset: a variable for each output, and one for its standard error (`f_stderr`).

        Dimensions are the axes, with their positions as coordinates (from 1; `step` counts updates, from 0). Attributes are
        program, version, method, seed and the other settings. Random outputs also have `f_covariance`, over the axes twice.
        Raises ImportError without xarray.
        """
        return cast("xarray.Dataset", written(self, "xarray"))

    def to_dataframe(self, name: str | None = None) -> pandas.DataFrame:
        """A pandas DataFrame with the columns of `--format csv`: one row for each entry of each output.

        name   one output alone: the columns value and stderr, indexed by its axes

        Raises ImportError without pandas.
        """
        return cast("pandas.DataFrame", written(self, "dataframe", name))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write everything to a file, `.npz` for NumPy or `.nc` for NetCDF (needs xarray); `tpc.load` gives it back."""
        written(self, "file", path)

    def plot(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        networks: Sequence[Run] = (),
        x: str | None = None,
        theme: str = "light",
    ) -> Any:
        """A figure of every output: curves, heat maps, distributions; also written to `path` (.svg, .pdf, .png).

        networks   results of `simulate` with the same outputs, drawn over it
        x          the index, or the data over one index (such as learning rates), that outputs are drawn against
        theme      light or dark
        """
        return written(self, "plot", path, networks=networks, x=x, theme=theme)

    @property
    def replicates(self) -> Mapping[str, Array]:
        """The replicates of each output: `run.replicates["f"]` has shape (R, ...), and the mean `run["f"]`.

        They are independent scramblings of a limit, networks of a simulation. Replicate r is of the same scrambling or network
        for all outputs. Exact outputs have equal replicates. Random outputs of a limit (`clt`) have none.
        """
        return _ReplicatesOf(self)

    def map(self, function: Function, *names: str) -> Estimate:
        """A function of outputs with its own standard error: `run.map(lambda f, loss: f[-1] / loss[0])`.

        function   takes arrays and returns a number or an array. Its arguments are the outputs of the same names
        names      the outputs that it takes, in order, if they are not those

        The error counts correlations between outputs and entries: by the jackknife over replicates (`functions.py`). Errors of
        exact outputs are propagated by differences, all with the same sign. The function is called some 50 times, for
        exact outputs up to 150 times.
        Raises KeyError for outputs that do not exist or could not be computed; ValueError for random outputs, whose
        functions are random (write these in the program: `output q = f^2` is the mean of f²), and for a single seed.
        """
        chosen = names or _parameters(function)
        found = [self._known(name) for name in chosen]
        value, stderr = value_and_error(function, found)
        methods = dict.fromkeys(self.outputs[name].method for name in chosen)
        return Estimate(value, stderr, (), " + ".join(methods), note=f"a function of {', '.join(chosen)}")

    def _known(self, name: str) -> Known:
        self[name]  # raises if there is none
        estimate = self.outputs[name]
        if estimate.law is not None:
            raise ValueError(
                f"{name} is random, so that functions of it are; write them in the program, such as `output q = {name}^2`,"
                " for their means"
            )
        stderr = np.broadcast_to(estimate.stderr, estimate.value.shape)
        return Known(estimate.value, stderr, estimate.replicates)

    def _brief(self) -> str:
        outputs = ", ".join(self.outputs) or "no outputs"
        failed = f"; failed: {', '.join(self.failed)}" if self.failed else ""
        return f"Run {self.command} {self.program}: {outputs}{failed}"


class _ReplicatesOf(Mapping[str, Array]):
    """The replicates of a run, made when they are asked for."""

    def __init__(self, run: Run):
        self.run = run

    def __getitem__(self, name: str) -> Array:
        value, found = self.run[name], self.run.outputs[name]
        if found.replicates is not None:
            return found.replicates.around(value)
        if found.law is not None:
            raise KeyError(
                f"{name} is random, and its law has no replicates; `simulate` has one value for each network"
            )
        return np.broadcast_to(value, (self._count(), *value.shape))

    def _count(self) -> int:
        drawn = [o.replicates.count for o in self.run.outputs.values() if o.replicates is not None]
        return drawn[0] if drawn else int(self.run.settings.get("replicates", 1))

    def __iter__(self) -> Iterator[str]:
        return (n for n, o in self.run.outputs.items() if o.replicates is not None or o.law is None)

    def __len__(self) -> int:
        return sum(1 for _ in self)


def _parameters(function: Function) -> tuple[str, ...]:
    """The names of the arguments of a function, without those that have defaults."""
    try:
        given = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        raise TypeError(
            "the function does not name its arguments; give the names of outputs: run.map(fn, 'f')"
        ) from None
    plain = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    found = tuple(p.name for p in given if p.kind in plain and p.default is inspect.Parameter.empty)
    if not found:
        raise TypeError("the function takes no output by name; give the names of outputs: run.map(fn, 'f')")
    return found


def settled(run: Run) -> Run:
    """The run with every output that holds NaN or an infinity under `failed`; the run itself if there is none."""
    bad = [name for name, estimate in run.outputs.items() if not _finite(estimate)]
    if not bad:
        return run
    failed = {name: Diagnostic("NX800", f"`{name}` is not finite (NaN or overflow)") for name in bad}
    kept = {name: estimate for name, estimate in run.outputs.items() if name not in failed}
    return replace(run, outputs=kept, failed={**failed, **run.failed})


def _finite(estimate: Estimate) -> bool:
    parts = (estimate.value, estimate.stderr, estimate.covariance, estimate.covariance_stderr)
    return all(_all_finite(part) for part in parts if part is not None)


def _all_finite(values: Array) -> bool:
    """Some rows at a time; a file was examined when it was written."""
    if isinstance(values, np.memmap) or np.size(values) < 2**20:
        return isinstance(values, np.memmap) or np.count_nonzero(np.isfinite(values)) == np.size(values)
    if not any(values.strides):
        return bool(np.isfinite(values.flat[0]))
    return all(np.isfinite(rows).all() for rows in values)
