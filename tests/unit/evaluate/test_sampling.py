"""The ladder of samples: halves, copies, tails and events that no particle has met."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest
from scipy.special import ndtr

import tp_compiler as tpc
from tp_compiler.evaluate.options import Options
from tp_compiler.evaluate.sampling.clt import CltScalars
from tp_compiler.evaluate.sampling.plan import SamplingPlan
from tp_compiler.evaluate.sampling.points import Points, Sequences, copied
from tp_compiler.evaluate.sampling.qmc import Sampling
from tp_compiler.evaluate.sampling.replicate import Replication

KET = "ket |x> ~ N(0, 1)\nket |y> ~ N(0, 1)\nmatrix W ~ N(0, 1)\n"


@pytest.mark.parametrize("half", [None, 0, 1])
def test_coordinates_do_not_depend_on_portions_or_on_what_was_drawn_before(half: int | None) -> None:
    """Points are kept from one size to the next, and become Gaussian when they are drawn: of three sequences here."""
    kept, rng = Sequences(), np.random.default_rng(3)
    for samples, most in ((32, 10), (64, 300), (64, 140), (2048, 40), (256, 300)):
        points, parts = Points(samples, (5, 6), 300, half=half, kept=kept), []
        while sum(part.shape[1] for part in parts) < most:
            parts.append(points.draw(int(rng.integers(0, 9))))
        found = np.concatenate(parts, axis=1)
        assert np.array_equal(found, Points(samples, (5, 6), 300, half=half).draw(found.shape[1]))


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("count", [3, 200, 600])
def test_halves_are_the_first_and_the_second_half_of_the_points(plain: bool, count: int) -> None:
    whole, first, second = (Points(64, (1, 2), count, plain, half).draw(count) for half in (None, 0, 1))
    assert np.array_equal(np.concatenate([first, second]), whole)


def test_sequences_are_nets_of_their_own() -> None:
    """Every coordinate has one point in each of M intervals of equal probability, and those of different sequences are
    independent: their products have mean 0 and variance 1/M."""
    points = Points(256, (3, 4), 800).draw(800)
    for column in np.sort(ndtr(points), axis=0).T:
        assert np.array_equal(np.floor(256 * column), np.arange(256))
    assert len({tuple(column) for column in points.T}) == 800
    products = points.T @ points / 256
    for one, other in ((0, 1), (1, 2), (2, 3), (2, 5), (4, 5)):
        block = products[128 * one : 128 * (one + 1), 128 * other : 128 * (other + 1)]
        assert np.sqrt(np.mean(block**2)) == pytest.approx(1 / 16, rel=0.1)


def test_halves_of_an_average_add_up_and_those_of_its_square_do_not() -> None:
    text = f"{KET}output m = <tanh(x)|x + y>\noutput s = <exp(x)>^2"
    sampling = Sampling(tpc.compile(text), Options(method="qmc", samples=64), {"m", "s"}, {})
    sampling.run()
    level = sampling.levels[-1]
    assert level.halves["m"] == pytest.approx(level.values["m"][:4], rel=1e-12)
    assert np.abs(level.halves["s"] / level.values["s"][:4] - 1).max() > 1e-6


@pytest.mark.parametrize(
    ("text", "sizes"),
    [
        ("output o = <tanh(x)|x>", [32, 64, 256]),
        ("g = clt <y|x>\noutput o = <tanh(g * x)|x>", [32, 64, 128, 256]),
        ("output o = <E[1](tanh(|x> + |x>@1))|x>", [32, 64, 128, 256]),
    ],
)
def test_half_of_the_size_is_left_out_where_halves_show_the_same(text: str, sizes: list[int]) -> None:
    sampling = Sampling(tpc.compile(KET + text), Options(method="qmc", samples=256), {"o"}, {})
    sampling.run()
    assert [level.samples for level in sampling.levels] == sizes


def test_separate_copies_are_averaged_one_by_one() -> None:
    run = tpc.limit(f"{KET}|a> = E[1,2]((|x>@1)^2 * (|x>@2)^2 * |x>^2)\noutput m = <a>", method="qmc", samples=1024)
    assert abs(run["m"] - 1) < 6 * run.outputs["m"].stderr + 1e-3


def test_copies_of_one_average_are_independent() -> None:
    """E cos(x₁ x₂ y) = E exp(-(x₂ y)²/2) = E (1 + y²)^(-1/2), by a sum over a grid."""
    run = tpc.limit(f"{KET}|a> = E[1,2](cos(|x>@1 * |x>@2 * |y>))\noutput m = <a>", method="qmc", samples=1024)
    z = np.linspace(-9, 9, 2001)
    w = np.exp(-(z**2) / 2) / np.exp(-(z**2) / 2).sum()
    exact = w @ (1 / np.sqrt(1 + z**2))
    assert abs(run["m"] - exact) < 6 * run.outputs["m"].stderr + 1e-4


@pytest.mark.parametrize("event", ["step(x - 6)", "relu(x - 6)"])
def test_an_event_that_no_particle_has_met_has_an_error(event: str) -> None:
    run = tpc.limit(f"{KET}output m = <{event}>", method="qmc", samples=256)
    assert run["m"] == 0
    assert run.outputs["m"].stderr == pytest.approx(1 / 256 / np.sqrt(8))


def test_a_heavy_tail_is_judged_by_all_samples_and_leaves_other_outputs() -> None:
    run = tpc.limit(
        f"{KET}output m = <1/abs(x)>\noutput f = sqrt(<1/abs(x)>)\noutput n = <x|x>", method="qmc", max_samples=2**13
    )
    assert run.failed["m"].code == run.failed["f"].code == "NX441"
    assert run.settings["samples"] == 2**13
    assert abs(run["n"] - 1) < 1e-3


def test_an_error_that_does_not_fall_is_a_failure() -> None:
    """exp(x W y ..): a moment carried by rarer and rarer events, which no one average shows as a tail index of 1."""
    text = f"{KET}|z> = W |x>\noutput m = <exp((z*y)^2 / 6)|exp((x*z)^2 / 6)>"
    assert tpc.limit(text, method="qmc", samples=4096).failed["m"].code == "NX441"


def test_a_copied_generator_goes_on_as_the_first() -> None:
    """Its numbers, and the children that SciPy takes for each new sequence."""
    first = np.random.Generator(np.random.PCG64([1, 2]))
    first.random(3)
    first.spawn(2)
    second = copied(first)
    assert np.array_equal(first.random(5), second.random(5))
    assert np.array_equal(first.spawn(1)[0].random(5), second.spawn(1)[0].random(5))


def test_particles_are_freed_with_their_run():
    """Without the collector of cycles, which does not see how large arrays are."""
    program = tpc.compile(
        "ket |u> ~ N(0, 1)\nmatrix W ~ N(0, 1)\nket |v> ~ N(0, 1)\n"
        "train steps = 2 {\n    f = <v|tanh(W tanh(|u>))>\n    minimize (f - 1)^2\n    update all with Adam(lr = 0.1)\n}\n"
        "output f[step]\n"
    )
    gc.disable()
    try:
        run = Replication(SamplingPlan(program, {"f"}), 64, [(0, 0)], False)
        assert run.training is not None and np.isfinite(run.outputs_given(CltScalars())["f"]).all()
        kept = weakref.ref(run), weakref.ref(run.particles), weakref.ref(run.training)
        del run
        assert [one() for one in kept] == [None, None, None]
    finally:
        gc.enable()
