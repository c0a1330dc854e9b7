"""Neural tangent limits against PyTorch networks in the NTK parametrization under torch.optim: f_0 subtracted.

Without f_0 the limit is a number (`--f0 zero`), for nonlinear optimizers too: one joint average over two independent neurons a
layer (TP IVb Thm 2.4.7), which the kernel of no linear theory gives.
"""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import tp_compiler as tpc  # noqa: E402
from tests.torch.architectures import ARCHITECTURES  # noqa: E402
from tests.torch.test_limits import OPTIMIZERS  # noqa: E402
from tp_compiler.finite.converge import verify  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.slow]

STEPS = 3
SEEDS = {64: 12, 128: 10, 256: 8, 512: 4}
CASES = {"sgd": ("SGD(lr = 0.3)", lambda p: torch.optim.SGD(p, lr=0.3))} | {
    k: OPTIMIZERS[k] for k in ("adam", "signsgd")
}


@pytest.mark.parametrize("optimizer", CASES)
@pytest.mark.parametrize("name", ["mlp", "resnet", "transformer"])
def test_tangent_limit(name: str, optimizer: str) -> None:
    architecture = ARCHITECTURES[name]
    text, make = CASES[optimizer]
    limit = tpc.limit(architecture.program(text, STEPS, tangent=True), samples=2**13, seed=1, f0="zero")
    assert not limit.failed, limit.failed
    widths = (64, 128, 256) if name == "transformer" else tuple(SEEDS)
    networks = {
        n: {"f": np.stack([architecture.trained(make, STEPS, n, 1000 * n + k, True).numpy() for k in range(SEEDS[n])])}
        for n in widths
    }
    estimate = limit.outputs["f"]
    assert np.max(estimate.stderr) < 0.02 and np.max(np.abs(estimate.value)) > 0.05
    (check,) = verify({"f": estimate}, networks, dof=limit.settings["replicates"] - 1).checks
    assert check.passed, check
