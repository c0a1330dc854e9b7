"""From runs along directions to Σ and b: against laws that are known, without a sampler of programs."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import pytest

from tp_compiler.diagnostics import Diagnostic
from tp_compiler.evaluate import fluctuations as rounds
from tp_compiler.evaluate.options import Options
from tp_compiler.evaluate.sampling.weighted import Runs
from tp_compiler.evaluate.width_statistics import Differences, covariance, mean, sizes, together
from tp_compiler.results import Array, Fluctuations

#: A function of the weights (rows, particles) and of normal particles (particles, 2) of one space.
Average = Callable[[Array, Array], Array]


NOTHING = rounds.Predicted()


@dataclass
class Fake:
    """Particles are independent of one another, so that their noise is larger than that of a real sampler."""

    functions: Mapping[str, Average]
    size: float = 0.5
    in_blocks: bool = False
    differentiable: bool = False
    refused: Mapping[str, Diagnostic] = field(default_factory=dict)
    biased: Mapping[str, Diagnostic] = field(default_factory=dict)
    asked: list[tuple[int, float | None]] = field(default_factory=list)
    done: dict[tuple[int, float | None], int] = field(default_factory=dict)

    def influences(self, samples: int, scramblings: range) -> dict[str, Array]:
        """Of f = <x>² with x ~ N(1, 1): 2 (x - 1)."""
        return {"f": np.array([2 * _normal(samples, r)[:, 0] for r in scramblings])[:, None] / math.sqrt(samples)}

    def step(self, samples: int) -> float:
        return self.size

    def runs(
        self,
        samples: int,
        scramblings: range,
        directions: range,
        pairing: int | None = None,
        step: float | None = None,
    ) -> Runs:
        asked = (samples, pairing) if step is None else (samples, step)
        self.asked.append(asked)
        assert directions.start == self.done.get(asked, 0), "every direction once"
        self.done[asked] = directions.stop
        found = Runs(samples, self.size if step is None else step)
        for name, function in self.functions.items():
            base, plus, minus = [], [], []
            for r in scramblings:
                points = _normal(samples, r)
                signs = np.array([np.random.default_rng([r, k, 2]).choice([-1.0, 1.0], samples) for k in directions])
                weights = [1 + s * found.step * signs for s in (1, -1)]
                weights = [w / w.mean(axis=1, keepdims=True) for w in weights]
                base.append(function(np.ones((1, samples)), points)[0])
                plus.append(function(weights[0], points))
                minus.append(function(weights[1], points))
            found.base[name], found.plus[name], found.minus[name] = (np.array(x) for x in (base, plus, minus))
        return found


def _normal(samples: int, r: int) -> Array:
    """Normal points whose means and covariances are exact, as those of a scrambled sequence nearly are."""
    points = np.random.default_rng([r, samples]).standard_normal((samples, 2))
    points -= points.mean(axis=0)
    return np.asarray(points @ np.linalg.inv(np.linalg.cholesky(points.T @ points / samples)).T)


def _square(w: Array, z: Array) -> Array:
    return np.asarray((w @ (1 + z[:, 0]) / w.shape[1]) ** 2)


def _both(w: Array, z: Array) -> Array:
    """<x>² and <x><y> for x ~ N(1, 1), y ~ N(2, 1)."""
    x, y = ((w @ (m + z[:, k])) / w.shape[1] for k, m in ((0, 1.0), (1, 2.0)))
    return np.stack([x**2, x * y], axis=1)


def _limit(**functions: Average) -> rounds.Predicted:
    return rounds.by_directions(Fake(functions), list(functions), Options(), NOTHING)


def test_the_square_of_a_mean() -> None:
    """F = <x>² with x ~ N(1, 1): F_n = (1 + g/√n)² has n Var = 4 and n (E - 1) = 1."""
    found = _limit(f=_square).each["f"]
    assert found.sigma is not None and found.bias is not None
    assert found.sigma_stderr is not None and found.bias_stderr is not None
    assert abs(found.sigma[0, 0] - 4) < 4 * found.sigma_stderr[0, 0] < 4 * 0.4
    assert abs(found.bias[0] - 1) < 4 * found.bias_stderr[0] < 4 * 0.2


def test_covariances_of_entries_and_of_outputs() -> None:
    """With gradients (2, 0) of <x>² and (2, 1) of <x><y> in (<x>, <y>): Σ = ((4, 4), (4, 5)), b = (1, 0)."""
    found = _limit(pair=_both, f=_square)
    own, crossed = found.each["pair"], found.crossed["pair", "f"]
    assert own.sigma is not None and own.sigma_stderr is not None and own.bias is not None and crossed.sigma is not None
    assert (np.abs(own.sigma - [[4, 4], [4, 5]]) < 4 * own.sigma_stderr).all()
    assert own.bias_stderr is not None and (np.abs(own.bias - [1, 0]) < 4 * own.bias_stderr).all()
    assert crossed.sigma.shape == (2, 1) and crossed.bias is None
    np.testing.assert_allclose(crossed.sigma[:, 0], [4, 4], rtol=0.4)


def test_a_constant_does_not_fluctuate() -> None:
    found = _limit(one=lambda w, z: w.mean(axis=1)).each["one"]
    assert found.constant and found.sigma_stderr is not None and not found.sigma_stderr.any()


def _mean(w: Array, z: Array) -> Array:
    return np.asarray(w @ z[:, 0] / w.shape[1])


#: Functions of averages with a kink or a jump where these are: of a normal number x/√n, E |x| = √(2/π), and b is not of order one.
WILD: dict[str, Average] = {
    "kink": lambda w, z: np.abs(_mean(w, z)),
    "half": lambda w, z: np.maximum(_mean(w, z), 0.0),
    "largest": lambda w, z: np.maximum(w @ z[:, 0], w @ z[:, 1]) / w.shape[1],
    "jump": lambda w, z: (_mean(w, z) > 0) + 0.0,
    "beside smooth": lambda w, z: 5 * np.abs(_mean(w, z)) + 20 * _mean(w, z) ** 2,
    "small entry": lambda w, z: np.stack([1000 * _square(w, z), np.abs(_mean(w, z))], axis=1),
    "small spread": lambda w, z: _mean(w, z) + 0.2 * np.abs(w @ z[:, 1]) / w.shape[1],
}


@pytest.mark.parametrize("name", WILD)
def test_what_is_larger_than_one_over_n_is_not_reported(name: str) -> None:
    """|<z>| has the mean √(2/πn) in networks, and a law that is not Gaussian: neither b nor Σ."""
    found = _limit(kink=WILD[name], f=_square)
    assert found.each.keys() == {"f"} and found.each["f"].bias is not None and not found.crossed
    assert [d.code for d in found.warnings] == ["NX933"] and "`kink`" in found.warnings[0].message


def test_what_is_known_of_it_is_left_out_too() -> None:
    one, cross = np.ones((1, 1)), Fluctuations(np.ones((1, 1)), np.zeros((1, 1)))
    known = rounds.Predicted({"kink": Fluctuations(one, 0 * one)}, {("kink", "f"): cross})
    fake = Fake({"kink": WILD["kink"], "f": _square})
    assert rounds.by_directions(fake, ["kink", "f"], Options(), known).each.keys() == {"f"}


def test_products_that_vanish_are_of_second_order() -> None:
    """<x>² with <x> = 0: Σ = 0 and b = 1, which is a law of order 1/n and no kink."""
    found = _limit(f=lambda w, z: _mean(w, z) ** 2)
    moves = found.each["f"]
    assert not found.warnings and moves.sigma is not None and moves.sigma[0, 0] < 1e-6
    assert moves.bias is not None and moves.bias_stderr is not None
    assert abs(moves.bias[0] - 1) < 4 * moves.bias_stderr[0] < 0.5


def test_the_number_of_directions_follows_from_the_error() -> None:
    easy, hard = Fake({"one": lambda w, z: w.mean(axis=1)}), Fake({"f": _square})
    for fake in (easy, hard):
        rounds.by_directions(fake, list(fake.functions), Options(), NOTHING)
    assert len(easy.asked) == 3 < len(hard.asked)
    assert {m for m, _ in hard.asked} == {4096, 1024}


def test_the_time_limit_ends_it_after_a_round() -> None:
    fake = Fake({"f": _square})
    found = rounds.by_directions(fake, ["f"], Options(max_time=0.0), NOTHING)
    assert len(fake.asked) == 3 and [d.code for d in found.warnings] == ["NX911"]
    assert found.each["f"].sigma_stderr is not None and found.each["f"].sigma_stderr[0, 0] > 0.4


def test_matrices_kept_by_entries_have_two_pairings_and_a_bias_of_all_entries() -> None:
    fake = Fake({"one": lambda w, z: w.mean(axis=1)}, in_blocks=True)
    assert rounds.by_directions(fake, ["one"], Options(), NOTHING).each["one"].constant
    assert fake.asked == [(4096, 0), (4096, 1), (256, None), (256, 0.25), (1024, None)]


def test_where_sigma_is_known_only_the_bias_is_sampled() -> None:
    known = rounds.Predicted({"f": Fluctuations(np.array([[4.0]]), np.zeros((1, 1)))})
    fake = Fake({"f": _square})
    found = rounds.by_directions(fake, ["f"], Options(), known).each["f"]
    assert found.sigma is not None and found.sigma[0, 0] == 4 and fake.done[256, None] == 4 * fake.done[1024, None] > 0
    assert found.bias is not None and found.bias_stderr is not None
    assert abs(found.bias[0] - 1) < 4 * found.bias_stderr[0] < 0.8


def test_numbers_that_are_not_finite_are_refused() -> None:
    """Weights are 0 where 1 - ε ξ is, for ε = 1: a division by them is not a number."""

    def broken(w: Array, z: Array) -> Array:
        with np.errstate(all="ignore"):
            return np.asarray(np.where(w.min(axis=1) == 0, np.nan, 1.0))

    fake = Fake({"bad": broken, "f": _square}, size=1.0)
    found = rounds.by_directions(fake, ["bad", "f"], Options(), NOTHING)
    assert found.each.keys() == {"f"} and [d.code for d in found.warnings] == ["NX932"]
    assert "`bad` were not computed: a limit along a direction is not finite" in found.warnings[0].message


@pytest.mark.torch
def test_derivatives_are_asked_for_with_torch_alone() -> None:
    pytest.importorskip("torch")
    fake = Fake({"f": _square}, differentiable=True)
    assert rounds.by_derivatives(fake, NOTHING, Options()) is NOTHING
    found = rounds.by_derivatives(fake, NOTHING, Options(backend="torch")).each["f"]
    assert found.sigma is not None and found.sigma_stderr is not None
    assert abs(found.sigma[0, 0] - 4) < 1e-9 and found.sigma_stderr[0, 0] < 1e-9


def test_what_the_sampler_refuses_is_left_out_and_said() -> None:
    why = {"g": Diagnostic("NX930", "`g` is not for directions")}
    biased = {"f": Diagnostic("NX930", "`f` has entries that are not normal")}
    fake = Fake({"f": _square}, refused=why, biased=biased)
    found = rounds.by_directions(fake, ["f", "g"], Options(), NOTHING)
    assert found.each.keys() == {"f"} and found.each["f"].bias is None
    assert [*found.warnings] == [why["g"], biased["f"]]


# -- the statistics alone ------------------------------------------------------------------------------------------
def test_standard_errors_are_those_of_repetitions() -> None:
    """The spread of 400 estimates is what each says of itself."""
    rng = np.random.default_rng(1)
    drawn = rng.standard_normal((400, 8, 16, 1)) * 1.5
    sigmas, errors = zip(*(covariance(x, x) for x in drawn), strict=True)
    assert np.mean(sigmas) == pytest.approx(2.25, rel=0.02)
    assert np.sqrt(np.mean(np.square(errors))) == pytest.approx(np.std(sigmas), rel=0.25)
    means, noise = zip(*(mean(x) for x in drawn), strict=True)
    assert np.sqrt(np.mean(np.square(noise))) == pytest.approx(np.std(means), rel=0.25)


def test_scramblings_that_differ_count() -> None:
    """Directions alone would say 1.5/√128; the scramblings have deviations of 1."""
    rng = np.random.default_rng(2)
    x = rng.standard_normal((8, 16, 1)) + rng.standard_normal((8, 1, 1))
    (_, error) = mean(x)
    assert error[0] == pytest.approx(x.mean(axis=1).std(ddof=1) / math.sqrt(8))


def test_differences_are_scaled_by_particles_and_step() -> None:
    base, plus, minus = (np.full((2, 3), v) if k else np.full(2, v) for k, v in enumerate((1.0, 1.2, 1.1)))
    found = Differences.of(base, plus, minus, 100, 0.5)
    np.testing.assert_allclose(found.first, np.full((2, 3, 1), 10 * 0.1))
    np.testing.assert_allclose(found.second, np.full((2, 3, 1), 100 * 0.3 / 0.5))
    assert found.and_more(found).first.shape == (2, 6, 1)


def test_two_biases_are_put_together_by_their_errors() -> None:
    value, error = together((np.array([1.0]), np.array([0.1])), (np.array([2.0]), np.array([0.2])))
    assert value == pytest.approx(1.2) and error == pytest.approx(math.hypot(0.8 * 0.1, 0.2 * 0.2))


def _differences(first: float, second: float, noise: float, seed: int) -> Differences:
    """64 directions each of 8 scramblings."""
    x = np.random.default_rng(seed).standard_normal((2, 8, 64, 1))
    return Differences(first * x[0], second + noise * x[1])


def test_spreads_and_biases_agree_within_their_errors() -> None:
    one = _differences(1, 0.5, 1.0, 0)
    assert one.agrees(_differences(1, 0.5, 1.0, 1)) and one.agrees_along(_differences(1, 0.52, 1.0, 0))
    assert not one.agrees(_differences(2, 0.5, 1.0, 1)) and not one.agrees(_differences(1, 1.0, 1.0, 1))
    assert not one.agrees_along(_differences(1.1, 0.5, 1.0, 0)) and not one.agrees_along(_differences(1, 0.6, 1.0, 0))


def test_entries_have_their_own_size_unless_they_are_rounding() -> None:
    found = sizes(np.array([1e4, -3.0, 0.0, 1e-9]), np.array([1.0, 4.0, 25.0, 0.0]))
    np.testing.assert_allclose(found, [1e4, 3.0, 5.0, 1e-2])
