"""The result of an evaluation: values with their errors, never a bare number."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tp_compiler.diagnostics import Diagnostic
from tp_compiler.pages import Shown, written

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Estimate:
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
    """

    value: Array
    stderr: Array
    axes: tuple[str, ...]
    method: str
    law: str | None = None
    covariance: Array | None = None
    covariance_stderr: Array | None = None
    note: str = ""


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
    #: index to names of data to their numbers: what the positions along an axis stand for (ir/coordinates.py)
    coordinates: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Array:
        if name in self.failed:
            raise KeyError(f"{name} could not be computed: {self.failed[name].message}")
        return self.outputs[name].value

    def __iter__(self) -> Iterator[str]:
        return iter(self.outputs)

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

    def _brief(self) -> str:
        outputs = ", ".join(self.outputs) or "no outputs"
        failed = f"; failed: {', '.join(self.failed)}" if self.failed else ""
        return f"Run {self.command} {self.program}: {outputs}{failed}"


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
    return all(np.isfinite(part).all() for part in parts if part is not None)
