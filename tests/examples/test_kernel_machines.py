"""`examples/kernel_machines.py`: every library finds the posterior that linear algebra gives."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "kernel_machines.py"


@pytest.fixture(scope="module")
def example() -> dict[str, Any]:
    return runpy.run_path(str(EXAMPLE))


def posterior(example: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance at the new points."""
    points, labels, new = example["data"]()
    kernel = example["KERNEL"]
    cross, inverse = kernel(new, points), np.linalg.inv(kernel(points) + example["NOISE"] * np.eye(len(points)))
    return cross @ inverse @ labels, np.diag(kernel(new) - cross @ inverse @ cross.T)


@pytest.mark.torch
def test_scikit_learn(example: dict[str, Any]) -> None:
    pytest.importorskip("sklearn")
    from sklearn.gaussian_process.kernels import ConstantKernel

    points, labels, new = example["data"]()
    mean, variance = posterior(example)
    process = example["gaussian_process"]().fit(points, labels)
    found, deviation = process.predict(new, return_std=True)
    np.testing.assert_allclose(found, mean, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(deviation**2, variance, rtol=1e-6, atol=1e-8)
    ridge = example["kernel_ridge"]().fit(example["KERNEL"](points), labels)
    np.testing.assert_allclose(ridge.predict(example["KERNEL"](new, points)), mean, rtol=1e-8, atol=1e-10)
    scaled = example["gaussian_process"]()
    scaled.set_params(kernel=ConstantKernel(2.0) * scaled.kernel)
    assert scaled.fit(points, labels).kernel_.theta.shape == (1,)  # its scale has been fitted


@pytest.mark.torch
def test_gpytorch(example: dict[str, Any]) -> None:
    pytest.importorskip("gpytorch")
    import torch

    points, labels, new = example["data"]()
    mean, variance = posterior(example)
    model, likelihood = example["exact_gp"](points, labels)
    model.eval(), likelihood.eval()
    with torch.no_grad():
        found = model(torch.as_tensor(new))
    np.testing.assert_allclose(found.mean.numpy(), mean, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(found.variance.numpy(), variance, rtol=1e-5, atol=1e-8)
    model.train(), likelihood.train()
    loss = -likelihood(model(torch.as_tensor(points))).log_prob(torch.as_tensor(labels))
    loss.backward()
    assert model.covar_module.raw_outputscale.grad is not None  # the scale around the kernel can be trained


@pytest.mark.torch
def test_the_script(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("sklearn")
    runpy.run_path(str(EXAMPLE), run_name="__main__")
    lines = [line.split(":")[1].split() for line in capsys.readouterr().out.splitlines()]
    assert len(lines) >= 2 and all(line == lines[0] for line in lines)
