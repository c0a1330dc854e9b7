"""The equations, read literally (reading.py), give the numbers of `tpc.limit`: examples, random programs, sharp cases."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import tp_compiler as tpc
from tests.property.test_expand import with_gradients, with_training
from tests.property.test_random_programs import Writer
from tests.unit.equations.reading import Reading

EXAMPLES = Path(__file__).resolve().parents[3] / "examples"
#: Examples that are quick to read; the slow run has the rest. Gradient flow has no equations; others want data files.
QUICK = ("embedding", "tied_weights")
SLOW = (
    "convolution", "duplicates", "free_probability", "rnn", "width_classes", "attention_clt", "attention_logits",
    "correlated_kets", "erf_mlp", "figure4", "gaussian_process", "mlp", "nngp_posterior", "outer_operator", "own_optimizer",
    "parametrization", "relu_mlp", "resnet", "state_space", "tangent_kernel", "transformer",
)  # fmt: skip
#: Minutes: large bases of matrix optimizers, entries of trained matrices, copies of copies.
LONG = ("kfac", "muon", "nero", "outer_nonlin", "shampoo", "soap", "train_mlp", "train_resnet")
#: A finite number of particles has a bias: of this many times 1/particles, beside the standard errors.
BIAS = 4.0


def agrees(program: str, samples: int, runs: int = 6, bias: float = BIAS) -> None:
    """Both readings of dots, on `samples` particles, against the limit."""
    system, limit = tpc.derive(program), tpc.limit(program, samples=1024)
    for literal in (False, True):
        found = [Reading(system, samples, seed, literal) for seed in range(runs)]
        for name, estimate in limit.outputs.items():
            values = np.array([r.output(name) for r in found])
            mean, stderr = values.mean(0), values.std(0, ddof=1) / runs**0.5
            error = 8 * np.hypot(stderr, np.asarray(estimate.stderr)) + bias * (1 + np.abs(mean)) / samples
            np.testing.assert_array_less(np.abs(mean - np.asarray(estimate.value)), error, f"{name}, literal={literal}")


@pytest.mark.parametrize("name", QUICK)
def test_examples(name: str) -> None:
    agrees(str(EXAMPLES / f"{name}.nexort"), 256)


@pytest.mark.slow
@pytest.mark.parametrize("name", SLOW)
def test_other_examples(name: str) -> None:
    agrees(str(EXAMPLES / f"{name}.nexort"), 64 if name == "own_optimizer" else 256)


@pytest.mark.long
@pytest.mark.parametrize("name", LONG)
def test_long_examples(name: str) -> None:
    agrees(str(EXAMPLES / f"{name}.nexort"), 64)


def plain(seed: int, steps: int) -> str:
    return Writer(seed).text(steps)


@pytest.mark.parametrize(("write", "seed"), [(plain, 0), (plain, 1), (plain, 2), (with_training, 1)])
def test_random_programs(write: Callable[[int, int], str], seed: int) -> None:
    agrees(write(seed, 3), 128)


@pytest.mark.slow
@pytest.mark.parametrize("write", [plain, with_gradients, with_training])
@pytest.mark.parametrize("seed", range(100, 102))
def test_many_random_programs(write: Callable[[int, int], str], seed: int) -> None:
    agrees(write(seed, 3 + seed % 5), 128)


OVERLAP = """
axis i, j : 2
data xi[i] = [0.9, -0.4]
ket |u> ~ N(0, 1)
ket |b> ~ N(0, 1)
matrix W ~ N(0, 1)
|x[i]> = tanh(xi[i] |u> + |b>)
{first}
|y[i]> = tanh(W |x[i]> + W |x[1]>)
output g[i] = <x[i]|W^T|y[i]>
"""

TRAINED = """
axis i : 2
data xi[i] = [0.9, 0.7]
data y[i] = [-1, -1.5]
ket |u> ~ N(0, 1)
matrix W ~ N(0, 1)
ket |v> ~ N(1, 1)
train steps = 2 {
    |x[i]> = xi[i] |u>
    f[i] = <v|tanh(W |x[i]> + W |x[1]> + 0.5)>
    size[i] = <x[i]|x[i]>
    loss = mean[i]((f[i] - y[i])^2) / 2
    minimize loss
    update |u>, W, |v> with SGD(lr = 0.5)
}
output f[step,i]
output size[step,i]
"""

MEMBERS = """
axis l : 4
ket |x> ~ N(0, 1)
matrix A[l] ~ N(0, 1)
|y> = tanh(A[3]^T |x>)
|z[l]> = A[l] |y>
output o[l] = <z[l]|x>
"""

BOTH = """
axis l : 3
ket |x> ~ N(0, 1)
matrix A[l] ~ N(0, 1)
|z[l]> = A[l] |x>
|y[l]> = tanh(|z[l]> + A[2] |x>)
output o[l] = <x|A[l]^T|y[l]>
"""

STACKED = """
axis i : 2
axis s : 3
data xi[i,s] = [[0.9, -0.4, 0.3], [0.1, 0.2, 0.3]]
ket |u> ~ N(0, 1)
matrix W ~ N(0, 1)
|a[i,s]> = xi[i,s] |u>
|h[i,1]> = tanh(|a[i,1]> + 0.2)
for s in 2..3 { |h[i,s]> = tanh(W |h[i,s-1]> + |a[i,s]>) }
|o[i,s]> = tanh(W |h[i,s]>)
output q[i] = mean[s](<h[i,s]|W^T|o[i,s]>)
"""


@pytest.mark.parametrize(
    "text",
    [OVERLAP.format(first=""), OVERLAP.format(first="|w> = W |x[1]>"), MEMBERS, BOTH, STACKED],
    ids=["overlap", "special first", "members", "both", "stacked"],
)
def test_products_that_meet(text: str) -> None:
    agrees(text, 256, runs=4)


def test_every_product_has_one_hat() -> None:
    """No two products of a system are one at some member."""
    for text in (OVERLAP.format(first="|w> = W |x[1]>"), TRAINED, BOTH, STACKED):
        hats = [e.hat.symbol for e in tpc.derive(text) if e.hat is not None]
        for k, one in enumerate(hats):
            for other in hats[:k]:
                same = one.args[0] == other.args[0] and one.transposed == other.transposed
                if same and one.argument.label == other.argument.label:
                    pairs = zip(
                        (*one.member, *one.argument.indices), (*other.member, *other.argument.indices), strict=True
                    )
                    assert any(a.is_Integer and b.is_Integer and a != b for a, b in pairs), (text, one, other)


def test_training_with_products_that_meet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two steps of SGD; with two families for one product, the literal derivative is counted twice."""
    wanted = {name: np.asarray(e.value) for name, e in tpc.limit(TRAINED, samples=4096).outputs.items()}

    def read(name: str) -> tuple[np.ndarray, np.ndarray]:
        found = [Reading(tpc.derive(TRAINED), 512, seed, literal=True).output(name) for seed in range(4)]
        return np.mean(found, axis=0) - wanted[name], np.std(found, axis=0, ddof=1) / 4**0.5

    for name in wanted:
        away, stderr = read(name)
        np.testing.assert_array_less(np.abs(away), 8 * stderr + 6e-3)
    monkeypatch.setattr(sys.modules["tp_compiler.equations.derive"], "meeting", lambda met, known: known)
    planted, stderr = read("size")
    assert np.abs(planted[1]).max() > 8 * stderr[1].max() + 6e-3


def test_delta_of_a_family_of_matrices() -> None:
    """Ȧ_l|y> = δ_{l,3} |x> E[∂|y>/∂Â₃ᵀ|x>]."""
    text = tpc.derive(MEMBERS).unicode()
    assert "Ȧ_l|y⟩ = δ_{l,3} |x⟩ E[∂|y⟩/∂Â_3ᵀ|x⟩]" in text


def test_declared_indices_stay() -> None:
    text = "axis i, j : 2\nket |x[i]> ~ N(0, 1)\nket |g> ~ N(0, 1)\noutput o[i,j] = <x[i]|abs(x[i]) * g>\n"
    assert "o_{i,j} = " in tpc.derive(text).unicode()
    text = "axis i, j : 2\nket |x[i]> ~ N(0, 1)\n|y[i]> = tanh(|x[i]>)\noutput o[i,j] = <x[i]|y[i]>\n"
    assert "o_{i,j} = " in tpc.derive(text).unicode()


def test_an_optimizers_update_is_no_gradient() -> None:
    """dW_t is the gradient everywhere; blocks have sizes, and the range of every index is stated."""
    muon = tpc.derive(str(EXAMPLES / "muon.nexort")).unicode()
    assert "dW_t" not in muon and "ΔW_t = " in muon and "⟩⟨z" in muon
    assert "m ≤ 4, r ≤ 3; |right^W_{t+1,m,r}⟩, m ≤ 4, r ≤ 3)" in muon and "b = 1, …, 8" in muon
    adam = tpc.derive(str(EXAMPLES / "train_mlp.nexort")).unicode()
    assert "dW_t⁽⁰¹⁾ = Σ_i |dh_{t,i}⟩ |z1_{t,i}⟩⁽¹⁾" in adam


@pytest.mark.slow
def test_an_update_entry_by_entry() -> None:
    nero = tpc.derive(str(EXAMPLES / "nero.nexort")).unicode()
    assert "dW_t" not in nero and "step^W_t⁽⁰¹⁾ = " in nero
