"""The law at finite width that users see, against closed forms and against networks, which share no code with it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tp_compiler as tpc
from tp_compiler import cli, driver
from tp_compiler.evaluate.fluctuations import exactly
from tp_compiler.evaluate.options import Options
from tp_compiler.results import Run

AVERAGES = """
axis i : 2
data m[i] = [1, 2]
ket |x> ~ N(1, 1)
ket |u> ~ N(0, 1)
output f = <x>^2
output g[i] = m[i] * <x> + <u>
output one = 3
"""

#: One step of gradient descent on a hidden layer whose weights meet their transpose.
TRAINED = """
gain = 1
axis i : 2
data x[i] = [0.8, -0.5]
ket |u> ~ N(0, 1)
matrix W ~ N(0, 1)
ket |v> ~ N(0, 1)
def net(a) {
    return <v|tanh(W tanh(a * |u>))>
}
train steps = 2 {
    f[i] = net(x[i])
    loss = mean[i]((f[i] - 1)^2)
    minimize loss
    update |u>, W, |v> with SGD(lr = 0.5 * gain)
}
output f[step,i] = net(x[i])
output loss[step]
"""


@pytest.fixture(scope="module", params=["auto", "qmc"])
def averages(request: pytest.FixtureRequest) -> Run:
    """Σ by Gaussian moments, and by directions."""
    return tpc.limit(AVERAGES, width=400, method=request.param)


@pytest.fixture(scope="module")
def trained() -> Run:
    return tpc.limit(TRAINED, width=64)


def test_averages_of_known_law(averages: Run) -> None:
    """f = <x>²: Σ = 4, b = 1. g = m <x> + <u>: Σ = m mᵀ + 1, b = 0. Their covariance: 2 m."""
    f, g, crossed = averages.fluctuations("f"), averages.fluctuations("g"), averages.fluctuations("f", "g")
    for found, right in ((f, [[4]]), (g, [[2, 3], [3, 5]]), (crossed, [[2, 4]])):
        assert found.sigma is not None and found.sigma_stderr is not None
        assert (np.abs(found.sigma - right) <= 5 * found.sigma_stderr + 1e-9).all() and found.sigma_stderr.max() < 0.5
    for found, right in ((f, [1]), (g, [0, 0])):
        assert found.bias is not None and found.bias_stderr is not None
        assert (np.abs(found.bias - right) < 5 * found.bias_stderr + 1e-9).all()
    assert g.bias_stderr is not None and g.bias_stderr.max() < 1e-6  # linear in the weights: no direction has noise
    assert averages.fluctuations("one").constant
    assert "one = 3, at n = 400 the same in every network" in str(averages)


def test_trained_networks_have_the_law(trained: Run) -> None:
    """n times covariance and bias of 400 networks, and of their losses, with what is left at order 1/n²."""
    n, seeds = 64, 400
    drawn = tpc.simulate(TRAINED, n, seeds=seeds).replicates
    for name in ("f", "loss"):
        found = trained.fluctuations(name)
        assert found.sigma is not None and found.bias is not None and found.bias_stderr is not None
        networks = drawn[name].reshape(seeds, -1)
        covariance, scale = n * np.cov(networks.T), np.sqrt(np.outer(*(2 * [np.diag(found.sigma)])))
        np.testing.assert_allclose(covariance / scale, found.sigma / scale, atol=0.35)
        error = np.hypot(found.bias_stderr, np.sqrt(n * np.diag(found.sigma) / seeds))
        bias = n * (networks.mean(axis=0) - trained[name].ravel())
        assert (np.abs(bias - found.bias) < 4 * error + 0.1 * np.abs(found.bias)).all()


def test_expected_losses_agree_with_the_output_that_is_the_loss(trained: Run) -> None:
    """E L(f_n) by L'' Σ and L'·b is that of the output `loss`, whose b is computed by itself."""
    n = 10_000
    found = trained.expected(lambda f: ((f - 1) ** 2).mean(axis=1), width=n)
    loss = trained.fluctuations("loss")
    assert loss.bias is not None and loss.bias_stderr is not None
    bias, error = n * (found.value - trained["loss"]), n * np.hypot(found.stderr, loss.bias_stderr / n)
    assert (np.abs(bias - loss.bias) < 4 * error).all()


@pytest.mark.slow
def test_digits_depend_on_the_seed_alone(trained: Run) -> None:
    assert tpc.limit(TRAINED, width=4096, only=["loss", "f"]) == replace(
        trained, settings={**trained.settings, "width": 4096}
    )


@pytest.mark.slow
def test_verification_with_the_prediction_finds_what_it_misses_without(monkeypatch: pytest.MonkeyPatch) -> None:
    """Networks that are trained at a learning rate 60% larger than the limit's."""
    right, wrong = (tpc.compile(TRAINED, {"gain": gain}) for gain in (1, 1.6))
    options: dict[str, Any] = {"widths": (64, 128, 256), "seeds": 8, "only": ["loss"]}
    found = tpc.verify(right, predicted=True, **options)
    assert found.passed and found.checks[0].predicted is not None and found.checks[0].predicted.gain > 1.5
    drawn = driver._drawn
    monkeypatch.setattr(driver, "_drawn", lambda program, *rest: drawn(wrong, *rest))
    assert not tpc.verify(right, predicted=True, **options).passed
    assert tpc.verify(right, **options).passed


def test_the_time_limit_holds_for_formulas() -> None:
    program = tpc.compile(AVERAGES)
    estimates = tpc.limit(program).outputs
    in_time, late = (exactly(program, program.outputs, estimates, Options(max_time=s)) for s in (60.0, 0.0))
    assert in_time.each.keys() == {"f", "g", "one"} and not late.each


def test_what_is_missing_is_said() -> None:
    """Formulas have Σ; where samples are excluded, there is no bias."""
    run = tpc.limit(AVERAGES, width=400, only=["f"], method="exact")
    found, (warning,) = run.fluctuations("f"), run.warnings
    assert found.sigma is not None and found.bias is None
    assert warning.code == "NX932" and "the biases at finite width of `f` were not computed" in warning.message


def test_the_command(tmp_path: Path, capsys: Any) -> None:
    path = tmp_path / "averages.nexort"
    path.write_text(AVERAGES, encoding="utf-8")
    assert cli.main(["limit", str(path), "--only", "f", "--width", "400", "--within", "0.01"]) == 0
    shown = capsys.readouterr().out
    assert "f = 1, at n = 400: 1.00" in shown and "within 1% of the limit" in shown
