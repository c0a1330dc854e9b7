"""Results as a NumPy `.npz` archive: NAME, NAME.stderr and, for random outputs, NAME.covariance."""

from __future__ import annotations

import io
import zipfile

import numpy as np

from tp_compiler.results import Run


def save_npz(run: Run, path: str) -> None:
    """Written by hand and not by `numpy.savez`, whose keyword arguments collide with outputs named `file`."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, array in _arrays(run):
            buffer = io.BytesIO()
            np.lib.format.write_array(buffer, np.asarray(array, dtype=np.float64), allow_pickle=False)
            archive.writestr(f"{name}.npy", buffer.getvalue())


def _arrays(run: Run) -> list[tuple[str, np.ndarray]]:
    found: list[tuple[str, np.ndarray]] = []
    for name, estimate in run.outputs.items():
        found.append((name, estimate.value))
        found.append((f"{name}.stderr", np.broadcast_to(estimate.stderr, estimate.value.shape)))
        if estimate.covariance is not None:
            found.append((f"{name}.covariance", estimate.covariance))
        if estimate.covariance_stderr is not None:
            found.append((f"{name}.covariance_stderr", estimate.covariance_stderr))
    return found
