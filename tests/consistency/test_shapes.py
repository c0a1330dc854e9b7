"""Unit tests once more with every call checked: the shapes of arrays by jaxtyping, and all types by beartype.

They run in a process of their own, where jaxtyping's import hook is on before the package is imported.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
ROOMS = "tp_compiler.evaluate,tp_compiler.finite"
EVALUATE = (
    "arrays", "binding", "clt_laws", "compositions", "estimates", "formulas", "linear", "matmul", "sampling",
)  # fmt: skip
FINITE = ("converge", "eigenvalues", "kernels", "run", "scatter", "scores", "slopes", "training")


def _checked(arguments: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    pytest.importorskip("jaxtyping")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments]
    path = os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    hook = f"--jaxtyping-packages={ROOMS},typechecker.checked"
    return subprocess.run([*command, hook], cwd=folder, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.slow
@pytest.mark.parametrize("room", ["evaluate", "finite"])
def test_every_call_has_the_shapes_that_it_says(room: str) -> None:
    names = EVALUATE if room == "evaluate" else FINITE
    found = _checked([f"tests/unit/{room}/test_{name}.py" for name in names], ROOT)
    assert found.returncode == 0, found.stdout[-4000:]


CALL = """
import numpy as np
from tp_compiler.evaluate.sampling.averages import AVERAGES
from tp_compiler.evaluate.sampling.conditioning.directions import orthonormal

def test_call():
    x = np.ones((3, 8, 2))
    orthonormal(x, {norms}, 1e-9)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("norms", "fails"),
    [("AVERAGES.norms(x)", False), ("np.ones(2)", True), ("np.ones((3, 1))", True), ("[1.0, 1.0]", True)],
)
def test_a_wrong_shape_is_seen(norms: str, fails: bool, tmp_path: Path) -> None:
    (tmp_path / "test_call.py").write_text(CALL.format(norms=norms), encoding="utf-8")
    found = _checked(["test_call.py"], tmp_path)
    assert (found.returncode != 0) == fails and ("TypeCheckError" in found.stdout) == fails, found.stdout[-4000:]


def test_the_package_does_not_import_jaxtyping() -> None:
    code = (
        "import sys, tp_compiler, tp_compiler.evaluate.auto, tp_compiler.finite.run; print('jaxtyping' in sys.modules)"
    )
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"
