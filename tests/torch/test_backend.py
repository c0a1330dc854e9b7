"""Limits sampled with PyTorch: the digits of NumPy, since points and rules are the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import tp_compiler as tpc  # noqa: E402
from tp_compiler.cli import main  # noqa: E402

pytestmark = pytest.mark.torch

EXAMPLES = sorted((Path(__file__).resolve().parents[2] / "examples").glob("*.nexort"))
#: Entries of matrices under nonlinear optimizers are single on every backend, and sums of them are in no fixed order.
ENTRIES = {"own_optimizer", "nero", "pretrained", "torch_init", "train_mlp", "schedule_free", "prodigy", "sophia"}
OPTIONS = {"method": "qmc", "samples": 512, "replicates": 2}


def sampled(path: Path, **options: object) -> tpc.Run:
    return tpc.limit(path, **(OPTIONS | options))  # type: ignore[arg-type]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.stem)
def test_both_libraries_give_the_same_digits(path: Path) -> None:
    one, other = sampled(path), sampled(path, backend="torch")
    assert set(one.outputs) == set(other.outputs) and one.failed.keys() == other.failed.keys()
    for name, wanted in one.outputs.items():
        found = other.outputs[name]
        size = 1.0 + np.max(np.abs(wanted.value), initial=0.0)
        allowed = 1e-6 if path.stem in ENTRIES else 1e-12
        np.testing.assert_allclose(found.value, wanted.value, rtol=0, atol=allowed * size, err_msg=name)


@pytest.mark.parametrize("name", ["mlp", "resnet", "transformer", "train_mlp", "shampoo"])
def test_single_precision_errs_far_less_than_sampling(name: str) -> None:
    path = next(p for p in EXAMPLES if p.stem == name)
    double, single = sampled(path, backend="torch"), sampled(path, backend="torch", dtype="float32")
    assert single.settings["backend"] == "torch on cpu, float32"
    moved = []
    for output, wanted in double.outputs.items():
        found = single.outputs[output]
        distance = np.max(np.abs(found.value - wanted.value))
        # Kets that are nearly dependent share a direction in single precision: other points, the same law.
        allowed = 4 * np.hypot(found.stderr, wanted.stderr).max()
        assert distance < max(2e-5 * (1 + np.max(np.abs(wanted.value))), allowed)
        moved.append(distance)
    assert max(moved) > 0


def test_results_name_the_backend(capsys: pytest.CaptureFixture[str]) -> None:
    path = str(next(p for p in EXAMPLES if p.stem == "resnet"))
    assert main(["limit", path, "--method", "qmc", "--samples", "64", "--backend", "torch"]) == 0
    assert "backend torch on cpu" in capsys.readouterr().out
    assert main(["limit", path, "--dtype", "float32"]) == 2
    assert "choose the backend torch" in capsys.readouterr().err
    assert main(["limit", path, "--backend", "torch", "--device", "nowhere"]) == 2
    assert "`nowhere` is not available" in capsys.readouterr().err


#: Hidden tanh of a small ket: odd functions of one number, nearly dependent.
NEARLY_DEPENDENT = """
axis i : 3
data x[i] = [1.0, -0.7, 0.4]
data y[i] = [0.6, -0.3, 0.5]
ket |u> ~ uniform(-1, 1)
matrix W ~ N(0, 1)
ket |v> ~ N(0, 1)
train steps = 3 {
    f[i] = <v|tanh(W tanh(x[i] |u>))>
    minimize mean[i]((f[i] - y[i])^2) / 2
    update all with Adam(lr = 0.1)
}
output f[step,i]
"""


@pytest.mark.parametrize("samples", [128, 256])
@pytest.mark.parametrize("name", ["tanh", "kfac"])
def test_nearly_dependent_kets_in_single_precision(name: str, samples: int) -> None:
    """Gram matrices resolve less in single precision: what they do not resolve was amplified."""
    text = NEARLY_DEPENDENT if name == "tanh" else next(p for p in EXAMPLES if p.stem == name)
    options = {"method": "qmc", "samples": samples, "replicates": 4}
    double, single = (tpc.limit(text, **options, **o) for o in ({}, {"backend": "torch", "dtype": "float32"}))  # type: ignore[arg-type]
    np.testing.assert_allclose(single["f"], double["f"], rtol=0, atol=3e-6)


@pytest.mark.parametrize("device", ["cdua", "meta", "xla", "cuda:77"])
def test_a_device_that_is_not_there(device: str) -> None:
    with pytest.raises(tpc.ProgramError, match=rf"NX432.*the device `{device}` is not available: .{{,250}}\n"):
        tpc.limit(EXAMPLES[0], backend="torch", device=device)
