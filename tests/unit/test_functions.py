"""Functions of outputs: their values and standard errors, against formulas and against runs with other seeds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tp_compiler as tpc
from tp_compiler.functions import MOST_DIFFERENCES, Known, value_and_error
from tp_compiler.replicates import Replicates, mean_and_error
from tp_compiler.results import Estimate, Run

PROGRAM = """
axis i : 3
data xi[i] = [0.3, 1.2, -0.7]
ket |u> ~ N(0, 1)
ket |v> ~ N(0, 1)
matrix W ~ N(0, 2)
|h[i]> = W tanh(xi[i] * |u>)
output a = <tanh(h[2])|tanh(h[2])>
output b = <tanh(1.05 * h[2])|tanh(1.1 * h[2])>
output k[i] = <tanh(h[i])|sin(h[1])>
output r = clt <v|tanh(h[1])>
output one = <u|u>
"""
#: Each with the error that independent outputs would have, over the right one, at least: correlations matter.
FUNCTIONS: dict[str, tuple[Any, float]] = {
    "difference": (lambda a, b: a - b, 3.0),
    "ratio": (lambda a, b: a / b, 3.0),
    "sum": (lambda a, b: a + b, 0.5),
    "of entries": (lambda k: k[1] / k[2], 0.0),
    "with an exact one": (lambda a, one: np.log(a) * one, 0.0),
    "an array": (lambda k, a: np.exp(k) - a, 0.0),
}


@pytest.fixture(scope="module")
def runs() -> dict[str, list[Run]]:
    seeds, program = range(12), tpc.compile(PROGRAM)
    options: dict[str, Any] = {"samples": 32, "only": ["a", "b", "k", "one"]}
    return {
        "qmc": [tpc.limit(program, seed=s, method="qmc", **options) for s in seeds],
        "mc": [tpc.limit(program, seed=s, method="mc", **options) for s in seeds],
        "simulate": [tpc.simulate(program, 32, seeds=8, seed=s) for s in seeds],
    }


@pytest.mark.parametrize("road", ["qmc", "mc", "simulate"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_error_is_the_spread_over_seeds(runs: dict[str, list[Run]], road: str, name: str) -> None:
    """With 12 seeds the spread is known to 21%, the mean square of the errors (7 degrees of freedom each) to 15%."""
    function, gain = FUNCTIONS[name]
    found = [run.map(function) for run in runs[road]]
    spread = np.std([e.value for e in found], axis=0, ddof=1)
    claimed = np.sqrt(np.mean([e.stderr**2 for e in found], axis=0))
    most = 2.0 if road == "simulate" else 4.0  # limits add the bias that they cannot tell from noise
    assert np.all(claimed > 0.6 * spread) and np.all(claimed < most * spread)
    apart = np.sqrt(np.mean([r.outputs["a"].stderr ** 2 + r.outputs["b"].stderr ** 2 for r in runs[road]]))
    assert apart > gain * claimed.max() or gain < 1


def test_sampled_values_agree_with_exact_ones(runs: dict[str, list[Run]]) -> None:
    exact = tpc.limit(PROGRAM, only=["a", "b", "k", "one"])
    assert {o.method for o in exact.outputs.values()} <= {"exact", "closed-form", "quadrature"}
    for function, _ in FUNCTIONS.values():
        wanted = exact.map(function)
        assert np.max(wanted.stderr) < 1e-9
        found = [run.map(function) for run in runs["qmc"]]
        mean = np.mean([e.value for e in found], axis=0)
        error = np.std([e.value for e in found], axis=0, ddof=1) / np.sqrt(len(found))
        assert np.all(np.abs(mean - wanted.value) < 5 * error)


def test_replicates(runs: dict[str, list[Run]]) -> None:
    run = runs["qmc"][0]
    assert run.replicates["k"].shape == (8, 3)
    np.testing.assert_allclose(run.replicates["k"].mean(axis=0), run["k"], rtol=1e-14)
    exact = tpc.limit(PROGRAM)
    assert exact.replicates["k"].shape == (8, 3) and np.ptp(exact.replicates["one"]) == 0
    assert list(exact.replicates) == ["a", "b", "k", "one"]
    networks = runs["simulate"][0]
    assert networks.replicates["r"].shape == (8,)  # one value of a random output for each network
    single = tpc.simulate(PROGRAM, 32, seeds=1)
    np.testing.assert_allclose(networks.replicates["k"][0], single["k"])


def test_sampled_and_exact_outputs_together() -> None:
    kets = "\n".join(f"ket |u{k}> ~ N(0, 1)" for k in range(5))
    mixed = "output s = <tanh(u0*u1 + sin(u2*u3)*u4)^2>\noutput e = <u0|u0> / 3\n"
    run = tpc.limit(f"{kets}\n{mixed}", samples=256)
    assert [o.method for o in run.outputs.values()] == ["qmc", "exact"]
    found = run.map(lambda s, e: s / e)
    assert found.method == "qmc + exact" and found.value == pytest.approx(3 * run["s"], rel=1e-12)
    assert found.stderr == pytest.approx(3 * run.outputs["s"].stderr, rel=1e-6)


# -- against formulas ----------------------------------------------------------------------------------------------------
def known(value: Any, stderr: Any = 0.0, replicates: Replicates | None = None) -> Known:
    value = np.asarray(value, dtype=float)
    return Known(value, np.broadcast_to(np.asarray(stderr, dtype=float), value.shape), replicates)


def sampled(*levels: np.ndarray, sizes: tuple[float, ...] = (1.0,), halves: np.ndarray | None = None) -> Known:
    from tp_compiler.replicates import mean_and_error

    value, error = mean_and_error(levels, sizes, halves)
    return known(value, error, Replicates(levels, sizes, halves))


def test_the_jackknife_of_a_square() -> None:
    """Its value is mean² - s²/R, without bias; that of a linear function is the mean."""
    x = np.random.default_rng(0).normal(3, 1, 8)
    value, error = value_and_error(lambda x: x**2, [sampled(x)])
    assert value == pytest.approx(x.mean() ** 2 - x.var(ddof=1) / 8)
    assert error == pytest.approx(2 * x.mean() * x.std(ddof=1) / 8**0.5, rel=0.1)
    value, error = value_and_error(lambda x: 2 * x - 1, [sampled(x)])
    assert value == pytest.approx(2 * x.mean() - 1) and error == pytest.approx(2 * x.std(ddof=1) / 8**0.5)


def test_what_is_the_same_cancels() -> None:
    x = np.random.default_rng(1).normal(3, 1, (8, 4))
    pair = [sampled(x), sampled(2 * x)]
    value, error = value_and_error(lambda x, y: y / x, pair)
    np.testing.assert_allclose(value, 2)
    assert np.max(error) < 1e-12


@pytest.mark.parametrize("halved", [False, True])
def test_the_bias_of_a_function_is_that_of_its_levels(halved: bool) -> None:
    """x has the bias 1/M, y has none: exp(x y) at M is exp(x y) + y exp(x y)/M."""
    rng, noise = np.random.default_rng(2), 1e-6
    sizes = (16.0, 32.0, 64.0)
    x = tuple(1 + 1 / m + rng.normal(0, noise, 8) for m in sizes)
    y = tuple(0.5 + rng.normal(0, noise, 8) for m in sizes)
    halves = (x[1][:4], y[1][:4]) if halved else (None, None)
    arguments = [sampled(*x, sizes=sizes, halves=halves[0]), sampled(*y, sizes=sizes, halves=halves[1])]
    value, error = value_and_error(lambda x, y: np.exp(x * y), arguments)
    assert abs(value - np.exp(0.5)) < 3 * error and error < 2e-3
    plain = float(np.mean(np.exp(x[-1] * y[-1])))
    assert plain - np.exp(0.5) > 5 * abs(value - np.exp(0.5))


def test_outputs_with_other_levels_share_what_they_can() -> None:
    """What an output's own levels show beyond the shared ones is added as a bound."""
    rng = np.random.default_rng(3)
    x = tuple(1 + 4 / m + rng.normal(0, 1e-3, 8) for m in (16.0, 32.0))
    y = 2 + rng.normal(0, 1e-3, 8)
    arguments = [sampled(*x, sizes=(16.0, 32.0)), sampled(y)]
    value, error = value_and_error(lambda x, y: x + y, arguments)
    assert value == pytest.approx(arguments[0].value + arguments[1].value)
    assert error >= arguments[0].stderr * 0.99


def test_exact_values_by_differences() -> None:
    errors = np.array([1e-9, 2e-12, 0.0])
    k = known([3.0, -2.0, 0.5], errors)
    value, error = value_and_error(lambda k: (k**2).sum(), [k])
    assert value == 13.25 and error == pytest.approx(6e-9 + 8e-12, rel=1e-5)
    value, error = value_and_error(lambda k: np.abs(k - 3), [k])  # a kink at the value
    assert error == pytest.approx(errors, rel=1e-5)
    assert value_and_error(lambda k: k + 1, [known([1.0, 2.0])])[1].tolist() == [0.0, 0.0]


@pytest.mark.parametrize("signs", ["alike", "alternating"])
def test_many_exact_entries_move_in_groups(signs: str) -> None:
    size = 40 * MOST_DIFFERENCES
    weights = np.ones(size) if signs == "alike" else (-1.0) ** np.arange(size)
    _, error = value_and_error(lambda k: k @ weights / size, [known(np.full(size, 2.0), 1e-10)])
    alone = 1e-10 / size**0.5  # of independent errors
    assert error == pytest.approx(1e-10, rel=1e-3) if signs == "alike" else 1.2 * alone < error < 1e-10
    elementwise = value_and_error(np.exp, [known(np.zeros(size), np.linspace(1e-10, 2e-10, size))])[1]
    assert np.all(elementwise >= np.linspace(1e-10, 2e-10, size) * 0.999) and elementwise.max() < 6e-10


def test_an_error_that_leaves_the_domain_is_infinite() -> None:
    value, error = value_and_error(lambda x: np.where(x == 1, 0.0, np.nan), [known(1.0, 1e-12)])
    assert value == 0 and error == np.inf


def test_arguments_are_not_changed_by_the_function() -> None:
    k = known([1.0, 2.0], 1e-10)

    def spoil(k: np.ndarray) -> float:
        k *= 0
        return float(k.sum())

    value_and_error(spoil, [k])
    assert k.value.tolist() == [1.0, 2.0]


# -- mistakes ----------------------------------------------------------------------------------------------------------------
def test_mistakes(runs: dict[str, list[Run]]) -> None:
    run = runs["simulate"][0]
    with pytest.raises(KeyError, match="did you mean `one`"):
        run.map(lambda onee: onee)
    with pytest.raises(KeyError, match="the outputs are a, b, k, r, one"):
        run["nothing_like_it"]
    with pytest.raises(ValueError, match=r"r is random.*output q = r\^2"):
        run.map(lambda r: r**2)
    with pytest.raises(TypeError, match="returns a number or an array of numbers, not dict"):
        run.map(lambda a: {"a": a})
    with pytest.raises(TypeError, match="takes no output by name"):
        run.map(lambda *outputs: 0)
    with pytest.raises(ValueError, match="use more seeds"):
        tpc.simulate(PROGRAM, 16, seeds=1).map(lambda a: a)
    with pytest.raises(KeyError, match="r is random"):
        tpc.limit(PROGRAM).replicates["r"]


def test_outputs_by_name_and_the_faces_of_the_result(runs: dict[str, list[Run]]) -> None:
    run = runs["qmc"][0]
    found = run.map(np.divide, "a", "b")
    assert isinstance(found, Estimate) and found.value == run.map(lambda a, b: a / b).value
    assert found.method == "qmc" and found.note == "a function of a, b"
    assert str(found).startswith("0.9") and "Estimate 0.9" in repr(found)
    table = run.map(lambda k: np.outer(k, k))
    assert (
        "3 × 3" in str(table) and "<table>" in (table._repr_html_() or "") and "pmatrix" in (table._repr_latex_() or "")
    )
    assert found._repr_latex_() == f"$$\\begin{{gathered}}x = {str(found).split()[0]}\\end{{gathered}}$$"


@pytest.mark.parametrize("exponent", [-600, 600])
def test_scales_whose_squares_overflow_or_underflow(exponent: int) -> None:
    rng = np.random.default_rng(0)
    levels = [rng.standard_normal((8, 3)) for _ in range(4)]
    halves, sizes, scale = rng.standard_normal((4, 3)), [128.0, 256.0, 512.0, 1024.0], np.ldexp(1.0, exponent)
    plain = mean_and_error(levels, sizes, halves)
    scaled = mean_and_error([x * scale for x in levels], sizes, halves * scale)
    np.testing.assert_array_equal(scaled, np.asarray(plain) * scale)
