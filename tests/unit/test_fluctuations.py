"""The law at finite width, as users read it: records, forms, functions of outputs; laws are known in closed form."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest

import tp_compiler as tpc
from tests.unit.report.fabricate import estimate
from tp_compiler.fluctuations import width_within
from tp_compiler.pages import FORMATS, written
from tp_compiler.results import Fluctuations, Run

SIGMA = np.array([[4.0, 1.0], [1.0, 2.0]])
BIAS = np.array([1.0, -3.0])


def _moves(sigma: Any, bias: Any = None, error: float = 0.0) -> Fluctuations:
    sigma = np.asarray(sigma, dtype=float)
    b = None if bias is None else np.asarray(bias, dtype=float)
    return Fluctuations(sigma, np.full_like(sigma, error), b, None if b is None else np.full_like(b, error))


@pytest.fixture
def run() -> Run:
    outputs = {
        "f": estimate([0.5, -0.25], axes=("i",), method="exact", fluctuations=_moves(SIGMA, BIAS)),
        "loss": estimate(0.62841, 0.00012, fluctuations=_moves([[0.148]], [-0.7])),
        "one": estimate(1.0, method="exact", fluctuations=_moves([[0.0]], [0.0])),
        "kink": estimate(2.0, fluctuations=_moves([[1.0]])),
        "g": estimate(0.0, law="gaussian", covariance=np.array([[2.0]]), method="exact"),
        "lost": estimate(3.0),
    }
    crossed = {("f", "loss"): Fluctuations(np.array([[0.5], [0.25]]), np.zeros((2, 1)))}
    return Run("<text>", "limit", outputs, settings={"seed": 0, "width": 512, "replicates": 8}, crossed=crossed)


# -- what follows at a width ---------------------------------------------------------------------------------------
def test_the_law_at_a_width(run: Run) -> None:
    at = run.at_width(100)
    np.testing.assert_allclose(at["f"], [0.5 + 0.01, -0.25 - 0.03])
    covariance = at.outputs["f"].covariance
    assert covariance is not None
    np.testing.assert_allclose(covariance, SIGMA / 100)
    upper = at.outputs["f"].quantile(0.975)
    np.testing.assert_allclose(upper, at["f"] + 1.959964 * np.array([0.2, np.sqrt(0.02)]), rtol=1e-6)
    assert at.settings["width"] == 100 and run.settings["width"] == 512


def test_what_is_constant_random_or_unknown_at_a_width(run: Run) -> None:
    at = run.at_width(100)
    assert at["one"] == 1 and at.outputs["one"].law is None and at.outputs["one"].quantile(0.1) == 1
    assert at.outputs["g"].covariance is not None and at.outputs["g"].covariance[0, 0] == 2
    assert "bias" in at.outputs["kink"].note and at["kink"] == 2
    with pytest.raises(KeyError, match="spread of `lost` at finite width is not known"):
        at["lost"]


def test_a_law_at_a_width_is_a_result_as_any_other(run: Run, tmp_path: Path) -> None:
    at = run.at_width(64)
    for form in FORMATS:
        assert "loss" in written(at, form)
    at.save(tmp_path / "at.npz")
    assert tpc.load(tmp_path / "at.npz") == at


def test_the_law_at_a_width_says_so_and_has_no_other_width(run: Run, tmp_path: Path) -> None:
    """It does not know the limit that it was made of: its own mean is not that, and its bias is in it."""
    at = run.at_width(64)
    at.save(tmp_path / "at.npz")
    for law in (at, tpc.load(tmp_path / "at.npz")):
        for ask in (
            lambda law=law: law.at_width(128),
            lambda law=law: law.plot(width=128),
            lambda law=law: law.expected(lambda loss: loss, width=64),
            lambda law=law: law.width_for("loss"),
            lambda law=law: law.fluctuations("f"),
        ):
            with pytest.raises(
                ValueError, match=r"the law of networks of width 64, made by at_width\(64\); ask the limit"
            ):
                ask()
    for form in ("text", "html"):
        assert "networks of width n = 64 (Gaussian law)" in written(at, form)
        assert "limit n → ∞" in written(run, form) and "limit n → ∞" not in written(at, form)
    assert json.loads(written(at, "json"))["command"] == "at_width"


def test_quantiles_of_several_levels(run: Run) -> None:
    f = run.at_width(64).outputs["f"]
    several = f.quantile([0.1, 0.9])
    np.testing.assert_array_equal(several, np.stack([f.quantile(0.1), f.quantile(0.9)]))
    assert f.quantile(np.array([[0.1, 0.5, 0.9]])).shape == (1, 3, 2)
    for wrong in (1.5, [0.1, 1.0], "0.1", True):
        with pytest.raises(ValueError, match="between 0 and 1"):
            f.quantile(wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("ask", "error", "message"),
    [
        (lambda run: run.width_for("loss", "1%"), ValueError, "rtol is a fraction of the limit, such as 0.01 for 1%"),
        (lambda run: run.width_for("loss", share="95%"), ValueError, "a share of networks lies between 0 and 1"),
        (lambda run: run.expected(3, width=64), TypeError, r"run\.expected takes a function of outputs, and 3"),
        (lambda run: run.expected(lambda: 1, width=64), TypeError, r"run\.expected\(fn, 'f', width=512\)"),
        (lambda run: run.map(3), TypeError, r"run\.map takes a function of outputs, and 3"),
    ],
)
def test_arguments_that_are_none(run: Run, ask: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        ask(run)


@pytest.mark.parametrize("name", ["width", "seed", "replicates", "samples"])
def test_a_truth_value_is_no_number(name: str) -> None:
    with pytest.raises(tpc.ProgramError, match=r"NX432.*whole number; found True"):
        tpc.limit("ket |u> ~ N(0, 1)\noutput f = <u>", **{name: True})


@pytest.mark.parametrize("width", [0, -1, 2.5, "512", True])
def test_a_width_is_a_positive_number(run: Run, width: Any) -> None:
    with pytest.raises(ValueError, match="a width is a positive whole number"):
        run.at_width(width)


def test_without_a_width_nothing_is_computed() -> None:
    run = tpc.limit("ket |u> ~ N(0, 1)\noutput f = <u|u>")
    assert run.outputs["f"].fluctuations is None and run.crossed == {} and "width" not in run.settings
    with pytest.raises(ValueError, match=r"ask for them: limit\(program, width=512\)"):
        run.at_width(512)
    with pytest.raises(KeyError, match=r"limit\(program, width=512\)"):
        run.fluctuations("f")


def test_covariances_between_outputs(run: Run) -> None:
    there, back = (run.fluctuations(*pair).sigma for pair in (("f", "loss"), ("loss", "f")))
    assert there is not None and back is not None
    np.testing.assert_array_equal(there, back.T)
    assert run.fluctuations("f", "f").sigma is run.fluctuations("f").sigma is SIGMA
    with pytest.raises(KeyError, match="warnings of the run say why"):
        run.fluctuations("f", "one")
    with pytest.raises(KeyError, match="no output 'h'"):
        run.fluctuations("f", "h")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": 0}, "a width is a positive whole number; found 0"),
        ({"width": 512.5}, "a width is a positive whole number; found 512.5"),
        ({"width": 512, "checkpoint": "parts.npz"}, "width cannot be combined with checkpoint"),
        ({"width": 512, "shards": 2}, "width cannot be combined with shards"),
    ],
)
def test_options_that_do_not_go_with_a_width(options: dict[str, Any], message: str) -> None:
    with pytest.raises(tpc.ProgramError, match=f"NX432.*{message}"):
        tpc.limit("ket |u> ~ N(0, 1)\noutput f = <u>", **options)


def test_verifications_and_kernels_have_no_width_of_their_own() -> None:
    with pytest.raises(tpc.ProgramError, match=r"NX432.*a verification has no width of its own"):
        tpc.verify("ket |u> ~ N(0, 1)\noutput f = <u>", width=512)
    with pytest.raises(TypeError, match="fluctuations are those of one matrix"):
        tpc.kernel("axis i\ndata x[i]\nket |u> ~ N(0, 1)\noutput k[i,j] = <x[i] * u|x[j] * u>", "k", width=512)


# -- functions of outputs ------------------------------------------------------------------------------------------
def test_the_mean_of_a_quadratic_function_is_exact(run: Run) -> None:
    """E (a·f_n)² with f_n = f + b/n + N(0, Σ/n) is a'Σa/n + (a·(f + b/n))²."""
    a, n = np.array([2.0, -1.0]), 1000
    found = run.expected(lambda f: (a @ f) ** 2, width=n)
    f = np.array([0.5, -0.25])
    assert found.value == pytest.approx((a @ (f + BIAS / n)) ** 2 + a @ SIGMA @ a / n, rel=1e-12)
    assert found.stderr < 1e-12


def test_the_mean_of_a_function_of_two_outputs_has_their_covariance(run: Run) -> None:
    """E f[0] loss - f[0] E-limit loss: n times it is Cov + f b_loss + loss b_f."""
    found = run.expected(lambda f, loss: f[0] * loss, width=10**6)
    expected = 0.5 * 0.62841 + (0.5 + 0.5 * -0.7 + 0.62841 * 1.0) / 10**6
    assert found.value == pytest.approx(expected, rel=1e-11)


def test_errors_of_the_fluctuations_reach_their_functions(run: Run) -> None:
    unsure = _moves(SIGMA, BIAS, error=0.4)
    outputs = {"f": replace(run.outputs["f"], fluctuations=unsure)}
    found = replace(run, outputs=outputs).expected(lambda f: f[0] ** 2 + f[1], width=100)
    # Σ₀₀ is known to 10%: 0.1 · 4/100; b₀ and b₁ to 0.4: 2 · (0.5 + 1/100) · 0.4/100 and 0.4/100.
    assert found.stderr == pytest.approx(0.004 * np.sqrt(2 + (2 * 0.51) ** 2), rel=1e-6)
    with pytest.raises(ValueError, match="the bias of kink at finite width is not known"):
        run.expected(lambda kink: kink, width=10)


def test_expectations_agree_with_draws_of_the_law(run: Run) -> None:
    """A second road: draws from N(f + b/n, Σ/n)."""
    n = 400
    drawn = np.random.default_rng(0).multivariate_normal(np.array([0.5, -0.25]) + BIAS / n, SIGMA / n, 400_000)
    values = np.tanh(drawn[:, 0]) * np.exp(drawn[:, 1])
    found = run.expected(lambda f: np.tanh(f[0]) * np.exp(f[1]), width=n)
    assert abs(found.value - values.mean()) < 5 * (values.std() / np.sqrt(len(values)) + found.stderr)


def _gaussian(sigma: Any, bias: float = 0.0) -> Run:
    """A run of one exact output that is 0 in the limit."""
    sigma = np.asarray(sigma, dtype=float)
    moves = _moves(sigma, np.full(len(sigma), bias))
    outputs = {"f": estimate(np.zeros(len(sigma)), axes=("i",), method="exact", fluctuations=moves)}
    return Run("<text>", "limit", outputs, settings={"width": 64, "replicates": 8})


@pytest.mark.parametrize(
    ("function", "right"),
    [
        (lambda f: abs(f[0]), np.sqrt(2 / np.pi)),
        (lambda f: f.max(), 1 / np.sqrt(np.pi)),
        (lambda f: np.maximum(f[0], 0) + 3 * f[1], np.sqrt(0.5 / np.pi)),
        (lambda f: np.sqrt(f @ f), np.sqrt(np.pi / 2)),
        (lambda f: np.sign(f[0]) * f[1], 0.0),
    ],
)
def test_kinks_are_averaged_over_what_networks_do(function: Any, right: float) -> None:
    """√n times the mean of a function of degree 1 of two independent N(0, 1/n); the error says how far it is off."""
    for n in (64, 10**6):
        found = _gaussian(np.eye(2)).expected(function, "f", width=n)
        assert np.sqrt(n) * found.stderr < 0.01
        assert abs(np.sqrt(n) * found.value - right) < 5 * np.sqrt(n) * found.stderr + 1e-9


@pytest.mark.parametrize("count", [1, 12, 40, 300])
def test_kinks_of_many_entries(count: int) -> None:
    """E |f| over N(b/n, Σ/n) is a folded normal one, for each entry; of the sum of squares it is exact."""
    rng, n = np.random.default_rng(0), 50
    root = rng.standard_normal((count, count)) / np.sqrt(count)
    sigma, bias = root @ root.T, 2.0
    run = _gaussian(sigma, bias)
    found = run.expected(lambda f: np.abs(f).mean(), width=n)
    s, m = np.sqrt(np.diag(sigma) / n), bias / n
    law = NormalDist()
    folded = [a * np.sqrt(2 / np.pi) * np.exp(-((m / a) ** 2) / 2) + m * (1 - 2 * law.cdf(-m / a)) for a in s]
    assert abs(found.value - np.mean(folded)) < 5 * found.stderr and found.stderr < 0.02 * np.mean(folded)
    squares = run.expected(lambda f: f @ f, width=n)
    assert squares.value == pytest.approx(np.trace(sigma) / n + count * m**2, rel=1e-9 if count < 300 else 0.02)


def test_kinks_where_the_spread_is_of_second_order() -> None:
    """Of <u|v>² the spread of order n^(-1/2) is 0: smooth functions have their means, those with kinks there do not."""
    run = _gaussian([[0.0]], 1.0)
    assert run.expected(lambda f: np.exp(f[0]), width=100).value == pytest.approx(np.exp(0.01), rel=1e-12)
    assert run.expected(lambda f: abs(f[0] - 1), width=100).value == pytest.approx(0.99)
    with pytest.raises(ValueError, match="has a kink where f varies by 1/n alone"):
        run.expected(lambda f: abs(f[0]), width=100)


# -- how wide ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("bias", "deviation"), [(0.7, 0.0), (0.0, 0.4), (-0.7, 0.4), (0.0, 0.0), (1e4, 1e-3)])
def test_the_smallest_width_within_a_distance(bias: float, deviation: float) -> None:
    distance = 0.0062
    n = width_within(distance, bias, deviation)

    def reach(n: int) -> float:
        return abs(bias) / n + deviation / float(np.sqrt(n))

    assert reach(n) <= distance * (1 + 1e-9) and (n == 1 or reach(n - 1) > distance * (1 - 1e-9))


def test_how_wide_a_model_must_be(run: Run) -> None:
    """|b|/n ≤ 1% of 0.62841 from n = 0.7/0.0062841 on."""
    assert run.width_for("loss", rtol=0.01) == int(np.ceil(0.7 / 0.0062841))
    share = run.width_for("loss", rtol=0.01, share=0.95)
    reach = 0.7 / share + NormalDist().inv_cdf(0.975) * np.sqrt(0.148 / share)
    assert reach == pytest.approx(0.0062841, rel=1e-3)
    assert run.width_for("one") == 1


@pytest.mark.parametrize(
    ("name", "options", "why"),
    [
        ("kink", {}, "the bias of kink is not known"),
        ("loss", {"share": 1.5}, "between 0 and 1"),
        ("loss", {"rtol": 0.0}, "positive distance"),
    ],
)
def test_a_width_that_is_not_known(run: Run, name: str, options: dict[str, float], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        run.width_for(name, **options)
    with pytest.raises(KeyError, match="were not computed"):
        run.width_for("g")


# -- spreads of second order ---------------------------------------------------------------------------------------
SECOND = """ket |u> ~ N(0, 1)
ket |v> ~ N(0, 1)
ket |w> ~ N(0, 1)
output L = 1 + <u|v>^2
output odd = <u|v> * <v|w>
"""


@pytest.fixture(scope="module")
def second() -> Run:
    """L is 1 + z²/n: a law that is not Gaussian, with Σ = 0 and b = 1. The other one has no bias either."""
    return tpc.limit(SECOND, width=64)


def test_a_spread_of_second_order_is_not_none(second: Run, tmp_path: Path) -> None:
    text = str(second)
    for name in ("L", "odd"):
        (line,) = (line for line in text.splitlines() if line.startswith(f"{name} = "))
        assert "± ?" in line and "with a spread of second order (Σ = 0), which is not known" in line
    at = second.at_width(64)
    assert abs(at["L"] - (1 + 1 / 64)) < 0.01 and at.outputs["L"].law == "second-order"
    assert "second-order" in str(at) and json.loads(written(at, "json"))["outputs"]["L"]["law"] == "second-order"
    for name in ("L", "odd"):
        with pytest.raises(ValueError, match="there are no quantiles: its spread is of second order"):
            at.outputs[name].quantile(0.95)
    at.save(tmp_path / "at.npz")
    assert tpc.load(tmp_path / "at.npz") == at


def test_the_share_of_networks_is_not_known_where_the_spread_is_of_second_order(second: Run) -> None:
    """The mean of 1 + z²/n is within 1% from n = 100 on, 95% of networks from n = 384 on."""
    assert 60 < second.width_for("L", 0.01) < 140
    with pytest.raises(
        ValueError, match="share of networks that are within is not known for L: its spread is of second"
    ):
        second.width_for("L", 0.01, share=0.95)
    line = written(second, "within", 0.01).splitlines()[1]
    assert "on average, the share of networks" in line


def test_entries_of_first_order_keep_their_law(run: Run) -> None:
    """Of two entries one is of second order; a small one does not hide how wide the other must be."""
    moves = _moves([[4.0, 0.0], [0.0, 0.0]], [1.0, 0.001])
    mixed = replace(run, outputs={"f": estimate([1.0, 2.0], axes=("i",), method="exact", fluctuations=moves)})
    at = mixed.at_width(100).outputs["f"]
    upper = at.quantile(0.975)
    assert upper[0] == pytest.approx(1.01 + 0.392, rel=1e-3) and np.isnan(upper[1])
    assert at.law == "gaussian" and "±" in str(mixed) and "2 ± ?" in " ".join(str(mixed).split())
    assert mixed.width_for("f", 0.01, share=0.95) > 1000
    assert tpc.limit("ket |u> ~ N(0, 1)\noutput f = <sign(u)|sign(u)>", width=64).at_width(64).outputs["f"].law is None


# -- forms ---------------------------------------------------------------------------------------------------------
def test_text_has_numbers_at_the_width(run: Run) -> None:
    lines = str(run).splitlines()
    assert "loss = 0.62841(12), at n = 512: 0.627 ± 0.017   [qmc]" in lines
    assert "one = 1, at n = 512 the same in every network   [exact]" in lines
    assert "kink = 2, at n = 512, without its bias, which is not known: 2.000 ± 0.044   [qmc]" in lines
    assert "lost = 3   [qmc]" in lines
    table = lines[lines.index("  at n = 512") :][1:4]
    assert [line.split() for line in table] == [["i"], ["1", "0.502", "±", "0.088"], ["2", "-0.256", "±", "0.062"]]


@pytest.mark.parametrize(
    ("form", "sign"), [("html", "0.627 ± 0.017"), ("latex", r"0.627 \pm 0.017"), ("notebook", r"\pm")]
)
def test_other_pages_have_them_too(run: Run, form: str, sign: str) -> None:
    assert sign in written(run, form)


def test_small_numbers_share_their_power_of_ten(run: Run) -> None:
    small = estimate(3.25e-7, method="exact", fluctuations=_moves([[1e-16]], [0.0]))
    text = str(replace(run, outputs={"f": small}, settings={"width": 100}))
    assert "at n = 100: (3.250 ± 0.010)e-07" in text


def test_json_has_every_part(run: Run) -> None:
    document = json.loads(written(run, "json"))
    assert document["width"] == 512
    found = {name: output["fluctuations"] for name, output in document["outputs"].items()}
    assert found["f"]["sigma"] == SIGMA.tolist() and found["f"]["bias"] == BIAS.tolist()
    assert found["kink"]["bias"] is None and found["kink"]["sigma"] == [[1.0]]
    assert found["lost"] is None and found["g"] is None


@pytest.mark.parametrize("ending", [".npz", ".nc"])
def test_files_keep_every_part(run: Run, tmp_path: Path, ending: str) -> None:
    if ending == ".nc":
        pytest.importorskip("xarray")
    path = tmp_path / f"run{ending}"
    run.save(path)
    again = tpc.load(path)
    assert again == run
    moves = again.fluctuations("loss", "f")
    assert moves.sigma is not None and moves.sigma.shape == (1, 2)
    assert again.outputs["kink"].fluctuations is not None and again.outputs["kink"].fluctuations.bias is None
    assert again.at_width(10) == run.at_width(10)


def test_tables_of_other_libraries_have_every_part(run: Run) -> None:
    pytest.importorskip("pandas")
    pytest.importorskip("xarray")
    data, frame = run.to_xarray(), run.to_dataframe()
    np.testing.assert_array_equal(data["f_sigma"], SIGMA)
    assert data["f_sigma"].dims == ("i", "i_other") and data["f_bias"].dims == ("i",)
    assert float(data["loss_bias"]) == -0.7 and "lost_sigma" not in data
    rows = frame[(frame["output"] == "f") & (frame["quantity"] == "sigma")]
    np.testing.assert_array_equal(rows["value"].to_numpy().reshape(2, 2), SIGMA)
    assert frame[(frame["quantity"] == "bias") & (frame["output"] == "f")]["value"].tolist() == BIAS.tolist()
    lines = [line.split(",") for line in written(run, "csv").splitlines()]
    assert {line[1] for line in lines[1:] if line[0] == "f"} == {"value", "sigma", "bias"}


def test_widths_are_said_for_every_output(run: Run) -> None:
    lines = written(run, "within", 0.01).splitlines()
    assert lines[0] == "within 1% of the limit"
    assert any(line.startswith("  loss: from n = 112 on average, from n = ") for line in lines)
    assert "  kink: the bias of kink is not known" in lines


# -- pictures ------------------------------------------------------------------------------------------------------
@pytest.fixture
def picture() -> Iterator[Any]:
    pyplot = pytest.importorskip("matplotlib.pyplot")
    yield pyplot
    pyplot.close("all")


def test_pictures_leave_out_bands_of_second_order(second: Run, picture: Any) -> None:
    moves = _moves([[4.0, 0.0], [0.0, 0.0]], [1.0, 0.001])
    values = np.array([1.0, 2.0])
    shapes = {"f": (("i",), values), "g": (("step",), values), "h": (("i", "j"), values[None])}
    outputs = {n: estimate(v, axes=a, method="exact", fluctuations=moves) for n, (a, v) in shapes.items()}
    mixed = replace(second, outputs={**second.outputs, **outputs})
    assert mixed.plot(width=64).axes and mixed.at_width(64).plot().axes
    assert json.loads(written(mixed.at_width(64), "json"))["outputs"]["f"]["covariance"][1] == [None, None]


def test_the_band_is_the_law(run: Run, picture: Any) -> None:
    ladder = estimate(
        np.linspace(0, 1, 5), axes=("step",), fluctuations=_moves(np.diag([1.0, 2, 3, 4, 5]), np.arange(5.0))
    )
    drawn = replace(run, outputs={"f": ladder}).plot(width=100)
    (axes,) = [a for a in drawn.axes if a.collections]
    inner = axes.collections[1].get_paths()[0].vertices
    for k in range(5):
        middle, reach = k / 4 + k / 100, np.sqrt((k + 1) / 100)
        at = sorted(inner[np.isclose(inner[:, 0], k)][:, 1])
        assert at[0] == pytest.approx(middle - reach) and at[-1] == pytest.approx(middle + reach)
    assert "networks of width 100" in " ".join(t.get_text() for t in drawn.texts)


def test_networks_of_the_width_are_dots(run: Run, picture: Any) -> None:
    text = "axis i : 3\ndata x[i] = [1, 2, 3]\nket |u> ~ N(0, 1)\noutput f[i] = <(x[i] * u)^2>\noutput g = <u|u>"
    networks = tpc.simulate(text, 16, seeds=6)
    outputs = {
        "f": estimate([1.0, 4, 9], axes=("i",), fluctuations=_moves(np.eye(3), np.zeros(3))),
        "g": estimate(1.0, fluctuations=_moves([[2.0]], [0.0])),
    }
    limit = Run("<text>", "limit", outputs, settings={"width": 16})
    drawn = limit.plot(width=16, networks=[networks])
    dots = [line for axes in drawn.axes for line in axes.get_lines() if line.get_marker() == "."]
    ordinates = np.concatenate([np.asarray(line.get_ydata(), dtype=float) for line in dots])
    assert set(np.round(networks.replicates["f"].ravel(), 9)) <= set(np.round(ordinates, 9))
    assert not [
        line for axes in limit.plot(networks=[networks]).axes for line in axes.get_lines() if line.get_marker() == "."
    ]


def test_a_band_needs_fluctuations(picture: Any) -> None:
    with pytest.raises(ValueError, match="were not computed"):
        tpc.limit("ket |u> ~ N(0, 1)\noutput f = <u|u>").plot(width=64)
