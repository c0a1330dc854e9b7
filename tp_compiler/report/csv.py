"""Results as comma-separated values: one row for each entry of each output, in full double precision."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator

import numpy as np

from tp_compiler.report.numbers import axis_names, covariance_of, fluctuation_parts, labels
from tp_compiler.results import Estimate, Run

Row = dict[str, str | float | int]
BEFORE, AFTER = ("output", "quantity"), ("entry", "other", "value", "stderr", "method")


def run_csv(run: Run) -> str:
    """A table with the columns output, quantity, one for each axis, entry, other, value, stderr and method.

    Axes that an output does not have are left empty. Random outputs have rows of the quantity `covariance`, too, between
    entry and other, which count the flattened entries from 1. Limits computed with a width have rows of the quantities
    `sigma`, between two entries, and `bias`, of one. Outputs without a value are not in the table.
    """
    axes = dict.fromkeys(column(a) for estimate in run.outputs.values() for a in axis_names(estimate))
    file = io.StringIO()
    table = csv.DictWriter(file, [*BEFORE, *axes, *AFTER], lineterminator="\n")
    table.writeheader()
    for name, estimate in run.outputs.items():
        for row in (*_values(estimate), *_covariances(estimate), *_fluctuations(estimate)):
            table.writerow({"output": name, "method": estimate.method, **row})
    return file.getvalue().removesuffix("\n")


def column(axis: str) -> str:
    """The heading of an axis; one that is the name of a column of the table gets another name."""
    return f"axis {axis}" if axis in (*BEFORE, *AFTER) else axis


def _values(estimate: Estimate) -> Iterator[Row]:
    axes = axis_names(estimate)
    names = [labels(axis, size) for axis, size in zip(axes, estimate.value.shape, strict=True)]
    stderr = np.broadcast_to(estimate.stderr, estimate.value.shape)
    for place in np.ndindex(estimate.value.shape):
        at = {column(axis): own[k] for axis, own, k in zip(axes, names, place, strict=True)}
        yield {"quantity": "value", **at, "value": float(estimate.value[place]), "stderr": float(stderr[place])}


def _covariances(estimate: Estimate) -> Iterator[Row]:
    found = covariance_of(estimate)
    if found is None:
        return
    covariance, error = found
    for k, m in np.ndindex(covariance.shape):
        pair = {"quantity": "covariance", "entry": k + 1, "other": m + 1}
        yield {**pair, "value": float(covariance[k, m]), "stderr": float(error[k, m])}


def _fluctuations(estimate: Estimate) -> Iterator[Row]:
    for quantity, values, errors in fluctuation_parts(estimate):
        for place in np.ndindex(values.shape):
            at = dict(zip(("entry", "other"), (k + 1 for k in place), strict=False))
            yield {"quantity": quantity, **at, "value": float(values[place]), "stderr": float(errors[place])}
