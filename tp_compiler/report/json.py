"""Results as JSON documents: finite numbers only, in full double precision."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from tp_compiler._version import __version__
from tp_compiler.diagnostics import Diagnostic
from tp_compiler.results import Estimate, Run

if TYPE_CHECKING:
    from tp_compiler.finite.converge import Verification

_HEAD = ("width", "seeds", "dtype", "seed", "samples", "replicates", "backend")


def run_document(run: Run) -> dict[str, Any]:
    """The document of `tpc limit --json` and `tpc simulate --json`. The run must be finite (`finite.settled`)."""
    document: dict[str, Any] = {"program": run.program, "version": run.version, "command": run.command}
    keys = [*(key for key in _HEAD if key in run.settings), *(key for key in run.settings if key not in _HEAD)]
    document |= {key: _plain(run.settings[key]) for key in keys if key not in document}
    document["seconds"] = float(run.seconds)
    asked = run.command == "limit" and run.width is not None
    document["outputs"] = {
        name: _estimate(estimate) | ({"fluctuations": _fluctuations(estimate)} if asked else {})
        for name, estimate in run.outputs.items()
    }
    if run.failed:
        document["failed"] = {name: _message(diagnostic) for name, diagnostic in run.failed.items()}
    document["warnings"] = [_message(diagnostic) for diagnostic in run.warnings]
    return document


def run_json(run: Run) -> str:
    """The document as text."""
    return dumps(run_document(run))


def verification_document(verification: Verification, program: str) -> dict[str, Any]:
    """The document of `tpc verify --json`: one record per output under `checks`; undefined figures are null."""
    record = _plain(verification)
    checks = {check["name"]: {k: v for k, v in check.items() if k != "name"} for check in record.pop("checks")}
    passed = record.pop("passed")
    head = {"program": program, "version": __version__, "command": "verify", "passed": passed, "checks": checks}
    record["warnings"] = [_message(diagnostic) for diagnostic in verification.warnings]
    return head | {key: value for key, value in record.items() if key not in head}


def dumps(document: Mapping[str, Any]) -> str:
    """Text that every JSON reader accepts: `NaN` and `Infinity` are errors here, never output."""
    return json.dumps(document, allow_nan=False)


def _estimate(estimate: Estimate) -> dict[str, Any]:
    stderr = np.broadcast_to(estimate.stderr, estimate.value.shape)
    record: dict[str, Any] = {
        "axes": list(estimate.axes),
        "shape": list(estimate.value.shape),
        "value": estimate.value.tolist(),
        "stderr": stderr.tolist() if stderr.any() else 0.0,
        "method": estimate.method,
    }
    if estimate.law is not None:
        record["law"] = estimate.law
    if estimate.covariance is not None:
        record["covariance"] = _plain(estimate.covariance)
    if estimate.covariance_stderr is not None:
        error = estimate.covariance_stderr
        record["covariance_stderr"] = _plain(error) if error.any() else 0.0
    return record


def _fluctuations(estimate: Estimate) -> dict[str, Any] | None:
    """The law at width n is about value + bias/n + N(0, sigma/n); parts that are not known are null."""
    found = estimate.fluctuations
    if found is None:
        return None
    parts = {item.name: getattr(found, item.name) for item in dataclasses.fields(found)}
    return {name: None if part is None else part.tolist() for name, part in parts.items()}


def _message(diagnostic: Diagnostic) -> dict[str, str]:
    return {"code": diagnostic.code, "message": diagnostic.message}


def _plain(value: Any) -> Any:
    """Records, arrays and NumPy numbers as JSON types; a number that is not finite becomes null."""
    if isinstance(value, Diagnostic):
        return _message(value)
    if isinstance(value, Estimate):
        return _estimate(value)
    if isinstance(value, Run):
        return run_document(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {item.name: _plain(getattr(value, item.name)) for item in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray) and value.dtype == np.float64 and np.isfinite(value).all():
        return value.tolist()
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, float):
        return value if np.isfinite(value) else None
    return value if value is None or isinstance(value, bool | int | str) else str(value)
