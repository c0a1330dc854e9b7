"""Weights of particles: two equal particles are one of weight 2; differences along directions are the fluctuations of networks."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest

import tp_compiler as tpc
from tp_compiler.diagnostics import Diagnostic
from tp_compiler.evaluate.options import Options
from tp_compiler.evaluate.sampling.averages import Averages, Sizes, WeightedAverages
from tp_compiler.evaluate.sampling.blocks import Blocks
from tp_compiler.evaluate.sampling.clt import CltScalars
from tp_compiler.evaluate.sampling.conditioning.directions import orthonormal
from tp_compiler.evaluate.sampling.merge_equal_nodes import shared
from tp_compiler.evaluate.sampling.outer import OuterNonlin
from tp_compiler.evaluate.sampling.plan import SamplingPlan
from tp_compiler.evaluate.sampling.points import Points
from tp_compiler.evaluate.sampling.replicate import Replication
from tp_compiler.evaluate.sampling.tiles import Tile
from tp_compiler.evaluate.sampling.weighted import WeightedSampler

ROOT = Path(__file__).resolve().parents[3]
M = 64

STATISTICS = """
width m = 2
axis i : 2
ket |u[i]> ~ N(0, 1)
ket |v> : m ~ N(0, 1)
matrix W : m x n ~ N(0, 1)
train steps = 3 {
    |h[i]> = W tanh(|u[i]>)
    f[i] = <v|tanh(h[i])>
    loss = mean[i]((f[i] - 1)^2)
    minimize loss
    update |u>, W, |v> with LAMB(lr = 0.1, eps = 0.05)
}
output f[step,i] = <v|tanh(W tanh(|u[i]>))>
"""

COPIES = """
width m = 2
ket |x> : m ~ N(0, 1)
ket |u> ~ N(0, 1)
matrix W : m x n ~ N(0, 1)
|h> = W |u>
|y> = E[1](tanh(|h> * |x@1> + |h@1>))
output mean = <y|h>
output rows = <E[1](tanh(|h@1> - |h>))>
|k> = W^T |y>
output back = <k|tanh(k)>
"""


class OnHalves(Replication):
    """The first half of the particles of even spaces, and the second of odd ones."""

    def _points(self, run: int, number: int, bound: int) -> Points:
        p = self.particles
        return Points(p.full, (*p.seeds[run], number), bound, p.plain, number % 2, self.kept, p.backend)


def differences(text: str, only: Iterable[str] | None = None) -> dict[str, float]:
    """How far a run with particles of weight 2 and 0 is from one with half of the particles, relative to the size of its outputs."""
    program = shared(tpc.compile(text))
    names = {o.name for o in program.outputs if not o.node.type.random and (only is None or o.name in only)}
    plan = SamplingPlan(program, names)
    weights = {s: np.repeat([2.0 * (s % 2 == 0), 2.0 * (s % 2)], M // 2)[None] for s in set(plan.neurons.values())}
    half = OnHalves(plan, M, [(0, 0)], False, halves=(0,), pairing=None).outputs_given(CltScalars())
    weighed = Replication(plan, M, [(0, 0)], False, averages=WeightedAverages(weights), pairing=None)
    found = {}
    for name, value in weighed.outputs_given(CltScalars()).items():
        ours = half[name]
        assert not isinstance(value, Diagnostic) and not isinstance(ours, Diagnostic), name
        found[name] = np.abs(value - ours).max(initial=0.0) / max(1.0, np.abs(ours).max(initial=0.0))
    return found


EXAMPLES = {path.stem: path.read_text(encoding="utf-8") for path in sorted((ROOT / "examples").glob("*.nexort"))}
#: Averages over several copies pair them in an order that depends on their number.
PAIRED = {"outer_nonlin": ("a", "rank")}


@pytest.mark.parametrize("name", [*EXAMPLES, "statistics", "copies"])
def test_a_particle_of_weight_two_is_two_particles(name: str) -> None:
    text = EXAMPLES.get(name) or {"statistics": STATISTICS, "copies": COPIES}[name]
    found = differences(text, PAIRED.get(name))
    assert found == pytest.approx(dict.fromkeys(found, 0.0), abs=1e-5 if "Adam" in text or "LAMB" in text else 1e-9)


def _unweighed(monkeypatch: pytest.MonkeyPatch, home: str) -> None:
    """Leaves the weights out of one home of averages."""

    def plain(self: WeightedAverages, x: np.ndarray, y: np.ndarray, *sizes: Sizes | None) -> np.ndarray:
        return Averages().inner(x, y, *sizes)

    if home == "inner":
        monkeypatch.setattr(WeightedAverages, "inner", plain)
    elif home == "brackets":
        monkeypatch.setattr(Replication, "_weighed", lambda self, node, arrays, of: (arrays, of))
    elif home == "norms":
        monkeypatch.setattr(WeightedAverages, "norms", lambda self, x: Averages().norms(x))
    elif home == "entries":
        monkeypatch.setattr(Tile, "_weights", lambda self, node: [])
    elif home == "copies":
        monkeypatch.setattr(OuterNonlin, "weights", lambda self, args, met: [])
    elif home == "spaces":  # those of another space
        monkeypatch.setattr(WeightedAverages, "of", lambda self, k: WeightedAverages(self.spaces, self.spaces[1 - k]))
    elif home == "updates":
        before = Blocks.apply

        def apply(self, state, member, x, transposed):  # type: ignore[no-untyped-def]
            weights = self.run.over(state, 0 if transposed else self.slot).weights
            x = x if weights is None else x / np.where(weights > 0, weights, 1.0)[:, :, None]
            return before(self, state, member, x, transposed)

        monkeypatch.setattr(Blocks, "apply", apply)


@pytest.mark.parametrize(
    ("home", "text"),
    [
        ("inner", EXAMPLES["tied_weights"]), ("inner", EXAMPLES["muon"]), ("brackets", EXAMPLES["mlp"]), ("spaces", EXAMPLES["mlp"]),
        ("entries", STATISTICS), ("updates", STATISTICS), ("copies", COPIES),
    ],
)  # fmt: skip
def test_an_average_without_weights_is_seen(home: str, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    _unweighed(monkeypatch, home)
    assert max(differences(text).values()) > 1e-4


#: Outputs, and what is known of their Σ and b: of a norm, 2 E tr S⁴ and ρ, with S = WᵀW of ratio ρ = 2. The kets |u[i]> have equal
#: norms, so that their principal directions are arbitrary.
KNOWN = {
    "square": ("ket |x> ~ N(1, 1)\noutput f = <x>^2", 4.0, 1.0),
    "rectangular": (
        "width m = 4\nket |u> ~ N(0, 1)\nket |v> : m ~ N(0, 1)\nmatrix W : m x n ~ N(0, 1)\noutput f = <v|W u>", 0.25, 0.0,
    ),
    "norm": (
        "width m = 2\nket |u> ~ N(0, 1)\nmatrix W : m x n ~ N(0, 1)\n|g> = W^T W |u>\noutput f = <g|g>", 180.0, 2.0,
    ),
    "readout": (
        "axis i : 2\nket |u[i]> ~ N(0, 1)\nket |v> ~ N(0, 1)\nmatrix W ~ N(0, 1)\n|h[i]> = W |u[i]>\noutput f = <v|tanh(h[1])>",
        0.394294, 0.0,
    ),
}  # fmt: skip


def statistics(text: str, samples: int, scramblings: int, directions: int) -> tuple[np.ndarray, ...]:
    """Σ, its error, b and its error, of the entries of f."""
    found = WeightedSampler(tpc.compile(text), ["f"], Options()).runs(samples, range(scramblings), range(directions))
    base, plus, minus = found.base["f"][:, None], found.plus["f"], found.minus["f"]
    first = samples * np.square((plus - minus) / (2 * found.step))
    second = samples * (plus + minus - 2 * base) / (2 * found.step**2)
    own = [x.reshape(scramblings * directions, -1) for x in (first, second)]
    parts = [part for x in own for part in (x.mean(axis=0), x.std(axis=0) / np.sqrt(len(x)))]
    return tuple(parts)


@pytest.mark.parametrize("name", KNOWN)
def test_directions_give_the_spread_and_the_bias(name: str) -> None:
    text, spread, bias = KNOWN[name]
    (sigma,), (error,), (b,), (b_error,) = statistics(text, 1024, 16, 32)
    assert abs(sigma - spread) < 4 * error < 0.5 * spread
    assert abs(b - bias) < 4 * b_error < 6 * max(1.0, np.sqrt(spread))


def test_directions_that_are_not_aligned_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(WeightedAverages, "aligned", Averages.aligned)
    text, spread, _ = KNOWN["readout"]
    (sigma,), (error,), _, (b_error,) = statistics(text, 1024, 16, 32)
    assert abs(sigma - spread) > 4 * error and b_error > 0.5


def test_kets_of_particles_without_weight_are_zero_directions() -> None:
    """A ket that weights hide keeps its place, and the other directions stay orthonormal."""
    generator = np.random.default_rng(0)
    x = np.repeat(generator.standard_normal((1, M, 2)), 2, axis=0)
    x[:, M // 2 :, 1] = 0.0  # the second ket lives where the second run has no weights
    weights = np.stack([np.ones(M), np.repeat([0.0, 2.0], M // 2)])
    averages = WeightedAverages({0: weights}).of(0)
    for kets in (x, x * np.array([1.0, 1e-7])):
        found, sizes = orthonormal(kets, averages.norms(kets), 1e-11, averages)
        gram = averages.inner(found, found)
        assert sizes == (2, 2)
        np.testing.assert_allclose(gram[0], np.eye(2), atol=1e-9)
        np.testing.assert_allclose(np.linalg.eigvalsh(gram[1]), [0.0, 1.0], atol=1e-9)
        np.testing.assert_allclose(found[1] @ averages.inner(found, kets)[1], kets[1] * [1.0, 0.0], atol=1e-9)


#: A norm of features, which do not move in the limit, and move by n^-1/2 in networks.
KERNEL = """
parametrization ntk
ket |u> ~ N(0, 1)
ket |v> ~ N(0, 1)
train steps = 2 {
    |x> = tanh(|u>)
    g = clt <v|x>
    minimize (g - 1)^2
    update |u>, |v> with SGD(lr = 0.1)
}
output f = <tanh(u)|tanh(u)>
"""

#: Programs, the word of the message that names what stands against their f, and whether only the bias is left out.
NOT_KNOWN = {
    "clt": ("ket |u> ~ N(0, 1)\nket |v> ~ N(0, 1)\noutput f = clt <v|u>", "clt", False),
    "kernel regime": (KERNEL, "tangent", False),
    "signs": (
        "ket |u> ~ N(0, 1)\nmatrix B ~ rademacher(1)\noutput f = <B u|tanh(B u)>",
        "fourth moment of the entries of `B`",
        True,
    ),
    "copies": ("ket |u> ~ N(0, 1)\noutput f = <E[1,2](relu(|u> + |u@1> * |u@2>))>", "copies", True),
}


@pytest.mark.parametrize("name", NOT_KNOWN)
def test_what_is_not_known_is_named(name: str) -> None:
    text, word, only_bias = NOT_KNOWN[name]
    found = WeightedSampler(tpc.compile(text), ["f"], Options())
    told = found.biased if only_bias else found.refused
    assert word in told["f"].message and told["f"].code == ("NX935" if only_bias else "NX934")
    assert (only_bias and not found.refused) or not only_bias


def test_shards_are_named() -> None:
    found = WeightedSampler(tpc.compile(KNOWN["square"][0]), ["f"], Options(shards=2))
    assert "shards" in found.refused["f"].message


MLP = """
axis i : 3
axis d : 3
data xi[i,d] = [[0.9, -0.4, 1.3], [-0.7, 1.1, 0.3], [0.5, 0.8, -0.6]]
data y[i]    = [1.0, -0.5, 0.25]
ket    |u[d]> ~ N(0, 1)
matrix W      ~ N(0, 1)
ket    |v>    ~ N(0, 1)
def mlp(x[d]) {
    |h> = W tanh(sum[d](x[d] |u[d]>) / sqrt(3))
    return <v|tanh(h)>
}
train steps = 5 {
    f[i] = mlp(xi[i,d])
    minimize mean[i]((f[i] - y[i])^2) / 2
    update |u>, W, |v> with SGD(lr = 0.8)
}
output f[i] = mlp(xi[i,d])
"""


@pytest.mark.slow
def test_training_has_the_spread_that_reverse_mode_finds() -> None:
    """An independent engine on particles with reverse mode: .149 .112 .164 (±.0002); b from directions: -.47 .28 -.17 (±.04)."""
    sigma, error, b, b_error = statistics(MLP, 1024, 16, 32)
    assert (np.abs(sigma - [0.149, 0.112, 0.164]) < 4 * error).all()
    assert (error < 0.07 * sigma).all()
    assert (np.abs(b - [-0.47, 0.28, -0.17]) < 4 * np.hypot(b_error, 0.04)).all()
    assert (b_error < 0.05).all()


@pytest.mark.slow
def test_two_pairings_give_the_spread_under_adam() -> None:
    """An independent engine with two pairings and reverse mode: .222 .183 .142 (±.0002)."""
    text = MLP.replace("SGD(lr = 0.8)", "Adam(lr = 0.08, eps = 0.05)").replace("steps = 5", "steps = 4")
    sampler = WeightedSampler(tpc.compile(text), ["f"], Options())
    assert sampler.in_blocks
    one, other = (sampler.runs(1024, range(16), range(16), pairing) for pairing in (0, 1))
    first, second = (((r.plus["f"] - r.minus["f"]) / (2 * r.step)).reshape(-1, 3) for r in (one, other))
    assert not np.allclose(first, second)
    products = 1024 * first * second
    error = products.std(axis=0) / np.sqrt(len(products))
    assert (np.abs(products.mean(axis=0) - [0.222, 0.183, 0.142]) < 4 * error).all()
    assert (error < 0.03).all()
